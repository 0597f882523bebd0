/**
 * An island on another host than its router, for the lab: `inform|announce URI NAME`. Over the control protocol it
 * registers its two sessions, scene and content, and looks them up; then it joins both, prints what it hears there and
 * answers it.
 *
 * `inform`: the dispatcher tells it where it can be reached, and it makes its own contact points of that. `announce`: the
 * dispatcher announces it. Either way it prints, as JSON, the postcard that is good now, and again whenever it changes.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import type * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as RemoteDispatcher from "@effect-nat/dispatcher/RemoteDispatcher"
import * as Session from "@effect-nat/dispatcher/Session"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Arr from "effect/Array"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import { answerIn } from "./session-answers.ts"

const [mode, uri = "", name = ""] = process.argv.slice(2)

const isReachable = Arr.isReadonlyArrayNonEmpty<NetAddress.InetAddress>

const register = Effect.fnUntraced(function* (dispatcher: RemoteDispatcher.RemoteDispatcher, role: string) {
  const invitation = yield* dispatcher.register({ role })
  const { addresses } = yield* dispatcher.contactPoint({ sessions: [invitation.sessionId] })
  if (!isReachable(addresses)) return yield* Effect.die("not reachable from here")
  const session = yield* Session.joinAt(addresses, { invitation })
  yield* answerIn(role, session)
  const found = yield* dispatcher.lookup({ sessionId: invitation.sessionId })
  yield* Console.log(`registered ${found?.role} with ${found?.members} member`)
  return invitation
})

/** The island's own contact point, of what the dispatcher has told it. */
const ownContactPoint = (
  { internal, external, fingerprint }: ContactPoint.ContactPoint,
  invitations: ReadonlyArray<readonly [role: string, Invitation.Invitation]>
) =>
  ContactPoint.make({
    name,
    viewpoint: "plaza",
    internal,
    external,
    fingerprint,
    sessions: invitations.map(
      ([role, { capability, sessionId }]) =>
        new ContactPoint.Session({ id: sessionId, role, capabilities: [capability] })
    )
  })

const print = (contactPoint: ContactPoint.ContactPoint) =>
  Console.log(
    JSON.stringify({
      postcard: ContactPointUri.format(contactPoint),
      addresses: ContactPoint.addresses(contactPoint).map(NetAddress.formatInet)
    })
  )

const island = Effect.gen(function* () {
  const dispatcher = yield* RemoteDispatcher.connect(yield* Effect.fromResult(ContactPointUri.fromString(uri)))
  const scene = yield* register(dispatcher, "scene")
  const content = yield* register(dispatcher, "content")
  const sessions = [scene.sessionId, content.sessionId]
  const contactPoints =
    mode === "announce"
      ? dispatcher.announce({ sessions, name, viewpoint: "plaza" }).pipe(Stream.map(({ contactPoint }) => contactPoint))
      : dispatcher.watchContactPoint({ sessions }).pipe(
          Stream.map(({ contactPoint }) =>
            ownContactPoint(contactPoint, [
              ["scene", scene],
              ["content", content]
            ])
          )
        )
  yield* Stream.runForEach(contactPoints, print)
}).pipe(
  Effect.scoped,
  Effect.tapError((error) => Console.log(`ended ${error._tag}: ${error.message}`)),
  Effect.provide(NodeConnector.layer)
)

NodeRuntime.runMain(island)
