import * as RestartLimit from "@effect-nat/core/RestartLimit"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"

/** A limit, and when it has let something be done, in seconds. */
const make = Effect.gen(function* () {
  const limit = yield* RestartLimit.make
  const acted: Array<string> = []
  const restart = (device: string) =>
    limit.act(
      device,
      Effect.sync(() => acted.push(device))
    )
  return { limit, acted, restart }
})

/** For so many turns of the scheduler. */
const turns = (count: number) => Effect.repeat(Effect.yieldNow, { times: count })

/** Restarts are said all the time. */
const insist = Effect.fnUntraced(function* (restart: Effect.Effect<void>, seconds: number) {
  for (let second = 0; second < seconds; second++) {
    yield* restart
    yield* TestClock.adjust("1 second")
  }
})

describe("a limit to restarts", () => {
  it.effect("delays the next one only until it has been calm for ten minutes, and only of that device", () =>
    Effect.gen(function* () {
      const { acted, restart } = yield* make
      yield* Effect.forEach(["a", "a", "a", "b"], restart)
      assert.deepStrictEqual(acted, ["a", "b"])
      yield* TestClock.adjust("4 seconds")
      assert.lengthOf(acted, 2)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(acted, ["a", "b", "a"])
      yield* restart("a")
      yield* TestClock.adjust("9 seconds")
      assert.lengthOf(acted, 3)
      yield* TestClock.adjust("1 second")
      assert.lengthOf(acted, 4)
      yield* TestClock.adjust("10 minutes")
      yield* restart("a")
      yield* restart("a")
      yield* TestClock.adjust("5 seconds")
      assert.lengthOf(acted, 6)
    })
  )

  it.effect("lets the pauses begin anew when one has proved to be true, also for one that waits", () =>
    Effect.gen(function* () {
      const { acted, limit, restart } = yield* make
      assert.isFalse(limit.isGrowing("a"))
      yield* insist(restart("a"), 80)
      // At once, then after 5, 10, 20 and 40 seconds.
      assert.lengthOf(acted, 5)
      assert.isTrue(limit.isGrowing("a"))
      yield* restart("a")
      yield* limit.confirm("b")
      yield* TestClock.adjust("5 seconds")
      assert.lengthOf(acted, 5)
      yield* limit.confirm("a")
      yield* TestClock.adjust("1 millis")
      assert.lengthOf(acted, 6)
      yield* limit.confirm("a")
      assert.isFalse(limit.isGrowing("a"))
    })
  )

  it.effect("bounds how often is acted, however often something is confirmed", () =>
    Effect.gen(function* () {
      const { acted, limit, restart } = yield* make
      yield* insist(Effect.andThen(restart("a"), limit.confirm("a")), 60)
      // At once, then every 5 seconds.
      assert.isAtMost(acted.length, 13)
    })
  )

  it.effect("drops what waits when its scope closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { acted, restart } = yield* Scope.provide(make, scope)
      yield* restart("a")
      yield* restart("a")
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(acted, ["a"])
    })
  )

  it.effect("acts upon a later one, at whatever moment whoever says so is interrupted", () =>
    Effect.gen(function* () {
      for (let turn = 0; turn < 120; turn++) {
        const moment = turn % 40
        const { acted, restart } = yield* make
        yield* restart("a")
        const fiber = yield* restart("a").pipe(
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + Math.floor(turn / 40)),
          Effect.forkChild
        )
        yield* turns(moment)
        yield* Fiber.interrupt(fiber)
        yield* turns(40)
        yield* TestClock.adjust("6 seconds")
        yield* turns(40)
        const before = acted.length
        yield* restart("a")
        yield* TestClock.adjust("10 seconds")
        yield* turns(40)
        assert.isAbove(acted.length, before, `interrupted at ${moment}`)
      }
    })
  )
})
