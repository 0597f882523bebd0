import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointCodec from "@effect-nat/core/ContactPointCodec"
import * as SessionId from "@effect-nat/core/SessionId"
import * as BeaconCodec from "@effect-nat/dispatcher/BeaconCodec"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Fs from "node:fs"
import * as Zlib from "node:zlib"
import * as ContactPoints from "../core/contactPoints.ts"
import { bytesOf, fromHex, hex } from "./support.ts"

const inet = NetAddress.inetAddressFromStringUnsafe
const session = SessionId.SessionId.make("000102030405060708090a0b0c0d0e0f")
const instance = ContactPoint.InstanceId.make("202122232425262728292a2b2c2d2e2f")

const sessionText = "3030303130323033303430353036303730383039306130623063306430653066"
const addresses = "02 0006 c0a84d02 2ee0 03 0007 01 0b162101 2ee1"
const instanceField = `06 0010 ${instance}`

/** The examples of docs/wire-protocol.md, by their names there. */
const vectors = {
  crqt: `43525154 2ee0 ${sessionText} 69736c616e64`,
  extended: `8e4c414e 01 00 2ee0
    01 01 0006 69736c616e64 ${addresses} 04 0016 ${session} 00 7363656e65 ${instanceField} 07 0004 0000000f cd6429ea`,
  goodbye: `8e4c414e 01 01 0000 01 01 0000 ${instanceField} 22d1ae3d`
} as const

const packets = {
  crqt: { _tag: "Crqt", port: 12000, session, name: "island" },
  extended: {
    _tag: "Extended",
    port: 12000,
    instance,
    contactPoint: ContactPoint.make({
      name: "island",
      internal: [inet("192.168.77.2:12000")],
      external: [new ContactPoint.ExternalAddress({ address: inet("11.22.33.1:12001"), verification: "reported" })],
      sessions: [new ContactPoint.Session({ id: session, role: "scene", capabilities: [] })],
      instance,
      lifetime: 15
    })
  },
  goodbye: { _tag: "Goodbye", instance }
} satisfies Record<string, BeaconCodec.Packet>

const names = ["crqt", "extended", "goodbye"] as const

const decoded = (bytes: Uint8Array) => Result.getOrThrow(BeaconCodec.decode(bytes))
const refusal = (bytes: Uint8Array) => Result.getOrThrow(Result.flip(BeaconCodec.decode(bytes))).message

const crqt = (name: Uint8Array, id = session.toString()) => Buffer.concat([fromHex("43525154 2ee0"), bytesOf(id), name])

describe("the beacon's packets", () => {
  it.each(names)("%s is the bytes of the page, both ways", (name) => {
    assert.strictEqual(hex(BeaconCodec.encode(packets[name])), hex(fromHex(vectors[name])))
    assert.deepStrictEqual(decoded(fromHex(vectors[name])), packets[name])
  })

  it("have the examples of docs/wire-protocol.md", () => {
    const page = Fs.readFileSync(new URL("../../docs/wire-protocol.md", import.meta.url), "utf8")
    const examples = [...page.slice(page.indexOf("## The beacon")).matchAll(/^```\n([^`]*)^```$/gm)]
    assert.deepStrictEqual(
      examples.map(([, example = ""]) => example.replaceAll(/\s/g, "")),
      names.map((name) => hex(fromHex(vectors[name])))
    )
  })

  it("have checksums that zlib finds, too", () => {
    for (const name of ["extended", "goodbye"] as const) {
      const bytes = fromHex(vectors[name])
      assert.strictEqual(Zlib.crc32(bytes.subarray(8, -4)), Buffer.from(bytes).readUInt32BE(bytes.length - 4))
    }
  })
})

describe("the old packet", () => {
  it.each(["", "a", "ab", "abc", "Insel über dem Meer", "\u0000\u001b[31m", "\ufeffa"])("keeps the name %j", (name) => {
    assert.deepStrictEqual(decoded(BeaconCodec.encode({ ...packets.crqt, name })), { ...packets.crqt, name })
    assert.deepStrictEqual(decoded(crqt(bytesOf(name))), { ...packets.crqt, name })
  })

  it("is read with an id in upper case, and a name in Latin-1", () => {
    const read = decoded(crqt(Uint8Array.of(0xfc, 0x62, 0x65, 0x72), session.toUpperCase()))
    assert.deepStrictEqual(read, { ...packets.crqt, name: "über" })
  })

  it("holds as much of a name as fits, in whole characters", () => {
    const bytes = BeaconCodec.encode({ ...packets.crqt, name: "é".repeat(1000) })
    assert.isAtMost(bytes.length, BeaconCodec.maximumBytes)
    const read = decoded(bytes)
    assert.deepStrictEqual(read, { ...packets.crqt, name: "é".repeat((BeaconCodec.maximumBytes - 38) / 2) })
  })

  it("is refused without a port, a whole id or all of its head", () => {
    assert.match(refusal(fromHex(`43525154 0000 ${sessionText}`)), /without a port/)
    assert.match(refusal(crqt(bytesOf(""), "g".repeat(32))), /session id/)
    const whole = fromHex(vectors.crqt)
    for (let length = 0; length < 38; length++)
      assert.isTrue(Result.isFailure(BeaconCodec.decode(whole.subarray(0, length))))
  })
})

describe("the extended packet", () => {
  it("is no CRQT packet to those who know only that", () => {
    assert.notStrictEqual(fromHex(vectors.extended)[0], "C".charCodeAt(0))
  })

  it("keeps all that a contact point has, where it fits", () => {
    const { instance = packets.goodbye.instance } = ContactPoints.full
    const packet: BeaconCodec.Packet = { _tag: "Extended", port: 12000, instance, contactPoint: ContactPoints.full }
    assert.deepStrictEqual(decoded(BeaconCodec.encode(packet)), packet)
  })

  it("is refused cut off, damaged, too long, of a later version and without an instance", () => {
    const whole = fromHex(vectors.extended)
    for (let length = 0; length < whole.length; length++)
      assert.isTrue(Result.isFailure(BeaconCodec.decode(whole.subarray(0, length))))
    assert.match(refusal(whole.with(20, 0)), /incomplete or was changed/)
    assert.match(refusal(whole.with(4, 2)), /version 2/)
    assert.match(refusal(new Uint8Array(BeaconCodec.maximumBytes + 1)), /more than 1400 bytes/)
    const nameless = ContactPointCodec.encode(ContactPoint.make({ name: "island" }))
    assert.match(refusal(Buffer.concat([whole.subarray(0, 8), nameless])), /which instance/)
  })

  it("does not mind flags that it does not know", () => {
    assert.deepStrictEqual(decoded(fromHex(vectors.extended).with(5, 0xfe)), packets.extended)
    assert.deepStrictEqual(decoded(fromHex(vectors.goodbye).with(5, 0xff)), packets.goodbye)
  })
})

describe("what does not fit", () => {
  const ipv4 = (index: number) => inet(`10.0.0.${index + 1}:12000`)
  const ipv6 = (index: number) => inet(`[fd00::${index + 1}]:12000`)
  const external = (address: NetAddress.InetAddress) =>
    new ContactPoint.ExternalAddress({ address, verification: "reported" })
  const sessionOf = (index: number, capabilities = 0, role = "") =>
    new ContactPoint.Session({
      id: SessionId.SessionId.make(index.toString(16).padStart(32, "0")),
      role,
      capabilities: Array.from({ length: capabilities }, () => ContactPoints.full.control ?? assert.fail())
    })
  const list = <A>(length: number, make: (index: number) => A) => Array.from({ length }, (_, index) => make(index))
  const sizeOf = (contactPoint: ContactPoint.ContactPoint) =>
    BeaconCodec.encode({ _tag: "Extended", port: 12000, instance, contactPoint }).length

  it("goes in its order: sessions but for the first, internal IPv6 addresses, external ones", () => {
    const many = ContactPoint.make({
      instance,
      internal: [...list(16, ipv6), ...list(4, ipv4)],
      external: list(16, (index) => external(ipv6(index))),
      sessions: list(64, (index) => sessionOf(index))
    })
    const fitting = BeaconCodec.fit(many)
    assert.isAbove(fitting.sessions.length, 1)
    assert.isBelow(fitting.sessions.length, 64)
    assert.deepStrictEqual(fitting.sessions, many.sessions.slice(0, fitting.sessions.length))
    assert.strictEqual(fitting.internal.length, 20)
    // One more would not have fitted.
    assert.isAbove(sizeOf(fitting) + 20, BeaconCodec.maximumBytes)

    const named = ContactPoint.make({
      ...many,
      name: "n".repeat(255),
      viewpoint: "v".repeat(255),
      internal: [...list(28, ipv6), ...list(4, ipv4)]
    })
    const { external: outside, internal, sessions } = BeaconCodec.fit(named)
    assert.strictEqual(sessions.length, 1)
    assert.strictEqual(outside.length, 16)
    const left = internal.length - 4
    assert.deepStrictEqual(internal, [...list(left, ipv6), ...list(4, ipv4)])

    const everywhere = ContactPoint.make({
      ...named,
      internal: [...list(2, ipv6), ...list(30, ipv4)],
      sessions: [sessionOf(1, 8, "r".repeat(63))],
      fingerprint: ContactPoints.full.fingerprint,
      control: ContactPoints.full.control,
      lifetime: 15
    })
    const fewest = BeaconCodec.fit(everywhere)
    assert.deepStrictEqual(fewest.internal, list(30, ipv4))
    assert.isBelow(fewest.external.length, 16)
    assert.deepStrictEqual(fewest.external, everywhere.external.slice(0, fewest.external.length))
  })

  it("is left out until the largest of all fits", () => {
    const largest = ContactPoint.make({
      ...ContactPoints.full,
      name: "n".repeat(255),
      viewpoint: "v".repeat(255),
      internal: list(32, ipv4),
      external: list(16, (index) => external(ipv4(index))),
      sessions: list(64, (index) => sessionOf(index, 8, "r".repeat(63)))
    })
    assert.isAtMost(sizeOf(largest), BeaconCodec.maximumBytes)
    assert.strictEqual(BeaconCodec.fit(largest).internal.length, 32)
  })

  it.effect.prop("whatever it is", [ContactPoints.Parts], ([parts]) =>
    Effect.sync(() => {
      const contactPoint = ContactPoint.make({ ...ContactPoints.make(parts), instance })
      const bytes = BeaconCodec.encode({ _tag: "Extended", port: 1, instance, contactPoint })
      assert.isAtMost(bytes.length, BeaconCodec.maximumBytes)
      const read = decoded(bytes)
      assert.deepStrictEqual(read, { _tag: "Extended", port: 1, instance, contactPoint: BeaconCodec.fit(contactPoint) })
    })
  )
})
