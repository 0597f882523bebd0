/**
 * A PCP client for one server (RFC 6887): ANNOUNCE, MAP, delete, PEER, with the options THIRD_PARTY, PREFER_FAILURE and
 * FILTER.
 *
 * It retransmits as §8.1.1 says, with its jitter; requests wait side by side, and a lost packet of one holds up no other.
 * An answer counts only when it comes from the server's address and port and its version, opcode, length, nonce,
 * protocol and internal port are those of the request; every other datagram is counted and changes nothing. A refused
 * request is not repeated while its error lasts. The client renews nothing by itself.
 *
 * **Example** (Map a port and give it back)
 *
 * ```ts
 * import * as PcpClient from "@effect-nat/natpmp/PcpClient"
 * import * as Effect from "effect/Effect"
 * import * as NetAddress from "effect/net/NetAddress"
 *
 * export const program = Effect.gen(function* () {
 *   const client = yield* PcpClient.make(NetAddress.ipFromStringUnsafe("192.168.1.1"))
 *   const nonce = yield* PcpClient.makeNonce
 *   const mapping = { protocol: "tcp", internalPort: 12000, nonce } as const
 *   const granted = yield* client.map({ ...mapping, externalPort: 12001, lifetime: "1 hour" })
 *   yield* Effect.log(granted.externalPort, granted.externalAddress)
 *   yield* client.delete(mapping)
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
import * as NatError from "@effect-nat/core/NatError"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import type * as Udp from "@effect-nat/core/Udp"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as EpochTrack from "./internal/epochTrack.ts"
import * as GatewayChannel from "./internal/gatewayChannel.ts"
import * as IgnoredDatagrams from "./internal/ignoredDatagrams.ts"
import * as Notices from "./internal/notices.ts"
import * as Refusals from "./internal/refusals.ts"
import * as Codec from "./PcpCodec.ts"
import * as Epoch from "./PcpEpoch.ts"
import * as ResultCode from "./PcpResultCode.ts"

/**
 * How one request is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface RequestOptions {
  /** How long to wait for the answer. Defaults to `defaultTimeout`. */
  readonly timeout?: Duration.Input | undefined
  /**
   * The mapping is held already: the request is sent again after 5 seconds and not after 3, since renewals must be 4
   * seconds apart (RFC 6887 §11.2.1), and also to a server that has no resources for further mappings. Defaults to
   * `false`.
   */
  readonly isRenewal?: boolean | undefined
}

/**
 * What identifies a mapping to a server, beside the host that asks.
 *
 * @category models
 * @since 0.1.0
 */
export interface InternalEnd {
  readonly protocol: PortMapping.Protocol
  /** 1 to 65535. */
  readonly internalPort: number
  /** The same one for the mapping's whole life: only who has it can renew and delete the mapping. See `makeNonce`. */
  readonly nonce: Codec.Nonce
  /** Another host than this one, whose port is meant: sends the option THIRD_PARTY, which most servers refuse (§13.1). */
  readonly internalAddress?: NetAddress.IpAddress | undefined
}

/**
 * A mapping to ask for.
 *
 * @category models
 * @since 0.1.0
 */
export interface MapOptions extends InternalEnd {
  /** The external port that would be liked, 1 to 65535, or 0 for any. The server decides. */
  readonly externalPort: number
  /** The external address that would be liked. Defaults to any. */
  readonly externalAddress?: NetAddress.IpAddress | undefined
  /** Goes out in whole seconds, rounded up, at least 1 and at most 2³² - 1. */
  readonly lifetime: Duration.Input
  /**
   * Rather no mapping than one with another external port or address: the option PREFER_FAILURE (§13.2). Some servers,
   * miniupnpd among them, grant another one all the same: whoever asks so has to compare, and to delete what is no use.
   */
  readonly prefersFailure?: boolean | undefined
  /** Packets come in only from these remote hosts: the option FILTER, once for each (§13.3). Defaults to all hosts. */
  readonly filters?: ReadonlyArray<Filter> | undefined
}

/**
 * Remote hosts whose packets come in.
 *
 * @category models
 * @since 0.1.0
 */
export interface Filter {
  readonly remoteAddress: NetAddress.IpAddress
  /** In bits of the address's own family. Defaults to the whole address. */
  readonly prefixLength?: number | undefined
  /** Defaults to all ports. */
  readonly remotePort?: number | undefined
}

/**
 * The mapping of a connection to ask for (RFC 6887 §12).
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerOptions extends Omit<MapOptions, "prefersFailure" | "filters"> {
  /** The peer that this host connects to. */
  readonly remotePeer: NetAddress.InetAddress
}

/**
 * A mapping as the server granted it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Granted {
  /** `undefined` where the server does not know it, or has none now. */
  readonly externalAddress: NetAddress.IpAddress | undefined
  readonly externalPort: number
  /** As the server says, but no longer than a day where that is more than was asked for (§15). */
  readonly lifetime: Duration.Duration
  /** The host that the mapping leads to. */
  readonly internalAddress: NetAddress.IpAddress
}

/**
 * A server that speaks PCP.
 *
 * @category models
 * @since 0.1.0
 */
export interface Announced {
  /** This host's own address towards the server. */
  readonly localAddress: NetAddress.IpAddress
}

/**
 * What the client knows of the server's mapping table.
 *
 * @category models
 * @since 0.1.0
 */
export interface TableState {
  /** As of the last answer or announcement; `undefined` before the first one. */
  readonly epoch: Epoch.Epoch | undefined
  /** As of the last answer: an announcement may be anybody's. */
  readonly answered: Epoch.Epoch | undefined
  /** How often an answer showed that the server may have lost its mappings (RFC 6887 §8.5). */
  readonly restarts: number
  /** The version that the server is known to speak: 2 is PCP, 0 is NAT-PMP; `undefined` before it has said so. */
  readonly version: number | undefined
}

/**
 * A client for one server.
 *
 * Every request fails with `TimedOut`, with `Unreachable` as soon as the server refuses the packet, and for a tenth of a
 * second after that, or with what its result code means (see `PcpResultCode`). The same request is not sent again while an error lasts, at most half an hour:
 * it fails at once with the same error, until the server starts over or this host has another address. Where the server
 * has no resources (`OutOfResources`, NO_RESOURCES on the wire) that holds for every new mapping, until one is deleted.
 * Only deletions are always sent. A server that speaks another version is `Unsupported` for half an hour, and
 * `tableState` says which version that is.
 *
 * @category models
 * @since 0.1.0
 */
export interface PcpClient {
  readonly server: NetAddress.IpAddress
  /** Asks whether the server is there, and what its epoch is (RFC 6887 §14.1); changes nothing on it. */
  readonly announce: (options?: RequestOptions) => Effect.Effect<Announced, NatError.NatError>
  /** Makes or extends a mapping (RFC 6887 §11). Fails with `InvalidRequest` for a port or a filter out of range. */
  readonly map: (mapping: MapOptions, options?: RequestOptions) => Effect.Effect<Granted, NatError.NatError>
  /**
   * Deletes a mapping (RFC 6887 §15). One that the server does not have counts as deleted, also where the server answers
   * that it has no resources, as miniupnpd does then; one with another nonce is `NotAuthorized`.
   */
  readonly delete: (mapping: InternalEnd, options?: RequestOptions) => Effect.Effect<void, NatError.NatError>
  /** Makes or extends the mapping of a connection that this host opens to a peer (RFC 6887 §12). */
  readonly peer: (mapping: PeerOptions, options?: RequestOptions) => Effect.Effect<Granted, NatError.NatError>
  /** Takes note of an announcement or of an update (RFC 6887 §14) that has come from the server. */
  readonly hear: (announcement: Codec.AnnounceResponse | Codec.MapResponse) => Effect.Effect<void>
  /** Forgets what the server has refused and which version it speaks; for whoever notices that it has started over. */
  readonly forget: Effect.Effect<void>
  /** What the answers and announcements so far tell about the server. */
  readonly tableState: Effect.Effect<TableState>
}

/**
 * How long a request waits for its answer: 45 seconds, which is time for four transmissions, and for the last one's
 * answer. RFC 6887 §8.1.1 would go on for ever.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultTimeout: Duration.Duration = Duration.seconds(45)

/**
 * Where nonces come from. By default from the system's source of randomness: nobody can guess them.
 *
 * @category references
 * @since 0.1.0
 */
export const NonceSource: Context.Reference<Effect.Effect<Codec.Nonce>> = Context.Reference<Effect.Effect<Codec.Nonce>>(
  "@effect-nat/natpmp/PcpClient/NonceSource",
  { defaultValue: () => Effect.sync(() => Codec.nonceFromBytes(crypto.getRandomValues(new Uint8Array(12)))) }
)

/**
 * A nonce for a new mapping (RFC 6887 §11.2).
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeNonce: Effect.Effect<Codec.Nonce> = Effect.flatten(NonceSource)

/** RFC 6887 §8.1.1, in milliseconds: the first pause (IRT), the longest (MRT), and how far each may be off (RAND). */
const firstPause = 3000
const firstPauseOfRenewals = 5000
const longestPause = 1_024_000
const jitter = 0.1

/** Each pause is twice the one before it, whatever came of that by chance; a request ends by its time limit. */
const retransmissionAfter = (first: number): Schedule.Schedule<Duration.Duration> =>
  Schedule.fromStep(
    Effect.sync(() => {
      let previous = first / 2
      return () =>
        Effect.map(Random.nextBetween(1 - jitter, 1 + jitter), (share): [Duration.Duration, Duration.Duration] => {
          previous = Math.round(share * Math.min(2 * previous, longestPause))
          const pause = Duration.millis(previous)
          return [pause, pause]
        })
    })
  )

const retransmission = retransmissionAfter(firstPause)
const retransmissionOfRenewals = retransmissionAfter(firstPauseOfRenewals)

const maximumSeconds = 0xffffffff

const wholeSeconds = (lifetime: Duration.Input): number =>
  Math.min(Math.max(Math.ceil(Duration.toSeconds(lifetime)), 1), maximumSeconds)

const isWithin = (value: number, lowest: number, highest: number) =>
  Number.isInteger(value) && value >= lowest && value <= highest

const check = (name: string, value: number, lowest: number, highest = 65535) =>
  isWithin(value, lowest, highest)
    ? Effect.void
    : Effect.fail(
        NatError.fromReason(
          new NatError.InvalidRequest({
            detail: `the ${name} must be a whole number from ${lowest} to ${highest}, not ${value}`
          })
        )
      )

const bitsOf = (address: NetAddress.IpAddress): number => (NetAddress.isIpv4Address(address) ? 32 : 128)

/** So many fit into a packet, beside the other options: an answer is as long as its request (RFC 6887 §7.3). */
const maximumFilters = 42

const checkFilters = Effect.fnUntraced(function* (filters: ReadonlyArray<Filter>) {
  yield* check("number of filters", filters.length, 0, maximumFilters)
  for (const { prefixLength, remoteAddress, remotePort } of filters) {
    yield* check("prefix length", prefixLength ?? 0, 0, bitsOf(remoteAddress))
    yield* check("remote port", remotePort ?? 0, 0)
  }
})

/** In bits of the 128 that every address has on the wire. A prefix of no bits is one of the address's family. */
const toOption = ({ prefixLength, remoteAddress, remotePort }: Filter): Codec.PcpOption => ({
  _tag: "Filter",
  prefixLength: 128 - bitsOf(remoteAddress) + (prefixLength ?? bitsOf(remoteAddress)),
  remotePeerPort: remotePort ?? 0,
  remotePeerAddress: remoteAddress
})

/** Never for the own address: many servers refuse the option, whatever it says. */
const thirdParty = ({ internalAddress }: InternalEnd, local: NetAddress.IpAddress): ReadonlyArray<Codec.PcpOption> =>
  internalAddress === undefined || Equal.equals(internalAddress, local) ? [] : [{ _tag: "ThirdParty", internalAddress }]

const mapOptions = (mapping: MapOptions, local: NetAddress.IpAddress): ReadonlyArray<Codec.PcpOption> => [
  ...thirdParty(mapping, local),
  ...(mapping.prefersFailure === true ? [{ _tag: "PreferFailure" } as const] : []),
  ...(mapping.filters ?? []).map(toOption)
]

/** No address in particular, of the family that the mapping is for (RFC 6887 §11.1). */
const anyAddress = (internal: NetAddress.IpAddress): NetAddress.IpAddress =>
  NetAddress.isIpv4Address(internal) ? NetAddress.ipv4Unspecified : NetAddress.ipv6Unspecified

const { ProtocolNumber } = Codec

const mapFields = (mapping: Omit<MapOptions, "lifetime">, local: NetAddress.IpAddress) => ({
  clientAddress: local,
  nonce: mapping.nonce,
  protocol: ProtocolNumber[mapping.protocol],
  internalPort: mapping.internalPort,
  externalPort: mapping.externalPort,
  externalAddress: mapping.externalAddress ?? anyAddress(mapping.internalAddress ?? local)
})

const endOf = ({ internalPort, protocol }: InternalEnd): string => `port ${internalPort}/${protocol}`

type Reading<A> = Result.Result<A | Codec.ErrorResponse, IgnoredDatagrams.Why>

const mismatch = (detail: string) => Result.fail(IgnoredDatagrams.mismatch(detail))

const isSameMapping = (self: Codec.MappingName, that: Codec.MappingName): boolean =>
  self.nonce === that.nonce && self.protocol === that.protocol && self.internalPort === that.internalPort

/** Errors about the request's form may come without what the request was about. */
const isAboutForm = (resultCode: number): boolean =>
  resultCode === ResultCode.Code.malformedRequest || resultCode === ResultCode.Code.unsupportedOpcode

const readError = (request: Codec.Request, error: Codec.ErrorResponse): Reading<never> => {
  const opcode = Codec.opcode(request)
  if (error.version !== Codec.version) {
    // A server of another version need not know the opcode that it refuses.
    return error.opcode === opcode || error.opcode === 0 ? Result.succeed(error) : mismatch("an error for another")
  }
  // Whoever speaks this version has refused another one.
  if (error.resultCode === ResultCode.Code.unsupportedVersion) return mismatch("a refusal of another version")
  if (error.opcode !== opcode) return mismatch("an error for another opcode")
  if (request._tag === "AnnounceRequest") return Result.succeed(error)
  const name = Codec.mappingOf(error)
  if (name === undefined) {
    return isAboutForm(error.resultCode) ? Result.succeed(error) : mismatch("an error that names no mapping")
  }
  return isSameMapping(name, request) ? Result.succeed(error) : mismatch("an error for another mapping")
}

const readMapping = <A extends Codec.MapResponse | Codec.PeerResponse>(
  request: Codec.MapRequest | Codec.PeerRequest,
  response: A
): Reading<A> => {
  if (!isSameMapping(response, request)) return mismatch("an answer for another mapping")
  // A late answer to a mapping must not pass for a deletion, nor the other way round.
  if ((response.lifetime === 0) !== (request.lifetime === 0)) return mismatch("an answer to an earlier request")
  if (response.lifetime !== 0 && response.externalPort === 0) return mismatch("an answer without an external port")
  return Result.succeed(response)
}

const readAnnounce = (response: Exclude<Codec.Response, Codec.ErrorResponse>): Reading<Codec.AnnounceResponse> =>
  response._tag === "AnnounceResponse" ? Result.succeed(response) : mismatch("an answer for another opcode")

const readMap =
  (request: Codec.MapRequest) =>
  (response: Exclude<Codec.Response, Codec.ErrorResponse>): Reading<Codec.MapResponse> =>
    response._tag === "MapResponse" ? readMapping(request, response) : mismatch("an answer for another opcode")

const readPeer =
  (request: Codec.PeerRequest) =>
  (response: Exclude<Codec.Response, Codec.ErrorResponse>): Reading<Codec.PeerResponse> => {
    if (response._tag !== "PeerResponse") return mismatch("an answer for another opcode")
    const isSamePeer =
      response.remotePeerPort === request.remotePeerPort &&
      Equal.equals(response.remotePeerAddress, request.remotePeerAddress)
    return isSamePeer ? readMapping(request, response) : mismatch("an answer for another peer")
  }

/** What may be asked, of whatever address of this host's. */
interface Question<Request, Response> {
  readonly name: string
  readonly request: (localAddress: NetAddress.IpAddress) => Request
  readonly read: (request: Request) => (response: Exclude<Codec.Response, Codec.ErrorResponse>) => Reading<Response>
}

const externalPortOf = (request: Codec.Request): number =>
  request._tag === "AnnounceRequest" ? 0 : request.externalPort

/** A multicast address or the like is none that the world could connect to. */
const addressOf = (address: NetAddress.IpAddress): NetAddress.IpAddress | undefined =>
  NetAddress.isUnicast(address) && !NetAddress.isUnspecified(address) ? address : undefined

/** No lifetime is believed that is longer than a day and than what was asked for (RFC 6887 §15), in seconds. */
const longestGift = 24 * 60 * 60

const grantedOf = (
  { externalAddress, externalPort, lifetime }: Codec.MapResponse | Codec.PeerResponse,
  mapping: MapOptions | PeerOptions,
  internalAddress: NetAddress.IpAddress
): Granted => ({
  externalAddress: addressOf(externalAddress),
  externalPort,
  lifetime: Duration.seconds(Math.min(lifetime, Math.max(wholeSeconds(mapping.lifetime), longestGift))),
  internalAddress
})

const grantedIn = (response: Codec.Response): Notices.Granted | undefined => {
  if (response._tag !== "MapResponse" || response.lifetime === 0) return undefined
  const { internalPort, nonce, protocol } = response
  return { protocol: protocol === ProtocolNumber.udp ? "udp" : "tcp", internalPort, nonce }
}

/**
 * A client on a way to the server that others may use as well; for whoever speaks both protocols of the port.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeOn = (channel: GatewayChannel.GatewayChannel, notices: Notices.Notices = Notices.none): PcpClient => {
  const server = channel.peer.address
  const refusals = Refusals.make()
  const track = EpochTrack.make(Epoch.hasRestarted)
  let version: number | undefined

  const forget = Effect.sync(() => {
    refusals.clear()
    version = undefined
  })

  const learn = Effect.fnUntraced(function* (
    seconds: number,
    receivedAt: bigint,
    isAnnounced: boolean,
    answer?: Codec.Response
  ) {
    const epoch: Epoch.Epoch = { seconds, receivedAt }
    // Whatever was heard before of another version: this one is spoken now.
    if (version !== Codec.version) yield* forget
    version = Codec.version
    if (!track.note(epoch, isAnnounced)) return
    refusals.clear()
    yield* notices.restarted(epoch, answer === undefined ? undefined : grantedIn(answer))
  })

  const reading =
    <Request extends Codec.Request, Response>(request: Request, read: Question<Request, Response>["read"]) =>
    (payload: Uint8Array): Reading<Response> => {
      const decoded = Codec.decodeResponse(payload)
      if (Result.isFailure(decoded)) return Result.fail(IgnoredDatagrams.malformed(decoded.failure.message))
      const response = decoded.success
      return response._tag === "ErrorResponse" ? readError(request, response) : read(request)(response)
    }

  const refuse = Effect.fnUntraced(function* (
    request: Codec.Request,
    payload: Uint8Array,
    response: Codec.ErrorResponse,
    now: bigint
  ) {
    const error = ResultCode.toNatError({
      resultCode: response.resultCode,
      version: response.version,
      externalPort: externalPortOf(request)
    })
    if (response.version !== Codec.version) {
      version = response.version
      refusals.noteVersion(request.clientAddress, error, now)
      return yield* error
    }
    const seconds = response.lifetime ?? 0
    refusals.note(payload, error, seconds, now)
    const isFull = response.resultCode === ResultCode.Code.noResources && request._tag !== "AnnounceRequest"
    // Of the deletion of what it does not have miniupnpd says so too.
    if (isFull && !Refusals.isDeletion(payload)) refusals.noteFull(error, seconds, now)
    return yield* error
  })

  const ask = Effect.fnUntraced(function* <Request extends Codec.Request, Response extends Codec.Response>(
    { name, read, request }: Question<Request, Response>,
    options: RequestOptions | undefined
  ) {
    const wanted = request(yield* channel.localAddress)
    const payload = Codec.encodeRequest(wanted)
    const isRenewal = options?.isRenewal === true
    const asked: Refusals.Asked = { from: wanted.clientAddress, request: payload, isRenewal }
    const known = refusals.find(asked, yield* Clock.monotonicTimeNanos)
    if (known !== undefined) return yield* known
    const { localAddress, receivedAt, value } = yield* channel.ask({
      name,
      // The socket may be another one by now.
      payload: (local) => (Equal.equals(local, wanted.clientAddress) ? payload : Codec.encodeRequest(request(local))),
      read: reading(wanted, read),
      retransmission: isRenewal ? retransmissionOfRenewals : retransmission,
      timeout: options?.timeout ?? defaultTimeout,
      takesTurn: false
    })
    if (value._tag !== "ErrorResponse") {
      yield* learn(value.epoch, receivedAt, false, value)
      return { response: value, localAddress }
    }
    if (value.epoch !== undefined) yield* learn(value.epoch, receivedAt, false)
    return yield* refuse(wanted, payload, value, receivedAt)
  })

  const announce = Effect.fn("PcpClient.announce")(function* (options?: RequestOptions) {
    const { localAddress } = yield* ask(
      {
        name: "the PCP announcement request",
        request: (clientAddress): Codec.AnnounceRequest => ({ _tag: "AnnounceRequest", clientAddress, options: [] }),
        read: () => readAnnounce
      },
      options
    )
    return { localAddress }
  })

  const checkMapping = Effect.fnUntraced(function* (mapping: MapOptions | PeerOptions) {
    yield* check("internal port", mapping.internalPort, 1)
    yield* check("external port", mapping.externalPort, 0)
  })

  const map = Effect.fn("PcpClient.map")(function* (mapping: MapOptions, options?: RequestOptions) {
    yield* checkMapping(mapping)
    // Rather no mapping than one with any port makes no sense, and servers refuse it (RFC 6887 §13.2).
    if (mapping.prefersFailure === true) yield* check("external port", mapping.externalPort, 1)
    yield* checkFilters(mapping.filters ?? [])
    const { localAddress, response } = yield* ask(
      {
        name: `the request to map ${endOf(mapping)}`,
        request: (local): Codec.MapRequest => ({
          _tag: "MapRequest",
          ...mapFields(mapping, local),
          lifetime: wholeSeconds(mapping.lifetime),
          options: mapOptions(mapping, local)
        }),
        read: readMap
      },
      options
    )
    return grantedOf(response, mapping, mapping.internalAddress ?? localAddress)
  })

  const remove = Effect.fn("PcpClient.delete")(function* (mapping: InternalEnd, options?: RequestOptions) {
    yield* check("internal port", mapping.internalPort, 1)
    yield* ask(
      {
        name: `the request to delete the mapping of ${endOf(mapping)}`,
        request: (local): Codec.MapRequest => ({
          _tag: "MapRequest",
          ...mapFields({ ...mapping, externalPort: 0 }, local),
          lifetime: 0,
          options: thirdParty(mapping, local)
        }),
        read: readMap
      },
      options
    ).pipe(
      Effect.tap(() => Effect.sync(refusals.clearFull)),
      Effect.asVoid,
      // Nothing needs no resources.
      Effect.catchReason("NatError", "OutOfResources", () => Effect.void)
    )
  })

  const peer = Effect.fn("PcpClient.peer")(function* (mapping: PeerOptions, options?: RequestOptions) {
    yield* checkMapping(mapping)
    yield* check("peer's port", mapping.remotePeer.port, 1)
    const { localAddress, response } = yield* ask(
      {
        name: `the request to keep the mapping of ${endOf(mapping)} to ${NetAddress.formatInet(mapping.remotePeer)}`,
        request: (local): Codec.PeerRequest => ({
          _tag: "PeerRequest",
          ...mapFields(mapping, local),
          remotePeerAddress: mapping.remotePeer.address,
          remotePeerPort: mapping.remotePeer.port,
          lifetime: wholeSeconds(mapping.lifetime),
          options: thirdParty(mapping, local)
        }),
        read: readPeer
      },
      options
    )
    return grantedOf(response, mapping, mapping.internalAddress ?? localAddress)
  })

  return {
    server,
    announce,
    map,
    delete: remove,
    peer,
    hear: ({ epoch: seconds }) =>
      Effect.flatMap(Clock.monotonicTimeNanos, (receivedAt) => learn(seconds, receivedAt, true)),
    forget,
    tableState: Effect.sync(() => ({
      epoch: track.latest(),
      answered: track.answered(),
      restarts: track.restarts(),
      version
    }))
  }
}

/**
 * A client for the server at an address. It opens its socket when it is first used, and closes it when it is idle and
 * with the scope. A link-local IPv6 address needs the number of its interface, hence the address with a port.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  server: NetAddress.IpAddress | NetAddress.InetAddress
): Effect.fn.Return<PcpClient, never, Udp.Udp | Scope.Scope> {
  const peer = NetAddress.isInetAddress(server) ? server : NetAddress.inetAddressUnsafe(server, Codec.serverPort)
  return makeOn(yield* GatewayChannel.make(peer))
})
