import { assert, it } from "@effect/vitest"
import * as Capability from "@effect-nat/core/Capability"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as Control from "../../../packages/dispatcher/src/internal/control.ts"
import { until } from "../support.ts"

it.live("a controller that has gone is not kept", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const address = NetAddress.inetAddressUnsafe(NetAddress.ipv4Loopback, 12000)
    const open = yield* Scope.provide(Control.make({ address } as never, {}), scope)
    let closed = 0
    let left = 0
    const peer = { close: () => closed++, leaveControl: () => left++ }
    const port = open({ capability: yield* Capability.make, right: "observe" }, peer as never)
    port.ended()
    yield* until(Effect.sync(() => left > 0))
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual(closed, 0)
  })
)
