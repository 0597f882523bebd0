/**
 * A strategy for programs that serve their own network where there is no gateway.
 *
 * @since 0.1.0
 */
import type * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as Effect from "effect/Effect"

/**
 * Maps by the first strategy, and where no gateway answers it (`NoGateway`), by the second. Everything else is left
 * to the first: a gateway that refuses is an error, not a reason to serve fewer people in silence.
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
      .pipe(
        Effect.catchReason("NatError", "NoGateway", (_reason, error) =>
          Effect.andThen(onFallback(error), second.map(request))
        )
      )
})
