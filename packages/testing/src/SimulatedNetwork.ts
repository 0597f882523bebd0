/**
 * A network in virtual time: hosts, links that delay, lose, repeat and reorder, and routers, with everything that
 * happens following from one seed.
 *
 * It stands in for core's seams (UDP, HTTP, interfaces, routes) and for the clock, so the protocol clients run in it as
 * they are, with core's watch over the network of their host. The last address of an IPv4 network is heard by all of its
 * hosts. Routers announce themselves to its groups, and send events
 * to the hosts that subscribe to them. Time passes only when every program waits, and then jumps to the next event: a day
 * takes milliseconds. The same seed and the same calls give the same trace, byte for byte.
 *
 * A network does nothing by itself: `run` and `runUntil` let time pass, on the caller's stack.
 *
 * What cannot be is a `RangeError` that names it, thrown at once: a link that is none, an address outside of its network
 * or of somebody else, a gateway that no interface of a host leads to, a quirk that cannot show here.
 *
 * **Example** (A mapping kept for a day, in a moment)
 *
 * ```ts
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as NatPmp from "@effect-nat/natpmp/NatPmp"
 * import * as RouterModel from "@effect-nat/testing/RouterModel"
 * import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
 * import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
 * import * as Effect from "effect/Effect"
 *
 * const network = SimulatedNetwork.make({ seed: 7 })
 * const lan = network.addLan({ network: "192.168.77.0/24", link: { delay: [1, 20], loss: 0.05 } })
 * const model = new RouterModel.RouterModel()
 * const router = network.addRouter({ lan, model, devices: [SimulatedDevice.natPmp(model)] })
 * const host = network.addHost({ attachments: [{ lan, address: "192.168.77.2" }], gateways: [router] })
 *
 * const program = Effect.gen(function* () {
 *   const mapper = yield* PortMapper.PortMapper
 *   const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 12000 })
 *   yield* Effect.sleep("1 day")
 *   return yield* mapping.current
 * }).pipe(Effect.scoped, Effect.provide(NatPmp.layer))
 *
 * export const mapping = network.run(host.start(), program)
 * ```
 *
 * @since 0.1.0
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Http from "@effect-nat/core/Http"
import * as HttpListener from "@effect-nat/core/HttpListener"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Udp from "@effect-nat/core/Udp"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as IpInterface from "effect/net/IpInterface"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as DatagramSocket from "effect/socket/DatagramSocket"
import * as NetworkChecks from "./internal/networkChecks.ts"
import * as NetworkAnnouncements from "./internal/networkAnnouncements.ts"
import * as NetworkEvents from "./internal/networkEvents.ts"
import * as SeededRandom from "./internal/seededRandom.ts"
import * as VirtualTime from "./internal/virtualTime.ts"
import type * as RouterModel from "./RouterModel.ts"
import type * as SimulatedDevice from "./SimulatedDevice.ts"
import type * as UpnpResponder from "./UpnpResponder.ts"

/**
 * How a link treats what is sent over it. What is left out is as in `perfectLink`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Link {
  /** The shortest and the longest delay, in milliseconds, from 0. */
  readonly delay: readonly [shortest: number, longest: number]
  /** The share of datagrams that get lost, from 0 to 1 as the others; a connection sends again instead, and is late. */
  readonly loss: number
  /** The share of datagrams that arrive twice. */
  readonly duplication: number
  /** The share of datagrams that others overtake, by up to `overtaking` milliseconds. */
  readonly reordering: number
  readonly overtaking: number
}

/**
 * One millisecond each way, and nothing goes wrong.
 *
 * @category constants
 * @since 0.1.0
 */
export const perfectLink: Link = { delay: [1, 1], loss: 0, duplication: 0, reordering: 0, overtaking: 0 }

/**
 * A network that hosts and routers are attached to. Its link may be changed at any time.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lan {
  readonly network: IpNetwork.IpNetwork
  link: Link
}

/**
 * Something with an address of its own on one network, other than a host: a printer, say, or a router.
 *
 * @category models
 * @since 0.1.0
 */
export interface Appliance {
  readonly lan: Lan
  readonly address: NetAddress.IpAddress
  readonly devices: ReadonlyArray<SimulatedDevice.Device>
  /** Whether it answers nothing at this time, as if it were switched off. */
  readonly isSilent: (now: number) => boolean
}

/**
 * A router on a network.
 *
 * @category models
 * @since 0.1.0
 */
export interface Router extends Appliance {
  readonly model: RouterModel.RouterModel
}

/**
 * One interface of a host, with one address.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attachment {
  readonly lan: Lan
  readonly address: NetAddress.IpAddress | string
  /** Defaults to `eth0`, `eth1` and so on. */
  readonly name?: string | undefined
}

/**
 * Where a host is attached, and which gateways its default routes lead to, the preferred first.
 *
 * @category models
 * @since 0.1.0
 */
export interface Placement {
  readonly attachments: ReadonlyArray<Attachment>
  readonly gateways: ReadonlyArray<Router | NetAddress.IpAddress>
}

/**
 * What programs that run in the network find there.
 *
 * @category models
 * @since 0.1.0
 */
export type Seams =
  | Udp.Udp
  | Http.Http
  | HttpListener.HttpListener
  | NetworkInterfaces.NetworkInterfaces
  | DefaultRoute.DefaultRoute

/**
 * A computer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Host {
  readonly name: string
  /** Ports that another program of this computer holds, and shares with those that want it so. */
  readonly takenPorts: Set<number>
  readonly addresses: ReadonlyArray<NetAddress.IpAddress>
  /** Plugs it in somewhere else, or nowhere, as `addHost` does. Sockets stay bound to the addresses that they have. */
  readonly move: (placement: Placement) => void
  /** Starts a process. */
  readonly start: () => Process
}

/**
 * A process of a host: what runs in it shares its fate.
 *
 * @category models
 * @since 0.1.0
 */
export interface Process {
  readonly host: Host
  readonly isRunning: boolean
  /** Runs an effect in this process. */
  readonly fork: <A, E>(effect: Effect.Effect<A, E, Seams>) => Fiber.Fiber<A, E>
  /** Ends it at once, as by a power cut: no finalizer runs, nothing is sent any more, its ports are free. */
  readonly kill: () => void
}

/**
 * What a program logged.
 *
 * @category models
 * @since 0.1.0
 */
export interface LogEntry {
  readonly process: Process
  readonly level: LogLevel.LogLevel
  readonly message: string
}

/**
 * What was sent: a datagram, or an HTTP request.
 *
 * @category models
 * @since 0.1.0
 */
export interface Sent {
  /** In milliseconds. */
  readonly at: number
  readonly process: Process
  readonly from: NetAddress.InetAddress
  readonly to: NetAddress.InetAddress
  /** `undefined` for an HTTP request. */
  readonly payload: Uint8Array | undefined
  /** `undefined` for a datagram. */
  readonly request: Http.HttpRequest | undefined
}

/**
 * How a network is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** A whole number. */
  readonly seed: number
  /** Keeps the trace's lines. Defaults to `false`: the fingerprint is there all the same. */
  readonly keepsTrace?: boolean | undefined
  /** Hears what programs log. */
  readonly onLog?: ((entry: LogEntry) => void) | undefined
  /** Hears what programs send. */
  readonly onSent?: ((sent: Sent) => void) | undefined
}

/**
 * A network.
 *
 * @category models
 * @since 0.1.0
 */
export interface SimulatedNetwork {
  /** In milliseconds. */
  readonly now: number
  /** What happened, line by line, where it is kept. */
  readonly trace: ReadonlyArray<string>
  /** A hash of all that happened: the same for the same seed and the same calls. */
  readonly fingerprint: string
  /** A network such as 192.168.77.0/24. Throws a `RangeError` where it, or its link, is none. */
  readonly addLan: (options: { readonly network: string; readonly link?: Partial<Link> | undefined }) => Lan
  /**
   * A router at its model's address, which has to be one of the network: 192.168.77.1 unless the model is told. A router
   * of two networks, such as one of IPv4 and one of IPv6, is added for each, to the second one with its `address` there,
   * and the device of UPnP, whose events go out once, to one of them. Throws a `RangeError` where the address is none or
   * somebody has it, and for a quirk that does not run in a network.
   */
  readonly addRouter: (options: {
    readonly lan: Lan
    readonly model: RouterModel.RouterModel
    readonly devices: ReadonlyArray<SimulatedDevice.Device>
    readonly address?: NetAddress.IpAddress | string | undefined
  }) => Router
  /** Something else with a free address of the network. Throws a `RangeError` where it is none. */
  readonly addAppliance: (options: {
    readonly lan: Lan
    readonly address: NetAddress.IpAddress | string
    readonly devices: ReadonlyArray<SimulatedDevice.Device>
  }) => Appliance
  /**
   * Takes a router or another appliance away: as by a power cut or, `"orderly"`, after it has said so to its network.
   * Defaults to `"abrupt"`.
   */
  readonly remove: (appliance: Appliance, how?: "abrupt" | "orderly") => void
  /**
   * A host with a free address of each network that it is attached to, and gateways in those networks. Throws a
   * `RangeError` where one is none.
   */
  readonly addHost: (placement: Placement & { readonly name?: string | undefined }) => Host
  /** Does something after some milliseconds. */
  readonly after: (delay: number, run: () => void) => void
  /** Lets a datagram arrive at a host as if it came from anywhere. */
  readonly inject: (datagram: {
    readonly host: Host
    readonly payload: Uint8Array
    readonly from: NetAddress.InetAddress
    readonly to: NetAddress.InetAddress
    readonly after?: number | undefined
  }) => void
  /** Sends a datagram from an appliance to a group, a host of its network, or all of them by its broadcast address. */
  readonly announce: (appliance: Appliance, payload: Uint8Array, fromPort: number, to: NetAddress.InetAddress) => void
  /**
   * Where a packet from the world arrives that is sent to an external address and port, through every router on the
   * way; `undefined` where that is nowhere.
   */
  readonly reach: (
    protocol: PortMapping.Protocol,
    to: NetAddress.InetAddress,
    from?: NetAddress.IpAddress
  ) => NetAddress.InetAddress | undefined
  /** Writes a line into the trace. */
  readonly note: (line: string) => void
  /** Lets time pass until then, in milliseconds. */
  readonly runUntil: (time: number) => void
  /**
   * Runs an effect in a process while time passes, to its end. All of it happens when the effect that this gives is run,
   * on its caller's stack; what others in the network still have to do then waits for the next call.
   *
   * It is a defect when nothing more is to happen in the whole network and the effect has not ended: it waits for what
   * never comes, or its process was killed. While anything else goes on, as the renewals of a mapping, nobody can tell:
   * then it is a defect after `longestRun`. A program that never ends by itself is forked, and `runUntil` lets time pass.
   */
  readonly run: <A, E>(process: Process, effect: Effect.Effect<A, E, Seams>) => Effect.Effect<A, E>
}

/**
 * How long an effect may take in one `run`: 400 days. Time passes on the caller's stack, where nothing else could end it.
 *
 * @category constants
 * @since 0.1.0
 */
export const longestRun: Duration.Duration = Duration.days(400)

/** A host firewall's or kernel's limit: what nobody reads is dropped. */
const receiveCapacity = 512
const firstDynamicPort = 32_768
const lastDynamicPort = 60_999
/** Where the events of a router come from: nobody looks. */
const eventPort = 40_000
/** What the kernel takes to find that nobody has an address. */
const unreachableAfter = 3_000
/** A connection sends again after 1, 2 and 4 seconds, then this is not waited for. */
const connectionAttempts = 4

const udpError = (
  operation: "open" | "read" | "write",
  kind: "AddressInUse" | "AddressNotAvailable" | "ConnectionRefused" | "PermissionDenied" | "Unreachable",
  code: string
): DatagramSocket.DatagramSocketError => {
  const cause = new Error(code)
  if (operation === "open") {
    const openKind = kind === "AddressInUse" || kind === "AddressNotAvailable" ? kind : "Unknown"
    return new DatagramSocket.DatagramSocketError({
      reason: new DatagramSocket.DatagramSocketOpenError({ kind: openKind, cause })
    })
  }
  const ioKind = kind === "AddressInUse" || kind === "AddressNotAvailable" ? "Unknown" : kind
  return new DatagramSocket.DatagramSocketError({
    reason:
      operation === "read"
        ? new DatagramSocket.DatagramSocketReadError({ kind: ioKind, cause })
        : new DatagramSocket.DatagramSocketWriteError({ kind: ioKind, cause })
  })
}

const describe = (payload: Uint8Array): string => {
  const isText = payload.length > 8 && payload.every((byte) => byte >= 9 && byte < 127)
  if (isText) return JSON.stringify(new TextDecoder().decode(payload))
  return Array.from(payload.subarray(0, 64), (byte) => byte.toString(16).padStart(2, "0")).join("")
}

interface Place {
  readonly lan: Lan
  readonly name: string
  readonly own: IpInterface.IpInterface
}

interface Socket {
  readonly host: HostState
  readonly process: ProcessState
  readonly address: NetAddress.InetAddress
  readonly peer: NetAddress.InetAddress | undefined
  /** Whether others may be bound to its port, if they share it as well. */
  readonly isShared: boolean
  readonly groups: Array<NetAddress.IpAddress>
  buffer: Array<DatagramSocket.Datagram>
  failure: DatagramSocket.DatagramSocketError | undefined
  wake: (() => void) | undefined
}

interface Listener {
  readonly process: ProcessState
  readonly address: NetAddress.InetAddress
  readonly options: HttpListener.ListenOptions
  /** The answers under way. */
  readonly answers: Set<Fiber.Fiber<number>>
}

interface HostState {
  readonly host: Host
  readonly sockets: Set<Socket>
  readonly listeners: Set<Listener>
  /** Those that wait for it to be plugged in somewhere else. */
  readonly onMove: Set<() => void>
  places: ReadonlyArray<Place>
  routes: ReadonlyArray<DefaultRoute.Route>
}

interface ProcessState {
  readonly process: Process
  isRunning: boolean
}

const notEnded = `the program has not ended after ${Duration.format(longestRun)}: fork it in its process, and let time pass with runUntil`

const logKind = "log    "

const isGroup = (address: NetAddress.IpAddress): boolean => NetAddress.isMulticast(address)

/** Whether an address is the one of a network that all of its hosts hear. */
const isBroadcast = ({ network }: Lan, address: NetAddress.IpAddress): boolean =>
  NetAddress.isIpv4Address(network.address) &&
  network.prefixLength < 31 &&
  Equal.equals(IpNetwork.lastAddress(network), address)

/**
 * An empty network. Throws a `RangeError` where the seed is none.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): SimulatedNetwork => {
  NetworkChecks.seed(options.seed)
  const time = new VirtualTime.VirtualTime(0)
  const chance = SeededRandom.make(options.seed, "network")
  const clientChance = SeededRandom.make(options.seed, "programs")
  const trace: Array<string> = []
  const hosts: Array<HostState> = []
  const appliances: Array<Appliance> = []
  const routers: Array<Router> = []
  const unfollow = new Map<Appliance, () => void>()
  let hash = SeededRandom.hashText(String(options.seed))

  /** The text is only made where the trace is kept; the fingerprint takes what it is made of. */
  const happened = (kind: string, detail: string, payload: Uint8Array | undefined) => {
    // What a program logs is only there in full where the trace is kept: the fingerprint must not depend on that.
    if (kind !== logKind) hash = SeededRandom.hashText(`${time.now} ${kind} ${detail}`, hash)
    if (payload !== undefined) hash = SeededRandom.hashBytes(payload, hash)
    if (options.keepsTrace === true) {
      trace.push(
        `${(time.now / 1000).toFixed(3).padStart(10)} ${kind} ${detail}${payload === undefined ? "" : ` ${describe(payload)}`}`
      )
    }
  }
  const arrow = (from: NetAddress.InetAddress, to: NetAddress.InetAddress) =>
    `${NetAddress.formatInet(from)} → ${NetAddress.formatInet(to)}`

  const transit = ({ delay: [shortest, longest], overtaking, reordering }: Link) =>
    chance.between(shortest, longest) + (chance.chance(reordering) ? chance.between(0, overtaking) : 0)

  /** Carries a datagram over a link, as often as the link lets it. */
  const carry = (link: Link, extra: number, deliver: () => void, name: string) => {
    if (chance.chance(link.loss)) return happened("lost", name, undefined)
    time.after(extra + transit(link), deliver)
    if (chance.chance(link.duplication)) time.after(extra + transit(link), deliver)
  }

  /** How long a connection takes to carry something; `undefined` where it gives up. */
  const carryReliably = (link: Link): number | undefined => {
    let late = 0
    for (let attempt = 0; attempt < connectionAttempts; attempt++) {
      if (!chance.chance(link.loss)) return late + transit(link)
      late += 1000 * 2 ** attempt
    }
    return undefined
  }

  const receive = (socket: Socket, payload: Uint8Array, from: NetAddress.InetAddress) => {
    if (socket.peer !== undefined && !Equal.equals(socket.peer, from)) return
    if (socket.buffer.length >= receiveCapacity) return
    socket.buffer.push({ payload, address: from })
    socket.wake?.()
  }

  const receives = (socket: Socket, to: NetAddress.InetAddress): boolean => {
    if (socket.address.port !== to.port) return false
    if (isGroup(to.address)) return socket.groups.some((group) => Equal.equals(group, to.address))
    const { address } = socket.address
    // Each family has sockets of its own. A socket that is bound to one own address hears no broadcast.
    const isAny = NetAddress.isUnspecified(address) && NetAddress.familyOf(address) === NetAddress.familyOf(to.address)
    return isAny || Equal.equals(address, to.address)
  }

  const arriveAtHost = (
    host: HostState,
    payload: Uint8Array,
    from: NetAddress.InetAddress,
    to: NetAddress.InetAddress
  ) => {
    const isForAll = isGroup(to.address) || host.places.some(({ lan }) => isBroadcast(lan, to.address))
    if (!isForAll && !host.places.some((place) => Equal.equals(place.own.address, to.address))) return
    // A group, or a whole network, does not say whose arrival it is.
    const where = isForAll ? `${host.host.name}: ` : ""
    happened("udp in ", `${where}${arrow(from, to)}`, payload)
    for (const socket of host.sockets) if (receives(socket, to)) receive(socket, payload, from)
  }

  /** Whoever has an address of a network, but for one host. */
  const addressesOn = (lan: Lan, except?: HostState): ReadonlyArray<NetAddress.IpAddress> => [
    ...appliances.flatMap((one) => (one.lan === lan ? [one.address] : [])),
    ...hosts.flatMap((host) =>
      host === except ? [] : host.places.flatMap((place) => (place.lan === lan ? [place.own.address] : []))
    )
  ]

  const hostsOn = (lan: Lan) => hosts.filter((host) => host.places.some((place) => place.lan === lan))

  const sendToHosts = (
    lan: Lan,
    payload: Uint8Array,
    from: NetAddress.InetAddress,
    to: NetAddress.InetAddress,
    extra: number
  ) => {
    const isForAll = isGroup(to.address) || isBroadcast(lan, to.address)
    for (const host of hostsOn(lan)) {
      if (!isForAll && !host.places.some((place) => Equal.equals(place.own.address, to.address))) continue
      carry(lan.link, extra, () => arriveAtHost(host, payload, from, to), arrow(from, to))
    }
  }

  const arriveAtAppliance = (
    appliance: Appliance,
    payload: Uint8Array,
    from: NetAddress.InetAddress,
    to: NetAddress.InetAddress,
    refuse: () => void
  ) => {
    if (!appliances.includes(appliance) || appliance.isSilent(time.now)) return
    happened("udp at ", `${NetAddress.formatIp(appliance.address)}: ${arrow(from, to)}`, payload)
    let isListening = false
    for (const device of appliance.devices) {
      const answers = device.onDatagram?.({ now: time.now, payload, from, to })
      if (answers === undefined) continue
      isListening = true
      time.after(0, () => events.tell(appliance))
      for (const answer of answers) {
        const source = NetAddress.inetAddressUnsafe(appliance.address, answer.fromPort ?? to.port)
        sendToHosts(appliance.lan, answer.payload, source, from, answer.after ?? 0)
      }
    }
    if (!isListening && !isGroup(to.address) && !isBroadcast(appliance.lan, to.address)) refuse()
  }

  /** The interface that the kernel would send from. */
  const placeTowards = (host: HostState, to: NetAddress.IpAddress): Place | undefined => {
    const attached = host.places.find((place) => IpNetwork.contains(IpNetwork.fromInterface(place.own), to))
    if (attached !== undefined) return attached
    const route = host.routes.find(({ gateway }) => NetAddress.familyOf(gateway) === NetAddress.familyOf(to))
    return route === undefined ? undefined : host.places.find((place) => place.name === route.interface)
  }

  const send = (
    socket: Socket,
    payload: Uint8Array,
    to: NetAddress.InetAddress,
    { broadcast, multicast }: Udp.OpenOptions
  ): DatagramSocket.DatagramSocketError | undefined => {
    const { host, process } = socket
    const bound = NetAddress.isUnspecified(socket.address.address) ? undefined : socket.address.address
    const own = isGroup(to.address) ? (multicast?.interface ?? bound) : undefined
    const place =
      own === undefined
        ? placeTowards(host, to.address)
        : host.places.find((place) => Equal.equals(place.own.address, own))
    if (place === undefined) return udpError("write", "Unreachable", "ENETUNREACH")
    const isBoundElsewhere = bound !== undefined && !host.places.some((place) => Equal.equals(place.own.address, bound))
    if (isBoundElsewhere) return udpError("write", "Unreachable", "EADDRNOTAVAIL")
    const from = NetAddress.inetAddressUnsafe(bound ?? place.own.address, socket.address.port)
    const { lan } = place
    const isForAll = isGroup(to.address) || isBroadcast(lan, to.address)
    if (isForAll && !isGroup(to.address) && broadcast !== true) return udpError("write", "PermissionDenied", "EACCES")
    happened("udp out", arrow(from, to), payload)
    options.onSent?.({ at: time.now, process: process.process, from, to, payload, request: undefined })
    const refuse = () =>
      carry(
        lan.link,
        0,
        () => {
          if (socket.peer === undefined) return
          happened("refused", arrow(to, from), undefined)
          socket.failure ??= udpError("read", "ConnectionRefused", "ECONNREFUSED")
          socket.wake?.()
        },
        arrow(to, from)
      )
    for (const appliance of appliances) {
      if (appliance.lan !== lan) continue
      if (!isForAll && !Equal.equals(appliance.address, to.address)) continue
      carry(lan.link, 0, () => arriveAtAppliance(appliance, payload, from, to, refuse), arrow(from, to))
    }
    sendToHosts(lan, payload, from, to, 0)
    return undefined
  }

  const freePort = (host: HostState): number => {
    while (true) {
      const port = clientChance.between(firstDynamicPort, lastDynamicPort)
      if (!isTaken(host, port)) return port
    }
  }
  /** Whether a socket here has a port that it does not share; programs outside of the simulation share theirs. */
  const isHeldAlone = (host: HostState, port: number): boolean =>
    [...host.sockets].some(({ address, isShared }) => address.port === port && !isShared)
  const isTaken = (host: HostState, port: number): boolean =>
    host.host.takenPorts.has(port) || [...host.sockets, ...host.listeners].some(({ address }) => address.port === port)

  const openSocket = (
    host: HostState,
    process: ProcessState,
    { bind, connect, reuseAddress }: Udp.OpenOptions
  ): Socket | DatagramSocket.DatagramSocketError => {
    const port = bind?.port ?? 0
    const isShared = reuseAddress === true
    if (port !== 0 && (isShared ? isHeldAlone(host, port) : isTaken(host, port)))
      return udpError("open", "AddressInUse", "EADDRINUSE")
    const place = connect === undefined ? undefined : placeTowards(host, connect.address)
    if (connect !== undefined && place === undefined) return udpError("open", "Unreachable", "ENETUNREACH")
    const address = bind?.address ?? place?.own.address ?? NetAddress.ipv4Unspecified
    const isOwn = host.places.some((place) => Equal.equals(place.own.address, address))
    if (!isOwn && !NetAddress.isUnspecified(address)) {
      return udpError("open", "AddressNotAvailable", "EADDRNOTAVAIL")
    }
    return {
      host,
      process,
      address: NetAddress.inetAddressUnsafe(address, port === 0 ? freePort(host) : port),
      peer: connect,
      isShared,
      groups: [],
      buffer: [],
      failure: undefined,
      wake: undefined
    }
  }

  const receiveFrom = (socket: Socket): Udp.UdpSocket["receive"] => {
    const taken = () => {
      if (socket.failure !== undefined) return Effect.fail(socket.failure)
      const [first, ...others] = socket.buffer
      if (first === undefined) return undefined
      socket.buffer = []
      return Effect.succeed([first, ...others] as const)
    }
    return Effect.suspend(
      () =>
        taken() ??
        Effect.callback((resume) => {
          socket.wake = () => {
            const outcome = socket.process.isRunning ? taken() : undefined
            if (outcome === undefined) return
            socket.wake = undefined
            resume(outcome)
          }
          return Effect.sync(() => {
            socket.wake = undefined
          })
        })
    )
  }

  const udpOf = (host: HostState, process: ProcessState) =>
    Udp.Udp.of({
      open: (options) =>
        Effect.acquireRelease(
          Effect.suspend(() => {
            const socket = openSocket(host, process, options)
            if (DatagramSocket.isDatagramSocketError(socket)) return Effect.fail(socket)
            host.sockets.add(socket)
            return Effect.succeed(socket)
          }),
          (socket) => Effect.sync(() => host.sockets.delete(socket))
        ).pipe(
          Effect.map((socket) => ({
            address: socket.address,
            receive: receiveFrom(socket),
            send: (payload, to) =>
              Effect.suspend(() => {
                const destination = to ?? socket.peer
                const failure =
                  destination === undefined
                    ? udpError("write", "Unreachable", "EDESTADDRREQ")
                    : send(socket, payload, destination, options)
                return failure === undefined ? Effect.void : Effect.fail(failure)
              }),
            joinMulticast: (group) =>
              Effect.asVoid(
                Effect.acquireRelease(
                  Effect.sync(() => socket.groups.push(group)),
                  () => Effect.sync(() => socket.groups.splice(socket.groups.indexOf(group), 1))
                )
              )
          }))
        )
    })

  const httpError = (kind: Http.HttpError["kind"], detail: string) => Effect.fail(new Http.HttpError({ kind, detail }))

  const exchange = (
    host: HostState,
    process: ProcessState,
    request: Http.HttpRequest,
    resume: (outcome: Effect.Effect<Http.HttpResponse, Http.HttpError>) => void
  ) => {
    const place = placeTowards(host, request.address.address)
    if (place === undefined) return resume(httpError("Unreachable", "ENETUNREACH"))
    const { lan, own } = place
    const name = `${NetAddress.formatIp(own.address)} → ${NetAddress.formatInet(request.address)} ${request.method} ${request.path}`
    const encoded = request.body === undefined ? undefined : new TextEncoder().encode(request.body)
    happened("http out", name, encoded)
    options.onSent?.({
      at: time.now,
      process: process.process,
      from: NetAddress.inetAddressUnsafe(own.address, 0),
      to: request.address,
      payload: undefined,
      request
    })
    const back = (outcome: Effect.Effect<Http.HttpResponse, Http.HttpError>, extra: number) => {
      const late = carryReliably(lan.link)
      if (late === undefined) return
      time.after(extra + late, () => {
        // A connection ends with the address that it was made from.
        if (!process.isRunning || !host.places.some((place) => Equal.equals(place.own.address, own.address))) return
        resume(outcome)
      })
    }
    const appliance = appliances.find((one) => one.lan === lan && Equal.equals(one.address, request.address.address))
    if (appliance === undefined) {
      time.after(unreachableAfter, () => {
        if (process.isRunning) resume(httpError("Unreachable", "EHOSTUNREACH"))
      })
      return
    }
    // The handshake, then the request.
    const handshake = carryReliably(lan.link)
    const synack = carryReliably(lan.link)
    const upload = carryReliably(lan.link)
    if (handshake === undefined || synack === undefined || upload === undefined) return
    time.after(handshake + synack + upload, () => {
      if (!appliances.includes(appliance) || appliance.isSilent(time.now)) return
      happened("http at", name, undefined)
      for (const device of appliance.devices) {
        const answer = device.onRequest?.({
          now: time.now,
          port: request.address.port,
          method: request.method,
          path: request.path,
          headers: request.headers ?? [],
          body: request.body,
          client: own.address
        })
        if (answer === undefined) continue
        // Whoever subscribes is sent the first event as soon as it is answered.
        time.after(0, () => events.tell(appliance))
        if (answer === "silence") return
        happened("http re", `${name} ${answer.status}`, answer.body)
        const { after, body, headers, status } = answer
        return back(
          body.length > request.maxBytes
            ? httpError("TooLarge", `more than ${request.maxBytes} bytes`)
            : Effect.succeed({ status, headers, body, localAddress: own.address }),
          after ?? 0
        )
      }
      back(httpError("Refused", "ECONNREFUSED"), 0)
    })
  }

  const httpOf = (host: HostState, process: ProcessState) =>
    Http.Http.of({
      request: (request) =>
        Effect.callback((resume) => {
          exchange(host, process, request, resume)
        })
    })

  const listenerOf = (host: HostState, process: ProcessState) =>
    HttpListener.HttpListener.of({
      listen: (options) =>
        Effect.acquireRelease(
          Effect.suspend(() => {
            if (!host.places.some((place) => Equal.equals(place.own.address, options.address))) {
              return Effect.fail(new HttpListener.HttpListenError({ detail: "EADDRNOTAVAIL" }))
            }
            const address = NetAddress.inetAddressUnsafe(options.address, freePort(host))
            const listener: Listener = { process, address, options, answers: new Set() }
            host.listeners.add(listener)
            return Effect.succeed(listener)
          }),
          (listener) =>
            Effect.suspend(() => {
              host.listeners.delete(listener)
              return Effect.forEach([...listener.answers], (answer) => Fiber.interrupt(answer), { discard: true })
            })
        ).pipe(Effect.map(({ address }) => address))
    })

  /** An event that has arrived at a host: the status of its answer, `undefined` for a connection that is refused. */
  const receiveEvent = (
    host: HostState,
    from: NetAddress.InetAddress,
    to: NetAddress.InetAddress,
    {
      body,
      headers,
      path
    }: { readonly body: string; readonly headers: Http.HttpRequest["headers"]; readonly path: string },
    answered: (status: number | undefined) => void
  ): (() => void) => {
    const listener = [...host.listeners].find(({ address }) => Equal.equals(address, to))
    const hungUp = () => {}
    if (listener === undefined || !listener.options.accepts(from.address)) {
      answered(undefined)
      return hungUp
    }
    const payload = new TextEncoder().encode(body)
    if (payload.length > listener.options.maxBytes) {
      answered(413)
      return hungUp
    }
    const named = Object.fromEntries((headers ?? []).map(([name, value]) => [name.toLowerCase(), value]))
    const request = { method: "NOTIFY", path, headers: named, body: payload, from }
    const fiber = listener.process.process.fork(Effect.suspend(() => listener.options.answer(request)))
    listener.answers.add(fiber)
    fiber.addObserver((exit) => {
      listener.answers.delete(fiber)
      answered(Exit.isSuccess(exit) ? exit.value : undefined)
    })
    return () => fiber.interruptUnsafe()
  }

  /** The path of a subscriber is unguessable, hence another one in every run: it is no part of the trace. */
  const notify = (
    appliance: Appliance,
    { address: to, path }: UpnpResponder.Notification["callbacks"][number],
    { body, headers }: UpnpResponder.Notification,
    answered: (status: number | undefined) => void
  ): (() => void) => {
    const { lan } = appliance
    const from = NetAddress.inetAddressUnsafe(appliance.address, eventPort)
    const name = `${NetAddress.formatIp(appliance.address)} → ${NetAddress.formatInet(to)} NOTIFY`
    happened("http out", name, new TextEncoder().encode(body))
    let hangUp = () => {}
    let isOver = false
    const back = (status: number | undefined) => {
      const late = carryReliably(lan.link)
      if (late === undefined || isOver) return
      happened("http re", `${name} ${status ?? "refused"}`, undefined)
      time.after(late, () => answered(status))
    }
    const [handshake, synack, upload] = [lan.link, lan.link, lan.link].map(carryReliably)
    if (handshake !== undefined && synack !== undefined && upload !== undefined) {
      time.after(handshake + synack + upload, () => {
        const isAt = (host: HostState) =>
          host.places.some((place) => place.lan === lan && Equal.equals(place.own.address, to.address))
        const host = hosts.find(isAt)
        if (isOver || host === undefined || !appliances.includes(appliance)) return
        happened("http at", name, undefined)
        hangUp = receiveEvent(host, from, to, { body, headers, path }, back)
      })
    }
    return () => {
      isOver = true
      hangUp()
    }
  }

  const events = NetworkEvents.make<Appliance>({ time, notify })

  const announce: SimulatedNetwork["announce"] = (appliance, payload, fromPort, to) => {
    const from = NetAddress.inetAddressUnsafe(appliance.address, fromPort)
    happened("udp out", arrow(from, to), payload)
    sendToHosts(appliance.lan, payload, from, to, 0)
  }

  const announcements = NetworkAnnouncements.make<Appliance>({
    time,
    isUp: (appliance) => appliances.includes(appliance) && !appliance.isSilent(time.now),
    isHeard: ({ lan }) => hostsOn(lan).some((host) => [...host.sockets].some(({ groups }) => groups.length > 0)),
    send: announce,
    passed: events.tell
  })

  /** Has a router say what has become of it, as it becomes so. */
  const followModel = (router: Router) => {
    const { model } = router
    let { bootId, externalAddress } = model
    return model.onChange(() => {
      const isRestarted = model.bootId !== bootId
      const isElsewhere = !Equal.equals(model.externalAddress, externalAddress)
      bootId = model.bootId
      externalAddress = model.externalAddress
      if (isRestarted || isElsewhere) announcements.announce(router, isRestarted ? "restart" : "newAddress")
      time.after(0, () => events.tell(router))
    })
  }

  const interfacesOf = (host: HostState) =>
    NetworkInterfaces.NetworkInterfaces.of({
      list: Effect.sync(() => host.places.map(({ name, own }) => ({ name, isLoopback: false, addresses: [own] })))
    })

  const logged = (process: Process) =>
    Logger.make((entry) => {
      const parts = Array.isArray(entry.message) ? entry.message : [entry.message]
      const defects = entry.cause.reasons.length === 0 ? "" : `\n${Cause.pretty(entry.cause)}`
      const message = `${parts.map(String).join(" ")}${defects}`
      happened(logKind, `${process.host.name} ${entry.logLevel}: ${message}`, undefined)
      options.onLog?.({ process, level: entry.logLevel, message })
    })

  /** Whoever looked every few seconds would see nothing else until the host is moved, so nothing is looked at until then. */
  const nextLook = (host: HostState) =>
    Effect.suspend(() => {
      const { now } = time
      const period = Duration.toMillis(NetworkWatch.interval)
      const moved = Effect.callback<void>((resume) => {
        const isMoved = () => {
          host.onMove.delete(isMoved)
          resume(Effect.void)
        }
        host.onMove.add(isMoved)
        return Effect.sync(() => host.onMove.delete(isMoved))
      })
      return Effect.andThen(
        moved,
        Effect.suspend(() => Effect.sleep(period - ((time.now - now) % period)))
      )
    })

  const startProcess = (host: HostState): Process => {
    const state: ProcessState = {
      isRunning: true,
      process: {
        host: host.host,
        get isRunning() {
          return state.isRunning
        },
        fork: (effect) => Effect.runForkWith(context)(effect),
        kill: () => {
          state.isRunning = false
          for (const socket of host.sockets) if (socket.process === state) host.sockets.delete(socket)
          for (const listener of host.listeners) if (listener.process === state) host.listeners.delete(listener)
          happened("killed ", host.host.name, undefined)
        }
      }
    }
    const { clock, scheduler } = time.program(() => state.isRunning)
    const seams = Context.empty().pipe(
      Context.add(Udp.Udp, udpOf(host, state)),
      Context.add(Http.Http, httpOf(host, state)),
      Context.add(HttpListener.HttpListener, listenerOf(host, state)),
      Context.add(NetworkInterfaces.NetworkInterfaces, interfacesOf(host)),
      Context.add(DefaultRoute.DefaultRoute, { routes: Effect.sync(() => host.routes) }),
      Context.add(Clock.Clock, clock),
      Context.add(Scheduler.Scheduler, scheduler),
      Context.add(Random.Random, clientChance),
      Context.add(Logger.CurrentLoggers, new Set([logged(state.process)])),
      Context.add(References.MinimumLogLevel, options.keepsTrace === true ? "Debug" : "Warn"),
      Context.add(References.TracerEnabled, false)
    )
    // It lives as long as the process, which nothing of it outlives, and runs as it does: `runSync` has a scheduler of its own.
    const watch = NetworkWatch.make({ pause: nextLook(host) }).pipe(Scope.provide(Scope.makeUnsafe()))
    const made = Effect.runForkWith(seams)(watch).pollUnsafe()
    if (made === undefined || Exit.isFailure(made)) throw new Error("the watch over the network was not made at once")
    const context = Context.add(seams, NetworkWatch.NetworkWatch, made.value)
    return state.process
  }

  const settleIn = (host: HostState, { attachments, gateways }: Placement) => {
    const places = attachments.map(({ address, lan, name }, index) => {
      const own = NetworkChecks.address(address)
      NetworkChecks.place(host.host.name, own, lan.network, addressesOn(lan, host))
      return { lan, name: name ?? `eth${index}`, own: IpInterface.makeUnsafe(own, lan.network.prefixLength) }
    })
    const routes = gateways.map((gateway, metric) => {
      const address = "model" in gateway ? gateway.address : gateway
      const { name } = NetworkChecks.placeTowards(host.host.name, address, places)
      return { gateway: address, interface: name, metric }
    })
    host.places = places
    host.routes = routes
    host.onMove.forEach((moved) => moved())
    happened(
      "placed ",
      `${host.host.name}: ${host.places.map((place) => IpInterface.format(place.own)).join(", ")} via ${host.routes.map((route) => NetAddress.formatIp(route.gateway)).join(", ")}`,
      undefined
    )
  }

  const addHost: SimulatedNetwork["addHost"] = (placement) => {
    const state: HostState = {
      host: {
        name: placement.name ?? `host${hosts.length}`,
        takenPorts: new Set(),
        get addresses() {
          return state.places.map((place) => place.own.address)
        },
        move: (next) => settleIn(state, next),
        start: () => startProcess(state)
      },
      sockets: new Set(),
      listeners: new Set(),
      onMove: new Set(),
      places: [],
      routes: []
    }
    settleIn(state, placement)
    hosts.push(state)
    return state.host
  }

  const reach: SimulatedNetwork["reach"] = (protocol, to, from = NetAddress.ipFromStringUnsafe("198.51.100.7")) => {
    let at: NetAddress.InetAddress | undefined = to
    // As many routers as there are can stand behind each other, and not more.
    for (let hops = 0; hops <= routers.length && at !== undefined; hops++) {
      const current: NetAddress.InetAddress = at
      const router: Router | undefined = routers.find(
        (one) =>
          one.model.externalAddress !== undefined &&
          Equal.equals(one.model.externalAddress, current.address) &&
          !one.isSilent(time.now)
      )
      if (router === undefined) {
        return hosts.some((host) => host.places.some((place) => Equal.equals(place.own.address, current.address)))
          ? current
          : undefined
      }
      at = router.model.forward(time.now, protocol, current.port, from)
    }
    return undefined
  }

  return {
    get now() {
      return time.now
    },
    trace,
    get fingerprint() {
      return hash.toString(16).padStart(8, "0")
    },
    addLan: (options) => {
      let link = NetworkChecks.link({ ...perfectLink, ...options.link })
      return {
        network: NetworkChecks.network(options.network),
        get link() {
          return link
        },
        set link(next) {
          link = NetworkChecks.link(next)
        }
      }
    },
    addRouter: ({ devices, lan, model, ...options }) => {
      NetworkChecks.quirks(model)
      const address = NetworkChecks.address(options.address ?? model.address)
      NetworkChecks.place(`the router ${model.name}`, address, lan.network, addressesOn(lan))
      const router: Router = {
        lan,
        model,
        devices,
        address,
        isSilent: (now) => model.isSilent(now)
      }
      appliances.push(router)
      routers.push(router)
      unfollow.set(router, followModel(router))
      announcements.announce(router, "start")
      return router
    },
    addAppliance: ({ devices, lan, ...options }) => {
      const address = NetworkChecks.address(options.address)
      NetworkChecks.place("an appliance", address, lan.network, addressesOn(lan))
      const appliance: Appliance = { lan, devices, address, isSilent: () => false }
      appliances.push(appliance)
      announcements.announce(appliance, "start")
      return appliance
    },
    remove: (appliance, how = "abrupt") => {
      if (how === "orderly") announcements.announce(appliance, "end")
      announcements.forget(appliance)
      unfollow.get(appliance)?.()
      unfollow.delete(appliance)
      const index = appliances.indexOf(appliance)
      if (index >= 0) appliances.splice(index, 1)
      const routerIndex = routers.findIndex((router) => router === appliance)
      if (routerIndex >= 0) routers.splice(routerIndex, 1)
    },
    addHost,
    after: (delay, run) => void time.after(delay, run),
    inject: ({ after, from, host, payload, to }) => {
      const state = hosts.find((one) => one.host === host)
      if (state !== undefined) time.after(after ?? 0, () => arriveAtHost(state, payload, from, to))
    },
    announce,
    reach,
    note: (line) => happened("note   ", line, undefined),
    runUntil: (until) => time.runUntil(until),
    run: (process, effect) =>
      Effect.suspend(() => {
        const fiber = process.fork(effect)
        const latest = time.now + Duration.toMillis(longestRun)
        while (fiber.pollUnsafe() === undefined) {
          if (time.now > latest) return Effect.die(new Error(notEnded))
          if (!time.step()) return Effect.die(new Error("the program waits for something that never comes"))
        }
        return fiber.pollUnsafe() ?? Effect.die(new Error("the program has not ended"))
      })
  }
}
