/** What a dispatcher tells of itself: metrics and spans. */
import * as DispatcherMetrics from "@effect-nat/dispatcher/DispatcherMetrics"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Tracer from "effect/Tracer"
import * as TestClock from "effect/testing/TestClock"
import { bytesOf, enter, fromHex, handshake, settle, simulated, takenBy } from "./support.ts"

const countOf = (metric: Metric.Counter<number>) => Effect.map(Metric.value(metric), ({ count }) => count)
const gaugeOf = (metric: Metric.Gauge<number>) => Effect.map(Metric.value(metric), ({ value }) => value)

const all = Effect.all({
  connections: gaugeOf(DispatcherMetrics.connections),
  sessions: gaugeOf(DispatcherMetrics.sessions),
  clients: gaugeOf(DispatcherMetrics.clients),
  messages: countOf(DispatcherMetrics.messages),
  bytesIn: countOf(Metric.withAttributes(DispatcherMetrics.bytes, { direction: "in" })),
  bytesOut: countOf(Metric.withAttributes(DispatcherMetrics.bytes, { direction: "out" })),
  refused: countOf(Metric.withAttributes(DispatcherMetrics.closed, { reason: "UnsupportedVersion" })),
  done: countOf(Metric.withAttributes(DispatcherMetrics.closed, { reason: "Done" }))
})

it.effect("counts connections, members, messages and bytes, once a second and at the end", () =>
  Effect.gen(function* () {
    yield* Effect.gen(function* () {
      const { connect, dispatcher, endTurn, join } = yield* simulated()
      yield* dispatcher.register()
      yield* connect
      const stranger = yield* connect
      stranger.handler.onData(fromHex("8e4e4154 02"))
      const [first, second] = [yield* join, yield* join]
      first.say("12345")
      endTurn()
      yield* settle
      yield* TestClock.adjust("1 second")
      // Hello, proof, and the request to join, of two; a message; and what the stranger said.
      const bytesIn = 2 * (48 + 16 + 24) + 29 + 5
      // Challenge, welcome, joined, and the message, for two.
      const bytesOut = 2 * (40 + 148 + 25 + 29)
      assert.deepStrictEqual(yield* all, {
        connections: 3,
        sessions: 2,
        clients: 2,
        messages: 1,
        bytesIn,
        bytesOut,
        refused: 1,
        done: 0
      })
      second.ask("leave")
      yield* settle
    }).pipe(Effect.scoped)
    const atEnd = yield* all
    assert.deepInclude(atEnd, { connections: 0, clients: 0, sessions: 0, messages: 1, done: 1 })
  }).pipe(Effect.provideService(Metric.CurrentMetricAttributes, { test: "counts" }))
)

it.effect("counts each connection that is over once, with its reason", () =>
  Effect.gen(function* () {
    const { connect, endTurn, join } = yield* simulated({ maxMessageBytes: 1000, maxBacklogBytes: 3000 })
    const [slow, other] = [yield* join, yield* join]
    slow.stall(true)
    for (let i = 0; i < 3; i++) {
      other.ask("send", new Uint8Array(900))
      endTurn()
      yield* settle
    }
    // What it gets before it leaves is too much.
    other.ask("send", new Uint8Array(900))
    slow.ask("leave")
    const broken = yield* connect
    broken.handler.onData(fromHex("8e4e4154"))
    broken.handler.onClose()
    const ended = yield* connect
    ended.handler.onEnd()
    const foreign = yield* connect
    foreign.handler.onData(fromHex("160301"))
    const silent = yield* connect
    yield* TestClock.adjust("5 seconds")
    yield* settle
    assert.deepStrictEqual(
      [ended, foreign, silent].map(({ state }) => state()),
      ["destroyed", "destroyed", "destroyed"]
    )
    yield* TestClock.adjust("1 second")
    const counts = yield* Effect.forEach(["TooSlow", "Done", "Malformed", "HandshakeTimeout", "Unknown"], (reason) =>
      countOf(Metric.withAttributes(DispatcherMetrics.closed, { reason }))
    )
    assert.deepStrictEqual(counts, [1, 0, 1, 1, 2])
  }).pipe(Effect.provideService(Metric.CurrentMetricAttributes, { test: "closes" }))
)

/** A tracer that keeps what has ended: name, outcome and milliseconds. */
const makeTracer = Effect.sync(() => {
  const ended: Array<readonly [string, unknown, number]> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      const end = span.end.bind(span)
      span.end = (endTime, exit) => {
        end(endTime, exit)
        ended.push([span.name, span.attributes.get("outcome"), Number(endTime - options.startTime) / 1e6])
      }
      return span
    }
  })
  return { tracer, ended }
})

it.effect("has a span for each handshake and each snapshot, with its outcome and the time it took", () =>
  Effect.gen(function* () {
    const { ended, tracer } = yield* makeTracer
    const spans = () => ended.splice(0).filter(([name]) => name.startsWith("Dispatcher.") && name !== "Dispatcher.make")
    yield* Effect.gen(function* () {
      const { connect, invitation } = yield* simulated()
      spans()
      const { hello, proof } = handshake(invitation)
      const slow = yield* connect
      slow.handler.onData(hello)
      yield* TestClock.adjust("1 second")
      yield* settle
      slow.handler.onData(proof(takenBy(slow)))
      assert.deepStrictEqual(spans(), [["Dispatcher.handshake", "Done", 1000]])
      const wrong = yield* connect
      wrong.handler.onData(hello)
      yield* settle
      wrong.handler.onData(new Uint8Array(16))
      assert.deepStrictEqual(spans(), [["Dispatcher.handshake", "NotGranted", 0]])
      const gone = yield* connect
      gone.handler.onClose()
      const silent = yield* connect
      silent.handler.onData(hello)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(spans(), [
        ["Dispatcher.handshake", "gone", 0],
        ["Dispatcher.handshake", "HandshakeTimeout", 5000]
      ])

      const joiner = yield* enter(yield* connect, invitation)
      joiner.ask("sync")
      const server = yield* enter(yield* connect, invitation)
      server.ask("beServer")
      spans()
      joiner.ask("sync")
      yield* TestClock.adjust("2 seconds")
      // Another question meanwhile begins nothing.
      joiner.ask("sync")
      yield* TestClock.adjust("1 second")
      yield* settle
      const [serve] = server.frames()
      assert(serve?._tag === "Serve")
      const part = { sequence: 0, size: 1, offset: 0, data: bytesOf("x") }
      server.handler.onData(Wire.encodeRequest(serve.replyFacet, Wire.encodeSnapshotPart(part)))
      assert.deepStrictEqual(spans(), [["Dispatcher.snapshot", "Complete", 3000]])
      joiner.ask("sync")
      yield* TestClock.adjust("5 seconds")
      server.handler.onClose()
      joiner.ask("sync")
      server.handler.onClose()
      assert.deepStrictEqual(spans(), [
        ["Dispatcher.snapshot", "NoAnswer", 5000],
        ["Dispatcher.snapshot", "NoServer", 0]
      ])
      const last = yield* enter(yield* connect, invitation)
      last.ask("beServer")
      joiner.ask("sync")
      joiner.handler.onClose()
      assert.deepStrictEqual(spans().slice(1), [["Dispatcher.snapshot", "Gone", 0]])
    }).pipe(Effect.scoped, Effect.provideService(Tracer.Tracer, tracer))
  })
)
