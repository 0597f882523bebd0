/**
 * A dispatcher on another host, controlled over its own port: register sessions there, look them up and watch them, ask
 * for its contact point as it is good for oneself, have it announce an island, and change its strategy.
 *
 * It takes a contact point with a control capability (`Dispatcher.grantControl`). The connection is made again by itself
 * when it breaks; what was under way then fails with `RpcClientError`, and what is asked meanwhile does.
 *
 * **Details**
 *
 * The two scenarios of the page: *the router informs the island* is `contactPoint` and `watchContactPoint`, of which the
 * island makes its own contact points; *the router does it all* is `announce`, which has the dispatcher announce the
 * island for as long as the stream runs.
 *
 * **Example** (An island registers its two sessions and has the dispatcher announce them)
 *
 * ```ts
 * import type * as ContactPoint from "@effect-nat/core/ContactPoint"
 * import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
 * import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
 * import * as RemoteDispatcher from "@effect-nat/dispatcher/RemoteDispatcher"
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 *
 * export const island = Effect.fnUntraced(
 *   function* (control: ContactPoint.ContactPoint) {
 *     const dispatcher = yield* RemoteDispatcher.connect(control)
 *     const scene = yield* dispatcher.register({ role: "scene" })
 *     const content = yield* dispatcher.register({ role: "content" })
 *     const sessions = [scene.sessionId, content.sessionId]
 *     yield* Stream.runForEach(dispatcher.announce({ sessions, name: "island", viewpoint: "plaza" }), (seen) =>
 *       Effect.log(ContactPointUri.format(seen.contactPoint))
 *     )
 *   },
 *   Effect.scoped,
 *   Effect.provide(NodeConnector.layer)
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import * as RpcClient from "effect/rpc/RpcClient"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import type * as RpcClientError from "effect/rpc/RpcClientError"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Connector from "./Connector.ts"
import * as Dial from "./internal/dial.ts"
import * as Link from "./internal/link.ts"
import * as RemoteControl from "./RemoteControl.ts"
import * as SessionError from "./SessionError.ts"

/**
 * What can be asked of a dispatcher on another host: an effect or a stream for each of `RemoteControl.Rpcs`.
 *
 * @category models
 * @since 0.1.0
 */
export type RemoteDispatcher = RpcClient.FromGroup<typeof RemoteControl.Rpcs, RpcClientError.RpcClientError>

/**
 * How a dispatcher is connected to.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How long connecting and handshake may take at each address. Defaults to 5 seconds. */
  readonly handshakeTimeout?: Duration.Input | undefined
  /** After what time without an answer the next address is tried as well (RFC 8305 §5). Defaults to 250 milliseconds. */
  readonly attemptDelay?: Duration.Input | undefined
}

const closeError = (cause: unknown) =>
  new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })

const ended = () => new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })

const encoder = new TextEncoder()

/** A socket whose first connection is there already, and which makes another one when it is opened again. */
const makeSocket = Effect.fnUntraced(function* (
  first: Link.ControlLink,
  firstScope: Scope.Closeable,
  reconnect: Effect.Effect<Link.ControlLink, SessionError.SessionError, Scope.Scope>
) {
  const current = yield* Ref.make(yield* Deferred.make<Link.ControlLink>())
  let isFirst = true
  const acquire = Effect.gen(function* () {
    if (!isFirst) return yield* reconnect
    isFirst = false
    const scope = yield* Effect.scope
    yield* Scope.addFinalizerExit(scope, (exit) => Scope.close(firstScope, exit))
    return first
  })
  const reader = Effect.gen(function* () {
    const link = yield* Effect.mapError(acquire, closeError)
    const live = yield* Ref.get(current)
    yield* Deferred.succeed(live, link)
    yield* Effect.addFinalizer(() =>
      Effect.flatMap(Deferred.make<Link.ControlLink>(), (next) => Ref.set(current, next))
    )
    return { pull: Effect.mapError(link.pull, ended), upgrade: Socket.SocketUpgradeError.unsupported }
  })
  const write = (chunk: Uint8Array | string | Socket.CloseEvent) => {
    if (Socket.isCloseEvent(chunk)) return Effect.void
    const bytes = typeof chunk === "string" ? encoder.encode(chunk) : chunk
    return Effect.gen(function* () {
      const { write } = yield* Effect.flatMap(Ref.get(current), Deferred.await)
      yield* Effect.mapError(write(bytes), ended)
    })
  }
  return Socket.make({
    reader,
    writer: Effect.succeed({
      write,
      writeAll: (chunks: Arr.NonEmptyReadonlyArray<Uint8Array | string>) =>
        Effect.forEach(chunks, write, { discard: true })
    })
  })
})

/**
 * Connects to the dispatcher of a contact point, at whichever of its addresses answers, until the scope closes.
 *
 * Fails with `Refused` (`NotGranted`) where the contact point has no control capability, or one that is not good any more,
 * and with `Unreachable`, `TimedOut`, `NotADispatcher`, `WrongCertificate`, `UnsupportedVersion` and `InvalidOption` as
 * `Session.join` does.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = Effect.fn("RemoteDispatcher.connect")(function* (
  contactPoint: ContactPoint.ContactPoint,
  options: Options = {}
): Effect.fn.Return<RemoteDispatcher, SessionError.SessionError, Scope.Scope | Connector.Connector> {
  const { control } = contactPoint
  if (control === undefined) {
    return yield* SessionError.fromReason(new SessionError.Refused({ reason: "NotGranted" }))
  }
  const addresses = ContactPoint.addresses(contactPoint)
  if (!Arr.isReadonlyArrayNonEmpty(addresses)) {
    return yield* Dial.unreachable("its contact point has no address")
  }
  const { fingerprint } = contactPoint
  const times = yield* Dial.resolve(options)
  const connector = yield* Connector.Connector
  const open = Dial.dial(addresses, { ...times, fingerprint }, (socket) => Link.openControl(socket, control)).pipe(
    Effect.map(({ link }) => link),
    Effect.provideService(Connector.Connector, connector)
  )
  const firstScope = yield* Scope.fork(yield* Effect.scope)
  const first = yield* Scope.provide(open, firstScope)
  const socket = yield* makeSocket(first, firstScope, open)
  const protocol = yield* RpcClient.makeProtocolSocket().pipe(
    Effect.provideService(Socket.Socket, socket),
    Effect.provideService(
      RpcSerialization.RpcSerialization,
      RpcSerialization.makeNdjson({ maxBufferSize: 16 * RemoteControl.maximumBytes })
    )
  )
  return yield* RpcClient.make(RemoteControl.Rpcs).pipe(Effect.provideService(RpcClient.Protocol, protocol))
})
