import * as NatError from "@effect-nat/core/NatError"
import * as SilenceLimit from "@effect-nat/core/SilenceLimit"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"

const timedOut = Effect.fail(NatError.fromReason(new NatError.TimedOut({ detail: "no answer" })))
const refused = Effect.fail(NatError.fromReason(new NatError.NotAuthorized({ detail: "not yours" })))

/** How many of these deletions are sent. */
const sent = Effect.fnUntraced(function* (
  unlessSilent: SilenceLimit.SilenceLimit,
  ...deletions: ReadonlyArray<Effect.Effect<void, NatError.NatError>>
) {
  let count = 0
  for (const deletion of deletions) {
    yield* Effect.exit(
      unlessSilent(
        Effect.andThen(
          Effect.sync(() => (count += 1)),
          deletion
        )
      )
    )
  }
  return count
})

describe("a gateway that falls silent", () => {
  it.effect("is not waited for once for each deletion, and asked again later", () =>
    Effect.gen(function* () {
      const unlessSilent = yield* SilenceLimit.make(2)
      assert.strictEqual(yield* sent(unlessSilent, timedOut, timedOut, timedOut, timedOut), 2)
      assert.strictEqual((yield* Effect.flip(unlessSilent(Effect.void))).reason._tag, "TimedOut")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* sent(unlessSilent, Effect.void, Effect.void), 2)
    })
  )

  it.effect.each([
    ["answers", Effect.void],
    ["refuses", refused]
  ] as const)("is not one that %s in between", ([, answer]) =>
    Effect.gen(function* () {
      const unlessSilent = yield* SilenceLimit.make(2)
      assert.strictEqual(yield* sent(unlessSilent, timedOut, answer, timedOut, answer, timedOut, answer), 6)
    })
  )

  it.effect("is one, too, whose deletions were interrupted", () =>
    Effect.gen(function* () {
      const unlessSilent = yield* SilenceLimit.make(2)
      assert.strictEqual(yield* sent(unlessSilent, Effect.interrupt, Effect.interrupt, Effect.void), 2)
    })
  )
})
