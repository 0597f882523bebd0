/**
 * What the lab's agents do in a session: they print what they hear, behind the session's role, and answer it.
 */
import type * as Session from "@effect-nat/dispatcher/Session"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

export const answerIn = (role: string, session: Session.Session) =>
  Stream.runForEach(
    session.messages,
    Effect.fnUntraced(function* ({ data }) {
      const text = new TextDecoder().decode(data)
      if (text.startsWith("heard ")) return
      yield* Console.log(`${role}: ${text}`)
      yield* session.send(new TextEncoder().encode(`heard ${text}`))
    })
  ).pipe(Effect.forkScoped)
