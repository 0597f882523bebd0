/**
 * The NAT-PMP strategy (RFC 6886): maps ports of this host on its IPv4 default gateway.
 *
 * A mapping takes at most two exchanges: the external address, which finds the gateway and changes nothing on it, then
 * the mapping. While that address is fresh, further mappings take one exchange each. Renewal, release and everything
 * else that concerns a lease's life is core's lease engine.
 *
 * NAT-PMP maps IPv4 ports for the host that asks and for no other, cannot list mappings, has no permanent ones (a
 * permanent request asks for `permanentLifetime` and is renewed), and holds one mapping per protocol and internal port.
 * A gateway whose external address the world cannot reach (see `Ipv4Scope`) maps all the same; that is logged as a
 * warning, once for each gateway and address.
 *
 * **Example** (Map a port over NAT-PMP)
 *
 * ```ts
 * import * as NodeHost from "@effect-nat/core/NodeHost"
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as NatPmp from "@effect-nat/natpmp/NatPmp"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 *
 * export const program = Effect.gen(function* () {
 *   const mapper = yield* PortMapper.PortMapper
 *   yield* mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12001 })
 *   yield* Effect.never
 * }).pipe(Effect.scoped, Effect.provide(NatPmp.layer.pipe(Layer.provide(NodeHost.layer))))
 * ```
 *
 * @since 0.1.0
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Gateway from "@effect-nat/core/Gateway"
import * as Ipv4Scope from "@effect-nat/core/Ipv4Scope"
import * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import type * as Strategy from "@effect-nat/core/Strategy"
import * as Udp from "@effect-nat/core/Udp"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Gateways from "./internal/gateways.ts"
import * as LeaseSlots from "./internal/leaseSlots.ts"
import type * as NatPmpClient from "./NatPmpClient.ts"

/**
 * How the strategy asks.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * How long each request to a gateway waits for its answer. Defaults to `requestTimeout`. A gateway that nothing was
   * heard of yet gets `probeTimeout` where that is shorter.
   */
  readonly requestTimeout?: Duration.Input | undefined
}

/**
 * A gateway that answered a probe.
 *
 * @category models
 * @since 0.1.0
 */
export interface Probe {
  readonly gateway: Gateway.Gateway
  /** `undefined` where the gateway has none now: its line is down, or it does not say. It may still map ports. */
  readonly externalAddress: NetAddress.Ipv4Address | undefined
}

/**
 * How long it takes to find out whether a gateway speaks NAT-PMP: 2 seconds, in which it is asked eight times. So long
 * a probe waits, and the first question to a gateway before a mapping.
 *
 * @category defaults
 * @since 0.1.0
 */
export const probeTimeout: Duration.Duration = Duration.seconds(2)

/**
 * How long each request to a gateway that speaks NAT-PMP waits for its answer: 16 seconds, which is time for seven transmissions (RFC 6886
 * §3.1 would go on for two minutes).
 *
 * @category defaults
 * @since 0.1.0
 */
export const requestTimeout: Duration.Duration = Duration.seconds(16)

/**
 * The lifetime that is asked for where a permanent mapping is wanted: 1 day. NAT-PMP has no permanent mappings
 * (RFC 6886 §3.3); the lease engine renews this one for as long as its scope is open.
 *
 * @category defaults
 * @since 0.1.0
 */
export const permanentLifetime: Duration.Duration = Duration.days(1)

/** So long a request may still be on its way to the gateway after this host has given it up. */
const overtaking = Duration.seconds(1)

/** Long enough for many mappings made in one go, short beside what it takes a line to come back with a new address. */
const addressFreshness = Duration.seconds(30)

/** What another gateway gets to answer with an address before one that has none is used. */
const addresslessPatience = Duration.seconds(1)

/** What is held of a lease beside its mapping. */
interface Handle {
  readonly client: NatPmpClient.NatPmpClient
}

interface Chosen extends Handle {
  readonly externalAddress: NetAddress.Ipv4Address | undefined
}

interface Candidates {
  readonly gateways: ReadonlyArray<NetAddress.Ipv4Address>
  readonly selected: string | undefined
}

/** What the protocol and the mapper share. */
interface Environment {
  readonly clients: Gateways.Clients
  /** The gateways to use, as they are now. */
  readonly candidates: Effect.Effect<Candidates>
  /** This host's own address towards a gateway. */
  readonly localAddress: (gateway: NetAddress.Ipv4Address) => Effect.Effect<NetAddress.IpAddress, NatError.NatError>
  readonly timeout: Duration.Duration
  /** Those that answered when they were last asked for their address. */
  readonly speaking: Set<NatPmpClient.NatPmpClient>
  /** What was warned of: a gateway and its address. */
  readonly warned: Set<string>
}

const unsupported = (operation: string, detail: string) =>
  NatError.fromReason(new NatError.Unsupported({ operation, detail }))

const cannotList = unsupported(
  "list mappings over NAT-PMP",
  "the protocol cannot list: look in the router's settings, or use UPnP"
)

const cannotRemove = unsupported(
  "delete a mapping by its external port over NAT-PMP",
  "the protocol deletes by internal port, and only for the host that asks: end the program that holds the mapping, let its lease run out, or use UPnP"
)

const cannotMapIpv6 = unsupported(
  "IPv6 over NAT-PMP",
  "it maps IPv4 ports only: use PCP or UPnP for a pinhole through an IPv6 firewall"
)

const cannotMapForOthers = (own: NetAddress.IpAddress) =>
  unsupported(
    "map a port of another host over NAT-PMP",
    `it maps for the host that asks only, which is ${NetAddress.formatIp(own)} here: run this program on the other host, or use UPnP`
  )

const conflict = (request: MappingRequest.Resolved, granted: number) =>
  NatError.fromReason(
    new NatError.Conflict({
      externalPort: request.externalPort,
      detail: `the gateway offered port ${granted} in its place`
    })
  )

const leaseOf = (
  request: MappingRequest.Resolved,
  { client, externalAddress }: Handle & { readonly externalAddress: NetAddress.IpAddress | undefined },
  granted: NatPmpClient.Granted
): LeaseEngine.Lease<Handle> => ({
  mapping: new PortMapping.PortMapping({
    remoteHost: undefined,
    externalAddress,
    externalPort: granted.externalPort,
    protocol: request.protocol,
    internalPort: request.internalPort,
    internalAddress: granted.localAddress,
    enabled: true,
    description: request.description,
    lifetime: granted.lifetime,
    gateway: client.gateway,
    method: Gateways.method,
    status: "mapped"
  }),
  handle: { client }
})

/** Whether a failed mapping request has certainly left nothing on the gateway. */
const hasLeftNothing = (error: NatError.NatError): boolean =>
  error.reason._tag !== "TimedOut" && error.reason._tag !== "Unreachable" && error.reason._tag !== "MalformedAnswer"

/** Once for each gateway and address: behind another NAT a mapping works, and yet nobody outside reaches it. */
const warnOfNat = ({ warned }: Environment, gateway: NetAddress.Ipv4Address, address: NetAddress.IpAddress) =>
  Effect.suspend(() => {
    const [name, external] = [NetAddress.formatIp(gateway), NetAddress.formatIp(address)]
    const key = `${name} ${external}`
    if (Ipv4Scope.isPublic(address) || warned.has(key)) return Effect.void
    warned.add(key)
    return Effect.logWarning(
      `${name} reports the external address ${external}, which the world cannot reach: ${Ipv4Scope.whatIsBeyond(address)}`
    )
  })

/**
 * The address question to one gateway. One that answered the last time gets as long as every request; of one that did
 * not, or was never asked, it is soon known that it does not speak NAT-PMP, as most that stay silent do not.
 */
const ask = Effect.fnUntraced(function* (environment: Environment, gateway: NetAddress.Ipv4Address) {
  const { clients, speaking, timeout } = environment
  const client = yield* clients(gateway)
  const question = speaking.has(client)
    ? Gateways.ask(clients, gateway, { timeout, maxAge: addressFreshness })
    : Gateways.knock(clients, gateway, { timeout: Duration.min(timeout, probeTimeout), maxAge: addressFreshness })
  return yield* question.pipe(
    Effect.tap(() => Effect.sync(() => speaking.add(client))),
    Effect.tapError((error) =>
      Effect.sync(() => (Gateways.isSilence(error) ? speaking.delete(client) : speaking.add(client)))
    )
  )
})

/** A gateway whose line is down, or that stands behind another NAT, may still map: the mapping then has no address. */
const choose = Effect.fnUntraced(function* (
  { candidates, clients }: Environment,
  question: (gateway: NetAddress.Ipv4Address) => Effect.Effect<Chosen, NatError.NatError>
) {
  const { gateways, selected } = yield* candidates
  const patience = gateways.length > 1 ? addresslessPatience : Duration.zero
  const withoutAddress = (gateway: NetAddress.Ipv4Address) =>
    Effect.map(clients(gateway), (client): Chosen => ({ client, externalAddress: undefined }))
  return yield* Gateways.first(gateways, selected, (gateway) =>
    question(gateway).pipe(
      Effect.catchReason("NatError", "NoExternalAddress", () => Effect.delay(withoutAddress(gateway), patience))
    )
  )
})

/**
 * The address that a renewed mapping has now, or is still believed to have when the gateway does not say. It has just
 * answered: it gets as long for this question as for that one.
 */
const currentAddress = (
  client: NatPmpClient.NatPmpClient,
  timeout: Duration.Duration,
  known: NetAddress.IpAddress | undefined
) =>
  client.externalAddress({ timeout, maxAge: addressFreshness }).pipe(
    Effect.map((answer): NetAddress.IpAddress | undefined => answer.address),
    Effect.catch((error) => Effect.succeed(error.reason._tag === "NoExternalAddress" ? undefined : known))
  )

const undo = (client: NatPmpClient.NatPmpClient, request: MappingRequest.Resolved, timeout: Duration.Input) =>
  client
    .delete(request, { timeout })
    .pipe(Effect.catch((error) => Effect.logWarning(`a port that was not wanted may stay mapped: ${error.message}`)))

const makeProtocol = (environment: Environment): LeaseEngine.LeaseProtocol<Handle> => {
  const { candidates, localAddress, timeout } = environment
  /**
   * By internal end, the gateway that may hold a mapping for it: from before the request is sent until the gateway has
   * said no or has deleted it. A request can be interrupted even after its answer has come.
   */
  const mayHold = new Map<string, NatPmpClient.NatPmpClient>()

  const checkHost = Effect.fnUntraced(function* (gateway: NetAddress.Ipv4Address, wanted: NetAddress.IpAddress) {
    const own = yield* localAddress(gateway)
    if (!Equal.equals(own, wanted)) return yield* cannotMapForOthers(own)
  })

  const grant = Effect.fnUntraced(function* (client: NatPmpClient.NatPmpClient, request: MappingRequest.Resolved) {
    if (request.internalAddress !== undefined) yield* checkHost(client.gateway, request.internalAddress)
    const key = LeaseSlots.keyOf(request)
    const forget = Effect.sync(() => mayHold.delete(key))
    const lifetime = Duration.isFinite(request.lifetime) ? request.lifetime : permanentLifetime
    mayHold.set(key, client)
    const granted = yield* client
      .map({ ...request, lifetime }, { timeout })
      .pipe(Effect.tapError((error) => (hasLeftNothing(error) ? forget : Effect.void)))
    if (request.strictExternalPort && granted.externalPort !== request.externalPort) {
      yield* undo(client, request, timeout)
      yield* forget
      return yield* conflict(request, granted.externalPort)
    }
    return granted
  })

  const request = Effect.fn("NatPmp.request")(function* (resolved: MappingRequest.Resolved) {
    if (resolved.family === "ipv6") return yield* cannotMapIpv6
    const chosen = yield* choose(environment, (gateway) => ask(environment, gateway))
    if (chosen.externalAddress !== undefined) {
      yield* warnOfNat(environment, chosen.client.gateway, chosen.externalAddress)
    }
    return leaseOf(resolved, chosen, yield* grant(chosen.client, resolved))
  })

  const renew = Effect.fn("NatPmp.renew")(function* (
    { handle, mapping }: LeaseEngine.Lease<Handle>,
    resolved: MappingRequest.Resolved
  ) {
    const { client } = handle
    const { gateways } = yield* candidates
    // In another network now: the old gateway can be asked for nothing, and forgets the mapping by itself.
    if (!gateways.some((gateway) => Equal.equals(gateway, client.gateway))) return yield* request(resolved)
    const granted = yield* grant(client, resolved)
    const externalAddress = yield* currentAddress(client, timeout, mapping.externalAddress)
    if (externalAddress !== undefined) yield* warnOfNat(environment, client.gateway, externalAddress)
    return leaseOf(resolved, { client, externalAddress }, granted)
  })

  const isStale = ({ handle, mapping }: LeaseEngine.Lease<Handle>) =>
    localAddress(handle.client.gateway).pipe(
      Effect.map((own) => !Equal.equals(own, mapping.internalAddress)),
      Effect.catch(() => Effect.succeed(false))
    )

  const deleteOn = Effect.fnUntraced(function* (client: NatPmpClient.NatPmpClient, end: NatPmpClient.InternalEnd) {
    yield* client.delete(end, { timeout })
    mayHold.delete(LeaseSlots.keyOf(end))
  })

  const release = Effect.fn("NatPmp.release")(function* ({ handle, mapping }: LeaseEngine.Lease<Handle>) {
    yield* deleteOn(handle.client, mapping)
  })

  const abandon = Effect.fn("NatPmp.abandon")(function* (resolved: MappingRequest.Resolved) {
    const client = mayHold.get(LeaseSlots.keyOf(resolved))
    if (client === undefined) return
    yield* deleteOn(client, resolved)
    // Datagrams may overtake each other: the request may reach the gateway after its own undoing.
    yield* Effect.sleep(overtaking)
    yield* deleteOn(client, resolved)
  })

  return { request, renew, isStale, release, abandon }
}

const makeMapper = (environment: Environment): PortMapper.PortMapper["Service"] => {
  const protocol = makeProtocol(environment)
  const slots = LeaseSlots.make()

  const map = Effect.fn("NatPmp.map")(function* (
    request: MappingRequest.MappingRequest
  ): Effect.fn.Return<PortMapper.Mapping, NatError.NatError, Scope.Scope> {
    const { giveBack } = yield* slots.take(request)
    const mapping = yield* LeaseEngine.map(protocol, request).pipe(Effect.onError(() => giveBack))
    return { ...mapping, release: Effect.ensuring(mapping.release, giveBack) }
  })

  const externalAddress = Effect.gen(function* () {
    const { gateways, selected } = yield* environment.candidates
    const found = yield* Gateways.first(gateways, selected, (gateway) => ask(environment, gateway))
    yield* warnOfNat(environment, found.client.gateway, found.externalAddress)
    return found.externalAddress
  }).pipe(Effect.withSpan("NatPmp.externalAddress"))

  return {
    map,
    externalAddress,
    list: Stream.fail(cannotList),
    remove: () => Effect.fail(cannotRemove)
  }
}

const makeProbe = (environment: Environment) =>
  Effect.gen(function* () {
    const { client, externalAddress } = yield* choose(environment, (gateway) =>
      Gateways.knock(environment.clients, gateway, { timeout: probeTimeout })
    )
    const localAddress = yield* environment.localAddress(client.gateway)
    return { gateway: Gateways.describe(client.gateway, localAddress), externalAddress }
  }).pipe(Effect.withSpan("NatPmp.probe"))

const makeEnvironment = Effect.fnUntraced(function* (options: Options) {
  const udp = yield* Udp.Udp
  const { routes } = yield* DefaultRoute.DefaultRoute
  const selected = yield* Gateway.Selected
  const environment: Environment = {
    clients: yield* Gateways.makeClients,
    candidates: Effect.map(routes, (known) => ({ gateways: Gateways.usable(known, selected), selected })),
    localAddress: (gateway) => Gateways.localAddressTowards(gateway).pipe(Effect.provideService(Udp.Udp, udp)),
    timeout: Duration.fromInputUnsafe(options.requestTimeout ?? requestTimeout),
    speaking: new Set(),
    warned: new Set()
  }
  return environment
})

/**
 * The strategy with its probe, for as long as the scope is open. `Gateway.Selected` is read here, once, and by no call.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeStrategy = (
  options: Options = {}
): Effect.Effect<Strategy.Strategy, never, Udp.Udp | DefaultRoute.DefaultRoute | Scope.Scope> =>
  Effect.map(makeEnvironment(options), (environment) => ({
    method: Gateways.method,
    mapper: makeMapper(environment),
    probe: Effect.map(makeProbe(environment), ({ gateway }) => gateway)
  }))

/**
 * Asks the IPv4 default gateways for their external address, all at once, and returns the first that has one; changes
 * nothing on any of them. A gateway that has none is returned as well, as it would map: where there are several, when
 * no other answered within a second after it. A gateway selected by its address is asked whether or not it is a default
 * gateway; `Gateway.Selected` is read when the probe is run.
 *
 * Takes at most `probeTimeout`, and that second. Fails with `NoGateway` when nobody answers, else with what a gateway
 * said: `NotAuthorized`, `Unsupported`, `OutOfResources` or `MalformedAnswer` (RFC 6886 §3.2).
 *
 * @category constructors
 * @since 0.1.0
 */
export const probe: Effect.Effect<Probe, NatError.NatError, Udp.Udp | DefaultRoute.DefaultRoute> = makeEnvironment(
  {}
).pipe(Effect.flatMap(makeProbe), Effect.scoped)

/**
 * The strategy with options.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Options
): Layer.Layer<PortMapper.PortMapper, never, Udp.Udp | DefaultRoute.DefaultRoute> =>
  Layer.effect(
    PortMapper.PortMapper,
    Effect.map(makeStrategy(options), (strategy) => strategy.mapper)
  )

/**
 * The strategy. A mapping has the external port and the lifetime that the gateway grants; with `strictExternalPort`
 * another port is given back at once and the request fails with `Conflict`. The family `"both"` maps IPv4.
 *
 * A request fails with `NoGateway` when nobody answers (within `probeTimeout`, where nothing was heard before), `Unsupported` for the family `"ipv6"`, for an
 * `internalAddress` that is not this host's own, and for an internal port that is held already; else with what the
 * gateway said (see `NatPmpResultCode`). `list` and `remove` always fail with `Unsupported`. `Gateway.Selected` is read
 * when the layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<PortMapper.PortMapper, never, Udp.Udp | DefaultRoute.DefaultRoute> = layerWith({})
