/**
 * All gateways of the network at once: each is described, chosen from and used by itself, and none waits for another.
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Gateway from "@effect-nat/core/Gateway"
import * as NatError from "@effect-nat/core/NatError"
import * as Udp from "@effect-nat/core/Udp"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as DeviceDescription from "../DeviceDescription.ts"
import * as HttpUrl from "../HttpUrl.ts"
import type * as SoapClient from "../SoapClient.ts"
import * as SsdpSearch from "../SsdpSearch.ts"
import * as UpnpGateway from "../UpnpGateway.ts"
import * as NoGateway from "./noGateway.ts"
import * as Targets from "./ssdpTargets.ts"

/** What came of one gateway. */
export interface Outcome<A> {
  readonly gateway: Gateway.Gateway
  readonly result: Result.Result<A, NatError.NatError>
}

/** So long one gateway may take, from its description on: one that answers nothing must not hold up the whole. */
export const longest: Duration.Duration = Duration.seconds(15)

const tooSlow = (gateway: Gateway.Gateway) =>
  NatError.fromReason(
    new NatError.TimedOut({ detail: `${gateway.name} was not done after ${Duration.format(longest)}` })
  )

/** A gateway that answers the search and describes nothing is one all the same. */
const undescribed = Effect.fnUntraced(function* ({ from }: SsdpSearch.Answer) {
  const localAddress = yield* Effect.orElseSucceed(Udp.localAddressTowards(from), () => from)
  return new Gateway.Gateway({
    name: NetAddress.formatIp(from),
    address: from,
    method: "upnp",
    localAddress,
    id: undefined,
    model: undefined
  })
})

const namesGateway = ({ message }: SsdpSearch.Answer): boolean => Targets.nameGateway(message.searchTarget, message.usn)

export interface Options<A, R> {
  readonly client: SoapClient.SoapClient
  readonly selected: string | undefined
  readonly use: (usable: UpnpGateway.Usable) => Effect.Effect<A, NatError.NatError, R>
}

/** One outcome for each gateway, the default gateway's first. Fails with `NoGateway` where there is none. */
export const each = Effect.fnUntraced(function* <A, R>({ client, selected, use }: Options<A, R>) {
  const places = new Set<string>()
  const others: Array<Gateway.Gateway> = []
  const placeOf = ({ service }: DeviceDescription.WanService) =>
    `${service.serviceType} ${HttpUrl.format(service.controlUrl)}`

  /** One gateway may answer with several descriptions: what is used under one is not used again under another. */
  const claim = (described: UpnpGateway.Described): UpnpGateway.Described | undefined => {
    const device = described.gateway.id
    if (device !== undefined && places.has(device)) return undefined
    const wanServices = described.wanServices.filter((one) => !places.has(placeOf(one)))
    if (wanServices.length === 0) return undefined
    if (device !== undefined) places.add(device)
    wanServices.forEach((one) => places.add(placeOf(one)))
    return { ...described, wanServices }
  }

  const onDescribed = (described: UpnpGateway.Described) =>
    Effect.gen(function* () {
      return yield* use(UpnpGateway.unasked(described, client) ?? (yield* UpnpGateway.choose(described, client)))
    }).pipe(
      Effect.timeoutOrElse({ duration: longest, orElse: () => Effect.fail(tooSlow(described.gateway)) }),
      Effect.result,
      Effect.map((result): Outcome<A> => ({ gateway: described.gateway, result }))
    )

  const onFailure = Effect.fnUntraced(function* (answer: SsdpSearch.Answer, error: NatError.NatError) {
    yield* Effect.logDebug(`an answer leads to no gateway: ${error.message}`)
    if (error.reason._tag === "Unsupported" || !namesGateway(answer)) return []
    const gateway = yield* undescribed(answer)
    if (!Gateway.isSelected(gateway, selected)) return []
    return [{ gateway, result: Result.fail(error) }] satisfies ReadonlyArray<Outcome<A>>
  })

  const onAnswer = Effect.fnUntraced(function* (answer: SsdpSearch.Answer) {
    const described = yield* Effect.result(UpnpGateway.describe(answer))
    if (Result.isFailure(described)) return { described: false, outcomes: yield* onFailure(answer, described.failure) }
    const isSelected = Gateway.isSelected(described.success.gateway, selected)
    if (!isSelected) others.push(described.success.gateway)
    const mine = isSelected ? claim(described.success) : undefined
    return { described: true, outcomes: mine === undefined ? [] : [yield* onDescribed(mine)] }
  })

  const answers = yield* SsdpSearch.search().pipe(
    Stream.mapEffect(onAnswer, { concurrency: SsdpSearch.maximumAnswers, unordered: true }),
    Stream.runCollect
  )
  const good = answers.filter((one) => one.described).flatMap((one) => one.outcomes)
  // A dead description beside a good one, and a second dead one, are no gateways of their own.
  const seen = new Set(good.map(({ gateway }) => NetAddress.formatIp(gateway.address)))
  const dead = answers
    .filter((one) => !one.described)
    .flatMap((one) => one.outcomes)
    .filter(({ gateway }) => {
      const before = seen.size
      return seen.add(NetAddress.formatIp(gateway.address)).size > before
    })
  const outcomes: ReadonlyArray<Outcome<A>> = [...good, ...dead]
  if (outcomes.length === 0) {
    return yield* selected === undefined ? NoGateway.silent : NoGateway.noneCalled(selected, others)
  }
  const routes = yield* (yield* DefaultRoute.DefaultRoute).routes
  const defaults = new Set(routes.map((route) => NetAddress.formatIp(route.gateway)))
  const rank = ({ gateway }: Outcome<A>): number => Number(defaults.has(NetAddress.formatIp(gateway.address)))
  return outcomes.toSorted((a, b) => rank(b) - rank(a))
})
