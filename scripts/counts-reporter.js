/**
 * A vitest reporter that leaves the numbers of a run in a file, for what comes after the run: see .ci/run.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { countsFile } from "./lib/counts.js"

/** @typedef {import("vitest/node").Reporter} Reporter */

/** @param {ReadonlyArray<{ message: string }> | undefined} errors */
const why = (errors) => (errors?.[0]?.message ?? "it has no result").split("\n", 1)[0]

/** @implements {Reporter} */
export default class CountsReporter {
  onTestRunStart() {
    Fs.rmSync(countsFile, { force: true })
  }

  /** @type {NonNullable<Reporter["onTestRunEnd"]>} */
  onTestRunEnd(modules, unhandledErrors) {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 }
    /** @type {Array<string>} */
    const failures = unhandledErrors.map((error) => `outside of any test: ${error.message}`)
    /** @type {Array<string>} */
    const retried = []
    for (const testModule of modules) {
      const before = counts.failed
      for (const test of testModule.children.allTests()) {
        const { errors, state } = test.result()
        // What was still pending when the run ended has not passed.
        counts[state === "pending" ? "failed" : state]++
        const name = `${testModule.relativeModuleId} > ${test.fullName}`
        if (state === "failed" || state === "pending") failures.push(`${name}: ${why(errors)}`)
        if (state === "passed" && (test.diagnostic()?.retryCount ?? 0) > 0) retried.push(`${name}: ${why(errors)}`)
      }
      // A file that cannot be loaded, or whose setup fails, may have no failed test to show for it.
      if (testModule.state() === "failed" && counts.failed === before) {
        counts.failed++
        failures.push(`${testModule.relativeModuleId}: ${why(testModule.errors())}`)
      }
    }
    Fs.mkdirSync(Path.dirname(countsFile), { recursive: true })
    Fs.writeFileSync(countsFile, `${JSON.stringify({ ...counts, failures, retried })}\n`)
  }
}
