/**
 * The router's side of NAT-PMP (RFC 6886): a pure function from a request and a `RouterModel` to the answer.
 *
 * It knows no socket and no clock: whoever has them passes the datagram, its source and the time, and sends what comes
 * back. Every request is written down in the model's `asked`, also one that goes unanswered.
 *
 * **Example** (Ask a simulated router for its external address)
 *
 * ```ts
 * import * as NatPmpCodec from "@effect-nat/natpmp/NatPmpCodec"
 * import * as NatPmpResponder from "@effect-nat/testing/NatPmpResponder"
 * import * as RouterModel from "@effect-nat/testing/RouterModel"
 * import * as NetAddress from "effect/net/NetAddress"
 *
 * const router = new RouterModel.RouterModel()
 * const request = NatPmpCodec.encodeRequest({ _tag: "ExternalAddressRequest" })
 * const client = NetAddress.ipFromStringUnsafe("192.168.77.2")
 *
 * console.log(NatPmpResponder.respond(router, 0, request, client)) // 12 bytes, the last four 11.22.33.1
 * ```
 *
 * @since 0.1.0
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Codec from "@effect-nat/natpmp/NatPmpCodec"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as RouterModel from "./RouterModel.ts"

/** What NAT-PMP has for the refusals of the model (RFC 6886 §3.5). */
const resultCodes: Readonly<Record<RouterModel.RefusalKind, number>> = {
  Conflict: 4,
  NotAuthorized: 2,
  OutOfResources: 4,
  OnlyPermanentLeases: 2,
  SamePortRequired: 2,
  RemoteHostWildcardOnly: 2,
  ExternalPortWildcardOnly: 2,
  ExternalPortWildcardForbidden: 2,
  InternalPortWildcardForbidden: 2,
  NoSuchEntry: 2,
  InvalidLifetime: 2,
  NetworkFailure: 3,
  ActionFailed: 4
}

const notAuthorized = 2

const fail = (request: Codec.Request, resultCode: number, epoch: number): Codec.ErrorResponse => ({
  _tag: "ErrorResponse",
  version: Codec.version,
  opcode: Codec.opcode(request),
  resultCode,
  epoch,
  internalPort: request._tag === "MapRequest" ? request.internalPort : undefined
})

const ipv4Of = (model: RouterModel.RouterModel): NetAddress.Ipv4Address | undefined =>
  NetAddress.isIpv4Address(model.externalAddress) ? model.externalAddress : undefined

const answerExternalAddress = (
  model: RouterModel.RouterModel,
  now: number,
  request: Codec.ExternalAddressRequest
): Codec.Response => {
  const epoch = model.epochSeconds(now)
  const externalAddress = ipv4Of(model)
  return externalAddress === undefined
    ? fail(request, resultCodes.NetworkFailure, epoch)
    : { _tag: "ExternalAddressResponse", epoch, externalAddress }
}

/** Rules that a person made: NAT-PMP deletes none of them (RFC 6886 §3.4). */
const isStatic = (entry: RouterModel.Entry): boolean => entry.via === "upnp" && entry.expiresAt === undefined

const isOf =
  (client: NetAddress.IpAddress, protocol: PortMapping.Protocol, internalPort: number) =>
  (entry: RouterModel.Entry): boolean =>
    entry.protocol === protocol &&
    (internalPort === 0 || entry.internalPort === internalPort) &&
    Equal.equals(entry.internalAddress, client)

/** One mapping is deleted by its internal port, all of a protocol by internal port 0 (RFC 6886 §3.4). */
const answerDeletion = (
  model: RouterModel.RouterModel,
  now: number,
  request: Codec.MapRequest,
  client: NetAddress.IpAddress
): Codec.Response => {
  const epoch = model.epochSeconds(now)
  const { internalPort, protocol } = request
  const isMeant = isOf(client, protocol, internalPort)
  const isKept = internalPort !== 0 && model.entries(now).some((entry) => isMeant(entry) && isStatic(entry))
  if (isKept) return fail(request, notAuthorized, epoch)
  // What is not there counts as deleted, so how many there were makes no difference.
  model.unmap(now, (entry) => isMeant(entry) && !isStatic(entry))
  return { _tag: "MapResponse", protocol, epoch, internalPort, externalPort: 0, lifetime: 0 }
}

const answerMap = (
  model: RouterModel.RouterModel,
  now: number,
  request: Codec.MapRequest,
  client: NetAddress.IpAddress
): Codec.Response => {
  const epoch = model.epochSeconds(now)
  const { externalPort, internalPort, lifetime, protocol } = request
  if (internalPort === 0) return fail(request, notAuthorized, epoch)
  const mapped = model.map(now, {
    via: "natpmp",
    client,
    protocol,
    externalPort,
    mayChoosePort: true,
    internalAddress: client,
    internalPort,
    lifetimeSeconds: lifetime,
    description: `NAT-PMP ${internalPort} ${protocol}`
  })
  if (Result.isFailure(mapped)) return fail(request, resultCodes[mapped.failure.kind], epoch)
  const { expiresAt } = mapped.success
  return {
    _tag: "MapResponse",
    protocol,
    epoch,
    internalPort,
    externalPort: mapped.success.externalPort,
    lifetime: expiresAt === undefined ? lifetime : Math.floor((expiresAt - now) / 1000)
  }
}

const actionOf = (request: Codec.Request): string => {
  if (request._tag === "ExternalAddressRequest") return "external address"
  if (request.lifetime !== 0) return "map"
  return request.internalPort === 0 ? "delete all" : "delete"
}

const answer = (
  model: RouterModel.RouterModel,
  now: number,
  request: Codec.Request,
  client: NetAddress.IpAddress
): Codec.Response => {
  if (request._tag === "ExternalAddressRequest") return answerExternalAddress(model, now, request)
  return request.lifetime === 0 ? answerDeletion(model, now, request, client) : answerMap(model, now, request, client)
}

/** The whole request goes back, with the response bit and the result code in it (RFC 6886 §3.5). */
const sendBack = (request: Uint8Array, resultCode: number): Uint8Array => {
  const bytes = new Uint8Array(Math.max(request.length, 4))
  bytes.set(request)
  bytes[1] = Codec.responseBit + (bytes[1] ?? 0)
  bytes[2] = 0
  bytes[3] = resultCode
  return bytes
}

const answerUnread = (
  model: RouterModel.RouterModel,
  now: number,
  request: Uint8Array,
  error: Codec.DecodeError
): Uint8Array | undefined => {
  if (error.kind === "UnsupportedOpcode") return sendBack(request, 5)
  if (error.kind !== "UnsupportedVersion") return undefined
  return Codec.encodeResponse({
    _tag: "ErrorResponse",
    version: Codec.version,
    opcode: error.opcode ?? 0,
    resultCode: 1,
    epoch: model.epochSeconds(now),
    internalPort: undefined
  })
}

/** What a router with a quirk does not even refuse, by its version. */
const isIgnored = (model: RouterModel.RouterModel, datagram: Uint8Array): boolean =>
  model.has(datagram[0] === Codec.version ? "IgnoresNatPmp" : "IgnoresPcp")

/**
 * Answers a datagram as RFC 6886 §3.2 to §3.5 say, and changes the model as it asks. `undefined` where nothing goes
 * back: to an answer, to less than a whole request, over IPv6, and while the router is silent.
 *
 * A deletion takes away what is mapped to the internal port by whatever protocol, since a router has one table; only
 * permanent mappings made over UPnP stay.
 *
 * @category responses
 * @since 0.1.0
 */
export const respond = (
  model: RouterModel.RouterModel,
  now: number,
  datagram: Uint8Array,
  source: NetAddress.IpAddress
): Uint8Array | undefined => {
  if (!NetAddress.isIpv4Address(source)) return undefined
  const request = Codec.decodeRequest(datagram)
  const asked = { at: now, via: "natpmp", client: source } as const
  return Result.match(request, {
    onFailure: (error) =>
      model.serve({ ...asked, action: error.kind, isMutating: false }, () =>
        isIgnored(model, datagram) ? undefined : answerUnread(model, now, datagram, error)
      ),
    onSuccess: (read) =>
      model.serve({ ...asked, action: actionOf(read), isMutating: read._tag === "MapRequest" }, () =>
        isIgnored(model, datagram) ? undefined : Codec.encodeResponse(answer(model, now, read, source))
      )
  })
}

/**
 * What a router sends to 224.0.0.1, port 5350, when it has started and when its external address has changed
 * (RFC 6886 §3.2.1). The address is 0.0.0.0 where it has none.
 *
 * @category announcements
 * @since 0.1.0
 */
export const announcement = (model: RouterModel.RouterModel, now: number): Uint8Array =>
  Codec.encodeResponse({
    _tag: "ExternalAddressResponse",
    epoch: model.epochSeconds(now),
    externalAddress: ipv4Of(model) ?? NetAddress.ipv4Unspecified
  })
