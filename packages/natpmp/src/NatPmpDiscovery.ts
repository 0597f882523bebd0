/**
 * Discovers the gateways that speak NAT-PMP (RFC 6886): the IPv4 default gateways that answer an external address
 * request, which changes nothing on them.
 *
 * @since 0.1.0
 */
import * as Automation from "@effect-nat/core/Automation"
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Gateway from "@effect-nat/core/Gateway"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import type * as NatError from "@effect-nat/core/NatError"
import type * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import * as Gateways from "./internal/gateways.ts"
import * as NatPmpLease from "./internal/natPmpLease.ts"
import * as Notices from "./internal/notices.ts"
import * as Ways from "./internal/ways.ts"

/** A gateway that refuses in NAT-PMP's own words speaks it; one that only knows another version does not. */
const speaksNatPmp = (error: NatError.NatError): boolean =>
  !Gateways.isSilence(error) && error.reason._tag !== "Unsupported"

const look = Effect.fnUntraced(function* (ways: Ways.Ways, gateway: NetAddress.Ipv4Address) {
  return yield* NatPmpLease.knock(yield* ways.ipv4(gateway), { timeout: NatPmpLease.probeTimeout }).pipe(
    Effect.map((found) => found.localAddress),
    Effect.catchIf(speaksNatPmp, () => Gateways.localAddressTowards(gateway)),
    Effect.map((localAddress) => [Gateways.describe(NatPmpLease.method, gateway, localAddress)]),
    Effect.orElseSucceed(() => [])
  )
})

const search = Effect.fnUntraced(function* (selected: string | undefined) {
  const ways = yield* Ways.make(() => Notices.none)
  const { routes } = yield* DefaultRoute.DefaultRoute
  const gateways = Gateways.visible(yield* routes, selected)
  return Stream.fromIterable(gateways).pipe(
    Stream.mapEffect((gateway) => look(ways, gateway), { concurrency: "unbounded", unordered: true }),
    Stream.flattenIterable
  )
})

/**
 * Reports each gateway as it answers, within `NatPmp.probeTimeout`. All visible gateways are asked, whichever is
 * selected; a selected address is asked as well when it is no default gateway's. `Gateway.Selected` is read when the
 * layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<GatewayDiscovery.GatewayDiscovery, never, Udp.Udp | DefaultRoute.DefaultRoute> =
  Layer.effect(
    GatewayDiscovery.GatewayDiscovery,
    Effect.gen(function* () {
      const context = yield* Effect.context<Udp.Udp | DefaultRoute.DefaultRoute>()
      const selected = yield* Gateway.Selected
      return { gateways: Automation.guardStream(Stream.unwrap(search(selected))).pipe(Stream.provideContext(context)) }
    })
  )
