import * as Gateway from "@effect-nat/core/Gateway"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Clock from "effect/Clock"
import * as TestClock from "effect/testing/TestClock"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const request = { protocol: "tcp", internalPort: 12000, externalPort: 12000 } as const

/** Gives virtual time for as long as it takes, and tells how long that was. */
const inTime = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const before = yield* Clock.currentTimeMillis
  const fiber = yield* Effect.forkChild(effect)
  while (fiber.pollUnsafe() === undefined) {
    yield* Effect.yieldNow
    yield* TestClock.adjust("100 millis")
  }
  const value = yield* Fiber.join(fiber)
  return { value, seconds: ((yield* Clock.currentTimeMillis) - before) / 1000 }
})

const said = ({ gateway, result }: Upnp.OnGateway) =>
  Result.match(result, {
    onFailure: (error) => Effect.succeed(`${gateway.name}: ${error.reason._tag}`),
    onSuccess: (mapping) => Effect.map(mapping.current, (one) => `${gateway.name}: ${PortMapping.format(one)}`)
  })

const first = () => Router.makeRouter({ name: "First" })

const other = (number: number, options: Router.RouterOptions = {}) =>
  Router.makeRouter({
    name: `Box ${number}`,
    address: `192.168.1.${number}`,
    udn: `uuid:${number}`,
    services: [
      { serviceType: Router.wanIp1, controlUrl: "/c", externalAddress: `11.22.33.${number}`, status: "Connected" }
    ],
    ...options
  })

const refusing: Router.RouterOptions = {
  before: (call) => (call.action.startsWith("Add") ? Effect.fail(Router.fault(606)) : Effect.void)
}

/** Takes every call and never answers. */
const dead: Router.RouterOptions = { before: () => Effect.never }

describe("all gateways", () => {
  it.effect("are mapped on, the default gateway first, and released at once when the scope closes", () =>
    Effect.gen(function* () {
      const slow: Router.RouterOptions = {
        before: (call) => (call.action.startsWith("Delete") ? Effect.sleep("3 seconds") : Effect.void)
      }
      const routers = [other(8, slow), other(9, slow), Router.makeRouter({ name: "First", ...slow })]
      const network = Network.makeNetwork({ devices: routers })
      const scope = yield* Scope.make()
      const { value } = yield* inTime(Upnp.mapAll(request).pipe(Scope.provide(scope), Effect.provide(network.layer)))
      const words = yield* Effect.forEach(value, said)
      assert.strictEqual(words[0], "First: 11.22.33.1:12000/tcp")
      assert.deepStrictEqual(words.slice(1).toSorted(), ["Box 8: 11.22.33.8:12000/tcp", "Box 9: 11.22.33.9:12000/tcp"])
      const { seconds } = yield* inTime(Scope.close(scope, Exit.void))
      routers.forEach((router) => assert.deepStrictEqual(router.entries, []))
      assert.isBelow(seconds, 4)
      assert.strictEqual(network.openSockets(), 0)
    })
  )

  it.effect("are told apart: one that refuses spoils no other, and leaves nothing running", () =>
    Effect.gen(function* () {
      const routers = [first(), other(9, refusing)]
      const network = Network.makeNetwork({ devices: routers })
      const { value } = yield* inTime(
        Upnp.mapAll(request).pipe(
          Effect.flatMap((all) => Effect.forEach(all, said)),
          Effect.scoped,
          Effect.provide(network.layer)
        )
      )
      assert.deepStrictEqual(value, ["First: 11.22.33.1:12000/tcp", "Box 9: NotAuthorized"])
      routers.forEach((router) => assert.deepStrictEqual(router.entries, []))
    })
  )

  it.effect("do not wait for one that is slow and one that is dead, and the whole ends", () =>
    Effect.gen(function* () {
      const slow: Router.RouterOptions = {
        before: (call) => (call.action.startsWith("Add") ? Effect.sleep("2 seconds") : Effect.void)
      }
      const good = first()
      const network = Network.makeNetwork({ devices: [other(8, slow), other(9, dead), good] })
      const fiber = yield* Upnp.mapAll(request).pipe(
        Effect.flatMap((all) => Effect.forEach(all, said)),
        Effect.scoped,
        Effect.provide(network.layer),
        Effect.forkChild
      )
      const early = yield* inTime(
        Effect.gen(function* () {
          while (good.entries.length === 0) yield* Effect.sleep("100 millis")
        })
      )
      assert.isBelow(early.seconds, 1)
      const { seconds, value } = yield* inTime(Fiber.join(fiber))
      assert.strictEqual(value[0], "First: 11.22.33.1:12000/tcp")
      assert.deepStrictEqual(value.slice(1).toSorted(), ["Box 8: 11.22.33.8:12000/tcp", "Box 9: TimedOut"])
      assert.isBelow(seconds, 30)
    })
  )

  it.effect("get a limited time each, however many answers one gives in it", () =>
    Effect.gen(function* () {
      const endless: Router.RouterOptions = {
        before: (call) =>
          Effect.andThen(
            Effect.sleep("3 seconds"),
            call.action.startsWith("Add") ? Effect.fail(Router.fault(718)) : Effect.void
          )
      }
      const network = Network.makeNetwork({ devices: [first(), other(9, endless)] })
      const { value } = yield* inTime(
        Upnp.mapAll(request).pipe(
          Effect.flatMap((all) => Effect.forEach(all, said)),
          Effect.scoped,
          Effect.provide(network.layer)
        )
      )
      assert.deepStrictEqual(value, ["First: 11.22.33.1:12000/tcp", "Box 9: TimedOut"])
    })
  )

  it.effect("are reported by their address where they say what they are and describe nothing", () =>
    Effect.gen(function* () {
      const silent = other(9, { description: () => Effect.never })
      const network = Network.makeNetwork({ devices: [first(), silent] })
      const { value } = yield* inTime(
        Upnp.mapAll(request).pipe(
          Effect.flatMap((all) => Effect.forEach(all, said)),
          Effect.scoped,
          Effect.provide(network.layer)
        )
      )
      assert.deepStrictEqual(value, ["First: 11.22.33.1:12000/tcp", "192.168.1.9: TimedOut"])
    })
  )

  it.effect("are refused by all of them with a result for each, not with a failure", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [other(8, refusing), other(9, refusing)], gateway: undefined })
      const { value } = yield* inTime(
        Upnp.mapAll(request).pipe(
          Effect.flatMap((all) => Effect.forEach(all, said)),
          Effect.scoped,
          Effect.provide(network.layer)
        )
      )
      assert.deepStrictEqual(value.toSorted(), ["Box 8: NotAuthorized", "Box 9: NotAuthorized"])
    })
  )

  it.effect("are none where nothing answers, or where none is the one that is wanted", () =>
    Effect.gen(function* () {
      const failureOf = (devices: ReadonlyArray<Router.Router>, selected?: string) =>
        inTime(
          Upnp.mapAll(request).pipe(
            Effect.scoped,
            Effect.flip,
            Effect.provideService(Gateway.Selected, selected),
            Effect.provide(Network.makeNetwork({ devices }).layer)
          )
        ).pipe(Effect.map(({ value }) => value))
      const silent = yield* failureOf([])
      assert.strictEqual(silent.reason._tag, "NoGateway")
      assert.include(silent.message, "UPnP is often switched off")
      const other = yield* failureOf([first()], "Attic")
      assert.strictEqual(other.reason._tag, "NoGateway")
      assert.include(other.message, 'none is called "Attic"; seen: First (192.168.1.1)')
    })
  )

  it.effect("are not asked for what cannot be", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [first()] })
      const tagOf = (more: object) =>
        Upnp.mapAll({ ...request, ...more }).pipe(
          Effect.scoped,
          Effect.flip,
          Effect.map((error) => error.reason._tag),
          Effect.provide(network.layer)
        )
      assert.strictEqual(yield* tagOf({ internalPort: 0 }), "InvalidRequest")
      assert.strictEqual(yield* tagOf({ family: "ipv6" }), "Unsupported")
      assert.deepStrictEqual(network.searches, [])
    })
  )
})
