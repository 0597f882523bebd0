/**
 * Which address for whom: a dispatcher behind the real router, asked and joined from everywhere.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Lab from "./Lab.ts"
import type * as LabProcess from "./LabProcess.ts"
import { bin, daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"
import * as Neighbour from "./Neighbour.ts"

const inside = "192.168.77.2:12000"
const outside = "11.22.33.1:12001"

/** The router translates both ends of what the lan sends to its external address: both hosts see the router. */
const hairpin = `
insert rule inet lab forward iifname "lan0" oifname "lan0" ct status dnat accept
insert rule inet lab prerouting iifname "lan0" ip daddr 11.22.33.1 tcp dport 12001 dnat ip to 192.168.77.2:12000
insert rule inet lab postrouting oifname "lan0" ip daddr 192.168.77.2 ct status dnat ip saddr 192.168.77.0/24 snat ip to 11.22.33.1
`

const forwarder = `
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen dispatcher
  bind 192.168.77.2:13000
  server own 127.0.0.1:12010 send-proxy-v2
`

/** The same contact point at other addresses. */
const at = (uri: string, ...addresses: ReadonlyArray<string>): string =>
  ContactPointUri.format(
    ContactPoint.make({
      ...Result.getOrThrow(ContactPointUri.fromString(uri)),
      internal: [],
      external: addresses.map(
        (address) =>
          new ContactPoint.ExternalAddress({
            address: NetAddress.inetAddressFromStringUnsafe(address),
            verification: "configured"
          })
      )
    })
  )

/** A place from which programs are run. */
interface Place {
  readonly spawn: (args: ReadonlyArray<string>) => ReturnType<typeof LabProcess.spawn>
  readonly exec: (args: ReadonlyArray<string>) => ReturnType<typeof LabProcess.exec>
}

const onHost = (lab: Lab.LabService, host: Lab.Host): Place => ({
  spawn: (args) => lab.spawn(host, process.execPath, [bin, ...args]),
  exec: (args) => lab.exec(host, process.execPath, [bin, ...args])
})

const beside = (neighbour: Neighbour.Neighbour): Place => ({
  spawn: (args) => neighbour.spawn(process.execPath, [bin, ...args]),
  exec: (args) => neighbour.exec(process.execPath, [bin, ...args])
})

/** What the dispatcher tells whoever asks from a place. */
const ask = Effect.fnUntraced(function* (place: Place, control: string) {
  const seen = JSON.parse(yield* place.exec(["remote", control, "contact-point", "--json"]))
  return { addresses: seen.addresses as ReadonlyArray<string>, uri: String(seen.uri) }
})

/** Joins both sessions by what was told, and is heard in each. */
const joinBoth = Effect.fnUntraced(function* (
  place: Place,
  uri: string,
  listeners: Readonly<Record<"scene" | "content", LabProcess.LabProcess>>,
  word: string
) {
  for (const role of ["scene", "content"] as const) {
    const member = yield* place.spawn(["join", uri, "--session", role, "--json"])
    yield* member.write(`${word} in ${role}\n`)
    yield* listeners[role].awaitLine(`"text":"${word} in ${role}"`, { timeout: "20 seconds" })
    yield* member.awaitLine(`"text":"${word} in ${role}"`, { timeout: "10 seconds" })
    yield* member.signal("SIGINT")
    yield* member.awaitExit()
  }
})

for (const strategy of ["upnp", "pcp"] as const) {
  labSuite(
    `a contact point (--strategy ${strategy})`,
    () => {
      it.live(
        "has the right addresses for the world, the lan, the router, a hairpin and a forwarder, which join by them",
        () =>
          Effect.gen(function* () {
            const lab = yield* Lab.make({ daemon: daemons[strategy] })
            const neighbour = yield* Neighbour.make(lab)
            yield* lab.exec("router", "nft", ["-f", "-"], { stdin: hairpin })
            const words = `serve --json --strategy ${strategy} --external-port 12001 --role scene --name island`
            const more = "--viewpoint plaza --control --no-beacon --forwarder-port 12010"
            const server = yield* lab.spawn("lan", process.execPath, [bin, ...`${words} ${more}`.split(" ")])
            const serving = JSON.parse(yield* server.awaitLine('"event":"serving"', { timeout: "20 seconds" }))
            const control = String(serving.control)
            const own = onHost(lab, "lan")

            // The page's two islands: one contact point is the way to both.
            yield* own.exec(["remote", control, "register", "--role", "content"])
            const island = yield* ask(own, control)
            const postcard = Result.getOrThrow(ContactPointUri.fromString(island.uri))
            assert.deepStrictEqual(
              postcard.sessions.map(({ role }) => role),
              ["scene", "content"]
            )
            assert.deepStrictEqual([postcard.name, postcard.viewpoint], ["island", "plaza"])
            assert.isUndefined(postcard.control)
            assert.deepStrictEqual(island.addresses, [inside])
            const listener = (role: string) => own.spawn(["join", island.uri, "--session", role, "--json"])
            const listeners = { scene: yield* listener("scene"), content: yield* listener("content") }

            const wan = yield* ask(onHost(lab, "wan"), control)
            assert.deepStrictEqual(wan.addresses, [outside])
            yield* joinBoth(onHost(lab, "wan"), wan.uri, listeners, "world")

            const lan = yield* ask(beside(neighbour), control)
            assert.deepStrictEqual(lan.addresses, [inside])
            yield* joinBoth(beside(neighbour), lan.uri, listeners, "lan")

            const router = yield* ask(onHost(lab, "router"), at(control, inside))
            assert.deepStrictEqual(router.addresses, [outside, inside])
            yield* joinBoth(onHost(lab, "router"), router.uri, listeners, "router")

            const back = yield* ask(beside(neighbour), at(control, outside))
            assert.deepStrictEqual(back.addresses, [inside, outside])
            yield* joinBoth(beside(neighbour), back.uri, listeners, "hairpin")

            const file = Path.join(lab.directory, "haproxy.cfg")
            Fs.writeFileSync(file, forwarder)
            yield* lab.spawn("lan", "haproxy", ["-db", "-f", file])
            const mapping = yield* own.spawn(["map", "13000", "--strategy", strategy])
            yield* mapping.awaitLine(/^mapped /, { timeout: "15 seconds" })
            const forwarded = yield* ask(onHost(lab, "wan"), at(control, "11.22.33.1:13000"))
            assert.deepStrictEqual(forwarded.addresses, [outside])
            yield* joinBoth(onHost(lab, "wan"), forwarded.uri, listeners, "forwarded")
            const near = yield* ask(beside(neighbour), at(control, "192.168.77.2:13000"))
            assert.deepStrictEqual(near.addresses, [inside])
            // Through the forwarder too, and not only by what it is told.
            yield* joinBoth(onHost(lab, "wan"), at(forwarded.uri, "11.22.33.1:13000"), listeners, "through it")

            // A member from the world has come through the external address.
            const known = Result.getOrThrow(ContactPointUri.fromString((yield* ask(onHost(lab, "wan"), control)).uri))
            assert.deepStrictEqual(
              known.external.map(({ verification }) => verification),
              ["confirmed"]
            )
          }),
        240_000
      )
    },
    ["haproxy"]
  )
}
