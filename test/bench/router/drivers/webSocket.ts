/** As much of RFC 6455 as a client needs whose server sends whole, unmasked, binary messages. */
import * as Crypto from "node:crypto"
import * as Inlet from "../inlet.ts"

/** Four bytes alike, so that it does not matter where a message begins; not zero, for which a server may do nothing. */
const mask = 0x5a

const maskLength = 4

export const request = (path: string): Uint8Array =>
  Buffer.from(
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${Crypto.randomBytes(16).toString("base64")}\r\n\r\n`
  )

const text = (from: number, to: number): string => Buffer.from(Inlet.bytes.subarray(from, to)).toString("latin1")

/** Where the answer to the request ends; `undefined` where it is not all here. */
export const responseEnd = (from: number, to: number, fail: (detail: string) => void): number | undefined => {
  const head = text(from, to)
  const end = head.indexOf("\r\n\r\n")
  if (end < 0) return undefined
  if (!head.startsWith("HTTP/1.1 101 ")) fail(`no WebSocket: ${head}`)
  return from + end + 4
}

/** The header of a client's message, and the room for its data. */
export const frame = (size: number): { readonly bytes: Uint8Array; readonly headerLength: number } => {
  const extended = size < 126 ? 0 : size < 65_536 ? 2 : 8
  const headerLength = 2 + extended + maskLength
  const bytes = new Uint8Array(headerLength + size)
  const view = new DataView(bytes.buffer)
  bytes[0] = 0x82
  bytes[1] = 0x80 | (extended === 0 ? size : extended === 2 ? 126 : 127)
  if (extended === 2) view.setUint16(2, size)
  if (extended === 8) view.setUint32(6, size)
  bytes.fill(mask, headerLength - maskLength, headerLength)
  return { bytes, headerLength }
}

export const maskBytes = (bytes: Uint8Array, from: number, to: number): void => {
  for (let i = from; i < to; i++) bytes[i] = (bytes[i] as number) ^ mask
}

/** The length of the header of a server's message that begins here; 0 where it is not all here. */
export const headerLengthAt = (at: number, to: number): number => {
  if (to - at < 2) return 0
  const short = Inlet.bytes[at + 1] as number
  const length = short < 126 ? 2 : short === 126 ? 4 : 10
  return to - at < length ? 0 : length
}

/** The length of the data of a server's message, whose header is here. */
export const dataLengthAt = (at: number): number => {
  const short = Inlet.bytes[at + 1] as number
  if (short < 126) return short
  return short === 126 ? Inlet.view.getUint16(at + 2) : Inlet.view.getUint32(at + 6)
}

/** Whether a server's message is whole, unmasked and binary. */
export const isBinary = (at: number): boolean =>
  Inlet.bytes[at] === 0x82 && ((Inlet.bytes[at + 1] as number) & 0x80) === 0
