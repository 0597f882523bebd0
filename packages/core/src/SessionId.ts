/**
 * The 128-bit id that names one session on a dispatcher.
 *
 * As text it is 32 lower-case hexadecimal digits, on the wire 16 bytes. An id grants nothing: whoever joins shows a
 * `Capability` as well.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Id from "./internal/id.ts"

/**
 * The length of a session id on the wire, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const byteLength = Id.byteLength

/**
 * A session id as 32 lower-case hexadecimal digits.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SessionId = Schema.String.check(
  Schema.isPattern(Id.pattern, { expected: "a session id of 32 hexadecimal digits" })
).pipe(Schema.brand("@effect-nat/core/SessionId"))

/**
 * A session id as 32 lower-case hexadecimal digits.
 *
 * @category models
 * @since 0.1.0
 */
export type SessionId = typeof SessionId.Type

/**
 * Whether a value is a session id in its canonical form, in lower case.
 *
 * @category guards
 * @since 0.1.0
 */
export const isSessionId: (u: unknown) => u is SessionId = Schema.is(SessionId)

/**
 * A new id from the `WebCrypto` reference, by default the platform's own cryptographically strong source.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<SessionId> = Effect.map(Id.random, (text) => SessionId.make(text))

/**
 * Reads 32 hexadecimal digits in either case; anything else is none.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromString = (text: string): Option.Option<SessionId> =>
  Option.liftPredicate(text.toLowerCase(), isSessionId)

/**
 * Reads exactly 16 bytes; anything else is none.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromBytes = (bytes: Uint8Array): Option.Option<SessionId> =>
  bytes.length === byteLength ? Option.liftPredicate(Id.fromBytes(bytes), isSessionId) : Option.none()

/**
 * The 16 bytes of an id, as they go over the wire.
 *
 * @category encoding
 * @since 0.1.0
 */
export const toBytes = (self: SessionId): Uint8Array => Id.toBytes(self)
