// Written by "npm run generate" from the modules' headers. Do not edit.

/**
 * Why a dispatcher refuses or closes a connection, in words and as one byte on the wire.
 *
 * @since 0.1.0
 */
export * as CloseReason from "./CloseReason.ts"

/**
 * The session dispatcher: one TCP port for all sessions of a host.
 *
 * @since 0.1.0
 */
export * as Dispatcher from "./Dispatcher.ts"

/**
 * The session dispatcher on Node's own sockets.
 *
 * @since 0.1.0
 */
export * as NodeDispatcher from "./NodeDispatcher.ts"

/**
 * Sessions over TCP connections of Node.
 *
 * @since 0.1.0
 */
export * as NodeSession from "./NodeSession.ts"

/**
 * Listening TCP sockets of Node.
 *
 * @since 0.1.0
 */
export * as NodeTcpListener from "./NodeTcpListener.ts"

/**
 * The client's side of a session: joins it over a socket, sends messages to all members and receives theirs.
 *
 * @since 0.1.0
 */
export * as Session from "./Session.ts"

/**
 * The 128-bit id that names one session on a dispatcher.
 *
 * @since 0.1.0
 */
export * as SessionId from "./SessionId.ts"

/**
 * The seam to listening TCP sockets, in plain callbacks: what passes here is the dispatcher's hot path.
 *
 * @since 0.1.0
 */
export * as TcpListener from "./TcpListener.ts"

/**
 * The dispatcher's wire, version 1: a pure codec between bytes and values, both directions.
 *
 * @since 0.1.0
 */
export * as Wire from "./Wire.ts"
