/** Every decoder that meets the network. */
import * as Capability from "@effect-nat/core/Capability"
import * as CloseReason from "@effect-nat/dispatcher/CloseReason"
import * as Facet from "@effect-nat/dispatcher/Facet"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as ProxyProtocol from "@effect-nat/dispatcher/ProxyProtocol"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Wire from "@effect-nat/dispatcher/Wire"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as Gena from "@effect-nat/upnp/Gena"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as Layer3Forwarding from "@effect-nat/upnp/Layer3Forwarding"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as Soap from "@effect-nat/upnp/Soap"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { concat } from "../../packages/testing/src/internal/bytes.ts"
import * as HttpFraming from "../../packages/testing/src/internal/httpFraming.ts"
import { contactPointDecoders } from "./contactPointDecoders.ts"
import * as Decoder from "./decoder.ts"
import * as Inputs from "./inputs.ts"
import type { Random } from "./inputs.ts"
import { gatewayDecoders } from "./gatewayDecoders.ts"
import { frame, hex, hexFrame, texts, valueOf, type Tokens } from "./parts.ts"
import * as Values from "./values.ts"

// SSDP

const kinds: readonly [Ssdp.Notify["kind"], ...ReadonlyArray<Ssdp.Notify["kind"]>] = ["alive", "update", "byebye"]

const ssdpMessage = (random: Random): Ssdp.Message => {
  const common = {
    usn: Values.line(random, 0, 3),
    server: Values.line(random, 0, 5),
    maxAge: Values.optional(random, Values.uint32),
    bootId: Values.optional(random, Values.uint32),
    configId: Values.optional(random, Values.uint32)
  }
  switch (random.between(0, 2)) {
    case 0:
      return new Ssdp.SearchRequest({
        host: Values.line(random, 0, 1),
        searchTarget: Values.line(random, 1, 2),
        mx: Values.optional(random, Values.uint32)
      })
    case 1:
      return new Ssdp.SearchAnswer({
        ...common,
        searchTarget: Values.line(random, 0, 2),
        location: Values.line(random, 1, 2)
      })
    default: {
      const kind = random.pick(kinds)
      return new Ssdp.Notify({
        ...common,
        kind,
        notificationType: Values.line(random, 0, 2),
        location: kind === "byebye" ? Values.optional(random, () => "http://a/") : Values.line(random, 1, 2),
        nextBootId: Values.optional(random, Values.uint32)
      })
    }
  }
}

const ssdp = Decoder.make<Ssdp.Message>({
  name: "ssdp",
  maximumBytes: Ssdp.maximumBytes,
  read: (bytes) => valueOf(Ssdp.decode(bytes), (error) => error instanceof Ssdp.SsdpError),
  write: Ssdp.encode,
  value: ssdpMessage,
  // A lone carriage return in a value goes out as a space.
  comesBack: "the second time",
  tokens: texts(
    "\r\n",
    "\n",
    "\r",
    "HTTP/1.1 200 OK\r\n",
    "M-SEARCH * HTTP/1.1\r\n",
    "NOTIFY * HTTP/1.1\r\n",
    'MAN: "ssdp:discover"\r\n',
    "ST: ssdp:all\r\n",
    "NTS: ssdp:alive\r\n",
    "LOCATION: http://192.168.1.1/\r\n",
    "LOCATION:\r\n http://192.168.1.1/\r\n",
    "CACHE-CONTROL: max-age = 1800\r\n",
    "CACHE-CONTROL: max-age =",
    "max-age",
    "BOOTID.UPNP.ORG: 99999999999\r\n",
    ":",
    " ",
    "\t",
    " \t",
    "\u0000",
    "\u00a0",
    "\ufeff",
    "é",
    "a: b\r\n",
    "a:\r\n "
  ),
  frames: [
    frame("", ""),
    frame("HTTP/1.1", " 200 OK\r\nLOCATION: http://a/\r\n\r\n"),
    frame("HTTP/1.1 200 OK\r\nLOCATION: http://a/\r\nCACHE-CONTROL: ", "\r\n\r\n"),
    frame("M-SEARCH *", "HTTP/1.1\r\n"),
    frame("NOTIFY * HTTP/1.1\r\n", "NTS: ssdp:byebye\r\n\r\n")
  ]
})

const http = Decoder.make<HttpUrl.HttpUrl>({
  name: "location",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) =>
    valueOf(HttpUrl.fromString(new TextDecoder().decode(bytes), router), (error) => typeof error === "string"),
  write: (url) => Inputs.fromText(HttpUrl.format(url)),
  value: (random) => ({
    address: NetAddress.inetAddressUnsafe(router, random.between(1, 65535)),
    path: urlPath(random)
  }),
  comesBack: "at once",
  longestRead: 2048,
  tokens: texts(
    "http://",
    "https://",
    "//",
    "/",
    "[::1]",
    ":80",
    ":0",
    "@",
    "?",
    "#",
    "..",
    "%2e",
    "%",
    "\\",
    " ",
    "é"
  ),
  frames: [frame("http://192.168.1.1/", ""), frame("http://", "/"), frame("", "")]
})

const router = NetAddress.ipFromStringUnsafe("192.168.1.1")

const urlPath = (random: Random): string =>
  `/${Values.list(random, 3, () => Values.word(random, "abcXYZ019_-", 1, 8)).join("/")}${random.chance(0.3) ? "?a=1&b=2" : ""}`

// XML

const xmlTokens = texts(
  "<a>",
  "</a>",
  "<a/>",
  "<a b='c'>",
  " b='c'",
  ' b="',
  "<",
  ">",
  "&",
  ";",
  "&amp;",
  "&#65;",
  "&#x41;",
  "&#xd800;",
  "&#0;",
  "&#9999999;",
  "&unknown;",
  "<!--",
  "-->",
  "<!-- a -->",
  "<![CDATA[",
  "]]>",
  "<![CDATA[a]]>",
  "<?xml version='1.0'?>",
  "<?a",
  "?>",
  "<!DOCTYPE a [<!ENTITY b 'c'>]>",
  "<__proto__>",
  "<constructor/>",
  "<toString>a</toString>",
  "<a:b xmlns:a='c'>",
  "\u0000",
  "\ufeff",
  "\ufffe",
  " ",
  "\n",
  "\t",
  "é",
  "'",
  '"',
  "=",
  "a"
)

const escapes: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", a: "&#97;", e: "&#x65;" }

/** Text in an element, in one of the ways in which it can be written. */
const xmlText = (text: string): string => {
  if (text.length % 3 === 0 && !text.includes("]]>")) return `<![CDATA[${text}]]>`
  const which = text.length % 3 === 1 ? /[&<>]/g : /[&<>ae]/g
  return text.replace(which, (character) => escapes[character] ?? character)
}

const location: HttpUrl.HttpUrl = {
  address: NetAddress.inetAddressUnsafe(router, 5000),
  path: "/desc/root.xml"
}

const service = (random: Random): DeviceDescription.Service => {
  const url = (): HttpUrl.HttpUrl => ({
    address: NetAddress.inetAddressUnsafe(router, random.pick([80, 5000, random.between(1, 65535)])),
    path: urlPath(random)
  })
  return {
    serviceType: random.chance(0.5)
      ? `urn:schemas-upnp-org:service:WAN${random.pick(["IP", "PPP"])}Connection:${random.between(1, 2)}`
      : Values.line(random, 0, 3),
    serviceId: Values.line(random, 0, 3),
    controlUrl: url(),
    eventSubUrl: Values.optional(random, url),
    scpdUrl: Values.optional(random, url)
  }
}

const device = (random: Random, depth = 0): DeviceDescription.Device => ({
  deviceType: Values.line(random, 0, 3),
  friendlyName: Values.line(random, 0, 5),
  manufacturer: Values.line(random, 0, 3),
  modelName: Values.line(random, 0, 3),
  udn: Values.line(random, 0, 2),
  services: Values.list(random, 2, service),
  devices: depth < 3 ? Values.list(random, 2, (one) => device(one, depth + 1)) : []
})

const xmlUrl = (tag: string, url: HttpUrl.HttpUrl | undefined): string => {
  if (url === undefined) return ""
  const isNear = url.address.port === location.address.port && !url.path.startsWith("//")
  return `<${tag}>${xmlText(isNear ? url.path : HttpUrl.format(url))}</${tag}>`
}

const xmlService = (one: DeviceDescription.Service): string =>
  `<service><serviceType>${xmlText(one.serviceType)}</serviceType><serviceId>${xmlText(one.serviceId)}</serviceId>${xmlUrl("controlURL", one.controlUrl)}${xmlUrl("eventSubURL", one.eventSubUrl)}${xmlUrl("SCPDURL", one.scpdUrl)}</service>`

const xmlDevice = (one: DeviceDescription.Device): string =>
  `<device>
  <deviceType>${xmlText(one.deviceType)}</deviceType><friendlyName>${xmlText(one.friendlyName)}</friendlyName>
  <manufacturer>${xmlText(one.manufacturer)}</manufacturer><modelName>${xmlText(one.modelName)}</modelName>
  <UDN>${xmlText(one.udn)}</UDN>
  <serviceList>${one.services.map(xmlService).join("\n")}</serviceList>
  <deviceList>${one.devices.map(xmlDevice).join("\n")}</deviceList>
</device>`

const description = Decoder.make<DeviceDescription.Device>({
  name: "description",
  maximumBytes: DeviceDescription.maximumBytes,
  read: (bytes) =>
    valueOf(
      DeviceDescription.parse(bytes, location),
      (error) => error instanceof DeviceDescription.DeviceDescriptionError
    ),
  write: (value) =>
    Inputs.fromText(
      `<?xml version="1.0"?>\n<root xmlns="urn:schemas-upnp-org:device-1-0">${xmlDevice(value)}</root>\n`
    ),
  value: device,
  comesBack: "at once",
  tokens: [
    ...xmlTokens,
    ...texts(
      "<device>",
      "</device>",
      "<deviceList><device>",
      "</device></deviceList>",
      "<serviceList><service>",
      "<controlURL>http://10.0.0.1:0/</controlURL>",
      "<service><controlURL>a</controlURL></service>",
      "<URLBase>http://192.168.1.1:80/</URLBase>"
    )
  ],
  frames: [
    frame("", ""),
    frame("<root><device>", "</device></root>"),
    frame("<root><device><serviceList>", "</serviceList></device></root>"),
    frame("<root><device><friendlyName>", "</friendlyName></device></root>"),
    frame("<root><device ", "></device></root>")
  ]
})

const soapFrames = [
  frame("", ""),
  frame("<Envelope><Body><GetAResponse>", "</GetAResponse></Body></Envelope>"),
  frame("<Envelope><Body><GetAResponse><b>", "</b></GetAResponse></Body></Envelope>"),
  frame("<Envelope><Body><GetAResponse ", "/></Body></Envelope>")
]

const soapTokens: Tokens = [
  ...xmlTokens,
  ...texts(
    "<s:Envelope>",
    "</s:Envelope>",
    "<s:Body>",
    "</s:Body>",
    "<u:GetAResponse>",
    "</u:GetAResponse>",
    "<s:Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></s:Fault>",
    "<faultstring>a</faultstring>",
    "<errorCode>-1</errorCode>"
  )
]

/** Results have unique names: the first of a name is the one that counts. */
const soapArguments = (random: Random): Soap.Arguments =>
  Values.list(random, 6, (one) => [`New${Values.name(one)}`, Values.line(one, 0, 4)] as const)

const action = "GetA"
const serviceType = "urn:schemas-upnp-org:service:WANIPConnection:1"

const soapAnswer = Decoder.make<Soap.Arguments>({
  name: "soap answer",
  maximumBytes: Soap.maximumBytes,
  read: (bytes) =>
    valueOf(
      Soap.decodeAnswer(bytes, action),
      (error) => error instanceof Soap.SoapError || error instanceof Soap.UpnpFault
    ),
  write: (value) => Inputs.fromText(Soap.encodeAnswer({ serviceType, action }, value)),
  value: soapArguments,
  // A router may use names that are never sent: they are changed on the way out.
  comesBack: "not checked",
  tokens: soapTokens,
  frames: soapFrames
})

const soapFault = Decoder.make<{ readonly code: number; readonly description: string }>({
  name: "soap fault",
  maximumBytes: Soap.maximumBytes,
  read: (bytes) => {
    const decoded = Soap.decodeAnswer(bytes, action)
    if (Result.isSuccess(decoded) || decoded.failure instanceof Soap.SoapError) return undefined
    const { code, description } = decoded.failure
    return { code, description }
  },
  write: (value) => Inputs.fromText(Soap.encodeFault(new Soap.UpnpFault(value))),
  value: (random) => ({ code: Values.uint32(random), description: Values.line(random, 0, 5) }),
  comesBack: "at once",
  tokens: soapTokens,
  frames: [
    frame("<Envelope><Body><Fault>", "</Fault></Body></Envelope>"),
    frame(
      "<Envelope><Body><Fault><detail><UPnPError><errorCode>718</errorCode><errorDescription>",
      "</errorDescription></UPnPError></detail></Fault></Body></Envelope>"
    )
  ]
})

const header = `"${serviceType}#${action}"`

const soapCall = Decoder.make<Soap.Call>({
  name: "soap call",
  maximumBytes: Soap.maximumBytes,
  read: (bytes) => valueOf(Soap.decodeCall(bytes, header), (error) => error instanceof Soap.SoapError),
  write: (value) => Inputs.fromText(Soap.encodeCall(value)),
  value: (random) => ({ serviceType, action, arguments: soapArguments(random) }),
  comesBack: "not checked",
  tokens: soapTokens,
  frames: soapFrames,
  // The header comes off the wire as well.
  also: (bytes) =>
    void valueOf(
      Soap.decodeCall(Inputs.fromText(header), new TextDecoder().decode(bytes)),
      (error) => error instanceof Soap.SoapError
    )
})

// Events

const isGenaError = (error: unknown): boolean => error instanceof Gena.GenaError

/** Header lines as a server hands them over. */
const headersOf = (bytes: Uint8Array): Gena.Headers =>
  Object.fromEntries(
    new TextDecoder("latin1")
      .decode(bytes)
      .split("\r\n")
      .map((line) => {
        const colon = line.indexOf(":")
        return colon < 0 ? [line.toLowerCase(), ""] : [line.slice(0, colon).toLowerCase(), line.slice(colon + 1)]
      })
  )

const headerLines = (list: Gena.HeaderList): Uint8Array =>
  Uint8Array.from(Buffer.from(list.map(([name, value]) => `${name}: ${value}\r\n`).join(""), "latin1"))

const sid = (random: Random): string => `uuid:${Values.word(random, "0123456789abcdef-", 1, 36)}`

const seconds = (random: Random): number => Math.max(1, Values.uint32(random))

const headerTokens = texts(
  "SID: uuid:1\r\n",
  "SID:",
  "TIMEOUT: Second-1800\r\n",
  "TIMEOUT: Second-infinite\r\n",
  "TIMEOUT: Second-99999999999\r\n",
  "NT: upnp:event\r\n",
  "CALLBACK: <http://a/>\r\n",
  "CALLBACK: ",
  "<http://a/>",
  "<",
  ">",
  "Second-",
  "__proto__: a\r\n",
  "\r\n",
  ":",
  " ",
  "\u0000",
  "é"
)

const granted = Decoder.make<Gena.Granted>({
  name: "event grant",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => valueOf(Gena.decodeGranted(headersOf(bytes)), isGenaError),
  write: (value) => headerLines(Gena.encodeGranted(value)),
  value: (random) => ({ sid: sid(random), timeoutSeconds: Values.optional(random, seconds) }),
  // Control characters in a SID do not go out again.
  comesBack: "the second time",
  tokens: headerTokens,
  frames: [frame("SID: a\r\nTIMEOUT: ", "\r\n"), frame("SID: ", "\r\n")]
})

const subscription = Decoder.make<Gena.Subscribe>({
  name: "event subscription",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => valueOf(Gena.decodeSubscribe(headersOf(bytes)), isGenaError),
  write: (value) => headerLines(Gena.encodeSubscribe(value)),
  value: (random) => {
    const timeoutSeconds = Values.optional(random, seconds)
    if (random.chance(0.5)) return { _tag: "Renewal", sid: sid(random), timeoutSeconds }
    const callbacks = [`http://a${urlPath(random)}`, ...Values.list(random, 3, (one) => `http://b${urlPath(one)}`)]
    return { _tag: "New", callbacks, timeoutSeconds }
  },
  // URLs with characters that no header may have do not go out as they came.
  comesBack: "not checked",
  tokens: headerTokens,
  frames: [frame("NT: upnp:event\r\nCALLBACK: ", "\r\n"), frame("NT: upnp:event\r\nCALLBACK: <", ">\r\n")],
  also: (bytes) => void valueOf(Gena.decodeUnsubscribe(headersOf(bytes)), isGenaError)
})

const eventHeaders: Gena.Headers = { nt: "upnp:event", nts: "upnp:propchange", sid: "uuid:1", seq: "1" }

const event = Decoder.make<Gena.Event>({
  name: "event",
  maximumBytes: Gena.maximumBytes,
  read: (bytes) => valueOf(Gena.decodeEvent(eventHeaders, bytes), isGenaError),
  write: (value) => Inputs.fromText(Gena.encodeEvent(value).body),
  value: (random) => ({ sid: "uuid:1", sequence: 1, properties: soapArguments(random) }),
  // A router may use names that are never sent: they are changed on the way out.
  comesBack: "not checked",
  tokens: [
    ...xmlTokens,
    ...texts(
      "<e:propertyset>",
      "</e:propertyset>",
      "<e:property>",
      "</e:property>",
      "<ExternalIPAddress>1.2.3.4</ExternalIPAddress>"
    )
  ],
  frames: [
    frame("", ""),
    frame("<propertyset>", "</propertyset>"),
    frame("<propertyset><property>", "</property></propertyset>"),
    frame("<propertyset><property><a>", "</a></property></propertyset>")
  ],
  // The headers come off the wire as well.
  also: (bytes) => void valueOf(Gena.decodeEvent(headersOf(bytes), Inputs.fromText("<propertyset/>")), isGenaError)
})

// What routers answer with

const listedEntry = (random: Random): PortMappingEntry.PortMappingEntry => ({
  remoteHost: random.chance(0.5) ? "" : NetAddress.formatIp(Values.ipv4(random)),
  externalPort: Values.uint16(random),
  protocol: random.pick(["TCP", "UDP"]),
  internalPort: Values.uint16(random),
  internalClient: NetAddress.formatIp(Values.ipv4(random)),
  enabled: random.chance(0.5),
  description: Values.line(random, 0, 3),
  leaseDuration: Values.uint32(random)
})

const wholeText = (bytes: Uint8Array): string => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes)

const portMappingList = Decoder.make<ReadonlyArray<PortMappingEntry.PortMappingEntry>>({
  name: "port mapping list",
  // Any amount of blanks is an empty list.
  maximumBytes: Number.POSITIVE_INFINITY,
  longestRead: Soap.maximumBytes,
  read: (bytes) => valueOf(PortMappingEntry.decodeList(wholeText(bytes)), (error) => typeof error === "string"),
  write: (list) => Inputs.fromText(PortMappingEntry.encodeList(list)),
  value: (random) => Values.list(random, 5, listedEntry),
  comesBack: "the second time",
  tokens: [
    ...xmlTokens,
    ...texts(
      "<PortMappingList>",
      "</PortMappingList>",
      "<p:PortMappingEntry>",
      "</p:PortMappingEntry>",
      "<NewExternalPort>1</NewExternalPort>",
      "<NewProtocol>TCP</NewProtocol>",
      "<NewLeaseTime>"
    )
  ],
  frames: [
    frame("", ""),
    frame("<PortMappingList>", "</PortMappingList>"),
    frame("<PortMappingList><PortMappingEntry>", "</PortMappingEntry></PortMappingList>")
  ]
})

const defaultConnection = Decoder.make<Layer3Forwarding.DefaultConnection>({
  name: "default connection",
  maximumBytes: Number.POSITIVE_INFINITY,
  longestRead: Soap.maximumBytes,
  // Any text is something: only what names a device counts as accepted.
  read: (bytes) => {
    const read = Layer3Forwarding.parseDefaultConnection(wholeText(bytes))
    return read === undefined || read.deviceUdn === "" ? undefined : read
  },
  write: ({ deviceUdn, serviceId }) => Inputs.fromText(`${deviceUdn}:WANConnectionDevice:1,${serviceId}`),
  value: (random) => ({
    deviceUdn: sid(random),
    serviceId: `urn:upnp-org:serviceId:${Values.name(random)}`
  }),
  // A half that is missing is not written.
  comesBack: "not checked",
  tokens: texts("uuid:1", "uuid:", ":WANConnectionDevice:1", ",", " ", "\n", "urn:upnp-org:serviceId:WANIPConn1", "é"),
  frames: [frame("", ""), frame("uuid:1,", ""), frame("uuid:", ",urn:upnp-org:serviceId:WANIPConn1")]
})

// What simulated routers are asked

const askingHost = NetAddress.ipFromStringUnsafe("192.168.77.2")

const requestHead = ({ headers, method, path }: UpnpResponder.Request): string =>
  [`${method} ${path} HTTP/1.1`, ...headers.map(([name, value]) => `${name}: ${value}`), "", ""].join("\r\n")

const requestBytes = (request: UpnpResponder.Request): Uint8Array =>
  concat([Inputs.fromText(requestHead(request)), request.body])

const requestTokens = texts(
  "POST /ctl/IPConn HTTP/1.1\r\n",
  "GET /rootDesc.xml HTTP/1.1\r\n",
  "SUBSCRIBE /evt/IPConn HTTP/1.1\r\n",
  "Content-Length: 3\r\n",
  "content-length: 99999999999\r\n",
  "Transfer-Encoding: chunked\r\n",
  `SOAPAction: ${header}\r\n`,
  "CALLBACK: <http://192.168.77.2:1/>\r\n",
  "NT: upnp:event\r\n",
  "TIMEOUT: Second-1\r\n",
  "\r\n",
  "\n",
  "\r",
  "\r\n\r\n",
  ":",
  " ",
  "\u0000"
)

/** Read at once, and in two pieces. */
const readInPieces = (bytes: Uint8Array, random: Random) => {
  const reader = new HttpFraming.RequestReader()
  const at = random.between(0, bytes.length)
  reader.push(bytes.subarray(0, at))
  const early = reader.take()
  if (early !== "Incomplete") return early
  reader.push(bytes.subarray(at))
  return reader.take()
}

const upnpRequest = Decoder.make<UpnpResponder.Request>({
  name: "router request",
  // What comes after the request is the next one.
  maximumBytes: Number.POSITIVE_INFINITY,
  longestRead: 80 * 1024,
  read: (bytes) => {
    const request = UpnpResponder.decode(bytes)
    return typeof request === "string" ? undefined : request
  },
  write: requestBytes,
  value: (random) => {
    const body = Inputs.bytesOf(random, random.between(0, 200))
    const headers = Values.list(random, 3, (one) => [Values.name(one), Values.word(one, 'abc:/="', 1, 9)] as const)
    return {
      method: random.pick(["GET", "POST", "M-POST", "SUBSCRIBE"]),
      path: `/${Values.word(random, "abc/?=%", 0, 9)}`,
      headers: [...headers, ["Content-Length", String(body.length)]],
      body
    }
  },
  comesBack: "not checked",
  tokens: requestTokens,
  frames: [frame("", ""), frame("GET / HTTP/1.1\r\n", "\r\n\r\n"), frame("GET / HTTP/1.1\r\nA: ", "\r\n\r\n")],
  also: (bytes, request, random) => {
    const again = readInPieces(bytes, random)
    // A head that never ends is refused as soon as it is too long, wherever the pieces end.
    if (request !== undefined) Decoder.same("read in two pieces", again, request)
  }
})

/** A router's whole answer to any bytes on its web server. */
const webServer = Decoder.make<Uint8Array>({
  name: "router answer",
  maximumBytes: Number.POSITIVE_INFINITY,
  longestRead: 80 * 1024,
  read: (bytes) => {
    const request = UpnpResponder.decode(bytes)
    if (typeof request === "string") return undefined
    const model = new RouterModel.RouterModel({ igdVersion: 2 })
    const place = UpnpResponder.placeOf(model)
    const requester = { client: askingHost, port: place.httpPort }
    const answer = UpnpResponder.answerRequest(model, 0, place, request, requester)
    void UpnpResponder.dueEvents(model, 0)
    return answer === undefined ? undefined : UpnpResponder.encode(model, answer)
  },
  write: (bytes) => bytes,
  value: (random) => {
    const { action } = random.pick([
      { action: "AddPortMapping" },
      { action: "AddAnyPortMapping" },
      { action: "GetListOfPortMappings" },
      { action: "GetGenericPortMappingEntry" }
    ])
    const asked: Soap.Call = {
      serviceType: "urn:schemas-upnp-org:service:WANIPConnection:2",
      action,
      arguments: random.chance(0.5) ? PortMappingEntry.toArguments(listedEntry(random)) : soapArguments(random)
    }
    const body = Inputs.fromText(Soap.encodeCall(asked))
    return requestBytes({
      method: "POST",
      path: "/ctl/IPConn",
      headers: [
        ["SOAPAction", Soap.soapAction(asked)],
        ["Content-Length", String(body.length)]
      ],
      body
    })
  },
  comesBack: "not checked",
  isOneWay: true,
  tokens: [...requestTokens, ...soapTokens],
  frames: [frame("SUBSCRIBE /evt/IPConn HTTP/1.1\r\nNT: upnp:event\r\nCALLBACK: ", "\r\n\r\n")]
})

/** A router's answers to any datagram on its SSDP port: none, or those that its clients can read. */
const searchedRouter = Decoder.make<ReadonlyArray<Uint8Array>>({
  name: "router search",
  maximumBytes: Ssdp.maximumBytes,
  read: (bytes) => {
    const model = new RouterModel.RouterModel()
    const search = { payload: bytes, client: askingHost, isMulticast: true }
    const answers = UpnpResponder.answerSearch(model, 0, UpnpResponder.placeOf(model), search)
    return answers.length === 0 ? undefined : answers.map(({ payload }) => payload)
  },
  write: (answers) => concat(answers),
  value: (random) => [
    Ssdp.encode(
      new Ssdp.SearchRequest({
        host: "239.255.255.250:1900",
        searchTarget: random.pick(["ssdp:all", "upnp:rootdevice", Values.line(random, 1, 2)]),
        mx: Values.optional(random, (one) => one.between(1, 5))
      })
    )
  ],
  comesBack: "not checked",
  isOneWay: true,
  tokens: ssdp.tokens,
  frames: ssdp.frames,
  also: (_, answers = []) => {
    const isRead = answers.every((answer) => Result.isSuccess(Ssdp.decode(answer)))
    if (!isRead) throw new Error("the router answers what its client cannot read")
  }
})

// The dispatcher's wire

const wireTokens = hex(
  "8e4e4154",
  "8e4e4154 01 00 0000 000102030405060708090a0b0c0d0e0f 34c30816221f12ca 101112131415161718191a1b1c1d1e1f",
  "8e4e4154 01 00 0000 202122232425262728292a2b2c2d2e2f 719e45981d4eda0a45a70ed3897a0182",
  "8e4e4154 01 03 0000",
  "0001 0000",
  "8001 0000",
  "0102 0003 aabbcc",
  "00000014 00000000 303132333435363738393a3b3c3d3e3f",
  "00000016 d8932aac 03 00000000000008 00000000000f433a 6869",
  "00000015 d202ef8d 02 00000000000007 00000000000f4240 00",
  "00000014 00000000 04 00000000000008 000000000016e360",
  "00000028 77516fcf 05 00000000000008 000000000016e360 707172737475767778797a7b7c7d7e7f 00000000",
  "00000029 f1c5351f 06 00000000000008 000000000016e3c4 0000000000000008 00000005 00000000 7374617465",
  "00000015 dcd967bf 09 00000000000008 00000000001e8480 08",
  "00000014",
  "00000000",
  "ffffffff",
  "00",
  "01"
)

const refusalReasons = new Set<string>(CloseReason.CloseReason.literals)

const decodedValue = <A>(decoded: Wire.Decoded<A>, bytes: Uint8Array): A | undefined => {
  switch (decoded._tag) {
    case "Complete":
      if (decoded.length > bytes.length) throw new Error("took more bytes than there are")
      return decoded.value
    case "Invalid":
      if (!refusalReasons.has(decoded.reason)) throw new Error(`refused for ${decoded.reason}`)
      return undefined
    case "Foreign":
    case "Incomplete":
      return undefined
  }
}

/** What is said of the first bytes is not taken back when more come. */
const checkPrefix =
  <A>(decode: (bytes: Uint8Array) => Wire.Decoded<A>) =>
  (bytes: Uint8Array, random: Random): void => {
    const early = decode(bytes.subarray(0, random.between(0, Math.min(bytes.length, 64))))
    if (early._tag !== "Incomplete") Decoder.same("with more bytes", decode(bytes), early)
  }

const extension = (random: Random): Wire.Extension =>
  new Wire.Extension({ type: Values.uint16(random), value: Inputs.bytesOf(random, random.between(0, 60)) })

const sessionId = (random: Random): SessionId.SessionId =>
  Option.getOrThrow(SessionId.fromBytes(Inputs.bytesOf(random, SessionId.byteLength)))

const helloStart =
  "8e4e4154 01 00 0000 000102030405060708090a0b0c0d0e0f 34c30816221f12ca 101112131415161718191a1b1c1d1e1f"

const checkHelloPrefix = checkPrefix(Wire.decodeHello)

const hello = Decoder.make<Wire.Hello>({
  name: "hello",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => decodedValue(Wire.decodeHello(bytes), bytes),
  write: Wire.encodeHello,
  value: (random) =>
    new Wire.Hello({
      sessionId: sessionId(random),
      capabilityName: Inputs.bytesOf(random, 8),
      nonce: Inputs.bytesOf(random, 16),
      extensions: Values.list(random, 6, extension)
    }),
  comesBack: "at once",
  longestRead: Wire.helloLength + Wire.maximumExtensionBytes,
  also: (bytes, _value, random) => checkHelloPrefix(bytes, random),
  tokens: wireTokens,
  frames: [hexFrame(helloStart, 6), hexFrame(helloStart), hexFrame("")]
})

const checkReplyPrefix = checkPrefix(Wire.decodeReply)

const refusals = CloseReason.CloseReason.literals.filter((reason) => reason !== "Done" && reason !== "Unknown")

const challengeStart = "8e4e4154 01 00 0000 202122232425262728292a2b2c2d2e2f 719e45981d4eda0a45a70ed3897a0182"

const reply = Decoder.make<Wire.Challenge | Wire.Refused>({
  name: "reply",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => decodedValue(Wire.decodeReply(bytes), bytes),
  write: (value) => {
    if (value._tag === "Challenge") return Wire.encodeChallenge(value)
    const { reason } = value
    return Wire.encodeRefused(reason === "Unknown" || reason === "Done" ? "Malformed" : reason)
  },
  value: (random) =>
    random.chance(0.5)
      ? new Wire.Challenge({
          nonce: Inputs.bytesOf(random, 16),
          proof: Inputs.bytesOf(random, 16),
          // What must be known is not, and is refused.
          extensions: Values.list(random, 6, extension).filter((one) => !Wire.isRequired(one))
        })
      : new Wire.Refused({
          reason: refusals[random.between(0, refusals.length - 1)] ?? "Malformed",
          version: Wire.version
        }),
  // A refusal of another version, or for an unknown reason, can be read and not be sent.
  comesBack: "the second time",
  longestRead: Wire.challengeLength + Wire.maximumExtensionBytes,
  also: (bytes, _value, random) => checkReplyPrefix(bytes, random),
  tokens: wireTokens,
  frames: [hexFrame(challengeStart, 6), hexFrame("8e4e4154 01 03 0000"), hexFrame("")]
})

/** What a decoder makes of a stream, in chunks that end at these places. */
const framesOf = (
  bytes: Uint8Array,
  ends: ReadonlyArray<number>,
  maxDataBytes: number
): { readonly frames: Array<Uint8Array>; readonly refusal: string | undefined } => {
  const decoder = new Wire.FrameDecoder(maxDataBytes)
  const frames: Array<Uint8Array> = []
  let refusal: string | undefined
  let start = 0
  for (const end of [...ends, bytes.length]) {
    refusal = decoder.push(bytes.subarray(start, end), (all, from, to) => frames.push(all.slice(from, to)))
    if (decoder.heldBytes > Math.min(bytes.length, maxDataBytes + Wire.headerLength)) {
      throw new Error(`holds ${decoder.heldBytes} bytes`)
    }
    start = end
  }
  return { frames, refusal }
}

/** The same, by the words of the protocol: as long as a length field allows it, that many bytes are one frame. */
const framesByTheBook = (bytes: Uint8Array, maxDataBytes: number): ReturnType<typeof framesOf> => {
  const frames: Array<Uint8Array> = []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let offset = 0
  while (bytes.length - offset >= 4) {
    const length = view.getUint32(offset)
    if (length < 20) return { frames, refusal: "Malformed" }
    if (length > 20 + maxDataBytes) return { frames, refusal: "FrameTooLarge" }
    if (offset + 4 + length > bytes.length) break
    frames.push(bytes.slice(offset, offset + 4 + length))
    offset += 4 + length
  }
  return { frames, refusal: undefined }
}

const chunkEnds = (random: Random, length: number): ReadonlyArray<number> => {
  const size = random.pick([1, 2, 3, 5, 64, 1500, 65536])
  // In single bytes it is long work for the campaign itself.
  const step = Math.max(size, Math.ceil(length / 2000))
  const ends: Array<number> = []
  for (let end = 0; end < length; end += random.between(0, 2 * step)) ends.push(end)
  return ends
}

/** Below 2^53, as no session reaches more; 2^48 leaves room for arithmetic. */
const count = (random: Random): number => (random.chance(0.5) ? Values.uint16(random) : Values.uint32(random) * 65_536)

const snapshotPart = (random: Random): Wire.SnapshotPart => {
  const data = Inputs.bytesOf(random, random.chance(0.1) ? 0 : 1 + Inputs.skewed(random, 3000))
  const offset = data.length === 0 ? 0 : Values.uint16(random)
  const size = data.length === 0 ? 0 : offset + data.length + Values.uint16(random)
  return { sequence: count(random), size, offset, data }
}

const facetsOf = (random: Random): Wire.Facets =>
  Object.fromEntries(
    Facet.all
      .filter(() => random.chance(0.7))
      // The last byte keeps it from being all zero, which is none.
      .map((facet) => [facet, concat([Inputs.bytesOf(random, 15), Uint8Array.of(1)])])
  )

const readableFrame = (random: Random): Wire.Frame => {
  const envelope = { sequence: count(random), stamp: count(random) }
  switch (random.between(0, 8)) {
    case 0:
      return {
        ...envelope,
        _tag: "Welcome",
        facets: facetsOf(random),
        life: Inputs.bytesOf(random, 8),
        maxDataBytes: Values.uint32(random)
      }
    case 1:
      return { ...envelope, _tag: "Joined", isResumed: random.chance(0.5) }
    case 2:
      return { ...envelope, _tag: "Tick" }
    case 3:
      return { ...envelope, _tag: "Serve", replyFacet: Inputs.bytesOf(random, 16), offset: Values.uint32(random) }
    case 4:
      return { ...envelope, _tag: "Snapshot", part: snapshotPart(random) }
    case 5:
      return { ...envelope, _tag: "NoSnapshot", reason: random.pick(["NoServer", "NoAnswer"]) }
    case 6:
      return { ...envelope, _tag: "Time", echo: Inputs.bytesOf(random, random.between(0, 64)) }
    case 7:
      return { ...envelope, _tag: "Close", reason: refusals[random.between(0, refusals.length - 1)] ?? "Done" }
    default:
      return { ...envelope, _tag: "Message", data: Inputs.bytesOf(random, Inputs.skewed(random, 3000)) }
  }
}

const writeFrame = (frame: Wire.Frame): Uint8Array => {
  switch (frame._tag) {
    case "Welcome":
      return Wire.encodeWelcome(frame, frame.facets, frame.life, frame.maxDataBytes)
    case "Joined":
      return Wire.encodeFrame(Wire.frameTypes.Joined, frame, Uint8Array.of(frame.isResumed ? 1 : 0))
    case "Message":
      return Wire.encodeFrame(Wire.frameTypes.Message, frame, frame.data)
    case "Serve":
      return Wire.encodeServe(frame, frame.replyFacet, frame.offset)
    case "Snapshot":
      return Wire.encodeFrame(Wire.frameTypes.Snapshot, frame, Wire.encodeSnapshotPart(frame.part))
    case "NoSnapshot":
      return Wire.encodeNoSnapshot(frame, frame.reason)
    case "Time":
      return Wire.encodeFrame(Wire.frameTypes.Time, frame, frame.echo)
    case "Close":
      return Wire.encodeClose(frame, frame.reason === "Unknown" ? "Done" : frame.reason)
    default:
      return Wire.encodeFrame(Wire.frameTypes.Tick, frame)
  }
}

const wireFrame = (random: Random): Uint8Array => {
  if (random.chance(0.5)) return writeFrame(readableFrame(random))
  const data = Inputs.bytesOf(random, Inputs.skewed(random, 300))
  if (random.chance(0.5)) return Wire.encodeRequest(Inputs.bytesOf(random, 16), data)
  return Wire.encodeFrame(Values.uint8(random), { sequence: count(random), stamp: count(random) }, data)
}

const dataLimit = 2048

const frames = Decoder.make<ReadonlyArray<Uint8Array>>({
  name: "frames",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => {
    // In small chunks, so that frames are put together as well as cut.
    const ends = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, index) => index * 7)
    const { frames, refusal } = framesOf(bytes, ends, dataLimit)
    for (const frame of frames) Wire.decodeFrame(frame)
    return refusal === undefined ? frames : undefined
  },
  write: concat,
  value: (random) => Values.list(random, 5, wireFrame).filter((frame) => frame.length <= dataLimit + Wire.headerLength),
  // What is left of an unfinished frame is not among the frames.
  comesBack: "at once",
  also: (bytes, _value, random) => {
    const maxDataBytes = random.pick([0, 16, dataLimit, 65_536, Wire.defaultMaxDataBytes])
    const expected = framesByTheBook(bytes, maxDataBytes)
    Decoder.same("in any chunks", framesOf(bytes, chunkEnds(random, bytes.length), maxDataBytes), expected)
    Decoder.same("in one chunk", framesOf(bytes, [], maxDataBytes), expected)
  },
  tokens: wireTokens,
  frames: [hexFrame(""), hexFrame("00000000", 2)]
})

/** Whole frames, as the stream's decoder hands them out. */
const frameBodies = Decoder.make<Wire.Frame>({
  name: "frame",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => {
    const frame = Wire.decodeFrame(bytes)
    if (frame._tag === "Invalid" && !refusalReasons.has(frame.reason)) throw new Error(`refused for ${frame.reason}`)
    // Greater numbers than a session reaches are not exact.
    const isExact = Number.isSafeInteger(frame.sequence) && Number.isSafeInteger(frame.stamp)
    return frame._tag === "Other" || frame._tag === "Invalid" || !isExact ? undefined : frame
  },
  write: writeFrame,
  value: readableFrame,
  comesBack: "the second time",
  // Data with the checksum that belongs to it, of every type: what is damaged says nothing about the rest.
  also: (bytes, _value, random) => {
    const type = random.between(0, 12)
    const frame = Wire.decodeFrame(Wire.encodeFrame(type, { sequence: 1, stamp: 2 }, bytes))
    if (frame._tag === "Invalid" && frame.reason !== "Malformed") throw new Error(`refused for ${frame.reason}`)
    Decoder.same("number and time", [frame.sequence, frame.stamp], [1, 2])
    if (frame._tag !== "Other" && frame._tag !== "Invalid") {
      const again = Wire.decodeFrame(writeFrame(frame))
      Decoder.same("intact, encoded, decoded twice", Wire.decodeFrame(writeFrame(again as Wire.Frame)), again)
    }
  },
  tokens: wireTokens,
  frames: [hexFrame("00000000 00000000 03 00000000000008 00000000000f433a", 2), hexFrame("")]
})

const snapshotParts = Decoder.make<Wire.SnapshotPart>({
  name: "snapshot part",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => {
    const part = Wire.decodeSnapshotPart(bytes)
    if (part === undefined) return undefined
    if (part.offset + part.data.length > part.size) throw new Error("lies beyond its size")
    return Number.isSafeInteger(part.sequence) ? part : undefined
  },
  write: Wire.encodeSnapshotPart,
  value: snapshotPart,
  comesBack: "at once",
  tokens: hex("0000000000000008 00000005 00000000 7374617465", "0000000000000008", "00000005", "ffffffff", "00"),
  frames: [hexFrame("0000000000000008 00010000 00000000"), hexFrame("")]
})

const resumes = Decoder.make<{ readonly sequence: number; readonly life: Uint8Array }>({
  name: "resume",
  maximumBytes: Wire.resumeLength,
  read: (bytes) => {
    const resume = Wire.decodeResume(bytes)
    return resume !== undefined && Number.isSafeInteger(resume.sequence) ? resume : undefined
  },
  write: ({ life, sequence }) => Wire.encodeResume(sequence, life),
  value: (random) => ({ sequence: count(random), life: Inputs.bytesOf(random, 8) }),
  comesBack: "at once",
  tokens: hex("0000000000000005 a0a1a2a3a4a5a6a7", "0000000000000005", "ffffffff", "00"),
  frames: [hexFrame("")]
})

const capability = (random: Random): Capability.Capability =>
  Capability.Capability.make(Values.word(random, "0123456789abcdef", 32, 32))

const invitation = Decoder.make<Invitation.Invitation>({
  name: "invitation",
  // Blanks around it are of no account.
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => Result.getOrUndefined(Invitation.fromString(new TextDecoder().decode(bytes))),
  write: (value) => Inputs.fromText(Invitation.format(value)),
  value: (random) => new Invitation.Invitation({ sessionId: sessionId(random), capability: capability(random) }),
  comesBack: "at once",
  tokens: texts("0123456789abcdef0123456789ABCDEF", ".", " ", "\n", "0", "g", "é"),
  frames: [(repeated) => repeated, frame("0123456789abcdef0123456789abcdef.", ""), frame(" ", " ")]
})

const proxySignature = "0d0a0d0a 000d0a51 5549540a"

/** As `encode` writes them: of one family, or none at all. */
const proxyHeader = (random: Random): ProxyProtocol.Header => {
  if (random.chance(0.1)) return { source: undefined, destination: undefined }
  const end = () => NetAddress.inetAddressUnsafe(Values.ip(random), Values.uint16(random))
  return { source: end(), destination: end() }
}

const proxyHeaders = Decoder.make<ProxyProtocol.Header>({
  name: "PROXY header",
  // What comes after it belongs to the connection.
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => {
    const decoded = ProxyProtocol.decode(bytes)
    if (decoded._tag !== "Complete") return undefined
    if (decoded.length > Math.min(bytes.length, ProxyProtocol.maximumBytes)) throw new Error("took too many bytes")
    return decoded.value
  },
  write: ProxyProtocol.encode,
  value: proxyHeader,
  comesBack: "at once",
  longestRead: ProxyProtocol.maximumBytes,
  also: (bytes, _value, random) => {
    const early = ProxyProtocol.decode(bytes.subarray(0, random.between(0, Math.min(bytes.length, 300))))
    if (early._tag !== "Incomplete") Decoder.same("with more bytes", ProxyProtocol.decode(bytes), early)
  },
  tokens: hex(
    proxySignature,
    `${proxySignature} 21 11 000c cb007109 c0000201 d431 2ee0`,
    `${proxySignature} 21 21 0024 20010db8000000000000000000000009 20010db8000100000000000000000001 d431 2ee0`,
    `${proxySignature} 20 00 0000`,
    "01 0002 6832",
    "0000",
    "ffff",
    "00"
  ),
  frames: [hexFrame(`${proxySignature} 20 00 0000`, 14), hexFrame(`${proxySignature} 21 11 000c`), hexFrame("")]
})

/** All of them. */
export const decoders: ReadonlyArray<Decoder.Decoder> = [
  ssdp,
  http,
  description,
  soapAnswer,
  soapFault,
  soapCall,
  granted,
  subscription,
  event,
  portMappingList,
  defaultConnection,
  upnpRequest,
  webServer,
  searchedRouter,
  ...gatewayDecoders,
  hello,
  reply,
  frames,
  frameBodies,
  snapshotParts,
  resumes,
  invitation,
  proxyHeaders,
  ...contactPointDecoders
]
