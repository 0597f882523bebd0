/**
 * A small HTTP server of Node for what routers send.
 *
 * Whoever connects is a stranger: connections, requests, headers, bodies and time are all bounded, each connection
 * carries one request, and nothing that arrives fails anything but its own connection.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as NodeHttpServer from "node:http"
import type * as Net from "node:net"
import * as HttpListener from "./HttpListener.ts"

/** Bytes. */
const maxHeaderSize = 16 * 1024

/** Of all peers: a router sends one event at a time. More are closed as they come. */
const maxConnections = 32

/** Requests that are read or answered; the next one is told to come later. */
const maxRequests = 16

/** For a whole request, from the opening of its connection, and for its answer. */
const patience = Duration.seconds(5)

const noop = () => {}

const addressOf = (host: string | undefined, port: number | undefined): NetAddress.InetAddress | undefined => {
  if (host === undefined || port === undefined) return undefined
  // A link-local address is reported with its interface (fe80::1%eth0).
  const [bare = ""] = host.split("%", 1)
  return NetAddress.toCanonical(NetAddress.inetAddressFromIpStringUnsafe(bare, port))
}

const joined = (headers: NodeHttpServer.IncomingHttpHeaders): Record<string, string> => {
  const flat: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) flat[name] = Array.isArray(value) ? value.join(", ") : value
  }
  return flat
}

const reply = (response: NodeHttpServer.ServerResponse, status: number) => {
  const isStatus = Number.isInteger(status) && status >= 200 && status <= 599
  response.writeHead(isStatus ? status : 500, { "Content-Length": "0", Connection: "close" })
  response.end()
}

/** Reads a body to its end; `undefined` where it is larger than allowed. Does not end where the connection does. */
const readBody = (request: NodeHttpServer.IncomingMessage, maxBytes: number) =>
  Effect.callback<Uint8Array | undefined>((resume) => {
    if (Number(request.headers["content-length"] ?? 0) > maxBytes) return resume(Effect.succeed(undefined))
    const chunks: Array<Buffer> = []
    let size = 0
    request.on("data", (chunk: Buffer) => {
      size += chunk.length
      if (size <= maxBytes) {
        chunks.push(chunk)
        return
      }
      request.pause()
      resume(Effect.succeed(undefined))
    })
    request.on("end", () => resume(Effect.succeed(new Uint8Array(Buffer.concat(chunks)))))
  })

/** A whole URL is what a proxy is asked for, but RFC 9112 §3.2.2 has every server take it; `*` has no path. */
const pathOf = (target: string): string | undefined => {
  if (target.startsWith("/")) return target
  const url = URL.parse(target)
  return url?.protocol === "http:" ? `${url.pathname}${url.search}` : undefined
}

const statusOf = Effect.fnUntraced(function* (
  request: NodeHttpServer.IncomingMessage,
  from: NetAddress.InetAddress,
  options: HttpListener.ListenOptions
) {
  const path = pathOf(request.url ?? "")
  if (path === undefined) return 400
  const body = yield* readBody(request, options.maxBytes)
  if (body === undefined) return 413
  return yield* options.answer({ method: request.method ?? "", path, headers: joined(request.headers), body, from })
})

const handle = (
  request: NodeHttpServer.IncomingMessage,
  response: NodeHttpServer.ServerResponse,
  options: HttpListener.ListenOptions
): Effect.Effect<void> => {
  const { socket } = request
  const from = addressOf(socket.remoteAddress, socket.remotePort)
  // Gone already.
  if (from === undefined) return Effect.void
  const gone = Effect.callback<undefined>((resume) => {
    if (response.destroyed) return resume(Effect.undefined)
    response.once("close", () => resume(Effect.undefined))
  })
  return statusOf(request, from, options).pipe(
    Effect.raceFirst(gone),
    // A defect of the answering side belongs to this one request.
    Effect.catchDefect((defect) => Effect.as(Effect.logError("an HTTP request could not be answered", defect), 500)),
    Effect.map((status) => (status === undefined ? undefined : reply(response, status)))
  )
}

const isAccepted = (socket: Net.Socket, options: HttpListener.ListenOptions): boolean => {
  const from = addressOf(socket.remoteAddress, socket.remotePort)
  return from !== undefined && options.accepts(from.address)
}

type Run = (effect: Effect.Effect<void>) => Fiber.Fiber<void>

const admit = (socket: Net.Socket, open: Set<Net.Socket>, options: HttpListener.ListenOptions, run: Run) => {
  // Whatever the error is, "close" follows it.
  socket.on("error", noop)
  if (open.size >= maxConnections || !isAccepted(socket, options)) {
    socket.destroy()
    return
  }
  open.add(socket)
  // Node's own limits are looked at by an interval, and begin again with what the peer sends.
  const limit = run(
    Effect.delay(
      Effect.sync(() => void socket.destroy()),
      patience
    )
  )
  socket.once("close", () => {
    limit.interruptUnsafe()
    open.delete(socket)
  })
}

const makeServer = (options: HttpListener.ListenOptions, open: Set<Net.Socket>, run: Run) => {
  const server = NodeHttpServer.createServer({
    // Routers that end lines with a bare line feed when they answer do so when they ask.
    insecureHTTPParser: true,
    maxHeaderSize,
    noDelay: true
  })
  server.maxRequestsPerSocket = 1
  let requests = 0
  server.on("request", (request, response) => {
    request.on("error", noop)
    response.on("error", noop)
    if (requests >= maxRequests) return reply(response, 503)
    requests += 1
    response.once("close", () => (requests -= 1))
    run(handle(request, response, options))
  })
  // Node answers 417 otherwise, and destroys the socket for the other two: said here so that it stays so.
  server.on("checkExpectation", (_request, response) => reply(response, 417))
  server.on("connect", (_request, socket) => socket.destroy())
  server.on("upgrade", (_request, socket) => socket.destroy())
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    if (!socket.writable || error.code === "ECONNRESET") {
      socket.destroy()
      return
    }
    const status = error.code === "HPE_HEADER_OVERFLOW" ? "431 Request Header Fields Too Large" : "400 Bad Request"
    socket.end(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`)
  })
  server.on("dropRequest", (_request, socket) => socket.destroy())
  server.prependListener("connection", (socket: Net.Socket) => admit(socket, open, options, run))
  return server
}

const listenError = (error: Error) => new HttpListener.HttpListenError({ detail: error.message })

const bind = (server: NodeHttpServer.Server, address: NetAddress.IpAddress) =>
  Effect.callback<void, HttpListener.HttpListenError>((resume) => {
    server.once("error", (error) => resume(Effect.fail(listenError(error))))
    // A cluster must not share the port silently.
    server.listen({ host: NetAddress.formatIp(address), port: 0, exclusive: true }, () => resume(Effect.void))
  })

const closeAll = (server: NodeHttpServer.Server, open: ReadonlySet<Net.Socket>) =>
  Effect.callback<void>((resume) => {
    for (const socket of open) socket.destroy()
    // On a server that never listened this says so at once.
    server.close(() => resume(Effect.void))
  })

const listen = Effect.fn("HttpListener.listen")(function* (options: HttpListener.ListenOptions) {
  const open = new Set<Net.Socket>()
  const run = yield* FiberSet.makeRuntime<never, void, never>()
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => makeServer(options, open, run)),
    (server) => closeAll(server, open)
  )
  yield* bind(server, options.address)
  // Out of file descriptors, say: the peer tries again.
  server.on("error", noop)
  const bound = server.address()
  const address = bound === null || typeof bound === "string" ? undefined : addressOf(bound.address, bound.port)
  if (address === undefined) return yield* listenError(new Error("the socket has no address"))
  return address
})

/**
 * The real network. Up to 32 connections and 16 requests at a time, 16 KiB of headers, 5 seconds for each connection
 * from its opening to its end.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<HttpListener.HttpListener> = Layer.succeed(HttpListener.HttpListener, { listen })
