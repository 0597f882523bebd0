/**
 * Loaded before everything else: the packages' own names lead to their sources, so that what runs is what was written.
 * With a mutant named in `EFFECT_NAT_MUTANT`, its fault is written into the sources as they are loaded, in memory only.
 */
import * as Module from "node:module"
import { fileURLToPath } from "node:url"
import * as Mutants from "./mutants.ts"

const packages = new URL("../../packages/", import.meta.url)

const directoryOf = (name: string): string => (name === "effect-nat" ? "nat" : name.slice("@effect-nat/".length))

const sourceOf = (specifier: string): string | undefined => {
  const [, name, module = "index"] = /^(@effect-nat\/[^/]+|effect-nat)(?:\/(.+))?$/.exec(specifier) ?? []
  if (name === undefined || module === "package.json") return undefined
  return new URL(`${directoryOf(name)}/src/${module}.ts`, packages).href
}

const wanted = process.env["EFFECT_NAT_MUTANT"]
const mutant = wanted === undefined ? undefined : Mutants.named(wanted)

Module.registerHooks({
  resolve: (specifier, context, next) => {
    const url = sourceOf(specifier)
    return url === undefined ? next(specifier, context) : { url, shortCircuit: true, format: "module-typescript" }
  },
  load: (url, context, next) => {
    const loaded = next(url, context)
    const edits = mutant?.edits.filter(({ file }) => url === new URL(file, packages).href) ?? []
    if (edits.length === 0) return loaded
    const text = Mutants.apply(fileURLToPath(url), edits)
    return { ...loaded, source: text, shortCircuit: true }
  }
})
