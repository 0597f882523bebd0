import { assert, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Lab from "./Lab.ts"
import { type LabError } from "./LabError.ts"
import * as LabProcess from "./LabProcess.ts"
import { labSuite } from "./LabSuite.ts"

const internal = 12000
const external = 12001

/** What is left on the machine of a lab: the names of its namespaces, and its directory. */
const traces = (lab: Lab.LabService): ReadonlyArray<string> => [
  ...readdirSync("/run/netns").filter((name) => name.includes(lab.id)),
  ...(existsSync(lab.directory) ? [lab.directory] : [])
]

/** A zombie that nobody has reaped yet does not run. */
const isRunning = (pid: number): boolean =>
  existsSync(`/proc/${pid}/stat`) && !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))

/** Does the wan host get through to the lan host? */
const reach = (lab: Lab.LabService, port: number) =>
  Effect.all(
    {
      tcp: lab.tcpProbe("wan", lab.addresses.external, port),
      udp: lab.udpProbe("wan", lab.addresses.external, port)
    },
    { concurrency: 2 }
  )

const echoes = (lab: Lab.LabService) => Effect.all([lab.tcpEcho("lan", internal), lab.udpEcho("lan", internal)])

const mapped = (lab: Lab.LabService): ReadonlyArray<Lab.Mapping> =>
  (["tcp", "udp"] as const).map((protocol) => ({
    protocol,
    externalPort: external,
    internalAddress: lab.addresses.lan,
    internalPort: internal
  }))

labSuite("Lab", () => {
  it.live(
    "lets nobody in from the wan, and everybody out from the lan",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        yield* echoes(lab)
        yield* lab.tcpEcho("wan", 7777)
        yield* lab.udpEcho("wan", 7777)
        assert.deepStrictEqual(yield* reach(lab, internal), { tcp: "refused", udp: "refused" })
        assert.strictEqual(yield* lab.tcpProbe("lan", lab.addresses.wan, 7777), "reachable")
        assert.strictEqual(yield* lab.udpProbe("lan", lab.addresses.wan, 7777), "reachable")
        // Not even with a route to the lan does a packet get through.
        yield* lab.exec("wan", "ip", ["route", "add", "192.168.77.0/24", "via", lab.addresses.external])
        assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.lan, internal, { timeout: 500 }), "silent")
        assert.strictEqual(yield* lab.udpProbe("wan", lab.addresses.lan, internal, { timeout: 500 }), "silent")
        assert.deepStrictEqual(yield* lab.mappings, [])
        assert.strictEqual((yield* Effect.flip(lab.daemon)).detail, "no daemon is running")
      }),
    15_000
  )

  it.live(
    "opens and closes with upnpc",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { natpmp: false } })
        yield* echoes(lab)
        const location = yield* lab.location
        const upnpc = (...args: ReadonlyArray<string>) => lab.exec("lan", "upnpc", ["-u", location, ...args])
        assert.deepStrictEqual(yield* reach(lab, external), { tcp: "refused", udp: "refused" })

        yield* upnpc("-a", lab.addresses.lan, `${internal}`, `${external}`, "tcp", "3600")
        yield* upnpc("-a", lab.addresses.lan, `${internal}`, `${external}`, "udp", "3600")
        assert.deepStrictEqual(yield* lab.mappings, mapped(lab))
        assert.deepStrictEqual(yield* reach(lab, external), { tcp: "reachable", udp: "reachable" })

        yield* upnpc("-d", `${external}`, "tcp")
        yield* upnpc("-d", `${external}`, "udp")
        assert.deepStrictEqual(yield* lab.mappings, [])
        assert.deepStrictEqual(yield* reach(lab, external), { tcp: "refused", udp: "refused" })
      }),
    15_000
  )

  it.live(
    "is found by upnpc over multicast",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { natpmp: false } })
        const status = yield* lab.exec("lan", "upnpc", ["-s"])
        assert.include(status, `ExternalIPAddress = ${lab.addresses.external}`)
        assert.include(status, yield* lab.location)
      }),
    15_000
  )

  it.live(
    "opens and closes with natpmpc",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: { upnp: false } })
        yield* echoes(lab)
        const natpmpc = (...args: ReadonlyArray<string>) =>
          lab.exec("lan", "natpmpc", ["-g", lab.addresses.gateway, ...args])
        assert.deepStrictEqual(yield* reach(lab, external), { tcp: "refused", udp: "refused" })

        yield* natpmpc("-a", `${external}`, `${internal}`, "tcp", "3600")
        yield* natpmpc("-a", `${external}`, `${internal}`, "udp", "3600")
        assert.deepStrictEqual(yield* lab.mappings, mapped(lab))
        assert.deepStrictEqual(yield* reach(lab, external), { tcp: "reachable", udp: "reachable" })

        yield* natpmpc("-a", "0", `${internal}`, "tcp", "0")
        yield* natpmpc("-a", "0", `${internal}`, "udp", "0")
        assert.deepStrictEqual(yield* lab.mappings, [])
        assert.deepStrictEqual(yield* reach(lab, external), { tcp: "refused", udp: "refused" })
        assert.strictEqual((yield* Effect.flip(lab.location)).detail, "it speaks no UPnP")
      }),
    15_000
  )

  it.live(
    "says no where its permissions do",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({
          daemon: { permissions: [`deny ${external} 0.0.0.0/0 0-65535`, "allow 0-65535 192.168.77.0/24 0-65535"] },
          unsolicited: "drop"
        })
        yield* echoes(lab)
        const add = (port: number) =>
          lab.run("lan", "natpmpc", ["-g", lab.addresses.gateway, "-a", `${port}`, `${internal}`, "tcp", "3600"])
        yield* add(external)
        yield* add(external + 9)
        const ports = (yield* lab.mappings).map((mapping) => mapping.externalPort)
        assert.notInclude(ports, external)
        assert.include(ports, external + 9)
        assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, external, { timeout: 400 }), "silent")
      }),
    15_000
  )

  it.live(
    "starts its daemon again, with and without its memory",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make()
        const request = ["-a", `${external}`, `${internal}`, "tcp", "3600"]
        const natpmpc = lab.exec("lan", "natpmpc", ["-g", lab.addresses.gateway, ...request])
        yield* natpmpc
        const before = yield* lab.daemon

        yield* lab.restartDaemon({ keepLeases: true })
        assert.isFalse(isRunning(before.pid))
        assert.deepStrictEqual(yield* lab.mappings, mapped(lab).slice(0, 1))

        yield* lab.restartDaemon()
        assert.deepStrictEqual(yield* lab.mappings, [])

        yield* natpmpc
        yield* lab.stopDaemon({ goodbye: true })
        assert.deepStrictEqual(yield* lab.mappings, [])
        const alone = yield* lab.run("lan", "upnpc", ["-u", "http://192.168.77.1:1/rootDesc.xml", "-s"])
        assert.notStrictEqual(alone.exitCode, 0)

        yield* lab.restartDaemon({ daemon: { upnp: false } })
        yield* natpmpc
        assert.strictEqual((yield* lab.mappings).length, 1)
      }),
    20_000
  )

  it.live(
    "tells why a daemon does not start",
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.scoped(Lab.make({ wanPrefix: "192.0.2" })))
        assert.strictEqual(error._tag, "LabError")
        assert.include(error.message, "ended with 1")
        assert.include(error.message, "192.0.2.1")
      }),
    15_000
  )

  it.live(
    "captures packets and loses them",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        yield* lab.udpEcho("wan", 7777)
        const wide = yield* lab.capture("router", "udp port 7777", { side: "wan" })
        const narrow = yield* lab.capture("lan", "udp port 7777")
        assert.strictEqual(yield* lab.udpProbe("lan", lab.addresses.wan, 7777, { sourcePort: 6000 }), "reachable")

        const inside = yield* narrow.packets
        assert.deepStrictEqual(
          inside.map((packet) => packet.sourceAddress),
          [lab.addresses.lan, lab.addresses.wan]
        )
        assert.deepStrictEqual(inside[0]?.payload, inside[1]?.payload)
        assert.strictEqual(inside[0]?.payload.length, 36)
        assert.deepStrictEqual(
          inside.map((packet) => packet.ttl),
          [64, 63]
        )
        const [outside] = yield* wide.packets
        assert.deepInclude(outside, {
          protocol: "udp",
          sourceAddress: lab.addresses.external,
          sourcePort: 6000,
          destinationAddress: lab.addresses.wan,
          destinationPort: 7777
        })
        assert.include(yield* narrow.text, "192.168.77.2.6000 > 11.22.33.2.7777: UDP, length 36")

        yield* lab.drop(100)
        assert.strictEqual(yield* lab.udpProbe("lan", lab.addresses.wan, 7777, { timeout: 400 }), "silent")
        yield* lab.drop(0)
        assert.strictEqual(yield* lab.udpProbe("lan", lab.addresses.wan, 7777), "reachable")
      }),
    15_000
  )

  it.live(
    "loses about the part it is told to, and captures a burst whole",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const sent = yield* lab.capture("lan", "udp port 9")
        const arrived = yield* lab.capture("wan", "udp port 9")
        yield* lab.drop(30, "wan")
        const flood = `const s = require("dgram").createSocket("udp4")
        let n = 0
        const send = () => n++ < 1000 ? s.send("x", 9, "${lab.addresses.wan}", send) : s.close()
        send()`
        yield* lab.exec("lan", process.execPath, ["-e", flood])
        assert.strictEqual((yield* sent.packets).length, 1000)
        const through = (yield* arrived.packets).length
        assert.isTrue(through > 620 && through < 780, `${through} of 1000 packets`)
      }),
    15_000
  )

  it.live(
    "gives signals to the command, and kills its whole group",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const trap = "trap 'echo interrupted; exit 7' INT; echo $$; while :; do sleep 0.02; done"
        const polite = yield* lab.spawn("lan", "bash", ["-c", trap])
        assert.strictEqual(yield* polite.awaitLine(/^\d+$/), `${polite.pid}`)
        yield* polite.signal("SIGINT")
        assert.deepStrictEqual(yield* polite.awaitExit(), { exitCode: 7, signal: undefined })
        assert.include(yield* polite.stdout, "interrupted")

        const scope = yield* Scope.make()
        const stubborn = yield* lab
          .spawn(
            "wan",
            "bash",
            ["-c", "trap '' TERM; (trap '' TERM; while :; do sleep 0.05; done) & echo $!; wait; wait"],
            { killAfter: "100 millis" }
          )
          .pipe(Scope.provide(scope))
        const child = Number(yield* stubborn.awaitLine(/^\d+$/))
        assert.isTrue(isRunning(child))
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* stubborn.exit, { exitCode: undefined, signal: "SIGKILL" })
        assert.isFalse(isRunning(child))

        const talkative = yield* lab.spawn("lan", "cat")
        yield* talkative.write("one\ntwo\n")
        assert.strictEqual(yield* talkative.awaitLine(/./, { occurrence: 2 }), "two")
        const late = yield* Effect.flip(talkative.awaitLine("three", { timeout: 50 }))
        assert.include(late.detail, "did not print three in time:\none\ntwo")
        yield* talkative.write("three")
        yield* talkative.endInput
        assert.strictEqual(yield* talkative.awaitLine("three"), "three")
        assert.include((yield* Effect.flip(talkative.awaitLine("four"))).detail, "ended without four")
      }),
    15_000
  )

  it.live(
    "runs commands in bounded time",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const answer = yield* lab.run("lan", "sh", ["-c", "cat; echo $GREETING >&2; exit 3"], {
          env: { GREETING: "hello" },
          stdin: "read me"
        })
        assert.deepStrictEqual(answer, { exitCode: 3, signal: undefined, stdout: "read me", stderr: "hello\n" })
        assert.include((yield* Effect.flip(lab.run("lan", "sleep", ["60"], { timeout: 100 }))).message, "took longer")
        assert.include((yield* Effect.flip(lab.run("lan", "no-such-command"))).message, "No such file")
        assert.include((yield* Effect.flip(lab.exec("lan", "sh", ["-c", "echo why >&2; exit 4"]))).message, "4: why")
      }),
    15_000
  )

  it.live(
    "leaves nothing behind",
    () =>
      Effect.gen(function* () {
        const scope = yield* Scope.fork(yield* Effect.scope)
        const lab = yield* Lab.make().pipe(Scope.provide(scope))
        const daemon = yield* lab.daemon
        const echo = yield* lab.tcpEcho("wan", 0).pipe(Scope.provide(scope))
        // A process that left its group goes as well. (`pid` in this directory is the daemon's.)
        const leave = "setsid -f sh -c 'echo $$ > hidden; exec sleep 300' > /dev/null 2>&1"
        const wait = "until [ -s hidden ]; do sleep 0.01; done"
        yield* lab.exec("lan", "sh", ["-c", `${leave}; ${wait}`], { cwd: lab.directory })
        const hidden = Number(readFileSync(join(lab.directory, "hidden"), "utf8"))
        const running = () =>
          Object.entries({ daemon: daemon.pid, echo: echo.process.pid, hidden }).flatMap(([name, pid]) =>
            isRunning(pid) ? [name] : []
          )
        assert.deepStrictEqual(running(), ["daemon", "echo", "hidden"])
        assert.strictEqual(traces(lab).length, 4)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(traces(lab), [])
        assert.deepStrictEqual(running(), [])
      }),
    15_000
  )

  it.live(
    "is torn down when the test fails or is interrupted",
    () =>
      Effect.gen(function* () {
        const built = yield* Deferred.make<Lab.LabService, LabError>()
        yield* Effect.exit(
          Effect.scoped(
            Effect.gen(function* () {
              yield* Deferred.into(Lab.make(), built)
              return yield* Effect.die("a test that fails")
            })
          )
        )
        assert.deepStrictEqual(traces(yield* Deferred.await(built)), [])

        const rebuilt = yield* Deferred.make<Lab.LabService, LabError>()
        const fiber = yield* Effect.forkChild(
          Effect.scoped(
            Effect.gen(function* () {
              yield* Deferred.into(Lab.make(), rebuilt)
              return yield* Effect.never
            })
          )
        )
        const lab = yield* Deferred.await(rebuilt)
        const { pid } = yield* lab.daemon
        assert.strictEqual(traces(lab).length, 4)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(traces(lab), [])
        assert.isFalse(isRunning(pid))
      }),
    15_000
  )

  it.live(
    "is torn down when it is interrupted half built",
    () =>
      Effect.gen(function* () {
        const own = () =>
          [...readdirSync("/run/netns"), ...readdirSync(tmpdir())].filter((name) =>
            name.includes(`lab-${process.pid}-`)
          )
        for (const millis of [5, 15, 30, 60, 120]) {
          const fiber = yield* Effect.forkChild(Effect.scoped(Lab.make()))
          yield* Effect.sleep(millis)
          yield* Fiber.interrupt(fiber)
          assert.deepStrictEqual(own(), [], `interrupted after ${millis} ms`)
        }
      }),
    15_000
  )

  it.live(
    "stands beside another lab",
    () =>
      Effect.gen(function* () {
        const [one, other] = yield* Effect.all([Lab.make(), Lab.make()], { concurrency: 2 })
        assert.notStrictEqual(one.id, other.id)
        assert.deepStrictEqual(one.addresses, other.addresses)
        yield* one.tcpEcho("lan", internal)
        const request = ["-a", `${external}`, `${internal}`, "tcp", "3600"]
        yield* one.exec("lan", "natpmpc", ["-g", one.addresses.gateway, ...request])
        assert.strictEqual(yield* one.tcpProbe("wan", one.addresses.external, external), "reachable")
        assert.strictEqual(yield* other.tcpProbe("wan", other.addresses.external, external), "refused")
        assert.deepStrictEqual(yield* other.mappings, [])
      }),
    15_000
  )

  it.live(
    "sweeps up after a run that was killed",
    () =>
      Effect.gen(function* () {
        const dead = Number((yield* LabProcess.exec("sh", ["-c", "echo $$"])).trim())
        const lab = yield* Lab.make({ daemon: false })
        const name = `effect-nat-lab-${dead}-c0ffee`
        mkdirSync(join(tmpdir(), name))
        yield* LabProcess.exec("ip", ["netns", "add", `${name}-lan`])
        const orphan = yield* LabProcess.spawn("ip", ["netns", "exec", `${name}-lan`, "sh", "-c", "echo up; sleep 300"])
        yield* orphan.awaitLine("up")
        yield* Lab.sweep
        assert.deepStrictEqual(yield* orphan.awaitExit(), { exitCode: undefined, signal: "SIGKILL" })
        assert.isFalse(existsSync(join(tmpdir(), name)))
        assert.notInclude(readdirSync("/run/netns"), `${name}-lan`)
        assert.strictEqual(traces(lab).length, 4)
      }),
    15_000
  )

  layer(Lab.layer({ daemon: { upnp: false } }))("shared", (it) => {
    it.effect(
      "takes time from the real clock under a test clock",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.Lab
          yield* lab.tcpEcho("lan", internal)
          assert.strictEqual(yield* lab.tcpProbe("router", lab.addresses.lan, internal), "reachable")
          const late = yield* Effect.flip(lab.run("lan", "sleep", ["60"], { timeout: 50 }))
          assert.include(late.message, "took longer")
          yield* lab.restartDaemon()
        }),
      15_000
    )
  })
})
