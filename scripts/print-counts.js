/**
 * Prints the last test run as `N passed, N failed, N skipped`, after the names of what failed, and of what passed only
 * when it was tried again; fails when a test failed, and when none passed.
 */
import * as Fs from "node:fs"
import { countsFile } from "./lib/counts.js"

const { passed, failed, skipped, failures, retried } = Fs.existsSync(countsFile)
  ? JSON.parse(Fs.readFileSync(countsFile, "utf8"))
  : { passed: 0, failed: 0, skipped: 0, failures: [], retried: [] }

for (const failure of failures) console.log(`failed: ${failure}`)
for (const one of retried) console.log(`passed at the second try: ${one}`)

console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
if (failed > 0 || passed === 0) process.exitCode = 1
