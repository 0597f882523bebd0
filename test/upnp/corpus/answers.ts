/**
 * Answers to calls in the shapes that routers give them, each with what a caller gets. Vendors, names and addresses are
 * invented.
 */
import type * as Layer3Forwarding from "@effect-nat/upnp/Layer3Forwarding"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import type * as Soap from "@effect-nat/upnp/Soap"
import type * as WanCommonInterfaceConfig from "@effect-nat/upnp/WanCommonInterfaceConfig"
import type * as WanIpConnection from "@effect-nat/upnp/WanIpConnection"
import type * as WanIpv6FirewallControl from "@effect-nat/upnp/WanIpv6FirewallControl"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Network from "../network.ts"

export interface Services {
  readonly connection: WanIpConnection.WanIpConnection
  readonly line: WanCommonInterfaceConfig.WanCommonInterfaceConfig
  readonly firewall: WanIpv6FirewallControl.WanIpv6FirewallControl
  readonly forwarding: Layer3Forwarding.Layer3Forwarding
}

export interface Refusal {
  readonly code: number
  readonly description: string
}

export interface Answer {
  readonly what: string
  readonly ask: (services: Services) => Effect.Effect<unknown, WanIpConnection.ActionError>
  readonly body: string | Uint8Array
  /** What the caller gets, or the refusal, or a part of what is wrong with the answer. */
  readonly expected: { readonly value: unknown } | { readonly fault: Refusal } | { readonly malformed: string }
}

const envelope = (inside: string): string =>
  `<?xml version="1.0"?>\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>${inside}</s:Body></s:Envelope>\n`

const elements = (list: Soap.Arguments): string => list.map(([name, value]) => `<${name}>${value}</${name}>`).join("")

const response = (action: string, list: Soap.Arguments = []): string =>
  envelope(
    `<u:${action}Response xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">${elements(list)}</u:${action}Response>`
  )

const fault = (code: string, description: string): string =>
  envelope(
    `<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>${code}</errorCode><errorDescription>${description}</errorDescription></UPnPError></detail></s:Fault>`
  )

const key: PortMappingEntry.Key = { remoteHost: "", externalPort: 12001, protocol: "TCP" }

const entry = PortMappingEntry.make({
  description: "chess",
  externalPort: 12001,
  internalClient: "192.168.1.2",
  internalPort: 12000
})

const address = ({ connection }: Services) =>
  Effect.map(connection.getExternalIpAddress, (found) => (found === undefined ? "none" : NetAddress.formatIp(found)))
const add = ({ connection }: Services) => connection.addPortMapping(entry)
const addAny = ({ connection }: Services) => connection.addAnyPortMapping(entry)
const remove = ({ connection }: Services) => connection.deletePortMapping(key)
const status = ({ connection }: Services) => connection.getStatusInfo
const generic = ({ connection }: Services) => connection.getGenericPortMappingEntry(0)
const specific = ({ connection }: Services) => connection.getSpecificPortMappingEntry(key)
const listed = ({ connection }: Services) =>
  connection.getListOfPortMappings({ startPort: 1, endPort: 65_535, protocol: "TCP", manage: true, numberOfPorts: 0 })

const addressIs = (text: string): string => response("GetExternalIPAddress", [["NewExternalIPAddress", text]])

const good = addressIs("11.22.33.1")

const addresses: ReadonlyArray<Answer> = [
  { what: "an address as the document has it", ask: address, body: good, expected: { value: "11.22.33.1" } },
  {
    what: "an address with white space",
    ask: address,
    body: addressIs("\r\n  11.22.33.1 "),
    expected: { value: "11.22.33.1" }
  },
  {
    what: "an address in CDATA",
    ask: address,
    body: addressIs("<![CDATA[11.22.33.1]]>"),
    expected: { value: "11.22.33.1" }
  },
  { what: "an empty address", ask: address, body: addressIs(""), expected: { value: "none" } },
  {
    what: "an element that closes itself",
    ask: address,
    body: good.replace(/<NewExternal.*Address>/, "<NewExternalIPAddress/>"),
    expected: { value: "none" }
  },
  { what: "no results", ask: address, body: response("GetExternalIPAddress"), expected: { value: "none" } },
  { what: "0.0.0.0", ask: address, body: addressIs("0.0.0.0"), expected: { value: "none" } },
  { what: "a private address", ask: address, body: addressIs("10.64.0.7"), expected: { value: "10.64.0.7" } },
  { what: "words for an address", ask: address, body: addressIs("(null)"), expected: { value: "none" } }
]

const shapes: ReadonlyArray<Answer> = [
  {
    what: "the prefix SOAP-ENV",
    ask: address,
    body: `<?xml version="1.0" encoding="UTF-8"?><SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"><SOAP-ENV:Body><m:GetExternalIPAddressResponse xmlns:m="urn:schemas-upnp-org:service:WANIPConnection:1"><NewExternalIPAddress xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="string">11.22.33.1</NewExternalIPAddress></m:GetExternalIPAddressResponse></SOAP-ENV:Body></SOAP-ENV:Envelope>`,
    expected: { value: "11.22.33.1" }
  },
  {
    what: "no prefixes at all",
    ask: address,
    body: "<Envelope><Body><GetExternalIPAddressResponse><NewExternalIPAddress>11.22.33.1</NewExternalIPAddress></GetExternalIPAddressResponse></Body></Envelope>",
    expected: { value: "11.22.33.1" }
  },
  {
    what: "a prefix on the result",
    ask: address,
    body: good.replaceAll("NewExternalIPAddress>", "u:NewExternalIPAddress>"),
    expected: { value: "11.22.33.1" }
  },
  {
    what: "names in upper case",
    ask: address,
    body: good.replaceAll(
      /<(\/?)([suA-Za-z:]+)/g,
      (_, slash: string, name: string) => `<${slash}${name.toUpperCase()}`
    ),
    expected: { value: "11.22.33.1" }
  },
  {
    what: "a SOAP header first",
    ask: address,
    body: good.replace("<s:Body>", "<s:Header><x>1</x></s:Header><s:Body>"),
    expected: { value: "11.22.33.1" }
  },
  {
    what: "the service type of another version",
    ask: address,
    body: good.replace("WANIPConnection:1", "WANPPPConnection:2"),
    expected: { value: "11.22.33.1" }
  },
  { what: "a tab before the declaration", ask: address, body: `\t${good}`, expected: { value: "11.22.33.1" } },
  { what: "a byte order mark", ask: address, body: `\ufeff${good}`, expected: { value: "11.22.33.1" } },
  { what: "zero bytes behind it", ask: address, body: `${good}\u0000\u0000`, expected: { value: "11.22.33.1" } },
  {
    what: "line ends and comments between elements",
    ask: address,
    body: good.replaceAll("><", ">\n  <!-- - -->\n<"),
    expected: { value: "11.22.33.1" }
  },
  { what: "success without a word", ask: add, body: response("AddPortMapping"), expected: { value: undefined } },
  {
    what: "success in an element that closes itself",
    ask: remove,
    body: envelope("<u:DeletePortMappingResponse xmlns:u='x'/>"),
    expected: { value: undefined }
  }
]

const values: ReadonlyArray<Answer> = [
  {
    what: "the state of a line",
    ask: status,
    body: response("GetStatusInfo", [
      ["NewConnectionStatus", "Connected"],
      ["NewLastConnectionError", "ERROR_NONE"],
      ["NewUptime", "86400"]
    ]),
    expected: { value: { connectionStatus: "Connected", lastConnectionError: "ERROR_NONE", uptime: 86_400 } }
  },
  {
    what: "the state of a line with an uptime in words",
    ask: status,
    body: response("GetStatusInfo", [
      ["NewConnectionStatus", "Up"],
      ["NewUptime", "1 day"]
    ]),
    expected: { value: { connectionStatus: "Up", lastConnectionError: "", uptime: undefined } }
  },
  {
    what: "an entry as the document has it",
    ask: generic,
    body: response("GetGenericPortMappingEntry", PortMappingEntry.toArguments(entry)),
    expected: { value: entry }
  },
  {
    what: "an entry in another order, with a name as client, in Latin-1",
    ask: generic,
    body: Uint8Array.from(
      response("GetGenericPortMappingEntry", [
        ["NewPortMappingDescription", "Caf\u00e9 &amp; more"],
        ["NewInternalClient", "desktop"],
        ["NewInternalPort", "0012000"],
        ["NewProtocol", "tcp"],
        ["NewEnabled", "yes"],
        ["NewExternalPort", "12001"]
      ]),
      (char) => char.charCodeAt(0)
    ),
    expected: { value: { ...entry, internalClient: "desktop", description: "Caf\u00e9 & more" } }
  },
  {
    what: "an entry without what was asked by",
    ask: specific,
    body: response("GetSpecificPortMappingEntry", PortMappingEntry.toArguments(entry).slice(3)),
    expected: { value: entry }
  },
  {
    what: "an entry with a range of ports",
    ask: generic,
    body: response("GetGenericPortMappingEntry", [
      ["NewExternalPort", "6881-6889"],
      ["NewProtocol", "TCP"]
    ]),
    expected: { malformed: "no external port" }
  },
  {
    what: "an entry with both protocols",
    ask: generic,
    body: response("GetGenericPortMappingEntry", [
      ["NewExternalPort", "80"],
      ["NewProtocol", "TCP/UDP"],
      ["NewInternalPort", "80"]
    ]),
    expected: { malformed: "no protocol" }
  },
  {
    what: "a reserved port",
    ask: addAny,
    body: response("AddAnyPortMapping", [["NewReservedPort", "12002"]]),
    expected: { value: 12_002 }
  },
  {
    what: "a mapping without the reserved port",
    ask: addAny,
    body: response("AddAnyPortMapping"),
    expected: { malformed: "NewReservedPort" }
  },
  {
    what: "a counter that was printed as signed",
    ask: ({ line }) => line.getTotalBytesSent,
    body: response("GetTotalBytesSent", [["NewTotalBytesSent", "-2"]]),
    expected: { value: 4_294_967_294 }
  },
  {
    what: "the firewall's state in words",
    ask: ({ firewall }) => firewall.getFirewallStatus,
    body: response("GetFirewallStatus", [
      ["FirewallEnabled", "TRUE"],
      ["InboundPinholeAllowed", "no"]
    ]),
    expected: { value: { isEnabled: true, isInboundPinholeAllowed: false } }
  },
  {
    what: "the default connection",
    ask: ({ forwarding }) => forwarding.getDefaultConnectionService,
    body: response("GetDefaultConnectionService", [
      ["NewDefaultConnectionService", "uuid:1-2:WANConnectionDevice:1,urn:upnp-org:serviceId:WANIPConn1"]
    ]),
    expected: { value: { deviceUdn: "uuid:1-2", serviceId: "urn:upnp-org:serviceId:WANIPConn1" } }
  }
]

const list = PortMappingEntry.encodeList([entry, { ...entry, externalPort: 80, leaseDuration: 60 }])
const listValue = [entry, { ...entry, externalPort: 80, leaseDuration: 60 }]
const listing = (text: string): string => response("GetListOfPortMappings", [["NewPortListing", text]])
const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

const lists: ReadonlyArray<Answer> = [
  { what: "a list, escaped", ask: listed, body: listing(escaped(list)), expected: { value: listValue } },
  { what: "a list in CDATA", ask: listed, body: listing(`<![CDATA[${list}]]>`), expected: { value: listValue } },
  {
    what: "a list as it is",
    ask: listed,
    body: listing(list.replace(/<\?.*?\?>/, "").replaceAll("chess", "R&amp;D &lt;1&gt;")),
    expected: { value: listValue.map((one) => ({ ...one, description: "R&D <1>" })) }
  },
  {
    what: "a list with line ends, without prefixes, with the actions' names",
    ask: listed,
    body: listing(
      escaped(`
<PortMappingList>
  <PortMappingEntry>
    ${elements(PortMappingEntry.toArguments(entry)).replaceAll("><", ">\n    <")}
  </PortMappingEntry>
</PortMappingList>`)
    ),
    expected: { value: [entry] }
  },
  {
    what: "an empty list",
    ask: listed,
    body: listing(escaped("<p:PortMappingList xmlns:p='x'/>")),
    expected: { value: [] }
  },
  { what: "no list", ask: listed, body: listing(""), expected: { value: [] } },
  {
    what: "a list with an entry that makes no sense",
    ask: listed,
    body: listing(escaped(list.replace("12001", "-1"))),
    expected: { value: listValue.slice(1) }
  },
  {
    what: "a list with a DOCTYPE",
    ask: listed,
    body: listing(escaped(`<!DOCTYPE a>${list}`)),
    expected: { malformed: "DOCTYPE" }
  },
  {
    what: "a list that breaks off",
    ask: listed,
    body: listing(escaped(list.slice(0, 300))),
    expected: { malformed: "not well-formed" }
  },
  { what: "words for a list", ask: listed, body: listing("none"), expected: { malformed: "GetListOfPortMappings" } }
]

const refusals: ReadonlyArray<Answer> = [
  {
    what: "a refusal as the document has it",
    ask: add,
    body: fault("718", "ConflictInMappingEntry"),
    expected: { fault: { code: 718, description: "ConflictInMappingEntry" } }
  },
  {
    what: "a refusal with white space and several lines",
    ask: add,
    body: fault(" 725\n", "Only permanent\n leases supported"),
    expected: { fault: { code: 725, description: "Only permanent leases supported" } }
  },
  {
    what: "a code of the vendor's own",
    ask: add,
    body: fault("899", "Kein Eintrag m\u00f6glich"),
    expected: { fault: { code: 899, description: "Kein Eintrag m\u00f6glich" } }
  },
  {
    what: "a refusal without a description",
    ask: remove,
    body: fault("714", ""),
    expected: { fault: { code: 714, description: "" } }
  },
  {
    what: "a refusal without UPnPError around the code",
    ask: add,
    body: envelope("<s:Fault><faultcode>s:Client</faultcode><detail><errorCode>501</errorCode></detail></s:Fault>"),
    expected: { fault: { code: 501, description: "" } }
  },
  {
    what: "a refusal without detail around the error",
    ask: add,
    body: envelope(
      "<s:Fault><UPnPError><errorCode>402</errorCode><errorDescription>Invalid Args</errorDescription></UPnPError></s:Fault>"
    ),
    expected: { fault: { code: 402, description: "Invalid Args" } }
  },
  {
    what: "a refusal as SOAP 1.2 has it",
    ask: add,
    body: envelope(
      "<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code><s:Detail><u:UPnPError><u:errorCode>606</u:errorCode></u:UPnPError></s:Detail></s:Fault>"
    ),
    expected: { fault: { code: 606, description: "" } }
  },
  {
    what: "a refusal without UPnPError",
    ask: add,
    body: envelope("<s:Fault><faultcode>s:Server</faultcode><faultstring>Internal\nError</faultstring></s:Fault>"),
    expected: { malformed: "refused without a UPnP error code: Internal Error" }
  },
  {
    what: "a refusal with a code that is none",
    ask: add,
    body: fault("busy", "try later"),
    expected: { malformed: "without a UPnP error code" }
  },
  {
    what: "a refusal with a negative code",
    ask: add,
    body: fault("-1", ""),
    expected: { malformed: "without a UPnP error code" }
  },
  {
    what: "a description that drives a terminal",
    ask: add,
    body: fault("501", "&#27;[31mred"),
    expected: { fault: { code: 501, description: "\ufffd[31mred" } }
  }
]

const wrong: ReadonlyArray<Answer> = [
  {
    what: "the answer to another action",
    ask: add,
    body: good,
    expected: { malformed: "answered GetExternalIPAddressResponse to AddPortMapping" }
  },
  {
    what: "the call itself",
    ask: add,
    body: response("AddPortMapping").replaceAll("AddPortMappingResponse", "AddPortMapping"),
    expected: { malformed: "answered AddPortMapping to AddPortMapping" }
  },
  {
    what: "a page of an error",
    ask: add,
    body: "<html><body><h1>500 Internal Server Error</h1></body></html>",
    expected: { malformed: "not a SOAP envelope" }
  },
  { what: "a modern page", ask: add, body: "<!doctype html><title>Error</title>", expected: { malformed: "DOCTYPE" } },
  {
    what: "a DOCTYPE",
    ask: address,
    body: good.replace("<s:Env", "<!DOCTYPE x><s:Env"),
    expected: { malformed: "DOCTYPE" }
  },
  {
    what: "an entity of its own",
    ask: address,
    body: good
      .replace("11.22.33.1", "&address;")
      .replace("<s:Env", '<!DOCTYPE x [<!ENTITY address "11.22.33.1">]><s:Env'),
    expected: { malformed: "DOCTYPE" }
  },
  { what: "no body", ask: address, body: "<s:Envelope/>", expected: { malformed: "not a SOAP envelope" } },
  { what: "an empty body", ask: add, body: envelope(""), expected: { malformed: "not a SOAP envelope" } },
  { what: "nothing", ask: add, body: "", expected: { malformed: "" } },
  { what: "a text", ask: add, body: "OK", expected: { malformed: "" } },
  { what: "a part", ask: address, body: good.slice(0, -40), expected: { malformed: "not well-formed" } },
  {
    what: "nesting without end",
    ask: address,
    body: addressIs(`${"<a>".repeat(100)}${"</a>".repeat(100)}`),
    expected: { malformed: "cannot be read" }
  },
  {
    what: "a hundred kilobytes",
    ask: address,
    body: addressIs("1".repeat(100_000)),
    expected: { malformed: "more than 65536 bytes" }
  }
]

export const answers: ReadonlyArray<Answer> = [...addresses, ...shapes, ...values, ...lists, ...refusals, ...wrong]

export const bytesOf = ({ body }: Answer): Uint8Array => (typeof body === "string" ? Network.bytes(body) : body)
