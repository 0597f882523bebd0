/**
 * A program on a lan host that maps ports while packets are lost, and prints a line of JSON for each outcome.
 *
 * `loss-agent.ts many <natpmp|pcp|auto> <count> <first port>` makes that many strategies, which know nothing of each other
 * or of the gateway, has each map a port of its own, all at once, and prints how long each took, in milliseconds, or
 * `null` where it gave up. `loss-agent.ts pair <natpmp|pcp> <port> <port>` maps two ports by one strategy, and prints
 * each when it is mapped. The mappings stay.
 */
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Automatic from "effect-nat/Automatic"

const [command = "", method = "", first = "0", second = "0"] = process.argv.slice(2)

const strategies = { natpmp: NatPmp.layer, pcp: Pcp.layer, auto: Automatic.layer }
const chosen = method === "pcp" || method === "auto" ? strategies[method] : strategies.natpmp
const strategy = Layer.fresh(chosen.pipe(Layer.provide(NodeHost.layer)))

const print = (value: unknown) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(value)}\n`))

/** Never closed: what is mapped stays, and nobody waits for its end. */
const scope = Scope.makeUnsafe()

const map = (port: number) =>
  PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "udp", internalPort: port })).pipe(Scope.provide(scope))

const timed = (port: number) =>
  Effect.gen(function* () {
    const start = yield* Clock.currentTimeMillis
    const context = yield* Layer.buildWithScope(strategy, scope)
    const outcome = yield* Effect.exit(Effect.provideContext(map(port), context))
    return outcome._tag === "Success" ? (yield* Clock.currentTimeMillis) - start : null
  })

const many = Effect.forEach(
  Array.from({ length: Number(first) }, (_, index) => Number(second) + index),
  timed,
  { concurrency: "unbounded" }
).pipe(Effect.flatMap(print))

const pair = Effect.forEach([Number(first), Number(second)], (port) => Effect.andThen(map(port), print(port)), {
  concurrency: "unbounded"
}).pipe(Effect.provide(strategy))

const end = Effect.sync(() => process.exit(0))

// What a strategy warns of is not what the test reads.
NodeRuntime.runMain(Effect.andThen(command === "many" ? many : pair, end).pipe(Effect.provide(Logger.layer([]))))
