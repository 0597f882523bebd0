/**
 * Datagrams that change nothing: they are counted by reason, and named in the log for whoever looks for a fault.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"

/**
 * Why a datagram changes nothing: it comes from elsewhere (`"source"`), is no packet of the protocols (`"malformed"`),
 * answers another question or speaks of another's mapping (`"mismatch"`), or nobody waits for an answer (`"late"`).
 */
export interface Why {
  readonly reason: "source" | "malformed" | "mismatch" | "late"
  readonly detail: string
}

const ignoredDatagrams = Metric.counter("effect_nat_natpmp_ignored_datagrams", {
  description: "Datagrams of NAT-PMP and PCP that changed nothing, by reason",
  incremental: true
})

export const foreign: Why = { reason: "source", detail: "not from the gateway" }

export const malformed = (detail: string): Why => ({ reason: "malformed", detail })

export const mismatch = (detail: string): Why => ({ reason: "mismatch", detail })

export const count = (from: NetAddress.InetAddress, { detail, reason }: Why): Effect.Effect<void> =>
  Metric.update(Metric.withAttributes(ignoredDatagrams, { reason }), 1).pipe(
    Effect.andThen(Effect.logDebug(`ignored a datagram from ${NetAddress.formatInet(from)}: ${detail}`))
  )
