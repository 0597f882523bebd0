/**
 * The NAT-PMP strategy on a lan host, behind the real router.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import { labSuite } from "./LabSuite.ts"

const agent = fileURLToPath(new URL("./natpmp-agent.ts", import.meta.url))

const spawn = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  lab.spawn("lan", process.execPath, [agent, ...words])

const ask = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  Effect.map(lab.exec("lan", process.execPath, [agent, ...words]), (text): unknown => JSON.parse(text))

const withNatPmp = Lab.make({ daemon: { upnp: false, natpmp: true } })

const onRouter = (protocol: "tcp" | "udp", externalPort = 12001): Lab.Mapping => ({
  protocol,
  externalPort,
  internalAddress: "192.168.77.2",
  internalPort: 12000
})

/** Node and its modules may take their time on a busy machine. */
const patience = { timeout: "15 seconds" } as const

labSuite("NAT-PMP on a real router", () => {
  it.live.each(["tcp", "udp"] as const)(
    "opens a %s port to the world while it is mapped, and neither before nor after",
    (protocol) =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        const probe = (protocol === "tcp" ? lab.tcpProbe : lab.udpProbe)("wan", lab.addresses.external, 12001)
        yield* (protocol === "tcp" ? lab.tcpEcho : lab.udpEcho)("lan", 12000)
        assert.strictEqual(yield* probe, "refused")

        const program = yield* spawn(lab, "close", protocol, "12000", "12001")
        assert.deepStrictEqual(JSON.parse(yield* program.awaitLine("{", patience)), {
          text: `11.22.33.1:12001/${protocol}`,
          internal: "192.168.77.2:12000",
          gateway: "192.168.77.1",
          lifetime: 7200,
          method: "natpmp"
        })
        assert.deepStrictEqual(yield* lab.mappings, [onRouter(protocol)])
        assert.strictEqual(yield* probe, "reachable")

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
        const lab = yield* withNatPmp
        const program = yield* spawn(lab, "fail", "tcp", "12000", "12001")
        yield* program.awaitLine("{", patience)
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        yield* program.write("go on\n")
        assert.strictEqual((yield* program.awaitExit()).exitCode, 1)
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live.each(["SIGINT", "SIGTERM"] as const)(
    "leaves nothing when the program gets %s",
    (signal) =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        const program = yield* spawn(lab, "close", "udp", "12000", "12001")
        yield* program.awaitLine("{", patience)
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("udp")])
        yield* program.signal(signal)
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "leaves nothing when the fiber is interrupted",
    () =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        const program = yield* spawn(lab, "interrupt", "udp", "12000", "12001")
        yield* program.awaitLine("{", patience)
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
        const lab = yield* withNatPmp
        const program = yield* spawn(lab, "burst", "tcp", "12000", "12001")
        yield* program.awaitLine("done", { timeout: "80 seconds" })
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    90_000
  )

  it.live(
    "takes two exchanges to map and one to delete, and none of them is for anybody else",
    () =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        const capture = yield* lab.capture("lan", "udp")
        const program = yield* spawn(lab, "close", "tcp", "12000", "12001", "600")
        yield* program.awaitLine("{", patience)
        yield* program.write("go on\n")
        yield* program.awaitExit()
        const packets = yield* capture.packets
        assert.deepStrictEqual(
          packets
            .filter((one) => one.sourceAddress === "192.168.77.2")
            .map((one) => Buffer.from(one.payload).toString("hex")),
          ["0000", "000200002ee02ee100000258", "000200002ee0000000000000"]
        )
        assert.isTrue(packets.every((one) => one.sourcePort === 5351 || one.destinationPort === 5351))
        assert.lengthOf(packets, 6)
      }),
    60_000
  )

  it.live(
    "gives back what the router grants in place of the only port that will do",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({
          daemon: {
            upnp: false,
            permissions: ["deny 12001 0.0.0.0/0 0-65535", "allow 0-65535 192.168.77.0/24 0-65535"]
          }
        })
        const strict = yield* lab.run("lan", process.execPath, [
          agent,
          "close",
          "tcp",
          "12000",
          "12001",
          "600",
          "strict"
        ])
        assert.strictEqual(strict.exitCode, 1)
        assert.include(`${strict.stdout}${strict.stderr}`, "external port 12001 is taken")
        assert.deepStrictEqual(yield* lab.mappings, [])

        const program = yield* spawn(lab, "close", "tcp", "12000", "12001")
        const { text } = JSON.parse(yield* program.awaitLine("{", patience))
        const [mapping] = yield* lab.mappings
        assert.strictEqual(text, `11.22.33.1:${mapping?.externalPort}/tcp`)
        assert.notStrictEqual(mapping?.externalPort, 12001)
      }),
    60_000
  )

  it.live(
    "stands beside what another client mapped",
    () =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        yield* lab.exec("lan", "natpmpc", ["-g", lab.addresses.gateway, "-a", "13001", "13000", "udp", "600"])
        const theirs = yield* lab.mappings
        const program = yield* spawn(lab, "close", "udp", "12000", "12001")
        yield* program.awaitLine("{", patience)
        assert.sameDeepMembers([...(yield* lab.mappings)], [...theirs, onRouter("udp")])
        yield* program.write("go on\n")
        yield* program.awaitExit()
        assert.deepStrictEqual(yield* lab.mappings, theirs)
      }),
    60_000
  )

  it.live(
    "tells the external address and the gateway, and changes nothing by asking",
    () =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        assert.strictEqual(yield* ask(lab, "probe"), "11.22.33.1")
        assert.strictEqual(yield* ask(lab, "external"), "11.22.33.1")
        assert.deepStrictEqual(yield* ask(lab, "gateways"), [["192.168.77.1", "192.168.77.2", "natpmp"]])
        assert.deepStrictEqual(yield* lab.mappings, [])
      }),
    60_000
  )

  it.live(
    "renews a mapping that a restarted router has lost",
    () =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        const program = yield* spawn(lab, "close", "tcp", "12000", "12001", "6")
        yield* program.awaitLine("{", patience)
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
    "asks again until the router hears it",
    () =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        const capture = yield* lab.capture("lan", "udp dst port 5351")
        yield* lab.loseFirst(5351)
        const program = yield* spawn(lab, "close", "tcp", "12000", "12001")
        yield* program.awaitLine("{", patience)
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        const questions = (yield* capture.packets).filter((one) => one.payload.length === 2)
        assert.isAtLeast(questions.length, 2)
        yield* program.write("go on\n")
        yield* program.awaitExit()
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
