/**
 * Which gateways can be spoken to, and which of them answers first.
 */
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Gateway from "@effect-nat/core/Gateway"
import * as NatError from "@effect-nat/core/NatError"
import * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"

const isUsable = (address: NetAddress.IpAddress): address is NetAddress.Ipv4Address =>
  NetAddress.isIpv4Address(address) && NetAddress.isUnicast(address)

const addressIn = (selected: string | undefined): ReadonlyArray<NetAddress.Ipv4Address> => {
  if (selected === undefined) return []
  const parsed = NetAddress.ipv4FromString(selected)
  return Result.isSuccess(parsed) && isUsable(parsed.success) ? [parsed.success] : []
}

const distinct = (addresses: ReadonlyArray<NetAddress.Ipv4Address>): ReadonlyArray<NetAddress.Ipv4Address> =>
  addresses.filter((one, index) => addresses.findIndex((other) => Equal.equals(one, other)) === index)

/** The IPv4 default gateways, the preferred first, and the selected address where it is none of them. */
export const visible = (
  routes: ReadonlyArray<DefaultRoute.Route>,
  selected: string | undefined
): ReadonlyArray<NetAddress.Ipv4Address> =>
  distinct([...routes.map((route) => route.gateway).filter(isUsable), ...addressIn(selected)])

/** Those to use: all that are visible, or the selected one. A gateway has no name in these protocols but its address. */
export const usable = (
  routes: ReadonlyArray<DefaultRoute.Route>,
  selected: string | undefined
): ReadonlyArray<NetAddress.Ipv4Address> =>
  visible(routes, selected).filter((address) =>
    Gateway.isSelected({ name: NetAddress.formatIp(address), address }, selected)
  )

/** This host's own address towards a gateway. */
export const localAddressTowards = (gateway: NetAddress.IpAddress) =>
  Udp.localAddressTowards(gateway).pipe(
    Effect.mapError((error) =>
      NatError.fromReason(
        new NatError.Unreachable({ detail: `no way to ${NetAddress.formatIp(gateway)}: ${Udp.describeError(error)}` })
      )
    )
  )

/** A gateway as discovery reports it. */
export const describe = (
  method: string,
  gateway: NetAddress.IpAddress,
  localAddress: NetAddress.IpAddress
): Gateway.Gateway =>
  new Gateway.Gateway({
    name: NetAddress.formatIp(gateway),
    address: gateway,
    method,
    localAddress,
    id: undefined,
    model: undefined
  })

const noGateway = (detail: string) => NatError.fromReason(new NatError.NoGateway({ detail }))

const noneToAsk = (selected: string | undefined): NatError.NatError =>
  noGateway(
    selected === undefined
      ? "this host has no IPv4 default route, and NAT-PMP and PCP are spoken to the default gateway"
      : `no default gateway is "${selected}": gateways have no names in NAT-PMP and PCP, so give the gateway's IPv4 address`
  )

/** Whether this error is all that was heard of a gateway: nothing, or that nobody listens there. */
export const isSilence = (error: NatError.NatError): boolean =>
  error.reason._tag === "TimedOut" || error.reason._tag === "Unreachable"

const detailOf = (error: NatError.NatError): string => error.reason.detail

/** A gateway that said why it will not is worth more than those that said nothing. */
const sumUp = (errors: ReadonlyArray<NatError.NatError>): NatError.NatError =>
  errors.find((error) => !isSilence(error)) ?? noGateway(errors.map(detailOf).join("; "))

/**
 * Asks all of these gateways at once; the first that succeeds wins, and no slow one delays it. Fails with `NoGateway`
 * when nobody is there, else with what a gateway said.
 */
export const first = Effect.fnUntraced(function* <A>(
  gateways: ReadonlyArray<NetAddress.Ipv4Address>,
  selected: string | undefined,
  question: (gateway: NetAddress.Ipv4Address) => Effect.Effect<A, NatError.NatError>
): Effect.fn.Return<A, NatError.NatError> {
  if (gateways.length === 0) return yield* noneToAsk(selected)
  const errors: Array<NatError.NatError> = []
  const noting = (gateway: NetAddress.Ipv4Address) =>
    Effect.tapError(question(gateway), (error) => Effect.sync(() => errors.push(error)))
  return yield* Effect.raceAll(gateways.map(noting)).pipe(Effect.mapError(() => sumUp(errors)))
})
