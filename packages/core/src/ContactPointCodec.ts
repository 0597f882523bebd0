/**
 * A contact point as bytes: what is in its URI, and in the packets that announce it.
 *
 * ```
 * version (1) | fields … | CRC-32 of everything before (4)
 * field: type (1) | length (2) | value
 * ```
 *
 * All numbers are unsigned and big-endian. A field of a type that the reader does not know is skipped, unless bit `0x80`
 * of the type is set. The checksum tells a contact point that was cut off, or mistyped, from a good one.
 *
 * | type   | field            | value                                                                         |
 * | ------ | ---------------- | ----------------------------------------------------------------------------- |
 * | `01`   | name             | UTF-8                                                                         |
 * | `02`   | internal address | address (4 or 16), port (2)                                                   |
 * | `03`   | external address | verification (1), address (4 or 16), port (2)                                 |
 * | `04`   | session          | id (16), number of capabilities (1), capabilities (16 each), role in UTF-8    |
 * | `05`   | viewpoint        | UTF-8                                                                         |
 * | `06`   | instance         | id (16)                                                                       |
 * | `07`   | lifetime         | seconds (4)                                                                   |
 * | `08`   | fingerprint      | SHA-256 of the certificate (32)                                               |
 * | `09`   | control          | capability (16)                                                               |
 *
 * The verifications are 0 configured, 1 reported, 2 confirmed, 3 doubtful. An address whose verification is another is
 * taken as reported.
 *
 * @since 0.1.0
 */
import * as Bytes from "effect/Bytes"
import * as Hex from "effect/encoding/Hex"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Capability from "./Capability.ts"
import * as Checksum from "./Checksum.ts"
import * as ContactPoint from "./ContactPoint.ts"
import * as SessionId from "./SessionId.ts"

/**
 * The most bytes that are read as a contact point.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes = 16_384

/**
 * This is not, and never was, a contact point.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotAContactPoint extends Schema.TaggedError<NotAContactPoint>("@effect-nat/core/NotAContactPoint")(
  "NotAContactPoint",
  { detail: Schema.String }
) {
  override get message(): string {
    return `this is no contact point: ${this.detail}`
  }
}

/**
 * A contact point of which something is missing, or other than it was.
 *
 * @category errors
 * @since 0.1.0
 */
export class Damaged extends Schema.TaggedError<Damaged>("@effect-nat/core/ContactPointDamaged")("Damaged", {}) {
  override get message(): string {
    return "the contact point is incomplete or was changed on its way: copy all of it again"
  }
}

/**
 * A contact point that only a later version of this library understands.
 *
 * @category errors
 * @since 0.1.0
 */
export class NewerVersion extends Schema.TaggedError<NewerVersion>("@effect-nat/core/ContactPointNewerVersion")(
  "NewerVersion",
  {}
) {
  override get message(): string {
    return "the contact point is of a later version: update effect-nat to use it"
  }
}

/**
 * Why something cannot be read as a contact point.
 *
 * @category errors
 * @since 0.1.0
 */
export class ContactPointError extends Schema.TaggedError<ContactPointError>("@effect-nat/core/ContactPointError")(
  "ContactPointError",
  { reason: Schema.Union([NotAContactPoint, Damaged, NewerVersion]) }
) {
  override get message(): string {
    return this.reason.message
  }
}

/**
 * Why something cannot be read as a contact point.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromReason = (reason: ContactPointError["reason"]): ContactPointError => new ContactPointError({ reason })

const version = 1
const required = 0x80
const checksumLength = 4

const types = {
  name: 0x01,
  internal: 0x02,
  external: 0x03,
  session: 0x04,
  viewpoint: 0x05,
  instance: 0x06,
  lifetime: 0x07,
  fingerprint: 0x08,
  control: 0x09
} as const

const verifications = ContactPoint.Verification.literals

const utf8 = new TextEncoder()
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const uint16 = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 0xff)

const uint32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, value)
  return bytes
}

const field = (type: number, ...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const value = Bytes.concat(parts)
  return Bytes.concat([Uint8Array.of(type), uint16(value.length), value])
}

const octetsOf = (address: NetAddress.IpAddress): Uint8Array =>
  Uint8Array.from(
    NetAddress.isIpv4Address(address) ? NetAddress.ipv4ToOctets(address) : NetAddress.ipv6ToOctets(address)
  )

const addressBytes = ({ address, port }: NetAddress.InetAddress): Uint8Array =>
  Bytes.concat([octetsOf(address), uint16(port)])

const sessionField = ({ capabilities, id, role }: ContactPoint.Session): Uint8Array =>
  field(
    types.session,
    SessionId.toBytes(id),
    Uint8Array.of(capabilities.length),
    ...capabilities.map(Capability.toBytes),
    utf8.encode(role)
  )

const fromHex = (text: string): Uint8Array => Result.getOrThrow(Hex.decode(text))

const optionalField = <A>(type: number, value: A | undefined, toBytes: (value: A) => Uint8Array) =>
  value === undefined ? [] : [field(type, toBytes(value))]

/**
 * The bytes of a contact point.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (self: ContactPoint.ContactPoint): Uint8Array => {
  const body = Bytes.concat([
    Uint8Array.of(version),
    field(types.name, utf8.encode(self.name)),
    ...self.internal.map((one) => field(types.internal, addressBytes(one))),
    ...self.external.map(({ address, verification }) =>
      field(types.external, Uint8Array.of(verifications.indexOf(verification)), addressBytes(address))
    ),
    ...self.sessions.map(sessionField),
    ...optionalField(types.viewpoint, self.viewpoint, (text) => utf8.encode(text)),
    ...optionalField(types.instance, self.instance, fromHex),
    ...optionalField(types.lifetime, self.lifetime, uint32),
    ...optionalField(types.fingerprint, self.fingerprint, fromHex),
    ...optionalField(types.control, self.control, Capability.toBytes)
  ])
  return Bytes.concat([body, uint32(Checksum.crc32(body))])
}

interface Field {
  readonly type: number
  readonly value: Uint8Array
}

/** The fields that fill the bytes; none where they do not. */
const fieldsOf = (bytes: Uint8Array): Option.Option<ReadonlyArray<Field>> => {
  const fields: Array<Field> = []
  let at = 0
  while (at < bytes.length) {
    if (bytes.length - at < 3) return Option.none()
    const end = at + 3 + viewOf(bytes).getUint16(at + 1)
    if (end > bytes.length) return Option.none()
    fields.push({ type: bytes[at] ?? 0, value: bytes.subarray(at + 3, end) })
    at = end
  }
  return Option.some(fields)
}

const readText = (bytes: Uint8Array): Option.Option<string> =>
  Option.liftThrowable((input: Uint8Array) => strictUtf8.decode(input))(bytes)

const readAddress = (bytes: Uint8Array): Option.Option<NetAddress.InetAddress> => {
  if (bytes.length !== 6 && bytes.length !== 18) return Option.none()
  const at = bytes.length - 2
  const address =
    at === 4
      ? NetAddress.ipv4FromBytesUnsafe(bytes.subarray(0, at))
      : NetAddress.ipv6FromBytesUnsafe(bytes.subarray(0, at))
  return Option.some(NetAddress.inetAddressUnsafe(address, viewOf(bytes).getUint16(at)))
}

const readExternal = (bytes: Uint8Array): Option.Option<ContactPoint.ExternalAddress> =>
  Option.map(readAddress(bytes.subarray(1)), (address) => {
    const verification = verifications[bytes[0] ?? 1] ?? "reported"
    return new ContactPoint.ExternalAddress({ address, verification })
  })

const sessionHead = SessionId.byteLength + 1

const readSession = (bytes: Uint8Array): Option.Option<ContactPoint.Session> => {
  const count = bytes[SessionId.byteLength]
  if (count === undefined) return Option.none()
  const end = sessionHead + count * Capability.byteLength
  if (bytes.length < end) return Option.none()
  const capabilities = Array.from({ length: count }, (_, index) => {
    const at = sessionHead + index * Capability.byteLength
    return Capability.fromBytes(bytes.subarray(at, at + Capability.byteLength))
  })
  return Option.all({
    id: SessionId.fromBytes(bytes.subarray(0, SessionId.byteLength)),
    role: readText(bytes.subarray(end)),
    capabilities: Option.all(capabilities)
  }).pipe(Option.flatMap((read) => ContactPoint.Session.makeOption(read)))
}

/** All that have a type, or none where one of them makes no sense. */
const every = <A>(fields: ReadonlyArray<Field>, type: number, read: (bytes: Uint8Array) => Option.Option<A>) =>
  Option.all(fields.filter((one) => one.type === type).map((one) => read(one.value)))

/** The first that has a type. */
const first = <A>(fields: ReadonlyArray<Field>, type: number, read: (bytes: Uint8Array) => Option.Option<A>) => {
  const found = fields.find((one) => one.type === type)
  return found === undefined ? Option.some(undefined) : read(found.value)
}

const readInstance = (bytes: Uint8Array) => Option.liftPredicate(Hex.encode(bytes), Schema.is(ContactPoint.InstanceId))

const readFingerprint = (bytes: Uint8Array) =>
  Option.liftPredicate(Hex.encode(bytes), Schema.is(ContactPoint.Fingerprint))

const readUint32 = (bytes: Uint8Array): Option.Option<number> =>
  bytes.length === 4 ? Option.some(viewOf(bytes).getUint32(0)) : Option.none()

const known: ReadonlySet<number> = new Set(Object.values(types))

const nonsense = (detail: string) => Result.fail(fromReason(new NotAContactPoint({ detail })))

const assemble = (fields: ReadonlyArray<Field>): Option.Option<ContactPoint.ContactPoint> =>
  Option.all({
    name: first(fields, types.name, readText),
    internal: every(fields, types.internal, readAddress),
    external: every(fields, types.external, readExternal),
    sessions: every(fields, types.session, readSession),
    viewpoint: first(fields, types.viewpoint, readText),
    instance: first(fields, types.instance, readInstance),
    lifetime: first(fields, types.lifetime, readUint32),
    fingerprint: first(fields, types.fingerprint, readFingerprint),
    control: first(fields, types.control, Capability.fromBytes)
  }).pipe(Option.flatMap(Option.liftThrowable(ContactPoint.make)))

/**
 * Reads the bytes of a contact point.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (bytes: Uint8Array): Result.Result<ContactPoint.ContactPoint, ContactPointError> => {
  if (bytes.length > maximumBytes) return nonsense(`it is longer than ${maximumBytes} bytes`)
  if (bytes.length === 0) return nonsense("it is empty")
  if (bytes.length < 1 + checksumLength) return Result.fail(fromReason(new Damaged()))
  const end = bytes.length - checksumLength
  if (viewOf(bytes).getUint32(end) !== Checksum.crc32(bytes, 0, end)) return Result.fail(fromReason(new Damaged()))
  if ((bytes[0] ?? 0) > version) return Result.fail(fromReason(new NewerVersion()))
  if (bytes[0] !== version) return nonsense("it has no version")
  const fields = Option.getOrUndefined(fieldsOf(bytes.subarray(1, end)))
  if (fields === undefined) return nonsense("its fields do not fill it")
  if (fields.some(({ type }) => type >= required && !known.has(type)))
    return Result.fail(fromReason(new NewerVersion()))
  return Option.match(assemble(fields), {
    onNone: () => nonsense("one of its fields makes no sense"),
    onSome: Result.succeed
  })
}
