/**
 * `npm run simulate [-- --seeds N] [--from N] [--seed N]`: see docs/simulation.md.
 */
import * as Arguments from "../toolchain/arguments.ts"
import * as Campaign from "./campaign.ts"
import * as Plan from "./plan.ts"
import * as Pool from "./pool.ts"
import * as Print from "./print.ts"

const values = Arguments.read({
  script: "simulate",
  options: {
    seeds: Arguments.whole({ about: "runs so many worlds", fallback: Campaign.seedsForCoverage, least: 1 }),
    from: Arguments.whole({ about: "the first world's seed", fallback: 1 }),
    seed: Arguments.whole({
      about: "runs this world alone and prints its trace; goes with no other option",
      fallback: undefined,
      isAlone: true
    })
  },
  problem: ({ from, seeds }) => Arguments.tooFar(from, seeds, "--from and --seeds")
})

const secondsSince = (startedAt: number): string => ((performance.now() - startedAt) / 1000).toFixed(1)

const repeat = (seed: number) => {
  const startedAt = performance.now()
  const report = Campaign.runTraced(seed, { keepsTrace: true })
  Print.plan(Plan.draw(seed))
  console.log(report.trace.join("\n"))
  Print.violations(report)
  console.log(`seeds 1, violated ${Campaign.isViolated(report) ? 1 : 0}, seconds ${secondsSince(startedAt)}`)
  process.exitCode = Campaign.isViolated(report) ? 1 : 0
}

/** Every violated seed has its line; the ends of some traces say what to look for. */
const mostTraces = 3

const campaign = async (seeds: number, from: number) => {
  const startedAt = performance.now()
  const tally = new Campaign.Tally()
  await Pool.run({
    seeds,
    from,
    environment: {},
    onReport: (report) => {
      tally.add(report)
      Print.progress(tally, seeds)
      return true
    }
  })
  Print.endProgress()
  Print.coverage(tally)
  const isLong = seeds >= Campaign.seedsForCoverage
  const missing = isLong ? [...tally.missingCells] : []
  const mended = isLong ? [...tally.mended] : []
  if (!isLong) {
    console.log(`COVERAGE NOT LOOKED AT: fewer than ${Campaign.seedsForCoverage} seeds need not reach every cell.`)
  }
  for (const cell of missing) console.log(`NOT REACHED: ${cell}`)
  for (const name of mended) console.log(`NO LONGER FAILS: ${name}: take it out of test/simulation/expected.ts`)
  // Reports come in no order.
  const violated = tally.violated.toSorted((self, that) => self.seed - that.seed)
  for (const report of violated) Print.violations(report)
  for (const { seed } of violated.slice(0, mostTraces)) Print.tailOfTrace(seed)
  if (tally.violated.length > 0 || missing.length > 0 || mended.length > 0) process.exitCode = 1
  console.log(`seeds ${tally.seeds}, violated ${tally.violated.length}, seconds ${secondsSince(startedAt)}`)
}

if (values.seed !== undefined) repeat(values.seed)
else await campaign(values.seeds, values.from)
