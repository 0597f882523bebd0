/**
 * A vitest reporter that leaves the numbers of a run in a file, for what comes after the run: see .ci/run.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { countsFile } from "./lib/counts.js"

/** @typedef {import("vitest/node").Reporter} Reporter */

/** @implements {Reporter} */
export default class CountsReporter {
  onTestRunStart() {
    Fs.rmSync(countsFile, { force: true })
  }

  /** @type {NonNullable<Reporter["onTestRunEnd"]>} */
  onTestRunEnd(modules, unhandledErrors) {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 }
    for (const testModule of modules) {
      const before = counts.failed
      for (const test of testModule.children.allTests()) {
        const { state } = test.result()
        // What was still pending when the run ended has not passed.
        counts[state === "pending" ? "failed" : state]++
      }
      // A file that cannot be loaded, or whose setup fails, may have no failed test to show for it.
      if (testModule.state() === "failed" && counts.failed === before) counts.failed++
    }
    Fs.mkdirSync(Path.dirname(countsFile), { recursive: true })
    Fs.writeFileSync(countsFile, `${JSON.stringify(counts)}\n`)
  }
}
