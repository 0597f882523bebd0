/**
 * A contact point: where a service can be reached, from inside and from outside, and what there is.
 *
 * It is the page's contact point or postcard, with both kinds of addresses. It always holds every address that is known:
 * which of them help depends on where the peer stands, so no function here returns one bare address.
 * `ContactPointResolver` answers per requester, and whoever joins tries them all.
 *
 * **Gotchas**
 *
 * The capabilities in a contact point are secrets: whoever has it may come in. `locked` leaves them out.
 *
 * **Example** (What goes on a postcard)
 *
 * ```ts
 * import * as ContactPoint from "@effect-nat/core/ContactPoint"
 * import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
 *
 * export const invite = (contactPoint: ContactPoint.ContactPoint): string =>
 *   ContactPointUri.format(ContactPoint.withoutControl(contactPoint))
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Capability from "./Capability.ts"
import * as Id from "./internal/id.ts"
import * as SessionId from "./SessionId.ts"

const utf8 = new TextEncoder()

const textUpTo = (bytes: number, what: string) =>
  Schema.String.check(
    Schema.makeFilter((text: string) =>
      utf8.encode(text).length <= bytes && text.isWellFormed()
        ? undefined
        : `${what} of at most ${bytes} bytes in UTF-8`
    )
  )

/**
 * What people call something: at most 255 bytes in UTF-8.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Name = textUpTo(255, "a name")

/**
 * What a session is for, such as `"scene"` or `"content"`: at most 63 bytes in UTF-8.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Role = textUpTo(63, "a role")

/**
 * How far an external address is verified:
 *
 * - `"configured"`: a person has said so;
 * - `"reported"`: a gateway has said so;
 * - `"confirmed"`: a peer from outside has come through it;
 * - `"doubtful"`: a gateway has said so, and stands behind another NAT, as far as it is known.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Verification = Schema.Literals(["configured", "reported", "confirmed", "doubtful"])

/**
 * How far an external address is verified.
 *
 * @category models
 * @since 0.1.0
 */
export type Verification = typeof Verification.Type

/**
 * An external address and how far it can be trusted.
 *
 * @category models
 * @since 0.1.0
 */
export class ExternalAddress extends Schema.Class<ExternalAddress>("@effect-nat/core/ExternalAddress")({
  address: Schema.InetAddressFromString,
  verification: Verification
}) {}

/**
 * A session that can be joined there.
 *
 * @category models
 * @since 0.1.0
 */
export class Session extends Schema.Class<Session>("@effect-nat/core/ContactPoint/Session")({
  id: SessionId.SessionId,
  /** What it is for; `""` where nobody has said. */
  role: Role.pipe(Schema.withConstructorDefault(Effect.succeed(""))),
  /** What opens it, the best first; none where it is only told that the session is there. */
  capabilities: Schema.Array(Capability.Capability).check(Schema.isMaxLength(8))
}) {}

/**
 * The 128-bit id of one running service, as 32 lower-case hexadecimal digits: it tells apart what has one address and
 * port, and knows what is the same at another.
 *
 * @category schemas
 * @since 0.1.0
 */
export const InstanceId = Schema.String.check(
  Schema.isPattern(Id.pattern, { expected: "an instance id of 32 hexadecimal digits" })
).pipe(Schema.brand("@effect-nat/core/InstanceId"))

/**
 * The id of one running service.
 *
 * @category models
 * @since 0.1.0
 */
export type InstanceId = typeof InstanceId.Type

/**
 * The SHA-256 fingerprint of a certificate: 64 lower-case hexadecimal digits.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Fingerprint = Schema.String.check(
  Schema.isPattern(/^[0-9a-f]{64}$/, { expected: "a SHA-256 fingerprint of 64 hexadecimal digits" })
).pipe(Schema.brand("@effect-nat/core/Fingerprint"))

/**
 * The SHA-256 fingerprint of a certificate.
 *
 * @category models
 * @since 0.1.0
 */
export type Fingerprint = typeof Fingerprint.Type

/**
 * The most internal addresses of a contact point.
 *
 * @category constants
 * @since 0.1.0
 */
export const mostInternal = 32

/**
 * The most external addresses of a contact point.
 *
 * @category constants
 * @since 0.1.0
 */
export const mostExternal = 16

/**
 * The most sessions of a contact point.
 *
 * @category constants
 * @since 0.1.0
 */
export const mostSessions = 64

const noSessions: ReadonlyArray<Session> = []

/**
 * A contact point. Its JSON form holds addresses as strings, IPv6 in brackets.
 *
 * @category models
 * @since 0.1.0
 */
export class ContactPoint extends Schema.Class<ContactPoint>("@effect-nat/core/ContactPoint")({
  version: Schema.Literal(1),
  name: Name,
  /** Where hosts on the same network connect to; at most 32. */
  internal: Schema.Array(Schema.InetAddressFromString).check(Schema.isMaxLength(mostInternal)),
  /** Where everyone else connects to; empty where no external address is known; at most 16. */
  external: Schema.Array(ExternalAddress).check(Schema.isMaxLength(mostExternal)),
  /** What can be joined there; at most 64. */
  sessions: Schema.Array(Session)
    .check(Schema.isMaxLength(mostSessions))
    .pipe(Schema.withConstructorDefault(Effect.succeed(noSessions))),
  /** Where one arrives: the page's teleport destination in the scene graph. */
  viewpoint: Schema.optional(Name),
  instance: Schema.optional(InstanceId),
  /** For how many seconds after it was heard it can be relied on, unless it is heard again. */
  lifetime: Schema.optional(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 0xffff_ffff }))),
  /** The certificate of what answers there over TLS. Where it is given, nothing else is connected to. */
  fingerprint: Schema.optional(Fingerprint),
  /** What opens the control of the dispatcher itself. */
  control: Schema.optional(Capability.Capability)
}) {}

type Fields = Omit<ConstructorParameters<typeof ContactPoint>[0], "version">

/**
 * What is known of a contact point.
 *
 * @category models
 * @since 0.1.0
 */
export type Known = { readonly [Name in keyof Fields]?: Fields[Name] | undefined }

/**
 * A contact point of what is known; what is `undefined` is left out.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (known: Known): ContactPoint => {
  const entries = Object.entries(known).filter(([, value]) => value !== undefined)
  return new ContactPoint({ name: "", internal: [], external: [], ...Object.fromEntries(entries), version: 1 })
}

/**
 * A new instance id.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeInstanceId: Effect.Effect<InstanceId> = Effect.map(Id.random, (text) => InstanceId.make(text))

/**
 * All addresses, the internal ones first: the order in which whoever does not know where it stands tries them.
 *
 * @category accessors
 * @since 0.1.0
 */
export const addresses = (self: ContactPoint): ReadonlyArray<NetAddress.InetAddress> => [
  ...self.internal,
  ...self.external.map((one) => one.address)
]

/**
 * The session of an id or, failing that, of a role; without a word the first one.
 *
 * @category accessors
 * @since 0.1.0
 */
export const findSession = (self: ContactPoint, idOrRole?: string): Option.Option<Session> =>
  Option.fromNullishOr(
    idOrRole === undefined
      ? self.sessions[0]
      : (self.sessions.find((one) => one.id === idOrRole.toLowerCase()) ??
          self.sessions.find((one) => one.role === idOrRole))
  )

/**
 * What people call a session: its role or, without one, its id.
 *
 * @category formatting
 * @since 0.1.0
 */
export const sessionName = ({ id, role }: Session): string => (role === "" ? id : role)

/**
 * The same without what opens the dispatcher's control: what goes to those that shall only join.
 *
 * @category combinators
 * @since 0.1.0
 */
export const withoutControl = (self: ContactPoint): ContactPoint => make({ ...self, control: undefined })

/**
 * The same without any secret: it says what is there, and opens nothing.
 *
 * @category combinators
 * @since 0.1.0
 */
export const locked = (self: ContactPoint): ContactPoint =>
  make({
    ...self,
    control: undefined,
    sessions: self.sessions.map((one) => new Session({ ...one, capabilities: [] }))
  })

/**
 * The same with other addresses, as `ContactPointResolver` chooses them for one requester.
 *
 * @category combinators
 * @since 0.1.0
 */
export const only = (self: ContactPoint, isWanted: (address: NetAddress.InetAddress) => boolean): ContactPoint =>
  new ContactPoint({
    ...self,
    internal: self.internal.filter(isWanted),
    external: self.external.filter((one) => isWanted(one.address))
  })

const formatExternal = ({ address, verification }: ExternalAddress): string =>
  verification === "doubtful"
    ? `${NetAddress.formatInet(address)} (doubtful: behind another NAT)`
    : NetAddress.formatInet(address)

/**
 * What a person wants to read, in one line; a contact point without an external address says so.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: ContactPoint): string => {
  const inside = self.internal.map(NetAddress.formatInet).join(", ")
  const outside = self.external.map(formatExternal).join(", ")
  return `internal ${inside === "" ? "none" : inside}; external ${outside === "" ? "unknown" : outside}`
}
