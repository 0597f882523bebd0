/**
 * What becomes of a mapping on a real router when the network of its host changes.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Lab from "./Lab.ts"
import { bin, daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const newAddress = "192.168.77.9"

/** As a network does it that gives out its addresses anew: the old one goes with its route, then another one comes. */
const readdress = Effect.fnUntraced(function* (lab: Lab.LabService) {
  yield* lab.exec("lan", "ip", ["addr", "del", `${lab.addresses.lan}/24`, "dev", "eth0"])
  yield* Effect.sleep("2 seconds")
  yield* lab.exec("lan", "ip", ["addr", "add", `${newAddress}/24`, "dev", "eth0"])
  yield* lab.exec("lan", "ip", ["route", "replace", "default", "via", lab.addresses.gateway])
})

for (const strategy of ["pcp", "natpmp", "upnp", "auto"] as const) {
  labSuite(`a host that gets another address (--strategy ${strategy})`, () => {
    it.live(
      "is reached from the world again within 20 seconds, where the mapping then says",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy] })
          yield* lab.tcpEcho("lan", 12000)
          const words = ["map", "12000:12001", "--json", "--lease", "2h", "--strategy", strategy]
          const program = yield* lab.spawn("lan", process.execPath, [bin, ...words])
          yield* program.awaitLine(/"event":"mapped"/, { timeout: "15 seconds" })
          assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "reachable")

          yield* readdress(lab)
          const line = yield* program.awaitLine(`"internal":"${newAddress}`, { timeout: "20 seconds" })
          const { event, external } = JSON.parse(line)
          assert.strictEqual(event, "changed")
          // Some routers keep the old port for the old address until that lease ends.
          const [address = "", port] = external.split(":")
          assert.strictEqual(address, lab.addresses.external)
          assert.strictEqual(yield* lab.tcpProbe("wan", address, Number(port)), "reachable")

          yield* program.signal("SIGTERM")
          assert.strictEqual((yield* program.awaitExit()).exitCode, 130)
          assert.isFalse((yield* lab.mappings).some((one) => one.internalAddress === newAddress))
        }),
      90_000
    )
  })
}
