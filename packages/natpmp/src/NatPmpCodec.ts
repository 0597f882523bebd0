/**
 * The packets of NAT-PMP (RFC 6886 §3), both directions: pure functions between bytes and values.
 *
 * Decoding takes any bytes of any length and never throws: what is no packet of the protocol is a `DecodeError`.
 * Encoding takes whole numbers within the range of their field.
 *
 * @since 0.1.0
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Data from "effect/Data"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * The UDP port that gateways listen on (RFC 6886 §3.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const gatewayPort = 5351

/**
 * The protocol's only version (RFC 6886 §3.5).
 *
 * @category constants
 * @since 0.1.0
 */
export const version = 0

/**
 * What an answer's opcode has that its request's has not: the top bit (RFC 6886 §3.5).
 *
 * @category constants
 * @since 0.1.0
 */
export const responseBit = 128

/**
 * The request opcodes: external address (RFC 6886 §3.2), map UDP and map TCP (§3.3).
 *
 * @category constants
 * @since 0.1.0
 */
export const Opcode = { externalAddress: 0, mapUdp: 1, mapTcp: 2 } as const

const Uint7 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0x7f }))
const Uint8 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xff }))
const Uint16 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))
const Uint32 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffffffff }))
const Protocol = Schema.Literals(["udp", "tcp"])

/**
 * "What is your external address?" (RFC 6886 §3.2).
 *
 * @category schemas
 * @since 0.1.0
 */
export const ExternalAddressRequest = Schema.TaggedStruct("ExternalAddressRequest", {})

/**
 * "What is your external address?" (RFC 6886 §3.2).
 *
 * @category models
 * @since 0.1.0
 */
export type ExternalAddressRequest = typeof ExternalAddressRequest.Type

/**
 * "Map this port" or, with a lifetime of 0, "delete its mapping" (RFC 6886 §3.3, §3.4).
 *
 * @category schemas
 * @since 0.1.0
 */
export const MapRequest = Schema.TaggedStruct("MapRequest", {
  protocol: Protocol,
  /** The port of the client. 0 stands for all of them and is only for deletion. */
  internalPort: Uint16,
  /** The external port that the client would like; 0 for any, and for deletion. */
  externalPort: Uint16,
  /** In seconds; 0 deletes. */
  lifetime: Uint32
})

/**
 * "Map this port" or, with a lifetime of 0, "delete its mapping" (RFC 6886 §3.3, §3.4).
 *
 * @category models
 * @since 0.1.0
 */
export type MapRequest = typeof MapRequest.Type

/**
 * What a client sends.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Request = Schema.Union([ExternalAddressRequest, MapRequest])

/**
 * What a client sends.
 *
 * @category models
 * @since 0.1.0
 */
export type Request = typeof Request.Type

/**
 * The external address, as an answer and as an announcement (RFC 6886 §3.2, §3.2.1).
 *
 * @category schemas
 * @since 0.1.0
 */
export const ExternalAddressResponse = Schema.TaggedStruct("ExternalAddressResponse", {
  /** The seconds since the gateway's mapping table was empty (RFC 6886 §3.6). */
  epoch: Uint32,
  /** 0.0.0.0 where the gateway has none. */
  externalAddress: Schema.Ipv4Address
})

/**
 * The external address, as an answer and as an announcement (RFC 6886 §3.2, §3.2.1).
 *
 * @category models
 * @since 0.1.0
 */
export type ExternalAddressResponse = typeof ExternalAddressResponse.Type

/**
 * What the gateway mapped or, with a lifetime of 0, deleted (RFC 6886 §3.3, §3.4).
 *
 * @category schemas
 * @since 0.1.0
 */
export const MapResponse = Schema.TaggedStruct("MapResponse", {
  protocol: Protocol,
  /** The seconds since the gateway's mapping table was empty (RFC 6886 §3.6). */
  epoch: Uint32,
  internalPort: Uint16,
  /** The port that the gateway chose; 0 after a deletion. */
  externalPort: Uint16,
  /** In seconds, as granted; 0 after a deletion. */
  lifetime: Uint32
})

/**
 * What the gateway mapped or, with a lifetime of 0, deleted (RFC 6886 §3.3, §3.4).
 *
 * @category models
 * @since 0.1.0
 */
export type MapResponse = typeof MapResponse.Type

/**
 * Any answer with a result code other than 0 (RFC 6886 §3.5).
 *
 * @category schemas
 * @since 0.1.0
 */
export const ErrorResponse = Schema.TaggedStruct("ErrorResponse", {
  /** The gateway's version. Not 0 only where it says that it does not speak version 0: a PCP gateway. */
  version: Uint8,
  /** The request's opcode, without the response bit. */
  opcode: Uint7,
  resultCode: Uint16.check(Schema.isGreaterThan(0)),
  /**
   * The seconds since the gateway's mapping table was empty (RFC 6886 §3.6). `undefined` for an unsupported version or
   * opcode: there a gateway may send the request back, with other values in this place.
   */
  epoch: Schema.UndefinedOr(Uint32),
  /** The internal port of a failed map request, where the answer is long enough to name it. */
  internalPort: Schema.UndefinedOr(Uint16)
})

/**
 * Any answer with a result code other than 0 (RFC 6886 §3.5).
 *
 * @category models
 * @since 0.1.0
 */
export type ErrorResponse = typeof ErrorResponse.Type

/**
 * What a gateway sends.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Response = Schema.Union([ExternalAddressResponse, MapResponse, ErrorResponse])

/**
 * What a gateway sends.
 *
 * @category models
 * @since 0.1.0
 */
export type Response = typeof Response.Type

/**
 * Bytes that are no packet of the protocol: `"TooShort"`, `"UnsupportedVersion"`, `"UnsupportedOpcode"`,
 * `"NotARequest"` (it has the response bit), `"NotAResponse"` (it has not).
 *
 * A gateway answers a wrong version and a wrong opcode (RFC 6886 §3.5), so both are kept where the bytes had them.
 *
 * @category errors
 * @since 0.1.0
 */
export class DecodeError extends Data.TaggedError("DecodeError")<{
  readonly kind: "TooShort" | "UnsupportedVersion" | "UnsupportedOpcode" | "NotARequest" | "NotAResponse"
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

const opcodeOf = (protocol: PortMapping.Protocol): number => (protocol === "udp" ? Opcode.mapUdp : Opcode.mapTcp)

/** The protocol that a map opcode is for; `undefined` for every other opcode. */
const protocolOf = (opcode: number): PortMapping.Protocol | undefined => {
  if (opcode === Opcode.mapUdp) return "udp"
  if (opcode === Opcode.mapTcp) return "tcp"
  return undefined
}

/**
 * The opcode of a request.
 *
 * @category accessors
 * @since 0.1.0
 */
export const opcode = (request: Request): number =>
  request._tag === "MapRequest" ? opcodeOf(request.protocol) : Opcode.externalAddress

/**
 * A request as bytes: 2 for the external address (RFC 6886 §3.2), 12 for a mapping (§3.3).
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeRequest = (request: Request): Uint8Array => {
  if (request._tag === "ExternalAddressRequest") return Uint8Array.of(version, Opcode.externalAddress)
  const bytes = new Uint8Array(12)
  const view = viewOf(bytes)
  view.setUint8(0, version)
  view.setUint8(1, opcodeOf(request.protocol))
  view.setUint16(4, request.internalPort)
  view.setUint16(6, request.externalPort)
  view.setUint32(8, request.lifetime)
  return bytes
}

/**
 * A request from bytes, in the order of checks of RFC 6886 §3.5: version, response bit, opcode, length. The reserved
 * field, and whatever follows the packet, is ignored.
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
  if (opcode === Opcode.externalAddress) return Result.succeed({ _tag: "ExternalAddressRequest" })
  const protocol = protocolOf(opcode)
  if (protocol === undefined) return refuse("UnsupportedOpcode", bytes)
  if (bytes.length < 12) return refuse("TooShort", bytes)
  return Result.succeed({
    _tag: "MapRequest",
    protocol,
    internalPort: view.getUint16(4),
    externalPort: view.getUint16(6),
    lifetime: view.getUint32(8)
  })
}

const blankResponse = (length: number, opcode: number, resultCode: number, epoch: number): DataView => {
  const view = new DataView(new ArrayBuffer(length))
  view.setUint8(0, version)
  view.setUint8(1, responseBit + opcode)
  view.setUint16(2, resultCode)
  view.setUint32(4, epoch)
  return view
}

const bytesOf = (view: DataView): Uint8Array => new Uint8Array(view.buffer)

const encodeExternalAddress = (response: ExternalAddressResponse): Uint8Array => {
  const view = blankResponse(12, Opcode.externalAddress, 0, response.epoch)
  NetAddress.ipv4ToOctets(response.externalAddress).forEach((octet, index) => view.setUint8(8 + index, octet))
  return bytesOf(view)
}

const encodeMap = (response: MapResponse): Uint8Array => {
  const view = blankResponse(16, opcodeOf(response.protocol), 0, response.epoch)
  view.setUint16(8, response.internalPort)
  view.setUint16(10, response.externalPort)
  view.setUint32(12, response.lifetime)
  return bytesOf(view)
}

const isFraming = (resultCode: number): boolean => resultCode === 1 || resultCode === 5

/** An error has the length of the success that it stands for; nothing follows the epoch where there is no such. */
const errorLength = (response: ErrorResponse): number => {
  if (isFraming(response.resultCode)) return 8
  if (response.opcode === Opcode.externalAddress) return 12
  return protocolOf(response.opcode) === undefined ? 8 : 16
}

const encodeError = (response: ErrorResponse): Uint8Array => {
  const length = errorLength(response)
  const view = blankResponse(length, response.opcode, response.resultCode, response.epoch ?? 0)
  view.setUint8(0, response.version)
  if (length === 16) view.setUint16(8, response.internalPort ?? 0)
  return bytesOf(view)
}

/**
 * An answer as bytes: 12 for the external address (RFC 6886 §3.2), 16 for a mapping (§3.3). An error is as long as the
 * success it stands for (§3.5), and 8 bytes long for an unsupported version or opcode.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeResponse = (response: Response): Uint8Array => {
  switch (response._tag) {
    case "ExternalAddressResponse":
      return encodeExternalAddress(response)
    case "MapResponse":
      return encodeMap(response)
    case "ErrorResponse":
      return encodeError(response)
  }
}

/** The gateway did not understand the request at all, so nothing after the result code can be relied on. */
const framingError = (version: number, opcode: number, resultCode: number): Result.Result<ErrorResponse> =>
  Result.succeed({
    _tag: "ErrorResponse",
    version,
    opcode: opcode % responseBit,
    resultCode,
    epoch: undefined,
    internalPort: undefined
  })

const decodeFailure = (view: DataView, opcode: number, resultCode: number): ErrorResponse => ({
  _tag: "ErrorResponse",
  version,
  opcode,
  resultCode,
  epoch: view.getUint32(4),
  internalPort: protocolOf(opcode) !== undefined && view.byteLength >= 10 ? view.getUint16(8) : undefined
})

const decodeSuccess = (bytes: Uint8Array, view: DataView, opcode: number): Result.Result<Response, DecodeError> => {
  if (opcode === Opcode.externalAddress) {
    if (bytes.length < 12) return refuse("TooShort", bytes)
    return Result.succeed({
      _tag: "ExternalAddressResponse",
      epoch: view.getUint32(4),
      externalAddress: NetAddress.ipv4FromBytesUnsafe(bytes.subarray(8, 12))
    })
  }
  const protocol = protocolOf(opcode)
  if (protocol === undefined) return refuse("UnsupportedOpcode", bytes)
  if (bytes.length < 16) return refuse("TooShort", bytes)
  return Result.succeed({
    _tag: "MapResponse",
    protocol,
    epoch: view.getUint32(4),
    internalPort: view.getUint16(8),
    externalPort: view.getUint16(10),
    lifetime: view.getUint32(12)
  })
}

/**
 * An answer from bytes. An error may be cut off after its epoch, as some gateways do; a success may not. Whatever
 * follows the packet is ignored.
 *
 * A PCP gateway that does not speak NAT-PMP says so in its own format (RFC 6887 §9); the first four bytes of that are
 * those of an error here, with the gateway's version.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeResponse = (bytes: Uint8Array): Result.Result<Response, DecodeError> => {
  if (bytes.length < 4) return refuse("TooShort", bytes)
  const view = viewOf(bytes)
  const opcode = view.getUint8(1)
  const resultCode = view.getUint16(2)
  if (opcode < responseBit) return refuse("NotAResponse", bytes)
  if (resultCode === 1) return framingError(view.getUint8(0), opcode, resultCode)
  if (view.getUint8(0) !== version) return refuse("UnsupportedVersion", bytes)
  if (isFraming(resultCode)) return framingError(version, opcode, resultCode)
  if (bytes.length < 8) return refuse("TooShort", bytes)
  return resultCode === 0
    ? decodeSuccess(bytes, view, opcode - responseBit)
    : Result.succeed(decodeFailure(view, opcode - responseBit, resultCode))
}
