/**
 * The LAN strategy: nothing is mapped and nothing is sent; a service is reachable on this host's own network.
 *
 * It is the page's `TLanOnlyRouterConfig`, and what applies where no other strategy is chosen.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type * as DefaultRoute from "./DefaultRoute.ts"
import { makeMapper, unsupported } from "./internal/withoutGateway.ts"
import * as NatError from "./NatError.ts"
import type * as NetworkInterfaces from "./NetworkInterfaces.ts"
import * as PortMapper from "./PortMapper.ts"
import type * as Udp from "./Udp.ts"

/**
 * The strategy. Its mappings have an internal address only, `externalAddress` fails with `NoExternalAddress`, and
 * `list` and `remove` with `Unsupported`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  PortMapper.PortMapper,
  never,
  Udp.Udp | DefaultRoute.DefaultRoute | NetworkInterfaces.NetworkInterfaces
> = Layer.effect(
  PortMapper.PortMapper,
  makeMapper(
    { method: "lan", externalAddress: undefined, externalPort: () => undefined },
    {
      externalAddress: Effect.fail(
        NatError.fromReason(new NatError.NoExternalAddress({ detail: "the LAN strategy asks no gateway" }))
      ),
      list: Stream.fail(unsupported("list mappings with the lan strategy", "it talks to no gateway"))
    }
  )
)
