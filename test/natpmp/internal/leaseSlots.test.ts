import * as Strategy from "@effect-nat/core/Strategy"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scheduler from "effect/Scheduler"
import * as LeaseSlots from "../../../packages/natpmp/src/internal/leaseSlots.ts"

const end = { protocol: "tcp", internalPort: 12000 } as const

it.effect("of many who take a slot at once one has it, wherever fibers yield", () =>
  Effect.gen(function* () {
    for (let operations = 8; operations < 60; operations++) {
      const slots = LeaseSlots.make()
      const taken = yield* Effect.forEach([1, 2, 3, 4], () => Effect.exit(slots.take(end)), {
        concurrency: "unbounded"
      }).pipe(Effect.scoped, Effect.provideService(Scheduler.MaxOpsBeforeYield, operations))
      assert.strictEqual(taken.filter(Exit.isSuccess).length, 1, `with ${operations} operations in a row`)
      const again = yield* Effect.scoped(Effect.exit(slots.take(end)))
      assert.isTrue(Exit.isSuccess(again))
    }
  })
)

it.effect("an attempt is in nobody's way until it is kept, and gives back only what it has", () =>
  Effect.gen(function* () {
    for (const isAdopted of [false, true]) {
      const slots = LeaseSlots.make()
      const attempt = yield* slots.take(end).pipe(Effect.provideService(Strategy.IsAttempt, true))
      const other = yield* slots.take(end)
      yield* attempt.keep
      const [kept, undone] = isAdopted ? [attempt, other] : [other, attempt]
      yield* undone.giveBack
      assert.isTrue(Exit.isFailure(yield* Effect.exit(slots.take(end))))
      yield* kept.giveBack
      assert.isTrue(Exit.isSuccess(yield* Effect.exit(slots.take(end))))
    }
  })
)
