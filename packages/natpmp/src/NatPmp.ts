/**
 * The NAT-PMP strategy (RFC 6886): maps ports of this host on its IPv4 default gateway.
 *
 * A mapping takes at most two exchanges: the external address, which finds the gateway and changes nothing on it, then
 * the mapping. While that address is fresh, further mappings take one exchange each. Renewal, release and everything
 * else that concerns a lease's life is core's lease engine. While something is mapped, the gateway's announcements are
 * listened to: one that has restarted, or has another address, is asked for its mappings within seconds.
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
import * as Automation from "@effect-nat/core/Automation"
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import type * as Gateway from "@effect-nat/core/Gateway"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as Strategy from "@effect-nat/core/Strategy"
import type * as Udp from "@effect-nat/core/Udp"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Environment from "./internal/environment.ts"
import * as Lifetimes from "./internal/lifetimes.ts"
import * as NatPmpLease from "./internal/natPmpLease.ts"
import * as NatPmpStrategy from "./internal/natPmpStrategy.ts"

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
export const probeTimeout: Duration.Duration = NatPmpLease.probeTimeout

/**
 * How long each request to a gateway that speaks NAT-PMP waits for its answer: 16 seconds, which is time for seven
 * transmissions (RFC 6886 §3.1 would go on for two minutes).
 *
 * @category defaults
 * @since 0.1.0
 */
export const requestTimeout: Duration.Duration = NatPmpLease.requestTimeout

/**
 * The lifetime that is asked for where a permanent mapping is wanted: 1 day. NAT-PMP has no permanent mappings
 * (RFC 6886 §3.3); the lease engine renews this one for as long as its scope is open.
 *
 * @category defaults
 * @since 0.1.0
 */
export const permanentLifetime: Duration.Duration = Lifetimes.permanent

/**
 * The strategy in an environment that it shares with another one; see `PortControl`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeOn = (environment: Environment.Environment, options: Options = {}): Effect.Effect<Strategy.Strategy> =>
  Automation.guard(NatPmpStrategy.make(environment, Duration.fromInputUnsafe(options.requestTimeout ?? requestTimeout)))

/**
 * The strategy with its probe, for as long as the scope is open. `Gateway.Selected` is read here, once, and by no call.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeStrategy = (
  options: Options = {}
): Effect.Effect<Strategy.Strategy, never, Udp.Udp | DefaultRoute.DefaultRoute | Scope.Scope> =>
  Effect.flatMap(Environment.make, (environment) => makeOn(environment, options))

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
export const probe: Effect.Effect<Probe, NatError.NatError, Udp.Udp | DefaultRoute.DefaultRoute> =
  Automation.check.pipe(Effect.andThen(Environment.make), Effect.flatMap(NatPmpStrategy.makeProbe), Effect.scoped)

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
 * A request fails with `NoGateway` when nobody answers (within `probeTimeout`, where nothing was heard before),
 * `Unsupported` for the family `"ipv6"`, for an `internalAddress` that is not this host's own, and for an internal port
 * that is held already; else with what the gateway said (see `NatPmpResultCode`). `list` and `remove` always fail with `Unsupported`. `Gateway.Selected` is read
 * when the layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<PortMapper.PortMapper, never, Udp.Udp | DefaultRoute.DefaultRoute> = layerWith({})
