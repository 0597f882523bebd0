/**
 * The one model of a router behind every simulated router: its mapping table, the expiry of leases, its epoch and
 * external address, reboots, refusals and silence.
 *
 * It knows no protocol and no clock: whoever speaks for it passes the time, in milliseconds of whatever clock drives
 * the test. Protocol sides (`UpnpResponder`, `NatPmpResponder`, the mock layer) translate to and from it, so a quirk
 * of the table is the same whichever protocol meets it.
 *
 * @since 0.1.0
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as Quirk from "./Quirk.ts"

/**
 * The protocol that a request came by.
 *
 * @category models
 * @since 0.1.0
 */
export type Via = "upnp" | "natpmp" | "pcp" | "mock"

/**
 * One row of the mapping table.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry {
  readonly protocol: PortMapping.Protocol
  readonly externalPort: number
  readonly internalAddress: NetAddress.IpAddress
  readonly internalPort: number
  /** `undefined` is the wildcard. */
  readonly remoteHost: NetAddress.IpAddress | undefined
  readonly description: string
  readonly enabled: boolean
  /** In milliseconds; `undefined` is a permanent mapping. */
  readonly expiresAt: number | undefined
  readonly via: Via
  /** PCP's mapping nonce, in hexadecimal. */
  readonly nonce: string | undefined
}

/**
 * A request for a mapping. A lifetime of 0 is a permanent mapping where the protocol has any.
 *
 * @category models
 * @since 0.1.0
 */
export interface MapRequest {
  readonly via: Via
  /** Who asks, by the source address of the request. */
  readonly client: NetAddress.IpAddress
  readonly protocol: PortMapping.Protocol
  /** 0 leaves the choice to the router. */
  readonly externalPort: number
  /** Whether another port may be granted (NAT-PMP, PCP) or a taken one is a conflict (AddPortMapping). */
  readonly mayChoosePort: boolean
  readonly internalAddress: NetAddress.IpAddress
  readonly internalPort: number
  readonly remoteHost?: NetAddress.IpAddress | undefined
  readonly lifetimeSeconds: number
  readonly description?: string | undefined
  readonly enabled?: boolean | undefined
  readonly nonce?: string | undefined
}

/**
 * Why the router refuses; each protocol side has its own code for it.
 *
 * @category models
 * @since 0.1.0
 */
export type RefusalKind =
  | "Conflict"
  | "NotAuthorized"
  | "OutOfResources"
  | "OnlyPermanentLeases"
  | "SamePortRequired"
  | "RemoteHostWildcardOnly"
  | "ExternalPortWildcardOnly"
  | "InternalPortWildcardForbidden"
  | "NoSuchEntry"
  | "InvalidLifetime"
  | "NetworkFailure"
  | "ActionFailed"

/**
 * A refusal.
 *
 * @category models
 * @since 0.1.0
 */
export interface Refusal {
  readonly _tag: "Refusal"
  readonly kind: RefusalKind
}

/**
 * What a request did, for tests that count.
 *
 * @category models
 * @since 0.1.0
 */
export interface Asked {
  /** In milliseconds. */
  readonly at: number
  readonly via: Via
  readonly client: NetAddress.IpAddress
  /** In the protocol's own words: `"AddPortMapping"`, `"map"`, `"announce"`. */
  readonly action: string
  readonly isMutating: boolean
}

/**
 * How a router is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The router's address on the inside. Defaults to 192.168.77.1. */
  readonly address?: NetAddress.IpAddress | undefined
  /** Defaults to 11.22.33.1; `null` is a line without an address. */
  readonly externalAddress?: NetAddress.IpAddress | null | undefined
  /** Defaults to `"Simulated Router"`. */
  readonly name?: string | undefined
  /** How many mappings fit. Defaults to 256. */
  readonly capacity?: number | undefined
  /** The longest lease granted, in seconds. Defaults to one week. */
  readonly maxLifetimeSeconds?: number | undefined
  readonly quirks?: ReadonlyArray<Quirk.Quirk> | undefined
  /** When the router started, in milliseconds. Defaults to 0. */
  readonly startedAt?: number | undefined
}

const refusal = (kind: RefusalKind): Refusal => ({ _tag: "Refusal", kind })
const refuse = (kind: RefusalKind) => Result.fail(refusal(kind))

const defaultAddress = NetAddress.ipFromStringUnsafe("192.168.77.1")
const defaultExternalAddress = NetAddress.ipFromStringUnsafe("11.22.33.1")
const oneWeek = 604_800
/** Where ports that the router chooses begin. */
const firstDynamicPort = 49_152

/**
 * A router. Its state changes only through its methods; `entries` never shows a lease that has run out.
 *
 * @category models
 * @since 0.1.0
 */
export class RouterModel {
  readonly address: NetAddress.IpAddress
  readonly name: string
  readonly capacity: number
  readonly maxLifetimeSeconds: number
  readonly quirks: ReadonlySet<Quirk.Quirk>
  /** Everything that was asked of the router, the oldest first. */
  readonly asked: Array<Asked> = []
  externalAddress: NetAddress.IpAddress | undefined
  /** Counts the starts: what UPnP calls BOOTID. Its first value is 1. */
  bootId = 1
  #table: Array<Entry> = []
  #startedAt: number
  #refusals: Array<RefusalKind> = []
  #silentUntil = Number.NEGATIVE_INFINITY
  readonly #listeners = new Set<() => void>()

  constructor(options: Options = {}) {
    this.address = options.address ?? defaultAddress
    this.externalAddress =
      options.externalAddress === null ? undefined : (options.externalAddress ?? defaultExternalAddress)
    this.name = options.name ?? "Simulated Router"
    this.capacity = options.capacity ?? 256
    this.maxLifetimeSeconds = options.maxLifetimeSeconds ?? oneWeek
    this.quirks = new Set(options.quirks)
    this.#startedAt = options.startedAt ?? 0
  }

  /** Writes down that something was asked. */
  note(asked: Asked): void {
    this.asked.push(asked)
  }

  /** The mapping table. */
  entries(now: number): ReadonlyArray<Entry> {
    this.#table = this.#table.filter((entry) => entry.expiresAt === undefined || entry.expiresAt > now)
    return this.#table
  }

  /** Seconds since the router started, as NAT-PMP and PCP report them. */
  epochSeconds(now: number): number {
    return Math.max(0, Math.floor((now - this.#startedAt) / 1000))
  }

  /** Whether the router answers nothing at this time. */
  isSilent(now: number): boolean {
    return now < this.#silentUntil
  }

  /** Grants, extends or replaces a mapping. */
  map(now: number, request: MapRequest): Result.Result<Entry, Refusal> {
    const refused = this.#refusals.shift()
    if (refused !== undefined) return refuse(refused)
    if (this.externalAddress === undefined && request.via !== "upnp") return refuse("NetworkFailure")
    const known = this.#ownEntry(now, request)
    const externalPort = this.#portFor(now, request, known)
    if (externalPort === undefined) return refuse("Conflict")
    if (known === undefined && this.entries(now).length >= this.capacity) return refuse("OutOfResources")
    const entry: Entry = {
      protocol: request.protocol,
      externalPort,
      internalAddress: request.internalAddress,
      internalPort: request.internalPort,
      remoteHost: request.remoteHost,
      description: request.description ?? "",
      enabled: request.enabled ?? true,
      expiresAt: this.#expiry(now, request.lifetimeSeconds),
      via: request.via,
      nonce: request.nonce
    }
    this.#table = [...this.#table.filter((other) => other !== known && !isSameKey(other, entry)), entry]
    return Result.succeed(entry)
  }

  /** Deletes every row that the test picks; how many there were. */
  unmap(now: number, which: (entry: Entry) => boolean): number {
    const before = this.entries(now)
    this.#table = before.filter((entry) => !which(entry))
    return before.length - this.#table.length
  }

  /** Where a packet from the world to an external port goes; `undefined` where nothing is mapped. */
  forward(
    now: number,
    protocol: PortMapping.Protocol,
    externalPort: number,
    from: NetAddress.IpAddress
  ): NetAddress.InetAddress | undefined {
    const entry = this.entries(now).find(
      (one) =>
        one.enabled &&
        one.protocol === protocol &&
        one.externalPort === externalPort &&
        (one.remoteHost === undefined || Equal.equals(one.remoteHost, from))
    )
    return entry === undefined ? undefined : NetAddress.inetAddressUnsafe(entry.internalAddress, entry.internalPort)
  }

  /** Restarts: the epoch starts over and, unless it keeps them, the table is empty. */
  reboot(now: number, options: { readonly keepsTable?: boolean | undefined } = {}): void {
    this.#startedAt = now
    this.bootId += 1
    if (options.keepsTable !== true) this.#table = []
    this.#tell()
  }

  /** Gives the outside another address, or none. */
  changeExternalAddress(address: NetAddress.IpAddress | undefined): void {
    this.externalAddress = address
    this.#tell()
  }

  /** Refuses the next mapping requests, one for each kind given. */
  refuseNext(...kinds: ReadonlyArray<RefusalKind>): void {
    this.#refusals.push(...kinds)
  }

  /** Answers nothing until a time in milliseconds, by default for ever. */
  goSilent(until: number = Number.POSITIVE_INFINITY): void {
    this.#silentUntil = until
  }

  /** Answers again. */
  wake(): void {
    this.#silentUntil = Number.NEGATIVE_INFINITY
  }

  /** Hears of reboots and changes of the external address, for announcements; returns how to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }

  #expiry(now: number, lifetimeSeconds: number): number | undefined {
    if (lifetimeSeconds === 0) return undefined
    return now + Math.min(lifetimeSeconds, this.maxLifetimeSeconds) * 1000
  }

  /** The row that a repeated request renews: the same client's for the same internal port. */
  #ownEntry(now: number, request: MapRequest): Entry | undefined {
    return this.entries(now).find(
      (entry) =>
        entry.protocol === request.protocol &&
        entry.internalPort === request.internalPort &&
        Equal.equals(entry.internalAddress, request.internalAddress) &&
        (request.mayChoosePort || entry.externalPort === request.externalPort)
    )
  }

  #portFor(now: number, request: MapRequest, known: Entry | undefined): number | undefined {
    if (known !== undefined) return known.externalPort
    const isFree = (port: number) =>
      !this.entries(now).some((entry) => entry.protocol === request.protocol && entry.externalPort === port)
    if (request.externalPort !== 0 && isFree(request.externalPort)) return request.externalPort
    if (!request.mayChoosePort) return undefined
    for (let port = firstDynamicPort; port <= 65_535; port++) {
      if (isFree(port)) return port
    }
    return undefined
  }
}

const isSameKey = (self: Entry, that: Entry): boolean =>
  self.protocol === that.protocol &&
  self.externalPort === that.externalPort &&
  Equal.equals(self.remoteHost, that.remoteHost)
