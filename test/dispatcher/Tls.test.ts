/** TLS on the dispatcher's port, with Node's own client, and by bytes that break it. */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import type * as Certificate from "@effect-nat/dispatcher/Certificate"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import type * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeCertificate from "@effect-nat/dispatcher/NodeCertificate"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as NodeTcpListener from "@effect-nat/dispatcher/NodeTcpListener"
import * as Session from "@effect-nat/dispatcher/Session"
import type * as SessionError from "@effect-nat/dispatcher/SessionError"
import * as TcpListener from "@effect-nat/dispatcher/TcpListener"
import * as WebConnector from "@effect-nat/dispatcher/WebConnector"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Net from "node:net"
import * as Tls from "node:tls"
import * as WebSocket from "ws"
import { makeProxy } from "./proxy.ts"
import {
  bytesOf,
  fromHex,
  handshake,
  hex,
  loopback,
  mapperLayer,
  rawClient,
  resolverLayer,
  textOf,
  until
} from "./support.ts"

type ListenOptions = Parameters<TcpListener.TcpListener["Service"]["listen"]>[0]

/** Node's listener, with options that are added to those of whoever listens. */
const listenerWith = (extra: Partial<ListenOptions>) =>
  Layer.effect(
    TcpListener.TcpListener,
    Effect.map(TcpListener.TcpListener, (real) => ({
      ...real,
      listen: (options: ListenOptions) => real.listen({ ...options, ...extra })
    }))
  ).pipe(Layer.provide(NodeTcpListener.layer))

const dispatcherWith = (extra: Partial<ListenOptions>, limits?: Partial<Dispatcher.Limits>) =>
  Dispatcher.make({ port: 0, address: loopback, limits }).pipe(
    Effect.provide([listenerWith(extra), mapperLayer, resolverLayer])
  )

/** A dispatcher on a free port of loopback that speaks TLS as well. */
const secureDispatcher = Effect.fnUntraced(function* (limits?: Partial<Dispatcher.Limits>) {
  const certificate = yield* NodeCertificate.selfSigned()
  const dispatcher = yield* dispatcherWith({ tls: certificate }, limits)
  return { ...dispatcher, certificate }
})

type Secure = Effect.Success<ReturnType<typeof secureDispatcher>>

const joinAt = (
  address: NetAddress.InetAddress,
  invitation: Invitation.Invitation,
  options?: Omit<Session.JoinOptions, "invitation">
) => Session.joinAt([address], { invitation, ...options }).pipe(Effect.provide(NodeConnector.layer))

const join = ({ address, certificate }: Secure, invitation: Invitation.Invitation) =>
  joinAt(address, invitation, { fingerprint: certificate.fingerprint })

const loopbackAt = (port: number) => NetAddress.inetAddressUnsafe(loopback, port)

const reasonOf = <A, R>(effect: Effect.Effect<A, SessionError.SessionError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

const take = (session: Session.Session, count: number) =>
  session.messages.pipe(
    Stream.take(count),
    Stream.map(({ data }) => data),
    Stream.runCollect
  )

/** A TLS client of Node, through its handshake, and what it has received. */
const tlsClient = Effect.fnUntraced(function* (port: number, options?: Tls.ConnectionOptions) {
  const received: Array<Uint8Array> = []
  const ended = yield* Deferred.make<void>()
  const socket = yield* Effect.acquireRelease(
    Effect.callback<Tls.TLSSocket>((resume) => {
      const socket = Tls.connect({ host: "127.0.0.1", port, rejectUnauthorized: false, ...options }, () =>
        resume(Effect.succeed(socket))
      )
      socket.on("error", () => {})
      socket.on("data", (chunk: Uint8Array) => received.push(chunk))
      socket.once("end", () => Deferred.doneUnsafe(ended, Effect.void))
      socket.once("close", () => Deferred.doneUnsafe(ended, Effect.void))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  const soFar = () => new Uint8Array(Buffer.concat(received))
  return {
    socket,
    write: (bytes: Uint8Array) => Effect.sync(() => socket.write(bytes)),
    received: Effect.sync(soFar),
    all: Effect.andThen(Deferred.await(ended), Effect.sync(soFar))
  }
})

/** Counts the sockets of this process that are open. */
const openSockets = Effect.sync(
  () => process.getActiveResourcesInfo().filter((name) => /TCPSocketWrap|TLSWrap|TCPServerWrap/.test(name)).length
)

/** A listener that hands on what comes: its connections, and what was reported of each. */
const listen = Effect.fnUntraced(function* (extra: Partial<ListenOptions>) {
  const listener = yield* TcpListener.TcpListener
  const connections: Array<{ readonly connection: TcpListener.Connection; readonly said: Array<string> }> = []
  const { address } = yield* listener.listen({
    port: 0,
    address: loopback,
    maxMessageBytes: 1_048_576,
    onAcceptError: () => {},
    onConnection: (connection) => {
      const said: Array<string> = []
      connections.push({ connection, said })
      return {
        onData: (chunk) => said.push(textOf(chunk)),
        onEnd: () => said.push("end"),
        onClose: () => said.push("close")
      }
    },
    ...extra
  })
  const first = Effect.gen(function* () {
    yield* until(Effect.sync(() => connections.length > 0))
    return connections[0] as (typeof connections)[number]
  })
  return { port: address.port, connections, first }
}, Effect.provide(NodeTcpListener.layer))

it.live("one port serves TLS, TCP, WebSocket, and WebSocket over TLS", () =>
  Effect.gen(function* () {
    const secure = yield* secureDispatcher()
    const invitation = yield* secure.register()
    const members = [yield* join(secure, invitation), yield* joinAt(secure.address, invitation)]
    const heard = yield* Effect.forkChild(
      Effect.all(
        members.map((one) => take(one, 2)),
        { concurrency: 2 }
      )
    )
    for (const member of members) yield* member.send(bytesOf("hello"))
    assert.deepStrictEqual(
      (yield* Fiber.join(heard)).map((all) => all.map(textOf)),
      [
        ["hello", "hello"],
        ["hello", "hello"]
      ]
    )
    for (const scheme of ["ws", "wss"]) {
      const socket = yield* Effect.acquireRelease(
        Effect.callback<WebSocket.WebSocket>((resume) => {
          const socket = new WebSocket.WebSocket(`${scheme}://127.0.0.1:${secure.address.port}/`, {
            ca: secure.certificate.certificate
          })
          socket.once("open", () => resume(Effect.succeed(socket)))
        }),
        (socket) => Effect.sync(() => socket.terminate())
      )
      const answer = yield* Effect.callback<Uint8Array>((resume) => {
        socket.once("message", (data: Uint8Array) => resume(Effect.succeed(new Uint8Array(data))))
        socket.send(handshake(invitation).hello)
      })
      assert.strictEqual(hex(answer.subarray(0, 6)), "8e4e41540100")
      assert.strictEqual(answer.length, Wire.challengeLength)
    }
  })
)

it.live("a foreign client sees the certificate, and TLS 1.3, or 1.2 where it speaks no other, and nothing older", () =>
  Effect.gen(function* () {
    const { address, certificate } = yield* secureDispatcher()
    const modern = yield* tlsClient(address.port)
    assert.strictEqual(modern.socket.getProtocol(), "TLSv1.3")
    const shown = modern.socket.getPeerCertificate().fingerprint256.replaceAll(":", "").toLowerCase()
    assert.strictEqual(shown, certificate.fingerprint)
    const older = yield* tlsClient(address.port, { maxVersion: "TLSv1.2" })
    assert.strictEqual(older.socket.getProtocol(), "TLSv1.2")
    const refused = yield* Effect.callback<boolean>((resume) => {
      const options = { host: "127.0.0.1", port: address.port, rejectUnauthorized: false, ciphers: "ALL@SECLEVEL=0" }
      const socket = Tls.connect({ ...options, minVersion: "TLSv1", maxVersion: "TLSv1.1" })
      socket.once("secureConnect", () => resume(Effect.succeed(false)))
      socket.once("error", () => resume(Effect.succeed(true)))
    })
    assert.isTrue(refused)
    // And the name that it is for, where an authority is asked.
    const trusted = yield* tlsClient(address.port, { ca: certificate.certificate, rejectUnauthorized: true })
    assert.isTrue(trusted.socket.authorized)
  })
)

it.live("a client goes no further where the certificate is another one, and tells it nothing", () =>
  Effect.gen(function* () {
    const told: Array<string> = []
    const other = yield* NodeCertificate.selfSigned()
    const impostor = yield* Effect.acquireRelease(
      Effect.callback<Net.AddressInfo & { readonly server: Tls.Server }>((resume) => {
        const server = Tls.createServer({ cert: other.certificate, key: Redacted.value(other.key) }, (socket) => {
          socket.on("data", (chunk) => told.push(hex(chunk)))
          socket.on("error", () => {})
          socket.write(Wire.encodeRefused("UnknownSession"))
        })
        server.listen(0, "127.0.0.1", () => {
          resume(Effect.succeed({ ...(server.address() as Net.AddressInfo), server }))
        })
      }),
      ({ server }) => Effect.sync(() => server.close())
    )
    const secure = yield* secureDispatcher()
    const invitation = yield* secure.register()
    const { fingerprint } = secure.certificate
    const wrong = yield* reasonOf(joinAt(loopbackAt(impostor.port), invitation, { fingerprint }))
    assert.deepInclude(wrong, { _tag: "WrongCertificate", expected: fingerprint, actual: other.fingerprint })
    assert.include(wrong.message, "ask for its contact point anew")
    assert.deepStrictEqual(told, [])
    // It is another host: the right one may answer at another address.
    const session = yield* Session.joinAt([loopbackAt(impostor.port), secure.address], {
      invitation,
      fingerprint
    }).pipe(Effect.provide(NodeConnector.layer))
    assert.strictEqual((yield* session.address).port, secure.address.port)
    assert.deepStrictEqual(told, [])
  })
)

it.live("a client that wants TLS gets it or fails, and says why", () =>
  Effect.gen(function* () {
    const { address, register } = yield* dispatcherWith({})
    const invitation = yield* register()
    const fingerprint = ContactPoint.Fingerprint.make("0".repeat(64))
    const plain = yield* reasonOf(joinAt(address, invitation, { fingerprint }))
    assert.strictEqual(plain._tag, "NotADispatcher")
    assert.include(plain.message, "TLS failed")
    assert.strictEqual((yield* reasonOf(joinAt(loopbackAt(1), invitation, { fingerprint })))._tag, "Unreachable")
    // A server that never answers the client's first record.
    const silent = yield* Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        const server = Net.createServer((socket) => socket.on("error", () => {}).resume())
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    )
    const { port } = silent.address() as Net.AddressInfo
    const late = joinAt(loopbackAt(port), invitation, {
      fingerprint,
      handshakeTimeout: "100 millis"
    })
    assert.strictEqual((yield* reasonOf(late))._tag, "TimedOut")
  })
)

it.live("a contact point's fingerprint is enough to join over TLS", () =>
  Effect.gen(function* () {
    const { address, certificate, register } = yield* secureDispatcher()
    const invitation = yield* register()
    const contactPoint = ContactPoint.make({ internal: [address], fingerprint: certificate.fingerprint })
    const session = yield* Session.join(contactPoint, { invitation }).pipe(Effect.provide(NodeConnector.layer))
    yield* session.send(bytesOf("hello"))
    assert.deepStrictEqual((yield* take(session, 1)).map(textOf), ["hello"])
    const other = ContactPoint.make({ ...contactPoint, fingerprint: ContactPoint.Fingerprint.make("1".repeat(64)) })
    const wrong = yield* reasonOf(Session.join(other, { invitation }).pipe(Effect.provide(NodeConnector.layer)))
    assert.strictEqual(wrong._tag, "WrongCertificate")
  })
)

it.live("a member whose dispatcher has another certificate all at once gives up, and says why", () =>
  Effect.gen(function* () {
    const [secure, other] = [yield* secureDispatcher(), yield* secureDispatcher()]
    const invitation = yield* secure.register()
    const proxy = yield* makeProxy(secure.address)
    const { fingerprint } = secure.certificate
    const session = yield* joinAt(proxy.address, invitation, { fingerprint, reconnectTimeout: "400 millis" })
    yield* proxy.setTarget(other.address)
    yield* proxy.cut
    const over = yield* reasonOf(Stream.runDrain(session.events))
    assert.strictEqual(over._tag, "GivenUp")
    assert.include(over.message, `the certificate ${other.certificate.fingerprint} in place of ${fingerprint}`)
  })
)

it.live("by WebSocket a fingerprint means TLS, and the platform judges the certificate", () =>
  Effect.gen(function* () {
    const invitation = yield* Effect.scoped(Effect.flatMap(dispatcherWith({}), ({ register }) => register()))
    const options = { invitation, reconnectTimeout: 0, fingerprint: ContactPoint.Fingerprint.make("3".repeat(64)) }
    const { first, port } = yield* listen({})
    const joining = Session.joinAt([loopbackAt(port)], options).pipe(Effect.provide(WebConnector.layer))
    yield* Effect.forkChild(Effect.ignore(joining))
    const { said } = yield* first
    yield* until(Effect.sync(() => said.length > 0))
    assert.strictEqual(said[0]?.charCodeAt(0), 0x16)
    const secure = yield* secureDispatcher()
    const { fingerprint } = secure.certificate
    const refused = Session.joinAt([secure.address], { ...options, fingerprint }).pipe(
      Effect.provide(WebConnector.layer)
    )
    assert.strictEqual((yield* reasonOf(refused))._tag, "Unreachable")
  })
)

it.live("large messages come whole over TLS, both ways, to a member that reads slowly too", () =>
  Effect.gen(function* () {
    const secure = yield* secureDispatcher()
    const invitation = yield* secure.register()
    const [sender, reader] = [yield* join(secure, invitation), yield* join(secure, invitation)]
    const large = Uint8Array.from({ length: 1_048_576 }, (_, index) => (index * 7) ^ (index >> 8))
    const slowly = reader.messages.pipe(
      Stream.take(6),
      Stream.tap(() => Effect.sleep("20 millis")),
      Stream.runForEach(({ data }) => Effect.sync(() => assert.deepStrictEqual(data, large)))
    )
    const [reading, own] = [yield* Effect.forkChild(slowly), yield* Effect.forkChild(take(sender, 6))]
    for (let i = 0; i < 6; i++) yield* sender.send(large)
    yield* Fiber.join(reading)
    assert.strictEqual((yield* Fiber.join(own)).length, 6)
  })
)

it.live("a hundred join over TLS at once, and nothing is left open when they have gone", () =>
  Effect.gen(function* () {
    const before = yield* openSockets
    yield* Effect.gen(function* () {
      const secure = yield* secureDispatcher()
      const invitation = yield* secure.register()
      yield* Effect.gen(function* () {
        const joined = yield* Effect.all(
          Array.from({ length: 100 }, () => join(secure, invitation)),
          { concurrency: "unbounded" }
        )
        const heard = yield* Effect.forkChild(
          Effect.all(
            joined.map((one) => take(one, 1)),
            { concurrency: 100 }
          )
        )
        yield* (joined[0] as Session.Session).send(bytesOf("to all"))
        assert.deepStrictEqual(new Set((yield* Fiber.join(heard)).flat().map(textOf)), new Set(["to all"]))
      }).pipe(Effect.scoped)
      yield* until(Effect.map(secure.list, ([session]) => session?.members === 0))
    }).pipe(Effect.scoped)
    yield* until(Effect.map(openSockets, (count) => count <= before))
  })
)

it.live("nothing is left open when joining fails or is interrupted, before and after the certificate is seen", () =>
  Effect.gen(function* () {
    const before = yield* openSockets
    yield* Effect.gen(function* () {
      const secure = yield* secureDispatcher()
      const invitation = yield* secure.register()
      const { fingerprint } = secure.certificate
      const open = yield* openSockets
      const fingerprints = [fingerprint, ContactPoint.Fingerprint.make("2".repeat(64))]
      for (let milliseconds = 0; milliseconds < 20; milliseconds++) {
        const scope = yield* Scope.make()
        const fiber = yield* joinAt(secure.address, invitation, {
          fingerprint: fingerprints[milliseconds % 2],
          reconnectTimeout: 0
        }).pipe(Scope.provide(scope), Effect.forkChild)
        yield* Effect.sleep(milliseconds)
        yield* Fiber.interrupt(fiber)
        yield* Scope.close(scope, Exit.void)
      }
      yield* until(Effect.map(openSockets, (count) => count <= open))
    }).pipe(Effect.scoped)
    yield* until(Effect.map(openSockets, (count) => count <= before))
  })
)

it.live("a member over TLS comes back by itself when its connection breaks", () =>
  Effect.gen(function* () {
    const secure = yield* secureDispatcher()
    const invitation = yield* secure.register()
    const proxy = yield* makeProxy(secure.address)
    const session = yield* joinAt(proxy.address, invitation, { fingerprint: secure.certificate.fingerprint })
    const heard: Array<string> = []
    yield* Effect.forkChild(
      Stream.runForEach(session.messages, ({ data }) => Effect.sync(() => heard.push(textOf(data))))
    )
    yield* session.send(bytesOf("before"))
    yield* until(Effect.sync(() => heard.length === 1))
    yield* proxy.cut
    // What is handed to a connection that just breaks may be lost.
    const again = Effect.andThen(Effect.ignore(session.send(bytesOf("after"))), Effect.sleep("20 millis"))
    yield* Effect.raceFirst(until(Effect.sync(() => heard.length > 1)), Effect.forever(again))
    assert.deepStrictEqual(heard.slice(0, 2), ["before", "after"])
  })
)

/** The record that begins a handshake, cut off in the middle. */
const half = fromHex("16030100c8010000c40303")

it.live("garbage after the first byte of TLS, and a handshake that stops half way, cost that connection only", () =>
  Effect.gen(function* () {
    const secure = yield* secureDispatcher({ handshakeTimeout: "200 millis" })
    const invitation = yield* secure.register()
    const good = yield* join(secure, invitation)
    const garbage = yield* rawClient(secure.address.port)
    yield* garbage.write(fromHex(`16${"ab".repeat(64)}`))
    yield* garbage.all
    for (const bytes of [half, half.subarray(0, 1)]) {
      const slow = yield* rawClient(secure.address.port)
      yield* slow.write(bytes)
      yield* slow.all
    }
    const silent = yield* tlsClient(secure.address.port)
    yield* silent.all
    yield* good.send(bytesOf("untouched"))
    assert.deepStrictEqual((yield* take(good, 1)).map(textOf), ["untouched"])
  })
)

it.live("a handshake of TLS has a time limit of its own", () =>
  Effect.gen(function* () {
    const tls = yield* NodeCertificate.selfSigned()
    const { first, port } = yield* listen({ tls, openingTimeout: "100 millis" })
    const client = yield* rawClient(port)
    yield* client.write(half)
    const { said } = yield* first
    yield* client.all
    yield* until(Effect.sync(() => said.length > 0))
    assert.deepStrictEqual(said, ["close"])
    // Once it is through there is none.
    const through = yield* tlsClient(port)
    yield* Effect.sleep("200 millis")
    assert.isFalse(through.socket.destroyed)
  })
)

it.live("a peer that goes before its handshake is through, or says nothing after it, is gone at once", () =>
  Effect.gen(function* () {
    const tls = yield* NodeCertificate.selfSigned()
    const { connections, port } = yield* listen({ tls })
    const stopping = yield* rawClient(port)
    stopping.socket.end(half)
    yield* stopping.all
    const gone = yield* tlsClient(port)
    gone.socket.destroy()
    const polite = yield* tlsClient(port)
    yield* until(Effect.sync(() => connections.length === 3))
    const last = connections[2]
    assert(last !== undefined)
    last.connection.write([bytesOf("good"), bytesOf("bye")], () => {})
    last.connection.end()
    polite.socket.end()
    assert.strictEqual(textOf(yield* polite.all), "goodbye")
    yield* until(Effect.sync(() => connections.every(({ said }) => said.at(-1) === "close")))
  })
)

it.live("a broken record after the handshake ends the connection", () =>
  Effect.gen(function* () {
    const tls = yield* NodeCertificate.selfSigned()
    const { connections, first, port } = yield* listen({ tls })
    const raw = yield* rawClient(port, { paused: true })
    const client = yield* Effect.callback<Tls.TLSSocket>((resume) => {
      const socket = Tls.connect({ socket: raw.socket, rejectUnauthorized: false }, () =>
        resume(Effect.succeed(socket))
      )
      socket.on("error", () => {})
    })
    client.write("hello")
    const { said } = yield* first
    yield* until(Effect.sync(() => said.length === 1))
    Net.Socket.prototype.write.call(raw.socket, fromHex(`1703030020${"aa".repeat(32)}`))
    yield* until(Effect.sync(() => said.length > 1))
    assert.deepStrictEqual(
      said.filter((word) => word !== "end"),
      ["hello", "close"]
    )
    assert.strictEqual(connections.length, 1)
  })
)

it.live("a connection over TLS can be paused, resumed, written to, ended and dropped, and closes once", () =>
  Effect.gen(function* () {
    const tls = yield* NodeCertificate.selfSigned()
    const { connections, first, port } = yield* listen({ tls })
    const client = yield* tlsClient(port)
    const { connection, said } = yield* first
    yield* client.write(bytesOf("one"))
    yield* until(Effect.sync(() => said.length === 1))
    assert.strictEqual(connection.remoteAddress?.port, client.socket.localPort)
    assert.strictEqual(connection.localAddress?.port, port)
    assert.isFalse(connection.isForwarded)
    connection.pause()
    yield* client.write(bytesOf("two"))
    yield* Effect.sleep("50 millis")
    assert.deepStrictEqual(said, ["one"])
    connection.resume()
    yield* until(Effect.sync(() => said.length === 2))
    yield* Effect.callback<void>((resume) =>
      connection.write([bytesOf("three "), bytesOf("four")], () => resume(Effect.void))
    )
    connection.end()
    assert.strictEqual(textOf(yield* client.all), "three four")
    connection.destroy()
    connection.destroy()
    connection.write([bytesOf("too late")], () => said.push("written"))
    yield* until(Effect.sync(() => said.includes("close")))
    yield* Effect.sleep("20 millis")
    assert.deepStrictEqual(
      said.filter((word) => word !== "end"),
      ["one", "two", "close"]
    )
    // A client that ends first is heard, and can still read.
    const leaving = yield* tlsClient(port)
    leaving.socket.end("bye")
    yield* until(Effect.sync(() => connections[1]?.said.includes("end") === true))
    assert.deepStrictEqual(connections[1]?.said, ["bye", "end"])
  })
)

it.live("a write over TLS is told to be through only when the peer has made room for it", () =>
  Effect.gen(function* () {
    const tls = yield* NodeCertificate.selfSigned()
    const { first, port } = yield* listen({ tls })
    const client = yield* tlsClient(port)
    yield* client.write(bytesOf("hello"))
    const { connection, said } = yield* first
    yield* until(Effect.sync(() => said.length === 1))
    client.socket.pause()
    // More than the kernel's own buffers hold.
    const size = 32 * 1_048_576
    let isThrough = false
    connection.write([new Uint8Array(size)], () => {
      isThrough = true
    })
    yield* Effect.sleep("200 millis")
    assert.isFalse(isThrough)
    client.socket.resume()
    yield* until(Effect.sync(() => isThrough))
    yield* until(Effect.map(client.received, ({ length }) => length === size))
  })
)

it.live("what is said before the first byte of the peer comes inside of TLS", () =>
  Effect.gen(function* () {
    const secure = yield* secureDispatcher({ maxHandshakes: 2 })
    const invitation = yield* secure.register()
    const { fingerprint } = secure.certificate
    for (let i = 0; i < 2; i++) yield* rawClient(secure.address.port)
    const options = { fingerprint, reconnectTimeout: 0 }
    const refused = yield* reasonOf(joinAt(secure.address, invitation, options))
    assert.deepInclude(refused, { _tag: "Refused", reason: "TooManyHandshakes" })
    const plain = yield* reasonOf(joinAt(secure.address, invitation, { reconnectTimeout: 0 }))
    assert.deepInclude(plain, { _tag: "Refused", reason: "TooManyHandshakes" })
  })
)

it.live("without a certificate a TLS record is no start of anything", () =>
  Effect.gen(function* () {
    const { address } = yield* dispatcherWith({})
    const client = yield* rawClient(address.port)
    yield* client.write(half)
    assert.strictEqual((yield* client.all).length, 0)
  })
)

it.live("a certificate that cannot be used keeps the port from being opened", () =>
  Effect.gen(function* () {
    const [one, other] = [yield* NodeCertificate.selfSigned(), yield* NodeCertificate.selfSigned()]
    const cases: ReadonlyArray<Pick<Certificate.Certificate, "certificate" | "key">> = [
      { certificate: "", key: one.key },
      { certificate: one.certificate, key: other.key },
      { certificate: one.certificate, key: Redacted.make("secret") }
    ]
    for (const tls of cases) {
      const error = yield* Effect.flip(listen({ tls }))
      assert.strictEqual(error.kind, "Unknown")
      assert.include(error.message, "the certificate or its key cannot be used")
      assert.notInclude(error.message, "secret")
    }
  })
)
