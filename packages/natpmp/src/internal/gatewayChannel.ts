/**
 * Questions to one gateway over UDP, one at a time, whatever the protocol: an answer is believed only when it comes
 * from the gateway's own address and port and the question says that it is one of its answers.
 *
 * The socket is opened for the first question and closed when none was asked for a while, and after every question
 * that failed: so a burst shares one socket, nothing is held open between renewals, and a host whose own address has
 * changed soon asks from the new one.
 */
import type * as NatError from "@effect-nat/core/NatError"
import { fromReason, TimedOut, Unreachable } from "@effect-nat/core/NatError"
import * as Udp from "@effect-nat/core/Udp"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"
import * as RcRef from "effect/RcRef"
import * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as DatagramSocket from "effect/socket/DatagramSocket"

/** One question, and how to know its answer. */
export interface Question<out A> {
  /** For messages: "the external address request". */
  readonly name: string
  readonly payload: Uint8Array
  /** The answer, or why these bytes are none. */
  readonly read: (payload: Uint8Array) => Result.Result<A, string>
  /** When to send again. */
  readonly retransmission: Schedule.Schedule<unknown>
  /** When to give up, counted from the first transmission. */
  readonly timeout: Duration.Input
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
  /** Fails with `TimedOut`, or with `Unreachable` as soon as the gateway or this host's kernel refuses. */
  readonly ask: <A>(question: Question<A>) => Effect.Effect<Answered<A>, NatError.NatError>
}

/** Long enough for the exchanges of one burst, short beside any lease. */
const idleSocketLifetime: Duration.Input = "3 seconds"

/** Datagrams that changed nothing: from elsewhere, malformed, or an answer to another question. */
const ignoredDatagrams = Metric.counter("effect_nat_natpmp_ignored_datagrams", {
  description: "Datagrams received on NAT-PMP sockets that were no answer to the question asked",
  incremental: true
})

const ignore = (from: NetAddress.InetAddress, why: string) =>
  Metric.update(ignoredDatagrams, 1).pipe(
    Effect.andThen(Effect.logDebug(`ignored a datagram from ${NetAddress.formatInet(from)}: ${why}`))
  )

const isRefusal = (error: DatagramSocket.DatagramSocketError): boolean =>
  "kind" in error.reason && error.reason.kind === "ConnectionRefused"

const unreachable = (peer: NetAddress.InetAddress) => (error: DatagramSocket.DatagramSocketError) => {
  const gateway = NetAddress.formatIp(peer.address)
  return fromReason(
    new Unreachable({
      detail: isRefusal(error)
        ? `${gateway} refuses UDP port ${peer.port}: NAT-PMP is switched off there`
        : `cannot send to ${gateway} or receive from it: ${Udp.describeError(error)}`
    })
  )
}

const timedOut = (peer: NetAddress.InetAddress, name: string) =>
  Effect.fail(fromReason(new TimedOut({ detail: `${NetAddress.formatIp(peer.address)} did not answer ${name}` })))

/** Never for ever without effect: each datagram is received, judged and dropped, and the question's time runs on. */
const listen = Effect.fnUntraced(function* <A>(
  socket: Udp.UdpSocket,
  peer: NetAddress.InetAddress,
  question: Question<A>
) {
  while (true) {
    for (const { address, payload } of yield* socket.receive) {
      if (!Equal.equals(address, peer)) {
        yield* ignore(address, "not from the gateway")
        continue
      }
      const read = question.read(payload)
      if (Result.isSuccess(read)) {
        const receivedAt = yield* Clock.monotonicTimeNanos
        return { value: read.success, localAddress: socket.address.address, receivedAt }
      }
      yield* ignore(address, read.failure)
    }
  }
})

/** Sends until the schedule ends; what ends the question is an answer, a refusal or its time limit. */
const transmit = (socket: Udp.UdpSocket, question: Question<unknown>) =>
  socket.send(question.payload).pipe(Effect.repeat(question.retransmission), Effect.andThen(Effect.never))

/** The way to the gateway that listens at `peer`. */
export const make = Effect.fnUntraced(function* (
  peer: NetAddress.InetAddress
): Effect.fn.Return<GatewayChannel, never, Udp.Udp | Scope.Scope> {
  const udp = yield* Udp.Udp
  const turn = yield* Semaphore.make(1)
  const sockets = yield* RcRef.make({
    acquire: udp.open({ connect: peer }),
    idleTimeToLive: idleSocketLifetime
  })

  const exchange = <A>(question: Question<A>) =>
    Effect.scoped(
      Effect.flatMap(RcRef.get(sockets), (socket) =>
        Effect.raceFirst(listen(socket, peer, question), transmit(socket, question))
      )
    ).pipe(Effect.mapError(unreachable(peer)))

  const ask = <A>(question: Question<A>): Effect.Effect<Answered<A>, NatError.NatError> =>
    exchange(question).pipe(
      Effect.timeoutOrElse({ duration: question.timeout, orElse: () => timedOut(peer, question.name) }),
      // Also for an interrupted question: its late answer comes to a closed port and not to the next question.
      Effect.onError(() => RcRef.invalidate(sockets)),
      turn.withPermit
    )

  return { ask }
})
