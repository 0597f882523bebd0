import * as RouterModel from "@effect-nat/testing/RouterModel"
import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"

const ip = NetAddress.ipFromStringUnsafe
const here = ip("192.168.77.2")
const there = ip("192.168.77.3")
const peer = ip("8.8.8.8")

const request = (differences: Partial<RouterModel.MapRequest> = {}): RouterModel.MapRequest => {
  const client = differences.client ?? here
  return {
    via: "upnp",
    client,
    protocol: "tcp",
    externalPort: 12001,
    mayChoosePort: false,
    internalAddress: client,
    internalPort: 12000,
    lifetimeSeconds: 100,
    description: "a",
    ...differences
  }
}

const granted = (result: Result.Result<RouterModel.Entry, RouterModel.Refusal>) => Result.getOrThrow(result)
const refused = (result: Result.Result<RouterModel.Entry, RouterModel.Refusal>) => {
  assert.isTrue(Result.isFailure(result), "it was granted")
  return Result.isFailure(result) ? [result.failure.kind, result.failure.igdCode] : []
}
const ports = (router: RouterModel.RouterModel, now: number) => router.entries(now).map((entry) => entry.externalPort)
const destination = (router: RouterModel.RouterModel, now: number, from = peer) => {
  const to = router.forward(now, "tcp", 12001, from)
  return to === undefined ? undefined : NetAddress.formatInet(to)
}

describe("a lease", () => {
  it("ends with its last millisecond, and forwards until then", () => {
    const router = new RouterModel.RouterModel()
    assert.strictEqual(granted(router.map(1000, request())).expiresAt, 101_000)
    assert.deepStrictEqual(ports(router, 100_999), [12001])
    assert.strictEqual(destination(router, 100_999), "192.168.77.2:12000")
    assert.deepStrictEqual(ports(router, 101_000), [])
    assert.isUndefined(destination(router, 101_000))
  })

  it("is renewed in place, with what the last request says", () => {
    const router = new RouterModel.RouterModel()
    router.map(0, request())
    granted(router.map(50_000, request({ description: "b" })))
    assert.deepStrictEqual(
      router.entries(149_999).map((entry) => [entry.externalPort, entry.description, entry.expiresAt]),
      [[12001, "b", 150_000]]
    )
  })

  it("keeps its place in the table when it is renewed or changed, and has none when it is back", () => {
    const router = new RouterModel.RouterModel()
    for (const externalPort of [12001, 12002, 12003]) router.map(0, request({ externalPort }))
    router.map(50_000, request())
    router.map(50_000, request({ externalPort: 12002, internalPort: 12009 }))
    assert.deepStrictEqual(ports(router, 50_000), [12001, 12002, 12003])
    router.unmap(50_000, (entry) => entry.externalPort === 12001)
    router.map(50_000, request())
    assert.deepStrictEqual(ports(router, 50_000), [12002, 12003, 12001])
  })

  it("is no longer than the router's longest, and without an end for 0", () => {
    const router = new RouterModel.RouterModel({ maxLifetimeSeconds: 60 })
    assert.strictEqual(granted(router.map(0, request())).expiresAt, 60_000)
    assert.isUndefined(granted(router.map(0, request({ externalPort: 12002, lifetimeSeconds: 0 }))).expiresAt)
    assert.deepStrictEqual(ports(router, Number.MAX_SAFE_INTEGER), [12002])
  })

  it("that is deleted is gone, and tells how many there were", () => {
    const router = new RouterModel.RouterModel()
    router.map(0, request())
    router.map(0, request({ externalPort: 12002 }))
    assert.strictEqual(
      router.unmap(0, (entry) => entry.externalPort === 12001),
      1
    )
    assert.strictEqual(
      router.unmap(0, (entry) => entry.externalPort === 12001),
      0
    )
    assert.strictEqual(
      router.unmap(100_000, () => true),
      0
    )
  })
})

describe("an external port", () => {
  it("of another host is a conflict, of another protocol is none", () => {
    const router = new RouterModel.RouterModel()
    router.map(0, request())
    assert.deepStrictEqual(refused(router.map(0, request({ client: there }))), ["Conflict", 718])
    granted(router.map(0, request({ client: there, protocol: "udp" })))
    granted(router.map(100_000, request({ client: there })))
  })

  it("that is taken is replaced by a free one where the router may choose", () => {
    const router = new RouterModel.RouterModel()
    router.map(0, request())
    const other = granted(router.map(0, request({ client: there, via: "natpmp", mayChoosePort: true })))
    assert.strictEqual(other.externalPort, 49_152)
    const any = granted(
      router.map(0, request({ client: there, internalPort: 1, externalPort: 0, mayChoosePort: true }))
    )
    assert.strictEqual(any.externalPort, 49_153)
  })

  it("stays the one that an internal port has, over NAT-PMP and PCP", () => {
    const router = new RouterModel.RouterModel()
    for (const via of ["natpmp", "pcp"] as const) {
      router.map(0, request({ via, mayChoosePort: true }))
      const again = granted(router.map(0, request({ via, mayChoosePort: true, externalPort: 13000 })))
      assert.strictEqual(again.externalPort, 12001)
      assert.lengthOf(router.entries(0), 1)
    }
  })

  it("leads to one place, whatever the remote host: the same client's for another one is a conflict", () => {
    const router = new RouterModel.RouterModel()
    const elsewhere = request({ remoteHost: ip("9.9.9.9"), internalPort: 12001 })
    router.map(0, request({ remoteHost: peer }))
    assert.deepStrictEqual(refused(router.map(0, elsewhere)), ["Conflict", 718])
    assert.deepStrictEqual(refused(router.map(0, request())), ["Conflict", 718])
    assert.strictEqual(destination(router, 0), "192.168.77.2:12000")
    granted(router.map(0, request({ remoteHost: peer, internalPort: 12001 })))
    assert.strictEqual(destination(router, 0), "192.168.77.2:12001")
  })

  it("may be one of several that an internal port has, over UPnP", () => {
    const router = new RouterModel.RouterModel()
    router.map(0, request())
    router.map(0, request({ externalPort: 13000 }))
    assert.deepStrictEqual(ports(router, 0), [12001, 13000])
  })
})

describe("a packet", () => {
  it("from elsewhere than the remote host of a mapping goes nowhere", () => {
    const router = new RouterModel.RouterModel()
    router.map(0, request({ remoteHost: peer }))
    assert.strictEqual(destination(router, 0), "192.168.77.2:12000")
    assert.isUndefined(destination(router, 0, ip("9.9.9.9")))
  })

  it("to a mapping that is switched off goes nowhere", () => {
    const router = new RouterModel.RouterModel()
    router.map(0, request({ enabled: false }))
    assert.isUndefined(destination(router, 0))
  })
})

describe("the router", () => {
  it("has room for its capacity, renewals aside", () => {
    const router = new RouterModel.RouterModel({ capacity: 1 })
    router.map(0, request())
    assert.deepStrictEqual(refused(router.map(0, request({ externalPort: 12002 }))), ["OutOfResources", 728])
    granted(router.map(0, request()))
    granted(router.map(100_000, request({ externalPort: 12002 })))
  })

  it("restarts with an epoch of 0, another boot id, and nothing mapped", () => {
    const router = new RouterModel.RouterModel({ startedAt: 1000 })
    let changes = 0
    const stop = router.onChange(() => (changes += 1))
    router.map(1000, request())
    assert.strictEqual(router.epochSeconds(61_999), 60)
    router.reboot(62_000)
    assert.deepStrictEqual(ports(router, 62_000), [])
    assert.strictEqual(router.epochSeconds(63_000), 1)
    assert.strictEqual(router.bootId, 2)
    assert.strictEqual(changes, 1)
    stop()
    router.reboot(62_000)
    assert.strictEqual(changes, 1)
  })

  it("gives back over a restart what other hosts had, unless they keep it", () => {
    const router = new RouterModel.RouterModel({ quirks: ["FreedPortsAreTaken"] })
    router.map(0, request())
    router.unmap(0, () => true)
    router.reboot(1000, { keepsTable: true })
    assert.deepStrictEqual(refused(router.map(1000, request())), ["Conflict", 718])
    router.reboot(2000)
    granted(router.map(2000, request()))
  })

  it("gives a port that is taken from it back when it is freed, not before", () => {
    const router = new RouterModel.RouterModel()
    const { externalPort, protocol } = granted(router.map(0, request()))
    router.takePort({ protocol, externalPort })
    router.reboot(0)
    assert.isTrue(router.isTaken({ protocol, externalPort }))
    assert.deepStrictEqual(refused(router.map(0, request())), ["Conflict", 718])
    router.freePort({ protocol, externalPort })
    granted(router.map(0, request()))
  })

  it("remembers the last requests only, and how many there were before", () => {
    const router = new RouterModel.RouterModel()
    const { maximumAsked } = RouterModel
    for (let at = 0; at < maximumAsked + 3; at++) {
      router.note({ at, via: "mock", client: here, action: "probe", isMutating: false })
    }
    assert.deepStrictEqual(
      [router.asked.length, router.asked[0]?.at, router.asked.at(-1)?.at, router.forgottenAsked],
      [maximumAsked, 3, maximumAsked + 2, 3]
    )
  })

  it("keeps its table over a restart where it is told to", () => {
    const router = new RouterModel.RouterModel()
    router.map(0, request())
    router.map(0, request({ externalPort: 12002, lifetimeSeconds: 1 }))
    router.reboot(1000, { keepsTable: true })
    assert.deepStrictEqual(ports(router, 1000), [12001])
  })

  it("without an address refuses NAT-PMP and PCP, and maps over UPnP", () => {
    const router = new RouterModel.RouterModel({ externalAddress: null })
    assert.deepStrictEqual(refused(router.map(0, request({ via: "natpmp" }))), ["NetworkFailure", 501])
    assert.deepStrictEqual(refused(router.map(0, request({ via: "pcp" }))), ["NetworkFailure", 501])
    granted(router.map(0, request()))
    router.changeExternalAddress(ip("11.22.33.2"))
    granted(router.map(0, request({ via: "natpmp" })))
  })

  it("refuses as often as it is told to, and changes nothing then", () => {
    const router = new RouterModel.RouterModel()
    router.refuseNext("NotAuthorized", "ActionFailed")
    assert.deepStrictEqual(refused(router.map(0, request())), ["NotAuthorized", 606])
    assert.deepStrictEqual(refused(router.map(0, request())), ["ActionFailed", 501])
    assert.deepStrictEqual(ports(router, 0), [])
    granted(router.map(0, request()))
  })

  it("is silent until its time or until it is woken", () => {
    const router = new RouterModel.RouterModel()
    assert.isFalse(router.isSilent(0))
    router.goSilent(1000)
    assert.isTrue(router.isSilent(999))
    assert.isFalse(router.isSilent(1000))
    router.goSilent()
    assert.isTrue(router.isSilent(Number.MAX_SAFE_INTEGER))
    router.wake()
    assert.isFalse(router.isSilent(0))
  })

  it("loses as many answers as it is told to", () => {
    const router = new RouterModel.RouterModel()
    router.loseNextAnswer()
    const asked = { at: 0, via: "mock", client: router.address, action: "probe", isMutating: false } as const
    const serve = () => router.serve(asked, () => "answer")
    // Nobody could tell that nothing got lost.
    assert.isUndefined(router.serve(asked, () => undefined))
    assert.strictEqual(router.lostAnswers, 0)
    assert.deepStrictEqual([serve(), serve(), router.lostAnswers], [undefined, "answer", 1])
    assert.lengthOf(router.asked, 3)
  })
})

describe("a quirk", () => {
  const map = (quirk: RouterModel.Options["quirks"], differences: Partial<RouterModel.MapRequest> = {}) =>
    new RouterModel.RouterModel({ quirks: quirk }).map(0, request(differences))

  it.each([
    ["OnlyPermanentLeases", "OnlyPermanentLeases", 725, {}],
    ["InvalidArgsForLeases", "OnlyPermanentLeases", 402, {}],
    ["PermanentLeasesPileUp", "OnlyPermanentLeases", 725, {}],
    ["PermanentLeasesVanishOvernight", "OnlyPermanentLeases", 725, {}],
    ["RefusesPermanentLeases", "InvalidLifetime", 601, { lifetimeSeconds: 0 }],
    ["RefusesLeasesAboveOneWeek", "InvalidLifetime", 601, { lifetimeSeconds: 604_801 }],
    ["ConflictInMappingEntry", "Conflict", 718, {}],
    ["SamePortValuesRequired", "SamePortRequired", 724, {}],
    ["RemoteHostOnlySupportsWildcard", "RemoteHostWildcardOnly", 726, { remoteHost: peer }],
    ["ExternalPortOnlySupportsWildcard", "ExternalPortWildcardOnly", 727, {}],
    ["NoPortMapsAvailable", "OutOfResources", 728, {}],
    ["ConflictWithOtherMechanisms", "Conflict", 729, {}],
    ["WildCardNotPermittedInIntPort", "InternalPortWildcardForbidden", 732, { internalPort: 0 }],
    ["ActionNotAuthorized", "NotAuthorized", 606, {}],
    ["TableFullIsActionFailed", "OutOfResources", 501, {}]
  ] as const)("%s refuses with %s, error %i", (quirk, kind, igdCode, differences) => {
    assert.deepStrictEqual(refused(map([quirk], differences)), [kind, igdCode])
    granted(map([], differences))
  })

  it.each([
    ["RefusesPermanentLeases", {}],
    ["RefusesLeasesAboveOneWeek", { lifetimeSeconds: 604_800 }],
    ["RemoteHostOnlySupportsWildcard", {}],
    ["SamePortValuesRequired", { externalPort: 12000 }],
    ["OnlyPermanentLeases", { lifetimeSeconds: 0 }],
    // NAT-PMP has no permanent leases to insist on, and leaves the choice of the port to the router.
    ["OnlyPermanentLeases", { via: "natpmp" }],
    ["ConflictInMappingEntry", { mayChoosePort: true }]
  ] as const)("%s leaves other requests alone", (quirk, differences) => {
    granted(map([quirk], differences))
  })

  it("SamePortValuesRequired gives NAT-PMP the internal port", () => {
    const { externalPort } = granted(map(["SamePortValuesRequired"], { via: "natpmp", mayChoosePort: true }))
    assert.strictEqual(externalPort, 12000)
  })

  it("ExpiresLeasesAtOnce promises what it does not keep", () => {
    const router = new RouterModel.RouterModel({ quirks: ["ExpiresLeasesAtOnce"] })
    assert.strictEqual(granted(router.map(0, request())).expiresAt, 100_000)
    assert.deepStrictEqual(ports(router, 0), [])
    router.map(0, request({ lifetimeSeconds: 0 }))
    assert.deepStrictEqual(ports(router, 1), [12001])
  })

  it("NeverForgets keeps what it promised an end for", () => {
    const router = new RouterModel.RouterModel({ quirks: ["NeverForgets"] })
    assert.strictEqual(granted(router.map(0, request())).expiresAt, 100_000)
    assert.deepStrictEqual(ports(router, Number.MAX_SAFE_INTEGER), [12001])
  })

  it("DeletionSaysNoSuchEntry deletes all the same", () => {
    const router = new RouterModel.RouterModel({ quirks: ["DeletionSaysNoSuchEntry"] })
    router.map(0, request())
    assert.strictEqual(
      router.unmap(0, () => true),
      0
    )
    assert.deepStrictEqual(ports(router, 0), [])
  })

  it("LeasesVanishOvernight empties the table once a day", () => {
    const day = 86_400_000
    const router = new RouterModel.RouterModel({ quirks: ["LeasesVanishOvernight"], startedAt: 5 })
    router.map(5, request({ lifetimeSeconds: 0 }))
    assert.deepStrictEqual(ports(router, day + 4), [12001])
    assert.deepStrictEqual(ports(router, day + 5), [])
    router.map(day + 5, request({ lifetimeSeconds: 0 }))
    assert.deepStrictEqual(ports(router, 2 * day + 4), [12001])
    assert.deepStrictEqual(ports(router, 2 * day + 5), [])
  })

  it("LeasesVanishOvernight counts the nights from a restart, which brings nothing back", () => {
    const day = 86_400_000
    const router = new RouterModel.RouterModel({ quirks: ["LeasesVanishOvernight", "RestartKeepsTable"] })
    router.map(0, request({ lifetimeSeconds: 0 }))
    router.reboot(2.5 * day)
    assert.deepStrictEqual(ports(router, 2.5 * day), [])
    router.map(2.5 * day, request({ lifetimeSeconds: 0 }))
    assert.deepStrictEqual(ports(router, 3.5 * day - 1), [12001])
    assert.deepStrictEqual(ports(router, 3.5 * day), [])
  })

  it("ConflictInMappingEntry takes one port only, for good", () => {
    const router = new RouterModel.RouterModel({ quirks: ["ConflictInMappingEntry"] })
    assert.deepStrictEqual(refused(router.map(0, request())), ["Conflict", 718])
    granted(router.map(0, request({ externalPort: 12002 })))
    assert.deepStrictEqual(refused(router.map(0, request({ client: there }))), ["Conflict", 718])
  })

  it("FreedPortsAreTaken gives a port that was deleted or ran out to nobody else, and renews in place", () => {
    const router = new RouterModel.RouterModel({ quirks: ["FreedPortsAreTaken"] })
    router.map(0, request())
    granted(router.map(50_000, request()))
    router.unmap(50_000, () => true)
    assert.deepStrictEqual(refused(router.map(50_000, request())), ["Conflict", 718])
    router.map(50_000, request({ externalPort: 12002 }))
    assert.deepStrictEqual(refused(router.map(150_000, request({ externalPort: 12002 }))), ["Conflict", 718])
  })

  it("RestartKeepsTable keeps the mappings, unless told otherwise", () => {
    const router = new RouterModel.RouterModel({ quirks: ["RestartKeepsTable"] })
    router.map(0, request())
    router.reboot(0)
    assert.deepStrictEqual(ports(router, 0), [12001])
    router.reboot(0, { keepsTable: false })
    assert.deepStrictEqual(ports(router, 0), [])
  })

  it.each([
    ["ExternalAddressZero", "0.0.0.0"],
    ["ExternalAddressEmpty", undefined],
    ["ExternalAddressPrivate", "10.11.12.13"],
    ["ExternalAddressShared", "100.64.11.12"]
  ] as const)("%s makes the external address %s, unless one is given", (quirk, address) => {
    const { externalAddress } = new RouterModel.RouterModel({ quirks: [quirk] })
    assert.strictEqual(externalAddress === undefined ? undefined : NetAddress.formatIp(externalAddress), address)
    const given = new RouterModel.RouterModel({ quirks: [quirk], externalAddress: peer })
    assert.strictEqual(given.externalAddress, peer)
  })
})
