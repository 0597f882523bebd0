/**
 * HTTP to home routers, on Node's own client.
 *
 * Node's lenient parser is used on purpose: many routers end header lines with a bare line feed, which the strict
 * parser and `fetch` refuse.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as NodeHttpClient from "node:http"
import type { Socket } from "node:net"
import * as Os from "node:os"
import * as Http from "./Http.ts"

/** Bytes. */
const maxHeaderSize = 16 * 1024

/** Answers with a status of 1xx before the answer itself: more than a few of them is a flood. */
const maxInterims = 16

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
const localAddressOf = (socket: Socket) => {
  const [address = ""] = (socket.localAddress ?? "").split("%")
  return NetAddress.ipFromString(address)
}

const request = (options: Http.HttpRequest) =>
  Effect.callback<Http.HttpResponse, Http.HttpError>((resume) => {
    const fail = (error: Http.HttpError) => resume(Effect.fail(error))
    if (!options.path.startsWith("/")) return fail(httpError("Malformed", "the path does not begin with a slash"))
    let clientRequest: NodeHttpClient.ClientRequest
    try {
      clientRequest = NodeHttpClient.request({
        method: options.method,
        host: hostOf(options.address),
        port: options.address.port,
        path: options.path,
        headers: headersOf(options),
        // A connection for each exchange: no idle socket is left behind, and few routers keep one open.
        agent: false,
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
    clientRequest.on("information", () => {
      interims += 1
      if (interims > maxInterims) stop(httpError("Malformed", "interim answers without end"))
    })
    clientRequest.on("upgrade", (_response, socket) => {
      socket.destroy()
      fail(httpError("Malformed", "the answer switches to another protocol"))
    })
    clientRequest.on("error", (error) => {
      // Some routers count their own answer wrong: what comes after its end is no reason to lose it.
      if (answer?.complete !== true) fail(toHttpError(error))
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
      response.on("close", () => fail(httpError("Closed", "the connection was closed before the end of the answer")))
      response.on("end", () => {
        if (Result.isFailure(local)) return fail(httpError("Closed", "the connection has no local address"))
        resume(
          Effect.succeed({
            status: response.statusCode ?? 0,
            headers: joined(response.headers),
            body: new Uint8Array(Buffer.concat(chunks)),
            localAddress: local.success
          })
        )
      })
    })
    clientRequest.end(options.body)
    return Effect.sync(() => clientRequest.destroy())
  })

/**
 * The real network.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Http.Http> = Layer.succeed(Http.Http, { request })
