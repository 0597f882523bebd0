/**
 * The web server of a simulated router on real sockets: connections that are kept, and events to real listeners.
 */
import * as Http from "@effect-nat/core/Http"
import * as HttpListener from "@effect-nat/core/HttpListener"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import type * as Quirk from "@effect-nat/testing/Quirk"
import * as Gena from "@effect-nat/upnp/Gena"
import * as Soap from "@effect-nat/upnp/Soap"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Net from "node:net"

const { NodeSimulatedRouter: Router } = NodeSimulatedRouter

const host = (...quirks: ReadonlyArray<Quirk.Quirk>) =>
  NodeSimulatedRouter.layerHost.pipe(
    Layer.provideMerge(NodeSimulatedRouter.layer({ quirks, externalAddress: "11.22.33.1" })),
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
  )

const client = (...quirks: ReadonlyArray<Quirk.Quirk>) => Upnp.layer.pipe(Layer.provideMerge(host(...quirks)))

const loopback = NetAddress.ipFromStringUnsafe("127.0.0.1")

const at = (path: string) =>
  Effect.map(Router, ({ ports }) => ({ path, address: NetAddress.inetAddressUnsafe(loopback, ports.http) }))

const call = Effect.fnUntraced(function* (action: string) {
  const asked = { serviceType: "urn:schemas-upnp-org:service:WANIPConnection:1", action, arguments: [] }
  const response = yield* Http.Http.use((http) =>
    Effect.flatMap(at("/ctl/IPConn"), (place) =>
      http.request({
        ...place,
        method: "POST",
        headers: [["SOAPAction", Soap.soapAction(asked)]],
        body: Soap.encodeCall(asked),
        maxBytes: Soap.maximumBytes
      })
    )
  )
  return Result.getOrThrow(Soap.decodeAnswer(response.body, action)).map(([, value]) => value)
})

const tenActions = Effect.replicateEffect(call("GetExternalIPAddress"), 10)

const connections = Effect.map(Router, ({ model }) => model.connections)

describe("connections to a router", () => {
  it.live("are kept by one that keeps them: ten actions take one", () =>
    Effect.gen(function* () {
      const answers = yield* tenActions
      assert.deepStrictEqual(
        answers,
        Array.from({ length: 10 }, () => ["11.22.33.1"])
      )
      assert.strictEqual(yield* connections, 1)
    }).pipe(Effect.provide(host("KeepsConnection")))
  )

  it.live("are one for ten calls of the client's own, after those that found the router", () =>
    Effect.gen(function* () {
      const { connection } = yield* Upnp.probe
      const before = yield* connections
      yield* connection.getExternalIpAddress
      yield* Effect.replicateEffect(connection.getStatusInfo, 10)
      assert.isAtMost((yield* connections) - before, 1)
    }).pipe(Effect.provide(host("KeepsConnection")))
  )

  it.live("are ended with each answer by others", () =>
    Effect.gen(function* () {
      yield* tenActions
      assert.strictEqual(yield* connections, 10)
    }).pipe(Effect.provide(host()))
  )

  it.live("that go away as the next request comes fail it once, and are not kept any more", () =>
    Effect.gen(function* () {
      const answers = yield* Effect.replicateEffect(Effect.result(call("GetExternalIPAddress")), 10)
      assert.deepStrictEqual(
        answers.map((answer) => answer._tag),
        ["Success", "Failure", ...Array.from({ length: 8 }, () => "Success")]
      )
      const { model } = yield* Router
      assert.strictEqual(model.asked.length, 9)
    }).pipe(Effect.provide(host("ClosesKeptConnection")))
  )

  it.live("that go away as the next request comes are no hindrance to a mapping with its address", () =>
    Effect.gen(function* () {
      const mapping = yield* PortMapper.PortMapper.use((mapper) =>
        mapper.map({ protocol: "tcp", internalPort: 12_000 })
      )
      assert.strictEqual(PortMapping.format(yield* mapping.current), "11.22.33.1:12000/tcp")
      const { model } = yield* Router
      assert.lengthOf(
        model.asked.filter(({ action }) => action === "AddPortMapping"),
        1
      )
    }).pipe(Effect.scoped, Effect.provide(client("ClosesKeptConnection")))
  )

  it.live("do not live through a restart", () =>
    Effect.gen(function* () {
      yield* call("GetExternalIPAddress")
      yield* Router.use((router) => router.reboot())
      // A restart takes its time, and no client's connection is kept so long.
      yield* Effect.sleep("1200 millis")
      assert.deepStrictEqual(yield* call("GetExternalIPAddress"), ["11.22.33.1"])
      assert.strictEqual(yield* connections, 2)
    }).pipe(Effect.provide(host("KeepsConnection")))
  )

  it.live("take requests that come at once, one after the other", () =>
    Effect.gen(function* () {
      const { address } = yield* at("/")
      const heard = yield* Effect.callback<string>((resume) => {
        const socket = Net.connect({ host: "127.0.0.1", port: address.port })
        let text = ""
        socket.on("data", (data) => (text += data.toString("latin1")))
        socket.on("close", () => resume(Effect.succeed(text)))
        socket.write("GET /rootDesc.xml HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n")
        socket.end("GET /L3F.xml HTTP/1.1\r\nConnection: close\r\n\r\n")
      })
      assert.deepStrictEqual(
        [...heard.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status),
        ["200", "404", "200"]
      )
    }).pipe(Effect.provide(host("KeepsConnection")))
  )

  it.live("are few where the strategy maps a port on a router that keeps them", () =>
    Effect.gen(function* () {
      yield* Effect.scoped(PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12_000 })))
      const { model } = yield* Router
      assert.isAbove(model.asked.filter(({ via }) => via === "upnp").length, 3)
      // One that is kept for what only reads, and one each for the mapping and its deletion.
      assert.isAtMost(model.connections, 3)
    }).pipe(Effect.provide(client("KeepsConnection")))
  )
})

/** A listener like a client's, and what it is sent. */
const listening = Effect.gen(function* () {
  const heard = yield* Queue.unbounded<Gena.Event>()
  const address = yield* HttpListener.HttpListener.use((listener) =>
    listener.listen({
      address: loopback,
      maxBytes: Gena.maximumBytes,
      accepts: NetAddress.isLoopback,
      answer: ({ body, headers, method, path }) => {
        const event = method === "NOTIFY" && path === "/events" ? Gena.decodeEvent(headers, body) : undefined
        if (event === undefined || Result.isFailure(event)) return Effect.succeed(412)
        return Effect.as(Queue.offer(heard, event.success), 200)
      }
    })
  )
  return {
    callback: `http://${NetAddress.formatInet(address)}/events`,
    next: Effect.timeout(Queue.take(heard), "10 seconds")
  }
})

const subscribe = (...callbacks: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const http = yield* Http.Http
    const headers = Gena.encodeSubscribe({ _tag: "New", callbacks, timeoutSeconds: 300 })
    const response = yield* http.request({
      ...(yield* at("/evt/IPConn")),
      method: "SUBSCRIBE",
      headers,
      maxBytes: 4096
    })
    return Result.getOrThrow(Gena.decodeGranted(response.headers)).sid
  })

describe("events over real sockets", () => {
  it.live("tell all there is first, and then another external address", () =>
    Effect.gen(function* () {
      const { callback, next } = yield* listening
      const sid = yield* subscribe(callback)
      const first = yield* next
      assert.strictEqual(first.sid, sid)
      assert.strictEqual(first.sequence, 0)
      assert.strictEqual(Soap.argument(first.properties, "ExternalIPAddress"), "11.22.33.1")
      yield* Router.use((router) => router.changeExternalAddress("11.22.33.2"))
      assert.deepStrictEqual(yield* next, { sid, sequence: 1, properties: [["ExternalIPAddress", "11.22.33.2"]] })
      const { model } = yield* Router
      // Whatever changes it, also without the handle.
      model.changeExternalAddress(NetAddress.ipFromStringUnsafe("11.22.33.3"))
      assert.strictEqual((yield* next).sequence, 2)
    }).pipe(Effect.provide(host()))
  )

  it.live("tell a mapping that another program makes, and its end", () =>
    Effect.gen(function* () {
      const { callback, next } = yield* listening
      yield* subscribe(callback)
      yield* next
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12_000 }))
          assert.deepStrictEqual((yield* next).properties, [["PortMappingNumberOfEntries", "1"]])
        })
      )
      assert.deepStrictEqual((yield* next).properties, [["PortMappingNumberOfEntries", "0"]])
    }).pipe(Effect.provide(client()))
  )

  it.live("go to the next callback where nobody listens at the first", () =>
    Effect.gen(function* () {
      const { callback, next } = yield* listening
      yield* subscribe("http://127.0.0.1:9/events", callback)
      assert.strictEqual((yield* next).sequence, 0)
    }).pipe(Effect.provide(host()))
  )

  it.live("reach the others when one subscriber is deaf", () =>
    Effect.gen(function* () {
      const deaf = yield* Effect.acquireRelease(
        Effect.callback<Net.Server>((resume) => {
          const server = Net.createServer((socket) => socket.on("error", () => {}))
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const address = deaf.address()
      yield* subscribe(`http://127.0.0.1:${typeof address === "object" ? address?.port : 0}/events`)
      const { callback, next } = yield* listening
      yield* subscribe(callback)
      assert.strictEqual((yield* next).sequence, 0)
      yield* Router.use((router) => router.changeExternalAddress("11.22.33.2"))
      assert.strictEqual((yield* next).sequence, 1)
    }).pipe(Effect.provide(host()))
  )
})
