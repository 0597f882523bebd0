/**
 * The epoch of a PCP server, and the test that tells one that has lost its mappings (RFC 6887 §8.5).
 *
 * A server counts the seconds since its mapping table was empty and says the count in every packet. The count must not
 * go backwards, and must keep pace with this host's clock, neither slower nor faster.
 *
 * @since 0.1.0
 */

/**
 * What a server said last, and when that was received.
 *
 * @category models
 * @since 0.1.0
 */
export interface Epoch {
  /** In seconds, as the server counts them. */
  readonly seconds: number
  /** In nanoseconds of this host's monotonic clock: a clock that is set right must not look like a restart. */
  readonly receivedAt: bigint
}

/** Packets may overtake each other: so far the count may go back. */
const backwardsTolerance = 1

/** Either clock may be slow by a sixteenth, and by two seconds on top of that. */
const slowestPace = 15 / 16
const paceTolerance = 2

const nanosPerSecond = 1_000_000_000

/**
 * Whether the server may have lost its mappings between two packets: the test of RFC 6887 §8.5.
 *
 * @category comparisons
 * @since 0.1.0
 */
export const hasRestarted = (previous: Epoch, current: Epoch): boolean => {
  if (current.seconds < previous.seconds - backwardsTolerance) return true
  const client = Number(current.receivedAt - previous.receivedAt) / nanosPerSecond
  const server = current.seconds - previous.seconds
  return client + paceTolerance < server * slowestPace || server + paceTolerance < client * slowestPace
}
