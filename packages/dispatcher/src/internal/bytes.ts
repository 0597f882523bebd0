/** Joins bytes into one new array. */
export const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const joined = new Uint8Array(parts.reduce((total, part) => total + part.length, 0))
  let at = 0
  for (const part of parts) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}

/** Bytes as lower-case hexadecimal digits. */
export const toHex = (bytes: Uint8Array): string => {
  let text = ""
  for (const byte of bytes) {
    text += byte.toString(16).padStart(2, "0")
  }
  return text
}

/** The bytes that hexadecimal digits, two for each, stand for. */
export const fromHex = (text: string): Uint8Array => {
  const bytes = new Uint8Array(text.length / 2)
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = Number.parseInt(text.slice(i * 2, i * 2 + 2), 16)
  }
  return bytes
}

/** Whether both are the same, in a time that does not depend on where they differ. */
export const equals = (self: Uint8Array, that: Uint8Array): boolean => {
  let difference = self.length ^ that.length
  for (let i = 0; i < self.length; i++) {
    difference |= (self[i] ?? 0) ^ (that[i] ?? 0)
  }
  return difference === 0
}

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
