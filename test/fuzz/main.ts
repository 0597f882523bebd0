/**
 * The campaign as a command: `npm run fuzz [-- --inputs N] [--from N] [--seed N] [--decoder NAME]`: see
 * docs/simulation.md.
 *
 * Prints a line for each decoder; exit status 1 on any violation. A failing input prints the command that repeats it.
 */
import { Worker } from "node:worker_threads"
import * as Arguments from "../toolchain/arguments.ts"
import * as Campaign from "./campaign.ts"
import { decoders } from "./decoders.ts"
import * as Work from "./work.ts"
import type { Report } from "./workReport.ts"

const { decoder: only, ...options } = Arguments.read({
  script: "fuzz",
  options: {
    inputs: Arguments.whole({ about: "gives each decoder so many inputs", fallback: 100_000, least: 1 }),
    from: Arguments.whole({ about: "the first input's number", fallback: 0 }),
    seed: Arguments.whole({ about: "what all inputs are drawn from", fallback: 1 }),
    decoder: Arguments.oneOf(
      decoders.map(({ name }) => name),
      "runs one decoder alone"
    )
  },
  problem: ({ from, inputs }) => Arguments.tooFar(from, inputs, "--from and --inputs")
})

const chosen = decoders.filter(({ name }) => only === undefined || name === only)

/** In a thread of its own, where the counting begins before the decoders are loaded. */
const workOf = (names: ReadonlyArray<string>): Promise<ReadonlyArray<Report>> =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./workReport.ts", import.meta.url), { workerData: names })
    worker.once("message", resolve)
    worker.once("error", reject)
  })

const isWhole = options.from === 0 && options.inputs > 1
const start = performance.now()
let violated = 0

console.log(`seed ${options.seed}, inputs ${options.from} to ${options.from + options.inputs - 1} of each decoder`)
for (const decoder of chosen) {
  const outcome = Campaign.run(decoder, options)
  violated += outcome.violated
  console.log(
    `${decoder.name.padEnd(16)} inputs ${outcome.inputs}, accepted ${outcome.accepted}, refused ${outcome.refused}, slowest ${outcome.slowestMillis.toFixed(1)} ms${outcome.violated === 0 ? "" : `, violated ${outcome.violated}`}`
  )
  for (const violation of outcome.violations) {
    console.log(`  ${violation.what}`)
    console.log(`  input ${violation.number}: ${violation.input}`)
    console.log(`  again: ${Campaign.repeatCommand(violation)}`)
  }
}

if (isWhole) {
  console.log(`the work for ${Work.factor} times the input`)
  for (const { decoder, excesses, kinds, worst } of await workOf(chosen.map(({ name }) => name))) {
    violated += excesses.length
    const exemption = worst.isLittle ? ", which are less than one for each byte: never too much" : ""
    console.log(
      `${decoder.padEnd(16)} kinds of input ${kinds}, at most ${worst.ratio.toFixed(2)} times the steps${exemption} (${worst.of})`
    )
    for (const excess of excesses) console.log(`  ${excess}`)
  }
  for (const slow of chosen.flatMap((decoder) => Work.slowOnes(decoder))) {
    violated++
    console.log(`  ${slow}`)
  }
}

console.log(
  `decoders ${chosen.length}, violated ${violated}, seconds ${((performance.now() - start) / 1000).toFixed(1)}`
)
if (violated > 0) process.exitCode = 1
