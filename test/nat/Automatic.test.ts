import * as Gateway from "@effect-nat/core/Gateway"
import * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import * as Automatic from "effect-nat/Automatic"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Ref from "effect/Ref"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const address = NetAddress.ipFromStringUnsafe("192.168.77.1")
const own = NetAddress.ipFromStringUnsafe("192.168.77.2")

const gateway = (method: string) =>
  new Gateway.Gateway({ name: "router", address, method, localAddress: own, id: undefined, model: undefined })

const mappingOf = (method: string) =>
  new PortMapping.PortMapping({
    remoteHost: undefined,
    externalAddress: NetAddress.ipFromStringUnsafe("11.22.33.1"),
    externalPort: 12001,
    protocol: "tcp",
    internalPort: 12000,
    internalAddress: own,
    enabled: true,
    description: "test",
    lifetime: Duration.hours(2),
    gateway: address,
    method,
    status: "mapped"
  })

const noGateway = NatError.fromReason(new NatError.NoGateway({ detail: "silence" }))
const refused = NatError.fromReason(new NatError.NotAuthorized({ detail: "policy" }))
const unsupported = NatError.fromReason(new NatError.Unsupported({ operation: "list", detail: "" }))

/** A candidate whose probe answers after a while, and a journal of what was asked of it. */
const candidate = Effect.fnUntraced(function* (
  method: string,
  options: {
    readonly after: Duration.Input
    readonly probe?: NatError.NatError
    /** Why it cannot map, or that it never says. */
    readonly map?: NatError.NatError | "never"
    readonly mapsAfter?: Duration.Input
    readonly list?: NatError.NatError
  }
) {
  const asked = yield* Ref.make<ReadonlyArray<string>>([])
  const note = (what: string) => Ref.update(asked, (before) => [...before, what])
  const mapping: PortMapper.Mapping = {
    current: Effect.succeed(mappingOf(method)),
    changes: Stream.make(mappingOf(method)),
    renew: Effect.asVoid(note("renew")),
    release: Effect.void
  }
  const fails = (error: NatError.NatError | "never" | undefined) => {
    if (error === "never") return Effect.onInterrupt(Effect.never, () => note("undone"))
    return error === undefined ? Effect.void : Effect.fail(error)
  }
  return {
    asked,
    method,
    probe: note("probe").pipe(
      Effect.andThen(Effect.sleep(options.after)),
      Effect.andThen(fails(options.probe)),
      Effect.as(gateway(method))
    ),
    mapper: {
      map: () =>
        note("map").pipe(
          Effect.andThen(fails(options.map)),
          Effect.andThen(Effect.sleep(options.mapsAfter ?? 0)),
          Effect.as(mapping)
        ),
      externalAddress: Effect.andThen(note("externalAddress"), Effect.as(fails(options.map), own)),
      list:
        options.list === undefined
          ? Stream.fromEffect(Effect.as(note("list"), mappingOf(method)))
          : Stream.fail(options.list),
      remove: () => Effect.andThen(note("remove"), fails(options.list))
    }
  }
})

const request = { protocol: "tcp", internalPort: 12000 } as const

const mapped = (mapper: PortMapper.PortMapper["Service"]) =>
  mapper.map(request).pipe(
    Effect.flatMap((mapping) => mapping.current),
    Effect.map((mapping) => mapping.method),
    Effect.scoped
  )

/** Runs the effect while virtual time passes. */
const within = <A, E, R>(time: Duration.Input, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    yield* TestClock.adjust(time)
    return yield* Fiber.join(fiber)
  })

describe("Automatic", () => {
  it.effect("takes the preferred strategy when it answers within the grace after the first", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: "140 millis" })
      const other = yield* candidate("upnp", { after: "10 millis" })
      const mapper = yield* Automatic.make([preferred, other])
      assert.strictEqual(yield* within("150 millis", mapped(mapper)), "natpmp")
      assert.deepStrictEqual(yield* Ref.get(other.asked), ["probe"])
    })
  )

  it.effect("does not wait for a preferred strategy beyond the grace", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: "2 seconds" })
      const other = yield* candidate("upnp", { after: "10 millis" })
      const mapper = yield* Automatic.make([preferred, other])
      assert.strictEqual(yield* within("160 millis", mapped(mapper)), "upnp")
      assert.deepStrictEqual(yield* Ref.get(preferred.asked), ["probe"])
    })
  )

  it.effect("counts the grace from when all were asked: whoever answers after it is not made to wait", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: "2 seconds" })
      const other = yield* candidate("upnp", { after: "151 millis" })
      const mapper = yield* Automatic.make([preferred, other])
      assert.strictEqual(yield* within("151 millis", mapped(mapper)), "upnp")
    })
  )

  it.effect("asks at once by the strategy whose request is its probe, and has it where that answers", () =>
    Effect.gen(function* () {
      const pcp = { ...(yield* candidate("pcp", { after: 0, mapsAfter: "20 millis" })), mapsAsProbe: true }
      const other = yield* candidate("upnp", { after: "10 millis" })
      const mapper = yield* Automatic.make([pcp, other])
      assert.strictEqual(yield* within("20 millis", mapped(mapper)), "pcp")
      assert.deepStrictEqual(yield* Ref.get(pcp.asked), ["map"])
      assert.deepStrictEqual(yield* Ref.get(other.asked), ["probe"])
    })
  )

  it.effect("has another one map after the grace, and then undoes what it asked first and renews", () =>
    Effect.gen(function* () {
      const pcp = { ...(yield* candidate("pcp", { after: 0, map: "never" })), mapsAsProbe: true }
      const other = yield* candidate("upnp", { after: "10 millis" })
      const mapper = yield* Automatic.make([pcp, other])
      assert.strictEqual(yield* within("150 millis", mapped(mapper)), "upnp")
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* Ref.get(pcp.asked), ["map", "undone"])
      assert.deepStrictEqual(yield* Ref.get(other.asked), ["probe", "map", "renew"])
    })
  )

  it.effect("asks nobody else where what it asked at once would fail everywhere", () =>
    Effect.gen(function* () {
      const conflict = NatError.fromReason(new NatError.Conflict({ externalPort: 80, detail: "" }))
      const pcp = { ...(yield* candidate("pcp", { after: 0, map: conflict })), mapsAsProbe: true }
      const other = yield* candidate("upnp", { after: 0 })
      const mapper = yield* Automatic.make([pcp, other])
      const error = yield* within("1 second", Effect.flip(mapped(mapper)))
      assert.strictEqual(error.reason._tag, "Conflict")
      assert.notInclude(yield* Ref.get(other.asked), "map")
    })
  )

  it.effect("adopts a late answer that comes while another one is still asked, and undoes that", () =>
    Effect.gen(function* () {
      const pcp = { ...(yield* candidate("pcp", { after: 0, mapsAfter: "300 millis" })), mapsAsProbe: true }
      const other = yield* candidate("upnp", { after: "10 millis", map: "never" })
      const mapper = yield* Automatic.make([pcp, other])
      assert.strictEqual(yield* within("300 millis", mapped(mapper)), "pcp")
      assert.deepStrictEqual(yield* Ref.get(other.asked), ["probe", "map", "undone"])
    })
  )

  it.effect("undoes what it asked at once when nobody answers, and when the caller gives up", () =>
    Effect.gen(function* () {
      const pcp = { ...(yield* candidate("pcp", { after: 0, map: "never" })), mapsAsProbe: true }
      const other = yield* candidate("upnp", { after: "1 second", probe: noGateway })
      const mapper = yield* Automatic.make([pcp, other])
      const error = yield* within("5 seconds", Effect.flip(mapped(mapper)))
      assert.strictEqual(error.reason._tag, "NoGateway")
      const fiber = yield* Effect.forkChild(mapped(mapper))
      yield* TestClock.adjust("500 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* Ref.get(pcp.asked), ["map", "undone", "map", "undone"])
    })
  )

  it.effect("remembers for each network what maps there, until it fails", () =>
    Effect.gen(function* () {
      let network = "home"
      const preferred = yield* candidate("natpmp", { after: "1 second" })
      const other = yield* candidate("upnp", { after: 0 })
      const mapper = yield* Automatic.make([preferred, other], { network: Effect.sync(() => network) })
      const askedInTurn = Effect.gen(function* () {
        yield* within("1 second", mapped(mapper))
        return (yield* Ref.getAndSet(other.asked, [])).join()
      })
      assert.deepStrictEqual(yield* Effect.all([askedInTurn, askedInTurn]), ["probe,map", "map"])
      network = "office"
      assert.deepStrictEqual(yield* Effect.all([askedInTurn, askedInTurn]), ["probe,map", "map"])
      network = "home"
      assert.strictEqual(yield* askedInTurn, "map")
    })
  )

  it.effect("gives a silent one up for another that answers, with one request at a time", () =>
    Effect.gen(function* () {
      const silent = yield* candidate("pcp", { after: 0, map: "never" })
      const other = yield* candidate("upnp", { after: "10 millis" })
      const mapper = yield* Automatic.make([silent, other])
      assert.strictEqual(yield* within("5 seconds", mapped(mapper)), "upnp")
      assert.deepStrictEqual(yield* Ref.get(silent.asked), ["probe", "map", "undone"])
      assert.strictEqual((yield* Ref.get(other.asked)).filter((what) => what === "map").length, 1)
    })
  )

  it.effect("gives one that has mapped up as well when it falls silent", () =>
    Effect.gen(function* () {
      const first = yield* candidate("pcp", { after: 0 })
      let isSilent = false
      const map = () => (isSilent ? Effect.never : first.mapper.map())
      const other = yield* candidate("upnp", { after: "10 millis" })
      const mapper = yield* Automatic.make([{ ...first, mapper: { ...first.mapper, map } }, other])
      assert.strictEqual(yield* within("1 second", mapped(mapper)), "pcp")
      isSilent = true
      assert.strictEqual(yield* within("5 seconds", mapped(mapper)), "upnp")
      assert.strictEqual(yield* mapped(mapper), "upnp")
    })
  )

  it.effect("lets one finish that maps one thing after the other, however long that takes", () =>
    Effect.gen(function* () {
      const slow = yield* candidate("pcp", { after: 0, mapsAfter: "3 seconds" })
      const inTurn = yield* Semaphore.make(1)
      const map = () => inTurn.withPermit(slow.mapper.map())
      const other = yield* candidate("upnp", { after: "10 millis" })
      const mapper = yield* Automatic.make([{ ...slow, mapper: { ...slow.mapper, map } }, other])
      const all = Effect.forEach([1, 2, 3, 4, 5], () => mapped(mapper), { concurrency: "unbounded" })
      const fiber = yield* Effect.forkChild(all)
      // Each begins when the one before has ended, and not at the end of a leap.
      for (let seconds = 0; seconds < 15; seconds++) yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(fiber), ["pcp", "pcp", "pcp", "pcp", "pcp"])
    })
  )

  it.effect("asks the first again where the other that answers cannot map", () =>
    Effect.gen(function* () {
      const slow = yield* candidate("upnp", { after: 0, mapsAfter: "6 seconds" })
      const other = yield* candidate("pcp", { after: "10 millis", map: refused })
      const mapper = yield* Automatic.make([slow, other])
      assert.strictEqual(yield* within("11 seconds", mapped(mapper)), "upnp")
      assert.deepStrictEqual(yield* Ref.get(slow.asked), ["probe", "map", "map"])
    })
  )

  it.effect("waits for a silent one as long as it takes where nobody else answers", () =>
    Effect.gen(function* () {
      const silent = yield* candidate("pcp", { after: 0, map: "never" })
      const other = yield* candidate("upnp", { after: "10 millis", probe: noGateway })
      const mapper = yield* Automatic.make([silent, other])
      const fiber = yield* Effect.forkChild(mapped(mapper))
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(fiber.pollUnsafe())
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("lets a slow one finish where another answers only that it cannot help", () =>
    Effect.gen(function* () {
      const slow = yield* candidate("upnp", { after: 0, mapsAfter: "6 seconds" })
      const other = yield* candidate("natpmp", { after: "10 millis", probe: refused })
      const mapper = yield* Automatic.make([slow, other])
      assert.strictEqual(yield* within("6 seconds", mapped(mapper)), "upnp")
    })
  )

  it.effect("waits for no grace when the preferred strategy has failed", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: "5 millis", probe: noGateway })
      const other = yield* candidate("upnp", { after: "10 millis" })
      const mapper = yield* Automatic.make([preferred, other])
      assert.strictEqual(yield* within("10 millis", mapped(mapper)), "upnp")
    })
  )

  it.effect("probes once for several requests, even when they come together", () =>
    Effect.gen(function* () {
      const only = yield* candidate("natpmp", { after: "10 millis" })
      const mapper = yield* Automatic.make([only])
      yield* within(
        "1 second",
        Effect.all([mapped(mapper), mapped(mapper), mapped(mapper)], { concurrency: "unbounded" })
      )
      assert.deepStrictEqual(yield* Ref.get(only.asked), ["probe", "map", "map", "map"])
    })
  )

  it.effect("goes to the next strategy when the chosen one cannot map, one after the other", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: 0, map: refused })
      const other = yield* candidate("upnp", { after: 0 })
      const mapper = yield* Automatic.make([preferred, other])
      assert.strictEqual(yield* within("1 second", mapped(mapper)), "upnp")
      assert.deepStrictEqual(yield* Ref.get(preferred.asked), ["probe", "map"])
    })
  )

  it.effect("fails with the chosen strategy's error when no other can do it either", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: 0, map: refused })
      const other = yield* candidate("upnp", { after: 0, map: noGateway })
      const mapper = yield* Automatic.make([preferred, other])
      const error = yield* within("1 second", Effect.flip(mapped(mapper)))
      assert.strictEqual(error.reason._tag, "NotAuthorized")
    })
  )

  it.effect("fails with the other strategy's error when the chosen one just lacks the operation", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: 0, map: unsupported })
      const other = yield* candidate("upnp", { after: 0, map: refused })
      const mapper = yield* Automatic.make([preferred, other])
      const error = yield* within("1 second", Effect.flip(mapped(mapper)))
      assert.strictEqual(error.reason._tag, "NotAuthorized")
    })
  )

  it.effect("a taken port is not tried on another strategy: they share the router's table", () =>
    Effect.gen(function* () {
      const conflict = NatError.fromReason(new NatError.Conflict({ externalPort: 80, detail: "" }))
      const preferred = yield* candidate("natpmp", { after: 0, map: conflict })
      const other = yield* candidate("upnp", { after: 0 })
      const mapper = yield* Automatic.make([preferred, other])
      const error = yield* within("1 second", Effect.flip(mapped(mapper)))
      assert.strictEqual(error.reason._tag, "Conflict")
      assert.notInclude(yield* Ref.get(other.asked), "map")
    })
  )

  it.effect("says what each strategy said when none answered, and probes again next time", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: "1 second", probe: noGateway })
      const other = yield* candidate("upnp", { after: "2 seconds", probe: noGateway })
      const mapper = yield* Automatic.make([preferred, other])
      const error = yield* within("2 seconds", Effect.flip(mapped(mapper)))
      const { reason } = error
      assert.deepStrictEqual(reason._tag === "NoGateway" ? reason.causes : reason, [
        { method: "natpmp", detail: "silence" },
        { method: "upnp", detail: "silence" }
      ])
      assert.match(error.message, /\(natpmp and upnp: silence\)$/)
      yield* within("2 seconds", Effect.flip(mapped(mapper)))
      assert.deepStrictEqual(yield* Ref.get(preferred.asked), ["probe", "probe"])
    })
  )

  it.effect("a gateway that answered and cannot help says more than one that was silent", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: "1 second", probe: noGateway })
      const other = yield* candidate("upnp", { after: 0, probe: refused })
      const mapper = yield* Automatic.make([preferred, other])
      const error = yield* within("1 second", Effect.flip(mapped(mapper)))
      assert.strictEqual(error.reason._tag, "NotAuthorized")
    })
  )

  it.effect("lists and deletes by the strategy that can, and keeps mapping by the chosen one", () =>
    Effect.gen(function* () {
      const preferred = yield* candidate("natpmp", { after: 0, list: unsupported })
      const other = yield* candidate("upnp", { after: 0 })
      const mapper = yield* Automatic.make([preferred, other])
      const listed = yield* within("1 second", Stream.runCollect(mapper.list))
      assert.deepStrictEqual(
        listed.map((one) => one.method),
        ["upnp"]
      )
      yield* mapper.remove({ protocol: "tcp", externalPort: 12001 })
      assert.strictEqual(yield* mapped(mapper), "natpmp")
      const asked = yield* Ref.get(other.asked)
      assert.deepStrictEqual(
        asked.filter((what) => what !== "probe"),
        ["list", "remove"]
      )
    })
  )

  it.effect("tells every finding as it comes", () =>
    Effect.gen(function* () {
      const heard = yield* Ref.make<ReadonlyArray<string>>([])
      const preferred = yield* candidate("natpmp", { after: "20 millis", probe: noGateway })
      const other = yield* candidate("upnp", { after: "10 millis" })
      yield* Automatic.make([preferred, other]).pipe(
        Effect.flatMap((mapper) => within("1 second", mapped(mapper))),
        Effect.provideService(Automatic.OnFinding, ({ method, outcome }) =>
          Ref.update(heard, (before) => [...before, `${method} ${Exit.isSuccess(outcome)}`])
        )
      )
      assert.deepStrictEqual(yield* Ref.get(heard), ["upnp true", "natpmp false"])
    })
  )
})
