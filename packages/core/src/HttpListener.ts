/**
 * The seam to incoming HTTP requests from the local network, as routers send their events.
 *
 * It is as narrow as `Http`: a listener is bound to one own address, requests are bounded in size and time, and the
 * answer is a status without a body. `NodeHttpListener.layer` is the real network; tests provide simulated ones.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/**
 * A request as it arrived.
 *
 * @category models
 * @since 0.1.0
 */
export interface IncomingRequest {
  readonly method: string
  /** Path and query, beginning with a slash. */
  readonly path: string
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  readonly from: NetAddress.InetAddress
}

/**
 * How a listener is opened.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListenOptions {
  /** The own address to listen on; the port is a free one. */
  readonly address: NetAddress.IpAddress
  /** The largest body that is read, in bytes; a larger one is answered with status 413. */
  readonly maxBytes: number
  /** Whether a connection from an address is taken at all; one that is not is closed before anything is read. */
  readonly accepts: (from: NetAddress.IpAddress) => boolean
  /** The status to answer with. Interrupted when the connection is gone. */
  readonly answer: (request: IncomingRequest) => Effect.Effect<number>
}

/**
 * No listener could be opened.
 *
 * @category errors
 * @since 0.1.0
 */
export class HttpListenError extends Schema.TaggedError<HttpListenError>("@effect-nat/core/HttpListenError")(
  "HttpListenError",
  { detail: Schema.String }
) {
  override get message(): string {
    return this.detail
  }
}

/**
 * Listens for HTTP requests.
 *
 * @category services
 * @since 0.1.0
 */
export class HttpListener extends Context.Service<
  HttpListener,
  {
    /** The address and port that is listened on, until the scope closes. */
    readonly listen: (options: ListenOptions) => Effect.Effect<NetAddress.InetAddress, HttpListenError, Scope.Scope>
  }
>()("@effect-nat/core/HttpListener") {}
