/**
 * What a hundred mappings cost: mapped at once, held until each has been renewed, and released, by one strategy of this
 * library over UPnP, NAT-PMP and PCP, and by nat-port-mapper over NAT-PMP, on the real daemon of the lab.
 *
 * The clients take turns in each round. Beside the times for each mapping stand the requests that went out for it from
 * the first to the last, and what is left on the router in the end. The daemon reads its whole table for every request,
 * and that is most of the time: the first row is the same requests one after the other, without a client. Where
 * nat-port-mapper fails, why stands in place of its numbers. Ends with status 1 where one of this library's mappings was
 * lost or is left, or it fails.
 *
 * `npm run bench:many [-- rounds]`, as root on Linux, with the packages in `scripts/lab-packages.txt`. A round takes
 * twelve minutes.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "../lab/Lab.ts"

class BenchmarkFailed extends Data.TaggedError("BenchmarkFailed")<{ readonly message: string }> {}

const rounds = Math.max(1, Number(process.argv[2] ?? 1) || 1)
const mappings = 100
const mostWarnings = 5
/** Long enough for the daemon to renew all of them between half of it and its end. */
const leaseSeconds = 240

interface Client {
  readonly name: string
  readonly file: string
  readonly method: "upnp" | "natpmp" | "pcp"
}

const clients: ReadonlyArray<Client> = [
  { name: "requests alone, NAT-PMP", file: "bare-many", method: "natpmp" },
  { name: "@effect-nat/upnp", file: "effect-nat-many", method: "upnp" },
  { name: "@effect-nat/natpmp, PCP", file: "effect-nat-many", method: "pcp" },
  { name: "@effect-nat/natpmp, NAT-PMP", file: "effect-nat-many", method: "natpmp" },
  { name: "nat-port-mapper, NAT-PMP", file: "nat-port-mapper-many", method: "natpmp" }
]

interface Run {
  /** Milliseconds for each mapping. */
  readonly map: number
  readonly release: number
  readonly lost: number
  /** For each mapping, from the first request to the last: datagrams, or connections over UPnP. */
  readonly requests: number
  readonly left: number
}

/** The numbers of a run, or what the program said in their place. */
type Outcome = { readonly _tag: "Done"; readonly run: Run } | { readonly _tag: "Failed"; readonly said: string }

const isOurs = ({ file }: Client): boolean => file === "effect-nat-many"

const program = (name: string) => fileURLToPath(new URL(`mapping/${name}.mjs`, import.meta.url))

const runOnce = Effect.fnUntraced(function* (lab: Lab.LabService, client: Client, port: number) {
  const { file, method, name } = client
  const capture = yield* lab.capture("lan", "udp dst port 5351 or tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn")
  const words = [program(file), lab.addresses.lan, port, lab.addresses.gateway, method, mappings, leaseSeconds]
  const run = yield* lab.run("lan", process.execPath, words.map(String), { timeout: "8 minutes" })
  const packets = yield* capture.packets
  const left = (yield* lab.mappings).length
  // Nothing that one client leaves is the next one's.
  yield* lab.restartDaemon()
  const printed = run.stdout.trim().split("\n")
  const [map = NaN, release = NaN, lost = NaN] = printed.at(-1)?.split(" ").map(Number) ?? []
  // What a client warns of stands above its numbers.
  for (const warning of printed.slice(0, -1).slice(0, mostWarnings)) console.error(`${name}: ${warning}`)
  if (run.exitCode === 0 && Number.isFinite(map + release + lost)) {
    const sent = packets.filter((one) => one.sourceAddress === lab.addresses.lan)
    const done: Outcome = { _tag: "Done", run: { map, release, lost, requests: sent.length / mappings, left } }
    return done
  }
  const said = `${run.stdout}${run.stderr}`.trim()
  const message = `${name} ended with ${run.exitCode ?? run.signal}\n${said}`
  if (isOurs(client)) return yield* new BenchmarkFailed({ message })
  const failed: Outcome = { _tag: "Failed", said }
  return failed
}, Effect.scoped)

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN

const row = (cells: ReadonlyArray<string>): string =>
  cells.map((cell, index) => (index === 0 ? cell.padEnd(30) : cell.padStart(16))).join("")

const runsOf = (outcomes: ReadonlyArray<Outcome>): ReadonlyArray<Run> =>
  outcomes.flatMap((one) => (one._tag === "Done" ? [one.run] : []))

/** The line that says what went wrong, above it stands where. */
const reasonIn = (said: string): string => said.split("\n").find((one) => one.includes("Error")) ?? said

const line = (name: string, outcomes: ReadonlyArray<Outcome>): string => {
  const failed = outcomes.find((one) => one._tag === "Failed")
  if (failed !== undefined) return `${name.padEnd(30)}  cannot: ${reasonIn(failed.said)}`
  const runs = runsOf(outcomes)
  const of = (pick: (run: Run) => number) => median(runs.map(pick))
  return row([
    name,
    of(({ map }) => map).toFixed(2),
    of(({ release }) => release).toFixed(2),
    of(({ requests }) => requests).toFixed(2),
    String(Math.max(...runs.map(({ lost }) => lost))),
    String(Math.max(...runs.map(({ left }) => left)))
  ])
}

const benchmark = Effect.gen(function* () {
  const missing = yield* Lab.missing
  if (missing.length > 0) {
    return yield* new BenchmarkFailed({ message: `the lab cannot start here, it lacks: ${missing.join(", ")}` })
  }
  const lab = yield* Lab.make({ daemon: { minLifetime: leaseSeconds } })
  const results = new Map(clients.map((client) => [client, [] as Array<Outcome>]))
  const count = clients.length
  for (let round = 0; round < rounds; round++) {
    const first = round % count
    for (const [index, client] of [...clients.slice(first), ...clients.slice(0, first)].entries()) {
      results.get(client)?.push(yield* runOnce(lab, client, 20_000 + ((round * count + index) % 200) * 200))
    }
  }
  console.log(`${mappings} mappings, leases of ${leaseSeconds} s, each renewed once, rounds: ${rounds} (medians)\n`)
  console.log(row(["for each mapping", "map, ms", "release, ms", "requests", "most lost", "most left"]))
  for (const [{ name }, outcomes] of results) console.log(line(name, outcomes))
  const ours = [...results].filter(([client]) => isOurs(client)).flatMap(([, outcomes]) => runsOf(outcomes))
  if (ours.some(({ left, lost }) => left > 0 || lost > 0)) process.exitCode = 1
}).pipe(Effect.scoped)

NodeRuntime.runMain(
  benchmark.pipe(
    Effect.catchTag(["BenchmarkFailed", "LabError"], (error) =>
      Effect.sync(() => {
        console.error(error.message)
        process.exitCode = 1
      })
    )
  )
)
