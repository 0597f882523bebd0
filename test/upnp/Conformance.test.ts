/**
 * Requirements of the documents that no other test shows; all of them are in test/conformance/upnp.ts.
 */
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Http from "@effect-nat/core/Http"
import type * as NatError from "@effect-nat/core/NatError"
import type * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Udp from "@effect-nat/core/Udp"
import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as EventSubscription from "@effect-nat/upnp/EventSubscription"
import * as Gena from "@effect-nat/upnp/Gena"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as Layer3Forwarding from "@effect-nat/upnp/Layer3Forwarding"
import * as Soap from "@effect-nat/upnp/Soap"
import * as SoapClient from "@effect-nat/upnp/SoapClient"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as SsdpListener from "@effect-nat/upnp/SsdpListener"
import * as SsdpSearch from "@effect-nat/upnp/SsdpSearch"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as UpnpErrorCode from "@effect-nat/upnp/UpnpErrorCode"
import * as WanCommonInterfaceConfig from "@effect-nat/upnp/WanCommonInterfaceConfig"
import * as WanIpConnection from "@effect-nat/upnp/WanIpConnection"
import * as WanIpv6FirewallControl from "@effect-nat/upnp/WanIpv6FirewallControl"
import * as WanPppConnection from "@effect-nat/upnp/WanPppConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Answering from "./answering.ts"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const settle = Effect.forEach(Array.from({ length: 80 }), () => Effect.yieldNow, { discard: true })

const pass = (time: Parameters<typeof TestClock.adjust>[0]) =>
  settle.pipe(Effect.andThen(TestClock.adjust(time)), Effect.andThen(settle))

/** A network, and what is written on its UDP sockets. */
const overheard = (network: Network.Network) => {
  const opened: Array<Udp.OpenOptions> = []
  const sent: Array<{ readonly to: string; readonly lines: ReadonlyArray<string> }> = []
  const udp = Layer.effect(
    Udp.Udp,
    Effect.map(Udp.Udp, (inner) => ({
      open: (options: Udp.OpenOptions) =>
        Effect.map(inner.open(options), (socket): Udp.UdpSocket => {
          opened.push(options)
          return {
            ...socket,
            send: (payload, to) => {
              const lines = new TextDecoder().decode(payload).split("\r\n")
              if (to !== undefined) sent.push({ to: NetAddress.formatInet(to), lines })
              return socket.send(payload, to)
            }
          }
        })
    }))
  )
  return { layer: Layer.merge(network.layer, Layer.provide(udp, network.layer)), opened, sent }
}

type Searching = Udp.Udp | NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute

const searched = Effect.fnUntraced(function* (
  search: Stream.Stream<SsdpSearch.Answer, NatError.NatError, Searching>,
  layer: Layer.Layer<Searching>
) {
  const fiber = yield* Effect.forkChild(Stream.runCollect(search).pipe(Effect.provide(layer)))
  yield* pass("30 seconds")
  return (yield* Fiber.join(fiber)).map(({ location }) => HttpUrl.format(location))
})

const multicast = "239.255.255.250:1900"

const value = (lines: ReadonlyArray<string>, name: string): string | undefined =>
  lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)

const decode = (...lines: ReadonlyArray<string>) =>
  Result.getOrThrow(Ssdp.decode(Network.bytes([...lines, "", ""].join("\r\n"))))

describe("a search", () => {
  it.effect("by multicast says where it goes and how long answers may take [UDA 1.3.2-bcd]", () =>
    Effect.gen(function* () {
      const { layer, sent } = overheard(Network.makeNetwork({ devices: [] }))
      yield* searched(SsdpSearch.search(), layer)
      const messages = sent.filter(({ to }) => to === multicast)
      assert.isAbove(messages.length, 10)
      for (const { lines } of messages) {
        assert.strictEqual(value(lines, "HOST"), multicast)
        assert.match(value(lines, "MX") ?? "", /^[1-5]$/)
      }
    })
  )

  it.effect("crosses two networks at the most, or as many as it is told [UDA 1.3.2-fg]", () =>
    Effect.gen(function* () {
      const { layer, opened } = overheard(Network.makeNetwork({ devices: [] }))
      yield* searched(SsdpSearch.search(), layer)
      const other = Layer.merge(layer, Layer.succeed(SsdpSearch.MulticastTtl, 4))
      const listener = Layer.build(SsdpListener.layer).pipe(Effect.provide(other), Effect.andThen(pass("1 second")))
      yield* Effect.scoped(listener)
      const ttls = opened.flatMap(({ multicast }) => (multicast?.ttl === undefined ? [] : [multicast.ttl]))
      assert.deepStrictEqual(ttls, [2, 4])
    })
  )

  it.effect("of one host has it in HOST [UDA 1.3.2-h]", () =>
    Effect.gen(function* () {
      const { layer, sent } = overheard(Network.makeNetwork({ devices: [] }))
      yield* searched(SsdpSearch.search(), layer)
      const toGateway = sent.filter(({ to }) => to === "192.168.1.1:1900")
      assert.isAbove(toGateway.length, 2)
      for (const { lines } of toGateway) assert.strictEqual(value(lines, "HOST"), "192.168.1.1:1900")
    })
  )

  it.effect.each([
    ["49152", 49_152],
    ["0065535", 65_535],
    ["49151", 1900],
    ["65536", 1900],
    ["many", 1900]
  ] as const)("of one host that has said SEARCHPORT %s goes there [UDA 1.3.2-i]", ([text, port]) =>
    Effect.gen(function* () {
      const network = Network.makeNetwork({ devices: [Router.makeRouter({ hears: () => false })] })
      const { layer, sent } = overheard(network)
      const listener = yield* SsdpListener.make.pipe(Effect.provide(layer))
      yield* listener.start
      yield* pass("70 seconds")
      const notify = new TextDecoder().decode(Router.makeRouter().notify("alive"))
      network.announce(
        Network.routerAddress,
        Network.bytes(notify.replace("\r\n\r\n", `\r\nSEARCHPORT.UPNP.ORG: ${text}\r\n\r\n`))
      )
      yield* settle
      assert.lengthOf(yield* listener.gateways, 1)
      sent.length = 0
      yield* pass("112 seconds")
      const unicast = sent.filter(({ to }) => to !== multicast)
      assert.isNotEmpty(unicast)
      for (const { lines, to } of unicast) {
        assert.strictEqual(to, `192.168.1.1:${port}`)
        assert.strictEqual(value(lines, "HOST"), to)
      }
    }).pipe(Effect.scoped)
  )

  it("is read back with its port", () => {
    const answer = decode("HTTP/1.1 200 OK", "LOCATION: http://a/", "SEARCHPORT.UPNP.ORG: 50000")
    assert.nestedPropertyVal(answer, "searchPort", 50_000)
    assert.deepStrictEqual(Result.getOrThrow(Ssdp.decode(Ssdp.encode(answer))), answer)
  })

  it.effect("waits for an answer that takes its time [UDA 1.3.2-jk]", () =>
    Effect.gen(function* () {
      // It hears only the last of the searches, and takes all of the second that it has.
      let heard = 0
      const slow = Router.makeRouter({
        answersAfter: "1 second",
        hears: ({ searchTarget, unicast }) => !unicast && searchTarget === "ssdp:all" && ++heard === 2
      })
      const byMulticast = yield* searched(SsdpSearch.search(), Network.makeNetwork({ devices: [slow] }).layer)
      assert.deepStrictEqual(byMulticast, ["http://192.168.1.1:5000/desc.xml"])
      const alone = Network.makeNetwork({ devices: [Router.makeRouter({ answersAfter: "1 second" })] })
      const address = NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(192, 168, 1, 1))
      assert.lengthOf(yield* searched(SsdpSearch.searchHost(address), alone.layer), 1)
    })
  )
})

describe("a message of SSDP", () => {
  const known = [
    "CACHE-CONTROL: max-age=1800",
    "LOCATION: http://192.168.1.1:5000/desc.xml",
    "NT: upnp:rootdevice",
    "NTS: ssdp:update",
    "SERVER: Linux/6.1 UPnP/1.1 Router/1.0",
    "USN: uuid:a::upnp:rootdevice",
    "BOOTID.UPNP.ORG: 1",
    "NEXTBOOTID.UPNP.ORG: 2",
    "CONFIGID.UPNP.ORG: 3"
  ]
  const plain = decode("NOTIFY * HTTP/1.1", "HOST: 239.255.255.250:1900", ...known)

  it("means the same in any order and case [UDA 1.1.2-a]", () => {
    const turned = known.toReversed().map((line) => line.replace(/^[^:]*/, (name) => name.toLowerCase()))
    assert.deepStrictEqual(decode("NOTIFY * HTTP/1.1", ...turned, "host: 239.255.255.250:1900"), plain)
  })

  it("may have fields that nobody knows [UDA 1.1.3-a]", () => {
    const more = [
      'OPT: "http://schemas.upnp.org/upnp/1/0/"; ns=01',
      "01-NLS: 9",
      "X-Vendor.example: a: b",
      "LATER.UPNP.ORG: 1"
    ]
    assert.deepStrictEqual(decode("NOTIFY * HTTP/1.1", "HOST: 239.255.255.250:1900", ...more, ...known), plain)
  })

  it("needs no port in HOST [UDA 1.2.2-c]", () => {
    assert.deepStrictEqual(decode("NOTIFY * HTTP/1.1", "HOST: 239.255.255.250", ...known), plain)
  })

  it("may have zeros before its numbers [UDA 1.2.2-g]", () => {
    const padded = known.map((line) => line.replace(/^(.*ID\.UPNP\.ORG: )/, "$100"))
    assert.include(padded, "NEXTBOOTID.UPNP.ORG: 002")
    assert.deepStrictEqual(decode("NOTIFY * HTTP/1.1", "HOST: 239.255.255.250:1900", ...padded), plain)
  })

  it.effect("may come from a device of a later version [UDA 1.2.2-h]", () =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const later = (said: Network.Said): Network.Said => ({
        ...said,
        payload: Network.bytes(new TextDecoder().decode(said.payload).replace("UPnP/1.1", "UPnP/1.9"))
      })
      const network = Network.makeNetwork({
        devices: [{ ...router, onSearch: (heard) => router.onSearch(heard).map(later) }]
      })
      assert.lengthOf(yield* searched(SsdpSearch.search(), network.layer), 1)
    })
  )

  it("may be an answer of version 1.0, with EXT [UDA 1.3.3-b]", () => {
    const answer = decode(
      "HTTP/1.1 200 OK",
      "CACHE-CONTROL: max-age=1800",
      "DATE: Sat, 01 Jan 2000 00:00:00 GMT",
      "EXT:",
      "LOCATION: http://192.168.1.1:5000/desc.xml",
      "SERVER: Linux/2.4 UPnP/1.0 Router/1.0",
      "ST: upnp:rootdevice",
      "USN: uuid:a::upnp:rootdevice"
    )
    assert.deepStrictEqual(
      answer,
      new Ssdp.SearchAnswer({
        searchTarget: "upnp:rootdevice",
        usn: "uuid:a::upnp:rootdevice",
        location: "http://192.168.1.1:5000/desc.xml",
        server: "Linux/2.4 UPnP/1.0 Router/1.0",
        maxAge: 1800,
        bootId: undefined,
        configId: undefined
      })
    )
  })
})

const location = Result.getOrThrow(HttpUrl.fromString("http://192.168.1.1:5000/desc.xml", Network.ip("192.168.1.1")))

const services = [{ serviceType: Router.wanIp1, controlUrl: "/ctl", externalAddress: "", status: "" }]

const description = Router.descriptionXml("Box", "uuid:1", services)

const read = (text: string) => Result.getOrThrow(DeviceDescription.parse(Network.bytes(text), location))

const added =
  '<x:added xmlns:x="urn:example:x" a="1"><controlURL>/wrong</controlURL><x:b><serviceType>no</serviceType></x:b></x:added>'

const remarks = "<!-- <controlURL>/wrong</controlURL> --><?vendor do='this'?>"

describe("a document", () => {
  it("has elements and attributes that nobody knows [UDA 2.2-a, 2.7-a]", () => {
    const text = description
      .replaceAll("<service>", `<service vendor="1">${added}`)
      .replaceAll("<device>", `<device x="y">${added}`)
      .replaceAll("</serviceList>", `<x:service xmlns:x="urn:x"/>${added}</serviceList>`)
    assert.deepStrictEqual(read(text), read(description))
  })

  it("is an answer or an event that has more in it than is known [UDA 2.2-a, 3.2.2-a, 4.3.2-f]", () => {
    const answer = Soap.encodeAnswer({ serviceType: Router.wanIp1, action: "GetExternalIPAddress" }, [
      ["NewExternalIPAddress", "11.22.33.1"]
    ]).replace("<NewExternalIPAddress>", `${added}<NewExternalIPAddress dt="string">`)
    const results = Result.getOrThrow(Soap.decodeAnswer(Network.bytes(answer), "GetExternalIPAddress"))
    assert.strictEqual(Soap.argument(results, "NewExternalIPAddress"), "11.22.33.1")
    const event = Gena.encodeEvent({ sid: "uuid:1", sequence: 0, properties: [["ExternalIPAddress", "11.22.33.1"]] })
    const headers = Object.fromEntries(event.headers.map(([name, value]) => [name.toLowerCase(), value]))
    const body = event.body.replace(
      "<e:property>",
      `${added}<e:property><X_Vendor a="1">x</X_Vendor></e:property><e:property>`
    )
    const { properties } = Result.getOrThrow(Gena.decodeEvent(headers, Network.bytes(body)))
    assert.strictEqual(Soap.argument(properties, "ExternalIPAddress"), "11.22.33.1")
  })

  it("is of a later minor version [UDA 2.3-f]", () => {
    const later = description.replace("<minor>0</minor>", "<minor>9</minor>")
    assert.notStrictEqual(later, description)
    assert.deepStrictEqual(read(later), read(description))
  })

  it("has comments and processing instructions [UDA 2.2-b]", () => {
    assert.deepStrictEqual(read(description.replaceAll("<device>", `${remarks}<device>${remarks}`)), read(description))
  })
})

const serviceWith = (eventSubUrl: string) => {
  const [service] = DeviceDescription.services(
    read(description.replace("<eventSubURL>/evt</eventSubURL>", eventSubUrl))
  )
  return service ?? assert.fail("no service")
}

it.effect.each(["", "<eventSubURL></eventSubURL>", "<eventSubURL/>"])(
  "a service with %j for its events is not asked for any [UDA 2.3-e]",
  (eventSubUrl) =>
    Effect.gen(function* () {
      const service = serviceWith(eventSubUrl)
      assert.isUndefined(service.eventSubUrl)
      const network = Network.makeNetwork({ devices: [Router.makeRouter()] })
      const error = yield* EventSubscription.subscribe({ service, gateway: Network.ip(Network.routerAddress) }).pipe(
        Effect.provide(network.layer),
        Effect.scoped,
        Effect.flip
      )
      assert.strictEqual(error.reason._tag, "Unsupported")
      assert.include(error.message, "has no events")
      assert.deepStrictEqual(network.requests, [])
    })
)

const wanService = (version: number): DeviceDescription.WanService => ({
  kind: "ip",
  version,
  service: Answering.service(Router.wanIp1)
})

it.effect.each([
  ["1", true],
  ["true", true],
  ["yes", true],
  ["0", false],
  ["false", false],
  ["no", false],
  ["2", undefined],
  ["", undefined]
] as const)("a Boolean of %j is %s [UDA 2.5-a]", ([text, expected]) =>
  Effect.gen(function* () {
    const { client } = Answering.always([["NewNATEnabled", text]])
    const { natEnabled } = yield* WanIpConnection.make(client, wanService(1)).getNatRsipStatus
    assert.strictEqual(natEnabled, expected)
  })
)

describe("a call", () => {
  const calling = (respond: (request: Http.HttpRequest) => Http.HttpResponse) =>
    Effect.provideService(SoapClient.make, Http.Http, { request: (request) => Effect.sync(() => respond(request)) })

  it.effect("has the version of the service's own type [UDA 3.2.1-d]", () =>
    Effect.gen(function* () {
      const serviceType = "urn:schemas-upnp-org:service:WANIPConnection:2"
      const bodies: Array<string> = []
      const client = yield* calling(({ body }) => {
        bodies.push(String(body))
        return Network.respond(200, Soap.encodeAnswer({ serviceType, action: "GetStatusInfo" }, []))
      })
      yield* client.call(Answering.service(serviceType), "GetStatusInfo", [])
      assert.include(bodies[0], `<u:GetStatusInfo xmlns:u="${serviceType}">`)
    })
  )

  it.effect("that is refused with status 500 says why [UDA 3.2.5-a]", () =>
    Effect.gen(function* () {
      const fault = new Soap.UpnpFault({ code: 718, description: "ConflictInMappingEntry" })
      const client = yield* calling(() => Network.respond(500, Soap.encodeFault(fault)))
      const error = yield* Effect.flip(client.call(Answering.service(Router.wanIp1), "AddPortMapping", []))
      assert.deepStrictEqual(error, fault)
    })
  )

  it("is judged by the code alone [UDA 3.2.5-c]", () => {
    for (const { code } of UpnpErrorCode.codes) {
      const kinds = ["", "NoSuchEntryInArray", "ConflictInMappingEntry", "Action not authorized"].map(
        (description) =>
          UpnpErrorCode.toNatError(new Soap.UpnpFault({ code, description }), {
            action: "AddPortMapping",
            externalPort: 12001
          }).reason._tag
      )
      assert.lengthOf(new Set(kinds), 1, String(code))
    }
  })

  it.effect("is never one for a state variable [UDA 3.3-a]", () =>
    Effect.gen(function* () {
      const { calls, client } = Answering.always([])
      const all = [
        WanIpConnection.make(client, wanService(2)),
        WanPppConnection.make(client, { kind: "ppp", version: 1, service: Answering.service(Router.wanPpp1) }),
        WanCommonInterfaceConfig.make(client, Answering.service("urn:x:WANCommonInterfaceConfig:1")),
        Layer3Forwarding.make(client, Answering.service("urn:x:Layer3Forwarding:1")),
        WanIpv6FirewallControl.make(client, Answering.service("urn:x:WANIPv6FirewallControl:1"))
      ]
      // What it is asked with does not matter: it is the name of the action that counts.
      const asked = { externalPort: 1, protocol: "TCP", leaseSeconds: 1, startPort: 1, endPort: 1, numberOfPorts: 0 }
      for (const action of all.flatMap((one) => Object.values(one) as Array<unknown>)) {
        const called: unknown = typeof action === "function" ? action(asked) : action
        if (Effect.isEffect(called)) yield* Effect.exit(called as Effect.Effect<unknown>)
      }
      const names = new Set(calls.map((call) => call.slice(0, call.indexOf("("))))
      assert.isAbove(names.size, 30)
      assert.isFalse(names.has("QueryStateVariable"))
    })
  )
})

it("a lease of 0 has no end [IP1 2.2.14-a]", () => {
  const entry = PortMappingEntry.make({
    description: "chess",
    externalPort: 12001,
    internalClient: Network.own,
    internalPort: 12000,
    leaseDuration: 0
  })
  const holder = { gateway: Network.ip(Network.routerAddress), externalAddress: undefined }
  const mapping = Result.getOrThrow(PortMappingEntry.toPortMapping(entry, holder))
  assert.strictEqual(mapping.lifetime, Duration.infinity)
  assert.deepStrictEqual(PortMappingEntry.fromPortMapping(mapping), entry)
})

it.effect.each(["", " ", "0.0.0.0"])("an external address of %j is none [IP1 2.2.11-a]", (text) =>
  Effect.gen(function* () {
    const { client } = Answering.always([["NewExternalIPAddress", text]])
    assert.isUndefined(yield* WanIpConnection.make(client, wanService(1)).getExternalIpAddress)
  })
)

it("a pinhole that is refused with error 606 is a lack of rights [IGD2 4.4.5-a]", () => {
  const { reason } = UpnpErrorCode.toNatError(new Soap.UpnpFault({ code: 606, description: "" }), {
    action: "AddPinhole"
  })
  assert.strictEqual(reason._tag, "NotAuthorized")
})

describe("a gateway of version 2", () => {
  const igd2 = (text: string) => text.replace("InternetGatewayDevice:1", "InternetGatewayDevice:2")
  const version2 = {
    serviceType: "urn:schemas-upnp-org:service:WANIPConnection:2",
    controlUrl: "/ctl",
    externalAddress: "11.22.33.1",
    status: "Connected"
  }

  const map = (more: object) =>
    PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12000, ...more }))

  const on = (router: Router.Router) => Upnp.layer.pipe(Layer.provide(Network.makeNetwork({ devices: [router] }).layer))

  it.effect.each([0, 65_536])("is not asked for port %i of this host [IP1 2.2.17-a]", (internalPort) =>
    Effect.gen(function* () {
      const router = Router.makeRouter()
      const error = yield* Effect.flip(map({ internalPort }).pipe(Effect.scoped, Effect.provide(on(router))))
      assert.strictEqual(error.reason._tag, "InvalidRequest")
      assert.deepStrictEqual(router.calls, [])
    })
  )

  it.effect("is found though it answers as one of version 1 [IGD2 4.1-a, UDA 2.3-d]", () =>
    Effect.gen(function* () {
      const text = igd2(Router.descriptionXml("Box", "uuid:2", [version2]))
      const router = Router.makeRouter({
        services: [version2],
        hears: ({ searchTarget }) => searchTarget === Router.igd1,
        description: () => Effect.succeed(Network.respond(200, text))
      })
      yield* map({}).pipe(Effect.scoped, Effect.provide(on(router)))
      assert.deepStrictEqual([...router.serviceTypes], [version2.serviceType])
    })
  )

  it.effect.each([12_000, 12_001])(
    "is not asked again for port %i when it says that there are no rights [IGD2 4.4.3-b]",
    (externalPort) =>
      Effect.gen(function* () {
        const router = Router.makeRouter({
          services: [version2],
          before: ({ action }) => (action.startsWith("Add") ? Effect.fail(Router.fault(606)) : Effect.void)
        })
        const error = yield* Effect.flip(map({ externalPort }).pipe(Effect.scoped, Effect.provide(on(router))))
        assert.strictEqual(error.reason._tag, "NotAuthorized")
        assert.lengthOf(
          router.calls.filter((call) => call.startsWith("AddPortMapping")),
          1
        )
      })
  )
})
