/**
 * Suites that need the lab, or something else that not every machine has.
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Lab from "./Lab.ts"

const ci = process.env["CI"] ?? ""

const isCi = ci !== "" && ci !== "false" && ci !== "0"

/**
 * A `describe` for tests that need what not every machine has.
 *
 * **Details**
 *
 * Where something is missing, the suite is skipped and its title says what, unless the environment variable `CI` is
 * set: there it fails, since a skipped test proves nothing.
 *
 * @category testing
 */
export const suiteNeeding = (
  needing: { readonly who: string; readonly missing: ReadonlyArray<string> },
  title: string,
  define: () => void
): void => {
  const { missing, who } = needing
  if (missing.length === 0) {
    describe(title, define)
  } else if (isCi) {
    describe(title, () => {
      it(`has what ${who} needs`, () => {
        throw new Error(`${who} cannot start here, it lacks: ${missing.join(", ")}`)
      })
    })
  } else {
    describe.skip(`${title} (skipped, ${who} lacks: ${missing.join(", ")})`, define)
  }
}

/**
 * A `describe` for tests that build labs: `suiteNeeding` a lab, and commands that not every lab has.
 *
 * @category testing
 */
export const labSuite = (title: string, define: () => void, commands: ReadonlyArray<string> = []): void =>
  suiteNeeding({ who: "the lab", missing: Effect.runSync(Lab.missingWith(commands)) }, title, define)
