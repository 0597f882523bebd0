/**
 * The pinholes in the IPv6 firewall of a simulated router: which packets from the world it lets through to which host
 * (WANIPv6FirewallControl:1, and MAP and PEER of PCP for IPv6 hosts). Nothing is translated.
 *
 * It knows no protocol and no clock, like the rest of the model.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as PeerFilter from "./PeerFilter.ts"

/**
 * The packets that a pinhole is for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Flow {
  /** `undefined` is any. */
  readonly remoteHost: NetAddress.IpAddress | undefined
  /** 0 is any. */
  readonly remotePort: number
  readonly internalClient: NetAddress.IpAddress
  readonly internalPort: number
  /** As IP numbers them: 6 is TCP, 17 is UDP. */
  readonly protocol: number
}

/**
 * A request for a pinhole.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request extends Flow {
  /** Who asks, by the source address of the request. */
  readonly client: NetAddress.IpAddress
  readonly leaseSeconds: number
  /** PCP's mapping nonce, in hexadecimal; `undefined` over UPnP. */
  readonly nonce?: string | undefined
  /** Whom it lets in, beside what the flow says; by default everybody. */
  readonly filters?: ReadonlyArray<PeerFilter.PeerFilter> | undefined
}

/**
 * A pinhole.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pinhole extends Flow {
  /** From 0 to 65535. */
  readonly uniqueId: number
  /** In milliseconds. */
  readonly expiresAt: number
  /** How many packets came in through it. */
  readonly packets: number
  /** Who opened it. */
  readonly client: NetAddress.IpAddress
  /** PCP's mapping nonce, in hexadecimal; `undefined` over UPnP. */
  readonly nonce: string | undefined
  readonly filters: ReadonlyArray<PeerFilter.PeerFilter>
}

/**
 * A packet from the world.
 *
 * @category models
 * @since 0.1.0
 */
export interface Packet {
  readonly protocol: number
  readonly from: NetAddress.InetAddress
  readonly to: NetAddress.InetAddress
}

/**
 * Why the firewall refuses.
 *
 * @category models
 * @since 0.1.0
 */
export type Refusal =
  | "NotAuthorized"
  | "SpaceExhausted"
  | "FirewallDisabled"
  | "InboundPinholeNotAllowed"
  | "NoSuchEntry"
  | "ProtocolNotSupported"
  | "InternalPortWildcard"
  | "ProtocolWildcard"
  | "NoPacketSent"

/**
 * The error codes of an Internet Gateway Device (WANIPv6FirewallControl:1 §2.6, UPnP Device Architecture 1.1 §3.2.2).
 *
 * @category constants
 * @since 0.1.0
 */
export const igdCodes: Readonly<Record<Refusal, number>> = {
  NotAuthorized: 606,
  SpaceExhausted: 701,
  FirewallDisabled: 702,
  InboundPinholeNotAllowed: 703,
  NoSuchEntry: 704,
  ProtocolNotSupported: 705,
  InternalPortWildcard: 706,
  ProtocolWildcard: 707,
  NoPacketSent: 709
}

/**
 * How a table is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How many pinholes fit. */
  readonly capacity: number
  /** Whether a pinhole may only lead to the host that asks for it, at a global unicast address. */
  readonly needsGlobalAddress: boolean
}

/** 2000::/3, which is all that is given out (RFC 4291 §2.4). */
const isGlobalUnicast = (address: NetAddress.IpAddress): boolean =>
  NetAddress.isIpv6Address(address) && (NetAddress.ipv6ToSegments(address)[0] & 0xe000) === 0x2000

const anyProtocol = 65_535
const protocols: ReadonlySet<number> = new Set([6, 17])
const lastId = 65_535

const isSameFlow = (self: Flow, that: Flow): boolean =>
  self.protocol === that.protocol &&
  self.internalPort === that.internalPort &&
  self.remotePort === that.remotePort &&
  Equal.equals(self.internalClient, that.internalClient) &&
  Equal.equals(self.remoteHost, that.remoteHost)

const admits = (pinhole: Pinhole, { from, protocol, to }: Packet): boolean =>
  pinhole.protocol === protocol &&
  pinhole.internalPort === to.port &&
  Equal.equals(pinhole.internalClient, to.address) &&
  (pinhole.remotePort === 0 || pinhole.remotePort === from.port) &&
  (pinhole.remoteHost === undefined || Equal.equals(pinhole.remoteHost, from.address)) &&
  PeerFilter.admits(pinhole.filters, from)

/**
 * The pinholes of one router, and its firewall.
 *
 * @category models
 * @since 0.1.0
 */
export class PinholeTable {
  readonly #options: Options
  #pinholes: ReadonlyArray<Pinhole> = []
  #nextId = 0
  /** Whether there is a firewall at work; without one every packet comes in. */
  isEnabled = true
  /** Whether pinholes may be opened. */
  isInboundPinholeAllowed = true

  constructor(options: Options) {
    this.#options = options
  }

  /** The pinholes that are open, the oldest first. */
  entries(now: number): ReadonlyArray<Pinhole> {
    this.#pinholes = this.#pinholes.filter(({ expiresAt }) => expiresAt > now)
    return this.#pinholes
  }

  /** Opens a pinhole; where there is one for the same packets, it is given the new lease. */
  add(now: number, { client, filters, leaseSeconds, nonce, ...flow }: Request): Result.Result<Pinhole, Refusal> {
    const refusal = this.#refusalOf(client, flow)
    if (refusal !== undefined) return Result.fail(refusal)
    const expiresAt = now + leaseSeconds * 1000
    const known = this.findFlow(now, flow)
    if (known !== undefined) {
      return Result.succeed(this.#replace(known, { ...known, expiresAt, nonce, filters: filters ?? known.filters }))
    }
    const uniqueId = this.#freeId(now)
    if (uniqueId === undefined) return Result.fail("SpaceExhausted")
    const pinhole: Pinhole = { ...flow, uniqueId, packets: 0, expiresAt, client, nonce, filters: filters ?? [] }
    this.#pinholes = [...this.#pinholes, pinhole]
    return Result.succeed(pinhole)
  }

  /** One pinhole. */
  find(now: number, uniqueId: number): Result.Result<Pinhole, Refusal> {
    const found = this.entries(now).find((one) => one.uniqueId === uniqueId)
    return found === undefined ? Result.fail("NoSuchEntry") : Result.succeed(found)
  }

  /** The pinhole that is for just these packets; `undefined` where there is none. */
  findFlow(now: number, flow: Flow): Pinhole | undefined {
    return this.entries(now).find((one) => isSameFlow(one, flow))
  }

  /** Gives a pinhole a new lease, which begins now. */
  update(now: number, uniqueId: number, leaseSeconds: number): Result.Result<Pinhole, Refusal> {
    return Result.map(this.find(now, uniqueId), (pinhole) =>
      this.#replace(pinhole, { ...pinhole, expiresAt: now + leaseSeconds * 1000 })
    )
  }

  /** Closes a pinhole. */
  remove(now: number, uniqueId: number): Result.Result<void, Refusal> {
    return Result.map(this.find(now, uniqueId), (pinhole) => {
      this.#pinholes = this.#pinholes.filter((one) => one !== pinhole)
    })
  }

  /** Whether a packet from the world comes in; counts it. */
  admit(now: number, packet: Packet): boolean {
    if (!this.isEnabled) return true
    const pinhole = this.entries(now).find((one) => admits(one, packet))
    if (pinhole === undefined) return false
    this.#replace(pinhole, { ...pinhole, packets: pinhole.packets + 1 })
    return true
  }

  /** Closes them all. */
  clear(): void {
    this.#pinholes = []
  }

  #refusalOf(client: NetAddress.IpAddress, { internalClient, internalPort, protocol }: Flow): Refusal | undefined {
    if (!this.isEnabled) return "FirewallDisabled"
    if (!this.isInboundPinholeAllowed) return "InboundPinholeNotAllowed"
    if (protocol === anyProtocol) return "ProtocolWildcard"
    if (!protocols.has(protocol)) return "ProtocolNotSupported"
    if (internalPort === 0) return "InternalPortWildcard"
    if (!this.#options.needsGlobalAddress) return undefined
    return isGlobalUnicast(internalClient) && Equal.equals(internalClient, client) ? undefined : "NotAuthorized"
  }

  /** Ids that were given out are not given out again soon: whoever has an old one must not meet another's pinhole. */
  #freeId(now: number): number | undefined {
    const entries = this.entries(now)
    if (entries.length >= this.#options.capacity || entries.length > lastId) return undefined
    while (entries.some(({ uniqueId }) => uniqueId === this.#nextId)) this.#nextId = (this.#nextId + 1) % (lastId + 1)
    const free = this.#nextId
    this.#nextId = (free + 1) % (lastId + 1)
    return free
  }

  #replace(pinhole: Pinhole, by: Pinhole): Pinhole {
    this.#pinholes = this.#pinholes.map((one) => (one === pinhole ? by : one))
    return by
  }
}
