/**
 * Connections to dispatchers over TCP, and over TLS with a certificate that is known beforehand.
 *
 * @since 0.1.0
 */
import type * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Tls from "node:tls"
import * as Connector from "./Connector.ts"
import * as NodeFingerprint from "./internal/NodeFingerprint.ts"
import * as SessionError from "./SessionError.ts"

const endpointOf = (address: NetAddress.InetAddress) => ({ host: NetAddress.formatHost(address), port: address.port })

const notOpened = (cause: unknown) =>
  new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })

const noop = () => {}

/** A connection that may still be in its handshake. */
interface Attempt {
  readonly socket: Tls.TLSSocket
  isTrusted: boolean
}

const begin = (address: NetAddress.InetAddress): Attempt => {
  // Who has signed it is of no account: it is that certificate, or it is not.
  const socket = Tls.connect({ ...endpointOf(address), rejectUnauthorized: false, minVersion: "TLSv1.2" })
  socket.on("error", noop)
  return { socket, isTrusted: false }
}

/** What was sent to a dispatcher still arrives; anything else is dropped. */
const end = ({ isTrusted, socket }: Attempt) => {
  if (isTrusted) socket.destroySoon()
  else socket.destroy()
}

const handshake = (socket: Tls.TLSSocket) =>
  Effect.callback<void, Socket.SocketError>((resume) => {
    const onError = (error: Error) => {
      const { message } = error
      const cause = isConnected ? new SessionError.NotADispatcher({ detail: `TLS failed: ${message}` }) : error
      resume(Effect.fail(notOpened(cause)))
    }
    let isConnected = false
    socket.once("connect", () => {
      isConnected = true
    })
    socket.once("secureConnect", () => resume(Effect.void))
    socket.on("error", onError)
    return Effect.sync(() => socket.off("error", onError))
  })

const fingerprintOf = (socket: Tls.TLSSocket): ContactPoint.Fingerprint | undefined => {
  const certificate = socket.getPeerX509Certificate()
  return certificate === undefined ? undefined : NodeFingerprint.of(certificate)
}

const openPinned = Effect.fnUntraced(function* (
  address: NetAddress.InetAddress,
  expected: ContactPoint.Fingerprint
): Effect.fn.Return<Tls.TLSSocket, Socket.SocketError, Scope.Scope> {
  const attempt = yield* Effect.acquireRelease(
    Effect.sync(() => begin(address)),
    (attempt) => Effect.sync(() => end(attempt))
  )
  const { socket } = attempt
  yield* handshake(socket)
  const actual = fingerprintOf(socket)
  if (actual !== expected) return yield* notOpened(new SessionError.WrongCertificate({ expected, actual }))
  socket.setNoDelay(true)
  socket.setKeepAlive(true)
  attempt.isTrusted = true
  return socket
})

/**
 * Connects over TCP, with `TCP_NODELAY` and keep-alive; where a fingerprint is given over TLS 1.2 or 1.3, to whatever
 * shows the certificate of that fingerprint, whoever has signed it. Not a byte is sent to what shows another one: that
 * fails with `WrongCertificate`, and what does not speak TLS with `NotADispatcher`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Connector.Connector> = Layer.succeed(Connector.Connector, {
  connect: (address, options) =>
    options?.fingerprint === undefined
      ? NodeSocket.makeNet({ ...endpointOf(address), noDelay: true, keepAlive: true })
      : NodeSocket.fromDuplex(openPinned(address, options.fingerprint))
})
