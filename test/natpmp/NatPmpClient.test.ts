import * as NodeUdp from "@effect-nat/core/NodeUdp"
import type * as NatError from "@effect-nat/core/NatError"
import * as NatPmpClient from "@effect-nat/natpmp/NatPmpClient"
import * as Codec from "@effect-nat/natpmp/NatPmpCodec"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "./network.ts"

const reason = <A>(effect: Effect.Effect<A, NatError.NatError>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

const externalAddress = (text: string, epoch = 100): Uint8Array =>
  Codec.encodeResponse({ _tag: "ExternalAddressResponse", epoch, externalAddress: Net.ipv4(text) })

const mapped = (fields: Partial<Codec.MapResponse> = {}): Uint8Array =>
  Codec.encodeResponse({
    _tag: "MapResponse",
    protocol: "tcp",
    epoch: 100,
    internalPort: 12000,
    externalPort: 12001,
    lifetime: 3600,
    ...fields
  })

const failed = (fields: Partial<Codec.ErrorResponse> = {}): Uint8Array =>
  Codec.encodeResponse({
    _tag: "ErrorResponse",
    version: 0,
    opcode: 2,
    resultCode: 2,
    epoch: 100,
    internalPort: 12000,
    ...fields
  })

const withClient = Effect.fnUntraced(function* (peer: Net.Peer) {
  const network = yield* Net.make(peer)
  const client = yield* Effect.provide(NatPmpClient.make(Net.gateway), network.layer)
  return { network, client }
})

const mapping = { protocol: "tcp", internalPort: 12000, externalPort: 12001, lifetime: "1 hour" } as const

describe("NatPmpClient", () => {
  it.effect("asks for the external address [RFC 6886 3.1-c, 3.2-a]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(({ socket }) =>
        Effect.sync(() => socket.reply(externalAddress("11.22.33.1")))
      )
      const answer = yield* client.externalAddress()
      assert.strictEqual(NetAddress.formatIp(answer.address), "11.22.33.1")
      assert.strictEqual(NetAddress.formatIp(answer.localAddress), "192.168.77.2")
      assert.deepStrictEqual(
        network.sent.map(({ payload, to }) => [NetAddress.formatInet(to), Array.from(payload)]),
        [["192.168.77.1:5351", [0, 0]]]
      )
    })
  )

  it.effect("maps, in seconds, and takes what is granted [RFC 6886 3.3-aij]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(({ socket }) =>
        Effect.sync(() => socket.reply(mapped({ externalPort: 40000, lifetime: 120 })))
      )
      const granted = yield* client.map(mapping)
      assert.strictEqual(granted.externalPort, 40000)
      assert.strictEqual(Duration.toSeconds(granted.lifetime), 120)
      // 00 02 0000 | 2ee0 2ee1 | 00000e10: an hour is 3600, not 3600000.
      assert.deepStrictEqual(
        [...(network.sent[0]?.payload ?? [])],
        [0, 2, 0, 0, 0x2e, 0xe0, 0x2e, 0xe1, 0, 0, 0x0e, 0x10]
      )
    })
  )

  it.effect.each([
    ["1500 millis", 2],
    ["1 milli", 1],
    [0, 1],
    [Duration.infinity, 0xffffffff]
  ] as const)("asks for a lifetime of %s as %i seconds", ([lifetime, seconds]) =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(({ socket }) => Effect.sync(() => socket.reply(mapped())))
      yield* client.map({ ...mapping, lifetime })
      const payload = network.sent[0]?.payload ?? new Uint8Array(12)
      assert.strictEqual(new DataView(payload.buffer).getUint32(8), seconds)
    })
  )

  it.effect("deletes by internal port, with external port and lifetime 0 [RFC 6886 3.4-abc]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(({ socket }) =>
        Effect.sync(() => socket.reply(mapped({ protocol: "udp", externalPort: 0, lifetime: 0 })))
      )
      yield* client.delete({ protocol: "udp", internalPort: 12000 })
      assert.deepStrictEqual([...(network.sent[0]?.payload ?? [])], [0, 1, 0, 0, 0x2e, 0xe0, 0, 0, 0, 0, 0, 0])
    })
  )

  it.effect.each([
    ["udp", 1],
    ["tcp", 2]
  ] as const)("deletes all %s mappings where it is told to", ([protocol, opcode]) =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(({ socket }) =>
        Effect.sync(() => {
          // Neither a mapping's answer nor one about a single port confirms it.
          socket.reply(mapped({ protocol, internalPort: 0, lifetime: 3600 }))
          socket.reply(mapped({ protocol, externalPort: 0, lifetime: 0 }))
          socket.reply(mapped({ protocol, internalPort: 0, externalPort: 0, lifetime: 0 }))
        })
      )
      const before = yield* Net.ignored
      yield* client.deleteAll(protocol)
      assert.deepStrictEqual([...(network.sent[0]?.payload ?? [])], [0, opcode, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
      assert.strictEqual((yield* Net.ignored) - before, 2)
    })
  )

  it.effect(
    "sends nothing for a port out of range: internal port 0 would delete everybody's mappings [RFC 6886 3.4-e]",
    () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(Net.silent)
        for (const internalPort of [0, -1, 65536, 1.5, Number.NaN]) {
          const end = { protocol: "tcp", internalPort } as const
          assert.strictEqual((yield* reason(client.delete(end)))._tag, "InvalidRequest")
          assert.strictEqual((yield* reason(client.map({ ...mapping, ...end })))._tag, "InvalidRequest")
        }
        assert.strictEqual((yield* reason(client.map({ ...mapping, externalPort: 65536 })))._tag, "InvalidRequest")
        assert.strictEqual(network.opened, 0)
      })
  )

  describe("retransmission (RFC 6886 §3.1)", () => {
    it.effect("sends nine times, doubling the pause, and gives up after 127.75 seconds [RFC 6886 3.1-cde]", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(Net.silent)
        const fiber = yield* Effect.forkChild(reason(client.externalAddress()))
        yield* TestClock.adjust("127749 millis")
        assert.isUndefined(fiber.pollUnsafe())
        assert.deepStrictEqual(
          network.sent.map(({ at }) => at),
          [0, 250, 750, 1750, 3750, 7750, 15750, 31750, 63750]
        )
        yield* TestClock.adjust("1 millis")
        const failure = yield* Fiber.join(fiber)
        assert.strictEqual(failure._tag, "TimedOut")
        assert.include(failure.message, "192.168.77.1 did not answer the external address request")
        assert.strictEqual(network.sent.length, 9)
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("sends no more than nine times, however long it is to wait", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(Net.silent)
        const fiber = yield* Effect.forkChild(reason(client.map(mapping, { timeout: "10 minutes" })))
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
        assert.strictEqual(network.sent.length, 9)
      })
    )

    it.effect("gives up when told to [RFC 6886 3.3-f]", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(Net.silent)
        const fiber = yield* Effect.forkChild(reason(client.map(mapping, { timeout: "2 seconds" })))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
        assert.deepStrictEqual(
          network.sent.map(({ at }) => at),
          [0, 250, 750, 1750]
        )
      })
    )

    it.effect("stops with the first answer", () =>
      Effect.gen(function* () {
        let count = 0
        const { client, network } = yield* withClient(({ socket }) =>
          Effect.sync(() => {
            if (++count === 3) socket.reply(mapped())
          })
        )
        const fiber = yield* Effect.forkChild(client.map(mapping))
        yield* TestClock.adjust("10 minutes")
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(
          network.sent.map(({ at }) => at),
          [0, 250, 750]
        )
      })
    )

    it.effect("takes a late answer to an earlier transmission", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(({ socket }) =>
          Effect.delay(
            Effect.sync(() => socket.reply(mapped())),
            "600 millis"
          )
        )
        const fiber = yield* Effect.forkChild(client.map(mapping))
        yield* TestClock.adjust("600 millis")
        assert.strictEqual((yield* Fiber.join(fiber)).externalPort, 12001)
        assert.strictEqual(network.sent.length, 2)
      })
    )
  })

  describe("answers", () => {
    const wrong: ReadonlyArray<readonly [string, Uint8Array, string?]> = [
      ["from another host", mapped({ externalPort: 6666 }), "192.168.77.66:5351"],
      ["from another port", mapped({ externalPort: 6666 }), "192.168.77.1:5350"],
      ["of no bytes", new Uint8Array(0)],
      ["of one byte", Uint8Array.of(0)],
      ["cut short", mapped({ externalPort: 6666 }).subarray(0, 15)],
      ["with the version of PCP", mapped({ externalPort: 6666 }).map((byte, index) => (index === 0 ? 2 : byte))],
      ["that is a request", Codec.encodeRequest({ _tag: "MapRequest", ...mapping, lifetime: 3600 })],
      ["for the other protocol", mapped({ protocol: "udp", externalPort: 6666 })],
      ["for another internal port", mapped({ internalPort: 12002, externalPort: 6666 })],
      ["about the external address", externalAddress("66.66.66.66")],
      ["that is a late confirmation of a deletion", mapped({ externalPort: 0, lifetime: 0 })],
      ["that grants nothing", mapped({ externalPort: 6666, lifetime: 0 })],
      ["with an error for another internal port", failed({ internalPort: 12002 })],
      ["with an error for the other protocol", failed({ opcode: 1 })],
      ["with an error about the external address", failed({ opcode: 0 })]
    ]

    it.effect.each(wrong)(
      "one %s changes nothing and is counted [RFC 6886 3-c, 3.2-c, 3.3-gh, 3.5-c]",
      ([, payload, from]) =>
        Effect.gen(function* () {
          const { client } = yield* withClient(({ socket }) =>
            Effect.sync(() => socket.reply(payload, from === undefined ? undefined : Net.inet(from))).pipe(
              Effect.andThen(
                Effect.delay(
                  Effect.sync(() => socket.reply(mapped())),
                  "100 millis"
                )
              )
            )
          )
          const before = yield* Net.ignored
          const fiber = yield* Effect.forkChild(client.map(mapping))
          yield* TestClock.adjust("99 millis")
          assert.isUndefined(fiber.pollUnsafe())
          assert.isUndefined((yield* client.tableState).epoch)
          yield* TestClock.adjust("1 millis")
          assert.strictEqual((yield* Fiber.join(fiber)).externalPort, 12001)
          assert.strictEqual((yield* Net.ignored) - before, 1)
        })
    )

    it.effect("the right one counts among wrong ones of the same moment", () =>
      Effect.gen(function* () {
        const { client } = yield* withClient(({ socket }) =>
          Effect.sync(() => {
            for (const [, payload, from] of wrong)
              socket.reply(payload, from === undefined ? undefined : Net.inet(from))
            socket.reply(mapped())
            socket.reply(mapped({ externalPort: 6666 }))
          })
        )
        assert.strictEqual((yield* client.map(mapping)).externalPort, 12001)
      })
    )

    it.effect("a deletion is not confirmed by a late answer to the mapping [RFC 6886 3.4-c]", () =>
      Effect.gen(function* () {
        const { client } = yield* withClient(({ payload, socket }) =>
          Effect.sync(() => {
            socket.reply(mapped())
            if (payload[11] === 0) socket.reply(mapped())
          })
        )
        yield* client.map(mapping)
        const fiber = yield* Effect.forkChild(reason(client.delete(mapping, { timeout: "1 second" })))
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
      })
    )

    it.effect("duplicates of an answer do no harm to the next question", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(({ payload, socket }) =>
          Effect.sync(() => {
            const answer = payload[1] === 0 ? externalAddress("11.22.33.1") : mapped()
            for (let copies = 0; copies < 3; copies++) socket.reply(answer)
          })
        )
        yield* client.externalAddress()
        assert.strictEqual((yield* client.map(mapping)).externalPort, 12001)
        assert.strictEqual(NetAddress.formatIp((yield* client.externalAddress()).address), "11.22.33.1")
        assert.strictEqual(network.opened, 1)
      })
    )
  })

  describe("errors", () => {
    it.effect.each([
      [1, "Unsupported"],
      [2, "NotAuthorized"],
      [3, "NoExternalAddress"],
      [4, "OutOfResources"],
      [5, "Unsupported"],
      [6, "MalformedAnswer"],
      [65535, "MalformedAnswer"]
    ] as const)("result code %i is %s [RFC 6886 3-d, 3.5-a]", ([resultCode, tag]) =>
      Effect.gen(function* () {
        const { client } = yield* withClient(({ payload, socket }) =>
          Effect.sync(() => socket.reply(failed({ opcode: payload[1] ?? 0, resultCode })))
        )
        const failure = yield* reason(client.map(mapping))
        assert.strictEqual(failure._tag, tag)
        assert.include(failure.message, `${resultCode}`)
        assert.notInclude(failure.message, "\n")
        assert.strictEqual((yield* reason(client.externalAddress()))._tag, tag)
        assert.strictEqual((yield* reason(client.delete(mapping)))._tag, tag)
      })
    )

    it.effect("an error cut off after its epoch counts [RFC 6886 3.5-d]", () =>
      Effect.gen(function* () {
        const { client } = yield* withClient(({ socket }) => Effect.sync(() => socket.reply(failed().subarray(0, 8))))
        assert.strictEqual((yield* reason(client.map(mapping)))._tag, "NotAuthorized")
      })
    )

    it.effect("a gateway that speaks PCP only is named so", () =>
      Effect.gen(function* () {
        // RFC 6887 §7.2: version 2, response bit and opcode, reserved, UNSUPP_VERSION, lifetime, epoch, reserved.
        const answer = Uint8Array.of(2, 0x80, 0, 1, 0, 0, 0, 60, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        const { client } = yield* withClient(({ socket }) => Effect.sync(() => socket.reply(answer)))
        const failure = yield* reason(client.externalAddress())
        assert.strictEqual(failure._tag, "Unsupported")
        assert.include(failure.message, "version 2")
        // The same for a mapping, whose opcode this gateway does not know.
        assert.strictEqual((yield* reason(client.map(mapping)))._tag, "Unsupported")
      })
    )

    it.effect("0.0.0.0 is no external address", () =>
      Effect.gen(function* () {
        const { client } = yield* withClient(({ socket }) =>
          Effect.sync(() => socket.reply(externalAddress("0.0.0.0")))
        )
        assert.strictEqual((yield* reason(client.externalAddress({ maxAge: "1 hour" })))._tag, "NoExternalAddress")
      })
    )

    it.effect(
      "a refusal by ICMP ends the exchange at once, and the next one is made a little later on another socket [RFC 6886 3.8-c]",
      () =>
        Effect.gen(function* () {
          let isOff = true
          const { client, network } = yield* withClient(({ socket }) =>
            Effect.sync(() => (isOff ? socket.refuse() : socket.reply(mapped())))
          )
          const failure = yield* reason(client.map(mapping))
          assert.strictEqual(failure._tag, "Unreachable")
          assert.include(failure.message, "192.168.77.1 refuses UDP port 5351")
          assert.strictEqual(network.sent.length, 1)
          assert.strictEqual(network.open, 0)
          isOff = false
          yield* TestClock.adjust("99 millis")
          assert.strictEqual((yield* reason(client.map(mapping))).message, failure.message)
          assert.strictEqual(network.sent.length, 1)
          yield* TestClock.adjust("1 millis")
          yield* client.map(mapping)
          assert.deepStrictEqual(
            network.sent.map(({ socket }) => socket.number),
            [1, 2]
          )
        })
    )

    it.effect("a host without a network is told so", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(Net.silent)
        network.isDown = true
        const failure = yield* reason(client.map(mapping))
        assert.strictEqual(failure._tag, "Unreachable")
        assert.include(failure.message, "192.168.77.1 or receive from it: ENETUNREACH")
      })
    )
  })

  describe("turns", () => {
    it.effect("one request at a time [RFC 6886 3.1-ab]", () =>
      Effect.gen(function* () {
        const router = Net.makeRouter()
        router.delay = 100
        const { client, network } = yield* withClient(router.peer)
        const ports = [1001, 1002, 1003, 1004]
        const fiber = yield* Effect.forkChild(
          Effect.forEach(ports, (port) => client.map({ ...mapping, internalPort: port, externalPort: port }), {
            concurrency: "unbounded"
          })
        )
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(
          (yield* Fiber.join(fiber)).map((granted) => granted.externalPort),
          ports
        )
        assert.deepStrictEqual(
          network.sent.map(({ at }) => at),
          [0, 100, 200, 300]
        )
      })
    )

    it.effect("a request that timed out, failed or was interrupted blocks no later one", () =>
      Effect.gen(function* () {
        let isLost = true
        const { client, network } = yield* withClient(({ socket }) =>
          Effect.sync(() => {
            if (!isLost) socket.reply(mapped())
          })
        )
        const first = yield* Effect.forkChild(reason(client.map(mapping, { timeout: "1 second" })))
        const second = yield* Effect.forkChild(client.map(mapping))
        const third = yield* Effect.forkChild(client.map(mapping))
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(first))._tag, "TimedOut")
        yield* Fiber.interrupt(second)
        isLost = false
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(third)).externalPort, 12001)
        assert.strictEqual((yield* client.map(mapping)).externalPort, 12001)
        assert.isAtMost(network.open, 1)
      })
    )

    it.effect("those who ask for the external address together share one answer, and one silence", () =>
      Effect.gen(function* () {
        const router = Net.makeRouter()
        router.delay = 100
        const { client, network } = yield* withClient(router.peer)
        const together = Effect.all(
          Array.from({ length: 5 }, () =>
            Effect.exit(client.externalAddress({ maxAge: "30 seconds", timeout: "2 seconds" }))
          ),
          { concurrency: "unbounded" }
        )
        const answered = yield* Effect.forkChild(together)
        yield* TestClock.adjust("100 millis")
        assert.isTrue((yield* Fiber.join(answered)).every(Exit.isSuccess))
        assert.strictEqual(network.sent.length, 1)
        router.delay = 0
        yield* client.externalAddress()
        assert.strictEqual(network.sent.length, 2)

        yield* TestClock.adjust("31 seconds")
        router.isMute = () => true
        const unanswered = yield* Effect.forkChild(together)
        yield* TestClock.adjust("2 seconds")
        assert.isTrue((yield* Fiber.join(unanswered)).every(Exit.isFailure))
      })
    )
  })

  describe("epoch (RFC 6886 §3.6)", () => {
    it.effect("a gateway that has lost its mappings is noticed, by any answer [RFC 6886 3.6-ab]", () =>
      Effect.gen(function* () {
        const router = Net.makeRouter()
        router.startedAt = -1_000_000
        const { client, network } = yield* withClient(router.peer)
        yield* client.externalAddress()
        yield* TestClock.adjust("10 minutes")
        yield* client.map(mapping)
        const { epoch, restarts } = yield* client.tableState
        assert.strictEqual(epoch?.seconds, 1600)
        assert.strictEqual(restarts, 0)

        router.startedAt = 600_000
        yield* client.map(mapping)
        assert.strictEqual((yield* client.tableState).restarts, 1)
        yield* TestClock.adjust("10 minutes")
        yield* client.map(mapping)
        assert.strictEqual((yield* client.tableState).restarts, 1)
        // What it said of its external address is not believed any more.
        const before = network.sent.length
        yield* client.externalAddress({ maxAge: "1 day" })
        assert.strictEqual(network.sent.length, before + 1)
      })
    )

    it.effect("an announcement of another address has it asked for again, and is not believed further", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(Net.makeRouter().peer)
        const address = Effect.map(client.externalAddress({ maxAge: "1 hour" }), (answer) =>
          NetAddress.formatIp(answer.address)
        )
        const announce = (text: string) =>
          client.hear({ _tag: "ExternalAddressResponse", epoch: 0, externalAddress: Net.ipv4(text) })
        yield* address
        yield* announce("11.22.33.1")
        assert.strictEqual(yield* address, "11.22.33.1")
        assert.strictEqual(network.sent.length, 1)
        yield* announce("66.66.66.66")
        assert.strictEqual(yield* address, "11.22.33.1")
        assert.strictEqual(network.sent.length, 2)
      })
    )

    it.effect("an error tells the epoch as well [RFC 6886 3.6-a]", () =>
      Effect.gen(function* () {
        const { client } = yield* withClient(({ socket }) => Effect.sync(() => socket.reply(failed({ epoch: 77 }))))
        yield* reason(client.map(mapping))
        assert.strictEqual((yield* client.tableState).epoch?.seconds, 77)
      })
    )
  })

  describe("sockets", () => {
    const inScope = Effect.fnUntraced(function* (peer: Net.Peer) {
      const network = yield* Net.make(peer)
      const { scope, value } = yield* Net.inOwnScope(Effect.provide(NatPmpClient.make(Net.gateway), network.layer))
      return { network, scope, client: value }
    })

    it.effect("none before the first request; one for a burst; none when idle", () =>
      Effect.gen(function* () {
        const { client, network } = yield* inScope(Net.makeRouter().peer)
        assert.strictEqual(network.opened, 0)
        yield* client.externalAddress()
        yield* client.map(mapping)
        yield* client.delete(mapping)
        assert.strictEqual(network.opened, 1)
        assert.strictEqual(network.open, 1)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(network.open, 0)
        yield* client.externalAddress()
        assert.strictEqual(network.opened, 2)
      })
    )

    it.effect("none after the scope has closed", () =>
      Effect.gen(function* () {
        const { client, network, scope } = yield* inScope(Net.makeRouter().peer)
        yield* client.externalAddress()
        assert.strictEqual(network.open, 1)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("none after an error of the gateway's, once idle; none after a timeout or an interruption, at once", () =>
      Effect.gen(function* () {
        const { client, network } = yield* inScope(Net.silent)
        const timedOut = yield* Effect.forkChild(reason(client.map(mapping, { timeout: "1 second" })))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(timedOut)
        assert.strictEqual(network.opened, 1)
        assert.strictEqual(network.open, 0)

        const interrupted = yield* Effect.forkChild(client.map(mapping))
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(network.open, 1)
        yield* Fiber.interrupt(interrupted)
        assert.strictEqual(network.open, 0)
        const sent = network.sent.length
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual(network.sent.length, sent)
      })
    )

    it.effect("asks from the address that the host has by then", () =>
      Effect.gen(function* () {
        const { client, network } = yield* inScope(Net.makeRouter().peer)
        assert.strictEqual(NetAddress.formatIp((yield* client.map(mapping)).localAddress), "192.168.77.2")
        network.own = Net.ipv4("192.168.77.3")
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(NetAddress.formatIp((yield* client.map(mapping)).localAddress), "192.168.77.3")
      })
    )

    it.live("on loopback, where nobody listens, it fails as soon as the kernel says so", () =>
      Effect.gen(function* () {
        const client = yield* NatPmpClient.make(Net.ipv4("127.0.0.77"))
        const failure = yield* reason(client.externalAddress({ timeout: "10 seconds" }))
        assert.strictEqual(failure._tag, "Unreachable")
      }).pipe(Effect.provide(NodeUdp.layer), Effect.timeout("5 seconds"))
    )
  })
})
