/**
 * The PCP strategy (RFC 6887): maps ports of this host on its IPv4 default gateway, and opens pinholes in the firewall of
 * its IPv6 one.
 *
 * A mapping takes one exchange, which tells its external address as well. Where several IPv4 gateways may be meant they
 * are asked first which of them speaks PCP. A gateway that says that it speaks NAT-PMP only gets the same request in
 * NAT-PMP, at once; the mapping's method is then `"natpmp"`. An attempt (`Strategy.IsAttempt`) is `Unsupported` there, as
 * nothing tells its mapping from another strategy's. Renewal, release and everything else that concerns a lease's life is
 * core's lease engine. While something is mapped, the gateway's announcements are listened to, and the socket
 * that it was asked from stays open for what it says later of a mapping: one that has restarted, or has another address,
 * is asked for its mappings within seconds.
 *
 * **Details**
 *
 * A mapping keeps its nonce for its whole life on one gateway: nobody else can change or delete it, and neither can a program that was
 * started anew. PCP cannot list mappings and has no permanent ones (a permanent request asks for
 * `NatPmp.permanentLifetime` and is renewed), and a gateway has one mapping for each internal port. With
 * `strictExternalPort` the request says that another port is no use (PREFER_FAILURE), and one that is given all the same
 * is given back.
 *
 * For the family `"ipv6"` a pinhole is opened to this host's own global address, or to the one that `internalAddress`
 * names, through the gateway of the IPv6 default route, link-local ones included. `"both"` maps IPv4. An IPv6 gateway
 * announces itself from its link-local address: where the default route has another one, the announcement is not
 * believed, but the gateway is asked whether it has restarted.
 *
 * **Example** (Map a port over PCP)
 *
 * ```ts
 * import * as NodeHost from "@effect-nat/core/NodeHost"
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as Pcp from "@effect-nat/natpmp/Pcp"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 *
 * export const program = Effect.gen(function* () {
 *   const mapper = yield* PortMapper.PortMapper
 *   yield* mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12001 })
 *   yield* Effect.never
 * }).pipe(Effect.scoped, Effect.provide(Pcp.layer.pipe(Layer.provide(NodeHost.layer))))
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
import type * as Scope from "effect/Scope"
import * as Environment from "./internal/environment.ts"
import * as PcpGateways from "./internal/pcpGateways.ts"
import * as PcpLease from "./internal/pcpLease.ts"
import * as PcpStrategy from "./internal/pcpStrategy.ts"
import * as PcpClient from "./PcpClient.ts"

/**
 * How the strategy asks.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * How long each request to a gateway waits for its answer. Defaults to `requestTimeout`. The first one to a gateway
   * that nothing was heard of yet gets `firstTimeout` where that is shorter.
   */
  readonly requestTimeout?: Duration.Input | undefined
  /**
   * Map ports of other hosts as well, where `internalAddress` names one: sends the option THIRD_PARTY (RFC 6887 §13.1),
   * which a gateway only takes from hosts that it was told to trust with that. Defaults to `false`.
   */
  readonly thirdParty?: boolean | undefined
}

/**
 * How long it takes to find out whether a gateway speaks PCP: 4 seconds, which is time for one retransmission.
 *
 * @category defaults
 * @since 0.1.0
 */
export const probeTimeout: Duration.Duration = PcpGateways.probeTimeout

/**
 * How long the first request to a gateway of which nothing was heard waits for its answer: 10 seconds, which is time for
 * three transmissions.
 *
 * @category defaults
 * @since 0.1.0
 */
export const firstTimeout: Duration.Duration = PcpLease.firstTimeout

/**
 * How long each request to a gateway that speaks PCP waits for its answer: 24 seconds, which is time for four
 * transmissions (RFC 6887 §8.1.1 would go on for ever).
 *
 * @category defaults
 * @since 0.1.0
 */
export const requestTimeout: Duration.Duration = PcpLease.requestTimeout

/**
 * The strategy in an environment that it shares with another one; see `PortControl`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeOn = (environment: Environment.Environment, options: Options = {}): Effect.Effect<Strategy.Strategy> =>
  Effect.flatMap(PcpClient.NonceSource, (makeNonce) =>
    Automation.guard(
      PcpStrategy.make(environment, {
        makeNonce,
        timeout: Duration.fromInputUnsafe(options.requestTimeout ?? requestTimeout),
        thirdParty: options.thirdParty ?? false
      })
    )
  )

/**
 * The strategy with its probe, for as long as the scope is open. `Gateway.Selected` and `PcpClient.NonceSource` are read
 * here, once, and by no call.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeStrategy = (
  options: Options = {}
): Effect.Effect<Strategy.Strategy, never, Udp.Udp | DefaultRoute.DefaultRoute | Scope.Scope> =>
  Effect.flatMap(Environment.make, (environment) => makeOn(environment, options))

/**
 * Asks the IPv4 default gateways whether they speak PCP, all at once, and returns the first that does; changes nothing on
 * any of them. Where this host has no IPv4 default route its IPv6 gateway is asked. A gateway selected by its address is
 * asked whether or not it is a default gateway; `Gateway.Selected` is read when the probe is run.
 *
 * Takes at most `probeTimeout`. Fails with `NoGateway` when nobody answers, or `Unsupported` where a gateway speaks
 * another version, for example NAT-PMP.
 *
 * @category constructors
 * @since 0.1.0
 */
export const probe: Effect.Effect<Gateway.Gateway, NatError.NatError, Udp.Udp | DefaultRoute.DefaultRoute> =
  Automation.check.pipe(Effect.andThen(Environment.make), Effect.flatMap(PcpStrategy.makeProbe), Effect.scoped)

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
 * The strategy. A mapping has the external port and the lifetime that the gateway grants; with `strictExternalPort` it is
 * the wanted port or `Conflict`.
 *
 * A request fails with `NoGateway` where there is no gateway, `TimedOut` when it does not answer, `Unreachable` when it
 * refuses, `Unsupported` for another host's `internalAddress` (see `Options.thirdParty`), for an internal port that is
 * held already and where this host has no IPv6 of its own; else with what the gateway said (see `PcpResultCode`).
 *
 * `externalAddress` is that of a mapping that is held; where none is, it is asked for by NAT-PMP, and `Unsupported` where
 * the gateway does not speak that. `list` and `remove` always fail with `Unsupported`. `Gateway.Selected` is read when the
 * layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<PortMapper.PortMapper, never, Udp.Udp | DefaultRoute.DefaultRoute> = layerWith({})
