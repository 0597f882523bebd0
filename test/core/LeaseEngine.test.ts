import * as DoubleNat from "@effect-nat/core/DoubleNat"
import * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as ChangingHost from "./changingHost.ts"

const request: MappingRequest.MappingRequest = {
  protocol: "tcp",
  internalPort: 12000,
  externalPort: 12001,
  lifetime: "100 seconds"
}

const timedOut = NatError.fromReason(new NatError.TimedOut({ detail: "" }))
const refused = NatError.fromReason(new NatError.NotAuthorized({ detail: "" }))

type Granted = LeaseEngine.Lease<number>

interface Call {
  readonly name: "request" | "renew" | "release" | "abandon"
  /** Virtual milliseconds. */
  readonly at: number
  readonly externalPort: number | undefined
  readonly handle: number | undefined
}

const lease = (
  handle: number,
  resolved: MappingRequest.Resolved,
  differences: Partial<PortMapping.PortMapping> = {}
): Granted => ({
  handle,
  mapping: new PortMapping.PortMapping({
    remoteHost: undefined,
    externalAddress: NetAddress.ipFromStringUnsafe("11.22.33.1"),
    externalPort: resolved.externalPort,
    protocol: resolved.protocol,
    internalPort: resolved.internalPort,
    internalAddress: NetAddress.ipFromStringUnsafe("192.168.77.2"),
    enabled: true,
    description: resolved.description,
    lifetime: resolved.lifetime,
    gateway: NetAddress.ipFromStringUnsafe("192.168.77.1"),
    method: "scripted",
    status: "mapped",
    ...differences
  })
})

/** A protocol that records every call; what it answers is the test's, by default it grants what is asked for. */
const scripted = (script: Partial<LeaseEngine.LeaseProtocol<number>> = {}) => {
  const calls: Array<Call> = []
  let handles = 0
  const note = (name: Call["name"], resolved?: MappingRequest.Resolved, held?: Granted) =>
    Effect.map(Clock.currentTimeMillis, (at) => {
      calls.push({ name, at, externalPort: resolved?.externalPort, handle: held?.handle })
    })
  const protocol: LeaseEngine.LeaseProtocol<number> = {
    request: (resolved) =>
      Effect.andThen(
        note("request", resolved),
        script.request?.(resolved) ?? Effect.sync(() => lease((handles += 1), resolved))
      ),
    renew: (held, resolved) =>
      Effect.andThen(
        note("renew", resolved, held),
        script.renew?.(held, resolved) ?? Effect.succeed(lease(held.handle, resolved))
      ),
    release: (held) => Effect.andThen(note("release", undefined, held), script.release?.(held) ?? Effect.void),
    abandon: (resolved) => Effect.andThen(note("abandon", resolved), script.abandon?.(resolved) ?? Effect.void)
  }
  return {
    protocol,
    calls,
    names: () => calls.map((call) => call.name),
    count: (name: Call["name"]) => calls.filter((call) => call.name === name).length
  }
}

/** The changes as a peer of the mapping would note them; the array grows while the mapping lives. */
const watch = Effect.fnUntraced(function* (mapping: PortMapper.Mapping) {
  const seen: Array<PortMapping.PortMapping> = []
  const fiber = yield* Effect.forkScoped(
    Stream.runForEach(mapping.changes, (change) => Effect.sync(() => seen.push(change))),
    { startImmediately: true }
  )
  yield* TestClock.adjust(0)
  return { seen, fiber }
})

const statuses = (seen: ReadonlyArray<PortMapping.PortMapping>) => seen.map((mapping) => mapping.status)

/** What is logged while the effect runs, as one text. */
const logged = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    lines.push(`${logLevel} ${String(message)}`)
  })
  const exit = yield* Effect.exit(Effect.provide(effect, Logger.layer([logger])))
  return { lines, exit }
})

describe("LeaseEngine", () => {
  describe("release", () => {
    it.effect("the lease is released once when the scope closes after success", () =>
      Effect.gen(function* () {
        const { names, protocol } = scripted()
        yield* Effect.scoped(LeaseEngine.map(protocol, request))
        assert.deepStrictEqual(names(), ["request", "release"])
      })
    )

    it.effect("the lease is released when the program fails", () =>
      Effect.gen(function* () {
        const { names, protocol } = scripted()
        const exit = yield* LeaseEngine.map(protocol, request).pipe(
          Effect.andThen(Effect.fail("no")),
          Effect.scoped,
          Effect.exit
        )
        assert.isTrue(Exit.isFailure(exit))
        assert.deepStrictEqual(names(), ["request", "release"])
      })
    )

    it.effect("the lease is released when the program is interrupted", () =>
      Effect.gen(function* () {
        const { names, protocol } = scripted()
        const fiber = yield* LeaseEngine.map(protocol, request).pipe(
          Effect.andThen(Effect.never),
          Effect.scoped,
          Effect.forkChild
        )
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(names(), ["request"])
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(names(), ["request", "release"])
      })
    )

    it.effect("what the protocol granted last is what is released", () =>
      Effect.gen(function* () {
        const { calls, protocol } = scripted({
          renew: (held, resolved) => Effect.succeed(lease(held.handle + 1, resolved))
        })
        yield* Effect.scoped(Effect.andThen(LeaseEngine.map(protocol, request), TestClock.adjust("60 seconds")))
        assert.deepStrictEqual(
          calls.filter((call) => call.name === "release").map((call) => call.handle),
          [2]
        )
      })
    )

    it.effect("releasing by hand and by the scope is done once", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted()
        yield* Effect.scoped(
          Effect.gen(function* () {
            const mapping = yield* LeaseEngine.map(protocol, request)
            yield* mapping.release
            yield* mapping.release
          })
        )
        assert.strictEqual(count("release"), 1)
      })
    )

    it.effect("concurrent releases share one outcome, a failure too", () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const { count, protocol } = scripted({
          release: () => Effect.andThen(Deferred.await(gate), Effect.fail(refused))
        })
        yield* Effect.scoped(
          Effect.gen(function* () {
            const mapping = yield* LeaseEngine.map(protocol, request)
            const fiber = yield* Effect.forkChild(
              Effect.all([mapping.release, mapping.release, mapping.release].map(Effect.flip), {
                concurrency: "unbounded"
              })
            )
            yield* TestClock.adjust(0)
            yield* Deferred.succeed(gate, undefined)
            const errors = yield* Fiber.join(fiber)
            assert.deepStrictEqual(
              errors.map((error) => error.reason._tag),
              ["NotAuthorized", "NotAuthorized", "NotAuthorized"]
            )
          })
        )
        assert.strictEqual(count("release"), 1)
      })
    )

    it.effect("a release that hangs is cut after its time, and a warning names the mapping", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted({ release: () => Effect.never })
        const fiber = yield* Effect.forkChild(logged(Effect.scoped(LeaseEngine.map(protocol, request))))
        yield* TestClock.adjust(Duration.subtract(LeaseEngine.releaseTimeout, Duration.millis(1)))
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        const { exit, lines } = yield* Fiber.join(fiber)
        assert.isTrue(Exit.isSuccess(exit))
        assert.strictEqual(count("release"), 1)
        assert.lengthOf(lines, 1)
        assert.match(lines[0] ?? "", /^Warn .*11\.22\.33\.1:12001\/tcp may be left on the gateway/)
      })
    )

    it.effect("the time for a release counts from when the gateway has time for it", () =>
      Effect.gen(function* () {
        const { protocol } = scripted({ release: () => Effect.never })
        const waiting = { ...protocol, whenReleasing: Effect.sleep("1 minute") }
        const fiber = yield* Effect.forkChild(logged(Effect.scoped(LeaseEngine.map(waiting, request))))
        yield* TestClock.adjust("1 minute")
        yield* TestClock.adjust(Duration.subtract(LeaseEngine.releaseTimeout, Duration.millis(1)))
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        const { lines } = yield* Fiber.join(fiber)
        assert.match(lines.join("\n"), /^Warn .*may be left on the gateway/)
      })
    )

    it.effect("a release that cannot even be interrupted is not waited for", () =>
      Effect.gen(function* () {
        const { protocol } = scripted({ release: () => Effect.uninterruptible(Effect.sleep("1 hour")) })
        const fiber = yield* Effect.forkChild(logged(Effect.scoped(LeaseEngine.map(protocol, request))))
        yield* TestClock.adjust(LeaseEngine.releaseTimeout)
        const { lines } = yield* Fiber.join(fiber)
        assert.match(lines.join("\n"), /^Warn .*may be left on the gateway/)
      })
    )

    it.effect("a renewal without a clear answer is undone after the release, unless a later one was answered", () =>
      Effect.gen(function* () {
        for (const answers of [true, false]) {
          let first = true
          const { names, protocol } = scripted({
            renew: (held, resolved) =>
              Effect.suspend(() => {
                const fails = first || !answers
                first = false
                return fails ? Effect.fail(timedOut) : Effect.succeed(lease(held.handle, resolved))
              })
          })
          yield* Effect.scoped(Effect.andThen(LeaseEngine.map(protocol, request), TestClock.adjust("60 seconds")))
          const ending = names().slice(names().lastIndexOf("renew") + 1)
          assert.deepStrictEqual(ending, answers ? ["release"] : ["release", "abandon"])
        }
      })
    )

    it.effect("a release that fails closes the scope all the same, with a warning", () =>
      Effect.gen(function* () {
        const { protocol } = scripted({ release: () => Effect.fail(refused) })
        const { exit, lines } = yield* logged(Effect.scoped(LeaseEngine.map(protocol, request)))
        assert.isTrue(Exit.isSuccess(exit))
        assert.match(lines.join("\n"), /^Warn .*does not allow/)
      })
    )

    it.effect("a release whose protocol was closed before it is a warning, and no interruption of the program", () =>
      Effect.gen(function* () {
        const { protocol } = scripted({ release: () => Effect.interrupt })
        const { exit, lines } = yield* logged(Effect.scoped(LeaseEngine.map(protocol, request)))
        assert.isTrue(Exit.isSuccess(exit))
        assert.match(
          lines.join("\n"),
          /^Warn .*may be left on the gateway: .*close the mapping's scope before the layer/
        )
      })
    )

    it.effect("a confirmed release logs nothing", () =>
      Effect.gen(function* () {
        const { lines } = yield* logged(Effect.scoped(LeaseEngine.map(scripted().protocol, request)))
        assert.deepStrictEqual(lines, [])
      })
    )

    it.effect("a scope that closes while the request is out releases what it granted", () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const scope = yield* Scope.make()
        const { names, protocol } = scripted({
          request: (resolved) => Effect.as(Deferred.await(gate), lease(1, resolved))
        })
        const fiber = yield* Effect.forkChild(Scope.provide(LeaseEngine.map(protocol, request), scope))
        yield* TestClock.adjust(0)
        yield* Scope.close(scope, Exit.void)
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(fiber)
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual(names(), ["request", "release"])
      })
    )

    it.effect("many mappings in one scope are all released", () =>
      Effect.gen(function* () {
        const { calls, count, protocol } = scripted()
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* Effect.forEach(
              Array.from({ length: 100 }, (_, index) => 20_000 + index),
              (port) => LeaseEngine.map(protocol, { ...request, internalPort: port, externalPort: port }),
              { concurrency: "unbounded" }
            )
            yield* TestClock.adjust("60 seconds")
            assert.strictEqual(count("renew"), 100)
          })
        )
        const released = calls.filter((call) => call.name === "release").map((call) => call.handle)
        assert.lengthOf(released, 100)
        assert.strictEqual(new Set(released).size, 100)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(count("renew"), 100)
      })
    )

    it.effect("hanging releases of many mappings in one parallel scope take the time of one", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted({ release: () => Effect.never })
        const scope = yield* Scope.make("parallel")
        yield* Effect.forEach([1, 2, 3, 4, 5], (port) =>
          Scope.provide(LeaseEngine.map(protocol, { ...request, externalPort: port }), scope)
        )
        const closing = yield* Effect.forkChild(logged(Scope.close(scope, Exit.void)))
        yield* TestClock.adjust(LeaseEngine.releaseTimeout)
        yield* Fiber.join(closing)
        assert.strictEqual(count("release"), 5)
      })
    )
  })

  describe("the first request", () => {
    it.effect("a request that is wrong is refused before anything is asked", () =>
      Effect.gen(function* () {
        const { names, protocol } = scripted()
        const error = yield* Effect.flip(LeaseEngine.map(protocol, { ...request, internalPort: 0 }))
        assert.strictEqual(error.reason._tag, "InvalidRequest")
        assert.deepStrictEqual(names(), [])
      })
    )

    it.effect("interrupted in flight, it is abandoned", () =>
      Effect.gen(function* () {
        const { calls, names, protocol } = scripted({ request: () => Effect.never })
        const fiber = yield* Effect.forkChild(Effect.scoped(LeaseEngine.map(protocol, request)))
        yield* TestClock.adjust("1 second")
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(names(), ["request", "abandon"])
        assert.strictEqual(calls[1]?.externalPort, 12001)
      })
    )

    it.effect("an abandoning that hangs is cut", () =>
      Effect.gen(function* () {
        const { names, protocol } = scripted({ request: () => Effect.never, abandon: () => Effect.never })
        const fiber = yield* Effect.forkChild(Effect.scoped(LeaseEngine.map(protocol, request)))
        yield* TestClock.adjust("1 second")
        fiber.interruptUnsafe()
        yield* TestClock.adjust(Duration.subtract(LeaseEngine.releaseTimeout, Duration.millis(1)))
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        yield* Fiber.await(fiber)
        assert.deepStrictEqual(names(), ["request", "abandon"])
      })
    )

    it.effect.each([new NatError.TimedOut({ detail: "" }), new NatError.MalformedAnswer({ detail: "" })])(
      "without a clear answer (%s) it is abandoned",
      (reason) =>
        Effect.gen(function* () {
          const { names, protocol } = scripted({
            request: () => Effect.fail(NatError.fromReason(reason))
          })
          const error = yield* Effect.flip(Effect.scoped(LeaseEngine.map(protocol, request)))
          assert.strictEqual(error.reason, reason)
          assert.deepStrictEqual(names(), ["request", "abandon"])
        })
    )

    it.effect.each([
      refused,
      NatError.fromReason(new NatError.Conflict({ externalPort: 12001, detail: "" })),
      NatError.fromReason(new NatError.NoGateway({ detail: "" })),
      NatError.fromReason(new NatError.OutOfResources({ detail: "" }))
    ])("refused, it is not abandoned: %s", (error) =>
      Effect.gen(function* () {
        const { names, protocol } = scripted({ request: () => Effect.fail(error) })
        const failure = yield* Effect.flip(Effect.scoped(LeaseEngine.map(protocol, request)))
        assert.strictEqual(failure, error)
        assert.deepStrictEqual(names(), ["request"])
      })
    )

    it.effect("an abandoning that fails does not hide why the request failed", () =>
      Effect.gen(function* () {
        const { protocol } = scripted({ request: () => Effect.fail(timedOut), abandon: () => Effect.fail(refused) })
        const error = yield* Effect.flip(Effect.scoped(LeaseEngine.map(protocol, request)))
        assert.strictEqual(error.reason._tag, "TimedOut")
      })
    )

    it.effect("a failed first request leaves no loop behind", () =>
      Effect.gen(function* () {
        const { names, protocol } = scripted({ request: () => Effect.fail(refused) })
        yield* Effect.exit(LeaseEngine.map(protocol, request))
        yield* TestClock.adjust("3 hours")
        assert.deepStrictEqual(names(), ["request"])
      })
    )
  })

  describe("renewal", () => {
    it.effect(
      "comes at 45 % to 50 % of the lifetime, in place, while it lives [IP1 2.2.14-b, IP2 2.3.16-b, RFC 6886 3.3-k, RFC 6887 11.2.1-c]",
      () =>
        Effect.gen(function* () {
          const { calls, count, protocol } = scripted()
          yield* LeaseEngine.map(protocol, request)
          yield* TestClock.adjust("1 hour")
          assert.strictEqual(count("request"), 1)
          assert.strictEqual(count("release"), 0)
          const times = calls.map((call) => call.at)
          const pauses = times.slice(1).map((at, index) => at - (times[index] ?? 0))
          assert.isAtLeast(pauses.length, 3600 / 50)
          assert.isTrue(
            pauses.every((pause) => pause >= 45_000 && pause <= 50_000),
            pauses.join(" ")
          )
          // Many mappings made in one moment must not come due in one moment.
          assert.isAbove(new Set(pauses).size, 10)
        })
    )

    it.effect("one loop a mapping: requests overlap with nothing", () =>
      Effect.gen(function* () {
        let running = 0
        let most = 0
        const { count, protocol } = scripted({
          renew: (held, resolved) =>
            Effect.acquireUseRelease(
              Effect.sync(() => {
                running += 1
                most = Math.max(most, running)
              }),
              () => Effect.as(Effect.sleep("10 seconds"), lease(held.handle, resolved)),
              () =>
                Effect.sync(() => {
                  running -= 1
                })
            )
        })
        yield* LeaseEngine.map(protocol, request)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(most, 1)
        assert.isAtMost(count("renew"), 3600 / 55)
        assert.isAtLeast(count("renew"), 3600 / 61)
      })
    )

    it.effect("nothing is sent after the release", () =>
      Effect.gen(function* () {
        const { calls, protocol } = scripted()
        const mapping = yield* LeaseEngine.map(protocol, request)
        yield* TestClock.adjust("120 seconds")
        yield* mapping.release
        const { length } = calls
        yield* TestClock.adjust("10 hours")
        assert.lengthOf(calls, length)
        assert.strictEqual(calls.at(-1)?.name, "release")
      })
    )

    it.effect("the granted lifetime counts, not the one asked for", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted({
          request: (resolved) => Effect.succeed(lease(1, resolved, { lifetime: Duration.seconds(20) })),
          renew: (_held, resolved) => Effect.succeed(lease(1, resolved, { lifetime: Duration.seconds(20) }))
        })
        yield* LeaseEngine.map(protocol, request)
        yield* TestClock.adjust("100 seconds")
        assert.isAtLeast(count("renew"), 10)
        assert.isAtMost(count("renew"), 11)
      })
    )

    it.effect("a gateway that grants next to nothing is asked at most once a second", () =>
      Effect.gen(function* () {
        const { calls, protocol } = scripted({
          request: (resolved) => Effect.succeed(lease(1, resolved, { lifetime: Duration.millis(1) })),
          renew: (_held, resolved) => Effect.succeed(lease(1, resolved, { lifetime: Duration.millis(1) }))
        })
        yield* LeaseEngine.map(protocol, request)
        yield* TestClock.adjust("100 seconds")
        assert.isAtMost(calls.length, 101)
        assert.isAtLeast(calls.length, 90)
      })
    )

    it.effect("what is mapped without a lease is never renewed", () =>
      Effect.gen(function* () {
        const { names, protocol } = scripted({
          request: (resolved) => Effect.succeed(lease(1, resolved, { lifetime: undefined }))
        })
        yield* Effect.scoped(Effect.andThen(LeaseEngine.map(protocol, request), TestClock.adjust("1000 days")))
        assert.deepStrictEqual(names(), ["request", "release"])
      })
    )

    it.effect("the current mapping shows what the last renewal granted", () =>
      Effect.gen(function* () {
        const { protocol } = scripted({
          renew: (_held, resolved) => Effect.succeed(lease(1, resolved, { lifetime: Duration.seconds(60) }))
        })
        const mapping = yield* LeaseEngine.map(protocol, request)
        assert.strictEqual(PortMapping.lifetimeSeconds(yield* mapping.current), 100)
        yield* TestClock.adjust("50 seconds")
        assert.strictEqual(PortMapping.lifetimeSeconds(yield* mapping.current), 60)
      })
    )
  })

  describe("changes", () => {
    it.effect("begin with the mapping as it is, are silent about plain renewals, and end at the release", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted()
        const mapping = yield* LeaseEngine.map(protocol, request)
        const { fiber, seen } = yield* watch(mapping)
        assert.lengthOf(seen, 1)
        yield* TestClock.adjust("10 minutes")
        assert.isAbove(count("renew"), 5)
        assert.lengthOf(seen, 1)
        assert.isUndefined(fiber.pollUnsafe())
        yield* mapping.release
        yield* Fiber.join(fiber)
        assert.lengthOf(seen, 1)
      })
    )

    it.effect("end at a release that fails or breaks, too", () =>
      Effect.gen(function* () {
        for (const outcome of [Effect.fail(refused), Effect.die("bug")]) {
          const { protocol } = scripted({ release: () => outcome })
          const scope = yield* Scope.make()
          const mapping = yield* Scope.provide(LeaseEngine.map(protocol, request), scope)
          const { fiber } = yield* watch(mapping)
          yield* Effect.exit(mapping.release)
          const exit = yield* Fiber.await(fiber)
          assert.isTrue(Exit.isSuccess(exit))
        }
      })
    )

    it.effect("are over for who asks after the release", () =>
      Effect.gen(function* () {
        const mapping = yield* LeaseEngine.map(scripted().protocol, request)
        yield* mapping.release
        const seen = yield* Stream.runCollect(mapping.changes)
        assert.isAtMost(seen.length, 1)
      })
    )

    it.effect("tell of another external address and of another external port", () =>
      Effect.gen(function* () {
        const news: Array<Partial<PortMapping.PortMapping>> = [
          {},
          { externalAddress: NetAddress.ipFromStringUnsafe("11.22.33.99") },
          { externalAddress: NetAddress.ipFromStringUnsafe("11.22.33.99") },
          { externalAddress: NetAddress.ipFromStringUnsafe("11.22.33.99"), externalPort: 40_000 }
        ]
        let last: Partial<PortMapping.PortMapping> = {}
        const { protocol } = scripted({
          renew: (held, resolved) =>
            Effect.sync(() => {
              last = news.shift() ?? last
              return lease(held.handle, resolved, last)
            })
        })
        const mapping = yield* LeaseEngine.map(protocol, request)
        const { seen } = yield* watch(mapping)
        yield* TestClock.adjust("10 minutes")
        assert.deepStrictEqual(seen.map(PortMapping.format), [
          "11.22.33.1:12001/tcp",
          "11.22.33.99:12001/tcp",
          "11.22.33.99:40000/tcp"
        ])
        assert.strictEqual(PortMapping.format(yield* mapping.current), "11.22.33.99:40000/tcp")
      })
    )

    it.effect("every watcher gets them, late ones begin with the present", () =>
      Effect.gen(function* () {
        const { protocol } = scripted({
          renew: (held, resolved) => Effect.succeed(lease(held.handle, resolved, { externalPort: 40_000 }))
        })
        const mapping = yield* LeaseEngine.map(protocol, request)
        const early = yield* watch(mapping)
        yield* TestClock.adjust("1 minute")
        const late = yield* watch(mapping)
        assert.deepStrictEqual(
          early.seen.map((change) => change.externalPort),
          [12_001, 40_000]
        )
        assert.deepStrictEqual(
          late.seen.map((change) => change.externalPort),
          [40_000]
        )
      })
    )
  })

  describe("a gateway that fails", () => {
    it.effect("a renewal that fails once is tried again soon, and nobody is told", () =>
      Effect.gen(function* () {
        let failures = 1
        const { calls, protocol } = scripted({
          renew: (held, resolved) =>
            Effect.suspend(() => {
              failures -= 1
              return failures >= 0 ? Effect.fail(timedOut) : Effect.succeed(lease(held.handle, resolved))
            })
        })
        const mapping = yield* LeaseEngine.map(protocol, request)
        const { seen } = yield* watch(mapping)
        yield* TestClock.adjust("55 seconds")
        const [first = 0, second = 0] = calls.filter((call) => call.name === "renew").map((call) => call.at)
        assert.strictEqual(second - first, 1000)
        assert.deepStrictEqual(statuses(seen), ["mapped"])
      })
    )

    it.effect("pauses grow to five minutes: no flood however long it is away", () =>
      Effect.gen(function* () {
        const { calls, protocol } = scripted({
          renew: () => Effect.fail(timedOut),
          request: (() => {
            let first = true
            return (resolved: MappingRequest.Resolved) =>
              Effect.suspend(() => {
                if (!first) return Effect.fail(refused)
                first = false
                return Effect.succeed(lease(1, resolved))
              })
          })()
        })
        yield* LeaseEngine.map(protocol, { ...request, lifetime: "2 hours" })
        yield* TestClock.adjust("3 days")
        const times = calls.slice(1).map((call) => call.at)
        const pauses = times.slice(1).map((at, index) => at - (times[index] ?? 0))
        assert.deepStrictEqual(pauses.slice(0, 5), [1000, 2000, 4000, 8000, 16_000])
        assert.isTrue(pauses.every((pause) => pause <= 300_000))
        // Three days of five-minute pauses, and the few shorter ones.
        assert.isAtMost(calls.length, (3 * 24 * 60) / 5 + 15)
        assert.isAtLeast(calls.length, (3 * 24 * 60) / 5 - 15)
      })
    )

    it.effect("the mapping is lost once, at the end of its lease, and then mapped again at the same port", () =>
      Effect.gen(function* () {
        let away = false
        let handles = 0
        const { calls, protocol } = scripted({
          request: (resolved) =>
            Effect.suspend(() => {
              handles += 1
              // The gateway grants a port of its own choice the first time.
              return away ? Effect.fail(timedOut) : Effect.succeed(lease(handles, resolved, { externalPort: 45_000 }))
            }),
          renew: (held, resolved) =>
            Effect.suspend(() =>
              away ? Effect.fail(timedOut) : Effect.succeed(lease(held.handle, resolved, { externalPort: 45_000 }))
            )
        })
        const mapping = yield* LeaseEngine.map(protocol, request)
        const { seen } = yield* watch(mapping)
        away = true
        yield* TestClock.adjust("99999 millis")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed"])
        assert.strictEqual((yield* mapping.current).status, "unconfirmed")
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed", "lost"])
        assert.strictEqual((yield* mapping.current).status, "lost")
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed", "lost"])
        away = false
        yield* TestClock.adjust("5 minutes")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed", "lost", "mapped"])
        assert.strictEqual((yield* mapping.current).status, "mapped")
        const asked = calls.filter((call) => call.name === "request").map((call) => call.externalPort)
        assert.strictEqual(asked[0], 12_001)
        assert.isAbove(asked.length, 2)
        assert.isTrue(asked.slice(1).every((port) => port === 45_000))
        assert.isTrue(calls.filter((call) => call.name === "renew").every((call) => call.externalPort === 45_000))
      })
    )

    it.effect("timers that fire early do not cost an attempt at the end of the lease", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted({
          renew: () => Effect.andThen(Effect.sleep("10 millis"), Effect.fail(timedOut))
        })
        const clock = yield* Clock.clockWith(Effect.succeed)
        const early: Clock.Clock = Object.create(clock, {
          sleep: {
            value: (duration: Duration.Duration) => clock.sleep(Duration.subtract(duration, Duration.millis(2)))
          }
        })
        const mapping = yield* Effect.provideService(LeaseEngine.map(protocol, request), Clock.Clock, early)
        const { seen } = yield* watch(mapping)
        yield* TestClock.adjust("100 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed", "lost", "mapped"])
        assert.strictEqual(count("request"), 2)
      })
    )

    it.effect.each([
      ["hangs", Effect.never],
      ["breaks", Effect.die("no idea")]
    ] as const)("a mapping is held and released where what tells the address that the world sees %s", ([, seen]) =>
      Effect.gen(function* () {
        const { names, protocol } = scripted()
        const held = Effect.scoped(LeaseEngine.map(protocol, request)).pipe(
          Effect.provideService(DoubleNat.SeenAddress, seen)
        )
        const fiber = yield* Effect.forkChild(held)
        // The release has a limit of its own.
        for (let seconds = 0; seconds < 6; seconds++) yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(names(), ["request", "release"])
      })
    )

    it.effect("a mapping whose gateway is away says so from the second failure on, and that it is back", () =>
      Effect.gen(function* () {
        let away = false
        const { count, protocol } = scripted({
          renew: (held, resolved) =>
            Effect.suspend(() => (away ? Effect.fail(timedOut) : Effect.succeed(lease(held.handle, resolved))))
        })
        const mapping = yield* LeaseEngine.map(protocol, request)
        const { seen } = yield* watch(mapping)
        away = true
        while (count("renew") === 0) yield* TestClock.adjust("500 millis")
        assert.deepStrictEqual(statuses(seen), ["mapped"])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed"])
        assert.strictEqual((yield* mapping.current).externalPort, 12_001)
        yield* TestClock.adjust("20 seconds")
        away = false
        yield* TestClock.adjust("20 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed", "mapped"])
        assert.strictEqual((yield* mapping.current).status, "mapped")
      })
    )

    it.effect("a new request without a clear answer is undone before the next one", () =>
      Effect.gen(function* () {
        let away = false
        const { names, protocol } = scripted({
          request: (resolved) =>
            Effect.suspend(() => (away ? Effect.fail(timedOut) : Effect.succeed(lease(1, resolved)))),
          renew: () => Effect.fail(refused)
        })
        yield* LeaseEngine.map(protocol, request)
        away = true
        yield* TestClock.adjust("10 minutes")
        const since = names().slice(names().lastIndexOf("renew") + 1)
        assert.deepStrictEqual(since.slice(0, 4), ["request", "abandon", "request", "abandon"])
      })
    )

    it.effect("the undoing of one that nobody answered ends with the release: what comes after it is left alone", () =>
      Effect.gen(function* () {
        let isAnswering = true
        const undone: Array<number> = []
        const { count, protocol } = scripted({
          request: (resolved) => (isAnswering ? Effect.succeed(lease(1, resolved)) : Effect.fail(timedOut)),
          renew: () => Effect.fail(timedOut),
          release: () => Effect.sleep("100 millis"),
          // Each deletes once more, a while later.
          abandon: () =>
            Effect.delay(
              Effect.map(Clock.currentTimeMillis, (at) => void undone.push(at)),
              "3 seconds"
            )
        })
        const mapping = yield* LeaseEngine.map(protocol, request)
        isAnswering = false
        while (count("abandon") === 0) yield* TestClock.adjust("1 second")
        undone.splice(0)
        const fiber = yield* Effect.forkChild(mapping.release, { startImmediately: true })
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(fiber)
        assert.lengthOf(undone, 1)
      })
    )

    it.effect("a renewal that hangs is cut at the end of the lease: lost, and asked for anew", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted({ renew: () => Effect.never })
        const mapping = yield* LeaseEngine.map(protocol, request)
        const { seen } = yield* watch(mapping)
        yield* TestClock.adjust("100 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "lost"])
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "lost", "mapped"])
        assert.strictEqual(count("request"), 2)
      })
    )

    it.effect("a mapping whose port is another's is lost at once, and asked for anew", () =>
      Effect.gen(function* () {
        const taken = NatError.fromReason(new NatError.Conflict({ externalPort: 12001, detail: "" }))
        const script = scripted({ renew: () => Effect.fail(taken) })
        const mapping = yield* LeaseEngine.map(script.protocol, request)
        const { seen } = yield* watch(mapping)
        // Long before the lease has run out.
        yield* TestClock.adjust("51 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "lost", "mapped"])
        assert.deepStrictEqual(script.names(), ["request", "renew", "request"])
      })
    )

    it.effect("a permanent lease is renewed every hour", () =>
      Effect.gen(function* () {
        const permanent = { lifetime: Duration.infinity }
        const script = scripted({
          request: (resolved) => Effect.succeed(lease(1, resolved, permanent)),
          renew: (held, resolved) => Effect.succeed(lease(held.handle, resolved, permanent))
        })
        yield* LeaseEngine.map(script.protocol, request)
        yield* TestClock.adjust("54 minutes")
        assert.strictEqual(script.count("renew"), 0)
        yield* TestClock.adjust("6 minutes")
        assert.strictEqual(script.count("renew"), 1)
        yield* TestClock.adjust("23 hours")
        assert.isAtLeast(script.count("renew"), 24)
        assert.isAtMost(script.count("renew"), 27)
      })
    )

    it.effect("a change is a reason to renew at once, and not more than every five seconds", () =>
      Effect.gen(function* () {
        let hasChanged = false
        const script = scripted({})
        const whenChanged = () => Effect.suspend(() => (hasChanged ? Effect.void : Effect.never))
        const mapping = yield* LeaseEngine.map({ ...script.protocol, whenChanged }, request)
        yield* TestClock.adjust("20 seconds")
        assert.strictEqual(script.count("renew"), 0)
        // From the next renewal on everything changes all the time.
        hasChanged = true
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual(script.count("renew"), 1)
        yield* TestClock.adjust("20 seconds")
        assert.strictEqual(script.count("renew"), 5)
        yield* mapping.release
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(script.count("renew"), 5)
      })
    )

    it.effect("a mapping for an address that this host has left is lost with the first renewal that fails", () =>
      Effect.gen(function* () {
        let hasMoved = false
        let refuses = true
        const script = scripted({
          renew: () => Effect.fail(refused),
          request: (resolved) =>
            Effect.suspend(() => (hasMoved && refuses ? Effect.fail(refused) : Effect.succeed(lease(1, resolved))))
        })
        const isStale = () => Effect.sync(() => hasMoved)
        const mapping = yield* LeaseEngine.map({ ...script.protocol, isStale }, request)
        const { seen } = yield* watch(mapping)
        yield* TestClock.adjust("60 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed"])
        hasMoved = true
        // Before the lease has run out.
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed", "lost"])
        // Whatever is granted from now on is for the new address.
        refuses = false
        hasMoved = false
        yield* TestClock.adjust("45 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed", "lost", "mapped"])
      })
    )

    it.effect("what is granted anew is released also while the address that the world sees is asked for", () =>
      Effect.gen(function* () {
        const { calls, count, protocol } = scripted({ renew: () => Effect.fail(refused) })
        let isSlow = false
        const seen = Effect.suspend(() => Effect.delay(Effect.undefined, isSlow ? "3 seconds" : 0))
        const scope = yield* Scope.make()
        yield* LeaseEngine.map(protocol, request).pipe(
          Scope.provide(scope),
          Effect.provideService(DoubleNat.SeenAddress, seen)
        )
        isSlow = true
        for (let seconds = 0; seconds < 200 && count("request") < 2; seconds++) yield* TestClock.adjust("1 second")
        assert.strictEqual(count("request"), 2)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        for (let seconds = 0; seconds < 10; seconds++) yield* TestClock.adjust("1 second")
        yield* Fiber.join(closing)
        assert.deepStrictEqual(
          calls.filter(({ name }) => name === "release").map(({ handle }) => handle),
          [2]
        )
      })
    )

    it.effect("a lost mapping is still released", () =>
      Effect.gen(function* () {
        let first = true
        const { count, protocol } = scripted({
          request: (resolved) =>
            Effect.suspend(() => {
              if (!first) return Effect.fail(refused)
              first = false
              return Effect.succeed(lease(1, resolved))
            }),
          renew: () => Effect.fail(refused)
        })
        yield* Effect.scoped(Effect.andThen(LeaseEngine.map(protocol, request), TestClock.adjust("1 hour")))
        assert.strictEqual(count("release"), 1)
      })
    )
  })

  describe("this host's network", () => {
    const ip = NetAddress.ipFromStringUnsafe

    /** A protocol that maps for the host's own address on its default gateway, where it has both. */
    const onHost = Effect.fnUntraced(function* (host: ChangingHost.ChangingHost) {
      const granted = (handle: number, resolved: MappingRequest.Resolved) =>
        Effect.suspend(() => {
          const [address = ""] = host.addresses
          const [gateway] = host.gateways
          if (gateway === undefined) return Effect.fail(refused)
          return Effect.succeed(
            lease(handle, resolved, { internalAddress: ip(address.replace(/\/.*/, "")), gateway: ip(gateway) })
          )
        })
      const script = scripted({
        request: (resolved) => granted(1, resolved),
        renew: ({ handle }, resolved) => granted(handle, resolved)
      })
      const isStale = ({ mapping }: Granted) =>
        Effect.sync(() => !host.addresses.includes(`${NetAddress.formatIp(mapping.internalAddress)}/24`))
      return { ...script, protocol: { ...script.protocol, isStale, network: yield* NetworkWatch.make() } }
    })

    const places = (seen: ReadonlyArray<PortMapping.PortMapping>) =>
      seen.map((mapping) => `${mapping.internalAddress} via ${mapping.gateway}, ${mapping.status}`)

    it.effect.each<[string, (host: ChangingHost.ChangingHost) => void, string]>([
      [
        "another own address",
        (host) => void (host.addresses = ["192.168.77.9/24"]),
        "192.168.77.9 via 192.168.77.1, mapped"
      ],
      [
        "another default gateway",
        (host) => void (host.gateways = ["192.168.77.254"]),
        "192.168.77.2 via 192.168.77.254, mapped"
      ]
    ])("%s is followed within five seconds, and told", ([, change, now]) => {
      const host = ChangingHost.make()
      return Effect.gen(function* () {
        const { count, protocol } = yield* onHost(host)
        const mapping = yield* LeaseEngine.map(protocol, { ...request, lifetime: "2 hours" })
        const { seen } = yield* watch(mapping)
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual(count("renew"), 0)
        change(host)
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(places(seen), ["192.168.77.2 via 192.168.77.1, mapped", now])
        yield* TestClock.adjust("30 minutes")
        assert.strictEqual(count("renew"), 1)
      }).pipe(Effect.provide(host.layer))
    })

    it.effect("without any network the mapping is lost, and back within seconds when there is one again", () => {
      const host = ChangingHost.make()
      return Effect.gen(function* () {
        const { protocol } = yield* onHost(host)
        let isHeard = true
        const mapping = yield* LeaseEngine.map(
          {
            ...protocol,
            request: (resolved) =>
              Effect.andThen(
                Effect.suspend(() => (isHeard ? Effect.void : timedOut)),
                protocol.request(resolved)
              )
          },
          { ...request, lifetime: "2 hours" }
        )
        const { seen } = yield* watch(mapping)
        yield* TestClock.adjust("10 minutes")
        const { addresses, gateways } = host
        Object.assign(host, { addresses: [], gateways: [] })
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "lost"])
        // By now it is tried every five minutes.
        yield* TestClock.adjust("1 hour")
        Object.assign(host, { addresses, gateways })
        // The first request comes too early for the new network.
        isHeard = false
        yield* TestClock.adjust("5 seconds")
        isHeard = true
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "lost", "mapped"])
      }).pipe(Effect.provide(host.layer))
    })

    it.effect("after a sleep that a lease may not have outlived it is not lost if its renewal succeeds", () => {
      const host = ChangingHost.make()
      return Effect.gen(function* () {
        const { names, protocol } = yield* onHost(host)
        const mapping = yield* LeaseEngine.map(protocol, { ...request, lifetime: "2 hours" })
        const { seen } = yield* watch(mapping)
        yield* TestClock.adjust("10 minutes")
        host.clockIsOff = Duration.toMillis("8 hours")
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(names(), ["request", "renew"])
        assert.deepStrictEqual(statuses(seen), ["mapped"])
        yield* TestClock.adjust("40 minutes")
        assert.deepStrictEqual(names(), ["request", "renew"])
      }).pipe(Effect.provide(host.layer))
    })

    it.effect("and is lost, and asked for anew, as soon as its renewal fails", () => {
      const host = ChangingHost.make()
      return Effect.gen(function* () {
        const { names, protocol } = yield* onHost(host)
        const mapping = yield* LeaseEngine.map(
          { ...protocol, renew: (held, resolved) => Effect.andThen(protocol.renew(held, resolved), refused) },
          { ...request, lifetime: "2 hours" }
        )
        const { seen } = yield* watch(mapping)
        yield* TestClock.adjust("10 minutes")
        host.clockIsOff = Duration.toMillis("8 hours")
        yield* TestClock.adjust("6 seconds")
        assert.deepStrictEqual(names(), ["request", "renew", "request"])
        assert.deepStrictEqual(statuses(seen), ["mapped", "lost", "mapped"])
      }).pipe(Effect.provide(host.layer))
    })

    it.effect("a clock that is set back makes no lease longer", () => {
      const host = ChangingHost.make()
      return Effect.gen(function* () {
        const { protocol } = yield* onHost(host)
        let isAway = false
        const away = Effect.suspend(() => (isAway ? Effect.fail(timedOut) : Effect.void))
        const mapping = yield* LeaseEngine.map(
          {
            ...protocol,
            request: (resolved) => Effect.andThen(away, protocol.request(resolved)),
            renew: (held, resolved) => Effect.andThen(away, protocol.renew(held, resolved))
          },
          request
        )
        const { seen } = yield* watch(mapping)
        isAway = true
        host.clockIsOff = -Duration.toMillis("8 hours")
        yield* TestClock.adjust("99 seconds")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed"])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(statuses(seen), ["mapped", "unconfirmed", "lost"])
      }).pipe(Effect.provide(host.layer))
    })

    it.effect("a network that changes all the time leads to a renewal every five seconds, and no more", () =>
      Effect.gen(function* () {
        const { calls, protocol } = scripted()
        const network: NetworkWatch.Service = { ...NetworkWatch.still, listen: Effect.succeed(Effect.sleep(100)) }
        yield* LeaseEngine.map({ ...protocol, network }, { ...request, lifetime: "2 hours" })
        yield* TestClock.adjust("10 minutes")
        const times = calls.map((call) => call.at)
        assert.isAtLeast(times.length, 100)
        assert.isTrue(times.every((at, index) => index === 0 || at - (times[index - 1] ?? 0) >= 5000))
      })
    )

    it.effect("is listened to until the release, and no longer", () => {
      const host = ChangingHost.make()
      return Effect.gen(function* () {
        const { protocol } = yield* onHost(host)
        const mapping = yield* LeaseEngine.map(protocol, request)
        yield* TestClock.adjust("1 minute")
        const { addresses } = host.looks
        assert.isAbove(addresses, 10)
        yield* mapping.release
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(host.looks.addresses, addresses)
      }).pipe(Effect.provide(host.layer))
    })
  })

  describe("a protocol with a bug", () => {
    it.effect("a defect in a renewal is logged, and the mapping lives on", () =>
      Effect.gen(function* () {
        let broken = true
        const { count, protocol } = scripted({
          renew: (held, resolved) =>
            Effect.suspend(() => {
              if (!broken) return Effect.succeed(lease(held.handle, resolved))
              broken = false
              throw new Error("bug")
            })
        })
        const { lines } = yield* logged(
          Effect.scoped(Effect.andThen(LeaseEngine.map(protocol, request), TestClock.adjust("200 seconds")))
        )
        assert.isAtLeast(count("renew"), 4)
        assert.strictEqual(count("release"), 1)
        assert.match(lines.join("\n"), /^Error renewal of 11\.22\.33\.1:12001\/tcp failed/)
      })
    )

    it.effect.each<[string, Partial<LeaseEngine.LeaseProtocol<number>>]>([
      ["what tells of changes breaks", { whenChanged: () => Effect.die("bug") }],
      ["what tells of changes interrupts itself", { whenChanged: () => Effect.interrupt }],
      ["whether a lease is stale cannot be told", { isStale: () => Effect.die("bug") }]
    ])("renewals go on where %s", ([, differences]) =>
      Effect.gen(function* () {
        let isAway = true
        const { count, protocol } = scripted({
          renew: (held, resolved) =>
            Effect.suspend(() => (isAway ? Effect.fail(refused) : Effect.succeed(lease(held.handle, resolved))))
        })
        const { lines } = yield* logged(
          Effect.gen(function* () {
            const mapping = yield* LeaseEngine.map({ ...protocol, ...differences }, request)
            yield* TestClock.adjust("60 seconds")
            isAway = false
            yield* TestClock.adjust("10 minutes")
            assert.strictEqual((yield* mapping.current).status, "mapped")
          }).pipe(Effect.scoped)
        )
        assert.isAtLeast(count("renew"), 10)
        assert.match(lines.join("\n"), /^Error /m)
      })
    )

    it.effect("a renewal that interrupts itself does not end the loop", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted({ renew: () => Effect.interrupt })
        yield* Effect.scoped(Effect.andThen(LeaseEngine.map(protocol, request), TestClock.adjust("60 seconds")))
        assert.isAtLeast(count("renew"), 3)
        assert.strictEqual(count("release"), 1)
      })
    )

    it.effect("a defect in the request is abandoned and reaches the caller", () =>
      Effect.gen(function* () {
        for (const request_ of [
          () => Effect.die("bug"),
          () => {
            throw new Error("bug")
          }
        ]) {
          const { names, protocol } = scripted()
          const exit = yield* Effect.exit(Effect.scoped(LeaseEngine.map({ ...protocol, request: request_ }, request)))
          assert.isTrue(Exit.hasDies(exit))
          assert.deepStrictEqual(names(), ["abandon"])
        }
      })
    )

    it.effect("a defect in the release stops the loop, warns and is not hidden", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted({ release: () => Effect.die("bug") })
        const { exit, lines } = yield* logged(Effect.scoped(LeaseEngine.map(protocol, request)))
        assert.isTrue(Exit.hasDies(exit))
        assert.match(lines.join("\n"), /^Warn .*may be left on the gateway/)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(count("renew"), 0)
      })
    )

    it.effect("a renewal that cannot be interrupted does not keep the mapping from being released", () =>
      Effect.gen(function* () {
        const { count, protocol } = scripted({ renew: () => Effect.uninterruptible(Effect.never) })
        const scope = yield* Scope.make()
        yield* Scope.provide(LeaseEngine.map(protocol, request), scope)
        yield* TestClock.adjust("60 seconds")
        assert.strictEqual(count("renew"), 1)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(closing)
        assert.strictEqual(count("release"), 1)
      })
    )
  })

  /**
   * A gateway's table, and a protocol whose every step lets other fibers run. The scheduler is told to change fibers at
   * every few operations, so that an interruption can be placed at each of them in turn.
   */
  describe("whatever the moment of an interruption, nothing is left in the gateway's table", () => {
    const gateway = () => {
      const table = new Set<number>()
      let handles = 0
      const grant = Effect.fnUntraced(function* (resolved: MappingRequest.Resolved) {
        yield* Effect.yieldNow
        handles += 1
        table.add(handles)
        const granted = lease(handles, resolved)
        yield* Effect.yieldNow
        return granted
      })
      const protocol: LeaseEngine.LeaseProtocol<number> = {
        request: grant,
        // The unkindest gateway: each renewal moves the lease.
        renew: (held, resolved) => Effect.tap(grant(resolved), () => Effect.sync(() => table.delete(held.handle))),
        release: (held) =>
          Effect.andThen(
            Effect.yieldNow,
            Effect.sync(() => {
              table.delete(held.handle)
            })
          ),
        abandon: () =>
          Effect.andThen(
            Effect.yieldNow,
            Effect.sync(() => {
              table.clear()
            })
          )
      }
      return { table, protocol }
    }

    /** Until the effect is done, or for so many turns of the scheduler. */
    const turns = (count: number) => Effect.repeat(Effect.yieldNow, { times: count })

    /** Its renewal comes due after one second to the millisecond: the shortest pause there is. */
    const brief: MappingRequest.MappingRequest = { ...request, lifetime: "2 seconds" }

    const steps = [3, 4, 5, 7]
    const moments = Array.from({ length: 250 }, (_, index) => index)

    it.effect("while it is requested", () =>
      Effect.gen(function* () {
        let early = 0
        let late = 0
        for (const operations of steps) {
          for (const moment of moments) {
            const { protocol, table } = gateway()
            let mapped = false
            const fiber = yield* LeaseEngine.map(protocol, request).pipe(
              Effect.tap(
                Effect.sync(() => {
                  mapped = true
                })
              ),
              Effect.andThen(Effect.never),
              Effect.scoped,
              Effect.provideService(Scheduler.MaxOpsBeforeYield, operations),
              Effect.forkChild
            )
            yield* turns(moment)
            if (mapped) late += 1
            else early += 1
            yield* Fiber.interrupt(fiber)
            assert.strictEqual(table.size, 0, `interrupted at ${moment}, by ${operations}`)
          }
        }
        // The sweep has covered the whole of it.
        assert.isAbove(early, 50)
        assert.isAbove(late, 50)
      })
    )

    it.effect("while it is renewed", () =>
      Effect.gen(function* () {
        let early = 0
        let late = 0
        for (const operations of steps) {
          for (const moment of moments) {
            const { protocol, table } = gateway()
            let renewed = false
            const watched = {
              ...protocol,
              renew: (held: Granted, resolved: MappingRequest.Resolved) =>
                Effect.tap(
                  protocol.renew(held, resolved),
                  Effect.sync(() => {
                    renewed = true
                  })
                )
            }
            const scope = yield* Scope.make()
            yield* LeaseEngine.map(watched, brief).pipe(
              Scope.provide(scope),
              Effect.provideService(Scheduler.MaxOpsBeforeYield, operations)
            )
            // The last millisecond passes while the scope closes; no time limit may end meanwhile.
            yield* TestClock.adjust("999 millis")
            const passing = yield* Effect.forkChild(TestClock.adjust(1))
            yield* turns(moment)
            if (renewed) late += 1
            else early += 1
            yield* Scope.close(scope, Exit.void)
            assert.strictEqual(table.size, 0, `closed at ${moment}, by ${operations}`)
            yield* Fiber.join(passing)
            assert.strictEqual(table.size, 0, `closed at ${moment}, by ${operations}, later`)
          }
        }
        assert.isAbove(early, 50)
        assert.isAbove(late, 50)
      })
    )

    it.effect("while it is asked for anew", () =>
      Effect.gen(function* () {
        let early = 0
        let late = 0
        for (const operations of steps) {
          for (const moment of moments) {
            const { protocol, table } = gateway()
            let requests = 0
            const failing = {
              ...protocol,
              renew: () => Effect.fail(refused),
              request: (resolved: MappingRequest.Resolved) =>
                Effect.tap(
                  protocol.request(resolved),
                  Effect.sync(() => {
                    requests += 1
                  })
                )
            }
            const scope = yield* Scope.make()
            yield* LeaseEngine.map(failing, brief).pipe(
              Scope.provide(scope),
              Effect.provideService(Scheduler.MaxOpsBeforeYield, operations)
            )
            yield* TestClock.adjust("1999 millis")
            // The lease is over: a restarted gateway has forgotten it.
            table.clear()
            const passing = yield* Effect.forkChild(TestClock.adjust(1))
            yield* turns(moment)
            if (requests > 1) late += 1
            else early += 1
            yield* Scope.close(scope, Exit.void)
            assert.strictEqual(table.size, 0, `closed at ${moment}, by ${operations}`)
            yield* Fiber.join(passing)
          }
        }
        assert.isAbove(early, 50)
        assert.isAbove(late, 50)
      })
    )
  })

  describe("the ledger", () => {
    const noted = (internalPort: number) =>
      new Ledger.Entry({
        method: "scripted",
        gateway: "192.168.77.1",
        key: String(internalPort),
        protocol: "tcp",
        internalAddress: NetAddress.ipFromStringUnsafe("192.168.77.2"),
        internalPort,
        externalPort: 12001,
        description: "effect-nat",
        nonce: undefined
      })

    /** A protocol that notes what it asks for; what stands in the ledger, and what an earlier run has left there. */
    const withPage = Effect.fnUntraced(function* (
      script: Partial<LeaseEngine.LeaseProtocol<number>> = {},
      left: ReadonlyArray<number> = [],
      alive: ReadonlyArray<number> = []
    ) {
      let written: ReadonlyArray<Ledger.Entry> = []
      let gone = left.map(noted)
      const ledger = yield* Ledger.make({
        write: (entries) => Effect.sync(() => void (written = entries)),
        takeOver: () =>
          Effect.sync(() => {
            const taken = gone
            gone = []
            return taken
          }),
        others: Effect.sync(() => ({ alive: alive.map(noted), gone: [] }))
      })
      const page = yield* ledger.open
      const discarded: Array<number> = []
      const { names, protocol } = scripted({
        ...script,
        request: (resolved) =>
          Effect.andThen(page.note(noted(12000)), script.request?.(resolved) ?? Effect.succeed(lease(1, resolved)))
      })
      const discard = (entry: Ledger.Entry) =>
        script.discard?.(entry) ?? Effect.sync(() => void discarded.push(entry.internalPort))
      return {
        protocol: { ...protocol, page, discard },
        discarded,
        names,
        stands: () => written.map((entry) => entry.internalPort)
      }
    })

    it.effect("has what is mapped, until it is released", () =>
      Effect.gen(function* () {
        const { protocol, stands } = yield* withPage()
        const mapping = yield* LeaseEngine.map(protocol, request)
        assert.deepStrictEqual(stands(), [12000])
        yield* mapping.release
        assert.deepStrictEqual(stands(), [])
      })
    )

    it.effect("keeps what no release has confirmed", () =>
      Effect.gen(function* () {
        const { protocol, stands } = yield* withPage({ release: () => Effect.fail(timedOut) })
        const mapping = yield* LeaseEngine.map(protocol, request)
        yield* Effect.ignore(mapping.release)
        assert.deepStrictEqual(stands(), [12000])
      })
    )

    it.effect("lets go of what another process has as well, and neither deletes nor undoes it", () =>
      Effect.gen(function* () {
        const { names, protocol, stands } = yield* withPage({}, [], [12000])
        let isHeld = true
        const mapping = yield* LeaseEngine.map(
          { ...protocol, letGo: Effect.sync(() => void (isHeld = false)) },
          request
        )
        yield* mapping.release
        assert.deepStrictEqual([names(), stands(), isHeld], [["request"], [], false])
        const unanswered = yield* withPage({ request: () => Effect.fail(timedOut) }, [], [12000])
        yield* Effect.flip(LeaseEngine.map(unanswered.protocol, request))
        assert.deepStrictEqual([unanswered.names(), unanswered.stands()], [["request"], []])
      })
    )

    it.effect("keeps what a release had no time for", () =>
      Effect.gen(function* () {
        const { protocol, stands } = yield* withPage({ release: () => Effect.never })
        const mapping = yield* LeaseEngine.map(protocol, request)
        const fiber = yield* Effect.forkChild(Effect.ignore(mapping.release), { startImmediately: true })
        yield* TestClock.adjust("6 seconds")
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(stands(), [12000])
      })
    )

    it.effect("has nothing of what was refused, or was undone, and what could not be undone", () =>
      Effect.gen(function* () {
        const cases = [
          [{ request: () => Effect.fail(refused) }, []],
          [{ request: () => Effect.fail(timedOut) }, []],
          [{ request: () => Effect.fail(timedOut), abandon: () => Effect.fail(timedOut) }, [12000]]
        ] as const
        for (const [script, expected] of cases) {
          const { protocol, stands } = yield* withPage(script)
          yield* Effect.flip(LeaseEngine.map(protocol, request))
          assert.deepStrictEqual(stands(), [...expected])
        }
      })
    )

    it.effect("says what to delete once something is mapped, one after the other, and not before", () =>
      Effect.gen(function* () {
        const { discarded, protocol, stands } = yield* withPage({}, [1, 2, 12000])
        yield* LeaseEngine.map(protocol, request)
        // Each of them takes some turns of the scheduler.
        yield* Effect.repeat(TestClock.adjust("10 millis"), { times: 10 })
        assert.deepStrictEqual(discarded, [1, 2])
        assert.deepStrictEqual(stands(), [12000])
        const failing = yield* withPage({ request: () => Effect.fail(refused) }, [1])
        yield* Effect.flip(LeaseEngine.map(failing.protocol, request))
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(failing.discarded, [])
      })
    )

    it.effect("is swept in nobody's time: neither the mapping nor its release waits for it", () =>
      Effect.gen(function* () {
        const { protocol, stands } = yield* withPage({ discard: () => Effect.never }, [1])
        const mapping = yield* LeaseEngine.map(protocol, request)
        yield* mapping.release
        // It is left for the next mapping.
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(stands(), [1])
      })
    )
  })
})
