import * as Ipv6Scope from "@effect-nat/core/Ipv6Scope"
import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"

describe("Ipv6Scope", () => {
  it.each([
    ["2000::1", true],
    ["2001:db8::2", true],
    ["3fff:ffff::", true],
    ["1fff::1", false],
    ["4000::1", false],
    ["fd00::1", false],
    ["fe80::1", false],
    ["::1", false],
    ["ff02::1", false],
    ["11.22.33.1", false]
  ] as const)("%s is global: %s", (text, expected) => {
    assert.strictEqual(Ipv6Scope.isGlobal(NetAddress.ipFromStringUnsafe(text)), expected)
  })

  it("the world has such an address", () => {
    assert.strictEqual(NetAddress.formatIp(Ipv6Scope.world), "2000::1")
    assert.isTrue(Ipv6Scope.isGlobal(Ipv6Scope.world))
  })
})
