/** An external address is confirmed once a member has come in through it; over simulated connections. */
import * as Capability from "@effect-nat/core/Capability"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import { host } from "../core/strategiesWithoutGateway.ts"
import { type Ends, enter, handshake, makeMapper, settle, simulated, takenBy } from "./support.ts"

/** A dispatcher at 192.168.77.3, mapped to 203.0.113.7:12000. */
const start = Effect.gen(function* () {
  const { mapper, moveTo } = yield* makeMapper
  const made = yield* simulated(undefined, {
    mapper: Layer.succeed(PortMapper.PortMapper, mapper),
    resolver: ContactPointResolver.layer.pipe(Layer.provide(host()))
  })
  const external = Effect.map(made.dispatcher.contactPoint, (contactPoint) =>
    contactPoint.external.map((one) => `${NetAddress.formatInet(one.address)} ${one.verification}`)
  )
  const come = (ends: Ends) => Effect.flatMap(made.connectFrom(ends), (one) => enter(one, made.invitation))
  return { ...made, moveTo, external, come }
})

const outside: Ends = { remote: "11.22.33.9", local: "192.168.77.3" }
const reported = ["203.0.113.7:12000 reported"]
const confirmed = ["203.0.113.7:12000 confirmed"]

describe("an external address", () => {
  it.effect("is confirmed by a member from outside, and those that follow hear of it", () =>
    Effect.gen(function* () {
      const { come, dispatcher, external } = yield* start
      const seen: Array<string | undefined> = []
      yield* Effect.forkScoped(
        Stream.runForEach(dispatcher.changes, (one) => Effect.sync(() => void seen.push(one.external[0]?.verification)))
      )
      const settled = Effect.repeat(settle, { times: 5 })
      yield* settled
      assert.deepStrictEqual(yield* external, reported)
      yield* come(outside)
      yield* settled
      assert.deepStrictEqual(yield* external, confirmed)
      yield* come(outside)
      yield* settled
      assert.deepStrictEqual(seen, ["reported", "confirmed"])
    })
  )

  const others: ReadonlyArray<readonly [string, Ends]> = [
    ["this host", { remote: "192.168.77.3", local: "192.168.77.3" }],
    ["this network", { remote: "192.168.77.9", local: "192.168.77.3" }],
    ["the gateway", { remote: "192.168.77.1", local: "192.168.77.3" }],
    ["another private network", { remote: "10.0.0.9", local: "192.168.77.3" }],
    ["behind a carrier's NAT", { remote: "100.64.0.9", local: "192.168.77.3" }],
    ["the external address itself", { remote: "203.0.113.7", local: "192.168.77.3" }],
    ["outside over IPv6", { remote: "2606:4700::9", local: "2001:db8::3" }],
    ["nobody knows where", { isForwarded: true }],
    ["outside through a forwarder", { ...outside, isForwarded: true }]
  ]
  it.effect.each(others)("is not confirmed by a member from %s", ([, ends]) =>
    Effect.gen(function* () {
      const { come, external } = yield* start
      yield* come(ends)
      yield* settle
      assert.deepStrictEqual(yield* external, reported)
    })
  )

  it.effect("is not confirmed by somebody who does not come in, nor by a controller", () =>
    Effect.gen(function* () {
      const { connectFrom, dispatcher, external, invitation } = yield* start
      const stranger = yield* connectFrom(outside)
      stranger.handler.onData(handshake(invitation).hello)
      yield* settle
      stranger.handler.onData(new Uint8Array(16))
      yield* settle
      const capability = yield* dispatcher.grantControl("observe", Capability.Capability.make("c0".repeat(16)))
      const control = new Invitation.Invitation({
        ...invitation,
        sessionId: SessionId.SessionId.make("0".repeat(32)),
        capability
      })
      const { hello, proof } = handshake(control)
      const controller = yield* connectFrom(outside)
      controller.handler.onData(hello)
      yield* settle
      controller.handler.onData(proof(takenBy(controller)))
      yield* settle
      assert.deepStrictEqual(yield* external, reported)
    })
  )

  it.effect("that is another one than before is to be confirmed anew", () =>
    Effect.gen(function* () {
      const { come, external, moveTo } = yield* start
      yield* come(outside)
      yield* settle
      yield* moveTo(12001)
      assert.deepStrictEqual(yield* external, ["203.0.113.7:12001 reported"])
      yield* come(outside)
      yield* settle
      assert.deepStrictEqual(yield* external, ["203.0.113.7:12001 confirmed"])
      yield* moveTo(12000)
      assert.deepStrictEqual(yield* external, confirmed)
    })
  )
})
