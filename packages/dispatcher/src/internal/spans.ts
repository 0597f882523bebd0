/** Spans of what callbacks have done: they are made when it is over. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

const names = { handshake: "Dispatcher.handshake", snapshot: "Dispatcher.snapshot" }

/** Notes what was done, how many milliseconds it has taken until now, and what came of it. */
export type Trace = (what: keyof typeof names, milliseconds: number, outcome: string) => void

export const make: Effect.Effect<Trace> = Effect.gen(function* () {
  const tracer = yield* Tracer.Tracer
  const clock = yield* Clock.Clock
  return (what, milliseconds, outcome) => {
    const endTime = clock.currentTimeNanosUnsafe()
    const span = tracer.span({
      name: names[what],
      parent: Option.none(),
      annotations: Context.empty(),
      links: [],
      startTime: endTime - BigInt(Math.round(milliseconds * 1e6)),
      kind: "server",
      root: true,
      sampled: true
    })
    span.attribute("outcome", outcome)
    span.end(endTime, Exit.void)
  }
})
