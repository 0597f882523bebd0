/**
 * Everything that can be said of the sources without running them, types aside. All steps run, whatever fails before.
 */
import * as ChildProcess from "node:child_process"
import { root } from "./lib/workspace.js"

/** @type {ReadonlyArray<readonly [what: string, command: string, ...args: Array<string>]>} */
const steps = [
  ["rules, import cycles, arrows", "oxlint", "--deny-warnings", "--tsconfig", "scripts/oxlint.tsconfig.json"],
  ["format", "oxfmt", "--check"],
  ["Effect's diagnostics", "node", "scripts/check-effect.js"],
  ["doc comments", "node", "scripts/check-docs.js"],
  ["generated indexes", "node", "scripts/generate-index.js", "--check"],
  ["conformance", "node", "scripts/conformance.js", "--check"],
  ["lock file", "node", "scripts/complete-lockfile.js", "--check"]
]

const failed = steps.filter(([what, command, ...args]) => {
  console.log(`— ${what}`)
  const result = ChildProcess.spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] })
  if (result.error !== undefined) console.error(`${command}: ${result.error.message} (run it by npm run lint)`)
  return result.status !== 0
})

console.log(failed.length === 0 ? "lint: all steps pass" : `lint: fails in ${failed.map(([what]) => what).join("; ")}`)
if (failed.length > 0) process.exitCode = 1
