/**
 * The end of many mappings on one gateway, as a program's end is: they are deleted a few at a time, each has its time
 * from when its turn comes, and a gateway that has fallen silent is not waited for once for each of them.
 */
import * as NatError from "@effect-nat/core/NatError"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
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

/** So long a gateway that was silent is taken to be so still: many mappings end together. */
const memory = Duration.seconds(5)

const hasNoAnswer = (exit: Exit.Exit<void, NatError.NatError>): boolean =>
  Exit.isFailure(exit) &&
  exit.cause.reasons.some((reason) => !Cause.isFailReason(reason) || reason.error.reason._tag === "TimedOut")

const stillSilent = NatError.fromReason(
  new NatError.TimedOut({ detail: "nor did the gateway answer the deletions before this one" })
)

/** So many of a gateway's mappings are deleted side by side. */
export const make = Effect.fnUntraced(function* (places: number): Effect.fn.Return<Releases> {
  const turns = yield* Semaphore.make(places)
  /** In milliseconds of `Clock`. */
  let silentAt = Number.NEGATIVE_INFINITY
  /** Deletions in a row that were given up. */
  let unanswered = 0

  const note = (exit: Exit.Exit<void, NatError.NatError>, now: number) => {
    if (!hasNoAnswer(exit)) {
      unanswered = 0
      return
    }
    unanswered += 1
    silentAt = now
  }

  const unlessSilent = Effect.fnUntraced(function* (deletion: Effect.Effect<void, NatError.NatError>) {
    const beganAt = yield* Clock.currentTimeMillis
    if (beganAt - silentAt >= Duration.toMillis(memory)) unanswered = 0
    if (unanswered >= patience * places) return yield* stillSilent
    yield* Effect.onExit(deletion, (exit) => Effect.map(Clock.currentTimeMillis, (now) => note(exit, now)))
  })

  return { inTurn: (whenItComes, deletion) => turns.withPermit(Effect.andThen(whenItComes, unlessSilent(deletion))) }
})
