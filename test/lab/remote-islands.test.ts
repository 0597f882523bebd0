/**
 * Islands on other hosts than their router, behind the real one: they register their sessions and are told, or have it
 * told for them, where these can be reached, also when that changes while they talk.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { call, path, serve, visit } from "./contact-point-lab.ts"
import * as Lab from "./Lab.ts"
import type * as LabProcess from "./LabProcess.ts"
import { bin, daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const internal = "192.168.77.2:12000"
const external = "11.22.33.1:12001"

const postcardWith = Effect.fnUntraced(function* (island: LabProcess.LabProcess, address: string, seconds = 20) {
  const line = yield* island.awaitLine((text) => text.startsWith('{"postcard"') && text.includes(`"${address}`), {
    timeout: { seconds }
  })
  const said: { readonly postcard: string; readonly addresses: ReadonlyArray<string> } = JSON.parse(line)
  return said
})

/** Starts an island, which has registered its sessions and joined them when this returns. */
const start = Effect.fnUntraced(function* (
  lab: Lab.LabService,
  host: Lab.Host,
  mode: "inform" | "announce",
  uri: string,
  name: string
) {
  const island = yield* lab.spawn(host, process.execPath, [path("island-agent.ts"), mode, uri, name])
  for (const role of ["scene", "content"]) {
    yield* island.awaitLine(`registered ${role} with 1 member`, { timeout: "20 seconds" })
  }
  return { island, ...(yield* postcardWith(island, external)) }
})

const awaitFound = Effect.fnUntraced(function* (finder: LabProcess.LabProcess, address: string, seconds: number) {
  const line = yield* finder.awaitLine((text) => text.includes('"gate"') && text.includes(`"${address}`), {
    timeout: { seconds }
  })
  return JSON.parse(line)
})

/** With another mask the new address does not go with the old one. */
const changeExternalAddress = Effect.fnUntraced(function* (lab: Lab.LabService) {
  yield* lab.exec("router", "ip", ["addr", "add", "11.22.33.9/32", "dev", "wan0"])
  yield* Effect.sleep("1 second")
  yield* lab.exec("router", "ip", ["addr", "del", `${lab.addresses.external}/24`, "dev", "wan0"])
  yield* lab.exec("router", "ip", ["route", "add", "11.22.33.0/24", "dev", "wan0"])
})

/** Seconds between two of the daemon's announcements over UPnP, which the dispatcher may have to wait for. */
const notifyInterval = 8

// Only where it speaks UPnP as well the daemon looks after its address, and says so over PCP.
const routers = { pcp: { daemon: {}, limit: 10 }, upnp: { daemon: daemons.upnp, limit: notifyInterval + 5 } }

for (const strategy of ["upnp", "pcp"] as const) {
  const { daemon, limit } = routers[strategy]

  labSuite(`islands that are on other hosts than their router (${strategy})`, () => {
    it.live(
      `register, look up, join and talk; a new external address is told within ${limit} seconds, and joined by`,
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: { ...daemon, notifyInterval, externalAddress: false } })
          const { manage, observe, server } = yield* serve(lab, strategy)
          const finder = yield* lab.spawn("router", process.execPath, [bin, "find", "--json"])

          const world = yield* start(lab, "wan", "inform", manage, "world")
          assert.deepStrictEqual(world.addresses, [external])
          const yard = yield* start(lab, "router", "inform", manage, "yard")
          assert.deepStrictEqual(yard.addresses, [internal, external])
          const gate = yield* start(lab, "router", "announce", manage, "gate")
          const found = yield* awaitFound(finder, external, 6)
          assert.strictEqual(found.event, "found")
          assert.strictEqual(found.contactPoint.viewpoint, "plaza")
          assert.deepStrictEqual(
            found.contactPoint.sessions.map(({ role }: { role: string }) => role),
            ["scene", "content"]
          )

          const first = yield* call(lab, yard.postcard, yard.island, { host: "lan", name: "a guest" })
          assert.strictEqual(first.told.came, internal)
          for (const { island, postcard } of [world, yard, gate]) {
            const guest = yield* visit(lab, postcard, island, { host: "wan", name: "an outsider" })
            assert.strictEqual(guest.came, external)
          }

          yield* changeExternalAddress(lab)
          const told = yield* Effect.all(
            [
              postcardWith(yard.island, "11.22.33.9:", limit),
              postcardWith(gate.island, "11.22.33.9:", limit),
              awaitFound(finder, "11.22.33.9:", limit + 1)
            ],
            { concurrency: "unbounded" }
          )
          assert.strictEqual(told[2].event, "changed")
          const moved = told[0].addresses[1] ?? ""
          assert.deepStrictEqual(told[0].addresses, [internal, moved])
          assert.deepStrictEqual(told[1].addresses, [internal, moved])

          const late = { host: "wan", name: "a newcomer", via: moved } as const
          assert.deepStrictEqual(yield* visit(lab, observe, server, late), { addresses: [moved], came: moved })
          for (const [index, { island }] of [yard, gate].entries()) {
            const postcard = told[index]?.postcard ?? ""
            const guest = yield* visit(lab, postcard, island, { host: "wan", name: "a latecomer" })
            assert.strictEqual(guest.came, moved)
          }
          // Who was there all the time has noticed nothing but them.
          yield* first.visitor.awaitLine("scene: hello from a latecomer")
          yield* first.visitor.awaitLine("content: hello from a latecomer")
          assert.notInclude(yield* first.visitor.stdout, "ended")
        }),
      120_000
    )
  })
}
