import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as Udp from "@effect-nat/core/Udp"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as SsdpListener from "@effect-nat/upnp/SsdpListener"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as Scope from "effect/Scope"
import * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Ear from "./ear.ts"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const settle = Effect.forEach(Array.from({ length: 80 }), () => Effect.yieldNow, { discard: true })

const pass = (time: Parameters<typeof TestClock.adjust>[0]) =>
  settle.pipe(Effect.andThen(TestClock.adjust(time)), Effect.andThen(settle))

/** A router that answers no search: all that is known of it is what it announces. */
const announcer = (options: Router.RouterOptions = {}) => Router.makeRouter({ ...options, hears: () => false })

const describeChange = (change: SsdpListener.Change): string => {
  const where = HttpUrl.format(change.gateway.location).replace("http://", "")
  if (change._tag === "Gone") return `Gone ${where} ${change.why}`
  if (change._tag === "Found") return `Found ${where}`
  const flags = [
    change.isRestarted ? "restarted" : "",
    change.isMoved ? "moved" : "",
    change.isReconfigured ? "reconfigured" : ""
  ]
  return `Updated ${where} ${flags.filter((flag) => flag !== "").join("+")}`
}

interface World {
  readonly ear: Ear.Ear
  readonly network: Network.Network
  readonly listener: SsdpListener.SsdpListener["Service"]
  /** What was reported so far, in words. */
  readonly changes: ReadonlyArray<string>
  readonly known: Effect.Effect<ReadonlyArray<string>>
}

const world = Effect.fnUntraced(function* (
  devices: ReadonlyArray<Network.Device>,
  options: {
    readonly network?: Partial<Network.NetworkOptions>
    readonly ear?: Parameters<typeof Ear.make>[1]
    readonly seams?: Layer.Layer<NetworkInterfaces.NetworkInterfaces>
  } = {}
) {
  const network = Network.makeNetwork({ devices, ...options.network })
  const ear = Ear.make(network, options.ear)
  const layer = options.seams === undefined ? ear.layer : Layer.merge(ear.layer, options.seams)
  const listener = yield* SsdpListener.make.pipe(Effect.provide(layer))
  const changes: Array<string> = []
  yield* Effect.forkScoped(
    Stream.runForEach(listener.changes, (change) => Effect.sync(() => changes.push(describeChange(change))))
  )
  yield* settle
  const known = Effect.map(listener.gateways, (all) =>
    all.map(({ location }) => HttpUrl.format(location).replace("http://", ""))
  )
  const made: World = { ear, network, listener, changes, known }
  return made
})

/** Starts it, and waits until its sockets are open. */
const begin = ({ listener }: World) => Effect.andThen(listener.start, settle)

const place = "192.168.1.1:5000/desc.xml"

const usn = (uuid: string) => `uuid:${uuid}::urn:schemas-upnp-org:device:InternetGatewayDevice:1`

const fetches = ({ network }: World) => network.requests.filter((one) => one.startsWith("GET"))

describe("announcements", () => {
  it.effect("alive of a new gateway appears, and its byebye takes it away [UDA 1.2.3-a]", () =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      yield* pass("10 seconds")
      assert.deepStrictEqual(here.changes, [])
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      assert.deepStrictEqual(yield* here.known, [place])
      here.ear.notify(Network.routerAddress, { kind: "byebye" })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`, `Gone ${place} ByeBye`])
      assert.deepStrictEqual(yield* here.known, [])
    }).pipe(Effect.scoped)
  )

  it.effect("a gateway says it many times, and is described once [UDA 1.3.3-c]", () =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      for (const target of ["upnp:rootdevice", Router.igd1, Router.wanIp1, "uuid:other"]) {
        here.ear.notify(Network.routerAddress, { kind: "alive", notificationType: target })
        here.ear.notify(Network.routerAddress, { kind: "alive", notificationType: target, usn: "uuid:2" })
      }
      yield* pass("1 second")
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      assert.deepStrictEqual(fetches(here), [`GET ${place}`])
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
    }).pipe(Effect.scoped)
  )

  it.effect("a byebye of another host, of another device and of one service alone count for nothing", () =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      here.ear.notify("192.168.1.66", { kind: "byebye" })
      here.ear.notify(Network.routerAddress, { kind: "byebye", usn: usn("other") })
      here.ear.notify(Network.routerAddress, { kind: "byebye", notificationType: Router.wanPpp1 })
      yield* pass("1 second")
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
    }).pipe(Effect.scoped)
  )

  it.effect("a byebye that is older than what was seen last comes late", () =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive", bootId: 7 })
      yield* settle
      here.ear.notify(Network.routerAddress, { kind: "byebye", bootId: 6 })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      here.ear.notify(Network.routerAddress, { kind: "byebye", bootId: 7 })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`, `Gone ${place} ByeBye`])
    }).pipe(Effect.scoped)
  )

  it.effect("another host that announces the same name is another gateway, and takes nothing from the first", () =>
    Effect.gen(function* () {
      const other = announcer({ address: "192.168.1.66" })
      const here = yield* world([announcer(), other])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      here.ear.notify("192.168.1.66", { kind: "alive", bootId: 99 })
      yield* settle
      here.ear.notify("192.168.1.66", { kind: "update", bootId: 1, nextBootId: 100 })
      here.ear.notify("192.168.1.66", { kind: "byebye", bootId: 100 })
      yield* settle
      assert.deepStrictEqual(here.changes, [
        `Found ${place}`,
        "Found 192.168.1.66:5000/desc.xml",
        "Gone 192.168.1.66:5000/desc.xml ByeBye"
      ])
      const [gateway] = yield* here.listener.gateways
      assert.strictEqual(gateway?.bootId, 1)
    }).pipe(Effect.scoped)
  )

  it.effect("a new boot id is a restart, a new config id a new description, a new place a move [UDA 1.2.2-def]", () =>
    Effect.gen(function* () {
      const router = announcer()
      const here = yield* world([router])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      here.ear.notify(Network.routerAddress, { kind: "alive", bootId: 2 })
      yield* settle
      here.ear.notify(Network.routerAddress, { kind: "alive", bootId: 2, configId: 5 })
      yield* settle
      router.restart(6000)
      here.ear.notify(Network.routerAddress, {
        kind: "alive",
        bootId: 3,
        configId: 5,
        location: "http://192.168.1.1:6000/desc.xml"
      })
      yield* settle
      assert.deepStrictEqual(here.changes, [
        `Found ${place}`,
        `Updated ${place} restarted`,
        `Updated ${place} reconfigured`,
        "Updated 192.168.1.1:6000/desc.xml restarted+moved"
      ])
      assert.deepStrictEqual(yield* here.known, ["192.168.1.1:6000/desc.xml"])
      assert.strictEqual(fetches(here).length, 4)
    }).pipe(Effect.scoped)
  )

  it.effect("an update names the boot id from now on: that is no restart [UDA 1.2.4-a]", () =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      here.ear.notify(Network.routerAddress, { kind: "update", bootId: 1, nextBootId: 2 })
      here.ear.notify(Network.routerAddress, { kind: "alive", bootId: 2 })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      assert.strictEqual((yield* here.listener.gateways)[0]?.bootId, 2)
      here.ear.notify(Network.routerAddress, { kind: "alive", bootId: 3 })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`, `Updated ${place} restarted`])
    }).pipe(Effect.scoped)
  )

  it.effect("a boot id that only some messages have is known from the first that has it", () =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      for (const bootId of [undefined, 4, undefined, 5]) {
        here.ear.notify(Network.routerAddress, { kind: "alive", bootId })
        yield* settle
      }
      assert.deepStrictEqual(here.changes, [`Found ${place}`, `Updated ${place} restarted`])
    }).pipe(Effect.scoped)
  )

  it.effect("what is no gateway is not looked at, however often it announces itself", () =>
    Effect.gen(function* () {
      const printer = announcer({ address: "192.168.1.9", services: [] })
      const here = yield* world([printer])
      yield* begin(here)
      here.ear.notify("192.168.1.9", { kind: "alive", notificationType: "upnp:rootdevice", usn: "uuid:p" })
      yield* settle
      assert.deepStrictEqual(fetches(here), [])
      here.ear.notify("192.168.1.9", { kind: "alive" })
      yield* settle
      here.ear.notify("192.168.1.9", { kind: "alive" })
      yield* pass("1 minute")
      here.ear.notify("192.168.1.9", { kind: "alive" })
      yield* settle
      assert.deepStrictEqual(fetches(here), ["GET 192.168.1.9:5000/desc.xml"])
      assert.deepStrictEqual(here.changes, [])
    }).pipe(Effect.scoped)
  )

  it.effect("a gateway that no longer maps ports is gone", () =>
    Effect.gen(function* () {
      let services: Router.RouterOptions["services"] = undefined
      const router = announcer({
        description: () =>
          Effect.sync(() =>
            Network.respond(
              200,
              Router.descriptionXml(
                "R",
                "uuid:1",
                services ?? [{ serviceType: Router.wanIp1, controlUrl: "/c", externalAddress: "", status: "" }]
              )
            )
          )
      })
      const here = yield* world([router])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      services = []
      here.ear.notify(Network.routerAddress, { kind: "alive", configId: 2 })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`, `Gone ${place} MapsNothing`])
    }).pipe(Effect.scoped)
  )
})

describe("how long it is believed", () => {
  it.effect("a gateway that says nothing is gone when its max-age is over, asked before [UDA 1.2.2-a, 1.3.3-d]", () =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      yield* pass("10 seconds")
      here.ear.notify(Network.routerAddress, { kind: "alive", maxAge: 600 })
      yield* pass("585 seconds")
      const before = here.network.searches.length
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      yield* pass("8 seconds")
      const asked = here.network.searches.slice(before)
      assert.strictEqual(asked.length, 6)
      assert.isTrue(asked.every((one) => one.to === Network.routerAddress))
      yield* pass("6 seconds")
      assert.include(
        here.network.searches.slice(before).map((one) => one.to),
        "239.255.255.250"
      )
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      yield* pass("1 second")
      assert.deepStrictEqual(here.changes, [`Found ${place}`, `Gone ${place} Expired`])
    }).pipe(Effect.scoped)
  )

  it.effect("an announcement renews it", () =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      for (let minute = 0; minute < 60; minute++) {
        here.ear.notify(Network.routerAddress, { kind: "alive", maxAge: 120 })
        yield* pass("1 minute")
      }
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      assert.strictEqual(fetches(here).length, 1)
    }).pipe(Effect.scoped)
  )

  it.effect.each([
    ["one that answers when it alone is asked", (heard: Network.Heard) => heard.unicast],
    [
      "one that answers only ssdp:all by multicast",
      (heard: Network.Heard) => !heard.unicast && heard.searchTarget === "ssdp:all"
    ]
  ] as const)("a gateway that never announces itself stays: %s", ([, hears]) =>
    Effect.gen(function* () {
      const here = yield* world([Router.makeRouter({ hears })])
      yield* begin(here)
      yield* pass("1 hour")
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      assert.strictEqual(fetches(here).length, 1)
    }).pipe(Effect.scoped)
  )

  it.effect("a gateway that is described at two places is where it was seen last, and gone with the last", () =>
    Effect.gen(function* () {
      const router = { ...announcer(), ports: () => [5000, 6000] }
      const here = yield* world([router])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive", maxAge: 120 })
      yield* settle
      const location = "http://192.168.1.1:6000/desc.xml"
      here.ear.notify(Network.routerAddress, { kind: "alive", maxAge: 60, location })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`, "Updated 192.168.1.1:6000/desc.xml moved"])
      yield* pass("1 minute")
      assert.deepStrictEqual(here.changes.slice(2), [`Updated ${place} moved`])
      yield* pass("1 minute")
      assert.deepStrictEqual(here.changes.slice(3), [`Gone ${place} Expired`])
    }).pipe(Effect.scoped)
  )

  it.effect("a gateway that is found at a fifth place when the first is asked after is gone in the end as well", () =>
    Effect.gen(function* () {
      let isAnswering = false
      const router = Router.makeRouter({ hears: ({ unicast }) => isAnswering && unicast })
      const here = yield* world([router])
      yield* begin(here)
      yield* pass("5 seconds")
      for (const port of [5001, 5002, 5003, 5004]) {
        router.restart(port)
        here.ear.notify(Network.routerAddress, {
          kind: "alive",
          maxAge: 60,
          location: `http://192.168.1.1:${port}/desc.xml`
        })
        yield* pass("1 second")
      }
      router.restart(5005)
      isAnswering = true
      yield* pass("47 seconds")
      assert.deepStrictEqual(here.changes.slice(4), ["Updated 192.168.1.1:5005/desc.xml moved"])
      isAnswering = false
      yield* pass("3 minutes")
      assert.deepStrictEqual(here.changes.slice(5), ["Gone 192.168.1.1:5005/desc.xml Expired"])
    }).pipe(Effect.scoped)
  )

  it.effect.each([
    [undefined, 1800],
    [0, 60],
    [4_294_967_295, 86_400]
  ] as const)("a max-age of %s is %s seconds", ([maxAge, seconds]) =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive", maxAge })
      yield* pass(`${seconds - 1} seconds`)
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      yield* pass("2 seconds")
      assert.deepStrictEqual(here.changes, [`Found ${place}`, `Gone ${place} Expired`])
    }).pipe(Effect.scoped)
  )

  it.effect("a gateway of a network that this host has left is out of reach, and the new network is searched", () =>
    Effect.gen(function* () {
      let own = "192.168.1.2/24"
      const list = Effect.sync(() => [
        { name: "eth0", isLoopback: false, addresses: [IpInterface.fromStringUnsafe(own)] }
      ])
      const neighbour = announcer({ address: "192.168.1.5" })
      const next = Router.makeRouter({ address: "10.0.0.1", udn: "uuid:next" })
      const here = yield* world([neighbour, next], {
        network: { gateway: undefined },
        seams: Layer.succeed(NetworkInterfaces.NetworkInterfaces, { list })
      })
      yield* begin(here)
      here.ear.notify("192.168.1.5", { kind: "alive", location: "http://192.168.1.5:5000/desc.xml" })
      yield* pass("10 seconds")
      own = "10.0.0.2/24"
      yield* pass("1 minute")
      assert.deepStrictEqual(here.changes, [
        "Found 192.168.1.5:5000/desc.xml",
        "Gone 192.168.1.5:5000/desc.xml OutOfReach",
        "Found 10.0.0.1:5000/desc.xml"
      ])
    }).pipe(Effect.scoped)
  )
})

describe("start, restart, stop", () => {
  it.effect("searches when it starts, once however often it is started", () =>
    Effect.gen(function* () {
      const here = yield* world([Router.makeRouter()])
      assert.deepStrictEqual(here.network.searches, [])
      yield* Effect.all([here.listener.start, here.listener.start, here.listener.start], { concurrency: "unbounded" })
      yield* pass("10 seconds")
      yield* begin(here)
      yield* pass("10 seconds")
      assert.strictEqual(here.ear.opened().length, 1)
      assert.strictEqual(here.network.searches.filter((one) => one.searchTarget === Router.igd1).length, 6)
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
    }).pipe(Effect.scoped)
  )

  it.effect("restart forgets and finds again: no change where nothing has changed", () =>
    Effect.gen(function* () {
      const here = yield* world([Router.makeRouter()])
      yield* here.listener.restart
      yield* pass("10 seconds")
      for (let time = 0; time < 12; time++) {
        yield* here.listener.restart
        assert.deepStrictEqual(yield* here.known, [])
        yield* pass("10 seconds")
        assert.deepStrictEqual(yield* here.known, [place])
      }
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      assert.strictEqual(fetches(here).length, 13)
      yield* Effect.all([here.listener.restart, here.listener.restart, here.listener.restart], {
        concurrency: "unbounded"
      })
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* here.known, [place])
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      assert.strictEqual(here.ear.openSockets(), 1)
    }).pipe(Effect.scoped)
  )

  it.effect("what is not found again after a restart is gone, what has moved has moved", () =>
    Effect.gen(function* () {
      let isThere = true
      const router = Router.makeRouter()
      const other = Router.makeRouter({ address: "192.168.1.7", udn: "uuid:7", hears: () => isThere })
      let at = 5000
      const moving: Network.Device = {
        ...router,
        onSearch: (heard) => Router.makeRouter({ location: `http://192.168.1.1:${at}/desc.xml` }).onSearch(heard)
      }
      const here = yield* world([moving, other])
      yield* begin(here)
      yield* pass("10 seconds")
      isThere = false
      at = 6000
      router.restart(6000)
      yield* here.listener.restart
      yield* pass("6 seconds")
      assert.deepStrictEqual(here.changes, [
        `Found ${place}`,
        "Found 192.168.1.7:5000/desc.xml",
        "Updated 192.168.1.1:6000/desc.xml moved"
      ])
      yield* pass("1 second")
      assert.deepStrictEqual(here.changes.slice(3), ["Gone 192.168.1.7:5000/desc.xml NotFoundAgain"])
    }).pipe(Effect.scoped)
  )

  it.effect("a byebye while it is looked for again is believed at once", () =>
    Effect.gen(function* () {
      const here = yield* world([announcer()])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      yield* here.listener.restart
      yield* settle
      here.ear.notify("192.168.1.66", { kind: "byebye" })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      here.ear.notify(Network.routerAddress, { kind: "byebye" })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`, `Gone ${place} ByeBye`])
      yield* pass("10 seconds")
      assert.strictEqual(here.changes.length, 2)
    }).pipe(Effect.scoped)
  )

  it.effect("stop closes every socket and reports nothing, and can be followed by anything", () =>
    Effect.gen(function* () {
      const here = yield* world([Router.makeRouter()])
      yield* here.listener.stop
      yield* begin(here)
      yield* settle
      assert.isAbove(here.ear.openSockets(), 1)
      yield* here.listener.stop
      assert.strictEqual(here.ear.openSockets(), 0)
      assert.deepStrictEqual(here.ear.joined(), [])
      yield* here.listener.stop
      const searches = here.network.searches.length
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* pass("1 hour")
      assert.strictEqual(here.network.searches.length, searches)
      assert.deepStrictEqual(yield* here.known, [])
      yield* here.listener.restart
      yield* begin(here)
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* here.known, [place])
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
    }).pipe(Effect.scoped)
  )

  it.effect("whoever comes late to the changes first hears what is there", () =>
    Effect.gen(function* () {
      const here = yield* world([Router.makeRouter()])
      yield* begin(here)
      yield* pass("10 seconds")
      const late = () =>
        Effect.map(Stream.runHead(here.listener.changes), (one) => one._tag === "Some" && one.value._tag)
      assert.strictEqual(yield* late(), "Found")
      // Found again it makes no change: who comes now must hear of it all the same.
      yield* here.listener.stop
      assert.strictEqual(yield* late(), "Found")
    }).pipe(Effect.scoped)
  )

  it.effect.each(["success", "failure", "interruption"] as const)(
    "the scope's end by %s closes every socket and ends the changes, in the middle of a search and a fetch",
    (how) =>
      Effect.gen(function* () {
        const slow = Router.makeRouter({ description: () => Effect.never })
        const network = Network.makeNetwork({ devices: [slow] })
        const ear = Ear.make(network)
        const ended: Array<string> = []
        const program = Effect.gen(function* () {
          const listener = yield* SsdpListener.make
          const outer = yield* Effect.forkDetach(
            Effect.ensuring(
              Stream.runDrain(listener.changes),
              Effect.sync(() => ended.push("changes"))
            )
          )
          yield* listener.start
          yield* settle
          assert.isAbove(ear.openSockets(), 1)
          if (how === "failure") return yield* Effect.fail("boom")
          if (how === "interruption") return yield* Effect.never
          return outer
        })
        const fiber = yield* Effect.forkChild(Effect.exit(program.pipe(Effect.scoped, Effect.provide(ear.layer))))
        yield* pass("500 millis")
        if (how === "interruption") yield* Fiber.interrupt(fiber)
        else yield* Fiber.join(fiber)
        yield* settle
        assert.strictEqual(ear.openSockets(), 0)
        assert.deepStrictEqual(ear.joined(), [])
        assert.deepStrictEqual(ended, ["changes"])
      })
  )

  it.effect("after its scope nothing starts it again", () =>
    Effect.gen(function* () {
      const ear = Ear.make(Network.makeNetwork({ devices: [Router.makeRouter()] }))
      const scope = yield* Scope.make()
      const listener = yield* SsdpListener.make.pipe(Scope.provide(scope), Effect.provide(ear.layer))
      yield* listener.start
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* listener.start
      yield* listener.restart
      yield* settle
      assert.strictEqual(ear.openSockets(), 0)
      const error = yield* Effect.flip(listener.anyOne)
      assert.strictEqual(error.reason._tag, "NoGateway")
      assert.deepStrictEqual(yield* Stream.runCollect(listener.changes), [])
      yield* listener.stop
    })
  )

  const slowToClose = Effect.gen(function* () {
    const ear = Ear.make(Network.makeNetwork({ devices: [Router.makeRouter()] }))
    const layer = Layer.effect(
      Udp.Udp,
      Effect.map(Udp.Udp, (udp) => ({
        open: (options) => Effect.tap(udp.open(options), () => Effect.addFinalizer(() => Effect.sleep("1 second")))
      }))
    ).pipe(Layer.provideMerge(ear.layer))
    const listener = yield* SsdpListener.make.pipe(Effect.provide(layer))
    yield* listener.start
    yield* pass("10 seconds")
    return { ear, listener }
  })

  it.effect("a restart that is interrupted leaves the listener whole", () =>
    Effect.gen(function* () {
      const { ear, listener } = yield* slowToClose
      const fiber = yield* Effect.forkChild(listener.restart)
      yield* pass("500 millis")
      const interruption = yield* Effect.forkChild(Fiber.interrupt(fiber))
      yield* pass("10 seconds")
      yield* Fiber.join(interruption)
      assert.strictEqual((yield* listener.gateways).length, 1)
      assert.strictEqual(ear.openSockets(), 1)
      yield* Effect.forkChild(listener.stop)
      yield* pass("10 seconds")
    })
  )

  it.effect("what comes while it stops waits: then every socket is closed", () =>
    Effect.gen(function* () {
      const { ear, listener } = yield* slowToClose
      const open: Array<number> = []
      const first = yield* Effect.forkChild(listener.stop)
      yield* pass("500 millis")
      const second = yield* Effect.forkChild(
        Effect.andThen(
          listener.stop,
          Effect.sync(() => open.push(ear.openSockets()))
        )
      )
      yield* pass("10 seconds")
      yield* Fiber.joinAll([first, second])
      assert.deepStrictEqual(open, [0])
    })
  )

  it.effect("the layer is started", () =>
    Effect.gen(function* () {
      const ear = Ear.make(Network.makeNetwork({ devices: [Router.makeRouter()] }))
      yield* Effect.gen(function* () {
        const listener = yield* SsdpListener.SsdpListener
        yield* pass("10 seconds")
        assert.strictEqual((yield* listener.gateways).length, 1)
      }).pipe(Effect.provide(SsdpListener.layer.pipe(Layer.provide(ear.layer))))
      assert.strictEqual(ear.openSockets(), 0)
    })
  )
})

describe("any one", () => {
  const anyOne = (here: World) => Effect.forkChild(Effect.result(here.listener.anyOne))

  it.effect("starts, and is there with the first description", () =>
    Effect.gen(function* () {
      const here = yield* world([Router.makeRouter({ answersAfter: "700 millis" })])
      const fiber = yield* anyOne(here)
      yield* pass("699 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* pass("1 millis")
      const found = yield* Fiber.join(fiber)
      assert.strictEqual(found._tag, "Success")
      assert.strictEqual((yield* here.listener.anyOne).gateway.name, "Home Router")
    }).pipe(Effect.scoped)
  )

  it.effect("is the default gateway where there is a choice", () =>
    Effect.gen(function* () {
      const other = Router.makeRouter({ address: "192.168.1.7", udn: "uuid:7" })
      const here = yield* world([other, Router.makeRouter()])
      yield* begin(here)
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* here.known, [place, "192.168.1.7:5000/desc.xml"])
      assert.isTrue((yield* here.listener.anyOne).isDefaultGateway)
    }).pipe(Effect.scoped)
  )

  it.effect("fails after a search that finds none, and says where to look", () =>
    Effect.gen(function* () {
      const here = yield* world([])
      const fiber = yield* anyOne(here)
      yield* pass("2999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* pass("1 millis")
      const outcome = yield* Fiber.join(fiber)
      assert.isTrue(outcome._tag === "Failure" && outcome.failure.reason._tag === "NoGateway")
      assert.include(outcome._tag === "Failure" ? outcome.failure.message : "", "UPnP is often switched off")
    }).pipe(Effect.scoped)
  )

  it.effect("searches again where the last search is long ago", () =>
    Effect.gen(function* () {
      let isOn = false
      const here = yield* world([Router.makeRouter({ hears: () => isOn })])
      yield* begin(here)
      yield* pass("10 seconds")
      isOn = true
      const found = yield* anyOne(here)
      yield* pass("1 second")
      assert.strictEqual((yield* Fiber.join(found))._tag, "Success")
    }).pipe(Effect.scoped)
  )

  it.effect("joins the search that is under way", () =>
    Effect.gen(function* () {
      const here = yield* world([])
      yield* begin(here)
      const fibers = yield* Effect.forEach([1, 2, 3], () => anyOne(here))
      yield* pass("3 seconds")
      yield* Fiber.joinAll(fibers)
      assert.strictEqual(here.network.searches.filter((one) => one.searchTarget === Router.igd1).length, 6)
    }).pipe(Effect.scoped)
  )

  it.effect("waits for a description that is on its way when the search is over, four seconds at the most", () =>
    Effect.gen(function* () {
      const here = yield* world([Router.makeRouter({ answersAfter: "2 seconds", description: () => Effect.never })])
      const fiber = yield* anyOne(here)
      yield* pass("5 seconds")
      assert.isUndefined(fiber.pollUnsafe())
      yield* pass("2 seconds")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Failure")
    }).pipe(Effect.scoped)
  )

  it.effect("is Unreachable at once where nothing can be sent", () =>
    Effect.gen(function* () {
      const reason = new DatagramSocket.DatagramSocketOpenError({ kind: "PermissionDenied", cause: new Error("no") })
      const layer = Layer.merge(
        Network.makeNetwork({ devices: [] }).layer,
        Layer.succeed(Udp.Udp, { open: () => Effect.fail(new DatagramSocket.DatagramSocketError({ reason })) })
      )
      const listener = yield* SsdpListener.make.pipe(Effect.provide(layer))
      const error = yield* Effect.flip(listener.anyOne)
      assert.strictEqual(error.reason._tag, "Unreachable")
    }).pipe(Effect.scoped)
  )

  it.effect("fails rather than waits for ever when the listener is stopped meanwhile", () =>
    Effect.gen(function* () {
      const here = yield* world([])
      const fiber = yield* anyOne(here)
      yield* pass("1 second")
      yield* here.listener.stop
      yield* settle
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Failure")
    }).pipe(Effect.scoped)
  )
})

describe("what goes wrong", () => {
  it.effect("a taken port 1900 is no reason not to search, and a gateway is found and kept", () =>
    Effect.gen(function* () {
      const here = yield* world([Router.makeRouter()], { ear: { cannotBind: ["any", "239.255.255.250"] } })
      yield* begin(here)
      yield* pass("1 hour")
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
    }).pipe(Effect.scoped)
  )

  it.effect("a slow description delays no other, neither found nor announced", () =>
    Effect.gen(function* () {
      const slow = { hears: () => true, description: () => Effect.never }
      const devices = Array.from({ length: 8 }, (_, index) =>
        Router.makeRouter({ ...slow, address: `192.168.1.${100 + index}`, udn: `uuid:${index}` })
      )
      const announced = announcer({ address: "192.168.1.50", udn: "uuid:50" })
      const here = yield* world([...devices, Router.makeRouter(), announced])
      yield* begin(here)
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      here.ear.notify("192.168.1.50", { kind: "alive", usn: usn("50") })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`, "Found 192.168.1.50:5000/desc.xml"])
    }).pipe(Effect.scoped)
  )

  it.effect("a description that fails is tried again at the next announcement, ten seconds later at the earliest", () =>
    Effect.gen(function* () {
      let isUp = false
      const here = yield* world([
        announcer({
          description: () =>
            Effect.sync(() =>
              isUp
                ? Network.respond(
                    200,
                    Router.descriptionXml("R", "uuid:1", [
                      { serviceType: Router.wanIp1, controlUrl: "/c", externalAddress: "", status: "" }
                    ])
                  )
                : Network.respond(503, "")
            )
        })
      ])
      yield* begin(here)
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      isUp = true
      here.ear.notify(Network.routerAddress, { kind: "alive", bootId: 2 })
      yield* pass("9 seconds")
      here.ear.notify(Network.routerAddress, { kind: "alive", bootId: 3 })
      yield* settle
      assert.strictEqual(fetches(here).length, 1)
      yield* pass("1 second")
      here.ear.notify(Network.routerAddress, { kind: "alive", bootId: 3 })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
    }).pipe(Effect.scoped)
  )

  it.effect("searches again, ever less often, while it knows no gateway", () =>
    Effect.gen(function* () {
      const here = yield* world([])
      yield* begin(here)
      yield* pass("10 seconds")
      const inOneHour = () => here.network.searches.filter((one) => one.searchTarget === Router.igd1).length / 6
      assert.strictEqual(inOneHour(), 1)
      yield* pass("1 hour")
      const first = inOneHour()
      assert.isAtMost(first, 9)
      assert.isAtLeast(first, 5)
      yield* pass("10 hours")
      assert.isAtMost(inOneHour() - first, 40)
      assert.isAtLeast(inOneHour() - first, 30)
    }).pipe(Effect.scoped)
  )

  it.effect("on two networks: both are searched and heard, in few datagrams", () =>
    Effect.gen(function* () {
      const second = Router.makeRouter({ address: "10.1.0.1", udn: "uuid:2" })
      const here = yield* world([Router.makeRouter(), second], {
        network: {
          interfaces: [
            ["eth0", "192.168.1.2/24"],
            ["wlan0", "10.1.2.3/16"]
          ]
        }
      })
      yield* begin(here)
      yield* settle
      assert.deepStrictEqual(here.ear.joined(), ["192.168.1.2", "10.1.2.3"])
      yield* pass("999 millis")
      assert.isAtMost(here.network.searches.length, 75)
      assert.deepStrictEqual([...here.changes].toSorted(), ["Found 10.1.0.1:5000/desc.xml", `Found ${place}`])
    }).pipe(Effect.scoped)
  )

  const storm = (here: World, count: number, say: (index: number) => Ear.Said) =>
    Effect.gen(function* () {
      for (let index = 0; index < count; index++) {
        here.ear.notify("192.168.1.66", say(index))
        if (index % 100 === 99) yield* pass("1 millis")
      }
      yield* pass("1 second")
    })

  it.effect.each([
    ["names at one place", (index: number): Ear.Said => ({ kind: "alive", usn: usn(String(index)) })],
    [
      "names at as many places",
      (index: number): Ear.Said => ({
        kind: "alive",
        usn: usn(String(index)),
        location: `http://192.168.1.66:5000/desc.xml?${index}`
      })
    ],
    ["boot ids", (index: number): Ear.Said => ({ kind: "alive", bootId: index })],
    ["comings and goings", (index: number): Ear.Said => ({ kind: index % 2 === 0 ? "alive" : "byebye" })]
  ] as const)("10,000 %s of one host keep no more than a few and fetch no more than six a minute", ([, say]) =>
    Effect.gen(function* () {
      let served = 0
      const router = announcer()
      const hostile: Network.Device = {
        ...announcer({ address: "192.168.1.66" }),
        onRequest: () =>
          Effect.sync(() =>
            Network.respond(
              200,
              Router.descriptionXml("H", `uuid:h${served++}`, [
                { serviceType: Router.wanIp1, controlUrl: "/c", externalAddress: "", status: "" }
              ])
            )
          )
      }
      const here = yield* world([router, hostile])
      yield* begin(here)
      yield* storm(here, 10_000, say)
      assert.isAtMost((yield* here.known).length, 4)
      assert.isAtMost(fetches(here).length, 6)
      assert.isAtLeast(fetches(here).length, 1)
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      assert.strictEqual((yield* here.known)[0], place)
    }).pipe(Effect.scoped)
  )

  it.effect("many hosts keep no more than 16, and room for the default gateway", () =>
    Effect.gen(function* () {
      const devices = Array.from({ length: 200 }, (_, index) =>
        announcer({ address: `192.168.1.${index + 20}`, udn: `uuid:${index}` })
      )
      const here = yield* world([...devices, announcer()])
      yield* begin(here)
      for (const { address } of devices) here.ear.notify(address, { kind: "alive" })
      yield* pass("1 second")
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      assert.strictEqual((yield* here.known)[0], place)
      assert.isAtMost((yield* here.known).length, 16)
      assert.isAtMost(fetches(here).length, 61)
    }).pipe(Effect.scoped)
  )

  it.effect("many hosts that only say that they are gateways are looked at no more than sixty times a minute", () =>
    Effect.gen(function* () {
      const devices = Array.from({ length: 200 }, (_, index) =>
        announcer({ address: `192.168.1.${index + 20}`, services: [] })
      )
      const here = yield* world([...devices, announcer()])
      yield* begin(here)
      for (const { address } of devices) {
        here.ear.notify(address, { kind: "alive" })
        yield* settle
      }
      assert.strictEqual(fetches(here).length, 60)
      here.ear.notify(Network.routerAddress, { kind: "alive" })
      yield* settle
      assert.deepStrictEqual(here.changes, [`Found ${place}`])
      yield* pass("1 minute")
      here.ear.notify("192.168.1.200", { kind: "alive" })
      yield* settle
      assert.strictEqual(fetches(here).length, 62)
    }).pipe(Effect.scoped)
  )
})
