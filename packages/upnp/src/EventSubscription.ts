/**
 * The events of a service of a router: what it says by itself when its address or its table changes, instead of being
 * asked again and again (UPnP Device Architecture 1.1 §4).
 *
 * Events come in by HTTP, from the router to this host. They count only from the router's own address, at a path that
 * nobody else knows, and with the identifier that the router gave to the subscription. A subscription is renewed at
 * half of its time and made afresh where that fails or an event is missing.
 *
 * **Gotchas**
 *
 * Firewalls of hosts often keep incoming connections out, and some routers grant subscriptions and never send. Ask
 * `isWorking`, and poll where it is `false`.
 *
 * **Example** (Hear of every change of the external address)
 *
 * ```ts
 * import * as EventSubscription from "@effect-nat/upnp/EventSubscription"
 * import * as Soap from "@effect-nat/upnp/Soap"
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 *
 * export const externalAddresses = Effect.fnUntraced(function* (options: EventSubscription.Options) {
 *   const subscription = yield* EventSubscription.subscribe(options)
 *   const addresses = Stream.map(subscription.events, (values) => Soap.argument(values, "ExternalIPAddress"))
 *   return Stream.changes(addresses)
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as Http from "@effect-nat/core/Http"
import * as HttpListener from "@effect-nat/core/HttpListener"
import * as NatError from "@effect-nat/core/NatError"
import * as Udp from "@effect-nat/core/Udp"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as PubSub from "effect/PubSub"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as DeviceDescription from "./DeviceDescription.ts"
import * as Gena from "./Gena.ts"
import type * as HttpUrl from "./HttpUrl.ts"
import * as HttpFailure from "./internal/httpFailure.ts"
import type * as Soap from "./Soap.ts"

/**
 * What is subscribed to.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly service: DeviceDescription.Service
  /** The router: events of others do not count. */
  readonly gateway: NetAddress.IpAddress
}

/**
 * A subscription, kept up until its scope closes.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventSubscription {
  /**
   * The values of all variables as far as they are known, again after each event. The latest comes at once where there
   * is one. Whoever reads slowly misses steps, never the latest values. Ends with the subscription's scope.
   */
  readonly events: Stream.Stream<Soap.Arguments>
  /**
   * Whether events arrive now: a firewall of this host may keep them out, and a router may grant and never send. Waits
   * until it is known, at most `initialEventTimeout` after the router has granted the subscription. `false` while a
   * subscription that was lost has not been replaced. Whoever polls asks each time, and polls now and then all the
   * same: a firewall that is switched on later keeps the events out while the router goes on granting.
   */
  readonly isWorking: Effect.Effect<boolean>
}

/**
 * How long a subscription or its renewal may take, connection included.
 *
 * @category defaults
 * @since 0.1.0
 */
export const subscribeTimeout: Duration.Duration = Duration.seconds(4)

/**
 * How long the end of a subscription may take. Where the router does not answer, the subscription runs out by itself.
 *
 * @category defaults
 * @since 0.1.0
 */
export const unsubscribeTimeout: Duration.Duration = Duration.millis(1500)

/**
 * How long the first event, which every router sends at once (§4.1.1), is waited for before events do not work.
 *
 * @category defaults
 * @since 0.1.0
 */
export const initialEventTimeout: Duration.Duration = Duration.seconds(5)

/** What is asked for, in seconds; what is granted counts. */
const wantedSeconds = 1800

/** A subscription without end is renewed too: the router may have forgotten it when it restarted. */
const longestInterval = Duration.minutes(30)
const shortestInterval = Duration.seconds(5)

/** Between two subscriptions: doubled with each that does not hold. */
const firstPause = Duration.seconds(1)
const longestPause = Duration.minutes(5)

/** Events that overtake the answer to the subscription. */
const maximumEarly = 4

/** A subscription that lasted so long was a good one: the pauses begin anew. */
const goodAfter = Duration.minutes(1)

const operation = "receive events over UPnP"

const unsupported = (detail: string) => NatError.fromReason(new NatError.Unsupported({ operation, detail }))

// -----------------------------------------------------------------------------
// What the router sends
// -----------------------------------------------------------------------------

/** All that is known of the variables. */
class Values {
  private readonly known = new Map<string, string>()
  private isNew = false

  /** The first event of a subscription has them all. */
  lay({ properties, sequence }: Gena.Event): void {
    this.isNew = true
    if (sequence === 0) this.known.clear()
    for (const [name, value] of properties) {
      // The names are the router's: they must not pile up.
      if (this.known.has(name) || this.known.size < Gena.maximumProperties) this.known.set(name, value)
    }
  }

  /** All of them, once after each event. */
  take(): Soap.Arguments | undefined {
    if (!this.isNew) return undefined
    this.isNew = false
    return [...this.known]
  }
}

const sameText = (self: string, that: string): boolean => {
  let difference = self.length ^ that.length
  // The time that this takes says nothing about where they differ.
  for (let index = 0; index < self.length; index++) difference |= self.charCodeAt(index) ^ that.charCodeAt(index)
  return difference === 0
}

const toHex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")

const unguessablePath = Effect.sync(() => `/${toHex(crypto.getRandomValues(new Uint8Array(16)))}`)

interface Inbox {
  /** The status for a request to this host. */
  readonly receive: (request: HttpListener.IncomingRequest) => number
  /** From now on events with this identifier count, and of those that came before the ones that have it. */
  readonly open: (sid: string) => void
}

interface InboxOptions {
  readonly path: string
  readonly onEvent: (event: Gena.Event) => void
}

const makeInbox = ({ onEvent, path }: InboxOptions): Inbox => {
  let sid: string | undefined
  let early: Array<Gena.Event> = []
  const take = (event: Gena.Event): number => {
    if (sid === undefined) {
      // The first event may overtake the answer that names the subscription (§4.1.1), and a router that does one thing
      // at a time answers only when this has been answered: it is kept, and judged afterwards.
      if (early.length >= maximumEarly) return 412
      early.push(event)
      return 200
    }
    if (event.sid !== sid) return 412
    onEvent(event)
    return 200
  }
  return {
    receive: (request) => {
      if (!sameText(request.path, path)) return 404
      if (request.method !== "NOTIFY") return 405
      return Result.match(Gena.decodeEvent(request.headers, request.body), {
        onSuccess: take,
        onFailure: ({ status }) => status
      })
    },
    open: (granted) => {
      sid = granted
      for (const event of early) take(event)
      early = []
    }
  }
}

/** Which events follow each other. */
class Sequence {
  private last: number | undefined

  /** What an event is, by its number: the next one, the same one again, one after a gap, or an old one. */
  take(sequence: number): "Next" | "Gap" | "Old" {
    const { last } = this
    const isNext = last === undefined ? sequence === 0 : sequence === last || sequence === Gena.nextSequence(last)
    if (!isNext && last !== undefined && sequence < last) return "Old"
    this.last = sequence
    return isNext ? "Next" : "Gap"
  }
}

// -----------------------------------------------------------------------------
// One subscription
// -----------------------------------------------------------------------------

/** A subscription as the router granted it. */
interface Session {
  readonly granted: Gena.Granted
  /** Where it was granted. */
  readonly url: HttpUrl.HttpUrl
  /** In milliseconds. */
  readonly grantedAt: number
  /** Done with the first event. */
  readonly heard: Deferred.Deferred<void>
  /** Done when an event was missed. */
  readonly missed: Deferred.Deferred<void>
  /** This host has another address now: events go to where it no longer is. */
  readonly hasMoved: Effect.Effect<boolean>
  /** The router does not know it any more, or does not answer. */
  isLost: boolean
  /** The router does not know it any more: there is nothing to end. */
  isForgotten: boolean
}

interface Subscriber {
  readonly url: HttpUrl.HttpUrl
  /** Where to subscribe when nobody listens there. */
  readonly otherUrl: HttpUrl.HttpUrl | undefined
  readonly gateway: NetAddress.IpAddress
  readonly values: Values
  readonly changes: PubSub.PubSub<Soap.Arguments>
}

const exchange = Effect.fnUntraced(function* (
  url: HttpUrl.HttpUrl,
  method: "SUBSCRIBE" | "UNSUBSCRIBE",
  headers: Gena.HeaderList,
  timeout: Duration.Duration
) {
  const what = `${method} at ${NetAddress.formatInet(url.address)}`
  const response = yield* Http.Http.use((http) =>
    http.request({ method, address: url.address, path: url.path, headers, maxBytes: Gena.maximumBytes })
  ).pipe(
    Effect.mapError((error) => HttpFailure.toNatError(error, what)),
    Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail(HttpFailure.timedOut(what, timeout)) })
  )
  if (response.status === 200) return response
  return yield* unsupported(`${what}: HTTP status ${response.status}`)
})

/** Some routers do not name the subscription again when they renew it. */
const askFor = Effect.fnUntraced(function* (url: HttpUrl.HttpUrl, request: Gena.Subscribe) {
  const { headers } = yield* exchange(url, "SUBSCRIBE", Gena.encodeSubscribe(request), subscribeTimeout)
  const known = request._tag === "Renewal" ? { sid: request.sid } : {}
  return yield* Effect.mapError(Effect.fromResult(Gena.decodeGranted({ ...headers, ...known })), ({ detail }) =>
    NatError.fromReason(new NatError.MalformedAnswer({ detail: `the answer to a subscription: ${detail}` }))
  )
})

/** Subscribes where somebody listens; where nobody does, the place that the description gives is what is spoken of. */
const askForNew = ({ otherUrl, url }: Subscriber, callbacks: ReadonlyArray<string>) => {
  const askAt = (one: HttpUrl.HttpUrl) =>
    Effect.map(askFor(one, { _tag: "New", callbacks, timeoutSeconds: wantedSeconds }), (granted) => ({
      granted,
      url: one
    }))
  const first = askAt(url)
  if (otherUrl === undefined) return first
  return Effect.catchReason(first, "NatError", "Unreachable", (_, error) =>
    Effect.catchReason(askAt(otherUrl), "NatError", "Unreachable", () => Effect.fail(error))
  )
}

const unsubscribe = Effect.fnUntraced(function* (session: Session) {
  if (session.isForgotten) return
  // In a fiber of its own: a finalizer cannot be interrupted, and what it waits for must be.
  const fiber = yield* Effect.forkDetach(
    Effect.ignore(
      Effect.tapError(
        exchange(session.url, "UNSUBSCRIBE", Gena.encodeUnsubscribe(session.granted.sid), unsubscribeTimeout),
        ({ message }) => Effect.logDebug(`a subscription runs out by itself: ${message}`)
      )
    )
  )
  yield* Fiber.await(fiber)
})

const ownAddressTowards = (gateway: NetAddress.IpAddress) =>
  Effect.mapError(Udp.localAddressTowards(gateway), (error) =>
    NatError.fromReason(new NatError.Unreachable({ detail: Udp.describeError(error) }))
  )

const listen = (options: HttpListener.ListenOptions) =>
  HttpListener.HttpListener.use((listener) =>
    Effect.mapError(listener.listen(options), ({ detail }) => unsupported(`no port to listen on: ${detail}`))
  )

const callbackUrl = ({ address, port }: NetAddress.InetAddress, path: string): string =>
  `http://${NetAddress.formatUrlHost(address)}:${port}${path}`

const isFrom = (gateway: NetAddress.IpAddress) => {
  const canonical = NetAddress.toCanonical(gateway)
  return (from: NetAddress.IpAddress) => Equal.equals(NetAddress.toCanonical(from), canonical)
}

/** Lays an event over what is known. */
const record = ({ values }: Subscriber, session: Pick<Session, "heard" | "missed">) => {
  const sequence = new Sequence()
  return (event: Gena.Event) => {
    Deferred.doneUnsafe(session.heard, Exit.void)
    const place = sequence.take(event.sequence)
    if (place !== "Next") Deferred.doneUnsafe(session.missed, Exit.void)
    if (place !== "Old") values.lay(event)
  }
}

const publish = ({ changes, values }: Subscriber) =>
  Effect.suspend(() => {
    const latest = values.take()
    return latest === undefined ? Effect.void : PubSub.publish(changes, latest)
  })

/** Subscribes; the end of the scope ends the subscription. */
const open = Effect.fnUntraced(function* (subscriber: Subscriber) {
  const { gateway } = subscriber
  const address = yield* ownAddressTowards(gateway)
  const udp = yield* Udp.Udp
  const hasMoved = ownAddressTowards(gateway).pipe(
    Effect.provideService(Udp.Udp, udp),
    Effect.match({ onFailure: () => false, onSuccess: (now) => !Equal.equals(now, address) })
  )
  const path = yield* unguessablePath
  const signals = { heard: Deferred.makeUnsafe<void>(), missed: Deferred.makeUnsafe<void>() }
  const inbox = makeInbox({ path, onEvent: record(subscriber, signals) })
  const answer = Effect.fnUntraced(function* (request: HttpListener.IncomingRequest) {
    const status = inbox.receive(request)
    yield* publish(subscriber)
    if (status !== 200) yield* Effect.logDebug(`a request to the subscriber was answered with ${status}`)
    return status
  })
  const listening = yield* listen({ address, maxBytes: Gena.maximumBytes, accepts: isFrom(gateway), answer })
  const callbacks = [callbackUrl(listening, path)]
  return yield* Effect.uninterruptibleMask(
    Effect.fnUntraced(function* (restore) {
      const granted = yield* restore(askForNew(subscriber, callbacks))
      const grantedAt = yield* Clock.currentTimeMillis
      const session: Session = {
        ...granted,
        ...signals,
        grantedAt,
        hasMoved,
        isLost: false,
        isForgotten: false
      }
      yield* Effect.acquireRelease(Effect.succeed(session), () => unsubscribe(session))
      inbox.open(session.granted.sid)
      yield* publish(subscriber)
      return session
    })
  )
})

const intervalOf = ({ timeoutSeconds }: Gena.Granted): Duration.Duration =>
  timeoutSeconds === undefined
    ? longestInterval
    : Duration.clamp(Duration.seconds(timeoutSeconds / 2), { minimum: shortestInterval, maximum: longestInterval })

/** Whether a router may still send to a subscription that it was asked to renew. */
const mayHold = ({ reason }: NatError.NatError): boolean =>
  reason._tag === "TimedOut" || reason._tag === "MalformedAnswer"

/** Renews until that fails; says why. */
const renewed = Effect.fnUntraced(function* (session: Session) {
  let granted = session.granted
  while (true) {
    yield* Effect.sleep(intervalOf(granted))
    if (yield* session.hasMoved) {
      session.isLost = true
      return "this host has another address"
    }
    const { sid } = session.granted
    const outcome = yield* Effect.result(askFor(session.url, { _tag: "Renewal", sid, timeoutSeconds: wantedSeconds }))
    if (Result.isFailure(outcome)) {
      session.isLost = true
      session.isForgotten = !mayHold(outcome.failure)
      return outcome.failure.message
    }
    granted = outcome.success
  }
})

// -----------------------------------------------------------------------------
// One after the other
// -----------------------------------------------------------------------------

/** A session with a scope of its own. */
interface Opened {
  readonly session: Session
  readonly scope: Scope.Closeable
}

const pauseAfter = (failures: number): Duration.Duration =>
  Duration.min(Duration.times(firstPause, 2 ** Math.min(failures, 10)), longestPause)

const isWorking = Effect.fnUntraced(function* (opened: Opened | undefined) {
  if (opened === undefined || opened.session.isLost || (yield* opened.session.hasMoved)) return false
  const { grantedAt, heard } = opened.session
  if (Deferred.isDoneUnsafe(heard)) return true
  const left = grantedAt + Duration.toMillis(initialEventTimeout) - (yield* Clock.currentTimeMillis)
  if (left <= 0) return false
  return yield* Effect.timeoutOrElse(Effect.as(Deferred.await(heard), true), {
    duration: left,
    orElse: () => Effect.succeed(false)
  })
})

/**
 * Subscribes, and unsubscribes when the scope closes. Fails with `Unsupported` where the service has no events, the
 * router refuses or no port can be listened on; with `Unreachable`, `TimedOut` or `MalformedAnswer` where it does not
 * answer as it should. What happens to the subscription later is no failure: see `isWorking`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const subscribe: (
  options: Options
) => Effect.Effect<
  EventSubscription,
  NatError.NatError,
  Http.Http | HttpListener.HttpListener | Udp.Udp | Scope.Scope
> = Effect.fn("EventSubscription.subscribe")(function* ({ gateway, service }: Options) {
  const url = service.eventSubUrl
  if (url === undefined) return yield* unsupported(`${service.serviceType} has no events`)
  const scope = yield* Effect.scope
  const closed = yield* Deferred.make<void>()
  yield* Effect.addFinalizer(() => Deferred.succeed(closed, undefined))
  // Only the latest values count.
  const changes = yield* PubSub.sliding<Soap.Arguments>({ capacity: 1, replay: 1 })
  const subscriber: Subscriber = { url, otherUrl: service.otherEventSubUrl, gateway, changes, values: new Values() }

  const start = Effect.fnUntraced(function* () {
    const sessionScope = yield* Scope.fork(scope)
    const session = yield* Scope.provide(open(subscriber), sessionScope).pipe(
      Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(sessionScope, exit) : Effect.void))
    )
    return { session, scope: sessionScope } satisfies Opened
  })

  let opened: Opened | undefined = yield* start()

  /** Waits until the subscription has to be made afresh; says why. */
  const broken = (session: Session) =>
    Effect.raceFirst(renewed(session), Effect.as(Deferred.await(session.missed), "an event is missing"))

  const end = Effect.suspend(() => {
    const ending = opened
    opened = undefined
    return ending === undefined ? Effect.void : Scope.close(ending.scope, Exit.void)
  })

  let failures = 0
  const pause = Effect.suspend(() => {
    const pause = Effect.sleep(pauseAfter(failures))
    failures += 1
    return pause
  })

  const renew = Effect.gen(function* () {
    yield* pause
    yield* end
    opened = yield* start()
  }).pipe(Effect.tapError(({ message }) => Effect.logDebug(`no new subscription to the router's events: ${message}`)))

  const keep = Effect.gen(function* () {
    if (opened === undefined) return yield* Effect.ignore(renew)
    const { session } = opened
    const why = yield* broken(session)
    yield* Effect.logDebug(`subscribing to the router's events afresh: ${why}`)
    const lasted = (yield* Clock.currentTimeMillis) - session.grantedAt
    if (lasted >= Duration.toMillis(goodAfter)) failures = 0
    yield* Effect.ignore(renew)
  })

  yield* Effect.forkScoped(Effect.forever(keep))

  return {
    events: Stream.interruptWhen(Stream.fromPubSub(changes), Deferred.await(closed)),
    isWorking: Effect.suspend(() => isWorking(opened))
  } satisfies EventSubscription
})
