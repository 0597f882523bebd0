/**
 * A dispatcher on a lan host, as a program makes one: `upnp|pcp`, then flags. It has the two sessions of an island, scene
 * and content, is a member of both, prints what it hears there and answers it.
 *
 * Its first line is JSON: the URI of its contact point with a capability to look and one to manage, that of the postcard
 * without, and the port where forwarded connections come in.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import type * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
import * as Session from "@effect-nat/dispatcher/Session"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"

const strategies = { upnp: Upnp.layer, pcp: Pcp.layer }

const strategy = process.argv[2] === "upnp" ? strategies.upnp : strategies.pcp

const encode = (text: string) => new TextEncoder().encode(text)

const answerIn = Effect.fnUntraced(function* (role: string, invitation: Invitation.Invitation) {
  const { address } = yield* Dispatcher.Dispatcher
  const session = yield* Session.joinAt([NetAddress.inetAddressUnsafe(NetAddress.ipv4Loopback, address.port)], {
    invitation
  })
  const answering = Stream.runForEach(
    session.messages,
    Effect.fnUntraced(function* ({ data }) {
      const text = new TextDecoder().decode(data)
      if (text.startsWith("heard ")) return
      yield* Console.log(`${role}: ${text}`)
      yield* session.send(encode(`heard ${text}`))
    })
  )
  yield* Effect.forkScoped(answering)
})

const serving = Effect.gen(function* () {
  const dispatcher = yield* Dispatcher.Dispatcher
  for (const role of ["scene", "content"]) yield* answerIn(role, yield* dispatcher.register({ role }))
  const contactPoint = yield* dispatcher.contactPoint
  const withControl = Effect.fnUntraced(function* (right: Dispatcher.Right) {
    const control = yield* dispatcher.grantControl(right)
    return ContactPointUri.format(ContactPoint.make({ ...contactPoint, control }))
  })
  const serving = {
    observe: yield* withControl("observe"),
    manage: yield* withControl("manage"),
    postcard: ContactPointUri.format(contactPoint),
    forwarder: dispatcher.forwarder?.port
  }
  yield* Console.log(JSON.stringify(serving))
  return yield* Effect.never
})

const dispatcher = NodeDispatcher.layerConfig({
  port: 12000,
  externalPort: 12001,
  forwarder: { port: 12010 },
  name: "island",
  viewpoint: "plaza",
  strategy
}).pipe(Layer.provide(ContactPointResolver.layer), Layer.provide(NodeHost.layer))

NodeRuntime.runMain(serving.pipe(Effect.scoped, Effect.provide([dispatcher, NodeConnector.layer])))
