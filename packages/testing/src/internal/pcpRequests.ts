/**
 * What a MAP or PEER request asks for, understood and checked, or the result code that it is refused with.
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as ResultCode from "@effect-nat/natpmp/PcpResultCode"
import * as Equal from "effect/Equal"
import * as IpInterface from "effect/net/IpInterface"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as PeerFilter from "../PeerFilter.ts"

const { Code } = ResultCode

/** A value, or a result code. */
export type Checked<A> = Result.Result<A, number>

type FilterOption = Extract<Codec.PcpOption, { readonly _tag: "Filter" }>

/** What a router is set to, and what it lacks. */
export interface Policy {
  readonly allowsThirdParty: boolean
  readonly knowsPreferFailure: boolean
}

/** A request as the router understands it. */
export interface Wanted<Request extends Codec.MapRequest | Codec.PeerRequest> {
  readonly request: Request
  /** Who asks. */
  readonly client: NetAddress.IpAddress
  /** For whom: the host that asks, or a third party. */
  readonly internalAddress: NetAddress.IpAddress
  readonly protocol: PortMapping.Protocol
  /** Of the options that the router knows: what was not processed is left out of the answer (RFC 6887 §7.3). */
  readonly options: ReadonlyArray<Codec.PcpOption>
}

/** A MAP request as the router understands it. */
export interface WantedMap extends Wanted<Codec.MapRequest> {
  readonly prefersFailure: boolean
  readonly filters: ReadonlyArray<FilterOption>
}

/** More filters for one mapping are too many. */
export const maximumFilters = 8

const isFilter = (option: Codec.PcpOption): option is FilterOption => option._tag === "Filter"

/** Options that a PEER may have; FILTER and PREFER_FAILURE are for MAP only (RFC 6887 §13.2, §13.3). */
const ofPeer: ReadonlySet<Codec.PcpOption["_tag"]> = new Set(["ThirdParty"])
const ofMap: ReadonlySet<Codec.PcpOption["_tag"]> = new Set(["ThirdParty", "PreferFailure", "Filter"])

const protocolOf = ({
  internalPort,
  protocol
}: Codec.MapRequest | Codec.PeerRequest): Checked<PortMapping.Protocol> => {
  switch (protocol) {
    case Codec.ProtocolNumber.tcp:
      return Result.succeed("tcp")
    case Codec.ProtocolNumber.udp:
      return Result.succeed("udp")
    case Codec.ProtocolNumber.all:
      return Result.fail(internalPort === 0 ? Code.unsupportedProtocol : Code.malformedRequest)
    default:
      return Result.fail(Code.unsupportedProtocol)
  }
}

const count = (options: ReadonlyArray<Codec.PcpOption>, tag: Codec.PcpOption["_tag"]): number =>
  options.filter((option) => option._tag === tag).length

const understand = <Request extends Codec.MapRequest | Codec.PeerRequest>(
  request: Request,
  client: NetAddress.IpAddress,
  known: ReadonlySet<Codec.PcpOption["_tag"]>
): Checked<Wanted<Request>> => {
  const isKnown = (option: Codec.PcpOption) => known.has(option._tag)
  if (request.options.some((option) => !isKnown(option) && Codec.isMandatory(option))) {
    return Result.fail(Code.unsupportedOption)
  }
  const options = request.options.filter(isKnown)
  if (count(options, "ThirdParty") > 1) return Result.fail(Code.malformedOption)
  const thirdParty = options.find((option) => option._tag === "ThirdParty")?.internalAddress
  if (Equal.equals(thirdParty, client)) return Result.fail(Code.malformedRequest)
  return Result.map(protocolOf(request), (protocol) => ({
    request,
    client,
    internalAddress: thirdParty ?? client,
    protocol,
    options
  }))
}

const knownOf = (of: ReadonlySet<Codec.PcpOption["_tag"]>, policy: Policy): ReadonlySet<Codec.PcpOption["_tag"]> =>
  new Set(
    [...of].filter(
      (tag) =>
        (tag !== "ThirdParty" || policy.allowsThirdParty) && (tag !== "PreferFailure" || policy.knowsPreferFailure)
    )
  )

/** A MAP request (RFC 6887 §11.3, §13). */
export const understandMap = (
  request: Codec.MapRequest,
  client: NetAddress.IpAddress,
  policy: Policy
): Checked<WantedMap> =>
  Result.flatMap(understand(request, client, knownOf(ofMap, policy)), (wanted): Checked<WantedMap> => {
    const { options } = wanted
    if (count(options, "PreferFailure") > 1) return Result.fail(Code.malformedOption)
    const prefersFailure = count(options, "PreferFailure") === 1
    if (prefersFailure && request.lifetime !== 0 && request.externalPort === 0) {
      return Result.fail(Code.malformedOption)
    }
    // A host that gets everything is none of these routers' business.
    if (request.internalPort === 0 && request.lifetime !== 0) return Result.fail(Code.notAuthorized)
    return Result.succeed({ ...wanted, prefersFailure, filters: options.filter(isFilter) })
  })

/** A PEER request (RFC 6887 §12.3). */
export const understandPeer = (
  request: Codec.PeerRequest,
  client: NetAddress.IpAddress,
  policy: Policy
): Checked<Wanted<Codec.PeerRequest>> => {
  const { internalPort, remotePeerAddress, remotePeerPort } = request
  const isNobody = internalPort === 0 || remotePeerPort === 0 || NetAddress.isUnspecified(remotePeerAddress)
  if (isNobody) return Result.fail(Code.malformedRequest)
  return Result.flatMap(
    understand(request, client, knownOf(ofPeer, policy)),
    (wanted): Checked<Wanted<Codec.PeerRequest>> =>
      NetAddress.familyOf(wanted.internalAddress) === NetAddress.familyOf(remotePeerAddress)
        ? Result.succeed(wanted)
        : Result.fail(Code.malformedRequest)
  )
}

/** The 128 bits of a prefix on the wire count those before an IPv4 address, too; what follows the prefix is ignored. */
const networkOf = ({ prefixLength, remotePeerAddress }: FilterOption): IpNetwork.IpNetwork => {
  const length = NetAddress.isIpv4Address(remotePeerAddress) ? prefixLength - 96 : prefixLength
  return IpNetwork.fromInterface(IpInterface.makeUnsafe(remotePeerAddress, length))
}

/** The filters of a mapping after a request, one after the other: each is added, and one of no length removes all before. */
export const filtersAfter = (
  known: ReadonlyArray<PeerFilter.PeerFilter>,
  { filters }: WantedMap
): Checked<ReadonlyArray<PeerFilter.PeerFilter>> => {
  let result = [...known]
  for (const filter of filters) {
    if (filter.prefixLength === 0) {
      result = []
      continue
    }
    const added = { network: networkOf(filter), port: filter.remotePeerPort }
    if (!result.some((one) => PeerFilter.isSame(one, added))) result.push(added)
  }
  return result.length > maximumFilters ? Result.fail(Code.excessiveRemotePeers) : Result.succeed(result)
}
