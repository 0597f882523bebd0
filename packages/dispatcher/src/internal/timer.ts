/** Tasks of callbacks that are due later. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"

/** Runs a task later, on the `Clock`; what it returns calls it off. */
export type After = (time: Duration.Duration, task: () => void) => () => void

/** The tasks that still wait end with the scope. */
export const make = Effect.map(FiberSet.makeRuntime<never>(), (run): After => (time, task) => {
  const fiber = run(Effect.andThen(Effect.sleep(time), Effect.sync(task)))
  return () => fiber.interruptUnsafe()
})
