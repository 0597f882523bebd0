/**
 * The messages of the Simple Service Discovery Protocol, between bytes and values, both ways.
 *
 * Pure: `SsdpSearch` sends and receives them. What devices really send is read tolerantly: header names in any case,
 * odd spacing, lines that end in LF alone, missing headers that are not needed. What is sent follows the UPnP Device
 * Architecture 1.1 to the letter.
 *
 * @since 0.1.0
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as WireText from "./internal/wireText.ts"

/**
 * The port that devices listen on for searches.
 *
 * @category constants
 * @since 0.1.0
 */
export const port = 1900

/**
 * The multicast group that devices listen to for searches and announce themselves to.
 *
 * @category constants
 * @since 0.1.0
 */
export const group: NetAddress.Ipv4Address = NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(239, 255, 255, 250))

/**
 * The largest datagram that is read, in bytes; real ones have a few hundred.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes = 8192

/**
 * A datagram that is not an SSDP message.
 *
 * @category errors
 * @since 0.1.0
 */
export class SsdpError extends Schema.TaggedError<SsdpError>("@effect-nat/upnp/SsdpError")("SsdpError", {
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}

const Seconds = Schema.UndefinedOr(Schema.Int)

/** The field that a device has only where it does not hear unicast searches on port 1900. */
const SearchPort = Schema.optionalKey(Schema.Int)

/**
 * A search (M-SEARCH, UPnP Device Architecture 1.1 §1.3.2).
 *
 * @category models
 * @since 0.1.0
 */
export class SearchRequest extends Schema.TaggedClass<SearchRequest>("@effect-nat/upnp/SearchRequest")(
  "SearchRequest",
  {
    /** Where it is sent: the multicast group or, for a unicast search, the device, with the port. */
    host: Schema.String,
    /** What is searched for (ST). */
    searchTarget: Schema.String,
    /** The longest time, in seconds, that devices spread their answers over; a unicast search needs none. */
    mx: Seconds
  }
) {}

/**
 * An answer to a search (§1.3.3).
 *
 * @category models
 * @since 0.1.0
 */
export class SearchAnswer extends Schema.TaggedClass<SearchAnswer>("@effect-nat/upnp/SearchAnswer")("SearchAnswer", {
  /** What was searched for (ST), as the device repeats it; empty where it does not. */
  searchTarget: Schema.String,
  /** The unique service name; empty where the device sends none. */
  usn: Schema.String,
  /** The URL of the device description, not yet checked. */
  location: Schema.String,
  server: Schema.String,
  /** How long the answer is good for, in seconds. */
  maxAge: Seconds,
  /** Grows whenever the device restarts (BOOTID.UPNP.ORG). */
  bootId: Seconds,
  /** Changes with the description (CONFIGID.UPNP.ORG). */
  configId: Seconds,
  /** Where unicast searches are to go, if not to port 1900 (SEARCHPORT.UPNP.ORG). */
  searchPort: SearchPort
}) {}

/**
 * An announcement to everybody (NOTIFY, §1.2): a device is there, changes its boot id, or goes away.
 *
 * @category models
 * @since 0.1.0
 */
export class Notify extends Schema.TaggedClass<Notify>("@effect-nat/upnp/Notify")("Notify", {
  kind: Schema.Literals(["alive", "update", "byebye"]),
  /** What is announced (NT). */
  notificationType: Schema.String,
  usn: Schema.String,
  /** The URL of the device description, not yet checked; `undefined` in a `"byebye"`. */
  location: Schema.UndefinedOr(Schema.String),
  server: Schema.String,
  /** How long the announcement is good for, in seconds. */
  maxAge: Seconds,
  bootId: Seconds,
  /** In an `"update"`: the boot id from now on (NEXTBOOTID.UPNP.ORG). */
  nextBootId: Seconds,
  configId: Seconds,
  /** Where unicast searches are to go, if not to port 1900 (SEARCHPORT.UPNP.ORG). */
  searchPort: SearchPort
}) {}

/**
 * Every SSDP message.
 *
 * @category models
 * @since 0.1.0
 */
export type Message = SearchRequest | SearchAnswer | Notify

type Headers = ReadonlyMap<string, string>

const decodeHeaders = (lines: ReadonlyArray<string>): Headers => {
  const headers = new Map<string, string>()
  let last = ""
  for (const line of lines) {
    const colon = line.indexOf(":")
    // A value on a line of its own, as old HTTP allowed.
    if (last !== "" && headers.get(last) === "" && /^[ \t]/.test(line)) {
      headers.set(last, line.trim())
      continue
    }
    if (colon <= 0) continue
    last = line.slice(0, colon).trim().toLowerCase()
    if (!headers.has(last)) headers.set(last, line.slice(colon + 1).trim())
  }
  return headers
}

const seconds = (headers: Headers, name: string): number | undefined => WireText.parseUint32(headers.get(name))

const maxAge = (headers: Headers): number | undefined =>
  WireText.parseUint32(/max-age\s*=\s*"?(\d{1,10})/i.exec(headers.get("cache-control") ?? "")?.[1])

/** From this port on; others are no search ports. */
const firstSearchPort = 49_152

const searchPort = (headers: Headers): { readonly searchPort?: number } => {
  const port = seconds(headers, "searchport.upnp.org") ?? 0
  return port >= firstSearchPort && port <= 65_535 ? { searchPort: port } : {}
}

const malformed = (detail: string) => Result.fail(new SsdpError({ detail }))

const decodeSearch = (headers: Headers): Result.Result<Message, SsdpError> => {
  const searchTarget = headers.get("st") ?? ""
  if (searchTarget === "") return malformed("the search has no target")
  // The quotes are part of the value, and some control points forget them.
  if (!/^"?ssdp:discover"?$/i.test(headers.get("man") ?? "")) return malformed("the search has no MAN header")
  return Result.succeed(
    new SearchRequest({ host: headers.get("host") ?? "", searchTarget, mx: seconds(headers, "mx") })
  )
}

const decodeAnswer = (headers: Headers): Result.Result<Message, SsdpError> => {
  const location = headers.get("location") ?? ""
  if (location === "") return malformed("the answer has no LOCATION")
  return Result.succeed(
    new SearchAnswer({
      searchTarget: headers.get("st") ?? "",
      usn: headers.get("usn") ?? "",
      location,
      server: headers.get("server") ?? "",
      maxAge: maxAge(headers),
      bootId: seconds(headers, "bootid.upnp.org"),
      configId: seconds(headers, "configid.upnp.org"),
      ...searchPort(headers)
    })
  )
}

const kinds: Readonly<Record<string, Notify["kind"] | undefined>> = {
  "ssdp:alive": "alive",
  "ssdp:update": "update",
  "ssdp:byebye": "byebye"
}

const decodeNotify = (headers: Headers): Result.Result<Message, SsdpError> => {
  const kind = kinds[headers.get("nts")?.toLowerCase() ?? ""]
  if (kind === undefined) return malformed("the announcement says neither alive, update nor byebye")
  const location = headers.get("location")
  if (kind !== "byebye" && location === undefined) return malformed("the announcement has no LOCATION")
  return Result.succeed(
    new Notify({
      kind,
      notificationType: headers.get("nt") ?? "",
      usn: headers.get("usn") ?? "",
      location,
      server: headers.get("server") ?? "",
      maxAge: maxAge(headers),
      bootId: seconds(headers, "bootid.upnp.org"),
      nextBootId: seconds(headers, "nextbootid.upnp.org"),
      configId: seconds(headers, "configid.upnp.org"),
      ...searchPort(headers)
    })
  )
}

const answerLine = /^HTTP\/1\.\d[ \t]+200(?:[ \t]|$)/i
const searchLine = /^M-SEARCH[ \t]+\*[ \t]+HTTP\/1\.\d$/i
const notifyLine = /^NOTIFY[ \t]+\*[ \t]+HTTP\/1\.\d$/i

/**
 * Reads one datagram. Anything but a search, an answer with status 200 or an announcement is an error, never a defect.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (datagram: Uint8Array): Result.Result<Message, SsdpError> => {
  if (datagram.length > maximumBytes) return malformed(`the datagram has more than ${maximumBytes} bytes`)
  const [first = "", ...rest] = WireText.withoutControls(WireText.decode(datagram)).split(/\r?\n/)
  const start = first.trim()
  if (answerLine.test(start)) return decodeAnswer(decodeHeaders(rest))
  if (searchLine.test(start)) return decodeSearch(decodeHeaders(rest))
  if (notifyLine.test(start)) return decodeNotify(decodeHeaders(rest))
  return malformed("the datagram is not an SSDP message")
}

type Lines = ReadonlyArray<readonly [name: string, value: string | number | undefined]>

const encoder = new TextEncoder()

/** A value must not begin another header. */
const headerValue = (value: string | number): string =>
  typeof value === "number" ? String(value) : WireText.withoutControls(value).replace(/[\r\n]+/g, " ")

const encodeLines = (start: string, lines: Lines): Uint8Array =>
  encoder.encode(
    [
      start,
      ...lines.flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${headerValue(value)}`])),
      "",
      ""
    ].join("\r\n")
  )

const cacheControl = (age: number | undefined) => (age === undefined ? undefined : `max-age=${age}`)

const encodeSearch = (message: SearchRequest): Uint8Array =>
  encodeLines("M-SEARCH * HTTP/1.1", [
    ["HOST", message.host],
    ["MAN", '"ssdp:discover"'],
    ["MX", message.mx],
    ["ST", message.searchTarget]
  ])

const encodeAnswer = (message: SearchAnswer): Uint8Array =>
  encodeLines("HTTP/1.1 200 OK", [
    ["CACHE-CONTROL", cacheControl(message.maxAge)],
    ["EXT", ""],
    ["LOCATION", message.location],
    ["SERVER", message.server],
    ["ST", message.searchTarget],
    ["USN", message.usn],
    ["BOOTID.UPNP.ORG", message.bootId],
    ["CONFIGID.UPNP.ORG", message.configId],
    ["SEARCHPORT.UPNP.ORG", message.searchPort]
  ])

const encodeNotify = (message: Notify): Uint8Array =>
  encodeLines("NOTIFY * HTTP/1.1", [
    ["HOST", `${NetAddress.formatIp(group)}:${port}`],
    ["CACHE-CONTROL", cacheControl(message.maxAge)],
    ["LOCATION", message.location],
    ["NT", message.notificationType],
    ["NTS", `ssdp:${message.kind}`],
    ["SERVER", message.server],
    ["USN", message.usn],
    ["BOOTID.UPNP.ORG", message.bootId],
    ["NEXTBOOTID.UPNP.ORG", message.nextBootId],
    ["CONFIGID.UPNP.ORG", message.configId],
    ["SEARCHPORT.UPNP.ORG", message.searchPort]
  ])

/**
 * Writes one datagram. Line ends and control characters in values are replaced: no value begins another header.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (message: Message): Uint8Array => {
  switch (message._tag) {
    case "SearchRequest":
      return encodeSearch(message)
    case "SearchAnswer":
      return encodeAnswer(message)
    case "Notify":
      return encodeNotify(message)
  }
}
