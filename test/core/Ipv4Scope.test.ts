import * as Ipv4Scope from "@effect-nat/core/Ipv4Scope"
import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"

describe("Ipv4Scope", () => {
  it.each([
    ["9.255.255.255", true],
    ["10.0.0.0", false],
    ["10.255.255.255", false],
    ["11.0.0.0", true],
    ["100.63.255.255", true],
    ["100.64.0.0", false],
    ["100.127.255.255", false],
    ["100.128.0.0", true],
    ["172.15.255.255", true],
    ["172.16.0.0", false],
    ["172.31.255.255", false],
    ["172.32.0.0", true],
    ["192.167.255.255", true],
    ["192.168.0.0", false],
    ["192.168.255.255", false],
    ["192.169.0.0", true],
    ["127.0.0.1", false],
    ["169.254.1.1", false],
    ["0.0.0.0", false],
    ["224.0.0.1", false],
    ["2001:db8::1", false]
  ])("%s: public is %s", (text, isPublic) => {
    assert.strictEqual(Ipv4Scope.isPublic(NetAddress.ipFromStringUnsafe(text)), isPublic)
  })

  it("tells a provider's NAT from a second router", () => {
    const [shared, own] = [NetAddress.ipFromStringUnsafe("100.64.0.9"), NetAddress.ipFromStringUnsafe("192.168.0.2")]
    assert.deepStrictEqual([Ipv4Scope.isShared(shared), Ipv4Scope.isShared(own)], [true, false])
    assert.include(Ipv4Scope.whatIsBeyond(shared), "carrier-grade NAT")
    assert.include(Ipv4Scope.whatIsBeyond(own), "double NAT")
  })
})
