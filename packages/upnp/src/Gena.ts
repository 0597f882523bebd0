/**
 * The messages of the General Event Notification Architecture, between text and values, both ways (UPnP Device
 * Architecture 1.1 §4).
 *
 * Pure: `EventSubscription` sends and receives them.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as WireText from "./internal/wireText.ts"
import * as Xml from "./internal/xml.ts"
import type * as Soap from "./Soap.ts"

/**
 * A text that is not the message that was expected.
 *
 * @category errors
 * @since 0.1.0
 */
export class GenaError extends Schema.TaggedError<GenaError>("@effect-nat/upnp/GenaError")("GenaError", {
  /**
   * What a request like this is answered with (§4.1.2 to §4.1.4, §4.3.2). It means nothing for what was an answer
   * itself.
   */
  status: Schema.Literals([400, 412]),
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}

/**
 * HTTP headers by lower-case name.
 *
 * @category models
 * @since 0.1.0
 */
export type Headers = Readonly<Record<string, string>>

/**
 * HTTP headers as they go out: in this order and case.
 *
 * @category models
 * @since 0.1.0
 */
export type HeaderList = ReadonlyArray<readonly [name: string, value: string]>

/**
 * What a control point asks for: a new subscription (§4.1.2), or more time for one that it has (§4.1.3). A time of
 * `undefined` is without an end.
 *
 * @category models
 * @since 0.1.0
 */
export type Subscribe =
  | {
      readonly _tag: "New"
      /** Where events are sent to: `http` URLs, tried in this order. */
      readonly callbacks: ReadonlyArray<string>
      readonly timeoutSeconds: number | undefined
    }
  | { readonly _tag: "Renewal"; readonly sid: string; readonly timeoutSeconds: number | undefined }

/**
 * What a device grants to a subscriber (§4.1.2, §4.1.3).
 *
 * @category models
 * @since 0.1.0
 */
export interface Granted {
  /** The subscription's identifier (SID), as the device writes it. */
  readonly sid: string
  /** How long it is good for, in seconds; `undefined` is without an end. */
  readonly timeoutSeconds: number | undefined
}

/**
 * One event message (§4.3.2).
 *
 * @category models
 * @since 0.1.0
 */
export interface Event {
  readonly sid: string
  /** 0 for the first one, which has all variables; then 1 to 4294967295, and 1 again. */
  readonly sequence: number
  /** The variables that have changed, and their values. */
  readonly properties: Soap.Arguments
}

/**
 * The largest event that is read, in bytes; real ones have a few hundred.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes: number = 64 * 1024

/**
 * The most variables in one event; the services of a gateway have about ten.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumProperties: number = 64

/**
 * What is taken for the time of a subscription where nothing readable is said about it, in seconds: the least that a
 * device should grant (§4.1.2).
 *
 * @category constants
 * @since 0.1.0
 */
export const assumedTimeoutSeconds: number = 1800

/** A SID is `uuid:` and 36 characters; some devices write something else, none of them a book. */
const maximumSidLength = 256
const maximumNameLength = 128
const maximumCallbacksLength = 4096
const maximumCallbacks = 8

const refuse = (status: GenaError["status"], detail: string) => Result.fail(new GenaError({ status, detail }))

const trimmed = (headers: Headers, name: string): string => {
  // A name like "constructor" is no header.
  const value = Object.hasOwn(headers, name) ? headers[name] : undefined
  return value?.trim() ?? ""
}

const decodeSid = (headers: Headers): Result.Result<string, GenaError> => {
  const sid = trimmed(headers, "sid")
  if (sid === "") return refuse(412, "there is no SID")
  if (sid.length > maximumSidLength) return refuse(412, `the SID has more than ${maximumSidLength} characters`)
  return Result.succeed(sid)
}

/** Some devices leave the unit out, or say 0. */
const decodeTimeout = (headers: Headers): number | undefined => {
  const [, text = ""] = /^(?:second-)?(\d{1,10}|infinite)$/i.exec(trimmed(headers, "timeout")) ?? []
  if (text.toLowerCase() === "infinite") return undefined
  const seconds = WireText.parseUint32(text) ?? 0
  return seconds === 0 ? assumedTimeoutSeconds : seconds
}

/** A value must not begin another header, nor have what no header can carry. */
const headerValue = (text: string): string =>
  WireText.oneLine(text, maximumCallbacksLength).replace(/[^\u0020-\u007e\u00a0-\u00ff]/g, "?")

const encodeTimeout = (seconds: number | undefined): string => `Second-${seconds ?? "infinite"}`

/**
 * Writes the headers of a subscription or its renewal; `Host` is the caller's matter.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeSubscribe = (self: Subscribe): HeaderList =>
  self._tag === "Renewal"
    ? [
        ["SID", headerValue(self.sid)],
        ["TIMEOUT", encodeTimeout(self.timeoutSeconds)]
      ]
    : [
        ["CALLBACK", headerValue(self.callbacks.map((url) => `<${url}>`).join(""))],
        ["NT", "upnp:event"],
        ["TIMEOUT", encodeTimeout(self.timeoutSeconds)]
      ]

const decodeCallbacks = (headers: Headers): Result.Result<ReadonlyArray<string>, GenaError> => {
  const text = trimmed(headers, "callback")
  if (text.length > maximumCallbacksLength) return refuse(412, "the CALLBACK is too long")
  const urls = Array.from(text.matchAll(/<([^<>\s]+)>/g), ([, url = ""]) => url)
  const usable = urls.filter((url) => /^http:\/\/./i.test(url)).slice(0, maximumCallbacks)
  return usable.length === 0 ? refuse(412, "there is no CALLBACK with an http URL") : Result.succeed(usable)
}

const decodeNew = (headers: Headers): Result.Result<Subscribe, GenaError> => {
  if (trimmed(headers, "nt").toLowerCase() !== "upnp:event") return refuse(412, "the NT is not upnp:event")
  return Result.map(decodeCallbacks(headers), (callbacks) => ({
    _tag: "New",
    callbacks,
    timeoutSeconds: decodeTimeout(headers)
  }))
}

/** A SID and the headers of a new subscription do not go together (§4.1.3, §4.1.4). */
const decodeOwnSid = (headers: Headers): Result.Result<string, GenaError> => {
  const isMixed = trimmed(headers, "nt") !== "" || trimmed(headers, "callback") !== ""
  return isMixed ? refuse(400, "there is a SID, and NT or CALLBACK beside it") : decodeSid(headers)
}

/**
 * Reads the headers of a request with the method `SUBSCRIBE`, as a device gets it.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeSubscribe = (headers: Headers): Result.Result<Subscribe, GenaError> => {
  if (trimmed(headers, "sid") === "") return decodeNew(headers)
  return Result.map(decodeOwnSid(headers), (sid) => ({
    _tag: "Renewal",
    sid,
    timeoutSeconds: decodeTimeout(headers)
  }))
}

/**
 * Writes the headers of a request with the method `UNSUBSCRIBE` (§4.1.4).
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeUnsubscribe = (sid: string): HeaderList => [["SID", headerValue(sid)]]

/**
 * Reads the headers of a request with the method `UNSUBSCRIBE`, as a device gets it: the SID.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeUnsubscribe = (headers: Headers): Result.Result<string, GenaError> => decodeOwnSid(headers)

/**
 * Writes the headers of the answer to a subscription or its renewal.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeGranted = (granted: Granted): HeaderList => [
  ["SID", headerValue(granted.sid)],
  ["TIMEOUT", encodeTimeout(granted.timeoutSeconds)]
]

/**
 * Reads the answer to a subscription or its renewal. A time that is missing, unreadable or 0 is taken for
 * `assumedTimeoutSeconds`.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeGranted = (headers: Headers): Result.Result<Granted, GenaError> =>
  Result.map(decodeSid(headers), (sid) => ({ sid, timeoutSeconds: decodeTimeout(headers) }))

/** Element names come from this library's own code and from decoded events; anything else would break the message. */
const elementName = (name: string): string => name.replace(/[^A-Za-z0-9_.-]/g, "_")

const encodeProperty = ([name, value]: Soap.Arguments[number]): string =>
  `<e:property><${elementName(name)}>${Xml.escape(value)}</${elementName(name)}></e:property>`

/**
 * Writes an event: the headers and the body of a request with the method `NOTIFY`; `Host` and `Content-Length` are the
 * caller's matter.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeEvent = (event: Event): { readonly headers: HeaderList; readonly body: string } => ({
  headers: [
    ["CONTENT-TYPE", 'text/xml; charset="utf-8"'],
    ["NT", "upnp:event"],
    ["NTS", "upnp:propchange"],
    ["SID", headerValue(event.sid)],
    ["SEQ", String(event.sequence)]
  ],
  body: `<?xml version="1.0"?>\r\n<e:propertyset xmlns:e="urn:schemas-upnp-org:event-1-0">${event.properties.map(encodeProperty).join("")}</e:propertyset>\r\n`
})

/** §4.3.2: without NT or NTS the request is a bad one, with others a precondition fails. */
const checkKind = (headers: Headers): Result.Result<void, GenaError> => {
  const [nt, nts] = [trimmed(headers, "nt").toLowerCase(), trimmed(headers, "nts").toLowerCase()]
  if (nt === "" || nts === "") return refuse(400, "there is no NT or no NTS")
  if (nt !== "upnp:event") return refuse(412, "the NT is not upnp:event")
  return nts === "upnp:propchange" ? Result.succeed(undefined) : refuse(412, "the NTS is not upnp:propchange")
}

const decodeProperties = (body: Uint8Array): Result.Result<Soap.Arguments, GenaError> => {
  const root = Xml.parse(body, maximumBytes)
  if (Result.isFailure(root)) return refuse(400, root.failure)
  if (root.success.name.toLowerCase() !== "propertyset") return refuse(400, "the event is not a property set")
  const variables = Xml.childrenNamed(root.success, "property").flatMap((property) => property.children)
  if (variables.length > maximumProperties) return refuse(400, `more than ${maximumProperties} variables`)
  if (variables.some(({ name }) => name.length > maximumNameLength))
    return refuse(400, "the name of a variable is too long")
  return Result.succeed(variables.map(({ name, text }) => [name, text] as const))
}

/**
 * Reads an event, as a control point gets it.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeEvent = (headers: Headers, body: Uint8Array): Result.Result<Event, GenaError> =>
  Result.gen(function* () {
    yield* checkKind(headers)
    const sid = yield* decodeSid(headers)
    const sequence = WireText.parseUint32(trimmed(headers, "seq"))
    if (sequence === undefined) return yield* refuse(400, "there is no SEQ, or it is no number of 32 bits")
    return { sid, sequence, properties: yield* decodeProperties(body) }
  })

/**
 * The number of the event that follows one with the given number: 0 is only ever the first (§4.3.2).
 *
 * @category accessors
 * @since 0.1.0
 */
export const nextSequence = (sequence: number): number => (sequence >= 0xffffffff ? 1 : sequence + 1)
