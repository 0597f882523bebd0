/**
 * What only the PCP strategy does on a lan host, behind the real router; the rest stands in `strategies.test.ts`.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Lab from "./Lab.ts"
import type * as LabCapture from "./LabCapture.ts"
import { daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"
import { avoidsPort12001, ended, knockIpv6, onRouter, programOf } from "./strategy-lab.ts"

const { ask, mapped } = programOf("pcp")

const withPcp = Lab.make({ daemon: daemons.pcp })

const withIpv6 = Lab.make({ ipv6: true, daemon: daemons.pcp })

/** As hosts have it that learn their routes from the router: the address that it announces itself from. */
const routeByLinkLocal = Effect.fnUntraced(function* (lab: Lab.LabService) {
  const shown = yield* lab.exec("router", "ip", ["-6", "-o", "addr", "show", "scope", "link", "dev", "lan0"])
  const [, linkLocal = "none"] = /inet6 (fe80::[0-9a-f:]+)/.exec(shown) ?? []
  yield* lab.exec("lan", "ip", ["-6", "route", "replace", "default", "via", linkLocal, "dev", "eth0"])
  return linkLocal
})

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
  it.live(
    "takes one exchange to map and one to delete, both with the mapping's nonce",
    () =>
      Effect.gen(function* () {
        const lab = yield* withPcp
        const capture = yield* lab.capture("lan", "udp")
        const { program } = yield* mapped(lab, "tcp", "12000", "12001", "--lease", "600")
        yield* ended(lab, program)
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
        const lab = yield* Lab.make({ daemon: { ...daemons.pcp, minLifetime: 2 } })
        const capture = yield* lab.capture("lan", "udp port 5351")
        yield* lab.tcpEcho("lan", 12000)
        const { printed, program } = yield* mapped(lab, "tcp", "12000", "12001", "--lease", "6")
        assert.strictEqual(printed.lifetime, 6)
        yield* Effect.sleep("10 seconds")
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "reachable")
        yield* ended(lab, program)
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

  it.live(
    "opens a pinhole through a gateway that the routing table names by its link-local address",
    () =>
      Effect.gen(function* () {
        const lab = yield* withIpv6
        const linkLocal = yield* routeByLinkLocal(lab)
        yield* lab.tcpEcho("lan", 12000)
        const { printed, program } = yield* mapped(lab, "tcp", "12000", "12000", "--lease", "600", "--family", "ipv6")
        assert.deepInclude(printed, {
          text: `[${Lab.ipv6Addresses.lan}]:12000/tcp`,
          gateway: linkLocal,
          method: "pcp"
        })
        assert.strictEqual(yield* lab.tcpProbe("wan", Lab.ipv6Addresses.lan, 12000), "reachable")
        yield* ended(lab, program)
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
        yield* avoidsPort12001(lab, "pcp")
      }),
    60_000
  )

  it.live(
    "does not delete what another program has mapped with a nonce of its own",
    () =>
      Effect.gen(function* () {
        const lab = yield* withPcp
        const first = yield* mapped(lab, "tcp", "12000", "12001")
        // This daemon lets anybody of the host take a mapping over, against RFC 6887 §11.3.
        const second = yield* mapped(lab, "tcp", "12000", "12001")
        yield* ended(lab, first.program, [onRouter("tcp")])
        yield* ended(lab, second.program)
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
        const { program } = yield* mapped(lab, "tcp", "12000", "12000", "--family", "ipv6")
        yield* Effect.sleep("5 seconds")
        const capture = yield* lab.capture("lan", "udp dst port 5351")
        yield* lab.restartDaemon()
        const probe = knockIpv6(lab, "tcp", 12000)
        yield* Effect.sleep("12 seconds")
        // Half of the lease is an hour: it is the restart that has it asked for again.
        assert.match(yield* capture.text, /IP6 [^]*\.5351: [^]*UDP, length 60/)
        assert.strictEqual(yield* probe, "reachable")
        yield* ended(lab, program)
        assert.strictEqual(yield* probe, "silent")
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
        const { program } = yield* mapped(lab, "tcp", "12000", "12001")
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        const [first, second, ...others] = yield* capture.packets
        assert.isAtLeast((second?.time ?? NaN) - (first?.time ?? NaN), 2690)
        assert.deepStrictEqual(others, [])
        yield* ended(lab, program)
      }),
    60_000
  )

  it.live(
    "tells the external address and the gateways, and changes nothing by asking",
    () =>
      Effect.gen(function* () {
        const lab = yield* withIpv6
        assert.deepInclude(yield* ask(lab, "probe"), { name: "192.168.77.1", method: "pcp" })
        assert.strictEqual(yield* ask(lab, "external"), "11.22.33.1")
        assert.sameDeepMembers([yield* ask(lab, "gateways")].flat(), [
          ["192.168.77.1", "192.168.77.2", "pcp"],
          [Lab.ipv6Addresses.gateway, Lab.ipv6Addresses.lan, "pcp"]
        ])
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )
})
