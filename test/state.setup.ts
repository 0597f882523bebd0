/**
 * The tests' programs write down what they map as every program does, in a directory of this run and not in the user's.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

export default (): (() => void) => {
  const directory = mkdtempSync(join(tmpdir(), "effect-nat-state-"))
  process.env["XDG_STATE_HOME"] = directory
  return () => rmSync(directory, { recursive: true, force: true })
}
