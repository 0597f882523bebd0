/**
 * The dispatcher behind the real router: members on both sides of it, and what `serve` says and leaves.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import { bin } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

/** Starts `effect-nat serve` with flags whose words hold no spaces. */
const start = (lab: Lab.LabService, flags: string) =>
  lab.spawn("lan", process.execPath, [bin, "serve", ...flags.split(" ").filter((word) => word !== "")])

const join = Effect.fnUntraced(function* (lab: Lab.LabService, host: Lab.Host, address: string, session: string) {
  const member = yield* lab.spawn(host, process.execPath, [path("session-agent.ts"), address, session])
  yield* member.awaitLine("joined", { timeout: "15 seconds" })
  return member
})

for (const strategy of ["upnp", "natpmp"] as const) {
  labSuite(`effect-nat serve --strategy ${strategy}`, () => {
    it.live(
      "lets a wan host and a lan host exchange frames, and closes the door behind it",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: { upnp: strategy === "upnp", natpmp: strategy === "natpmp" } })
          const server = yield* start(
            lab,
            `--strategy ${strategy} --port 12000 --external-port 12001 --json --lease 1h`
          )
          const serving = JSON.parse(yield* server.awaitLine('"event":"serving"', { timeout: "15 seconds" }))
          const [sessionId, capability] = serving.invitation.split(".")
          assert.deepStrictEqual(serving.contactPoint, {
            version: 1,
            name: "effect-nat",
            internal: ["192.168.77.2:12000"],
            external: [{ address: "11.22.33.1:12001", verification: "reported" }],
            sessions: [{ id: sessionId, role: "", capabilities: [capability] }],
            instance: serving.contactPoint.instance,
            lifetime: 3600
          })
          const mapped = JSON.parse(yield* server.awaitLine('"event":"mapped"'))
          assert.strictEqual(mapped.external, "11.22.33.1:12001")

          const outside = yield* join(lab, "wan", serving.contactPoint.external[0].address, serving.invitation)
          const inside = yield* join(lab, "lan", serving.contactPoint.internal[0], serving.invitation)
          yield* outside.write("hello from the world\n")
          yield* inside.awaitLine("got hello from the world")
          yield* inside.write("hello from the house\n")
          yield* outside.awaitLine("got hello from the house")
          yield* outside.awaitLine("got hello from the world")

          yield* server.signal("SIGINT")
          assert.strictEqual((yield* server.awaitExit()).exitCode, 130)
          yield* outside.awaitLine(/^ended SessionError: /)
          yield* inside.awaitLine(/^ended SessionError: /)
          assert.include(yield* server.stdout, '"event":"released"')
          assert.strictEqual(yield* server.stderr, "")
          assert.deepStrictEqual(yield* lab.mappings, [])
          assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "refused")
        }),
      60_000
    )
  })
}

labSuite("effect-nat serve", () => {
  it.live(
    "says what it tried, what answered and the contact point",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: true, natpmp: true } })
        const server = yield* start(lab, "")
        yield* server.awaitLine(
          /^contact point: internal 192\.168\.77\.2:12000; external 11\.22\.33\.1:12000; invitation [0-9a-f]{32}\.[0-9a-f]{32}$/,
          { timeout: "15 seconds" }
        )
        assert.match(yield* server.stdout, /^tried pcp: 192\.168\.77\.1 answered$/m)
        assert.match(
          yield* server.stdout,
          /^mapped 192\.168\.77\.2:12000\/tcp -> 11\.22\.33\.1:12000 \(pcp via 192\.168\.77\.1, lease 2h\)$/m
        )
      }),
    60_000
  )

  it.live(
    "prints a URI by which a wan host and a lan host join, and says lines to each other",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: false, natpmp: true } })
        const server = yield* start(lab, "")
        const line = yield* server.awaitLine(/^join by: effect-nat join effect-nat:/, { timeout: "15 seconds" })
        const uri = line.replace("join by: effect-nat join ", "")
        const member = (host: Lab.Host) => lab.spawn(host, process.execPath, [bin, "join", uri])
        const outside = yield* member("wan")
        yield* outside.awaitLine(/^joined session [0-9a-f]{32} at 11\.22\.33\.1:12000$/, {
          from: "stderr",
          timeout: "15 seconds"
        })
        const inside = yield* member("lan")
        yield* inside.awaitLine(/^joined session [0-9a-f]{32} at 192\.168\.77\.2:12000$/, {
          from: "stderr",
          timeout: "15 seconds"
        })
        yield* outside.write("hello from the world\n")
        yield* inside.awaitLine(/^1 {2}\d+:\d\d:\d\d\.\d{3} {2}hello from the world$/)
        yield* inside.write("hello from the house\n")
        yield* outside.awaitLine(/^2 .* hello from the house$/)
        yield* server.signal("SIGINT")
        yield* outside.awaitLine("the connection broke: making it again", { from: "stderr" })
      }),
    60_000
  )

  it.live(
    "is found on its network, and joined from there where it is open to all, and not found where it shall not be",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: false, natpmp: true } })
        const finder = yield* lab.spawn("router", process.execPath, [bin, "find", "--json"])
        const found = (port: number) =>
          Effect.map(finder.awaitLine(new RegExp(`"event":"found".*:${port}"`), { timeout: "15 seconds" }), (line) =>
            JSON.parse(line)
          )
        yield* start(lab, "--role scene --name house")
        const locked = yield* found(12000)
        assert.deepInclude(locked.contactPoint, { name: "house", internal: ["192.168.77.2:12000"] })
        assert.deepInclude(locked.contactPoint.sessions[0], { role: "scene", capabilities: [] })
        const refused = yield* lab.run("router", process.execPath, [bin, "join", locked.uri])
        assert.include(refused.stderr, "session scene is locked: ask for an invitation")
        const silent = yield* start(lab, "--port 12001 --no-beacon")
        const forbidden = yield* start(lab, "--port 12002 --no-automation")
        for (const one of [silent, forbidden]) yield* one.awaitLine("contact point: ", { timeout: "15 seconds" })
        const open = yield* start(lab, "--port 12003 --beacon-open")
        const { uri } = yield* found(12003)
        const joined = yield* lab.spawn("router", process.execPath, [bin, "join", uri])
        yield* joined.awaitLine("joined session", { from: "stderr", timeout: "15 seconds" })
        yield* open.signal("SIGINT")
        yield* finder.awaitLine(/"event":"lost".*:12003"/)
        assert.notMatch(yield* finder.stdout, /:1200[12]"/)
      }),
    60_000
  )

  it.live(
    "is what npm start runs",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: false, natpmp: true } })
        const server = yield* lab.spawn("lan", "npm", ["start"], { cwd: path("../..") })
        yield* server.awaitLine(/^contact point: internal 192\.168\.77\.2:12000; external 11\.22\.33\.1:12000; /, {
          timeout: "30 seconds"
        })
        assert.lengthOf(yield* lab.mappings, 1)
      }),
    60_000
  )

  it.live(
    "takes the description and the gateway that it is given, or none of them with the lan strategy",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: true, natpmp: false } })
        const server = yield* start(lab, "--strategy upnp --description island --gateway 192.168.77.1")
        yield* server.awaitLine(/^contact point: .*external 11\.22\.33\.1:12000/, { timeout: "15 seconds" })
        assert.include(yield* lab.exec("lan", "upnpc", ["-u", yield* lab.location, "-l"]), "'island'")
        const other = yield* start(lab, "--strategy upnp --port 12002 --gateway 192.168.77.9")
        yield* other.awaitLine(/^no gateway answered: serving this network only/, { timeout: "15 seconds" })
        const lan = yield* start(lab, "--strategy lan --port 12003")
        yield* lan.awaitLine(/^contact point: internal 192\.168\.77\.2:12003; external unknown; /, {
          timeout: "15 seconds"
        })
      }),
    60_000
  )

  it.live(
    "does not let in who names another session, or has no capability of this one",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: false, natpmp: true } })
        const session = "0123456789abcdef0123456789abcdef"
        const invitation = `${session}.ffeeddccbbaa99887766554433221100`
        const server = yield* start(lab, `--session ${invitation}`)
        yield* server.awaitLine(new RegExp(`invitation ${invitation}$`), { timeout: "15 seconds" })
        for (const other of [`${"0".repeat(32)}.ffeeddccbbaa99887766554433221100`, `${session}.${"0".repeat(32)}`]) {
          const agent = [path("session-agent.ts"), "11.22.33.1:12000", other]
          const stranger = yield* lab.spawn("wan", process.execPath, agent)
          yield* stranger.awaitLine(/^ended SessionError: /, { timeout: "15 seconds" })
          assert.notInclude(yield* stranger.stdout, "joined")
        }
        yield* join(lab, "wan", "11.22.33.1:12000", invitation)
      }),
    60_000
  )

  it.live(
    "refuses what one address has too many of, says so, counts it, and the others do not notice",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: false, natpmp: true } })
        const server = yield* start(lab, "--json --metrics-port 12090")
        const serving = JSON.parse(yield* server.awaitLine('"event":"serving"', { timeout: "15 seconds" }))
        const inside = yield* join(lab, "lan", serving.contactPoint.internal[0], serving.invitation)
        const words = [path("flood-agent.mjs"), "11.22.33.1", "12000", "10000", "200"]
        const flood = yield* Effect.forkChild(lab.run("wan", process.execPath, words, { timeout: "100 seconds" }))
        for (let said = 0; said < 10; said++) {
          yield* inside.write(`word ${said}\n`)
          yield* inside.awaitLine(`got word ${said}`, { timeout: "10 seconds" })
          yield* Effect.sleep("300 millis")
        }
        const { ended } = JSON.parse((yield* Fiber.join(flood)).stdout) as { ended: Record<string, number> }
        // The first ones, who say nothing, are let in until their time for a handshake is over, and others after them.
        const refused = ended["16"] ?? 0
        assert.isAtLeast(refused, 5000, JSON.stringify(ended))
        yield* Effect.sleep("1500 millis")
        const script = "fetch('http://127.0.0.1:12090/metrics').then((r) => r.text()).then(console.log)"
        const metrics = yield* lab.exec("lan", process.execPath, ["-e", script])
        const counted = /^effect_nat_dispatcher_closed_total\{reason="TooManyConnections"\} (\d+)$/m.exec(metrics)
        assert.isAtLeast(Number(counted?.[1]), refused, metrics)
        yield* inside.write("still here\n")
        yield* inside.awaitLine("got still here")
      }),
    180_000
  )

  it.live(
    "ends and leaves nothing when its reader goes away",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: false, natpmp: true } })
        const piped = yield* lab.run("lan", "sh", ["-c", `"${process.execPath}" "${bin}" serve | true`])
        // The reader has gone long before the first line: a write after it has is what the program can notice.
        assert.strictEqual(piped.stdout, "")
        assert.strictEqual(piped.stderr, "")
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "says in one line that its port is taken, with status 1, and maps nothing",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: false, natpmp: true } })
        yield* lab.tcpEcho("lan", 12000)
        const ended = yield* lab.run("lan", process.execPath, [bin, "serve", "--port", "12000"])
        assert.match(ended.stderr, /^effect-nat: port 12000 is in use on this host: .*\n$/)
        assert.strictEqual(ended.exitCode, 1)
        assert.strictEqual(ended.stdout, "")
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "says that the external address is not known when it was not given by hand",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const server = yield* start(lab, "--strategy manual --external-port 12001")
        yield* server.awaitLine(/^contact point: internal 192\.168\.77\.2:12000; external unknown; invitation /, {
          timeout: "15 seconds"
        })
        const known = yield* start(
          lab,
          "--strategy manual --external-address 11.22.33.1 --port 12002 --external-port 12001"
        )
        yield* known.awaitLine(
          /^contact point: internal 192\.168\.77\.2:12002; external 11\.22\.33\.1:12001; invitation /,
          {
            timeout: "15 seconds"
          }
        )
      }),
    60_000
  )
})
