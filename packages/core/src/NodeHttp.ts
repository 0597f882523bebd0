/**
 * HTTP to home routers, on Node's own client.
 *
 * Node's lenient parser is used on purpose: many routers end header lines with a bare line feed, which the strict
 * parser and `fetch` refuse.
 *
 * Where a router keeps a connection open, the next requests to it use it too; unused it is closed after 5 seconds, and
 * it keeps no process alive.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as NodeHttpClient from "node:http"
import type * as Net from "node:net"
import * as Os from "node:os"
import * as Http from "./Http.ts"

/** Bytes. */
const maxHeaderSize = 16 * 1024

/** Answers with a status of 1xx before the answer itself: more than a few of them is a flood. */
const maxInterims = 16

/** At a time, to one router: most of them serve few. Further requests wait. */
const maxConnections = 4

/** How long an unused connection is kept, in milliseconds. */
const idleTime = 5_000

/** A host has few routers; whoever makes it up to more than this is forgotten first. */
const maxRemembered = 64

const kinds: Readonly<Record<string, Http.HttpError["kind"]>> = {
  ECONNREFUSED: "Refused",
  EHOSTUNREACH: "Unreachable",
  ENETUNREACH: "Unreachable",
  EHOSTDOWN: "Unreachable",
  ENETDOWN: "Unreachable",
  ETIMEDOUT: "Unreachable",
  EADDRNOTAVAIL: "Unreachable",
  HPE_HEADER_OVERFLOW: "TooLarge"
}

const httpError = (kind: Http.HttpError["kind"], detail: string) => new Http.HttpError({ kind, detail })

const toHttpError = (error: NodeJS.ErrnoException): Http.HttpError => {
  const code = error.code ?? ""
  return httpError(kinds[code] ?? (code.startsWith("HPE_") ? "Malformed" : "Closed"), error.message)
}

/** Where to connect to, as the operating system writes it: a link-local address with its interface. */
const hostOf = (address: NetAddress.InetAddress): string => {
  const isScoped = NetAddress.isInetAddressV6(address) && address.scopeId !== 0
  const scopeIds = isScoped ? NetAddress.scopeIdsFromInterfaces(Object.entries(Os.networkInterfaces())) : new Map()
  return NetAddress.formatNativeHost(address, scopeIds, process.platform)
}

const headersOf = ({ address, body, headers = [] }: Http.HttpRequest): Record<string, string> => {
  const isMissing = (name: string) => headers.every(([given]) => given.toLowerCase() !== name)
  const host = NetAddress.formatUrlHost(address.address)
  return {
    ...(isMissing("host") ? { Host: address.port === 80 ? host : `${host}:${address.port}` } : {}),
    ...Object.fromEntries(headers),
    ...(body !== undefined && isMissing("content-length") ? { "Content-Length": String(Buffer.byteLength(body)) } : {})
  }
}

const joined = (headers: NodeHttpClient.IncomingHttpHeaders): Record<string, string> => {
  const flat: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) flat[name] = Array.isArray(value) ? value.join(", ") : value
  }
  return flat
}

/** A link-local address is reported with its interface (fe80::1%eth0). */
const localAddressOf = (socket: Net.Socket) => {
  const [address = ""] = (socket.localAddress ?? "").split("%")
  return NetAddress.ipFromString(address)
}

/** Node closes the ones that are unused as soon as anything comes: nobody's words are taken for the next answer. */
const makeAgent = () =>
  new NodeHttpClient.Agent({ keepAlive: true, maxSockets: maxConnections, maxFreeSockets: 2, timeout: idleTime })

/** Why an exchange failed, and whether it was only that the router closed the kept connection as the request came. */
interface Failure {
  readonly error: Http.HttpError
  readonly isStale: boolean
}

const failure = (error: Http.HttpError): Failure => ({ error, isStale: false })

const stillOpen = ({ headers }: NodeHttpClient.IncomingMessage): boolean =>
  headers["content-length"] === undefined && headers["transfer-encoding"] === undefined

interface Attempt {
  readonly agent: NodeHttpClient.Agent | false
  /** Told where an answer that only the end of its connection could end did not come to its end. */
  readonly onUnended: () => void
}

const exchange = (options: Http.HttpRequest, { agent, onUnended }: Attempt) =>
  Effect.callback<Http.HttpResponse, Failure>((resume) => {
    const fail = (error: Http.HttpError) => resume(Effect.fail(failure(error)))
    if (!options.path.startsWith("/")) return fail(httpError("Malformed", "the path does not begin with a slash"))
    let clientRequest: NodeHttpClient.ClientRequest
    try {
      clientRequest = NodeHttpClient.request({
        method: options.method,
        host: hostOf(options.address),
        port: options.address.port,
        path: options.path,
        headers: headersOf(options),
        agent,
        insecureHTTPParser: true,
        maxHeaderSize
      })
    } catch (error) {
      // Node checks method, path and headers here; they may come from what a router said.
      return fail(httpError("Malformed", error instanceof Error ? error.message : String(error)))
    }
    const stop = (error: Http.HttpError) => {
      fail(error)
      clientRequest.destroy()
    }
    let answer: NodeHttpClient.IncomingMessage | undefined
    let interims = 0
    let socket: Net.Socket | undefined
    let readBefore = 0
    clientRequest.on("socket", (given) => {
      socket = given
      readBefore = given.bytesRead
    })
    const isStale = (code: string | undefined) =>
      clientRequest.reusedSocket && socket?.bytesRead === readBefore && (code === "ECONNRESET" || code === "EPIPE")
    clientRequest.on("information", () => {
      interims += 1
      if (interims > maxInterims) stop(httpError("Malformed", "interim answers without end"))
    })
    clientRequest.on("upgrade", (_response, socket) => {
      socket.destroy()
      fail(httpError("Malformed", "the answer switches to another protocol"))
    })
    clientRequest.on("error", (error: NodeJS.ErrnoException) => {
      // Some routers count their own answer wrong: what comes after its end is no reason to lose it.
      if (answer?.complete === true) return
      resume(Effect.fail({ error: toHttpError(error), isStale: isStale(error.code) }))
    })
    // Whatever else ends a connection: a request must end with it. Once a response has begun, its own end comes later.
    clientRequest.on("close", () => {
      if (answer === undefined) fail(httpError("Closed", "the connection was closed without an answer"))
    })
    clientRequest.on("response", (response) => {
      answer = response
      const local = localAddressOf(response.socket)
      const chunks: Array<Buffer> = []
      let size = 0
      response.on("data", (chunk: Buffer) => {
        size += chunk.length
        if (size > options.maxBytes) return stop(httpError("TooLarge", `more than ${options.maxBytes} bytes`))
        chunks.push(chunk)
      })
      response.on("error", (error) => fail(toHttpError(error)))
      response.on("close", () => {
        if (!response.readableEnded) fail(httpError("Closed", "the connection was closed before the end of the answer"))
      })
      response.on("end", () => {
        if (Result.isFailure(local)) return fail(httpError("Closed", "the connection has no local address"))
        const result: Http.HttpResponse = {
          status: response.statusCode ?? 0,
          headers: joined(response.headers),
          body: new Uint8Array(Buffer.concat(chunks)),
          localAddress: local.success
        }
        // Node puts the connection back at the end of this turn; whoever asks again at once shall get it.
        process.nextTick(() => resume(Effect.succeed(result)))
      })
    })
    clientRequest.end(options.body)
    return Effect.sync(() => {
      if (answer !== undefined && stillOpen(answer)) onUnended()
      clientRequest.destroy()
    })
  })

/**
 * Routers that were asked to keep the connection, gave an answer that only the end of the connection could end, and did
 * not end it: they are asked to close.
 */
const makeClosing = () => {
  const hosts = new Set<string>()
  return {
    has: (host: string) => hosts.has(host),
    add: (host: string) => {
      const [oldest] = hosts
      if (hosts.size >= maxRemembered && oldest !== undefined) hosts.delete(oldest)
      hosts.add(host)
    }
  }
}

const make = Effect.gen(function* () {
  const connections = yield* Effect.acquireRelease(Effect.sync(makeAgent), (agent) =>
    Effect.sync(() => agent.destroy())
  )
  const closing = makeClosing()
  const request = (options: Http.HttpRequest) => {
    const host = NetAddress.formatInet(options.address)
    const attempt = (agent: Attempt["agent"]) => exchange(options, { agent, onUnended: () => closing.add(host) })
    return Effect.suspend(() => attempt(closing.has(host) ? false : connections)).pipe(
      // The request did not arrive, or its connection was gone before anything was said about it: once more, afresh.
      Effect.catch((first) => (first.isStale ? attempt(false) : Effect.fail(first))),
      Effect.mapError(({ error }) => error)
    )
  }
  return Http.Http.of({ request })
})

/**
 * The real network. Kept connections are closed with the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Http.Http> = Layer.effect(Http.Http, make)
