/**
 * The one way to a gateway's UDP port 5351, for both protocols that are spoken there: an answer is believed only when it
 * comes from the gateway's own address and port and a question that waits says that it is one of its answers.
 *
 * One socket serves all questions, and one reader offers what comes to those that wait, the oldest first; what none of
 * them takes, and nobody else has use for, is counted and changes nothing. The socket is opened for the first question,
 * and closed when none was asked for a while and nobody wants it kept open for what the gateway may say later; after a
 * question that failed the next one is asked from another socket: so a burst shares one, and no late answer meets a
 * later question. A host whose own address has changed soon asks from the new one: that is looked at before a socket is
 * used again after a while.
 *
 * NAT-PMP wants one question at a time; those of PCP wait side by side, so that a lost packet holds up nothing else.
 */
import type * as NatError from "@effect-nat/core/NatError"
import { fromReason, TimedOut, Unreachable } from "@effect-nat/core/NatError"
import * as Udp from "@effect-nat/core/Udp"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as RcRef from "effect/RcRef"
import * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as DatagramSocket from "effect/socket/DatagramSocket"
import * as IgnoredDatagrams from "./ignoredDatagrams.ts"

/** One question, and how to know its answer. */
export interface Question<out A> {
  /** For messages: "the external address request". */
  readonly name: string
  /** What is sent from this address of the host's. */
  readonly payload: (localAddress: NetAddress.IpAddress) => Uint8Array
  /** The answer, or why these bytes are none. */
  readonly read: (payload: Uint8Array) => Result.Result<A, IgnoredDatagrams.Why>
  /** When to send again. */
  readonly retransmission: Schedule.Schedule<unknown>
  /** When to give up, counted from the first transmission. */
  readonly timeout: Duration.Input
  /** Whether no other question of this kind may be under way at the same time; it waits for its turn then. */
  readonly takesTurn: boolean
}

/** An answer, and what its arrival tells. */
export interface Answered<out A> {
  readonly value: A
  /** This host's own address towards the gateway. */
  readonly localAddress: NetAddress.IpAddress
  /** In nanoseconds of the monotonic clock. */
  readonly receivedAt: bigint
}

/** The way to one gateway. */
export interface GatewayChannel {
  readonly peer: NetAddress.InetAddress
  /** Fails with `TimedOut`, or with `Unreachable` as soon as the gateway or this host's kernel refuses. */
  readonly ask: <A>(question: Question<A>) => Effect.Effect<Answered<A>, NatError.NatError>
  /** This host's own address that a question would be asked from now. Fails with `Unreachable`. */
  readonly localAddress: Effect.Effect<NetAddress.IpAddress, NatError.NatError>
  /** Keeps the socket of the last question open until the scope closes. Fails with `Unreachable`. */
  readonly keepOpen: Effect.Effect<void, NatError.NatError, Scope.Scope>
  /** Whether a question of this version of the protocol was ever sent: an answer may be one to it, whoever waits. */
  readonly hasSpoken: (version: number) => boolean
}

/** Takes what the gateway says while no question waits for it; whether it tells anything. */
export type HearUnasked = (payload: Uint8Array) => Effect.Effect<boolean>

/** Long enough for the exchanges of one burst, short beside any lease. */
const idleSocketLifetime = Duration.seconds(3)
const idleNanos = BigInt(Duration.toMillis(idleSocketLifetime)) * 1_000_000n

/** In nanoseconds: whoever asks just after somebody was refused, over the other protocol say, would be refused too. */
const refusalLifetime = 100_000_000n

type SocketError = DatagramSocket.DatagramSocketError

const isRefusal = (error: SocketError): boolean => "kind" in error.reason && error.reason.kind === "ConnectionRefused"

/** Nothing has gone out: the socket's own address may have been this host's until just now. */
const isUnsent = (error: SocketError): boolean => error.reason._tag === "DatagramSocketWriteError" && !isRefusal(error)

const unreachable = (peer: NetAddress.InetAddress) => (error: SocketError) => {
  const gateway = NetAddress.formatIp(peer.address)
  return fromReason(
    new Unreachable({
      detail: isRefusal(error)
        ? `${gateway} refuses UDP port ${peer.port}: NAT-PMP and PCP are switched off there`
        : `cannot send to ${gateway} or receive from it: ${Udp.describeError(error)}`
    })
  )
}

const timedOut = (peer: NetAddress.InetAddress, name: string) =>
  Effect.fail(fromReason(new TimedOut({ detail: `${NetAddress.formatIp(peer.address)} did not answer ${name}` })))

/**
 * So many questions that take no turns wait for their answers at one time: some gateways take half a second for each
 * mapping when they have a hundred, one after the other. Who waits longer than the pause before a retransmission asks
 * twice, which takes the gateway twice as long, until those that were asked for a hundred at once answer nobody in time.
 */
const sideBySide = 4

/** A question under way. */
interface Waiting {
  /** Takes a datagram, or says why it is no answer. */
  readonly offer: (payload: Uint8Array, receivedAt: bigint) => IgnoredDatagrams.Why | undefined
  readonly fail: (error: SocketError) => void
}

/** A socket with its reader. */
class Conversation {
  readonly socket: Udp.UdpSocket
  readonly waiting = new Set<Waiting>()
  failure: SocketError | undefined
  /** When its own address was known to be this host's, in nanoseconds of the monotonic clock. */
  checkedAt: bigint

  constructor(socket: Udp.UdpSocket, openedAt: bigint) {
    this.socket = socket
    this.checkedAt = openedAt
  }

  /** Why the datagram changes nothing; `undefined` where a question has taken it. */
  judge(payload: Uint8Array, receivedAt: bigint): IgnoredDatagrams.Why | undefined {
    let why: IgnoredDatagrams.Why = { reason: "late", detail: "no question waits" }
    for (const one of this.waiting) {
      const refused = one.offer(payload, receivedAt)
      if (refused === undefined) {
        this.waiting.delete(one)
        return undefined
      }
      why = refused
    }
    return why
  }

  /** A socket that fails once is of no use to anybody. */
  readonly fail = (error: SocketError): void => {
    this.failure ??= error
    for (const one of this.waiting) one.fail(this.failure)
    this.waiting.clear()
  }
}

/** Never for ever without effect: each datagram is received, judged and dropped, and the questions' time runs on. */
const listen = Effect.fnUntraced(function* (
  conversation: Conversation,
  peer: NetAddress.InetAddress,
  hearUnasked: HearUnasked
) {
  while (true) {
    const datagrams = yield* conversation.socket.receive
    const receivedAt = yield* Clock.monotonicTimeNanos
    for (const { address, payload } of datagrams) {
      const why = Equal.equals(address, peer) ? conversation.judge(payload, receivedAt) : IgnoredDatagrams.foreign
      if (why === undefined || (why !== IgnoredDatagrams.foreign && (yield* hearUnasked(payload)))) continue
      yield* IgnoredDatagrams.count(address, why)
    }
  }
})

/** Registered before anything is sent: an answer may come at once. */
const expect = <A>(conversation: Conversation, question: Question<A>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const answer = Deferred.makeUnsafe<Answered<A>, SocketError>()
      const waiting: Waiting = {
        offer: (payload, receivedAt) => {
          const read = question.read(payload)
          if (Result.isFailure(read)) return read.failure
          const localAddress = conversation.socket.address.address
          Deferred.doneUnsafe(answer, Effect.succeed({ value: read.success, localAddress, receivedAt }))
          return undefined
        },
        fail: (error) => void Deferred.doneUnsafe(answer, Effect.fail(error))
      }
      if (conversation.failure === undefined) conversation.waiting.add(waiting)
      else waiting.fail(conversation.failure)
      return { answer, waiting }
    }),
    ({ waiting }) => Effect.sync(() => conversation.waiting.delete(waiting))
  ).pipe(Effect.map(({ answer }) => answer))

/**
 * The way to the gateway that listens at `peer`, from the own address `from` where it matters which of several that is.
 */
export const make = Effect.fnUntraced(function* (
  peer: NetAddress.InetAddress,
  from?: NetAddress.IpAddress,
  hearUnasked: HearUnasked = () => Effect.succeed(false)
): Effect.fn.Return<GatewayChannel, never, Udp.Udp | Scope.Scope> {
  const udp = yield* Udp.Udp
  const turn = yield* Semaphore.make(1)
  const places = yield* Semaphore.make(sideBySide)
  const spoken = new Set<number>()
  const looking = yield* Semaphore.make(1)
  const bind = from === undefined ? undefined : { address: from }
  const open = udp.open({ connect: peer, bind })
  const conversations = yield* RcRef.make({
    acquire: Effect.gen(function* () {
      const opened = new Conversation(yield* open, yield* Clock.monotonicTimeNanos)
      const listening = listen(opened, peer, hearUnasked)
      yield* Effect.forkScoped(Effect.catch(listening, (error) => Effect.sync(() => opened.fail(error))))
      return opened
    }),
    idleTimeToLive: idleSocketLifetime
  })

  /** A socket keeps the own address that it was opened with: it takes another one to see which that is now. */
  const isUsable = Effect.fnUntraced(function* (current: Conversation) {
    if (current.failure !== undefined) return false
    const now = yield* Clock.monotonicTimeNanos
    if (now - current.checkedAt < idleNanos) return true
    const { address } = yield* Effect.scoped(open)
    if (!Equal.equals(address.address, current.socket.address.address)) return false
    current.checkedAt = now
    return true
  })

  /** A socket that failed while nobody waited must not fail the next question, nor one whose address is gone. */
  const conversation = looking.withPermit(
    Effect.gen(function* () {
      const current = yield* RcRef.get(conversations)
      if (yield* isUsable(current)) return current
      yield* RcRef.invalidate(conversations)
      return yield* RcRef.get(conversations)
    })
  )

  /** Sends until the schedule ends; what ends the question is an answer, a refusal or its time limit. */
  const transmit = ({ fail, socket }: Conversation, question: Question<unknown>) => {
    const payload = question.payload(socket.address.address)
    spoken.add(payload[0] ?? 0)
    return socket.send(payload).pipe(
      Effect.tapError((error) => Effect.sync(() => fail(error))),
      Effect.repeat(question.retransmission),
      Effect.andThen(Effect.never)
    )
  }

  const exchangeOnce = <A>(question: Question<A>) =>
    Effect.gen(function* () {
      const current = yield* conversation
      const answer = yield* expect(current, question)
      return yield* Effect.raceFirst(Deferred.await(answer), transmit(current, question))
    }).pipe(Effect.scoped)

  /** The last refusal, and when it came, in nanoseconds of the monotonic clock. */
  let refusal: { readonly error: SocketError; readonly at: bigint } | undefined
  const noteRefusal = (error: SocketError) =>
    Effect.map(Clock.monotonicTimeNanos, (at) => {
      if (isRefusal(error)) refusal = { error, at }
    })
  const checkRefusal = Effect.flatMap(Clock.monotonicTimeNanos, (now) =>
    refusal !== undefined && now - refusal.at < refusalLifetime
      ? Effect.fail(unreachable(peer)(refusal.error))
      : Effect.void
  )

  const exchange = <A>(question: Question<A>) =>
    exchangeOnce(question).pipe(
      Effect.catchIf(isUnsent, () => exchangeOnce(question)),
      Effect.tapError(noteRefusal),
      Effect.mapError(unreachable(peer))
    )

  const bounded = <A>(question: Question<A>): Effect.Effect<Answered<A>, NatError.NatError> =>
    exchange(question).pipe(
      Effect.timeoutOrElse({ duration: question.timeout, orElse: () => timedOut(peer, question.name) }),
      // Also for an interrupted question: its late answer comes to a port that no later question listens to.
      Effect.onError(() => RcRef.invalidate(conversations))
    )

  return {
    peer,
    ask: (question) => (question.takesTurn ? turn : places).withPermit(Effect.andThen(checkRefusal, bounded(question))),
    localAddress: Effect.scoped(conversation).pipe(
      Effect.map(({ socket }) => socket.address.address),
      Effect.mapError(unreachable(peer))
    ),
    keepOpen: Effect.asVoid(RcRef.get(conversations)).pipe(Effect.mapError(unreachable(peer))),
    hasSpoken: (version) => spoken.has(version)
  }
})
