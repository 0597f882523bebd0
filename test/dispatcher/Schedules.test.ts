/**
 * What a session promises, over random schedules: one order for everyone, no gap, no duplicate, no tick before an earlier
 * message, and what is made up from a snapshot and messages is what was there all the time.
 */
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as TcpListener from "@effect-nat/dispatcher/TcpListener"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Layer from "effect/Layer"
import * as Schedules from "./schedules.ts"
import * as Support from "./support.ts"

const seeds = 150
const steps = 1200

/** A listener whose turns and connections the schedule makes. */
const makeListener = () => {
  const turns: Array<() => void> = []
  let onConnection: ((connection: TcpListener.Connection) => TcpListener.ConnectionHandler) | undefined
  const listener = TcpListener.TcpListener.of({
    listen: (options) =>
      Effect.sync(() => {
        onConnection = options.onConnection
        return { address: NetAddress.inetAddressUnsafe(Support.loopback, 1), stopAccepting: Effect.void }
      }),
    atTurnEnd: (task) => {
      turns.push(task)
    }
  })
  return {
    listener,
    endTurn: () => turns.splice(0).forEach((task) => task()),
    connect: (connection: TcpListener.Connection) => {
      if (onConnection === undefined) throw new Error("nobody listens")
      return onConnection(connection)
    }
  }
}

const runSeed = Effect.fnUntraced(function* (seed: number) {
  const { connect, endTurn, listener } = makeListener()
  // Little room, so that a member that stalls loses ticks, and then its connection, and the log is soon too short.
  const limits = { maxMessageBytes: 128, maxBacklogBytes: 4096, maxLogBytes: [0, 400, 2048][seed % 3] ?? 0 }
  const dispatcher = yield* Dispatcher.make({ port: 1, address: Support.loopback, limits }).pipe(
    Effect.provide([Layer.succeed(TcpListener.TcpListener, listener), Support.mapperLayer, Support.resolverLayer])
  )
  return yield* Effect.suspend(() => Schedules.run(seed, steps, { dispatcher, connect, endTurn })).pipe(
    Effect.catchDefect((defect) =>
      Effect.die(
        defect instanceof Schedules.Violation ? new Error(`seed ${seed}: ${defect.message}`, { cause: defect }) : defect
      )
    )
  )
}, Effect.scoped)

it.effect(
  `keeps its promises over ${seeds} random schedules`,
  () =>
    Effect.gen(function* () {
      const results = yield* Effect.forEach(
        Array.from({ length: seeds }, (_, seed) => seed),
        runSeed
      )
      const sum = (pick: (result: Schedules.Result) => number) => results.reduce((total, one) => total + pick(one), 0)
      // The schedules are worth something only where things happen.
      assert.isAbove(
        sum(({ messages }) => messages),
        50 * seeds
      )
      assert.isAbove(
        sum(({ snapshots }) => snapshots),
        seeds
      )
      assert.isAbove(
        sum(({ returns }) => returns),
        seeds
      )
    }),
  120_000
)
