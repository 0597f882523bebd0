/**
 * The actions of a Layer3Forwarding service: which connection of the gateway its hosts use.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as DeviceDescription from "./DeviceDescription.ts"
import * as Results from "./internal/results.ts"
import type * as SoapClient from "./SoapClient.ts"
import type * as WanIpConnection from "./WanIpConnection.ts"

/**
 * The connection in use. What the router leaves out is an empty text.
 *
 * @category models
 * @since 0.1.0
 */
export interface DefaultConnection {
  /** The unique name of the device that has the service, without the device's type behind it. */
  readonly deviceUdn: string
  /** For example `urn:upnp-org:serviceId:WANIPConn1`. */
  readonly serviceId: string
}

/**
 * The actions of one service of one router.
 *
 * @category models
 * @since 0.1.0
 */
export interface Layer3Forwarding {
  readonly service: DeviceDescription.Service
  /**
   * The connection in use (Layer3Forwarding:1 §2.4.2); `undefined` where the router names none. Fails with `UpnpFault`
   * where it refuses.
   */
  readonly getDefaultConnectionService: Effect.Effect<DefaultConnection | undefined, WanIpConnection.ActionError>
}

const udn = /^uuid:[^:\s]*/i

/**
 * Reads `uuid:…:WANConnectionDevice:1,urn:upnp-org:serviceId:…`. Routers leave out the type, one of the two halves, or
 * everything.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseDefaultConnection = (text: string): DefaultConnection | undefined => {
  const parts = text
    .split(/[,\s]+/)
    .map((part) => part.trim())
    .filter((part) => part !== "")
  const device = parts.find((part) => udn.test(part))
  const serviceId = parts.find((part) => part !== device) ?? ""
  if (device === undefined && serviceId === "") return undefined
  return { deviceUdn: udn.exec(device ?? "")?.[0] ?? "", serviceId }
}

const isSame = (self: string, that: string): boolean => self.toLowerCase() === that.toLowerCase()

/**
 * The service of a device that a default connection names; `undefined` where it names none of them, or not one alone.
 *
 * @category accessors
 * @since 0.1.0
 */
export const findService = (
  device: DeviceDescription.Device,
  { deviceUdn, serviceId }: DefaultConnection
): DeviceDescription.ServiceOf | undefined => {
  if (serviceId === "") return undefined
  const named = DeviceDescription.allServices(device).filter(
    ({ service }) => isSame(service.serviceId, serviceId) || isSame(service.serviceType, serviceId)
  )
  const within = named.filter((one) => isSame(one.device.udn, deviceUdn))
  // A name that no device has says nothing, as with routers that build it from a part of their own.
  const [found, ...others] = within.length > 0 ? within : named
  return others.length === 0 ? found : undefined
}

/**
 * The actions of one service, called through the client of its router. `DeviceDescription.servicesOf` finds it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (client: SoapClient.SoapClient, service: DeviceDescription.Service): Layer3Forwarding => ({
  service,
  getDefaultConnectionService: Effect.map(client.call(service, "GetDefaultConnectionService", []), (results) =>
    parseDefaultConnection(Results.text(results, "NewDefaultConnectionService"))
  )
})
