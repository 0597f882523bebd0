/** The decoders of contact points, and of what announces them. */
import * as Capability from "@effect-nat/core/Capability"
import * as Checksum from "@effect-nat/core/Checksum"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointCodec from "@effect-nat/core/ContactPointCodec"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as SessionId from "@effect-nat/core/SessionId"
import * as BeaconCodec from "@effect-nat/dispatcher/BeaconCodec"
import * as Bytes from "effect/Bytes"
import * as NetAddress from "effect/net/NetAddress"
import * as Decoder from "./decoder.ts"
import * as Inputs from "./inputs.ts"
import type { Random } from "./inputs.ts"
import { frame, hex, hexFrame, texts, valueOf } from "./parts.ts"
import * as Values from "./values.ts"

const hexWord = (random: Random, length: number): string => Values.word(random, "0123456789abcdef", length, length)

const inet = (random: Random): NetAddress.InetAddress =>
  NetAddress.inetAddressUnsafe(Values.ip(random), Values.uint16(random))

const capability = (random: Random) => Capability.Capability.make(hexWord(random, 32))
const instanceId = (random: Random) => ContactPoint.InstanceId.make(hexWord(random, 32))
const sessionId = (random: Random) => SessionId.SessionId.make(hexWord(random, 32))

const session = (random: Random): ContactPoint.Session =>
  new ContactPoint.Session({
    id: sessionId(random),
    role: Values.line(random, 0, 1),
    capabilities: Values.list(random, 3, capability)
  })

const external = (random: Random): ContactPoint.ExternalAddress =>
  new ContactPoint.ExternalAddress({
    address: inet(random),
    verification: random.pick(["configured", "reported", "confirmed", "doubtful"])
  })

const contactPoint = (random: Random): ContactPoint.ContactPoint =>
  ContactPoint.make({
    name: Values.line(random, 0, 3),
    internal: Values.list(random, 4, inet),
    external: Values.list(random, 3, external),
    sessions: Values.list(random, 4, session),
    viewpoint: Values.optional(random, (one) => Values.line(one, 0, 2)),
    instance: Values.optional(random, instanceId),
    lifetime: Values.optional(random, (one) => Math.max(1, Values.uint32(one))),
    fingerprint: Values.optional(random, (one) => ContactPoint.Fingerprint.make(hexWord(one, 64))),
    control: Values.optional(random, capability)
  })

const isContactPointError = (error: unknown): boolean => error instanceof ContactPointCodec.ContactPointError

const fieldTokens = hex(
  "01",
  "01 0003 616263",
  "02 0006 c0a84d02 2ee0",
  "02 0012 fd000000000000000000000000000001 2ee0",
  "03 0007 01 0b162101 2ee1",
  "03 0007 ff 0b162101 2ee1",
  "04 0016 000102030405060708090a0b0c0d0e0f 00 7363656e65",
  "04 0021 000102030405060708090a0b0c0d0e0f 01 ffeeddccbbaa99887766554433221100",
  "05 0001 76",
  "06 0010 202122232425262728292a2b2c2d2e2f",
  "07 0004 0000000f",
  "07 0004 00000000",
  `08 0020 ${"ab".repeat(32)}`,
  "09 0010 0123456789abcdef0123456789abcdef",
  "7f 0000",
  "ff 0000",
  "01 0002 c328",
  "00",
  "ffff"
)

const readContactPoint = (bytes: Uint8Array) => valueOf(ContactPointCodec.decode(bytes), isContactPointError)

/** With a checksum that is right, so that what was changed before it is looked at. */
const mended = (bytes: Uint8Array): Uint8Array => {
  const body = bytes.subarray(0, Math.max(0, bytes.length - 4))
  const checksum = new Uint8Array(4)
  new DataView(checksum.buffer).setUint32(0, Checksum.crc32(body))
  return Bytes.concat([body, checksum])
}

const contactPointBytes = Decoder.make<ContactPoint.ContactPoint>({
  name: "contact point",
  maximumBytes: ContactPointCodec.maximumBytes,
  read: readContactPoint,
  write: ContactPointCodec.encode,
  value: contactPoint,
  comesBack: "at once",
  tokens: fieldTokens,
  frames: [(repeated) => mended(hexFrame("01")(repeated)), hexFrame("01"), (repeated) => repeated],
  also: (bytes) => {
    const value = readContactPoint(mended(bytes))
    if (value === undefined) return
    Decoder.same("mended, encoded, decoded", readContactPoint(ContactPointCodec.encode(value)), value)
  }
})

const longestUri = ContactPointUri.scheme.length + 2 * ContactPointCodec.maximumBytes

const contactPointUri = Decoder.make<ContactPoint.ContactPoint>({
  name: "contact point uri",
  // Blanks in it are of no account, and some of them are longer than others.
  maximumBytes: Number.POSITIVE_INFINITY,
  longestRead: longestUri,
  read: (bytes) => valueOf(ContactPointUri.fromString(new TextDecoder().decode(bytes)), isContactPointError),
  write: (value) => Inputs.fromText(ContactPointUri.format(value)),
  value: contactPoint,
  comesBack: "at once",
  tokens: texts(
    "effect-nat:",
    "EFFECT-NAT:",
    "AQEAA2FiYw",
    "A",
    "_",
    "-",
    "=",
    "+",
    "/",
    " ",
    "\n",
    "\u3000",
    "é",
    ":"
  ),
  frames: [frame("effect-nat:", ""), frame("effect-nat:AQ", "AA"), (repeated) => repeated]
})

const isBeaconError = (error: unknown): boolean => error instanceof BeaconCodec.BeaconCodecError

const packet = (random: Random): BeaconCodec.Packet => {
  const port = Values.uint16(random)
  switch (random.between(0, 3)) {
    case 0:
      return { _tag: "Goodbye", instance: instanceId(random) }
    case 1:
      return { _tag: "Crqt", port: Math.max(1, port), session: sessionId(random), name: Values.line(random, 0, 5) }
    default: {
      const instance = instanceId(random)
      const whole = ContactPoint.make({ ...contactPoint(random), instance })
      return { _tag: "Extended", port, instance, contactPoint: BeaconCodec.fit(whole) }
    }
  }
}

const readPacket = (bytes: Uint8Array) => valueOf(BeaconCodec.decode(bytes), isBeaconError)

const extendedHead = "8e4c414e 01 00 2ee0"
const crqtHead = "43525154 2ee0 3030303130323033303430353036303730383039306130623063306430653066"

const beacon = Decoder.make<BeaconCodec.Packet>({
  name: "beacon",
  maximumBytes: BeaconCodec.maximumBytes,
  read: readPacket,
  write: BeaconCodec.encode,
  value: packet,
  comesBack: "at once",
  tokens: [...fieldTokens, ...hex(extendedHead, crqtHead, "43525154", "8e4c414e", "8e4c414e 01 01 0000")],
  frames: [hexFrame(crqtHead), hexFrame(extendedHead), hexFrame(`${extendedHead} 01`)],
  also: (bytes) => {
    const head = bytes.subarray(0, 8)
    const value = readPacket(Bytes.concat([head, mended(bytes.subarray(8))]))
    if (value !== undefined && BeaconCodec.encode(value).length > BeaconCodec.maximumBytes) {
      throw new Error("longer than a datagram")
    }
  }
})

/** All of them. */
export const contactPointDecoders: ReadonlyArray<Decoder.Decoder> = [contactPointBytes, contactPointUri, beacon]
