/**
 * One mapping over NAT-PMP, as the lease engine wants it.
 */
import type * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import type * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import type * as NatPmpClient from "../NatPmpClient.ts"
import type * as Environment from "./environment.ts"
import * as Gateways from "./gateways.ts"
import * as LedgerEntries from "./ledgerEntries.ts"
import * as Lifetimes from "./lifetimes.ts"
import type * as Recovery from "./recovery.ts"
import type * as Ways from "./ways.ts"

/** The protocol's name in gateways and mappings. */
export const method = "natpmp"

/** How long it takes to find out whether a gateway speaks NAT-PMP. */
export const probeTimeout: Duration.Duration = Duration.seconds(2)

/** How long each request to a gateway that speaks NAT-PMP waits for its answer. */
export const requestTimeout: Duration.Duration = Duration.seconds(16)

/** So long a request may still be on its way to the gateway after this host has given it up. */
export const overtaking: Duration.Duration = Duration.seconds(1)

/** Long enough for many mappings made in one go, short beside what it takes a line to come back with a new address. */
export const addressFreshness = Duration.seconds(30)

/** What another gateway gets to answer with an address before one that has none is used. */
const addresslessPatience = Duration.seconds(1)

/**
 * How often a gateway is asked that nothing was heard of yet: eight times within the two seconds that it gets. Where
 * three of ten datagrams are lost each way, one such question in two hundred stays unanswered; with the schedule of
 * RFC 6886 §3.1, which has time for four, it would be one in fifteen.
 */
const knockInterval: Duration.Input = "250 millis"

/** A gateway to map on, and what is known of its address. */
export interface Chosen {
  readonly way: Ways.Ipv4Way
  readonly externalAddress: NetAddress.Ipv4Address | undefined
}

/** What is held of a lease beside its mapping. */
export interface Handle {
  readonly way: Ways.Ipv4Way
}

type Lease = LeaseEngine.Lease<Handle>

const unsupported = (operation: string, detail: string) =>
  NatError.fromReason(new NatError.Unsupported({ operation, detail }))

const cannotMapIpv6 = unsupported(
  "IPv6 over NAT-PMP",
  "it maps IPv4 ports only: use PCP or UPnP for a pinhole through an IPv6 firewall"
)

const cannotMapForOthers = (own: NetAddress.IpAddress) =>
  unsupported(
    "map a port of another host over NAT-PMP",
    `it maps for the host that asks only, which is ${NetAddress.formatIp(own)} here: run this program on the other host, or use UPnP`
  )

const conflict = (request: MappingRequest.Resolved, granted: number) =>
  NatError.fromReason(
    new NatError.Conflict({
      externalPort: request.externalPort,
      detail: `the gateway offered port ${granted} in its place`
    })
  )

/** Whether a failed mapping request has certainly left nothing on the gateway. */
export const hasLeftNothing = (error: NatError.NatError): boolean =>
  error.reason._tag !== "TimedOut" && error.reason._tag !== "Unreachable" && error.reason._tag !== "MalformedAnswer"

/** The address question where it is to find out whether the gateway speaks NAT-PMP at all. */
export const knock = Effect.fnUntraced(function* (
  way: Ways.Ipv4Way,
  options: NatPmpClient.ExternalAddressOptions
): Effect.fn.Return<Chosen & NatPmpClient.ExternalAddress, NatError.NatError> {
  const answer = yield* way.natPmp.externalAddress({ ...options, interval: knockInterval })
  return { way, externalAddress: answer.address, ...answer }
})

/**
 * The address question to one gateway. One that answered the last time gets as long as every request; of one that did
 * not, or was never asked, it is soon known that it does not speak NAT-PMP, as most that stay silent do not.
 */
export const ask = Effect.fnUntraced(function* (way: Ways.Ipv4Way, timeout: Duration.Duration) {
  const hasAnswered = (is: boolean) =>
    Effect.sync(() => {
      way.heard.natPmp = is
    })
  const question = way.heard.natPmp
    ? way.natPmp.externalAddress({ timeout, maxAge: addressFreshness })
    : knock(way, { timeout: Duration.min(timeout, probeTimeout), maxAge: addressFreshness })
  const { address } = yield* question.pipe(
    Effect.tap(() => hasAnswered(true)),
    Effect.tapError((error) => hasAnswered(!Gateways.isSilence(error)))
  )
  const chosen: Chosen & { readonly externalAddress: NetAddress.Ipv4Address } = { way, externalAddress: address }
  return chosen
})

/** A gateway whose line is down, or that stands behind another NAT, may still map: the mapping then has no address. */
export const choose = Effect.fnUntraced(function* (
  { candidates, ways }: Environment.Environment,
  question: (way: Ways.Ipv4Way) => Effect.Effect<Chosen, NatError.NatError>
) {
  const { gateways, selected } = yield* candidates
  const patience = gateways.length > 1 ? addresslessPatience : Duration.zero
  return yield* Gateways.first(gateways, selected, (gateway) =>
    Effect.flatMap(ways.ipv4(gateway), (way) =>
      question(way).pipe(
        Effect.catchReason("NatError", "NoExternalAddress", () =>
          Effect.delay(Effect.succeed<Chosen>({ way, externalAddress: undefined }), patience)
        )
      )
    )
  )
})

/**
 * The address that a renewed mapping has now, or is still believed to have when the gateway does not say. It has just
 * answered: it gets as long for this question as for that one.
 */
const currentAddress = (
  { natPmp }: Ways.Ipv4Way,
  timeout: Duration.Duration,
  known: NetAddress.IpAddress | undefined
) =>
  natPmp.externalAddress({ timeout, maxAge: addressFreshness }).pipe(
    Effect.map((answer): NetAddress.IpAddress | undefined => answer.address),
    Effect.catch((error) => Effect.succeed(error.reason._tag === "NoExternalAddress" ? undefined : known))
  )

/** Where a gateway's announcements to all hosts of the network are to be heard. */
export const placeOf = (own: NetAddress.IpAddress): NetAddress.Ipv4Address =>
  NetAddress.isIpv4Address(own) ? own : NetAddress.ipv4Unspecified

/** The protocol of one mapping, and the request to a gateway that is known to speak it. */
export interface NatPmpLease extends LeaseEngine.LeaseProtocol<Handle> {
  readonly requestOn: (way: Ways.Ipv4Way, request: MappingRequest.Resolved) => Effect.Effect<Lease, NatError.NatError>
  readonly discard: (entry: Ledger.Entry) => Effect.Effect<void, NatError.NatError>
}

/** What one mapping has to itself. */
export interface Own {
  readonly registration: Recovery.Registration
  readonly page: Ledger.Page
  /** Done when it is its turn to be deleted. */
  readonly releasing: Deferred.Deferred<void>
}

export const makeOwn = (environment: Environment.Environment): Effect.Effect<Own, never, Scope.Scope> =>
  Effect.all({
    registration: environment.recovery.register,
    page: environment.ledger.open,
    releasing: Deferred.make<void>()
  })

export const make = (
  environment: Environment.Environment,
  { page, registration, releasing }: Own,
  timeout: Duration.Duration
): NatPmpLease => {
  const { candidates, isOwnTowards, localAddress } = environment
  /**
   * The gateway that may hold the mapping: from before the request is sent until the gateway has said no or has deleted
   * it. A request can be interrupted even after its answer has come.
   */
  let mayHold: Ways.Ipv4Way | undefined

  const forget = Effect.sync(() => {
    mayHold = undefined
  })

  const checkHost = Effect.fnUntraced(function* ({ natPmp }: Ways.Ipv4Way, wanted: NetAddress.IpAddress) {
    const own = yield* localAddress(natPmp.gateway)
    if (!Equal.equals(own, wanted)) return yield* cannotMapForOthers(own)
  })

  /** A gateway maps for the address that asks. */
  const note = (way: Ways.Ipv4Way, request: MappingRequest.Resolved, internalAddress: NetAddress.IpAddress) =>
    page.note(LedgerEntries.make({ method, way, internalAddress }, request))

  const grant = Effect.fnUntraced(function* (way: Ways.Ipv4Way, request: MappingRequest.Resolved) {
    if (request.internalAddress !== undefined) yield* checkHost(way, request.internalAddress)
    mayHold = way
    yield* Effect.ignore(Effect.flatMap(way.ownAddress, (own) => note(way, request, own)))
    const granted = yield* way.natPmp
      .map({ ...request, lifetime: Lifetimes.asked(request) }, { timeout })
      .pipe(Effect.tapError((error) => (hasLeftNothing(error) ? forget : Effect.void)))
    // This host's address may just have changed.
    yield* note(way, request, granted.localAddress)
    if (request.strictExternalPort && granted.externalPort !== request.externalPort) {
      yield* LedgerEntries.undo(page, deleteOn(way, request))
      yield* forget
      return yield* conflict(request, granted.externalPort)
    }
    return granted
  })

  const leaseOf = Effect.fnUntraced(function* (
    request: MappingRequest.Resolved,
    way: Ways.Ipv4Way,
    externalAddress: NetAddress.IpAddress | undefined,
    granted: NatPmpClient.Granted
  ) {
    const mapping = new PortMapping.PortMapping({
      remoteHost: undefined,
      externalAddress,
      externalPort: granted.externalPort,
      protocol: request.protocol,
      internalPort: request.internalPort,
      internalAddress: granted.localAddress,
      enabled: true,
      description: request.description,
      lifetime: granted.lifetime,
      gateway: way.natPmp.gateway,
      method,
      status: "mapped"
    })
    if (externalAddress !== undefined) yield* environment.warnOfNat(way.natPmp.gateway, externalAddress)
    yield* registration.hold({ way, mapping, nonce: undefined, place: placeOf(granted.localAddress) })
    const lease: Lease = { mapping, handle: { way } }
    return lease
  })

  const requestFrom = Effect.fnUntraced(function* (
    { externalAddress, way }: Chosen,
    resolved: MappingRequest.Resolved
  ) {
    return yield* leaseOf(resolved, way, externalAddress, yield* grant(way, resolved))
  })

  const question = (way: Ways.Ipv4Way): Effect.Effect<Chosen, NatError.NatError> => ask(way, timeout)

  const requestOn = Effect.fnUntraced(function* (way: Ways.Ipv4Way, resolved: MappingRequest.Resolved) {
    const chosen = yield* Effect.catchReason(question(way), "NatError", "NoExternalAddress", () =>
      Effect.succeed<Chosen>({ way, externalAddress: undefined })
    )
    return yield* requestFrom(chosen, resolved)
  })

  const request = Effect.fn("NatPmp.request")(function* (resolved: MappingRequest.Resolved) {
    if (resolved.family === "ipv6") return yield* cannotMapIpv6
    yield* registration.begin
    return yield* requestFrom(yield* choose(environment, question), resolved)
  })

  const renew = Effect.fn("NatPmp.renew")(function* ({ handle, mapping }: Lease, resolved: MappingRequest.Resolved) {
    const { way } = handle
    const { gateways } = yield* candidates
    // In another network now: the old gateway can be asked for nothing, and forgets the mapping by itself.
    if (!gateways.some((gateway) => Equal.equals(gateway, way.natPmp.gateway))) return yield* request(resolved)
    yield* registration.begin
    const granted = yield* grant(way, resolved)
    const externalAddress = yield* currentAddress(way, timeout, mapping.externalAddress)
    return yield* leaseOf(resolved, way, externalAddress, granted)
  })

  const isStale = ({ handle, mapping }: Lease) =>
    Effect.map(isOwnTowards(handle.way.natPmp.gateway, mapping.internalAddress), (is) => !is)

  const deleteOn = ({ natPmp }: Ways.Ipv4Way, end: NatPmpClient.InternalEnd) => natPmp.delete(end, { timeout })

  /** A renewal that it interrupts may still reach the gateway, so that it does not forget what may be held there. */
  const release = Effect.fn("NatPmp.release")(function* ({ handle: { way }, mapping }: Lease) {
    yield* registration.letGo
    yield* way.natPmpReleases.inTurn(Deferred.succeed(releasing, undefined), deleteOn(way, mapping))
  })

  const abandon = Effect.fn("NatPmp.abandon")(function* (resolved: MappingRequest.Resolved) {
    const way = mayHold
    if (way === undefined) return
    yield* deleteOn(way, resolved)
    // Datagrams may overtake each other: the request may reach the gateway after its own undoing.
    yield* Effect.sleep(overtaking)
    yield* deleteOn(way, resolved)
    yield* forget
  })

  const discard = Effect.fn("NatPmp.discard")(function* (entry: Ledger.Entry) {
    const gateway = yield* LedgerEntries.gatewayOf(environment, entry)
    yield* LedgerEntries.checkAddress(yield* localAddress(gateway), entry)
    yield* deleteOn(yield* environment.ways.ipv4(gateway), entry)
  })

  return {
    request,
    requestOn,
    renew,
    isStale,
    whenChanged: () => registration.whenWoken,
    network: environment.network,
    whenReleasing: Deferred.await(releasing),
    release,
    letGo: registration.letGo,
    abandon,
    page,
    discard
  }
}
