/**
 * What a simulated router says about itself in XML: its description, and those of its services.
 */
import * as NetAddress from "effect/net/NetAddress"
import type * as RouterModel from "../RouterModel.ts"
import type * as UpnpResponder from "../UpnpResponder.ts"
import * as SeededRandom from "./seededRandom.ts"

/** A service that maps ports, or that would if its line were up. */
export interface WanService {
  readonly kind: "ip" | "ppp"
  readonly name: string
  /** `"dead"` is a line that is not connected, `"private"` one behind another NAT. */
  readonly line: "up" | "dead" | "private"
}

/** An action with the arguments that go in and come out, in the order of the document. */
export interface Action {
  readonly name: string
  readonly takes: ReadonlyArray<string>
  readonly gives: ReadonlyArray<string>
  /** Whether it changes what the router does; `false` by default. */
  readonly isMutating?: boolean | undefined
}

const key = ["NewRemoteHost", "NewExternalPort", "NewProtocol"]
const rest = ["NewInternalPort", "NewInternalClient", "NewEnabled", "NewPortMappingDescription", "NewLeaseDuration"]

const range = ["NewStartPort", "NewEndPort", "NewProtocol", "NewManage"]

const tells = (name: string, ...gives: ReadonlyArray<string>): Action => ({ name, takes: [], gives })

/** WANIPConnection:1 §2.4, as far as anybody asks for it. */
export const connectionActions: ReadonlyArray<Action> = [
  tells("GetConnectionTypeInfo", "NewConnectionType", "NewPossibleConnectionTypes"),
  tells("GetStatusInfo", "NewConnectionStatus", "NewLastConnectionError", "NewUptime"),
  tells("GetAutoDisconnectTime", "NewAutoDisconnectTime"),
  tells("GetIdleDisconnectTime", "NewIdleDisconnectTime"),
  tells("GetWarnDisconnectDelay", "NewWarnDisconnectDelay"),
  tells("GetNATRSIPStatus", "NewRSIPAvailable", "NewNATEnabled"),
  { name: "GetGenericPortMappingEntry", takes: ["NewPortMappingIndex"], gives: [...key, ...rest] },
  { name: "GetSpecificPortMappingEntry", takes: key, gives: rest },
  { name: "AddPortMapping", takes: [...key, ...rest], gives: [], isMutating: true },
  { name: "DeletePortMapping", takes: key, gives: [], isMutating: true },
  tells("GetExternalIPAddress", "NewExternalIPAddress")
]

/** What WANIPConnection:2 §2.5 has beside that. */
const newerActions: ReadonlyArray<Action> = [
  { name: "AddAnyPortMapping", takes: [...key, ...rest], gives: ["NewReservedPort"], isMutating: true },
  { name: "DeletePortMappingRange", takes: range, gives: [], isMutating: true },
  { name: "GetListOfPortMappings", takes: [...range, "NewNumberOfPorts"], gives: ["NewPortListing"] }
]

/** What WANPPPConnection:1 §2.4 has beside that. */
const pppActions: ReadonlyArray<Action> = [
  tells("GetLinkLayerMaxBitRates", "NewUpstreamMaxBitRate", "NewDownstreamMaxBitRate"),
  tells("GetPPPEncryptionProtocol", "NewPPPEncryptionProtocol"),
  tells("GetPPPCompressionProtocol", "NewPPPCompressionProtocol"),
  tells("GetPPPAuthenticationProtocol", "NewPPPAuthenticationProtocol"),
  tells("GetUserName", "NewUserName")
]

/** WANCommonInterfaceConfig:1 §2.4: clients that show the line's state ask for it. */
const commonActions: ReadonlyArray<Action> = [
  tells("GetEnabledForInternet", "NewEnabledForInternet"),
  tells(
    "GetCommonLinkProperties",
    "NewWANAccessType",
    "NewLayer1UpstreamMaxBitRate",
    "NewLayer1DownstreamMaxBitRate",
    "NewPhysicalLinkStatus"
  ),
  tells("GetWANAccessProvider", "NewWANAccessProvider"),
  tells("GetMaximumActiveConnections", "NewMaximumActiveConnections"),
  tells("GetTotalBytesSent", "NewTotalBytesSent"),
  tells("GetTotalBytesReceived", "NewTotalBytesReceived"),
  tells("GetTotalPacketsSent", "NewTotalPacketsSent"),
  tells("GetTotalPacketsReceived", "NewTotalPacketsReceived"),
  {
    name: "GetActiveConnection",
    takes: ["NewActiveConnectionIndex"],
    gives: ["NewActiveConnDeviceContainer", "NewActiveConnectionServiceID"]
  }
]

/** Layer3Forwarding:1 §2.4. */
const forwardingActions: ReadonlyArray<Action> = [tells("GetDefaultConnectionService", "NewDefaultConnectionService")]

const flow = ["RemoteHost", "RemotePort", "InternalClient", "InternalPort", "Protocol"]

/** WANIPv6FirewallControl:1 §2.6. */
const firewallActions: ReadonlyArray<Action> = [
  tells("GetFirewallStatus", "FirewallEnabled", "InboundPinholeAllowed"),
  { name: "GetOutboundPinholeTimeout", takes: flow, gives: ["OutboundPinholeTimeout"] },
  { name: "AddPinhole", takes: [...flow, "LeaseTime"], gives: ["UniqueID"], isMutating: true },
  { name: "UpdatePinhole", takes: ["UniqueID", "NewLeaseTime"], gives: [], isMutating: true },
  { name: "DeletePinhole", takes: ["UniqueID"], gives: [], isMutating: true },
  { name: "GetPinholePackets", takes: ["UniqueID"], gives: ["PinholePackets"] },
  { name: "CheckPinholeWorking", takes: ["UniqueID"], gives: ["IsWorking"] }
]

const ip: WanService = { kind: "ip", name: "IPConn", line: "up" }
const ppp: WanService = { kind: "ppp", name: "PPPConn", line: "up" }

/** The services that map ports, in the order of the description. */
export const wanServices = ({ quirks }: RouterModel.RouterModel): ReadonlyArray<WanService> => {
  if (quirks.has("DeadPppService")) return [{ ...ppp, line: "dead" }, ip]
  if (quirks.has("DeadIpService")) return [{ ...ip, line: "dead" }, ppp]
  if (quirks.has("PrivateServiceFirst")) return [{ kind: "ip", name: "IPConn2", line: "private" }, ip]
  if (quirks.has("ServiceTypesDoNotMix")) return [ppp, ip]
  return [ip]
}

const schemas = "urn:schemas-upnp-org"

export const version = ({ igdVersion }: RouterModel.RouterModel): 1 | 2 => igdVersion

export const rootDevice = (model: RouterModel.RouterModel): string =>
  `${schemas}:device:InternetGatewayDevice:${version(model)}`
export const wanDevice = (model: RouterModel.RouterModel): string => `${schemas}:device:WANDevice:${version(model)}`
export const connectionDevice = (model: RouterModel.RouterModel): string =>
  `${schemas}:device:WANConnectionDevice:${version(model)}`
const commonService = `${schemas}:service:WANCommonInterfaceConfig:1`
export const otherDevice = `${schemas}:device:MediaServer:1`

const forwardingService = `${schemas}:service:Layer3Forwarding:1`
const firewallService = `${schemas}:service:WANIPv6FirewallControl:1`

export const serviceType = (model: RouterModel.RouterModel, { kind }: Pick<WanService, "kind">): string =>
  kind === "ip" ? `${schemas}:service:WANIPConnection:${version(model)}` : `${schemas}:service:WANPPPConnection:1`

/** The actions of a service that maps ports, as far as callers of a version know them. */
export const actionsOf = ({ kind }: Pick<WanService, "kind">, calledVersion: number): ReadonlyArray<Action> => {
  if (kind === "ppp") return [...connectionActions, ...pppActions]
  return calledVersion >= 2 ? [...connectionActions, ...newerActions] : connectionActions
}

/** A service as it is described. */
export interface Service {
  /** The last part of its URLs. */
  readonly name: string
  readonly type: string
  readonly id: string
  /** Which device has it: the root (0), or one embedded in it. */
  readonly device: 0 | 1 | 2
  /** The path of its description. */
  readonly path: string
  readonly actions: ReadonlyArray<Action>
  /** The variables that events tell. */
  readonly events: ReadonlyArray<string>
  readonly wan: WanService | undefined
}

const wanServiceId = ({ name }: WanService): string => (/\d$/.test(name) ? `WAN${name}` : `WAN${name}1`)

const connectionEvents = [
  "PossibleConnectionTypes",
  "ConnectionStatus",
  "ExternalIPAddress",
  "PortMappingNumberOfEntries"
]

const described = (model: RouterModel.RouterModel, wan: WanService): Service => {
  const isNewer = wan.kind === "ip" && version(model) === 2
  return {
    name: wan.name,
    type: serviceType(model, wan),
    id: wanServiceId(wan),
    device: 2,
    path: wan.kind === "ip" ? "/WANIPCn.xml" : "/WANPPPCn.xml",
    actions: actionsOf(wan, version(model)),
    events: isNewer ? [...connectionEvents, "SystemUpdateID"] : connectionEvents,
    wan
  }
}

const forwardingName = "L3F"
export const commonName = "CmnIfCfg"
export const firewallName = "IP6FwCtl"

const forwarding: Service = {
  name: forwardingName,
  type: forwardingService,
  id: "L3Forwarding1",
  device: 0,
  path: "/L3F.xml",
  actions: forwardingActions,
  events: ["DefaultConnectionService"],
  wan: undefined
}

const common: Service = {
  name: commonName,
  type: commonService,
  id: "WANCommonIFC1",
  device: 1,
  path: "/WANCfg.xml",
  actions: commonActions,
  events: ["PhysicalLinkStatus"],
  wan: undefined
}

/** Only the second version of the gateway has it. */
const firewall: Service = {
  name: firewallName,
  type: firewallService,
  id: "WANIPv6Firewall1",
  device: 2,
  path: "/WANIP6FC.xml",
  actions: firewallActions,
  events: ["FirewallEnabled", "InboundPinholeAllowed"],
  wan: undefined
}

/** Every service of the router, in the order of the description. */
export const services = (model: RouterModel.RouterModel): ReadonlyArray<Service> => [
  forwarding,
  common,
  ...wanServices(model).map((wan) => described(model, wan)),
  ...(version(model) === 2 ? [firewall] : [])
]

const everyAction = [
  ...connectionActions,
  ...newerActions,
  ...pppActions,
  ...commonActions,
  ...forwardingActions,
  ...firewallActions
]

const mutating = new Set(everyAction.filter(({ isMutating }) => isMutating).map(({ name }) => name))

/** Whether an action changes what the router does, whichever service has it. */
export const isMutating = (action: string): boolean => mutating.has(action)

/** The service that packets to the internet take, as Layer3Forwarding:1 §2.3.1 writes it. */
export const defaultConnection = (model: RouterModel.RouterModel): string => {
  const first = wanServices(model).find(({ line }) => line === "up")
  const id = first === undefined ? "" : wanServiceId(first)
  return `${udn(model, 2)}:WANConnectionDevice:${version(model)},urn:upnp-org:serviceId:${id}`
}

/** Routers must not share a name, and the same router has the same one in every run. */
const hash = (text: string): string => SeededRandom.hashText(text).toString(16).padStart(8, "0")

/** The unique device name of the root device (0) and of the devices embedded in it. */
export const udn = (model: RouterModel.RouterModel, index: 0 | 1 | 2 | 3): string =>
  `uuid:${hash(`${model.name} ${NetAddress.formatIp(model.address)}`)}-0000-4000-8000-00000000000${index}`

const characters: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" }
const escape = (text: string): string => text.replace(/[&<>]/g, (character) => characters[character] ?? "")

const element = (name: string, ...content: ReadonlyArray<string>): string => `<${name}>${content.join("")}</${name}>`

/** Where description and control URLs begin: a reference without a slash is meant from the description's folder. */
const folder = ({ quirks }: RouterModel.RouterModel): string => (quirks.has("ControlUrlWithoutSlash") ? "/igd/" : "/")

export const descriptionPath = (model: RouterModel.RouterModel): string => `${folder(model)}rootDesc.xml`
export const otherDescriptionPath = "/mediaDesc.xml"

/** The path under which a service is controlled. */
export const controlPath = (model: RouterModel.RouterModel, name: string): string => {
  const start = model.quirks.has("RestartMovesControl") ? `ctl/${model.bootId}` : "ctl"
  return `${folder(model)}${start}/${name}`
}

/** The path under which a service takes subscriptions. */
export const eventPath = (model: RouterModel.RouterModel, name: string): string => asEvent(controlPath(model, name))

const asEvent = (path: string): string => path.replace("ctl/", "evt/")

/** A host that is there for nobody: the range is for documentation (RFC 5737). */
export const thirdHost = "192.0.2.77"
/** A port on which nobody listens. */
export const deadPort = 9

/** Whether services are controlled on the router's second HTTP port. */
export const controlsOnOtherPort = ({ quirks }: RouterModel.RouterModel): boolean =>
  quirks.has("ControlUrlOnOtherPort") || quirks.has("UrlBasePresent")

const controlUrl = (model: RouterModel.RouterModel, place: UpnpResponder.Place, name: string): string => {
  const { quirks } = model
  const path = controlPath(model, name)
  const host = NetAddress.formatUrlHost(model.address)
  if (quirks.has("ControlUrlAbsolute")) return `http://${host}:${place.httpPort}${path}`
  if (quirks.has("ControlUrlOnOtherHost")) return `http://${thirdHost}:${place.httpPort}${path}`
  if (quirks.has("ControlUrlOnOtherPort")) return `http://${host}:${place.otherHttpPort}${path}`
  return quirks.has("ControlUrlWithoutSlash") ? path.slice(folder(model).length) : path
}

const urlBase = (model: RouterModel.RouterModel, place: UpnpResponder.Place): string => {
  const { quirks } = model
  const host = NetAddress.formatUrlHost(model.address)
  if (quirks.has("UrlBasePresent")) return element("URLBase", `http://${host}:${place.otherHttpPort}/`)
  if (quirks.has("UrlBaseEmpty")) return element("URLBase")
  if (quirks.has("UrlBaseOnOtherHost")) return element("URLBase", `http://${thirdHost}:49000/`)
  if (quirks.has("UrlBaseOnDeadPort")) return element("URLBase", `http://${host}:${deadPort}/`)
  return ""
}

const serviceList = (model: RouterModel.RouterModel, place: UpnpResponder.Place, device: Service["device"]): string => {
  const described = services(model).filter((service) => service.device === device)
  return element(
    "serviceList",
    ...described.map(({ id, name, path, type }) => {
      const control = controlUrl(model, place, name)
      return element(
        "service",
        element("serviceType", type),
        element("serviceId", `urn:upnp-org:serviceId:${id}`),
        element("SCPDURL", path),
        element("controlURL", control),
        element("eventSubURL", model.has("EventsNotOffered") ? "" : asEvent(control))
      )
    })
  )
}

interface Names {
  readonly type: string
  readonly name: string
  readonly udn: string
}

const device = ({ name, type, udn }: Names, ...content: ReadonlyArray<string>): string =>
  element(
    "device",
    element("deviceType", type),
    element("friendlyName", escape(name)),
    element("manufacturer", "effect-nat"),
    element("modelName", "Simulated Router"),
    element("UDN", udn),
    ...content
  )

const document = (name: "root" | "scpd", ...content: ReadonlyArray<string>): string => {
  const namespace = `${schemas}:${name === "root" ? "device" : "service"}-1-0`
  const versions = element("specVersion", element("major", "1"), element("minor", "1"))
  return `<?xml version="1.0"?>\r\n<${name} xmlns="${namespace}">${versions}${content.join("")}</${name}>\r\n`
}

/** The description of the router. */
export const description = (model: RouterModel.RouterModel, place: UpnpResponder.Place): string => {
  const connection = device(
    { type: connectionDevice(model), name: "WANConnectionDevice", udn: udn(model, 2) },
    serviceList(model, place, 2)
  )
  const wan = device(
    { type: wanDevice(model), name: "WANDevice", udn: udn(model, 1) },
    serviceList(model, place, 1),
    element("deviceList", connection)
  )
  const root = device(
    { type: rootDevice(model), name: model.name, udn: udn(model, 0) },
    serviceList(model, place, 0),
    element("deviceList", wan)
  )
  return document("root", urlBase(model, place), root)
}

/** The description of a device in the same box that maps no ports. */
export const otherDescription = (model: RouterModel.RouterModel): string =>
  document("root", device({ type: otherDevice, name: `${model.name} Media`, udn: udn(model, 3) }))

/** What an argument is called among the state variables. */
const variableOf = (name: string): string => name.replace(/^New/, "")

const argument =
  (direction: "in" | "out") =>
  (name: string): string =>
    element(
      "argument",
      element("name", name),
      element("direction", direction),
      element("relatedStateVariable", variableOf(name))
    )

const action = ({ gives, name, takes }: Action): string => {
  const list = [...takes.map(argument("in")), ...gives.map(argument("out"))]
  return element("action", element("name", name), ...(list.length === 0 ? [] : [element("argumentList", ...list)]))
}

/** The description of a service. */
export const serviceDescription = ({ actions, events }: Service): string => {
  const named = actions.flatMap(({ gives, takes }) => [...takes, ...gives].map(variableOf))
  const variable = (name: string) =>
    `<stateVariable sendEvents="${events.includes(name) ? "yes" : "no"}">${element("name", name)}${element("dataType", "string")}</stateVariable>`
  return document(
    "scpd",
    element("actionList", ...actions.map(action)),
    element("serviceStateTable", ...[...new Set([...named, ...events])].map(variable))
  )
}
