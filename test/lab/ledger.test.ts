/**
 * What a killed program leaves on a real router, and what the next start makes of it.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Lab from "./Lab.ts"
import { bin, daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const start = Effect.fnUntraced(function* (lab: Lab.LabService, strategy: string, ports: string) {
  const words = ["map", ports, "--json", "--lease", "1h", "--strategy", strategy]
  const program = yield* lab.spawn("lan", process.execPath, [bin, ...words])
  yield* program.awaitLine(/"event":"mapped"/, { timeout: "15 seconds" })
  return program
})

const killed = Effect.fnUntraced(function* (lab: Lab.LabService, strategy: string, ports: string) {
  const program = yield* start(lab, strategy, ports)
  yield* program.signal("SIGKILL")
  yield* program.awaitExit()
})

const ports = (lab: Lab.LabService) =>
  Effect.map(lab.mappings, (mappings) => mappings.map((one) => one.externalPort).toSorted((a, b) => a - b))

/** A test's own time to look is no part of the second that a sweep may take: it is asked for every 100 milliseconds. */
const soon = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.retry(effect, { schedule: Schedule.spaced("100 millis"), times: 10 })

const holds = (lab: Lab.LabService, expected: ReadonlyArray<number>) =>
  soon(
    Effect.flatMap(ports(lab), (now) =>
      String(now) === String(expected) ? Effect.void : Effect.fail(`the router has ${now}, not ${expected}`)
    )
  )

const stop = Effect.fnUntraced(function* (program: Effect.Success<ReturnType<typeof start>>) {
  yield* program.signal("SIGTERM")
  yield* program.awaitExit("15 seconds")
  assert.strictEqual(yield* program.stderr, "")
})

/** Somebody else's mapping, of this very host. */
const mapElsewhere = (lab: Lab.LabService, strategy: string) =>
  strategy === "upnp"
    ? Effect.flatMap(lab.location, (location) =>
        lab.exec("lan", "upnpc", ["-u", location, "-e", "somebody else", "-a", "192.168.77.2", "5000", "5001", "tcp"])
      )
    : lab.exec("lan", "natpmpc", ["-g", lab.addresses.gateway, "-a", "5001", "5000", "tcp", "3600"])

/**
 * The router does what it is asked to map, and its answer does not arrive. By their lengths: of UDP a mapping over NAT-PMP
 * (16 bytes) and over PCP (60), of TCP every answer to a request as long as only that of UPnP to map is.
 */
const withoutAnswer = `
table inet without_answer {
  set connections {
    type inet_service
    flags dynamic
    timeout 1h
  }
  chain asked {
    type filter hook input priority 0
    policy accept
    iifname "lan0" ip length > 750 add @connections { tcp sport }
  }
  chain answered {
    type filter hook output priority 0
    policy accept
    oifname "lan0" udp sport 5351 udp length { 24, 68 } drop
    oifname "lan0" tcp dport @connections drop
  }
}
`

/** A program that the router has mapped a port for, and that is killed before it hears of that. */
const killedUnanswered = Effect.fnUntraced(function* (
  lab: Lab.LabService,
  strategy: string,
  ports: string,
  expected: ReadonlyArray<number>
) {
  yield* lab.exec("router", "nft", ["-f", "-"], { stdin: withoutAnswer })
  const words = ["map", ports, "--json", "--lease", "1h", "--strategy", strategy]
  const program = yield* lab.spawn("lan", process.execPath, [bin, ...words])
  yield* Effect.retry(holds(lab, expected), { schedule: Schedule.spaced("100 millis"), times: 10 })
  yield* program.signal("SIGKILL")
  assert.strictEqual((yield* program.awaitExit()).signal, "SIGKILL")
  assert.deepStrictEqual([yield* program.stdout, yield* program.stderr], ["", ""])
  yield* lab.exec("router", "nft", ["delete", "table", "inet", "without_answer"])
})

for (const strategy of ["upnp", "natpmp", "pcp"] as const) {
  labSuite(`after kill -9 between request and answer (--strategy ${strategy})`, () => {
    it.live(
      "the next start removes what was left, and nothing else",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy] })
          yield* mapElsewhere(lab, strategy)
          const living = yield* start(lab, strategy, "7000:7001")
          yield* killedUnanswered(lab, strategy, "9000:9001", [5001, 7001, 9001])
          yield* holds(lab, [5001, 7001, 9001])
          const next = yield* start(lab, strategy, "8000:8001")
          yield* holds(lab, [5001, 7001, 8001])
          yield* stop(next)
          yield* stop(living)
          yield* holds(lab, [5001])
        }),
      90_000
    )
  })
}

for (const strategy of ["upnp", "natpmp", "pcp", "auto"] as const) {
  labSuite(`two programs with the same port (--strategy ${strategy})`, () => {
    it.live(
      "keep it until the last one ends, one after the other or both at one time",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy] })
          yield* lab.tcpEcho("lan", 9000)
          for (const isFirstLonger of [true, false]) {
            const first = yield* start(lab, strategy, "9000:9001")
            const second = yield* start(lab, strategy, "9000:9001")
            yield* stop(isFirstLonger ? second : first)
            assert.deepStrictEqual(yield* ports(lab), [9001])
            assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 9001), "reachable")
            yield* stop(isFirstLonger ? first : second)
            yield* holds(lab, [])
          }
          for (let round = 0; round < 3; round++) {
            const both = [yield* start(lab, strategy, "9000:9001"), yield* start(lab, strategy, "9000:9001")]
            yield* Effect.forEach(both, stop, { concurrency: "unbounded", discard: true })
            yield* holds(lab, [])
          }
        }),
      90_000
    )
  })

  labSuite(`after kill -9 (--strategy ${strategy})`, () => {
    it.live(
      "the next start removes what was left, and nothing else",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy] })
          yield* mapElsewhere(lab, strategy)
          yield* killed(lab, strategy, "9000:9001")
          yield* killed(lab, strategy, "9002:9003")
          const living = yield* start(lab, strategy, "8000:8001")
          // The second start has already removed what the first one left, and the third what the second one left.
          yield* holds(lab, [5001, 8001])
          yield* stop(living)
          yield* holds(lab, [5001])
          yield* killed(lab, strategy, "9000:9001")
          yield* holds(lab, [5001, 9001])
          const next = yield* start(lab, strategy, "8000:8001")
          yield* holds(lab, [5001, 8001])
          yield* stop(next)
          yield* holds(lab, [5001])
        }),
      90_000
    )

    it.live(
      "the next start of the same program goes on with its mapping, and ends it; another that lives keeps its own",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: daemons[strategy] })
          const living = yield* start(lab, strategy, "8000:8001")
          yield* killed(lab, strategy, "9000:9001")
          const again = yield* start(lab, strategy, "9000:9001")
          yield* holds(lab, [8001, 9001])
          yield* stop(again)
          yield* holds(lab, [8001])
          yield* stop(living)
          yield* holds(lab, [])
        }),
      90_000
    )
  })
}
