/**
 * What a gateway says later of a mapping, to the port that it was asked from: the mapping is renewed at once, and the
 * socket is open for that as long as something is mapped over PCP.
 */
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as PortControl from "@effect-nat/natpmp/PortControl"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "./network.ts"
import * as Router from "./pcpRouter.ts"

const wish: MappingRequest.MappingRequest = { protocol: "tcp", internalPort: 12000, externalPort: 12001 }
const other: MappingRequest.MappingRequest = { protocol: "udp", internalPort: 12002, externalPort: 12003 }

const withStrategies = Effect.gen(function* () {
  const router = Router.make()
  const network = yield* Net.make(router.peer)
  const { natPmp, pcp } = yield* Effect.provide(PortControl.makeStrategies(), network.layer)
  return { network, router, pcp: pcp.mapper, natPmp: natPmp.mapper }
})

/** One more answer to the request that came first. The gateway's epoch is 1000 when the tests begin. */
const again = ({ requests }: Router.PcpRouter, fields: Partial<Codec.MapResponse> = {}): Uint8Array => {
  const [asked] = requests
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

/** To the port that the request with this number came from. */
const sayTo = (network: Net.Network, index: number, payload: Uint8Array, from?: NetAddress.InetAddress) =>
  Effect.andThen(
    Effect.sync(() => network.sent[index]?.socket.reply(payload, from)),
    Net.settle
  )

const sockets = (network: Net.Network) => new Set(network.sent.map(({ socket }) => socket.number)).size

/** Without those for announcements. */
const openSockets = (network: Net.Network) => network.open - network.ears.size

describe("a later answer to a mapping's request", () => {
  it.effect.each([
    ["another port", { externalPort: 13000 }],
    ["another address", { externalAddress: Net.ipv4("11.22.33.9") }],
    ["that it is over", { lifetime: 0 }],
    ["that it ends sooner", { lifetime: 60 }]
  ] as const)("that tells of %s has it renewed at once [RFC 6887 8-b, 8.3-i, 14.2-a]", ([, fields]) =>
    Effect.gen(function* () {
      const { network, pcp, router } = yield* withStrategies
      yield* pcp.map(wish)
      yield* pcp.map(other)
      yield* TestClock.adjust("1 minute")
      yield* sayTo(network, 0, again(router, fields))
      assert.deepStrictEqual(router.asked.slice(2), ["map 6 12000 12001 7200"])
    })
  )

  it.effect("is what the mapping's changes tell, where the gateway has another address now [RFC 6887 8-b]", () =>
    Effect.gen(function* () {
      const { network, pcp, router } = yield* withStrategies
      const mapping = yield* pcp.map(wish)
      yield* TestClock.adjust("1 minute")
      router.model.externalAddress = Net.ipv4("11.22.33.9")
      yield* sayTo(network, 0, again(router, { externalAddress: Net.ipv4("11.22.33.9") }))
      const { externalAddress } = yield* mapping.current
      assert.strictEqual(externalAddress && NetAddress.formatIp(externalAddress), "11.22.33.9")
    })
  )

  it.effect("with an epoch that cannot be has all of the gateway's mappings renewed [RFC 6887 8.3-h, 8.5-e]", () =>
    Effect.gen(function* () {
      const { network, pcp, router } = yield* withStrategies
      yield* pcp.map(wish)
      yield* pcp.map(other)
      yield* TestClock.adjust("1 minute")
      yield* sayTo(network, 0, again(router, { lifetime: 0, epoch: 0 }))
      yield* TestClock.adjust("5 seconds")
      assert.includeMembers(router.asked.slice(2), ["map 6 12000 12001 7200", "map 17 12002 12003 7200"])
    })
  )

  it.effect.each([
    ["that says the same", "late", (router: Router.PcpRouter) => again(router), undefined],
    [
      "with what is left of the lifetime",
      "late",
      (router: Router.PcpRouter) => again(router, { lifetime: 7140 }),
      undefined
    ],
    [
      "with another nonce",
      "late",
      (router: Router.PcpRouter) =>
        again(router, { lifetime: 0, epoch: 0, nonce: Codec.nonceFromBytes(Uint8Array.of(6)) }),
      undefined
    ],
    [
      "for another port",
      "late",
      (router: Router.PcpRouter) => again(router, { lifetime: 0, epoch: 0, internalPort: 12002 }),
      undefined
    ],
    [
      "for another protocol",
      "late",
      (router: Router.PcpRouter) => again(router, { lifetime: 0, epoch: 0, protocol: 17 }),
      undefined
    ],
    [
      "from another host",
      "source",
      (router: Router.PcpRouter) => again(router, { lifetime: 0 }),
      Net.inet("192.168.77.66:5351")
    ],
    [
      "from another port",
      "source",
      (router: Router.PcpRouter) => again(router, { lifetime: 0 }),
      Net.inet("192.168.77.1:5350")
    ],
    [
      "that is cut short",
      "late",
      (router: Router.PcpRouter) => again(router, { lifetime: 0, epoch: 0 }).subarray(0, 56),
      undefined
    ],
    ["that is a request", "late", () => Uint8Array.of(2, 1, 0, 0, ...new Uint8Array(56)), undefined],
    ["that is an error", "late", () => Uint8Array.of(2, 129, 0, 8, ...new Uint8Array(56)), undefined],
    ["of no bytes", "late", () => new Uint8Array(0), undefined]
  ] as const)("or one %s changes nothing, and is counted as %s", ([, why, payload, from]) =>
    Effect.gen(function* () {
      const { network, pcp, router } = yield* withStrategies
      yield* pcp.map(wish)
      yield* TestClock.adjust("1 minute")
      const before = yield* Net.ignoredByReason
      yield* sayTo(network, 0, payload(router), from)
      const after = yield* Net.ignoredByReason
      assert.strictEqual((after[why] ?? 0) - (before[why] ?? 0), 1)
      // After five minutes a gateway that says nothing is asked how it is.
      yield* TestClock.adjust("3 minutes")
      assert.strictEqual(router.asked.length, 1)
    })
  )

  it.effect("that comes all the time costs ever fewer renewals", () =>
    Effect.gen(function* () {
      const { network, pcp, router } = yield* withStrategies
      yield* pcp.map({ ...wish, lifetime: "1 day" })
      for (let round = 0; round < 600; round++) {
        yield* sayTo(network, 0, again(router, { lifetime: 0 }))
        yield* TestClock.adjust("1 second")
      }
      assert.isAtMost(router.asked.length, 9)
    })
  )
})

describe("the socket to a gateway", () => {
  it.effect("is one, open while something is mapped over PCP, and closed when the last mapping is released", () =>
    Effect.gen(function* () {
      const { network, pcp } = yield* withStrategies
      const first = yield* pcp.map({ ...wish, lifetime: "1 hour" })
      const second = yield* pcp.map({ ...other, lifetime: "30 minutes" })
      // Renewals come at different times.
      for (let round = 0; round < 24; round++) {
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual(openSockets(network), 1)
      }
      assert.isAbove(network.sent.length, 8)
      assert.strictEqual(sockets(network), 1)
      yield* first.release
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(openSockets(network), 1)
      yield* second.release
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(network.open, 0)
    })
  )

  it.effect("is closed with the mapping's scope, and with the strategy's", () =>
    Effect.gen(function* () {
      const router = Router.make()
      const network = yield* Net.make(router.peer)
      const strategy = yield* Net.inOwnScope(Effect.provide(Pcp.makeStrategy(), network.layer))
      const mapping = yield* Net.inOwnScope(strategy.value.mapper.map(wish))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(openSockets(network), 1)
      yield* Scope.close(mapping.scope, Exit.void)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(network.open, 0)
      yield* strategy.value.mapper.map(wish)
      // Its renewal fails, so that the socket of its last answer is not the one of the next question.
      router.isMute = () => true
      yield* TestClock.adjust("1 hour")
      assert.isAtLeast(openSockets(network), 1)
      yield* Scope.close(strategy.scope, Exit.void)
      assert.strictEqual(network.open, 0)
    })
  )

  it.effect("is closed between the renewals of what is mapped over NAT-PMP only, of which nothing is said there", () =>
    Effect.gen(function* () {
      const { natPmp, network } = yield* withStrategies
      yield* natPmp.map(wish)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(openSockets(network), 0)
    })
  )

  it.effect("is another one where this host has another address, though it is open", () =>
    Effect.gen(function* () {
      const { network, pcp, router } = yield* withStrategies
      const mapping = yield* pcp.map({ ...wish, lifetime: "1 hour" })
      yield* TestClock.adjust("1 minute")
      network.own = Net.ipv4("192.168.77.3")
      router.client = network.own
      yield* pcp.map(other)
      const request = router.requests.at(-1)
      assert.strictEqual(request && NetAddress.formatIp(request.clientAddress), "192.168.77.3")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(NetAddress.formatIp((yield* mapping.current).internalAddress), "192.168.77.3")
      // What was held from the former address has been let go.
      assert.strictEqual(openSockets(network), 1)
    })
  )

  it.effect("that a mapping was asked from is heard until its next renewal, though another question has failed", () =>
    Effect.gen(function* () {
      const { network, pcp, router } = yield* withStrategies
      yield* pcp.map({ ...wish, lifetime: "1 hour" })
      router.isMute = () => true
      yield* Effect.exit(pcp.map({ ...other, lifetime: "1 hour" })).pipe(
        Effect.forkScoped,
        Effect.andThen(TestClock.adjust("2 minutes"))
      )
      router.isMute = () => false
      yield* pcp.map({ ...other, internalPort: 12004, lifetime: "1 hour" })
      const before = router.asked.length
      assert.strictEqual(openSockets(network), 2)
      yield* sayTo(network, 0, again(router, { lifetime: 0, epoch: 1120 }))
      assert.deepStrictEqual(router.asked.slice(before), ["map 6 12000 12001 3600"])
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(openSockets(network), 1)
    })
  )
})
