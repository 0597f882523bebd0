/** All peers and message routers of one dispatcher. */
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as NetAddress from "effect/net/NetAddress"
import type * as CloseReason from "../CloseReason.ts"
import type * as SessionId from "@effect-nat/core/SessionId"
import type * as TcpListener from "../TcpListener.ts"
import * as MessageRouter from "./messageRouter.ts"
import * as Peer from "./peer.ts"
import * as Spans from "./spans.ts"
import * as Traffic from "./traffic.ts"

export interface Limits extends Peer.Limits, MessageRouter.Settings {
  readonly maxConnectionsPerAddress: number
}

export interface Hub {
  readonly routers: Map<SessionId.SessionId, MessageRouter.MessageRouter>
  readonly addRouter: (id: SessionId.SessionId) => MessageRouter.MessageRouter
  readonly traffic: Traffic.Traffic
  /** How many connections are open, in whatever state. */
  readonly connections: () => number
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

/** Whose connections count together: a host's, unless it is this one. */
const countedAddress = ({ localAddress, remoteAddress }: TcpListener.Connection): string | undefined => {
  if (remoteAddress === undefined || NetAddress.isLoopback(remoteAddress.address)) return undefined
  const remote = NetAddress.formatIp(remoteAddress.address)
  const isOwn = localAddress !== undefined && NetAddress.formatIp(localAddress.address) === remote
  return isOwn ? undefined : remote
}

const makeRandomBytes = Effect.map(
  WebCrypto.WebCrypto,
  (crypto) => (length: number) => crypto.getRandomValues(new Uint8Array(length))
)

export const make = Effect.fnUntraced(function* (
  limits: Limits,
  atTurnEnd: TcpListener.TcpListener["Service"]["atTurnEnd"]
) {
  const { after, run } = yield* makeTimer
  const clock = yield* Clock.Clock
  const trace = yield* Spans.make
  const randomBytes = yield* makeRandomBytes
  const routers = new Map<SessionId.SessionId, MessageRouter.MessageRouter>()
  const peers = new Set<Peer.Peer>()
  const perAddress = new Map<string, number>()
  const traffic = new Traffic.Traffic()
  const empty = yield* Deferred.make<void>()
  let draining: CloseReason.Refusal | undefined

  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const around: MessageRouter.Surroundings = {
    atTurnEnd,
    after,
    now: () => Math.floor(now() * 1000),
    randomBytes,
    traffic
  }

  const finishWhenEmpty = () => {
    if (draining !== undefined && peers.size === 0) Deferred.doneUnsafe(empty, Effect.void)
  }

  const count = (address: string, change: number): number => {
    const connections = (perAddress.get(address) ?? 0) + change
    if (connections === 0) perAddress.delete(address)
    else perAddress.set(address, connections)
    return connections
  }

  const host: Peer.Host = {
    limits,
    traffic,
    handshakes: 0,
    refusals: 0,
    routerOf: (id) => routers.get(id),
    randomBytes,
    after,
    now,
    trace: (what, beganAt, outcome) => trace(what, now() - beganAt, outcome),
    onGone: (peer) => {
      peers.delete(peer)
      if (peer.address !== undefined) count(peer.address, -1)
      finishWhenEmpty()
    }
  }

  const greet = (peer: Peer.Peer) => {
    if (draining !== undefined) return peer.close(draining)
    const { address } = peer
    if (address !== undefined && count(address, 0) > limits.maxConnectionsPerAddress) {
      return peer.close("TooManyConnections")
    }
    peer.start()
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
    traffic,
    connections: () => peers.size,
    addRouter: (id) => {
      const router = new MessageRouter.MessageRouter(id, limits, around)
      routers.set(id, router)
      return router
    },
    onConnection: (connection) => {
      const peer = new Peer.Peer(host, connection, countedAddress(connection))
      peers.add(peer)
      if (peer.address !== undefined) count(peer.address, 1)
      greet(peer)
      return peer
    },
    onAcceptError: (detail) => {
      run(Effect.logWarning(`a connection could not be accepted: ${detail}`))
    },
    drain
  } satisfies Hub
})
