/**
 * Sessions over TCP connections of Node.
 *
 * @since 0.1.0
 */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Session from "./Session.ts"

/**
 * Connects to a dispatcher over TCP and joins a session there until the scope closes. Fails as `Session.fromSocket`
 * does.
 *
 * **Example** (Say hello to everyone in a session)
 *
 * ```ts
 * import * as NodeSession from "@effect-nat/dispatcher/NodeSession"
 * import type * as SessionId from "@effect-nat/dispatcher/SessionId"
 * import * as Effect from "effect/Effect"
 * import type * as NetAddress from "effect/net/NetAddress"
 *
 * const greet = Effect.fnUntraced(function* (address: NetAddress.InetAddress, sessionId: SessionId.SessionId) {
 *   const session = yield* NodeSession.connect({ address, sessionId })
 *   yield* session.send(new TextEncoder().encode("hello"))
 * }, Effect.scoped)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = Effect.fn("NodeSession.connect")(function* (
  options: Session.JoinOptions & { readonly address: NetAddress.InetAddress }
): Effect.fn.Return<Session.Session, Session.SessionError, Scope.Scope> {
  const socket = yield* NodeSocket.makeNet({
    host: NetAddress.formatHost(options.address),
    port: options.address.port,
    noDelay: true,
    keepAlive: true
  })
  return yield* Session.fromSocket(socket, options)
})
