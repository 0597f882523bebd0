/**
 * The actions of a WANCommonInterfaceConfig service: the physical line that the connections share, and its traffic.
 *
 * Counters have 32 bits in the document and begin again at 0 when they are full, which a fast line does within
 * minutes, and when the router restarts: only the difference of two readings taken shortly after each other says
 * something. Some routers count further.
 *
 * Every action fails with `UpnpFault` where the router refuses. What a router leaves out is `undefined`, or an empty
 * text. Sections are those of WANCommonInterfaceConfig:1.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as DeviceDescription from "./DeviceDescription.ts"
import * as Results from "./internal/results.ts"
import type * as Soap from "./Soap.ts"
import type * as SoapClient from "./SoapClient.ts"
import type * as WanIpConnection from "./WanIpConnection.ts"

/**
 * The line itself (GetCommonLinkProperties, §2.4.3).
 *
 * @category models
 * @since 0.1.0
 */
export interface CommonLinkProperties {
  /** `"DSL"`, `"POTS"`, `"Cable"`, `"Ethernet"`, or the router's own word. */
  readonly wanAccessType: string
  /** In bits per second. Many routers report a constant, or 0. */
  readonly upstreamMaxBitRate: number | undefined
  /** In bits per second. Many routers report a constant, or 0. */
  readonly downstreamMaxBitRate: number | undefined
  /** `"Up"` when the line works; `"Down"`, `"Initializing"`, `"Unavailable"`, or the router's own word. */
  readonly physicalLinkStatus: string
}

/**
 * A connection that is in use on the line (GetActiveConnection, §2.4.10).
 *
 * @category models
 * @since 0.1.0
 */
export interface ActiveConnection {
  /** The unique name of the device that has the service, as the router writes it. */
  readonly deviceContainer: string
  readonly serviceId: string
}

/**
 * The actions of one service of one router.
 *
 * @category models
 * @since 0.1.0
 */
export interface WanCommonInterfaceConfig {
  readonly service: DeviceDescription.Service
  /** The line itself (§2.4.3). */
  readonly getCommonLinkProperties: Effect.Effect<CommonLinkProperties, WanIpConnection.ActionError>
  /** Whether hosts are let onto the internet; optional in the document, and most refuse it (§2.4.2). */
  readonly getEnabledForInternet: Effect.Effect<boolean | undefined, WanIpConnection.ActionError>
  /** The provider's name (§2.4.4). */
  readonly getWanAccessProvider: Effect.Effect<string, WanIpConnection.ActionError>
  /** How many connections the line can have at a time (§2.4.5). */
  readonly getMaximumActiveConnections: Effect.Effect<number | undefined, WanIpConnection.ActionError>
  /** Bytes sent to the internet (§2.4.6). */
  readonly getTotalBytesSent: Effect.Effect<number | undefined, WanIpConnection.ActionError>
  /** Bytes received from the internet (§2.4.7). */
  readonly getTotalBytesReceived: Effect.Effect<number | undefined, WanIpConnection.ActionError>
  /** Packets sent to the internet (§2.4.8). */
  readonly getTotalPacketsSent: Effect.Effect<number | undefined, WanIpConnection.ActionError>
  /** Packets received from the internet (§2.4.9). */
  readonly getTotalPacketsReceived: Effect.Effect<number | undefined, WanIpConnection.ActionError>
  /** One connection by its place in the list, from 0; error 713 is the end of the list (§2.4.10). */
  readonly getActiveConnection: (index: number) => Effect.Effect<ActiveConnection, WanIpConnection.ActionError>
}

/**
 * The actions of one service, called through the client of its router. `DeviceDescription.servicesOf` finds it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (client: SoapClient.SoapClient, service: DeviceDescription.Service): WanCommonInterfaceConfig => {
  const call = (action: string, list: Soap.Arguments = []) => client.call(service, action, list)
  const counter = (name: string) => Effect.map(call(`Get${name}`), (results) => Results.counter(results, `New${name}`))
  return {
    service,
    getCommonLinkProperties: Effect.map(call("GetCommonLinkProperties"), (results) => ({
      wanAccessType: Results.text(results, "NewWANAccessType"),
      upstreamMaxBitRate: Results.counter(results, "NewLayer1UpstreamMaxBitRate"),
      downstreamMaxBitRate: Results.counter(results, "NewLayer1DownstreamMaxBitRate"),
      physicalLinkStatus: Results.text(results, "NewPhysicalLinkStatus")
    })),
    getEnabledForInternet: Effect.map(call("GetEnabledForInternet"), (results) =>
      Results.flag(results, "NewEnabledForInternet")
    ),
    getWanAccessProvider: Effect.map(call("GetWANAccessProvider"), (results) =>
      Results.text(results, "NewWANAccessProvider")
    ),
    getMaximumActiveConnections: Effect.map(call("GetMaximumActiveConnections"), (results) =>
      Results.uint(results, "NewMaximumActiveConnections")
    ),
    getTotalBytesSent: counter("TotalBytesSent"),
    getTotalBytesReceived: counter("TotalBytesReceived"),
    getTotalPacketsSent: counter("TotalPacketsSent"),
    getTotalPacketsReceived: counter("TotalPacketsReceived"),
    getActiveConnection: (index) =>
      Effect.map(call("GetActiveConnection", [["NewActiveConnectionIndex", String(index)]]), (results) => ({
        deviceContainer: Results.text(results, "NewActiveConnDeviceContainer"),
        serviceId: Results.text(results, "NewActiveConnectionServiceID")
      }))
  }
}
