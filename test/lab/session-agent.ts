/**
 * A member of a session, for the lab: joins `ADDRESS INVITATION`, sends each line it reads, prints each message it gets.
 */
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as Session from "@effect-nat/dispatcher/Session"
import { NodeRuntime } from "@effect/platform-node"
import * as NodeStdio from "@effect/platform-node/NodeStdio"
import { Console, Effect, Result, Stdio, Stream } from "effect"
import { NetAddress } from "effect/net"

const [address = "", word = ""] = process.argv.slice(2)

const member = Effect.gen(function* () {
  const session = yield* Session.joinAt([NetAddress.inetAddressFromStringUnsafe(address)], {
    invitation: Result.getOrThrow(Invitation.fromString(word)),
    reconnectTimeout: 0
  })
  yield* Console.log("joined")
  const stdio = yield* Stdio.Stdio
  const sending = stdio.stdin.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.runForEach((line) => session.send(new TextEncoder().encode(line)))
  )
  const receiving = session.messages.pipe(
    Stream.runForEach((message) => Console.log(`got ${new TextDecoder().decode(message.data)}`))
  )
  yield* Effect.all([sending, receiving], { concurrency: "unbounded" })
}).pipe(
  Effect.scoped,
  Effect.catch((error) => Console.log(`ended ${error._tag}: ${error.message}`)),
  Effect.provide([NodeStdio.layer, NodeConnector.layer])
)

NodeRuntime.runMain(member)
