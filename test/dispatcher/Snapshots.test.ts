/** How late joiners get to know the past; over simulated connections. */
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { bytesOf, hex, settle, simulated, type SimulatedMember, textOf } from "./support.ts"

type Serve = Wire.Frame & { readonly _tag: "Serve" }

const servesOf = (member: SimulatedMember): ReadonlyArray<Serve> =>
  member.frames().filter((frame): frame is Serve => frame._tag === "Serve")

const lastServe = (member: SimulatedMember): Serve => {
  const last = servesOf(member).at(-1)
  if (last === undefined) throw new Error("not asked")
  return last
}

/** The number that the snapshot has that the last question is about: the one at its first question. */
const sequenceOf = (member: SimulatedMember): number => {
  const { replyFacet, sequence } = lastServe(member)
  return servesOf(member).find((one) => hex(one.replyFacet) === hex(replyFacet))?.sequence ?? sequence
}

/** Answers the last question with a part of a text. */
const answer = (member: SimulatedMember, text: string, change: Partial<Wire.SnapshotPart> = {}, length = 4) => {
  const { offset, replyFacet } = lastServe(member)
  const all = bytesOf(text)
  const part = {
    sequence: sequenceOf(member),
    size: all.length,
    offset,
    data: all.subarray(offset, offset + length),
    ...change
  }
  member.handler.onData(Wire.encodeRequest(replyFacet, Wire.encodeSnapshotPart(part)))
}

/** Answers as long as it is asked for a part that has no answer yet, up to 50; how many have one then. */
const answerWhileAsked = Effect.fnUntraced(function* (
  server: SimulatedMember,
  text: string,
  length: number,
  answered = 0
) {
  let parts = answered
  while (servesOf(server).length > parts && parts < 50) {
    parts++
    answer(server, text, {}, length)
    yield* settle
  }
  return parts
})

const partsOf = (member: SimulatedMember) =>
  member.frames().flatMap((frame) => (frame._tag === "Snapshot" ? [[frame.part.offset, textOf(frame.part.data)]] : []))

const noSnapshotsOf = (member: SimulatedMember) =>
  member.frames().flatMap((frame) => (frame._tag === "NoSnapshot" ? [frame.reason] : []))

/** A session with two messages, somebody who asks, and members who serve. */
const withServers = Effect.fnUntraced(function* (count: number, limits?: Parameters<typeof simulated>[0]) {
  const all = yield* simulated(limits)
  const servers: Array<SimulatedMember> = []
  for (let i = 0; i < count; i++) {
    const server = yield* all.join
    server.ask("beServer")
    servers.push(server)
  }
  const joiner = yield* all.join
  joiner.say("one")
  joiner.say("two")
  all.endTurn()
  yield* settle
  joiner.taken.splice(0)
  return { ...all, joiner, servers, asked: () => servers.map((server) => servesOf(server).length) }
})

const two = (servers: ReadonlyArray<SimulatedMember>): readonly [SimulatedMember, SimulatedMember] => {
  const [first, second] = servers
  if (first === undefined || second === undefined) throw new Error("too few")
  return [first, second]
}

describe("a snapshot", () => {
  it.effect("is passed on part by part, by one member, for what was sent so far", () =>
    Effect.gen(function* () {
      const { asked, joiner, servers } = yield* withServers(2)
      const [first] = two(servers)
      joiner.ask("sync")
      yield* settle
      assert.deepStrictEqual(asked(), [1, 0])
      assert.strictEqual(lastServe(first).sequence, 2)
      for (const offset of [0, 4, 8]) {
        assert.strictEqual(lastServe(first).offset, offset)
        answer(first, "0123456789")
        yield* settle
      }
      assert.deepStrictEqual(partsOf(joiner), [
        [0, "0123"],
        [4, "4567"],
        [8, "89"]
      ])
      assert.deepStrictEqual(asked(), [3, 0])
      const replyFacets = new Set(servesOf(first).map(({ replyFacet }) => hex(replyFacet)))
      assert.strictEqual(replyFacets.size, 1)
      // The next one is the other's turn.
      joiner.ask("sync")
      yield* settle
      assert.deepStrictEqual(asked(), [3, 1])
    })
  )

  it.effect("may be empty, and is asked for once at a time", () =>
    Effect.gen(function* () {
      const { asked, joiner, servers } = yield* withServers(2)
      const [first] = two(servers)
      joiner.ask("sync")
      joiner.ask("sync")
      yield* settle
      assert.deepStrictEqual(asked(), [1, 0])
      answer(first, "")
      yield* settle
      assert.deepStrictEqual(partsOf(joiner), [[0, ""]])
      assert.deepStrictEqual(noSnapshotsOf(joiner), [])
    })
  )

  it.effect("comes behind the messages that it includes", () =>
    Effect.gen(function* () {
      const { endTurn, joiner, servers } = yield* withServers(1)
      const [server] = servers
      assert(server !== undefined)
      joiner.ask("sync")
      yield* settle
      // The server has seen what still waits for the end of its turn for others.
      server.say("three")
      answer(server, "x", { sequence: 3 })
      endTurn()
      yield* settle
      assert.deepStrictEqual(joiner.heard(), ["three", "Snapshot"])
    })
  )

  it.effect("comes as fast as the one who asks takes it", () =>
    Effect.gen(function* () {
      const { endTurn, joiner, servers } = yield* withServers(1)
      const [server] = servers
      assert(server !== undefined)
      joiner.ask("sync")
      yield* settle
      joiner.stall(true)
      const text = "x".repeat(900_000)
      let parts = yield* answerWhileAsked(server, text, 100_000)
      // One that takes nothing is not asked for more on its behalf, and nobody waits for it.
      assert.isBelow(parts, 5)
      server.say("still here")
      endTurn()
      yield* settle
      assert.strictEqual(server.heard().at(-1), "still here")
      yield* TestClock.adjust("20 seconds")
      joiner.stall(false)
      yield* settle
      parts = yield* answerWhileAsked(server, text, 100_000, parts)
      assert.strictEqual(parts, 9)
      assert.deepStrictEqual(
        partsOf(joiner).map(([offset]) => offset),
        [0, 1, 2, 3, 4, 5, 6, 7, 8].map((part) => part * 100_000)
      )
    })
  )

  it.effect("is asked of another member where no answer comes in time, from the beginning", () =>
    Effect.gen(function* () {
      const { asked, joiner, servers } = yield* withServers(2)
      const [first, second] = two(servers)
      joiner.ask("sync")
      yield* settle
      answer(first, "0123456789")
      yield* settle
      yield* TestClock.adjust("4999 millis")
      yield* settle
      assert.deepStrictEqual(asked(), [2, 0])
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.deepStrictEqual(asked(), [2, 1])
      // The first one could not know.
      answer(first, "0123456789")
      yield* settle
      answer(second, "abcd")
      yield* settle
      assert.deepStrictEqual(partsOf(joiner), [
        [0, "0123"],
        [0, "abcd"]
      ])
      assert.strictEqual(first.state(), "open")
      // With its own answer it could not pass for the other one either.
      first.handler.onData(
        Wire.encodeRequest(
          lastServe(second).replyFacet,
          Wire.encodeSnapshotPart({ sequence: 2, size: 1, offset: 0, data: bytesOf("x") })
        )
      )
      yield* settle
      assert.strictEqual(first.heard().at(-1), "Close: UnknownFacet")
    })
  )

  it.effect("is asked of another member where the first one leaves, breaks or does not want to any more", () =>
    Effect.gen(function* () {
      const { asked, joiner, servers } = yield* withServers(3)
      const [first, second] = two(servers)
      joiner.ask("sync")
      yield* settle
      answer(first, "0123456789")
      first.ask("leave")
      yield* settle
      assert.deepStrictEqual(asked(), [2, 1, 0])
      second.handler.onClose()
      yield* settle
      assert.deepStrictEqual(asked(), [2, 1, 1])
      const third = servers[2]
      assert(third !== undefined)
      answer(third, "abcd")
      yield* settle
      assert.deepStrictEqual(partsOf(joiner).at(-1), [0, "abcd"])
      third.ask("beServer", Uint8Array.of(0))
      joiner.ask("sync")
      yield* settle
      assert.deepStrictEqual(noSnapshotsOf(joiner), ["NoServer"])
    })
  )

  it.effect("that there is none is told after the message that was too much for the member who was asked", () =>
    Effect.gen(function* () {
      const { endTurn, joiner, servers } = yield* withServers(1, { maxMessageBytes: 128, maxBacklogBytes: 200 })
      const [server] = servers
      assert(server !== undefined)
      server.stall(true)
      joiner.ask("sync")
      for (const letter of ["a", "b"]) {
        joiner.say(letter.repeat(100))
        endTurn()
        yield* settle
      }
      const heard = joiner.frames().map(({ _tag, sequence }) => `${_tag} ${sequence}`)
      assert.deepStrictEqual(heard, ["Message 3", "Message 4", "NoSnapshot 4"])
    })
  )

  it.effect("there is none of where nobody makes one, or nobody answers", () =>
    Effect.gen(function* () {
      const { joiner, servers } = yield* withServers(2)
      joiner.ask("sync")
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.deepStrictEqual(noSnapshotsOf(joiner), ["NoAnswer"])
      for (const server of servers) {
        server.ask("leave")
      }
      joiner.ask("beServer")
      joiner.ask("sync")
      yield* settle
      // Nobody is asked for what he wants to know himself.
      assert.deepStrictEqual(noSnapshotsOf(joiner), ["NoAnswer", "NoServer"])
    })
  )

  const littleRoom = { maxMessageBytes: 1000, maxBacklogBytes: 3000 }

  it.effect("is never asked for before the messages that it has to include, whoever is cut off by them", () =>
    Effect.gen(function* () {
      const { asked, endTurn, joiner, servers } = yield* withServers(2, littleRoom)
      const [slow, next] = servers
      assert(slow !== undefined && next !== undefined)
      joiner.ask("sync")
      yield* settle
      assert.deepStrictEqual(asked(), [1, 0])
      slow.stall(true)
      for (let i = 0; i < 4; i++) {
        joiner.ask("send", new Uint8Array(900))
        endTurn()
        yield* settle
      }
      const heard = next.frames().map(({ _tag, sequence }) => `${_tag} ${sequence}`)
      assert.deepStrictEqual(heard.slice(-2), ["Message 6", "Serve 6"])
    })
  )

  it.effect("is not asked for by whoever is cut off just then", () =>
    Effect.gen(function* () {
      const { asked, endTurn, join, joiner, members } = yield* withServers(1, littleRoom)
      const slow = yield* join
      slow.stall(true)
      for (let i = 0; i < 3; i++) {
        joiner.ask("send", new Uint8Array(900))
        endTurn()
        yield* settle
      }
      joiner.ask("send", new Uint8Array(900))
      slow.ask("sync")
      yield* settle
      assert.strictEqual(yield* members, 2)
      assert.deepStrictEqual(asked(), [0])
    })
  )

  it.effect("is not waited for by those who have gone", () =>
    Effect.gen(function* () {
      const { joiner, servers, members } = yield* withServers(1)
      const [server] = servers
      assert(server !== undefined)
      joiner.ask("sync")
      yield* settle
      joiner.handler.onClose()
      answer(server, "0123456789")
      yield* settle
      assert.strictEqual(servesOf(server).length, 1)
      assert.strictEqual(server.state(), "open")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* members, 1)
    })
  )
})

describe("a hostile server", () => {
  const large = { sequence: 2, size: 0xffff_ffff, offset: 0, data: bytesOf("x") }
  const wrong: ReadonlyArray<readonly [string, Partial<Wire.SnapshotPart>]> = [
    ["a size that is too large", large],
    ["a part of another place", { offset: 1, size: 10, data: bytesOf("x") }],
    ["messages that nobody has sent", { sequence: 3 }],
    ["a state before the question", { sequence: 1 }],
    ["more than its size", { size: 3 }],
    ["nothing of something", { data: new Uint8Array(0) }]
  ]
  it.effect.each(wrong)("that answers with %s is closed, and the next one asked", ([, change]) =>
    Effect.gen(function* () {
      const { asked, endTurn, joiner, members, servers } = yield* withServers(2)
      const [first, second] = two(servers)
      joiner.ask("sync")
      yield* settle
      answer(first, "abcd", change)
      yield* settle
      assert.strictEqual(first.heard().at(-1), "Close: Malformed")
      assert.deepStrictEqual(partsOf(joiner), [])
      assert.deepStrictEqual(asked(), [1, 1])
      answer(second, "good")
      yield* settle
      assert.deepStrictEqual(partsOf(joiner), [[0, "good"]])
      joiner.say("still here")
      endTurn()
      yield* settle
      assert.strictEqual(second.heard().at(-1), "still here")
      assert.strictEqual(yield* members, 2)
    })
  )

  it.effect("that becomes another in the middle, or says more than it was asked, is closed", () =>
    Effect.gen(function* () {
      const changes: ReadonlyArray<Partial<Wire.SnapshotPart>> = [
        { size: 11 },
        { offset: 0 },
        { offset: 5, data: bytesOf("x") },
        { sequence: 3 }
      ]
      for (const change of changes) {
        const { joiner, servers } = yield* withServers(1)
        const [server] = servers
        assert(server !== undefined)
        joiner.ask("sync")
        yield* settle
        answer(server, "0123456789")
        yield* settle
        server.say("three")
        answer(server, "0123456789", change)
        yield* settle
        assert.strictEqual(server.heard().at(-1), "Close: Malformed", JSON.stringify(change))
        assert.deepStrictEqual(noSnapshotsOf(joiner), ["NoAnswer"])
      }
    })
  )

  it.effect("that gives it away by the byte has the time of one part for all of them, and the next one is asked", () =>
    Effect.gen(function* () {
      const { asked, joiner, servers } = yield* withServers(2)
      const [first, second] = two(servers)
      joiner.ask("sync")
      yield* settle
      const text = "x".repeat(100)
      for (let i = 1; i <= 5; i++) {
        answer(first, text, {}, 1)
        yield* settle
        assert.deepStrictEqual(asked(), [i + 1, 0])
        yield* TestClock.adjust(i < 5 ? "1 second" : "999 millis")
        yield* settle
      }
      assert.deepStrictEqual(asked(), [6, 0])
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.deepStrictEqual(asked(), [6, 1])
      // Nobody is sent away for being slow.
      assert.strictEqual(first.state(), "open")
      // The next one has all of the time.
      yield* TestClock.adjust("4999 millis")
      yield* settle
      answer(second, "good")
      yield* settle
      assert.deepStrictEqual(partsOf(joiner).at(-1), [0, "good"])
    })
  )

  it.effect("that is only slow has that time for each part of 64 KiB, or of the largest message", () =>
    Effect.gen(function* () {
      for (const [maxMessageBytes, part] of [
        [1_048_576, 65_536],
        [10_016, 10_000]
      ] as const) {
        const { asked, joiner, servers } = yield* withServers(1, { maxMessageBytes })
        const [server] = servers
        assert(server !== undefined)
        joiner.ask("sync")
        yield* settle
        const text = "x".repeat(4 * part)
        for (let i = 1; i <= 8; i++) {
          // In halves, whose times are added.
          yield* TestClock.adjust("2499 millis")
          yield* settle
          answer(server, text, {}, part / 2)
          yield* settle
        }
        assert.deepStrictEqual(asked(), [8])
        assert.strictEqual(partsOf(joiner).length, 8)
      }
    })
  )

  it.effect("does not pay for a joiner that is slow", () =>
    Effect.gen(function* () {
      const { joiner, servers } = yield* withServers(1)
      const [server] = servers
      assert(server !== undefined)
      joiner.ask("sync")
      yield* settle
      joiner.stall(true)
      const text = "x".repeat(400_000)
      let parts = yield* answerWhileAsked(server, text, 40_000)
      assert.isBelow(parts, 10)
      yield* TestClock.adjust("20 seconds")
      joiner.stall(false)
      yield* settle
      yield* TestClock.adjust("2 seconds")
      parts = yield* answerWhileAsked(server, text, 40_000, parts)
      assert.strictEqual(parts, 10)
    })
  )

  it.effect("that says the next part before it is asked for it is closed", () =>
    Effect.gen(function* () {
      const { joiner, servers } = yield* withServers(1)
      const [server] = servers
      assert(server !== undefined)
      joiner.ask("sync")
      yield* settle
      joiner.stall(true)
      const text = "x".repeat(3_000_000)
      const parts = yield* answerWhileAsked(server, text, 100_000)
      assert.isAbove(parts, 1)
      assert.strictEqual(server.state(), "open")
      answer(server, text, { offset: parts * 100_000 }, 100_000)
      yield* settle
      assert.strictEqual(server.heard().at(-1), "Close: Malformed")
      assert.strictEqual(joiner.state(), "open")
    })
  )
})

it.effect("forgives a late answer of a member that has stopped to serve", () =>
  Effect.gen(function* () {
    const { joiner, servers } = yield* withServers(1)
    const [server] = servers
    assert(server !== undefined)
    joiner.ask("sync")
    yield* settle
    server.ask("beServer", Uint8Array.of(0))
    yield* TestClock.adjust("5 seconds")
    yield* settle
    assert.deepStrictEqual(noSnapshotsOf(joiner), ["NoAnswer"])
    answer(server, "late")
    yield* settle
    assert.strictEqual(server.state(), "open")
    assert.deepStrictEqual(partsOf(joiner), [])
  })
)
