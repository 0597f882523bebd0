import * as Ledger from "@effect-nat/core/Ledger"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as MemoryLedger from "../core/memoryLedger.ts"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const settle = Effect.forEach(Array.from({ length: 300 }), () => Effect.yieldNow, { discard: true })

const passes = (time: Duration.Input) => Effect.andThen(TestClock.adjust(time), settle)

/** In steps, so that what waits for an answer and then sleeps gets on. */
const passSteps = (steps: number, time: Duration.Input) =>
  Effect.forEach(Array.from({ length: steps }), () => passes(time), { discard: true })

const map = (request: { internalPort: number; externalPort: number; lifetime?: number }) =>
  PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", ...request }))

const otherProgram: PortMappingEntry.PortMappingEntry = {
  remoteHost: "",
  externalPort: 12000,
  protocol: "TCP",
  internalPort: 8080,
  internalClient: Network.own,
  enabled: true,
  description: "other program",
  leaseDuration: 7200
}

const layerOf = (device: Network.Device) =>
  Layer.mergeAll(Upnp.layer.pipe(Layer.provide(Network.makeNetwork({ devices: [device] }).layer)), Logger.layer([]))

describe("a mapping that another program of this host has replaced", () => {
  it.effect("is not taken back: another port is taken", () => {
    const router = Router.makeRouter()
    return Effect.gen(function* () {
      const mapping = yield* map({ internalPort: 12000, externalPort: 12000 })
      yield* passes("1 second")
      router.entries[0] = otherProgram
      yield* passSteps(70, "1 minute")
      assert.deepStrictEqual(router.entries[0], otherProgram)
      const { externalPort, status } = yield* mapping.current
      assert.strictEqual(status, "mapped")
      assert.notStrictEqual(externalPort, 12000)
      assert.strictEqual(router.entries[1]?.externalPort, externalPort)
    }).pipe(Effect.scoped, Effect.provide(layerOf(router)))
  })
})

describe("the mapping at an address that this host had", () => {
  const entriesAfterMove = Effect.fnUntraced(function* (
    before: NonNullable<Router.RouterOptions["before"]>,
    awayFor: Duration.Input = 0
  ) {
    let isAway = false
    const router = Router.makeRouter({ before })
    const device: Network.Device = {
      ...router,
      onRequest: (request) => (isAway ? Effect.never : router.onRequest(request)),
      onSearch: (heard) => (isAway ? [] : router.onSearch(heard))
    }
    const network = Network.makeNetwork({ devices: [device] })
    const layers = Layer.mergeAll(Upnp.layer.pipe(Layer.provide(network.layer)), Logger.layer([]))
    return yield* Effect.gen(function* () {
      yield* map({ internalPort: 12000, externalPort: 12000, lifetime: 0 })
      network.moveTo("192.168.1.3")
      isAway = true
      yield* passSteps(4, awayFor)
      isAway = false
      yield* passSteps(2, "1 hour")
      // What is left is swept after it.
      yield* map({ internalPort: 13000, externalPort: 13000 })
      yield* passes("1 second")
      const { entries } = yield* Ledger.Ledger
      const ofFirst = (yield* entries("upnp")).filter((entry) => entry.internalPort === 12000)
      return ofFirst.map((entry) => NetAddress.formatIp(entry.internalAddress)).toSorted()
    }).pipe(Effect.scoped, Effect.provide(layers), Effect.provide(MemoryLedger.layer))
  })

  it.effect.each([
    ["", "0 minutes"],
    [", and was away when it was to be deleted", "30 minutes"]
  ] as const)("stays in the ledger where the router deletes it for that address only%s", ([, awayFor]) =>
    Effect.gen(function* () {
      const entries = yield* entriesAfterMove(
        ({ action }) => (action === "DeletePortMapping" ? Effect.fail(Router.fault(606)) : Effect.void),
        awayFor
      )
      assert.deepStrictEqual(entries, [Network.own, "192.168.1.3"])
    })
  )

  it.effect("is in the ledger no longer where it is deleted", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* entriesAfterMove(() => Effect.void), ["192.168.1.3"])
    })
  )
})

describe("finding out why a router does not show a mapping", () => {
  it.effect("leaves nothing where the mapping is released meanwhile", () => {
    const router = Router.makeRouter({
      before: ({ action }) => {
        if (action === "GetSpecificPortMappingEntry") return Effect.fail(Router.fault(714))
        return action === "AddPortMapping" ? Effect.sleep("700 millis") : Effect.void
      }
    })
    // It goes on with what it was asked for though the connection is closed.
    const device: Network.Device = {
      ...router,
      onRequest: (request) => Effect.flatMap(Effect.forkDetach(router.onRequest(request)), Fiber.join)
    }
    return Effect.gen(function* () {
      const mapped = yield* Effect.forkChild(map({ internalPort: 12000, externalPort: 12000 }))
      yield* passSteps(8, "100 millis")
      const mapping = yield* Fiber.join(mapped)
      yield* passSteps(3, "100 millis")
      const released = yield* Effect.forkChild(mapping.release)
      yield* passSteps(40, "100 millis")
      yield* Fiber.join(released)
      assert.deepStrictEqual(router.entries, [])
      assert.strictEqual(router.calls.filter((call) => call.startsWith("AddPortMapping")).length, 2)
    }).pipe(Effect.scoped, Effect.provide(layerOf(device)))
  })
})

describe("finding out why a router does not show a mapping, without an answer", () => {
  it.effect("leaves the limited lease, and another mapping finds out", () => {
    let adds = 0
    const router = Router.makeRouter({
      before: ({ action }) => (action === "GetSpecificPortMappingEntry" ? Effect.fail(Router.fault(714)) : Effect.void),
      after: ({ action }) => (action === "AddPortMapping" && ++adds === 3 ? Effect.never : Effect.void)
    })
    return Effect.gen(function* () {
      yield* map({ internalPort: 12000, externalPort: 12000 })
      yield* passSteps(10, "1 second")
      assert.deepStrictEqual(
        router.entries.map((entry) => entry.leaseDuration),
        [7200]
      )
      const before = router.calls.length
      yield* map({ internalPort: 12001, externalPort: 12001 })
      yield* passSteps(10, "1 second")
      const asked = router.calls.slice(before).filter((call) => call.startsWith("AddPortMapping"))
      assert.deepStrictEqual(
        asked.map((call) => call.slice(call.lastIndexOf(" ") + 1)),
        ["7200)", "7200)", "0)", "7200)"]
      )
    }).pipe(Effect.scoped, Effect.provide(layerOf(router)))
  })
})

describe("an entry of an earlier run that is used again", () => {
  it.effect("is deleted where the request is not answered", () => {
    const router = Router.makeRouter({
      after: ({ action }) => (action === "AddPortMapping" ? Effect.never : Effect.void)
    })
    router.entries.push({
      ...otherProgram,
      externalPort: 15000,
      internalPort: 12000,
      description: "effect-nat",
      leaseDuration: 0
    })
    return Effect.gen(function* () {
      const mapped = yield* Effect.forkChild(
        Effect.exit(map({ internalPort: 12000, externalPort: 12001, lifetime: 0 }))
      )
      yield* passSteps(30, "1 second")
      assert.isTrue(Exit.isFailure(yield* Fiber.join(mapped)))
      assert.deepStrictEqual(router.entries, [])
    }).pipe(Effect.scoped, Effect.provide(layerOf(router)))
  })
})

describe("many mappings in one parallel scope", () => {
  it.effect("are all deleted on a slow router, each looked at and deleted before the next", () => {
    const router = Router.makeRouter({ before: () => Effect.sleep("200 millis") })
    return Effect.gen(function* () {
      const scope = yield* Scope.make("parallel")
      const ports = Array.from({ length: 40 }, (_, index) => 20_000 + index)
      const mapped = yield* Effect.forkChild(
        Effect.forEach(ports, (port) => map({ internalPort: port, externalPort: port }).pipe(Scope.provide(scope)), {
          concurrency: "unbounded"
        })
      )
      yield* passSteps(60, "1 second")
      yield* Fiber.join(mapped)
      assert.lengthOf(router.entries, 40)
      const before = router.calls.length
      const closed = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* passSteps(20, "1 second")
      yield* Fiber.join(closed)
      assert.deepStrictEqual(router.entries, [])
      const names = router.calls.slice(before, before + 4).map((call) => call.slice(0, call.indexOf("(")))
      assert.deepStrictEqual(names, [
        "GetSpecificPortMappingEntry",
        "DeletePortMapping",
        "GetSpecificPortMappingEntry",
        "DeletePortMapping"
      ])
    }).pipe(Effect.scoped, Effect.provide(layerOf(router)))
  })
})

describe("many mappings on a router that does not answer any more", () => {
  const closeAfter = Effect.fnUntraced(function* (router: Router.Router, fallSilent: Effect.Effect<void>) {
    const scope = yield* Scope.make()
    const ports = Array.from({ length: 20 }, (_, index) => 20_000 + index)
    yield* Effect.forEach(ports, (port) => map({ internalPort: port, externalPort: port }).pipe(Scope.provide(scope)))
    yield* passSteps(5, "1 second")
    assert.lengthOf(router.entries, 20)
    yield* fallSilent
    const closed = yield* Effect.forkChild(Scope.close(scope, Exit.void))
    yield* passSteps(9, "1 second")
    assert.isDefined(closed.pollUnsafe())
  })

  it.effect("do not wait for it once for each", () => {
    let isDead = false
    const router = Router.makeRouter({ before: () => (isDead ? Effect.never : Effect.void) })
    return closeAfter(
      router,
      Effect.sync(() => void (isDead = true))
    ).pipe(Effect.scoped, Effect.provide(layerOf(router)))
  })

  it.effect("are deleted, but for one, where it has lost a single call", () => {
    let lost = 0
    const router = Router.makeRouter({ before: () => (lost-- === 1 ? Effect.never : Effect.void) })
    return closeAfter(
      router,
      Effect.sync(() => void (lost = 1))
    ).pipe(
      Effect.andThen(Effect.sync(() => assert.lengthOf(router.entries, 1))),
      Effect.scoped,
      Effect.provide(layerOf(router))
    )
  })
})

describe("a line that was chosen while another one did not answer", () => {
  const line = (serviceType: string, controlUrl: string, externalAddress: string): Router.RouterService => ({
    serviceType,
    controlUrl,
    externalAddress,
    status: "Connected"
  })

  it.effect.each([
    ["is given up for a better one when it is renewed", "11.22.33.1", "11.22.33.1"],
    ["is kept where the other one is no better", "0.0.0.0", "10.0.0.3"]
  ] as const)("%s", ([, other, address]) => {
    const router = Router.makeRouter({
      services: [line(Router.wanIp1, "/ctl/ip", "10.0.0.3"), line(Router.wanPpp1, "/ctl/ppp", other)]
    })
    let isSilent = true
    const device: Network.Device = {
      ...router,
      onRequest: (request) => (isSilent && request.path === "/ctl/ppp" ? Effect.never : router.onRequest(request))
    }
    return Effect.gen(function* () {
      const mapped = yield* Effect.forkChild(map({ internalPort: 12000, externalPort: 12000, lifetime: 600_000 }))
      yield* passSteps(12, "1 second")
      const mapping = yield* Fiber.join(mapped)
      assert.strictEqual(String((yield* mapping.current).externalAddress), "10.0.0.3")
      // Once more nobody hears it.
      yield* passSteps(6, "1 minute")
      isSilent = false
      yield* passSteps(6, "1 minute")
      const { externalAddress, status } = yield* mapping.current
      assert.strictEqual(status, "mapped")
      assert.strictEqual(String(externalAddress), address)
    }).pipe(Effect.scoped, Effect.provide(layerOf(device)))
  })
})
