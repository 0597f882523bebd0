// Maps one port after the other, in turn by the automatic strategy and by one protocol alone, and prints for each how long
// it took until the port was mapped and the external address known: with a layer of its own, and once more with the same
// layer, which then remembers who maps here. Everything is released again, outside of all measured time.
//
//   automatic.mjs FIRST-PORT ROUNDS upnp|pcp
//
// One line of JSON: {"alone": {"first": [ms], "again": [ms]}, "automatic": {…}}

import * as NodeHost from "@effect-nat/core/NodeHost"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Automatic from "effect-nat/Automatic"

const [, , firstPort, rounds, method] = process.argv
let port = Number(firstPort)

const mapOnce = Effect.gen(function* () {
  port += 1
  const mapper = yield* PortMapper.PortMapper
  const mapping = yield* mapper.map({ protocol: "tcp", internalPort: port, externalPort: port })
  const { externalAddress } = yield* mapping.current
  if (externalAddress === undefined) yield* mapper.externalAddress
  return performance.now()
}).pipe(Effect.scoped)

const timed = Effect.suspend(() => {
  const start = performance.now()
  return Effect.scoped(Effect.map(mapOnce, (known) => known - start))
})

/** The time of the first mapping includes that of the layer. */
const measure = (strategy) =>
  Effect.suspend(() => {
    const start = performance.now()
    const both = Effect.gen(function* () {
      const first = (yield* mapOnce) - start
      // The router is not to be busy with what the others have asked.
      yield* Effect.sleep("300 millis")
      return { first, again: yield* timed }
    })
    return Effect.provide(both, strategy.layer.pipe(Layer.provide(NodeHost.layer)))
  })

const strategies = { alone: method === "pcp" ? Pcp : Upnp, automatic: Automatic }
const results = { alone: { first: [], again: [] }, automatic: { first: [], again: [] } }

const program = Effect.gen(function* () {
  // The first round warms the code.
  for (let round = -1; round < Number(rounds); round++) {
    const names = round % 2 === 0 ? ["alone", "automatic"] : ["automatic", "alone"]
    for (const name of names) {
      const { again, first } = yield* measure(strategies[name])
      if (round < 0) continue
      results[name].first.push(first)
      results[name].again.push(again)
    }
  }
  console.log(JSON.stringify(results))
})

await Effect.runPromise(program)
