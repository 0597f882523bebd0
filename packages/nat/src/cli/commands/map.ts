/**
 * `effect-nat map`: holds mappings until it is told to stop.
 */
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Flags from "../Flags.ts"
import * as Hold from "../Hold.ts"
import * as Strategy from "../Strategy.ts"

/** What the command was called with. */
export interface Input extends Strategy.Choice {
  readonly specs: ReadonlyArray<Flags.MappingSpec>
  readonly family: MappingRequest.Family
  readonly lease: Duration.Duration
  readonly description: string
  readonly json: boolean
}

/** Maps every port or none, then reports changes until it is interrupted. */
export const run = Effect.fnUntraced(
  function* (input: Input) {
    // A router may be slow to answer at the end: no mapping's release waits for another's.
    const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
    const families = Flags.families(input.family)
    const wanted = input.specs.flatMap((spec) => families.map((family) => ({ spec, family })))
    const held = yield* Effect.forEach(wanted, ({ family, spec }) =>
      Hold.acquire(input.json, { ...spec, family, lifetime: input.lease, description: input.description })
    ).pipe(Scope.provide(scope))
    yield* Effect.forEach(held, ({ mapping, printed }) => Hold.watch(input.json, mapping, printed), {
      concurrency: "unbounded",
      discard: true
    })
  },
  Effect.scoped,
  (effect, input) => Effect.provide(effect, Strategy.layer(input))
)
