/**
 * Which addresses for whom, behind the real router: somebody in each place asks a dispatcher for its contact point, gets
 * the addresses that help there in the order in which to try them, and joins by them.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Fs from "node:fs/promises"
import { join } from "node:path"
import { path, serve, visit } from "./contact-point-lab.ts"
import * as Lab from "./Lab.ts"
import { daemons } from "./LabProgram.ts"
import { labSuite, suiteNeeding } from "./LabSuite.ts"

const internal = "192.168.77.2:12000"
const external = "11.22.33.1:12001"

const hairpin = { externalPort: 12001, internalPort: 12000 }

for (const strategy of ["upnp", "pcp"] as const) {
  labSuite(`a contact point (${strategy})`, () => {
    it.live(
      "has for each place the addresses that help there, and they do",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy], neighbour: true, hairpin })
          const { observe, server } = yield* serve(lab, strategy)
          const from = (name: string, host: Lab.Host, via?: string) =>
            visit(lab, observe, server, via === undefined ? { host, name } : { host, name, via })

          assert.deepStrictEqual(yield* from("the world", "wan"), { addresses: [external], came: external })
          assert.deepStrictEqual(yield* from("this host", "lan"), { addresses: [internal], came: internal })
          assert.deepStrictEqual(yield* from("this lan", "neighbour"), { addresses: [internal], came: internal })
          // It tries the external address first, and is no outsider: the mapping is for what comes from there.
          assert.deepStrictEqual(yield* from("the router", "router"), {
            addresses: [external, internal],
            came: internal
          })
          assert.deepStrictEqual(yield* from("a detour", "neighbour", external), {
            addresses: [internal, external],
            came: internal
          })
        }),
      90_000
    )

    it.live(
      "names of a host's addresses the one that was called, to whoever is on its network",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy], neighbour: true })
          yield* lab.exec("lan", "ip", ["addr", "add", "10.9.9.2/24", "dev", "eth0"])
          yield* lab.exec("neighbour", "ip", ["addr", "add", "10.9.9.3/24", "dev", "eth0"])
          const { observe, server } = yield* serve(lab, strategy)
          for (const called of [internal, "10.9.9.2:12000"]) {
            const neighbour = yield* visit(lab, observe, server, { host: "neighbour", name: called, via: called })
            assert.deepStrictEqual(neighbour, { addresses: [called], came: called })
          }
          const own = yield* visit(lab, observe, server, { host: "lan", name: "this host" })
          assert.deepStrictEqual(own, { addresses: [internal, "10.9.9.2:12000"], came: internal })
        }),
      60_000
    )

    it.live(
      "on one postcard brings a visitor into both sessions of an island",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy] })
          const { postcard, server } = yield* serve(lab, strategy)
          for (const host of ["wan", "lan"] as const) {
            const visitor = yield* visit(lab, postcard, server, { host, name: host })
            assert.deepStrictEqual(visitor, {
              addresses: [internal, external],
              came: host === "wan" ? external : internal
            })
          }
        }),
      60_000
    )
  })
}

/** Has the router pass what comes in at a port of its external address on to the same port of the lan host. */
const openPort = Effect.fnUntraced(function* (lab: Lab.LabService, port: number) {
  const nft = (rule: string) => lab.exec("router", "nft", rule.split(" "))
  yield* nft(`insert rule inet lab prerouting iifname wan0 tcp dport ${port} dnat ip to ${lab.addresses.lan}`)
  yield* nft(`insert rule inet lab forward iifname wan0 tcp dport ${port} accept`)
})

const listens = (lab: Lab.LabService, host: Lab.Host, port: number) =>
  Effect.repeat(lab.exec(host, "ss", ["-ltnH", `sport = :${port}`]), {
    until: (sockets) => sockets !== "",
    schedule: Schedule.spaced("50 millis")
  }).pipe(Effect.timeout("10 seconds"))

const forwarded = "11.22.33.1:12011"

const haproxyConfig = (forwarder: number): string => `
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen island
  bind 0.0.0.0:12011
  server dispatcher 127.0.0.1:${forwarder} send-proxy-v2
`

suiteNeeding(
  { who: "the lab", missing: Effect.runSync(Lab.missingWith(["haproxy"])) },
  "a contact point behind a forwarder",
  () => {
    for (const strategy of ["upnp", "pcp"] as const) {
      it.live(
        `has the external addresses for whom haproxy forwards from outside, and the internal ones inside (${strategy})`,
        () =>
          Effect.gen(function* () {
            const lab = yield* Lab.make({ daemon: daemons[strategy], neighbour: true })
            const { forwarder, observe, server } = yield* serve(lab, strategy)
            const file = join(lab.directory, "haproxy.cfg")
            yield* Effect.promise(() => Fs.writeFile(file, haproxyConfig(forwarder)))
            yield* lab.spawn("lan", "haproxy", ["-db", "-f", file])
            yield* listens(lab, "lan", 12011)
            yield* openPort(lab, 12011)
            const outside = yield* visit(lab, observe, server, { host: "wan", name: "the world", via: forwarded })
            assert.deepStrictEqual(outside, { addresses: [external], came: external })
            // Forwarded as well, and known for the neighbour that it is.
            const inside = { host: "neighbour", name: "this lan", via: "192.168.77.2:12011" } as const
            assert.deepStrictEqual(yield* visit(lab, observe, server, inside), {
              addresses: [internal],
              came: internal
            })
          }),
        60_000
      )

      it.live(
        `has the external addresses alone for whom a forwarder says nothing of (${strategy})`,
        () =>
          Effect.gen(function* () {
            const lab = yield* Lab.make({ daemon: daemons[strategy], hairpin })
            const { forwarder, observe, server } = yield* serve(lab, strategy)
            const words = [path("forwarder-agent.mjs"), "12011", `${forwarder}`]
            yield* Effect.flatMap(lab.spawn("lan", process.execPath, words), (relay) => relay.awaitLine("listening"))
            // Whoever gets to where forwarded connections come in could pass for anybody.
            assert.strictEqual(yield* lab.tcpProbe("router", lab.addresses.lan, forwarder), "refused")
            yield* openPort(lab, 12011)
            const outside = yield* visit(lab, observe, server, { host: "wan", name: "the world", via: forwarded })
            assert.deepStrictEqual(outside, { addresses: [external], came: external })
            // Whoever it was: here somebody on the dispatcher's own host.
            const inside = { host: "lan", name: "this host", via: "127.0.0.1:12011" } as const
            assert.deepStrictEqual(yield* visit(lab, observe, server, inside), {
              addresses: [external],
              came: external
            })
          }),
        60_000
      )
    }
  }
)
