/**
 * What the program says while a gateway takes its time: on standard error, once for each question.
 */
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/** Whoever hears nothing for longer wonders whether anything happens. */
const patience = Duration.seconds(2)

const waiting =
  (what: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.acquireUseRelease(
      Effect.forkDetach(Effect.delay(Effect.logInfo(`waiting for ${what} …`), patience)),
      () => effect,
      Fiber.interrupt
    )

/** While a gateway is looked for and asked. */
export const forAnswer = waiting("a gateway to answer")

/** While a mapping is released. */
export const forDeletion = (mapping: PortMapping.PortMapping) =>
  waiting(`the gateway to confirm that ${PortMapping.format(mapping)} is deleted`)
