import type * as NatError from "@effect-nat/core/NatError"
import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import type * as Soap from "@effect-nat/upnp/Soap"
import * as UpnpErrorCode from "@effect-nat/upnp/UpnpErrorCode"
import * as WanIpv6FirewallControl from "@effect-nat/upnp/WanIpv6FirewallControl"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Answering from "./answering.ts"
import * as Router from "./router.ts"

const service = Answering.service(`${DeviceDescription.serviceTypes.wanIpv6FirewallControl}:1`)

const firewall = (results: Soap.Arguments) => {
  const { calls, client } = Answering.always(results)
  return { calls, firewall: WanIpv6FirewallControl.make(client, service) }
}

const flow: WanIpv6FirewallControl.Flow = {
  remoteHost: "",
  remotePort: 0,
  internalClient: "2001:db8::2",
  internalPort: 12000,
  protocol: "TCP"
}

const reasonOf = (error: NatError.NatError | Soap.UpnpFault): string =>
  error._tag === "UpnpFault" ? `fault ${error.code}` : error.reason._tag

describe("the IPv6 firewall [FW1 2.4.7-a, 2.4.9-a, 2.6.1-a, 2.6.2-a, 2.6.3-a, 2.6.4-a, 2.6.5-a, 2.6.6-a]", () => {
  it.effect("is asked in the document's order, with the numbers of the protocols [UDA 3.2.1-e]", () =>
    Effect.gen(function* () {
      const { calls, firewall: one } = firewall([
        ["FirewallEnabled", "1"],
        ["InboundPinholeAllowed", "0"],
        ["OutboundPinholeTimeout", "240"],
        ["UniqueID", "65535"],
        ["PinholePackets", "5"],
        ["IsWorking", "yes"]
      ])
      assert.deepStrictEqual(yield* one.getFirewallStatus, { isEnabled: true, isInboundPinholeAllowed: false })
      assert.strictEqual(yield* one.getOutboundPinholeTimeout({ ...flow, protocol: "UDP" }), 240)
      assert.strictEqual(yield* one.addPinhole({ ...flow, leaseSeconds: 86_400 }), 65_535)
      yield* one.updatePinhole({ uniqueId: 7, leaseSeconds: 1 })
      yield* one.deletePinhole(7)
      assert.strictEqual(yield* one.getPinholePackets(7), 5)
      assert.isTrue(yield* one.checkPinholeWorking(7))
      const flowText = "RemoteHost=, RemotePort=0, InternalClient=2001:db8::2, InternalPort=12000, Protocol"
      assert.deepStrictEqual(calls, [
        "GetFirewallStatus()",
        `GetOutboundPinholeTimeout(${flowText}=17)`,
        `AddPinhole(${flowText}=6, LeaseTime=86400)`,
        "UpdatePinhole(UniqueID=7, NewLeaseTime=1)",
        "DeletePinhole(UniqueID=7)",
        "GetPinholePackets(UniqueID=7)",
        "CheckPinholeWorking(UniqueID=7)"
      ])
    })
  )

  it.effect.each([0, 86_401, 1.5, Number.NaN, -1])("asks for no lease of %s seconds [FW1 2.4.8-a]", (leaseSeconds) =>
    Effect.gen(function* () {
      const { calls, firewall: one } = firewall([["UniqueID", "1"]])
      assert.strictEqual(reasonOf(yield* Effect.flip(one.addPinhole({ ...flow, leaseSeconds }))), "InvalidRequest")
      assert.strictEqual(
        reasonOf(yield* Effect.flip(one.updatePinhole({ uniqueId: 1, leaseSeconds }))),
        "InvalidRequest"
      )
      assert.lengthOf(calls, 0)
    })
  )

  it.effect.each([
    [["UniqueID", "65536"]],
    [["UniqueID", ""]],
    [["IsWorking", "perhaps"]],
    [["FirewallEnabled", "1"]],
    []
  ] as ReadonlyArray<Soap.Arguments>)("that answers %j is not understood", (results) =>
    Effect.gen(function* () {
      const { firewall: one } = firewall(results)
      const errors = yield* Effect.all([
        Effect.flip(one.getFirewallStatus),
        Effect.flip(one.addPinhole({ ...flow, leaseSeconds: 60 })),
        Effect.flip(one.checkPinholeWorking(1)),
        Effect.flip(one.getPinholePackets(1)),
        Effect.flip(one.getOutboundPinholeTimeout(flow))
      ])
      assert.deepStrictEqual(new Set(errors.map(reasonOf)), new Set(["MalformedAnswer"]))
    })
  )

  it.effect("that has seen no packet yet does not say that the pinhole fails [FW1 2.6.7-a]", () =>
    Effect.gen(function* () {
      const checked = (answer: Answering.Answer) =>
        WanIpv6FirewallControl.make(Answering.answering(() => answer).client, service).checkPinholeWorking(1)
      assert.isFalse(yield* checked(Effect.succeed([["IsWorking", "0"]])))
      const fault = yield* Effect.flip(checked(Router.fault(709)))
      assert.strictEqual(reasonOf(fault), "fault 709")
      if (fault._tag !== "UpnpFault") return
      const { message } = UpnpErrorCode.toNatError(fault, { action: "CheckPinholeWorking" })
      assert.include(message, "not supported: to tell whether a pinhole works before a packet was sent through it (")
    })
  )
})
