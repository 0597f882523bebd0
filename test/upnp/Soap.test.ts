import * as Http from "@effect-nat/core/Http"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as Soap from "@effect-nat/upnp/Soap"
import * as SoapClient from "@effect-nat/upnp/SoapClient"
import * as WanIpConnection from "@effect-nat/upnp/WanIpConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

const serviceType = Router.wanIp1

const entry: PortMappingEntry.PortMappingEntry = {
  remoteHost: "",
  externalPort: 12001,
  protocol: "TCP",
  internalPort: 12000,
  internalClient: "192.168.1.2",
  enabled: true,
  description: `"R&D" <1>`,
  leaseDuration: 7200
}

const decode = (body: string, action = "GetExternalIPAddress") => Soap.decodeAnswer(Network.bytes(body), action)

const body = (inside: string) => `<Envelope><Body>${inside}</Body></Envelope>`

describe("a call", () => {
  it("has exactly the bytes that strict routers want [UDA 3.1.1-a, 3.2.1-e, 2.5-b]", () => {
    assert.strictEqual(
      Soap.encodeCall({ serviceType, action: "AddPortMapping", arguments: PortMappingEntry.toArguments(entry) }),
      '<?xml version="1.0"?>\r\n' +
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>' +
        '<u:AddPortMapping xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">' +
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>12001</NewExternalPort><NewProtocol>TCP</NewProtocol>" +
        "<NewInternalPort>12000</NewInternalPort><NewInternalClient>192.168.1.2</NewInternalClient><NewEnabled>1</NewEnabled>" +
        "<NewPortMappingDescription>&quot;R&amp;D&quot; &lt;1&gt;</NewPortMappingDescription><NewLeaseDuration>7200</NewLeaseDuration>" +
        "</u:AddPortMapping></s:Body></s:Envelope>\r\n"
    )
  })

  it("is read back as it was", () => {
    const call = { serviceType, action: "AddPortMapping", arguments: PortMappingEntry.toArguments(entry) }
    const read = Soap.decodeCall(Network.bytes(Soap.encodeCall(call)), Soap.soapAction(call))
    assert.deepStrictEqual(Result.getOrThrow(read), call)
    assert.isTrue(Result.isFailure(Soap.decodeCall(Network.bytes(Soap.encodeCall(call)), '"urn:x#Other"')))
  })

  it.effect("goes out with the header in its exact case, to the service's own control URL [UDA 3.2.1-abc]", () =>
    Effect.gen(function* () {
      const sent: Array<Http.HttpRequest> = []
      const controlUrl = Result.getOrThrow(HttpUrl.fromString("http://a:5000/ctl?a=1", Network.ip("192.168.1.1")))
      const client = yield* SoapClient.make.pipe(
        Effect.provideService(Http.Http, {
          request: (request) =>
            Effect.sync(() => {
              sent.push(request)
              return Network.respond(200, Soap.encodeAnswer({ serviceType, action: "DeletePortMapping" }, []))
            })
        })
      )
      const connection = WanIpConnection.make(client, {
        kind: "ip",
        version: 1,
        service: { serviceType, serviceId: "", controlUrl, eventSubUrl: undefined, scpdUrl: undefined }
      })
      yield* connection.deletePortMapping(entry)
      assert.strictEqual(sent[0]?.method, "POST")
      assert.strictEqual(sent[0]?.path, "/ctl?a=1")
      assert.deepStrictEqual(sent[0]?.headers, [
        ["Content-Type", 'text/xml; charset="utf-8"'],
        ["SOAPAction", '"urn:schemas-upnp-org:service:WANIPConnection:1#DeletePortMapping"']
      ])
      assert.include(
        sent[0]?.body ?? "",
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>12001</NewExternalPort><NewProtocol>TCP</NewProtocol></u:"
      )
    })
  )
})

describe("an answer", () => {
  it.each([
    [
      "any prefix",
      body(
        "<m:GetExternalIPAddressResponse><NewExternalIPAddress>1.2.3.4</NewExternalIPAddress></m:GetExternalIPAddressResponse>"
      )
    ],
    [
      "odd case",
      body(
        "<u:getexternalipaddressresponse><NEWExternalIPAddress> 1.2.3.4\n</NEWExternalIPAddress></u:getexternalipaddressresponse>"
      )
    ],
    [
      "a header before the body",
      `<e:Envelope><e:Header><x/></e:Header><e:Body><a:GetExternalIPAddressResponse><b>x</b><NewExternalIPAddress>1.2.3.4</NewExternalIPAddress></a:GetExternalIPAddressResponse></e:Body></e:Envelope>`
    ]
  ])("is read with %s [UDA 2.2-c, 3.1.1-b, 3.2.2-a]", (_, text) => {
    assert.strictEqual(Soap.argument(Result.getOrThrow(decode(text)), "NewExternalIPAddress"), "1.2.3.4")
  })

  it("that refuses gives code and description [UDA 3.2.5-a]", () => {
    const read = decode(Soap.encodeFault(new Soap.UpnpFault({ code: 718, description: "Conflict <now>" })))
    assert.deepStrictEqual(
      Result.isFailure(read) && read.failure,
      new Soap.UpnpFault({ code: 718, description: "Conflict <now>" })
    )
  })

  it.each([
    ["the answer to another action", body("<DeletePortMappingResponse/>")],
    ["a fault without a code", body("<Fault><faultstring>no</faultstring></Fault>")],
    ["a code that is none", body("<Fault><detail><UPnPError><errorCode>-1e3</errorCode></UPnPError></detail></Fault>")],
    ["an empty body", body("")],
    ["a page", "<html><body><h1>Login</h1></body></html>"],
    ["a DOCTYPE", `<!DOCTYPE a>${body("<GetExternalIPAddressResponse/>")}`],
    ["too many bytes", body(`<GetExternalIPAddressResponse>${" ".repeat(70_000)}</GetExternalIPAddressResponse>`)]
  ])("that is %s is malformed [UDA 3.2.2-b]", (_, text) => {
    const read = decode(text)
    assert.strictEqual(Result.isFailure(read) && read.failure._tag, "SoapError")
  })

  it.effect.prop(
    "never throws",
    [Schema.Uint8Array, Schema.String],
    ([noise, value]) =>
      Effect.sync(() => {
        Soap.decodeAnswer(noise, value)
        decode(value)
        decode(body(value), value)
        Soap.decodeCall(Network.bytes(body(`<${value}/>`)), value)
      }),
    { arbitrary: { runs: 300 } }
  )

  it.effect.prop(
    "carries any text that XML can [UDA 2.2-d]",
    [Schema.String],
    ([value]) =>
      Effect.sync(() => {
        const text = value
          .replaceAll(/[^\u0020-\ud7ff]/g, "")
          .replaceAll(/[\u007f-\u009f]/g, "")
          .trim()
        const read = decode(Soap.encodeAnswer({ serviceType, action: "GetExternalIPAddress" }, [["A", text]]))
        assert.strictEqual(Soap.argument(Result.getOrThrow(read), "A"), text)
      }),
    { arbitrary: { runs: 300 } }
  )
})

describe("an entry", () => {
  it("has its eight fields in the canonical order", () => {
    const fields = ["8.8.8.8", 12001, "UDP", 12000, "192.168.1.2", false, "games", 0] as const
    const of = PortMappingEntry.fromFields(fields)
    assert.deepStrictEqual(PortMappingEntry.toFields(of), fields)
    const mapping = Result.getOrThrow(
      PortMappingEntry.toPortMapping(of, { gateway: Network.ip("192.168.1.1"), externalAddress: undefined })
    )
    assert.strictEqual(PortMapping.lifetimeSeconds(mapping), 0)
    assert.isFalse(mapping.enabled)
    assert.deepStrictEqual(PortMappingEntry.toFields(PortMappingEntry.fromPortMapping(mapping)), fields)
  })

  it.each([
    ["TCP", "TCP"],
    ["udp", "UDP"],
    ["SCTP", undefined],
    ["BOTH", undefined],
    ["6", undefined],
    ["", undefined]
  ] as const)("of protocol %j is of %j [IP1 2.2.18-a]", (protocol, expected) => {
    const fields = PortMappingEntry.toArguments(entry).map(
      ([name, value]) => [name, name === "NewProtocol" ? protocol : value] as const
    )
    const read = PortMappingEntry.fromArguments(fields)
    assert.strictEqual(Result.isSuccess(read) ? read.success.protocol : undefined, expected)
  })

  it.effect.prop(
    "never throws as a list",
    [Schema.String, Schema.String],
    ([noise, value]) =>
      Effect.sync(() => {
        PortMappingEntry.decodeList(noise)
        PortMappingEntry.decodeList(`<PortMappingList><PortMappingEntry>${noise}</PortMappingEntry></PortMappingList>`)
        const description = value.replaceAll(/[^\u0020-\u007e]/g, "").trim()
        const named = { ...entry, description: description.replaceAll(/ +/g, " ") }
        assert.deepStrictEqual(Result.getOrThrow(PortMappingEntry.decodeList(PortMappingEntry.encodeList([named]))), [
          named
        ])
      }),
    { arbitrary: { runs: 300 } }
  )

  it("has a short form", () => {
    const needed = { description: "games", externalPort: 12001, internalClient: "192.168.1.2", internalPort: 12000 }
    assert.deepStrictEqual(PortMappingEntry.toFields(PortMappingEntry.make(needed)), [
      "",
      12001,
      "TCP",
      12000,
      "192.168.1.2",
      true,
      "games",
      0
    ])
    const rest = { remoteHost: "8.8.8.8", protocol: "UDP", enabled: false, leaseDuration: 60 } as const
    assert.deepStrictEqual(PortMappingEntry.make({ ...needed, ...rest }), { ...needed, ...rest })
  })

  it("is read with the habits of routers", () => {
    const read = PortMappingEntry.fromArguments([
      ["NewRemoteHost", ""],
      ["newexternalport", " 80 "],
      ["NewProtocol", "tcp"],
      ["NewInternalPort", "8080"],
      ["NewInternalClient", "192.168.1.2"],
      ["NewEnabled", "True"]
    ])
    assert.deepStrictEqual(PortMappingEntry.toFields(Result.getOrThrow(read)), [
      "",
      80,
      "TCP",
      8080,
      "192.168.1.2",
      true,
      "",
      0
    ])
  })

  it.each(["65536", "-1", "1e3", "0x50", "", "80 90"])("has no port %j", (port) => {
    const list = PortMappingEntry.toArguments(entry).map(([name, value]) =>
      name === "NewExternalPort" ? ([name, port] as const) : ([name, value] as const)
    )
    assert.isTrue(Result.isFailure(PortMappingEntry.fromArguments(list)))
  })

  it.effect.prop(
    "never throws",
    [Schema.String, Schema.String, Schema.String],
    ([host, port, client]) =>
      Effect.sync(() => {
        const read = PortMappingEntry.fromArguments([
          ["NewRemoteHost", host],
          ["NewExternalPort", port],
          ["NewProtocol", "UDP"],
          ["NewInternalPort", String(port.length)],
          ["NewInternalClient", client],
          ["NewLeaseDuration", host]
        ])
        const holder = { gateway: Network.ip("192.168.1.1"), externalAddress: undefined }
        if (Result.isSuccess(read)) PortMappingEntry.toPortMapping(read.success, holder)
        PortMappingEntry.toPortMapping({ ...entry, remoteHost: host, internalClient: client }, holder)
      }),
    { arbitrary: { runs: 300 } }
  )
})
