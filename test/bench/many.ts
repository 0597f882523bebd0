/**
 * What a hundred mappings cost: mapped at once, held until each has been renewed, and released, by one strategy of this
 * library over UPnP, NAT-PMP and PCP, and by nat-port-mapper over NAT-PMP, on the real daemon of the lab.
 *
 * The clients take turns in each round. Beside the times for each mapping stand the requests that went out while they
 * were held, which are the renewals, and what is left on the router in the end. Ends with status 1 where something is
 * left, one of this library's was lost, or a client fails.
 *
 * `npm run bench:many [-- rounds]`, as root on Linux, with the packages in `scripts/lab-packages.txt`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "../lab/Lab.ts"

class BenchmarkFailed extends Data.TaggedError("BenchmarkFailed")<{ readonly message: string }> {}

const rounds = Math.max(1, Number(process.argv[2] ?? 3) || 3)
const mappings = 100
const leaseSeconds = 20

interface Client {
  readonly name: string
  readonly file: string
  readonly method: "upnp" | "natpmp" | "pcp"
}

const clients: ReadonlyArray<Client> = [
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

const program = (name: string) => fileURLToPath(new URL(`mapping/${name}.mjs`, import.meta.url))

const runOnce = Effect.fnUntraced(function* (lab: Lab.LabService, { file, method, name }: Client, port: number) {
  const capture = yield* lab.capture("lan", "udp dst port 5351 or tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn")
  const words = [program(file), lab.addresses.lan, port, lab.addresses.gateway, method, mappings, leaseSeconds]
  const run = yield* lab.run("lan", process.execPath, words.map(String), { timeout: "120 seconds" })
  const [map, release, lost] = run.stdout.trim().split(" ").map(Number)
  if (run.exitCode !== 0 || map === undefined || release === undefined || lost === undefined) {
    return yield* new BenchmarkFailed({
      message: `${name} ended with ${run.exitCode ?? run.signal}\n${run.stdout}${run.stderr}`
    })
  }
  const packets = yield* capture.packets
  const sent = packets.filter((one) => one.sourceAddress === lab.addresses.lan)
  const left = (yield* lab.mappings).length
  // Nothing that one client leaves is the next one's.
  yield* lab.restartDaemon()
  return { map, release, lost, requests: sent.length / mappings, left } satisfies Run
}, Effect.scoped)

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN

const row = (cells: ReadonlyArray<string>): string =>
  cells.map((cell, index) => (index === 0 ? cell.padEnd(30) : cell.padStart(16))).join("")

const line = (name: string, runs: ReadonlyArray<Run>): string => {
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
  const results = new Map(clients.map((client) => [client, [] as Array<Run>]))
  for (let round = 0; round < rounds; round++) {
    for (const [index, client] of [...clients.slice(round % 4), ...clients.slice(0, round % 4)].entries()) {
      results.get(client)?.push(yield* runOnce(lab, client, 20_000 + (round * 4 + index) * 200))
    }
  }
  console.log(`${mappings} mappings, leases of ${leaseSeconds} s, each renewed once: medians of ${rounds} rounds\n`)
  console.log(row(["for each mapping", "map, ms", "release, ms", "requests", "most lost", "most left"]))
  for (const [{ name }, runs] of results) console.log(line(name, runs))
  const ours = [...results].filter(([{ file }]) => file === "effect-nat-many").flatMap(([, runs]) => runs)
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
