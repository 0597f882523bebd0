/**
 * The seam to connections that a client makes: `NodeConnector.layer` makes them over TCP, `WebConnector.layer` by
 * WebSocket, as in a browser.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Socket from "effect/socket/Socket"

/**
 * Makes connections to dispatchers.
 *
 * @category services
 * @since 0.1.0
 */
export class Connector extends Context.Service<
  Connector,
  {
    /** A socket that connects to an address when it is opened. */
    readonly connect: (address: NetAddress.InetAddress) => Effect.Effect<Socket.Socket>
  }
>()("@effect-nat/dispatcher/Connector") {}
