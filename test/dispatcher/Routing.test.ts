/** The dispatcher without sockets: its time is the test's, its connections are driven by hand. */
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as TcpListener from "@effect-nat/dispatcher/TcpListener"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import {
  bytesOf,
  enter,
  framesIn,
  fromHex,
  handshake,
  hex,
  makeMapper,
  makeSimulatedListener,
  requestOf,
  resolverLayer,
  settle,
  simulated,
  type SimulatedConnection,
  type SimulatedMember,
  takenBy,
  wordsOf
} from "./support.ts"

it.effect("gives a handshake exactly its time", () =>
  Effect.gen(function* () {
    const { connect, enter: enterNow, invitation, members } = yield* simulated()
    const { hello, proof } = handshake(invitation)
    const half = yield* connect
    half.handler.onData(hello.subarray(0, 20))
    const silent = yield* connect
    const unproved = yield* connect
    unproved.handler.onData(hello)
    const late = yield* connect
    late.handler.onData(hello)
    const member = yield* enterNow
    yield* TestClock.adjust("4999 millis")
    yield* settle
    assert.strictEqual(half.state(), "open")
    late.handler.onData(proof(takenBy(late)))
    yield* TestClock.adjust("1 millis")
    yield* settle
    assert.strictEqual(hex(takenBy(half)), hex(Wire.encodeRefused("HandshakeTimeout")))
    assert.deepStrictEqual(wordsOf(framesIn(takenBy(unproved).subarray(40))), ["Close: HandshakeTimeout"])
    assert.strictEqual(silent.state(), "destroyed")
    assert.deepStrictEqual(silent.taken, [])
    yield* TestClock.adjust("1 hour")
    assert.strictEqual(member.state(), "open")
    assert.strictEqual(late.state(), "open")
    assert.strictEqual(yield* members, 2)
  })
)

it.effect("tells only so many at once why they are refused, and forgets those that have gone", () =>
  Effect.gen(function* () {
    const { connect } = yield* simulated({ maxHandshakes: 2 })
    const refuse = Effect.map(connect, (connection) => {
      connection.handler.onData(fromHex("8e4e4154 02"))
      return connection
    })
    const told = (connection: SimulatedConnection) => hex(takenBy(connection)) === hex(refusal)
    const refusal = Wire.encodeRefused("UnsupportedVersion")
    const [first, second, third] = [yield* refuse, yield* refuse, yield* refuse]
    yield* settle
    assert.deepStrictEqual([first, second, third].map(told), [true, true, false])
    assert.strictEqual(third.state(), "destroyed")
    const [fourth, fifth] = [yield* refuse, yield* refuse]
    yield* settle
    assert.deepStrictEqual([fourth, fifth].map(told), [true, true])
  })
)

it.effect("drops a peer that is sent away and stays, after its time", () =>
  Effect.gen(function* () {
    const { dispatcher, id, join } = yield* simulated()
    const member = yield* join
    member.stall(true)
    yield* dispatcher.unregister(id)
    yield* TestClock.adjust("999 millis")
    yield* settle
    assert.notStrictEqual(member.state(), "destroyed")
    yield* TestClock.adjust("1 millis")
    yield* settle
    assert.strictEqual(member.state(), "destroyed")
  })
)

it.effect("tells its peers that it ends before their way in is taken away", () =>
  Effect.gen(function* () {
    const { connect, listener } = yield* makeSimulatedListener
    const joined: Array<SimulatedMember> = []
    const heardAtRelease: Array<string> = []
    const member = yield* Effect.scoped(
      Effect.gen(function* () {
        const { mapper } = yield* makeMapper
        const watched = PortMapper.PortMapper.of({
          ...mapper,
          map: (request) =>
            Effect.tap(mapper.map(request), () =>
              Effect.addFinalizer(() => Effect.sync(() => heardAtRelease.push(...joined.flatMap((one) => one.heard()))))
            )
        })
        const dispatcher = yield* Dispatcher.make({ port: 12000 }).pipe(
          Effect.provide(Layer.merge(Layer.succeed(TcpListener.TcpListener, listener), resolverLayer)),
          Effect.provideService(PortMapper.PortMapper, watched)
        )
        const member = yield* enter(yield* connect, yield* dispatcher.register())
        joined.push(member)
        return member
      })
    )
    assert.strictEqual(member.state(), "destroyed")
    assert.deepStrictEqual(heardAtRelease, ["Close: ShuttingDown"])
  })
)

it.effect("tells whoever came while the mapping was still being asked for", () =>
  Effect.gen(function* () {
    const { connect, listener } = yield* makeSimulatedListener
    const starting = yield* Dispatcher.make({ port: 12000 }).pipe(
      Effect.provide(
        Layer.mergeAll(
          Layer.succeed(TcpListener.TcpListener, listener),
          Layer.mock(PortMapper.PortMapper)({ map: () => Effect.never }),
          resolverLayer
        )
      ),
      Effect.scoped,
      Effect.forkChild
    )
    const early = yield* connect
    early.handler.onData(Uint8Array.from(Wire.magic))
    yield* Fiber.interrupt(starting)
    assert.strictEqual(hex(takenBy(early)), hex(Wire.encodeRefused("ShuttingDown")))
    assert.strictEqual(early.state(), "destroyed")
  })
)

it.effect("joins the messages of a turn once, and writes the same bytes once to each member", () =>
  Effect.gen(function* () {
    const { endTurn, join } = yield* simulated()
    const [first, second, third] = [yield* join, yield* join, yield* join]
    first.say("a")
    second.say("b")
    first.say("c")
    yield* settle
    assert.strictEqual(first.taken.length, 0)
    assert.strictEqual(endTurn(), 1)
    yield* settle
    const [block] = first.taken
    assert(block !== undefined)
    // Plain bytes, on whatever platform.
    assert.strictEqual(Object.getPrototypeOf(block), Uint8Array.prototype)
    for (const member of [first, second, third]) {
      assert.strictEqual(member.taken.length, 1)
      assert.strictEqual(member.taken[0], block)
      assert.deepStrictEqual(member.heard(), ["a", "b", "c"])
    }
  })
)

it.effect("passes the messages of one chunk on in the memory that they came in", () =>
  Effect.gen(function* () {
    const { endTurn, join } = yield* simulated()
    const [first, second] = [yield* join, yield* join]
    const send = (text: string) => requestOf(first.welcome, "send", bytesOf(text))
    const chunk = new Uint8Array(Buffer.concat([send("a"), send("b")]))
    first.handler.onData(chunk)
    endTurn()
    yield* settle
    assert.strictEqual(second.taken.length, 1)
    assert.strictEqual(second.taken[0]?.buffer, chunk.buffer)
    // A question between two messages ends a block, and all of it comes in order.
    const mixed = Buffer.concat([send("c"), requestOf(first.welcome, "timeStamp"), send("d")])
    first.handler.onData(new Uint8Array(mixed))
    endTurn()
    yield* settle
    assert.deepStrictEqual(first.heard(), ["a", "b", "c", "Time", "d"])
    assert.deepStrictEqual(second.heard(), ["a", "b", "c", "d"])
  })
)

it.effect("numbers messages from 1 and stamps each turn once, by a clock that never goes back", () =>
  Effect.gen(function* () {
    const { endTurn, join } = yield* simulated()
    const member = yield* join
    const stamps = () => member.frames().map(({ sequence, stamp }) => [sequence, stamp])
    yield* TestClock.setTime(5000)
    member.say("a")
    yield* TestClock.adjust("1 millis")
    member.say("b")
    endTurn()
    yield* TestClock.adjust("2 millis")
    member.say("c")
    member.ask("timeStamp", bytesOf("?"))
    yield* settle
    // The wall clock is set back, as by somebody who travels.
    yield* TestClock.setTime(1000)
    member.say("d")
    endTurn()
    yield* settle
    assert.deepStrictEqual(stamps().slice(0, 4), [
      [1, 5_000_000],
      [2, 5_000_000],
      [3, 5_003_000],
      [3, 5_003_000]
    ])
    const [sequence, stamp] = stamps()[4] ?? []
    assert.strictEqual(sequence, 4)
    assert.isAtLeast(stamp ?? 0, 5_003_000)
    const time = member.frames().find(({ _tag }) => _tag === "Time")
    assert(time?._tag === "Time")
    assert.strictEqual(hex(time.echo), hex(bytesOf("?")))
  })
)

it.effect("never tells a time before one that it has told, whatever its clock does", () =>
  Effect.gen(function* () {
    let now = 5_000_000_000n
    const base = yield* Clock.Clock
    const unsteady: Clock.Clock = Object.create(base, { monotonicTimeNanosUnsafe: { value: () => now } })
    const { endTurn, join } = yield* simulated().pipe(Effect.provideService(Clock.Clock, unsteady))
    const member = yield* join
    member.say("a")
    endTurn()
    now = 3_000_000_000n
    member.ask("timeStamp")
    member.say("b")
    endTurn()
    now = 6_000_000_000n
    member.say("c")
    endTurn()
    yield* settle
    assert.deepStrictEqual(
      member.frames().map(({ _tag, stamp }) => [_tag, stamp]),
      [
        ["Message", 5_000_000],
        ["Time", 5_000_000],
        ["Message", 5_000_000],
        ["Message", 6_000_000]
      ]
    )
  })
)

it.effect("gives a member nothing from before it joined", () =>
  Effect.gen(function* () {
    const { endTurn, enter, join } = yield* simulated()
    const first = yield* join
    const second = yield* enter
    first.say("before")
    second.ask("join")
    first.say("after")
    endTurn()
    yield* settle
    assert.deepStrictEqual(first.heard(), ["before", "after"])
    assert.deepStrictEqual(second.heard(), ["Joined", "after"])
    assert.deepStrictEqual(
      second.frames().map(({ sequence }) => sequence),
      [1, 2]
    )
  })
)

it.effect("gives nothing to whoever has not joined, and takes its messages", () =>
  Effect.gen(function* () {
    const { endTurn, enter, join } = yield* simulated()
    const [speaker, listener] = [yield* enter, yield* join]
    speaker.say("hello")
    endTurn()
    yield* settle
    assert.deepStrictEqual(speaker.heard(), [])
    assert.deepStrictEqual(listener.heard(), ["hello"])
  })
)

it.effect("delivers what a member sent before it left, however it leaves", () =>
  Effect.gen(function* () {
    const { endTurn, join, members } = yield* simulated()
    const [first, second, third] = [yield* join, yield* join, yield* join]
    first.say("last words")
    first.handler.onEnd()
    third.say("mine")
    third.ask("leave")
    third.say("too late")
    endTurn()
    yield* settle
    assert.deepStrictEqual(second.heard(), ["last words", "mine"])
    assert.deepStrictEqual(first.heard(), ["last words"])
    assert.deepStrictEqual(third.heard(), ["last words", "mine"])
    assert.strictEqual(first.state(), "destroyed")
    assert.strictEqual(third.state(), "destroyed")
    assert.strictEqual(yield* members, 1)
  })
)

it.effect("does not read from a member that is far behind, until it has caught up", () =>
  Effect.gen(function* () {
    const { endTurn, join } = yield* simulated()
    const [slow, other] = [yield* join, yield* join]
    slow.stall(true)
    for (let i = 0; i < 5; i++) {
      other.ask("send", new Uint8Array(100_000))
      endTurn()
      yield* settle
    }
    assert.isTrue(slow.isPaused())
    assert.isFalse(other.isPaused())
    slow.stall(false)
    yield* settle
    assert.isFalse(slow.isPaused())
    assert.strictEqual(slow.heard().length, 5)
  })
)

it.effect("cuts a member off at its limit, at the end of a whole frame, and with the reason last", () =>
  Effect.gen(function* () {
    const { endTurn, join, members } = yield* simulated({ maxMessageBytes: 1000, maxBacklogBytes: 3000 })
    const [slow, other] = [yield* join, yield* join]
    slow.stall(true)
    for (let i = 0; i < 4; i++) {
      other.ask("send", new Uint8Array(900))
      endTurn()
      yield* settle
      assert.isAtMost(slow.waiting(), 3000)
    }
    assert.strictEqual(yield* members, 1)
    slow.stall(false)
    yield* settle
    assert.deepStrictEqual(
      slow.frames().map((frame) => (frame._tag === "Close" ? frame.reason : frame._tag)),
      ["Message", "TooSlow"]
    )
    assert.strictEqual(slow.state(), "destroyed")
    assert.strictEqual(other.heard().length, 4)
  })
)

/** Puts a member that takes nothing so far behind that it is not read from. */
const leaveBehind = Effect.fnUntraced(function* (slow: SimulatedMember, other: SimulatedMember, endTurn: () => number) {
  slow.stall(true)
  for (let i = 0; i < 5; i++) {
    other.ask("send", new Uint8Array(100_000))
    endTurn()
    yield* settle
  }
  assert.isTrue(slow.isPaused())
})

it.effect("sends away a member that is behind and takes nothing, when its time is over", () =>
  Effect.gen(function* () {
    const { endTurn, join, members } = yield* simulated()
    const [slow, other] = [yield* join, yield* join]
    yield* leaveBehind(slow, other, endTurn)
    yield* TestClock.adjust("29999 millis")
    assert.strictEqual(yield* members, 2)
    yield* TestClock.adjust("1 millis")
    assert.strictEqual(yield* members, 1)
    yield* TestClock.adjust("1 second")
    yield* settle
    assert.strictEqual(slow.state(), "destroyed")
    other.say("still here")
    endTurn()
    yield* settle
    assert.strictEqual(other.heard().at(-1), "still here")
    yield* TestClock.adjust("1 hour")
    assert.strictEqual(other.state(), "open")
  })
)

it.effect("keeps a member that takes a little now and then, and tells the one that stops why, between two frames", () =>
  Effect.gen(function* () {
    const { endTurn, join, members } = yield* simulated({ stallTimeout: "10 seconds" })
    const [slow, other] = [yield* join, yield* join]
    yield* leaveBehind(slow, other, endTurn)
    for (let i = 0; i < 4; i++) {
      yield* TestClock.adjust("9 seconds")
      slow.takeOne()
    }
    assert.isTrue(slow.isPaused())
    yield* TestClock.adjust("9999 millis")
    assert.strictEqual(yield* members, 2)
    yield* TestClock.adjust("1 millis")
    assert.strictEqual(yield* members, 1)
    slow.stall(false)
    yield* settle
    assert.deepStrictEqual(
      slow.frames().map((frame) => (frame._tag === "Message" ? frame.data.length : wordsOf([frame])[0])),
      [100_000, 100_000, 100_000, 100_000, "Close: TooSlow"]
    )
    assert.strictEqual(slow.state(), "destroyed")
  })
)

it.effect("lets a member that has caught up be idle for as long as it likes, and to fall behind again", () =>
  Effect.gen(function* () {
    const { endTurn, join, members } = yield* simulated()
    const [slow, other] = [yield* join, yield* join]
    yield* leaveBehind(slow, other, endTurn)
    yield* TestClock.adjust("20 seconds")
    slow.stall(false)
    yield* settle
    assert.isFalse(slow.isPaused())
    yield* TestClock.adjust("5 seconds")
    yield* leaveBehind(slow, other, endTurn)
    yield* TestClock.adjust("29 seconds")
    assert.strictEqual(yield* members, 2)
    slow.stall(false)
    yield* settle
    yield* TestClock.adjust("1 hour")
    assert.strictEqual(slow.state(), "open")
    assert.strictEqual(yield* members, 2)
  })
)

interface Present {
  readonly connection: SimulatedMember
  /** How much had been said when it joined. */
  readonly from: number
  begun: { readonly label: string; readonly rest: Uint8Array } | undefined
}

/** One step of a schedule: who does it, and what. */
const Step = Schema.Struct({
  member: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 })),
  action: Schema.Literals(["say", "say", "say", "half", "join", "leave", "break", "turn", "settle"])
})

it.effect.prop(
  "gives all members the same order without gap or duplicate, whoever comes and goes",
  [Schema.Array(Step)],
  ([steps]) =>
    Effect.gen(function* () {
      const { endTurn, join, members } = yield* simulated()
      const present = new Map<number, Present>()
      const past: Array<Present & { readonly until: number }> = []
      const said: Array<string> = []
      let labels = 0
      const finish = (one: Present) => {
        if (one.begun === undefined) return
        one.connection.handler.onData(one.begun.rest)
        said.push(one.begun.label)
        one.begun = undefined
      }
      const begin = (one: Present) => {
        const label = `${labels++}`
        const frame = requestOf(one.connection.welcome, "send", bytesOf(label))
        const middle = 1 + (labels % (frame.length - 1))
        one.connection.handler.onData(frame.subarray(0, middle))
        one.begun = { label, rest: frame.subarray(middle) }
      }
      // A frame that was begun and never completed is delivered to nobody.
      const leave = (number: number, one: Present) => {
        present.delete(number)
        past.push({ ...one, until: said.length })
      }
      for (const { action, member } of steps) {
        const one = present.get(member)
        if (action === "turn") endTurn()
        if (action === "settle") yield* settle
        if (one === undefined) {
          if (action === "join") present.set(member, { connection: yield* join, from: said.length, begun: undefined })
          continue
        }
        if (action === "say" || action === "half") {
          finish(one)
          begin(one)
        }
        if (action === "say") finish(one)
        if (action === "leave") one.connection.handler.onEnd()
        if (action === "break") one.connection.handler.onClose()
        if (action === "leave" || action === "break") leave(member, one)
      }
      endTurn()
      yield* settle
      assert.strictEqual(yield* members, present.size)
      for (const { connection, from } of present.values()) {
        assert.deepStrictEqual(connection.heard(), said.slice(from))
        const numbers = connection.frames().map(({ sequence }) => sequence)
        assert.deepStrictEqual(
          numbers,
          numbers.map((_, index) => from + index + 1)
        )
      }
      for (const { connection, from, until } of past) {
        const got = connection.heard()
        // A broken connection may have lost the end of it, never the middle.
        assert.deepStrictEqual(got, said.slice(from, from + got.length))
        assert.isAtMost(from + got.length, until)
      }
    }).pipe(Effect.scoped),
  { arbitrary: { runs: 300 } }
)
