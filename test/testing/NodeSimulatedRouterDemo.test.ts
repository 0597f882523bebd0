/**
 * `npm run demo`, as a person would watch it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as LabProcess from "../lab/LabProcess.ts"

const path = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url))

/** What is said about ports, whatever their numbers. */
const story = [
  /^server +listens on 127\.0\.0\.1:\d+, behind a NAT$/,
  /^a peer +says hello to [\d.:]+ and is refused$/,
  /^discover +Loopback Router at 127\.0\.0\.1 speaks UPnP$/,
  /^map +reachable at [\d.]+:\d+\/tcp$/,
  /^router +my table: tcp \d+ → 127\.0\.0\.1:\d+$/,
  /^a peer +says hello to [\d.:]+ and hears "hello"$/,
  /^router +my line got another address: 127\.0\.0\.3$/,
  /^changes +now reachable at 127\.0\.0\.3:\d+\/tcp$/,
  /^a peer +says hello to 127\.0\.0\.3:\d+ and hears "hello"$/,
  /^release +the scope closes$/,
  /^router +my table: empty$/,
  /^a peer +says hello to 127\.0\.0\.3:\d+ and is refused$/
]

describe("npm run demo", () => {
  it("runs the example", () => {
    assert.include(readFileSync(path("package.json"), "utf8"), '"demo": "node examples/demo.ts"')
  })

  it.live("tells the whole story and ends by itself", () =>
    Effect.gen(function* () {
      const result = yield* LabProcess.run(process.execPath, [path("examples/demo.ts")], { timeout: "25 seconds" })
      assert.deepStrictEqual([result.exitCode, result.stderr], [0, ""])
      const lines = result.stdout.split("\n").filter((line) => line !== "" && !line.startsWith(" "))
      assert.lengthOf(lines, story.length, result.stdout)
      story.forEach((expected, index) => assert.match(lines[index] ?? "", expected))
    })
  )
})
