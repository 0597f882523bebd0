/**
 * The control protocol of a dispatcher, spoken over `effect/rpc` on the dispatcher's own port: the page's "network
 * protocol between the island/harness/contact point and the dispatcher".
 *
 * `RemoteDispatcher` is its client. The dispatcher serves it to those that show a control capability (`grantControl`).
 * Both scenarios of the page work over it: an island asks for the address information (`contactPoint`, `watchContactPoint`)
 * and makes its contact points itself, or it registers its sessions and leaves all that to the dispatcher (`announce`).
 *
 * **Gotchas**
 *
 * The control capability itself never goes over the wire, but what is told does, and invitations and contact points open
 * sessions. Where the network is not trusted the dispatcher needs `tls`.
 *
 * @since 0.1.0
 */
import * as Capability from "@effect-nat/core/Capability"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Schema from "effect/Schema"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as DispatcherError from "./DispatcherError.ts"
import * as Facet from "./Facet.ts"
import * as Invitation from "./Invitation.ts"

/**
 * A session as the dispatcher sees it.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SessionInfo = Schema.Struct({
  id: SessionId.SessionId,
  role: ContactPoint.Role,
  members: Schema.Int
})

/**
 * What a dispatcher is, and what it is doing: the page's router information.
 *
 * @category models
 * @since 0.1.0
 */
export class RouterInfo extends Schema.Class<RouterInfo>("@effect-nat/dispatcher/RouterInfo")({
  name: Schema.String,
  instance: ContactPoint.InstanceId,
  /** The address and port that it listens on. */
  address: Schema.InetAddressFromString,
  mapping: PortMapping.PortMapping,
  connections: Schema.Int,
  sessions: Schema.Array(SessionInfo),
  messages: Schema.Int,
  bytesIn: Schema.Int,
  bytesOut: Schema.Int,
  /** The strategies that `changeStrategy` knows. */
  strategies: Schema.Array(Schema.String)
}) {}

/**
 * A contact point as it is good for whoever asked: with those addresses only that help where it stands, and the order in
 * which to try them; none where the dispatcher cannot be reached from there.
 *
 * @category models
 * @since 0.1.0
 */
export class SeenContactPoint extends Schema.Class<SeenContactPoint>("@effect-nat/dispatcher/SeenContactPoint")({
  contactPoint: ContactPoint.ContactPoint,
  addresses: Schema.Array(Schema.InetAddressFromString)
}) {}

/**
 * Which part of the dispatcher a contact point is of, and for whom.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Selection = Schema.Struct({
  sessions: Schema.optional(Schema.Array(SessionId.SessionId)),
  name: Schema.optional(ContactPoint.Name),
  viewpoint: Schema.optional(ContactPoint.Name)
})

const fails = Schema.Union([DispatcherError.DispatcherError, NatError.NatError])

/**
 * What a controller may ask for. Whoever may only observe gets `NotPermitted` for what changes something: `register`,
 * `unregister`, `announce` and `changeStrategy`, and contact points without what opens the sessions.
 *
 * A dispatcher ends the connection of whoever has more than 256 requests unanswered, streams among them, or sends one that
 * wants no answer (`discard`).
 *
 * @category schemas
 * @since 0.1.0
 */
export const Rpcs = RpcGroup.make(
  Rpc.make("info", { success: RouterInfo }),
  Rpc.make("register", {
    payload: {
      sessionId: Schema.optional(SessionId.SessionId),
      capability: Schema.optional(Capability.Capability),
      role: Schema.optional(ContactPoint.Role),
      facets: Schema.optional(Schema.Array(Facet.Facet)),
      autoStop: Schema.optional(Schema.Boolean)
    },
    success: Invitation.Invitation,
    error: fails
  }),
  Rpc.make("unregister", { payload: { sessionId: SessionId.SessionId }, success: Schema.Boolean, error: fails }),
  Rpc.make("lookup", { payload: { sessionId: SessionId.SessionId }, success: Schema.NullOr(SessionInfo) }),
  Rpc.make("list", { success: Schema.Array(SessionInfo) }),
  Rpc.make("watch", { success: Schema.Array(SessionInfo), stream: true }),
  Rpc.make("contactPoint", { payload: Selection.fields, success: SeenContactPoint, error: fails }),
  Rpc.make("watchContactPoint", { payload: Selection.fields, success: SeenContactPoint, error: fails, stream: true }),
  Rpc.make("announce", { payload: Selection.fields, success: SeenContactPoint, error: fails, stream: true }),
  Rpc.make("changeStrategy", { payload: { strategy: Schema.String }, success: PortMapping.PortMapping, error: fails })
)

/**
 * The most bytes of one message to a dispatcher. Its own may have 16 times as many, as a list of all sessions is long.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes = 65_536
