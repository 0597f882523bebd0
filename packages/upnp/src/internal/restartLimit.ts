/**
 * How often a gateway is believed that it has restarted: anybody in the network can say so in its name, with one
 * datagram, and every mapping is looked at because of it. What is said too soon is not forgotten, it is acted upon later,
 * once for all that was said until then.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Between the first two; doubled with each further one. */
const firstPause = Duration.seconds(5)

/** No longer than a gateway that says nothing is left alone. */
const longestPause = Duration.minutes(5)

/** After so long without a restart the pauses begin anew. */
const calm = Duration.minutes(10)

interface Past {
  /** In milliseconds of `Clock`. */
  at: number
  times: number
  /** One restart is still to be acted upon. */
  isWaiting: boolean
}

/** Does something now, or as soon as the limit of the device allows it; does not wait for that. */
export type RestartLimit = (device: string, act: Effect.Effect<void>) => Effect.Effect<void>

const pauseAfter = ({ times }: Past): number =>
  Math.min(Duration.toMillis(firstPause) * 2 ** (times - 1), Duration.toMillis(longestPause))

/** What waits is dropped when the scope closes. */
export const make: Effect.Effect<RestartLimit, never, Scope.Scope> = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const devices = new Map<string, Past>()

  const count = (device: string, at: number) => {
    const before = devices.get(device)
    const isCalm = before === undefined || at - before.at >= Duration.toMillis(calm)
    devices.set(device, { at, times: isCalm ? 1 : before.times + 1, isWaiting: false })
  }

  const actNow = (device: string, act: Effect.Effect<void>) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      count(device, now)
      return act
    })

  return Effect.fnUntraced(function* (device, act) {
    const past = devices.get(device)
    if (past?.isWaiting === true) return
    const wait = past === undefined ? 0 : past.at + pauseAfter(past) - (yield* Clock.currentTimeMillis)
    if (past === undefined || wait <= 0) return yield* actNow(device, act)
    past.isWaiting = true
    yield* Effect.forkIn(Effect.andThen(Effect.sleep(wait), actNow(device, act)), scope)
  })
})
