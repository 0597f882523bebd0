/**
 * What the clients of a gateway notice by the way, in any answer or announcement, that concerns every mapping on it.
 */
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"

/** A count of seconds that began when the mapping table was empty, and when it was received. */
export interface Count {
  readonly seconds: number
  /** In nanoseconds of the monotonic clock. */
  readonly receivedAt: bigint
}

/**
 * An announcement can come from anybody in the network who forges the gateway's address; an answer only from whoever
 * sees the question.
 */
export interface Notices {
  /** The gateway has lost its mappings. */
  readonly restarted: (count: Count) => Effect.Effect<void>
  /** The gateway has another external address than it had. */
  readonly readdressed: (address: NetAddress.Ipv4Address, isAnnounced: boolean) => Effect.Effect<void>
}

/** Nobody wants to know. */
export const none: Notices = { restarted: () => Effect.void, readdressed: () => Effect.void }
