/**
 * What a lab suite does on a machine that cannot build labs: it is skipped with a reason, or, in CI, it fails.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import { root } from "./support.ts"

/** Runs one lab suite where none of the lab's commands can be found. */
const runWithoutTools = (ci: string | undefined) => {
  const { CI: _, ...env } = process.env
  return ChildProcess.spawnSync(
    process.execPath,
    [Path.join(root, "node_modules/vitest/vitest.mjs"), "run", "--reporter=verbose", "test/lab/examples.test.ts"],
    {
      cwd: root,
      encoding: "utf8",
      timeout: 60_000,
      env: { ...env, PATH: Path.dirname(process.execPath), NO_COLOR: "1", ...(ci === undefined ? {} : { CI: ci }) }
    }
  )
}

describe("a lab that cannot start", () => {
  it("is a skip that says what is missing, on a laptop", { timeout: 70_000 }, () => {
    const { status, stdout } = runWithoutTools(undefined)
    assert.match(stdout, /examples\/map-a-port\.ts \(skipped, the lab lacks: .*miniupnpd.*\)/)
    assert.strictEqual(status, 0)
  })

  it("is a failure where CI is set", { timeout: 70_000 }, () => {
    const { status, stderr, stdout } = runWithoutTools("true")
    assert.match(stdout + stderr, /the lab cannot start here, it lacks: .*miniupnpd/)
    assert.strictEqual(status, 1)
  })
})
