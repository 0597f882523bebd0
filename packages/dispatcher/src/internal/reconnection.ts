/**
 * How a broken connection is made again: with pauses that grow from attempt to attempt, and over connections that do not
 * last, until the time for it is used up.
 */
import * as Monotonic from "@effect-nat/core/Monotonic"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as CloseReason from "../CloseReason.ts"
import * as SessionError from "../SessionError.ts"

export interface Reconnection {
  /** The connection is live: once it has been so for some time it has lasted. */
  readonly wentLive: Effect.Effect<void>
  /** Tries until it works, the session is known to be over, or the time is up: then with what was wrong last. */
  readonly again: <A, R>(
    connect: Effect.Effect<A, SessionError.SessionError, R>,
    broken: SessionError.SessionError
  ) => Effect.Effect<A, SessionError.SessionError, R>
}

/** In milliseconds: after a connection that was live for so long everything begins anew. */
const lasting = 10_000

/** In milliseconds. Nobody waits for long after a connection that has lasted. */
const longestFirstPause = 100
const secondPause = 200
const longestPause = 5000

/** At random: those who have lost their connections in one moment do not come back in one. */
const pauseBefore = (attempt: number): Effect.Effect<number> =>
  attempt === 0
    ? Random.nextBetween(0, longestFirstPause)
    : Effect.map(
        Random.nextBetween(0.5, 1.5),
        (share) => share * Math.min(longestPause, secondPause * 2 ** (attempt - 1))
      )

/** Refusals that are over when others have gone: this member's own broken connections may still count. */
const passing: ReadonlySet<CloseReason.CloseReason> = new Set([
  "HandshakeTimeout",
  "TooManyHandshakes",
  "TooManyConnections",
  "SessionFull",
  "ShuttingDown"
])

/** A dispatcher that ends may come back, and what was damaged on its way may come through the next time. */
const isWorthAnotherTry = ({ reason }: SessionError.SessionError): boolean => {
  switch (reason._tag) {
    case "Closed":
      return reason.reason === undefined || reason.reason === "ShuttingDown" || reason.reason === "BadChecksum"
    case "Refused":
      return passing.has(reason.reason)
    case "Unreachable":
    case "TimedOut":
    case "NotADispatcher":
    case "WrongCertificate":
    // A dispatcher that has just begun may not have its sessions yet.
    case "UnknownSession":
      return true
    default:
      return false
  }
}

/** For one member, with the time that all its attempts since the last connection that lasted may take together. */
export const make = (timeout: Duration.Duration): Reconnection => {
  const most = Duration.toMillis(timeout)
  let liveSince: number | undefined
  let attempts = 0
  let spent = 0

  const beginAt = (now: number) => {
    const hasLasted = liveSince !== undefined && now - liveSince >= lasting
    liveSince = undefined
    if (!hasLasted) return
    attempts = 0
    spent = 0
  }

  return {
    wentLive: Effect.map(Monotonic.millis, (now) => {
      liveSince = now
    }),
    again: Effect.fnUntraced(function* (connect, broken) {
      if (!isWorthAnotherTry(broken) || most === 0) return yield* broken
      const began = yield* Monotonic.millis
      beginAt(began)
      let last = broken
      const giveUp = Effect.suspend(() => {
        const { message } = last
        return Effect.fail(SessionError.fromReason(new SessionError.GivenUp({ milliseconds: most, detail: message })))
      })
      const connected = yield* Effect.suspend(() => pauseBefore(attempts++)).pipe(
        Effect.flatMap(Effect.sleep),
        Effect.andThen(connect),
        Effect.tapError((error) =>
          Effect.sync(() => {
            last = error
          })
        ),
        Effect.retry({ while: isWorthAnotherTry }),
        Effect.timeoutOrElse({ duration: Math.max(0, most - spent), orElse: () => giveUp })
      )
      spent += (yield* Monotonic.millis) - began
      return connected
    })
  }
}
