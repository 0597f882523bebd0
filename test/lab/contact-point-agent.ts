/**
 * Somebody who wants to join both sessions of an island, for the lab: `URI NAME [ADDRESS:PORT]`.
 *
 * With a capability to look in the URI it asks the dispatcher, at the address named or else at those of the URI, for the
 * contact point as it is good for itself, prints the addresses, and joins by exactly these. With none it joins by the
 * addresses in the URI: a postcard. It says hello in both sessions, and prints by which address it came in and what it
 * hears.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as RemoteDispatcher from "@effect-nat/dispatcher/RemoteDispatcher"
import * as Session from "@effect-nat/dispatcher/Session"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Arr from "effect/Array"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"

const [uri = "", name = "", via] = process.argv.slice(2)

const at = (contactPoint: ContactPoint.ContactPoint, address: string | undefined) =>
  address === undefined
    ? contactPoint
    : ContactPoint.make({
        ...contactPoint,
        internal: [NetAddress.inetAddressFromStringUnsafe(address)],
        external: []
      })

const seen = Effect.fnUntraced(function* (contactPoint: ContactPoint.ContactPoint) {
  const dispatcher = yield* RemoteDispatcher.connect(at(contactPoint, via))
  return yield* dispatcher.contactPoint({})
}, Effect.scoped)

const join = Effect.fnUntraced(function* (
  contactPoint: ContactPoint.ContactPoint,
  addresses: Arr.NonEmptyReadonlyArray<NetAddress.InetAddress>,
  role: string
) {
  const invitation = yield* Effect.fromResult(Invitation.fromContactPoint(contactPoint, role))
  const session = yield* Session.joinAt(addresses, { invitation, reconnectTimeout: 0 })
  yield* Console.log(`joined ${role} at ${NetAddress.formatInet(yield* session.address)}`)
  yield* session.send(new TextEncoder().encode(`hello from ${name}`))
  yield* Stream.runForEach(session.messages, ({ data }) => Console.log(`${role}: ${new TextDecoder().decode(data)}`))
})

const program = Effect.gen(function* () {
  const given = yield* Effect.fromResult(ContactPointUri.fromString(uri))
  const { addresses, contactPoint } =
    given.control === undefined ? { addresses: ContactPoint.addresses(given), contactPoint: given } : yield* seen(given)
  yield* Console.log(
    JSON.stringify({ addresses: addresses.map(NetAddress.formatInet), viewpoint: contactPoint.viewpoint })
  )
  if (!Arr.isReadonlyArrayNonEmpty(addresses)) return
  // Whoever may only look is told where, and not by what: that stands in the URI.
  yield* Effect.all([join(given, addresses, "scene"), join(given, addresses, "content")], {
    concurrency: "unbounded"
  })
}).pipe(
  Effect.scoped,
  Effect.catch((error) => Console.log(`ended ${error._tag}: ${error.message}`)),
  Effect.provide(NodeConnector.layer)
)

NodeRuntime.runMain(program)
