import type * as HttpListener from "@effect-nat/core/HttpListener"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Gena from "@effect-nat/upnp/Gena"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const map = (externalPort = 12001, lifetime: Duration.Input = "2 hours") =>
  PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12000, externalPort, lifetime }))

/** Lets every fiber run until it waits for time or for the test. */
const settle = Effect.forEach(Array.from({ length: 100 }), () => Effect.yieldNow, { discard: true })

/**
 * Time passes in steps: what has to happen at one moment takes turns, and the clock does not wait for them. Whoever
 * sleeps again and again may be late by a step each time.
 */
const passes = (time: Duration.Input, steps = 10) =>
  Effect.forEach(Array.from({ length: steps }), () =>
    Effect.andThen(TestClock.adjust(Duration.times(Duration.fromInputUnsafe(time), 1 / steps)), settle)
  )

const count = (list: ReadonlyArray<string>, start: string): number =>
  list.filter((line) => line.startsWith(start)).length

const watched = <A, E>(
  router: Network.Device,
  run: (network: Network.Network) => Effect.Effect<A, E, PortMapper.PortMapper | Scope.Scope>,
  listener?: HttpListener.HttpListener["Service"]
) => {
  const network = Network.makeNetwork({ devices: [router], ...(listener === undefined ? {} : { listener }) })
  return run(network).pipe(
    Effect.scoped,
    Effect.provide(Upnp.layer.pipe(Layer.provide(network.layer))),
    Effect.provide(Logger.layer([])),
    Effect.andThen(Effect.sync(() => assert.strictEqual(network.openSockets(), 0)))
  )
}

describe("a router that announces itself", () => {
  const announced = (
    say: (router: Router.Router, network: Network.Network) => void,
    isNoticed: boolean,
    heldFor: Duration.Input = "1 second"
  ) => {
    const router = Router.makeRouter()
    return watched(router, (network) =>
      Effect.gen(function* () {
        yield* map()
        yield* passes(heldFor)
        router.entries.length = 0
        say(router, network)
        yield* settle
        yield* passes("5 seconds")
        assert.lengthOf(router.entries, isNoticed ? 1 : 0)
      })
    )
  }

  const restarts = (router: Router.Router, network: Network.Network) => {
    router.restart(6000)
    network.announce(router.address, router.notify("alive", { bootId: 2 }))
  }

  it.effect("with another boot id has its mappings again within 5 seconds [UDA 1.2.2-e]", () =>
    announced(restarts, true)
  )

  it.effect("is heard as soon as something is mapped on it", () => announced(restarts, true, "100 millis"))

  it.effect("with another boot id has its mappings without an end again as well [IP1 2.2.14-c]", () => {
    const router = Router.makeRouter()
    return watched(router, (network) =>
      Effect.gen(function* () {
        yield* map(12001, 0)
        yield* passes("1 second")
        assert.deepStrictEqual(
          router.entries.splice(0).map(({ leaseDuration }) => leaseDuration),
          [0]
        )
        router.restart(6000)
        network.announce(router.address, router.notify("alive", { bootId: 2 }))
        yield* settle
        yield* passes("5 seconds")
        assert.deepStrictEqual(
          router.entries.map(({ leaseDuration }) => leaseDuration),
          [0]
        )
      })
    )
  })

  it.effect("with an update of its boot id is asked for its mappings", () =>
    announced((router, network) => network.announce(router.address, router.notify("update", { nextBootId: 2 })), true)
  )

  it.effect("after it said goodbye has its mappings again", () =>
    announced((router, network) => {
      network.announce(router.address, router.notify("byebye"))
      network.announce(router.address, router.notify("alive"))
    }, true)
  )

  it.effect("with the boot id that it had is left alone", () =>
    announced((router, network) => network.announce(router.address, router.notify("alive")), false)
  )

  it.effect("is left alone while it is only gone", () =>
    announced((router, network) => network.announce(router.address, router.notify("byebye", { bootId: 9 })), false)
  )

  it.effect("is not the other device at its address [UDA 1.2.2-i]", () =>
    announced((router, network) => {
      const server = Router.makeRouter({ udn: "uuid:a-media-server" })
      network.announce(router.address, server.notify("alive", { bootId: 9 }))
    }, false)
  )

  it.effect("is not the same device at another address", () =>
    announced((router, network) => {
      network.announce("192.168.1.77", router.notify("alive", { bootId: 9 }))
    }, false)
  )

  it.effect("is asked once however often it says it", () => {
    const router = Router.makeRouter()
    return watched(router, (network) =>
      Effect.gen(function* () {
        yield* map()
        yield* passes("1 second")
        for (let n = 0; n < 20; n++) network.announce(router.address, router.notify("alive", { bootId: 2 }))
        yield* settle
        yield* passes("1 minute")
        assert.strictEqual(count(router.calls, "AddPortMapping"), 2)
      })
    )
  })
})

/** A router that grants subscriptions, and what this host hears of it. */
const subscribable = (router: Router.Router, isHeard = true) => {
  let heard: HttpListener.ListenOptions | undefined
  const subscriptions: Array<string> = []
  let path = ""
  const grant = {
    ...Network.respond(200, ""),
    headers: Object.fromEntries(
      Gena.encodeGranted({ sid: "uuid:1", timeoutSeconds: 1800 }).map(([name, value]) => [name.toLowerCase(), value])
    )
  }
  const tell = (sequence: number, address: string) =>
    Effect.suspend(() => {
      const event = Gena.encodeEvent({ sid: "uuid:1", sequence, properties: [["ExternalIPAddress", address]] })
      if (heard === undefined) return Effect.succeed(0)
      return heard.answer({
        method: "NOTIFY",
        path,
        headers: Object.fromEntries(event.headers.map(([name, value]) => [name.toLowerCase(), value])),
        body: Network.bytes(event.body),
        from: NetAddress.inetAddressUnsafe(Network.ip(router.address), 40_000)
      })
    })
  const device: Network.Device = {
    ...router,
    onRequest: (request) => {
      if (request.path !== "/evt") return router.onRequest(request)
      subscriptions.push(request.method)
      const callback = request.headers?.find(([name]) => name.toUpperCase() === "CALLBACK")?.[1]
      if (callback !== undefined) path = new URL(callback.slice(1, -1)).pathname
      // A new subscription is told the state as it is, a renewed one is not.
      if (request.method !== "SUBSCRIBE" || callback === undefined || !isHeard) return Effect.succeed(grant)
      return Effect.as(Effect.forkDetach(Effect.delay(tell(0, "11.22.33.1"), "10 millis")), grant)
    }
  }
  const listener: HttpListener.HttpListener["Service"] = {
    listen: (options) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          heard = options
          return NetAddress.inetAddressUnsafe(options.address, 40_001)
        }),
        () => Effect.sync(() => (heard = undefined))
      )
  }
  return { device, listener, subscriptions, tell }
}

describe("a router that sends events", () => {
  it.effect("tells all mappings of its new address by one subscription, and is not asked for it", () => {
    const router = Router.makeRouter()
    const { device, listener, subscriptions, tell } = subscribable(router)
    return watched(
      device,
      () =>
        Effect.gen(function* () {
          const mappings = [yield* map(12001), yield* map(12002)]
          yield* passes("1 second")
          yield* passes("1 minute")
          assert.deepStrictEqual(subscriptions, ["SUBSCRIBE"])
          yield* passes("6 minutes")
          assert.strictEqual(count(router.calls, "GetExternalIPAddress"), 1)
          router.setExternalAddress("11.22.33.9")
          assert.strictEqual(yield* tell(1, "11.22.33.9"), 200)
          yield* settle
          assert.deepStrictEqual(
            (yield* Effect.forEach(mappings, (mapping) => mapping.current)).map(PortMapping.format),
            ["11.22.33.9:12001/tcp", "11.22.33.9:12002/tcp"]
          )
          yield* Effect.forEach(mappings, (mapping) => mapping.release)
          yield* settle
          assert.deepStrictEqual(subscriptions, ["SUBSCRIBE", "UNSUBSCRIBE"])
        }),
      listener
    )
  })

  it.effect("and is heard only to say what is known already renews nothing", () => {
    const router = Router.makeRouter()
    const { device, listener, tell } = subscribable(router)
    return watched(
      device,
      () =>
        Effect.gen(function* () {
          yield* map()
          yield* passes("1 second")
          yield* passes("1 minute")
          yield* tell(1, "11.22.33.1")
          yield* passes("5 seconds")
          assert.strictEqual(count(router.calls, "AddPortMapping"), 1)
        }),
      listener
    )
  })

  it.effect("is asked all the same, rarely: a firewall that is switched on later keeps them out", () => {
    const router = Router.makeRouter()
    const { device, listener } = subscribable(router)
    return watched(
      device,
      () =>
        Effect.gen(function* () {
          const mapping = yield* map()
          yield* passes("1 second")
          yield* passes("1 minute")
          router.setExternalAddress("11.22.33.9")
          // Six askings are 27 to 33 minutes apart.
          yield* passes("25 minutes", 200)
          assert.strictEqual(count(router.calls, "GetExternalIPAddress"), 1)
          yield* passes("10 minutes", 80)
          assert.strictEqual(PortMapping.format(yield* mapping.current), "11.22.33.9:12001/tcp")
        }),
      listener
    )
  })

  it.effect("that never arrive is asked", () => {
    const router = Router.makeRouter()
    const { device, listener } = subscribable(router, false)
    return watched(
      device,
      () =>
        Effect.gen(function* () {
          const mapping = yield* map()
          yield* passes("1 second")
          yield* passes("1 minute")
          router.setExternalAddress("11.22.33.9")
          yield* passes("6 minutes")
          assert.strictEqual(PortMapping.format(yield* mapping.current), "11.22.33.9:12001/tcp")
        }),
      listener
    )
  })
})

describe("a router that sends no events", () => {
  it.effect("is asked for its address every five minutes, and every mapping has the new one", () => {
    const router = Router.makeRouter()
    return watched(router, () =>
      Effect.gen(function* () {
        const mappings = [yield* map(12001), yield* map(12002)]
        yield* passes("1 minute")
        router.setExternalAddress("11.22.33.9")
        yield* passes("6 minutes")
        assert.deepStrictEqual(
          (yield* Effect.forEach(mappings, (mapping) => mapping.current)).map(PortMapping.format),
          ["11.22.33.9:12001/tcp", "11.22.33.9:12002/tcp"]
        )
        assert.strictEqual(count(router.calls, "AddPortMapping"), 4)
      })
    )
  })

  it.effect("is renewed no more often while nothing changes", () => {
    const router = Router.makeRouter()
    return watched(router, () =>
      Effect.gen(function* () {
        yield* map()
        yield* passes("30 minutes")
        assert.strictEqual(count(router.calls, "AddPortMapping"), 1)
        const polls = count(router.calls, "GetExternalIPAddress") - 1
        assert.isAtLeast(polls, 5)
        assert.isAtMost(polls, 7)
      })
    )
  })

  it.effect("is found at its new port though it said nothing", () => {
    const router = Router.makeRouter()
    return watched(router, () =>
      Effect.gen(function* () {
        yield* map()
        yield* passes("1 minute")
        router.restart(6000)
        yield* passes("6 minutes")
        assert.lengthOf(router.entries, 1)
      })
    )
  })

  it.effect("is asked for its mappings when it answers again", () => {
    let isSilent = false
    const router: Router.Router = Router.makeRouter({
      before: () => (isSilent ? Effect.never : Effect.void)
    })
    return watched(router, () =>
      Effect.gen(function* () {
        yield* map()
        yield* passes("1 minute")
        isSilent = true
        yield* passes("6 minutes")
        isSilent = false
        router.entries.length = 0
        yield* passes("6 minutes")
        assert.lengthOf(router.entries, 1)
      })
    )
  })

  it.effect("is left alone when nothing is mapped any more", () => {
    const router = Router.makeRouter()
    return watched(router, (network) =>
      Effect.gen(function* () {
        const mapping = yield* map()
        yield* passes("1 second")
        assert.isAbove(network.openSockets(), 0)
        yield* mapping.release
        yield* settle
        assert.strictEqual(network.openSockets(), 0)
        const calls = router.calls.length
        yield* passes("30 minutes")
        assert.lengthOf(router.calls, calls)
      })
    )
  })

  it.effect("is watched again with the next mapping", () => {
    const router = Router.makeRouter()
    return watched(router, () =>
      Effect.gen(function* () {
        yield* Effect.flatMap(map(), (mapping) => mapping.release)
        const mapping = yield* map()
        const seen: Array<string> = []
        yield* mapping.changes.pipe(
          Stream.runForEach((change) => Effect.sync(() => seen.push(PortMapping.format(change)))),
          Effect.forkScoped
        )
        yield* passes("1 minute")
        router.setExternalAddress("11.22.33.9")
        yield* passes("6 minutes")
        assert.deepStrictEqual(seen, ["11.22.33.1:12001/tcp", "11.22.33.9:12001/tcp"])
      })
    )
  })
})
