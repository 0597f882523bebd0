/**
 * A router on sockets of this machine: it speaks UPnP, NAT-PMP and PCP to real clients on loopback, and really
 * forwards. A connection to an external port arrives at the internal one, UDP alike.
 *
 * No root and no network but loopback is needed: the router takes free ports, and `layerHost` gives programs a host
 * whose default gateway it is, with the protocols' own ports translated, so that the unmodified strategies talk to it.
 * Told its addresses and ports, it is the gateway of a real network just as well.
 *
 * **Gotchas**
 *
 * A service that shall be reached only through the router listens on 127.0.0.1, not on every address: the router's
 * outside is a loopback address too (127.0.0.2; on systems with one loopback address only, that one). When a mapping
 * goes, the connections that came by it are cut.
 *
 * An external port that another program of this machine has cannot be had, as if another host had mapped it: UPnP's
 * clients meet a conflict, those of NAT-PMP and PCP are granted another port, and a warning says which it was. A second
 * after that program has given it back it can be had again. Tests
 * that run at once and want the same port each give their router an outside of its own, such as the `externalAddress`
 * 127.0.0.3.
 *
 * **Example** (Map a port on a router of your own)
 *
 * ```ts
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as PortMapping from "@effect-nat/core/PortMapping"
 * import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
 * import * as Upnp from "@effect-nat/upnp/Upnp"
 * import { Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const router = yield* NodeSimulatedRouter.NodeSimulatedRouter
 *   const mapper = yield* PortMapper.PortMapper
 *   const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12001 })
 *   yield* Effect.log(PortMapping.format(yield* mapping.current), yield* router.table)
 * }).pipe(Effect.scoped)
 *
 * export const run = program.pipe(
 *   Effect.provide(Upnp.layer.pipe(Layer.provide(NodeSimulatedRouter.layerHost))),
 *   Effect.provide(NodeSimulatedRouter.layer({ quirks: ["LineFeedsOnly"] }))
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import type * as NatError from "@effect-nat/core/NatError"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import type * as NodeHost from "@effect-nat/core/NodeHost"
import * as NodeHttp from "@effect-nat/core/NodeHttp"
import * as NodeHttpListener from "@effect-nat/core/NodeHttpListener"
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as Udp from "@effect-nat/core/Udp"
import * as NatPmpCodec from "@effect-nat/natpmp/NatPmpCodec"
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as DatagramSocket from "effect/socket/DatagramSocket"
import type * as GatewayAnnouncements from "./internal/gatewayAnnouncements.ts"
import * as GatewayReplies from "./internal/gatewayReplies.ts"
import * as NodeAnnouncements from "./internal/NodeAnnouncements.ts"
import * as NodeEvents from "./internal/NodeEvents.ts"
import * as NodeForwarding from "./internal/NodeForwarding.ts"
import * as NodeRouterPorts from "./internal/NodeRouterPorts.ts"
import { open, reserve, serve } from "./internal/NodeRouterUdp.ts"
import * as NodeTcp from "./internal/NodeTcp.ts"
import * as NodeWebConnection from "./internal/NodeWebConnection.ts"
import * as OptionChecks from "./internal/optionChecks.ts"
import type { RouterSocketError } from "./internal/routerSocketError.ts"
import * as PcpResponder from "./PcpResponder.ts"
import * as Quirk from "./Quirk.ts"
import type * as RouterModel from "./RouterModel.ts"
import * as SimulatedRouter from "./SimulatedRouter.ts"
import * as UpnpResponder from "./UpnpResponder.ts"

export {
  /**
   * A socket of the router could not be opened, for its `reason`.
   *
   * @category errors
   * @since 0.1.0
   */
  RouterSocketError,
  /**
   * A port of the router is taken (`kind` is `"AddressInUse"`), its address is none of this machine's
   * (`"AddressNotAvailable"`), it may not be had (`"PermissionDenied"`), or the `cause` knows why (`"Unknown"`).
   *
   * @category errors
   * @since 0.1.0
   */
  RouterSocketOpenError
} from "./internal/routerSocketError.ts"

/**
 * How a router is made. Its inside is 127.0.0.1 and its outside 127.0.0.2 unless told otherwise.
 *
 * **Gotchas**
 *
 * Clients warn of double NAT, since 127.0.0.2 is no public address. A router that is told the `externalAddress`
 * 11.22.33.1, or any other that is none of this machine's, says so to its clients and listens on 127.0.0.2 all the same
 * (`outside` is where): they see a public line and have nothing to warn of.
 *
 * **Example** (A router on a public line)
 *
 * ```ts
 * import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
 *
 * export const router = NodeSimulatedRouter.layer({ externalAddress: "11.22.33.1" })
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends SimulatedRouter.RouterOptions {
  /** What it speaks, by default everything. Whoever asks for something else is refused, as by any host. */
  readonly protocols?: ReadonlyArray<Quirk.Protocol> | undefined
  /** The version of the Internet Gateway Device that it is over UPnP. Defaults to what its quirks need, or 1. */
  readonly igdVersion?: 1 | 2 | undefined
  /** Whether hosts may map ports of other hosts over PCP. Defaults to `false`, as RFC 6887 §13.1 wants it. */
  readonly thirdParty?: boolean | undefined
  /** The ports it listens on; those left out, or 0, are free ones. */
  readonly ports?:
    | {
        /** In the place of 1900. */
        readonly ssdp?: number | undefined
        /** Of the web server, which no protocol fixes: clients learn it from a search. */
        readonly http?: number | undefined
        /** In the place of 5351, where NAT-PMP and PCP share it. */
        readonly natpmp?: number | undefined
        /** In the place of 5350: where hosts listen to what NAT-PMP and PCP announce to 224.0.0.1. */
        readonly announcements?: number | undefined
      }
    | undefined
}

/**
 * A test's handle on the router. Whoever restarts it, or gives it another address, goes on when its sockets have
 * followed.
 *
 * @category services
 * @since 0.1.0
 */
export class NodeSimulatedRouter extends Context.Service<
  NodeSimulatedRouter,
  SimulatedRouter.SimulatedRouter["Service"] & {
    /** The ports that are in the place of the protocols' own. Those of a protocol that it does not speak are refused. */
    readonly ports: {
      /** What UPnP calls 1900. */
      readonly ssdp: number
      /**
       * Where its web server listens now: for whoever connects by hand. Clients go by `location`, since a restart may
       * move it. 0 where it does not speak UPnP, and has none.
       */
      readonly http: number
      /** What NAT-PMP and PCP call 5351. */
      readonly natpmp: number
      /**
       * What NAT-PMP and PCP call 5350: hosts that listen there to 224.0.0.1 hear of a start, a restart and another
       * external address, ten times each. A machine without multicast on loopback hears nothing.
       */
      readonly announcements: number
    }
    /** Where its description is; changes with a restart if a quirk says so. */
    readonly location: Effect.Effect<string>
    /** Whether it hears the SSDP group; not every machine allows that on loopback. */
    readonly hearsMulticast: boolean
    /**
     * Where external ports really listen: the external address or, where that is none of this machine's, a loopback
     * address in its place; `undefined` while the line has no address.
     */
    readonly outside: Effect.Effect<NetAddress.IpAddress | undefined>
    /** The external ports that are open now, as `tcp 127.0.0.2:12001`. */
    readonly openPorts: Effect.Effect<ReadonlyArray<string>>
  }
>()("@effect-nat/testing/NodeSimulatedRouter") {}

const ip = NetAddress.ipFromStringUnsafe
const inside = ip("127.0.0.1")
const outside = ip("127.0.0.2")
/** Another gateway, for the quirks that have two. */
const secondGateway = ip("127.0.0.9")

type Handle = NodeSimulatedRouter["Service"]

const isUsable = (address: NetAddress.IpAddress) =>
  Effect.match(Effect.scoped(open({ bind: { address } })), { onSuccess: () => true, onFailure: () => false })

/** A silent router does not speak up either. */
const unlessSilent = (model: RouterModel.RouterModel, effect: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => (model.isSilent(now) ? Effect.void : effect))

/** So many ports in a row that are taken on this machine are not bad luck any more. */
const maximumTaken = 16

/**
 * Answers when the sockets have followed: whoever hears that a port is mapped may use it at once. What was granted may
 * turn out to be taken on this machine, and the row is gone: then the request meets the router as it is now.
 */
const answerSettled = Effect.fnUntraced(function* <A>(
  model: RouterModel.RouterModel,
  settle: Effect.Effect<void>,
  answer: (now: number) => A | undefined
) {
  const now = yield* Clock.currentTimeMillis
  for (let taken = 0; ; taken++) {
    const [before, lastAsked] = [model.entries(now), model.asked.at(-1)]
    const answered = answer(now)
    const made = model.entries(now).filter((entry) => !before.includes(entry))
    // It was asked once.
    if (taken > 0 && model.asked.at(-1) !== lastAsked) model.asked.pop()
    yield* settle
    const isTaken = made.some((entry) => model.isTaken(entry))
    if (!isTaken || answered === undefined || taken === maximumTaken) return answered
  }
})

// -----------------------------------------------------------------------------
// SSDP
// -----------------------------------------------------------------------------

interface SsdpServer {
  readonly port: number
  readonly hearsMulticast: boolean
  readonly announce: (payloads: ReadonlyArray<Uint8Array>) => Effect.Effect<void>
}

const openGroup = Effect.fnUntraced(function* (address: NetAddress.IpAddress, port: number) {
  // Bound to the group, the socket hears nothing else, which tells a search by multicast from one by unicast.
  const socket = yield* open({ bind: { address: Ssdp.group, port }, reuseAddress: true })
  yield* socket.joinMulticast(Ssdp.group, NetAddress.isIpv4Address(address) ? address : undefined)
  return socket
})

const serveSsdp = Effect.fnUntraced(function* (
  model: RouterModel.RouterModel,
  wantedPort: number,
  place: () => UpnpResponder.Place
) {
  const { address } = model
  const multicast = NetAddress.isIpv4Address(address) ? { multicast: { interface: address, ttl: 2 } } : {}
  const socket = yield* open({ bind: { address, port: wantedPort }, ...multicast })
  const other = yield* open({ bind: { address } })
  const { port } = socket.address
  const scope = yield* Effect.scope

  const answer = (isMulticast: boolean) =>
    Effect.fnUntraced(function* ({ address: from, payload }: DatagramSocket.Datagram) {
      const now = yield* Clock.currentTimeMillis
      const search = { payload, client: from.address, isMulticast }
      for (const { delay, fromOtherPort, payload } of UpnpResponder.answerSearch(model, now, place(), search)) {
        const sent = (fromOtherPort ? other : socket).send(payload, from)
        yield* delay === 0 ? sent : Effect.forkIn(Effect.ignore(Effect.delay(sent, delay)), scope)
      }
    })

  yield* serve(socket, answer(false))
  const group = yield* Effect.result(openGroup(address, port))
  const hearsMulticast = group._tag === "Success"
  if (hearsMulticast) yield* serve(group.success, answer(true))
  else yield* Effect.logDebug(`the simulated router hears no multicast: ${group.failure.message}`)
  const to = NetAddress.inetAddressUnsafe(Ssdp.group, port)
  const server: SsdpServer = {
    port,
    hearsMulticast,
    announce: (payloads) =>
      Effect.forEach(payloads, (payload) => Effect.ignore(socket.send(payload, to)), { discard: true })
  }
  return server
})

// -----------------------------------------------------------------------------
// HTTP
// -----------------------------------------------------------------------------

/** What there is to do when the model may have changed. */
interface Following {
  /** Sockets follow. */
  readonly settle: Effect.Effect<void>
  /** Subscribers hear of it; nobody waits for that. */
  readonly tellChanges: Effect.Effect<void>
}

/** Listens on the two ports of a place. */
const serveHttp = Effect.fnUntraced(function* (
  model: RouterModel.RouterModel,
  wantedPort: number,
  place: () => UpnpResponder.Place,
  { settle, tellChanges }: Following
) {
  const run = yield* FiberSet.makeRuntime<never>()

  const answer = Effect.fnUntraced(function* (
    request: UpnpResponder.Request | "Malformed",
    requester: UpnpResponder.Requester
  ) {
    if (request === "Malformed") {
      return { bytes: UpnpResponder.encode(model, UpnpResponder.badRequest), isKept: false }
    }
    const answered = yield* answerSettled(model, settle, (now) =>
      UpnpResponder.answerRequest(model, now, place(), request, requester)
    )
    if (answered === undefined) return undefined
    const isKept = UpnpResponder.keepsConnection(model, request)
    return { bytes: UpnpResponder.encode(model, answered, isKept), isKept }
  })

  const listen = (wanted: number, port: () => number) =>
    NodeTcp.listen(
      model.address,
      wanted,
      (socket, client) => {
        model.connections += 1
        NodeWebConnection.serve(socket, {
          model,
          run,
          answer: (request) => answer(request, { client, port: port() }),
          answered: tellChanges
        })
      },
      NodeWebConnection.maximumConnections
    )

  const httpPort = yield* listen(wantedPort, () => place().httpPort)
  const otherHttpPort = yield* listen(0, () => place().otherHttpPort)
  return { httpPort, otherHttpPort } satisfies UpnpResponder.Place
})

const nowhere: UpnpResponder.Place = { httpPort: 0, otherHttpPort: 0 }

/** The web server of a router: the place it is at, and how it moves to another one. */
const makeWeb = Effect.fnUntraced(function* (model: RouterModel.RouterModel, wantedPort: number, following: Following) {
  const scope = yield* Effect.scope
  let place = nowhere
  const start = Effect.fnUntraced(function* (port: number) {
    const webScope = yield* Scope.fork(scope)
    place = yield* Scope.provide(
      serveHttp(model, port, () => place, following),
      webScope
    )
    return webScope
  })
  let webScope = yield* start(wantedPort)
  return {
    place: () => place,
    move: Effect.gen(function* () {
      const before = webScope
      webScope = yield* start(0)
      yield* Scope.close(before, Exit.void)
    })
  }
})

// -----------------------------------------------------------------------------
// UPnP
// -----------------------------------------------------------------------------

interface UpnpSide {
  readonly ssdpPort: number
  readonly hearsMulticast: boolean
  readonly place: () => UpnpResponder.Place
  readonly restarted: Effect.Effect<void>
  /** The line has another address. */
  readonly isElsewhere: Effect.Effect<void>
}

type UpnpPorts = Pick<NodeRouterPorts.Wanted, "http" | "ssdp">

/** Searches come to a port on which nobody listens, and there is nothing to connect to. */
const refuseUpnp = Effect.fnUntraced(function* ({ address }: RouterModel.RouterModel, ports: UpnpPorts) {
  const side: UpnpSide = {
    ssdpPort: yield* reserve(address, ports.ssdp),
    hearsMulticast: false,
    place: () => nowhere,
    restarted: Effect.void,
    isElsewhere: Effect.void
  }
  return side
})

const serveUpnp = Effect.fnUntraced(function* (model: RouterModel.RouterModel, ports: UpnpPorts, following: Following) {
  const web = yield* makeWeb(model, ports.http, following)
  const { announce, hearsMulticast, port } = yield* serveSsdp(model, ports.ssdp, web.place)
  const alive = Effect.suspend(() => announce(UpnpResponder.alive(model, web.place())))
  yield* Effect.addFinalizer(() => unlessSilent(model, announce(UpnpResponder.byebye(model))))
  yield* unlessSilent(model, alive)
  // Before what it has said runs out.
  const again = Effect.delay(unlessSilent(model, alive), UpnpResponder.aliveInterval)
  yield* Effect.forkScoped(Effect.forever(again))
  const side: UpnpSide = {
    ssdpPort: port,
    hearsMulticast,
    place: web.place,
    restarted: Effect.gen(function* () {
      // Where it cannot move it stays, and is a router still.
      if (model.has("RestartMovesControl")) {
        yield* Effect.catch(web.move, ({ message }) => Effect.logWarning(`the web server does not move: ${message}`))
      }
      yield* unlessSilent(model, alive)
    }),
    // That is news to the group only where it is the place of the description.
    isElsewhere: model.has("LocationOnOtherAddress") ? unlessSilent(model, alive) : Effect.void
  }
  return side
})

// -----------------------------------------------------------------------------
// NAT-PMP and PCP
// -----------------------------------------------------------------------------

interface GatewayPort {
  readonly port: number
  /** Starts a round of announcements. */
  readonly announce: (occasion: GatewayAnnouncements.Occasion) => Effect.Effect<void>
}

const openGatewayPort = (address: NetAddress.IpAddress, port: number) =>
  // All hosts of the link are near.
  open({
    bind: { address, port },
    ...(NetAddress.isIpv4Address(address) ? { multicast: { interface: address, ttl: 1 } } : {})
  })

const serveGatewayPort = Effect.fnUntraced(function* (
  model: RouterModel.RouterModel,
  protocols: ReadonlyArray<Quirk.Protocol>,
  ports: { readonly natpmp: number; readonly announcements: number },
  settle: Effect.Effect<void>,
  options: PcpResponder.Options
) {
  const respond = PcpResponder.responderFor(protocols)
  if (respond === undefined) {
    const refused: GatewayPort = { port: yield* reserve(model.address, ports.natpmp), announce: () => Effect.void }
    return refused
  }
  const socket = yield* openGatewayPort(model.address, ports.natpmp)
  const other = yield* open({ bind: { address: model.address } })
  const scope = yield* Effect.scope
  yield* serve(
    socket,
    Effect.fnUntraced(function* ({ address: from, payload }) {
      const answer = yield* answerSettled(model, settle, (now) => respond(model, now, payload, from.address, options))
      for (const { after, fromOtherPort, payload } of GatewayReplies.repliesOf(model, answer)) {
        const sent = (fromOtherPort ? other : socket).send(payload, from)
        yield* after === 0 ? sent : Effect.forkIn(Effect.ignore(Effect.delay(sent, after)), scope)
      }
    })
  )
  const announce = yield* NodeAnnouncements.make(model, protocols, socket, ports.announcements)
  const served: GatewayPort = { port: socket.address.port, announce }
  return served
})

// -----------------------------------------------------------------------------
// Forwarding
// -----------------------------------------------------------------------------

/**
 * Where external ports listen. An address that is only told to clients, as a quirk may have it, is none of this
 * machine's; and a router on loopback never listens to the network. An address is tried once, when the line gets it.
 */
const makeOutside = (model: RouterModel.RouterModel, fallback: NetAddress.IpAddress) => {
  let tried: { readonly address: NetAddress.IpAddress; readonly isUsable: boolean } | undefined
  return Effect.gen(function* () {
    const address = model.externalAddress
    if (address === undefined) return undefined
    const isOwn = NetAddress.isLoopback(address) || !NetAddress.isLoopback(model.address)
    if (!isOwn || NetAddress.isUnspecified(address)) return fallback
    if (!Equal.equals(tried?.address, address)) tried = { address, isUsable: yield* isUsable(address) }
    return tried?.isUsable === true ? address : fallback
  })
}

const nameOf = ({ address, port, protocol }: NodeForwarding.Outside): string =>
  `${protocol} ${NetAddress.formatInet(NetAddress.inetAddressUnsafe(address, port))}`

/** Whether nobody has a port, by having it for a moment. */
const isFree = (outside: NodeForwarding.Outside) =>
  Effect.match(Effect.scoped(NodeForwarding.forward(outside, () => undefined)), {
    onSuccess: () => true,
    onFailure: () => false
  })

/** Nobody says when another program of this machine gives a port back. */
const untilRetry = "1 second"

/** Keeps the open ports of the outside equal to the table. */
const makeForwarding = Effect.fnUntraced(function* (
  model: RouterModel.RouterModel,
  getOutside: ReturnType<typeof makeOutside>
) {
  const scope = yield* Effect.scope
  const clock = yield* Clock.Clock
  const ports = new Map<string, Scope.Closeable>()
  /** Those that another program of this machine has. */
  const refused = new Map<string, NodeForwarding.Outside>()

  const close = Effect.fnUntraced(function* (name: string) {
    const portScope = ports.get(name)
    ports.delete(name)
    if (portScope !== undefined) yield* Scope.close(portScope, Exit.void)
  })

  /** What the other program has given back, or has at an address that the line had before, can be mapped again. */
  const retry = Effect.gen(function* () {
    const address = yield* getOutside
    for (const [name, outside] of refused) {
      if (Equal.equals(outside.address, address) && !(yield* isFree(outside))) continue
      refused.delete(name)
      model.freePort({ protocol: outside.protocol, externalPort: outside.port })
    }
  })

  const openPort = Effect.fnUntraced(function* (name: string, outside: NodeForwarding.Outside) {
    const portScope = yield* Scope.fork(scope)
    const target = ({ address, port }: NetAddress.InetAddress) =>
      model.forward(clock.currentTimeMillisUnsafe(), outside.protocol, outside.port, address, port)
    const opened = yield* Effect.result(Scope.provide(NodeForwarding.forward(outside, target), portScope))
    if (opened._tag === "Success") return void ports.set(name, portScope)
    yield* Scope.close(portScope, Exit.void)
    // As if another host had it.
    refused.set(name, outside)
    model.takePort({ protocol: outside.protocol, externalPort: outside.port })
    yield* Effect.logWarning(`${name} cannot be mapped: ${opened.failure.message}`)
    const isOver = () => !refused.has(name)
    yield* retry.pipe(Effect.delay(untilRetry), Effect.repeat({ until: isOver }), Effect.forkIn(scope))
  })

  const follow = Effect.fnUntraced(function* (entries: ReadonlyArray<RouterModel.Entry>) {
    const address = yield* getOutside
    yield* retry
    const wanted = new Map(
      entries.flatMap(({ enabled, externalPort, protocol }) => {
        // A mapping of every port opens none: this machine's other ports are not the router's.
        if (address === undefined || !enabled || externalPort === 0) return []
        const outside = { protocol, address, port: externalPort }
        return [[nameOf(outside), outside] as const]
      })
    )
    yield* Effect.forEach(
      [...ports.keys()].filter((name) => !wanted.has(name)),
      close,
      { discard: true }
    )
    yield* Effect.forEach(
      [...wanted].filter(([name]) => !ports.has(name)),
      ([name, one]) => openPort(name, one),
      {
        discard: true
      }
    )
  })

  return {
    follow,
    closeAll: Effect.suspend(() => Effect.forEach([...ports.keys()], close, { discard: true })),
    open: () => [...ports.keys()]
  }
})

// -----------------------------------------------------------------------------
// The router
// -----------------------------------------------------------------------------

/** The gateway that takes requests and never answers. Without it the quirk would not be there. */
const openDeadGateway = Effect.fnUntraced(function* (ports: Handle["ports"]) {
  for (const port of [ports.ssdp, ports.natpmp]) {
    yield* serve(yield* open({ bind: { address: secondGateway, port } }), () => Effect.void)
  }
})

/** Leases run out without anybody asking: how long until the next one does, in milliseconds. */
const untilNextEnd = (model: RouterModel.RouterModel, now: number): number =>
  model.entries(now).reduce((wait, { expiresAt }) => Math.min(wait, (expiresAt ?? Infinity) - now), 60_000)

/** Where announcements go: unless it is told, to a port that no other program gets, but the hosts that listen there. */
const announcementsPort = (address: NetAddress.IpAddress, wanted: number) =>
  wanted === 0 ? reserve(address, 0, { reuseAddress: true }) : Effect.succeed(wanted)

/** Those that give the line an address of their own. */
const addressQuirks: ReadonlySet<Quirk.Quirk> = new Set(
  Quirk.names.filter((name) => name.startsWith("ExternalAddress"))
)

const makeHandle = Effect.fnUntraced(function* (options: Options, fallback: NetAddress.IpAddress) {
  const { address = NetAddress.formatIp(inside), quirks = [] } = options
  const isQuirky = quirks.some((quirk) => addressQuirks.has(quirk))
  const outer = isQuirky ? undefined : NetAddress.formatIp(fallback)
  const { externalAddress = outer } = options
  return SimulatedRouter.fromModel(yield* OptionChecks.toModel("loopback", { ...options, address, externalAddress }))
})

/** Settles after every change, and when a lease runs out, until the scope closes. */
const followChanges = Effect.fnUntraced(function* (model: RouterModel.RouterModel, settle: Effect.Effect<void>) {
  const changed = yield* Queue.sliding<void>(1)
  yield* Effect.acquireRelease(
    Effect.sync(() => model.onChange(() => void Queue.offerUnsafe(changed, undefined))),
    (stop) => Effect.sync(stop)
  )
  const wait = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.timeoutOption(Queue.take(changed), Math.max(10, untilNextEnd(model, now)))
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(wait, settle)))
})

/** What the sockets follow. The model makes another list of whatever changes the table. */
const stateOf = (model: RouterModel.RouterModel, now: number) => ({
  bootId: model.bootId,
  externalAddress: model.externalAddress,
  entries: model.entries(now)
})

const isSameState = (self: ReturnType<typeof stateOf>, that: ReturnType<typeof stateOf>): boolean =>
  self.bootId === that.bootId &&
  self.entries === that.entries &&
  Equal.equals(self.externalAddress, that.externalAddress)

/**
 * Starts a router, which stops when the scope closes. Fails with `InvalidRequest` where an address, a port or a protocol is
 * none, and for a quirk that cannot show on loopback; with `RouterSocketError` where a port is taken, also that of the second
 * gateway which the quirk `DeadSecondGateway` brings.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("NodeSimulatedRouter.make")(function* (
  options: Options = {}
): Effect.fn.Return<Handle, NatError.NatError | RouterSocketError, Scope.Scope | Udp.Udp> {
  const wanted = yield* NodeRouterPorts.resolve(options.ports)
  const protocols = yield* OptionChecks.checkProtocols(options.protocols ?? ["upnp", "natpmp", "pcp"])
  const fallback = (yield* isUsable(outside)) ? outside : inside
  const handle = yield* makeHandle(options, fallback)
  const { model } = handle
  const getOutside = makeOutside(model, fallback)
  const forwarding = yield* makeForwarding(model, getOutside)
  const turn = yield* Semaphore.make(1)
  const udp = yield* Udp.Udp
  const scope = yield* Effect.scope
  /** What the sockets have followed. */
  let seen = stateOf(model, yield* Clock.currentTimeMillis)
  const follow: Effect.Effect<void> = Effect.gen(function* () {
    const state = stateOf(model, yield* Clock.currentTimeMillis)
    const isRestarted = state.bootId !== seen.bootId
    const isElsewhere = !Equal.equals(state.externalAddress, seen.externalAddress)
    if (isRestarted) {
      yield* forwarding.closeAll
      yield* upnp.restarted
    }
    yield* forwarding.follow(state.entries)
    seen = state
    if (isElsewhere && !isRestarted) yield* upnp.isElsewhere
    if (isRestarted || isElsewhere) yield* gatewayPort.announce(isRestarted ? "restart" : "newAddress")
  }).pipe(
    Effect.catchCause((cause) => Effect.logWarning("the sockets of the simulated router do not follow it", cause)),
    turn.withPermit,
    Effect.uninterruptible,
    Effect.provideService(Udp.Udp, udp)
  )
  // In a fiber of its own: the sockets must not be left half way, and a request that finds out about a restart may be
  // one of those that end with it.
  const followNow = Effect.flatMap(Effect.forkIn(follow, scope), Fiber.join)
  // Most requests change nothing.
  const settle = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    isSameState(stateOf(model, now), seen) ? Effect.void : followNow
  )
  const tellChanges = yield* NodeEvents.make(model)
  const settleAndTell = Effect.andThen(settle, tellChanges)

  const announcements = yield* announcementsPort(model.address, wanted.announcements)
  const upnp = protocols.includes("upnp")
    ? yield* serveUpnp(model, wanted, { settle, tellChanges })
    : yield* refuseUpnp(model, wanted)
  const gatewayPort = yield* serveGatewayPort(
    model,
    protocols,
    { natpmp: wanted.natpmp, announcements },
    settleAndTell,
    { thirdParty: options.thirdParty }
  )
  const ports: Handle["ports"] = {
    ssdp: upnp.ssdpPort,
    get http() {
      return upnp.place().httpPort
    },
    natpmp: gatewayPort.port,
    announcements
  }
  if (model.has("DeadSecondGateway")) yield* openDeadGateway(ports)
  yield* gatewayPort.announce("start")
  yield* followChanges(model, Effect.andThen(followNow, tellChanges))

  return {
    ...handle,
    reboot: (options) => Effect.andThen(handle.reboot(options), settleAndTell),
    changeExternalAddress: (address) => Effect.andThen(handle.changeExternalAddress(address), settleAndTell),
    ports,
    location: Effect.sync(() => UpnpResponder.locationOf(model, upnp.place())),
    hearsMulticast: upnp.hearsMulticast,
    outside: Effect.provideService(getOutside, Udp.Udp, udp),
    openPorts: Effect.andThen(settle, Effect.sync(forwarding.open))
  }
})

/**
 * A router.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<NodeSimulatedRouter, NatError.NatError | RouterSocketError> =>
  Layer.effect(NodeSimulatedRouter, make(options)).pipe(Layer.provide(NodeUdp.layer))

// -----------------------------------------------------------------------------
// The host behind the router
// -----------------------------------------------------------------------------

const ipv4Of = (address: NetAddress.IpAddress): NetAddress.Ipv4Address | undefined =>
  NetAddress.isIpv4Address(address) ? address : undefined

const isGroup = (address: NetAddress.IpAddress): boolean => Equal.equals(address, Ssdp.group)

/** What is meant for a protocol's own port goes to the port that the router has in its place. */
const translate = ({ model, ports }: Handle, to: NetAddress.InetAddress): NetAddress.InetAddress => {
  const { address, port } = to
  const isNear = NetAddress.isLoopback(address) || Equal.equals(address, model.address)
  if (port === Ssdp.port && (isNear || isGroup(address))) return NetAddress.inetAddressUnsafe(address, ports.ssdp)
  return port === NatPmpCodec.gatewayPort && isNear ? NetAddress.inetAddressUnsafe(address, ports.natpmp) : to
}

const translateBack = ({ ports }: Handle, from: NetAddress.InetAddress): NetAddress.InetAddress => {
  if (from.port === ports.ssdp) return NetAddress.inetAddressUnsafe(from.address, Ssdp.port)
  return from.port === ports.natpmp ? NetAddress.inetAddressUnsafe(from.address, NatPmpCodec.gatewayPort) : from
}

/**
 * Whoever listens on a port of announcements gets that of this router, which other hosts of its may share. The router
 * itself has the SSDP port at its address, so a host listens to it at the group.
 */
const translateBind = ({ ports }: Handle, options: Udp.OpenOptions): Udp.OpenOptions => {
  const { address, port } = options.bind ?? {}
  if (port === PcpCodec.clientPort) {
    return { ...options, bind: { ...options.bind, port: ports.announcements }, reuseAddress: true }
  }
  const isEverywhere = address === undefined || NetAddress.isUnspecified(address) || isGroup(address)
  return port === Ssdp.port && isEverywhere
    ? { ...options, bind: { address: Ssdp.group, port: ports.ssdp }, reuseAddress: true }
    : options
}

const fromReal = (router: Handle, socket: Udp.UdpSocket): Udp.UdpSocket => ({
  ...socket,
  // The host has one interface, whatever this machine has.
  joinMulticast: (group, onInterface) => socket.joinMulticast(group, onInterface ?? ipv4Of(router.model.address)),
  receive: Effect.map(
    socket.receive,
    Arr.map(({ address, payload }) => ({ payload, address: translateBack(router, address) }))
  ),
  send: (payload, to) => socket.send(payload, to && translate(router, to))
})

const layerUdp = Layer.effect(
  Udp.Udp,
  Effect.gen(function* () {
    const router = yield* NodeSimulatedRouter
    const udp = yield* Udp.Udp
    return {
      open: ({ connect, ...options }) =>
        Effect.map(
          udp.open({
            ...translateBind(router, options),
            ...(connect === undefined ? {} : { connect: translate(router, connect) })
          }),
          (socket) => fromReal(router, socket)
        )
    }
  })
).pipe(Layer.provide(NodeUdp.layer))

/** Loopback, as a network that a search goes out to. */
const layerInterfaces = Layer.effect(
  NetworkInterfaces.NetworkInterfaces,
  Effect.map(NodeSimulatedRouter, ({ hearsMulticast }) => ({
    list: Effect.succeed([
      { name: "sim0", isLoopback: !hearsMulticast, addresses: [IpInterface.fromStringUnsafe("127.0.0.1/8")] }
    ])
  }))
)

const gatewaysOf = (model: RouterModel.RouterModel): ReadonlyArray<NetAddress.IpAddress> => {
  if (model.has("FailoverPair")) return [secondGateway]
  return model.has("DeadSecondGateway") ? [model.address, secondGateway] : [model.address]
}

const layerRoute = Layer.effect(
  DefaultRoute.DefaultRoute,
  Effect.map(NodeSimulatedRouter, ({ model }) => ({
    routes: Effect.succeed(gatewaysOf(model).map((gateway, index) => ({ gateway, interface: "sim0", metric: index })))
  }))
)

/**
 * A host behind the router: real sockets on loopback, and the router for a default gateway.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerHost: Layer.Layer<NodeHost.Host, never, NodeSimulatedRouter> = Layer.mergeAll(
  layerUdp,
  NodeHttp.layer,
  NodeHttpListener.layer,
  layerInterfaces,
  layerRoute
)
