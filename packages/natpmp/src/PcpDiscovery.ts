/**
 * Discovers the gateways that speak PCP (RFC 6887): the default gateways that answer an ANNOUNCE, which changes nothing
 * on them. The one of the IPv6 default route is among them where this host has a global IPv6 address.
 *
 * @since 0.1.0
 */
import * as Automation from "@effect-nat/core/Automation"
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Gateway from "@effect-nat/core/Gateway"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import type * as NatError from "@effect-nat/core/NatError"
import type * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import * as Environment from "./internal/environment.ts"
import * as Gateways from "./internal/gateways.ts"
import * as PcpGateways from "./internal/pcpGateways.ts"
import * as PcpLease from "./internal/pcpLease.ts"

type Look = Effect.Effect<Gateway.Gateway, NatError.NatError>

const overIpv4 = ({ localAddress, ways }: Environment.Environment, gateway: NetAddress.Ipv4Address): Look =>
  Effect.flatMap(ways.ipv4(gateway), PcpGateways.announce).pipe(
    Effect.andThen(localAddress(gateway)),
    Effect.map((own) => Gateways.describe(PcpLease.method, gateway, own))
  )

const overIpv6 = (environment: Environment.Environment): Look =>
  Effect.gen(function* () {
    const { own, peer } = yield* PcpGateways.ipv6(environment)
    yield* Effect.flatMap(environment.ways.from(peer, own), PcpGateways.announce)
    return Gateways.describe(PcpLease.method, peer.address, own)
  })

const search = Effect.gen(function* () {
  const environment = yield* Environment.make
  const { selected } = yield* environment.candidates
  const visible = Gateways.visible(yield* environment.routes, selected)
  const looks: ReadonlyArray<Look> = [
    ...visible.map((gateway) => overIpv4(environment, gateway)),
    overIpv6(environment)
  ]
  return Stream.fromIterable(looks).pipe(
    Stream.mapEffect(
      (look) =>
        Effect.orElseSucceed(
          Effect.map(look, (gateway) => [gateway]),
          () => []
        ),
      { concurrency: "unbounded", unordered: true }
    ),
    Stream.flattenIterable
  )
})

/**
 * Reports each gateway as it answers, within `Pcp.probeTimeout`. All visible gateways are asked, whichever is selected; a
 * selected address is asked as well when it is no default gateway's. `Gateway.Selected` is read when the layer is built.
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
      return {
        gateways: Automation.guardStream(Stream.unwrap(search)).pipe(
          Stream.provideContext(context),
          Stream.provideService(Gateway.Selected, selected)
        )
      }
    })
  )
