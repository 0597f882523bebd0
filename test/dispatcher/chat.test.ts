/**
 * `examples/chat.ts`, as three people would use it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as LabProcess from "../lab/LabProcess.ts"

const program = fileURLToPath(new URL("../../examples/chat.ts", import.meta.url))

const start = (...args: ReadonlyArray<string>) => LabProcess.spawn(process.execPath, [program, ...args])

/** The numbered lines that somebody read. */
const linesOf = (one: LabProcess.LabProcess) =>
  Effect.map(one.stdout, (text) => text.split("\n").filter((line) => /^\d+: /.test(line)))

const say = (one: LabProcess.LabProcess, line: string) =>
  Effect.andThen(one.write(`${line}\n`), one.awaitLine(new RegExp(`^\\d+: ${line}$`)))

describe("examples/chat.ts", () => {
  it.live("shows everyone the same lines in the same order, and what was said before to whoever comes late", () =>
    Effect.gen(function* () {
      const host = yield* start()
      const contactPoint = yield* host.awaitLine("contact point: internal ")
      const invitation = (yield* host.awaitLine("invitation: ")).replace("invitation: ", "")
      const address = `127.0.0.1:${/:(\d+)[,;]/.exec(contactPoint)?.[1]}`
      const early = yield* start("join", address, invitation)
      yield* say(host, "welcome")
      yield* say(early, "thank you")
      const late = yield* start("join", address, invitation)
      yield* late.awaitLine("2: thank you")
      // All at once: in what order they come is the router's to say.
      yield* Effect.all(
        [host, early, late].map((one, index) => one.write(`${index}a\n${index}b\n`)),
        { concurrency: "unbounded" }
      )
      for (const one of [host, early, late]) yield* one.awaitLine(/^8: /)
      const lines = yield* linesOf(host)
      assert.lengthOf(lines, 8)
      assert.deepStrictEqual([yield* linesOf(early), yield* linesOf(late)], [lines, lines])
      assert.deepStrictEqual(lines.slice(0, 2), ["1: welcome", "2: thank you"])
      yield* host.signal("SIGINT")
      assert.strictEqual((yield* host.awaitExit()).exitCode, 130)
      assert.deepStrictEqual([yield* host.stderr, yield* early.stderr, yield* late.stderr], ["", "", ""])
    })
  )
})
