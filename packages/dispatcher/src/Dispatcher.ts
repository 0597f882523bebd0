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
 * TCP, WebSocket and TLS share the port: they are told apart by their first bytes. Sessions are created from the local
 * side, with `register`, by those that show a control capability (`RemoteDispatcher`), or, where `autoCreate` asks for it,
 * by those that show its capability; and a session is open to those only that show a capability of it: a mapped port is
 * never an open relay. A connection that names an unknown session, has no capability, breaks the wire's rules or does not read
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
import * as Capability from "@effect-nat/core/Capability"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import type * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as DefaultConfig from "./DefaultConfig.ts"
import * as DispatcherError from "./DispatcherError.ts"
import * as Facet from "./Facet.ts"
import * as ContactPoints from "./internal/contactPoints.ts"
import * as Control from "./internal/control.ts"
import * as Door from "./internal/door.ts"
import * as HeldPort from "./internal/heldPort.ts"
import * as Hub from "./internal/hub.ts"
import * as Metering from "./internal/metering.ts"
import type * as MessageRouter from "./internal/messageRouter.ts"
import * as Times from "./internal/times.ts"
import * as Invitation from "./Invitation.ts"
import * as TcpListener from "./TcpListener.ts"
import * as Wire from "./Wire.ts"

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
  /** The most connections that control the dispatcher. Defaults to 32. */
  readonly maxControllers: number
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
   * its connection is closed; the same for a controller. Whatever it takes, 64 KiB at a time, begins the time anew.
   * Defaults to 30 seconds.
   */
  readonly stallTimeout: Duration.Input
  /** How long a peer that is sent away may take to read the reason. Defaults to 1 second. */
  readonly closeTimeout: Duration.Input
  /**
   * How long a member may take for each whole part of a snapshot, of 64 KiB, before another is asked; smaller parts share
   * that time. Defaults to 5 seconds.
   */
  readonly snapshotTimeout: Duration.Input
  /** The shortest interval of ticks; what asks for a shorter one gets this. Defaults to 10 milliseconds. */
  readonly minTickInterval: Duration.Input
}

/**
 * What a dispatcher shows over TLS, with the fingerprint that stands in its contact point. A `Certificate` is one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tls extends TcpListener.Tls {
  readonly fingerprint: ContactPoint.Fingerprint
}

/**
 * Where forwarded connections come in.
 *
 * @category models
 * @since 0.1.0
 */
export interface ForwarderOptions {
  /** 1 to 65535; 0 takes a free one. */
  readonly port: number
  /** Whoever gets to it can pass for anybody, so it defaults to loopback: 127.0.0.1. */
  readonly address?: NetAddress.IpAddress | undefined
}

/**
 * Who may have a session made by connecting, and how it is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface AutoCreateOptions {
  /**
   * What whoever connects has to show; it also opens the sessions that are made so, and stands in their contact points:
   * whoever is invited to one may have others made.
   */
  readonly capability: Capability.Capability
  /**
   * What the session with an id is to be, or none where there is not to be one. Defaults to a session that grants
   * everything. Such a session ends with its last member, unless `autoStop` says otherwise. The factory may take as long
   * as a handshake, and is interrupted then.
   */
  readonly factory?: ((id: SessionId.SessionId) => Effect.Effect<Option.Option<SessionOptions>>) | undefined
}

/**
 * Strategies by name.
 *
 * @category models
 * @since 0.1.0
 */
export type Strategies = Readonly<Record<string, Layer.Layer<PortMapper.PortMapper, NatError.NatError>>>

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
  /** Where one arrives, in the contact point: the page's teleport destination. */
  readonly viewpoint?: string | undefined
  /**
   * Takes connections over TLS too. Clients then connect so only, and accept no other certificate: its fingerprint is in
   * the contact point. Defaults to none.
   */
  readonly tls?: Tls | undefined
  /**
   * A second port, for what a tunnel, proxy or relay forwards: each connection there begins with a header of the PROXY
   * protocol, version 2, that says who the peer is. Defaults to none.
   */
  readonly forwarder?: ForwarderOptions | undefined
  /** Has sessions made by connecting. Defaults to none: then an unknown session is refused. */
  readonly autoCreate?: AutoCreateOptions | undefined
  /** The strategies that a remote controller may choose from, by name. Defaults to none. */
  readonly strategies?: Strategies | undefined
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
  maxControllers: 32,
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
  /** What it is for; `""` where nobody has said. */
  readonly role: string
  /** How many members are connected now. */
  readonly members: number
}

/**
 * What a dispatcher is doing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Status {
  /** How many connections are open, in whatever state. */
  readonly connections: number
  readonly sessions: ReadonlyArray<SessionInfo>
  /** Messages that members have sent, since the start. */
  readonly messages: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly mapping: PortMapping.PortMapping
}

/**
 * Which part of the dispatcher a contact point is of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Selection {
  /** Its sessions, in this order. Defaults to all, the oldest first. */
  readonly sessions?: ReadonlyArray<SessionId.SessionId> | undefined
  /** Defaults to the dispatcher's. */
  readonly name?: string | undefined
  /** Defaults to the dispatcher's. */
  readonly viewpoint?: string | undefined
}

/**
 * What a session is, beside its id.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionOptions {
  /** What it is for, such as `"scene"` or `"content"`: at most 63 bytes. Defaults to `""`. */
  readonly role?: string | undefined
  /** What the invitation grants. Defaults to everything. */
  readonly facets?: ReadonlyArray<Facet.Facet> | undefined
  /** Whether it ends when its last member goes. Defaults to `false`. */
  readonly autoStop?: boolean | undefined
}

/**
 * How a session is created.
 *
 * @category models
 * @since 0.1.0
 */
export interface RegisterOptions extends SessionOptions {
  /** Defaults to a new random one. */
  readonly sessionId?: SessionId.SessionId | undefined
  /** The secret of the invitation, for one that outlives the program. Defaults to a new random one. */
  readonly capability?: Capability.Capability | undefined
}

/**
 * What the holder of a control capability may do: look, without being told what opens the sessions, or everything.
 *
 * @category models
 * @since 0.1.0
 */
export type Right = Door.Right

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
    /** The id of this run of it. */
    readonly instance: ContactPoint.InstanceId
    /** Where forwarded connections come in; `undefined` without a forwarder. */
    readonly forwarder: NetAddress.InetAddress | undefined
    /** The mapping of its port, by the strategy that it has now. */
    readonly mapping: PortMapper.Mapping
    /**
     * Has the port mapped by another strategy: the mapping by the one before is released, then the port mapped anew, and
     * by the one before again where that fails; where that fails, too, the mapping is lost until the next change.
     * Sessions go on. Fails with what the strategy fails with.
     */
    readonly changeStrategy: <E>(
      strategy: Layer.Layer<PortMapper.PortMapper, E>
    ) => Effect.Effect<void, E | NatError.NatError>
    /**
     * Its contact point as it is now, with the internal and the external addresses, its sessions and what opens them.
     * Fails with `NoSuchSession`, and with `InvalidOption` for a name that is too long.
     */
    readonly contactPointOf: (
      selection: Selection
    ) => Effect.Effect<ContactPoint.ContactPoint, DispatcherError.DispatcherError>
    /** The same of all that there is. */
    readonly contactPoint: Effect.Effect<ContactPoint.ContactPoint>
    /** The contact point as it is now, then again whenever it changes, until the dispatcher ends. */
    readonly changes: Stream.Stream<ContactPoint.ContactPoint>
    /** What to tell a requester: the addresses of the contact point that help where it stands. */
    readonly addressesFor: (requester: ContactPointResolver.Requester) => Effect.Effect<ContactPointResolver.Answer>
    /**
     * Creates a session, by default with a new random id, and returns an invitation to it that grants everything, or
     * the facets named. Fails with `SessionExists` and `TooManySessions`.
     */
    readonly register: (
      options?: RegisterOptions
    ) => Effect.Effect<Invitation.Invitation, DispatcherError.DispatcherError>
    /**
     * Makes one more invitation to a session, which grants everything, or the facets named. Fails with `NoSuchSession`.
     */
    readonly invite: (
      id: SessionId.SessionId,
      facets?: ReadonlyArray<Facet.Facet>
    ) => Effect.Effect<Invitation.Invitation, DispatcherError.DispatcherError>
    /** Ends an invitation, and the connections of those that came in with it; whether there was one. */
    readonly revoke: (invitation: Invitation.Invitation) => Effect.Effect<boolean>
    /** Ends a session and tells its members so; whether there was one. */
    readonly unregister: (id: SessionId.SessionId) => Effect.Effect<boolean>
    /** One session. */
    readonly lookup: (id: SessionId.SessionId) => Effect.Effect<Option.Option<SessionInfo>>
    /** All sessions, the oldest first. */
    readonly list: Effect.Effect<ReadonlyArray<SessionInfo>>
    /** All sessions as they are now, then again whenever sessions or members come or go; who is slow sees the last state. */
    readonly watch: Stream.Stream<ReadonlyArray<SessionInfo>>
    /** What it is doing now. */
    readonly status: Effect.Effect<Status>
    /**
     * Makes a capability that lets its holder control the dispatcher from elsewhere, or makes a given one good for it. One
     * that granted another right before grants the new one from now on, and the connections that came in with it end.
     */
    readonly grantControl: (right: Right, capability?: Capability.Capability) => Effect.Effect<Capability.Capability>
    /** Ends what a control capability grants, and the connections of those that came in with it; whether there was one. */
    readonly revokeControl: (capability: Capability.Capability) => Effect.Effect<boolean>
  }
>()("@effect-nat/dispatcher/Dispatcher") {}

const { fromReason, invalidOption } = DispatcherError

const checkWhole = Effect.fnUntraced(function* (name: string, value: number, minimum: number, maximum: number) {
  if (Number.isInteger(value) && value >= minimum && value <= maximum) return value
  return yield* invalidOption(`${name} must be a whole number from ${minimum} to ${maximum}, not ${value}`)
})

const checkTime = (name: string, input: Duration.Input) =>
  Effect.mapError(Times.check(name, input, "a finite time", Times.isFinite), invalidOption)

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
    maxControllers: yield* count("maxControllers"),
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
  (error: TcpListener.ListenError): DispatcherError.DispatcherError => {
    switch (error.kind) {
      case "AddressInUse":
        return fromReason(new DispatcherError.AddressInUse({ port }))
      case "PermissionDenied":
        return fromReason(new DispatcherError.PermissionDenied({ port }))
      case "AddressNotAvailable":
        return fromReason(
          new DispatcherError.AddressNotAvailable({
            address: address === undefined ? "any address" : NetAddress.formatIp(address)
          })
        )
      case "Unknown":
        return fromReason(new DispatcherError.ListenFailed({ detail: error.detail }))
    }
  }

type ResolvedLimits = Effect.Success<ReturnType<typeof resolveLimits>>

const listenAt = Effect.fnUntraced(function* (
  hub: Hub.Hub,
  limits: ResolvedLimits,
  at: ForwarderOptions | Options,
  whose: string,
  more: { readonly tls?: Tls | undefined; readonly proxyProtocol: boolean }
) {
  const port = yield* checkWhole(whose, at.port ?? defaultPort, 0, 65535)
  const listener = yield* TcpListener.TcpListener
  return yield* listener
    .listen({
      port,
      address: at.address,
      maxMessageBytes: limits.maxDataBytes + Wire.headerLength,
      openingTimeout: limits.handshakeTimeout,
      onConnection: hub.onConnection,
      onAcceptError: hub.onAcceptError,
      ...more
    })
    .pipe(Effect.mapError(listenError(port, at.address)))
})

const listen = Effect.fnUntraced(function* (options: Options, limits: ResolvedLimits) {
  const { forwarder, tls } = options
  const { atTurnEnd } = yield* TcpListener.TcpListener
  const hub = yield* Hub.make(limits, atTurnEnd)
  yield* Metering.start(hub)
  const direct = yield* listenAt(hub, limits, options, "the port", { tls, proxyProtocol: false })
  const forwarded =
    forwarder === undefined
      ? undefined
      : yield* listenAt(
          hub,
          limits,
          { port: forwarder.port, address: forwarder.address ?? NetAddress.ipv4Loopback },
          "the forwarder's port",
          {
            tls,
            proxyProtocol: true
          }
        )
  const stopAccepting = Effect.andThen(direct.stopAccepting, forwarded?.stopAccepting ?? Effect.void)
  const drain = yield* Effect.cached(Effect.andThen(stopAccepting, hub.drain))
  // For the case that the mapping fails; otherwise the peers are told before the mapping goes.
  yield* Effect.addFinalizer(() => drain)
  return { hub, address: direct.address, forwarder: forwarded?.address, drain }
})

/** The wildcard is no address that a gateway could forward to: the strategy finds a better one. */
const ownAddress = (options: Options): NetAddress.IpAddress | undefined =>
  options.address === undefined || NetAddress.isUnspecified(options.address) ? undefined : options.address

const requestOf = (options: Options, port: number): MappingRequest.MappingRequest => ({
  protocol: "tcp",
  internalPort: port,
  externalPort: options.externalPort,
  strictExternalPort: options.strictExternalPort,
  internalAddress: ownAddress(options),
  lifetime: options.lifetime,
  description: options.description
})

const infoOf = (router: MessageRouter.MessageRouter): SessionInfo => ({
  id: router.id,
  role: router.about.role,
  members: router.size
})

/** Makes the capability good for a session. */
const grant = Effect.fnUntraced(function* (
  hub: Hub.Hub,
  router: MessageRouter.MessageRouter,
  facets: ReadonlyArray<Facet.Facet> = Facet.all,
  given?: Capability.Capability
) {
  const capability = given ?? (yield* Capability.make)
  router.grants.set(Hub.nameOf(capability), { capability, facets: new Set(facets) })
  hub.onChange()
  return new Invitation.Invitation({ sessionId: router.id, capability })
})

const isRole = Schema.is(ContactPoint.Role)
const makeRegister = (hub: Hub.Hub, maxSessions: number) =>
  Effect.fn("Dispatcher.register")(function* (options: RegisterOptions = {}) {
    const { autoStop = false, capability, facets, role = "" } = options
    if (!isRole(role)) return yield* invalidOption("a role may have at most 63 bytes in UTF-8")
    const id = options.sessionId ?? (yield* SessionId.make)
    if (id === Door.control)
      return yield* invalidOption("the session id that is all zero names the dispatcher itself: take another")
    if (hub.routers.has(id)) return yield* fromReason(new DispatcherError.SessionExists({ sessionId: id }))
    if (hub.routers.size >= maxSessions)
      return yield* fromReason(new DispatcherError.TooManySessions({ limit: maxSessions }))
    return yield* grant(hub, hub.addRouter(id, { role, autoStop }), facets, capability)
  })

const makeInvite = (hub: Hub.Hub) =>
  Effect.fn("Dispatcher.invite")(function* (id: SessionId.SessionId, facets?: ReadonlyArray<Facet.Facet>) {
    const router = hub.routers.get(id)
    if (router === undefined) return yield* fromReason(new DispatcherError.NoSuchSession({ sessionId: id }))
    return yield* grant(hub, router, facets)
  })

const makeRevoke = (hub: Hub.Hub) =>
  Effect.fn("Dispatcher.revoke")(function* ({ capability, sessionId }: Invitation.Invitation) {
    const router = hub.routers.get(sessionId)
    const name = Hub.nameOf(capability)
    const own = router?.grants.get(name)
    if (router === undefined || own === undefined) return false
    router.grants.delete(name)
    router.revoke(own)
    hub.onChange()
    return true
  })

const makeAutoCreate = (
  { capability, factory }: AutoCreateOptions,
  register: (options: RegisterOptions) => Effect.Effect<Invitation.Invitation, DispatcherError.DispatcherError>,
  timeout: Duration.Duration
): Hub.AutoCreate => {
  const make = Effect.fnUntraced(function* (sessionId: SessionId.SessionId) {
    // Whoever waits for it is sent away after that time.
    const made = yield* factory === undefined
      ? Effect.succeedSome<SessionOptions>({})
      : Effect.timeoutOrElse(factory(sessionId), { duration: timeout, orElse: () => Effect.succeedNone })
    if (Option.isNone(made)) return "UnknownSession"
    return yield* register({ ...made.value, autoStop: made.value.autoStop ?? true, sessionId, capability }).pipe(
      Effect.as(undefined),
      // Somebody else has had it made at the same time.
      Effect.catchReason("DispatcherError", "SessionExists", () => Effect.undefined)
    )
  })
  return {
    capability,
    name: Hub.nameOf(capability),
    create: (sessionId) =>
      Effect.catchCause(make(sessionId), (cause) =>
        Effect.as(Effect.logWarning("no session was made for a connection", cause), "UnknownSession" as const)
      )
  }
}

const makeGrantControl = (hub: Hub.Hub) =>
  Effect.fnUntraced(function* (right: Right, given?: Capability.Capability) {
    const capability = given ?? (yield* Capability.make)
    const name = Hub.nameOf(capability)
    const before = hub.controlGrants.get(name)
    hub.controlGrants.set(name, { capability, right })
    // Whoever came in by it may do what it granted then.
    if (before !== undefined && before.right !== right) hub.revokeControl(before)
    return capability
  })

const makeRevokeControl = (hub: Hub.Hub) => (capability: Capability.Capability) =>
  Effect.sync(() => {
    const name = Hub.nameOf(capability)
    const own = hub.controlGrants.get(name)
    if (own === undefined) return false
    hub.controlGrants.delete(name)
    hub.revokeControl(own)
    return true
  })

const build = Effect.fnUntraced(function* (options: Options) {
  const limits = yield* resolveLimits(options.limits)
  yield* ContactPoints.checkName("the name", options.name)
  yield* ContactPoints.checkName("the viewpoint", options.viewpoint)
  const mapper = yield* PortMapper.PortMapper
  const instance = yield* ContactPoint.makeInstanceId
  const { address, drain, forwarder, hub } = yield* listen(options, limits)
  const held = yield* HeldPort.make(mapper, requestOf(options, address.port))
  const { mapping } = held
  yield* Effect.addFinalizer(() => drain)
  const { versions, ...contactPoints } = yield* ContactPoints.make(options, { address, hub, instance, mapping })
  const sessions = () => Array.from(hub.routers.values(), infoOf)
  const register = makeRegister(hub, limits.maxSessions)
  if (options.autoCreate !== undefined) {
    hub.autoCreate = makeAutoCreate(options.autoCreate, register, limits.handshakeTimeout)
  }
  const dispatcher = Dispatcher.of({
    address,
    instance,
    forwarder,
    mapping,
    changeStrategy: held.change,
    ...contactPoints,
    register,
    invite: makeInvite(hub),
    revoke: makeRevoke(hub),
    unregister: Effect.fn("Dispatcher.unregister")((id: SessionId.SessionId) =>
      Effect.sync(() => hub.removeRouter(id))
    ),
    lookup: (id) => Effect.sync(() => Option.map(Option.fromNullishOr(hub.routers.get(id)), infoOf)),
    list: Effect.sync(sessions),
    watch: versions.pipe(Stream.map(sessions), Stream.changesWith(Equal.asEquivalence())),
    status: Effect.map(mapping.current, (current) => ({
      connections: hub.connections(),
      sessions: sessions(),
      messages: hub.traffic.messages,
      bytesIn: hub.traffic.bytesIn,
      bytesOut: hub.traffic.bytesOut,
      mapping: current
    })),
    grantControl: makeGrantControl(hub),
    revokeControl: makeRevokeControl(hub)
  })
  hub.openControl = yield* Control.make(dispatcher, options.strategies ?? {})
  return dispatcher
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
  DispatcherError.DispatcherError | NatError.NatError,
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
  DispatcherError.DispatcherError | NatError.NatError,
  TcpListener.TcpListener | PortMapper.PortMapper | ContactPointResolver.ContactPointResolver
> => Layer.effect(Dispatcher, make(options))

/**
 * The same with the strategy among the options; without one, by the strategy that `DefaultConfig` holds: the page's
 * `CobaltDispatcher newWithConfig:`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <E = never, R = never>(
  options: Options & { readonly strategy?: Layer.Layer<PortMapper.PortMapper, E, R> | undefined }
): Layer.Layer<
  Dispatcher,
  DispatcherError.DispatcherError | NatError.NatError | E,
  TcpListener.TcpListener | ContactPointResolver.ContactPointResolver | DefaultConfig.Host | R
> =>
  options.strategy === undefined
    ? Layer.provide(layer(options), DefaultConfig.layer)
    : Layer.provide(layer(options), options.strategy)
