/**
 * What is known of the gateways around: where each is described, until when, and what changed. It has neither sockets
 * nor a clock; whoever uses it does what it asks for.
 */
import type * as NatError from "@effect-nat/core/NatError"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as DeviceDescription from "../DeviceDescription.ts"
import * as HttpUrl from "../HttpUrl.ts"
import type * as UpnpGateway from "../UpnpGateway.ts"
import * as Targets from "./ssdpTargets.ts"

/** An answer or an announcement: at this place something is described. */
export interface Sighting {
  readonly from: NetAddress.Ipv4Address
  readonly location: HttpUrl.HttpUrl
  readonly isDefaultGateway: boolean
  /** What it says it is (ST, NT). */
  readonly target: string
  readonly usn: string
  /** In seconds. */
  readonly maxAge: number | undefined
  readonly bootId: number | undefined
  readonly configId: number | undefined
  /** Where it listens for unicast searches, if not where all do. */
  readonly searchPort?: number | undefined
  /** Whether it was asked for: then it was let through already. */
  readonly isAnswer: boolean
}

export interface KnownGateway extends UpnpGateway.Described {
  readonly isDefaultGateway: boolean
  /** Another one after each restart; `undefined` where the gateway says none. */
  readonly bootId: number | undefined
  /** Another one where the description has changed; `undefined` where the gateway says none. */
  readonly configId: number | undefined
}

export interface Found {
  readonly _tag: "Found"
  readonly gateway: KnownGateway
}

export interface Updated {
  readonly _tag: "Updated"
  readonly gateway: KnownGateway
  /** What was reported of it before. */
  readonly previous: KnownGateway
  /** It has another boot id: its port mappings may be lost. */
  readonly isRestarted: boolean
  /** Its description is elsewhere, and its services may be. */
  readonly isMoved: boolean
  /** Its description is another one. */
  readonly isReconfigured: boolean
}

/**
 * It says that it goes; it was silent for longer than it said; it was not found again; it maps no ports any more; this
 * host has left its network.
 */
export type GoneReason = "ByeBye" | "Expired" | "NotFoundAgain" | "MapsNothing" | "OutOfReach"

export interface Gone {
  readonly _tag: "Gone"
  /** As it was known last. */
  readonly gateway: KnownGateway
  readonly why: GoneReason
}

export type Change = Found | Updated | Gone

/** A place and what is known of it. Times are in milliseconds. */
export interface Place {
  readonly key: string
  sighting: Sighting
  readonly uuids: Set<string>
  seenAt: number
  expiresAt: number
  state: "new" | "fetching" | "settled"
  failedAt: number | undefined
  /** The ids under which it was described last. */
  bootId: number | undefined
  configId: number | undefined
  known: KnownGateway | undefined
}

const maximumPlaces = 16
const maximumPerAddress = 4
/** A gateway has three devices, each with its own. */
const maximumUuids = 16

const minute = 60_000
/**
 * What a device that does not say may be taken to mean: the least that UPnP Device Architecture 1.1 §1.2.2 asks for.
 */
const defaultMaxAge = 1800
const shortestMaxAge = 60
const longestMaxAge = 86_400

const fetchesPerAddress = 6
const fetchesOfAll = 60
const retryAfter = 10_000

const lifetime = (maxAge: number | undefined): number =>
  Math.min(Math.max(maxAge ?? defaultMaxAge, shortestMaxAge), longestMaxAge) * 1000

const isOther = (one: number | undefined, other: number | undefined): boolean =>
  one !== undefined && other !== undefined && one !== other

/** Real ones have 41 characters. */
const maximumUuidLength = 128

/** The part of a unique service name that names the device. */
const uuidOf = (usn: string): string => (usn.split("::")[0] ?? "").trim().toLowerCase().slice(0, maximumUuidLength)

const udns = (device: DeviceDescription.Device): ReadonlyArray<string> => [
  device.udn.toLowerCase(),
  ...device.devices.flatMap(udns)
]

/** A name alone is no identity: another host may say that it has it, too. */
const identity = ({ gateway }: UpnpGateway.Described): string =>
  `${gateway.id ?? ""} ${NetAddress.formatIp(gateway.address)}`

const isSameAddress = (one: NetAddress.IpAddress, other: NetAddress.IpAddress): boolean =>
  NetAddress.formatIp(one) === NetAddress.formatIp(other)

/** What goes with the whole device: of several services one may go alone. */
const isWholeDevice = (target: string): boolean =>
  target === Targets.rootDevice || target.includes("InternetGatewayDevice") || target.startsWith("uuid:")

const preferred = (one: KnownGateway, other: KnownGateway): number =>
  Number(other.isDefaultGateway) - Number(one.isDefaultGateway)

export class SsdpCache {
  readonly places = new Map<string, Place>()
  /** Those that were seen since the last search from the beginning, by identity. */
  readonly #gateways = new Map<string, KnownGateway>()
  /** Those that were known before it and have not been found again. */
  readonly #parked = new Map<string, KnownGateway>()
  #fetches: Array<{ readonly address: string; readonly at: number; readonly isDefaultGateway: boolean }> = []

  /** The default gateway first. */
  get gateways(): ReadonlyArray<KnownGateway> {
    return [...this.#gateways.values()].toSorted(preferred)
  }

  /** What whoever heard all changes takes to be there. */
  get reported(): ReadonlyArray<KnownGateway> {
    return [...this.gateways, ...this.#parked.values()]
  }

  get isFetching(): boolean {
    return [...this.places.values()].some((place) => place.state === "fetching")
  }

  /** Takes note of a sighting. A place that comes back is to be fetched, now, and the outcome told to `settle`. */
  see(sighting: Sighting, now: number): { readonly fetch: Place | undefined; readonly changes: ReadonlyArray<Change> } {
    const key = HttpUrl.format(sighting.location)
    const known = this.places.get(key)
    if (known !== undefined) {
      this.#renew(known, sighting, now)
      return { fetch: this.#wantsFetch(known, now) ? this.#beginFetch(known, now) : undefined, changes: [] }
    }
    if (!this.#isOfInterest(sighting) || !this.#mayFetch(sighting, now)) return { fetch: undefined, changes: [] }
    const changes = this.#makeRoom(sighting)
    if (changes === undefined) return { fetch: undefined, changes: [] }
    const place: Place = {
      key,
      sighting,
      uuids: new Set([uuidOf(sighting.usn)]),
      seenAt: now,
      expiresAt: now + lifetime(sighting.maxAge),
      state: "new",
      failedAt: undefined,
      bootId: undefined,
      configId: undefined,
      known: undefined
    }
    this.places.set(key, place)
    return { fetch: this.#beginFetch(place, now), changes }
  }

  /** Takes note of what a description says. */
  settle(
    place: Place,
    sighting: Sighting,
    outcome: Result.Result<UpnpGateway.Described, NatError.NatError>,
    now: number
  ): ReadonlyArray<Change> {
    place.state = "settled"
    if (this.places.get(place.key) !== place) return []
    const isNone = Result.isFailure(outcome) && outcome.failure.reason._tag === "Unsupported"
    if (Result.isFailure(outcome) && !isNone) {
      place.failedAt = now
      return []
    }
    place.failedAt = undefined
    place.bootId = sighting.bootId
    place.configId = sighting.configId
    if (Result.isFailure(outcome)) return this.#assign(place, undefined, "MapsNothing")
    const { bootId, configId, isDefaultGateway } = sighting
    return this.#assign(place, { ...outcome.success, isDefaultGateway, bootId, configId }, "MapsNothing")
  }

  /** A device at this address says that it goes. */
  byebye(from: NetAddress.Ipv4Address, target: string, usn: string, bootId: number | undefined): ReadonlyArray<Change> {
    if (!isWholeDevice(target)) return []
    const uuid = uuidOf(usn)
    const isIts = (place: Place) =>
      isSameAddress(place.sighting.from, from) &&
      this.#hasUuid(place, uuid) &&
      // It went before it was seen again, and the message comes late.
      !(bootId !== undefined && place.sighting.bootId !== undefined && bootId < place.sighting.bootId)
    const changes = [...this.places.values()].filter(isIts).flatMap((place) => this.drop(place, "ByeBye"))
    for (const [id, gateway] of this.#parked) {
      if (!isSameAddress(gateway.gateway.address, from) || !udns(gateway.device).includes(uuid)) continue
      this.#parked.delete(id)
      changes.push({ _tag: "Gone", gateway, why: "ByeBye" })
    }
    return changes
  }

  /** A device that goes on as it is has another boot id from now on. */
  update(from: NetAddress.Ipv4Address, usn: string, nextBootId: number | undefined): void {
    if (nextBootId === undefined) return
    const uuid = uuidOf(usn)
    for (const place of this.places.values()) {
      if (!isSameAddress(place.sighting.from, from) || !this.#hasUuid(place, uuid)) continue
      place.sighting = { ...place.sighting, bootId: nextBootId }
      this.#adopt(place, { bootId: nextBootId, configId: place.configId })
    }
  }

  /** Forgets a place, and the gateway that is described nowhere else. */
  drop(place: Place, why: GoneReason): ReadonlyArray<Change> {
    if (this.places.get(place.key) !== place) return []
    this.places.delete(place.key)
    return this.#assign(place, undefined, why)
  }

  /** Begins from the beginning: nothing is known, but what was is only gone if it is not found again. */
  park(): void {
    for (const [id, gateway] of this.#gateways) this.#parked.set(id, gateway)
    this.#gateways.clear()
    this.places.clear()
    this.#fetches = []
  }

  /** The search from the beginning is over. */
  unpark(): ReadonlyArray<Change> {
    const changes = [...this.#parked.values()].map((gateway): Change => ({
      _tag: "Gone",
      gateway,
      why: "NotFoundAgain"
    }))
    this.#parked.clear()
    return changes
  }

  #renew(place: Place, sighting: Sighting, now: number) {
    place.sighting = sighting
    place.seenAt = now
    place.expiresAt = now + lifetime(sighting.maxAge)
    if (place.uuids.size < maximumUuids) place.uuids.add(uuidOf(sighting.usn))
    if (place.state !== "settled" || place.failedAt !== undefined) return
    // Not every message has the ids.
    this.#adopt(place, { bootId: place.bootId ?? sighting.bootId, configId: place.configId ?? sighting.configId })
  }

  /** The same description under other ids. */
  #adopt(place: Place, ids: Pick<KnownGateway, "bootId" | "configId">) {
    place.bootId = ids.bootId
    place.configId = ids.configId
    if (place.known === undefined) return
    place.known = { ...place.known, ...ids }
    const id = identity(place.known)
    const current = this.#gateways.get(id)
    if (current !== undefined && HttpUrl.format(current.location) === place.key) this.#gateways.set(id, place.known)
  }

  #hasUuid(place: Place, uuid: string): boolean {
    return place.uuids.has(uuid) || (place.known !== undefined && udns(place.known.device).includes(uuid))
  }

  /** The whole network announces itself, again and again; only gateways matter. */
  #isOfInterest({ isAnswer, isDefaultGateway, target, usn }: Sighting): boolean {
    return isAnswer || isDefaultGateway || Targets.nameGateway(target, usn)
  }

  #wantsFetch(place: Place, now: number): boolean {
    if (place.state === "fetching") return false
    if (place.failedAt !== undefined) return now - place.failedAt >= retryAfter && this.#mayFetch(place.sighting, now)
    const { bootId, configId } = place.sighting
    const isChanged = isOther(place.bootId, bootId) || isOther(place.configId, configId)
    return (place.state === "new" || isChanged) && this.#mayFetch(place.sighting, now)
  }

  #mayFetch({ from, isDefaultGateway }: Sighting, now: number): boolean {
    const address = NetAddress.formatIp(from)
    this.#fetches = this.#fetches.filter((one) => now - one.at < minute)
    if (this.#fetches.filter((one) => one.address === address).length >= fetchesPerAddress) return false
    return isDefaultGateway || this.#fetches.filter((one) => !one.isDefaultGateway).length < fetchesOfAll
  }

  #beginFetch(place: Place, now: number): Place {
    const { from, isDefaultGateway } = place.sighting
    this.#fetches.push({ address: NetAddress.formatIp(from), at: now, isDefaultGateway })
    place.state = "fetching"
    return place
  }

  /** Room for another place; `undefined` where there is none. */
  #makeRoom({ from, isDefaultGateway }: Sighting): ReadonlyArray<Change> | undefined {
    const places = [...this.places.values()].toSorted((one, other) => one.seenAt - other.seenAt)
    const sameHost = places.filter((place) => isSameAddress(place.sighting.from, from))
    // A gateway that moves at every start leaves places behind.
    if (sameHost.length >= maximumPerAddress) return this.#evict(sameHost[0])
    const others = places.filter((place) => !place.sighting.isDefaultGateway)
    // Room is kept for the default gateway.
    const isFull = !isDefaultGateway && others.length >= maximumPlaces - maximumPerAddress
    if (!isFull && places.length < maximumPlaces) return []
    return this.#evict(others.find((place) => place.known === undefined && place.state === "settled"))
  }

  #evict(place: Place | undefined): ReadonlyArray<Change> | undefined {
    return place === undefined ? undefined : this.drop(place, "Expired")
  }

  /** What is described at a place is now this. */
  #assign(place: Place, next: KnownGateway | undefined, why: GoneReason): ReadonlyArray<Change> {
    const before = place.known
    place.known = next
    const left =
      before !== undefined && (next === undefined || identity(before) !== identity(next))
        ? this.#leave(before, place, why)
        : []
    return next === undefined ? left : [...left, ...this.#report(next)]
  }

  /** A gateway is no longer described at a place. */
  #leave(gateway: KnownGateway, place: Place, why: GoneReason): ReadonlyArray<Change> {
    const id = identity(gateway)
    const current = this.#gateways.get(id)
    if (current === undefined) return []
    const elsewhere = [...this.places.values()]
      .filter((one) => one !== place && one.known !== undefined && identity(one.known) === id)
      .toSorted((one, other) => other.seenAt - one.seenAt)[0]?.known
    if (elsewhere === undefined) {
      this.#gateways.delete(id)
      return [{ _tag: "Gone", gateway: current, why }]
    }
    return HttpUrl.format(current.location) === place.key ? this.#report(elsewhere) : []
  }

  #report(gateway: KnownGateway): ReadonlyArray<Change> {
    const id = identity(gateway)
    const previous = this.#gateways.get(id) ?? this.#parked.get(id)
    this.#gateways.set(id, gateway)
    this.#parked.delete(id)
    if (previous === undefined) return [{ _tag: "Found", gateway }]
    const isRestarted = isOther(previous.bootId, gateway.bootId)
    const isMoved = HttpUrl.format(previous.location) !== HttpUrl.format(gateway.location)
    const isReconfigured = isOther(previous.configId, gateway.configId)
    if (!isRestarted && !isMoved && !isReconfigured) return []
    return [{ _tag: "Updated", gateway, previous, isRestarted, isMoved, isReconfigured }]
  }
}
