/**
 * What a simulated router says about itself in XML: its description, and those of its services.
 */
import * as NetAddress from "effect/net/NetAddress"
import type * as RouterModel from "../RouterModel.ts"
import type * as UpnpResponder from "../UpnpResponder.ts"

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
}

const key = ["NewRemoteHost", "NewExternalPort", "NewProtocol"]
const rest = ["NewInternalPort", "NewInternalClient", "NewEnabled", "NewPortMappingDescription", "NewLeaseDuration"]

/** WANIPConnection:1 §2.4, as far as anybody asks for it. */
export const connectionActions: ReadonlyArray<Action> = [
  { name: "GetConnectionTypeInfo", takes: [], gives: ["NewConnectionType", "NewPossibleConnectionTypes"] },
  { name: "GetStatusInfo", takes: [], gives: ["NewConnectionStatus", "NewLastConnectionError", "NewUptime"] },
  { name: "GetNATRSIPStatus", takes: [], gives: ["NewRSIPAvailable", "NewNATEnabled"] },
  { name: "GetGenericPortMappingEntry", takes: ["NewPortMappingIndex"], gives: [...key, ...rest] },
  { name: "GetSpecificPortMappingEntry", takes: key, gives: rest },
  { name: "AddPortMapping", takes: [...key, ...rest], gives: [] },
  { name: "DeletePortMapping", takes: key, gives: [] },
  { name: "GetExternalIPAddress", takes: [], gives: ["NewExternalIPAddress"] }
]

/** WANCommonInterfaceConfig:1 §2.4: clients that show the line's state ask for it. */
export const commonActions: ReadonlyArray<Action> = [
  {
    name: "GetCommonLinkProperties",
    takes: [],
    gives: ["NewWANAccessType", "NewLayer1UpstreamMaxBitRate", "NewLayer1DownstreamMaxBitRate", "NewPhysicalLinkStatus"]
  },
  { name: "GetTotalBytesSent", takes: [], gives: ["NewTotalBytesSent"] },
  { name: "GetTotalBytesReceived", takes: [], gives: ["NewTotalBytesReceived"] },
  { name: "GetTotalPacketsSent", takes: [], gives: ["NewTotalPacketsSent"] },
  { name: "GetTotalPacketsReceived", takes: [], gives: ["NewTotalPacketsReceived"] }
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

/** The newer document knows leases that end after a week at the latest and no permanent ones. */
export const version = ({ quirks }: RouterModel.RouterModel): 1 | 2 =>
  quirks.has("RefusesPermanentLeases") || quirks.has("RefusesLeasesAboveOneWeek") ? 2 : 1

export const rootDevice = (model: RouterModel.RouterModel): string =>
  `${schemas}:device:InternetGatewayDevice:${version(model)}`
export const wanDevice = (model: RouterModel.RouterModel): string => `${schemas}:device:WANDevice:${version(model)}`
export const connectionDevice = (model: RouterModel.RouterModel): string =>
  `${schemas}:device:WANConnectionDevice:${version(model)}`
export const commonService = `${schemas}:service:WANCommonInterfaceConfig:1`
export const otherDevice = `${schemas}:device:MediaServer:1`

export const serviceType = (model: RouterModel.RouterModel, { kind }: Pick<WanService, "kind">): string =>
  kind === "ip" ? `${schemas}:service:WANIPConnection:${version(model)}` : `${schemas}:service:WANPPPConnection:1`

/** FNV-1a: routers must not share a name, and the same router has the same one in every run. */
const hash = (text: string): string => {
  let value = 0x811c9dc5
  for (const character of text) value = Math.imul(value ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0
  return value.toString(16).padStart(8, "0")
}

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
export const connectionPath = "/WANIPCn.xml"
export const commonPath = "/WANCfg.xml"

/** The path under which a service is controlled. */
export const controlPath = (model: RouterModel.RouterModel, name: string): string => {
  const start = model.quirks.has("RestartMovesControl") ? `ctl/${model.bootId}` : "ctl"
  return `${folder(model)}${start}/${name}`
}

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

const service = (type: string, id: string, path: string, control: string): string =>
  element(
    "service",
    element("serviceType", type),
    element("serviceId", `urn:upnp-org:serviceId:${id}`),
    element("SCPDURL", path),
    element("controlURL", control),
    element("eventSubURL", control.replace("ctl/", "evt/"))
  )

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
export const description = (model: RouterModel.RouterModel, place: UpnpResponder.Place): string =>
  document(
    "root",
    urlBase(model, place),
    device(
      { type: rootDevice(model), name: model.name, udn: udn(model, 0) },
      element(
        "deviceList",
        device(
          { type: wanDevice(model), name: "WANDevice", udn: udn(model, 1) },
          element(
            "serviceList",
            service(commonService, "WANCommonIFC1", commonPath, controlUrl(model, place, "CmnIfCfg"))
          ),
          element(
            "deviceList",
            device(
              { type: connectionDevice(model), name: "WANConnectionDevice", udn: udn(model, 2) },
              element(
                "serviceList",
                ...wanServices(model).map((one) =>
                  service(
                    serviceType(model, one),
                    one.kind === "ip" ? "WANIPConn1" : "WANPPPConn1",
                    connectionPath,
                    controlUrl(model, place, one.name)
                  )
                )
              )
            )
          )
        )
      )
    )
  )

/** The description of a device in the same box that maps no ports. */
export const otherDescription = (model: RouterModel.RouterModel): string =>
  document("root", device({ type: otherDevice, name: `${model.name} Media`, udn: udn(model, 3) }))

const argument =
  (direction: "in" | "out") =>
  (name: string): string =>
    element(
      "argument",
      element("name", name),
      element("direction", direction),
      element("relatedStateVariable", name.replace("New", ""))
    )

const action = ({ gives, name, takes }: Action): string => {
  const list = [...takes.map(argument("in")), ...gives.map(argument("out"))]
  return element("action", element("name", name), ...(list.length === 0 ? [] : [element("argumentList", ...list)]))
}

/** The description of a service. */
export const serviceDescription = (actions: ReadonlyArray<Action>): string => {
  const variables = new Set(actions.flatMap(({ gives, takes }) => [...takes, ...gives]))
  return document(
    "scpd",
    element("actionList", ...actions.map(action)),
    element(
      "serviceStateTable",
      ...[...variables].map(
        (name) =>
          `<stateVariable sendEvents="no">${element("name", name.replace("New", ""))}${element("dataType", "string")}</stateVariable>`
      )
    )
  )
}
