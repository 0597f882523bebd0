import * as Gateway from "@effect-nat/core/Gateway"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedRouter from "@effect-nat/testing/SimulatedRouter"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Automatic from "effect-nat/Automatic"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const request: MappingRequest.MappingRequest = {
  protocol: "tcp",
  internalPort: 12000,
  externalPort: 12001,
  lifetime: "100 seconds"
}

const map = (differences: Partial<MappingRequest.MappingRequest> = {}) =>
  PortMapper.PortMapper.use((mapper) => mapper.map({ ...request, ...differences }))
const handle = SimulatedRouter.SimulatedRouter
const table = handle.use((router) => router.table)
const ports = Effect.map(table, (entries) => entries.map((entry) => entry.externalPort))
const actions = handle.use((router) => Effect.map(router.asked, (asked) => asked.map((one) => one.action)))
const formatted = (mapping: PortMapper.Mapping) =>
  Effect.map(mapping.current, (now) => `${PortMapping.format(now)} ${now.status}`)
const reasonOf = <A, R>(effect: Effect.Effect<A, NatError.NatError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

/** Runs under the test's clock, and says how long it took in seconds. */
const timed = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const from = yield* Clock.currentTimeMillis
  const fiber = yield* Effect.forkChild(
    Effect.flatMap(effect, (value) =>
      Effect.map(Clock.currentTimeMillis, (to) => ({ value, seconds: (to - from) / 1000 }))
    )
  )
  yield* TestClock.adjust("1 minute")
  return yield* Fiber.join(fiber)
})

describe("a mapping", () => {
  it.effect("is what the router granted, and forwards", () =>
    Effect.gen(function* () {
      const router = yield* handle
      const mapping = yield* map()
      const { externalAddress, gateway, internalAddress, lifetime, method } = yield* mapping.current
      assert.strictEqual(yield* formatted(mapping), "11.22.33.9:12001/tcp mapped")
      assert.deepStrictEqual(
        [externalAddress, gateway, internalAddress].map((address) => address && NetAddress.formatIp(address)),
        ["11.22.33.9", "192.168.77.254", "192.168.77.7"]
      )
      assert.deepStrictEqual(lifetime, Duration.seconds(60))
      assert.strictEqual(method, "mock")
      const to = yield* router.forward("tcp", 12001)
      assert.strictEqual(to && NetAddress.formatInet(to), "192.168.77.7:12000")
      assert.isUndefined(yield* router.forward("udp", 12001))
    }).pipe(
      Effect.provide(
        SimulatedRouter.layer({
          address: "192.168.77.254",
          externalAddress: "11.22.33.9",
          localAddress: "192.168.77.7",
          maxLifetime: "1 minute"
        })
      )
    )
  )

  it.effect.each([
    ["success", Effect.void],
    ["failure", Effect.fail("no")],
    ["a defect", Effect.die("no")]
  ] as const)("is gone after %s", ([, end]) =>
    Effect.gen(function* () {
      const there: Array<number> = []
      const program = Effect.gen(function* () {
        yield* map()
        there.push(...(yield* ports))
        yield* end
      })
      yield* Effect.exit(Effect.scoped(program))
      assert.deepStrictEqual(there, [12001])
      assert.deepStrictEqual(yield* actions, ["map", "delete"])
      assert.deepStrictEqual(yield* ports, [])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("is gone after interruption", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(map(), Effect.never)))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* ports, [12001])
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* ports, [])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("is renewed in place at about half its lifetime, with one request each", () =>
    Effect.gen(function* () {
      yield* map()
      yield* TestClock.adjust("500 seconds")
      const asked = yield* handle.use((router) => router.asked)
      assert.deepStrictEqual(
        [...new Set(asked.map((one) => `${one.action} ${one.isMutating} ${NetAddress.formatIp(one.client)}`))],
        ["map true 192.168.77.2", "renew true 192.168.77.2"]
      )
      const pauses = asked.slice(1).map((one, i) => (one.at - (asked[i]?.at ?? 0)) / 1000)
      assert.isAtLeast(pauses.length, 10)
      assert.isAtMost(pauses.length, 11)
      for (const pause of pauses) assert.isTrue(pause >= 45 && pause <= 50, `${pause}`)
      assert.deepStrictEqual(yield* ports, [12001])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("follows a new external address with its next renewal", () =>
    Effect.gen(function* () {
      const mapping = yield* map()
      const seen = yield* Effect.forkChild(
        mapping.changes.pipe(Stream.map(PortMapping.format), Stream.take(3), Stream.runCollect)
      )
      yield* handle.use((router) => router.changeExternalAddress("11.22.33.2"))
      yield* TestClock.adjust("50 seconds")
      yield* handle.use((router) => router.changeExternalAddress(undefined))
      yield* TestClock.adjust("50 seconds")
      assert.deepStrictEqual(yield* Fiber.join(seen), [
        "11.22.33.1:12001/tcp",
        "11.22.33.2:12001/tcp",
        "port 12001/tcp of an unknown address"
      ])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("comes back after a restart with its next renewal", () =>
    Effect.gen(function* () {
      const mapping = yield* map()
      yield* handle.use((router) => router.reboot())
      assert.deepStrictEqual(yield* ports, [])
      yield* TestClock.adjust("50 seconds")
      assert.deepStrictEqual(yield* ports, [12001])
      assert.strictEqual(yield* formatted(mapping), "11.22.33.1:12001/tcp mapped")
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("is lost when the router has been silent for its lifetime, and back when that wakes", () =>
    Effect.gen(function* () {
      const router = yield* handle
      const mapping = yield* map()
      yield* router.goSilent()
      yield* TestClock.adjust("99 seconds")
      assert.strictEqual(yield* formatted(mapping), "11.22.33.1:12001/tcp unconfirmed")
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* formatted(mapping), "11.22.33.1:12001/tcp lost")
      assert.deepStrictEqual(yield* ports, [])
      yield* router.wake
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(yield* formatted(mapping), "11.22.33.1:12001/tcp mapped")
      assert.deepStrictEqual(yield* ports, [12001])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("survives a silence and refusals that are shorter than what is left of it", () =>
    Effect.gen(function* () {
      const router = yield* handle
      const mapping = yield* map()
      const changes = yield* Effect.forkChild(Stream.runCollect(mapping.changes))
      yield* router.goSilent("70 seconds")
      yield* TestClock.adjust("95 seconds")
      yield* router.refuseNext("ActionFailed", "OutOfResources")
      yield* TestClock.adjust("100 seconds")
      yield* mapping.release
      const told = (yield* Fiber.join(changes)).map(({ status }) => status)
      assert.deepStrictEqual(told, ["mapped", "unconfirmed", "mapped", "unconfirmed", "mapped"])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("is released without the others of its internal port", () =>
    Effect.gen(function* () {
      yield* map()
      const other = yield* map({ externalPort: 12002 })
      assert.deepStrictEqual(yield* ports, [12001, 12002])
      yield* other.release
      assert.deepStrictEqual(yield* ports, [12001])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("that is permanent is renewed every hour", () =>
    Effect.gen(function* () {
      const mapping = yield* map({ lifetime: 0 })
      yield* TestClock.adjust("50 minutes")
      assert.deepStrictEqual(yield* actions, ["map"])
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* actions, ["map", "renew"])
      // A little less than an hour each, lest many come due in one moment.
      yield* TestClock.adjust("9 hours")
      assert.include([10, 11, 12], (yield* actions).length)
      assert.deepStrictEqual((yield* mapping.current).lifetime, Duration.infinity)
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )
})

describe("a request", () => {
  it.effect("to a silent router times out, and is undone", () =>
    Effect.gen(function* () {
      yield* handle.use((router) => router.goSilent())
      const { seconds, value } = yield* timed(reasonOf(Effect.scoped(map())))
      assert.strictEqual(value, "TimedOut")
      assert.strictEqual(seconds, 6)
      assert.deepStrictEqual(yield* actions, ["map", "delete"])
    }).pipe(Effect.provide(SimulatedRouter.layer({ requestTimeout: "3 seconds" })))
  )

  it.effect("whose answer is lost leaves nothing", () =>
    Effect.gen(function* () {
      yield* handle.use((router) => router.loseNextAnswer)
      const fiber = yield* Effect.forkChild(reasonOf(Effect.scoped(map())))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* ports, [12001])
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), "TimedOut")
      assert.deepStrictEqual(yield* ports, [])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("that is interrupted while its answer is awaited leaves nothing, and nothing of another's is undone", () =>
    Effect.gen(function* () {
      yield* map({ internalPort: 1, externalPort: 1 })
      yield* handle.use((router) => router.loseNextAnswer)
      const fiber = yield* Effect.forkChild(Effect.scoped(map()))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* ports, [1, 12001])
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* ports, [1])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect.each([
    ["NotAuthorized", "NotAuthorized"],
    ["OutOfResources", "OutOfResources"],
    ["RemoteHostWildcardOnly", "Unsupported"],
    ["ExternalPortWildcardOnly", "Unsupported"],
    ["InternalPortWildcardForbidden", "Unsupported"],
    ["NoSuchEntry", "NoSuchMapping"],
    // No longer a lease than was wanted is asked for instead.
    ["InvalidLifetime", "Unsupported"],
    ["NetworkFailure", "NoExternalAddress"],
    ["ActionFailed", "OutOfResources"]
  ] as const)("that is refused with %s fails with %s", ([kind, reason]) =>
    Effect.gen(function* () {
      yield* handle.use((router) => router.refuseNext(kind))
      assert.strictEqual(yield* reasonOf(Effect.scoped(map())), reason)
      assert.deepStrictEqual(yield* actions, ["map"])
      yield* map()
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect.each([
    ["OnlyPermanentLeases", "OnlyPermanentLeases"],
    ["InvalidLifetime", "Unsupported"],
    ["SamePortRequired", "Unsupported"]
  ] as const)("that is refused with %s is changed, and fails with %s when that is refused", ([kind, reason]) =>
    Effect.gen(function* () {
      const router = yield* handle
      const longest = map({ lifetime: "30 days" })
      yield* router.refuseNext(kind, kind)
      assert.strictEqual(yield* reasonOf(Effect.scoped(longest)), reason)
      assert.deepStrictEqual(yield* actions, ["map", "map"])
      yield* router.refuseNext(kind)
      yield* Effect.scoped(longest)
      assert.deepStrictEqual(yield* actions, ["map", "map", "map", "map", "delete"])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect.each([
    [1, [], "11.22.33.1:49152/tcp mapped"],
    [4, [], "11.22.33.1:49155/tcp mapped"],
    [1, [49152], "11.22.33.1:49153/tcp mapped"]
  ] as const)("that is refused %i times with Conflict takes a port of nobody's, %j being taken", ([times, own, what]) =>
    Effect.gen(function* () {
      const router = yield* handle
      for (const externalPort of own) yield* map({ internalPort: 1, externalPort })
      yield* router.refuseNext(...Array.from({ length: times }, () => "Conflict" as const))
      const mapping = yield* map()
      assert.strictEqual(yield* formatted(mapping), what)
      assert.lengthOf(yield* actions, own.length + times + 1)
      assert.deepStrictEqual<ReadonlyArray<number>>((yield* ports).slice(0, -1), own)
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect.each([49_152, 65_535])("that is refused with Conflict for port %i does not ask for it again", (wanted) =>
    Effect.gen(function* () {
      yield* handle.use((router) => router.refuseNext("Conflict"))
      yield* map({ externalPort: wanted })
      assert.notInclude(yield* ports, wanted)
      assert.lengthOf(yield* ports, 1)
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("that is refused with Conflict five times fails with it", () =>
    Effect.gen(function* () {
      yield* handle.use((router) => router.refuseNext("Conflict", "Conflict", "Conflict", "Conflict", "Conflict"))
      assert.strictEqual(yield* reasonOf(Effect.scoped(map())), "Conflict")
      assert.lengthOf(yield* actions, 5)
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("that must have its port fails with Conflict at once", () =>
    Effect.gen(function* () {
      yield* handle.use((router) => router.refuseNext("Conflict"))
      assert.strictEqual(yield* reasonOf(Effect.scoped(map({ strictExternalPort: true }))), "Conflict")
      assert.deepStrictEqual(yield* actions, ["map"])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("to renew that is refused with Conflict has lost its mapping, which is asked for anew", () =>
    Effect.gen(function* () {
      const mapping = yield* map()
      const seen = yield* Effect.forkChild(
        mapping.changes.pipe(
          Stream.map((now) => `${now.externalPort} ${now.status}`),
          Stream.take(3),
          Stream.runCollect
        )
      )
      yield* handle.use((router) => router.refuseNext("Conflict", "Conflict"))
      yield* TestClock.adjust("53 seconds")
      assert.deepStrictEqual(yield* Fiber.join(seen), ["12001 mapped", "12001 lost", "49152 mapped"])
      assert.deepStrictEqual(yield* actions, ["map", "renew", "map", "map"])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("never goes round in circles", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* reasonOf(Effect.scoped(map())), "OnlyPermanentLeases")
      assert.lengthOf(yield* actions, 3)
    }).pipe(Effect.provide(SimulatedRouter.layer({ quirks: ["OnlyPermanentLeases", "RefusesPermanentLeases"] })))
  )

  it.effect.each(["OnlyPermanentLeases", "RefusesLeasesAboveOneWeek"] as const)(
    "remembers what a router with %s takes",
    (quirk) =>
      Effect.gen(function* () {
        yield* map({ lifetime: "3 weeks" })
        yield* map({ lifetime: "3 weeks", internalPort: 1, externalPort: 1 })
        assert.deepStrictEqual(yield* actions, ["map", "map", "map"])
      }).pipe(Effect.provide(SimulatedRouter.layer({ quirks: [quirk] })))
  )

  it.effect("for a port of another host takes another, or fails where it must be this one", () =>
    Effect.gen(function* () {
      const mapper = yield* PortMapper.PortMapper
      const other = SimulatedRouter.layerHost({ localAddress: "192.168.77.3" })
      yield* mapper.map(request)
      yield* Effect.gen(function* () {
        const mapping = yield* map()
        assert.strictEqual(yield* formatted(mapping), "11.22.33.1:49152/tcp mapped")
        assert.strictEqual(yield* reasonOf(map({ strictExternalPort: true, internalPort: 1 })), "Conflict")
      }).pipe(Effect.scoped, Effect.provide(other))
      assert.deepStrictEqual(yield* ports, [12001])
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("finds no room in a full table", () =>
    Effect.gen(function* () {
      yield* map()
      assert.strictEqual(yield* reasonOf(map({ internalPort: 1, externalPort: 1 })), "OutOfResources")
    }).pipe(Effect.provide(SimulatedRouter.layer({ capacity: 1 })))
  )

  it.effect("for IPv6 is unsupported, for both families is IPv4's, for an IPv6 client is invalid", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* reasonOf(map({ family: "ipv6" })), "Unsupported")
      const internalAddress = NetAddress.ipFromStringUnsafe("2001:db8::2")
      assert.strictEqual(yield* reasonOf(map({ internalAddress })), "InvalidRequest")
      yield* map({ family: "both", internalAddress: NetAddress.ipFromStringUnsafe("192.168.77.5") })
      assert.deepStrictEqual(
        (yield* table).map((entry) => NetAddress.formatIp(entry.internalAddress)),
        ["192.168.77.5"]
      )
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )
})

describe("asking the router", () => {
  it.effect("lists everybody's mappings, and removes by key", () =>
    Effect.gen(function* () {
      const mapper = yield* PortMapper.PortMapper
      yield* map()
      yield* Effect.provide(map({ externalPort: 12002 }), SimulatedRouter.layerHost({ localAddress: "192.168.77.3" }))
      yield* TestClock.adjust("10 seconds")
      const list = yield* Stream.runCollect(mapper.list)
      assert.deepStrictEqual(
        list.map((one) => `${PortMapping.format(one)} ${NetAddress.formatIp(one.internalAddress)}`),
        ["11.22.33.1:12001/tcp 192.168.77.2", "11.22.33.1:12002/tcp 192.168.77.3"]
      )
      assert.deepStrictEqual(list[0]?.lifetime, Duration.seconds(90))
      for (const none of [
        { protocol: "udp", externalPort: 12001 },
        { protocol: "tcp", externalPort: -4 },
        { protocol: "tcp", externalPort: 12001, remoteHost: NetAddress.ipFromStringUnsafe("8.8.8.8") }
      ] as const) {
        assert.strictEqual(yield* reasonOf(mapper.remove(none)), "NoSuchMapping")
        assert.include(yield* ports, 12001)
      }
      yield* mapper.remove({ protocol: "tcp", externalPort: 12001 })
      assert.notInclude(yield* ports, 12001)
      assert.strictEqual(yield* reasonOf(mapper.remove({ protocol: "tcp", externalPort: 12001 })), "NoSuchMapping")
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("removes what is there from a router that says there was nothing", () =>
    Effect.gen(function* () {
      yield* map()
      yield* PortMapper.PortMapper.use((mapper) => mapper.remove({ protocol: "tcp", externalPort: 12001 }))
      assert.deepStrictEqual(yield* ports, [])
    }).pipe(Effect.provide(SimulatedRouter.layer({ quirks: ["DeletionSaysNoSuchEntry"] })))
  )

  it.effect("tells the external address, or that there is none", () =>
    Effect.gen(function* () {
      const mapper = yield* PortMapper.PortMapper
      assert.strictEqual(NetAddress.formatIp(yield* mapper.externalAddress), "11.22.33.1")
      for (const none of [undefined, null, "0.0.0.0"]) {
        yield* handle.use((router) => router.changeExternalAddress(none))
        assert.strictEqual(yield* reasonOf(mapper.externalAddress), "NoExternalAddress")
      }
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )

  it.effect("in silence times out", () =>
    Effect.gen(function* () {
      const mapper = yield* PortMapper.PortMapper
      yield* handle.use((router) => router.goSilent())
      for (const call of [
        mapper.externalAddress,
        Stream.runCollect(mapper.list),
        mapper.remove({ protocol: "tcp", externalPort: 1 })
      ]) {
        assert.deepStrictEqual(yield* timed(reasonOf<unknown, never>(call)), { value: "TimedOut", seconds: 2 })
      }
    }).pipe(Effect.provide(SimulatedRouter.layer()))
  )
})

describe("discovery", () => {
  const found = GatewayDiscovery.GatewayDiscovery.use(({ gateways }) => Stream.runCollect(gateways))

  it.effect("finds the router, unless it is silent", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        (yield* found).map(({ address, method, name }) => [NetAddress.formatIp(address), method, name]),
        [["192.168.77.1", "mock", "Attic"]]
      )
      yield* handle.use((router) => router.goSilent("10 seconds"))
      assert.deepStrictEqual(yield* timed(found), { value: [], seconds: 2 })
      assert.lengthOf(yield* found, 1)
    }).pipe(Effect.provide(SimulatedRouter.layer({ name: "Attic" })))
  )

  it.effect("and mapping heed the gateway that is selected", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* found, [])
      assert.strictEqual(yield* reasonOf(map()), "NoGateway")
      assert.deepStrictEqual(yield* actions, [])
    }).pipe(Effect.provide(SimulatedRouter.layer()), Effect.provideService(Gateway.Selected, "Cellar"))
  )

  it.effect("lets the automatic strategy choose the router that answers", () =>
    Effect.gen(function* () {
      const [first, second] = [
        yield* SimulatedRouter.make(),
        yield* SimulatedRouter.make({ externalAddress: "1.2.3.4" })
      ]
      yield* first.goSilent()
      const strategies = yield* Effect.forEach([first, second], (router) =>
        Effect.provideService(SimulatedRouter.makeStrategy(), SimulatedRouter.SimulatedRouter, router)
      )
      const mapper = yield* Automatic.make(strategies)
      const mapping = yield* timed(mapper.map(request))
      assert.strictEqual(yield* formatted(mapping.value), "1.2.3.4:12001/tcp mapped")
      assert.isBelow(mapping.seconds, 1)
    })
  )
})

describe("a router", () => {
  it.effect("is shared by two runs of one program", () =>
    Effect.gen(function* () {
      const router = SimulatedRouter.fromModel(new RouterModel.RouterModel())
      const run = SimulatedRouter.layerHost().pipe(
        Layer.provideMerge(Layer.succeed(SimulatedRouter.SimulatedRouter, router))
      )
      const killed = yield* Scope.make()
      yield* map().pipe(Scope.provide(killed), Effect.provide(run))
      yield* map().pipe(Effect.scoped, Effect.provide(run))
      assert.deepStrictEqual(yield* router.table, [])
      yield* Scope.close(killed, Exit.void)
    })
  )

  it.effect("has run for an hour when it is made", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 day")
      const { model } = yield* SimulatedRouter.make()
      assert.strictEqual(model.epochSeconds(yield* Clock.currentTimeMillis), 3600)
    })
  )

  it.effect.each([
    [{ capacity: -1 }, "capacity must be a whole number of mappings from 0, not -1"],
    [{ capacity: 1.5 }, "capacity must be a whole number of mappings from 0, not 1.5"],
    [{ capacity: Number.NaN }, "capacity must be a whole number of mappings from 0, not NaN"],
    ...(
      [
        [0, "0"],
        [Number.NaN, "NaN"],
        ["-1 seconds", `"-1 seconds"`],
        ["-Infinity", `"-Infinity"`],
        [{ hours: Number.NaN }, `{"hours":NaN}`],
        [Duration.millis(999), "999 millis"],
        ["nonsense", `"nonsense"`]
      ] as const
    ).map(
      ([maxLifetime, shown]) =>
        [
          { maxLifetime: maxLifetime as Duration.Input },
          `maxLifetime must be at least one second, for example "1 hour", or "Infinity" for no limit, not ${shown}`
        ] as const
    ),
    ...(
      [
        [-1, "-1"],
        [Number.NaN, "NaN"],
        ["Infinity", `"Infinity"`],
        ["soon", `"soon"`]
      ] as const
    ).map(
      ([requestTimeout, shown]) =>
        [
          { requestTimeout: requestTimeout as Duration.Input },
          `requestTimeout must be a finite time, for example "2 seconds", not ${shown}`
        ] as const
    )
  ] as const)("is not made of %j", ([options, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(SimulatedRouter.layer(options))))
      assert.strictEqual(error.reason._tag, "InvalidRequest")
      assert.strictEqual(error.message, message)
    })
  )

  it.effect.each([
    [{ address: "224.0.0.1" }, "the router's address must be the IPv4 address of one machine, not 224.0.0.1"],
    [{ address: "::1" }, "the router's address must be the IPv4 address of one machine, not ::1"],
    [{ localAddress: "0.0.0.0" }, "the local address must be the IPv4 address of one machine, not 0.0.0.0"],
    [{ localAddress: "192.168.77.1" }, "the local address 192.168.77.1 is the router's own: give the host another one"],
    [{ externalAddress: 5 as unknown as string }, "the external address must be text, not 5"],
    [
      { quirks: ["OnlyPermanentLeases", "LineFeedsOnly"] },
      "the quirk LineFeedsOnly cannot show in the mock layer: it runs on loopback"
    ],
    [
      { quirks: ["AnswersOnlyUnicast"] },
      "the quirk AnswersOnlyUnicast cannot show in the mock layer: it runs on loopback and in a SimulatedNetwork"
    ],
    [
      { quirks: ["PinholeNeedsGlobalAddress"] },
      "the quirk PinholeNeedsGlobalAddress cannot show in the mock layer: it runs in a SimulatedNetwork"
    ],
    [{ quirks: ["Nonsense" as "Chunked"] }, 'there is no quirk "Nonsense": Quirk.names has them all']
  ] as const)("is not made of %j either", ([options, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(SimulatedRouter.layer(options))))
      assert.deepStrictEqual([error.reason._tag, error.message], ["InvalidRequest", message])
    })
  )

  it.effect("refuses with what exists only", () =>
    Effect.gen(function* () {
      const router = yield* SimulatedRouter.make()
      const error = yield* Effect.flip(router.refuseNext("Conflict", "Bogus" as "Conflict"))
      assert.strictEqual(error.reason._tag, "InvalidRequest")
      assert.match(error.message, /^there is no refusal "Bogus", but Conflict, NotAuthorized, .*ActionFailed$/)
    })
  )

  it.effect("has room for nothing, or for leases of any length, where it is told so", () =>
    Effect.gen(function* () {
      const none = yield* SimulatedRouter.make({ capacity: 0 })
      assert.strictEqual(none.model.capacity, 0)
      const mapping = yield* Effect.provide(
        map({ lifetime: "3 weeks" }),
        SimulatedRouter.layer({ maxLifetime: "Infinity", requestTimeout: 0 })
      )
      assert.deepStrictEqual((yield* mapping.current).lifetime, Duration.weeks(3))
    })
  )

  it.effect.each([
    ["nonsense", `"nonsense"`],
    [-1, "-1"],
    [Number.NaN, "NaN"]
  ] as const)("is not silent for %s", ([time, shown]) =>
    Effect.gen(function* () {
      const router = yield* SimulatedRouter.make()
      const error = yield* Effect.flip(router.goSilent(time as Duration.Input))
      assert.strictEqual(
        error.message,
        `the time of goSilent must be a time, for example "1 hour", or "Infinity" to wait for wake, not ${shown}`
      )
      assert.strictEqual(error.reason._tag, "InvalidRequest")
      assert.isFalse(router.model.isSilent(yield* Clock.currentTimeMillis))
    })
  )

  it.effect("wants addresses that are some", () =>
    Effect.gen(function* () {
      for (const options of [{ address: "a" }, { externalAddress: "a" }, { localAddress: "a" }]) {
        assert.strictEqual(
          yield* reasonOf(Effect.scoped(Layer.build(SimulatedRouter.layer(options)))),
          "InvalidRequest"
        )
      }
      const router = yield* SimulatedRouter.make({ externalAddress: null })
      assert.isUndefined(router.model.externalAddress)
      assert.strictEqual(yield* reasonOf(router.changeExternalAddress("a")), "InvalidRequest")
      assert.strictEqual(yield* reasonOf(router.forward("tcp", 1, "a")), "InvalidRequest")
    })
  )
})

const path = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url))

// The example is a test: it runs as one of these.
describe("examples/simulated-router.ts", async () => {
  it("is what the README shows, in ten lines", () => {
    const program = readFileSync(path("examples/simulated-router.ts"), "utf8")
    assert.isAtMost(program.split("\n").filter((line) => line !== "").length, 10)
    for (const readme of ["README.md", "packages/testing/README.md"]) {
      assert.include(readFileSync(path(readme), "utf8"), `\`\`\`ts\n${program}\`\`\`\n`, readme)
    }
  })

  await import("../../examples/simulated-router.ts")
})

it("every kind of refusal is in the README's table", () => {
  const readme = readFileSync(path("packages/testing/README.md"), "utf8")
  const table = readme.slice(readme.indexOf("| refused with"), readme.indexOf("## A router on sockets"))
  for (const kind of Object.keys(RouterModel.igdCodes)) assert.include(table, `\`${kind}\``)
})
