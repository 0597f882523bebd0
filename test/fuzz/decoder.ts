/** What the campaign knows of a decoder. */
import { isDeepStrictEqual } from "node:util"
import type * as Inputs from "./inputs.ts"

/** A decoder that meets the network, with what is true of it. */
export interface Decoder extends Inputs.Source {
  readonly name: string
  /** The longest input that it takes, in bytes: every longer one is refused. */
  readonly maximumBytes: number
  /** The longest that is looked at to its end, in bytes. */
  readonly longestRead: number
  /** Messages around a token that is repeated to see how the work grows. */
  readonly frames: ReadonlyArray<(repeated: Uint8Array) => Uint8Array>
  /** Decodes and nothing else; whether it gave a value. Throws what the decoder throws. */
  readonly decode: (bytes: Uint8Array) => boolean
  /** Decodes and checks what holds for any bytes; whether it gave a value. Throws where it does not hold. */
  readonly check: (bytes: Uint8Array, random: Inputs.Random) => boolean
  /** Checks that a value that is encoded comes back. Throws where it does not. */
  readonly checkIdentity: (random: Inputs.Random) => void
}

/** How a decoder is described. */
export interface Options<A> extends Pick<Decoder, "name" | "maximumBytes" | "tokens"> {
  readonly frames?: Decoder["frames"]
  /** The value, or `undefined` for an error of the decoder's own type; throws for every other outcome. */
  readonly read: (bytes: Uint8Array) => A | undefined
  readonly write: (value: A) => Uint8Array
  readonly value: (random: Inputs.Random) => A
  /**
   * Whether whatever was decoded comes back when it is encoded. Text that breaks the rules may lose something the first
   * time, and after that nothing.
   */
  readonly comesBack: "at once" | "the second time" | "not checked"
  /** Whether what is read is no value that could be written: an answer, say. */
  readonly isOneWay?: boolean
  /** The longest that is looked at to its end, in bytes. Defaults to `maximumBytes`. */
  readonly longestRead?: number
  /** What else must hold. Throws where it does not. */
  readonly also?: (bytes: Uint8Array, value: A | undefined, random: Inputs.Random) => void
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null

const show = (value: unknown): string => `${JSON.stringify(value) ?? String(value)}`.slice(0, 200)

/** Where two values differ first. */
const difference = (actual: unknown, expected: unknown): string => {
  if (isObject(actual) && isObject(expected)) {
    for (const key of new Set([...Object.keys(actual), ...Object.keys(expected)])) {
      if (!isDeepStrictEqual(actual[key], expected[key])) return `.${key}${difference(actual[key], expected[key])}`
    }
  }
  return `: ${show(actual)} in place of ${show(expected)}`
}

/** Throws unless both are the same. */
export const same = (what: string, actual: unknown, expected: unknown): void => {
  if (!isDeepStrictEqual(actual, expected)) throw new Error(`${what}${difference(actual, expected)}`)
}

/** The decoder that the options describe. */
export const make = <A>(options: Options<A>): Decoder => {
  const { longestRead = options.maximumBytes, read, write } = options
  const rounds = (value: A): void => {
    if (options.comesBack === "not checked") return
    const written = write(value)
    // What is escaped, or is no longer Latin-1, can be longer than what it was read from.
    if (written.length > longestRead) return
    const again = read(written)
    if (options.comesBack === "at once") return same("decoded, encoded, decoded", again, value)
    if (again === undefined) throw new Error(`decoded, encoded, refused: ${show(value)}`)
    same("decoded, encoded, decoded twice", read(write(again)), again)
  }
  return {
    name: options.name,
    maximumBytes: options.maximumBytes,
    longestRead,
    tokens: options.tokens,
    frames: options.frames ?? [(repeated) => repeated],
    message: (random) => write(options.value(random)),
    decode: (bytes) => read(bytes) !== undefined,
    check: (bytes, random) => {
      const value = read(bytes)
      options.also?.(bytes, value, random)
      if (value === undefined) return false
      if (bytes.length > options.maximumBytes) throw new Error(`accepted ${bytes.length} bytes`)
      rounds(value)
      return true
    },
    checkIdentity: (random) => {
      if (options.isOneWay === true) return
      const value = options.value(random)
      same("encoded and decoded", read(write(value)), value)
    }
  }
}
