/**
 * Suites that need the lab.
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Lab from "./Lab.ts"

const ci = process.env["CI"] ?? ""

const isCi = ci !== "" && ci !== "false" && ci !== "0"

/**
 * A `describe` for tests that build labs.
 *
 * **Details**
 *
 * Where a lab cannot start, the suite is skipped and its title says what is missing, unless the environment variable
 * `CI` is set: there it fails, since a skipped router test proves nothing.
 *
 * @category testing
 */
export const labSuite = (title: string, define: () => void): void => {
  const missing = Effect.runSync(Lab.missing)
  if (missing.length === 0) {
    describe(title, define)
  } else if (isCi) {
    describe(title, () => {
      it("has what the lab needs", () => {
        throw new Error(`the lab cannot start here, it lacks: ${missing.join(", ")}`)
      })
    })
  } else {
    describe.skip(`${title} (skipped, the lab lacks: ${missing.join(", ")})`, define)
  }
}
