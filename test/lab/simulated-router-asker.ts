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

/** All answers to one datagram, until nothing comes any more. */
const datagrams = (payload: string | Uint8Array, port: number, address = gateway, until = silence) =>
  new Promise<ReadonlyArray<{ readonly port: number; readonly bytes: Buffer }>>((resolve, reject) => {
    const socket = createSocket("udp4")
    const received: Array<{ readonly port: number; readonly bytes: Buffer }> = []
    socket.on("error", reject)
    socket.on("message", (bytes, from) => void received.push({ port: from.port, bytes }))
    socket.bind(0, own, () => {
      socket.setMulticastInterface(own)
      socket.send(payload, port, address, (error) => (error === null ? undefined : reject(error)))
      setTimeout(() => socket.close(() => resolve(received)), until)
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
    const answers = await datagrams(hex(bytes), 5351, gateway, 400)
    print(
      `NAT-PMP: ${question}`,
      answers.map((answer) => answer.bytes.toString("hex"))
    )
  }
}

await main()
