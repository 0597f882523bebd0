/**
 * One switch for all automation: where it is off, no strategy asks a gateway for anything, and no packet leaves the host.
 * The LAN and the manual strategy, which ask nobody, work as ever.
 *
 * **When to use**
 *
 * For those who administer a host or a network and do not want programs to open it by themselves.
 *
 * **Example** (Forbid it, whichever strategy a program uses)
 *
 * ```ts
 * import * as Automation from "@effect-nat/core/Automation"
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 *
 * export const forbidden = <E, R>(strategy: Layer.Layer<PortMapper.PortMapper, E, R>) =>
 *   strategy.pipe(Layer.provide(Layer.succeed(Automation.Allowed, false)))
 *
 * export const program = PortMapper.PortMapper.use((mapper) => mapper.externalAddress).pipe(
 *   Effect.catchReason("NatError", "AutomationOff", () => Effect.log("nothing was asked"))
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as NatError from "./NatError.ts"
import type * as Strategy from "./Strategy.ts"

/**
 * Whether gateways may be asked at all; by default they may. A strategy reads it once, when it is made.
 *
 * @category references
 * @since 0.1.0
 */
export const Allowed: Context.Reference<boolean> = Context.Reference<boolean>("@effect-nat/core/Automation/Allowed", {
  defaultValue: () => true
})

const off = NatError.fromReason(new NatError.AutomationOff({ detail: "" }))

/**
 * Fails with `AutomationOff` where automation is not allowed, for whatever is about to ask a gateway.
 *
 * @category guards
 * @since 0.1.0
 */
export const check: Effect.Effect<void, NatError.NatError> = Effect.flatMap(Allowed, (isAllowed) =>
  isAllowed ? Effect.void : Effect.fail(off)
)

/**
 * The stream, which fails with `AutomationOff` before it begins where automation is not allowed.
 *
 * @category combinators
 * @since 0.1.0
 */
export const guardStream = <A, E, R>(stream: Stream.Stream<A, E, R>): Stream.Stream<A, E | NatError.NatError, R> =>
  Stream.unwrap(Effect.as(check, stream))

/**
 * The strategy, or, where automation is not allowed, one of its name that fails with `AutomationOff` at once, whatever
 * it is asked.
 *
 * @category combinators
 * @since 0.1.0
 */
export const guard = (strategy: Strategy.Strategy): Effect.Effect<Strategy.Strategy> =>
  Effect.map(Allowed, (isAllowed) => {
    if (isAllowed) return strategy
    const refuse = Effect.fail(off)
    return {
      method: strategy.method,
      probe: refuse,
      mapper: { map: () => refuse, externalAddress: refuse, list: Stream.fail(off), remove: () => refuse }
    }
  })
