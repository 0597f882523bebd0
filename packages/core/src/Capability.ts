/**
 * The 128-bit secret that opens something: a session, or the control of a dispatcher. Whoever has it may come in.
 *
 * As text it is 32 lower-case hexadecimal digits, and belongs to a `ContactPoint` or an invitation. Hand it out like a
 * password.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Id from "./internal/id.ts"

/**
 * The length of a capability, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const byteLength = Id.byteLength

/**
 * A capability as 32 lower-case hexadecimal digits.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Capability = Schema.String.check(
  Schema.isPattern(Id.pattern, { expected: "a capability of 32 hexadecimal digits" })
).pipe(Schema.brand("@effect-nat/core/Capability"))

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
export const make: Effect.Effect<Capability> = Effect.map(Id.random, (text) => Capability.make(text))

/**
 * Reads 32 hexadecimal digits in either case; anything else is none.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromString = (text: string): Option.Option<Capability> =>
  Option.liftPredicate(text.toLowerCase(), isCapability)

/**
 * Reads exactly 16 bytes; anything else is none.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromBytes = (bytes: Uint8Array): Option.Option<Capability> =>
  bytes.length === byteLength ? Option.liftPredicate(Id.fromBytes(bytes), isCapability) : Option.none()

/**
 * The 16 bytes of a capability. They never go over a session's wire.
 *
 * @category encoding
 * @since 0.1.0
 */
export const toBytes = (self: Capability): Uint8Array => Id.toBytes(self)
