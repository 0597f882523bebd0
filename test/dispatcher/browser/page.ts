/** The program of the page: a member of a session, which the test drives as `globalThis.member`. */
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as Session from "@effect-nat/dispatcher/Session"
import * as WebConnector from "@effect-nat/dispatcher/WebConnector"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as Heard from "./Heard.ts"

export interface Member {
  /** Joins, with a snapshot where the session has a past, at a port of loopback. */
  readonly join: (port: number, invitation: string) => Promise<void>
  readonly send: (text: string) => Promise<void>
  readonly leave: () => Promise<void>
  readonly heard: Array<Heard.Heard>
}

declare global {
  // Only `var` makes a property of the global object.
  var member: Member
}

const heard: Array<Heard.Heard> = []
const scope = Scope.makeUnsafe()
let session: Session.Session | undefined

const join = Effect.fnUntraced(function* (port: number, word: string) {
  const invitation = yield* Effect.fromResult(Invitation.fromString(word))
  const address = NetAddress.inetAddressUnsafe(NetAddress.ipv4Loopback, port)
  session = yield* Session.joinAt([address], { invitation, sync: true })
  yield* Effect.forkScoped(Heard.follow(session, heard))
}, Effect.provide(WebConnector.layer))

const send = Effect.fnUntraced(function* (text: string) {
  if (session !== undefined) yield* session.send(new TextEncoder().encode(text))
})

globalThis.member = {
  join: (port, word) => Effect.runPromise(Scope.provide(join(port, word), scope)),
  send: (text) => Effect.runPromise(send(text)),
  leave: () => Effect.runPromise(Scope.close(scope, Exit.void)),
  heard
}
