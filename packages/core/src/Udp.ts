/**
 * The seam to UDP: protocol code opens its sockets through this service and nothing else.
 *
 * It has no default. `NodeUdp.layer` is the real network; tests provide simulated ones.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import type * as DatagramSocket from "effect/socket/DatagramSocket"

/**
 * How a socket is opened.
 *
 * @category models
 * @since 0.1.0
 */
export interface OpenOptions {
  /** The local address and port. Defaults to any address and a free port. */
  readonly bind?:
    | { readonly address?: NetAddress.IpAddress | undefined; readonly port?: number | undefined }
    | undefined
  /**
   * The only peer: datagrams of others are not received, and a refusal by ICMP fails `receive` with the kind
   * `"ConnectionRefused"`, then and ever after: to try again, open another socket.
   */
  readonly connect?: NetAddress.InetAddress | undefined
  /** Share a fixed port with other programs. Defaults to `false`. */
  readonly reuseAddress?: boolean | undefined
  /** May send to the broadcast address of a network, which otherwise fails with `"PermissionDenied"`. Defaults to `false`. */
  readonly broadcast?: boolean | undefined
  /** The interface, by its own address, and hop limit for datagrams to a multicast group. */
  readonly multicast?:
    | { readonly interface?: NetAddress.Ipv4Address | undefined; readonly ttl?: number | undefined }
    | undefined
}

/**
 * An open socket. It closes with the scope it was opened in.
 *
 * @category models
 * @since 0.1.0
 */
export interface UdpSocket {
  /** The local address and port. */
  readonly address: NetAddress.InetAddress
  /** Everything received since the last call, or, if that is nothing, the next datagram. */
  readonly receive: Effect.Effect<
    Arr.NonEmptyReadonlyArray<DatagramSocket.Datagram>,
    DatagramSocket.DatagramSocketError
  >
  /** Sends one datagram; a connected socket needs no destination. */
  readonly send: (
    payload: Uint8Array,
    to?: NetAddress.InetAddress
  ) => Effect.Effect<void, DatagramSocket.DatagramSocketError>
  /**
   * Receives what is sent to a group until the scope closes, on the interface with the given own address, or for an
   * IPv6 group with the given number; by default on the one that the system chooses.
   */
  readonly joinMulticast: (
    group: NetAddress.IpAddress,
    onInterface?: NetAddress.MulticastInterface
  ) => Effect.Effect<void, DatagramSocket.DatagramSocketError, Scope.Scope>
}

/**
 * Opens UDP sockets.
 *
 * @category services
 * @since 0.1.0
 */
export class Udp extends Context.Service<
  Udp,
  {
    readonly open: (options: OpenOptions) => Effect.Effect<UdpSocket, DatagramSocket.DatagramSocketError, Scope.Scope>
  }
>()("@effect-nat/core/Udp") {}

/**
 * This host's own address towards another host: the one that the kernel would send from. Nothing is sent.
 *
 * @category constructors
 * @since 0.1.0
 */
export const localAddressTowards = Effect.fn("Udp.localAddressTowards")(function* (
  remote: NetAddress.IpAddress
): Effect.fn.Return<NetAddress.IpAddress, DatagramSocket.DatagramSocketError, Udp> {
  const udp = yield* Udp
  // Connecting a datagram socket makes the kernel choose route and source address; the port (discard) is not used.
  const socket = yield* Effect.scoped(udp.open({ connect: NetAddress.inetAddressUnsafe(remote, 9) }))
  return socket.address.address
})

/**
 * Whether an address is one of this host's: a socket can be bound to it. Nothing is sent.
 *
 * @category constructors
 * @since 0.1.0
 */
export const isOwn = (address: NetAddress.IpAddress): Effect.Effect<boolean, never, Udp> =>
  Udp.use((udp) => Effect.isSuccess(Effect.scoped(udp.open({ bind: { address } }))))

/**
 * Whether an address is the one that this host uses towards another host or, where there is no way to that, any of its
 * own: a route may be gone for a while, and the address with it or not. Nothing is sent.
 *
 * @category constructors
 * @since 0.1.0
 */
export const isOwnTowards = (
  remote: NetAddress.IpAddress,
  address: NetAddress.IpAddress
): Effect.Effect<boolean, never, Udp> =>
  localAddressTowards(remote).pipe(
    Effect.map((own) => Equal.equals(own, address)),
    Effect.catch(() => isOwn(address))
  )

const causeText = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause ?? ""))

/**
 * What went wrong with a socket, in words: the kind of the failure and what the system said. The error's own `message`
 * is empty for most of them.
 *
 * @category accessors
 * @since 0.1.0
 */
export const describeError = (error: DatagramSocket.DatagramSocketError): string => {
  const { reason } = error
  if (!("kind" in reason)) return reason.message === "" ? "the socket is closed" : reason.message
  const kind = reason.kind === "Unknown" ? "" : reason.kind
  const words = [kind, causeText(reason.cause)].filter((text) => text !== "")
  return words.length === 0 ? "for an unknown reason" : words.join(": ")
}
