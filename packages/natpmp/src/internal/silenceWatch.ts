/**
 * Gateways that say nothing by themselves. One that restarts without a word, or is gone, would be found out by the next
 * renewal only, which may be an hour away: one that has not been heard for five minutes is asked how old its epoch is,
 * which shows a restart, and where it is silent its mappings find out by a renewal.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Gateways from "./gateways.ts"
import * as Notices from "./notices.ts"
import type * as Recovery from "./recovery.ts"

export interface SilenceWatch {
  /** These gateways, on which something is mapped, and no others. */
  readonly watch: (gateways: ReadonlySet<string>) => Effect.Effect<void>
}

export interface Options {
  /** Something that is mapped there. */
  readonly heldOn: (gateway: string) => Recovery.Held | undefined
  /** One that was heard before is silent now; where that may be so of the question alone, with whose it was. */
  readonly isSilent: (gateway: string, asked?: Recovery.Held) => Effect.Effect<void>
}

/** A tenth more or less. */
const longestSilence = Duration.seconds(300)

/** Time for four transmissions. */
export const askTimeout = Duration.seconds(24)

/** In the protocol of what is mapped there. */
const ask = ({ nonce, way: { natPmp, pcp } }: Recovery.Held) =>
  nonce === undefined && natPmp !== undefined
    ? natPmp.externalAddress({ timeout: askTimeout })
    : pcp.announce({ timeout: askTimeout })

/** When it last answered, in seconds of the monotonic clock. */
const heardAt = Effect.fnUntraced(function* ({ way: { natPmp, pcp } }: Recovery.Held) {
  const states = yield* Effect.all(natPmp === undefined ? [pcp.tableState] : [pcp.tableState, natPmp.tableState])
  return Math.max(...states.map(({ answered }) => (answered === undefined ? 0 : Notices.secondsOf(answered))))
})

/** Watches until the scope closes. */
export const make = Effect.fnUntraced(function* ({
  heldOn,
  isSilent
}: Options): Effect.fn.Return<SilenceWatch, never, Scope.Scope> {
  const fibers = yield* FiberMap.make<string>()
  let watched: ReadonlySet<string> = new Set()

  /**
   * Some gateways may leave just this question unanswered: where nothing but that is known of one, a single renewal finds
   * out.
   */
  const watchOne = Effect.fnUntraced(function* (gateway: string) {
    let askedAt = 0
    /** When all its mappings were last told that it is silent. */
    let toldAt = 0
    let hasAnswered = false
    while (true) {
      const held = heldOn(gateway)
      if (held === undefined) return
      const longest = Duration.toSeconds(longestSilence) * (yield* Random.nextBetween(0.9, 1.1))
      const heard = yield* heardAt(held)
      const wait = Math.max(askedAt, heard) + longest - (yield* Notices.monotonicSeconds)
      if (wait > 0) {
        yield* Effect.sleep({ seconds: wait })
        continue
      }
      const askedBefore = askedAt
      askedAt = yield* Notices.monotonicSeconds
      const answer = yield* Effect.result(ask(held))
      if (Result.isSuccess(answer) || !Gateways.isSilence(answer.failure)) {
        hasAnswered = true
        continue
      }
      if (toldAt > heard) continue
      const isGone = hasAnswered || askedBefore === 0 || askedBefore > heard
      if (isGone) toldAt = askedAt
      yield* isSilent(gateway, isGone ? undefined : held)
    }
  })

  return {
    watch: (gateways) =>
      Effect.suspend(() => {
        const before = watched
        const over = [...before].filter((gateway) => !gateways.has(gateway))
        watched = gateways
        // One that is being ended is no reason not to begin.
        const begin = (gateway: string) =>
          FiberMap.run(fibers, gateway, watchOne(gateway), { onlyIfMissing: before.has(gateway) })
        return Effect.andThen(
          Effect.forEach(over, (gateway) => FiberMap.remove(fibers, gateway), { discard: true }),
          Effect.forEach(gateways, begin, { discard: true })
        )
      }).pipe(Effect.uninterruptible)
  }
})
