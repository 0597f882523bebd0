/**
 * How a late joiner gets to know what a session has come to: the router asks one of the members that make snapshots, part
 * by part, as fast as the joiner takes them, and asks another one where no answer comes.
 */
import * as Duration from "effect/Duration"
import type * as CloseReason from "../CloseReason.ts"
import * as Facet from "../Facet.ts"
import * as Wire from "../Wire.ts"
import * as Bytes from "./bytes.ts"

export interface Settings {
  /** How long a server may take for each whole part. */
  readonly timeout: Duration.Duration
  readonly maxBytes: number
}

interface PartSettings extends Settings {
  /** The bytes of a whole part: smaller ones share the time of one, so that nobody holds a joiner with a trickle. */
  readonly wholePartBytes: number
}

interface Envelope {
  readonly sequence: number
  readonly stamp: number
}

interface Surroundings {
  readonly after: (time: Duration.Duration, task: () => void) => () => void
  readonly randomBytes: (length: number) => Uint8Array
  readonly envelope: () => Envelope
}

/** Who serves and who asks. */
export interface Member {
  /** Takes whole frames, or drops them with the member when it is too slow: never an exception, never a wait. */
  readonly deliver: (block: Uint8Array) => void
  readonly close: (reason: CloseReason.Refusal) => void
  /** Runs a task once not much waits for this member any more; at once where that is so. */
  readonly whenReady: (task: () => void) => void
  /** Is told once a request is over, and how long it took. */
  readonly onSynced: (outcome: Outcome) => void
}

export type Outcome = "Complete" | Wire.NoSnapshotReason | "Gone"

/** One member's request, at one server after the other. */
interface Request {
  readonly member: Member
  /** The snapshot has to include what the member did not get as a message. */
  readonly least: number
  readonly asked: Set<Member>
  server: Member | undefined
  replyFacet: Uint8Array
  /** Of the snapshot whose parts are coming; `undefined` before the first. */
  snapshot: { readonly sequence: number; readonly size: number } | undefined
  offset: number
  /** What the server may still take before it has sent as much as a whole part, in microseconds. */
  timeLeft: number
  /** What it has sent of that, in bytes. */
  progress: number
  askedAt: number
  isAwaited: boolean
  cancel: () => void
}

const noop = () => {}
const nothing = new Uint8Array(0)

/** So many late answers are forgiven: the server could not know. */
const mostForgiven = 16

export class SnapshotRelay {
  private readonly settings: PartSettings
  private readonly around: Surroundings
  /** In the order in which they are asked: whoever was asked last comes last. */
  private readonly servers = new Set<Member>()
  private readonly requests = new Map<Member, Request>()
  /** Reply facets that were good a while ago, for each server. */
  private readonly past = new Map<Member, Array<Uint8Array>>()

  constructor(settings: PartSettings, around: Surroundings) {
    this.settings = settings
    this.around = around
  }

  serve(member: Member, willing: boolean): void {
    if (willing) this.servers.add(member)
    else this.servers.delete(member)
  }

  /** Whether a request of this member is under way. */
  isAsking(member: Member): boolean {
    return this.requests.has(member)
  }

  /** Begins a request, unless one of this member is under way, for a snapshot with at least the message of a number. */
  sync(member: Member, least: number): void {
    if (this.isAsking(member)) return
    const request: Request = {
      member,
      least,
      asked: new Set([member]),
      server: undefined,
      replyFacet: nothing,
      snapshot: undefined,
      offset: 0,
      timeLeft: 0,
      progress: 0,
      askedAt: 0,
      isAwaited: false,
      cancel: noop
    }
    this.requests.set(member, request)
    this.askNext(request)
  }

  /** What a server sends to a reply facet; whether the facet is one that it was given. */
  answer(server: Member, bytes: Uint8Array, start: number, end: number): boolean {
    const envelope = this.around.envelope()
    const facet = bytes.subarray(start + 8, start + Wire.headerLength)
    let found: Request | undefined
    for (const request of this.requests.values()) {
      if (request.server === server && Bytes.equals(request.replyFacet, facet)) found = request
    }
    if (found === undefined) return this.isForgiven(server, facet)
    this.take(found, server, bytes.subarray(start, end), envelope)
    return true
  }

  /** A member is gone: as a server, and with what it asked for. */
  forget(member: Member): void {
    this.servers.delete(member)
    this.past.delete(member)
    const own = this.requests.get(member)
    if (own !== undefined) this.finish(own, "Gone")
    for (const request of Array.from(this.requests.values())) {
      if (request.server !== member) continue
      request.server = undefined
      this.askNext(request)
    }
  }

  close(): void {
    for (const request of Array.from(this.requests.values())) {
      this.finish(request, "Gone")
    }
  }

  private askNext(request: Request): void {
    request.cancel()
    this.retire(request)
    const next = Array.from(this.servers).find((server) => !request.asked.has(server))
    if (next === undefined) return this.fail(request)
    request.asked.add(next)
    this.servers.delete(next)
    this.servers.add(next)
    request.server = next
    request.replyFacet = this.around.randomBytes(Facet.byteLength)
    request.snapshot = undefined
    request.offset = 0
    this.giveTime(request)
    this.ask(request, next)
  }

  private giveTime(request: Request): void {
    request.timeLeft = Duration.toMillis(this.settings.timeout) * 1000
    request.progress = 0
  }

  private ask(request: Request, server: Member): void {
    // To number the question is to deliver what was pending, and that may have been too much for one of the two.
    const envelope = this.around.envelope()
    if (!this.isCurrent(request, server)) return
    request.isAwaited = true
    request.askedAt = envelope.stamp
    request.cancel = this.around.after(Duration.millis(request.timeLeft / 1000), () => this.askNext(request))
    server.deliver(Wire.encodeServe(envelope, request.replyFacet, request.offset))
  }

  private isCurrent(request: Request, server: Member): boolean {
    return this.requests.get(request.member) === request && request.server === server
  }

  private take(request: Request, server: Member, bytes: Uint8Array, envelope: Envelope): void {
    const part = Wire.decodeSnapshotPart(bytes.subarray(Wire.headerLength))
    if (part === undefined || !request.isAwaited || !this.fits(request, part, envelope)) {
      // It leaves, and with that the next one is asked.
      return server.close("Malformed")
    }
    request.isAwaited = false
    request.cancel()
    request.snapshot = { sequence: part.sequence, size: part.size }
    request.offset += part.data.length
    this.takeTime(request, part.data.length, envelope)
    Wire.stampFrame(bytes, 0, Wire.frameTypes.Snapshot, envelope.sequence, envelope.stamp)
    request.member.deliver(bytes)
    if (!this.isCurrent(request, server)) return
    if (request.offset === part.size) return this.finish(request, "Complete")
    request.member.whenReady(() => {
      if (this.isCurrent(request, server)) this.ask(request, server)
    })
  }

  /** The time in which nothing was asked for, since the joiner had to catch up, is not the server's. */
  private takeTime(request: Request, bytes: number, { stamp }: Envelope): void {
    request.progress += bytes
    request.timeLeft = Math.max(0, request.timeLeft - (stamp - request.askedAt))
    if (request.progress >= this.settings.wholePartBytes) this.giveTime(request)
  }

  /** A snapshot cannot include what nobody has sent. */
  private fits({ least, offset, snapshot }: Request, part: Wire.SnapshotPart, { sequence }: Envelope): boolean {
    if (part.offset !== offset || part.size > this.settings.maxBytes) return false
    if (snapshot !== undefined) return part.sequence === snapshot.sequence && part.size === snapshot.size
    return part.sequence >= least && part.sequence <= sequence
  }

  private fail(request: Request): void {
    const reason = request.asked.size === 1 ? "NoServer" : "NoAnswer"
    const { member } = request
    this.finish(request, reason)
    member.deliver(Wire.encodeNoSnapshot(this.around.envelope(), reason))
  }

  private finish(request: Request, outcome: Outcome): void {
    request.cancel()
    this.retire(request)
    this.requests.delete(request.member)
    request.member.onSynced(outcome)
  }

  /** What this server sends to the facet from now on comes too late. */
  private retire(request: Request): void {
    const { replyFacet, server } = request
    request.server = undefined
    if (server === undefined) return
    const past = this.past.get(server) ?? []
    past.push(replyFacet)
    if (past.length > mostForgiven) past.shift()
    this.past.set(server, past)
  }

  private isForgiven(server: Member, facet: Uint8Array): boolean {
    return (this.past.get(server) ?? []).filter((one) => Bytes.equals(one, facet)).length > 0
  }
}
