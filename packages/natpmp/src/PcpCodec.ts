/**
 * The packets of the Port Control Protocol (RFC 6887), both directions: pure functions between bytes and values.
 *
 * Decoding takes any bytes of any length and never throws: what is no packet of the protocol is a `DecodeError`.
 * Encoding takes whole numbers within the range of their field, and options that fit into a packet.
 *
 * Addresses are IPv4 or IPv6 here; on the wire all have 128 bits, and an IPv4-mapped one is IPv4 (§5). So an IPv4-mapped
 * address as an IPv6 value is not told from its IPv4 address.
 *
 * **Example** (Ask for a mapping, and read the answer)
 *
 * ```ts
 * import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
 * import * as NetAddress from "effect/net/NetAddress"
 * import * as Result from "effect/Result"
 *
 * const request = PcpCodec.encodeRequest({
 *   _tag: "MapRequest",
 *   clientAddress: NetAddress.ipFromStringUnsafe("192.168.1.2"),
 *   lifetime: 7200,
 *   nonce: PcpCodec.nonceFromBytes(crypto.getRandomValues(new Uint8Array(12))),
 *   protocol: PcpCodec.ProtocolNumber.tcp,
 *   internalPort: 12000,
 *   externalPort: 12001,
 *   externalAddress: NetAddress.ipv4Unspecified,
 *   options: [{ _tag: "PreferFailure" }]
 * })
 *
 * const externalPort = (answer: Uint8Array): number | undefined => {
 *   const decoded = PcpCodec.decodeResponse(answer)
 *   return Result.isSuccess(decoded) && decoded.success._tag === "MapResponse"
 *     ? decoded.success.externalPort
 *     : undefined
 * }
 *
 * console.log(request.length, externalPort(new Uint8Array(0)))
 * ```
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * The UDP port that servers listen on, the same as NAT-PMP's (RFC 6887 §19.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const serverPort = 5351

/**
 * The UDP port that clients listen on for announcements (RFC 6887 §14.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const clientPort = 5350

/**
 * The IPv4 group that announcements go to: all hosts of the link (RFC 6887 §14.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const group: NetAddress.Ipv4Address = NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(224, 0, 0, 1))

/**
 * The IPv6 group that announcements go to: all nodes of the link (RFC 6887 §14.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const groupIpv6: NetAddress.Ipv6Address = NetAddress.ipv6FromBytesUnsafe(
  Uint8Array.of(0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
)

/**
 * The version of the protocol that this module speaks (RFC 6887 §7.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const version = 2

/**
 * What an answer's opcode has that its request's has not: the top bit (RFC 6887 §7.2).
 *
 * @category constants
 * @since 0.1.0
 */
export const responseBit = 128

/**
 * The length of the header that every packet begins with, in bytes (RFC 6887 §7.1, §7.2).
 *
 * @category constants
 * @since 0.1.0
 */
export const headerLength = 24

/**
 * The longest packet, in bytes (RFC 6887 §7). The length of every packet is a multiple of 4.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes = 1100

/**
 * The opcodes of RFC 6887: ANNOUNCE (§14.1), MAP (§11) and PEER (§12).
 *
 * @category constants
 * @since 0.1.0
 */
export const Opcode = { announce: 0, map: 1, peer: 2 } as const

/**
 * The codes of the options of RFC 6887 §13. A receiver may skip an option that it does not know from 128 on.
 *
 * @category constants
 * @since 0.1.0
 */
export const OptionCode = { thirdParty: 1, preferFailure: 2, filter: 3 } as const

/**
 * The protocol numbers that port mappings are made for; `all` stands for every protocol (RFC 6887 §11.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const ProtocolNumber = { all: 0, tcp: 6, udp: 17 } as const

const nonceLength = 12

const Uint7 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0x7f }))
const Uint8 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xff }))
const Uint16 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))
const Uint32 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffffffff }))

/**
 * What shows that a request for a mapping comes from whoever made the mapping: 96 random bits, here as 24 lower-case
 * hexadecimal digits. A mapping keeps its nonce for its whole life (RFC 6887 §11.2).
 *
 * @category schemas
 * @since 0.1.0
 */
export const Nonce = Schema.String.check(
  Schema.isPattern(/^[0-9a-f]{24}$/, { expected: "a nonce of 24 hexadecimal digits" })
).pipe(Schema.brand("@effect-nat/natpmp/PcpNonce"))

/**
 * What shows that a request for a mapping comes from whoever made the mapping.
 *
 * @category models
 * @since 0.1.0
 */
export type Nonce = typeof Nonce.Type

/**
 * The mapping is for another host than the one that asks (RFC 6887 §13.1).
 *
 * @category schemas
 * @since 0.1.0
 */
export const ThirdParty = Schema.TaggedStruct("ThirdParty", { internalAddress: Schema.IpAddress })

/**
 * Rather no mapping than one with another external address or port than suggested (RFC 6887 §13.2).
 *
 * @category schemas
 * @since 0.1.0
 */
export const PreferFailure = Schema.TaggedStruct("PreferFailure", {})

/**
 * Packets come in only from these remote hosts (RFC 6887 §13.3).
 *
 * @category schemas
 * @since 0.1.0
 */
export const Filter = Schema.TaggedStruct("Filter", {
  /**
   * In bits of the 128-bit address: 128 is one host, also over IPv4, where the shortest is 96. 0 removes all filters.
   */
  prefixLength: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 128 })),
  /** 0 for all ports. */
  remotePeerPort: Uint16,
  remotePeerAddress: Schema.IpAddress
})

/**
 * An option that RFC 6887 does not define.
 *
 * @category schemas
 * @since 0.1.0
 */
export const UnknownOption = Schema.TaggedStruct("UnknownOption", {
  /** 0, or 4 to 255. */
  code: Uint8,
  /** Without the padding. */
  data: Schema.Uint8Array
})

/**
 * An option of a request or answer (RFC 6887 §7.3).
 *
 * @category schemas
 * @since 0.1.0
 */
export const PcpOption = Schema.Union([ThirdParty, PreferFailure, Filter, UnknownOption])

/**
 * An option of a request or answer (RFC 6887 §7.3).
 *
 * @category models
 * @since 0.1.0
 */
export type PcpOption = typeof PcpOption.Type

const options = Schema.Array(PcpOption)

/** What both directions of MAP have in common (RFC 6887 §11.1). */
const mapFields = {
  nonce: Nonce,
  /** A number of IANA's registry; see `ProtocolNumber`. */
  protocol: Uint8,
  internalPort: Uint16,
  /** As suggested in a request, as assigned in an answer; 0 suggests none. */
  externalPort: Uint16,
  /** As suggested in a request, as assigned in an answer; the unspecified address of its family suggests none. */
  externalAddress: Schema.IpAddress
}

/** What both directions of PEER have in common (RFC 6887 §12.1). */
const peerFields = {
  ...mapFields,
  remotePeerPort: Uint16,
  remotePeerAddress: Schema.IpAddress
}

const requestFields = {
  /** Whence the client believes to send: a server that sees another address knows of a NAT between (RFC 6887 §8.1). */
  clientAddress: Schema.IpAddress,
  options
}

/**
 * "Is your epoch as I know it?" (RFC 6887 §14.1).
 *
 * @category schemas
 * @since 0.1.0
 */
export const AnnounceRequest = Schema.TaggedStruct("AnnounceRequest", requestFields)

/**
 * "Is your epoch as I know it?" (RFC 6887 §14.1).
 *
 * @category models
 * @since 0.1.0
 */
export type AnnounceRequest = typeof AnnounceRequest.Type

/**
 * "Let packets in to this port" or, with a lifetime of 0, "no longer" (RFC 6887 §11).
 *
 * @category schemas
 * @since 0.1.0
 */
export const MapRequest = Schema.TaggedStruct("MapRequest", {
  ...requestFields,
  ...mapFields,
  /** In seconds; 0 deletes. */
  lifetime: Uint32
})

/**
 * "Let packets in to this port" or, with a lifetime of 0, "no longer" (RFC 6887 §11).
 *
 * @category models
 * @since 0.1.0
 */
export type MapRequest = typeof MapRequest.Type

/**
 * "Keep the mapping of this connection that I open to a peer" (RFC 6887 §12).
 *
 * @category schemas
 * @since 0.1.0
 */
export const PeerRequest = Schema.TaggedStruct("PeerRequest", {
  ...requestFields,
  ...peerFields,
  /** In seconds; 0 gives the mapping back to its usual lifetime. */
  lifetime: Uint32
})

/**
 * "Keep the mapping of this connection that I open to a peer" (RFC 6887 §12).
 *
 * @category models
 * @since 0.1.0
 */
export type PeerRequest = typeof PeerRequest.Type

/**
 * What a client sends.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Request = Schema.Union([AnnounceRequest, MapRequest, PeerRequest])

/**
 * What a client sends.
 *
 * @category models
 * @since 0.1.0
 */
export type Request = typeof Request.Type

const responseFields = {
  /** The seconds since the server's mapping table was empty (RFC 6887 §8.5). */
  epoch: Uint32,
  options
}

/**
 * The answer to an ANNOUNCE, and the announcement of a restarted server (RFC 6887 §14.1).
 *
 * @category schemas
 * @since 0.1.0
 */
export const AnnounceResponse = Schema.TaggedStruct("AnnounceResponse", responseFields)

/**
 * The answer to an ANNOUNCE, and the announcement of a restarted server (RFC 6887 §14.1).
 *
 * @category models
 * @since 0.1.0
 */
export type AnnounceResponse = typeof AnnounceResponse.Type

/**
 * A mapping as it is now, in answer to a MAP and whenever it changes (RFC 6887 §11.1, §14.2).
 *
 * @category schemas
 * @since 0.1.0
 */
export const MapResponse = Schema.TaggedStruct("MapResponse", {
  ...responseFields,
  ...mapFields,
  /** In seconds, as granted; 0 after a deletion. */
  lifetime: Uint32
})

/**
 * A mapping as it is now, in answer to a MAP and whenever it changes (RFC 6887 §11.1, §14.2).
 *
 * @category models
 * @since 0.1.0
 */
export type MapResponse = typeof MapResponse.Type

/**
 * The mapping of a connection, in answer to a PEER (RFC 6887 §12.1).
 *
 * @category schemas
 * @since 0.1.0
 */
export const PeerResponse = Schema.TaggedStruct("PeerResponse", {
  ...responseFields,
  ...peerFields,
  /** In seconds, as granted. */
  lifetime: Uint32
})

/**
 * The mapping of a connection, in answer to a PEER (RFC 6887 §12.1).
 *
 * @category models
 * @since 0.1.0
 */
export type PeerResponse = typeof PeerResponse.Type

/**
 * Any answer with a result code other than 0 (RFC 6887 §7.4, §8.3). What the code means is in `PcpResultCode`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const ErrorResponse = Schema.TaggedStruct("ErrorResponse", {
  /** The server's version; with the result code 1, the highest that it speaks. 0 is NAT-PMP's. */
  version: Uint8,
  /** Without the response bit. */
  opcode: Uint7,
  resultCode: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 0xff })),
  /**
   * How long the same request will fail in the same way, in seconds; `undefined` in an answer of another version, whose
   * layout is not known.
   */
  lifetime: Schema.UndefinedOr(Uint32),
  /** `undefined` in an answer of another version, whose layout is not known. */
  epoch: Schema.UndefinedOr(Uint32),
  /** The last 96 bits of the request's client address where the request could not be read, or zeros. */
  reserved: Schema.Uint8Array,
  /** What followed the header of the request, as far as the server sent it back. See `mappingOf`. */
  payload: Schema.Uint8Array
})

/**
 * Any answer with a result code other than 0 (RFC 6887 §7.4, §8.3).
 *
 * @category models
 * @since 0.1.0
 */
export type ErrorResponse = typeof ErrorResponse.Type

/**
 * What a server sends.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Response = Schema.Union([AnnounceResponse, MapResponse, PeerResponse, ErrorResponse])

/**
 * What a server sends.
 *
 * @category models
 * @since 0.1.0
 */
export type Response = typeof Response.Type

/**
 * Bytes that are no packet of the protocol. Version and opcode, with which a server answers such a packet, are kept
 * where the bytes had them.
 *
 * `"TooShort"` is a packet without all of its header and its opcode's fields, `"BadLength"` one that is too long or
 * does not end on a multiple of 4.
 *
 * @category errors
 * @since 0.1.0
 */
export class DecodeError extends Data.TaggedError("PcpDecodeError")<{
  readonly kind:
    | "TooShort"
    | "BadLength"
    | "UnsupportedVersion"
    | "UnsupportedOpcode"
    | "MalformedOption"
    | "NotARequest"
    | "NotAResponse"
  readonly version: number | undefined
  /** As in the packet, response bit included. */
  readonly opcode: number | undefined
  readonly length: number
}> {
  override get message(): string {
    return `${this.kind}: ${this.length} bytes, version ${this.version ?? "none"}, opcode ${this.opcode ?? "none"}`
  }
}

const refuse = (kind: DecodeError["kind"], bytes: Uint8Array): Result.Result<never, DecodeError> =>
  Result.fail(new DecodeError({ kind, version: bytes[0], opcode: bytes[1], length: bytes.length }))

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const toHex = (bytes: Uint8Array): string => {
  let text = ""
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0")
  return text
}

/**
 * A nonce from the first 12 bytes; missing ones are zero.
 *
 * @category constructors
 * @since 0.1.0
 */
export const nonceFromBytes = (bytes: Uint8Array): Nonce =>
  Nonce.make(toHex(bytes.subarray(0, nonceLength)).padEnd(nonceLength * 2, "0"))

/** The 128 bits of an address as they go over the wire. */
const wide = (address: NetAddress.IpAddress): ReadonlyArray<number> =>
  NetAddress.ipv6ToOctets(NetAddress.isIpv4Address(address) ? NetAddress.toIpv4Mapped(address) : address)

const readAddress = (bytes: Uint8Array, offset: number): NetAddress.IpAddress => {
  const address = NetAddress.ipv6FromBytesUnsafe(bytes.slice(offset, offset + 16))
  return Option.getOrElse(NetAddress.fromIpv4Mapped(address), () => address)
}

const padded = (length: number): number => Math.ceil(length / 4) * 4

/**
 * The code of an option.
 *
 * @category accessors
 * @since 0.1.0
 */
export const optionCode = (option: PcpOption): number => {
  switch (option._tag) {
    case "ThirdParty":
      return OptionCode.thirdParty
    case "PreferFailure":
      return OptionCode.preferFailure
    case "Filter":
      return OptionCode.filter
    case "UnknownOption":
      return option.code
  }
}

/**
 * Whether a server that does not know this option has to refuse the request (RFC 6887 §7.3).
 *
 * @category guards
 * @since 0.1.0
 */
export const isMandatory = (option: PcpOption): boolean => optionCode(option) < 128

const optionData = (option: PcpOption): Uint8Array => {
  switch (option._tag) {
    case "ThirdParty":
      return Uint8Array.from(wide(option.internalAddress))
    case "PreferFailure":
      return new Uint8Array(0)
    case "Filter":
      return Uint8Array.of(
        0,
        option.prefixLength,
        option.remotePeerPort >> 8,
        option.remotePeerPort & 0xff,
        ...wide(option.remotePeerAddress)
      )
    case "UnknownOption":
      return option.data
  }
}

const encodeOption = (option: PcpOption): Uint8Array => {
  const data = optionData(option)
  const bytes = new Uint8Array(4 + padded(data.length))
  bytes[0] = optionCode(option)
  viewOf(bytes).setUint16(2, data.length)
  bytes.set(data, 4)
  return bytes
}

/** IPv4 addresses are the last 32 of 128 bits, so that a shorter prefix than 96 would be of no address (§13.3). */
const isPrefixOf = (length: number, address: NetAddress.IpAddress): boolean =>
  length <= 128 && (length === 0 || length >= 96 || !NetAddress.isIpv4Address(address))

/** `undefined` where a known option has not the length or the values that it must have. */
const decodeOption = (code: number, data: Uint8Array): PcpOption | undefined => {
  switch (code) {
    case OptionCode.thirdParty:
      return data.length === 16 ? { _tag: "ThirdParty", internalAddress: readAddress(data, 0) } : undefined
    case OptionCode.preferFailure:
      return data.length === 0 ? { _tag: "PreferFailure" } : undefined
    case OptionCode.filter: {
      if (data.length !== 20) return undefined
      const view = viewOf(data)
      const [prefixLength, remotePeerAddress] = [view.getUint8(1), readAddress(data, 4)]
      if (!isPrefixOf(prefixLength, remotePeerAddress)) return undefined
      return { _tag: "Filter", prefixLength, remotePeerPort: view.getUint16(2), remotePeerAddress }
    }
    default:
      return { _tag: "UnknownOption", code, data: data.slice() }
  }
}

/** `undefined` where the options are malformed or do not fill the bytes. */
const decodeOptions = (bytes: Uint8Array, start: number): ReadonlyArray<PcpOption> | undefined => {
  const view = viewOf(bytes)
  const options: Array<PcpOption> = []
  let offset = start
  while (offset < bytes.length) {
    if (bytes.length - offset < 4) return undefined
    const length = view.getUint16(offset + 2)
    const end = offset + 4 + padded(length)
    if (end > bytes.length) return undefined
    const option = decodeOption(view.getUint8(offset), bytes.subarray(offset + 4, offset + 4 + length))
    if (option === undefined) return undefined
    options.push(option)
    offset = end
  }
  return options
}

/** How long the fields of an opcode are; `undefined` where it is not known. */
const fieldsLength = (opcode: number): number | undefined => {
  if (opcode === Opcode.announce) return 0
  if (opcode === Opcode.map) return 36
  return opcode === Opcode.peer ? 56 : undefined
}

interface MapFields extends MappingName {
  readonly externalPort: number
  readonly externalAddress: NetAddress.IpAddress
}

interface PeerFields extends MapFields {
  readonly remotePeerPort: number
  readonly remotePeerAddress: NetAddress.IpAddress
}

const readMapFields = (bytes: Uint8Array, view: DataView): MapFields => ({
  nonce: nonceFromBytes(bytes.subarray(headerLength, headerLength + nonceLength)),
  protocol: view.getUint8(36),
  internalPort: view.getUint16(40),
  externalPort: view.getUint16(42),
  externalAddress: readAddress(bytes, 44)
})

const readPeerFields = (bytes: Uint8Array, view: DataView): PeerFields => ({
  ...readMapFields(bytes, view),
  remotePeerPort: view.getUint16(60),
  remotePeerAddress: readAddress(bytes, 64)
})

const writeMapFields = (bytes: Uint8Array, view: DataView, fields: MapFields): void => {
  for (let index = 0; index < nonceLength; index++) {
    bytes[headerLength + index] = Number.parseInt(fields.nonce.slice(index * 2, index * 2 + 2), 16)
  }
  bytes[36] = fields.protocol
  view.setUint16(40, fields.internalPort)
  view.setUint16(42, fields.externalPort)
  bytes.set(wide(fields.externalAddress), 44)
}

const writePeerFields = (bytes: Uint8Array, view: DataView, fields: PeerFields): void => {
  writeMapFields(bytes, view, fields)
  view.setUint16(60, fields.remotePeerPort)
  bytes.set(wide(fields.remotePeerAddress), 64)
}

/**
 * The opcode of a request.
 *
 * @category accessors
 * @since 0.1.0
 */
export const opcode = (request: Request): number => {
  switch (request._tag) {
    case "AnnounceRequest":
      return Opcode.announce
    case "MapRequest":
      return Opcode.map
    case "PeerRequest":
      return Opcode.peer
  }
}

/** A packet of zeros but for version, opcode and options. */
const blank = (opcode: number, options: ReadonlyArray<PcpOption>): Uint8Array => {
  const encoded = options.map(encodeOption)
  const start = headerLength + (fieldsLength(opcode) ?? 0)
  const bytes = new Uint8Array(encoded.reduce((total, option) => total + option.length, start))
  bytes[0] = version
  bytes[1] = opcode
  let offset = start
  for (const option of encoded) {
    bytes.set(option, offset)
    offset += option.length
  }
  return bytes
}

/**
 * A request as bytes: 24 for an ANNOUNCE, 60 for a MAP, 80 for a PEER, and the options (RFC 6887 §7.1).
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeRequest = (request: Request): Uint8Array => {
  const bytes = blank(opcode(request), request.options)
  const view = viewOf(bytes)
  bytes.set(wide(request.clientAddress), 8)
  if (request._tag !== "AnnounceRequest") view.setUint32(4, request.lifetime)
  if (request._tag === "MapRequest") writeMapFields(bytes, view, request)
  if (request._tag === "PeerRequest") writePeerFields(bytes, view, request)
  return bytes
}

const hasBadLength = (bytes: Uint8Array): boolean => bytes.length > maximumBytes || bytes.length % 4 !== 0

/**
 * A request from bytes, in the order of checks of RFC 6887 §8.2: response bit, version, opcode, length, options.
 * Reserved fields and padding are ignored.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeRequest = (bytes: Uint8Array): Result.Result<Request, DecodeError> => {
  if (bytes.length < 2) return refuse("TooShort", bytes)
  const view = viewOf(bytes)
  const opcode = view.getUint8(1)
  // Before the version: an answer must never be answered, or two hosts could go on for ever.
  if (opcode >= responseBit) return refuse("NotARequest", bytes)
  if (view.getUint8(0) !== version) return refuse("UnsupportedVersion", bytes)
  const fields = fieldsLength(opcode)
  if (fields === undefined) return refuse("UnsupportedOpcode", bytes)
  if (hasBadLength(bytes)) return refuse("BadLength", bytes)
  if (bytes.length < headerLength + fields) return refuse("TooShort", bytes)
  const options = decodeOptions(bytes, headerLength + fields)
  if (options === undefined) return refuse("MalformedOption", bytes)
  const common = { clientAddress: readAddress(bytes, 8), options }
  if (opcode === Opcode.announce) return Result.succeed({ _tag: "AnnounceRequest", ...common })
  const lifetime = view.getUint32(4)
  return Result.succeed(
    opcode === Opcode.map
      ? { _tag: "MapRequest", ...common, ...readMapFields(bytes, view), lifetime }
      : { _tag: "PeerRequest", ...common, ...readPeerFields(bytes, view), lifetime }
  )
}

const encodeSuccess = (response: Exclude<Response, ErrorResponse>, opcode: number): Uint8Array => {
  const bytes = blank(opcode, response.options)
  const view = viewOf(bytes)
  bytes[1] = responseBit + opcode
  view.setUint32(8, response.epoch)
  if (response._tag !== "AnnounceResponse") view.setUint32(4, response.lifetime)
  if (response._tag === "MapResponse") writeMapFields(bytes, view, response)
  if (response._tag === "PeerResponse") writePeerFields(bytes, view, response)
  return bytes
}

const encodeError = (response: ErrorResponse): Uint8Array => {
  const payload = response.payload.subarray(0, maximumBytes - headerLength)
  const bytes = new Uint8Array(headerLength + padded(payload.length))
  const view = viewOf(bytes)
  bytes[0] = response.version
  bytes[1] = responseBit + response.opcode
  bytes[3] = response.resultCode
  view.setUint32(4, response.lifetime ?? 0)
  view.setUint32(8, response.epoch ?? 0)
  bytes.set(response.reserved.subarray(0, nonceLength), 12)
  bytes.set(payload, headerLength)
  return bytes
}

/**
 * An answer as bytes (RFC 6887 §7.2). What an error sends back of its request is cut off at 1100 bytes and padded.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeResponse = (response: Response): Uint8Array => {
  switch (response._tag) {
    case "AnnounceResponse":
      return encodeSuccess(response, Opcode.announce)
    case "MapResponse":
      return encodeSuccess(response, Opcode.map)
    case "PeerResponse":
      return encodeSuccess(response, Opcode.peer)
    case "ErrorResponse":
      return encodeError(response)
  }
}

const unsupportedVersion = 1

/** Only the first four bytes have the same meaning in every version (RFC 6887 §9). */
const foreignError = (version: number, opcode: number): ErrorResponse => ({
  _tag: "ErrorResponse",
  version,
  opcode: opcode % responseBit,
  resultCode: unsupportedVersion,
  lifetime: undefined,
  epoch: undefined,
  reserved: new Uint8Array(nonceLength),
  payload: new Uint8Array(0)
})

const decodeError = (bytes: Uint8Array, view: DataView): ErrorResponse => ({
  _tag: "ErrorResponse",
  version,
  opcode: view.getUint8(1) % responseBit,
  resultCode: view.getUint8(3),
  lifetime: view.getUint32(4),
  epoch: view.getUint32(8),
  reserved: bytes.slice(12, headerLength),
  payload: bytes.slice(headerLength)
})

const decodeSuccess = (bytes: Uint8Array, view: DataView, opcode: number): Result.Result<Response, DecodeError> => {
  const fields = fieldsLength(opcode)
  if (fields === undefined) return refuse("UnsupportedOpcode", bytes)
  if (bytes.length < headerLength + fields) return refuse("TooShort", bytes)
  const options = decodeOptions(bytes, headerLength + fields)
  if (options === undefined) return refuse("MalformedOption", bytes)
  const common = { epoch: view.getUint32(8), options }
  if (opcode === Opcode.announce) return Result.succeed({ _tag: "AnnounceResponse", ...common })
  const lifetime = view.getUint32(4)
  return Result.succeed(
    opcode === Opcode.map
      ? { _tag: "MapResponse", ...common, ...readMapFields(bytes, view), lifetime }
      : { _tag: "PeerResponse", ...common, ...readPeerFields(bytes, view), lifetime }
  )
}

/**
 * An answer from bytes (RFC 6887 §8.3). Reserved fields and padding are ignored.
 *
 * A gateway that does not speak this version says so in its own format, of which only the first four bytes are read:
 * NAT-PMP's answer to a PCP request is an `ErrorResponse` with version 0 and result code 1 (§9).
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeResponse = (bytes: Uint8Array): Result.Result<Response, DecodeError> => {
  if (bytes.length < 4) return refuse("TooShort", bytes)
  const view = viewOf(bytes)
  const opcode = view.getUint8(1)
  if (opcode < responseBit) return refuse("NotAResponse", bytes)
  if (view.getUint8(0) !== version) {
    return view.getUint8(3) === unsupportedVersion
      ? Result.succeed(foreignError(view.getUint8(0), opcode))
      : refuse("UnsupportedVersion", bytes)
  }
  if (hasBadLength(bytes)) return refuse("BadLength", bytes)
  if (bytes.length < headerLength) return refuse("TooShort", bytes)
  return view.getUint8(3) === 0
    ? decodeSuccess(bytes, view, opcode - responseBit)
    : Result.succeed(decodeError(bytes, view))
}

/**
 * How a server refuses.
 *
 * @category models
 * @since 0.1.0
 */
export interface Refusal {
  readonly resultCode: number
  /** In seconds. */
  readonly lifetime: number
  readonly epoch: number
  /** Whether the request could be read: if not, the end of its client address goes back as well. */
  readonly isParsed: boolean
}

/**
 * The answer that refuses a request, which goes back in it (RFC 6887 §8.2). The request may be any bytes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const refusalOf = (request: Uint8Array, refusal: Refusal): ErrorResponse => {
  const header = new Uint8Array(headerLength)
  header.set(request.subarray(0, headerLength))
  const payload = request.subarray(headerLength, maximumBytes)
  const whole = new Uint8Array(padded(payload.length))
  whole.set(payload)
  return {
    _tag: "ErrorResponse",
    version,
    opcode: (header[1] ?? 0) % responseBit,
    resultCode: refusal.resultCode,
    lifetime: refusal.lifetime,
    epoch: refusal.epoch,
    reserved: refusal.isParsed ? new Uint8Array(nonceLength) : header.slice(12),
    payload: whole
  }
}

/**
 * What names the mapping that an answer is about, beside the client's address.
 *
 * @category models
 * @since 0.1.0
 */
export interface MappingName {
  readonly nonce: Nonce
  readonly protocol: number
  readonly internalPort: number
}

/**
 * The mapping that a refused MAP or PEER was about; `undefined` for other opcodes, and where the server did not send
 * it back.
 *
 * @category accessors
 * @since 0.1.0
 */
export const mappingOf = ({ opcode, payload }: ErrorResponse): MappingName | undefined => {
  const length = fieldsLength(opcode)
  if (length === undefined || length === 0 || payload.length < length) return undefined
  const view = viewOf(payload)
  return { nonce: nonceFromBytes(payload), protocol: view.getUint8(12), internalPort: view.getUint16(16) }
}
