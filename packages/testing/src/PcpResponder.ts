/**
 * The router's side of the Port Control Protocol (RFC 6887): a pure function from a request and a `RouterModel` to the
 * answer.
 *
 * It speaks all of RFC 6887: ANNOUNCE, MAP and PEER, with PREFER_FAILURE, FILTER and, where it is switched on,
 * THIRD_PARTY. For an IPv4 host a MAP is a mapping in the model's table; for an IPv6 host, whose address the world
 * knows, it is a pinhole in the model's firewall. Mappings of every protocol or of every port are refused. Every request
 * is written down in the model's `asked`, also one that goes unanswered.
 *
 * What it says unasked: `announcement`, to everybody or to one host, and `mappingUpdate`.
 *
 * **Example** (Ask a simulated router whether it speaks PCP)
 *
 * ```ts
 * import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
 * import * as PcpResponder from "@effect-nat/testing/PcpResponder"
 * import * as RouterModel from "@effect-nat/testing/RouterModel"
 * import * as NetAddress from "effect/net/NetAddress"
 *
 * const router = new RouterModel.RouterModel()
 * const client = NetAddress.ipFromStringUnsafe("192.168.77.2")
 * const request = PcpCodec.encodeRequest({ _tag: "AnnounceRequest", clientAddress: client, options: [] })
 *
 * console.log(PcpResponder.respond(router, 0, request, client)) // 24 bytes, with the epoch
 * ```
 *
 * @since 0.1.0
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as ResultCode from "@effect-nat/natpmp/PcpResultCode"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as PcpRequests from "./internal/pcpRequests.ts"
import * as NatPmpResponder from "./NatPmpResponder.ts"
import type * as PinholeTable from "./PinholeTable.ts"
import type * as RouterModel from "./RouterModel.ts"

/**
 * What a router allows.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Whether hosts may map ports of other hosts. Defaults to `false`, as RFC 6887 §13.1 wants it. */
  readonly thirdParty?: boolean | undefined
}

const { Code } = ResultCode

/** What PCP has for the refusals of the model (RFC 6887 §7.4). */
const resultCodes: Readonly<Record<RouterModel.RefusalKind, number>> = {
  Conflict: Code.cannotProvideExternal,
  NotAuthorized: Code.notAuthorized,
  OutOfResources: Code.noResources,
  OnlyPermanentLeases: Code.notAuthorized,
  SamePortRequired: Code.cannotProvideExternal,
  RemoteHostWildcardOnly: Code.excessiveRemotePeers,
  ExternalPortWildcardOnly: Code.cannotProvideExternal,
  ExternalPortWildcardForbidden: Code.notAuthorized,
  InternalPortWildcardForbidden: Code.notAuthorized,
  NoSuchEntry: Code.noResources,
  InvalidLifetime: Code.notAuthorized,
  NetworkFailure: Code.networkFailure,
  ActionFailed: Code.noResources
}

/** What PCP has for the refusals of the firewall. */
const pinholeCodes: Readonly<Record<PinholeTable.Refusal, number>> = {
  NotAuthorized: Code.notAuthorized,
  SpaceExhausted: Code.noResources,
  FirewallDisabled: Code.notAuthorized,
  InboundPinholeNotAllowed: Code.notAuthorized,
  NoSuchEntry: Code.noResources,
  ProtocolNotSupported: Code.unsupportedProtocol,
  InternalPortWildcard: Code.notAuthorized,
  ProtocolWildcard: Code.unsupportedProtocol,
  NoPacketSent: Code.noResources
}

/** Why bytes were not read, as a result code; those without one are dropped (RFC 6887 §8.2). */
const unreadCode = (error: Codec.DecodeError): number | undefined => {
  switch (error.kind) {
    case "NotARequest":
    case "NotAResponse":
      return undefined
    case "TooShort":
      return error.length < 2 ? undefined : Code.malformedRequest
    case "BadLength":
      return Code.malformedRequest
    case "UnsupportedVersion":
      return Code.unsupportedVersion
    case "UnsupportedOpcode":
      return Code.unsupportedOpcode
    case "MalformedOption":
      return Code.malformedOption
  }
}

type Checked<A> = PcpRequests.Checked<A>
type WantedMap = PcpRequests.WantedMap
type WantedPeer = PcpRequests.Wanted<Codec.PeerRequest>

type Granted = Pick<Codec.MapResponse, "externalAddress" | "externalPort" | "lifetime">

const mapResponse = (
  model: RouterModel.RouterModel,
  now: number,
  { options, request }: WantedMap,
  granted: Granted
): Codec.MapResponse => ({
  _tag: "MapResponse",
  epoch: model.pcpEpochSeconds(now),
  nonce: request.nonce,
  protocol: request.protocol,
  internalPort: request.internalPort,
  options,
  ...granted
})

/** Only who has made a mapping may change it (RFC 6887 §11.3). */
const isSameNonce = (
  model: RouterModel.RouterModel,
  known: { readonly nonce: string | undefined },
  { nonce }: Pick<Codec.MapRequest, "nonce">
): boolean => known.nonce === nonce || model.has("IgnoresNonces")

const secondsUntil = (expiresAt: number, now: number): number => Math.floor((expiresAt - now) / 1000)

// -----------------------------------------------------------------------------
// MAP for IPv4 hosts: the mapping table
// -----------------------------------------------------------------------------

/** The rows of the internal port that is meant, whoever made them. */
const isOf =
  ({ internalAddress, protocol, request }: WantedMap) =>
  (entry: RouterModel.Entry): boolean =>
    entry.protocol === protocol &&
    (request.internalPort === 0 || entry.internalPort === request.internalPort) &&
    Equal.equals(entry.internalAddress, internalAddress)

const deleteMapping = (model: RouterModel.RouterModel, now: number, wanted: WantedMap): Checked<Codec.MapResponse> => {
  const { request } = wanted
  const isMeant = isOf(wanted)
  const isOwn = (entry: RouterModel.Entry) => isSameNonce(model, entry, request)
  const meant = model.entries(now).filter(isMeant)
  if (meant.length === 0 && model.has("DeletionSaysNoResources")) return Result.fail(Code.noResources)
  const isForeign = meant.length > 0 && !meant.some(isOwn)
  if (isForeign && request.internalPort !== 0) return Result.fail(Code.notAuthorized)
  // What is not there counts as deleted, so how many there were makes no difference.
  model.unmap(now, (entry) => isMeant(entry) && isOwn(entry))
  const { externalAddress, externalPort } = request
  return Result.succeed(mapResponse(model, now, wanted, { externalAddress, externalPort, lifetime: 0 }))
}

/** Whether the external end that is insisted on cannot be had, whichever ports are free. */
const isElsewhere = (
  model: RouterModel.RouterModel,
  wanted: WantedMap,
  known: RouterModel.Entry | undefined
): boolean => {
  const { externalAddress, externalPort } = wanted.request
  if (known !== undefined && known.externalPort !== externalPort) return true
  return !NetAddress.isUnspecified(externalAddress) && !Equal.equals(externalAddress, model.externalAddress)
}

const makeMapping = (model: RouterModel.RouterModel, now: number, wanted: WantedMap): Checked<Codec.MapResponse> => {
  const { client, internalAddress, prefersFailure, protocol, request } = wanted
  const { internalPort, lifetime, nonce } = request
  const meant = model.entries(now).filter(isOf(wanted))
  const known = meant.find((entry) => entry.nonce === nonce) ?? meant[0]
  // Also what was mapped without any nonce, over another protocol, is not this client's to change.
  if (known !== undefined && !isSameNonce(model, known, request)) return Result.fail(Code.notAuthorized)
  if (prefersFailure && model.externalAddress !== undefined && isElsewhere(model, wanted, known)) {
    return Result.fail(Code.cannotProvideExternal)
  }
  const filters = PcpRequests.filtersAfter(known?.filters ?? [], wanted)
  if (Result.isFailure(filters)) return Result.fail(filters.failure)
  const mapped = model.map(now, {
    via: "pcp",
    client,
    protocol,
    externalPort: request.externalPort,
    mayChoosePort: !prefersFailure,
    internalAddress,
    internalPort,
    lifetimeSeconds: lifetime,
    description: `PCP MAP ${internalPort} ${protocol}`,
    nonce,
    filters: filters.success
  })
  if (Result.isFailure(mapped)) return Result.fail(resultCodes[mapped.failure.kind])
  const { expiresAt, externalPort } = mapped.success
  return Result.succeed(
    mapResponse(model, now, wanted, {
      externalAddress: model.externalAddress ?? NetAddress.ipv4Unspecified,
      externalPort,
      lifetime: expiresAt === undefined ? lifetime : secondsUntil(expiresAt, now)
    })
  )
}

// -----------------------------------------------------------------------------
// MAP for IPv6 hosts: the firewall
// -----------------------------------------------------------------------------

/** The pinhole for everybody to the port that is meant, or all of a protocol. */
const isPinholeOf =
  ({ internalAddress, request }: WantedMap) =>
  (pinhole: PinholeTable.Pinhole): boolean =>
    pinhole.protocol === request.protocol &&
    pinhole.remoteHost === undefined &&
    pinhole.remotePort === 0 &&
    (request.internalPort === 0 || pinhole.internalPort === request.internalPort) &&
    Equal.equals(pinhole.internalClient, internalAddress)

const closePinholes = (model: RouterModel.RouterModel, now: number, wanted: WantedMap): Checked<Codec.MapResponse> => {
  const { internalAddress, request } = wanted
  const meant = model.pinholes.entries(now).filter(isPinholeOf(wanted))
  if (meant.length === 0 && model.has("DeletionSaysNoResources")) return Result.fail(Code.noResources)
  const own = meant.filter((pinhole) => isSameNonce(model, pinhole, request))
  if (meant.length > 0 && own.length === 0 && request.internalPort !== 0) return Result.fail(Code.notAuthorized)
  for (const { uniqueId } of own) model.pinholes.remove(now, uniqueId)
  const { internalPort: externalPort } = request
  return Result.succeed(
    mapResponse(model, now, wanted, { externalAddress: internalAddress, externalPort, lifetime: 0 })
  )
}

/** The world sees a host as it is: nothing else can be provided. */
const isNotItself = ({ internalAddress, request }: WantedMap): boolean =>
  request.externalPort !== request.internalPort ||
  !(NetAddress.isUnspecified(request.externalAddress) || Equal.equals(request.externalAddress, internalAddress))

const pinholeCode = (refusal: PinholeTable.Refusal | RouterModel.Refusal): number =>
  typeof refusal === "string" ? pinholeCodes[refusal] : resultCodes[refusal.kind]

const openPinhole = (model: RouterModel.RouterModel, now: number, wanted: WantedMap): Checked<Codec.MapResponse> => {
  const { client, internalAddress, prefersFailure, request } = wanted
  const { internalPort, lifetime, nonce, protocol } = request
  const known = model.pinholes.entries(now).find(isPinholeOf(wanted))
  if (known !== undefined && !isSameNonce(model, known, request)) return Result.fail(Code.notAuthorized)
  if (prefersFailure && isNotItself(wanted)) return Result.fail(Code.cannotProvideExternal)
  const filters = PcpRequests.filtersAfter(known?.filters ?? [], wanted)
  if (Result.isFailure(filters)) return Result.fail(filters.failure)
  const opened = model.mapPinhole(now, {
    via: "pcp",
    client,
    protocol,
    internalClient: internalAddress,
    internalPort,
    remoteHost: undefined,
    remotePort: 0,
    lifetimeSeconds: lifetime,
    nonce,
    filters: filters.success
  })
  return Result.mapBoth(opened, {
    onFailure: pinholeCode,
    onSuccess: ({ expiresAt }) =>
      mapResponse(model, now, wanted, {
        externalAddress: internalAddress,
        externalPort: internalPort,
        lifetime: secondsUntil(expiresAt, now)
      })
  })
}

const answerMap = (model: RouterModel.RouterModel, now: number, wanted: WantedMap): Checked<Codec.MapResponse> => {
  const isDeletion = wanted.request.lifetime === 0
  if (NetAddress.isIpv4Address(wanted.internalAddress)) {
    return isDeletion ? deleteMapping(model, now, wanted) : makeMapping(model, now, wanted)
  }
  return isDeletion ? closePinholes(model, now, wanted) : openPinhole(model, now, wanted)
}

// -----------------------------------------------------------------------------
// PEER
// -----------------------------------------------------------------------------

const peerResponse = (
  model: RouterModel.RouterModel,
  now: number,
  { options, request }: WantedPeer,
  granted: Granted
): Codec.PeerResponse => ({
  _tag: "PeerResponse",
  epoch: model.pcpEpochSeconds(now),
  nonce: request.nonce,
  protocol: request.protocol,
  internalPort: request.internalPort,
  remotePeerPort: request.remotePeerPort,
  remotePeerAddress: request.remotePeerAddress,
  options,
  ...granted
})

/** A lifetime of 0 deletes nothing: what was kept longer has its usual lifetime again, which is over here. */
const answerPeer = (model: RouterModel.RouterModel, now: number, wanted: WantedPeer): Checked<Codec.PeerResponse> => {
  const { client, internalAddress, protocol, request } = wanted
  const { externalPort, internalPort, lifetime, nonce } = request
  const remote = NetAddress.inetAddressUnsafe(request.remotePeerAddress, request.remotePeerPort)
  const flow = { protocol, internalAddress, internalPort, remote }
  const known = model.peers.find(now, flow)
  if (known !== undefined && !isSameNonce(model, known, request)) return Result.fail(Code.notAuthorized)
  const externalAddress = model.externalAddress ?? NetAddress.ipv4Unspecified
  if (lifetime === 0) {
    model.peers.remove(now, flow)
    return Result.succeed(
      peerResponse(model, now, wanted, {
        externalAddress,
        externalPort: known?.externalPort ?? externalPort,
        lifetime: 0
      })
    )
  }
  const kept = model.peer(now, { ...flow, via: "pcp", client, externalPort, lifetimeSeconds: lifetime, nonce })
  return Result.mapBoth(kept, {
    onFailure: ({ kind }) => resultCodes[kind],
    onSuccess: ({ expiresAt, externalPort }) =>
      peerResponse(model, now, wanted, { externalAddress, externalPort, lifetime: secondsUntil(expiresAt, now) })
  })
}

/** Through a firewall it is the pinhole for one peer: nothing is translated. */
const answerPeerThroughFirewall = (
  model: RouterModel.RouterModel,
  now: number,
  wanted: WantedPeer
): Checked<Codec.PeerResponse> => {
  const { client, internalAddress, request } = wanted
  const { internalPort, lifetime, nonce, protocol } = request
  const end = { externalAddress: internalAddress, externalPort: internalPort }
  const flow = {
    protocol,
    internalClient: internalAddress,
    internalPort,
    remoteHost: request.remotePeerAddress,
    remotePort: request.remotePeerPort
  }
  const known = model.pinholes.findFlow(now, flow)
  if (known !== undefined && !isSameNonce(model, known, request)) return Result.fail(Code.notAuthorized)
  if (lifetime === 0) {
    if (known !== undefined) model.pinholes.remove(now, known.uniqueId)
    return Result.succeed(peerResponse(model, now, wanted, { ...end, lifetime: 0 }))
  }
  const opened = model.mapPinhole(now, { ...flow, via: "pcp", client, lifetimeSeconds: lifetime, nonce })
  return Result.mapBoth(opened, {
    onFailure: pinholeCode,
    onSuccess: ({ expiresAt }) => peerResponse(model, now, wanted, { ...end, lifetime: secondsUntil(expiresAt, now) })
  })
}

// -----------------------------------------------------------------------------
// Every request
// -----------------------------------------------------------------------------

const answerAnnounce = (
  model: RouterModel.RouterModel,
  now: number,
  { options }: Codec.AnnounceRequest
): Checked<Codec.AnnounceResponse> => {
  if (model.has("AnnounceUnsupported")) return Result.fail(Code.unsupportedOpcode)
  return options.some(Codec.isMandatory)
    ? Result.fail(Code.unsupportedOption)
    : Result.succeed({ _tag: "AnnounceResponse", epoch: model.pcpEpochSeconds(now), options: [] })
}

const answer = (
  model: RouterModel.RouterModel,
  now: number,
  request: Codec.Request,
  source: NetAddress.IpAddress,
  allowed: Options
): Checked<Codec.Response> => {
  // Whatever the opcode: a NAT between would lead packets to somebody else.
  const isElsewhere = !Equal.equals(request.clientAddress, source) || model.has("SeesAnotherAddress")
  if (isElsewhere) return Result.fail(Code.addressMismatch)
  const policy: PcpRequests.Policy = {
    allowsThirdParty: allowed.thirdParty === true,
    knowsPreferFailure: !model.has("PreferFailureUnsupported")
  }
  switch (request._tag) {
    case "AnnounceRequest":
      return answerAnnounce(model, now, request)
    case "PeerRequest":
      return Result.flatMap(PcpRequests.understandPeer(request, source, policy), (wanted) =>
        NetAddress.isIpv4Address(wanted.internalAddress)
          ? answerPeer(model, now, wanted)
          : answerPeerThroughFirewall(model, now, wanted)
      )
    case "MapRequest":
      return Result.flatMap(PcpRequests.understandMap(request, source, policy), (wanted) =>
        answerMap(model, now, wanted)
      )
  }
}

const actionOf = (request: Codec.Request): string => {
  if (request._tag === "AnnounceRequest") return "announce"
  if (request._tag === "PeerRequest") return "peer"
  return request.lifetime === 0 ? "delete" : "map"
}

const refuse = (
  model: RouterModel.RouterModel,
  now: number,
  request: Uint8Array,
  resultCode: number,
  isParsed: boolean
): Uint8Array =>
  Codec.encodeResponse(
    Codec.refusalOf(request, {
      resultCode,
      lifetime: ResultCode.lifetimeSeconds(resultCode),
      epoch: model.pcpEpochSeconds(now),
      isParsed
    })
  )

/** The version that a router with a quirk says it speaks when it refuses PCP's. */
const versionToldBy = (model: RouterModel.RouterModel): number | undefined => {
  if (model.has("AnswersPcpWithVersion1")) return 1
  return model.has("RefusesOwnVersion") ? Codec.version : undefined
}

/** A router with a quirk that does not even look at what is asked. */
const refuseVersion = (
  model: RouterModel.RouterModel,
  now: number,
  datagram: Uint8Array,
  version: number
): Uint8Array => {
  const refused = refuse(model, now, datagram, Code.unsupportedVersion, false)
  refused[0] = version
  return refused
}

/**
 * Answers a datagram as RFC 6887 §8.2, §11.3, §12.3 and §14.1 say, and changes the model as it asks. `undefined` where
 * nothing goes back: to an answer, to a single byte, and while the router is silent.
 *
 * Another version than PCP's is refused with UNSUPP_VERSION, NAT-PMP's too; a router that speaks both is
 * `respondToBoth`. A mapping can be extended and deleted only with its nonce, so what was mapped over another protocol
 * cannot (NOT_AUTHORIZED).
 *
 * @category responses
 * @since 0.1.0
 */
export const respond = (
  model: RouterModel.RouterModel,
  now: number,
  datagram: Uint8Array,
  source: NetAddress.IpAddress,
  options: Options = {}
): Uint8Array | undefined => {
  const request = Codec.decodeRequest(datagram)
  const asked = { at: now, via: "pcp", client: source } as const
  const version = versionToldBy(model)
  return Result.match(request, {
    onFailure: (error) =>
      model.serve({ ...asked, action: error.kind, isMutating: false }, () => {
        const code = unreadCode(error)
        return code === undefined || model.has("IgnoresPcp") ? undefined : refuse(model, now, datagram, code, false)
      }),
    onSuccess: (read) =>
      model.serve({ ...asked, action: actionOf(read), isMutating: read._tag !== "AnnounceRequest" }, () => {
        if (model.has("IgnoresPcp")) return undefined
        if (version !== undefined) return refuseVersion(model, now, datagram, version)
        return Result.match(answer(model, now, read, source, options), {
          onFailure: (code) => refuse(model, now, datagram, code, true),
          onSuccess: Codec.encodeResponse
        })
      })
  })
}

/**
 * Answers a datagram as a router does that speaks both protocols on their one port: version 0 is NAT-PMP (RFC 6887 §9).
 *
 * @category responses
 * @since 0.1.0
 */
export const respondToBoth = (
  model: RouterModel.RouterModel,
  now: number,
  datagram: Uint8Array,
  source: NetAddress.IpAddress,
  options: Options = {}
): Uint8Array | undefined =>
  datagram[0] === 0
    ? NatPmpResponder.respond(model, now, datagram, source)
    : respond(model, now, datagram, source, options)

/**
 * Answers a datagram to the port that NAT-PMP and PCP share.
 *
 * @category models
 * @since 0.1.0
 */
export type Responder = (
  model: RouterModel.RouterModel,
  now: number,
  datagram: Uint8Array,
  source: NetAddress.IpAddress,
  options?: Options
) => Uint8Array | undefined

/**
 * How a router answers on the port that NAT-PMP and PCP share when it speaks the given protocols and no others;
 * `undefined` where nobody listens there, since it speaks neither.
 *
 * @category responses
 * @since 0.1.0
 */
export const responderFor = (protocols: ReadonlyArray<RouterModel.Via>): Responder | undefined => {
  if (!protocols.includes("pcp")) return protocols.includes("natpmp") ? NatPmpResponder.respond : undefined
  return protocols.includes("natpmp") ? respondToBoth : respond
}

/**
 * What a router sends to 224.0.0.1 and ff02::1, port 5350, when it has lost its mappings or has another external
 * address, and to hosts that it remembers (RFC 6887 §14.1).
 *
 * @category announcements
 * @since 0.1.0
 */
export const announcement = (model: RouterModel.RouterModel, now: number): Uint8Array =>
  Codec.encodeResponse({ _tag: "AnnounceResponse", epoch: model.pcpEpochSeconds(now), options: [] })

const protocolNumber = (protocol: PortMapping.Protocol): number => Codec.ProtocolNumber[protocol]

/**
 * What a router sends to the client of a mapping, port 5350, when the mapping's external end has changed
 * (RFC 6887 §14.2): the mapping as it is now. `undefined` where it is gone, was made over another protocol, or the line
 * has no address.
 *
 * @category announcements
 * @since 0.1.0
 */
export const mappingUpdate = (
  model: RouterModel.RouterModel,
  now: number,
  mapping: RouterModel.Entry
): Uint8Array | undefined => {
  const { externalAddress } = model
  const { client, internalAddress, internalPort, nonce, protocol } = mapping
  const entry = model
    .entries(now)
    .find(
      (one) =>
        one.nonce === nonce &&
        one.protocol === protocol &&
        one.internalPort === internalPort &&
        Equal.equals(one.internalAddress, internalAddress)
    )
  if (entry === undefined || nonce === undefined || externalAddress === undefined) return undefined
  return Codec.encodeResponse({
    _tag: "MapResponse",
    epoch: model.pcpEpochSeconds(now),
    nonce: Codec.Nonce.make(nonce),
    protocol: protocolNumber(protocol),
    internalPort,
    externalPort: entry.externalPort,
    externalAddress,
    lifetime: entry.expiresAt === undefined ? 0xffffffff : secondsUntil(entry.expiresAt, now),
    options: Equal.equals(client, internalAddress) ? [] : [{ _tag: "ThirdParty", internalAddress }]
  })
}
