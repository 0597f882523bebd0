/**
 * The router's side of the Port Control Protocol (RFC 6887): a pure function from a request and a `RouterModel` to the
 * answer.
 *
 * It speaks ANNOUNCE and MAP for IPv4 hosts, with PREFER_FAILURE, FILTER for single hosts and, where it is switched
 * on, THIRD_PARTY. PEER is an opcode that this router does not support; pinholes for IPv6 hosts are refused. Every
 * request is written down in the model's `asked`, also one that goes unanswered.
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
import * as NatPmpResponder from "./NatPmpResponder.ts"
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

/** The options of a MAP request, each at most once. */
interface MapOptions {
  readonly thirdParty: NetAddress.IpAddress | undefined
  readonly prefersFailure: boolean
  readonly filter: Extract<Codec.PcpOption, { readonly _tag: "Filter" }> | undefined
}

type Checked<A> = Result.Result<A, number>

const isKnown = (option: Codec.PcpOption): boolean => option._tag !== "UnknownOption"

const isFilter = (option: Codec.PcpOption): option is Extract<Codec.PcpOption, { readonly _tag: "Filter" }> =>
  option._tag === "Filter"

/** The model filters by one whole address and no port. */
const isOneHost = (filter: Extract<Codec.PcpOption, { readonly _tag: "Filter" }>): boolean =>
  filter.prefixLength === 128 && filter.remotePeerPort === 0

const optionsOf = (request: Codec.MapRequest, allowed: Options): Checked<MapOptions> => {
  const { options } = request
  if (options.some((option) => !isKnown(option) && Codec.isMandatory(option)))
    return Result.fail(Code.unsupportedOption)
  const count = (tag: Codec.PcpOption["_tag"]) => options.filter((option) => option._tag === tag).length
  if (count("ThirdParty") > 1 || count("PreferFailure") > 1) return Result.fail(Code.malformedOption)
  const thirdParty = options.find((option) => option._tag === "ThirdParty")?.internalAddress
  if (thirdParty !== undefined && allowed.thirdParty !== true) return Result.fail(Code.unsupportedOption)
  if (Equal.equals(thirdParty, request.clientAddress)) return Result.fail(Code.malformedRequest)
  const prefersFailure = count("PreferFailure") === 1
  if (prefersFailure && request.lifetime !== 0 && request.externalPort === 0) return Result.fail(Code.malformedOption)
  const [filter, ...others] = options.filter(isFilter)
  if (others.length > 0) return Result.fail(Code.excessiveRemotePeers)
  if (filter !== undefined && filter.prefixLength !== 0 && !isOneHost(filter))
    return Result.fail(Code.unsupportedOption)
  return Result.succeed({ thirdParty, prefersFailure, filter })
}

const protocolOf = (request: Codec.MapRequest): Checked<PortMapping.Protocol> => {
  switch (request.protocol) {
    case Codec.ProtocolNumber.tcp:
      return Result.succeed("tcp")
    case Codec.ProtocolNumber.udp:
      return Result.succeed("udp")
    case Codec.ProtocolNumber.all:
      return Result.fail(request.internalPort === 0 ? Code.unsupportedProtocol : Code.malformedRequest)
    default:
      return Result.fail(Code.unsupportedProtocol)
  }
}

/** A MAP request as the router understands it. */
interface Wanted extends MapOptions {
  readonly request: Codec.MapRequest
  readonly client: NetAddress.IpAddress
  readonly internalAddress: NetAddress.IpAddress
  readonly protocol: PortMapping.Protocol
}

const understand = (request: Codec.MapRequest, client: NetAddress.IpAddress, allowed: Options): Checked<Wanted> => {
  const options = optionsOf(request, allowed)
  if (Result.isFailure(options)) return Result.fail(options.failure)
  const protocol = protocolOf(request)
  if (Result.isFailure(protocol)) return Result.fail(protocol.failure)
  const internalAddress = options.success.thirdParty ?? client
  // No pinholes, and no host that gets everything.
  if (!NetAddress.isIpv4Address(internalAddress)) return Result.fail(Code.notAuthorized)
  if (request.internalPort === 0 && request.lifetime !== 0) return Result.fail(Code.notAuthorized)
  return Result.succeed({ ...options.success, request, client, internalAddress, protocol: protocol.success })
}

const responseOf = (
  { request }: Wanted,
  epoch: number,
  granted: Pick<Codec.MapResponse, "externalAddress" | "externalPort" | "lifetime">
): Codec.MapResponse => ({
  _tag: "MapResponse",
  epoch,
  nonce: request.nonce,
  protocol: request.protocol,
  internalPort: request.internalPort,
  // What was not processed is left out (RFC 6887 §7.3).
  options: request.options.filter(isKnown),
  ...granted
})

/** The rows of the internal port that is meant, whoever made them. */
const isOf =
  ({ internalAddress, protocol, request }: Wanted) =>
  (entry: RouterModel.Entry): boolean =>
    entry.protocol === protocol &&
    (request.internalPort === 0 || entry.internalPort === request.internalPort) &&
    Equal.equals(entry.internalAddress, internalAddress)

const answerDeletion = (model: RouterModel.RouterModel, now: number, wanted: Wanted): Checked<Codec.MapResponse> => {
  const { request } = wanted
  const isMeant = isOf(wanted)
  const isOwn = (entry: RouterModel.Entry) => entry.nonce === request.nonce
  const meant = model.entries(now).filter(isMeant)
  const isForeign = meant.length > 0 && !meant.some(isOwn)
  if (isForeign && request.internalPort !== 0) return Result.fail(Code.notAuthorized)
  // What is not there counts as deleted, so how many there were makes no difference.
  model.unmap(now, (entry) => isMeant(entry) && isOwn(entry))
  const { externalAddress, externalPort } = request
  return Result.succeed(responseOf(wanted, model.epochSeconds(now), { externalAddress, externalPort, lifetime: 0 }))
}

/** Whether the external end that is insisted on cannot be had, whichever ports are free. */
const isElsewhere = (model: RouterModel.RouterModel, wanted: Wanted, known: RouterModel.Entry | undefined): boolean => {
  const { externalAddress, externalPort } = wanted.request
  if (known !== undefined && known.externalPort !== externalPort) return true
  return !NetAddress.isUnspecified(externalAddress) && !Equal.equals(externalAddress, model.externalAddress)
}

const answerMap = (model: RouterModel.RouterModel, now: number, wanted: Wanted): Checked<Codec.MapResponse> => {
  const { client, filter, internalAddress, prefersFailure, protocol, request } = wanted
  const { internalPort, lifetime, nonce } = request
  const meant = model.entries(now).filter(isOf(wanted))
  const known = meant.find((entry) => entry.nonce === nonce) ?? meant[0]
  // Also what was mapped without any nonce, over another protocol, is not this client's to change.
  if (known !== undefined && known.nonce !== nonce) return Result.fail(Code.notAuthorized)
  if (prefersFailure && model.externalAddress !== undefined && isElsewhere(model, wanted, known)) {
    return Result.fail(Code.cannotProvideExternal)
  }
  const filtered = filter?.prefixLength === 0 ? undefined : (filter?.remotePeerAddress ?? known?.remoteHost)
  const mapped = model.map(now, {
    via: "pcp",
    client,
    protocol,
    externalPort: request.externalPort,
    mayChoosePort: !prefersFailure,
    internalAddress,
    internalPort,
    remoteHost: filtered,
    lifetimeSeconds: lifetime,
    description: `PCP MAP ${internalPort} ${protocol}`,
    nonce
  })
  if (Result.isFailure(mapped)) return Result.fail(resultCodes[mapped.failure.kind])
  const { expiresAt, externalPort } = mapped.success
  return Result.succeed(
    responseOf(wanted, model.epochSeconds(now), {
      externalAddress: model.externalAddress ?? NetAddress.ipv4Unspecified,
      externalPort,
      lifetime: expiresAt === undefined ? lifetime : Math.floor((expiresAt - now) / 1000)
    })
  )
}

const answer = (
  model: RouterModel.RouterModel,
  now: number,
  request: Codec.Request,
  source: NetAddress.IpAddress,
  allowed: Options
): Checked<Codec.Response> => {
  // Whatever the opcode: a NAT between would lead packets to somebody else.
  if (request._tag !== "PeerRequest" && !Equal.equals(request.clientAddress, source)) {
    return Result.fail(Code.addressMismatch)
  }
  switch (request._tag) {
    case "AnnounceRequest":
      return request.options.some(Codec.isMandatory)
        ? Result.fail(Code.unsupportedOption)
        : Result.succeed({ _tag: "AnnounceResponse", epoch: model.epochSeconds(now), options: [] })
    case "PeerRequest":
      return Result.fail(Code.unsupportedOpcode)
    case "MapRequest":
      return Result.flatMap(understand(request, source, allowed), (wanted): Checked<Codec.MapResponse> =>
        request.lifetime === 0 ? answerDeletion(model, now, wanted) : answerMap(model, now, wanted)
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
      epoch: model.epochSeconds(now),
      isParsed
    })
  )

/**
 * Answers a datagram as RFC 6887 §8.2, §11.3 and §14.1 say, and changes the model as it asks. `undefined` where nothing
 * goes back: to an answer, to a single byte, and while the router is silent.
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
  return Result.match(request, {
    onFailure: (error) =>
      model.serve({ ...asked, action: error.kind, isMutating: false }, () => {
        const code = unreadCode(error)
        return code === undefined ? undefined : refuse(model, now, datagram, code, false)
      }),
    onSuccess: (read) =>
      model.serve({ ...asked, action: actionOf(read), isMutating: read._tag !== "AnnounceRequest" }, () =>
        Result.match(answer(model, now, read, source, options), {
          onFailure: (code) => refuse(model, now, datagram, code, true),
          onSuccess: Codec.encodeResponse
        })
      )
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
  source: NetAddress.IpAddress
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
 * What a router sends to 224.0.0.1 and ff02::1, port 5350, when it has lost its mappings (RFC 6887 §14.1).
 *
 * @category announcements
 * @since 0.1.0
 */
export const announcement = (model: RouterModel.RouterModel, now: number): Uint8Array =>
  Codec.encodeResponse({ _tag: "AnnounceResponse", epoch: model.epochSeconds(now), options: [] })
