/**
 * The 128-bit secret that opens a session: whoever has it may come in.
 *
 * As text it is 32 lower-case hexadecimal digits. It is never sent: client and router show each other that they know it
 * with HMAC-SHA-256 over fresh random numbers of both, so that what was overheard opens nothing, and a host that does
 * not know it cannot pass for the router.
 *
 * @since 0.1.0
 */
import { hmac } from "@noble/hashes/hmac.js"
import { sha256 } from "@noble/hashes/sha2.js"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Bytes from "./internal/bytes.ts"

/** In bytes. */
const byteLength = 16

/**
 * A capability as 32 lower-case hexadecimal digits.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Capability = Schema.String.check(
  Schema.isPattern(/^[0-9a-f]{32}$/, { expected: "a capability of 32 hexadecimal digits" })
).pipe(Schema.brand("@effect-nat/dispatcher/Capability"))

/**
 * A capability as 32 lower-case hexadecimal digits.
 *
 * @category models
 * @since 0.1.0
 */
export type Capability = typeof Capability.Type

/**
 * Whether a value is a capability in its canonical form, in lower case.
 *
 * @category guards
 * @since 0.1.0
 */
export const isCapability: (u: unknown) => u is Capability = Schema.is(Capability)

/**
 * A new one from the `WebCrypto` reference, by default the platform's own cryptographically strong source.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<Capability> = WebCrypto.WebCrypto.use((crypto) =>
  Effect.sync(() => Capability.make(Bytes.toHex(crypto.getRandomValues(new Uint8Array(byteLength)))))
)

/**
 * Reads 32 hexadecimal digits in either case; anything else is none.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromString = (text: string): Option.Option<Capability> =>
  Option.liftPredicate(text.toLowerCase(), isCapability)

/**
 * The length of a capability's name, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const nameLength = 8

/**
 * The length of a proof, and of the random number of each side that goes into it, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const proofLength = 16

const utf8 = new TextEncoder()
const nameOf = utf8.encode("effect-nat capability name")

/**
 * What a capability is called where it must not be told: the first 8 bytes of an HMAC of a fixed text.
 *
 * @category encoding
 * @since 0.1.0
 */
export const name = (self: Capability): Uint8Array => hmac(sha256, Bytes.fromHex(self), nameOf).slice(0, nameLength)

/**
 * What a proof is made of, beside the capability: who makes it, the 16 bytes of the session's id, and the random numbers
 * of client and router.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  readonly side: "client" | "router"
  readonly sessionId: Uint8Array
  readonly clientNonce: Uint8Array
  readonly routerNonce: Uint8Array
}

/**
 * Shows that one side knows the capability, without telling it: the first 16 bytes of the HMAC-SHA-256, keyed with the
 * capability, of the name of the side in ASCII, the session's id, the client's and the router's random number.
 *
 * @category encoding
 * @since 0.1.0
 */
export const prove = (self: Capability, { clientNonce, routerNonce, sessionId, side }: Claim): Uint8Array =>
  hmac(sha256, Bytes.fromHex(self), Bytes.concat([utf8.encode(side), sessionId, clientNonce, routerNonce])).slice(
    0,
    proofLength
  )
