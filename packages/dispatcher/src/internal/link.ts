/** One connection of a client to a message router, from the handshake to its end. */
import * as Monotonic from "@effect-nat/core/Monotonic"
import type * as Capability from "@effect-nat/core/Capability"
import * as Arr from "effect/Array"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Socket from "effect/socket/Socket"
import * as CapabilityProof from "../CapabilityProof.ts"
import * as CloseReason from "../CloseReason.ts"
import type * as Facet from "../Facet.ts"
import * as Invitation from "../Invitation.ts"
import * as SessionError from "../SessionError.ts"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Wire from "../Wire.ts"
import * as Bytes from "./bytes.ts"
import * as Door from "./door.ts"

export interface Link {
  readonly welcome: Wire.Frame & { readonly _tag: "Welcome" }
  /** Hands a request to the connection. Fails with `NotGranted`, and with `Closed` once the connection has ended. */
  readonly request: (facet: Facet.Facet, data?: Uint8Array) => Effect.Effect<void, SessionError.SessionError>
  /** The same, to a facet that the router has given for one answer. */
  readonly reply: (facet: Uint8Array, data: Uint8Array) => Effect.Effect<void, SessionError.SessionError>
  /** The next frames; fails with `Closed` when the connection has ended. */
  readonly pull: Effect.Effect<ReadonlyArray<Wire.Frame>, SessionError.SessionError>
  /** Fails with `Closed` when the connection has ended. */
  readonly ended: Effect.Effect<never, SessionError.SessionError>
  /** For how many milliseconds something has been waited for, and nothing came; 0 while nobody waits. */
  readonly silence: Effect.Effect<number>
}

type Pull = Effect.Effect<Arr.NonEmptyReadonlyArray<Uint8Array>, Socket.SocketError>

/** The end of a connection, with the router's reason where it gave one. */
export const closed = (reason: CloseReason.CloseReason | undefined) =>
  SessionError.fromReason(new SessionError.Closed({ reason }))

const isReason = Schema.is(SessionError.SessionErrorReason)

/** Of an `ErrorEvent` too. What a WebSocket fails with says nothing at all: pages are not to find out who is there. */
const messageOf = (cause: unknown): string | undefined => {
  const message = typeof cause === "object" && cause !== null && "message" in cause ? cause.message : undefined
  return typeof message === "string" && message !== "" ? message : undefined
}

const notOpened = ({ reason }: Socket.SocketError) => {
  if (isReason(reason.cause)) return SessionError.fromReason(reason.cause)
  const detail = messageOf(reason.cause) ?? "the connection was refused or broke, and the platform does not say why"
  return SessionError.fromReason(new SessionError.Unreachable({ detail }))
}

const notADispatcher = (detail: string) => SessionError.fromReason(new SessionError.NotADispatcher({ detail }))

const refused = (reason: CloseReason.CloseReason, version: number = Wire.version) => {
  if (reason === "UnknownSession") return SessionError.fromReason(new SessionError.UnknownSession())
  if (reason === "UnsupportedVersion") return SessionError.fromReason(new SessionError.UnsupportedVersion({ version }))
  return SessionError.fromReason(new SessionError.Refused({ reason }))
}

/** Bytes as they come, with those that were read too far put back. */
const makeSource = (pull: Pull) => {
  let held: Uint8Array = new Uint8Array(0)
  const more = Effect.map(
    Effect.mapError(pull, () => notADispatcher("it closed the connection without an answer")),
    (received) => {
      held = Bytes.concat([held, ...received])
      return held
    }
  )
  return {
    more,
    held: () => held,
    skip: (length: number) => {
      held = held.subarray(length)
    }
  }
}

type Source = ReturnType<typeof makeSource>

const readChallenge = Effect.fnUntraced(function* (source: Source) {
  let bytes = source.held()
  while (true) {
    const decoded = Wire.decodeReply(bytes)
    if (decoded._tag === "Foreign") return yield* notADispatcher("its first bytes belong to another protocol")
    if (decoded._tag === "Invalid") return yield* notADispatcher(CloseReason.format(decoded.reason))
    if (decoded._tag === "Complete") {
      source.skip(decoded.length)
      const { value } = decoded
      return value._tag === "Refused" ? yield* refused(value.reason, value.version) : value
    }
    bytes = yield* source.more
  }
})

/** A welcome is short; whoever announces more is no dispatcher. */
const longestWelcome = 65_536

const readWelcome = Effect.fnUntraced(function* (source: Source) {
  let bytes = source.held()
  while (true) {
    if (bytes.length >= Wire.headerLength) {
      const end = Wire.endOf(bytes, 0)
      if (end < Wire.headerLength || end > longestWelcome) return yield* notADispatcher("its first frame is too long")
      if (bytes.length >= end) {
        source.skip(end)
        const frame = Wire.decodeFrame(bytes.subarray(0, end))
        if (frame._tag === "Welcome") return frame
        if (frame._tag === "Close") return yield* refused(frame.reason)
        return yield* notADispatcher("its first frame is not a welcome")
      }
    }
    bytes = yield* source.more
  }
})

const handshake = Effect.fnUntraced(function* (
  source: Source,
  write: (bytes: Uint8Array) => Effect.Effect<void, SessionError.SessionError>,
  { capability, sessionId }: Invitation.Invitation
) {
  const crypto = yield* WebCrypto.WebCrypto
  const nonce = crypto.getRandomValues(new Uint8Array(CapabilityProof.proofLength))
  const capabilityName = CapabilityProof.name(capability)
  yield* write(Wire.encodeHello(new Wire.Hello({ sessionId, capabilityName, nonce, extensions: [] })))
  const challenge = yield* readChallenge(source)
  const claim = { sessionId: SessionId.toBytes(sessionId), clientNonce: nonce, routerNonce: challenge.nonce }
  if (!Bytes.equals(challenge.proof, CapabilityProof.prove(capability, { ...claim, side: "router" }))) {
    // Private addresses are used more than once: this is some other host, and it learns nothing.
    return yield* notADispatcher("it does not know the session's capability")
  }
  yield* write(CapabilityProof.prove(capability, { ...claim, side: "client" }))
  return yield* readWelcome(source)
})

/** Cuts received bytes into frames; yields why it cannot, too. */
const makeReader = (maxDataBytes: number) => {
  const decoder = new Wire.FrameDecoder(maxDataBytes)
  return (chunks: ReadonlyArray<Uint8Array>) => {
    const frames: Array<Wire.Frame> = []
    for (const chunk of chunks) {
      const failure = decoder.push(chunk, (bytes, start, end) => {
        frames.push(Wire.decodeFrame(bytes.subarray(start, end)))
      })
      if (failure !== undefined) frames.push({ _tag: "Invalid", reason: failure, sequence: 0, stamp: 0 })
    }
    return frames
  }
}

/** Connects and shows the invitation; the connection ends with the scope. */
const connect = Effect.fnUntraced(function* (socket: Socket.Socket, invitation: Invitation.Invitation) {
  const ended = yield* Deferred.make<never, SessionError.SessionError>()
  const pull = yield* Effect.mapError(Socket.readerBytes(socket), notOpened)
  const writer = yield* socket.writer
  // A write to a socket that broke while it waited for room would wait for ever.
  const write = (bytes: Uint8Array) =>
    Effect.raceFirst(
      Deferred.await(ended),
      Effect.mapError(writer.write(bytes), () => closed(undefined))
    )
  const source = makeSource(pull)
  const welcome = yield* handshake(source, write, invitation)
  yield* Effect.addFinalizer(() => Deferred.fail(ended, closed(undefined)))
  let rest: Uint8Array | undefined = source.held()
  const next = Effect.suspend(() => {
    const held = rest
    rest = undefined
    if (held !== undefined && held.length > 0) return Effect.succeed(Arr.of(held))
    // A failed read is the end for whoever writes, too.
    return pull.pipe(
      Effect.mapError(() => closed(undefined)),
      Effect.tapError((error) => Deferred.fail(ended, error))
    )
  })
  return { ended, pull: next, write, welcome }
})

/** The control protocol of a dispatcher, after the handshake, as bytes. */
export interface ControlLink {
  /** The next bytes; fails with `Closed` when the connection has ended. */
  readonly pull: Effect.Effect<Arr.NonEmptyReadonlyArray<Uint8Array>, SessionError.SessionError>
  readonly write: (bytes: Uint8Array) => Effect.Effect<void, SessionError.SessionError>
}

/** The same as `open` for what opens the dispatcher's control. */
export const openControl = Effect.fnUntraced(function* (socket: Socket.Socket, capability: Capability.Capability) {
  const invitation = new Invitation.Invitation({ sessionId: Door.control, capability })
  const { pull, write } = yield* connect(socket, invitation)
  const control: ControlLink = { pull, write }
  return control
})

/** Connects and shows the invitation to a session; the connection ends with the scope. */
export const open = Effect.fnUntraced(function* (socket: Socket.Socket, invitation: Invitation.Invitation) {
  const { ended, pull, welcome, write } = yield* connect(socket, invitation)
  const read = makeReader(Math.max(welcome.maxDataBytes, Wire.snapshotHeaderLength + longestWelcome))
  let waitingSince: number | undefined
  const received = Effect.flatMap(Monotonic.millis, (now) => {
    waitingSince = now
    return pull
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        waitingSince = undefined
      })
    )
  )
  const link: Link = {
    welcome,
    request: (facet, data) => {
      const granted = welcome.facets[facet]
      return granted === undefined
        ? Effect.fail(SessionError.fromReason(new SessionError.NotGranted({ facet })))
        : write(Wire.encodeRequest(granted, data))
    },
    reply: (facet, data) => write(Wire.encodeRequest(facet, data)),
    pull: Effect.map(received, read),
    ended: Deferred.await(ended),
    silence: Effect.map(Monotonic.millis, (now) => (waitingSince === undefined ? 0 : now - waitingSince))
  }
  return link
})
