/**
 * The program through a real router: what a person sees, what the router holds, and what crosses it.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Lab from "./Lab.ts"
import { bin, daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const effectNat = (lab: Lab.LabService, ...args: ReadonlyArray<string>) =>
  lab
    .run("lan", process.execPath, [bin, ...args], { timeout: "30 seconds" })
    .pipe(Effect.map(({ exitCode, stderr, stdout }) => ({ exitCode, stdout, stderr })))

/** Starts `effect-nat` with a command line whose words hold no spaces. */
const start = (lab: Lab.LabService, commandLine: string) =>
  lab.spawn("lan", process.execPath, [bin, ...commandLine.split(" ")])

const events = (stdout: string): ReadonlyArray<Record<string, unknown>> =>
  stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))

/** What the wan host gets when it knocks at the mapped port. */
const knock = (lab: Lab.LabService) =>
  Effect.all({
    tcp: lab.tcpProbe("wan", lab.addresses.external, 12001),
    udp: lab.udpProbe("wan", lab.addresses.external, 12001)
  })

const closed = { tcp: "refused", udp: "refused" } as const
const open = { tcp: "reachable", udp: "reachable" } as const

const methods = { upnp: "upnp", natpmp: "natpmp", pcp: "pcp", auto: "pcp" } as const

for (const strategy of ["upnp", "natpmp", "pcp", "auto"] as const) {
  labSuite(`effect-nat map --strategy ${strategy}`, () => {
    for (const [signal, status] of [
      ["SIGINT", 130],
      ["SIGTERM", 130],
      ["SIGHUP", 130]
    ] as const) {
      it.live(
        `lets a wan host in until ${signal}, over TCP and UDP, and leaves nothing`,
        () =>
          Effect.gen(function* () {
            const lab = yield* Lab.make({ daemon: daemons[strategy] })
            yield* lab.tcpEcho("lan", 12000)
            yield* lab.udpEcho("lan", 12000)
            assert.deepStrictEqual(yield* knock(lab), closed)

            const program = yield* start(
              lab,
              `map 12000:12001 12000:12001/udp --json --lease 1h --description lab --strategy ${strategy}`
            )
            yield* program.awaitLine(/"event":"mapped","protocol":"udp"/, { timeout: "15 seconds" })
            assert.deepStrictEqual(yield* knock(lab), open)
            assert.lengthOf(yield* lab.mappings, 2)
            if (strategy === "upnp") {
              const listed = yield* lab.exec("lan", "upnpc", ["-u", yield* lab.location, "-l"])
              assert.match(listed, /TCP 12001->192\.168\.77\.2:12000 +'lab'/)
              assert.match(listed, /UDP 12001->192\.168\.77\.2:12000 +'lab'/)
            }

            yield* program.signal(signal)
            assert.strictEqual((yield* program.awaitExit()).exitCode, status)
            assert.deepStrictEqual(yield* lab.mappings, [])
            assert.deepStrictEqual(yield* knock(lab), closed)
            const event = (name: string, protocol: string) => ({
              event: name,
              protocol,
              internal: "192.168.77.2:12000",
              external: "11.22.33.1:12001",
              method: methods[strategy],
              gateway: "192.168.77.1",
              lifetimeSeconds: 3600,
              doubleNat: false
            })
            const printed = events(yield* program.stdout)
            assert.sameDeepMembers(
              [...printed],
              ["mapped", "released"].flatMap((name) => [event(name, "tcp"), event(name, "udp")])
            )
            assert.strictEqual(yield* program.stderr, "")
          }),
        60_000
      )
    }

    it.live(
      "answers external, list and delete",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy] })
          const external = yield* effectNat(lab, "external", "--strategy", strategy)
          assert.deepStrictEqual(external, { exitCode: 0, stdout: "11.22.33.1\n", stderr: "" })
          const externalJson = yield* effectNat(lab, "external", "--strategy", strategy, "--json")
          assert.deepStrictEqual(externalJson, {
            exitCode: 0,
            stdout: '{"externalAddress":"11.22.33.1"}\n',
            stderr: ""
          })

          if (strategy === "natpmp" || strategy === "pcp") {
            const listed = yield* effectNat(lab, "list", "--strategy", strategy)
            assert.strictEqual(listed.exitCode, 1)
            assert.match(listed.stderr, /^effect-nat: not supported: .*(NAT-PMP|PCP).*none is known to hold one.*\n$/)
            assert.notInclude(listed.stderr, "this process")
            const program = yield* start(lab, `map 12000:12001 --strategy ${strategy} --json`)
            yield* program.awaitLine(/"event":"mapped"/, { timeout: "15 seconds" })
            const held = yield* effectNat(lab, "list", "--strategy", strategy, "--json")
            const { message, ...rest } = JSON.parse(held.stdout)
            assert.deepStrictEqual(rest, { event: "failed", error: "Unsupported" })
            assert.match(message, /; programs of this host hold, or have left, those of 192\.168\.77\.2:12000\/tcp\)$/)
            assert.strictEqual(held.stderr, `effect-nat: ${message}\n`)
            assert.strictEqual(held.exitCode, 1)
            return
          }
          const none = yield* effectNat(lab, "list", "--strategy", strategy, "--json")
          assert.deepStrictEqual(none, { exitCode: 0, stdout: "[]\n", stderr: "" })
          const location = yield* lab.location
          yield* lab.exec("lan", "upnpc", [
            "-u",
            location,
            "-e",
            "theirs",
            "-a",
            "192.168.77.2",
            "80",
            "8080",
            "tcp",
            "600"
          ])
          const listed = yield* effectNat(lab, "list", "--strategy", strategy, "--json")
          const [entry] = JSON.parse(listed.stdout)
          assert.isTrue(entry.leaseSeconds > 0 && entry.leaseSeconds <= 600)
          assert.deepStrictEqual(
            { ...entry, leaseSeconds: 600 },
            {
              remoteHost: "",
              externalPort: 8080,
              protocol: "tcp",
              internalPort: 80,
              internalClient: "192.168.77.2",
              enabled: true,
              description: "theirs",
              leaseSeconds: 600
            }
          )
          const text = yield* effectNat(lab, "list", "--strategy", strategy)
          assert.match(
            text.stdout,
            /^Remote host  External port  Protocol  Internal port .*\n +8080 +tcp +80 +192\.168\.77\.2 +true +theirs +\d+\n$/
          )
          const deleted = yield* effectNat(lab, "delete", "8080/tcp", "--strategy", strategy)
          assert.deepStrictEqual(deleted, { exitCode: 0, stdout: "deleted 8080/tcp\n", stderr: "" })
          yield* lab.exec("lan", "upnpc", ["-u", location, "-a", "192.168.77.2", "80", "8080", "udp", "600"])
          const deletedJson = yield* effectNat(lab, "delete", "8080/udp", "--strategy", strategy, "--json")
          assert.deepStrictEqual(JSON.parse(deletedJson.stdout), {
            event: "deleted",
            protocol: "udp",
            externalPort: 8080
          })
          assert.deepStrictEqual(yield* lab.mappings, [])
          const again = yield* effectNat(lab, "delete", "8080/tcp", "--strategy", strategy)
          assert.match(again.stderr, /^effect-nat: the gateway has no such mapping: .*\n$/)
          assert.strictEqual(again.exitCode, 1)
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      60_000
    )
  })
}

labSuite("effect-nat at a router that refuses", () => {
  for (const strategy of ["upnp", "auto"] as const) {
    it.live(
      `--strategy ${strategy} says so in one line, with status 1, and leaves nothing of what came before`,
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({
            daemon: {
              ...daemons.upnp,
              permissions: ["allow 12001 0.0.0.0/0 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535"]
            }
          })
          const refused = yield* effectNat(lab, "map", "12000:12001", "12002", "--strategy", strategy, "--json")
          assert.match(refused.stderr, /^effect-nat: the gateway does not allow this: .*\n$/)
          assert.strictEqual(refused.exitCode, 1)
          assert.deepStrictEqual(
            events(refused.stdout).map((one) => one["event"]),
            ["mapped", "failed", "released"]
          )
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      60_000
    )
  }

  it.live(
    "--strategy natpmp says what is wrong in one line when the router's own line has no address for the world",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ wanPrefix: "10.9.8", daemon: { ...daemons.natpmp, externalAddress: false } })
        const refused = yield* effectNat(lab, "map", "12000", "--strategy", "natpmp")
        assert.match(refused.stderr, /^effect-nat: the external address is not known \(NAT-PMP result code 3.*\)\n$/)
        assert.strictEqual(refused.exitCode, 1)
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )
})

labSuite("effect-nat without a gateway", () => {
  it.live(
    "map, external, list and delete say so and exit 1; gateways prints an empty list; serve serves the network",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        for (const args of [["map", "12000"], ["external"], ["list"], ["delete", "12000/tcp"]]) {
          const ended = yield* effectNat(lab, ...args)
          assert.strictEqual(ended.exitCode, 1, args.join(" "))
          // A search takes three seconds.
          assert.match(ended.stderr, /^waiting for a gateway to answer …\neffect-nat: no gateway answered: .*\n$/)
          assert.strictEqual(ended.stdout, "")
        }
        assert.deepStrictEqual(yield* effectNat(lab, "gateways"), { exitCode: 0, stdout: "no gateways\n", stderr: "" })
        assert.deepStrictEqual(yield* effectNat(lab, "gateways", "--json"), { exitCode: 0, stdout: "[]\n", stderr: "" })

        const program = yield* start(lab, "serve")
        yield* program.awaitLine(
          /^contact point: internal 192\.168\.77\.2:12000; external unknown; invitation [0-9a-f]{32}\.[0-9a-f]{32}$/,
          {
            timeout: "15 seconds"
          }
        )
        assert.match(yield* program.stdout, /^no gateway answered: serving this network only; .*$/m)
        yield* program.signal("SIGINT")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 130)
      }),
    120_000
  )

  it.live(
    "does the same on a host without any network",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        yield* lab.exec("lan", "ip", ["route", "del", "default"])
        for (const link of (yield* lab.exec("lan", "ls", ["/sys/class/net"])).split(/\s+/)) {
          if (link !== "lo" && link !== "") yield* lab.exec("lan", "ip", ["link", "set", link, "down"])
        }
        const ended = yield* effectNat(lab, "map", "12000")
        assert.strictEqual(ended.exitCode, 1)
        assert.match(ended.stderr, /^effect-nat: no gateway answered: .*\n$/)
        assert.deepStrictEqual(yield* effectNat(lab, "gateways", "--json"), { exitCode: 0, stdout: "[]\n", stderr: "" })
      }),
    60_000
  )
})

labSuite("effect-nat map while the router is away", () => {
  it.live(
    "says that the mapping is not confirmed, then that it is lost, and what has changed when it is there again",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: daemons.upnp })
        yield* lab.tcpEcho("lan", 12000)
        const program = yield* start(lab, "map 12000:12001 --strategy upnp --lease 20s --json")
        yield* program.awaitLine(/"event":"mapped"/, { timeout: "15 seconds" })
        yield* lab.stopDaemon()
        const unconfirmed = JSON.parse(yield* program.awaitLine(/"event":"failed"/, { timeout: "30 seconds" }))
        assert.strictEqual(unconfirmed.error, "Unconfirmed")
        const lost = JSON.parse(yield* program.awaitLine(/"error":"Lost"/, { timeout: "30 seconds" }))
        assert.match(lost.message, /asking again until it does/)
        yield* lab.restartDaemon()
        const back = JSON.parse(yield* program.awaitLine(/"event":"changed"/, { timeout: "40 seconds" }))
        assert.strictEqual(back.external, "11.22.33.1:12001")
        assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "reachable")
        yield* program.signal("SIGINT")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 130)
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    120_000
  )
})

labSuite("effect-nat map at a router that has died", () => {
  it.live(
    "ends within the time for one release, however many mappings it holds, and says what may be left",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: daemons.upnp })
        const program = yield* start(lab, "map 12000 12001 12002 12003 12004 --json")
        yield* program.awaitLine(/"event":"mapped","protocol":"tcp","internal":"192\.168\.77\.2:12004"/, {
          timeout: "20 seconds"
        })
        yield* (yield* lab.daemon).signal("SIGSTOP")
        yield* program.signal("SIGHUP")
        yield* program.signal("SIGHUP")
        // One release may take 5 seconds; one after the other they would take 25.
        assert.strictEqual((yield* program.awaitExit("15 seconds")).exitCode, 130)
        const failed = events(yield* program.stdout).filter((one) => one["event"] === "failed")
        assert.lengthOf(failed, 5)
        assert.isTrue(failed.every((one) => one["error"] === "TimedOut"))
        const said = yield* program.stderr
        assert.match(said, /^waiting for the gateway to confirm that 11\.22\.33\.1:12000\/tcp is deleted …$/m)
        assert.match(said, /may be left on the gateway/)
      }),
    60_000
  )
})

labSuite("effect-nat map of a port that another host has", () => {
  it.live(
    "maps another one and says so on standard error",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: daemons.natpmp })
        yield* lab.exec("lan", "natpmpc", ["-g", "192.168.77.1", "-a", "12001", "9999", "tcp", "600"])
        const program = yield* start(lab, "map 12000:12001 --json")
        const mapped = JSON.parse(yield* program.awaitLine(/"event":"mapped"/, { timeout: "15 seconds" }))
        assert.notStrictEqual(mapped.external, "11.22.33.1:12001")
        const [, port] = mapped.external.split(":")
        yield* program.awaitLine(
          `warn: the external port 12001 is not free on the gateway: it granted ${port} in its place`,
          { from: "stderr" }
        )
      }),
    60_000
  )
})

labSuite("effect-nat gateways", () => {
  it.live(
    "shows the router once for each protocol that it speaks, and the one chosen by name or address",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: daemons.auto })
        const all = JSON.parse((yield* effectNat(lab, "gateways", "--json")).stdout)
        assert.sameMembers(
          all.map((one: { method: string; address: string }) => `${one.method} ${one.address}`),
          ["upnp 192.168.77.1", "pcp 192.168.77.1", "natpmp 192.168.77.1"]
        )
        for (const method of ["upnp", "pcp", "natpmp"]) {
          const some = yield* effectNat(lab, "gateways", "--json", "--strategy", method)
          assert.deepStrictEqual(
            JSON.parse(some.stdout).map((one: { method: string }) => one.method),
            [method]
          )
        }
        const { name } = all.find((one: { method: string }) => one.method === "upnp")
        for (const wanted of [name, "192.168.77.1"]) {
          const external = yield* effectNat(lab, "external", "--strategy", "upnp", "--gateway", wanted)
          assert.deepStrictEqual(external, { exitCode: 0, stdout: "11.22.33.1\n", stderr: "" })
        }
        const other = yield* effectNat(lab, "external", "--strategy", "upnp", "--gateway", "192.168.77.9")
        assert.strictEqual(other.exitCode, 1)
        assert.match(other.stderr, /^effect-nat: no gateway answered: .*\n$/m)
        const nobody = yield* effectNat(lab, "external", "--gateway", "nonsuch")
        assert.strictEqual(nobody.exitCode, 1)
        // Whoever reads it knows what to write.
        assert.include(nobody.stderr, `upnp: none is called "nonsuch"; seen: ${name} (192.168.77.1)`)
        assert.include(nobody.stderr, 'pcp and natpmp: no default gateway is "nonsuch"')
      }),
    60_000
  )
})

/** All that this host sends, but what the kernel says of its own accord (neighbours, IPv6 groups). */
const sent = "outbound and not arp and not icmp6 and not ip6 proto 0"

labSuite("effect-nat --no-automation", () => {
  it.live(
    "says so and sends not a single packet, whatever the command, at a router that speaks everything",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ ipv6: true, daemon: daemons.auto })
        const capture = yield* lab.capture("lan", sent)
        const commands = ["map 12000", "map 12000 --family both", "external", "list", "delete 12000/tcp", "gateways"]
        for (const command of commands) {
          const ended = yield* effectNat(lab, ...command.split(" "), "--no-automation")
          assert.match(ended.stderr, /^effect-nat: automation is switched off.* use the manual strategy .*\n$/, command)
          assert.strictEqual(ended.stdout, "", command)
          assert.strictEqual(ended.exitCode, 1, command)
        }
        const server = yield* start(lab, "serve --no-automation")
        yield* server.awaitLine(/^contact point: internal 192\.168\.77\.2:12000, .*; external unknown; invitation /, {
          timeout: "15 seconds"
        })
        yield* server.signal("SIGINT")
        assert.strictEqual((yield* server.awaitExit()).exitCode, 130)
        const said = (yield* server.stdout).split("\n").filter((line) => line.includes("automation"))
        assert.lengthOf(said, 1)
        assert.match(said[0] ?? "", /^automation is switched off: serving this network only; .*--strategy manual/)
        assert.notInclude(yield* server.stdout, "tried")
        assert.strictEqual(yield* capture.text, "")
        assert.deepStrictEqual(yield* lab.mappings, [])

        const control = yield* lab.capture("lan", sent)
        yield* effectNat(lab, "external")
        assert.isNotEmpty(yield* control.text)
      }),
    120_000
  )
})

labSuite("effect-nat map --family", () => {
  for (const [strategy, daemon] of [
    ["pcp", daemons.pcp],
    ["upnp", daemons.upnp]
  ] as const) {
    it.live(
      `both lets a wan host in over IPv4 and IPv6, by ${strategy}`,
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ ipv6: true, daemon })
          yield* lab.tcpEcho("lan", 12000)
          const program = yield* start(lab, `map 12000 --strategy ${strategy} --family both --json`)
          const own = `[${Lab.ipv6Addresses.lan}]:12000`
          const mapped = JSON.parse(
            yield* program.awaitLine(`"event":"mapped","protocol":"tcp","internal":"${own}"`, { timeout: "20 seconds" })
          )
          assert.strictEqual(mapped.external, own)
          assert.include(yield* program.stdout, '"internal":"192.168.77.2:12000","external":"11.22.33.1:12000"')
          for (const address of [lab.addresses.external, Lab.ipv6Addresses.lan]) {
            assert.strictEqual(yield* lab.tcpProbe("wan", address, 12000), "reachable", address)
          }
          yield* program.signal("SIGTERM")
          assert.strictEqual((yield* program.awaitExit()).exitCode, 130)
          const released = events(yield* program.stdout).filter((one) => one["event"] === "released")
          assert.lengthOf(released, 2)
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      60_000
    )
  }
})

labSuite("the strategies that ask nobody", () => {
  for (const [strategy, method] of [
    ["manual", "manual"],
    ["lan", "lan"]
  ] as const) {
    it.live(
      `--strategy ${strategy} sends not a single packet`,
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons.auto })
          const capture = yield* lab.capture("lan", sent)
          const program = yield* start(lab, `map 12000:12001 --strategy ${strategy} --json`)
          const line = yield* program.awaitLine(/"event":"mapped"/, { timeout: "15 seconds" })
          assert.include(line, `"internal":"192.168.77.2:12000"`)
          assert.include(line, `"method":"${method}"`)
          yield* program.signal("SIGINT")
          assert.strictEqual((yield* program.awaitExit()).exitCode, 130)
          assert.strictEqual(yield* capture.text, "")
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      60_000
    )
  }

  it.live(
    "--strategy manual lets a wan host in through a port forwarded by hand",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: daemons.upnp })
        yield* lab.tcpEcho("lan", 12000)
        const location = yield* lab.location
        yield* lab.exec("lan", "upnpc", ["-u", location, "-a", "192.168.77.2", "12000", "12001", "tcp", "600"])
        const program = yield* start(
          lab,
          `map 12000:12001 --strategy manual --external-address ${lab.addresses.external}`
        )
        yield* program.awaitLine(/^mapped .* -> 11\.22\.33\.1:12001 \(manual, no lease\)$/, { timeout: "15 seconds" })
        assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "reachable")
        yield* program.signal("SIGINT")
        yield* program.awaitExit()
        // What a person forwarded is not the program's to delete.
        assert.lengthOf(yield* lab.mappings, 1)
      }),
    60_000
  )
})
