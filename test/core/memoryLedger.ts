/**
 * A ledger that is nowhere but in memory: what a mapping noted can be read, and left.
 */
import * as Ledger from "@effect-nat/core/Ledger"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export const layer: Layer.Layer<never> = Layer.effect(
  Ledger.Ledger,
  Ledger.make({
    write: () => Effect.void,
    takeOver: () => Effect.succeed([]),
    others: Effect.succeed({ alive: [], gone: [] })
  })
)

/** What a mapping has noted is left as if nobody had ever confirmed its release. */
export const leave = Effect.fnUntraced(function* (entries: ReadonlyArray<Ledger.Entry>) {
  const ledger = yield* Ledger.Ledger
  for (const entry of entries) {
    const page = yield* ledger.open
    yield* page.note(entry)
    yield* page.leave
  }
})
