/**
 * `effect-nat gateways`: what answers on this network, and by which protocol.
 */
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as NatPmpDiscovery from "@effect-nat/natpmp/NatPmpDiscovery"
import * as PcpDiscovery from "@effect-nat/natpmp/PcpDiscovery"
import * as UpnpDiscovery from "@effect-nat/upnp/UpnpDiscovery"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Output from "../Output.ts"

const headings = ["Name", "Address", "Protocol", "Own address", "Model"]

/** One protocol that cannot even look is not the end of the search. */
const found = (
  layer: Layer.Layer<GatewayDiscovery.GatewayDiscovery, never, Layer.Services<typeof UpnpDiscovery.layer>>
) =>
  Stream.unwrap(
    Effect.map(Layer.build(layer), (context) => Context.get(context, GatewayDiscovery.GatewayDiscovery).gateways)
  ).pipe(Stream.catch((error) => Stream.fromEffectDrain(Effect.logWarning(error.message))))

/** Prints every gateway that answers within the search's time. */
export const run = (input: { readonly json: boolean }) =>
  Stream.runCollect(
    Stream.mergeAll([UpnpDiscovery.layer, PcpDiscovery.layer, NatPmpDiscovery.layer].map(found), {
      concurrency: "unbounded"
    })
  ).pipe(
    Effect.flatMap((gateways) => {
      const rows = gateways.map(Output.gateway)
      if (input.json) return Output.json(rows)
      if (rows.length === 0) return Console.log("no gateways")
      return Console.log(
        Output.table(
          headings,
          rows.map((row) => [row.name, row.address, row.method, row.localAddress, row.model ?? "-"])
        )
      )
    }),
    Effect.scoped,
    Effect.provide(NodeHost.layer)
  )
