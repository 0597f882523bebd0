/**
 * A router in memory, with the habits that a test gives it.
 */
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as Soap from "@effect-nat/upnp/Soap"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import type * as Http from "@effect-nat/core/Http"
import * as Effect from "effect/Effect"
import type * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as Network from "./network.ts"

export const igd1 = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
export const wanIp1 = "urn:schemas-upnp-org:service:WANIPConnection:1"
export const wanPpp1 = "urn:schemas-upnp-org:service:WANPPPConnection:1"

export const wanIpv6Firewall1 = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"

export interface RouterService {
  readonly serviceType: string
  readonly controlUrl: string
  readonly externalAddress: string
  readonly status: string
}

export interface RouterOptions {
  readonly address?: string
  readonly name?: string
  readonly udn?: string
  readonly services?: ReadonlyArray<RouterService>
  /** Which searches it answers; all of them otherwise. */
  readonly hears?: (heard: Network.Heard) => boolean
  /** What it says its description's URL is. */
  readonly location?: string
  readonly answerPort?: number
  readonly answersAfter?: Duration.Input
  /** Instead of the description. */
  readonly description?: () => Effect.Effect<Http.HttpResponse, Http.HttpError>
  /** Before an action is carried out: a refusal, a pause, anything. */
  readonly before?: (call: Soap.Call) => Effect.Effect<void, Soap.UpnpFault | Http.HttpError>
  /** After an action was carried out, before it is answered. */
  readonly after?: (call: Soap.Call) => Effect.Effect<void, Http.HttpError>
  /** Gives a port to whoever asks last, as some do. */
  readonly overwrites?: boolean
  /** Chooses another port only where another host has the wanted one, as miniupnpd does. */
  readonly overwritesSameHost?: boolean
  /** Has an IPv6 firewall in this state. */
  readonly firewall?: { isEnabled: boolean; isInboundPinholeAllowed: boolean } | undefined
}

/** The same router at another address, without a voice in searches. */
export const at = (router: Router, address: string): Network.Device => ({
  ...router,
  address,
  onSearch: () => []
})

export interface Router extends Network.Device {
  readonly entries: Array<PortMappingEntry.PortMappingEntry>
  /** By their unique ids, as `[address]:port/protocol lease`. */
  readonly pinholes: Map<string, string>
  /** Every action called, with its arguments, as `Name(a, b)`. */
  readonly calls: Array<string>
  /** The service types that actions came with. */
  readonly serviceTypes: Set<string>
  /** The most calls under way at one time. */
  readonly mostAtOnce: () => number
  /** Moves to another port, forgetting everything, as after a restart. */
  readonly restart: (port: number) => void
  setExternalAddress: (address: string) => void
  /** An announcement of its root device, as it would send it now. */
  readonly notify: (
    kind: "alive" | "update" | "byebye",
    bootIds?: { bootId?: number; nextBootId?: number }
  ) => Uint8Array
}

export const fault = (code: number, description = "") => new Soap.UpnpFault({ code, description })

const serviceXml = (service: RouterService): string =>
  `<service><serviceType>${service.serviceType}</serviceType><serviceId>urn:upnp-org:serviceId:x</serviceId>` +
  `<SCPDURL>/scpd.xml</SCPDURL><controlURL>${service.controlUrl}</controlURL><eventSubURL>/evt</eventSubURL></service>`

/** A description as gateways give it: the services two devices deep. */
export const descriptionXml = (name: string, udn: string, services: ReadonlyArray<RouterService>): string =>
  `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor>` +
  `</specVersion><device><deviceType>${igd1}</deviceType><friendlyName>${name}</friendlyName>` +
  `<manufacturer>Example Ltd</manufacturer><modelName>Box 1.10</modelName><UDN>${udn}</UDN><deviceList><device>` +
  `<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>` +
  `<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList>` +
  `${services.map(serviceXml).join("")}</serviceList></device></deviceList></device></deviceList></device></root>`

const matches = (searchTarget: string): boolean =>
  searchTarget.includes("InternetGatewayDevice:1") ||
  searchTarget.includes("WANIPConnection:1") ||
  searchTarget === "upnp:rootdevice" ||
  searchTarget === "ssdp:all"

const only = { serviceType: wanIp1, controlUrl: "/ctl/ip", externalAddress: "11.22.33.1", status: "Connected" }

export const makeRouter = (options: RouterOptions = {}): Router => {
  const address = options.address ?? Network.routerAddress
  const name = options.name ?? "Home Router"
  const udn = options.udn ?? "uuid:11111111-0000-4000-8000-000000000001"
  const services = [
    ...(options.services ?? [only]),
    ...(options.firewall === undefined
      ? []
      : [{ serviceType: wanIpv6Firewall1, controlUrl: "/ctl/fw", externalAddress: "", status: "" }])
  ]
  const pinholes = new Map<string, string>()
  let nextPinhole = 1
  const entries: Array<PortMappingEntry.PortMappingEntry> = []
  const calls: Array<string> = []
  const serviceTypes = new Set<string>()
  let port = 5000
  let underWay = 0
  let mostAtOnce = 0
  let moved: string | undefined

  const find = (list: Soap.Arguments) =>
    entries.findIndex(
      (entry) =>
        String(entry.externalPort) === Soap.argument(list, "NewExternalPort") &&
        entry.protocol === Soap.argument(list, "NewProtocol")
    )

  const add = Effect.fnUntraced(function* (list: Soap.Arguments) {
    const entry = Result.getOrUndefined(PortMappingEntry.fromArguments(list))
    if (entry === undefined) return yield* fault(402, "Invalid Args")
    const index = find(list)
    if (index === -1) return void entries.push(entry)
    if (entries[index]?.internalClient !== entry.internalClient && options.overwrites !== true) {
      return yield* fault(718, "ConflictInMappingEntry")
    }
    entries[index] = entry
  })

  const perform = Effect.fnUntraced(function* (service: RouterService, call: Soap.Call) {
    const list = call.arguments
    const nothing: Soap.Arguments = []
    const word = (name: string) => Soap.argument(list, name) ?? ""
    switch (call.action) {
      case "GetFirewallStatus":
        return [
          ["FirewallEnabled", options.firewall?.isEnabled === true ? "1" : "0"],
          ["InboundPinholeAllowed", options.firewall?.isInboundPinholeAllowed === true ? "1" : "0"]
        ] as const
      case "AddPinhole": {
        const flow = `[${word("InternalClient")}]:${word("InternalPort")}/${word("Protocol")}`
        const known = [...pinholes].find(([, held]) => held.startsWith(`${flow} `))
        const id = known?.[0] ?? String(nextPinhole++)
        pinholes.set(id, `${flow} ${word("LeaseTime")}`)
        return [["UniqueID", id]] as const
      }
      case "UpdatePinhole": {
        const held = pinholes.get(word("UniqueID"))
        if (held === undefined) return yield* fault(704, "NoSuchEntry")
        pinholes.set(word("UniqueID"), `${held.slice(0, held.indexOf(" "))} ${word("NewLeaseTime")}`)
        return nothing
      }
      case "DeletePinhole": {
        if (!pinholes.delete(word("UniqueID"))) return yield* fault(704, "NoSuchEntry")
        return nothing
      }
      case "GetExternalIPAddress":
        return [["NewExternalIPAddress", moved ?? service.externalAddress]] as const
      case "GetStatusInfo":
        return [["NewConnectionStatus", service.status]] as const
      case "AddPortMapping": {
        yield* add(list)
        return nothing
      }
      case "AddAnyPortMapping": {
        const taken = entries[find(list)]
        const isOfSameHost = taken?.internalClient === Soap.argument(list, "NewInternalClient")
        const isFree = taken === undefined || (options.overwritesSameHost === true && isOfSameHost)
        const port = isFree ? Soap.argument(list, "NewExternalPort") : "50000"
        yield* add(list.map(([key, value]) => [key, key === "NewExternalPort" ? (port ?? "") : value]))
        return [["NewReservedPort", port ?? ""]] as const
      }
      case "DeletePortMapping": {
        const index = find(list)
        if (index === -1) return yield* fault(714, "NoSuchEntryInArray")
        entries.splice(index, 1)
        return nothing
      }
      case "GetSpecificPortMappingEntry": {
        const entry = entries[find(list)]
        if (entry === undefined) return yield* fault(714, "NoSuchEntryInArray")
        return PortMappingEntry.toArguments(entry).slice(3)
      }
      case "GetGenericPortMappingEntry": {
        const entry = entries[Number(Soap.argument(list, "NewPortMappingIndex"))]
        if (entry === undefined) return yield* fault(713, "SpecifiedArrayIndexInvalid")
        return PortMappingEntry.toArguments(entry)
      }
      default:
        return yield* fault(401, "Invalid Action")
    }
  })

  const control = Effect.fnUntraced(function* (request: Http.HttpRequest) {
    const header = request.headers?.find(([header]) => header === "SOAPAction")?.[1] ?? ""
    const call = Result.getOrUndefined(Soap.decodeCall(Network.bytes(request.body ?? ""), header))
    const service = services.find((one) => one.controlUrl === request.path)
    if (call === undefined || service === undefined) return Network.respond(404, "")
    calls.push(`${call.action}(${call.arguments.map(([, value]) => value).join(", ")})`)
    serviceTypes.add(call.serviceType)
    const answer = Effect.gen(function* () {
      yield* options.before?.(call) ?? Effect.void
      const results = yield* perform(service, call)
      yield* options.after?.(call) ?? Effect.void
      return Network.respond(200, Soap.encodeAnswer(call, results))
    })
    return yield* Effect.catchTag(answer, "UpnpFault", (refusal) =>
      Effect.succeed(Network.respond(500, Soap.encodeFault(refusal)))
    )
  })

  return {
    address,
    entries,
    pinholes,
    calls,
    serviceTypes,
    mostAtOnce: () => mostAtOnce,
    restart: (to) => {
      port = to
      entries.length = 0
    },
    setExternalAddress: (to) => {
      moved = to
    },
    notify: (kind, bootIds) =>
      Ssdp.encode(
        new Ssdp.Notify({
          kind,
          notificationType: "upnp:rootdevice",
          usn: `${udn}::upnp:rootdevice`,
          location: kind === "byebye" ? undefined : `http://${address}:${port}/desc.xml`,
          server: "Test/1.0 UPnP/1.1 Router/1.0",
          maxAge: 120,
          bootId: bootIds?.bootId ?? 1,
          nextBootId: bootIds?.nextBootId,
          configId: 1
        })
      ),
    ports: () => [port],
    onSearch: (heard) =>
      matches(heard.searchTarget) && (options.hears?.(heard) ?? true)
        ? [
            {
              payload: Ssdp.encode(
                new Ssdp.SearchAnswer({
                  searchTarget: heard.searchTarget,
                  usn: `${udn}::${heard.searchTarget}`,
                  location: options.location ?? `http://${address}:${port}/desc.xml`,
                  server: "Test/1.0 UPnP/1.1 Router/1.0",
                  maxAge: 120,
                  bootId: 1,
                  configId: 1
                })
              ),
              ...(options.answersAfter === undefined ? {} : { after: options.answersAfter }),
              ...(options.answerPort === undefined ? {} : { port: options.answerPort })
            }
          ]
        : [],
    onRequest: (request) => {
      if (request.method === "GET") {
        return request.path === "/desc.xml"
          ? (options.description?.() ?? Effect.succeed(Network.respond(200, descriptionXml(name, udn, services))))
          : Effect.succeed(Network.respond(404, ""))
      }
      return Effect.acquireUseRelease(
        Effect.sync(() => {
          underWay++
          mostAtOnce = Math.max(mostAtOnce, underWay)
        }),
        () => control(request),
        () => Effect.sync(() => void underWay--)
      )
    }
  }
}
