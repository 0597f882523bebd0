/**
 * What the message router of a session carries, beside others: `nats-server`, and a plain room server on `ws`.
 *
 * Each server is a process of its own, and so is the load: one program with a small driver for each protocol, all clients
 * of a server in it. It checks every message on every connection (see `router/load.ts`), so numbers that are printed are
 * of runs in which nothing was lost, doubled, out of order or damaged. The servers take turns in each scenario, in another
 * order every round, so that a busy moment of the machine falls on all of them alike; what is printed are medians, and
 * the median of the ratios to nats-server in the same round.
 *
 * Deliveries per second tell what the server and the load together can do on this machine; deliveries for each second of
 * the server's own CPU time, all its threads together, tell what they cost. The CPU of both is printed, so that it shows
 * who was the limit. Memory is what becomes resident with 10,000 idle connections, beside a server in Node that
 * only accepts: what is in use, once Node was made to give back the rest.
 *
 * Ends with status 1 where a verdict at the end fails, or a run does.
 *
 * `npm run bench:router [-- rounds [seconds]]`, on Linux, with `nats-server` (see `scripts/lab-packages.txt`) and at least
 * 10,500 open files for a process. It takes about seven minutes.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Os from "node:os"
import * as Memory from "./router/memory.ts"
import * as Processes from "./router/processes.ts"
import * as Report from "./router/report.ts"
import * as Scenarios from "./router/scenarios.ts"

const rounds = Math.max(1, Math.floor(Number(process.argv[2] ?? 3)) || 3)
const seconds = Math.max(0.5, Number(process.argv[3] ?? 1.5) || 1.5)
const memoryRounds = Math.min(rounds, 2)
/** Nothing takes so long, whatever happens. */
const longest = Duration.minutes(3 + rounds * (1 + seconds * 2))

const kinds = [Processes.overTcp, Processes.overWebSocket, Processes.nats, Processes.rooms]
const idleKinds = [Processes.overTcp, Processes.overWebSocket, Processes.bare]

/** What two tables show is measured once. */
const flows = [
  ...Scenarios.byClients,
  ...Scenarios.bySessions,
  ...Scenarios.bySize.filter(({ size }) => size !== Scenarios.ten.size)
]
/** Times are short: many short looks at them, spread over the whole run, say more than one long look. */
const scenarios = flows.flatMap((flow, index) => (index % 2 === 0 ? [flow, Scenarios.paced] : [flow]))
const sessions = scenarios.reduce((sum, scenario) => sum + scenario.sessions, 0)

const inTurn = <A>(all: ReadonlyArray<A>, turn: number): ReadonlyArray<A> => {
  const first = turn % all.length
  return [...all.slice(first), ...all.slice(0, first)]
}

const runOnce = (server: Processes.Server, scenario: Scenarios.Scenario, firstSession: number) => {
  const { clients, pace, size, window } = scenario
  const { name, pid, port, protocol, session } = server
  const length = pace > 0 ? seconds / 2 : seconds
  return Processes.load(`${name}, ${scenario.name}`, {
    protocol,
    port,
    pid,
    sessions: Array.from({ length: scenario.sessions }, (_, index) => session(firstSession + index)),
    clients,
    size,
    window,
    pace,
    warmUp: length / 2,
    seconds: length
  })
}

const measureRound = Effect.fnUntraced(function* (round: number, results: Report.Results) {
  const servers = yield* Effect.forEach(kinds, (kind) =>
    Effect.map(Processes.serve(kind, sessions), (server) => ({ kind, server }))
  )
  let firstSession = 0
  for (const [index, scenario] of scenarios.entries()) {
    for (const { kind, server } of inTurn(servers, round + index)) {
      results.add(kind, scenario, yield* runOnce(server, scenario, firstSession))
    }
    firstSession += scenario.sessions
  }
}, Effect.scoped)

const measureMemory = Effect.gen(function* () {
  const memory = new Map(idleKinds.map((kind) => [kind, [] as Array<Memory.Memory>]))
  for (let round = 0; round < memoryRounds; round++) {
    for (const kind of inTurn(idleKinds, round)) memory.get(kind)?.push(yield* Memory.measure(kind))
  }
  return memory
})

const benchmark = Effect.gen(function* () {
  const results = new Report.Results()
  for (let round = 0; round < rounds; round++) yield* measureRound(round, results)
  const memory = yield* measureMemory
  const sheet: Report.Sheet = { results, kinds, peer: Processes.nats }
  console.log(`Node ${process.version}, ${process.platform} ${process.arch}, ${Os.availableParallelism()} cores`)
  const busy = Os.loadavg().map((value) => value.toFixed(1))
  console.log(`load average ${busy.join(", ")}: with more than the cores, the numbers tell of what else runs here`)
  console.log(`${rounds} rounds of ${seconds} s each, after half of that which does not count`)
  console.log(Report.tables(sheet))
  console.log(`\n\n${Report.memoryTable(memory)}\n`)
  const verdicts = Report.verdicts(sheet, memory, Processes.overTcp, Processes.bare)
  for (const [holds, text] of verdicts) console.log(`${holds ? "holds" : "FAILS"}: ${text}`)
  if (!verdicts.every(([holds]) => holds)) process.exitCode = 1
})

NodeRuntime.runMain(
  benchmark.pipe(
    Effect.timeoutOrElse({
      duration: longest,
      orElse: () => Effect.fail(new Processes.BenchmarkFailed({ message: "it did not end in time" }))
    }),
    Effect.catchTag("BenchmarkFailed", (error) =>
      Effect.sync(() => {
        console.error(error.message)
        process.exitCode = 1
      })
    )
  )
)
