/**
 * The end of many mappings on one gateway, as a program's end is: they are deleted a few at a time, each has its time
 * from when its turn comes, and a gateway that has fallen silent is not waited for once for each of them.
 */
import type * as NatError from "@effect-nat/core/NatError"
import * as SilenceLimit from "@effect-nat/core/SilenceLimit"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** The turns of one gateway's deletions. */
export interface Releases {
  /** Deletes when its turn comes, and says so first; fails at once where the gateway has just left others unanswered. */
  readonly inTurn: (
    whenItComes: Effect.Effect<unknown>,
    deletion: Effect.Effect<void, NatError.NatError>
  ) => Effect.Effect<void, NatError.NatError>
}

/** In rounds of deletions that are side by side: some lost answers are no dead gateway. */
const patience = 2

/** So many of a gateway's mappings are deleted side by side. */
export const make = Effect.fnUntraced(function* (places: number): Effect.fn.Return<Releases> {
  const turns = yield* Semaphore.make(places)
  const unlessSilent = yield* SilenceLimit.make(patience * places)
  return { inTurn: (whenItComes, deletion) => turns.withPermit(Effect.andThen(whenItComes, unlessSilent(deletion))) }
})
