// The dispatcher as it was built, on a free port of loopback, with so many sessions. Prints one line of JSON: the port,
// and an invitation to each session. Lives until it is ended; SIGUSR2 gives back all memory that is not in use
// (with --expose-gc).
//
//   effect-nat.mjs SESSIONS

import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Lan from "@effect-nat/core/Lan"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"

const sessions = Number(process.argv[2])

const limits = { maxSessions: sessions, maxHandshakes: 20_000, handshakeTimeout: "1 minute" }

const program = Effect.gen(function* () {
  const dispatcher = yield* Dispatcher.Dispatcher
  const invitations = yield* Effect.forEach(Array.from({ length: sessions }), () => dispatcher.register())
  const { port } = dispatcher.address
  process.stdout.write(`${JSON.stringify({ port, sessions: invitations.map(Invitation.format) })}\n`)
  return yield* Effect.never
}).pipe(
  Effect.provide(NodeDispatcher.layer({ port: 0, address: NetAddress.ipv4Loopback, limits })),
  Effect.provide(ContactPointResolver.layer.pipe(Layer.provideMerge(Lan.layer), Layer.provide(NodeHost.layer)))
)

process.on("SIGUSR2", () => globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" }))
NodeRuntime.runMain(program)
