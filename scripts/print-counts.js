/**
 * Prints the last test run as `N passed, N failed, N skipped`; fails when a test failed, and when none passed.
 */
import * as Fs from "node:fs"
import { countsFile } from "./lib/counts.js"

const { passed, failed, skipped } = Fs.existsSync(countsFile)
  ? JSON.parse(Fs.readFileSync(countsFile, "utf8"))
  : { passed: 0, failed: 0, skipped: 0 }

console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
if (failed > 0 || passed === 0) process.exitCode = 1
