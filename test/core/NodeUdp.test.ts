import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as Udp from "@effect-nat/core/Udp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import type * as DatagramSocket from "effect/socket/DatagramSocket"

const loopback = NetAddress.ipv4Loopback
const bytes = (text: string) => new TextEncoder().encode(text)
const text = (payload: Uint8Array) => new TextDecoder().decode(payload)

const open = (options: Udp.OpenOptions = {}) =>
  Udp.Udp.use((udp) => udp.open({ bind: { address: loopback }, ...options })).pipe(Effect.provide(NodeUdp.layer))

const kindOf = ({ reason }: DatagramSocket.DatagramSocketError) => ("kind" in reason ? reason.kind : reason._tag)

/** A port that nobody listens on: bound, and given back. */
const closedPort = Effect.map(Effect.scoped(open()), (socket) => socket.address)

describe("NodeUdp", () => {
  it.live("datagrams go out and come back, with their source", () =>
    Effect.gen(function* () {
      const server = yield* open()
      const client = yield* open()
      yield* client.send(bytes("ping"), server.address)
      const [request] = yield* server.receive
      assert.strictEqual(text(request.payload), "ping")
      assert.strictEqual(request.address.port, client.address.port)
      yield* server.send(bytes("pong"), request.address)
      const [answer] = yield* client.receive
      assert.strictEqual(text(answer.payload), "pong")
      assert.strictEqual(answer.address.port, server.address.port)
      assert.strictEqual(NetAddress.formatIp(answer.address.address), "127.0.0.1")
    })
  )

  it.live("what came in since is handed over in order", () =>
    Effect.gen(function* () {
      const server = yield* open()
      const client = yield* open()
      for (const word of ["a", "b", "c"]) yield* client.send(bytes(word), server.address)
      const words: Array<string> = []
      while (words.length < 3) words.push(...(yield* server.receive).map((one) => text(one.payload)))
      assert.deepStrictEqual(words, ["a", "b", "c"])
    })
  )

  it.live("a connected socket needs no destination and hears its peer only", () =>
    Effect.gen(function* () {
      const server = yield* open()
      const stranger = yield* open()
      const client = yield* open({ connect: server.address })
      yield* client.send(bytes("ping"))
      const [request] = yield* server.receive
      assert.strictEqual(request.address.port, client.address.port)
      yield* stranger.send(bytes("forged"), client.address)
      yield* server.send(bytes("pong"), client.address)
      const [answer] = yield* client.receive
      assert.strictEqual(text(answer.payload), "pong")
    })
  )

  it.live("a refusal by ICMP fails what waits, and what asks after it", () =>
    Effect.gen(function* () {
      const client = yield* open({ connect: yield* closedPort })
      yield* client.send(bytes("ping"))
      const error = yield* Effect.flip(client.receive.pipe(Effect.timeout("5 seconds")))
      assert.strictEqual(error._tag === "DatagramSocketError" ? kindOf(error) : error._tag, "ConnectionRefused")
      const again = yield* Effect.flip(client.receive.pipe(Effect.timeout("5 seconds")))
      assert.strictEqual(again._tag === "DatagramSocketError" ? kindOf(again) : again._tag, "ConnectionRefused")
    })
  )

  it.live("a receive that is cut by a time limit loses nothing that comes later", () =>
    Effect.gen(function* () {
      const server = yield* open()
      const client = yield* open()
      const cut = yield* Effect.flip(server.receive.pipe(Effect.timeout("20 millis")))
      assert.strictEqual(cut._tag, "TimeoutError")
      yield* client.send(bytes("late"), server.address)
      const [datagram] = yield* server.receive
      assert.strictEqual(text(datagram.payload), "late")
    })
  )

  it.live("a flood is dropped, not hoarded", () =>
    Effect.gen(function* () {
      const server = yield* open()
      const client = yield* open()
      for (let sent = 0; sent < 3000; sent += 1) yield* client.send(bytes("x"), server.address)
      yield* Effect.sleep("100 millis")
      assert.isAtMost((yield* server.receive).length, 512)
    })
  )

  it.live("a socket closes with its scope, and its port is free again", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { address } = yield* Scope.provide(open(), scope)
      const again = open({ bind: { address: loopback, port: address.port } })
      assert.strictEqual(kindOf(yield* Effect.flip(Effect.scoped(again))), "AddressInUse")
      yield* Scope.close(scope, Exit.void)
      const second = yield* Effect.scoped(again)
      assert.strictEqual(second.address.port, address.port)
    })
  )

  it.live("a port is shared where that is asked for", () =>
    Effect.gen(function* () {
      const { address } = yield* open({ reuseAddress: true })
      const second = yield* open({ bind: { address: loopback, port: address.port }, reuseAddress: true })
      assert.strictEqual(second.address.port, address.port)
    })
  )

  // Linux has a broadcast address for loopback as well; elsewhere nothing arrives there.
  it.live.skipIf(process.platform !== "linux")(
    "a broadcast (of loopback, Linux only) goes out where that is asked for, to all that share the port",
    () =>
      Effect.gen(function* () {
        const everybody = { address: NetAddress.ipv4Unspecified }
        const first = yield* open({ bind: everybody, reuseAddress: true })
        const { port } = first.address
        const second = yield* open({ bind: { ...everybody, port }, reuseAddress: true })
        const to = NetAddress.inetAddressUnsafe(NetAddress.ipFromStringUnsafe("127.255.255.255"), port)
        const refused = yield* Effect.flip((yield* open()).send(bytes("quiet"), to))
        assert.strictEqual(kindOf(refused), "PermissionDenied")
        yield* (yield* open({ broadcast: true })).send(bytes("to all"), to)
        for (const socket of [first, second]) {
          const [datagram] = yield* socket.receive.pipe(Effect.timeout("5 seconds"))
          assert.strictEqual(text(datagram.payload), "to all")
          assert.strictEqual(NetAddress.formatIp(datagram.address.address), "127.0.0.1")
        }
        const alone = yield* open({ bind: everybody })
        const shared = open({ bind: { ...everybody, port: alone.address.port }, reuseAddress: true })
        assert.strictEqual(kindOf(yield* Effect.flip(Effect.scoped(shared))), "AddressInUse")
      })
  )

  it.live("an address that this host does not have cannot be bound", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(open({ bind: { address: NetAddress.ipFromStringUnsafe("192.0.2.1") } }))
      assert.strictEqual(kindOf(error), "AddressNotAvailable")
    })
  )

  it.live("the own address towards a host is the kernel's choice, and the host hears nothing", () =>
    Effect.gen(function* () {
      const towards = (address: string) =>
        Effect.map(
          Effect.provide(Udp.localAddressTowards(NetAddress.ipFromStringUnsafe(address)), NodeUdp.layer),
          NetAddress.formatIp
        )
      assert.strictEqual(yield* towards("127.0.0.1"), "127.0.0.1")
      assert.strictEqual(yield* towards("::1"), "::1")
    })
  )

  const group = NetAddress.ipFromStringUnsafe("239.255.77.77")

  it.live("a group is heard on the interface where it was joined, until the scope closes", () =>
    Effect.gen(function* () {
      if (!NetAddress.isIpv4Address(group)) return assert.fail("no IPv4 group")
      const listener = yield* open({ bind: { address: NetAddress.ipv4Unspecified }, reuseAddress: true })
      const scope = yield* Scope.make()
      yield* Scope.provide(listener.joinMulticast(group, loopback), scope)
      const sender = yield* open({ multicast: { interface: loopback, ttl: 1 } })
      const to = NetAddress.inetAddressUnsafe(group, listener.address.port)
      yield* sender.send(bytes("joined"), to)
      const [datagram] = yield* listener.receive.pipe(Effect.timeout("5 seconds"))
      assert.strictEqual(text(datagram.payload), "joined")
      yield* Scope.close(scope, Exit.void)
      yield* sender.send(bytes("left"), to)
      const silence = yield* Effect.flip(listener.receive.pipe(Effect.timeout("100 millis")))
      assert.strictEqual(silence._tag, "TimeoutError")
    })
  )

  it.live("what is no group cannot be joined", () =>
    Effect.gen(function* () {
      const socket = yield* open()
      const error = yield* Effect.flip(socket.joinMulticast(loopback))
      assert.strictEqual(kindOf(error), "AddressNotAvailable")
    })
  )
})
