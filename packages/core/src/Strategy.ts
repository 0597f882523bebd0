/**
 * A strategy that can be chosen among others: besides mapping it can find out, without changing anything, whether a
 * gateway answers its protocol.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Gateway from "./Gateway.ts"
import type * as NatError from "./NatError.ts"
import type * as PortMapper from "./PortMapper.ts"

/**
 * Whether a mapping is requested to find out who is there: another strategy may be asked for the same mapping before this
 * request is answered or undone. Defaults to `false`.
 *
 * @category references
 * @since 0.1.0
 */
export const IsAttempt: Context.Reference<boolean> = Context.Reference<boolean>("@effect-nat/core/Strategy/IsAttempt", {
  defaultValue: () => false
})

/**
 * A strategy with its probe. The mapper knows what the probe has learnt, so that a mapping straight after it need not
 * look for the gateway again.
 *
 * @category models
 * @since 0.1.0
 */
export interface Strategy {
  /** The strategy's name, as in `PortMapping.method`. */
  readonly method: string
  /**
   * The gateway that the mapper would use. It fails with `NoGateway` where none answers, else with what a gateway
   * said, and bounds its own time.
   */
  readonly probe: Effect.Effect<Gateway.Gateway, NatError.NatError>
  readonly mapper: PortMapper.PortMapper["Service"]
  /**
   * Whether its first request is as good as a probe: it takes one exchange, is refused at once where nobody speaks the
   * protocol, and can be undone without touching what another protocol has mapped. Defaults to `false`.
   */
  readonly mapsAsProbe?: boolean | undefined
}
