/**
 * A dispatcher in a process of its own, for the soak: `SESSIONS`. Prints its port and the invitations as a line of JSON,
 * and for each line that it reads how much memory it holds after a collection, its connections and what it has closed,
 * by reason. Run with `--expose-gc`.
 */
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Lan from "@effect-nat/core/Lan"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as DispatcherMetrics from "@effect-nat/dispatcher/DispatcherMetrics"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeStdio from "@effect/platform-node/NodeStdio"
import { Console, Effect, Layer, Metric, Stdio, Stream } from "effect"
import * as NetAddress from "effect/net/NetAddress"

const sessions = Number(process.argv[2] ?? 1)

const limits: Partial<Dispatcher.Limits> = {
  maxMembers: 4096,
  maxHandshakes: 4096,
  maxBacklogBytes: 2 * 1_048_576,
  handshakeTimeout: "2 seconds",
  stallTimeout: "5 seconds"
}

const closed = Effect.map(Metric.snapshot, (all) =>
  Object.fromEntries(
    all.flatMap((one) =>
      one.type === "Counter" && one.id === "effect_nat_dispatcher_closed_total"
        ? [[one.attributes?.["reason"] ?? "", Number(one.state.count)]]
        : []
    )
  )
)

const look = Effect.gen(function* () {
  global.gc?.()
  const { heapUsed, rss, arrayBuffers } = process.memoryUsage()
  const connections = yield* Metric.value(DispatcherMetrics.connections)
  yield* Console.log(
    JSON.stringify({ heap: heapUsed + arrayBuffers, rss, connections: connections.value, closed: yield* closed })
  )
})

const program = Effect.gen(function* () {
  const dispatcher = yield* Dispatcher.Dispatcher
  const invitations = yield* Effect.forEach(Array.from({ length: sessions }), () => dispatcher.register())
  yield* Console.log(JSON.stringify({ port: dispatcher.address.port, invitations: invitations.map(Invitation.format) }))
  const { stdin } = yield* Stdio.Stdio
  yield* stdin.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.runForEach(() => look)
  )
})

program.pipe(
  Effect.provide([
    NodeStdio.layer,
    NodeDispatcher.layer({ port: 0, address: NetAddress.ipv4Loopback, limits }).pipe(
      Layer.provide([Lan.layer, ContactPointResolver.layer]),
      Layer.provide(NodeHost.layer)
    )
  ]),
  Effect.scoped,
  NodeRuntime.runMain
)
