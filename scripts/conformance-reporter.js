/**
 * A vitest reporter that fails a run of all tests when a requirement in test/conformance has not been shown: no test
 * that names it passed, or one of them failed or did not run. A run of a part says nothing about requirements.
 */
import * as Conformance from "../test/conformance/Conformance.ts"
import { readPages } from "./lib/conformance.js"

/** @typedef {import("vitest/node").Reporter} Reporter */
/** @typedef {import("vitest/node").Vitest} Vitest */
/** @typedef {import("vitest/node").TestModule} TestModule */

/** @implements {Reporter} */
export default class ConformanceReporter {
  /** @type {Vitest | undefined} */
  #vitest

  /** @type {NonNullable<Reporter["onInit"]>} */
  onInit(vitest) {
    this.#vitest = vitest
  }

  /** @type {NonNullable<Reporter["onTestRunEnd"]>} */
  async onTestRunEnd(modules) {
    const vitest = this.#vitest
    if (vitest === undefined || !(await isWhole(vitest, modules))) return
    const pages = (await readPages(vitest.config.root)).map(({ page }) => page)
    const missing = Conformance.notShown(pages, outcomesOf(modules))
    if (missing.length === 0) return
    console.error(`\nRequirements that this run has not shown (test/conformance):`)
    for (const line of missing) console.error(`  ${line}`)
    process.exitCode = 1
  }
}

/**
 * Whether all files ran that would run if nothing had been asked for in particular.
 *
 * @param {Vitest} vitest
 * @param {ReadonlyArray<TestModule>} modules
 */
const isWhole = async (vitest, modules) => {
  if (vitest.config.testNamePattern !== undefined) return false
  const ran = new Set(modules.map(({ moduleId }) => moduleId))
  return (await vitest.globTestSpecifications()).every(({ moduleId }) => ran.has(moduleId))
}

/** @param {ReadonlyArray<TestModule>} modules */
const outcomesOf = (modules) => {
  /** @type {Map<string, import("../test/conformance/Conformance.ts").Outcome>} */
  const outcomes = new Map()
  for (const module of modules) {
    for (const test of module.children.allTests()) {
      const { state } = test.result()
      for (const id of Conformance.idsOf(test.fullName)) {
        const { failed, passed, skipped } = outcomes.get(id) ?? { failed: 0, passed: 0, skipped: 0 }
        outcomes.set(id, {
          failed: failed + (state === "failed" ? 1 : 0),
          passed: passed + (state === "passed" ? 1 : 0),
          // What was still pending when the run ended did not run either.
          skipped: skipped + (state === "skipped" || state === "pending" ? 1 : 0)
        })
      }
    }
  }
  return outcomes
}
