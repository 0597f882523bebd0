/**
 * What happens in one world, drawn from its seed: nothing else decides.
 */
import * as Quirk from "@effect-nat/testing/Quirk"
import * as SeededRandom from "../../packages/testing/src/internal/seededRandom.ts"

export const protocols = ["natpmp", "upnp", "automatic"] as const
export type Protocol = (typeof protocols)[number]

/** Where the host stands. */
export const topologies = ["oneRouter", "doubleNat", "twoGateways", "twoHosts", "printerNearby"] as const
export type Topology = (typeof topologies)[number]

/** What goes wrong. */
export const faults = [
  "none",
  "loss",
  "delay",
  "duplication",
  "reordering",
  "silence",
  "reboot",
  "addressChange",
  "routerReplaced",
  "lostAnswer",
  "garbage",
  "forgery"
] as const
export type Fault = (typeof faults)[number]

/** What the user does, beside mapping and asking. */
const deeds = ["unmap", "unmapTwice", "interrupt", "crash", "restart", "networkChange", "addressRenewal"] as const

/** What the user wants to know, or has taken away. */
export const questions = ["list", "remove", "askAddress"] as const
export type Question = (typeof questions)[number]

export const actions = ["map", ...deeds, ...questions] as const
export type Action = (typeof actions)[number]

/** A port to map. */
export interface Wanted {
  readonly protocol: "tcp" | "udp"
  readonly internalPort: number
  readonly externalPort: number
  readonly strictExternalPort: boolean
  readonly lifetimeSeconds: number
}

/** In milliseconds of virtual time. */
export interface Event {
  readonly at: number
  readonly what: Exclude<Fault, "none"> | Action
  /** How long a fault lasts. */
  readonly lasts: number
  /** Which mapping an action is about. */
  readonly mapping: number
}

export interface Plan {
  readonly seed: number
  readonly protocol: Protocol
  /** What the router speaks, where the strategy could use either. */
  readonly speaks: ReadonlyArray<"natpmp" | "upnp" | "pcp">
  readonly topology: Topology
  readonly quirk: Quirk.Quirk | undefined
  readonly hasBystander: boolean
  /** Whether somebody else is quicker than we are when the router has restarted. */
  readonly isBystanderQuick: boolean
  /** Another program holds what a careless client would bind. */
  readonly hasTakenPorts: boolean
  readonly longestLease: number
  readonly wanted: ReadonlyArray<Wanted>
  readonly events: ReadonlyArray<Event>
  /** When everything is mended again. */
  readonly horizon: number
}

/** Quirks that can show to a strategy that speaks only NAT-PMP. */
const concernsNatPmp = ({ protocols }: Quirk.Profile): boolean => protocols.includes("natpmp")

/** The quirks that a world may have. */
export const quirksFor = (protocol: Protocol): ReadonlyArray<Quirk.Quirk> =>
  Quirk.runningIn("network")
    // Nobody in these worlds has IPv6.
    .filter(({ item }) => item !== 13)
    // Who speaks NAT-PMP asks the default gateway, which is not the one that maps here.
    .filter((profile) => protocol !== "natpmp" || (concernsNatPmp(profile) && profile.name !== "FailoverPair"))
    .map((profile) => profile.name)

/** Quirks that nothing in these worlds meets: nobody asks for what they refuse. */
const unstirred: ReadonlySet<Quirk.Quirk> = new Set([
  "RefusesPermanentLeases",
  "RemoteHostOnlySupportsWildcard",
  "WildCardNotPermittedInIntPort"
])

/** Whether a world in which the user has done this has met its quirk. */
export const stirs = (quirk: Quirk.Quirk | undefined, done: ReadonlyArray<Action>): boolean =>
  quirk === undefined || (!unstirred.has(quirk) && (quirk !== "EndOfListIsInvalidArgs" || done.includes("list")))

/** So that every quirk is met, one world in so many takes its turn with protocol and quirk; chance draws the others. */
const turn = 8

const inTurn = (seed: number): readonly [Protocol, Quirk.Quirk] | undefined => {
  if (seed % turn !== turn / 2) return undefined
  const round = Math.floor(seed / turn)
  const protocol = protocols[round % protocols.length] ?? "upnp"
  const quirks = quirksFor(protocol)
  const quirk = quirks[Math.floor(round / protocols.length) % quirks.length]
  return quirk === undefined ? undefined : [protocol, quirk]
}

const drawQuirk = (random: SeededRandom.SeededRandom, protocol: Protocol): Quirk.Quirk | undefined =>
  random.chance(0.5) ? random.pick(quirksFor(protocol) as [Quirk.Quirk]) : undefined

/** More than a week, in seconds. */
const longLease = 700_000

const lifetimes = [30, 60, 120, 600, 3600, 7200] as const
const ports = [8080, 12_000, 27_015, 51_413] as const

const minute = 60_000

const drawWanted = (random: SeededRandom.SeededRandom, lifetimeSeconds: number, index: number): Wanted => {
  const internalPort = (ports[index] ?? 9000) + random.between(0, 3)
  return {
    protocol: random.chance(0.5) ? "tcp" : "udp",
    internalPort,
    externalPort: random.chance(0.4) ? internalPort : internalPort + 1000,
    strictExternalPort: random.chance(0.1),
    lifetimeSeconds
  }
}

const drawQuestions = (
  random: SeededRandom.SeededRandom,
  horizon: number,
  quirk: Quirk.Quirk | undefined
): ReadonlyArray<Event> => {
  const question = (what: Question): Event => ({ at: random.between(0, horizon), what, lasts: 0, mapping: 0 })
  // Only the end of a list shows it.
  if (quirk === "EndOfListIsInvalidArgs") return [question("list")]
  if (!random.chance(0.3)) return []
  return Array.from({ length: random.between(1, 3) }, () => question(random.pick(questions)))
}

/** The world of a seed. Every few worlds have no fault at all: there the strictest invariants hold. */
export const draw = (seed: number): Plan => {
  const random = SeededRandom.make(seed, "plan")
  // What came later is drawn apart, so that a seed's world is the one that it was.
  const more = SeededRandom.make(seed, "more")
  const drawnProtocol = random.pick(protocols)
  const topology = random.pick(topologies)
  const drawnQuirk = drawQuirk(random, drawnProtocol)
  const [protocol, quirk] = inTurn(seed) ?? [drawnProtocol, drawnQuirk]
  // Only a search finds a router that is not the default gateway.
  const isUpnpOnly = quirk === "FailoverPair" || (quirk !== undefined && !concernsNatPmp(Quirk.profileOf(quirk)))
  const lifetime = random.pick(lifetimes)
  const lifetimeSeconds = quirk === "RefusesLeasesAboveOneWeek" ? longLease : lifetime
  const horizon = Math.max(3 * minute, 2500 * lifetimeSeconds)
  const wanted = Array.from({ length: random.between(1, 3) }, (_, index) => drawWanted(random, lifetimeSeconds, index))
  const event = (what: Event["what"]): Event => ({
    at: random.chance(0.3) ? random.between(0, 5_000) : random.between(0, horizon),
    what,
    lasts: random.pick([2_000, 20_000, 120_000, 500 * lifetimeSeconds, 1200 * lifetimeSeconds]),
    mapping: random.between(0, wanted.length - 1)
  })
  const drawn: Array<Event> = []
  const calm = random.chance(0.25)
  if (!calm) {
    for (let left = random.between(1, 3); left > 0; left--)
      drawn.push(event(random.pick(faults.slice(1) as [Event["what"]])))
  }
  if (random.chance(0.7)) {
    for (let left = random.between(1, 3); left > 0; left--) drawn.push(event(random.pick(deeds)))
  }
  drawn.push(...drawQuestions(more, horizon, quirk))
  return {
    seed,
    protocol,
    speaks: isUpnpOnly
      ? ["upnp"]
      : protocol === "natpmp"
        ? random.pick([["natpmp"], ["natpmp", "upnp"], ["natpmp", "pcp"]])
        : protocol === "upnp"
          ? random.pick([["upnp"], ["natpmp", "upnp"]])
          : random.pick([["natpmp"], ["upnp"], ["natpmp", "upnp"], ["pcp", "upnp"]]),
    topology,
    quirk,
    hasBystander: random.chance(0.4),
    isBystanderQuick: more.chance(0.5),
    hasTakenPorts: random.chance(0.3),
    // Over UPnP nobody would tell the client that its lease is cut short.
    longestLease: protocol === "natpmp" ? random.pick([604_800, 604_800, 3600, 120]) : 604_800,
    wanted,
    events: drawn.sort((self, that) => self.at - that.at),
    horizon
  }
}
