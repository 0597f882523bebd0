import * as Capability from "@effect-nat/core/Capability"
import * as CapabilityProof from "@effect-nat/dispatcher/CapabilityProof"
import { assert, it } from "@effect/vitest"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { fromHex, hex, nameOf, proofOf } from "./support.ts"

const text = "000102030405060708090a0b0c0d0eff"

it("reads 32 hexadecimal digits in either case and nothing else", () => {
  assert.strictEqual(Option.getOrThrow(Capability.fromString(text)), text)
  assert.strictEqual(Option.getOrThrow(Capability.fromString(text.toUpperCase())), text)
  for (const wrong of ["", text.slice(1), `${text}0`, text.replace("f", "g"), ` ${text.slice(1)}`, `${text}\n`]) {
    assert.isTrue(Option.isNone(Capability.fromString(wrong)), JSON.stringify(wrong))
  }
  assert.isFalse(Capability.isCapability(text.toUpperCase()))
})

const Nonce = Schema.Uint8Array.check(
  Schema.makeFilter((bytes: Uint8Array) => (bytes.length < 40 ? undefined : "too long"))
)

it.effect.prop(
  "is named and proved by the HMAC that others compute",
  [Capability.Capability, Capability.Capability, Nonce, Nonce],
  ([capability, sessionId, clientNonce, routerNonce]) =>
    Effect.sync(() => {
      assert.strictEqual(hex(CapabilityProof.name(capability)), hex(nameOf(capability)))
      for (const side of ["client", "router"] as const) {
        const claim = { side, sessionId: fromHex(sessionId), clientNonce, routerNonce }
        assert.strictEqual(
          hex(CapabilityProof.prove(capability, claim)),
          hex(proofOf(capability, side, sessionId, clientNonce, routerNonce))
        )
      }
    })
)

it("proves something else for each side, session, and random number", () => {
  const capability = Capability.Capability.make(text)
  const [a, b] = [new Uint8Array(16), new Uint8Array(16).fill(1)]
  const claim = { side: "client", sessionId: a, clientNonce: a, routerNonce: a } as const
  const proofs = [
    claim,
    { ...claim, side: "router" as const },
    { ...claim, sessionId: b },
    { ...claim, clientNonce: b },
    { ...claim, routerNonce: b }
  ].map((one) => hex(CapabilityProof.prove(capability, one)))
  assert.strictEqual(new Set(proofs).size, proofs.length)
})

it.effect("makes each capability from 16 bytes of the platform's strong source", () =>
  Effect.gen(function* () {
    const made = new Set(yield* Effect.replicateEffect(Capability.make, 1000))
    assert.strictEqual(made.size, 1000)
    const fixed: typeof globalThis.crypto = Object.create(globalThis.crypto, {
      getRandomValues: { value: (bytes: Uint8Array) => bytes.map((_, index) => index + 0xf0) }
    })
    const one = yield* Capability.make.pipe(Effect.provide(WebCrypto.layer(fixed)))
    assert.strictEqual(one, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
  })
)
