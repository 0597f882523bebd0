/** Random values of the protocols, valid ones. */
import * as NetAddress from "effect/net/NetAddress"
import type { Random } from "./inputs.ts"

export const word = (random: Random, letters: string, shortest: number, longest: number): string =>
  Array.from(
    { length: random.between(shortest, longest) },
    () => letters[random.between(0, letters.length - 1)] ?? ""
  ).join("")

const lower = "abcdefghijklmnopqrstuvwxyz"
const digits = "0123456789"

/** A name as elements, actions and headers have them. */
export const name = (random: Random): string => word(random, "ABCDXYZ", 1, 1) + word(random, lower + digits, 0, 12)

/** Characters that have a meaning somewhere, or more than one byte. */
const special = [..."&<>\"';:#%=/?[](){}@!*+,-._~|\\^`$", "é", "ß", "漢", "字", "🙂", "]]>", "&amp;", "<!--", "http://"]

const piece = (random: Random): string =>
  random.chance(0.3) ? (special[random.between(0, special.length - 1)] ?? "") : word(random, lower + digits, 1, 6)

/** One line of words with one space between them, as text is kept everywhere. */
export const line = (random: Random, shortest: number, longest: number): string =>
  Array.from({ length: random.between(shortest, longest) }, () => piece(random) + piece(random)).join(" ")

const uint = (random: Random, bits: number): number => {
  const highest = 2 ** bits - 1
  return random.chance(0.2) ? random.pick([0, 1, highest, highest - 1]) : random.between(0, highest)
}

export const uint8 = (random: Random): number => uint(random, 8)
export const uint16 = (random: Random): number => uint(random, 16)
export const uint32 = (random: Random): number => uint(random, 32)

export const optional = <A>(random: Random, make: (random: Random) => A): A | undefined =>
  random.chance(0.3) ? undefined : make(random)

export const list = <A>(random: Random, longest: number, make: (random: Random) => A): Array<A> =>
  Array.from({ length: random.between(0, longest) }, () => make(random))

export const ipv4 = (random: Random): NetAddress.Ipv4Address =>
  NetAddress.ipv4FromBytesUnsafe(Uint8Array.from({ length: 4 }, () => uint8(random)))

/** Never an IPv4-mapped address, which is IPv4 on the wire. */
export const ip = (random: Random): NetAddress.IpAddress =>
  random.chance(0.6)
    ? ipv4(random)
    : NetAddress.ipv6FromBytesUnsafe(
        Uint8Array.from({ length: 16 }, (_, index) => (index === 0 ? 0x20 : uint8(random)))
      )
