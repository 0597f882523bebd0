/**
 * A network in memory, for tests in virtual time: it counts its sockets and knows when each datagram was sent; what
 * comes back, when and from where, is up to the test.
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Udp from "@effect-nat/core/Udp"
import * as Codec from "@effect-nat/natpmp/NatPmpCodec"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as DatagramSocket from "effect/socket/DatagramSocket"

export const ipv4 = (text: string): NetAddress.Ipv4Address => Result.getOrThrow(NetAddress.ipv4FromString(text))

export const inet = (text: string): NetAddress.InetAddress => NetAddress.inetAddressFromStringUnsafe(text)

export const gateway = ipv4("192.168.77.1")

export const own = ipv4("192.168.77.2")

/** What a gateway can do to the socket that asked. */
export interface Socket {
  readonly number: number
  readonly reply: (payload: Uint8Array, from?: NetAddress.InetAddress) => void
  /** An ICMP port unreachable. */
  readonly refuse: () => void
}

/** One datagram sent by the code under test. */
export interface Sent {
  /** In milliseconds. */
  readonly at: number
  readonly to: NetAddress.InetAddress
  readonly payload: Uint8Array
  readonly socket: Socket
}

/** A socket that is bound to a port. */
export interface Ear {
  readonly options: Udp.OpenOptions
  /** The groups and interfaces that were joined, for example `224.0.0.1 192.168.77.2`. */
  readonly joined: Array<string>
  readonly hear: (payload: Uint8Array, from: NetAddress.InetAddress) => void
  readonly fail: () => void
}

export type Peer = (sent: Sent) => Effect.Effect<void>

export interface Network {
  readonly layer: Layer.Layer<Udp.Udp | DefaultRoute.DefaultRoute>
  readonly sent: Array<Sent>
  /** Sockets ever opened, and now open. */
  opened: number
  open: number
  /** The default gateways. */
  gateways: ReadonlyArray<NetAddress.IpAddress>
  /** This host's address for sockets that are opened from now on. */
  own: NetAddress.IpAddress
  /** The same towards IPv6 hosts. */
  ownIpv6: NetAddress.IpAddress
  /** The number of the interface of each default gateway. */
  scopeId: number | undefined
  /** Who hears what is sent to the port of announcements, and how their sockets were opened. */
  readonly ears: Set<Ear>
  /** Makes the opening of sockets fail. */
  isDown: boolean
  /** Makes everything that is sent fail. */
  isCut: boolean
  /** Whether what is sent from an address fails, since that is this host's no more. */
  isGone: (address: NetAddress.IpAddress) => boolean
  /** Makes the opening of sockets on a given port fail. */
  isPortTaken: boolean
  /** The ones that may be bound to. */
  isOwn: (address: NetAddress.IpAddress) => boolean
}

const refused = () =>
  new DatagramSocket.DatagramSocketError({
    reason: new DatagramSocket.DatagramSocketReadError({ kind: "ConnectionRefused", cause: new Error("ECONNREFUSED") })
  })

const down = () =>
  new DatagramSocket.DatagramSocketError({
    reason: new DatagramSocket.DatagramSocketOpenError({ kind: "Unknown", cause: new Error("ENETUNREACH") })
  })

const unreachable = () =>
  new DatagramSocket.DatagramSocketError({
    reason: new DatagramSocket.DatagramSocketWriteError({ kind: "Unreachable", cause: new Error("ENETUNREACH") })
  })

const notOwn = () =>
  new DatagramSocket.DatagramSocketError({
    reason: new DatagramSocket.DatagramSocketOpenError({ kind: "AddressNotAvailable", cause: new Error("E") })
  })

const taken = () =>
  new DatagramSocket.DatagramSocketError({
    reason: new DatagramSocket.DatagramSocketOpenError({ kind: "AddressInUse", cause: new Error("EADDRINUSE") })
  })

type Inbox = Queue.Queue<DatagramSocket.Datagram, DatagramSocket.DatagramSocketError>

/** A network where `peer` is everybody else. What `peer` does runs beside the sender. */
export const make = Effect.fnUntraced(function* (peer: Peer) {
  const ownTowards = (address: NetAddress.IpAddress) =>
    NetAddress.isIpv4Address(address) ? network.own : network.ownIpv6

  const listening = Effect.fnUntraced(function* (options: Udp.OpenOptions, inbox: Inbox) {
    const { address, port } = options.bind ?? {}
    if (port !== undefined && network.isPortTaken) return yield* Effect.fail(taken())
    const isSpecific = address !== undefined && !NetAddress.isUnspecified(address)
    if (isSpecific && !network.isOwn(address)) return yield* Effect.fail(notOwn())
    const ear: Ear = {
      options,
      joined: [],
      hear: (payload, from) => void Queue.offerUnsafe(inbox, { payload, address: from }),
      fail: () => void Effect.runSync(Queue.fail(inbox, down()))
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => network.ears.add(ear)),
      () => Effect.sync(() => network.ears.delete(ear))
    )
    const socket: Udp.UdpSocket = {
      address: NetAddress.inetAddressUnsafe(
        options.bind?.address ?? NetAddress.ipv4Unspecified,
        options.bind?.port ?? 40000
      ),
      receive: Queue.takeAll(inbox),
      send: () => Effect.die("nothing is expected to be sent from there"),
      joinMulticast: (group, onInterface) => {
        const place = typeof onInterface === "number" ? `${onInterface}` : NetAddress.formatIp(onInterface ?? group)
        const name = `${NetAddress.formatIp(group)} ${place}`
        return Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => ear.joined.push(name)),
            () => Effect.sync(() => ear.joined.splice(ear.joined.indexOf(name), 1))
          )
        )
      }
    }
    return socket
  })

  const openSocket = Effect.fnUntraced(function* (options: Udp.OpenOptions) {
    if (network.isDown) return yield* Effect.fail(down())
    const number = ++network.opened
    yield* Effect.acquireRelease(
      Effect.sync(() => network.open++),
      () => Effect.sync(() => network.open--)
    )
    const inbox = yield* Effect.acquireRelease(
      Queue.unbounded<DatagramSocket.Datagram, DatagramSocket.DatagramSocketError>(),
      Queue.shutdown
    )
    const connected = options.connect
    if (connected === undefined) return yield* listening(options, inbox)
    const bound = options.bind?.address
    if (bound !== undefined && !network.isOwn(bound)) return yield* Effect.fail(notOwn())
    const socket: Socket = {
      number,
      reply: (payload, from = connected) => void Queue.offerUnsafe(inbox, { payload, address: from }),
      refuse: () => void Effect.runSync(Queue.fail(inbox, refused()))
    }
    const address = NetAddress.inetAddressUnsafe(bound ?? ownTowards(connected.address), 40000 + number)
    return {
      address,
      receive: Queue.takeAll(inbox),
      send: Effect.fnUntraced(function* (payload) {
        const sent: Sent = { at: yield* Clock.currentTimeMillis, to: connected, payload, socket }
        if (network.isCut || network.isGone(address.address)) return yield* Effect.fail(unreachable())
        network.sent.push(sent)
        // Not in the test's scope: the gateway still answers while that closes and its mappings are released.
        yield* Effect.forkDetach(peer(sent))
      }),
      joinMulticast: () => Effect.die("no multicast is expected")
    } satisfies Udp.UdpSocket
  })

  const network: Network = {
    layer: Layer.mergeAll(
      Layer.succeed(Udp.Udp, { open: openSocket }),
      Layer.succeed(DefaultRoute.DefaultRoute, {
        routes: Effect.sync(() =>
          network.gateways.map((gateway, index) => ({
            gateway,
            interface: `eth${index}`,
            metric: index,
            scopeId: network.scopeId
          }))
        )
      })
    ),
    sent: [],
    opened: 0,
    open: 0,
    gateways: [gateway],
    own,
    ownIpv6: NetAddress.ipFromStringUnsafe("2001:db8::2"),
    scopeId: undefined,
    ears: new Set(),
    isDown: false,
    isCut: false,
    isGone: () => false,
    isPortTaken: false,
    isOwn: (address) => Equal.equals(address, network.own) || Equal.equals(address, network.ownIpv6)
  }
  return network
})

/** A host that never answers. */
export const silent: Peer = () => Effect.void

/** One mapping of the router below. */
export interface Entry {
  readonly client: string
  readonly protocol: "tcp" | "udp"
  readonly internalPort: number
  readonly externalPort: number
  readonly lifetime: number
}

/** A NAT-PMP gateway that answers at once, from its own tables, through the other side of the codec. */
export interface Router {
  readonly peer: Peer
  /** Requests in the order they came. */
  readonly requests: Array<Codec.Request>
  readonly entries: Array<Entry>
  externalAddress: NetAddress.Ipv4Address
  /** In milliseconds of the clock. */
  startedAt: number
  /** External ports that others have. */
  taken: ReadonlyArray<number>
  /** The longest lifetime granted, in seconds. */
  longestLifetime: number
  /** What is answered in place of a success: by request, or `0`. */
  resultCode: (request: Codec.Request) => number
  /** Whether nothing goes out, though requests are served. */
  isMute: (request: Codec.Request) => boolean
  /** Milliseconds before each answer. */
  delay: number
}

export const makeRouter = (): Router => {
  const serve = (request: Codec.Request, client: string, epoch: number): Codec.Response => {
    const resultCode = router.resultCode(request)
    const internalPort = request._tag === "MapRequest" ? request.internalPort : undefined
    if (resultCode !== 0) {
      return { _tag: "ErrorResponse", version: 0, opcode: Codec.opcode(request), resultCode, epoch, internalPort }
    }
    if (request._tag === "ExternalAddressRequest") {
      return { _tag: "ExternalAddressResponse", epoch, externalAddress: router.externalAddress }
    }
    const { protocol } = request
    const isSame = (entry: Entry) =>
      entry.client === client && entry.protocol === protocol && entry.internalPort === request.internalPort
    const index = router.entries.findIndex(isSame)
    const known = router.entries[index]
    if (known !== undefined) router.entries.splice(index, 1)
    if (request.lifetime === 0) {
      return { _tag: "MapResponse", protocol, epoch, internalPort: request.internalPort, externalPort: 0, lifetime: 0 }
    }
    let externalPort = known?.externalPort ?? request.externalPort
    while (router.taken.includes(externalPort)) externalPort++
    const lifetime = Math.min(request.lifetime, router.longestLifetime)
    router.entries.push({ client, protocol, internalPort: request.internalPort, externalPort, lifetime })
    return { _tag: "MapResponse", protocol, epoch, internalPort: request.internalPort, externalPort, lifetime }
  }
  const router: Router = {
    peer: Effect.fnUntraced(function* ({ payload, socket }) {
      const request = Result.getOrThrow(Codec.decodeRequest(payload))
      router.requests.push(request)
      const now = yield* Clock.currentTimeMillis
      const response = serve(request, "own", Math.floor((now - router.startedAt) / 1000))
      if (router.isMute(request)) return
      if (router.delay > 0) yield* Effect.sleep(router.delay)
      socket.reply(Codec.encodeResponse(response))
    }),
    requests: [],
    entries: [],
    externalAddress: ipv4("11.22.33.1"),
    startedAt: 0,
    taken: [],
    longestLifetime: 0xffffffff,
    resultCode: () => 0,
    isMute: () => false,
    delay: 0
  }
  return router
}

const isIgnored = ({ id }: Metric.Metric.Snapshot): boolean => id === "effect_nat_natpmp_ignored_datagrams"

const counted = (one: Metric.Metric.Snapshot): number => (one.type === "Counter" ? Number(one.state.count) : 0)

/** How many datagrams have changed nothing so far, by why. */
export const ignoredByReason: Effect.Effect<Readonly<Record<string, number>>> = Effect.map(Metric.snapshot, (all) =>
  Object.fromEntries(all.filter(isIgnored).map((one) => [String(one.attributes?.["reason"]), counted(one)]))
)

/** How many datagrams have changed nothing so far. */
export const ignored: Effect.Effect<number> = Effect.map(Metric.snapshot, (all) =>
  all.filter(isIgnored).reduce((sum, one) => sum + counted(one), 0)
)

/** Lets everything that waits for no time run. */
export const settle = Effect.repeat(Effect.yieldNow, { times: 50 })

/** Runs an effect in a scope of its own that the test can close. */
export const inOwnScope = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const value = yield* Scope.provide(effect, scope)
  return { value, scope }
})
