/**
 * Listening TCP sockets of a simulated router.
 */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Net from "node:net"
import { fromListening, type RouterSocketError } from "./routerSocketError.ts"

const noop = () => {}

const closeAll = (server: Net.Server, open: ReadonlySet<Net.Socket>) =>
  Effect.callback<void>((resume) => {
    for (const socket of open) socket.destroy()
    server.close(() => resume(Effect.void))
  })

const bind = (server: Net.Server, address: NetAddress.IpAddress, port: number) =>
  Effect.callback<number, RouterSocketError>((resume) => {
    server.once("error", (error) => resume(Effect.fail(fromListening(error, address, port))))
    server.listen({ host: NetAddress.formatIp(address), port, exclusive: true }, () => {
      const bound = server.address()
      resume(Effect.succeed(typeof bound === "object" && bound !== null ? bound.port : port))
    })
  })

/** Listens until the scope closes, which also closes every connection; the port. More connections than told are closed. */
export const listen = Effect.fnUntraced(function* (
  address: NetAddress.IpAddress,
  port: number,
  onConnection: (socket: Net.Socket, from: NetAddress.IpAddress) => void,
  maximumConnections?: number
) {
  const open = new Set<Net.Socket>()
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => Net.createServer({ allowHalfOpen: true, noDelay: true })),
    (server) => closeAll(server, open)
  )
  if (maximumConnections !== undefined) server.maxConnections = maximumConnections
  server.on("connection", (socket) => {
    // Whatever the error is, "close" follows it.
    socket.on("error", noop)
    open.add(socket)
    socket.once("close", () => open.delete(socket))
    const from = NetAddress.ipFromString(socket.remoteAddress ?? "")
    if (Result.isFailure(from)) return void socket.destroy()
    onConnection(socket, NetAddress.toCanonical(from.success))
  })
  const bound = yield* bind(server, address, port)
  // After that only accepting can fail, as without a free file descriptor: the next connection may do better.
  server.on("error", noop)
  return bound
})

/** Joins a connection from outside with a new one to the host inside, each end of it as it comes. */
export const join = (outer: Net.Socket, to: NetAddress.InetAddress): void => {
  const inner = Net.connect({
    host: NetAddress.formatIp(to.address),
    port: to.port,
    allowHalfOpen: true,
    noDelay: true
  })
  const refuse = () => outer.resetAndDestroy()
  inner.on("error", refuse)
  inner.once("connect", () => {
    outer.pipe(inner)
    inner.pipe(outer)
  })
  outer.once("close", () => inner.destroy())
  inner.once("close", () => outer.destroySoon())
}

/** Says no, as a kernel does for a port on which nobody listens. */
export const refuse = (socket: Net.Socket): void => {
  socket.resetAndDestroy()
}
