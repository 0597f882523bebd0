/**
 * What it costs to have a port mapped: from a cold start until the port is mapped and the external address is known,
 * by this library and by other clients, in the lab (network namespaces, and a real daemon on the router).
 *
 * Over UPnP, NAT-PMP and PCP, each client by the protocols that it speaks, in one run on one router.
 *
 * The clients take turns in each round, each in a fresh process and in another order every time, so that a busy moment
 * of the machine falls on all of them alike. Each leaves its mapping and ends; the benchmark looks whether the router
 * holds it, and removes it before the next one starts, outside of all measured time. What goes over the wire is counted
 * in rounds of its own, so that the capture costs the times nothing.
 *
 * One of them is no client but UPnP's four exchanges alone, ready-made and unchecked: the floor, which no client can get
 * below. Most of it is the daemon's own: it answers every search after a pause of 50 ms, whatever is asked for, by
 * unicast or by multicast, with or without MX. Each further search that it has to read and answer delays the
 * description by some milliseconds more, as it does one thing after the other.
 *
 * The automatic strategy is measured apart, beside the protocol that wins, in one warm process (see `mapping/automatic.ts`).
 *
 * Ends with status 1 where a verdict at the end fails, or a client does.
 *
 * `npm run bench:mapping [-- rounds]`, as root on Linux, with the packages in `scripts/lab-packages.txt`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Os from "node:os"
import { fileURLToPath } from "node:url"
import * as Lab from "../lab/Lab.ts"
import * as LabProcess from "../lab/LabProcess.ts"
import * as BesideAutomatic from "./mapping/automatic.ts"
import * as Traffic from "./mapping/traffic.ts"

class BenchmarkFailed extends Data.TaggedError("BenchmarkFailed")<{ readonly message: string }> {}

const rounds = Math.max(15, Number(process.argv[2] ?? 25) || 25)
const countedRounds = 5
const firstPort = 20_000

/** The most that this library may take of nat-port-mapper's time over UPnP. */
const largestRatio = 0.6

/** Exchanges over UPnP: the search, the description, and one for each of the two actions. */
const upnpExchanges = 4
/** Over NAT-PMP: the address, which is the probe, and the mapping. */
const natPmpExchanges = 2
/** Over PCP: the mapping, whose answer has the address in it. */
const pcpExchanges = 1

interface Answer {
  /** Milliseconds within the process, where the client can tell. */
  readonly inProcess: number | undefined
  readonly externalAddress: string
  readonly externalPort: number
}

interface Client {
  readonly name: string
  readonly command: (lab: Lab.LabService, port: number) => readonly [command: string, ...args: Array<string>]
  /** What a client that ended well has printed; `undefined` where that is no mapping. */
  readonly answer: (stdout: string) => Answer | undefined
}

const program = (name: string) => fileURLToPath(new URL(`mapping/${name}.mjs`, import.meta.url))

/** A library in a small program of its own, which prints its time, the address and the port. */
const library = (name: string, file: string, method: "upnp" | "natpmp" | "pcp"): Client => ({
  name,
  command: (lab, port) => [
    process.execPath,
    program(file),
    lab.addresses.lan,
    String(port),
    lab.addresses.gateway,
    method
  ],
  answer: (stdout) => {
    const [inProcess = "", externalAddress = "", externalPort = ""] = stdout.trim().split(" ")
    return externalPort === ""
      ? undefined
      : { inProcess: Number(inProcess), externalAddress, externalPort: Number(externalPort) }
  }
})

const upnpc: Client = {
  name: "upnpc",
  command: (lab, port) => ["upnpc", "-a", lab.addresses.lan, String(port), String(port), "tcp", "3600"],
  answer: (stdout) => {
    const [, externalAddress, externalPort] = /^external (\S+):(\d+) TCP is redirected to /m.exec(stdout) ?? []
    return externalAddress === undefined
      ? undefined
      : { inProcess: undefined, externalAddress, externalPort: Number(externalPort) }
  }
}

const natpmpc: Client = {
  name: "natpmpc",
  command: (lab, port) => ["natpmpc", "-g", lab.addresses.gateway, "-a", String(port), String(port), "tcp", "3600"],
  answer: (stdout) => {
    const [, externalAddress] = /^Public IP address : (\S+)/m.exec(stdout) ?? []
    const [, externalPort] = /^Mapped public port (\d+) protocol TCP/m.exec(stdout) ?? []
    return externalAddress === undefined || externalPort === undefined
      ? undefined
      : { inProcess: undefined, externalAddress, externalPort: Number(externalPort) }
  }
}

const ours = library("@effect-nat/upnp", "effect-nat", "upnp")
const theirs = library("nat-port-mapper, UPnP", "nat-port-mapper", "upnp")
const bare = library("UPnP's exchanges, no client", "bare", "upnp")
const oursOverPcp = library("@effect-nat/natpmp, PCP", "effect-nat", "pcp")
const oursOverNatPmp = library("@effect-nat/natpmp, NAT-PMP", "effect-nat", "natpmp")
const theirsOverNatPmp = library("nat-port-mapper, NAT-PMP", "nat-port-mapper", "natpmp")
const clients: ReadonlyArray<Client> = [
  ours,
  upnpc,
  theirs,
  bare,
  oursOverPcp,
  oursOverNatPmp,
  natpmpc,
  theirsOverNatPmp
]

interface Results {
  readonly inProcess: Array<number>
  readonly whole: Array<number>
  readonly traffic: Array<Traffic.Traffic>
}

const failed = (client: Client, detail: string) => new BenchmarkFailed({ message: `${client.name}: ${detail}` })

/** Runs a client once, and checks that what it says is what the router does. */
const runOnce = Effect.fnUntraced(function* (lab: Lab.LabService, client: Client, port: number) {
  const [command, ...args] = client.command(lab, port)
  const start = performance.now()
  const run = yield* lab.run("lan", command, args, { timeout: "30 seconds" })
  const whole = performance.now() - start
  const answer = run.exitCode === 0 ? client.answer(run.stdout) : undefined
  if (answer === undefined) {
    return yield* failed(client, `ended with ${run.exitCode ?? run.signal}\n${run.stdout}${run.stderr}`)
  }
  const isMapped = (yield* lab.mappings).some(
    (one) => one.externalPort === answer.externalPort && one.internalAddress === lab.addresses.lan
  )
  if (answer.externalAddress !== lab.addresses.external || !isMapped) {
    return yield* failed(client, `says ${answer.externalAddress}:${answer.externalPort}, which the router does not do`)
  }
  return { whole, answer }
})

/** By the address of the description: no search, and no client that is measured. */
const unmap = Effect.fnUntraced(function* (lab: Lab.LabService, externalPort: number) {
  yield* lab.exec("lan", "upnpc", ["-u", yield* lab.location, "-d", String(externalPort), "tcp"])
})

const timed = Effect.fnUntraced(function* (lab: Lab.LabService, client: Client, port: number) {
  const run = yield* runOnce(lab, client, port)
  yield* unmap(lab, run.answer.externalPort)
  return run
})

const counted = Effect.fnUntraced(function* (lab: Lab.LabService, client: Client, port: number) {
  const capture = yield* lab.capture("lan", "udp or tcp")
  const { answer } = yield* runOnce(lab, client, port)
  // The router's last segments of connections that were closed.
  yield* LabProcess.pause("200 millis")
  const packets = yield* capture.packets
  yield* unmap(lab, answer.externalPort)
  return Traffic.count(packets, lab.addresses.lan)
}, Effect.scoped)

const inTurn = (round: number): ReadonlyArray<Client> => {
  const first = Math.max(0, round) % clients.length
  return [...clients.slice(first), ...clients.slice(0, first)]
}

const measure = Effect.gen(function* () {
  const lab = yield* Lab.make()
  const results = new Map(
    clients.map((client) => [client, { inProcess: [], whole: [], traffic: [] } satisfies Results as Results])
  )
  let port = firstPort
  for (let round = -1; round < rounds + countedRounds; round++) {
    for (const client of inTurn(round)) {
      port += 1
      if (round >= rounds) {
        results.get(client)?.traffic.push(yield* counted(lab, client, port))
        continue
      }
      const { answer, whole } = yield* timed(lab, client, port)
      // The first round warms the file cache.
      if (round < 0) continue
      results.get(client)?.whole.push(whole)
      if (answer.inProcess !== undefined) results.get(client)?.inProcess.push(answer.inProcess)
    }
  }
  return results
}).pipe(Effect.scoped)

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN

const spread = (values: ReadonlyArray<number>): string =>
  values.length === 0
    ? "–"
    : [Math.min(...values), median(values), Math.max(...values)].map((value) => value.toFixed(1)).join(" / ")

const row = (cells: ReadonlyArray<string>): string =>
  cells.map((cell, index) => (index === 0 ? cell.padEnd(30) : cell.padStart(index < 4 ? 26 : 20))).join("")

const table = (results: ReadonlyMap<Client, Results>): string =>
  [
    row(["", "in the process, ms", "whole process, ms", "the router's part, ms", "exchanges", "handshakes", "packets"]),
    ...Array.from(results, ([{ name }, { inProcess, traffic, whole }]) =>
      row([
        name,
        spread(inProcess),
        spread(whole),
        spread(traffic.map((one) => one.waiting)),
        Traffic.numbers(traffic.map((one) => one.exchanges)),
        Traffic.numbers(traffic.map((one) => one.handshakes)),
        Traffic.numbers(traffic.map((one) => one.packets))
      ])
    )
  ].join("\n")

const verdictOnExchanges = (
  { traffic }: Results,
  name: string,
  most: number,
  least = most
): BesideAutomatic.Verdict => [
  Traffic.isWithin(traffic, least, most),
  `${Traffic.numbers(traffic.map((one) => one.exchanges)) || "no"} exchanges over ${name} (${least === most ? "exactly" : "at most"} ${most})`
]

interface Measured {
  readonly own: Results
  readonly other: Results
  readonly floor: Results
  readonly ownOverPcp: Results
  readonly ownOverNatPmp: Results
  readonly otherOverNatPmp: Results
}

/** What was promised, and whether it is kept. */
const verdicts = ({ other, own, ownOverNatPmp, ownOverPcp }: Measured): ReadonlyArray<BesideAutomatic.Verdict> => {
  const ratio = median(own.inProcess) / median(other.inProcess)
  return [
    [
      ratio <= largestRatio,
      `${ratio.toFixed(2)} of nat-port-mapper's time in the process over UPnP (at most ${largestRatio})`
    ],
    verdictOnExchanges(own, "UPnP", upnpExchanges),
    verdictOnExchanges(ownOverPcp, "PCP", pcpExchanges),
    verdictOnExchanges(ownOverNatPmp, "NAT-PMP", natPmpExchanges, 1)
  ]
}

const report = (measured: Measured) => {
  const { floor, other, otherOverNatPmp, own, ownOverNatPmp, ownOverPcp } = measured
  const floors = median(floor.inProcess)
  const above = ({ inProcess }: Results) => `${(median(inProcess) - floors).toFixed(0)} ms`
  const ratio = (one: Results, to: Results, of: "inProcess" | "whole") => (median(one[of]) / median(to[of])).toFixed(2)
  console.log(`over UPnP, to nat-port-mapper: ${ratio(own, other, "whole")} of its whole process`)
  console.log(
    `the four exchanges alone take ${(floors / median(other.inProcess)).toFixed(2)} of its time in the process;` +
      ` above that are ${above(own)} of this library and ${above(other)} of nat-port-mapper`
  )
  console.log(
    `to nat-port-mapper over NAT-PMP, in the process: ${ratio(ownOverNatPmp, otherOverNatPmp, "inProcess")} over` +
      ` NAT-PMP, ${ratio(ownOverPcp, otherOverNatPmp, "inProcess")} over PCP`
  )
}

const benchmark = Effect.gen(function* () {
  const missing = yield* Lab.missing
  if (missing.length > 0) {
    return yield* new BenchmarkFailed({ message: `the lab cannot start here, it lacks: ${missing.join(", ")}` })
  }
  const results = yield* measure
  const of = (client: Client): Results => results.get(client) ?? { inProcess: [], whole: [], traffic: [] }
  const measured: Measured = {
    own: of(ours),
    other: of(theirs),
    floor: of(bare),
    ownOverPcp: of(oursOverPcp),
    ownOverNatPmp: of(oursOverNatPmp),
    otherOverNatPmp: of(theirsOverNatPmp)
  }
  const judged = [...verdicts(measured), ...(yield* BesideAutomatic.measure(rounds))]
  console.log(`Node ${process.version}, ${process.platform} ${process.arch}, ${Os.availableParallelism()} cores`)
  console.log(`from a cold start to a mapped port and a known address: minimum / median / maximum of ${rounds} rounds;`)
  console.log(
    `the router's part (until it answers), exchanges, TCP handshakes, packets: ${countedRounds} captured rounds\n`
  )
  console.log(`${table(results)}\n`)
  report(measured)
  for (const [holds, text] of judged) console.log(`${holds ? "holds" : "FAILS"}: ${text}`)
  if (!judged.every(([holds]) => holds)) process.exitCode = 1
})

NodeRuntime.runMain(
  benchmark.pipe(
    Effect.catchTag(["BenchmarkFailed", "LabError", "SchemaError"], (error) =>
      Effect.sync(() => {
        console.error(error.message)
        process.exitCode = 1
      })
    )
  )
)
