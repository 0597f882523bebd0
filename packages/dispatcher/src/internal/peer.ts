/**
 * One connection of the dispatcher, from its first byte to its last: handshake, membership, orderly end.
 *
 * Everything runs in the callbacks of the connection; only the time limits are the work of fibers.
 */
import * as Duration from "effect/Duration"
import type * as CloseReason from "../CloseReason.ts"
import type * as SessionId from "../SessionId.ts"
import type * as TcpListener from "../TcpListener.ts"
import * as Wire from "../Wire.ts"
import * as Bytes from "./bytes.ts"
import type * as MessageRouter from "./messageRouter.ts"
import * as Outbox from "./outbox.ts"

/** What a peer needs of the dispatcher that it belongs to. */
export interface Host {
  readonly limits: Limits
  readonly acceptedReply: Uint8Array
  /** How many peers are before the end of their handshake. */
  handshakes: number
  /** How many refused peers are being told so. */
  refusals: number
  readonly routerOf: (id: SessionId.SessionId) => MessageRouter.MessageRouter | undefined
  /** Runs a task later, unless cancelled before. */
  readonly after: (time: Duration.Duration, task: () => void) => () => void
  /** In milliseconds of a clock that is never set back. */
  readonly now: () => number
  readonly onGone: (peer: Peer) => void
}

export interface Limits {
  readonly maxFrameBytes: number
  readonly maxBacklogBytes: number
  readonly maxMembers: number
  readonly maxHandshakes: number
  readonly handshakeTimeout: Duration.Duration
  readonly stallTimeout: Duration.Duration
  readonly closeTimeout: Duration.Duration
}

/** `refused` and `leaving` wait for the last bytes to go out; what still comes in is thrown away. */
type Phase = "new" | "handshake" | "joined" | "refused" | "leaving" | "gone"

/**
 * A member that is behind by so many bytes is not read from until it has caught up. It gets all that it sends back,
 * so a fast sender is held to the pace of its own reading and never cut off for it; no other member waits.
 */
const pauseAtBacklogBytes = 262_144

const nothing = new Uint8Array(0)
const noop = () => {}

export class Peer implements TcpListener.ConnectionHandler, MessageRouter.Member {
  private readonly host: Host
  private readonly connection: TcpListener.Connection
  private readonly outbox: Outbox.Outbox
  private phase: Phase = "new"
  private hello: Uint8Array = nothing
  private router: MessageRouter.MessageRouter | undefined = undefined
  private decoder: Wire.FrameDecoder | undefined = undefined
  private paused = false
  /** When this member was paused, or last took something. */
  private progressAt = 0
  private watched = false
  private cancelTimer: () => void = noop
  private readonly onFrame = (frame: Uint8Array) => this.take(frame)

  constructor(host: Host, connection: TcpListener.Connection) {
    this.host = host
    this.connection = connection
    this.outbox = new Outbox.Outbox(connection, host.limits.maxBacklogBytes, {
      onProgress: () => this.noteProgress(),
      onDrained: () => this.readOn()
    })
  }

  /** Begins the handshake, with its time limit. */
  start(): void {
    if (this.host.handshakes >= this.host.limits.maxHandshakes) return this.refuse("TooManyHandshakes")
    this.phase = "handshake"
    this.host.handshakes++
    this.cancelTimer = this.host.after(this.host.limits.handshakeTimeout, () => this.onHandshakeTimeout())
  }

  onData(chunk: Uint8Array): void {
    if (this.phase === "joined") return this.read(chunk)
    if (this.phase === "handshake") this.readHello(chunk)
  }

  onEnd(): void {
    if (this.phase === "handshake") return this.drop()
    if (this.phase !== "joined") return
    this.leave()
    this.outbox.end()
  }

  onClose(): void {
    if (this.phase === "gone") return
    this.cancelTimer()
    const phase = this.phase
    // First of all: leaving delivers what is pending, and nothing must be written to this connection any more.
    this.phase = "gone"
    if (phase === "handshake") this.host.handshakes--
    if (phase === "refused") this.host.refusals--
    this.router?.leave(this)
    this.host.onGone(this)
  }

  deliver(block: Uint8Array): void {
    if (this.phase !== "joined") return
    if (!this.outbox.send(block)) return this.close("TooSlow")
    if (this.paused || this.outbox.backlog < pauseAtBacklogBytes) return
    this.paused = true
    this.connection.pause()
    this.progressAt = this.host.now()
    if (!this.watched) this.watch(this.host.limits.stallTimeout)
  }

  /** Tells the peer why and ends its connection, in whatever phase it is. */
  close(reason: CloseReason.Refusal): void {
    if (this.phase === "new" || this.phase === "handshake") return this.refuse(reason)
    if (this.phase !== "joined") return
    this.leave()
    this.outbox.endWith(Wire.encodeClose(reason))
  }

  private readHello(chunk: Uint8Array): void {
    const bytes = this.hello.length === 0 ? chunk : Bytes.concat([this.hello, chunk])
    const decoded = Wire.decodeHello(bytes)
    switch (decoded._tag) {
      case "Incomplete":
        // At most a hello with all its extensions is ever held.
        this.hello = bytes
        return
      case "Foreign":
        // Whoever speaks another protocol gets no answer in ours.
        return this.drop()
      case "Invalid":
        return this.refuse(decoded.reason)
      case "Complete":
        this.hello = nothing
        return this.admit(decoded.value, bytes.subarray(decoded.length))
    }
  }

  private admit(hello: Wire.Hello, rest: Uint8Array): void {
    if (hello.extensions.some(Wire.isRequired)) return this.refuse("UnsupportedExtension")
    const router = this.host.routerOf(hello.sessionId)
    if (router === undefined) return this.refuse("UnknownSession")
    if (router.size >= this.host.limits.maxMembers) return this.refuse("SessionFull")
    this.endHandshake()
    this.phase = "joined"
    this.router = router
    this.decoder = new Wire.FrameDecoder(this.host.limits.maxFrameBytes)
    this.outbox.send(this.host.acceptedReply)
    router.join(this)
    if (rest.length > 0) this.read(rest)
  }

  private read(chunk: Uint8Array): void {
    const failure = this.decoder?.push(chunk, this.onFrame)
    if (failure !== undefined) this.close(failure)
  }

  private take(frame: Uint8Array): void {
    // An earlier frame of the same chunk may have ended this connection.
    if (this.phase !== "joined") return
    const type = Wire.frameType(frame)
    if (type === Wire.messageFrame) return this.router?.relay(frame)
    if (type === Wire.closeFrame) return this.onEnd()
    if ((type & Wire.ignorableFrame) === 0) this.close("UnknownFrameType")
  }

  private readOn(): void {
    if (!this.paused) return
    this.paused = false
    if (this.phase !== "gone") this.connection.resume()
  }

  private noteProgress(): void {
    if (this.paused) this.progressAt = this.host.now()
  }

  /**
   * One timer outlives many pauses and asks, when it ends, how long nothing has moved: a member that keeps up with a
   * fast session is paused thousands of times a second.
   */
  private watch(time: Duration.Duration): void {
    this.watched = true
    this.cancelTimer = this.host.after(time, () => this.onWatched())
  }

  private onWatched(): void {
    this.watched = false
    if (this.phase !== "joined" || !this.paused) return
    const left = Duration.toMillis(this.host.limits.stallTimeout) - (this.host.now() - this.progressAt)
    if (left <= 0) return this.close("TooSlow")
    this.watch(Duration.millis(left))
  }

  private onHandshakeTimeout(): void {
    if (this.phase !== "handshake") return
    // Less than the magic may be the start of anything: no answer in our protocol then.
    if (this.hello.length < Wire.magic.length) return this.drop()
    this.refuse("HandshakeTimeout")
  }

  private refuse(reason: CloseReason.Refusal): void {
    this.endHandshake()
    this.hello = nothing
    // A flood of refused connections must not be kept for the sake of politeness.
    if (this.host.refusals >= this.host.limits.maxHandshakes) return this.drop()
    this.phase = "refused"
    this.host.refusals++
    this.outbox.endWith(Wire.encodeRefused(reason))
    this.dropLater()
  }

  private leave(): void {
    const router = this.router
    this.router = undefined
    router?.leave(this)
    this.phase = "leaving"
    this.decoder = undefined
    this.readOn()
    this.dropLater()
  }

  private endHandshake(): void {
    if (this.phase !== "handshake") return
    this.host.handshakes--
    this.phase = "new"
    this.cancelTimer()
    this.cancelTimer = noop
  }

  /**
   * A connection closed with bytes unread is reset, and a reset overtakes the reason just sent. So the peer gets some
   * time to read it and to close its side.
   */
  private dropLater(): void {
    this.cancelTimer()
    this.cancelTimer = this.host.after(this.host.limits.closeTimeout, () => this.drop())
  }

  private drop(): void {
    this.connection.destroy()
  }
}
