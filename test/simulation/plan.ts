/**
 * What happens in one world, drawn from its seed: nothing else decides.
 */
import * as Quirk from "@effect-nat/testing/Quirk"
import * as SeededRandom from "../../packages/testing/src/internal/seededRandom.ts"

export const protocols = ["natpmp", "pcp", "upnp", "automatic"] as const
export type Protocol = (typeof protocols)[number]

/** What a router speaks. */
export const spoken = ["natpmp", "upnp", "pcp"] as const
export type Spoken = (typeof spoken)[number]

/** Where the host stands. */
export const topologies = ["oneRouter", "doubleNat", "twoGateways", "twoHosts", "printerNearby"] as const
export type Topology = (typeof topologies)[number]

/** What goes wrong, of which the first worlds draw. */
const drawnFaults = [
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
export const faults = ["none", ...drawnFaults, "full"] as const
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
  readonly speaks: ReadonlyArray<Spoken>
  /** What is mapped: a port of the router's address, or a pinhole in its firewall. */
  readonly family: "ipv4" | "ipv6"
  readonly topology: Topology
  readonly quirk: Quirk.Quirk | undefined
  readonly hasBystander: boolean
  /** Whether somebody else is quicker than we are when the router has restarted. */
  readonly isBystanderQuick: boolean
  /** Whether the user unmaps the first port just then. */
  readonly unmapsAtRestart: boolean
  /** Whether the user no longer wants the last port, one of several, when the program starts again after a crash. */
  readonly dropsAfterCrash: boolean
  /** Another program holds what a careless client would bind. */
  readonly hasTakenPorts: boolean
  readonly longestLease: number
  readonly wanted: ReadonlyArray<Wanted>
  readonly events: ReadonlyArray<Event>
  /** When everything is mended again. */
  readonly horizon: number
}

const concerns = (protocol: Spoken, { protocols }: Quirk.Profile): boolean => protocols.includes(protocol)

/** Whether a quirk can show to this strategy. */
const canMeet = (protocol: Protocol, profile: Quirk.Profile): boolean => {
  if (protocol === "automatic") return true
  // Who speaks NAT-PMP or PCP asks the default gateway, which is not the one that maps here.
  return concerns(protocol, profile) && (protocol === "upnp" || profile.name !== "FailoverPair")
}

/** Nobody in these worlds searches over IPv6, or asks for pinholes over UPnP. */
const inNetwork = Quirk.runningIn("network").filter(({ item }) => item !== 13)

/** The quirks that a world may have. */
export const quirksFor = (protocol: Protocol): ReadonlyArray<Quirk.Quirk> =>
  inNetwork.filter((profile) => canMeet(protocol, profile)).map(({ name }) => name)

/** Quirks of routers that speak PCP came later, and with them worlds of their own. */
const isLater = ({ item, name }: Quirk.Profile): boolean =>
  item === 17 || ["AnnouncesOnlyToGroup", "AnnouncesOnlyToClients", "EpochStandsStill", "EpochJumpsBack"].includes(name)

const firstProtocols = ["natpmp", "upnp", "automatic"] as const

/** What the first worlds are drawn from: a seed's world stays the one that it was. */
const firstQuirksFor = (protocol: Protocol): ReadonlyArray<Quirk.Quirk> =>
  inNetwork
    .filter((profile) => !isLater(profile) && (protocol !== "natpmp" || canMeet(protocol, profile)))
    .map(({ name }) => name)

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
  const protocol = firstProtocols[round % firstProtocols.length] ?? "upnp"
  const quirks = firstQuirksFor(protocol)
  const quirk = quirks[Math.floor(round / firstProtocols.length) % quirks.length]
  return quirk === undefined ? undefined : [protocol, quirk]
}

const drawQuirk = (random: SeededRandom.SeededRandom, quirks: ReadonlyArray<Quirk.Quirk>): Quirk.Quirk | undefined =>
  random.chance(0.5) ? random.pick(quirks as [Quirk.Quirk]) : undefined

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

/** One world in so many is of those with PCP, and one of these in two takes its turn with protocol and quirk. */
const isOfPcp = (seed: number): boolean => seed % 5 === 1

/** Every quirk that PCP meets, and those of the port that it shares, met by whoever else asks there. */
const turnsOfPcp: ReadonlyArray<readonly [Protocol, Quirk.Quirk]> = [
  ...quirksFor("pcp").map((quirk) => ["pcp", quirk] as const),
  ...(["natpmp", "automatic"] as const).flatMap((protocol) =>
    inNetwork
      .filter((profile) => isLater(profile) && canMeet(protocol, profile))
      .map(({ name }) => [protocol, name] as const)
  )
]

/** Every set of protocols that a router can speak. */
export const everySpeech: ReadonlyArray<ReadonlyArray<Spoken>> = [
  ["pcp"],
  ["natpmp", "pcp"],
  ["pcp", "upnp"],
  ["natpmp", "pcp", "upnp"],
  ["natpmp"],
  ["natpmp", "upnp"],
  ["upnp"]
]

export const nameOfSpeech = (speech: ReadonlyArray<Spoken>): string =>
  speech.length === 1 ? `${speech[0]} only` : spoken.filter((one) => speech.includes(one)).join("+")

/** What a router may speak with whom, and with which quirk: one that it cannot show would be none. */
export const speechesFor = (protocol: Protocol, quirk: Quirk.Quirk | undefined): ReadonlyArray<ReadonlyArray<Spoken>> =>
  everySpeech
    // A router that speaks NAT-PMP only says so to whoever asks over PCP.
    .filter(
      (speech) =>
        protocol === "automatic" ||
        speech.includes(protocol) ||
        (protocol === "pcp" && speech.length === 1 && speech[0] === "natpmp")
    )
    .filter((speech) => quirk === undefined || speech.some((one) => concerns(one, Quirk.profileOf(quirk))))

/** What is different about the mappings of IPv4 has nothing in a firewall in which it could show. */
const ofIpv4Only: ReadonlySet<Quirk.Quirk> = new Set([
  "ConflictInMappingEntry",
  "SamePortValuesRequired",
  "PermanentLeasesPileUp",
  "LeasesVanishOvernight",
  "PermanentLeasesVanishOvernight",
  "FreedPortsAreTaken",
  "NeverForgets",
  "GrantsOtherPorts"
])

const canHavePinholes = (
  protocol: Protocol,
  speaks: ReadonlyArray<Spoken>,
  quirk: Quirk.Quirk | undefined
): boolean => {
  if (protocol !== "pcp" || !speaks.includes("pcp")) return false
  if (quirk === undefined) return true
  const { item, where } = Quirk.profileOf(quirk)
  return item !== 7 && where !== "network" && !ofIpv4Only.has(quirk)
}

/** Only a restart shows what a router with these announces. */
const ofRestarts: ReadonlySet<Quirk.Quirk | undefined> = new Set([
  "AnnouncesOnlyToGroup",
  "AnnouncesOnlyToClients",
  "EpochStartsOver"
])

/** Only whoever wants this port and no other meets these. */
const ofStrictPorts: ReadonlySet<Quirk.Quirk | undefined> = new Set(["GrantsOtherPorts", "PreferFailureUnsupported"])

const withStrictPort = ([first, ...others]: ReadonlyArray<Wanted>): ReadonlyArray<Wanted> =>
  first === undefined ? [] : [{ ...first, strictExternalPort: true }, ...others]

/** What happens in the worlds with PCP beside what happens in all: a restart or another address, late and in the calm. */
const drawLateNews = (seed: number, quirk: Quirk.Quirk | undefined, horizon: number): ReadonlyArray<Event> => {
  if (!isOfPcp(seed)) return []
  const random = SeededRandom.make(seed, "news")
  const isNeeded = ofRestarts.has(quirk)
  if (!isNeeded && !random.chance(0.5)) return []
  const what = random.pick(["reboot", "addressChange"] as const)
  const at = random.between(Math.floor(horizon / 2), horizon)
  return [{ at, what: isNeeded && quirk === "EpochStartsOver" ? "reboot" : what, lasts: 0, mapping: 0 }]
}

/** Only what a killed process has left, and the next one does not want, shows a router that never forgets. */
const drawCrash = (seed: number, quirk: Quirk.Quirk | undefined, horizon: number): ReadonlyArray<Event> => {
  if (quirk !== "NeverForgets") return []
  return [{ at: SeededRandom.make(seed, "crash").between(0, horizon), what: "crash", lasts: 0, mapping: 0 }]
}

/** For a while, mostly when the program starts, the router has no place for another mapping. */
const drawFullness = (seed: number, horizon: number): ReadonlyArray<Event> => {
  const random = SeededRandom.make(seed, "filled")
  if (!random.chance(0.08)) return []
  const at = random.chance(0.8) ? 0 : random.between(0, horizon)
  return [{ at, what: "full", lasts: random.pick([10, 60, 180] as const) * 1000, mapping: 0 }]
}

/** What the worlds with PCP are, drawn apart. */
const drawOfPcp = (seed: number): Pick<Plan, "family" | "protocol" | "quirk" | "speaks"> | undefined => {
  if (!isOfPcp(seed)) return undefined
  const random = SeededRandom.make(seed, "pcp")
  const round = Math.floor(seed / 10)
  const drawnProtocol = random.pick<Protocol>(["pcp", "pcp", "pcp", "pcp", "natpmp", "automatic"])
  const drawnQuirk = drawQuirk(random, quirksFor(drawnProtocol))
  const isTurn = seed % 2 === 0
  const [protocol, quirk] = (isTurn ? turnsOfPcp[round % turnsOfPcp.length] : undefined) ?? [drawnProtocol, drawnQuirk]
  const isUpnpOnly = quirk === "FailoverPair"
  const speeches = isUpnpOnly ? [["upnp"] as const] : speechesFor(protocol, quirk)
  const speaks = random.pick(speeches as [ReadonlyArray<Spoken>])
  const isForPinholes = random.chance(0.3) && canHavePinholes(protocol, speaks, quirk)
  return { protocol, quirk, speaks, family: isForPinholes ? "ipv6" : "ipv4" }
}

const drawSpeech = (
  random: SeededRandom.SeededRandom,
  protocol: Protocol,
  isUpnpOnly: boolean
): ReadonlyArray<Spoken> => {
  if (isUpnpOnly) return ["upnp"]
  switch (protocol) {
    case "natpmp":
      return random.pick([["natpmp"], ["natpmp", "upnp"], ["natpmp", "pcp"]])
    case "upnp":
      return random.pick([["upnp"], ["natpmp", "upnp"]])
    default:
      return random.pick([["natpmp"], ["upnp"], ["natpmp", "upnp"], ["pcp", "upnp"]])
  }
}

/** The world of a seed. Every few worlds have no fault at all: there the strictest invariants hold. */
export const draw = (seed: number): Plan => {
  const random = SeededRandom.make(seed, "plan")
  // What came later is drawn apart, so that a seed's world is the one that it was.
  const more = SeededRandom.make(seed, "more")
  const drawnProtocol = random.pick(firstProtocols)
  const topology = random.pick(topologies)
  const drawnQuirk = drawQuirk(random, firstQuirksFor(drawnProtocol))
  const ofPcp = drawOfPcp(seed)
  const [protocol, quirk] =
    ofPcp === undefined ? (inTurn(seed) ?? [drawnProtocol, drawnQuirk]) : [ofPcp.protocol, ofPcp.quirk]
  // Only a search finds a router that is not the default gateway.
  const isUpnpOnly = quirk === "FailoverPair" || (quirk !== undefined && !concerns("natpmp", Quirk.profileOf(quirk)))
  const lifetime = random.pick(lifetimes)
  const lifetimeSeconds = quirk === "RefusesLeasesAboveOneWeek" ? longLease : lifetime
  const horizon = Math.max(3 * minute, 2500 * lifetimeSeconds)
  const fewest = quirk === "NeverForgets" ? 2 : 1
  const length = Math.max(random.between(1, 3), fewest)
  const wanted = Array.from({ length }, (_, index) => drawWanted(random, lifetimeSeconds, index))
  const event = (what: Event["what"]): Event => ({
    at: random.chance(0.3) ? random.between(0, 5_000) : random.between(0, horizon),
    what,
    lasts: random.pick([2_000, 20_000, 120_000, 500 * lifetimeSeconds, 1200 * lifetimeSeconds]),
    mapping: random.between(0, wanted.length - 1)
  })
  const drawn: Array<Event> = []
  const calm = random.chance(0.25)
  if (!calm) {
    for (let left = random.between(1, 3); left > 0; left--) drawn.push(event(random.pick(drawnFaults)))
  }
  if (random.chance(0.7)) {
    for (let left = random.between(1, 3); left > 0; left--) drawn.push(event(random.pick(deeds)))
  }
  drawn.push(
    ...drawQuestions(more, horizon, quirk),
    ...drawLateNews(seed, quirk, horizon),
    ...drawCrash(seed, quirk, horizon),
    ...drawFullness(seed, horizon)
  )
  return {
    seed,
    protocol,
    speaks: ofPcp?.speaks ?? drawSpeech(random, protocol, isUpnpOnly),
    family: ofPcp?.family ?? "ipv4",
    topology,
    quirk,
    hasBystander: random.chance(0.4),
    isBystanderQuick: more.chance(0.5),
    dropsAfterCrash: quirk === "NeverForgets" || SeededRandom.make(seed, "drop").chance(0.5),
    unmapsAtRestart: SeededRandom.make(seed, "restart").chance(0.3),
    hasTakenPorts: random.chance(0.3),
    // Over UPnP nobody would tell the client that its lease is cut short.
    longestLease: protocol === "natpmp" || protocol === "pcp" ? random.pick([604_800, 604_800, 3600, 120]) : 604_800,
    wanted: ofPcp !== undefined && ofStrictPorts.has(quirk) ? withStrictPort(wanted) : wanted,
    events: drawn.sort((self, that) => self.at - that.at),
    horizon
  }
}
