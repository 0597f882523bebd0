/** Sessions that are made by connecting, where a dispatcher is told to; over simulated connections. */
import * as Capability from "@effect-nat/core/Capability"
import * as SessionId from "@effect-nat/core/SessionId"
import type * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import {
  enter,
  enterAndJoin,
  framesIn,
  handshake,
  settle,
  simulated,
  type SimulatedConnection,
  takenBy,
  wordsOf
} from "./support.ts"

const capability = Capability.Capability.make("c0".repeat(16))
const idOf = (digit: string) => SessionId.SessionId.make(digit.repeat(32))
const to = (sessionId: SessionId.SessionId, by = capability) => new Invitation.Invitation({ sessionId, capability: by })

const start = (autoCreate: Partial<Dispatcher.AutoCreateOptions> = {}, limits?: Partial<Dispatcher.Limits>) =>
  simulated(limits, { options: { autoCreate: { capability, ...autoCreate } } })

/** Shows its capability, and says how that ended. */
const attempt = Effect.fnUntraced(function* (connection: SimulatedConnection, invitation: Invitation.Invitation) {
  const { hello, proof } = handshake(invitation)
  connection.handler.onData(hello)
  yield* settle
  const reply = Wire.decodeReply(takenBy(connection))
  if (reply._tag === "Complete" && reply.value._tag === "Refused") return [`Refused: ${reply.value.reason}`]
  connection.handler.onData(proof(takenBy(connection)))
  yield* settle
  return wordsOf(framesIn(takenBy(connection).subarray(Wire.challengeLength)))
})

const sessionsOf = (dispatcher: Dispatcher.Dispatcher["Service"]) =>
  Effect.map(dispatcher.list, (sessions) => sessions.slice(1).map(({ id, members, role }) => ({ id, members, role })))

describe("a session that is made by connecting", () => {
  it.effect("is one like others, and ends with its last member", () =>
    Effect.gen(function* () {
      const { connect, dispatcher, endTurn } = yield* start()
      const ann = yield* enterAndJoin(yield* connect, to(idOf("a")))
      const bob = yield* enterAndJoin(yield* connect, to(idOf("a")))
      ann.say("hello")
      endTurn()
      yield* settle
      assert.deepStrictEqual(bob.heard(), ["hello"])
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [{ id: idOf("a"), members: 2, role: "" }])
      ann.ask("leave")
      yield* settle
      assert.lengthOf(yield* sessionsOf(dispatcher), 1)
      bob.ask("leave")
      yield* settle
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
      // And may be made anew.
      yield* enterAndJoin(yield* connect, to(idOf("a")))
      assert.lengthOf(yield* sessionsOf(dispatcher), 1)
    })
  )

  it.effect("ends with a member whose connection is cut", () =>
    Effect.gen(function* () {
      const { connect, dispatcher } = yield* start()
      const ann = yield* enter(yield* connect, to(idOf("a")))
      ann.handler.onClose()
      yield* settle
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
    })
  )

  it.effect("ends so, too, where the factory says nothing about it", () =>
    Effect.gen(function* () {
      const { connect, dispatcher } = yield* start({ factory: () => Effect.succeedSome({ autoStop: undefined }) })
      const ann = yield* enter(yield* connect, to(idOf("a")))
      ann.handler.onClose()
      yield* settle
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
    })
  )

  it.effect("is what the factory says, which may have it outlive its members", () =>
    Effect.gen(function* () {
      const factory = (id: SessionId.SessionId) =>
        Effect.succeedSome({ role: `of ${id[0]}`, facets: ["join"] as const, autoStop: false })
      const { connect, dispatcher } = yield* start({ factory })
      const ann = yield* enter(yield* connect, to(idOf("a")))
      assert.deepStrictEqual(Object.keys(ann.welcome.facets), ["join"])
      ann.handler.onClose()
      yield* settle
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [{ id: idOf("a"), members: 0, role: "of a" }])
    })
  )

  it.effect("is made once, by however many at once", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      let made = 0
      const factory = () => {
        made++
        return Effect.as(Deferred.await(gate), Option.some({ role: "scene" }))
      }
      const { connect, dispatcher } = yield* start({ factory })
      const both = [yield* connect, yield* connect]
      for (const one of both) assert.deepStrictEqual(yield* attempt(one, to(idOf("a"))), [])
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      yield* settle
      for (const one of both) {
        assert.deepStrictEqual(wordsOf(framesIn(takenBy(one).subarray(Wire.challengeLength))), ["Welcome"])
      }
      assert.strictEqual(made, 2)
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [{ id: idOf("a"), members: 2, role: "scene" }])
    })
  )

  it.effect("is not left behind by somebody who goes while it is made", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const { connect, dispatcher } = yield* start({ factory: () => Effect.as(Deferred.await(gate), Option.some({})) })
      const ann = yield* connect
      yield* attempt(ann, to(idOf("a")))
      ann.handler.onClose()
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      yield* settle
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
    })
  )

  it.effect("that takes too long to make is a handshake that takes too long", () =>
    Effect.gen(function* () {
      let interrupted = 0
      const never = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      const { connect, dispatcher } = yield* start({ factory: () => never })
      const ann = yield* connect
      yield* attempt(ann, to(idOf("a")))
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.deepStrictEqual(wordsOf(framesIn(takenBy(ann).subarray(Wire.challengeLength))), [
        "Close: HandshakeTimeout"
      ])
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
      assert.strictEqual(interrupted, 1)
    })
  )
})

describe("no session is made", () => {
  it.effect("by another capability, by that of a session, or by a wrong proof", () =>
    Effect.gen(function* () {
      const { connect, dispatcher, invitation } = yield* start()
      const other = Capability.Capability.make("d1".repeat(16))
      assert.deepStrictEqual(yield* attempt(yield* connect, to(idOf("a"), other)), ["Refused: UnknownSession"])
      assert.deepStrictEqual(yield* attempt(yield* connect, to(idOf("a"), invitation.capability)), [
        "Refused: UnknownSession"
      ])
      const forger = yield* connect
      forger.handler.onData(handshake(to(idOf("a"))).hello)
      yield* settle
      forger.handler.onData(new Uint8Array(16))
      yield* settle
      assert.deepStrictEqual(wordsOf(framesIn(takenBy(forger).subarray(Wire.challengeLength))), ["Close: NotGranted"])
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
    })
  )

  it.effect("where nobody has asked for it", () =>
    Effect.gen(function* () {
      const { connect, dispatcher } = yield* simulated()
      assert.deepStrictEqual(yield* attempt(yield* connect, to(idOf("a"))), ["Refused: UnknownSession"])
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
    })
  )

  it.effect("by a capability that opens other sessions, in one that was registered", () =>
    Effect.gen(function* () {
      const { connect, id, members } = yield* start()
      assert.deepStrictEqual(yield* attempt(yield* connect, to(id)), ["Refused: NotGranted"])
      assert.strictEqual(yield* members, 0)
    })
  )

  it.effect("with the id of the dispatcher itself", () =>
    Effect.gen(function* () {
      const { connect, dispatcher } = yield* start()
      assert.deepStrictEqual(yield* attempt(yield* connect, to(idOf("0"))), ["Refused: NotGranted"])
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
    })
  )

  const reluctant: ReadonlyArray<readonly [string, Dispatcher.AutoCreateOptions["factory"]]> = [
    ["says no", () => Effect.succeedNone],
    ["has nonsense made", () => Effect.succeedSome({ role: "x".repeat(64) })],
    ["dies", () => Effect.die("a bug of the program")]
  ]
  it.effect.each(reluctant)("where the factory %s", ([, factory]) =>
    Effect.gen(function* () {
      const { connect, dispatcher, join } = yield* start({ factory })
      const ann = yield* connect
      yield* attempt(ann, to(idOf("a")))
      yield* settle
      const heard = wordsOf(framesIn(takenBy(ann).subarray(Wire.challengeLength)))
      assert.deepStrictEqual(heard, ["Close: UnknownSession"])
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
      yield* join
    })
  )

  it.effect("beyond the limit of sessions", () =>
    Effect.gen(function* () {
      const { connect, dispatcher } = yield* start({}, { maxSessions: 2 })
      yield* enter(yield* connect, to(idOf("a")))
      assert.deepStrictEqual(yield* attempt(yield* connect, to(idOf("b"))), ["Close: UnknownSession"])
      // The one that there is stays open to others.
      yield* enter(yield* connect, to(idOf("a")))
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [{ id: idOf("a"), members: 2, role: "" }])
    })
  )

  it.effect("by garbage, in whatever pieces", () =>
    Effect.gen(function* () {
      const { connect, dispatcher } = yield* start()
      const { hello } = handshake(to(idOf("a")))
      for (const length of [1, 4, 8, 24, hello.length - 1, hello.length]) {
        const one = yield* connect
        one.handler.onData(hello.subarray(0, length))
        yield* settle
        one.handler.onData(crypto.getRandomValues(new Uint8Array(200)))
        yield* settle
        one.handler.onEnd()
        yield* settle
      }
      assert.deepStrictEqual(yield* sessionsOf(dispatcher), [])
    })
  )
})
