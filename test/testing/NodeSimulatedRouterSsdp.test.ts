/**
 * What a router on loopback sockets tells every host unasked over SSDP, as a plain socket hears it.
 */
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import * as Dgram from "node:dgram"

const loopback = "127.0.0.1"

/** The announcements of root devices that a program hears which knows nothing of any of this. */
const listen = Effect.fnUntraced(function* (port: number) {
  const heard = yield* Queue.unbounded<Ssdp.Notify>()
  yield* Effect.acquireRelease(
    Effect.callback<Dgram.Socket>((resume) => {
      const socket = Dgram.createSocket({ type: "udp4", reuseAddr: true })
      socket.on("message", (payload) => {
        const message = Result.getOrUndefined(Ssdp.decode(payload))
        const isRoot = message?._tag === "Notify" && message.notificationType === "upnp:rootdevice"
        if (isRoot) Queue.offerUnsafe(heard, message)
      })
      socket.bind({ address: "239.255.255.250", port }, () => {
        socket.addMembership("239.255.255.250", loopback)
        resume(Effect.succeed(socket))
      })
    }),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )
  return heard
})

/** In real time. */
const heardNow = (heard: Queue.Queue<Ssdp.Notify>) =>
  TestClock.withLive(Effect.andThen(Effect.sleep("150 millis"), Queue.clear(heard)))

describe("a router on loopback says that it is there", () => {
  it.effect("again before its word has run out", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.make({ protocols: ["upnp"] })
      const heard = yield* listen(router.ports.ssdp)
      yield* heardNow(heard)
      for (let times = 0; times < 2; times++) {
        yield* TestClock.adjust(UpnpResponder.aliveInterval - 1000)
        assert.lengthOf(yield* heardNow(heard), 0)
        yield* TestClock.adjust(1000)
        const [notify] = yield* heardNow(heard)
        assert.strictEqual(notify?.kind, "alive")
        assert.isBelow(UpnpResponder.aliveInterval, 500 * (notify?.maxAge ?? 0))
      }
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live.each([true, false])("where its description is, when that changes (%s)", (isToldOutside) =>
    Effect.gen(function* () {
      const quirks = isToldOutside ? (["LocationOnOtherAddress"] as const) : []
      const router = yield* NodeSimulatedRouter.make({ protocols: ["upnp"], externalAddress: "11.22.33.1", quirks })
      const heard = yield* listen(router.ports.ssdp)
      yield* Effect.sleep("150 millis")
      yield* Queue.clear(heard)
      yield* router.changeExternalAddress("11.22.33.2")
      yield* Effect.sleep("150 millis")
      const places = (yield* Queue.clear(heard)).map(({ location }) => location)
      assert.deepStrictEqual(places, isToldOutside ? [`http://11.22.33.2:${router.ports.http}/rootDesc.xml`] : [])
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )
})
