/** Members that come back; over simulated connections. */
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { bytesOf, enter, requestOf, settle, simulated, type SimulatedMember } from "./support.ts"

const joinedOf = (member: SimulatedMember) => {
  const [first] = member.frames()
  assert(first?._tag === "Joined")
  return first
}

const heardOf = (member: SimulatedMember) => [joinedOf(member).isResumed, ...member.heard().slice(1)]

const numbersOf = (member: SimulatedMember) => member.frames().map(({ sequence }) => sequence)

/** A session with three messages, in two turns. */
const withPast = Effect.fnUntraced(function* (maxLogBytes?: number) {
  const all = yield* simulated(maxLogBytes === undefined ? {} : { maxLogBytes })
  const first = yield* all.join
  first.say("a")
  first.say("b")
  all.endTurn()
  first.say("c")
  all.endTurn()
  const comeBack = Effect.fnUntraced(function* (after: number, life?: Uint8Array) {
    const member = yield* all.enter
    member.ask("join", Wire.encodeResume(after, life ?? member.welcome.life))
    yield* settle
    return member
  })
  return { ...all, first, comeBack }
})

it.effect("get what they missed, also from the middle of a turn, and then what comes", () =>
  Effect.gen(function* () {
    const { comeBack, endTurn, first } = yield* withPast()
    const [all, some, none] = [yield* comeBack(0), yield* comeBack(1), yield* comeBack(3)]
    first.say("d")
    endTurn()
    yield* settle
    assert.deepStrictEqual(heardOf(all), [true, "a", "b", "c", "d"])
    assert.deepStrictEqual(heardOf(some), [true, "b", "c", "d"])
    assert.deepStrictEqual(heardOf(none), [true, "d"])
    assert.deepStrictEqual(numbersOf(all), [3, 1, 2, 3, 4])
    assert.deepStrictEqual(numbersOf(some), [3, 2, 3, 4])
  })
)

it.effect("miss nothing that waits for the end of its turn, and get nothing twice", () =>
  Effect.gen(function* () {
    const { comeBack, endTurn, first } = yield* withPast()
    first.say("d")
    const member = yield* comeBack(2)
    first.say("e")
    endTurn()
    yield* settle
    assert.deepStrictEqual(heardOf(member), [true, "c", "d", "e"])
  })
)

it.effect("are told that it is not all there: too old, of another life, never sent", () =>
  Effect.gen(function* () {
    // Room for the last turn only.
    const { comeBack, endTurn, first } = yield* withPast(30)
    const cases = [
      yield* comeBack(0),
      yield* comeBack(1),
      yield* comeBack(2, new Uint8Array(8)),
      yield* comeBack(4),
      yield* comeBack(2 ** 52)
    ]
    const last = yield* comeBack(2)
    first.say("d")
    endTurn()
    yield* settle
    for (const member of cases) {
      assert.deepStrictEqual(heardOf(member), [false, "d"])
      assert.deepStrictEqual(numbersOf(member), [3, 4])
    }
    assert.deepStrictEqual(heardOf(last), [true, "c", "d"])
  })
)

it.effect("get nothing from a session that keeps nothing, unless they missed nothing", () =>
  Effect.gen(function* () {
    const { comeBack } = yield* withPast(0)
    assert.deepStrictEqual(heardOf(yield* comeBack(2)), [false])
    assert.deepStrictEqual(heardOf(yield* comeBack(3)), [true])
  })
)

it.effect("know a session that was registered anew by its life", () =>
  Effect.gen(function* () {
    const { connect, dispatcher, id, invitation, first } = yield* withPast()
    yield* dispatcher.unregister(id)
    const again = yield* dispatcher.register({ sessionId: id, capability: invitation.capability })
    const member = yield* enter(yield* connect, again)
    assert.notDeepEqual(member.welcome.life, first.welcome.life)
    member.ask("join", Wire.encodeResume(0, first.welcome.life))
    yield* settle
    assert.deepStrictEqual(heardOf(member), [false])
  })
)

it.effect("find the log in proportion to the messages in it, whatever they came in", () =>
  Effect.gen(function* () {
    const { endTurn, join } = yield* simulated()
    const [member, listener] = [yield* join, yield* join]
    const send = requestOf(member.welcome, "send", bytesOf("x"))
    const question = requestOf(member.welcome, "timeStamp")
    const questions = Array.from({ length: 500 }, () => question)
    member.handler.onData(new Uint8Array(Buffer.concat([...questions, send])))
    endTurn()
    yield* settle
    const [block] = listener.taken
    assert(block !== undefined)
    assert.isAtMost(block.buffer.byteLength, 2 * block.byteLength)
  })
)

it.effect.prop(
  "miss nothing and get nothing twice, wherever they were cut off",
  [
    Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 }))),
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 30 })),
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 400 }))
  ],
  ([turns, after, maxLogBytes]) =>
    Effect.gen(function* () {
      const { endTurn, enter, join } = yield* simulated({ maxLogBytes })
      const first = yield* join
      let said = 0
      for (const messages of turns) {
        for (let i = 0; i < messages; i++) {
          first.say(`${++said}`)
        }
        endTurn()
      }
      const member = yield* enter
      member.ask("join", Wire.encodeResume(after, member.welcome.life))
      yield* settle
      const [resumed, ...words] = heardOf(member)
      const missed = Array.from({ length: Math.max(0, said - after) }, (_, index) => `${after + index + 1}`)
      assert.deepStrictEqual(words, resumed === true ? missed : [])
      if (after > said) assert.isFalse(resumed)
      if (after === said) assert.isTrue(resumed)
    }).pipe(Effect.scoped),
  { arbitrary: { runs: 200 } }
)
