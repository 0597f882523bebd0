import * as Checksum from "@effect-nat/core/Checksum"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointCodec from "@effect-nat/core/ContactPointCodec"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Hex from "effect/encoding/Hex"
import * as Result from "effect/Result"
import * as ContactPoints from "./contactPoints.ts"

const fromHex = (text: string) => Result.getOrThrow(Hex.decode(text.replaceAll(/\s/g, "")))

const withChecksum = (text: string): Uint8Array => {
  const body = fromHex(text)
  return fromHex(Hex.encode(body) + Checksum.crc32(body).toString(16).padStart(8, "0"))
}

const reasonOf = (bytes: Uint8Array) =>
  Result.match(ContactPointCodec.decode(bytes), { onSuccess: () => "read", onFailure: ({ reason }) => reason._tag })

/** Written by hand from the table in the module's documentation. */
const vector = withChecksum(`
  01
  01 0006 69736c616e64
  02 0006 c0a84d02 2ee0
  02 0012 fd000000000000000000000000000002 2ee0
  03 0007 02 0b162101 2ee1
  03 0013 00 20010db8000000000000000000000002 2ee0
  04 0026 000102030405060708090a0b0c0d0e0f 01 ffeeddccbbaa99887766554433221100 7363656e65
  04 0018 101112131415161718191a1b1c1d1e1f 00 636f6e74656e74
  05 0009 74686520706c617a61
  06 0010 202122232425262728292a2b2c2d2e2f
  07 0004 00000e10
  08 0020 ${"ab".repeat(32)}
  09 0010 0123456789abcdef0123456789abcdef
`)

describe("ContactPointCodec", () => {
  it("writes what its table says", () => {
    assert.strictEqual(Hex.encode(ContactPointCodec.encode(ContactPoints.full)), Hex.encode(vector))
  })

  it("reads what its table says", () => {
    assert.isTrue(Equal.equals(Result.getOrThrow(ContactPointCodec.decode(vector)), ContactPoints.full))
  })

  it.effect.prop("every contact point comes back as it was", [ContactPoints.Parts], ([parts]) =>
    Effect.sync(() => {
      const point = ContactPoints.make(parts)
      const bytes = ContactPointCodec.encode(point)
      assert.isAtMost(bytes.length, ContactPointCodec.maximumBytes)
      assert.isTrue(Equal.equals(Result.getOrThrow(ContactPointCodec.decode(bytes)), point))
    })
  )

  it("notices whatever is cut off or changed", () => {
    for (let length = 1; length < vector.length; length++) {
      assert.strictEqual(reasonOf(vector.subarray(0, length)), "Damaged", `${length} bytes`)
    }
    for (let at = 0; at < vector.length; at++) {
      const changed = vector.map((byte, index) => (index === at ? byte ^ 0x10 : byte))
      assert.strictEqual(reasonOf(changed), "Damaged", `byte ${at}`)
    }
  })

  it("skips a field that it need not know, and says so where it must", () => {
    const read = ContactPointCodec.decode(withChecksum("01 01 0001 61 7f 0003 aabbcc"))
    assert.strictEqual(Result.getOrThrow(read).name, "a")
    assert.strictEqual(reasonOf(withChecksum("01 01 0001 61 ff 0003 aabbcc")), "NewerVersion")
    assert.strictEqual(reasonOf(withChecksum("02 01 0001 61")), "NewerVersion")
  })

  it("takes an address that is verified in a way it does not know as reported", () => {
    const read = Result.getOrThrow(ContactPointCodec.decode(withChecksum("01 03 0007 09 0b162101 2ee1")))
    assert.deepStrictEqual(
      read.external.map((one) => one.verification),
      ["reported"]
    )
  })

  it.each([
    ["nothing", new Uint8Array(0)],
    ["version 0", withChecksum("00 01 0001 61")],
    ["a field that ends beyond the end", withChecksum("01 01 0005 61")],
    ["half a header", withChecksum("01 01 00")],
    ["a name that is no UTF-8", withChecksum("01 01 0001 ff")],
    ["a name that is too long", withChecksum(`01 01 0100 ${"61".repeat(256)}`)],
    ["an address of five bytes", withChecksum("01 02 0005 c0a84d02 2e")],
    ["an external address without an address", withChecksum("01 03 0001 01")],
    ["a session of half an id", withChecksum("01 04 0008 0001020304050607")],
    ["a session with fewer capabilities than it says", withChecksum(`01 04 0011 ${"00".repeat(16)} 02`)],
    ["a session with nine capabilities", withChecksum(`01 04 00a1 ${"00".repeat(16)} 09 ${"11".repeat(144)}`)],
    ["a lifetime of nothing", withChecksum("01 07 0004 00000000")],
    ["a short instance", withChecksum("01 06 0001 00")],
    ["33 internal addresses", withChecksum(`01 ${"02 0006 c0a84d02 2ee0".repeat(33)}`)],
    ["more than it may have", new Uint8Array(ContactPointCodec.maximumBytes + 1)]
  ])("refuses %s", (_, bytes) => {
    assert.strictEqual(reasonOf(bytes), "NotAContactPoint")
  })

  it("holds the largest contact point there can be", () => {
    const session = ContactPoints.full.sessions[0]
    const address = ContactPoints.full.internal[1]
    const external = ContactPoints.full.external[1]
    if (session === undefined || address === undefined || external === undefined) return assert.fail()
    const largest = new ContactPoint.ContactPoint({
      ...ContactPoints.full,
      name: "n".repeat(255),
      viewpoint: "v".repeat(255),
      internal: Array.from({ length: 32 }, () => address),
      external: Array.from({ length: 16 }, () => external),
      sessions: Array.from(
        { length: 64 },
        () =>
          new ContactPoint.Session({
            ...session,
            role: "r".repeat(63),
            capabilities: Array.from({ length: 8 }, () => session.capabilities[0] ?? assert.fail())
          })
      )
    })
    assert.isTrue(Equal.equals(Result.getOrThrow(ContactPointCodec.decode(ContactPointCodec.encode(largest))), largest))
  })
})
