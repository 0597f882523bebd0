/**
 * The UPnP strategy on a lan host, behind the real router: as an IGD version 1, and as version 2.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as IgdLog from "./IgdLog.ts"
import * as Lab from "./Lab.ts"
import { labSuite } from "./LabSuite.ts"

const agent = fileURLToPath(new URL("./upnp-agent.ts", import.meta.url))

const spawn = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  lab.spawn("lan", process.execPath, [agent, ...words])

const ask = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  Effect.map(lab.exec("lan", process.execPath, [agent, ...words]), (text): unknown =>
    text === "" ? undefined : JSON.parse(text)
  )

/** Without its search, which always takes two seconds. */
const upnpc = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  Effect.flatMap(lab.location, (location) => lab.exec("lan", "upnpc", ["-u", location, ...words]))

/** Node and its modules may take their time on a busy machine. */
const patience = { timeout: "15 seconds" } as const

const onRouter = (protocol: "tcp" | "udp", externalPort = 12001): Lab.Mapping => ({
  protocol,
  externalPort,
  internalAddress: "192.168.77.2",
  internalPort: 12000
})

const another = "192.168.77.3"

for (const version of [1, 2] as const) {
  labSuite(`UPnP on a real router, IGD version ${version}`, () => {
    const makeLab = (daemon: Lab.DaemonOptions = {}) =>
      Lab.make({ daemon: { natpmp: false, forceIgdDescV1: version === 1, ...daemon } })

    it.live.each(["tcp", "udp"] as const)(
      "opens a %s port to the world while it is mapped, and neither before nor after",
      (protocol) =>
        Effect.gen(function* () {
          const lab = yield* makeLab()
          const probe = (protocol === "tcp" ? lab.tcpProbe : lab.udpProbe)("wan", lab.addresses.external, 12001)
          yield* (protocol === "tcp" ? lab.tcpEcho : lab.udpEcho)("lan", 12000)
          assert.strictEqual(yield* probe, "refused")

          const program = yield* spawn(lab, "close", protocol, "12000", "12001", "an echo of ours")
          assert.deepStrictEqual(JSON.parse(yield* program.awaitLine("{", patience)), {
            text: `11.22.33.1:12001/${protocol}`,
            lifetime: 7200,
            method: "upnp",
            fields: ["", 12001, protocol.toUpperCase(), 12000, "192.168.77.2", true, "an echo of ours", 7200]
          })
          assert.deepStrictEqual(yield* lab.mappings, [onRouter(protocol)])
          assert.strictEqual(yield* probe, "reachable")
          const listed = yield* upnpc(lab, "-l")
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
      "names the port itself, whether or not another one would do",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab()
          const any = yield* spawn(lab, "close", "tcp", "12000", "12001")
          yield* any.awaitLine("{", patience)
          const adding = (yield* IgdLog.actions(lab)).filter((action) => action.startsWith("Add"))
          assert.deepStrictEqual(adding, ["AddPortMapping"])

          const strict = yield* spawn(lab, "close", "udp", "12000", "12001", "effect-nat", "7200", "strict")
          yield* strict.awaitLine("{", patience)
          const all = (yield* IgdLog.actions(lab)).filter((action) => action.startsWith("Add"))
          assert.deepStrictEqual(all, [...adding, "AddPortMapping"])
        }),
      60_000
    )

    it.live(
      "keeps a mapping by renewing it before the router forgets it",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab()
          const program = yield* spawn(lab, "close", "tcp", "12000", "12001", "effect-nat", "4")
          yield* upnpc(lab, "-e", "not renewed", "-a", lab.addresses.lan, "12500", "12501", "tcp", "4")
          yield* program.awaitLine("{", patience)
          yield* Effect.sleep("6 seconds")
          assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
          yield* program.write("go on\n")
          yield* program.awaitExit()
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      60_000
    )

    it.live(
      "leaves nothing when the program fails",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab()
          const program = yield* spawn(lab, "fail", "tcp", "12000", "12001")
          yield* program.awaitLine("{", patience)
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
          const lab = yield* makeLab()
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
          const lab = yield* makeLab()
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
          const lab = yield* makeLab()
          yield* upnpc(lab, "-e", "theirs", "-a", lab.addresses.lan, "12000", "12001", "tcp", "600")
          const list = yield* ask(lab, "list")
          assert.nestedPropertyVal(list, "length", 1)
          assert.nestedPropertyVal(list, "0.text", "11.22.33.1:12001/tcp")
          assert.nestedPropertyVal(list, "0.fields.6", "theirs")
          // The port is another program's of this host, even where it is for the same service: another one is granted.
          const program = yield* spawn(lab, "close", "tcp", internalPort, "12001")
          assert.notInclude(yield* program.awaitLine("{", patience), ":12001/tcp")
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
      "stands beside what another client mapped, and stays when that one goes",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab()
          yield* upnpc(lab, "-e", "theirs", "-a", lab.addresses.lan, "12500", "12501", "udp", "600")
          const program = yield* spawn(lab, "close", "tcp", "12000", "12001", "ours")
          yield* program.awaitLine("{", patience)
          const listed = yield* upnpc(lab, "-l")
          assert.match(listed, /UDP 12501->192\.168\.77\.2:12500 +'theirs'/)
          assert.match(listed, /TCP 12001->192\.168\.77\.2:12000 +'ours'/)
          yield* upnpc(lab, "-d", "12501", "udp")
          assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        }),
      60_000
    )

    it.live(
      "leaves another host its port: takes another one, or fails where only this one will do",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab({ secureMode: false })
          yield* upnpc(lab, "-e", "theirs", "-a", another, "12000", "12001", "tcp", "600")
          const theirs = yield* lab.mappings
          assert.deepStrictEqual(theirs, [{ ...onRouter("tcp"), internalAddress: another }])

          const words = ["close", "tcp", "12000", "12001", "effect-nat", "7200"]
          const strict = yield* lab.run("lan", process.execPath, [agent, ...words, "strict"])
          assert.strictEqual(strict.exitCode, 1)
          assert.include(`${strict.stdout}${strict.stderr}`, "external port 12001 is taken")
          assert.deepStrictEqual(yield* lab.mappings, theirs)

          const program = yield* spawn(lab, ...words)
          const { text } = JSON.parse(yield* program.awaitLine("{", patience))
          const ours = (yield* lab.mappings).filter((one) => one.internalAddress === lab.addresses.lan)
          assert.strictEqual(ours.length, 1)
          assert.strictEqual(text, `11.22.33.1:${ours[0]?.externalPort}/tcp`)
          yield* program.write("go on\n")
          yield* program.awaitExit()
          assert.deepStrictEqual(yield* lab.mappings, theirs)
        }),
      60_000
    )

    it.live(
      "tells the external address and the gateway",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab()
          assert.strictEqual(yield* ask(lab, "external"), "11.22.33.1")
          assert.deepStrictEqual(yield* ask(lab, "gateways"), [["192.168.77.1", "192.168.77.2", "upnp"]])
        }),
      60_000
    )

    it.live(
      "finds the gateway again after a restart, and renews the mapping there",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab()
          const program = yield* spawn(lab, "close", "tcp", "12000", "12001", "effect-nat", "6")
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
  })
}

labSuite("UPnP on a router without it", () => {
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
