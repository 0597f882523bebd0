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
  /** Where its events are subscribed to; `undefined` where it has none. */
  readonly eventSubUrl: HttpUrl.HttpUrl | undefined
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

/** The URLs of a service resolve against URLBase where that is usable, and against the description's own URL otherwise. */
const baseOf = (root: Xml.XmlElement, location: HttpUrl.HttpUrl): HttpUrl.HttpUrl => {
  const text = Xml.childText(root, "URLBase")
  const host = URL.parse(text)?.hostname
  // A base that names another host was written for another network; its port and path mean nothing here.
  if (host === undefined || host !== URL.parse(HttpUrl.format(location))?.hostname) return location
  return Result.getOrElse(HttpUrl.fromString(text, location.address.address), () => location)
}

const parseService = (element: Xml.XmlElement, base: HttpUrl.HttpUrl): ReadonlyArray<Service> => {
  const url = (child: string) => HttpUrl.resolve(Xml.childText(element, child), base)
  const controlUrl = url("controlURL")
  if (Result.isFailure(controlUrl)) return []
  return [
    {
      serviceType: name(element, "serviceType"),
      serviceId: name(element, "serviceId"),
      controlUrl: controlUrl.success,
      eventSubUrl: Result.getOrUndefined(url("eventSubURL")),
      scpdUrl: Result.getOrUndefined(url("SCPDURL"))
    }
  ]
}

const parseDevice = (element: Xml.XmlElement, base: HttpUrl.HttpUrl): Device => ({
  deviceType: name(element, "deviceType"),
  friendlyName: name(element, "friendlyName"),
  manufacturer: name(element, "manufacturer"),
  modelName: name(element, "modelName"),
  udn: name(element, "UDN"),
  services: Xml.childrenNamed(Xml.child(element, "serviceList"), "service").flatMap((service) =>
    parseService(service, base)
  ),
  devices: Xml.childrenNamed(Xml.child(element, "deviceList"), "device").map((device) => parseDevice(device, base))
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
        : Result.succeed(parseDevice(device, baseOf(root, location)))
    }),
    (detail) => new DeviceDescriptionError({ detail })
  )

/**
 * All services of a device and of the devices embedded in it, in the document's order.
 *
 * @category accessors
 * @since 0.1.0
 */
export const services = (self: Device): ReadonlyArray<Service> => [...self.services, ...self.devices.flatMap(services)]

const wanServiceType = /^urn:schemas-upnp-org:service:WAN(IP|PPP)Connection:(\d{1,3})$/i

const asWanService = (service: Service): ReadonlyArray<WanService> => {
  const match = wanServiceType.exec(service.serviceType)
  if (match === null) return []
  return [{ kind: match[1]?.toLowerCase() === "ppp" ? "ppp" : "ip", version: Number(match[2]), service }]
}

/** WANIPConnection is what nearly every line uses; the newer version knows more. */
const rank = (self: WanService): number => (self.kind === "ip" ? 100 + self.version : self.version)

/**
 * The services that map ports, the likeliest first: WANIPConnection before WANPPPConnection, newer before older.
 *
 * @category accessors
 * @since 0.1.0
 */
export const wanServices = (self: Device): ReadonlyArray<WanService> =>
  services(self)
    .flatMap(asWanService)
    .toSorted((a, b) => rank(b) - rank(a))
