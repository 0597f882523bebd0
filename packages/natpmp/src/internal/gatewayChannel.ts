/**
 * The one way to a gateway's UDP port 5351, for both protocols that are spoken there: an answer is believed only when it
 * comes from the gateway's own address and port and a question that waits says that it is one of its answers.
 *
 * One socket serves all questions, and one reader offers what comes to those that wait, the oldest first; what none of
 * them takes is counted and changes nothing. The socket is opened for the first question, and closed when none was
 * asked for a while; after a question that failed the next one is asked from another socket: so a burst shares one,
 * nothing is held open between renewals, no late answer meets a later question, and a host whose own address has changed
 * soon asks from the new one.
 *
 * NAT-PMP wants one question at a time; those of PCP wait side by side, so that a lost packet holds up nothing else.
 */
import type * as NatError from "@effect-nat/core/NatError"
import { fromReason, TimedOut, Unreachable } from "@effect-nat/core/NatError"
import * as Udp from "@effect-nat/core/Udp"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
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
  /** Keeps the socket open that questions are asked from now: what its gateway says there later is heard. */
  readonly listen: Effect.Effect<void, NatError.NatError, Scope.Scope>
  /** Whether a question of this version of the protocol was ever sent: an answer may be one to it, whoever waits. */
  readonly hasSpoken: (version: number) => boolean
}

/** Milliseconds: long enough for the exchanges of one burst, short beside any lease. */
const idleSocketLifetime = 3000

type SocketError = DatagramSocket.DatagramSocketError

const isRefusal = (error: SocketError): boolean => "kind" in error.reason && error.reason.kind === "ConnectionRefused"

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
 * So many questions that take no turns wait for their answers at one time: some gateways take longer for each mapping
 * the more they have, and those that are asked for a hundred at once must not all run out of time together.
 */
const sideBySide = 8

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
  /** When something was last asked, in milliseconds. */
  askedAt: number

  constructor(socket: Udp.UdpSocket, openedAt: number) {
    this.socket = socket
    this.askedAt = openedAt
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

/** Whether a datagram of the gateway that no question has taken is news all the same. */
export type HearsUnasked = (payload: Uint8Array) => Effect.Effect<boolean>

/** Never for ever without effect: each datagram is received, judged and dropped, and the questions' time runs on. */
const listen = Effect.fnUntraced(function* (
  conversation: Conversation,
  peer: NetAddress.InetAddress,
  hearsUnasked: HearsUnasked
) {
  while (true) {
    const datagrams = yield* conversation.socket.receive
    const receivedAt = yield* Clock.monotonicTimeNanos
    for (const { address, payload } of datagrams) {
      const isFromPeer = Equal.equals(address, peer)
      const why = isFromPeer ? conversation.judge(payload, receivedAt) : IgnoredDatagrams.foreign
      if (why === undefined || (isFromPeer && (yield* hearsUnasked(payload)))) continue
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

/** How a gateway is spoken with. */
export interface Options {
  /** The own address to ask from, where it matters which of several that is. */
  readonly from?: NetAddress.IpAddress | undefined
  readonly hearsUnasked?: HearsUnasked | undefined
}

/** The way to the gateway that listens at `peer`. */
export const make = Effect.fnUntraced(function* (
  peer: NetAddress.InetAddress,
  { from, hearsUnasked = () => Effect.succeed(false) }: Options = {}
): Effect.fn.Return<GatewayChannel, never, Udp.Udp | Scope.Scope> {
  const udp = yield* Udp.Udp
  const turn = yield* Semaphore.make(1)
  const places = yield* Semaphore.make(sideBySide)
  const spoken = new Set<number>()
  const bind = from === undefined ? undefined : { address: from }
  const conversations = yield* RcRef.make({
    acquire: Effect.gen(function* () {
      const opened = new Conversation(yield* udp.open({ connect: peer, bind }), yield* Clock.currentTimeMillis)
      yield* Effect.forkScoped(
        Effect.catch(listen(opened, peer, hearsUnasked), (error) => Effect.sync(() => opened.fail(error)))
      )
      return opened
    }),
    idleTimeToLive: idleSocketLifetime
  })

  /**
   * A socket that failed while nobody waited must not fail the next question, and one that is only listened to may have
   * an address that this host no longer has.
   */
  const conversation = Effect.gen(function* () {
    const current = yield* RcRef.get(conversations)
    const now = yield* Clock.currentTimeMillis
    const isFresh = current.waiting.size > 0 || now - current.askedAt < idleSocketLifetime
    if (current.failure === undefined && isFresh) return current
    yield* RcRef.invalidate(conversations)
    return yield* RcRef.get(conversations)
  })

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

  const exchange = <A>(question: Question<A>) =>
    Effect.gen(function* () {
      const current = yield* conversation
      current.askedAt = yield* Clock.currentTimeMillis
      const answer = yield* expect(current, question)
      return yield* Effect.raceFirst(Deferred.await(answer), transmit(current, question))
    }).pipe(Effect.scoped, Effect.mapError(unreachable(peer)))

  const bounded = <A>(question: Question<A>): Effect.Effect<Answered<A>, NatError.NatError> =>
    exchange(question).pipe(
      Effect.timeoutOrElse({ duration: question.timeout, orElse: () => timedOut(peer, question.name) }),
      // Also for an interrupted question: its late answer comes to a port that no later question listens to.
      Effect.onError(() => RcRef.invalidate(conversations))
    )

  return {
    peer,
    ask: (question) => (question.takesTurn ? turn : places).withPermit(bounded(question)),
    localAddress: Effect.scoped(conversation).pipe(
      Effect.map(({ socket }) => socket.address.address),
      Effect.mapError(unreachable(peer))
    ),
    listen: Effect.asVoid(Effect.mapError(RcRef.get(conversations), unreachable(peer))),
    hasSpoken: (version) => spoken.has(version)
  }
})
