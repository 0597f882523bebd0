import * as PortMapper from "@effect-nat/core/PortMapper"
import * as SimulatedRouter from "@effect-nat/testing/SimulatedRouter"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"

it.effect("leaves nothing on the router", () =>
  Effect.gen(function* () {
    yield* Effect.scoped(PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12000 })))
    assert.isEmpty(yield* SimulatedRouter.SimulatedRouter.use((router) => router.table))
  }).pipe(Effect.provide(SimulatedRouter.layer()))
)
