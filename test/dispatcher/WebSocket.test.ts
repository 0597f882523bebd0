/** The same port by WebSocket, with Node's own client and by hand. */
import * as DispatcherMetrics from "@effect-nat/dispatcher/DispatcherMetrics"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as Session from "@effect-nat/dispatcher/Session"
import * as WebConnector from "@effect-nat/dispatcher/WebConnector"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"
import {
  bytesOf,
  dispatcher,
  framesIn,
  fromHex,
  handshake,
  hex,
  rawClient,
  rawJoined,
  requestOf,
  textOf,
  until,
  upgradeRequest,
  wordsOf
} from "./support.ts"

/** A WebSocket of the platform, and what it received, as one run of bytes. */
const webSocket = Effect.fnUntraced(function* (port: number) {
  const received: Array<Uint8Array> = []
  let closed: number | undefined
  const socket = yield* Effect.acquireRelease(
    Effect.callback<WebSocket>((resume) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/any/path`)
      socket.binaryType = "arraybuffer"
      socket.addEventListener("message", ({ data }) => received.push(new Uint8Array(data)))
      socket.addEventListener("close", ({ code }) => {
        closed = code
      })
      socket.addEventListener("open", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.close())
  )
  const soFar = () => new Uint8Array(Buffer.concat(received))
  return {
    send: (data: Uint8Array<ArrayBuffer> | string) => Effect.sync(() => socket.send(data)),
    received: Effect.sync(soFar),
    messages: Effect.sync(() => received.length),
    close: Effect.sync(() => socket.close()),
    closed: Effect.andThen(
      until(Effect.sync(() => closed !== undefined)),
      Effect.sync(() => closed)
    )
  }
})

const owned = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(bytes)

/** A WebSocket that has joined. */
const webMember = Effect.fnUntraced(function* (port: number, invitation: Parameters<typeof handshake>[0]) {
  const client = yield* webSocket(port)
  const { hello, proof } = handshake(invitation)
  // In whatever messages: the bytes are what counts.
  yield* client.send(owned(hello.subarray(0, 5)))
  yield* client.send(owned(hello.subarray(5)))
  yield* until(Effect.map(client.received, ({ length }) => length === Wire.challengeLength))
  yield* client.send(owned(proof(yield* client.received)))
  const frames = Effect.map(client.received, (bytes) => framesIn(bytes.subarray(Wire.challengeLength)))
  yield* until(Effect.map(frames, ({ length }) => length === 1))
  const [welcome] = yield* frames
  assert(welcome?._tag === "Welcome")
  yield* client.send(owned(requestOf(welcome, "join")))
  yield* until(Effect.map(frames, ({ length }) => length === 2))
  return { ...client, welcome, frames: Effect.map(frames, (all) => all.slice(2)) }
})

it.live("a WebSocket client and a TCP client exchange messages, the same bytes for both", () =>
  Effect.gen(function* () {
    const { address, register } = yield* dispatcher()
    const invitation = yield* register()
    const tcp = yield* rawJoined(address.port, invitation)
    const web = yield* webMember(address.port, invitation)
    const large = new Uint8Array(300_000).fill(7)
    yield* web.send(
      owned(
        Buffer.concat([requestOf(web.welcome, "send", bytesOf("from the web")), requestOf(web.welcome, "send", large)])
      )
    )
    yield* until(Effect.map(tcp.frames, ({ length }) => length === 3))
    yield* tcp.ask("send", bytesOf("from TCP"))
    yield* until(Effect.map(web.frames, ({ length }) => length === 3))
    assert.deepStrictEqual(yield* web.frames, (yield* tcp.frames).slice(1))
    const [first, second, third] = yield* web.frames
    assert(first?._tag === "Message" && second?._tag === "Message" && third?._tag === "Message")
    assert.deepStrictEqual([textOf(first.data), textOf(third.data)], ["from the web", "from TCP"])
    assert.deepStrictEqual(second.data, large)
  })
)

it.live("a WebSocket client learns why it is sent away, and the connection is closed in order", () =>
  Effect.gen(function* () {
    const { address, register, unregister } = yield* dispatcher()
    const invitation = yield* register()
    const member = yield* webMember(address.port, invitation)
    yield* unregister(invitation.sessionId)
    yield* member.closed
    assert.deepStrictEqual(wordsOf(yield* member.frames), ["Close: SessionClosed"])
    const stranger = yield* webSocket(address.port)
    yield* stranger.send(owned(handshake(invitation).hello))
    yield* stranger.closed
    assert.strictEqual(hex(yield* stranger.received), hex(Wire.encodeRefused("UnknownSession")))
  })
)

it.live("text, a message over the limit, and garbage close the WebSocket that they come by, and no other", () =>
  Effect.gen(function* () {
    const { address, list, register } = yield* dispatcher({ maxMessageBytes: 1000 })
    const invitation = yield* register()
    const good = yield* webMember(address.port, invitation)
    const members = Effect.map(list, ([session]) => session?.members)
    const text = yield* webMember(address.port, invitation)
    yield* text.send("hello")
    yield* text.closed
    const large = yield* webMember(address.port, invitation)
    yield* large.send(new Uint8Array(1025))
    assert.strictEqual(yield* large.closed, 1009)
    const garbage = yield* webSocket(address.port)
    yield* garbage.send(new Uint8Array(48))
    yield* garbage.closed
    assert.strictEqual((yield* garbage.received).length, 0)
    yield* until(Effect.map(members, (count) => count === 1))
    // The limit itself is taken.
    yield* good.send(owned(requestOf(good.welcome, "send", new Uint8Array(1000))))
    yield* until(Effect.map(good.frames, ({ length }) => length === 1))
    assert.deepInclude((yield* good.frames)[0], { _tag: "Message", sequence: 1 })
  })
)

it.live("a request that is not for a WebSocket is answered with 426, and that connection closed", () =>
  Effect.gen(function* () {
    const { address } = yield* dispatcher()
    const response = yield* Effect.promise(() => fetch(`http://127.0.0.1:${address.port}/`))
    assert.strictEqual(response.status, 426)
    assert.strictEqual(response.headers.get("upgrade"), "websocket")
    assert.include(yield* Effect.promise(() => response.text()), "session dispatcher")
    const raw = yield* rawClient(address.port)
    yield* raw.write(bytesOf("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert.match(textOf(yield* raw.all), /^HTTP\/1\.1 426 /)
    const broken = yield* rawClient(address.port)
    yield* broken.write(bytesOf("GIVE ME \u0001 THAT\r\n\r\n"))
    yield* broken.all
  })
)

it.live("a request that never ends, and a WebSocket that says nothing, are under the limit of a handshake", () =>
  Effect.gen(function* () {
    const { address } = yield* dispatcher({ handshakeTimeout: "100 millis" })
    const slow = yield* rawClient(address.port)
    yield* slow.write(upgradeRequest.subarray(0, 40))
    assert.strictEqual((yield* slow.all).length, 0)
    const silent = yield* rawClient(address.port)
    yield* silent.write(upgradeRequest)
    assert.match(textOf(yield* silent.all), /^HTTP\/1\.1 101 /)
  })
)

it.live("closing it in order is to leave, and a break is a break", () =>
  Effect.gen(function* () {
    const closedFor = (reason: string) =>
      Effect.map(Metric.value(Metric.withAttributes(DispatcherMetrics.closed, { reason })), ({ count }) => count)
    const { address, list, register } = yield* dispatcher()
    const invitation = yield* register()
    const [leaving, raw] = [yield* webMember(address.port, invitation), yield* rawClient(address.port)]
    yield* raw.write(upgradeRequest)
    yield* leaving.close
    assert.strictEqual(yield* leaving.closed, 1005)
    yield* until(Effect.map(list, ([session]) => session?.members === 0))
    yield* until(Effect.map(closedFor("Done"), (count) => count === 1))
    const { hello, proof } = handshake(invitation)
    yield* until(Effect.map(raw.received, (bytes) => textOf(bytes).includes("\r\n\r\n")))
    const start = (yield* raw.received).length
    yield* raw.write(maskedFrame(2, hello))
    yield* until(Effect.map(raw.received, ({ length }) => length === start + 2 + Wire.challengeLength))
    yield* raw.write(maskedFrame(2, proof((yield* raw.received).subarray(start + 2))))
    yield* until(Effect.map(list, ([session]) => session?.members === 1))
    raw.socket.resetAndDestroy()
    yield* until(Effect.map(list, ([session]) => session?.members === 0))
    yield* until(Effect.map(closedFor("Unknown"), (count) => count === 1))
    assert.strictEqual(yield* closedFor("Done"), 1)
  }).pipe(Effect.provideService(Metric.CurrentMetricAttributes, { test: "leaving" }))
)

/** A masked frame of a client, with a mask of zeros. */
const maskedFrame = (opcode: number, data: Uint8Array): Uint8Array =>
  new Uint8Array(Buffer.concat([Uint8Array.of(0x80 | opcode, 0x80 | data.length, 0, 0, 0, 0), data]))

it.live("answers a ping, and does not gather answers for one that never reads them", () =>
  Effect.gen(function* () {
    const { address } = yield* dispatcher({ handshakeTimeout: "4 seconds" })
    const client = yield* rawClient(address.port)
    yield* client.write(upgradeRequest)
    yield* client.write(maskedFrame(9, bytesOf("still there?")))
    yield* until(Effect.map(client.received, (bytes) => textOf(bytes).endsWith("still there?")))
    assert.strictEqual(hex((yield* client.received).slice(-14, -12)), "8a0c")
    const before = (yield* client.received).length
    client.socket.pause()
    // More than the kernel's own buffers hold.
    const count = 300_000
    const ping = maskedFrame(9, new Uint8Array(125))
    const pings = Buffer.concat(Array.from({ length: 1000 }, () => ping))
    for (let sent = 0; sent < count; sent += 1000) {
      yield* client.write(pings)
      yield* until(Effect.sync(() => client.socket.writableLength < 1_000_000))
    }
    yield* until(Effect.sync(() => client.socket.writableLength === 0))
    client.socket.resume()
    const answered = ((yield* client.all).length - before) / 127
    assert.isAbove(answered, 0)
    assert.isBelow(answered, count / 2)
  })
)

it.live("members by WebSocket and TCP follow one session with the same client", () =>
  Effect.gen(function* () {
    const { address, register } = yield* dispatcher()
    const invitation = yield* register()
    const web = yield* Session.joinAt([address], { invitation }).pipe(Effect.provide(WebConnector.layer))
    const tcp = yield* Session.joinAt([address], { invitation }).pipe(Effect.provide(NodeConnector.layer))
    const take = (session: Session.Session) =>
      session.messages.pipe(
        Stream.take(200),
        Stream.map(({ data, sequence, stamp }) => [sequence, stamp, textOf(data)]),
        Stream.runCollect
      )
    const heard = yield* Effect.forkChild(Effect.all([take(web), take(tcp)], { concurrency: 2 }))
    for (let i = 0; i < 100; i++) {
      yield* web.send(bytesOf(`web ${i}`))
      yield* tcp.send(bytesOf(`tcp ${i}`))
    }
    const [byWeb, byTcp] = yield* Fiber.join(heard)
    assert.deepStrictEqual(byWeb, byTcp)
    assert.strictEqual(byWeb.length, 200)
    yield* web.serve(Effect.succeed({ sequence: 200, data: new Uint8Array(200_000) }))
    const late = yield* Session.joinAt([address], { invitation, sync: true }).pipe(Effect.provide(WebConnector.layer))
    const [snapshot] = yield* late.events.pipe(Stream.take(1), Stream.runCollect)
    assert.deepInclude(snapshot, { _tag: "Snapshot", sequence: 200 })
    assert.isAbove(yield* late.time, 0)
  })
)

it.live("garbage in place of WebSocket frames closes that connection", () =>
  Effect.gen(function* () {
    const { address, register } = yield* dispatcher()
    const invitation = yield* register()
    const good = yield* webMember(address.port, invitation)
    const attempts = ["ffffffffffff", "8205010203", "82ff ffffffffffffffff 00000000", "c180 00000000", "0980 00000000"]
    for (const bytes of attempts) {
      const client = yield* rawClient(address.port)
      yield* client.write(upgradeRequest)
      yield* until(Effect.map(client.received, (received) => textOf(received).includes("\r\n\r\n")))
      yield* client.write(fromHex(bytes))
      yield* client.all
    }
    yield* good.send(owned(requestOf(good.welcome, "send", bytesOf("untouched"))))
    yield* until(Effect.map(good.frames, (frames) => wordsOf(frames)[0] === "untouched"))
  })
)

it.live("where nobody can be reached the address is named, although the platform says nothing", () =>
  Effect.gen(function* () {
    const address = yield* Effect.scoped(Effect.map(dispatcher(), (one) => one.address))
    const invitation = yield* (yield* dispatcher()).register()
    const joining = Session.joinAt([address, address], { invitation })
    const { reason } = yield* Effect.flip(Effect.provide(joining, WebConnector.layer))
    assert.strictEqual(reason._tag, "Unreachable")
    const why = `127.0.0.1:${address.port}: the connection was refused or broke, and the platform does not say why`
    assert.strictEqual(reason.message, `the dispatcher cannot be reached: ${why}; ${why}`)
  })
)
