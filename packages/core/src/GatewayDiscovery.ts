/**
 * Which gateways can this host see, and what do they speak?
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Stream from "effect/Stream"
import type * as Gateway from "./Gateway.ts"
import type * as NatError from "./NatError.ts"

/**
 * Discovers gateways. Looking changes nothing on them.
 *
 * @category services
 * @since 0.1.0
 */
export class GatewayDiscovery extends Context.Service<
  GatewayDiscovery,
  {
    /**
     * Each gateway as it answers. The search starts when the stream is run and the stream ends when the search's own
     * time is over; no gateway at all is an empty stream, not an error. Fails with `AutomationOff` where nobody may be
     * asked.
     */
    readonly gateways: Stream.Stream<Gateway.Gateway, NatError.NatError>
  }
>()("@effect-nat/core/GatewayDiscovery") {}
