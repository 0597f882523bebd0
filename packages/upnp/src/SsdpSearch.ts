/**
 * The search for UPnP gateways: who is there, and where are they described?
 *
 * What nearly all gateways answer to goes out in one tick: to the default gateway itself, since some routers answer
 * nothing else and a host firewall then admits what comes back, and to the multicast group on every interface. Whoever
 * is content with the first answer ends the search there; else everything that odd ones answer to follows after 250
 * milliseconds, and all of it again twice, as datagrams get lost. Answers are passed on as they come, each place once.
 *
 * Answers are not believed further than they can be checked: they count only from the default gateway or from an
 * attached network, and the description is only ever fetched from the address that answered.
 *
 * @since 0.1.0
 */
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as NatError from "@effect-nat/core/NatError"
import type * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as Udp from "@effect-nat/core/Udp"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Stream from "effect/Stream"
import * as HttpUrl from "./HttpUrl.ts"
import * as Surroundings from "./internal/ssdpSurroundings.ts"
import * as Targets from "./internal/ssdpTargets.ts"
import * as Ssdp from "./Ssdp.ts"

/**
 * An answer that may be followed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answer {
  /** The address that answered. */
  readonly from: NetAddress.Ipv4Address
  /** Where the description is, on the address that answered. */
  readonly location: HttpUrl.HttpUrl
  readonly isDefaultGateway: boolean
  readonly message: Ssdp.SearchAnswer
}

/**
 * How long a search waits for answers when nobody says otherwise: 3 seconds. Each answer is there as soon as it comes.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultDuration: Duration.Duration = Duration.seconds(3)

/**
 * The most places that one search yields: 16.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumAnswers = 16

/**
 * How many networks a multicast search crosses at the most: the TTL of its datagrams, 2 by default (UPnP Device
 * Architecture 1.1 §1.3.2). Provide another to a search, or to the layer that searches.
 *
 * @category references
 * @since 0.1.0
 */
export const MulticastTtl = Context.Reference<number>("@effect-nat/upnp/SsdpSearch/MulticastTtl", {
  defaultValue: () => 2
})

const allTargets = [...Targets.gateway, ...Targets.broad]

interface Round {
  /** After the round before. */
  readonly pause: Duration.Duration
  /** What is asked for, of all that a searcher may ask for, by unicast and by multicast. */
  readonly unicast: (target: string) => boolean
  readonly multicast: (target: string) => boolean
}

const isForGateways = (target: string): boolean => !Targets.broad.includes(target)
const everything = () => true

/**
 * A gateway answers one search after the other, often on a slow processor, and only then its description is its turn:
 * the first round asks for nothing but what nearly all gateways answer to, and what else there is to ask for goes out
 * only where that did not do. The whole network is called last.
 */
const rounds: ReadonlyArray<Round> = [
  { pause: Duration.zero, unicast: Targets.isFirst, multicast: Targets.isFirst },
  {
    pause: Duration.millis(250),
    unicast: (target) => !Targets.isFirst(target),
    multicast: (target) => isForGateways(target) && !Targets.isFirst(target)
  },
  { pause: Duration.millis(250), unicast: everything, multicast: everything },
  { pause: Duration.millis(700), unicast: everything, multicast: everything }
]
/**
 * Devices spread their answers over this many seconds; there are not many of them at home. A unicast search needs none
 * and is answered at once, but some gateways ignore every search without it.
 */
const mx = 1
const maximumSockets = 16

/** A device with many descriptions must not use up the places of the others. */
const maximumPerAddress = 4
/** Printers and televisions answer to broad searches. */
const maximumBroad = 6

interface Searcher {
  readonly socket: Udp.UdpSocket
  /** Who is asked by unicast, and for what. */
  readonly gateways: ReadonlyArray<NetAddress.Ipv4Address>
  readonly targets: ReadonlyArray<string>
  readonly multicast: boolean
  /** Where the gateways listen. */
  readonly port: number
}

type Opened = Effect.Effect<
  { readonly socket: Udp.UdpSocket },
  DatagramSocket.DatagramSocketError,
  Udp.Udp | Scope.Scope
>

const open = (options: Udp.OpenOptions): Opened =>
  Effect.map(
    Udp.Udp.use((udp) => udp.open(options)),
    (socket) => ({ socket })
  )

/** One socket for each own address, which also asks the gateways that are reached from it. */
const openAll = Effect.fnUntraced(function* ({ gateways, interfaces }: Surroundings.Surroundings) {
  const own = Surroundings.ownAddresses(interfaces.filter((one) => !one.isLoopback)).slice(0, maximumSockets)
  const ttl = yield* MulticastTtl
  const reached = new Set<NetAddress.Ipv4Address>()
  const opening: Array<Effect.Effect<Searcher, DatagramSocket.DatagramSocketError, Udp.Udp | Scope.Scope>> = []
  for (const address of own) {
    const network = IpNetwork.fromInterface(address)
    const near = gateways.filter((gateway) => !reached.has(gateway) && IpNetwork.contains(network, gateway))
    near.forEach((gateway) => reached.add(gateway))
    opening.push(
      Effect.map(
        open({ bind: { address: address.address }, multicast: { interface: address.address, ttl } }),
        ({ socket }) => ({ socket, gateways: near, targets: allTargets, multicast: true, port: Ssdp.port })
      )
    )
  }
  const far = gateways.filter((gateway) => !reached.has(gateway))
  if (far.length > 0) {
    opening.push(
      Effect.map(open({}), ({ socket }) => ({
        socket,
        gateways: far,
        targets: allTargets,
        multicast: false,
        port: Ssdp.port
      }))
    )
  }
  return yield* openSome(opening)
})

/** An address that just went away, or a gateway that cannot be reached, must not stop the search on the others. */
const openSome = Effect.fnUntraced(function* <R>(
  opening: ReadonlyArray<Effect.Effect<Searcher, DatagramSocket.DatagramSocketError, R>>
) {
  const results = yield* Effect.forEach(opening, Effect.result, { concurrency: "unbounded" })
  const searchers = results.filter(Result.isSuccess).map((result) => result.success)
  const [failure] = results.filter(Result.isFailure).map((result) => result.failure)
  if (searchers.length === 0 && failure !== undefined) {
    return yield* NatError.fromReason(
      new NatError.Unreachable({ detail: `cannot search for UPnP: ${Udp.describeError(failure)}` })
    )
  }
  return searchers
})

const ask = (socket: Udp.UdpSocket, address: NetAddress.Ipv4Address, port: number, searchTarget: string) => {
  const to = NetAddress.inetAddressUnsafe(address, port)
  const message = new Ssdp.SearchRequest({ host: NetAddress.formatInet(to), searchTarget, mx })
  return Effect.catch(socket.send(Ssdp.encode(message), to), (error) =>
    Effect.logDebug(`a search to ${NetAddress.formatInet(to)} could not be sent: ${Udp.describeError(error)}`)
  )
}

const askRound = Effect.fnUntraced(function* (searcher: Searcher, round: Round) {
  const { gateways, multicast, port, socket, targets } = searcher
  for (const gateway of gateways) {
    for (const target of targets.filter(round.unicast)) yield* ask(socket, gateway, port, target)
  }
  if (!multicast) return
  for (const target of targets.filter(round.multicast)) yield* ask(socket, Ssdp.group, Ssdp.port, target)
})

const askAll = (searchers: ReadonlyArray<Searcher>) =>
  Effect.forEach(
    rounds,
    (round) =>
      Effect.andThen(
        Effect.sleep(round.pause),
        Effect.forEach(searchers, (searcher) => askRound(searcher, round), { concurrency: "unbounded", discard: true })
      ),
    { discard: true }
  )

const received = (searcher: Searcher): Stream.Stream<DatagramSocket.Datagram> =>
  Stream.fromEffectRepeat(searcher.socket.receive).pipe(
    Stream.flattenIterable,
    Stream.catch((error) =>
      Stream.drain(Stream.fromEffect(Effect.logDebug(`no more answers on one socket: ${Udp.describeError(error)}`)))
    )
  )

/**
 * Reads one datagram as an answer that may be followed; fails with why it may not.
 *
 * The sender must be a default gateway or lie in an attached network, which also keeps loopback to loopback. The
 * location must be an `http` URL; it is pinned to the sender, whatever host it names.
 *
 * @category decoding
 * @since 0.1.0
 */
export const trust = (
  datagram: DatagramSocket.Datagram,
  interfaces: ReadonlyArray<NetworkInterfaces.NetworkInterface>,
  gateways: ReadonlyArray<NetAddress.IpAddress>
): Result.Result<Answer, string> => {
  const sender = Surroundings.sender(datagram.address.address, interfaces, gateways)
  if (Result.isFailure(sender)) return Result.fail(sender.failure)
  const message = Ssdp.decode(datagram.payload)
  if (Result.isFailure(message)) return Result.fail(message.failure.detail)
  const answer = message.success
  if (answer._tag !== "SearchAnswer") return Result.fail("not an answer to a search")
  return Result.map(HttpUrl.fromString(answer.location, sender.success.from), (location) => ({
    ...sender.success,
    location,
    message: answer
  }))
}

const isBroad = (answer: Answer): boolean =>
  !answer.isDefaultGateway && !Targets.nameGateway(answer.message.searchTarget, answer.message.usn)

const count = <A>(list: ReadonlyArray<A>, is: (one: A) => boolean): number => list.filter(is).length

/** Each place once, and room kept for the default gateway. */
const admits = (admitted: ReadonlyArray<Answer>, answer: Answer): boolean => {
  const place = HttpUrl.format(answer.location)
  if (admitted.some((one) => HttpUrl.format(one.location) === place)) return false
  const text = NetAddress.formatIp(answer.from)
  if (count(admitted, (one) => NetAddress.formatIp(one.from) === text) >= maximumPerAddress) return false
  if (answer.isDefaultGateway) return admitted.length < maximumAnswers
  if (isBroad(answer) && count(admitted, isBroad) >= maximumBroad) return false
  return count(admitted, (one) => !one.isDefaultGateway) < maximumAnswers - maximumPerAddress
}

const nothingAdmitted: ReadonlyArray<Answer> = []

const run = (
  openSearchers: (
    around: Surroundings.Surroundings
  ) => Effect.Effect<ReadonlyArray<Searcher>, NatError.NatError, Udp.Udp | Scope.Scope>,
  duration: Duration.Input
) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const around = yield* Surroundings.read
      const searchers = yield* openSearchers(around)
      // Now, not when it is its turn: the answer takes its time, and all else can be made ready meanwhile.
      yield* Effect.forkScoped(askAll(searchers), { startImmediately: true })
      return Stream.mergeAll(searchers.map(received), { concurrency: "unbounded" }).pipe(
        Stream.map((datagram) => trust(datagram, around.interfaces, around.gateways)),
        Stream.tap((answer) =>
          Result.isFailure(answer) ? Effect.logDebug(`an answer is not followed: ${answer.failure}`) : Effect.void
        ),
        Stream.filterMap((answer) => answer),
        Stream.mapAccum(
          () => nothingAdmitted,
          (admitted, answer) => (admits(admitted, answer) ? [[...admitted, answer], [answer]] : [admitted, []])
        ),
        Stream.interruptWhen(Effect.sleep(duration))
      )
    })
  )

/**
 * Searches once: a stream of the places where gateways may be described, each once and as soon as it is known, which
 * ends after `duration` (3 seconds by default). No answer at all is an empty stream. Fails with `Unreachable` only
 * where no socket can be opened at all.
 *
 * @category constructors
 * @since 0.1.0
 */
export const search = (options?: {
  readonly duration?: Duration.Input | undefined
}): Stream.Stream<
  Answer,
  NatError.NatError,
  Udp.Udp | NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute
> => run(openAll, options?.duration ?? defaultDuration)

/**
 * Asks one host, by unicast, whether it is still there: a few datagrams instead of a search of the whole network.
 * Otherwise as `search`; what others say meanwhile is left out. `port` is the one that the host has named for this
 * (`searchPort` of its messages), 1900 by default.
 *
 * @category constructors
 * @since 0.1.0
 */
export const searchHost = (
  address: NetAddress.Ipv4Address,
  options?: { readonly duration?: Duration.Input | undefined; readonly port?: number | undefined }
): Stream.Stream<
  Answer,
  NatError.NatError,
  Udp.Udp | NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute
> => {
  const text = NetAddress.formatIp(address)
  const asked = Effect.map(open({}), ({ socket }) => ({
    socket,
    gateways: [address],
    targets: Targets.few,
    multicast: false,
    port: options?.port ?? Ssdp.port
  }))
  return run(() => openSome([asked]), options?.duration ?? defaultDuration).pipe(
    Stream.filter(({ from }) => NetAddress.formatIp(from) === text)
  )
}
