import type * as HttpListener from "@effect-nat/core/HttpListener"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as CurrentGateway from "../../packages/upnp/src/internal/currentGateway.ts"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const map = (externalPort = 12001) =>
  PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: externalPort, externalPort }))

/** Lets every fiber run until it waits for time or for the test. */
const settle = Effect.forEach(Array.from({ length: 100 }), () => Effect.yieldNow, { discard: true })

/** Time passes in steps: what has to happen at one moment takes turns, and the clock does not wait for them. */
const passes = (time: Duration.Input, steps = 10) =>
  Effect.forEach(
    Array.from({ length: steps }),
    () => Effect.andThen(TestClock.adjust(Duration.times(Duration.fromInputUnsafe(time), 1 / steps)), settle),
    { discard: true }
  )

const count = (list: ReadonlyArray<string>, start: string): number =>
  list.filter((line) => line.startsWith(start)).length

const watched = <A, E>(
  router: Network.Device,
  run: (network: Network.Network) => Effect.Effect<A, E, PortMapper.PortMapper | Scope.Scope>,
  options: Partial<Network.NetworkOptions> = {}
) => {
  const network = Network.makeNetwork({ devices: [router], ...options })
  return run(network).pipe(
    Effect.scoped,
    Effect.provide(Upnp.layer.pipe(Layer.provide(network.layer))),
    Effect.provide(Logger.layer([])),
    Effect.andThen(Effect.sync(() => assert.strictEqual(network.openSockets(), 0)))
  )
}

describe("somebody who says again and again that the router restarted", () => {
  it.effect("makes the router's work no more than that of a few restarts, and the last one counts", () => {
    const router = Router.makeRouter()
    return watched(router, (network) =>
      Effect.gen(function* () {
        yield* Effect.forEach([12001, 12002, 12003, 12004], map)
        yield* passes("2 seconds")
        for (let second = 0; second < 600; second++) {
          network.announce(router.address, router.notify("alive", { bootId: 100 + second }))
          yield* passes("1 second", 1)
        }
        // At once, then after 5, 10, 20, 40, 80, 160 and 300 seconds, and once more between them at the most.
        assert.isAtMost(count(router.calls, "AddPortMapping"), 4 * 9)
        assert.isAtLeast(count(router.calls, "AddPortMapping"), 4 * 6)
        router.entries.length = 0
        yield* passes("5 minutes")
        assert.lengthOf(router.entries, 4)
      })
    )
  })

  it.effect("is told from a router that does restart, and is recovered from each time", () => {
    const router = Router.makeRouter()
    return watched(router, (network) =>
      Effect.gen(function* () {
        yield* Effect.forEach([12001, 12002], map)
        yield* passes("1 minute")
        for (let round = 0; round < 20; round++) {
          router.restart(6000 + round)
          network.announce(router.address, router.notify("alive", { bootId: 2 + round }))
          yield* passes("10 seconds")
          assert.lengthOf(router.entries, 2, `round ${round}`)
          yield* passes("20 seconds")
        }
      })
    )
  })
})

/** Ports to listen on, where nothing ever comes in. */
const listener: HttpListener.HttpListener["Service"] = {
  listen: ({ address }) => Effect.succeed(NetAddress.inetAddressUnsafe(address, 40_001))
}

describe("a router that refuses the first subscriptions to its events", () => {
  it.effect("is asked again, ever less often, until it grants one, and is told the end of that one", () => {
    const router = Router.makeRouter()
    const methods: Array<string> = []
    let isRefusing = true
    const device: Network.Device = {
      ...router,
      onRequest: (request) => {
        if (request.path !== "/evt") return router.onRequest(request)
        methods.push(request.method)
        if (isRefusing) return Effect.succeed(Network.respond(503, ""))
        return Effect.succeed({ ...Network.respond(200, ""), headers: { sid: "uuid:1", timeout: "Second-1800" } })
      }
    }
    return watched(
      device,
      () =>
        Effect.gen(function* () {
          const mapping = yield* map()
          yield* passes("2 seconds")
          assert.lengthOf(methods, 1)
          yield* passes("1 minute")
          assert.lengthOf(methods, 2)
          yield* passes("1 minute")
          assert.lengthOf(methods, 2)
          yield* passes("1 minute")
          assert.lengthOf(methods, 3)
          isRefusing = false
          yield* passes("4 minutes")
          assert.lengthOf(methods, 4)
          yield* passes("8 minutes")
          assert.lengthOf(methods, 4)
          yield* mapping.release
          yield* settle
          assert.deepStrictEqual(methods.slice(3), ["SUBSCRIBE", "UNSUBSCRIBE"])
        }),
      { listener }
    )
  })
})

describe("a session that was given up", () => {
  const timedOut = NatError.fromReason(new NatError.TimedOut({ detail: "no answer" }))

  it.effect("is not watched again by a renewal that ends after others have found the router anew", () => {
    const router = Router.makeRouter()
    const network = Network.makeNetwork({ devices: [router] })
    return Effect.gen(function* () {
      const gateway = yield* CurrentGateway.make
      const registration = yield* gateway.register
      const use = (f: (session: CurrentGateway.Session) => Effect.Effect<void, NatError.NatError>) =>
        Effect.forkScoped(Effect.exit(gateway.use(f)))
      const sessions: Array<CurrentGateway.Session> = []
      const follow = (session: CurrentGateway.Session) =>
        Effect.sync(() => sessions.push(session)).pipe(
          Effect.andThen(registration.holdFlow(session, "one")),
          Effect.andThen(registration.follow(session, undefined))
        )
      // One renewal is slow; meanwhile the router restarts, and another one finds it again.
      yield* use((session) => Effect.andThen(Effect.sleep("30 seconds"), follow(session)))
      yield* passes("10 seconds")
      yield* use(() => Effect.fail(timedOut))
      yield* passes("1 second")
      router.restart(6000)
      yield* use(follow)
      yield* passes("30 seconds")
      assert.lengthOf(sessions, 2)
      assert.notStrictEqual(sessions[0], sessions[1])
      // Of the two sessions the one that is in use is watched: it is the one that a restart puts an end to.
      network.announce(router.address, router.notify("alive", { bootId: 99 }))
      yield* settle
      yield* use(follow)
      yield* passes("30 seconds")
      assert.lengthOf(sessions, 3)
      assert.notStrictEqual(sessions[2], sessions[0])
    }).pipe(Effect.scoped, Effect.provide(network.layer), Effect.provide(Logger.layer([])))
  })
})

describe("a router that forgets the subscription to its events", () => {
  /** Grants subscriptions for so long, and knows none of them while it is forgetful. */
  const forgetting = (router: Router.Router, seconds: number) => {
    const habit = { isForgetful: false, renewals: 0 }
    const device: Network.Device = {
      ...router,
      onRequest: (request) => {
        if (request.path !== "/evt") return router.onRequest(request)
        const isRenewal = request.headers?.some(([name]) => name.toUpperCase() === "SID") === true
        if (request.method === "SUBSCRIBE" && isRenewal) {
          habit.renewals++
          if (habit.isForgetful) return Effect.succeed(Network.respond(412, ""))
        }
        const headers = { sid: "uuid:1", timeout: `Second-${seconds}` }
        return Effect.succeed({ ...Network.respond(200, ""), headers })
      }
    }
    return { device, habit }
  }

  it.effect("has its mappings again when the subscription is renewed", () => {
    const router = Router.makeRouter()
    const { device, habit } = forgetting(router, 600)
    return watched(
      device,
      () =>
        Effect.gen(function* () {
          yield* map()
          yield* passes("6 minutes")
          assert.strictEqual(habit.renewals, 1)
          assert.strictEqual(count(router.calls, "AddPortMapping"), 1)
          router.entries.length = 0
          habit.isForgetful = true
          yield* passes("5 minutes")
          assert.strictEqual(habit.renewals, 2)
          assert.lengthOf(router.entries, 1)
        }),
      { listener }
    )
  })

  it.effect("each time, and soon, is asked for its mappings ever less often", () => {
    const router = Router.makeRouter()
    const { device, habit } = forgetting(router, 120)
    habit.isForgetful = true
    return watched(
      device,
      () =>
        Effect.gen(function* () {
          yield* map()
          yield* passes("30 minutes", 600)
          assert.isAbove(habit.renewals, 20)
          assert.isAtMost(count(router.calls, "AddPortMapping"), 15)
        }),
      { listener }
    )
  })
})
