/**
 * The LAN beacon on real networks: programs of different hosts find and lose each other, and what goes over the wire.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import type * as LabProcess from "./LabProcess.ts"
import { bin } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const agent = fileURLToPath(new URL("./beacon-agent.ts", import.meta.url))

const sessions = { lan: "000102030405060708090a0b0c0d0e0f", router: "202122232425262728292a2b2c2d2e2f" }

const announce = Effect.fnUntraced(function* (lab: Lab.LabService, host: Lab.Host, name: string, args: string) {
  const process_ = yield* lab.spawn(host, process.execPath, [agent, name, ...args.split(" ")])
  yield* process_.awaitLine("announcing")
  return process_
})

const find = (lab: Lab.LabService, host: Lab.Host, ...args: ReadonlyArray<string>) =>
  lab.spawn(host, process.execPath, [bin, "find", ...args])

/** The line of an event of a name, and when it was there, in milliseconds since 1970. */
const awaitEvent = Effect.fnUntraced(function* (
  finder: LabProcess.LabProcess,
  event: "found" | "changed" | "lost",
  name: string,
  seconds: number
) {
  const line = yield* finder.awaitLine(
    (text) => text.includes(`"event":"${event}"`) && text.includes(`"name":"${name}"`),
    {
      timeout: `${seconds} seconds`
    }
  )
  return { ...JSON.parse(line), at: Date.now() }
})

/** A machine that is busy may be late by so much, in milliseconds, beside the second that the times have. */
const slack = 1000

labSuite("the LAN beacon", () => {
  it.live(
    "finds programs of other hosts within 6 seconds, both on one port, and loses them: killed within 16, ended at once",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const capture = yield* lab.capture("lan", "udp port 43215")
        // Several programs of one host hear the same: the kernel gives a broadcast to all that share the port.
        const finders = yield* Effect.all([
          find(lab, "lan", "--json"),
          find(lab, "lan", "--json"),
          find(lab, "router", "--json")
        ])
        const house = yield* announce(lab, "lan", "house", `192.168.77.2:12000 ${sessions.lan}`)
        const startedAt = Date.now()
        const gate = yield* announce(lab, "router", "gate", `192.168.77.1:12000 ${sessions.router}`)
        for (const finder of finders) {
          const found = yield* awaitEvent(finder, "found", "house", 10)
          assert.isAtMost(found.at - startedAt, 6000 + slack)
          assert.strictEqual(found.format, "extended")
          assert.strictEqual(found.source, "192.168.77.2")
          assert.deepStrictEqual(found.contactPoint.internal, ["192.168.77.2:12000"])
          assert.deepStrictEqual(found.contactPoint.sessions, [{ id: sessions.lan, role: "scene", capabilities: [] }])
          assert.match(found.uri, /^effect-nat:/)
          assert.deepStrictEqual((yield* awaitEvent(finder, "found", "gate", 10)).contactPoint.internal, [
            "192.168.77.1:12000"
          ])
        }
        yield* Effect.sleep("6 seconds")

        yield* gate.signal("SIGTERM")
        yield* gate.awaitExit()
        const endedAt = Date.now()
        yield* house.signal("SIGKILL")
        yield* house.awaitExit()
        const killedAt = Date.now()
        for (const finder of finders) {
          assert.isAtMost((yield* awaitEvent(finder, "lost", "gate", 5)).at - endedAt, slack)
        }
        for (const finder of finders) {
          const lost = yield* awaitEvent(finder, "lost", "house", 20)
          assert.isAtMost(lost.at - killedAt, 16_000 + slack)
          assert.isAtLeast(lost.at - Date.parse(lost.lastSeen), 15_000)
          // Nothing else was told: neither the old packets beside the new ones, nor anything twice.
          assert.lengthOf((yield* finder.stdout).trim().split("\n"), 4)
        }

        const packets = (yield* capture.packets).filter(({ sourceAddress }) => sourceAddress === "192.168.77.2")
        assert.isAtLeast(packets.length, 4)
        for (const { destinationAddress, destinationPort } of packets) {
          assert.deepStrictEqual([destinationAddress, destinationPort], ["192.168.77.255", 43_215])
        }
        const texts = packets.map(({ payload }) => Buffer.from(payload).toString("latin1"))
        // "CRQT", the port 12000 in two bytes, 32 characters of id, the name.
        assert.strictEqual(
          texts.filter((text) => text === `CRQT\u002E\u00E0${sessions.lan}house`).length,
          texts.length / 2
        )
        assert.strictEqual(
          texts.filter((text) => text.startsWith("\u008ELAN\u0001\u0000\u002E\u00E0\u0001\u0001\u0000\u0005house"))
            .length,
          texts.length / 2
        )
      }),
    90_000
  )

  it.live(
    "hears a program that knows the old packet only",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const finder = yield* find(lab, "lan")
        const old = `
          const socket = require("node:dgram").createSocket("udp4")
          socket.bind(0, "192.168.77.1", () => {
            socket.setBroadcast(true)
            const packet = Buffer.from("CRQT\\u002e\\u00e0${sessions.router.toUpperCase()}a\\u001b", "latin1")
            setInterval(() => socket.send(packet, 43215, "192.168.77.255"), 500)
          })`
        yield* lab.spawn("router", process.execPath, ["-e", old])
        const line = yield* finder.awaitLine("found ")
        assert.strictEqual(
          line,
          `found a?: internal 192.168.77.1:12000; external unknown; sessions ${sessions.router} (old format)`
        )
      }),
    60_000
  )
})

labSuite("effect-nat find", () => {
  it.live(
    "ends after its time with what it found, or with a word that there was nothing",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const nothing = yield* lab.run("lan", process.execPath, [bin, "find", "--for", "1s"])
        assert.deepStrictEqual(
          [nothing.exitCode, nothing.stdout, nothing.stderr],
          [0, "nothing on this network announces itself\n", ""]
        )
        yield* announce(lab, "router", "gate", `192.168.77.1:12000 ${sessions.router}`)
        const found = yield* lab.run("lan", process.execPath, [bin, "find", "--for", "6s"])
        assert.deepStrictEqual(
          [found.exitCode, found.stdout, found.stderr],
          [0, "found gate: internal 192.168.77.1:12000; external unknown; sessions scene\n", ""]
        )
        const nobody = yield* lab.run("lan", process.execPath, [bin, "find", "--json", "--for", "1s"])
        assert.deepStrictEqual([nobody.exitCode, nobody.stdout, nobody.stderr], [0, "", ""])
      }),
    60_000
  )

  it.live(
    "keeps one table on a terminal",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        yield* announce(lab, "router", "gate", `192.168.77.1:12000 ${sessions.router}`)
        const command = `"${process.execPath}" "${bin}" find --for 6s`
        const { exitCode, stdout } = yield* lab.run("lan", "script", ["-qec", command, "/dev/null"], {
          env: { TERM: "xterm" }
        })
        assert.strictEqual(exitCode, 0)
        const [first = "", second = "", ...more] = stdout.split("\u001B[1A\u001B[0J")
        assert.include(first, "nothing on this network announces itself")
        assert.match(
          second,
          /Name +Internal +External +Sessions +Format\r\ngate +192\.168\.77\.1:12000 +- +scene +extended/
        )
        assert.deepStrictEqual(more, [])
      }),
    60_000
  )

  it.live(
    "says in one line that its port is held by a program that does not share it",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const script = `require("node:dgram").createSocket("udp4").bind(43215, () => console.log("bound"))`
        const holder = yield* lab.spawn("lan", process.execPath, ["-e", script])
        yield* holder.awaitLine("bound")
        const ended = yield* lab.run("lan", process.execPath, [bin, "find"])
        assert.match(ended.stderr, /^effect-nat: UDP port 43215 is in use on this host by a program .*\n$/)
        assert.deepStrictEqual([ended.exitCode, ended.stdout], [1, ""])
        const json = yield* lab.run("lan", process.execPath, [bin, "find", "--json"])
        assert.strictEqual(JSON.parse(json.stdout).error, "PortInUse")
      }),
    60_000
  )
})
