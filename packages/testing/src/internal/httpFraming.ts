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

const lineFeed = 10
const carriageReturn = 13

const headerOf = (line: string): readonly [name: string, value: string] => {
  const colon = line.indexOf(":")
  return colon === -1 ? [line.trim(), ""] : [line.slice(0, colon).trim(), line.slice(colon + 1).trim()]
}

const startLine = /^([A-Z-]{1,20}) (\/\S*) HTTP\/1\.[01]$/

/** Ten digits are more than any body that is read. */
const decimal = /^\d{1,10}$/

/** The length of the body; `undefined` where it is none, too large, or said twice and not the same. */
const bodyLength = (headers: UpnpResponder.Request["headers"]): number | undefined => {
  const said = headers.flatMap(([name, value]) => (name.toLowerCase() === "content-length" ? [value] : []))
  const [first = "0"] = said
  if (!decimal.test(first) || said.some((value) => value !== first)) return undefined
  return Number(first) > maximumBody ? undefined : Number(first)
}

interface Head extends Pick<UpnpResponder.Request, "headers" | "method" | "path"> {
  /** Where the body begins and ends. */
  readonly start: number
  readonly end: number
}

const decodeHead = (bytes: Uint8Array, start: number): Head | "Malformed" => {
  const text = latin1.decode(bytes.subarray(0, start)).replace(/(?:\r?\n){2}$/, "")
  const [first = "", ...lines] = text.split(/\r?\n/)
  const [, method, path] = startLine.exec(first) ?? []
  if (method === undefined || path === undefined) return "Malformed"
  const headers = lines.map(headerOf)
  const length = bodyLength(headers)
  return length === undefined ? "Malformed" : { method, path, headers, start, end: start + length }
}

/** Reads requests from the pieces that they arrive in: each byte is looked at once, however small the pieces are. */
export class RequestReader {
  /** The bytes up to `#size` have arrived; there is room for more. */
  #bytes = new Uint8Array(1024)
  #size = 0
  /** Where the next look for the end of the head begins. */
  #looked = 0
  #head: Head | "Malformed" | undefined

  /** Whether more has arrived than any request has. */
  get isOverfull(): boolean {
    return this.#size > maximumHead + maximumBody
  }

  push(piece: Uint8Array): void {
    const size = this.#size + piece.length
    if (size > this.#bytes.length) {
      const larger = new Uint8Array(2 * size)
      larger.set(this.#bytes.subarray(0, this.#size))
      this.#bytes = larger
    }
    this.#bytes.set(piece, this.#size)
    this.#size = size
  }

  /** The first request of what has arrived, which is then gone: whole, not whole yet, or none. */
  take(): UpnpResponder.Request | "Incomplete" | "Malformed" {
    const head = (this.#head ??= this.#findHead())
    if (head === undefined) return this.#size >= maximumHead ? "Malformed" : "Incomplete"
    if (head === "Malformed") return head
    if (this.#size < head.end) return "Incomplete"
    const { end, headers, method, path, start } = head
    const request = { method, path, headers, body: this.#bytes.slice(start, end) }
    this.#bytes.copyWithin(0, end, this.#size)
    this.#size -= end
    this.#looked = 0
    this.#head = undefined
    return request
  }

  /** A head ends with an empty line. */
  #findHead(): Head | "Malformed" | undefined {
    const bytes = this.#bytes
    const last = Math.min(this.#size, maximumHead)
    for (let at = this.#looked; at < last; at++) {
      if (bytes[at] !== lineFeed) continue
      const next = at + (bytes[at + 1] === carriageReturn ? 2 : 1)
      if (next >= last) {
        // What decides has not arrived.
        this.#looked = at
        return undefined
      }
      if (bytes[next] === lineFeed) return decodeHead(bytes, next + 1)
    }
    this.#looked = last
    return undefined
  }
}
