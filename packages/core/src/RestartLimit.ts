/**
 * How often a gateway is believed that it has restarted: anybody in the network can say so in its name, with one
 * datagram, and every mapping is looked at because of it. What is said too soon is not forgotten, it is acted upon
 * later, once for all that was said until then.
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
 *   yield* limit("192.168.1.1", renewAll)
 *   // Five seconds later, once for both.
 *   yield* limit("192.168.1.1", renewAll)
 *   yield* limit("192.168.1.1", renewAll)
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
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
  at: number
  times: number
  /** One restart is still to be acted upon. */
  isWaiting: boolean
}

/**
 * Does something now, or as soon as the limit of the device allows it, and does not wait for that: a pause of 5 seconds
 * after the first time, doubled with each further one up to 5 minutes, until nothing was said for 10 minutes.
 *
 * @category models
 * @since 0.1.0
 */
export type RestartLimit = (device: string, act: Effect.Effect<void>) => Effect.Effect<void>

const pauseAfter = ({ times }: Past): number =>
  Math.min(Duration.toMillis(firstPause) * 2 ** (times - 1), Duration.toMillis(longestPause))

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
    devices.set(device, { at, times: isCalm ? 1 : before.times + 1, isWaiting: false })
  }

  const actNow = (device: string, act: Effect.Effect<void>) =>
    Effect.flatMap(Monotonic.millis, (now) => {
      count(device, now)
      return act
    })

  return Effect.fnUntraced(function* (device, act) {
    const past = devices.get(device)
    if (past?.isWaiting === true) return
    const wait = past === undefined ? 0 : past.at + pauseAfter(past) - (yield* Monotonic.millis)
    if (past === undefined || wait <= 0) return yield* actNow(device, act)
    const later = Effect.andThen(Effect.sleep(wait), actNow(device, act))
    yield* Effect.uninterruptible(
      Effect.suspend(() => {
        past.isWaiting = true
        return Effect.forkIn(Effect.interruptible(later), scope)
      })
    )
  })
})
