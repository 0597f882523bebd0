/**
 * Asks a gateway from a lan host what clients ask and what they should not, and prints every answer as one line of
 * JSON: `[question, answer]`. Nothing of the library is used: whoever answers is judged by somebody else's reading.
 *
 * `simulated-router-asker.ts <gateway> <own address>`
 */
import { createSocket } from "node:dgram"
import { request } from "node:http"

const [gateway = "", own = ""] = process.argv.slice(2)

const print = (question: string, answer: unknown) => {
  process.stdout.write(`${JSON.stringify([question, answer])}\n`)
}

const silence = 1200

/** All answers to one datagram, until nothing comes any more: `until` then, or `whenAnswered` after the first one. */
const datagrams = (
  payload: string | Uint8Array,
  port: number,
  address = gateway,
  until = silence,
  whenAnswered?: number
) =>
  new Promise<ReadonlyArray<{ readonly port: number; readonly bytes: Buffer }>>((resolve, reject) => {
    const socket = createSocket("udp4")
    const received: Array<{ readonly port: number; readonly bytes: Buffer }> = []
    socket.on("error", reject)
    const end = () => socket.close(() => resolve(received))
    let ending: NodeJS.Timeout | undefined
    socket.on("message", (bytes, from) => {
      received.push({ port: from.port, bytes })
      if (whenAnswered === undefined || received.length > 1) return
      clearTimeout(ending)
      ending = setTimeout(end, whenAnswered)
    })
    socket.bind(0, own, () => {
      socket.setMulticastInterface(own)
      socket.send(payload, port, address, (error) => (error === null ? undefined : reject(error)))
      ending = setTimeout(end, until)
    })
  })

const headerLines = (text: string): Record<string, string> =>
  Object.fromEntries(
    text
      .split("\r\n")
      .slice(1)
      .filter((line) => line.includes(":"))
      .map((line) => [line.slice(0, line.indexOf(":")).toUpperCase(), line.slice(line.indexOf(":") + 1).trim()])
  )

const search = async (searchTarget: string, to: string) => {
  const text = `M-SEARCH * HTTP/1.1\r\nHOST: ${to}:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ${searchTarget}\r\n\r\n`
  const answers = await datagrams(text, 1900, to, 1800)
  return answers.map(({ bytes, port }) => ({
    port,
    start: bytes.toString().split("\r\n")[0],
    headers: headerLines(bytes.toString())
  }))
}

interface HttpAnswer {
  readonly status: number
  readonly version: string
  readonly headers: Record<string, string | ReadonlyArray<string> | undefined>
  readonly body: string
}

const http = (method: string, url: URL, headers: Record<string, string>, body?: string) =>
  new Promise<HttpAnswer>((resolve, reject) => {
    const sent = request(url, { method, headers, agent: false, timeout: 4000 }, (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => void chunks.push(chunk))
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          version: response.httpVersion,
          headers: response.headers,
          body: Buffer.concat(chunks).toString()
        })
      )
    })
    sent.on("timeout", () => sent.destroy(new Error("no answer")))
    sent.on("error", reject)
    sent.end(body)
  })

/** The elements in their order, as paths of local names, each with its text where it has no children. */
const elements = (xml: string): ReadonlyArray<readonly [path: string, text: string]> => {
  const found: Array<[string, string]> = []
  const path: Array<string> = []
  for (const [, closing, name = "", empty, text = ""] of xml.matchAll(
    /<(\/?)(?:[A-Za-z0-9_-]+:)?([A-Za-z0-9_.-]+)(?:\s[^<>]*?)?(\/?)>([^<]*)/g
  )) {
    if (closing === "/") {
      path.pop()
      continue
    }
    found.push([[...path, name].join("/"), text.trim()])
    if (empty !== "/") path.push(name)
  }
  return found
}

const service = "urn:schemas-upnp-org:service:WANIPConnection:1"

const envelope = (action: string, list: ReadonlyArray<readonly [string, string]>, type: string) =>
  `<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:${action} xmlns:u="${type}">${list
    .map(([name, value]) => `<${name}>${value}</${name}>`)
    .join("")}</u:${action}></s:Body></s:Envelope>\r\n`

const mapping = {
  NewRemoteHost: "",
  NewExternalPort: "12001",
  NewProtocol: "TCP",
  NewInternalPort: "12000",
  NewInternalClient: own,
  NewEnabled: "1",
  NewPortMappingDescription: "an entry &amp; more",
  NewLeaseDuration: "3600"
}

const add = (changes: Partial<Record<keyof typeof mapping, string | undefined>> = {}) =>
  Object.entries({ ...mapping, ...changes }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const]
  )

const key = (port = "12001", protocol = "TCP") =>
  [
    ["NewRemoteHost", ""],
    ["NewExternalPort", port],
    ["NewProtocol", protocol]
  ] as const

const index = (value: string) => [["NewPortMappingIndex", value]] as const

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex")

const searches = [
  "ssdp:all",
  "upnp:rootdevice",
  "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
  "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
  "urn:schemas-upnp-org:device:WANConnectionDevice:1",
  "urn:schemas-upnp-org:service:WANIPConnection:1",
  "urn:schemas-upnp-org:service:WANPPPConnection:1",
  "urn:schemas-upnp-org:device:MediaServer:1"
]

const calls: ReadonlyArray<
  readonly [question: string, action: string, list: ReadonlyArray<readonly [string, string]>, header?: string]
> = [
  ["status", "GetStatusInfo", []],
  ["external address", "GetExternalIPAddress", []],
  ["connection type", "GetConnectionTypeInfo", []],
  ["NAT and RSIP", "GetNATRSIPStatus", []],
  ["the first of no entries", "GetGenericPortMappingEntry", index("0")],
  ["delete a missing entry", "DeletePortMapping", key()],
  ["a missing entry", "GetSpecificPortMappingEntry", key()],
  ["add", "AddPortMapping", add()],
  ["add again", "AddPortMapping", add()],
  ["the entry", "GetSpecificPortMappingEntry", key()],
  ["the same for UDP", "GetSpecificPortMappingEntry", key("12001", "UDP")],
  ["the first of one entry", "GetGenericPortMappingEntry", index("0")],
  ["past the last entry", "GetGenericPortMappingEntry", index("1")],
  ["a permanent one", "AddPortMapping", add({ NewExternalPort: "12002", NewProtocol: "UDP", NewLeaseDuration: "0" })],
  ["the second of two", "GetGenericPortMappingEntry", index("1")],
  ["add for another host", "AddPortMapping", add({ NewExternalPort: "12003", NewInternalClient: "192.168.77.9" })],
  ["take over the port", "AddPortMapping", add({ NewInternalPort: "12500" })],
  ["the entry after that", "GetSpecificPortMappingEntry", key()],
  ["add for nobody", "AddPortMapping", add({ NewExternalPort: "12003", NewInternalClient: "" })],
  ["add without internal client", "AddPortMapping", add({ NewExternalPort: "12003", NewInternalClient: undefined })],
  ["add for a name", "AddPortMapping", add({ NewExternalPort: "12003", NewInternalClient: "no-such-host" })],
  ["add without external port", "AddPortMapping", add({ NewExternalPort: undefined })],
  ["add without internal port", "AddPortMapping", add({ NewInternalPort: undefined })],
  ["add without protocol", "AddPortMapping", add({ NewProtocol: undefined })],
  ["add without lease", "AddPortMapping", add({ NewExternalPort: "12004", NewLeaseDuration: undefined })],
  [
    "add without description",
    "AddPortMapping",
    add({ NewExternalPort: "12005", NewPortMappingDescription: undefined })
  ],
  ["add without remote host", "AddPortMapping", add({ NewExternalPort: "12006", NewRemoteHost: undefined })],
  ["add for external port 0", "AddPortMapping", add({ NewExternalPort: "0" })],
  ["add for internal port 0", "AddPortMapping", add({ NewInternalPort: "0" })],
  ["add for external port 70000", "AddPortMapping", add({ NewExternalPort: "70000" })],
  ["add for a word as port", "AddPortMapping", add({ NewExternalPort: "http" })],
  ["add for protocol sctp", "AddPortMapping", add({ NewExternalPort: "12007", NewProtocol: "SCTP" })],
  ["add for protocol tcp", "AddPortMapping", add({ NewExternalPort: "12008", NewProtocol: "tcp" })],
  ["add with a remote host", "AddPortMapping", add({ NewExternalPort: "12009", NewRemoteHost: "11.22.33.2" })],
  ["add for a month", "AddPortMapping", add({ NewExternalPort: "12010", NewLeaseDuration: "2592000" })],
  ["the lease of a month", "GetSpecificPortMappingEntry", key("12010")],
  ["delete without protocol", "DeletePortMapping", key().slice(0, 2)],
  ["delete without port", "DeletePortMapping", [key()[0], key()[2]]],
  ["delete for protocol udp", "DeletePortMapping", key("12001", "UDP")],
  ["delete", "DeletePortMapping", key()],
  ["delete again", "DeletePortMapping", key()],
  ["an entry without index", "GetGenericPortMappingEntry", []],
  ["entry minus one", "GetGenericPortMappingEntry", index("-1")],
  ["entry a word", "GetGenericPortMappingEntry", index("first")],
  ["entry 65536", "GetGenericPortMappingEntry", index("65536")],
  ["a specific entry without port", "GetSpecificPortMappingEntry", [key()[0], key()[2]]],
  ["an unknown action", "OpenSesame", []],
  ["a header of another action", "GetStatusInfo", [], `"${service}#GetExternalIPAddress"`],
  ["a header without quotes", "GetStatusInfo", [], `${service}#GetStatusInfo`],
  ["a header without service", "GetStatusInfo", [], "GetStatusInfo"],
  ["another service", "GetStatusInfo", [], '"urn:schemas-upnp-org:service:Layer3Forwarding:1#GetStatusInfo"']
]

const natpmp = [
  ["external address", "0000"],
  ["map tcp", "0002 0000 32c8 32c9 00000e10"],
  ["map tcp again", "0002 0000 32c8 32c9 00000e10"],
  ["map udp", "0001 0000 32c8 32c9 00000e10"],
  ["map the taken port", "0002 0000 32d1 32c9 00000e10"],
  ["map any port", "0002 0000 32d2 0000 00000e10"],
  ["map internal port 0", "0002 0000 0000 32ca 00000e10"],
  ["delete tcp", "0002 0000 32c8 0000 00000000"],
  ["delete tcp again", "0002 0000 32c8 0000 00000000"],
  ["delete all udp", "0001 0000 0000 0000 00000000"],
  ["delete all tcp", "0002 0000 0000 0000 00000000"],
  ["opcode 3", "0003 0000 0000 0000 00000000"],
  ["version 1", "0100"],
  ["version 9", "0902 0000 32c8 32c9 00000e10"],
  ["an answer", "0080 0000 00000000 00000000"],
  ["one byte", "00"],
  ["nothing", ""],
  ["a map cut off", "0002 0000 32c8"],
  ["a map and more", "0002 0000 32c8 32c9 00000e10 ffff"]
] as const

const mapped = (address: string): string =>
  `00000000000000000000ffff${address
    .split(".")
    .map((byte) => Number(byte).toString(16).padStart(2, "0"))
    .join("")}`

const nonce = "0102030405060708090a0b0c"
const otherNonce = "f1f2f3f4f5f6f7f8f9fafbfc"
const nobody = mapped("0.0.0.0")

interface PcpMap {
  readonly lifetime?: string
  readonly client?: string
  readonly nonce?: string
  readonly protocol?: string
  readonly internalPort?: string
  readonly externalPort?: string
  readonly externalAddress?: string
  readonly options?: string
}

/** A MAP request (RFC 6887 §11.1) for TCP port 14000, at 14001. */
const pcpMap = (changes: PcpMap = {}): string => {
  const header = `02010000 ${changes.lifetime ?? "00000e10"} ${mapped(changes.client ?? own)}`
  const ports = `${changes.internalPort ?? "36b0"} ${changes.externalPort ?? "36b1"}`
  const mapping = `${changes.nonce ?? nonce} ${changes.protocol ?? "06"}000000 ${ports}`
  return `${header} ${mapping} ${changes.externalAddress ?? nobody} ${changes.options ?? ""}`
}

/** A PEER request (RFC 6887 §12.1) for the same port, and a peer at port 80. */
const peer = ({ remotePort = "0050", ...changes }: PcpMap & { readonly remotePort?: string } = {}): string => {
  const mapping = pcpMap({ ...changes, options: "" }).replace("02010000", "02020000")
  return `${mapping} ${remotePort} 0000 ${mapped("11.22.33.2")} ${changes.options ?? ""}`
}

/** Only 11.22.33.0/24, at any port (RFC 6887 §13.3). */
const filter = `03000014 00780000 ${mapped("11.22.33.0")}`

const remove = (changes: PcpMap = {}) => pcpMap({ lifetime: "00000000", externalPort: "0000", ...changes })
const announce = `02000000 00000000 ${mapped(own)}`

const pcp = [
  ["announce", announce],
  ["announce from another address", `02000000 00000000 ${mapped("192.168.77.9")}`],
  ["announce with a mandatory option", `${announce} 7e000000`],
  ["map", pcpMap()],
  ["map again", pcpMap()],
  ["map again at another port", pcpMap({ externalPort: "36b2" })],
  ["map with another nonce", pcpMap({ nonce: otherNonce })],
  ["delete with another nonce", remove({ nonce: otherNonce })],
  ["map udp", pcpMap({ protocol: "11" })],
  ["map the taken port", pcpMap({ internalPort: "36ba", nonce: otherNonce })],
  ["map the taken port and no other", pcpMap({ internalPort: "36bb", options: "02000000" })],
  ["map a free port and no other", pcpMap({ internalPort: "36bc", externalPort: "36bc", options: "02000000" })],
  ["map any port", pcpMap({ internalPort: "36bd", externalPort: "0000" })],
  ["map any port and no other", pcpMap({ internalPort: "36be", externalPort: "0000", options: "02000000" })],
  ["map at another address", pcpMap({ internalPort: "36bf", externalAddress: mapped("11.22.33.99") })],
  ["map for a minute", pcpMap({ internalPort: "36c0", externalPort: "36c0", lifetime: "0000003c" })],
  ["map for a year", pcpMap({ internalPort: "36c1", externalPort: "36c1", lifetime: "01e13380" })],
  ["map from another address", pcpMap({ client: "192.168.77.9" })],
  ["map internal port 0", pcpMap({ internalPort: "0000" })],
  ["map all protocols", pcpMap({ internalPort: "0000", protocol: "00" })],
  ["map protocol 0 at a port", pcpMap({ protocol: "00" })],
  ["map sctp", pcpMap({ internalPort: "36c2", protocol: "84" })],
  ["map with an optional option", pcpMap({ internalPort: "36c3", externalPort: "36c3", options: "fe000000" })],
  ["map with a mandatory option", pcpMap({ internalPort: "36c4", externalPort: "36c4", options: "7e000000" })],
  ["map with an option cut off", pcpMap({ internalPort: "36c5", externalPort: "36c5", options: "02000008" })],
  [
    "map for another host",
    pcpMap({ internalPort: "36c6", externalPort: "36c6", options: `01000010 ${mapped("192.168.77.9")}` })
  ],
  ["delete", remove()],
  ["delete again", remove()],
  ["delete udp", remove({ protocol: "11" })],
  ["peer", peer()],
  ["peer again", peer()],
  ["peer with another nonce", peer({ nonce: otherNonce })],
  ["peer from another address", peer({ client: "192.168.77.9" })],
  ["peer to no port", peer({ remotePort: "0000" })],
  ["peer with an option of MAP", peer({ options: "02000000" })],
  ["peer for no time", peer({ lifetime: "00000000" })],
  ["map with a filter", pcpMap({ internalPort: "36c7", externalPort: "36c7", options: filter })],
  ["opcode 5", `02050000 00000000 ${mapped(own)}`],
  ["version 3", `03000000 00000000 ${mapped(own)}`],
  ["an answer", `02800000 00000000 00000000 000000000000000000000000`],
  ["two bytes", "0200"],
  ["a header cut off", "02000000 00000000"],
  ["a length that is not of fours", `${announce} 00`],
  ["a map cut off", pcpMap().slice(0, 100)]
] as const

const soapAnswer = (answer: HttpAnswer) => ({ ...answer, elements: elements(answer.body) })

const main = async () => {
  let location = ""
  const found = await Promise.all(
    [gateway, "239.255.255.250"].flatMap((to) =>
      searches.map(async (target) => [to, target, await search(target, to)] as const)
    )
  )
  for (const [to, target, answers] of found) {
    print(`SSDP: ${target} by ${to === gateway ? "unicast" : "multicast"}`, answers)
    location = answers[0]?.headers["LOCATION"] ?? location
  }
  const description = await http("GET", new URL(location), {})
  print("the description", soapAnswer(description))
  print("an unknown path", soapAnswer(await http("GET", new URL("/no-such-path", location), {})))
  const control =
    /WANIPConnection:\d<\/serviceType>(?:(?!<\/service>).)*?<controlURL>([^<]+)</s.exec(description.body)?.[1] ?? ""
  const scpd =
    /WANIPConnection:\d<\/serviceType>(?:(?!<\/service>).)*?<SCPDURL>([^<]+)</s.exec(description.body)?.[1] ?? ""
  print("the service's description", soapAnswer(await http("GET", new URL(scpd, location), {})))
  const post = (body: string, headers: Record<string, string>) =>
    http("POST", new URL(control, location), { "Content-Type": 'text/xml; charset="utf-8"', ...headers }, body)
  for (const [question, action, list, header = `"${service}#${action}"`] of calls) {
    print(`SOAP: ${question}`, soapAnswer(await post(envelope(action, list, service), { SOAPAction: header })))
  }
  print("SOAP: no SOAPAction", soapAnswer(await post(envelope("GetStatusInfo", [], service), {})))
  print("SOAP: a body that is no XML", soapAnswer(await post("hello", { SOAPAction: `"${service}#GetStatusInfo"` })))
  print("SOAP: an empty body", soapAnswer(await post("", { SOAPAction: `"${service}#GetStatusInfo"` })))
  for (const [question, bytes] of natpmp) {
    const answers = await datagrams(hex(bytes), 5351, gateway, silence, 200)
    print(
      `NAT-PMP: ${question}`,
      answers.map((answer) => answer.bytes.toString("hex"))
    )
  }
  const askPcp = async (question: string, bytes: string) => {
    const answers = await datagrams(hex(bytes), 5351, gateway, silence, 200)
    print(
      `PCP: ${question}`,
      answers.map((answer) => answer.bytes.toString("hex"))
    )
  }
  for (const [question, bytes] of pcp) await askPcp(question, bytes)
  // One internal port, mapped by PCP and over UPnP, in either order.
  const addOther = (externalPort: string) =>
    post(envelope("AddPortMapping", add({ NewExternalPort: externalPort, NewInternalPort: "15000" }), service), {
      SOAPAction: `"${service}#AddPortMapping"`
    })
  const shared = { internalPort: "3a98", externalPort: "3a98" } as const
  await askPcp("map what UPnP will map", pcpMap(shared))
  print("SOAP: add what PCP has", soapAnswer(await addOther("15002")))
  await askPcp("renew what UPnP has as well", pcpMap(shared))
  await askPcp("delete what UPnP has as well", remove(shared))
  await askPcp("map what UPnP has", pcpMap(shared))
  await askPcp("delete what UPnP has", remove(shared))
}

await main()
