import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Xml from "../../packages/upnp/src/internal/xml.ts"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const location = Result.getOrThrow(
  HttpUrl.fromString("http://192.168.1.1:5000/igd/desc.xml", Network.ip("192.168.1.1"))
)

const parse = (body: string | Uint8Array) =>
  DeviceDescription.parse(typeof body === "string" ? Network.bytes(body) : body, location)

const service = (serviceType: string, controlUrl: string): Router.RouterService => ({
  serviceType,
  controlUrl,
  externalAddress: "",
  status: ""
})

const describing = (services: ReadonlyArray<Router.RouterService>, name = "Box") =>
  Router.descriptionXml(name, "uuid:1", services)

const controlUrlOf = (text: string): string | undefined => {
  const [found] = DeviceDescription.wanServices(Result.getOrThrow(parse(text)))
  return found && HttpUrl.format(found.service.controlUrl)
}

const withBase = (base: string, controlUrl: string) =>
  describing([service(Router.wanIp1, controlUrl)]).replace("<device>", `<URLBase>${base}</URLBase><device>`)

describe("names", () => {
  it("are read as they are", () => {
    const device = Result.getOrThrow(parse(describing([service(Router.wanIp1, "/c")], "0080 &amp; <![CDATA[<1.10>]]>")))
    assert.strictEqual(device.friendlyName, "0080 & <1.10>")
    assert.strictEqual(device.modelName, "Box 1.10")
    assert.strictEqual(device.udn, "uuid:1")
    assert.lengthOf(device.devices, 1)
  })

  it("cannot drive a terminal", () => {
    const device = Result.getOrThrow(parse(describing([], "a&#27;[2J\u009b1m\n\n  b&#x1b;")))
    assert.strictEqual(device.friendlyName, "a\ufffd[2J\ufffd1m b\ufffd")
  })

  it("keep references that are none, and references to nothing", () => {
    const device = Result.getOrThrow(parse(describing([], "R&D &nbsp; &#x110000; &#xd800; &amp;lt;")))
    assert.strictEqual(device.friendlyName, "R&D &nbsp; \ufffd \ufffd &lt;")
  })
})

describe("control URLs [UDA 2.3-a]", () => {
  it.each([
    ["relative to the root", "/ctl/ip", "http://192.168.1.1:5000/ctl/ip"],
    ["relative to the description", "ctl/ip", "http://192.168.1.1:5000/igd/ctl/ip"],
    ["absolute", "http://192.168.1.1:6000/ctl?x=1&amp;y=2", "http://192.168.1.1:6000/ctl?x=1&y=2"],
    ["with a bare ampersand", "/ctl?x=1&y=2", "http://192.168.1.1:5000/ctl?x=1&y=2"],
    ["on another host", "http://192.168.1.77:6000/ctl", "http://192.168.1.1:6000/ctl"],
    ["on another host, without a scheme", "//8.8.8.8/ctl", "http://192.168.1.1:80/ctl"],
    ["with white space", "\n /ctl/ip \r\n", "http://192.168.1.1:5000/ctl/ip"],
    ["with a line end inside", "/ctl&#13;&#10;X: y", "http://192.168.1.1:5000/ctlX:%20y"]
  ])("%s", (_, controlUrl, expected) => {
    assert.strictEqual(controlUrlOf(describing([service(Router.wanIp1, controlUrl)])), expected)
  })

  it.each([
    ["present", "http://192.168.1.1:7000/base/", "ctl", "http://192.168.1.1:7000/base/ctl"],
    ["empty", "", "ctl", "http://192.168.1.1:5000/igd/ctl"],
    ["no URL", "192.168.1.1", "/ctl", "http://192.168.1.1:5000/ctl"],
    ["on another host", "http://10.0.0.138:7000/base/", "/ctl", "http://192.168.1.1:5000/ctl"],
    ["of another scheme", "https://192.168.1.1/", "/ctl", "http://192.168.1.1:5000/ctl"]
  ])("with a URLBase that is %s [UDA 2.3-b]", (_, base, controlUrl, expected) => {
    assert.strictEqual(controlUrlOf(withBase(base, controlUrl)), expected)
  })

  it.each([
    ["empty", ""],
    ["of another scheme", "https://192.168.1.1/ctl"],
    ["a script", "javascript:alert(1)"],
    ["too long", `/${"a".repeat(3000)}`],
    ["on port 0", "http://192.168.1.1:0/ctl"]
  ])("leave the service out when they are %s", (_, controlUrl) => {
    assert.isUndefined(controlUrlOf(describing([service(Router.wanIp1, controlUrl)])))
  })
})

describe("event URLs", () => {
  it.each([
    ["relative to the root", "/evt", "http://192.168.1.1:5000/evt"],
    ["on another host", "http://192.168.1.77:6000/evt?x=1", "http://192.168.1.1:6000/evt?x=1"],
    ["on another host, without a scheme", "//8.8.8.8/evt", "http://192.168.1.1:80/evt"],
    ["of another scheme", "https://192.168.1.1/evt", undefined],
    ["too long", `/${"a".repeat(3000)}`, undefined],
    ["on port 0", "http://192.168.1.1:0/evt", undefined]
  ])("%s lead nowhere else, and leave the service as it is", (_, eventSubUrl, expected) => {
    const text = describing([service(Router.wanIp1, "/ctl")])
    const device = Result.getOrThrow(parse(text.replace("<eventSubURL>/evt<", `<eventSubURL>${eventSubUrl}<`)))
    const [found] = DeviceDescription.wanServices(device)
    assert.strictEqual(found?.service.eventSubUrl && HttpUrl.format(found.service.eventSubUrl), expected)
    assert.strictEqual(found && HttpUrl.format(found.service.controlUrl), "http://192.168.1.1:5000/ctl")
  })
})

describe("services that map ports", () => {
  it("are found at any depth, each with its own control URL, likeliest first [UDA 2.3-c, IGD1 2.2-a, 2.3-a]", () => {
    const device = Result.getOrThrow(
      parse(
        describing([
          service("urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1", "/common"),
          service(Router.wanPpp1, "/ppp"),
          service(Router.wanIp1, "/ip1"),
          service("urn:schemas-upnp-org:service:WANIPConnection:2", "/ip2")
        ])
      )
    )
    assert.deepStrictEqual(
      DeviceDescription.wanServices(device).map((one) => [one.kind, one.version, one.service.controlUrl.path]),
      [
        ["ip", 2, "/ip2"],
        ["ip", 1, "/ip1"],
        ["ppp", 1, "/ppp"]
      ]
    )
    assert.lengthOf(DeviceDescription.services(device), 4)
  })

  it.each([
    "urn:schemas-upnp-org:service:WANIPConnection:",
    "urn:schemas-upnp-org:service:WANIPConnection:1\r\nX: y",
    "urn:schemas-upnp-org:service:WANIPConnection:1#Evil",
    "urn:example:service:WANIPConnection:1"
  ])("are not those of another type: %j", (serviceType) => {
    assert.isUndefined(controlUrlOf(describing([service(serviceType, "/ctl")])))
  })
})

describe("services of one kind", () => {
  const { serviceTypes } = DeviceDescription
  const firewall = service(`${serviceTypes.wanIpv6FirewallControl}:1`, "/fw")
  const device = Result.getOrThrow(
    parse(
      describing([
        service(Router.wanIp1, "/ip1"),
        firewall,
        service("urn:schemas-upnp-org:service:WANIPConnection", "/none"),
        service("urn:schemas-upnp-org:service:wanipconnection:2", "/ip2"),
        service("urn:schemas-upnp-org:service:WANIPConnectionX:3", "/x")
      ]).replace("<UDN>", "<UDN>\n  ")
    )
  )
  const found = (type: string) =>
    DeviceDescription.servicesOf(device, type).map(({ service, version }) => [service.controlUrl.path, version])

  it("are found in any version, the newest first [UDA 2.3-d]", () => {
    assert.deepStrictEqual(found(serviceTypes.wanIpConnection), [
      ["/ip2", 2],
      ["/ip1", 1],
      ["/none", undefined]
    ])
    assert.deepStrictEqual(found(serviceTypes.wanIpv6FirewallControl.toUpperCase()), [["/fw", 1]])
    assert.deepStrictEqual(found(serviceTypes.layer3Forwarding), [])
  })

  it("are found in one version", () => {
    assert.deepStrictEqual(found(Router.wanIp1), [["/ip1", 1]])
  })

  it("come with the device that has them", () => {
    const [one] = DeviceDescription.servicesOf(device, serviceTypes.wanIpConnection)
    assert.strictEqual(one?.device.deviceType, "urn:schemas-upnp-org:device:WANConnectionDevice:1")
    assert.strictEqual(one?.service.serviceId, "urn:upnp-org:serviceId:x")
    assert.lengthOf(DeviceDescription.allServices(device), 5)
  })
})

describe("a URLBase with another port", () => {
  const others = (base: string) => {
    const [found] = DeviceDescription.wanServices(Result.getOrThrow(parse(withBase(base, "ctl"))))
    const { otherControlUrl, otherEventSubUrl } = found?.service ?? {}
    return [otherControlUrl && HttpUrl.format(otherControlUrl), otherEventSubUrl && HttpUrl.format(otherEventSubUrl)]
  }

  it("leaves the description's own URL to try", () => {
    assert.deepStrictEqual(others("http://192.168.1.1:7000/"), [
      "http://192.168.1.1:5000/igd/ctl",
      "http://192.168.1.1:5000/evt"
    ])
  })

  it.each(["http://192.168.1.1:5000/igd/", "http://10.0.0.138:7000/", ""])("or nothing else, as %j", (base) => {
    assert.deepStrictEqual(others(base), [undefined, undefined])
  })
})

describe("dirty documents", () => {
  const clean = describing([service(Router.wanIp1, "/ctl")], "Caf\u00e9")
  const name = (body: string | Uint8Array) => Result.getOrThrow(parse(body)).friendlyName
  const utf16 = Uint8Array.from([0xff, 0xfe, ...[...clean].flatMap((char) => [char.charCodeAt(0), 0])])

  it.each([
    ["a byte order mark", `\ufeff${clean}`],
    ["white space before the declaration", `\r\n\t ${clean}`],
    ["a zero byte at the end", `${clean}\u0000\n`],
    ["LF alone", clean.replaceAll("><", ">\n<")],
    ["prefixes", clean.replaceAll(/<(\/?)(?=[a-zA-Z])/g, "<$1p:")],
    ["comments", clean.replaceAll("<device>", "<!-- <device> --><device>")],
    ["Latin-1 bytes", Uint8Array.from(clean, (char) => char.charCodeAt(0))],
    ["UTF-16", utf16]
  ])("with %s are read [UDA 2.2-bc]", (_, body) => {
    assert.strictEqual(name(body), "Caf\u00e9")
  })

  it.each([
    ["an element that is not closed", "<root><device><friendlyName>a</device></root>"],
    ["two roots", `${clean}<root/>`],
    ["an external entity", `<!DOCTYPE r SYSTEM "http://8.8.8.8/x">${clean.slice(21)}`],
    ["a DOCTYPE inside", clean.replace("<device>", "<!doctype x><device>")],
    ["no device", "<root></root>"],
    ["only text", "hello"],
    ["nothing", ""],
    ["more than the limit", `${clean}${" ".repeat(DeviceDescription.maximumBytes)}`],
    ["too deep a nesting", `<root>${"<device>".repeat(40)}${"</device>".repeat(40)}</root>`],
    ["names without a beginning", clean.replace("<device>", "<device><-constructor/>")]
  ])("with %s are refused", (_, body) => {
    assert.isTrue(Result.isFailure(parse(body)))
  })

  it.each(["constructor", "__proto__", "prototype", "toString", "hasOwnProperty", "__defineGetter__", "_x"])(
    "with an element that is called %s are read, and it is an element as any other",
    (odd) => {
      for (const element of [`<${odd}/>`, `<${odd}><a/>text</${odd}>`, `<p:${odd}>text</p:${odd}>`]) {
        const body = clean.replace("<device>", `<device>${element}`)
        assert.strictEqual(name(body), "Caf\u00e9")
        const root = Result.getOrThrow(Xml.parse(Network.bytes(body), 10_000))
        assert.strictEqual(Xml.child(root, "device")?.children[0]?.name, odd)
      }
      assert.isFalse(Object.hasOwn(Object.prototype, "a"))
    }
  )

  it.effect.prop(
    "never throw",
    [Schema.Uint8Array, Schema.String, Schema.String],
    ([noise, name, url]) =>
      Effect.sync(() => {
        parse(noise)
        parse(name)
        parse(describing([service(name, url)], name))
        parse(withBase(name, url))
        parse(`<${name}>${url}</${name}>`)
      }),
    { arbitrary: { runs: 300 } }
  )

  it("are refused without delay, however they are made", () => {
    const n = DeviceDescription.maximumBytes - 64
    const started = performance.now()
    for (const evil of ["<a>", "<", "&", "<!--", "<![CDATA[", " ", "<a b='", "<?", "]]>", "<a/>", "&amp;"]) {
      parse(`<root>${evil.repeat(Math.floor(n / evil.length))}`)
      parse(`<root>${evil.repeat(Math.floor(n / evil.length))}</root>`)
      parse(`<root ${evil.repeat(Math.floor(n / evil.length))}></root>`)
    }
    assert.isBelow(performance.now() - started, 15_000)
  })
})
