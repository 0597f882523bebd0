/**
 * Everything that can go wrong with a certificate.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"

/**
 * A file cannot be read.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreadable extends Schema.TaggedError<Unreadable>("@effect-nat/dispatcher/Unreadable")("Unreadable", {
  path: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `the file ${this.path} cannot be read: ${this.detail}; check its name and who may read it`
  }
}

/**
 * A file cannot be written.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unwritable extends Schema.TaggedError<Unwritable>("@effect-nat/dispatcher/Unwritable")("Unwritable", {
  path: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `the file ${this.path} cannot be written: ${this.detail}; choose another place, or make this one writable`
  }
}

/**
 * There is no certificate in PEM.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotACertificate extends Schema.TaggedError<NotACertificate>("@effect-nat/dispatcher/NotACertificate")(
  "NotACertificate",
  { detail: Schema.String }
) {
  override get message(): string {
    return `this is no certificate in PEM: ${this.detail}; it has to begin with "-----BEGIN CERTIFICATE-----"`
  }
}

/**
 * There is no private key in PEM, or it needs a passphrase.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotAKey extends Schema.TaggedError<NotAKey>("@effect-nat/dispatcher/NotAKey")("NotAKey", {
  detail: Schema.String
}) {
  override get message(): string {
    return `this is no private key in PEM: ${this.detail}; it has to begin with "-----BEGIN PRIVATE KEY-----" or the like, and to need no passphrase`
  }
}

/**
 * The private key is that of another certificate.
 *
 * @category errors
 * @since 0.1.0
 */
export class KeyMismatch extends Schema.TaggedError<KeyMismatch>("@effect-nat/dispatcher/KeyMismatch")(
  "KeyMismatch",
  {}
) {
  override get message(): string {
    return "the private key does not belong to the certificate: give the two that were made together, the host's own certificate first"
  }
}

/**
 * The certificate's time is over.
 *
 * @category errors
 * @since 0.1.0
 */
export class Expired extends Schema.TaggedError<Expired>("@effect-nat/dispatcher/Expired")("Expired", {
  notAfter: Schema.DateTimeUtc
}) {
  override get message(): string {
    return `the certificate has expired on ${DateTime.formatIso(this.notAfter)}: get a new one`
  }
}

/**
 * The certificate's time has not come.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotYetValid extends Schema.TaggedError<NotYetValid>("@effect-nat/dispatcher/NotYetValid")("NotYetValid", {
  notBefore: Schema.DateTimeUtc
}) {
  override get message(): string {
    return `the certificate is valid from ${DateTime.formatIso(this.notBefore)} on: wait for it, or set this host's clock`
  }
}

/**
 * No certificate can be made under this name.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidName extends Schema.TaggedError<InvalidName>("@effect-nat/dispatcher/InvalidName")("InvalidName", {
  name: Schema.String
}) {
  override get message(): string {
    return `a certificate's name has 1 to 64 characters, and ${JSON.stringify(this.name.slice(0, 80))} has not`
  }
}

/**
 * A certificate could not be made.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotMade extends Schema.TaggedError<NotMade>("@effect-nat/dispatcher/NotMade")("NotMade", {
  detail: Schema.String
}) {
  override get message(): string {
    return `a certificate could not be made: ${this.detail}; make one by other means and give its files`
  }
}

/**
 * Everything that can go wrong with a certificate.
 *
 * @category schemas
 * @since 0.1.0
 */
export const CertificateErrorReason = Schema.Union([
  Unreadable,
  Unwritable,
  NotACertificate,
  NotAKey,
  KeyMismatch,
  Expired,
  NotYetValid,
  InvalidName,
  NotMade
])

/**
 * Everything that can go wrong with a certificate.
 *
 * @category models
 * @since 0.1.0
 */
export type CertificateErrorReason = typeof CertificateErrorReason.Type

/**
 * The error of a certificate. Recover from single reasons with `Effect.catchReason("CertificateError", "Expired", …)`.
 *
 * @category errors
 * @since 0.1.0
 */
export class CertificateError extends Schema.TaggedError<CertificateError>("@effect-nat/dispatcher/CertificateError")(
  "CertificateError",
  { reason: CertificateErrorReason }
) {
  override get message(): string {
    return this.reason.message
  }
}

/**
 * Wraps a reason.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromReason = (reason: CertificateErrorReason): CertificateError => new CertificateError({ reason })
