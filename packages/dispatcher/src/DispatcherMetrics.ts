/**
 * What a dispatcher's connections do, as Effect metrics: whoever exports metrics, as `PrometheusMetrics` or OTLP, exports
 * these. They are brought up to date once a second.
 *
 * Several dispatchers in one process share them, unless they are given metric attributes of their own.
 *
 * @since 0.1.0
 */
import * as Metric from "effect/Metric"

/**
 * Connections that are open, in whatever state.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connections = Metric.gauge("effect_nat_dispatcher_connections", {
  description: "Open connections"
})

/**
 * Sessions that are registered.
 *
 * @category metrics
 * @since 0.1.0
 */
export const sessions = Metric.gauge("effect_nat_dispatcher_sessions", {
  description: "Registered sessions"
})

/**
 * Connections that are members of a session.
 *
 * @category metrics
 * @since 0.1.0
 */
export const clients = Metric.gauge("effect_nat_dispatcher_clients", {
  description: "Members of all sessions"
})

/**
 * Messages that were numbered and stamped; each of them goes to every member.
 *
 * @category metrics
 * @since 0.1.0
 */
export const messages = Metric.counter("effect_nat_dispatcher_messages_total", {
  description: "Messages of all sessions",
  incremental: true
})

/**
 * Bytes received from clients and sent to clients, by the attribute `direction`: `in` or `out`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const bytes = Metric.counter("effect_nat_dispatcher_bytes_total", {
  description: "Bytes from and to clients",
  incremental: true
})

/**
 * Ticks that were not sent since their client was behind.
 *
 * @category metrics
 * @since 0.1.0
 */
export const droppedTicks = Metric.counter("effect_nat_dispatcher_dropped_ticks_total", {
  description: "Ticks not sent to clients that were behind",
  incremental: true
})

/**
 * Connections that were refused or ended, by the attribute `reason`, a `CloseReason`; `Unknown` stands for those that
 * broke, or ended before their handshake was complete.
 *
 * @category metrics
 * @since 0.1.0
 */
export const closed = Metric.counter("effect_nat_dispatcher_closed_total", {
  description: "Connections that were refused or ended",
  incremental: true
})
