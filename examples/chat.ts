/**
 * A chat for the hosts of one network. `node examples/chat.ts` hosts it and prints how others join:
 * `node examples/chat.ts join ADDRESS INVITATION`. Everyone reads the same lines in the same order, and whoever comes
 * late reads first what was said before. Ctrl-C leaves.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Lan from "@effect-nat/core/Lan"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
import * as Session from "@effect-nat/dispatcher/Session"
import type * as SessionEvent from "@effect-nat/dispatcher/SessionEvent"
import { NodeRuntime, NodeStdio } from "@effect/platform-node"
import { Console, Effect, Layer, Stdio, Stream } from "effect"
import { NetAddress } from "effect/net"

const encode = (text: string) => new TextEncoder().encode(text)
/** Line by line; what could steer a terminal is taken out. */
const decode = (data: Uint8Array) => new TextDecoder().decode(data).replaceAll(/(?!\n)\p{Cc}/gu, "")

const newsIn = (event: Exclude<SessionEvent.SessionEvent, SessionEvent.Tick>): string => {
  switch (event._tag) {
    case "Message":
      return `${event.sequence}: ${decode(event.data)}\n`
    case "Snapshot":
      return decode(event.data)
    case "Restarted":
      return "the host has begun anew\n"
  }
}

const chat = Effect.fnUntraced(function* (address: NetAddress.InetAddress, invitation: Invitation.Invitation) {
  const session = yield* Session.joinAt([address], { invitation, sync: true })
  // The state that a late joiner goes on from: all lines up to a message's number.
  let sequence = 0
  let said = ""
  yield* session.serve(Effect.sync(() => ({ sequence, data: encode(said) })))
  const listen = Stream.runForEach(session.events, (event) => {
    if (event._tag === "Tick") return Effect.void
    const news = newsIn(event)
    said = event._tag === "Message" ? said + news : news
    sequence = event.sequence
    return Console.log(news.trimEnd())
  })
  const { stdin } = yield* Stdio.Stdio
  const speak = Stream.runForEach(Stream.splitLines(Stream.decodeText(stdin)), (line) => session.send(encode(line)))
  yield* Effect.all([listen, speak], { concurrency: "unbounded" })
}, Effect.scoped)

const host = Effect.gen(function* () {
  const dispatcher = yield* Dispatcher.Dispatcher
  const invitation = yield* dispatcher.register()
  yield* Console.log(`contact point: ${ContactPoint.format(yield* dispatcher.contactPoint)}`)
  yield* Console.log(`invitation: ${Invitation.format(invitation)}`)
  yield* chat(NetAddress.inetAddressUnsafe(NetAddress.ipv4Loopback, dispatcher.address.port), invitation)
}).pipe(Effect.provide(NodeDispatcher.layer({ port: 0 }).pipe(Layer.provide([Lan.layer, ContactPointResolver.layer]))))

const join = Effect.fnUntraced(function* (address: string, invitation: string) {
  const inetAddress = yield* Effect.fromResult(NetAddress.inetAddressFromString(address))
  yield* chat(inetAddress, yield* Effect.fromResult(Invitation.fromString(invitation)))
})

const program = Effect.gen(function* () {
  const [command, address = "", invitation = ""] = process.argv.slice(2)
  yield* command === "join" ? join(address, invitation) : host
})
program.pipe(Effect.provide([NodeHost.layer, NodeConnector.layer, NodeStdio.layer]), NodeRuntime.runMain)
