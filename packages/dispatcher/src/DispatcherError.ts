/**
 * What goes wrong with a dispatcher itself. What goes wrong with a session, for a member, is a `SessionError`.
 *
 * @since 0.1.0
 */
import * as SessionId from "@effect-nat/core/SessionId"
import * as Schema from "effect/Schema"

/**
 * The port is taken by another program, or another dispatcher, on this host.
 *
 * @category errors
 * @since 0.1.0
 */
export class AddressInUse extends Schema.TaggedError<AddressInUse>("@effect-nat/dispatcher/AddressInUse")(
  "AddressInUse",
  { port: Schema.Int }
) {
  override get message(): string {
    return `port ${this.port} is in use on this host: end the program that listens there, or choose another port`
  }
}

/**
 * The operating system does not let this program listen on the port.
 *
 * @category errors
 * @since 0.1.0
 */
export class PermissionDenied extends Schema.TaggedError<PermissionDenied>("@effect-nat/dispatcher/PermissionDenied")(
  "PermissionDenied",
  { port: Schema.Int }
) {
  override get message(): string {
    return `this program may not listen on port ${this.port}: choose a port above 1023, or give it the right to`
  }
}

/**
 * The address to listen on is not one of this host's.
 *
 * @category errors
 * @since 0.1.0
 */
export class AddressNotAvailable extends Schema.TaggedError<AddressNotAvailable>(
  "@effect-nat/dispatcher/AddressNotAvailable"
)("AddressNotAvailable", { address: Schema.String }) {
  override get message(): string {
    return `${this.address} is not an address of this host: leave it out to listen on all addresses`
  }
}

/**
 * The operating system refused to listen for a reason of its own.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenFailed extends Schema.TaggedError<ListenFailed>("@effect-nat/dispatcher/ListenFailed")(
  "ListenFailed",
  { detail: Schema.String }
) {
  override get message(): string {
    return `cannot listen: ${this.detail}`
  }
}

/**
 * An option has a value that makes no sense. Nothing was opened.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidOption extends Schema.TaggedError<InvalidOption>("@effect-nat/dispatcher/InvalidOption")(
  "InvalidOption",
  { detail: Schema.String }
) {
  override get message(): string {
    return this.detail
  }
}

/**
 * The session to register exists already.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionExists extends Schema.TaggedError<SessionExists>("@effect-nat/dispatcher/SessionExists")(
  "SessionExists",
  { sessionId: SessionId.SessionId }
) {
  override get message(): string {
    return `session ${this.sessionId} is registered already`
  }
}

/**
 * The dispatcher has as many sessions as it may have.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManySessions extends Schema.TaggedError<TooManySessions>("@effect-nat/dispatcher/TooManySessions")(
  "TooManySessions",
  { limit: Schema.Int }
) {
  override get message(): string {
    return `the dispatcher has ${this.limit} sessions already, which is its limit`
  }
}

/**
 * There is no such session here.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoSuchSession extends Schema.TaggedError<NoSuchSession>("@effect-nat/dispatcher/NoSuchSession")(
  "NoSuchSession",
  { sessionId: SessionId.SessionId }
) {
  override get message(): string {
    return `session ${this.sessionId} is not registered`
  }
}

/**
 * The control capability of a remote caller lets it look, and not change anything.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotPermitted extends Schema.TaggedError<NotPermitted>("@effect-nat/dispatcher/NotPermitted")(
  "NotPermitted",
  {}
) {
  override get message(): string {
    return "the control capability may only look: ask for one that may manage the dispatcher"
  }
}

/**
 * The dispatcher knows no strategy of that name.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownStrategy extends Schema.TaggedError<UnknownStrategy>("@effect-nat/dispatcher/UnknownStrategy")(
  "UnknownStrategy",
  { name: Schema.String, known: Schema.Array(Schema.String) }
) {
  override get message(): string {
    const known =
      this.known.length === 0 ? "it was started without any to choose from" : `it knows ${this.known.join(", ")}`
    return `the dispatcher knows no strategy ${JSON.stringify(this.name)}: ${known}`
  }
}

/**
 * Everything that can go wrong with a dispatcher itself.
 *
 * @category schemas
 * @since 0.1.0
 */
export const DispatcherErrorReason = Schema.Union([
  AddressInUse,
  PermissionDenied,
  AddressNotAvailable,
  ListenFailed,
  InvalidOption,
  SessionExists,
  TooManySessions,
  NoSuchSession,
  NotPermitted,
  UnknownStrategy
])

/**
 * Everything that can go wrong with a dispatcher itself.
 *
 * @category models
 * @since 0.1.0
 */
export type DispatcherErrorReason = typeof DispatcherErrorReason.Type

/**
 * The error of a dispatcher. Recover from single reasons with `Effect.catchReason("DispatcherError", …)`.
 *
 * @category errors
 * @since 0.1.0
 */
export class DispatcherError extends Schema.TaggedError<DispatcherError>("@effect-nat/dispatcher/DispatcherError")(
  "DispatcherError",
  { reason: DispatcherErrorReason }
) {
  override get message(): string {
    return this.reason.message
  }
}

/**
 * The error of a reason.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromReason = (reason: DispatcherErrorReason): DispatcherError => new DispatcherError({ reason })

/**
 * The error of an option that makes no sense.
 *
 * @category constructors
 * @since 0.1.0
 */
export const invalidOption = (detail: string): DispatcherError => fromReason(new InvalidOption({ detail }))
