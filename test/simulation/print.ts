/**
 * What a run prints.
 */
import type * as Campaign from "./campaign.ts"
import * as CampaignModule from "./campaign.ts"
import * as Plan from "./plan.ts"
import * as World from "./world.ts"

const width = 40

export const progress = (tally: Campaign.Tally, seeds: number): void => {
  if (!process.stdout.isTTY) return
  const done = Math.round((tally.seeds / seeds) * width)
  const bar = "█".repeat(done) + "░".repeat(width - done)
  process.stdout.write(`\r${bar} ${tally.seeds}/${seeds}, violated ${tally.violated.length} `)
}

export const endProgress = (): void => {
  if (process.stdout.isTTY) process.stdout.write("\n")
}

/** What goes on for a while, and what is done to one mapping. */
const lasting = new Set(["loss", "delay", "duplication", "reordering", "silence", "garbage", "forgery"])
const ofOneMapping = new Set(["map", "unmap", "unmapTwice"])

/** An event with those of its numbers that it goes by. */
export const event = ({ at, lasts, mapping, what }: Plan.Event): string => {
  const about = ofOneMapping.has(what) ? ` of mapping ${mapping}` : ""
  return `at ${at / 1000} s: ${what}${about}${lasting.has(what) ? ` for ${lasts / 1000} s` : ""}`
}

export const plan = (plan: Plan.Plan): void => {
  const wanted = plan.family === "ipv6" ? " for pinholes" : ""
  console.log(
    `seed ${plan.seed}: ${plan.protocol}${wanted} where the router speaks ${plan.speaks.join(" and ")}, ${plan.topology}, quirk ${plan.quirk ?? "none"}`
  )
  for (const one of plan.events) console.log(`  ${event(one)}`)
}

export const violations = ({ seed, violations }: Campaign.Report): void => {
  for (const { at, detail, expected, invariant } of violations) {
    const known = expected === undefined ? "VIOLATED" : `expected (${expected})`
    console.log(`seed ${seed}: ${known} ${invariant} at ${at.toFixed(3)} s: ${detail}`)
  }
}

const tailLength = 40

/** The end of a failing world's trace, up to its first violation, and how to have all of it. */
export const tailOfTrace = (seed: number): void => {
  const { trace } = World.run(Plan.draw(seed), { keepsTrace: true })
  const found = trace.findIndex((line) => line.includes("VIOLATION"))
  const end = found < 0 ? trace.length : found + 1
  console.log(`The trace of seed ${seed} up to there, its last ${tailLength} lines:`)
  for (const line of trace.slice(Math.max(0, end - tailLength), end)) console.log(line.slice(0, 200))
  console.log(`  repeat it with its whole trace: npm run simulate -- --seed ${seed}`)
}

const table = (
  title: string,
  prefix: string,
  rows: ReadonlyArray<string>,
  columns: ReadonlyArray<string>,
  count: (row: string, column: string) => number
): void => {
  const first = Math.max(...rows.map((row) => row.length), title.length) + 2
  console.log(
    [title.padEnd(first), ...columns.map((column) => column.padStart(Math.max(10, column.length + 2)))].join("")
  )
  for (const row of rows) {
    const cells = columns.map((column) => {
      const isMeant =
        CampaignModule.cellsMeant.includes(`${prefix}${row} ${column}`) ||
        CampaignModule.cellsMeant.includes(`${prefix}${column} ${row}`)
      const number = count(row, column)
      return (number === 0 && !isMeant ? "·" : String(number)).padStart(Math.max(10, column.length + 2))
    })
    console.log([row.padEnd(first), ...cells].join(""))
  }
  console.log("")
}

/** How many worlds were in each cell; a dot is a cell that no world is meant to be in. */
export const coverage = (tally: Campaign.Tally): void => {
  const byProtocol = (kind: string) => (row: string, column: string) => tally.cells.get(`${kind} ${column} ${row}`) ?? 0
  const quirks = ["none", ...new Set(Plan.protocols.flatMap((protocol) => Plan.quirksFor(protocol)))]
  table("topology", "topology ", Plan.topologies, Plan.protocols, byProtocol("topology"))
  table(
    "router speaks",
    "router speaks ",
    Plan.everySpeech.map(Plan.nameOfSpeech),
    Plan.protocols,
    byProtocol("router speaks")
  )
  table("mapped", "mapped ", ["ipv4", "ipv6"], Plan.protocols, byProtocol("mapped"))
  table("quirk", "quirk ", quirks, Plan.protocols, byProtocol("quirk"))
  table("fault", "fault ", Plan.faults, Plan.protocols, byProtocol("fault"))
  table("user action", "action ", Plan.actions, Plan.protocols, byProtocol("action"))
  table(
    "fault × action",
    "fault × action ",
    Plan.faults.filter((fault) => fault !== "none"),
    Plan.actions,
    (row, column) => tally.cells.get(`fault × action ${row} ${column}`) ?? 0
  )
  console.log(`The busiest process sent ${tally.busiest} datagrams and requests within a second.`)
  for (const [name, count] of tally.expected)
    console.log(`expected: ${name}: ${count} ${count === 1 ? "world" : "worlds"}`)
}
