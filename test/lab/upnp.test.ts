/**
 * What only the UPnP strategy does on a lan host, behind the real router, as an IGD version 1 and as version 2; the
 * rest stands in `strategies.test.ts`.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as IgdLog from "./IgdLog.ts"
import * as Lab from "./Lab.ts"
import { daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"
import { avoidsPort12001, ended, onRouter, programOf, upnpc } from "./strategy-lab.ts"

const { ask, mapped, run } = programOf("upnp")

const another = "192.168.77.3"

for (const version of [1, 2] as const) {
  labSuite(`UPnP on a real router, IGD version ${version}`, () => {
    const makeLab = (daemon: Lab.DaemonOptions = {}) =>
      Lab.make({ daemon: { ...daemons.upnp, forceIgdDescV1: version === 1, ...daemon } })

    it.live(
      "names the port itself, whether or not another one would do",
      () =>
        Effect.gen(function* () {
          const lab = yield* makeLab()
          yield* mapped(lab, "tcp", "12000", "12001")
          const adding = (yield* IgdLog.actions(lab)).filter((action) => action.startsWith("Add"))
          assert.deepStrictEqual(adding, ["AddPortMapping"])

          yield* mapped(lab, "udp", "12000", "12001", "--strict")
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
          yield* upnpc(lab, "-e", "not renewed", "-a", lab.addresses.lan, "12500", "12501", "tcp", "4")
          const { program } = yield* mapped(lab, "tcp", "12000", "12001", "--lease", "4")
          yield* Effect.sleep("6 seconds")
          assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
          yield* ended(lab, program)
        }),
      60_000
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
          const { printed, program } = yield* mapped(lab, "tcp", internalPort, "12001")
          assert.notInclude(printed.text, ":12001/tcp")
          assert.deepInclude(yield* lab.mappings, onRouter("tcp"))
          yield* ended(lab, program, [onRouter("tcp")])

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
          yield* mapped(lab, "tcp", "12000", "12001", "--description", "ours")
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
          assert.deepStrictEqual(yield* lab.mappings, [{ ...onRouter("tcp"), internalAddress: another }])
          yield* avoidsPort12001(lab, "upnp")
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
        const result = yield* run(lab, "external")
        assert.strictEqual(result.exitCode, 1)
        assert.include(`${result.stdout}${result.stderr}`, "UPnP is often switched off")
      }),
    60_000
  )
})
