/**
 * A router behind another NAT: a real daemon refuses to map there, and a router that maps all the same is used.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import { bin, daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const simulatedRouter = fileURLToPath(new URL("./simulated-router-server.ts", import.meta.url))

/** Node and its modules may take their time on a busy machine. */
const patience = { timeout: "15 seconds" } as const

const methods = { upnp: "upnp", natpmp: "natpmp", pcp: "pcp", auto: "pcp" } as const

const outerRules = `
table inet lab {
  chain upnp_forward {
  }
  chain upnp_prerouting {
  }
  chain upnp_postrouting {
  }
  chain prerouting {
    type nat hook prerouting priority -100
    policy accept
    jump upnp_prerouting
  }
  chain postrouting {
    type nat hook postrouting priority 100
    policy accept
    oifname "world0" masquerade
  }
}
`

/** Makes the wan host a router of its own, with a public address and a daemon that serves the inner one. */
const startOuter = Effect.fnUntraced(function* (lab: Lab.LabService) {
  const { external, wan } = lab.addresses
  const commands = [
    "ip link add world0 type veth peer name world1",
    "ip addr add 11.22.33.1/24 dev world0",
    "ip link set world0 up",
    "ip link set world1 up",
    "echo 1 > /proc/sys/net/ipv4/ip_forward"
  ]
  yield* lab.exec("wan", "sh", ["-c", commands.join(" && ")])
  yield* lab.exec("router", "ip", ["route", "add", "default", "via", wan])
  yield* lab.exec("wan", "nft", ["-f", "-"], { stdin: outerRules })
  const config = `
ext_ifname=world0
listening_ip=eth0
enable_upnp=no
enable_natpmp=yes
ipv6_disable=yes
upnp_table_name=lab
upnp_nat_table_name=lab
upnp_forward_chain=upnp_forward
upnp_nat_chain=upnp_prerouting
upnp_nat_postrouting_chain=upnp_postrouting
allow 0-65535 ${external}/32 0-65535
`
  const file = `${lab.directory}/outer.conf`
  yield* lab.exec("wan", "tee", [file], { stdin: config })
  const daemon = yield* lab.spawn("wan", "miniupnpd", ["-d", "-f", file, "-P", `${lab.directory}/outer.pid`], {
    killSignal: "SIGKILL"
  })
  yield* daemon.awaitLine("Listening for NAT-PMP", { from: "stderr", ...patience })
})

for (const strategy of ["upnp", "natpmp", "pcp", "auto"] as const) {
  labSuite(`behind two routers (--strategy ${strategy})`, () => {
    it.live(
      "the inner daemon refuses, and the failure names double NAT and what could be done",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({
            wanPrefix: "10.20.30",
            daemon: { ...daemons[strategy], externalAddress: false }
          })
          yield* startOuter(lab)
          const { exitCode, stderr, stdout } = yield* lab.run(
            "lan",
            process.execPath,
            [bin, "map", "9000:9001", "--json", "--strategy", strategy],
            { timeout: "30 seconds" }
          )
          assert.strictEqual(exitCode, 1)
          assert.match(stderr, /^effect-nat: .*double NAT.*outer router.*bridge mode.*\n$/)
          const event = JSON.parse(stdout)
          // The daemon keeps its private address to itself.
          assert.deepInclude(event, { event: "failed", error: "NoExternalAddress", doubleNat: null })
          assert.match(event.message, /double NAT/)
          assert.deepStrictEqual(yield* lab.mappings, [])
          // The outer router maps for the inner one.
          const outer = ["-g", lab.addresses.wan, "-a", "9001", "9001", "tcp", "3600"]
          assert.include(yield* lab.exec("router", "natpmpc", outer), "Mapped public port 9001")
        }),
      60_000
    )

    it.live.each([
      ["10.20.30", "another router", "double NAT"],
      ["100.64.5", "ask the provider", "carrier-grade NAT"]
    ] as const)(
      "a mapping that the inner router %s.1 grants all the same is given, and flagged",
      ([wanPrefix, what, name]) =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ wanPrefix, daemon: false })
          const { external, gateway } = lab.addresses
          const router = yield* lab.spawn("router", process.execPath, [simulatedRouter, gateway, external])
          yield* router.awaitLine("ready", patience)
          const start = (...words: ReadonlyArray<string>) =>
            lab.spawn("lan", process.execPath, [bin, "map", "9000:9001", "--strategy", strategy, ...words])

          const program = yield* start("--json")
          const mapped = JSON.parse(yield* program.awaitLine(/"event":"mapped"/, patience))
          assert.deepInclude(mapped, { external: `${external}:9001`, method: methods[strategy], doubleNat: true })
          yield* program.signal("SIGTERM")
          yield* program.awaitExit("15 seconds")

          const forPeople = yield* start()
          const line = yield* forPeople.awaitLine(/^mapped /, patience)
          assert.include(line, `-> ${external}:9001 (${methods[strategy]} via`)
          assert.match(line, new RegExp(`but the world cannot reach ${external}, .*\\(${name}\\): `))
          assert.include(line, what)
          assert.match(yield* forPeople.stderr, new RegExp(`^warn: .*${name}.*\n$`))
          yield* forPeople.signal("SIGTERM")
          yield* forPeople.awaitExit("15 seconds")
        }),
      90_000
    )
  })
}
