/**
 * `examples/dispatcher.ts` with other strategies in its one line: the mock, the LAN, and UPnP at a router on loopback.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as Lan from "@effect-nat/core/Lan"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as Session from "@effect-nat/dispatcher/Session"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import * as SimulatedRouter from "@effect-nat/testing/SimulatedRouter"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { readFileSync } from "node:fs"
import { program } from "../../examples/dispatcher.ts"
import { bytesOf, loopback, textOf } from "./support.ts"

/** Runs the example, and takes the contact points that it prints one by one. */
const start = Effect.fnUntraced(function* <E, R>(strategy: Layer.Layer<PortMapper.PortMapper, E, R>) {
  const printed = yield* Queue.unbounded<string>()
  const log = (text: string) => Queue.offerUnsafe(printed, text)
  const running = yield* Effect.forkScoped(
    // What shall be reached through the router only listens on 127.0.0.1.
    program(strategy, { port: 0, address: loopback }).pipe(
      Effect.provideService(Console.Console, { ...globalThis.console, log })
    )
  )
  // One that ends by itself has failed.
  const next = Effect.gen(function* () {
    const [text = "", uri = ""] = (yield* Effect.raceFirst(Queue.take(printed), Fiber.join(running)))?.split("\n") ?? []
    const contactPoint = yield* Effect.fromResult(ContactPointUri.fromString(uri))
    assert.strictEqual(ContactPoint.format(contactPoint), text)
    return contactPoint
  })
  return { next, stop: Fiber.interrupt(running) }
})

/** Joins the session on the postcard at an address, and hears what it says itself. */
const hello = Effect.fnUntraced(
  function* (contactPoint: ContactPoint.ContactPoint, address: NetAddress.IpAddress | undefined) {
    const session = yield* Effect.fromOption(ContactPoint.findSession(contactPoint, "scene"))
    const [capability] = session.capabilities
    assert.isDefined(capability)
    assert.isDefined(address)
    const invitation = new Invitation.Invitation({ sessionId: session.id, capability })
    const port = (contactPoint.external[0]?.address ?? contactPoint.internal[0])?.port ?? 0
    const member = yield* Session.joinAt([NetAddress.inetAddressUnsafe(address, port)], { invitation })
    yield* member.send(bytesOf("hello"))
    const heard = yield* Stream.runHead(member.messages)
    return heard._tag === "Some" ? textOf(heard.value.data) : "nothing"
  },
  Effect.scoped,
  Effect.provide(NodeConnector.layer)
)

const hostsOf = ({ external }: ContactPoint.ContactPoint) =>
  external.map(({ address }) => NetAddress.formatIp(address.address))

/** A host whose only network is loopback, behind a router that is there as well. */
const behindRouter = NodeSimulatedRouter.layerHost.pipe(
  Layer.provideMerge(NodeSimulatedRouter.layer({ externalAddress: "11.22.33.1" }))
)

describe("examples/dispatcher.ts", () => {
  it("names its strategy in one line", () => {
    const lines = readFileSync(new URL("../../examples/dispatcher.ts", import.meta.url), "utf8").split("\n")
    const named = lines.filter((line) => /\b(?:Upnp|Pcp|NatPmp|Automatic|Manual|Lan)\.layer\b/.test(line))
    assert.lengthOf(named, 1)
    assert.isAtMost(lines.length, 51)
  })

  it.live("runs with the mock, and leaves nothing on its router", () =>
    Effect.gen(function* () {
      const router = yield* SimulatedRouter.make()
      const strategy = SimulatedRouter.layerHost({ localAddress: "127.0.0.1" }).pipe(
        Layer.provide(Layer.succeed(SimulatedRouter.SimulatedRouter, router))
      )
      const { next, stop } = yield* start(strategy)
      const contactPoint = yield* next
      assert.deepStrictEqual(hostsOf(contactPoint), ["11.22.33.1"])
      assert.strictEqual(yield* hello(contactPoint, loopback), "hello")
      assert.lengthOf(yield* router.table, 1)
      yield* stop
      assert.deepStrictEqual(yield* router.table, [])
    }).pipe(Effect.provide(behindRouter))
  )

  it.live("runs on the LAN, and asks no router", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.NodeSimulatedRouter
      const { next } = yield* start(Lan.layer)
      const contactPoint = yield* next
      assert.deepStrictEqual(hostsOf(contactPoint), [])
      assert.strictEqual(yield* hello(contactPoint, contactPoint.internal[0]?.address), "hello")
      assert.deepStrictEqual(yield* router.table, [])
    }).pipe(Effect.provide(behindRouter))
  )

  it.live("runs over UPnP: is reached through the router, and tells its new address", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.NodeSimulatedRouter
      const { next, stop } = yield* start(Upnp.layer)
      const contactPoint = yield* next
      assert.deepStrictEqual(hostsOf(contactPoint), ["11.22.33.1"])
      assert.strictEqual(yield* hello(contactPoint, yield* router.outside), "hello")
      yield* router.changeExternalAddress("11.22.33.9")
      const after = yield* next
      assert.deepStrictEqual(hostsOf(after), ["11.22.33.9"])
      assert.strictEqual(yield* hello(after, yield* router.outside), "hello")
      yield* stop
      assert.deepStrictEqual(yield* router.table, [])
    }).pipe(Effect.provide(behindRouter))
  )
})
