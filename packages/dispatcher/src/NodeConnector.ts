/**
 * Connections to dispatchers over TCP.
 *
 * @since 0.1.0
 */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Connector from "./Connector.ts"

/**
 * Connects over TCP, with `TCP_NODELAY` and keep-alive.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Connector.Connector> = Layer.succeed(Connector.Connector, {
  connect: (address) =>
    NodeSocket.makeNet({ host: NetAddress.formatHost(address), port: address.port, noDelay: true, keepAlive: true })
})
