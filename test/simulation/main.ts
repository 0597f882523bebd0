/**
 * `npm run simulate [-- --seeds N] [--from N] [--seed N]`: see docs/simulation.md.
 */
import * as Arguments from "../toolchain/arguments.ts"
import * as Campaign from "./campaign.ts"
import * as Plan from "./plan.ts"
import * as Pool from "./pool.ts"
import * as Print from "./print.ts"
import * as World from "./world.ts"

const values = Arguments.read({
  script: "simulate",
  options: {
    seeds: Arguments.whole({ about: "runs so many worlds", fallback: 1000, least: 1 }),
    from: Arguments.whole({ about: "the first world's seed", fallback: 1 }),
    seed: Arguments.whole({
      about: "runs this world alone and prints its trace; goes with no other option",
      fallback: undefined,
      isAlone: true
    })
  },
  problem: ({ from, seeds }) => Arguments.tooFar(from, seeds, "--from and --seeds")
})

const repeat = (seed: number) => {
  const plan = Plan.draw(seed)
  const outcome = World.run(plan, { keepsTrace: true })
  Print.plan(plan)
  console.log(outcome.trace.join("\n"))
  const report = Campaign.runSeed(seed)
  Print.violations(report)
  console.log(`seeds 1, violated ${Campaign.isViolated(report) ? 1 : 0}, seconds 0`)
  process.exitCode = Campaign.isViolated(report) ? 1 : 0
}

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
    console.log(`Fewer than ${Campaign.seedsForCoverage} seeds need not reach every cell: that is not looked at.`)
  }
  for (const cell of missing) console.log(`NOT REACHED: ${cell}`)
  for (const name of mended) console.log(`NO LONGER FAILS: ${name}: take it out of test/simulation/expected.ts`)
  for (const report of tally.violated.slice(0, 10)) {
    Print.violations(report)
    console.log(`  repeat it with its trace: npm run simulate -- --seed ${report.seed}`)
  }
  const [first] = tally.violated
  if (first !== undefined) Print.tailOfTrace(first.seed)
  const seconds = (performance.now() - startedAt) / 1000
  if (tally.violated.length > 0 || missing.length > 0 || mended.length > 0) process.exitCode = 1
  console.log(`seeds ${tally.seeds}, violated ${tally.violated.length}, seconds ${seconds.toFixed(1)}`)
}

if (values.seed !== undefined) repeat(values.seed)
else await campaign(values.seeds, values.from)
