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
import * as Http from "./Http.ts"

/** Bytes. */
const maxHeaderSize = 16 * 1024

const kinds: Readonly<Record<string, Http.HttpError["kind"]>> = {
  ECONNREFUSED: "Refused",
  EHOSTUNREACH: "Unreachable",
  ENETUNREACH: "Unreachable",
  EHOSTDOWN: "Unreachable",
  ENETDOWN: "Unreachable",
  ETIMEDOUT: "Unreachable",
  EADDRNOTAVAIL: "Unreachable",
  HPE_HEADER_OVERFLOW: "TooLarge",
  ERR_UNESCAPED_CHARACTERS: "Malformed",
  ERR_INVALID_CHAR: "Malformed"
}

const toHttpError = (error: NodeJS.ErrnoException): Http.HttpError => {
  const code = error.code ?? ""
  const kind = kinds[code] ?? (code.startsWith("HPE_") ? "Malformed" : "Closed")
  return new Http.HttpError({ kind, detail: error.message })
}

const headersOf = (request: Http.HttpRequest): Record<string, string> => ({
  ...Object.fromEntries(request.headers ?? []),
  ...(request.body === undefined ? {} : { "Content-Length": String(Buffer.byteLength(request.body)) })
})

const joined = (headers: NodeHttpClient.IncomingHttpHeaders): Record<string, string> => {
  const flat: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) flat[name] = Array.isArray(value) ? value.join(", ") : value
  }
  return flat
}

const request = (options: Http.HttpRequest) =>
  Effect.callback<Http.HttpResponse, Http.HttpError>((resume) => {
    const fail = (error: Http.HttpError) => resume(Effect.fail(error))
    let clientRequest: NodeHttpClient.ClientRequest
    try {
      clientRequest = NodeHttpClient.request({
        method: options.method,
        host: NetAddress.formatIp(options.address.address),
        port: options.address.port,
        path: options.path,
        headers: headersOf(options),
        // A connection for each exchange: no idle socket is left behind, and few routers keep one open.
        agent: false,
        insecureHTTPParser: true,
        maxHeaderSize
      })
    } catch (error) {
      // Node checks path and headers here; both may come from what a router said.
      return fail(toHttpError(error instanceof Error ? error : new Error(String(error))))
    }
    clientRequest.on("error", (error) => fail(toHttpError(error)))
    clientRequest.on("response", (response) => {
      const local = NetAddress.ipFromString(response.socket.localAddress ?? "")
      const chunks: Array<Buffer> = []
      let size = 0
      response.on("data", (chunk: Buffer) => {
        size += chunk.length
        if (size > options.maxBytes) {
          fail(new Http.HttpError({ kind: "TooLarge", detail: `more than ${options.maxBytes} bytes` }))
          clientRequest.destroy()
          return
        }
        chunks.push(chunk)
      })
      response.on("error", (error) => fail(toHttpError(error)))
      response.on("end", () => {
        if (Result.isFailure(local)) {
          return fail(new Http.HttpError({ kind: "Closed", detail: "the connection has no local address" }))
        }
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
