/** The router's time for members; over simulated connections, with the test's clock. */
import * as DispatcherMetrics from "@effect-nat/dispatcher/DispatcherMetrics"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as TestClock from "effect/testing/TestClock"
import { fromHex, settle, simulated, type SimulatedMember } from "./support.ts"

const every = (milliseconds: number) => fromHex(milliseconds.toString(16).padStart(8, "0"))

const ticksOf = (member: SimulatedMember) => member.heard().filter((word) => word === "Tick").length

const pass = Effect.fnUntraced(function* (milliseconds: number, step = 10) {
  for (let passed = 0; passed < milliseconds; passed += step) {
    yield* TestClock.adjust(`${step} millis`)
    yield* settle
  }
})

it.effect("come at each member's own rate, until it wants no more", () =>
  Effect.gen(function* () {
    const { enter, join } = yield* simulated()
    const [often, seldom, same, never] = [yield* join, yield* enter, yield* join, yield* join]
    often.ask("heartbeat", every(20))
    seldom.ask("heartbeat", every(50))
    same.ask("heartbeat", every(20))
    yield* pass(200)
    assert.deepStrictEqual([often, seldom, same, never].map(ticksOf), [10, 4, 10, 0])
    same.ask("heartbeat", every(100))
    often.ask("heartbeat", every(0))
    yield* pass(200)
    assert.deepStrictEqual([often, seldom, same, never].map(ticksOf), [10, 8, 12, 0])
    seldom.handler.onClose()
    yield* pass(200)
    assert.deepStrictEqual([often, same, never].map(ticksOf), [10, 14, 0])
  })
)

it.effect("come no faster than the dispatcher allows", () =>
  Effect.gen(function* () {
    const { join } = yield* simulated({ minTickInterval: "50 millis" })
    const member = yield* join
    member.ask("heartbeat", every(1))
    yield* pass(200)
    assert.strictEqual(ticksOf(member), 4)
  })
)

it.effect("are left out while messages flow, which tell the time as well", () =>
  Effect.gen(function* () {
    const { endTurn, join } = yield* simulated()
    const member = yield* join
    member.ask("heartbeat", every(50))
    for (let i = 0; i < 20; i++) {
      member.say("x")
      endTurn()
      yield* pass(20)
    }
    assert.strictEqual(ticksOf(member), 0)
    yield* pass(500)
    assert.isAtLeast(ticksOf(member), 9)
  })
)

it.effect("overtake no message, and tell its number and a time that never goes back", () =>
  Effect.gen(function* () {
    const { endTurn, join } = yield* simulated()
    const member = yield* join
    member.ask("heartbeat", every(20))
    // What waits for the end of its turn goes out before the tick.
    yield* pass(40)
    member.say("waiting")
    yield* pass(100)
    endTurn()
    yield* settle
    const frames = member.frames()
    const at = frames.findIndex(({ _tag }) => _tag === "Message")
    assert.deepStrictEqual(
      frames.map(({ sequence }) => sequence),
      frames.map((_, index) => (index < at ? 0 : 1))
    )
    assert.isAbove(frames.length, at + 1)
    const stamps = frames.map(({ stamp }) => stamp)
    assert.deepStrictEqual(
      stamps,
      stamps.toSorted((a, b) => a - b)
    )
  })
)

it.effect("are the first to be dropped for a member that is behind, and are counted", () =>
  Effect.gen(function* () {
    const { endTurn, join, members } = yield* simulated()
    const [slow, other] = [yield* join, yield* join]
    slow.ask("heartbeat", every(20))
    other.ask("heartbeat", every(20))
    slow.stall(true)
    other.ask("send", new Uint8Array(100_000))
    endTurn()
    yield* pass(200)
    assert.strictEqual(ticksOf(slow), 0)
    const missed = ticksOf(other)
    assert.isAtLeast(missed, 8)
    yield* pass(1000)
    const { count } = yield* Metric.value(DispatcherMetrics.droppedTicks)
    assert.isAtLeast(count, missed)
    assert.isAtMost(count, ticksOf(other))
    slow.stall(false)
    yield* settle
    assert.deepStrictEqual(slow.heard().length, 1)
    yield* pass(100)
    assert.isAtLeast(ticksOf(slow), 4)
    assert.strictEqual(yield* members, 2)
  }).pipe(Effect.provideService(Metric.CurrentMetricAttributes, { test: "dropped ticks" }))
)
