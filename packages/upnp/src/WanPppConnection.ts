/**
 * The actions of a WANPPPConnection service: those of `WanIpConnection`, and what there is to know about the
 * point-to-point link. Actions that connect, disconnect or configure it are left out, and so is its password.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as DeviceDescription from "./DeviceDescription.ts"
import * as Results from "./internal/results.ts"
import type * as SoapClient from "./SoapClient.ts"
import * as WanIpConnection from "./WanIpConnection.ts"

/**
 * The link's speed in bits per second (GetLinkLayerMaxBitRates); `undefined` where the router does not say.
 *
 * @category models
 * @since 0.1.0
 */
export interface LinkLayerMaxBitRates {
  readonly upstream: number | undefined
  readonly downstream: number | undefined
}

/**
 * The actions of one service of one router (WANPPPConnection:1 §2.4). A text that the router does not give is empty.
 *
 * @category models
 * @since 0.1.0
 */
export interface WanPppConnection extends WanIpConnection.WanIpConnection {
  readonly getLinkLayerMaxBitRates: Effect.Effect<LinkLayerMaxBitRates, WanIpConnection.ActionError>
  readonly getPppEncryptionProtocol: Effect.Effect<string, WanIpConnection.ActionError>
  readonly getPppCompressionProtocol: Effect.Effect<string, WanIpConnection.ActionError>
  readonly getPppAuthenticationProtocol: Effect.Effect<string, WanIpConnection.ActionError>
  /** The name that the router logs in with at its provider. */
  readonly getUserName: Effect.Effect<string, WanIpConnection.ActionError>
}

/**
 * The actions of one service, called through the client of its router.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (client: SoapClient.SoapClient, wanService: DeviceDescription.WanService): WanPppConnection => {
  const call = (action: string) => client.call(wanService.service, action, [])
  const text = (action: string) => Effect.map(call(`Get${action}`), (results) => Results.text(results, `New${action}`))
  return {
    ...WanIpConnection.make(client, wanService),
    getLinkLayerMaxBitRates: Effect.map(call("GetLinkLayerMaxBitRates"), (results) => ({
      upstream: Results.uint(results, "NewUpstreamMaxBitRate"),
      downstream: Results.uint(results, "NewDownstreamMaxBitRate")
    })),
    getPppEncryptionProtocol: text("PPPEncryptionProtocol"),
    getPppCompressionProtocol: text("PPPCompressionProtocol"),
    getPppAuthenticationProtocol: text("PPPAuthenticationProtocol"),
    getUserName: text("UserName")
  }
}
