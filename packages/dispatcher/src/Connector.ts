/**
 * The seam to connections that a client makes: `NodeConnector.layer` makes them over TCP, `WebConnector.layer` by
 * WebSocket, as in a browser.
 *
 * @since 0.1.0
 */
import type * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Socket from "effect/socket/Socket"

/**
 * How a connection is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Connect over TLS, to what shows the certificate of this fingerprint and to nothing else. Defaults to no TLS. */
  readonly fingerprint?: ContactPoint.Fingerprint | undefined
}

/**
 * Makes connections to dispatchers.
 *
 * @category services
 * @since 0.1.0
 */
export class Connector extends Context.Service<
  Connector,
  {
    /**
     * A socket that connects to an address when it is opened. Where it cannot, and knows better why than that the
     * address is unreachable, the cause of its `SocketOpenError` is a reason of `SessionError`, as `WrongCertificate`.
     */
    readonly connect: (address: NetAddress.InetAddress, options?: Options) => Effect.Effect<Socket.Socket>
  }
>()("@effect-nat/dispatcher/Connector") {}
