/**
 * The actions of a simulated router's services, over its model.
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as Soap from "@effect-nat/upnp/Soap"
import * as UpnpErrorCode from "@effect-nat/upnp/UpnpErrorCode"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as PinholeTable from "../PinholeTable.ts"
import type * as RouterModel from "../RouterModel.ts"
import * as Documents from "./upnpDocuments.ts"

type Outcome = Result.Result<Soap.Arguments, Soap.UpnpFault>

const nothing: Outcome = Result.succeed([])

const fault = (code: number, description: string): Soap.UpnpFault => new Soap.UpnpFault({ code, description })
const refuse = (code: number, description: string) => Result.fail(fault(code, description))

const invalidAction = fault(401, "Invalid Action")
const invalidArgs = fault(402, "Invalid Args")
const outOfRange = fault(601, "Argument Value Out of Range")
const noSuchEntry = fault(714, "NoSuchEntryInArray")
const noSuchIndex = fault(713, "SpecifiedArrayIndexInvalid")

const faultOf = ({ igdCode }: RouterModel.Refusal): Soap.UpnpFault =>
  fault(igdCode, UpnpErrorCode.nameOf(igdCode) ?? "")

/** Who calls, and when. */
export interface Caller {
  readonly model: RouterModel.RouterModel
  /** In milliseconds. */
  readonly now: number
  readonly client: NetAddress.IpAddress
}

interface Context extends Caller {
  readonly service: Documents.WanService
}

const isWildcard = (host: string): boolean => host === "" || host === "*" || host === "0.0.0.0"

const remoteHost = (list: Soap.Arguments): Result.Result<NetAddress.IpAddress | undefined, Soap.UpnpFault> => {
  const text = Soap.argument(list, "NewRemoteHost") ?? ""
  if (isWildcard(text)) return Result.succeed(undefined)
  return Result.mapError(NetAddress.ipFromString(text), () => invalidArgs)
}

const digits = /^\d{1,10}$/

const wholeNumber = (text: string | undefined, maximum: number): Result.Result<number, Soap.UpnpFault> => {
  if (text === undefined || !digits.test(text)) return Result.fail(invalidArgs)
  return Number(text) > maximum ? Result.fail(outOfRange) : Result.succeed(Number(text))
}

const port = (list: Soap.Arguments, name: string) => wholeNumber(Soap.argument(list, name), 65_535)

const protocol = (
  model: RouterModel.RouterModel,
  list: Soap.Arguments
): Result.Result<PortMapping.Protocol, Soap.UpnpFault> => {
  const text = Soap.argument(list, "NewProtocol") ?? ""
  const read = model.has("UpperCaseProtocol") ? text : text.toUpperCase()
  if (read === "TCP") return Result.succeed("tcp")
  return read === "UDP" ? Result.succeed("udp") : Result.fail(invalidArgs)
}

/** What names an entry. */
type Key = Pick<RouterModel.Entry, "remoteHost" | "externalPort" | "protocol">

const keyOf = (model: RouterModel.RouterModel, list: Soap.Arguments): Result.Result<Key, Soap.UpnpFault> =>
  Result.all({
    remoteHost: remoteHost(list),
    externalPort: port(list, "NewExternalPort"),
    protocol: protocol(model, list)
  })

const isKey =
  (key: Key) =>
  (entry: RouterModel.Entry): boolean =>
    entry.protocol === key.protocol &&
    entry.externalPort === key.externalPort &&
    Equal.equals(entry.remoteHost, key.remoteHost)

const valuesOf = (entry: RouterModel.Entry, now: number): Soap.Arguments => [
  ["NewInternalPort", String(entry.internalPort)],
  ["NewInternalClient", NetAddress.formatIp(entry.internalAddress)],
  ["NewEnabled", entry.enabled ? "1" : "0"],
  ["NewPortMappingDescription", entry.description],
  ["NewLeaseDuration", entry.expiresAt === undefined ? "0" : String(Math.ceil((entry.expiresAt - now) / 1000))]
]

const entryArguments = (entry: RouterModel.Entry, now: number): Soap.Arguments => [
  ["NewRemoteHost", entry.remoteHost === undefined ? "" : NetAddress.formatIp(entry.remoteHost)],
  ["NewExternalPort", String(entry.externalPort)],
  ["NewProtocol", entry.protocol.toUpperCase()],
  ...valuesOf(entry, now)
]

const genericEntry = ({ model, now }: Context, list: Soap.Arguments): Outcome => {
  const index = Soap.argument(list, "NewPortMappingIndex")
  if (index === undefined || !/^-?\d{1,10}$/.test(index)) return Result.fail(invalidArgs)
  const entry = model.entries(now)[Number(index)]
  if (entry !== undefined) return Result.succeed(entryArguments(entry, now))
  return Result.fail(model.has("EndOfListIsInvalidArgs") ? invalidArgs : noSuchIndex)
}

const specificEntry = ({ model, now }: Context, list: Soap.Arguments): Outcome =>
  Result.flatMap(keyOf(model, list), (key): Outcome => {
    const entry = model.entries(now).find(isKey(key))
    if (entry !== undefined) return Result.succeed(valuesOf(entry, now))
    return Result.fail(model.has("MissingEntryIsInvalidIndex") ? noSuchIndex : noSuchEntry)
  })

const enabled = /^(?:1|true|yes)$/i

const mapRequest = (
  { client, model }: Context,
  list: Soap.Arguments,
  mayChoosePort: boolean
): Result.Result<RouterModel.MapRequest, Soap.UpnpFault> =>
  Result.map(
    Result.all({
      key: keyOf(model, list),
      internalPort: port(list, "NewInternalPort"),
      internalAddress: Result.mapError(
        NetAddress.ipFromString(Soap.argument(list, "NewInternalClient") ?? ""),
        () => invalidArgs
      ),
      // Clients leave it out, and what it means then is agreed upon.
      lifetimeSeconds: wholeNumber(Soap.argument(list, "NewLeaseDuration") ?? "0", 0xffffffff)
    }),
    ({ internalAddress, internalPort, key, lifetimeSeconds }) => ({
      via: "upnp",
      client,
      ...key,
      mayChoosePort,
      internalAddress,
      internalPort,
      lifetimeSeconds,
      description: Soap.argument(list, "NewPortMappingDescription") ?? "",
      enabled: enabled.test(Soap.argument(list, "NewEnabled") ?? "1")
    })
  )

const granted = (
  context: Context,
  list: Soap.Arguments,
  mayChoosePort: boolean
): Result.Result<RouterModel.Entry, Soap.UpnpFault> => {
  const { model, now, service } = context
  if (service.line === "dead") return refuse(501, "Action Failed")
  return Result.flatMap(mapRequest(context, list, mayChoosePort), (request) =>
    Result.mapError(model.map(now, request), faultOf)
  )
}

const add = (context: Context, list: Soap.Arguments): Outcome => Result.map(granted(context, list, false), () => [])

/** No port is a conflict here, as long as there is any (WANIPConnection:2 §2.5.17). */
const addAny = (context: Context, list: Soap.Arguments): Outcome =>
  Result.mapBoth(granted(context, list, true), {
    onSuccess: ({ externalPort }) => [["NewReservedPort", String(externalPort)]],
    onFailure: (refused) => (refused.code === 718 ? fault(728, "NoPortMapsAvailable") : refused)
  })

const remove = ({ model, now }: Context, list: Soap.Arguments): Outcome =>
  Result.flatMap(keyOf(model, list), (key): Outcome => {
    const removed = model.unmap(now, isKey(key))
    return removed === 0 ? Result.fail(noSuchEntry) : nothing
  })

/** Which entries a range of ports means: without the right to manage, only those of the caller. */
const inRange = (
  { client, model }: Context,
  list: Soap.Arguments
): Result.Result<(entry: RouterModel.Entry) => boolean, Soap.UpnpFault> =>
  Result.flatMap(
    Result.all({
      start: port(list, "NewStartPort"),
      end: port(list, "NewEndPort"),
      protocol: protocol(model, list)
    }),
    ({ end, protocol, start }) => {
      if (start > end) return refuse(733, "InconsistentParameters")
      const isManager = enabled.test(Soap.argument(list, "NewManage") ?? "0")
      return Result.succeed(
        (entry) =>
          entry.protocol === protocol &&
          entry.externalPort >= start &&
          entry.externalPort <= end &&
          (isManager || Equal.equals(entry.internalAddress, client))
      )
    }
  )

const notFound = fault(730, "PortMappingNotFound")

const removeRange = (context: Context, list: Soap.Arguments): Outcome =>
  Result.flatMap(inRange(context, list), (which): Outcome => {
    const removed = context.model.unmap(context.now, which)
    return removed === 0 ? Result.fail(notFound) : nothing
  })

const listed = (entry: RouterModel.Entry, now: number): ReadonlyArray<PortMappingEntry.PortMappingEntry> =>
  Result.match(PortMappingEntry.fromArguments(entryArguments(entry, now)), {
    onSuccess: (one) => [one],
    onFailure: () => []
  })

const listRange = (context: Context, list: Soap.Arguments): Outcome =>
  Result.flatMap(
    Result.all({ which: inRange(context, list), most: wholeNumber(Soap.argument(list, "NewNumberOfPorts"), 65_535) }),
    ({ most, which }): Outcome => {
      const found = context.model.entries(context.now).filter(which)
      if (found.length === 0) return Result.fail(notFound)
      const shown = most === 0 ? found : found.slice(0, most)
      const document = PortMappingEntry.encodeList(shown.flatMap((entry) => listed(entry, context.now)))
      return Result.succeed([["NewPortListing", document]])
    }
  )

const externalAddress = ({ model, service }: Pick<Context, "model" | "service">): string => {
  if (service.line === "private") return "192.168.100.2"
  if (service.line === "up" && model.externalAddress !== undefined) return NetAddress.formatIp(model.externalAddress)
  return model.has("ExternalAddressEmpty") ? "" : "0.0.0.0"
}

const statusInfo = ({ model, now, service }: Context): Soap.Arguments => {
  const isUp = service.line !== "dead"
  return [
    ["NewConnectionStatus", isUp ? "Connected" : "Disconnected"],
    ["NewLastConnectionError", "ERROR_NONE"],
    ["NewUptime", isUp ? String(model.epochSeconds(now)) : "0"]
  ]
}

/** What was called names the action's arguments in the document's order, all of them. */
const isInOrder = ({ takes }: Documents.Action, list: Soap.Arguments): boolean =>
  takes.length === list.length && takes.every((name, index) => list[index]?.[0] === name)

/** What is the same on every simulated router, by the name of the result. */
const constants: Readonly<Record<string, string>> = {
  NewAutoDisconnectTime: "0",
  NewIdleDisconnectTime: "0",
  NewWarnDisconnectDelay: "0",
  NewRSIPAvailable: "0",
  NewNATEnabled: "1",
  NewUpstreamMaxBitRate: "40000000",
  NewDownstreamMaxBitRate: "100000000",
  NewPPPEncryptionProtocol: "none",
  NewPPPCompressionProtocol: "none",
  NewPPPAuthenticationProtocol: "CHAP",
  NewUserName: "somebody@example.net",
  NewEnabledForInternet: "1",
  NewWANAccessType: "Cable",
  NewLayer1UpstreamMaxBitRate: "40000000",
  NewLayer1DownstreamMaxBitRate: "100000000",
  NewPhysicalLinkStatus: "Up",
  NewWANAccessProvider: "Example Net",
  NewMaximumActiveConnections: "1",
  OutboundPinholeTimeout: "180"
}

const constantsOf = ({ gives }: Documents.Action): Soap.Arguments =>
  gives.map((name) => [name, constants[name] ?? ""] as const)

const perform = (context: Context, action: Documents.Action, list: Soap.Arguments): Outcome => {
  switch (action.name) {
    case "GetConnectionTypeInfo":
      return Result.succeed([
        ["NewConnectionType", "IP_Routed"],
        ["NewPossibleConnectionTypes", possibleConnectionTypes(context.service)]
      ])
    case "GetStatusInfo":
      return Result.succeed(statusInfo(context))
    case "GetExternalIPAddress":
      return Result.succeed([["NewExternalIPAddress", externalAddress(context)]])
    case "GetGenericPortMappingEntry":
      return genericEntry(context, list)
    case "GetSpecificPortMappingEntry":
      return specificEntry(context, list)
    case "AddPortMapping":
      return add(context, list)
    case "AddAnyPortMapping":
      return addAny(context, list)
    case "DeletePortMapping":
      return remove(context, list)
    case "DeletePortMappingRange":
      return removeRange(context, list)
    case "GetListOfPortMappings":
      return listRange(context, list)
    default:
      return Result.succeed(constantsOf(action))
  }
}

/** The version of a service that the caller means: an older one has fewer actions, on a newer router too. */
const versionOf = (serviceType: string): number => Number(/:(\d{1,3})$/.exec(serviceType)?.[1] ?? 1)

/** Carries out a call to a service that maps ports. */
const connection = (context: Context, call: Soap.Call): Outcome => {
  const { model, service } = context
  const type = Documents.serviceType(model, service)
  if (model.has("ServiceTypesDoNotMix") && call.serviceType !== type) return Result.fail(invalidAction)
  const version = Math.min(Documents.version(model), versionOf(call.serviceType))
  const action = Documents.actionsOf(service, version).find(({ name }) => name === call.action)
  if (action === undefined) return Result.fail(invalidAction)
  if (model.has("ArgumentOrder") && !isInOrder(action, call.arguments)) return Result.fail(invalidArgs)
  return perform(context, action, call.arguments)
}

/** What goes over the line, for each second since the start; packets are of a kilobyte. */
const traffic: Readonly<Record<string, number>> = {
  NewTotalBytesSent: 250_000,
  NewTotalBytesReceived: 1_000_000,
  NewTotalPacketsSent: 250,
  NewTotalPacketsReceived: 1_000
}

const counter = (perSecond: number, seconds: number): string => String((perSecond * seconds) % 2 ** 32)

/** Carries out a call to the service that tells about the line. */
const common = ({ model, now }: Caller, action: Documents.Action, list: Soap.Arguments): Outcome => {
  const [first = ""] = action.gives
  const perSecond = traffic[first]
  if (perSecond !== undefined) return Result.succeed([[first, counter(perSecond, model.epochSeconds(now))]])
  if (action.name !== "GetActiveConnection") return Result.succeed(constantsOf(action))
  if (Soap.argument(list, "NewActiveConnectionIndex") !== "0") return Result.fail(noSuchIndex)
  const [container = "", service = ""] = Documents.defaultConnection(model).split(",")
  return Result.succeed([
    ["NewActiveConnDeviceContainer", container],
    ["NewActiveConnectionServiceID", service]
  ])
}

// -----------------------------------------------------------------------------
// The IPv6 firewall
// -----------------------------------------------------------------------------

const pinholeFault = (refusal: PinholeTable.Refusal): Soap.UpnpFault => fault(PinholeTable.igdCodes[refusal], refusal)

const flow = (list: Soap.Arguments): Result.Result<PinholeTable.Flow, Soap.UpnpFault> => {
  const host = Soap.argument(list, "RemoteHost") ?? ""
  const isAnyHost = host === "" || host === "*" || host === "::"
  const address = (text: string) => Result.mapError(NetAddress.ipv6FromString(text), () => invalidArgs)
  return Result.all({
    remoteHost: isAnyHost ? Result.succeed(undefined) : address(host),
    remotePort: port(list, "RemotePort"),
    internalClient: address(Soap.argument(list, "InternalClient") ?? ""),
    internalPort: port(list, "InternalPort"),
    protocol: port(list, "Protocol")
  })
}

const longestPinholeLease = 86_400

const leaseOf = (list: Soap.Arguments, name: string): Result.Result<number, Soap.UpnpFault> =>
  Result.flatMap(wholeNumber(Soap.argument(list, name), longestPinholeLease), (seconds) =>
    seconds === 0 ? Result.fail(outOfRange) : Result.succeed(seconds)
  )

const addPinhole = ({ client, model, now }: Caller, list: Soap.Arguments): Outcome =>
  Result.flatMap(Result.all({ flow: flow(list), leaseSeconds: leaseOf(list, "LeaseTime") }), (asked): Outcome =>
    Result.mapBoth(model.pinholes.add(now, { client, ...asked.flow, leaseSeconds: asked.leaseSeconds }), {
      onSuccess: ({ uniqueId }) => [["UniqueID", String(uniqueId)]],
      onFailure: pinholeFault
    })
  )

/** The pinhole that is meant, or that there is none. */
const pinhole = ({ model, now }: Caller, list: Soap.Arguments): Result.Result<PinholeTable.Pinhole, Soap.UpnpFault> =>
  Result.flatMap(port(list, "UniqueID"), (uniqueId) =>
    Result.mapError(model.pinholes.find(now, uniqueId), pinholeFault)
  )

const updatePinhole = (caller: Caller, list: Soap.Arguments): Outcome =>
  Result.flatMap(Result.all([pinhole(caller, list), leaseOf(list, "NewLeaseTime")]), ([{ uniqueId }, seconds]) => {
    const updated = caller.model.pinholes.update(caller.now, uniqueId, seconds)
    return Result.mapBoth(updated, { onSuccess: () => [], onFailure: pinholeFault })
  })

const removePinhole = (caller: Caller, list: Soap.Arguments): Outcome =>
  Result.flatMap(pinhole(caller, list), ({ uniqueId }) =>
    Result.mapBoth(caller.model.pinholes.remove(caller.now, uniqueId), { onSuccess: () => [], onFailure: pinholeFault })
  )

/** Whether packets came in can only be said where any were sent. */
const isWorking = ({ packets }: PinholeTable.Pinhole): Outcome =>
  packets === 0 ? Result.fail(pinholeFault("NoPacketSent")) : Result.succeed([["IsWorking", "1"]])

/** Carries out a call to the IPv6 firewall. */
const firewall = (caller: Caller, action: Documents.Action, list: Soap.Arguments): Outcome => {
  switch (action.name) {
    case "GetFirewallStatus":
      return Result.succeed(firewallStatus(caller.model))
    case "GetOutboundPinholeTimeout":
      return Result.map(flow(list), () => constantsOf(action))
    case "AddPinhole":
      return addPinhole(caller, list)
    case "UpdatePinhole":
      return updatePinhole(caller, list)
    case "DeletePinhole":
      return removePinhole(caller, list)
    case "GetPinholePackets":
      return Result.map(pinhole(caller, list), ({ packets }) => [["PinholePackets", String(packets)]])
    case "CheckPinholeWorking":
      return Result.flatMap(pinhole(caller, list), isWorking)
    default:
      return Result.fail(invalidAction)
  }
}

// -----------------------------------------------------------------------------
// All services
// -----------------------------------------------------------------------------

/** Carries out a call to a service of the router. */
export const call = (caller: Caller, service: Documents.Service, asked: Soap.Call): Outcome => {
  if (service.wan !== undefined) return connection({ ...caller, service: service.wan }, asked)
  const action = service.actions.find(({ name }) => name === asked.action)
  if (action === undefined) return Result.fail(invalidAction)
  switch (service.name) {
    case Documents.commonName:
      return common(caller, action, asked.arguments)
    case Documents.firewallName:
      return firewall(caller, action, asked.arguments)
    default:
      return Result.succeed([["NewDefaultConnectionService", Documents.defaultConnection(caller.model)]])
  }
}

const possibleConnectionTypes = ({ kind }: Documents.WanService): string =>
  kind === "ip" ? "IP_Routed,IP_Bridged" : "IP_Routed,PPPoE_Bridged"

const flag = (is: boolean): string => (is ? "1" : "0")

const firewallStatus = ({ pinholes }: RouterModel.RouterModel): Soap.Arguments => [
  ["FirewallEnabled", flag(pinholes.isEnabled)],
  ["InboundPinholeAllowed", flag(pinholes.isInboundPinholeAllowed)]
]

/** The values now of the variables that the events of a service tell. */
export const variables = (
  model: RouterModel.RouterModel,
  now: number,
  { events, name, wan }: Documents.Service
): Soap.Arguments => {
  if (name === Documents.firewallName) return firewallStatus(model)
  if (name === Documents.commonName) return [["PhysicalLinkStatus", "Up"]]
  if (wan === undefined) return [["DefaultConnectionService", Documents.defaultConnection(model)]]
  const values: Readonly<Record<string, string>> = {
    PossibleConnectionTypes: possibleConnectionTypes(wan),
    ConnectionStatus: wan.line === "dead" ? "Disconnected" : "Connected",
    ExternalIPAddress: externalAddress({ model, service: wan }),
    PortMappingNumberOfEntries: String(model.entries(now).length),
    SystemUpdateID: String(model.updateId)
  }
  return events.map((event) => [event, values[event] ?? ""] as const)
}
