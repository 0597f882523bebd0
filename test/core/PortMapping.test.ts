import * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as NetAddress from "effect/net/NetAddress"

const ip = NetAddress.ipFromStringUnsafe

const mapping = (differences: Partial<PortMapping.PortMapping> = {}) =>
  new PortMapping.PortMapping({
    remoteHost: undefined,
    externalAddress: ip("11.22.33.1"),
    externalPort: 12001,
    protocol: "tcp",
    internalPort: 12000,
    internalAddress: ip("192.168.77.2"),
    enabled: true,
    description: "effect-nat",
    lifetime: Duration.hours(2),
    gateway: ip("192.168.77.1"),
    method: "upnp",
    status: "mapped",
    ...differences
  })

describe("PortMapping", () => {
  it("format shows where the service is reached, as far as that is known", () => {
    assert.strictEqual(PortMapping.format(mapping()), "11.22.33.1:12001/tcp")
    assert.strictEqual(PortMapping.format(mapping({ protocol: "udp" })), "11.22.33.1:12001/udp")
    assert.strictEqual(PortMapping.format(mapping({ externalAddress: ip("2001:db8::1") })), "[2001:db8::1]:12001/tcp")
    assert.strictEqual(
      PortMapping.format(mapping({ externalAddress: undefined })),
      "port 12001/tcp of an unknown address"
    )
    assert.strictEqual(
      PortMapping.format(mapping({ externalAddress: undefined, externalPort: undefined })),
      "192.168.77.2:12000/tcp"
    )
  })

  it("external is known only when both parts are", () => {
    const external = PortMapping.external(mapping())
    assert.isDefined(external)
    assert.strictEqual(NetAddress.formatInet(external), "11.22.33.1:12001")
    assert.isUndefined(PortMapping.external(mapping({ externalAddress: undefined })))
    assert.isUndefined(PortMapping.external(mapping({ externalPort: undefined })))
    assert.strictEqual(NetAddress.formatInet(PortMapping.internal(mapping())), "192.168.77.2:12000")
  })

  it("lifetimeSeconds is what protocols count: 0 for permanent", () => {
    assert.strictEqual(PortMapping.lifetimeSeconds(mapping()), 7200)
    assert.strictEqual(PortMapping.lifetimeSeconds(mapping({ lifetime: Duration.millis(1999) })), 1)
    assert.strictEqual(PortMapping.lifetimeSeconds(mapping({ lifetime: Duration.infinity })), 0)
    assert.isUndefined(PortMapping.lifetimeSeconds(mapping({ lifetime: undefined })))
  })

  it("isSameContact notices what a peer would notice, and nothing else", () => {
    const same: Array<Partial<PortMapping.PortMapping>> = [
      {},
      { lifetime: Duration.seconds(1) },
      { description: "another" },
      { enabled: false },
      { externalAddress: ip("11.22.33.1") }
    ]
    for (const differences of same) {
      assert.isTrue(PortMapping.isSameContact(mapping(), mapping(differences)), JSON.stringify(differences))
    }
    const other: Array<Partial<PortMapping.PortMapping>> = [
      { externalAddress: ip("11.22.33.2") },
      { externalAddress: undefined },
      { externalPort: 12002 },
      { externalPort: undefined },
      { internalAddress: ip("192.168.77.3") },
      { internalPort: 12009 },
      { gateway: ip("192.168.77.254") },
      { gateway: undefined },
      { status: "lost" }
    ]
    for (const differences of other) {
      assert.isFalse(PortMapping.isSameContact(mapping(), mapping(differences)), JSON.stringify(differences))
      assert.isFalse(PortMapping.isSameContact(mapping(differences), mapping()), JSON.stringify(differences))
    }
  })
})
