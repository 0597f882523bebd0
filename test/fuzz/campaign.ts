/** One decoder against many inputs. */
import type { Decoder } from "./decoder.ts"
import * as Inputs from "./inputs.ts"

export interface Options {
  readonly seed: number
  /** The number of the first input. */
  readonly from: number
  readonly inputs: number
}

/** What a decoder did that it must not do, and with which input. */
export interface Violation {
  readonly decoder: string
  readonly seed: number
  /** The number of the input. */
  readonly number: number
  readonly what: string
  /** The beginning of the input, in hexadecimal. */
  readonly input: string
}

export interface Outcome {
  readonly inputs: number
  readonly accepted: number
  readonly refused: number
  readonly slowestMillis: number
  /** Only the first ones. */
  readonly violations: ReadonlyArray<Violation>
  readonly violated: number
}

/** Nothing takes longer, in milliseconds. */
export const timeLimit = 1000

const shownViolations = 5

/** One input in this many is a valid value, to see that it comes back. */
const identityEvery = 8

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes.subarray(0, 120), (byte) => byte.toString(16).padStart(2, "0")).join("")

const messageOf = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message).split("\n").slice(0, 4).join(" ") : String(error)

const timed = (run: () => void): number => {
  const start = performance.now()
  run()
  return performance.now() - start
}

/** A busy machine can stop any program for a while: only what is slow three times is slow. */
const slowness = (decoder: Decoder, bytes: Uint8Array): number => {
  const once = () => timed(() => decoder.decode(bytes))
  const first = once()
  return first < timeLimit ? first : Math.min(first, once(), once())
}

/** Runs the inputs of a decoder that follow from the seed. */
export const run = (decoder: Decoder, options: Options): Outcome => {
  const violations: Array<Violation> = []
  let accepted = 0
  let slowestMillis = 0
  let violated = 0
  const violate = (number: number, what: string, bytes: Uint8Array): void => {
    violated++
    if (violations.length >= shownViolations) return
    violations.push({ decoder: decoder.name, seed: options.seed, number, what, input: hex(bytes) })
  }

  const one = (number: number): void => {
    const random = Inputs.randomOf(options.seed, decoder.name, number)
    const isValid = number % identityEvery === 0
    let bytes: Uint8Array = new Uint8Array(0)
    try {
      bytes = isValid ? decoder.message(random) : Inputs.make(random, decoder)
      if (isValid) decoder.checkIdentity(Inputs.randomOf(options.seed, decoder.name, number))
      const millis = slowness(decoder, bytes)
      slowestMillis = Math.max(slowestMillis, millis)
      if (millis >= timeLimit) violate(number, `took ${Math.round(millis)} ms for ${bytes.length} bytes`, bytes)
      const isAccepted = decoder.check(bytes, random)
      if (isAccepted) accepted++
    } catch (error) {
      violate(number, messageOf(error), bytes)
    }
  }

  for (let number = options.from; number < options.from + options.inputs; number++) one(number)
  return { inputs: options.inputs, accepted, refused: options.inputs - accepted, slowestMillis, violations, violated }
}

/** The command that repeats one input. */
export const repeatCommand = ({ decoder, number, seed }: Violation): string =>
  `npm run fuzz -- --decoder "${decoder}" --seed ${seed} --from ${number} --inputs 1`
