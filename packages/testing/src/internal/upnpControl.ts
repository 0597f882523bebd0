/**
 * The actions of a simulated router's services, over its model.
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Soap from "@effect-nat/upnp/Soap"
import * as UpnpErrorCode from "@effect-nat/upnp/UpnpErrorCode"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
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

const faultOf = ({ igdCode }: RouterModel.Refusal): Soap.UpnpFault =>
  fault(igdCode, UpnpErrorCode.nameOf(igdCode) ?? "")

/** Who calls, and when. */
export interface Context {
  readonly model: RouterModel.RouterModel
  /** In milliseconds. */
  readonly now: number
  readonly client: NetAddress.IpAddress
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
  return model.has("EndOfListIsInvalidArgs") ? Result.fail(invalidArgs) : refuse(713, "SpecifiedArrayIndexInvalid")
}

const specificEntry = ({ model, now }: Context, list: Soap.Arguments): Outcome =>
  Result.flatMap(keyOf(model, list), (key): Outcome => {
    const entry = model.entries(now).find(isKey(key))
    if (entry !== undefined) return Result.succeed(valuesOf(entry, now))
    return model.has("MissingEntryIsInvalidIndex")
      ? refuse(713, "SpecifiedArrayIndexInvalid")
      : Result.fail(noSuchEntry)
  })

const enabled = /^(?:1|true|yes)$/i

const mapRequest = (
  { client, model }: Context,
  list: Soap.Arguments
): Result.Result<RouterModel.MapRequest, Soap.UpnpFault> =>
  Result.flatMap(
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
    ({ internalAddress, internalPort, key, lifetimeSeconds }) => {
      if (key.externalPort === 0) return refuse(716, "WildCardNotPermittedInExtPort")
      if (internalPort === 0) return refuse(732, "WildCardNotPermittedInIntPort")
      return Result.succeed({
        via: "upnp",
        client,
        ...key,
        mayChoosePort: false,
        internalAddress,
        internalPort,
        lifetimeSeconds,
        description: Soap.argument(list, "NewPortMappingDescription") ?? "",
        enabled: enabled.test(Soap.argument(list, "NewEnabled") ?? "1")
      })
    }
  )

const add = (context: Context, list: Soap.Arguments): Outcome => {
  const { model, now, service } = context
  if (service.line === "dead") return refuse(501, "Action Failed")
  return Result.flatMap(mapRequest(context, list), (request): Outcome => {
    const granted = model.map(now, request)
    return Result.isSuccess(granted) ? nothing : Result.fail(faultOf(granted.failure))
  })
}

const remove = ({ model, now }: Context, list: Soap.Arguments): Outcome =>
  Result.flatMap(keyOf(model, list), (key): Outcome => {
    const removed = model.unmap(now, isKey(key))
    return removed === 0 ? Result.fail(noSuchEntry) : nothing
  })

const externalAddress = ({ model, service }: Context): string => {
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
const isInOrder = (action: string, list: Soap.Arguments): boolean => {
  const takes = Documents.connectionActions.find(({ name }) => name === action)?.takes ?? []
  return takes.length === list.length && takes.every((name, index) => list[index]?.[0] === name)
}

const perform = (context: Context, { action, arguments: list }: Soap.Call): Outcome => {
  switch (action) {
    case "GetConnectionTypeInfo":
      return Result.succeed([
        ["NewConnectionType", "IP_Routed"],
        ["NewPossibleConnectionTypes", "IP_Routed"]
      ])
    case "GetStatusInfo":
      return Result.succeed(statusInfo(context))
    case "GetNATRSIPStatus":
      return Result.succeed([
        ["NewRSIPAvailable", "0"],
        ["NewNATEnabled", "1"]
      ])
    case "GetExternalIPAddress":
      return Result.succeed([["NewExternalIPAddress", externalAddress(context)]])
    case "GetGenericPortMappingEntry":
      return genericEntry(context, list)
    case "GetSpecificPortMappingEntry":
      return specificEntry(context, list)
    case "AddPortMapping":
      return add(context, list)
    case "DeletePortMapping":
      return remove(context, list)
    default:
      return Result.fail(invalidAction)
  }
}

/** Carries out a call to a service that maps ports. */
export const connection = (context: Context, call: Soap.Call): Outcome => {
  const { model, service } = context
  if (model.has("ServiceTypesDoNotMix") && call.serviceType !== Documents.serviceType(model, service)) {
    return Result.fail(invalidAction)
  }
  if (model.has("ArgumentOrder") && !isInOrder(call.action, call.arguments)) return Result.fail(invalidArgs)
  return perform(context, call)
}

/** Carries out a call to the service that tells about the line. */
export const common = (call: Soap.Call): Outcome => {
  const action = Documents.commonActions.find(({ name }) => name === call.action)
  if (action === undefined) return Result.fail(invalidAction)
  if (action.gives.length === 1) return Result.succeed(action.gives.map((name) => [name, "0"] as const))
  return Result.succeed([
    ["NewWANAccessType", "Cable"],
    ["NewLayer1UpstreamMaxBitRate", "100000000"],
    ["NewLayer1DownstreamMaxBitRate", "100000000"],
    ["NewPhysicalLinkStatus", "Up"]
  ])
}
