/**
 * Discovers gateways that speak UPnP: one search at a time. `SsdpListener` stays, and tells who comes and goes.
 *
 * @since 0.1.0
 */
import * as Automation from "@effect-nat/core/Automation"
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import type * as Gateway from "@effect-nat/core/Gateway"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import type * as Http from "@effect-nat/core/Http"
import type * as HttpListener from "@effect-nat/core/HttpListener"
import type * as NatError from "@effect-nat/core/NatError"
import type * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import type * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as SsdpSearch from "./SsdpSearch.ts"
import * as UpnpGateway from "./UpnpGateway.ts"

/**
 * The seams to the network that UPnP needs.
 *
 * @category models
 * @since 0.1.0
 */
export type Network =
  | Udp.Udp
  | Http.Http
  | HttpListener.HttpListener
  | NetworkInterfaces.NetworkInterfaces
  | DefaultRoute.DefaultRoute

/**
 * Searches once and reads every description: each gateway that maps ports, or why an answer leads to none, as it is
 * known. A slow device delays no other. Ends when the search is over and the last description is there.
 *
 * @category constructors
 * @since 0.1.0
 */
export const described: Stream.Stream<
  Result.Result<UpnpGateway.Described, NatError.NatError>,
  NatError.NatError,
  Network
> = Automation.guardStream(SsdpSearch.search()).pipe(
  Stream.mapEffect((answer) => Effect.result(UpnpGateway.describe(answer)), {
    concurrency: SsdpSearch.maximumAnswers,
    unordered: true
  })
)

const noneSeen: ReadonlySet<string> = new Set()

const keyOf = (gateway: Gateway.Gateway): string => `${gateway.id ?? ""} ${NetAddress.formatIp(gateway.address)}`

/**
 * Each gateway that maps ports over UPnP, once, as it answers. What answers and is no gateway is left out.
 *
 * @category constructors
 * @since 0.1.0
 */
export const gateways: Stream.Stream<Gateway.Gateway, NatError.NatError, Network> = described.pipe(
  Stream.tap((result) =>
    Result.isFailure(result) ? Effect.logDebug(`an answer leads to no gateway: ${result.failure.message}`) : Effect.void
  ),
  Stream.filterMap((result) => result),
  Stream.mapAccum(
    () => noneSeen,
    (seen, { gateway }) => {
      const key = keyOf(gateway)
      return seen.has(key) ? [seen, []] : [new Set([...seen, key]), [gateway]]
    }
  )
)

/**
 * Gateway discovery by UPnP.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<GatewayDiscovery.GatewayDiscovery, never, Network> = Layer.effect(
  GatewayDiscovery.GatewayDiscovery,
  Effect.map(Effect.context<Network>(), (context) => ({ gateways: Stream.provideContext(gateways, context) }))
)
