/**
 * The judge of a world: it hears what is sent and logged, looks at the mappings, and says what must hold and does not.
 */
import * as DoubleNat from "@effect-nat/core/DoubleNat"
import * as Ipv4Scope from "@effect-nat/core/Ipv4Scope"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Quirk from "@effect-nat/testing/Quirk"
import type * as RouterModel from "@effect-nat/testing/RouterModel"
import type * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import type * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Wire from "./wire.ts"
import type * as World from "./world.ts"

/** The names of what must hold; docs/simulation.md says what each means. */
export const invariants = [
  "no-defect",
  "maps-when-healthy",
  "live-or-lost",
  "says-when-away",
  "hears-of-address",
  "recovers-soon",
  "follows-host",
  "recovers",
  "release-leaves-nothing",
  "nothing-left",
  "others-untouched",
  "one-renewal-loop",
  "no-delete-while-live",
  "one-delete",
  "no-flood",
  "one-search",
  "lease-as-asked",
  "deletes-what-was-mapped",
  "port-as-asked",
  "maps-what-was-asked",
  "changes-tell",
  "answers-are-true",
  "stays-inside",
  "nonce-kept",
  "backs-off",
  "refusals-last",
  "double-nat-told"
] as const
export type Invariant = (typeof invariants)[number] | "same-trace"

export interface Violation {
  readonly invariant: Invariant
  /** In seconds of virtual time. */
  readonly at: number
  readonly detail: string
}

const second = 1000
/** What a request may take beyond its time: timeouts, a search, the freshness of an address. */
export const slack = 60 * second
/** The longest pause between two attempts. */
export const longestPause = 300 * second
/** A gateway that says nothing by itself is asked for its address every five minutes, more or less. */
const longestNotice = 360 * second
/** The same, at the least. */
const shortestSilence = 270 * second
/**
 * A router that has lost what it knew, and said nothing of it, is found out by the renewal of a subscription to its
 * events, every quarter of an hour: then every mapping is looked at.
 */
const longestForgetting = 15 * 60 * second + slack
/** What an event takes, and what it leads to. */
const hearing = 15 * second
/** Whoever hears that a gateway has restarted waits up to 5 seconds, and a request that is under way ends first. */
const recovery = 45 * second
/** This host is looked at every 5 seconds, renewals are 5 seconds apart, and what was under way may fail first. */
const following = 30 * second
/** A gateway that changes more often is believed ever later. */
const restartCalm = 15 * 60 * second
/** PCP's first retransmission comes after 3 seconds, and each pause is twice the one before, all that give or take a tenth. */
const shortestRetransmission = 2_650
const slowestGrowth = 1.75

/** No question over PCP waits longer than that. */
const longestRequest = 25_000

/** A renewal that failed is undone for 5 seconds at most, and a release waits a second for that. */
const undoing = 6_000

/** What a gateway refused is refused for half an hour at most (RFC 6887 §7.4). */
const longestRefusal = 1800 * second
/** No datagram is under way for longer. */
const longestFlight = 3_100
/** An answer has arrived by then where nothing is wrong. */
const arrival = second
/** So long a mapping's requests are counted where the gateway's epoch tells nothing. */
const budgetTime = 600 * second

/** What is without an end on the router is renewed every hour all the same. */
const permanentLease = 7200 * second
/** A whole search at once is 58 datagrams a network; then descriptions and calls. */
const floodLimit = 150
/** What belongs together is over by then: a stream's end, say. */
export const moment = 2 * second
/** Pauses grow from a second, a request is sent at most six times, and users ask again, too. */
const requestLimit = 80

const format = NetAddress.formatIp

const otherAddress = "its address is"

export const forgedAddress = NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(66, 66, 66, 66))
export const forgedAddress6 = NetAddress.ipFromStringUnsafe("2001:db8:6666::1")
export const forgedPort = 6666
export const neighbourAddress = "192.168.77.150"
/** Whose mappings the user removes. */
export const removedAddress = "192.168.77.201"

/** The rows of a router that are not this host's. */
interface Others {
  readonly bootId: number
  readonly at: number
  readonly rows: ReadonlyArray<RouterModel.Entry>
}

/** What leads to a host: a row of the mapping table, or a pinhole. */
export interface Row extends Pick<
  RouterModel.Entry,
  "expiresAt" | "externalPort" | "internalAddress" | "internalPort" | "nonce" | "protocol"
> {}

/** All that a router has. */
export const rowsOf = (model: RouterModel.RouterModel, now: number): ReadonlyArray<Row> => [
  ...model.entries(now),
  ...model.pinholes.entries(now).map(({ expiresAt, internalClient, internalPort, nonce, protocol }): Row => ({
    protocol: protocol === 17 ? "udp" : "tcp",
    externalPort: internalPort,
    internalAddress: internalClient,
    internalPort,
    expiresAt,
    nonce
  }))
]

/** A mapping before something that it is to outlive. */
export interface Before {
  readonly held: World.Held
  readonly mapping: World.Held["mapping"]
}

/** What a request was refused with, when, and how long that lasts. */
interface Refused {
  readonly at: number
  readonly until: number
  readonly program: World.Program
  /** What was refused was one with this nonce. */
  readonly nonce: string | undefined
}

export const describe = (entry: Row): string =>
  `${entry.externalPort}/${entry.protocol} to ${format(entry.internalAddress)}:${entry.internalPort}`

/** What nobody can take for an answer. */
const unheard: ReadonlySet<Quirk.Quirk | undefined> = new Set([
  "RepliesFromOtherPort",
  "RepliesCutShort",
  "RefusesOwnVersion"
])

/** A router whose epoch tells nothing. */
const epochless: ReadonlySet<Quirk.Quirk | undefined> = new Set(["EpochStandsStill", "EpochJumpsBack"])

/** A router that says when it has another address, whatever else it does. */
const announcing: ReadonlySet<Quirk.Quirk | undefined> = new Set([
  undefined,
  "AnnouncesOnlyToGroup",
  "AnnouncesOnlyToClients"
])

const restless: ReadonlySet<Quirk.Quirk | undefined> = new Set([
  "EpochStandsStill",
  "EpochJumpsBack",
  "PreferFailureUnsupported",
  "RepliesLate"
])

/** A request, by who sends it and what it says. */
const requestOf = (from: NetAddress.InetAddress, payload: Uint8Array): string =>
  `${NetAddress.formatInet(from)} ${Wire.hex(payload)}`

export class Judge {
  readonly #world: World.World
  /** What others have mapped on each router, and since which of its starts, as it was when last looked at. */
  readonly #others = new Map<RouterModel.RouterModel, Others>()
  /** When the neighbour last deleted anything, which is its own affair. */
  #neighbourDeletedAt = Number.NEGATIVE_INFINITY
  #lostAnswers = 0
  /** The nonces that this host has mapped with, and the internal ends: a process knows those of the ones before it. */
  readonly #nonces = new Set<string>()
  /** When a PCP request was last sent that nobody has answered, and how long after the time before. */
  readonly #unanswered = new Map<string, { readonly at: number; readonly pause: number }>()
  /** When a PCP request was last answered. */
  readonly #answeredAt = new Map<string, number>()
  readonly #refused = new Map<string, Refused>()
  /** Those with which something was deleted, or which were refused. */
  readonly #spentNonces = new Set<string>()
  /** Called when the program could know of the last restart. */
  #expectRecovery: (() => void) | undefined = undefined
  /** When the gateway's epoch last started over, by whatever. */
  #epochChangedAt = Number.NEGATIVE_INFINITY

  constructor(world: World.World) {
    this.#world = world
  }

  /** When the last trouble was over: an outage, an attack, a lost answer, another router, a move. */
  get troubleEnd(): number {
    if (this.#world.attacks !== undefined) return this.#world.now
    const lostAnswers = this.#world.everyModel.reduce((sum, model) => sum + model.lostAnswers, 0)
    if (lostAnswers > this.#lostAnswers) this.#world.troubledAt = this.#world.now
    this.#lostAnswers = lostAnswers
    return Math.max(this.#world.unhealthyUntil, this.#world.troubledAt)
  }

  /**
   * A calm world has the strictest invariants. Trouble is over when every attempt that it made fail has been repeated,
   * and what came of that has been renewed.
   */
  get isCalm(): boolean {
    return this.#world.now - this.troubleEnd > Math.max(this.#world.longestWanted, longestPause) + slack
  }

  // ---------------------------------------------------------------------------
  // What the judge hears and sees
  // ---------------------------------------------------------------------------

  heard({ level, message, process }: SimulatedNetwork.LogEntry) {
    if (level === "Error" || level === "Fatal") this.#world.violate("no-defect", message)
    if (level !== "Warn" || !message.includes("left on the gateway")) return
    if (process === this.#world.program?.process) this.#world.program.warnedAt = this.#world.now
    // The neighbour's release was not confirmed.
    if (process === this.#world.neighbour) this.#world.mayLeavePermanent = true
  }

  checkDefect(cause: Cause.Cause<unknown>) {
    if (cause.reasons.some(Cause.isDieReason)) this.#world.violate("no-defect", Cause.pretty(cause))
  }

  sent(sent: SimulatedNetwork.Sent) {
    if (sent.process === this.#world.neighbour && Wire.read(sent).kind === "delete")
      this.#neighbourDeletedAt = this.#world.now
    if (sent.process !== this.#world.program?.process) return
    const { program } = this.#world
    if (Ipv4Scope.isPublic(sent.to.address) && !NetAddress.isMulticast(sent.to.address)) {
      this.#world.violate("stays-inside", `something is sent to ${format(sent.to.address)}`)
    }
    program.sentAt.push(this.#world.now)
    while ((program.sentAt[0] ?? this.#world.now) < this.#world.now - second) program.sentAt.shift()
    if (program.sentAt.length > this.#world.busiest) this.#world.busiest = program.sentAt.length
    if (program.sentAt.length > floodLimit) this.#world.violate("no-flood", `${program.sentAt.length} within a second`)
    const said = Wire.read(sent)
    if (sent.payload !== undefined) this.#sawPcp(sent, sent.payload, said)
    if (said.kind === "map") this.#sawMap(said.protocol, said.port, said.lease)
    if (said.kind === "delete") this.#sawDelete(said, sent.payload === undefined)
    if (said.kind === "search" || said.kind === "description") this.#sawSearch(said.kind)
    if (sent.request !== undefined) {
      const port = /<NewExternalPort>(\d+)</.exec(sent.request.body ?? "")?.[1]
      if (said.kind === "map" && port !== undefined) this.#world.externalPorts.add(`${port}/${said.protocol}`)
    }
  }

  /** A router, or something in its place, answers what one of these programs has asked. */
  answered({ from, now, payload: asked }: SimulatedDevice.Incoming, answer: Uint8Array) {
    const { program } = this.#world
    if (this.#isOwnAddress(from.address)) this.#expectRecovery?.()
    if (asked[0] !== Wire.pcpVersion || program === undefined) return
    this.#unanswered.delete(requestOf(from, asked))
    this.#answeredAt.set(requestOf(from, asked), now)
    const { code, lasts, version } = Wire.resultOf(answer)
    if (code === 0) this.#expectToTell(asked, program)
    else this.#noteRefused(asked)
    // What bars a mapping may be gone before the next look.
    for (const held of this.#world.helds) this.#isBarred(held)
    if (code === 0 || unheard.has(this.#world.plan.quirk) || !this.isCalm) return
    const isOtherVersion = version !== Wire.pcpVersion
    const what = isOtherVersion ? "" : Wire.wishOf(asked)
    const until = now + Math.min(isOtherVersion ? Infinity : lasts * second, longestRefusal)
    this.#refused.set(`${format(from.address)} ${what}`, { at: now, until, program, nonce: Wire.nonceOf(asked) })
  }

  /** What a mapping is answered over PCP has its external address in it: soon that is what it says of itself. */
  #expectToTell(asked: Uint8Array, program: World.Program) {
    const said = Wire.readDatagram(asked, 5351)
    const { addressChangedAt, now: answeredAt } = this.#world
    if (said.kind !== "map" || said.nonce === undefined || unheard.has(this.#world.plan.quirk)) return
    this.#world.network.after(hearing, () => {
      const { isOver, now } = this.#world
      const isTroubled = this.troubleEnd > answeredAt || this.#world.addressChangedAt > addressChangedAt
      if (isOver || isTroubled || !program.process.isRunning) return
      const held = this.#heldFor(said.protocol, said.port)
      const mapping = held && this.currentOf(held)
      if (held === undefined || mapping?.method !== "pcp" || mapping.status === "lost") return
      const wrong = this.#wrong(held, mapping)
      if (wrong?.startsWith(otherAddress) !== true) return
      const since = (now - answeredAt) / second
      this.#world.violate("hears-of-address", `mapping ${held.index}: ${wrong}, which it was told ${since} s ago`)
    })
  }

  /** What is refused while nothing is held has come to nothing, and its nonce with it. */
  #noteRefused(asked: Uint8Array) {
    const said = Wire.readDatagram(asked, 5351)
    if (said.kind !== "map" || said.nonce === undefined) return
    const held = this.#heldFor(said.protocol, said.port)
    if (held !== undefined && (this.currentOf(held)?.status ?? "lost") === "lost")
      this.#spentNonces.add(`${said.port}/${said.protocol} ${said.nonce}`)
  }

  #sawPcp(sent: SimulatedNetwork.Sent, payload: Uint8Array, said: Wire.Said) {
    if (payload[0] !== Wire.pcpVersion || sent.to.port !== 5351) return
    if (said.kind !== "map" && said.kind !== "delete") return
    this.#checkNonce(sent, said)
    const releasedAt = this.#heldFor(said.protocol, said.port)?.releasedAt ?? Number.NEGATIVE_INFINITY
    // The undoing of a renewal may be under way when the release asks for the same.
    const mayBeTwo = said.kind === "delete" && this.#world.now - releasedAt < undoing
    const longest = said.kind === "delete" ? undoing : longestRequest
    if (!mayBeTwo) this.#checkBackOff(requestOf(sent.from, payload), longest)
    if (said.kind === "map") {
      this.#checkRefused(`${format(sent.from.address)} `)
      this.#checkRefused(`${format(sent.from.address)} ${Wire.wishOf(payload)}`)
    }
  }

  #checkNonce({ from, to }: SimulatedNetwork.Sent, { kind, nonce, port, protocol }: Wire.SaidOfMapping) {
    if (nonce === undefined) return
    const name = `${port}/${protocol} ${nonce}`
    if (kind === "delete") {
      if (!this.#nonces.has(name))
        this.#world.violate("nonce-kept", `${port}/${protocol} is deleted with a nonce of nobody's`)
      this.#spentNonces.add(name)
      this.#noteGivenUp(nonce)
      return
    }
    this.#checkInherited(from.address, `${port}/${protocol}`, nonce)
    this.#nonces.add(name)
    const held = this.#heldFor(protocol, port)
    if (held === undefined) return
    const place = `${format(to.address)} from ${format(from.address)}`
    const last = held.nonces.get(place) ?? nonce
    // An attempt of the automatic strategy that was undone or refused is over: what follows is another mapping.
    const isOver = this.#world.plan.protocol === "automatic" && this.#spentNonces.has(`${port}/${protocol} ${last}`)
    const known = isOver ? nonce : last
    held.nonces.set(place, known)
    if (known !== nonce) this.#world.violate("nonce-kept", `mapping ${held.index} has another nonce than it had`)
  }

  /** What an earlier process has left there stands in its ledger: with another nonce it could not be had. */
  #checkInherited(own: NetAddress.IpAddress, end: string, nonce: string) {
    const { now, router } = this.#world
    const left = rowsOf(router.model, now).find(
      (row) =>
        `${row.internalPort}/${row.protocol}` === end &&
        Equal.equals(row.internalAddress, own) &&
        row.nonce !== nonce &&
        this.#nonces.has(`${end} ${row.nonce}`) &&
        !this.#spentNonces.has(`${end} ${row.nonce}`)
    )
    if (left !== undefined) this.#world.violate("nonce-kept", `${end} is asked for anew, although it is there`)
  }

  /** Who gives a request up while its refusal is under way does not hear it. */
  #noteGivenUp(nonce: string) {
    for (const [what, refused] of this.#refused) {
      if (refused.nonce === nonce && this.#world.now - refused.at < arrival) this.#refused.delete(what)
    }
  }

  #checkBackOff(request: string, longest: number) {
    const { now } = this.#world
    // Sent while the answer to the one before is under way: what is sent after that has come is another request.
    const answeredAt = this.#answeredAt.get(request)
    if (answeredAt !== undefined && now - answeredAt < longestFlight) return
    const last = this.#unanswered.get(request)
    // Nothing is sent again as late as that; chance may use the same port another time.
    const before = last !== undefined && now - last.at <= longest ? last : undefined
    const pause = before === undefined ? 0 : now - before.at
    this.#unanswered.set(request, { at: now, pause })
    if (before === undefined) return
    const shortest = Math.max(shortestRetransmission, before.pause * slowestGrowth)
    if (pause >= shortest) return
    this.#world.violate("backs-off", `a request is sent again after ${pause / second} s, not ${shortest / second}`)
  }

  /** What a gateway has refused is not asked for again while that lasts, unless its epoch has started over. */
  #checkRefused(what: string) {
    const { now, plan, program } = this.#world
    const refused = this.#refused.get(what)
    if (refused === undefined || refused.program !== program || !this.isCalm) return
    if (epochless.has(plan.quirk)) return
    if (this.#epochChangedAt >= refused.at || now < refused.at + arrival || now >= refused.until) return
    const left = Math.ceil((refused.until - now) / second)
    this.#world.violate("refusals-last", `what was refused is asked for again, ${left} s before that is over`)
  }

  /** The gateway has restarted, is another one, or has another address. */
  epochChanged() {
    this.#epochChangedAt = this.#world.now
  }

  /** What is held when a router is about to restart, where all is well and has been for a while. */
  beforeRestart(): ReadonlyArray<Before> {
    const { now, plan } = this.#world
    const isNews = now - Math.max(this.#epochChangedAt, this.troubleEnd) > restartCalm
    return isNews && !epochless.has(plan.quirk) ? this.#rightNow() : []
  }

  #rightNow(): ReadonlyArray<Before> {
    return this.#world.helds.flatMap((held) => {
      const mapping = held.program.process.isRunning ? this.currentOf(held) : undefined
      const isRight = mapping !== undefined && mapping.status !== "lost" && this.#wrong(held, mapping) === undefined
      return isRight ? [{ held, mapping: held.mapping }] : []
    })
  }

  /** What is held when this host is about to have another address, where all has been well for a minute. */
  beforeMove(): ReadonlyArray<Before> {
    const { now } = this.#world
    return now - this.troubleEnd > slack ? this.#rightNow() : []
  }

  /**
   * Nothing but this host itself tells that it has moved: its mappings follow it. What leads to its earlier address may
   * be in the way, and go only just before the look: such a mapping has its time from then on, by `recovers`.
   */
  expectToFollow(held: ReadonlyArray<Before>) {
    const { nextAddress, unhealthyUntil } = this.#world
    const movedAt = this.#world.now
    const before = held.filter((one) => this.expectsMapping(one.held))
    this.#world.network.after(following, () => {
      const { addressChangedAt, isOver } = this.#world
      const isTroubled = this.troubleEnd > unhealthyUntil || addressChangedAt > movedAt
      if (isOver || isTroubled || this.#world.nextAddress !== nextAddress) return
      for (const { held, mapping } of before) if (held.mapping === mapping) this.#checkFollowed(held)
    })
  }

  #checkFollowed(held: World.Held) {
    const mapping = held.program.process.isRunning ? this.currentOf(held) : undefined
    if (mapping === undefined || !this.expectsMapping(held)) return
    const wrong = mapping.status === "lost" ? "it is lost" : this.#wrong(held, mapping)
    if (wrong === undefined) return
    this.#world.violate(
      "follows-host",
      `mapping ${held.index}: ${wrong}, ${following / second} s after this host moved`
    )
  }

  /** Over NAT-PMP and PCP a restart is announced or, by a quirk, shown by the next answer: its mappings are soon back. */
  expectRecovery(before: ReadonlyArray<Before>) {
    const { nextAddress, now: restartedAt } = this.#world
    this.epochChanged()
    this.#expectRecovery = () => {
      this.#expectRecovery = undefined
      this.#world.network.after(recovery, () => {
        const isTroubled = this.troubleEnd > restartedAt || this.#epochChangedAt > restartedAt
        if (this.#world.isOver || isTroubled || this.#world.nextAddress !== nextAddress) return
        for (const { held, mapping } of before) if (held.mapping === mapping) this.#checkRecovered(held)
      })
    }
    if (this.#world.plan.quirk !== "EpochStartsOver") this.#expectRecovery()
  }

  #checkRecovered(held: World.Held) {
    const mapping = held.program.process.isRunning ? this.currentOf(held) : undefined
    if (mapping === undefined || mapping.status === "lost" || !this.#isTold(mapping)) return
    const wrong = this.#wrong(held, mapping)
    if (wrong === undefined) return
    this.#world.violate("recovers-soon", `mapping ${held.index}: ${wrong}, ${recovery / second} s after a restart`)
  }

  #heldFor(protocol: string, internalPort: number): World.Held | undefined {
    return this.#world.helds.find(({ wanted }) => wanted.protocol === protocol && wanted.internalPort === internalPort)
  }

  #isThere(protocol: string, internalPort: number): boolean {
    const { now, router } = this.#world
    return rowsOf(router.model, now).some((one) => one.protocol === protocol && one.internalPort === internalPort)
  }

  #checkWish(protocol: string, internalPort: number) {
    const end = `${internalPort}/${protocol}`
    if (!this.#world.wishes.has(end))
      this.#world.violate("maps-what-was-asked", `nobody asked for internal port ${end}`)
  }

  #sawMap(protocol: string, internalPort: number, lease: number) {
    this.#checkWish(protocol, internalPort)
    const held = this.#heldFor(protocol, internalPort)
    if (held === undefined || lease === 0) return
    if (lease > held.wanted.lifetimeSeconds) {
      this.#world.violate("lease-as-asked", `${lease} s asked for where ${held.wanted.lifetimeSeconds} s were wanted`)
    }
    held.asked.push(this.#world.now)
    while ((held.asked[0] ?? this.#world.now) < this.#world.now - 60 * second) held.asked.shift()
    if (held.asked.length > requestLimit) {
      this.#world.violate("no-flood", `mapping ${held.index} is asked for ${held.asked.length} times within a minute`)
    }
    this.#checkBudget(held)
    const previous = held.lastMapAt
    held.lastMapAt = this.#world.now
    const isSteady =
      this.isCalm &&
      // Whoever notices another address tells it to its peers at once, by a renewal of every mapping.
      this.#world.now > this.#world.addressChangedAt + longestNotice &&
      this.#world.now > this.#world.forgotAt + longestForgetting &&
      held.mapping !== undefined &&
      held.lostSince === undefined &&
      // What is gone is not renewed but made again.
      this.#isThere(protocol, internalPort) &&
      previous !== undefined &&
      previous >= held.heldSince
    const usual = 0.4 * this.#leaseMillis(held)
    // Where nobody can understand how it is only a renewal tells whether it is there.
    const shortest = unheard.has(this.#world.plan.quirk) ? Math.min(usual, shortestSilence) : usual
    if (isSteady && !this.#isRestless && this.#world.now - previous < shortest) {
      this.#world.violate(
        "one-renewal-loop",
        `mapping ${held.index} is renewed again after ${(this.#world.now - previous) / second} s`
      )
    }
  }

  /** Whether there is reason to ask again at once: the epoch, an option that the router does not know, or that it is slow. */
  get #isRestless(): boolean {
    return restless.has(this.#world.plan.quirk)
  }

  /** A gateway whose epoch tells nothing is not asked without end all the same, for what it has. */
  #checkBudget(held: World.Held) {
    const { now, plan } = this.#world
    const isHeld = this.isCalm && held.mapping !== undefined && held.lostSince === undefined
    if (!isHeld || plan.quirk === "RepliesLate") return void held.counted.splice(0)
    held.counted.push(now)
    while ((held.counted[0] ?? now) < now - budgetTime) held.counted.shift()
    const budget = 30 + (3 * budgetTime) / (0.45 * this.#leaseMillis(held))
    if (held.counted.length <= budget) return
    const count = `${held.counted.length} times within ${budgetTime / second} s`
    this.#world.violate("no-flood", `mapping ${held.index} is asked for ${count}`)
  }

  #sawDelete({ nonce, port, protocol }: Wire.SaidOfMapping, isCall: boolean) {
    if (!isCall) this.#checkWish(protocol, port)
    if (isCall && !this.#world.externalPorts.has(`${port}/${protocol}`)) {
      this.#world.violate("deletes-what-was-mapped", `external port ${port}/${protocol} was never asked for`)
    }
    const held = this.#world.helds.find((one) => {
      const known = isCall ? (this.currentOf(one)?.externalPort ?? one.lastPort) : one.wanted.internalPort
      return one.wanted.protocol === protocol && known === port
    })
    if (held === undefined) return
    // The automatic strategy's attempt over PCP, which another protocol was quicker than.
    const method = this.currentOf(held)?.method
    if (nonce !== undefined && (method === "upnp" || method === "natpmp")) return
    this.#checkNotLive(held)
    // What is given back while it is lost, for its port is not the one that it must be, is no release.
    if (held.isReleasing) held.deletes += 1
    // What is not answered soon, or not at all, is sent again.
    const { quirk } = this.#world.plan
    const isAnswered = quirk !== "RepliesLate" && !unheard.has(quirk)
    // A renewal that the release has interrupted may arrive after the deletion, so that it is undone as well.
    const mayBeRenewing = held.lastMapAt !== undefined && this.#world.now - held.lastMapAt < moment
    if (this.isCalm && held.deletes > 1 && !held.isAbandoned && isAnswered && !mayBeRenewing) {
      this.#world.violate("one-delete", `mapping ${held.index} is deleted ${held.deletes} times`)
    }
  }

  #checkNotLive(held: World.Held) {
    const mapping = this.currentOf(held)
    if (mapping === undefined || mapping.status === "lost") return
    // What leads to where this host no longer is helps nobody, and its port is wanted.
    if (!this.#isOwnAddress(mapping.internalAddress)) return
    // Over NAT-PMP a port that is not the one that it must be is given back, which can only be told by internal port.
    if (held.wanted.strictExternalPort && !this.isCalm) return
    this.#world.violate("no-delete-while-live", `mapping ${held.index} is deleted while it is held`)
  }

  #isOwnAddress(address: NetAddress.IpAddress): boolean {
    return this.#world.host.addresses.some((own) => Equal.equals(own, address))
  }

  #sawSearch(kind: string) {
    const { foundAt } = this.#world.program
    if (foundAt === undefined || !this.isCalm || this.#world.plan.quirk !== undefined) return
    if (this.#world.now - foundAt > 5 * second && this.#world.helds.every((held) => held.error === undefined)) {
      this.#world.violate(
        "one-search",
        `a ${kind} although the gateway has been known for ${(this.#world.now - foundAt) / second} s`
      )
    }
  }

  // ---------------------------------------------------------------------------
  // What must hold
  // ---------------------------------------------------------------------------

  currentOf(held: World.Held): PortMapping.PortMapping | undefined {
    if (held.mapping === undefined) return undefined
    const exit = this.#world.fork(held.program.process, held.mapping.current).pollUnsafe()
    return exit !== undefined && Exit.isSuccess(exit) ? exit.value : undefined
  }

  #leaseMillis(held: World.Held): number {
    const { longestLease, quirk } = this.#world.plan
    const seconds = Math.min(held.wanted.lifetimeSeconds, longestLease)
    if (quirk === "LeasesAtMostTwoMinutes") return Math.min(seconds, 120) * second
    return (quirk === "LeasesAtLeastTwoMinutes" ? Math.max(seconds, 120) : seconds) * second
  }

  /** What is wrong with a mapping that is said to be in force. */
  #wrong(held: World.Held, mapping: PortMapping.PortMapping): string | undefined {
    if (mapping.externalPort === forgedPort) return "forged: the port is the forger's"
    const { externalAddress } = mapping
    if (Equal.equals(externalAddress, forgedAddress) || Equal.equals(externalAddress, forgedAddress6)) {
      return "forged: the address is the forger's"
    }
    if (!this.#isOwnAddress(mapping.internalAddress)) {
      return `it leads to ${format(mapping.internalAddress)}, which is not this host's any more`
    }
    const { address, model } = this.#world.gateway
    if (mapping.gateway === undefined || !Equal.equals(mapping.gateway, address)) return "it is on another gateway"
    const entry = this.#rowOf(mapping)
    if (entry === undefined) return "gone: the router does not have it"
    if (
      !Equal.equals(entry.internalAddress, mapping.internalAddress) ||
      entry.internalPort !== held.wanted.internalPort
    ) {
      return `the router leads it to ${format(entry.internalAddress)}:${entry.internalPort}`
    }
    if (this.#world.plan.family === "ipv6" && !this.#isLetIn(mapping)) return "no packet comes in to it"
    const known = mapping.externalAddress
    const told = this.#world.plan.family === "ipv6" ? mapping.internalAddress : model.externalAddress
    if (told === undefined) return undefined
    if (known === undefined) {
      return NetAddress.isUnspecified(told) ? undefined : `it has no address, but the router has ${format(told)}`
    }
    if (!Equal.equals(known, told)) {
      return `${otherAddress} ${format(known)}, but the router has ${format(told)}`
    }
    return undefined
  }

  /** Whether the firewall lets in whoever comes from the world. */
  #isLetIn({ internalAddress, internalPort, protocol }: PortMapping.PortMapping): boolean {
    const { now, router } = this.#world
    const from = NetAddress.inetAddressUnsafe(forgedAddress6, 40_000)
    const to = NetAddress.inetAddressUnsafe(internalAddress, internalPort)
    return router.model.pinholes.admit(now, { protocol: protocol === "udp" ? 17 : 6, from, to })
  }

  /** What the router has at the external port that a mapping says: an address of IPv6 has ports of its own. */
  #rowOf({ externalPort, internalAddress, protocol }: PortMapping.PortMapping): Row | undefined {
    const { now, plan, router } = this.#world
    return rowsOf(router.model, now).find(
      (one) =>
        one.protocol === protocol &&
        one.externalPort === externalPort &&
        (plan.family === "ipv4"
          ? NetAddress.isIpv4Address(one.internalAddress)
          : Equal.equals(one.internalAddress, internalAddress))
    )
  }

  /** What others have mapped stays as it is until its lease ends, whatever this host does. */
  lookAtOthers(model: RouterModel.RouterModel) {
    const { bootId } = model
    const entries = model.entries(this.#world.now)
    const known = this.#others.get(model)
    const isForgetful = model.has("LeasesVanishOvernight") || model.has("PermanentLeasesVanishOvernight")
    if (known?.bootId === bootId && !isForgetful) {
      for (const row of known.rows) this.#checkOther(model, row, known.at)
    }
    this.#others.set(model, { bootId, at: this.#world.now, rows: entries.filter((row) => this.#isAnothers(row)) })
  }

  #isAnothers({ internalAddress }: RouterModel.Entry): boolean {
    const address = format(internalAddress)
    return address !== removedAddress && (address === neighbourAddress || !this.#world.ownAddresses.has(address))
  }

  #checkOther(model: RouterModel.RouterModel, row: RouterModel.Entry, seenAt: number) {
    if (row.expiresAt !== undefined && row.expiresAt <= this.#world.now) return
    // What it sent before may have arrived since.
    if (format(row.internalAddress) === neighbourAddress && this.#neighbourDeletedAt > seenAt - slack) return
    const now = model
      .entries(this.#world.now)
      .find((one) => one.protocol === row.protocol && one.externalPort === row.externalPort)
    if (now !== undefined && describe(now) === describe(row)) return
    const what = now === undefined ? "deleted" : `led to ${format(now.internalAddress)}:${now.internalPort}`
    this.#world.violate("others-untouched", `somebody else's ${describe(row)} on ${model.name} has been ${what}`)
  }

  /** Looks at every mapping that is held, and at those of others. */
  sample() {
    this.lookAtOthers(this.#world.router.model)
    for (const held of this.#world.helds) {
      this.#isBarred(held)
      if (!held.program.process.isRunning) continue
      const mapping = this.currentOf(held)
      if (mapping === undefined) continue
      held.lastPort = mapping.externalPort
      held.leftPort = mapping.externalPort
      this.#checkTold(held, mapping)
      if (mapping.status === "lost") this.#sampleLost(held)
      else this.#sampleMapped(held, mapping)
    }
  }

  /** What a mapping says of itself is what it was asked for, and its changes have told it. */
  #checkTold({ index, told, wanted }: World.Held, mapping: PortMapping.PortMapping) {
    if (mapping.protocol !== wanted.protocol || mapping.internalPort !== wanted.internalPort) {
      const said = `${mapping.internalPort}/${mapping.protocol}`
      this.#world.violate("maps-what-was-asked", `mapping ${index} is said to be one of internal port ${said}`)
    }
    const latest = told.at(-1)
    if (latest === undefined || !PortMapping.isSameContact(latest, mapping)) {
      const before = latest === undefined ? "nothing" : `${PortMapping.format(latest)}, ${latest.status}`
      const now = `${PortMapping.format(mapping)}, ${mapping.status}`
      this.#world.violate("changes-tell", `mapping ${index} is ${now}, and its changes have told ${before} last`)
    }
    const twice = told.some((one, at) => {
      const next = told[at + 1]
      return next !== undefined && PortMapping.isSameContact(one, next)
    })
    if (twice) this.#world.violate("changes-tell", `mapping ${index}: the same contact is told twice in a row`)
    told.splice(0, told.length - 1)
  }

  checkEnded({ index }: World.Held, { process }: World.Program, telling: Fiber.Fiber<void> | undefined) {
    if (!process.isRunning || telling === undefined || telling.pollUnsafe() !== undefined) return
    this.#world.violate("changes-tell", `the changes of mapping ${index} go on after its release`)
  }

  #sampleLost(held: World.Held) {
    held.badSince = undefined
    held.goneSince = undefined
    held.lostSince ??= this.#world.now
    // The time counts from when it could be had, which may have been just before the next look.
    if (!this.expectsMapping(held)) held.lostSince = this.#world.now + this.#world.period
    if (this.#world.attacks !== undefined) return
    const since = Math.max(held.lostSince, this.#world.unhealthyUntil)
    if (this.#world.now - since > longestPause + 2 * slack) {
      this.#world.violate(
        "recovers",
        `mapping ${held.index} is still lost ${(this.#world.now - since) / second} s after all is well`
      )
    }
  }

  /** A renewal comes after half the lease, or after a question that nobody has answered; two of them have failed by then. */
  #checkSaysWhenAway(held: World.Held, { lifetime, method, status }: PortMapping.PortMapping) {
    const { now, router, silentSince } = this.#world
    if (status !== "mapped" || lifetime === undefined || !router.model.isSilent(now)) return
    const lease = Duration.isFinite(lifetime) ? this.#leaseMillis(held) : permanentLease
    const silence = now - Math.max(silentSince, held.heldSince)
    if (silence <= (method === "upnp" ? lease / 2 : Math.min(lease / 2, longestNotice)) + 2 * slack) return
    this.#world.violate(
      "says-when-away",
      `mapping ${held.index} is ${status}, and nobody has answered for ${silence / second} s`
    )
  }

  #sampleMapped(held: World.Held, mapping: PortMapping.PortMapping) {
    held.lostSince = undefined
    this.#checkSaysWhenAway(held, mapping)
    if (held.wanted.strictExternalPort && mapping.externalPort !== held.wanted.externalPort) {
      const { externalPort } = held.wanted
      this.#world.violate(
        "port-as-asked",
        `mapping ${held.index} has port ${mapping.externalPort}, not ${externalPort}`
      )
    }
    if (mapping.doubleNat !== DoubleNat.isBehind(mapping.externalAddress)) {
      this.#world.violate("double-nat-told", `mapping ${held.index} is ${mapping.doubleNat ? "" : "not "}flagged`)
    }
    if (!this.isCalm) held.firstPort = mapping.externalPort
    if (mapping.externalPort !== held.firstPort) {
      this.#world.violate(
        "port-as-asked",
        `mapping ${held.index} went from port ${held.firstPort} to ${mapping.externalPort}`
      )
    }
    const wrong = this.#wrong(held, mapping)
    if (wrong === undefined) {
      held.badSince = undefined
      held.goneSince = undefined
      held.expiresAt = this.#rowOf(mapping)?.expiresAt
      return
    }
    // It may have been renewed, and be wrong in something else.
    const isGone = wrong.startsWith("gone")
    const isOverdue = isGone && held.expiresAt !== undefined && this.#world.now > held.expiresAt + slack
    if (isOverdue && this.#world.plan.quirk === undefined) {
      return this.#world.violate(
        "live-or-lost",
        `mapping ${held.index}: its lease has run out, and it is not reported as lost`
      )
    }
    if (wrong.startsWith("forged")) return this.#world.violate("live-or-lost", `mapping ${held.index}: ${wrong}`)
    if (mapping.lifetime === undefined) return
    this.#checkHearsOfAddress(held, mapping, wrong)
    held.badSince ??= this.#world.now
    held.goneSince = isGone ? (held.goneSince ?? this.#world.now) : undefined
    const isPermanent = !Duration.isFinite(mapping.lifetime)
    this.#checkNotTooLong(held, held.badSince, wrong, isPermanent ? permanentLease : this.#leaseMillis(held))
  }

  /** The router says so as soon as it happens: to its subscribers, to all hosts, or to those that have mappings. */
  #checkHearsOfAddress(held: World.Held, mapping: PortMapping.PortMapping, wrong: string) {
    const { addressChangedAt, now, plan } = this.#world
    if (!wrong.startsWith(otherAddress) || !this.isCalm) return
    if (mapping.method === "upnp" ? plan.quirk !== undefined : !this.#isToldOfAddress(mapping)) return
    // Whoever has just mapped is about to subscribe.
    if (held.heldSince > addressChangedAt - moment || now - addressChangedAt < hearing) return
    this.#world.violate(
      "hears-of-address",
      `mapping ${held.index}: ${wrong}, for ${(now - addressChangedAt) / second} s`
    )
  }

  /** Whether a gateway of NAT-PMP or PCP tells whoever has such a mapping what has become of it. */
  #isTold({ method }: PortMapping.PortMapping): boolean {
    return method === "pcp" || (method === "natpmp" && this.#world.plan.quirk !== "AnnouncesOnlyToClients")
  }

  /** One that has often had another address is believed ever later. */
  #isToldOfAddress(mapping: PortMapping.PortMapping): boolean {
    const { isFirstChange, plan } = this.#world
    return isFirstChange && announcing.has(plan.quirk) && this.#isTold(mapping)
  }

  /**
   * The renewal finds what is wrong, and that comes after half the lease: only what trouble has made fail comes later,
   * after the longest pause. A lease that the router does not have runs out in any case.
   */
  #checkNotTooLong(held: World.Held, badSince: number, wrong: string, lease: number) {
    const renewed = Math.max(badSince + lease / 2, this.troubleEnd + longestPause)
    const isGoneTooLong = held.goneSince !== undefined && this.#world.now - held.goneSince > lease + slack
    if (this.#world.now > renewed + slack || isGoneTooLong) {
      this.#world.violate(
        "live-or-lost",
        `mapping ${held.index}: ${wrong}, for ${(this.#world.now - badSince) / second} s`
      )
    }
  }

  checkFirst(held: World.Held) {
    const mapping = this.currentOf(held)
    held.firstPort = mapping?.externalPort
    const { family, quirk, topology } = this.#world.plan
    if (mapping === undefined || !this.isCalm || quirk !== undefined || topology === "twoHosts") return
    // Nothing is translated there.
    if (family === "ipv6") {
      const { externalPort } = mapping
      if (externalPort === held.wanted.internalPort) return
      return this.#world.violate("port-as-asked", `the pinhole is at port ${externalPort} of this host`)
    }
    const wanted = held.wanted.externalPort
    const holder = this.#world.router.model
      .entries(this.#world.now)
      .find((entry) => entry.protocol === held.wanted.protocol && entry.externalPort === wanted)
    // A router has one port for an internal end: what a process that is gone has left there is renewed with its port.
    if (mapping.externalPort !== wanted && mapping.externalPort !== held.leftPort && holder === undefined) {
      this.#world.violate("port-as-asked", `port ${mapping.externalPort} in place of ${wanted}, which is free`)
    }
  }

  checkReleased(held: World.Held, last: PortMapping.PortMapping, startedAt: number) {
    // What was on its way twice may arrive after the deletion: no client can help that.
    if (!this.#world.isHealthy(startedAt - 20 * second) || this.#world.attacks !== undefined || last.status === "lost")
      return
    const { address, model } = this.#world.gateway
    if (last.gateway === undefined || !Equal.equals(last.gateway, address)) return
    // NAT-PMP deletes for the address that asks: what an earlier address of this host had stays until its lease ends.
    if (!this.#world.host.addresses.some((own) => Equal.equals(own, last.internalAddress))) return
    const left = rowsOf(model, this.#world.now).find(
      (row) =>
        row.protocol === held.wanted.protocol &&
        row.internalPort === held.wanted.internalPort &&
        row.externalPort === last.externalPort &&
        Equal.equals(row.internalAddress, last.internalAddress)
    )
    if (left !== undefined) this.#world.violate("release-leaves-nothing", `${describe(left)} is still there`)
  }

  /** Whether the user's wish can be fulfilled in this world. */
  expectsMapping(held: World.Held): boolean {
    const { externalAddress } = this.#world.router.model
    const { family, protocol } = this.#world.plan
    const isAddressless = externalAddress === undefined || NetAddress.isUnspecified(externalAddress)
    if (isAddressless && protocol !== "upnp" && family === "ipv4") return false
    if (this.#isBarred(held)) return false
    if (this.#world.plan.quirk !== undefined && Quirk.profileOf(this.#world.plan.quirk).outcome !== "Mapped")
      return false
    // Only one host can have a port that must be the internal one, and an earlier address of this host is another one.
    if (this.#world.plan.quirk === "SamePortValuesRequired" && this.#isInternalPortTaken(held)) return false
    // A port that must be this one may be somebody else's, or our own from before.
    return !held.wanted.strictExternalPort
  }

  /**
   * Over PCP alone, what is at the same internal port and not of this host's making bars it, and then the refusal, while
   * that lasts.
   */
  #isBarred(held: World.Held): boolean {
    const { now, plan, router } = this.#world
    const isPcpAlone = plan.protocol === "pcp" || plan.speaks.every((one) => one === "pcp")
    if (!isPcpAlone || !plan.speaks.includes("pcp")) return false
    const { internalPort, protocol } = held.wanted
    const isThere = rowsOf(router.model, now).some(
      (row) =>
        row.protocol === protocol &&
        row.internalPort === internalPort &&
        this.#isOwnAddress(row.internalAddress) &&
        !this.#nonces.has(`${internalPort}/${protocol} ${row.nonce}`)
    )
    if (isThere) held.barredUntil = now + longestRefusal + slack
    return now < held.barredUntil
  }

  #isInternalPortTaken({ wanted }: World.Held): boolean {
    return this.#world.router.model
      .entries(this.#world.now)
      .some(
        ({ externalPort, internalAddress, protocol }) =>
          externalPort === wanted.internalPort &&
          protocol === wanted.protocol &&
          !this.#world.host.addresses.some((own) => Equal.equals(own, internalAddress))
      )
  }

  checkAllMapped() {
    if (!this.#world.program.process.isRunning) return
    for (const held of this.#world.helds) {
      if (held.mapping === undefined && held.isWanted && this.expectsMapping(held)) {
        this.#world.violate(
          "maps-when-healthy",
          `mapping ${held.index}: ${held.error?.message ?? "no answer to the user"}`
        )
      }
    }
  }

  checkNothingLeft() {
    for (const model of this.#world.everyModel) {
      for (const entry of rowsOf(model, this.#world.now)) {
        if (!this.#world.ownAddresses.has(format(entry.internalAddress))) continue
        if (entry.expiresAt === undefined && this.#world.mayLeavePermanent) continue
        this.#world.violate("nothing-left", `${describe(entry)} on ${model.name}`)
      }
      this.lookAtOthers(model)
    }
  }
}
