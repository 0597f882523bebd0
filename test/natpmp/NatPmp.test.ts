import * as Gateway from "@effect-nat/core/Gateway"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import type * as Codec from "@effect-nat/natpmp/NatPmpCodec"
import * as NatPmpDiscovery from "@effect-nat/natpmp/NatPmpDiscovery"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "./network.ts"

const second = Net.ipv4("192.168.78.1")

const reason = <A, R>(effect: Effect.Effect<A, NatError.NatError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

/** Whoever is asked at each address; nobody at all others. */
const hosts =
  (peers: Readonly<Record<string, Net.Peer>>): Net.Peer =>
  (sent) =>
    (peers[NetAddress.formatIp(sent.to.address)] ?? Net.silent)(sent)

/** A strategy whose layer lives as long as the test. */
const withMapper = Effect.fnUntraced(function* (peer: Net.Peer, layer: typeof NatPmp.layer = NatPmp.layer) {
  const network = yield* Net.make(peer)
  const context = yield* Layer.build(layer.pipe(Layer.provide(network.layer)))
  return { network, mapper: Context.get(context, PortMapper.PortMapper) }
})

const withRouter = Effect.fnUntraced(function* () {
  const router = Net.makeRouter()
  const { mapper, network } = yield* withMapper(router.peer)
  return { router, mapper, network }
})

const wish: MappingRequest.MappingRequest = { protocol: "tcp", internalPort: 12000, externalPort: 12001 }

const tagged = (requests: ReadonlyArray<Codec.Request>) =>
  requests.map((request) =>
    request._tag === "MapRequest"
      ? `${request.protocol} ${request.internalPort} ${request.externalPort} ${request.lifetime}`
      : "address"
  )

const fields = (mapping: PortMapping.PortMapping) => ({
  external: mapping.externalAddress && NetAddress.formatIp(mapping.externalAddress),
  externalPort: mapping.externalPort,
  internal: NetAddress.formatIp(mapping.internalAddress),
  internalPort: mapping.internalPort,
  lifetime: mapping.lifetime && Duration.toSeconds(mapping.lifetime),
  gateway: mapping.gateway && NetAddress.formatIp(mapping.gateway),
  method: mapping.method,
  status: mapping.status
})

describe("NatPmp", () => {
  describe("map", () => {
    it.effect("asks for the address, then for the port; the scope deletes it [RFC 6886 3.1-i, 3.3-ce, 3.4-ab]", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const { scope, value } = yield* Net.inOwnScope(mapper.map(wish))
        assert.deepStrictEqual(fields(yield* value.current), {
          external: "11.22.33.1",
          externalPort: 12001,
          internal: "192.168.77.2",
          internalPort: 12000,
          lifetime: 7200,
          gateway: "192.168.77.1",
          method: "natpmp",
          status: "mapped"
        })
        assert.deepStrictEqual(tagged(router.requests), ["address", "tcp 12000 12001 7200"])
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(tagged(router.requests).slice(2), ["tcp 12000 0 0"])
        assert.deepStrictEqual(router.entries, [])
      })
    )

    it.effect("deletes also when the program fails or is interrupted [RFC 6886 3.1-i]", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        yield* mapper.map(wish).pipe(Effect.andThen(Effect.fail("oops")), Effect.scoped, Effect.exit)
        assert.deepStrictEqual(router.entries, [])
        const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(mapper.map(wish), Effect.never)))
        yield* Net.settle
        assert.strictEqual(router.entries.length, 1)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(router.entries, [])
      })
    )

    it.effect("takes one exchange each while the address is fresh, and both protocols of one port", () =>
      Effect.gen(function* () {
        const { mapper, network, router } = yield* withRouter()
        yield* mapper.map(wish)
        yield* mapper.map({ ...wish, protocol: "udp" })
        yield* mapper.map({ ...wish, internalPort: 12002 })
        assert.deepStrictEqual(tagged(router.requests), [
          "address",
          "tcp 12000 12001 7200",
          "udp 12000 12001 7200",
          "tcp 12002 12001 7200"
        ])
        assert.strictEqual(network.opened, 1)
        yield* TestClock.adjust("1 minute")
        yield* mapper.map({ ...wish, internalPort: 12003 })
        assert.deepStrictEqual(tagged(router.requests).slice(4), ["address", "tcp 12003 12001 7200"])
      })
    )

    it.effect("takes the port and the lifetime that are granted [RFC 6886 3.3-ij]", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.taken = [12001, 12002]
        router.longestLifetime = 600
        const mapping = yield* mapper.map(wish)
        const { externalPort, lifetime } = fields(yield* mapping.current)
        assert.deepStrictEqual({ externalPort, lifetime }, { externalPort: 12003, lifetime: 600 })
      })
    )

    it.effect("gives another port back when only the wanted one will do, and keeps the wanted one", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.taken = [12001]
        const failure = yield* reason(mapper.map({ ...wish, strictExternalPort: true }))
        assert.strictEqual(failure._tag, "Conflict")
        if (failure._tag === "Conflict") assert.strictEqual(failure.externalPort, 12001)
        assert.include(failure.message, "12002")
        assert.deepStrictEqual(router.entries, [])
        assert.deepStrictEqual(tagged(router.requests), ["address", "tcp 12000 12001 7200", "tcp 12000 0 0"])
        router.taken = []
        yield* mapper.map({ ...wish, strictExternalPort: true })
        assert.strictEqual(router.entries[0]?.externalPort, 12001)
      })
    )

    it.effect("says Conflict also when the other port cannot be given back", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.taken = [12001]
        router.resultCode = (request) => (request._tag === "MapRequest" && request.lifetime === 0 ? 2 : 0)
        assert.strictEqual((yield* reason(mapper.map({ ...wish, strictExternalPort: true })))._tag, "Conflict")
      })
    )

    it.effect("asks for a day where a permanent mapping is wanted, and renews it", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        yield* mapper.map({ ...wish, lifetime: 0 })
        yield* TestClock.adjust("13 hours")
        assert.deepStrictEqual(
          tagged(router.requests).filter((request) => request !== "address"),
          ["tcp 12000 12001 86400", "tcp 12000 12001 86400"]
        )
      })
    )

    it.effect("renews in place: the same internal port, the granted external port [RFC 6886 3.3-l]", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.taken = [12001]
        const { scope } = yield* Net.inOwnScope(mapper.map({ ...wish, lifetime: "1 hour" }))
        yield* TestClock.adjust("3 hours")
        const maps = tagged(router.requests).filter((request) => request !== "address")
        assert.isAtLeast(maps.length, 6)
        assert.deepStrictEqual(new Set(maps), new Set(["tcp 12000 12001 3600", "tcp 12000 12002 3600"]))
        yield* Scope.close(scope, Exit.void)
        const count = router.requests.length
        yield* TestClock.adjust("1 day")
        assert.strictEqual(router.requests.length, count)
        assert.deepStrictEqual(router.entries, [])
      })
    )

    it.effect("a renewal tells of a new external address", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const mapping = yield* mapper.map({ ...wish, lifetime: "1 hour" })
        router.externalAddress = Net.ipv4("11.22.33.9")
        const changes = yield* Effect.forkChild(mapping.changes.pipe(Stream.take(2), Stream.runCollect))
        yield* TestClock.adjust("30 minutes")
        const seen = yield* Fiber.join(changes)
        assert.deepStrictEqual(
          seen.map((one) => fields(one).external),
          ["11.22.33.1", "11.22.33.9"]
        )
      })
    )

    it.effect("a renewal whose address is not heard keeps the known one; a gateway that has none has none", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const mapping = yield* mapper.map({ ...wish, lifetime: "1 hour" })
        router.isMute = (request) => request._tag === "ExternalAddressRequest"
        yield* TestClock.adjust("40 minutes")
        assert.strictEqual(fields(yield* mapping.current).external, "11.22.33.1")
        router.isMute = () => false
        router.externalAddress = Net.ipv4("0.0.0.0")
        yield* TestClock.adjust("30 minutes")
        assert.deepInclude(fields(yield* mapping.current), { external: undefined, status: "mapped" })
      })
    )

    it.effect("goes to the gateway of the network that the host is in now [RFC 6886 3-f]", () =>
      Effect.gen(function* () {
        const [here, there] = [Net.makeRouter(), Net.makeRouter()]
        const { mapper, network } = yield* withMapper(hosts({ "192.168.77.1": here.peer, "192.168.78.1": there.peer }))
        const { scope, value } = yield* Net.inOwnScope(mapper.map({ ...wish, lifetime: "1 hour" }))
        network.gateways = [second]
        network.own = Net.ipv4("192.168.78.2")
        yield* TestClock.adjust("30 minutes")
        assert.deepInclude(fields(yield* value.current), { gateway: "192.168.78.1", internal: "192.168.78.2" })
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(there.entries, [])
      })
    )

    it.effect("maps behind a gateway that has no external address, and says that there is none", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.externalAddress = Net.ipv4("0.0.0.0")
        const mapping = yield* mapper.map(wish)
        assert.deepInclude(fields(yield* mapping.current), { external: undefined, externalPort: 12001 })
      })
    )

    it.effect("warns once of each address that the world cannot reach", () =>
      Effect.gen(function* () {
        const warnings: Array<string> = []
        const logger = Logger.make(({ logLevel, message }) => {
          if (logLevel === "Warn") warnings.push(String(message))
        })
        yield* Effect.gen(function* () {
          const { mapper, router } = yield* withRouter()
          router.externalAddress = Net.ipv4("192.168.0.20")
          yield* mapper.map({ ...wish, lifetime: "1 hour" })
          yield* mapper.map({ ...wish, protocol: "udp" })
          yield* mapper.externalAddress
          assert.deepStrictEqual(warnings, [
            "192.168.77.1 reports the external address 192.168.0.20, which the world cannot reach: there is another router between it and the world (double NAT): map the port on the outer router too, or switch one of the two to bridge mode"
          ])
          router.externalAddress = Net.ipv4("100.64.0.9")
          yield* TestClock.adjust("2 hours")
          assert.strictEqual(warnings.length, 2)
          assert.include(warnings[1], "carrier-grade NAT")
          router.externalAddress = Net.ipv4("11.22.33.1")
          yield* TestClock.adjust("2 hours")
          assert.strictEqual(warnings.length, 2)
        }).pipe(Effect.provide(Logger.layer([logger])))
      })
    )

    it.effect("prefers a gateway that has an external address", () =>
      Effect.gen(function* () {
        const [without, having] = [Net.makeRouter(), Net.makeRouter()]
        without.externalAddress = Net.ipv4("0.0.0.0")
        having.delay = 300
        const { mapper, network } = yield* withMapper(
          hosts({ "192.168.77.1": without.peer, "192.168.78.1": having.peer })
        )
        network.gateways = [Net.gateway, second]
        const fiber = yield* Effect.forkChild(mapper.map(wish))
        yield* TestClock.adjust("5 seconds")
        const mapping = yield* Fiber.join(fiber)
        assert.strictEqual(fields(yield* mapping.current).gateway, "192.168.78.1")
        having.delay = 0
      })
    )

    it.effect("says of a pinhole that it cannot open one, also where it has mapped the port", () =>
      Effect.gen(function* () {
        const { mapper } = yield* withMapper(Net.makeRouter().peer)
        yield* mapper.map(wish)
        const failure = yield* reason(mapper.map({ ...wish, family: "ipv6" }))
        assert.include(failure.message, "IPv6 over NAT-PMP")
      })
    )

    it.effect("one internal port is held once: a second request is refused until the first is released", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const first = yield* mapper.map(wish)
        const again = { ...wish, externalPort: 13000 }
        assert.strictEqual((yield* reason(mapper.map(again)))._tag, "Unsupported")
        assert.strictEqual(router.entries[0]?.externalPort, 12001)
        yield* first.release
        assert.deepStrictEqual(router.entries, [])
        yield* mapper.map(again)
        assert.strictEqual(router.entries[0]?.externalPort, 13000)
        assert.strictEqual((yield* reason(mapper.map(again)))._tag, "Unsupported")
      })
    )

    it.effect("a request that failed holds nothing", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.resultCode = (request) => (request._tag === "MapRequest" ? 4 : 0)
        assert.strictEqual((yield* reason(mapper.map(wish)))._tag, "OutOfResources")
        // The gateway said no: there is nothing to delete.
        assert.deepStrictEqual(tagged(router.requests), ["address", "tcp 12000 12001 7200"])
        router.resultCode = () => 0
        yield* mapper.map(wish)
        assert.strictEqual(router.entries.length, 1)
      })
    )

    it.effect("what an unanswered request left is deleted", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.isMute = (request) => request._tag === "MapRequest" && request.lifetime > 0
        const fiber = yield* Effect.forkChild(reason(mapper.map(wish)))
        yield* TestClock.adjust("15 seconds")
        assert.strictEqual(router.entries.length, 1)
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
        assert.deepStrictEqual(router.entries, [])
      })
    )

    it.effect("what an interrupted request left is deleted, whenever it is interrupted", () =>
      Effect.gen(function* () {
        for (let turns = 0; turns < 60; turns++) {
          const { mapper, network, router } = yield* withRouter()
          const fiber = yield* Effect.forkChild(Effect.scoped(mapper.map(wish)))
          yield* Effect.repeat(Effect.yieldNow, { times: turns })
          // The undoing is repeated after a second, for a request that it may have overtaken.
          const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber))
          yield* TestClock.adjust("1 minute")
          yield* Fiber.join(interrupting)
          assert.deepStrictEqual(router.entries, [], `interrupted after ${turns} turns`)
          assert.strictEqual(network.open, 0)
        }
      })
    )

    it.effect("an interrupted search deletes nothing, also when the gateway has refused this port before", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.resultCode = (request) => (request._tag === "MapRequest" ? 2 : 0)
        assert.strictEqual((yield* reason(mapper.map(wish)))._tag, "NotAuthorized")
        yield* TestClock.adjust("1 minute")
        router.isMute = () => true
        const fiber = yield* Effect.forkChild(Effect.scoped(mapper.map(wish)))
        yield* Net.settle
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(tagged(router.requests), ["address", "tcp 12000 12001 7200", "address"])
      })
    )

    it.effect("waits as long as it is told to", () =>
      Effect.gen(function* () {
        const { mapper } = yield* withMapper(Net.silent, NatPmp.layerWith({ requestTimeout: "1 second" }))
        const fiber = yield* Effect.forkChild(reason(mapper.map(wish)))
        yield* TestClock.adjust("999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "NoGateway")
      })
    )

    it.effect("says after 2 seconds that a silent gateway is none, having asked 8 times", () =>
      Effect.gen(function* () {
        const { mapper, network } = yield* withMapper(Net.silent)
        const fiber = yield* Effect.forkChild(reason(mapper.map(wish)))
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        assert.deepStrictEqual(
          network.sent.map(({ at }) => at),
          [0, 250, 500, 750, 1000, 1250, 1500, 1750]
        )
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "NoGateway")
      })
    )

    it.effect(
      "gives a gateway that has answered before all the time of a request, and after that silence no more",
      () =>
        Effect.gen(function* () {
          const { mapper, router } = yield* withRouter()
          yield* mapper.externalAddress
          yield* TestClock.adjust("1 minute")
          router.isMute = () => true
          const patient = yield* Effect.forkChild(reason(mapper.externalAddress))
          yield* TestClock.adjust("15999 millis")
          assert.isUndefined(patient.pollUnsafe())
          yield* TestClock.adjust("1 millis")
          assert.strictEqual((yield* Fiber.join(patient))._tag, "NoGateway")
          const again = yield* Effect.forkChild(reason(mapper.externalAddress))
          yield* TestClock.adjust("2 seconds")
          assert.strictEqual((yield* Fiber.join(again))._tag, "NoGateway")
        })
    )

    it.effect("maps within 20 seconds in 19 of 20 tries where three of ten datagrams are lost each way", () =>
      Effect.gen(function* () {
        // Lehmer's generator: the same losses in every run.
        let seed = 1
        const isLost = () => {
          seed = (seed * 48_271) % 0x7fff_ffff
          return seed / 0x7fff_ffff < 0.3
        }
        const tries = 300
        let mapped = 0
        for (let i = 0; i < tries; i++) {
          const router = Net.makeRouter()
          let isOver = false
          router.isMute = () => !isOver && isLost()
          const { mapper } = yield* withMapper((sent) => (!isOver && isLost() ? Effect.void : router.peer(sent)))
          const fiber = yield* Effect.forkChild(Effect.exit(mapper.map(wish)))
          yield* TestClock.adjust("20 seconds")
          const exit = fiber.pollUnsafe()
          if (exit !== undefined && Exit.isSuccess(exit) && Exit.isSuccess(exit.value)) mapped++
          isOver = true
          yield* Fiber.interrupt(fiber)
        }
        assert.isAtLeast(mapped, (tries * 19) / 20)
      })
    )

    it.effect("many at once, one gateway that is gone: all learn it together", () =>
      Effect.gen(function* () {
        const { mapper } = yield* withMapper(Net.silent)
        const fiber = yield* Effect.forkChild(
          Effect.forEach(
            Array.from({ length: 20 }, (_, index) => 2000 + index),
            (internalPort) => reason(mapper.map({ protocol: "udp", internalPort })),
            { concurrency: "unbounded" }
          )
        )
        yield* TestClock.adjust(NatPmp.requestTimeout)
        assert.isTrue((yield* Fiber.join(fiber)).every((failure) => failure._tag === "NoGateway"))
      })
    )
  })

  describe("what NAT-PMP cannot do, it says [RFC 6886 3.3-m]", () => {
    it.effect.each([
      ["an IPv6 pinhole", { ...wish, family: "ipv6" }],
      ["another host's port", { ...wish, internalAddress: Net.ipv4("192.168.77.3") }]
    ] as const)("%s", ([, request]) =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const failure = yield* reason(mapper.map(request))
        assert.strictEqual(failure._tag, "Unsupported")
        assert.notInclude(failure.message, "\n")
        assert.isFalse(router.requests.some((one) => one._tag === "MapRequest"))
      })
    )

    it.effect("but both families are IPv4's, and the own address may be named", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        yield* mapper.map({ ...wish, family: "both", internalAddress: Net.own })
        assert.strictEqual(router.entries.length, 1)
      })
    )

    it.effect("listing and deleting by external port", () =>
      Effect.gen(function* () {
        const { mapper, network } = yield* withRouter()
        const listing = yield* reason(Stream.runCollect(mapper.list))
        assert.strictEqual(listing._tag, "Unsupported")
        const removal = yield* reason(mapper.remove({ protocol: "tcp", externalPort: 12001 }))
        assert.strictEqual(removal._tag, "Unsupported")
        assert.strictEqual(network.opened, 0)
      })
    )

    it.effect("an invalid port", () =>
      Effect.gen(function* () {
        const { mapper, network } = yield* withRouter()
        assert.strictEqual((yield* reason(mapper.map({ ...wish, internalPort: 0 })))._tag, "InvalidRequest")
        assert.strictEqual(network.opened, 0)
      })
    )
  })

  describe("externalAddress", () => {
    it.effect("is the gateway's", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        assert.strictEqual(NetAddress.formatIp(yield* mapper.externalAddress), "11.22.33.1")
        yield* mapper.externalAddress
        assert.deepStrictEqual(tagged(router.requests), ["address"])
      })
    )

    it.effect("or there is none", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.externalAddress = Net.ipv4("0.0.0.0")
        assert.strictEqual((yield* reason(mapper.externalAddress))._tag, "NoExternalAddress")
        router.externalAddress = Net.ipv4("11.22.33.1")
        assert.strictEqual(NetAddress.formatIp(yield* mapper.externalAddress), "11.22.33.1")
      })
    )
  })

  describe("probe", () => {
    const probing = (network: Net.Network, selected?: string) =>
      NatPmp.probe.pipe(Effect.provideService(Gateway.Selected, selected), Effect.provide(network.layer))

    it.effect("asks for the external address and nothing else", () =>
      Effect.gen(function* () {
        const router = Net.makeRouter()
        const network = yield* Net.make(router.peer)
        const { externalAddress, gateway } = yield* probing(network)
        assert.strictEqual(externalAddress && NetAddress.formatIp(externalAddress), "11.22.33.1")
        assert.strictEqual(gateway.name, "192.168.77.1")
        assert.strictEqual(gateway.method, "natpmp")
        assert.strictEqual(NetAddress.formatIp(gateway.localAddress), "192.168.77.2")
        assert.deepStrictEqual(tagged(router.requests), ["address"])
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("finds a gateway that has no external address, as it maps all the same", () =>
      Effect.gen(function* () {
        const router = Net.makeRouter()
        router.externalAddress = Net.ipv4("0.0.0.0")
        const network = yield* Net.make(router.peer)
        const { externalAddress, gateway } = yield* probing(network)
        assert.isUndefined(externalAddress)
        assert.strictEqual(gateway.name, "192.168.77.1")
        assert.strictEqual(NetAddress.formatIp(gateway.localAddress), "192.168.77.2")
        const strategy = yield* Effect.provide(NatPmp.makeStrategy(), network.layer)
        assert.strictEqual((yield* strategy.probe).name, "192.168.77.1")
        yield* strategy.mapper.map(wish)
        assert.strictEqual((yield* reason(strategy.mapper.externalAddress))._tag, "NoExternalAddress")
      })
    )

    it.effect("gives up after 2 seconds", () =>
      Effect.gen(function* () {
        const network = yield* Net.make(Net.silent)
        const fiber = yield* Effect.forkChild(reason(probing(network)))
        yield* TestClock.adjust("2 seconds")
        const failure = yield* Fiber.join(fiber)
        assert.strictEqual(failure._tag, "NoGateway")
        assert.include(failure.message, "192.168.77.1 did not answer")
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("ends at once where the gateway refuses [RFC 6886 3.8-c]", () =>
      Effect.gen(function* () {
        const network = yield* Net.make(({ socket }) => Effect.sync(() => socket.refuse()))
        const failure = yield* reason(probing(network))
        assert.strictEqual(failure._tag, "NoGateway")
        assert.include(failure.message, "192.168.77.1 refuses UDP port 5351")
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("asks all default gateways at once: no slow one delays another, and no other is waited for", () =>
      Effect.gen(function* () {
        const router = Net.makeRouter()
        router.delay = 100
        const network = yield* Net.make(hosts({ "192.168.78.1": router.peer }))
        network.gateways = [Net.gateway, NetAddress.ipFromStringUnsafe("fe80::1"), second, second]
        const fiber = yield* Effect.forkChild(probing(network))
        yield* TestClock.adjust("100 millis")
        assert.strictEqual((yield* Fiber.join(fiber)).gateway.name, "192.168.78.1")
        assert.deepStrictEqual(
          network.sent.map(({ to }) => NetAddress.formatInet(to)),
          ["192.168.77.1:5351", "192.168.78.1:5351"]
        )
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("passes on why a gateway will not, rather than that others said nothing", () =>
      Effect.gen(function* () {
        const router = Net.makeRouter()
        router.resultCode = () => 2
        const network = yield* Net.make(hosts({ "192.168.78.1": router.peer }))
        network.gateways = [Net.gateway, second]
        const fiber = yield* Effect.forkChild(reason(probing(network)))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "NotAuthorized")
      })
    )

    it.effect("asks the selected gateway only, be it a default gateway or not", () =>
      Effect.gen(function* () {
        const [here, there] = [Net.makeRouter(), Net.makeRouter()]
        const network = yield* Net.make(
          hosts({ "192.168.77.1": here.peer, "192.168.78.1": there.peer, "192.168.79.1": there.peer })
        )
        network.gateways = [Net.gateway, second]
        assert.strictEqual((yield* probing(network, "192.168.78.1")).gateway.name, "192.168.78.1")
        assert.strictEqual((yield* probing(network, "192.168.79.1")).gateway.name, "192.168.79.1")
        assert.deepStrictEqual(here.requests, [])
      })
    )

    it.effect("says that names select nothing, and that there is no gateway", () =>
      Effect.gen(function* () {
        const network = yield* Net.make(Net.makeRouter().peer)
        for (const name of ["fritz.box", "fe80::1", "224.0.0.1", "0.0.0.0"]) {
          const failure = yield* reason(probing(network, name))
          assert.strictEqual(failure._tag, "NoGateway")
          assert.include(failure.message, `"${name}"`)
        }
        network.gateways = [NetAddress.ipFromStringUnsafe("fe80::1")]
        const failure = yield* reason(probing(network))
        assert.strictEqual(failure._tag, "NoGateway")
        assert.include(failure.message, "no IPv4 default route")
        assert.strictEqual(network.opened, 0)
      })
    )

    it.effect("and the mapping after it is one more exchange", () =>
      Effect.gen(function* () {
        const router = Net.makeRouter()
        const network = yield* Net.make(router.peer)
        const { mapper, probe } = yield* Effect.provide(NatPmp.makeStrategy(), network.layer)
        yield* probe
        yield* mapper.map(wish)
        assert.deepStrictEqual(tagged(router.requests), ["address", "tcp 12000 12001 7200"])
      })
    )
  })

  describe("the selected gateway", () => {
    const two = Effect.fnUntraced(function* (layer: typeof NatPmp.layer) {
      const [here, there] = [Net.makeRouter(), Net.makeRouter()]
      const { mapper, network } = yield* withMapper(
        hosts({ "192.168.77.1": here.peer, "192.168.78.1": there.peer }),
        layer
      )
      network.gateways = [Net.gateway, second]
      return { mapper, here, there }
    })
    const isThere = Effect.provideService(Gateway.Selected, "192.168.78.1")

    it.effect("is not the call's to choose", () =>
      Effect.gen(function* () {
        const { here, mapper, there } = yield* two(NatPmp.layer)
        yield* isThere(mapper.map({ ...wish, internalPort: 12002 }))
        yield* isThere(mapper.externalAddress)
        assert.deepStrictEqual([here.entries.length, there.entries.length], [1, 0])
      })
    )

    it.effect("is given with the layer", () =>
      Effect.gen(function* () {
        const selected = Layer.succeed(Gateway.Selected, "192.168.78.1")
        const { here, mapper, there } = yield* two(NatPmp.layer.pipe(Layer.provide(selected)))
        yield* mapper.map(wish)
        assert.deepStrictEqual([here.entries.length, there.entries.length], [0, 1])
      })
    )

    it.effect("or with the strategy, also for its probe", () =>
      Effect.gen(function* () {
        const router = Net.makeRouter()
        const network = yield* Net.make(router.peer)
        network.gateways = [Net.gateway, second]
        const strategy = yield* NatPmp.makeStrategy().pipe(isThere, Effect.provide(network.layer))
        assert.strictEqual((yield* strategy.probe).name, "192.168.78.1")
        const found = yield* strategy.probe.pipe(Effect.provideService(Gateway.Selected, "192.168.77.1"))
        assert.strictEqual(found.name, "192.168.78.1")
      })
    )
  })

  describe("discovery", () => {
    const discover = (network: Net.Network) =>
      GatewayDiscovery.GatewayDiscovery.use((discovery) => Stream.runCollect(discovery.gateways)).pipe(
        Effect.provide(NatPmpDiscovery.layer.pipe(Layer.provide(network.layer)))
      )
    const names = Effect.map((gateways: ReadonlyArray<Gateway.Gateway>) => gateways.map(({ name }) => name))

    it.effect("reports each gateway as it answers, also one that will not map now", () =>
      Effect.gen(function* () {
        const [slow, unwilling, foreign] = [Net.makeRouter(), Net.makeRouter(), Net.makeRouter()]
        slow.delay = 500
        unwilling.resultCode = () => 2
        foreign.resultCode = () => 1
        const network = yield* Net.make(
          hosts({ "192.168.77.1": slow.peer, "192.168.78.1": unwilling.peer, "192.168.79.1": foreign.peer })
        )
        // Two interfaces may have the same default gateway: it is still one.
        network.gateways = [Net.gateway, Net.gateway, second, Net.ipv4("192.168.79.1"), Net.ipv4("192.168.80.1")]
        const fiber = yield* Effect.forkChild(names(discover(network)))
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* Fiber.join(fiber), ["192.168.78.1", "192.168.77.1"])
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("finds the selected address as well, and with no gateway nothing", () =>
      Effect.gen(function* () {
        const network = yield* Net.make(Net.makeRouter().peer)
        const found = yield* names(discover(network)).pipe(Effect.provideService(Gateway.Selected, "192.168.78.1"))
        assert.sameMembers(found, ["192.168.77.1", "192.168.78.1"])
        network.gateways = []
        assert.deepStrictEqual(yield* discover(network), [])
      })
    )

    it.effect("a search that nobody waits for leaves no socket", () =>
      Effect.gen(function* () {
        const network = yield* Net.make(Net.silent)
        const fiber = yield* Effect.forkChild(discover(network))
        yield* Net.settle
        assert.strictEqual(network.open, 1)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(network.open, 0)
      })
    )
  })
})
