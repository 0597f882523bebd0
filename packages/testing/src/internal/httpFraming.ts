/**
 * HTTP as a router's small server writes and reads it, byte by byte, so that its habits can be imitated.
 */
import type * as RouterModel from "../RouterModel.ts"
import type * as UpnpResponder from "../UpnpResponder.ts"
import { concat } from "./bytes.ts"

const reasons: Readonly<Record<number, string>> = {
  200: "OK",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  412: "Precondition Failed",
  500: "Internal Server Error",
  503: "Service Unavailable"
}

/** Whether a connection is kept after an answer. Where only the end of it ends an answer, it cannot be. */
export const keepsConnection = (model: RouterModel.RouterModel, request: UpnpResponder.Request): boolean =>
  (model.has("KeepsConnection") || model.has("ClosesKeptConnection")) &&
  !model.has("NoContentLength") &&
  !model.has("CloseWithoutLength") &&
  !model.has("Http10") &&
  request.headers.every(([name, value]) => name.toLowerCase() !== "connection" || value.toLowerCase() !== "close")

/** What differs in the length of an answer and in what is said about the end of the connection. */
const lengthHeaders = (
  { quirks }: RouterModel.RouterModel,
  length: number,
  isKept: boolean
): ReadonlyArray<readonly [name: string, value: string]> => {
  if (quirks.has("NoContentLength")) return []
  const connection = ["Connection", isKept ? "keep-alive" : "close"] as const
  if (quirks.has("CloseWithoutLength")) return [connection]
  return [connection, quirks.has("Chunked") ? ["Transfer-Encoding", "chunked"] : ["Content-Length", String(length)]]
}

const mixed = (name: string): string =>
  [...name].map((letter, index) => (index % 2 === 0 ? letter.toLowerCase() : letter.toUpperCase())).join("")

const oddCase = (name: string, index: number): string => {
  if (index % 3 === 0) return name.toUpperCase()
  return index % 3 === 1 ? name.toLowerCase() : mixed(name)
}

const wrongCharset = (name: string, value: string): string =>
  name === "Content-Type" ? value.replace(/charset="[^"]*"/, 'charset="utf-16"') : value

const chunkLength = 7

const encoder = new TextEncoder()

const chunked = (body: Uint8Array): Uint8Array => {
  const parts: Array<Uint8Array> = []
  for (let at = 0; at < body.length; at += chunkLength) {
    const chunk = body.subarray(at, at + chunkLength)
    parts.push(encoder.encode(`${chunk.length.toString(16)}\r\n`), chunk, encoder.encode("\r\n"))
  }
  return concat([...parts, encoder.encode("0\r\n\r\n")])
}

/** An answer as it goes onto the wire; the connection is closed after it unless it is kept. */
export const encode = (model: RouterModel.RouterModel, answer: UpnpResponder.Answer, isKept: boolean): Uint8Array => {
  const { quirks } = model
  const headers = [...answer.headers, ...lengthHeaders(model, answer.body.length, isKept)].map(
    ([name, value], index) =>
      `${quirks.has("OddHeaderCase") ? oddCase(name, index) : name}: ${quirks.has("WrongCharset") ? wrongCharset(name, value) : value}`
  )
  const start = `HTTP/${quirks.has("Http10") ? "1.0" : "1.1"} ${answer.status} ${reasons[answer.status] ?? "Unknown"}`
  const head = [start, ...headers, "", ""].join(quirks.has("LineFeedsOnly") ? "\n" : "\r\n")
  return concat([encoder.encode(head), quirks.has("Chunked") ? chunked(answer.body) : answer.body])
}

const latin1 = new TextDecoder("latin1")

const maximumHead = 16 * 1024
const maximumBody = 64 * 1024

const endOfHead = /\r?\n\r?\n/

const headerOf = (line: string): readonly [name: string, value: string] => {
  const colon = line.indexOf(":")
  return colon === -1 ? [line.trim(), ""] : [line.slice(0, colon).trim(), line.slice(colon + 1).trim()]
}

const startLine = /^([A-Z-]{1,20}) (\/\S*) HTTP\/1\.[01]$/

/** A request, and the bytes that came after it on its connection. */
export interface Arrived {
  readonly request: UpnpResponder.Request
  readonly rest: Uint8Array
}

/** The first request of what has arrived so far: whole, not whole yet, or none. */
export const decode = (bytes: Uint8Array): Arrived | "Incomplete" | "Malformed" => {
  const text = latin1.decode(bytes.subarray(0, maximumHead))
  const end = endOfHead.exec(text)
  if (end === null) return bytes.length >= maximumHead ? "Malformed" : "Incomplete"
  const [first = "", ...lines] = text.slice(0, end.index).split(/\r?\n/)
  const [, method, path] = startLine.exec(first) ?? []
  if (method === undefined || path === undefined) return "Malformed"
  const headers = lines.map(headerOf)
  const length = Number(headers.find(([name]) => name.toLowerCase() === "content-length")?.[1] ?? "0")
  if (!Number.isInteger(length) || length < 0 || length > maximumBody) return "Malformed"
  const start = end.index + end[0].length
  if (bytes.length < start + length) return "Incomplete"
  const request = { method, path, headers, body: bytes.subarray(start, start + length) }
  return { request, rest: bytes.subarray(start + length) }
}
