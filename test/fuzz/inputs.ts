/**
 * Inputs that nobody sends on purpose: what a decoder is given follows from a seed, the decoder's name and a number, so
 * that any one of them can be made again alone.
 */
import { concat } from "../../packages/testing/src/internal/bytes.ts"
import * as SeededRandom from "../../packages/testing/src/internal/seededRandom.ts"

export type Random = SeededRandom.SeededRandom

/** The longest input, in bytes. */
export const longest = 65_536

const encoder = new TextEncoder()

export const fromText = (text: string): Uint8Array => encoder.encode(text)

/** The chance of one input. */
export const randomOf = (seed: number, decoder: string, number: number): Random =>
  SeededRandom.make(seed, `${decoder} ${number}`)

export const bytesOf = (random: Random, length: number): Uint8Array =>
  Uint8Array.from({ length }, () => random.between(0, 255))

/** A whole number below `limit`, mostly a small one. */
export const skewed = (random: Random, limit: number): number =>
  Math.floor(limit * random.next() * random.next() * random.next())

/** Repeats to a length; no less than one byte to begin with. */
export const repeatTo = (part: Uint8Array, length: number): Uint8Array => {
  const bytes = new Uint8Array(length)
  if (part.length === 0) return bytes
  for (let offset = 0; offset < length; offset += part.length) {
    bytes.set(part.subarray(0, Math.min(part.length, length - offset)), offset)
  }
  return bytes
}

/** Where a decoder's messages come from. */
export interface Source {
  /** A message that is valid. */
  readonly message: (random: Random) => Uint8Array
  /** What messages of this kind are made of. */
  readonly tokens: readonly [Uint8Array, ...ReadonlyArray<Uint8Array>]
}

const edges = [0, 1, 2, 4, 0x7f, 0x80, 0xff] as const

type Change = (bytes: Uint8Array, random: Random, source: Source) => Uint8Array

const replace = (bytes: Uint8Array, from: number, to: number, part: Uint8Array): Uint8Array =>
  concat([bytes.subarray(0, from), part, bytes.subarray(to)])

const somewhere = (bytes: Uint8Array, random: Random): number => random.between(0, bytes.length)

const range = (bytes: Uint8Array, random: Random): readonly [from: number, to: number] => {
  const from = somewhere(bytes, random)
  return [from, Math.min(bytes.length, from + skewed(random, 200))]
}

const setAt = (bytes: Uint8Array, offset: number, value: number): Uint8Array => {
  const changed = bytes.slice()
  if (offset < changed.length) changed[offset] = value
  return changed
}

/** Each is one way in which a message can be wrong. */
const changes: readonly [Change, ...ReadonlyArray<Change>] = [
  (bytes, random) => {
    const offset = somewhere(bytes, random)
    return setAt(bytes, offset, (bytes[offset] ?? 0) ^ (1 << random.between(0, 7)))
  },
  (bytes, random) => setAt(bytes, somewhere(bytes, random), random.pick(edges)),
  (bytes, random) => setAt(bytes, somewhere(bytes, random), random.between(0, 255)),
  (bytes, random) => bytes.slice(0, somewhere(bytes, random)),
  (bytes, random) => replace(bytes, ...range(bytes, random), new Uint8Array(0)),
  (bytes, random) => {
    const at = somewhere(bytes, random)
    return replace(bytes, at, at, bytesOf(random, skewed(random, 40)))
  },
  (bytes, random, source) => {
    const at = somewhere(bytes, random)
    return replace(bytes, at, at, random.pick(source.tokens))
  },
  (bytes, random, source) => replace(bytes, ...range(bytes, random), random.pick(source.tokens)),
  (bytes, random) => {
    const [from, to] = range(bytes, random)
    return replace(bytes, to, to, bytes.subarray(from, to))
  },
  (bytes, random, source) => {
    const other = source.message(random)
    return concat([bytes.subarray(0, somewhere(bytes, random)), other.subarray(somewhere(other, random))])
  },
  // A field of a length, or a number that is too great for whatever follows.
  (bytes, random) => {
    const changed = bytes.slice()
    if (changed.length < 4) return changed
    const view = new DataView(changed.buffer)
    const offset = random.between(0, changed.length - 4)
    if (random.chance(0.5)) view.setUint16(offset, random.pick([0xffff, 0x8000, changed.length & 0xffff, 0]))
    else view.setUint32(offset, random.pick([0xffffffff, 0x80000000, changed.length, 0]))
    return changed
  },
  (bytes, random) => concat([bytes, new Uint8Array(4 - (bytes.length % 4)), bytesOf(random, 4 * random.between(0, 3))])
]

const mutated = (random: Random, source: Source): Uint8Array => {
  let bytes = source.message(random)
  for (let times = random.between(1, 6); times > 0; times--) bytes = random.pick(changes)(bytes, random, source)
  return bytes
}

const assembled = (random: Random, source: Source): Uint8Array =>
  concat(Array.from({ length: random.between(0, 24) }, () => random.pick(source.tokens)))

/** One part of a message, again and again. */
const inflated = (random: Random, source: Source): Uint8Array => {
  const bytes = random.chance(0.5) ? mutated(random, source) : source.message(random)
  const [from, to] = range(bytes, random)
  const part = random.chance(0.5) ? bytes.subarray(from, to) : random.pick(source.tokens)
  const room = longest - bytes.length
  return room <= 0 ? bytes : replace(bytes, from, to, repeatTo(part, random.between(0, room)))
}

/** Any bytes up to 64 KiB: mostly short messages with something wrong, some garbage, few of great length. */
export const make = (random: Random, source: Source): Uint8Array => {
  const kind = random.next()
  if (kind < 0.7) return mutated(random, source).subarray(0, longest)
  if (kind < 0.82) return assembled(random, source)
  if (kind < 0.96) return bytesOf(random, skewed(random, 1500))
  if (kind < 0.985) return inflated(random, source).subarray(0, longest)
  return bytesOf(random, random.between(0, longest))
}
