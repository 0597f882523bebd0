/**
 * An `http` URL whose host is pinned to an address.
 *
 * What a device writes into its answers decides about port and path only. The host is always the address that
 * answered, so nobody can send this host's requests elsewhere, and no name is ever resolved.
 *
 * @since 0.1.0
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"

/**
 * A pinned URL.
 *
 * @category models
 * @since 0.1.0
 */
export interface HttpUrl {
  readonly address: NetAddress.InetAddress
  /** Path and query, beginning with a slash. */
  readonly path: string
}

/** Longer than any URL of a home router; what is longer is an attack or a mistake. */
const maximumLength = 2048

/** How much of a refused URL is worth showing. */
const shown = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)

const pin = (url: URL, host: NetAddress.IpAddress, text: string): Result.Result<HttpUrl, string> => {
  if (url.protocol !== "http:") return Result.fail(`${shown(text)} is not an http URL`)
  const port = url.port === "" ? 80 : Number(url.port)
  if (port === 0) return Result.fail(`${shown(text)} has port 0`)
  return Result.map(
    Result.mapError(NetAddress.inetAddress(host, port), () => `${shown(text)} has no usable port`),
    (address) => ({ address, path: `${url.pathname}${url.search}` })
  )
}

const parse = (text: string, base?: string): Result.Result<URL, string> => {
  if (text === "") return Result.fail("the URL is empty")
  if (text.length > maximumLength) return Result.fail(`the URL has more than ${maximumLength} characters`)
  const url = URL.parse(text, base)
  return url === null ? Result.fail(`${shown(text)} is not a URL`) : Result.succeed(url)
}

/**
 * Reads an absolute URL and pins it to the host that sent it; fails with what is wrong.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromString = (text: string, host: NetAddress.IpAddress): Result.Result<HttpUrl, string> => {
  const trimmed = text.trim()
  return Result.flatMap(parse(trimmed), (url) => pin(url, host, trimmed))
}

/**
 * Resolves a reference, relative or absolute, against a base and pins it to the base's host; fails with what is wrong.
 *
 * @category combinators
 * @since 0.1.0
 */
export const resolve = (reference: string, base: HttpUrl): Result.Result<HttpUrl, string> => {
  const trimmed = reference.trim()
  return Result.flatMap(parse(trimmed, format(base)), (url) => pin(url, base.address.address, trimmed))
}

/**
 * The URL as text.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: HttpUrl): string => `http://${NetAddress.formatInet(self.address)}${self.path}`
