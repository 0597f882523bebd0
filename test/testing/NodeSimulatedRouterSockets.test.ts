/**
 * The sockets of a router on loopback: how they follow the router, and what they live through.
 */
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as Udp from "@effect-nat/core/Udp"
import * as NatPmpCodec from "@effect-nat/natpmp/NatPmpCodec"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import type * as RouterModel from "@effect-nat/testing/RouterModel"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as DatagramSocket from "effect/socket/DatagramSocket"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "node:net"
import * as NodeForwarding from "../../packages/testing/src/internal/NodeForwarding.ts"
import * as NodeRouterUdp from "../../packages/testing/src/internal/NodeRouterUdp.ts"

const ip = NetAddress.ipFromStringUnsafe
const inside = ip("127.0.0.1")
const outside = ip("127.0.0.2")

/** Below the ports that the system gives out, and others in every process: several runs may be under way. */
const base = 20_000 + (process.pid % 100) * 100 + 80

/** What is logged as a warning, without its cause. */
const makeWarnings = () => {
  const warnings: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel === "Warn") warnings.push(String(Array.isArray(message) ? message[0] : message))
  })
  return { warnings, layer: Logger.layer([logger]) }
}

const readError = new DatagramSocket.DatagramSocketError({
  reason: new DatagramSocket.DatagramSocketReadError({ kind: "Unknown", cause: new Error("EIO") })
})

const peer = NetAddress.inetAddressUnsafe(ip("8.8.8.8"), 4000)

/** A datagram of one byte. */
const datagram = (byte: number): DatagramSocket.Datagram => ({ payload: Uint8Array.of(byte), address: peer })

type Received = Effect.Success<Udp.UdpSocket["receive"]>

/** A socket that hears what a test says. */
const makeSocket = Effect.fnUntraced(function* () {
  const heard = yield* Queue.unbounded<DatagramSocket.Datagram, DatagramSocket.DatagramSocketError>()
  const sent: Array<number> = []
  const socket: Udp.UdpSocket = {
    address: NetAddress.inetAddressUnsafe(outside, 12001),
    receive: Effect.map(Queue.take(heard), (one): Received => [one]),
    send: (payload) => Effect.sync(() => void sent.push(payload[0] ?? 0)),
    joinMulticast: () => Effect.void
  }
  return { socket, sent, hear: (byte: number) => Queue.offer(heard, datagram(byte)) }
})

describe("a server of datagrams", () => {
  it.effect("goes on after an answer that threw, and after an error of its socket", () => {
    const { layer, warnings } = makeWarnings()
    return Effect.gen(function* () {
      const { hear, socket } = yield* makeSocket()
      const answered: Array<number> = []
      let isBroken = false
      const receive = Effect.suspend(() => (isBroken ? Effect.fail(readError) : socket.receive))
      yield* NodeRouterUdp.serve({ ...socket, receive }, ({ payload: [byte = 0] }) => {
        if (byte === 1) throw new Error("one")
        if (byte === 2) return Effect.die(new Error("two"))
        isBroken = byte === 4
        answered.push(byte)
        return Effect.void
      })
      for (const byte of [1, 2, 3, 4]) {
        yield* hear(byte)
        yield* TestClock.adjust("10 millis")
      }
      isBroken = false
      yield* hear(5)
      yield* TestClock.adjust("900 millis")
      assert.deepStrictEqual(answered, [3, 4])
      yield* TestClock.adjust("100 millis")
      assert.deepStrictEqual(answered, [3, 4, 5])
      const lost = "a datagram to the simulated router at 127.0.0.2:12001 got lost"
      assert.deepStrictEqual(warnings, [lost, lost, "the simulated router could not receive at 127.0.0.2:12001"])
    }).pipe(Effect.provide(layer))
  })
})

describe("a flow through a UDP port", () => {
  const port: NodeForwarding.Outside = { protocol: "udp", address: outside, port: 12001 }
  const target = () => NetAddress.inetAddressUnsafe(inside, 12000)

  /** A port, and the sockets towards the host inside. */
  const makePort = Effect.fnUntraced(function* (isRefused = false) {
    const outer = yield* makeSocket()
    const inner: Array<Effect.Success<ReturnType<typeof makeSocket>>> = []
    let closed = 0
    const open = Effect.fnUntraced(function* ({ connect }: Udp.OpenOptions) {
      if (connect === undefined) return outer.socket
      yield* Effect.addFinalizer(() => Effect.sync(() => (closed += 1)))
      if (isRefused) return yield* readError
      const made = yield* makeSocket()
      inner.push(made)
      return made.socket
    })
    yield* Effect.provideService(NodeForwarding.forward(port, target), Udp.Udp, { open })
    return { outer, inner, closed: () => closed }
  })

  it.effect("is the same while one side speaks, whichever it is, and is forgotten after 30 seconds of silence", () =>
    Effect.gen(function* () {
      const { closed, inner, outer } = yield* makePort()
      for (let turn = 0; turn < 12; turn++) {
        yield* outer.hear(turn)
        yield* TestClock.adjust("5 seconds")
      }
      for (let turn = 0; turn < 12; turn++) {
        yield* inner[0]?.hear(turn) ?? Effect.void
        yield* TestClock.adjust("5 seconds")
      }
      assert.deepStrictEqual([inner.length, inner[0]?.sent.length, outer.sent.length, closed()], [1, 12, 12, 0])
      yield* TestClock.adjust("24 seconds")
      assert.strictEqual(closed(), 0)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(closed(), 1)
      yield* outer.hear(1)
      yield* TestClock.adjust("1 second")
      assert.lengthOf(inner, 2)
    })
  )

  it.effect("that cannot be opened leaves nothing behind", () =>
    Effect.gen(function* () {
      const { closed, outer } = yield* makePort(true)
      for (let turn = 0; turn < 3; turn++) {
        yield* outer.hear(turn)
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual(closed(), 3)
    })
  )
})

const wanted: RouterModel.MapRequest = {
  via: "upnp",
  client: inside,
  protocol: "tcp",
  externalPort: base,
  mayChoosePort: false,
  internalAddress: inside,
  internalPort: 9,
  lifetimeSeconds: 3600
}

const map = (model: RouterModel.RouterModel, differences: Partial<RouterModel.MapRequest> = {}) =>
  Effect.map(Clock.currentTimeMillis, (now) => Result.isSuccess(model.map(now, { ...wanted, ...differences })))

const connect = (host: string, port: number) =>
  Effect.callback<string>((resume) => {
    const socket = Net.connect({ host, port })
    socket.on("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? error.message)))
    socket.on("connect", () => resume(Effect.succeed("connected")))
    return Effect.sync(() => void socket.destroy())
  })

const eventually = (condition: Effect.Effect<boolean>) =>
  condition.pipe(
    Effect.delay("20 millis"),
    Effect.repeat({ until: (isTrue) => isTrue }),
    Effect.timeoutOrElse({ duration: "5 seconds", orElse: () => Effect.die(new Error("it did not happen")) })
  )

describe("an external port that another program had", () => {
  it.live("can be mapped again when it has been given back", () => {
    const { layer, warnings } = makeWarnings()
    return Effect.gen(function* () {
      const { model, openPorts } = yield* NodeSimulatedRouter.make()
      const holder = yield* Scope.make()
      const udp = yield* Udp.Udp
      yield* Scope.provide(udp.open({ bind: { address: outside, port: base } }), holder)
      const request = { protocol: "udp" } as const
      assert.isTrue(yield* map(model, request))
      assert.deepStrictEqual(yield* openPorts, [])
      assert.lengthOf(warnings, 1)
      assert.isFalse(yield* map(model, request))
      yield* Scope.close(holder, Exit.void)
      yield* eventually(map(model, request))
      assert.deepStrictEqual(yield* openPorts, [`udp 127.0.0.2:${base}`])
      assert.lengthOf(warnings, 1)
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(NodeUdp.layer, layer)))
  })

  it.live("can be mapped at another address of the line", () =>
    Effect.gen(function* () {
      const { changeExternalAddress, model, openPorts } = yield* NodeSimulatedRouter.make()
      const udp = yield* Udp.Udp
      yield* udp.open({ bind: { address: outside, port: base + 1 } })
      const request = { protocol: "udp", externalPort: base + 1 } as const
      yield* map(model, request)
      assert.deepStrictEqual(yield* openPorts, [])
      yield* changeExternalAddress("127.0.0.3")
      assert.isTrue(yield* map(model, request))
      assert.deepStrictEqual(yield* openPorts, [`udp 127.0.0.3:${base + 1}`])
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(NodeUdp.layer, makeWarnings().layer)))
  )
})

describe("the sockets of a router", () => {
  it.live("stay as they are while requests change nothing", () =>
    Effect.gen(function* () {
      const real = yield* Udp.Udp
      let opened = 0
      const counting: Udp.Udp["Service"] = {
        open: (options) =>
          Effect.andThen(
            Effect.sync(() => (opened += 1)),
            real.open(options)
          )
      }
      const router = yield* Effect.provideService(NodeSimulatedRouter.make(), Udp.Udp, counting)
      yield* map(router.model, { externalPort: base + 2 })
      assert.lengthOf(yield* router.openPorts, 1)
      const before = opened
      const socket = yield* real.open({ connect: NetAddress.inetAddressUnsafe(inside, router.ports.natpmp) })
      const request = NatPmpCodec.encodeRequest({ _tag: "ExternalAddressRequest" })
      for (let turn = 0; turn < 5; turn++) {
        yield* socket.send(Uint8Array.of(0, 1, 2))
        yield* socket.send(request)
        yield* socket.receive
      }
      assert.strictEqual(opened, before)
      // An address of the line is tried once.
      yield* map(router.model, { externalPort: base + 3 })
      assert.lengthOf(yield* router.openPorts, 2)
      assert.strictEqual(opened, before)
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  /** Nothing can listen over TCP any more until the scope closes. */
  const noListening = Effect.acquireRelease(
    Effect.sync(() => {
      const { listen } = Net.Server.prototype
      Net.Server.prototype.listen = function (this: Net.Server) {
        const error = Object.assign(new Error("no more files"), { code: "EMFILE" })
        queueMicrotask(() => void this.emit("error", error))
        return this
      }
      return listen
    }),
    (listen) => Effect.sync(() => void (Net.Server.prototype.listen = listen))
  )

  it.live("follow it further when its web server could not move", () => {
    const { layer, warnings } = makeWarnings()
    return Effect.gen(function* () {
      const { location, model, reboot } = yield* NodeSimulatedRouter.make({ quirks: ["RestartMovesControl"] })
      const before = yield* location
      yield* Effect.scoped(Effect.andThen(noListening, reboot()))
      assert.strictEqual(new URL(yield* location).port, new URL(before).port)
      assert.include(warnings.join(), "the web server does not move: Unknown (EMFILE)")
      // Nobody asks the router, so that it has to see to it by itself.
      yield* map(model, { externalPort: base + 4 })
      model.changeExternalAddress(ip("127.0.0.3"))
      yield* eventually(Effect.map(connect("127.0.0.3", base + 4), (result) => result !== "ECONNREFUSED"))
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(NodeUdp.layer, layer)))
  })

  it.live("include those of the second gateway, or the quirk would not be there", () =>
    Effect.gen(function* () {
      const udp = yield* Udp.Udp
      yield* udp.open({ bind: { address: ip("127.0.0.9"), port: base + 5 } })
      const error = yield* Effect.flip(
        NodeSimulatedRouter.make({ quirks: ["DeadSecondGateway"], ports: { natpmp: base + 5 } })
      )
      assert.strictEqual(error.message, `AddressInUse: UDP port ${base + 5} at 127.0.0.9`)
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )
})

describe("a host behind the router", () => {
  it.live("hears on the SSDP port that it has restarted, as other programs of the host do", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.NodeSimulatedRouter
      const udp = yield* Udp.Udp
      const listen = Effect.gen(function* () {
        const socket = yield* udp.open({ bind: { port: Ssdp.port }, reuseAddress: true })
        yield* socket.joinMulticast(Ssdp.group)
        return socket
      })
      const sockets = [yield* listen, yield* listen]
      yield* router.reboot()
      for (const socket of sockets) {
        const [{ address, payload }] = yield* Effect.timeout(socket.receive, "5 seconds")
        assert.strictEqual(NetAddress.formatInet(address), "127.0.0.1:1900")
        assert.match(new TextDecoder().decode(payload), /^NOTIFY \* HTTP\/1\.1\r\n/)
      }
    }).pipe(
      Effect.scoped,
      Effect.provide(NodeSimulatedRouter.layerHost.pipe(Layer.provideMerge(NodeSimulatedRouter.layer())))
    )
  )
})
