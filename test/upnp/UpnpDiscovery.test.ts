import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import * as UpnpDiscovery from "@effect-nat/upnp/UpnpDiscovery"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const settle = Effect.forEach(Array.from({ length: 80 }), () => Effect.yieldNow, { discard: true })

const pass = (time: Parameters<typeof TestClock.adjust>[0]) =>
  settle.pipe(Effect.andThen(TestClock.adjust(time)), Effect.andThen(settle))

/** Runs a stream and shows what has come of it so far. */
const collecting = <A, E>(stream: Stream.Stream<A, E, UpnpDiscovery.Network>, network: Network.Network) =>
  Effect.gen(function* () {
    const all: Array<A> = []
    const fiber = yield* stream.pipe(
      Stream.runForEach((one) => Effect.sync(() => all.push(one))),
      Effect.provide(network.layer),
      Effect.forkChild
    )
    yield* settle
    return { all, fiber }
  })

const second = (options: Router.RouterOptions = {}) =>
  Router.makeRouter({ address: "192.168.1.7", udn: "uuid:7", ...options })

const describedAs = (result: Result.Result<{ readonly gateway: { readonly address: NetAddress.IpAddress } }, Error>) =>
  Result.match(result, {
    onSuccess: ({ gateway }) => NetAddress.formatIp(gateway.address),
    onFailure: (error) => error.message
  })

describe("described", () => {
  it.effect("has each description as soon as it is there: a slow one delays no other", () =>
    Effect.gen(function* () {
      const slow = second({ description: () => Effect.delay(Effect.succeed(Network.respond(404, "")), "3900 millis") })
      const network = Network.makeNetwork({ devices: [slow, Router.makeRouter({ answersAfter: "200 millis" })] })
      const { all, fiber } = yield* collecting(UpnpDiscovery.described, network)
      assert.deepStrictEqual(all, [])
      yield* pass("200 millis")
      assert.deepStrictEqual(all.map(describedAs), ["192.168.1.1"])
      yield* pass("10 seconds")
      yield* Fiber.join(fiber)
      assert.strictEqual(all.length, 2)
      assert.isTrue(all[1] !== undefined && describedAs(all[1]).includes("404"))
    })
  )

  it.effect("fetches while answers still arrive, each place once, and ends with the last description", () =>
    Effect.gen(function* () {
      const late = second({ answersAfter: "2900 millis", description: () => Effect.never })
      const network = Network.makeNetwork({ devices: [Router.makeRouter(), late] })
      const { all, fiber } = yield* collecting(UpnpDiscovery.described, network)
      assert.deepStrictEqual(network.requests, ["GET 192.168.1.1:5000/desc.xml"])
      yield* pass("6899 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* pass("1 millis")
      yield* Fiber.join(fiber)
      assert.strictEqual(all.length, 2)
      assert.deepStrictEqual(network.requests, ["GET 192.168.1.1:5000/desc.xml", "GET 192.168.1.7:5000/desc.xml"])
      assert.strictEqual(network.openSockets(), 0)
    })
  )

  it.effect("leaves nothing open when it is interrupted", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [second({ description: () => Effect.never })] })
      const { fiber } = yield* collecting(UpnpDiscovery.described, network)
      assert.isAbove(network.openSockets(), 0)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(network.openSockets(), 0)
    })
  )
})

describe("gateways", () => {
  it.effect("has two that say they are one device, at two addresses, as two", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({
        devices: [Router.makeRouter(), Router.makeRouter({ address: "192.168.1.7" })]
      })
      const { all, fiber } = yield* collecting(UpnpDiscovery.gateways, network)
      yield* pass("10 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(all.map(({ address }) => NetAddress.formatIp(address)).toSorted(), [
        "192.168.1.1",
        "192.168.1.7"
      ])
    })
  )

  it.effect("leaves out what cannot be read, and searches anew each time it is run", () =>
    Effect.gen(function* () {
      let isUp = false
      const router = Router.makeRouter()
      const starting: Network.Device = {
        ...router,
        onRequest: (request) =>
          isUp ? router.onRequest(request) : Effect.succeed(Network.respond(200, "<html>starting</html>"))
      }
      const network = Network.makeNetwork({ devices: [starting] })
      const { gateways } = yield* GatewayDiscovery.GatewayDiscovery.pipe(
        Effect.provide(Layer.provide(UpnpDiscovery.layer, network.layer))
      )
      const run = Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Stream.runCollect(gateways))
        yield* pass("10 seconds")
        return (yield* Fiber.join(fiber)).map(({ name }) => name)
      })
      assert.deepStrictEqual(yield* run, [])
      isUp = true
      assert.deepStrictEqual(yield* run, ["Home Router"])
      assert.strictEqual(network.openSockets(), 0)
    })
  )
})
