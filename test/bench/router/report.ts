/** The outcomes of all rounds as tables, and whether what was promised holds. */
import type * as Latencies from "./latencies.ts"
import * as Memory from "./memory.ts"
import type * as Processes from "./processes.ts"
import * as Scenarios from "./scenarios.ts"
import type * as Task from "./task.ts"

/** By what was done, and the round in which it was. */
export class Results {
  private readonly outcomes = new Map<string, Array<Task.Outcome>>()

  add(kind: Processes.Kind, scenario: Scenarios.Scenario, outcome: Task.Outcome): void {
    const key = keyOf(kind, scenario)
    const before = this.outcomes.get(key) ?? []
    this.outcomes.set(key, [...before, outcome])
  }

  of(kind: Processes.Kind, scenario: Scenarios.Scenario): ReadonlyArray<Task.Outcome> {
    return this.outcomes.get(keyOf(kind, scenario)) ?? []
  }
}

/** Not by the name: a table may call a scenario otherwise. */
const keyOf = ({ protocol }: Processes.Kind, { clients, pace, sessions, size }: Scenarios.Scenario): string =>
  [protocol, clients, pace, sessions, size].join(" ")

type Measure = (outcome: Task.Outcome) => number

const perSecond: Measure = ({ deliveries, seconds }) => deliveries / seconds
const perCpuSecond: Measure = ({ deliveries, serverCpu }) => deliveries / serverCpu
const ownLoad: Measure = ({ ownCpu, seconds }) => ownCpu / seconds
const serverLoad: Measure = ({ seconds, serverCpu }) => serverCpu / seconds

const latency =
  (of: keyof Latencies.Percentiles): Measure =>
  ({ latency }) =>
    latency?.[of] ?? NaN

export const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN

const row = (cells: ReadonlyArray<string>): string =>
  cells.map((cell, index) => (index === 0 ? cell.padEnd(34) : cell.padStart(18))).join("")

const million = (value: number): string => `${(value / 1e6).toFixed(value < 1e6 ? 3 : 2)} M`

export interface Sheet {
  readonly results: Results
  readonly kinds: ReadonlyArray<Processes.Kind>
  /** To whom the others are compared. */
  readonly peer: Processes.Kind
}

/** The ratio to the peer in the same round, the median of all rounds. */
const ratio = ({ peer, results }: Sheet, kind: Processes.Kind, scenario: Scenarios.Scenario, of: Measure): number => {
  const others = results.of(peer, scenario)
  return median(
    results.of(kind, scenario).map((outcome, round) => {
      const other = others[round]
      return other === undefined ? NaN : of(outcome) / of(other)
    })
  )
}

const table = (sheet: Sheet, title: string, scenarios: ReadonlyArray<Scenarios.Scenario>, of: Measure): string =>
  [
    row([title, ...scenarios.map(({ name }) => name)]),
    ...sheet.kinds.map((kind) =>
      row([
        kind.name,
        ...scenarios.map((scenario) => {
          const value = million(median(sheet.results.of(kind, scenario).map(of)))
          return `${value} (${ratio(sheet, kind, scenario, of).toFixed(2)})`
        })
      ])
    )
  ].join("\n")

const busy = (sheet: Sheet, title: string, scenarios: ReadonlyArray<Scenarios.Scenario>): string => {
  const percent = (kind: Processes.Kind, scenario: Scenarios.Scenario, of: Measure) =>
    (median(sheet.results.of(kind, scenario).map(of)) * 100).toFixed(0)
  return [
    row([title, ...scenarios.map(({ name }) => name)]),
    ...sheet.kinds.map((kind) =>
      row([
        kind.name,
        ...scenarios.map((scenario) => `${percent(kind, scenario, serverLoad)} / ${percent(kind, scenario, ownLoad)} %`)
      ])
    )
  ].join("\n")
}

const growth = (sheet: Sheet, what: string, scenarios: ReadonlyArray<Scenarios.Scenario>): string =>
  [
    table(sheet, `deliveries/s, ${what}`, scenarios, perSecond),
    table(sheet, `... per CPU-second, ${what}`, scenarios, perCpuSecond),
    busy(sheet, "CPU of server / of load", scenarios)
  ].join("\n\n")

const percentiles: ReadonlyArray<readonly [name: string, of: keyof Latencies.Percentiles]> = [
  ["p50", "p50"],
  ["p99", "p99"],
  ["p99.9", "p999"]
]

const latencies = ({ kinds, results }: Sheet): string =>
  [
    row(["ms from send to receipt", ...percentiles.map(([name]) => name), "server's CPU"]),
    ...kinds.map((kind) => {
      const outcomes = results.of(kind, Scenarios.paced)
      return row([
        kind.name,
        ...percentiles.map(([, of]) => median(outcomes.map(latency(of))).toFixed(3)),
        `${(median(outcomes.map(serverLoad)) * 100).toFixed(1)} %`
      ])
    })
  ].join("\n")

export const tables = (sheet: Sheet): string =>
  [
    `in brackets: to ${sheet.peer.name} in the same round`,
    `One session, 100 bytes, by the number of clients:\n\n${growth(sheet, "clients", Scenarios.byClients)}`,
    `100 bytes, by the number of sessions:\n\n${growth(sheet, "sessions", Scenarios.bySessions)}`,
    `One session of 10 clients, by size:\n\n${growth(sheet, "size", Scenarios.bySize)}`,
    `500 messages/s of 100 bytes to 50 clients:\n\n${latencies(sheet)}`
  ].join("\n\n\n")

/** By kind, of each round. */
export type Memories = ReadonlyMap<Processes.Kind, ReadonlyArray<Memory.Memory>>

export const memoryTable = (memories: Memories): string =>
  [
    row([`bytes/connection, ${Memory.connections} idle`, "in use", "just joined"]),
    ...Array.from(memories, ([{ name }, all]) =>
      row([name, median(all.map(({ used }) => used)).toFixed(0), median(all.map(({ joined }) => joined)).toFixed(0)])
    )
  ].join("\n")

/** Whether what was promised holds, and the numbers. */
export type Verdict = readonly [holds: boolean, text: string]

const leastRatio = 2
const mostMemory = 2.5

/**
 * The load looks at the clock as it reads a socket, and one such read takes it about so long: what lies within, in
 * milliseconds, it cannot tell apart.
 */
const resolution = 0.01

const verdictOnFlow = (sheet: Sheet, own: Processes.Kind, scenario: Scenarios.Scenario): ReadonlyArray<Verdict> => {
  const of = (what: string, measure: Measure): Verdict => {
    const value = ratio(sheet, own, scenario, measure)
    const text = `${scenario.name} clients: ${value.toFixed(2)} times the ${what} of ${sheet.peer.name}`
    return [value >= leastRatio, `${text} (at least ${leastRatio})`]
  }
  return [of("deliveries/s", perSecond), of("deliveries per CPU-second", perCpuSecond)]
}

const verdictOnLatency = (sheet: Sheet, own: Processes.Kind, which: "p50" | "p99"): Verdict => {
  const { peer, results } = sheet
  const of = (kind: Processes.Kind) => results.of(kind, Scenarios.paced).map(latency(which))
  const others = of(peer)
  const later = median(of(own).map((value, index) => value - (others[index] ?? NaN)))
  const text = `paced, ${which}: ${later.toFixed(3)} ms later than ${peer.name}, measured next to it`
  return [later <= resolution, `${text} (at most ${resolution} ms, the resolution)`]
}

const verdictOnMemory = (memories: Memories, own: Processes.Kind, least: Processes.Kind): Verdict => {
  const of = (kind: Processes.Kind) => median((memories.get(kind) ?? []).map(({ used }) => used))
  const value = of(own) / of(least)
  return [
    value <= mostMemory,
    `an idle connection: ${value.toFixed(2)} times the memory of ${least.name} (at most ${mostMemory})`
  ]
}

export const verdicts = (sheet: Sheet, memories: Memories, own: Processes.Kind, least: Processes.Kind) => [
  ...Scenarios.byClients.flatMap((scenario) => verdictOnFlow(sheet, own, scenario)),
  verdictOnLatency(sheet, own, "p50"),
  verdictOnLatency(sheet, own, "p99"),
  verdictOnMemory(memories, own, least)
]
