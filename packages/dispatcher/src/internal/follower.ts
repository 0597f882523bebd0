/**
 * What a member has of a session: which message was the last, and how it catches up after it was away. Pure: frames in,
 * events and requests out.
 */
import type * as CloseReason from "../CloseReason.ts"
import type * as Facet from "../Facet.ts"
import type * as SessionEvent from "../SessionEvent.ts"
import type * as SessionError from "../SessionError.ts"
import * as Wire from "../Wire.ts"
import * as Bytes from "./bytes.ts"

/** Why a member cannot go on. */
export type Failure =
  | { readonly _tag: "Closed"; readonly reason: CloseReason.CloseReason }
  /** Messages were missed, and nothing makes up for them. */
  | { readonly _tag: "Missed"; readonly after: number; readonly reason: SessionError.Missed["reason"] }

export interface Taken {
  readonly events: ReadonlyArray<SessionEvent.SessionEvent>
  readonly requests: ReadonlyArray<{ readonly facet: Facet.Facet; readonly data?: Uint8Array }>
  readonly failure?: Failure
}

const nothing: Taken = { events: [], requests: [] }
const broken: Taken = { ...nothing, failure: { _tag: "Closed", reason: "Malformed" } }

/** What has come of a snapshot. */
interface Parts {
  sequence: number
  bytes: Uint8Array
  received: number
}

/** What the messages that wait for a snapshot may take, in bytes of memory. */
const mostWaitingBytes = 67_108_864

/** What a message takes beside its data. */
const bytesOfMessage = 128

export class Follower {
  private readonly wantsSnapshots: boolean
  private readonly maxSnapshotBytes: number
  /** The number of the last message that the program has, or has in a snapshot; `undefined` before the first joining. */
  private last: number | undefined = undefined
  /** Which run of the session that number belongs to. */
  private life: Uint8Array = new Uint8Array(0)
  /** The one that the connection belongs to: it takes the other's place with the first number of its own. */
  private nextLife: Uint8Array = new Uint8Array(0)
  private state: "away" | "joining" | "syncing" | "live" = "away"
  private parts: Parts | undefined = undefined
  /** What came while the snapshot is on its way. */
  private waiting: Array<SessionEvent.Message> = []
  private waitingBytes = 0
  /** The number of the last message before this connection's first one. */
  private joinedAfter = 0

  constructor(wantsSnapshots: boolean, maxSnapshotBytes: number) {
    this.wantsSnapshots = wantsSnapshots
    this.maxSnapshotBytes = maxSnapshotBytes
  }

  get isLive(): boolean {
    return this.state === "live"
  }

  /** The number of the last message that the program was given, or was given in a snapshot. */
  get heard(): number {
    return this.last ?? 0
  }

  /** A new connection: what the request to join says. */
  begin(life: Uint8Array): Uint8Array | undefined {
    const resume = this.last === undefined ? undefined : Wire.encodeResume(this.last, this.life)
    this.nextLife = life
    this.state = "joining"
    this.forgetWaiting()
    return resume
  }

  take(frame: Wire.Frame): Taken {
    switch (frame._tag) {
      case "Message":
        return this.takeMessage(frame)
      case "Joined":
        return this.takeJoined(frame.sequence, frame.isResumed)
      case "Snapshot":
        return this.takePart(frame.part)
      case "NoSnapshot":
        return this.takeNoSnapshot(frame.reason)
      case "Tick": {
        const { sequence, stamp } = frame
        return this.isLive ? { events: [{ _tag: "Tick", sequence, stamp }], requests: [] } : nothing
      }
      case "Close":
        return { ...nothing, failure: { _tag: "Closed", reason: frame.reason } }
      case "Invalid":
        return { ...nothing, failure: { _tag: "Closed", reason: frame.reason } }
      case "Other":
        return frame.isIgnorable ? nothing : { ...nothing, failure: { _tag: "Closed", reason: "UnknownFrameType" } }
      case "Welcome":
        return broken
      case "Serve":
      case "Time":
        return nothing
    }
  }

  /** Whether the session has begun anew since this member was in it. */
  private get hasRestarted(): boolean {
    return this.last !== undefined && !Bytes.equals(this.life, this.nextLife)
  }

  private takeJoined(sequence: number, isResumed: boolean): Taken {
    if (this.state !== "joining") return broken
    const { hasRestarted, last } = this
    if (isResumed) {
      // What was missed follows, of the life that it was missed of.
      if (last === undefined || hasRestarted) return broken
      return this.goLive(last)
    }
    this.joinedAfter = sequence
    if (last !== undefined && !this.wantsSnapshots) {
      return { ...nothing, failure: { _tag: "Missed", after: last, reason: hasRestarted ? "Restarted" : "NotAsked" } }
    }
    if (!this.wantsSnapshots || sequence === 0) return this.goLive(sequence)
    this.state = "syncing"
    return { events: [], requests: [{ facet: "sync" }] }
  }

  private goLive(last: number): Taken {
    const events: ReadonlyArray<SessionEvent.SessionEvent> = this.hasRestarted
      ? [{ _tag: "Restarted", sequence: 0 }]
      : []
    this.last = last
    this.life = this.nextLife
    this.state = "live"
    return { events, requests: [] }
  }

  private forgetWaiting(): void {
    this.waiting = []
    this.waitingBytes = 0
    this.parts = undefined
  }

  private takeMessage({ data, sequence, stamp }: Wire.Frame & { readonly _tag: "Message" }): Taken {
    const message: SessionEvent.Message = { _tag: "Message", sequence, stamp, data }
    if (this.state === "syncing") {
      if (sequence !== this.joinedAfter + this.waiting.length + 1) return broken
      this.waiting.push(message)
      this.waitingBytes += data.length + bytesOfMessage
      return this.waitingBytes > mostWaitingBytes ? this.miss("TooMuchWaiting") : nothing
    }
    if (this.state !== "live" || sequence !== (this.last ?? 0) + 1) return broken
    this.last = sequence
    return { events: [message], requests: [] }
  }

  private takePart({ data, offset, sequence, size }: Wire.SnapshotPart): Taken {
    // The router asks another member from the beginning where the first one has gone.
    if (offset === 0) {
      if (size > this.maxSnapshotBytes) return broken
      this.parts = { sequence, bytes: new Uint8Array(size), received: 0 }
    }
    const { parts } = this
    if (this.state !== "syncing" || parts === undefined) return broken
    if (offset !== parts.received || size !== parts.bytes.length || sequence !== parts.sequence) return broken
    parts.bytes.set(data, offset)
    parts.received += data.length
    return parts.received === size ? this.finish(parts) : nothing
  }

  /** What the snapshot includes was heard as a message too, and is not told twice. */
  private finish({ bytes, sequence }: Parts): Taken {
    const latest = this.joinedAfter + this.waiting.length
    // The router passes no part on before the messages that it includes.
    if (sequence < this.joinedAfter || sequence > latest) return broken
    const newer = this.waiting.slice(sequence - this.joinedAfter)
    const { events } = this.goLive(latest)
    this.forgetWaiting()
    return { events: [...events, { _tag: "Snapshot", sequence, data: bytes }, ...newer], requests: [] }
  }

  private takeNoSnapshot(reason: Wire.NoSnapshotReason): Taken {
    return this.state === "syncing" ? this.miss(reason) : broken
  }

  /** No snapshot comes: what was missed before this connection's first message stays so. */
  private miss(reason: SessionError.Missed["reason"]): Taken {
    this.forgetWaiting()
    return { ...nothing, failure: { _tag: "Missed", after: this.last ?? this.joinedAfter, reason } }
  }
}
