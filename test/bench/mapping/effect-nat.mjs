// Maps one port by a strategy of this library, as it was built, and prints how long that took in this process, in
// milliseconds, the external address, and the external port. The mapping stays: the benchmark removes it.
//
//   effect-nat.mjs INTERNAL-ADDRESS PORT ROUTER upnp|pcp|natpmp

import * as NodeHost from "@effect-nat/core/NodeHost"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"

const strategies = {
  upnp: () => import("@effect-nat/upnp/Upnp"),
  pcp: () => import("@effect-nat/natpmp/Pcp"),
  natpmp: () => import("@effect-nat/natpmp/NatPmp")
}

const [, , , wanted, , method] = process.argv
const strategy = await strategies[method]()

const start = performance.now()

const port = Number(wanted)

const program = Effect.gen(function* () {
  const mapper = yield* PortMapper.PortMapper
  const { current } = yield* mapper.map({ protocol: "tcp", internalPort: port, externalPort: port })
  const mapping = yield* current
  const address = mapping.externalAddress ?? (yield* mapper.externalAddress)
  const known = performance.now()
  const words = [known - start, NetAddress.formatIp(address), mapping.externalPort]
  yield* Effect.callback(() => void process.stdout.write(`${words.join(" ")}\n`, () => process.exit(0)))
}).pipe(Effect.scoped, Effect.provide(strategy.layer.pipe(Layer.provide(NodeHost.layer))))

await Effect.runPromise(program)
