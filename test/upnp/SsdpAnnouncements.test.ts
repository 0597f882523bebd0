import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as Udp from "@effect-nat/core/Udp"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as SsdpListener from "@effect-nat/upnp/SsdpListener"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Ear from "./ear.ts"
import * as Network from "./network.ts"

const settle = Effect.forEach(Array.from({ length: 50 }), () => Effect.yieldNow, { discard: true })

const collecting = (ear: Ear.Ear) =>
  Effect.gen(function* () {
    const all: Array<SsdpListener.Announcement> = []
    const fiber = yield* SsdpListener.announcements.pipe(
      Stream.runForEach((one) => Effect.sync(() => all.push(one))),
      Effect.provide(ear.layer),
      Effect.forkChild
    )
    yield* settle
    return { all, fiber }
  })

const home = () => Ear.make(Network.makeNetwork({ devices: [] }))

describe("what is heard", () => {
  it.effect("alive, update and byebye of the gateway, each as it comes, the location pinned to its sender", () =>
    Effect.gen(function* () {
      const ear = home()
      const { all, fiber } = yield* collecting(ear)
      ear.notify(Network.routerAddress, { kind: "alive", location: "http://8.8.8.8:5000/desc.xml" })
      ear.notify(Network.routerAddress, { kind: "update", bootId: 3, nextBootId: 4 })
      ear.notify("192.168.1.77", { kind: "byebye", location: "file:///nowhere" })
      yield* settle
      assert.deepStrictEqual(
        all.map(({ from, isDefaultGateway, location, notify }) => [
          notify.kind,
          NetAddress.formatIp(from),
          isDefaultGateway,
          location && HttpUrl.format(location)
        ]),
        [
          ["alive", "192.168.1.1", true, "http://192.168.1.1:5000/desc.xml"],
          ["update", "192.168.1.1", true, "http://192.168.1.1:5000/desc.xml"],
          ["byebye", "192.168.1.77", false, undefined]
        ]
      )
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(ear.openSockets(), 0)
    })
  )

  it.effect("nothing from outside of attached networks, no search, noise, or false location [UDA 1.1.5-a]", () =>
    Effect.gen(function* () {
      const ear = home()
      const { all, fiber } = yield* collecting(ear)
      ear.notify("8.8.8.8", { kind: "alive" })
      ear.notify("192.168.1.77", { kind: "alive", location: "https://192.168.1.77/" })
      ear.say("192.168.1.77", Ssdp.encode(new Ssdp.SearchRequest({ host: "", searchTarget: "ssdp:all", mx: 1 })))
      ear.say("192.168.1.77", Uint8Array.of(0, 1, 2))
      ear.say("192.168.1.77", new Uint8Array(0))
      ear.notify("192.168.1.77", { kind: "byebye" })
      yield* settle
      assert.deepStrictEqual(
        all.map(({ notify }) => notify.kind),
        ["byebye"]
      )
      yield* Fiber.interrupt(fiber)
    })
  )
})

describe("where it listens", () => {
  it.effect("on every own IPv4 address, loopback if the gateway is there, new ones in a minute [UDA 1.2-a]", () =>
    Effect.gen(function* () {
      const list = [
        { name: "lo", isLoopback: true, addresses: [IpInterface.fromStringUnsafe("127.0.0.1/8")] },
        { name: "eth0", isLoopback: false, addresses: [IpInterface.fromStringUnsafe("192.168.1.2/24")] },
        { name: "wlan0", isLoopback: false, addresses: [IpInterface.fromStringUnsafe("10.1.2.3/16")] },
        { name: "eth0", isLoopback: false, addresses: [IpInterface.fromStringUnsafe("fd00::2/64")] }
      ]
      const ear = home()
      const layer = Layer.merge(
        ear.layer,
        Layer.succeed(NetworkInterfaces.NetworkInterfaces, { list: Effect.sync(() => [...list]) })
      )
      const all: Array<string> = []
      const fiber = yield* SsdpListener.announcements.pipe(
        Stream.runForEach((one) => Effect.sync(() => all.push(NetAddress.formatIp(one.from)))),
        Effect.provide(layer),
        Effect.forkChild
      )
      yield* settle
      assert.deepStrictEqual(ear.joined(), ["192.168.1.2", "10.1.2.3"])
      list[2] = { name: "wlan0", isLoopback: false, addresses: [IpInterface.fromStringUnsafe("172.16.0.9/24")] }
      ear.notify("10.1.0.1", { kind: "byebye" })
      ear.notify("172.16.0.1", { kind: "byebye" })
      yield* settle
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.deepStrictEqual(ear.joined(), ["192.168.1.2", "172.16.0.9"])
      ear.notify("10.1.0.1", { kind: "byebye" })
      ear.notify("172.16.0.1", { kind: "byebye" })
      yield* settle
      assert.deepStrictEqual(all, ["10.1.0.1", "172.16.0.1"])
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(ear.joined(), [])
    })
  )

  it.effect("on an interface that comes up later as soon as the watch over the network tells of it", () =>
    Effect.gen(function* () {
      const lan = { name: "eth0", isLoopback: false, addresses: [IpInterface.fromStringUnsafe("192.168.1.2/24")] }
      let list: Array<typeof lan> = []
      const ear = home()
      const layer = Layer.merge(
        ear.layer,
        Layer.succeed(NetworkInterfaces.NetworkInterfaces, { list: Effect.sync(() => list) })
      )
      const watch = yield* Effect.provide(NetworkWatch.make(), layer)
      const fiber = yield* Stream.runDrain(SsdpListener.announcements).pipe(
        Effect.provide(layer),
        Effect.provideService(NetworkWatch.NetworkWatch, watch),
        Effect.forkChild
      )
      yield* settle
      assert.deepStrictEqual(ear.joined(), [])
      list = [lan]
      yield* TestClock.adjust(NetworkWatch.interval)
      yield* settle
      assert.deepStrictEqual(ear.joined(), ["192.168.1.2"])
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(ear.joined(), [])
    })
  )

  it.effect("an interface that cannot join is no reason not to hear the others", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({
        devices: [],
        interfaces: [
          ["eth0", "192.168.1.2/24"],
          ["wlan0", "10.1.2.3/16"]
        ]
      })
      const ear = Ear.make(network, { cannotJoin: ["192.168.1.2"] })
      const { all, fiber } = yield* collecting(ear)
      assert.deepStrictEqual(ear.joined(), ["10.1.2.3"])
      ear.notify("10.1.0.1", { kind: "byebye" })
      yield* settle
      assert.strictEqual(all.length, 1)
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("for every address where a socket for the group alone cannot be had", () =>
    Effect.gen(function* () {
      const ear = Ear.make(Network.makeNetwork({ devices: [] }), { cannotBind: ["239.255.255.250"] })
      const { all, fiber } = yield* collecting(ear)
      ear.notify(Network.routerAddress, { kind: "byebye" })
      yield* settle
      assert.strictEqual(all.length, 1)
      assert.isTrue(ear.opened().every((one) => one.reuseAddress === true))
      yield* Fiber.interrupt(fiber)
    })
  )
})

const closed = new DatagramSocket.DatagramSocketError({ reason: new DatagramSocket.DatagramSocketClosedError({}) })

const adjust = (seconds: number) => Effect.andThen(TestClock.adjust(seconds * 1000), settle)

it.effect("a port that cannot be had is tried again, ever later, every minute in the end, and heard then", () =>
  Effect.gen(function* () {
    const cannotBind = ["239.255.255.250", "any"]
    const ear = Ear.make(Network.makeNetwork({ devices: [] }), { cannotBind })
    const { all, fiber } = yield* collecting(ear)
    // Each attempt asks for the group alone, then for every address.
    const attempts = () => ear.opened().length / 2
    assert.strictEqual(attempts(), 1)
    for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60]) {
      const before = attempts()
      yield* adjust(seconds - 0.5)
      assert.strictEqual(attempts(), before)
      yield* adjust(0.5)
      assert.strictEqual(attempts(), before + 1)
    }
    cannotBind.length = 0
    yield* adjust(60)
    ear.notify(Network.routerAddress, { kind: "byebye" })
    yield* settle
    assert.lengthOf(all, 1)
    yield* Fiber.interrupt(fiber)
    assert.strictEqual(ear.openSockets(), 0)
  })
)

it.effect("a socket that breaks is closed, and opened again", () =>
  Effect.gen(function* () {
    const ear = home()
    const { all, fiber } = yield* collecting(ear)
    for (let times = 1; times <= 3; times++) {
      ear.notify(Network.routerAddress, { kind: "byebye" })
      yield* settle
      assert.lengthOf(all, times)
      ear.break(closed)
      yield* settle
      assert.strictEqual(ear.openSockets(), 0)
      assert.deepStrictEqual(ear.joined(), [])
      // What was heard in between ends the series of failures.
      yield* adjust(1)
      assert.deepStrictEqual(ear.joined(), ["192.168.1.2"])
    }
    yield* Fiber.interrupt(fiber)
    assert.strictEqual(ear.openSockets(), 0)
  })
)

describe("trust", () => {
  it("says why it does not", () => {
    const datagram = (address: string, payload: Uint8Array) => ({
      payload,
      address: NetAddress.inetAddressUnsafe(Network.ip(address), 1900)
    })
    const why = (address: string, payload: Uint8Array) =>
      Result.getOrThrow(Result.flip(SsdpListener.trust(datagram(address, payload), [], [Network.ip("192.168.1.1")])))
    const alive = Ear.encode({ kind: "alive" })
    assert.strictEqual(why("192.168.1.2", alive), "192.168.1.2 is not in an attached network")
    assert.strictEqual(why("fe80::1", alive), "the sender is no IPv4 address")
    assert.strictEqual(
      why("192.168.1.1", Ear.encode({ kind: "alive", location: "ftp://a/" })),
      '"ftp://a/" is not an http URL'
    )
    assert.isTrue(
      Result.isSuccess(SsdpListener.trust(datagram("::ffff:192.168.1.1", alive), [], [Network.ip("192.168.1.1")]))
    )
  })
})

it.live("real sockets: what a gateway on loopback announces, with two listeners at the same time", () =>
  Effect.gen(function* () {
    const gateway = NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(127, 0, 77, 1))
    const layer = Layer.mergeAll(
      NodeUdp.layer,
      Layer.succeed(NetworkInterfaces.NetworkInterfaces, {
        list: Effect.succeed([
          { name: "lo", isLoopback: true, addresses: [IpInterface.fromStringUnsafe("127.0.0.1/8")] }
        ])
      }),
      Layer.succeed(DefaultRoute.DefaultRoute, {
        routes: Effect.succeed([{ gateway, interface: "lo", metric: 0 }])
      })
    )
    const first = SsdpListener.announcements.pipe(
      Stream.filter(({ notify }) => notify.usn === "uuid:of-this-test"),
      Stream.runHead,
      Effect.provide(layer)
    )
    const listeners = yield* Effect.forkChild(Effect.all([first, first], { concurrency: "unbounded" }))
    const socket = yield* Udp.Udp.use((udp) =>
      udp.open({ bind: { address: gateway }, multicast: { interface: gateway, ttl: 0 } })
    ).pipe(Effect.provide(layer))
    const announce = socket.send(
      Ear.encode({ kind: "alive", usn: "uuid:of-this-test" }),
      NetAddress.inetAddressUnsafe(Ssdp.group, Ssdp.port)
    )
    yield* Effect.forkChild(Effect.forever(Effect.andThen(announce, Effect.sleep("50 millis"))))
    const heard = yield* Effect.timeout(Fiber.join(listeners), "5 seconds")
    assert.deepStrictEqual(
      heard.map((one) => one._tag === "Some" && one.value.location && HttpUrl.format(one.value.location)),
      ["http://127.0.77.1:5000/desc.xml", "http://127.0.77.1:5000/desc.xml"]
    )
  }).pipe(Effect.scoped)
)
