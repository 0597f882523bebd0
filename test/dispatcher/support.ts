/** What the dispatcher's tests share: strategies that touch no network, raw clients, and simulated connections. */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
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
            : [new ContactPoint.ExternalAddress({ address: external, source: "reported" })]
        })
      })
    )
})

export const environment = Layer.mergeAll(NodeTcpListener.layer, mapperLayer, resolverLayer)

/** A dispatcher on a free port of loopback. */
export const dispatcher = (limits?: Partial<Dispatcher.Limits>) =>
  Dispatcher.make({ port: 0, address: loopback, limits }).pipe(Effect.provide(environment))

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
  return {
    socket,
    write: (bytes: Uint8Array) => Effect.sync(() => socket.write(bytes)),
    received: Effect.sync(() => new Uint8Array(Buffer.concat(received))),
    /** Everything that came until the other side ended. */
    all: Effect.andThen(
      Deferred.await(ended),
      Effect.sync(() => new Uint8Array(Buffer.concat(received)))
    ),
    closed: Deferred.await(closed)
  }
})

/** Waits, in real time, until something holds; a test's own time limit is the end of it. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(condition, (holds) =>
    holds ? Effect.void : Effect.andThen(Effect.sleep("5 millis"), until(condition))
  )

/** The frames in a run of bytes, as values. */
export const framesIn = (bytes: Uint8Array): ReadonlyArray<Wire.Frame> => {
  const frames: Array<Wire.Frame> = []
  new Wire.FrameDecoder(0x7fffffff).push(bytes, (frame) => frames.push(Wire.decodeFrame(frame)))
  return frames
}

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
  const connect = Effect.map(Queue.peek(accepted), simulate)
  return { listener, endTurn, connect }
})

const simulate = (
  onConnection: (connection: TcpListener.Connection) => TcpListener.ConnectionHandler
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
    remoteAddress: undefined,
    localAddress: undefined,
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
