/**
 * A dispatcher whose islands are all elsewhere, by the program alone: `serve --control`, `remote` and `join`.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Lab from "./Lab.ts"
import { bin } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const serve = Effect.fnUntraced(function* (lab: Lab.LabService, flags: string) {
  const words = ["serve", "--json", "--external-port", "12001", "--control", ...flags.split(" ")]
  const server = yield* lab.spawn("lan", process.execPath, [bin, ...words])
  const serving = JSON.parse(yield* server.awaitLine('"event":"serving"', { timeout: "20 seconds" }))
  return String(serving.control)
})

const program = (lab: Lab.LabService, host: Lab.Host, words: ReadonlyArray<string>) =>
  lab.spawn(host, process.execPath, [bin, ...words])

const remote = (lab: Lab.LabService, host: Lab.Host, control: string, words: ReadonlyArray<string>) =>
  Effect.map(lab.exec(host, process.execPath, [bin, "remote", control, ...words, "--json"]), (text) => JSON.parse(text))

/** The same by the internal address: the router itself could take the external one for its own. */
const internally = (uri: string): string =>
  ContactPointUri.format(ContactPoint.make({ ...Result.getOrThrow(ContactPointUri.fromString(uri)), external: [] }))

labSuite("effect-nat remote", () => {
  it.live(
    "registers at a dispatcher elsewhere, looks up, and follows it to another external address while members talk",
    () =>
      Effect.gen(function* () {
        // The daemon looks after its address only where it speaks UPnP as well.
        const lab = yield* Lab.make({ daemon: { externalAddress: false, notifyInterval: 8 } })
        const control = yield* serve(lab, "--strategy pcp --no-beacon")
        const near = internally(control)

        // The island on the wan host registers; that on the router looks it up, and makes the postcards.
        const registered = yield* remote(lab, "wan", control, ["register", "--role", "scene"])
        const [session = ""] = String(registered.invitation).split(".")
        const found = yield* remote(lab, "router", near, ["lookup", session])
        assert.deepStrictEqual(found, { id: session, role: "scene", members: 0 })
        const watching = yield* program(lab, "router", ["remote", near, "watch", "--json"])
        const seen = JSON.parse(yield* watching.awaitLine('"event":"contactPoint"', { timeout: "15 seconds" }))
        assert.deepStrictEqual(seen.addresses, ["11.22.33.1:12001", "192.168.77.2:12000"])

        const join = Effect.fnUntraced(function* (host: Lab.Host, uri: string) {
          const member = yield* program(lab, host, ["join", uri, "--session", "scene", "--json"])
          yield* member.awaitLine('"event":"joined"', { timeout: "20 seconds" })
          return member
        })
        const one = yield* join("router", seen.uri)
        const two = yield* join("wan", registered.uri)
        yield* two.write("from the world\n")
        yield* one.awaitLine('"text":"from the world"', { timeout: "20 seconds" })
        yield* one.write("from the router\n")
        yield* two.awaitLine('"text":"from the router"', { timeout: "20 seconds" })
        yield* watching.awaitLine('"members":2', { timeout: "10 seconds" })

        yield* Effect.sleep("5 seconds")
        yield* lab.exec("router", "ip", ["addr", "add", "11.22.33.9/32", "dev", "wan0"])
        yield* Effect.sleep("1 second")
        yield* lab.exec("router", "ip", ["addr", "del", `${lab.addresses.external}/24`, "dev", "wan0"])
        yield* lab.exec("router", "ip", ["route", "add", "11.22.33.0/24", "dev", "wan0"])
        yield* one.write("still here\n")
        yield* one.awaitLine('"text":"still here"', { timeout: "10 seconds" })
        const moved = JSON.parse(yield* watching.awaitLine('"11.22.33.9:', { timeout: "12 seconds" }))
        assert.strictEqual(moved.event, "contactPoint")
        const postcard = Result.getOrThrow(ContactPointUri.fromString(String(moved.uri)))
        assert.deepStrictEqual(
          postcard.external.map(({ address }) => NetAddress.formatIp(address.address)),
          ["11.22.33.9"]
        )
        const three = yield* join("wan", moved.uri)
        yield* three.write("by the new address\n")
        yield* one.awaitLine('"text":"by the new address"', { timeout: "20 seconds" })
      }),
    120_000
  )
})
