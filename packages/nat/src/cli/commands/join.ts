/**
 * `effect-nat join`: a member of a session, line by line: prints what everybody says, and says what is typed.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as Session from "@effect-nat/dispatcher/Session"
import type * as SessionError from "@effect-nat/dispatcher/SessionError"
import type * as SessionEvent from "@effect-nat/dispatcher/SessionEvent"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { Failure } from "../Failure.ts"
import * as LiveView from "../LiveView.ts"
import * as Output from "../Output.ts"

/** What the command was called with. */
export interface Input {
  readonly uri: string
  /** The session's role or id; by default the first one. */
  readonly session: string | undefined
  readonly sync: boolean
  readonly json: boolean
}

const wrongCall = (message: string) => new Failure({ status: 2, message })

const nameOf = (session: ContactPoint.Session): string => Output.printable(ContactPoint.sessionName(session))

const namesOf = (sessions: ReadonlyArray<ContactPoint.Session>): string => sessions.map(nameOf).join(", ")

interface Chosen {
  readonly contactPoint: ContactPoint.ContactPoint
  readonly session: ContactPoint.Session
  readonly invitation: Invitation.Invitation
}

const choose = Effect.fnUntraced(function* (input: Input) {
  const read = ContactPointUri.fromString(input.uri)
  if (Result.isFailure(read)) return yield* wrongCall(read.failure.message)
  const contactPoint = read.success
  const invited = Invitation.fromContactPoint(contactPoint, input.session)
  if (Result.isFailure(invited)) return yield* wrongCall(Output.printable(invited.failure.message))
  const invitation = invited.success
  const session = yield* Effect.orDie(Effect.fromOption(ContactPoint.findSession(contactPoint, invitation.sessionId)))
  const chosen: Chosen = { contactPoint, session, invitation }
  return chosen
})

/** Where there is a choice that nobody has made, it is told. */
const tellOthers = (input: Input, { contactPoint, session }: Chosen) => {
  if (input.json || input.session !== undefined || contactPoint.sessions.length === 1) return Effect.void
  const others = contactPoint.sessions.filter((one) => one !== session)
  return Effect.logInfo(`joining session ${nameOf(session)}; there are others, for --session: ${namesOf(others)}`)
}

const printJoined = Effect.fnUntraced(function* (input: Input, { session }: Chosen, joined: Session.Session) {
  const address = NetAddress.formatInet(yield* joined.address)
  const { id, role } = session
  if (input.json) return yield* Output.json({ event: "joined", session: id, role, address })
  yield* Effect.logInfo(`joined session ${nameOf(session)} at ${address}`)
})

const printConnection = (input: Input, address: Option.Option<NetAddress.InetAddress>) => {
  if (Option.isNone(address)) {
    return input.json ? Output.json({ event: "lost" }) : Effect.logWarning("the connection broke: making it again")
  }
  const text = NetAddress.formatInet(address.value)
  return input.json ? Output.json({ event: "regained", address: text }) : Effect.logInfo(`connected again at ${text}`)
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const textOf = (data: Uint8Array): string | undefined => {
  try {
    return decoder.decode(data)
  } catch {
    return undefined
  }
}

/** The time of the router's own clock, in microseconds, as hours, minutes, seconds and milliseconds. */
const clockText = (stamp: number): string => {
  const milliseconds = Math.floor(stamp / 1000)
  return `${LiveView.formatTime(milliseconds)}.${String(milliseconds % 1000).padStart(3, "0")}`
}

const noText = ({ length }: Uint8Array): string => `(${length} bytes that are no text: see them with --json)`

/** For the eyes: what others send must not steer the terminal. */
const lineOf = (data: Uint8Array): string => {
  const text = textOf(data)
  return text === undefined ? noText(data) : Output.printable(text.replace(/\r?\n$/, ""))
}

const linesOf = (data: Uint8Array): string => {
  const text = textOf(data)
  return text === undefined ? noText(data) : text.trimEnd().split("\n").map(Output.printable).join("\n")
}

const printEvent = (input: Input, event: SessionEvent.SessionEvent) => {
  if (event._tag === "Tick") return Effect.void
  if (event._tag === "Restarted") {
    return input.json
      ? Output.json({ event: "restarted" })
      : Effect.logWarning("the dispatcher has begun the session anew: its messages count from 1 again")
  }
  const { data, sequence } = event
  const stamp = event._tag === "Message" ? event.stamp : null
  if (!input.json) {
    return stamp === null
      ? Console.log(`up to ${sequence}:\n${linesOf(data)}`)
      : Console.log(`${sequence}  ${clockText(stamp)}  ${lineOf(data)}`)
  }
  const text = textOf(data) ?? null
  const base64 = text === null ? Base64.encode(data) : null
  return Output.json({ event: event._tag.toLowerCase(), sequence, stamp, text, base64 })
}

/** What goes wrong with one line is no end; what ends the session is told by its events. */
const afterFailure = (error: SessionError.SessionError) => {
  const { reason } = error
  switch (reason._tag) {
    case "MessageTooLarge":
    case "NotGranted":
      return Effect.logWarning(`not sent: ${error.message}`)
    case "Closed":
      return reason.reason === undefined
        ? Effect.logWarning("the connection broke just now: the others may have got the last line, or not")
        : Effect.never
    default:
      return Effect.never
  }
}

/** Sends what is typed, until there is no more of it. */
const speak = Effect.fnUntraced(function* (joined: Session.Session) {
  const { stdin } = yield* Stdio.Stdio
  const encoder = new TextEncoder()
  yield* stdin.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.runForEach((line) => Effect.catch(joined.send(encoder.encode(line)), afterFailure))
  )
  // The router answers in the order of what it is sent: then it has taken all lines, and this member has heard them.
  yield* joined.time.pipe(Effect.timeoutOption("5 seconds"), Effect.ignore)
})

/** Joins, and stays until the end of what is typed or an interruption. */
export const run = (input: Input) =>
  Effect.gen(function* () {
    const chosen = yield* choose(input)
    yield* tellOthers(input, chosen)
    const membership = yield* Scope.fork(yield* Effect.scope)
    const joined = yield* Session.join(chosen.contactPoint, {
      invitation: chosen.invitation,
      sync: input.sync
    }).pipe(Scope.provide(membership))
    yield* printJoined(input, chosen, joined)
    yield* joined.connections.pipe(
      Stream.drop(1),
      Stream.runForEach((address) => printConnection(input, address)),
      Effect.forkIn(membership)
    )
    const listening = yield* Effect.forkScoped(Stream.runForEach(joined.events, (event) => printEvent(input, event)))
    yield* Effect.raceFirst(Fiber.join(listening), speak(joined))
    yield* Scope.close(membership, Exit.void)
    // What was heard before is still printed.
    yield* Fiber.join(listening)
  }).pipe(Effect.scoped, Effect.provide(NodeConnector.layer))
