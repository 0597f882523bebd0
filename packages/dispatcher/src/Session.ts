/**
 * The client's side of a session: joins it at whatever address of its contact point answers, hears what its members send
 * and sends to them, and comes back by itself when the connection breaks.
 *
 * It imports nothing of Node: `NodeConnector.layer` connects over TCP, `WebConnector.layer` by WebSocket, as in a browser.
 *
 * **Details**
 *
 * A broken connection is made again, for `reconnectTimeout`, at any of the addresses. What was missed comes from the
 * dispatcher's log, or, where the session was joined with `sync`, as a snapshot that another member made: without a gap
 * and without a duplicate. Where there is neither, the session fails with `Missed`. After a pause at random of up to 0.1
 * seconds the pauses between attempts grow from 0.2 to 5 seconds, more or less, until a connection has been live for 10.
 *
 * **Example** (Say hello to everyone in a session)
 *
 * ```ts
 * import type * as ContactPoint from "@effect-nat/core/ContactPoint"
 * import type * as Invitation from "@effect-nat/dispatcher/Invitation"
 * import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
 * import * as Session from "@effect-nat/dispatcher/Session"
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 *
 * export const greet = Effect.fnUntraced(
 *   function* (contactPoint: ContactPoint.ContactPoint, invitation: Invitation.Invitation) {
 *     const session = yield* Session.join(contactPoint, { invitation })
 *     yield* session.send(new TextEncoder().encode("hello"))
 *     yield* Stream.runForEach(session.messages, ({ data, sequence }) =>
 *       Effect.log(`${sequence}: ${new TextDecoder().decode(data)}`)
 *     )
 *   },
 *   Effect.scoped,
 *   Effect.provide(NodeConnector.layer)
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Connector from "./Connector.ts"
import * as Dial from "./internal/dial.ts"
import * as Follower from "./internal/follower.ts"
import * as Link from "./internal/link.ts"
import * as Reconnection from "./internal/reconnection.ts"
import * as Server from "./internal/server.ts"
import * as Times from "./internal/times.ts"
import type * as Invitation from "./Invitation.ts"
import * as SessionError from "./SessionError.ts"
import type * as SessionEvent from "./SessionEvent.ts"
import type * as Wire from "./Wire.ts"

/**
 * What a session has come to, as a member that has followed it makes it for one that joins late.
 *
 * @category models
 * @since 0.1.0
 */
export interface State {
  /** The number of the last message that it includes: that which the program has dealt with, not only heard. */
  readonly sequence: number
  /** Whatever the program can go on from. */
  readonly data: Uint8Array
}

/**
 * A joined session. It is left when the scope that it was joined in closes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Session {
  readonly invitation: Invitation.Invitation
  /** The address of the connection there is now, or was last. */
  readonly address: Effect.Effect<NetAddress.InetAddress>
  /**
   * The address of the connection as it is now, then again whenever it breaks (none, while it is made again) and is there
   * again, with nothing missing; who is slow to take it hears what is true then. Does not end by itself: what becomes of
   * the session in the end is told by `events`.
   */
  readonly connections: Stream.Stream<Option.Option<NetAddress.InetAddress>>
  /** The largest message that can be sent, in bytes. */
  readonly maxMessageBytes: number
  /**
   * Messages, snapshots, ticks and new beginnings in order. Fails when the session is over: `Closed`, `GivenUp` or `Missed`, after the
   * last event; ends when the session is left. Each event is given once: run either this or `messages`, once. A program
   * that does not run it is cut off as too slow in the end.
   */
  readonly events: Stream.Stream<SessionEvent.SessionEvent, SessionError.SessionError>
  /** The messages among `events`: of all members, this one included, in the order that is the same for all. */
  readonly messages: Stream.Stream<SessionEvent.Message, SessionError.SessionError>
  /**
   * Sends a message to all members, this one included; succeeds when it is handed to the connection, and waits while
   * there is none. Where the connection breaks just then the others may or may not get it, whether this fails, with
   * `Closed` without a reason, or not: what this member hears of itself has arrived. Fails with `MessageTooLarge`,
   * `NotGranted` and why the session is over.
   */
  readonly send: (message: Uint8Array) => Effect.Effect<void, SessionError.SessionError>
  /**
   * The router's time, in microseconds of the clock that stamps the messages. When it is there the router has taken what
   * was sent before, and `events` has what the router had told before. Fails as `send` does.
   */
  readonly time: Effect.Effect<number, SessionError.SessionError>
  /**
   * Makes snapshots for others until the scope closes. The effect is run for each; where the state is behind what the
   * other one needs, it is run again until it is not, for some seconds. Fails with `NotGranted`.
   */
  readonly serve: (state: Effect.Effect<State>) => Effect.Effect<void, SessionError.SessionError, Scope.Scope>
}

/**
 * How a session is joined.
 *
 * @category models
 * @since 0.1.0
 */
export interface JoinOptions {
  readonly invitation: Invitation.Invitation
  /**
   * Begin with a snapshot of what the session has come to, where it has a past, and get one where messages were missed:
   * then some member has to `serve`. Defaults to `false`: from now on, and never with a gap.
   */
  readonly sync?: boolean | undefined
  /** Hear the router's time so often while no messages come, in whole milliseconds. Defaults to never. */
  readonly tickInterval?: Duration.Input | undefined
  /** How long connecting and handshake may take at each address: more than zero. Defaults to 5 seconds. */
  readonly handshakeTimeout?: Duration.Input | undefined
  /** After what time without an answer the next address is tried as well (RFC 8305 §5). Defaults to 250 milliseconds. */
  readonly attemptDelay?: Duration.Input | undefined
  /**
   * How long a broken connection is tried to be made again; zero for not at all, infinity for ever. Connections that do
   * not last, for 10 seconds, share that time. Defaults to 1 minute.
   */
  readonly reconnectTimeout?: Duration.Input | undefined
  /** The largest snapshot that is taken, in bytes: a whole number below 4 GiB. Defaults to 64 MiB. */
  readonly maxSnapshotBytes?: number | undefined
  /**
   * Join over TLS, and only what shows the certificate of this fingerprint; `WebConnector` cannot compare it. Defaults to
   * that of the contact point, where there is one, and to no TLS.
   */
  readonly fingerprint?: ContactPoint.Fingerprint | undefined
}

/**
 * What is used where the options do not say.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaults = {
  ...Dial.defaults,
  reconnectTimeout: Duration.minutes(1),
  maxSnapshotBytes: 64 * 1_048_576
}

interface Resolved extends Dial.Options {
  readonly addresses: Arr.NonEmptyReadonlyArray<NetAddress.InetAddress>
  readonly invitation: Invitation.Invitation
  readonly sync: boolean
  /** In milliseconds; 0 for no ticks. */
  readonly tickInterval: number
  readonly reconnectTimeout: Duration.Duration
  readonly maxSnapshotBytes: number
}

/** What fits into four bytes. */
const maximum = 0xffff_ffff

/** Fills in the defaults and checks every value. */
const resolve = Effect.fnUntraced(function* (
  addresses: Arr.NonEmptyReadonlyArray<NetAddress.InetAddress>,
  options: JoinOptions
): Effect.fn.Return<Resolved, SessionError.SessionError> {
  const checkTime = (...[name, input, expected, accepts]: Parameters<typeof Times.check>) =>
    Effect.mapError(Times.check(name, input, expected, accepts), Dial.invalid)
  const isInterval = (time: Duration.Duration) => Times.isFinite(time) && Duration.toMillis(time) <= maximum
  const isTime = (time: Duration.Duration) => !Duration.isNegative(time)
  const tickInterval = yield* checkTime("tickInterval", options.tickInterval ?? 0, "less than 50 days", isInterval)
  const maxSnapshotBytes = options.maxSnapshotBytes ?? defaults.maxSnapshotBytes
  if (!Number.isInteger(maxSnapshotBytes) || maxSnapshotBytes < 0 || maxSnapshotBytes > maximum) {
    return yield* Dial.invalid(`maxSnapshotBytes must be a whole number from 0 to ${maximum}, not ${maxSnapshotBytes}`)
  }
  return {
    addresses,
    invitation: options.invitation,
    sync: options.sync ?? false,
    tickInterval: Math.ceil(Duration.toMillis(tickInterval)),
    ...(yield* Dial.resolve(options)),
    reconnectTimeout: yield* checkTime(
      "reconnectTimeout",
      options.reconnectTimeout ?? defaults.reconnectTimeout,
      "a time",
      isTime
    ),
    maxSnapshotBytes,
    fingerprint: options.fingerprint
  }
})

/** In batches of what one read gave: then the network has to wait. */
const bufferedBatches = 16

/** Where nothing was heard for so long the router is asked for its time, and given up when it does not answer in it. */
const silenceLimit = Duration.seconds(15)

type Connected = Dial.Dialled<Link.Link>

/** Connects to whichever address has the session; the connection ends with the scope. */
const connect = (options: Resolved) =>
  Dial.dial(options.addresses, options, (socket) => Link.open(socket, options.invitation))

const failureOf = (failure: Follower.Failure): SessionError.SessionError =>
  failure._tag === "Closed"
    ? Link.closed(failure.reason)
    : SessionError.fromReason(new SessionError.Missed({ after: failure.after, reason: failure.reason }))

type Events = Queue.Queue<Arr.NonEmptyReadonlyArray<SessionEvent.SessionEvent>, SessionError.SessionError | Cause.Done>

/** Where this member is live, none while the connection is made again, until that changes. */
interface Standing {
  readonly address: Option.Option<NetAddress.InetAddress>
  readonly changed: Deferred.Deferred<void>
}

const makeStanding = (address: Option.Option<NetAddress.InetAddress>) =>
  Effect.map(Deferred.make<void>(), (changed): Standing => ({ address, changed }))

const changeStanding = Effect.fnUntraced(function* (own: Own, address: Option.Option<NetAddress.InetAddress>) {
  const before = yield* Ref.getAndSet(own.standing, yield* makeStanding(address))
  yield* Deferred.succeed(before.changed, undefined)
})

/** The connection has broken, and another one is tried for. */
const lose = Effect.fnUntraced(function* (own: Own) {
  const { address } = yield* Ref.get(own.standing)
  if (Option.isSome(address)) yield* changeStanding(own, Option.none())
})

/** A `SubscriptionRef` would do the same, and add ten kilobytes to what a page downloads. */
const connectionsOf = (standing: Ref.Ref<Standing>) =>
  Stream.unfold(Option.none<Standing>(), (known) =>
    Effect.gen(function* () {
      if (Option.isSome(known)) yield* Deferred.await(known.value.changed)
      const now = yield* Ref.get(standing)
      return [now.address, Option.some(now)] as const
    })
  )

/** What outlives a connection. */
interface Own {
  readonly options: Resolved
  readonly follower: Follower.Follower
  readonly events: Events
  readonly server: Server.Server
  readonly reconnection: Reconnection.Reconnection
  /** The connection, once this member is live on it; fails when the session is over. */
  readonly live: Ref.Ref<Deferred.Deferred<Connected, SessionError.SessionError>>
  readonly address: Ref.Ref<NetAddress.InetAddress>
  readonly standing: Ref.Ref<Standing>
  /** Questions for the time that have no answer yet, the oldest first. */
  questions: Array<Deferred.Deferred<number>>
}

const heartbeatOf = (milliseconds: number): Uint8Array => {
  const data = new Uint8Array(4)
  new DataView(data.buffer).setUint32(0, milliseconds)
  return data
}

/** Once nothing is missing any more: what was waited for goes on. */
const goLive = Effect.fnUntraced(function* (own: Own, connected: Connected) {
  const { link } = connected
  yield* own.reconnection.wentLive
  if (own.options.tickInterval > 0) yield* link.request("heartbeat", heartbeatOf(own.options.tickInterval))
  if (own.server.isOffering()) yield* own.server.volunteer(link)
  yield* changeStanding(own, Option.some(connected.address))
  yield* Deferred.succeed(yield* Ref.get(own.live), connected)
})

const takeFrame = Effect.fnUntraced(function* (own: Own, { link }: Connected, frame: Wire.Frame) {
  if (frame._tag === "Serve") yield* own.server.answer(link, frame)
  const taken = own.follower.take(frame)
  for (const { data, facet } of taken.requests) {
    yield* link.request(facet, data)
  }
  return taken
})

/** Who has the router's time has what was heard before it, too. */
const answerQuestions = Effect.fnUntraced(function* (own: Own, frames: ReadonlyArray<Wire.Frame>) {
  for (const frame of frames) {
    if (frame._tag !== "Time") continue
    const question = own.questions.shift()
    if (question !== undefined) yield* Deferred.succeed(question, frame.stamp)
  }
})

/** Asks for the router's time; the answers come in the order of the questions. */
const askTime = Effect.fnUntraced(function* (own: Own, link: Link.Link) {
  const question = yield* Deferred.make<number>()
  own.questions.push(question)
  const forget = Effect.sync(() => {
    own.questions = own.questions.filter((one) => one !== question)
  })
  yield* Effect.tapError(link.request("timeStamp"), () => forget)
  return question
})

/** Joins on a new connection and hears what comes, until the connection ends; fails with why. */
const follow = Effect.fnUntraced(function* (
  own: Own,
  connected: Connected
): Effect.fn.Return<never, SessionError.SessionError> {
  const { follower } = own
  const { link } = connected
  let isLive = false
  yield* Ref.set(own.address, connected.address)
  yield* link.request("join", follower.begin(link.welcome.life))
  while (true) {
    const frames = yield* link.pull
    const events: Array<SessionEvent.SessionEvent> = []
    let failure: Follower.Failure | undefined
    for (const frame of frames) {
      const taken = yield* takeFrame(own, connected, frame)
      events.push(...taken.events)
      failure = taken.failure
      if (failure !== undefined) break
    }
    if (Arr.isReadonlyArrayNonEmpty(events)) yield* Queue.offer(own.events, events)
    yield* answerQuestions(own, frames)
    if (failure !== undefined) return yield* failureOf(failure)
    if (follower.isLive && !isLive) {
      isLive = true
      yield* goLive(own, connected)
    }
  }
})

/** Whoever asks from now on waits for the next connection. */
const goOffline = Effect.fnUntraced(function* (own: Own) {
  own.questions = []
  const live = yield* Ref.get(own.live)
  if (yield* Deferred.isDone(live))
    yield* Ref.set(own.live, yield* Deferred.make<Connected, SessionError.SessionError>())
})

/** Goes from connection to connection until the session is over. */
const run = Effect.fnUntraced(function* (
  own: Own,
  first: Connected,
  scope: Scope.Closeable
): Effect.fn.Return<never, SessionError.SessionError, Connector.Connector | Scope.Scope> {
  let connected = first
  let connection = scope
  while (true) {
    const broken = yield* Effect.flip(watch(own, connected.link, follow(own, connected)))
    yield* goOffline(own)
    yield* Scope.close(connection, Exit.fail(broken))
    connection = yield* Scope.fork(yield* Effect.scope)
    const again = Effect.andThen(lose(own), connect(own.options))
    connected = yield* Scope.provide(own.reconnection.again(again, broken), connection)
  }
})

/** A connection may be dead without a word: whoever is silent for long is asked, and given up. */
const watch = <A>(own: Own, link: Link.Link, following: Effect.Effect<A, SessionError.SessionError>) => {
  // Who may not ask cannot tell a quiet session from a dead connection.
  if (link.welcome.facets.timeStamp === undefined) return following
  const limit = Duration.toMillis(silenceLimit)
  const giveUp = Effect.gen(function* () {
    while (true) {
      yield* Effect.sleep(silenceLimit)
      const silent = yield* link.silence
      if (silent >= 2 * limit) return yield* Link.closed(undefined)
      if (silent >= limit) yield* Effect.ignore(askTime(own, link))
    }
  })
  return Effect.raceFirst(following, giveUp)
}

const makeSession = (own: Own, maxMessageBytes: number): Session => {
  const current = Effect.flatMap(Ref.get(own.live), Deferred.await)
  const events = Stream.flattenArray(Stream.fromQueue(own.events))
  const send = Effect.fnUntraced(function* (message: Uint8Array) {
    if (message.length > maxMessageBytes) {
      const size = message.length
      return yield* SessionError.fromReason(new SessionError.MessageTooLarge({ size, limit: maxMessageBytes }))
    }
    const { link } = yield* current
    yield* link.request("send", message)
  })
  const time = Effect.gen(function* () {
    const { link } = yield* current
    const question = yield* askTime(own, link)
    return yield* Effect.raceFirst(Deferred.await(question), link.ended)
  })
  return {
    invitation: own.options.invitation,
    address: Ref.get(own.address),
    connections: connectionsOf(own.standing),
    maxMessageBytes,
    events,
    messages: Stream.filter(events, (event): event is SessionEvent.Message => event._tag === "Message"),
    send,
    time,
    serve: (state) =>
      Effect.gen(function* () {
        const { link } = yield* current
        if (link.welcome.facets.beServer === undefined) {
          return yield* SessionError.fromReason(new SessionError.NotGranted({ facet: "beServer" }))
        }
        yield* Effect.addFinalizer(() => tellWhetherServing(own))
        yield* own.server.offer(state)
        yield* tellWhetherServing(own)
      })
  }
}

/** Where there is no connection just now, the next one tells it. */
const tellWhetherServing = Effect.fnUntraced(function* (own: Own) {
  const live = yield* Ref.get(own.live)
  if (!(yield* Deferred.isDone(live))) return
  const told = Effect.flatMap(Deferred.await(live), ({ link }) => own.server.volunteer(link))
  yield* told.pipe(Effect.timeoutOption(patience), Effect.ignore)
})

/** So long the end of serving waits for a connection that takes nothing. */
const patience = Duration.seconds(1)

const makeEvents: Effect.Effect<Events, never, Scope.Scope> = Effect.acquireRelease(
  Queue.bounded<Arr.NonEmptyReadonlyArray<SessionEvent.SessionEvent>, SessionError.SessionError | Cause.Done>(
    bufferedBatches
  ),
  Queue.end
)

const joinResolved = Effect.fnUntraced(function* (options: Resolved) {
  const scope = yield* Effect.scope
  const live = yield* Deferred.make<Connected, SessionError.SessionError>()
  const connection = yield* Scope.fork(scope)
  const first = yield* Scope.provide(connect(options), connection)
  const follower = new Follower.Follower(options.sync, options.maxSnapshotBytes)
  const own: Own = {
    options,
    follower,
    events: yield* makeEvents,
    server: yield* Server.make(() => follower.heard),
    reconnection: Reconnection.make(options.reconnectTimeout),
    live: yield* Ref.make(live),
    address: yield* Ref.make(first.address),
    standing: yield* Ref.make(yield* makeStanding(Option.some(first.address))),
    questions: []
  }
  yield* run(own, first, connection).pipe(
    // Whatever it is, nobody waits for what comes no more.
    Effect.catchCause((cause) =>
      Effect.gen(function* () {
        yield* Deferred.failCause(yield* Ref.get(own.live), cause)
        yield* Queue.failCause(own.events, cause)
      })
    ),
    Effect.forkScoped
  )
  // What keeps this member from following the session is the caller's to know.
  yield* Deferred.await(live)
  return makeSession(own, first.link.welcome.maxDataBytes)
})

/**
 * Joins a session at one of the addresses of a contact point, the internal ones first, and stays in it until the scope
 * closes. The addresses are tried as RFC 8305 has it: the next one when the one before has failed, or has not answered
 * for a while. Only a dispatcher that knows the invitation's capability counts, since private addresses are used more
 * than once. Where the contact point has the fingerprint of a certificate, that is over TLS, and nothing is told to what
 * shows another one.
 *
 * Fails with `Unreachable`, `TimedOut`, `NotADispatcher`, `WrongCertificate`, `UnknownSession`, `UnsupportedVersion`, `Refused`, `NotGranted`
 * and, with `sync`, with `Missed` where the session has a past and no member tells it; with `InvalidOption` before
 * anything is opened. Nothing is left open then.
 *
 * **Example** (Join by the URI that `effect-nat serve` prints)
 *
 * ```ts
 * import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
 * import * as Invitation from "@effect-nat/dispatcher/Invitation"
 * import * as Session from "@effect-nat/dispatcher/Session"
 * import { Effect } from "effect"
 *
 * export const joinByUri = Effect.fnUntraced(function* (uri: string, roleOrId?: string) {
 *   const contactPoint = yield* Effect.fromResult(ContactPointUri.fromString(uri))
 *   const invitation = yield* Effect.fromResult(Invitation.fromContactPoint(contactPoint, roleOrId))
 *   return yield* Session.join(contactPoint, { invitation })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const join = Effect.fn("Session.join")(function* (
  contactPoint: ContactPoint.ContactPoint,
  options: JoinOptions
): Effect.fn.Return<Session, SessionError.SessionError, Scope.Scope | Connector.Connector> {
  const addresses = ContactPoint.addresses(contactPoint)
  if (!Arr.isReadonlyArrayNonEmpty(addresses)) {
    return yield* Dial.unreachable("its contact point has no address")
  }
  return yield* joinAt(addresses, { ...options, fingerprint: options.fingerprint ?? contactPoint.fingerprint })
})

/**
 * The same at addresses that are known otherwise, the preferred one first.
 *
 * @category constructors
 * @since 0.1.0
 */
export const joinAt = Effect.fnUntraced(function* (
  addresses: Arr.NonEmptyReadonlyArray<NetAddress.InetAddress>,
  options: JoinOptions
): Effect.fn.Return<Session, SessionError.SessionError, Scope.Scope | Connector.Connector> {
  const own = yield* Scope.fork(yield* Effect.scope)
  return yield* Effect.flatMap(resolve(addresses, options), joinResolved).pipe(
    Scope.provide(own),
    Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
  )
})
