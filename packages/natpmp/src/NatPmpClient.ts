/**
 * A NAT-PMP client for one gateway (RFC 6886): external address, map, delete one, delete all.
 *
 * It retransmits as §3.1 says and asks one question at a time; callers wait for their turn, and one that gives up
 * blocks nobody. An answer counts only when it comes from the gateway's address and port and its version, opcode,
 * length and internal port are those of the question; every other datagram is counted and changes nothing. The client
 * renews nothing by itself.
 *
 * **Example** (Ask a gateway for its external address)
 *
 * ```ts
 * import * as NatPmpClient from "@effect-nat/natpmp/NatPmpClient"
 * import * as Effect from "effect/Effect"
 * import * as NetAddress from "effect/net/NetAddress"
 *
 * export const program = Effect.gen(function* () {
 *   const gateway = yield* Effect.fromResult(NetAddress.ipv4FromString("192.168.1.1"))
 *   const client = yield* NatPmpClient.make(gateway)
 *   const { address } = yield* client.externalAddress({ timeout: "2 seconds" })
 *   yield* Effect.log(NetAddress.formatIp(address))
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
import * as NatError from "@effect-nat/core/NatError"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import type * as Udp from "@effect-nat/core/Udp"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as EpochTrack from "./internal/epochTrack.ts"
import * as GatewayChannel from "./internal/gatewayChannel.ts"
import * as IgnoredDatagrams from "./internal/ignoredDatagrams.ts"
import * as Notices from "./internal/notices.ts"
import * as Codec from "./NatPmpCodec.ts"
import * as Epoch from "./NatPmpEpoch.ts"
import * as ResultCode from "./NatPmpResultCode.ts"
import * as PcpCodec from "./PcpCodec.ts"

/**
 * How one request is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface RequestOptions {
  /** How long to wait for the answer. Defaults to `fullTimeout`. Waiting for other requests' answers does not count. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * How the external address is asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface ExternalAddressOptions {
  /** How long to wait, for the turn and for the answer. Defaults to `fullTimeout`. */
  readonly timeout?: Duration.Input | undefined
  /** Take an answer that is no older than this and ask nothing. Defaults to zero: always ask. */
  readonly maxAge?: Duration.Input | undefined
  /**
   * Send the question again and again after this time. Defaults to the schedule of RFC 6886 §3.1, 250 ms and then twice
   * as long each time, which leaves a short timeout few transmissions to lose.
   */
  readonly interval?: Duration.Input | undefined
}

/**
 * What the gateway says about its external address.
 *
 * @category models
 * @since 0.1.0
 */
export interface ExternalAddress {
  readonly address: NetAddress.Ipv4Address
  /** This host's own address towards the gateway. */
  readonly localAddress: NetAddress.IpAddress
}

/**
 * What identifies a mapping to NAT-PMP, beside the host that asks: one internal port has one mapping.
 *
 * @category models
 * @since 0.1.0
 */
export interface InternalEnd {
  readonly protocol: PortMapping.Protocol
  /** 1 to 65535. */
  readonly internalPort: number
}

/**
 * A mapping to ask for.
 *
 * @category models
 * @since 0.1.0
 */
export interface MapOptions extends InternalEnd {
  /** The external port that would be liked, 1 to 65535, or 0 for any. The gateway decides. */
  readonly externalPort: number
  /** Goes out in whole seconds, rounded up, at least 1 and at most 2³² - 1. */
  readonly lifetime: Duration.Input
}

/**
 * A mapping as the gateway granted it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Granted {
  readonly externalPort: number
  readonly lifetime: Duration.Duration
  /** This host's own address towards the gateway, which the mapping leads to. */
  readonly localAddress: NetAddress.IpAddress
}

/**
 * What the client knows of the gateway's mapping table.
 *
 * @category models
 * @since 0.1.0
 */
export interface TableState {
  /** As of the last answer or announcement; `undefined` before the first one. */
  readonly epoch: Epoch.Epoch | undefined
  /** As of the last answer: an announcement may be anybody's. */
  readonly answered: Epoch.Epoch | undefined
  /** How often an answer showed that the gateway has lost its mappings (RFC 6886 §3.6). */
  readonly restarts: number
}

/**
 * A client for one gateway.
 *
 * Every request fails with `TimedOut`, with `Unreachable` as soon as the gateway refuses the packet, and for a tenth of a
 * second after that, or with what its result code means (see `NatPmpResultCode`).
 *
 * @category models
 * @since 0.1.0
 */
export interface NatPmpClient {
  readonly gateway: NetAddress.Ipv4Address
  /** Asks for the external address (RFC 6886 §3.2). Fails with `NoExternalAddress` where it is 0.0.0.0. */
  readonly externalAddress: (options?: ExternalAddressOptions) => Effect.Effect<ExternalAddress, NatError.NatError>
  /** Makes or extends a mapping (RFC 6886 §3.3). Fails with `InvalidRequest` for a port out of range. */
  readonly map: (mapping: MapOptions, options?: RequestOptions) => Effect.Effect<Granted, NatError.NatError>
  /**
   * Deletes a mapping (RFC 6886 §3.4). One that the gateway does not have counts as deleted. Fails with
   * `InvalidRequest` for a port out of range: 0 would delete the mappings of every program on this host.
   */
  readonly delete: (mapping: InternalEnd, options?: RequestOptions) => Effect.Effect<void, NatError.NatError>
  /**
   * Deletes all mappings of this host for a protocol (RFC 6886 §3.4), whichever program made them, and over PCP and UPnP
   * as well on many gateways. No strategy does that.
   */
  readonly deleteAll: (
    protocol: PortMapping.Protocol,
    options?: RequestOptions
  ) => Effect.Effect<void, NatError.NatError>
  /**
   * Takes note of an announcement (RFC 6886 §3.2.1) that has come from the gateway: its epoch, and that an address known
   * from an earlier answer holds no longer. The announced address itself is not believed: whoever wants it asks.
   */
  readonly hear: (announcement: Codec.ExternalAddressResponse) => Effect.Effect<void>
  /** What the answers and announcements so far tell about the gateway's mapping table. */
  readonly tableState: Effect.Effect<TableState>
}

/**
 * The whole exchange of RFC 6886 §3.1: nine transmissions after 0, 250, 500, 1000 … ms, and 64 seconds for the last.
 *
 * @category defaults
 * @since 0.1.0
 */
export const fullTimeout: Duration.Duration = Duration.millis(250 * (2 ** 9 - 1))

/** The first transmission is no retransmission: eight more make nine. */
const retransmission = Schedule.exponential("250 millis").pipe(Schedule.upTo({ times: 8 }))

const externalAddressName = "the external address request"

const maximumSeconds = 0xffffffff

const wholeSeconds = (lifetime: Duration.Input): number =>
  Math.min(Math.max(Math.ceil(Duration.toSeconds(lifetime)), 1), maximumSeconds)

const isPort = (port: number, lowest: number) => Number.isInteger(port) && port >= lowest && port <= 65535

const checkPort = (name: string, port: number, lowest: number) =>
  isPort(port, lowest)
    ? Effect.void
    : Effect.fail(
        NatError.fromReason(
          new NatError.InvalidRequest({
            detail: `the ${name} port must be a whole number from ${lowest} to 65535, not ${port}`
          })
        )
      )

/**
 * Whether an error is the answer to this request: the request's opcode and, where it is named, its internal port.
 *
 * A gateway that says that it speaks this very version has been asked in another one.
 */
const isErrorFor = (request: Codec.Request, error: Codec.ErrorResponse, hasSpokenPcp: boolean): boolean => {
  if (hasSpokenPcp && error.resultCode === 1 && error.version === Codec.version) return false
  // A gateway of another version need not know the opcode that it refuses.
  if (error.opcode !== Codec.opcode(request)) return error.resultCode === 1 && error.opcode === 0
  if (request._tag === "ExternalAddressRequest" || error.internalPort === undefined) return true
  return error.internalPort === request.internalPort
}

type Answer<A> = A | Codec.ErrorResponse

type Reading<A> = Result.Result<Answer<A>, string>

const readExternalAddress = (response: Codec.Response): Reading<Codec.ExternalAddressResponse> =>
  response._tag === "MapResponse" ? Result.fail("an answer to a mapping request") : Result.succeed(response)

const readMap = (request: Codec.MapRequest, response: Codec.Response): Reading<Codec.MapResponse> => {
  if (response._tag === "ExternalAddressResponse") return Result.fail("an answer to an external address request")
  if (response._tag === "ErrorResponse") return Result.succeed(response)
  if (response.protocol !== request.protocol) return Result.fail("an answer for the other protocol")
  if (response.internalPort !== request.internalPort) return Result.fail("an answer for another internal port")
  // A late answer to a mapping must not pass for a deletion, nor the other way round.
  const isDeletion = response.lifetime === 0 || response.externalPort === 0
  if (isDeletion !== (request.lifetime === 0)) return Result.fail("an answer to an earlier request for this port")
  return Result.succeed(response)
}

interface State {
  readonly externalAddress: { readonly value: ExternalAddress; readonly receivedAt: bigint } | undefined
  /** What the gateway has said last of its external address; `undefined` before that. */
  readonly said: NetAddress.Ipv4Address | undefined
}

const initial: State = { externalAddress: undefined, said: undefined }

/** An address that is another one now is asked for again by whoever wants it. */
const noteAddress =
  (address: NetAddress.Ipv4Address) =>
  (state: State): readonly [isAnother: boolean, next: State] =>
    state.said !== undefined && Equal.equals(state.said, address)
      ? [false, state]
      : [state.said !== undefined, { ...state, said: address, externalAddress: undefined }]

const grantedIn = (response: Codec.Response): Notices.Granted | undefined =>
  response._tag === "MapResponse" && response.lifetime > 0
    ? { protocol: response.protocol, internalPort: response.internalPort, nonce: undefined }
    : undefined

/**
 * A client on a way to the gateway that others may use as well; for whoever speaks both protocols of the port.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeOn = Effect.fnUntraced(function* (
  gateway: NetAddress.Ipv4Address,
  channel: GatewayChannel.GatewayChannel,
  notices: Notices.Notices = Notices.none
): Effect.fn.Return<NatPmpClient> {
  const state = yield* Ref.make(initial)
  const track = EpochTrack.make(Epoch.hasRestarted)
  const addressTurn = yield* Semaphore.make(1)

  const learn = Effect.fnUntraced(function* (epoch: Epoch.Epoch, isAnnounced: boolean, answer?: Codec.Response) {
    if (!track.note(epoch, isAnnounced)) return
    // A restarted gateway may have another external address as well.
    yield* Ref.update(state, (known) => ({ ...known, externalAddress: undefined }))
    yield* notices.restarted(epoch, answer === undefined ? undefined : grantedIn(answer))
  })

  const learnAddress = Effect.fnUntraced(function* (address: NetAddress.Ipv4Address, isAnnounced: boolean) {
    if (yield* Ref.modify(state, noteAddress(address))) yield* notices.readdressed(address, isAnnounced)
  })

  const reading =
    <A extends Codec.Response>(request: Codec.Request, read: (response: Codec.Response) => Reading<A>) =>
    (payload: Uint8Array): Result.Result<Answer<A>, IgnoredDatagrams.Why> => {
      const decoded = Codec.decodeResponse(payload)
      if (Result.isFailure(decoded)) return Result.fail(IgnoredDatagrams.malformed(decoded.failure.message))
      const response = decoded.success
      if (response._tag === "ErrorResponse" && !isErrorFor(request, response, channel.hasSpoken(PcpCodec.version))) {
        return Result.fail(IgnoredDatagrams.mismatch("an error for another request"))
      }
      return Result.mapError(read(response), IgnoredDatagrams.mismatch)
    }

  const exchange = Effect.fnUntraced(function* <A extends Codec.Response>(
    name: string,
    request: Codec.Request,
    read: (response: Codec.Response) => Reading<A>,
    options: (RequestOptions & Pick<ExternalAddressOptions, "interval">) | undefined
  ) {
    const { localAddress, receivedAt, value } = yield* channel.ask({
      name,
      payload: () => Codec.encodeRequest(request),
      read: reading(request, read),
      retransmission: options?.interval === undefined ? retransmission : Schedule.spaced(options.interval),
      timeout: options?.timeout ?? fullTimeout,
      takesTurn: true
    })
    if (value.epoch !== undefined) yield* learn({ seconds: value.epoch, receivedAt }, false, value)
    return { response: value, localAddress, receivedAt }
  })

  const askExternalAddress = Effect.fnUntraced(function* (options: ExternalAddressOptions | undefined) {
    const request: Codec.ExternalAddressRequest = { _tag: "ExternalAddressRequest" }
    const asked = yield* exchange(externalAddressName, request, readExternalAddress, options)
    const { localAddress, receivedAt, response } = asked
    if (response._tag === "ErrorResponse") return yield* ResultCode.toNatError(response.resultCode, response.version)
    yield* learnAddress(response.externalAddress, false)
    if (NetAddress.isUnspecified(response.externalAddress)) {
      return yield* NatError.fromReason(
        new NatError.NoExternalAddress({
          detail: `${NetAddress.formatIp(gateway)} has none now: check that its own line is up`
        })
      )
    }
    const value: ExternalAddress = { address: response.externalAddress, localAddress }
    yield* Ref.update(state, (known) => ({ ...known, externalAddress: { value, receivedAt } }))
    return value
  })

  const recentAddress = Effect.fnUntraced(function* (maxAge: Duration.Input) {
    const { externalAddress } = yield* Ref.get(state)
    if (externalAddress === undefined) return undefined
    const age = Duration.nanos((yield* Clock.monotonicTimeNanos) - externalAddress.receivedAt)
    return Duration.isLessThan(age, Duration.fromInputUnsafe(maxAge)) ? externalAddress.value : undefined
  })

  const externalAddress = Effect.fn("NatPmpClient.externalAddress")(
    function* (options?: ExternalAddressOptions) {
      const recent = yield* recentAddress(options?.maxAge ?? Duration.zero)
      return recent ?? (yield* askExternalAddress(options))
    },
    // Those who ask at the same time share the first one's answer, if they take one that is not brand-new; and they
    // wait for a silent gateway together and not one after the other.
    (effect, options) =>
      Effect.timeoutOrElse(addressTurn.withPermit(effect), {
        duration: options?.timeout ?? fullTimeout,
        orElse: () =>
          Effect.fail(
            NatError.fromReason(
              new NatError.TimedOut({ detail: `${NetAddress.formatIp(gateway)} did not answer ${externalAddressName}` })
            )
          )
      })
  )

  const exchangeMap = Effect.fnUntraced(function* (
    name: string,
    request: Codec.MapRequest,
    options: RequestOptions | undefined
  ) {
    const read = (response: Codec.Response) => readMap(request, response)
    const { localAddress, response } = yield* exchange(name, request, read, options)
    if (response._tag === "ErrorResponse") return yield* ResultCode.toNatError(response.resultCode, response.version)
    return { response, localAddress }
  })

  const exchangeDeletion =
    (name: string, end: Codec.MapRequest["protocol"], internalPort: number) => (options: RequestOptions | undefined) =>
      Effect.asVoid(
        exchangeMap(name, { _tag: "MapRequest", protocol: end, internalPort, externalPort: 0, lifetime: 0 }, options)
      )

  const map = Effect.fn("NatPmpClient.map")(function* (mapping: MapOptions, options?: RequestOptions) {
    yield* checkPort("internal", mapping.internalPort, 1)
    yield* checkPort("external", mapping.externalPort, 0)
    const { localAddress, response } = yield* exchangeMap(
      `the request to map port ${mapping.internalPort}/${mapping.protocol}`,
      {
        _tag: "MapRequest",
        protocol: mapping.protocol,
        internalPort: mapping.internalPort,
        externalPort: mapping.externalPort,
        lifetime: wholeSeconds(mapping.lifetime)
      },
      options
    )
    const lifetime = Duration.seconds(response.lifetime)
    return { externalPort: response.externalPort, lifetime, localAddress }
  })

  const remove = Effect.fn("NatPmpClient.delete")(function* (mapping: InternalEnd, options?: RequestOptions) {
    yield* checkPort("internal", mapping.internalPort, 1)
    const name = `the request to delete the mapping of port ${mapping.internalPort}/${mapping.protocol}`
    yield* exchangeDeletion(name, mapping.protocol, mapping.internalPort)(options)
  })

  const deleteAll = Effect.fn("NatPmpClient.deleteAll")((protocol: PortMapping.Protocol, options?: RequestOptions) =>
    exchangeDeletion(`the request to delete all ${protocol} mappings`, protocol, 0)(options)
  )

  const hear = Effect.fnUntraced(function* (announcement: Codec.ExternalAddressResponse) {
    yield* learn({ seconds: announcement.epoch, receivedAt: yield* Clock.monotonicTimeNanos }, true)
    yield* learnAddress(announcement.externalAddress, true)
  })

  return {
    gateway,
    externalAddress,
    map,
    delete: remove,
    deleteAll,
    hear,
    tableState: Effect.sync(() => ({ epoch: track.latest(), answered: track.answered(), restarts: track.restarts() }))
  }
})

/**
 * A client for the gateway at an address. It opens its socket when it is first used, and closes it when it is idle and
 * with the scope.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  gateway: NetAddress.Ipv4Address
): Effect.fn.Return<NatPmpClient, never, Udp.Udp | Scope.Scope> {
  const channel = yield* GatewayChannel.make(NetAddress.inetAddressUnsafe(gateway, Codec.gatewayPort))
  return yield* makeOn(gateway, channel)
})
