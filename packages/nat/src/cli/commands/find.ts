/**
 * `effect-nat find`: what announces itself on this network, as it comes and goes. Nothing is sent.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as NodeNetworkInterfaces from "@effect-nat/core/NodeNetworkInterfaces"
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as Beacon from "@effect-nat/dispatcher/Beacon"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as LiveTerminal from "../LiveTerminal.ts"
import * as LiveView from "../LiveView.ts"
import * as Output from "../Output.ts"

/** What the command was called with. */
export interface Input {
  /** How long to look; `undefined` is until Ctrl-C. */
  readonly time: Duration.Duration | undefined
  readonly json: boolean
}

const headings = ["Name", "Internal", "External", "Sessions", "Format"]

const events = { Found: "found", Changed: "changed", Lost: "lost" } as const

const encodeContactPoint = Schema.encodeEffect(ContactPoint.ContactPoint)

const addresses = (all: ReadonlyArray<NetAddress.InetAddress>): string =>
  all.length === 0 ? "-" : all.map(NetAddress.formatInet).join(", ")

/** What a session is for, or else its id. */
const sessions = ({ sessions: all }: ContactPoint.ContactPoint): string =>
  all.length === 0 ? "-" : all.map(ContactPoint.sessionName).join(", ")

const row = ({ contactPoint, format }: Beacon.Sighting): ReadonlyArray<string> => [
  contactPoint.name === "" ? "-" : contactPoint.name,
  addresses(contactPoint.internal),
  addresses(contactPoint.external.map(({ address }) => address)),
  sessions(contactPoint),
  format
]

/** Everything that is there, for people. */
export const table = (sightings: ReadonlyArray<Beacon.Sighting>): string =>
  sightings.length === 0 ? "nothing on this network announces itself" : Output.table(headings, sightings.map(row))

/** What happened, in one line for people. */
export const line = ({ _tag, sighting }: Beacon.Change): string => {
  const { contactPoint, format } = sighting
  const name = contactPoint.name === "" ? "(no name)" : contactPoint.name
  const what = `${name}: ${ContactPoint.format(contactPoint)}; sessions ${sessions(contactPoint)}`
  return Output.printable(`${events[_tag]} ${what}${format === "crqt" ? " (old format)" : ""}`)
}

const time = (millis: number): string => DateTime.formatIso(DateTime.makeUnsafe(millis))

/** What happened, in one line for programs. */
const printJson = Effect.fnUntraced(function* ({ _tag, sighting }: Beacon.Change) {
  const { contactPoint, firstSeen, format, id, lastSeen, source } = sighting
  yield* Output.json({
    event: events[_tag],
    id,
    format,
    source: NetAddress.formatIp(source),
    firstSeen: time(firstSeen),
    lastSeen: time(lastSeen),
    uri: ContactPointUri.format(contactPoint),
    contactPoint: yield* encodeContactPoint(contactPoint)
  })
})

/** So often a terminal is written to at most. */
const shortestPause = "200 millis"

/** Keeps one table up to date. It stays when this ends. */
const draw = Effect.fnUntraced(function* (terminal: LiveTerminal.LiveTerminal, { changes, sightings }: Beacon.Watch) {
  const redraw = Effect.gen(function* () {
    const lines = table(yield* sightings).split("\n")
    yield* terminal.draw(LiveView.fitting(lines, yield* LiveTerminal.size))
  })
  yield* redraw
  yield* Stream.runForEachArray(changes, () => Effect.andThen(redraw, Effect.sleep(shortestPause)))
})

/** Prints what happens, and says so where nothing did. */
const tell = ({ changes }: Beacon.Watch, { json }: Input) => {
  let isQuiet = true
  return Stream.runForEach(changes, (change) => {
    isQuiet = false
    return json ? printJson(change) : Console.log(line(change))
  }).pipe(Effect.onInterrupt(() => (isQuiet && !json ? Console.log(table([])) : Effect.void)))
}

/** Lists what announces itself until the time is over, or for ever. */
export const run = (input: Input) =>
  Effect.gen(function* () {
    const beacon = yield* Beacon.Beacon
    const watch = yield* beacon.watch()
    const terminal = input.json ? undefined : yield* LiveTerminal.take
    const looking = terminal === undefined ? tell(watch, input) : draw(terminal, watch)
    yield* input.time === undefined ? looking : Effect.timeoutOption(looking, input.time)
  }).pipe(
    Effect.scoped,
    Effect.provide(Beacon.layer().pipe(Layer.provide([NodeUdp.layer, NodeNetworkInterfaces.layer])))
  )
