/**
 * What it takes to join a session, beside an address: which session, and the capability that opens it.
 *
 * As text it is the session's id and the capability with a dot between them. Hand it out like a password.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Capability from "@effect-nat/core/Capability"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as SessionId from "@effect-nat/core/SessionId"

/**
 * A session and a capability that opens it.
 *
 * @category models
 * @since 0.1.0
 */
export class Invitation extends Schema.Class<Invitation>("@effect-nat/dispatcher/Invitation")({
  sessionId: SessionId.SessionId,
  capability: Capability.Capability
}) {}

/**
 * The invitation as one word: 32 hexadecimal digits, a dot, and 32 more.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = ({ capability, sessionId }: Invitation): string => `${sessionId}.${capability}`

/**
 * A text that is no invitation. The error does not repeat it: it may be an invitation but for one character.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotAnInvitation extends Schema.TaggedError<NotAnInvitation>("@effect-nat/dispatcher/NotAnInvitation")(
  "NotAnInvitation",
  { detail: Schema.String }
) {
  override get message(): string {
    return `this is no invitation, which is 32 hexadecimal digits, a dot, and 32 more: ${this.detail}`
  }
}

const digits = 32

const whatIsWrong = (where: string, text: string): string =>
  text.length === digits
    ? `${where} the dot is something that is no hexadecimal digit`
    : `${where} the dot are ${text.length} characters`

/**
 * Reads an invitation in its form as one word, in either case and with blanks around it.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromString = (text: string): Result.Result<Invitation, NotAnInvitation> => {
  const fail = (detail: string) => Result.fail(new NotAnInvitation({ detail }))
  const [session = "", secret, ...more] = text.trim().split(".")
  if (secret === undefined) return fail("it has no dot")
  if (more.length > 0) return fail("it has more than one dot")
  const sessionId = SessionId.fromString(session)
  if (Option.isNone(sessionId)) return fail(whatIsWrong("before", session))
  const capability = Capability.fromString(secret)
  if (Option.isNone(capability)) return fail(whatIsWrong("behind", secret))
  return Result.succeed(new Invitation({ sessionId: sessionId.value, capability: capability.value }))
}

/**
 * A contact point that invites to nothing that was asked for: it names no such session, or one that is locked.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotInvited extends Schema.TaggedError<NotInvited>("@effect-nat/dispatcher/NotInvited")("NotInvited", {
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}

/**
 * The invitation that a contact point carries to a session of a role or an id, by default to its first one.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromContactPoint = (
  contactPoint: ContactPoint.ContactPoint,
  idOrRole?: string
): Result.Result<Invitation, NotInvited> => {
  const fail = (detail: string) => Result.fail(new NotInvited({ detail }))
  const { sessions } = contactPoint
  if (sessions.length === 0) return fail("this contact point names no session: ask for one that does")
  const session = Option.getOrUndefined(ContactPoint.findSession(contactPoint, idOrRole))
  if (session === undefined) {
    const names = sessions.map(ContactPoint.sessionName).join(", ")
    return fail(`this contact point names no session ${JSON.stringify(idOrRole)}: choose one of ${names}`)
  }
  const [capability] = session.capabilities
  return capability === undefined
    ? fail(
        `session ${ContactPoint.sessionName(session)} is locked: ask for an invitation, a contact point that opens it`
      )
    : Result.succeed(new Invitation({ sessionId: session.id, capability }))
}
