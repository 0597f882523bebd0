import * as Http from "@effect-nat/core/Http"
import * as NatError from "@effect-nat/core/NatError"
import type * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as Soap from "@effect-nat/upnp/Soap"
import * as SoapClient from "@effect-nat/upnp/SoapClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as TestClock from "effect/testing/TestClock"
import * as Network from "./network.ts"

const serviceType = "urn:schemas-upnp-org:service:WANIPConnection:1"

const at = (place: string) => ({ address: NetAddress.inetAddressFromStringUnsafe(place), path: "/ctl" })

const serviceAt = (place: string, other?: string): DeviceDescription.Service => ({
  serviceType,
  serviceId: "urn:upnp-org:serviceId:x",
  controlUrl: at(place),
  ...(other === undefined ? {} : { otherControlUrl: at(other) }),
  eventSubUrl: undefined,
  scpdUrl: undefined
})

const dead = "192.168.1.1:5001"
const live = "192.168.1.1:5000"

const ok = Network.respond(200, Soap.encodeAnswer({ serviceType, action: "Act" }, []))

/** Whoever listens at `listening` answers; everybody else refuses the connection. */
const routers = (
  listening: Set<string>,
  answer: Effect.Effect<Http.HttpResponse, Http.HttpError> = Effect.succeed(ok)
) => {
  const asked: Array<string> = []
  let underWay = 0
  let mostAtOnce = 0
  const http: Http.Http["Service"] = {
    request: ({ address }) =>
      Effect.suspend(() => {
        const place = NetAddress.formatInet(address)
        asked.push(place)
        underWay++
        mostAtOnce = Math.max(mostAtOnce, underWay)
        return listening.has(place) ? answer : Effect.fail(new Http.HttpError({ kind: "Refused", detail: place }))
      }).pipe(Effect.ensuring(Effect.sync(() => underWay--)))
  }
  const client = Effect.provideService(SoapClient.make, Http.Http, http)
  return { client, asked, mostAtOnce: () => mostAtOnce }
}

describe("a service with two control URLs", () => {
  it.effect("is called at the second where nobody listens at the first, and from then on", () =>
    Effect.gen(function* () {
      const { asked, client } = routers(new Set([live]))
      const { call } = yield* client
      const service = serviceAt(dead, live)
      yield* call(service, "Act", [])
      yield* call(service, "Act", [])
      assert.deepStrictEqual(asked, [dead, live, live])
    })
  )

  it.effect("is called at the second from then on where that refuses the action", () =>
    Effect.gen(function* () {
      const refusal = Network.respond(500, Soap.encodeFault(new Soap.UpnpFault({ code: 718, description: "" })))
      const { asked, client } = routers(new Set([live]), Effect.succeed(refusal))
      const { call } = yield* client
      const service = serviceAt(dead, live)
      const errors = [yield* Effect.flip(call(service, "Act", [])), yield* Effect.flip(call(service, "Act", []))]
      assert.deepStrictEqual(
        errors.map((error) => error._tag),
        ["UpnpFault", "UpnpFault"]
      )
      assert.deepStrictEqual(asked, [dead, live, live])
    })
  )

  it.effect("is called at the first again when nobody listens at the second any more", () =>
    Effect.gen(function* () {
      const listening = new Set([live])
      const { asked, client } = routers(listening)
      const { call } = yield* client
      const service = serviceAt(dead, live)
      yield* call(service, "Act", [])
      listening.clear()
      listening.add(dead)
      yield* call(service, "Act", [])
      assert.deepStrictEqual(asked, [dead, live, live, dead])
    })
  )

  it.effect("is unreachable where nobody listens at either", () =>
    Effect.gen(function* () {
      const { asked, client } = routers(new Set())
      const { call } = yield* client
      const error = yield* Effect.flip(call(serviceAt(dead, live), "Act", []))
      assert(error instanceof NatError.NatError)
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.include(error.message, dead)
      assert.deepStrictEqual(asked, [dead, live])
    })
  )

  it.effect("is not called at the second where the first does not answer: it may have heard", () =>
    Effect.gen(function* () {
      const { asked, client } = routers(new Set([dead, live]), Effect.never)
      const { call } = yield* client
      const fiber = yield* Effect.forkChild(Effect.flip(call(serviceAt(dead, live), "Act", [])))
      yield* TestClock.adjust("4 seconds")
      assert.isDefined(fiber.pollUnsafe())
      assert.deepStrictEqual(asked, [dead])
    })
  )
})

describe("calls to two addresses", () => {
  const both = ["192.168.1.1:5000", "[2001:db8::1]:5000"] as const
  const together = Effect.fnUntraced(function* (isOne: boolean) {
    const { client, mostAtOnce } = routers(new Set(both), Effect.delay(Effect.succeed(ok), "1 second"))
    const { call, isOneRouter } = yield* client
    if (isOne) isOneRouter(at(both[0]).address.address, at(both[1]).address.address)
    yield* Effect.forkChild(
      Effect.forEach(both, (place) => call(serviceAt(place), "Act", []), { concurrency: "unbounded" })
    )
    yield* TestClock.adjust("3 seconds")
    return mostAtOnce()
  })

  it.effect("do not wait for each other", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* together(false), 2)
    })
  )

  it.effect("of one router wait for each other", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* together(true), 1)
    })
  )
})

describe("what holds a router's turn", () => {
  it.effect("makes its calls without another between, and gives the turn back", () =>
    Effect.gen(function* () {
      const { client } = routers(new Set([live]), Effect.delay(Effect.succeed(ok), "1 second"))
      const { call, exclusively } = yield* client
      const service = serviceAt(live)
      const done: Array<string> = []
      const act = (name: string) => Effect.tap(call(service, "Act", []), () => Effect.sync(() => done.push(name)))
      yield* Effect.forkChild(exclusively(service, Effect.andThen(act("first"), act("second"))))
      yield* Effect.forkChild(act("other"))
      yield* TestClock.adjust("1 second")
      yield* TestClock.adjust("1 second")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(done, ["first", "second", "other"])
    })
  )
})
