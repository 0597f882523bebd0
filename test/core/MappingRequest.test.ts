import * as MappingRequest from "@effect-nat/core/MappingRequest"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"

const minimal: MappingRequest.MappingRequest = { protocol: "tcp", internalPort: 12000 }

/** The message of the refusal. */
const refusal = (differences: Partial<MappingRequest.MappingRequest>) =>
  Effect.map(Effect.flip(MappingRequest.resolve({ ...minimal, ...differences })), (error) => {
    assert.strictEqual(error.reason._tag, "InvalidRequest")
    return error.message
  })

describe("MappingRequest", () => {
  it.effect("fills in every default", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* MappingRequest.resolve(minimal), {
        protocol: "tcp",
        internalPort: 12000,
        externalPort: 12000,
        strictExternalPort: false,
        internalAddress: undefined,
        family: "ipv4",
        lifetime: Duration.hours(2),
        description: "effect-nat"
      })
    })
  )

  it.effect("keeps what is given", () =>
    Effect.gen(function* () {
      const internalAddress = NetAddress.ipFromStringUnsafe("192.168.77.2")
      assert.deepStrictEqual(
        yield* MappingRequest.resolve({
          protocol: "udp",
          internalPort: 1,
          externalPort: 65535,
          strictExternalPort: true,
          internalAddress,
          family: "both",
          lifetime: "90 seconds",
          description: 'a <game> & "more" – für alle 🎮'
        }),
        {
          protocol: "udp",
          internalPort: 1,
          externalPort: 65535,
          strictExternalPort: true,
          internalAddress,
          family: "both",
          lifetime: Duration.seconds(90),
          description: 'a <game> & "more" – für alle 🎮'
        }
      )
    })
  )

  it.effect.each([0, -1, 65536, 70000, 1.5, Number.NaN, Number.POSITIVE_INFINITY])("refuses port %d", (port) =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* refusal({ internalPort: port }),
        `the internal port must be a whole number from 1 to 65535, not ${port}`
      )
      assert.strictEqual(
        yield* refusal({ externalPort: port }),
        `the external port must be a whole number from 1 to 65535, not ${port}`
      )
    })
  )

  it.effect.prop(
    "every port that is one is taken",
    [Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65535 }))],
    ([port]) =>
      Effect.gen(function* () {
        const resolved = yield* MappingRequest.resolve({ protocol: "tcp", internalPort: port })
        assert.strictEqual(resolved.internalPort, port)
        assert.strictEqual(resolved.externalPort, port)
      })
  )

  it.effect.each([0, Number.POSITIVE_INFINITY, "Infinity", "0 seconds", Duration.zero, Duration.infinity] as const)(
    "a lifetime of %s is a permanent mapping",
    (lifetime) =>
      Effect.gen(function* () {
        const resolved = yield* MappingRequest.resolve({ ...minimal, lifetime })
        assert.isFalse(Duration.isFinite(resolved.lifetime))
      })
  )

  it.effect.each([
    [-1, "the lifetime must not be negative"],
    ["-5 seconds", "the lifetime must not be negative"],
    [Duration.negativeInfinity, "the lifetime must not be negative"],
    [500, "the lifetime must be at least one second, or 0 for permanent, not 500ms"],
    ["1 nano", "the lifetime must be at least one second, or 0 for permanent, not 1ns"],
    [Number.NaN, 'the lifetime "NaN" is not a duration: write for example "2 hours"'],
    [{ seconds: Number.NaN }, 'the lifetime is not a duration: write for example "2 hours"'],
    [[Number.NaN, 0], 'the lifetime is not a duration: write for example "2 hours"']
  ] as const)("refuses the lifetime %s", ([lifetime, message]) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* refusal({ lifetime }), message)
    })
  )

  it.effect("refuses a lifetime that is no duration at all, in one line", () =>
    Effect.gen(function* () {
      // What a program without types, or a configuration file, might hand over.
      const lifetime = JSON.parse('"two\\nhours"') as Duration.Input
      assert.strictEqual(
        yield* refusal({ lifetime }),
        'the lifetime "two hours" is not a duration: write for example "2 hours"'
      )
    })
  )

  it.effect("a lifetime beyond what 32 bits of seconds hold is cut to that", () =>
    Effect.gen(function* () {
      const resolved = yield* MappingRequest.resolve({ ...minimal, lifetime: "100000 days" })
      assert.strictEqual(Duration.toSeconds(resolved.lifetime), 0xffffffff)
    })
  )

  it.effect("a description has at most 64 characters", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        (yield* MappingRequest.resolve({ ...minimal, description: "x".repeat(64) })).description.length,
        64
      )
      assert.strictEqual(
        yield* refusal({ description: "x".repeat(65) }),
        "the description must have at most 64 characters"
      )
    })
  )

  it.effect.each([
    "\u0000",
    "a\nb",
    "a\r\nb",
    "\u001b[2J",
    "\u007f",
    "\u0085",
    "\u009b",
    "\u2028",
    "\ufffe",
    "\uffff",
    "\ud800",
    "\udc00\ud800"
  ])("a description must not contain %j", (description) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* refusal({ description }), "the description must not contain control characters")
    })
  )

  it.effect.each(["0.0.0.0", "::", "239.255.255.250", "ff02::1"])("no host has the internal address %s", (address) =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* refusal({ internalAddress: NetAddress.ipFromStringUnsafe(address) }),
        `the internal address must be the address of one host, not ${address}: leave it out for this host`
      )
    })
  )
})
