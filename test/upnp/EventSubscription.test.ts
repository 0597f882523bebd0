import * as Http from "@effect-nat/core/Http"
import * as HttpListener from "@effect-nat/core/HttpListener"
import * as NodeHttp from "@effect-nat/core/NodeHttp"
import * as NodeHttpListener from "@effect-nat/core/NodeHttpListener"
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import type * as NatError from "@effect-nat/core/NatError"
import * as Udp from "@effect-nat/core/Udp"
import type * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as EventSubscription from "@effect-nat/upnp/EventSubscription"
import * as Gena from "@effect-nat/upnp/Gena"
import type * as Soap from "@effect-nat/upnp/Soap"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const ip = NetAddress.ipFromStringUnsafe
const router = ip("192.168.1.1")

const serviceAt = (address: NetAddress.InetAddress | undefined): DeviceDescription.Service => ({
  serviceType: "urn:schemas-upnp-org:service:WANIPConnection:1",
  serviceId: "",
  controlUrl: { address: NetAddress.inetAddressUnsafe(router, 80), path: "/control" },
  eventSubUrl: address === undefined ? undefined : { address, path: "/events" },
  scpdUrl: undefined
})

const options: EventSubscription.Options = {
  service: serviceAt(NetAddress.inetAddressUnsafe(router, 5000)),
  gateway: router
}

type Listener = HttpListener.ListenOptions & { readonly port: number }

interface Asked {
  readonly method: string
  readonly headers: Gena.Headers
}

const grant = (sid: string, timeoutSeconds: number | undefined = 1800): Http.HttpResponse => ({
  status: 200,
  headers: Object.fromEntries(
    Gena.encodeGranted({ sid, timeoutSeconds }).map(([name, value]) => [name.toLowerCase(), value])
  ),
  body: new Uint8Array(),
  localAddress: ip("192.168.1.2")
})

const refuse = (status: number): Http.HttpResponse => ({ ...grant(""), headers: {}, status })

/** A router in memory; what it answers is the test's matter. */
const makeRouter = (
  onRequest: (asked: Asked, number: number, listener: Listener) => Effect.Effect<Http.HttpResponse, Http.HttpError>
) => {
  const asked: Array<Asked> = []
  const listeners: Array<Listener> = []
  const last = (): Listener => {
    const listener = listeners.at(-1)
    assert(listener !== undefined, "nobody listens")
    return listener
  }
  let own = "192.168.1.2"
  let port = 40_000
  const http = Layer.succeed(Http.Http, {
    request: (request) =>
      Effect.suspend(() => {
        assert.strictEqual(request.path, "/events")
        assert.strictEqual(NetAddress.formatInet(request.address), "192.168.1.1:5000")
        const headers = (request.headers ?? []).map(([name, value]) => [name.toLowerCase(), value])
        const one: Asked = { method: request.method, headers: Object.fromEntries(headers) }
        asked.push(one)
        return onRequest(one, asked.length, last())
      })
  })
  const listen = Layer.succeed(HttpListener.HttpListener, {
    listen: (options) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          port += 1
          listeners.push({ ...options, port })
          return NetAddress.inetAddressUnsafe(options.address, port)
        }),
        () =>
          Effect.sync(() => {
            const index = listeners.findIndex((one) => one.answer === options.answer)
            if (index >= 0) listeners.splice(index, 1)
          })
      )
  })
  const udp = Layer.succeed(Udp.Udp, {
    open: () =>
      Effect.succeed({
        address: NetAddress.inetAddressUnsafe(ip(own), 50_000),
        receive: Effect.never,
        send: () => Effect.void,
        joinMulticast: () => Effect.void
      })
  })
  return {
    layer: Layer.mergeAll(http, listen, udp),
    asked,
    listeners,
    methods: () =>
      asked.map(({ headers, method }) => (headers["sid"] === undefined ? method : `${method} ${headers["sid"]}`)),
    /** The path that the last subscription gave. */
    path: () => {
      const callback = asked.findLast(({ headers }) => headers["callback"] !== undefined)?.headers["callback"] ?? ""
      return new URL(callback.slice(1, -1)).pathname
    },
    last,
    moveTo: (address: string) => {
      own = address
    }
  }
}

type Router = ReturnType<typeof makeRouter>

interface Sent {
  readonly sid?: string
  readonly sequence?: number
  readonly properties?: Soap.Arguments
  readonly path?: string
  readonly method?: string
  readonly headers?: Gena.Headers
}

/** What this host answers to an event. */
const send = (self: Router, sent: Sent, listener = self.last()) => {
  const { body, headers } = Gena.encodeEvent({
    sid: sent.sid ?? "uuid:1",
    sequence: sent.sequence ?? 0,
    properties: sent.properties ?? []
  })
  return listener.answer({
    method: sent.method ?? "NOTIFY",
    path: sent.path ?? self.path(),
    headers: {
      ...Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value])),
      ...sent.headers
    },
    body: new TextEncoder().encode(body),
    from: NetAddress.inetAddressUnsafe(router, 1234)
  })
}

/** Grants `uuid:1`, then `uuid:2`, and so on; renews what it granted last. */
const ordinary = (timeoutSeconds?: number) => {
  let granted = 0
  return makeRouter(({ headers, method }) =>
    Effect.sync(() => {
      if (method === "UNSUBSCRIBE") return { ...grant(""), headers: {} }
      if (headers["sid"] === undefined) granted += 1
      else if (headers["sid"] !== `uuid:${granted}`) return refuse(412)
      return grant(`uuid:${granted}`, timeoutSeconds)
    })
  )
}

const subscribe = (self: Router) => EventSubscription.subscribe(options).pipe(Effect.provide(self.layer))

/** Everything that the stream says, as it comes. */
const collect = Effect.fnUntraced(function* (subscription: EventSubscription.EventSubscription) {
  const all: Array<Soap.Arguments> = []
  yield* Effect.forkScoped(Stream.runForEach(subscription.events, (values) => Effect.sync(() => all.push(values))))
  yield* TestClock.adjust(1)
  return all
})

const settle = TestClock.adjust(1)

const reasonOf = (error: NatError.NatError) => error.reason._tag

describe("a subscription", () => {
  it.effect("says where to send events to, and ends with the scope [UDA 4.1.1-ab, 4.1.2-ab]", () =>
    Effect.gen(function* () {
      const self = ordinary()
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* subscribe(self)
          assert.lengthOf(self.listeners, 1)
          assert.strictEqual(NetAddress.formatIp(self.last().address), "192.168.1.2")
          assert.strictEqual(self.last().maxBytes, Gena.maximumBytes)
          assert.match(self.asked[0]?.headers["callback"] ?? "", /^<http:\/\/192\.168\.1\.2:40001\/[0-9a-f]{32}>$/)
          assert.strictEqual(self.asked[0]?.headers["nt"], "upnp:event")
          assert.strictEqual(self.asked[0]?.headers["timeout"], "Second-1800")
        })
      )
      assert.deepStrictEqual(self.methods(), ["SUBSCRIBE", "UNSUBSCRIBE uuid:1"])
      assert.isEmpty(self.listeners)
    })
  )

  it.effect("ends after a failure and an interruption, too [UDA 4.1.1-b]", () =>
    Effect.gen(function* () {
      const self = ordinary()
      yield* Effect.exit(Effect.scoped(Effect.andThen(subscribe(self), Effect.fail("on purpose"))))
      const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(subscribe(self), Effect.never)))
      yield* settle
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(self.methods(), ["SUBSCRIBE", "UNSUBSCRIBE uuid:1", "SUBSCRIBE", "UNSUBSCRIBE uuid:2"])
      assert.isEmpty(self.listeners)
    })
  )

  it.effect("its end waits no longer than a second or two for a router that is gone", () =>
    Effect.gen(function* () {
      const self = makeRouter(({ method }) => (method === "SUBSCRIBE" ? Effect.succeed(grant("uuid:1")) : Effect.never))
      const scope = yield* Scope.make()
      yield* Scope.provide(subscribe(self), scope)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1400 millis")
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("200 millis")
      assert.isDefined(closing.pollUnsafe())
      assert.isEmpty(self.listeners)
    })
  )

  it.effect.each([
    ["no events", "Unsupported", undefined],
    ["a refusal", "Unsupported", Effect.succeed(refuse(501))],
    ["no room", "Unsupported", Effect.succeed(refuse(503))],
    ["no identifier", "MalformedAnswer", Effect.succeed({ ...refuse(200) })],
    ["a closed port", "Unreachable", Effect.fail(new Http.HttpError({ kind: "Refused", detail: "" }))],
    ["garbage", "MalformedAnswer", Effect.fail(new Http.HttpError({ kind: "Malformed", detail: "" }))]
  ] as const)("fails at once with %s: %s", ([_what, reason, answer]) =>
    Effect.gen(function* () {
      const self = makeRouter(() => answer ?? Effect.die("nobody asks"))
      const service = answer === undefined ? serviceAt(undefined) : options.service
      const error = yield* Effect.flip(
        EventSubscription.subscribe({ ...options, service }).pipe(Effect.provide(self.layer))
      )
      assert.strictEqual(reasonOf(error), reason)
      assert.isEmpty(self.listeners)
      yield* TestClock.adjust("1 hour")
      assert.isAtMost(self.asked.length, 1)
    })
  )

  it.effect("fails in time with a router that does not answer", () =>
    Effect.gen(function* () {
      const self = makeRouter(() => Effect.never)
      const fiber = yield* Effect.forkChild(Effect.flip(subscribe(self)))
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(reasonOf(yield* Fiber.join(fiber)), "TimedOut")
      assert.isEmpty(self.listeners)
    })
  )

  it.effect("fails where no port can be listened on", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const none = Layer.succeed(HttpListener.HttpListener, {
        listen: () => Effect.fail(new HttpListener.HttpListenError({ detail: "none left" }))
      })
      const error = yield* Effect.flip(
        EventSubscription.subscribe(options).pipe(Effect.provide(Layer.merge(self.layer, none)))
      )
      assert.strictEqual(reasonOf(error), "Unsupported")
      assert.include(error.message, "none left")
      assert.isEmpty(self.asked)
    })
  )
})

describe("events", () => {
  it.effect("the first one has all values, the next ones change them [IP1 2.3-a]", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const subscription = yield* subscribe(self)
      const all = yield* collect(subscription)
      assert.isEmpty(all)
      const first: Soap.Arguments = [
        ["ConnectionStatus", "Connected"],
        ["ExternalIPAddress", "203.0.113.7"]
      ]
      assert.strictEqual(yield* send(self, { sequence: 0, properties: first }), 200)
      yield* settle
      assert.strictEqual(yield* send(self, { sequence: 1, properties: [["ExternalIPAddress", "203.0.113.8"]] }), 200)
      yield* settle
      const second: Soap.Arguments = [
        ["ConnectionStatus", "Connected"],
        ["ExternalIPAddress", "203.0.113.8"]
      ]
      assert.deepStrictEqual(all, [first, second])
      // Whoever comes later begins with the latest.
      assert.deepStrictEqual(yield* collect(subscription), [second])
    })
  )

  it.effect("whoever reads slowly gets the latest, and nothing piles up", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const subscription = yield* subscribe(self)
      const seen: Array<string | undefined> = []
      yield* Effect.forkScoped(
        Stream.runForEach(subscription.events, ([one]) =>
          Effect.andThen(
            Effect.sync(() => seen.push(one?.[1])),
            Effect.sleep("1 second")
          )
        )
      )
      yield* settle
      for (let sequence = 0; sequence < 1000; sequence++) {
        yield* send(self, { sequence, properties: [["A", String(sequence)]] })
      }
      yield* TestClock.adjust("10 seconds")
      assert.isBelow(seen.length, 5)
      assert.strictEqual(seen.at(-1), "999")
    })
  )

  it.effect("the stream ends with the scope", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const scope = yield* Scope.make()
      const subscription = yield* Scope.provide(subscribe(self), scope)
      yield* send(self, { properties: [["A", "1"]] })
      const fiber = yield* Effect.forkChild(Stream.runCollect(subscription.events))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Fiber.join(fiber), [[["A", "1"]]])
    })
  )

  it.effect("one that overtakes the answer to the subscription counts, answered at once [UDA 4.1.1-d, 4.3.1-a]", () =>
    Effect.gen(function* () {
      const early: Array<number> = []
      const self: Router = makeRouter(({ method }, _number, listener) =>
        method === "UNSUBSCRIBE"
          ? Effect.succeed(grant(""))
          : Effect.gen(function* () {
              early.push(yield* send(self, { sid: "uuid:other", properties: [["A", "of another"]] }, listener))
              early.push(yield* send(self, { properties: [["A", "1"]] }, listener))
              early.push(yield* send(self, { sequence: 1, properties: [["A", "2"]] }, listener))
              for (const sequence of [2, 3]) early.push(yield* send(self, { sequence }, listener))
              return grant("uuid:1")
            })
      )
      const subscription = yield* subscribe(self)
      assert.deepStrictEqual(early, [200, 200, 200, 200, 412])
      assert.isTrue(yield* subscription.isWorking)
      assert.deepStrictEqual(yield* collect(subscription), [[["A", "2"]]])
    })
  )

  it.effect("only the router's own, at the path, with the identifier and right headers, count [UDA 4.3.2-abc]", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const subscription = yield* subscribe(self)
      const { accepts } = self.last()
      assert.isTrue(accepts(router))
      assert.isTrue(accepts(ip("::ffff:192.168.1.1")))
      assert.isFalse(accepts(ip("192.168.1.3")))
      assert.isFalse(accepts(ip("127.0.0.1")))
      const outcomes: ReadonlyArray<readonly [Sent, number]> = [
        [{ path: "/" }, 404],
        [{ path: `${self.path()}x` }, 404],
        [{ path: self.path().slice(0, -1) }, 404],
        [{ path: `/${"0".repeat(32)}` }, 404],
        [{ method: "GET" }, 405],
        [{ method: "POST" }, 405],
        [{ sid: "uuid:2" }, 412],
        [{ headers: { sid: "" } }, 412],
        [{ headers: { nt: "" } }, 400],
        [{ headers: { nt: "upnp:other" } }, 412],
        [{ headers: { nts: "ssdp:alive" } }, 412],
        [{ headers: { seq: "x" } }, 400]
      ]
      for (const [sent, status] of outcomes) {
        assert.strictEqual(yield* send(self, { properties: [["A", "evil"]], ...sent }), status)
      }
      assert.isEmpty(yield* collect(subscription))
      assert.strictEqual(yield* send(self, { properties: [["A", "1"]] }), 200)
      assert.deepStrictEqual(yield* collect(subscription), [[["A", "1"]]])
    })
  )

  it.effect("names do not pile up", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const subscription = yield* subscribe(self)
      for (let sequence = 0; sequence < 100; sequence++) {
        yield* send(self, {
          sequence,
          properties: [
            [`A${sequence}`, "x"],
            ["A0", String(sequence)]
          ]
        })
      }
      const [values] = yield* collect(subscription)
      assert.lengthOf(values ?? [], Gena.maximumProperties)
      assert.deepStrictEqual(values?.[0], ["A0", "99"])
    })
  )
})

describe("a service with two places to subscribe at", () => {
  const withOther: EventSubscription.Options = {
    ...options,
    service: {
      ...options.service,
      otherEventSubUrl: { address: NetAddress.inetAddressUnsafe(router, 6000), path: "/other" }
    }
  }
  /** Answers at one port only; says what was asked where. */
  const listening = (port: number) => {
    const asked: Array<string> = []
    const http = Layer.succeed(Http.Http, {
      request: ({ address, method, path }) =>
        Effect.suspend(() => {
          asked.push(`${method} ${address.port}${path}`)
          return address.port === port
            ? Effect.succeed(grant("uuid:1"))
            : Effect.fail(new Http.HttpError({ kind: "Refused", detail: `port ${address.port}` }))
        })
    })
    return { asked, layer: Layer.merge(ordinary().layer, http) }
  }

  it.effect("is subscribed to, renewed and ended at the second where nobody listens at the first", () =>
    Effect.gen(function* () {
      const { asked, layer } = listening(6000)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* EventSubscription.subscribe(withOther)
          yield* TestClock.adjust("900 seconds")
        })
      ).pipe(Effect.provide(layer))
      assert.deepStrictEqual(asked, [
        "SUBSCRIBE 5000/events",
        "SUBSCRIBE 6000/other",
        "SUBSCRIBE 6000/other",
        "UNSUBSCRIBE 6000/other"
      ])
    })
  )

  it.effect("is not asked for at the second where somebody listens at the first", () =>
    Effect.gen(function* () {
      const { asked, layer } = listening(5000)
      yield* Effect.scoped(EventSubscription.subscribe(withOther)).pipe(Effect.provide(layer))
      assert.deepStrictEqual(asked, ["SUBSCRIBE 5000/events", "UNSUBSCRIBE 5000/events"])
    })
  )

  it.effect("where nobody listens at either, the first is spoken of", () =>
    Effect.gen(function* () {
      const { layer } = listening(7000)
      const error = yield* Effect.flip(Effect.scoped(EventSubscription.subscribe(withOther))).pipe(
        Effect.provide(layer)
      )
      assert.strictEqual(reasonOf(error), "Unreachable")
      assert.include(error.message, "port 5000")
    })
  )
})

describe("whether it works", () => {
  it.effect("is known with the first event", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const subscription = yield* subscribe(self)
      const asking = yield* Effect.forkChild(subscription.isWorking)
      yield* TestClock.adjust("3 seconds")
      assert.isUndefined(asking.pollUnsafe())
      yield* send(self, {})
      assert.isTrue(yield* Fiber.join(asking))
      yield* TestClock.adjust("10 seconds")
      assert.isTrue(yield* subscription.isWorking)
    })
  )

  it.effect("it does not where no event has come within 5 seconds, until one comes", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const subscription = yield* subscribe(self)
      yield* TestClock.adjust("2 seconds")
      const asking = yield* Effect.forkChild(subscription.isWorking)
      yield* TestClock.adjust("3 seconds")
      assert.isFalse(yield* Fiber.join(asking))
      assert.isFalse(yield* subscription.isWorking)
      yield* send(self, {})
      assert.isTrue(yield* subscription.isWorking)
    })
  )
})

describe("renewal", () => {
  const renewedAfter = (seconds: number | undefined, interval: Duration.Input) =>
    Effect.gen(function* () {
      const self = ordinary(seconds)
      // An argument of `undefined` is taken for none.
      const endless = makeRouter(() => Effect.sync(() => grantOf(seconds)))
      const subject = seconds === undefined ? endless : self
      yield* subscribe(subject)
      yield* TestClock.adjust(interval)
      assert.lengthOf(subject.asked, 2)
      yield* TestClock.adjust(interval)
      assert.deepStrictEqual(subject.methods(), ["SUBSCRIBE", "SUBSCRIBE uuid:1", "SUBSCRIBE uuid:1"])
      assert.strictEqual(subject.asked[1]?.headers["timeout"], "Second-1800")
      assert.isUndefined(subject.asked[1]?.headers["callback"])
    })

  it.effect.each([
    [1800, "15 minutes"],
    [60, "30 seconds"],
    [12, "6 seconds"],
    [undefined, "30 minutes"],
    [4294967295, "30 minutes"]
  ] as const)(
    "of %s granted seconds comes after %s, before they end [UDA 4.1.1-ce, 4.1.3-a]",
    ([seconds, interval]) => {
      assert.isBelow(Duration.toSeconds(interval), seconds ?? Infinity)
      return renewedAfter(seconds, interval)
    }
  )

  it.effect("of one granted second comes after five: no router is asked without end", () =>
    renewedAfter(1, "5 seconds")
  )

  const grantOf = (timeoutSeconds: number | undefined): Http.HttpResponse => ({
    ...grant("uuid:1"),
    headers: { sid: "uuid:1", timeout: `Second-${timeoutSeconds ?? "infinite"}` }
  })

  it.effect("not before", () =>
    Effect.gen(function* () {
      const self = ordinary()
      yield* subscribe(self)
      yield* TestClock.adjust("899 seconds")
      assert.lengthOf(self.asked, 1)
    })
  )

  it.effect("a time granted anew counts, and the identifier need not be said again [UDA 4.1.1-e]", () =>
    Effect.gen(function* () {
      const self = makeRouter((_asked, number) =>
        Effect.succeed(number === 1 ? grant("uuid:1") : { ...grant(""), headers: { timeout: "Second-100" } })
      )
      yield* subscribe(self)
      yield* TestClock.adjust("900 seconds")
      yield* TestClock.adjust("100 seconds")
      assert.deepStrictEqual(self.methods(), ["SUBSCRIBE", ...Array.from({ length: 3 }, () => "SUBSCRIBE uuid:1")])
    })
  )

  it.effect("that is refused leads to a fresh subscription, which nobody ends in between [UDA 4.1.3-b]", () =>
    Effect.gen(function* () {
      let granted = 0
      const self = makeRouter(({ headers, method }) =>
        Effect.sync(() => {
          if (method === "SUBSCRIBE" && headers["sid"] !== undefined) return refuse(412)
          granted += method === "SUBSCRIBE" ? 1 : 0
          return grant(`uuid:${granted}`)
        })
      )
      yield* Effect.scoped(
        Effect.gen(function* () {
          const subscription = yield* subscribe(self)
          const [before, listener] = [self.path(), self.last()]
          yield* send(self, {
            properties: [
              ["A", "1"],
              ["B", "1"]
            ]
          })
          yield* TestClock.adjust("900 seconds")
          assert.isFalse(yield* subscription.isWorking)
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(self.methods(), ["SUBSCRIBE", "SUBSCRIBE uuid:1", "SUBSCRIBE"])
          assert.lengthOf(self.listeners, 1)
          assert.notStrictEqual(self.path(), before)
          // What belongs to the old one does not count any more.
          assert.strictEqual(yield* send(self, { sid: "uuid:1", sequence: 1 }), 412)
          assert.strictEqual(yield* send(self, { sid: "uuid:2", path: before }), 404)
          assert.strictEqual(yield* send(self, { sid: "uuid:2", properties: [["A", "2"]] }), 200)
          assert.isTrue(yield* subscription.isWorking)
          assert.deepStrictEqual(yield* collect(subscription), [[["A", "2"]]])
          assert.notStrictEqual(self.last(), listener)
        })
      )
      assert.strictEqual(self.methods().at(-1), "UNSUBSCRIBE uuid:2")
    })
  )

  it.effect("that is not answered leads to a fresh one as well, and the old one is ended: the router may go on", () =>
    Effect.gen(function* () {
      const self = makeRouter(({ method }, number) =>
        number === 2 ? Effect.never : Effect.succeed(method === "SUBSCRIBE" ? grant(`uuid:${number}`) : grant(""))
      )
      const subscription = yield* subscribe(self)
      yield* TestClock.adjust("904 seconds")
      assert.isFalse(yield* subscription.isWorking)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(self.methods(), ["SUBSCRIBE", "SUBSCRIBE uuid:1", "UNSUBSCRIBE uuid:1", "SUBSCRIBE"])
    })
  )

  it.effect("where the host has another address, the fresh one is for that", () =>
    Effect.gen(function* () {
      const self = ordinary()
      yield* subscribe(self)
      self.moveTo("192.168.1.77")
      // An event is missing, so it is made afresh.
      yield* send(self, { sequence: 1 })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(NetAddress.formatIp(self.last().address), "192.168.1.77")
      assert.match(self.asked.at(-1)?.headers["callback"] ?? "", /^<http:\/\/192\.168\.1\.77:/)
    })
  )

  it.effect("where the host has another address, it does not work until the renewal is a fresh subscription", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const subscription = yield* subscribe(self)
      yield* send(self, { properties: [["A", "1"]] })
      assert.isTrue(yield* subscription.isWorking)
      self.moveTo("192.168.1.77")
      assert.isFalse(yield* subscription.isWorking)
      yield* TestClock.adjust("15 minutes")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(self.methods(), ["SUBSCRIBE", "UNSUBSCRIBE uuid:1", "SUBSCRIBE"])
      assert.match(self.asked.at(-1)?.headers["callback"] ?? "", /^<http:\/\/192\.168\.1\.77:/)
      yield* send(self, { sid: "uuid:2", properties: [["A", "2"]] })
      assert.isTrue(yield* subscription.isWorking)
    })
  )

  it.effect("the pauses grow to five minutes while the router is gone, and end when it is back", () =>
    Effect.gen(function* () {
      const at: Array<number> = []
      let isGone = false
      const self = makeRouter(() =>
        Effect.clockWith((clock) => {
          at.push(Math.round(clock.currentTimeMillisUnsafe() / 1000))
          return isGone
            ? Effect.fail(new Http.HttpError({ kind: "Refused", detail: "" }))
            : Effect.succeed(grant("uuid:1"))
        })
      )
      const subscription = yield* subscribe(self)
      isGone = true
      yield* TestClock.adjust("1 hour")
      const pauses = at.slice(2).map((time, index) => time - (at[index + 1] ?? 0))
      assert.deepStrictEqual(pauses.slice(0, 12), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300])
      assert.isEmpty(self.listeners)
      assert.isFalse(yield* subscription.isWorking)
      isGone = false
      const before = at.length
      yield* TestClock.adjust("5 minutes")
      assert.lengthOf(at, before + 1)
      yield* send(self, {})
      assert.isTrue(yield* subscription.isWorking)
    })
  )
})

describe("a missed event", () => {
  it.effect("leads to a fresh subscription, and the old one is ended first [UDA 4.3.2-e]", () =>
    Effect.gen(function* () {
      const self = ordinary()
      const subscription = yield* subscribe(self)
      yield* send(self, {
        sequence: 0,
        properties: [
          ["A", "0"],
          ["B", "0"]
        ]
      })
      // What came counts all the same, and until there is a new subscription so does what comes.
      assert.strictEqual(yield* send(self, { sequence: 2, properties: [["A", "2"]] }), 200)
      assert.strictEqual(yield* send(self, { sequence: 1, properties: [["A", "1"]] }), 200)
      assert.deepStrictEqual(yield* collect(subscription), [
        [
          ["A", "2"],
          ["B", "0"]
        ]
      ])
      assert.isTrue(yield* subscription.isWorking)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(self.methods(), ["SUBSCRIBE", "UNSUBSCRIBE uuid:1", "SUBSCRIBE"])
      assert.lengthOf(self.listeners, 1)
      yield* send(self, {
        sid: "uuid:2",
        sequence: 0,
        properties: [
          ["A", "2"],
          ["B", "1"]
        ]
      })
      assert.deepStrictEqual(yield* collect(subscription), [
        [
          ["A", "2"],
          ["B", "1"]
        ]
      ])
    })
  )

  it.effect("is the first one, too", () =>
    Effect.gen(function* () {
      const self = ordinary()
      yield* subscribe(self)
      yield* send(self, { sequence: 1 })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(self.methods(), ["SUBSCRIBE", "UNSUBSCRIBE uuid:1", "SUBSCRIBE"])
    })
  )

  it.effect("is none that comes twice", () =>
    Effect.gen(function* () {
      const self = ordinary()
      yield* subscribe(self)
      for (const sequence of [0, 0, 1, 1, 2]) yield* send(self, { sequence })
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(self.methods(), ["SUBSCRIBE"])
    })
  )

  it.effect("again and again makes the pauses grow", () =>
    Effect.gen(function* () {
      const self: Router = makeRouter(({ method }, number, listener) =>
        Effect.gen(function* () {
          if (method === "SUBSCRIBE") yield* send(self, { sid: `uuid:${number}`, sequence: 7 }, listener)
          return grant(`uuid:${number}`)
        })
      )
      yield* subscribe(self)
      yield* TestClock.adjust("1 minute")
      assert.isBelow(self.methods().filter((one) => one === "SUBSCRIBE").length, 8)
    })
  )
})

describe("over real sockets", () => {
  it.live("a router that is served by this library's own listener and client", () =>
    Effect.gen(function* () {
      const loopback = ip("127.0.0.1")
      const events = yield* Queue.unbounded<string>()
      const http = yield* Http.Http
      const listener = yield* HttpListener.HttpListener
      const scope = yield* Effect.scope
      // The answers of a listener have no headers, so the router says what it grants by another way: its client.
      const requests: Array<string> = []
      const granting = Layer.succeed(Http.Http, {
        request: (request) => {
          requests.push(request.method)
          const read = Gena.decodeSubscribe(
            Object.fromEntries((request.headers ?? []).map(([name, value]) => [name.toLowerCase(), value]))
          )
          const url = Result.isSuccess(read) && read.success._tag === "New" ? read.success.callbacks[0] : undefined
          if (url === undefined) return Effect.succeed(grant("uuid:1"))
          const { pathname, port } = new URL(url)
          const message = Gena.encodeEvent({ sid: "uuid:1", sequence: 0, properties: [["A", "1"]] })
          const notify = http.request({
            method: "NOTIFY",
            address: NetAddress.inetAddressUnsafe(loopback, Number(port)),
            path: pathname,
            headers: message.headers,
            body: message.body,
            maxBytes: 0
          })
          return Effect.as(
            Effect.forkIn(
              Effect.flatMap(notify, ({ status }) => Queue.offer(events, String(status))),
              scope
            ),
            grant("uuid:1")
          )
        }
      })
      const subscription = yield* EventSubscription.subscribe({
        service: serviceAt(NetAddress.inetAddressUnsafe(loopback, 9)),
        gateway: loopback
      }).pipe(Effect.provide(granting), Effect.provideService(HttpListener.HttpListener, listener))
      assert.isTrue(yield* subscription.isWorking)
      assert.strictEqual(yield* Queue.take(events), "200")
      const [first] = yield* Stream.runCollect(Stream.take(subscription.events, 1))
      assert.deepStrictEqual(first, [["A", "1"]])
      assert.deepStrictEqual(requests, ["SUBSCRIBE"])
    }).pipe(Effect.provide(Layer.mergeAll(NodeHttp.layer, NodeHttpListener.layer, NodeUdp.layer)))
  )
})
