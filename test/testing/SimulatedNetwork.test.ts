import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Http from "@effect-nat/core/Http"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Udp from "@effect-nat/core/Udp"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"

const inet = NetAddress.inetAddressFromStringUnsafe
const ip = NetAddress.ipFromStringUnsafe

const world = (
  options: Omit<SimulatedNetwork.Options, "seed"> & { readonly link?: Partial<SimulatedNetwork.Link> } = {}
) => {
  const { link, ...others } = options
  const network = SimulatedNetwork.make({ seed: 1, ...others })
  const lan = network.addLan({ network: "192.168.77.0/24", link })
  const model = new RouterModel.RouterModel()
  const devices = [SimulatedDevice.natPmp(model), SimulatedDevice.upnp(model)]
  const router = network.addRouter({ lan, model, devices })
  const host = network.addHost({ attachments: [{ lan, address: "192.168.77.2" }], gateways: [router] })
  return { network, lan, model, router, host }
}

/** A host that sends back what it gets, on port 7. */
const echo = Effect.gen(function* () {
  const socket = yield* Udp.Udp.use((udp) => udp.open({ bind: { port: 7 } }))
  while (true) {
    for (const { address, payload } of yield* socket.receive) yield* socket.send(payload, address)
  }
}).pipe(Effect.scoped)

const withEcho = (link?: Partial<SimulatedNetwork.Link>) => {
  const { host, lan, network, router } = world(link === undefined ? {} : { link })
  const other = network.addHost({ attachments: [{ lan, address: "192.168.77.3" }], gateways: [router] })
  other.start().fork(echo)
  return { host, network, other }
}

/** Sends so many datagrams to the echo at once, and counts what comes back within a minute. */
const countEchoes = (datagrams: number) =>
  Effect.gen(function* () {
    const socket = yield* Udp.Udp.use((udp) => udp.open({ connect: inet("192.168.77.3:7") }))
    const received: Array<number> = []
    yield* Effect.forkScoped(
      Effect.forever(Effect.map(socket.receive, (all) => received.push(...all.map(({ payload }) => payload[0] ?? -1))))
    )
    for (let index = 0; index < datagrams; index++) yield* socket.send(Uint8Array.of(index))
    yield* Effect.sleep("1 minute")
    return received
  }).pipe(Effect.scoped)

it.effect("time jumps: a year passes at once, and the clock knows", () =>
  Effect.gen(function* () {
    const { host, network } = world()
    const before = yield* network.run(host.start(), Clock.currentTimeMillis)
    yield* network.run(host.start(), Effect.sleep("365 days"))
    assert.strictEqual(network.now - before, 365 * 86_400_000)
  })
)

it.effect("a program that waits for what never comes is a defect, not a test that hangs", () =>
  Effect.gen(function* () {
    const { host, network } = world()
    const exit = yield* Effect.exit(network.run(host.start(), Effect.never))
    assert.isTrue(Exit.isFailure(exit))
  })
)

it.effect("so is one that goes on for ever", () =>
  Effect.gen(function* () {
    const { host, network } = world()
    const exit = yield* Effect.exit(network.run(host.start(), Effect.forever(Effect.sleep("1 day"))))
    assert.include(String(exit), "the program has not ended after 400d")
    assert.isAtLeast(network.now, 400 * 86_400_000)
    assert.isBelow(network.now, 402 * 86_400_000)
  })
)

it.effect("the clients map, keep and release through the simulated router", () =>
  Effect.gen(function* () {
    for (const layer of [NatPmp.layer, Upnp.layer]) {
      const { host, model, network } = world({ link: { delay: [1, 30], loss: 0.05 } })
      const during = yield* network.run(
        host.start(),
        Effect.gen(function* () {
          const mapper = yield* PortMapper.PortMapper
          const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 8080, lifetime: "1 hour" })
          yield* Effect.sleep("5 hours")
          const { externalAddress, externalPort } = yield* mapping.current
          return { reached: network.reach("tcp", inet("11.22.33.1:8080")), externalAddress, externalPort }
        }).pipe(Effect.scoped, Effect.provide(layer))
      )
      assert.deepStrictEqual(during.externalAddress, ip("11.22.33.1"))
      assert.deepStrictEqual(during.reached, inet("192.168.77.2:8080"))
      assert.strictEqual(model.entries(network.now).length, 0)
    }
  })
)

it.effect("the last address of a network is heard by all of its hosts that listen at any address", () =>
  Effect.gen(function* () {
    const { host, lan, network, router } = world()
    const others = ["192.168.77.3", "192.168.77.4"].map((address) =>
      network.addHost({ attachments: [{ lan, address }], gateways: [router] })
    )
    const elsewhere = network.addLan({ network: "192.168.78.0/24" })
    const far = network.addHost({ attachments: [{ lan: elsewhere, address: "192.168.78.2" }], gateways: [] })
    const heard: Array<string> = []
    const listen = (name: string, address = "0.0.0.0") =>
      Effect.gen(function* () {
        const udp = yield* Udp.Udp
        const socket = yield* udp.open({ bind: { address: ip(address), port: 43_215 }, reuseAddress: true })
        for (const { address: from } of yield* socket.receive)
          heard.push(`${name} ${NetAddress.formatIp(from.address)}`)
      }).pipe(Effect.scoped)
    // Two programs of this host itself, one of another host, one bound to its own address, one in another network.
    host.start().fork(listen("here"))
    host.start().fork(listen("here, too"))
    others[0]?.start().fork(listen("there"))
    others[1]?.start().fork(listen("bound", "192.168.77.4"))
    far.start().fork(listen("far"))
    const shout = (broadcast: boolean) =>
      Effect.gen(function* () {
        const socket = yield* Udp.Udp.use((udp) => udp.open({ broadcast }))
        yield* socket.send(Uint8Array.of(1), inet("192.168.77.255:43215"))
        yield* Effect.sleep("1 second")
      }).pipe(Effect.scoped)
    assert.isTrue(Exit.isFailure(yield* Effect.exit(network.run(host.start(), shout(false)))))
    yield* network.run(host.start(), shout(true))
    assert.deepStrictEqual(heard.toSorted(), ["here 192.168.77.2", "here, too 192.168.77.2", "there 192.168.77.2"])
  })
)

it.effect("a shared port is not for who comes to one that is not shared", () =>
  Effect.gen(function* () {
    const { host, network } = world()
    const open = (reuseAddress: boolean) => Udp.Udp.use((udp) => udp.open({ bind: { port: 43_215 }, reuseAddress }))
    const both = (first: boolean, second: boolean) =>
      network.run(host.start(), Effect.scoped(Effect.exit(Effect.andThen(open(first), open(second)))))
    assert.isTrue(Exit.isSuccess(yield* both(true, true)))
    assert.isTrue(Exit.isFailure(yield* both(false, true)))
    assert.isTrue(Exit.isFailure(yield* both(true, false)))
  })
)

it.effect("links lose, repeat, delay and reorder", () =>
  Effect.gen(function* () {
    const run = (link: Partial<SimulatedNetwork.Link>) => {
      const { host, network } = withEcho(link)
      return network.run(host.start(), countEchoes(100))
    }
    assert.strictEqual((yield* run({})).length, 100)
    assert.deepStrictEqual(yield* run({ loss: 1 }), [])
    const some = (yield* run({ loss: 0.3 })).length
    assert.isTrue(some > 25 && some < 75)
    assert.strictEqual((yield* run({ duplication: 1 })).length, 400)
    const sorted = (list: ReadonlyArray<number>) => [...list].sort((self, that) => self - that)
    const inOrder = yield* run({ delay: [5, 5] })
    assert.deepStrictEqual(inOrder, sorted(inOrder))
    const overtaken = yield* run({ reordering: 0.5, overtaking: 500 })
    assert.notDeepEqual(overtaken, sorted(overtaken))
    assert.strictEqual(overtaken.length, 100)
  })
)

it.effect("a killed process says nothing more and runs no finalizer", () =>
  Effect.gen(function* () {
    const { host, model, network } = world()
    let finalized = false
    const process = host.start()
    process.fork(
      Effect.gen(function* () {
        const mapper = yield* PortMapper.PortMapper
        yield* Effect.addFinalizer(() => Effect.sync(() => (finalized = true)))
        yield* mapper.map({ protocol: "udp", internalPort: 9000, lifetime: "1 minute" })
        return yield* Effect.never
      }).pipe(Effect.scoped, Effect.provide(NatPmp.layer))
    )
    network.runUntil(1000)
    assert.strictEqual(model.entries(network.now).length, 1)
    const asked = model.asked.length
    process.kill()
    network.runUntil(50_000)
    assert.strictEqual(model.asked.length, asked)
    assert.isFalse(finalized)
    network.runUntil(70_000)
    assert.strictEqual(model.entries(network.now).length, 0)
  })
)

it.effect("ports are the host's: taken ones are refused, a closed one is refused by the peer", () =>
  Effect.gen(function* () {
    const { host, network, other } = withEcho()
    host.takenPorts.add(5350)
    const taken = yield* Effect.exit(
      network.run(host.start(), Effect.scoped(Udp.Udp.use((udp) => udp.open({ bind: { port: 5350 } }))))
    )
    assert.isTrue(Exit.isFailure(taken))
    assert.strictEqual(other.addresses.length, 1)
    const refused = yield* Effect.exit(
      network.run(
        host.start(),
        Effect.gen(function* () {
          const socket = yield* Udp.Udp.use((udp) => udp.open({ connect: inet("192.168.77.1:9") }))
          yield* socket.send(Uint8Array.of(1))
          return yield* socket.receive
        }).pipe(Effect.scoped)
      )
    )
    assert.isTrue(Exit.isFailure(refused))
  })
)

it.effect("HTTP: refused where nobody listens, unreachable where nobody is, and silent where the router is", () =>
  Effect.gen(function* () {
    const { host, model, network } = world()
    const get = (address: string) =>
      network.run(
        host.start(),
        Http.Http.use((http) =>
          http.request({ method: "GET", address: inet(address), path: "/", maxBytes: 1000 })
        ).pipe(
          Effect.timeoutOrElse({ duration: "1 minute", orElse: () => Effect.succeed("silence" as const) }),
          Effect.catch((error) => Effect.succeed(error.kind))
        )
      )
    assert.strictEqual(yield* get("192.168.77.1:81"), "Refused")
    assert.strictEqual(yield* get("192.168.77.99:80"), "Unreachable")
    model.goSilent()
    assert.strictEqual(yield* get("192.168.77.1:5000"), "silence")
  })
)

it.effect("a host that moves has other addresses and routes; its old sockets are of no use", () =>
  Effect.gen(function* () {
    const { host, network } = world()
    const elsewhere = network.addLan({ network: "10.1.0.0/16" })
    const process = host.start()
    const old = yield* network.run(
      process,
      Effect.gen(function* () {
        const socket = yield* Udp.Udp.use((udp) => udp.open({ bind: { address: ip("192.168.77.2") } }))
        host.move({ attachments: [{ lan: elsewhere, address: "10.1.0.7" }], gateways: [] })
        return yield* Effect.exit(socket.send(Uint8Array.of(1), inet("10.1.0.1:9")))
      }).pipe(Effect.scoped)
    )
    assert.isTrue(Exit.isFailure(old))
    const addresses = yield* network.run(process, NetworkInterfaces.lanAddresses)
    assert.deepStrictEqual(addresses, [ip("10.1.0.7")])
    const routes = yield* network.run(
      process,
      DefaultRoute.DefaultRoute.use((one) => one.routes)
    )
    assert.deepStrictEqual(routes, [])
  })
)

it.effect("a packet finds its way through two routers", () =>
  Effect.gen(function* () {
    const { host, model, network } = world()
    const between = network.addLan({ network: "10.0.0.0/24" })
    const outer = new RouterModel.RouterModel({ address: ip("10.0.0.1"), externalAddress: ip("203.0.113.1") })
    network.addRouter({ lan: between, model: outer, devices: [] })
    model.changeExternalAddress(ip("10.0.0.2"))
    const fiber = host
      .start()
      .fork(
        PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 80 })).pipe(
          Effect.andThen(Effect.never),
          Effect.scoped,
          Effect.provide(NatPmp.layer)
        )
      )
    network.runUntil(1000)
    assert.isUndefined(network.reach("tcp", inet("203.0.113.1:8080")))
    outer.map(network.now, {
      via: "mock",
      client: ip("10.0.0.2"),
      protocol: "tcp",
      externalPort: 8080,
      mayChoosePort: false,
      internalAddress: ip("10.0.0.2"),
      internalPort: 80,
      lifetimeSeconds: 0
    })
    assert.deepStrictEqual(network.reach("tcp", inet("203.0.113.1:8080")), inet("192.168.77.2:80"))
    fiber.interruptUnsafe()
    yield* network.run(host.start(), Effect.exit(Fiber.await(fiber)))
  })
)

describe("what cannot be is a RangeError that names it", () => {
  const lanWith = (link: Partial<SimulatedNetwork.Link>) => () => {
    const { lan, network } = world()
    assert.throws(() => (lan.link = { ...lan.link, ...link }), RangeError)
    network.addLan({ network: "10.0.0.0/24", link })
  }
  const delays = (delay: readonly [number, number]) =>
    [
      lanWith({ delay }),
      `the delay of a link must be two times in milliseconds, from 0, the shorter one first, not [${delay.join(", ")}]`
    ] as const
  const hostAt = (address: string) => () => {
    const { host, lan, network } = world()
    const placement = { attachments: [{ lan, address }], gateways: [] }
    if (address !== "192.168.77.2") assert.throws(() => host.move(placement), RangeError)
    assert.deepStrictEqual(host.addresses, [ip("192.168.77.2")])
    network.addHost({ ...placement, name: "laptop" })
  }
  const routerWith = (options: RouterModel.Options) => () => {
    const { network } = world()
    const lan = network.addLan({ network: "10.0.0.0/24" })
    network.addRouter({ lan, model: new RouterModel.RouterModel(options), devices: [] })
  }

  const gatewayAt = (gateway: string, attached = true) => {
    return () => {
      const { host, lan } = world()
      const attachments = attached ? [{ lan, address: "192.168.77.9" }] : []
      assert.throws(() => host.move({ attachments, gateways: [ip(gateway)] }), RangeError)
      // It stays where it was.
      assert.deepStrictEqual(host.addresses, [ip("192.168.77.2")])
      host.move({ attachments, gateways: [ip(gateway)] })
    }
  }

  it.each([
    [lanWith({ loss: 1.5 }), "the loss of a link must be a share from 0 to 1, not 1.5"],
    [lanWith({ duplication: Number.NaN }), "the duplication of a link must be a share from 0 to 1, not NaN"],
    delays([-50, -10]),
    delays([50, 10]),
    [
      lanWith({ delay: 5 as never }),
      "the delay of a link must be two times in milliseconds, from 0, the shorter one first, not 5"
    ],
    [() => SimulatedNetwork.make({ seed: Number.NaN }), "the seed of a network must be a whole number, not NaN"],
    [gatewayAt("10.0.0.1"), "the gateway 10.0.0.1 cannot be reached by host0, which is attached to 192.168.77.0/24"],
    [
      gatewayAt("192.168.77.1", false),
      "the gateway 192.168.77.1 cannot be reached by host0, which is attached to nothing"
    ],
    [lanWith({ overtaking: -1 }), "the overtaking of a link must be a time in milliseconds, from 0, not -1"],
    [
      () => world().network.addLan({ network: "lan" }),
      'the network "lan" is none: write for example "192.168.77.0/24"'
    ],
    [hostAt("10.0.0.2"), "the address 10.0.0.2 of laptop is outside of its network 192.168.77.0/24"],
    [hostAt("192.168.77.1"), "the address 192.168.77.1 of laptop is somebody else's in 192.168.77.0/24 already"],
    [hostAt("192.168.77.2"), "the address 192.168.77.2 of laptop is somebody else's in 192.168.77.0/24 already"],
    [hostAt("nowhere"), 'the address "nowhere" is none: write for example "192.168.77.2"'],
    [routerWith({}), "the address 192.168.77.1 of the router Simulated Router is outside of its network 10.0.0.0/24"],
    [
      routerWith({ address: ip("10.0.0.1"), quirks: ["Http10"] }),
      "the quirk Http10 cannot show in a SimulatedNetwork: it runs on loopback"
    ]
  ] as const)("%#: %s", (make, message) => {
    assert.throws(make, RangeError, message)
  })

  it("an appliance has a place of its own, too", () => {
    const { lan, network } = world()
    assert.throws(() => network.addAppliance({ lan, address: "192.168.77.2", devices: [] }), RangeError)
    assert.throws(() => network.addAppliance({ lan, address: "10.0.0.1", devices: [] }), RangeError)
  })
})
