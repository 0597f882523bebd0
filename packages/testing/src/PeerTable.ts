/**
 * The connections of hosts behind a simulated router that PCP's PEER keeps open (RFC 6887 §12): each leads the packets
 * of one peer to the port that talks to it.
 *
 * It knows no protocol and no clock, like the rest of the model, and no ports either: `RouterModel.peer` chooses them.
 *
 * @since 0.1.0
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"

/**
 * A connection, seen from the inside.
 *
 * @category models
 * @since 0.1.0
 */
export interface Flow {
  readonly protocol: PortMapping.Protocol
  readonly internalAddress: NetAddress.IpAddress
  readonly internalPort: number
  readonly remote: NetAddress.InetAddress
}

/**
 * A connection that is kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface Peer extends Flow {
  readonly externalPort: number
  /** In milliseconds. */
  readonly expiresAt: number
  /** Who asked for it, by the source address of the request. */
  readonly client: NetAddress.IpAddress
  /** PCP's mapping nonce, in hexadecimal. */
  readonly nonce: string
}

const isSameEnd = (self: Omit<Flow, "remote">, that: Omit<Flow, "remote">): boolean =>
  self.protocol === that.protocol &&
  self.internalPort === that.internalPort &&
  Equal.equals(self.internalAddress, that.internalAddress)

const isSameFlow = (self: Flow, that: Flow): boolean => isSameEnd(self, that) && Equal.equals(self.remote, that.remote)

/**
 * The connections of one router.
 *
 * @category models
 * @since 0.1.0
 */
export class PeerTable {
  #peers: ReadonlyArray<Peer> = []

  /** The connections that are kept, the oldest first. */
  entries(now: number): ReadonlyArray<Peer> {
    this.#peers = this.#peers.filter(({ expiresAt }) => expiresAt > now)
    return this.#peers
  }

  /** One connection; `undefined` where it is not kept. */
  find(now: number, flow: Flow): Peer | undefined {
    return this.entries(now).find((one) => isSameFlow(one, flow))
  }

  /** The external port of an internal end, which is the same to every peer; `undefined` where none is kept. */
  portOf(now: number, end: Omit<Flow, "remote">): number | undefined {
    return this.entries(now).find((one) => isSameEnd(one, end))?.externalPort
  }

  /** Keeps a connection, in the place of what was known of it. */
  put(now: number, peer: Peer): void {
    const others = this.entries(now).filter((one) => !isSameFlow(one, peer))
    this.#peers = [...others, peer]
  }

  /** Lets a connection have its usual lifetime again, which is none here. */
  remove(now: number, flow: Flow): void {
    this.#peers = this.entries(now).filter((one) => !isSameFlow(one, flow))
  }

  /** Where a packet of a peer goes; `undefined` where it is nobody's. */
  forward(
    now: number,
    protocol: PortMapping.Protocol,
    externalPort: number,
    from: NetAddress.InetAddress
  ): NetAddress.InetAddress | undefined {
    const peer = this.entries(now).find(
      (one) => one.protocol === protocol && one.externalPort === externalPort && Equal.equals(one.remote, from)
    )
    return peer === undefined ? undefined : NetAddress.inetAddressUnsafe(peer.internalAddress, peer.internalPort)
  }

  /** Forgets them all. */
  clear(): void {
    this.#peers = []
  }
}
