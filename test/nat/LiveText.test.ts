import { assert, describe, it } from "@effect/vitest"
import * as LiveText from "../../packages/nat/src/cli/LiveText.ts"

const size = { rows: 6 }
const lines = (count: number) => Array.from({ length: count }, (_, index) => `${index + 1}`).join("\n")

describe("a text that is written again in its place", () => {
  it("goes below what was there first, then over itself", () => {
    assert.deepStrictEqual(LiveText.replace(0, "a\nb", size), { output: "\u001B[?7la\nb\u001B[?7h", lines: 2 })
    assert.deepStrictEqual(LiveText.replace(2, "c", size), {
      output: "\u001B[2A\u001B[0J\u001B[?7lc\u001B[?7h",
      lines: 1
    })
  })

  it("is never higher than the terminal, where nothing could go over it, and says what is missing", () => {
    assert.include(LiveText.replace(0, lines(5), size).output, "4\n5\u001B")
    const cut = LiveText.replace(0, lines(9), size)
    assert.strictEqual(cut.lines, 5)
    assert.include(cut.output, "4\n… and 5 more\u001B")
    assert.strictEqual(LiveText.replace(0, lines(100), { rows: undefined }).lines, 23)
    assert.strictEqual(LiveText.replace(0, lines(100), { rows: 0 }).lines, 2)
  })
})
