/**
 * The message router of one session: one queue, which numbers and stamps what the members send and hands it to all of
 * them.
 *
 * What arrives within one turn of the event loop goes out as one block, the same memory for every member, so a turn costs
 * one write for each member, however many messages it holds. Whatever else a member is told goes through the same queue.
 */
import * as Duration from "effect/Duration"
import type * as Capability from "@effect-nat/core/Capability"
import type * as CloseReason from "../CloseReason.ts"
import type * as Facet from "../Facet.ts"
import type * as SessionId from "@effect-nat/core/SessionId"
import * as Wire from "../Wire.ts"
import * as Bytes from "./bytes.ts"
import * as ReplayLog from "./replayLog.ts"
import * as SnapshotPart from "./snapshotPart.ts"
import * as SnapshotRelay from "./snapshotRelay.ts"

/** Who is in a session, as its message router sees it. */
export interface Member extends SnapshotRelay.Member {
  /** Takes a block, unless too much waits for this member already; whether it did. Nobody leaves while this is done. */
  readonly offer: (block: Uint8Array) => boolean
  /** Takes a tick, or drops it. Nobody leaves while this is done. */
  readonly tick: (frame: Uint8Array) => void
}

/** What a message router needs of the one port that all of them share. */
export interface Surroundings {
  readonly atTurnEnd: (task: () => void) => void
  /** Runs a task later, unless cancelled before. */
  readonly after: (time: Duration.Duration, task: () => void) => () => void
  /** In microseconds of a clock that is never set back. */
  readonly now: () => number
  readonly randomBytes: (length: number) => Uint8Array
  readonly traffic: { messages: number }
  /** Somebody has come in or gone. */
  readonly onChange: (router: MessageRouter) => void
}

/** What is said of a session, beside its id. */
export interface About {
  /** What it is for. */
  readonly role: string
  /** Whether it ends with its last member. */
  readonly autoStop: boolean
}

export interface Settings {
  /** 0 for no log. */
  readonly maxLogBytes: number
  readonly snapshots: SnapshotRelay.Settings
  /** The largest message. */
  readonly maxDataBytes: number
}

/** A capability that opens the session, and what it grants. */
export interface Grant {
  readonly capability: Capability.Capability
  readonly facets: ReadonlySet<Facet.Facet>
}

/** Members with one interval share one timer. */
interface Heartbeat {
  readonly members: Set<Member>
  readonly cancel: () => void
}

export class MessageRouter {
  readonly id: SessionId.SessionId
  readonly about: About
  /** Names this run of the session: its sequence numbers mean something together with it only. */
  readonly life: Uint8Array
  /** By the name of the capability, in hexadecimal digits. */
  readonly grants = new Map<string, Grant>()
  readonly snapshots: SnapshotRelay.SnapshotRelay
  private readonly around: Surroundings
  private readonly log: ReplayLog.ReplayLog
  /** Who has come in, by what it came in with. */
  private readonly members = new Map<Member, Grant>()
  private readonly joined = new Set<Member>()
  private readonly heartbeats = new Map<number, Heartbeat>()
  private sequence = 0
  private stamp = 0
  /** When the last message went out. */
  private busyAt = -Infinity
  private pending: Array<Uint8Array> = []
  private firstPending = 1
  /** The part of a chunk whose messages follow each other: one block. */
  private run: Uint8Array | undefined = undefined
  private runStart = 0
  private runEnd = 0
  private isFlushDue = false
  private isOpen = true
  private readonly flushAtTurnEnd = () => {
    this.isFlushDue = false
    this.flush()
  }

  constructor(id: SessionId.SessionId, about: About, settings: Settings, around: Surroundings) {
    this.id = id
    this.about = about
    this.around = around
    this.life = around.randomBytes(8)
    this.log = new ReplayLog.ReplayLog(settings.maxLogBytes)
    const wholePartBytes = SnapshotPart.wholeBytes(settings.maxDataBytes)
    this.snapshots = new SnapshotRelay.SnapshotRelay(
      { ...settings.snapshots, wholePartBytes },
      {
        after: around.after,
        randomBytes: around.randomBytes,
        envelope: () => this.envelope()
      }
    )
  }

  get size(): number {
    return this.members.size
  }

  /** The number of the last message, and the time now: nothing that is told with it overtakes a message. */
  envelope(): { readonly sequence: number; readonly stamp: number } {
    this.flush()
    this.stamp = Math.max(this.stamp, this.around.now())
    return { sequence: this.sequence, stamp: this.stamp }
  }

  /** Takes a whole request to send, and makes it the message: its header is written over. */
  relay(bytes: Uint8Array, start: number, end: number): void {
    if (this.run === undefined) this.begin()
    Wire.stampFrame(bytes, start, Wire.frameTypes.Message, ++this.sequence, this.stamp)
    if (this.run === bytes && this.runEnd === start) {
      this.runEnd = end
      return
    }
    this.endRun()
    this.run = bytes
    this.runStart = start
    this.runEnd = end
  }

  enter(member: Member, grant: Grant): void {
    this.members.set(member, grant)
    this.around.onChange(this)
  }

  /** What comes from now on goes to this member too. */
  join(member: Member): void {
    this.deliverJoined(member, [], false)
  }

  /** Joins after the last message that the member has: with what it missed, where all of that is still here. */
  resume(member: Member, sequence: number, life: Uint8Array): void {
    this.flush()
    const missed = Bytes.equals(life, this.life) ? this.log.after(sequence, this.sequence) : undefined
    this.deliverJoined(member, missed ?? [], missed !== undefined)
  }

  /** Begins to get a snapshot for a member. */
  sync(member: Member): void {
    const { sequence } = this.envelope()
    // To number the request was to deliver what was pending, and that may have been too much.
    if (this.members.has(member)) this.snapshots.sync(member, sequence)
  }

  isJoined(member: Member): boolean {
    return this.joined.has(member)
  }

  /** Sends the member the time every so many milliseconds, while no messages flow; 0 ends it. */
  heartbeat(member: Member, milliseconds: number): void {
    this.endHeartbeat(member)
    if (milliseconds === 0) return
    const known = this.heartbeats.get(milliseconds)
    if (known !== undefined) {
      known.members.add(member)
      return
    }
    this.startHeartbeat(milliseconds, new Set([member]))
  }

  /** In order: what was sent before is delivered before. */
  leave(member: Member): void {
    if (this.joined.has(member)) this.flush()
    this.forget(member)
  }

  /** For a member that is not there any more. */
  forget(member: Member): void {
    this.joined.delete(member)
    const wasMember = this.members.delete(member)
    this.endHeartbeat(member)
    this.snapshots.forget(member)
    if (wasMember) this.around.onChange(this)
  }

  /** Ends what was granted by a capability, and those that came in with it. */
  revoke(grant: Grant): void {
    this.flush()
    const gone = Array.from(this.members).filter(([, own]) => own === grant)
    for (const [member] of gone) {
      member.close("Revoked")
    }
  }

  close(reason: CloseReason.Refusal): void {
    if (!this.isOpen) return
    this.flush()
    this.isOpen = false
    for (const member of Array.from(this.members.keys())) {
      member.close(reason)
    }
    this.snapshots.close()
  }

  private deliverJoined(member: Member, missed: ReadonlyArray<Uint8Array>, isResumed: boolean): void {
    const envelope = this.envelope()
    member.deliver(Wire.encodeFrame(Wire.frameTypes.Joined, envelope, Uint8Array.of(isResumed ? 1 : 0)))
    for (const block of missed) {
      member.deliver(block)
    }
    if (this.isOpen && this.members.has(member)) this.joined.add(member)
  }

  /** The first message of a turn. */
  private begin(): void {
    this.stamp = Math.max(this.stamp, this.around.now())
    this.firstPending = this.sequence + 1
    if (this.isFlushDue) return
    this.isFlushDue = true
    this.around.atTurnEnd(this.flushAtTurnEnd)
  }

  private endRun(): void {
    if (this.run === undefined) return
    const isWhole = this.runStart === 0 && this.runEnd === this.run.length
    this.pending.push(isWhole ? this.run : this.run.subarray(this.runStart, this.runEnd))
    this.run = undefined
  }

  private flush(): void {
    if (this.run === undefined) return
    this.endRun()
    const [only] = this.pending
    const block = only !== undefined && this.pending.length === 1 ? compact(only) : Bytes.concat(this.pending)
    this.pending = []
    this.busyAt = this.stamp
    this.around.traffic.messages += this.sequence - this.firstPending + 1
    this.log.push(block, this.firstPending, this.sequence)
    let behind: Array<Member> | undefined
    for (const member of this.joined) {
      if (!member.offer(block)) (behind ??= []).push(member)
    }
    // Not before everyone has the block: when a member leaves others may be told something, which must not overtake it.
    behind?.forEach((member) => member.close("TooSlow"))
  }

  private startHeartbeat(milliseconds: number, members: Set<Member>): void {
    const cancel = this.around.after(Duration.millis(milliseconds), () => {
      this.tick(milliseconds, members)
      if (members.size > 0 && this.isOpen) this.startHeartbeat(milliseconds, members)
    })
    this.heartbeats.set(milliseconds, { members, cancel })
  }

  /** Messages tell the time as well. */
  private tick(milliseconds: number, members: ReadonlySet<Member>): void {
    const envelope = this.envelope()
    if (envelope.stamp - this.busyAt < milliseconds * 1000) return
    const frame = Wire.encodeFrame(Wire.frameTypes.Tick, envelope)
    for (const member of members) {
      member.tick(frame)
    }
  }

  private endHeartbeat(member: Member): void {
    for (const [milliseconds, { cancel, members }] of this.heartbeats) {
      if (!members.delete(member) || members.size > 0) continue
      cancel()
      this.heartbeats.delete(milliseconds)
    }
  }
}

/** A block is kept, in the log and for whoever is behind: not with all of a large chunk, for the sake of a small part. */
const compact = (block: Uint8Array): Uint8Array =>
  block.buffer.byteLength > 2 * block.length ? new Uint8Array(block) : block
