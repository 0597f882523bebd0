/**
 * The messages of the General Event Notification Architecture, between text and values, both ways (UPnP Device
 * Architecture 1.1 §4).
 *
 * Pure: `EventSubscription` sends and receives them.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Soap from "./Soap.ts"

/**
 * A text that is not the message that was expected.
 *
 * @category errors
 * @since 0.1.0
 */
export class GenaError extends Schema.TaggedError<GenaError>("@effect-nat/upnp/GenaError")("GenaError", {
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}

/**
 * HTTP headers by lower-case name.
 *
 * @category models
 * @since 0.1.0
 */
export type Headers = Readonly<Record<string, string>>

/**
 * What a device grants to a subscriber (§4.1.1, §4.1.2).
 *
 * @category models
 * @since 0.1.0
 */
export interface Granted {
  /** The subscription's identifier (SID), as the device writes it. */
  readonly sid: string
  /** How long it is good for, in seconds; `undefined` is without an end. */
  readonly timeoutSeconds: number | undefined
}

/**
 * One event message (§4.3.2).
 *
 * @category models
 * @since 0.1.0
 */
export interface Event {
  readonly sid: string
  /** 0 for the first one, which has all variables; then 1 to 4294967295, and 1 again. */
  readonly sequence: number
  /** The variables that have changed, and their values. */
  readonly properties: Soap.Arguments
}

/**
 * The largest event that is read, in bytes; real ones have a few hundred.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes: number = 64 * 1024

/**
 * Reads the answer to a subscription or its renewal.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeGranted = (_headers: Headers): Result.Result<Granted, GenaError> =>
  Result.fail(new GenaError({ detail: "not written yet" }))

/**
 * Reads an event.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeEvent = (_headers: Headers, _body: Uint8Array): Result.Result<Event, GenaError> =>
  Result.fail(new GenaError({ detail: "not written yet" }))
