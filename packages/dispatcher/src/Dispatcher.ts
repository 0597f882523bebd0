/**
 * The session dispatcher: one TCP port for all sessions of a host.
 *
 * It listens on a fixed port, hands each connection to the message router of the session that the connection names,
 * which numbers and stamps what the members send and hands it to all of them, the sender included. It asks the strategy
 * in its environment (`PortMapper`) to map the port, and so has a contact point with the internal and the external
 * addresses.
 *
 * **Details**
 *
 * TCP and WebSocket share the port: they are told apart by their first bytes. Sessions are created from the local side
 * only, with `register`, and a session is open to those only that show a capability of it: a mapped port is never an
 * open relay. A connection that names an unknown session, has no capability, breaks the wire's rules or does not read
 * what it is sent is closed, with a reason that it can read, and no other connection notices. `DispatcherMetrics` counts
 * them, and handshakes and snapshots are spans.
 *
 * **Example** (Serve one session)
 *
 * ```ts
 * import * as ContactPoint from "@effect-nat/core/ContactPoint"
 * import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
 * import * as Invitation from "@effect-nat/dispatcher/Invitation"
 * import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
 * import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Hex from "effect/encoding/Hex"
 *
 * // What is left to provide is a strategy, such as `Lan.layer`, and `ContactPointResolver.layer`.
 * const program = Effect.gen(function* () {
 *   const dispatcher = yield* Dispatcher.Dispatcher
 *   const invitation = yield* dispatcher.register()
 *   const contactPoint = yield* dispatcher.contactPoint
 *   yield* Effect.log(`join ${Invitation.format(invitation)} at ${ContactPoint.format(contactPoint)}`)
 *   return yield* Effect.never
 * }).pipe(Effect.provide(NodeDispatcher.layer({ port: 12000 })))
 * ```
 *
 * @since 0.1.0
 */
import type * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Capability from "@effect-nat/core/Capability"
import * as CapabilityProof from "./CapabilityProof.ts"
import * as Facet from "./Facet.ts"
import * as Hub from "./internal/hub.ts"
import * as Metering from "./internal/metering.ts"
import type * as MessageRouter from "./internal/messageRouter.ts"
import * as Invitation from "./Invitation.ts"
import * as SessionId from "@effect-nat/core/SessionId"
import * as TcpListener from "./TcpListener.ts"
import * as Wire from "./Wire.ts"

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
  NoSuchSession
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
 * What a dispatcher allows its peers; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /** The largest message, in bytes, at least 128. Defaults to 1 MiB. */
  readonly maxMessageBytes: number
  /**
   * The most bytes that may wait for a member that reads too slowly, before its connection is closed; at least one
   * message with its header. Long before it gets no ticks any more. Defaults to 8 MiB.
   */
  readonly maxBacklogBytes: number
  /** The most members that a session may have. Defaults to 256. */
  readonly maxMembers: number
  /** The most sessions. Defaults to 1024. */
  readonly maxSessions: number
  /** The most connections whose handshake is not complete; also the most that are just being refused. Defaults to 256. */
  readonly maxHandshakes: number
  /** The most connections from one address; this host's own, and loopback, are not counted. Defaults to 256. */
  readonly maxConnectionsPerAddress: number
  /**
   * The most bytes of messages that each session keeps for members that come back; 0 for none. At most half of
   * `maxBacklogBytes`, for whoever comes back gets all of it at once. Defaults to 256 KiB, or that half where it is less.
   */
  readonly maxLogBytes: number
  /** The largest snapshot that is passed on, in bytes. Defaults to 64 MiB. */
  readonly maxSnapshotBytes: number
  /** How long a handshake may take. Defaults to 5 seconds. */
  readonly handshakeTimeout: Duration.Input
  /**
   * How long a member that is not read from because it is behind may take nothing at all of what waits for it, before
   * its connection is closed. Whatever it takes, 64 KiB at a time, begins the time anew. Defaults to 30 seconds.
   */
  readonly stallTimeout: Duration.Input
  /** How long a peer that is sent away may take to read the reason. Defaults to 1 second. */
  readonly closeTimeout: Duration.Input
  /** How long a member may take for a snapshot, or the next part of one, before another is asked. Defaults to 5 seconds. */
  readonly snapshotTimeout: Duration.Input
  /** The shortest interval of ticks; what asks for a shorter one gets this. Defaults to 10 milliseconds. */
  readonly minTickInterval: Duration.Input
}

/**
 * How a dispatcher listens, and how its port is mapped.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The port to listen on, 1 to 65535; 0 takes a free one. Defaults to 12000. Never another port than this one. */
  readonly port?: number | undefined
  /** The address to listen on. Defaults to all addresses of this host. */
  readonly address?: NetAddress.IpAddress | undefined
  /** The port wanted on the outside. Defaults to the internal port. */
  readonly externalPort?: number | undefined
  /** Fail with `Conflict` rather than take another external port. Defaults to `false`. */
  readonly strictExternalPort?: boolean | undefined
  /** How long the gateway keeps the mapping without a renewal. Defaults to the strategy's. */
  readonly lifetime?: Duration.Input | undefined
  /** How the mapping is called in the router's list. Defaults to the strategy's. */
  readonly description?: string | undefined
  /** The name in the contact point. Defaults to `"effect-nat"`. */
  readonly name?: string | undefined
  readonly limits?: Partial<Limits> | undefined
}

/**
 * The port of a dispatcher whose options name none.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultPort = 12000

/**
 * The limits of a dispatcher whose options name none.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultLimits: Limits = {
  maxMessageBytes: Wire.defaultMaxDataBytes,
  maxBacklogBytes: 8 * 1_048_576,
  maxMembers: 256,
  maxSessions: 1024,
  maxHandshakes: 256,
  maxConnectionsPerAddress: 256,
  maxLogBytes: 262_144,
  maxSnapshotBytes: 64 * 1_048_576,
  handshakeTimeout: Duration.seconds(5),
  stallTimeout: Duration.seconds(30),
  closeTimeout: Duration.seconds(1),
  snapshotTimeout: Duration.seconds(5),
  minTickInterval: Duration.millis(10)
}

/**
 * A session as the dispatcher sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionInfo {
  readonly id: SessionId.SessionId
  /** How many members are connected now. */
  readonly members: number
}

/**
 * How a session is created.
 *
 * @category models
 * @since 0.1.0
 */
export interface RegisterOptions {
  /** Defaults to a new random one. */
  readonly sessionId?: SessionId.SessionId | undefined
  /** The secret of the invitation, for one that outlives the program. Defaults to a new random one. */
  readonly capability?: Capability.Capability | undefined
  /** What the invitation grants. Defaults to everything. */
  readonly facets?: ReadonlyArray<Facet.Facet> | undefined
}

/**
 * The session dispatcher of one port.
 *
 * @category services
 * @since 0.1.0
 */
export class Dispatcher extends Context.Service<
  Dispatcher,
  {
    /** The address and port that it listens on. */
    readonly address: NetAddress.InetAddress
    /** The mapping of its port, by the strategy that it was given. */
    readonly mapping: PortMapper.Mapping
    /** Its contact point as it is now, with the internal and the external addresses. */
    readonly contactPoint: Effect.Effect<ContactPoint.ContactPoint>
    /** Its contact point as it is now, then again whenever its mapping changes; ends when the mapping is released. */
    readonly changes: Stream.Stream<ContactPoint.ContactPoint>
    /**
     * Creates a session, by default with a new random id, and returns an invitation to it that grants everything, or
     * the facets named. Fails with `SessionExists` and `TooManySessions`.
     */
    readonly register: (options?: RegisterOptions) => Effect.Effect<Invitation.Invitation, DispatcherError>
    /**
     * Makes one more invitation to a session, which grants everything, or the facets named. Fails with `NoSuchSession`.
     */
    readonly invite: (
      id: SessionId.SessionId,
      facets?: ReadonlyArray<Facet.Facet>
    ) => Effect.Effect<Invitation.Invitation, DispatcherError>
    /** Ends an invitation, and the connections of those that came in with it; whether there was one. */
    readonly revoke: (invitation: Invitation.Invitation) => Effect.Effect<boolean>
    /** Ends a session and tells its members so; whether there was one. */
    readonly unregister: (id: SessionId.SessionId) => Effect.Effect<boolean>
    /** One session. */
    readonly lookup: (id: SessionId.SessionId) => Effect.Effect<Option.Option<SessionInfo>>
    /** All sessions, the oldest first. */
    readonly list: Effect.Effect<ReadonlyArray<SessionInfo>>
  }
>()("@effect-nat/dispatcher/Dispatcher") {}

const fromReason = (reason: DispatcherErrorReason) => new DispatcherError({ reason })

const invalid = (detail: string) => fromReason(new InvalidOption({ detail }))

const checkWhole = Effect.fnUntraced(function* (name: string, value: number, minimum: number, maximum: number) {
  if (Number.isInteger(value) && value >= minimum && value <= maximum) return value
  return yield* invalid(`${name} must be a whole number from ${minimum} to ${maximum}, not ${value}`)
})

const checkTime = Effect.fnUntraced(function* (name: string, input: Duration.Input) {
  const time = Duration.fromInput(input)
  if (Option.isSome(time) && Duration.isFinite(time.value) && !Duration.isNegative(time.value)) return time.value
  return yield* invalid(`${name} must be a finite time, for example "5 seconds", not ${String(input)}`)
})

/** Beyond this, buffers of Node could not hold what is allowed. */
const maximumBytes = 0x7fff_0000

/** A smaller frame could not hold the router's first one. */
const minimumBytes = 128

const unlimited = Number.MAX_SAFE_INTEGER

const resolveLimits = Effect.fnUntraced(function* (given: Partial<Limits> | undefined) {
  const limits = { ...defaultLimits, ...given }
  const count = (name: keyof Limits, minimum = 1, maximum = unlimited) =>
    checkWhole(name, Number(limits[name]), minimum, maximum)
  const time = (name: keyof Limits) => checkTime(name, limits[name])
  const maxDataBytes = yield* count("maxMessageBytes", minimumBytes, maximumBytes)
  const maxBacklogBytes = yield* count("maxBacklogBytes", maxDataBytes + Wire.headerLength)
  const mostLogBytes = Math.floor(maxBacklogBytes / 2)
  const maxLogBytes = given?.maxLogBytes ?? Math.min(defaultLimits.maxLogBytes, mostLogBytes)
  return {
    maxDataBytes,
    maxBacklogBytes,
    maxMembers: yield* count("maxMembers"),
    maxSessions: yield* count("maxSessions"),
    maxHandshakes: yield* count("maxHandshakes"),
    maxConnectionsPerAddress: yield* count("maxConnectionsPerAddress"),
    maxLogBytes: yield* checkWhole("maxLogBytes", maxLogBytes, 0, mostLogBytes),
    handshakeTimeout: yield* time("handshakeTimeout"),
    stallTimeout: yield* time("stallTimeout"),
    closeTimeout: yield* time("closeTimeout"),
    minTickInterval: yield* time("minTickInterval"),
    snapshots: {
      maxBytes: yield* count("maxSnapshotBytes", 0, 0xffff_ffff),
      timeout: yield* time("snapshotTimeout")
    }
  }
})

const listenError =
  (port: number, address: NetAddress.IpAddress | undefined) =>
  (error: TcpListener.ListenError): DispatcherError => {
    switch (error.kind) {
      case "AddressInUse":
        return fromReason(new AddressInUse({ port }))
      case "PermissionDenied":
        return fromReason(new PermissionDenied({ port }))
      case "AddressNotAvailable":
        return fromReason(
          new AddressNotAvailable({ address: address === undefined ? "any address" : NetAddress.formatIp(address) })
        )
      case "Unknown":
        return fromReason(new ListenFailed({ detail: error.detail }))
    }
  }

const listen = Effect.fnUntraced(function* (
  options: Options,
  limits: Effect.Success<ReturnType<typeof resolveLimits>>
) {
  const port = yield* checkWhole("the port", options.port ?? defaultPort, 0, 65535)
  const listener = yield* TcpListener.TcpListener
  const hub = yield* Hub.make(limits, listener.atTurnEnd)
  yield* Metering.start(hub)
  const listening = yield* listener
    .listen({
      port,
      address: options.address,
      maxMessageBytes: limits.maxDataBytes + Wire.headerLength,
      onConnection: hub.onConnection,
      onAcceptError: hub.onAcceptError
    })
    .pipe(Effect.mapError(listenError(port, options.address)))
  const drain = yield* Effect.cached(Effect.andThen(listening.stopAccepting, hub.drain))
  // For the case that the mapping fails; otherwise the peers are told before the mapping goes.
  yield* Effect.addFinalizer(() => drain)
  return { hub, address: listening.address, drain }
})

/** The wildcard is no address that a gateway could forward to: the strategy finds a better one. */
const ownAddress = (options: Options): NetAddress.IpAddress | undefined =>
  options.address === undefined || NetAddress.isUnspecified(options.address) ? undefined : options.address

const mapPort = Effect.fnUntraced(function* (options: Options, port: number) {
  const mapper = yield* PortMapper.PortMapper
  return yield* mapper.map({
    protocol: "tcp",
    internalPort: port,
    externalPort: options.externalPort,
    strictExternalPort: options.strictExternalPort,
    internalAddress: ownAddress(options),
    lifetime: options.lifetime,
    description: options.description
  })
})

const infoOf = (router: MessageRouter.MessageRouter): SessionInfo => ({ id: router.id, members: router.size })

/** Makes the capability good for a session. */
const grant = Effect.fnUntraced(function* (
  router: MessageRouter.MessageRouter,
  facets: ReadonlyArray<Facet.Facet> = Facet.all,
  given?: Capability.Capability
) {
  const capability = given ?? (yield* Capability.make)
  router.grants.set(Hex.encode(CapabilityProof.name(capability)), { capability, facets: new Set(facets) })
  return new Invitation.Invitation({ sessionId: router.id, capability })
})

const makeRegister = (hub: Hub.Hub, maxSessions: number) =>
  Effect.fn("Dispatcher.register")(function* ({ capability, facets, sessionId }: RegisterOptions = {}) {
    const id = sessionId ?? (yield* SessionId.make)
    if (hub.routers.has(id)) return yield* fromReason(new SessionExists({ sessionId: id }))
    if (hub.routers.size >= maxSessions) return yield* fromReason(new TooManySessions({ limit: maxSessions }))
    return yield* grant(hub.addRouter(id), facets, capability)
  })

const makeInvite = (hub: Hub.Hub) =>
  Effect.fn("Dispatcher.invite")(function* (id: SessionId.SessionId, facets?: ReadonlyArray<Facet.Facet>) {
    const router = hub.routers.get(id)
    if (router === undefined) return yield* fromReason(new NoSuchSession({ sessionId: id }))
    return yield* grant(router, facets)
  })

const makeRevoke = (hub: Hub.Hub) =>
  Effect.fn("Dispatcher.revoke")(function* ({ capability, sessionId }: Invitation.Invitation) {
    const router = hub.routers.get(sessionId)
    const name = Hex.encode(CapabilityProof.name(capability))
    const own = router?.grants.get(name)
    if (router === undefined || own === undefined) return false
    router.grants.delete(name)
    router.revoke(own)
    return true
  })

const makeUnregister = (hub: Hub.Hub) =>
  Effect.fn("Dispatcher.unregister")(function* (id: SessionId.SessionId) {
    const router = hub.routers.get(id)
    hub.routers.delete(id)
    router?.close("SessionClosed")
    return router !== undefined
  })

const build = Effect.fnUntraced(function* (options: Options) {
  const limits = yield* resolveLimits(options.limits)
  const resolver = yield* ContactPointResolver.ContactPointResolver
  const { address, drain, hub } = yield* listen(options, limits)
  const mapping = yield* mapPort(options, address.port)
  yield* Effect.addFinalizer(() => drain)
  const name = options.name ?? "effect-nat"
  const contactPointOf = (current: Effect.Success<PortMapper.Mapping["current"]>) =>
    resolver.contactPoint({ name, port: address.port, address: options.address, mappings: [current] })
  return Dispatcher.of({
    address,
    mapping,
    contactPoint: Effect.flatMap(mapping.current, contactPointOf),
    changes: Stream.mapEffect(mapping.changes, contactPointOf),
    register: makeRegister(hub, limits.maxSessions),
    invite: makeInvite(hub),
    revoke: makeRevoke(hub),
    unregister: makeUnregister(hub),
    lookup: (id) => Effect.sync(() => Option.map(Option.fromNullishOr(hub.routers.get(id)), infoOf)),
    list: Effect.sync(() => Array.from(hub.routers.values(), infoOf))
  })
})

/**
 * Listens on the port, then has it mapped, until the scope closes: then every peer is told so, the mapping is deleted
 * and the port is free again. Fails with `DispatcherError` where it cannot listen, and with the strategy's `NatError`
 * where the port cannot be mapped; nothing is left open then.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("Dispatcher.make")(function* (
  options: Options
): Effect.fn.Return<
  Dispatcher["Service"],
  DispatcherError | NatError.NatError,
  Scope.Scope | TcpListener.TcpListener | PortMapper.PortMapper | ContactPointResolver.ContactPointResolver
> {
  const own = yield* Scope.fork(yield* Effect.scope)
  return yield* build(options).pipe(
    Scope.provide(own),
    // Whoever tries again with another strategy finds the port free.
    Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
  )
})

/**
 * A dispatcher for as long as the layer lives. Which strategy maps its port is decided by the `PortMapper` that it is
 * provided with.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options
): Layer.Layer<
  Dispatcher,
  DispatcherError | NatError.NatError,
  TcpListener.TcpListener | PortMapper.PortMapper | ContactPointResolver.ContactPointResolver
> => Layer.effect(Dispatcher, make(options))
