import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const own6 = "2a11:2233:77::2"
const router6 = "2a11:2233:77::1"
const request = { protocol: "tcp", internalPort: 12000, family: "ipv6", lifetime: "1 hour" } as const

const open = { isEnabled: true, isInboundPinholeAllowed: true }

/** A router that is the default gateway of both families, at `at` over IPv6, and its network. */
const home = (options: Router.RouterOptions = {}, network: Partial<Network.NetworkOptions> = {}, at = router6) => {
  const router = Router.makeRouter({ firewall: open, ...options })
  return {
    router,
    network: Network.makeNetwork({ devices: [router, Router.at(router, at)], gateway6: router6, own6, ...network })
  }
}

const on = (network: Network.Network) => Upnp.layer.pipe(Layer.provide(network.layer))

const map = (more: object = {}) => PortMapper.PortMapper.use((mapper) => mapper.map({ ...request, ...more }))

const settle = Effect.forEach(Array.from({ length: 80 }), () => Effect.yieldNow, { discard: true })

const names = (router: Router.Router) => router.calls.map((call) => call.slice(0, call.indexOf("(")))

/** How a request fails, with all the time it needs. */
const failure = ({ network }: ReturnType<typeof home>, more: object = {}) =>
  Effect.gen(function* () {
    const fiber = yield* map(more).pipe(Effect.scoped, Effect.flip, Effect.provide(on(network)), Effect.forkChild)
    yield* settle
    yield* TestClock.adjust("30 seconds")
    return yield* Fiber.join(fiber)
  })

describe("a pinhole", () => {
  it.effect("is opened to this host's own global address, and closed when the scope closes", () =>
    Effect.gen(function* () {
      const { network, router } = home()
      yield* Effect.gen(function* () {
        const { externalPort, ...mapping } = yield* (yield* map({ externalPort: 12001 })).current
        assert.strictEqual(externalPort, 12000)
        assert.strictEqual(NetAddress.formatIp(mapping.externalAddress ?? Network.ip("::")), own6)
        assert.strictEqual(NetAddress.formatIp(mapping.internalAddress), own6)
        assert.deepStrictEqual([...router.pinholes.values()], [`[${own6}]:12000/6 3600`])
      }).pipe(Effect.scoped, Effect.provide(on(network)))
      assert.deepStrictEqual(names(router), ["GetFirewallStatus", "AddPinhole", "DeletePinhole"])
      assert.isTrue(network.requests.filter((line) => line.startsWith("POST")).every((line) => line.includes(router6)))
      assert.deepStrictEqual(router.pinholes.size, 0)
      assert.isTrue(network.searches.every(({ to }) => !to.includes(":")))
    })
  )

  it.effect.each([
    [0, 86_400],
    ["3 days", 86_400],
    ["90 minutes", 5400]
  ] as const)("is opened for a day at most (%s: %i seconds), and is renewed in place", ([lifetime, seconds]) =>
    Effect.gen(function* () {
      const { network, router } = home()
      yield* Effect.gen(function* () {
        const mapping = yield* map({ lifetime })
        assert.strictEqual(PortMapping.lifetimeSeconds(yield* mapping.current), seconds)
        yield* TestClock.adjust("13 hours")
        yield* settle
        assert.include(names(router), "UpdatePinhole")
        assert.lengthOf(
          names(router).filter((name) => name === "AddPinhole"),
          1
        )
        assert.deepStrictEqual([...router.pinholes.values()], [`[${own6}]:12000/6 ${seconds}`])
      }).pipe(Effect.scoped, Effect.provide(on(network)))
    })
  )

  it.effect.each([704, 402])("that is gone (error %i) is opened anew, and counts as closed", (code) =>
    Effect.gen(function* () {
      let isLost = false
      const { network, router } = home({
        before: ({ action }) =>
          isLost && (action === "UpdatePinhole" || action === "DeletePinhole")
            ? Effect.fail(Router.fault(code))
            : Effect.void
      })
      yield* Effect.gen(function* () {
        const mapping = yield* map()
        isLost = true
        router.pinholes.clear()
        yield* TestClock.adjust("31 minutes")
        yield* settle
        assert.strictEqual((yield* mapping.current).status, "mapped")
        assert.deepStrictEqual([...router.pinholes.values()], [`[${own6}]:12000/6 3600`])
        yield* mapping.release
      }).pipe(Effect.scoped, Effect.provide(on(network)))
    })
  )

  it.effect("follows this host to another address", () =>
    Effect.gen(function* () {
      const { network, router } = home()
      yield* Effect.gen(function* () {
        const mapping = yield* map()
        network.moveTo6("2a11:2233:77::99")
        yield* TestClock.adjust("31 minutes")
        yield* settle
        assert.deepStrictEqual([...router.pinholes.values()], ["[2a11:2233:77::99]:12000/6 3600"])
        assert.include(PortMapping.format(yield* mapping.current), "[2a11:2233:77::99]:12000")
      }).pipe(Effect.scoped, Effect.provide(on(network)))
      assert.deepStrictEqual(router.pinholes.size, 0)
    })
  )

  it.effect("of two mappings of one port is closed with the last of them", () =>
    Effect.gen(function* () {
      const { network, router } = home()
      yield* Effect.gen(function* () {
        const one = yield* map()
        const other = yield* map({ description: "other" })
        yield* one.release
        assert.strictEqual(router.pinholes.size, 1)
        yield* other.release
        assert.strictEqual(router.pinholes.size, 0)
      }).pipe(Effect.scoped, Effect.provide(on(network)))
    })
  )

  it.effect("is not opened in a firewall that is off, and is when that has been switched on", () =>
    Effect.gen(function* () {
      const firewall = { isEnabled: false, isInboundPinholeAllowed: false }
      const { network, router } = home({ firewall })
      yield* Effect.gen(function* () {
        const mapping = yield* map()
        assert.strictEqual(PortMapping.format(yield* mapping.current), `[${own6}]:12000/tcp`)
        assert.notInclude(names(router), "AddPinhole")
        Object.assign(firewall, open)
        yield* TestClock.adjust("31 minutes")
        yield* settle
        assert.strictEqual(router.pinholes.size, 1)
      }).pipe(Effect.scoped, Effect.provide(on(network)))
      assert.strictEqual(router.pinholes.size, 0)
    })
  )

  it.effect("is closed though the answer that it is open never came", () =>
    Effect.gen(function* () {
      let isSilent = true
      const { network, router } = home({
        after: ({ action }) => (isSilent && action === "AddPinhole" ? Effect.never : Effect.void)
      })
      const fiber = yield* map().pipe(Effect.scoped, Effect.flip, Effect.provide(on(network)), Effect.forkChild)
      yield* settle
      assert.strictEqual(router.pinholes.size, 1)
      isSilent = false
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "TimedOut")
      assert.strictEqual(router.pinholes.size, 0)
    })
  )

  it.effect.each(["2a11:2233:77:0:11:22ff:fe33:1", router6])(
    "is opened by a router whose next hop is a link-local address, at %s",
    (address) =>
      Effect.gen(function* () {
        const router = Router.makeRouter({ firewall: open })
        const network = Network.makeNetwork({
          devices: [router, Router.at(router, NetAddress.formatIp(Network.ip(address)))],
          gateway6: "fe80::11:22ff:fe33:1",
          own6
        })
        yield* map().pipe(Effect.scoped, Effect.provide(on(network)))
        assert.include(names(router), "AddPinhole")
      })
  )
})

describe("no pinhole", () => {
  it.effect.each([
    ["no default route", {}, { gateway6: undefined }, "no default route for IPv6"],
    ["no global address", {}, { own6: "fd00::2" }, "no global IPv6 address"],
    ["no such service", { firewall: undefined }, {}, "no WANIPv6FirewallControl"],
    ["a router that is silent over IPv6", {}, { gateway6: "2a11:2233:77::5" }, "over IPv6 at 2a11:2233:77::5"],
    ["no place to look for the router", {}, { gateway6: "fe80::1", own6: "2a11:2233:77::1" }, "no global address"]
  ] as const)("is opened where there is %s, and that is said", ([, options, network, words]) =>
    Effect.gen(function* () {
      const error = yield* failure(home(options as Router.RouterOptions, network))
      assert.strictEqual(error.reason._tag, "Unsupported")
      assert.include(error.message, words)
    })
  )

  it.effect.each([router6, "2a11:2233:77:0:11:22ff:fe33:1"])(
    "is opened where there is no such service at %s, and that is said though another place is silent",
    (at) =>
      Effect.gen(function* () {
        const address = NetAddress.formatIp(Network.ip(at))
        const error = yield* failure(home({ firewall: undefined }, { gateway6: "fe80::11:22ff:fe33:1" }, address))
        assert.strictEqual(error.reason._tag, "Unsupported")
        assert.include(error.message, "no WANIPv6FirewallControl")
      })
  )

  it.effect("is opened by another device than the gateway", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ firewall: open })
      const other = Router.makeRouter({ firewall: open, udn: "uuid:other" })
      const network = Network.makeNetwork({ devices: [router, Router.at(other, router6)], gateway6: router6, own6 })
      assert.strictEqual((yield* failure({ router, network })).reason._tag, "Unsupported")
      assert.deepStrictEqual(other.calls, [])
    })
  )

  it.effect("is opened where the router lets nobody", () =>
    Effect.gen(function* () {
      const error = yield* failure(home({ firewall: { isEnabled: true, isInboundPinholeAllowed: false } }))
      assert.strictEqual(error.reason._tag, "NotAuthorized")
      assert.include(error.message, "lets nobody open pinholes")
    })
  )

  it.effect.each([
    [{ externalPort: 12001, strictExternalPort: true }, "Unsupported"],
    [{ internalAddress: Network.ip("192.168.1.2") }, "InvalidRequest"],
    [{ internalAddress: Network.ip("fe80::1") }, "InvalidRequest"]
  ] as const)("is opened for %j", ([more, tag]) =>
    Effect.gen(function* () {
      const one = home()
      assert.strictEqual((yield* failure(one, more)).reason._tag, tag)
      assert.deepStrictEqual(one.network.searches, [])
    })
  )
})

describe("many pinholes in one parallel scope", () => {
  const ports = Array.from({ length: 40 }, (_, index) => 20_000 + index)

  /** In steps, so that what waits for an answer and then sleeps gets on. */
  const passSeconds = (seconds: number) =>
    Effect.forEach(Array.from({ length: seconds }), () => Effect.andThen(TestClock.adjust("1 second"), settle), {
      discard: true
    })

  const openAll = Effect.fnUntraced(function* (scope: Scope.Scope) {
    const mapped = yield* Effect.forkChild(
      Effect.forEach(ports, (internalPort) => Scope.provide(map({ internalPort }), scope), { concurrency: "unbounded" })
    )
    yield* passSeconds(40)
    yield* Fiber.join(mapped)
  })

  it.effect("are all closed on a slow router, each within its time from when it is its turn", () => {
    const { network, router } = home({ before: () => Effect.sleep("300 millis") })
    return Effect.gen(function* () {
      const scope = yield* Scope.make("parallel")
      yield* openAll(scope)
      assert.strictEqual(router.pinholes.size, 40)
      const closed = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* passSeconds(20)
      yield* Fiber.join(closed)
      assert.strictEqual(router.pinholes.size, 0)
    }).pipe(Effect.scoped, Effect.provide(Layer.mergeAll(on(network), Logger.layer([]))))
  })

  it.effect("do not wait once for each of them for a router that is dead", () => {
    let isDead = false
    const { network } = home({ before: () => (isDead ? Effect.never : Effect.void) })
    return Effect.gen(function* () {
      const scope = yield* Scope.make("parallel")
      yield* openAll(scope)
      isDead = true
      const closed = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* passSeconds(12)
      assert.isDefined(closed.pollUnsafe())
    }).pipe(Effect.scoped, Effect.provide(Layer.mergeAll(on(network), Logger.layer([]))))
  })
})
