import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as NodeSession from "@effect-nat/dispatcher/NodeSession"
import * as NodeTcpListener from "@effect-nat/dispatcher/NodeTcpListener"
import * as SessionId from "@effect-nat/dispatcher/SessionId"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  bytesOf,
  dispatcher,
  environment,
  framesIn,
  fromHex,
  hex,
  loopback,
  makeMapper,
  rawClient,
  refusingMapper,
  resolverLayer,
  textOf,
  until
} from "./support.ts"

const unknown = SessionId.SessionId.make("f".repeat(32))

const helloTo = (sessionId: SessionId.SessionId) => Wire.encodeHello(new Wire.Hello({ sessionId, extensions: [] }))

const acceptedReply = (maxFrameBytes: number) => Wire.encodeAccepted(new Wire.Accepted({ maxFrameBytes }))

const membersOf = (one: Dispatcher.Dispatcher["Service"], id: SessionId.SessionId) =>
  Effect.map(one.lookup(id), (info) => Option.getOrThrow(info).members)

/** A bare client that has joined. */
const joinRaw = Effect.fnUntraced(function* (
  one: Dispatcher.Dispatcher["Service"],
  id: SessionId.SessionId,
  options?: { readonly paused?: boolean }
) {
  const before = yield* membersOf(one, id)
  const client = yield* rawClient(one.address.port, options)
  yield* client.write(helloTo(id))
  yield* until(Effect.map(membersOf(one, id), (members) => members === before + 1))
  return client
})

const reasonOf = <A, E extends { readonly _tag: string }, R>(
  effect: Effect.Effect<A, Dispatcher.DispatcherError | E, R>
) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert(error instanceof Dispatcher.DispatcherError)
    return error.reason
  })

describe("sessions", () => {
  it.live("are registered, looked up, listed and unregistered", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxSessions: 2 })
      assert.deepStrictEqual(yield* one.list, [])
      const first = yield* one.register()
      const second = yield* one.register(unknown)
      assert.strictEqual(second, unknown)
      assert.deepStrictEqual(yield* one.list, [
        { id: first, members: 0 },
        { id: second, members: 0 }
      ])
      assert.strictEqual((yield* reasonOf(one.register(unknown)))._tag, "SessionExists")
      assert.strictEqual((yield* reasonOf(one.register()))._tag, "TooManySessions")
      assert.isTrue(yield* one.unregister(first))
      assert.isFalse(yield* one.unregister(first))
      assert.isTrue(Option.isNone(yield* one.lookup(first)))
      yield* one.register(first)
    })
  )

  it.live("that are unregistered tell their members, and others go on", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const [ending, staying] = [yield* one.register(), yield* one.register()]
      const member = yield* joinRaw(one, ending)
      const other = yield* joinRaw(one, staying)
      yield* one.unregister(ending)
      const received = yield* member.all
      assert.deepStrictEqual(framesIn(received.subarray(16)), [{ _tag: "Close", reason: "SessionClosed" }])
      yield* other.write(Wire.encodeMessage(bytesOf("still here")))
      yield* until(Effect.map(other.received, (bytes) => textOf(bytes).endsWith("still here")))
    })
  )

  it.live("do not hear each other", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const first = yield* joinRaw(one, yield* one.register())
      const second = yield* joinRaw(one, yield* one.register())
      yield* first.write(Wire.encodeMessage(bytesOf("first")))
      yield* second.write(Wire.encodeMessage(bytesOf("second")))
      yield* until(Effect.map(first.received, (bytes) => bytes.length > 16))
      yield* until(Effect.map(second.received, (bytes) => bytes.length > 16))
      assert.strictEqual(hex((yield* first.received).subarray(16)), hex(Wire.encodeMessage(bytesOf("first"))))
      assert.strictEqual(hex((yield* second.received).subarray(16)), hex(Wire.encodeMessage(bytesOf("second"))))
    })
  )
})

describe("listening", () => {
  const bind = (port: number, address?: string) =>
    Dispatcher.make({
      port,
      ...(address === undefined ? {} : { address: NetAddress.ipFromStringUnsafe(address) })
    }).pipe(Effect.provide(environment), Effect.scoped)

  it.live("on a port in use is a clear error and not another port", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const reason = yield* reasonOf(bind(one.address.port, "127.0.0.1"))
      assert(reason._tag === "AddressInUse")
      assert.strictEqual(reason.port, one.address.port)
      assert.include(reason.message, `port ${one.address.port} is in use`)
      assert.strictEqual((yield* reasonOf(bind(one.address.port)))._tag, "AddressInUse")
    })
  )

  it.live("on an address of another host is a clear error", () =>
    Effect.gen(function* () {
      const reason = yield* reasonOf(bind(0, "203.0.113.1"))
      assert(reason._tag === "AddressNotAvailable")
      assert.strictEqual(reason.address, "203.0.113.1")
    })
  )

  it.effect("maps what the system says to reasons, and keeps nothing open", () =>
    Effect.gen(function* () {
      const refused = yield* Effect.flip(bind(70000))
      assert(refused._tag === "DispatcherError")
      assert.strictEqual(refused.message, "the port must be a whole number from 0 to 65535, not 70000")
      const backlog = yield* Effect.flip(dispatcher({ maxFrameBytes: 100, maxBacklogBytes: 103 }))
      assert(backlog._tag === "DispatcherError" && backlog.reason._tag === "InvalidOption")
      const time = yield* Effect.flip(dispatcher({ handshakeTimeout: "Infinity" }))
      assert(time._tag === "DispatcherError" && time.reason._tag === "InvalidOption")
    })
  )

  it.live("obeys the address and port that it is given", () =>
    Effect.gen(function* () {
      const free = yield* Effect.scoped(Effect.map(dispatcher(), (one) => one.address.port))
      const address = NetAddress.ipFromStringUnsafe("127.0.0.2")
      const one = yield* Dispatcher.make({ port: free, address }).pipe(Effect.provide(environment))
      assert.strictEqual(NetAddress.formatInet(one.address), `127.0.0.2:${free}`)
      // The same port at another address is still free: it listens at its own address only.
      yield* bind(free, "127.0.0.1")
    })
  )

  it.live("ends with its scope: peers are told, the port is free and the mapping gone", () =>
    Effect.gen(function* () {
      const made = yield* makeMapper
      const scope = yield* Scope.make()
      const one = yield* Dispatcher.make({ port: 0, address: loopback, limits: { closeTimeout: "200 millis" } }).pipe(
        Effect.provide(Layer.mergeAll(NodeTcpListener.layer, resolverLayer)),
        Effect.provideService(PortMapper.PortMapper, made.mapper),
        Scope.provide(scope)
      )
      const id = yield* one.register()
      const member = yield* joinRaw(one, id)
      const shaking = yield* rawClient(one.address.port)
      yield* shaking.write(helloTo(id).subarray(0, 6))
      // One that neither reads nor closes is not waited for longer than its time.
      const stuck = yield* joinRaw(one, id, { paused: true })
      assert.strictEqual(yield* Ref.get(made.live), 1)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(framesIn((yield* member.all).subarray(16)), [{ _tag: "Close", reason: "ShuttingDown" }])
      assert.strictEqual(hex(yield* shaking.all), hex(Wire.encodeRefused("ShuttingDown")))
      stuck.socket.resume()
      yield* stuck.all
      assert.strictEqual(yield* Ref.get(made.live), 0)
      yield* bind(one.address.port, "127.0.0.1")
    })
  )

  it.live("leaves no handle of this process open", () =>
    Effect.gen(function* () {
      const handles = Effect.sync(
        () => process.getActiveResourcesInfo().filter((name) => name.startsWith("TCP") || name === "Immediate").length
      )
      const before = yield* handles
      yield* Effect.scoped(
        Effect.gen(function* () {
          const one = yield* dispatcher()
          const id = yield* one.register()
          yield* joinRaw(one, id)
          const session = yield* NodeSession.connect({ address: one.address, sessionId: id })
          yield* session.send(bytesOf("x"))
          assert.isAbove(yield* handles, before)
        })
      )
      yield* until(Effect.map(handles, (now) => now <= before))
    })
  )
})

describe("the mapping", () => {
  it.live("is asked of the strategy for the port listened on, and followed by the contact point", () =>
    Effect.gen(function* () {
      const made = yield* makeMapper
      const one = yield* Dispatcher.make({
        port: 0,
        address: loopback,
        externalPort: 12001,
        name: "test",
        description: "a session",
        lifetime: "1 hour"
      }).pipe(
        Effect.provide(Layer.mergeAll(NodeTcpListener.layer, resolverLayer)),
        Effect.provideService(PortMapper.PortMapper, made.mapper)
      )
      const [request] = yield* Ref.get(made.requests)
      assert.deepInclude(request, {
        protocol: "tcp",
        internalPort: one.address.port,
        externalPort: 12001,
        internalAddress: loopback,
        description: "a session",
        lifetime: "1 hour"
      })
      const contactPoint = yield* one.contactPoint
      assert.strictEqual(contactPoint.name, "test")
      assert.strictEqual(
        ContactPoint.format(contactPoint),
        `internal 127.0.0.1:${one.address.port}; external 203.0.113.7:12001`
      )
      const changes = yield* one.changes.pipe(Stream.take(2), Stream.runCollect, Effect.forkChild)
      yield* Effect.sleep("20 millis")
      yield* made.moveTo(12002)
      assert.deepStrictEqual(
        (yield* Fiber.join(changes)).map((each) => each.external.map((external) => external.address.port)),
        [[12001], [12002]]
      )
      assert.strictEqual((yield* one.contactPoint).external[0]?.address.port, 12002)
    })
  )

  it.live("that fails is the caller's choice, and leaves the port free for another try", () =>
    Effect.gen(function* () {
      const free = yield* Effect.scoped(Effect.map(dispatcher(), (one) => one.address.port))
      const attempt = (layer: Layer.Layer<PortMapper.PortMapper>) =>
        Dispatcher.make({ port: free, address: loopback }).pipe(
          Effect.provide(Layer.mergeAll(NodeTcpListener.layer, resolverLayer, layer))
        )
      const made = yield* makeMapper
      const one = yield* attempt(refusingMapper).pipe(
        Effect.catchReason("NatError", "NoGateway", () => attempt(Layer.succeed(PortMapper.PortMapper, made.mapper)))
      )
      assert.strictEqual(one.address.port, free)
    })
  )

  it.live("is not asked for where the port cannot be listened on", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const made = yield* makeMapper
      const error = yield* Dispatcher.make({ port: one.address.port, address: loopback }).pipe(
        Effect.provide(Layer.mergeAll(NodeTcpListener.layer, resolverLayer)),
        Effect.provideService(PortMapper.PortMapper, made.mapper),
        Effect.flip
      )
      assert.strictEqual(error._tag, "DispatcherError")
      assert.deepStrictEqual(yield* Ref.get(made.requests), [])
    })
  )
})

describe("hostile peers", () => {
  /** What a client gets that sends these bytes and then waits. */
  const answerTo = Effect.fnUntraced(function* (one: Dispatcher.Dispatcher["Service"], bytes: Uint8Array) {
    const client = yield* rawClient(one.address.port)
    yield* client.write(bytes)
    return yield* client.all
  }, Effect.scoped)

  it.live("are told why, in their own connection only", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxFrameBytes: 100 })
      const id = yield* one.register()
      const good = yield* NodeSession.connect({ address: one.address, sessionId: id })
      const refused = (reason: Parameters<typeof Wire.encodeRefused>[0]) => hex(Wire.encodeRefused(reason))
      const joined = hex(acceptedReply(100))
      const closed = (reason: Parameters<typeof Wire.encodeClose>[0]) => `${joined}${hex(Wire.encodeClose(reason))}`
      const required = new Wire.Extension({ type: 0x8001, value: new Uint8Array(0) })
      const optional = new Wire.Extension({ type: 0x0001, value: new Uint8Array(3) })
      const hello = hex(helloTo(id))
      const cases: ReadonlyArray<readonly [string, Uint8Array, string]> = [
        ["unknown session", helloTo(unknown), refused("UnknownSession")],
        ["later version", fromHex("8e4e4154 02"), refused("UnsupportedVersion")],
        ["extensions too long", fromHex("8e4e4154 01 00 ffff"), refused("Malformed")],
        [
          "required extension",
          Wire.encodeHello(new Wire.Hello({ sessionId: id, extensions: [required] })),
          refused("UnsupportedExtension")
        ],
        ["frame of 4 GiB", fromHex(`${hello} ffffffff`), closed("FrameTooLarge")],
        ["frame over the limit", fromHex(`${hello} 00000065 01`), closed("FrameTooLarge")],
        ["frame without a type", fromHex(`${hello} 00000000`), closed("Malformed")],
        ["unknown frame type", fromHex(`${hello} 00000001 7f 00000003 01 6869`), closed("UnknownFrameType")],
        ["done, after an ignorable frame", fromHex(`${hello} 00000002 ff00 00000002 0200 00000003 01 6869`), joined],
        [
          "done, after an optional extension",
          fromHex(`${hex(Wire.encodeHello(new Wire.Hello({ sessionId: id, extensions: [optional] })))} 00000002 0200`),
          joined
        ],
        ["16 bytes of garbage", new Uint8Array(16), ""],
        ["HTTP", bytesOf("GET / HTTP/1.1\r\n\r\n"), ""],
        ["TLS", fromHex("16030100"), ""]
      ]
      for (const [name, bytes, answer] of cases) {
        assert.strictEqual(hex(yield* answerTo(one, bytes)), answer, name)
      }
      yield* until(Effect.map(membersOf(one, id), (members) => members === 1))
      yield* good.send(bytesOf("untouched"))
      assert.deepStrictEqual(yield* good.messages.pipe(Stream.take(1), Stream.map(textOf), Stream.runCollect), [
        "untouched"
      ])
    })
  )

  it.live("that send nothing or half a handshake are sent away after the time limit", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ handshakeTimeout: "50 millis" })
      const id = yield* one.register()
      assert.strictEqual(
        hex(yield* answerTo(one, helloTo(id).subarray(0, 23))),
        hex(Wire.encodeRefused("HandshakeTimeout"))
      )
      assert.strictEqual(hex(yield* answerTo(one, helloTo(id).subarray(0, 3))), "")
      assert.strictEqual(hex(yield* answerTo(one, new Uint8Array(0))), "")
      // Whoever has joined is not under this limit any more.
      const member = yield* joinRaw(one, id)
      yield* Effect.sleep("100 millis")
      yield* member.write(Wire.encodeMessage(bytesOf("patient")))
      yield* until(Effect.map(member.received, (bytes) => textOf(bytes).endsWith("patient")))
    })
  )

  it.live("beyond the limits are refused, and there is room again when others leave", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxMembers: 1, maxHandshakes: 2 })
      const id = yield* one.register()
      const member = yield* joinRaw(one, id)
      assert.strictEqual(hex(yield* answerTo(one, helloTo(id))), hex(Wire.encodeRefused("SessionFull")))
      const [first] = [yield* rawClient(one.address.port), yield* rawClient(one.address.port)]
      yield* Effect.sleep("20 millis")
      assert.strictEqual(hex(yield* answerTo(one, helloTo(id))), hex(Wire.encodeRefused("TooManyHandshakes")))
      first.socket.destroy()
      member.socket.destroy()
      yield* until(Effect.map(membersOf(one, id), (members) => members === 0))
      yield* Effect.sleep("20 millis")
      yield* joinRaw(one, id)
    })
  )

  it.live("that send random bytes in random chunks change nothing for others", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxFrameBytes: 64, handshakeTimeout: "1 second" })
      const id = yield* one.register()
      const victim = yield* NodeSession.connect({ address: one.address, sessionId: unknown }).pipe(Effect.flip)
      assert.strictEqual(victim.reason._tag, "UnknownSession")
      const good = yield* NodeSession.connect({ address: one.address, sessionId: id })
      const attack = Effect.fnUntraced(function* (round: number) {
        const client = yield* rawClient(one.address.port)
        const noise = new Uint8Array(1 + (yield* Random.nextIntBetween(0, 400)))
        crypto.getRandomValues(noise)
        // Garbage from the first byte, after the magic, in place of frames, and in the middle of one.
        const openings = [
          new Uint8Array(0),
          Uint8Array.from([...Wire.magic, 1]),
          helloTo(id),
          fromHex(`${hex(helloTo(id))}0000004001`)
        ]
        const bytes = Buffer.concat([openings[round % 4] ?? noise, noise])
        let offset = 0
        while (offset < bytes.length) {
          const end = offset + 1 + (yield* Random.nextIntBetween(0, 60))
          yield* client.write(bytes.subarray(offset, end))
          yield* Effect.yieldNow
          offset = end
        }
        client.socket.end()
        yield* client.all
      }, Effect.scoped)
      const messages = yield* good.messages.pipe(
        Stream.filter((message) => textOf(message).startsWith("good ")),
        Stream.take(20),
        Stream.map(textOf),
        Stream.runCollect,
        Effect.forkChild
      )
      for (let round = 0; round < 20; round++) {
        yield* Effect.all([attack(0), attack(1), attack(2), attack(3)], { concurrency: "unbounded" })
        yield* good.send(bytesOf(`good ${round}`))
      }
      assert.deepStrictEqual(
        yield* Fiber.join(messages),
        Array.from({ length: 20 }, (_, round) => `good ${round}`)
      )
      yield* until(Effect.map(membersOf(one, id), (members) => members === 1))
    })
  )

  it.live("that do not read are cut off with a reason while others get everything", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxBacklogBytes: 1_048_576, maxFrameBytes: 65_536, closeTimeout: "10 seconds" })
      const id = yield* one.register()
      const slow = yield* joinRaw(one, id, { paused: true })
      const good = yield* NodeSession.connect({ address: one.address, sessionId: id })
      const count = 400
      const lengths = yield* good.messages.pipe(
        Stream.take(count),
        Stream.runFold(
          () => 0,
          (total, message) => total + message.length
        ),
        Effect.forkChild
      )
      // More than the kernel's own buffers hold beside the backlog.
      const message = new Uint8Array(60_000)
      for (let i = 0; i < count; i++) {
        yield* good.send(message)
      }
      assert.strictEqual(yield* Fiber.join(lengths), count * message.length)
      yield* until(Effect.map(membersOf(one, id), (members) => members === 1))
      const received: Array<Uint8Array> = []
      slow.socket.on("data", (chunk: Uint8Array) => received.push(chunk))
      slow.socket.resume()
      yield* slow.all
      const frames = framesIn(Buffer.concat(received).subarray(16))
      assert.deepStrictEqual(frames.at(-1), { _tag: "Close", reason: "TooSlow" })
      assert.isBelow(frames.length, count)
    })
  )
})
