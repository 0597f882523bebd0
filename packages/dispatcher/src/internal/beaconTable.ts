/** What a beacon's listener has heard, and for how long that is good. Plain code: whoever calls it brings the time. */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import type * as Beacon from "../Beacon.ts"
import type * as BeaconCodec from "../BeaconCodec.ts"
import * as Bytes from "./bytes.ts"

/** When something was heard. */
export interface Moment {
  /** In milliseconds since 1970. */
  readonly wall: number
  /** In milliseconds of a clock that nobody sets. */
  readonly monotonic: number
}

export const maximumSightings = 256
export const maximumOfSource = 32
/** A host says the same on each of its networks, and may be heard on several. */
const maximumVoices = 4

/** What one source says of an entry. */
interface Voice {
  readonly source: NetAddress.Ipv4Address
  readonly port: number
  readonly contactPoint: ContactPoint.ContactPoint
  readonly expiresAt: number
}

interface Entry {
  readonly id: number
  readonly format: Beacon.Sighting["format"]
  readonly firstSeen: number
  readonly lastSeen: number
  /** By source; the first one counts, until it falls silent. */
  readonly voices: ReadonlyMap<string, Voice>
}

const firstOf = (entry: Entry): Voice | undefined => entry.voices.values().next().value

/** What a contact point takes. */
const longestName = 255

const keyOfCrqt = (source: string, { port, session }: BeaconCodec.Crqt): string => `${source}:${port}/${session}`

const contactPointOf = (source: NetAddress.Ipv4Address, { name, port, session }: BeaconCodec.Crqt) =>
  ContactPoint.make({
    name: Bytes.cutText(name, longestName),
    internal: [NetAddress.inetAddressUnsafe(source, port)],
    sessions: [new ContactPoint.Session({ id: session, capabilities: [] })]
  })

/** Loopback is another host for everybody else. */
const isReachable = ({ address, port }: NetAddress.InetAddress): boolean => {
  const canonical = NetAddress.toCanonical(address)
  return port !== 0 && NetAddress.isUnicast(canonical) && !NetAddress.isLoopback(canonical)
}

/** What can be of use to another host; what came from a host that serves there has that host's address as well. */
export const reachable = (
  contactPoint: ContactPoint.ContactPoint,
  source?: NetAddress.InetAddress
): ContactPoint.ContactPoint => {
  const { external, internal } = ContactPoint.only(contactPoint, isReachable)
  const isMissing = source !== undefined && isReachable(source) && !internal.some((one) => Equal.equals(one, source))
  return ContactPoint.make({
    ...contactPoint,
    internal: isMissing ? [source, ...internal].slice(0, ContactPoint.mostInternal) : internal,
    external
  })
}

export class BeaconTable {
  /** Those that were heard longest ago come first. */
  readonly #entries = new Map<string, Entry>()
  readonly #patience: number
  #lastId = 0

  /** How long a sighting lasts that is not heard again, in milliseconds. */
  constructor(patience: number) {
    this.#patience = patience
  }

  get sightings(): ReadonlyArray<Beacon.Sighting> {
    const all: Array<Beacon.Sighting> = []
    for (const entry of this.#entries.values()) {
      const voice = firstOf(entry)
      if (voice === undefined) continue
      const { firstSeen, format, id, lastSeen } = entry
      all.push({ id, format, source: voice.source, contactPoint: voice.contactPoint, firstSeen, lastSeen })
    }
    return all.sort((self, that) => self.id - that.id)
  }

  /** When the next one expires, in milliseconds of the monotonic clock; `undefined` where there is none. */
  get nextExpiry(): number | undefined {
    let next: number | undefined
    for (const { voices } of this.#entries.values())
      for (const { expiresAt } of voices.values()) next = Math.min(next ?? expiresAt, expiresAt)
    return next
  }

  hear(packet: BeaconCodec.Packet, source: NetAddress.Ipv4Address, now: Moment): void {
    switch (packet._tag) {
      case "Crqt":
        return this.#hearCrqt(packet, source, now)
      case "Extended":
        return this.#hearExtended(packet, source, now)
      case "Goodbye":
        return this.#hearGoodbye(packet.instance, NetAddress.formatIp(source))
    }
  }

  /** Forgets what has not been heard for too long. */
  expire(now: number): void {
    for (const key of this.#entries.keys()) this.#keepVoices(key, (_, { expiresAt }) => expiresAt > now)
  }

  #hearCrqt(packet: BeaconCodec.Crqt, source: NetAddress.Ipv4Address, now: Moment): void {
    const from = NetAddress.formatIp(source)
    for (const { format, voices } of this.#entries.values()) {
      const voice = voices.get(from)
      if (format === "extended" && voice?.port === packet.port && tells(voice, packet.session)) return
    }
    const { port } = packet
    const contactPoint = contactPointOf(source, packet)
    this.#put(keyOfCrqt(from, packet), "crqt", { source, port, contactPoint, expiresAt: 0 }, now)
  }

  #hearExtended(
    { contactPoint: said, instance, port }: BeaconCodec.Extended,
    source: NetAddress.Ipv4Address,
    now: Moment
  ) {
    const from = NetAddress.formatIp(source)
    const contactPoint = reachable(said, NetAddress.inetAddressUnsafe(source, port))
    const voice: Voice = { source, port, contactPoint, expiresAt: 0 }
    // What was heard of it in the old format first is the same.
    const old = said.sessions.map(({ id }) => keyOfCrqt(from, { _tag: "Crqt", port, session: id, name: "" }))
    const first = old.map((key) => this.#entries.get(key)).find((entry) => entry !== undefined)
    for (const key of old) this.#entries.delete(key)
    if (first !== undefined && !this.#entries.has(instance))
      this.#entries.set(instance, { ...first, voices: new Map() })
    this.#put(instance, "extended", voice, now)
  }

  /** Who counts speaks for all: it says goodbye on each network, and one of these packets is the first. */
  #hearGoodbye(instance: string, source: string): void {
    const first = this.#entries.get(instance)?.voices.keys().next().value
    if (first === source) this.#entries.delete(instance)
    else this.#keepVoices(instance, (from) => from !== source)
  }

  /** Has an entry say what was heard now; where there is no place for it, nothing. */
  #put(key: string, format: Beacon.Sighting["format"], heard: Voice, now: Moment): void {
    const known = this.#entries.get(key)
    const from = NetAddress.formatIp(heard.source)
    const before = known?.voices.get(from)
    if (before === undefined && !this.#hasPlace(known, from)) return
    const { lifetime = Number.POSITIVE_INFINITY } = heard.contactPoint
    const voice: Voice = {
      ...heard,
      contactPoint:
        Equal.equals(before?.contactPoint, heard.contactPoint) && before !== undefined
          ? before.contactPoint
          : heard.contactPoint,
      expiresAt: now.monotonic + Math.min(this.#patience, lifetime * 1000)
    }
    this.#entries.delete(key)
    this.#entries.set(key, {
      id: known?.id ?? ++this.#lastId,
      format,
      firstSeen: known?.firstSeen ?? now.wall,
      lastSeen: now.wall,
      voices: new Map(known?.voices).set(from, voice)
    })
    const [oldest] = this.#entries.keys()
    if (this.#entries.size > maximumSightings && oldest !== undefined) this.#entries.delete(oldest)
  }

  #hasPlace(known: Entry | undefined, from: string): boolean {
    if (known !== undefined) return known.voices.size < maximumVoices
    let count = 0
    for (const { voices } of this.#entries.values()) if (voices.has(from)) count += 1
    return count < maximumOfSource
  }

  #keepVoices(key: string, isKept: (from: string, voice: Voice) => boolean): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    const voices = new Map([...entry.voices].filter(([from, voice]) => isKept(from, voice)))
    if (voices.size === entry.voices.size) return
    if (voices.size === 0) this.#entries.delete(key)
    // In its place: it was not heard again.
    else this.#entries.set(key, { ...entry, voices })
  }
}

const tells = (voice: Voice, session: string): boolean => voice.contactPoint.sessions.some(({ id }) => id === session)
