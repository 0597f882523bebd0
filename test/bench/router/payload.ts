/**
 * What every message carries, whatever the server: a counter, the time it was sent, and bytes that follow from neither.
 */

/** The counter and the time; a message is never shorter. */
export const headerLength = 12

const noise = (index: number): number => (index * 167 + (index >>> 8) * 59 + 13) & 0xff

/** A message with counter and time yet to be written. */
export const template = (size: number): Uint8Array => {
  if (size < headerLength) throw new Error(`a message has at least ${headerLength} bytes`)
  return Uint8Array.from({ length: size }, (_, index) => (index < headerLength ? 0 : noise(index)))
}

export const write = (view: DataView, at: number, counter: number, sentAt: number): void => {
  view.setUint32(at, counter)
  view.setFloat64(at + 4, sentAt)
}

export const counterAt = (view: DataView, at: number): number => view.getUint32(at)
export const sentAt = (view: DataView, at: number): number => view.getFloat64(at + 4)

/** Whether all of it but the time is what was sent. */
export const isWhole = (bytes: Uint8Array, at: number, template: Uint8Array): boolean => {
  for (let i = headerLength; i < template.length; i++) {
    if (bytes[at + i] !== template[i]) return false
  }
  return true
}
