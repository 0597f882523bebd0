/** From several addresses to a connection that has come through its handshake: whichever of them answers as it should. */
import type * as ContactPoint from "@effect-nat/core/ContactPoint"
import type * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as Connector from "../Connector.ts"
import * as SessionError from "../SessionError.ts"
import * as Link from "./link.ts"
import * as Race from "./race.ts"
import * as Times from "./times.ts"

export interface Options {
  readonly handshakeTimeout: Duration.Duration
  readonly attemptDelay: Duration.Duration
  readonly fingerprint: ContactPoint.Fingerprint | undefined
}

export const defaults = {
  handshakeTimeout: Duration.seconds(5),
  attemptDelay: Duration.millis(250)
}

export const invalid = (detail: string) => SessionError.fromReason(new SessionError.InvalidOption({ detail }))

/** Fills in the defaults and checks the times. */
export const resolve = Effect.fnUntraced(function* (given: {
  readonly handshakeTimeout?: Duration.Input | undefined
  readonly attemptDelay?: Duration.Input | undefined
}) {
  const { attemptDelay = defaults.attemptDelay, handshakeTimeout = defaults.handshakeTimeout } = given
  return yield* Effect.all({
    handshakeTimeout: Times.check("handshakeTimeout", handshakeTimeout, "a finite time above zero", Times.isPositive),
    attemptDelay: Times.check("attemptDelay", attemptDelay, "a finite time", Times.isFinite)
  }).pipe(Effect.mapError(invalid))
})

interface Failed {
  readonly address: NetAddress.InetAddress
  readonly error: SessionError.SessionError
}

/** Where it was tried, and what came of it: some causes name their address themselves, others not even themselves. */
const describe = ({ address, error: { message, reason } }: Failed): string => {
  const where = NetAddress.formatInet(address)
  const why = reason._tag === "Unreachable" ? reason.detail : message
  return why.includes(where) ? why : `${where}: ${why}`
}

export const unreachable = (detail: string) => SessionError.fromReason(new SessionError.Unreachable({ detail }))

const saying: ReadonlySet<string> = new Set(["UnknownSession", "Refused", "UnsupportedVersion", "WrongCertificate"])

/** A refusal says more than silence. */
const whichToTell = (failures: ReadonlyArray<Failed>): SessionError.SessionError => {
  const errors = failures.map(({ error }) => error)
  const said = errors.find(({ reason }) => saying.has(reason._tag))
  const one = said ?? errors[0] ?? Link.closed(undefined)
  return one.reason._tag === "Unreachable" ? unreachable(failures.map(describe).join("; ")) : one
}

export interface Dialled<A> {
  readonly address: NetAddress.InetAddress
  readonly link: A
}

/** The connection, which ends with the scope, and where it has gone. */
export const dial = Effect.fnUntraced(function* <A>(
  addresses: Arr.NonEmptyReadonlyArray<NetAddress.InetAddress>,
  options: Options,
  open: (socket: Socket.Socket) => Effect.Effect<A, SessionError.SessionError, Scope.Scope>
): Effect.fn.Return<Dialled<A>, SessionError.SessionError, Scope.Scope | Connector.Connector> {
  const { connect } = yield* Connector.Connector
  const milliseconds = Duration.toMillis(options.handshakeTimeout)
  const attempt = (address: NetAddress.InetAddress) =>
    connect(address, { fingerprint: options.fingerprint }).pipe(
      Effect.flatMap((socket) =>
        Effect.timeoutOrElse(open(socket), {
          duration: options.handshakeTimeout,
          orElse: () => Effect.fail(SessionError.fromReason(new SessionError.TimedOut({ milliseconds })))
        })
      ),
      Effect.map((link): Dialled<A> => ({ address, link })),
      Effect.mapError((error): Failed => ({ address, error }))
    )
  return yield* Effect.mapError(Race.race(addresses, options.attemptDelay, attempt), whichToTell)
})
