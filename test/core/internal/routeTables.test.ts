import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"
import * as RouteTables from "../../../packages/core/src/internal/routeTables.ts"

const lines = (routes: ReadonlyArray<DefaultRoute.Route>) =>
  routes.map((route) => `${NetAddress.formatIp(route.gateway)} ${route.interface} ${route.metric}`)

const procHeader = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"

const proc = (...rows: ReadonlyArray<string>) =>
  [procHeader, ...rows.map((row) => row.replaceAll(" ", "\t")), ""].join("\n")

describe("routeTables", () => {
  describe("Linux, IPv4", () => {
    it("a recorded table with a cable, a wireless network and a container bridge", () => {
      const table = proc(
        "wlp3s0 00000000 0101A8C0 0003 0 0 600 00000000 0 0 0",
        "enp0s31f6 00000000 014DA8C0 0003 0 0 100 00000000 0 0 0",
        "docker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0",
        "enp0s31f6 004DA8C0 00000000 0001 0 0 100 00FFFFFF 0 0 0"
      )
      assert.deepStrictEqual(lines(RouteTables.parseProcNetRoute(table)), [
        "192.168.77.1 enp0s31f6 100",
        "192.168.1.1 wlp3s0 600"
      ])
    })

    it("routes of one metric stay in the kernel's order", () => {
      const table = proc(
        "eth1 00000000 0200000A 0003 0 0 0 00000000 0 0 0",
        "eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0"
      )
      assert.deepStrictEqual(lines(RouteTables.parseProcNetRoute(table)), ["10.0.0.2 eth1 0", "10.0.0.1 eth0 0"])
    })

    it("a host of the other byte order", () => {
      const table = proc("eth0 00000000 C0A84D01 0003 0 0 0 00000000 0 0 0")
      assert.deepStrictEqual(lines(RouteTables.parseProcNetRoute(table, "BE")), ["192.168.77.1 eth0 0"])
    })

    it.each([
      ["nothing", ""],
      ["a header", `${procHeader}\n`],
      ["networks only", proc("eth0 004DA8C0 00000000 0001 0 0 100 00FFFFFF 0 0 0")],
      ["a rejected default", proc("lo 00000000 014DA8C0 0203 0 0 0 00000000 0 0 0")],
      ["a default that is down", proc("eth0 00000000 014DA8C0 0002 0 0 0 00000000 0 0 0")],
      ["a default without a gateway (a tunnel)", proc("tun0 00000000 00000000 0001 0 0 0 00000000 0 0 0")],
      ["a gateway of zeros", proc("eth0 00000000 00000000 0003 0 0 0 00000000 0 0 0")],
      ["half of the world (a VPN)", proc("tun0 00000000 010200C0 0003 0 0 0 00000080 0 0 0")],
      ["a gateway that is too short", proc("eth0 00000000 014DA8 0003 0 0 0 00000000 0 0 0")],
      ["a gateway that is none", proc("eth0 00000000 gatewayX 0003 0 0 0 00000000 0 0 0")],
      ["flags that are none", proc("eth0 00000000 014DA8C0 zz 0 0 0 00000000 0 0 0")],
      ["a line cut off", proc("eth0 00000000 014DA8C0")],
      ["another file", "<html>\n<body>not found</body>\n</html>"]
    ])("no default route in %s", (_what, table) => {
      assert.deepStrictEqual(lines(RouteTables.parseProcNetRoute(table)), [])
    })

    it("a line that cannot be read hides no other", () => {
      const table = proc("garbage", "eth0 00000000 014DA8C0 0003 0 0 x 00000000 0 0 0", "\u0000\u0000")
      assert.deepStrictEqual(lines(RouteTables.parseProcNetRoute(table)), ["192.168.77.1 eth0 0"])
    })
  })

  describe("Linux, IPv6", () => {
    const zeros = "0".repeat(32)
    const linkLocal = "fe800000000000000000000000000001"

    it("a recorded table", () => {
      const table = [
        `20010db8000000000000000000000000 40 ${zeros} 00 ${zeros} 00000064 00000001 00000000 00000001     eth0`,
        `${zeros} 00 ${zeros} 00 ${linkLocal} 00000400 00000003 00000000 00450003     eth0`,
        `${zeros} 00 ${zeros} 00 20010db8000000000000000000000001 00000064 00000001 00000000 00000003    wlan0`,
        `00000000000000000000000000000001 80 ${zeros} 00 ${zeros} 00000000 00000004 00000000 80200001       lo`,
        `${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200       lo`,
        ""
      ].join("\n")
      assert.deepStrictEqual(lines(RouteTables.parseProcNetIpv6Route(table)), [
        "2001:db8::1 wlan0 100",
        "fe80::1 eth0 1024"
      ])
    })

    it.each([
      ["nothing", ""],
      ["the rejecting default only", `${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200       lo`],
      ["a rejected default", `${zeros} 00 ${zeros} 00 ${linkLocal} 00000400 00000003 00000000 00000203     eth0`],
      ["a default without a gateway", `${zeros} 00 ${zeros} 00 ${zeros} 00000400 00000003 00000000 00000003     ppp0`],
      ["a network", `${zeros} 60 ${zeros} 00 ${linkLocal} 00000400 00000003 00000000 00000003     eth0`],
      ["a next hop that is none", `${zeros} 00 ${zeros} 00 ${"x".repeat(32)} 00000400 0 0 00000003     eth0`],
      ["a line cut off", `${zeros} 00 ${zeros}`]
    ])("no default route in %s", (_what, table) => {
      assert.deepStrictEqual(lines(RouteTables.parseProcNetIpv6Route(table)), [])
    })
  })

  describe("macOS", () => {
    it("a recorded answer", () => {
      const text = [
        "   route to: default",
        "destination: default",
        "       mask: default",
        "    gateway: 192.168.77.1",
        "  interface: en0",
        "      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>",
        " recvpipe  sendpipe  ssthresh  rtt,msec    rttvar  hopcount      mtu     expire",
        "       0         0         0         0         0         0      1500         0 ",
        ""
      ].join("\n")
      assert.deepStrictEqual(lines(RouteTables.parseRouteGet(text)), ["192.168.77.1 en0 0"])
    })

    it("a recorded answer for IPv6: the gateway is link-local, with its interface", () => {
      const text = [
        "   route to: default",
        "destination: default",
        "       mask: default",
        "    gateway: fe80::3a10:d5ff:fe12:3456%en0",
        "  interface: en0",
        "      flags: <UP,GATEWAY,DONE,PRCLONING,GLOBAL>",
        ""
      ].join("\n")
      assert.deepStrictEqual(lines(RouteTables.parseRouteGet(text)), ["fe80::3a10:d5ff:fe12:3456 en0 0"])
    })

    it.each([
      ["no default", "route: writing to routing socket: not in table\n"],
      ["nothing", ""],
      [
        "a tunnel without a gateway",
        "   route to: default\n  interface: utun3\n      flags: <UP,DONE,CLONING,STATIC>\n"
      ],
      ["a link in place of a gateway", "    gateway: link#12\n  interface: en0\n"],
      ["an index in place of a gateway", "    gateway: index: 12\n  interface: en0\n"],
      ["an empty gateway", "    gateway:\n10.0.0.1\n  interface: en0\n"],
      ["a gateway of zeros", "    gateway: 0.0.0.0\n  interface: en0\n"]
    ])("no default route in %s", (_what, text) => {
      assert.deepStrictEqual(lines(RouteTables.parseRouteGet(text)), [])
    })
  })

  describe("Windows", () => {
    const route = { NextHop: "192.168.77.1", InterfaceAlias: "Ethernet", RouteMetric: 0, InterfaceMetric: 25 }

    it("one route is one object", () => {
      const text = [
        "{",
        '    "NextHop":  "192.168.77.1",',
        '    "InterfaceAlias":  "Ethernet 2",',
        '    "RouteMetric":  256,',
        '    "InterfaceMetric":  25',
        "}",
        ""
      ].join("\r\n")
      assert.deepStrictEqual(lines(RouteTables.parseNetRoute(text)), ["192.168.77.1 Ethernet 2 281"])
    })

    it("several are a list: on-link ones have no gateway, metrics add up", () => {
      const text = JSON.stringify([
        { ...route, NextHop: "192.168.1.1", InterfaceAlias: "WLAN", InterfaceMetric: 50 },
        route,
        { ...route, NextHop: "0.0.0.0", InterfaceAlias: "VPN" },
        { ...route, NextHop: "::" },
        { ...route, NextHop: "fe80::1", InterfaceMetric: null },
        { NextHop: "10.0.0.1", InterfaceAlias: "old", RouteMetric: 1 }
      ])
      assert.deepStrictEqual(lines(RouteTables.parseNetRoute(`\ufeff${text}\r\n`)), [
        "fe80::1 Ethernet 0",
        "10.0.0.1 old 1",
        "192.168.77.1 Ethernet 25",
        "192.168.1.1 WLAN 50"
      ])
    })

    it("an element that cannot be read hides no other", () => {
      const text = JSON.stringify([
        null,
        7,
        { ...route, InterfaceAlias: null },
        { ...route, NextHop: "gateway" },
        route
      ])
      assert.deepStrictEqual(lines(RouteTables.parseNetRoute(text)), ["192.168.77.1 Ethernet 25"])
    })

    it.each(["", "[]", "null", "{}", "{", "Get-NetRoute : Access denied", '"192.168.77.1"', "7"])(
      "no default route in %j",
      (text) => {
        assert.deepStrictEqual(lines(RouteTables.parseNetRoute(text)), [])
      }
    )

    it("a list nested without end is no defect", () => {
      assert.deepStrictEqual(RouteTables.parseNetRoute("[".repeat(200_000)), [])
    })
  })

  const parsers = [
    RouteTables.parseProcNetRoute,
    RouteTables.parseProcNetIpv6Route,
    RouteTables.parseRouteGet,
    RouteTables.parseNetRoute
  ]

  it.prop("no text makes a parser throw", [Schema.String], ([text]) => {
    for (const parse of parsers) assert.isArray(parse(text))
  })

  const Field = Schema.Union([
    Schema.String,
    Schema.Literals([
      "00000000",
      "0".repeat(32),
      "00",
      "0003",
      "014DA8C0",
      "gateway:",
      "fe80::1%en0",
      "eth0",
      "ffffffff"
    ])
  ])
  it.prop("no table makes a parser throw", [Schema.Array(Schema.Array(Field))], ([table]) => {
    const text = `\n${table.map((row) => row.join(" ")).join("\n")}`
    for (const parse of parsers) assert.isArray(parse(text))
  })

  const Json = Schema.Struct({
    NextHop: Schema.Union([Schema.String, Schema.Null, Schema.Literal("10.0.0.1")]),
    InterfaceAlias: Schema.Union([Schema.String, Schema.Null]),
    RouteMetric: Schema.Union([Schema.Number, Schema.String]),
    InterfaceMetric: Schema.Union([Schema.Number, Schema.Null])
  })
  it.prop("no JSON makes a parser throw", [Schema.Array(Json)], ([routes]) => {
    for (const parse of parsers) assert.isArray(parse(JSON.stringify(routes)))
  })

  it("many lines take no more than their share of time", () => {
    const start = performance.now()
    for (const parse of parsers) parse("\n \t".repeat(200_000))
    assert.isBelow(performance.now() - start, 2000)
  })
})
