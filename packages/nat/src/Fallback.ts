/**
 * Strategies one after the other: for programs that know in which order they want to try, and for those that serve
 * their own network where there is no gateway. `Automatic` asks all at once instead.
 *
 * @since 0.1.0
 */
import type * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { whichToTell } from "./internal/whichToTell.ts"

const isWithoutGateway = ({ reason }: NatError.NatError): boolean =>
  reason._tag === "NoGateway" || reason._tag === "AutomationOff"

/**
 * Maps by the first strategy, and where no gateway answers it (`NoGateway`) or none may be asked (`AutomationOff`), by
 * the second. Everything else is left to the first: a gateway that refuses is an error, not a reason to serve fewer
 * people in silence.
 *
 * @category combinators
 * @since 0.1.0
 */
export const whenNoGateway = (
  first: PortMapper.PortMapper["Service"],
  second: PortMapper.PortMapper["Service"],
  onFallback: (error: NatError.NatError) => Effect.Effect<void>
): PortMapper.PortMapper["Service"] => ({
  ...first,
  map: (request) =>
    first
      .map(request)
      .pipe(Effect.catchIf(isWithoutGateway, (error) => Effect.andThen(onFallback(error), second.map(request))))
})

/**
 * Whether another strategy may do better than the one that failed like this: an invalid request stays invalid, and a port
 * that is taken stays taken, since the protocols of a router share its table.
 *
 * @category guards
 * @since 0.1.0
 */
export const isWorthAnotherTry = (error: NatError.NatError): boolean =>
  error.reason._tag !== "InvalidRequest" && error.reason._tag !== "Conflict"

/**
 * Each request goes to the first strategy; while it fails in a way that another may not, to the next. Nothing is asked
 * side by side: a strategy whose gateway is silent has its whole time before the next one is tried. Where all fail, the
 * error is the first one's, or that of the first that could do it at all and whose gateway was there.
 *
 * **Example** (NAT-PMP, and a port that was forwarded by hand where that fails)
 *
 * ```ts
 * import * as Manual from "@effect-nat/core/Manual"
 * import * as NodeHost from "@effect-nat/core/NodeHost"
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as NatPmp from "@effect-nat/natpmp/NatPmp"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import * as Fallback from "effect-nat/Fallback"
 *
 * export const layer = Layer.effect(
 *   PortMapper.PortMapper,
 *   Effect.gen(function* () {
 *     const natPmp = yield* PortMapper.PortMapper.pipe(Effect.provide(yield* Layer.build(NatPmp.layer)))
 *     const manual = yield* PortMapper.PortMapper.pipe(
 *       Effect.provide(yield* Layer.build(Manual.layer({ externalAddress: "11.22.33.1" })))
 *     )
 *     return Fallback.inOrder([natPmp, manual])
 *   })
 * ).pipe(Layer.provide(NodeHost.layer))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const inOrder = (
  mappers: Arr.NonEmptyReadonlyArray<PortMapper.PortMapper["Service"]>
): PortMapper.PortMapper["Service"] => {
  const [first, ...others] = mappers
  const each = <A, R>(run: (mapper: PortMapper.PortMapper["Service"]) => Effect.Effect<A, NatError.NatError, R>) =>
    others.reduce(
      (tried, next) =>
        Effect.catchIf(tried, isWorthAnotherTry, (error) =>
          Effect.mapError(run(next), (other) => whichToTell(error, other))
        ),
      run(first)
    )
  return {
    map: (request) => each((mapper) => mapper.map(request)),
    externalAddress: each((mapper) => mapper.externalAddress),
    list: others.reduce(
      (tried, next) =>
        Stream.catchIf(
          tried,
          (error) => error.reason._tag === "Unsupported",
          (error) => Stream.mapError(next.list, (other) => whichToTell(error, other))
        ),
      first.list
    ),
    remove: (key) => each((mapper) => mapper.remove(key))
  }
}
