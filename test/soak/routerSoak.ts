/**
 * A dispatcher with many clients that come, go, stall and send garbage, beside some that behave: those must hear all that
 * is sent, each of them the same in the same order, and the dispatcher's memory must not grow.
 */
import * as CapabilityProof from "@effect-nat/dispatcher/CapabilityProof"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as Session from "@effect-nat/dispatcher/Session"
import * as SessionId from "@effect-nat/core/SessionId"
import * as WebConnector from "@effect-nat/dispatcher/WebConnector"
import * as Wire from "@effect-nat/dispatcher/Wire"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as ChildProcess from "node:child_process"
import * as Crypto from "node:crypto"
import * as Net from "node:net"
import * as ReadLine from "node:readline"
import { fileURLToPath } from "node:url"
import * as SeededRandom from "../../packages/testing/src/internal/seededRandom.ts"

/** How long, how many, and from which seed. */
export interface Options {
  readonly seconds: number
  readonly clients: number
  readonly sessions: number
  readonly seed: number
  readonly onProgress: (line: string) => Effect.Effect<void>
}

/** One look at the dispatcher. */
export interface Look {
  /** What is left in its heap and in buffers after a collection, in bytes. */
  readonly heap: number
  readonly rss: number
  readonly connections: number
  readonly closed: Readonly<Record<string, number>>
}

/** What came of it. */
export interface Report {
  readonly looks: ReadonlyArray<Look>
  /** By those that behave. */
  readonly sent: number
  readonly heard: number
  /** Where what one of them has heard is not what it should be. */
  readonly losses: ReadonlyArray<string>
  readonly came: Readonly<Record<Kind, number>>
}

export const kinds = [
  "chats",
  "stalls",
  "garbage",
  "half a handshake",
  "bad checksum",
  "huge frame",
  "vanishes"
] as const
export type Kind = (typeof kinds)[number]

export class SoakFailed extends Data.TaggedError("SoakFailed")<{ readonly message: string }> {}

const agent = fileURLToPath(new URL("router-agent.ts", import.meta.url))

const wellBehaved = 5

/** What the dispatcher needs to be found and entered. */
interface Place {
  readonly port: number
  readonly invitations: ReadonlyArray<Invitation.Invitation>
}

const startDispatcher = Effect.fnUntraced(function* (sessions: number) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      ChildProcess.spawn(process.execPath, ["--expose-gc", agent, String(sessions)], {
        stdio: ["pipe", "pipe", "inherit"]
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const lines = ReadLine.createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = Effect.tryPromise({
    try: () => lines.next(),
    catch: () => new SoakFailed({ message: "the dispatcher has ended" })
  }).pipe(
    Effect.flatMap(({ done, value }) =>
      done === true
        ? Effect.fail(new SoakFailed({ message: "the dispatcher has ended" }))
        : Effect.succeed(String(value))
    )
  )
  const first = JSON.parse(yield* line) as { readonly port: number; readonly invitations: ReadonlyArray<string> }
  const place: Place = {
    port: first.port,
    invitations: first.invitations.map((word) => Result.getOrThrow(Invitation.fromString(word)))
  }
  const look = Effect.andThen(
    Effect.sync(() => child.stdin.write("look\n")),
    Effect.map(line, (text) => JSON.parse(text) as Look)
  )
  return { place, look }
})

/** Those that behave in one session, and what each of them hears. */
interface Audience {
  readonly heard: ReadonlyArray<ReadonlyArray<string>>
  readonly sent: ReadonlyArray<ReadonlyArray<string>>
  readonly fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>>
}

const mine = "from-a-good-one:"

/** In bytes: in the first session whoever stalls is soon behind. */
const large = 32_768
const small = 64

/** Joins, sends a message a second until told to stop, and notes what it and its like have said. */
const behave = Effect.fnUntraced(function* (
  place: Place,
  invitation: Invitation.Invitation,
  name: string,
  size: number,
  sent: Array<string>,
  heard: Array<string>,
  isOver: () => boolean
) {
  const address = NetAddress.inetAddressUnsafe(NetAddress.ipv4Loopback, place.port)
  const session = yield* Session.joinAt([address], { invitation })
  const listening = yield* Effect.forkScoped(
    Stream.runForEach(session.messages, ({ data, sequence }) =>
      Effect.sync(() => {
        const text = Buffer.from(data.buffer, data.byteOffset, Math.min(data.length, 64)).toString()
        if (text.startsWith(mine)) heard.push(`${sequence} ${text}`)
      })
    )
  )
  const talking = Effect.gen(function* () {
    for (let count = 0; !isOver(); count++) {
      const text = `${mine}${name}:${count}`
      const data = new Uint8Array(size)
      data.set(Buffer.from(text))
      sent.push(text)
      yield* session.send(data)
      yield* Effect.sleep("300 millis")
    }
    // What is on its way still arrives.
    yield* Effect.sleep("3 seconds")
  })
  yield* Effect.raceFirst(talking, Fiber.join(listening))
}, Effect.scoped)

const gather = Effect.fnUntraced(function* (
  place: Place,
  invitation: Invitation.Invitation,
  index: number,
  isOver: () => boolean
) {
  const sent = Array.from({ length: wellBehaved }, () => Array<string>())
  const heard = Array.from({ length: wellBehaved }, () => Array<string>())
  const fibers = yield* Effect.forEach(sent, (own, member) =>
    // One of them comes by WebSocket.
    behave(place, invitation, `${index}.${member}`, index === 0 ? large : small, own, heard[member] ?? [], isOver).pipe(
      Effect.provide(member === 0 ? WebConnector.layer : NodeConnector.layer),
      Effect.forkScoped
    )
  )
  const audience: Audience = { sent, heard, fibers }
  return audience
})

/** The bytes of a bare client, which keeps to the wire's handshake and, after that, to nothing. */
const enter = (
  socket: Net.Socket,
  { capability, sessionId }: Invitation.Invitation,
  onWelcome: (facets: Wire.Facets) => void
) => {
  const nonce = new Uint8Array(Crypto.randomBytes(16))
  let bytes = new Uint8Array(0)
  let isChallenged = false
  socket.write(
    Wire.encodeHello(
      new Wire.Hello({ sessionId, capabilityName: CapabilityProof.name(capability), nonce, extensions: [] })
    )
  )
  const onData = (chunk: Uint8Array) => {
    bytes = new Uint8Array(Buffer.concat([bytes, chunk]))
    if (!isChallenged) {
      const reply = Wire.decodeReply(bytes)
      if (reply._tag !== "Complete" || reply.value._tag !== "Challenge") return
      isChallenged = true
      bytes = bytes.slice(reply.length)
      const claim = { sessionId: SessionId.toBytes(sessionId), clientNonce: nonce, routerNonce: reply.value.nonce }
      socket.write(CapabilityProof.prove(capability, { ...claim, side: "client" }))
    }
    if (bytes.length < 4 || bytes.length < Wire.endOf(bytes, 0)) return
    const frame = Wire.decodeFrame(bytes.subarray(0, Wire.endOf(bytes, 0)))
    socket.off("data", onData)
    socket.resume()
    if (frame._tag === "Welcome") onWelcome(frame.facets)
  }
  socket.on("data", onData)
}

type Random = SeededRandom.SeededRandom

const hello = (invitation: Invitation.Invitation) =>
  Wire.encodeHello(
    new Wire.Hello({
      sessionId: invitation.sessionId,
      capabilityName: CapabilityProof.name(invitation.capability),
      nonce: new Uint8Array(16),
      extensions: []
    })
  )

/** What each kind does with its connection. */
const misbehave: Record<Kind, (socket: Net.Socket, invitation: Invitation.Invitation, random: Random) => void> = {
  chats: (socket, invitation, random) =>
    enter(socket, invitation, ({ join, leave, send }) => {
      if (join === undefined || send === undefined || leave === undefined) return
      socket.write(Wire.encodeRequest(join))
      const count = random.between(1, 5)
      for (let i = 0; i < count; i++) {
        socket.write(Wire.encodeRequest(send, new Uint8Array(random.between(1, 500))))
      }
      if (count % 2 === 0) socket.write(Wire.encodeRequest(leave))
    }),
  stalls: (socket, invitation) =>
    enter(socket, invitation, ({ heartbeat, join }) => {
      if (join === undefined || heartbeat === undefined) return
      socket.write(Wire.encodeRequest(join))
      socket.write(Wire.encodeRequest(heartbeat, Uint8Array.of(0, 0, 0, 20)))
      socket.pause()
    }),
  garbage: (socket) => void socket.write(Crypto.randomBytes(16)),
  "half a handshake": (socket, invitation, random) =>
    void socket.write(hello(invitation).subarray(0, random.between(1, 47))),
  "bad checksum": (socket, invitation) =>
    enter(socket, invitation, ({ send }) => {
      if (send === undefined) return
      const request = Wire.encodeRequest(send, new Uint8Array(20))
      request[30] = 1
      socket.write(request)
    }),
  "huge frame": (socket, invitation) =>
    enter(socket, invitation, () => void socket.write(Uint8Array.of(255, 255, 255, 255, 0, 0, 0, 0))),
  vanishes: (socket, invitation) => enter(socket, invitation, () => void socket.resetAndDestroy())
}

/** Keeps so many others there: one that goes is followed by the next. */
const crowd = (place: Place, size: number, random: Random) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const came = Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<Kind, number>
      const sockets = new Map<Net.Socket, NodeJS.Timeout>()
      let isOver = false
      const come = () => {
        const kind = random.pick(kinds)
        const invitation = place.invitations[random.between(0, place.invitations.length - 1)]
        if (isOver || invitation === undefined) return
        came[kind]++
        const socket = Net.connect({ host: "127.0.0.1", port: place.port, noDelay: true })
        // The quick kinds are gone soon, so most of those that are there chat or stall.
        const stay = random.between(100, kind === "stalls" ? 60_000 : 20_000)
        sockets.set(
          socket,
          setTimeout(() => socket.destroy(), stay)
        )
        socket.on("error", () => {})
        socket.once("connect", () => misbehave[kind](socket, invitation, random))
        socket.once("close", () => {
          clearTimeout(sockets.get(socket))
          sockets.delete(socket)
          // Not at once: a flood of newcomers is what a benchmark is for.
          setTimeout(come, random.between(100, 2000))
        })
        socket.resume()
      }
      for (let i = 0; i < size; i++) setTimeout(come, random.between(0, 5000))
      return {
        came,
        end: () => {
          isOver = true
          for (const socket of sockets.keys()) socket.destroy()
        }
      }
    }),
    ({ end }) => Effect.sync(end)
  )

const lossesIn = ({ heard, sent }: Audience, session: number): ReadonlyArray<string> => {
  const [first = []] = heard
  const losses: Array<string> = []
  heard.forEach((own, member) => {
    const words = own.map((line) => line.slice(line.indexOf(" ") + 1).replaceAll("\0", ""))
    sent.forEach((all, other) => {
      const arrived = words.filter((word) => word.startsWith(`${mine}${session}.${other}:`))
      // Whoever joined a little later has not heard the very first ones.
      const due = all.slice(all.length - arrived.length)
      if (arrived.join() !== due.join() || arrived.length < all.length - 20) {
        losses.push(
          `${session}.${member} has heard ${arrived.length} of the ${all.length} that ${session}.${other} has sent`
        )
      }
    })
    const common = Math.min(own.length, first.length)
    if (own.slice(own.length - common).join() !== first.slice(first.length - common).join()) {
      losses.push(`${session}.${member} has heard another order than ${session}.0`)
    }
  })
  return losses
}

/** Runs it; fails where the dispatcher ends, or one of those that behave is sent away. */
export const run = Effect.fnUntraced(function* (options: Options) {
  const { place, look } = yield* startDispatcher(options.sessions)
  const random = SeededRandom.make(options.seed, "crowd")
  let isOver = false
  const audiences = yield* Effect.forEach(place.invitations, (invitation, index) =>
    gather(place, invitation, index, () => isOver)
  )
  const { came, end } = yield* crowd(place, Math.max(0, options.clients - options.sessions * wellBehaved), random)
  const looks: Array<Look> = []
  const every = Math.max(1, Math.floor(options.seconds / 20))
  for (let second = 0; second < options.seconds; second++) {
    yield* Effect.sleep("1 second")
    if (second % every !== every - 1) continue
    const one = yield* look
    looks.push(one)
    yield* options.onProgress(
      `${second + 1} s: ${one.connections} connections, ${mebibytes(one.heap)} MiB in use, ${mebibytes(one.rss)} MiB resident`
    )
  }
  isOver = true
  end()
  const fibers = audiences.flatMap((one) => one.fibers)
  yield* Fiber.joinAll(fibers).pipe(
    Effect.mapError((error) => new SoakFailed({ message: `one that behaved was sent away: ${String(error)}` }))
  )
  // The metrics are brought up to date once a second.
  yield* Effect.sleep("3 seconds")
  looks.push(yield* look)
  const count = (pick: (audience: Audience) => ReadonlyArray<ReadonlyArray<string>>) =>
    audiences.flatMap(pick).reduce((sum, { length }) => sum + length, 0)
  const report: Report = {
    looks,
    sent: count(({ sent }) => sent),
    heard: count(({ heard }) => heard),
    losses: audiences.flatMap(lossesIn),
    came
  }
  return report
}, Effect.scoped)

const mebibytes = (bytes: number): string => (bytes / 1_048_576).toFixed(0)

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN

/** How much more is in use in the last quarter than in the second one, when everybody had come. */
const growth = (looks: ReadonlyArray<Look>): number => {
  const quarter = Math.floor(looks.length / 4)
  const of = (part: number) => median(looks.slice(part * quarter, (part + 1) * quarter).map(({ heap }) => heap))
  return of(3) / of(1)
}

/** Whether what was promised holds, and the numbers. */
export const verdicts = ({ heard, looks, losses, sent }: Report): ReadonlyArray<readonly [boolean, string]> => {
  const last = looks.at(-1)
  const grown = growth(looks)
  return [
    [
      losses.length === 0,
      `nothing lost of ${sent} messages, heard ${heard} times: ${losses.slice(0, 5).join("; ") || "all in order"}`
    ],
    [grown <= 1.3, `memory in use in the last quarter is ${grown.toFixed(2)} of the second quarter's (at most 1.3)`],
    [last?.connections === 0, `${last?.connections} connections left at the end`]
  ]
}

export const format = ({ came, looks }: Report): string => {
  const closed = Object.entries(looks.at(-1)?.closed ?? {})
  return [
    `came: ${Object.entries(came)
      .map(([kind, count]) => `${count} ${kind}`)
      .join(", ")}`,
    `closed by the dispatcher, by reason: ${closed.map(([reason, count]) => `${reason} ${count}`).join(", ")}`
  ].join("\n")
}
