/**
 * What RFC 6886 asks of clients, where no test of a module shows it: test/conformance/natpmp.ts has the list.
 */
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Lan from "@effect-nat/core/Lan"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as NatError from "@effect-nat/core/NatError"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as NatPmpClient from "@effect-nat/natpmp/NatPmpClient"
import * as PcpClient from "@effect-nat/natpmp/PcpClient"
import { assert, describe, it } from "@effect/vitest"
import * as Fallback from "effect-nat/Fallback"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Clock from "effect/Clock"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import * as NatPmpResponder from "@effect-nat/testing/NatPmpResponder"
import * as Net from "./network.ts"
import * as Router from "./pcpRouter.ts"

const end = { protocol: "tcp", internalPort: 12000 } as const

const wish: MappingRequest.MappingRequest = { ...end, externalPort: 12001 }

const reason = <A>(effect: Effect.Effect<A, NatError.NatError>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"))

const replying =
  (...payloads: ReadonlyArray<Uint8Array>): Net.Peer =>
  ({ socket }) =>
    Effect.sync(() => payloads.forEach((payload) => socket.reply(payload)))

const withClient = Effect.fnUntraced(function* (peer: Net.Peer) {
  const network = yield* Net.make(peer)
  const client = yield* Effect.provide(NatPmpClient.make(Net.gateway), network.layer)
  return { network, client }
})

const withMapper = Effect.fnUntraced(function* (peer: Net.Peer) {
  const network = yield* Net.make(peer)
  const context = yield* Layer.build(NatPmp.layer.pipe(Layer.provide(network.layer)))
  return { network, mapper: Context.get(context, PortMapper.PortMapper) }
})

/** Runs what waits for a silent gateway for as long as the first question to one takes. */
const afterSilence = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkChild(effect)
  yield* TestClock.adjust(NatPmp.probeTimeout)
  return yield* Fiber.join(fiber)
})

it.effect("every packet is of version 0 or 2 [RFC 6886 1.1-a, 3-a]", () =>
  Effect.gen(function* () {
    const { client, network } = yield* withClient(Net.makeRouter().peer)
    yield* client.externalAddress()
    yield* client.map({ ...end, externalPort: 12001, lifetime: "1 hour" })
    yield* client.delete(end)
    yield* client.deleteAll("udp")
    assert.deepStrictEqual(
      network.sent.map(({ payload }) => [payload[0], payload[1]]),
      [
        [0, 0],
        [0, 2],
        [0, 2],
        [0, 1]
      ]
    )
    const pcpNetwork = yield* Net.make(({ socket }) => Effect.sync(() => socket.refuse()))
    const pcp = yield* Effect.provide(PcpClient.make(Net.gateway), pcpNetwork.layer)
    const nonce = yield* PcpClient.makeNonce
    const remotePeer = Net.inet("198.51.100.7:443")
    const questions = [
      pcp.announce(),
      pcp.map({ ...end, nonce, externalPort: 12001, lifetime: "1 hour" }),
      pcp.peer({ ...end, nonce, externalPort: 12001, lifetime: "1 hour", remotePeer }),
      pcp.delete({ ...end, nonce })
    ]
    for (const question of questions) {
      yield* reason(question)
      // Who has just been refused is not asked again at once.
      yield* TestClock.adjust("100 millis")
    }
    assert.deepStrictEqual(
      pcpNetwork.sent.map(({ payload }) => payload[0]),
      [2, 2, 2, 2]
    )
  })
)

describe("a gateway that did not answer", () => {
  it.effect("is asked again with the next request [RFC 6886 3.1-f]", () =>
    Effect.gen(function* () {
      const router = Net.makeRouter()
      const { mapper } = yield* withMapper(router.peer)
      router.isMute = () => true
      assert.strictEqual((yield* afterSilence(reason(Effect.scoped(mapper.map(wish)))))._tag, "NoGateway")
      router.isMute = () => false
      yield* mapper.map(wish)
      assert.lengthOf(router.entries, 1)
    })
  )

  it.effect("says nothing of the gateway of another network [RFC 6886 3.1-g, 3-f]", () =>
    Effect.gen(function* () {
      const router = Net.makeRouter()
      const { mapper, network } = yield* withMapper((sent) =>
        NetAddress.formatIp(sent.to.address) === "192.168.78.1" ? router.peer(sent) : Effect.void
      )
      assert.strictEqual((yield* afterSilence(reason(Effect.scoped(mapper.map(wish)))))._tag, "NoGateway")
      network.gateways = [Net.ipv4("192.168.78.1")]
      const mapping = yield* mapper.map(wish)
      const { gateway } = yield* mapping.current
      assert.strictEqual(gateway && NetAddress.formatIp(gateway), "192.168.78.1")
    })
  )

  it.effect("keeps no program from serving its own network, whatever its address [RFC 6886 3.8-a, 3.8-b]", () =>
    Effect.gen(function* () {
      const { mapper, network } = yield* withMapper(Net.silent)
      const interfaces = NetworkInterfaces.NetworkInterfaces.of({ list: Effect.succeed([]) })
      const lan = yield* Layer.build(
        Lan.layer.pipe(
          Layer.provide(network.layer),
          Layer.provide(Layer.succeed(NetworkInterfaces.NetworkInterfaces, interfaces))
        )
      )
      let told = 0
      const both = Fallback.whenNoGateway(mapper, Context.get(lan, PortMapper.PortMapper), () =>
        Effect.sync(() => void told++)
      )
      const mapping = yield* afterSilence(both.map(wish))
      const { internalAddress, status } = yield* mapping.current
      assert.strictEqual(NetAddress.formatIp(internalAddress), "192.168.77.2")
      assert.deepStrictEqual([status, told], ["mapped", 1])
    })
  )
})

describe("a gateway that has lost its mappings", () => {
  const withModel = Effect.fnUntraced(function* () {
    const router = Router.make({ respond: NatPmpResponder.respond })
    let mostAtOnce = 0
    let atOnce = 0
    let answersTakeTime = true
    const { mapper, network } = yield* withMapper((sent) =>
      Effect.gen(function* () {
        atOnce += 1
        mostAtOnce = Math.max(mostAtOnce, atOnce)
        if (answersTakeTime) yield* Effect.sleep("20 millis")
        atOnce -= 1
        yield* router.peer(sent)
      })
    )
    const entries = Effect.map(Clock.currentTimeMillis, (now) =>
      router.model.entries(now).map((entry) => entry.externalPort)
    )
    const announce = Effect.map(Clock.currentTimeMillis, (now) => NatPmpResponder.announcement(router.model, now))
    const map = Effect.fnUntraced(function* (port: number, lifetime: Duration.Input) {
      const fiber = yield* Effect.forkScoped(
        mapper.map({ protocol: "tcp", internalPort: port, externalPort: port, lifetime })
      )
      yield* TestClock.adjust("200 millis")
      // The release of the mapping has no time to wait.
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          answersTakeTime = false
        })
      )
      return yield* Fiber.join(fiber)
    })
    return { router, network, entries, announce, map, mostAtOnce: () => mostAtOnce }
  })

  it.effect("has them again with their next renewal, at the latest [RFC 6886 3.7-d]", () =>
    Effect.gen(function* () {
      const { entries, map, network, router } = yield* withModel()
      network.isPortTaken = true
      yield* map(12000, "1 hour")
      router.model.reboot(yield* Clock.currentTimeMillis)
      assert.deepStrictEqual(yield* entries, [])
      yield* TestClock.adjust("30 minutes")
      assert.deepStrictEqual(yield* entries, [12000])
    })
  )

  it.effect.each([
    [0.1, 500],
    [0.9, 4500]
  ] as const)(
    "shows it in any answer: all are renewed, after a random time of up to 5 seconds, one by one (%d) [RFC 6886 3.6-c, 3.7-b, 3.7-c]",
    ([random, wait]) =>
      Effect.gen(function* () {
        const { entries, map, mostAtOnce, network, router } = yield* withModel()
        network.isPortTaken = true
        for (const port of [12000, 12001, 12002]) yield* map(port, "1 day")
        yield* map(12003, "2 minutes")
        router.model.reboot(yield* Clock.currentTimeMillis)
        for (let step = 0; step < 7000 && (yield* entries).length === 0; step++) yield* TestClock.adjust("10 millis")
        assert.deepStrictEqual(yield* entries, [12003])
        yield* TestClock.adjust(wait - 30)
        assert.deepStrictEqual(yield* entries, [12003])
        yield* TestClock.adjust("500 millis")
        assert.sameMembers(yield* entries, [12000, 12001, 12002, 12003])
        assert.strictEqual(mostAtOnce(), 1)
      }).pipe(Effect.provideService(Random.Random, { nextDoubleUnsafe: () => random, nextIntUnsafe: () => 0 }))
  )

  it.effect("announces it to no effect from another address [RFC 6886 3.2.1-b]", () =>
    Effect.gen(function* () {
      const { announce, entries, map, network, router } = yield* withModel()
      yield* map(12000, "1 day")
      yield* TestClock.adjust("1 minute")
      router.model.reboot(yield* Clock.currentTimeMillis)
      const announcement = yield* announce
      const say = (from: string) => {
        for (const ear of network.ears) ear.hear(announcement, Net.inet(from))
      }
      assert.strictEqual(network.ears.size, 1)
      say("192.168.77.66:5351")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* entries, [])
      say("192.168.77.1:5351")
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(yield* entries, [12000])
    })
  )
})

describe("a deletion", () => {
  it.effect("is sent in the rhythm of every request, and again and again until it is answered [RFC 6886 3.1-h]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(Net.silent)
      const fiber = yield* Effect.forkChild(reason(client.delete(end, { timeout: "5 seconds" })))
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
      assert.deepStrictEqual(
        network.sent.map(({ at }) => at),
        [0, 250, 750, 1750, 3750]
      )
    })
  )

  it.effect("that failed says so, whatever the lifetime and port in its answer [RFC 6886 3.4-d]", () =>
    Effect.gen(function* () {
      const { client } = yield* withClient(replying(bytes("00 82 0002 00000064 2ee0 2ee1 ffffffff")))
      assert.strictEqual((yield* reason(client.delete(end)))._tag, "NotAuthorized")
    })
  )

  it.effect.each([
    ["tcp", 2],
    ["udp", 1]
  ] as const)("of all %s mappings is twelve bytes without ports and lifetime [RFC 6886 3.4-e]", ([protocol, opcode]) =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(replying(bytes(`00 8${opcode} 0000 00000064 0000 0000 00000000`)))
      yield* client.deleteAll(protocol)
      assert.deepStrictEqual([...(network.sent[0]?.payload ?? [])], [0, opcode, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    })
  )
})

describe("an answer", () => {
  it.effect("with an error has no external address, whatever its field says [RFC 6886 3-d, 3.2-b]", () =>
    Effect.gen(function* () {
      const { client } = yield* withClient(replying(bytes("00 80 0003 00000064 0b162101")))
      assert.strictEqual((yield* reason(client.externalAddress()))._tag, "NoExternalAddress")
      assert.strictEqual((yield* reason(client.externalAddress({ maxAge: "1 hour" })))._tag, "NoExternalAddress")
    })
  )

  it.effect("with an error that nobody knows ends its request at once [RFC 6886 3.5-a, 3.5-b]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(replying(bytes("00 82 0063 00000064 2ee0 0000 00000000")))
      const failure = yield* reason(client.map({ ...end, externalPort: 12001, lifetime: "1 hour" }))
      assert.strictEqual(failure._tag, "MalformedAnswer")
      yield* TestClock.adjust("1 hour")
      assert.lengthOf(network.sent, 1)
    })
  )

  it.effect("to an opcode that the gateway does not know is the request, and has no epoch [RFC 6886 3.5-e]", () =>
    Effect.gen(function* () {
      const { client } = yield* withClient(({ payload, socket }) =>
        Effect.sync(() => {
          const answer = payload.slice()
          answer.set([128 + (payload[1] ?? 0), 0, 5], 1)
          socket.reply(answer)
        })
      )
      const failure = yield* reason(client.map({ ...end, externalPort: 12001, lifetime: "1 hour" }))
      assert.strictEqual(failure._tag, "Unsupported")
      assert.isUndefined((yield* client.tableState).epoch)
    })
  )
})

it.effect("a mapping suggests the port that is liked, or 0 for any [RFC 6886 3.3-d]", () =>
  Effect.gen(function* () {
    const { client, network } = yield* withClient(replying(bytes("00 82 0000 00000064 2ee0 9c40 00000e10")))
    yield* client.map({ ...end, externalPort: 0, lifetime: "1 hour" })
    yield* client.map({ ...end, externalPort: 80, lifetime: "1 hour" })
    assert.deepStrictEqual(
      network.sent.map(({ payload }) => [payload[6], payload[7]]),
      [
        [0, 0],
        [0, 80]
      ]
    )
  })
)

it.effect("addresses of both families are in one contact point [RFC 6886 4.2-a, 4.2-c]", () =>
  Effect.gen(function* () {
    const network = yield* Net.make(Net.silent)
    const mapping = (externalAddress: string, internalAddress: string) =>
      new PortMapping.PortMapping({
        remoteHost: undefined,
        externalAddress: NetAddress.ipFromStringUnsafe(externalAddress),
        externalPort: 12000,
        protocol: "tcp",
        internalPort: 12000,
        internalAddress: NetAddress.ipFromStringUnsafe(internalAddress),
        enabled: true,
        description: "effect-nat",
        lifetime: Duration.hours(1),
        gateway: undefined,
        method: "natpmp",
        status: "mapped"
      })
    const interfaces = NetworkInterfaces.NetworkInterfaces.of({ list: Effect.succeed([]) })
    const contactPoint = yield* ContactPointResolver.ContactPointResolver.use((resolver) =>
      resolver.contactPoint({
        name: "service",
        port: 12000,
        mappings: [mapping("11.22.33.1", "192.168.77.2"), mapping("2001:db8::2", "2001:db8::2")]
      })
    ).pipe(
      Effect.provide(
        ContactPointResolver.layer.pipe(
          Layer.provide(network.layer),
          Layer.provide(Layer.succeed(NetworkInterfaces.NetworkInterfaces, interfaces))
        )
      )
    )
    assert.deepStrictEqual(
      contactPoint.external.map(({ address }) => NetAddress.formatInet(address)),
      ["11.22.33.1:12000", "[2001:db8::2]:12000"]
    )
  })
)
