/**
 * How often a gateway is believed that it has restarted: anybody in the network can say so in its name, with one
 * datagram, and every mapping is looked at because of it. What is said too soon is not forgotten, it is acted upon
 * later, once for all that was said until then. What has proved to be true makes nothing later: a gateway that restarts
 * often, or whose line does, is believed at once again.
 *
 * **When to use**
 *
 * In a protocol that hears announcements, between what it hears and the `whenChanged` of its leases.
 *
 * **Example** (Look at the mappings of a gateway, whatever is announced)
 *
 * ```ts
 * import * as RestartLimit from "@effect-nat/core/RestartLimit"
 * import * as Effect from "effect/Effect"
 *
 * export const program = Effect.gen(function* () {
 *   const limit = yield* RestartLimit.make
 *   const renewAll = Effect.log("all mappings are renewed")
 *   yield* limit.act("192.168.1.1", renewAll)
 *   // Five seconds later, once for both.
 *   yield* limit.act("192.168.1.1", renewAll)
 *   yield* limit.act("192.168.1.1", renewAll)
 *   // The gateway was asked, and has restarted: the next time is the second one again.
 *   yield* limit.confirm("192.168.1.1")
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Monotonic from "./Monotonic.ts"

/** Between the first two; doubled with each further one. */
const firstPause = Duration.seconds(5)

/** No longer than a gateway that says nothing is left alone. */
const longestPause = Duration.minutes(5)

/** After so long without a restart the pauses begin anew. */
const calm = Duration.minutes(10)

interface Past {
  /** In milliseconds of the monotonic clock. */
  readonly at: number
  times: number
  /** One restart is still to be acted upon. */
  isWaiting: boolean
  /** Done when the last one has proved to be true. */
  readonly confirmed: Deferred.Deferred<void>
}

/**
 * Whom to believe how often.
 *
 * @category models
 * @since 0.1.0
 */
export interface RestartLimit {
  /**
   * Does something now, or as soon as the limit of the device allows it, and does not wait for that: a pause of 5 seconds
   * after the first time, doubled with each further one up to 5 minutes, until nothing was said for 10 minutes.
   */
  readonly act: (device: string, effect: Effect.Effect<void>) => Effect.Effect<void>
  /**
   * What was last acted upon for the device has proved to be true, by something that not anybody could have said: the
   * pauses begin anew.
   */
  readonly confirm: (device: string) => Effect.Effect<void>
  /** Whether the pauses have begun to grow, so that what was acted upon last is worth being confirmed. */
  readonly isGrowing: (device: string) => boolean
}

const allowedAt = ({ at, times }: Past): number =>
  at + Math.min(Duration.toMillis(firstPause) * 2 ** (times - 1), Duration.toMillis(longestPause))

const untilAllowed = (past: Past) =>
  Effect.flatMap(Monotonic.millis, (now) => Effect.sleep(Math.max(0, allowedAt(past) - now)))

/**
 * A limit for any number of devices. What waits is dropped when the scope closes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<RestartLimit, never, Scope.Scope> = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const devices = new Map<string, Past>()

  const count = (device: string, at: number) => {
    const before = devices.get(device)
    const isCalm = before === undefined || at - before.at >= Duration.toMillis(calm)
    const times = isCalm ? 1 : before.times + 1
    devices.set(device, { at, times, isWaiting: false, confirmed: Deferred.makeUnsafe() })
  }

  const actNow = (device: string, effect: Effect.Effect<void>) =>
    Effect.flatMap(Monotonic.millis, (now) => {
      count(device, now)
      return effect
    })

  return {
    act: Effect.fnUntraced(function* (device, effect) {
      const past = devices.get(device)
      if (past?.isWaiting === true) return
      if (past === undefined || allowedAt(past) <= (yield* Monotonic.millis)) return yield* actNow(device, effect)
      const sooner = Effect.andThen(Deferred.await(past.confirmed), untilAllowed(past))
      const wait = Effect.raceFirst(untilAllowed(past), sooner)
      const later = Effect.andThen(wait, actNow(device, effect))
      // Interrupted between the two it would leave one that waits for ever.
      yield* Effect.uninterruptible(
        Effect.suspend(() => {
          if (past.isWaiting) return Effect.void
          past.isWaiting = true
          return Effect.forkIn(Effect.interruptible(later), scope)
        })
      )
    }),
    confirm: (device) =>
      Effect.suspend(() => {
        const past = devices.get(device)
        if (past === undefined) return Effect.void
        past.times = 1
        return Effect.asVoid(Deferred.succeed(past.confirmed, undefined))
      }),
    isGrowing: (device) => (devices.get(device)?.times ?? 0) > 1
  }
})
