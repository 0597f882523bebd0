import * as Checksum from "@effect-nat/core/Checksum"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Zlib from "node:zlib"
import { bytesOf } from "../dispatcher/support.ts"

it("has the check value that the parameters of CRC-32 are published with", () => {
  assert.strictEqual(Checksum.crc32(bytesOf("123456789")), 0xcbf43926)
  assert.strictEqual(Checksum.crc32(new Uint8Array(0)), 0)
})

it.effect.prop(
  "is the one of zlib, of every part of any bytes",
  [Schema.Uint8Array, Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 }))],
  ([noise, start]) =>
    Effect.sync(() => {
      const bytes = new Uint8Array(Buffer.concat([noise, noise, noise]))
      assert.strictEqual(Checksum.crc32(bytes), Zlib.crc32(bytes))
      const end = Math.max(start, bytes.length - start)
      assert.strictEqual(Checksum.crc32(bytes, start, end), Zlib.crc32(bytes.subarray(start, end)))
    }),
  { arbitrary: { runs: 300 } }
)
