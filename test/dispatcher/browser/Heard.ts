/** What members have heard, as plain values, so that what a page heard can be compared with what a process heard. */
import type * as Session from "@effect-nat/dispatcher/Session"
import type * as SessionEvent from "@effect-nat/dispatcher/SessionEvent"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

export interface Heard {
  readonly _tag: SessionEvent.SessionEvent["_tag"]
  readonly sequence: number
  /** The router's, in microseconds; of messages and ticks. */
  readonly stamp: number | undefined
  readonly text: string
}

/** Notes all events of a session from now on. */
export const follow = (session: Session.Session, heard: Array<Heard>) =>
  Stream.runForEach(session.events, (event) =>
    Effect.sync(() => {
      heard.push({
        _tag: event._tag,
        sequence: event.sequence,
        stamp: "stamp" in event ? event.stamp : undefined,
        text: "data" in event ? new TextDecoder().decode(event.data) : ""
      })
    })
  )
