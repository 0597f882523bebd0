/**
 * Watches the gateway while something is mapped on it: it may restart and lose every mapping, and its line may get
 * another address, long before anything is due to be renewed.
 *
 * Three sources, from the quickest to the surest: what the gateway announces to its network, what it says to
 * subscribers of its events, and its answer when it is asked now and then, more often while events do not arrive.
 */
import * as Http from "@effect-nat/core/Http"
import type * as NatError from "@effect-nat/core/NatError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as DeviceDescription from "../DeviceDescription.ts"
import * as EventSubscription from "../EventSubscription.ts"
import * as Soap from "../Soap.ts"
import * as SsdpListener from "../SsdpListener.ts"
import type * as UpnpGateway from "../UpnpGateway.ts"
import * as Results from "./results.ts"

/** So often, on average, a gateway is asked for its address where no events arrive. */
const pollingInterval: Duration.Duration = Duration.minutes(5)

/**
 * Where events do arrive, all but one of so many askings are left out. A firewall of this host that is switched on
 * later keeps events out, and nothing else shows it.
 */
const spared = 6

export interface Watched {
  readonly found: UpnpGateway.Usable
  /** Asks for the address, even if it is known from just now, and spreads the answer. */
  readonly ask: Effect.Effect<NetAddress.IpAddress | undefined, NatError.NatError>
  /** The gateway has this address. */
  readonly hasAddress: (address: NetAddress.IpAddress | undefined) => Effect.Effect<void>
  /** The gateway may have lost every mapping, but is still where it was. */
  readonly mayHaveForgotten: Effect.Effect<void>
  /** The same, if it is to be believed: what it has forgotten for certain is a subscription. */
  readonly hasForgottenSubscription: Effect.Effect<void>
  /** The gateway has restarted, and may be elsewhere now. */
  readonly hasRestarted: Effect.Effect<void>
  /** The same, if it is to be believed: what says so may come from anybody in the network. */
  readonly saysItRestarted: Effect.Effect<void>
}

const udns = (device: DeviceDescription.Device): ReadonlyArray<string> =>
  [device.udn, ...device.devices.flatMap(udns)].filter((udn) => udn !== "")

/** One address may be that of a media server as well, which has a boot id of its own. */
const isOf = (found: UpnpGateway.Usable) => {
  const address = NetAddress.formatIp(found.gateway.address)
  const names = udns(found.device)
  return ({ from, notify }: SsdpListener.Announcement): boolean =>
    NetAddress.formatIp(from) === address &&
    (names.length === 0 || names.some((udn) => notify.usn.toLowerCase().startsWith(udn.toLowerCase())))
}

const restarts = ({ found, saysItRestarted }: Watched) => {
  let { bootId } = found
  let isGone = false
  return SsdpListener.announcements.pipe(
    Stream.filter(isOf(found)),
    Stream.filter(({ notify }) => {
      if (notify.kind === "byebye") {
        isGone = true
        return false
      }
      const before = bootId
      bootId = (notify.kind === "update" ? notify.nextBootId : undefined) ?? notify.bootId ?? bootId
      const isBack = isGone
      isGone = false
      return isBack || (before !== undefined && before !== bootId)
    }),
    Stream.runForEach(() =>
      Effect.andThen(Effect.logDebug(`${found.gateway.name} has announced that it restarted`), saysItRestarted)
    )
  )
}

const addressVariable = "ExternalIPAddress"

const addresses = ({ hasAddress }: Watched, { events }: EventSubscription.EventSubscription) =>
  Stream.runForEach(events, (variables) =>
    Soap.argument(variables, addressVariable) === undefined
      ? Effect.void
      : hasAddress(Results.address(variables, addressVariable))
  )

const pause = Effect.map(Random.nextBetween(0.9, 1.1), (share) => Duration.times(pollingInterval, share))

/** Asks, rarely where events arrive. A gateway that was silent for a while may have restarted meanwhile. */
const polls = Effect.fnUntraced(function* (
  { ask, hasRestarted, mayHaveForgotten }: Watched,
  hasEvents: Effect.Effect<boolean>
): Effect.fn.Return<never> {
  let wasSilent = false
  let left = 0
  while (true) {
    yield* Effect.sleep(yield* pause)
    left += 1
    if ((yield* hasEvents) && left < spared) continue
    left = 0
    const answer = yield* Effect.result(ask)
    if (Result.isSuccess(answer)) {
      if (wasSilent) yield* mayHaveForgotten
      wasSilent = false
      continue
    }
    const { _tag } = answer.failure.reason
    // Nobody listens where it was.
    if (_tag === "Unreachable") yield* hasRestarted
    wasSilent = wasSilent || _tag === "TimedOut"
  }
})

/** The answer to the renewal of a subscription that is not known (UPnP Device Architecture 1.1 §4.1.3). */
const unknownSubscription = 412

/** A gateway that no longer knows a subscription that has not run out has most likely restarted. */
const noticing = (
  { found, hasForgottenSubscription }: Watched,
  { request }: Http.Http["Service"]
): Http.Http["Service"] => {
  const isRenewal = ({ headers, method }: Http.HttpRequest) =>
    method === "SUBSCRIBE" && headers?.some(([name]) => name.toUpperCase() === "SID") === true
  return {
    request: (asked) =>
      Effect.tap(request(asked), ({ status }) => {
        if (status !== unknownSubscription || !isRenewal(asked)) return Effect.void
        return Effect.andThen(
          Effect.logDebug(`${found.gateway.name} has forgotten the subscription to its events`),
          hasForgottenSubscription
        )
      })
  }
}

/** After a subscription that was refused the next one is tried; the pauses double. */
const firstRetry = Duration.minutes(1)
const longestRetry = Duration.minutes(30)

/** Hears the gateway's events as soon as it grants a subscription: one that has just started may refuse at first. */
const listens = Effect.fnUntraced(function* (
  watched: Watched,
  hears: (subscribed: EventSubscription.EventSubscription) => void
) {
  const { connection, gateway } = watched.found
  const { service } = connection.wanService
  if (service.eventSubUrl === undefined) return
  const http = noticing(watched, yield* Http.Http)
  const attempt = Effect.gen(function* () {
    const subscribed = yield* EventSubscription.subscribe({ service, gateway: gateway.address })
    hears(subscribed)
    yield* addresses(watched, subscribed)
  }).pipe(Effect.provideService(Http.Http, http))
  let pause = firstRetry
  while (true) {
    const outcome = yield* Effect.result(Effect.scoped(attempt))
    if (Result.isSuccess(outcome)) return
    yield* Effect.logDebug(`no events from ${gateway.name}: ${outcome.failure.message}`)
    yield* Effect.sleep(pause)
    pause = Duration.min(Duration.times(pause, 2), longestRetry)
  }
})

const eventsOrPolls = (watched: Watched) =>
  Effect.suspend(() => {
    let subscribed: EventSubscription.EventSubscription | undefined
    const hasEvents = Effect.suspend(() => subscribed?.isWorking ?? Effect.succeed(false))
    const listening = listens(watched, (granted) => {
      subscribed = granted
    })
    return Effect.all([listening, polls(watched, hasEvents)], { concurrency: "unbounded", discard: true })
  })

/** Whoever maps has calls to make first, and many mappings are gone again at once. */
const calm = Duration.seconds(1)

/**
 * Watches until it is interrupted. It listens at once: a restart may be announced no more than once, and whoever has just
 * started soon starts again. It asks the gateway for something after a second.
 */
export const watch = (watched: Watched) =>
  Effect.all([Effect.andThen(restarts(watched), Effect.never), Effect.delay(eventsOrPolls(watched), calm)], {
    concurrency: "unbounded",
    discard: true
  })
