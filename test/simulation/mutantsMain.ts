/**
 * `npm run simulate:mutants [-- --seeds N] [--only NAME]`: see docs/simulation.md.
 */
import * as Fs from "node:fs"
import * as Arguments from "../toolchain/arguments.ts"
import * as Mutants from "./mutants.ts"
import * as Pool from "./pool.ts"

const { only, seeds } = Arguments.read({
  script: "simulate:mutants",
  options: {
    seeds: Arguments.whole({ about: "runs each fault in so many worlds at most", fallback: 1000, least: 1 }),
    only: Arguments.oneOf(
      Mutants.list.map(({ name }) => name),
      "runs one fault alone"
    )
  }
})

const chosen = Mutants.list.filter(({ name }) => only === undefined || name === only)

interface Caught {
  readonly seed: number
  readonly invariant: string
}

const hunt = async (mutant: Mutants.Mutant): Promise<Caught | undefined> => {
  let caught: Caught | undefined
  await Pool.run({
    seeds,
    from: 1,
    batch: 4,
    environment: { EFFECT_NAT_MUTANT: mutant.name },
    onReport: (report) => {
      const violation = report.violations.find(({ expected }) => expected === undefined)
      if (violation !== undefined && (caught === undefined || report.seed < caught.seed)) {
        caught = { seed: report.seed, invariant: violation.invariant }
      }
      return caught === undefined
    }
  })
  return caught
}

const results: Array<readonly [Mutants.Mutant, Caught | undefined]> = []
for (const mutant of chosen) {
  for (const { file } of mutant.edits) Fs.accessSync(new URL(`../../packages/${file}`, import.meta.url))
  const caught = await hunt(mutant)
  results.push([mutant, caught])
  console.log(
    `${results.length}/${chosen.length} ${mutant.name}: ${caught === undefined ? "survived" : `seed ${caught.seed}`}`
  )
}

const column = Math.max(...results.map(([{ name }]) => name.length)) + 2
console.log(`${"fault".padEnd(column)}caught by seed`)
for (const [{ name }, caught] of results) {
  const by = caught === undefined ? `SURVIVED ${seeds} seeds` : `${String(caught.seed).padEnd(6)}${caught.invariant}`
  console.log(`${name.padEnd(column)}${by}`)
}
const survivors = results.filter(([, caught]) => caught === undefined).length
console.log(`mutants ${results.length}, survived ${survivors}`)
if (survivors > 0) process.exitCode = 1
