/**
 * How often a gateway is waited for that has fallen silent: many mappings end together, and the end of a program must
 * not wait for such a gateway once for each of them.
 *
 * **When to use**
 *
 * In a protocol, around each deletion of a lease that is released.
 *
 * **Details**
 *
 * After some deletions in a row that the gateway has not answered, others fail at once with `TimedOut`, until five
 * seconds have passed since the last of those. Any answer, also a refusal, counts as one.
 *
 * **Example** (Do not wait long for a gateway that is gone)
 *
 * ```ts
 * import * as NatError from "@effect-nat/core/NatError"
 * import * as SilenceLimit from "@effect-nat/core/SilenceLimit"
 * import * as Effect from "effect/Effect"
 *
 * const deletion = Effect.delay(NatError.fromReason(new NatError.TimedOut({ detail: "no answer" })), "5 seconds")
 *
 * export const program = Effect.gen(function* () {
 *   const unlessSilent = yield* SilenceLimit.make(2)
 *   yield* Effect.ignore(unlessSilent(deletion))
 *   yield* Effect.ignore(unlessSilent(deletion))
 *   // At once.
 *   yield* Effect.ignore(unlessSilent(deletion))
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Monotonic from "./Monotonic.ts"
import * as NatError from "./NatError.ts"

/** So long a gateway that was silent is taken to be so still. */
const memory = Duration.seconds(5)

const stillSilent = NatError.fromReason(
  new NatError.TimedOut({ detail: "nor did the gateway answer the deletions before this one" })
)

/** What was interrupted had no answer either: its time was over. */
const hasNoAnswer = (exit: Exit.Exit<void, NatError.NatError>): boolean =>
  Exit.isFailure(exit) &&
  exit.cause.reasons.some((reason) => !Cause.isFailReason(reason) || reason.error.reason._tag === "TimedOut")

/**
 * Deletes, or fails at once where the gateway has just left others of its deletions unanswered.
 *
 * @category models
 * @since 0.1.0
 */
export type SilenceLimit = (deletion: Effect.Effect<void, NatError.NatError>) => Effect.Effect<void, NatError.NatError>

/**
 * For one gateway, of which `patience` deletions in a row may stay unanswered: some lost answers are no dead gateway.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (patience: number): Effect.Effect<SilenceLimit> =>
  Effect.sync(() => {
    /** In milliseconds of the monotonic clock. */
    let silentAt = Number.NEGATIVE_INFINITY
    /** Deletions in a row that were given up. */
    let unanswered = 0

    const note = (exit: Exit.Exit<void, NatError.NatError>) =>
      Effect.map(Monotonic.millis, (now) => {
        unanswered = hasNoAnswer(exit) ? unanswered + 1 : 0
        if (unanswered > 0) silentAt = now
      })

    return Effect.fnUntraced(function* (deletion) {
      const beganAt = yield* Monotonic.millis
      if (beganAt - silentAt >= Duration.toMillis(memory)) unanswered = 0
      if (unanswered >= patience) return yield* stillSilent
      yield* Effect.onExit(deletion, note)
    })
  })
