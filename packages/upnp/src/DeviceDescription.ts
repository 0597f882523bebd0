/**
 * The description of a UPnP device: what it is called, and where its services are controlled.
 *
 * Pure. Every URL is pinned to the host that the description came from, whatever the text says.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as HttpUrl from "./HttpUrl.ts"
import * as WireText from "./internal/wireText.ts"
import * as Xml from "./internal/xml.ts"

/**
 * A service of a device (UPnP Device Architecture 1.1 §2.3).
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /** For example `urn:schemas-upnp-org:service:WANIPConnection:1`. */
  readonly serviceType: string
  readonly serviceId: string
  /** Where its actions are called. */
  readonly controlUrl: HttpUrl.HttpUrl
  /**
   * Where its actions are called when nobody listens at `controlUrl`: the same text resolved against the description's
   * own URL, where that makes a difference. Some routers give a `URLBase` with a port that they do not listen on.
   */
  readonly otherControlUrl?: HttpUrl.HttpUrl | undefined
  /** Where its events are subscribed to; `undefined` where it has none. */
  readonly eventSubUrl: HttpUrl.HttpUrl | undefined
  /** Where its events are subscribed to when nobody listens at `eventSubUrl`; see `otherControlUrl`. */
  readonly otherEventSubUrl?: HttpUrl.HttpUrl | undefined
  /** Where its own description is; `undefined` where it has none. */
  readonly scpdUrl: HttpUrl.HttpUrl | undefined
}

/**
 * A device with its services and the devices embedded in it. A text that the device does not give is empty.
 *
 * @category models
 * @since 0.1.0
 */
export interface Device {
  readonly deviceType: string
  readonly friendlyName: string
  readonly manufacturer: string
  readonly modelName: string
  /** The unique device name, for example `uuid:6f1e…`. */
  readonly udn: string
  readonly services: ReadonlyArray<Service>
  readonly devices: ReadonlyArray<Device>
}

/**
 * A service that maps ports: WANIPConnection or WANPPPConnection. Service type and control URL belong together.
 *
 * @category models
 * @since 0.1.0
 */
export interface WanService {
  readonly kind: "ip" | "ppp"
  /** 1 or 2: which Internet Gateway Device document it follows. */
  readonly version: number
  readonly service: Service
}

/**
 * A text that is not a device description.
 *
 * @category errors
 * @since 0.1.0
 */
export class DeviceDescriptionError extends Schema.TaggedError<DeviceDescriptionError>(
  "@effect-nat/upnp/DeviceDescriptionError"
)("DeviceDescriptionError", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

/**
 * The largest description that is read, in bytes; real ones have a few thousand.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes: number = 128 * 1024

/** Names are shown in lists and messages. */
const maximumNameLength = 128

const name = (element: Xml.XmlElement, child: string): string =>
  WireText.oneLine(Xml.childText(element, child), maximumNameLength)

/** What the URLs of services are resolved against. */
interface Bases {
  readonly base: HttpUrl.HttpUrl
  readonly location: HttpUrl.HttpUrl
}

/**
 * The URLs of a service resolve against URLBase where that is usable, and against the description's own URL otherwise.
 */
const baseOf = (root: Xml.XmlElement, location: HttpUrl.HttpUrl): HttpUrl.HttpUrl => {
  const text = Xml.childText(root, "URLBase")
  const host = URL.parse(text)?.hostname
  // A base that names another host was written for another network; its port and path mean nothing here.
  if (host === undefined || host !== URL.parse(HttpUrl.format(location))?.hostname) return location
  return Result.getOrElse(HttpUrl.fromString(text, location.address.address), () => location)
}

/** A URL resolved against the description's own URL, where that is another one. */
const otherOf = (
  reference: string,
  url: HttpUrl.HttpUrl | undefined,
  { location }: Bases
): HttpUrl.HttpUrl | undefined => {
  const other = Result.getOrUndefined(HttpUrl.resolve(reference, location))
  if (url === undefined || other === undefined || HttpUrl.format(other) === HttpUrl.format(url)) return undefined
  return other
}

const parseService = (element: Xml.XmlElement, bases: Bases): ReadonlyArray<Service> => {
  const url = (child: string) => Result.getOrUndefined(HttpUrl.resolve(Xml.childText(element, child), bases.base))
  const controlUrl = url("controlURL")
  if (controlUrl === undefined) return []
  const eventSubUrl = url("eventSubURL")
  const otherControlUrl = otherOf(Xml.childText(element, "controlURL"), controlUrl, bases)
  const otherEventSubUrl = otherOf(Xml.childText(element, "eventSubURL"), eventSubUrl, bases)
  return [
    {
      serviceType: name(element, "serviceType"),
      serviceId: name(element, "serviceId"),
      controlUrl,
      ...(otherControlUrl === undefined ? {} : { otherControlUrl }),
      eventSubUrl,
      ...(otherEventSubUrl === undefined ? {} : { otherEventSubUrl }),
      scpdUrl: url("SCPDURL")
    }
  ]
}

/** The items of all lists of a kind: some routers write one for each item. */
const listed = (element: Xml.XmlElement, item: "service" | "device"): ReadonlyArray<Xml.XmlElement> =>
  Xml.childrenNamed(element, `${item}List`).flatMap((list) => Xml.childrenNamed(list, item))

const parseDevice = (element: Xml.XmlElement, bases: Bases): Device => ({
  deviceType: name(element, "deviceType"),
  friendlyName: name(element, "friendlyName"),
  manufacturer: name(element, "manufacturer"),
  modelName: name(element, "modelName"),
  udn: name(element, "UDN"),
  services: listed(element, "service").flatMap((service) => parseService(service, bases)),
  devices: listed(element, "device").map((device) => parseDevice(device, bases))
})

/**
 * Reads a description that was fetched from `location`. A service whose control URL is missing or cannot be used is
 * left out.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parse = (body: Uint8Array, location: HttpUrl.HttpUrl): Result.Result<Device, DeviceDescriptionError> =>
  Result.mapError(
    Result.flatMap(Xml.parse(body, maximumBytes), (root) => {
      const device = Xml.child(root, "device")
      return device === undefined
        ? Result.fail("the description has no device")
        : Result.succeed(parseDevice(device, { base: baseOf(root, location), location }))
    }),
    (detail) => new DeviceDescriptionError({ detail })
  )

/**
 * A service with what it is found by.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServiceOf {
  readonly service: Service
  /** The device that has it, which may be embedded in another. */
  readonly device: Device
  /** The end of its type; `undefined` where its type does not end with one. */
  readonly version: number | undefined
}

const version = (serviceType: string): number | undefined => {
  const digits = /:(\d{1,3})$/.exec(serviceType)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

/**
 * All services of a device and of the devices embedded in it, each with the device that has it, in the document's
 * order.
 *
 * @category accessors
 * @since 0.1.0
 */
export const allServices = (self: Device): ReadonlyArray<ServiceOf> => [
  ...self.services.map((service) => ({ service, device: self, version: version(service.serviceType) })),
  ...self.devices.flatMap(allServices)
]

/**
 * All services of a device and of the devices embedded in it, in the document's order.
 *
 * @category accessors
 * @since 0.1.0
 */
export const services = (self: Device): ReadonlyArray<Service> => allServices(self).map(({ service }) => service)

/**
 * What the services of an Internet Gateway Device are called: the part of their types before the version.
 *
 * @category constants
 * @since 0.1.0
 */
export const serviceTypes = {
  wanIpConnection: "urn:schemas-upnp-org:service:WANIPConnection",
  wanPppConnection: "urn:schemas-upnp-org:service:WANPPPConnection",
  wanCommonInterfaceConfig: "urn:schemas-upnp-org:service:WANCommonInterfaceConfig",
  wanIpv6FirewallControl: "urn:schemas-upnp-org:service:WANIPv6FirewallControl",
  layer3Forwarding: "urn:schemas-upnp-org:service:Layer3Forwarding"
} as const

/**
 * The services of one kind, the newest first, otherwise in the document's order. A type without a version finds every
 * version, and case does not count.
 *
 * **Example** (Find the IPv6 firewall of a gateway)
 *
 * ```ts
 * import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
 *
 * const firewallOf = (device: DeviceDescription.Device) =>
 *   DeviceDescription.servicesOf(device, DeviceDescription.serviceTypes.wanIpv6FirewallControl)[0]
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const servicesOf = (self: Device, type: string): ReadonlyArray<ServiceOf> => {
  const wanted = type.toLowerCase()
  return allServices(self)
    .filter(({ service, version }) => {
      const found = service.serviceType.toLowerCase()
      return found === wanted || (version !== undefined && found.slice(0, found.lastIndexOf(":")) === wanted)
    })
    .toSorted((a, b) => (b.version ?? 0) - (a.version ?? 0))
}

const wanKinds = { ip: serviceTypes.wanIpConnection, ppp: serviceTypes.wanPppConnection }

const wanServicesOf = (self: Device, kind: WanService["kind"]): ReadonlyArray<WanService> =>
  servicesOf(self, wanKinds[kind]).flatMap(({ service, version }) =>
    version === undefined ? [] : [{ kind, version, service }]
  )

/**
 * The services that map ports, the likeliest first: WANIPConnection, which is what nearly every line uses, before
 * WANPPPConnection, newer before older.
 *
 * @category accessors
 * @since 0.1.0
 */
export const wanServices = (self: Device): ReadonlyArray<WanService> => [
  ...wanServicesOf(self, "ip"),
  ...wanServicesOf(self, "ppp")
]
