/** TLS on accepted connections whose first bytes have been read already. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Crypto from "node:crypto"
import type * as Net from "node:net"
import * as Tls from "node:tls"
import * as TcpListener from "../TcpListener.ts"
import type * as Timer from "./timer.ts"

export interface TlsServer {
  /** What the peer says inside of TLS. It is dropped when the handshake fails or takes too long. */
  readonly wrap: (socket: Net.Socket, first: Uint8Array) => Tls.TLSSocket
}

const noop = () => {}

const unusable = (error: unknown) =>
  new TcpListener.ListenError({
    kind: "Unknown",
    detail: `the certificate or its key cannot be used for TLS: ${error instanceof Error ? error.message : String(error)}`
  })

const contextOf = ({ certificate, key }: TcpListener.Tls) =>
  Effect.try({
    try: () => {
      // Text without a certificate would be taken, and then every handshake fail.
      Crypto.createPublicKey(certificate)
      return Tls.createSecureContext({
        cert: certificate,
        key: Redacted.value(key),
        minVersion: "TLSv1.2",
        // In TLS 1.2 a peer could have the costly part of the handshake done again and again.
        secureOptions: Crypto.constants.SSL_OP_NO_RENEGOTIATION
      })
    },
    catch: unusable
  })

export const make = Effect.fnUntraced(function* (
  tls: TcpListener.Tls,
  timeout: Duration.Duration,
  after: Timer.After
): Effect.fn.Return<TlsServer, TcpListener.ListenError> {
  const secureContext = yield* contextOf(tls)
  return {
    wrap: (socket, first) => {
      // What was read too far is taken from the socket's buffer before what comes next.
      socket.pause()
      socket.unshift(first)
      const secure = new Tls.TLSSocket(socket, { isServer: true, secureContext })
      const drop = () => {
        secure.destroy()
      }
      const cancel = after(timeout, drop)
      secure.on("error", noop)
      // Outside of a server of its own kind, Node tells of a broken record after the handshake by this event only.
      secure.on("_tlsError", drop)
      // What is to be sent would wait for a handshake that can never be through.
      secure.once("end", drop)
      secure.once("secure", () => {
        cancel()
        secure.off("end", drop)
      })
      secure.once("close", cancel)
      return secure
    }
  }
})
