import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Capability from "@effect-nat/core/Capability"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as DispatcherError from "@effect-nat/dispatcher/DispatcherError"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as NodeTcpListener from "@effect-nat/dispatcher/NodeTcpListener"
import * as Session from "@effect-nat/dispatcher/Session"
import * as SessionId from "@effect-nat/core/SessionId"
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
  handshake,
  hex,
  loopback,
  makeMapper,
  rawClient,
  rawJoined,
  refusingMapper,
  resolverLayer,
  textOf,
  until,
  wordsOf
} from "./support.ts"

const unknown = SessionId.SessionId.make("f".repeat(32))

const membersOf = (one: Dispatcher.Dispatcher["Service"], id: SessionId.SessionId) =>
  Effect.map(one.lookup(id), (info) => Option.getOrThrow(info).members)

const joinRaw = (one: Dispatcher.Dispatcher["Service"], invitation: Invitation.Invitation) =>
  rawJoined(one.address.port, invitation)

const joinSession = (one: Dispatcher.Dispatcher["Service"], invitation: Invitation.Invitation) =>
  Session.joinAt([one.address], { invitation }).pipe(Effect.provide(NodeConnector.layer))

const wordsAfterJoining = Effect.map((frames: ReadonlyArray<Wire.Frame>) => wordsOf(frames).slice(1))

const reasonOf = <A, E extends { readonly _tag: string }, R>(
  effect: Effect.Effect<A, DispatcherError.DispatcherError | E, R>
) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert(error instanceof DispatcherError.DispatcherError)
    return error.reason
  })

describe("sessions", () => {
  it.live("are registered, looked up, listed and unregistered", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxSessions: 2 })
      assert.deepStrictEqual(yield* one.list, [])
      const first = yield* one.register()
      const capability = Capability.Capability.make("e".repeat(32))
      const second = yield* one.register({ sessionId: unknown, capability })
      assert.deepStrictEqual({ ...second }, { sessionId: unknown, capability })
      assert.notStrictEqual(first.capability, capability)
      assert.deepStrictEqual(yield* one.list, [
        { id: first.sessionId, role: "", members: 0 },
        { id: unknown, role: "", members: 0 }
      ])
      assert.strictEqual((yield* reasonOf(one.register({ sessionId: unknown })))._tag, "SessionExists")
      assert.strictEqual((yield* reasonOf(one.register()))._tag, "TooManySessions")
      assert.isTrue(yield* one.unregister(first.sessionId))
      assert.isFalse(yield* one.unregister(first.sessionId))
      assert.isTrue(Option.isNone(yield* one.lookup(first.sessionId)))
      assert.strictEqual((yield* reasonOf(one.invite(first.sessionId)))._tag, "NoSuchSession")
      yield* one.register({ sessionId: first.sessionId })
    })
  )

  it.live("that are unregistered tell their members, and others go on", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const [ending, staying] = [yield* one.register(), yield* one.register()]
      const member = yield* joinRaw(one, ending)
      const other = yield* joinRaw(one, staying)
      yield* one.unregister(ending.sessionId)
      assert.deepStrictEqual(yield* wordsAfterJoining(member.allFrames), ["Close: SessionClosed"])
      yield* other.ask("send", bytesOf("still here"))
      yield* until(Effect.map(other.frames, (frames) => wordsOf(frames).at(-1) === "still here"))
    })
  )

  it.live("do not hear each other", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const first = yield* joinRaw(one, yield* one.register())
      const second = yield* joinRaw(one, yield* one.register())
      yield* first.ask("send", bytesOf("first"))
      yield* second.ask("send", bytesOf("second"))
      yield* until(Effect.map(first.frames, (frames) => frames.length > 1))
      yield* until(Effect.map(second.frames, (frames) => frames.length > 1))
      assert.deepStrictEqual(yield* wordsAfterJoining(first.frames), ["first"])
      assert.deepStrictEqual(yield* wordsAfterJoining(second.frames), ["second"])
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
      const backlog = yield* Effect.flip(dispatcher({ maxMessageBytes: 200, maxBacklogBytes: 223 }))
      assert(backlog._tag === "DispatcherError" && backlog.reason._tag === "InvalidOption")
      // Whoever comes back would be cut off as too slow by what it missed.
      const log = yield* Effect.flip(dispatcher({ maxMessageBytes: 200, maxBacklogBytes: 1000, maxLogBytes: 501 }))
      assert.strictEqual(log.message, "maxLogBytes must be a whole number from 0 to 500, not 501")
      const small = yield* Effect.flip(dispatcher({ maxMessageBytes: 127 }))
      assert(small._tag === "DispatcherError" && small.reason._tag === "InvalidOption")
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
      const invitation = yield* one.register()
      const member = yield* joinRaw(one, invitation)
      const shaking = yield* rawClient(one.address.port)
      const { hello } = handshake(invitation)
      yield* shaking.write(hello.subarray(0, 6))
      const challenged = yield* rawClient(one.address.port)
      yield* challenged.write(hello)
      yield* until(Effect.map(challenged.received, ({ length }) => length === Wire.challengeLength))
      // One that neither reads nor closes is not waited for longer than its time.
      const stuck = yield* joinRaw(one, invitation)
      stuck.socket.pause()
      assert.strictEqual(yield* Ref.get(made.live), 1)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* wordsAfterJoining(member.allFrames), ["Close: ShuttingDown"])
      assert.strictEqual(hex(yield* shaking.all), hex(Wire.encodeRefused("ShuttingDown")))
      const answer = (yield* challenged.all).subarray(Wire.challengeLength)
      assert.deepStrictEqual(wordsOf(framesIn(answer)), ["Close: ShuttingDown"])
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
      // Those of the tests before may still be closing.
      yield* until(Effect.map(handles, (now) => now === 0))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const one = yield* dispatcher()
          const invitation = yield* one.register()
          yield* joinRaw(one, invitation)
          const session = yield* joinSession(one, invitation)
          yield* session.send(bytesOf("x"))
          assert.isAbove(yield* handles, 2)
        })
      )
      yield* until(Effect.map(handles, (now) => now === 0))
    })
  )
})

describe("the mapping", () => {
  it.live("ends what is watched when it ends, or its mapping is released", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const one = yield* Scope.provide(dispatcher(), scope)
      const drained = [Stream.runDrain(one.changes), Stream.runDrain(one.watch), Stream.runDrain(one.mapping.changes)]
      const watching = yield* Effect.forEach(drained, (drain) => Effect.forkChild(drain))
      const last = watching.at(-1) ?? assert.fail()
      yield* one.mapping.release
      yield* Fiber.join(last)
      yield* Scope.close(scope, Exit.void)
      yield* Effect.forEach(watching, Fiber.join)
    })
  )

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

  it.live("is changed for another, and kept where that one fails or is broken", () =>
    Effect.gen(function* () {
      const [before, after] = [yield* makeMapper, yield* makeMapper]
      const layerOf = (made: typeof before) => Layer.succeed(PortMapper.PortMapper, made.mapper)
      const one = yield* Dispatcher.make({ port: 0, address: loopback }).pipe(
        Effect.provide(Layer.mergeAll(NodeTcpListener.layer, resolverLayer, layerOf(before)))
      )
      const broken = Layer.mock(PortMapper.PortMapper)({ map: () => Effect.die("broken") })
      for (const bad of [refusingMapper, broken]) {
        assert.isTrue(Exit.isFailure(yield* Effect.exit(one.changeStrategy(bad))))
        assert.strictEqual(yield* Ref.get(before.live), 1)
        yield* before.moveTo(12002)
        assert.strictEqual((yield* one.mapping.current).externalPort, 12002)
      }
      yield* one.changeStrategy(layerOf(after))
      assert.deepStrictEqual([yield* Ref.get(before.live), yield* Ref.get(after.live)], [0, 1])
    })
  )

  it.live("its contact point names what opens a session now", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const first = yield* one.register()
      const named = yield* Ref.make<ReadonlyArray<string | undefined>>([])
      const isLast = (capability: string | undefined) =>
        until(Effect.map(Ref.get(named), (all) => all.length > 0 && all.at(-1) === capability))
      yield* one.changes.pipe(
        Stream.runForEach(({ sessions }) => Ref.update(named, (all) => [...all, sessions[0]?.capabilities[0]])),
        Effect.forkScoped
      )
      yield* isLast(first.capability)
      const second = yield* one.invite(first.sessionId)
      yield* one.revoke(first)
      yield* isLast(second.capability)
      yield* one.revoke(second)
      yield* isLast(undefined)
      yield* isLast((yield* one.invite(first.sessionId)).capability)
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
  it.live("are told why, in their own connection only", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxMessageBytes: 200 })
      const invitation = yield* one.register()
      const good = yield* joinSession(one, invitation)
      const answerTo = Effect.fnUntraced(function* (bytes: Uint8Array) {
        const client = yield* rawClient(one.address.port)
        yield* client.write(bytes)
        return hex(yield* client.all)
      }, Effect.scoped)
      const strange = handshake(new Invitation.Invitation({ ...invitation, sessionId: unknown }))
      assert.strictEqual(yield* answerTo(strange.hello), hex(Wire.encodeRefused("UnknownSession")))
      assert.strictEqual(yield* answerTo(fromHex("8e4e4154 02")), hex(Wire.encodeRefused("UnsupportedVersion")))
      assert.strictEqual(yield* answerTo(new Uint8Array(16)), "")
      assert.strictEqual(yield* answerTo(fromHex("16030100")), "")
      const wordsFor = Effect.fnUntraced(function* (bytes: string) {
        const member = yield* joinRaw(one, invitation)
        yield* member.write(fromHex(bytes))
        return yield* wordsAfterJoining(member.allFrames)
      }, Effect.scoped)
      assert.deepStrictEqual(yield* wordsFor("ffffffff"), ["Close: FrameTooLarge"])
      assert.deepStrictEqual(yield* wordsFor("00000000"), ["Close: Malformed"])
      assert.deepStrictEqual(yield* wordsFor(`00000014 00000000 ${"11".repeat(16)}`), ["Close: UnknownFacet"])
      yield* until(Effect.map(membersOf(one, invitation.sessionId), (members) => members === 1))
      yield* good.send(bytesOf("untouched"))
      const [heard] = yield* good.messages.pipe(Stream.take(1), Stream.runCollect)
      assert.deepInclude(heard, { sequence: 1, data: bytesOf("untouched") })
    })
  )

  it.live("that send nothing or half a handshake are sent away after the time limit", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ handshakeTimeout: "500 millis" })
      const invitation = yield* one.register()
      const { hello } = handshake(invitation)
      const answerTo = Effect.fnUntraced(function* (bytes: Uint8Array) {
        const client = yield* rawClient(one.address.port)
        yield* client.write(bytes)
        return yield* client.all
      }, Effect.scoped)
      const timedOut = hex(Wire.encodeRefused("HandshakeTimeout"))
      assert.strictEqual(hex(yield* answerTo(hello.subarray(0, 47))), timedOut)
      assert.strictEqual(hex(yield* answerTo(hello.subarray(0, 3))), "")
      assert.strictEqual(hex(yield* answerTo(new Uint8Array(0))), "")
      const challenged = (yield* answerTo(hello)).subarray(Wire.challengeLength)
      assert.deepStrictEqual(wordsOf(framesIn(challenged)), ["Close: HandshakeTimeout"])
      // Whoever has come in is not under this limit any more.
      const member = yield* joinRaw(one, invitation)
      yield* Effect.sleep("700 millis")
      yield* member.ask("send", bytesOf("patient"))
      yield* until(Effect.map(member.frames, (frames) => wordsOf(frames).at(-1) === "patient"))
    })
  )

  it.live("beyond the limits are refused, and there is room again when others leave", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxMembers: 1, maxHandshakes: 2 })
      const invitation = yield* one.register()
      const { address, register } = one
      const member = yield* joinRaw(one, invitation)
      const full = yield* Effect.flip(joinSession(one, invitation))
      assert.deepInclude(full.reason, { _tag: "Refused", reason: "SessionFull" })
      const [first] = [yield* rawClient(address.port), yield* rawClient(address.port)]
      yield* Effect.sleep("20 millis")
      const third = yield* rawClient(address.port)
      assert.strictEqual(hex(yield* third.all), hex(Wire.encodeRefused("TooManyHandshakes")))
      first.socket.destroy()
      member.socket.destroy()
      yield* until(Effect.map(membersOf(one, invitation.sessionId), (members) => members === 0))
      yield* Effect.sleep("20 millis")
      yield* joinRaw(one, invitation)
      yield* joinRaw(one, yield* register())
    })
  )

  it.live("that send random bytes in random chunks change nothing for others", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxMessageBytes: 128, handshakeTimeout: "1 second" })
      const invitation = yield* one.register()
      const good = yield* joinSession(one, invitation)
      const attack = Effect.fnUntraced(function* (round: number) {
        const noise = new Uint8Array(1 + (yield* Random.nextIntBetween(0, 400)))
        crypto.getRandomValues(noise)
        // Garbage from the first byte, after the magic, in place of a proof, and in the middle of a request.
        const openings = [
          new Uint8Array(0),
          Uint8Array.from([...Wire.magic, 1]),
          handshake(invitation).hello,
          fromHex("0000004001")
        ]
        const client = yield* round % 4 === 3 ? joinRaw(one, invitation) : rawClient(one.address.port)
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
        Stream.take(20),
        Stream.map(({ data }) => textOf(data)),
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
      yield* until(Effect.map(membersOf(one, invitation.sessionId), (members) => members === 1))
    })
  )

  it.live("that do not read are cut off with a reason while others get everything", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxBacklogBytes: 1_048_576, maxMessageBytes: 65_536, closeTimeout: "10 seconds" })
      const invitation = yield* one.register()
      const slow = yield* joinRaw(one, invitation)
      slow.socket.pause()
      const good = yield* joinSession(one, invitation)
      const count = 400
      const lengths = yield* good.messages.pipe(
        Stream.take(count),
        Stream.runFold(
          () => 0,
          (total, { data }) => total + data.length
        ),
        Effect.forkChild
      )
      // More than the kernel's own buffers hold beside the backlog.
      const message = new Uint8Array(60_000)
      for (let i = 0; i < count; i++) {
        yield* good.send(message)
      }
      assert.strictEqual(yield* Fiber.join(lengths), count * message.length)
      yield* until(Effect.map(membersOf(one, invitation.sessionId), (members) => members === 1))
      slow.socket.resume()
      const frames = yield* slow.allFrames
      assert.deepInclude(frames.at(-1), { _tag: "Close", reason: "TooSlow" })
      assert.isBelow(frames.length, count)
    })
  )
})
