/**
 * The actions of a WANIPConnection or WANPPPConnection service.
 *
 * Every action fails with `UpnpFault` where the router refuses; `UpnpErrorCode.toNatError` says what a refusal means.
 *
 * @since 0.1.0
 */
import * as NatError from "@effect-nat/core/NatError"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as DeviceDescription from "./DeviceDescription.ts"
import * as WireText from "./internal/wireText.ts"
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
 * The state of the line (GetStatusInfo, WANIPConnection:1 §2.4.9).
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
 * The actions of one service of one router.
 *
 * @category models
 * @since 0.1.0
 */
export interface WanIpConnection {
  readonly wanService: DeviceDescription.WanService
  /** Adds a mapping, or renews it in place where it exists (§2.4.16). */
  readonly addPortMapping: (entry: PortMappingEntry.PortMappingEntry) => Effect.Effect<void, ActionError>
  /** Deletes a mapping, named by its external port (§2.4.17). */
  readonly deletePortMapping: (key: PortMappingEntry.Key) => Effect.Effect<void, ActionError>
  /** The router's address on the outside (§2.4.18); `undefined` where it has none now or says nothing that is one. */
  readonly getExternalIpAddress: Effect.Effect<NetAddress.IpAddress | undefined, ActionError>
  /** One mapping by its place in the list, from 0; error 713 is the end of the list (§2.4.14). */
  readonly getGenericPortMappingEntry: (index: number) => Effect.Effect<PortMappingEntry.PortMappingEntry, ActionError>
  /** One mapping by its key; error 714 says that there is none (§2.4.15). */
  readonly getSpecificPortMappingEntry: (
    key: PortMappingEntry.Key
  ) => Effect.Effect<PortMappingEntry.PortMappingEntry, ActionError>
  /** The state of the line (§2.4.9). */
  readonly getStatusInfo: Effect.Effect<StatusInfo, ActionError>
}

const externalAddress = (list: Soap.Arguments): NetAddress.IpAddress | undefined => {
  const address = Result.getOrUndefined(
    NetAddress.ipFromString(Soap.argument(list, "NewExternalIPAddress")?.trim() ?? "")
  )
  return address === undefined || NetAddress.isUnspecified(address) ? undefined : address
}

const maximumStatusLength = 60

const statusText = (list: Soap.Arguments, name: string): string =>
  WireText.oneLine(Soap.argument(list, name) ?? "", maximumStatusLength)

const malformed = (detail: string) => NatError.fromReason(new NatError.MalformedAnswer({ detail }))

/**
 * The actions of one service, called through the client of its router.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (client: SoapClient.SoapClient, wanService: DeviceDescription.WanService): WanIpConnection => {
  const call = (action: string, list: Soap.Arguments = []) => client.call(wanService.service, action, list)
  const entry = (results: Soap.Arguments, key?: PortMappingEntry.Key) =>
    Effect.fromResult(Result.mapError(PortMappingEntry.fromArguments(results, key), malformed))
  return {
    wanService,
    addPortMapping: (added) => Effect.asVoid(call("AddPortMapping", PortMappingEntry.toArguments(added))),
    deletePortMapping: (key) => Effect.asVoid(call("DeletePortMapping", PortMappingEntry.keyArguments(key))),
    getExternalIpAddress: Effect.map(call("GetExternalIPAddress"), externalAddress),
    getGenericPortMappingEntry: (index) =>
      Effect.flatMap(call("GetGenericPortMappingEntry", [["NewPortMappingIndex", String(index)]]), (results) =>
        entry(results)
      ),
    getSpecificPortMappingEntry: (key) =>
      Effect.flatMap(call("GetSpecificPortMappingEntry", PortMappingEntry.keyArguments(key)), (results) =>
        entry(results, key)
      ),
    getStatusInfo: Effect.map(call("GetStatusInfo"), (results) => ({
      connectionStatus: statusText(results, "NewConnectionStatus"),
      lastConnectionError: statusText(results, "NewLastConnectionError"),
      uptime: WireText.parseUint32(Soap.argument(results, "NewUptime"))
    }))
  }
}
