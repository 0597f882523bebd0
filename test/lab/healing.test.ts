/**
 * What becomes of a mapping on a real router when that restarts, gets another external address, or when the network of
 * the mapping's host changes: nobody helps, and packets from the world arrive again.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
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

const mapped = Effect.fnUntraced(function* (lab: Lab.LabService, strategy: string) {
  yield* lab.tcpEcho("lan", 12000)
  const words = ["map", "12000:12001", "--json", "--lease", "2h", "--strategy", strategy]
  const program = yield* lab.spawn("lan", process.execPath, [bin, ...words])
  yield* program.awaitLine(/"event":"mapped"/, { timeout: "15 seconds" })
  assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "reachable")
  return program
})

/** Only where it speaks UPnP as well the daemon looks after its address, and says so over NAT-PMP and PCP. */
const announcing = { pcp: {}, natpmp: {}, auto: {}, upnp: daemons.upnp }

/** Seconds between two of the daemon's announcements over UPnP, which the library may have to wait for. */
const notifyInterval = 8

const ended = Effect.fnUntraced(function* (lab: Lab.LabService, program: Effect.Success<ReturnType<typeof mapped>>) {
  yield* program.signal("SIGTERM")
  assert.strictEqual((yield* program.awaitExit("15 seconds")).exitCode, 130)
  assert.deepStrictEqual(yield* lab.mappings, [])
})

const isBack = (lab: Lab.LabService) =>
  Effect.repeat(lab.tcpProbe("wan", lab.addresses.external, 12001, { timeout: "700 millis" }), {
    until: (outcome) => outcome === "reachable",
    schedule: Schedule.spaced("250 millis")
  })

for (const strategy of ["pcp", "natpmp", "auto"] as const) {
  labSuite(`a young router that restarts at once (--strategy ${strategy})`, () => {
    it.live(
      "forwards again after 10 seconds at most",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: { ...announcing[strategy], notifyInterval } })
          const program = yield* mapped(lab, strategy)
          yield* lab.restartDaemon()
          yield* Effect.timeout(isBack(lab), "10 seconds")
          yield* ended(lab, program)
        }),
      60_000
    )
  })
}

for (const strategy of ["pcp", "natpmp", "upnp", "auto"] as const) {
  const limit = strategy === "upnp" ? notifyInterval + 5 : 10

  labSuite(`a router that changes (--strategy ${strategy})`, () => {
    it.live(
      `that starts with an empty table forwards again after ${limit} seconds at most`,
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: { ...announcing[strategy], notifyInterval } })
          const program = yield* mapped(lab, strategy)
          yield* Effect.sleep("8 seconds")
          yield* lab.restartDaemon()
          yield* Effect.timeout(isBack(lab), { seconds: limit })
          yield* ended(lab, program)
        }),
      90_000
    )

    it.live(
      `that has another external address is told of after ${limit} seconds at most`,
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: { ...announcing[strategy], notifyInterval, externalAddress: false } })
          const program = yield* mapped(lab, strategy)
          yield* Effect.sleep("5 seconds")
          // With another mask the new address does not go with the old one.
          yield* lab.exec("router", "ip", ["addr", "add", "11.22.33.9/32", "dev", "wan0"])
          yield* Effect.sleep("1 second")
          yield* lab.exec("router", "ip", ["addr", "del", `${lab.addresses.external}/24`, "dev", "wan0"])
          yield* lab.exec("router", "ip", ["route", "add", "11.22.33.0/24", "dev", "wan0"])
          const line = yield* program.awaitLine('"external":"11.22.33.9:', { timeout: { seconds: limit } })
          const { event, external } = JSON.parse(line)
          assert.strictEqual(event, "changed")
          const port = Number(external.split(":")[1])
          assert.strictEqual(yield* lab.tcpProbe("wan", "11.22.33.9", port), "reachable")
          yield* ended(lab, program)
        }),
      90_000
    )
  })
}

for (const strategy of ["pcp", "natpmp", "upnp", "auto"] as const) {
  labSuite(`a host that gets another address (--strategy ${strategy})`, () => {
    it.live(
      "is reached from the world again within 20 seconds, where the mapping then says",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy] })
          const program = yield* mapped(lab, strategy)
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
