/** The client against a router that says what the test wants, with the test's clock. */
import * as Connector from "@effect-nat/dispatcher/Connector"
import * as Session from "@effect-nat/dispatcher/Session"
import * as Capability from "@effect-nat/core/Capability"
import type * as CloseReason from "@effect-nat/dispatcher/CloseReason"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import type * as SessionEvent from "@effect-nat/dispatcher/SessionEvent"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, describe, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Scripted from "./scriptedRouter.ts"
import { bytesOf, fromHex, hex, settle, textOf } from "./support.ts"

const invitation = new Invitation.Invitation({
  sessionId: SessionId.SessionId.make("0".repeat(32)),
  capability: Capability.Capability.make("e".repeat(32))
})

const message = (sequence: number) => Scripted.frame("Message", sequence, bytesOf(`${sequence}`))

const part = (whole: Wire.SnapshotPart, sequence: number) =>
  Scripted.frame("Snapshot", sequence, Wire.encodeSnapshotPart(whole))

type Router = Effect.Success<ReturnType<typeof Scripted.makeScriptedRouter>>

const joinBy = (router: Router, options?: Omit<Session.JoinOptions, "invitation">) =>
  Session.joinAt([Scripted.address], { invitation, ...options }).pipe(Effect.provide(router.layer))

/** A router, and a session that has joined it after some message. */
const joinedAfter = Effect.fnUntraced(function* (
  sequence: number,
  script?: Partial<Scripted.Script>,
  options?: Omit<Session.JoinOptions, "invitation">
) {
  const router = yield* Scripted.makeScriptedRouter({ invitation, ...script })
  const joining = yield* Effect.forkChild(joinBy(router, options))
  const connection = yield* router.accept
  assert.deepInclude(yield* connection.next, { facet: "join", data: new Uint8Array(0) })
  yield* connection.say(Scripted.joined(sequence))
  const session = yield* Fiber.join(joining)
  return { router, connection, session }
})

const wordOf = (event: SessionEvent.SessionEvent): string => {
  if (event._tag === "Tick") return `tick after ${event.sequence}`
  return event._tag === "Restarted" ? "Restarted" : `${event._tag} ${event.sequence}: ${textOf(event.data)}`
}

const take = (session: Session.Session, count: number) =>
  session.events.pipe(Stream.take(count), Stream.map(wordOf), Stream.runCollect)

/** All events until the session is over, and why it is. */
const rest = Effect.fnUntraced(function* (session: Session.Session) {
  const events: Array<string> = []
  const error = yield* session.events.pipe(
    Stream.runForEach((event) => Effect.sync(() => events.push(wordOf(event)))),
    Effect.flip
  )
  return { events, reason: error.reason }
})

const resumeOf = (request: Scripted.Request) => {
  assert.strictEqual(request.facet, "join")
  const resume = Wire.decodeResume(request.data)
  return resume === undefined ? undefined : [resume.sequence, hex(resume.life)]
}

const life = hex(Scripted.life)

describe("in the handshake", () => {
  it.effect("the capability is not told", () =>
    Effect.gen(function* () {
      const { router } = yield* joinedAfter(0)
      const said = router.said()
      assert.strictEqual(said.length, 64)
      assert.notInclude(hex(said), invitation.capability)
    })
  )

  it.effect("a router that does not know the capability is told nothing more, and that connection ends", () =>
    Effect.gen(function* () {
      const router = yield* Scripted.makeScriptedRouter({ invitation, capability: "d".repeat(32) })
      const error = yield* Effect.flip(joinBy(router))
      assert.strictEqual(error.reason._tag, "NotADispatcher")
      assert.strictEqual(router.said().length, 48)
    })
  )

  it.effect("a router that says nothing has five seconds", () =>
    Effect.gen(function* () {
      const router = yield* Scripted.makeScriptedRouter({ invitation, isMute: true })
      const joining = yield* Effect.forkChild(Effect.flip(joinBy(router)))
      yield* TestClock.adjust("4999 millis")
      assert.strictEqual(joining.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(joining)
      assert.deepInclude(error.reason, { _tag: "TimedOut", milliseconds: 5000 })
    })
  )

  it.effect("the next address is tried a quarter of a second after the one before", () =>
    Effect.gen(function* () {
      const router = yield* Scripted.makeScriptedRouter({ invitation, isMute: true })
      const { address } = Scripted
      yield* Session.joinAt([address, address, address], { invitation }).pipe(
        Effect.provide(router.layer),
        Effect.forkChild
      )
      const attemptsAfter = Effect.fnUntraced(function* (milliseconds: number) {
        yield* TestClock.adjust(`${milliseconds} millis`)
        return router.attempts()
      })
      assert.strictEqual(yield* attemptsAfter(249), 1)
      assert.strictEqual(yield* attemptsAfter(1), 2)
      assert.strictEqual(yield* attemptsAfter(249), 2)
      assert.strictEqual(yield* attemptsAfter(1), 3)
    })
  )
})

describe("a router that breaks the rules", () => {
  const other = (type: number) => Wire.encodeFrame(type, { sequence: 1, stamp: 0 })
  const cases: ReadonlyArray<readonly [string, ReadonlyArray<Uint8Array>, CloseReason.CloseReason]> = [
    ["a gap", [message(3)], "Malformed"],
    ["a message twice", [message(1)], "Malformed"],
    // A part of a snapshot, of 64 KiB, is taken in any case.
    ["a frame larger than it announced", [fromHex("00010025")], "FrameTooLarge"],
    ["a frame without a header", [fromHex("00000013")], "Malformed"],
    ["a frame that must be known and is not", [other(0x10)], "UnknownFrameType"],
    ["a welcome once more", [Scripted.frame("Welcome", 1, new Uint8Array(124))], "Malformed"],
    ["to have joined once more", [Scripted.joined(1)], "Malformed"],
    [
      "a snapshot that nobody wants",
      [part({ sequence: 1, size: 0, offset: 0, data: new Uint8Array(0) }, 1)],
      "Malformed"
    ],
    ["that there is no snapshot", [Scripted.frame("NoSnapshot", 1, Uint8Array.of(0))], "Malformed"],
    [
      "more after the last frame",
      [Wire.encodeClose({ sequence: 1, stamp: 0 }, "SessionClosed"), message(2)],
      "SessionClosed"
    ],
    [
      "a frame to be skipped, then an unknown reason",
      [other(0x90), Scripted.frame("Close", 1, Uint8Array.of(0xee))],
      "Unknown"
    ]
  ]
  it.effect.each(cases)("with %s ends the session with a reason, after what was right", ([, frames, reason]) =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0, { maxDataBytes: 1024 })
      yield* connection.say(message(1), ...frames)
      const { events, reason: why } = yield* rest(session)
      assert.deepStrictEqual(events, ["Message 1: 1"])
      assert.deepInclude(why, { _tag: "Closed", reason })
      yield* settle
      assert.isFalse(connection.isOpen())
      assert.strictEqual(router.attempts(), 1)
    })
  )

  it.effect("with a resumption that nobody asked for ends the joining", () =>
    Effect.gen(function* () {
      const router = yield* Scripted.makeScriptedRouter({ invitation })
      const joining = yield* Effect.forkChild(Effect.flip(joinBy(router)))
      const connection = yield* router.accept
      yield* connection.say(Scripted.joined(3, true))
      const { reason } = yield* Fiber.join(joining)
      assert.deepInclude(reason, { _tag: "Closed", reason: "Malformed" })
      assert.isFalse(connection.isOpen())
    })
  )
})

describe("a snapshot", () => {
  const syncing = Effect.gen(function* () {
    const router = yield* Scripted.makeScriptedRouter({ invitation })
    const joining = yield* Effect.forkChild(joinBy(router, { sync: true, maxSnapshotBytes: 100 }))
    const connection = yield* router.accept
    assert.strictEqual((yield* connection.next).facet, "join")
    yield* connection.say(Scripted.joined(2))
    assert.strictEqual((yield* connection.next).facet, "sync")
    return { connection, joining }
  })
  const piece = (text: string, change: Partial<Wire.SnapshotPart> = {}) =>
    part({ sequence: 3, size: 4, offset: 0, data: bytesOf(text), ...change }, 4)

  it.effect("takes the place of the messages that it includes, and those behind it follow", () =>
    Effect.gen(function* () {
      const { connection, joining } = yield* syncing
      yield* connection.say(message(3), piece("ab"), message(4), Scripted.frame("Tick", 4))
      yield* connection.say(piece("cd", { offset: 2 }), message(5))
      assert.deepStrictEqual(yield* take(yield* Fiber.join(joining), 3), [
        "Snapshot 3: abcd",
        "Message 4: 4",
        "Message 5: 5"
      ])
    })
  )

  it.effect("begins anew where the one who made it has gone", () =>
    Effect.gen(function* () {
      const { connection, joining } = yield* syncing
      yield* connection.say(piece("ab"), piece("xyz", { size: 3, sequence: 2 }))
      assert.deepStrictEqual(yield* take(yield* Fiber.join(joining), 1), ["Snapshot 2: xyz"])
    })
  )

  it.effect("that takes too long for what is said meanwhile is missed", () =>
    Effect.gen(function* () {
      const { connection, joining } = yield* syncing
      const data = new Uint8Array(1_048_576)
      for (let i = 3; i < 67; i++) {
        yield* connection.say(Scripted.frame("Message", i, data))
      }
      const { reason } = yield* Effect.flip(Fiber.join(joining))
      assert.deepInclude(reason, { _tag: "Missed", after: 2, reason: "TooMuchWaiting" })
      assert.isFalse(connection.isOpen())
    })
  )

  it.effect("may come just before too much waits for it", () =>
    Effect.gen(function* () {
      const { connection, joining } = yield* syncing
      const data = new Uint8Array(1_048_576)
      for (let i = 3; i < 66; i++) {
        yield* connection.say(Scripted.frame("Message", i, data))
      }
      yield* connection.say(piece("abcd"))
      yield* Fiber.join(joining)
    })
  )

  const wrong: ReadonlyArray<readonly [string, ReadonlyArray<Uint8Array>]> = [
    ["more than it wants", [piece("ab", { size: 101 })]],
    ["another place", [piece("ab", { offset: 1 })]],
    ["another size in the middle", [piece("ab"), piece("cd", { offset: 2, size: 5 })]],
    ["another snapshot in the middle", [piece("ab"), piece("cd", { offset: 2, sequence: 2 })]],
    ["a past before its time", [piece("abcd", { sequence: 1 })]],
    ["a future", [message(3), piece("abcd", { sequence: 4 })]],
    ["a gap in the messages meanwhile", [message(4)]]
  ]
  it.effect.each(wrong)("with %s is not taken", ([, frames]) =>
    Effect.gen(function* () {
      const { connection, joining } = yield* syncing
      yield* connection.say(...frames)
      const { reason } = yield* Effect.flip(Fiber.join(joining))
      assert.deepInclude(reason, { _tag: "Closed", reason: "Malformed" })
      assert.isFalse(connection.isOpen())
    })
  )
})

describe("a connection that is silent", () => {
  it.effect("is asked after 15 seconds, and given up after 30, for another one", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0)
      yield* connection.say(message(1))
      assert.deepStrictEqual(yield* take(session, 1), ["Message 1: 1"])
      yield* TestClock.adjust("14999 millis")
      assert.strictEqual(yield* connection.waiting, 0)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* connection.next).facet, "timeStamp")
      yield* TestClock.adjust("14999 millis")
      assert.isTrue(connection.isOpen())
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.isFalse(connection.isOpen())
      yield* TestClock.adjust("1 second")
      const second = yield* router.accept
      assert.deepStrictEqual(resumeOf(yield* second.next), [1, life])
      yield* second.say(Scripted.joined(2, true), message(2))
      assert.deepStrictEqual(yield* take(session, 1), ["Message 2: 2"])
    })
  )

  it.effect("but answers is kept, and its answers are not taken for those to others", () =>
    Effect.gen(function* () {
      const { connection, session } = yield* joinedAfter(0)
      for (let i = 0; i < 10; i++) {
        yield* TestClock.adjust("15 seconds")
        assert.strictEqual((yield* connection.next).facet, "timeStamp")
        const asking = yield* Effect.forkChild(session.time)
        yield* settle
        yield* connection.next
        yield* connection.say(Scripted.frame("Time", 1), Scripted.frame("Time", 2))
        assert.strictEqual(yield* Fiber.join(asking), 2000)
      }
      assert.isTrue(connection.isOpen())
    })
  )

  it.effect("is kept where the time may not be asked for", () =>
    Effect.gen(function* () {
      const { connection, session } = yield* joinedAfter(0, { facets: ["join", "send"] })
      assert.deepInclude((yield* Effect.flip(session.time)).reason, { _tag: "NotGranted", facet: "timeStamp" })
      yield* TestClock.adjust("1 hour")
      assert.isTrue(connection.isOpen())
      yield* connection.say(message(1))
      assert.deepStrictEqual(yield* take(session, 1), ["Message 1: 1"])
    })
  )
})

it.effect("a program that takes its time keeps its connection, and loses nothing", () =>
  Effect.gen(function* () {
    const { connection, router, session } = yield* joinedAfter(0)
    const count = 40
    // In many batches, more than are kept before the network has to wait.
    for (let i = 1; i <= count; i++) {
      yield* connection.say(message(i))
      yield* settle
    }
    yield* TestClock.adjust("10 minutes")
    assert.isTrue(connection.isOpen())
    assert.deepStrictEqual(
      yield* take(session, count),
      Array.from({ length: count }, (_, index) => `Message ${index + 1}: ${index + 1}`)
    )
    assert.strictEqual(router.attempts(), 1)
  })
)

describe("coming back", () => {
  it.effect("says what was heard last, of which life, even if the connection between broke before it had joined", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(4, {}, { sync: false })
      yield* connection.say(message(5))
      assert.deepStrictEqual(yield* take(session, 1), ["Message 5: 5"])
      yield* router.beginNewLife
      yield* connection.cut
      yield* TestClock.adjust("1 second")
      const second = yield* router.accept
      assert.deepStrictEqual(resumeOf(yield* second.next), [5, life])
      yield* second.cut
      yield* TestClock.adjust("1 second")
      const third = yield* router.accept
      assert.deepStrictEqual(resumeOf(yield* third.next), [5, life])
      yield* third.say(Scripted.joined(7))
      const { reason } = yield* rest(session)
      assert.deepInclude(reason, { _tag: "Missed", after: 5, reason: "Restarted" })
      assert.match(reason.message, /^the session has begun anew, and counts its messages from 1 again/)
      assert.isFalse(third.isOpen())
    })
  )

  it.effect("tells the new life once it has joined it", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0, {}, { sync: true })
      yield* router.beginNewLife
      yield* connection.cut
      yield* TestClock.adjust("1 second")
      const second = yield* router.accept
      assert.deepStrictEqual(resumeOf(yield* second.next), [0, life])
      yield* second.say(Scripted.joined(0), message(1))
      assert.deepStrictEqual(yield* take(session, 2), ["Restarted", "Message 1: 1"])
      yield* second.cut
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(resumeOf(yield* (yield* router.accept).next), [1, "ab".repeat(8)])
    })
  )

  it.effect("tells the new life before the snapshot of it, and not where that fails", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0, {}, { sync: true })
      yield* connection.say(message(1))
      yield* router.beginNewLife
      yield* connection.cut
      yield* TestClock.adjust("1 second")
      const second = yield* router.accept
      yield* second.say(Scripted.joined(2))
      yield* second.cut
      yield* TestClock.adjust("1 second")
      const third = yield* router.accept
      assert.deepStrictEqual(resumeOf(yield* third.next), [1, life])
      const snapshot = part({ sequence: 3, size: 4, offset: 0, data: bytesOf("anew") }, 3)
      yield* third.say(Scripted.joined(3), snapshot, message(4))
      assert.deepStrictEqual(yield* take(session, 4), ["Message 1: 1", "Restarted", "Snapshot 3: anew", "Message 4: 4"])
    })
  )

  it.effect("is not let into the middle of another life", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0, {}, { sync: true })
      yield* router.beginNewLife
      yield* connection.cut
      yield* TestClock.adjust("1 second")
      const second = yield* router.accept
      yield* second.say(Scripted.joined(1, true))
      assert.deepInclude((yield* rest(session)).reason, { _tag: "Closed", reason: "Malformed" })
    })
  )

  it.effect("follows a message, or a request, that was damaged on its way", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0)
      const damaged = message(2).map((byte, at) => (at === 24 ? byte ^ 1 : byte))
      yield* connection.say(message(1), damaged, message(3))
      yield* TestClock.adjust("1 second")
      assert.isFalse(connection.isOpen())
      const second = yield* router.accept
      assert.deepStrictEqual(resumeOf(yield* second.next), [1, life])
      yield* second.say(Scripted.joined(3, true), message(2))
      yield* second.say(Wire.encodeClose({ sequence: 2, stamp: 0 }, "BadChecksum"))
      yield* TestClock.adjust("1 second")
      const third = yield* router.accept
      assert.deepStrictEqual(resumeOf(yield* third.next), [2, life])
      yield* third.say(Scripted.joined(3, true), message(3))
      assert.deepStrictEqual(yield* take(session, 3), ["Message 1: 1", "Message 2: 2", "Message 3: 3"])
    })
  )

  /** Lets every connection in, and drops it after some time; a few hundred times at most. */
  const dropAfter = (router: Router, time: Duration.Input) =>
    Effect.gen(function* () {
      const connection = yield* router.accept
      yield* connection.say(Scripted.joined(0, true))
      yield* Effect.sleep(time)
      yield* connection.cut
    }).pipe(Effect.repeat({ times: 300 }), Effect.forkChild)

  it.effect("takes growing pauses over connections that do not last, and one minute for all of them", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0)
      yield* dropAfter(router, "9 seconds")
      const over = yield* Effect.forkChild(rest(session))
      yield* connection.cut
      yield* TestClock.adjust("30 seconds")
      assert.isAtLeast(router.attempts(), 4)
      yield* TestClock.adjust("10 minutes")
      assert.deepInclude((yield* Fiber.join(over)).reason, { _tag: "GivenUp", milliseconds: 60_000 })
      assert.isAbove(router.attempts(), 10)
      assert.isBelow(router.attempts(), 30)
    })
  )

  it.effect("does not run in circles where it is let in and dropped at once", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0)
      yield* dropAfter(router, 0)
      const over = yield* Effect.forkChild(rest(session))
      yield* connection.cut
      yield* TestClock.adjust("61 seconds")
      assert.deepInclude((yield* Fiber.join(over)).reason, { _tag: "GivenUp", milliseconds: 60_000 })
      assert.isAbove(router.attempts(), 10)
      assert.isBelow(router.attempts(), 30)
    })
  )

  it.effect("begins anew with pauses and time after a connection that has lasted", () =>
    Effect.gen(function* () {
      const { connection, router } = yield* joinedAfter(0)
      yield* dropAfter(router, "10010 millis")
      yield* connection.cut
      yield* TestClock.adjust("100 millis")
      for (let i = 2; i < 100; i++) {
        assert.strictEqual(router.attempts(), i)
        yield* TestClock.adjust("10110 millis")
      }
    })
  )

  it.effect("does not happen to all members in one moment", () =>
    Effect.gen(function* () {
      const router = yield* Scripted.makeScriptedRouter({ invitation })
      const count = 40
      const connections: Array<Scripted.ScriptedConnection> = []
      for (let i = 0; i < count; i++) {
        const joining = yield* Effect.forkChild(joinBy(router))
        const connection = yield* router.accept
        connections.push(connection)
        yield* connection.say(Scripted.joined(0))
        yield* Fiber.join(joining)
      }
      for (const connection of connections) {
        yield* connection.say(Wire.encodeClose({ sequence: 0, stamp: 0 }, "ShuttingDown"))
      }
      yield* settle
      assert.strictEqual(router.attempts(), count)
      yield* TestClock.adjust("50 millis")
      assert.isAbove(router.attempts(), count)
      assert.isBelow(router.attempts(), 2 * count)
      yield* TestClock.adjust("50 millis")
      assert.strictEqual(router.attempts(), 2 * count)
    })
  )

  it.effect("has no end where it is told so", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0, {}, { reconnectTimeout: "Infinity" })
      yield* router.setReachable(false)
      yield* connection.cut
      yield* TestClock.adjust("20 minutes")
      yield* router.setReachable(true)
      yield* TestClock.adjust("8 seconds")
      const second = yield* router.accept
      yield* second.say(Scripted.joined(0, true), message(1))
      assert.deepStrictEqual(yield* take(session, 1), ["Message 1: 1"])
    })
  )

  it.effect("is tried for one minute, less and less often, and then given up", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0)
      yield* router.setReachable(false)
      const over = yield* Effect.forkChild(rest(session))
      yield* connection.cut
      yield* settle
      const waiting = yield* Effect.forkChild(Effect.flip(session.send(bytesOf("x"))))
      yield* TestClock.adjust("59999 millis")
      assert.strictEqual(over.pollUnsafe(), undefined)
      assert.isAbove(router.attempts(), 10)
      assert.isBelow(router.attempts(), 30)
      yield* TestClock.adjust("1 millis")
      assert.deepInclude((yield* Fiber.join(over)).reason, { _tag: "GivenUp", milliseconds: 60_000 })
      assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "GivenUp")
    })
  )

  const final: ReadonlyArray<CloseReason.Refusal> = ["SessionClosed", "Revoked", "TooSlow", "UnknownFacet"]
  it.effect.each(final)("is not tried after %s", (reason) =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0)
      yield* connection.say(Wire.encodeClose({ sequence: 0, stamp: 0 }, reason))
      assert.deepInclude((yield* rest(session)).reason, { _tag: "Closed", reason })
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(router.attempts(), 1)
    })
  )

  const passing: ReadonlyArray<CloseReason.Refusal> = [
    "HandshakeTimeout",
    "TooManyHandshakes",
    "TooManyConnections",
    "SessionFull",
    "ShuttingDown"
  ]
  it.effect.each(passing)("is tried on while it is refused for %s", (reason) =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0)
      yield* router.setRefusal(reason)
      yield* connection.cut
      yield* TestClock.adjust("1 second")
      assert.isAbove(router.attempts(), 2)
      yield* router.setRefusal(undefined)
      yield* TestClock.adjust("5 seconds")
      const next = yield* router.accept
      assert.deepStrictEqual(resumeOf(yield* next.next), [0, life])
      yield* next.say(Scripted.joined(0, true), message(1))
      assert.deepStrictEqual(yield* take(session, 1), ["Message 1: 1"])
    })
  )

  it.effect("is tried after a dispatcher that ends", () =>
    Effect.gen(function* () {
      const { connection, router } = yield* joinedAfter(0)
      yield* connection.say(Wire.encodeClose({ sequence: 0, stamp: 0 }, "ShuttingDown"))
      yield* TestClock.adjust("1 second")
      yield* router.accept
      assert.strictEqual(router.attempts(), 2)
    })
  )
})

it.effect("a defect on the way ends the session for everybody who waits", () =>
  Effect.gen(function* () {
    const router = yield* Scripted.makeScriptedRouter({ invitation })
    const { connect } = yield* Effect.provide(Connector.Connector, router.layer)
    const breaking = Layer.mock(Connector.Connector)({
      connect: (address) => (router.attempts() === 0 ? connect(address) : Effect.die("a defect"))
    })
    const joining = yield* Session.joinAt([Scripted.address], { invitation }).pipe(
      Effect.provide(breaking),
      Effect.forkChild
    )
    const connection = yield* router.accept
    yield* connection.say(Scripted.joined(0), message(1))
    const session = yield* Fiber.join(joining)
    yield* connection.cut
    yield* settle
    const sending = yield* Effect.forkChild(session.send(bytesOf("x")))
    yield* TestClock.adjust("1 second")
    const events: Array<string> = []
    const over = yield* session.events.pipe(
      Stream.runForEach((event) => Effect.sync(() => events.push(wordOf(event)))),
      Effect.exit
    )
    assert.deepStrictEqual(events, ["Message 1: 1"])
    assert.deepStrictEqual(over, Exit.die("a defect"))
    assert.deepStrictEqual(yield* Fiber.await(sending), Exit.die("a defect"))
  })
)

describe("serving", () => {
  const serveFrame = (offset: number, sequence = 0, facet = 0x77) =>
    Wire.encodeServe({ sequence, stamp: 0 }, new Uint8Array(16).fill(facet), offset)

  const partIn = (request: Scripted.Request, facet = "77") => {
    assert.strictEqual(request.facet, facet.repeat(16))
    const read = Wire.decodeSnapshotPart(request.data)
    assert(read !== undefined)
    return read
  }

  it.effect("answers part by part with one and the same state, and tells when it ends", () =>
    Effect.gen(function* () {
      const { connection, session } = yield* joinedAfter(0, { maxDataBytes: 10_016 })
      let made = 0
      yield* Effect.gen(function* () {
        yield* session.serve(Effect.sync(() => ({ sequence: 0, data: new Uint8Array(25_000).fill(++made) })))
        const offer = yield* connection.next
        assert.deepStrictEqual([offer.facet, hex(offer.data)], ["beServer", "01"])
        for (const [offset, length] of [
          [0, 10_000],
          [10_000, 10_000],
          [20_000, 5000]
        ] as const) {
          yield* connection.say(serveFrame(offset))
          const { data, ...where } = partIn(yield* connection.next)
          assert.deepStrictEqual(where, { sequence: 0, size: 25_000, offset })
          assert.deepStrictEqual(data, new Uint8Array(length).fill(1))
        }
        // It is through with it.
        yield* connection.say(serveFrame(10_000))
        yield* settle
        assert.strictEqual(yield* connection.waiting, 0)
      }).pipe(Effect.scoped)
      const end = yield* connection.next
      assert.deepStrictEqual([end.facet, hex(end.data)], ["beServer", "00"])
      yield* connection.say(serveFrame(0))
      yield* settle
      assert.strictEqual(yield* connection.waiting, 0)
    })
  )

  it.effect("says nothing where the state does not get as far as it has to in five seconds", () =>
    Effect.gen(function* () {
      const { connection, session } = yield* joinedAfter(0)
      let made = 0
      yield* session.serve(Effect.sync(() => ({ sequence: 0, data: Uint8Array.of(++made) })))
      yield* connection.next
      yield* connection.say(message(1), serveFrame(0, 1))
      yield* TestClock.adjust("5 seconds")
      yield* settle
      const before = made
      assert.isAbove(before, 100)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(made, before)
    })
  )

  it.effect("does not pass a state of another life for one of this", () =>
    Effect.gen(function* () {
      const { connection, session } = yield* joinedAfter(0)
      let sequence = 5
      yield* session.serve(Effect.sync(() => ({ sequence, data: bytesOf(`${sequence}`) })))
      yield* connection.next
      yield* connection.say(message(1), serveFrame(0, 1))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* connection.waiting, 0)
      sequence = 1
      yield* TestClock.adjust("1 second")
      assert.deepInclude(partIn(yield* connection.next), { sequence: 1, data: bytesOf("1") })
    })
  )

  /** Asks for one part on behalf of a joiner; its facet is none of those that were granted. */
  const ask = Effect.fnUntraced(function* (
    connection: Scripted.ScriptedConnection,
    joiner: number,
    offset: number,
    sequence = 0
  ) {
    const facet = 100 + joiner
    yield* connection.say(serveFrame(offset, sequence, facet))
    yield* settle
    if ((yield* connection.waiting) === 0) return undefined
    return partIn(yield* connection.next, hex(Uint8Array.of(facet)))
  })

  it.effect("makes one snapshot for all who come together, and another for who needs more", () =>
    Effect.gen(function* () {
      const { connection, session } = yield* joinedAfter(0, { maxDataBytes: 10_016 })
      let made = 0
      let sequence = 0
      yield* session.serve(Effect.sync(() => ({ sequence, data: new Uint8Array(15_000).fill(++made) })))
      yield* connection.next
      const madeFor = (joiner: number, offset: number) =>
        Effect.map(ask(connection, joiner, offset, sequence), (one) => one?.data[0])
      for (let joiner = 1; joiner <= 40; joiner++) {
        assert.strictEqual(yield* madeFor(joiner, 0), 1)
      }
      yield* connection.say(message(1))
      sequence = 1
      for (let joiner = 41; joiner <= 80; joiner++) {
        assert.strictEqual(yield* madeFor(joiner, 0), 2)
      }
      for (let joiner = 1; joiner <= 80; joiner++) {
        assert.strictEqual(yield* madeFor(joiner, 10_000), joiner <= 40 ? 1 : 2)
      }
      // All are through: the next one gets what is true now.
      assert.strictEqual(yield* madeFor(81, 0), 3)
    })
  )

  it.effect("keeps 256 MiB of snapshots, those that were asked for last", () =>
    Effect.gen(function* () {
      const { connection, session } = yield* joinedAfter(0)
      let sequence = 0
      const data = () => new Uint8Array(100_000_000)
      yield* session.serve(Effect.sync(() => ({ sequence, data: data() })))
      yield* connection.next
      const isAnswered = (joiner: number, offset: number) =>
        Effect.map(ask(connection, joiner, offset, sequence), (one) => one !== undefined)
      for (const joiner of [1, 2]) {
        yield* connection.say(message(++sequence))
        assert.isTrue(yield* isAnswered(joiner, 0))
      }
      assert.isTrue(yield* isAnswered(1, 65_536))
      yield* connection.say(message(++sequence))
      assert.isTrue(yield* isAnswered(3, 0))
      assert.deepStrictEqual(
        [yield* isAnswered(1, 131_072), yield* isAnswered(2, 65_536), yield* isAnswered(3, 65_536)],
        [true, false, true]
      )
    })
  )

  it.effect("forgets with a connection what it was asked for there", () =>
    Effect.gen(function* () {
      const { connection, router, session } = yield* joinedAfter(0, { maxDataBytes: 10_016 })
      let made = 0
      yield* session.serve(Effect.sync(() => ({ sequence: 0, data: new Uint8Array(15_000).fill(++made) })))
      yield* connection.next
      assert.strictEqual((yield* ask(connection, 1, 0))?.data[0], 1)
      yield* connection.cut
      yield* TestClock.adjust("1 second")
      const second = yield* router.accept
      yield* second.next
      yield* second.say(Scripted.joined(0, true))
      assert.strictEqual((yield* second.next).facet, "beServer")
      assert.strictEqual((yield* ask(second, 2, 0))?.data[0], 2)
      assert.strictEqual(yield* ask(second, 1, 10_000), undefined)
    })
  )
})
