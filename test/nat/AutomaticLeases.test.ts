/**
 * The automatic strategy over leases that the lease engine holds: whatever comes together, one mapping is left.
 */
import * as DoubleNat from "@effect-nat/core/DoubleNat"
import * as Gateway from "@effect-nat/core/Gateway"
import * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Automatic from "effect-nat/Automatic"

const address = NetAddress.ipFromStringUnsafe("192.168.77.1")
const own = NetAddress.ipFromStringUnsafe("192.168.77.2")
const request = { protocol: "tcp", internalPort: 12000 } as const

const noGateway = NatError.fromReason(new NatError.NoGateway({ detail: "" }))
const conflict = NatError.fromReason(new NatError.Conflict({ externalPort: 12000, detail: "" }))

interface Behaviour {
  /** How long the probe takes. */
  answersAfter: Duration.Input
  /** How long a request takes. */
  mapsAfter: Duration.Input
  isThere?: boolean
  refusal?: NatError.NatError
  /** Its probe dies. */
  breaks?: boolean
  /** Its requests die. */
  requestsBreak?: boolean
  /** Its releases die. */
  releasesBreak?: boolean
  readonly mapsAsProbe?: boolean
  readonly lifetime?: Duration.Duration
  /** Where its gateway is. */
  readonly at?: NetAddress.IpAddress
}

/** A strategy, what was asked of it, and how many leases it holds. */
const makeStrategy = (method: string, behaviour: Behaviour) => {
  const asked: Array<string> = []
  const held = new Set<number>()
  const { at: gateway = address, lifetime = Duration.hours(2) } = behaviour
  const note = (what: string) => Effect.sync(() => void asked.push(what))
  const mappingOf = (internalPort: number) =>
    new PortMapping.PortMapping({
      remoteHost: undefined,
      externalAddress: NetAddress.ipFromStringUnsafe("11.22.33.1"),
      externalPort: internalPort,
      protocol: "tcp",
      internalPort,
      internalAddress: own,
      enabled: true,
      description: "test",
      lifetime,
      gateway,
      method,
      status: "mapped"
    })
  const protocol: LeaseEngine.LeaseProtocol<number> = {
    request: Effect.fnUntraced(function* ({ internalPort }) {
      yield* note("request")
      yield* Effect.sleep(behaviour.mapsAfter)
      if (behaviour.requestsBreak === true) return yield* Effect.die("broken")
      if (behaviour.isThere === false) return yield* noGateway
      if (behaviour.refusal !== undefined) return yield* behaviour.refusal
      held.add(internalPort)
      return { handle: internalPort, mapping: mappingOf(internalPort) }
    }),
    renew: Effect.fnUntraced(function* (lease) {
      yield* note("renew")
      if (behaviour.isThere === false) return yield* noGateway
      if (behaviour.refusal !== undefined) return yield* behaviour.refusal
      return lease
    }),
    release: ({ handle }) =>
      Effect.suspend(() => {
        held.delete(handle)
        return behaviour.releasesBreak === true ? Effect.die("broken") : Effect.void
      }),
    abandon: ({ internalPort }) => Effect.sync(() => void held.delete(internalPort))
  }
  const { mapsAsProbe = false } = behaviour
  const mapper: PortMapper.PortMapper["Service"] = {
    map: (wanted) => LeaseEngine.map(protocol, wanted),
    externalAddress: Effect.succeed(own),
    list: Stream.empty,
    remove: () => Effect.void
  }
  const probe = Effect.gen(function* () {
    yield* note("probe")
    if (behaviour.breaks === true) return yield* Effect.die("broken")
    yield* Effect.sleep(behaviour.answersAfter)
    if (behaviour.isThere === false) return yield* noGateway
    return new Gateway.Gateway({
      name: method,
      address: gateway,
      method,
      localAddress: own,
      id: undefined,
      model: undefined
    })
  })
  return { method, mapper, mapsAsProbe, probe, asked, held, behaviour }
}

const mapped = (mapper: PortMapper.PortMapper["Service"]) =>
  mapper.map(request).pipe(
    Effect.flatMap((mapping) => mapping.current),
    Effect.map(({ method }) => method)
  )

/** What comes of it within some seconds. */
const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    for (let seconds = 0; seconds < 15; seconds++) yield* TestClock.adjust("1 second")
    return yield* Fiber.join(fiber)
  })

describe("one mapping is left", () => {
  it.effect("where the answer of a silent one comes together with that of its rival", () =>
    Effect.gen(function* () {
      const silent = makeStrategy("upnp", { answersAfter: 0, mapsAfter: "4005 millis" })
      const rival = makeStrategy("pcp", { answersAfter: "10 millis", mapsAfter: 0 })
      const mapper = yield* Automatic.make([silent, rival])
      // It is granted just before the rival answers, and not held yet.
      const seen = Effect.delay(Effect.undefined, "100 millis")
      yield* soon(Effect.provideService(mapped(mapper), DoubleNat.SeenAddress, seen))
      assert.strictEqual(silent.held.size + rival.held.size, 1)
    })
  )

  it.effect("where a late answer is adopted while the other one's comes", () =>
    Effect.gen(function* () {
      const late = makeStrategy("pcp", { answersAfter: 0, mapsAfter: "200 millis", mapsAsProbe: true })
      const other = makeStrategy("upnp", { answersAfter: "10 millis", mapsAfter: "60 millis" })
      const mapper = yield* Automatic.make([late, other])
      let times = 0
      const seen = Effect.suspend(() => Effect.delay(Effect.undefined, times++ === 0 ? "20 millis" : "100 millis"))
      yield* soon(Effect.provideService(mapped(mapper), DoubleNat.SeenAddress, seen))
      assert.strictEqual(late.held.size + other.held.size, 1)
    })
  )
})

describe("what is remembered", () => {
  it.effect("is the strategy whose late answer was adopted, and that mapping is renewed", () =>
    Effect.gen(function* () {
      const late = makeStrategy("pcp", { answersAfter: 0, mapsAfter: "300 millis", mapsAsProbe: true })
      const other = makeStrategy("upnp", { answersAfter: "10 millis", mapsAfter: "1 hour" })
      const mapper = yield* Automatic.make([late, other])
      assert.strictEqual(yield* soon(mapped(mapper)), "pcp")
      assert.deepStrictEqual(late.asked, ["request", "renew"])
      other.asked.splice(0)
      assert.strictEqual(yield* soon(mapped(mapper)), "pcp")
      assert.deepStrictEqual(other.asked, [])
    })
  )

  it.effect("stays so when a request was nonsense or its port was taken", () =>
    Effect.gen(function* () {
      const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: "1 hour", mapsAsProbe: true })
      const other = makeStrategy("upnp", { answersAfter: "10 millis", mapsAfter: 0 })
      const mapper = yield* Automatic.make([first, other])
      assert.strictEqual(yield* soon(mapped(mapper)), "upnp")
      first.asked.splice(0)
      other.behaviour.refusal = conflict
      assert.strictEqual((yield* Effect.flip(mapper.map(request))).reason._tag, "Conflict")
      delete other.behaviour.refusal
      const nonsense = mapper.map({ ...request, internalPort: 0 })
      assert.strictEqual((yield* Effect.flip(nonsense)).reason._tag, "InvalidRequest")
      assert.strictEqual(yield* soon(mapped(mapper)), "upnp")
      assert.deepStrictEqual(first.asked, [])
    })
  )
})

it.effect("many at once learn together that nobody is there, and the next one asks again", () =>
  Effect.gen(function* () {
    const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: "1 hour", mapsAsProbe: true })
    const other = makeStrategy("upnp", { answersAfter: "3 seconds", mapsAfter: 0, isThere: false })
    const mapper = yield* Automatic.make([first, other])
    const ports = Array.from({ length: 100 }, (_, index) => 12_001 + index)
    const tags = yield* soon(
      Effect.forEach(ports, (internalPort) => Effect.flip(mapper.map({ ...request, internalPort })), {
        concurrency: "unbounded"
      })
    )
    assert.deepStrictEqual(new Set(tags.map(({ reason }) => reason._tag)), new Set(["NoGateway"]))
    assert.strictEqual(other.asked.length, 1)
    other.behaviour.isThere = true
    assert.strictEqual(yield* soon(mapped(mapper)), "upnp")
  })
)

describe("a mapping whose protocol is gone", () => {
  /** It was mapped over PCP two hours ago, which has fallen silent since. */
  const lost = Effect.fnUntraced(function* (mapsAfter: Duration.Input) {
    const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: 0, mapsAsProbe: true })
    const other = makeStrategy("upnp", { answersAfter: "10 millis", mapsAfter })
    const scope = yield* Scope.make()
    const mapper = yield* Automatic.make([first, other])
    const mapping = yield* soon(Scope.provide(mapper.map(request), scope))
    first.behaviour.isThere = false
    // Renewals begin at half the lease, and their pauses grow to five minutes.
    for (let minutes = 0; minutes < 125; minutes++) yield* TestClock.adjust("1 minute")
    return { first, other, mapping, scope }
  })

  /** Its gateway has answered since that the port is taken. */
  const refused = Effect.gen(function* () {
    const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: 0, mapsAsProbe: true })
    const other = makeStrategy("upnp", { answersAfter: "10 millis", mapsAfter: 0 })
    const scope = yield* Scope.make()
    const mapper = yield* Automatic.make([first, other])
    const mapping = yield* soon(Scope.provide(mapper.map(request), scope))
    other.asked.splice(0)
    first.behaviour.refusal = conflict
    for (let minutes = 0; minutes < 125; minutes++) yield* TestClock.adjust("1 minute")
    return { first, other, mapping, scope }
  })

  it.effect("is held over another one that answers, and released there", () =>
    Effect.gen(function* () {
      const { first, mapping, other } = yield* lost(0)
      const now = yield* mapping.current
      assert.deepStrictEqual([now.method, now.status, now.externalPort], ["upnp", "mapped", 12000])
      assert.deepStrictEqual([first.held.size, other.held.size], [0, 1])
      yield* mapping.release
      assert.strictEqual(other.held.size, 0)
    })
  )

  it.effect.each(["release", "scope"] as const)("leaves nothing when it ends while it is being mapped (%s)", (by) =>
    Effect.gen(function* () {
      const { first, mapping, other, scope } = yield* lost("10 minutes")
      assert.strictEqual((yield* mapping.current).status, "lost")
      assert.include(other.asked, "request")
      yield* soon(by === "release" ? mapping.release : Scope.close(scope, Exit.void))
      for (let minutes = 0; minutes < 60; minutes++) yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([first.held.size, other.held.size], [0, 0])
      assert.strictEqual(other.asked.filter((what) => what === "request").length, 1)
    })
  )

  it.effect("leaves nothing when it is released, whatever the moment", () =>
    Effect.gen(function* () {
      const lifetime = Duration.seconds(10)
      const moments = new Set<string>()
      for (let turn = 0; turn < 500; turn++) {
        const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: 0, mapsAsProbe: true, lifetime })
        const other = makeStrategy("upnp", { answersAfter: 0, mapsAfter: 0 })
        const scope = yield* Scope.make()
        const mapper = yield* Automatic.make([first, other])
        const mapping = yield* mapper.map(request).pipe(
          Scope.provide(scope),
          // Fibers change at every few operations: an interruption can be placed at each of them in turn.
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + (turn % 2))
        )
        Object.assign(first.behaviour, { isThere: false, answersAfter: "700 millis" })
        const status = Effect.map(mapping.current, (now) => now.status)
        while ((yield* status) !== "lost") yield* TestClock.adjust("100 millis")
        first.asked.splice(0)
        while (!first.asked.includes("probe")) yield* TestClock.adjust("100 millis")
        const answering = yield* Effect.forkChild(TestClock.adjust("700 millis"))
        yield* Effect.repeat(Effect.yieldNow, { times: turn })
        moments.add(`${first.held.size} ${other.held.size} ${yield* status}`)
        const releasing = yield* Effect.forkChild(mapping.release)
        yield* Fiber.join(answering)
        yield* soon(Fiber.join(releasing))
        assert.deepStrictEqual([first.held.size, other.held.size], [0, 0], `released at ${turn}`)
        yield* Scope.close(scope, Exit.void)
      }
      assert.includeMembers([...moments], ["1 0 lost", "0 0 lost", "0 1 lost", "0 1 mapped"])
    })
  )

  it.effect("asks nobody else where its own gateway answers and refuses", () =>
    Effect.gen(function* () {
      const { mapping, other, scope, first } = yield* refused
      assert.strictEqual((yield* mapping.current).status, "lost")
      assert.include(first.asked, "probe")
      assert.deepStrictEqual(other.asked, [])
      yield* Scope.close(scope, Exit.void)
    })
  )

  it.effect("goes on being looked after when a strategy breaks meanwhile", () =>
    Effect.gen(function* () {
      const { mapping, first, other, scope } = yield* refused
      first.behaviour.breaks = true
      for (let minutes = 0; minutes < 15; minutes++) yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* mapping.current).status, "lost")
      first.behaviour.breaks = false
      first.behaviour.isThere = false
      for (let minutes = 0; minutes < 6; minutes++) yield* TestClock.adjust("1 minute")
      const now = yield* mapping.current
      assert.deepStrictEqual([now.method, now.status], ["upnp", "mapped"])
      assert.deepStrictEqual([first.held.size, other.held.size], [0, 1])
      yield* Scope.close(scope, Exit.void)
    })
  )

  it.effect("stays where it is when it is in force again before another one answers", () =>
    Effect.gen(function* () {
      const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: 0, mapsAsProbe: true })
      const other = makeStrategy("upnp", { answersAfter: "3 seconds", mapsAfter: 0, isThere: false })
      const mapper = yield* Automatic.make([first, other])
      const mapping = yield* soon(mapper.map(request))
      first.behaviour.isThere = false
      for (let minutes = 0; minutes < 180; minutes++) yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* mapping.current).status, "lost")
      other.asked.splice(0)
      for (let seconds = 0; seconds < 600 && other.asked.length === 0; seconds++) yield* TestClock.adjust("1 second")
      other.behaviour.isThere = true
      first.behaviour.isThere = true
      yield* mapping.renew
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* mapping.current).status, "mapped")
      first.asked.splice(0)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([first.asked, other.asked], [[], ["probe"]])
    })
  )

  it.effect("is not given up for one lost answer, whatever was lost before the last answer", () =>
    Effect.gen(function* () {
      const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: 0, mapsAsProbe: true })
      const at = NetAddress.ipFromStringUnsafe("192.168.77.3")
      const other = makeStrategy("upnp", { answersAfter: "10 millis", mapsAfter: 0, at })
      const mapper = yield* Automatic.make([first, other])
      const mapping = yield* soon(mapper.map(request))
      first.behaviour.refusal = noGateway
      const status = Effect.map(mapping.current, (now) => now.status)
      for (let seconds = 0; seconds < 4000 && (yield* status) === "mapped"; seconds++) {
        yield* TestClock.adjust("1 second")
      }
      const looks = () => first.asked.filter((what) => what === "probe").length
      for (const isThere of [false, true, true, false]) {
        const before = looks()
        first.behaviour.isThere = isThere
        for (let seconds = 0; seconds < 600 && looks() === before; seconds++) yield* TestClock.adjust("1 second")
        yield* TestClock.adjust("100 millis")
      }
      const now = yield* mapping.current
      assert.deepStrictEqual([now.method, now.status], ["pcp", "unconfirmed"])
    })
  )

  it.effect.each<[string, Partial<Behaviour>, Partial<Behaviour>]>([
    ["the own one's probe breaks", { breaks: true }, { isThere: false }],
    ["the own one's release breaks", { releasesBreak: true }, { isThere: false }],
    ["a preferred one's probe breaks", {}, { breaks: true }],
    ["the requests of the one that maps as a probe break", { requestsBreak: true }, { isThere: false }],
    ["the requests of one that answers break", {}, { requestsBreak: true }]
  ])("is held over another one although %s", ([, ofFirst, ofSecond]) =>
    Effect.gen(function* () {
      const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: 0, mapsAsProbe: true })
      const second = makeStrategy("natpmp", { answersAfter: 0, mapsAfter: 0 })
      const other = makeStrategy("upnp", { answersAfter: "10 millis", mapsAfter: 0 })
      const mapper = yield* Automatic.make([first, second, other])
      const mapping = yield* soon(mapper.map(request))
      Object.assign(first.behaviour, { isThere: false }, ofFirst)
      Object.assign(second.behaviour, ofSecond)
      for (let minutes = 0; minutes < 130; minutes++) yield* TestClock.adjust("1 minute")
      const now = yield* mapping.current
      assert.deepStrictEqual([now.method, now.status], ["upnp", "mapped"])
      assert.deepStrictEqual([first.held.size, second.held.size, other.held.size], [0, 0, 1])
    })
  )

  it.effect("is looked after together with others", () =>
    Effect.gen(function* () {
      const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: 0, mapsAsProbe: true })
      const other = makeStrategy("upnp", { answersAfter: "10 millis", mapsAfter: 0, isThere: false })
      const mapper = yield* Automatic.make([first, other])
      const mappings: Array<PortMapper.Mapping> = []
      for (let index = 0; index < 50; index++) {
        mappings.push(yield* soon(mapper.map({ ...request, internalPort: 12_001 + index })))
      }
      first.behaviour.isThere = false
      for (let minutes = 0; minutes < 150; minutes++) yield* TestClock.adjust("1 minute")
      const all = yield* Effect.forEach(mappings, ({ current }) => current)
      assert.deepStrictEqual(new Set(all.map(({ status }) => status)), new Set(["lost"]))
      other.asked.splice(0)
      for (let minutes = 0; minutes < 120; minutes++) yield* TestClock.adjust("1 minute")
      // One alone asks every five minutes, 24 times.
      assert.isAtLeast(other.asked.length, 24)
      assert.isAtMost(other.asked.length, 48)
    })
  )

  it.effect("is the first one's again when that is back before anybody else answers", () =>
    Effect.gen(function* () {
      const first = makeStrategy("pcp", { answersAfter: 0, mapsAfter: 0, mapsAsProbe: true })
      const other = makeStrategy("upnp", { answersAfter: "10 millis", mapsAfter: 0, isThere: false })
      const mapper = yield* Automatic.make([first, other])
      const mapping = yield* soon(mapper.map(request))
      first.behaviour.isThere = false
      for (let minutes = 0; minutes < 180; minutes++) yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* mapping.current).status, "lost")
      first.behaviour.isThere = true
      for (let minutes = 0; minutes < 6; minutes++) yield* TestClock.adjust("1 minute")
      const now = yield* mapping.current
      assert.deepStrictEqual([now.method, now.status], ["pcp", "mapped"])
    })
  )
})
