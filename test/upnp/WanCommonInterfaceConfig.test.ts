import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import type * as Soap from "@effect-nat/upnp/Soap"
import * as WanCommonInterfaceConfig from "@effect-nat/upnp/WanCommonInterfaceConfig"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Answering from "./answering.ts"

const service = Answering.service(`${DeviceDescription.serviceTypes.wanCommonInterfaceConfig}:1`)

const line = (results: Soap.Arguments) => {
  const { calls, client } = Answering.always(results)
  return { calls, line: WanCommonInterfaceConfig.make(client, service) }
}

describe("the line", () => {
  it.effect("has properties, a provider and connections [COMMON1 2.4.3-a, 2.4.10-a]", () =>
    Effect.gen(function* () {
      const { calls, line: one } = line([
        ["NewWANAccessType", "Cable"],
        ["NewLayer1UpstreamMaxBitRate", "50000000"],
        ["NewLayer1DownstreamMaxBitRate", "10000000000"],
        ["NewPhysicalLinkStatus", "Up"],
        ["NewEnabledForInternet", "1"],
        ["NewWANAccessProvider", " Some\nProvider "],
        ["NewMaximumActiveConnections", "4"],
        ["NewActiveConnDeviceContainer", "uuid:1:WANConnectionDevice:1"],
        ["NewActiveConnectionServiceID", "urn:upnp-org:serviceId:WANIPConn1"]
      ])
      assert.deepStrictEqual(yield* one.getCommonLinkProperties, {
        wanAccessType: "Cable",
        upstreamMaxBitRate: 50_000_000,
        downstreamMaxBitRate: 10_000_000_000,
        physicalLinkStatus: "Up"
      })
      assert.isTrue(yield* one.getEnabledForInternet)
      assert.strictEqual(yield* one.getWanAccessProvider, "Some Provider")
      assert.strictEqual(yield* one.getMaximumActiveConnections, 4)
      assert.deepStrictEqual(yield* one.getActiveConnection(2), {
        deviceContainer: "uuid:1:WANConnectionDevice:1",
        serviceId: "urn:upnp-org:serviceId:WANIPConn1"
      })
      assert.deepStrictEqual(calls, [
        "GetCommonLinkProperties()",
        "GetEnabledForInternet()",
        "GetWANAccessProvider()",
        "GetMaximumActiveConnections()",
        "GetActiveConnection(NewActiveConnectionIndex=2)"
      ])
    })
  )

  it.effect("has four counters", () =>
    Effect.gen(function* () {
      const { calls, line: one } = line([
        ["NewTotalBytesSent", "1"],
        ["NewTotalBytesReceived", "2"],
        ["NewTotalPacketsSent", "3"],
        ["NewTotalPacketsReceived", "4"]
      ])
      assert.strictEqual(yield* one.getTotalBytesSent, 1)
      assert.strictEqual(yield* one.getTotalBytesReceived, 2)
      assert.strictEqual(yield* one.getTotalPacketsSent, 3)
      assert.strictEqual(yield* one.getTotalPacketsReceived, 4)
      assert.deepStrictEqual(calls, [
        "GetTotalBytesSent()",
        "GetTotalBytesReceived()",
        "GetTotalPacketsSent()",
        "GetTotalPacketsReceived()"
      ])
    })
  )

  it.effect("says nothing where the router leaves everything out", () =>
    Effect.gen(function* () {
      const { line: one } = line([])
      assert.deepStrictEqual(yield* one.getCommonLinkProperties, {
        wanAccessType: "",
        upstreamMaxBitRate: undefined,
        downstreamMaxBitRate: undefined,
        physicalLinkStatus: ""
      })
      assert.isUndefined(yield* one.getTotalBytesSent)
      assert.isUndefined(yield* one.getEnabledForInternet)
    })
  )

  it.effect.each([
    ["4294967295", 4_294_967_295],
    ["0004294967296", 4_294_967_296],
    ["-1", 4_294_967_295],
    ["-2147483648", 2_147_483_648],
    ["-0", 0],
    ["-2147483649", undefined],
    ["999999999999999", 999_999_999_999_999],
    ["9999999999999999", undefined],
    ["12.5", undefined],
    ["1e9", undefined],
    ["", undefined]
  ] as const)("a counter of %j is %s [COMMON1 2.4.6-a]", ([text, expected]) =>
    Effect.gen(function* () {
      const { line: one } = line([["NewTotalBytesSent", text]])
      assert.strictEqual(yield* one.getTotalBytesSent, expected)
    })
  )
})
