/**
 * What it takes to join a session, beside an address: which session, and the capability that opens it.
 *
 * As text it is the session's id and the capability with a dot between them. Hand it out like a password.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Capability from "@effect-nat/core/Capability"
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
 * Reads an invitation in its form as one word; anything else is none.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromString = (text: string): Option.Option<Invitation> => {
  const [session = "", secret = "", ...more] = text.trim().split(".")
  if (more.length > 0) return Option.none()
  return Option.map(
    Option.all([SessionId.fromString(session), Capability.fromString(secret)]),
    ([sessionId, capability]) => new Invitation({ sessionId, capability })
  )
}
