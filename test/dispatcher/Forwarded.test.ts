/** Connections that a forwarder passes on, with a header of the PROXY protocol before their bytes. */
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeCertificate from "@effect-nat/dispatcher/NodeCertificate"
import * as NodeTcpListener from "@effect-nat/dispatcher/NodeTcpListener"
import * as ProxyProtocol from "@effect-nat/dispatcher/ProxyProtocol"
import * as TcpListener from "@effect-nat/dispatcher/TcpListener"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type * as Net from "node:net"
import * as Tls from "node:tls"
import { bytesOf, fromHex, handshake, hex, loopback, rawClient, textOf, until, upgradeRequest } from "./support.ts"

type ListenOptions = Parameters<TcpListener.TcpListener["Service"]["listen"]>[0]

interface Seen {
  readonly connection: TcpListener.Connection
  readonly remote: string | undefined
  readonly isForwarded: boolean
  readonly received: () => Uint8Array
  readonly isClosed: () => boolean
}

/** A listener that wants a header, and the connections that it has handed on. */
const listen = (extra?: Partial<ListenOptions>, onConnection?: (connection: TcpListener.Connection) => void) =>
  Effect.gen(function* () {
    const listener = yield* TcpListener.TcpListener
    const seen: Array<Seen> = []
    const { address } = yield* listener.listen({
      port: 0,
      address: loopback,
      proxyProtocol: true,
      maxMessageBytes: 65_536,
      onAcceptError: () => {},
      onConnection: (connection) => {
        const { isForwarded, remoteAddress } = connection
        const chunks: Array<Uint8Array> = []
        let closed = false
        const remote = remoteAddress === undefined ? undefined : NetAddress.formatInet(remoteAddress)
        const received = () => new Uint8Array(Buffer.concat(chunks))
        seen.push({ connection, remote, isForwarded, received, isClosed: () => closed })
        onConnection?.(connection)
        return {
          onData: (chunk) => chunks.push(chunk),
          onEnd: () => {},
          onClose: () => {
            closed = true
          }
        }
      },
      ...extra
    })
    const one = Effect.gen(function* () {
      yield* until(Effect.sync(() => seen.length > 0))
      return seen[0] as Seen
    })
    return { port: address.port, seen, one }
  }).pipe(Effect.provide(NodeTcpListener.layer))

const source = "203.0.113.9:54321"

/** Written by hand: TCP over IPv4, from 203.0.113.9:54321 to 192.0.2.1:12000. */
const header = fromHex("0d0a0d0a 000d0a51 5549540a 21 11 000c cb007109 c0000201 d431 2ee0")
const localHeader = fromHex("0d0a0d0a 000d0a51 5549540a 20 00 0000")

const invitation = Result.getOrThrow(Invitation.fromString(`${"a".repeat(32)}.${"b".repeat(32)}`))
const { hello } = handshake(invitation)

const holds = ({ received }: Seen, bytes: Uint8Array) =>
  until(Effect.sync(() => received().length >= bytes.length)).pipe(
    Effect.andThen(Effect.sync(() => assert.strictEqual(hex(received()), hex(bytes))))
  )

it.live("is where the header says, and its bytes begin after it, in one chunk", () =>
  Effect.gen(function* () {
    const { one, port } = yield* listen()
    const client = yield* rawClient(port)
    yield* client.write(Buffer.concat([header, hello]))
    const first = yield* one
    assert.deepStrictEqual([first.remote, first.isForwarded], [source, true])
    assert.strictEqual(first.connection.localAddress?.port, port)
    yield* holds(first, hello)
    yield* client.write(bytesOf("more"))
    yield* holds(first, new Uint8Array(Buffer.concat([hello, bytesOf("more")])))
    first.connection.write([bytesOf("answer")], () => first.connection.end())
    assert.strictEqual(textOf(yield* client.all), "answer")
  })
)

it.live("is handed on only when the header is whole, which may come byte by byte", () =>
  Effect.gen(function* () {
    const { one, port, seen } = yield* listen()
    const client = yield* rawClient(port)
    for (const byte of header.subarray(0, -1)) {
      yield* client.write(Uint8Array.of(byte))
      yield* Effect.sleep(1)
    }
    yield* Effect.sleep("20 millis")
    assert.strictEqual(seen.length, 0)
    yield* client.write(header.subarray(-1))
    const first = yield* one
    assert.strictEqual(first.remote, source)
    for (const byte of hello) yield* client.write(Uint8Array.of(byte))
    yield* holds(first, hello)
  })
)

it.live("is from nowhere where the forwarder does not say, and never from where the forwarder is", () =>
  Effect.gen(function* () {
    const headers = [
      localHeader,
      ProxyProtocol.encode({ source: undefined, destination: undefined }),
      fromHex(`0d0a0d0a 000d0a51 5549540a 21 31 00d8 ${"2f".repeat(216)}`)
    ]
    for (const one of headers) {
      const listening = yield* listen()
      const client = yield* rawClient(listening.port)
      yield* client.write(Buffer.concat([one, hello]))
      const first = yield* listening.one
      assert.deepStrictEqual([first.remote, first.isForwarded], [undefined, true])
      yield* holds(first, hello)
    }
    const plain = yield* listen({ proxyProtocol: false })
    const client = yield* rawClient(plain.port)
    yield* client.write(header)
    const first = yield* plain.one
    assert.deepStrictEqual([first.remote, first.isForwarded], [`127.0.0.1:${client.socket.localPort}`, false])
  })
)

it.live("may be a WebSocket, or TLS, or a WebSocket over TLS", () =>
  Effect.gen(function* () {
    const tls = yield* NodeCertificate.selfSigned()
    const { port, seen } = yield* listen({ tls })
    const web = yield* rawClient(port)
    yield* web.write(Buffer.concat([header, upgradeRequest]))
    yield* until(Effect.map(web.received, (bytes) => textOf(bytes).startsWith("HTTP/1.1 101 ")))
    yield* web.write(maskedFrame(hello))
    yield* holds(seen[0] as Seen, hello)
    for (const isWeb of [false, true]) {
      const raw = yield* rawClient(port, { paused: true })
      yield* raw.write(header)
      const inside = yield* secured(raw.socket)
      inside.write(isWeb ? upgradeRequest : hello)
      if (isWeb) {
        yield* Effect.callback<void>((resume) => {
          inside.once("data", (chunk: Uint8Array) => {
            assert.match(textOf(chunk), /^HTTP\/1\.1 101 /)
            resume(Effect.void)
          })
        })
        inside.write(maskedFrame(hello))
      }
      yield* holds(seen.at(-1) as Seen, hello)
    }
    assert.deepStrictEqual(
      seen.map(({ connection, remote }) => [
        remote,
        connection.remoteAddress && NetAddress.formatInet(connection.remoteAddress)
      ]),
      Array.from({ length: 3 }, () => [source, source])
    )
  })
)

/** A binary frame of a client, with a mask of zeros. */
const maskedFrame = (data: Uint8Array): Uint8Array =>
  new Uint8Array(Buffer.concat([Uint8Array.of(0x82, 0x80 | data.length, 0, 0, 0, 0), data]))

const secured = (socket: Net.Socket) =>
  Effect.callback<Tls.TLSSocket>((resume) => {
    const inside = Tls.connect({ socket, rejectUnauthorized: false }, () => resume(Effect.succeed(inside)))
    inside.on("error", () => {})
  })

it.live("is dropped, and never handed on, where it begins with anything else", () =>
  Effect.gen(function* () {
    const tls = yield* NodeCertificate.selfSigned()
    const { port, seen } = yield* listen({ tls })
    const starts = [
      hello,
      upgradeRequest,
      fromHex("16030100c8010000c40303"),
      bytesOf("PROXY TCP4 203.0.113.9 192.0.2.1 54321 12000\r\n"),
      fromHex("0d0a0d0a 000d0a51 5549540a 22 11 000c"),
      fromHex("0d0a0d0a 000d0a51 5549540a 21 11 ffff")
    ]
    for (const start of starts) {
      const client = yield* rawClient(port)
      yield* client.write(start)
      assert.strictEqual((yield* client.all).length, 0)
    }
    assert.strictEqual(seen.length, 0)
  })
)

it.live("is dropped when its header does not come in time, or ends before", () =>
  Effect.gen(function* () {
    const { port, seen } = yield* listen({ openingTimeout: "150 millis" })
    const [silent, slow, never, ended] = yield* Effect.all(Array.from({ length: 4 }, () => rawClient(port)))
    assert(silent !== undefined && slow !== undefined && never !== undefined && ended !== undefined)
    yield* slow.write(header.subarray(0, 5))
    // Each byte comes soon after the one before, and the last never.
    const trickle = Effect.gen(function* () {
      yield* never.write(fromHex("0d0a0d0a 000d0a51 5549540a 20 00 0ff0"))
      while (!never.socket.destroyed) {
        yield* never.write(Uint8Array.of(0))
        yield* Effect.sleep("5 millis")
      }
    })
    yield* Effect.forkChild(trickle)
    ended.socket.end(header.subarray(0, 20))
    for (const client of [silent, slow, never, ended]) assert.strictEqual((yield* client.all).length, 0)
    assert.strictEqual(seen.length, 0)
    // Once it is there, there is no limit any more.
    const good = yield* rawClient(port)
    yield* good.write(header)
    yield* Effect.sleep("200 millis")
    assert.deepStrictEqual(
      seen.map(({ isClosed }) => isClosed()),
      [false]
    )
  })
)

it.live("can be dropped or paused by its owner before its first byte", () =>
  Effect.gen(function* () {
    const dropping = yield* listen({}, (connection) => connection.destroy())
    const client = yield* rawClient(dropping.port)
    yield* client.write(Buffer.concat([header, hello]))
    assert.strictEqual((yield* client.all).length, 0)
    yield* until(Effect.sync(() => dropping.seen[0]?.isClosed() === true))
    assert.strictEqual(dropping.seen[0]?.received().length, 0)
    const pausing = yield* listen({}, (connection) => connection.pause())
    const patient = yield* rawClient(pausing.port)
    yield* patient.write(Buffer.concat([header, hello]))
    const first = yield* pausing.one
    yield* Effect.sleep("20 millis")
    assert.strictEqual(first.received().length, 0)
    first.connection.resume()
    yield* holds(first, hello)
  })
)

it.live("is gone with the listener, before its header is there and after", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const { one, port } = yield* Scope.provide(listen(), scope)
    const [early, late] = [yield* rawClient(port), yield* rawClient(port)]
    yield* early.write(header.subarray(0, 10))
    yield* late.write(Buffer.concat([header, hello]))
    const first = yield* one
    yield* Scope.close(scope, Exit.void)
    yield* early.all
    yield* late.all
    yield* until(Effect.sync(() => first.isClosed()))
  })
)
