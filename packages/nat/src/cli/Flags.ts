/**
 * Flags and arguments, shared by the commands. What is wrong with a value is said here, before anything runs.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as PortMapping from "@effect-nat/core/PortMapping"

/** One port to map, as written on the command line. */
export interface MappingSpec {
  readonly internalPort: number
  readonly externalPort: number | undefined
  readonly protocol: PortMapping.Protocol
}

const portOf = (text: string): number => {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN
  if (port >= 1 && port <= 65535) return port
  const several = /^\d+[-,]\d/.test(text) ? "; several ports are several words, as in: 12000 12001" : ""
  throw new Error(`${JSON.stringify(text)} is not a port: use a whole number from 1 to 65535${several}`)
}

const protocolOf = (text: string | undefined): PortMapping.Protocol => {
  const protocol = text?.toLowerCase() ?? "tcp"
  if (protocol === "tcp" || protocol === "udp") return protocol
  throw new Error(`${JSON.stringify(text)} is not a protocol: use tcp or udp`)
}

const asError = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown))

/** `12000[:12001][/tcp|/udp]` */
export const parseMappingSpec = (text: string): MappingSpec => {
  const [ports = "", protocol, ...moreSlashes] = text.split("/")
  const [internal = "", external, ...moreColons] = ports.split(":")
  if (moreSlashes.length > 0 || moreColons.length > 0) {
    throw new Error(`${JSON.stringify(text)} is not a mapping: write 12000, 12000:12001 or 12000:12001/udp`)
  }
  return {
    internalPort: portOf(internal),
    externalPort: external === undefined ? undefined : portOf(external),
    protocol: protocolOf(protocol)
  }
}

/** `12001/tcp`, the protocol being optional. */
export const parseExternalSpec = (
  text: string
): { readonly externalPort: number; readonly protocol: PortMapping.Protocol } => {
  const [port = "", protocol, ...more] = text.split("/")
  if (more.length > 0) throw new Error(`${JSON.stringify(text)} is not a mapping: write 12001/tcp or 12001/udp`)
  return { externalPort: portOf(port), protocol: protocolOf(protocol) }
}

const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** `90s`, `30m`, `2h`, `1d` or a bare number of seconds; anything else is no number. */
const secondsOf = (text: string): number => {
  const [, count, unit = "s"] = /^(\d{1,9})([smhd])?$/.exec(text) ?? []
  return Number(count) * (units[unit] ?? 1)
}

/** A time, `0` or `permanent`. */
export const parseLease = (text: string): Duration.Duration => {
  if (text === "permanent") return Duration.infinity
  const seconds = secondsOf(text)
  if (Number.isNaN(seconds)) {
    throw new Error(`${JSON.stringify(text)} is not a lease: write it like 90s, 30m, 2h or 1d, or 0 for permanent`)
  }
  return seconds === 0 ? Duration.infinity : Duration.seconds(seconds)
}

/** A time that passes. */
export const parseTime = (text: string): Duration.Duration => {
  const seconds = secondsOf(text)
  if (seconds > 0) return Duration.seconds(seconds)
  throw new Error(`${JSON.stringify(text)} is not a time: write it like 10s, 5m or 2h`)
}

const parseAddress = (text: string): string => {
  if (text === "" || Result.isSuccess(NetAddress.ipFromString(text))) return text
  throw new Error(
    `${JSON.stringify(text)} is not an IP address: write one like 11.22.33.1, or leave it empty where it is not known`
  )
}

/** The strategies that a person can name. */
export const strategies = ["auto", "lan", "manual", "upnp", "natpmp", "pcp"] as const

/** The name of a strategy. */
export type StrategyName = (typeof strategies)[number]

export const json = Flag.Boolean("json").pipe(
  Flag.withDescription("Print one JSON object a line instead of text"),
  Flag.withDefault(false)
)

export const strategy = Flag.Literals("strategy", strategies).pipe(
  Flag.withDescription("How to map: auto asks every protocol and takes the one that answers"),
  Flag.withDefault("auto")
)

/** The strategies that look for a gateway. */
const searches = ["auto", "upnp", "natpmp", "pcp"] as const satisfies ReadonlyArray<StrategyName>

/** The name of a strategy that looks for a gateway. */
export type SearchName = (typeof searches)[number]

export const search = Flag.Literals("strategy", searches).pipe(
  Flag.withDescription("Whom to ask: auto asks by every protocol"),
  Flag.withDefault("auto")
)

export const noAutomation = Flag.Boolean("no-automation").pipe(
  Flag.withoutNegation,
  Flag.withDescription("Ask no gateway for anything: not a packet leaves this host on the way to a mapping"),
  Flag.withDefault(false)
)

export const externalAddress = Flag.String("external-address").pipe(
  Flag.withMetavar("ADDR"),
  Flag.withDescription("The address that the world sees, for the manual strategy; empty where it is not known"),
  Flag.mapTryCatch(parseAddress, asError),
  Flag.withDefault("")
)

export const gateway = Flag.String("gateway").pipe(
  Flag.withMetavar("NAME|ADDR"),
  Flag.withDescription("The gateway to use where several answer, by name or address (see: effect-nat gateways)"),
  Flag.withDefault(undefined)
)

export const lease = Flag.String("lease").pipe(
  Flag.withMetavar("TIME"),
  Flag.withDescription(
    "How long the router keeps a mapping without a renewal: 90s, 30m, 2h (the default), 1d; 0 is permanent, or the longest that the protocol has"
  ),
  Flag.mapTryCatch(parseLease, asError),
  Flag.withDefault(Duration.hours(2))
)

export const description = Flag.String("description").pipe(
  Flag.withMetavar("TEXT"),
  Flag.withDescription("What the router's list calls the mapping, over UPnP (NAT-PMP and PCP have no names)"),
  Flag.withDefault("effect-nat")
)

/** What every command that talks to a gateway takes. */
export const choice = { json, strategy, noAutomation, externalAddress, gateway }

/** What a search for gateways takes. */
export const gatewaySearch = { json, strategy: search, noAutomation }

/** What every command that maps takes. */
export const mapping = { ...choice, lease, description }

export const family = Flag.Literals("family", ["ipv4", "ipv6", "both"]).pipe(
  Flag.withDescription(
    "ipv4 maps a port of the router's address; ipv6 opens the port of this host's own address in the router's firewall, over PCP and UPnP; both does both"
  ),
  Flag.withDefault("ipv4")
)

/** What is asked for, one after the other: a mapping is of one family. */
export const families = (family: MappingRequest.Family): ReadonlyArray<"ipv4" | "ipv6"> =>
  family === "both" ? ["ipv4", "ipv6"] : [family]

const sameExternal = (self: MappingSpec, that: MappingSpec): boolean =>
  self.protocol === that.protocol &&
  (self.externalPort ?? self.internalPort) === (that.externalPort ?? that.internalPort)

/** No two mappings of one external port. */
const checkSpecs = (
  specs: ReadonlyArray<MappingSpec>
): Effect.Effect<ReadonlyArray<MappingSpec>, CliError.InvalidValue> => {
  const repeated = specs.find((spec, index) => specs.slice(0, index).some((earlier) => sameExternal(earlier, spec)))
  if (repeated === undefined) return Effect.succeed(specs)
  const value = `${repeated.externalPort ?? repeated.internalPort}/${repeated.protocol}`
  const expected = `external port ${value} is asked for twice: name each port once`
  return Effect.fail(new CliError.InvalidValue({ option: "port", value, expected, kind: "argument" }))
}

export const mappingSpecs = Argument.String("port").pipe(
  Argument.withDescription("Internal port, external port and protocol, as 12000[:12001][/tcp|/udp]"),
  Argument.mapTryCatch(parseMappingSpec, asError),
  Argument.variadic({ min: 1 }),
  Argument.mapEffect(checkSpecs)
)

export const externalSpec = Argument.String("port").pipe(
  Argument.withDescription("External port and protocol, as 12001/tcp"),
  Argument.mapTryCatch(parseExternalSpec, asError)
)

const portFlag = (name: string) => Flag.String(name).pipe(Flag.withMetavar("PORT"), Flag.mapTryCatch(portOf, asError))

export const port = portFlag("port").pipe(Flag.withDescription("The port to listen on"), Flag.withDefault(12000))

export const externalPort = portFlag("external-port").pipe(
  Flag.withDescription("The port wanted on the outside; by default the same as --port"),
  Flag.withDefault(undefined)
)

export const forwarderPort = portFlag("forwarder-port").pipe(
  Flag.withDescription(
    "Take what a proxy or tunnel on this host forwards, with a PROXY protocol header (version 2), at this port of 127.0.0.1; by default not"
  ),
  Flag.withDefault(undefined)
)

export const metricsPort = portFlag("metrics-port").pipe(
  Flag.withDescription("Tell Prometheus what is counted: GET /metrics at this port of 127.0.0.1; by default not"),
  Flag.withDefault(undefined)
)

export const time = Flag.String("for").pipe(
  Flag.withMetavar("TIME"),
  Flag.withDescription("How long to look, like 10s, 5m or 2h; by default until Ctrl-C"),
  Flag.mapTryCatch(parseTime, asError),
  Flag.withDefault(undefined)
)

const parseSession = (text: string): string => {
  if (/^[0-9a-f]{32}(\.[0-9a-f]{32})?$/i.test(text)) return text.toLowerCase()
  throw new Error(
    `${JSON.stringify(text)} is not a session: it is an id of 32 hexadecimal digits, or an invitation, which has a dot and 32 more`
  )
}

export const session = Flag.String("session").pipe(
  Flag.withMetavar("ID"),
  Flag.withDescription("The session to host: its id, or a whole invitation, which then is good again; by default new"),
  Flag.mapTryCatch(parseSession, asError),
  Flag.withDefault(undefined)
)

export const contactPointUri = Argument.String("uri").pipe(
  Argument.withDescription("The contact point, as effect-nat serve prints it: effect-nat:…")
)

/** What can be asked of a dispatcher, or told to it, from elsewhere. */
const remoteActions = [
  "info",
  "sessions",
  "lookup",
  "register",
  "unregister",
  "watch",
  "contact-point",
  "strategy"
] as const

/** What can be asked of a dispatcher, or told to it, from elsewhere. */
export type RemoteAction = (typeof remoteActions)[number]

export const remoteAction = Argument.Literals("action", remoteActions).pipe(
  Argument.withDescription(`What to ask, or to do: ${remoteActions.join(", ")}`)
)

export const remoteWhat = Argument.String("what").pipe(
  Argument.withDescription(
    "The session's id for lookup and unregister, and for register if you like; the strategy's name"
  ),
  Argument.withDefault(undefined)
)

export const controlUri = Argument.String("uri").pipe(
  Argument.withDescription("The contact point that effect-nat serve --control prints for this: effect-nat:…")
)

export const wantedSession = Flag.String("session").pipe(
  Flag.withMetavar("ROLE|ID"),
  Flag.withDescription("The session to join where the contact point names several; by default the first one"),
  Flag.withDefault(undefined)
)

export const sync = Flag.Boolean("sync").pipe(
  Flag.withoutNegation,
  Flag.withDescription("Begin with what the session has come to, as another member tells it"),
  Flag.withDefault(false)
)

export const plain = Flag.Boolean("plain").pipe(
  Flag.withoutNegation,
  Flag.withDescription("On a terminal too: a line for what changes, no QR code and no live view"),
  Flag.withDefault(false)
)

export const tls = Flag.Boolean("tls").pipe(
  Flag.withoutNegation,
  Flag.withDescription(
    "Take members over TLS, by a certificate of its own that is kept for the next time; the URI has its fingerprint"
  ),
  Flag.withDefault(false)
)

const fileFlag = (name: string) => Flag.String(name).pipe(Flag.withMetavar("FILE"), Flag.withDefault(undefined))

export const tlsCert = fileFlag("tls-cert").pipe(
  Flag.withDescription(
    "The same by this certificate, in PEM, with those that lead to its authority: browsers ask for one"
  )
)

export const tlsKey = fileFlag("tls-key").pipe(Flag.withDescription("The private key of --tls-cert, in PEM"))

export const control = Flag.Boolean("control").pipe(
  Flag.withoutNegation,
  Flag.withDescription("Print a second URI, which opens the control of the dispatcher (see: effect-nat remote)"),
  Flag.withDefault(false)
)

export const noBeacon = Flag.Boolean("no-beacon").pipe(
  Flag.withoutNegation,
  Flag.withDescription(
    "Do not announce the contact point on this network (see: effect-nat find); --no-automation forbids it too"
  ),
  Flag.withDefault(false)
)

export const beaconOpen = Flag.Boolean("beacon-open").pipe(
  Flag.withoutNegation,
  Flag.withDescription("Announce the invitation too: whoever is on this network may join"),
  Flag.withDefault(false)
)

/** The limits are those of `ContactPoint`, which is not loaded to read a command line. */
const textUpTo = (bytes: number) => (text: string) => {
  if (text.isWellFormed() && new TextEncoder().encode(text).length <= bytes) return text
  throw new Error(`it is too long: at most ${bytes} bytes in UTF-8`)
}

export const name = Flag.String("name").pipe(
  Flag.withMetavar("TEXT"),
  Flag.withDescription("What the contact point is called"),
  Flag.mapTryCatch(textUpTo(255), asError),
  Flag.withDefault("effect-nat")
)

export const role = Flag.String("role").pipe(
  Flag.withMetavar("TEXT"),
  Flag.withDescription("What the session is for, such as scene or content: by that others find it"),
  Flag.mapTryCatch(textUpTo(63), asError),
  Flag.withDefault("")
)

export const viewpoint = Flag.String("viewpoint").pipe(
  Flag.withMetavar("TEXT"),
  Flag.withDescription("Where those arrive that come by the contact point"),
  Flag.mapTryCatch(textUpTo(255), asError),
  Flag.withDefault(undefined)
)
