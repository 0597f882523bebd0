/**
 * One mapping that is held by one strategy after the other: whoever has it sees the changes and not the exchange.
 *
 * **Example** (A mapping whose holder is exchanged)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as SwitchedMapping from "@effect-nat/core/SwitchedMapping"
 *
 * const request = { protocol: "tcp", internalPort: 12000 } as const
 *
 * export const exchanged = Effect.fnUntraced(function* (
 *   before: PortMapper.PortMapper["Service"],
 *   next: PortMapper.PortMapper["Service"]
 * ) {
 *   const first = yield* before.map(request)
 *   const { become, mapping } = yield* SwitchedMapping.make(first)
 *   yield* first.release
 *   yield* become(yield* next.map(request))
 *   return mapping
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as PortMapper from "./PortMapper.ts"
import * as PortMapping from "./PortMapping.ts"

/**
 * A mapping, and how it is exchanged.
 *
 * @category models
 * @since 0.1.0
 */
export interface SwitchedMapping {
  /** What is asked of it is asked of what holds it now. Its release releases that, and ends its changes. */
  readonly mapping: PortMapper.Mapping
  /** It is held by this one from now on. What held it before is not released by that. */
  readonly become: (next: PortMapper.Mapping) => Effect.Effect<void>
  /** Nobody holds it: until it becomes another one it is lost. */
  readonly lose: Effect.Effect<void>
}

/** What is told of a mapping that nobody holds. */
const lostOf = (last: PortMapping.PortMapping): PortMapper.Mapping => {
  const mapping = new PortMapping.PortMapping({ ...last, status: "lost" })
  return {
    current: Effect.succeed(mapping),
    changes: Stream.concat(Stream.succeed(mapping), Stream.never),
    renew: Effect.void,
    release: Effect.void
  }
}

/**
 * A mapping that is this one at first. Its changes end when it is released or the scope closes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  first: PortMapper.Mapping
): Effect.fn.Return<SwitchedMapping, never, Scope.Scope> {
  const over = yield* Deferred.make<void>()
  const end = Deferred.succeed(over, undefined)
  yield* Effect.addFinalizer(() => end)
  const holder = yield* SubscriptionRef.make(first)
  const now = SubscriptionRef.get(holder)
  const become = (next: PortMapper.Mapping) => SubscriptionRef.set(holder, next)
  return {
    become,
    lose: Effect.flatMap(now, ({ current }) => Effect.flatMap(current, (last) => become(lostOf(last)))),
    mapping: {
      current: Effect.flatMap(now, ({ current }) => current),
      changes: SubscriptionRef.changes(holder).pipe(
        Stream.switchMap(({ changes }) => changes),
        // One that was lost already is lost once.
        Stream.changesWith((self, that) => Equal.equals(self, that)),
        Stream.interruptWhen(Deferred.await(over))
      ),
      renew: Effect.flatMap(now, ({ renew }) => renew),
      release: Effect.ensuring(
        Effect.flatMap(now, ({ release }) => release),
        end
      )
    }
  }
})
