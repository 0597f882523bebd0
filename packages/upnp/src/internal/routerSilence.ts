/**
 * The end of many mappings on a router that has fallen silent: it is not waited for once for each of them.
 */
import * as NatError from "@effect-nat/core/NatError"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as CurrentGateway from "./currentGateway.ts"

/** Deletions in a row that a router has not answered, and when the last of them was given up. */
interface Silence {
  readonly times: number
  /** In milliseconds of `Clock`. */
  readonly at: number
}

/** One lost answer is no dead router. */
const patience = 2

/** So long a router that was silent is taken to be so still: many mappings end together. */
const memory = Duration.seconds(5)

const silences = new WeakMap<CurrentGateway.Session, Silence>()

const isSilent = (cause: Cause.Cause<NatError.NatError>): boolean =>
  cause.reasons.some((reason) => !Cause.isFailReason(reason) || reason.error.reason._tag === "TimedOut")

/** Deletes, or fails at once where the router has just left others of its deletions without an answer. */
export const unlessSilent = Effect.fnUntraced(function* (
  session: CurrentGateway.Session,
  deletion: Effect.Effect<void, NatError.NatError>
): Effect.fn.Return<void, NatError.NatError> {
  const known = silences.get(session)
  const isRecent = known !== undefined && (yield* Clock.currentTimeMillis) - known.at < Duration.toMillis(memory)
  if (isRecent && known.times >= patience) {
    return yield* NatError.fromReason(
      new NatError.TimedOut({ detail: "nor did the router answer the deletions before this one" })
    )
  }
  const times = isRecent ? known.times + 1 : 1
  yield* Effect.onExit(deletion, (exit) =>
    Effect.map(Clock.currentTimeMillis, (at) =>
      Exit.isFailure(exit) && isSilent(exit.cause) ? silences.set(session, { times, at }) : silences.delete(session)
    )
  )
})
