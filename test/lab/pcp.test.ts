/**
 * The PCP strategy on a lan host, behind the real router.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import type * as LabCapture from "./LabCapture.ts"
import { labSuite } from "./LabSuite.ts"

const agent = fileURLToPath(new URL("./pcp-agent.ts", import.meta.url))

const spawn = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  lab.spawn("lan", process.execPath, [agent, ...words])

const ask = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  Effect.map(lab.exec("lan", process.execPath, [agent, ...words]), (text): unknown => JSON.parse(text))

const withPcp = Lab.make({ daemon: { upnp: false, natpmp: true } })

const withIpv6 = Lab.make({ ipv6: true, daemon: { upnp: false, natpmp: true } })

/** As hosts have it that learn their routes from the router: the address that it announces itself from. */
const routeByLinkLocal = Effect.fnUntraced(function* (lab: Lab.LabService) {
  const shown = yield* lab.exec("router", "ip", ["-6", "-o", "addr", "show", "scope", "link", "dev", "lan0"])
  const [, linkLocal = "none"] = /inet6 (fe80::[0-9a-f:]+)/.exec(shown) ?? []
  yield* lab.exec("lan", "ip", ["-6", "route", "replace", "default", "via", linkLocal, "dev", "eth0"])
  return linkLocal
})

const onRouter = (protocol: "tcp" | "udp", externalPort = 12001): Lab.Mapping => ({
  protocol,
  externalPort,
  internalAddress: "192.168.77.2",
  internalPort: 12000
})

/** Node and its modules may take their time on a busy machine. */
const patience = { timeout: "15 seconds" } as const

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

/** What a lan host has asked in PCP: opcode, lifetime, ports, and the nonce. */
const asked = (packets: ReadonlyArray<LabCapture.Packet>) =>
  packets
    .filter((one) => one.destinationPort === 5351)
    .map(({ payload }) => {
      const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
      return {
        version: view.getUint8(0),
        opcode: view.getUint8(1),
        lifetime: view.getUint32(4),
        nonce: hex(payload.subarray(24, 36)),
        ports: [view.getUint16(40), view.getUint16(42)]
      }
    })

labSuite("PCP on a real router", () => {
  it.live.each(["tcp", "udp"] as const)(
    "opens a %s port to the world while it is mapped, and neither before nor after; natpmpc agrees",
    (protocol) =>
      Effect.gen(function* () {
        const lab = yield* withPcp
        const probe = (protocol === "tcp" ? lab.tcpProbe : lab.udpProbe)("wan", lab.addresses.external, 12001)
        yield* (protocol === "tcp" ? lab.tcpEcho : lab.udpEcho)("lan", 12000)
        assert.strictEqual(yield* probe, "refused")

        const program = yield* spawn(lab, "close", protocol, "12000", "12001")
        assert.deepStrictEqual(JSON.parse(yield* program.awaitLine("{", patience)), {
          text: `11.22.33.1:12001/${protocol}`,
          internal: "192.168.77.2:12000",
          gateway: "192.168.77.1",
          lifetime: 7200,
          method: "pcp"
        })
        assert.deepStrictEqual(yield* lab.mappings, [onRouter(protocol)])
        assert.strictEqual(yield* probe, "reachable")
        const natpmpc = yield* lab.exec("lan", "natpmpc", ["-g", lab.addresses.gateway])
        assert.include(natpmpc, "Public IP address : 11.22.33.1")

        yield* program.write("go on\n")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 0)
        assert.deepStrictEqual(yield* lab.mappings, [])
        assert.strictEqual(yield* probe, "refused")
      }),
    60_000
  )

  it.live(
    "takes one exchange to map and one to delete, both with the mapping's nonce",
    () =>
      Effect.gen(function* () {
        const lab = yield* withPcp
        const capture = yield* lab.capture("lan", "udp")
        const program = yield* spawn(lab, "close", "tcp", "12000", "12001", "600")
        yield* program.awaitLine("{", patience)
        yield* program.write("go on\n")
        yield* program.awaitExit()
        const packets = yield* capture.packets
        const [map, deletion, ...others] = asked(packets)
        assert.deepStrictEqual(others, [])
        assert.deepInclude(map, { version: 2, opcode: 1, lifetime: 600, ports: [12000, 12001] })
        assert.deepInclude(deletion, { version: 2, opcode: 1, lifetime: 0, ports: [12000, 0] })
        assert.strictEqual(deletion?.nonce, map?.nonce)
        assert.notStrictEqual(map?.nonce, "0".repeat(24))
        assert.isTrue(packets.every((one) => one.sourcePort === 5351 || one.destinationPort === 5351))
        assert.lengthOf(packets, 4)
      }),
    60_000
  )

  it.live(
    "is renewed with its nonce, then released with it, and gone",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: false, natpmp: true, minLifetime: 2 } })
        const capture = yield* lab.capture("lan", "udp port 5351")
        yield* lab.tcpEcho("lan", 12000)
        const program = yield* spawn(lab, "close", "tcp", "12000", "12001", "6")
        const { lifetime } = JSON.parse(yield* program.awaitLine("{", patience))
        assert.strictEqual(lifetime, 6)
        yield* Effect.sleep("10 seconds")
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "reachable")
        yield* program.write("go on\n")
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [])
        const requests = asked(yield* capture.packets)
        assert.isAtLeast(requests.length, 4)
        assert.strictEqual(new Set(requests.map(({ nonce }) => nonce)).size, 1)
        assert.deepStrictEqual(
          requests.map(({ lifetime: seconds }) => seconds),
          [...requests.slice(1).map(() => 6), 0]
        )
      }),
    60_000
  )

  it.live.each(["fail", "SIGINT", "SIGTERM", "interrupt"] as const)(
    "leaves nothing when the program ends by %s",
    (how) =>
      Effect.gen(function* () {
        const lab = yield* withPcp
        const program = yield* spawn(lab, how.startsWith("SIG") ? "close" : how, "udp", "12000", "12001")
        yield* program.awaitLine("{", patience)
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("udp")])
        yield* how === "SIGINT" || how === "SIGTERM" ? program.signal(how) : program.write("go on\n")
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "leaves nothing when requests are interrupted on their way",
    () =>
      Effect.gen(function* () {
        const lab = yield* withPcp
        const program = yield* spawn(lab, "burst", "tcp", "12000", "12001")
        yield* program.awaitLine("done", { timeout: "45 seconds" })
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    90_000
  )

  it.live.each(["tcp", "udp"] as const)(
    "opens a %s pinhole through the IPv6 firewall while it is mapped, and neither before nor after",
    (protocol) =>
      Effect.gen(function* () {
        const lab = yield* withIpv6
        const knock = (protocol === "tcp" ? lab.tcpProbe : lab.udpProbe)("wan", Lab.ipv6Addresses.lan, 12000, {
          timeout: "700 millis"
        })
        yield* (protocol === "tcp" ? lab.tcpEcho : lab.udpEcho)("lan", 12000)
        assert.strictEqual(yield* knock, "silent")
        const program = yield* spawn(lab, "close", protocol, "12000", "12000", "600", "ipv6")
        assert.deepInclude(JSON.parse(yield* program.awaitLine("{", patience)), {
          text: `[${Lab.ipv6Addresses.lan}]:12000/${protocol}`,
          gateway: Lab.ipv6Addresses.gateway,
          method: "pcp"
        })
        assert.strictEqual(yield* knock, "reachable")
        yield* program.write("go on\n")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 0)
        assert.strictEqual(yield* knock, "silent")
        assert.notInclude(yield* lab.ruleset, "12000")
      }),
    60_000
  )

  it.live(
    "opens a pinhole through a gateway that the routing table names by its link-local address",
    () =>
      Effect.gen(function* () {
        const lab = yield* withIpv6
        const linkLocal = yield* routeByLinkLocal(lab)
        yield* lab.tcpEcho("lan", 12000)
        const program = yield* spawn(lab, "close", "tcp", "12000", "12000", "600", "ipv6")
        assert.deepInclude(JSON.parse(yield* program.awaitLine("{", patience)), {
          text: `[${Lab.ipv6Addresses.lan}]:12000/tcp`,
          gateway: linkLocal,
          method: "pcp"
        })
        assert.strictEqual(yield* lab.tcpProbe("wan", Lab.ipv6Addresses.lan, 12000), "reachable")
        yield* program.write("go on\n")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 0)
        assert.notInclude(yield* lab.ruleset, "12000")
      }),
    60_000
  )

  it.live(
    "gives up a port that it cannot have when no other will do",
    () =>
      Effect.gen(function* () {
        const lab = yield* withPcp
        yield* lab.exec("lan", "natpmpc", ["-g", lab.addresses.gateway, "-a", "12001", "13000", "tcp", "600"])
        const theirs = yield* lab.mappings
        const strict = yield* lab.run("lan", process.execPath, [
          agent,
          "close",
          "tcp",
          "12000",
          "12001",
          "600",
          "ipv4",
          "strict"
        ])
        assert.strictEqual(strict.exitCode, 1)
        assert.include(`${strict.stdout}${strict.stderr}`, "external port 12001 is taken")
        assert.deepStrictEqual(yield* lab.mappings, theirs)

        const program = yield* spawn(lab, "close", "tcp", "12000", "12001")
        const { text } = JSON.parse(yield* program.awaitLine("{", patience))
        const mapping = (yield* lab.mappings).find(({ internalPort }) => internalPort === 12000)
        assert.strictEqual(text, `11.22.33.1:${mapping?.externalPort}/tcp`)
        assert.notStrictEqual(mapping?.externalPort, 12001)
        yield* program.write("go on\n")
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, theirs)
      }),
    60_000
  )

  it.live(
    "does not delete what another program has mapped with a nonce of its own",
    () =>
      Effect.gen(function* () {
        const lab = yield* withPcp
        const first = yield* spawn(lab, "close", "tcp", "12000", "12001")
        yield* first.awaitLine("{", patience)
        // This daemon lets anybody of the host take a mapping over, against RFC 6887 §11.3.
        const second = yield* spawn(lab, "close", "tcp", "12000", "12001")
        yield* second.awaitLine("{", patience)
        yield* first.write("go on\n")
        assert.strictEqual((yield* first.awaitExit()).exitCode, 0)
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        yield* second.write("go on\n")
        yield* second.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "opens a pinhole again within seconds that a restarted router has lost",
    () =>
      Effect.gen(function* () {
        const lab = yield* withIpv6
        yield* routeByLinkLocal(lab)
        yield* lab.tcpEcho("lan", 12000)
        const program = yield* spawn(lab, "close", "tcp", "12000", "12000", "7200", "ipv6")
        yield* program.awaitLine("{", patience)
        yield* Effect.sleep("5 seconds")
        const capture = yield* lab.capture("lan", "udp dst port 5351")
        yield* lab.restartDaemon()
        const knock = lab.tcpProbe("wan", Lab.ipv6Addresses.lan, 12000, { timeout: "700 millis" })
        yield* Effect.sleep("12 seconds")
        // Half of the lease is an hour: it is the restart that has it asked for again.
        assert.match(yield* capture.text, /IP6 [^]*\.5351: [^]*UDP, length 60/)
        assert.strictEqual(yield* knock, "reachable")
        yield* program.write("go on\n")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 0)
        assert.strictEqual(yield* knock, "silent")
      }),
    60_000
  )

  it.live(
    "asks again after 3 seconds where its first request is lost",
    () =>
      Effect.gen(function* () {
        const lab = yield* withPcp
        const capture = yield* lab.capture("lan", "udp dst port 5351")
        yield* lab.loseFirst(5351)
        const program = yield* spawn(lab, "close", "tcp", "12000", "12001")
        yield* program.awaitLine("{", patience)
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        const [first, second, ...others] = yield* capture.packets
        assert.isAtLeast((second?.time ?? NaN) - (first?.time ?? NaN), 2690)
        assert.deepStrictEqual(others, [])
        yield* program.write("go on\n")
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "tells the external address and the gateways, and changes nothing by asking",
    () =>
      Effect.gen(function* () {
        const lab = yield* withIpv6
        assert.strictEqual(yield* ask(lab, "probe"), "192.168.77.1 pcp")
        assert.strictEqual(yield* ask(lab, "external"), "11.22.33.1")
        assert.sameDeepMembers([yield* ask(lab, "gateways")].flat(), [
          ["192.168.77.1", "192.168.77.2", "pcp"],
          [Lab.ipv6Addresses.gateway, Lab.ipv6Addresses.lan, "pcp"]
        ])
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "knows at once that a router does not speak it, and says so in one line",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const result = yield* lab.run("lan", process.execPath, [agent, "close", "tcp", "12000", "12001"])
        assert.strictEqual(result.exitCode, 1)
        assert.include(`${result.stdout}${result.stderr}`, "192.168.77.1 refuses UDP port 5351")
        assert.deepStrictEqual(yield* ask(lab, "gateways"), [])
      }),
    60_000
  )
})
