import * as NodeTcpListener from "@effect-nat/dispatcher/NodeTcpListener"
import * as TcpListener from "@effect-nat/dispatcher/TcpListener"
import { assert, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as Net from "node:net"
import { bytesOf, loopback, rawClient, textOf } from "./support.ts"

/** Listens at an address, and yields the next connection with what it reports. */
const listenAt = Effect.fnUntraced(function* (address?: NetAddress.IpAddress) {
  const listener = yield* TcpListener.TcpListener
  const connected = yield* Deferred.make<TcpListener.Connection>()
  const data = yield* Deferred.make<string>()
  const closed = yield* Deferred.make<void>()
  const listening = yield* listener.listen({
    port: 0,
    address,
    maxMessageBytes: 1000,
    onAcceptError: () => {},
    onConnection: (connection) => {
      Deferred.doneUnsafe(connected, Effect.succeed(connection))
      return {
        onData: (chunk) => Deferred.doneUnsafe(data, Effect.succeed(textOf(chunk))),
        onEnd: () => {},
        onClose: () => Deferred.doneUnsafe(closed, Effect.void)
      }
    }
  })
  return {
    listening,
    connected: Deferred.await(connected),
    data: Deferred.await(data),
    closed: Deferred.await(closed)
  }
})

layer(NodeTcpListener.layer, { excludeTestServices: true })("a listener of Node", (it) => {
  it.effect("knows both ends of a connection, an IPv4 peer by its IPv4 address", () =>
    Effect.gen(function* () {
      // All addresses: where the host has IPv6, this socket serves both families.
      const { connected, data, listening } = yield* listenAt()
      const client = yield* rawClient(listening.address.port)
      yield* client.write(bytesOf("hello"))
      assert.strictEqual(yield* data, "hello")
      const { localAddress, remoteAddress } = yield* connected
      assert(localAddress !== undefined && remoteAddress !== undefined)
      assert.strictEqual(NetAddress.formatInet(localAddress), `127.0.0.1:${listening.address.port}`)
      assert.strictEqual(NetAddress.formatInet(remoteAddress), `127.0.0.1:${client.socket.localPort}`)
    })
  )

  it.effect("calls back for each write, and ends after the last", () =>
    Effect.gen(function* () {
      const { connected, listening } = yield* listenAt(loopback)
      const client = yield* rawClient(listening.address.port)
      const connection = yield* connected
      for (const text of ["a", "b", "c"]) {
        yield* Effect.callback<void>((resume) => connection.write([bytesOf(text)], () => resume(Effect.void)))
      }
      connection.end()
      assert.strictEqual(textOf(yield* client.all), "abc")
    })
  )

  it.effect("drops the connections that are left when its scope closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { closed, connected, listening } = yield* listenAt(loopback).pipe(Scope.provide(scope))
      const client = yield* rawClient(listening.address.port)
      yield* connected
      yield* Scope.close(scope, Exit.void)
      yield* client.all
      yield* closed
    })
  )

  it.effect("takes no more connections once told so, and keeps those it has", () =>
    Effect.gen(function* () {
      const { connected, data, listening } = yield* listenAt(loopback)
      const client = yield* rawClient(listening.address.port)
      yield* connected
      yield* listening.stopAccepting
      yield* listening.stopAccepting
      yield* client.write(bytesOf("still here"))
      assert.strictEqual(yield* data, "still here")
      const refusal = yield* Effect.callback<string | undefined>((resume) => {
        const late = Net.connect(listening.address.port, "127.0.0.1", () => resume(Effect.succeed("accepted")))
        late.on("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code)))
      })
      assert.strictEqual(refusal, "ECONNREFUSED")
    })
  )

  it.effect("stops reading from a paused connection", () =>
    Effect.gen(function* () {
      const { connected, data, listening } = yield* listenAt(loopback)
      const client = yield* rawClient(listening.address.port)
      const connection = yield* connected
      connection.pause()
      yield* client.write(bytesOf("later"))
      assert.strictEqual(yield* Effect.raceFirst(data, Effect.as(Effect.sleep("50 millis"), "nothing")), "nothing")
      connection.resume()
      assert.strictEqual(yield* data, "later")
    })
  )
})
