/**
 * Both strategies of UDP port 5351, PCP and NAT-PMP, over one socket for each gateway, one ear for its announcements, and
 * one record of which internal ports are taken.
 *
 * **When to use**
 *
 * Where a program uses both, as the automatic strategy does. Whoever wants one of them takes `Pcp.layer`, which speaks
 * NAT-PMP to gateways that know nothing else, or `NatPmp.layer`.
 *
 * **Example** (Ask for both at once)
 *
 * ```ts
 * import * as PortControl from "@effect-nat/natpmp/PortControl"
 * import * as Effect from "effect/Effect"
 *
 * export const program = Effect.gen(function* () {
 *   const { natPmp, pcp } = yield* PortControl.makeStrategies()
 *   const gateway = yield* Effect.raceAll([pcp.probe, natPmp.probe])
 *   yield* Effect.log(gateway.name, gateway.method)
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import type * as Strategy from "@effect-nat/core/Strategy"
import type * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Environment from "./internal/environment.ts"
import * as NatPmp from "./NatPmp.ts"
import * as Pcp from "./Pcp.ts"

/**
 * The two strategies.
 *
 * @category models
 * @since 0.1.0
 */
export interface Strategies {
  readonly pcp: Strategy.Strategy
  readonly natPmp: Strategy.Strategy
}

/**
 * How each of them asks.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly pcp?: Pcp.Options | undefined
  readonly natPmp?: NatPmp.Options | undefined
}

/**
 * Both strategies, for as long as the scope is open. `Gateway.Selected` and `PcpClient.NonceSource` are read here, once.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeStrategies = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<Strategies, never, Udp.Udp | DefaultRoute.DefaultRoute | Scope.Scope> {
  const environment = yield* Environment.make
  return {
    pcp: yield* Pcp.makeOn(environment, options.pcp),
    natPmp: yield* NatPmp.makeOn(environment, options.natPmp)
  }
})
