/**
 * The services of a simulated router beside mapping one port: what the second version has, PPP, the line, the default
 * connection and the IPv6 firewall.
 */
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import type * as Soap from "@effect-nat/upnp/Soap"
import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import { call, client, request, routerWith, text, wanPpp } from "./upnpRouter.ts"

const ip = NetAddress.ipFromStringUnsafe
const wanIp2 = { serviceType: "urn:schemas-upnp-org:service:WANIPConnection:2" }
const other = { ...wanIp2, from: ip("192.168.77.3") }

const newer = () => new RouterModel.RouterModel({ igdVersion: 2 })

const entry = (port: number | string, lease = 3600, internalPort = "12000", to = "192.168.77.2"): Soap.Arguments => [
  ["NewRemoteHost", ""],
  ["NewExternalPort", String(port)],
  ["NewProtocol", "TCP"],
  ["NewInternalPort", internalPort],
  ["NewInternalClient", to],
  ["NewEnabled", "1"],
  ["NewPortMappingDescription", "a <b> & c"],
  ["NewLeaseDuration", String(lease)]
]

const range = (start: number, end: number, manage: boolean): Soap.Arguments => [
  ["NewStartPort", String(start)],
  ["NewEndPort", String(end)],
  ["NewProtocol", "TCP"],
  ["NewManage", manage ? "1" : "0"]
]

const ports = (model: RouterModel.RouterModel) => model.entries(0).map(({ externalPort }) => externalPort)

describe("a gateway of the second version", () => {
  it.each([
    ["AddAnyPortMapping", entry(12001)],
    ["DeletePortMappingRange", range(1, 2, true)],
    ["GetListOfPortMappings", [...range(1, 2, true), ["NewNumberOfPorts", "0"]]]
  ] as ReadonlyArray<readonly [string, Soap.Arguments]>)("knows %s, which the first one does not", (action, list) => {
    assert.strictEqual(call(routerWith(), action, list), 401)
    assert.notStrictEqual(call(newer(), action, list, wanIp2), 401)
    // Whoever calls it by the name of the older version means the older version.
    assert.strictEqual(call(newer(), action, list), 401)
  })

  it("is asked for AddPortMapping by either version", () => {
    assert.deepStrictEqual(call(newer(), "AddPortMapping", entry(12001)), [])
    assert.deepStrictEqual(call(newer(), "AddPortMapping", entry(12001), wanIp2), [])
  })

  it("gives another port where the wanted one is taken, and the same one again", () => {
    const model = newer()
    assert.deepStrictEqual(call(model, "AddAnyPortMapping", entry(12001), wanIp2), ["12001"])
    const theirs = entry(12001, 3600, "12000", "192.168.77.3")
    assert.deepStrictEqual(call(model, "AddAnyPortMapping", theirs, other), ["49152"])
    assert.deepStrictEqual(call(model, "AddAnyPortMapping", theirs, other), ["49152"])
    assert.deepStrictEqual(call(model, "AddAnyPortMapping", entry(0, 60, "13000"), wanIp2), ["49153"])
    assert.deepStrictEqual(ports(model), [12001, 49152, 49153])
  })

  it("has no room for any port where its table is full", () => {
    const model = new RouterModel.RouterModel({ igdVersion: 2, capacity: 1 })
    call(model, "AddAnyPortMapping", entry(12001), wanIp2)
    assert.strictEqual(call(model, "AddAnyPortMapping", entry(12002), wanIp2), 728)
  })

  it("ends every lease after a week", () => {
    const model = newer()
    call(model, "AddPortMapping", entry(12001, 0), wanIp2)
    assert.strictEqual(model.entries(0)[0]?.expiresAt, 604_800_000)
  })

  it("lists and deletes ranges: everybody's for who manages, and one's own", () => {
    const model = newer()
    for (const port of [100, 200, 300]) call(model, "AddPortMapping", entry(port), wanIp2)
    call(model, "AddPortMapping", entry(250, 3600, "12000", "192.168.77.3"), other)
    const list = (most: string, manage: boolean) => {
      const answer = call(
        model,
        "GetListOfPortMappings",
        [...range(150, 300, manage), ["NewNumberOfPorts", most]],
        wanIp2
      )
      return Result.getOrThrow(PortMappingEntry.decodeList(String(answer)))
    }
    assert.deepStrictEqual(
      list("0", true).map(({ externalPort }) => externalPort),
      [200, 300, 250]
    )
    assert.deepStrictEqual(
      list("0", false).map(({ externalPort }) => externalPort),
      [200, 300]
    )
    assert.deepStrictEqual(
      list("1", true).map(({ description, leaseDuration }) => [description, leaseDuration]),
      [["a <b> & c", 3600]]
    )
    assert.deepStrictEqual(call(model, "DeletePortMappingRange", range(150, 300, false), wanIp2), [])
    assert.deepStrictEqual(ports(model), [100, 250])
    assert.deepStrictEqual(call(model, "DeletePortMappingRange", range(1, 65_535, true), wanIp2), [])
    assert.deepStrictEqual(ports(model), [])
    assert.strictEqual(call(model, "DeletePortMappingRange", range(1, 65_535, true), wanIp2), 730)
    assert.strictEqual(call(model, "DeletePortMappingRange", range(2, 1, true), wanIp2), 733)
    const none = [...range(1, 2, true), ["NewNumberOfPorts", "0"]] as const
    assert.strictEqual(call(model, "GetListOfPortMappings", none, wanIp2), 730)
    assert.strictEqual(call(model, "GetListOfPortMappings", range(1, 2, true), wanIp2), 402)
  })

  it("says in its requests what changes the firewall", () => {
    const model = newer()
    const asked: ReadonlyArray<readonly [string, Soap.Arguments, boolean]> = [
      ["AddPinhole", pinhole(), true],
      ["UpdatePinhole", [...id("0"), ["NewLeaseTime", "60"]], true],
      ["GetFirewallStatus", [], false],
      ["CheckPinholeWorking", id("0"), false],
      ["DeletePinhole", id("0"), true]
    ]
    for (const [action, list] of asked) call(model, action, list, firewall)
    assert.deepStrictEqual(
      model.asked.map(({ action, isMutating }) => [action, isMutating]),
      asked.map(([action, , isMutating]) => [action, isMutating])
    )
  })

  it("says in its requests what changes the table", () => {
    const model = newer()
    call(model, "AddAnyPortMapping", entry(12001), wanIp2)
    call(model, "DeletePortMappingRange", range(1, 2, true), wanIp2)
    call(model, "GetListOfPortMappings", range(1, 2, true), wanIp2)
    assert.deepStrictEqual(
      model.asked.map(({ isMutating }) => isMutating),
      [true, true, false]
    )
  })
})

describe("the connection", () => {
  it.each([
    ["GetConnectionTypeInfo", ["IP_Routed", "IP_Routed,IP_Bridged"]],
    ["GetStatusInfo", ["Connected", "ERROR_NONE", "7"]],
    ["GetNATRSIPStatus", ["0", "1"]],
    ["GetAutoDisconnectTime", ["0"]],
    ["GetIdleDisconnectTime", ["0"]],
    ["GetWarnDisconnectDelay", ["0"]]
  ])("answers %s", (action, values) => {
    assert.deepStrictEqual(call(routerWith(), action, [], { now: 7000 }), values)
  })

  it.each([
    ["GetLinkLayerMaxBitRates", ["40000000", "100000000"]],
    ["GetPPPEncryptionProtocol", ["none"]],
    ["GetPPPCompressionProtocol", ["none"]],
    ["GetPPPAuthenticationProtocol", ["CHAP"]],
    ["GetUserName", ["somebody@example.net"]]
  ])("answers %s only where it is one of PPP", (action, values) => {
    const options = { path: "/ctl/PPPConn", serviceType: wanPpp }
    assert.deepStrictEqual(call(routerWith("DeadIpService"), action, [], options), values)
    assert.strictEqual(call(routerWith(), action), 401)
  })
})

describe("the line", () => {
  const options = { path: "/ctl/CmnIfCfg", serviceType: "urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1" }

  it.each([
    ["GetCommonLinkProperties", ["Cable", "40000000", "100000000", "Up"]],
    ["GetEnabledForInternet", ["1"]],
    ["GetWANAccessProvider", ["Example Net"]],
    ["GetMaximumActiveConnections", ["1"]],
    ["GetTotalBytesSent", ["2500000"]],
    ["GetTotalBytesReceived", ["10000000"]],
    ["GetTotalPacketsSent", ["2500"]],
    ["GetTotalPacketsReceived", ["10000"]],
    ["GetExternalIPAddress", 401]
  ])("answers %s", (action, values) => {
    assert.deepStrictEqual(call(routerWith(), action, [], { ...options, now: 10_000 }), values)
  })

  it("has counters that begin again when they are full", () => {
    const after = { ...options, now: 4_294_968_000 }
    assert.deepStrictEqual(call(routerWith(), "GetTotalPacketsReceived", [], after), ["704"])
  })

  it("lists the connection in use", () => {
    const asked = (index: string) =>
      call(routerWith(), "GetActiveConnection", [["NewActiveConnectionIndex", index]], options)
    assert.match(String(asked("0")), /^uuid:[0-9a-f-]{36}:WANConnectionDevice:1,urn:upnp-org:serviceId:WANIPConn1$/)
    assert.strictEqual(asked("1"), 713)
  })
})

describe("the default connection", () => {
  it.each([
    [[], "WANIPConn1"],
    [["DeadPppService"], "WANIPConn1"],
    [["DeadIpService"], "WANPPPConn1"],
    [["PrivateServiceFirst"], "WANIPConn1"]
  ] as const)("is the one whose line is up, with %j %s", (quirks, id) => {
    const answer = call(routerWith(...quirks), "GetDefaultConnectionService", [], {
      path: "/ctl/L3F",
      serviceType: "urn:schemas-upnp-org:service:Layer3Forwarding:1"
    })
    assert.isTrue(String(answer).endsWith(`:WANConnectionDevice:1,urn:upnp-org:serviceId:${id}`), String(answer))
  })
})

const firewall = { path: "/ctl/IP6FwCtl", serviceType: "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1" }
const global = ip("2001:db8:77::2")

const flow = (differences: Readonly<Record<string, string>> = {}): Soap.Arguments =>
  Object.entries({
    RemoteHost: "",
    RemotePort: "0",
    InternalClient: "2001:db8:77::2",
    InternalPort: "12000",
    Protocol: "6",
    ...differences
  })

const pinhole = (differences: Readonly<Record<string, string>> = {}): Soap.Arguments =>
  Object.entries({ ...Object.fromEntries(flow()), LeaseTime: "3600", ...differences })

const id = (uniqueId: string): Soap.Arguments => [["UniqueID", uniqueId]]

const packet = (port = 12_000) => ({
  protocol: 6,
  from: NetAddress.inetAddressUnsafe(ip("2001:db8:1::1"), 40_000),
  to: NetAddress.inetAddressUnsafe(global, port)
})

describe("the IPv6 firewall", () => {
  it("is only on a gateway of the second version", () => {
    assert.strictEqual(call(routerWith(), "GetFirewallStatus", [], firewall), "HTTP 404")
    assert.deepStrictEqual(call(newer(), "GetFirewallStatus", [], firewall), ["1", "1"])
  })

  it("lets in what a pinhole is for, until it is closed", () => {
    const model = newer()
    assert.isFalse(model.pinholes.admit(0, packet()))
    assert.deepStrictEqual(call(model, "AddPinhole", pinhole(), firewall), ["0"])
    assert.strictEqual(call(model, "CheckPinholeWorking", id("0"), firewall), 709)
    assert.isTrue(model.pinholes.admit(0, packet()))
    assert.isFalse(model.pinholes.admit(0, packet(12_001)))
    assert.isFalse(model.pinholes.admit(0, { ...packet(), protocol: 17 }))
    assert.deepStrictEqual(call(model, "CheckPinholeWorking", id("0"), firewall), ["1"])
    assert.deepStrictEqual(call(model, "GetPinholePackets", id("0"), firewall), ["1"])
    assert.deepStrictEqual(call(model, "DeletePinhole", id("0"), firewall), [])
    assert.isFalse(model.pinholes.admit(0, packet()))
  })

  it("lets in one remote host where one is named", () => {
    const model = newer()
    call(model, "AddPinhole", pinhole({ RemoteHost: "2001:db8:1::1", RemotePort: "40001" }), firewall)
    assert.isFalse(model.pinholes.admit(0, packet()))
    call(model, "AddPinhole", pinhole({ RemoteHost: "2001:db8:1::1", RemotePort: "40000" }), firewall)
    assert.isTrue(model.pinholes.admit(0, packet()))
  })

  it("forgets a pinhole when its lease has run out, unless it is updated or asked for again", () => {
    const model = newer()
    const ids = () => model.pinholes.entries(0).map(({ expiresAt, uniqueId }) => [uniqueId, expiresAt])
    call(model, "AddPinhole", pinhole(), firewall)
    assert.deepStrictEqual(call(model, "AddPinhole", pinhole({ LeaseTime: "60" }), { ...firewall, now: 1000 }), ["0"])
    assert.deepStrictEqual(ids(), [[0, 61_000]])
    const update = (uniqueId: string, lease: string, now = 2000) =>
      call(model, "UpdatePinhole", [...id(uniqueId), ["NewLeaseTime", lease]], { ...firewall, now })
    assert.deepStrictEqual(update("0", "120"), [])
    assert.deepStrictEqual(ids(), [[0, 122_000]])
    assert.strictEqual(update("0", "120", 122_000), 704)
  })

  it("gives no id again at once", () => {
    const model = newer()
    call(model, "AddPinhole", pinhole(), firewall)
    call(model, "DeletePinhole", id("0"), firewall)
    assert.deepStrictEqual(call(model, "AddPinhole", pinhole(), firewall), ["1"])
  })

  it("forgets all of them in a restart", () => {
    const model = newer()
    call(model, "AddPinhole", pinhole(), firewall)
    model.reboot(0)
    assert.strictEqual(call(model, "DeletePinhole", id("0"), firewall), 704)
  })

  it.each([
    ["AddPinhole", pinhole({ InternalClient: "192.168.77.2" }), 402],
    ["AddPinhole", pinhole({ RemoteHost: "somewhere" }), 402],
    ["AddPinhole", pinhole({ LeaseTime: "0" }), 601],
    ["AddPinhole", pinhole({ LeaseTime: "86401" }), 601],
    ["AddPinhole", pinhole({ Protocol: "132" }), 705],
    ["AddPinhole", pinhole({ InternalPort: "0" }), 706],
    ["AddPinhole", pinhole({ Protocol: "65535" }), 707],
    ["UpdatePinhole", [...id("7"), ["NewLeaseTime", "60"]], 704],
    ["DeletePinhole", id("7"), 704],
    ["DeletePinhole", [], 402],
    ["GetPinholePackets", id("7"), 704],
    ["CheckPinholeWorking", id("7"), 704],
    ["AddPortMapping", [], 401]
  ] as ReadonlyArray<readonly [string, Soap.Arguments, number]>)("refuses %s %j with %i", (action, list, code) => {
    assert.strictEqual(call(newer(), action, list, firewall), code)
  })

  it("refuses where it has no room, is off, or lets nobody open pinholes", () => {
    const full = new RouterModel.RouterModel({ igdVersion: 2, capacity: 1 })
    call(full, "AddPinhole", pinhole(), firewall)
    assert.strictEqual(call(full, "AddPinhole", pinhole({ InternalPort: "12001" }), firewall), 701)
    const off = newer()
    off.pinholes.isEnabled = false
    assert.strictEqual(call(off, "AddPinhole", pinhole(), firewall), 702)
    assert.isTrue(off.pinholes.admit(0, packet()))
    const closed = newer()
    closed.pinholes.isInboundPinholeAllowed = false
    assert.strictEqual(call(closed, "AddPinhole", pinhole(), firewall), 703)
    assert.deepStrictEqual(call(closed, "GetFirewallStatus", [], firewall), ["1", "0"])
  })

  it("says how long it waits for answers", () => {
    assert.deepStrictEqual(call(newer(), "GetOutboundPinholeTimeout", flow(), firewall), ["180"])
  })

  it.each([
    ["2001:db8:77::2", global, "0"],
    ["2001:db8:77::2", client, "606"],
    ["2001:db8:77::2", ip("2001:db8:77::3"), "606"],
    ["fd00::2", ip("fd00::2"), "606"],
    ["fe80::2", ip("fe80::2"), "606"]
  ])("with PinholeNeedsGlobalAddress, to %s asked for by %s: %s", (internalClient, from, expected) => {
    const model = routerWith("PinholeNeedsGlobalAddress")
    const answer = call(model, "AddPinhole", pinhole({ InternalClient: internalClient }), { ...firewall, from })
    assert.strictEqual(String(answer), expected)
  })
})

describe("the description", () => {
  const describedServices = (model: RouterModel.RouterModel) => {
    const document = request(model, {})?.body ?? new Uint8Array()
    return [...text(document).matchAll(/<SCPDURL>([^<]+)<.*?<controlURL>([^<]+)<.*?<eventSubURL>([^<]*)</g)]
  }

  it("lists services, each with a description that lists its actions", () => {
    const listed = (model: RouterModel.RouterModel) =>
      describedServices(model).map(([, path = ""]) => {
        const document = text(request(model, { path })?.body ?? new Uint8Array())
        return [path, document.match(/<action>/g)?.length, document.match(/sendEvents="yes"/g)?.length]
      })
    assert.deepStrictEqual(listed(routerWith()), [
      ["/L3F.xml", 1, 1],
      ["/WANCfg.xml", 9, 1],
      ["/WANIPCn.xml", 11, 4]
    ])
    assert.deepStrictEqual(listed(newer()), [
      ["/L3F.xml", 1, 1],
      ["/WANCfg.xml", 9, 1],
      ["/WANIPCn.xml", 14, 5],
      ["/WANIP6FC.xml", 7, 2]
    ])
    assert.deepStrictEqual(listed(routerWith("DeadIpService")).slice(2), [
      ["/WANIPCn.xml", 11, 4],
      ["/WANPPPCn.xml", 16, 4]
    ])
  })

  it("is one that clients read", () => {
    const document = request(newer(), {})?.body ?? new Uint8Array()
    const base = Result.getOrThrow(HttpUrl.fromString("http://192.168.77.1:5000/rootDesc.xml", newer().address))
    const read = Result.getOrThrow(DeviceDescription.parse(document, base))
    assert.isNotEmpty(DeviceDescription.wanServices(read))
  })

  it("has an empty place for subscriptions where events are not offered", () => {
    const places = (model: RouterModel.RouterModel) => describedServices(model).map(([, , , events]) => events)
    assert.deepStrictEqual(places(routerWith()), ["/evt/L3F", "/evt/CmnIfCfg", "/evt/IPConn"])
    assert.deepStrictEqual(places(routerWith("EventsNotOffered")), ["", "", ""])
  })
})

describe("searches over both families", () => {
  const v6 = ip("fe80::2")

  it("at once are too much for some routers", () => {
    const model = routerWith("FailsWhenFamiliesSearchAtOnce")
    model.searched(0, client)
    model.searched(1000, v6)
    assert.isFalse(model.isSilent(1000))
    model.searched(1999, client)
    assert.isTrue(model.isSilent(1999))
    assert.isTrue(model.isSilent(31_998))
    assert.isFalse(model.isSilent(31_999))
  })

  it("at once are nothing to others", () => {
    const model = routerWith()
    model.searched(0, client)
    model.searched(0, v6)
    assert.isFalse(model.isSilent(0))
  })
})
