/** Connection attempts that overlap, as RFC 8305 has them: the first that succeeds is the one that stays. */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

/**
 * Begins with the first candidate, and with each next one when the one before has failed or `delay` has passed. What the
 * winner acquires belongs to the caller's scope; what the others have acquired is released. Fails with every failure
 * where all fail.
 */
export const race = Effect.fnUntraced(function* <A, B, E, R>(
  candidates: ReadonlyArray<A>,
  delay: Duration.Duration,
  attempt: (candidate: A) => Effect.Effect<B, E, R>
): Effect.fn.Return<B, ReadonlyArray<E>, Exclude<R, Scope.Scope> | Scope.Scope> {
  const scope = yield* Effect.scope
  const failures: Array<E> = []
  let isTaken = false

  /** Exactly one success is kept: its scope stays open. */
  const one = (candidate: A) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const own = yield* Scope.fork(scope)
        const exit = yield* Effect.exit(restore(Scope.provide(attempt(candidate), own)))
        if (Exit.isSuccess(exit) && !isTaken) {
          isTaken = true
          return exit.value
        }
        yield* Scope.close(own, exit)
        return yield* Exit.isSuccess(exit) ? restore(Effect.never) : exit
      })
    )

  const begun: Array<Effect.Effect<B, E, Exclude<R, Scope.Scope>>> = []
  let whenNext: Effect.Effect<void> = Effect.void
  for (const candidate of candidates) {
    const next = yield* Deferred.make<void>()
    const before = whenNext
    begun.push(
      before.pipe(
        Effect.andThen(Effect.forkChild(Effect.andThen(Effect.sleep(delay), Deferred.succeed(next, undefined)))),
        Effect.andThen(one(candidate)),
        Effect.tapError((error) => {
          failures.push(error)
          return Deferred.succeed(next, undefined)
        })
      )
    )
    whenNext = Deferred.await(next)
  }
  return yield* Effect.raceAll(begun).pipe(Effect.mapError(() => failures))
})
