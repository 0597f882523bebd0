import * as Gateway from "@effect-nat/core/Gateway"
import * as Http from "@effect-nat/core/Http"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import type * as Soap from "@effect-nat/upnp/Soap"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as WanIpv6FirewallControl from "@effect-nat/upnp/WanIpv6FirewallControl"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const strategy = (network: Network.Network) => Upnp.layer.pipe(Layer.provide(network.layer))

const request = { protocol: "tcp", internalPort: 12000, externalPort: 12001 } as const

const map = PortMapper.PortMapper.use((mapper) => mapper.map(request))

const mapWith = (more: object) => PortMapper.PortMapper.use((mapper) => mapper.map({ ...request, ...more }))

const entry = (more: Partial<PortMappingEntry.PortMappingEntry> = {}): PortMappingEntry.PortMappingEntry => ({
  remoteHost: "",
  externalPort: 12001,
  protocol: "TCP",
  internalPort: 12000,
  internalClient: Network.own,
  enabled: true,
  description: "effect-nat",
  leaseDuration: 7200,
  ...more
})

/** Lets every fiber run until it waits for time or for the test. */
const settle = Effect.forEach(Array.from({ length: 50 }), () => Effect.yieldNow, { discard: true })

/** Runs something that takes virtual time, and gives it all it needs. */
const inTime = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    yield* settle
    yield* TestClock.adjust("30 seconds")
    return yield* Fiber.join(fiber)
  })

describe("mapping", () => {
  it.effect("adds one entry and deletes it by external port when the scope closes [IP1 2.4.15-a, IGD2 4.4.3-a]", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const network = Network.makeNetwork({ devices: [router] })
      yield* Effect.gen(function* () {
        const mapping = yield* map
        const current = yield* mapping.current
        assert.strictEqual(PortMapping.format(current), "11.22.33.1:12001/tcp")
        assert.strictEqual(current.method, "upnp")
        assert.strictEqual(PortMapping.lifetimeSeconds(current), 7200)
        assert.deepStrictEqual(router.entries, [entry()])
      }).pipe(Effect.scoped, Effect.provide(strategy(network)))
      assert.deepStrictEqual(router.entries, [])
      assert.deepStrictEqual(router.calls, [
        "GetSpecificPortMappingEntry(, 12001, TCP)",
        "AddPortMapping(, 12001, TCP, 12000, 192.168.1.2, 1, effect-nat, 7200)",
        "GetExternalIPAddress()",
        "GetSpecificPortMappingEntry(, 12001, TCP)",
        "GetSpecificPortMappingEntry(, 12001, TCP)",
        "DeletePortMapping(, 12001, TCP)"
      ])
      assert.strictEqual(network.openSockets(), 0)
    })
  )

  it.effect("renews in place and notices a new external address [IP1 2.4.16-a]", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const network = Network.makeNetwork({ devices: [router] })
      yield* Effect.gen(function* () {
        const mapping = yield* map
        router.setExternalAddress("11.22.33.9")
        // It is asked after some five minutes; the renewal that was due anyway comes after 54 more.
        yield* TestClock.adjust("50 minutes")
        yield* settle
        assert.strictEqual(PortMapping.format(yield* mapping.current), "11.22.33.9:12001/tcp")
        assert.lengthOf(
          router.calls.filter((call) => call.startsWith("AddPortMapping")),
          2
        )
        assert.notInclude(router.calls, "DeletePortMapping(, 12001, TCP)")
        assert.lengthOf(
          network.requests.filter((line) => line.startsWith("GET")),
          1
        )
      }).pipe(Effect.scoped, Effect.provide(strategy(network)))
    })
  )

  it.effect("follows this host to another address, and leaves nothing for the old one [IP1 2.2.19-a]", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const network = Network.makeNetwork({ devices: [router] })
      yield* Effect.gen(function* () {
        const mapping = yield* map
        network.moveTo("192.168.1.3")
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.deepStrictEqual(
          router.entries.map(({ externalPort, internalClient }) => [internalClient, externalPort]),
          [["192.168.1.3", 12001]]
        )
        assert.strictEqual(NetAddress.formatInet(PortMapping.internal(yield* mapping.current)), "192.168.1.3:12000")
      }).pipe(Effect.scoped, Effect.provide(strategy(network)))
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect("searches once for many mappings and calls the router one call at a time", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ before: () => Effect.sleep("10 millis") })
      const network = Network.makeNetwork({ devices: [router] })
      yield* inTime(
        Effect.forEach([1, 2, 3, 4, 5], (n) => mapWith({ externalPort: 12000 + n }), { concurrency: "unbounded" }).pipe(
          Effect.andThen(Effect.sync(() => assert.lengthOf(router.entries, 5))),
          Effect.scoped,
          Effect.provide(strategy(network))
        )
      )
      assert.strictEqual(router.mostAtOnce(), 1)
      assert.lengthOf(
        network.requests.filter((line) => line.startsWith("GET")),
        1
      )
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect.each([725, 402])("is permanent after error %i, from then on, and deleted on exit [IP1 2.4.16-d]", (code) =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        before: (call) =>
          call.action === "AddPortMapping" && call.arguments.at(-1)?.[1] !== "0"
            ? Effect.fail(Router.fault(code))
            : Effect.void
      })
      yield* Effect.gen(function* () {
        const mapping = yield* map
        assert.strictEqual(PortMapping.lifetimeSeconds(yield* mapping.current), 0)
        assert.deepStrictEqual(router.entries, [entry({ leaseDuration: 0 })])
        yield* mapWith({ externalPort: 12002 })
        assert.lengthOf(
          router.calls.filter((call) => call.startsWith("AddPortMapping")),
          3
        )
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect.each([0, "3 weeks"])("asks a router of version 2 for a week instead of %s [IP2 2.3.16-a]", (lifetime) =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        services: [
          {
            serviceType: "urn:schemas-upnp-org:service:WANIPConnection:2",
            controlUrl: "/ctl",
            externalAddress: "11.22.33.1",
            status: "Connected"
          }
        ]
      })
      yield* mapWith({ lifetime }).pipe(
        Effect.flatMap((mapping) => mapping.current),
        Effect.tap((mapping) => Effect.sync(() => assert.strictEqual(PortMapping.lifetimeSeconds(mapping), 604_800))),
        Effect.scoped,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
      )
      assert.deepStrictEqual([...router.serviceTypes], ["urn:schemas-upnp-org:service:WANIPConnection:2"])
    })
  )

  const theirs = entry({ internalClient: "192.168.1.77" })

  it.effect.each([true, false])("takes another port where another host has it (router overwrites: %s)", (overwrites) =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ overwrites })
      router.entries.push(theirs)
      yield* Effect.gen(function* () {
        const mapping = yield* (yield* map).current
        assert.notStrictEqual(mapping.externalPort, 12001)
        assert.isAtLeast(mapping.externalPort ?? 0, 49_152)
        assert.deepStrictEqual(router.entries[0], theirs)
        assert.strictEqual(router.entries[1]?.externalPort, mapping.externalPort)
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [theirs])
    })
  )

  it.effect("fails with the port where no other is wanted", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(theirs)
      const error = yield* mapWith({ strictExternalPort: true }).pipe(
        Effect.flip,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
      )
      assert.strictEqual(error.reason._tag, "Conflict")
      assert.nestedPropertyVal(error.reason, "externalPort", 12001)
      assert.deepStrictEqual(router.entries, [theirs])
    })
  )

  it.effect("gives up after a few ports", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        before: (call) => (call.action === "AddPortMapping" ? Effect.fail(Router.fault(718)) : Effect.void)
      })
      const error = yield* map.pipe(Effect.flip, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.strictEqual(error.reason._tag, "Conflict")
      assert.lengthOf(
        router.calls.filter((call) => call.startsWith("AddPortMapping")),
        5
      )
    })
  )

  it.effect("takes the internal port where the router wants both the same [IP1 2.4.16-c]", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        before: (call) =>
          call.action === "AddPortMapping" && call.arguments[1]?.[1] !== call.arguments[3]?.[1]
            ? Effect.fail(Router.fault(724))
            : Effect.void
      })
      const mapping = yield* map.pipe(
        Effect.flatMap((mapping) => mapping.current),
        Effect.scoped,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
      )
      assert.strictEqual(mapping.externalPort, 12000)
    })
  )

  it.effect("takes over its own entry of an earlier run", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(entry({ leaseDuration: 0 }))
      const mapping = yield* map.pipe(
        Effect.flatMap((mapping) => mapping.current),
        Effect.scoped,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
      )
      assert.strictEqual(mapping.externalPort, 12001)
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect.each([714, 713, 730])("counts a mapping that is gone (error %i) as deleted [IP1 2.4.17-b]", (code) =>
    Effect.gen(function* () {
      const router: Router.Router = Router.makeRouter({
        before: () => (router.entries.length === 0 && isGone ? Effect.fail(Router.fault(code)) : Effect.void)
      })
      let isGone = false
      yield* Effect.gen(function* () {
        const mapping = yield* map
        // The router has shown that it does not hide what it has.
        yield* settle
        router.entries.length = 0
        isGone = true
        yield* mapping.release
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.notInclude(router.calls.join(), "DeletePortMapping")
    })
  )

  it.effect("deletes what a router hides though the release comes before that is known", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        before: (call) => (isLook(call) ? Effect.fail(Router.fault(714)) : Effect.void)
      })
      yield* Effect.flatMap(map, (mapping) => mapping.release).pipe(
        Effect.scoped,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
      )
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect("says that a release failed", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        before: (call) => (call.action === "DeletePortMapping" ? Effect.fail(Router.fault(606)) : Effect.void)
      })
      const error = yield* map.pipe(
        Effect.flatMap((mapping) => Effect.flip(mapping.release)),
        Effect.scoped,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))),
        Effect.provide(Logger.layer([]))
      )
      assert.strictEqual(error.reason._tag, "NotAuthorized")
    })
  )

  it.effect("leaves nothing where the request was interrupted after the router took it", () =>
    Effect.gen(function* () {
      const taken = yield* Deferred.make<void>()
      const router = Router.makeRouter({
        after: (call) =>
          call.action === "AddPortMapping"
            ? Effect.andThen(Deferred.succeed(taken, undefined), Effect.never)
            : Effect.void
      })
      yield* Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Effect.scoped(map))
        yield* Deferred.await(taken)
        assert.lengthOf(router.entries, 1)
        yield* Fiber.interrupt(fiber)
      }).pipe(Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect("undoes a request that timed out, on the port it tried last, and leaves the others' alone", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        after: (call) => (call.action === "AddPortMapping" ? Effect.never : Effect.void)
      })
      router.entries.push(theirs)
      const error = yield* inTime(
        Effect.scoped(map).pipe(Effect.flip, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      )
      assert.strictEqual(error.reason._tag, "TimedOut")
      assert.lengthOf(
        router.calls.filter((call) => call.startsWith("DeletePortMapping")),
        1
      )
      assert.deepStrictEqual(router.entries, [theirs])
    })
  )

  it.effect("does not undo what another made meanwhile", () =>
    Effect.gen(function* () {
      const router: Router.Router = Router.makeRouter({
        before: (call) =>
          call.action === "AddPortMapping"
            ? Effect.andThen(
                Effect.sync(() => void router.entries.push(theirs)),
                Effect.never
              )
            : Effect.void
      })
      yield* inTime(
        Effect.scoped(map).pipe(Effect.flip, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      )
      assert.deepStrictEqual(router.entries, [theirs])
    })
  )

  it.effect("goes on behind another NAT, and warns", () =>
    Effect.gen(function* () {
      const warnings: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        if (logLevel === "Warn") warnings.push(String(message))
      })
      const router = Router.makeRouter()
      router.setExternalAddress("100.64.3.4")
      const mapping = yield* map.pipe(
        Effect.flatMap((mapping) => mapping.current),
        Effect.scoped,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))),
        Effect.provide(Logger.layer([logger]))
      )
      assert.strictEqual(PortMapping.format(mapping), "100.64.3.4:12001/tcp")
      assert.lengthOf(warnings, 1)
      assert.include(warnings[0] ?? "", "carrier-grade NAT")
    })
  )

  it.effect.each(["", "0.0.0.0", "not an address"])("maps without an external address where it is '%s'", (address) =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.setExternalAddress(address)
      const network = Network.makeNetwork({ devices: [router] })
      const mapping = yield* inTime(
        map.pipe(
          Effect.flatMap((mapping) => mapping.current),
          Effect.scoped,
          Effect.provide(strategy(network)),
          Effect.provide(Logger.layer([]))
        )
      )
      assert.isUndefined(mapping.externalAddress)
      assert.strictEqual(mapping.externalPort, 12001)
    })
  )

  it.effect("maps IPv4 where both are asked for, and no IPv6 where this host has none", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const network = Network.makeNetwork({ devices: [router] })
      const layer = strategy(network)
      const error = yield* mapWith({ family: "ipv6" }).pipe(Effect.flip, Effect.provide(layer))
      assert.strictEqual(error.reason._tag, "Unsupported")
      yield* Effect.scoped(mapWith({ family: "both" })).pipe(Effect.provide(layer))
    })
  )
})

describe("a request for the internal port itself", () => {
  const same = { externalPort: 12000 }
  const mapSame = mapWith(same)
  const add = "AddPortMapping(, 12000, TCP, 12000, 192.168.1.2, 1, effect-nat, 7200)"

  const mapped = (
    router: Router.Router,
    run: Effect.Effect<PortMapper.Mapping, unknown, PortMapper.PortMapper | Scope.Scope> = mapSame
  ) =>
    run.pipe(
      Effect.flatMap((mapping) => mapping.current),
      Effect.tap((mapping) => Effect.sync(() => assert.strictEqual(mapping.status, "mapped"))),
      Effect.scoped,
      Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
    )

  it.effect("takes a search, the description and two calls [UDA 2.11-a]", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const network = Network.makeNetwork({ devices: [router] })
      yield* Effect.gen(function* () {
        const mapping = yield* mapSame
        assert.deepStrictEqual(router.calls, [add, "GetExternalIPAddress()"])
        assert.deepStrictEqual(network.requests, [
          "GET 192.168.1.1:5000/desc.xml",
          "POST 192.168.1.1:5000/ctl/ip",
          "POST 192.168.1.1:5000/ctl/ip"
        ])
        assert.strictEqual(PortMapping.format(yield* mapping.current), "11.22.33.1:12000/tcp")
        yield* settle
        assert.deepStrictEqual(router.calls.slice(2), ["GetSpecificPortMappingEntry(, 12000, TCP)"])
      }).pipe(Effect.scoped, Effect.provide(strategy(network)))
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect("asks once for the address of many mappings, after all of them are there", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ before: () => Effect.sleep("10 millis") })
      yield* inTime(
        Effect.forEach([1, 2, 3], (n) => mapWith({ internalPort: n, externalPort: n }), {
          concurrency: "unbounded"
        }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      )
      assert.deepStrictEqual(
        router.calls.slice(0, 4).map((call) => call.replace(/\(.*/, "")),
        ["AddPortMapping", "AddPortMapping", "AddPortMapping", "GetExternalIPAddress"]
      )
      assert.lengthOf(
        router.calls.filter((call) => call.startsWith("GetExternal")),
        1
      )
    })
  )

  it.effect("takes over what an earlier run has left there under any name", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(entry({ externalPort: 12000, description: "left", leaseDuration: 0 }))
      const mapping = yield* mapped(router)
      assert.strictEqual(mapping.externalPort, 12000)
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect("leaves what another host has, which the router refuses to give [IP1 2.4.16-b]", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const held = entry({ externalPort: 12000, internalClient: "192.168.1.77" })
      router.entries.push(held)
      const mapping = yield* mapped(router)
      assert.isAtLeast(mapping.externalPort ?? 0, 49_152)
      assert.deepStrictEqual(router.entries, [held])
    })
  )

  it.effect("says who has the port where no other is wanted", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(entry({ externalPort: 12000, internalClient: "192.168.1.77", description: "theirs" }))
      const error = yield* Effect.flip(mapped(router, mapWith({ ...same, strictExternalPort: true })))
      assert.include(String(error), "192.168.1.77:12000")
      assert.lengthOf(leasesAsked(router), 1)
    })
  )

  it.effect("is looked at first where it is for another host, whose programs are not known here", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const held = entry({ externalPort: 12000, internalClient: "192.168.1.50", description: "theirs" })
      router.entries.push(held)
      const mapping = yield* mapped(router, mapWith({ ...same, internalAddress: Network.ip("192.168.1.50") }))
      assert.notStrictEqual(mapping.externalPort, 12000)
      assert.deepStrictEqual(router.entries, [held])
    })
  )

  it.effect.each([725, 402])("takes a permanent lease after error %i, after a look", (code) =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        before: (call) =>
          isAdd(call) && call.arguments.at(-1)?.[1] !== "0" ? Effect.fail(Router.fault(code)) : Effect.void
      })
      yield* mapped(router)
      assert.deepStrictEqual(leasesAsked(router), [7200, 0])
      assert.strictEqual(router.calls[1], "GetSpecificPortMappingEntry(, 12000, TCP)")
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect("is undone whatever the router calls it where it was interrupted", () =>
    Effect.gen(function* () {
      const taken = yield* Deferred.make<void>()
      const router: Router.Router = Router.makeRouter({
        after: (call) => {
          if (!isAdd(call)) return Effect.void
          router.entries[0] = entry({ externalPort: 12000, description: "UPnP" })
          return Effect.andThen(Deferred.succeed(taken, undefined), Effect.never)
        }
      })
      yield* Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Effect.scoped(mapSame))
        yield* Deferred.await(taken)
        yield* Fiber.interrupt(fiber)
      }).pipe(Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [])
    })
  )
})

describe("a router that forgets limited leases at once", () => {
  it.effect("gets permanent ones, and the mapping is renewed at once", () =>
    Effect.gen(function* () {
      const router: Router.Router = Router.makeRouter({
        after: (call) =>
          Effect.sync(() => {
            if (isAdd(call) && call.arguments.at(-1)?.[1] !== "0") router.entries.pop()
          })
      })
      yield* Effect.gen(function* () {
        const mapping = yield* map
        yield* settle
        assert.deepStrictEqual(leasesAsked(router), [7200, 7200, 0])
        assert.deepStrictEqual(router.entries, [entry({ leaseDuration: 0 })])
        yield* TestClock.adjust("5 seconds")
        yield* settle
        assert.strictEqual(PortMapping.lifetimeSeconds(yield* mapping.current), 0)
        yield* mapWith({ externalPort: 12002 })
        yield* settle
        assert.deepStrictEqual(leasesAsked(router), [7200, 7200, 0, 0, 0])
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect("gets them also where an earlier run has left one of those", () =>
    Effect.gen(function* () {
      const router: Router.Router = Router.makeRouter({
        after: (call) =>
          Effect.sync(() => {
            if (isAdd(call) && call.arguments.at(-1)?.[1] !== "0") router.entries.pop()
          })
      })
      router.entries.push(entry({ leaseDuration: 0 }))
      yield* Effect.gen(function* () {
        yield* map
        yield* settle
        assert.deepStrictEqual(router.entries, [entry({ leaseDuration: 0 })])
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
    })
  )

  it.effect("gets them with the renewal where it did not answer what it holds at first", () =>
    Effect.gen(function* () {
      let isAdded = false
      let isMute = true
      const router: Router.Router = Router.makeRouter({
        before: (call) =>
          Effect.suspend(() => {
            if (!isAdded || !isMute || call.action !== "GetSpecificPortMappingEntry") return Effect.void
            return Effect.fail(new Http.HttpError({ kind: "Closed", detail: "" }))
          }),
        after: (call) =>
          Effect.sync(() => {
            if (!isAdd(call)) return
            isAdded = true
            if (call.arguments.at(-1)?.[1] !== "0") router.entries.pop()
          })
      })
      yield* Effect.gen(function* () {
        yield* map
        yield* settle
        assert.deepStrictEqual(router.entries, [])
        isMute = false
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.deepStrictEqual(router.entries, [entry({ leaseDuration: 0 })])
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
    })
  )
})

describe("a service of the second version", () => {
  const version2 = {
    serviceType: "urn:schemas-upnp-org:service:WANIPConnection:2",
    controlUrl: "/ctl",
    externalAddress: "11.22.33.1",
    status: "Connected"
  }
  /** The port that is mapped is the service's own: it need not be looked at. */
  const samePort = { externalPort: 12000 }
  const theirs = entry({ internalClient: "192.168.1.77", ...samePort })

  const mapOn = (router: Router.Router, more: object = {}) =>
    mapWith(more).pipe(
      Effect.flatMap((mapping) => mapping.current),
      Effect.scoped,
      Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
    )

  it.effect.each([12000, 12500])(
    "is not asked for what another program of this host has, on a router that would give it away (port %i)",
    (internalPort) =>
      Effect.gen(function* () {
        const router = Router.makeRouter({ services: [version2], overwritesSameHost: true })
        const another = entry({ internalPort: 12500, description: "theirs" })
        router.entries.push(another)
        const mapping = yield* mapOn(router, { internalPort })
        assert.notStrictEqual(mapping.externalPort, 12001)
        assert.strictEqual(router.calls[0], "GetSpecificPortMappingEntry(, 12001, TCP)")
        assert.deepStrictEqual(router.entries, [another])
      })
  )

  // Some answer with a port that another program of this host has, and overwrite that.
  it.effect("is never asked for any port", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ services: [version2] })
      router.entries.push(theirs)
      assert.notStrictEqual((yield* mapOn(router)).externalPort, 12000)
      assert.notInclude(router.calls.join(), "AddAny")
    })
  )
})

describe("leases that a router refuses", () => {
  const refusing = (code: number, isRefused: (lease: number) => boolean) =>
    Router.makeRouter({
      before: (call) =>
        isAdd(call) && isRefused(Number(call.arguments.at(-1)?.[1])) ? Effect.fail(Router.fault(code)) : Effect.void
    })

  it.effect.each([
    ["no end", 601, 0, (lease: number) => lease === 0, [0, 604_800]],
    ["no end, as an invalid argument,", 402, 0, (lease: number) => lease === 0, [0, 604_800]],
    ["more than a week", 601, "3 weeks", (lease: number) => lease > 604_800, [1_814_400, 604_800]]
  ] as const)("become a week where one with %s is refused with error %i", ([, code, lifetime, isRefused, asked]) =>
    Effect.gen(function* () {
      const router = refusing(code, isRefused)
      const mapping = yield* mapWith({ lifetime }).pipe(
        Effect.flatMap((mapping) => mapping.current),
        Effect.scoped,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
      )
      assert.strictEqual(PortMapping.lifetimeSeconds(mapping), 604_800)
      assert.deepStrictEqual(leasesAsked(router), [...asked])
    })
  )

  it.effect("are said to be refused where none is taken", () =>
    Effect.gen(function* () {
      const router = refusing(402, () => true)
      const error = yield* map.pipe(Effect.flip, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.strictEqual(error.reason._tag, "Unsupported")
      assert.deepStrictEqual(leasesAsked(router), [7200, 0, 604_800])
    })
  )

  it.effect("without an end do not pile up: that of an earlier run is used again", () =>
    Effect.gen(function* () {
      const router = refusing(725, (lease) => lease !== 0)
      const left = entry({ externalPort: 50_123, leaseDuration: 0 })
      router.entries.push(entry({ internalClient: "192.168.1.77", leaseDuration: 0 }), left)
      yield* Effect.gen(function* () {
        const mapping = yield* (yield* map).current
        assert.strictEqual(mapping.externalPort, 50_123)
        assert.lengthOf(router.entries, 2)
        // One that this program holds is not used twice.
        const second = yield* (yield* mapWith({ externalPort: 12002 })).current
        assert.strictEqual(second.externalPort, 12002)
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.lengthOf(router.entries, 1)
    })
  )

  it.effect("without an end are not looked for elsewhere where the port must be the one that is wanted", () =>
    Effect.gen(function* () {
      const router = refusing(725, (lease) => lease !== 0)
      router.entries.push(entry({ externalPort: 50_123, leaseDuration: 0 }))
      const mapping = yield* mapWith({ strictExternalPort: true }).pipe(
        Effect.flatMap((mapping) => mapping.current),
        Effect.scoped,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
      )
      assert.strictEqual(mapping.externalPort, 12001)
    })
  )
})

const portsOf = (router: Router.Router) => router.entries.map((one) => [one.description, one.externalPort])

const leasesAsked = (router: Router.Router) =>
  router.calls.filter((call) => call.startsWith("Add")).map((call) => Number(/(\d+)\)$/.exec(call)?.[1]))

const isAdd = (call: Soap.Call) => call.action === "AddPortMapping"
const isLook = (call: Soap.Call) => call.action === "GetSpecificPortMappingEntry"

describe("what is not ours", () => {
  const program = entry({ description: "theirs", leaseDuration: 0 })
  const otherHost = entry({ internalClient: "192.168.1.77" })

  it.effect("is another program's mapping of the same service: another port is taken", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(program)
      yield* Effect.gen(function* () {
        const mapping = yield* (yield* map).current
        assert.notStrictEqual(mapping.externalPort, 12001)
        assert.deepStrictEqual(router.entries[0], program)
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [program])
    })
  )

  it.effect("is another program's mapping of the same service: a conflict where no other port is wanted", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(program)
      const error = yield* mapWith({ strictExternalPort: true }).pipe(
        Effect.flip,
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] })))
      )
      assert.strictEqual(error.reason._tag, "Conflict")
      assert.include(error.message, 'as "theirs"')
      assert.deepStrictEqual(router.entries, [program])
    })
  )

  it.effect("is what a second process of this host mapped under another description", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const network = Network.makeNetwork({ devices: [router] })
      yield* Effect.gen(function* () {
        yield* mapWith({ description: "first" })
        yield* Effect.scoped(mapWith({ description: "second" })).pipe(Effect.provide(strategy(network)))
        assert.deepStrictEqual(portsOf(router), [["first", 12001]])
      }).pipe(Effect.scoped, Effect.provide(strategy(network)))
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect.each([
    ["another port of this host", entry({ internalPort: 999 })],
    ["another program", program],
    ["another host", otherHost]
  ] as const)("is what %s has mapped since the router restarted: the release leaves it", ([, held]) =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      yield* Effect.gen(function* () {
        yield* map
        router.restart(6000)
        router.entries.push(held)
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [held])
    })
  )

  it.effect("is what another host has taken: the renewal leaves it, and another port is taken", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ overwrites: true })
      yield* Effect.gen(function* () {
        const mapping = yield* map
        router.entries[0] = otherHost
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.deepStrictEqual(router.entries[0], otherHost)
        const current = yield* mapping.current
        assert.strictEqual(current.status, "mapped")
        assert.notStrictEqual(current.externalPort, 12001)
        assert.strictEqual(router.entries.length, 2)
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [otherHost])
    })
  )

  it.effect("is what another host has taken while this one moved", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ overwrites: true })
      const network = Network.makeNetwork({ devices: [router] })
      yield* Effect.gen(function* () {
        yield* map
        network.moveTo("192.168.1.3")
        router.entries[0] = otherHost
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.deepStrictEqual(
          router.entries.map((one) => one.internalClient),
          ["192.168.1.77", "192.168.1.3"]
        )
      }).pipe(Effect.scoped, Effect.provide(strategy(network)))
      assert.deepStrictEqual(router.entries, [otherHost])
    })
  )
})

describe("what is ours", () => {
  const held = (router: Router.Router) =>
    Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const mapping = yield* map
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.lengthOf(
          router.calls.filter((call) => call.startsWith("AddPortMapping")),
          2
        )
        assert.strictEqual((yield* mapping.current).externalPort, 12001)
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [])
    })

  it.effect.each(["effe", "", "UPnP"])("is renewed and deleted where the router calls it '%s'", (description) => {
    const router: Router.Router = Router.makeRouter({
      after: (call) =>
        Effect.sync(() => {
          if (isAdd(call)) router.entries[0] = entry({ description })
        })
    })
    return held(router)
  })

  it.effect.each([401, 501])("is renewed and deleted where the router answers %i to every look", (code) =>
    held(Router.makeRouter({ before: (call) => (isLook(call) ? Effect.fail(Router.fault(code)) : Effect.void) }))
  )

  it.effect.each([714, 730])("is kept with its limited lease where the router answers %i to every look", (code) =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        before: (call) => (isLook(call) ? Effect.fail(Router.fault(code)) : Effect.void)
      })
      yield* Effect.gen(function* () {
        yield* map
        yield* settle
        // As it was, once more, without an end, and as it was again; then it is known that this router hides.
        assert.deepStrictEqual(leasesAsked(router), [7200, 7200, 0, 7200])
        assert.deepStrictEqual(router.entries, [entry()])
        yield* mapWith({ externalPort: 12002 })
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.deepStrictEqual(leasesAsked(router).slice(4), [7200, 7200, 7200])
      }).pipe(Effect.scoped, Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
      assert.deepStrictEqual(router.entries, [])
    })
  )
})

describe("a request of unknown outcome", () => {
  const warned: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel === "Warn") warned.push(String(message))
  })

  /** Interrupts the request when the router has taken it. */
  const interrupted = Effect.fnUntraced(function* (
    onLook: (looks: number) => Effect.Effect<void, Soap.UpnpFault>,
    description = "effect-nat"
  ) {
    warned.length = 0
    const taken = yield* Deferred.make<void>()
    let looks = 0
    const router: Router.Router = Router.makeRouter({
      before: (call) => (isLook(call) ? Effect.suspend(() => onLook(looks++)) : Effect.void),
      after: (call) => {
        if (!isAdd(call)) return Effect.void
        router.entries[0] = entry({ description })
        return Effect.andThen(Deferred.succeed(taken, undefined), Effect.never)
      }
    })
    yield* Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(Effect.scoped(map))
      yield* Deferred.await(taken)
      yield* Fiber.interrupt(fiber)
    }).pipe(
      Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))),
      Effect.provide(Logger.layer([logger]))
    )
    return router
  })

  it.effect.each([401, 501, 606])("is undone where the port was free, though the router then answers %i", (code) =>
    Effect.gen(function* () {
      const router = yield* interrupted((looks) => (looks === 0 ? Effect.void : Effect.fail(Router.fault(code))))
      assert.deepStrictEqual(router.entries, [])
      assert.deepStrictEqual(warned, [])
    })
  )

  it.effect("is undone where the port was free, whatever the router calls the mapping", () =>
    Effect.gen(function* () {
      const router = yield* interrupted(() => Effect.void, "UPnP")
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect("is undone where error 730 said that the port was free", () =>
    Effect.gen(function* () {
      const router = yield* interrupted((looks) => Effect.fail(Router.fault(looks === 0 ? 730 : 501)))
      assert.deepStrictEqual(router.entries, [])
    })
  )

  it.effect("is left with a warning where the router never tells what is there", () =>
    Effect.gen(function* () {
      const router = yield* interrupted(() => Effect.fail(Router.fault(401)))
      assert.deepStrictEqual(router.entries, [entry()])
      assert.lengthOf(warned, 1)
      assert.include(warned[0] ?? "", "may have left a mapping on the gateway")
      assert.include(warned[0] ?? "", "401")
    })
  )
})

describe("a router that restarts", () => {
  it.effect("is found again at its new port, by the renewal and by the release", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const network = Network.makeNetwork({ devices: [router] })
      yield* Effect.gen(function* () {
        const mapping = yield* map
        router.restart(6000)
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.deepStrictEqual(router.entries, [entry()])
        assert.strictEqual((yield* mapping.current).status, "mapped")
        router.restart(7000)
        router.entries.push(entry())
      }).pipe(Effect.scoped, Effect.provide(strategy(network)))
      assert.deepStrictEqual(router.entries, [])
      assert.include(network.requests, "GET 192.168.1.1:7000/desc.xml")
    })
  )

  it.effect("is not confused with another router at another place", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ hears: () => isFirst })
      const other = Router.makeRouter({ address: "192.168.1.9", udn: "uuid:other", hears: () => !isFirst })
      let isFirst = true
      other.entries.push(entry({ internalClient: "192.168.1.50" }))
      const network = Network.makeNetwork({ devices: [router, other] })
      yield* inTime(
        Effect.gen(function* () {
          yield* map
          router.restart(6000)
          isFirst = false
        }).pipe(Effect.scoped, Effect.provide(strategy(network)), Effect.provide(Logger.layer([])))
      )
      assert.lengthOf(other.entries, 1)
      assert.notInclude(other.calls.join(), "DeletePortMapping")
    })
  )
})

describe("choosing the gateway", () => {
  it.effect("does not wait for a slow or dead one", () =>
    Effect.gen(function* () {
      const slow = Router.makeRouter({ address: "192.168.1.8", udn: "uuid:slow", description: () => Effect.never })
      const fast = Router.makeRouter({ answersAfter: "20 millis" })
      const fiber = yield* Effect.forkChild(
        Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [slow, fast] }).layer)
      )
      yield* settle
      yield* TestClock.adjust("20 millis")
      yield* settle
      const found = yield* Effect.sync(() => fiber.pollUnsafe())
      assert.isDefined(found)
      assert.strictEqual((yield* Fiber.join(fiber)).gateway.name, "Home Router")
    })
  )

  /** Answers every search with four places, and no call. */
  const mute = (services: ReadonlyArray<Router.RouterService>, onCall: () => void): Network.Device => {
    const address = "192.168.1.66"
    let n = 0
    return {
      ...Router.makeRouter({ address }),
      onSearch: (heard) =>
        Router.makeRouter({ address, location: `http://${address}:5000/${n++ % 4}.xml` }).onSearch(heard),
      onRequest: (request) => {
        if (request.method === "GET") {
          return Effect.succeed(Network.respond(200, Router.descriptionXml("Mute", "uuid:mute", services)))
        }
        onCall()
        return Effect.never
      }
    }
  }

  const service = (controlUrl: string): Router.RouterService => ({
    serviceType: Router.wanIp1,
    controlUrl,
    externalAddress: "",
    status: ""
  })

  it.effect("takes the best there is where another answers the search and then no call", () =>
    Effect.gen(function* () {
      const lineDown = Router.makeRouter({ name: "Line down" })
      lineDown.setExternalAddress("0.0.0.0")
      const services = ["/a", "/b", "/c", "/d"].map(service)
      const fiber = yield* Effect.forkChild(
        Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [mute(services, () => undefined), lineDown] }).layer)
      )
      yield* settle
      yield* TestClock.adjust("7 seconds")
      yield* settle
      assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(fiber)).gateway.name, "Line down")
    })
  )

  it.effect("asks a service that has many descriptions once", () =>
    Effect.gen(function* () {
      let calls = 0
      const device = mute([service("/only")], () => calls++)
      const error = yield* inTime(
        Effect.flip(Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [device] }).layer))
      )
      assert.strictEqual(error.reason._tag, "NoGateway")
      assert.include(error.message, "no answer")
      assert.strictEqual(calls, 1)
    })
  )

  it.effect("says so where one was not ready in time", () =>
    Effect.gen(function* () {
      const device = mute(["/a", "/b"].map(service), () => undefined)
      const fiber = yield* Effect.forkChild(
        Effect.flip(Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [device] }).layer))
      )
      yield* settle
      yield* TestClock.adjust("7 seconds")
      yield* settle
      assert.isDefined(fiber.pollUnsafe())
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error.reason._tag, "NoGateway")
      assert.include(error.message, "not ready to be used after 7s")
    })
  )

  const two = (first: object, second: object): ReadonlyArray<Router.RouterService> => [
    {
      serviceType: Router.wanIp1,
      controlUrl: "/ctl/ip",
      externalAddress: "0.0.0.0",
      status: "Disconnected",
      ...first
    },
    {
      serviceType: Router.wanPpp1,
      controlUrl: "/ctl/ppp",
      externalAddress: "11.22.33.1",
      status: "Connected",
      ...second
    }
  ]

  it.effect.each([
    ["the connected one", two({}, {}), "ppp"],
    ["the public address", two({ status: "Connected", externalAddress: "10.0.0.3" }, {}), "ppp"],
    ["the first of equals", two({ status: "Connected", externalAddress: "11.22.33.2" }, {}), "ip"],
    ["a connection before a stale address", two({ status: "Connected" }, { status: "Disconnected" }), "ip"]
  ] as const)("takes of two WAN services %s [IGD1 2.2-b, PPP1 2.1-a, 2.4.23-a]", ([, services, kind]) =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ services })
      const found = yield* inTime(Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [router] }).layer))
      assert.strictEqual(found.connection.wanService.kind, kind)
      assert.strictEqual(found.connection.wanService.service.controlUrl.path, `/ctl/${kind}`)
      assert.include(found.connection.wanService.service.serviceType, kind === "ip" ? "WANIP" : "WANPPP")
    })
  )

  it.effect.each([
    "Unconfigured",
    "Connecting",
    "Authenticating",
    "PendingDisconnect",
    "Disconnecting",
    "Disconnected",
    ""
  ])("takes a connected service before one that says %j [IP1 2.4.9-a]", (status) =>
    Effect.gen(function* () {
      const externalAddress = "11.22.33.2"
      const router = Router.makeRouter({ services: two({ status, externalAddress }, { externalAddress: "0.0.0.0" }) })
      const found = yield* inTime(Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [router] }).layer))
      assert.strictEqual(found.connection.wanService.kind, "ppp")
    })
  )

  it.effect("takes the default gateway as soon as it is described, and asks it nothing", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ answersAfter: "20 millis" })
      const other = Router.makeRouter({ address: "192.168.1.9", name: "Other", udn: "uuid:2" })
      const fiber = yield* Effect.forkChild(
        Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [other, router] }).layer)
      )
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("20 millis")
      yield* settle
      assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(fiber)).gateway.name, "Home Router")
      assert.deepStrictEqual(router.calls, [])
    })
  )

  it.effect("takes another gateway a moment after it has told its address where the default gateway is silent", () =>
    Effect.gen(function* () {
      const other = Router.makeRouter({ address: "192.168.1.9", name: "Other", udn: "uuid:2" })
      const fiber = yield* Effect.forkChild(Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [other] }).layer))
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("250 millis")
      yield* settle
      assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(fiber)).gateway.name, "Other")
    })
  )

  it.effect("takes another gateway where the default gateway has several services and no address", () =>
    Effect.gen(function* () {
      const services = two({ status: "Connected" }, { externalAddress: "" })
      const devices = [
        Router.makeRouter({ services }),
        Router.makeRouter({ address: "192.168.1.9", name: "Other", udn: "uuid:2", answersAfter: "1 second" })
      ]
      const found = yield* inTime(Effect.provide(Upnp.probe, Network.makeNetwork({ devices }).layer))
      assert.strictEqual(found.gateway.name, "Other")
    })
  )

  it.effect("takes the best of those that answer within a moment where none is the default gateway", () =>
    Effect.gen(function* () {
      const inner = Router.makeRouter({ address: "192.168.1.8", name: "Inner" })
      inner.setExternalAddress("10.0.0.2")
      const outer = Router.makeRouter({
        address: "192.168.1.9",
        name: "Outer",
        udn: "uuid:2",
        answersAfter: "100 millis"
      })
      const found = yield* inTime(Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [inner, outer] }).layer))
      assert.strictEqual(found.gateway.name, "Outer")
    })
  )

  it.effect("prefers a gateway with an external address to one without", () =>
    Effect.gen(function* () {
      const without = Router.makeRouter({ address: "192.168.1.8", name: "Without" })
      without.setExternalAddress("0.0.0.0")
      const withAddress = Router.makeRouter({
        address: "192.168.1.9",
        name: "With",
        udn: "uuid:2",
        answersAfter: "1 second"
      })
      const found = yield* inTime(
        Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [without, withAddress] }).layer)
      )
      assert.strictEqual(found.gateway.name, "With")
    })
  )

  it.effect.each(["Attic", "192.168.1.9", "uuid:2"])("takes the one called %s", (selected) =>
    Effect.gen(function* () {
      const devices = [Router.makeRouter(), Router.makeRouter({ address: "192.168.1.9", name: "Attic", udn: "uuid:2" })]
      const found = yield* inTime(
        Effect.provide(Upnp.probe, Network.makeNetwork({ devices }).layer).pipe(
          Effect.provideService(Gateway.Selected, selected)
        )
      )
      assert.strictEqual(found.gateway.name, "Attic")
      assert.lengthOf(devices[0]?.calls ?? [], 0)
    })
  )

  it.effect("names the gateways there are where none is the one wanted", () =>
    Effect.gen(function* () {
      const error = yield* inTime(
        Effect.flip(Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [Router.makeRouter()] }).layer)).pipe(
          Effect.provideService(Gateway.Selected, "Cellar")
        )
      )
      assert.strictEqual(error.reason._tag, "NoGateway")
      assert.include(error.message, "Home Router (192.168.1.1)")
    })
  )

  it.effect("changes nothing on the router", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      yield* Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [router] }).layer)
      assert.deepStrictEqual(router.calls, [])
    })
  )

  it.effect.each([1, 2])("comes with the client of all its services, of which %i map: one call at a time", (count) =>
    Effect.gen(function* () {
      const connections = ["/1", "/2"].map((controlUrl) => ({
        serviceType: Router.wanIp1,
        controlUrl,
        externalAddress: "11.22.33.1",
        status: "Connected"
      }))
      const router = Router.makeRouter({
        before: () => Effect.sleep("10 millis"),
        services: connections.slice(0, count),
        firewall: { isEnabled: true, isInboundPinholeAllowed: true }
      })
      const { client, connection, device } = yield* inTime(
        Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [router] }).layer)
      )
      const firewalls = DeviceDescription.servicesOf(device, DeviceDescription.serviceTypes.wanIpv6FirewallControl)
      const asked = firewalls.map(({ service }) => WanIpv6FirewallControl.make(client, service).getFirewallStatus)
      yield* inTime(Effect.all([connection.getExternalIpAddress, ...asked], { concurrency: "unbounded" }))
      assert.strictEqual(router.calls.at(-1), "GetFirewallStatus()")
      assert.strictEqual(router.mostAtOnce(), 1)
    })
  )

  it.effect("says that UPnP is often switched off where nobody answers, once for many requests", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [] })
      const errors = yield* inTime(
        Effect.forEach([1, 2, 3], () => Effect.flip(map), { concurrency: "unbounded" }).pipe(
          Effect.scoped,
          Effect.provide(strategy(network))
        )
      )
      for (const error of errors) {
        assert.strictEqual(error.reason._tag, "NoGateway")
        assert.include(error.message, "UPnP is often switched off")
      }
      assert.lengthOf(
        network.searches.filter((search) => search.to === Network.routerAddress && search.searchTarget === "ssdp:all"),
        3
      )
    })
  )

  it.effect.each([
    ["a DOCTYPE", `<!DOCTYPE root [<!ENTITY a "b">]>${Router.descriptionXml("&a;", "uuid:1", [])}`],
    ["too much text", `<root>${" ".repeat(200_000)}</root>`],
    ["no XML", "<html><p>Please log in</html>"],
    ["nothing", ""],
    ["no service that maps ports", Router.descriptionXml("Printer", "uuid:1", [])],
    ["deep nesting", `${"<a>".repeat(5000)}${"</a>".repeat(5000)}`],
    ["dangerous names", "<root><device><__proto__>1</__proto__></device></root>"]
  ] as const)("refuses a description with %s", ([, text]) =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ description: () => Effect.succeed(Network.respond(200, text)) })
      const error = yield* inTime(
        Effect.flip(Effect.provide(Upnp.probe, Network.makeNetwork({ devices: [router] }).layer))
      )
      assert.strictEqual(error.reason._tag, "NoGateway")
      assert.deepStrictEqual(router.calls, [])
    })
  )
})

describe("asking the router", () => {
  const ask = <A, E>(
    router: Router.Router,
    f: (mapper: PortMapper.PortMapper["Service"]) => Effect.Effect<A, E, never>
  ) =>
    inTime(
      PortMapper.PortMapper.use(f).pipe(
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))),
        Effect.provide(Logger.layer([]))
      )
    )

  it.effect("lists everybody's mappings", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(
        entry({ internalClient: "192.168.1.77", description: "<game> & more", leaseDuration: 0 }),
        entry({ internalClient: "a-name", externalPort: 1 }),
        entry({ protocol: "UDP", remoteHost: "8.8.8.8" })
      )
      const list = yield* ask(router, (mapper) => Stream.runCollect(mapper.list))
      assert.deepStrictEqual(list.map(PortMappingEntry.fromPortMapping), [router.entries[0], router.entries[2]])
      assert.strictEqual(list.map(PortMapping.format).join(), "11.22.33.1:12001/tcp,11.22.33.1:12001/udp")
    })
  )

  it.effect("asks for no more entries than are taken from the list", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      for (let port = 20_000; port < 20_100; port++) router.entries.push(entry({ externalPort: port }))
      const list = yield* ask(router, (mapper) => Stream.runCollect(Stream.take(mapper.list, 3)))
      assert.deepStrictEqual(
        list.map((one) => one.externalPort),
        [20_000, 20_001, 20_002]
      )
      assert.lengthOf(
        router.calls.filter((call) => call.startsWith("GetGenericPortMappingEntry")),
        3
      )
    })
  )

  const listed = Effect.fnUntraced(function* (router: Router.Router) {
    const warnings: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      if (logLevel === "Warn") warnings.push(String(message))
    })
    const fiber = yield* Effect.forkChild(
      PortMapper.PortMapper.use((mapper) => Stream.runCollect(mapper.list)).pipe(
        Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))),
        Effect.provide(Logger.layer([logger]))
      )
    )
    yield* settle
    yield* TestClock.adjust("60 seconds")
    yield* settle
    assert.isDefined(fiber.pollUnsafe())
    return { list: yield* Fiber.join(fiber), warnings }
  })

  it.effect.each(["1 second", "1 minute"] as const)(
    "lists what is on a router that has another port since it was asked %s ago",
    (time) =>
      Effect.gen(function* () {
        const router = Router.makeRouter()
        const listed = yield* Effect.gen(function* () {
          yield* PortMapper.PortMapper.use((mapper) => mapper.externalAddress)
          yield* TestClock.adjust(time)
          router.restart(6000)
          router.entries.push(entry())
          return yield* inTime(PortMapper.PortMapper.use((mapper) => Stream.runCollect(mapper.list)))
        }).pipe(Effect.provide(strategy(Network.makeNetwork({ devices: [router] }))))
        assert.deepStrictEqual(
          listed.map((one) => PortMapping.format(one)),
          ["11.22.33.1:12001/tcp"]
        )
      })
  )

  it.effect("says how many mappings are not listed", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(
        entry({ internalClient: "a-name" }),
        entry({ externalPort: 1 }),
        entry({ internalClient: "another-name", externalPort: 2 })
      )
      const { list, warnings } = yield* listed(router)
      assert.lengthOf(list, 1)
      assert.deepStrictEqual(warnings, [
        'mappings of Home Router that are not listed: 2 (the internal client "a-name" is no address)'
      ])
    })
  )

  it.effect("ends a list that takes longer than a minute, and says so", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        before: (call) => (call.action.startsWith("GetGeneric") ? Effect.sleep("3 seconds") : Effect.void)
      })
      router.entries.push(...Array.from({ length: 1000 }, (_, index) => entry({ externalPort: index + 1 })))
      const { list, warnings } = yield* listed(router)
      assert.isAtLeast(list.length, 18)
      assert.isAtMost(list.length, 20)
      assert.lengthOf(warnings, 1)
      assert.include(warnings[0] ?? "", "the list ends after 1m")
    })
  )

  it.effect("ends the list of a router that repeats itself", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const first = entry()
      Object.defineProperty(router.entries, "1", { get: () => first, configurable: true })
      router.entries[0] = first
      const list = yield* ask(router, (mapper) => Stream.runCollect(mapper.list))
      assert.lengthOf(list, 1)
    })
  )

  it.effect("fails where the router refuses to list", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({
        before: (call) => (call.action.startsWith("GetGeneric") ? Effect.fail(Router.fault(606)) : Effect.void)
      })
      const error = yield* ask(router, (mapper) => Effect.flip(Stream.runCollect(mapper.list)))
      assert.strictEqual(error.reason._tag, "NotAuthorized")
    })
  )

  it.effect("removes by key", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(entry(), entry({ protocol: "UDP" }))
      yield* ask(router, (mapper) => mapper.remove({ protocol: "udp", externalPort: 12001 }))
      assert.deepStrictEqual(router.entries, [entry()])
    })
  )

  it.effect("says that there is nothing to remove", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      router.entries.push(entry())
      const error = yield* ask(router, (mapper) => Effect.flip(mapper.remove({ protocol: "tcp", externalPort: 12002 })))
      assert.strictEqual(error.reason._tag, "NoSuchMapping")
      assert.deepStrictEqual(router.entries, [entry()])
    })
  )

  it.effect("tells the external address, or that there is none [IP1 2.4.18-a]", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      assert.strictEqual(NetAddress.formatIp(yield* ask(router, (mapper) => mapper.externalAddress)), "11.22.33.1")
      router.setExternalAddress("0.0.0.0")
      const error = yield* ask(router, (mapper) => Effect.flip(mapper.externalAddress))
      assert.strictEqual(error.reason._tag, "NoExternalAddress")
    })
  )

  it.effect("tells its gateway and maps with it after one search", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const network = Network.makeNetwork({ devices: [router] })
      yield* Effect.gen(function* () {
        const { mapper, probe } = yield* Upnp.makeStrategy
        assert.strictEqual((yield* probe).name, "Home Router")
        yield* mapper.map(request)
      }).pipe(Effect.scoped, Effect.provide(network.layer))
      assert.strictEqual(network.requests.filter((line) => line.startsWith("GET")).length, 1)
    })
  )

  it.effect.each([
    ["a page instead of SOAP", Effect.succeed(Network.respond(200, "<html></html>")), "MalformedAnswer"],
    ["an endless answer", Effect.succeed(Network.respond(200, " ".repeat(70_000))), "MalformedAnswer"],
    ["no permission", Effect.succeed(Network.respond(401, "")), "NotAuthorized"],
    ["silence", Effect.never, "TimedOut"],
    ["a cut connection", Effect.fail(new Http.HttpError({ kind: "Closed", detail: "" })), "MalformedAnswer"]
  ] as const)("says what is wrong when the router answers with %s", ([, answer, reason]) =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      let broken = false
      const device: Network.Device = {
        ...router,
        onRequest: (request) => (broken && request.method === "POST" ? answer : router.onRequest(request))
      }
      const error = yield* inTime(
        Effect.gen(function* () {
          const mapper = yield* PortMapper.PortMapper
          yield* mapper.externalAddress
          broken = true
          return yield* Effect.flip(mapper.remove({ protocol: "tcp", externalPort: 1 }))
        }).pipe(Effect.provide(strategy(Network.makeNetwork({ devices: [device] }))))
      )
      assert.strictEqual(error.reason._tag, reason)
    })
  )
})
