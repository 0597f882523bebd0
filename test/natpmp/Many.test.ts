/**
 * A hundred mappings of one program, on a gateway that takes its time for each, as those do that read their whole table
 * for every request.
 */
import * as PortControl from "@effect-nat/natpmp/PortControl"
import * as PcpResponder from "@effect-nat/testing/PcpResponder"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "./network.ts"
import * as Router from "./pcpRouter.ts"

const count = 100

const now = Clock.currentTimeMillis

/** Runs an effect while time goes on; how many seconds that took. */
const timed = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const startedAt = yield* now
  const running = yield* Effect.forkChild(Effect.andThen(effect, now))
  for (let step = 0; step < 2000 && running.pollUnsafe() === undefined; step++) yield* TestClock.adjust("250 millis")
  return ((yield* Fiber.join(running)) - startedAt) / 1000
})

/** One request after the other, each of which takes so long. */
const makeWorld = Effect.fnUntraced(function* (method: "pcp" | "natPmp", seconds: number) {
  const router = Router.make({ respond: PcpResponder.respondToBoth })
  const turn = yield* Semaphore.make(1)
  const world = { isLossy: false, seconds }
  let drawn = 1
  /** Five of ten, as by chance. */
  const isLost = () => {
    drawn = (drawn * 48271) % 0x7fffffff
    return world.isLossy && drawn % 10 < 5
  }
  const network = yield* Net.make((sent) =>
    isLost() ? Effect.void : turn.withPermit(Effect.delay(router.peer(sent), { seconds: world.seconds }))
  )
  const strategies = yield* Effect.provide(PortControl.makeStrategies(), network.layer)
  const { mapper } = strategies[method]
  const scope = yield* Scope.make("parallel")
  const mapAll = Effect.forEach(
    Array.from({ length: count }, (_, index) => 12000 + index),
    (port) => mapper.map({ protocol: "tcp", internalPort: port, externalPort: port, lifetime: "20 minutes" }),
    { concurrency: "unbounded" }
  ).pipe(Scope.provide(scope))
  return { router, network, world, mapAll, close: Scope.close(scope, Exit.void) }
})

const entries = (router: Router.PcpRouter) => Effect.map(now, (at) => router.model.entries(at).length)

describe("a hundred mappings at once", () => {
  it.effect.each([
    ["pcp", 0.5],
    ["natPmp", 0.2]
  ] as const)("over %s, where each takes the gateway %d s: all are mapped, renewed and deleted", ([method, seconds]) =>
    Effect.gen(function* () {
      const { close, mapAll, router } = yield* makeWorld(method, seconds)
      yield* timed(mapAll)
      assert.strictEqual(yield* entries(router), count)
      yield* TestClock.adjust("25 minutes")
      assert.strictEqual(yield* entries(router), count)
      const took = yield* timed(close)
      assert.strictEqual(yield* entries(router), 0)
      assert.isAtMost(took, 3 * count * seconds)
    })
  )

  it.effect.each([
    ["pcp", 16],
    ["natPmp", 11]
  ] as const)(
    "over %s are not waited for one by one when the gateway has fallen silent: %d s at most",
    ([method, most]) =>
      Effect.gen(function* () {
        const { close, mapAll, router } = yield* makeWorld(method, 0)
        yield* timed(mapAll)
        router.isMute = () => true
        assert.isAtMost(yield* timed(close), most)
      })
  )

  it.effect.each([
    ["half of the questions are lost", { isLossy: true }],
    ["each takes it 1.2 s", { seconds: 1.2 }]
  ] as const)("over PCP are all asked to be deleted from a gateway when %s", ([, change]) =>
    Effect.gen(function* () {
      const { close, mapAll, network, world } = yield* makeWorld("pcp", 0)
      yield* timed(mapAll)
      Object.assign(world, change)
      const mapped = network.sent.length
      yield* timed(close)
      // Whose deletion is asked for is told by the internal port.
      const ports = network.sent.slice(mapped).map(({ payload }) => `${payload[40]} ${payload[41]}`)
      assert.strictEqual(new Set(ports).size, count)
    })
  )
})
