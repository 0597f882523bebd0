/**
 * What gateways say unasked, and what other mappings' answers show: mappings are renewed long before half of their time.
 */
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as NatPmpCodec from "@effect-nat/natpmp/NatPmpCodec"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as PortControl from "@effect-nat/natpmp/PortControl"
import * as NatPmpResponder from "@effect-nat/testing/NatPmpResponder"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "./network.ts"
import * as Router from "./pcpRouter.ts"

const wish: MappingRequest.MappingRequest = { protocol: "tcp", internalPort: 12000, externalPort: 12001 }
const gatewayPort = Net.inet("192.168.77.1:5351")
const ip = NetAddress.ipFromStringUnsafe

const withStrategies = Effect.fnUntraced(function* (router: Router.PcpRouter = Router.make()) {
  const network = yield* Net.make(router.peer)
  const { natPmp, pcp } = yield* Effect.provide(PortControl.makeStrategies(), network.layer)
  return { network, router, pcp: pcp.mapper, natPmp: natPmp.mapper }
})

/** All who listen hear this. */
const say = (network: Net.Network, payload: Uint8Array, from = gatewayPort) =>
  Effect.andThen(
    Effect.sync(() => {
      for (const ear of network.ears) ear.hear(payload, from)
    }),
    Net.settle
  )

const announceNatPmp = (router: Router.PcpRouter) =>
  Effect.map(Clock.currentTimeMillis, (now) => NatPmpResponder.announcement(router.model, now))

const reboot = (router: Router.PcpRouter) => Effect.map(Clock.currentTimeMillis, (now) => router.model.reboot(now))

/** Whatever is asked but how old the epoch is. */
const maps = (router: Router.PcpRouter) => router.asked.filter((one) => one !== "v0 0" && one !== "announce").length

const entries = (router: Router.PcpRouter) =>
  Effect.map(Clock.currentTimeMillis, (now) => router.model.entries(now).map(({ externalPort }) => externalPort))

/** What is mapped over NAT-PMP, anew or again. */
const renewals = (router: Router.PcpRouter) => router.asked.filter((one) => /^v0 [12]$/.test(one)).length

/** Renewals follow each other, so time passes in steps. */
const passes = (seconds: number) =>
  Effect.forEach(Array.from({ length: seconds }), () => TestClock.adjust("1 second"), { discard: true })

const joined = (network: Net.Network) => [...network.ears].map((ear) => ear.joined.join(", "))

describe("announcements", () => {
  describe("the port", () => {
    it.effect(
      "is listened to soon after the first mapping, shared, in the group, until the last one is released [RFC 6886 3.2.1-ae, RFC 6887 14.1.3-bd]",
      () =>
        Effect.gen(function* () {
          const { natPmp, network, pcp } = yield* withStrategies()
          const first = yield* pcp.map(wish)
          yield* TestClock.adjust("99 millis")
          assert.strictEqual(network.ears.size, 0)
          yield* TestClock.adjust("1 millis")
          assert.deepStrictEqual(joined(network), ["224.0.0.1 192.168.77.2"])
          const [ear] = network.ears
          assert.deepStrictEqual(ear?.options, { bind: { port: 5350 }, reuseAddress: true })
          const second = yield* natPmp.map({ ...wish, protocol: "udp" })
          yield* TestClock.adjust("5 seconds")
          assert.strictEqual(network.ears.size, 1)
          yield* first.release
          assert.strictEqual(network.ears.size, 1)
          yield* second.release
          assert.strictEqual(network.ears.size, 0)
        })
    )

    it.effect("is closed with the mapping's scope, and with the strategy's", () =>
      Effect.gen(function* () {
        const router = Router.make()
        const network = yield* Net.make(router.peer)
        const strategy = yield* Net.inOwnScope(Effect.provide(Pcp.makeStrategy(), network.layer))
        const mapping = yield* Net.inOwnScope(strategy.value.mapper.map(wish))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(network.ears.size, 1)
        yield* Scope.close(mapping.scope, Exit.void)
        assert.strictEqual(network.ears.size, 0)
        const again = yield* Net.inOwnScope(strategy.value.mapper.map(wish))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(network.ears.size, 1)
        yield* Scope.close(strategy.scope, Exit.void)
        assert.deepStrictEqual([network.ears.size, network.open], [0, 0])
        yield* Scope.close(again.scope, Exit.void)
      })
    )

    it.effect("is not opened for a mapping that is soon gone, nor for a request that failed", () =>
      Effect.gen(function* () {
        const { network, pcp, router } = yield* withStrategies()
        yield* Effect.scoped(pcp.map(wish))
        router.model.refuseNext("OutOfResources")
        yield* Effect.exit(pcp.map({ ...wish, protocol: "udp" }))
        const { opened } = network
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(network.opened, opened)
      })
    )

    it.effect("may be taken: everything else works, and it is tried again, ever more rarely", () =>
      Effect.gen(function* () {
        const { network, pcp, router } = yield* withStrategies()
        network.isPortTaken = true
        const mapping = yield* pcp.map({ ...wish, lifetime: "1 hour" })
        const { opened } = network
        yield* passes(10 * 60)
        assert.isAtMost(network.opened - opened, 20)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual((yield* mapping.current).status, "mapped")
        network.isPortTaken = false
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(network.ears.size, 1)
        yield* reboot(router)
        yield* say(network, yield* router.announce)
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(yield* entries(router), [12001])
      })
    )

    it.effect("is opened anew when its socket fails", () =>
      Effect.gen(function* () {
        const { network, pcp } = yield* withStrategies()
        yield* pcp.map(wish)
        yield* TestClock.adjust("1 second")
        for (const ear of network.ears) ear.fail()
        yield* Net.settle
        assert.strictEqual(network.ears.size, 0)
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(joined(network), ["224.0.0.1 192.168.77.2"])
      })
    )

    it.effect("is listened to on all interfaces that have a gateway with a mapping [RFC 6887 14.1.3-a]", () =>
      Effect.gen(function* () {
        const { network, pcp, router } = yield* withStrategies()
        yield* pcp.map({ ...wish, lifetime: "1 hour" })
        yield* TestClock.adjust("1 second")
        network.own = Net.ipv4("192.168.77.3")
        router.client = network.own
        yield* TestClock.adjust("1 minute")
        yield* pcp.map({ ...wish, protocol: "udp" })
        assert.deepStrictEqual(joined(network), ["224.0.0.1 192.168.77.2, 224.0.0.1 192.168.77.3"])
      })
    )
  })

  describe("a restart", () => {
    it.effect.each(Array.from({ length: 8 }, (_, run) => run))(
      "is announced over PCP: within 5 seconds, and not at once, all is mapped again (run %i) [RFC 6887 8.5-e, 14.1.3-fgh]",
      () =>
        Effect.gen(function* () {
          const { network, pcp, router } = yield* withStrategies()
          const mapping = yield* pcp.map(wish)
          yield* pcp.map({ ...wish, protocol: "udp" })
          yield* TestClock.adjust("1 minute")
          yield* say(network, yield* router.announce)
          yield* TestClock.adjust("10 seconds")
          assert.strictEqual(maps(router), 2)
          yield* reboot(router)
          yield* say(network, yield* router.announce)
          assert.strictEqual(maps(router), 2)
          yield* TestClock.adjust("5 seconds")
          assert.deepStrictEqual(yield* entries(router), [12001, 12001])
          assert.strictEqual((yield* mapping.current).status, "mapped")
          yield* passes(10 * 60)
          assert.strictEqual(maps(router), 4)
        })
    )

    it.effect(
      "is announced over NAT-PMP: what is mapped over either protocol is mapped again [RFC 6886 3.2.1-c, 3.7-a]",
      () =>
        Effect.gen(function* () {
          const { natPmp, network, pcp, router } = yield* withStrategies()
          yield* natPmp.map(wish)
          yield* pcp.map({ ...wish, protocol: "udp" })
          yield* TestClock.adjust("1 minute")
          yield* reboot(router)
          yield* say(network, yield* announceNatPmp(router))
          yield* TestClock.adjust("5 seconds")
          assert.deepStrictEqual(yield* entries(router), [12001, 12001])
        })
    )

    it.effect.each(["pcp", "natPmp"] as const)(
      "just after a mapping over %s, of a gateway that is young, is one",
      (name) =>
        Effect.gen(function* () {
          const { network, router, ...strategies } = yield* withStrategies()
          yield* reboot(router)
          yield* strategies[name].map(wish)
          yield* TestClock.adjust("500 millis")
          yield* reboot(router)
          yield* say(network, yield* name === "pcp" ? router.announce : announceNatPmp(router))
          // No renewal comes sooner than five seconds after the request, and whoever hears of it waits as long at most.
          yield* TestClock.adjust("10 seconds")
          assert.deepStrictEqual(yield* entries(router), [12001])
          const asked = maps(router)
          yield* passes(10 * 60)
          assert.strictEqual(maps(router), asked)
        })
    )

    it.effect("that both protocols announce ten times is one [RFC 6887 14.1.3-i]", () =>
      Effect.gen(function* () {
        const { natPmp, network, pcp, router } = yield* withStrategies()
        yield* natPmp.map(wish)
        yield* pcp.map({ ...wish, protocol: "udp" })
        yield* TestClock.adjust("1 minute")
        // Both have told their epoch.
        yield* say(network, yield* router.announce)
        yield* say(network, yield* announceNatPmp(router))
        yield* reboot(router)
        for (let round = 0; round < 10; round++) {
          yield* say(network, yield* router.announce)
          yield* say(network, yield* announceNatPmp(router))
          yield* TestClock.adjust(250 * 2 ** round)
        }
        yield* passes(10 * 60)
        // Where they were renewed so soon that it may have been before the restart, they are renewed once more.
        assert.include([4, 6], maps(router))
        assert.deepStrictEqual(yield* entries(router), [12001, 12001])
      })
    )

    it.effect.each(["pcp", "natPmp"] as const)("is recovered from each time, however often (%s)", (which) =>
      Effect.gen(function* () {
        const { network, router, ...mappers } = yield* withStrategies()
        yield* mappers[which].map(wish)
        yield* mappers[which].map({ ...wish, protocol: "udp" })
        yield* TestClock.adjust("1 minute")
        for (let round = 0; round < 30; round++) {
          yield* reboot(router)
          yield* say(network, which === "pcp" ? yield* router.announce : yield* announceNatPmp(router))
          yield* passes(12)
          assert.deepStrictEqual(yield* entries(router), [12001, 12001], `round ${round}`)
          yield* passes(18)
        }
      })
    )

    it.effect.each(Array.from({ length: 4 }, (_, run) => run))(
      "that a gateway tells all the time, whose epoch stands still, costs ever fewer renewals (run %i)",
      () =>
        Effect.gen(function* () {
          const router = Router.make()
          router.alter = (answer) =>
            Codec.encodeResponse({ ...Result.getOrThrow(Codec.decodeResponse(answer)), epoch: 3600 })
          const { network, pcp } = yield* withStrategies(router)
          yield* pcp.map({ ...wish, lifetime: "1 day" })
          yield* TestClock.adjust("1 minute")
          const announcement = Codec.encodeResponse({ _tag: "AnnounceResponse", epoch: 3600, options: [] })
          for (let round = 0; round < 60; round++) {
            yield* say(network, announcement)
            yield* passes(10)
          }
          // At once, then after 5, 10, 20, 40, 80 and 160 seconds, and after 300.
          assert.isAtMost(maps(router), 9)
        })
    )

    it.effect("that one protocol announces when all is mapped again is the one that the other has announced", () =>
      Effect.gen(function* () {
        const { natPmp, network, router } = yield* withStrategies()
        yield* natPmp.map(wish)
        yield* natPmp.map({ ...wish, protocol: "udp" })
        yield* TestClock.adjust("1 minute")
        yield* say(network, yield* router.announce)
        yield* reboot(router)
        yield* say(network, yield* announceNatPmp(router))
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(maps(router), 4)
        yield* say(network, yield* router.announce)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(maps(router), 4)
      })
    )

    it.effect("that another mapping's renewal shows has all others renewed as well [RFC 6887 8.5-e]", () =>
      Effect.gen(function* () {
        const { network, pcp, router } = yield* withStrategies()
        network.isPortTaken = true
        yield* pcp.map(wish)
        yield* pcp.map({ ...wish, internalPort: 12002, externalPort: 12002, lifetime: "10 minutes" })
        yield* TestClock.adjust("1 minute")
        yield* reboot(router)
        // Half of ten minutes at the latest, and up to five seconds that recovery waits.
        yield* passes(5 * 60)
        assert.sameMembers(yield* entries(router), [12001, 12002])
        assert.strictEqual(maps(router), 4)
      })
    )

    it.effect("that a mapping's own renewal shows does not have it renewed once more", () =>
      Effect.gen(function* () {
        for (const method of ["pcp", "natPmp"] as const) {
          const router = Router.make()
          let isSlow = false
          const peer: Net.Peer = (sent) => (isSlow ? Effect.delay(router.peer(sent), "20 millis") : router.peer(sent))
          const { [method]: mapper } = yield* withStrategies({ ...router, peer })
          yield* mapper.map({ ...wish, lifetime: "10 minutes" })
          yield* TestClock.adjust("1 minute")
          yield* reboot(router)
          isSlow = true
          yield* TestClock.adjust("7 minutes")
          isSlow = false
          assert.deepStrictEqual(yield* entries(router), [12001])
          assert.strictEqual(maps(router), 2)
        }
      })
    )

    it.effect("that NAT-PMP's answer shows has what PCP holds renewed, and the other way round", () =>
      Effect.gen(function* () {
        for (const isPcpFirst of [true, false]) {
          const { natPmp, network, pcp, router } = yield* withStrategies()
          const [long, short] = isPcpFirst ? [pcp, natPmp] : [natPmp, pcp]
          network.isPortTaken = true
          yield* long.map(wish)
          yield* short.map({ ...wish, internalPort: 12002, externalPort: 12002, lifetime: "10 minutes" })
          yield* TestClock.adjust("1 minute")
          yield* reboot(router)
          yield* passes(5 * 60)
          assert.sameMembers(yield* entries(router), [12001, 12002])
        }
      })
    )

    it.effect("a pinhole's gateway announces to the IPv6 group, from its link-local address [RFC 6887 14.1.3-ce]", () =>
      Effect.gen(function* () {
        let epoch = 1000
        const peer: Net.Peer = ({ payload, socket }) =>
          Effect.sync(() => {
            const asked = Result.getOrThrow(Codec.decodeRequest(payload))
            if (asked._tag !== "MapRequest") return
            asks += 1
            const granted = { externalAddress: asked.clientAddress, externalPort: asked.internalPort }
            socket.reply(Codec.encodeResponse({ ...asked, _tag: "MapResponse", epoch, ...granted }))
          })
        let asks = 0
        const network = yield* Net.make(peer)
        network.gateways = [ip("fe80::1")]
        network.scopeId = 3
        const { mapper } = yield* Effect.provide(Pcp.makeStrategy(), network.layer)
        yield* mapper.map({ ...wish, family: "ipv6" })
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(joined(network), ["ff02::1 3"])
        const [ear] = network.ears
        const bind = ear?.options.bind
        assert.deepStrictEqual([bind?.address && NetAddress.formatIp(bind.address), bind?.port], ["::", 5350])
        epoch = 0
        const announcement = Codec.encodeResponse({ _tag: "AnnounceResponse", epoch, options: [] })
        const from = (scopeId: number) =>
          Result.getOrThrow(
            NetAddress.inetAddressV6(Result.getOrThrow(NetAddress.ipv6FromString("fe80::1")), 5351, { scopeId })
          )
        yield* say(network, announcement, from(4))
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(asks, 1)
        yield* say(network, announcement, from(3))
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual(asks, 2)
      })
    )
  })

  describe("a gateway that says nothing by itself", () => {
    it.effect.each(["pcp", "natPmp"] as const)("has its mappings again within six minutes of a restart (%s)", (which) =>
      Effect.gen(function* () {
        const { router, ...mappers } = yield* withStrategies()
        yield* mappers[which].map(wish)
        yield* mappers[which].map({ ...wish, protocol: "udp" })
        yield* TestClock.adjust("7 minutes")
        yield* reboot(router)
        yield* passes(6 * 60)
        assert.deepStrictEqual(yield* entries(router), [12001, 12001])
        assert.strictEqual(maps(router), 4)
      })
    )

    it.effect.each(["pcp", "natPmp"] as const)(
      "and is gone: each mapping says so long before half of its lease (%s)",
      (which) =>
        Effect.gen(function* () {
          const { router, ...mappers } = yield* withStrategies()
          const all = [yield* mappers[which].map(wish), yield* mappers[which].map({ ...wish, protocol: "udp" })]
          yield* TestClock.adjust("7 minutes")
          const statuses = Effect.forEach(all, ({ current }) => Effect.map(current, ({ status }) => status))
          assert.deepStrictEqual(yield* statuses, ["mapped", "mapped"])
          router.isMute = () => true
          yield* passes(8 * 60)
          assert.deepStrictEqual(yield* statuses, ["unconfirmed", "unconfirmed"])
          router.isMute = () => false
          yield* passes(6 * 60)
          assert.deepStrictEqual(yield* statuses, ["mapped", "mapped"])
        })
    )

    it.effect.each(["pcp", "natPmp"] as const)("and is gone a second time says so as well (%s)", (which) =>
      Effect.gen(function* () {
        const { router, ...mappers } = yield* withStrategies()
        const mapping = yield* mappers[which].map(wish)
        yield* TestClock.adjust("7 minutes")
        const statuses: Array<string> = []
        const note = Effect.map(mapping.current, ({ status }) => statuses.push(status))
        for (let outage = 0; outage < 2; outage++) {
          router.isMute = () => true
          yield* passes(8 * 60)
          yield* note
          router.isMute = () => false
          yield* mapping.renew
          yield* passes(60)
          yield* note
        }
        assert.deepStrictEqual(statuses, ["unconfirmed", "mapped", "unconfirmed", "mapped"])
      })
    )

    it.effect("but never says how old its epoch is has one mapping renewed for that, until it is gone", () =>
      Effect.gen(function* () {
        const { pcp, router } = yield* withStrategies()
        const all = [yield* pcp.map(wish), yield* pcp.map({ ...wish, protocol: "udp" })]
        const isAnnounce = (payload: Uint8Array) => payload[0] === Codec.version && payload[1] === 0
        router.isMute = isAnnounce
        yield* passes(21 * 60)
        // All once, and then one each time.
        assert.include([6, 7, 8], maps(router))
        router.isMute = () => true
        yield* passes(13 * 60)
        const statuses = yield* Effect.forEach(all, ({ current }) => Effect.map(current, ({ status }) => status))
        router.isMute = () => false
        yield* passes(6 * 60)
        assert.deepStrictEqual(statuses, ["unconfirmed", "unconfirmed"])
      })
    )

    it.effect("is asked every five minutes, however many mappings it holds, and no more when it holds none", () =>
      Effect.gen(function* () {
        const { pcp, router } = yield* withStrategies()
        const ports = Array.from({ length: 20 }, (_, index) => 12_000 + index)
        const all = yield* Effect.forEach(ports, (port) =>
          pcp.map({ protocol: "tcp", internalPort: port, externalPort: port, lifetime: "1 day" })
        )
        const asks = () => router.asked.filter((one) => one === "announce").length
        for (let minutes = 0; minutes < 120; minutes++) yield* TestClock.adjust("1 minute")
        assert.isAtLeast(asks(), 120 / 5.5 - 1)
        assert.isAtMost(asks(), 120 / 4.5)
        yield* Effect.forEach(all, ({ release }) => release)
        const before = asks()
        for (let minutes = 0; minutes < 20; minutes++) yield* TestClock.adjust("1 minute")
        assert.strictEqual(asks(), before)
      })
    )
  })

  describe("another external address", () => {
    it.effect(
      "is announced over NAT-PMP: mappings tell it within 5 seconds, over either protocol [RFC 6886 3.2.1-d]",
      () =>
        Effect.gen(function* () {
          const { natPmp, network, pcp, router } = yield* withStrategies()
          const all = [yield* natPmp.map(wish), yield* pcp.map({ ...wish, protocol: "udp" })]
          yield* TestClock.adjust("1 minute")
          router.model.changeExternalAddress(Net.ipv4("11.22.33.9"))
          yield* say(network, yield* announceNatPmp(router))
          yield* TestClock.adjust("5 seconds")
          for (const mapping of all) {
            const { externalAddress } = yield* mapping.current
            assert.strictEqual(externalAddress && NetAddress.formatIp(externalAddress), "11.22.33.9")
          }
          // One that was asked for in the very moment that showed a restart is asked for once more.
          yield* passes(10)
          const before = maps(router)
          yield* say(network, yield* announceNatPmp(router))
          yield* passes(10 * 60)
          assert.strictEqual(maps(router), before)
        })
    )

    it.effect("that comes and goes is told each time", () =>
      Effect.gen(function* () {
        const { natPmp, network, router } = yield* withStrategies()
        const mapping = yield* natPmp.map(wish)
        yield* TestClock.adjust("1 minute")
        for (let round = 0; round < 30; round++) {
          const address = `11.22.33.${round % 2 === 0 ? 9 : 1}`
          router.model.changeExternalAddress(Net.ipv4(address))
          yield* say(network, yield* announceNatPmp(router))
          yield* passes(12)
          const { externalAddress } = yield* mapping.current
          assert.strictEqual(externalAddress && NetAddress.formatIp(externalAddress), address, `round ${round}`)
          yield* passes(18)
        }
      })
    )

    it.effect.each(["pcp", "natPmp"] as const)("that another mapping's renewal shows is spread (%s)", (which) =>
      Effect.gen(function* () {
        const { network, router, ...mappers } = yield* withStrategies()
        network.isPortTaken = true
        const mapping = yield* mappers[which].map(wish)
        yield* mappers[which].map({ ...wish, internalPort: 12002, lifetime: "10 minutes" })
        yield* TestClock.adjust("1 minute")
        router.model.changeExternalAddress(Net.ipv4("11.22.33.9"))
        yield* passes(5 * 60)
        const { externalAddress } = yield* mapping.current
        assert.strictEqual(externalAddress && NetAddress.formatIp(externalAddress), "11.22.33.9")
        assert.isAtMost(maps(router), 5)
      })
    )

    it.effect("mappings that have different ones do not keep each other busy", () =>
      Effect.gen(function* () {
        const router = Router.make()
        router.alter = (answer) => {
          const response = Result.getOrThrow(Codec.decodeResponse(answer))
          if (response._tag !== "MapResponse") return answer
          return Codec.encodeResponse({ ...response, externalAddress: ip(`11.22.33.${response.internalPort % 200}`) })
        }
        const { pcp } = yield* withStrategies(router)
        yield* pcp.map({ ...wish, lifetime: "1 hour" })
        yield* pcp.map({ ...wish, internalPort: 12002, lifetime: "1 hour" })
        yield* passes(65 * 60)
        assert.isAtMost(maps(router), 6)
      })
    )
  })

  describe("an IPv6 gateway that the default route names by its global address", () => {
    const neighbour = (scopeId: number, port = 5351) =>
      Result.getOrThrow(
        NetAddress.inetAddressV6(Result.getOrThrow(NetAddress.ipv6FromString("fe80::1")), port, { scopeId })
      )

    /** One whose epoch is what is told here. */
    const withPinhole = Effect.gen(function* () {
      const gateway = { epoch: 1000, asked: [] as Array<string> }
      const network = yield* Net.make(({ payload, socket }) =>
        Effect.sync(() => {
          const asked = Result.getOrThrow(Codec.decodeRequest(payload))
          gateway.asked.push(asked._tag)
          const { epoch } = gateway
          if (asked._tag === "AnnounceRequest") {
            return socket.reply(Codec.encodeResponse({ _tag: "AnnounceResponse", epoch, options: [] }))
          }
          const granted = { externalAddress: asked.clientAddress, externalPort: asked.internalPort, epoch }
          if (asked._tag === "MapRequest") {
            socket.reply(Codec.encodeResponse({ ...asked, _tag: "MapResponse", ...granted }))
          }
        })
      )
      network.gateways = [ip("2001:db8::1")]
      network.scopeId = 3
      const { mapper } = yield* Effect.provide(Pcp.makeStrategy(), network.layer)
      yield* mapper.map({ ...wish, family: "ipv6" })
      yield* TestClock.adjust("1 minute")
      gateway.epoch = 1060
      return { network, gateway }
    })

    const announcement = Codec.encodeResponse({ _tag: "AnnounceResponse", epoch: 0, options: [] })

    it.effect("is asked whether it has restarted when something on its link says so, and mapped on again", () =>
      Effect.gen(function* () {
        const { gateway, network } = yield* withPinhole
        gateway.epoch = 0
        yield* say(network, announcement, neighbour(3))
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(gateway.asked, ["MapRequest", "AnnounceRequest", "MapRequest"])
      })
    )

    it.effect("is believed, and not what something on its link says, however often [RFC 6887 14.1.3-e]", () =>
      Effect.gen(function* () {
        const { gateway, network } = yield* withPinhole
        for (let round = 0; round < 100; round++) {
          yield* say(network, announcement, neighbour(3))
          yield* TestClock.adjust("1 second")
          gateway.epoch += 1
        }
        assert.isAtMost(gateway.asked.length, 7)
        assert.strictEqual(gateway.asked.filter((one) => one === "MapRequest").length, 1)
      })
    )

    it.effect.each([
      ["on another link", announcement, neighbour(4)],
      ["from another port", announcement, neighbour(3, 5350)],
      ["that is no announcement", announcement.subarray(0, 20), neighbour(3)],
      ["from no link-local address", announcement, Net.inet("[2001:db8::66]:5351")]
    ] as const)("is not asked for one %s, which is counted", ([, payload, from]) =>
      Effect.gen(function* () {
        const { gateway, network } = yield* withPinhole
        const before = yield* Net.ignoredByReason
        yield* say(network, payload, from)
        const after = yield* Net.ignoredByReason
        assert.strictEqual((after["source"] ?? 0) - (before["source"] ?? 0), 1)
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(gateway.asked, ["MapRequest"])
      })
    )
  })

  describe("an update of a mapping (RFC 6887 §14.2)", () => {
    const updateOf = (router: Router.PcpRouter, fields: Partial<Codec.MapResponse>): Uint8Array => {
      const [asked] = router.requests
      if (asked?._tag !== "MapRequest") throw new Error("nothing was mapped")
      return Codec.encodeResponse({
        ...asked,
        _tag: "MapResponse",
        epoch: 1060,
        externalAddress: Net.ipv4("11.22.33.1"),
        options: [],
        ...fields
      })
    }

    it.effect.each([
      ["another port", { externalPort: 13000 }],
      ["another address", { externalAddress: Net.ipv4("11.22.33.9") }],
      ["that it is over", { lifetime: 0 }]
    ] as const)("that tells of %s has it renewed at once [RFC 6887 14.2-a]", ([, fields]) =>
      Effect.gen(function* () {
        const { network, pcp, router } = yield* withStrategies()
        yield* pcp.map(wish)
        yield* pcp.map({ ...wish, protocol: "udp" })
        yield* TestClock.adjust("1 minute")
        yield* say(network, updateOf(router, fields))
        assert.deepStrictEqual(router.asked.slice(2), ["map 6 12000 12001 7200"])
      })
    )

    it.effect.each([
      ["of what is known already", {}, gatewayPort],
      ["with another nonce", { externalPort: 13000, nonce: Codec.nonceFromBytes(Uint8Array.of(6, 6, 6)) }, gatewayPort],
      ["for another internal port", { externalPort: 13000, internalPort: 12002 }, gatewayPort],
      ["for another protocol", { externalPort: 13000, protocol: 17 }, gatewayPort],
      ["from another host", { externalPort: 13000 }, Net.inet("192.168.77.66:5351")],
      ["from another port", { externalPort: 13000 }, Net.inet("192.168.77.1:5350")]
    ] as const)("one %s changes nothing", ([, fields, from]) =>
      Effect.gen(function* () {
        const { network, pcp, router } = yield* withStrategies()
        yield* pcp.map(wish)
        yield* TestClock.adjust("1 minute")
        yield* say(network, updateOf(router, { epoch: 1060, ...fields }), from)
        // After five minutes a gateway that says nothing is asked how it is.
        yield* TestClock.adjust("3 minutes")
        assert.strictEqual(router.asked.length, 1)
      })
    )
  })

  describe("trust", () => {
    const bytes = (...values: ReadonlyArray<number>) => Uint8Array.from(values)
    const announcement = Codec.encodeResponse({ _tag: "AnnounceResponse", epoch: 0, options: [] })

    it.effect.each([
      ["from another host", "source", announcement, Net.inet("192.168.77.66:5351")],
      ["from another port", "source", announcement, Net.inet("192.168.77.1:5350")],
      ["of no bytes", "malformed", bytes(), gatewayPort],
      ["of one byte", "malformed", bytes(0), gatewayPort],
      ["cut short", "malformed", announcement.subarray(0, 20), gatewayPort],
      ["of another version", "malformed", announcement.map((byte, index) => (index === 0 ? 1 : byte)), gatewayPort],
      ["that is a request", "malformed", bytes(2, 0, 0, 0, ...new Uint8Array(20)), gatewayPort],
      ["that is an error", "mismatch", bytes(2, 128, 0, 8, ...new Uint8Array(20)), gatewayPort],
      ["that is NAT-PMP's answer to a mapping", "mismatch", bytes(0, 130, ...new Uint8Array(14)), gatewayPort]
    ] as const)("one %s changes nothing and is counted as %s [RFC 6887 14.1.3-e]", ([, why, payload, from]) =>
      Effect.gen(function* () {
        const { network, pcp, router } = yield* withStrategies()
        yield* pcp.map(wish)
        yield* TestClock.adjust("1 minute")
        const before = yield* Net.ignoredByReason
        yield* say(network, payload, from)
        const after = yield* Net.ignoredByReason
        assert.strictEqual((after[why] ?? 0) - (before[why] ?? 0), 1)
        // After five minutes a gateway that says nothing is asked how it is.
        yield* TestClock.adjust("3 minutes")
        assert.strictEqual(router.asked.length, 1)
      })
    )

    it.effect("whoever announces restarts all the time in the gateway's name costs few renewals, and ever fewer", () =>
      Effect.gen(function* () {
        const { natPmp, network, pcp, router } = yield* withStrategies()
        yield* pcp.map({ ...wish, lifetime: "1 day" })
        yield* natPmp.map({ ...wish, protocol: "udp", lifetime: "1 day" })
        yield* TestClock.adjust("1 minute")
        const forged = [0, 1].map((version) =>
          version === 0
            ? NatPmpCodec.encodeResponse({
                _tag: "ExternalAddressResponse",
                epoch: 0,
                externalAddress: Net.ipv4("66.66.66.66")
              })
            : announcement
        )
        let half = 0
        for (let round = 0; round < 600; round++) {
          for (const payload of forged) yield* say(network, payload)
          yield* TestClock.adjust("3 seconds")
          if (round === 299) half = router.asked.length
        }
        // Half an hour of it: the gateway's own epoch and address are not forgotten by that.
        assert.isAtMost(half, 45)
        assert.isAtMost(router.asked.length - half, 15)
        const [mapping] = [yield* natPmp.map({ ...wish, internalPort: 12002 })]
        const { externalAddress } = yield* mapping.current
        assert.strictEqual(externalAddress && NetAddress.formatIp(externalAddress), "11.22.33.1")
        yield* passes(10 * 60)
      })
    )

    it.effect(
      "what the gateway has answered all the time proves no restart, whoever announces it after a forged one",
      () =>
        Effect.gen(function* () {
          const { network, pcp, router } = yield* withStrategies()
          yield* pcp.map({ ...wish, lifetime: "1 day" })
          yield* TestClock.adjust("1 minute")
          const longAgo = Effect.map(Clock.currentTimeMillis, (now) =>
            Codec.encodeResponse({ _tag: "AnnounceResponse", epoch: 1_000_000 + Math.round(now / 1000), options: [] })
          )
          for (let round = 0; round < 20; round++) {
            yield* say(network, yield* longAgo)
            yield* passes(12)
            // Once more, which is no news, so that the true one is.
            yield* say(network, yield* longAgo)
            yield* say(network, yield* router.announce)
            yield* passes(18)
          }
          // At once, then after 5, 10, 20, 40, 80 and 160 seconds, and after 300.
          assert.isAtMost(maps(router), 9)
        })
    )

    it.effect("the address that the gateway has all the time proves no other one, whoever announces both", () =>
      Effect.gen(function* () {
        const { natPmp, network, router } = yield* withStrategies()
        yield* natPmp.map({ ...wish, lifetime: "1 day" })
        yield* TestClock.adjust("1 minute")
        const before = renewals(router)
        for (let round = 0; round < 600; round++) {
          const epoch = Result.getOrThrow(NatPmpCodec.decodeResponse(yield* announceNatPmp(router))).epoch ?? 0
          const externalAddress = Net.ipv4("66.66.66.66")
          yield* say(network, NatPmpCodec.encodeResponse({ _tag: "ExternalAddressResponse", epoch, externalAddress }))
          yield* say(network, yield* announceNatPmp(router))
          yield* passes(1)
        }
        assert.isAtMost(renewals(router) - before, 8)
      })
    )

    it.effect("after a forged restart the gateway's next answer is none", () =>
      Effect.gen(function* () {
        const { network, pcp, router } = yield* withStrategies()
        yield* pcp.map(wish)
        yield* pcp.map({ ...wish, protocol: "udp" })
        yield* TestClock.adjust("1 minute")
        yield* say(network, announcement)
        yield* TestClock.adjust("50 minutes")
        // Once each for the forged one; half of their lifetime has not passed since.
        assert.strictEqual(maps(router), 4)
      })
    )
  })

  it.effect("a strategy of one protocol alone listens as well", () =>
    Effect.gen(function* () {
      const router = Router.make()
      const network = yield* Net.make(router.peer)
      const { mapper } = yield* Effect.provide(NatPmp.makeStrategy(), network.layer)
      const mapping = yield* mapper.map(wish)
      const changes: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(mapping.changes, ({ externalAddress }) =>
          Effect.sync(() => changes.push(externalAddress === undefined ? "none" : NetAddress.formatIp(externalAddress)))
        )
      )
      yield* TestClock.adjust("1 minute")
      router.model.changeExternalAddress(Net.ipv4("11.22.33.9"))
      yield* say(network, yield* announceNatPmp(router))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(changes, ["11.22.33.1", "11.22.33.9"])
    })
  )
})
