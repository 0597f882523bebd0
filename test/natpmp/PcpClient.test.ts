import type * as NatError from "@effect-nat/core/NatError"
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as PcpClient from "@effect-nat/natpmp/PcpClient"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Equal from "effect/Equal"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "./network.ts"

const ip = NetAddress.ipFromStringUnsafe

const nonce = Codec.nonceFromBytes(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))
const otherNonce = Codec.nonceFromBytes(Uint8Array.of(12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1))

const end = { protocol: "tcp", internalPort: 12000, nonce } as const
const mapping: PcpClient.MapOptions = { ...end, externalPort: 12001, lifetime: "1 hour" }

const reason = <A>(effect: Effect.Effect<A, NatError.NatError>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

const announced = (epoch = 100): Uint8Array => Codec.encodeResponse({ _tag: "AnnounceResponse", epoch, options: [] })

const mapped = (fields: Partial<Codec.MapResponse> = {}): Uint8Array =>
  Codec.encodeResponse({
    _tag: "MapResponse",
    epoch: 100,
    nonce,
    protocol: 6,
    internalPort: 12000,
    externalPort: 12001,
    externalAddress: ip("11.22.33.1"),
    lifetime: 3600,
    options: [],
    ...fields
  })

const peered = (fields: Partial<Codec.PeerResponse> = {}): Uint8Array =>
  Codec.encodeResponse({
    _tag: "PeerResponse",
    epoch: 100,
    nonce,
    protocol: 6,
    internalPort: 12000,
    externalPort: 12001,
    externalAddress: ip("11.22.33.1"),
    remotePeerAddress: ip("198.51.100.7"),
    remotePeerPort: 443,
    lifetime: 3600,
    options: [],
    ...fields
  })

/** The refusal of a request, as a server sends it back. */
const refused = (request: Uint8Array, resultCode: number, lifetime = 30, epoch = 100): Uint8Array =>
  Codec.encodeResponse(Codec.refusalOf(request, { resultCode, lifetime, epoch, isParsed: true }))

const decoded = (payload: Uint8Array): Codec.Request => Result.getOrThrow(Codec.decodeRequest(payload))

/** Answers every request with what it asks for. */
const willing: Net.Peer = ({ payload, socket }) =>
  Effect.sync(() => {
    const request = decoded(payload)
    if (request._tag === "AnnounceRequest") return socket.reply(announced())
    const { externalPort, internalPort, lifetime, protocol } = request
    const granted = { nonce: request.nonce, protocol, internalPort, externalPort, lifetime }
    socket.reply(request._tag === "MapRequest" ? mapped(granted) : peered(granted))
  })

const replying =
  (...payloads: ReadonlyArray<Uint8Array>): Net.Peer =>
  ({ socket }) =>
    Effect.sync(() => payloads.forEach((payload) => socket.reply(payload)))

const withClient = Effect.fnUntraced(function* (
  peer: Net.Peer,
  server: NetAddress.IpAddress | NetAddress.InetAddress = Net.gateway
) {
  const network = yield* Net.make(peer)
  const client = yield* Effect.provide(PcpClient.make(server), network.layer)
  return { network, client }
})

describe("PcpClient", () => {
  describe("requests, byte by byte", () => {
    it.effect(
      "ANNOUNCE: version 2, opcode 0, no lifetime, the own address [RFC 6887 7.1-abc, 13-a, 14.1.1-a, 14.1.2-a]",
      () =>
        Effect.gen(function* () {
          const { client, network } = yield* withClient(willing)
          const { localAddress } = yield* client.announce()
          assert.strictEqual(NetAddress.formatIp(localAddress), "192.168.77.2")
          assert.deepStrictEqual(
            network.sent.map(({ payload, to }) => [NetAddress.formatInet(to), hex(payload)]),
            [["192.168.77.1:5351", "020000000000000000000000000000000000ffffc0a84d02"]]
          )
        })
    )

    it.effect(
      "MAP: lifetime in seconds, nonce, protocol, ports, and no address in particular [RFC 6887 5-d, 11.1-abe, 11.2-a, 11.4-b, 13.1-a]",
      () =>
        Effect.gen(function* () {
          const { client, network } = yield* withClient(replying(mapped({ externalPort: 40000, lifetime: 120 })))
          const granted = yield* client.map(mapping)
          assert.deepStrictEqual(
            [granted.externalPort, Duration.toSeconds(granted.lifetime), NetAddress.formatIp(granted.internalAddress)],
            [40000, 120, "192.168.77.2"]
          )
          assert.strictEqual(granted.externalAddress && NetAddress.formatIp(granted.externalAddress), "11.22.33.1")
          assert.strictEqual(
            hex(network.sent[0]?.payload ?? new Uint8Array()),
            "02010000" +
              "00000e10" +
              "00000000000000000000ffffc0a84d02" +
              "0102030405060708090a0b0c" +
              "06000000" +
              "2ee02ee1" +
              "00000000000000000000ffff00000000"
          )
        })
    )

    it.effect("MAP with PREFER_FAILURE, THIRD_PARTY and FILTER [RFC 6887 7.3-ab, 13.3-ab]", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(willing)
        const granted = yield* client.map({
          ...mapping,
          protocol: "udp",
          internalAddress: ip("192.168.77.9"),
          externalAddress: ip("11.22.33.1"),
          prefersFailure: true,
          filters: [
            { remoteAddress: ip("198.51.100.0"), prefixLength: 24, remotePort: 443 },
            { remoteAddress: ip("2001:db8::1") }
          ]
        })
        assert.strictEqual(NetAddress.formatIp(granted.internalAddress), "192.168.77.9")
        assert.strictEqual(
          hex((network.sent[0]?.payload ?? new Uint8Array()).subarray(36)),
          "11000000" +
            "2ee02ee1" +
            "00000000000000000000ffff0b162101" +
            "01000010" +
            "00000000000000000000ffffc0a84d09" +
            "02000000" +
            "03000014" +
            "007801bb" +
            "00000000000000000000ffffc6336400" +
            "03000014" +
            "00800000" +
            "20010db8000000000000000000000001"
        )
      })
    )

    it.effect("deletion: lifetime 0, the mapping's own nonce, no external port and address [RFC 6887 15.1-ab]", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(willing)
        yield* client.delete(end)
        assert.strictEqual(
          hex(network.sent[0]?.payload ?? new Uint8Array()),
          "02010000" +
            "00000000" +
            "00000000000000000000ffffc0a84d02" +
            "0102030405060708090a0b0c" +
            "06000000" +
            "2ee00000" +
            "00000000000000000000ffff00000000"
        )
      })
    )

    it.effect("PEER: the same, and the peer [RFC 6887 12.1-d]", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(willing)
        const remotePeer = Net.inet("198.51.100.7:443")
        const granted = yield* client.peer({ ...mapping, remotePeer })
        assert.strictEqual(granted.externalPort, 12001)
        assert.strictEqual(
          hex(network.sent[0]?.payload ?? new Uint8Array()),
          "02020000" +
            "00000e10" +
            "00000000000000000000ffffc0a84d02" +
            "0102030405060708090a0b0c" +
            "06000000" +
            "2ee02ee1" +
            "00000000000000000000ffff00000000" +
            "01bb0000" +
            "00000000000000000000ffffc6336407"
        )
      })
    )

    it.effect("over IPv6, to a link-local server on its interface [RFC 6887 5-c, 11.1-e]", () =>
      Effect.gen(function* () {
        const server = Result.getOrThrow(
          NetAddress.inetAddressV6(Result.getOrThrow(NetAddress.ipv6FromString("fe80::1")), 5351, { scopeId: 3 })
        )
        const { client, network } = yield* withClient(
          replying(mapped({ externalAddress: ip("2001:db8::2"), externalPort: 12000 })),
          server
        )
        const granted = yield* client.map({ ...mapping, externalPort: 12000 })
        assert.strictEqual(granted.externalAddress && NetAddress.formatIp(granted.externalAddress), "2001:db8::2")
        const [sent] = network.sent
        assert.isTrue(sent !== undefined && NetAddress.isInetAddressV6(sent.to) && sent.to.scopeId === 3)
        assert.strictEqual(hex(sent?.payload.subarray(8, 24) ?? new Uint8Array()), "20010db8000000000000000000000002")
        assert.strictEqual(hex(sent?.payload.subarray(44, 60) ?? new Uint8Array()), "0".repeat(32))
      })
    )

    it.effect.each([
      ["1500 millis", 2],
      ["1 milli", 1],
      [0, 1],
      [Duration.infinity, 0xffffffff]
    ] as const)("a lifetime of %s is %i seconds [RFC 6887 7.1-d]", ([lifetime, seconds]) =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(willing)
        yield* client.map({ ...mapping, lifetime })
        const request = decoded(network.sent[0]?.payload ?? new Uint8Array())
        assert.strictEqual(request._tag === "MapRequest" && request.lifetime, seconds)
      })
    )

    it.effect("nothing is sent for values out of range", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(willing)
        for (const internalPort of [0, -1, 65536, 1.5, Number.NaN]) {
          assert.strictEqual((yield* reason(client.map({ ...mapping, internalPort })))._tag, "InvalidRequest")
          assert.strictEqual((yield* reason(client.delete({ ...end, internalPort })))._tag, "InvalidRequest")
        }
        assert.strictEqual((yield* reason(client.map({ ...mapping, externalPort: 65536 })))._tag, "InvalidRequest")
        const remoteAddress = ip("198.51.100.7")
        for (const filter of [{ prefixLength: 33 }, { prefixLength: -1 }, { remotePort: 65536 }]) {
          const filters = [{ remoteAddress, ...filter }]
          assert.strictEqual((yield* reason(client.map({ ...mapping, filters })))._tag, "InvalidRequest")
        }
        const remotePeer = NetAddress.inetAddressUnsafe(remoteAddress, 0)
        assert.strictEqual((yield* reason(client.peer({ ...mapping, remotePeer })))._tag, "InvalidRequest")
        assert.strictEqual(network.opened, 0)
      })
    )
  })

  describe("nonces", () => {
    it.effect("are never the same, and may come from elsewhere [RFC 6887 12.2-b]", () =>
      Effect.gen(function* () {
        assert.notStrictEqual(yield* PcpClient.makeNonce, yield* PcpClient.makeNonce)
        const given = PcpClient.makeNonce.pipe(Effect.provideService(PcpClient.NonceSource, Effect.succeed(nonce)))
        assert.strictEqual(yield* given, nonce)
      })
    )
  })

  describe("retransmission (RFC 6887 §8.1.1)", () => {
    it.effect.each(Array.from({ length: 5 }, (_, run) => run))(
      "waits about 3 seconds, then each time twice as long as before, a tenth more or less (run %i) [RFC 6887 8.1.1-abcegh]",
      () =>
        Effect.gen(function* () {
          const { client, network } = yield* withClient(Net.silent)
          const fiber = yield* Effect.forkChild(reason(client.map(mapping, { timeout: "10 hours" })))
          yield* TestClock.adjust("9 hours")
          const pauses = network.sent.slice(1).map(({ at }, index) => at - (network.sent[index]?.at ?? 0))
          assert.isAtLeast(pauses.length, 20)
          let before = 1500
          for (const pause of pauses) {
            const wanted = Math.min(2 * before, 1_024_000)
            assert.isAtLeast(pause, Math.floor(wanted * 0.9) - 1)
            assert.isAtMost(pause, Math.ceil(wanted * 1.1) + 1)
            before = pause
          }
          assert.isAtLeast(new Set(pauses).size, 5)
          assert.strictEqual(new Set(network.sent.map(({ payload }) => hex(payload))).size, 1)
          yield* Fiber.interrupt(fiber)
          assert.strictEqual(network.open, 0)
        })
    )

    it.effect("gives up when told to, by default after 45 seconds", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(Net.silent)
        const soon = yield* Effect.forkChild(reason(client.map(mapping, { timeout: "2 seconds" })))
        yield* TestClock.adjust("2 seconds")
        const failure = yield* Fiber.join(soon)
        assert.strictEqual(failure._tag, "TimedOut")
        assert.include(failure.message, "192.168.77.1 did not answer the request to map port 12000/tcp")
        assert.strictEqual(network.sent.length, 1)
        const late = yield* Effect.forkChild(reason(client.announce()))
        yield* TestClock.adjust("44999 millis")
        assert.isUndefined(late.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(late))._tag, "TimedOut")
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("stops with the first answer, also a late one to an earlier transmission [RFC 6887 8.1.1-i]", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(({ socket }) =>
          Effect.delay(
            Effect.sync(() => socket.reply(mapped())),
            "4 seconds"
          )
        )
        const fiber = yield* Effect.forkChild(client.map(mapping))
        yield* TestClock.adjust("1 hour")
        assert.strictEqual((yield* Fiber.join(fiber)).externalPort, 12001)
        assert.strictEqual(network.sent.length, 2)
      })
    )
  })

  describe("answers (RFC 6887 §8.3)", () => {
    const bad = { externalPort: 6666 }
    const request = Codec.encodeRequest({
      _tag: "MapRequest",
      clientAddress: Net.own,
      lifetime: 3600,
      nonce,
      protocol: 6,
      internalPort: 12000,
      externalPort: 12001,
      externalAddress: NetAddress.ipv4Unspecified,
      options: []
    })
    const about = (fields: Partial<Codec.MapRequest>): Uint8Array => {
      const one = decoded(request)
      return one._tag === "MapRequest" ? Codec.encodeRequest({ ...one, ...fields }) : request
    }
    const wrong: ReadonlyArray<readonly [string, string, Uint8Array, string?]> = [
      ["from another host", "source", mapped(bad), "192.168.77.66:5351"],
      ["from another port", "source", mapped(bad), "192.168.77.1:5350"],
      ["of no bytes", "malformed", new Uint8Array(0)],
      ["of one byte", "malformed", Uint8Array.of(2)],
      ["cut short", "malformed", mapped(bad).subarray(0, 56)],
      ["whose length is no multiple of 4", "malformed", Uint8Array.of(...mapped(bad), 0, 0)],
      ["of more than 1100 bytes", "malformed", Uint8Array.of(...mapped(bad), ...new Uint8Array(1044))],
      ["with half an option", "malformed", Uint8Array.of(...mapped(bad), 1, 0, 0, 16)],
      ["with another version", "malformed", mapped(bad).map((byte, index) => (index === 0 ? 1 : byte))],
      ["with the version of NAT-PMP", "malformed", mapped(bad).map((byte, index) => (index === 0 ? 0 : byte))],
      ["that is a request", "malformed", about({ externalPort: 6666 })],
      ["with another nonce", "mismatch", mapped({ ...bad, nonce: otherNonce })],
      ["for another protocol", "mismatch", mapped({ ...bad, protocol: 17 })],
      ["for another internal port", "mismatch", mapped({ ...bad, internalPort: 12002 })],
      ["for another opcode", "mismatch", peered(bad)],
      ["that is an announcement", "mismatch", announced()],
      ["that is a late confirmation of a deletion", "mismatch", mapped({ ...bad, lifetime: 0 })],
      ["without an external port", "mismatch", mapped({ externalPort: 0 })],
      ["with an error about another nonce", "mismatch", refused(about({ nonce: otherNonce }), 2)],
      ["with an error about another protocol", "mismatch", refused(about({ protocol: 17 }), 2)],
      ["with an error about another internal port", "mismatch", refused(about({ internalPort: 12002 }), 2)],
      ["with an error about nothing", "mismatch", refused(request, 2).subarray(0, 24)],
      ["with an error about an announcement", "mismatch", refused(request, 2).map((byte, i) => (i === 1 ? 128 : byte))],
      ["with this version's refusal of another", "mismatch", refused(request, 1)]
    ]

    it.effect.each(wrong)(
      "one %s changes nothing and is counted as %s [RFC 6887 8.3-abcefgh, 11.4-a]",
      ([, why, payload, from]) =>
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
          const before = yield* Net.ignoredByReason
          const fiber = yield* Effect.forkChild(client.map(mapping))
          yield* TestClock.adjust("99 millis")
          assert.isUndefined(fiber.pollUnsafe())
          assert.deepStrictEqual(yield* client.tableState, {
            epoch: undefined,
            answered: undefined,
            restarts: 0,
            version: undefined
          })
          yield* TestClock.adjust("1 millis")
          assert.strictEqual((yield* Fiber.join(fiber)).externalPort, 12001)
          const after = yield* Net.ignoredByReason
          assert.strictEqual((after[why] ?? 0) - (before[why] ?? 0), 1)
        })
    )

    it.effect("the right one counts among wrong ones of the same moment", () =>
      Effect.gen(function* () {
        const { client } = yield* withClient(({ socket }) =>
          Effect.sync(() => {
            for (const [, , payload, from] of wrong)
              socket.reply(payload, from === undefined ? undefined : Net.inet(from))
            socket.reply(mapped())
            socket.reply(mapped(bad))
          })
        )
        assert.strictEqual((yield* client.map(mapping)).externalPort, 12001)
      })
    )

    it.effect("a deletion is not confirmed by a late answer to the mapping", () =>
      Effect.gen(function* () {
        const { client } = yield* withClient(replying(mapped()))
        yield* client.map(mapping)
        const fiber = yield* Effect.forkChild(reason(client.delete(end, { timeout: "1 second" })))
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
      })
    )

    it.effect.each([
      ["nonce", { nonce: otherNonce }],
      ["protocol", { protocol: 17 }],
      ["internal port", { internalPort: 12002 }],
      ["peer", { remotePeerAddress: ip("198.51.100.8") }],
      ["peer's port", { remotePeerPort: 444 }]
    ] as const)("an answer to PEER with another %s is none [RFC 6887 12.4-a]", ([, fields]) =>
      Effect.gen(function* () {
        const { client } = yield* withClient(replying(peered({ ...bad, ...fields }), peered()))
        const granted = yield* client.peer({ ...mapping, remotePeer: Net.inet("198.51.100.7:443") })
        assert.strictEqual(granted.externalPort, 12001)
      })
    )

    it.effect.each(["0.0.0.0", "::", "224.0.0.1", "ff02::1"])("the external address %s is none", (address) =>
      Effect.gen(function* () {
        const { client } = yield* withClient(replying(mapped({ externalAddress: ip(address) })))
        const granted = yield* client.map(mapping)
        assert.isUndefined(granted.externalAddress)
        assert.strictEqual(granted.externalPort, 12001)
      })
    )

    it.effect("answers that overtake each other find their requests", () =>
      Effect.gen(function* () {
        const waiting: Array<() => void> = []
        const { client } = yield* withClient((sent) =>
          Effect.sync(() => {
            const one = decoded(sent.payload)
            if (one._tag !== "MapRequest") return
            const { externalPort, internalPort } = one
            waiting.unshift(() => sent.socket.reply(mapped({ nonce: one.nonce, internalPort, externalPort })))
            // Twice: what is repeated does no harm.
            if (waiting.length === 4) for (const answer of [...waiting, ...waiting]) answer()
          })
        )
        const ports = [1001, 1002, 1003, 1004]
        const granted = yield* Effect.forEach(
          ports,
          (internalPort) => client.map({ ...mapping, internalPort, externalPort: internalPort + 1000 }),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          granted.map(({ externalPort }) => externalPort),
          ports.map((port) => port + 1000)
        )
      })
    )
  })

  describe("side by side", () => {
    it.effect("a lost packet of one request holds up no other", () =>
      Effect.gen(function* () {
        let losses = 1
        const { client } = yield* withClient((sent) => (losses-- > 0 ? Effect.void : willing(sent)))
        const slow = yield* Effect.forkChild(client.map(mapping))
        yield* Net.settle
        assert.strictEqual((yield* client.map({ ...mapping, internalPort: 12002 })).externalPort, 12001)
        yield* TestClock.adjust("2690 millis")
        assert.isUndefined(slow.pollUnsafe())
        yield* TestClock.adjust("700 millis")
        assert.strictEqual((yield* Fiber.join(slow)).externalPort, 12001)
      })
    )

    it.effect("four at most, and waiting for a place does not use up a request's time", () =>
      Effect.gen(function* () {
        let underWay = 0
        let most = 0
        const { client } = yield* withClient((sent) =>
          Effect.gen(function* () {
            underWay += 1
            most = Math.max(most, underWay)
            yield* Effect.sleep("1 second")
            underWay -= 1
            yield* willing(sent)
          })
        )
        const ports = Array.from({ length: 12 }, (_, index) => 1001 + index)
        const all = yield* Effect.forkChild(
          Effect.forEach(ports, (internalPort) => client.map({ ...mapping, internalPort }, { timeout: "2 seconds" }), {
            concurrency: "unbounded"
          })
        )
        for (let second = 0; second < 4; second++) {
          yield* TestClock.adjust("1 second")
          yield* Net.settle
        }
        assert.lengthOf(yield* Fiber.join(all), 12)
        assert.strictEqual(most, 4)
      })
    )

    it.effect("a request that timed out or was interrupted blocks no later one, and its answer comes too late", () =>
      Effect.gen(function* () {
        let late: (() => void) | undefined
        let isLost = true
        const { client, network } = yield* withClient((sent) => {
          if (!isLost) return willing(sent)
          return Effect.sync(() => {
            late = () => sent.socket.reply(mapped({ externalPort: 6666 }))
          })
        })
        const timedOut = yield* Effect.forkChild(reason(client.map(mapping, { timeout: "1 second" })))
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(timedOut))._tag, "TimedOut")
        const interrupted = yield* Effect.forkChild(client.map(mapping))
        yield* Net.settle
        yield* Fiber.interrupt(interrupted)
        isLost = false
        const next = yield* Effect.forkChild(client.map(mapping))
        late?.()
        yield* Net.settle
        assert.strictEqual((yield* Fiber.join(next)).externalPort, 12001)
        assert.isAtMost(network.open, 1)
      })
    )

    it.effect(
      "a refusal by ICMP ends all of them at once, and the next one is made a little later on another socket",
      () =>
        Effect.gen(function* () {
          let isOff = true
          const { client, network } = yield* withClient((sent) => {
            if (!isOff) return willing(sent)
            return Effect.delay(
              Effect.sync(() => sent.socket.refuse()),
              "10 millis"
            )
          })
          const fiber = yield* Effect.forkChild(
            Effect.forEach([1001, 1002, 1003], (internalPort) => reason(client.map({ ...mapping, internalPort })), {
              concurrency: "unbounded"
            })
          )
          yield* TestClock.adjust("10 millis")
          const failures = yield* Fiber.join(fiber)
          assert.deepStrictEqual(
            failures.map(({ _tag }) => _tag),
            ["Unreachable", "Unreachable", "Unreachable"]
          )
          assert.include(failures[0]?.message, "192.168.77.1 refuses UDP port 5351")
          assert.strictEqual(network.open, 0)
          isOff = false
          yield* TestClock.adjust("100 millis")
          yield* client.map(mapping)
          assert.strictEqual(network.opened, 2)
        })
    )

    it.effect("a network that is gone when one of them is sent ends all of them at once", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(Net.silent)
        const waiting = yield* Effect.forkChild(
          Effect.forEach([1001, 1002], (internalPort) => reason(client.map({ ...mapping, internalPort })), {
            concurrency: "unbounded"
          })
        )
        yield* Net.settle
        network.isCut = true
        assert.strictEqual((yield* reason(client.map({ ...mapping, internalPort: 1003 })))._tag, "Unreachable")
        yield* Net.settle
        assert.deepStrictEqual(
          (yield* Fiber.join(waiting)).map(({ _tag }) => _tag),
          ["Unreachable", "Unreachable"]
        )
        assert.strictEqual(network.open, 0)
      })
    )

    it.effect("a request from an address that has just gone is sent from the one that has come", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(willing)
        yield* client.map(mapping)
        const before = network.own
        network.own = Net.ipv4("192.168.77.3")
        network.isGone = (address) => Equal.equals(address, before)
        yield* client.map({ ...mapping, internalPort: 1001 })
        assert.strictEqual(network.opened, 2)
        assert.strictEqual(network.sent.length, 2)
      })
    )

    it.effect("a socket that failed while nobody waited fails no request", () =>
      Effect.gen(function* () {
        let socket: Net.Socket | undefined
        const { client, network } = yield* withClient((sent) => {
          socket = sent.socket
          return willing(sent)
        })
        yield* client.map(mapping)
        socket?.refuse()
        yield* Net.settle
        yield* client.map(mapping)
        assert.strictEqual(network.opened, 2)
      })
    )

    it.effect("a host without a network is told so", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(willing)
        network.isDown = true
        const failure = yield* reason(client.map(mapping))
        assert.strictEqual(failure._tag, "Unreachable")
        assert.include(failure.message, "ENETUNREACH")
      })
    )
  })

  describe("errors", () => {
    const refusing =
      (resultCode: number, lifetime = 30): Net.Peer =>
      ({ payload, socket }) =>
        Effect.sync(() => socket.reply(refused(payload, resultCode, lifetime)))

    it.effect.each([
      [2, "NotAuthorized"],
      [3, "Unsupported"],
      [4, "Unsupported"],
      [5, "Unsupported"],
      [6, "Unsupported"],
      [7, "NoExternalAddress"],
      [8, "OutOfResources"],
      [9, "Unsupported"],
      [10, "OutOfResources"],
      [11, "Conflict"],
      [12, "Unsupported"],
      [13, "OutOfResources"],
      [14, "MalformedAnswer"],
      [255, "MalformedAnswer"]
    ] as const)("result code %i is %s [RFC 6887 7.4-a]", ([resultCode, tag]) =>
      Effect.gen(function* () {
        const { client } = yield* withClient(refusing(resultCode))
        const failure = yield* reason(client.map(mapping))
        assert.strictEqual(failure._tag, tag)
        assert.notInclude(failure.message, "\n")
        // What is refused without a port is no conflict about one.
        const without = tag === "Conflict" ? "OutOfResources" : tag
        assert.strictEqual((yield* reason(client.announce()))._tag, without)
        // A deletion needs no resources: what there is none of is gone.
        const deletion = yield* Effect.result(client.delete(end))
        if (without === "OutOfResources") assert.isTrue(Result.isSuccess(deletion))
        else assert.strictEqual(Result.isFailure(deletion) && deletion.failure.reason._tag, without)
      })
    )

    it.effect(
      "the same request is answered without being sent while the error lasts [RFC 6887 7.2-b, 8.3-m, 11.4-f]",
      () =>
        Effect.gen(function* () {
          const { client, network } = yield* withClient(refusing(8, 30))
          assert.strictEqual((yield* reason(client.map(mapping)))._tag, "OutOfResources")
          yield* TestClock.adjust("29 seconds")
          // Another nonce and another lifetime make no other request of it.
          const again = { ...mapping, nonce: otherNonce, lifetime: "2 hours" } as const
          assert.strictEqual((yield* reason(client.map(again)))._tag, "OutOfResources")
          assert.strictEqual(network.sent.length, 1)
          yield* TestClock.adjust("1 second")
          assert.strictEqual((yield* reason(client.map(again)))._tag, "OutOfResources")
          assert.strictEqual(network.sent.length, 2)
        })
    )

    it.effect.each([
      ["protocol", { protocol: "udp" }],
      ["internal port", { internalPort: 12002 }],
      ["external port", { externalPort: 12002 }],
      ["external address", { externalAddress: ip("11.22.33.1") }],
      ["option", { prefersFailure: true }],
      ["host", { internalAddress: ip("192.168.77.9") }]
    ] as const)("but one with another %s is another request", ([, fields]) =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(refusing(9))
        yield* reason(client.map(mapping))
        yield* reason(client.map({ ...mapping, ...fields }))
        assert.strictEqual(network.sent.length, 2)
      })
    )

    it.effect.each(["map", "peer"] as const)(
      "a server without resources for a %s is asked for nothing new while that lasts, and for renewals all the same [RFC 6887 11.4-c, 12.4-b]",
      (which) =>
        Effect.gen(function* () {
          const { client, network } = yield* withClient(refusing(8, 30))
          const peering = { ...mapping, remotePeer: Net.inet("198.51.100.7:443") }
          yield* reason(which === "map" ? client.map(mapping) : client.peer(peering))
          yield* TestClock.adjust("29 seconds")
          const other = { ...mapping, internalPort: 12002, externalPort: 12003 }
          assert.strictEqual((yield* reason(client.map(other)))._tag, "OutOfResources")
          assert.strictEqual((yield* reason(client.peer({ ...peering, internalPort: 12004 })))._tag, "OutOfResources")
          assert.strictEqual(network.sent.length, 1)
          yield* reason(client.map(other, { isRenewal: true }))
          yield* reason(client.announce())
          assert.strictEqual(network.sent.length, 3)
          yield* TestClock.adjust("30 seconds")
          yield* reason(client.map({ ...other, internalPort: 12005 }))
          assert.strictEqual(network.sent.length, 4)
        })
    )

    it.effect("until something was deleted, but not what the server did not have", () =>
      Effect.gen(function* () {
        let hasMapping = false
        const { client, network } = yield* withClient(({ payload, socket }) =>
          Effect.sync(() => {
            const one = decoded(payload)
            if (one._tag !== "MapRequest") return
            const isGranted = one.lifetime === 0 && hasMapping
            const done = { nonce: one.nonce, externalPort: 0, externalAddress: NetAddress.ipv4Unspecified, lifetime: 0 }
            socket.reply(isGranted ? mapped(done) : refused(payload, 8, 30))
          })
        )
        const other = { ...mapping, internalPort: 12002 }
        yield* reason(client.map(mapping))
        yield* client.delete(end)
        yield* reason(client.map(other))
        assert.strictEqual(network.sent.length, 2)
        hasMapping = true
        yield* client.delete(end)
        yield* reason(client.map(other))
        assert.strictEqual(network.sent.length, 4)
      })
    )

    it.effect("what a deletion is refused for holds back nothing else", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(refusing(8, 1800))
        yield* client.delete(end)
        yield* reason(client.map(mapping))
        assert.strictEqual(network.sent.length, 2)
      })
    )

    it.effect("and a deletion is always sent", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(refusing(2))
        yield* reason(client.map({ ...mapping, externalPort: 0 }))
        yield* reason(client.delete(end))
        yield* reason(client.delete(end))
        assert.strictEqual(network.sent.length, 3)
      })
    )

    it.effect(
      "an error that is to last for ever lasts half an hour, one that is to last no time none [RFC 6887 8.3-l]",
      () =>
        Effect.gen(function* () {
          const { client, network } = yield* withClient(refusing(2, 0xffff_ffff))
          yield* reason(client.map(mapping))
          yield* TestClock.adjust("1799 seconds")
          yield* reason(client.map(mapping))
          assert.strictEqual(network.sent.length, 1)
          yield* TestClock.adjust("1 second")
          yield* reason(client.map(mapping))
          assert.strictEqual(network.sent.length, 2)
          const hasty = yield* withClient(refusing(2, 0))
          yield* reason(hasty.client.map(mapping))
          yield* reason(hasty.client.map(mapping))
          assert.strictEqual(hasty.network.sent.length, 2)
        })
    )

    it.effect("it is forgotten when the server has started over, and when this host has another address", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(({ payload, socket }) =>
          Effect.sync(() => {
            const one = decoded(payload)
            socket.reply(one._tag === "MapRequest" ? refused(payload, 2, 1800) : announced(0))
          })
        )
        yield* reason(client.map(mapping))
        yield* client.announce()
        assert.strictEqual((yield* client.tableState).restarts, 1)
        yield* reason(client.map(mapping))
        assert.strictEqual(network.sent.length, 3)
        network.own = Net.ipv4("192.168.77.3")
        yield* TestClock.adjust("1 minute")
        yield* reason(client.map(mapping))
        assert.strictEqual(network.sent.length, 4)
        yield* client.forget
        yield* reason(client.map(mapping))
        assert.strictEqual(network.sent.length, 5)
      })
    )

    it.effect("not more than 64 are remembered, the latest", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(refusing(2, 1800))
        for (let port = 1; port <= 65; port++) yield* reason(client.map({ ...mapping, internalPort: port }))
        yield* reason(client.map({ ...mapping, internalPort: 2 }))
        assert.strictEqual(network.sent.length, 65)
        yield* reason(client.map({ ...mapping, internalPort: 1 }))
        assert.strictEqual(network.sent.length, 66)
      })
    )
  })

  describe("versions (RFC 6887 §9)", () => {
    /** What a gateway that speaks NAT-PMP only says to everything else: version 0, result code 1, its epoch. */
    const natPmpOnly: Net.Peer = ({ payload, socket }) =>
      Effect.sync(() => socket.reply(Uint8Array.of(0, 128 + (payload[1] ?? 0), 0, 1, 0, 0, 0, 9)))

    it.effect(
      "a gateway that speaks NAT-PMP only is named so, and not asked again for half an hour [RFC 6887 8.3-d, 9-c]",
      () =>
        Effect.gen(function* () {
          const { client, network } = yield* withClient(natPmpOnly)
          const failure = yield* reason(client.map(mapping))
          assert.strictEqual(failure._tag, "Unsupported")
          assert.include(failure.message, "NAT-PMP")
          assert.strictEqual((yield* client.tableState).version, 0)
          assert.strictEqual((yield* reason(client.announce()))._tag, "Unsupported")
          assert.strictEqual(network.sent.length, 1)
          yield* TestClock.adjust("30 minutes")
          yield* reason(client.announce())
          assert.strictEqual(network.sent.length, 2)
        })
    )

    it.effect("nor before this host has another address, or the gateway speaks PCP after all", () =>
      Effect.gen(function* () {
        const { client, network } = yield* withClient(natPmpOnly)
        yield* reason(client.map(mapping))
        network.own = Net.ipv4("192.168.77.3")
        yield* TestClock.adjust("1 minute")
        yield* reason(client.map(mapping))
        assert.strictEqual(network.sent.length, 2)
        yield* client.hear({ _tag: "AnnounceResponse", epoch: 1, options: [] })
        assert.strictEqual((yield* client.tableState).version, 2)
        yield* reason(client.map(mapping))
        assert.strictEqual(network.sent.length, 3)
      })
    )

    it.effect.each([1, 3, 255])("one that speaks version %i is named so [RFC 6887 8.3-d]", (version) =>
      Effect.gen(function* () {
        const { client } = yield* withClient(replying(Uint8Array.of(version, 128, 0, 1, ...new Uint8Array(20))))
        const failure = yield* reason(client.map(mapping))
        assert.strictEqual(failure._tag, "Unsupported")
        assert.include(failure.message, `version ${version}`)
        assert.strictEqual((yield* client.tableState).version, version)
      })
    )
  })

  describe("epoch (RFC 6887 §8.5)", () => {
    it.effect(
      "a server that has lost its mappings is noticed, by any answer and any announcement [RFC 6887 7.2-c, 8.5-abd]",
      () =>
        Effect.gen(function* () {
          let startedAt = -1_000_000
          const { client } = yield* withClient(({ at, payload, socket }) =>
            Effect.sync(() => {
              const epoch = Math.floor((at - startedAt) / 1000)
              const one = decoded(payload)
              socket.reply(
                one._tag === "MapRequest" && one.internalPort === 1 ? refused(payload, 8, 0, epoch) : mapped({ epoch })
              )
            })
          )
          const state = Effect.map(client.tableState, ({ epoch, restarts }) => [epoch?.seconds, restarts])
          yield* client.map(mapping)
          assert.deepStrictEqual(yield* state, [1000, 0])
          yield* TestClock.adjust("10 minutes")
          yield* client.map(mapping)
          assert.deepStrictEqual(yield* state, [1600, 0])
          startedAt = 600_000
          yield* reason(client.map({ ...mapping, internalPort: 1 }))
          assert.deepStrictEqual(yield* state, [0, 1])
          yield* TestClock.adjust("1 minute")
          yield* client.hear({ _tag: "AnnounceResponse", epoch: 60, options: [] })
          assert.deepStrictEqual(yield* state, [60, 1])
          yield* client.hear({ _tag: "AnnounceResponse", epoch: 0, options: [] })
          assert.deepStrictEqual(yield* state, [0, 2])
        })
    )
  })

  describe("sockets", () => {
    it.effect("none before the first request; one for a burst; none when idle, and none after the scope", () =>
      Effect.gen(function* () {
        const network = yield* Net.make(willing)
        const { scope, value: client } = yield* Net.inOwnScope(
          Effect.provide(PcpClient.make(Net.gateway), network.layer)
        )
        assert.strictEqual(network.opened, 0)
        yield* client.announce()
        yield* client.map(mapping)
        yield* client.delete(end)
        assert.deepStrictEqual([network.opened, network.open], [1, 1])
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(network.open, 0)
        yield* client.announce()
        assert.strictEqual(network.open, 1)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(network.open, 0)
      })
    )

    it.live("on loopback, where nobody listens, it fails as soon as the kernel says so", () =>
      Effect.gen(function* () {
        const client = yield* PcpClient.make(Net.ipv4("127.0.0.77"))
        const failure = yield* reason(client.announce({ timeout: "10 seconds" }))
        assert.strictEqual(failure._tag, "Unreachable")
      }).pipe(Effect.provide(NodeUdp.layer), Effect.timeout("5 seconds"))
    )
  })
})
