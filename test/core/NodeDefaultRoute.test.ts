import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as NodeDefaultRoute from "@effect-nat/core/NodeDefaultRoute"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import { existsSync, readFileSync } from "node:fs"

const routes = DefaultRoute.DefaultRoute.use((defaultRoute) => defaultRoute.routes).pipe(
  Effect.provide(NodeDefaultRoute.layer)
)

/** Counted another way: lines of the table whose destination and mask are zeros and which name a gateway. */
const expected = (): number =>
  existsSync("/proc/net/route")
    ? readFileSync("/proc/net/route", "utf8")
        .split("\n")
        .filter((line) => /^\S+\t0{8}\t(?!0{8})\S+\t0003(?:\t\S+){3}\t0{8}\b/.test(line)).length
    : 0

describe("NodeDefaultRoute", () => {
  it.live.runIf(process.platform === "linux")("shows the default routes of this host", () =>
    Effect.gen(function* () {
      const found = yield* routes
      assert.lengthOf(
        found.filter((route) => NetAddress.isIpv4Address(route.gateway)),
        expected()
      )
      for (const route of found) {
        assert.isFalse(NetAddress.isUnspecified(route.gateway))
        assert.isNotEmpty(route.interface)
      }
    })
  )

  it.live("an interruption is no defect", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(routes, { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.isArray(yield* routes)
    })
  )
})
