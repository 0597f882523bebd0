/**
 * The events of a real router: what it says by itself when its external address changes.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import * as LabProcess from "./LabProcess.ts"
import { labSuite } from "./LabSuite.ts"

const agent = fileURLToPath(new URL("./igd-agent.ts", import.meta.url))

const otherAddress = "11.22.33.9"

const text = new TextDecoder("latin1")

labSuite("the events of a real router", () => {
  it.live(
    "tell the external address, tell it again when it changes, and end with the subscription",
    () =>
      Effect.gen(function* () {
        // The daemon tells the address of its interface: one that it is given by its configuration never changes.
        const lab = yield* Lab.make({ daemon: { natpmp: false, externalAddress: false } })
        const capture = yield* lab.capture("lan", "tcp")
        const program = yield* lab.spawn("lan", process.execPath, [agent, "events", yield* lab.location])
        yield* program.awaitLine('"ExternalIPAddress":"11.22.33.1"')
        assert.deepStrictEqual(JSON.parse(yield* program.awaitLine("isWorking")), { isWorking: true })

        // In this order, or the daemon may look just when there is none, and tell that. With another mask the new
        // address does not go with the old one.
        yield* lab.exec("router", "ip", ["addr", "add", `${otherAddress}/32`, "dev", "wan0"])
        // The daemon tells the address it still has. A change while that event is on its way it would never tell.
        yield* program.awaitLine('"ExternalIPAddress":"11.22.33.1"', { occurrence: 2 })
        yield* LabProcess.pause("500 millis")
        yield* lab.exec("router", "ip", ["addr", "del", `${lab.addresses.external}/24`, "dev", "wan0"])
        const changed = yield* program.awaitLine(`"ExternalIPAddress":"${otherAddress}"`, { timeout: "20 seconds" })
        assert.strictEqual(JSON.parse(changed).ExternalIPAddress, otherAddress)

        yield* program.write("go on\n")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 0)
        const methods = (yield* capture.packets)
          .filter((one) => one.protocol === "tcp")
          .flatMap(
            (one) => /^(SUBSCRIBE|NOTIFY|UNSUBSCRIBE) /.exec(text.decode(one.payload.subarray(0, 16)))?.[1] ?? []
          )
        assert.deepStrictEqual([methods[0], methods[1], methods.at(-1)], ["SUBSCRIBE", "NOTIFY", "UNSUBSCRIBE"])
        assert.isAtLeast(methods.filter((method) => method === "NOTIFY").length, 2)
      }),
    60_000
  )
})
