/** Times that a caller gives, checked before anything is done with them. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** A number that is none would be taken for zero. */
const read = (input: Duration.Input): Option.Option<Duration.Duration> =>
  Number.isNaN(input) ? Option.none() : Duration.fromInput(input)

export const isFinite = (time: Duration.Duration): boolean => Duration.isFinite(time) && !Duration.isNegative(time)

export const isPositive = (time: Duration.Duration): boolean => Duration.isFinite(time) && Duration.isPositive(time)

/** Fails with what is wrong, and how it should be. */
export const check = (
  name: string,
  input: Duration.Input,
  expected: string,
  accepts: (time: Duration.Duration) => boolean
): Effect.Effect<Duration.Duration, string> => {
  const time = Option.filter(read(input), accepts)
  return Option.isSome(time)
    ? Effect.succeed(time.value)
    : Effect.fail(`${name} must be ${expected}, for example "5 seconds", not ${String(input)}`)
}
