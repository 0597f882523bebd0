/**
 * The programs under `examples/`, as they stand in the README, on a lan host behind the real router.
 */
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import { labSuite } from "./LabSuite.ts"

const path = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url))

labSuite("examples/map-a-port.ts", () => {
  it("is the program that the README shows", () => {
    const program = readFileSync(path("examples/map-a-port.ts"), "utf8")
    assert.include(readFileSync(path("README.md"), "utf8"), `\`\`\`ts\n${program}\`\`\`\n`)
  })

  it.live(
    "maps its port while it runs and not after",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: true, natpmp: false } })
        yield* lab.tcpEcho("lan", 12000)
        const program = yield* lab.spawn("lan", process.execPath, [path("examples/map-a-port.ts")])
        yield* program.awaitLine("reachable at 11.22.33.1:12001/tcp", { timeout: "15 seconds" })
        assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "reachable")
        yield* program.signal("SIGINT")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 130)
        assert.deepStrictEqual(yield* lab.mappings, [])
        assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "refused")
      }),
    60_000
  )
})

labSuite("examples/dispatcher.ts", () => {
  it.live(
    "prints where its session is joined, and is reached there while it runs",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: true, natpmp: false } })
        const program = yield* lab.spawn("lan", process.execPath, [path("examples/dispatcher.ts")])
        yield* program.awaitLine("external 11.22.33.1:12000", { timeout: "15 seconds" })
        const uri = yield* program.awaitLine("effect-nat:")
        const contactPoint = yield* Effect.fromResult(ContactPointUri.fromString(uri))
        const invitation = contactPoint.sessions.map(({ capabilities, id }) => `${id}.${capabilities[0]}`)
        const join = [path("examples/chat.ts"), "join", `${lab.addresses.external}:12000`, ...invitation]
        const member = yield* lab.spawn("wan", process.execPath, join)
        yield* member.write("hello\n")
        yield* member.awaitLine("1: hello")
        yield* program.signal("SIGINT")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 130)
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )
})
