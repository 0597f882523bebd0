/**
 * The message router of one session: every frame goes to all members, the sender included, in one order for all.
 *
 * Frames that arrive in one turn are joined once, and written once to each member. No member is waited for.
 */
import type * as CloseReason from "../CloseReason.ts"
import type * as SessionId from "../SessionId.ts"
import * as Bytes from "./bytes.ts"

export interface Member {
  /** Takes whole frames; it must neither throw nor block. */
  readonly deliver: (block: Uint8Array) => void
  readonly close: (reason: CloseReason.Refusal) => void
}

export class MessageRouter {
  readonly id: SessionId.SessionId
  private readonly members = new Set<Member>()
  private readonly atTurnEnd: (task: () => void) => void
  private pending: Array<Uint8Array> = []
  private readonly flushAtTurnEnd = () => this.flush()

  constructor(id: SessionId.SessionId, atTurnEnd: (task: () => void) => void) {
    this.id = id
    this.atTurnEnd = atTurnEnd
  }

  get size(): number {
    return this.members.size
  }

  /** Takes a whole frame for all members. */
  relay(frame: Uint8Array): void {
    if (this.pending.length === 0) this.atTurnEnd(this.flushAtTurnEnd)
    this.pending.push(frame)
  }

  /** A member gets what is sent after it joined, and nothing from before. */
  join(member: Member): void {
    this.flush()
    this.members.add(member)
  }

  leave(member: Member): void {
    if (!this.members.has(member)) return
    this.flush()
    this.members.delete(member)
  }

  close(reason: CloseReason.Refusal): void {
    this.flush()
    for (const member of this.members) {
      member.close(reason)
    }
    this.members.clear()
  }

  private flush(): void {
    if (this.pending.length === 0) return
    const frames = this.pending
    this.pending = []
    const block = join(frames)
    for (const member of this.members) {
      member.deliver(block)
    }
  }
}

const join = (frames: ReadonlyArray<Uint8Array>): Uint8Array => {
  const [only] = frames
  return only !== undefined && frames.length === 1 ? only : Bytes.concat(frames)
}
