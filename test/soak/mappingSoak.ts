/**
 * A mapping on a real router that has a bad time: it restarts with an empty table, gets another external address, loses
 * packets, and answers slowly, in an order that the seed decides. The wan host looks every second whether it gets
 * through, at the address that the program told last.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as SeededRandom from "../../packages/testing/src/internal/seededRandom.ts"
import * as Lab from "../lab/Lab.ts"
import { bin } from "../lab/LabProgram.ts"

/** How long, and how. */
export interface Options {
  readonly seconds: number
  readonly seed: number
  readonly strategy: "auto" | "upnp" | "natpmp" | "pcp"
  /** The shortest and the longest pause between two troubles, in seconds. */
  readonly pause: readonly [number, number]
  readonly onProgress: (line: string) => Effect.Effect<void>
}

/** What came of it. */
export interface Report {
  readonly probes: number
  readonly reached: number
  /** In seconds. */
  readonly longestOutage: number
  /** What happened, and how long the port was out of reach before the next trouble, in seconds. */
  readonly troubles: ReadonlyArray<{ readonly trouble: Trouble; readonly outage: number }>
  /** Datagrams and connections to the router, searches by multicast with them, by minute. */
  readonly requests: ReadonlyArray<number>
  /** The program's resident memory in MiB, every 10 seconds. */
  readonly memory: ReadonlyArray<number>
  /** Of this host, on the router at the end. */
  readonly left: number
}

export const troubles = ["restart", "another address", "loss", "slow answers"] as const
export type Trouble = (typeof troubles)[number]

class SoakFailed extends Data.TaggedError("SoakFailed")<{ readonly message: string }> {}

const addresses = ["11.22.33.1", "11.22.33.9"] as const

const residentMemory = (pid: number): number => {
  const [, kibibytes = "0"] = /^VmRSS:\s+(\d+)/m.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8")) ?? []
  return Number(kibibytes) / 1024
}

/** The new address comes first, with a mask of its own, so that it does not go with the old one. */
const changeAddress = Effect.fnUntraced(function* (lab: Lab.LabService, times: number) {
  const [from, to] = times % 2 === 0 ? addresses : [addresses[1], addresses[0]]
  yield* lab.exec("router", "ip", ["addr", "add", `${to}/32`, "dev", "wan0"])
  yield* Effect.sleep("1 second")
  yield* lab.exec("router", "ip", ["addr", "del", `${from}/${times === 0 ? 24 : 32}`, "dev", "wan0"])
  yield* lab.exec("router", "ip", ["route", "replace", "11.22.33.0/24", "dev", "wan0"])
  // The router forwards what comes for the old address as well, as long as the wan host remembers where that was.
  yield* lab.exec("wan", "ip", ["neigh", "flush", "all"])
})

/** A daemon that is held for a second or two, again and again, answers everything late. */
const slowDown = Effect.fnUntraced(function* (lab: Lab.LabService, random: SeededRandom.SeededRandom) {
  const daemon = yield* lab.daemon
  for (let times = random.between(2, 5); times > 0; times--) {
    yield* daemon.signal("SIGSTOP")
    yield* Effect.sleep(random.between(500, 2000))
    yield* daemon.signal("SIGCONT")
    yield* Effect.sleep(random.between(500, 2000))
  }
})

const losePackets = (lab: Lab.LabService, random: SeededRandom.SeededRandom) =>
  lab.drop(10).pipe(Effect.andThen(Effect.sleep(random.between(5000, 20_000))), Effect.andThen(lab.drop(0)))

const byMinute = (times: ReadonlyArray<number>, from: number, seconds: number): ReadonlyArray<number> => {
  const minutes = Array.from({ length: Math.ceil(seconds / 60) }, () => 0)
  for (const time of times) {
    const minute = Math.floor((time - from) / 60_000)
    if (minute >= 0 && minute < minutes.length) minutes[minute] = (minutes[minute] ?? 0) + 1
  }
  return minutes
}

/** A look of the wan host at the port. */
interface Probe {
  readonly isReached: boolean
  /** When it began, in milliseconds since 1970. */
  readonly time: number
}

/** From the first probe that failed in this time to the next that did not, in seconds; to its end where none did. */
const longestOutage = (probes: ReadonlyArray<Probe>, start: number, end: number): number => {
  const within = probes.filter(({ time }) => time >= start && time < end)
  let longest = 0
  let from: number | undefined
  for (const { isReached, time } of [...within, { isReached: true, time: end }]) {
    if (!isReached) from ??= time
    else if (from !== undefined) {
      longest = Math.max(longest, time - from)
      from = undefined
    }
  }
  return longest / 1000
}

/** The last one that the program told. */
const toldAddress = (output: string) => {
  const [, address = addresses[0], port = "12001"] = output.match(/[^]*"external":"([\d.]+):(\d+)"/) ?? []
  return { address, port: Number(port) }
}

/** Runs it, in a lab of its own. */
export const run = Effect.fnUntraced(function* ({ onProgress, pause, seconds, seed, strategy }: Options) {
  const random = SeededRandom.make(seed, "soak")
  const lab = yield* Lab.make({ daemon: { notifyInterval: 20, externalAddress: false } })
  yield* lab.tcpEcho("lan", 12_000)
  const { gateway, lan } = lab.addresses
  // Searches go to the multicast group as well.
  const toRouter = `src ${lan} and (dst ${gateway} or dst net 224.0.0.0/4)`
  const capture = yield* lab.capture("lan", `${toRouter} and (udp or tcp[tcpflags] & tcp-syn != 0)`)
  const words = ["map", "12000:12001", "--json", "--lease", "2m", "--strategy", strategy]
  const program = yield* lab.spawn("lan", process.execPath, [bin, ...words])
  yield* program.awaitLine('"event":"mapped"', { timeout: "30 seconds" })
  const startedAt = Date.now()
  const end = startedAt + seconds * 1000
  const isOver = () => Date.now() > end

  const happened: Array<{ readonly trouble: Trouble; readonly time: number }> = []
  let addressChanges = 0
  const make = (trouble: Trouble) => {
    switch (trouble) {
      case "restart":
        return lab.restartDaemon()
      case "another address":
        return changeAddress(lab, addressChanges++)
      case "loss":
        return losePackets(lab, random)
      case "slow answers":
        return slowDown(lab, random)
    }
  }
  const troubling = Effect.gen(function* () {
    const [shortest, longest] = pause
    for (let turn = 0; ; turn++) {
      const wait = random.between(shortest, longest)
      if (Date.now() + wait * 1000 > end) return
      yield* Effect.sleep({ seconds: wait })
      // Each comes once before chance decides.
      const next = troubles[turn] ?? random.pick(troubles)
      yield* onProgress(`${Math.round((Date.now() - startedAt) / 1000)} s: ${next}`)
      happened.push({ trouble: next, time: Date.now() })
      yield* make(next)
    }
  })

  const probes: Array<Probe> = []
  const probing = Effect.gen(function* () {
    while (!isOver()) {
      const time = Date.now()
      const { address, port } = toldAddress(yield* program.stdout)
      // On a machine that is too busy to look nothing was reached, and the soak goes on.
      const outcome = yield* lab
        .tcpProbe("wan", address, port, { timeout: "1500 millis" })
        .pipe(Effect.catchTag("LabError", ({ message }) => onProgress(`no look: ${message}`)))
      probes.push({ isReached: outcome === "reachable", time })
      yield* Effect.sleep(Math.max(0, time + 1000 - Date.now()))
    }
  })

  const memory: Array<number> = []
  const measuring = Effect.gen(function* () {
    while (!isOver()) {
      memory.push(residentMemory(program.pid))
      yield* Effect.sleep("10 seconds")
    }
  })

  // The last trouble goes on to its own end, so that the release has a router to talk to.
  yield* Effect.all([troubling, probing, measuring], { concurrency: "unbounded" })
  yield* Effect.sleep("15 seconds")
  yield* program.signal("SIGTERM")
  const { exitCode } = yield* program.awaitExit("20 seconds")
  if (exitCode !== 130) {
    return yield* new SoakFailed({ message: `the program ended with ${exitCode}: ${yield* program.stderr}` })
  }

  const sentAt = (yield* capture.packets).map(({ time }) => time)
  const report: Report = {
    probes: probes.length,
    reached: probes.filter((probe) => probe.isReached).length,
    longestOutage: longestOutage(probes, startedAt, end),
    troubles: happened.map(({ time, trouble }, index) => ({
      trouble,
      outage: longestOutage(probes, time, happened[index + 1]?.time ?? end)
    })),
    requests: byMinute(sentAt, startedAt, seconds),
    memory,
    left: (yield* lab.mappings).length
  }
  return report
}, Effect.scoped)

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN

const quarter = (values: ReadonlyArray<number>, index: number) =>
  values.slice(Math.floor((values.length * index) / 4), Math.ceil((values.length * (index + 1)) / 4))

/** A search, a subscription and the renewals after a restart are some twenty; one a second would be a flood. */
const mostRequests = 60
/** The last quarter's memory, of the second quarter's. */
const mostGrowth = 1.2

/** What was promised, and whether it is kept. */
export const verdicts = ({
  left,
  memory,
  requests
}: Report): ReadonlyArray<readonly [holds: boolean, text: string]> => {
  const growth = median(quarter(memory, 3)) / median(quarter(memory, 1))
  const busiest = Math.max(...requests)
  return [
    [left === 0, `${left} mappings left on the router (none)`],
    [busiest <= mostRequests, `${busiest} requests in the busiest minute (at most ${mostRequests})`],
    [
      growth <= mostGrowth,
      `memory in the last quarter ${growth.toFixed(2)} of that in the second (at most ${mostGrowth}; ${median(quarter(memory, 3)).toFixed(0)} MiB)`
    ]
  ]
}

const formatTrouble = (which: Trouble, report: Report): string => {
  const outages = report.troubles.filter(({ trouble }) => trouble === which).map(({ outage }) => outage)
  const [middle, longest] = [median(outages), Math.max(...outages)].map((seconds) => `${seconds.toFixed(0)} s`)
  return `${which}, ${outages.length} times: out of reach for ${middle} (median), ${longest} at most`
}

/** The report, for people. */
export const format = (report: Report): string =>
  [
    `reached from the wan in ${((100 * report.reached) / report.probes).toFixed(1)} % of ${report.probes} probes, longest outage ${Duration.format(Duration.seconds(Math.round(report.longestOutage)))}`,
    ...troubles.map((trouble) => formatTrouble(trouble, report)),
    `requests by minute: ${report.requests.join(" ")}`,
    `memory by 10 seconds, MiB: ${report.memory.map((value) => value.toFixed(0)).join(" ")}`
  ].join("\n")
