/**
 * The listener for gateways: who is there now, who comes, who goes.
 *
 * It searches as `SsdpSearch` does, and hears what devices announce by themselves: that they are there, that they
 * change, that they go. What it knows it keeps as long as the gateway said, and asks again before that runs out.
 * Descriptions are fetched as soon as a place is known, once for each boot id, and a slow one delays no other.
 *
 * Nothing is believed further than it can be checked: answers and announcements count only from the default gateway or
 * from an attached network, they speak only of their own sender, and a description is only ever fetched from there. At
 * most 16 places are remembered, four of them of one address, and at most six descriptions a minute are fetched from
 * one address.
 *
 * **Example** (Tell what happens to gateways)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import * as NodeHost from "@effect-nat/core/NodeHost"
 * import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
 * import * as SsdpListener from "@effect-nat/upnp/SsdpListener"
 * import * as Stream from "effect/Stream"
 *
 * const program = Effect.gen(function* () {
 *   const listener = yield* SsdpListener.SsdpListener
 *   yield* Stream.runForEach(listener.changes, ({ _tag, gateway }) => Effect.log(_tag, gateway.gateway.name))
 * }).pipe(Effect.provide(SsdpListener.layer.pipe(Layer.provide(NodeHost.layer))))
 *
 * NodeRuntime.runMain(program)
 * ```
 *
 * @since 0.1.0
 */
import * as Automation from "@effect-nat/core/Automation"
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import type * as Http from "@effect-nat/core/Http"
import type * as NatError from "@effect-nat/core/NatError"
import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import type * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as Udp from "@effect-nat/core/Udp"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberMap from "effect/FiberMap"
import * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Stream from "effect/Stream"
import * as HttpUrl from "./HttpUrl.ts"
import * as NoGateway from "./internal/noGateway.ts"
import * as Cache from "./internal/ssdpCache.ts"
import * as Surroundings from "./internal/ssdpSurroundings.ts"
import * as Ssdp from "./Ssdp.ts"
import * as SsdpSearch from "./SsdpSearch.ts"
import * as UpnpGateway from "./UpnpGateway.ts"

/**
 * An announcement that may be believed as far as it speaks of its own sender.
 *
 * @category models
 * @since 0.1.0
 */
export interface Announcement {
  /** The address that it came from. */
  readonly from: NetAddress.Ipv4Address
  readonly notify: Ssdp.Notify
  /** Where the description is, on the address that it came from; `undefined` in a `"byebye"`. */
  readonly location: HttpUrl.HttpUrl | undefined
  readonly isDefaultGateway: boolean
}

/**
 * Reads one datagram as an announcement that may be believed; fails with why it may not.
 *
 * The sender must be a default gateway or lie in an attached network. The location must be an `http` URL; it is pinned
 * to the sender, whatever host it names. What a `"byebye"` gives as its location does not matter.
 *
 * @category decoding
 * @since 0.1.0
 */
export const trust = (
  datagram: DatagramSocket.Datagram,
  interfaces: ReadonlyArray<NetworkInterfaces.NetworkInterface>,
  gateways: ReadonlyArray<NetAddress.IpAddress>
): Result.Result<Announcement, string> => {
  const sender = Surroundings.sender(datagram.address.address, interfaces, gateways)
  if (Result.isFailure(sender)) return Result.fail(sender.failure)
  const message = Ssdp.decode(datagram.payload)
  if (Result.isFailure(message)) return Result.fail(message.failure.detail)
  const notify = message.success
  if (notify._tag !== "Notify") return Result.fail("not an announcement")
  const said = { ...sender.success, notify }
  if (notify.kind === "byebye" || notify.location === undefined) return Result.succeed({ ...said, location: undefined })
  return Result.map(HttpUrl.fromString(notify.location, said.from), (location) => ({ ...said, location }))
}

/** So often this host's own networks are looked at: it may have moved. */
const surroundingsInterval = Duration.minutes(1)

const maximumInterfaces = 16

/** Loopback belongs to it only where the gateway is there as well. */
const listenedOn = ({ gateways, interfaces }: Surroundings.Surroundings) =>
  Surroundings.ownAddresses(interfaces)
    .filter((own) => {
      const network = IpNetwork.fromInterface(own)
      return !NetAddress.isLoopback(own.address) || gateways.some((gateway) => IpNetwork.contains(network, gateway))
    })
    .slice(0, maximumInterfaces)

/**
 * The shared port, for the group alone where the system can do that: a socket for every address would take searches
 * away from another program of this host that answers them.
 */
const openShared = Effect.gen(function* () {
  const udp = yield* Udp.Udp
  const open = (bind: Udp.OpenOptions["bind"]) => udp.open({ bind, reuseAddress: true })
  return yield* Effect.catch(open({ address: Ssdp.group, port: Ssdp.port }), () => open({ port: Ssdp.port }))
})

interface Listening {
  readonly socket: Udp.UdpSocket
  surroundings: Surroundings.Surroundings
  /** By own address. */
  readonly joined: Map<string, Scope.Closeable>
}

const join = Effect.fnUntraced(function* (
  { joined, socket }: Listening,
  own: NetAddress.Ipv4Address,
  scope: Scope.Scope
) {
  const membership = yield* Scope.fork(scope)
  const outcome = yield* Effect.result(Scope.provide(socket.joinMulticast(Ssdp.group, own), membership))
  if (Result.isSuccess(outcome)) return void joined.set(NetAddress.formatIp(own), membership)
  yield* Scope.close(membership, Exit.void)
  // Two addresses of one interface need the group only once.
  yield* Effect.logDebug(`no announcements on ${NetAddress.formatIp(own)}: ${Udp.describeError(outcome.failure)}`)
})

/** Joins where this host has come to, leaves where it no longer is. */
const joinAll = Effect.fnUntraced(function* (listening: Listening, scope: Scope.Scope) {
  const wanted = new Map(
    listenedOn(listening.surroundings).map((own) => [NetAddress.formatIp(own.address), own.address])
  )
  for (const [own, membership] of listening.joined) {
    if (wanted.has(own)) continue
    listening.joined.delete(own)
    yield* Scope.close(membership, Exit.void)
  }
  for (const [text, own] of wanted) if (!listening.joined.has(text)) yield* join(listening, own, scope)
})

/** An interface may come up just after its address could be used: a minute is long for that. */
const follow = Effect.fnUntraced(function* (listening: Listening, scope: Scope.Scope) {
  const { listen } = yield* NetworkWatch.NetworkWatch
  const hasMoved = yield* listen
  while (true) {
    yield* Effect.raceFirst(Effect.sleep(surroundingsInterval), hasMoved)
    listening.surroundings = yield* Surroundings.read
    yield* joinAll(listening, scope)
  }
})

/** Another program may give the port back, and a network that went away takes a socket with it. */
const reopening = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")])

const heard = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const listening: Listening = {
    socket: yield* openShared,
    surroundings: yield* Surroundings.read,
    joined: new Map()
  }
  yield* joinAll(listening, scope)
  yield* Effect.forkScoped(follow(listening, scope))
  return Stream.fromEffectRepeat(listening.socket.receive).pipe(
    Stream.flattenIterable,
    Stream.map((datagram) => {
      const { gateways, interfaces } = listening.surroundings
      return trust(datagram, interfaces, gateways)
    }),
    Stream.filterMap((announcement) => announcement)
  )
})

/**
 * Everything that devices announce from now on and that may be believed, as it comes, one by one: a device repeats
 * each of its announcements, and makes several at a time.
 *
 * A socket is open while the stream runs. UDP port 1900 is shared with other programs; where it cannot be had, or is
 * lost, that is logged at debug level and it is tried again, after a second at first, then ever later, every minute in
 * the end. The stream does not end by itself. It follows this host to other networks as soon as
 * `NetworkWatch.NetworkWatch` tells of them, and within a minute without it. What nobody takes in time is dropped.
 *
 * @category constructors
 * @since 0.1.0
 */
export const announcements: Stream.Stream<
  Announcement,
  never,
  Udp.Udp | NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute
> = Stream.unwrap(heard).pipe(
  Stream.tapError((error) =>
    Effect.logDebug(`no announcements: UDP port ${Ssdp.port} cannot be had: ${Udp.describeError(error)}`)
  ),
  Stream.retry(reopening),
  // It is tried again for ever.
  Stream.catch(() => Stream.never)
)

/**
 * The seams to the network that the listener needs.
 *
 * @category models
 * @since 0.1.0
 */
export type Network = Udp.Udp | Http.Http | NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute

/**
 * A gateway as the listener knows it.
 *
 * @category models
 * @since 0.1.0
 */
export type KnownGateway = Cache.KnownGateway

/**
 * A gateway is there.
 *
 * @category models
 * @since 0.1.0
 */
export type Found = Cache.Found

/**
 * A gateway is there still, but has restarted, moved, or changed its description.
 *
 * @category models
 * @since 0.1.0
 */
export type Updated = Cache.Updated

/**
 * A gateway is no longer there, and why that is believed: `"ByeBye"`, it said so; `"Expired"`, it said nothing for
 * longer than it had promised and did not answer when it was asked; `"NotFoundAgain"`, it did not answer after
 * `restart` or after `stop` and `start`; `"MapsNothing"`, it is described without a service that maps ports;
 * `"OutOfReach"`, this host has left its network.
 *
 * @category models
 * @since 0.1.0
 */
export type Gone = Cache.Gone

/**
 * What happens to a gateway.
 *
 * @category models
 * @since 0.1.0
 */
export type Change = Cache.Change

/**
 * Listens for gateways.
 *
 * @category services
 * @since 0.1.0
 */
export class SsdpListener extends Context.Service<
  SsdpListener,
  {
    /**
     * Begins to search and to listen. Does nothing where it has begun, or where automation is not allowed. What cannot be
     * done, for example because another program does not share its port, is logged at debug level.
     */
    readonly start: Effect.Effect<void>
    /**
     * Forgets everything and searches anew; starts where nothing was started. What is found again as it was makes no
     * change; what is not is `Gone` 7 seconds later.
     */
    readonly restart: Effect.Effect<void>
    /** Closes all sockets and forgets everything. Nothing is `Gone` by that. Does nothing where nothing was started. */
    readonly stop: Effect.Effect<void>
    /** The gateways that are known now, the default gateway first; none while it is stopped. */
    readonly gateways: Effect.Effect<ReadonlyArray<KnownGateway>>
    /**
     * What happens from now on, after a `Found` for each gateway that is there already; it can be run at any time, also
     * before `start`, and ends when the listener's scope closes. Whoever falls 128 changes behind misses the oldest.
     */
    readonly changes: Stream.Stream<Change>
    /**
     * A gateway, the default gateway if there is a choice. Starts the listener; where none is known, searches and waits
     * for the first one: 3 seconds, and for a description on its way 4 more. Fails with `NoGateway`, `Unreachable`
     * where no socket can be opened, or `AutomationOff`.
     */
    readonly anyOne: Effect.Effect<KnownGateway, NatError.NatError>
  }
>()("@effect-nat/upnp/SsdpListener") {}

/** From `start` to `stop`. */
interface Session {
  readonly scope: Scope.Closeable
  readonly watches: FiberMap.FiberMap<string>
  search: Deferred.Deferred<void> | undefined
  failure: NatError.NatError | undefined
}

const changesCapacity = 128

/** What a description takes at the most. */
const lastDescription = UpnpGateway.descriptionTimeout

/** So long before an announcement runs out the gateway itself is asked, then everybody. */
const askBefore = 10_000
const searchBefore = 5_000

/** The longest pause, in minutes, between searches while no gateway is known. */
const longestQuiet = 16

const fromAnswer = ({ from, isDefaultGateway, location, message }: SsdpSearch.Answer): Cache.Sighting => ({
  from,
  location,
  isDefaultGateway,
  target: message.searchTarget,
  usn: message.usn,
  maxAge: message.maxAge,
  bootId: message.bootId,
  configId: message.configId,
  searchPort: message.searchPort,
  isAnswer: true
})

const toAnswer = (sighting: Cache.Sighting): SsdpSearch.Answer => ({
  from: sighting.from,
  location: sighting.location,
  isDefaultGateway: sighting.isDefaultGateway,
  message: new Ssdp.SearchAnswer({
    searchTarget: sighting.target,
    usn: sighting.usn,
    location: HttpUrl.format(sighting.location),
    server: "",
    maxAge: sighting.maxAge,
    bootId: sighting.bootId,
    configId: sighting.configId
  })
})

/**
 * A listener that has not been started. What it opens it closes with the scope, whatever it is doing.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<SsdpListener["Service"], never, Network | Scope.Scope> = Effect.gen(function* () {
  const context = yield* Effect.context<Network>()
  const scope = yield* Effect.scope
  const control = yield* Semaphore.make(1)
  const fetches = yield* Semaphore.make(SsdpSearch.maximumAnswers)
  const cache = new Cache.SsdpCache()
  const subscribers = new Set<Queue.Queue<Change, Cause.Done>>()
  const waiting = new Set<(gateway: KnownGateway) => void>()
  let session: Session | undefined
  let isClosed = false

  const report = (changes: ReadonlyArray<Change>) => {
    for (const change of changes) for (const queue of subscribers) Queue.offerUnsafe(queue, change)
    const [first] = cache.gateways
    if (first !== undefined) for (const resume of waiting) resume(first)
  }

  const fetch = (place: Cache.Place, sighting: Cache.Sighting) =>
    UpnpGateway.describe(toAnswer(sighting)).pipe(
      Effect.tapError((error) => Effect.logDebug(`an answer leads to no gateway: ${error.message}`)),
      Effect.result,
      Effect.flatMap((outcome) =>
        Effect.map(Clock.currentTimeMillis, (now) => report(cache.settle(place, sighting, outcome, now)))
      ),
      fetches.withPermit
    )

  const see = Effect.fnUntraced(function* (current: Session, sighting: Cache.Sighting) {
    const { changes, fetch: place } = cache.see(sighting, yield* Clock.currentTimeMillis)
    report(changes)
    if (place === undefined) return
    yield* Effect.forkIn(fetch(place, sighting), current.scope)
    yield* FiberMap.run(current.watches, place.key, watch(current, place.key), { onlyIfMissing: true })
    // Last, as this may be what one of them does: it ends here where its own place had to make room.
    for (const [key] of current.watches) if (!cache.places.has(key)) yield* FiberMap.remove(current.watches, key)
  })

  const hear = Effect.fnUntraced(function* (current: Session, announcement: Announcement) {
    const { from, isDefaultGateway, location, notify } = announcement
    const { bootId, configId, kind, maxAge, nextBootId, notificationType: target, searchPort, usn } = notify
    if (kind === "byebye") return report(cache.byebye(from, target, usn, bootId))
    if (kind === "update") cache.update(from, usn, nextBootId)
    if (location === undefined) return
    const ids = { bootId: kind === "update" ? (nextBootId ?? bootId) : bootId, configId, searchPort }
    yield* see(current, { from, location, isDefaultGateway, target, usn, maxAge, ...ids, isAnswer: false })
  })

  const seeAll = (current: Session, answers: Stream.Stream<SsdpSearch.Answer, NatError.NatError, Network>) =>
    Stream.runForEach(answers, (answer) => see(current, fromAnswer(answer))).pipe(
      Effect.result,
      Effect.tap((outcome) => {
        current.failure = Result.isFailure(outcome) ? outcome.failure : undefined
        return Result.isFailure(outcome) ? Effect.logDebug(outcome.failure.message) : Effect.void
      })
    )

  /** One search at a time: who wants one while there is one waits for its end. */
  const search = (current: Session): Effect.Effect<void, never, Network> =>
    Effect.suspend(() => {
      if (current.search !== undefined) return Deferred.await(current.search)
      const done = Deferred.makeUnsafe<void>()
      current.search = done
      const over = Effect.sync(() => {
        current.search = undefined
        Deferred.doneUnsafe(done, Effect.void)
      })
      return seeAll(current, SsdpSearch.search()).pipe(
        Effect.ensuring(over),
        Effect.forkIn(current.scope),
        Effect.andThen(Deferred.await(done))
      )
    })

  const sleepUntil = (time: number) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.sleep(Math.max(0, time - now)))

  /** Whether a place is there still, under what it said when it was looked at last. */
  const isDue = (key: string, expiresAt: number) => cache.places.get(key)?.expiresAt === expiresAt

  /** A gateway that has said nothing for long is asked before it is given up: many never announce themselves. */
  const insist = Effect.fnUntraced(function* (current: Session, { expiresAt, key, sighting }: Cache.Place) {
    yield* seeAll(current, SsdpSearch.searchHost(sighting.from, { port: sighting.searchPort }))
    yield* sleepUntil(expiresAt - searchBefore)
    if (isDue(key, expiresAt)) yield* search(current)
  })

  const watch = Effect.fnUntraced(function* (current: Session, key: string): Effect.fn.Return<void, never, Network> {
    for (let place = cache.places.get(key); place !== undefined; place = cache.places.get(key)) {
      const { expiresAt } = place
      yield* sleepUntil(expiresAt - askBefore)
      if (isDue(key, expiresAt) && place.known !== undefined) yield* insist(current, { ...place, expiresAt })
      if (!isDue(key, expiresAt)) continue
      yield* sleepUntil(expiresAt)
      if (isDue(key, expiresAt)) report(cache.drop(place, "Expired"))
    }
  })

  const leave = ({ gateways, interfaces }: Surroundings.Surroundings) => {
    for (const place of cache.places.values()) {
      const sender = Surroundings.sender(place.sighting.from, interfaces, gateways)
      if (Result.isFailure(sender)) report(cache.drop(place, "OutOfReach"))
    }
  }

  /** Searches where this host has come to another network, and, ever less often, while it knows no gateway. */
  const patrol = Effect.fnUntraced(function* (current: Session) {
    let known = Surroundings.format(yield* Surroundings.read)
    let quiet = 1
    let silent = 0
    while (true) {
      yield* Effect.sleep(surroundingsInterval)
      const around = yield* Surroundings.read
      const isElsewhere = Surroundings.format(around) !== known
      known = Surroundings.format(around)
      if (isElsewhere) leave(around)
      if (isElsewhere || cache.gateways.length > 0) quiet = 1
      silent = cache.gateways.length > 0 ? 0 : silent + 1
      if (!isElsewhere && silent < quiet) continue
      silent = 0
      quiet = Math.min(quiet * 2, longestQuiet)
      yield* search(current)
    }
  })

  const first = (current: Session) =>
    search(current).pipe(
      Effect.andThen(Effect.sleep(lastDescription)),
      Effect.andThen(Effect.sync(() => report(cache.unpark())))
    )

  const begin = Effect.gen(function* () {
    if (session !== undefined || isClosed || !(yield* Automation.Allowed)) return
    const own = yield* Scope.fork(scope)
    const watches = yield* Scope.provide(FiberMap.make<string>(), own)
    const current: Session = { scope: own, watches, search: undefined, failure: undefined }
    session = current
    yield* Effect.forkIn(
      Stream.runForEach(announcements, (announcement) => hear(current, announcement)),
      own
    )
    yield* Effect.forkIn(first(current), own)
    yield* Effect.forkIn(patrol(current), own)
  })

  const end = Effect.suspend(() => {
    const current = session
    session = undefined
    cache.park()
    return current === undefined ? Effect.void : Scope.close(current.scope, Exit.void)
  })

  /** One at a time, and none by halves. */
  const controlled = (change: Effect.Effect<void, never, Network>) =>
    Effect.uninterruptible(control.withPermit(Effect.provideContext(change, context)))

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      cache.park()
      cache.unpark()
      for (const queue of subscribers) Queue.endUnsafe(queue)
    })
  )

  const changes = Stream.callback<Change>(
    (queue) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          for (const gateway of cache.reported) Queue.offerUnsafe(queue, { _tag: "Found", gateway })
          if (isClosed) return void Queue.endUnsafe(queue)
          subscribers.add(queue)
        }),
        () => Effect.sync(() => subscribers.delete(queue))
      ),
    { bufferSize: changesCapacity, strategy: "sliding" }
  )

  const next = Effect.callback<KnownGateway>((resume) => {
    const found = (gateway: KnownGateway) => {
      waiting.delete(found)
      resume(Effect.succeed(gateway))
    }
    const [gateway] = cache.gateways
    if (gateway !== undefined) return found(gateway)
    waiting.add(found)
    return Effect.sync(() => waiting.delete(found))
  })

  const start = controlled(begin)

  const anyOne = Effect.gen(function* () {
    yield* Automation.check
    yield* start
    const current = session
    if (current === undefined) return yield* NoGateway.silent
    const soon = yield* Effect.raceFirst(Effect.asSome(next), Effect.as(search(current), Option.none()))
    if (Option.isSome(soon)) return soon.value
    const late = cache.isFetching ? yield* Effect.timeoutOption(next, lastDescription) : Option.none()
    if (Option.isSome(late)) return late.value
    return yield* current.failure ?? NoGateway.silent
  }).pipe(Effect.provideContext(context), Effect.withSpan("SsdpListener.anyOne"))

  return SsdpListener.of({
    start,
    restart: controlled(Effect.andThen(end, begin)),
    stop: controlled(end),
    gateways: Effect.sync(() => cache.gateways),
    changes,
    anyOne
  })
})

/**
 * A listener that is started.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SsdpListener, never, Network> = Layer.effect(
  SsdpListener,
  Effect.tap(make, (listener) => listener.start)
)
