/**
 * Writes docs/conformance-<name>.md from the requirements in test/conformance/<name>.ts and the tests that say that they
 * show one. Fails when a requirement is shown by no test and says no reason, when a section has no requirement, and when
 * a test names a requirement that does not exist. With `--check` it writes nothing, and fails as well when a page is not
 * what it would write. Another argument is the workspace's folder, if it is not this one.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Conformance from "../test/conformance/Conformance.ts"
import { readPages, readTests } from "./lib/conformance.js"
import { root } from "./lib/workspace.js"

const isCheck = process.argv.includes("--check")
const base = Path.resolve(process.argv.slice(2).find((argument) => argument !== "--check") ?? root)

/** @param {string} complaint */
const fail = (complaint) => {
  console.error(complaint)
  process.exitCode = 1
}

const pages = await readPages(base)
const tests = readTests(base)

for (const mistake of Conformance.mistakes(
  pages.map(({ page }) => page),
  tests
)) {
  fail(mistake)
}

for (const { page, path } of pages) {
  const file = Path.join(base, path)
  const text = Conformance.format(page, tests)
  if (Fs.existsSync(file) && Fs.readFileSync(file, "utf8") === text) continue
  if (isCheck) {
    fail(`${path} is stale: run npm run generate`)
  } else {
    Fs.mkdirSync(Path.dirname(file), { recursive: true })
    Fs.writeFileSync(file, text)
    console.log(`${path} written`)
  }
}
