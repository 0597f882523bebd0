/** What the dispatcher's tests share: strategies that touch no network, raw clients, and simulated connections. */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as Facet from "@effect-nat/dispatcher/Facet"
import type * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeTcpListener from "@effect-nat/dispatcher/NodeTcpListener"
import * as TcpListener from "@effect-nat/dispatcher/TcpListener"
import * as Wire from "@effect-nat/dispatcher/Wire"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Crypto from "node:crypto"
import * as Net from "node:net"

export const loopback = NetAddress.ipv4Loopback

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
export const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
export const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ""), "hex"))

const externalAddress = NetAddress.ipFromStringUnsafe("203.0.113.7")

export const mappingOf = (request: MappingRequest.MappingRequest, externalPort: number) =>
  new PortMapping.PortMapping({
    remoteHost: undefined,
    externalAddress,
    externalPort,
    protocol: request.protocol,
    internalPort: request.internalPort,
    internalAddress: request.internalAddress ?? loopback,
    enabled: true,
    description: request.description ?? "",
    lifetime: undefined,
    gateway: undefined,
    method: "stub",
    status: "mapped"
  })

/** A strategy that grants everything, remembers what it was asked and whether it is still mapped. */
export const makeMapper = Effect.gen(function* () {
  const requests = yield* Ref.make<ReadonlyArray<MappingRequest.MappingRequest>>([])
  const live = yield* Ref.make(0)
  const latest = yield* Ref.make<Option.Option<SubscriptionRef.SubscriptionRef<PortMapping.PortMapping>>>(Option.none())
  const mapper = PortMapper.PortMapper.of({
    map: Effect.fnUntraced(function* (request: MappingRequest.MappingRequest) {
      yield* Ref.update(requests, (all) => [...all, request])
      const mapping = mappingOf(request, request.externalPort ?? request.internalPort)
      const current = yield* SubscriptionRef.make(mapping)
      yield* Ref.set(latest, Option.some(current))
      yield* Effect.acquireRelease(
        Ref.update(live, (count) => count + 1),
        () => Ref.update(live, (count) => count - 1)
      )
      return {
        current: SubscriptionRef.get(current),
        changes: SubscriptionRef.changes(current),
        renew: Effect.void,
        release: Effect.void
      }
    }),
    externalAddress: Effect.succeed(externalAddress),
    list: Stream.empty,
    remove: () => Effect.void
  })
  const moveTo = (externalPort: number) =>
    Effect.gen(function* () {
      const current = yield* Effect.fromOption(yield* Ref.get(latest))
      yield* SubscriptionRef.update(current, (mapping) => new PortMapping.PortMapping({ ...mapping, externalPort }))
    }).pipe(Effect.orDie)
  return { mapper, requests, live, moveTo }
})

export const mapperLayer = Layer.effect(
  PortMapper.PortMapper,
  Effect.map(makeMapper, (made) => made.mapper)
)

/** A strategy without a gateway. */
export const refusingMapper = Layer.mock(PortMapper.PortMapper)({
  map: () => Effect.fail(NatError.fromReason(new NatError.NoGateway({ detail: "" })))
})

/** Contact points of the address asked for, else of loopback. */
export const resolverLayer = Layer.mock(ContactPointResolver.ContactPointResolver)({
  contactPoint: ({ address, mappings, name, port }) =>
    Effect.succeed(
      new ContactPoint.ContactPoint({
        version: 1,
        name,
        internal: [NetAddress.inetAddressUnsafe(address ?? loopback, port)],
        external: mappings.flatMap((mapping) => {
          const external = PortMapping.external(mapping)
          return external === undefined
            ? []
            : [new ContactPoint.ExternalAddress({ address: external, verification: "reported" })]
        })
      })
    )
})

export const environment = Layer.mergeAll(NodeTcpListener.layer, mapperLayer, resolverLayer)

/** A dispatcher on a free port of loopback. */
export const dispatcher = (limits?: Partial<Dispatcher.Limits>) =>
  Dispatcher.make({ port: 0, address: loopback, limits }).pipe(Effect.provide(environment))

/** The HMAC-SHA-256 of parts under a key in hexadecimal digits, by Node and not by the code under test. */
const hmac = (key: string, parts: ReadonlyArray<Uint8Array>): Uint8Array =>
  new Uint8Array(Crypto.createHmac("sha256", Buffer.from(key, "hex")).update(Buffer.concat(parts)).digest())

export const nameOf = (capability: string): Uint8Array =>
  hmac(capability, [bytesOf("effect-nat capability name")]).slice(0, 8)

export const proofOf = (
  capability: string,
  side: "client" | "router",
  sessionId: string,
  clientNonce: Uint8Array,
  routerNonce: Uint8Array
): Uint8Array => hmac(capability, [bytesOf(side), fromHex(sessionId), clientNonce, routerNonce]).slice(0, 16)

/** The client's side of a handshake, by hand: what it says first, and the proof for the challenge that comes. */
export const handshake = ({ capability, sessionId }: Invitation.Invitation, nonce = Crypto.randomBytes(16)) => ({
  hello: Uint8Array.from(
    Buffer.concat([fromHex("8e4e4154 01 00 0000"), fromHex(sessionId), nameOf(capability), nonce])
  ),
  proof: (challenge: Uint8Array): Uint8Array => proofOf(capability, "client", sessionId, nonce, challenge.slice(8, 24))
})

/** The frames in a run of bytes, as values. */
export const framesIn = (bytes: Uint8Array): ReadonlyArray<Wire.Frame> => {
  const frames: Array<Wire.Frame> = []
  new Wire.FrameDecoder(0x7fffffff).push(bytes, (all, start, end) =>
    frames.push(Wire.decodeFrame(all.subarray(start, end)))
  )
  return frames
}

/** Messages as text, a reason to close as `Close: reason`, other frames by what they are. */
export const wordsOf = (frames: ReadonlyArray<Wire.Frame>): ReadonlyArray<string> =>
  frames.map((frame) => {
    if (frame._tag === "Message") return textOf(frame.data)
    return frame._tag === "Close" ? `Close: ${frame.reason}` : frame._tag
  })

type Welcome = Wire.Frame & { readonly _tag: "Welcome" }

const welcomeIn = (bytes: Uint8Array): Welcome => {
  const [first] = framesIn(bytes)
  if (first?._tag !== "Welcome") throw new Error(`${first?._tag ?? "nothing"} in place of a welcome`)
  return first
}

/** A request under a facet that was granted; a facet that was not is all zero. */
export const requestOf = (welcome: Welcome, facet: Facet.Facet, data?: Uint8Array): Uint8Array =>
  Wire.encodeRequest(welcome.facets[facet] ?? new Uint8Array(Facet.byteLength), data)

/** What a client asks for a WebSocket by. */
export const upgradeRequest = bytesOf(
  [
    "GET / HTTP/1.1",
    "Host: x",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "\r\n"
  ].join("\r\n")
)

/** A bare TCP client, which keeps to no protocol. */
export const rawClient = Effect.fnUntraced(function* (port: number, options?: { readonly paused?: boolean }) {
  const received: Array<Uint8Array> = []
  const ended = yield* Deferred.make<void>()
  const closed = yield* Deferred.make<void>()
  const socket = yield* Effect.acquireRelease(
    Effect.callback<Net.Socket>((resume) => {
      const socket = Net.connect({ host: "127.0.0.1", port, noDelay: true, allowHalfOpen: true }, () =>
        resume(Effect.succeed(socket))
      )
      socket.on("error", () => {})
      if (options?.paused !== true) socket.on("data", (chunk: Uint8Array) => received.push(chunk))
      socket.once("end", () => Deferred.doneUnsafe(ended, Effect.void))
      socket.once("close", () => {
        Deferred.doneUnsafe(ended, Effect.void)
        Deferred.doneUnsafe(closed, Effect.void)
      })
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  const soFar = () => new Uint8Array(Buffer.concat(received))
  return {
    socket,
    write: (bytes: Uint8Array) => Effect.sync(() => socket.write(bytes)),
    received: Effect.sync(soFar),
    /** Everything that came until the other side ended. */
    all: Effect.andThen(Deferred.await(ended), Effect.sync(soFar)),
    closed: Deferred.await(closed)
  }
})

/** A bare client that has come in, and has asked for nothing. */
export const rawMember = Effect.fnUntraced(function* (port: number, invitation: Invitation.Invitation) {
  const client = yield* rawClient(port)
  const { hello, proof } = handshake(invitation)
  const has = (bytes: number) => until(Effect.map(client.received, ({ length }) => length >= bytes))
  yield* client.write(hello)
  yield* has(Wire.challengeLength)
  yield* client.write(proof(yield* client.received))
  yield* has(Wire.challengeLength + Wire.headerLength + 124)
  const afterChallenge = Effect.map(client.received, (bytes) => bytes.subarray(Wire.challengeLength))
  const welcome = welcomeIn(yield* afterChallenge)
  /** What came after the welcome, as values. */
  const frames = Effect.map(afterChallenge, (bytes) => framesIn(bytes).slice(1))
  return {
    ...client,
    welcome,
    frames,
    allFrames: Effect.andThen(client.all, frames),
    ask: (facet: Facet.Facet, data?: Uint8Array) => client.write(requestOf(welcome, facet, data))
  }
})

/** A bare client that has joined, and so hears what is said from now on. */
export const rawJoined = Effect.fnUntraced(function* (port: number, invitation: Invitation.Invitation) {
  const member = yield* rawMember(port, invitation)
  yield* member.ask("join")
  yield* until(Effect.map(member.frames, ([first]) => first?._tag === "Joined"))
  return member
})

/** Waits, in real time, until something holds; a test's own time limit is the end of it. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(condition, (holds) =>
    holds ? Effect.void : Effect.andThen(Effect.sleep("5 millis"), until(condition))
  )

/** Lets everything written be taken, and the consequences happen. */
export const settle = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** The dispatcher's end of a simulated connection, driven by hand. */
export interface SimulatedConnection {
  readonly handler: TcpListener.ConnectionHandler
  /** What the dispatcher wrote and the peer's side has taken. */
  readonly taken: Array<Uint8Array>
  readonly state: () => "open" | "ended" | "destroyed"
  readonly isPaused: () => boolean
  /** How many bytes wait for the peer's side to take them. */
  readonly waiting: () => number
  /** While stalled, nothing written is taken. */
  readonly stall: (stalled: boolean) => void
  /** Takes one write, also while stalled. */
  readonly takeOne: () => void
}

/** Where a simulated connection comes from, and which address of this host it has come to. */
export interface Ends {
  readonly remote?: string
  readonly local?: string
  readonly isForwarded?: boolean
}

/** A listener without sockets: connections and turns happen when the test says so. */
export const makeSimulatedListener = Effect.gen(function* () {
  const accepted = yield* Queue.unbounded<(connection: TcpListener.Connection) => TcpListener.ConnectionHandler>()
  const turns: Array<() => void> = []
  const listener = TcpListener.TcpListener.of({
    listen: ({ address, onConnection, port }) =>
      Effect.as(Queue.offer(accepted, onConnection), {
        address: NetAddress.inetAddressUnsafe(address ?? loopback, port),
        stopAccepting: Effect.void
      }),
    atTurnEnd: (task) => {
      turns.push(task)
    }
  })
  /** Says how many tasks had been waiting for it. */
  const endTurn = (): number => {
    const tasks = turns.splice(0)
    for (const task of tasks) {
      task()
    }
    return tasks.length
  }
  const connections: Array<SimulatedConnection> = []
  const connectFrom = (ends: Ends) =>
    Effect.map(Queue.peek(accepted), (onConnection) => {
      const connection = simulate(onConnection, ends)
      connections.push(connection)
      return connection
    })
  /** Lets everybody take what waits: a dispatcher that ends waits for that, and time stands still. */
  const release = Effect.sync(() => connections.forEach(({ stall }) => stall(false)))
  return { listener, endTurn, connectFrom, connect: connectFrom({}), release }
})

const inetOf = (address: string | undefined) =>
  address === undefined ? undefined : NetAddress.inetAddressFromIpStringUnsafe(address, 1234)

const simulate = (
  onConnection: (connection: TcpListener.Connection) => TcpListener.ConnectionHandler,
  { isForwarded = false, local, remote }: Ends
): SimulatedConnection => {
  const taken: Array<Uint8Array> = []
  let waiting: Array<{ readonly blocks: ReadonlyArray<Uint8Array>; readonly flushed: () => void }> = []
  let state: "open" | "ended" | "destroyed" = "open"
  let stalled = false
  let paused = false
  const takeAll = () => {
    while (waiting.length > 0) {
      const writes = waiting
      waiting = []
      for (const one of writes) {
        taken.push(...one.blocks)
        one.flushed()
      }
    }
    if (state === "ended") finish()
  }
  const finish = () => {
    if (state === "destroyed") return
    state = "destroyed"
    waiting = []
    handler.onClose()
  }
  const handler = onConnection({
    remoteAddress: inetOf(remote),
    isForwarded,
    localAddress: inetOf(local),
    write: (blocks, flushed) => {
      if (state !== "open") throw new Error(`written while ${state}`)
      waiting.push({ blocks, flushed })
      if (!stalled) queueMicrotask(takeAll)
    },
    end: () => {
      if (state === "open") state = "ended"
      if (!stalled) queueMicrotask(takeAll)
    },
    pause: () => {
      paused = true
    },
    resume: () => {
      paused = false
    },
    destroy: () => queueMicrotask(finish)
  })
  const takeOne = () => {
    const one = waiting.shift()
    if (one === undefined) return
    taken.push(...one.blocks)
    one.flushed()
  }
  return {
    handler,
    taken,
    takeOne,
    state: () => state,
    isPaused: () => paused,
    waiting: () => waiting.reduce((sum, one) => sum + one.blocks.reduce((size, block) => size + block.length, 0), 0),
    stall: (value) => {
      stalled = value
      if (!value) takeAll()
    }
  }
}

/** Who has come in over a simulated connection. */
export interface SimulatedMember extends SimulatedConnection {
  readonly welcome: Welcome
  readonly ask: (facet: Facet.Facet, data?: Uint8Array) => void
  readonly say: (text: string) => void
  /** What was taken since the welcome, as values. */
  readonly frames: () => ReadonlyArray<Wire.Frame>
  readonly heard: () => ReadonlyArray<string>
}

/** All bytes that a simulated connection has taken, in one. */
export const takenBy = (connection: SimulatedConnection): Uint8Array => new Uint8Array(Buffer.concat(connection.taken))

/** Comes in by hand: what was taken until the welcome is read and put away. */
export const enter = Effect.fnUntraced(function* (
  connection: SimulatedConnection,
  invitation: Invitation.Invitation
): Effect.fn.Return<SimulatedMember> {
  const { hello, proof } = handshake(invitation)
  connection.handler.onData(hello)
  yield* settle
  connection.handler.onData(proof(takenBy(connection)))
  yield* settle
  const welcome = welcomeIn(takenBy(connection).subarray(Wire.challengeLength))
  connection.taken.splice(0)
  const ask = (facet: Facet.Facet, data?: Uint8Array) => connection.handler.onData(requestOf(welcome, facet, data))
  const frames = () => framesIn(takenBy(connection))
  return {
    ...connection,
    welcome,
    ask,
    say: (text) => ask("send", bytesOf(text)),
    frames,
    heard: () => wordsOf(frames())
  }
})

/** Comes in and joins; `heard` begins with what comes after that. */
export const enterAndJoin = Effect.fnUntraced(function* (
  connection: SimulatedConnection,
  invitation: Invitation.Invitation
) {
  const member = yield* enter(connection, invitation)
  member.ask("join")
  yield* settle
  const words = member.heard()
  if (words.length !== 1 || words[0] !== "Joined") throw new Error(`${words.join()} in place of joined`)
  member.taken.splice(0)
  return member
})

/** A dispatcher without sockets, with one session. */
export const simulated = Effect.fnUntraced(function* (
  limits?: Partial<Dispatcher.Limits>,
  more: {
    readonly options?: Dispatcher.Options
    readonly mapper?: Layer.Layer<PortMapper.PortMapper>
    readonly resolver?: Layer.Layer<ContactPointResolver.ContactPointResolver>
  } = {}
) {
  const { connect, connectFrom, endTurn, listener, release } = yield* makeSimulatedListener
  const { mapper = mapperLayer, resolver = resolverLayer } = more
  const dispatcher = yield* Dispatcher.make({ port: 12000, limits, ...more.options }).pipe(
    Effect.provide(Layer.mergeAll(Layer.succeed(TcpListener.TcpListener, listener), mapper, resolver))
  )
  yield* Effect.addFinalizer(() => release)
  const invitation = yield* dispatcher.register()
  const id = invitation.sessionId
  return {
    dispatcher,
    invitation,
    id,
    connect,
    connectFrom,
    endTurn,
    enter: Effect.flatMap(connect, (connection) => enter(connection, invitation)),
    join: Effect.flatMap(connect, (connection) => enterAndJoin(connection, invitation)),
    members: Effect.map(dispatcher.lookup(id), (info) => Option.getOrThrow(info).members)
  }
})
