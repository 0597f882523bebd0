/**
 * The command line: which commands there are, and how the program starts, fails and ends. What a command does is
 * loaded when it is called.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Predicate from "effect/Predicate"
import packageJson from "../../package.json" with { type: "json" }
import { Failure, oneLine, printJson } from "./Failure.ts"
import * as Flags from "./Flags.ts"

interface Input {
  readonly json: boolean
}

/**
 * Loads a command's code and runs it. Where JSON is wanted, a failure is one of its lines; the command itself tells those
 * that are in `told`.
 */
const call = <I extends Input, E extends Error, R>(
  module: () => Promise<{ readonly run: (input: I) => Effect.Effect<void, E, R> }>,
  input: I,
  told: (error: Error) => boolean = () => false
) =>
  Effect.promise(module).pipe(
    Effect.flatMap((command) => command.run(input)),
    Effect.tapError((error) => (input.json && !told(error) ? printJson(error) : Effect.void))
  )

/** What came of a request is told with what was asked for. */
const isOfRequest: (error: Error) => boolean = Predicate.isTagged("NatError")

const map = Command.make("map", { specs: Flags.mappingSpecs, ...Flags.mapping, family: Flags.family }, (input) =>
  call(() => import("./commands/map.ts"), input, isOfRequest)
).pipe(
  Command.withDescription("Map ports on the router and hold them until Ctrl-C"),
  Command.withExamples([
    { command: "effect-nat map 12000", description: "Map TCP port 12000 to itself" },
    { command: "effect-nat map 12000:12001 5000/udp", description: "Two mappings, the first to another external port" }
  ])
)

const external = Command.make("external", Flags.choice, (input) =>
  call(() => import("./commands/external.ts"), input)
).pipe(Command.withDescription("Print the address that the world sees"))

const list = Command.make("list", Flags.choice, (input) => call(() => import("./commands/list.ts"), input)).pipe(
  Command.withDescription("List the mappings on the router")
)

const remove = Command.make("delete", { key: Flags.externalSpec, ...Flags.choice }, (input) =>
  call(() => import("./commands/delete.ts"), input)
).pipe(Command.withDescription("Delete one mapping on the router, whoever made it"))

const gateways = Command.make("gateways", Flags.gatewaySearch, (input) =>
  call(() => import("./commands/gateways.ts"), input)
).pipe(Command.withDescription("List the gateways that answer on this network"))

const serve = Command.make(
  "serve",
  {
    port: Flags.port,
    externalPort: Flags.externalPort,
    session: Flags.session,
    forwarderPort: Flags.forwarderPort,
    metricsPort: Flags.metricsPort,
    role: Flags.role,
    name: Flags.name,
    viewpoint: Flags.viewpoint,
    tls: Flags.tls,
    tlsCert: Flags.tlsCert,
    tlsKey: Flags.tlsKey,
    control: Flags.control,
    noBeacon: Flags.noBeacon,
    beaconOpen: Flags.beaconOpen,
    plain: Flags.plain,
    ...Flags.mapping
  },
  (input) => call(() => import("./commands/serve.ts"), input, isOfRequest)
).pipe(Command.withDescription("Run the dispatcher: a session that others join at one mapped port"))

const join = Command.make(
  "join",
  { uri: Flags.contactPointUri, session: Flags.wantedSession, sync: Flags.sync, json: Flags.json },
  (input) => call(() => import("./commands/join.ts"), input)
).pipe(
  Command.withDescription("Join a session of a contact point: print what is said there, say what is typed"),
  Command.withExamples([
    { command: "effect-nat join effect-nat:AQEA…", description: "Join its first session; Ctrl-C or Ctrl-D leaves" }
  ])
)

const remote = Command.make(
  "remote",
  { uri: Flags.controlUri, action: Flags.remoteAction, what: Flags.remoteWhat, role: Flags.role, json: Flags.json },
  (input) => call(() => import("./commands/remote.ts"), input)
).pipe(
  Command.withDescription(
    "Control a dispatcher on another host: ask what it does, make and end sessions, change its strategy"
  ),
  Command.withExamples([
    { command: "effect-nat remote effect-nat:AQEA… info", description: "What it is, and what it is doing" },
    { command: "effect-nat remote effect-nat:AQEA… register --role scene", description: "One session more" },
    {
      command: "effect-nat remote effect-nat:AQEA… strategy upnp",
      description: "Have its port mapped by another strategy"
    }
  ])
)

const find = Command.make("find", { json: Flags.json, time: Flags.time }, (input) =>
  call(() => import("./commands/find.ts"), input)
).pipe(
  Command.withDescription("List what announces itself on this network, live"),
  Command.withExamples([
    { command: "effect-nat find", description: "What comes and goes, until Ctrl-C" },
    { command: "effect-nat find --for 6s --json", description: "What is there, for a program" }
  ])
)

const effectNat = Command.make("effect-nat").pipe(
  Command.withDescription("Reach this host from outside: map ports, learn the external address, host sessions"),
  Command.withSubcommands([map, external, list, remove, gateways, serve, join, find, remote])
)

/** What says itself what was written needs no second quotation. */
const wrongWord = (error: CliError.CliError): string => {
  if (error._tag !== "InvalidValue" || !error.expected.startsWith(JSON.stringify(error.value))) return error.message
  return `${error.kind === "flag" ? `--${error.option}` : `<${error.option}>`}: ${error.expected}`
}

const usage = (error: CliError.ShowHelp): Failure => {
  const path = error.commandPath.join(" ")
  const said =
    error.errors.length === 0 ? "which command?" : error.errors.map((one) => oneLine(wrongWord(one))).join("; ")
  return new Failure({ status: 2, message: `${said} (see: ${path} --help)` })
}

const isInvalidRequest = (error: unknown): boolean =>
  Predicate.hasProperty(error, "reason") && Predicate.isTagged(error.reason, "InvalidRequest")

const toFailure = (error: unknown): Failure => {
  if (CliError.isCliError(error) && error._tag === "ShowHelp") return usage(error)
  if (error instanceof Failure) return error
  return new Failure({
    status: isInvalidRequest(error) ? 2 : 1,
    message: error instanceof Error ? oneLine(error.message) : String(error)
  })
}

/** A wrong call gets one line, not the whole manual. */
const presenter: CliOutput.Presenter = {
  present: (event) =>
    event._tag === "InvalidInvocation" || (event._tag === "Help" && event.reason === "Implicit")
      ? Effect.void
      : CliOutput.defaultPresenter.present(event)
}

/** Standard output belongs to results; everything else goes to standard error. */
const logger = Logger.withConsoleError(
  Logger.make(({ logLevel, message }) => {
    const text = Array.isArray(message) ? message.map(String).join(" ") : String(message)
    return logLevel === "Info" ? text : `${logLevel.toLowerCase()}: ${text}`
  })
)

/**
 * Ends the program as `kill` would: what is mapped must be released. Sent through the system, the signal would end it at
 * once on Windows.
 */
const end = () => process.emit("SIGTERM", "SIGTERM")

// A closed terminal, which may say so more than once, and a reader that has gone (`| head -1`) are reasons to end like
// any other.
process.on("SIGHUP", end)
process.stdout.once("error", end).on("error", () => {})
process.stderr.on("error", () => {})

effectNat.pipe(
  Command.run({ version: packageJson.version }),
  Effect.mapError(toFailure),
  Effect.tapError((failure) => Console.error(`effect-nat: ${failure.message}`)),
  Effect.provide([NodeServices.layer, Logger.layer([logger]), CliOutput.layerPresenter(presenter)]),
  NodeRuntime.runMain
)
