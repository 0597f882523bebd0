/**
 * Listening TCP sockets of Node, with WebSockets and TLS on the same port.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Tls from "node:tls"
import * as WebSocket from "ws"
import * as NodeProxyHeaders from "./internal/NodeProxyHeaders.ts"
import * as NodeTlsServer from "./internal/NodeTlsServer.ts"
import * as Timer from "./internal/timer.ts"
import type * as ProxyProtocol from "./ProxyProtocol.ts"
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

/** What the owner wants sent before it is known how: it goes out as the peer understands it. */
interface Held {
  readonly writes: Array<readonly [blocks: ReadonlyArray<Uint8Array>, flushed: () => void]>
  isEnded: boolean
}

/** A class, so that an idle connection costs one object and no closures. */
class NodeConnection implements TcpListener.Connection {
  /** What the owner's bytes go through: that inside of TLS, once there is TLS. */
  socket: Net.Socket
  readonly handler: TcpListener.ConnectionHandler
  /** Where the bytes are messages of one. */
  webSocket: WebSocket.WebSocket | undefined = undefined
  /** Whether nothing has come yet. */
  isNew = true
  private isHolding: boolean
  private held: Held | undefined = undefined
  private readonly header: ProxyProtocol.Header | undefined

  constructor(socket: Net.Socket, { onConnection, tls }: ListenOptions, header: ProxyProtocol.Header | undefined) {
    this.socket = socket
    this.isHolding = tls !== undefined
    this.header = header
    this.handler = onConnection(this)
  }

  get isForwarded() {
    return this.header !== undefined
  }

  get remoteAddress() {
    if (this.header !== undefined) return this.header.source
    return addressOf(this.socket.remoteAddress, this.socket.remotePort)
  }

  get localAddress() {
    return addressOf(this.socket.localAddress, this.socket.localPort)
  }

  /** Until `settle`, what the owner sends waits. */
  hold(): void {
    this.isHolding = true
  }

  settle(): void {
    const { held } = this
    this.isHolding = false
    this.held = undefined
    if (held === undefined) return
    for (const [blocks, flushed] of held.writes) this.write(blocks, flushed)
    if (held.isEnded) this.end()
  }

  write(blocks: ReadonlyArray<Uint8Array>, flushed: () => void): void {
    if (this.isHolding) {
      this.holdings().writes.push([blocks, flushed])
      return
    }
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
    if (this.isHolding) this.holdings().isEnded = true
    else if (this.webSocket === undefined) this.socket.end()
    else this.webSocket.close()
  }

  destroy(): void {
    this.socket.destroy()
  }

  private holdings(): Held {
    this.held ??= { writes: [], isEnded: false }
    return this.held
  }

  private writeOne(block: Uint8Array, written: ((error?: Error | null) => void) | undefined): void {
    if (this.webSocket === undefined) this.socket.write(block, written)
    else this.webSocket.send(block, written)
  }
}

/** The first byte of a request that asks for a WebSocket: `GET`. */
const firstOfHttp = 0x47

/** The first byte of a TLS record that begins a handshake. */
const firstOfTls = 0x16

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
    connection.hold()
    asked.set(socket, (webSocket) => {
      connection.webSocket = webSocket
      connection.settle()
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
const makeAccept = (open: OpenSockets, web: Web, tls: NodeTlsServer.TlsServer | undefined, options: ListenOptions) => {
  function onData(this: Net.Socket, chunk: Uint8Array) {
    const connection = open.get(this)
    if (connection === undefined) return
    if (connection.isNew) begin(this, connection, chunk)
    else connection.handler.onData(chunk)
  }
  function onEnd(this: Net.Socket) {
    const connection = open.get(this)
    if (connection === undefined) return
    // Nothing comes any more that could tell how to speak.
    connection.settle()
    connection.handler.onEnd()
  }
  function onClose(this: Net.Socket) {
    const connection = open.get(this)
    open.delete(this)
    // A WebSocket knows better how it ended, and tells it after this.
    if (connection?.webSocket === undefined) connection?.handler.onClose()
  }
  const attach = (socket: Net.Socket, connection: NodeConnection) => {
    open.set(socket, connection)
    socket.on("data", onData)
    socket.on("end", onEnd)
    socket.on("close", onClose)
  }
  const detach = (socket: Net.Socket) => {
    socket.off("data", onData)
    socket.off("end", onEnd)
  }
  /** The connection goes on inside of TLS, and begins anew there. */
  const secure = (
    socket: Net.Socket,
    connection: NodeConnection,
    server: NodeTlsServer.TlsServer,
    first: Uint8Array
  ) => {
    detach(socket)
    socket.off("close", onClose)
    open.delete(socket)
    connection.socket = server.wrap(socket, first)
    attach(connection.socket, connection)
  }
  /** The first bytes tell what it speaks. */
  const begin = (socket: Net.Socket, connection: NodeConnection, chunk: Uint8Array) => {
    const [first] = chunk
    if (first === firstOfTls && tls !== undefined && !(socket instanceof Tls.TLSSocket)) {
      return secure(socket, connection, tls, chunk)
    }
    connection.isNew = false
    if (first === firstOfHttp) {
      detach(socket)
      return web.serve(connection, chunk)
    }
    connection.settle()
    connection.handler.onData(chunk)
  }
  return (socket: Net.Socket, header?: ProxyProtocol.Header) => {
    attach(socket, new NodeConnection(socket, options, header))
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

const closeAll = (server: Net.Server, { open, headers }: Accepting) =>
  Effect.callback<void>((resume) => {
    headers?.close()
    for (const socket of open.keys()) {
      socket.destroy()
    }
    // On a server that is not listening (any more) this only waits for the last connection to be gone.
    server.close(() => resume(Effect.void))
  })

/** What becomes of accepted connections. */
interface Accepting {
  readonly open: OpenSockets
  readonly headers: NodeProxyHeaders.ProxyHeaders | undefined
  readonly onSocket: (socket: Net.Socket) => void
}

const defaultOpeningTimeout = Duration.seconds(5)

const makeAccepting = Effect.fnUntraced(function* (options: ListenOptions) {
  const timeout = Duration.fromInputUnsafe(options.openingTimeout ?? defaultOpeningTimeout)
  const after = yield* Timer.make
  const tls = options.tls === undefined ? undefined : yield* NodeTlsServer.make(options.tls, timeout, after)
  const open: OpenSockets = new Map()
  const accept = makeAccept(open, makeWeb(options.maxMessageBytes), tls, options)
  const headers = options.proxyProtocol === true ? NodeProxyHeaders.make(timeout, after, accept) : undefined
  const onSocket = (socket: Net.Socket) => {
    // Whatever the error is, "close" follows it.
    socket.on("error", noop)
    if (headers === undefined) accept(socket)
    else headers.read(socket)
  }
  return { open, headers, onSocket } satisfies Accepting
})

const listen = Effect.fnUntraced(function* (options: ListenOptions) {
  const accepting = yield* makeAccepting(options)
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => Net.createServer({ noDelay: true, keepAlive: true, allowHalfOpen: true })),
    (server) => closeAll(server, accepting)
  )
  server.on("connection", accepting.onSocket)
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
 * (Upgrade Required). Where a certificate is given, one whose first byte is that of a TLS record (TLS 1.2 or 1.3) is
 * decrypted first, and the first byte inside of it looked at in the same way.
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
