/**
 * A program that announces itself on the lab's networks: `NAME ADDRESS:PORT SESSION…`, as
 * dispatchers do, until it is told to end.
 */
import * as Announcer from "@effect-nat/core/Announcer"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as NodeNetworkInterfaces from "@effect-nat/core/NodeNetworkInterfaces"
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Beacon from "@effect-nat/dispatcher/Beacon"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"

const [name = "", address = "", ...sessions] = process.argv.slice(2)

const contactPoint = ContactPoint.make({
  name,
  internal: [NetAddress.inetAddressFromStringUnsafe(address)],
  sessions: sessions.map(
    (id) => new ContactPoint.Session({ id: SessionId.SessionId.make(id), role: "scene", capabilities: [] })
  )
})

const announcing = Effect.gen(function* () {
  const announcer = yield* Announcer.Announcer
  yield* announcer.announce(Stream.make(contactPoint))
  yield* Console.log("announcing")
  return yield* Effect.never
}).pipe(Effect.scoped, Effect.provide(Beacon.layer().pipe(Layer.provide([NodeUdp.layer, NodeNetworkInterfaces.layer]))))

NodeRuntime.runMain(announcing)
