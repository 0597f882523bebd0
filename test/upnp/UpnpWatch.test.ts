import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const map = (externalPort = 12001) =>
  PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12000, externalPort }))

/** Lets every fiber run until it waits for time or for the test. */
const settle = Effect.forEach(Array.from({ length: 100 }), () => Effect.yieldNow, { discard: true })

const passes = (time: "1 second" | "5 seconds" | "1 minute" | "6 minutes" | "30 minutes") =>
  Effect.andThen(TestClock.adjust(time), settle)

const count = (list: ReadonlyArray<string>, start: string): number =>
  list.filter((line) => line.startsWith(start)).length

const watched = <A, E>(
  router: Router.Router,
  run: (network: Network.Network) => Effect.Effect<A, E, PortMapper.PortMapper | Scope.Scope>
) => {
  const network = Network.makeNetwork({ devices: [router] })
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
    router = Router.makeRouter()
  ) =>
    watched(router, (network) =>
      Effect.gen(function* () {
        yield* map()
        yield* passes("1 second")
        router.entries.length = 0
        say(router, network)
        yield* settle
        yield* passes("5 seconds")
        assert.lengthOf(router.entries, isNoticed ? 1 : 0)
      })
    )

  it.effect("with another boot id has its mappings again within 5 seconds [UDA 1.2.2-e, IP1 2.2.14-c]", () =>
    announced((router, network) => {
      router.restart(6000)
      network.announce(router.address, router.notify("alive", { bootId: 2 }))
    }, true)
  )

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
