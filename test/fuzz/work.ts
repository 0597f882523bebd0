/**
 * How the work of a decoder grows with its input, in counted steps and in time.
 *
 * A step is a block of JavaScript that V8 enters: its precise coverage counts them, the same in every run, in our code
 * and in the libraries that it calls. Optimized code is not counted rightly, so the thread that counts interprets.
 *
 * What a regular expression or a string method does inside takes no steps. That shows in the time alone, which is
 * measured elsewhere, at full speed, and counts only where there is enough of it.
 */
import * as Inspector from "node:inspector/promises"
import * as V8 from "node:v8"
import type { Decoder } from "./decoder.ts"
import * as Inputs from "./inputs.ts"

/** Counts steps. */
export interface Counter {
  /** The steps that something takes. */
  readonly stepsOf: (run: () => void) => Promise<number>
  readonly stop: () => Promise<void>
}

/** The code whose steps count: this repository's, and what it calls. */
const isCounted = (url: string): boolean =>
  /\/(?:packages\/[a-z]+\/(?:src|dist)|node_modules)\//.test(url) &&
  !/\/node_modules\/(?:vite|vitest|@vitest)\//.test(url)

const countAlso = (url: string, also: string | undefined): boolean => also !== undefined && url.includes(also)

/**
 * Begins to count, in code that is loaded from now on. `also` is part of the URL of other code that counts. The whole
 * process interprets from now on.
 */
export const startCounter = async (also?: string): Promise<Counter> => {
  for (const flag of ["--no-opt", "--no-maglev", "--no-sparkplug"]) V8.setFlagsFromString(flag)
  const session = new Inspector.Session()
  session.connect()
  await session.post("Profiler.enable")
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true })
  const take = async (): Promise<number> => {
    const { result } = await session.post("Profiler.takePreciseCoverage")
    let steps = 0
    for (const script of result) {
      if (!isCounted(script.url) && !countAlso(script.url, also)) continue
      for (const one of script.functions) for (const range of one.ranges) steps += range.count
    }
    return steps
  }
  return {
    stepsOf: async (run) => {
      await take()
      run()
      return await take()
    },
    stop: async () => {
      await session.post("Profiler.stopPreciseCoverage")
      session.disconnect()
    }
  }
}

/** How much longer the longer input is. */
export const factor = 8

/** Linear work grows by the factor, quadratic work by its square; some is the same for every input. */
const stepBound = 1.25 * factor
/** There is noise in time, and a machine that others use as well. */
const timeBound = 4 * factor
/** What is done sooner, in milliseconds, is fast enough whatever it grows by. */
const negligibleMillis = 20

/** How the steps for one kind of input grew. */
export interface Growth {
  readonly decoder: string
  /** What the input is made of. */
  readonly of: string
  readonly once: number
  readonly longer: number
  /** The length of the longer input. */
  readonly bytes: number
}

export const ratioOf = ({ longer, once }: Growth): number => longer / Math.max(once, 1)

/** Less than a step for each byte is never too much, however it grows. */
export const isLittle = ({ bytes, longer }: Growth): boolean => longer <= bytes

/** Why the growth is more than linear, if it is. */
export const excess = (growth: Growth): string | undefined =>
  ratioOf(growth) <= stepBound || isLittle(growth)
    ? undefined
    : `${growth.decoder}: ${growth.once} steps grow to ${growth.longer} where there is ${factor} times as much of ${growth.of}`

const shown = (token: Uint8Array): string => {
  const text = new TextDecoder().decode(token)
  const isText = /^[\x20-\x7e\s]+$/.test(text)
  return JSON.stringify(isText ? text : Array.from(token, (byte) => byte.toString(16).padStart(2, "0")).join(""))
}

interface Kind {
  readonly of: string
  readonly once: Uint8Array
  readonly longer: Uint8Array
}

/** Each token again and again, in each of the decoder's frames. */
const kindsOf = (decoder: Decoder, longest: number): ReadonlyArray<Kind> =>
  decoder.frames.flatMap((around, frame) => {
    const room = Math.min(decoder.longestRead, longest) - around(new Uint8Array(0)).length
    return decoder.tokens.map((token) => {
      // Only whole ones, and of those a multiple of four, as some packets end on a multiple of four bytes.
      const times = Math.max(4, 4 * Math.floor(room / factor / token.length / 4))
      const make = (times: number) => around(Inputs.repeatTo(token, token.length * times))
      return { of: `${shown(token)} in frame ${frame}`, once: make(times), longer: make(times * factor) }
    })
  })

/** How the steps of a decoder grow, for one in so many kinds of input. */
export const growthOf = async (
  counter: Counter,
  decoder: Decoder,
  { every, longest }: { readonly every: number; readonly longest: number }
): Promise<ReadonlyArray<Growth>> => {
  const growths: Array<Growth> = []
  for (const { longer, of, once } of kindsOf(decoder, longest).filter((_, index) => index % every === 0)) {
    const stepsOf = (bytes: Uint8Array) => counter.stepsOf(() => void decoder.decode(bytes))
    // What happens only the first time is no part of the work.
    decoder.decode(once)
    decoder.decode(longer)
    growths.push({
      decoder: decoder.name,
      of,
      once: await stepsOf(once),
      longer: await stepsOf(longer),
      bytes: longer.length
    })
  }
  return growths
}

/** The least of some runs, as others use the machine as well. */
const millisOf = (decoder: Decoder, bytes: Uint8Array): number => {
  let least = Number.POSITIVE_INFINITY
  for (let times = 0; times < 5 && least >= negligibleMillis / factor; times++) {
    const start = performance.now()
    decoder.decode(bytes)
    least = Math.min(least, performance.now() - start)
  }
  return least
}

interface Times {
  readonly short: number
  readonly long: number
}

const isSlow = ({ long, short }: Times): boolean => long >= negligibleMillis && long > timeBound * short

/** Only what is slow three times is slow: in between the machine may have been busy with something else. */
const timesOf = (decoder: Decoder, { longer, once }: Kind): Times => {
  let times: Times = { short: 0, long: 0 }
  for (let attempt = 0; attempt < 3; attempt++) {
    const long = millisOf(decoder, longer)
    times = { long, short: long < negligibleMillis ? long : millisOf(decoder, once) }
    if (!isSlow(times)) break
  }
  return times
}

/** Those of one in so many kinds of input for which the time grows by more than it may. */
export const slowOnes = (decoder: Decoder, every = 1): ReadonlyArray<string> =>
  kindsOf(decoder, Inputs.longest)
    .filter((_, index) => index % every === 0)
    .flatMap((kind) => {
      const times = timesOf(decoder, kind)
      if (!isSlow(times)) return []
      const { long, short } = times
      return [
        `${decoder.name}: ${short.toFixed(2)} ms grow to ${long.toFixed(2)} ms where there is ${factor} times as much of ${kind.of}`
      ]
    })
