/**
 * `npm run simulate:mutants [-- --seeds N] [--only NAME]`: see docs/simulation.md.
 */
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

interface Catch {
  readonly seed: number
  readonly invariant: string
}

/** The first world that catches a fault by whatever it is, and the first that does by the invariant meant for it. */
interface Caught {
  first: Catch | undefined
  meant: Catch | undefined
}

const earlier = (known: Catch | undefined, other: Catch): Catch =>
  known === undefined || other.seed < known.seed ? other : known

const hunt = async (mutant: Mutants.Mutant): Promise<Caught> => {
  const caught: Caught = { first: undefined, meant: undefined }
  await Pool.run({
    seeds,
    from: 1,
    batch: 4,
    environment: { EFFECT_NAT_MUTANT: mutant.name },
    onReport: ({ seed, violations }) => {
      for (const { expected, invariant } of violations) {
        if (expected !== undefined) continue
        caught.first = earlier(caught.first, { seed, invariant })
        if (invariant === mutant.by) caught.meant = earlier(caught.meant, { seed, invariant })
      }
      return caught.meant === undefined
    }
  })
  return caught
}

const results: Array<readonly [Mutants.Mutant, Caught]> = []
for (const mutant of chosen) {
  const caught = await hunt(mutant)
  results.push([mutant, caught])
  const by = caught.meant === undefined ? "survived" : `seed ${caught.meant.seed}`
  console.log(`${results.length}/${chosen.length} ${mutant.name}: ${by}`)
}

const column = Math.max(...results.map(([{ name }]) => name.length)) + 2
const seedColumn = 6
const invariantColumn = Math.max(...chosen.map(({ by }) => by.length)) + 2

/** What came first is said where another invariant was quicker. */
const row = ([{ by, name }, { first, meant }]: readonly [Mutants.Mutant, Caught]): string => {
  const before = first === undefined || first.invariant === by ? "" : `first seed ${first.seed} by ${first.invariant}`
  const caught =
    meant === undefined
      ? `SURVIVED ${seeds} seeds: ${by} `
      : `${String(meant.seed).padEnd(seedColumn)}${by.padEnd(invariantColumn)}`
  return `${name.padEnd(column)}${caught}${before}`.trimEnd()
}

console.log(`${"fault".padEnd(column)}caught by seed`)
for (const result of results) console.log(row(result))
const survivors = results.filter(([, { meant }]) => meant === undefined).length
console.log(`mutants ${results.length}, survived ${survivors}`)
if (survivors > 0) process.exitCode = 1
