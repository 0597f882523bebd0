import * as Http from "@effect-nat/core/Http"
import * as HttpListener from "@effect-nat/core/HttpListener"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Udp from "@effect-nat/core/Udp"
import * as NatPmpCodec from "@effect-nat/natpmp/NatPmpCodec"
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import type * as Quirk from "@effect-nat/testing/Quirk"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import * as EventSubscription from "@effect-nat/upnp/EventSubscription"
import * as Soap from "@effect-nat/upnp/Soap"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"

const ip = NetAddress.ipFromStringUnsafe

interface Built {
  readonly seed?: number
  readonly quirks?: ReadonlyArray<Quirk.Quirk>
  readonly speaks?: ReadonlyArray<Quirk.Protocol>
  readonly link?: Partial<SimulatedNetwork.Link>
}

const build = ({ link, quirks, seed = 1, speaks = ["upnp"] }: Built = {}) => {
  const network = SimulatedNetwork.make({ seed })
  const lan = network.addLan({ network: "192.168.77.0/24", link })
  const model = new RouterModel.RouterModel({ quirks })
  const router = network.addRouter({ lan, model, devices: SimulatedDevice.fromModel(model, speaks) })
  const host = network.addHost({ attachments: [{ lan, address: "192.168.77.2" }], gateways: [router] })
  return { network, lan, model, router, host }
}

type World = ReturnType<typeof build>

/** Writes down what a group hears, from now on, with the time. */
const listenIn = ({ host }: World, group: NetAddress.Ipv4Address, port: number) => {
  const heard: Array<{ readonly at: number; readonly payload: Uint8Array }> = []
  host.start().fork(
    Effect.gen(function* () {
      const socket = yield* Udp.Udp.use((udp) => udp.open({ bind: { port }, reuseAddress: true }))
      yield* socket.joinMulticast(group)
      while (true) {
        const datagrams = yield* socket.receive
        const at = yield* Clock.currentTimeMillis
        heard.push(...datagrams.map(({ payload }) => ({ at, payload })))
      }
    }).pipe(Effect.scoped)
  )
  return heard
}

const ssdp = (world: World) => {
  const heard = listenIn(world, Ssdp.group, Ssdp.port)
  /** What was said since the last time, once each: the kind, the boot id and the place of the root device. */
  return () =>
    heard.splice(0).flatMap(({ at, payload }) => {
      const message = Result.getOrUndefined(Ssdp.decode(payload))
      if (message?._tag !== "Notify" || message.notificationType !== "upnp:rootdevice") return []
      return [{ at, kind: message.kind, bootId: message.bootId, maxAge: message.maxAge, location: message.location }]
    })
}

describe("SSDP", () => {
  it("a router says twice that it is there, and after a restart so with another boot id", () => {
    const world = build()
    const said = ssdp(world)
    world.network.runUntil(10_000)
    assert.deepStrictEqual(
      said().map(({ at, bootId, kind }) => [at, kind, bootId]),
      [
        [1, "alive", 1],
        [501, "alive", 1]
      ]
    )
    world.model.reboot(world.network.now)
    world.network.runUntil(20_000)
    assert.deepStrictEqual(
      said().map(({ at, bootId, kind }) => [at, kind, bootId]),
      [
        [10_001, "alive", 2],
        [10_501, "alive", 2]
      ]
    )
  })

  it("it says so again and again, each time before its word runs out", () => {
    const world = build()
    const said = ssdp(world)
    world.network.runUntil(86_400_000)
    const all = said()
    assert.isAbove(all.length, 48)
    for (const [index, { at }] of all.entries()) {
      const before = all[index - 1]
      if (before !== undefined) assert.isBelow(at - before.at, (1000 * (before.maxAge ?? 0)) / 2)
    }
  })

  it("a router that is switched off in an orderly way says so, and one that loses its power does not", () => {
    for (const how of ["orderly", "abrupt"] as const) {
      const world = build()
      const said = ssdp(world)
      world.network.runUntil(10_000)
      said()
      world.network.remove(world.router, how)
      world.network.runUntil(3_600_000)
      const kinds = said().map(({ kind }) => kind)
      assert.deepStrictEqual(kinds, how === "orderly" ? ["byebye", "byebye"] : [])
    }
  })

  it("another external address is announced where it is the place of the description, and only there", () => {
    for (const quirks of [["LocationOnOtherAddress"], []] as const) {
      const world = build({ quirks })
      const said = ssdp(world)
      world.network.runUntil(10_000)
      said()
      world.model.changeExternalAddress(ip("11.22.33.9"))
      world.network.runUntil(20_000)
      const places = said().map(({ location }) => location)
      const place = UpnpResponder.locationOf(world.model, UpnpResponder.placeOf(world.model))
      assert.deepStrictEqual(places, quirks.length === 0 ? [] : [place, place])
    }
  })

  it("a silent router says nothing", () => {
    const world = build()
    const said = ssdp(world)
    world.network.runUntil(10_000)
    said()
    world.model.goSilent()
    world.model.reboot(world.network.now)
    world.network.runUntil(3_600_000)
    assert.deepStrictEqual(said(), [])
  })

  it.effect("to say so for ever is nothing that anybody waits for", () =>
    Effect.gen(function* () {
      const { host, network } = build()
      const exit = yield* Effect.exit(network.run(host.start(), Effect.never))
      assert.strictEqual(exit._tag, "Failure")
    })
  )
})

describe("NAT-PMP and PCP", () => {
  const epochs = (world: World) => {
    const heard = listenIn(world, PcpCodec.group, PcpCodec.clientPort)
    return () => heard.splice(0).map(({ at, payload }) => [at - 1, payload[0]] as const)
  }

  it("both are announced ten times, with pauses that double", () => {
    const world = build({ speaks: ["natpmp", "pcp"] })
    const said = epochs(world)
    world.network.runUntil(3_600_000)
    const all = said()
    const times = Array.from({ length: 10 }, (_, round) => 250 * (2 ** round - 1))
    for (const version of [0, 2]) {
      assert.deepStrictEqual(
        all.flatMap(([at, first]) => (first === version ? [at] : [])),
        times
      )
    }
    world.model.changeExternalAddress(ip("11.22.33.9"))
    world.network.runUntil(7_200_000)
    assert.strictEqual(said().length, 20)
    world.model.reboot(world.network.now)
    world.network.runUntil(10_800_000)
    assert.strictEqual(said().length, 20)
  })

  it("each says how things are when it is sent, and a new round ends the one before", () => {
    const world = build({ speaks: ["natpmp"] })
    const heard = listenIn(world, PcpCodec.group, PcpCodec.clientPort)
    world.network.runUntil(1_000)
    heard.splice(0)
    world.model.changeExternalAddress(ip("11.22.33.9"))
    world.network.runUntil(3_600_000)
    assert.strictEqual(heard.length, 10)
    for (const { payload } of heard) {
      const message = Result.getOrThrow(NatPmpCodec.decodeResponse(payload))
      assert.strictEqual("externalAddress" in message && String(message.externalAddress), String(ip("11.22.33.9")))
    }
  })
})

/** A service of the router whose events are of the external address. */
const service = {
  serviceType: "urn:schemas-upnp-org:service:WANIPConnection:1",
  serviceId: "urn:upnp-org:serviceId:WANIPConn1"
}

const subscribing = (world: World) =>
  Effect.gen(function* () {
    const found = yield* Upnp.probe
    const { service } = found.connection.wanService
    return yield* EventSubscription.subscribe({ service, gateway: world.model.address })
  })

describe("events", () => {
  it.effect("reach the host that has subscribed, when it subscribes and when the address changes", () =>
    Effect.gen(function* () {
      const world = build({ link: { delay: [5, 5] } })
      const program = Effect.gen(function* () {
        const { events } = yield* subscribing(world)
        const addresses = Stream.map(events, (variables) => Soap.argument(variables, "ExternalIPAddress"))
        world.network.after(60_000, () => world.model.changeExternalAddress(ip("11.22.33.9")))
        return yield* Stream.runCollect(Stream.take(addresses, 2))
      }).pipe(Effect.scoped)
      const heard = yield* world.network.run(world.host.start(), program)
      assert.deepStrictEqual(heard, ["11.22.33.1", "11.22.33.9"])
      assert.isAbove(world.network.now, 60_000)
      assert.isBelow(world.network.now, 62_000)
    })
  )

  it.effect("the same seed gives the same trace although paths are drawn by the system", () =>
    Effect.gen(function* () {
      const run = Effect.fnUntraced(function* (seed: number) {
        const world = build({ seed, link: { delay: [1, 30], loss: 0.02 } })
        const program = Effect.gen(function* () {
          const { isWorking } = yield* subscribing(world)
          world.network.after(10_000, () => world.model.changeExternalAddress(ip("11.22.33.9")))
          yield* Effect.sleep("1 hour")
          return yield* isWorking
        }).pipe(Effect.scoped)
        assert.isTrue(yield* world.network.run(world.host.start(), program))
        return world.network.fingerprint
      })
      const first = yield* run(3)
      assert.strictEqual(yield* run(3), first)
      assert.notStrictEqual(yield* run(4), first)
    })
  )

  /** A listener of a host, and how the router's event to it went. */
  const listening = (
    world: World,
    answer: (request: HttpListener.IncomingRequest) => Effect.Effect<number>,
    differences: Partial<HttpListener.ListenOptions> = {}
  ) =>
    HttpListener.HttpListener.use((listener) =>
      listener.listen({
        address: ip("192.168.77.2"),
        maxBytes: 65_536,
        accepts: () => true,
        answer,
        ...differences
      })
    ).pipe(
      Effect.tap((address) =>
        Http.Http.use((http) =>
          http.request({
            method: "SUBSCRIBE",
            address: NetAddress.inetAddressUnsafe(world.model.address, 5000),
            path: subscriptionPath(world),
            headers: [
              ["CALLBACK", `<http://${NetAddress.formatInet(address)}/here>`],
              ["NT", "upnp:event"],
              ["TIMEOUT", "Second-1800"]
            ],
            maxBytes: 4096
          })
        )
      )
    )

  const subscriptionPath = ({ model, network }: World): string => {
    const place = UpnpResponder.placeOf(model)
    const path = new URL(UpnpResponder.locationOf(model, place)).pathname
    const request = { method: "GET", path, headers: [], body: new Uint8Array() }
    const answer = UpnpResponder.answerRequest(model, network.now, place, request, {
      client: ip("192.168.77.2"),
      port: place.httpPort
    })
    const text = new TextDecoder().decode(answer?.body)
    const of = text.slice(text.indexOf(`<serviceId>${service.serviceId}`))
    return /<eventSubURL>([^<]*)</.exec(of)?.[1] ?? "none"
  }

  it.effect("an answer that takes too long is interrupted with its connection", () =>
    Effect.gen(function* () {
      const world = build()
      const program = Effect.gen(function* () {
        const interrupted = yield* Deferred.make<number>()
        const now = Clock.currentTimeMillis
        yield* listening(world, () =>
          Effect.onInterrupt(Effect.never, () => Effect.flatMap(now, (at) => Deferred.succeed(interrupted, at)))
        )
        const before = yield* now
        return (yield* Deferred.await(interrupted)) - before
      }).pipe(Effect.scoped)
      const took = yield* world.network.run(world.host.start(), program)
      assert.isAtLeast(took, 1_900)
      assert.isAtMost(took, 2_100)
    })
  )

  it.effect("nobody is asked who does not take the connection, or less than there is to read", () =>
    Effect.gen(function* () {
      for (const differences of [{ accepts: () => false }, { maxBytes: 10 }]) {
        const world = build()
        const asked: Array<string> = []
        const answer = ({ path }: HttpListener.IncomingRequest) => Effect.sync(() => asked.push(path) && 200)
        const program = Effect.scoped(Effect.andThen(listening(world, answer, differences), Effect.sleep("1 minute")))
        yield* world.network.run(world.host.start(), program)
        assert.deepStrictEqual(asked, [])
      }
    })
  )

  it.effect("a listener ends with its scope, and with its process", () =>
    Effect.gen(function* () {
      for (const end of ["scope", "kill", "neither"] as const) {
        const world = build()
        const asked: Array<string> = []
        const answer = ({ path }: HttpListener.IncomingRequest) => Effect.sync(() => asked.push(path) && 200)
        const open = Effect.andThen(listening(world, answer), Effect.sleep("10 seconds"))
        const process = world.host.start()
        process.fork(end === "scope" ? Effect.scoped(open) : Effect.scoped(Effect.andThen(open, Effect.never)))
        world.network.runUntil(60_000)
        if (end === "kill") process.kill()
        world.model.changeExternalAddress(ip("11.22.33.9"))
        world.network.runUntil(120_000)
        assert.deepStrictEqual(asked, end === "neither" ? ["/here", "/here"] : ["/here"], end)
      }
    })
  )

  it.effect("nobody listens at an address that is another's", () =>
    Effect.gen(function* () {
      const { host, network } = build()
      const listen = HttpListener.HttpListener.use((listener) =>
        listener.listen({
          address: ip("192.168.77.3"),
          maxBytes: 1,
          accepts: () => true,
          answer: () => Effect.succeed(200)
        })
      )
      const outcome = yield* network.run(host.start(), Effect.result(Effect.scoped(listen)))
      assert.isTrue(Result.isFailure(outcome))
    })
  )
})

it.effect("a mapping that a restart has lost is back soon after its announcement", () =>
  Effect.gen(function* () {
    const { host, model, network } = build({ quirks: ["BootIdChanges"] })
    const program = Effect.gen(function* () {
      const mapper = yield* PortMapper.PortMapper
      yield* mapper.map({ protocol: "tcp", internalPort: 8080, lifetime: "2 hours" })
      yield* Effect.sleep("10 minutes")
      model.reboot(network.now)
      const lost = model.entries(network.now).length
      yield* Effect.sleep("15 seconds")
      return [lost, model.entries(network.now).length]
    }).pipe(Effect.scoped, Effect.provide(Upnp.layer))
    assert.deepStrictEqual(yield* network.run(host.start(), program), [0, 1])
  })
)
