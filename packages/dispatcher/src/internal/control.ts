/** The dispatcher's side of the control protocol: one server of `effect/rpc` for each connection that has come in. */
import * as Announcer from "@effect-nat/core/Announcer"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Semaphore from "effect/Semaphore"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Stream from "effect/Stream"
import type * as Dispatcher from "../Dispatcher.ts"
import * as DispatcherError from "../DispatcherError.ts"
import * as RemoteControl from "../RemoteControl.ts"
import type * as Door from "./door.ts"
import type * as Hub from "./hub.ts"
import type * as Peer from "./peer.ts"

/** So much may wait to be read before the controller has to wait. */
const mostWaiting = 262_144

const gone = () => new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000 }) })

/** A peer's bytes, after its welcome, as a socket. */
const makeSocket = Effect.fnUntraced(function* (peer: Peer.Peer) {
  const received = yield* Queue.unbounded<Uint8Array, Socket.SocketError>()
  let waiting = 0
  const port: Door.ControlPort = {
    receive: (chunk) => {
      waiting += chunk.length
      if (waiting > mostWaiting) peer.holdControl(true)
      Queue.offerUnsafe(received, chunk)
    },
    ended: () => {
      Queue.failCauseUnsafe(received, Cause.fail(gone()))
    }
  }
  const pull = Effect.map(Queue.takeAll(received), (chunks) => {
    if (waiting > mostWaiting) peer.holdControl(false)
    waiting = 0
    return chunks
  })
  const encoder = new TextEncoder()
  const oneAtATime = yield* Semaphore.make(1)
  const send = (chunk: Uint8Array | string) =>
    Effect.callback<void, Socket.SocketError>((resume) => {
      if (!peer.sendControl(typeof chunk === "string" ? encoder.encode(chunk) : chunk))
        return resume(Effect.fail(gone()))
      peer.whenReady(() => resume(Effect.void))
    })
  // Who reads slowly makes its own streams wait, and no more than one of their answers comes on top of what waits.
  const write = (chunk: Uint8Array | string | Socket.CloseEvent) =>
    Socket.isCloseEvent(chunk) ? Effect.sync(() => peer.leaveControl()) : oneAtATime.withPermit(send(chunk))
  const writer: Socket.Writer = {
    write,
    writeAll: (chunks) => Effect.forEach(chunks, write, { discard: true })
  }
  const socket = Socket.make({
    reader: Effect.as(
      Effect.addFinalizer(() => Effect.sync(port.ended)),
      {
        pull,
        upgrade: Socket.SocketUpgradeError.unsupported
      }
    ),
    writer: Effect.succeed(writer)
  })
  return { port, socket }
})

type Service = Dispatcher.Dispatcher["Service"]

const seen = Effect.fnUntraced(function* (
  dispatcher: Service,
  grant: Door.ControlGrant,
  peer: Peer.Peer,
  whole: ContactPoint.ContactPoint
) {
  // To look is not to come in.
  const contactPoint = grant.right === "manage" ? whole : ContactPoint.locked(whole)
  const answer = yield* dispatcher.addressesFor(peer.requester)
  const addresses = answer._tag === "Reachable" ? answer.addresses : []
  return new RemoteControl.SeenContactPoint({
    contactPoint: ContactPoint.only(contactPoint, (address) => addresses.some((one) => Equal.equals(one, address))),
    addresses
  })
})

const notPermitted = DispatcherError.fromReason(new DispatcherError.NotPermitted())

const handlersOf = (
  dispatcher: Service,
  strategies: Dispatcher.Strategies,
  announcer: Option.Option<Announcer.Announcer["Service"]>,
  grant: Door.ControlGrant,
  peer: Peer.Peer
) => {
  const mayManage = grant.right === "manage" ? Effect.void : Effect.fail(notPermitted)
  const follow = (selection: Dispatcher.Selection) =>
    dispatcher.changes.pipe(
      Stream.mapEffect(() => dispatcher.contactPointOf(selection)),
      Stream.changesWith(Equal.asEquivalence())
    )
  const shown = (contactPoints: ReturnType<typeof follow>) =>
    Stream.mapEffect(contactPoints, (contactPoint) => seen(dispatcher, grant, peer, contactPoint))
  const changeStrategy = Effect.fnUntraced(function* (name: string) {
    const strategy = Object.hasOwn(strategies, name) ? strategies[name] : undefined
    if (strategy === undefined) {
      const reason = new DispatcherError.UnknownStrategy({ name, known: Object.keys(strategies) })
      return yield* DispatcherError.fromReason(reason)
    }
    yield* dispatcher.changeStrategy(strategy)
    return yield* dispatcher.mapping.current
  })
  return RemoteControl.Rpcs.of({
    info: () =>
      Effect.gen(function* () {
        const { name } = yield* dispatcher.contactPoint
        const { address, instance } = dispatcher
        const status = yield* dispatcher.status
        return new RemoteControl.RouterInfo({ ...status, name, instance, address, strategies: Object.keys(strategies) })
      }),
    register: (options) => Effect.andThen(mayManage, dispatcher.register(options)),
    unregister: ({ sessionId }) => Effect.andThen(mayManage, dispatcher.unregister(sessionId)),
    lookup: ({ sessionId }) => Effect.map(dispatcher.lookup(sessionId), Option.getOrNull),
    list: () => dispatcher.list,
    watch: () => dispatcher.watch,
    contactPoint: (selection) =>
      Effect.flatMap(dispatcher.contactPointOf(selection), (contactPoint) =>
        seen(dispatcher, grant, peer, contactPoint)
      ),
    watchContactPoint: (selection) => shown(follow(selection)),
    announce: (selection) =>
      Stream.unwrap(
        Effect.gen(function* () {
          yield* mayManage
          if (Option.isNone(announcer)) {
            const detail = "this dispatcher announces nothing: it was started without an announcer"
            return yield* DispatcherError.invalidOption(detail)
          }
          const contactPoints = follow(selection)
          yield* announcer.value
            .announce(Stream.catchCause(contactPoints, () => Stream.never))
            .pipe(
              Effect.mapError(({ message }) =>
                DispatcherError.fromReason(new DispatcherError.ListenFailed({ detail: message }))
              )
            )
          return shown(contactPoints)
        })
      ),
    changeStrategy: ({ strategy }) => Effect.andThen(mayManage, changeStrategy(strategy))
  })
}

/** So many requests of one connection may be unanswered, its streams among them. */
const mostRequests = 256

/**
 * What a server takes on without an end is not taken: more requests than that, and those to which no answer goes out when
 * they are done. Whoever sends them is cut off.
 */
const bounded = (protocol: RpcServer.Protocol["Service"], peer: Peer.Peer): RpcServer.Protocol["Service"] => {
  const open = new Set<string>()
  return {
    ...protocol,
    run: (take) =>
      protocol.run((clientId, message) => {
        if (message._tag !== "Request") return take(clientId, message)
        const isUnanswered = message.isNotification === true || message.discard === true
        if (isUnanswered || open.size >= mostRequests) return Effect.sync(() => peer.leaveControl())
        open.add(String(message.id))
        return take(clientId, message)
      }),
    send: (clientId, response) => {
      if (response._tag === "Exit") open.delete(String(response.requestId))
      return protocol.send(clientId, response)
    }
  }
}

/** Serves one connection until it ends. */
const serve = Effect.fnUntraced(function* (
  socket: Socket.Socket,
  address: SocketServer.SocketServer["Service"]["address"],
  handlers: ReturnType<typeof handlersOf>,
  peer: Peer.Peer
) {
  const ended = yield* Deferred.make<void>()
  const one = SocketServer.SocketServer.of({
    address,
    run: (handler) =>
      Effect.exit(handler(socket)).pipe(
        Effect.andThen(Deferred.succeed(ended, undefined)),
        Effect.andThen(Effect.never)
      )
  })
  const serving = Effect.gen(function* () {
    const protocol = bounded(yield* RpcServer.makeProtocolSocketServer, peer)
    return yield* RpcServer.make(RemoteControl.Rpcs, {
      concurrency: 64,
      disableFatalDefects: true,
      spanPrefix: "Dispatcher.control"
    }).pipe(Effect.provideService(RpcServer.Protocol, protocol))
  }).pipe(
    Effect.provide(RemoteControl.Rpcs.toLayer(Effect.succeed(handlers))),
    Effect.provideService(SocketServer.SocketServer, one),
    Effect.provideService(
      RpcSerialization.RpcSerialization,
      RpcSerialization.makeNdjson({ maxBufferSize: RemoteControl.maximumBytes })
    )
  )
  yield* Effect.raceFirst(serving, Deferred.await(ended))
}, Effect.scoped)

/** What opens a control connection; those that are open end with the scope. */
export const make = Effect.fnUntraced(function* (dispatcher: Service, strategies: Dispatcher.Strategies) {
  const run = yield* FiberSet.makeRuntime<never>()
  const announcer = Context.getOption(yield* Effect.context<never>(), Announcer.Announcer)
  const peers = new Set<Peer.Peer>()
  // Before their servers are interrupted, who would tell that to each stream: it is the connection that ends.
  yield* Effect.addFinalizer(() => Effect.sync(() => peers.forEach((peer) => peer.close("ShuttingDown"))))
  const open: Hub.OpenControl = (grant, peer) => {
    peers.add(peer)
    const { port, socket } = Effect.runSync(makeSocket(peer))
    const handlers = handlersOf(dispatcher, strategies, announcer, grant, peer)
    run(
      Effect.ensuring(
        serve(socket, dispatcher.address, handlers, peer),
        Effect.sync(() => {
          peers.delete(peer)
          peer.leaveControl()
        })
      )
    )
    return port
  }
  return open
})
