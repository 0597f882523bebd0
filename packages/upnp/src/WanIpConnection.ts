/**
 * The actions of a WANIPConnection service, which a WANPPPConnection service has as well; `WanPppConnection` adds
 * those that only the latter has.
 *
 * Every action fails with `UpnpFault` where the router refuses; `UpnpErrorCode.toNatError` says what a refusal means.
 * Actions that connect, disconnect or configure the line are left out. Sections are those of WANIPConnection:1, and of
 * WANIPConnection:2 where that is said; routers of version 1 refuse the latter with error 401.
 *
 * @since 0.1.0
 */
import type * as NatError from "@effect-nat/core/NatError"
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as Stream from "effect/Stream"
import type * as DeviceDescription from "./DeviceDescription.ts"
import * as PortMappingListing from "./internal/portMappingListing.ts"
import * as Results from "./internal/results.ts"
import * as PortMappingEntry from "./PortMappingEntry.ts"
import * as Soap from "./Soap.ts"
import type * as SoapClient from "./SoapClient.ts"

/**
 * What can go wrong with an action.
 *
 * @category errors
 * @since 0.1.0
 */
export type ActionError = NatError.NatError | Soap.UpnpFault

/**
 * The state of the line (GetStatusInfo, §2.4.9).
 *
 * @category models
 * @since 0.1.0
 */
export interface StatusInfo {
  /** `"Connected"` when the line is up; the router's own word otherwise. */
  readonly connectionStatus: string
  readonly lastConnectionError: string
  /** In seconds; `undefined` where the router does not say. */
  readonly uptime: number | undefined
}

/**
 * How the line is connected (GetConnectionTypeInfo, §2.4.2).
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionTypeInfo {
  /** `"IP_Routed"` on a router that maps ports; the router's own word otherwise. */
  readonly connectionType: string
  /** The types that could be chosen. */
  readonly possibleConnectionTypes: ReadonlyArray<string>
}

/**
 * What the gateway translates (GetNATRSIPStatus, §2.4.13). `undefined` where it does not say.
 *
 * @category models
 * @since 0.1.0
 */
export interface NatRsipStatus {
  readonly rsipAvailable: boolean | undefined
  /** Whether it translates addresses at all; without that, mappings have no effect. */
  readonly natEnabled: boolean | undefined
}

/**
 * A range of external ports, both ends included.
 *
 * @category models
 * @since 0.1.0
 */
export interface PortRange {
  readonly startPort: number
  readonly endPort: number
  readonly protocol: "TCP" | "UDP"
  /** Whether other hosts' mappings count as well, which needs the router's leave; only this host's otherwise. */
  readonly manage: boolean
}

/**
 * Which mappings to list.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListRequest extends PortRange {
  /** At most so many; 0 is all of them. Answers beyond `Soap.maximumBytes`, some 150 mappings, are not read. */
  readonly numberOfPorts: number
}

/**
 * The actions of one service of one router.
 *
 * @category models
 * @since 0.1.0
 */
export interface WanIpConnection {
  readonly wanService: DeviceDescription.WanService
  /** Adds a mapping, or renews it in place where it exists (§2.4.16). `PortMappingEntry.make` is the short form. */
  readonly addPortMapping: (entry: PortMappingEntry.PortMappingEntry) => Effect.Effect<void, ActionError>
  /** Adds a mapping, at another external port where the wanted one is taken; the port it got (version 2, §2.5.17). */
  readonly addAnyPortMapping: (entry: PortMappingEntry.PortMappingEntry) => Effect.Effect<number, ActionError>
  /** Deletes a mapping, named by its key; an entry is a key too, its other fields do not count (§2.4.17). */
  readonly deletePortMapping: (key: PortMappingEntry.Key) => Effect.Effect<void, ActionError>
  /** Deletes all mappings in a range; error 730 says that there were none (version 2, §2.5.19). */
  readonly deletePortMappingRange: (range: PortRange) => Effect.Effect<void, ActionError>
  /** The router's address on the outside (§2.4.18); `undefined` where it has none now or says nothing that is one. */
  readonly getExternalIpAddress: Effect.Effect<NetAddress.IpAddress | undefined, ActionError>
  /** One mapping by its place in the list, from 0; error 713 is the end of the list (§2.4.14). */
  readonly getGenericPortMappingEntry: (index: number) => Effect.Effect<PortMappingEntry.PortMappingEntry, ActionError>
  /** One mapping by its key; error 714 says that there is none (§2.4.15). */
  readonly getSpecificPortMappingEntry: (
    key: PortMappingEntry.Key
  ) => Effect.Effect<PortMappingEntry.PortMappingEntry, ActionError>
  /** The mappings in a range; error 730 says that there are none (version 2, §2.5.21). */
  readonly getListOfPortMappings: (
    request: ListRequest
  ) => Effect.Effect<ReadonlyArray<PortMappingEntry.PortMappingEntry>, ActionError>
  /**
   * All mappings, one call for each, 10,000 at most. Entries that make no sense, and those that the router shows to
   * their own host only (error 606), are left out; after 32 in a row the list ends, or fails where nothing else was in
   * it. A router that refuses to list by index is asked for ranges of ports where its service is of version 2: for
   * those from 1024 on, and then for this host's mappings alone, where more needs leave.
   */
  readonly portMappings: Stream.Stream<PortMappingEntry.PortMappingEntry, ActionError>
  /** The state of the line (§2.4.9). */
  readonly getStatusInfo: Effect.Effect<StatusInfo, ActionError>
  /** How the line is connected (§2.4.2). */
  readonly getConnectionTypeInfo: Effect.Effect<ConnectionTypeInfo, ActionError>
  /** What the gateway translates (§2.4.13). */
  readonly getNatRsipStatus: Effect.Effect<NatRsipStatus, ActionError>
  /** After how many seconds the line goes down whatever happens (§2.4.10); 0 is never. */
  readonly getAutoDisconnectTime: Effect.Effect<number | undefined, ActionError>
  /** After how many seconds without traffic the line goes down (§2.4.11); 0 is never. */
  readonly getIdleDisconnectTime: Effect.Effect<number | undefined, ActionError>
  /** How many seconds a disconnection is announced before it happens (§2.4.12). */
  readonly getWarnDisconnectDelay: Effect.Effect<number | undefined, ActionError>
}

const statusInfo = (list: Soap.Arguments): StatusInfo => ({
  connectionStatus: Results.text(list, "NewConnectionStatus"),
  lastConnectionError: Results.text(list, "NewLastConnectionError"),
  uptime: Results.uint(list, "NewUptime")
})

const connectionTypeInfo = (list: Soap.Arguments): ConnectionTypeInfo => ({
  connectionType: Results.text(list, "NewConnectionType"),
  possibleConnectionTypes: Results.text(list, "NewPossibleConnectionTypes")
    .split(",")
    .map((type) => type.trim())
    .filter((type) => type !== "")
})

const natRsipStatus = (list: Soap.Arguments): NatRsipStatus => ({
  rsipAvailable: Results.flag(list, "NewRSIPAvailable"),
  natEnabled: Results.flag(list, "NewNATEnabled")
})

const rangeArguments = (range: PortRange): Soap.Arguments => [
  ["NewStartPort", String(range.startPort)],
  ["NewEndPort", String(range.endPort)],
  ["NewProtocol", range.protocol],
  ["NewManage", range.manage ? "1" : "0"]
]

const entryOf = (results: Soap.Arguments, key?: PortMappingEntry.Key) =>
  Effect.fromResult(Result.mapError(PortMappingEntry.fromArguments(results, key), Results.malformed))

const entriesOf = (results: Soap.Arguments) =>
  Effect.fromResult(
    Result.mapError(PortMappingEntry.decodeList(Soap.argument(results, "NewPortListing") ?? ""), (detail) =>
      Results.malformed(`GetListOfPortMappings: ${detail}`)
    )
  )

const reservedPort = Effect.fnUntraced(function* (results: Soap.Arguments) {
  const port = Results.uint(results, "NewReservedPort")
  return yield* Results.required(
    port !== undefined && port > 0 && port <= 65_535 ? port : undefined,
    "AddAnyPortMapping",
    "NewReservedPort"
  )
})

/**
 * The actions of one service, called through the client of its router.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (client: SoapClient.SoapClient, wanService: DeviceDescription.WanService): WanIpConnection => {
  const call = (action: string, list: Soap.Arguments = []) => client.call(wanService.service, action, list)
  const seconds = (action: string) =>
    Effect.map(call(`Get${action}`), (results) => Results.uint(results, `New${action}`))
  const getGenericPortMappingEntry = (index: number) =>
    Effect.flatMap(call("GetGenericPortMappingEntry", [["NewPortMappingIndex", String(index)]]), (results) =>
      entryOf(results)
    )
  const getListOfPortMappings = (request: ListRequest) =>
    Effect.flatMap(
      call("GetListOfPortMappings", [...rangeArguments(request), ["NewNumberOfPorts", String(request.numberOfPorts)]]),
      entriesOf
    )
  return {
    wanService,
    addPortMapping: (added) => Effect.asVoid(call("AddPortMapping", PortMappingEntry.toArguments(added))),
    addAnyPortMapping: (added) =>
      Effect.flatMap(call("AddAnyPortMapping", PortMappingEntry.toArguments(added)), reservedPort),
    deletePortMapping: (key) => Effect.asVoid(call("DeletePortMapping", PortMappingEntry.keyArguments(key))),
    deletePortMappingRange: (range) => Effect.asVoid(call("DeletePortMappingRange", rangeArguments(range))),
    getExternalIpAddress: Effect.map(call("GetExternalIPAddress"), (results) =>
      Results.address(results, "NewExternalIPAddress")
    ),
    getGenericPortMappingEntry,
    getSpecificPortMappingEntry: (key) =>
      Effect.flatMap(call("GetSpecificPortMappingEntry", PortMappingEntry.keyArguments(key)), (results) =>
        entryOf(results, key)
      ),
    getListOfPortMappings,
    portMappings: PortMappingListing.entries({
      byIndex: getGenericPortMappingEntry,
      byRange: wanService.kind === "ip" && wanService.version >= 2 ? getListOfPortMappings : undefined
    }),
    getStatusInfo: Effect.map(call("GetStatusInfo"), statusInfo),
    getConnectionTypeInfo: Effect.map(call("GetConnectionTypeInfo"), connectionTypeInfo),
    getNatRsipStatus: Effect.map(call("GetNATRSIPStatus"), natRsipStatus),
    getAutoDisconnectTime: seconds("AutoDisconnectTime"),
    getIdleDisconnectTime: seconds("IdleDisconnectTime"),
    getWarnDisconnectDelay: seconds("WarnDisconnectDelay")
  }
}
