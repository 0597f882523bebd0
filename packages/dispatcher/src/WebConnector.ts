/**
 * Connections to dispatchers by WebSocket, in a browser and wherever else there is one.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Socket from "effect/socket/Socket"
import * as Connector from "./Connector.ts"

/**
 * Connects by the platform's own `WebSocket`, without TLS. A page that came over HTTPS may connect to loopback only so.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Connector.Connector> = Layer.effect(
  Connector.Connector,
  Effect.map(Effect.context<Socket.WebSocketConstructor>(), (context) => ({
    connect: (address: NetAddress.InetAddress) =>
      Effect.provideContext(Socket.makeWebSocket(`ws://${NetAddress.formatInet(address)}/`), context)
  }))
).pipe(Layer.provide(Socket.layerWebSocketConstructorGlobal))
