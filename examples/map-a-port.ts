import * as NodeHost from "@effect-nat/core/NodeHost"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Stream } from "effect"

const program = Effect.gen(function* () {
  const mapper = yield* PortMapper.PortMapper
  const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12001 })
  yield* mapping.changes.pipe(Stream.runForEach((m) => Effect.log(`reachable at ${PortMapping.format(m)}`)))
}).pipe(Effect.scoped)

program.pipe(
  Effect.provide(Upnp.layer.pipe(Layer.provide(NodeHost.layer))), // or Pcp.layer, NatPmp.layer, Automatic.layer, Manual.layer({…}), Lan.layer
  NodeRuntime.runMain
)
