/**
 * One mapping over PCP, as the lease engine wants it: a port of the IPv4 gateway, or a pinhole through the IPv6 one's
 * firewall. A gateway that turns out to speak NAT-PMP only gets the same request in NAT-PMP, from the same socket, at
 * once.
 */
import * as DoubleNat from "@effect-nat/core/DoubleNat"
import * as Ipv6Scope from "@effect-nat/core/Ipv6Scope"
import type * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import type * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as Monotonic from "@effect-nat/core/Monotonic"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Strategy from "@effect-nat/core/Strategy"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"
import * as NatPmpCodec from "../NatPmpCodec.ts"
import type * as PcpClient from "../PcpClient.ts"
import * as PcpCodec from "../PcpCodec.ts"
import type * as Announcements from "./announcements.ts"
import type * as Environment from "./environment.ts"
import * as Gateways from "./gateways.ts"
import * as LedgerEntries from "./ledgerEntries.ts"
import * as Lifetimes from "./lifetimes.ts"
import * as NatPmpLease from "./natPmpLease.ts"
import * as PcpGateways from "./pcpGateways.ts"
import * as Ways from "./ways.ts"

/** The protocol's name in gateways and mappings. */
export const method = "pcp"

/** How the strategy asks. */
export interface Settings {
  readonly timeout: Duration.Duration
  readonly thirdParty: boolean
}

/** How long the first request to a gateway of which nothing was heard waits. */
export const firstTimeout: Duration.Duration = Duration.seconds(10)

/** How long each request to a gateway that speaks PCP waits for its answer. */
export const requestTimeout: Duration.Duration = Duration.seconds(24)

/** What is held of a lease beside its mapping. */
interface PcpHandle {
  readonly _tag: "pcp"
  readonly way: Ways.Way
  /** The other host whose port is mapped. */
  readonly other: NetAddress.IpAddress | undefined
}

export type Handle = PcpHandle | (NatPmpLease.Handle & { readonly _tag: "natpmp" })

type Lease = LeaseEngine.Lease<Handle>

/** Whom to ask, from where, and for whom. */
interface Target {
  readonly way: Ways.Way
  readonly other: NetAddress.IpAddress | undefined
  readonly place: Announcements.Place
}

const invalid = (detail: string) => NatError.fromReason(new NatError.InvalidRequest({ detail }))

const cannotMapForOthers = (wanted: NetAddress.IpAddress) =>
  NatError.fromReason(
    new NatError.Unsupported({
      operation: "map a port of another host over PCP",
      detail: `${NetAddress.formatIp(wanted)} is not this host's address: run this program on that host, or switch on the option thirdParty where the gateway allows it`
    })
  )

/** A pinhole leads to an IPv6 host that the world can reach, everything else to an IPv4 host. */
export const checkHost = ({ family, internalAddress }: MappingRequest.MappingRequest) => {
  if (internalAddress === undefined) return Effect.void
  const text = NetAddress.formatIp(internalAddress)
  if (family !== "ipv6") {
    return NetAddress.isIpv4Address(internalAddress)
      ? Effect.void
      : Effect.fail(invalid(`${text} is no IPv4 address: ask for the family "ipv6"`))
  }
  return Ipv6Scope.isGlobal(internalAddress)
    ? Effect.void
    : Effect.fail(invalid(`a pinhole needs a global IPv6 address as the internal one, not ${text}`))
}

const addressOverNatPmp = (way: Ways.Ipv4Way) =>
  Effect.map(
    NatPmpLease.knock(way, { timeout: NatPmpLease.probeTimeout, maxAge: NatPmpLease.addressFreshness }),
    ({ externalAddress }) => externalAddress
  )

const isNonce = Schema.is(PcpCodec.Nonce)

/** Time for one retransmission. */
const unheardTimeout = Duration.seconds(4)

/** Renewals are at least so far apart (RFC 6887 §11.2.1). */
const betweenRenewals = Duration.seconds(4)

/** The protocol of one mapping, whose nonce it keeps for its whole life on one gateway; another one gets another. */
export const make = (
  environment: Environment.Environment,
  own: NatPmpLease.Own,
  makeNonce: Effect.Effect<PcpCodec.Nonce>,
  settings: Settings
): LeaseEngine.LeaseProtocol<Handle> => {
  const { candidates, isOwn, isOwnTowards, localAddress, recovery, ways } = environment
  const { page, registration, releasing } = own
  const natPmp = NatPmpLease.make(environment, own, Duration.min(settings.timeout, NatPmpLease.requestTimeout))
  /** Where the mapping may be: from before the request is sent until the gateway has said no or has deleted it. */
  let mayHold: Pick<Target, "way" | "other"> | undefined
  /** By gateway (RFC 6887 §11.2): who knows one gateway's nonce must not be able to speak for this host to another. */
  const nonces = new Map<string, PcpCodec.Nonce>()
  /** What has once been granted is no attempt any more. */
  let wasGranted = false
  /** When the last renewal failed, in milliseconds of the monotonic clock. */
  let failedAt = Number.NEGATIVE_INFINITY

  const nonceOn = ({ gateway }: Ways.Way) =>
    Effect.suspend(() => {
      const known = nonces.get(gateway)
      return known === undefined
        ? Effect.tap(makeNonce, (made) => Effect.sync(() => nonces.set(gateway, made)))
        : Effect.succeed(known)
    })

  const forget = Effect.sync(() => {
    mayHold = undefined
  })

  /** Another address of this host's is asked from, another host's is named. */
  const targetOf = Effect.fnUntraced(function* (
    peer: NetAddress.InetAddress,
    usual: NetAddress.IpAddress,
    place: Announcements.Place,
    wanted: NetAddress.IpAddress | undefined
  ): Effect.fn.Return<Target, NatError.NatError> {
    const from = (own: NetAddress.IpAddress) => ways.from(peer, own)
    if (wanted === undefined || Equal.equals(wanted, usual)) return { way: yield* from(usual), other: undefined, place }
    if (yield* isOwn(wanted)) return { way: yield* from(wanted), other: undefined, place }
    if (!settings.thirdParty) return yield* cannotMapForOthers(wanted)
    return { way: yield* from(usual), other: wanted, place }
  })

  const overIpv4 = Effect.fnUntraced(function* (
    gateway: NetAddress.Ipv4Address,
    { internalAddress }: MappingRequest.Resolved
  ): Effect.fn.Return<Target, NatError.NatError> {
    const way = yield* ways.ipv4(gateway)
    // The kernel chooses the own address; which one that was is known when the answer comes.
    if (internalAddress === undefined) return { way, other: undefined, place: NetAddress.ipv4Unspecified }
    const own = yield* localAddress(gateway)
    if (Equal.equals(own, internalAddress)) return { way, other: undefined, place: NatPmpLease.placeOf(own) }
    return yield* targetOf(way.peer, own, NatPmpLease.placeOf(own), internalAddress)
  })

  const overIpv6 = Effect.fnUntraced(function* ({
    internalAddress
  }: MappingRequest.Resolved): Effect.fn.Return<Target, NatError.NatError> {
    const { own, peer, place } = yield* PcpGateways.ipv6(environment)
    return yield* targetOf(peer, own, place, internalAddress)
  })

  const leaseOf = Effect.fnUntraced(function* (
    request: MappingRequest.Resolved,
    { other, place, way }: Target,
    granted: PcpClient.Granted,
    before: NetAddress.IpAddress | undefined
  ) {
    const { externalAddress, externalPort, internalAddress, lifetime } = granted
    const mapping = new PortMapping.PortMapping({
      remoteHost: undefined,
      externalAddress,
      externalPort,
      protocol: request.protocol,
      internalPort: request.internalPort,
      internalAddress,
      enabled: true,
      description: request.description,
      lifetime,
      gateway: way.peer.address,
      method,
      status: "mapped"
    })
    if (externalAddress !== undefined && request.family !== "ipv6") {
      yield* environment.warnOfNat(way.peer.address, externalAddress)
    }
    wasGranted = true
    const nonce = yield* nonceOn(way)
    // This host's address may just have changed.
    yield* page.note(LedgerEntries.make({ method, way, internalAddress }, request, nonce))
    const isUnknown = typeof place === "object" && NetAddress.isUnspecified(place)
    yield* registration.hold({
      way,
      mapping,
      nonce,
      place: isUnknown && other === undefined ? NatPmpLease.placeOf(internalAddress) : place
    })
    if (before !== undefined && !Equal.equals(before, externalAddress)) yield* recovery.moved(way.gateway, before)
    const lease: Lease = { mapping, handle: { _tag: "pcp", way, other } }
    return lease
  })

  const fromNatPmp = ({ handle, mapping }: LeaseEngine.Lease<NatPmpLease.Handle>): Lease => ({
    mapping,
    handle: { _tag: "natpmp", ...handle }
  })

  const send = Effect.fnUntraced(function* ({ other, way }: Target, wanted: PcpClient.MapOptions, isRenewal: boolean) {
    mayHold = { way, other }
    const timeout = way.heard.pcp ? settings.timeout : Duration.min(settings.timeout, firstTimeout)
    return yield* way.pcp.map({ ...wanted, internalAddress: other }, { timeout, isRenewal }).pipe(
      Effect.tap(() => PcpGateways.noteHeard(way, true)),
      Effect.tapError((error) => PcpGateways.noteHeard(way, !Gateways.isSilence(error))),
      Effect.tapError((error) => (NatPmpLease.hasLeftNothing(error) ? forget : Effect.void))
    )
  })

  /** What an earlier run has left at this internal end only its nonce can renew; then what is asked for is noted. */
  const note = Effect.fnUntraced(function* ({ other, way }: Target, request: MappingRequest.Resolved) {
    const internalAddress = other ?? (yield* way.ownAddress)
    const place: LedgerEntries.Place = { method, way, internalAddress }
    if (!nonces.has(way.gateway)) {
      const earlier = yield* page.earlier(LedgerEntries.identify(place, request))
      if (isNonce(earlier?.nonce)) nonces.set(way.gateway, earlier.nonce)
    }
    yield* page.note(LedgerEntries.make(place, request, yield* nonceOn(way)))
  })

  const conflict = (request: MappingRequest.Resolved, granted: number) =>
    NatError.fromReason(
      new NatError.Conflict({
        externalPort: request.externalPort,
        detail: `the gateway offered port ${granted} in its place`
      })
    )

  const grant = Effect.fnUntraced(function* (
    target: Target,
    request: MappingRequest.Resolved,
    before: NetAddress.IpAddress | undefined,
    isRenewal: boolean
  ) {
    // A host that cannot tell its own address cannot be understood later either.
    yield* Effect.ignore(note(target, request))
    const wanted: PcpClient.MapOptions = {
      protocol: request.protocol,
      internalPort: request.internalPort,
      externalPort: request.externalPort,
      nonce: yield* nonceOn(target.way),
      lifetime: Lifetimes.asked(request)
    }
    if (!request.strictExternalPort) return yield* send(target, { ...wanted, externalAddress: before }, isRenewal)
    const granted = yield* send(target, { ...wanted, prefersFailure: true }, isRenewal).pipe(
      // The option may be what is not supported: then the gateway gives what it will, and gets it back if that is not it.
      Effect.catchReason("NatError", "Unsupported", (reason) =>
        Effect.flatMap(PcpGateways.otherVersion(target.way), (version) =>
          version === undefined ? send(target, wanted, isRenewal) : Effect.fail(NatError.fromReason(reason))
        )
      )
    )
    if (granted.externalPort === request.externalPort) return granted
    yield* LedgerEntries.undo(page, deleteOn(target, request))
    return yield* conflict(request, granted.externalPort)
  })

  /** PCP tells no address without a mapping; most gateways speak NAT-PMP as well. */
  const explain = (way: Ways.Ipv4Way, error: NatError.NatError) =>
    error.reason._tag === "OutOfResources"
      ? DoubleNat.explainRefusal(error, way.gateway, addressOverNatPmp(way))
      : Effect.fail(error)

  /** Asks in PCP, and in NAT-PMP where that is what the gateway says it speaks. */
  const requestOn = Effect.fnUntraced(function* (
    target: Target,
    request: MappingRequest.Resolved,
    renewed?: PortMapping.PortMapping
  ): Effect.fn.Return<Lease, NatError.NatError> {
    const before = renewed?.externalAddress
    const outcome = yield* Effect.result(grant(target, request, before, renewed !== undefined))
    if (outcome._tag === "Success") return yield* leaseOf(request, target, outcome.success, before)
    const { way } = target
    if (!Ways.isIpv4(way)) return yield* outcome.failure
    const isNatPmp = (yield* PcpGateways.otherVersion(way)) === NatPmpCodec.version
    // A renewal has no user who waits for an explanation.
    if (!isNatPmp) return yield* renewed === undefined ? explain(way, outcome.failure) : outcome.failure
    // NAT-PMP has no nonces: what an attempt maps or undoes there is what another strategy may hold by now.
    if (!wasGranted && (yield* Strategy.IsAttempt)) return yield* outcome.failure
    return fromNatPmp(yield* natPmp.requestOn(way, request))
  })

  const request = Effect.fn("Pcp.request")(
    function* (resolved: MappingRequest.Resolved) {
      yield* registration.begin
      if (resolved.family === "ipv6") return yield* requestOn(yield* overIpv6(resolved), resolved)
      const gateway = yield* PcpGateways.choose(environment)
      return yield* requestOn(yield* overIpv4(gateway, resolved), resolved)
    },
    // Nobody listens there: that is no gateway of this kind.
    Effect.catchReason("NatError", "Unreachable", ({ detail }) =>
      Effect.fail(NatError.fromReason(new NatError.NoGateway({ detail })))
    )
  )

  const noteFailure = Effect.map(Monotonic.millis, (now) => {
    failedAt = now
  })

  const renewPcp = Effect.fnUntraced(function* (
    { way }: PcpHandle,
    mapping: PortMapping.PortMapping,
    resolved: MappingRequest.Resolved
  ) {
    yield* registration.begin
    const wait = Math.max(failedAt + Duration.toMillis(betweenRenewals) - (yield* Monotonic.millis), 0)
    if (wait > 0) yield* Effect.sleep(wait)
    if (resolved.family === "ipv6") return yield* requestOn(yield* overIpv6(resolved), resolved, mapping)
    const { gateways } = yield* candidates
    const gateway = gateways.find((one) => Equal.equals(one, way.peer.address))
    // In another network now: the old gateway can be asked for nothing, and forgets the mapping by itself.
    if (gateway === undefined) return yield* request(resolved)
    return yield* requestOn(yield* overIpv4(gateway, resolved), resolved, mapping)
  })

  const renew = Effect.fn("Pcp.renew")(function* ({ handle, mapping }: Lease, resolved: MappingRequest.Resolved) {
    if (handle._tag === "pcp") return yield* Effect.tapError(renewPcp(handle, mapping, resolved), () => noteFailure)
    return fromNatPmp(yield* natPmp.renew({ handle, mapping }, resolved))
  })

  const isStale = ({ handle, mapping }: Lease, { family, internalAddress }: MappingRequest.Resolved) => {
    if (handle._tag === "pcp" && handle.other !== undefined) return Effect.succeed(false)
    if (internalAddress !== undefined) return Effect.map(isOwn(internalAddress), (is) => !is)
    const remote = family === "ipv6" ? Ipv6Scope.world : handle.way.peer.address
    return Effect.map(isOwnTowards(remote, mapping.internalAddress), (is) => !is)
  }

  const deleteOn = (
    { other, way }: Pick<Target, "way" | "other">,
    end: Omit<PcpClient.InternalEnd, "nonce">,
    timeout: Duration.Duration = settings.timeout
  ) =>
    Effect.flatMap(nonceOn(way), (nonce) =>
      way.pcp.delete(
        { protocol: end.protocol, internalPort: end.internalPort, nonce, internalAddress: other },
        { timeout }
      )
    )

  /** A renewal that it interrupts may still reach the gateway, so that it does not forget what may be held there. */
  const release = Effect.fn("Pcp.release")(function* ({ handle, mapping }: Lease) {
    if (handle._tag === "natpmp") return yield* natPmp.release({ handle, mapping })
    yield* registration.letGo
    yield* handle.way.releases.inTurn(Deferred.succeed(releasing, undefined), deleteOn(handle, mapping))
  })

  /** Where PCP was never heard most probably nobody speaks it, and there is nothing to undo: it is not insisted on. */
  const deleteUnheard = (target: Pick<Target, "way" | "other">, end: Omit<PcpClient.InternalEnd, "nonce">) =>
    deleteOn(target, end, Duration.min(settings.timeout, unheardTimeout)).pipe(
      Effect.catchIf(Gateways.isSilence, ({ reason: { detail } }) =>
        Effect.fail(NatError.fromReason(new NatError.NoGateway({ detail })))
      )
    )

  const abandon = Effect.fn("Pcp.abandon")(function* (resolved: MappingRequest.Resolved) {
    yield* natPmp.abandon(resolved)
    const target = mayHold
    if (target === undefined) return
    const { epoch } = yield* target.way.pcp.tableState
    yield* epoch === undefined ? deleteUnheard(target, resolved) : deleteOn(target, resolved)
    // Datagrams may overtake each other: the request may reach the gateway after its own undoing.
    yield* Effect.sleep(NatPmpLease.overtaking)
    yield* deleteOn(target, resolved)
    yield* forget
  })

  const targetOfEntry = Effect.fnUntraced(function* (
    entry: Ledger.Entry
  ): Effect.fn.Return<Pick<Target, "way" | "other">, NatError.NatError> {
    if (!NetAddress.isIpv4Address(entry.internalAddress)) {
      const ipv6 = yield* PcpGateways.ipv6(environment)
      if (NetAddress.formatInet(ipv6.peer) !== entry.gateway) return yield* LedgerEntries.notHere(entry)
      yield* LedgerEntries.checkAddress(ipv6.own, entry)
      return { way: yield* ways.from(ipv6.peer, ipv6.own), other: undefined }
    }
    const gateway = yield* LedgerEntries.gatewayOf(environment, entry)
    const way = yield* ways.ipv4(gateway)
    const own = yield* localAddress(gateway)
    const isOthers = settings.thirdParty && !Equal.equals(own, entry.internalAddress)
    if (!isOthers) yield* LedgerEntries.checkAddress(own, entry)
    return { way, other: isOthers ? entry.internalAddress : undefined }
  })

  const discardPcp = Effect.fn("Pcp.discard")(function* (entry: Ledger.Entry) {
    if (!isNonce(entry.nonce)) return
    const { other, way } = yield* targetOfEntry(entry)
    const { internalPort, nonce, protocol } = entry
    const end = { protocol, internalPort, nonce, internalAddress: other }
    yield* way.pcp.delete(end, { timeout: settings.timeout })
  })

  return {
    request,
    renew,
    isStale,
    whenChanged: () => registration.whenWoken,
    network: environment.network,
    whenReleasing: Deferred.await(releasing),
    release,
    letGo: registration.letGo,
    abandon,
    page,
    discard: (entry) => (entry.method === method ? discardPcp(entry) : natPmp.discard(entry))
  }
}
