/**
 * The clock for whatever has to last: nobody can set it.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/**
 * The time in milliseconds, from any moment: only differences mean something. On most systems it stands still while the
 * host sleeps.
 *
 * @category accessors
 * @since 0.1.0
 */
export const millis: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)
