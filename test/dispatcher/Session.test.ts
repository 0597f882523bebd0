import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Connector from "@effect-nat/dispatcher/Connector"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as Facet from "@effect-nat/dispatcher/Facet"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as Session from "@effect-nat/dispatcher/Session"
import type * as SessionError from "@effect-nat/dispatcher/SessionError"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { makeProxy } from "./proxy.ts"
import { bytesOf, dispatcher, environment, fromHex, hex, loopback, proofOf, textOf, until } from "./support.ts"

type One = Dispatcher.Dispatcher["Service"]

const unknown = Result.getOrThrow(Invitation.fromString(`${"f".repeat(32)}.${"e".repeat(32)}`))

type Options = Omit<Session.JoinOptions, "invitation">

const joinAt = (address: NetAddress.InetAddress, invitation: Invitation.Invitation, options?: Options) =>
  Session.joinAt([address], { invitation, ...options }).pipe(Effect.provide(NodeConnector.layer))

const join = ({ address }: One, invitation: Invitation.Invitation, options?: Options) =>
  joinAt(address, invitation, options)

const take = (session: Session.Session, count: number) =>
  session.messages.pipe(
    Stream.take(count),
    Stream.map(({ data }) => textOf(data)),
    Stream.runCollect
  )

const membersOf = (one: One, invitation: Invitation.Invitation) =>
  Effect.map(one.lookup(invitation.sessionId), (info) => Option.getOrThrow(info).members)

const reasonOf = <A, R>(effect: Effect.Effect<A, SessionError.SessionError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

/** A server of any kind: what it does with a connection, and how many are open. */
const serverThat = Effect.fnUntraced(function* (serve: (socket: Net.Socket) => void) {
  const sockets = new Set<Net.Socket>()
  const server = yield* Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
        serve(socket)
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
  return { address: NetAddress.inetAddressUnsafe(loopback, bound.port), open: Effect.sync(() => sockets.size) }
})

const serverThatSays = (answer: Uint8Array, after: "open" | "end") =>
  serverThat((socket) => {
    socket.resume()
    socket.write(answer)
    if (after === "end") socket.end()
  })

describe("members", () => {
  it.live("two of them exchange messages in order, with numbers and times", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const alice = yield* join(one, invitation)
      const bob = yield* join(one, invitation)
      yield* alice.send(bytesOf("hello"))
      const [hello] = yield* bob.messages.pipe(Stream.take(1), Stream.runCollect)
      assert.deepInclude(hello, { _tag: "Message", sequence: 1, data: bytesOf("hello") })
      yield* bob.send(bytesOf("hello yourself"))
      yield* bob.send(new Uint8Array(0))
      const heard = yield* alice.messages.pipe(Stream.take(3), Stream.runCollect)
      assert.deepStrictEqual(
        heard.map(({ data, sequence }) => [sequence, textOf(data)]),
        [
          [1, "hello"],
          [2, "hello yourself"],
          [3, ""]
        ]
      )
      assert.strictEqual(heard[0]?.stamp, hello?.stamp)
      assert.isAtLeast(yield* alice.time, heard[2]?.stamp ?? Number.POSITIVE_INFINITY)
      assert.strictEqual(NetAddress.formatInet(yield* alice.address), NetAddress.formatInet(one.address))
    })
  )

  it.live("three of them that all send at once see one order", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const sessions = yield* Effect.replicateEffect(join(one, yield* one.register()), 3)
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
      const one = yield* dispatcher({ maxBacklogBytes: 2_097_152 })
      const session = yield* join(one, yield* one.register())
      const count = 1000
      const message = new Uint8Array(60_000)
      const total = yield* session.messages.pipe(
        Stream.take(count),
        Stream.runFold(
          () => 0,
          (sum, { data }) => sum + data.length
        ),
        Effect.forkChild
      )
      yield* Effect.forEach(Array.from({ length: count }), () => session.send(message), { discard: true })
      assert.strictEqual(yield* Fiber.join(total), count * message.length)
    })
  )

  it.live("leave with their scope, with what they have sent", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const listener = yield* join(one, invitation)
      const scope = yield* Scope.make()
      const session = yield* join(one, invitation).pipe(Scope.provide(scope))
      const rest = yield* Effect.forkChild(Stream.runCollect(session.messages))
      assert.strictEqual(yield* membersOf(one, invitation), 2)
      yield* session.send(bytesOf("last words"))
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(rest)
      assert.deepStrictEqual(yield* take(listener, 1), ["last words"])
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
    })
  )

  it.live("learn that the session is over, after the last message, and cannot send any more", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const session = yield* joinAt(proxy.address, invitation)
      yield* session.send(bytesOf("last"))
      assert.deepStrictEqual(yield* take(session, 1), ["last"])
      yield* one.unregister(invitation.sessionId)
      const error = yield* Effect.flip(Stream.runDrain(session.messages))
      assert.deepInclude(error.reason, { _tag: "Closed", reason: "SessionClosed" })
      assert.strictEqual(error.message, "the connection was closed: the session was closed")
      for (const after of [session.send(bytesOf("too late")), session.time, session.serve(Effect.never)]) {
        assert.deepInclude(yield* reasonOf(after), { _tag: "Closed", reason: "SessionClosed" })
      }
      assert.strictEqual(yield* proxy.accepted, 1)
    })
  )

  it.live("learn that their invitation was revoked, at once", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const guest = yield* one.invite(invitation.sessionId)
      const proxy = yield* makeProxy(one.address)
      const session = yield* joinAt(proxy.address, guest)
      const owner = yield* join(one, invitation)
      yield* one.revoke(guest)
      assert.deepInclude(yield* reasonOf(Stream.runDrain(session.messages)), { _tag: "Closed", reason: "Revoked" })
      assert.strictEqual(yield* proxy.accepted, 1)
      yield* owner.send(bytesOf("still here"))
      assert.deepStrictEqual(yield* take(owner, 1), ["still here"])
    })
  )

  it.live("are told before anything is sent that a message is too large, or not theirs to send", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxMessageBytes: 200 })
      const invitation = yield* one.register()
      const session = yield* join(one, invitation)
      assert.strictEqual(session.maxMessageBytes, 200)
      const reason = yield* reasonOf(session.send(new Uint8Array(201)))
      assert.deepInclude(reason, { _tag: "MessageTooLarge", size: 201, limit: 200 })
      yield* session.send(new Uint8Array(200))
      assert.strictEqual((yield* take(session, 1))[0]?.length, 200)
      const watching = yield* one.invite(invitation.sessionId, Facet.watching)
      const watcher = yield* join(one, watching)
      assert.deepInclude(yield* reasonOf(watcher.send(bytesOf("x"))), { _tag: "NotGranted", facet: "send" })
      assert.deepInclude(yield* reasonOf(watcher.serve(Effect.never)), { _tag: "NotGranted", facet: "beServer" })
      yield* session.send(bytesOf("seen"))
      assert.deepStrictEqual(yield* take(watcher, 1), ["seen"])
      const speaking = yield* one.invite(invitation.sessionId, ["send"])
      assert.deepInclude(yield* reasonOf(join(one, speaking)), { _tag: "NotGranted", facet: "join" })
      const quiet = yield* one.invite(invitation.sessionId, ["join"])
      assert.deepInclude(yield* reasonOf(join(one, quiet, { tickInterval: "1 second" })), {
        _tag: "NotGranted",
        facet: "heartbeat"
      })
    })
  )

  it.live("hear the time as often as they like while nobody says anything", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const session = yield* join(one, yield* one.register(), { tickInterval: "10 millis" })
      const ticks = yield* session.events.pipe(Stream.take(3), Stream.runCollect)
      assert.deepStrictEqual(
        ticks.map(({ _tag, sequence }) => [_tag, sequence]),
        [
          ["Tick", 0],
          ["Tick", 0],
          ["Tick", 0]
        ]
      )
    })
  )
})

describe("joining fails", () => {
  it.live("where there is no such session, the capability is another one, or there is no room", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxMembers: 1 })
      assert.strictEqual((yield* reasonOf(join(one, unknown)))._tag, "UnknownSession")
      const invitation = yield* one.register()
      const wrong = new Invitation.Invitation({ ...invitation, capability: unknown.capability })
      assert.deepInclude(yield* reasonOf(join(one, wrong)), { _tag: "Refused", reason: "NotGranted" })
      yield* join(one, invitation)
      assert.deepInclude(yield* reasonOf(join(one, invitation)), { _tag: "Refused", reason: "SessionFull" })
    })
  )

  it.live("where nobody listens", () =>
    Effect.gen(function* () {
      const address = yield* Effect.scoped(Effect.map(dispatcher(), (one) => one.address))
      const reason = yield* reasonOf(joinAt(address, unknown))
      assert(reason._tag === "Unreachable")
      const where = NetAddress.formatInet(address)
      assert.strictEqual(reason.message, `the dispatcher cannot be reached: connect ECONNREFUSED ${where}`)
    })
  )

  it.live("where something else answers, and closes that connection at once", () =>
    Effect.gen(function* () {
      const rest = "00".repeat(32)
      const answers = [
        bytesOf("HTTP/1.1 400 Bad Request\r\n\r\n"),
        fromHex("8e4e4154 01 00 ffff"),
        fromHex("8e4e4154 02 00 0000"),
        fromHex(`8e4e4154 01 00 0000 ${rest}`),
        fromHex(`8e4e4154 01 00 0004 ${rest} 8001 0000`)
      ]
      for (const answer of answers) {
        const { address, open } = yield* serverThatSays(answer, "open")
        assert.strictEqual((yield* reasonOf(joinAt(address, unknown)))._tag, "NotADispatcher")
        yield* until(Effect.map(open, (count) => count === 0))
      }
      const silent = yield* serverThatSays(new Uint8Array(0), "end")
      assert.strictEqual((yield* reasonOf(joinAt(silent.address, unknown)))._tag, "NotADispatcher")
      const later = yield* serverThatSays(fromHex("8e4e4154 03 01 0000"), "end")
      assert.deepInclude(yield* reasonOf(joinAt(later.address, unknown)), { _tag: "UnsupportedVersion", version: 3 })
    })
  )

  it.live("where an impostor speaks the protocol, which learns nothing that opens the session", () =>
    Effect.gen(function* () {
      const { capability, sessionId } = unknown
      const impostors: ReadonlyArray<(hello: Uint8Array, nonce: Uint8Array) => Uint8Array> = [
        // Whatever it was told.
        (hello) => hello.subarray(24, 40),
        () => new Uint8Array(16),
        // The proof of the other side, as if the client had made it for somebody.
        (hello, nonce) => proofOf(capability, "client", sessionId, hello.subarray(32, 48), nonce),
        (hello, nonce) => proofOf("d".repeat(32), "router", sessionId, hello.subarray(32, 48), nonce),
        (hello, nonce) => proofOf(capability, "router", "0".repeat(32), hello.subarray(32, 48), nonce),
        (_hello, nonce) => proofOf(capability, "router", sessionId, new Uint8Array(16), nonce)
      ]
      for (const forge of impostors) {
        const told: Array<Uint8Array> = []
        const { address, open } = yield* serverThat((socket) =>
          socket.on("data", (hello: Uint8Array) => {
            told.push(hello)
            if (told.length > 1) return
            const nonce = hello.slice(32, 48)
            socket.write(Buffer.concat([fromHex("8e4e4154 01 00 0000"), nonce, forge(hello, nonce)]))
          })
        )
        assert.strictEqual((yield* reasonOf(joinAt(address, unknown)))._tag, "NotADispatcher")
        yield* until(Effect.map(open, (count) => count === 0))
        const all = Buffer.concat(told)
        assert.strictEqual(all.length, 48)
        assert.notInclude(hex(all), capability)
      }
    })
  )

  it.live("where the contact point has no address", () =>
    Effect.gen(function* () {
      const nowhere = new ContactPoint.ContactPoint({ version: 1, name: "", internal: [], external: [] })
      const reason = yield* reasonOf(Session.join(nowhere, { invitation: unknown }))
      assert.strictEqual(reason._tag, "Unreachable")
    }).pipe(Effect.provide(NodeConnector.layer))
  )
})

describe("an option that makes no sense", () => {
  const wrong: ReadonlyArray<readonly [Options, string]> = [
    [{ handshakeTimeout: Number.NaN }, "handshakeTimeout must be a finite time above zero"],
    [{ handshakeTimeout: "-1 seconds" }, "handshakeTimeout must be a finite time above zero"],
    [{ handshakeTimeout: 0 }, "handshakeTimeout must be a finite time above zero"],
    [{ handshakeTimeout: Infinity }, "handshakeTimeout must be a finite time above zero"],
    [{ attemptDelay: Number.NaN }, "attemptDelay must be a finite time"],
    [{ attemptDelay: -1 }, "attemptDelay must be a finite time"],
    [{ attemptDelay: Infinity }, "attemptDelay must be a finite time"],
    [{ reconnectTimeout: Number.NaN }, "reconnectTimeout must be a time"],
    [{ reconnectTimeout: -1 }, "reconnectTimeout must be a time"],
    [{ tickInterval: Number.NaN }, "tickInterval must be less than 50 days"],
    [{ tickInterval: "-1 millis" }, "tickInterval must be less than 50 days"],
    [{ tickInterval: "50 days" }, "tickInterval must be less than 50 days"],
    [{ tickInterval: Infinity }, "tickInterval must be less than 50 days"],
    [{ maxSnapshotBytes: Number.NaN }, "maxSnapshotBytes must be a whole number"],
    [{ maxSnapshotBytes: -1 }, "maxSnapshotBytes must be a whole number"],
    [{ maxSnapshotBytes: 1.5 }, "maxSnapshotBytes must be a whole number"],
    [{ maxSnapshotBytes: 2 ** 32 }, "maxSnapshotBytes must be a whole number"]
  ]
  const nothing = Layer.mock(Connector.Connector)({ connect: () => Effect.die("something was opened") })
  it.effect.each(wrong)("is refused before anything is opened: %o", ([options, message]) =>
    Effect.gen(function* () {
      const address = NetAddress.inetAddressUnsafe(loopback, 1)
      const joining = Session.joinAt([address], { invitation: unknown, ...options })
      const reason = yield* reasonOf(Effect.provide(joining, nothing))
      assert.strictEqual(reason._tag, "InvalidOption")
      assert.isTrue(reason.message.startsWith(message), reason.message)
    })
  )
})

describe("several addresses", () => {
  const joinAny = (addresses: ReadonlyArray<NetAddress.InetAddress>, options: Session.JoinOptions) => {
    const [first, ...rest] = addresses
    assert(first !== undefined)
    return Session.joinAt([first, ...rest], options).pipe(Effect.provide(NodeConnector.layer))
  }

  it.live("are raced: one that says nothing, one that refuses, one of another host, and the right one", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const mute = yield* serverThat((socket) => socket.resume())
      const nobody = yield* Effect.scoped(Effect.map(dispatcher(), ({ address }) => address))
      // The same private address may be another host's where the client is.
      const other = yield* dispatcher()
      const namesake = yield* dispatcher()
      yield* namesake.register({ sessionId: invitation.sessionId })
      const addresses = [mute.address, nobody, other.address, namesake.address, one.address]
      const session = yield* joinAny(addresses, { invitation, attemptDelay: "20 millis" })
      assert.strictEqual(NetAddress.formatInet(yield* session.address), NetAddress.formatInet(one.address))
      yield* session.send(bytesOf("here"))
      assert.deepStrictEqual(yield* take(session, 1), ["here"])
      // The attempts that lost are over.
      yield* until(Effect.map(mute.open, (count) => count === 0))
      assert.strictEqual(yield* membersOf(one, invitation), 1)
    })
  )

  it.live("are not tried while the first one answers", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const second = yield* makeProxy(one.address)
      const session = yield* joinAny([one.address, second.address], { invitation, attemptDelay: "5 seconds" })
      yield* session.send(bytesOf("x"))
      assert.strictEqual(yield* second.accepted, 0)
    })
  )

  it.live("where both answer are used once", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxies = [yield* makeProxy(one.address), yield* makeProxy(one.address), yield* makeProxy(one.address)]
      const addresses = proxies.map(({ address }) => address)
      yield* joinAny(addresses, { invitation, attemptDelay: "0 millis" })
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
      yield* Effect.sleep("50 millis")
      assert.strictEqual(yield* membersOf(one, invitation), 1)
    })
  )

  it.live("that all fail are told by the one that says most", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const nobody = yield* Effect.scoped(Effect.map(dispatcher(), ({ address }) => address))
      const mute = yield* serverThat((socket) => socket.resume())
      const reason = yield* reasonOf(
        joinAny([nobody, one.address, mute.address], {
          invitation: unknown,
          attemptDelay: "10 millis",
          handshakeTimeout: "100 millis"
        })
      )
      assert.strictEqual(reason._tag, "UnknownSession")
      const nowhere = yield* reasonOf(
        joinAny([nobody, NetAddress.inetAddressUnsafe(loopback, 1), mute.address], {
          invitation: unknown,
          attemptDelay: "10 millis",
          handshakeTimeout: "100 millis"
        })
      )
      assert.strictEqual(
        nowhere.message,
        `the dispatcher cannot be reached: connect ECONNREFUSED ${NetAddress.formatInet(nobody)}; ` +
          `connect ECONNREFUSED 127.0.0.1:1; ` +
          `${NetAddress.formatInet(mute.address)}: the dispatcher did not answer within 100 ms`
      )
      const silent = joinAny([mute.address], { invitation: unknown, handshakeTimeout: "100 millis" })
      assert.deepInclude(yield* reasonOf(silent), { _tag: "TimedOut", milliseconds: 100 })
    })
  )

  it.live("are those of a contact point, the internal ones first", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const contactPoint = yield* one.contactPoint
      const session = yield* Session.join(contactPoint, { invitation }).pipe(Effect.provide(NodeConnector.layer))
      assert.strictEqual(NetAddress.formatInet(yield* session.address), NetAddress.formatInet(one.address))
    })
  )
})

describe("the past of a session", () => {
  const stateAt = (sequence: number, text: string) =>
    Effect.succeed({ sequence, data: bytesOf(text) } satisfies Session.State)

  const firstEvents = (session: Session.Session, count: number) =>
    session.events.pipe(
      Stream.take(count),
      Stream.map(({ _tag, sequence, ...rest }) => [_tag, sequence, "data" in rest ? textOf(rest.data) : undefined]),
      Stream.runCollect
    )

  it.live("is told by a member that serves, and goes on with the next message", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const alice = yield* join(one, invitation)
      yield* alice.send(bytesOf("a"))
      yield* alice.send(bytesOf("b"))
      yield* take(alice, 2)
      const text = "ab".repeat(200_000)
      yield* alice.serve(stateAt(2, text))
      const bob = yield* join(one, invitation, { sync: true })
      yield* alice.send(bytesOf("c"))
      assert.deepStrictEqual(yield* firstEvents(bob, 2), [
        ["Snapshot", 2, text],
        ["Message", 3, "c"]
      ])
    })
  )

  it.live("needs no telling where there is none", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const session = yield* join(one, yield* one.register(), { sync: true })
      yield* session.send(bytesOf("first"))
      assert.deepStrictEqual(yield* firstEvents(session, 1), [["Message", 1, "first"]])
    })
  )

  it.live("is waited for where the server has not dealt with it yet", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const alice = yield* join(one, invitation)
      yield* alice.send(bytesOf("a"))
      yield* take(alice, 1)
      let asked = 0
      yield* alice.serve(
        Effect.sync(() => {
          asked++
          return asked < 5 ? { sequence: 0, data: bytesOf("old") } : { sequence: 1, data: bytesOf("new") }
        })
      )
      const bob = yield* join(one, invitation, { sync: true })
      assert.deepStrictEqual(yield* firstEvents(bob, 1), [["Snapshot", 1, "new"]])
      assert.strictEqual(asked, 5)
    })
  )

  it.live("that nobody tells is missed", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ snapshotTimeout: "50 millis" })
      const invitation = yield* one.register()
      const alice = yield* join(one, invitation)
      yield* alice.send(bytesOf("a"))
      yield* take(alice, 1)
      const missed = reasonOf(join(one, invitation, { sync: true }))
      assert.deepInclude(yield* missed, { _tag: "Missed", after: 1, reason: "NoServer" })
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
      yield* Effect.gen(function* () {
        yield* alice.serve(Effect.never)
        assert.deepInclude(yield* missed, { _tag: "Missed", after: 1, reason: "NoAnswer" })
      }).pipe(Effect.scoped)
      // Whoever serves no more is not asked either.
      assert.deepInclude(yield* missed, { _tag: "Missed", after: 1, reason: "NoServer" })
    })
  )

  it.live("of 1 MiB may be more than a joiner wants", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const alice = yield* join(one, invitation)
      yield* alice.send(bytesOf("a"))
      yield* take(alice, 1)
      yield* alice.serve(Effect.succeed({ sequence: 1, data: new Uint8Array(1_048_576) }))
      const reason = yield* reasonOf(join(one, invitation, { sync: true, maxSnapshotBytes: 1_048_575 }))
      assert.deepInclude(reason, { _tag: "Closed", reason: "Malformed" })
      yield* join(one, invitation, { sync: true, maxSnapshotBytes: 1_048_576 })
    })
  )

  it.live("may be served by several, and by those that came later", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const first = yield* join(one, invitation)
      yield* first.send(bytesOf("a"))
      yield* take(first, 1)
      const serving = yield* Scope.make()
      yield* first.serve(stateAt(1, "of the first")).pipe(Scope.provide(serving))
      const second = yield* join(one, invitation, { sync: true })
      yield* second.serve(stateAt(1, "of the second"))
      yield* Scope.close(serving, Exit.void)
      const third = yield* join(one, invitation, { sync: true })
      assert.deepStrictEqual(yield* firstEvents(third, 1), [["Snapshot", 1, "of the second"]])
    })
  )
})

describe("a broken connection", () => {
  const quick: Options = { reconnectTimeout: "10 seconds" }

  it.live("is made again without a gap or a duplicate, from the dispatcher's log", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const far = yield* joinAt(proxy.address, invitation, { ...quick, tickInterval: "20 millis" })
      const near = yield* join(one, invitation)
      const count = 600
      const heard = yield* far.messages.pipe(
        Stream.take(count),
        Stream.map(({ data, sequence }) => [sequence, textOf(data)]),
        Stream.runCollect,
        Effect.forkChild
      )
      for (let i = 1; i <= count; i++) {
        yield* near.send(bytesOf(`${i}`))
        if (i % 10 === 0) yield* Effect.sleep("2 millis")
        if (i % 200 === 100) yield* proxy.cut
      }
      assert.deepStrictEqual(
        yield* Fiber.join(heard),
        Array.from({ length: count }, (_, index) => [index + 1, `${index + 1}`])
      )
      assert.isAtLeast(yield* proxy.accepted, 2)
      // What it asked for, it asks for again.
      const [tick] = yield* far.events.pipe(Stream.take(1), Stream.runCollect)
      assert.strictEqual(tick?._tag, "Tick")
    })
  )

  it.live("is made again with a snapshot where the log does not reach back", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxLogBytes: 0 })
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const far = yield* joinAt(proxy.address, invitation, { ...quick, sync: true })
      const near = yield* join(one, invitation)
      yield* near.send(bytesOf("a"))
      assert.deepStrictEqual(yield* take(far, 1), ["a"])
      yield* near.serve(Effect.succeed({ sequence: 2, data: bytesOf("ab") }))
      yield* proxy.setMode("refuse")
      yield* proxy.cut
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
      yield* near.send(bytesOf("b"))
      yield* take(near, 2)
      yield* proxy.setMode("pass")
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 2))
      const events = far.events.pipe(
        Stream.take(2),
        Stream.map(({ _tag, sequence }) => [_tag, sequence]),
        Stream.runCollect
      )
      const heard = yield* Effect.forkChild(events)
      yield* far.send(bytesOf("c"))
      assert.deepStrictEqual(yield* Fiber.join(heard), [
        ["Snapshot", 2],
        ["Message", 3]
      ])
    })
  )

  it.live("that made it miss messages ends a session that cannot make up for them", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxLogBytes: 0 })
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const [without, withSync] = [
        yield* joinAt(proxy.address, invitation, quick),
        yield* joinAt(proxy.address, invitation, { ...quick, sync: true })
      ]
      const near = yield* join(one, invitation)
      yield* near.send(bytesOf("a"))
      yield* Effect.all([take(without, 1), take(withSync, 1)])
      yield* proxy.setMode("refuse")
      yield* proxy.cut
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
      yield* near.send(bytesOf("b"))
      yield* take(near, 2)
      yield* proxy.setMode("pass")
      const missed = (session: Session.Session) => reasonOf(Stream.runDrain(session.events))
      assert.deepInclude(yield* missed(without), { _tag: "Missed", after: 1, reason: "NotAsked" })
      assert.deepInclude(yield* missed(withSync), { _tag: "Missed", after: 1, reason: "NoServer" })
      assert.deepInclude(yield* reasonOf(without.send(bytesOf("x"))), { _tag: "Missed", after: 1 })
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
    })
  )

  it.live("is not told to whoever sends meanwhile, who waits", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const far = yield* joinAt(proxy.address, invitation, quick)
      yield* proxy.setMode("refuse")
      yield* proxy.cut
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 0))
      yield* until(Effect.map(proxy.accepted, (count) => count > 1))
      const waiting = yield* Effect.all([far.send(bytesOf("patient")), far.time], { concurrency: 2 }).pipe(
        Effect.forkChild
      )
      yield* Effect.sleep("50 millis")
      assert.strictEqual(waiting.pollUnsafe(), undefined)
      yield* proxy.setMode("pass")
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(yield* take(far, 1), ["patient"])
    })
  )

  it.live("of a member that serves is made again with that too", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const far = yield* joinAt(proxy.address, invitation, quick)
      yield* far.send(bytesOf("a"))
      yield* take(far, 1)
      yield* far.serve(Effect.succeed({ sequence: 1, data: bytesOf("a") }))
      yield* proxy.cut
      yield* until(Effect.map(proxy.accepted, (count) => count === 2))
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
      yield* far.time
      yield* join(one, invitation, { sync: true })
    })
  )

  it.live("does not end a session whose invitation does not grant what the program once asked for", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.invite((yield* one.register()).sessionId, ["join", "send"])
      const proxy = yield* makeProxy(one.address)
      const far = yield* joinAt(proxy.address, invitation, quick)
      assert.strictEqual((yield* reasonOf(far.serve(Effect.never)))._tag, "NotGranted")
      assert.strictEqual((yield* reasonOf(far.time))._tag, "NotGranted")
      yield* proxy.cut
      yield* until(Effect.map(proxy.accepted, (count) => count === 2))
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
      yield* far.send(bytesOf("still here"))
      assert.deepStrictEqual(yield* take(far, 1), ["still here"])
    })
  )

  it.live("is given up after a time, with what was wrong last", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const far = yield* joinAt(proxy.address, invitation, { reconnectTimeout: "300 millis" })
      yield* proxy.setMode("refuse")
      yield* proxy.cut
      const sending = yield* Effect.forkChild(
        Effect.andThen(Effect.sleep("50 millis"), reasonOf(far.send(bytesOf("x"))))
      )
      const reason = yield* reasonOf(Stream.runDrain(far.events))
      assert(reason._tag === "GivenUp")
      assert.strictEqual(reason.milliseconds, 300)
      assert.strictEqual((yield* Fiber.join(sending))._tag, "GivenUp")
    })
  )

  it.live("is told at once where the session is not to be joined again", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const far = yield* joinAt(proxy.address, invitation, { reconnectTimeout: "0 seconds" })
      yield* proxy.cut
      assert.deepInclude(yield* reasonOf(Stream.runDrain(far.events)), { _tag: "Closed", reason: undefined })
    })
  )

  it.live("is told of: where it is, that it broke, and where it is again", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const far = yield* joinAt(proxy.address, invitation, quick)
      const told: Array<Option.Option<NetAddress.InetAddress>> = []
      yield* Effect.forkScoped(Stream.runForEach(far.connections, (address) => Effect.sync(() => told.push(address))))
      yield* until(Effect.sync(() => told.length === 1))
      yield* proxy.setMode("refuse")
      yield* proxy.cut
      yield* until(Effect.sync(() => told.length === 2))
      yield* proxy.setMode("pass")
      yield* until(Effect.sync(() => told.length === 3))
      assert.deepStrictEqual(told, [Option.some(proxy.address), Option.none(), Option.some(proxy.address)])
      // A session that is over is not one whose connection is made again.
      yield* one.unregister(invitation.sessionId)
      assert.deepInclude(yield* reasonOf(Stream.runDrain(far.events)), { _tag: "Closed", reason: "SessionClosed" })
      assert.lengthOf(told, 3)
    })
  )

  it.live("is made again at a dispatcher that comes back, where the session began anew", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const first = yield* dispatcher().pipe(Scope.provide(scope))
      const invitation = yield* first.register()
      const far = yield* join(first, invitation, { ...quick, sync: true })
      yield* far.send(bytesOf("a"))
      yield* take(far, 1)
      yield* Scope.close(scope, Exit.void)
      const again = yield* Dispatcher.make({ port: first.address.port, address: loopback }).pipe(
        Effect.provide(environment)
      )
      yield* again.register(invitation)
      yield* far.send(bytesOf("b"))
      const [restarted, heard] = yield* far.events.pipe(Stream.take(2), Stream.runCollect)
      assert.deepStrictEqual(restarted, { _tag: "Restarted", sequence: 0 })
      assert.deepInclude(heard, { sequence: 1, data: bytesOf("b") })
    })
  )

  it.live("ends in a refusal where the invitation was revoked meanwhile", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const far = yield* joinAt(proxy.address, invitation, quick)
      yield* proxy.setMode("refuse")
      yield* proxy.cut
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 0))
      yield* one.revoke(invitation)
      yield* proxy.setMode("pass")
      assert.deepInclude(yield* reasonOf(Stream.runDrain(far.events)), { _tag: "Refused", reason: "NotGranted" })
    })
  )
})

describe("nothing is left open", () => {
  const handles = Effect.sync(() => process.getActiveResourcesInfo().filter((name) => name.startsWith("TCP")).length)

  it.live("on success, failure and interruption, in whatever state", () =>
    Effect.gen(function* () {
      yield* until(Effect.map(handles, (count) => count === 0))
      const one = yield* dispatcher()
      const invitation = yield* one.register()
      const proxy = yield* makeProxy(one.address)
      const mute = yield* serverThat((socket) => socket.resume())
      const base = yield* handles
      const isClean = until(Effect.map(handles, (count) => count === base))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const session = yield* joinAt(proxy.address, invitation)
          yield* session.serve(Effect.never)
          yield* session.send(bytesOf("x"))
          assert.isAbove(yield* handles, base)
        })
      )
      yield* isClean
      // While it joins, with one attempt that hangs and another one.
      const joining = yield* Session.joinAt([mute.address, mute.address], { invitation, attemptDelay: 0 }).pipe(
        Effect.provide(NodeConnector.layer),
        Effect.scoped,
        Effect.forkChild
      )
      yield* until(Effect.map(mute.open, (count) => count === 2))
      yield* Fiber.interrupt(joining)
      yield* isClean
      // While it comes back, and nobody lets it in. The failed ones are released in the scope of whoever asked.
      const scope = yield* Scope.make()
      const session = yield* joinAt(proxy.address, invitation).pipe(Scope.provide(scope))
      yield* reasonOf(joinAt(proxy.address, unknown)).pipe(Scope.provide(scope))
      yield* proxy.setTarget(mute.address)
      yield* proxy.cut
      yield* until(Effect.map(mute.open, (count) => count === 1))
      const sending = yield* Effect.forkChild(session.send(bytesOf("x")))
      yield* Scope.close(scope, Exit.void)
      yield* isClean
      yield* Fiber.interrupt(sending)
      assert.strictEqual(yield* membersOf(one, invitation), 0)
    })
  )
})

it("needs nothing of Node on the way of a browser", () => {
  const seen = new Set<string>()
  const visit = (module: URL) => {
    if (seen.has(module.href)) return
    seen.add(module.href)
    const source = Fs.readFileSync(module, "utf8")
    assert.notMatch(source, /from "(?:node:|ws"|@effect\/platform-node)|\bBuffer\b|\bprocess\./, module.href)
    for (const [, next] of source.matchAll(/from "(\.{1,2}\/[^"]+)"/g)) {
      if (next !== undefined) visit(new URL(next, module))
    }
  }
  for (const module of ["Session.ts", "WebConnector.ts", "Dispatcher.ts"]) {
    visit(new URL(`../../packages/dispatcher/src/${module}`, import.meta.url))
  }
  assert.isTrue([...seen].some((module) => module.endsWith("internal/link.ts")))
})
