import type * as CloseReason from "@effect-nat/dispatcher/CloseReason"
import * as NodeSession from "@effect-nat/dispatcher/NodeSession"
import * as Session from "@effect-nat/dispatcher/Session"
import * as SessionId from "@effect-nat/dispatcher/SessionId"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { bytesOf, dispatcher, fromHex, loopback, textOf, until } from "./support.ts"

const unknown = SessionId.SessionId.make("f".repeat(32))

const take = (session: Session.Session, count: number) =>
  session.messages.pipe(Stream.take(count), Stream.map(textOf), Stream.runCollect)

/** A server that answers each connection with these bytes, and says what became of the connection. */
const serverThatSays = Effect.fnUntraced(function* (answer: Uint8Array, after: "open" | "end") {
  const sockets = new Set<Net.Socket>()
  let open = 0
  const server = yield* Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer((socket) => {
        sockets.add(socket)
        open++
        socket.on("error", () => {})
        socket.on("close", () => open--)
        socket.resume()
        socket.write(answer)
        if (after === "end") socket.end()
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) {
          socket.destroy()
        }
        server.close(() => resume(Effect.void))
      })
  )
  const bound = server.address()
  assert(bound !== null && typeof bound === "object")
  return { address: NetAddress.inetAddressUnsafe(loopback, bound.port), open: Effect.sync(() => open) }
})

const accepted = Wire.encodeAccepted(new Wire.Accepted({ maxFrameBytes: 100 }))

describe("members", () => {
  it.live("two of them exchange messages in order", () =>
    Effect.gen(function* () {
      const { address, register } = yield* dispatcher()
      const sessionId = yield* register()
      const alice = yield* NodeSession.connect({ address, sessionId })
      const bob = yield* NodeSession.connect({ address, sessionId })
      yield* alice.send(bytesOf("hello"))
      assert.deepStrictEqual(yield* take(bob, 1), ["hello"])
      yield* bob.send(bytesOf("hello yourself"))
      assert.deepStrictEqual(yield* take(alice, 2), ["hello", "hello yourself"])
      assert.deepStrictEqual(yield* take(bob, 1), ["hello yourself"])
      yield* bob.send(new Uint8Array(0))
      assert.deepStrictEqual(yield* take(alice, 1), [""])
    })
  )

  it.live("three of them that all send at once see one order", () =>
    Effect.gen(function* () {
      const { address, register } = yield* dispatcher()
      const sessionId = yield* register()
      const sessions = yield* Effect.replicateEffect(NodeSession.connect({ address, sessionId }), 3)
      const each = 500
      const seen = yield* Effect.all(
        sessions.map((session) => take(session, each * 3)),
        { concurrency: "unbounded" }
      ).pipe(Effect.forkChild)
      yield* Effect.forEach(
        sessions,
        (session, who) =>
          Effect.forEach(
            Array.from({ length: each }, (_, n) => `${who}:${n}`),
            (text) => Effect.andThen(session.send(bytesOf(text)), Effect.yieldNow)
          ),
        { concurrency: "unbounded" }
      )
      const [first, second, third] = yield* Fiber.join(seen)
      assert.deepStrictEqual(second, first)
      assert.deepStrictEqual(third, first)
      for (const who of [0, 1, 2]) {
        assert.deepStrictEqual(
          first?.filter((text) => text.startsWith(`${who}:`)),
          Array.from({ length: each }, (_, n) => `${who}:${n}`)
        )
      }
    })
  )

  it.live("may send faster than they read, for they are held to their own pace", () =>
    Effect.gen(function* () {
      const { address, register } = yield* dispatcher({ maxBacklogBytes: 2_097_152 })
      const sessionId = yield* register()
      const session = yield* NodeSession.connect({ address, sessionId })
      const count = 1000
      const message = new Uint8Array(60_000)
      const total = yield* session.messages.pipe(
        Stream.take(count),
        Stream.runFold(
          () => 0,
          (sum, each) => sum + each.length
        ),
        Effect.forkChild
      )
      yield* Effect.forEach(Array.from({ length: count }), () => session.send(message), { discard: true })
      assert.strictEqual(yield* Fiber.join(total), count * message.length)
    })
  )

  it.live("leave with their scope", () =>
    Effect.gen(function* () {
      const { address, lookup, register } = yield* dispatcher()
      const sessionId = yield* register()
      const members = Effect.map(lookup(sessionId), (info) => Option.getOrThrow(info).members)
      const scope = yield* Scope.make()
      const session = yield* NodeSession.connect({ address, sessionId }).pipe(Scope.provide(scope))
      const rest = yield* Effect.forkChild(Stream.runCollect(session.messages))
      assert.strictEqual(yield* members, 1)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Fiber.join(rest), [])
      yield* until(Effect.map(members, (count) => count === 0))
    })
  )

  it.live("learn why their connection was closed, after the last message, and cannot send any more", () =>
    Effect.gen(function* () {
      const { address, register, unregister } = yield* dispatcher()
      const sessionId = yield* register()
      const session = yield* NodeSession.connect({ address, sessionId })
      yield* session.send(bytesOf("last"))
      assert.deepStrictEqual(yield* take(session, 1), ["last"])
      yield* unregister(sessionId)
      const error = yield* Effect.flip(Stream.runDrain(session.messages))
      assert.deepInclude(error.reason, { _tag: "Closed", reason: "SessionClosed" })
      assert.strictEqual(error.message, "the connection was closed: the session was closed")
      const refused = yield* Effect.flip(session.send(bytesOf("too late")))
      assert.deepInclude(refused.reason, { _tag: "Closed", reason: "SessionClosed" })
    })
  )

  it.live("are told before anything is sent that a message is too large", () =>
    Effect.gen(function* () {
      const { address, register } = yield* dispatcher({ maxFrameBytes: 100 })
      const session = yield* NodeSession.connect({ address, sessionId: yield* register() })
      assert.strictEqual(session.maxMessageBytes, 99)
      const error = yield* Effect.flip(session.send(new Uint8Array(100)))
      assert.deepInclude(error.reason, { _tag: "MessageTooLarge", size: 100, limit: 99 })
      yield* session.send(new Uint8Array(99))
      assert.strictEqual((yield* take(session, 1))[0]?.length, 99)
    })
  )
})

describe("joining fails", () => {
  const joinAt = (address: NetAddress.InetAddress, sessionId = unknown) =>
    Effect.map(Effect.flip(NodeSession.connect({ address, sessionId })), (error) => error.reason)

  it.live("where there is no such session, or no room in it", () =>
    Effect.gen(function* () {
      const { address, register } = yield* dispatcher({ maxMembers: 1 })
      assert.strictEqual((yield* joinAt(address))._tag, "UnknownSession")
      const sessionId = yield* register()
      yield* NodeSession.connect({ address, sessionId })
      assert.deepInclude(yield* joinAt(address, sessionId), { _tag: "Refused", reason: "SessionFull" })
    })
  )

  it.live("where nobody listens", () =>
    Effect.gen(function* () {
      const address = yield* Effect.scoped(Effect.map(dispatcher(), (one) => one.address))
      const reason = yield* joinAt(address)
      assert(reason._tag === "Unreachable")
      assert.include(reason.message, "ECONNREFUSED")
    })
  )

  it.live("where something else answers, and closes that connection at once", () =>
    Effect.gen(function* () {
      const answers = [
        bytesOf("HTTP/1.1 400 Bad Request\r\n\r\n"),
        fromHex("8e4e4154 01 00 ffff"),
        fromHex("8e4e4154 02 00 0000")
      ]
      for (const answer of answers) {
        const { address, open } = yield* serverThatSays(answer, "open")
        assert.strictEqual((yield* joinAt(address))._tag, "NotADispatcher")
        yield* until(Effect.map(open, (count) => count === 0))
      }
      const silent = yield* serverThatSays(new Uint8Array(0), "end")
      assert.strictEqual((yield* joinAt(silent.address))._tag, "NotADispatcher")
      const later = yield* serverThatSays(fromHex("8e4e4154 03 01 0000"), "end")
      assert.deepInclude(yield* joinAt(later.address), { _tag: "UnsupportedVersion", version: 3 })
    })
  )

  it.effect("where no answer comes in time", () =>
    Effect.gen(function* () {
      const mute = Socket.make({
        reader: Effect.succeed({ pull: Effect.never, upgrade: () => Effect.void }),
        writer: Effect.succeed({ write: () => Effect.void, writeAll: () => Effect.void })
      })
      const joining = yield* Effect.forkChild(Effect.flip(Session.fromSocket(mute, { sessionId: unknown })))
      yield* TestClock.adjust("4999 millis")
      assert.strictEqual(joining.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(joining)
      assert.deepInclude(error.reason, { _tag: "TimedOut", milliseconds: 5000 })
    })
  )
})

describe("a dispatcher that breaks the rules", () => {
  const cases: ReadonlyArray<readonly [string, string, CloseReason.CloseReason]> = [
    ["a frame larger than it announced", "00000065 01", "FrameTooLarge"],
    ["a frame without a type", "00000000", "Malformed"],
    ["a frame that must be known and is not", "00000001 10", "UnknownFrameType"],
    ["more frames after the last one", "00000002 020a 00000003 01 6868 00000002 0208", "SessionClosed"],
    ["a frame that may be skipped, then an unknown reason", "00000001 90 00000002 02ee", "Unknown"]
  ]
  it.live("ends the session with a reason, and the connection with it", () =>
    Effect.gen(function* () {
      for (const [name, frames, reason] of cases) {
        const { address, open } = yield* serverThatSays(
          Buffer.concat([accepted, fromHex(`00000003 01 6869 ${frames}`)]),
          "open"
        )
        const session = yield* NodeSession.connect({ address, sessionId: unknown })
        const messages: Array<string> = []
        const error = yield* session.messages.pipe(
          Stream.runForEach((message) => Effect.sync(() => messages.push(textOf(message)))),
          Effect.flip
        )
        assert.deepStrictEqual(messages, ["hi"], name)
        assert.deepInclude(error.reason, { _tag: "Closed", reason }, name)
        yield* until(Effect.map(open, (count) => count === 0))
      }
    })
  )

  it.live("or just goes away, ends it without one", () =>
    Effect.gen(function* () {
      const { address } = yield* serverThatSays(Buffer.concat([accepted, fromHex("00000009 01 00")]), "end")
      const session = yield* NodeSession.connect({ address, sessionId: unknown })
      const error = yield* Effect.flip(Stream.runDrain(session.messages))
      assert.deepInclude(error.reason, { _tag: "Closed", reason: undefined })
    })
  )
})

it("needs nothing of Node on the way of a browser", () => {
  const seen = new Set<string>()
  const visit = (module: string) => {
    if (seen.has(module)) return
    seen.add(module)
    const source = Fs.readFileSync(new URL(`../../packages/dispatcher/src/${module}`, import.meta.url), "utf8")
    assert.notMatch(source, /from "(?:node:|@effect\/platform-node)|\bBuffer\b|\bprocess\./, module)
    for (const [, next] of source.matchAll(/from "\.\/([^"]+)"/g)) {
      if (next !== undefined) visit(next)
    }
  }
  visit("Session.ts")
  assert.isTrue(seen.has("Wire.ts"))
})
