import * as Announcer from "@effect-nat/core/Announcer"
import * as Capability from "@effect-nat/core/Capability"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as NodeHost from "@effect-nat/core/NodeHost"
import type * as SessionId from "@effect-nat/core/SessionId"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as NodeTcpListener from "@effect-nat/dispatcher/NodeTcpListener"
import * as RemoteControl from "@effect-nat/dispatcher/RemoteControl"
import * as RemoteDispatcher from "@effect-nat/dispatcher/RemoteDispatcher"
import * as Session from "@effect-nat/dispatcher/Session"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { bytesOf, handshake, loopback, mapperLayer, rawClient, refusingMapper, textOf, until } from "./support.ts"

const resolver = ContactPointResolver.layer.pipe(Layer.provide(NodeHost.layer))

/** A dispatcher on a free port of loopback, and a contact point that opens its control. */
const controlled = (options: Dispatcher.Options = {}, right: Dispatcher.Right = "manage") =>
  Effect.gen(function* () {
    const one = yield* Dispatcher.make({ port: 0, address: loopback, name: "tower", ...options })
    const control = yield* one.grantControl(right)
    return { one, control: ContactPoint.make({ ...(yield* one.contactPoint), external: [], control }) }
  }).pipe(Effect.provide([NodeTcpListener.layer, mapperLayer, resolver]))

const connect = (control: ContactPoint.ContactPoint) =>
  RemoteDispatcher.connect(control).pipe(Effect.provide(NodeConnector.layer))

const reasonOf = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => ("reason" in error ? (error.reason as { _tag: string })._tag : error._tag))

const addressesOf = (seen: RemoteControl.SeenContactPoint) => seen.addresses.map(NetAddress.formatInet)

/** A controller that keeps to no protocol, after its welcome. */
const rawController = Effect.fnUntraced(function* (control: ContactPoint.ContactPoint) {
  const [address = assert.fail()] = control.internal
  const client = yield* rawClient(address.port)
  const capability = control.control ?? assert.fail()
  const { hello, proof } = handshake({ sessionId: "0".repeat(32), capability } as never)
  yield* client.write(hello)
  yield* until(Effect.map(client.received, ({ length }) => length >= 40))
  yield* client.write(proof(yield* client.received))
  yield* until(Effect.map(client.received, ({ length }) => length > 40))
  return { ...client, tell: (...messages: ReadonlyArray<object>) => client.write(bytesOf(ndjson(messages))) }
})

const ndjson = (messages: ReadonlyArray<object>) => messages.map((one) => `${JSON.stringify(one)}\n`).join("")

const requests = (tag: string, count: number, more: object = {}) =>
  Array.from({ length: count }, (_, id) => ({
    _tag: "Request",
    id: String(id),
    tag,
    payload: null,
    headers: [],
    ...more
  }))

/** So many that a list of them is long. */
const registerMany = (one: Dispatcher.Dispatcher["Service"]) =>
  Effect.repeat(one.register({ role: "r".repeat(63) }), { times: 999 })

describe("RemoteDispatcher", () => {
  it.live("registers a session that others join, and sees who comes and goes", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled()
      const remote = yield* connect(control)
      const invitation = yield* remote.register({ role: "scene" })
      assert.deepStrictEqual(yield* remote.lookup({ sessionId: invitation.sessionId }), {
        id: invitation.sessionId,
        role: "scene",
        members: 0
      })
      const states = yield* Ref.make<ReadonlyArray<number>>([])
      const watching = yield* remote.watch().pipe(
        Stream.runForEach((sessions) =>
          Ref.update(states, (all) => [...all, sessions.reduce((sum, { members }) => sum + members, 0)])
        ),
        Effect.forkChild
      )
      yield* until(Effect.map(Ref.get(states), (all) => all.length > 0))
      const said = yield* Effect.scoped(
        Effect.gen(function* () {
          const session = yield* Session.joinAt([one.address], { invitation })
          yield* until(Effect.map(Ref.get(states), (all) => all.at(-1) === 1))
          yield* session.send(bytesOf("hello"))
          return yield* Stream.runHead(session.messages)
        })
      ).pipe(Effect.provide(NodeConnector.layer))
      assert.strictEqual(said._tag === "Some" ? textOf(said.value.data) : "", "hello")
      yield* until(Effect.map(Ref.get(states), (all) => all.at(-1) === 0))
      yield* Fiber.interrupt(watching)
      assert.lengthOf(yield* remote.list(), 1)
      assert.isTrue(yield* remote.unregister({ sessionId: invitation.sessionId }))
      assert.isFalse(yield* remote.unregister({ sessionId: invitation.sessionId }))
      assert.isNull(yield* remote.lookup({ sessionId: invitation.sessionId }))
    })
  )

  it.live("tells what the dispatcher is", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled({ strategies: { none: refusingMapper } })
      const remote = yield* connect(control)
      yield* remote.register({})
      const info = yield* remote.info()
      assert.strictEqual(info.name, "tower")
      assert.strictEqual(info.instance, one.instance)
      assert.strictEqual(NetAddress.formatInet(info.address), NetAddress.formatInet(one.address))
      assert.strictEqual(info.mapping.method, "stub")
      assert.deepStrictEqual(info.strategies, ["none"])
      assert.lengthOf(info.sessions, 1)
      assert.strictEqual(info.connections, 1)
    })
  )

  it.live("gives the contact point as it is good for whoever asks, with the sessions asked for", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled()
      const remote = yield* connect(control)
      const scene = yield* remote.register({ role: "scene" })
      const content = yield* remote.register({ role: "content" })
      const sessions = [content.sessionId, scene.sessionId]
      const seen = yield* remote.contactPoint({ sessions, name: "island", viewpoint: "plaza" })
      assert.deepStrictEqual(addressesOf(seen), [`127.0.0.1:${one.address.port}`])
      const { contactPoint } = seen
      assert.deepStrictEqual(contactPoint.external, [])
      assert.deepStrictEqual(
        contactPoint.sessions.map(({ capabilities, id, role }) => [role, id, capabilities]),
        [
          ["content", content.sessionId, [content.capability]],
          ["scene", scene.sessionId, [scene.capability]]
        ]
      )
      assert.deepStrictEqual([contactPoint.name, contactPoint.viewpoint], ["island", "plaza"])
      assert.strictEqual(contactPoint.instance, one.instance)
      assert.isUndefined(contactPoint.control)
      const none = "f".repeat(32) as SessionId.SessionId
      assert.strictEqual(yield* reasonOf(remote.contactPoint({ sessions: [none] })), "NoSuchSession")
    })
  )

  it.live("hears of a contact point that changes, and has it announced", () =>
    Effect.gen(function* () {
      const announced = yield* Ref.make<ReadonlyArray<string>>([])
      const isOver = yield* Deferred.make<void>()
      const announcer = Announcer.Announcer.of({
        announce: (contactPoints) =>
          contactPoints.pipe(
            Stream.runForEach(({ name, sessions }) =>
              Ref.update(announced, (all) => [...all, `${name} ${sessions.length}`])
            ),
            Effect.forkScoped,
            Effect.andThen(Effect.addFinalizer(() => Deferred.succeed(isOver, undefined)))
          )
      })
      const { control } = yield* controlled().pipe(Effect.provideService(Announcer.Announcer, announcer))
      const remote = yield* connect(control)
      const { sessionId } = yield* remote.register({})
      const following = yield* remote
        .announce({ sessions: [sessionId], name: "island" })
        .pipe(Stream.runDrain, Effect.forkChild)
      yield* until(Effect.map(Ref.get(announced), (all) => all.includes("island 1")))
      yield* Fiber.interrupt(following)
      yield* Deferred.await(isOver)

      const counts = yield* remote.watchContactPoint({}).pipe(
        Stream.map(({ contactPoint }) => contactPoint.sessions.length),
        Stream.tap((count) => (count === 1 ? remote.register({}) : Effect.void)),
        Stream.take(2),
        Stream.runCollect
      )
      assert.deepStrictEqual(counts, [1, 2])
    })
  )

  it.live("ends a stream whose session is unregistered with NoSuchSession", () =>
    Effect.gen(function* () {
      const { control } = yield* controlled()
      const remote = yield* connect(control)
      const { sessionId } = yield* remote.register({})
      const watching = yield* remote.watchContactPoint({ sessions: [sessionId] }).pipe(
        Stream.tap(() => remote.unregister({ sessionId })),
        Stream.runDrain,
        Effect.forkChild
      )
      assert.strictEqual(yield* reasonOf(Fiber.join(watching)), "NoSuchSession")
    })
  )

  it.live("changes the strategy, or says which there are", () =>
    Effect.gen(function* () {
      const strategies = { stub: mapperLayer, refusing: refusingMapper }
      const { control, one } = yield* controlled({ strategies })
      const remote = yield* connect(control)
      assert.strictEqual(yield* reasonOf(remote.changeStrategy({ strategy: "magic" })), "UnknownStrategy")
      assert.strictEqual(yield* reasonOf(remote.changeStrategy({ strategy: "constructor" })), "UnknownStrategy")
      assert.strictEqual(yield* reasonOf(remote.changeStrategy({ strategy: "refusing" })), "NoGateway")
      assert.strictEqual((yield* one.mapping.current).status, "mapped")
      assert.strictEqual((yield* remote.changeStrategy({ strategy: "stub" })).method, "stub")
    })
  )

  it.live("lets whoever may only look change nothing", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled({ strategies: { stub: mapperLayer } }, "observe")
      const { sessionId } = yield* one.register()
      const remote = yield* connect(control)
      assert.lengthOf(yield* remote.list(), 1)
      for (const forbidden of [
        remote.register({}),
        remote.unregister({ sessionId }),
        remote.changeStrategy({ strategy: "stub" }),
        Stream.runDrain(remote.announce({}))
      ]) {
        assert.strictEqual(yield* reasonOf(forbidden), "NotPermitted")
      }
      assert.lengthOf(yield* one.list, 1)
    })
  )

  it.live("tells whoever may only look what is there, and not what opens it", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled({}, "observe")
      const { sessionId } = yield* one.register({ role: "scene" })
      const remote = yield* connect(control)
      const watched = yield* Effect.fromOption(yield* Stream.runHead(remote.watchContactPoint({})))
      for (const { contactPoint } of [yield* remote.contactPoint({}), watched]) {
        assert.deepStrictEqual(
          contactPoint.sessions.map(({ capabilities, id, role }) => ({ capabilities, id, role })),
          [{ capabilities: [], id: sessionId, role: "scene" }]
        )
      }
    })
  )

  it.live("may do what its capability grants now, and nothing once that is revoked", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled()
      const capability = control.control ?? assert.fail()
      const remote = yield* connect(control)
      yield* remote.register({})
      yield* one.grantControl("observe", capability)
      const refused = Effect.map(Effect.result(remote.register({})), (result) =>
        result._tag === "Failure" && "reason" in result.failure ? result.failure.reason._tag === "NotPermitted" : false
      )
      yield* until(refused)
      const watching = yield* Effect.forkChild(Stream.runDrain(remote.watch()))
      yield* remote.list()
      yield* one.grantControl("observe", capability)
      yield* one.revokeControl(capability)
      assert.strictEqual((yield* Effect.flip(Fiber.join(watching)))._tag, "RpcClientError")
    })
  )

  it.live("goes on with all streams of a controller that reads again", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled({ limits: { maxBacklogBytes: 64 * 1_048_576 } })
      yield* registerMany(one)
      const client = yield* rawController(control)
      const count = 60
      const chunks = Effect.map(client.received, (bytes) => textOf(bytes).split('"_tag":"Chunk"').length - 1)
      client.socket.pause()
      yield* client.tell(...requests("watch", count))
      yield* Effect.sleep("300 millis")
      client.socket.resume()
      yield* until(Effect.map(chunks, (seen) => seen === count))
      yield* one.register({})
      yield* client.tell(...Array.from({ length: count }, (_, id) => ({ _tag: "Ack", requestId: String(id) })))
      yield* until(Effect.map(chunks, (seen) => seen === 2 * count))
    })
  )

  it.live("sends a controller away that does not read", () =>
    Effect.gen(function* () {
      const limits = { stallTimeout: "100 millis", closeTimeout: "10 millis" } as const
      const { control, one } = yield* controlled({ limits })
      yield* registerMany(one)
      const client = yield* rawController(control)
      client.socket.pause()
      yield* client.tell(...requests("list", 200))
      yield* until(Effect.map(one.status, ({ connections }) => connections === 0))
    })
  )

  it.live("ends with the dispatcher, whatever a controller does not read", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { control, one } = yield* Scope.provide(controlled({ limits: { closeTimeout: "10 millis" } }), scope)
      yield* registerMany(one)
      const client = yield* rawController(control)
      client.socket.pause()
      yield* client.tell(...requests("list", 200))
      yield* Effect.sleep("300 millis")
      yield* Scope.close(scope, Exit.void)
    })
  )

  it.live("sends a controller away that asks without an end, and none that ends what it asks", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled({}, "observe")
      for (const greed of [
        requests("watch", 300),
        requests("watch", 1, { isNotification: true }),
        requests("list", 1, { discard: true })
      ]) {
        const client = yield* rawController(control)
        yield* client.tell(...greed)
        yield* client.all
        yield* Effect.sync(() => client.socket.destroy())
      }
      yield* until(Effect.map(one.status, ({ connections }) => connections === 0))
      const remote = yield* connect(control)
      const watching = yield* Effect.forkChild(Stream.runDrain(remote.watch()))
      yield* Effect.repeat(Stream.runHead(remote.watch()), { times: 299 })
      const waiting = yield* Effect.forEach(Array.from({ length: 200 }), () =>
        Effect.forkChild(Stream.runDrain(remote.watch()))
      )
      yield* Effect.sleep("50 millis")
      yield* Fiber.interruptAll(waiting)
      yield* Effect.repeat(Stream.runHead(remote.watch()), { times: 99 })
      yield* Fiber.interrupt(watching)
      assert.lengthOf(yield* remote.list(), 0)
    })
  )

  it.live("is not let in without a capability that is good", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled()
      const invitation = yield* one.register()
      for (const capability of [undefined, Capability.Capability.make("0".repeat(32)), invitation.capability]) {
        const error = yield* Effect.flip(connect(ContactPoint.make({ ...control, control: capability })))
        assert.strictEqual(error.reason._tag, "Refused")
      }
    })
  )

  it.live("is over when its capability is revoked, and when the dispatcher ends", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { control, one } = yield* Scope.provide(controlled(), scope)
      const remote = yield* connect(control)
      const watching = yield* Effect.forkChild(Stream.runDrain(remote.watch()))
      yield* remote.list()
      assert.isTrue(yield* one.revokeControl(control.control ?? assert.fail()))
      assert.isFalse(yield* one.revokeControl(control.control ?? assert.fail()))
      assert.strictEqual((yield* Effect.flip(Fiber.join(watching)))._tag, "RpcClientError")
      const again = yield* connect(ContactPoint.make({ ...control, control: yield* one.grantControl("observe") }))
      const waiting = yield* Effect.forkChild(Stream.runDrain(again.watch()))
      yield* again.list()
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Effect.flip(Fiber.join(waiting)))._tag, "RpcClientError")
    })
  )

  it.live("comes back by itself when the connection breaks", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled()
      const remote = yield* connect(control)
      yield* remote.list()
      yield* one.revokeControl(control.control ?? assert.fail())
      yield* one.grantControl("manage", control.control)
      yield* until(Effect.isSuccess(remote.list()))
    })
  )

  it.live("leaves nothing of it when its scope closes", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled()
      yield* Effect.scoped(Effect.flatMap(connect(control), (remote) => remote.list()))
      yield* until(Effect.map(one.status, ({ connections }) => connections === 0))
    })
  )

  it.live("takes whatever bytes a controller sends, and serves the others", () =>
    Effect.gen(function* () {
      const { control, one } = yield* controlled()
      const capability = control.control ?? assert.fail()
      const remote = yield* connect(control)
      const sessionId = "0".repeat(32) as SessionId.SessionId
      const garbage = [
        bytesOf("garbage\n"),
        bytesOf("null\n[]\n7\n{}\n"),
        bytesOf('{"_tag":"Request","id":"1","tag":"register","payload":{"role":7},"headers":[]}\n'),
        bytesOf('{"_tag":"Request","id":"1","tag":"toString","payload":null,"headers":[]}\n'),
        bytesOf('{"_tag":"Ack","requestId":"9"}\n{"_tag":"Interrupt","requestId":"9"}\n{"_tag":"Eof"}\n'),
        new Uint8Array(1000).fill(0xff),
        bytesOf("x".repeat(2 * RemoteControl.maximumBytes))
      ]
      for (const bytes of garbage) {
        const client = yield* rawClient(one.address.port)
        const { hello, proof } = handshake({ sessionId, capability } as never)
        yield* client.write(hello)
        yield* until(Effect.map(client.received, ({ length }) => length >= 40))
        yield* client.write(proof(yield* client.received))
        yield* until(Effect.map(client.received, ({ length }) => length > 40))
        yield* client.write(bytes)
        assert.deepStrictEqual(yield* remote.list(), [])
        yield* Effect.sync(() => client.socket.end())
        yield* client.closed
      }
      // Its own socket is closed before the dispatcher has heard of it.
      yield* until(Effect.map(one.status, ({ connections }) => connections === 1))
    })
  )

  it.live("refuses more controllers than there may be", () =>
    Effect.gen(function* () {
      const { control } = yield* controlled({ limits: { maxControllers: 1 } })
      yield* connect(control)
      assert.strictEqual(yield* reasonOf(connect(control)), "Refused")
    })
  )
})
