import type * as Quirk from "@effect-nat/testing/Quirk"
import { RouterModel } from "@effect-nat/testing/RouterModel"
import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import type * as Soap from "@effect-nat/upnp/Soap"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { bytes, call, client, request, routerWith, text, wanIp, wanPpp } from "./upnpRouter.ts"

const igd = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"

const search = (model: RouterModel, searchTarget: string, isMulticast = true, mx: number | undefined = 1) =>
  UpnpResponder.answerSearch(model, 0, UpnpResponder.placeOf(model), {
    payload: Ssdp.encode(new Ssdp.SearchRequest({ host: "239.255.255.250:1900", searchTarget, mx })),
    client,
    isMulticast
  })

const locations = (answers: ReadonlyArray<UpnpResponder.SearchAnswer>) =>
  answers.map(({ payload }) => {
    const message = Result.getOrThrow(Ssdp.decode(payload))
    return message._tag === "SearchRequest" ? undefined : message.location
  })

const key = (port = "12001", protocol = "TCP"): Soap.Arguments => [
  ["NewRemoteHost", ""],
  ["NewExternalPort", port],
  ["NewProtocol", protocol]
]

const entry = (lease = "3600", protocol = "TCP", port = "12001"): Soap.Arguments => [
  ...key(port, protocol),
  ["NewInternalPort", "12000"],
  ["NewInternalClient", "192.168.77.2"],
  ["NewEnabled", "1"],
  ["NewPortMappingDescription", "a <b> & c"],
  ["NewLeaseDuration", lease]
]

describe("searches", () => {
  it("are answered with what was searched for, and the place of the description", () => {
    const [answer, ...others] = search(routerWith(), igd)
    assert.lengthOf(others, 0)
    const message = Result.getOrThrow(Ssdp.decode(answer?.payload ?? new Uint8Array()))
    assert.isTrue(message._tag === "SearchAnswer")
    if (message._tag !== "SearchAnswer") return
    assert.strictEqual(message.searchTarget, igd)
    assert.match(message.usn, /^uuid:[0-9a-f-]{36}::urn:schemas-upnp-org:device:InternetGatewayDevice:1$/)
    assert.strictEqual(message.location, "http://192.168.77.1:5000/rootDesc.xml")
    assert.strictEqual(message.bootId, 1)
  })

  it.each([
    ["ssdp:all", 10],
    ["upnp:rootdevice", 1],
    [wanIp, 1],
    [wanPpp, 0],
    ["urn:schemas-upnp-org:device:InternetGatewayDevice:2", 0],
    ["urn:schemas-upnp-org:device:MediaServer:1", 0]
  ])("for %s get %i answers", (target, count) => {
    assert.lengthOf(search(routerWith(), target), count)
  })

  it("answer an older version of what is there", () => {
    const model = routerWith("RefusesLeasesAboveOneWeek")
    assert.lengthOf(search(model, igd), 1)
    assert.lengthOf(search(model, "urn:schemas-upnp-org:device:InternetGatewayDevice:2"), 1)
    assert.lengthOf(search(model, "urn:schemas-upnp-org:device:InternetGatewayDevice:3"), 0)
  })

  it("by multicast are spread over the time they leave, and not answered where they leave none", () => {
    const delays = search(routerWith(), "ssdp:all").map(({ delay }) => delay)
    assert.deepStrictEqual(delays, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert.lengthOf(search(routerWith(), "ssdp:all", true, undefined), 10)
    const withoutMx = UpnpResponder.answerSearch(routerWith(), 0, UpnpResponder.placeOf(routerWith()), {
      payload: bytes('M-SEARCH * HTTP/1.1\r\nMAN: "ssdp:discover"\r\nST: ssdp:all\r\n\r\n'),
      client,
      isMulticast: true
    })
    assert.lengthOf(withoutMx, 0)
    assert.isTrue(search(routerWith(), "ssdp:all", false).every(({ delay }) => delay === 0))
  })

  it.each([
    ["AnswersOnlyUnicast", igd, [0, 1]],
    ["AnswersOnlyMulticast", igd, [1, 0]],
    ["AnswersOnlySsdpAll", igd, [0, 0]],
    ["AnswersOnlySsdpAll", "ssdp:all", [10, 10]],
    ["AnswersOnlyRootDevice", igd, [0, 0]],
    ["AnswersOnlyRootDevice", "upnp:rootdevice", [1, 1]]
  ] as const)("with %s, for %s, by multicast and by unicast", (quirk, target, counts) => {
    const model = routerWith(quirk)
    assert.deepStrictEqual([search(model, target).length, search(model, target, false).length], [...counts])
  })

  it.each([
    ["LocationWithHostName", ["http://router.home.arpa:5000/rootDesc.xml"]],
    ["LocationOnThirdHost", ["http://192.0.2.77:5000/rootDesc.xml"]],
    ["LocationOnOtherAddress", ["http://11.22.33.1:5000/rootDesc.xml"]],
    ["FlappingLocation", ["http://192.168.77.1:9/rootDesc.xml", "http://192.168.77.1:5000/rootDesc.xml"]],
    ["ControlUrlWithoutSlash", ["http://192.168.77.1:5000/igd/rootDesc.xml"]]
  ] as const)("with %s lead elsewhere", (quirk, expected) => {
    assert.deepStrictEqual(locations(search(routerWith(quirk), igd)), [...expected])
  })

  it("for everything find only the first description, where the router is like that", () => {
    const model = routerWith("AnswersWithFirstDescription")
    assert.deepStrictEqual(locations(search(model, "ssdp:all")), ["http://192.168.77.1:5000/mediaDesc.xml"])
    assert.deepStrictEqual(locations(search(model, igd)), ["http://192.168.77.1:5000/rootDesc.xml"])
    assert.include(text(request(model, { path: "/mediaDesc.xml" })?.body ?? new Uint8Array()), "MediaServer")
  })

  it("may be answered from another port", () => {
    assert.isTrue(search(routerWith("AnswersFromOtherPort"), igd).every(({ fromOtherPort }) => fromOtherPort))
  })

  it("are noted, and not answered by a silent router", () => {
    const model = routerWith()
    model.goSilent()
    assert.lengthOf(search(model, igd), 0)
    assert.deepStrictEqual(
      model.asked.map(({ action }) => action),
      ["M-SEARCH"]
    )
  })

  it("are only searches: nothing else is answered", () => {
    const model = routerWith()
    const place = UpnpResponder.placeOf(model)
    for (const payload of [new Uint8Array(), bytes("hello"), ...UpnpResponder.alive(model, place)]) {
      assert.lengthOf(UpnpResponder.answerSearch(model, 0, place, { payload, client, isMulticast: true }), 0)
    }
  })
})

describe("announcements", () => {
  it("tell each device and service, with the boot id of this start", () => {
    const model = routerWith()
    model.reboot(1000)
    const heard = UpnpResponder.alive(model, UpnpResponder.placeOf(model)).map((one) =>
      Result.getOrThrow(Ssdp.decode(one))
    )
    assert.lengthOf(heard, 10)
    assert.isTrue(heard.every((one) => one._tag === "Notify" && one.kind === "alive" && one.bootId === 2))
    const gone = UpnpResponder.byebye(model).map((one) => Result.getOrThrow(Ssdp.decode(one)))
    assert.isTrue(gone.every((one) => one._tag === "Notify" && one.kind === "byebye" && one.location === undefined))
  })
})

describe("calls", () => {
  it("add, show, list and delete a mapping", () => {
    const model = routerWith()
    assert.deepStrictEqual(call(model, "AddPortMapping", entry()), [])
    const rest = ["12000", "192.168.77.2", "1", "a <b> & c", "3599"]
    assert.deepStrictEqual(call(model, "GetSpecificPortMappingEntry", key(), { now: 1000 }), rest)
    const index: Soap.Arguments = [["NewPortMappingIndex", "0"]]
    assert.deepStrictEqual(call(model, "GetGenericPortMappingEntry", index, { now: 1000 }), [
      "",
      "12001",
      "TCP",
      ...rest
    ])
    assert.deepStrictEqual(call(model, "DeletePortMapping", key()), [])
    assert.deepStrictEqual(model.entries(0), [])
    assert.deepStrictEqual(
      model.asked.map(({ action, isMutating }) => [action, isMutating]),
      [
        ["AddPortMapping", true],
        ["GetSpecificPortMappingEntry", false],
        ["GetGenericPortMappingEntry", false],
        ["DeletePortMapping", true]
      ]
    )
  })

  it("forget a mapping when its lease has run out, and keep a permanent one", () => {
    const model = routerWith()
    call(model, "AddPortMapping", entry("60"))
    call(model, "AddPortMapping", entry("0", "UDP"))
    assert.strictEqual(call(model, "GetSpecificPortMappingEntry", key(), { now: 60_000 }), 714)
    const permanent = call(model, "GetSpecificPortMappingEntry", key("12001", "UDP"), { now: 1e12 })
    assert.deepStrictEqual(permanent, ["12000", "192.168.77.2", "1", "a <b> & c", "0"])
  })

  it.each([
    ["DeletePortMapping", key(), 714],
    ["GetSpecificPortMappingEntry", key(), 714],
    ["GetGenericPortMappingEntry", [["NewPortMappingIndex", "0"]], 713],
    ["GetGenericPortMappingEntry", [["NewPortMappingIndex", "-1"]], 713],
    ["GetGenericPortMappingEntry", [["NewPortMappingIndex", "one"]], 402],
    ["GetGenericPortMappingEntry", [], 402],
    ["AddPortMapping", entry().slice(0, 4), 402],
    ["AddPortMapping", entry("3600", "TCP", "0"), 716],
    ["AddPortMapping", entry("3600", "TCP", "70000"), 601],
    ["AddPortMapping", entry("3600", "SCTP"), 402],
    ["OpenSesame", [], 401]
  ] as ReadonlyArray<readonly [string, Soap.Arguments, number]>)("%s %j is refused with %i", (action, list, code) => {
    assert.strictEqual(call(routerWith(), action, list), code)
  })

  it("map every port where a router maps nothing less, and refuse it elsewhere", () => {
    const model = routerWith("ExternalPortOnlySupportsWildcard")
    assert.strictEqual(call(model, "AddPortMapping", entry("3600", "TCP", "9000")), 727)
    assert.deepStrictEqual(call(model, "AddPortMapping", entry("3600", "TCP", "0")), [])
    assert.deepStrictEqual(call(model, "AddPortMapping", entry("3600", "TCP", "0")), [])
    assert.lengthOf(model.entries(0), 1)
    assert.deepStrictEqual(model.forward(0, "tcp", 40_000, model.address)?.port, 12_000)
    assert.isUndefined(model.forward(0, "udp", 40_000, model.address))
    assert.strictEqual(call(routerWith(), "AddPortMapping", entry("3600", "TCP", "0")), 716)
  })

  it("let the model decide about internal port 0, which is every port as it came", () => {
    const list = entry().map(([name, value]) => [name, name === "NewInternalPort" ? "0" : value] as const)
    const model = routerWith()
    assert.deepStrictEqual(call(model, "AddPortMapping", list), [])
    assert.strictEqual(model.forward(0, "tcp", 12_001, model.address)?.port, 12_001)
    assert.strictEqual(call(routerWith("WildCardNotPermittedInIntPort"), "AddPortMapping", list), 732)
  })

  it("say the code of what the model refuses", () => {
    const model = routerWith()
    model.refuseNext("SamePortRequired", "NotAuthorized")
    assert.strictEqual(call(model, "AddPortMapping", entry()), 724)
    assert.strictEqual(call(model, "AddPortMapping", entry()), 606)
    assert.strictEqual(call(routerWith("InvalidArgsForLeases"), "AddPortMapping", entry()), 402)
    assert.strictEqual(call(routerWith("OnlyPermanentLeases"), "AddPortMapping", entry()), 725)
  })

  it("tell the external address as the router has it", () => {
    const ask = (model: RouterModel) => call(model, "GetExternalIPAddress")
    assert.deepStrictEqual(ask(routerWith()), ["11.22.33.1"])
    assert.deepStrictEqual(ask(new RouterModel({ externalAddress: null })), ["0.0.0.0"])
    assert.deepStrictEqual(ask(routerWith("ExternalAddressZero")), ["0.0.0.0"])
    assert.deepStrictEqual(ask(routerWith("ExternalAddressEmpty")), [""])
    assert.deepStrictEqual(ask(routerWith("ExternalAddressShared")), ["100.64.11.12"])
  })

  it("insist on what some routers insist on", () => {
    const lower = { header: "soapaction" }
    assert.deepStrictEqual(call(routerWith(), "AddPortMapping", entry(), lower), [])
    assert.strictEqual(call(routerWith("ExactSoapAction"), "AddPortMapping", entry(), lower), "HTTP 400")
    assert.deepStrictEqual(call(routerWith("ExactSoapAction"), "AddPortMapping", entry()), [])
    assert.deepStrictEqual(call(routerWith(), "AddPortMapping", entry("60", "tcp")), [])
    assert.strictEqual(call(routerWith("UpperCaseProtocol"), "AddPortMapping", entry("60", "tcp")), 402)
    assert.deepStrictEqual(call(routerWith(), "AddPortMapping", entry().toReversed()), [])
    assert.strictEqual(call(routerWith("ArgumentOrder"), "AddPortMapping", entry().toReversed()), 402)
    assert.deepStrictEqual(call(routerWith("ArgumentOrder"), "AddPortMapping", entry()), [])
    assert.strictEqual(call(routerWith("MissingEntryIsInvalidIndex"), "GetSpecificPortMappingEntry", key()), 713)
    const first: Soap.Arguments = [["NewPortMappingIndex", "0"]]
    assert.strictEqual(call(routerWith("EndOfListIsInvalidArgs"), "GetGenericPortMappingEntry", first), 402)
    const mixed = { path: "/ctl/PPPConn", serviceType: wanIp }
    assert.strictEqual(call(routerWith("ServiceTypesDoNotMix"), "GetStatusInfo", [], mixed), 401)
    const up = ["Connected", "ERROR_NONE", "0"]
    const matched = { path: "/ctl/PPPConn", serviceType: wanPpp }
    assert.deepStrictEqual(call(routerWith("ServiceTypesDoNotMix"), "GetStatusInfo", [], matched), up)
  })

  it("to a dead line map nothing", () => {
    const model = routerWith("DeadIpService")
    assert.deepStrictEqual(call(model, "GetStatusInfo"), ["Disconnected", "ERROR_NONE", "0"])
    assert.deepStrictEqual(call(model, "GetExternalIPAddress"), ["0.0.0.0"])
    assert.strictEqual(call(model, "AddPortMapping", entry()), 501)
    const alive = { path: "/ctl/PPPConn", serviceType: wanPpp }
    assert.deepStrictEqual(call(model, "AddPortMapping", entry(), alive), [])
  })

  it("find control only where it is", () => {
    const moved = routerWith("RestartMovesControl")
    assert.deepStrictEqual(call(moved, "GetExternalIPAddress", [], { path: "/ctl/1/IPConn" }), ["11.22.33.1"])
    moved.reboot(0)
    assert.strictEqual(call(moved, "GetExternalIPAddress", [], { path: "/ctl/1/IPConn" }), "HTTP 404")
    assert.deepStrictEqual(call(moved, "GetExternalIPAddress", [], { path: "/ctl/2/IPConn" }), ["11.22.33.1"])
    assert.strictEqual(
      UpnpResponder.locationOf(moved, UpnpResponder.placeOf(moved)),
      "http://192.168.77.1:5002/rootDesc.xml"
    )

    const other = routerWith("ControlUrlOnOtherPort")
    assert.strictEqual(call(other, "GetExternalIPAddress"), "HTTP 404")
    assert.deepStrictEqual(call(other, "GetExternalIPAddress", [], { port: 5001 }), ["11.22.33.1"])
  })

  it("to a silent router get nothing", () => {
    const model = routerWith()
    model.goSilent()
    assert.strictEqual(call(model, "GetExternalIPAddress"), "silence")
    assert.lengthOf(model.asked, 1)
  })
})

describe("framing", () => {
  const framed = (...quirks: ReadonlyArray<Quirk.Quirk>) => {
    const model = routerWith(...quirks)
    return text(
      UpnpResponder.encode(model, {
        status: 200,
        headers: [["Content-Type", 'text/xml; charset="utf-8"']],
        body: bytes("<a>bcd</a>")
      })
    )
  }

  it.each([
    [
      "no quirk",
      [],
      'HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset="utf-8"\r\nConnection: close\r\nContent-Length: 10\r\n\r\n<a>bcd</a>'
    ],
    [
      "Http10",
      ["Http10"],
      'HTTP/1.0 200 OK\r\nContent-Type: text/xml; charset="utf-8"\r\nConnection: close\r\nContent-Length: 10\r\n\r\n<a>bcd</a>'
    ],
    [
      "LineFeedsOnly",
      ["LineFeedsOnly"],
      'HTTP/1.1 200 OK\nContent-Type: text/xml; charset="utf-8"\nConnection: close\nContent-Length: 10\n\n<a>bcd</a>'
    ],
    [
      "NoContentLength",
      ["NoContentLength"],
      'HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset="utf-8"\r\n\r\n<a>bcd</a>'
    ],
    [
      "CloseWithoutLength",
      ["CloseWithoutLength"],
      'HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset="utf-8"\r\nConnection: close\r\n\r\n<a>bcd</a>'
    ],
    [
      "Chunked",
      ["Chunked"],
      'HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset="utf-8"\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n<a>bcd<\r\n3\r\n/a>\r\n0\r\n\r\n'
    ],
    [
      "WrongCharset",
      ["WrongCharset"],
      'HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset="utf-16"\r\nConnection: close\r\nContent-Length: 10\r\n\r\n<a>bcd</a>'
    ],
    [
      "OddHeaderCase",
      ["OddHeaderCase"],
      'HTTP/1.1 200 OK\r\nCONTENT-TYPE: text/xml; charset="utf-8"\r\nconnection: close\r\ncOnTeNt-lEnGtH: 10\r\n\r\n<a>bcd</a>'
    ]
  ] as const)("with %s", (_, quirks, expected) => {
    assert.strictEqual(framed(...quirks), expected)
  })

  it.each([
    ["TabBeforeXml", "\t<?xml"],
    ["BomBeforeXml", "\ufeff<?xml"]
  ] as const)("with %s the document begins with it", (quirk, start) => {
    assert.isTrue(text(request(routerWith(quirk), {})?.body ?? new Uint8Array()).startsWith(start))
  })
})

describe("reading requests", () => {
  const post = 'POST /ctl HTTP/1.1\r\nSOAPAction: "a#b"\r\ncontent-length: 5\r\n\r\nhello'

  it("waits for the whole of one, byte by byte", () => {
    for (let length = 0; length < post.length; length++) {
      assert.strictEqual(UpnpResponder.decode(bytes(post.slice(0, length))), "Incomplete")
    }
    const whole = UpnpResponder.decode(bytes(`${post} and more`))
    assert.deepStrictEqual(whole, {
      method: "POST",
      path: "/ctl",
      headers: [
        ["SOAPAction", '"a#b"'],
        ["content-length", "5"]
      ],
      body: bytes("hello")
    })
  })

  it.each([
    ["no HTTP", "hello\r\n\r\n"],
    ["a length that is none", "POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n"],
    ["a length below zero", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"],
    ["a length without measure", "POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n"],
    ["headers without end", `GET / HTTP/1.1\r\n${"x: y\r\n".repeat(4000)}`]
  ])("refuses %s", (_, request) => {
    assert.strictEqual(UpnpResponder.decode(bytes(request)), "Malformed")
  })
})
