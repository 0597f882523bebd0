/** What the dispatcher does with bytes, beside `effect/Bytes` and `effect/encoding/Hex`. */
export { concat } from "effect/Bytes"

/** Whether both are the same, in a time that does not depend on where they differ. */
export const equals = (self: Uint8Array, that: Uint8Array): boolean => {
  let difference = self.length ^ that.length
  for (let i = 0; i < self.length; i++) {
    difference |= (self[i] ?? 0) ^ (that[i] ?? 0)
  }
  return difference === 0
}

/** A number of 16 bits, the high byte first. */
export const uint16 = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 0xff)

const utf8 = new TextEncoder()

/** As much of a text as has so many bytes in UTF-8, in whole characters. */
export const cutText = (text: string, bytes: number): string =>
  text.slice(0, utf8.encodeInto(text, new Uint8Array(bytes)).read)

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
