/**
 * The one error of every strategy, with a `reason` that a caller can act on.
 *
 * Protocol packages map their routers' error codes to these reasons in one table each; what the router itself said
 * is kept in `detail`. Every message is one line and says what to do.
 *
 * **Example** (Ask for another port when the wanted one is taken)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 *
 * const map = Effect.gen(function* () {
 *   const mapper = yield* PortMapper.PortMapper
 *   return yield* mapper
 *     .map({ protocol: "tcp", internalPort: 12000, externalPort: 80, strictExternalPort: true })
 *     .pipe(
 *       Effect.catchReason("NatError", "Conflict", () => mapper.map({ protocol: "tcp", internalPort: 12000 }))
 *     )
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

const detail = Schema.String

const maximumDetailLength = 300

/** A router's words in one line, without what a terminal would obey, and not without end. */
const oneLine = (text: string): string => {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  const line = text.replace(/[\u0000-\u0020\u007f-\u009f\u2028\u2029]+/g, " ").trim()
  return line.length > maximumDetailLength ? `${line.slice(0, maximumDetailLength)}…` : line
}

/** Adds what the router said, where it said something. */
const said = (message: string, text: string): string => {
  const line = oneLine(text)
  return line === "" ? message : `${message} (${line})`
}

/**
 * No gateway that this strategy can use answered.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoGateway extends Schema.TaggedError<NoGateway>("@effect-nat/core/NoGateway")("NoGateway", {
  detail,
  /** Where several strategies asked: what each of them said. */
  causes: Schema.optionalKey(Schema.Array(Schema.Struct({ method: Schema.String, detail })))
}) {
  override get message(): string {
    return said(
      "no gateway answered: check that this host is behind a router with UPnP, NAT-PMP or PCP switched on, or forward the port by hand and use the manual strategy",
      this.detail
    )
  }
}

/**
 * The gateway or the strategy cannot do what was asked, whatever the values.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unsupported extends Schema.TaggedError<Unsupported>("@effect-nat/core/Unsupported")("Unsupported", {
  /** What cannot be done, for example `"list port mappings over NAT-PMP"`. */
  operation: Schema.String,
  detail
}) {
  override get message(): string {
    return said(`not supported: ${oneLine(this.operation)}`, this.detail)
  }
}

/**
 * The gateway refused by its own policy, for example because port mapping is switched off or the port is reserved.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotAuthorized extends Schema.TaggedError<NotAuthorized>("@effect-nat/core/NotAuthorized")(
  "NotAuthorized",
  { detail }
) {
  override get message(): string {
    return said(
      "the gateway does not allow this: look for port mapping (UPnP, NAT-PMP) and its port rules in the router's settings, or ask for another external port",
      this.detail
    )
  }
}

/**
 * The external port is taken by another host or another mechanism of the gateway.
 *
 * @category errors
 * @since 0.1.0
 */
export class Conflict extends Schema.TaggedError<Conflict>("@effect-nat/core/Conflict")("Conflict", {
  /** The external port that is taken. */
  externalPort: Schema.Port,
  detail
}) {
  override get message(): string {
    return said(`external port ${this.externalPort} is taken on the gateway: ask for another one`, this.detail)
  }
}

/**
 * The gateway has no room for another mapping.
 *
 * @category errors
 * @since 0.1.0
 */
export class OutOfResources extends Schema.TaggedError<OutOfResources>("@effect-nat/core/OutOfResources")(
  "OutOfResources",
  { detail }
) {
  override get message(): string {
    return said(
      "the gateway cannot take another mapping now: delete mappings that are no longer needed, or check that its own line is up",
      this.detail
    )
  }
}

/**
 * The gateway takes only mappings without an end (IGD error 725, and 402 from some).
 *
 * @category errors
 * @since 0.1.0
 */
export class OnlyPermanentLeases extends Schema.TaggedError<OnlyPermanentLeases>(
  "@effect-nat/core/OnlyPermanentLeases"
)("OnlyPermanentLeases", { detail }) {
  override get message(): string {
    return said("the gateway only makes mappings without an end: ask for a lifetime of 0", this.detail)
  }
}

/**
 * The gateway did not answer in time. Whether the request took effect there is not known.
 *
 * @category errors
 * @since 0.1.0
 */
export class TimedOut extends Schema.TaggedError<TimedOut>("@effect-nat/core/TimedOut")("TimedOut", { detail }) {
  override get message(): string {
    return said("the gateway did not answer in time: try again", this.detail)
  }
}

/**
 * The gateway answered something that its protocol does not allow.
 *
 * @category errors
 * @since 0.1.0
 */
export class MalformedAnswer extends Schema.TaggedError<MalformedAnswer>("@effect-nat/core/MalformedAnswer")(
  "MalformedAnswer",
  { detail }
) {
  override get message(): string {
    return said("the gateway's answer makes no sense: another strategy may work better with it", this.detail)
  }
}

/**
 * Packets to the gateway are refused or cannot be sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>("@effect-nat/core/Unreachable")("Unreachable", {
  detail
}) {
  override get message(): string {
    return said("the gateway cannot be reached: check this host's network connection", this.detail)
  }
}

/**
 * The gateway has no external address now, or the strategy cannot know it.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoExternalAddress extends Schema.TaggedError<NoExternalAddress>("@effect-nat/core/NoExternalAddress")(
  "NoExternalAddress",
  { detail }
) {
  override get message(): string {
    return said("the external address is not known", this.detail)
  }
}

/**
 * The gateway has no such mapping.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoSuchMapping extends Schema.TaggedError<NoSuchMapping>("@effect-nat/core/NoSuchMapping")(
  "NoSuchMapping",
  { detail }
) {
  override get message(): string {
    return said("the gateway has no such mapping: list its mappings to see the ones there are", this.detail)
  }
}

/**
 * The request itself is wrong, for example a port of 0. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>("@effect-nat/core/InvalidRequest")(
  "InvalidRequest",
  { detail }
) {
  override get message(): string {
    return oneLine(this.detail)
  }
}

/**
 * Automation is forbidden (`Automation.Allowed`). Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class AutomationOff extends Schema.TaggedError<AutomationOff>("@effect-nat/core/AutomationOff")(
  "AutomationOff",
  { detail }
) {
  override get message(): string {
    return said(
      "automation is switched off, so no gateway is asked: forward the port by hand and use the manual strategy with the address that the world sees",
      this.detail
    )
  }
}

/**
 * Everything that can go wrong with a strategy.
 *
 * @category schemas
 * @since 0.1.0
 */
export const NatErrorReason = Schema.Union([
  NoGateway,
  Unsupported,
  NotAuthorized,
  Conflict,
  OutOfResources,
  OnlyPermanentLeases,
  TimedOut,
  MalformedAnswer,
  Unreachable,
  NoExternalAddress,
  NoSuchMapping,
  InvalidRequest,
  AutomationOff
])

/**
 * Everything that can go wrong with a strategy.
 *
 * @category models
 * @since 0.1.0
 */
export type NatErrorReason = typeof NatErrorReason.Type

/**
 * The error of every strategy. Recover from single reasons with `Effect.catchReason("NatError", "Conflict", …)`.
 *
 * @category errors
 * @since 0.1.0
 */
export class NatError extends Schema.TaggedError<NatError>("@effect-nat/core/NatError")("NatError", {
  reason: NatErrorReason
}) {
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
export const fromReason = (reason: NatErrorReason): NatError => new NatError({ reason })

/**
 * What the gateway or the strategy said, in few words, for lists of several outcomes.
 *
 * @category formatting
 * @since 0.1.0
 */
export const brief = ({ message, reason }: NatError): string => (reason.detail === "" ? message : reason.detail)
