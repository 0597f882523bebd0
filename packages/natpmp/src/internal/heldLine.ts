/**
 * The socket that a mapping was granted at stays open while the mapping is held: a gateway may answer a request again
 * whenever something has become of its mapping, and the last answer counts (RFC 6887 §8.3, §14.2).
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type * as Ways from "./ways.ts"

export interface HeldLine {
  /** The mapping is held where this way leads now. */
  readonly hold: (way: Ways.Way) => Effect.Effect<void>
  /** It is held no more. */
  readonly letGo: Effect.Effect<void>
}

/** For one mapping, until the scope closes. */
export const make = Effect.map(Effect.scope, (scope): HeldLine => {
  let held: Scope.Closeable | undefined
  const letGo = Effect.suspend(() => {
    const before = held
    held = undefined
    return before === undefined ? Effect.void : Scope.close(before, Exit.void)
  })
  const hold = Effect.fnUntraced(function* (way: Ways.Way) {
    const next = yield* Scope.fork(scope)
    // A socket that cannot be opened is the next renewal's affair.
    yield* way.listen.pipe(Scope.provide(next), Effect.ignore)
    yield* letGo
    held = next
  }, Effect.uninterruptible)
  return { hold, letGo }
})
