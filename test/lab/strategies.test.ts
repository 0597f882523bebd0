/**
 * What every strategy does alike on a lan host, behind the real router; what only one of them does stands in the suite
 * of its protocol.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Lab from "./Lab.ts"
import { daemons } from "./LabProgram.ts"
import type * as LabProcess from "./LabProcess.ts"
import { labSuite } from "./LabSuite.ts"
import { echo, ended, knock, knockIpv6, onRouter, programOf, type Strategy, upnpc } from "./strategy-lab.ts"

interface Router {
  readonly title: string
  readonly strategy: Strategy
  readonly daemon: Lab.DaemonOptions
}

const routers: ReadonlyArray<Router> = [
  { title: "NAT-PMP on a real router", strategy: "natpmp", daemon: daemons.natpmp },
  { title: "PCP on a real router", strategy: "pcp", daemon: daemons.pcp },
  {
    title: "UPnP on a real router, IGD version 1",
    strategy: "upnp",
    daemon: { ...daemons.upnp, forceIgdDescV1: true }
  },
  { title: "UPnP on a real router, IGD version 2", strategy: "upnp", daemon: daemons.upnp }
]

const natpmpcAgrees = Effect.fnUntraced(function* (lab: Lab.LabService) {
  const told = yield* lab.exec("lan", "natpmpc", ["-g", lab.addresses.gateway])
  assert.include(told, "Public IP address : 11.22.33.1")
})

const upnpcAgrees = Effect.fnUntraced(function* (lab: Lab.LabService, protocol: "tcp" | "udp") {
  const entry = `${protocol.toUpperCase()} +12001->192\\.168\\.77\\.2:12000 +'an echo of ours'`
  assert.match(yield* upnpc(lab, "-l"), new RegExp(entry))
})

/** Another client of the same daemon is told the same. */
const anotherAgrees = { natpmp: natpmpcAgrees, pcp: natpmpcAgrees, upnp: upnpcAgrees }

interface Ending {
  readonly when: string
  readonly command: "close" | "fail" | "interrupt"
  readonly bringAbout: (program: LabProcess.LabProcess) => Effect.Effect<unknown, unknown>
  readonly exitCode: number
}

const endings: ReadonlyArray<Ending> = [
  {
    when: "the program fails",
    command: "fail",
    bringAbout: (program) => program.write("go on\n"),
    exitCode: 1
  },
  {
    when: "the program gets SIGINT",
    command: "close",
    bringAbout: (program) => program.signal("SIGINT"),
    exitCode: 130
  },
  {
    when: "the program gets SIGTERM",
    command: "close",
    bringAbout: (program) => program.signal("SIGTERM"),
    exitCode: 130
  },
  {
    when: "the fiber is interrupted",
    command: "interrupt",
    bringAbout: (program) => Effect.andThen(program.write("go on\n"), program.awaitLine('{"interrupted":true}')),
    exitCode: 0
  }
]

/** A busy machine takes its time for that many requests. */
const burstTimeout = { natpmp: "80 seconds", pcp: "45 seconds", upnp: "50 seconds" } as const

/** What a probe tells of the gateway; a device that speaks UPnP has a name of its own, which its system chooses. */
const probed = {
  natpmp: { name: "192.168.77.1", address: "192.168.77.1", method: "natpmp", externalAddress: "11.22.33.1" },
  pcp: { name: "192.168.77.1", address: "192.168.77.1", method: "pcp" },
  upnp: { address: "192.168.77.1", method: "upnp" }
}

for (const { daemon, strategy, title } of routers) {
  const { ask, holding, mapped, spawn } = programOf(strategy)
  const makeLab = Lab.make({ daemon })

  labSuite(title, () => {
    it.live.each(["tcp", "udp"] as const)(
      "opens a %s port to the world while it is mapped, and neither before nor after; another client agrees",
      (protocol) =>
        Effect.gen(function* () {
          const lab = yield* makeLab
          const probe = knock(lab, protocol, lab.addresses.external, 12001)
          yield* echo(lab, protocol)
          assert.strictEqual(yield* probe, "refused")

          const words = [protocol, "12000", "12001", "--description", "an echo of ours"]
          const { printed, program } = yield* mapped(lab, ...words)
          assert.deepStrictEqual(printed, {
            text: `11.22.33.1:12001/${protocol}`,
            internal: "192.168.77.2:12000",
            gateway: "192.168.77.1",
            lifetime: 7200,
            method: strategy,
            fields: ["", 12001, protocol.toUpperCase(), 12000, "192.168.77.2", true, "an echo of ours", 7200]
          })
          assert.deepStrictEqual(yield* lab.mappings, [onRouter(protocol)])
          assert.strictEqual(yield* probe, "reachable")
          yield* anotherAgrees[strategy](lab, protocol)

          yield* ended(lab, program)
          assert.strictEqual(yield* probe, "refused")
        }),
      60_000
    )

    it.live.each(endings)(
      "leaves nothing when $when",
      ({ bringAbout, command, exitCode }) =>
        Effect.gen(function* () {
          const lab = yield* makeLab
          const { program } = yield* holding(lab, command, "udp", "12000", "12001")
          assert.deepStrictEqual(yield* lab.mappings, [onRouter("udp")])
          yield* bringAbout(program)
          assert.strictEqual((yield* program.awaitExit()).exitCode, exitCode)
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      60_000
    )

    it.live(
      "leaves nothing when requests are interrupted on their way",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab
          const program = yield* spawn(lab, "burst", "tcp", "12000", "12001")
          yield* program.awaitLine("done", { timeout: burstTimeout[strategy] })
          yield* program.awaitExit()
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      90_000
    )

    it.live(
      "tells the external address and the gateway, and changes nothing by asking",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab
          assert.deepInclude(yield* ask(lab, "probe"), probed[strategy])
          assert.strictEqual(yield* ask(lab, "external"), "11.22.33.1")
          assert.deepStrictEqual(yield* ask(lab, "gateways"), [["192.168.77.1", "192.168.77.2", strategy]])
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      60_000
    )

    it.live(
      "renews a mapping that a restarted router has lost",
      () =>
        Effect.gen(function* () {
          // A lease this short is granted over PCP only where the daemon is told so.
          const lab = yield* Lab.make({ daemon: { ...daemon, minLifetime: 2 } })
          const { program } = yield* mapped(lab, "tcp", "12000", "12001", "--lease", "6")
          yield* lab.restartDaemon()
          assert.deepStrictEqual(yield* lab.mappings, [])
          yield* Effect.sleep("4 seconds")
          assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
          yield* ended(lab, program)
        }),
      60_000
    )
  })
}

for (const [name, strategy] of [
  ["PCP", "pcp"],
  ["UPnP", "upnp"]
] as const) {
  labSuite(`the IPv6 firewall of a real router, over ${name}`, () => {
    it.live.each(["tcp", "udp"] as const)(
      "lets packets to a %s port in while it is mapped for IPv6, and neither before nor after",
      (protocol) =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ ipv6: true, daemon: daemons[strategy] })
          const probe = knockIpv6(lab, protocol, 12000)
          yield* echo(lab, protocol)
          assert.strictEqual(yield* probe, "silent")

          const words = [protocol, "12000", "12000", "--lease", "600", "--family", "ipv6"]
          const { printed, program } = yield* programOf(strategy).mapped(lab, ...words)
          const { gateway, method, text } = printed
          assert.deepStrictEqual(
            { gateway, method, text },
            {
              gateway: Lab.ipv6Addresses.gateway,
              method: strategy,
              text: `[${Lab.ipv6Addresses.lan}]:12000/${protocol}`
            }
          )
          assert.strictEqual(yield* probe, "reachable")

          yield* ended(lab, program)
          assert.strictEqual(yield* probe, "silent")
          assert.notInclude(yield* lab.ruleset, "12000")
        }),
      60_000
    )
  })
}

for (const [name, strategy] of [
  ["NAT-PMP", "natpmp"],
  ["PCP", "pcp"]
] as const) {
  labSuite(`${name} on a router without it`, () => {
    it.live(
      "knows at once that a router does not speak it, and says so in one line",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: false })
          const { ask, run } = programOf(strategy)
          const result = yield* run(lab, "close", "tcp", "12000", "12001")
          assert.strictEqual(result.exitCode, 1)
          assert.include(`${result.stdout}${result.stderr}`, "192.168.77.1 refuses UDP port 5351")
          assert.deepStrictEqual(yield* ask(lab, "gateways"), [])
        }),
      60_000
    )
  })
}
