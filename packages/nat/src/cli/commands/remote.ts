/**
 * `effect-nat remote`: a dispatcher on another host, asked and told over its own port.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import type * as RemoteControl from "@effect-nat/dispatcher/RemoteControl"
import * as RemoteDispatcher from "@effect-nat/dispatcher/RemoteDispatcher"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Failure, oneLine } from "../Failure.ts"
import type * as Flags from "../Flags.ts"
import * as Output from "../Output.ts"

/** What the command was called with. */
export interface Input {
  readonly uri: string
  readonly action: Flags.RemoteAction
  /** The session's id, or the strategy's name, for the actions that take one. */
  readonly what: string | undefined
  /** The role of a session to register. */
  readonly role: string
  readonly json: boolean
}

type Remote = RemoteDispatcher.RemoteDispatcher

const wrongCall = (message: string) => new Failure({ status: 2, message })

const connect = Effect.fnUntraced(function* ({ uri }: Input) {
  const read = ContactPointUri.fromString(uri)
  if (Result.isFailure(read)) return yield* wrongCall(read.failure.message)
  if (read.success.control === undefined) {
    return yield* wrongCall(
      "this contact point does not open the control of its dispatcher: take the one that effect-nat serve --control prints"
    )
  }
  return yield* RemoteDispatcher.connect(read.success)
})

const headings = ["Role", "Session", "Members"]

type SessionInfo = typeof RemoteControl.SessionInfo.Type

const sessionTable = (sessions: ReadonlyArray<SessionInfo>): string =>
  sessions.length === 0
    ? "no sessions"
    : Output.table(
        headings,
        sessions.map(({ id, members, role }) => [role === "" ? "-" : role, id, String(members)])
      )

const info = Effect.fnUntraced(function* (remote: Remote, { json }: Input) {
  const { mapping, ...one } = yield* remote.info()
  const address = NetAddress.formatInet(one.address)
  if (json) return yield* Output.json({ ...one, address, mapping: Output.mappingFields(mapping.status, mapping) })
  const { bytesIn, bytesOut, connections, messages, sessions } = one
  const strategies = one.strategies.length === 0 ? "none to choose from" : one.strategies.join(", ")
  const lines = [
    `name        ${one.name}`,
    `instance    ${one.instance}`,
    `listens at  ${address}`,
    `mapping     ${Output.mappingText(mapping.status, mapping)}`,
    `traffic     ${connections} connections, ${messages} messages, ${bytesIn} bytes in, ${bytesOut} bytes out`,
    `strategies  ${strategies}`
  ]
  yield* Console.log([...lines.map(Output.printable), sessionTable(sessions)].join("\n"))
})

const sessions = Effect.fnUntraced(function* (remote: Remote, { json }: Input) {
  const all = yield* remote.list()
  yield* json ? Output.json(all) : Console.log(sessionTable(all))
})

const lookup = Effect.fnUntraced(function* (remote: Remote, { json }: Input, sessionId: SessionId.SessionId) {
  const found = yield* remote.lookup({ sessionId })
  if (found === null) return yield* noSession(sessionId)
  yield* json ? Output.json(found) : Console.log(sessionTable([found]))
})

const noSession = (sessionId: SessionId.SessionId) =>
  new Failure({ status: 1, message: `the dispatcher has no session ${sessionId}` })

const register = Effect.fnUntraced(function* (remote: Remote, { json, role }: Input, sessionId?: SessionId.SessionId) {
  const registered = yield* remote.register({ role, ...(sessionId === undefined ? {} : { sessionId }) })
  const { contactPoint } = yield* remote.contactPoint({ sessions: [registered.sessionId] })
  const invitation = Invitation.format(registered)
  const uri = ContactPointUri.format(contactPoint)
  if (json) return yield* Output.json({ event: "registered", invitation, uri })
  yield* Console.log(`registered ${registered.sessionId}; invitation ${invitation}\njoin by: effect-nat join ${uri}`)
})

const unregister = Effect.fnUntraced(function* (remote: Remote, { json }: Input, sessionId: SessionId.SessionId) {
  if (!(yield* remote.unregister({ sessionId }))) return yield* noSession(sessionId)
  yield* json ? Output.json({ event: "unregistered", session: sessionId }) : Console.log(`unregistered ${sessionId}`)
})

const encodeContactPoint = Schema.encodeEffect(ContactPoint.ContactPoint)

const printSeen = Effect.fnUntraced(function* (seen: RemoteControl.SeenContactPoint, json: boolean, event?: string) {
  const addresses = seen.addresses.map(NetAddress.formatInet)
  const uri = ContactPointUri.format(seen.contactPoint)
  if (json) {
    const encoded = yield* encodeContactPoint(seen.contactPoint)
    return yield* Output.json({ ...(event === undefined ? {} : { event }), contactPoint: encoded, addresses, uri })
  }
  yield* Console.log(
    [
      `contact point: ${ContactPoint.format(seen.contactPoint)}`,
      `from here: ${addresses.length === 0 ? "not reachable" : addresses.join(", then ")}`,
      `join by: effect-nat join ${uri}`
    ].join("\n")
  )
})

const contactPoint = (remote: Remote, { json }: Input) =>
  Effect.flatMap(remote.contactPoint({}), (seen) => printSeen(seen, json))

/** Sessions and contact point, as they change: until Ctrl-C, or until the connection breaks. */
const watch = (remote: Remote, { json }: Input) =>
  Effect.all(
    [
      Stream.runForEach(remote.watch(), (sessions) =>
        json ? Output.json({ event: "sessions", sessions }) : Console.log(sessionTable(sessions))
      ),
      Stream.runForEach(remote.watchContactPoint({}), (seen) => printSeen(seen, json, "contactPoint"))
    ],
    { concurrency: "unbounded", discard: true }
  )

const strategy = Effect.fnUntraced(function* (remote: Remote, { json }: Input, name: string) {
  yield* Output.mappingEvent(json, "changed", yield* remote.changeStrategy({ strategy: name }))
})

const sessionIdOf = Effect.fnUntraced(function* (text: string) {
  const read = SessionId.fromString(text)
  return Option.isSome(read)
    ? read.value
    : yield* wrongCall(`${JSON.stringify(text)} is not a session's id: that has 32 hexadecimal digits`)
})

/** What an action is about is asked for before anything is sent. */
const argumentOf = Effect.fnUntraced(function* ({ action, what }: Input, name: string) {
  return what ?? (yield* wrongCall(`${action} which ${name}? Name it after ${action}`))
})

const prepare = Effect.fnUntraced(function* (input: Input) {
  switch (input.action) {
    case "lookup":
    case "unregister": {
      const id = yield* sessionIdOf(yield* argumentOf(input, "session"))
      return (remote: Remote) => (input.action === "lookup" ? lookup(remote, input, id) : unregister(remote, input, id))
    }
    case "strategy": {
      const name = yield* argumentOf(input, "strategy")
      return (remote: Remote) => strategy(remote, input, name)
    }
    case "register": {
      const id = input.what === undefined ? undefined : yield* sessionIdOf(input.what)
      return (remote: Remote) => register(remote, input, id)
    }
    default: {
      if (input.what !== undefined) return yield* wrongCall(`${input.action} takes no ${JSON.stringify(input.what)}`)
      const simple = { info, sessions, watch, "contact-point": contactPoint }[input.action]
      return (remote: Remote) => simple(remote, input)
    }
  }
})

const brokenDispatcher = (defect: unknown) => {
  const detail = defect instanceof Error ? defect.message : String(defect)
  return new Failure({ status: 1, message: `the dispatcher could not answer: ${Output.printable(oneLine(detail))}` })
}

/** Connects, asks or tells one thing, and prints what came of it. */
export const run = (input: Input) =>
  Effect.gen(function* () {
    const act = yield* prepare(input)
    const doing: Effect.Effect<void, Error> = act(yield* connect(input))
    // What the other side could not do comes as a defect of its own, and is none of this program.
    yield* Effect.catchDefect(doing, (defect) => Effect.fail(brokenDispatcher(defect)))
  }).pipe(Effect.scoped, Effect.provide(NodeConnector.layer))
