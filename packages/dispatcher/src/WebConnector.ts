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
 * Connects by the platform's own `WebSocket`: without TLS, or over TLS (`wss`) where a fingerprint is given. A page that
 * came over HTTPS may connect without TLS to loopback only.
 *
 * **Gotchas**
 *
 * No page can look at a certificate, so the fingerprint is not compared: the browser takes what an authority that it
 * trusts has signed for just this address, and nothing else. A dispatcher for browsers needs such a certificate, and a
 * self-signed one keeps them out.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Connector.Connector> = Layer.effect(
  Connector.Connector,
  Effect.map(Effect.context<Socket.WebSocketConstructor>(), (context) => ({
    connect: (address: NetAddress.InetAddress, options?: Connector.Options) => {
      const scheme = options?.fingerprint === undefined ? "ws" : "wss"
      return Effect.provideContext(Socket.makeWebSocket(`${scheme}://${NetAddress.formatInet(address)}/`), context)
    }
  }))
).pipe(Layer.provide(Socket.layerWebSocketConstructorGlobal))
