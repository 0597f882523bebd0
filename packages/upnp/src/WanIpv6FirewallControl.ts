/**
 * The actions of a WANIPv6FirewallControl service: pinholes, which let packets from the internet through the router's
 * IPv6 firewall to one host. Nothing is translated: the host's own global address and port are what the world uses.
 *
 * Every action fails with `UpnpFault` where the router refuses. Its error codes 701 to 709 are not those of the
 * connection services: `UpnpErrorCode.toNatError` tells them apart by the action. Most routers let a host open
 * pinholes to itself only. Sections are those of WANIPv6FirewallControl:1.
 *
 * @since 0.1.0
 */
import * as NatError from "@effect-nat/core/NatError"
import * as Effect from "effect/Effect"
import type * as DeviceDescription from "./DeviceDescription.ts"
import * as Results from "./internal/results.ts"
import type * as Soap from "./Soap.ts"
import type * as SoapClient from "./SoapClient.ts"
import type * as WanIpConnection from "./WanIpConnection.ts"

/**
 * The state of the firewall (GetFirewallStatus, §2.6.1).
 *
 * @category models
 * @since 0.1.0
 */
export interface FirewallStatus {
  /** Whether there is a firewall at work; without one, every host can be reached. */
  readonly isEnabled: boolean
  /** Whether pinholes may be opened. */
  readonly isInboundPinholeAllowed: boolean
}

/**
 * The packets that a pinhole is for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Flow {
  /** The only remote host whose packets are let in; an empty string is any, and the usual value. */
  readonly remoteHost: string
  /** The port on the remote host; 0 is any, and the usual value. */
  readonly remotePort: number
  /** The global IPv6 address of the host on the inside. */
  readonly internalClient: string
  /** The port on the inside; 0 is any, which routers may refuse with error 706. */
  readonly internalPort: number
  readonly protocol: "TCP" | "UDP"
}

/**
 * A pinhole to be opened.
 *
 * @category models
 * @since 0.1.0
 */
export interface PinholeRequest extends Flow {
  /** In seconds, from 1 to `longestLease`: no pinhole is without an end. */
  readonly leaseSeconds: number
}

/**
 * The longest lease of a pinhole, in seconds: a day (§2.4.8).
 *
 * @category constants
 * @since 0.1.0
 */
export const longestLease: number = 86_400

/**
 * The actions of one service of one router.
 *
 * @category models
 * @since 0.1.0
 */
export interface WanIpv6FirewallControl {
  readonly service: DeviceDescription.Service
  /** The state of the firewall (§2.6.1). */
  readonly getFirewallStatus: Effect.Effect<FirewallStatus, WanIpConnection.ActionError>
  /** For how many seconds the firewall lets answers in after packets of a flow went out (§2.6.2). */
  readonly getOutboundPinholeTimeout: (flow: Flow) => Effect.Effect<number, WanIpConnection.ActionError>
  /**
   * Opens a pinhole; its unique id, from 0 to 65535 (§2.6.3). Where the router has it already, its lease is extended
   * and the id is the same. A lease out of range fails with `InvalidRequest`, and nothing is sent.
   */
  readonly addPinhole: (request: PinholeRequest) => Effect.Effect<number, WanIpConnection.ActionError>
  /** Gives a pinhole a new lease, which begins now (§2.6.4); error 704 says that there is none. */
  readonly updatePinhole: (update: {
    readonly uniqueId: number
    /** In seconds, from 1 to `longestLease`. */
    readonly leaseSeconds: number
  }) => Effect.Effect<void, WanIpConnection.ActionError>
  /** Closes a pinhole (§2.6.5); error 704 says that there is none. */
  readonly deletePinhole: (uniqueId: number) => Effect.Effect<void, WanIpConnection.ActionError>
  /**
   * How many packets came in through a pinhole (§2.6.6). A counter of 32 bits that begins again at 0 when it is full.
   */
  readonly getPinholePackets: (uniqueId: number) => Effect.Effect<number, WanIpConnection.ActionError>
  /** Whether packets came in through a pinhole (§2.6.7); error 709 says that none arrived, so that nothing is known. */
  readonly checkPinholeWorking: (uniqueId: number) => Effect.Effect<boolean, WanIpConnection.ActionError>
}

/** The numbers of the transport protocols as IP has them. */
const protocolNumber = { TCP: "6", UDP: "17" } as const

const flowArguments = (flow: Flow): Soap.Arguments => [
  ["RemoteHost", flow.remoteHost],
  ["RemotePort", String(flow.remotePort)],
  ["InternalClient", flow.internalClient],
  ["InternalPort", String(flow.internalPort)],
  ["Protocol", protocolNumber[flow.protocol]]
]

const idArguments = (uniqueId: number): Soap.Arguments => [["UniqueID", String(uniqueId)]]

const checkLease = (seconds: number): Effect.Effect<void, NatError.NatError> =>
  Number.isInteger(seconds) && seconds >= 1 && seconds <= longestLease
    ? Effect.void
    : Effect.fail(
        NatError.fromReason(
          new NatError.InvalidRequest({
            detail: `a pinhole's lease is from 1 to ${longestLease} whole seconds, not ${seconds}`
          })
        )
      )

const maximumId = 65_535

const idOf = (results: Soap.Arguments): number | undefined => {
  const id = Results.uint(results, "UniqueID")
  return id !== undefined && id <= maximumId ? id : undefined
}

/**
 * The actions of one service, called through the client of its router. `DeviceDescription.servicesOf` finds it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (client: SoapClient.SoapClient, service: DeviceDescription.Service): WanIpv6FirewallControl => {
  const call = (action: string, list: Soap.Arguments = []) => client.call(service, action, list)
  const read = <A>(
    action: string,
    list: Soap.Arguments,
    name: string,
    value: (results: Soap.Arguments, name: string) => A | undefined
  ) => Effect.flatMap(call(action, list), (results) => Results.required(value(results, name), action, name))
  return {
    service,
    getFirewallStatus: Effect.flatMap(call("GetFirewallStatus"), (results) =>
      Effect.all({
        isEnabled: Results.required(Results.flag(results, "FirewallEnabled"), "GetFirewallStatus", "FirewallEnabled"),
        isInboundPinholeAllowed: Results.required(
          Results.flag(results, "InboundPinholeAllowed"),
          "GetFirewallStatus",
          "InboundPinholeAllowed"
        )
      })
    ),
    getOutboundPinholeTimeout: (flow) =>
      read("GetOutboundPinholeTimeout", flowArguments(flow), "OutboundPinholeTimeout", Results.uint),
    addPinhole: (request) =>
      Effect.andThen(
        checkLease(request.leaseSeconds),
        read("AddPinhole", [...flowArguments(request), ["LeaseTime", String(request.leaseSeconds)]], "UniqueID", idOf)
      ),
    updatePinhole: ({ leaseSeconds, uniqueId }) =>
      Effect.andThen(
        checkLease(leaseSeconds),
        Effect.asVoid(call("UpdatePinhole", [...idArguments(uniqueId), ["NewLeaseTime", String(leaseSeconds)]]))
      ),
    deletePinhole: (uniqueId) => Effect.asVoid(call("DeletePinhole", idArguments(uniqueId))),
    getPinholePackets: (uniqueId) =>
      read("GetPinholePackets", idArguments(uniqueId), "PinholePackets", Results.counter),
    checkPinholeWorking: (uniqueId) => read("CheckPinholeWorking", idArguments(uniqueId), "IsWorking", Results.flag)
  }
}
