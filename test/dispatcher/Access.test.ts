/** Who comes in, and what it may do then; over simulated connections. */
import * as Capability from "@effect-nat/core/Capability"
import type * as CloseReason from "@effect-nat/dispatcher/CloseReason"
import * as DispatcherMetrics from "@effect-nat/dispatcher/DispatcherMetrics"
import * as Facet from "@effect-nat/dispatcher/Facet"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as TestClock from "effect/testing/TestClock"
import {
  bytesOf,
  enter,
  enterAndJoin,
  framesIn,
  fromHex,
  handshake,
  hex,
  proofOf,
  requestOf,
  settle,
  simulated,
  type SimulatedConnection,
  type SimulatedMember,
  takenBy,
  wordsOf
} from "./support.ts"

const zero = new Uint8Array(Facet.byteLength)

const random = (length: number) => crypto.getRandomValues(new Uint8Array(length))

const anyOther = {
  sessionId: SessionId.SessionId.make("f".repeat(32)),
  capability: Capability.Capability.make("e".repeat(32))
}

const otherwise = (invitation: Invitation.Invitation, other: Partial<Invitation.Invitation>) =>
  new Invitation.Invitation({ ...invitation, ...other })

const refusalBy = (connection: SimulatedConnection) => {
  const decoded = Wire.decodeReply(takenBy(connection))
  return decoded._tag === "Complete" && decoded.value._tag === "Refused" ? decoded.value.reason : decoded
}

/** What a connection heard after its challenge. */
const afterChallenge = (connection: SimulatedConnection) =>
  wordsOf(framesIn(takenBy(connection).subarray(Wire.challengeLength)))

/** How often connections were closed for a reason, so far as the metrics have been told. */
const closedFor = (reason: CloseReason.CloseReason) =>
  Effect.map(Metric.value(Metric.withAttributes(DispatcherMetrics.closed, { reason })), ({ count }) => count)

const ownMetrics = Effect.provideService(Metric.CurrentMetricAttributes, { test: crypto.randomUUID() })

describe("coming in", () => {
  it.effect("takes the capability: the session's id grants nothing", () =>
    Effect.gen(function* () {
      const { connect, invitation, members } = yield* simulated()
      const guess = yield* connect
      guess.handler.onData(handshake(otherwise(invitation, { capability: anyOther.capability })).hello)
      // As above, with the right name, which whoever listens on the way can see.
      const overheard = yield* connect
      overheard.handler.onData(handshake(invitation).hello)
      yield* settle
      assert.strictEqual(refusalBy(guess), "NotGranted")
      const { proof } = handshake(otherwise(invitation, { capability: anyOther.capability }))
      overheard.handler.onData(proof(takenBy(overheard)))
      yield* settle
      assert.deepStrictEqual(afterChallenge(overheard), ["Close: NotGranted"])
      assert.strictEqual(yield* members, 0)
    })
  )

  it.effect("takes the proof to its last bit, in however small pieces, and not that of the other side", () =>
    Effect.gen(function* () {
      const { connect, invitation, members } = yield* simulated()
      const attempt = Effect.fnUntraced(function* (change: (proof: Uint8Array, challenge: Uint8Array) => Uint8Array) {
        const connection = yield* connect
        const { hello, proof } = handshake(invitation)
        for (const byte of hello) {
          connection.handler.onData(Uint8Array.of(byte))
        }
        yield* settle
        const challenge = takenBy(connection)
        for (const byte of change(proof(challenge), challenge)) {
          connection.handler.onData(Uint8Array.of(byte))
        }
        yield* settle
        return afterChallenge(connection)
      })
      for (let bit = 0; bit < 128; bit++) {
        const flipped = (proof: Uint8Array) =>
          proof.map((byte, at) => (at === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte))
        assert.deepStrictEqual(yield* attempt(flipped), ["Close: NotGranted"], `${bit}`)
      }
      assert.deepStrictEqual(yield* attempt((_proof, challenge) => challenge.subarray(24, 40)), ["Close: NotGranted"])
      assert.strictEqual(yield* members, 0)
      assert.deepStrictEqual(yield* attempt((proof) => proof), ["Welcome"])
    })
  )

  it.effect("cannot be had by saying again what another one said", () =>
    Effect.gen(function* () {
      const { connect, endTurn, invitation, join, members } = yield* simulated()
      const listener = yield* join
      const first = yield* connect
      const { hello, proof } = handshake(invitation)
      first.handler.onData(hello)
      yield* settle
      const shown = proof(takenBy(first))
      first.handler.onData(shown)
      yield* settle
      const [welcome] = framesIn(takenBy(first).subarray(Wire.challengeLength))
      assert(welcome?._tag === "Welcome")
      const message = requestOf(welcome, "send", bytesOf("once"))
      const recorded = [hello, shown, requestOf(welcome, "join"), message.slice()]
      first.handler.onData(message)
      endTurn()
      const again = yield* connect
      for (const bytes of recorded) {
        again.handler.onData(bytes)
      }
      const atOnce = yield* connect
      atOnce.handler.onData(new Uint8Array(Buffer.concat(recorded)))
      endTurn()
      yield* settle
      for (const replayed of [again, atOnce]) {
        assert.deepStrictEqual(afterChallenge(replayed), ["Close: NotGranted"])
        assert.notStrictEqual(
          hex(takenBy(replayed).subarray(8, 24)),
          hex(takenBy(first).subarray(8, 24)),
          "the same random number twice"
        )
        assert.strictEqual(replayed.state(), "destroyed")
      }
      assert.deepStrictEqual(listener.heard(), ["once"])
      assert.strictEqual(yield* members, 2)
    })
  )

  it.effect("shows the client a router that knows the capability", () =>
    Effect.gen(function* () {
      const { connect, invitation } = yield* simulated()
      const nonce = random(16)
      const connection = yield* connect
      connection.handler.onData(handshake(invitation, Buffer.from(nonce)).hello)
      yield* settle
      const challenge = takenBy(connection)
      const expected = proofOf(invitation.capability, "router", invitation.sessionId, nonce, challenge.subarray(8, 24))
      assert.strictEqual(hex(challenge.subarray(24, 40)), hex(expected))
    })
  )

  it.effect("ends where the invitation, the session or the room in it go while the proof is on its way", () =>
    Effect.gen(function* () {
      const { connect, dispatcher, enter, invitation } = yield* simulated({ maxMembers: 1 })
      const begin = Effect.fnUntraced(function* (one: Invitation.Invitation) {
        const connection = yield* connect
        const { hello, proof } = handshake(one)
        connection.handler.onData(hello)
        yield* settle
        return Effect.suspend(() => {
          connection.handler.onData(proof(takenBy(connection)))
          return Effect.as(settle, connection)
        })
      })
      const [full, ended, revoked] = [
        yield* begin(invitation),
        yield* begin(yield* dispatcher.register()),
        yield* begin(yield* dispatcher.invite(invitation.sessionId))
      ]
      yield* enter
      assert.deepStrictEqual(afterChallenge(yield* full), ["Close: SessionFull"])
      const [, second] = yield* dispatcher.list
      assert(second !== undefined)
      yield* dispatcher.unregister(second.id)
      assert.deepStrictEqual(afterChallenge(yield* ended), ["Close: UnknownSession"])
      const third = yield* dispatcher.invite(invitation.sessionId)
      const late = yield* begin(third)
      yield* dispatcher.revoke(third)
      assert.deepStrictEqual(afterChallenge(yield* late), ["Close: NotGranted"])
      assert.deepStrictEqual(afterChallenge(yield* revoked), ["Close: SessionFull"])
    })
  )
})

describe("facets", () => {
  it.effect("are new for each connection, and all zero where they are not granted", () =>
    Effect.gen(function* () {
      const { connect, dispatcher, id } = yield* simulated()
      const watching = yield* dispatcher.invite(id, Facet.watching)
      const [first, second] = [yield* enter(yield* connect, watching), yield* enter(yield* connect, watching)]
      const seen = new Set<string>()
      for (const { welcome } of [first, second]) {
        assert.deepStrictEqual(Object.keys(welcome.facets), [...Facet.watching])
        for (const facet of Object.values(welcome.facets)) {
          seen.add(hex(facet))
        }
      }
      assert.strictEqual(seen.size, 2 * Facet.watching.length)
      const raw = yield* connect
      const { hello, proof } = handshake(watching)
      raw.handler.onData(hello)
      yield* settle
      raw.handler.onData(proof(takenBy(raw)))
      yield* settle
      const start = Wire.challengeLength + Wire.headerLength + 12
      const facetAt = (index: number) => takenBy(raw).subarray(start + index * 16, start + index * 16 + 16)
      Facet.all.forEach((facet, index) => {
        assert.strictEqual(hex(facetAt(index)) === hex(zero), !Facet.watching.includes(facet), facet)
      })
    })
  )

  it.effect("name nothing where they are all zero, another connection's, or one bit off", () =>
    Effect.gen(function* () {
      const { connect, dispatcher, endTurn, id, join, members } = yield* simulated()
      const listener = yield* join
      const watching = yield* dispatcher.invite(id, Facet.watching)
      const facetOf = ({ welcome }: SimulatedMember) => welcome.facets.send ?? zero
      const cases: ReadonlyArray<(own: SimulatedMember) => Uint8Array> = [
        () => zero,
        () => facetOf(listener),
        () => random(16),
        ...Array.from({ length: 16 }, (_, at) => ({ welcome }: SimulatedMember) => {
          const facet = (welcome.facets.join ?? zero).slice()
          facet[at] = (facet[at] ?? 0) ^ 0x10
          return facet
        })
      ]
      for (const facet of cases) {
        const member = yield* enter(yield* connect, watching)
        member.handler.onData(Wire.encodeRequest(facet(member), bytesOf("x")))
        endTurn()
        yield* settle
        assert.deepStrictEqual(member.heard(), ["Close: UnknownFacet"])
        assert.strictEqual(member.state(), "destroyed")
      }
      assert.deepStrictEqual(listener.heard(), [])
      assert.strictEqual(yield* members, 1)
    })
  )

  it.effect("are obeyed one by one: whoever may only send hears nothing, whoever may only watch says nothing", () =>
    Effect.gen(function* () {
      const { connect, dispatcher, endTurn, id } = yield* simulated()
      const speaker = yield* enter(yield* connect, yield* dispatcher.invite(id, ["send"]))
      const watcher = yield* enterAndJoin(yield* connect, yield* dispatcher.invite(id, ["join"]))
      speaker.say("hello")
      endTurn()
      yield* settle
      assert.deepStrictEqual(watcher.heard(), ["hello"])
      speaker.ask("join")
      watcher.ask("timeStamp")
      yield* settle
      assert.deepStrictEqual(speaker.heard(), ["Close: UnknownFacet"])
      assert.deepStrictEqual(watcher.heard(), ["hello", "Close: UnknownFacet"])
    })
  )
})

describe("a revoked invitation", () => {
  it.effect("closes those that came in with it and no other, after what they had sent", () =>
    Effect.gen(function* () {
      const { connect, dispatcher, endTurn, id, invitation, join, members } = yield* simulated()
      const other = yield* dispatcher.invite(id)
      const owner = yield* join
      const [first, second] = [yield* enterAndJoin(yield* connect, other), yield* enter(yield* connect, other)]
      first.say("mine")
      assert.isTrue(yield* dispatcher.revoke(other))
      assert.isFalse(yield* dispatcher.revoke(other))
      owner.say("still here")
      endTurn()
      yield* settle
      assert.deepStrictEqual(first.heard(), ["mine", "Close: Revoked"])
      assert.deepStrictEqual(second.heard(), ["Close: Revoked"])
      assert.deepStrictEqual(owner.heard(), ["mine", "still here"])
      assert.strictEqual(yield* members, 1)
      const late = yield* connect
      late.handler.onData(handshake(other).hello)
      yield* settle
      assert.strictEqual(refusalBy(late), "NotGranted")
      yield* enter(yield* connect, invitation)
    })
  )

  it.effect("is one of its own session only", () =>
    Effect.gen(function* () {
      const { dispatcher, invitation, join } = yield* simulated()
      const member = yield* join
      const elsewhere = yield* dispatcher.register()
      assert.isFalse(yield* dispatcher.revoke(otherwise(invitation, { capability: elsewhere.capability })))
      assert.isFalse(yield* dispatcher.revoke(otherwise(invitation, { sessionId: elsewhere.sessionId })))
      assert.isFalse(yield* dispatcher.revoke(otherwise(invitation, { sessionId: anyOther.sessionId })))
      assert.strictEqual(member.state(), "open")
      const unknown = yield* Effect.flip(dispatcher.invite(anyOther.sessionId))
      assert.strictEqual(unknown.reason._tag, "NoSuchSession")
    })
  )
})

describe("too many connections from one address", () => {
  it.effect("are refused, and there is room again when others go", () =>
    Effect.gen(function* () {
      const { connectFrom, invitation } = yield* simulated({ maxConnectionsPerAddress: 2 })
      const from = (remote: string) => connectFrom({ remote, local: "192.0.2.1" })
      const first = yield* from("198.51.100.7")
      const second = yield* enter(yield* from("198.51.100.7"), invitation)
      const third = yield* from("198.51.100.7")
      yield* settle
      assert.strictEqual(refusalBy(third), "TooManyConnections")
      assert.strictEqual(third.state(), "destroyed")
      yield* enter(yield* from("198.51.100.8"), invitation)
      first.handler.onClose()
      yield* enter(yield* from("198.51.100.7"), invitation)
      assert.strictEqual(second.state(), "open")
      const fourth = yield* from("198.51.100.7")
      yield* settle
      assert.strictEqual(refusalBy(fourth), "TooManyConnections")
    })
  )

  it.effect("are not counted for this host", () =>
    Effect.gen(function* () {
      const { connectFrom, invitation } = yield* simulated({ maxConnectionsPerAddress: 1 })
      const own = [
        { remote: "127.0.0.1", local: "127.0.0.1" },
        { remote: "127.0.0.2", local: "127.0.0.1" },
        { remote: "::1", local: "::1" },
        { remote: "192.0.2.1", local: "192.0.2.1" },
        { remote: "2001:db8::1", local: "2001:db8::1" },
        {}
      ]
      for (const ends of [...own, ...own]) {
        yield* enter(yield* connectFrom(ends), invitation)
      }
      const far = { remote: "2001:db8::2", local: "2001:db8::1" }
      yield* enter(yield* connectFrom(far), invitation)
      const refused = yield* connectFrom(far)
      yield* settle
      assert.strictEqual(refusalBy(refused), "TooManyConnections")
    })
  )
})

describe("what breaks the rules", () => {
  const sixteenBytes = new Uint8Array(16)
  const bad = (data: Uint8Array) => {
    data[4] = (data[4] ?? 0) ^ 1
    return data
  }
  const header = (length: string) => fromHex(`${length} 00000000 ${"00".repeat(16)}`)
  const required = (hello: Uint8Array) =>
    new Uint8Array(Buffer.concat([hello.subarray(0, 7), Uint8Array.of(4), hello.subarray(8), fromHex("8001 0000")]))

  const beforeMembership: ReadonlyArray<
    readonly [string, (invitation: Invitation.Invitation) => Uint8Array, CloseReason.CloseReason, boolean]
  > = [
    ["16 bytes of garbage", () => sixteenBytes, "Malformed", false],
    ["HTTP to a port that is none", () => bytesOf("POST / HTTP/1.1\r\n\r\n"), "Malformed", false],
    ["TLS", () => fromHex("16030100"), "Malformed", false],
    ["a later version", () => fromHex("8e4e4154 02"), "UnsupportedVersion", true],
    ["extensions that are too long", () => fromHex("8e4e4154 01 00 0401"), "Malformed", true],
    ["an extension that must be known", (one) => required(handshake(one).hello), "UnsupportedExtension", true],
    [
      "an unknown session",
      (one) => handshake(otherwise(one, { sessionId: anyOther.sessionId })).hello,
      "UnknownSession",
      true
    ],
    [
      "an unknown capability",
      (one) => handshake(otherwise(one, { capability: anyOther.capability })).hello,
      "NotGranted",
      true
    ]
  ]

  it.effect.each(beforeMembership)("%s is refused, and counted", ([, bytes, reason, isTold]) =>
    Effect.gen(function* () {
      const { connect, endTurn, invitation, join, members } = yield* simulated()
      const [first, second] = [yield* join, yield* join]
      const before = yield* closedFor(reason)
      const guest = yield* connect
      guest.handler.onData(bytes(invitation))
      yield* settle
      assert.strictEqual(guest.state(), "destroyed")
      if (isTold) assert.strictEqual(refusalBy(guest), reason)
      else assert.deepStrictEqual(guest.taken, [])
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* closedFor(reason)) - before, 1)
      first.say("untouched")
      endTurn()
      yield* settle
      assert.deepStrictEqual(second.heard(), ["untouched"])
      assert.strictEqual(yield* members, 2)
    }).pipe(ownMetrics)
  )

  const byMembers: ReadonlyArray<readonly [string, (own: SimulatedMember) => Uint8Array, CloseReason.CloseReason]> = [
    ["a frame of 4 GiB", () => header("ffffffff"), "FrameTooLarge"],
    ["a frame of one byte too many", () => header("000003fd"), "FrameTooLarge"],
    ["a frame without a whole header", () => header("00000013"), "Malformed"],
    ["a damaged frame", ({ welcome }) => bad(requestOf(welcome, "send", bytesOf("x"))), "BadChecksum"],
    ["a facet that was not granted", () => Wire.encodeRequest(sixteenBytes), "UnknownFacet"],
    ["a facet that nobody has", () => Wire.encodeRequest(random(16)), "UnknownFacet"],
    ["joining twice", ({ welcome }) => requestOf(welcome, "join"), "Malformed"],
    ["a rate of ticks of five bytes", ({ welcome }) => requestOf(welcome, "heartbeat", bytesOf("quick")), "Malformed"],
    ["the break of the connection", () => new Uint8Array(0), "Unknown"]
  ]

  it.effect.each(byMembers)("%s closes that connection only, and is counted", ([, bytes, reason]) =>
    Effect.gen(function* () {
      const { endTurn, join, members } = yield* simulated({ maxMessageBytes: 1000 })
      const [first, second, guilty] = [yield* join, yield* join, yield* join]
      const before = yield* closedFor(reason)
      // What came before it in the same chunk counts, what comes behind it does not.
      const [said, unsaid] = ["before", "behind"].map((text) => requestOf(guilty.welcome, "send", bytesOf(text)))
      assert(said !== undefined && unsaid !== undefined)
      const wrong = bytes(guilty)
      guilty.handler.onData(new Uint8Array(Buffer.concat([said, wrong])))
      if (reason === "Unknown") guilty.handler.onClose()
      else guilty.handler.onData(unsaid)
      endTurn()
      yield* settle
      if (reason !== "Unknown") assert.deepStrictEqual(guilty.heard(), ["before", `Close: ${reason}`])
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* closedFor(reason)) - before, 1)
      first.say("untouched")
      endTurn()
      yield* settle
      assert.deepStrictEqual(second.heard(), ["before", "untouched"])
      assert.strictEqual(yield* members, 2)
    }).pipe(ownMetrics)
  )

  it.effect("joining as somebody that comes back takes 16 bytes", () =>
    Effect.gen(function* () {
      const { enter } = yield* simulated()
      for (const length of [1, 15, 17]) {
        const member = yield* enter
        member.ask("join", new Uint8Array(length))
        yield* settle
        assert.deepStrictEqual(member.heard(), ["Close: Malformed"])
      }
    })
  )
})
