/**
 * Everything that strategies need of a host, from Node: UDP, HTTP both ways, interfaces, default routes, the ledger,
 * and the watch over its network.
 *
 * **Example** (Provide a strategy with the real host)
 *
 * ```ts
 * import * as Manual from "@effect-nat/core/Manual"
 * import * as NodeHost from "@effect-nat/core/NodeHost"
 * import * as Layer from "effect/Layer"
 *
 * export const strategy = Manual.layer({ externalAddress: "11.22.33.1" }).pipe(Layer.provide(NodeHost.layer))
 * ```
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import type * as DefaultRoute from "./DefaultRoute.ts"
import type * as Http from "./Http.ts"
import type * as HttpListener from "./HttpListener.ts"
import type * as NetworkInterfaces from "./NetworkInterfaces.ts"
import * as NetworkWatch from "./NetworkWatch.ts"
import * as NodeDefaultRoute from "./NodeDefaultRoute.ts"
import * as NodeHttp from "./NodeHttp.ts"
import * as NodeHttpListener from "./NodeHttpListener.ts"
import * as NodeLedger from "./NodeLedger.ts"
import * as NodeNetworkInterfaces from "./NodeNetworkInterfaces.ts"
import * as NodeUdp from "./NodeUdp.ts"
import type * as Udp from "./Udp.ts"

/**
 * The services of a host.
 *
 * @category models
 * @since 0.1.0
 */
export type Host =
  | Udp.Udp
  | Http.Http
  | HttpListener.HttpListener
  | NetworkInterfaces.NetworkInterfaces
  | DefaultRoute.DefaultRoute

/**
 * This host.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Host> = Layer.mergeAll(
  NodeUdp.layer,
  NodeHttp.layer,
  NodeHttpListener.layer,
  NodeLedger.layer,
  Layer.provideMerge(NetworkWatch.layer, Layer.merge(NodeNetworkInterfaces.layer, NodeDefaultRoute.layer))
)
