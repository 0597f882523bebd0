/**
 * One piece of memory that all connections of the load are read into, each after what it has left over from before: no
 * allocation for each read, and every message lies in one piece.
 */

/** More than any message with all its headers. */
const mostLeft = 131_072
const mostRead = 262_144

export const bytes = new Uint8Array(mostLeft + mostRead)
export const view = new DataView(bytes.buffer)

/** What the socket reads into. */
export const inlet = bytes.subarray(mostLeft)

/** Puts what was left before what has been read; where the whole of it begins and ends. */
export const join = (left: Uint8Array, read: number): readonly [from: number, to: number] => {
  const from = mostLeft - left.length
  bytes.set(left, from)
  return [from, mostLeft + read]
}
