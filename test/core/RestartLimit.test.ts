import * as RestartLimit from "@effect-nat/core/RestartLimit"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as TestClock from "effect/testing/TestClock"

/** For so many turns of the scheduler. */
const turns = (count: number) => Effect.repeat(Effect.yieldNow, { times: count })

it.effect("whoever says so may be interrupted at any moment: a later restart is acted upon", () =>
  Effect.gen(function* () {
    for (let turn = 0; turn < 120; turn++) {
      const moment = turn % 40
      let acts = 0
      const act = Effect.sync(() => void (acts += 1))
      const limit = yield* RestartLimit.make
      yield* limit("router", act)
      const fiber = yield* limit("router", act).pipe(
        Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + Math.floor(turn / 40)),
        Effect.forkChild
      )
      yield* turns(moment)
      yield* Fiber.interrupt(fiber)
      yield* turns(40)
      yield* TestClock.adjust("6 seconds")
      yield* turns(40)
      const before = acts
      yield* limit("router", act)
      yield* TestClock.adjust("10 seconds")
      yield* turns(40)
      assert.isAbove(acts, before, `interrupted at ${moment}`)
    }
  })
)
