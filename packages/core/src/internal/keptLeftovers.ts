/**
 * For how long the ledger keeps what nobody holds any more and nobody could delete.
 */

/** A gateway may grant more than it was asked for, and clocks are set. */
const dayMillis = 86_400_000

/** What a gateway keeps longer than this is not found by chance any more, nor is the network visited again. */
export const longestMillis = 90 * dayMillis

interface Leftover {
  /** In seconds, where it is sure to end by itself. */
  readonly lifetime?: number | undefined
  /** In milliseconds since 1970. */
  readonly leftAt?: number | undefined
}

/** Whether it has ended by itself, or has been kept long enough. */
export const isOver = ({ leftAt, lifetime }: Leftover, now: number): boolean => {
  const kept = lifetime === undefined ? longestMillis : Math.min(lifetime * 1000 + dayMillis, longestMillis)
  return leftAt !== undefined && now - leftAt > kept
}
