/**
 * The LAN beacon: services of a local network find each other without anybody between them.
 *
 * Who announces sends two kinds of packets (`BeaconCodec`) by broadcast, every 5 seconds, on each IPv4 network that this
 * host is attached to: the old CRQT packet for up to 16 sessions, and one with the whole contact point. When the scope
 * closes, it says goodbye. Who watches knows what is on the network now: what is not heard for three intervals is gone,
 * or sooner where it promised less.
 *
 * Two services are told apart by their instance ids, so hosts may use one fixed port, and a host may run several. A
 * packet in the old format stands for itself, at the address that it came from, unless an extended one has told the same
 * session at the same address and port.
 *
 * **Gotchas**
 *
 * Anybody on the network can hear a beacon, and can forge one: a sighting is a hint where to look. Without
 * `withCapabilities` it opens nothing; what opens a dispatcher's control is never announced. Names are as the others
 * wrote them, control characters included.
 *
 * Nothing is believed further than it can be checked: a sender lies in an attached network; it is remembered for at
 * most 32 of 256 sightings, of which the one that was heard longest ago makes room; and an instance is what its first
 * source says it is, until that falls silent.
 *
 * **Example** (What comes and goes on this network)
 *
 * ```ts
 * import * as NodeHost from "@effect-nat/core/NodeHost"
 * import * as Beacon from "@effect-nat/dispatcher/Beacon"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import * as Stream from "effect/Stream"
 *
 * export const program = Effect.gen(function* () {
 *   const beacon = yield* Beacon.Beacon
 *   const { changes } = yield* beacon.watch()
 *   yield* Stream.runForEach(changes, ({ _tag, sighting }) => Effect.log(_tag, sighting.contactPoint.name))
 * }).pipe(Effect.scoped, Effect.provide(Beacon.layer().pipe(Layer.provide(NodeHost.layer))))
 * ```
 *
 * @since 0.1.0
 */
import * as Announcer from "@effect-nat/core/Announcer"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Monotonic from "@effect-nat/core/Monotonic"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as Udp from "@effect-nat/core/Udp"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Stream from "effect/Stream"
import * as BeaconCodec from "./BeaconCodec.ts"
import * as Table from "./internal/beaconTable.ts"

/**
 * Another program of this host has the beacon's port, and does not share it.
 *
 * @category errors
 * @since 0.1.0
 */
export class PortInUse extends Schema.TaggedError<PortInUse>("@effect-nat/dispatcher/BeaconPortInUse")("PortInUse", {
  port: Schema.Int
}) {
  override get message(): string {
    return `UDP port ${this.port} is in use on this host by a program that does not share it: end that program to hear beacons`
  }
}

/**
 * The operating system does not let this program listen.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenFailed extends Schema.TaggedError<ListenFailed>("@effect-nat/dispatcher/BeaconListenFailed")(
  "ListenFailed",
  { port: Schema.Int, detail: Schema.String }
) {
  override get message(): string {
    return `cannot listen for beacons on UDP port ${this.port}: ${this.detail}`
  }
}

/**
 * Why beacons cannot be heard.
 *
 * @category errors
 * @since 0.1.0
 */
export class BeaconError extends Schema.TaggedError<BeaconError>("@effect-nat/dispatcher/BeaconError")("BeaconError", {
  reason: Schema.Union([PortInUse, ListenFailed])
}) {
  override get message(): string {
    return this.reason.message
  }
}

/**
 * Something that is on the network now.
 *
 * @category models
 * @since 0.1.0
 */
export interface Sighting {
  /** Tells it apart from the others of one watch, as long as it is there: whatever it says changes under one id. */
  readonly id: number
  /** Whether it announces its whole contact point, or only in the old format. */
  readonly format: "crqt" | "extended"
  /** The address that its packets come from. */
  readonly source: NetAddress.Ipv4Address
  /** What it has announced. The source is among the internal addresses, unless what is announced is not there. */
  readonly contactPoint: ContactPoint.ContactPoint
  /** In milliseconds since 1970. */
  readonly firstSeen: number
  /** In milliseconds since 1970. */
  readonly lastSeen: number
}

/**
 * What happens to a sighting: it is there, it has become another, it is gone. That it was heard again is no change.
 *
 * @category models
 * @since 0.1.0
 */
export interface Change {
  readonly _tag: "Found" | "Changed" | "Lost"
  /** As it is now; what is gone as it was. */
  readonly sighting: Sighting
}

/**
 * A listener for beacons.
 *
 * @category models
 * @since 0.1.0
 */
export interface Watch {
  /** What is there now, in the order in which it was found. */
  readonly sightings: Effect.Effect<ReadonlyArray<Sighting>>
  /**
   * A `Found` for all that is there, then each change; it can be run at any time and ends with the watch. Whoever is slow
   * is told what has become of it, and not what came and went meanwhile.
   */
  readonly changes: Stream.Stream<Change>
}

/**
 * How to watch.
 *
 * @category models
 * @since 0.1.0
 */
export interface WatchOptions {
  /** Shows what this `Beacon` itself announces, too. Defaults to `false`. */
  readonly withOwn?: boolean | undefined
}

/**
 * How a beacon works.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * How long after one announcement the next one comes; three of them without one, and a sighting is gone. Others expect
   * what is announced within the default: 5 seconds.
   */
  readonly interval?: Duration.Input | undefined
  /** The UDP port that all take part on. Defaults to 43215. */
  readonly port?: number | undefined
  /** Announces what opens the sessions, so that whoever hears it can join. Defaults to `false`. */
  readonly withCapabilities?: boolean | undefined
}

/**
 * Announces contact points on the local network, and hears those of others.
 *
 * @category services
 * @since 0.1.0
 */
export class Beacon extends Context.Service<
  Beacon,
  {
    /** As `Announcer.announce`. It cannot fail: a network that cannot be sent to is tried again every time. */
    readonly announce: (
      contactPoints: Stream.Stream<ContactPoint.ContactPoint>
    ) => Effect.Effect<void, never, Scope.Scope>
    /**
     * Listens until the scope closes. The port is shared with other programs that share it. Fails where it cannot be
     * had; where it is lost later, it is opened again.
     */
    readonly watch: (options?: WatchOptions) => Effect.Effect<Watch, BeaconError, Scope.Scope>
  }
>()("@effect-nat/dispatcher/Beacon") {}

const defaultInterval = Duration.seconds(5)
const patience = 3
const maximumCrqts = 16
const maximumNetworks = 32

/** However fast a contact point changes, a network is not told more often, in milliseconds. */
const shortestPause = 250
/** In seconds. */
const longestLifetime = 0xffff_ffff
const sendTimeout = Duration.seconds(1)

/** So long this host's own networks are taken for what they were, in milliseconds. */
const surroundingsAge = 1000

/** An IPv4 network that this host is attached to. */
interface Network {
  readonly own: NetAddress.Ipv4Address
  readonly broadcast: NetAddress.Ipv4Address
}

/** Each network once, but for those without a broadcast address: two ends of a line, or a single address. */
const networksOf = (interfaces: ReadonlyArray<NetworkInterfaces.NetworkInterface>): ReadonlyArray<Network> => {
  const networks = new Map<string, Network>()
  for (const { addresses, isLoopback, name } of interfaces) {
    if (isLoopback) continue
    for (const own of addresses.filter(IpInterface.isIpv4Interface)) {
      const network = IpNetwork.fromInterface(own)
      const key = `${name} ${IpNetwork.format(network)}`
      if (network.prefixLength > 30 || networks.has(key)) continue
      networks.set(key, { own: own.address, broadcast: IpNetwork.lastAddress(network) })
    }
  }
  return [...networks.values()].slice(0, maximumNetworks)
}

/** What is announced, as it goes out. */
interface Announcement {
  readonly instance: ContactPoint.InstanceId
  readonly contactPoint: ContactPoint.ContactPoint
}

/** Where it can be reached on one of this host's addresses; 0 where it is not there. */
const portAt = ({ contactPoint }: Announcement, own: NetAddress.IpAddress): number =>
  contactPoint.internal.find(({ address }) => Equal.equals(address, own))?.port ?? 0

/** The extended packet first: who has heard it knows the others. */
const packetsOf = (announcement: Announcement, own: NetAddress.IpAddress): ReadonlyArray<BeaconCodec.Packet> => {
  const { contactPoint, instance } = announcement
  const port = portAt(announcement, own)
  const extended: BeaconCodec.Packet = { _tag: "Extended", port, instance, contactPoint }
  if (port === 0) return [extended]
  const crqts = contactPoint.sessions
    .slice(0, maximumCrqts)
    .map(({ id }): BeaconCodec.Packet => ({ _tag: "Crqt", port, session: id, name: contactPoint.name }))
  return [extended, ...crqts]
}

const openError = (port: number, error: DatagramSocket.DatagramSocketError): BeaconError => {
  const { reason } = error
  const isTaken = "kind" in reason && reason.kind === "AddressInUse"
  return new BeaconError({
    reason: isTaken ? new PortInUse({ port }) : new ListenFailed({ port, detail: Udp.describeError(error) })
  })
}

/** A network that went away may take a socket with it. */
const reopening = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")])

const isSame = (self: Sighting, that: Sighting): boolean =>
  self.contactPoint === that.contactPoint && self.format === that.format && Equal.equals(self.source, that.source)

const differences = (
  before: ReadonlyMap<number, Sighting>,
  now: ReadonlyMap<number, Sighting>
): ReadonlyArray<Change> => {
  const changes: Array<Change> = []
  for (const [id, sighting] of before) if (!now.has(id)) changes.push({ _tag: "Lost", sighting })
  for (const [id, sighting] of now) {
    const known = before.get(id)
    if (known === undefined) changes.push({ _tag: "Found", sighting })
    else if (!isSame(known, sighting)) changes.push({ _tag: "Changed", sighting })
  }
  return changes
}

const moment = Effect.all({ wall: Clock.currentTimeMillis, monotonic: Monotonic.millis })

/**
 * A beacon that announces nothing yet.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<Beacon["Service"], never, Udp.Udp | NetworkInterfaces.NetworkInterfaces> {
  const udp = yield* Udp.Udp
  const interfaces = yield* NetworkInterfaces.NetworkInterfaces
  const interval = Duration.toMillis(Duration.fromInputUnsafe(options.interval ?? defaultInterval))
  const port = options.port ?? BeaconCodec.port
  const own = new Set<{ readonly said: Announcement | undefined }>()

  const toAnnouncement = (contactPoint: ContactPoint.ContactPoint, spare: ContactPoint.InstanceId): Announcement => {
    const { instance = spare, lifetime = longestLifetime } = contactPoint
    const open =
      options.withCapabilities === true ? ContactPoint.withoutControl(contactPoint) : ContactPoint.locked(contactPoint)
    const known = Table.reachable(open)
    const promised = Math.max(1, Math.min(lifetime, Math.ceil((patience * interval) / 1000)))
    return { instance, contactPoint: BeaconCodec.fit(ContactPoint.make({ ...known, instance, lifetime: promised })) }
  }

  const sendOn = ({ broadcast, own: address }: Network, packets: ReadonlyArray<BeaconCodec.Packet>) =>
    udp.open({ bind: { address }, broadcast: true }).pipe(
      Effect.flatMap((socket) =>
        Effect.forEach(
          packets,
          (packet) => socket.send(BeaconCodec.encode(packet), NetAddress.inetAddressUnsafe(broadcast, port)),
          { discard: true }
        )
      ),
      Effect.scoped,
      Effect.catch((error) =>
        Effect.logDebug(`nothing announced to ${NetAddress.formatIp(broadcast)}: ${Udp.describeError(error)}`)
      ),
      Effect.timeoutOption(sendTimeout)
    )

  const send = Effect.fnUntraced(function* (packets: (own: NetAddress.IpAddress) => ReadonlyArray<BeaconCodec.Packet>) {
    const networks = networksOf(yield* interfaces.list)
    yield* Effect.forEach(networks, (network) => sendOn(network, packets(network.own)), {
      concurrency: "unbounded",
      discard: true
    })
  })

  const say = (announcement: Announcement) => send((address) => packetsOf(announcement, address))

  const sayGoodbye = ({ instance }: Announcement) => send(() => [{ _tag: "Goodbye", instance }])

  const announce = Effect.fn("Beacon.announce")(function* (contactPoints: Stream.Stream<ContactPoint.ContactPoint>) {
    const spare = yield* ContactPoint.makeInstanceId
    const news = yield* Queue.sliding<void>(1)
    const mine: { next: Announcement | undefined; said: Announcement | undefined } = {
      next: undefined,
      said: undefined
    }

    const keepSaying = Effect.gen(function* () {
      yield* Queue.take(news)
      while (true) {
        const { next, said } = mine
        if (next === undefined) return yield* Effect.never
        mine.said = next
        if (said !== undefined && said.instance !== next.instance) yield* sayGoodbye(said)
        yield* say(next)
        yield* Effect.sleep(shortestPause)
        yield* Effect.raceFirst(Queue.take(news), Effect.sleep(Math.max(0, interval - shortestPause)))
      }
    })
    const hand = (contactPoint: ContactPoint.ContactPoint) =>
      Effect.sync(() => {
        const next = toAnnouncement(contactPoint, spare)
        if (Equal.equals(mine.next?.contactPoint, next.contactPoint)) return
        mine.next = next
        Queue.offerUnsafe(news, undefined)
      })

    yield* Effect.acquireRelease(
      Effect.sync(() => own.add(mine)),
      () =>
        Effect.suspend(() => (mine.said === undefined ? Effect.void : sayGoodbye(mine.said))).pipe(
          Effect.ensuring(Effect.sync(() => own.delete(mine)))
        )
    )
    yield* Effect.forkScoped(keepSaying)
    yield* Effect.forkScoped(Stream.runForEach(contactPoints, hand))
  })

  const isOwn = (packet: BeaconCodec.Packet, source: NetAddress.Ipv4Address): boolean => {
    for (const { said } of own) {
      if (said === undefined) continue
      if (packet._tag !== "Crqt") {
        if (packet.instance === said.instance) return true
      } else if (
        portAt(said, source) === packet.port &&
        said.contactPoint.sessions.some(({ id }) => id === packet.session)
      )
        return true
    }
    return false
  }

  const watch = Effect.fn("Beacon.watch")(function* ({ withOwn = false }: WatchOptions = {}) {
    const scope = yield* Effect.scope
    const table = new Table.BeaconTable(patience * interval)
    const listeners = new Set<Queue.Queue<void, Cause.Done>>()
    const due = yield* Queue.sliding<void>(1)
    let around = { interfaces: yield* interfaces.list, at: yield* Monotonic.millis }
    let isClosed = false

    const tell = () => {
      Queue.offerUnsafe(due, undefined)
      for (const told of listeners) Queue.offerUnsafe(told, undefined)
    }

    const hear = ({ address, payload }: DatagramSocket.Datagram, now: Table.Moment) => {
      const source = NetAddress.toCanonical(address.address)
      if (!NetAddress.isIpv4Address(source) || !NetworkInterfaces.isAttached(around.interfaces, source)) return
      const packet = BeaconCodec.decode(payload)
      if (Result.isFailure(packet) || (!withOwn && isOwn(packet.success, source))) return
      table.hear(packet.success, source, now)
    }

    const hearAll = Effect.fnUntraced(function* (datagrams: ReadonlyArray<DatagramSocket.Datagram>) {
      const now = yield* moment
      if (now.monotonic >= around.at + surroundingsAge)
        around = { interfaces: yield* interfaces.list, at: now.monotonic }
      for (const datagram of datagrams) hear(datagram, now)
      tell()
    })

    const open = udp.open({ bind: { port }, reuseAddress: true })
    const hearOn = (socket: Udp.UdpSocket) => Effect.forever(Effect.flatMap(socket.receive, hearAll))
    const logLoss = (error: DatagramSocket.DatagramSocketError) =>
      Effect.logDebug(`no beacons are heard: ${Udp.describeError(error)}`)
    const hearAgain = Effect.scoped(Effect.flatMap(open, hearOn)).pipe(
      Effect.tapError(logLoss),
      Effect.retry(reopening)
    )

    const expire = Effect.gen(function* () {
      while (true) {
        const next = table.nextExpiry
        const now = yield* Monotonic.millis
        if (next === undefined) yield* Queue.take(due)
        else if (next > now) yield* Effect.raceFirst(Queue.take(due), Effect.sleep(next - now))
        else {
          table.expire(now)
          tell()
        }
      }
    })

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isClosed = true
        for (const told of listeners) Queue.endUnsafe(told)
      })
    )
    const held = yield* Scope.fork(scope)
    const socket = yield* Effect.mapError(Scope.provide(open, held), (error) => openError(port, error))
    yield* Effect.forkScoped(
      hearOn(socket).pipe(
        Effect.tapError(logLoss),
        Effect.ensuring(Scope.close(held, Exit.void)),
        Effect.catch(() => hearAgain)
      )
    )
    yield* Effect.forkScoped(expire)

    const snapshot = (): ReadonlyMap<number, Sighting> =>
      new Map(table.sightings.map((sighting) => [sighting.id, sighting]))

    const listen = Effect.acquireRelease(
      Effect.map(Queue.sliding<void, Cause.Done>(1), (told) => {
        if (isClosed) Queue.endUnsafe(told)
        else listeners.add(told)
        Queue.offerUnsafe(told, undefined)
        return told
      }),
      (told) => Effect.sync(() => listeners.delete(told))
    )

    const changesOf = (told: Queue.Dequeue<void, Cause.Done>) => {
      let before: ReadonlyMap<number, Sighting> = new Map()
      return Stream.fromQueue(told).pipe(
        Stream.map(() => {
          const now = snapshot()
          const changes = differences(before, now)
          before = now
          return changes
        }),
        Stream.flattenIterable
      )
    }

    return {
      sightings: Effect.sync(() => table.sightings),
      changes: Stream.unwrap(Effect.map(listen, changesOf))
    }
  })

  return Beacon.of({ announce, watch })
})

/**
 * Announces on the local network, as an `Announcer`, and hears what others announce.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: Options
): Layer.Layer<Beacon | Announcer.Announcer, never, Udp.Udp | NetworkInterfaces.NetworkInterfaces> =>
  Layer.effectContext(
    Effect.map(make(options), (beacon) =>
      Context.make(Beacon, beacon).pipe(Context.add(Announcer.Announcer, { announce: beacon.announce }))
    )
  )
