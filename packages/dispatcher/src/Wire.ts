/**
 * The dispatcher's wire, version 1: a pure codec between bytes and values, both directions.
 *
 * A connection starts with the client's hello, the router's challenge and the client's proof; after that the client
 * sends requests, each under a facet, and the router sends frames. All numbers are big-endian. Nothing here throws on
 * any input, and no decoder holds more than its limit.
 *
 * **Details**
 *
 * Requests and frames have headers of the same length, with the same length and checksum in them: to pass a message on,
 * the router writes type, sequence number and stamp over the sender's facet, and that is all it does to the bytes.
 *
 * What later versions may add without changing the bytes defined here: extensions in hello and challenge, frame types,
 * and bytes at the end of a frame's data. Extensions and types have a bit that says whether a receiver that does not
 * know them may skip them.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as CapabilityProof from "./CapabilityProof.ts"
import * as Checksum from "@effect-nat/core/Checksum"
import * as CloseReason from "./CloseReason.ts"
import * as Facet from "./Facet.ts"
import * as Bytes from "./internal/bytes.ts"
import * as SessionId from "@effect-nat/core/SessionId"

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
export const helloLength = 48

/**
 * The length of a refusal, and of what every reply begins with, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const replyLength = 8

/**
 * The length of a challenge without extensions, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const challengeLength = 40

/**
 * The most bytes that all extensions of one hello or challenge may take together.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumExtensionBytes = 1024

/**
 * The length of the length field of a request or frame, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const lengthFieldLength = 4

/**
 * The length of the header of a request or frame, its length field included, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const headerLength = 24

/** What the length field counts of the header. */
const shortestFrame = headerLength - lengthFieldLength

/**
 * The most bytes of data in one request or frame, where a router names no other limit: 1 MiB.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultMaxDataBytes = 1_048_576

const unsigned16 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))

const bytesOfLength = (length: number) =>
  Schema.Uint8Array.check(
    Schema.makeFilter((bytes: Uint8Array) => (bytes.length === length ? undefined : `expected ${length} bytes`))
  )

const nonce = bytesOfLength(CapabilityProof.proofLength)

/**
 * An addition of a later version to hello or challenge. A receiver that does not know the type skips it, or, where bit
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

/**
 * The client's opening: which session it wants to join, and by which capability, without telling it. Its extensions take
 * at most 1024 bytes, with 4 bytes of header for each.
 *
 * @category models
 * @since 0.1.0
 */
export class Hello extends Schema.Class<Hello>("@effect-nat/dispatcher/Hello")({
  sessionId: SessionId.SessionId,
  /** `CapabilityProof.name` of the capability. */
  capabilityName: bytesOfLength(CapabilityProof.nameLength),
  /** 16 random bytes, new for every connection. */
  nonce,
  extensions: Schema.Array(Extension)
}) {}

/**
 * The router's answer to a hello that it accepts: it shows that it knows the capability, and asks the client to do so.
 *
 * @category models
 * @since 0.1.0
 */
export class Challenge extends Schema.TaggedClass<Challenge>("@effect-nat/dispatcher/Challenge")("Challenge", {
  /** 16 random bytes, new for every connection. */
  nonce,
  /** `CapabilityProof.prove` for the side `"router"`. */
  proof: bytesOfLength(CapabilityProof.proofLength),
  extensions: Schema.Array(Extension)
}) {}

/**
 * The router's answer to a hello that it refuses, after which it closes the connection.
 *
 * @category models
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedClass<Refused>("@effect-nat/dispatcher/Refused")("Refused", {
  reason: CloseReason.CloseReason,
  /** The highest version of the wire that the router speaks. */
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
  writeReplyHeader(bytes, 0, extensions.length)
  bytes.set(SessionId.toBytes(hello.sessionId), 8)
  bytes.set(hello.capabilityName, 24)
  bytes.set(hello.nonce, 32)
  bytes.set(extensions, helloLength)
  return bytes
}

/**
 * Reads a hello from everything received so far. It needs at most 48 bytes and the extensions, and says as early as it
 * can that a hello will never be accepted.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeHello = (bytes: Uint8Array): Decoded<Hello> => {
  if (!startsLikeMagic(bytes)) return foreign
  if (bytes.length < 5) return incomplete
  if (bytes[4] !== version) return invalid("UnsupportedVersion")
  return decodeExtended<Hello>(bytes, helloLength, (extensions) => {
    const sessionId = SessionId.fromBytes(bytes.subarray(8, 24))
    if (Option.isNone(sessionId)) return invalid("Malformed")
    const value = new Hello({
      sessionId: sessionId.value,
      capabilityName: bytes.slice(24, 32),
      nonce: bytes.slice(32, helloLength),
      extensions: extensions.values
    })
    return { _tag: "Complete", value, length: extensions.end }
  })
}

/**
 * The bytes of a challenge.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeChallenge = (challenge: Challenge): Uint8Array => {
  const extensions = encodeExtensions(challenge.extensions)
  const bytes = new Uint8Array(challengeLength + extensions.length)
  writeReplyHeader(bytes, CloseReason.toCode("Done"), extensions.length)
  bytes.set(challenge.nonce, 8)
  bytes.set(challenge.proof, 24)
  bytes.set(extensions, challengeLength)
  return bytes
}

/**
 * The bytes of a reply that refuses.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeRefused = (reason: CloseReason.Refusal): Uint8Array => {
  const bytes = new Uint8Array(replyLength)
  writeReplyHeader(bytes, CloseReason.toCode(reason), 0)
  return bytes
}

const writeReplyHeader = (bytes: Uint8Array, code: number, extensionBytes: number): void => {
  bytes.set(magic, 0)
  bytes[4] = version
  bytes[5] = code
  Bytes.viewOf(bytes).setUint16(6, extensionBytes)
}

/**
 * Reads a reply from everything received so far. A refusal is understood whatever the router's version: its first
 * 8 bytes keep their meaning for good.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeReply = (bytes: Uint8Array): Decoded<Challenge | Refused> => {
  if (!startsLikeMagic(bytes)) return foreign
  if (bytes.length < replyLength) return incomplete
  const code = bytes[5] ?? 0
  if (code !== 0) {
    const value = new Refused({ reason: CloseReason.fromCode(code), version: bytes[4] ?? 0 })
    return { _tag: "Complete", value, length: replyLength }
  }
  if (bytes[4] !== version) return invalid("UnsupportedVersion")
  return decodeExtended<Challenge>(bytes, challengeLength, (extensions) => {
    if (extensions.values.some(isRequired)) return invalid("UnsupportedExtension")
    const value = new Challenge({
      nonce: bytes.slice(8, 24),
      proof: bytes.slice(24, challengeLength),
      extensions: extensions.values
    })
    return { _tag: "Complete", value, length: extensions.end }
  })
}

interface Extensions {
  readonly values: ReadonlyArray<Extension>
  /** Where they end. */
  readonly end: number
}

/** What hello and challenge have in common: a part of fixed length, then extensions, whose length stands at offset 6. */
const decodeExtended = <A>(
  bytes: Uint8Array,
  fixed: number,
  complete: (extensions: Extensions) => Decoded<A>
): Decoded<A> => {
  if (bytes.length < 8) return incomplete
  const extensionBytes = Bytes.viewOf(bytes).getUint16(6)
  if (extensionBytes > maximumExtensionBytes) return invalid("Malformed")
  const end = fixed + extensionBytes
  if (bytes.length < end) return incomplete
  const values = decodeExtensions(bytes.subarray(fixed, end))
  return values === undefined ? invalid("Malformed") : complete({ values, end })
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
  const view = Bytes.viewOf(bytes)
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
  const view = Bytes.viewOf(bytes)
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
 * What the router sends, by the type on the wire.
 *
 * @category constants
 * @since 0.1.0
 */
export const frameTypes = {
  /** First of all: the facets. */
  Welcome: 0x01,
  /** From here on there are messages. */
  Joined: 0x02,
  /** What a member has sent. */
  Message: 0x03,
  /** The router's time. */
  Tick: 0x04,
  /** Asks a member that is a server for a snapshot, or for the next part of it. */
  Serve: 0x05,
  /** A part of a snapshot. */
  Snapshot: 0x06,
  /** There will be no snapshot. */
  NoSnapshot: 0x07,
  /** The answer to a question for the time. */
  Time: 0x08,
  /** The last frame of a connection. */
  Close: 0x09
} as const

/**
 * The bit of a frame's type that allows a receiver to skip frames of a type that it does not know.
 *
 * @category constants
 * @since 0.1.0
 */
export const ignorableFrame = 0x80

/**
 * Why there will be no snapshot: no member makes any, or none that was asked has answered.
 *
 * @category models
 * @since 0.1.0
 */
export type NoSnapshotReason = "NoServer" | "NoAnswer"

interface Envelope {
  /** The number of the message; in other frames that of the last message before. */
  readonly sequence: number
  /** The router's time, in microseconds of a clock of its own. */
  readonly stamp: number
}

/**
 * A frame of the router, as a value. Data shares the memory of the bytes that it was read from.
 *
 * @category models
 * @since 0.1.0
 */
export type Frame = Envelope &
  (
    | { readonly _tag: "Welcome"; readonly facets: Facets; readonly life: Uint8Array; readonly maxDataBytes: number }
    | { readonly _tag: "Joined"; readonly isResumed: boolean }
    | { readonly _tag: "Message"; readonly data: Uint8Array }
    | { readonly _tag: "Tick" }
    | { readonly _tag: "Serve"; readonly replyFacet: Uint8Array; readonly offset: number }
    | { readonly _tag: "Snapshot"; readonly part: SnapshotPart }
    | { readonly _tag: "NoSnapshot"; readonly reason: NoSnapshotReason }
    | { readonly _tag: "Time"; readonly echo: Uint8Array }
    | { readonly _tag: "Close"; readonly reason: CloseReason.CloseReason }
    | { readonly _tag: "Other"; readonly isIgnorable: boolean }
    | { readonly _tag: "Invalid"; readonly reason: CloseReason.Refusal }
  )

/**
 * The facets of one connection, 16 bytes each; what is not granted is missing.
 *
 * @category models
 * @since 0.1.0
 */
export type Facets = { readonly [F in Facet.Facet]?: Uint8Array }

/**
 * A part of a snapshot.
 *
 * @category models
 * @since 0.1.0
 */
export interface SnapshotPart {
  /** The number of the last message that the snapshot includes. */
  readonly sequence: number
  /** The size of the whole snapshot, in bytes. */
  readonly size: number
  /** Where this part belongs. */
  readonly offset: number
  readonly data: Uint8Array
}

/**
 * The length of what precedes the data in a part of a snapshot, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const snapshotHeaderLength = 16

/** The length of the name of a life: which run of a session the sequence numbers belong to. */
const lifeLength = 8

/**
 * The length of the data by which a client that comes back says what it has, in bytes: a message's number and a life.
 *
 * @category constants
 * @since 0.1.0
 */
export const resumeLength = 16

const twoTo32 = 0x1_0000_0000

/**
 * The bytes of a frame.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeFrame = (type: number, { sequence, stamp }: Envelope, data: Uint8Array = nothing): Uint8Array => {
  const bytes = withData(data)
  stampFrame(bytes, 0, type, sequence, stamp)
  return bytes
}

/**
 * The bytes of a request: a facet, and what goes with it.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeRequest = (facet: Uint8Array, data: Uint8Array = nothing): Uint8Array => {
  const bytes = withData(data)
  bytes.set(facet, 8)
  return bytes
}

const withData = (data: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(headerLength + data.length)
  const view = Bytes.viewOf(bytes)
  view.setUint32(0, shortestFrame + data.length)
  view.setUint32(4, Checksum.crc32(data))
  bytes.set(data, headerLength)
  return bytes
}

/**
 * Writes type, sequence number and stamp into a request or frame that begins at `start`, over what stands there.
 *
 * @category encoding
 * @since 0.1.0
 */
export const stampFrame = (bytes: Uint8Array, start: number, type: number, sequence: number, stamp: number): void => {
  const high = Math.floor(sequence / twoTo32)
  bytes[start + 8] = type
  bytes[start + 9] = high >>> 16
  bytes[start + 10] = high >>> 8
  bytes[start + 11] = high
  writeUnsigned32(bytes, start + 12, sequence)
  writeUnsigned32(bytes, start + 16, Math.floor(stamp / twoTo32))
  writeUnsigned32(bytes, start + 20, stamp)
}

/** Stores, not a `DataView`: this runs for each message. Only the lowest 32 bits count. */
const writeUnsigned32 = (bytes: Uint8Array, offset: number, value: number): void => {
  const bits = value | 0
  bytes[offset] = bits >>> 24
  bytes[offset + 1] = bits >>> 16
  bytes[offset + 2] = bits >>> 8
  bytes[offset + 3] = bits
}

/**
 * Whether the data of a request or frame, from `start` to before `end`, is what its checksum says.
 *
 * @category guards
 * @since 0.1.0
 */
export const isIntact = (bytes: Uint8Array, start: number, end: number): boolean =>
  Checksum.crc32(bytes, start + headerLength, end) === unsigned32At(bytes, start + 4)

/**
 * Where a whole request or frame that begins at `start` ends.
 *
 * @category accessors
 * @since 0.1.0
 */
export const endOf = (bytes: Uint8Array, start: number): number =>
  start + lengthFieldLength + unsigned32At(bytes, start)

/**
 * The bytes of the router's first frame.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeWelcome = (
  envelope: Envelope,
  facets: Facets,
  life: Uint8Array,
  maxDataBytes: number
): Uint8Array => {
  const data = new Uint8Array(welcomeLength)
  Bytes.viewOf(data).setUint32(0, maxDataBytes)
  data.set(life, 4)
  Facet.all.forEach((facet, index) => data.set(facets[facet] ?? notGranted, facetsOffset + index * Facet.byteLength))
  return encodeFrame(frameTypes.Welcome, envelope, data)
}

const facetsOffset = 4 + lifeLength
const welcomeLength = facetsOffset + Facet.all.length * Facet.byteLength
const notGranted = new Uint8Array(Facet.byteLength)

/**
 * The bytes of the frame that ends a connection.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeClose = (envelope: Envelope, reason: CloseReason.Sendable): Uint8Array =>
  encodeFrame(frameTypes.Close, envelope, Uint8Array.of(CloseReason.toCode(reason)))

/**
 * The bytes of the frame that asks a server for a snapshot, from an offset on.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeServe = (envelope: Envelope, replyFacet: Uint8Array, offset: number): Uint8Array => {
  const data = new Uint8Array(Facet.byteLength + 4)
  data.set(replyFacet, 0)
  Bytes.viewOf(data).setUint32(Facet.byteLength, offset)
  return encodeFrame(frameTypes.Serve, envelope, data)
}

/**
 * The bytes of the frame that says that there will be no snapshot.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeNoSnapshot = (envelope: Envelope, reason: NoSnapshotReason): Uint8Array =>
  encodeFrame(frameTypes.NoSnapshot, envelope, Uint8Array.of(noSnapshotReasons.indexOf(reason)))

const noSnapshotReasons: ReadonlyArray<NoSnapshotReason> = ["NoServer", "NoAnswer"]

/**
 * The data of the request that joins a session again, after the last message that the client has.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeResume = (sequence: number, life: Uint8Array): Uint8Array => {
  const data = new Uint8Array(resumeLength)
  writeUnsigned64(data, 0, sequence)
  data.set(life, 8)
  return data
}

/**
 * Reads what `encodeResume` wrote; `undefined` for anything else.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeResume = (data: Uint8Array): { readonly sequence: number; readonly life: Uint8Array } | undefined =>
  data.length === resumeLength ? { sequence: unsigned64At(data, 0), life: data.subarray(8) } : undefined

/**
 * The data of a part of a snapshot, as a server sends it to the reply facet.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeSnapshotPart = ({ data, offset, sequence, size }: SnapshotPart): Uint8Array => {
  const bytes = new Uint8Array(snapshotHeaderLength + data.length)
  writeUnsigned64(bytes, 0, sequence)
  writeUnsigned32(bytes, 8, size)
  writeUnsigned32(bytes, 12, offset)
  bytes.set(data, snapshotHeaderLength)
  return bytes
}

/**
 * Reads a part of a snapshot; `undefined` where that is none, or does not lie within the size that it tells.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeSnapshotPart = (bytes: Uint8Array): SnapshotPart | undefined => {
  if (bytes.length < snapshotHeaderLength) return undefined
  const part: SnapshotPart = {
    sequence: unsigned64At(bytes, 0),
    size: unsigned32At(bytes, 8),
    offset: unsigned32At(bytes, 12),
    data: bytes.subarray(snapshotHeaderLength)
  }
  const isWithin = part.offset + part.data.length <= part.size
  return isWithin && (part.data.length > 0 || part.size === 0) ? part : undefined
}

/**
 * Reads a whole frame, such as `FrameDecoder` yields.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeFrame = (bytes: Uint8Array): Frame => {
  const type = bytes[8] ?? 0
  const sequence = (unsigned32At(bytes, 8) & 0xffffff) * twoTo32 + unsigned32At(bytes, 12)
  const envelope = { sequence, stamp: unsigned64At(bytes, 16) }
  if (!isIntact(bytes, 0, bytes.length)) return { ...envelope, _tag: "Invalid", reason: "BadChecksum" }
  return { ...envelope, ...decodeBody(type, bytes.subarray(headerLength)) }
}

type Body = Frame extends infer F ? (F extends Envelope ? Omit<F, keyof Envelope> : never) : never

const malformed: Body = { _tag: "Invalid", reason: "Malformed" }

const decodeBody = (type: number, data: Uint8Array): Body => {
  switch (type) {
    case frameTypes.Message:
      return { _tag: "Message", data }
    case frameTypes.Tick:
      return { _tag: "Tick" }
    case frameTypes.Welcome:
      return decodeWelcome(data)
    case frameTypes.Joined:
      return data.length < 1 ? malformed : { _tag: "Joined", isResumed: data[0] === 1 }
    case frameTypes.Serve:
      if (data.length < Facet.byteLength + 4) return malformed
      return {
        _tag: "Serve",
        replyFacet: data.slice(0, Facet.byteLength),
        offset: unsigned32At(data, Facet.byteLength)
      }
    case frameTypes.Snapshot: {
      const part = decodeSnapshotPart(data)
      return part === undefined ? malformed : { _tag: "Snapshot", part }
    }
    case frameTypes.NoSnapshot:
      return { _tag: "NoSnapshot", reason: noSnapshotReasons[data[0] ?? 0] ?? "NoAnswer" }
    case frameTypes.Time:
      return { _tag: "Time", echo: data }
    case frameTypes.Close:
      return { _tag: "Close", reason: data.length < 1 ? "Unknown" : CloseReason.fromCode(data[0] ?? 0) }
    default:
      return { _tag: "Other", isIgnorable: (type & ignorableFrame) !== 0 }
  }
}

const decodeWelcome = (data: Uint8Array): Body => {
  if (data.length < welcomeLength) return malformed
  const facets: { [F in Facet.Facet]?: Uint8Array } = {}
  Facet.all.forEach((facet, index) => {
    const start = facetsOffset + index * Facet.byteLength
    const bytes = data.slice(start, start + Facet.byteLength)
    if (!Bytes.equals(bytes, notGranted)) facets[facet] = bytes
  })
  const life = data.slice(4, facetsOffset)
  return { _tag: "Welcome", facets, life, maxDataBytes: unsigned32At(data, 0) }
}

const nothing = new Uint8Array(0)
const smallestBuffer = 64

/**
 * Cuts a stream of bytes, in whatever chunks it comes, into whole requests or frames with their length field.
 *
 * **Details**
 *
 * What lies within one chunk is handed out as a part of that chunk and costs no copy, so chunks must not be written to
 * by others. What is held of an unfinished one grows with the bytes received, not with the length announced, and never
 * beyond the limit.
 *
 * @category models
 * @since 0.1.0
 */
export class FrameDecoder {
  private readonly longest: number
  private buffer: Uint8Array = nothing
  private held = 0
  private failure: CloseReason.Refusal | undefined = undefined

  /**
   * @param maxDataBytes the most bytes of data
   */
  constructor(maxDataBytes: number) {
    this.longest = shortestFrame + maxDataBytes
  }

  /**
   * Takes the next bytes and hands out each request or frame that they complete, as the bytes from `start` to before
   * `end`. Returns why the stream cannot be read any further, and after that takes nothing: `"FrameTooLarge"`, or
   * `"Malformed"` for one that is shorter than its header.
   */
  push(
    chunk: Uint8Array,
    onFrame: (bytes: Uint8Array, start: number, end: number) => void
  ): CloseReason.Refusal | undefined {
    if (this.failure !== undefined) return this.failure
    const offset = this.held === 0 ? 0 : this.finishHeld(chunk, onFrame)
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
  private finishHeld(chunk: Uint8Array, onFrame: (bytes: Uint8Array, start: number, end: number) => void): number {
    let offset = 0
    while (this.held > 0 && offset < chunk.length) {
      const inLength = this.held < lengthFieldLength
      const wanted = inLength ? lengthFieldLength : lengthFieldLength + unsigned32At(this.buffer, 0)
      const end = Math.min(chunk.length, offset + wanted - this.held)
      this.hold(chunk, offset, end)
      offset = end
      if (this.held < wanted) return offset
      if (inLength) {
        if (this.isRefused(unsigned32At(this.buffer, 0))) return offset
        continue
      }
      const frame = this.buffer
      // The frame now belongs to its receiver.
      this.buffer = nothing
      this.held = 0
      onFrame(frame, 0, wanted)
    }
    return offset
  }

  /** Hands out the frames that lie within the chunk; returns where the unfinished one starts. */
  private readWhole(
    chunk: Uint8Array,
    from: number,
    onFrame: (bytes: Uint8Array, start: number, end: number) => void
  ): number {
    let start = from
    while (chunk.length - start >= lengthFieldLength) {
      const length = unsigned32At(chunk, start)
      if (this.isRefused(length)) return start
      const end = start + lengthFieldLength + length
      if (end > chunk.length) return start
      onFrame(chunk, start, end)
      start = end
    }
    return start
  }

  private isRefused(length: number): boolean {
    if (length >= shortestFrame && length <= this.longest) return false
    this.failure = length < shortestFrame ? "Malformed" : "FrameTooLarge"
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
    const limit = lengthFieldLength + this.longest
    const size = Math.max(needed, Math.min(limit, Math.max(smallestBuffer, this.buffer.length * 2)))
    const larger = new Uint8Array(size)
    larger.set(this.buffer.subarray(0, this.held))
    this.buffer = larger
  }
}

const byteAt = (bytes: Uint8Array, offset: number): number => bytes[offset] ?? 0

/** Arithmetic, not a `DataView`: this runs for each message. */
const unsigned32At = (bytes: Uint8Array, offset: number): number =>
  byteAt(bytes, offset) * 0x1000000 +
  ((byteAt(bytes, offset + 1) << 16) | (byteAt(bytes, offset + 2) << 8) | byteAt(bytes, offset + 3))

/** Exact below 2^53, which no session reaches. */
const unsigned64At = (bytes: Uint8Array, offset: number): number =>
  unsigned32At(bytes, offset) * twoTo32 + unsigned32At(bytes, offset + 4)

const writeUnsigned64 = (bytes: Uint8Array, offset: number, value: number): void => {
  writeUnsigned32(bytes, offset, Math.floor(value / twoTo32))
  writeUnsigned32(bytes, offset + 4, value)
}
