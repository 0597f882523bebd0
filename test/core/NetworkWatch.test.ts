import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import * as NatError from "@effect-nat/core/NatError"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const ip = NetAddress.ipFromStringUnsafe

/** A host that is moved by hand, and whose wall clock is set by hand. */
const makeHost = () => {
  const host = { gateway: "192.168.77.1", own: "192.168.77.2", container: "172.17.0.1", lead: 0, looks: 0 }
  const on = (name: string, address: string) => ({
    name,
    isLoopback: false,
    addresses: [IpInterface.makeUnsafe(ip(address), 24)]
  })
  const watch = NetworkWatch.make().pipe(
    Effect.provideService(DefaultRoute.DefaultRoute, {
      routes: Effect.sync(() => {
        host.looks += 1
        return [{ gateway: ip(host.gateway), interface: "eth0", metric: 0 }]
      })
    }),
    Effect.provideService(NetworkInterfaces.NetworkInterfaces, {
      list: Effect.sync(() => [on("eth0", host.own), on("docker0", host.container)])
    })
  )
  /** The same time, but that the wall clock is ahead of it. */
  const withLead = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.flatMap(Clock.Clock, (clock) =>
      Effect.provideService(effect, Clock.Clock, {
        ...clock,
        sleep: (duration) => clock.sleep(duration),
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + host.lead,
        currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + host.lead),
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos
      })
    )
  return { host, watch, withLead }
}

describe("NetworkWatch", () => {
  it.effect.each([
    ["another own address", { own: "192.168.77.3" }],
    ["another gateway", { gateway: "192.168.77.254" }],
    ["a night's sleep", { lead: 8 * 3_600_000 }],
    ["a clock that is set back", { lead: -60_000 }]
  ] as const)("sees %s within seconds", ([, change]) => {
    const { host, watch, withLead } = makeHost()
    return Effect.gen(function* () {
      const { look, whenOther } = yield* watch
      const seeing = yield* Effect.forkChild(whenOther(yield* look))
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(seeing.pollUnsafe())
      Object.assign(host, change)
      yield* TestClock.adjust("10 seconds")
      assert.isDefined(seeing.pollUnsafe())
    }).pipe(withLead)
  })

  it.effect.each([
    ["containers that come and go", { container: "172.18.0.1" }],
    ["a clock that is steered", { lead: 1500 }]
  ] as const)("does not mind %s", ([, change]) => {
    const { host, watch, withLead } = makeHost()
    return Effect.gen(function* () {
      const { look, whenOther } = yield* watch
      const seeing = yield* Effect.forkChild(whenOther(yield* look))
      Object.assign(host, change)
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(seeing.pollUnsafe())
    }).pipe(withLead)
  })

  it.effect("looks once for as many as wait, and not when nobody does", () => {
    const { host, watch } = makeHost()
    return Effect.gen(function* () {
      const { look, whenOther } = yield* watch
      const sight = yield* look
      const waiting = yield* Effect.forkChild(
        Effect.all(
          Array.from({ length: 100 }, () => whenOther(sight)),
          { concurrency: "unbounded" }
        )
      )
      host.looks = 0
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(host.looks, 12)
      yield* Fiber.interrupt(waiting)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(host.looks, 12)
    })
  })
})

describe("a mapping", () => {
  const hour = Duration.hours(1)

  /** A gateway that grants an hour, or says nothing; and what it is asked. */
  const makeGateway = () => {
    const calls: Array<string> = []
    const gateway = { isSilent: false, calls }
    const silence = NatError.fromReason(new NatError.TimedOut({ detail: "" }))
    const grant = (name: string) =>
      Effect.suspend(() => {
        calls.push(name)
        if (gateway.isSilent) return Effect.fail(silence)
        const mapping = new PortMapping.PortMapping({
          remoteHost: undefined,
          externalAddress: ip("11.22.33.1"),
          externalPort: 12000,
          protocol: "tcp",
          internalPort: 12000,
          internalAddress: ip("192.168.77.2"),
          enabled: true,
          description: "",
          lifetime: hour,
          gateway: ip("192.168.77.1"),
          method: "test",
          status: "mapped"
        })
        return Effect.succeed({ mapping, handle: undefined })
      })
    const protocol: LeaseEngine.LeaseProtocol<undefined> = {
      request: () => grant("request"),
      renew: () => grant("renew"),
      release: () => Effect.void,
      abandon: () => Effect.void
    }
    return { gateway, protocol }
  }

  const mapped = Effect.fnUntraced(function* (
    { watch }: ReturnType<typeof makeHost>,
    { protocol }: ReturnType<typeof makeGateway>
  ) {
    const mapping = yield* LeaseEngine.map(protocol, { protocol: "tcp", internalPort: 12000, lifetime: hour }).pipe(
      Effect.provideServiceEffect(NetworkWatch.NetworkWatch, watch)
    )
    const told: Array<string> = []
    yield* Effect.forkScoped(Stream.runForEach(mapping.changes, ({ status }) => Effect.sync(() => told.push(status))))
    yield* TestClock.adjust("1 minute")
    return told
  })

  it.effect("is renewed within seconds in another network, and not again and again", () => {
    const moved = makeHost()
    const router = makeGateway()
    return Effect.gen(function* () {
      yield* mapped(moved, router)
      moved.host.own = "192.168.77.3"
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(router.gateway.calls, ["request", "renew"])
    }).pipe(moved.withLead)
  })

  it.effect("is renewed after a sleep longer than its lease, and not called lost where that works", () => {
    const moved = makeHost()
    const router = makeGateway()
    return Effect.gen(function* () {
      const told = yield* mapped(moved, router)
      moved.host.lead = 8 * 3_600_000
      yield* TestClock.adjust("15 seconds")
      assert.deepStrictEqual(router.gateway.calls, ["request", "renew"])
      assert.deepStrictEqual(told, ["mapped"])
    }).pipe(moved.withLead)
  })

  it.effect("is called lost after such a sleep where the gateway does not answer", () => {
    const moved = makeHost()
    const router = makeGateway()
    return Effect.gen(function* () {
      const told = yield* mapped(moved, router)
      router.gateway.isSilent = true
      moved.host.lead = 8 * 3_600_000
      yield* TestClock.adjust("15 seconds")
      assert.deepStrictEqual(told, ["mapped", "lost"])
    }).pipe(moved.withLead)
  })

  it.effect("is not believed to last longer by a clock that was set back", () => {
    const moved = makeHost()
    const router = makeGateway()
    return Effect.gen(function* () {
      const told = yield* mapped(moved, router)
      router.gateway.isSilent = true
      moved.host.lead = -8 * 3_600_000
      yield* TestClock.adjust("61 minutes")
      assert.deepStrictEqual(told, ["mapped", "lost"])
    }).pipe(moved.withLead)
  })
})
