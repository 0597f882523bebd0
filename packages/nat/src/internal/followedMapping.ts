/**
 * A mapping whose protocol may become another one: a gateway may stop speaking what it spoke, and the next network's may
 * speak something else. The lease engine of one protocol asks in that protocol for ever.
 *
 * A mapping that is unconfirmed or lost is looked after. Where its own protocol is answered it is renewed. Where another
 * one is, it is released and mapped by that, but for one that may still be in force on the gateway that answers. While
 * nobody answers nothing is changed.
 */
import type * as Gateway from "@effect-nat/core/Gateway"
import type * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import type * as Strategy from "@effect-nat/core/Strategy"
import * as SwitchedMapping from "@effect-nat/core/SwitchedMapping"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** A mapping, and who has made it. */
export interface Mapped {
  readonly mapping: PortMapper.Mapping
  readonly strategy: Strategy.Strategy
}

/** Who answers, and from where. */
export interface Answer {
  readonly strategy: Strategy.Strategy
  readonly gateway: Gateway.Gateway
}

/** A mapping as it was last, and who held it. */
export interface Lost {
  readonly last: PortMapping.PortMapping
  readonly strategy: Strategy.Strategy
}

interface Held extends Mapped {
  /** Its end releases the mapping. */
  readonly scope: Scope.Closeable
}

/** How such a mapping is made. */
export interface Options {
  /** Maps by whoever can, and after a loss as it was last. */
  readonly map: (lost?: Lost) => Effect.Effect<Mapped, NatError.NatError, Scope.Scope>
  /** Who answers: this strategy, if it does, else another one. An answer of this age will do. */
  readonly whoAnswers: (
    strategy: Strategy.Strategy,
    maxAge: Duration.Duration
  ) => Effect.Effect<Answer, NatError.NatError>
}

/** The lease engine asks again by itself, and most routers are back after it. */
const shortestPause = Duration.seconds(5)
const longestPause = Duration.minutes(5)

/** How old an answer may be after such a pause: many mappings may wait, each for a time of its own. */
const freshness = (pause: Duration.Duration) => Duration.max(Duration.times(pause, 0.5), Duration.seconds(4))

const longer = (pause: Duration.Duration) => Duration.min(Duration.times(pause, 2), longestPause)

/** A defect is a bug of a strategy, and no reason to give the mapping up. */
const tried = <A, R>(effect: Effect.Effect<A, NatError.NatError, R>) =>
  Effect.option(effect).pipe(
    Effect.catchDefect((defect) =>
      Effect.as(Effect.logError("a mapping that is not in force could not be looked after", defect), Option.none<A>())
    )
  )

const isInForce = ({ status }: PortMapping.PortMapping): boolean => status === "mapped"

/** Maps, and looks after the mapping until the scope closes or it is released. Fails as the first `map` does. */
export const make = Effect.fnUntraced(function* ({
  map,
  whoAnswers
}: Options): Effect.fn.Return<PortMapper.Mapping, NatError.NatError, Scope.Scope> {
  const scope = yield* Effect.scope

  /** What is granted is held, whoever interrupts. */
  const hold = (lost?: Lost, become: (next: PortMapper.Mapping) => Effect.Effect<void> = () => Effect.void) =>
    Effect.uninterruptibleMask(
      Effect.fnUntraced(function* (restore) {
        const own = yield* Scope.fork(scope)
        const mapped = yield* restore(map(lost)).pipe(
          Scope.provide(own),
          Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
        )
        yield* become(mapped.mapping)
        return { ...mapped, scope: own } satisfies Held
      })
    )

  const first = yield* hold()
  const { become, lose, mapping } = yield* SwitchedMapping.make(first.mapping)

  /** Until there is one again. */
  const holdAgain = Effect.fnUntraced(function* (lost: Lost) {
    for (let pause = shortestPause; ; pause = longer(pause)) {
      const held = yield* tried(hold(lost, become))
      if (Option.isSome(held)) return held.value
      yield* Effect.sleep(pause)
    }
  })

  const exchange = Effect.fnUntraced(function* (held: Held, next: Strategy.Strategy) {
    const { mapping: inner, strategy } = held
    const last = yield* inner.current
    yield* Effect.logDebug(`${strategy.method} is silent, and ${next.method} answers`)
    // Whoever releases it meanwhile waits for that, and finds nothing left.
    yield* Effect.uninterruptible(Effect.andThen(lose, tried(Scope.close(held.scope, Exit.void))))
    return yield* holdAgain({ last, strategy })
  })

  /** Who holds it when it is in force again. */
  const mend = Effect.fnUntraced(function* (held: Held) {
    let wasElsewhere = false
    for (let pause = shortestPause; ; pause = longer(pause)) {
      yield* Effect.sleep(pause)
      if (isInForce(yield* held.mapping.current)) return held
      const answer = yield* tried(whoAnswers(held.strategy, freshness(pause)))
      // The lease engine has gone on asking meanwhile.
      const now = yield* held.mapping.current
      if (isInForce(now)) return held
      if (Option.isNone(answer)) continue
      const { gateway, strategy } = answer.value
      if (strategy === held.strategy) {
        wasElsewhere = false
        yield* held.mapping.renew
        continue
      }
      const isElsewhere = !Equal.equals(gateway.address, now.gateway)
      // What may still be in force is not given up for one lost answer.
      if (now.status === "lost" || (isElsewhere && wasElsewhere)) return yield* exchange(held, strategy)
      wasElsewhere = isElsewhere
    }
  })

  const follow = Effect.gen(function* () {
    let held: Held = first
    while (true) {
      yield* Stream.runHead(Stream.filter(mapping.changes, (now) => !isInForce(now)))
      held = yield* mend(held)
    }
  })

  const following = yield* Effect.forkIn(follow, scope)
  return { ...mapping, release: Effect.andThen(Fiber.interrupt(following), mapping.release) }
})
