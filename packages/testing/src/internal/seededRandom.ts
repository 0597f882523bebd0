/**
 * Chance that can be repeated: everything that is drawn follows from a seed and a label.
 */
import type * as Random from "effect/Random"

/** A source of chance. Sources with different labels do not disturb each other. */
export interface SeededRandom extends Random.Random {
  /** From 0, inclusive, to 1, exclusive. */
  readonly next: () => number
  /** A whole number between two, both inclusive. */
  readonly between: (lowest: number, highest: number) => number
  /** Whether something of this probability happens. */
  readonly chance: (probability: number) => boolean
  /** One of these. */
  readonly pick: <A>(list: readonly [A, ...ReadonlyArray<A>]) => A
}

const offset = 0x811c9dc5
const prime = 0x01000193

/** The hash of a text, FNV-1a; it can go on from another hash. */
export const hashText = (text: string, from: number = offset): number => {
  let hash = from
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), prime)
  return hash >>> 0
}

/** The hash of bytes; it can go on from another hash. */
export const hashBytes = (bytes: Uint8Array, from: number): number => {
  let hash = from
  for (const byte of bytes) hash = Math.imul(hash ^ byte, prime)
  return hash >>> 0
}

/** Mulberry32: small, fast and good enough to choose faults by. */
export const make = (seed: number, label: string): SeededRandom => {
  let state = hashText(label, hashText(String(seed)))
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  const between = (lowest: number, highest: number) => lowest + Math.floor(next() * (highest - lowest + 1))
  return {
    next,
    between,
    chance: (probability) => next() < probability,
    pick: (list) => list[between(0, list.length - 1)] ?? list[0],
    nextDoubleUnsafe: next,
    nextIntUnsafe: () => between(Number.MIN_SAFE_INTEGER / 2, Number.MAX_SAFE_INTEGER / 2)
  }
}
