/**
 * The router's side of UPnP, over a `RouterModel`: answers to searches, announcements, the device's description, the
 * calls that map ports and open pinholes, and events.
 *
 * Pure: datagrams and requests go in, and what the router says comes out, as bytes where bytes matter. Sockets, real or
 * simulated, are somebody else's. The quirks of the model show here wherever they are of the search, the description,
 * the framing of HTTP, or the calls.
 *
 * **Example** (Ask a router without any network)
 *
 * ```ts
 * import * as Ssdp from "@effect-nat/upnp/Ssdp"
 * import { RouterModel } from "@effect-nat/testing/RouterModel"
 * import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
 *
 * const router = new RouterModel({ quirks: ["AnswersOnlyMulticast"] })
 * const place = UpnpResponder.placeOf(router)
 * const search = new Ssdp.SearchRequest({ host: "239.255.255.250:1900", searchTarget: "upnp:rootdevice", mx: 1 })
 *
 * export const answers = UpnpResponder.answerSearch(router, 0, place, {
 *   payload: Ssdp.encode(search),
 *   client: router.address,
 *   isMulticast: true
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as Gena from "@effect-nat/upnp/Gena"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as Soap from "@effect-nat/upnp/Soap"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as HttpFraming from "./internal/httpFraming.ts"
import * as Control from "./internal/upnpControl.ts"
import * as Documents from "./internal/upnpDocuments.ts"
import type * as RouterModel from "./RouterModel.ts"

/**
 * The ports on which the router speaks HTTP.
 *
 * @category models
 * @since 0.1.0
 */
export interface Place {
  /** Where the description is, and control unless a quirk moves it. */
  readonly httpPort: number
  /** Where control is for the quirks that move it; otherwise nothing is there. */
  readonly otherHttpPort: number
}

/**
 * What a router may choose.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The port of its HTTP when it first starts, at most 65534: the next one may be in use as well. Defaults to 5000. */
  readonly httpPort?: number | undefined
}

/**
 * The ports of a router that may choose any: `httpPort` and the next one and, for one that moves when it restarts, the
 * next two after each restart.
 *
 * @category constructors
 * @since 0.1.0
 */
export const placeOf = (model: RouterModel.RouterModel, { httpPort = 5000 }: Options = {}): Place => {
  const moved = model.quirks.has("RestartMovesControl") ? 2 * (model.bootId - 1) : 0
  return { httpPort: httpPort + moved, otherHttpPort: httpPort + 1 + moved }
}

// -----------------------------------------------------------------------------
// Search and announcements
// -----------------------------------------------------------------------------

/**
 * A datagram to the router's SSDP port.
 *
 * @category models
 * @since 0.1.0
 */
export interface Search {
  readonly payload: Uint8Array
  readonly client: NetAddress.IpAddress
  /** Whether it was sent to the group. */
  readonly isMulticast: boolean
}

/**
 * A datagram that the router sends back to whoever searched.
 *
 * @category models
 * @since 0.1.0
 */
export interface SearchAnswer {
  readonly payload: Uint8Array
  /** In milliseconds: answers to a search by multicast are spread. */
  readonly delay: number
  /** Whether it comes from another port than the one that was asked. */
  readonly fromOtherPort: boolean
}

const server = "Simulated/1.0 UPnP/1.1 effect-nat/0.1"
/** In seconds. */
const maxAge = 120
const aliveMaxAge = 1800
const rootDevice = "upnp:rootdevice"
const everything = "ssdp:all"

/** What the router is and has: each as it is searched for, with the unique name of the device. */
const targetsOf = (model: RouterModel.RouterModel): ReadonlyArray<readonly [target: string, udn: string]> => {
  const [root, wan, connection] = [Documents.udn(model, 0), Documents.udn(model, 1), Documents.udn(model, 2)]
  const servicesOf = (device: 0 | 1 | 2, name: string) => {
    const types = Documents.services(model).flatMap((service) => (service.device === device ? [service.type] : []))
    return [...new Set(types)].map((type) => [type, name] as const)
  }
  return [
    [rootDevice, root],
    [root, root],
    [Documents.rootDevice(model), root],
    ...servicesOf(0, root),
    [wan, wan],
    [Documents.wanDevice(model), wan],
    ...servicesOf(1, wan),
    [connection, connection],
    [Documents.connectionDevice(model), connection],
    ...servicesOf(2, connection)
  ]
}

const usn = (target: string, udn: string): string => (target === udn ? udn : `${udn}::${target}`)

const versioned = /^(urn:[^:]+:(?:device|service):[^:]+):(\d{1,3})$/

/** A newer device is also an older one (UPnP Device Architecture 1.1 §1.3.2). */
const isAsked = (asked: string, target: string): boolean => {
  const [, name, wanted] = versioned.exec(asked) ?? []
  const [, known, held] = versioned.exec(target) ?? []
  if (name === undefined || known === undefined) return asked === target
  return name === known && Number(wanted) >= 1 && Number(wanted) <= Number(held)
}

const hears = ({ quirks }: RouterModel.RouterModel, search: Ssdp.SearchRequest, isMulticast: boolean): boolean => {
  if (quirks.has("AnswersOnlyUnicast") && isMulticast) return false
  if (quirks.has("AnswersOnlyMulticast") && !isMulticast) return false
  if (quirks.has("AnswersOnlySsdpAll") && search.searchTarget !== everything) return false
  if (quirks.has("AnswersOnlyRootDevice") && search.searchTarget !== rootDevice) return false
  // Without the time to spread them over, a search by multicast is not answered (§1.3.2).
  return !isMulticast || search.mx !== undefined
}

const locationHost = (model: RouterModel.RouterModel): string => {
  if (model.quirks.has("LocationWithHostName")) return "router.home.arpa"
  if (model.quirks.has("LocationOnThirdHost")) return Documents.thirdHost
  if (model.quirks.has("LocationOnOtherAddress") && model.externalAddress !== undefined) {
    return NetAddress.formatUrlHost(model.externalAddress)
  }
  return NetAddress.formatUrlHost(model.address)
}

/**
 * Where the router says that its description is.
 *
 * @category accessors
 * @since 0.1.0
 */
export const locationOf = (model: RouterModel.RouterModel, place: Place): string =>
  `http://${locationHost(model)}:${place.httpPort}${Documents.descriptionPath(model)}`

const encodeAnswer = (model: RouterModel.RouterModel, target: string, udn: string, location: string): Uint8Array =>
  Ssdp.encode(
    new Ssdp.SearchAnswer({
      searchTarget: target,
      usn: usn(target, udn),
      location,
      server,
      maxAge,
      bootId: model.bootId,
      configId: 1
    })
  )

const payloads = (model: RouterModel.RouterModel, place: Place, asked: string): ReadonlyArray<Uint8Array> => {
  const { quirks } = model
  const location = locationOf(model, place)
  const host = NetAddress.formatUrlHost(model.address)
  if (asked === everything && quirks.has("AnswersWithFirstDescription")) {
    const other = `http://${host}:${place.httpPort}${Documents.otherDescriptionPath}`
    return [encodeAnswer(model, Documents.otherDevice, Documents.udn(model, 3), other)]
  }
  const found = targetsOf(model).filter(([target]) => asked === everything || isAsked(asked, target))
  return found.flatMap(([target, udn]) => {
    // The version that was asked for is the one that is repeated.
    const repeated = asked === everything ? target : asked
    const alive = encodeAnswer(model, repeated, udn, location)
    if (!quirks.has("FlappingLocation")) return [alive]
    const dead = `http://${host}:${Documents.deadPort}${Documents.descriptionPath(model)}`
    return [encodeAnswer(model, repeated, udn, dead), alive]
  })
}

/** Milliseconds between two answers to one search by multicast. */
const spread = 10

/**
 * Answers a datagram to the SSDP port: with nothing where it is no search, or nothing that this router answers to.
 *
 * @category answers
 * @since 0.1.0
 */
export const answerSearch = (
  model: RouterModel.RouterModel,
  now: number,
  place: Place,
  search: Search
): ReadonlyArray<SearchAnswer> => {
  const message = Result.getOrUndefined(Ssdp.decode(search.payload))
  if (message?._tag !== "SearchRequest") return []
  model.note({ at: now, via: "upnp", client: search.client, action: "M-SEARCH", isMutating: false })
  model.searched(now, search.client)
  if (model.isSilent(now) || !hears(model, message, search.isMulticast)) return []
  return payloads(model, place, message.searchTarget).map((payload, index) => ({
    payload,
    delay: search.isMulticast ? Math.min(index * spread, (message.mx ?? 0) * 1000) : 0,
    fromOtherPort: model.quirks.has("AnswersFromOtherPort")
  }))
}

const notify = (
  model: RouterModel.RouterModel,
  kind: "alive" | "byebye",
  location: string | undefined
): ReadonlyArray<Uint8Array> =>
  targetsOf(model).map(([target, udn]) =>
    Ssdp.encode(
      new Ssdp.Notify({
        kind,
        notificationType: target,
        usn: usn(target, udn),
        location,
        server: kind === "alive" ? server : "",
        maxAge: kind === "alive" ? aliveMaxAge : undefined,
        bootId: model.bootId,
        nextBootId: undefined,
        configId: 1
      })
    )
  )

/**
 * How long after the router has said that it is there it says so again, in milliseconds: less than half of the time that
 * its word is good for, as the documents ask (UPnP Device Architecture 1.1 §1.2.2).
 *
 * @category constants
 * @since 0.1.0
 */
export const aliveInterval = 850_000

/**
 * What the router says to the group when it has started, and again every `aliveInterval`, before that runs out.
 *
 * @category announcements
 * @since 0.1.0
 */
export const alive = (model: RouterModel.RouterModel, place: Place): ReadonlyArray<Uint8Array> =>
  notify(model, "alive", locationOf(model, place))

/**
 * What the router says to the group before it goes away, where it has the time.
 *
 * @category announcements
 * @since 0.1.0
 */
export const byebye = (model: RouterModel.RouterModel): ReadonlyArray<Uint8Array> => notify(model, "byebye", undefined)

// -----------------------------------------------------------------------------
// HTTP
// -----------------------------------------------------------------------------

/**
 * An HTTP request to the router.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request {
  readonly method: string
  readonly path: string
  /** As they were sent: some routers insist on the case of a name. */
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  readonly body: Uint8Array
}

/**
 * Who makes a request, and on which port of the router.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requester {
  readonly client: NetAddress.IpAddress
  /** One of the ports of `Place`. */
  readonly port: number
}

/**
 * An answer, before it is framed: its length, and what becomes of the connection, is `encode`'s matter.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answer {
  readonly status: number
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  readonly body: Uint8Array
}

const encoder = new TextEncoder()

const xmlPrefix = ({ quirks }: RouterModel.RouterModel): string => {
  if (quirks.has("BomBeforeXml")) return "\ufeff"
  return quirks.has("TabBeforeXml") ? "\t" : ""
}

const xml = (model: RouterModel.RouterModel, status: number, text: string): Answer => ({
  status,
  headers: [
    ["Content-Type", 'text/xml; charset="utf-8"'],
    ["Server", server],
    ["Ext", ""]
  ],
  body: encoder.encode(`${xmlPrefix(model)}${text}`)
})

const html = (status: number, text: string): Answer => ({
  status,
  headers: [
    ["Content-Type", "text/html"],
    ["Server", server],
    ["Ext", ""]
  ],
  body: encoder.encode(`<html><body>${text}</body></html>\r\n`)
})

/**
 * The answer to what is no HTTP request.
 *
 * @category answers
 * @since 0.1.0
 */
export const badRequest: Answer = html(400, "Bad Request")

const notFound: Answer = html(404, "Not Found")
const notAllowed: Answer = html(405, "Method Not Allowed")

const documentAt = (model: RouterModel.RouterModel, place: Place, path: string): string | undefined => {
  switch (path) {
    case Documents.descriptionPath(model):
      return Documents.description(model, place)
    case Documents.otherDescriptionPath:
      return model.quirks.has("AnswersWithFirstDescription") ? Documents.otherDescription(model) : undefined
    default:
      return serviceDocumentAt(model, path)
  }
}

const serviceDocumentAt = (model: RouterModel.RouterModel, path: string): string | undefined => {
  const service = Documents.services(model).find((one) => one.path === path)
  return service && Documents.serviceDescription(service)
}

const soapAction = ({ quirks }: RouterModel.RouterModel, headers: Request["headers"]): string | undefined =>
  headers.find(([name]) =>
    quirks.has("ExactSoapAction") ? name === "SOAPAction" : name.toLowerCase() === "soapaction"
  )?.[1]

const serviceAt = (
  model: RouterModel.RouterModel,
  path: string,
  pathOf: (model: RouterModel.RouterModel, name: string) => string
): Documents.Service | undefined => Documents.services(model).find(({ name }) => path === pathOf(model, name))

/** The call in a request; `undefined` where it is none. */
const callOf = (model: RouterModel.RouterModel, { body, headers, method }: Request): Soap.Call | undefined => {
  const header = method === "POST" ? soapAction(model, headers) : undefined
  return header === undefined ? undefined : Result.getOrUndefined(Soap.decodeCall(body, header))
}

const control = (
  model: RouterModel.RouterModel,
  now: number,
  request: Request,
  call: Soap.Call | undefined,
  client: NetAddress.IpAddress
): Answer => {
  const service = serviceAt(model, request.path, Documents.controlPath)
  if (service === undefined) return notFound
  if (soapAction(model, request.headers) === undefined) return badRequest
  if (call === undefined) {
    return xml(model, 500, Soap.encodeFault(new Soap.UpnpFault({ code: 401, description: "Invalid Action" })))
  }
  return Result.match(Control.call({ model, now, client }, service, call), {
    onSuccess: (results) => xml(model, 200, Soap.encodeAnswer(call, results)),
    onFailure: (fault) => xml(model, 500, Soap.encodeFault(fault))
  })
}

// -----------------------------------------------------------------------------
// Subscriptions
// -----------------------------------------------------------------------------

/** An answer to a subscription or its end: there is never a body. */
const bare = (status: number, headers: Answer["headers"] = []): Answer => ({
  status,
  headers: [["Server", server], ...headers],
  body: new Uint8Array()
})

/** In seconds: no subscription is granted for longer, or for less. */
const longestSubscription = 1800
const shortestSubscription = 60

const grantedSeconds = (wanted: number | undefined): number =>
  Math.min(longestSubscription, Math.max(shortestSubscription, wanted ?? longestSubscription))

const lowered = (headers: Request["headers"]): Gena.Headers =>
  Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value]))

/** Whether an event to this URL goes to whoever asks for it, and to nobody else. */
const leadsTo = (url: string, client: NetAddress.IpAddress): boolean =>
  Result.match(HttpUrl.fromString(url, client), {
    onSuccess: (pinned) => URL.parse(url)?.hostname === NetAddress.formatUrlHost(pinned.address.address),
    onFailure: () => false
  })

const granted = (sid: string, timeoutSeconds: number): Answer => bare(200, Gena.encodeGranted({ sid, timeoutSeconds }))

const subscribe = (
  model: RouterModel.RouterModel,
  now: number,
  service: string,
  request: Request,
  client: NetAddress.IpAddress
): Answer => {
  const asked = Gena.decodeSubscribe(lowered(request.headers))
  if (Result.isFailure(asked)) return bare(asked.failure.status)
  const seconds = grantedSeconds(asked.success.timeoutSeconds)
  const expiresAt = now + seconds * 1000
  if (asked.success._tag === "Renewal") {
    const renewed = model.subscriptions.update(now, asked.success.sid, { expiresAt })
    return renewed === undefined ? bare(412) : granted(renewed.sid, seconds)
  }
  const callbacks = asked.success.callbacks.filter((url) => leadsTo(url, client))
  if (callbacks.length === 0) return bare(412)
  // The names of two starts differ, so that nobody renews what a restart has ended.
  const name = `${Documents.udn(model, 0).slice(0, "uuid:00000000-".length)}${model.bootId.toString(16).padStart(4, "0")}-4000-9000-`
  const added = model.subscriptions.add(now, name, { service, callbacks, expiresAt })
  return added === undefined ? bare(503) : granted(added.sid, seconds)
}

const unsubscribe = (model: RouterModel.RouterModel, now: number, { headers }: Request): Answer => {
  const sid = Gena.decodeUnsubscribe(lowered(headers))
  if (Result.isFailure(sid)) return bare(sid.failure.status)
  return bare(model.subscriptions.remove(now, sid.success) ? 200 : 412)
}

const eventing = (
  model: RouterModel.RouterModel,
  now: number,
  request: Request,
  client: NetAddress.IpAddress
): Answer => {
  const service = serviceAt(model, request.path, Documents.eventPath)
  if (service === undefined || model.has("EventsNotOffered")) return notFound
  if (model.has("SubscriptionsRefused")) return bare(503)
  return request.method === "SUBSCRIBE"
    ? subscribe(model, now, service.name, request, client)
    : unsubscribe(model, now, request)
}

/**
 * An event that a subscriber is to be told now.
 *
 * @category models
 * @since 0.1.0
 */
export interface Notification {
  readonly sid: string
  /** Where to send it: URLs of the subscriber's own address, to be tried in this order until one takes it. */
  readonly callbacks: ReadonlyArray<HttpUrl.HttpUrl>
  /** Of a request with the method `NOTIFY`; `Host` and `Content-Length` are the sender's matter. */
  readonly headers: Gena.HeaderList
  readonly body: string
}

const changes = (before: Soap.Arguments, after: Soap.Arguments): Soap.Arguments =>
  after.filter(([name, value]) => Soap.argument(before, name) !== value)

const pinned = (url: string): ReadonlyArray<HttpUrl.HttpUrl> => {
  const host = NetAddress.ipFromString((URL.parse(url)?.hostname ?? "").replace(/^\[|\]$/g, ""))
  const read = Result.flatMap(Result.mapError(host, String), (address) => HttpUrl.fromString(url, address))
  return Result.isSuccess(read) ? [read.success] : []
}

/**
 * The events that are due: to each subscriber the variables that have changed since it was told last, and all of them
 * the first time. Whoever asks has to send them, since they are not due again. A silent router has none.
 *
 * @category events
 * @since 0.1.0
 */
export const dueEvents = (model: RouterModel.RouterModel, now: number): ReadonlyArray<Notification> => {
  if (model.isSilent(now) || model.has("EventsNeverSent")) return []
  const services = new Map(Documents.services(model).map((service) => [service.name, service]))
  return model.subscriptions.entries(now).flatMap(({ callbacks, nextSequence, service, sid, told }) => {
    const described = services.get(service)
    const values = described === undefined ? [] : Control.variables(model, now, described)
    const properties = changes(told, values)
    if (properties.length === 0) return []
    model.subscriptions.update(now, sid, { told: values, nextSequence: Gena.nextSequence(nextSequence) })
    const event = Gena.encodeEvent({ sid, sequence: nextSequence, properties })
    return [{ sid, callbacks: callbacks.flatMap(pinned), ...event }]
  })
}

// -----------------------------------------------------------------------------
// Every request
// -----------------------------------------------------------------------------

const answer = (
  model: RouterModel.RouterModel,
  now: number,
  place: Place,
  request: Request,
  call: Soap.Call | undefined,
  { client, port }: Requester
): Answer => {
  if (request.method === "GET") {
    const document = port === place.httpPort ? documentAt(model, place, request.path) : undefined
    return document === undefined ? notFound : xml(model, 200, document)
  }
  const isEventing = request.method === "SUBSCRIBE" || request.method === "UNSUBSCRIBE"
  if (request.method !== "POST" && !isEventing) return notAllowed
  const controlPort = Documents.controlsOnOtherPort(model) ? place.otherHttpPort : place.httpPort
  if (port !== controlPort) return notFound
  return isEventing ? eventing(model, now, request, client) : control(model, now, request, call, client)
}

/**
 * Answers a request; `undefined` where no answer comes, as while the router is silent: the connection stays open.
 *
 * @category answers
 * @since 0.1.0
 */
export const answerRequest = (
  model: RouterModel.RouterModel,
  now: number,
  place: Place,
  request: Request,
  requester: Requester
): Answer | undefined => {
  const call = callOf(model, request)
  const action = call?.action ?? request.method
  const asked = {
    at: now,
    via: "upnp",
    client: requester.client,
    action,
    isMutating: Documents.isMutating(action)
  } as const
  return model.serve(asked, () => answer(model, now, place, request, call, requester))
}

/**
 * Whether the router keeps the connection for the next request after it has answered this one.
 *
 * @category predicates
 * @since 0.1.0
 */
export const keepsConnection = (model: RouterModel.RouterModel, request: Request): boolean =>
  HttpFraming.keepsConnection(model, request)

/**
 * An answer as it goes onto the wire, with the router's habits of framing. The connection is closed after it unless
 * the answer is to say that it is kept.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (model: RouterModel.RouterModel, answer: Answer, isKept = false): Uint8Array =>
  HttpFraming.encode(model, answer, isKept)

/**
 * A request from what has arrived of it so far: `"Incomplete"` where more is to come, `"Malformed"` where it is none.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (bytes: Uint8Array): Request | "Incomplete" | "Malformed" => {
  const reader = new HttpFraming.RequestReader()
  reader.push(bytes)
  return reader.take()
}
