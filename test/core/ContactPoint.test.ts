import * as ContactPoint from "@effect-nat/core/ContactPoint"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"

const inet = NetAddress.inetAddressFromStringUnsafe

const contactPoint = new ContactPoint.ContactPoint({
  version: 1,
  name: "island",
  internal: [inet("192.168.77.2:12000"), inet("[fd00::2]:12000")],
  external: [
    new ContactPoint.ExternalAddress({ address: inet("11.22.33.1:12001"), verification: "reported" }),
    new ContactPoint.ExternalAddress({ address: inet("[2001:db8::2]:12000"), verification: "configured" })
  ]
})

const json = {
  version: 1,
  name: "island",
  internal: ["192.168.77.2:12000", "[fd00::2]:12000"],
  external: [
    { address: "11.22.33.1:12001", verification: "reported" },
    { address: "[2001:db8::2]:12000", verification: "configured" }
  ],
  sessions: []
}

const Word = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))

/** Addresses have no arbitrary of their own: eight words make an IPv6 address, the first two an IPv4 address. */
const Endpoint = Schema.Struct({
  words: Schema.Tuple([Word, Word, Word, Word, Word, Word, Word, Word]),
  isIpv6: Schema.Boolean,
  port: Word
})

const Endpoints = Schema.Array(Endpoint).check(Schema.isMaxLength(16))

const addressOf = ({ isIpv6, port, words }: typeof Endpoint.Type) => {
  const bytes = Uint8Array.from(words.flatMap((word) => [word >> 8, word & 0xff]))
  return NetAddress.inetAddressUnsafe(
    isIpv6 ? NetAddress.ipv6FromBytesUnsafe(bytes) : NetAddress.ipv4FromBytesUnsafe(bytes.subarray(0, 4)),
    port
  )
}

const decode = Schema.decodeUnknownEffect(ContactPoint.ContactPoint)

describe("ContactPoint", () => {
  it.effect("its JSON form holds addresses as strings", () =>
    Effect.gen(function* () {
      const encoded = yield* Schema.encodeEffect(ContactPoint.ContactPoint)(contactPoint)
      assert.deepStrictEqual(JSON.parse(JSON.stringify(encoded)), json)
    })
  )

  it.effect("comes back from JSON as it was", () =>
    Effect.gen(function* () {
      assert.isTrue(Equal.equals(yield* decode(JSON.parse(JSON.stringify(json))), contactPoint))
    })
  )

  it.effect.prop(
    "every contact point comes back from JSON as it was",
    [ContactPoint.Name, Endpoints, Endpoints],
    ([name, internal, external]) =>
      Effect.gen(function* () {
        const point = new ContactPoint.ContactPoint({
          version: 1,
          name,
          internal: internal.map(addressOf),
          external: external.map(
            (one) => new ContactPoint.ExternalAddress({ address: addressOf(one), verification: "reported" })
          )
        })
        const text = JSON.stringify(yield* Schema.encodeEffect(ContactPoint.ContactPoint)(point))
        assert.isTrue(Equal.equals(yield* decode(JSON.parse(text)), point), text)
      })
  )

  it.effect.each([
    { ...json, version: 2 },
    { ...json, internal: ["192.168.77.2"] },
    { ...json, internal: ["router.local:12000"] },
    { ...json, internal: ["192.168.77.2:70000"] },
    { ...json, external: [{ address: "11.22.33.1:12001", verification: "guessed" }] },
    { ...json, external: undefined },
    null,
    "island"
  ])("what is no contact point is refused: %j", (wrong) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* Effect.flip(decode(wrong)))._tag, "SchemaError")
    })
  )

  it("format says what is known and what is not", () => {
    assert.strictEqual(
      ContactPoint.format(contactPoint),
      "internal 192.168.77.2:12000, [fd00::2]:12000; external 11.22.33.1:12001, [2001:db8::2]:12000"
    )
    assert.strictEqual(
      ContactPoint.format(new ContactPoint.ContactPoint({ ...contactPoint, external: [] })),
      "internal 192.168.77.2:12000, [fd00::2]:12000; external unknown"
    )
    assert.strictEqual(
      ContactPoint.format(new ContactPoint.ContactPoint({ ...contactPoint, internal: [], external: [] })),
      "internal none; external unknown"
    )
  })
})
