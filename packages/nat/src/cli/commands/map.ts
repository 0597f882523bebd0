/**
 * `effect-nat map`: holds mappings until it is told to stop.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Flags from "../Flags.ts"
import * as Hold from "../Hold.ts"
import * as Strategy from "../Strategy.ts"

/** What the command was called with. */
export interface Input extends Strategy.Choice {
  readonly specs: ReadonlyArray<Flags.MappingSpec>
  readonly lease: Duration.Duration
  readonly description: string
  readonly json: boolean
}

/** Maps every port or none, then reports changes until it is interrupted. */
export const run = (input: Input) =>
  Effect.forEach(input.specs, (spec) =>
    Hold.acquire(input.json, { ...spec, lifetime: input.lease, description: input.description })
  ).pipe(
    Effect.flatMap(
      Effect.forEach(({ mapping, printed }) => Hold.watch(input.json, mapping, printed), {
        concurrency: "unbounded",
        discard: true
      })
    ),
    Effect.scoped,
    Effect.provide(Strategy.layer(input))
  )
