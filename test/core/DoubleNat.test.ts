import * as DoubleNat from "@effect-nat/core/DoubleNat"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as SimulatedRouter from "@effect-nat/testing/SimulatedRouter"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as TestClock from "effect/testing/TestClock"

const ip = NetAddress.ipFromStringUnsafe

const flagOf = (externalAddress: string | null, seen?: string) =>
  PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12000 })).pipe(
    Effect.flatMap((mapping) => mapping.current),
    Effect.map((mapping) => mapping.doubleNat),
    Effect.scoped,
    Effect.provideService(DoubleNat.SeenAddress, Effect.succeed(seen === undefined ? undefined : ip(seen))),
    Effect.provide(SimulatedRouter.layer({ externalAddress }))
  )

describe("DoubleNat", () => {
  it.effect.each([
    ["11.22.33.1", undefined, false],
    [null, undefined, false],
    ["192.168.0.20", undefined, true],
    ["100.64.0.9", undefined, true],
    ["11.22.33.1", "11.22.33.1", false],
    ["11.22.33.1", "44.55.66.7", true],
    ["11.22.33.1", "2001:db8::1", false]
  ] as const)("a router at %s, seen at %s: a mapping that is granted is flagged: %s", ([external, seen, expected]) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* flagOf(external, seen), expected)
    })
  )

  it("says what it is and what can be done", () => {
    const say = (external: string, seen?: string) =>
      DoubleNat.describe("My Router", ip(external), seen === undefined ? undefined : ip(seen))
    assert.match(say("192.168.0.20"), /^My Router reports .*192\.168\.0\.20.*\(double NAT\): map the port on the outer/)
    assert.match(say("100.64.0.9"), /100\.64\.0\.9.*\(carrier-grade NAT\): ask the provider for a public address/)
    assert.match(say("11.22.33.1", "44.55.66.7"), /11\.22\.33\.1, and the world sees 44\.55\.66\.7: .*double NAT/)
  })

  describe("a refusal for want of resources", () => {
    const refusal = NatError.fromReason(new NatError.OutOfResources({ detail: "code 8" }))
    const noAddress = NatError.fromReason(new NatError.NoExternalAddress({ detail: "" }))
    const timedOut = NatError.fromReason(new NatError.TimedOut({ detail: "" }))
    const explained = (ask: Effect.Effect<NetAddress.IpAddress | undefined, NatError.NatError>) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Effect.flip(DoubleNat.explainRefusal(refusal, "My Router", ask)))
        yield* TestClock.adjust("2 seconds")
        const { message, reason } = yield* Fiber.join(fiber)
        return [reason._tag, message.includes("double NAT"), message.includes("code 8")]
      })

    it.effect.each([
      ["a private address", Effect.succeed(ip("10.0.0.2")), ["NoExternalAddress", true, true]],
      ["no address", Effect.undefined, ["NoExternalAddress", true, true]],
      ["a refusal of that as well", Effect.fail(noAddress), ["NoExternalAddress", true, true]],
      ["a public address", Effect.succeed(ip("11.22.33.1")), ["OutOfResources", false, true]],
      ["no answer", Effect.fail(timedOut), ["OutOfResources", false, true]],
      ["nothing at all", Effect.never, ["OutOfResources", false, true]]
    ] as const)("is explained by %s", ([, ask, expected]) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* explained(ask), [...expected])
      })
    )
  })
})
