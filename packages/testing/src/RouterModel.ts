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
import * as PeerFilter from "./PeerFilter.ts"
import * as PeerTable from "./PeerTable.ts"
import * as PinholeTable from "./PinholeTable.ts"
import type * as Quirk from "./Quirk.ts"
import * as SubscriptionTable from "./SubscriptionTable.ts"

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
  /** Who asked for it, by the source address of the request. */
  readonly client: NetAddress.IpAddress
  /** PCP's mapping nonce, in hexadecimal. */
  readonly nonce: string | undefined
  /** Whom it lets in, beside `remoteHost`: PCP's filters, none of them for everybody. */
  readonly filters: ReadonlyArray<PeerFilter.PeerFilter>
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
  /** Whom it lets in; by default everybody, also where there were filters before. */
  readonly filters?: ReadonlyArray<PeerFilter.PeerFilter> | undefined
}

/**
 * A request to keep a connection to a peer.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerRequest extends PeerTable.Flow {
  readonly via: Via
  /** Who asks, by the source address of the request. */
  readonly client: NetAddress.IpAddress
  /** 0 leaves the choice to the router. */
  readonly externalPort: number
  readonly lifetimeSeconds: number
  readonly nonce: string
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
  | "ExternalPortWildcardForbidden"
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
  /** The error code of an Internet Gateway Device: the kind's own, unless a quirk has it say another. */
  readonly igdCode: number
}

/**
 * The error codes of an Internet Gateway Device (UPnP Device Architecture 1.1 §3.2.2, WANIPConnection:1 §2.4 and
 * WANIPConnection:2 §2.5).
 *
 * @category constants
 * @since 0.1.0
 */
export const igdCodes: Readonly<Record<RefusalKind, number>> = {
  Conflict: 718,
  NotAuthorized: 606,
  OutOfResources: 728,
  OnlyPermanentLeases: 725,
  SamePortRequired: 724,
  RemoteHostWildcardOnly: 726,
  ExternalPortWildcardOnly: 727,
  ExternalPortWildcardForbidden: 716,
  InternalPortWildcardForbidden: 732,
  NoSuchEntry: 714,
  InvalidLifetime: 601,
  NetworkFailure: 501,
  ActionFailed: 501
}

/**
 * A request that arrived, for tests that count. It is there whether the router answered, was silent, or its answer got
 * lost; what is no request of any protocol that the router speaks may be missing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Asked {
  /** In milliseconds. */
  readonly at: number
  readonly via: Via
  readonly client: NetAddress.IpAddress
  /**
   * In the words of what it came by:
   *
   * - the mock layer: `"probe"`, `"map"`, `"renew"`, `"delete"`, `"list"`, `"externalAddress"`;
   * - UPnP: the name of the action (`"AddPortMapping"`), `"GET"` for a document, and `"M-SEARCH"` for a search, even
   *   for one that this router does not answer to;
   * - NAT-PMP: `"map"` for a renewal as well, `"delete"`, `"delete all"`, `"external address"`;
   * - PCP: `"map"` for a renewal as well, `"delete"`, `"peer"`, `"announce"`;
   * - both of these: what is wrong with a datagram that cannot be read, such as `"UnsupportedVersion"`.
   */
  readonly action: string
  /** Whether it is to change the table, whatever it is called: that does not depend on the protocol. */
  readonly isMutating: boolean
}

/**
 * How a router is made. The model takes what it is given: where that comes from elsewhere, `SimulatedRouter.make` checks
 * it first, as for the mock layer, and its handle has the model.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The router's address on the inside. Defaults to 192.168.77.1. */
  readonly address?: NetAddress.IpAddress | undefined
  /** Defaults to 11.22.33.1, or to what a quirk has it be; `null` is a line without an address. */
  readonly externalAddress?: NetAddress.IpAddress | null | undefined
  /** Defaults to `"Simulated Router"`. */
  readonly name?: string | undefined
  /** How many mappings fit, a whole number from 0. Defaults to 256. */
  readonly capacity?: number | undefined
  /** The longest lease granted, in seconds, at least 1; `Infinity` is no limit. Defaults to one week. */
  readonly maxLifetimeSeconds?: number | undefined
  /**
   * The version of the Internet Gateway Device that it is over UPnP. The second one knows more actions and the IPv6
   * firewall, and has no leases without an end. Defaults to 1, or to 2 where a quirk is of the second version only.
   */
  readonly igdVersion?: 1 | 2 | undefined
  /** What it does differently. Quirks of the network or the host are built around it: `Quirk.Profile` has a note. */
  readonly quirks?: ReadonlyArray<Quirk.Quirk> | undefined
  /**
   * When the router started, in milliseconds. Defaults to 0. A restart within two seconds of it shows in no epoch, so no
   * client over NAT-PMP or PCP notices it (RFC 6887 §8.5): an earlier start is what a real router has.
   */
  readonly startedAt?: number | undefined
}

/**
 * The longest lease that every router takes which takes none without an end, in seconds (WANIPConnection:2).
 *
 * @category constants
 * @since 0.1.0
 */
export const oneWeek = 604_800

/**
 * Where the ports begin that a router chooses by itself.
 *
 * @category constants
 * @since 0.1.0
 */
export const firstDynamicPort = 49_152

/**
 * So many requests a router remembers: more than a test looks at, and no more memory however long a router runs.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumAsked = 10_000

/**
 * The last port there is.
 *
 * @category constants
 * @since 0.1.0
 */
export const lastPort = 65_535

const refusal = (kind: RefusalKind, igdCode: number = igdCodes[kind]): Refusal => ({ _tag: "Refusal", kind, igdCode })

/** The older document knows neither leases that must end nor a firewall. */
const ofVersion2: ReadonlyArray<Quirk.Quirk> = [
  "RefusesPermanentLeases",
  "RefusesLeasesAboveOneWeek",
  "PinholeNeedsGlobalAddress"
]

const ip = NetAddress.ipFromStringUnsafe
const defaultAddress = ip("192.168.77.1")
const oneDay = 86_400_000
/** Searches over both families so close to each other are at once, and how long a router may need to recover from it. */
const atOnce = 1_000
const stupor = 30_000

/** The epoch of a router that jumps back does so every ten minutes. */
const epochCycle = 600

/** The shortest lease that RFC 6887 §15 recommends to grant, and the longest of routers that are mean with them. */
const twoMinutes = 120

/** What each quirk of the external address makes of it. */
const quirkyAddresses: ReadonlyArray<readonly [Quirk.Quirk, NetAddress.IpAddress | undefined]> = [
  ["ExternalAddressZero", ip("0.0.0.0")],
  ["ExternalAddressEmpty", undefined],
  ["ExternalAddressPrivate", ip("10.11.12.13")],
  ["ExternalAddressShared", ip("100.64.11.12")]
]

const defaultExternalAddress = (quirks: ReadonlySet<Quirk.Quirk>): NetAddress.IpAddress | undefined => {
  const quirky = quirkyAddresses.find(([quirk]) => quirks.has(quirk))
  return quirky === undefined ? ip("11.22.33.1") : quirky[1]
}

/** NAT-PMP and PCP have no words for most refusals of an Internet Gateway Device, and no permanent leases. */
const isIgd = (request: { readonly via: Via }): boolean => request.via === "upnp" || request.via === "mock"

type AnyRequest = Pick<
  MapRequest,
  "externalPort" | "internalPort" | "lifetimeSeconds" | "mayChoosePort" | "remoteHost" | "via"
>

interface Rule {
  readonly quirk: Quirk.Quirk
  readonly isBroken: (request: AnyRequest) => boolean
  readonly refusal: Refusal
}

const always = () => true
const isLimited = (request: AnyRequest) => isIgd(request) && request.lifetimeSeconds !== 0

/** As an external or an internal port: all of them, over UPnP. */
const everyPort = 0

const asksForEveryPort = (request: AnyRequest): boolean =>
  request.via === "upnp" && request.externalPort === everyPort && !request.mayChoosePort

/** What a router with a quirk refuses by the request alone, whatever its table holds. */
const rules: ReadonlyArray<Rule> = [
  { quirk: "ActionNotAuthorized", isBroken: always, refusal: refusal("NotAuthorized") },
  { quirk: "NoPortMapsAvailable", isBroken: always, refusal: refusal("OutOfResources") },
  { quirk: "TableFullIsActionFailed", isBroken: always, refusal: refusal("OutOfResources", 501) },
  { quirk: "ConflictWithOtherMechanisms", isBroken: isIgd, refusal: refusal("Conflict", 729) },
  { quirk: "OnlyPermanentLeases", isBroken: isLimited, refusal: refusal("OnlyPermanentLeases") },
  { quirk: "InvalidArgsForLeases", isBroken: isLimited, refusal: refusal("OnlyPermanentLeases", 402) },
  { quirk: "PermanentLeasesPileUp", isBroken: isLimited, refusal: refusal("OnlyPermanentLeases") },
  { quirk: "PermanentLeasesVanishOvernight", isBroken: isLimited, refusal: refusal("OnlyPermanentLeases") },
  {
    quirk: "RefusesPermanentLeases",
    isBroken: (request) => isIgd(request) && request.lifetimeSeconds === 0,
    refusal: refusal("InvalidLifetime")
  },
  {
    quirk: "RefusesLeasesAboveOneWeek",
    isBroken: (request) => isIgd(request) && request.lifetimeSeconds > oneWeek,
    refusal: refusal("InvalidLifetime")
  },
  {
    quirk: "SamePortValuesRequired",
    isBroken: (request) => isIgd(request) && request.externalPort !== request.internalPort,
    refusal: refusal("SamePortRequired")
  },
  {
    quirk: "RemoteHostOnlySupportsWildcard",
    isBroken: (request) => isIgd(request) && request.remoteHost !== undefined,
    refusal: refusal("RemoteHostWildcardOnly")
  },
  {
    quirk: "ExternalPortOnlySupportsWildcard",
    isBroken: (request) => isIgd(request) && request.externalPort !== 0,
    refusal: refusal("ExternalPortWildcardOnly")
  },
  {
    quirk: "WildCardNotPermittedInIntPort",
    isBroken: (request) => isIgd(request) && request.internalPort === 0,
    refusal: refusal("InternalPortWildcardForbidden")
  }
]

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
  readonly igdVersion: 1 | 2
  /** The IPv6 firewall, which is controlled over PCP and, on a router of the second version, over UPnP. */
  readonly pinholes: PinholeTable.PinholeTable
  /** The connections that PCP keeps open. */
  readonly peers = new PeerTable.PeerTable()
  /** Who has subscribed to events over UPnP. */
  readonly subscriptions = new SubscriptionTable.SubscriptionTable()
  /** The requests that arrived, the oldest first: the last `maximumAsked` of them. */
  readonly asked: Array<Asked> = []
  /** How many requests arrived that are not in `asked` any more. */
  forgottenAsked = 0
  externalAddress: NetAddress.IpAddress | undefined
  /** Counts the starts: what UPnP calls BOOTID. Its first value is 1. */
  bootId = 1
  /** Counts the changes of the mapping table: what UPnP calls SystemUpdateID. */
  updateId = 0
  /** How many answers have got lost on their way. */
  lostAnswers = 0
  /** How many connections have been made to its web server, where it has one with connections. */
  connections = 0
  #table: Array<Entry> = []
  #startedAt: number
  /** Since when PCP's epoch counts; `undefined` until somebody asks after a change of the external address. */
  #pcpStartedAt: number | undefined
  #clientsBefore: ReadonlyArray<NetAddress.IpAddress> = []
  #refusals: Array<RefusalKind> = []
  /** External ports that other hosts have, by protocol: they are in no table and cannot be had. */
  readonly #taken = new Set<string>()
  /** Those that whoever drives the router has taken, which are its to free. */
  readonly #held = new Set<string>()
  #hasBeenAsked = false
  /** How many nights have passed, for the quirks that lose every mapping in one. */
  #nights = 0
  #answersToLose = 0
  #silentUntil = Number.NEGATIVE_INFINITY
  #fullUntil = Number.NEGATIVE_INFINITY
  readonly #lastSearch = { Ipv4Address: Number.NEGATIVE_INFINITY, Ipv6Address: Number.POSITIVE_INFINITY }
  readonly #listeners = new Set<() => void>()

  constructor(options: Options = {}) {
    this.address = options.address ?? defaultAddress
    this.name = options.name ?? "Simulated Router"
    this.capacity = options.capacity ?? 256
    this.maxLifetimeSeconds = options.maxLifetimeSeconds ?? oneWeek
    this.quirks = new Set(options.quirks)
    this.igdVersion = options.igdVersion ?? (ofVersion2.some((quirk) => this.has(quirk)) ? 2 : 1)
    this.pinholes = new PinholeTable.PinholeTable({
      capacity: this.capacity,
      needsGlobalAddress: this.has("PinholeNeedsGlobalAddress")
    })
    this.externalAddress =
      options.externalAddress === null ? undefined : (options.externalAddress ?? defaultExternalAddress(this.quirks))
    this.#startedAt = options.startedAt ?? 0
    this.#pcpStartedAt = this.#startedAt
  }

  /** Whether the router has a quirk. */
  has(quirk: Quirk.Quirk): boolean {
    return this.quirks.has(quirk)
  }

  /** Writes down that something was asked which has no answer of its own, as a search. */
  note(asked: Asked): void {
    this.asked.push(asked)
    if (this.asked.length <= maximumAsked) return
    this.asked.shift()
    this.forgottenAsked += 1
  }

  /**
   * Hears a request and does what it asks. `undefined` where nothing comes back: it is not heard at all while the router
   * is silent, and an answer may be one that is to get lost.
   */
  serve<A>(asked: Asked, answer: () => A | undefined): A | undefined {
    this.note(asked)
    if (this.isSilent(asked.at)) return undefined
    const answered = answer()
    if (answered === undefined || this.#answersToLose === 0) return answered
    this.#answersToLose -= 1
    this.lostAnswers += 1
    return undefined
  }

  /** The mapping table, the oldest row first: what is renewed or changed keeps its place. */
  entries(now: number): ReadonlyArray<Entry> {
    this.#passNights(now)
    const isOver = (entry: Entry) => entry.expiresAt !== undefined && entry.expiresAt <= now
    if (this.#table.some(isOver)) this.#drop(isOver)
    return this.#table
  }

  /** Hears a search over UPnP: a router may not bear that both families of addresses search at once. */
  searched(now: number, client: NetAddress.IpAddress): void {
    this.#lastSearch[client._tag] = now
    if (!this.has("FailsWhenFamiliesSearchAtOnce")) return
    const { Ipv4Address, Ipv6Address } = this.#lastSearch
    if (Math.abs(Ipv4Address - Ipv6Address) < atOnce) this.goSilent(Math.max(this.#silentUntil, now + stupor))
  }

  /** Seconds since the router started, as NAT-PMP reports them. */
  epochSeconds(now: number): number {
    return this.#toldSeconds(now, this.#startedAt)
  }

  /**
   * Seconds as PCP reports them: since the router started or, after another external address, since it was first asked
   * or said so itself (RFC 6887 §8.5).
   */
  pcpEpochSeconds(now: number): number {
    this.#pcpStartedAt ??= now
    return this.#toldSeconds(now, this.#pcpStartedAt)
  }

  /** The hosts that have something from PCP here, each once: who may be told what becomes of it (RFC 6887 §14). */
  pcpClients(now: number): ReadonlyArray<NetAddress.IpAddress> {
    const entries = this.entries(now).filter(({ nonce }) => nonce !== undefined)
    const pinholes = this.pinholes.entries(now).filter(({ nonce }) => nonce !== undefined)
    const clients = [...entries, ...pinholes, ...this.peers.entries(now)].map(({ client }) => client)
    return clients.filter((one, index) => clients.findIndex((other) => Equal.equals(one, other)) === index)
  }

  /** The hosts that had something from PCP here when the router last restarted: it remembers whom it served. */
  get pcpClientsBefore(): ReadonlyArray<NetAddress.IpAddress> {
    return this.#clientsBefore
  }

  /** Whether the router answers nothing at this time. */
  isSilent(now: number): boolean {
    return now < this.#silentUntil
  }

  /** Grants, extends or replaces a mapping. */
  map(now: number, request: MapRequest): Result.Result<Entry, Refusal> {
    const refused = this.#refusalOf(request)
    if (refused !== undefined) return Result.fail(refused)
    if (asksForEveryPort(request) && !this.has("ExternalPortOnlySupportsWildcard")) {
      return Result.fail(refusal("ExternalPortWildcardForbidden"))
    }
    this.#takeFirstPort(request)
    const known = this.#ownEntry(now, request)
    const externalPort = this.#portFor(now, request, known)
    if (externalPort === undefined) return Result.fail(refusal("Conflict"))
    if (known === undefined && this.#isFull(now)) return Result.fail(refusal("OutOfResources"))
    const granted: Entry = {
      protocol: request.protocol,
      externalPort,
      internalAddress: request.internalAddress,
      internalPort: request.internalPort,
      remoteHost: request.remoteHost,
      description: request.description ?? "",
      enabled: request.enabled ?? true,
      expiresAt: this.#expiry(now, request),
      via: request.via,
      client: request.client,
      nonce: request.nonce,
      filters: request.filters ?? []
    }
    const kept = { ...granted, expiresAt: this.#trueExpiry(now, granted) }
    this.#put(kept, known)
    return Result.succeed(granted)
  }

  /** Opens a pinhole in the IPv6 firewall, or gives it a new lease, where the router grants anything at all. */
  mapPinhole(
    now: number,
    request: Omit<PinholeTable.Request, "leaseSeconds"> & { readonly via: Via; readonly lifetimeSeconds: number }
  ): Result.Result<PinholeTable.Pinhole, Refusal | PinholeTable.Refusal> {
    const { lifetimeSeconds, via, ...flow } = request
    const { internalPort } = flow
    const asked = { via, internalPort, externalPort: internalPort, mayChoosePort: false, lifetimeSeconds }
    const refused = this.#refusalOf(asked, { needsExternalAddress: false })
    if (refused !== undefined) return Result.fail(refused)
    return this.pinholes.add(now, { ...flow, leaseSeconds: this.#granted(asked) })
  }

  /** Keeps a connection to a peer, or gives it a new lease: its port is that of whatever else the same host has there. */
  peer(now: number, request: PeerRequest): Result.Result<PeerTable.Peer, Refusal> {
    const refused = this.#refusalOf({ ...request, mayChoosePort: true })
    if (refused !== undefined) return Result.fail(refused)
    const { externalPort: suggested, lifetimeSeconds: _, via: __, ...flow } = request
    const isKnown = this.peers.find(now, flow) !== undefined
    if (!isKnown && this.#isFull(now)) return Result.fail(refusal("OutOfResources"))
    const own = this.entries(now).find((entry) => isSameInternalEnd(entry, flow))?.externalPort
    const externalPort = own ?? this.peers.portOf(now, flow) ?? this.#freePort(now, flow.protocol, suggested)
    if (externalPort === undefined) return Result.fail(refusal("OutOfResources"))
    const peer: PeerTable.Peer = { ...flow, externalPort, expiresAt: now + this.#granted(request) * 1000 }
    this.peers.put(now, peer)
    return Result.succeed(peer)
  }

  /** Something else has an external port from now on: its rows are gone, and who asks for it meets a conflict. */
  takePort(one: Pick<Entry, "protocol" | "externalPort">): void {
    this.#held.add(portName(one))
    this.#drop((entry) => portName(entry) === portName(one))
  }

  /** An external port that was taken by `takePort` can be had again. */
  freePort(one: Pick<Entry, "protocol" | "externalPort">): void {
    this.#held.delete(portName(one))
  }

  /** Whether something else has an external port. */
  isTaken(one: Pick<Entry, "protocol" | "externalPort">): boolean {
    return this.#held.has(portName(one)) || this.#taken.has(portName(one))
  }

  /** Deletes every row that the test picks; how many there were, as far as the router tells. */
  unmap(now: number, which: (entry: Entry) => boolean): number {
    const deleted = this.entries(now).filter(which)
    this.#drop((entry) => deleted.includes(entry))
    return this.has("DeletionSaysNoSuchEntry") ? 0 : deleted.length
  }

  /**
   * Where a packet from the world to an external port goes; `undefined` where nothing is mapped. Without the sender's
   * port it does not come through a filter for one port, nor as a peer's.
   */
  forward(
    now: number,
    protocol: PortMapping.Protocol,
    externalPort: number,
    from: NetAddress.IpAddress,
    fromPort?: number
  ): NetAddress.InetAddress | undefined {
    const sender = { address: from, port: fromPort }
    const open = this.entries(now).filter(
      (one) =>
        one.enabled &&
        one.protocol === protocol &&
        (one.remoteHost === undefined || Equal.equals(one.remoteHost, from)) &&
        PeerFilter.admits(one.filters, sender)
    )
    // A mapping of every port has those that no other one has.
    const entry =
      open.find((one) => one.externalPort === externalPort) ?? open.find((one) => one.externalPort === everyPort)
    if (entry === undefined) {
      const { port } = sender
      if (port === undefined) return undefined
      return this.peers.forward(now, protocol, externalPort, NetAddress.inetAddressUnsafe(from, port))
    }
    const port = entry.internalPort === everyPort ? externalPort : entry.internalPort
    return NetAddress.inetAddressUnsafe(entry.internalAddress, port)
  }

  /**
   * Restarts: the epoch starts over and, unless it keeps them (by a quirk, or told so), the mappings are gone, those of
   * other hosts too.
   */
  reboot(now: number, options: { readonly keepsTable?: boolean | undefined } = {}): void {
    // What was gone before the restart does not come back with what is kept.
    this.entries(now)
    this.#clientsBefore = this.pcpClients(now)
    this.#startedAt = now
    this.#pcpStartedAt = now
    this.#nights = 0
    this.bootId += 1
    // Nobody who had subscribed is known any more, whatever is kept.
    this.subscriptions.clear()
    if (!(options.keepsTable ?? this.has("RestartKeepsTable"))) {
      this.#setTable([])
      this.#taken.clear()
      this.pinholes.clear()
      this.peers.clear()
    }
    this.#tell()
  }

  /** Gives the outside another address, or none. */
  changeExternalAddress(address: NetAddress.IpAddress | undefined): void {
    if (!Equal.equals(address, this.externalAddress)) this.#pcpStartedAt = undefined
    this.externalAddress = address
    this.#tell()
  }

  /** Refuses the next mapping requests, one for each kind given. */
  refuseNext(...kinds: ReadonlyArray<RefusalKind>): void {
    this.#refusals.push(...kinds)
  }

  /** Has no place for a new mapping until a time in milliseconds, as if other hosts had taken all; at 0 it has some again. */
  fill(until: number): void {
    this.#fullUntil = until
  }

  /** Answers nothing until a time in milliseconds, by default for ever. */
  goSilent(until: number = Number.POSITIVE_INFINITY): void {
    this.#silentUntil = until
  }

  /** Answers again. */
  wake(): void {
    this.#silentUntil = Number.NEGATIVE_INFINITY
  }

  /**
   * Does what the next request asks, and has its answer get lost on the way: any answer to a call, a description, or a
   * NAT-PMP or PCP request, but not those to a search, which are many.
   */
  loseNextAnswer(): void {
    this.#answersToLose += 1
  }

  /** Hears of reboots and changes of the external address, for announcements; returns how to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }

  /** An epoch as it is told. */
  #toldSeconds(now: number, start: number): number {
    if (this.has("EpochStandsStill")) return 0
    const seconds = Math.max(0, Math.floor((now - start) / 1000))
    return this.has("EpochJumpsBack") ? seconds % epochCycle : seconds
  }

  /** Why a request is refused whatever the table holds. */
  #refusalOf(request: AnyRequest, { needsExternalAddress = !isIgd(request) } = {}): Refusal | undefined {
    const refused = this.#refusals.shift()
    if (refused !== undefined) return refusal(refused)
    // Over UPnP a router without an address maps all the same (RFC 6886 §3.5 has an answer for it).
    if (this.externalAddress === undefined && needsExternalAddress) return refusal("NetworkFailure")
    return rules.find((one) => this.has(one.quirk) && one.isBroken(request))?.refusal
  }

  #isFull(now: number): boolean {
    return now < this.#fullUntil || this.entries(now).length + this.peers.entries(now).length >= this.capacity
  }

  /** How long a limited lease is, in seconds. */
  #granted(request: Pick<MapRequest, "lifetimeSeconds" | "via">): number {
    const lifetimeSeconds = Math.min(request.lifetimeSeconds, this.maxLifetimeSeconds)
    // Over UPnP nobody would be told.
    if (isIgd(request)) return lifetimeSeconds
    if (this.has("LeasesAtLeastTwoMinutes")) return Math.max(lifetimeSeconds, twoMinutes)
    return this.has("LeasesAtMostTwoMinutes") ? Math.min(lifetimeSeconds, twoMinutes) : lifetimeSeconds
  }

  #expiry(now: number, request: MapRequest): number | undefined {
    const { lifetimeSeconds } = request
    if (lifetimeSeconds > 0) return now + this.#granted(request) * 1000
    // WANIPConnection:2 §2.3.19: what was without an end ends after a week.
    return request.via === "upnp" && this.igdVersion === 2 ? now + oneWeek * 1000 : undefined
  }

  /** What becomes of the end of a lease that the answer promised. */
  #trueExpiry(now: number, granted: Entry): number | undefined {
    if (this.has("NeverForgets")) return undefined
    // Who has no leases without an end could not cope with that.
    const isGone = this.has("ExpiresLeasesAtOnce") && isIgd(granted) && granted.expiresAt !== undefined
    return isGone ? now : granted.expiresAt
  }

  #passNights(now: number): void {
    if (!this.has("LeasesVanishOvernight") && !this.has("PermanentLeasesVanishOvernight")) return
    const nights = Math.floor((now - this.#startedAt) / oneDay)
    if (nights <= this.#nights) return
    this.#nights = nights
    this.#setTable([])
  }

  /** In the place of the row that it renews, or at the end. */
  #put(entry: Entry, known: Entry | undefined): void {
    const rows = this.#table.filter((other) => other === known || !isSameKey(other, entry))
    this.#setTable(known === undefined ? [...rows, entry] : rows.map((other) => (other === known ? entry : other)))
  }

  #drop(which: (entry: Entry) => boolean): void {
    if (this.has("FreedPortsAreTaken")) {
      for (const entry of this.#table.filter(which)) this.#taken.add(portName(entry))
    }
    this.#setTable(this.#table.filter((entry) => !which(entry)))
  }

  #setTable(table: Array<Entry>): void {
    this.#table = table
    this.updateId += 1
  }

  /** The first port that is ever asked for turns out to be another host's. */
  #takeFirstPort(request: MapRequest): void {
    if (this.#hasBeenAsked || request.externalPort === 0) return
    this.#hasBeenAsked = true
    if (this.has("ConflictInMappingEntry") || this.has("PermanentLeasesPileUp")) this.#taken.add(portName(request))
  }

  /** The row that a repeated request renews or changes: the same client's, and of several the one with its nonce. */
  #ownEntry(now: number, request: MapRequest): Entry | undefined {
    const rows = this.entries(now)
    const own = rows.filter((entry) => isOwn(entry, request))
    const known = own.find((entry) => entry.nonce === request.nonce) ?? own[0]
    const mayBeElsewhere = isIgd(request) && request.mayChoosePort && !this.has("PermanentLeasesPileUp")
    if (known !== undefined || !mayBeElsewhere || this.#isFree(now, request)) return known
    // Who is given another port than the wanted one is given the same one again.
    return rows.find((entry) => leadsThere(entry, request))
  }

  #isFree(now: number, wanted: Pick<MapRequest, "externalPort" | "protocol">): boolean {
    if (wanted.externalPort === 0 || this.isTaken(wanted)) return false
    return !this.entries(now).some((one) => portName(one) === portName(wanted))
  }

  #portFor(now: number, request: MapRequest, known: Entry | undefined): number | undefined {
    if (known !== undefined) return known.externalPort
    if (asksForEveryPort(request)) {
      return this.entries(now).some((one) => portName(one) === portName(request)) ? undefined : everyPort
    }
    const isFree = this.#freePorts(now, request.protocol)
    if (this.has("SamePortValuesRequired")) return isFree(request.internalPort) ? request.internalPort : undefined
    // A host's connections and its mappings go by one port.
    const own = isIgd(request) ? undefined : this.peers.portOf(now, request)
    if (own !== undefined) return request.mayChoosePort || own === request.externalPort ? own : undefined
    if (this.has("GrantsOtherPorts") && !isIgd(request)) return this.#freePort(now, request.protocol, 0)
    if (request.mayChoosePort) return this.#freePort(now, request.protocol, request.externalPort)
    return request.externalPort !== 0 && isFree(request.externalPort) ? request.externalPort : undefined
  }

  /** Whether a port is free, whatever the remote host: an external port leads to one place. */
  #freePorts(now: number, protocol: PortMapping.Protocol): (externalPort: number) => boolean {
    const mapped = new Set([...this.entries(now), ...this.peers.entries(now)].map(portName))
    return (externalPort) => {
      const one = { protocol, externalPort }
      return !mapped.has(portName(one)) && !this.isTaken(one)
    }
  }

  /** The suggested port where it is one and free, else one that the router chooses. */
  #freePort(now: number, protocol: PortMapping.Protocol, suggested: number): number | undefined {
    const isFree = this.#freePorts(now, protocol)
    if (suggested !== 0 && isFree(suggested)) return suggested
    for (let port = firstDynamicPort; port <= lastPort; port++) {
      if (isFree(port)) return port
    }
    return undefined
  }
}

/** Mappings of the internal end of a connection. */
const isSameInternalEnd = (entry: Entry, end: Omit<PeerTable.Flow, "remote">): boolean =>
  entry.protocol === end.protocol &&
  entry.internalPort === end.internalPort &&
  Equal.equals(entry.internalAddress, end.internalAddress)

const portName = (one: { readonly protocol: PortMapping.Protocol; readonly externalPort: number }): string =>
  `${one.externalPort}/${one.protocol}`

const isOwn = (entry: Entry, request: MapRequest): boolean => {
  if (entry.protocol !== request.protocol || !Equal.equals(entry.internalAddress, request.internalAddress)) return false
  // NAT-PMP and PCP know a mapping by its internal port, UPnP by its external one and the remote host.
  return isIgd(request)
    ? entry.externalPort === request.externalPort && Equal.equals(entry.remoteHost, request.remoteHost)
    : entry.internalPort === request.internalPort && (!isIgd(entry) || entry.externalPort === request.externalPort)
}

/** Whether a row leads where a request is to lead, from whatever port. */
const leadsThere = (entry: Entry, request: MapRequest): boolean =>
  entry.protocol === request.protocol &&
  entry.internalPort === request.internalPort &&
  Equal.equals(entry.internalAddress, request.internalAddress) &&
  Equal.equals(entry.remoteHost, request.remoteHost)

const isSameKey = (self: Entry, that: Entry): boolean =>
  self.protocol === that.protocol &&
  self.externalPort === that.externalPort &&
  Equal.equals(self.remoteHost, that.remoteHost)
