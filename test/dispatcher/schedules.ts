/**
 * Random schedules of what the members of a session do, on connections that are simulated byte by byte: they join, send,
 * stall, leave, lose their connection and come back, make snapshots or ask for them. Everything comes from one seed.
 *
 * One member, the recorder, never stalls and never goes: what it hears is what the session was.
 */
import * as CapabilityProof from "@effect-nat/dispatcher/CapabilityProof"
import type * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import type * as Invitation from "@effect-nat/dispatcher/Invitation"
import type * as SessionEvent from "@effect-nat/dispatcher/SessionEvent"
import * as SessionId from "@effect-nat/core/SessionId"
import type * as TcpListener from "@effect-nat/dispatcher/TcpListener"
import * as Wire from "@effect-nat/dispatcher/Wire"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Follower from "../../packages/dispatcher/src/internal/follower.ts"
import * as SeededRandom from "../../packages/testing/src/internal/seededRandom.ts"

/** What is broken, in words. */
export class Violation extends Error {}

const check = (holds: boolean, what: () => string) => {
  if (!holds) throw new Violation(what())
}

/** Both directions of one connection, as queues that the schedule empties. */
class Wires implements TcpListener.Connection {
  readonly remoteAddress = undefined
  readonly isForwarded = false
  readonly localAddress = undefined
  readonly toRouter: Array<Uint8Array> = []
  private readonly toMember: Array<{ readonly blocks: ReadonlyArray<Uint8Array>; readonly flushed: () => void }> = []
  private handler: TcpListener.ConnectionHandler | undefined
  private isPaused = false
  private isEnding = false
  isOpen = true
  hasEndedInOrder = false

  attach(handler: TcpListener.ConnectionHandler) {
    this.handler = handler
  }

  write(blocks: ReadonlyArray<Uint8Array>, flushed: () => void) {
    check(this.isOpen && !this.isEnding, () => "something is written to a connection that has ended")
    // What goes out is what it is now: a router that writes to it later breaks every member.
    this.toMember.push({ blocks: blocks.map((block) => block.slice()), flushed })
  }
  pause() {
    this.isPaused = true
  }
  resume() {
    this.isPaused = false
  }
  end() {
    this.isEnding = true
  }
  destroy() {
    this.cut()
  }

  /** Passes on what the member has sent, up to so many bytes, in one chunk. */
  pump(bytes: number) {
    if (this.toRouter.length === 0 || this.isPaused || !this.isOpen) return
    const waiting = new Uint8Array(Buffer.concat(this.toRouter.splice(0)))
    const chunk = waiting.slice(0, bytes)
    if (chunk.length < waiting.length) this.toRouter.push(waiting.subarray(chunk.length))
    this.handler?.onData(chunk)
  }

  /** Takes one write; the blocks, or `undefined` where there is none. */
  take(): ReadonlyArray<Uint8Array> | undefined {
    if (!this.isOpen) return undefined
    const next = this.toMember.shift()
    next?.flushed()
    if (next === undefined && this.isEnding) {
      this.hasEndedInOrder = true
      this.cut()
    }
    return next?.blocks
  }

  /** What a part of the next write would bring. */
  peek(share: number): ReadonlyArray<Uint8Array> {
    const bytes = Buffer.concat(this.toMember[0]?.blocks ?? [])
    return [new Uint8Array(bytes.subarray(0, Math.floor(bytes.length * share)))]
  }

  /** The network fails: what is under way is lost. */
  cut() {
    if (!this.isOpen) return
    this.isOpen = false
    this.handler?.onClose()
  }
}

/** The state that a program would have: everything said so far, by the numbers of the messages. */
interface View {
  sequence: number
  said: string
}

const utf8 = { encode: new TextEncoder(), decode: new TextDecoder() }

class Member {
  readonly name: string
  readonly view: View = { sequence: 0, said: "" }
  readonly sent: Array<string> = []
  private isSafe = true
  isStalled = false
  isGone = false
  private wires: Wires
  private readonly open: () => Wires
  private readonly sync: boolean
  private readonly follower: Follower.Follower
  private readonly invitation: Invitation.Invitation
  private decoder = new Wire.FrameDecoder(1_048_576)
  private challenge: Uint8Array | undefined = new Uint8Array(0)
  private isWelcome = false
  private readonly snapshots = new Map<string, View>()
  private facets: Wire.Facets = {}
  private stamp = 0
  /** Begun when this member first joined: what it hears is compared from there on. */
  private base: View | undefined
  readonly history: Array<readonly [sequence: number, said: string]> = []

  constructor(name: string, invitation: Invitation.Invitation, open: () => Wires, sync: boolean) {
    this.name = name
    this.invitation = invitation
    this.open = open
    this.sync = sync
    this.follower = new Follower.Follower(sync, 1_048_576)
    this.wires = this.connect()
  }

  get isLive(): boolean {
    return this.follower.isLive && this.wires.isOpen && !this.isGone && this.isWelcome
  }

  get connection(): Wires {
    return this.wires
  }

  private claim(routerNonce: Uint8Array) {
    return {
      sessionId: SessionId.toBytes(this.invitation.sessionId),
      clientNonce: new Uint8Array(16),
      routerNonce
    }
  }

  private connect(): Wires {
    const wires = this.open()
    this.isWelcome = false
    this.decoder = new Wire.FrameDecoder(1_048_576)
    this.challenge = new Uint8Array(0)
    const { capability, sessionId } = this.invitation
    const nonce = new Uint8Array(16)
    wires.toRouter.push(
      Wire.encodeHello(
        new Wire.Hello({ sessionId, capabilityName: CapabilityProof.name(capability), nonce, extensions: [] })
      )
    )
    return wires
  }

  /** Some of what is under way may still arrive. */
  lose(share: number) {
    if (this.isGone || !this.wires.isOpen) return
    this.isSafe = false
    if (this.isLive) this.hear(this.wires.peek(share))
    this.wires.cut()
  }

  comeBack() {
    if (this.isGone || this.wires.isOpen) return
    this.isSafe = false
    this.wires = this.connect()
  }

  send(text: string) {
    if (!this.isLive) return
    this.sent.push(text)
    this.request("send", utf8.encode.encode(text))
  }

  leave() {
    if (!this.isLive) return
    this.request("leave")
    this.isGone = true
  }

  /** Only who knows everything that was said can tell. */
  serve() {
    if (this.isLive && this.sync) this.request("beServer")
  }

  beat(milliseconds: number) {
    if (this.isLive) this.request("heartbeat", Uint8Array.of(0, 0, 0, milliseconds))
  }

  private request(facet: keyof Wire.Facets, data?: Uint8Array) {
    const granted = this.facets[facet]
    check(granted !== undefined, () => `${this.name} was not granted ${facet}`)
    if (granted !== undefined) this.wires.toRouter.push(Wire.encodeRequest(granted, data))
  }

  /** Hears what one write brought. */
  hear(blocks: ReadonlyArray<Uint8Array>) {
    for (const block of blocks) {
      const rest = this.challenge === undefined ? block : this.readChallenge(block)
      const failure = this.decoder.push(rest, (bytes, start, end) => this.take(bytes.subarray(start, end)))
      check(failure === undefined, () => `${this.name} cannot read what the router says: ${failure}`)
    }
  }

  private readChallenge(block: Uint8Array): Uint8Array {
    const decoded = Wire.decodeReply(block)
    check(decoded._tag === "Complete", () => `${this.name} gets no challenge`)
    if (decoded._tag !== "Complete") return block
    if (decoded.value._tag === "Refused") this.end({ _tag: "Closed", reason: decoded.value.reason })
    else {
      const { capability } = this.invitation
      this.wires.toRouter.push(
        CapabilityProof.prove(capability, { ...this.claim(decoded.value.nonce), side: "client" })
      )
    }
    this.challenge = undefined
    return block.subarray(decoded.length)
  }

  private take(bytes: Uint8Array) {
    const frame = Wire.decodeFrame(bytes)
    // What is told again has the stamps that it had, after a frame that has the time of now.
    if (frame._tag === "Message" || frame._tag === "Tick") {
      check(frame.stamp >= this.stamp, () => `${this.name} sees the router's time go back`)
      this.stamp = frame.stamp
    }
    if (frame._tag === "Welcome") {
      this.facets = frame.facets
      this.isWelcome = true
      return this.request("join", this.follower.begin(frame.life))
    }
    if (frame._tag === "Serve") return this.answer(frame)
    const { events, failure, requests } = this.follower.take(frame)
    for (const { data, facet } of requests) {
      this.request(facet, data)
    }
    for (const event of events) {
      this.note(event)
    }
    if (failure !== undefined) this.end(failure)
  }

  /** A server answers with what it has heard so far: the router asks in the same queue. */
  private answer({ offset, replyFacet }: Wire.Frame & { readonly _tag: "Serve" }) {
    const key = replyFacet.join()
    if (offset === 0) this.snapshots.set(key, { ...this.view })
    const { said, sequence } = this.snapshots.get(key) ?? this.view
    const data = utf8.encode.encode(said)
    const part = data.subarray(offset, offset + mostInPart)
    const answer = Wire.encodeSnapshotPart({ sequence, size: data.length, offset, data: part })
    this.wires.toRouter.push(Wire.encodeRequest(replyFacet, answer))
  }

  private note(event: SessionEvent.SessionEvent) {
    const { view } = this
    switch (event._tag) {
      case "Snapshot":
        check(event.sequence >= view.sequence, () => `${this.name} gets a snapshot of what it knew before`)
        view.sequence = event.sequence
        view.said = utf8.decode.decode(event.data)
        this.base ??= { ...view }
        break
      case "Message":
        if (this.base === undefined) {
          this.base = { sequence: event.sequence - 1, said: "" }
          view.sequence = event.sequence - 1
        }
        check(
          event.sequence === view.sequence + 1,
          () => `${this.name} gets message ${event.sequence} after ${view.sequence}`
        )
        view.sequence = event.sequence
        view.said += `${utf8.decode.decode(event.data)} `
        break
      case "Restarted":
        return check(false, () => `${this.name} is told that a session has begun anew that has not`)
      case "Tick":
        check(
          this.base === undefined || event.sequence === view.sequence,
          () => `${this.name} gets a tick after message ${event.sequence} with message ${view.sequence} heard last`
        )
        return
    }
    this.history.push([view.sequence, view.said])
  }

  private end(failure: Follower.Failure) {
    const isExpected =
      failure._tag === "Missed" ||
      (failure._tag === "Closed" && ["Done", "TooSlow", "HandshakeTimeout"].includes(failure.reason))
    check(isExpected, () => `${this.name} is sent away: ${JSON.stringify(failure)}`)
    this.isGone = true
    this.isSafe = false
    this.wires.cut()
  }

  /** Whether all that it has sent arrives: no connection was lost, and none was ended before everything was read. */
  get isHeard(): boolean {
    return this.isSafe && (this.wires.isOpen || this.wires.hasEndedInOrder)
  }

  /** What it began with. */
  get beganAt(): View {
    return this.base ?? { sequence: 0, said: "" }
  }
}

/** What the dispatcher under test is met with. */
export interface Surroundings {
  readonly dispatcher: Dispatcher.Dispatcher["Service"]
  readonly connect: (connection: TcpListener.Connection) => TcpListener.ConnectionHandler
  readonly endTurn: () => void
}

export interface Result {
  readonly messages: number
  readonly members: number
  readonly snapshots: number
  readonly returns: number
}

const mostMembers = 8

/** In bytes: a snapshot takes many parts, between which things happen. */
const mostInPart = 100

/** Runs one schedule; fails with a `Violation`. */
export const run = Effect.fnUntraced(function* (seed: number, steps: number, around: Surroundings) {
  const random = SeededRandom.make(seed, "schedule")
  const below = (limit: number) => random.between(0, limit - 1)
  const invitation = yield* around.dispatcher.register()
  let returns = 0

  const all: Array<Wires> = []
  // A dispatcher that ends waits for its members to go.
  yield* Effect.addFinalizer(() => Effect.sync(() => all.forEach((wires) => wires.cut())))
  const open = () => {
    const wires = new Wires()
    all.push(wires)
    wires.attach(around.connect(wires))
    return wires
  }

  const recorder = new Member("the recorder", invitation, open, true)
  const members: Array<Member> = []
  let named = 0

  const settle = (member: Member, writes: number, bytes: () => number) => {
    for (let i = 0; i < writes; i++) {
      member.connection.pump(bytes())
      const blocks = member.connection.take()
      if (blocks !== undefined) member.hear(blocks)
    }
  }

  const chunk = () => (random.chance(0.2) ? 1 + below(30) : 1_000_000)

  const sendSome = (member: Member, count: number) => {
    for (let i = 0; i < count; i++) {
      member.send(`${member.name}:${member.sent.length}`)
    }
  }

  const step = (member: Member, what: number) => {
    if (what < 25) return sendSome(member, 1 + below(6))
    if (what < 60) return member.isStalled ? undefined : settle(member, 1 + below(8), chunk)
    if (what < 62) return void (member.isStalled = !member.isStalled)
    if (what < 63) return member.leave()
    if (what < 65) return member.lose(below(5) / 5)
    if (what < 74) {
      if (!member.connection.isOpen && !member.isGone) returns++
      return member.comeBack()
    }
    if (what < 80) return member.serve()
    if (what < 83) return member.beat(10 + below(40))
    member.connection.pump(chunk())
  }

  settle(recorder, 8, () => 1_000_000)
  check(recorder.isLive, () => "the recorder is not the first")

  for (let i = 0; i < steps; i++) {
    const alive = members.filter(({ isGone }) => !isGone)
    if (alive.length < mostMembers && random.chance(0.1)) {
      members.push(new Member(`m${named++}`, invitation, open, random.chance(0.6)))
    }
    const member = members[below(members.length)]
    if (member !== undefined) step(member, below(90))
    if (random.chance(0.3)) around.endTurn()
    if (random.chance(0.1)) yield* TestClock.adjust(below(random.chance(0.05) ? 6000 : 60))
    settle(recorder, 3, () => 1_000_000)
    if (i % 50 === 10) recorder.serve()
  }

  // Everybody gets what is due to them.
  for (let round = 0; round < 60; round++) {
    around.endTurn()
    for (const member of [recorder, ...members]) {
      member.isStalled = false
      settle(member, 8, () => 1_000_000)
    }
    yield* TestClock.adjust(200)
  }
  judge(recorder, members)
  const result: Result = {
    messages: recorder.view.sequence,
    members: members.length,
    snapshots: members.filter(({ beganAt }) => beganAt.said !== "").length,
    returns
  }
  return result
})

const end = (said: string | undefined): string => (said ?? "nothing").slice(-200)

/** Everybody has heard what the recorder has, from where they began. */
const judge = (recorder: Member, members: ReadonlyArray<Member>) => {
  const truth = new Map<number, string>([[0, ""], ...recorder.history])
  for (const member of members) {
    const { beganAt } = member
    // Who began without a snapshot has only what was said since.
    const unknown = beganAt.said === "" ? (truth.get(beganAt.sequence) ?? "").length : 0
    for (const [sequence, said] of member.history) {
      check(
        truth.get(sequence)?.slice(unknown) === said,
        () => `${member.name} has at message ${sequence} …${end(said)} and the recorder …${end(truth.get(sequence))}`
      )
    }
    if (member.isLive) {
      check(
        member.view.sequence === recorder.view.sequence || member.history.length === 0,
        () => `${member.name} has heard up to ${member.view.sequence} and the recorder up to ${recorder.view.sequence}`
      )
    }
    const words = recorder.view.said.split(" ").filter((word) => word.startsWith(`${member.name}:`))
    const expected = member.isHeard ? member.sent : member.sent.filter((word) => words.includes(word))
    check(
      words.join() === expected.join(),
      () => `of what ${member.name} has sent (${member.sent.join()}), in this order: ${words.join()}`
    )
  }
}
