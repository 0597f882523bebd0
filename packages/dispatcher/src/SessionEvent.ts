/**
 * What a member of a session hears.
 *
 * @since 0.1.0
 */

/**
 * A message of some member, the same for all of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Message {
  readonly _tag: "Message"
  /** Its number in the session: 1 more than that of the message before it. */
  readonly sequence: number
  /** When the router took it, in microseconds of a clock of the router's own, which is never set back. */
  readonly stamp: number
  readonly data: Uint8Array
}

/**
 * What the session has come to, as another member tells it: it takes the place of every message up to its number.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly _tag: "Snapshot"
  /** The number of the last message that it includes. */
  readonly sequence: number
  readonly data: Uint8Array
}

/**
 * The router's time, told while no messages are. All messages up to its number were heard before.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tick {
  readonly _tag: "Tick"
  readonly sequence: number
  /** In microseconds of the clock that stamps the messages. */
  readonly stamp: number
}

/**
 * The session has begun anew, as it does where its dispatcher is restarted: whatever was said before belongs to another
 * life of it. The next message has the number 1, unless a snapshot of the new life comes first.
 *
 * **Details**
 *
 * Told to members who joined with `sync`; for the others the session ends, with `Missed`.
 *
 * **Gotchas**
 *
 * The stamps from here on are those of another clock, and may be smaller. A program that makes snapshots has to begin
 * with an empty state of number 0 here: what the old life had come to is none of the new one's.
 *
 * @category models
 * @since 0.1.0
 */
export interface Restarted {
  readonly _tag: "Restarted"
  /** Nothing of the new life was told yet. */
  readonly sequence: 0
}

/**
 * What a member of a session hears, in order.
 *
 * @category models
 * @since 0.1.0
 */
export type SessionEvent = Message | Snapshot | Tick | Restarted
