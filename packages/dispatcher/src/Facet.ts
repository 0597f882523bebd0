/**
 * What a member of a session may do, one thing each: the seven facets that a message router hands out, as Open Cobalt's
 * did.
 *
 * On the wire a facet is 128 random bits that the router made for one connection: who has them may do the thing, and
 * nobody else can guess them.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The facets, in the order in which the router hands them out:
 *
 * - `"join"`: get the messages of the session from now on, or from an earlier one on;
 * - `"send"`: have a message stamped and sent to everyone who has joined;
 * - `"sync"`: ask for a snapshot of what the session has come to;
 * - `"heartbeat"`: get the router's time at a rate of one's own while no messages come;
 * - `"beServer"`: make snapshots for others;
 * - `"leave"`: end the membership in order;
 * - `"timeStamp"`: ask for the router's time.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Facet = Schema.Literals(["join", "send", "sync", "heartbeat", "beServer", "leave", "timeStamp"])

/**
 * One thing that a member may do.
 *
 * @category models
 * @since 0.1.0
 */
export type Facet = typeof Facet.Type

/**
 * All facets, in the order in which they stand on the wire.
 *
 * @category constants
 * @since 0.1.0
 */
export const all: ReadonlyArray<Facet> = Facet.literals

/**
 * What a member needs that only watches: it gets messages, snapshots and the time, and cannot send.
 *
 * @category constants
 * @since 0.1.0
 */
export const watching: ReadonlyArray<Facet> = ["join", "sync", "heartbeat", "leave", "timeStamp"]

/**
 * The length of a facet on the wire, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const byteLength = 16
