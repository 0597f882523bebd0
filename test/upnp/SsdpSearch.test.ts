import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as SsdpSearch from "@effect-nat/upnp/SsdpSearch"
import * as UpnpDiscovery from "@effect-nat/upnp/UpnpDiscovery"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as Udp from "@effect-nat/core/Udp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const settle = Effect.forEach(Array.from({ length: 50 }), () => Effect.yieldNow, { discard: true })

const collect = <A, E>(stream: Stream.Stream<A, E, UpnpDiscovery.Network>, network: Network.Network) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Stream.runCollect(stream).pipe(Effect.provide(network.layer)))
    yield* settle
    yield* TestClock.adjust("30 seconds")
    return yield* Fiber.join(fiber)
  })

const places = (network: Network.Network) =>
  Effect.map(collect(SsdpSearch.search(), network), (answers) => answers.map((one) => HttpUrl.format(one.location)))

const place = "http://192.168.1.1:5000/desc.xml"

const answering = (location: string, address: string = Network.routerAddress) =>
  Network.makeNetwork({ devices: [Router.makeRouter({ location, address })] })

describe("what is sent", () => {
  it.effect("goes to the gateway first, then to the group, on every interface but loopback [UDA 1.3.2-m]", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({
        devices: [],
        interfaces: [
          ["lo", "127.0.0.1/8"],
          ["eth0", "192.168.1.2/24"],
          ["wlan0", "10.1.2.3/16"],
          ["eth0", "fd00::2/64"]
        ]
      })
      yield* places(network)
      const fromEth = network.searches.filter((search) => search.from === "192.168.1.2")
      assert.strictEqual(fromEth[0]?.to, "192.168.1.1")
      assert.include(
        fromEth.map((search) => search.to),
        "239.255.255.250"
      )
      const fromWlan = network.searches.filter((search) => search.from === "10.1.2.3").map((search) => search.to)
      assert.deepStrictEqual([...new Set(fromWlan)], ["239.255.255.250"])
      assert.deepStrictEqual([...new Set(network.searches.map((search) => search.from))].toSorted(), [
        "10.1.2.3",
        "192.168.1.2"
      ])
    })
  )

  it.effect("is sent in one tick, and again twice [UDA 1.3.2-e]", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [] })
      const fiber = yield* Effect.forkChild(Stream.runCollect(SsdpSearch.search()).pipe(Effect.provide(network.layer)))
      yield* settle
      const counts = () =>
        [Router.igd1, Router.wanIp1, "ssdp:all"].map(
          (target) => network.searches.filter((search) => search.searchTarget === target).length
        )
      // A gateway that answers at once has nothing else to answer to, by unicast and by multicast.
      assert.deepStrictEqual(network.searches, [
        { from: Network.own, to: Network.routerAddress, searchTarget: Router.igd1 },
        { from: Network.own, to: "239.255.255.250", searchTarget: Router.igd1 }
      ])
      yield* TestClock.adjust("249 millis")
      yield* settle
      assert.deepStrictEqual(counts(), [2, 0, 0])
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.deepStrictEqual(counts(), [2, 2, 1])
      yield* TestClock.adjust("250 millis")
      yield* settle
      assert.deepStrictEqual(counts(), [4, 4, 3])
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(counts(), [6, 6, 5])
      assert.strictEqual(network.openSockets(), 0)
    })
  )

  it.effect("is nothing but its first round where that is answered and one gateway is enough", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [Router.makeRouter({ answersAfter: "200 millis" })] })
      const fiber = yield* Effect.forkChild(Stream.runHead(SsdpSearch.search()).pipe(Effect.provide(network.layer)))
      yield* settle
      yield* TestClock.adjust("200 millis")
      assert.isTrue(Option.isSome(yield* Fiber.join(fiber)))
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(network.searches.length, 2)
      assert.strictEqual(network.openSockets(), 0)
    })
  )

  it.effect("asks for every name that a gateway or its services may have [UDA 1.3.2-l]", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [] })
      yield* places(network)
      const multicast = network.searches.filter((search) => search.to === "239.255.255.250")
      const wanted = [
        "ssdp:all",
        "upnp:rootdevice",
        "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
        "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
        "urn:schemas-upnp-org:service:WANIPConnection:1",
        "urn:schemas-upnp-org:service:WANIPConnection:2",
        "urn:schemas-upnp-org:service:WANPPPConnection:1"
      ]
      for (const searches of [multicast, network.searches.filter((search) => search.to === Network.routerAddress)]) {
        assert.deepStrictEqual([...new Set(searches.map((search) => search.searchTarget))].toSorted(), wanted)
      }
      // The whole network is called only when that may be needed.
      assert.strictEqual(multicast.filter((search) => search.searchTarget === "ssdp:all").length, 2)
    })
  )

  it.effect("is well below 150 datagrams a second on two networks", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({
        devices: [],
        interfaces: [
          ["eth0", "192.168.1.2/24"],
          ["wlan0", "10.1.2.3/16"]
        ]
      })
      yield* places(network)
      assert.strictEqual(network.searches.length, 59)
    })
  )

  it.effect("a single host is asked by unicast alone", () =>
    Effect.gen(function* () {
      const other = Router.makeRouter({ address: "192.168.1.7" })
      const network = Network.makeNetwork({ devices: [Router.makeRouter(), other] })
      const search = SsdpSearch.searchHost(NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(192, 168, 1, 7)))
      const answers = yield* collect(search, network)
      assert.deepStrictEqual(
        answers.map((one) => HttpUrl.format(one.location)),
        ["http://192.168.1.7:5000/desc.xml"]
      )
      assert.deepStrictEqual([...new Set(network.searches.map((one) => one.to))], ["192.168.1.7"])
      assert.strictEqual(network.searches.length, 6)
      assert.strictEqual(network.openSockets(), 0)
    })
  )

  it.effect("what another host says on that occasion is left out", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [] })
      const says = (address: string) =>
        Router.makeRouter({ address })
          .onSearch({ searchTarget: Router.igd1, unicast: true })
          .map(({ payload }) => ({ payload, address: NetAddress.inetAddressUnsafe(Network.ip(address), 1900) }))
      const [first, second] = [...says("192.168.1.8"), ...says("192.168.1.7")]
      if (first === undefined || second === undefined) return assert.fail("a router says nothing")
      let isHeard = false
      const socket: Udp.UdpSocket = {
        address: NetAddress.inetAddressUnsafe(Network.ip(Network.own), 50_000),
        receive: Effect.suspend(() => {
          if (isHeard) return Effect.never
          isHeard = true
          return Effect.succeed([first, second] as const)
        }),
        send: () => Effect.void,
        joinMulticast: () => Effect.void
      }
      const layer = Layer.merge(network.layer, Layer.succeed(Udp.Udp, { open: () => Effect.succeed(socket) }))
      const answers = yield* collect(
        SsdpSearch.searchHost(NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(192, 168, 1, 7))),
        {
          ...network,
          layer
        }
      )
      assert.deepStrictEqual(
        answers.map((one) => NetAddress.formatIp(one.from)),
        ["192.168.1.7"]
      )
    })
  )

  it.effect("reaches a gateway outside of every attached network", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ address: "10.9.9.9" })
      const network = Network.makeNetwork({ devices: [router], gateway: "10.9.9.9" })
      assert.deepStrictEqual(yield* places(network), ["http://10.9.9.9:5000/desc.xml"])
    })
  )

  it.effect("stays on loopback where the gateway does", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter({ address: "127.0.77.1" })
      const network = Network.makeNetwork({
        devices: [router],
        gateway: "127.0.77.1",
        interfaces: [["lo", "127.0.0.1/8"]]
      })
      assert.deepStrictEqual(yield* places(network), ["http://127.0.77.1:5000/desc.xml"])
    })
  )
})

describe("a socket that fails", () => {
  const failing = (reason: DatagramSocket.DatagramSocketError["reason"]) =>
    Effect.flip(Stream.runCollect(SsdpSearch.search())).pipe(
      Effect.provide(
        Layer.merge(
          Network.makeNetwork({ devices: [] }).layer,
          Layer.succeed(Udp.Udp, { open: () => Effect.fail(new DatagramSocket.DatagramSocketError({ reason })) })
        )
      )
    )

  it.effect.each([
    [{ kind: "PermissionDenied", cause: new Error("bind EACCES") }, "PermissionDenied: bind EACCES"],
    [{ kind: "Unknown", cause: "odd" }, "odd"],
    [{ kind: "Unknown", cause: undefined }, "for an unknown reason"],
    [{ kind: "AddressInUse", cause: new Error("") }, "AddressInUse"]
  ] as const)("is described by its kind and its cause: %s", ([reason, words]) =>
    Effect.gen(function* () {
      const error = yield* failing(new DatagramSocket.DatagramSocketOpenError(reason))
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.isTrue(error.message.includes(`cannot search for UPnP: ${words}`), error.message)
    })
  )

  it.effect("is described where it was closed", () =>
    Effect.gen(function* () {
      const error = yield* failing(new DatagramSocket.DatagramSocketClosedError({}))
      assert.include(error.message, "the socket is closed")
    })
  )
})

describe("who is heard", () => {
  it.effect.each([
    ["only unicast", (heard: Network.Heard) => heard.unicast],
    ["only multicast", (heard: Network.Heard) => !heard.unicast],
    ["only ssdp:all", (heard: Network.Heard) => heard.searchTarget === "ssdp:all"],
    ["only ssdp:all by multicast", (heard: Network.Heard) => !heard.unicast && heard.searchTarget === "ssdp:all"],
    ["only upnp:rootdevice", (heard: Network.Heard) => heard.searchTarget === "upnp:rootdevice"]
  ] as const)("a router that answers %s, once", ([, hears]) =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [Router.makeRouter({ hears })] })
      assert.deepStrictEqual(yield* places(network), [place])
    })
  )

  it.effect("a router that answers from another port [UDA 1.3.3-a]", () =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [Router.makeRouter({ answerPort: 40_000 })] })
      assert.deepStrictEqual(yield* places(network), [place])
    })
  )

  it.effect("at most 16 places, four of them of one host, and always the gateway", () =>
    Effect.gen(function* () {
      let n = 0
      const flood: Network.Device = {
        ...Router.makeRouter(),
        address: "192.168.1.66",
        onSearch: () =>
          Array.from({ length: 20 }, () => ({
            payload: Ssdp.encode(
              new Ssdp.SearchAnswer({
                searchTarget: Router.igd1,
                usn: "",
                location: `http://192.168.1.66/${n++}`,
                server: "",
                maxAge: undefined,
                bootId: undefined,
                configId: undefined
              })
            )
          }))
      }
      const floods = Array.from({ length: 20 }, (_, index) => ({ ...flood, address: `192.168.1.${100 + index}` }))
      const router = Router.makeRouter({ answersAfter: "1 second" })
      const found = yield* places(Network.makeNetwork({ devices: [...floods, router] }))
      assert.isAtMost(found.length, SsdpSearch.maximumAnswers)
      assert.isAtLeast(found.length, 10)
      assert.isAtMost(found.filter((one) => one.startsWith("http://192.168.1.100")).length, 4)
      assert.include(found, place)
    })
  )
})

describe("what is believed", () => {
  it.effect.each([
    ["another host", "http://192.168.1.77:5000/desc.xml"],
    ["a host of the world", "http://8.8.8.8:5000/desc.xml"],
    ["this host", "http://127.0.0.1:5000/desc.xml"],
    ["a name", "http://router.lan:5000/desc.xml"],
    ["another host, in disguise", "http://192.168.1.1:80@192.168.1.77:5000/desc.xml"]
  ] as const)("a location on %s is looked for on the host that answered", ([, location]) =>
    Effect.gen(function* () {
      const network = answering(location)
      assert.deepStrictEqual(yield* places(network), [place])
      yield* collect(UpnpDiscovery.gateways, network)
      assert.deepStrictEqual(network.requests, [`GET 192.168.1.1:5000/desc.xml`])
    })
  )

  it.effect.each([
    ["of another scheme", "https://192.168.1.1/"],
    ["of a file", "file:///etc/passwd"],
    ["without a host", "/desc.xml"],
    ["that is not complete", "http://"],
    ["on port 0", "http://192.168.1.1:0/"],
    ["without end", `http://192.168.1.1/${"a".repeat(3000)}`]
  ] as const)("a location %s is not followed", ([, location]) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* places(answering(location)), [])
    })
  )

  it.effect("an answer from outside of the attached networks does not count", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* places(answering("http://8.8.8.8/", "8.8.8.8")), [])
      assert.deepStrictEqual(yield* places(answering("http://192.168.1.9/", "192.168.1.9")), ["http://192.168.1.9:80/"])
    })
  )
})

describe("discovery", () => {
  it.effect("reports a gateway once, with its own address and model", () =>
    Effect.gen(function* () {
      let n = 0
      const router = Router.makeRouter()
      // Some routers name another place in every second answer.
      const flapping: Network.Device = {
        ...router,
        onSearch: (heard) =>
          Router.makeRouter({ location: `http://192.168.1.1:5000/desc.xml?${n++ % 2}` }).onSearch(heard),
        onRequest: (request) => router.onRequest({ ...request, path: "/desc.xml" })
      }
      const [gateway, ...others] = yield* collect(UpnpDiscovery.gateways, Network.makeNetwork({ devices: [flapping] }))
      assert.deepStrictEqual(others, [])
      assert.strictEqual(gateway?.name, "Home Router")
      assert.strictEqual(gateway?.model, "Example Ltd Box 1.10")
      assert.strictEqual(gateway?.method, "upnp")
      assert.strictEqual(gateway && NetAddress.formatIp(gateway.localAddress), Network.own)
    })
  )

  it.effect("is empty where nothing maps ports", () =>
    Effect.gen(function* () {
      const printer = Router.makeRouter({ services: [] })
      assert.deepStrictEqual(yield* collect(UpnpDiscovery.gateways, Network.makeNetwork({ devices: [printer] })), [])
    })
  )
})
