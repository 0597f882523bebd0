/**
 * What gateways and the services on them are called in SSDP.
 */

const device = "urn:schemas-upnp-org:device:InternetGatewayDevice"
const service = "urn:schemas-upnp-org:service"

/** Nothing but gateways answers to these. Newer devices should answer to the older names as well; not all do. */
export const gateway = [
  `${device}:1`,
  `${device}:2`,
  `${service}:WANIPConnection:1`,
  `${service}:WANIPConnection:2`,
  `${service}:WANPPPConnection:1`
]

/** What nearly every gateway answers to, of whatever version. */
const first = `${device}:1`

export const isFirst = (target: string): boolean => target === first

export const rootDevice = "upnp:rootdevice"

/** Some gateways answer only to these, but so does everything else on a network. */
export const broad = [rootDevice, "ssdp:all"]

/** What nearly every gateway answers to when it is asked alone. */
export const few = [first, rootDevice]

const names = /InternetGatewayDevice|WANIPConnection|WANPPPConnection|WANConnectionDevice|WANDevice/i

/** Whether it is of a gateway that a message with this target (ST, NT) and unique service name speaks. */
export const nameGateway = (target: string, usn: string): boolean => names.test(`${target} ${usn}`)
