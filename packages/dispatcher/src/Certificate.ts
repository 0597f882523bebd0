/**
 * A certificate for TLS, with its private key and what others know it by.
 *
 * `NodeCertificate` reads them and makes self-signed ones.
 *
 * @since 0.1.0
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import type * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"

/**
 * A certificate with its private key.
 *
 * @category models
 * @since 0.1.0
 */
export class Certificate extends Schema.Class<Certificate>("@effect-nat/dispatcher/Certificate")({
  /** The certificate, and after it those that lead to its authority, in PEM. */
  certificate: Schema.String,
  /** Its private key, in PEM. */
  key: Schema.Redacted(Schema.String, { disallowJsonEncode: true }),
  /** What a contact point knows it by. */
  fingerprint: ContactPoint.Fingerprint,
  notBefore: Schema.DateTimeUtc,
  /** When it ends. Who knows it by its fingerprint takes it still; browsers do not. */
  notAfter: Schema.DateTimeUtc
}) {}

/**
 * Whether it is valid at a time.
 *
 * @category guards
 * @since 0.1.0
 */
export const isValidAt = ({ notAfter, notBefore }: Certificate, time: DateTime.DateTime): boolean =>
  time.epochMilliseconds >= notBefore.epochMilliseconds && time.epochMilliseconds <= notAfter.epochMilliseconds
