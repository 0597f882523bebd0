/** Brings the metrics up to what was counted, once a second and at the end. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import * as DispatcherMetrics from "../DispatcherMetrics.ts"
import type * as Hub from "./hub.ts"

const interval = Duration.seconds(1)

const incoming = Metric.withAttributes(DispatcherMetrics.bytes, { direction: "in" })
const outgoing = Metric.withAttributes(DispatcherMetrics.bytes, { direction: "out" })

/** What a counter has been told so far. */
const makeTell = () => {
  const told = new Map<string, number>()
  return (key: string, metric: Metric.Counter<number>, total: number) => {
    const more = total - (told.get(key) ?? 0)
    told.set(key, total)
    return more === 0 ? Effect.void : Metric.update(metric, more)
  }
}

export const start = Effect.fnUntraced(function* ({ connections, routers, traffic }: Hub.Hub) {
  const tell = makeTell()
  const update = Effect.suspend(() =>
    Effect.all(
      [
        Metric.update(DispatcherMetrics.connections, connections()),
        Metric.update(DispatcherMetrics.sessions, routers.size),
        Metric.update(
          DispatcherMetrics.clients,
          Array.from(routers.values()).reduce((sum, { size }) => sum + size, 0)
        ),
        tell("messages", DispatcherMetrics.messages, traffic.messages),
        tell("in", incoming, traffic.bytesIn),
        tell("out", outgoing, traffic.bytesOut),
        tell("ticks", DispatcherMetrics.droppedTicks, traffic.droppedTicks),
        ...Array.from(traffic.closes, ([reason, count]) =>
          tell(reason, Metric.withAttributes(DispatcherMetrics.closed, { reason }), count)
        )
      ],
      { discard: true }
    )
  )
  yield* Effect.addFinalizer(() => update)
  yield* Effect.forkScoped(Effect.repeat(update, Schedule.spaced(interval)))
})
