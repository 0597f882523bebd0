/**
 * A member of a session, for the lab: joins `ADDRESS SESSION`, sends each line it reads, prints each message it gets.
 */
import * as NodeSession from "@effect-nat/dispatcher/NodeSession"
import * as SessionId from "@effect-nat/dispatcher/SessionId"
import { NodeRuntime } from "@effect/platform-node"
import * as NodeStdio from "@effect/platform-node/NodeStdio"
import { Console, Effect, Stdio, Stream } from "effect"
import { NetAddress } from "effect/net"

const [address = "", sessionId = ""] = process.argv.slice(2)

const member = Effect.gen(function* () {
  const session = yield* NodeSession.connect({
    address: NetAddress.inetAddressFromStringUnsafe(address),
    sessionId: SessionId.SessionId.make(sessionId)
  })
  yield* Console.log("joined")
  const stdio = yield* Stdio.Stdio
  const sending = stdio.stdin.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.runForEach((line) => session.send(new TextEncoder().encode(line)))
  )
  const receiving = session.messages.pipe(
    Stream.runForEach((message) => Console.log(`got ${new TextDecoder().decode(message)}`))
  )
  yield* Effect.all([sending, receiving], { concurrency: "unbounded" })
}).pipe(
  Effect.scoped,
  Effect.catch((error) => Console.log(`ended ${error._tag}: ${error.message}`)),
  Effect.provide(NodeStdio.layer)
)

NodeRuntime.runMain(member)
