/**
 * The list of quirks, each quirk of the mapping table met by the real lease engine through the mock layer, and those of
 * the surroundings built in a network as their notes say.
 *
 * A quirk that is not handled is an expected failure: it breaks as soon as it passes, and its profile is then to be
 * changed.
 */
import * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Quirk from "@effect-nat/testing/Quirk"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as SimulatedRouter from "@effect-nat/testing/SimulatedRouter"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as MemoryLedger from "../core/memoryLedger.ts"

const request: MappingRequest.MappingRequest = {
  protocol: "tcp",
  internalPort: 12000,
  externalPort: 12001,
  lifetime: "1 hour"
}

const map = (differences: Partial<MappingRequest.MappingRequest> = {}) =>
  PortMapper.PortMapper.use((mapper) => mapper.map({ ...request, ...differences }))

/** The mapping says that it is there, and a packet from the world arrives. */
const assertLive = Effect.fnUntraced(function* (mapping: PortMapper.Mapping) {
  const router = yield* SimulatedRouter.SimulatedRouter
  const { externalPort, status } = yield* mapping.current
  assert.strictEqual(status, "mapped")
  const to = yield* router.forward("tcp", externalPort ?? 0)
  assert.strictEqual(to === undefined ? undefined : NetAddress.formatInet(to), "192.168.77.2:12000")
})

const assertLiveAfter = (mapping: PortMapper.Mapping, duration: "1 minute" | "30 minutes" | "25 hours") =>
  Effect.andThen(TestClock.adjust(duration), assertLive(mapping))

const table = SimulatedRouter.SimulatedRouter.use((router) => router.table)

/** It works at once and for hours, and leaves nothing. */
const works = (differences: Partial<MappingRequest.MappingRequest> = {}) =>
  Effect.gen(function* () {
    yield* Effect.scoped(
      Effect.gen(function* () {
        const mapping = yield* map(differences)
        yield* assertLive(mapping)
        yield* assertLiveAfter(mapping, "25 hours")
      })
    )
    assert.deepStrictEqual(yield* table, [])
  })

const fails = Effect.fnUntraced(function* (outcome: Quirk.Outcome) {
  const error = yield* Effect.flip(Effect.scoped(map()))
  assert.strictEqual(error.reason._tag, outcome)
  assert.deepStrictEqual(yield* table, [])
})

/** Another run of the program maps, and nobody closes its scope. */
const killed = (differences: Partial<MappingRequest.MappingRequest> = {}) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const run = yield* Layer.buildWithScope(Layer.fresh(SimulatedRouter.layerHost()), scope)
    return yield* map(differences).pipe(Scope.provide(scope), Effect.provide(run))
  })

const looksLike = (formatted: string, differences: Partial<MappingRequest.MappingRequest> = {}) =>
  Effect.gen(function* () {
    const mapping = yield* map(differences)
    assert.strictEqual(PortMapping.format(yield* mapping.current), formatted)
    yield* assertLive(mapping)
  })

type Scenario = Effect.Effect<void, unknown, PortMapper.PortMapper | SimulatedRouter.SimulatedRouter | Scope.Scope>

/** What has to be seen of a client beside what `works` and `fails` look at. */
const scenarios: { readonly [name in Quirk.Quirk]?: Scenario } = {
  RefusesPermanentLeases: works({ lifetime: 0 }),
  RefusesLeasesAboveOneWeek: works({ lifetime: "3 weeks" }),
  ConflictInMappingEntry: looksLike("11.22.33.1:49152/tcp"),
  SamePortValuesRequired: looksLike("11.22.33.1:12000/tcp"),
  ExternalAddressZero: looksLike("port 12001/tcp of an unknown address"),
  ExternalAddressEmpty: looksLike("port 12001/tcp of an unknown address"),
  ExternalAddressPrivate: looksLike("10.11.12.13:12001/tcp"),
  ExternalAddressShared: looksLike("100.64.11.12:12001/tcp"),
  PermanentLeasesPileUp: Effect.gen(function* () {
    yield* Effect.replicateEffect(killed(), 3)
    assert.lengthOf(yield* table, 1)
  }),
  RestartEmptiesTable: Effect.gen(function* () {
    const mapping = yield* map()
    const router = yield* SimulatedRouter.SimulatedRouter
    yield* TestClock.adjust("1 minute")
    yield* router.reboot()
    assert.deepStrictEqual(yield* table, [])
    yield* assertLiveAfter(mapping, "30 minutes")
  }),
  RestartKeepsTable: Effect.gen(function* () {
    const mapping = yield* map()
    yield* SimulatedRouter.SimulatedRouter.use((router) => router.reboot())
    yield* assertLive(mapping)
    yield* assertLiveAfter(mapping, "30 minutes")
    assert.lengthOf(yield* table, 1)
  }),
  FreedPortsAreTaken: Effect.gen(function* () {
    const mapping = yield* map()
    yield* assertLiveAfter(mapping, "25 hours")
    assert.strictEqual((yield* mapping.current).externalPort, 12001)
  }),
  NeverForgets: Effect.gen(function* () {
    const { model } = yield* SimulatedRouter.SimulatedRouter
    const internalAddress = NetAddress.ipFromStringUnsafe("192.168.77.2")
    const { entries } = yield* Ledger.Ledger
    const before = yield* map()
    const noted = yield* entries("mock")
    yield* before.release
    // As if the process had been killed.
    yield* MemoryLedger.leave(noted)
    model.map(0, {
      via: "mock",
      client: internalAddress,
      protocol: "tcp",
      externalPort: 12001,
      mayChoosePort: false,
      internalAddress,
      internalPort: 12000,
      lifetimeSeconds: 3600,
      description: "effect-nat"
    })
    const mapping = yield* map({ externalPort: 12002 })
    yield* assertLiveAfter(mapping, "25 hours")
    assert.deepStrictEqual(
      (yield* table).map((entry) => entry.externalPort),
      [12002]
    )
  })
}

const scenarioOf = ({ name, outcome }: Quirk.Profile & { readonly name: Quirk.Quirk }): Scenario =>
  scenarios[name] ?? (outcome === "Mapped" ? works() : fails(outcome))

/** Breaks when the scenario passes, and when it fails for another reason than that its expectation is not met. */
const failsItsAssertions = <R>(scenario: Effect.Effect<void, unknown, R>) =>
  Effect.map(Effect.exit(scenario), (exit) => {
    assert.isTrue(Exit.isFailure(exit), "it is handled now: say so in its profile")
    if (Exit.isFailure(exit)) assert.propertyVal(Cause.squash(exit.cause), "name", "AssertionError")
  })

describe("met through the mock layer", () => {
  for (const profile of Quirk.runningIn("mock")) {
    const run = () =>
      scenarioOf(profile).pipe(
        Effect.provide(SimulatedRouter.layer({ quirks: [profile.name] }).pipe(Layer.provideMerge(MemoryLedger.layer)))
      )
    if (Quirk.isHandled(profile)) {
      it.effect(`${profile.name}: ${profile.outcome}`, run)
    } else {
      it.effect(`${profile.name}, not yet: ${profile.handled}`, () => failsItsAssertions(run()))
    }
  }

  // An expected failure proves something only where the quirk is what makes it fail.
  it.effect.each(Quirk.runningIn("mock").filter((profile) => !Quirk.isHandled(profile)))(
    "what fails with $name succeeds without it",
    (profile) => Effect.provide(scenarioOf(profile), SimulatedRouter.layer())
  )
})

const ip = NetAddress.ipFromStringUnsafe
const ownPlace = "192.168.77.2"

/** What a note says of the host: its attachments and its gateways. */
const placements: {
  readonly [name in Quirk.Quirk]?: (
    network: SimulatedNetwork.SimulatedNetwork,
    own: SimulatedNetwork.Attachment,
    router: SimulatedNetwork.Router
  ) => SimulatedNetwork.Placement
} = {
  DeadSecondGateway: (_, own, router) => ({ attachments: [own], gateways: [router, ip("192.168.77.254")] }),
  DockerBridge: (network, own, router) => ({
    attachments: [{ lan: network.addLan({ network: "172.17.0.0/16" }), address: "172.17.0.1", name: "docker0" }, own],
    gateways: [router]
  }),
  VpnInterface: (network, own, router) => ({
    attachments: [own, { lan: network.addLan({ network: "10.8.0.0/24" }), address: "10.8.0.2", name: "tun0" }],
    gateways: [router, ip("10.8.0.1")]
  }),
  HostOnlyNetwork: (network, own, router) => ({
    attachments: [
      { lan: network.addLan({ network: "192.168.56.0/24" }), address: "192.168.56.1", name: "vboxnet0" },
      own
    ],
    gateways: [router]
  }),
  PinholeNeedsGlobalAddress: (network, own, router) => {
    const lan = network.addLan({ network: "2001:db8:77::/64" })
    const devices = router.devices.map(({ onRequest }) => ({ onRequest }))
    network.addAppliance({ lan, address: "2001:db8:77::1", devices })
    const attachments = [own, { lan, address: "2001:db8:77::2", name: "eth1" }]
    return { attachments, gateways: [router, ip("2001:db8:77::1")] }
  },
  FailoverPair: (network, own) => ({
    attachments: [own],
    gateways: [
      network.addRouter({
        lan: own.lan,
        model: new RouterModel.RouterModel({ address: ip("192.168.77.3") }),
        devices: []
      })
    ]
  })
}

describe("built as its note says", () => {
  it.effect.each(Object.entries(placements))("%s is in nobody's way", ([, placementOf]) =>
    Effect.gen(function* () {
      const network = SimulatedNetwork.make({ seed: 1 })
      const lan = network.addLan({ network: "192.168.77.0/24" })
      const model = new RouterModel.RouterModel()
      const router = network.addRouter({ lan, model, devices: [SimulatedDevice.upnp(model)] })
      const host = network.addHost(placementOf(network, { lan, address: ownPlace }, router))
      const mapped = map().pipe(
        Effect.map(() => network.reach("tcp", NetAddress.inetAddressUnsafe(ip("11.22.33.1"), 12001))),
        Effect.scoped,
        Effect.provide(Upnp.layer)
      )
      const to = yield* network.run(host.start(), mapped)
      assert.strictEqual(to === undefined ? undefined : NetAddress.formatInet(to), `${ownPlace}:12000`)
    })
  )
})

describe("the list", () => {
  it("has quirks of every kind", () => {
    assert.deepStrictEqual(
      [...new Set(Quirk.profiles.map((profile) => profile.item))],
      Array.from({ length: 17 }, (_, i) => i + 1)
    )
  })

  it("has no name twice", () => {
    assert.strictEqual(new Set(Quirk.names).size, Quirk.profiles.length)
  })

  it("says in one sentence what each is, and why it is not handled where it is not", () => {
    for (const { handled, name, what } of Quirk.profiles) {
      assert.match(what, /^[A-Z][^\n]+\.$/, name)
      assert.match(handled, /^(yes|.{20,})$/, name)
    }
  })

  it("has the framing of HTTP on sockets only, and the table's quirks everywhere", () => {
    for (const { name, strengths, where } of Quirk.profiles) {
      if (where === "http") assert.deepStrictEqual<ReadonlyArray<string>>(strengths, ["loopback"], name)
      if (where === "table") {
        assert.deepStrictEqual<ReadonlyArray<string>>(strengths, ["mock", "loopback", "network"], name)
      }
    }
  })

  it("says what can show over NAT-PMP and PCP: neither what UPnP alone refuses, nor what it alone says", () => {
    const outside = Quirk.profiles.filter(({ protocols }) => !protocols.some((one) => one === "natpmp"))
    assert.deepStrictEqual<ReadonlyArray<string>>(
      outside.filter(({ where }) => where === "table").map(({ name }) => name),
      [
        "OnlyPermanentLeases",
        "InvalidArgsForLeases",
        "ExpiresLeasesAtOnce",
        "RefusesPermanentLeases",
        "RefusesLeasesAboveOneWeek",
        "RemoteHostOnlySupportsWildcard",
        "ExternalPortOnlySupportsWildcard",
        "ConflictWithOtherMechanisms",
        "WildCardNotPermittedInIntPort",
        "DeletionSaysNoSuchEntry"
      ]
    )
    for (const { name, protocols, where } of Quirk.profiles) {
      if (["ssdp", "description", "http", "soap"].includes(where))
        assert.deepStrictEqual([...protocols], ["upnp"], name)
    }
  })

  it("has no refusal of the table over NAT-PMP and PCP that UPnP alone gets", () => {
    const address = ip(ownPlace)
    const request = {
      client: address,
      protocol: "tcp",
      externalPort: 9,
      internalPort: 0,
      lifetimeSeconds: 7e5
    } as const
    for (const { name, protocols, where } of Quirk.profiles) {
      if (where !== "table" || protocols.some((one) => one === "natpmp")) continue
      const model = new RouterModel.RouterModel({ quirks: [name] })
      const rest = { mayChoosePort: true, internalAddress: address, remoteHost: address, nonce: undefined }
      assert.strictEqual(model.map(0, { via: "natpmp", ...request, ...rest })._tag, "Success", name)
    }
  })

  it("runs each somewhere, and some in every strength", () => {
    assert.deepStrictEqual(
      Quirk.names.filter((name) => (Quirk.profileOf(name).strengths as ReadonlyArray<string>).length === 0),
      []
    )
    for (const strength of ["mock", "loopback", "network"] as const) assert.isNotEmpty(Quirk.runningIn(strength))
  })

  it("says how to build what is not a router's own", () => {
    assert.deepStrictEqual<ReadonlyArray<string>>(
      Quirk.names.filter((name) => Quirk.profileOf(name).note !== undefined).toSorted(),
      Object.keys(placements).toSorted()
    )
    for (const { name, note } of Quirk.names.map(Quirk.profileOf)) {
      if (note !== undefined) assert.match(note, /^[A-Z].+SimulatedNetwork.+\.$/, name)
    }
  })

  it("finds a profile by its name", () => {
    for (const name of Quirk.names) assert.strictEqual(Quirk.profileOf(name).name, name)
  })
})
