/**
 * Everything that can go wrong with a session.
 *
 * @since 0.1.0
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Schema from "effect/Schema"
import * as CloseReason from "./CloseReason.ts"
import * as Facet from "./Facet.ts"
import * as Wire from "./Wire.ts"

/**
 * No connection to the dispatcher can be made. The detail names every address that was tried, and why it failed there.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>("@effect-nat/dispatcher/Unreachable")("Unreachable", {
  detail: Schema.String
}) {
  override get message(): string {
    return `the dispatcher cannot be reached: ${this.detail}`
  }
}

/**
 * The dispatcher did not answer in time.
 *
 * @category errors
 * @since 0.1.0
 */
export class TimedOut extends Schema.TaggedError<TimedOut>("@effect-nat/dispatcher/TimedOut")("TimedOut", {
  /** The time limit, in milliseconds. */
  milliseconds: Schema.Finite
}) {
  override get message(): string {
    return `the dispatcher did not answer within ${this.milliseconds} ms`
  }
}

/**
 * What answered at the address is no dispatcher, or breaks the wire's rules.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotADispatcher extends Schema.TaggedError<NotADispatcher>("@effect-nat/dispatcher/NotADispatcher")(
  "NotADispatcher",
  { detail: Schema.String }
) {
  override get message(): string {
    return `what answered is no dispatcher: ${this.detail}`
  }
}

/**
 * What answered at the address, over TLS, is not what the contact point is about: it has shown another certificate.
 * Nothing was told to it.
 *
 * @category errors
 * @since 0.1.0
 */
export class WrongCertificate extends Schema.TaggedError<WrongCertificate>("@effect-nat/dispatcher/WrongCertificate")(
  "WrongCertificate",
  {
    expected: ContactPoint.Fingerprint,
    /** `undefined` where it has shown none. */
    actual: Schema.UndefinedOr(ContactPoint.Fingerprint)
  }
) {
  override get message(): string {
    const shown = this.actual === undefined ? "no certificate" : `the certificate ${this.actual}`
    return `what answered shows ${shown} in place of ${this.expected}: it is another host, or the dispatcher has a new certificate, so ask for its contact point anew`
  }
}

/**
 * A broken connection could not be made again in time, at any of the addresses: the session was given up.
 *
 * @category errors
 * @since 0.1.0
 */
export class GivenUp extends Schema.TaggedError<GivenUp>("@effect-nat/dispatcher/GivenUp")("GivenUp", {
  /** How long it was tried, in milliseconds. */
  milliseconds: Schema.Finite,
  detail: Schema.String
}) {
  override get message(): string {
    return `the session could not be joined again within ${this.milliseconds} ms: ${this.detail}`
  }
}

/**
 * Messages were missed while the connection was broken, and nothing makes up for them: the dispatcher keeps them no
 * more, and there is no snapshot. Or, when joining, the session has a past that nobody tells.
 *
 * @category errors
 * @since 0.1.0
 */
export class Missed extends Schema.TaggedError<Missed>("@effect-nat/dispatcher/Missed")("Missed", {
  /** The number of the last message that was heard. */
  after: Schema.Int,
  /**
   * `"NotAsked"`: the session was joined without `sync`. `"Restarted"`: without `sync`, and the session has begun anew, as
   * after a restart of its dispatcher: its messages count from 1 again. `"NoServer"`: no member makes snapshots.
   * `"NoAnswer"`: none of those that do has answered. `"TooMuchWaiting"`: 64 MiB of messages came before the snapshot was
   * there.
   */
  reason: Schema.Literals(["NotAsked", "Restarted", "NoServer", "NoAnswer", "TooMuchWaiting"])
}) {
  override get message(): string {
    switch (this.reason) {
      case "NotAsked":
        return `messages after number ${this.after} were missed: join again, and with "sync" to get a snapshot`
      case "Restarted":
        return `the session has begun anew, and counts its messages from 1 again, as after a restart of its dispatcher: what was said after number ${this.after} of the old one is lost; join again, and with "sync" to go on by itself`
      case "NoServer":
        return `messages up to some number after ${this.after} were missed, and no member makes snapshots`
      case "NoAnswer":
        return `messages up to some number after ${this.after} were missed, and no member answered with a snapshot`
      case "TooMuchWaiting":
        return `messages up to some number after ${this.after} were missed, and too many came before a snapshot was there: join again when less is said`
    }
  }
}

/**
 * The invitation does not grant this.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotGranted extends Schema.TaggedError<NotGranted>("@effect-nat/dispatcher/NotGranted")("NotGranted", {
  facet: Facet.Facet
}) {
  override get message(): string {
    return `the invitation does not grant "${this.facet}": ask for one that does`
  }
}

/**
 * The dispatcher has no session with this id.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownSession extends Schema.TaggedError<UnknownSession>("@effect-nat/dispatcher/UnknownSession")(
  "UnknownSession",
  {}
) {
  override get message(): string {
    return "the dispatcher has no session with this id: check the id, and that the session still runs"
  }
}

/**
 * The dispatcher speaks other versions of the wire only.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnsupportedVersion extends Schema.TaggedError<UnsupportedVersion>(
  "@effect-nat/dispatcher/UnsupportedVersion"
)("UnsupportedVersion", {
  /** The highest version that the dispatcher speaks. */
  version: Schema.Int
}) {
  override get message(): string {
    return `the dispatcher speaks version ${this.version} of the protocol, this program version ${Wire.version}`
  }
}

/**
 * The dispatcher refused for another reason, for example because the session is full.
 *
 * @category errors
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedError<Refused>("@effect-nat/dispatcher/Refused")("Refused", {
  reason: CloseReason.CloseReason
}) {
  override get message(): string {
    return `the dispatcher refused: ${CloseReason.format(this.reason)}`
  }
}

/**
 * The dispatcher has ended the membership for good, with its reason. Of a message that was just being sent, where the
 * reason is `undefined`: the connection broke, and the others may or may not have got it.
 *
 * @category errors
 * @since 0.1.0
 */
export class Closed extends Schema.TaggedError<Closed>("@effect-nat/dispatcher/Closed")("Closed", {
  reason: Schema.UndefinedOr(CloseReason.CloseReason)
}) {
  override get message(): string {
    return this.reason === undefined
      ? "the connection to the dispatcher broke"
      : `the connection was closed: ${CloseReason.format(this.reason)}`
  }
}

/**
 * A message is larger than the dispatcher takes. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class MessageTooLarge extends Schema.TaggedError<MessageTooLarge>("@effect-nat/dispatcher/MessageTooLarge")(
  "MessageTooLarge",
  {
    /** The size of the message, in bytes. */
    size: Schema.Int,
    /** The largest message, in bytes. */
    limit: Schema.Int
  }
) {
  override get message(): string {
    return `a message of ${this.size} bytes is too large: the dispatcher takes ${this.limit}`
  }
}

/**
 * An option has a value that makes no sense. Nothing was opened.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidOption extends Schema.TaggedError<InvalidOption>("@effect-nat/dispatcher/SessionInvalidOption")(
  "InvalidOption",
  { detail: Schema.String }
) {
  override get message(): string {
    return this.detail
  }
}

/**
 * Everything that can go wrong with a session.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SessionErrorReason = Schema.Union([
  Unreachable,
  TimedOut,
  NotADispatcher,
  WrongCertificate,
  UnknownSession,
  UnsupportedVersion,
  Refused,
  Closed,
  GivenUp,
  Missed,
  NotGranted,
  MessageTooLarge,
  InvalidOption
])

/**
 * Everything that can go wrong with a session.
 *
 * @category models
 * @since 0.1.0
 */
export type SessionErrorReason = typeof SessionErrorReason.Type

/**
 * The error of a session. Recover from single reasons with `Effect.catchReason("SessionError", "Closed", …)`.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionError extends Schema.TaggedError<SessionError>("@effect-nat/dispatcher/SessionError")(
  "SessionError",
  { reason: SessionErrorReason }
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
export const fromReason = (reason: SessionErrorReason): SessionError => new SessionError({ reason })
