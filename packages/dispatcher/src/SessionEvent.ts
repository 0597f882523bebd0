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
 * What a member of a session hears, in order.
 *
 * @category models
 * @since 0.1.0
 */
export type SessionEvent = Message | Snapshot | Tick
