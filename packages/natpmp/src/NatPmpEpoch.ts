/**
 * The epoch of a NAT-PMP gateway, and the test that tells a restarted gateway (RFC 6886 §3.6).
 *
 * A gateway counts the seconds since its mapping table was empty and says the count in every packet. A count that
 * falls behind this host's clock means that the gateway has lost its mappings.
 *
 * @since 0.1.0
 */

/**
 * What a gateway said last, and when that was received.
 *
 * @category models
 * @since 0.1.0
 */
export interface Epoch {
  /** In seconds, as the gateway counts them. */
  readonly seconds: number
  /** In nanoseconds of this host's monotonic clock: a clock that is set right must not look like a restart. */
  readonly receivedAt: bigint
}

/** The gateway's clock may be slow by an eighth, and by two seconds on top of that. */
const slowestPace = 7 / 8
const toleranceSeconds = 2

const nanosPerSecond = 1_000_000_000

/**
 * Whether the gateway has lost its mappings between two packets: the test of RFC 6886 §3.6.
 *
 * @category comparisons
 * @since 0.1.0
 */
export const hasRestarted = (previous: Epoch, current: Epoch): boolean => {
  const elapsed = Number(current.receivedAt - previous.receivedAt) / nanosPerSecond
  const expected = previous.seconds + elapsed * slowestPace
  return current.seconds < expected - toleranceSeconds
}
