/**
 * Many worlds, one after the other, and what they came to.
 */
import * as Expected from "./expected.ts"
import * as Plan from "./plan.ts"
import type * as Judge from "./judge.ts"
import * as World from "./world.ts"

/** One world, as small as it can be told. */
export interface Report {
  readonly seed: number
  readonly violations: ReadonlyArray<Judge.Violation & { readonly expected: string | undefined }>
  readonly cells: ReadonlyArray<string>
  readonly busiest: number
}

/** One world in so many is run twice. */
const twice = 20

const cellsOf = ({ happened, plan }: World.Outcome): ReadonlyArray<string> => {
  const faults = Plan.faults.filter((fault) => happened.includes(fault))
  const actions = Plan.actions.filter((action) => happened.includes(action))
  const isStirred = Plan.stirs(plan.quirk, actions)
  return [
    `topology ${plan.protocol} ${plan.topology}`,
    `router speaks ${plan.protocol} ${Plan.nameOfSpeech(plan.speaks)}`,
    `mapped ${plan.protocol} ${plan.family}`,
    ...(isStirred ? [`quirk ${plan.protocol} ${plan.quirk ?? "none"}`] : []),
    ...(faults.length === 0 ? ["none"] : faults).map((fault) => `fault ${plan.protocol} ${fault}`),
    ...actions.map((action) => `action ${plan.protocol} ${action}`),
    ...faults.flatMap((fault) => actions.map((action) => `fault × action ${fault} ${action}`))
  ]
}

/** What a world came to, and the lines of its trace where they are kept. */
export interface Traced extends Report {
  readonly trace: ReadonlyArray<string>
}

export const runTraced = (seed: number, options: { readonly keepsTrace: boolean }): Traced => {
  const plan = Plan.draw(seed)
  const outcome = World.run(plan, options)
  const violations = [...outcome.violations]
  if (seed % twice === 0 && World.run(plan, { keepsTrace: false }).fingerprint !== outcome.fingerprint) {
    violations.push({ invariant: "same-trace", at: 0, detail: "the same seed gave another trace" })
  }
  return {
    seed,
    violations: violations.map(({ at, detail, invariant }) => ({
      invariant,
      at,
      detail,
      expected: Expected.nameOf(plan, invariant)
    })),
    cells: cellsOf(outcome),
    busiest: outcome.busiest,
    trace: outcome.trace
  }
}

export const runSeed = (seed: number): Report => {
  const { trace: _, ...report } = runTraced(seed, { keepsTrace: false })
  return report
}

/** Whether a world came to something that nobody expects. */
export const isViolated = (report: Report): boolean => report.violations.some(({ expected }) => expected === undefined)

/** The cells that a long run has to reach. */
export const cellsMeant: ReadonlyArray<string> = [
  ...Plan.protocols.flatMap((protocol) => [
    ...Plan.topologies.map((topology) => `topology ${protocol} ${topology}`),
    // Nobody who speaks UPnP would notice PCP.
    ...Plan.speechesFor(protocol, undefined)
      .filter((speech) => protocol !== "upnp" || !speech.includes("pcp"))
      .map((speech) => `router speaks ${protocol} ${Plan.nameOfSpeech(speech)}`),
    `mapped ${protocol} ipv4`,
    ...(protocol === "pcp" ? [`mapped ${protocol} ipv6`] : []),
    ...Plan.quirksFor(protocol)
      .filter((quirk) => Plan.stirs(quirk, Plan.actions))
      .map((quirk) => `quirk ${protocol} ${quirk}`),
    `quirk ${protocol} none`,
    ...Plan.faults.map((fault) => `fault ${protocol} ${fault}`),
    ...Plan.actions.map((action) => `action ${protocol} ${action}`)
  ]),
  ...Plan.faults
    .filter((fault) => fault !== "none")
    .flatMap((fault) => Plan.actions.map((action) => `fault × action ${fault} ${action}`))
]

/** So many worlds reach every cell; fewer need not, and are not asked to. */
export const seedsForCoverage = 2000

/** What all worlds together came to. */
export class Tally {
  seeds = 0
  busiest = 0
  readonly violated: Array<Report> = []
  readonly cells = new Map<string, number>()
  readonly expected = new Map<string, number>()

  add(report: Report): void {
    this.seeds += 1
    this.busiest = Math.max(this.busiest, report.busiest)
    for (const cell of report.cells) this.cells.set(cell, (this.cells.get(cell) ?? 0) + 1)
    if (isViolated(report)) this.violated.push(report)
    for (const { expected } of report.violations) {
      if (expected !== undefined) this.expected.set(expected, (this.expected.get(expected) ?? 0) + 1)
    }
  }

  get missingCells(): ReadonlyArray<string> {
    return cellsMeant.filter((cell) => !this.cells.has(cell))
  }

  /** Expected violations that no world came to. */
  get mended(): ReadonlyArray<string> {
    return Expected.list.map(({ name }) => name).filter((name) => !this.expected.has(name))
  }
}
