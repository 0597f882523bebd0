/**
 * The UPnP strategy on a lan host, behind the real router.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import { labSuite } from "./LabSuite.ts"

const agent = fileURLToPath(new URL("./upnp-agent.ts", import.meta.url))

const spawn = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  lab.spawn("lan", process.execPath, [agent, ...words])

const ask = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  Effect.map(lab.exec("lan", process.execPath, [agent, ...words]), (text): unknown =>
    text === "" ? undefined : JSON.parse(text)
  )

const withUpnp = Lab.make({ daemon: { upnp: true, natpmp: false } })

const onRouter = (protocol: "tcp" | "udp", externalPort = 12001): Lab.Mapping => ({
  protocol,
  externalPort,
  internalAddress: "192.168.77.2",
  internalPort: 12000
})

labSuite("UPnP on a real router", () => {
  it.live.each([
    ["tcp", 2],
    ["udp", 1]
  ] as const)(
    "opens a %s port to the world while it is mapped, and neither before nor after (IGD version %i)",
    ([protocol, version]) =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: true, natpmp: false, forceIgdDescV1: version === 1 } })
        const probe = (protocol === "tcp" ? lab.tcpProbe : lab.udpProbe)("wan", lab.addresses.external, 12001)
        yield* (protocol === "tcp" ? lab.tcpEcho : lab.udpEcho)("lan", 12000)
        assert.strictEqual(yield* probe, "refused")

        const program = yield* spawn(lab, "close", protocol, "12000", "12001", "an echo of ours")
        assert.deepStrictEqual(JSON.parse(yield* program.awaitLine("{", { timeout: "15 seconds" })), {
          text: `11.22.33.1:12001/${protocol}`,
          lifetime: 7200,
          method: "upnp",
          fields: ["", 12001, protocol.toUpperCase(), 12000, "192.168.77.2", true, "an echo of ours", 7200]
        })
        assert.deepStrictEqual(yield* lab.mappings, [onRouter(protocol)])
        assert.strictEqual(yield* probe, "reachable")
        const listed = yield* lab.exec("lan", "upnpc", ["-l"])
        assert.match(
          listed,
          new RegExp(`${protocol.toUpperCase()} +12001->192\\.168\\.77\\.2:12000 +'an echo of ours'`)
        )

        yield* program.write("go on\n")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 0)
        assert.deepStrictEqual(yield* lab.mappings, [])
        assert.strictEqual(yield* probe, "refused")
      }),
    60_000
  )

  it.live(
    "leaves nothing when the program fails",
    () =>
      Effect.gen(function* () {
        const lab = yield* withUpnp
        const program = yield* spawn(lab, "fail", "tcp", "12000", "12001")
        yield* program.awaitLine("{", { timeout: "15 seconds" })
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        yield* program.write("go on\n")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 1)
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "leaves nothing when the fiber is interrupted",
    () =>
      Effect.gen(function* () {
        const lab = yield* withUpnp
        const program = yield* spawn(lab, "interrupt", "udp", "12000", "12001")
        yield* program.awaitLine("{", { timeout: "15 seconds" })
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("udp")])
        yield* program.write("go on\n")
        yield* program.awaitLine('{"interrupted":true}')
        assert.strictEqual((yield* program.awaitExit()).exitCode, 0)
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "leaves nothing when requests are interrupted on their way",
    () =>
      Effect.gen(function* () {
        const lab = yield* withUpnp
        const program = yield* spawn(lab, "burst", "tcp", "12000", "12001")
        yield* program.awaitLine("done", { timeout: "50 seconds" })
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    90_000
  )

  it.live.each(["12500", "12000"])(
    "sees and deletes what another client mapped, and is not in its way with its own port %s",
    (internalPort) =>
      Effect.gen(function* () {
        const lab = yield* withUpnp
        yield* lab.exec("lan", "upnpc", ["-e", "theirs", "-a", lab.addresses.lan, "12000", "12001", "tcp", "600"])
        const list = yield* ask(lab, "list")
        assert.nestedPropertyVal(list, "length", 1)
        assert.nestedPropertyVal(list, "0.text", "11.22.33.1:12001/tcp")
        assert.nestedPropertyVal(list, "0.fields.6", "theirs")
        // The port is another program's of this host, even where it is for the same service: another one is granted.
        const program = yield* spawn(lab, "close", "tcp", internalPort, "12001")
        assert.notInclude(yield* program.awaitLine("{", { timeout: "15 seconds" }), ":12001/tcp")
        assert.deepInclude(yield* lab.mappings, onRouter("tcp"))
        yield* program.write("go on\n")
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])

        yield* ask(lab, "remove", "tcp", "12000", "12001")
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "tells the external address and the gateway",
    () =>
      Effect.gen(function* () {
        const lab = yield* withUpnp
        assert.strictEqual(yield* ask(lab, "external"), "11.22.33.1")
        assert.deepStrictEqual(yield* ask(lab, "gateways"), [["192.168.77.1", "192.168.77.2", "upnp"]])
      }),
    60_000
  )

  it.live(
    "finds the gateway again after a restart, and renews the mapping there",
    () =>
      Effect.gen(function* () {
        const lab = yield* withUpnp
        const program = yield* spawn(lab, "close", "tcp", "12000", "12001", "effect-nat", "6")
        yield* program.awaitLine("{", { timeout: "15 seconds" })
        yield* lab.restartDaemon()
        assert.deepStrictEqual(yield* lab.mappings, [])
        yield* Effect.sleep("4 seconds")
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        yield* program.write("go on\n")
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "says what to look for where UPnP is switched off",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const result = yield* lab.run("lan", process.execPath, [agent, "external"])
        assert.strictEqual(result.exitCode, 1)
        assert.include(`${result.stdout}${result.stderr}`, "UPnP is often switched off")
      }),
    60_000
  )
})
