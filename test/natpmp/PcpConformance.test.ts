/**
 * What RFC 6887 asks of clients, where no test of a module shows it: test/conformance/pcp.ts has the list.
 */
import type * as NatError from "@effect-nat/core/NatError"
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Udp from "@effect-nat/core/Udp"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as PcpClient from "@effect-nat/natpmp/PcpClient"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "./network.ts"
import * as Router from "./pcpRouter.ts"

const ip = NetAddress.ipFromStringUnsafe

const nonce = Codec.nonceFromBytes(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))

const end = { protocol: "tcp", internalPort: 12000, nonce } as const
const mapping: PcpClient.MapOptions = { ...end, externalPort: 12001, lifetime: "1 hour" }
const peering: PcpClient.PeerOptions = { ...mapping, remotePeer: Net.inet("198.51.100.7:443") }

const reason = <A, R>(effect: Effect.Effect<A, NatError.NatError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

const announced = (epoch = 100, options: ReadonlyArray<Codec.PcpOption> = []): Uint8Array =>
  Codec.encodeResponse({ _tag: "AnnounceResponse", epoch, options })

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

/** The same packet with other bytes from there on. */
const withBytes = (packet: Uint8Array, ...changes: ReadonlyArray<readonly [at: number, bytes: string]>): Uint8Array => {
  const changed = packet.slice()
  for (const [at, bytes] of changes) changed.set(Buffer.from(bytes, "hex"), at)
  return changed
}

const decoded = (payload: Uint8Array | undefined): Codec.Request =>
  Result.getOrThrow(Codec.decodeRequest(payload ?? new Uint8Array()))

const replying =
  (...payloads: ReadonlyArray<Uint8Array>): Net.Peer =>
  ({ socket }) =>
    Effect.sync(() => payloads.forEach((payload) => socket.reply(payload)))

/** Answers every request with what it asks for. */
const willing: Net.Peer = ({ payload, socket }) =>
  Effect.sync(() => {
    const request = decoded(payload)
    if (request._tag === "AnnounceRequest") return socket.reply(announced())
    const { externalPort, internalPort, lifetime, protocol } = request
    const granted = { nonce: request.nonce, protocol, internalPort, externalPort, lifetime }
    socket.reply(request._tag === "MapRequest" ? mapped(granted) : peered(granted))
  })

const withClient = Effect.fnUntraced(function* (peer: Net.Peer, server: NetAddress.IpAddress = Net.gateway) {
  const network = yield* Net.make(peer)
  const client = yield* Effect.provide(PcpClient.make(server), network.layer)
  return { network, client }
})

describe("an address", () => {
  it.each([
    ["00000000000000000000ffff0b162101", "11.22.33.1"],
    ["00000000000000000001ffff0b162101", "::1:ffff:b16:2101"],
    ["80000000000000000000ffff0b162101", "8000::ffff:b16:2101"],
    ["00000000000000000000fffe0b162101", "::fffe:b16:2101"],
    ["00000000000000000000ffff00000000", "0.0.0.0"],
    ["00000000000000000000000000000000", "::"]
  ])("of the bytes %s is %s [RFC 6887 5-b, 5-c, 5-d]", (bytes, address) => {
    const response = Result.getOrThrow(Codec.decodeResponse(withBytes(mapped(), [44, bytes])))
    assert(response._tag === "MapResponse")
    assert.strictEqual(NetAddress.formatIp(response.externalAddress), NetAddress.formatIp(ip(address)))
    const again = Codec.encodeResponse({ ...response, externalAddress: ip(address) })
    assert.strictEqual(Buffer.from(again.subarray(44, 60)).toString("hex"), bytes)
  })
})

describe("a response", () => {
  it.effect("may have anything in its reserved fields [RFC 6887 7.2-a, 11.1-b, 12.1-d]", () =>
    Effect.gen(function* () {
      const header = [
        [2, "ff"],
        [12, "ffffffffffffffffffffffff"]
      ] as const
      const { client } = yield* withClient(({ payload, socket }) =>
        Effect.sync(() =>
          socket.reply(
            payload[1] === 1
              ? withBytes(mapped(), ...header, [37, "ffffff"])
              : withBytes(peered(), ...header, [37, "ffffff"], [62, "ffff"])
          )
        )
      )
      assert.strictEqual((yield* client.map(mapping)).externalPort, 12001)
      assert.strictEqual((yield* client.peer(peering)).externalPort, 12001)
    })
  )

  it.effect("may have options that nobody knows, mandatory ones too [RFC 6887 7.3-d, 14.1.1-b]", () =>
    Effect.gen(function* () {
      const options: ReadonlyArray<Codec.PcpOption> = [
        { _tag: "UnknownOption", code: 4, data: Uint8Array.of(1, 2, 3) },
        { _tag: "UnknownOption", code: 127, data: new Uint8Array(0) },
        { _tag: "UnknownOption", code: 200, data: new Uint8Array(40) }
      ]
      const { client } = yield* withClient(({ payload, socket }) =>
        Effect.sync(() => socket.reply(payload[1] === 1 ? mapped({ options }) : announced(7, options)))
      )
      assert.strictEqual((yield* client.map(mapping)).externalPort, 12001)
      yield* client.announce()
      assert.strictEqual((yield* client.tableState).epoch?.seconds, 7)
    })
  )

  it.effect("may have anything in the reserved field and the padding of an option [RFC 6887 7.3-a]", () =>
    Effect.gen(function* () {
      const options: ReadonlyArray<Codec.PcpOption> = [
        { _tag: "PreferFailure" },
        { _tag: "UnknownOption", code: 200, data: Uint8Array.of(1) }
      ]
      const { client } = yield* withClient(
        replying(withBytes(mapped({ options }), [61, "ff"], [65, "ff"], [69, "ffffff"]))
      )
      assert.strictEqual(
        (yield* client.map({ ...mapping, prefersFailure: true, externalAddress: ip("11.22.33.1") })).externalPort,
        12001
      )
    })
  )

  it.effect("to an ANNOUNCE may have any lifetime [RFC 6887 14.1.1-a]", () =>
    Effect.gen(function* () {
      const { client } = yield* withClient(replying(withBytes(announced(7), [4, "ffffffff"])))
      yield* client.announce()
      assert.strictEqual((yield* client.tableState).epoch?.seconds, 7)
    })
  )

  it.effect.each([4, 8, 20])("of %i bytes is none [RFC 6887 8.3-e]", (length) =>
    Effect.gen(function* () {
      const { client } = yield* withClient(
        replying(mapped().subarray(0, length), withBytes(mapped(), [3, "02"]).subarray(0, length), mapped())
      )
      assert.strictEqual((yield* client.map(mapping)).externalPort, 12001)
    })
  )

  it.effect("that nobody asked for changes nothing [RFC 6887 8.3-j]", () =>
    Effect.gen(function* () {
      let socket: Net.Socket | undefined
      const { client } = yield* withClient((sent) => {
        socket = sent.socket
        return willing(sent)
      })
      yield* client.map(mapping)
      const before = yield* client.tableState
      const other = Codec.nonceFromBytes(Uint8Array.of(9))
      for (const unexpected of [
        mapped({ nonce: other, epoch: 0, externalPort: 6666 }),
        mapped({ internalPort: 12002, epoch: 0, externalPort: 6666 }),
        peered({ nonce: other, epoch: 0 })
      ]) {
        socket?.reply(unexpected)
      }
      yield* Net.settle
      assert.deepStrictEqual(yield* client.tableState, before)
      assert.strictEqual((yield* client.map(mapping)).externalPort, 12001)
    })
  )

  it.effect("may have an address of the other family than the peer's [RFC 6887 12.4-c]", () =>
    Effect.gen(function* () {
      const { client } = yield* withClient(replying(peered({ externalAddress: ip("2001:db8::77") })))
      const { externalAddress } = yield* client.peer(peering)
      assert.strictEqual(externalAddress && NetAddress.formatIp(externalAddress), "2001:db8::77")
    })
  )

  it.effect("with ADDRESS_MISMATCH says that there is another NAT [RFC 6887 8.3-k]", () =>
    Effect.gen(function* () {
      const { client } = yield* withClient(({ payload, socket }) =>
        Effect.sync(() => {
          const refusal = { resultCode: 12, lifetime: 1800, epoch: 1, isParsed: true }
          socket.reply(Codec.encodeResponse(Codec.refusalOf(payload, refusal)))
        })
      )
      const failure = yield* reason(client.map(mapping))
      assert.strictEqual(failure._tag, "Unsupported")
      assert.include(failure.message, "another NAT between this host and the gateway")
    })
  )
})

describe("a request", () => {
  it.effect("suggests no port and no address where none is preferred [RFC 6887 11.1-d, 11.1-e, 12.1-e]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(({ payload, socket }) =>
        Effect.sync(() => socket.reply(payload[1] === 1 ? mapped() : peered()))
      )
      yield* client.map({ ...mapping, externalPort: 0 })
      yield* client.peer({ ...peering, externalPort: 0 })
      for (const { payload } of network.sent) {
        assert.strictEqual(
          Buffer.from(payload.subarray(42, 60)).toString("hex"),
          "000000000000000000000000ffff00000000"
        )
      }
      assert.lengthOf(network.sent, 2)
    })
  )

  it.effect("for a lost connection suggests what it had, and has no option [RFC 6887 12.1-f, 12.1-g]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(replying(peered()))
      const insisting = { ...peering, externalAddress: ip("11.22.33.1"), prefersFailure: true, filters: [] }
      yield* client.peer(insisting)
      const request = decoded(network.sent[0]?.payload)
      assert(request._tag === "PeerRequest")
      assert.strictEqual(request.externalPort, 12001)
      assert.strictEqual(NetAddress.formatIp(request.externalAddress), "11.22.33.1")
      assert.deepStrictEqual(request.options, [])
    })
  )

  it.effect("is not sent for a connection without ports [RFC 6887 12.1-b, 12.1-c]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(willing)
      const remotePeer = NetAddress.inetAddressUnsafe(ip("198.51.100.7"), 0)
      assert.strictEqual((yield* reason(client.peer({ ...peering, internalPort: 0 })))._tag, "InvalidRequest")
      assert.strictEqual((yield* reason(client.peer({ ...peering, remotePeer })))._tag, "InvalidRequest")
      assert.strictEqual(network.opened, 0)
    })
  )

  it.effect("has the number of its protocol, which is never 0 [RFC 6887 11.1-a, 12.1-a]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(willing)
      for (const protocol of ["tcp", "udp"] as const) {
        yield* client.map({ ...mapping, protocol })
        yield* client.peer({ ...peering, protocol })
      }
      assert.deepStrictEqual(
        network.sent.map(({ payload }) => [payload[1], payload[36]]),
        [
          [1, 6],
          [2, 6],
          [1, 17],
          [2, 17]
        ]
      )
    })
  )

  it.effect("has the address that it is sent from, also when that has changed [RFC 6887 7.1-c, 8.1-e, 16.4-a]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(willing)
      yield* client.announce()
      network.own = Net.ipv4("192.168.77.3")
      yield* TestClock.adjust("1 minute")
      yield* client.map(mapping)
      assert.deepStrictEqual(
        network.sent.map(({ payload }) => NetAddress.formatIp(decoded(payload).clientAddress)),
        ["192.168.77.2", "192.168.77.3"]
      )
    })
  )

  it.effect("of a deletion has neither FILTER nor PREFER_FAILURE [RFC 6887 13.2-c, 13.3-c]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(willing)
      const filtered = {
        ...mapping,
        prefersFailure: true,
        externalAddress: ip("11.22.33.1"),
        filters: [{ remoteAddress: ip("198.51.100.7") }]
      }
      yield* client.map(filtered)
      yield* client.delete(filtered)
      assert.deepStrictEqual(
        network.sent.map(({ payload }) => decoded(payload).options.map(({ _tag }) => _tag)),
        [["PreferFailure", "Filter"], []]
      )
    })
  )

  it.effect("with PREFER_FAILURE names a port [RFC 6887 13.2-c]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(willing)
      const anyPort = { ...mapping, externalPort: 0, prefersFailure: true }
      assert.strictEqual((yield* reason(client.map(anyPort)))._tag, "InvalidRequest")
      assert.strictEqual(network.opened, 0)
    })
  )

  it.effect.each([
    ["198.51.100.0", 24, 120],
    ["198.51.100.7", undefined, 128],
    ["0.0.0.0", 0, 96],
    ["2001:db8::", 32, 32],
    ["2001:db8::1", undefined, 128]
  ] as const)("with a FILTER for %s/%s has the prefix length %i [RFC 6887 13.3-a, 13.3-b]", ([address, length, bits]) =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(willing)
      yield* client.map({ ...mapping, filters: [{ remoteAddress: ip(address), prefixLength: length }] })
      assert.deepStrictEqual([...(network.sent[0]?.payload.subarray(60, 66) ?? [])], [3, 0, 0, 20, 0, bits])
    })
  )

  it.effect("has no more than 1100 bytes, and so has its answer [RFC 6887 7-a, 7.3-c]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(willing)
      const filters = (count: number) => Array.from({ length: count }, () => ({ remoteAddress: ip("198.51.100.7") }))
      // 60 bytes, and 24 for each filter.
      yield* client.map({ ...mapping, filters: filters(42) })
      assert.strictEqual((yield* reason(client.map({ ...mapping, filters: filters(43) })))._tag, "InvalidRequest")
      assert.deepStrictEqual(
        network.sent.map(({ payload }) => payload.length),
        [60 + 42 * 24]
      )
    })
  )
})

describe("THIRD_PARTY", () => {
  it.effect("is sent for another host only, never for the own address [RFC 6887 13.1-a, 13.1-b]", () =>
    Effect.gen(function* () {
      const { client, network } = yield* withClient(willing)
      yield* client.map(mapping)
      yield* client.map({ ...mapping, internalAddress: Net.own })
      yield* client.peer({ ...peering, internalAddress: Net.own })
      yield* client.delete({ ...end, internalAddress: Net.own })
      yield* client.map({ ...mapping, internalAddress: ip("192.168.77.9") })
      assert.deepStrictEqual(
        network.sent.map(({ payload }) => decoded(payload).options.map(({ _tag }) => _tag)),
        [[], [], [], [], ["ThirdParty"]]
      )
    })
  )
})

describe("nonces", () => {
  it.effect("are random in every bit [RFC 6887 11.2-d, 12.2-a]", () =>
    Effect.gen(function* () {
      const all: Array<string> = []
      for (let count = 0; count < 300; count++) all.push(yield* PcpClient.makeNonce)
      assert.strictEqual(new Set(all).size, 300)
      const set = (one: string, bit: number) => (Buffer.from(one, "hex")[bit >> 3] ?? 0) & (1 << (bit & 7))
      for (let bit = 0; bit < 96; bit++) {
        assert.isTrue(all.some((one) => set(one, bit) !== 0) && all.some((one) => set(one, bit) === 0), `bit ${bit}`)
      }
    })
  )
})

/** A host's clock, which can be set back, and the true one. */
const makeClocks = Effect.gen(function* () {
  const clock = yield* Clock.clockWith(Effect.succeed)
  let setBack = 0
  const wall: Clock.Clock = Object.create(clock, {
    currentTimeMillis: { value: Effect.map(clock.currentTimeMillis, (now) => now - setBack) },
    currentTimeMillisUnsafe: { value: () => clock.currentTimeMillisUnsafe() - setBack }
  })
  return { clock, wall, setBack: (by: Duration.Input) => void (setBack = Duration.toMillis(by)) }
})

describe("the epoch", () => {
  it.effect("is compared by a clock that does not go backwards [RFC 6887 8.5-f]", () =>
    Effect.gen(function* () {
      const { setBack, wall } = yield* makeClocks
      let epoch = 1000
      yield* Effect.gen(function* () {
        const { client } = yield* withClient(({ socket }) => Effect.sync(() => socket.reply(announced(epoch))))
        yield* client.announce()
        yield* TestClock.adjust("1 second")
        epoch += 1
        setBack("24 hours")
        yield* client.announce()
        assert.deepInclude(yield* client.tableState, { restarts: 0 })
      }).pipe(Effect.provideService(Clock.Clock, wall))
    })
  )
})

describe("sockets", () => {
  it.live("have ports that the kernel chooses, each client its own [RFC 6887 8-a, 8.1-c, 8.1-d]", () =>
    Effect.gen(function* () {
      const udp = yield* Udp.Udp
      const asked: Array<Udp.OpenOptions> = []
      const recording = Udp.Udp.of({
        open: (options) => {
          asked.push(options)
          return udp.open(options)
        }
      })
      const server = yield* udp.open({ bind: { address: ip("127.0.0.1"), port: 0 } })
      const ports = new Set<number>()
      for (let count = 0; count < 2; count++) {
        const client = yield* PcpClient.make(NetAddress.inetAddressUnsafe(ip("127.0.0.1"), server.address.port)).pipe(
          Effect.provideService(Udp.Udp, recording)
        )
        yield* Effect.forkChild(Effect.ignore(client.announce({ timeout: "5 seconds" })))
        const [datagram] = yield* server.receive
        ports.add(datagram.address.port)
      }
      assert.strictEqual(ports.size, 2)
      assert.isFalse(ports.has(Codec.serverPort) || ports.has(Codec.clientPort))
      assert.deepStrictEqual(
        asked.map(({ bind }) => bind?.port),
        [undefined, undefined]
      )
    }).pipe(Effect.provide(NodeUdp.layer), Effect.timeout("5 seconds"))
  )
})

describe("a mapping", () => {
  const second = Net.ipv4("192.168.78.1")
  const wish = { protocol: "tcp", internalPort: 12000, externalPort: 12001 } as const

  const withMapper = Effect.fnUntraced(function* (peer: Net.Peer) {
    const network = yield* Net.make(peer)
    const context = yield* Layer.build(Pcp.layer.pipe(Layer.provide(network.layer)))
    return { network, mapper: Context.get(context, PortMapper.PortMapper) }
  })

  const hosts =
    (peers: Readonly<Record<string, Net.Peer>>): Net.Peer =>
    (sent) =>
      (peers[NetAddress.formatIp(sent.to.address)] ?? Net.silent)(sent)

  const mapsOf = (router: Router.PcpRouter) =>
    router.requests.flatMap((request) => (request._tag === "MapRequest" ? [request] : []))

  const noncesOf = (router: Router.PcpRouter) => new Set(mapsOf(router).map((request) => request.nonce))

  it.effect("has another nonce on another server, and is deleted there with that one [RFC 6887 11.2-e]", () =>
    Effect.gen(function* () {
      const [here, there] = [Router.make(), Router.make({ model: { address: second } })]
      there.client = Net.ipv4("192.168.78.2")
      const { mapper, network } = yield* withMapper(hosts({ "192.168.77.1": here.peer, "192.168.78.1": there.peer }))
      const { scope } = yield* Net.inOwnScope(mapper.map({ ...wish, lifetime: "1 hour" }))
      network.gateways = [second]
      network.own = there.client
      yield* TestClock.adjust("1 hour")
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual([noncesOf(here).size, noncesOf(there).size], [1, 1])
      assert.notDeepEqual([...noncesOf(here)], [...noncesOf(there)])
      assert.deepStrictEqual(there.model.entries(yield* Clock.currentTimeMillis), [])
    })
  )

  it.effect("with another port is none and is deleted, where only one port will do [RFC 6887 13.2-b]", () =>
    Effect.gen(function* () {
      const router = Router.make()
      const { mapper } = yield* withMapper(router.peer)
      // Port 12006 in place of 12001, in the answer to the mapping alone.
      router.alter = (answer, request) => (request[43] === 0xe1 ? withBytes(answer, [42, "2ee6"]) : answer)
      assert.strictEqual((yield* reason(mapper.map({ ...wish, strictExternalPort: true })))._tag, "Conflict")
      assert.deepStrictEqual(router.asked, ["map 6 12000 12001 7200 PreferFailure", "map 6 12000 0 0"])
      assert.deepStrictEqual(router.model.entries(yield* Clock.currentTimeMillis), [])
    })
  )

  it.effect.each([
    ["is silent", () => undefined],
    [
      "refuses for no time",
      (_: Uint8Array, request: Uint8Array) =>
        Codec.encodeResponse(Codec.refusalOf(request, { resultCode: 8, lifetime: 0, epoch: 1000, isParsed: true }))
    ]
  ] as const)("is not asked for again within four seconds, where the server %s [RFC 6887 11.2.1-f]", ([, alter]) =>
    Effect.gen(function* () {
      const router = Router.make()
      const { mapper, network } = yield* withMapper(router.peer)
      const mapping = yield* mapper.map({ ...wish, lifetime: "3 minutes" })
      router.alter = alter
      yield* TestClock.adjust("179 seconds")
      assert.strictEqual((yield* mapping.current).status, "unconfirmed")
      const renewals = network.sent.slice(1).map(({ at }) => at)
      const pauses = renewals.slice(1).map((at, index) => at - (renewals[index] ?? 0))
      assert.isAtLeast(pauses.length, 4)
      assert.isTrue(
        pauses.every((pause) => pause >= 4000),
        pauses.join(" ")
      )
      router.alter = (answer) => answer
      // The renewal that is under way may arrive after the deletion: that takes another one, a second later.
      const released = yield* Effect.forkChild(mapping.release)
      yield* Net.settle
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(released)
    })
  )

  it.effect("is asked for again after a few seconds, also where the host's clock was set back meanwhile", () =>
    Effect.gen(function* () {
      const { clock, setBack, wall } = yield* makeClocks
      const router = Router.make()
      yield* Effect.gen(function* () {
        const { mapper } = yield* withMapper((sent) => Effect.provideService(router.peer(sent), Clock.Clock, clock))
        yield* mapper.map({ ...wish, lifetime: "3 minutes" })
        const isFirst = () => mapsOf(router).length === 2
        const refusal = { resultCode: 8, lifetime: 0, epoch: 1000, isParsed: true }
        router.alter = (answer, asked) => (isFirst() ? Codec.encodeResponse(Codec.refusalOf(asked, refusal)) : answer)
        while (mapsOf(router).length < 2) yield* TestClock.adjust("100 millis")
        setBack("24 hours")
        yield* TestClock.adjust("5 seconds")
        assert.lengthOf(mapsOf(router), 3)
      }).pipe(Effect.provideService(Clock.Clock, wall))
    })
  )

  it.effect("that is to last for ever is renewed within a day [RFC 6887 8.3-l, 15-b]", () =>
    Effect.gen(function* () {
      const router = Router.make()
      const { mapper } = yield* withMapper(router.peer)
      router.alter = (answer) => withBytes(answer, [4, "ffffffff"])
      const mapping = yield* mapper.map(wish)
      const { lifetime } = yield* mapping.current
      assert.isTrue(lifetime !== undefined && Duration.isLessThanOrEqualTo(lifetime, Duration.days(1)))
      yield* TestClock.adjust("1 day")
      assert.isAtLeast(mapsOf(router).length, 2)
      router.alter = (answer) => answer
    })
  )

  it.effect("is kept on the gateway that it was made on, also where that is the second now [RFC 6887 11.5-b]", () =>
    Effect.gen(function* () {
      const [here, there] = [Router.make(), Router.make({ model: { address: second } })]
      const { mapper, network } = yield* withMapper(hosts({ "192.168.77.1": here.peer, "192.168.78.1": there.peer }))
      yield* mapper.map({ ...wish, lifetime: "1 hour" })
      network.gateways = [second, Net.gateway]
      yield* TestClock.adjust("2 hours")
      assert.isAtLeast(mapsOf(here).length, 3)
      assert.deepStrictEqual(there.asked, [])
    })
  )

  it.effect("is asked for again with the port and the address that it had [RFC 6887 11.2.1-b, 14.1.3-g]", () =>
    Effect.gen(function* () {
      const router = Router.make()
      router.model.takePort({ protocol: "tcp", externalPort: 12001 })
      const { mapper, network } = yield* withMapper(router.peer)
      const mapping = yield* mapper.map(wish)
      const { externalPort } = yield* mapping.current
      assert.notStrictEqual(externalPort, 12001)
      yield* TestClock.adjust("1 minute")
      router.model.reboot(yield* Clock.currentTimeMillis)
      const announcement = yield* router.announce
      for (const ear of network.ears) ear.hear(announcement, Net.inet("192.168.77.1:5351"))
      yield* TestClock.adjust("5 seconds")
      const [, again] = mapsOf(router)
      assert.deepStrictEqual(again && [again.externalPort, NetAddress.formatIp(again.externalAddress)], [
        externalPort,
        "11.22.33.1"
      ])
    })
  )
})
