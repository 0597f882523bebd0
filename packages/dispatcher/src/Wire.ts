/**
 * The dispatcher's wire, version 1: a pure codec between bytes and values, both directions.
 *
 * A connection starts with the client's hello and the dispatcher's reply; after that both sides send frames. All
 * numbers are big-endian. Nothing here throws on any input, and no decoder holds more than its limit.
 *
 * **Details**
 *
 * What later versions may add without changing the bytes defined here: extensions in hello and reply, and frame
 * types. Each has a bit that says whether a receiver that does not know it may skip it.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as CloseReason from "./CloseReason.ts"
import * as SessionId from "./SessionId.ts"

/**
 * The version of the wire that this module speaks.
 *
 * @category constants
 * @since 0.1.0
 */
export const version = 1

/**
 * The first four bytes in both directions. The first is no ASCII letter (an HTTP request), not `16` (a TLS record)
 * and not `0d` (a PROXY protocol header), so that one port can serve them all.
 *
 * @category constants
 * @since 0.1.0
 */
export const magic: ReadonlyArray<number> = [0x8e, 0x4e, 0x41, 0x54]

/**
 * The length of a hello without extensions, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const helloLength = 24

/**
 * The length of a reply without extensions, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const replyLength = 8

/**
 * The most bytes that all extensions of one hello or reply may take together.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumExtensionBytes = 1024

/**
 * The length of a frame's length field, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const frameHeaderLength = 4

/**
 * The largest frame, in bytes after the length field, where a dispatcher names no other limit: 1 MiB.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultMaxFrameBytes = 1_048_576

const unsigned16 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))
const unsigned32 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffffffff }))

/**
 * An addition of a later version to hello or reply. A receiver that does not know the type skips it, or, where bit
 * `0x8000` of the type is set, refuses the connection.
 *
 * @category models
 * @since 0.1.0
 */
export class Extension extends Schema.Class<Extension>("@effect-nat/dispatcher/Extension")({
  type: unsigned16,
  value: Schema.Uint8Array
}) {}

/**
 * The bit of an extension's type that forbids to skip it.
 *
 * @category constants
 * @since 0.1.0
 */
export const requiredExtension = 0x8000

/** In a reply: the largest frame that the dispatcher takes, as a u32. */
const frameLimitExtension = 0x0001

/**
 * The client's opening: which session it wants to join. Its extensions take at most 1024 bytes, with 4 bytes of
 * header for each.
 *
 * @category models
 * @since 0.1.0
 */
export class Hello extends Schema.Class<Hello>("@effect-nat/dispatcher/Hello")({
  sessionId: SessionId.SessionId,
  extensions: Schema.Array(Extension)
}) {}

/**
 * The dispatcher's answer to a hello that it accepts.
 *
 * @category models
 * @since 0.1.0
 */
export class Accepted extends Schema.TaggedClass<Accepted>("@effect-nat/dispatcher/Accepted")("Accepted", {
  /** The largest frame that the dispatcher takes and sends, in bytes after the length field. */
  maxFrameBytes: unsigned32
}) {}

/**
 * The dispatcher's answer to a hello that it refuses, after which it closes the connection.
 *
 * @category models
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedClass<Refused>("@effect-nat/dispatcher/Refused")("Refused", {
  reason: CloseReason.CloseReason,
  /** The highest version of the wire that the dispatcher speaks. */
  version: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))
}) {}

/**
 * What came of the bytes received so far: not enough yet; a value and how many bytes it took; bytes of some other
 * protocol; or bytes of this one that cannot be accepted.
 *
 * @category models
 * @since 0.1.0
 */
export type Decoded<A> =
  | { readonly _tag: "Incomplete" }
  | { readonly _tag: "Complete"; readonly value: A; readonly length: number }
  | { readonly _tag: "Foreign" }
  | { readonly _tag: "Invalid"; readonly reason: CloseReason.Refusal }

const incomplete: Decoded<never> = { _tag: "Incomplete" }
const foreign: Decoded<never> = { _tag: "Foreign" }
const invalid = (reason: CloseReason.Refusal): Decoded<never> => ({ _tag: "Invalid", reason })

/**
 * Whether the bytes are, as far as they go, the start of this protocol.
 *
 * @category guards
 * @since 0.1.0
 */
export const startsLikeMagic = (bytes: Uint8Array): boolean =>
  magic.every((byte, index) => index >= bytes.length || bytes[index] === byte)

/**
 * The bytes of a hello.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeHello = (hello: Hello): Uint8Array => {
  const extensions = encodeExtensions(hello.extensions)
  const bytes = new Uint8Array(helloLength + extensions.length)
  bytes.set(magic, 0)
  bytes[4] = version
  viewOf(bytes).setUint16(6, extensions.length)
  bytes.set(SessionId.toBytes(hello.sessionId), 8)
  bytes.set(extensions, helloLength)
  return bytes
}

/**
 * Reads a hello from everything received so far. It needs at most 24 bytes and the extensions, and says as early as it
 * can that a hello will never be accepted.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeHello = (bytes: Uint8Array): Decoded<Hello> => {
  if (!startsLikeMagic(bytes)) return foreign
  if (bytes.length < 5) return incomplete
  if (bytes[4] !== version) return invalid("UnsupportedVersion")
  if (bytes.length < 8) return incomplete
  const extensionBytes = viewOf(bytes).getUint16(6)
  if (extensionBytes > maximumExtensionBytes) return invalid("Malformed")
  const length = helloLength + extensionBytes
  if (bytes.length < length) return incomplete
  const extensions = decodeExtensions(bytes.subarray(helloLength, length))
  const sessionId = SessionId.fromBytes(bytes.subarray(8, helloLength))
  if (extensions === undefined || Option.isNone(sessionId)) return invalid("Malformed")
  return { _tag: "Complete", value: new Hello({ sessionId: sessionId.value, extensions }), length }
}

/**
 * The bytes of a reply that accepts.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeAccepted = (accepted: Accepted): Uint8Array => {
  const value = new Uint8Array(4)
  viewOf(value).setUint32(0, accepted.maxFrameBytes)
  return encodeReply(version, CloseReason.toCode("Done"), [new Extension({ type: frameLimitExtension, value })])
}

/**
 * The bytes of a reply that refuses.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeRefused = (reason: CloseReason.Refusal): Uint8Array =>
  encodeReply(version, CloseReason.toCode(reason), [])

const encodeReply = (version: number, code: number, extensions: ReadonlyArray<Extension>): Uint8Array => {
  const encoded = encodeExtensions(extensions)
  const bytes = new Uint8Array(replyLength + encoded.length)
  bytes.set(magic, 0)
  bytes[4] = version
  bytes[5] = code
  viewOf(bytes).setUint16(6, encoded.length)
  bytes.set(encoded, replyLength)
  return bytes
}

/**
 * Reads a reply from everything received so far. A refusal is understood whatever the dispatcher's version: its first
 * 8 bytes keep their meaning for good.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeReply = (bytes: Uint8Array): Decoded<Accepted | Refused> => {
  if (!startsLikeMagic(bytes)) return foreign
  if (bytes.length < replyLength) return incomplete
  const code = bytes[5] ?? 0
  if (code !== 0) {
    const value = new Refused({ reason: CloseReason.fromCode(code), version: bytes[4] ?? 0 })
    return { _tag: "Complete", value, length: replyLength }
  }
  if (bytes[4] !== version) return invalid("UnsupportedVersion")
  const extensionBytes = viewOf(bytes).getUint16(6)
  if (extensionBytes > maximumExtensionBytes) return invalid("Malformed")
  const length = replyLength + extensionBytes
  if (bytes.length < length) return incomplete
  return accepted(decodeExtensions(bytes.subarray(replyLength, length)), length)
}

const accepted = (extensions: ReadonlyArray<Extension> | undefined, length: number): Decoded<Accepted> => {
  if (extensions === undefined) return invalid("Malformed")
  if (extensions.some(isRequired)) return invalid("UnsupportedExtension")
  const limit = extensions.find((one) => one.type === frameLimitExtension)
  if (limit === undefined) {
    return { _tag: "Complete", value: new Accepted({ maxFrameBytes: defaultMaxFrameBytes }), length }
  }
  if (limit.value.length !== 4) return invalid("Malformed")
  return { _tag: "Complete", value: new Accepted({ maxFrameBytes: viewOf(limit.value).getUint32(0) }), length }
}

/**
 * Whether a receiver that does not know this extension has to refuse the connection.
 *
 * @category guards
 * @since 0.1.0
 */
export const isRequired = (self: Extension): boolean => (self.type & requiredExtension) !== 0

const extensionHeaderLength = 4

const encodeExtensions = (extensions: ReadonlyArray<Extension>): Uint8Array => {
  const bytes = new Uint8Array(extensions.reduce((total, one) => total + extensionHeaderLength + one.value.length, 0))
  const view = viewOf(bytes)
  let offset = 0
  for (const one of extensions) {
    view.setUint16(offset, one.type)
    view.setUint16(offset + 2, one.value.length)
    bytes.set(one.value, offset + extensionHeaderLength)
    offset += extensionHeaderLength + one.value.length
  }
  return bytes
}

/** `undefined` where the extensions do not fill the bytes exactly. */
const decodeExtensions = (bytes: Uint8Array): ReadonlyArray<Extension> | undefined => {
  const view = viewOf(bytes)
  const extensions: Array<Extension> = []
  let offset = 0
  while (offset < bytes.length) {
    if (bytes.length - offset < extensionHeaderLength) return undefined
    const start = offset + extensionHeaderLength
    const end = start + view.getUint16(offset + 2)
    if (end > bytes.length) return undefined
    extensions.push(new Extension({ type: view.getUint16(offset), value: bytes.slice(start, end) }))
    offset = end
  }
  return extensions
}

/**
 * The frame type of a message. From a client its body is for all members of the session; to a client it is a message
 * of some member, the client itself included.
 *
 * @category constants
 * @since 0.1.0
 */
export const messageFrame = 0x01

/**
 * The frame type that ends a connection. The first byte of its body is the reason's code.
 *
 * @category constants
 * @since 0.1.0
 */
export const closeFrame = 0x02

/**
 * The bit of a frame type that allows a receiver to skip frames of a type that it does not know.
 *
 * @category constants
 * @since 0.1.0
 */
export const ignorableFrame = 0x80

/**
 * A frame as a value.
 *
 * @category models
 * @since 0.1.0
 */
export type Frame =
  | { readonly _tag: "Message"; readonly payload: Uint8Array }
  | { readonly _tag: "Close"; readonly reason: CloseReason.CloseReason }
  | { readonly _tag: "Other"; readonly type: number; readonly ignorable: boolean }

const encodeFrame = (type: number, body: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(frameHeaderLength + 1 + body.length)
  viewOf(bytes).setUint32(0, 1 + body.length)
  bytes[frameHeaderLength] = type
  bytes.set(body, frameHeaderLength + 1)
  return bytes
}

/**
 * The bytes of a message frame: the payload and 5 bytes before it.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeMessage = (payload: Uint8Array): Uint8Array => encodeFrame(messageFrame, payload)

/**
 * The bytes of a frame that ends the connection.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeClose = (reason: CloseReason.Sendable): Uint8Array =>
  encodeFrame(closeFrame, Uint8Array.of(CloseReason.toCode(reason)))

/**
 * The type of a whole frame, such as `FrameDecoder` yields.
 *
 * @category accessors
 * @since 0.1.0
 */
export const frameType = (frame: Uint8Array): number => frame[frameHeaderLength] ?? 0

/**
 * Reads a whole frame, such as `FrameDecoder` yields. The payload shares the frame's memory.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeFrame = (frame: Uint8Array): Frame => {
  const type = frameType(frame)
  if (type === messageFrame) return { _tag: "Message", payload: frame.subarray(frameHeaderLength + 1) }
  if (type === closeFrame) {
    const code = frame[frameHeaderLength + 1]
    return { _tag: "Close", reason: code === undefined ? "Unknown" : CloseReason.fromCode(code) }
  }
  return { _tag: "Other", type, ignorable: (type & ignorableFrame) !== 0 }
}

const nothing = new Uint8Array(0)
const smallestBuffer = 64

/**
 * Cuts a stream of bytes, in whatever chunks it comes, into whole frames with their length field.
 *
 * **Details**
 *
 * A frame that lies within one chunk is a view of it and costs no copy, so chunks must not be written to again. What
 * is held of an unfinished frame grows with the bytes received, not with the length announced, and never beyond the
 * limit.
 *
 * @category models
 * @since 0.1.0
 */
export class FrameDecoder {
  private readonly maxFrameBytes: number
  private buffer: Uint8Array = nothing
  private held = 0
  private failure: CloseReason.Refusal | undefined = undefined

  /**
   * @param maxFrameBytes the largest frame, in bytes after the length field
   */
  constructor(maxFrameBytes: number) {
    this.maxFrameBytes = maxFrameBytes
  }

  /**
   * Takes the next bytes and hands out each frame that they complete. Returns why the stream cannot be read any
   * further, and after that takes nothing: `"FrameTooLarge"`, or `"Malformed"` for a frame without a type.
   */
  push(chunk: Uint8Array, onFrame: (frame: Uint8Array) => void): CloseReason.Refusal | undefined {
    if (this.failure !== undefined) return this.failure
    const offset = this.finishHeld(chunk, onFrame)
    if (this.failure !== undefined) return this.failure
    const rest = this.readWhole(chunk, offset, onFrame)
    if (this.failure === undefined && rest < chunk.length) this.hold(chunk, rest, chunk.length)
    return this.failure
  }

  /** The bytes of an unfinished frame that are held now. */
  get heldBytes(): number {
    return this.held
  }

  /** Completes the frame that earlier chunks began; returns where the next one starts. */
  private finishHeld(chunk: Uint8Array, onFrame: (frame: Uint8Array) => void): number {
    let offset = 0
    while (this.held > 0 && offset < chunk.length) {
      const inHeader = this.held < frameHeaderLength
      const wanted = inHeader ? frameHeaderLength : frameHeaderLength + lengthAt(this.buffer, 0)
      const end = Math.min(chunk.length, offset + wanted - this.held)
      this.hold(chunk, offset, end)
      offset = end
      if (this.held < wanted) return offset
      if (inHeader) {
        if (this.isRefused(lengthAt(this.buffer, 0))) return offset
        continue
      }
      const frame = this.buffer.subarray(0, this.held)
      // The frame now belongs to its receiver.
      this.buffer = nothing
      this.held = 0
      onFrame(frame)
    }
    return offset
  }

  /** Hands out the frames that lie within the chunk; returns where the unfinished one starts. */
  private readWhole(chunk: Uint8Array, start: number, onFrame: (frame: Uint8Array) => void): number {
    let offset = start
    while (chunk.length - offset >= frameHeaderLength) {
      const length = lengthAt(chunk, offset)
      if (this.isRefused(length)) return offset
      const end = offset + frameHeaderLength + length
      if (end > chunk.length) return offset
      onFrame(chunk.subarray(offset, end))
      offset = end
    }
    return offset
  }

  private isRefused(length: number): boolean {
    if (length >= 1 && length <= this.maxFrameBytes) return false
    this.failure = length === 0 ? "Malformed" : "FrameTooLarge"
    this.buffer = nothing
    this.held = 0
    return true
  }

  private hold(chunk: Uint8Array, start: number, end: number): void {
    const needed = this.held + end - start
    if (needed > this.buffer.length) this.grow(needed)
    this.buffer.set(chunk.subarray(start, end), this.held)
    this.held = needed
  }

  private grow(needed: number): void {
    const limit = frameHeaderLength + this.maxFrameBytes
    const size = Math.max(needed, Math.min(limit, Math.max(smallestBuffer, this.buffer.length * 2)))
    const larger = new Uint8Array(size)
    larger.set(this.buffer.subarray(0, this.held))
    this.buffer = larger
  }
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Arithmetic, not a `DataView`: this runs once for each frame. */
const lengthAt = (bytes: Uint8Array, offset: number): number =>
  (bytes[offset] ?? 0) * 0x1000000 +
  (((bytes[offset + 1] ?? 0) << 16) | ((bytes[offset + 2] ?? 0) << 8) | (bytes[offset + 3] ?? 0))
