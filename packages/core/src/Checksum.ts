/**
 * The CRC-32 that every frame carries (the one of IEEE 802.3 and of zlib: polynomial `edb88320`, reflected).
 *
 * @since 0.1.0
 */

/** Table k has the checksum of a byte with k zero bytes behind it: eight bytes cost eight look-ups and no chain. */
const makeTables = (): ReadonlyArray<Int32Array> => {
  const first = Int32Array.from({ length: 256 }, (_, byte) => {
    let sum = byte
    for (let bit = 0; bit < 8; bit++) {
      sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1
    }
    return sum
  })
  const tables = [first]
  for (let k = 1; k < 8; k++) {
    const before = tables[k - 1] ?? first
    tables.push(before.map((sum) => (sum >>> 8) ^ at(first, sum & 0xff)))
  }
  return tables
}

const at = (table: Int32Array | Uint8Array, index: number): number => table[index] as number

const [t0, t1, t2, t3, t4, t5, t6, t7] = makeTables() as [
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array
]

/**
 * The checksum of a part of some bytes, from `start` to before `end`, as an unsigned number of 32 bits.
 *
 * @category constructors
 * @since 0.1.0
 */
export const crc32 = (bytes: Uint8Array, start = 0, end = bytes.length): number => {
  let sum = -1
  let i = start
  for (const last = end - 7; i < last; i += 8) {
    sum ^= at(bytes, i) | (at(bytes, i + 1) << 8) | (at(bytes, i + 2) << 16) | (at(bytes, i + 3) << 24)
    sum =
      at(t7, sum & 0xff) ^
      at(t6, (sum >>> 8) & 0xff) ^
      at(t5, (sum >>> 16) & 0xff) ^
      at(t4, sum >>> 24) ^
      at(t3, at(bytes, i + 4)) ^
      at(t2, at(bytes, i + 5)) ^
      at(t1, at(bytes, i + 6)) ^
      at(t0, at(bytes, i + 7))
  }
  for (; i < end; i++) {
    sum = (sum >>> 8) ^ at(t0, (sum ^ at(bytes, i)) & 0xff)
  }
  return ~sum >>> 0
}
