/**
 * `effect-nat join` as a person uses it: the built program, at a real dispatcher on loopback.
 */
import * as Capability from "@effect-nat/core/Capability"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as SessionId from "@effect-nat/core/SessionId"
import type * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import type * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as Session from "@effect-nat/dispatcher/Session"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { makeProxy } from "../dispatcher/proxy.ts"
import { bytesOf, dispatcher, textOf, until } from "../dispatcher/support.ts"
import * as LabProcess from "../lab/LabProcess.ts"
import { bin } from "../lab/LabProgram.ts"

const timeout = "20 seconds"

const start = (...args: ReadonlyArray<string>) => LabProcess.spawn(process.execPath, [bin, "join", ...args])

const run = (args: ReadonlyArray<string>, stdin = "") =>
  LabProcess.run(process.execPath, [bin, "join", ...args], { stdin, timeout })

const sessionOf = ({ capability, sessionId }: Invitation.Invitation, role = "") =>
  new ContactPoint.Session({ id: sessionId, role, capabilities: [capability] })

const uriOf = (address: NetAddress.InetAddress, ...sessions: ReadonlyArray<ContactPoint.Session>) =>
  ContactPointUri.format(ContactPoint.make({ internal: [address], sessions }))

/** A dispatcher with one session, the URI by which it is joined, and a member who hears everything. */
const hosted = Effect.gen(function* () {
  const one = yield* dispatcher()
  const invitation = yield* one.register()
  const member = yield* Session.joinAt([one.address], { invitation }).pipe(Effect.provide(NodeConnector.layer))
  return { one, invitation, member, uri: uriOf(one.address, sessionOf(invitation)) }
})

const hear = (member: Session.Session, count: number) =>
  member.messages.pipe(
    Stream.take(count),
    Stream.map(({ data }) => textOf(data)),
    Stream.runCollect
  )

const membersOf = (one: Dispatcher.Dispatcher["Service"], { sessionId }: Invitation.Invitation) =>
  Effect.map(one.lookup(sessionId), (info) => Option.getOrThrow(info).members)

const clock = String.raw`\d+:\d\d:\d\d\.\d{3}`

describe("effect-nat join", () => {
  it.live("says where it is, prints what everybody says with number and time, sends what is typed, and leaves", () =>
    Effect.gen(function* () {
      const { invitation, member, one, uri } = yield* hosted
      const joined = yield* start(uri)
      const where = yield* joined.awaitLine("joined session", { from: "stderr", timeout })
      assert.strictEqual(where, `joined session ${invitation.sessionId} at 127.0.0.1:${one.address.port}`)
      // Some programs end their lines so.
      yield* member.send(bytesOf("welcome\r\n"))
      yield* joined.awaitLine(new RegExp(`^1  ${clock}  welcome$`))
      yield* joined.write("thank you\n")
      yield* joined.awaitLine(new RegExp(`^2  ${clock}  thank you$`))
      assert.deepStrictEqual(yield* hear(member, 2), ["welcome\r\n", "thank you"])
      assert.strictEqual(yield* membersOf(one, invitation), 2)
      yield* joined.signal("SIGINT")
      assert.strictEqual((yield* joined.awaitExit()).exitCode, 130)
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
    })
  )

  it.live("says everything that is piped into it, hears it, and ends with status 0", () =>
    Effect.gen(function* () {
      const { invitation, member, one, uri } = yield* hosted
      const lines = Array.from({ length: 50 }, (_, index) => `line ${index}`)
      const { exitCode, stdout } = yield* run([uri], `${lines.join("\n")}\n`)
      assert.strictEqual(exitCode, 0)
      const said = stdout.trimEnd().split("\n")
      assert.deepStrictEqual(
        said.map((line) => line.split("  ")).map(([number, , text]) => [number, text]),
        lines.map((line, index) => [String(index + 1), line])
      )
      assert.deepStrictEqual(yield* hear(member, 50), lines)
      yield* until(Effect.map(membersOf(one, invitation), (count) => count === 1))
    })
  )

  it.live("with --json tells the same, one object a line, and what is no text as base64", () =>
    Effect.gen(function* () {
      const { invitation, member, one, uri } = yield* hosted
      const joined = yield* start(uri, "--json")
      const first = JSON.parse(yield* joined.awaitLine('"joined"', { timeout }))
      assert.deepStrictEqual(first, {
        event: "joined",
        session: invitation.sessionId,
        role: "",
        address: `127.0.0.1:${one.address.port}`
      })
      yield* member.send(bytesOf("a\nb\u001b[2J"))
      yield* member.send(Uint8Array.of(0xff, 0x00))
      yield* joined.awaitLine('"sequence":2')
      const [text, bytes] = (yield* joined.stdout)
        .trimEnd()
        .split("\n")
        .slice(1)
        .map((line) => JSON.parse(line))
      const heard = yield* member.messages.pipe(Stream.take(2), Stream.runCollect)
      assert.deepStrictEqual(text, {
        event: "message",
        sequence: 1,
        stamp: heard[0]?.stamp,
        text: "a\nb\u001b[2J",
        base64: null
      })
      assert.deepStrictEqual(bytes, { ...text, sequence: 2, stamp: heard[1]?.stamp, text: null, base64: "/wA=" })
      assert.strictEqual(yield* joined.stderr, "")
    })
  )

  it.live("lets nobody steer the terminal", () =>
    Effect.gen(function* () {
      const { member, uri } = yield* hosted
      const joined = yield* start(uri)
      yield* joined.awaitLine("joined", { from: "stderr", timeout })
      yield* member.send(bytesOf("\u001b[2Jgone\r\nfake\u009b31m\u0007"))
      yield* member.send(Uint8Array.of(0xff, 0x1b))
      yield* joined.awaitLine(new RegExp(String.raw`^1  ${clock}  \?\[2Jgone\?\?fake\?31m\?$`))
      yield* joined.awaitLine(new RegExp(String.raw`^2  ${clock}  \(2 bytes that are no text: see them with --json\)$`))
    })
  )

  it.live("with --sync begins with what was said before", () =>
    Effect.gen(function* () {
      const { member, uri } = yield* hosted
      yield* member.send(bytesOf("past"))
      yield* hear(member, 1)
      yield* member.serve(Effect.succeed({ sequence: 1, data: bytesOf("all\nof it\u0007\n") }))
      const joined = yield* start(uri, "--sync")
      yield* joined.awaitLine("of it", { timeout })
      assert.strictEqual(yield* joined.stdout, "up to 1:\nall\nof it?\n")
      const asJson = yield* start(uri, "--sync", "--json")
      const told = JSON.parse(yield* asJson.awaitLine('"snapshot"', { timeout }))
      assert.deepStrictEqual(told, {
        event: "snapshot",
        sequence: 1,
        stamp: null,
        text: "all\nof it\u0007\n",
        base64: null
      })
    })
  )

  it.live("says that the connection broke, and that it is there again, without a line missing", () =>
    Effect.gen(function* () {
      const { invitation, member, one } = yield* hosted
      const proxy = yield* makeProxy(one.address)
      const uri = uriOf(proxy.address, sessionOf(invitation))
      const joined = yield* start(uri)
      const asJson = yield* start(uri, "--json")
      yield* joined.awaitLine("joined", { from: "stderr", timeout })
      yield* asJson.awaitLine("joined", { timeout })
      yield* proxy.setMode("refuse")
      yield* proxy.cut
      yield* joined.awaitLine("the connection broke: making it again", { from: "stderr" })
      yield* asJson.awaitLine('{"event":"lost"}')
      yield* member.send(bytesOf("meanwhile"))
      yield* proxy.setMode("pass")
      const address = `127.0.0.1:${proxy.address.port}`
      yield* joined.awaitLine(`connected again at ${address}`, { from: "stderr" })
      yield* asJson.awaitLine(`{"event":"regained","address":"${address}"}`)
      yield* joined.awaitLine(new RegExp(`^1  ${clock}  meanwhile$`))
    })
  )

  it.live("takes the session that is named by role or id, else the first one, and says which others there are", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher()
      const [scene, content] = [yield* one.register(), yield* one.register()]
      const uri = uriOf(one.address, sessionOf(scene, "scene"), sessionOf(content, "content\u0007"))
      const saysFirst = yield* run([uri])
      assert.strictEqual(
        saysFirst.stderr,
        "joining session scene; there are others, for --session: content?\n" +
          `joined session scene at 127.0.0.1:${one.address.port}\n`
      )
      const byRole = yield* run([uri, "--session", "scene", "--json"])
      assert.strictEqual(JSON.parse(byRole.stdout).session, scene.sessionId)
      const byId = yield* run([uri, "--session", content.sessionId.toUpperCase(), "--json"])
      assert.strictEqual(JSON.parse(byId.stdout).session, content.sessionId)
      assert.strictEqual(byId.stderr, "")
    })
  )

  it.live("ends with status 1 when the session is over, after what was said last", () =>
    Effect.gen(function* () {
      const { invitation, member, one, uri } = yield* hosted
      const joined = yield* start(uri)
      yield* joined.awaitLine("joined", { from: "stderr", timeout })
      yield* member.send(bytesOf("the last word"))
      yield* joined.awaitLine("the last word")
      yield* one.unregister(invitation.sessionId)
      assert.strictEqual((yield* joined.awaitExit()).exitCode, 1)
      assert.include(yield* joined.stderr, "effect-nat: the connection was closed: the session was closed\n")
      assert.notInclude(yield* joined.stderr, "making it again")
    })
  )

  it.live("goes on after a line that is too long, or that it may not send, and says so", () =>
    Effect.gen(function* () {
      const one = yield* dispatcher({ maxMessageBytes: 128 })
      const all = yield* one.register()
      const long = yield* run([uriOf(one.address, sessionOf(all))], `${"x".repeat(129)}\nshort\n`)
      assert.include(long.stderr, "warn: not sent: a message of 129 bytes is too large")
      assert.match(long.stdout, new RegExp(`^1  ${clock}  short\n$`))
      assert.strictEqual(long.exitCode, 0)
      const listener = yield* one.invite(all.sessionId, ["join"])
      const mute = yield* run([uriOf(one.address, sessionOf(listener))], "hello?\n")
      assert.include(mute.stderr, 'warn: not sent: the invitation does not grant "send"')
      assert.strictEqual(mute.exitCode, 0)
    })
  )
})

describe("effect-nat join says in one line what is wrong with", () => {
  const check = Effect.fnUntraced(function* (args: ReadonlyArray<string>, status: number, says: RegExp) {
    const { exitCode, stderr, stdout } = yield* run(args)
    assert.match(stderr, says)
    assert.match(stderr, /^effect-nat: .*\n$/, "one line")
    assert.strictEqual(stdout, "")
    assert.strictEqual(exitCode, status)
    const asJson = yield* run([...args, "--json"])
    assert.strictEqual(JSON.parse(asJson.stdout).event, "failed")
    assert.strictEqual(asJson.exitCode, status)
  })

  it.live("what is no contact point", () =>
    check(["http://example.org"], 2, /this is no contact point: it does not begin/)
  )

  it.live("a contact point that pins a certificate, where something answers without it", () =>
    Effect.gen(function* () {
      const { invitation, one } = yield* hosted
      const fingerprint = ContactPoint.Fingerprint.make("0".repeat(64))
      const pinned = ContactPoint.make({ internal: [one.address], sessions: [sessionOf(invitation)], fingerprint })
      yield* check([ContactPointUri.format(pinned)], 1, /TLS|certificate/)
      assert.strictEqual(yield* membersOf(one, invitation), 1)
    })
  )

  it.live("half a contact point", () =>
    Effect.gen(function* () {
      const { uri } = yield* hosted
      yield* check([uri.slice(0, -8)], 2, /incomplete or was changed on its way: copy all of it again/)
    })
  )

  it.live("a contact point without a session, without the wanted one, or with a locked one", () =>
    Effect.gen(function* () {
      const { one, uri } = yield* hosted
      yield* check([uriOf(one.address)], 2, /names no session: ask for one that does/)
      yield* check([uri, "--session", "scene"], 2, /names no session "scene": choose one of [0-9a-f]{32}$/m)
      const locked = new ContactPoint.Session({ id: yield* SessionId.make, role: "scene", capabilities: [] })
      yield* check([uriOf(one.address, locked)], 2, /session scene is locked: ask for an invitation/)
    })
  )

  it.live("a session that is not there, a capability that does not open it, and a host that does not answer", () =>
    Effect.gen(function* () {
      const { invitation, one } = yield* hosted
      const capability = yield* Capability.make
      const gone = { sessionId: yield* SessionId.make, capability }
      yield* check([uriOf(one.address, sessionOf(gone))], 1, /no session with this id: check the id/)
      yield* check([uriOf(one.address, sessionOf({ ...invitation, capability }))], 1, /ask for another invitation/)
      const proxy = yield* makeProxy(one.address)
      yield* proxy.setMode("refuse")
      yield* check([uriOf(proxy.address, sessionOf(invitation))], 1, /closed the connection without an answer/)
    })
  )
})
