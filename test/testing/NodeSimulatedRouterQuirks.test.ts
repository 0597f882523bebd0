/**
 * The quirks of the mapping table and of restarts, met by the real strategies over real sockets on loopback. Those of
 * the search, the description, HTTP and the calls are met in `NodeSimulatedRouter.test.ts`.
 *
 * A quirk that is not handled is an expected failure: it breaks as soon as it passes, and its profile is then to be
 * changed.
 */
import * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import * as Quirk from "@effect-nat/testing/Quirk"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as References from "effect/References"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as MemoryLedger from "../core/memoryLedger.ts"

const { NodeSimulatedRouter: Router } = NodeSimulatedRouter

const strategies = { upnp: Upnp.layer, natpmp: NatPmp.layer, pcp: Pcp.layer } as const

type Method = keyof typeof strategies

const methods = ["upnp", "natpmp", "pcp"] as const

/** A host with a strategy behind a router of its own, which speaks nothing else. */
const behind = (method: Method, quirks: ReadonlyArray<Quirk.Quirk>) =>
  strategies[method].pipe(
    Layer.provide(NodeSimulatedRouter.layerHost),
    Layer.provideMerge(NodeSimulatedRouter.layer({ quirks, protocols: [method] })),
    Layer.provideMerge(MemoryLedger.layer),
    // That the outside is no public address is no news here.
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
  )

/** A service on this host, and the port it listens on. */
const tcpEcho = Effect.acquireRelease(
  Effect.callback<Net.Server>((resume) => {
    const server = Net.createServer((socket) => {
      socket.on("error", () => {})
      socket.pipe(socket)
    })
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
).pipe(
  Effect.map((server) => {
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  })
)

const tcpProbe = (host: string, port: number) =>
  Effect.callback<string>((resume) => {
    const socket = Net.connect({ host, port })
    socket.on("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? error.message)))
    socket.on("data", (data) => {
      socket.end()
      resume(Effect.succeed(data.toString()))
    })
    socket.write("hello")
    return Effect.sync(() => void socket.destroy())
  }).pipe(Effect.timeoutOrElse({ duration: "2 seconds", orElse: () => Effect.succeed("nothing") }))

/** Below the ports that the system gives out, and others in every process: several runs may be under way. */
const base = 10_000 + (process.pid % 12) * 800

/** A lease that is renewed after a second. */
const short = "2 seconds"

interface Situation {
  readonly method: Method
  /** Where the service listens. */
  readonly internalPort: number
  /** The external port to ask for, and one that is free beside it: no other test has these. */
  readonly wanted: number
  readonly another: number
  /** What the profile says. */
  readonly outcome: Quirk.Outcome
}

type Requirements = PortMapper.PortMapper | NodeSimulatedRouter.NodeSimulatedRouter | Scope.Scope

type Scenario = (situation: Situation) => Effect.Effect<void, unknown, Requirements>

type Differences = Partial<MappingRequest.MappingRequest>

const map = ({ internalPort, wanted }: Situation, differences: Differences = {}) =>
  PortMapper.PortMapper.use((mapper) =>
    mapper.map({ protocol: "tcp", internalPort, externalPort: wanted, lifetime: "1 hour", ...differences })
  )

const table = Router.use((router) => router.table)

const externalPortOf = (mapping: PortMapper.Mapping) =>
  Effect.map(mapping.current, ({ externalPort }) => externalPort ?? 0)

/** What a peer hears that says hello to the external port. */
const heard = Effect.fnUntraced(function* (mapping: PortMapper.Mapping) {
  const address = yield* Router.use((router) => router.outside)
  if (address === undefined) return "no outside"
  return yield* tcpProbe(NetAddress.formatIp(address), yield* externalPortOf(mapping))
})

/** The mapping says that it is there, the router says so too, and a connection from outside arrives. */
const assertLive = Effect.fnUntraced(function* (mapping: PortMapper.Mapping, hears = "hello") {
  const { externalPort, internalPort, status } = yield* mapping.current
  assert.strictEqual(status, "mapped")
  const rows = (yield* table).filter((entry) => entry.externalPort === externalPort)
  assert.deepStrictEqual(
    rows.map((entry) => `${NetAddress.formatIp(entry.internalAddress)}:${entry.internalPort}`),
    [`127.0.0.1:${internalPort}`]
  )
  assert.strictEqual(yield* heard(mapping), hears)
})

/** Waits for what happens by itself, as a renewal does; 30 times 100 milliseconds unless told otherwise. */
const assertInTime = Effect.fnUntraced(function* <E, R>(
  what: string,
  holds: Effect.Effect<boolean, E, R>,
  tries: number = 30
) {
  for (let i = 0; i < tries; i++) {
    if (yield* holds) return
    yield* Effect.sleep("100 millis")
  }
  assert.fail(`not in time: ${what}`)
})

const assertLiveInTime = (mapping: PortMapper.Mapping, tries?: number) =>
  Effect.andThen(
    assertInTime(
      "a connection arrives",
      Effect.map(heard(mapping), (text) => text === "hello"),
      tries
    ),
    assertLive(mapping)
  )

const assertRenewed = (times: number) =>
  assertInTime(
    `${times} renewals`,
    Router.use((router) =>
      Effect.map(
        router.asked,
        (asked) => asked.filter(({ action }) => action === "AddPortMapping" || action === "map").length > times
      )
    )
  )

/** It works at once, and its release succeeds and leaves nothing. */
const works =
  (
    differences: Differences = {},
    look: (mapping: PortMapper.Mapping, situation: Situation) => Effect.Effect<void, unknown, Requirements> = () =>
      Effect.void
  ): Scenario =>
  (situation) =>
    Effect.gen(function* () {
      const mapping = yield* map(situation, differences)
      yield* assertLive(mapping)
      yield* look(mapping, situation)
      yield* mapping.release
      assert.deepStrictEqual(yield* table, [])
      assert.notStrictEqual(yield* heard(mapping), "hello")
    })

const fails = Effect.fnUntraced(function* (situation: Situation, outcome: Quirk.Outcome) {
  const mapped = yield* Effect.result(map(situation))
  assert.strictEqual(Result.isFailure(mapped) ? mapped.failure.reason._tag : "Mapped", outcome)
  assert.deepStrictEqual(yield* table, [])
})

/** Fails as the profile says. */
const refused: Scenario = (situation) => fails(situation, situation.outcome)

/** Nobody answers: over PCP, which asks for the mapping at once, that is not known to be no gateway. */
const unanswered: Scenario = (situation) => fails(situation, situation.method === "pcp" ? "TimedOut" : "NoGateway")

const assertReads = Effect.fnUntraced(function* (mapping: PortMapper.Mapping, formatted: string) {
  assert.strictEqual(PortMapping.format(yield* mapping.current), formatted)
})

/** What the router was asked for in the end: a lease without an end over UPnP, which NAT-PMP does not have. */
const isPermanent = works({}, (_, { method }) =>
  Effect.map(table, (entries) =>
    assert.deepStrictEqual(
      entries.map((entry) => entry.expiresAt === undefined),
      [method === "upnp"]
    )
  )
)

/** However long the lease that was wanted, the router's is the longest there is, or shorter. */
const endsWithinAWeek = (lifetime: Differences["lifetime"]) =>
  works({ lifetime }, () =>
    Effect.map(table, ([entry]) => assert.isAtMost(entry?.expiresAt ?? Infinity, Date.now() + 604_800_000))
  )

const hasOtherPort = (isIt: (externalPort: number, situation: Situation) => boolean) =>
  works({}, (mapping, situation) =>
    Effect.map(externalPortOf(mapping), (externalPort) =>
      assert.isTrue(isIt(externalPort, situation), `${externalPort}`)
    )
  )

/** The router has been up for a day at once: it is told that it started then, and keeps what it has until it looks. */
const aDayPasses = Router.use(({ model }) =>
  Effect.sync(() => model.reboot(Date.now() - 86_400_000, { keepsTable: true }))
)

/** Permanent leases are renewed every hour: whoever waits for most of one waits for a second. */
const withQuickHours = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Clock.clockWith((clock) =>
    Effect.provideService(effect, Clock.Clock, {
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
      currentTimeMillis: clock.currentTimeMillis,
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
      currentTimeNanos: clock.currentTimeNanos,
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: clock.monotonicTimeNanos,
      sleep: (duration) => clock.sleep(Duration.toMinutes(duration) < 50 ? duration : Duration.seconds(1))
    })
  )

const oneRow: Effect.Effect<void, never, NodeSimulatedRouter.NodeSimulatedRouter> = Effect.map(table, (entries) =>
  assert.lengthOf(entries, 1)
)

const survivesTheNight = works({ lifetime: short }, (mapping, { wanted }) =>
  Effect.gen(function* () {
    yield* aDayPasses
    assert.deepStrictEqual(yield* table, [])
    yield* assertLiveInTime(mapping)
    assert.strictEqual(yield* externalPortOf(mapping), wanted)
  })
)

/** Another run of the program maps, and keeps its mapping to the end of the test: a killed one would for ever. */
const killed = (situation: Situation, differences: Differences = {}) =>
  Effect.gen(function* () {
    const strategy = Layer.provide(strategies[situation.method], NodeSimulatedRouter.layerHost)
    const run = yield* Layer.buildWithScope(Layer.fresh(strategy), yield* Effect.scope)
    return yield* Effect.provide(map(situation, differences), run)
  })

/** A client watches its gateway when it has mapped, a second later. */
const isWatched = "1500 millis"

/** What is noticed is not acted upon at once: many hosts may notice the same. */
const soon = 60

/** The lease is long: a client that waits for its renewal comes too late. */
const isBackSoonAfterRestart =
  (provoke: (situation: Situation) => Effect.Effect<unknown, unknown, Requirements> = () => Effect.void): Scenario =>
  (situation) =>
    Effect.gen(function* () {
      const router = yield* Router
      // It has been up for an hour, so that a shorter time since its start shows.
      router.model.reboot(Date.now() - 3_600_000)
      const mapping = yield* map(situation)
      yield* assertLive(mapping)
      yield* Effect.sleep(isWatched)
      yield* router.reboot()
      yield* provoke(situation)
      yield* assertLiveInTime(mapping, soon)
    })

interface Met {
  readonly scenario: Scenario
  /** Where it differs over NAT-PMP and PCP. */
  readonly natpmp?: Scenario
  /** Over which protocols it can be met at all; all unless told otherwise. */
  readonly over?: ReadonlyArray<Method>
  /** What the same router does that has no such quirk; nothing else unless told otherwise. */
  readonly without?: ReadonlyArray<Quirk.Quirk>
  /** It waits for something for a second or more. */
  readonly isSlow?: boolean
}

const gatewayPort = ["natpmp", "pcp"] as const

/** The router has been up so long, and keeps what it has. */
const hasBeenUp = (milliseconds: number) =>
  Router.use(({ model }) => Effect.sync(() => model.reboot(Date.now() - milliseconds, { keepsTable: true })))

/** However often it looks like a restart, the router is not asked without end, and loses nothing. */
const isLeftInPeace: Scenario = (situation) =>
  Effect.gen(function* () {
    const mapping = yield* map(situation)
    // Each of its answers looks like one.
    yield* Effect.replicateEffect(
      Effect.andThen(map(situation, { internalPort: 9 }).pipe(Effect.scoped), Effect.sleep("600 millis")),
      4
    )
    yield* Effect.sleep("3 seconds")
    const asked = yield* Router.use((router) => router.asked)
    assert.isAtMost(asked.filter(({ action }) => action === "map").length, 4 + 4)
    yield* assertLive(mapping)
    yield* mapping.release
    assert.deepStrictEqual(yield* table, [])
  })

const leaseIs = (lifetime: Differences["lifetime"], seconds: number) =>
  works({ lifetime }, (mapping) =>
    Effect.gen(function* () {
      const { lifetime: granted } = yield* mapping.current
      assert.isAtMost(Math.abs(Duration.toSeconds(granted ?? Duration.zero) - seconds), 1)
      const [entry] = yield* table
      assert.isAtMost(Math.abs((entry?.expiresAt ?? 0) - Date.now() - seconds * 1000), 2000)
    })
  )

const quirks: { readonly [name in Quirk.Quirk]?: Met } = {
  OnlyPermanentLeases: { scenario: isPermanent },
  InvalidArgsForLeases: { scenario: isPermanent },
  ExpiresLeasesAtOnce: {
    scenario: (situation) =>
      Effect.gen(function* () {
        const mapping = yield* map(situation)
        yield* assertLiveInTime(mapping, soon)
        // Who knows it does not have to find out again.
        const next = yield* map(situation, { externalPort: situation.another })
        yield* assertLive(next)
        assert.deepStrictEqual(
          (yield* table).map(({ expiresAt }) => expiresAt),
          [undefined, undefined]
        )
      }),
    over: ["upnp"],
    isSlow: true
  },
  RefusesPermanentLeases: { scenario: endsWithinAWeek(0) },
  RefusesLeasesAboveOneWeek: { scenario: endsWithinAWeek("3 weeks") },

  ConflictInMappingEntry: { scenario: hasOtherPort((externalPort) => externalPort >= 49_152) },
  SamePortValuesRequired: { scenario: hasOtherPort((externalPort, { internalPort }) => externalPort === internalPort) },
  RemoteHostOnlySupportsWildcard: { scenario: works() },
  // NAT-PMP has no words for 727 and 729, and the router maps.
  ExternalPortOnlySupportsWildcard: { scenario: refused, natpmp: works() },
  NoPortMapsAvailable: { scenario: refused },
  ConflictWithOtherMechanisms: { scenario: refused, natpmp: works() },
  WildCardNotPermittedInIntPort: { scenario: works() },
  ActionNotAuthorized: { scenario: refused },
  TableFullIsActionFailed: { scenario: refused },
  DeletionSaysNoSuchEntry: { scenario: works() },

  ExternalAddressZero: {
    scenario: works({}, (mapping, { wanted }) => assertReads(mapping, `port ${wanted}/tcp of an unknown address`)),
    isSlow: true
  },
  ExternalAddressEmpty: {
    // A line without an address has no outside either: it is in the table, and no connection can arrive.
    scenario: (situation) =>
      Effect.gen(function* () {
        const mapping = yield* map(situation)
        yield* assertLive(mapping, "no outside")
        yield* assertReads(mapping, `port ${situation.wanted}/tcp of an unknown address`)
        yield* mapping.release
        assert.deepStrictEqual(yield* table, [])
      }),
    natpmp: (situation) => fails(situation, "NoExternalAddress"),
    isSlow: true
  },
  ExternalAddressPrivate: {
    scenario: works({}, (mapping, { wanted }) => assertReads(mapping, `10.11.12.13:${wanted}/tcp`))
  },
  ExternalAddressShared: {
    scenario: works({}, (mapping, { wanted }) => assertReads(mapping, `100.64.11.12:${wanted}/tcp`))
  },

  PermanentLeasesPileUp: {
    scenario: (situation) =>
      Effect.gen(function* () {
        yield* Effect.replicateEffect(killed(situation), 3)
        yield* oneRow
      }),
    natpmp: hasOtherPort((externalPort) => externalPort >= 49_152)
  },

  RestartEmptiesTable: {
    isSlow: true,
    scenario: works({ lifetime: short }, (mapping, { wanted }) =>
      Effect.gen(function* () {
        yield* Router.use((router) => router.reboot())
        assert.deepStrictEqual(yield* table, [])
        yield* assertLiveInTime(mapping)
        assert.strictEqual(yield* externalPortOf(mapping), wanted)
      })
    )
  },
  RestartKeepsTable: {
    isSlow: true,
    scenario: works({ lifetime: short }, (mapping) =>
      Effect.gen(function* () {
        yield* Router.use((router) => router.reboot())
        yield* oneRow
        yield* assertLive(mapping)
        yield* assertRenewed(1)
        yield* oneRow
        yield* assertLive(mapping)
      })
    )
  },
  EpochStartsOver: {
    isSlow: true,
    // Another mapping's answer tells the epoch.
    scenario: isBackSoonAfterRestart((situation) =>
      map(situation, { internalPort: 9, externalPort: situation.another })
    ),
    over: gatewayPort
  },
  AnnouncesOnlyToGroup: { scenario: isBackSoonAfterRestart(), over: gatewayPort, isSlow: true },
  AnnouncesOnlyToClients: { scenario: isBackSoonAfterRestart(), over: ["pcp"], isSlow: true },
  EpochStandsStill: { scenario: isLeftInPeace, over: gatewayPort, isSlow: true },
  EpochJumpsBack: {
    scenario: (situation) => Effect.andThen(hasBeenUp(599_000), isLeftInPeace(situation)),
    over: gatewayPort,
    isSlow: true
  },
  BootIdChanges: { scenario: isBackSoonAfterRestart(), over: ["upnp"], without: ["RestartKeepsTable"], isSlow: true },
  LeasesVanishOvernight: { scenario: survivesTheNight, isSlow: true },
  PermanentLeasesVanishOvernight: {
    scenario: (situation) =>
      withQuickHours(
        works({ lifetime: short }, (mapping) => Effect.andThen(aDayPasses, assertLiveInTime(mapping)))(situation)
      ),
    natpmp: survivesTheNight,
    isSlow: true
  },

  FreedPortsAreTaken: {
    isSlow: true,
    scenario: (situation) =>
      Effect.gen(function* () {
        const mapping = yield* map(situation, { lifetime: short })
        yield* assertRenewed(2)
        yield* assertLive(mapping)
        assert.strictEqual(yield* externalPortOf(mapping), situation.wanted)
        yield* mapping.release
        // Had it ever been deleted, this would have been the end of it.
        const next = yield* map(situation)
        assert.notStrictEqual(yield* externalPortOf(next), situation.wanted)
        yield* assertLive(next)
      })
  },

  IgnoresPcp: { scenario: unanswered, over: ["pcp"], isSlow: true },
  IgnoresNatPmp: { scenario: unanswered, over: ["natpmp"], isSlow: true },
  AnswersPcpWithVersion1: { scenario: refused, over: ["pcp"] },
  RefusesOwnVersion: { scenario: unanswered, over: ["pcp"], isSlow: true },
  SeesAnotherAddress: { scenario: refused, over: ["pcp"] },
  RepliesFromOtherPort: { scenario: unanswered, over: gatewayPort, isSlow: true },
  RepliesCutShort: { scenario: unanswered, over: gatewayPort, isSlow: true },
  RepliesPadded: { scenario: works(), over: gatewayPort },
  RepliesTwice: { scenario: works(), over: gatewayPort },
  RepliesLate: { scenario: works(), over: gatewayPort, isSlow: true },
  GrantsOtherPorts: {
    scenario: (situation) =>
      Effect.gen(function* () {
        yield* hasOtherPort((externalPort) => externalPort >= 49_152)(situation)
        const strict = yield* Effect.flip(Effect.scoped(map(situation, { strictExternalPort: true })))
        assert.strictEqual(strict.reason._tag, "Conflict")
        assert.deepStrictEqual(yield* table, [])
      }),
    over: gatewayPort
  },
  LeasesAtLeastTwoMinutes: { scenario: leaseIs("30 seconds", 120), over: gatewayPort },
  LeasesAtMostTwoMinutes: { scenario: leaseIs("1 hour", 120), over: gatewayPort },
  AnnounceUnsupported: { scenario: works(), over: ["pcp"] },
  PreferFailureUnsupported: {
    scenario: works({ strictExternalPort: true }, (mapping, { wanted }) =>
      Effect.map(externalPortOf(mapping), (externalPort) => assert.strictEqual(externalPort, wanted))
    ),
    over: ["pcp"]
  },
  IgnoresNonces: { scenario: works(), over: ["pcp"] },
  DeletionSaysNoResources: {
    scenario: works({}, () =>
      Effect.gen(function* () {
        // Somebody has deleted it meanwhile: the release is none of an error's business.
        const { model } = yield* Router
        model.unmap(Date.now(), () => true)
      })
    ),
    over: ["pcp"]
  },

  NeverForgets: {
    isSlow: true,
    scenario: (situation) =>
      Effect.gen(function* () {
        const { model } = yield* Router
        const { entries } = yield* Ledger.Ledger
        const another = yield* map(situation, { externalPort: situation.another, internalPort: 9 })
        const noted = yield* entries(situation.method)
        const rows = yield* table
        yield* another.release
        // As if the process had been killed, long ago.
        yield* MemoryLedger.leave(noted)
        for (const row of rows) model.map(Date.now(), { ...row, mayChoosePort: false, lifetimeSeconds: 1 })
        const mapping = yield* map(situation)
        yield* Effect.sleep("1200 millis")
        yield* assertLive(mapping)
        assert.deepStrictEqual(
          (yield* table).map((entry) => entry.externalPort),
          [situation.wanted]
        )
      })
  }
}

const runs = Quirk.names.flatMap((name, index) => {
  const met = quirks[name]
  if (met === undefined) return []
  const profile = Quirk.profileOf(name)
  return (met.over ?? methods).map((method) => {
    const firstPort = base + methods.length * index + methods.indexOf(method)
    return {
      name,
      method,
      profile,
      // The ports to ask for, each run its own, and after all of those the ones that are left free beside them.
      ports: { wanted: firstPort, another: firstPort + methods.length * Quirk.names.length },
      isSlow: met.isSlow ?? false,
      without: met.without ?? [],
      scenario: method === "upnp" ? met.scenario : (met.natpmp ?? met.scenario)
    }
  })
})

type Run = (typeof runs)[number]

/** How a scenario ends. Whatever that is, the table then holds nothing that leads to our service. */
const meet = ({ method, ports, profile: { outcome }, scenario }: Run, having: ReadonlyArray<Quirk.Quirk>) =>
  Effect.gen(function* () {
    const internalPort = yield* tcpEcho
    const exit = yield* Effect.exit(Effect.scoped(scenario({ method, internalPort, outcome, ...ports })))
    const left = (yield* table).filter((entry) => entry.internalPort === internalPort)
    assert.deepStrictEqual(left, [])
    return exit
  }).pipe(Effect.scoped, Effect.provide(behind(method, having)))

const declare = (run: Run) => {
  const { method, name, profile, without } = run
  if (Quirk.isHandled(profile)) {
    it.live(`${name} (${method}): ${profile.what}`, () => Effect.flatten(meet(run, [name])))
    return
  }
  it.live(`${name} (${method}), not yet: ${profile.handled}`, () =>
    Effect.gen(function* () {
      // An expected failure proves something only where the quirk is what makes it fail.
      yield* Effect.flatten(meet(run, without))
      const exit = yield* meet(run, [name])
      assert.isTrue(Exit.isFailure(exit), "it is handled now: say so in its profile")
      if (Exit.isFailure(exit)) assert.propertyVal(Cause.squash(exit.cause), "name", "AssertionError")
    })
  )
}

describe("the quirks of the table, on loopback sockets", () => {
  runs.filter(({ isSlow }) => !isSlow).forEach(declare)
})

describe.concurrent("the quirks that take time, on loopback sockets", () => {
  runs.filter(({ isSlow }) => isSlow).forEach(declare)
})

/** Met in `NodeSimulatedRouter.test.ts` and `NodeSimulatedRouterEvents.test.ts`. */
const metElsewhere: ReadonlyArray<Quirk.Quirk> = [
  "AnswersOnlyUnicast",
  "AnswersOnlyMulticast",
  "AnswersOnlySsdpAll",
  "AnswersOnlyRootDevice",
  "AnswersFromOtherPort",
  "FlappingLocation",
  "AnswersWithFirstDescription",
  "DeadPppService",
  "DeadIpService",
  "PrivateServiceFirst",
  "ServiceTypesDoNotMix",
  "ControlUrlRelative",
  "ControlUrlAbsolute",
  "ControlUrlWithoutSlash",
  "ControlUrlOnOtherHost",
  "ControlUrlOnOtherPort",
  "UrlBasePresent",
  "UrlBaseEmpty",
  "UrlBaseOnOtherHost",
  "UrlBaseOnDeadPort",
  "LocationWithHostName",
  "LocationOnThirdHost",
  "LocationOnOtherAddress",
  "Http10",
  "LineFeedsOnly",
  "NoContentLength",
  "Chunked",
  "CloseWithoutLength",
  "WrongCharset",
  "OddHeaderCase",
  "TabBeforeXml",
  "BomBeforeXml",
  "ExactSoapAction",
  "UpperCaseProtocol",
  "ArgumentOrder",
  "MissingEntryIsInvalidIndex",
  "EndOfListIsInvalidArgs",
  "RestartMovesControl",
  "DeadSecondGateway",
  "FailsWhenFamiliesSearchAtOnce",
  "FailoverPair",
  "KeepsConnection",
  "ClosesKeptConnection",
  "EventsNotOffered",
  "EventsNeverSent",
  "SubscriptionsRefused"
]

describe("the list", () => {
  it("has no quirk of loopback that is not run, and none twice", () => {
    const run = [...new Set(runs.map(({ name }) => name)), ...metElsewhere]
    assert.deepStrictEqual(
      run.toSorted(),
      Quirk.runningIn("loopback")
        .map(({ name }) => name)
        .toSorted()
    )
  })

  const namesOf = (some: ReadonlyArray<{ readonly name: Quirk.Quirk }>) => [...new Set(some.map(({ name }) => name))]

  it("expects a refusal where the profiles say so, and a mapping where they do not", () => {
    const isRefused = ({ scenario }: Run) => scenario === refused || scenario === unanswered
    const isOfUpnp = ({ protocols }: Quirk.Profile) => protocols.includes("upnp")
    const refusing = Quirk.runningIn("loopback").filter(({ outcome }) => outcome !== "Mapped")
    assert.deepStrictEqual(
      namesOf(runs.filter((run) => run.method === "upnp" && isRefused(run))),
      namesOf(refusing.filter(isOfUpnp))
    )
    assert.deepStrictEqual(
      namesOf(runs.filter((run) => !isOfUpnp(run.profile) && isRefused(run))),
      namesOf(refusing.filter((profile) => !isOfUpnp(profile)))
    )
  })

  it("meets each over every protocol that it can show over", () => {
    for (const { name, protocols } of Quirk.runningIn("loopback")) {
      const met = runs.filter((run) => run.name === name).map(({ method }) => method)
      if (met.length > 0) assert.includeMembers<string>(met, [...protocols], name)
    }
  })
})
