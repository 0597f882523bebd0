/**
 * A vitest reporter that fails a run of all tests when a requirement in test/conformance has not been shown: no test
 * that names it passed, or one of those in the sources failed, did not run, or is to fail. A run of a part says nothing
 * about requirements.
 */
import * as Path from "node:path"
import * as Conformance from "../test/conformance/Conformance.ts"
import { readPages, readTests } from "./lib/conformance.js"

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
    const { root } = vitest.config
    const pages = (await readPages(root)).map(({ page }) => page)
    const missing = Conformance.notShown(pages, readTests(root), resultsOf(root, modules))
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

/**
 * @param {string} root
 * @param {ReadonlyArray<TestModule>} modules
 * @returns {ReadonlyArray<import("../test/conformance/Conformance.ts").TestResult>}
 */
const resultsOf = (root, modules) =>
  modules.flatMap((module) => {
    const file = Path.relative(Path.join(root, "test"), module.moduleId).split(Path.sep).join("/")
    return Array.from(module.children.allTests(), (test) => ({
      file,
      titles: titlesOf(test),
      // One that is to fail shows that the requirement is not met.
      state: test.options.fails === true ? "failed" : test.result().state
    }))
  })

/**
 * The titles around a test, and its own.
 *
 * @param {import("vitest/node").TestCase} test
 */
const titlesOf = (test) => {
  const titles = [test.name]
  for (let { parent } = test; parent.type === "suite"; { parent } = parent) titles.unshift(parent.name)
  return titles
}
