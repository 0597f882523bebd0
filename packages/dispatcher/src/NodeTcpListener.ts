/**
 * Listening TCP sockets of Node.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Net from "node:net"
import * as TcpListener from "./TcpListener.ts"

type ListenOptions = Parameters<TcpListener.TcpListener["Service"]["listen"]>[0]

const kindOf = (code: string | undefined): TcpListener.ListenError["kind"] => {
  switch (code) {
    case "EADDRINUSE":
      return "AddressInUse"
    case "EACCES":
    case "EPERM":
      return "PermissionDenied"
    case "EADDRNOTAVAIL":
    case "EAFNOSUPPORT":
      return "AddressNotAvailable"
    default:
      return "Unknown"
  }
}

const listenError = (error: NodeJS.ErrnoException) =>
  new TcpListener.ListenError({ kind: kindOf(error.code), detail: error.message })

/** IPv4 peers of a socket that serves both families come as IPv6 addresses; here they are what they are. */
const addressOf = (host: string | undefined, port: number | undefined): NetAddress.InetAddress | undefined => {
  // A zone ("fe80::1%eth0") names an interface of this host; without it the address still is the peer's.
  const bare = host?.split("%", 1)[0]
  return bare === undefined || port === undefined
    ? undefined
    : NetAddress.toCanonical(NetAddress.inetAddressFromIpStringUnsafe(bare, port))
}

const noop = () => {}

const writeAll = (socket: Net.Socket, blocks: ReadonlyArray<Uint8Array>, flushed: () => void) => {
  const last = blocks.length - 1
  socket.cork()
  blocks.forEach((block, index) => {
    socket.write(block, index === last ? (error) => (error ? undefined : flushed()) : undefined)
  })
  socket.uncork()
}

const fromSocket = (socket: Net.Socket): TcpListener.Connection => ({
  get remoteAddress() {
    return addressOf(socket.remoteAddress, socket.remotePort)
  },
  get localAddress() {
    return addressOf(socket.localAddress, socket.localPort)
  },
  write: (blocks, flushed) => writeAll(socket, blocks, flushed),
  pause: () => {
    socket.pause()
  },
  resume: () => {
    socket.resume()
  },
  end: () => {
    socket.end()
  },
  destroy: () => {
    socket.destroy()
  }
})

const accept = (socket: Net.Socket, open: Set<Net.Socket>, options: ListenOptions) => {
  open.add(socket)
  // Whatever the error is, "close" follows it.
  socket.on("error", noop)
  const handler = options.onConnection(fromSocket(socket))
  socket.on("data", (chunk: Uint8Array) => handler.onData(chunk))
  socket.once("end", () => handler.onEnd())
  socket.once("close", () => {
    open.delete(socket)
    handler.onClose()
  })
}

const bind = (server: Net.Server, options: ListenOptions) =>
  Effect.callback<void, TcpListener.ListenError>((resume) => {
    server.once("error", (error) => resume(Effect.fail(listenError(error))))
    server.listen(
      {
        port: options.port,
        // A cluster must not share the port silently.
        exclusive: true,
        ...(options.address === undefined ? {} : { host: NetAddress.formatIp(options.address) })
      },
      () => resume(Effect.void)
    )
  })

const stop = (server: Net.Server) =>
  Effect.sync(() => {
    if (server.listening) server.close()
  })

const closeAll = (server: Net.Server, open: ReadonlySet<Net.Socket>) =>
  Effect.callback<void>((resume) => {
    for (const socket of open) {
      socket.destroy()
    }
    // On a server that is not listening (any more) this only waits for the last connection to be gone.
    server.close(() => resume(Effect.void))
  })

const listen = Effect.fnUntraced(function* (options: ListenOptions) {
  const open = new Set<Net.Socket>()
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => Net.createServer({ noDelay: true, keepAlive: true, allowHalfOpen: true })),
    (server) => closeAll(server, open)
  )
  server.on("connection", (socket) => accept(socket, open, options))
  yield* bind(server, options)
  server.on("error", (error) => options.onAcceptError(error.message))
  const bound = server.address()
  const address = bound === null || typeof bound === "string" ? undefined : addressOf(bound.address, bound.port)
  if (address === undefined) {
    return yield* new TcpListener.ListenError({ kind: "Unknown", detail: "the socket has no address" })
  }
  return { address, stopAccepting: stop(server) } satisfies TcpListener.Listening
})

/**
 * The real network. `TCP_NODELAY` and keep-alive are set on every connection.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<TcpListener.TcpListener> = Layer.succeed(TcpListener.TcpListener, {
  listen,
  atTurnEnd: (task) => {
    setImmediate(task)
  }
})
