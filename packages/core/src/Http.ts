/**
 * The seam to HTTP, as home routers speak it.
 *
 * It is narrower and lower than an ordinary HTTP client: header names go out in the case they are given in, the body
 * has a length, answers are bounded, and the caller learns which own address the connection used. No redirect is
 * followed. A connection may serve several requests, but no request is sent twice except a `GET`, which changes
 * nothing: where the router closes the connection just as another one comes, nobody knows whether it was carried out.
 * `NodeHttp.layer` is the real network; tests provide simulated ones.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"

/**
 * One request. Interrupting it closes its connection, so a time limit is `Effect.timeout`.
 *
 * @category models
 * @since 0.1.0
 */
export interface HttpRequest {
  readonly method: string
  /** The host to connect to, as an address: names are resolved by nobody here. */
  readonly address: NetAddress.InetAddress
  /** Path and query, beginning with a slash. */
  readonly path: string
  /** In this order and in this case. `Host`, `Content-Length` and `Connection` are added where they are missing. */
  readonly headers?: ReadonlyArray<readonly [name: string, value: string]> | undefined
  readonly body?: string | undefined
  /**
   * A connection of its own, closed after the answer: for what must neither be done twice nor fail because a kept
   * connection had just been closed. Defaults to `false`.
   */
  readonly ownConnection?: boolean | undefined
  /** The largest answer body that is read, in bytes. */
  readonly maxBytes: number
}

/**
 * The answer to one request.
 *
 * @category models
 * @since 0.1.0
 */
export interface HttpResponse {
  readonly status: number
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** This host's own address on the connection. */
  readonly localAddress: NetAddress.IpAddress
}

/**
 * An HTTP exchange failed: `"Refused"` (the host is there, the port is closed), `"Unreachable"`, `"TooLarge"` (more
 * than `maxBytes` of body or 16 KiB of headers), `"Malformed"` (not HTTP, or a request that HTTP cannot
 * express), `"Closed"` (cut off before the end).
 *
 * @category errors
 * @since 0.1.0
 */
export class HttpError extends Schema.TaggedError<HttpError>("@effect-nat/core/HttpError")("HttpError", {
  kind: Schema.Literals(["Refused", "Unreachable", "TooLarge", "Malformed", "Closed"]),
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.kind}: ${this.detail}`
  }
}

/**
 * Makes HTTP requests.
 *
 * @category services
 * @since 0.1.0
 */
export class Http extends Context.Service<
  Http,
  {
    readonly request: (request: HttpRequest) => Effect.Effect<HttpResponse, HttpError>
  }
>()("@effect-nat/core/Http") {}
