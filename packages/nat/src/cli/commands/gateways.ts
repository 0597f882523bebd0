/**
 * `effect-nat gateways`: what answers on this network, and by which protocol.
 */
import * as Automation from "@effect-nat/core/Automation"
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
import type * as Flags from "../Flags.ts"
import * as Output from "../Output.ts"
import * as Strategy from "../Strategy.ts"

const headings = ["Name", "Address", "Protocol", "Own address", "Model"]

/** One protocol that cannot even look is not the end of the search. */
const found = (
  layer: Layer.Layer<GatewayDiscovery.GatewayDiscovery, never, Layer.Services<typeof UpnpDiscovery.layer>>
) =>
  Stream.unwrap(
    Effect.map(Layer.build(layer), (context) => Context.get(context, GatewayDiscovery.GatewayDiscovery).gateways)
  ).pipe(Stream.catch((error) => Stream.fromEffectDrain(Effect.logWarning(error.message))))

const discoveries = { upnp: UpnpDiscovery.layer, pcp: PcpDiscovery.layer, natpmp: NatPmpDiscovery.layer }

/** What the command was called with. */
export interface Input {
  readonly strategy: Flags.SearchName
  readonly noAutomation: boolean
  readonly json: boolean
}

const search = ({ strategy }: Input) => {
  const asked = strategy === "auto" ? Object.values(discoveries) : [discoveries[strategy]]
  return Stream.runCollect(Stream.mergeAll(asked.map(found), { concurrency: "unbounded" }))
}

/** Prints every gateway that answers within the search's time. */
export const run = (input: Input) =>
  Strategy.checkAutomation(input).pipe(
    Effect.andThen(Automation.check),
    Effect.andThen(search(input)),
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
    Effect.provide([NodeHost.layer, Layer.succeed(Automation.Allowed, !input.noAutomation)])
  )
