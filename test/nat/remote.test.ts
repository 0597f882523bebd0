/**
 * `effect-nat remote` as a person uses it: the built program, at a real dispatcher on loopback.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeTcpListener from "@effect-nat/dispatcher/NodeTcpListener"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { loopback, mapperLayer, until } from "../dispatcher/support.ts"
import * as LabProcess from "../lab/LabProcess.ts"
import { bin } from "../lab/LabProgram.ts"

const environment = Layer.mergeAll(
  NodeTcpListener.layer,
  mapperLayer,
  Layer.provide(ContactPointResolver.layer, NodeHost.layer)
)

const timeout = "20 seconds"

const run = (...args: ReadonlyArray<string>) => LabProcess.run(process.execPath, [bin, "remote", ...args], { timeout })

/** A dispatcher with a session, and the URI that opens its control. */
const controlled = Effect.fnUntraced(function* (right: Dispatcher.Right) {
  const one = yield* Dispatcher.make({ port: 0, address: loopback }).pipe(Effect.provide(environment))
  const scene = yield* one.register({ role: "scene\u0007" })
  const control = yield* one.grantControl(right)
  const uri = ContactPointUri.format(ContactPoint.make({ internal: [one.address], control }))
  return { one, scene, uri }
})

const fails = Effect.fnUntraced(function* (args: ReadonlyArray<string>, status: number, says: RegExp) {
  const { exitCode, stderr, stdout } = yield* run(...args)
  assert.match(stderr, says)
  assert.match(stderr, /^effect-nat: .*\n$/, "one line")
  assert.strictEqual(stdout, "")
  assert.strictEqual(exitCode, status)
})

describe("effect-nat remote", () => {
  it.live("lists and looks up sessions, for people and for programs", () =>
    Effect.gen(function* () {
      const { scene, uri } = yield* controlled("observe")
      const id = scene.sessionId
      const table = `Role    Session                           Members\nscene?  ${id}  0\n`
      assert.strictEqual((yield* run(uri, "sessions")).stdout, table)
      assert.strictEqual((yield* run(uri, "lookup", id.toUpperCase())).stdout, table)
      const session = { id, role: "scene\u0007", members: 0 }
      assert.deepStrictEqual(JSON.parse((yield* run(uri, "sessions", "--json")).stdout), [session])
      assert.deepStrictEqual(JSON.parse((yield* run(uri, "lookup", id, "--json")).stdout), session)
    })
  )

  it.live("registers a session that can be joined by what it prints, and ends it", () =>
    Effect.gen(function* () {
      const { one, uri } = yield* controlled("manage")
      const { stdout } = yield* run(uri, "register", "--role", "content")
      const [, word = "", joinUri = ""] =
        /^registered [0-9a-f]{32}; invitation (\S+)\njoin by: effect-nat join (\S+)\n$/.exec(stdout) ?? []
      const { sessionId } = Result.getOrThrow(Invitation.fromString(word))
      const { sessions } = Result.getOrThrow(ContactPointUri.fromString(joinUri))
      assert.deepStrictEqual(
        sessions.map(({ capabilities, id, role }) => [`${id}.${capabilities[0]}`, role]),
        [[word, "content"]]
      )
      assert.isTrue(Option.isSome(yield* one.lookup(sessionId)))
      const joined = yield* LabProcess.run(process.execPath, [bin, "join", joinUri], { timeout, stdin: "hello\n" })
      assert.match(joined.stdout, /^1 .* hello\n$/)
      assert.strictEqual((yield* run(uri, "unregister", sessionId)).stdout, `unregistered ${sessionId}\n`)
      assert.isTrue(Option.isNone(yield* one.lookup(sessionId)))
      yield* fails([uri, "unregister", sessionId], 1, /the dispatcher has no session/)
      const wanted = yield* SessionId.make
      const { event, invitation } = JSON.parse((yield* run(uri, "register", wanted, "--json")).stdout)
      assert.strictEqual(event, "registered")
      assert.match(invitation, new RegExp(`^${wanted}\\.`))
      yield* fails([uri, "register", wanted], 1, /is registered already/)
    })
  )

  it.live("shows what comes and goes", () =>
    Effect.gen(function* () {
      const { one, scene, uri } = yield* controlled("observe")
      const watcher = yield* LabProcess.spawn(process.execPath, [bin, "remote", uri, "watch", "--json"])
      yield* watcher.awaitLine(scene.sessionId, { timeout })
      const content = yield* one.register({ role: "content" })
      yield* watcher.awaitLine(content.sessionId)
      yield* one.unregister(scene.sessionId)
      yield* until(Effect.map(watcher.stdout, (text) => !text.trimEnd().split("\n").at(-1)?.includes(scene.sessionId)))
      yield* watcher.signal("SIGINT")
      assert.strictEqual((yield* watcher.awaitExit()).exitCode, 130)
    })
  )

  it.live("tells the contact point, and the addresses that are good from here", () =>
    Effect.gen(function* () {
      const { scene, uri } = yield* controlled("observe")
      const { stdout } = yield* run(uri, "contact-point")
      assert.match(stdout, /^contact point: internal .*\nfrom here: .*\njoin by: effect-nat join effect-nat:\S+\n$/)
      const told = JSON.parse((yield* run(uri, "contact-point", "--json")).stdout)
      assert.strictEqual(told.contactPoint.sessions[0].id, scene.sessionId)
      assert.isUndefined(told.contactPoint.control)
    })
  )

  it.live("says in words that the dispatcher has ended", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.fork(yield* Effect.scope)
      const { scene, uri } = yield* Scope.provide(controlled("observe"), scope)
      const watcher = yield* LabProcess.spawn(process.execPath, [bin, "remote", uri, "watch", "--json"])
      yield* watcher.awaitLine(scene.sessionId, { timeout })
      yield* Scope.close(scope, Exit.void)
      const { exitCode } = yield* watcher.awaitExit()
      assert.strictEqual(
        yield* watcher.stderr,
        "effect-nat: the connection to the dispatcher broke: see whether it still runs, then ask again\n"
      )
      assert.strictEqual(exitCode, 1)
    })
  )

  it.live("says in one line what it cannot do", () =>
    Effect.gen(function* () {
      const { one, uri } = yield* controlled("observe")
      yield* fails(["effect-nat:AQ", "info"], 2, /the contact point is incomplete/)
      const open = ContactPoint.make({ internal: [one.address] })
      yield* fails([ContactPointUri.format(open), "info"], 2, /does not open the control of its dispatcher/)
      const fingerprint = ContactPoint.Fingerprint.make("0".repeat(64))
      const control = yield* one.grantControl("observe")
      const pinned = ContactPointUri.format(ContactPoint.make({ ...open, control, fingerprint }))
      yield* fails([pinned, "sessions"], 1, /TLS|certificate/)
      yield* fails([uri, "lookup"], 2, /lookup needs a session: effect-nat remote URI lookup ID/)
      yield* fails([uri, "strategy"], 2, /strategy needs a strategy: effect-nat remote URI strategy NAME/)
      yield* fails([uri, "lookup", "abc"], 2, /"abc" is not a session's id/)
      yield* fails([uri, "info", "abc"], 2, /info takes no "abc"/)
      yield* fails([uri, "frobnicate"], 2, /frobnicate/)
      yield* fails([uri, "register"], 1, /./)
      assert.lengthOf(yield* one.list, 1)
      yield* one.revokeControl(Option.getOrThrow(Option.fromNullishOr(controlOf(uri))))
      yield* fails([uri, "sessions"], 1, /refused/)
      const asJson = yield* run(uri, "sessions", "--json")
      assert.strictEqual(JSON.parse(asJson.stdout).event, "failed")
    })
  )
})

const controlOf = (uri: string) => Result.getOrThrow(ContactPointUri.fromString(uri)).control
