/** All peers and message routers of one dispatcher. */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as CloseReason from "../CloseReason.ts"
import type * as SessionId from "../SessionId.ts"
import type * as TcpListener from "../TcpListener.ts"
import * as Wire from "../Wire.ts"
import * as MessageRouter from "./messageRouter.ts"
import * as Peer from "./peer.ts"

export interface Hub {
  readonly routers: Map<SessionId.SessionId, MessageRouter.MessageRouter>
  readonly addRouter: (id: SessionId.SessionId) => void
  readonly onConnection: (connection: TcpListener.Connection) => TcpListener.ConnectionHandler
  readonly onAcceptError: (detail: string) => void
  /** Tells every peer that the dispatcher ends and waits until all are gone, which the time to close bounds. */
  readonly drain: Effect.Effect<void>
}

/** Runs tasks later on the `Clock`; those still waiting end with the scope. */
const makeTimer = Effect.gen(function* () {
  const run = yield* FiberSet.makeRuntime<never>()
  const after = (time: Duration.Duration, task: () => void) => {
    const fiber = run(Effect.andThen(Effect.sleep(time), Effect.sync(task)))
    return () => fiber.interruptUnsafe()
  }
  return { run, after }
})

export const make = Effect.fnUntraced(function* (
  limits: Peer.Limits,
  atTurnEnd: TcpListener.TcpListener["Service"]["atTurnEnd"]
) {
  const { after, run } = yield* makeTimer
  const clock = yield* Clock.Clock
  const routers = new Map<SessionId.SessionId, MessageRouter.MessageRouter>()
  const peers = new Set<Peer.Peer>()
  const empty = yield* Deferred.make<void>()
  let draining: CloseReason.Refusal | undefined

  const finishWhenEmpty = () => {
    if (draining !== undefined && peers.size === 0) Deferred.doneUnsafe(empty, Effect.void)
  }

  const host: Peer.Host = {
    limits,
    acceptedReply: Wire.encodeAccepted(new Wire.Accepted({ maxFrameBytes: limits.maxFrameBytes })),
    handshakes: 0,
    refusals: 0,
    routerOf: (id) => routers.get(id),
    after,
    now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
    onGone: (peer) => {
      peers.delete(peer)
      finishWhenEmpty()
    }
  }

  const drain = Effect.suspend(() => {
    draining = "ShuttingDown"
    for (const router of routers.values()) {
      router.close(draining)
    }
    routers.clear()
    for (const peer of peers) {
      peer.close(draining)
    }
    finishWhenEmpty()
    return Deferred.await(empty)
  })

  return {
    routers,
    addRouter: (id) => {
      routers.set(id, new MessageRouter.MessageRouter(id, atTurnEnd))
    },
    onConnection: (connection) => {
      const peer = new Peer.Peer(host, connection)
      peers.add(peer)
      if (draining === undefined) peer.start()
      else peer.close(draining)
      return peer
    },
    onAcceptError: (detail) => {
      run(Effect.logWarning(`a connection could not be accepted: ${detail}`))
    },
    drain
  } satisfies Hub
})
