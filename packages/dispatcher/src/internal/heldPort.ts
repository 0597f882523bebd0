/** The mapping of the dispatcher's port, by a strategy that may be exchanged while it is held. */
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as SwitchedMapping from "@effect-nat/core/SwitchedMapping"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"

type Mapper = PortMapper.PortMapper["Service"]

export interface HeldPort {
  /** One mapping, whatever strategy holds it. */
  readonly mapping: PortMapper.Mapping
  /**
   * Maps the port by another strategy, once the mapping by the one before is released: both may be on one gateway. Where
   * that fails the one before maps it again, and where that fails, too, the mapping is lost.
   */
  readonly change: <E>(strategy: Layer.Layer<PortMapper.PortMapper, E>) => Effect.Effect<void, E | NatError.NatError>
}

interface Held {
  readonly mapper: Mapper
  /** Of the strategy's layer; the first one's is not ours. */
  readonly strategyScope: Scope.Closeable | undefined
  readonly mapping: PortMapper.Mapping
  readonly mappingScope: Scope.Closeable
}

export const make = Effect.fnUntraced(function* (mapper: Mapper, request: MappingRequest.MappingRequest) {
  const scope = yield* Effect.scope
  const oneAtATime = yield* Semaphore.make(1)

  const map = Effect.fnUntraced(function* (by: Mapper, strategyScope: Scope.Closeable | undefined) {
    const mappingScope = yield* Scope.fork(scope)
    const mapping = yield* by.map(request).pipe(
      Scope.provide(mappingScope),
      Effect.onError((cause) => Scope.close(mappingScope, Exit.failCause(cause)))
    )
    return { mapper: by, strategyScope, mapping, mappingScope } satisfies Held
  })

  let held = yield* map(mapper, undefined)
  const { become, lose, mapping } = yield* SwitchedMapping.make(held.mapping)
  const hold = (next: Held) =>
    Effect.suspend(() => {
      held = next
      return become(next.mapping)
    })

  const mapAgain = (before: Held) =>
    map(before.mapper, before.strategyScope).pipe(
      Effect.flatMap(hold),
      Effect.tapCause((cause) => Effect.logWarning("the port could not be mapped again by the strategy before", cause)),
      Effect.catchCause(() => lose)
    )

  const exchange = Effect.fnUntraced(function* (next: Mapper, strategyScope: Scope.Closeable) {
    const before = held
    yield* Scope.close(before.mappingScope, Exit.void)
    // A defect of a strategy is no reason to leave the dispatcher without its port.
    yield* hold(yield* Effect.tapCause(map(next, strategyScope), () => mapAgain(before)))
    if (before.strategyScope !== undefined) yield* Scope.close(before.strategyScope, Exit.void)
  })

  const change: HeldPort["change"] = (strategy) =>
    Effect.gen(function* () {
      const strategyScope = yield* Scope.fork(scope)
      const undo = Scope.close(strategyScope, Exit.void)
      const context = yield* Effect.onError(Layer.buildWithScope(strategy, strategyScope), () => undo)
      const next = Context.get(context, PortMapper.PortMapper)
      yield* Effect.onError(exchange(next, strategyScope), () => undo)
    }).pipe(Effect.uninterruptible, oneAtATime.withPermits(1))

  return { change, mapping } satisfies HeldPort
})
