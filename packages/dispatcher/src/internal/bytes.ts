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

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
