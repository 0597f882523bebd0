/** The control of a dispatcher as `docs/wire-protocol.md` has it, line by line. */
import * as Capability from "@effect-nat/core/Capability"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as RemoteControl from "@effect-nat/dispatcher/RemoteControl"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { bytesOf, dispatcher, rawMember, textOf, until } from "./support.ts"

const page = readFileSync(new URL("../../docs/wire-protocol.md", import.meta.url), "utf8")
const section = page.split(/^## /m).find((one) => one.startsWith("Control")) ?? ""

const start = Effect.gen(function* () {
  const { address, grantControl } = yield* dispatcher()
  const capability = yield* grantControl("manage", Capability.Capability.make("c0".repeat(16)))
  const sessionId = SessionId.SessionId.make("0".repeat(32))
  const controller = yield* rawMember(address.port, new Invitation.Invitation({ sessionId, capability }))
  const before = (yield* controller.received).length
  const lines = Effect.map(controller.received, (bytes) => textOf(bytes.slice(before)).split("\n").slice(0, -1))
  return { controller, lines }
})

describe("control over the wire", () => {
  it.live("grants no facet, and has no life", () =>
    Effect.gen(function* () {
      const { controller } = yield* start
      assert.deepStrictEqual([controller.welcome.facets, controller.welcome.life], [{}, new Uint8Array(8)])
    })
  )

  it.live("is what the page shows", () =>
    Effect.gen(function* () {
      const { controller, lines } = yield* start
      const shown = Array.from(section.matchAll(/^([<>]) (.*)$/gm), ([, side, line = ""]) => ({ side, line }))
      const expected: Array<string> = []
      for (const { line, side } of shown) {
        if (side === "<") {
          expected.push(line)
          yield* until(Effect.map(lines, ({ length }) => length >= expected.length))
        } else yield* controller.write(bytesOf(`${line}\n`))
      }
      assert.isAbove(expected.length, 3)
      assert.deepStrictEqual((yield* lines).slice(0, expected.length), expected)
    })
  )

  it("knows the requests that the page knows", () => {
    const named = Array.from(section.matchAll(/^\| `(\w+)` /gm), ([, name = ""]) => name)
    assert.deepStrictEqual(named.toSorted(), Array.from(RemoteControl.Rpcs.requests.keys()).toSorted())
    const managing = Array.from(section.matchAll(/^\| `(\w+)` .*\| manage +\|$/gm), ([, name = ""]) => name)
    assert.deepStrictEqual(managing, ["register", "unregister", "announce", "changeStrategy"])
  })

  it.live("answers a line that is no message, and goes on", () =>
    Effect.gen(function* () {
      const { controller, lines } = yield* start
      yield* controller.write(bytesOf("nonsense\n"))
      yield* until(Effect.map(lines, ({ length }) => length >= 1))
      yield* controller.write(bytesOf(`{"_tag":"Ping"}\n`))
      yield* until(Effect.map(lines, ({ length }) => length >= 2))
      const [defect, pong] = yield* lines
      assert.match(defect ?? "", /^\{"_tag":"Defect","defect":/)
      assert.strictEqual(pong, '{"_tag":"Pong"}')
    })
  )

  it.live("ends with a line that is too long", () =>
    Effect.gen(function* () {
      const { controller, lines } = yield* start
      yield* controller.write(bytesOf(`{"_tag":"Ping"}\n"${"x".repeat(RemoteControl.maximumBytes)}"\n`))
      yield* controller.all
      assert.notInclude(yield* lines, "Exit")
    })
  )
})
