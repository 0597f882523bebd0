/**
 * What a router on loopback sockets tells every host unasked over NAT-PMP and PCP, as a plain socket hears it.
 */
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as Udp from "@effect-nat/core/Udp"
import * as NatPmpCodec from "@effect-nat/natpmp/NatPmpCodec"
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import { assert, describe, it } from "@effect/vitest"
import { map as pcpMap } from "./pcpRouter.ts"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import * as Dgram from "node:dgram"
import * as NodeAnnouncements from "../../packages/testing/src/internal/NodeAnnouncements.ts"

const loopback = "127.0.0.1"

/** In a word: the version and what it says. */
const read = (payload: Uint8Array): string => {
  if (payload[0] === PcpCodec.version) return `PCP ${Result.getOrThrow(PcpCodec.decodeResponse(payload))._tag}`
  const announced = Result.getOrThrow(NatPmpCodec.decodeResponse(payload))
  return announced._tag === "ExternalAddressResponse"
    ? `NAT-PMP ${NetAddress.formatIp(announced.externalAddress)}`
    : `NAT-PMP ${announced._tag}`
}

/** A socket of a program that knows nothing of any of this; what comes to it, with the sender's port. */
const listen = Effect.fnUntraced(function* (port: number) {
  const heard = yield* Queue.unbounded<readonly [what: string, fromPort: number]>()
  yield* Effect.acquireRelease(
    Effect.callback<Dgram.Socket>((resume) => {
      const socket = Dgram.createSocket({ type: "udp4", reuseAddr: true })
      socket.on("message", (payload, from) => Queue.offerUnsafe(heard, [read(payload), from.port]))
      socket.bind({ port }, () => {
        socket.addMembership("224.0.0.1", loopback)
        resume(Effect.succeed(socket))
      })
    }),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )
  return heard
})

const awaitOne = (heard: Queue.Queue<readonly [what: string, fromPort: number]>, expected: string) =>
  Queue.take(heard).pipe(
    Effect.repeat({ until: ([what]) => what === expected }),
    Effect.timeoutOrElse({ duration: "5 seconds", orElse: () => Effect.die(new Error(`nobody said ${expected}`)) })
  )

describe("a router on loopback announces", () => {
  it.live("its start and another address, from the port that is asked", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.make({ externalAddress: "11.22.33.1" })
      const heard = yield* listen(router.ports.announcements)
      assert.deepStrictEqual(yield* awaitOne(heard, "NAT-PMP 11.22.33.1"), ["NAT-PMP 11.22.33.1", router.ports.natpmp])
      yield* awaitOne(heard, "PCP AnnounceResponse")
      yield* router.changeExternalAddress("11.22.33.2")
      assert.deepStrictEqual(yield* awaitOne(heard, "NAT-PMP 11.22.33.2"), ["NAT-PMP 11.22.33.2", router.ports.natpmp])
      yield* router.changeExternalAddress(undefined)
      yield* awaitOne(heard, "NAT-PMP 0.0.0.0")
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  const changes = {
    "another address": (router: NodeSimulatedRouter.NodeSimulatedRouter["Service"]) =>
      router.changeExternalAddress("11.22.33.2"),
    "a restart": (router: NodeSimulatedRouter.NodeSimulatedRouter["Service"]) => router.reboot()
  } as const

  it.live.each(["another address", "a restart"] as const)("%s at once, and again", (change) =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.make({ protocols: ["pcp"] })
      const heard = yield* listen(router.ports.announcements)
      // By now the next one of the start would take 1.75 seconds more.
      yield* Effect.sleep("2 seconds")
      yield* Queue.clear(heard)
      yield* changes[change](router)
      yield* Effect.timeout(Effect.andThen(Queue.take(heard), Queue.take(heard)), "1500 millis")
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live("nothing while it is silent, and how things are when it has woken up", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.make({ externalAddress: "11.22.33.1" })
      const heard = yield* listen(router.ports.announcements)
      yield* awaitOne(heard, "PCP AnnounceResponse")
      yield* router.goSilent()
      yield* Effect.sleep("20 millis")
      yield* Queue.clear(heard)
      yield* router.changeExternalAddress("11.22.33.2")
      yield* router.reboot()
      yield* Effect.sleep("900 millis")
      assert.deepStrictEqual(yield* Queue.clear(heard), [])
      yield* router.wake
      assert.strictEqual((yield* Queue.take(heard))[0], "NAT-PMP 11.22.33.2")
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live.each([
    [["natpmp"], "NAT-PMP 11.22.33.1"],
    [["pcp"], "PCP AnnounceResponse"]
  ] as const)("only over what it speaks (%s)", ([protocols, expected]) =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.make({ protocols, externalAddress: "11.22.33.1" })
      const heard = yield* listen(router.ports.announcements)
      yield* Effect.sleep("400 millis")
      const said = (yield* Queue.clear(heard)).map(([what]) => what)
      assert.deepStrictEqual([...new Set(said)], [expected])
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live("to the client of a mapping apart, when it has another address and when it has restarted", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.make({
        externalAddress: "11.22.33.1",
        protocols: ["pcp"],
        quirks: ["AnnouncesOnlyToClients"]
      })
      const heard = yield* listen(router.ports.announcements)
      const client = NetAddress.ipFromStringUnsafe(loopback)
      const socket = yield* Udp.Udp.use((udp) => udp.open({ bind: { address: client } }))
      const request = PcpCodec.encodeRequest({ ...pcpMap, clientAddress: client })
      yield* socket.send(request, NetAddress.inetAddressUnsafe(client, router.ports.natpmp))
      yield* Effect.timeout(socket.receive, "5 seconds")
      yield* router.changeExternalAddress("11.22.33.2")
      assert.deepStrictEqual(yield* awaitOne(heard, "PCP MapResponse"), ["PCP MapResponse", router.ports.natpmp])
      yield* router.reboot()
      yield* awaitOne(heard, "PCP AnnounceResponse")
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live("to a host behind it, on the protocol's own ports", () =>
    Effect.gen(function* () {
      const udp = yield* Udp.Udp
      const socket = yield* udp.open({ bind: { port: PcpCodec.clientPort } })
      // Several programs of a host may listen.
      yield* udp.open({ bind: { port: PcpCodec.clientPort } })
      yield* socket.joinMulticast(PcpCodec.group)
      const [{ address, payload }] = yield* Effect.timeout(socket.receive, "5 seconds")
      assert.strictEqual(NetAddress.formatInet(address), "127.0.0.1:5351")
      assert.strictEqual(read(payload), "NAT-PMP 11.22.33.1")
    }).pipe(
      Effect.scoped,
      Effect.provide(
        NodeSimulatedRouter.layerHost.pipe(
          Layer.provideMerge(NodeSimulatedRouter.layer({ externalAddress: "11.22.33.1", protocols: ["natpmp"] }))
        )
      )
    )
  )

  it.live("on the one interface that such a host has", () =>
    Effect.gen(function* () {
      const { ports } = yield* NodeSimulatedRouter.NodeSimulatedRouter
      const udp = yield* Udp.Udp
      const bind = { address: NetAddress.ipFromStringUnsafe(loopback) }
      const elsewhere = yield* udp.open({ bind, multicast: { interface: NetAddress.ipv4Loopback } })
      const socket = yield* udp.open({ bind: { port: PcpCodec.clientPort } })
      // Unlike 224.0.0.1, no interface has joined this group before.
      const group = NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(239, 77, 66, 55))
      yield* socket.joinMulticast(group)
      yield* elsewhere.send(Uint8Array.of(7), NetAddress.inetAddressUnsafe(group, ports.announcements))
      const [{ payload }] = yield* Effect.timeout(socket.receive, "5 seconds")
      assert.deepStrictEqual([...payload], [7])
    }).pipe(
      Effect.scoped,
      Effect.provide(
        NodeSimulatedRouter.layerHost.pipe(Layer.provideMerge(NodeSimulatedRouter.layer({ protocols: ["upnp"] })))
      )
    )
  )

  it.live("to the port that it is told", () =>
    Effect.gen(function* () {
      const announcements = 20_000 + (process.pid % 100) * 100 + 70
      const router = yield* NodeSimulatedRouter.make({ ports: { announcements } })
      assert.strictEqual(router.ports.announcements, announcements)
      yield* awaitOne(yield* listen(announcements), "PCP AnnounceResponse")
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )
})

describe("a round of announcements", () => {
  const gateway = NetAddress.inetAddressUnsafe(NetAddress.ipFromStringUnsafe("192.168.77.1"), 5351)
  const model = new RouterModel.RouterModel()

  /** A round's start, and when something was sent since the last look. */
  const makeRound = Effect.gen(function* () {
    const sent: Array<number> = []
    const announce = yield* NodeAnnouncements.make(
      model,
      ["natpmp"],
      {
        address: gateway,
        receive: Effect.never,
        joinMulticast: () => Effect.void,
        send: (payload, to) =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            assert.strictEqual(NetAddress.formatInet(to ?? gateway), "224.0.0.1:5350")
            const announced = Result.getOrThrow(NatPmpCodec.decodeResponse(payload))
            assert.strictEqual(
              announced._tag === "ExternalAddressResponse" ? announced.epoch : -1,
              Math.floor(now / 1000)
            )
            sent.push(now)
          })
      },
      PcpCodec.clientPort
    )
    return { announce, sent: Effect.sync(() => sent.splice(0)) }
  })

  it.effect("is ten, at intervals that double from a quarter of a second, each with the epoch of its time", () =>
    Effect.gen(function* () {
      const { announce, sent } = yield* makeRound
      yield* announce("start")
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* sent, [0, 250, 750, 1750, 3750, 7750, 15_750, 31_750, 63_750, 127_750])
    })
  )

  it.effect("begins anew with the next change", () =>
    Effect.gen(function* () {
      const { announce, sent } = yield* makeRound
      yield* announce("start")
      yield* TestClock.adjust("1 second")
      yield* announce("start")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* sent, [0, 250, 750, 1000, 1250, 1750])
    })
  )

  it.effect("ends with the router", () =>
    Effect.gen(function* () {
      const sent = yield* Effect.scoped(
        Effect.gen(function* () {
          const round = yield* makeRound
          yield* round.announce("start")
          yield* TestClock.adjust("1 second")
          return round.sent
        })
      )
      assert.deepStrictEqual(yield* sent, [0, 250, 750])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* sent, [])
    })
  )
})
