/** All peers and message routers of one dispatcher. */
import type * as Capability from "@effect-nat/core/Capability"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Hex from "effect/encoding/Hex"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as NetAddress from "effect/net/NetAddress"
import type * as CloseReason from "../CloseReason.ts"
import type * as SessionId from "@effect-nat/core/SessionId"
import * as CapabilityProof from "../CapabilityProof.ts"
import type * as TcpListener from "../TcpListener.ts"
import * as Door from "./door.ts"
import * as MessageRouter from "./messageRouter.ts"
import * as Peer from "./peer.ts"
import * as Spans from "./spans.ts"
import * as Timer from "./timer.ts"
import * as Traffic from "./traffic.ts"

export interface Limits extends Peer.Limits, MessageRouter.Settings {
  readonly maxConnectionsPerAddress: number
  readonly maxSessions: number
  readonly maxControllers: number
}

/** Who may have sessions made by connecting, and how. */
export interface AutoCreate {
  readonly capability: Capability.Capability
  /** `nameOf` the capability. */
  readonly name: string
  /** Makes the session; why not, where it does not. */
  readonly create: (id: SessionId.SessionId) => Effect.Effect<CloseReason.Refusal | undefined>
}

/** What the dispatcher does for those that control it. */
export type OpenControl = (grant: Door.ControlGrant, peer: Peer.Peer) => Door.ControlPort

export interface Hub {
  readonly routers: Map<SessionId.SessionId, MessageRouter.MessageRouter>
  readonly addRouter: (id: SessionId.SessionId, about: MessageRouter.About) => MessageRouter.MessageRouter
  /** Ends a session; whether there was one. */
  readonly removeRouter: (id: SessionId.SessionId) => boolean
  /** Capabilities that open the control of the dispatcher, by their names in hexadecimal digits. */
  readonly controlGrants: Map<string, Door.ControlGrant>
  /** Ends the connections of those that came in with a control grant, or one before it of the same capability. */
  readonly revokeControl: (grant: Door.ControlGrant) => void
  /** Both are set once the port is mapped: until then nobody has a session made, and nobody controls anything. */
  autoCreate: AutoCreate | undefined
  openControl: OpenControl | undefined
  /** Sessions or members have come or gone. */
  onChange: () => void
  /** A member has come in from an address that was not forwarded. */
  onReached: (from: NetAddress.IpAddress) => void
  readonly traffic: Traffic.Traffic
  /** How many connections are open, in whatever state. */
  readonly connections: () => number
  readonly onConnection: (connection: TcpListener.Connection) => TcpListener.ConnectionHandler
  readonly onAcceptError: (detail: string) => void
  /** Tells every peer that the dispatcher ends and waits until all are gone, which the time to close bounds. */
  readonly drain: Effect.Effect<void>
}

/** Whose connections count together: a host's, unless it is this one. */
const countedAddress = (connection: TcpListener.Connection): string | undefined => {
  const { isForwarded, localAddress, remoteAddress } = connection
  // Whom a forwarder does not name counts together with all others of that kind.
  if (isForwarded) return remoteAddress === undefined ? "forwarded" : NetAddress.formatIp(remoteAddress.address)
  if (remoteAddress === undefined || NetAddress.isLoopback(remoteAddress.address)) return undefined
  const remote = NetAddress.formatIp(remoteAddress.address)
  const isOwn = localAddress !== undefined && NetAddress.formatIp(localAddress.address) === remote
  return isOwn ? undefined : remote
}

/** How a capability is called on the wire, in hexadecimal digits. */
export const nameOf = (capability: Capability.Capability): string => Hex.encode(CapabilityProof.name(capability))

const makeRandomBytes = Effect.map(
  WebCrypto.WebCrypto,
  (crypto) => (length: number) => crypto.getRandomValues(new Uint8Array(length))
)

export const make = Effect.fnUntraced(function* (
  limits: Limits,
  atTurnEnd: TcpListener.TcpListener["Service"]["atTurnEnd"]
) {
  const after = yield* Timer.make
  const run = yield* FiberSet.makeRuntime<never>()
  const clock = yield* Clock.Clock
  const trace = yield* Spans.make
  const randomBytes = yield* makeRandomBytes
  const routers = new Map<SessionId.SessionId, MessageRouter.MessageRouter>()
  const controlGrants = new Map<string, Door.ControlGrant>()
  const controllers = new Map<Peer.Peer, Door.ControlGrant>()
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
    traffic,
    onChange: (router) => {
      if (router.about.autoStop && router.size === 0) removeRouter(router.id)
      else hub.onChange()
    }
  }

  const removeRouter = (id: SessionId.SessionId): boolean => {
    const router = routers.get(id)
    routers.delete(id)
    router?.close("SessionClosed")
    if (router !== undefined) hub.onChange()
    return router !== undefined
  }

  const doorOf: Peer.Host["doorOf"] = (id, name) => {
    if (id === Door.control) {
      const grant = controlGrants.get(name)
      return grant === undefined ? "NotGranted" : { _tag: "Control", grant }
    }
    const router = routers.get(id)
    if (router === undefined) {
      const { autoCreate } = hub
      if (autoCreate === undefined || autoCreate.name !== name) return "UnknownSession"
      return { _tag: "NewSession", sessionId: id, grant: autoCreate }
    }
    const grant = router.grants.get(name)
    return grant === undefined ? "NotGranted" : { _tag: "Session", router, grant }
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
    doorOf,
    createSession: (id, then) => {
      const create = hub.autoCreate?.create(id) ?? Effect.succeed("UnknownSession" as const)
      const finish = (refusal: CloseReason.Refusal | undefined) => {
        const router = routers.get(id)
        then(refusal)
        // Whoever asked for it may have gone meanwhile. One that was there before waits for its own members.
        if (router !== undefined && router.grants.has(hub.autoCreate?.name ?? "")) around.onChange(router)
      }
      run(Effect.flatMap(create, (refusal) => Effect.sync(() => finish(refusal))))
    },
    openControl: (grant, peer) => {
      if (controllers.size >= limits.maxControllers) return undefined
      const port = hub.openControl?.(grant, peer)
      if (port !== undefined) controllers.set(peer, grant)
      return port
    },
    onAdmitted: (peer) => {
      const { source } = peer.requester
      if (source !== undefined && !peer.isForwarded) hub.onReached(source)
    },
    randomBytes,
    after,
    now,
    trace: (what, beganAt, outcome) => trace(what, now() - beganAt, outcome),
    onGone: (peer) => {
      peers.delete(peer)
      controllers.delete(peer)
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
    const open = Array.from(routers.values())
    routers.clear()
    for (const router of open) {
      router.close(draining)
    }
    for (const peer of peers) {
      peer.close(draining)
    }
    finishWhenEmpty()
    return Deferred.await(empty)
  })

  const hub: Hub = {
    routers,
    traffic,
    connections: () => peers.size,
    addRouter: (id, about) => {
      const router = new MessageRouter.MessageRouter(id, about, limits, around)
      routers.set(id, router)
      hub.onChange()
      return router
    },
    removeRouter,
    controlGrants,
    revokeControl: (grant) => {
      for (const [peer, own] of controllers) {
        if (own.capability === grant.capability) peer.close("Revoked")
      }
    },
    autoCreate: undefined,
    openControl: undefined,
    onChange: () => {},
    onReached: () => {},
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
  }
  return hub
})
