import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as ChangingHost from "./changingHost.ts"

/** Counts what a listener is told from now on. */
const hear = Effect.fnUntraced(function* (watch: NetworkWatch.Service) {
  const heard = { times: 0 }
  const whenChanged = yield* watch.listen
  yield* Effect.forkScoped(
    Effect.forever(
      Effect.andThen(
        whenChanged,
        Effect.sync(() => (heard.times += 1))
      )
    )
  )
  yield* TestClock.adjust(0)
  return heard
})

/** A watch over the host that is provided, and somebody who listens to it. */
const watched = Effect.gen(function* () {
  const watch = yield* NetworkWatch.make()
  return { watch, heard: yield* hear(watch) }
})

const hour = 3_600_000

describe("NetworkWatch", () => {
  it.effect.each<[string, (host: ChangingHost.ChangingHost) => void]>([
    ["another own address", (host) => void (host.addresses = ["192.168.77.3/24"])],
    ["one more", (host) => void (host.addresses = [...host.addresses, "2001:db8::2/64"])],
    ["no network", (host) => void Object.assign(host, { addresses: [], gateways: [] })],
    ["another default gateway", (host) => void (host.gateways = ["192.168.77.254"])],
    ["another that is preferred", (host) => void (host.gateways = ["192.168.77.254", ...host.gateways])],
    ["a night's sleep", (host) => void (host.clockIsOff = 8 * hour)],
    ["a clock that is set back", (host) => void (host.clockIsOff = -hour)]
  ])("%s is told once, within 5 seconds", ([, change]) => {
    const host = ChangingHost.make()
    return Effect.gen(function* () {
      const { heard, watch } = yield* watched
      const other = yield* hear(watch)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual([heard.times, other.times, yield* watch.count], [0, 0, 0])
      change(host)
      yield* TestClock.adjust(NetworkWatch.interval)
      assert.deepStrictEqual([heard.times, other.times, yield* watch.count], [1, 1, 1])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual([heard.times, other.times, yield* watch.count], [1, 1, 1])
    }).pipe(Effect.provide(host.layer))
  })

  it.effect("a clock that drifts, and addresses that nobody else could use, are nothing to tell", () => {
    const host = ChangingHost.make()
    return Effect.gen(function* () {
      const { heard } = yield* watched
      for (let seconds = 0; seconds < 600; seconds += 5) {
        host.clockIsOff += 1900
        host.addresses = ["192.168.77.2/24", `fe80::${seconds + 1}/64`]
        yield* TestClock.adjust("5 seconds")
      }
      assert.strictEqual(heard.times, 0)
    }).pipe(Effect.provide(host.layer))
  })

  it.effect("looks once for all, and at nothing while nobody listens; what has changed meanwhile is told", () => {
    const host = ChangingHost.make()
    return Effect.gen(function* () {
      const watch = yield* NetworkWatch.make()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(host.looks.addresses, 0)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* hear(watch)
          yield* Effect.scoped(Effect.andThen(hear(watch), TestClock.adjust("100 seconds")))
          yield* TestClock.adjust("100 seconds")
        })
      )
      assert.strictEqual(host.looks.addresses, 41)
      host.gateways = ["192.168.77.254"]
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(host.looks.addresses, 41)
      const heard = yield* hear(watch)
      assert.strictEqual(heard.times, 1)
    }).pipe(Effect.provide(host.layer))
  })

  it.effect("ends with its scope", () => {
    const host = ChangingHost.make()
    return Effect.gen(function* () {
      const scope = yield* Scope.make()
      const heard = yield* hear(yield* Scope.provide(NetworkWatch.make(), scope))
      yield* TestClock.adjust("1 minute")
      const { addresses } = host.looks
      assert.strictEqual(addresses, 13)
      yield* Scope.close(scope, Exit.void)
      host.addresses = []
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual([heard.times, host.looks.addresses], [0, addresses])
    }).pipe(Effect.provide(host.layer))
  })

  it.effect("routes that take long are read for a hundredth of the time, and when the addresses have changed", () => {
    const host = ChangingHost.make()
    host.routesTake = 2000
    return Effect.gen(function* () {
      const { heard } = yield* watched
      yield* TestClock.adjust("1 hour")
      assert.isAtMost(host.looks.routes, 18)
      assert.isAtLeast(host.looks.routes, 16)
      const before = host.looks.routes
      host.addresses = ["192.168.77.3/24"]
      host.gateways = ["192.168.77.254"]
      yield* TestClock.adjust("8 seconds")
      assert.strictEqual(host.looks.routes, before + 1)
      assert.strictEqual(heard.times, 1)
    }).pipe(Effect.provide(host.layer))
  })
})
