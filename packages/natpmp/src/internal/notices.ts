/**
 * What the clients of a gateway notice by the way, in any answer or announcement, that concerns every mapping on it.
 */
import * as Monotonic from "@effect-nat/core/Monotonic"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type * as PcpCodec from "../PcpCodec.ts"

/** A count of seconds that began when the mapping table was empty, and when it was received. */
export interface Count {
  readonly seconds: number
  /** In nanoseconds of the monotonic clock. */
  readonly receivedAt: bigint
}

const nanosPerSecond = 1e9

/** Now, in seconds of the monotonic clock. */
export const monotonicSeconds = Effect.map(Monotonic.millis, (millis) => millis / 1000)

/** When it was told, in seconds of the monotonic clock. */
export const secondsOf = ({ receivedAt }: Count): number => Number(receivedAt) / nanosPerSecond

/** When it began, in the same seconds. */
export const startOf = (count: Count): number => secondsOf(count) - count.seconds

/** What names a mapping in a gateway's answer. */
export interface Granted {
  readonly protocol: PortMapping.Protocol
  readonly internalPort: number
  /** `undefined` over NAT-PMP. */
  readonly nonce: PcpCodec.Nonce | undefined
}

/**
 * An announcement can come from anybody in the network who forges the gateway's address; an answer only from whoever
 * sees the question.
 */
export interface Notices {
  /** The gateway has lost its mappings, but for the one that the answer which shows it has just granted. */
  readonly restarted: (count: Count, granted: Granted | undefined) => Effect.Effect<void>
  /** The gateway has another external address than it had. */
  readonly readdressed: (address: NetAddress.Ipv4Address, isAnnounced: boolean) => Effect.Effect<void>
}

/** Nobody wants to know. */
export const none: Notices = { restarted: () => Effect.void, readdressed: () => Effect.void }
