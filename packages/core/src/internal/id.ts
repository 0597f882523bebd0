/** Ids and secrets of 128 bits, which are 32 lower-case hexadecimal digits as text. */
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Result from "effect/Result"

/** In bytes. */
export const byteLength = 16

export const pattern = /^[0-9a-f]{32}$/

/** From the `WebCrypto` reference, by default the platform's own cryptographically strong source. */
export const random: Effect.Effect<string> = WebCrypto.WebCrypto.use((crypto) =>
  Effect.sync(() => Hex.encode(crypto.getRandomValues(new Uint8Array(byteLength))))
)

/** The bytes of what has been checked already. */
export const toBytes = (text: string): Uint8Array => Result.getOrThrow(Hex.decode(text))

/** Those of 16 bytes, the first ones first. */
export const fromBytes = (bytes: Uint8Array): string => Hex.encode(bytes)
