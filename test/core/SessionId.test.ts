import * as SessionId from "@effect-nat/core/SessionId"
import { assert, it } from "@effect/vitest"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { fromHex, hex } from "../dispatcher/support.ts"

const text = "000102030405060708090a0b0c0d0eff"

it("reads 32 hexadecimal digits in either case and nothing else", () => {
  assert.strictEqual(Option.getOrThrow(SessionId.fromString(text)), text)
  assert.strictEqual(Option.getOrThrow(SessionId.fromString(text.toUpperCase())), text)
  for (const wrong of ["", text.slice(1), `${text}0`, text.replace("f", "g"), ` ${text.slice(1)}`, `${text}\n`]) {
    assert.isTrue(Option.isNone(SessionId.fromString(wrong)), JSON.stringify(wrong))
  }
})

it("has 16 bytes on the wire, the first digits first", () => {
  const id = Option.getOrThrow(SessionId.fromString(text))
  assert.strictEqual(hex(SessionId.toBytes(id)), text)
  assert.strictEqual(Option.getOrThrow(SessionId.fromBytes(fromHex(text))), id)
  assert.isTrue(Option.isNone(SessionId.fromBytes(new Uint8Array(15))))
  assert.isTrue(Option.isNone(SessionId.fromBytes(new Uint8Array(17))))
})

it.effect.prop("survives the way over the wire", [SessionId.SessionId], ([id]) =>
  Effect.sync(() => {
    assert.deepStrictEqual(SessionId.fromBytes(SessionId.toBytes(id)), Option.some(id))
  })
)

it.effect("makes each id from 16 bytes of the platform's strong source", () =>
  Effect.gen(function* () {
    const ids = new Set(yield* Effect.replicateEffect(SessionId.make, 1000))
    assert.strictEqual(ids.size, 1000)
    const fixed: typeof globalThis.crypto = Object.create(globalThis.crypto, {
      getRandomValues: { value: (bytes: Uint8Array) => bytes.map((_, index) => index + 0xf0) }
    })
    const id = yield* SessionId.make.pipe(Effect.provide(WebCrypto.layer(fixed)))
    assert.strictEqual(id, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
  })
)
