/**
 * One connection of the dispatcher, from its first byte to its last: handshake, membership, orderly end.
 *
 * Everything runs in the callbacks of the connection; only the time limits are the work of fibers.
 */
import * as Duration from "effect/Duration"
import * as Hex from "effect/encoding/Hex"
import * as NetAddress from "effect/net/NetAddress"
import * as CapabilityProof from "../CapabilityProof.ts"
import type * as CloseReason from "../CloseReason.ts"
import * as Facet from "../Facet.ts"
import * as SessionId from "@effect-nat/core/SessionId"
import type * as TcpListener from "../TcpListener.ts"
import * as Wire from "../Wire.ts"
import * as Bytes from "./bytes.ts"
import * as Door from "./door.ts"
import type * as MessageRouter from "./messageRouter.ts"
import * as Outbox from "./outbox.ts"
import type * as SnapshotRelay from "./snapshotRelay.ts"
import type * as Traffic from "./traffic.ts"

/** What a peer needs of the dispatcher that it belongs to. */
export interface Host {
  readonly limits: Limits
  readonly traffic: Traffic.Traffic
  /** How many peers are before the end of their handshake. */
  handshakes: number
  /** How many refused peers are being told so. */
  refusals: number
  /** What is behind a session's id and the name of a capability, in hexadecimal digits; or why there is nothing. */
  readonly doorOf: (id: SessionId.SessionId, name: string) => Door.Door | "UnknownSession" | "NotGranted"
  /** Makes a session for somebody who may have it made, then calls back; never, when the dispatcher ends before. */
  readonly createSession: (id: SessionId.SessionId, then: (refusal: CloseReason.Refusal | undefined) => void) => void
  /** Takes over the bytes of a connection that controls the dispatcher; none where there are too many. */
  readonly openControl: (grant: Door.ControlGrant, peer: Peer) => Door.ControlPort | undefined
  /** A member has come in. */
  readonly onAdmitted: (peer: Peer) => void
  readonly randomBytes: (length: number) => Uint8Array
  /** Runs a task later, unless cancelled before. */
  readonly after: (time: Duration.Duration, task: () => void) => () => void
  /** In milliseconds of a clock that is never set back. */
  readonly now: () => number
  /** A handshake or a request for a snapshot is over, that began at a time of `now`. */
  readonly trace: (what: "handshake" | "snapshot", beganAt: number, outcome: string) => void
  readonly onGone: (peer: Peer) => void
}

export interface Limits {
  readonly maxDataBytes: number
  readonly maxBacklogBytes: number
  readonly maxMembers: number
  readonly maxHandshakes: number
  readonly handshakeTimeout: Duration.Duration
  readonly stallTimeout: Duration.Duration
  readonly closeTimeout: Duration.Duration
  readonly minTickInterval: Duration.Duration
}

/** `refused` and `leaving` wait for the last bytes to go out; what still comes in is thrown away. */
type Phase = "new" | "hello" | "proof" | "creating" | "member" | "control" | "refused" | "leaving" | "gone"

/** What a handshake is about, until it is over. */
interface Handshake {
  readonly beganAt: number
  bytes: Uint8Array
  /** What the client has to send, once it was challenged. */
  proof: Uint8Array
  sessionId: SessionId.SessionId
  /** The name of the capability, in hexadecimal digits. */
  name: string
  /** What it is to open, once the client was challenged. */
  door: Door.Door | undefined
}

/**
 * A member that is behind by so many bytes is not read from until it has caught up. It gets all that it sends back,
 * so a fast sender is held to the pace of its own reading and never cut off for it; no other member waits.
 */
const pauseAtBacklogBytes = 262_144

/** A member that is behind by so much gets no ticks: the messages that wait tell it the time. */
const mostBeforeTick = 65_536

const nothing = new Uint8Array(0)
const noFacets: ReadonlyArray<number> = []
const noLife = new Uint8Array(8)
const noop = () => {}

export class Peer implements TcpListener.ConnectionHandler, MessageRouter.Member {
  /** Whose connections are counted together with this one; `undefined` where they are not counted. */
  readonly address: string | undefined
  private readonly host: Host
  private readonly connection: TcpListener.Connection
  private readonly outbox: Outbox.Outbox
  private phase: Phase = "new"
  private handshake: Handshake | undefined = undefined
  private router: MessageRouter.MessageRouter | undefined = undefined
  private controlPort: Door.ControlPort | undefined = undefined
  private decoder: Wire.FrameDecoder | undefined = undefined
  /** The facets of this connection, four words each, one after the other. No typed array: that costs more than it holds. */
  private facets: ReadonlyArray<number> = noFacets
  private paused = false
  /** When this member was paused, or last took something. */
  private progressAt = 0
  private watched = false
  private cancelTimer: () => void = noop
  private whenCaughtUp: (() => void) | undefined = undefined
  private syncBeganAt = 0

  constructor(host: Host, connection: TcpListener.Connection, address: string | undefined) {
    this.host = host
    this.connection = connection
    this.address = address
    this.outbox = new Outbox.Outbox(connection, host.limits.maxBacklogBytes, this, host.traffic)
  }

  /** Begins the handshake, with its time limit. */
  start(): void {
    if (this.host.handshakes >= this.host.limits.maxHandshakes) return this.refuse("TooManyHandshakes")
    this.phase = "hello"
    this.host.handshakes++
    this.handshake = {
      beganAt: this.host.now(),
      bytes: nothing,
      proof: nothing,
      sessionId: Door.control,
      name: "",
      door: undefined
    }
    this.cancelTimer = this.host.after(this.host.limits.handshakeTimeout, () => this.onHandshakeTimeout())
  }

  onData(chunk: Uint8Array): void {
    this.host.traffic.bytesIn += chunk.length
    if (this.phase === "member") return this.read(chunk)
    if (this.phase === "control") return this.controlPort?.receive(chunk)
    // Nothing may come before the welcome.
    if (this.handshake === undefined || this.phase === "creating") return
    const bytes = this.handshake.bytes.length === 0 ? chunk : Bytes.concat([this.handshake.bytes, chunk])
    if (this.phase === "hello") return this.readHello(this.handshake, bytes)
    if (this.phase === "proof") this.readProof(this.handshake, bytes)
  }

  onEnd(): void {
    if (this.handshake !== undefined) return this.drop()
    if (this.phase === "control") this.controlPort?.ended()
    if (this.phase !== "member") return
    this.leave("Done")
    this.outbox.end()
  }

  onClose(): void {
    if (this.phase === "gone") return
    this.cancelTimer()
    const isUnexplained = this.phase === "member" || this.phase === "control" || this.handshake !== undefined
    this.endHandshake("gone")
    if (this.phase === "refused") this.host.refusals--
    // First of all: what happens now writes to nobody who is gone.
    this.phase = "gone"
    if (isUnexplained) this.host.traffic.closed("Unknown")
    this.router?.forget(this)
    this.router = undefined
    this.endControlPort()
    this.host.onGone(this)
  }

  offer(block: Uint8Array): boolean {
    if (this.phase !== "member") return true
    if (!this.outbox.send(block)) return false
    if (!this.paused && this.outbox.backlog >= pauseAtBacklogBytes) this.pause()
    return true
  }

  deliver(block: Uint8Array): void {
    if (!this.offer(block)) this.close("TooSlow")
  }

  tick(frame: Uint8Array): void {
    if (this.outbox.backlog >= mostBeforeTick || !this.offer(frame)) this.host.traffic.droppedTicks++
  }

  whenReady(task: () => void): void {
    if (this.phase === "leaving" || this.phase === "gone" || this.outbox.backlog < pauseAtBacklogBytes) return task()
    this.whenCaughtUp = task
  }

  onSynced(outcome: SnapshotRelay.Outcome): void {
    this.host.trace("snapshot", this.syncBeganAt, outcome)
  }

  /** Tells the peer why and ends its connection, in whatever phase it is. */
  close(reason: CloseReason.Refusal): void {
    if (this.phase === "new" || this.handshake !== undefined) return this.refuse(reason)
    if (this.phase === "control") return this.endControl(reason)
    if (this.phase !== "member" || this.router === undefined) return
    const last = Wire.encodeClose(this.router.envelope(), reason)
    // To number the last frame was to deliver what was pending, and that may have been too much.
    if (this.phase !== "member") return
    this.leave(reason)
    this.outbox.endWith(last)
  }

  onProgress(): void {
    if (this.paused || this.phase === "control") this.progressAt = this.host.now()
    if (this.whenCaughtUp !== undefined && this.outbox.backlog < pauseAtBacklogBytes) {
      const task = this.whenCaughtUp
      this.whenCaughtUp = undefined
      task()
    }
  }

  onDrained(): void {
    if (!this.paused) return
    this.paused = false
    if (this.phase !== "gone") this.connection.resume()
  }

  private readHello(handshake: Handshake, bytes: Uint8Array): void {
    const decoded = Wire.decodeHello(bytes)
    switch (decoded._tag) {
      case "Incomplete":
        // At most a hello with all its extensions is ever held.
        handshake.bytes = bytes
        return
      case "Foreign":
        // Whoever speaks another protocol gets no answer in ours.
        return this.dismiss("Malformed")
      case "Invalid":
        return this.refuse(decoded.reason)
      case "Complete":
        return this.challenge(handshake, decoded.value, bytes.subarray(decoded.length))
    }
  }

  private challenge(handshake: Handshake, hello: Wire.Hello, rest: Uint8Array): void {
    if (hello.extensions.some(Wire.isRequired)) return this.refuse("UnsupportedExtension")
    const name = Hex.encode(hello.capabilityName)
    const door = this.host.doorOf(hello.sessionId, name)
    if (typeof door === "string") return this.refuse(door)
    const claim = {
      sessionId: SessionId.toBytes(hello.sessionId),
      clientNonce: hello.nonce,
      routerNonce: this.host.randomBytes(CapabilityProof.proofLength)
    }
    const proof = CapabilityProof.prove(door.grant.capability, { ...claim, side: "router" })
    handshake.proof = CapabilityProof.prove(door.grant.capability, { ...claim, side: "client" })
    handshake.door = door
    handshake.sessionId = hello.sessionId
    handshake.name = name
    handshake.bytes = nothing
    this.phase = "proof"
    this.outbox.send(Wire.encodeChallenge(new Wire.Challenge({ nonce: claim.routerNonce, proof, extensions: [] })))
    if (rest.length > 0) this.readProof(handshake, rest)
  }

  private readProof(handshake: Handshake, bytes: Uint8Array): void {
    const { proofLength } = CapabilityProof
    handshake.bytes = bytes
    if (bytes.length < proofLength) return
    if (!Bytes.equals(bytes.subarray(0, proofLength), handshake.proof)) return this.refuse("NotGranted")
    this.admit(handshake, bytes.subarray(proofLength))
  }

  /** What is behind the door now: it may have been revoked meanwhile, and the session may be over, or begun. */
  private admit(handshake: Handshake, rest: Uint8Array): void {
    const door = this.host.doorOf(handshake.sessionId, handshake.name)
    if (typeof door === "string") return this.refuse(door)
    if (door.grant.capability !== handshake.door?.grant.capability) return this.refuse("NotGranted")
    switch (door._tag) {
      case "Session":
        return this.enter(door.router, door.grant, rest)
      case "NewSession":
        return this.create(handshake, rest)
      case "Control":
        return this.control(door.grant, rest)
    }
  }

  private create(handshake: Handshake, rest: Uint8Array): void {
    this.phase = "creating"
    this.connection.pause()
    this.host.createSession(handshake.sessionId, (refusal) => {
      // Its time may be over.
      if (this.handshake !== handshake) return
      this.connection.resume()
      this.phase = "proof"
      if (refusal !== undefined) return this.refuse(refusal)
      const door = this.host.doorOf(handshake.sessionId, handshake.name)
      if (typeof door === "string" || door._tag !== "Session") return this.refuse("UnknownSession")
      this.enter(door.router, door.grant, rest)
    })
  }

  private enter(router: MessageRouter.MessageRouter, grant: MessageRouter.Grant, rest: Uint8Array): void {
    if (router.size >= this.host.limits.maxMembers) return this.refuse("SessionFull")
    this.endHandshake("Done")
    this.router = router
    this.phase = "member"
    this.decoder = new Wire.FrameDecoder(this.host.limits.maxDataBytes)
    router.enter(this, grant)
    this.host.onAdmitted(this)
    this.welcome(router, grant)
    if (rest.length > 0) this.read(rest)
  }

  private control(grant: Door.ControlGrant, rest: Uint8Array): void {
    const port = this.host.openControl(grant, this)
    if (port === undefined) return this.refuse("TooManyConnections")
    this.endHandshake("Done")
    this.controlPort = port
    this.phase = "control"
    const envelope = { sequence: 0, stamp: Math.floor(this.host.now() * 1000) }
    this.outbox.send(Wire.encodeWelcome(envelope, {}, noLife, this.host.limits.maxDataBytes))
    if (rest.length > 0) port.receive(rest)
  }

  /** Whose control is over is told by the end of its connection: the control protocol has no word for it. */
  private endControl(reason: CloseReason.Sendable): void {
    this.host.traffic.closed(reason)
    this.phase = "leaving"
    this.endControlPort()
    this.outbox.end()
    this.dropLater()
  }

  /** Whoever waits to be told that there is room would wait for ever. */
  private endControlPort(): void {
    const task = this.controlPort === undefined ? undefined : this.whenCaughtUp
    this.controlPort?.ended()
    this.controlPort = undefined
    this.whenCaughtUp = undefined
    task?.()
  }

  /** Sends bytes of the control protocol; `false` where too much waits already, and then the connection ends. */
  sendControl(bytes: Uint8Array): boolean {
    if (this.phase !== "control") return true
    const wasBehind = this.isBehind
    if (!this.outbox.send(bytes)) {
      this.endControl("TooSlow")
      return false
    }
    if (this.isBehind && !wasBehind) {
      this.progressAt = this.host.now()
      if (!this.watched) this.watch(this.host.limits.stallTimeout)
    }
    return true
  }

  /** Whoever controls the dispatcher has said all that it wanted to. */
  leaveControl(): void {
    if (this.phase === "control") this.endControl("Done")
  }

  /** Reads no more, or on again, where the control protocol falls behind. */
  holdControl(isHeld: boolean): void {
    if (this.phase !== "control") return
    if (isHeld) this.connection.pause()
    else this.connection.resume()
  }

  /** Where the peer is, as far as it is known. */
  get requester(): {
    readonly source: NetAddress.IpAddress | undefined
    readonly receivedOn: NetAddress.IpAddress | undefined
  } {
    const { isForwarded, localAddress, remoteAddress } = this.connection
    const source = remoteAddress?.address
    if (!isForwarded) return { source, receivedOn: localAddress?.address }
    // The forwarder has received it, and what is loopback to the forwarder need not be this host.
    return { source: source !== undefined && NetAddress.isLoopback(source) ? undefined : source, receivedOn: undefined }
  }

  get isForwarded(): boolean {
    return this.connection.isForwarded
  }

  private welcome(router: MessageRouter.MessageRouter, { facets }: MessageRouter.Grant): void {
    const { byteLength } = Facet
    const random = this.host.randomBytes(Facet.all.length * byteLength)
    const granted: { [F in Facet.Facet]?: Uint8Array } = {}
    Facet.all.forEach((facet, index) => {
      const bytes = random.subarray(index * byteLength, (index + 1) * byteLength)
      if (facets.has(facet)) granted[facet] = bytes
      else bytes.fill(0)
    })
    this.facets = Array.from({ length: random.length / 4 }, (_, index) => wordAt(random, index * 4))
    this.deliver(Wire.encodeWelcome(router.envelope(), granted, router.life, this.host.limits.maxDataBytes))
  }

  private read(chunk: Uint8Array): void {
    const failure = this.decoder?.push(chunk, this.take)
    if (failure !== undefined) this.close(failure)
  }

  private readonly take = (bytes: Uint8Array, start: number, end: number): void => {
    const { router } = this
    // An earlier request of the same chunk may have ended this membership.
    if (this.phase !== "member" || router === undefined) return
    if (!Wire.isIntact(bytes, start, end)) return this.close("BadChecksum")
    const facet = facetAt(this.facets, bytes, start + 8)
    if (facet === sendIndex) return router.relay(bytes, start, end)
    if (facet < 0) {
      if (!router.snapshots.answer(this, bytes, start, end)) this.close("UnknownFacet")
      return
    }
    this.obey(router, Facet.all[facet] ?? "leave", bytes.subarray(start + Wire.headerLength, end))
  }

  private obey(router: MessageRouter.MessageRouter, facet: Facet.Facet, data: Uint8Array): void {
    switch (facet) {
      case "send":
        return
      case "join":
        return this.join(router, data)
      case "sync":
        if (!router.snapshots.isAsking(this)) this.syncBeganAt = this.host.now()
        return router.sync(this)
      case "heartbeat":
        return this.setHeartbeat(router, data)
      case "beServer":
        return router.snapshots.serve(this, data[0] !== 0)
      case "leave":
        this.leave("Done")
        return this.outbox.end()
      case "timeStamp":
        return this.deliver(Wire.encodeFrame(Wire.frameTypes.Time, router.envelope(), data.subarray(0, mostEcho)))
    }
  }

  private join(router: MessageRouter.MessageRouter, data: Uint8Array): void {
    if (router.isJoined(this)) return this.close("Malformed")
    if (data.length === 0) return router.join(this)
    const resume = Wire.decodeResume(data)
    if (resume === undefined) return this.close("Malformed")
    router.resume(this, resume.sequence, resume.life)
  }

  private setHeartbeat(router: MessageRouter.MessageRouter, data: Uint8Array): void {
    if (data.length !== 4) return this.close("Malformed")
    const wanted = Bytes.viewOf(data).getUint32(0)
    const least = Math.ceil(Duration.toMillis(this.host.limits.minTickInterval))
    const milliseconds = wanted === 0 ? 0 : Math.max(least, wanted)
    router.heartbeat(this, milliseconds)
  }

  private pause(): void {
    this.paused = true
    this.connection.pause()
    this.progressAt = this.host.now()
    if (!this.watched) this.watch(this.host.limits.stallTimeout)
  }

  /**
   * One timer outlives many pauses and asks, when it ends, how long nothing has moved: a member that keeps up with a
   * fast session is paused thousands of times a second.
   */
  private watch(time: Duration.Duration): void {
    this.watched = true
    this.cancelTimer = this.host.after(time, () => this.onWatched())
  }

  /** Whether nothing more is asked of it until it has taken some of what waits. */
  private get isBehind(): boolean {
    if (this.phase === "member") return this.paused
    return this.phase === "control" && this.outbox.backlog >= pauseAtBacklogBytes
  }

  private onWatched(): void {
    this.watched = false
    if (!this.isBehind) return
    const left = Duration.toMillis(this.host.limits.stallTimeout) - (this.host.now() - this.progressAt)
    if (left <= 0) return this.close("TooSlow")
    this.watch(Duration.millis(left))
  }

  private onHandshakeTimeout(): void {
    if (this.handshake === undefined) return
    // Less than the magic may be the start of anything: no answer in our protocol then.
    if (this.handshake.door !== undefined || this.handshake.bytes.length >= Wire.magic.length) {
      return this.refuse("HandshakeTimeout")
    }
    this.dismiss("HandshakeTimeout")
  }

  /** Ends a handshake without a word of our protocol. */
  private dismiss(reason: CloseReason.Refusal): void {
    this.host.traffic.closed(reason)
    this.endHandshake(reason)
    this.phase = "leaving"
    this.drop()
  }

  private refuse(reason: CloseReason.Refusal): void {
    this.host.traffic.closed(reason)
    const isChallenged = this.phase === "proof" || this.phase === "creating"
    this.endHandshake(reason)
    // A flood of refused connections must not be kept for the sake of politeness.
    if (this.host.refusals >= this.host.limits.maxHandshakes) {
      this.phase = "leaving"
      return this.drop()
    }
    this.phase = "refused"
    this.host.refusals++
    this.outbox.endWith(isChallenged ? Wire.encodeClose({ sequence: 0, stamp: 0 }, reason) : Wire.encodeRefused(reason))
    this.dropLater()
  }

  private leave(reason: CloseReason.Sendable): void {
    this.router?.leave(this)
    // To leave was to be given what was pending, and that may have been too much.
    if (this.phase !== "member") return
    this.host.traffic.closed(reason)
    this.router = undefined
    this.phase = "leaving"
    this.decoder = undefined
    this.whenCaughtUp = undefined
    this.onDrained()
    this.dropLater()
  }

  private endHandshake(outcome: string): void {
    if (this.handshake === undefined) return
    this.host.trace("handshake", this.handshake.beganAt, outcome)
    this.host.handshakes--
    this.handshake = undefined
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

/** What a question for the time may bring with it, to know its answer by. */
const mostEcho = 64

const sendIndex = Facet.all.indexOf("send")

const wordAt = (bytes: Uint8Array, offset: number): number =>
  ((bytes[offset] as number) << 24) |
  ((bytes[offset + 1] as number) << 16) |
  ((bytes[offset + 2] as number) << 8) |
  (bytes[offset + 3] as number)

const facetWords = Facet.byteLength / 4
const wordOf = (facets: ReadonlyArray<number>, index: number): number => facets[index] as number

/**
 * Which facet stands at an offset, or -1. Every facet is compared to its end, so that the time says nothing about how
 * much of one was right. All zero is what was not granted, and names none.
 */
const facetAt = (facets: ReadonlyArray<number>, bytes: Uint8Array, offset: number): number => {
  const a = wordAt(bytes, offset)
  const b = wordAt(bytes, offset + 4)
  const c = wordAt(bytes, offset + 8)
  const d = wordAt(bytes, offset + 12)
  let found = -1
  for (let facet = 0, i = 0; i < facets.length; facet++, i += facetWords) {
    const difference =
      (wordOf(facets, i) ^ a) | (wordOf(facets, i + 1) ^ b) | (wordOf(facets, i + 2) ^ c) | (wordOf(facets, i + 3) ^ d)
    if (difference === 0) found = facet
  }
  return (a | b | c | d) === 0 ? -1 : found
}
