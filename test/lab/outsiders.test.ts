/**
 * What can be done at a mapped port without a capability: nothing. Somebody in the world says what is wrong, what was
 * overheard, and parts of what is right, and asks on the dispatcher's own host what has become of it.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Capability from "@effect-nat/core/Capability"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Crypto from "node:crypto"
import { bytesOf, handshake, hex } from "../dispatcher/support.ts"
import { path, serve } from "./contact-point-lab.ts"
import * as Lab from "./Lab.ts"
import type * as LabProcess from "./LabProcess.ts"
import { bin, daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"
import type { Job, Outcome } from "./raw-agent.ts"

const refusal = (code: number) => `8e4e415401${code.toString(16).padStart(2, "0")}0000`
const unknownSession = refusal(3)
const notGranted = refusal(13)

/** A challenge, and nothing after it. */
const challenged = /^8e4e415401000000[0-9a-f]{64}$/

/** A challenge, then the frame that says `NotGranted`, and nothing after it. */
const challengedInVain = /^8e4e415401000000[0-9a-f]{64}00000015[0-9a-f]{8}09(?:00){15}0d$/

/** The header of a forwarded connection, by which somebody in the world passes for a program on the dispatcher's host. */
const fromLoopback = "0d0a0d0a000d0a515549540a2111000c7f0000017f000001c0002ee0"

const ascii = (text: string) => hex(bytesOf(text))

const randomId = () => Crypto.randomBytes(16).toString("hex")

const invitationOf = (sessionId: string, capability: string) =>
  new Invitation.Invitation({
    sessionId: SessionId.SessionId.make(sessionId),
    capability: Capability.Capability.make(capability)
  })

const helloOf = (sessionId: string, capability: string) => hex(handshake(invitationOf(sessionId, capability)).hello)

/** What the dispatcher has, asked on its own host. */
const listed = Effect.fnUntraced(function* (server: LabProcess.LabProcess) {
  const word = randomId()
  yield* server.write(`${word}\n`)
  const line = yield* server.awaitLine(word)
  return line.slice(word.length + 1)
})

const changesOf = Effect.fnUntraced(function* (server: LabProcess.LabProcess) {
  return (yield* server.stdout).split("\n").filter((line) => line.startsWith("changed "))
})

/** What the dispatcher has, and what it has said of it. */
const state = Effect.fnUntraced(function* (server: LabProcess.LabProcess) {
  return { list: yield* listed(server), changes: yield* changesOf(server) }
})

/** The dispatcher, somebody in the world, and what may be known of the one to the other. */
const begin = Effect.fnUntraced(function* (strategy: "upnp" | "pcp", ...autoCreate: ReadonlyArray<string>) {
  const lab = yield* Lab.make({ daemon: daemons[strategy] })
  const { manage, server } = yield* serve(lab, strategy, ...autoCreate)
  const contactPoint = yield* Effect.fromResult(ContactPointUri.fromString(manage))
  const { capabilities, id } = yield* Effect.fromOption(ContactPoint.findSession(contactPoint, "scene"))
  const control = yield* Effect.fromOption(Option.fromNullishOr(contactPoint.control))
  const capability = yield* Effect.fromOption(Option.fromNullishOr(capabilities[0]))
  const stranger = yield* lab.spawn("wan", process.execPath, [path("raw-agent.ts"), "11.22.33.1", "12001"])
  const perform = Effect.fnUntraced(function* (job: Omit<Job, "id">) {
    const id = randomId()
    yield* stranger.write(`${JSON.stringify({ ...job, id })}\n`)
    const outcome: Outcome = JSON.parse(yield* stranger.awaitLine(id, { timeout: "20 seconds" }))
    return outcome
  })
  yield* server.awaitLine(`"role":"content","members":1`)
  return { capability, control, lab, perform, server, session: id, before: yield* state(server) }
})

const controlId = "0".repeat(32)

for (const strategy of ["upnp", "pcp"] as const) {
  for (const [title, autoCreate] of [
    ["", []],
    [", which makes sessions for those who may have them", [randomId()]]
  ] as const) {
    labSuite(`a dispatcher behind a mapping (${strategy})${title}`, () => {
      it.live(
        "creates, opens, lists and watches no session for those without a capability",
        () =>
          Effect.gen(function* () {
            const { before, capability, control, perform, server, session } = yield* begin(strategy, ...autoCreate)
            const wrongProof = "00".repeat(16)
            const asked = ascii(
              ["list", "watch", "register"]
                .map((tag, index) => `{"_tag":"Request","id":"${index}","tag":"${tag}","payload":null,"headers":[]}\n`)
                .join("")
            )
            const withoutIds = new RegExp(`^(?!.*(?:${session}|${ascii(session)})).*$`)
            const attempts: ReadonlyArray<readonly [string, string, string | RegExp]> = [
              ["a session that is not there", helloOf(randomId(), randomId()), unknownSession],
              ["another one with the capability of one that is", helloOf(randomId(), capability), unknownSession],
              ["another one with the capability for control", helloOf(randomId(), control), unknownSession],
              ["a session, with a capability that is none", helloOf(session, randomId()), notGranted],
              ["a session, with the capability for control", helloOf(session, control), notGranted],
              ["a session, by the name alone", `${helloOf(session, capability)}${wrongProof}`, challengedInVain],
              ["control, with a capability that is none", helloOf(controlId, randomId()), notGranted],
              ["control, with the capability of a session", helloOf(controlId, capability), notGranted],
              [
                "control, by the name alone, with questions behind it",
                `${helloOf(controlId, control)}${wrongProof}${asked}`,
                challengedInVain
              ],
              ["questions without a hello", asked, ""],
              ["questions of a browser", ascii("GET / HTTP/1.1\r\nHost: island\r\n\r\n"), withoutIds],
              ["what only a forwarder may say", `${fromLoopback}${helloOf(session, randomId())}`, ""],
              ...autoCreate.map(
                (secret) =>
                  [
                    "a new session, by the name alone",
                    `${helloOf(randomId(), secret)}${wrongProof}`,
                    challengedInVain
                  ] as const
              )
            ]
            for (const [what, send, expected] of attempts) {
              const outcome = yield* perform({ send })
              assert.isTrue(outcome.closed, what)
              if (typeof expected === "string") assert.strictEqual(outcome.received, expected, what)
              else assert.match(outcome.received, expected, what)
            }
            assert.deepStrictEqual(yield* state(server), before)
          }),
        60_000
      )
    })
  }

  labSuite(`a handshake through a mapping (${strategy})`, () => {
    it.live(
      "that is cut off after any of its bytes changes nothing; a whole one does",
      () =>
        Effect.gen(function* () {
          const secret = randomId()
          const { before, capability, control, perform, server, session } = yield* begin(strategy, secret)
          const begun = (to: string, capability: string, bytes: number) => {
            const send = helloOf(to, capability).slice(0, 2 * bytes)
            const prove = { capability, bytes: bytes - 48 }
            return perform(bytes < 48 ? { send, end: true } : { send, end: bytes < 64, prove })
          }
          for (const [to, capability_] of [
            [session, capability],
            [controlId, control],
            [randomId(), secret]
          ] as const) {
            const all = Array.from({ length: 64 }, (_, bytes) => begun(to, capability_, bytes))
            const outcomes = yield* Effect.all(all, { concurrency: 16 })
            outcomes.forEach(({ closed, received }, bytes) => {
              assert.isTrue(closed, `after ${bytes} bytes`)
              assert.match(received, bytes < 48 ? /^$/ : challenged, `after ${bytes} bytes`)
            })
          }
          assert.deepStrictEqual(yield* state(server), before)
          yield* Effect.forkScoped(begun(session, capability, 64))
          yield* server.awaitLine(/^changed .*"role":"scene","members":2/)
          yield* Effect.forkScoped(begun("5e".repeat(16), secret, 64))
          yield* server.awaitLine(new RegExp(`^changed .*${"5e".repeat(16)}`))
        }),
      60_000
    )

    it.live(
      "that was overheard, a member's or a controller's, is worth nothing to whoever sends it again",
      () =>
        Effect.gen(function* () {
          const { capability, control, lab, perform, server, session } = yield* begin(strategy)
          const recorder = yield* lab.spawn("wan", process.execPath, [
            path("recorder-agent.mjs"),
            "13000",
            "11.22.33.1",
            "12001"
          ])
          yield* recorder.awaitLine("listening")
          const invitation = Invitation.format(invitationOf(session, capability))
          const member = yield* lab.spawn("wan", process.execPath, [
            path("session-agent.ts"),
            "127.0.0.1:13000",
            invitation
          ])
          yield* member.awaitLine("joined", { timeout: "20 seconds" })
          yield* member.write("a word\n")
          yield* member.awaitLine("got heard a word")
          yield* member.signal("SIGTERM")
          const overheard = [yield* recorder.awaitLine("recorded ")]
          const here = NetAddress.inetAddressUnsafe(NetAddress.ipv4Loopback, 13000)
          const uri = ContactPointUri.format(ContactPoint.make({ internal: [here], control }))
          yield* lab.exec("wan", process.execPath, [bin, "remote", uri, "register", "--role", "cellar"])
          overheard.push(yield* recorder.awaitLine("recorded ", { occurrence: 2 }))
          yield* server.awaitLine(/^changed .*"role":"scene","members":1.*"role":"cellar"/)

          const before = yield* state(server)
          for (const line of overheard) {
            const bytes = line.slice("recorded ".length)
            assert.isAbove(bytes.length, 2 * 64)
            const cuts = Array.from({ length: bytes.length / 2 + 1 }, (_, length) =>
              perform({ send: bytes.slice(0, 2 * length), end: length < 64 })
            )
            const outcomes = yield* Effect.all(cuts, { concurrency: 16 })
            outcomes.forEach(({ closed, received }, length) => {
              assert.isTrue(closed, `${length} bytes`)
              if (length >= 64) assert.match(received, challengedInVain, `${length} bytes`)
            })
          }
          assert.deepStrictEqual(yield* state(server), before)
          const heard = (yield* server.stdout).split("\n").filter((line) => line === "scene: a word")
          assert.lengthOf(heard, 1)
        }),
      90_000
    )
  })
}
