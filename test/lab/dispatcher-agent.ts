/**
 * A dispatcher on a lan host, as a program makes one: `upnp|pcp`, and a capability that has
 * sessions made by connecting where there are to be such. It has the two sessions of an island, scene
 * and content, is a member of both, prints what it hears there and answers it.
 *
 * Its first line is JSON: the URI of its contact point with a capability to look and one to manage, that of the postcard
 * without, and the port where forwarded connections come in.
 */
import * as Capability from "@effect-nat/core/Capability"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as Beacon from "@effect-nat/dispatcher/Beacon"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import type * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
import * as Session from "@effect-nat/dispatcher/Session"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeStdio from "@effect/platform-node/NodeStdio"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { answerIn } from "./session-answers.ts"

const strategies = { upnp: Upnp.layer, pcp: Pcp.layer }

const autoCreate = process.argv[3]

const strategy = process.argv[2] === "upnp" ? strategies.upnp : strategies.pcp

const enter = Effect.fnUntraced(function* (role: string, invitation: Invitation.Invitation) {
  const { address } = yield* Dispatcher.Dispatcher
  const here = NetAddress.inetAddressUnsafe(NetAddress.ipv4Loopback, address.port)
  yield* answerIn(role, yield* Session.joinAt([here], { invitation }))
})

/** Says what there is, whenever it changes and for each word that it is given. */
const tell = Effect.gen(function* () {
  const dispatcher = yield* Dispatcher.Dispatcher
  const stdio = yield* Stdio.Stdio
  const watching = Stream.runForEach(dispatcher.watch, (sessions) => Console.log(`changed ${JSON.stringify(sessions)}`))
  const answering = stdio.stdin.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.runForEach((word) =>
      Effect.flatMap(dispatcher.list, (sessions) => Console.log(`${word} ${JSON.stringify(sessions)}`))
    )
  )
  yield* Effect.all([watching, answering], { concurrency: "unbounded" })
})

const serving = Effect.gen(function* () {
  const dispatcher = yield* Dispatcher.Dispatcher
  for (const role of ["scene", "content"]) yield* enter(role, yield* dispatcher.register({ role }))
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
  yield* tell
  return yield* Effect.never
})

const dispatcher = NodeDispatcher.layerConfig({
  port: 12000,
  externalPort: 12001,
  forwarder: { port: 12010 },
  name: "island",
  viewpoint: "plaza",
  strategy,
  ...(autoCreate === undefined ? {} : { autoCreate: { capability: Capability.Capability.make(autoCreate) } })
}).pipe(Layer.provide(ContactPointResolver.layer), Layer.provide(Beacon.layer()), Layer.provide(NodeHost.layer))

NodeRuntime.runMain(serving.pipe(Effect.scoped, Effect.provide([dispatcher, NodeConnector.layer, NodeStdio.layer])))
