/**
 * Listening TCP sockets of Node, with WebSockets on the same port.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Http from "node:http"
import * as Net from "node:net"
import * as WebSocket from "ws"
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

/** A class, so that an idle connection costs one object and no closures. */
class NodeConnection implements TcpListener.Connection {
  readonly socket: Net.Socket
  readonly handler: TcpListener.ConnectionHandler
  /** Where the bytes are messages of one. */
  webSocket: WebSocket.WebSocket | undefined = undefined
  /** Whether nothing has come yet. */
  isNew = true

  constructor(socket: Net.Socket, onConnection: ListenOptions["onConnection"]) {
    this.socket = socket
    this.handler = onConnection(this)
  }

  get remoteAddress() {
    return addressOf(this.socket.remoteAddress, this.socket.remotePort)
  }

  get localAddress() {
    return addressOf(this.socket.localAddress, this.socket.localPort)
  }

  write(blocks: ReadonlyArray<Uint8Array>, flushed: () => void): void {
    const { socket } = this
    const written = (error?: Error | null) => {
      if (!error) flushed()
    }
    const last = blocks.length - 1
    // To cork a socket for one write costs more than it saves.
    if (last > 0) socket.cork()
    blocks.forEach((block, index) => this.writeOne(block, index === last ? written : undefined))
    if (last > 0) socket.uncork()
  }

  // A WebSocket pauses and resumes its socket on its own account, unless it knows that it is paused itself.
  pause(): void {
    if (this.webSocket === undefined) this.socket.pause()
    else this.webSocket.pause()
  }

  resume(): void {
    if (this.webSocket === undefined) this.socket.resume()
    else this.webSocket.resume()
  }

  end(): void {
    if (this.webSocket === undefined) this.socket.end()
    else this.webSocket.close()
  }

  destroy(): void {
    this.socket.destroy()
  }

  private writeOne(block: Uint8Array, written: ((error?: Error | null) => void) | undefined): void {
    if (this.webSocket === undefined) this.socket.write(block, written)
    else this.webSocket.send(block, written)
  }
}

/** The first byte of a request that asks for a WebSocket: `GET`. */
const firstOfHttp = 0x47

/** An HTTP server that never listens: it is handed the connections that begin like one of its own. */
interface Web {
  readonly serve: (connection: NodeConnection, first: Uint8Array) => void
}

const onlyWebSockets = "This is the port of a session dispatcher: it speaks WebSocket, and its own protocol over TCP.\n"

const refuseRequest = (_request: Http.IncomingMessage, response: Http.ServerResponse) => {
  const headers = { connection: "close", upgrade: "websocket", "content-type": "text/plain; charset=utf-8" }
  response.writeHead(426, headers).end(onlyWebSockets)
}

/** The code of a WebSocket whose connection broke (RFC 6455 §7.1.5). */
const withoutGoodbye = 1006

/** Whoever asks and does not read gets no more answers, which would pile up here. */
const mostBeforePong = 65_536

const makeWeb = (maxMessageBytes: number): Web => {
  const upgrades = new WebSocket.WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    autoPong: false,
    maxPayload: maxMessageBytes
  })
  const asked = new WeakMap<object, (webSocket: WebSocket.WebSocket) => void>()
  const server = Http.createServer(refuseRequest)
  server.on("clientError", (_error, socket) => socket.destroy())
  server.on("upgrade", (request, socket, head) => {
    const then = asked.get(socket)
    if (then === undefined) socket.destroy()
    else upgrades.handleUpgrade(request, socket, head, then)
  })
  const serve: Web["serve"] = (connection, first) => {
    const { handler, socket } = connection
    asked.set(socket, (webSocket) => {
      connection.webSocket = webSocket
      webSocket.on("error", noop)
      webSocket.on("ping", (data) => {
        if (socket.writableLength < mostBeforePong) webSocket.pong(data)
      })
      webSocket.on("message", (data, isBinary) => {
        if (isBinary && data instanceof Uint8Array) handler.onData(data)
        else socket.destroy()
      })
      webSocket.once("close", (code) => {
        // Whoever closes it in order has ended what it sends.
        if (code !== withoutGoodbye) handler.onEnd()
        handler.onClose()
      })
    })
    socket.pause()
    socket.unshift(first)
    server.emit("connection", socket)
    process.nextTick(() => socket.resume())
  }
  return { serve }
}

type OpenSockets = Map<Net.Socket, NodeConnection>

/** The listeners of all sockets: none of its own for each, of which there may be many. */
const makeAccept = (open: OpenSockets, web: Web, options: ListenOptions) => {
  function onData(this: Net.Socket, chunk: Uint8Array) {
    const connection = open.get(this)
    if (connection === undefined) return
    if (!connection.isNew || chunk[0] !== firstOfHttp) {
      connection.isNew = false
      return connection.handler.onData(chunk)
    }
    this.off("data", onData)
    this.off("end", onEnd)
    web.serve(connection, chunk)
  }
  function onEnd(this: Net.Socket) {
    open.get(this)?.handler.onEnd()
  }
  function onClose(this: Net.Socket) {
    const connection = open.get(this)
    open.delete(this)
    // A WebSocket knows better how it ended, and tells it after this.
    if (connection?.webSocket === undefined) connection?.handler.onClose()
  }
  return (socket: Net.Socket) => {
    // Whatever the error is, "close" follows it.
    socket.on("error", noop)
    open.set(socket, new NodeConnection(socket, options.onConnection))
    socket.on("data", onData)
    socket.on("end", onEnd)
    socket.on("close", onClose)
  }
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

const closeAll = (server: Net.Server, open: ReadonlyMap<Net.Socket, unknown>) =>
  Effect.callback<void>((resume) => {
    for (const socket of open.keys()) {
      socket.destroy()
    }
    // On a server that is not listening (any more) this only waits for the last connection to be gone.
    server.close(() => resume(Effect.void))
  })

const listen = Effect.fnUntraced(function* (options: ListenOptions) {
  const open: OpenSockets = new Map()
  const web = makeWeb(options.maxMessageBytes)
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => Net.createServer({ noDelay: true, keepAlive: true, allowHalfOpen: true })),
    (server) => closeAll(server, open)
  )
  server.on("connection", makeAccept(open, web, options))
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
 * The real network. `TCP_NODELAY` and keep-alive are set on every connection. A connection whose first byte is that of
 * an HTTP request becomes a WebSocket, whose binary messages carry the same bytes; other requests are answered with 426
 * (Upgrade Required).
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
