/**
 * The beacon's packets, between bytes and values, both ways.
 *
 * There are two of them. The old CRQT packet tells of one session, at the address that it comes from:
 *
 * ```
 * "CRQT" (4) | port (2) | session id in hexadecimal (32) | name
 * ```
 *
 * The extended packet tells a whole contact point; it begins otherwise, so that those who know the old one only do not
 * take it for theirs:
 *
 * ```
 * 8e 4c 41 4e (4) | version (1) | flags (1) | port (2) | contact point, as in ContactPointCodec
 * ```
 *
 * All numbers are unsigned and big-endian. The port is the one at the address that the packet comes from, 0 where what
 * is announced is not there. Bit 0 of the flags says that the instance is gone; the other flags are reserved. The contact
 * point has an instance id.
 *
 * Pure: `Beacon` sends and receives them.
 *
 * @since 0.1.0
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointCodec from "@effect-nat/core/ContactPointCodec"
import * as SessionId from "@effect-nat/core/SessionId"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Bytes from "./internal/bytes.ts"

/**
 * The UDP port that the packets are sent to, at the broadcast address of a network.
 *
 * @category constants
 * @since 0.1.0
 */
export const port = 43_215

/**
 * The longest packet, in bytes: it fits into one datagram on any network.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes = 1400

/**
 * A datagram that is no packet of a beacon, or one of a later version.
 *
 * @category errors
 * @since 0.1.0
 */
export class BeaconCodecError extends Schema.TaggedError<BeaconCodecError>("@effect-nat/dispatcher/BeaconCodecError")(
  "BeaconCodecError",
  { detail: Schema.String }
) {
  override get message(): string {
    return this.detail
  }
}

/**
 * The old packet: one session at the address that the packet comes from.
 *
 * @category models
 * @since 0.1.0
 */
export interface Crqt {
  readonly _tag: "Crqt"
  /** Where the session can be joined, at the address that the packet comes from; from 1. */
  readonly port: number
  readonly session: SessionId.SessionId
  readonly name: string
}

/**
 * The extended packet: a contact point.
 *
 * @category models
 * @since 0.1.0
 */
export interface Extended {
  readonly _tag: "Extended"
  /** The port at the address that the packet comes from; 0 where what is announced is not there. */
  readonly port: number
  readonly instance: ContactPoint.InstanceId
  /** It has the same instance id. */
  readonly contactPoint: ContactPoint.ContactPoint
}

/**
 * The last packet of an instance: it is gone.
 *
 * @category models
 * @since 0.1.0
 */
export interface Goodbye {
  readonly _tag: "Goodbye"
  readonly instance: ContactPoint.InstanceId
}

/**
 * What a beacon says.
 *
 * @category models
 * @since 0.1.0
 */
export type Packet = Crqt | Extended | Goodbye

const crqtMagic = Uint8Array.from([0x43, 0x52, 0x51, 0x54])
const crqtHead = 38
const extendedMagic = Uint8Array.from([0x8e, 0x4c, 0x41, 0x4e])
const extendedHead = 8
const version = 1
const goodbyeFlag = 0x01

const utf8 = new TextEncoder()
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const encodeCrqt = (self: Crqt): Uint8Array =>
  Bytes.concat([
    crqtMagic,
    Bytes.uint16(self.port),
    utf8.encode(self.session),
    utf8.encode(Bytes.cutText(self.name, maximumBytes - crqtHead))
  ])

const encodeExtended = (flags: number, port: number, contactPoint: ContactPoint.ContactPoint): Uint8Array =>
  Bytes.concat([
    extendedMagic,
    Uint8Array.of(version, flags),
    Bytes.uint16(port),
    ContactPointCodec.encode(contactPoint)
  ])

const isIpv6 = ({ address }: NetAddress.InetAddress): boolean => NetAddress.isIpv6Address(address)

const withoutLast = <A>(list: ReadonlyArray<A>, isIt: (one: A) => boolean): ReadonlyArray<A> | undefined => {
  const index = list.findLastIndex(isIt)
  return index < 0 ? undefined : list.toSpliced(index, 1)
}

/** Without what is missed least; itself where all the rest is needed. */
const smaller = (self: ContactPoint.ContactPoint): ContactPoint.ContactPoint => {
  const sessions = withoutLast(self.sessions.slice(1), () => true)
  if (sessions !== undefined)
    return ContactPoint.make({ ...self, sessions: [...self.sessions.slice(0, 1), ...sessions] })
  const internal = withoutLast(self.internal, isIpv6)
  if (internal !== undefined) return ContactPoint.make({ ...self, internal })
  const external = withoutLast(self.external, ({ address }) => isIpv6(address))
  return external === undefined ? self : ContactPoint.make({ ...self, external })
}

/**
 * As much of a contact point as fits into one packet. What does not is left out in this order: sessions from the end,
 * all but the first; internal IPv6 addresses from the end; external IPv6 addresses from the end. The rest always fits.
 *
 * @category combinators
 * @since 0.1.0
 */
export const fit = (self: ContactPoint.ContactPoint): ContactPoint.ContactPoint => {
  let fitting = self
  while (extendedHead + ContactPointCodec.encode(fitting).length > maximumBytes) {
    const next = smaller(fitting)
    if (next === fitting) return fitting
    fitting = next
  }
  return fitting
}

/**
 * The bytes of a packet, at most `maximumBytes`: of a contact point what `fit` leaves of it, of a name as much as fits.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (self: Packet): Uint8Array => {
  switch (self._tag) {
    case "Crqt":
      return encodeCrqt(self)
    case "Extended":
      return encodeExtended(0, self.port, fit(ContactPoint.make({ ...self.contactPoint, instance: self.instance })))
    case "Goodbye":
      return encodeExtended(goodbyeFlag, 0, ContactPoint.make({ instance: self.instance }))
  }
}

const refused = (detail: string) => Result.fail(new BeaconCodecError({ detail }))

const beginsWith = (bytes: Uint8Array, magic: Uint8Array): boolean =>
  magic.every((byte, index) => bytes[index] === byte)

const latin1 = (bytes: Uint8Array): string => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")

/** What is no UTF-8 was written in Latin-1. */
const readName = (bytes: Uint8Array): string =>
  Option.getOrElse(Option.liftThrowable((input: Uint8Array) => strictUtf8.decode(input))(bytes), () => latin1(bytes))

const readPort = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)

const decodeCrqt = (bytes: Uint8Array): Result.Result<Crqt, BeaconCodecError> => {
  if (bytes.length < crqtHead) return refused("a CRQT packet that is cut off")
  const port = readPort(bytes, 4)
  if (port === 0) return refused("a CRQT packet without a port")
  const session = SessionId.fromString(latin1(bytes.subarray(6, crqtHead)))
  if (Option.isNone(session)) return refused("a CRQT packet whose session id is none")
  return Result.succeed({ _tag: "Crqt", port, session: session.value, name: readName(bytes.subarray(crqtHead)) })
}

const decodeExtended = (bytes: Uint8Array): Result.Result<Extended | Goodbye, BeaconCodecError> => {
  if (bytes.length < extendedHead) return refused("a packet that is cut off")
  if (bytes[4] !== version) return refused(`a packet of version ${bytes[4]}`)
  const read = ContactPointCodec.decode(bytes.subarray(extendedHead))
  if (Result.isFailure(read)) return refused(read.failure.message)
  const contactPoint = read.success
  const { instance } = contactPoint
  if (instance === undefined) return refused("a packet that does not say which instance it is of")
  if (((bytes[5] ?? 0) & goodbyeFlag) !== 0) return Result.succeed({ _tag: "Goodbye", instance })
  return Result.succeed({ _tag: "Extended", port: readPort(bytes, 6), instance, contactPoint })
}

/**
 * Reads a packet. A session id may be in upper case, and a name may be empty, in UTF-8 or, where it is not, in Latin-1.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (bytes: Uint8Array): Result.Result<Packet, BeaconCodecError> => {
  if (bytes.length > maximumBytes) return refused(`a packet of more than ${maximumBytes} bytes`)
  if (beginsWith(bytes, crqtMagic)) return decodeCrqt(bytes)
  return beginsWith(bytes, extendedMagic) ? decodeExtended(bytes) : refused("no packet of a beacon")
}
