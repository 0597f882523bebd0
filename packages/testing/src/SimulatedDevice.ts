/**
 * What answers at an address of a simulated network: the protocols of a router, or whatever else stands there.
 *
 * A device is pure: what arrives goes in with the time, what is answered comes out.
 *
 * **Example** (A printer that answers every search)
 *
 * ```ts
 * import type * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
 *
 * export const printer: SimulatedDevice.Device = {
 *   onDatagram: ({ to }) => (to.port === 1900 ? [{ payload: new TextEncoder().encode("HTTP/1.1 200 OK\\r\\n\\r\\n") }] : undefined)
 * }
 * ```
 *
 * @since 0.1.0
 */
import type * as Http from "@effect-nat/core/Http"
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as NetAddress from "effect/net/NetAddress"
import * as GatewayAnnouncements from "./internal/gatewayAnnouncements.ts"
import * as GatewayReplies from "./internal/gatewayReplies.ts"
import * as NatPmpResponder from "./NatPmpResponder.ts"
import * as PcpResponder from "./PcpResponder.ts"
import type * as Quirk from "./Quirk.ts"
import type * as RouterModel from "./RouterModel.ts"
import * as UpnpResponder from "./UpnpResponder.ts"

/**
 * A datagram as it arrives at a device.
 *
 * @category models
 * @since 0.1.0
 */
export interface Incoming {
  /** In milliseconds. */
  readonly now: number
  readonly payload: Uint8Array
  readonly from: NetAddress.InetAddress
  /** Where it was sent: the device's own address, or a group. */
  readonly to: NetAddress.InetAddress
}

/**
 * A datagram that a device sends back to where one came from.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outgoing {
  readonly payload: Uint8Array
  /** Defaults to the port that was asked. */
  readonly fromPort?: number | undefined
  /** How long the device takes, in milliseconds. Defaults to 0. */
  readonly after?: number | undefined
}

/**
 * An HTTP request as it arrives at a device.
 *
 * @category models
 * @since 0.1.0
 */
export interface IncomingRequest extends Pick<Http.HttpRequest, "method" | "path" | "body"> {
  /** In milliseconds. */
  readonly now: number
  readonly port: number
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  readonly client: NetAddress.IpAddress
}

/**
 * What a device answers.
 *
 * @category models
 * @since 0.1.0
 */
export interface OutgoingResponse {
  readonly status: number
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** How long the device takes, in milliseconds. Defaults to 0. */
  readonly after?: number | undefined
}

/**
 * When a device speaks up: it has started, has started again, has another address on its outside, goes away in an orderly
 * way, or has said nothing unasked for `UpnpResponder.aliveInterval`.
 *
 * @category models
 * @since 0.1.0
 */
export type Occasion = "start" | "restart" | "newAddress" | "end" | "again"

/**
 * A datagram that a device sends unasked.
 *
 * @category models
 * @since 0.1.0
 */
export interface Announcement {
  /** A group, or a host. What is for another family of addresses than the device's is not sent. */
  readonly to: NetAddress.InetAddress
  readonly fromPort: number
  /** How long after the occasion, in milliseconds, but at its end at once. Defaults to 0. */
  readonly after?: number | undefined
  /** As things are when it is sent, at a time in milliseconds; `undefined` where there is nothing to say any more. */
  readonly payload: (now: number) => Uint8Array | undefined
}

/**
 * Something that answers at a router's or another device's address. It knows neither sockets nor clocks.
 *
 * @category models
 * @since 0.1.0
 */
export interface Device {
  /** The answers to a datagram; `undefined` where nobody listens on this port. */
  readonly onDatagram?: ((datagram: Incoming) => ReadonlyArray<Outgoing> | undefined) | undefined
  /** The answer to a request; `"silence"` is none, `undefined` is a port on which nobody listens. */
  readonly onRequest?: ((request: IncomingRequest) => OutgoingResponse | "silence" | undefined) | undefined
  /**
   * What it sends unasked from a time on, in milliseconds; what is left of an earlier occasion is then not sent any more.
   */
  readonly announcements?: ((occasion: Occasion, now: number) => ReadonlyArray<Announcement>) | undefined
  /** The events that its subscribers are to be told at this time, in milliseconds: each is due only once. */
  readonly dueEvents?: ((now: number) => ReadonlyArray<UpnpResponder.Notification>) | undefined
}

const encoder = new TextEncoder()

/** Datagrams to a group are not acknowledged: everything is said twice (UPnP Device Architecture 1.1 §1.2.2). */
const repeated = [0, 500] as const

const ssdpGroup = NetAddress.inetAddressUnsafe(Ssdp.group, Ssdp.port)

const upnpAnnouncements = (
  model: RouterModel.RouterModel,
  place: UpnpResponder.Place,
  occasion: Occasion
): ReadonlyArray<Announcement> => {
  // Nothing that is said to the group tells the outer address, but for the quirk that has it in the description's place.
  if (occasion === "newAddress" && !model.has("LocationOnOtherAddress")) return []
  const payloads = occasion === "end" ? UpnpResponder.byebye(model) : UpnpResponder.alive(model, place)
  // What is said again and again anyway is said once each time.
  const times = occasion === "again" ? [0] : repeated
  return times.flatMap((after) =>
    payloads.map((payload) => ({ after, to: ssdpGroup, fromPort: Ssdp.port, payload: () => payload }))
  )
}

/**
 * The UPnP side of a router.
 *
 * @category constructors
 * @since 0.1.0
 */
export const upnp = (model: RouterModel.RouterModel, options?: UpnpResponder.Options): Device => ({
  onDatagram: ({ from, now, payload, to }) => {
    if (to.port !== Ssdp.port) return undefined
    const isMulticast = NetAddress.isMulticast(to.address)
    const search = { payload, client: from.address, isMulticast }
    return UpnpResponder.answerSearch(model, now, UpnpResponder.placeOf(model, options), search).map((answer) => ({
      payload: answer.payload,
      after: answer.delay,
      fromPort: answer.fromOtherPort ? Ssdp.port + 1 : Ssdp.port
    }))
  },
  onRequest: ({ body, client, headers, method, now, path, port }) => {
    const place = UpnpResponder.placeOf(model, options)
    if (port !== place.httpPort && port !== place.otherHttpPort) return undefined
    const request = { method, path, headers, body: encoder.encode(body ?? "") }
    const answer = UpnpResponder.answerRequest(model, now, place, request, { client, port })
    if (answer === undefined) return "silence"
    return {
      status: answer.status,
      headers: Object.fromEntries(answer.headers.map(([name, value]) => [name.toLowerCase(), value])),
      body: answer.body
    }
  },
  announcements: (occasion) => upnpAnnouncements(model, UpnpResponder.placeOf(model, options), occasion),
  dueEvents: (now) => UpnpResponder.dueEvents(model, now)
})

const gatewayAnnouncements = (
  model: RouterModel.RouterModel,
  protocols: ReadonlyArray<Quirk.Protocol>,
  occasion: Occasion,
  now: number
): ReadonlyArray<Announcement> => {
  if (occasion === "end" || occasion === "again") return []
  return GatewayAnnouncements.of(model, protocols, occasion, now).map(({ after, payload, to }) => ({
    after,
    payload,
    to: NetAddress.inetAddressUnsafe(to, PcpCodec.clientPort),
    fromPort: PcpCodec.serverPort
  }))
}

/** Where no port is the right one. */
const otherPort = PcpCodec.serverPort + 1

const onGatewayPort = (
  model: RouterModel.RouterModel,
  protocols: ReadonlyArray<Quirk.Protocol>,
  respond: PcpResponder.Responder,
  options?: PcpResponder.Options
): Device => ({
  announcements: (occasion, now) => gatewayAnnouncements(model, protocols, occasion, now),
  onDatagram: ({ from, now, payload, to }) => {
    if (to.port !== PcpCodec.serverPort) return undefined
    const answer = respond(model, now, payload, from.address, options)
    return GatewayReplies.repliesOf(model, answer).map(({ after, fromOtherPort, payload }) => ({
      payload,
      after,
      fromPort: fromOtherPort ? otherPort : PcpCodec.serverPort
    }))
  }
})

/**
 * The NAT-PMP side of a router.
 *
 * @category constructors
 * @since 0.1.0
 */
export const natPmp = (model: RouterModel.RouterModel): Device =>
  onGatewayPort(model, ["natpmp"], NatPmpResponder.respond)

/**
 * The PCP side of a router that does not speak NAT-PMP.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pcp = (model: RouterModel.RouterModel, options?: PcpResponder.Options): Device =>
  onGatewayPort(model, ["pcp"], PcpResponder.respond, options)

/**
 * The side of a router that speaks PCP and NAT-PMP, which share a port.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pcpAndNatPmp = (model: RouterModel.RouterModel, options?: PcpResponder.Options): Device =>
  onGatewayPort(model, ["natpmp", "pcp"], PcpResponder.respondToBoth, options)

/**
 * Everything of a router that speaks the given protocols, by default all of them. What it does not speak is refused as
 * on a real router: nobody listens there.
 *
 * **Example** (A router that speaks UPnP and NAT-PMP)
 *
 * ```ts
 * import * as RouterModel from "@effect-nat/testing/RouterModel"
 * import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
 *
 * const model = new RouterModel.RouterModel()
 *
 * export const devices = SimulatedDevice.fromModel(model, ["upnp", "natpmp"])
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromModel = (
  model: RouterModel.RouterModel,
  protocols: ReadonlyArray<Quirk.Protocol> = ["upnp", "natpmp", "pcp"],
  options?: UpnpResponder.Options
): ReadonlyArray<Device> => {
  const respond = PcpResponder.responderFor(protocols)
  return [
    ...(respond === undefined ? [] : [onGatewayPort(model, protocols, respond)]),
    ...(protocols.includes("upnp") ? [upnp(model, options)] : [])
  ]
}
