/**
 * The client's side of a session: joins it over a socket, sends messages to all members and receives theirs.
 *
 * It runs on any `Socket` of Effect and imports nothing of Node; `NodeSession.connect` opens the TCP connection.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import * as CloseReason from "./CloseReason.ts"
import type * as SessionId from "./SessionId.ts"
import * as Wire from "./Wire.ts"

/**
 * No connection to the dispatcher's address can be made.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>("@effect-nat/dispatcher/Unreachable")("Unreachable", {
  detail: Schema.String
}) {
  override get message(): string {
    return `the dispatcher cannot be reached: ${this.detail}`
  }
}

/**
 * The dispatcher did not answer in time.
 *
 * @category errors
 * @since 0.1.0
 */
export class TimedOut extends Schema.TaggedError<TimedOut>("@effect-nat/dispatcher/TimedOut")("TimedOut", {
  /** The time limit, in milliseconds. */
  milliseconds: Schema.Finite
}) {
  override get message(): string {
    return `the dispatcher did not answer within ${this.milliseconds} ms`
  }
}

/**
 * What answered at the address is no dispatcher, or breaks the wire's rules.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotADispatcher extends Schema.TaggedError<NotADispatcher>("@effect-nat/dispatcher/NotADispatcher")(
  "NotADispatcher",
  { detail: Schema.String }
) {
  override get message(): string {
    return `what answered is no dispatcher: ${this.detail}`
  }
}

/**
 * The dispatcher has no session with this id.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownSession extends Schema.TaggedError<UnknownSession>("@effect-nat/dispatcher/UnknownSession")(
  "UnknownSession",
  {}
) {
  override get message(): string {
    return "the dispatcher has no session with this id: check the id, and that the session still runs"
  }
}

/**
 * The dispatcher speaks other versions of the wire only.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnsupportedVersion extends Schema.TaggedError<UnsupportedVersion>(
  "@effect-nat/dispatcher/UnsupportedVersion"
)("UnsupportedVersion", {
  /** The highest version that the dispatcher speaks. */
  version: Schema.Int
}) {
  override get message(): string {
    return `the dispatcher speaks version ${this.version} of the protocol, this program version ${Wire.version}`
  }
}

/**
 * The dispatcher refused for another reason, for example because the session is full.
 *
 * @category errors
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedError<Refused>("@effect-nat/dispatcher/Refused")("Refused", {
  reason: CloseReason.CloseReason
}) {
  override get message(): string {
    return `the dispatcher refused: ${CloseReason.format(this.reason)}`
  }
}

/**
 * The connection ended after it had been joined: by the dispatcher, with its reason, or, where that is `undefined`,
 * without a word, as when a network fails.
 *
 * @category errors
 * @since 0.1.0
 */
export class Closed extends Schema.TaggedError<Closed>("@effect-nat/dispatcher/Closed")("Closed", {
  reason: Schema.UndefinedOr(CloseReason.CloseReason)
}) {
  override get message(): string {
    return this.reason === undefined
      ? "the connection to the dispatcher broke"
      : `the connection was closed: ${CloseReason.format(this.reason)}`
  }
}

/**
 * A message is larger than the dispatcher takes. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class MessageTooLarge extends Schema.TaggedError<MessageTooLarge>("@effect-nat/dispatcher/MessageTooLarge")(
  "MessageTooLarge",
  {
    /** The size of the message, in bytes. */
    size: Schema.Int,
    /** The largest message, in bytes. */
    limit: Schema.Int
  }
) {
  override get message(): string {
    return `a message of ${this.size} bytes is too large: the dispatcher takes ${this.limit}`
  }
}

/**
 * Everything that can go wrong with a session.
 *
 * @category schemas
 * @since 0.1.0
 */
export const SessionErrorReason = Schema.Union([
  Unreachable,
  TimedOut,
  NotADispatcher,
  UnknownSession,
  UnsupportedVersion,
  Refused,
  Closed,
  MessageTooLarge
])

/**
 * Everything that can go wrong with a session.
 *
 * @category models
 * @since 0.1.0
 */
export type SessionErrorReason = typeof SessionErrorReason.Type

/**
 * The error of a session. Recover from single reasons with `Effect.catchReason("SessionError", "Closed", …)`.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionError extends Schema.TaggedError<SessionError>("@effect-nat/dispatcher/SessionError")(
  "SessionError",
  { reason: SessionErrorReason }
) {
  override get message(): string {
    return this.reason.message
  }
}

/**
 * A joined session. It is left when the scope that it was joined in closes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Session {
  readonly id: SessionId.SessionId
  /** The largest message that can be sent, in bytes. */
  readonly maxMessageBytes: number
  /**
   * The messages of all members, this one's own included, in the order that is the same for all. Fails with `Closed`
   * when the connection ends, after the last message; ends when the session is left. Each message is given once: run
   * the stream once. A program that does not run it is cut off as too slow in the end.
   */
  readonly messages: Stream.Stream<Uint8Array, SessionError>
  /**
   * Sends a message to all members, this one included; succeeds when it is handed to the connection. Fails with
   * `MessageTooLarge` and `Closed`.
   */
  readonly send: (message: Uint8Array) => Effect.Effect<void, SessionError>
}

/**
 * How a session is joined.
 *
 * @category models
 * @since 0.1.0
 */
export interface JoinOptions {
  readonly sessionId: SessionId.SessionId
  /** How long connecting and handshake may take together. Defaults to 5 seconds. */
  readonly handshakeTimeout?: Duration.Input | undefined
  /** The largest frame that this client takes, in bytes after its length field. Defaults to what the dispatcher says. */
  readonly maxFrameBytes?: number | undefined
}

/**
 * The time limit of a handshake whose options name none: 5 seconds.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultHandshakeTimeout: Duration.Duration = Duration.seconds(5)

/** In batches of what one read gave, at most 64 KiB each beside a large message: then the network has to wait. */
const bufferedBatches = 16

const fromReason = (reason: SessionErrorReason) => new SessionError({ reason })

const closed = (reason: CloseReason.CloseReason | undefined) => fromReason(new Closed({ reason }))

const unreachable = (error: Socket.SocketError) => {
  const cause = error.reason.cause
  return fromReason(new Unreachable({ detail: cause instanceof Error ? cause.message : error.message }))
}

const notADispatcher = (detail: string) => fromReason(new NotADispatcher({ detail }))

const refused = (reply: Wire.Refused) => {
  if (reply.reason === "UnknownSession") return fromReason(new UnknownSession())
  if (reply.reason === "UnsupportedVersion") return fromReason(new UnsupportedVersion({ version: reply.version }))
  return fromReason(new Refused({ reason: reply.reason }))
}

type Pull = Effect.Effect<Arr.NonEmptyReadonlyArray<Uint8Array>, Socket.SocketError>

const concat = (blocks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const bytes = new Uint8Array(blocks.reduce((total, block) => total + block.length, 0))
  let offset = 0
  for (const block of blocks) {
    bytes.set(block, offset)
    offset += block.length
  }
  return bytes
}

/** Reads until the reply is there; yields it and the bytes after it. */
const readReply = Effect.fnUntraced(function* (pull: Pull) {
  let bytes: Uint8Array = new Uint8Array(0)
  while (true) {
    const decoded = Wire.decodeReply(bytes)
    if (decoded._tag === "Foreign") return yield* notADispatcher("its first bytes belong to another protocol")
    if (decoded._tag === "Invalid") return yield* notADispatcher(CloseReason.format(decoded.reason))
    if (decoded._tag === "Complete") return { reply: decoded.value, rest: bytes.subarray(decoded.length) }
    const received = yield* Effect.mapError(pull, () => notADispatcher("it closed the connection without an answer"))
    bytes = concat([bytes, ...received])
  }
})

const handshake = Effect.fnUntraced(function* (socket: Socket.Socket, options: JoinOptions) {
  const pull = yield* Effect.mapError(Socket.readerBytes(socket), unreachable)
  const writer = yield* socket.writer
  const hello = Wire.encodeHello(new Wire.Hello({ sessionId: options.sessionId, extensions: [] }))
  yield* Effect.mapError(writer.write(hello), unreachable)
  const { reply, rest } = yield* readReply(pull)
  if (reply._tag === "Refused") return yield* refused(reply)
  return { pull, writer, rest, maxFrameBytes: reply.maxFrameBytes }
})

type Joined = Effect.Success<ReturnType<typeof handshake>>

/** Cuts received bytes into messages, up to the frame that ends the connection. */
const makeReader = (maxFrameBytes: number) => {
  const decoder = new Wire.FrameDecoder(maxFrameBytes)
  let end: SessionError | undefined
  return (chunks: ReadonlyArray<Uint8Array>) => {
    const messages: Array<Uint8Array> = []
    const onFrame = (bytes: Uint8Array) => {
      if (end !== undefined) return
      const frame = Wire.decodeFrame(bytes)
      if (frame._tag === "Message") messages.push(frame.payload)
      if (frame._tag === "Close") end = closed(frame.reason)
      if (frame._tag === "Other" && !frame.ignorable) end = closed("UnknownFrameType")
    }
    for (const chunk of chunks) {
      const failure = decoder.push(chunk, onFrame)
      if (failure !== undefined) end ??= closed(failure)
    }
    return { messages, end }
  }
}

/** Reads until the connection ends; fails with why. */
const readMessages = Effect.fnUntraced(function* (
  joined: Joined,
  options: JoinOptions,
  onMessages: (messages: Arr.NonEmptyReadonlyArray<Uint8Array>) => Effect.Effect<unknown>
): Effect.fn.Return<never, SessionError> {
  const read = makeReader(options.maxFrameBytes ?? joined.maxFrameBytes)
  let chunks: ReadonlyArray<Uint8Array> = [joined.rest]
  while (true) {
    const { end, messages } = read(chunks)
    if (Arr.isReadonlyArrayNonEmpty(messages)) yield* onMessages(messages)
    if (end !== undefined) return yield* end
    chunks = yield* Effect.mapError(joined.pull, () => closed(undefined))
  }
})

const run = Effect.fnUntraced(function* (joined: Joined, options: JoinOptions) {
  const queue = yield* Effect.acquireRelease(
    Queue.bounded<Arr.NonEmptyReadonlyArray<Uint8Array>, SessionError | Cause.Done>(bufferedBatches),
    Queue.end
  )
  const ended = yield* Deferred.make<never, SessionError>()
  yield* readMessages(joined, options, (messages) => Queue.offer(queue, messages)).pipe(
    Effect.catch((error) =>
      // The socket is of no more use; its scope may stay open for long.
      joined.writer
        .write(new Socket.CloseEvent(1000))
        .pipe(Effect.ignore, Effect.andThen(Deferred.fail(ended, error)), Effect.andThen(Queue.fail(queue, error)))
    ),
    Effect.forkScoped
  )
  const maxMessageBytes = joined.maxFrameBytes - 1
  const send = Effect.fnUntraced(function* (message: Uint8Array) {
    if (message.length > maxMessageBytes) {
      return yield* fromReason(new MessageTooLarge({ size: message.length, limit: maxMessageBytes }))
    }
    // A write to a socket that broke while it waited for room would wait for ever.
    yield* Effect.raceFirst(
      Deferred.await(ended),
      Effect.mapError(joined.writer.write(Wire.encodeMessage(message)), () => closed(undefined))
    )
  })
  return {
    id: options.sessionId,
    maxMessageBytes,
    messages: Stream.flattenArray(Stream.fromQueue(queue)),
    send
  } satisfies Session
})

const joinWithin = Effect.fnUntraced(function* (socket: Socket.Socket, options: JoinOptions) {
  const limit = options.handshakeTimeout ?? defaultHandshakeTimeout
  const joined = yield* Effect.timeoutOrElse(handshake(socket, options), {
    duration: limit,
    orElse: () => Effect.fail(fromReason(new TimedOut({ milliseconds: Duration.toMillis(limit) })))
  })
  return yield* run(joined, options)
})

/**
 * Joins a session over a socket and stays in it until the scope closes. Fails with `Unreachable`, `TimedOut`,
 * `NotADispatcher`, `UnknownSession`, `UnsupportedVersion` and `Refused`; the connection is closed then.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromSocket = Effect.fn("Session.fromSocket")(function* (
  socket: Socket.Socket,
  options: JoinOptions
): Effect.fn.Return<Session, SessionError, Scope.Scope> {
  const own = yield* Scope.fork(yield* Effect.scope)
  return yield* joinWithin(socket, options).pipe(
    Scope.provide(own),
    Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
  )
})
