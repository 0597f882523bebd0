/**
 * The seam to listening TCP sockets, in plain callbacks: what passes here is the dispatcher's hot path.
 *
 * `NodeTcpListener.layer` is the real network; tests provide simulated ones. What is told apart by its first bytes, as
 * WebSocket and TLS are, becomes a `Connection` of the same kind.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/**
 * Why a port cannot be listened on.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenError extends Schema.TaggedError<ListenError>("@effect-nat/dispatcher/ListenError")("ListenError", {
  kind: Schema.Literals(["AddressInUse", "PermissionDenied", "AddressNotAvailable", "Unknown"]),
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.kind}: ${this.detail}`
  }
}

/**
 * One accepted connection. Nothing here throws, whatever state the connection is in.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connection {
  /**
   * The peer's address; `undefined` once it has gone. Of a forwarded connection it is what the forwarder says, and
   * `undefined` where it does not say: nothing follows from the forwarder's own address then.
   */
  readonly remoteAddress: NetAddress.InetAddress | undefined
  /** Whether a forwarder passes this connection on: then the peer is not where the bytes come from. */
  readonly isForwarded: boolean
  /** This host's address that the peer connected to; `undefined` once the peer has gone. */
  readonly localAddress: NetAddress.InetAddress | undefined
  /** Writes the blocks in one go and calls back when the kernel has all of them; never, when the connection breaks. */
  readonly write: (blocks: ReadonlyArray<Uint8Array>, flushed: () => void) => void
  /** Stops reading, so that the peer has to wait; a paused connection reports neither data nor the peer's end. */
  readonly pause: () => void
  /** Reads on. */
  readonly resume: () => void
  /** Ends the sending direction once everything written has gone out. */
  readonly end: () => void
  /** Drops the connection now, and what is unsent with it. */
  readonly destroy: () => void
}

/**
 * What a connection tells its owner. None of these may throw.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionHandler {
  /** The next bytes, never empty; they belong to the handler. */
  readonly onData: (chunk: Uint8Array) => void
  /** The peer sends no more, but may still read; the owner ends or drops the connection. */
  readonly onEnd: () => void
  /** Called once, whatever ended the connection; nothing comes after it. */
  readonly onClose: () => void
}

/**
 * What a listener shows over TLS. A `Certificate` is one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tls {
  /** The certificate, and after it those that lead to its authority, in PEM. */
  readonly certificate: string
  /** The certificate's private key, in PEM. */
  readonly key: Redacted.Redacted<string>
}

/**
 * A listening socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listening {
  /** The address and port that it is bound to. */
  readonly address: NetAddress.InetAddress
  /** Takes no more connections; those that are open stay so. */
  readonly stopAccepting: Effect.Effect<void>
}

/**
 * Listens on TCP ports.
 *
 * @category services
 * @since 0.1.0
 */
export class TcpListener extends Context.Service<
  TcpListener,
  {
    /**
     * Listens until the scope closes, which also drops every connection that is left. Each accepted connection is
     * handed to `onConnection` before any of its bytes. Certificate and key that cannot be used fail with `Unknown`.
     */
    readonly listen: (options: {
      /** 1 to 65535, or 0 for a free port. */
      readonly port: number
      /** Defaults to all addresses of this host. */
      readonly address?: NetAddress.IpAddress | undefined
      /** The largest message of a connection whose bytes come in messages, as over WebSocket. */
      readonly maxMessageBytes: number
      readonly onConnection: (connection: Connection) => ConnectionHandler
      /**
       * Takes connections over TLS too, told apart by their first byte. What the owner sends before the peer's first
       * byte waits for it. Defaults to none: a TLS record is handed on like any other bytes.
       */
      readonly tls?: Tls | undefined
      /**
       * Every connection has to begin with a header of the PROXY protocol, version 2, which says who the peer is; what
       * does not is dropped, and never handed on. For a port that nobody but the forwarder gets to. Defaults to `false`.
       */
      readonly proxyProtocol?: boolean | undefined
      /** How long that header may take, and the handshake of TLS. Defaults to 5 seconds. */
      readonly openingTimeout?: Duration.Input | undefined
      /** Hears that one connection could not be accepted, for example because this process has too many files open. */
      readonly onAcceptError: (detail: string) => void
    }) => Effect.Effect<Listening, ListenError, Scope.Scope>
    /** Runs a task after the bytes that are readable now have been read, so that their answers go out together. */
    readonly atTurnEnd: (task: () => void) => void
  }
>()("@effect-nat/dispatcher/TcpListener") {}
