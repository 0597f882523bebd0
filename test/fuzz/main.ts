/**
 * The campaign as a command: `npm run fuzz [-- --inputs N] [--seed S] [--decoder name] [--from N]`.
 *
 * Prints a line for each decoder; exit status 1 on any violation. A failing input prints the command that repeats it.
 */
import { parseArgs } from "node:util"
import { Worker } from "node:worker_threads"
import * as Campaign from "./campaign.ts"
import { decoders } from "./decoders.ts"
import * as Work from "./work.ts"
import type { Report } from "./workReport.ts"

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    inputs: { type: "string", default: "100000" },
    from: { type: "string", default: "0" },
    decoder: { type: "string" }
  }
})

const whole = (name: string, text: string): number => {
  const value = Number(text)
  if (text.trim() !== "" && Number.isSafeInteger(value) && value >= 0) return value
  console.error(`--${name} takes a whole number, not "${text}"`)
  process.exit(2)
}

const options: Campaign.Options = {
  seed: whole("seed", values.seed),
  inputs: whole("inputs", values.inputs),
  from: whole("from", values.from)
}

const chosen = decoders.filter((decoder) => values.decoder === undefined || decoder.name === values.decoder)
if (chosen.length === 0) {
  console.error(`no decoder "${values.decoder}": there are ${decoders.map(({ name }) => `"${name}"`).join(", ")}`)
  process.exit(2)
}

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
    console.log(
      `${decoder.padEnd(16)} kinds of input ${kinds}, at most ${worst.ratio.toFixed(2)} times the steps (${worst.of})`
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
