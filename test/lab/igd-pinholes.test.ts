/**
 * Pinholes in the IPv6 firewall of a real router: what crosses it before, while and after.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import { labSuite } from "./LabSuite.ts"
import { knockIpv6 } from "./strategy-lab.ts"

const agent = fileURLToPath(new URL("./igd-agent.ts", import.meta.url))

/** The same description as over IPv4; an address is asked for pinholes to itself only. */
const location6 = (lab: Lab.LabService) =>
  Effect.map(lab.location, (location) => location.replace(lab.addresses.gateway, `[${Lab.ipv6Addresses.gateway}]`))

const spawn = (lab: Lab.LabService, location: string, protocol: "tcp" | "udp") =>
  lab.spawn("lan", process.execPath, [agent, "pinhole", location, Lab.ipv6Addresses.lan, "12000", protocol])

const withIpv6 = Lab.make({ ipv6: true, daemon: { natpmp: false } })

labSuite("the IPv6 firewall of a real router", () => {
  it.live.each(["tcp", "udp"] as const)(
    "lets packets of a %s pinhole in while there is one, to that port alone",
    (protocol) =>
      Effect.gen(function* () {
        const lab = yield* withIpv6
        const probe = (port: number) => knockIpv6(lab, protocol, port)
        const echo = protocol === "tcp" ? lab.tcpEcho : lab.udpEcho
        yield* echo("lan", 12000)
        yield* echo("lan", 12001)
        yield* lab.tcpEcho("wan", 13000)
        assert.strictEqual(yield* lab.tcpProbe("lan", Lab.ipv6Addresses.wan, 13000), "reachable")
        assert.strictEqual(yield* probe(12000), "silent")

        const program = yield* spawn(lab, yield* location6(lab), protocol)
        const opened = JSON.parse(yield* program.awaitLine("{"))
        assert.deepStrictEqual(opened.status, { isEnabled: true, isInboundPinholeAllowed: true })
        assert.strictEqual(opened.again, opened.id)
        assert.strictEqual(yield* probe(12000), "reachable")
        assert.strictEqual(yield* probe(12001), "silent")

        yield* program.write("go on\n")
        const known = JSON.parse(yield* program.awaitLine("{", { occurrence: 2 }))
        assert.strictEqual(known.updated, "nothing")
        // The daemon's rules count nothing on some systems: then it knows of no packet that could show that it works.
        assert.deepStrictEqual(known.isWorking, known.packets === 0 ? { fault: 709 } : true)

        yield* program.write("go on\n")
        const deleted = JSON.parse(yield* program.awaitLine("{", { occurrence: 3 }))
        assert.strictEqual(deleted.deleted, "nothing")
        // The document has 704 for an id that there is none of; this daemon says "Invalid Args".
        assert.include([402, 704], deleted.deletedAgain.fault)
        assert.include([402, 704], deleted.updatedAfter.fault)
        assert.strictEqual((yield* program.awaitExit()).exitCode, 0)
        assert.strictEqual(yield* probe(12000), "silent")
      }),
    60_000
  )

  it.live(
    "opens nothing for a host that does not ask from its own address",
    () =>
      Effect.gen(function* () {
        const lab = yield* withIpv6
        const program = yield* spawn(lab, yield* lab.location, "tcp")
        assert.deepStrictEqual(JSON.parse(yield* program.awaitLine("{")), { fault: 606 })
      }),
    60_000
  )
})
