// Maps many ports at once by one strategy of this library, holds them until each has been renewed, releases them, and
// prints the milliseconds that mapping and releasing took for each, and how often one was lost meanwhile.
//
//   effect-nat-many.mjs INTERNAL-ADDRESS FIRST-PORT ROUTER upnp|pcp|natpmp COUNT LEASE-SECONDS

import * as NodeHost from "@effect-nat/core/NodeHost"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

const strategies = {
  upnp: () => import("@effect-nat/upnp/Upnp"),
  pcp: () => import("@effect-nat/natpmp/Pcp"),
  natpmp: () => import("@effect-nat/natpmp/NatPmp")
}

const [, , , first, , method, count, lease] = process.argv
const strategy = await strategies[method]()

const program = Effect.gen(function* () {
  const mapper = yield* PortMapper.PortMapper
  const scope = yield* Scope.make("parallel")
  let lost = 0
  const start = performance.now()
  const mappings = yield* Effect.forEach(
    Array.from({ length: Number(count) }, (_, index) => Number(first) + index),
    (port) =>
      mapper.map({ protocol: "tcp", internalPort: port, externalPort: port, lifetime: { seconds: Number(lease) } }),
    { concurrency: "unbounded" }
  ).pipe(Scope.provide(scope))
  const mapped = performance.now()
  for (const { changes } of mappings) {
    const watched = Stream.runForEach(changes, ({ status }) =>
      Effect.sync(() => void (lost += status === "lost" ? 1 : 0))
    )
    yield* Effect.forkChild(watched)
  }
  // Renewals come after 0.45 to 0.5 of the lease, and take as long as mapping did.
  yield* Effect.sleep(Number(lease) * 700)
  const end = performance.now()
  yield* Scope.close(scope, Exit.void)
  const released = performance.now()
  const words = [(mapped - start) / Number(count), (released - end) / Number(count), lost]
  yield* Effect.callback(() => void process.stdout.write(`${words.join(" ")}\n`, () => process.exit(0)))
}).pipe(Effect.scoped, Effect.provide(strategy.layer.pipe(Layer.provide(NodeHost.layer))))

await Effect.runPromise(program)
