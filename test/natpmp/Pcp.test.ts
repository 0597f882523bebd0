import * as Gateway from "@effect-nat/core/Gateway"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Strategy from "@effect-nat/core/Strategy"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as PcpClient from "@effect-nat/natpmp/PcpClient"
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as PcpDiscovery from "@effect-nat/natpmp/PcpDiscovery"
import * as PortControl from "@effect-nat/natpmp/PortControl"
import * as NatPmpResponder from "@effect-nat/testing/NatPmpResponder"
import * as PcpResponder from "@effect-nat/testing/PcpResponder"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as MemoryLedger from "../core/memoryLedger.ts"
import * as Net from "./network.ts"
import * as Router from "./pcpRouter.ts"

const ip = NetAddress.ipFromStringUnsafe
const second = Net.ipv4("192.168.78.1")
const wish: MappingRequest.MappingRequest = { protocol: "tcp", internalPort: 12000, externalPort: 12001 }

const reason = <A, R>(effect: Effect.Effect<A, NatError.NatError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

/** Whoever is asked at each address; nobody at all others. */
const hosts =
  (peers: Readonly<Record<string, Net.Peer>>): Net.Peer =>
  (sent) =>
    (peers[NetAddress.formatIp(sent.to.address)] ?? Net.silent)(sent)

const withMapper = Effect.fnUntraced(function* (peer: Net.Peer, layer: typeof Pcp.layer = Pcp.layer) {
  const network = yield* Net.make(peer)
  const context = yield* Layer.build(layer.pipe(Layer.provide(network.layer)))
  return { network, mapper: Context.get(context, PortMapper.PortMapper) }
})

const withRouter = Effect.fnUntraced(function* (
  options: Parameters<typeof Router.make>[0] = {},
  layer: typeof Pcp.layer = Pcp.layer
) {
  const router = Router.make(options)
  const { mapper, network } = yield* withMapper(router.peer, layer)
  return { router, mapper, network }
})

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

const entries = (router: Router.PcpRouter) => Effect.map(Clock.currentTimeMillis, (now) => router.model.entries(now))

/** A gateway of NAT-PMP's own time: everything else it refuses, saying that it speaks version 0. */
const natPmpOnly: Parameters<typeof Router.make>[0] = { respond: NatPmpResponder.respond }

const pcpOnly: Parameters<typeof Router.make>[0] = { respond: PcpResponder.respond }

const leftNonce = (internalPort: number) => Codec.nonceFromBytes(Uint8Array.of(internalPort & 0xff))

/** What an earlier run has noted. */
const left = (internalPort: number): Ledger.Entry =>
  new Ledger.Entry({
    method: "pcp",
    gateway: "192.168.77.1:5351",
    key: `tcp 192.168.77.2:${internalPort}`,
    protocol: "tcp",
    internalAddress: ip("192.168.77.2"),
    internalPort,
    externalPort: internalPort + 1,
    description: "effect-nat",
    nonce: leftNonce(internalPort)
  })

const noncesOf = (router: Router.PcpRouter): Set<string> =>
  new Set(router.requests.flatMap((request) => (request._tag === "MapRequest" ? [request.nonce] : [])))

const mapped = (request: Uint8Array, fields: Partial<Codec.MapResponse>): Uint8Array => {
  const asked = Result.getOrThrow(Codec.decodeRequest(request))
  if (asked._tag !== "MapRequest") throw new Error("no MAP")
  return Codec.encodeResponse({
    ...asked,
    _tag: "MapResponse",
    epoch: 1000,
    externalAddress: ip("11.22.33.1"),
    ...fields
  })
}

describe("Pcp", () => {
  describe("map", () => {
    it.effect(
      "takes one exchange, and the scope deletes it with the mapping's own nonce [RFC 6887 8.1-a, 13.2-a, 15.1-b]",
      () =>
        Effect.gen(function* () {
          const { mapper, network, router } = yield* withRouter()
          const { scope, value } = yield* Net.inOwnScope(mapper.map(wish))
          assert.deepStrictEqual(fields(yield* value.current), {
            external: "11.22.33.1",
            externalPort: 12001,
            internal: "192.168.77.2",
            internalPort: 12000,
            lifetime: 7200,
            gateway: "192.168.77.1",
            method: "pcp",
            status: "mapped"
          })
          assert.deepStrictEqual(router.asked, ["map 6 12000 12001 7200"])
          assert.strictEqual(network.opened, 1)
          yield* Scope.close(scope, Exit.void)
          assert.deepStrictEqual(router.asked.slice(1), ["map 6 12000 0 0"])
          assert.deepStrictEqual(yield* entries(router), [])
          assert.strictEqual(noncesOf(router).size, 1)
        })
    )

    it.effect("each mapping has a nonce of its own, from where they are told to come [RFC 6887 11.2-f]", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        yield* mapper.map(wish)
        yield* mapper.map({ ...wish, protocol: "udp" })
        assert.strictEqual(noncesOf(router).size, 2)
        const nonce = Codec.nonceFromBytes(Uint8Array.of(7))
        const source = Layer.succeed(PcpClient.NonceSource, Effect.succeed(nonce))
        const given = yield* withRouter({}, Pcp.layer.pipe(Layer.provide(source)))
        yield* given.mapper.map(wish)
        assert.deepStrictEqual([...noncesOf(given.router)], [nonce])
      })
    )

    it.effect("deletes also when the program fails or is interrupted", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        yield* mapper.map(wish).pipe(Effect.andThen(Effect.fail("oops")), Effect.scoped, Effect.exit)
        assert.deepStrictEqual(yield* entries(router), [])
        const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(mapper.map(wish), Effect.never)))
        yield* Net.settle
        assert.strictEqual((yield* entries(router)).length, 1)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(yield* entries(router), [])
      })
    )

    it.effect("many at once take one exchange each, from one socket", () =>
      Effect.gen(function* () {
        const { mapper, network, router } = yield* withRouter()
        const ports = Array.from({ length: 20 }, (_, index) => 2000 + index)
        yield* Effect.forEach(ports, (internalPort) => mapper.map({ protocol: "udp", internalPort }), {
          concurrency: "unbounded"
        })
        assert.strictEqual(router.asked.length, 20)
        assert.strictEqual((yield* entries(router)).length, 20)
        assert.strictEqual(network.opened, 1)
      })
    )

    it.effect("takes the port and the lifetime that are granted, be it shorter or longer", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter({ model: { maxLifetimeSeconds: 600 } })
        router.model.takePort({ protocol: "tcp", externalPort: 12001 })
        const mapping = yield* mapper.map(wish)
        const { externalPort, lifetime } = fields(yield* mapping.current)
        assert.deepStrictEqual([lifetime, externalPort === 12001], [600, false])
        router.alter = (_, request) => mapped(request, { lifetime: 86_400 })
        const longer = yield* mapper.map({ ...wish, protocol: "udp", lifetime: "1 minute" })
        assert.strictEqual(fields(yield* longer.current).lifetime, 86_400)
        router.alter = (answer) => answer
      })
    )

    it.effect("says that no other port will do, and has the wanted one or Conflict", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.model.takePort({ protocol: "tcp", externalPort: 12001 })
        const strict = { ...wish, strictExternalPort: true }
        const failure = yield* reason(mapper.map(strict))
        assert.strictEqual(failure._tag === "Conflict" && failure.externalPort, 12001)
        assert.deepStrictEqual(router.asked, ["map 6 12000 12001 7200 PreferFailure"])
        assert.deepStrictEqual(yield* entries(router), [])
        router.model.freePort({ protocol: "tcp", externalPort: 12001 })
        // The gateway has said how long that will be so.
        yield* TestClock.adjust("1 minute")
        yield* mapper.map(strict)
        assert.deepStrictEqual(
          (yield* entries(router)).map(({ externalPort }) => externalPort),
          [12001]
        )
      })
    )

    it.effect("gives back another port that is granted all the same, also by a gateway that lacks the option", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.model.takePort({ protocol: "tcp", externalPort: 12001 })
        router.alter = (answer, request) => {
          const asked = Result.getOrThrow(Codec.decodeRequest(request))
          if (asked._tag !== "MapRequest" || asked.options.length === 0) return answer
          const refusal = { resultCode: 5, lifetime: 1800, epoch: 1000, isParsed: true }
          return Codec.encodeResponse(Codec.refusalOf(request, refusal))
        }
        const strict = { ...wish, strictExternalPort: true }
        assert.strictEqual((yield* reason(mapper.map(strict)))._tag, "Conflict")
        assert.deepStrictEqual(router.asked, [
          "map 6 12000 12001 7200 PreferFailure",
          "map 6 12000 12001 7200",
          "map 6 12000 0 0"
        ])
        assert.deepStrictEqual(yield* entries(router), [])
        assert.strictEqual(noncesOf(router).size, 1)
        router.model.freePort({ protocol: "tcp", externalPort: 12001 })
        yield* mapper.map(strict)
        assert.strictEqual((yield* entries(router))[0]?.externalPort, 12001)
      })
    )

    it.effect("asks for a day where a permanent mapping is wanted, and renews it", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        yield* mapper.map({ ...wish, lifetime: 0 })
        yield* TestClock.adjust("13 hours")
        const maps = router.asked.filter((one) => one !== "announce")
        assert.deepStrictEqual(maps, ["map 6 12000 12001 86400", "map 6 12000 12001 86400"])
      })
    )

    it.effect(
      "renews in place, with its own nonce, the granted port and the known address [RFC 6887 8.1.1-i, 11.2.1-abg, 11.4-e, 15-a]",
      () =>
        Effect.gen(function* () {
          const { mapper, router } = yield* withRouter()
          router.model.takePort({ protocol: "tcp", externalPort: 12001 })
          const { scope, value } = yield* Net.inOwnScope(mapper.map({ ...wish, lifetime: "1 hour" }))
          const { externalPort } = yield* value.current
          yield* TestClock.adjust("3 hours")
          const [first, ...renewals] = router.requests.flatMap((one) => (one._tag === "MapRequest" ? [one] : []))
          assert.isAtLeast(renewals.length, 5)
          assert.strictEqual(first?.externalPort, 12001)
          for (const renewal of renewals) {
            assert.strictEqual(renewal.externalPort, externalPort)
            assert.strictEqual(NetAddress.formatIp(renewal.externalAddress), "11.22.33.1")
          }
          assert.strictEqual(noncesOf(router).size, 1)
          yield* Scope.close(scope, Exit.void)
          assert.deepStrictEqual(yield* entries(router), [])
          const { length } = router.asked
          yield* TestClock.adjust("1 day")
          assert.strictEqual(router.asked.length, length)
        })
    )

    it.effect("what a killed run has left is renewed with that run's nonce, or deleted with it", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        yield* MemoryLedger.leave([left(12000), left(9000)])
        yield* mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12001 })
        yield* Effect.repeat(TestClock.adjust("10 millis"), { times: 10 })
        const asked = router.requests.flatMap((one) =>
          one._tag === "MapRequest" ? [[one.internalPort, one.lifetime === 0, one.nonce] as const] : []
        )
        assert.deepStrictEqual(asked, [
          [12000, false, leftNonce(12000)],
          [9000, true, leftNonce(9000)]
        ])
      }).pipe(Effect.provide(MemoryLedger.layer))
    )

    it.effect.each(["pcp", "natPmp"] as const)("is noted for the address that it was granted to (%s)", (which) =>
      Effect.gen(function* () {
        const router = Router.make()
        const network = yield* Net.make(router.peer)
        const { [which]: strategy } = yield* Effect.provide(PortControl.makeStrategies(), network.layer)
        yield* strategy.mapper.map({ ...wish, internalPort: 9000 })
        // This host's address changes, and nobody has noticed yet.
        const before = network.own
        network.own = Net.ipv4("192.168.77.3")
        router.client = network.own
        network.isGone = (address) => Equal.equals(address, before)
        yield* strategy.mapper.map(wish)
        const noted = yield* (yield* Ledger.Ledger).entries(strategy.method)
        assert.include(
          noted.map(({ key }) => key),
          "tcp 192.168.77.3:12000"
        )
      }).pipe(Effect.provide(MemoryLedger.layer))
    )

    it.effect.each(["pcp", "natPmp"] as const)(
      "another port than wanted, which another process has, stays (%s)",
      (which) =>
        Effect.gen(function* () {
          const router = Router.make()
          router.model.takePort({ protocol: "tcp", externalPort: 12001 })
          router.alter = (answer, request) => {
            const asked = Codec.decodeRequest(request)
            if (Result.isFailure(asked) || asked.success._tag !== "MapRequest") return answer
            if (asked.success.options.length === 0) return answer
            return Codec.encodeResponse(
              Codec.refusalOf(request, { resultCode: 5, lifetime: 1800, epoch: 1000, isParsed: true })
            )
          }
          const written: Array<ReadonlyArray<Ledger.Entry>> = [[], []]
          const mapperOf = Effect.fnUntraced(function* (process: 0 | 1) {
            const ledger = yield* Ledger.make({
              write: (entries) => Effect.sync(() => void (written[process] = entries)),
              takeOver: () => Effect.succeed([]),
              others: Effect.sync(() => ({ alive: written[1 - process] ?? [], gone: [] }))
            })
            const network = yield* Net.make(router.peer)
            const strategies = yield* Effect.provide(PortControl.makeStrategies(), network.layer).pipe(
              Effect.provideService(Ledger.Ledger, ledger)
            )
            return strategies[which].mapper
          })
          yield* (yield* mapperOf(0)).map(wish)
          const before = yield* entries(router)
          assert.lengthOf(before, 1)
          const error = yield* reason((yield* mapperOf(1)).map({ ...wish, strictExternalPort: true }))
          assert.strictEqual(error._tag, "Conflict")
          assert.lengthOf(yield* entries(router), 1)
          assert.deepStrictEqual(
            written.map((noted) => noted.length),
            [1, 0]
          )
        })
    )

    it.effect("what nobody has answered is known for as long as somebody may hold it, and a day longer", () =>
      Effect.gen(function* () {
        const { mapper } = yield* withMapper(Net.silent)
        const known = Effect.gen(function* () {
          return (yield* (yield* Ledger.Ledger).entries("pcp")).map((entry) => entry.internalPort)
        })
        const ask = Effect.fnUntraced(function* (internalPort: number, lifetime: number) {
          const fiber = yield* Effect.forkChild(reason(mapper.map({ protocol: "tcp", internalPort, lifetime })))
          yield* TestClock.adjust("1 minute")
          assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
          return yield* known
        })
        const [twoHours, withoutEnd] = [7200, 0]
        assert.deepStrictEqual(yield* ask(1, twoHours), [1])
        assert.deepStrictEqual(yield* ask(2, withoutEnd), [1, 2])
        yield* TestClock.adjust("27 hours")
        assert.deepStrictEqual(yield* ask(3, twoHours), [2, 3])
        yield* TestClock.adjust("27 hours")
        assert.deepStrictEqual(yield* ask(4, twoHours), [4])
      }).pipe(Effect.provide(MemoryLedger.layer))
    )

    it.effect("a mapping that was lost is asked for anew with the same nonce", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const { scope, value } = yield* Net.inOwnScope(mapper.map({ ...wish, lifetime: "10 minutes" }))
        router.isMute = () => true
        router.model.reboot(yield* Clock.currentTimeMillis)
        yield* TestClock.adjust("20 minutes")
        assert.strictEqual((yield* value.current).status, "lost")
        router.isMute = () => false
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual((yield* value.current).status, "mapped")
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* entries(router), [])
        assert.strictEqual(noncesOf(router).size, 1)
      })
    )

    it.effect("a strict mapping keeps its port when the address changes", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const mapping = yield* mapper.map({ ...wish, strictExternalPort: true, lifetime: "1 hour" })
        router.model.changeExternalAddress(Net.ipv4("11.22.33.9"))
        yield* TestClock.adjust("30 minutes")
        assert.deepInclude(fields(yield* mapping.current), { external: "11.22.33.9", status: "mapped" })
      })
    )

    it.effect("a renewal tells of a new external address, and of none [RFC 6887 16.3.2-a]", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const mapping = yield* mapper.map({ ...wish, lifetime: "1 hour" })
        router.model.changeExternalAddress(Net.ipv4("11.22.33.9"))
        yield* TestClock.adjust("30 minutes")
        assert.strictEqual(fields(yield* mapping.current).external, "11.22.33.9")
        router.alter = (_, request) => mapped(request, { externalAddress: NetAddress.ipv4Unspecified, epoch: 4000 })
        yield* TestClock.adjust("30 minutes")
        assert.deepInclude(fields(yield* mapping.current), { external: undefined, status: "mapped" })
        router.alter = (answer) => answer
      })
    )

    it.effect("goes to the gateway of the network that the host is in now", () =>
      Effect.gen(function* () {
        const [here, there] = [Router.make(), Router.make({ model: { address: second } })]
        there.client = Net.ipv4("192.168.78.2")
        const { mapper, network } = yield* withMapper(hosts({ "192.168.77.1": here.peer, "192.168.78.1": there.peer }))
        const { scope, value } = yield* Net.inOwnScope(mapper.map({ ...wish, lifetime: "1 hour" }))
        network.gateways = [second]
        network.own = there.client
        yield* TestClock.adjust("30 minutes")
        assert.deepInclude(fields(yield* value.current), { gateway: "192.168.78.1", internal: "192.168.78.2" })
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* entries(there), [])
        assert.notDeepEqual([...noncesOf(here)], [...noncesOf(there)])
      })
    )

    it.effect("asks from the address that the host has by then [RFC 6887 11.5-a]", () =>
      Effect.gen(function* () {
        const { mapper, network, router } = yield* withRouter()
        const mapping = yield* mapper.map({ ...wish, lifetime: "1 hour" })
        network.own = Net.ipv4("192.168.77.3")
        router.client = network.own
        yield* TestClock.adjust("30 minutes")
        assert.strictEqual(fields(yield* mapping.current).internal, "192.168.77.3")
        assert.strictEqual(noncesOf(router).size, 1)
      })
    )

    it.effect.each(["ipv4", "ipv6"] as const)("%s: this host by its own address is no other host's port", (family) =>
      Effect.gen(function* () {
        const router = Router.make()
        const { mapper, network } = yield* withMapper(router.peer)
        network.gateways = [Net.gateway, ip("fe80::1")]
        network.scopeId = 3
        if (family === "ipv6") router.client = network.ownIpv6
        const internalAddress = family === "ipv6" ? network.ownIpv6 : network.own
        yield* mapper.map({ ...wish, family })
        assert.strictEqual((yield* reason(mapper.map({ ...wish, family, internalAddress })))._tag, "Unsupported")
        // As another host's it would have been refused by the gateway, which has it under another nonce.
        assert.lengthOf(router.asked, 1)
      })
    )

    it.effect("one internal port is held once: a second request is refused until the first is released", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const first = yield* mapper.map(wish)
        const again = { ...wish, externalPort: 13000 }
        assert.strictEqual((yield* reason(mapper.map(again)))._tag, "Unsupported")
        yield* first.release
        assert.deepStrictEqual(yield* entries(router), [])
        yield* mapper.map(again)
        assert.strictEqual((yield* entries(router))[0]?.externalPort, 13000)
      })
    )

    it.effect("what another program has mapped with its own nonce is neither changed nor deleted", () =>
      Effect.gen(function* () {
        const router = Router.make()
        const [mine, theirs] = [yield* withMapper(router.peer), yield* withMapper(router.peer)]
        yield* theirs.mapper.map(wish)
        assert.strictEqual((yield* reason(mine.mapper.map({ ...wish, externalPort: 13000 })))._tag, "NotAuthorized")
        assert.strictEqual((yield* entries(router))[0]?.externalPort, 12001)
      })
    )

    it.effect("a request that was refused has left nothing, and deletes nothing", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.model.refuseNext("OutOfResources")
        assert.strictEqual((yield* reason(mapper.map(wish)))._tag, "OutOfResources")
        // The address, which may explain the refusal, is asked for in NAT-PMP.
        assert.deepStrictEqual(router.asked, ["map 6 12000 12001 7200", "v0 0"])
        // As long as the error lasts nothing is sent.
        assert.strictEqual((yield* reason(mapper.map(wish)))._tag, "OutOfResources")
        assert.strictEqual(router.asked.length, 2)
        yield* TestClock.adjust("30 seconds")
        yield* mapper.map(wish)
        assert.strictEqual((yield* entries(router)).length, 1)
      })
    )

    it.effect("what an unanswered request left is deleted", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        router.isMute = (payload) => payload.subarray(4, 8).some((byte) => byte !== 0)
        const fiber = yield* Effect.forkChild(reason(mapper.map(wish)))
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual((yield* entries(router)).length, 1)
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
        assert.deepStrictEqual(yield* entries(router), [])
      })
    )

    it.effect("what an interrupted request left is deleted, whenever it is interrupted", () =>
      Effect.gen(function* () {
        for (let turns = 0; turns < 60; turns++) {
          const { mapper, network, router } = yield* withRouter()
          const fiber = yield* Effect.forkChild(Effect.scoped(mapper.map(wish)))
          yield* Effect.repeat(Effect.yieldNow, { times: turns })
          const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber))
          yield* TestClock.adjust("1 minute")
          yield* Fiber.join(interrupting)
          assert.deepStrictEqual(yield* entries(router), [], `interrupted after ${turns} turns`)
          assert.strictEqual(network.open, 0)
        }
      })
    )

    it.effect("and what arrives only after its own undoing is undone again", () =>
      Effect.gen(function* () {
        const router = Router.make()
        const { mapper, network } = yield* withMapper((sent) =>
          sent.payload.subarray(4, 8).some((byte) => byte !== 0)
            ? Effect.delay(router.peer(sent), "500 millis")
            : router.peer(sent)
        )
        const fiber = yield* Effect.forkChild(Effect.scoped(mapper.map(wish)))
        yield* Net.settle
        assert.strictEqual(network.sent.length, 1)
        const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber))
        yield* Net.settle
        assert.strictEqual(network.sent.length, 2)
        yield* TestClock.adjust("600 millis")
        assert.strictEqual((yield* entries(router)).length, 1)
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(interrupting)
        assert.deepStrictEqual(yield* entries(router), [])
      })
    )

    it.effect("warns once of an address that the world cannot reach", () =>
      Effect.gen(function* () {
        const warnings: Array<string> = []
        const logger = Logger.make(({ logLevel, message }) => {
          if (logLevel === "Warn") warnings.push(String(message))
        })
        yield* Effect.gen(function* () {
          const { mapper } = yield* withRouter({ model: { externalAddress: Net.ipv4("100.64.0.9") } })
          yield* mapper.map(wish)
          yield* mapper.map({ ...wish, protocol: "udp" })
          assert.strictEqual(warnings.length, 1)
          assert.include(warnings[0], "carrier-grade NAT")
        }).pipe(Effect.provide(Logger.layer([logger])))
      })
    )

    it.effect("a gateway where nobody listens is none, at once", () =>
      Effect.gen(function* () {
        const { mapper, network } = yield* withMapper(({ socket }) => Effect.sync(() => socket.refuse()))
        const failure = yield* reason(mapper.map(wish))
        assert.strictEqual(failure._tag, "NoGateway")
        assert.include(failure.message, "192.168.77.1 refuses UDP port 5351")
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("a silent one gets 10 seconds, one that has answered 24, and each as long as it is told to", () =>
      Effect.gen(function* () {
        const waits = Effect.fnUntraced(function* (mapper: PortMapper.PortMapper["Service"], millis: number) {
          const fiber = yield* Effect.forkChild(reason(mapper.map({ ...wish, internalPort: 12002 })))
          // What may have been left behind is looked for as long again, 5 seconds at most, where PCP was never heard 4.
          yield* TestClock.adjust(millis + Math.min(millis, millis === 24_000 ? 5000 : 4000) - 1)
          assert.isUndefined(fiber.pollUnsafe())
          yield* TestClock.adjust("2 millis")
          assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
        })
        yield* waits((yield* withMapper(Net.silent)).mapper, 10_000)
        yield* waits((yield* withMapper(Net.silent, Pcp.layerWith({ requestTimeout: "1 second" }))).mapper, 1000)
        const { mapper, router } = yield* withRouter()
        yield* mapper.map(wish)
        router.isMute = () => true
        yield* waits(mapper, 24_000)
        router.isMute = () => false
      })
    )

    it.effect("says that there is no gateway, and that names select nothing", () =>
      Effect.gen(function* () {
        const { mapper, network } = yield* withRouter()
        network.gateways = []
        const failure = yield* reason(mapper.map(wish))
        assert.strictEqual(failure._tag, "NoGateway")
        assert.include(failure.message, "no IPv4 default route")
        assert.strictEqual(network.opened, 0)
      })
    )
  })

  describe("several gateways", () => {
    it.effect("are asked which of them is there before one of them maps; then it is known", () =>
      Effect.gen(function* () {
        const there = Router.make({ model: { address: second } })
        const { mapper, network } = yield* withMapper(hosts({ "192.168.78.1": there.peer }))
        network.gateways = [Net.gateway, second]
        const mapping = yield* mapper.map(wish)
        assert.strictEqual(fields(yield* mapping.current).gateway, "192.168.78.1")
        assert.deepStrictEqual(there.asked, ["announce", "map 6 12000 12001 7200"])
        yield* mapper.map({ ...wish, protocol: "udp" })
        assert.deepStrictEqual(there.asked.slice(2), ["map 17 12000 12001 7200"])
        assert.deepStrictEqual(
          network.sent.filter(({ payload, to }) => payload[1] !== 0 && Equal.equals(to.address, Net.gateway)),
          []
        )
      })
    )

    it.effect("the selected one is asked and no other [RFC 6887 8.1-a]", () =>
      Effect.gen(function* () {
        const [here, there] = [Router.make(), Router.make({ model: { address: second } })]
        const layer = Pcp.layer.pipe(Layer.provide(Layer.succeed(Gateway.Selected, "192.168.78.1")))
        const { mapper, network } = yield* withMapper(
          hosts({ "192.168.77.1": here.peer, "192.168.78.1": there.peer }),
          layer
        )
        network.gateways = [Net.gateway, second]
        yield* mapper.map(wish)
        assert.deepStrictEqual([here.asked, there.asked], [[], ["map 6 12000 12001 7200"]])
      })
    )
  })

  describe("other hosts", () => {
    const other = Net.ipv4("192.168.77.9")

    it.effect("are not mapped for, as long as nobody has said so", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        const failure = yield* reason(mapper.map({ ...wish, internalAddress: other }))
        assert.strictEqual(failure._tag, "Unsupported")
        assert.include(failure.message, "thirdParty")
        assert.deepStrictEqual(router.asked, [])
      })
    )

    it.effect("are named in the request and in its deletion, where that is switched on", () =>
      Effect.gen(function* () {
        const router = Router.make({
          respond: (model, now, datagram, source) =>
            PcpResponder.respond(model, now, datagram, source, { thirdParty: true })
        })
        const { mapper } = yield* withMapper(router.peer, Pcp.layerWith({ thirdParty: true }))
        const { scope, value } = yield* Net.inOwnScope(mapper.map({ ...wish, internalAddress: other }))
        assert.strictEqual(fields(yield* value.current).internal, "192.168.77.9")
        assert.strictEqual(NetAddress.formatIp((yield* entries(router))[0]?.internalAddress ?? Net.own), "192.168.77.9")
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(router.asked, ["map 6 12000 12001 7200 ThirdParty", "map 6 12000 0 0 ThirdParty"])
        assert.deepStrictEqual(yield* entries(router), [])
        // The own address needs no option.
        yield* mapper.map({ ...wish, internalAddress: Net.own })
        assert.strictEqual(router.asked[2], "map 6 12000 12001 7200")
      })
    )

    it.effect("another address of this host's is asked from", () =>
      Effect.gen(function* () {
        const { mapper, network, router } = yield* withRouter()
        const alias = Net.ipv4("192.168.77.22")
        network.isOwn = (address) => Equal.equals(address, alias)
        router.client = alias
        const mapping = yield* mapper.map({ ...wish, internalAddress: alias })
        assert.strictEqual(fields(yield* mapping.current).internal, "192.168.77.22")
        assert.deepStrictEqual(router.asked, ["map 6 12000 12001 7200"])
      })
    )

    it.effect.each([
      ["ipv4", "2001:db8::9"],
      ["both", "2001:db8::9"],
      ["ipv6", "192.168.77.9"],
      ["ipv6", "fe80::9"],
      ["ipv6", "fd00::9"]
    ] as const)("a mapping for the family %s cannot lead to %s [RFC 6887 8.4-b]", ([family, address]) =>
      Effect.gen(function* () {
        const { mapper, network } = yield* withRouter()
        const failure = yield* reason(mapper.map({ ...wish, family, internalAddress: ip(address) }))
        assert.strictEqual(failure._tag, "InvalidRequest")
        assert.strictEqual(network.opened, 0)
      })
    )
  })

  describe("IPv6", () => {
    const linkLocal = ip("fe80::1")

    /** A firewall: what is asked for is let through to the very port. */
    const firewall =
      (router: { readonly asked: Array<string> }): Net.Peer =>
      ({ payload, socket }) =>
        Effect.sync(() => {
          const request = Result.getOrThrow(Codec.decodeRequest(payload))
          if (request._tag !== "MapRequest") {
            router.asked.push(request._tag)
            return socket.reply(Codec.encodeResponse({ _tag: "AnnounceResponse", epoch: 1000, options: [] }))
          }
          const client = NetAddress.formatIp(request.clientAddress)
          router.asked.push(`${client} ${request.protocol} ${request.internalPort} ${request.lifetime}`)
          const { clientAddress, internalPort } = request
          socket.reply(mapped(payload, { externalAddress: clientAddress, externalPort: internalPort }))
        })

    const withFirewall = Effect.fnUntraced(function* (layer: typeof Pcp.layer = Pcp.layer) {
      const router = { asked: [] as Array<string> }
      const { mapper, network } = yield* withMapper(firewall(router), layer)
      network.gateways = [Net.gateway, linkLocal]
      network.scopeId = 3
      return { mapper, network, router }
    })

    const pinhole = { protocol: "tcp", internalPort: 12000, family: "ipv6" } as const

    it.effect(
      "a pinhole to this host's global address, through its link-local gateway [RFC 6887 4-a, 8.1-b, 8.4-a, 10-a]",
      () =>
        Effect.gen(function* () {
          const { mapper, network, router } = yield* withFirewall()
          const { scope, value } = yield* Net.inOwnScope(mapper.map(pinhole))
          assert.deepStrictEqual(fields(yield* value.current), {
            external: "2001:db8::2",
            externalPort: 12000,
            internal: "2001:db8::2",
            internalPort: 12000,
            lifetime: 7200,
            gateway: "fe80::1",
            method: "pcp",
            status: "mapped"
          })
          const [sent] = network.sent
          assert.isTrue(sent !== undefined && NetAddress.isInetAddressV6(sent.to) && sent.to.scopeId === 3)
          yield* Scope.close(scope, Exit.void)
          assert.deepStrictEqual(router.asked, ["2001:db8::2 6 12000 7200", "2001:db8::2 6 12000 0"])
        })
    )

    it.effect(
      "stands beside a mapping of the same port over IPv4, and follows this host's address [RFC 6887 8.1-b, 8.4-c, 10-ab]",
      () =>
        Effect.gen(function* () {
          const { mapper, network, router } = yield* withFirewall()
          yield* mapper.map({ ...pinhole, family: "both" })
          const mapping = yield* mapper.map(pinhole)
          network.ownIpv6 = ip("2001:db8::3")
          yield* TestClock.adjust("1 hour")
          assert.deepInclude(fields(yield* mapping.current), { external: "2001:db8::3", internal: "2001:db8::3" })
          assert.include(router.asked, "192.168.77.2 6 12000 7200")
          assert.include(router.asked, "2001:db8::3 6 12000 7200")
        })
    )

    it.effect("leads to another address of this host's where that is wanted", () =>
      Effect.gen(function* () {
        const { mapper, network, router } = yield* withFirewall()
        const alias = ip("2001:db8::22")
        network.isOwn = () => true
        const mapping = yield* mapper.map({ ...pinhole, internalAddress: alias })
        assert.strictEqual(fields(yield* mapping.current).internal, "2001:db8::22")
        assert.deepStrictEqual(router.asked, ["2001:db8::22 6 12000 7200"])
      })
    )

    it.effect("the gateway may have a global address, and be selected by it", () =>
      Effect.gen(function* () {
        const { mapper, network } = yield* withFirewall()
        network.gateways = [ip("2001:db8::1")]
        network.scopeId = undefined
        yield* mapper.map(pinhole)
        assert.strictEqual(NetAddress.formatIp(network.sent[0]?.to.address ?? Net.own), "2001:db8::1")
        const selected = Layer.succeed(Gateway.Selected, "2001:db8::99")
        const other = yield* withFirewall(Pcp.layer.pipe(Layer.provide(selected)))
        yield* other.mapper.map(pinhole)
        assert.strictEqual(NetAddress.formatIp(other.network.sent[0]?.to.address ?? Net.own), "2001:db8::99")
      })
    )

    it.effect.each([
      ["no default route", { gateways: [Net.gateway] }, "no default route for IPv6"],
      ["no global address", { ownIpv6: ip("fe80::2") }, "no global IPv6 address"],
      ["no interface for its gateway", { scopeId: undefined }, "on which interface"]
    ] as const)("without: %s [RFC 6887 8.4-b]", ([, change, words]) =>
      Effect.gen(function* () {
        const { mapper, network, router } = yield* withFirewall()
        Object.assign(network, change)
        const failure = yield* reason(mapper.map(pinhole))
        assert.strictEqual(failure._tag, "Unsupported")
        assert.include(failure.message, words)
        assert.deepStrictEqual(router.asked, [])
      })
    )

    it.effect("a host without an IPv4 gateway is told of the IPv6 one", () =>
      Effect.gen(function* () {
        const router = { asked: [] as Array<string> }
        const network = yield* Net.make(firewall(router))
        network.gateways = [linkLocal]
        network.scopeId = 3
        const found = yield* Effect.provide(Pcp.probe, network.layer)
        assert.deepStrictEqual([found.name, NetAddress.formatIp(found.localAddress)], ["fe80::1", "2001:db8::2"])
        assert.deepStrictEqual(router.asked, ["AnnounceRequest"])
        assert.strictEqual(network.open, 0)
      })
    )
  })

  describe("a gateway that speaks NAT-PMP only (RFC 6887 §9)", () => {
    it.effect(
      "is asked in NAT-PMP at once, from the same socket, and not in PCP again [RFC 6886 1.1-bc, RFC 6887 9-bd]",
      () =>
        Effect.gen(function* () {
          const { mapper, network, router } = yield* withRouter(natPmpOnly)
          const { scope, value } = yield* Net.inOwnScope(mapper.map(wish))
          assert.deepInclude(fields(yield* value.current), {
            external: "11.22.33.1",
            externalPort: 12001,
            internal: "192.168.77.2",
            method: "natpmp"
          })
          assert.deepStrictEqual(router.asked, ["map 6 12000 12001 7200", "v0 0", "v0 2"])
          yield* mapper.map({ ...wish, protocol: "udp" })
          assert.deepStrictEqual(router.asked.slice(3), ["v0 1"])
          yield* Scope.close(scope, Exit.void)
          assert.deepStrictEqual(router.asked.slice(4), ["v0 2"])
          assert.strictEqual((yield* entries(router)).length, 1)
          assert.strictEqual(network.opened, 1)
        })
    )

    it.effect("renews in NAT-PMP, and asks in PCP again when it has started over [RFC 6886 1.1-d]", () =>
      Effect.gen(function* () {
        let respond: PcpResponder.Responder = NatPmpResponder.respond
        const { mapper, router } = yield* withRouter({ respond: (...asked) => respond(...asked) })
        const mapping = yield* mapper.map({ ...wish, lifetime: "10 minutes" })
        yield* TestClock.adjust("12 minutes")
        assert.deepStrictEqual(
          router.asked.filter((one) => one.startsWith("map")),
          ["map 6 12000 12001 600"]
        )
        assert.strictEqual(fields(yield* mapping.current).method, "natpmp")
        respond = PcpResponder.respondToBoth
        router.model.reboot(yield* Clock.currentTimeMillis)
        yield* TestClock.adjust("10 minutes")
        const udp = yield* mapper.map({ ...wish, protocol: "udp" })
        assert.strictEqual(fields(yield* udp.current).method, "pcp")
      })
    )

    it.effect("is asked nothing in NAT-PMP by an attempt, until the attempt is a mapping", () =>
      Effect.gen(function* () {
        let respond: PcpResponder.Responder = NatPmpResponder.respond
        const { mapper, router } = yield* withRouter({ respond: (...asked) => respond(...asked) })
        const attempt = Effect.provideService(mapper.map({ ...wish, lifetime: "10 minutes" }), Strategy.IsAttempt, true)
        assert.strictEqual((yield* reason(attempt))._tag, "Unsupported")
        assert.deepStrictEqual(router.asked, ["map 6 12000 12001 600"])
        respond = PcpResponder.respond
        // What a gateway speaks is asked anew after half an hour.
        yield* TestClock.adjust("31 minutes")
        const mapping = yield* attempt
        assert.strictEqual((yield* mapping.current).method, "pcp")
        respond = NatPmpResponder.respond
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual((yield* mapping.current).method, "natpmp")
      })
    )

    it.effect("maps for nobody else, and opens no pinhole", () =>
      Effect.gen(function* () {
        const { mapper } = yield* withRouter(natPmpOnly, Pcp.layerWith({ thirdParty: true }))
        const failure = yield* reason(mapper.map({ ...wish, internalAddress: Net.ipv4("192.168.77.9") }))
        assert.strictEqual(failure._tag, "Unsupported")
        assert.include(failure.message, "NAT-PMP")
      })
    )

    it.effect("has the wanted port or Conflict", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter(natPmpOnly)
        router.model.takePort({ protocol: "tcp", externalPort: 12001 })
        assert.strictEqual((yield* reason(mapper.map({ ...wish, strictExternalPort: true })))._tag, "Conflict")
        assert.deepStrictEqual(yield* entries(router), [])
      })
    )

    it.effect("what an interrupted request left is deleted, whenever it is interrupted", () =>
      Effect.gen(function* () {
        for (let turns = 0; turns < 90; turns++) {
          const { mapper, network, router } = yield* withRouter(natPmpOnly)
          const fiber = yield* Effect.forkChild(Effect.scoped(mapper.map(wish)))
          yield* Effect.repeat(Effect.yieldNow, { times: turns })
          const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber))
          yield* TestClock.adjust("1 minute")
          yield* Fiber.join(interrupting)
          assert.deepStrictEqual(yield* entries(router), [], `interrupted after ${turns} turns`)
          assert.strictEqual(network.open, 0)
        }
      })
    )

    it.effect("one that speaks neither is Unsupported", () =>
      Effect.gen(function* () {
        const { mapper } = yield* withMapper(({ socket }) =>
          Effect.sync(() => socket.reply(Uint8Array.of(3, 129, 0, 1, ...new Uint8Array(20))))
        )
        const failure = yield* reason(mapper.map(wish))
        assert.strictEqual(failure._tag, "Unsupported")
        assert.include(failure.message, "version 3")
      })
    )
  })

  describe("what PCP cannot do, it says", () => {
    it.effect("listing, with what is held over it", () =>
      Effect.gen(function* () {
        const { mapper, network } = yield* withRouter()
        const listing = Effect.map(reason(Stream.runCollect(mapper.list)), ({ _tag, message }) => [_tag, message])
        const [tag, message] = yield* listing
        assert.strictEqual(tag, "Unsupported")
        assert.include(message, "of this host's programs none is known to hold one")
        assert.strictEqual(network.opened, 0)
        const mapping = yield* mapper.map(wish)
        assert.include((yield* listing)[1], "this process holds 11.22.33.1:12001/tcp to 192.168.77.2:12000")
        yield* mapping.release
        assert.include((yield* listing)[1], "none is known to hold one")
        for (let port = 1; port <= 8; port++) yield* mapper.map({ protocol: "udp", internalPort: port })
        assert.include((yield* listing)[1], "and 3 more")
      })
    )

    it.effect("listing, with what the ledger knows of other programs", () =>
      Effect.gen(function* () {
        const { mapper } = yield* withRouter()
        yield* mapper.map(wish)
        yield* MemoryLedger.leave([left(9000)])
        const { message } = yield* reason(Stream.runCollect(mapper.list))
        assert.include(message, "this process holds 11.22.33.1:12001/tcp to 192.168.77.2:12000")
        assert.include(message, "other programs of this host hold, or have left, those of 192.168.77.2:9000/tcp")
      }).pipe(Effect.provide(MemoryLedger.layer))
    )

    it.effect("deleting by external port", () =>
      Effect.gen(function* () {
        const { mapper, network } = yield* withRouter()
        const removal = yield* reason(mapper.remove({ protocol: "tcp", externalPort: 12001 }))
        assert.strictEqual(removal._tag, "Unsupported")
        assert.notInclude(removal.message, "\n")
        assert.strictEqual(network.opened, 0)
      })
    )
  })

  describe("externalAddress", () => {
    it.effect("is that of a mapping that is held", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter(pcpOnly)
        yield* mapper.map(wish)
        assert.strictEqual(NetAddress.formatIp(yield* mapper.externalAddress), "11.22.33.1")
        assert.strictEqual(router.asked.length, 1)
      })
    )

    it.effect("else it is asked for in NAT-PMP", () =>
      Effect.gen(function* () {
        const { mapper, router } = yield* withRouter()
        assert.strictEqual(NetAddress.formatIp(yield* mapper.externalAddress), "11.22.33.1")
        assert.deepStrictEqual(router.asked, ["v0 0"])
        assert.deepStrictEqual(yield* entries(router), [])
      })
    )

    it.effect("and where that is not spoken either, it is said why there is none", () =>
      Effect.gen(function* () {
        const { mapper } = yield* withRouter(pcpOnly)
        const failure = yield* reason(mapper.externalAddress)
        assert.strictEqual(failure._tag, "Unsupported")
        assert.include(failure.message, "does not speak NAT-PMP")
      })
    )

    it.effect("a gateway that ignores NAT-PMP is one all the same, where it has answered in PCP", () =>
      Effect.gen(function* () {
        const router = Router.make(pcpOnly)
        router.isMute = (payload) => payload[0] === 0
        const network = yield* Net.make(router.peer)
        const { mapper, probe } = yield* Effect.provide(Pcp.makeStrategy(), network.layer)
        const silent = yield* Effect.forkChild(reason(mapper.externalAddress))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual((yield* Fiber.join(silent))._tag, "NoGateway")
        yield* probe
        const known = yield* Effect.forkChild(reason(mapper.externalAddress))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual((yield* Fiber.join(known))._tag, "Unsupported")
      })
    )
  })

  describe("probe", () => {
    const probing = (network: Net.Network, selected?: string) =>
      Pcp.probe.pipe(Effect.provideService(Gateway.Selected, selected), Effect.provide(network.layer))

    it.effect("asks for an announcement and nothing else", () =>
      Effect.gen(function* () {
        const router = Router.make()
        const network = yield* Net.make(router.peer)
        const found = yield* probing(network)
        assert.deepStrictEqual(
          [found.name, found.method, NetAddress.formatIp(found.localAddress)],
          ["192.168.77.1", "pcp", "192.168.77.2"]
        )
        assert.deepStrictEqual(router.asked, ["announce"])
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("and the mapping after it is one more exchange, from the same socket", () =>
      Effect.gen(function* () {
        const router = Router.make()
        const network = yield* Net.make(router.peer)
        const { mapper, probe } = yield* Effect.provide(Pcp.makeStrategy(), network.layer)
        yield* probe
        yield* mapper.map(wish)
        assert.deepStrictEqual(router.asked, ["announce", "map 6 12000 12001 7200"])
        assert.deepStrictEqual(
          network.sent.map(({ socket }) => socket.number),
          [1, 1].map((number) => network.sent[0]?.socket.number ?? number)
        )
      })
    )

    it.effect("gives up after 4 seconds, having asked twice; ends at once where the gateway refuses", () =>
      Effect.gen(function* () {
        const network = yield* Net.make(Net.silent)
        const fiber = yield* Effect.forkChild(reason(probing(network)))
        yield* TestClock.adjust("3999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "NoGateway")
        assert.deepStrictEqual([network.sent.length, network.open], [2, 0])
        const refusing = yield* Net.make(({ socket }) => Effect.sync(() => socket.refuse()))
        assert.strictEqual((yield* reason(probing(refusing)))._tag, "NoGateway")
        assert.strictEqual(refusing.open, 0)
      })
    )

    it.effect("says what a gateway speaks that does not speak PCP", () =>
      Effect.gen(function* () {
        const network = yield* Net.make(Router.make(natPmpOnly).peer)
        const failure = yield* reason(probing(network))
        assert.strictEqual(failure._tag, "Unsupported")
        assert.include(failure.message, "NAT-PMP")
      })
    )

    it.effect("finds a gateway that refuses in PCP's own words", () =>
      Effect.gen(function* () {
        const network = yield* Net.make(({ payload, socket }) => {
          const refusal = Codec.refusalOf(payload, { resultCode: 4, lifetime: 1800, epoch: 1000, isParsed: true })
          return Effect.sync(() => socket.reply(Codec.encodeResponse(refusal)))
        })
        assert.strictEqual((yield* probing(network)).name, "192.168.77.1")
      })
    )

    it.effect("asks all default gateways at once, or the selected one", () =>
      Effect.gen(function* () {
        const there = Router.make({ model: { address: second } })
        const network = yield* Net.make(hosts({ "192.168.78.1": there.peer }))
        network.gateways = [Net.gateway, second]
        assert.strictEqual((yield* probing(network)).name, "192.168.78.1")
        const silent = yield* Effect.forkChild(reason(probing(network, "192.168.77.1")))
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual((yield* Fiber.join(silent))._tag, "NoGateway")
        assert.strictEqual(there.asked.length, 1)
      })
    )
  })

  describe("PortControl", () => {
    const withBoth = Effect.fnUntraced(function* (router: Router.PcpRouter) {
      const network = yield* Net.make(router.peer)
      const both = yield* Effect.provide(PortControl.makeStrategies(), network.layer)
      return { network, ...both }
    })
    const probes = ({ natPmp, pcp }: PortControl.Strategies) =>
      Effect.map(
        Effect.all([Effect.result(pcp.probe), Effect.result(natPmp.probe)], { concurrency: "unbounded" }),
        (all) => all.map((one) => (Result.isSuccess(one) ? one.success.method : one.failure.reason._tag))
      )

    it.effect("both ask at once, from one socket", () =>
      Effect.gen(function* () {
        const router = Router.make()
        const both = yield* withBoth(router)
        assert.deepStrictEqual(yield* probes(both), ["pcp", "natpmp"])
        assert.deepStrictEqual([...router.asked].sort(), ["announce", "v0 0"])
        assert.strictEqual(new Set(both.network.sent.map(({ socket }) => socket.number)).size, 1)
      })
    )

    it.effect.each([
      ["NAT-PMP only", natPmpOnly, "Unsupported natpmp"],
      ["PCP only", pcpOnly, "pcp Unsupported"]
    ] as const)(
      "each believes its own answers where the gateway speaks %s, also what comes twice",
      ([, options, found]) =>
        Effect.gen(function* () {
          const router = Router.make(options)
          const twice: Net.Peer = (sent) =>
            router.peer({
              ...sent,
              socket: {
                ...sent.socket,
                reply: (payload, from) => {
                  for (let copies = 0; copies < 3; copies++) sent.socket.reply(payload, from)
                }
              }
            })
          const both = yield* withBoth({ ...router, peer: twice })
          assert.strictEqual((yield* probes(both)).join(" "), found)
        })
    )

    it.effect("a refusal by ICMP ends both at once", () =>
      Effect.gen(function* () {
        const both = yield* withBoth({ ...Router.make(), peer: ({ socket }) => Effect.sync(() => socket.refuse()) })
        assert.deepStrictEqual(yield* probes(both), ["NoGateway", "NoGateway"])
        assert.strictEqual(both.network.open, 0)
      })
    )

    it.effect("where one of them has just been refused the other is not asked", () =>
      Effect.gen(function* () {
        const both = yield* withBoth({ ...Router.make(), peer: ({ socket }) => Effect.sync(() => socket.refuse()) })
        const attempt = Effect.provideService(both.pcp.mapper.map(wish), Strategy.IsAttempt, true)
        assert.strictEqual((yield* reason(attempt))._tag, "NoGateway")
        assert.strictEqual((yield* reason(both.natPmp.probe))._tag, "NoGateway")
        assert.strictEqual(both.network.sent.length, 1)
      })
    )

    it.effect("what one of them holds the other does not map", () =>
      Effect.gen(function* () {
        const router = Router.make()
        const { natPmp, pcp } = yield* withBoth(router)
        yield* pcp.mapper.map(wish)
        assert.strictEqual((yield* reason(natPmp.mapper.map(wish)))._tag, "Unsupported")
        yield* natPmp.mapper.map({ ...wish, protocol: "udp" })
        assert.strictEqual((yield* reason(pcp.mapper.map({ ...wish, protocol: "udp" })))._tag, "Unsupported")
        assert.strictEqual((yield* entries(router)).length, 2)
      })
    )
  })

  describe("discovery", () => {
    const discover = (network: Net.Network) =>
      GatewayDiscovery.GatewayDiscovery.use((discovery) => Stream.runCollect(discovery.gateways)).pipe(
        Effect.provide(PcpDiscovery.layer.pipe(Layer.provide(network.layer))),
        Effect.map((gateways) => gateways.map(({ method, name }) => `${name} ${method}`))
      )

    it.effect("reports the gateways that speak PCP, the IPv6 one among them, and the selected one", () =>
      Effect.gen(function* () {
        const speaking = Router.make()
        const network = yield* Net.make(
          hosts({
            "192.168.77.1": speaking.peer,
            "fe80::1": speaking.peer,
            "192.168.78.1": Router.make(natPmpOnly).peer,
            "192.168.79.1": speaking.peer
          })
        )
        speaking.client = Net.own
        network.gateways = [Net.gateway, second, Net.ipv4("192.168.80.1"), ip("fe80::1")]
        network.scopeId = 3
        const fiber = yield* Effect.forkChild(
          discover(network).pipe(Effect.provideService(Gateway.Selected, "192.168.79.1"))
        )
        yield* TestClock.adjust("4 seconds")
        assert.sameMembers(yield* Fiber.join(fiber), ["192.168.77.1 pcp", "192.168.79.1 pcp", "fe80::1 pcp"])
        assert.strictEqual(network.open, 0)
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
