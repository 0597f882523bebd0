/**
 * The simulated router as the gateway of a lan: other people's clients are served by it, and to the same questions it
 * gives the same answers as a real router's daemon, but for what is listed here.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import { labSuite } from "./LabSuite.ts"
import * as Differences from "./simulated-router-differences.ts"

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url))

/** Node and its modules may take their time on a busy machine. */
const patience = { timeout: "15 seconds" } as const

const startRouter = Effect.fnUntraced(function* (lab: Lab.LabService) {
  const { external, gateway } = lab.addresses
  const server = yield* lab.spawn("router", process.execPath, [path("simulated-router-server.ts"), gateway, external])
  assert.strictEqual(yield* server.awaitLine("ready", patience), "ready")
  let asked = 0
  const table = Effect.gen(function* () {
    asked += 1
    yield* server.write("table\n")
    return JSON.parse(yield* server.awaitLine(/^\[/, { occurrence: asked })) as unknown
  })
  return { table }
})

type Answers = ReadonlyMap<string, string>

interface Http {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly elements: ReadonlyArray<readonly [path: string, text: string]>
}

interface Datagram {
  readonly port: number
  readonly start: string
  readonly headers: Readonly<Record<string, string>>
}

/** The time since the start is each router's own, and so are the words that explain an error. */
const ownElements = new Set(["NewUptime", "errorDescription"])

/** Its length and its author: nothing else of a header may differ. */
const ownHeaders = new Set(["content-length", "server"])

const shownHttp = ({ elements, headers, status }: Http): string => {
  const code = elements.find(([path]) => path.endsWith("/errorCode"))?.[1]
  const body = elements.flatMap(([path, text]) => {
    const name = path.split("/").at(-1) ?? ""
    if (name === "NewLeaseDuration" && /^(?:3600|359\d)$/.test(text)) return [`${name}=an hour`]
    return text === "" ? [name] : [`${name}=${ownElements.has(name) ? "…" : text}`]
  })
  const kept = Object.entries(headers)
    .filter(([name]) => !ownHeaders.has(name))
    .map((header) => header.join(": "))
  const isUsual = kept.toSorted().join("; ") === 'connection: close; content-type: text/xml; charset="utf-8"; ext: '
  const head = isUsual ? `${status}` : `${status} [${kept.toSorted().join("; ")}]`
  // What a person reads is each router's own.
  if (headers["content-type"]?.startsWith("text/html") === true) return head
  if (code !== undefined) assert.deepStrictEqual(body.slice(0, 4), ["Envelope", "Body", "Fault", "faultcode=s:Client"])
  return code === undefined
    ? [head, ...body.filter((name) => name !== "Envelope" && name !== "Body")].join(" ")
    : `${head} error ${code}`
}

/** Headers of UPnP 1.0 that say what BOOTID says. */
const oldHeaders = new Set(["01-NLS", "OPT"])

const shownSearch = (answers: ReadonlyArray<Datagram>): string =>
  answers
    .map(({ headers, port, start }) => {
      const names = Object.keys(headers).filter((name) => !oldHeaders.has(name))
      assert.match(headers["LOCATION"] ?? "", /^http:\/\/192\.168\.77\.1:\d+\/rootDesc\.xml$/)
      assert.sameMembers(names, [
        "CACHE-CONTROL",
        "ST",
        "USN",
        "EXT",
        "SERVER",
        "LOCATION",
        "BOOTID.UPNP.ORG",
        "CONFIGID.UPNP.ORG"
      ])
      assert.deepStrictEqual([port, start, headers["CACHE-CONTROL"]], [1900, "HTTP/1.1 200 OK", "max-age=120"])
      const usn = headers["USN"]?.replace(/^uuid:[0-9a-f-]+/, "uuid")
      const searchTarget = headers["ST"]?.replace(/^uuid:[0-9a-f-]+/, "uuid")
      return searchTarget === usn || usn === `uuid::${searchTarget}` ? searchTarget : `${searchTarget} as ${usn}`
    })
    .toSorted()
    .join(", ")
    .replaceAll("urn:schemas-upnp-org:", "")

/** The epoch is each router's own: the second four bytes, and the third in an answer of PCP. */
const shownPackets = (answers: ReadonlyArray<string>): string =>
  answers
    .map((hex) => {
      const end = hex.length === 48 ? 24 : 16
      return `${hex.slice(0, 8)} ${hex.slice(8, end).replace(/./g, ".")} ${hex.slice(end)}`.trim()
    })
    .join(", ")

const ownNonce = "0102030405060708090a0b0c"

const address = (hex: string): string => [0, 2, 4, 6].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)).join(".")

/** Of an answer with the opcode of MAP, and what follows that: options, or the rest of a PEER. */
const shownMapping = (body: string): ReadonlyArray<string> => {
  if (body.length < 72) return body === "" ? [] : [body]
  const [internalPort, externalPort] = [body.slice(32, 36), body.slice(36, 40)].map((port) => Number.parseInt(port, 16))
  const at = `${internalPort} at ${address(body.slice(64, 72))}:${externalPort}`
  const nonce = body.startsWith(ownNonce) ? [] : ["with another nonce"]
  return [`protocol ${Number.parseInt(body.slice(24, 26), 16)}`, at, ...nonce, body.slice(72)].filter(
    (part) => part !== ""
  )
}

/** The epoch is each router's own, and so is how long a refusal holds, which the daemon never says. */
const shownPcp = (answers: ReadonlyArray<string>): string =>
  answers
    .map((hex) => {
      const isGranted = hex.slice(6, 8) === "00"
      const reserved = hex.slice(24, 48)
      return [
        hex.slice(0, 8),
        ...(isGranted ? [`for ${Number.parseInt(hex.slice(8, 16), 16)}`] : []),
        ...(/^0+$/.test(reserved) ? [] : [`to ${reserved}`]),
        ...shownMapping(hex.slice(48))
      ].join(" ")
    })
    .join(", ")

const listedDocuments: Readonly<Record<string, Differences.Document>> = {
  "the description": Differences.description,
  "the service's description": Differences.service
}
const documents = Object.keys(listedDocuments)

/** Who made the router, and which one it is. */
const ownTexts = new Set([
  "friendlyName",
  "manufacturer",
  "manufacturerURL",
  "modelDescription",
  "modelName",
  "modelNumber",
  "modelURL",
  "serialNumber",
  "UDN",
  "UPC",
  "presentationURL"
])

/** What the first child of an element calls it. */
const namings = new Set(["name", "deviceType", "serviceType"])

/** The elements with a text, each by the names of the actions, variables, devices and services that it is of. */
const shownDocument = (elements: Http["elements"]): ReadonlyArray<string> => {
  const names = new Map<string, string>()
  return elements.flatMap(([path, text], index) => {
    if (elements[index + 1]?.[0].startsWith(`${path}/`) === true) return []
    const steps = path.split("/")
    const last = steps.at(-1) ?? ""
    const parent = steps.slice(0, -1).join("/")
    if (namings.has(last)) names.set(parent, text.replace(/^.*:(.*:\d+)$/, "$1"))
    const of = steps.flatMap((_, at) => names.get(steps.slice(0, at).join("/")) ?? [])
    const what = ownTexts.has(last) ? last : `${last}=${text}`
    return [[...(of.length === 0 ? [parent] : of), what].join(" ")]
  })
}

/** Each as often as it is in the first only. */
const without = (some: ReadonlyArray<string>, others: ReadonlyArray<string>): ReadonlyArray<string> => {
  const left = [...others]
  return some.filter((one) => {
    const at = left.indexOf(one)
    if (at !== -1) left.splice(at, 1)
    return at === -1
  })
}

const ask = Effect.fnUntraced(function* (lab: Lab.LabService) {
  const { gateway, lan } = lab.addresses
  const text = yield* lab.exec("lan", process.execPath, [path("simulated-router-asker.ts"), gateway, lan], {
    timeout: "60 seconds"
  })
  const answers = new Map<string, string>()
  const shownDocuments = new Map<string, ReadonlyArray<string>>()
  for (const line of text.trim().split("\n")) {
    const [question, answer] = JSON.parse(line)
    if (question.startsWith("SSDP")) answers.set(question, shownSearch(answer))
    else if (question.startsWith("NAT-PMP")) answers.set(question, shownPackets(answer))
    else if (question.startsWith("PCP")) answers.set(question, shownPcp(answer))
    else if (documents.includes(question)) {
      assert.strictEqual(answer.status, 200)
      shownDocuments.set(question, shownDocument(answer.elements))
    } else answers.set(question, shownHttp(answer))
  }
  return { answers: answers as Answers, documents: shownDocuments }
})

const differences = (theirs: Answers, ours: Answers): Record<string, readonly [theirs: string, ours: string]> =>
  Object.fromEntries(
    [...new Set([...theirs.keys(), ...ours.keys()])].flatMap((question) => {
      const pair = [theirs.get(question) ?? "not asked", ours.get(question) ?? "not asked"] as const
      return pair[0] === pair[1] ? [] : [[question, pair] as const]
    })
  )

const targets = (version: number, ...services: ReadonlyArray<string>): string =>
  [
    "upnp:rootdevice",
    ...["InternetGatewayDevice", "WANConnectionDevice", "WANDevice"].map((name) => `device:${name}:${version}`),
    ...services.map((name) => `service:${name}`),
    "uuid, uuid, uuid"
  ].join(", ")

const entry = (externalPort: string, protocol: string, lease: string) =>
  `200 GetGenericPortMappingEntryResponse NewRemoteHost NewExternalPort=${externalPort} NewProtocol=${protocol} NewInternalPort=12000 NewInternalClient=192.168.77.2 NewEnabled=1 NewPortMappingDescription=an entry &amp; more NewLeaseDuration=${lease}`

const status = "200 GetStatusInfoResponse NewConnectionStatus=Connected NewLastConnectionError=ERROR_NONE NewUptime=…"

const connectionType = (possible: string) =>
  `200 GetConnectionTypeInfoResponse NewConnectionType=IP_Routed NewPossibleConnectionTypes=${possible}`

/** The daemon answers for services that it does not describe, and as version 2 even where it describes version 1. */
const searches = ["unicast", "multicast"].flatMap((way) => [
  [
    `SSDP: ssdp:all by ${way}`,
    [
      targets(
        2,
        "DeviceProtection:1",
        "Layer3Forwarding:1",
        "WANCommonInterfaceConfig:1",
        "WANIPConnection:2",
        "WANIPv6FirewallControl:1",
        "WANPPPConnection:1"
      ),
      targets(1, "Layer3Forwarding:1", "WANCommonInterfaceConfig:1", "WANIPConnection:1")
    ]
  ] as const,
  [
    `SSDP: urn:schemas-upnp-org:device:InternetGatewayDevice:2 by ${way}`,
    ["device:InternetGatewayDevice:2", ""]
  ] as const,
  [`SSDP: urn:schemas-upnp-org:service:WANPPPConnection:1 by ${way}`, ["service:WANPPPConnection:1", ""]] as const
])

/** What the daemon says, and what the simulated router says. */
const listed: Record<string, readonly [daemon: string, simulated: string]> = {
  ...Object.fromEntries(searches),
  // The daemon deletes what is not there. The document says 714.
  "SOAP: delete a missing entry": ["200 DeletePortMappingResponse", "500 error 714"],
  "SOAP: delete for protocol udp": ["200 DeletePortMappingResponse", "500 error 714"],
  "SOAP: delete again": ["200 DeletePortMappingResponse", "500 error 714"],
  // The daemon lists the newest entry first.
  "SOAP: the second of two": [entry("12001", "TCP", "an hour"), entry("12002", "UDP", "0")],
  // The daemon's secure mode, which few routers have.
  "SOAP: add for another host": ["500 error 718", "200 AddPortMappingResponse"],
  // The daemon reads arguments as C does: a word is 0, 70000 is 4464, and what is not UDP is TCP.
  "SOAP: add for nobody": ["500 error 501", "500 error 402"],
  "SOAP: add without internal client": ["500 error 501", "500 error 402"],
  "SOAP: add for external port 70000": ["200 AddPortMappingResponse", "500 error 601"],
  "SOAP: add for a word as port": ["500 error 716", "500 error 402"],
  "SOAP: add for protocol sctp": ["200 AddPortMappingResponse", "500 error 402"],
  // The daemon looks at the header only, and looks into the body for arguments.
  "SOAP: a header of another action": [
    "200 GetExternalIPAddressResponse NewExternalIPAddress=11.22.33.1",
    "500 error 401"
  ],
  "SOAP: a body that is no XML": [status, "500 error 401"],
  "SOAP: an empty body": [status, "500 error 401"],
  // A line that could be bridged as well.
  "SOAP: connection type": [connectionType("IP_Routed"), connectionType("IP_Routed,IP_Bridged")],
  // Which other port is granted is the router's choice.
  "NAT-PMP: map the taken port": ["00820000 ........ 32d132ca00000e10", "00820000 ........ 32d1c00000000e10"],
  "NAT-PMP: map any port": ["00820000 ........ 32d232d200000e10", "00820000 ........ 32d2c00100000e10"],
  // After an error code there is nothing to be read, and RFC 6886 §3.5 wants a wrong opcode sent back whole.
  "NAT-PMP: map internal port 0": ["00820002 ........ 000032ca00000e10", "00820002 ........ 0000000000000000"],
  "NAT-PMP: opcode 3": ["00830005 ........", "00830005 ........ 00000000"],
  // A router that speaks PCP too says which version it has (RFC 6887 §9); the daemon is silent, or says something else.
  "NAT-PMP: version 1": ["", "02800001 ................ 000000000000000000000000"],
  "NAT-PMP: version 9": [
    "00800003 ................ 000000000000000000000000",
    "02820001 ................ 000000000000000000000000"
  ],
  ...Differences.pcp
}

labSuite("the simulated router as a gateway", () => {
  it.live(
    "serves upnpc: status, list, add, delete, and a peer comes through",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const { table } = yield* startRouter(lab)
        yield* lab.tcpEcho("lan", 12000)
        const probe = lab.tcpProbe("wan", lab.addresses.external, 12001)
        const upnpc = (...words: ReadonlyArray<string>) => lab.exec("lan", "upnpc", words)

        const status = yield* upnpc("-s")
        assert.include(status, "Found valid IGD : http://192.168.77.1:")
        assert.include(status, "Status : Connected")
        assert.include(status, "ExternalIPAddress = 11.22.33.1")
        assert.strictEqual(yield* probe, "refused")

        const added = yield* upnpc("-e", "an echo", "-a", lab.addresses.lan, "12000", "12001", "tcp", "600")
        assert.include(
          added,
          "external 11.22.33.1:12001 TCP is redirected to internal 192.168.77.2:12000 (duration=600)"
        )
        yield* upnpc("-a", lab.addresses.lan, "12000", "12001", "udp")
        assert.deepStrictEqual(yield* table, [
          ["tcp", 12001, "192.168.77.2", 12000],
          ["udp", 12001, "192.168.77.2", 12000]
        ])
        const list = yield* upnpc("-l")
        assert.match(list, / 0 TCP 12001->192\.168\.77\.2:12000 +'an echo' '' (?:600|59\d)\n/)
        assert.match(list, / 1 UDP 12001->192\.168\.77\.2:12000 +'libminiupnpc' '' 0\n/)
        assert.strictEqual(yield* probe, "reachable")

        assert.include(yield* upnpc("-d", "12001", "tcp"), "UPNP_DeletePortMapping() returned : 0")
        yield* upnpc("-d", "12001", "udp")
        assert.deepStrictEqual(yield* table, [])
        assert.strictEqual(yield* probe, "refused")
      }),
    60_000
  )

  it.live(
    "serves natpmpc: external address, map, delete, and a peer comes through",
    () =>
      Effect.gen(function* () {
        const lab = yield* Lab.make({ daemon: false })
        const { table } = yield* startRouter(lab)
        yield* lab.tcpEcho("lan", 12000)
        yield* lab.udpEcho("lan", 12000)
        const natpmpc = (...words: ReadonlyArray<string>) =>
          lab.exec("lan", "natpmpc", ["-g", lab.addresses.gateway, ...words])

        assert.include(yield* natpmpc(), "Public IP address : 11.22.33.1")
        for (const protocol of ["tcp", "udp"] as const) {
          assert.include(
            yield* natpmpc("-a", "12001", "12000", protocol, "600"),
            `Mapped public port 12001 protocol ${protocol.toUpperCase()} to local port 12000 liftime 600`
          )
        }
        assert.deepStrictEqual(yield* table, [
          ["tcp", 12001, "192.168.77.2", 12000],
          ["udp", 12001, "192.168.77.2", 12000]
        ])
        assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "reachable")
        assert.strictEqual(yield* lab.udpProbe("wan", lab.addresses.external, 12001), "reachable")
        for (const protocol of ["tcp", "udp"] as const) yield* natpmpc("-a", "0", "12000", protocol, "0")
        assert.deepStrictEqual(yield* table, [])
        assert.strictEqual(yield* lab.udpProbe("wan", lab.addresses.external, 12001), "refused")
      }),
    60_000
  )

  it.live(
    "answers as the real daemon does, but for what is listed",
    () =>
      Effect.gen(function* () {
        const real = yield* Lab.make({ daemon: { forceIgdDescV1: true } })
        const simulated = yield* Lab.make({ daemon: false })
        yield* startRouter(simulated)
        const [theirs, ours] = yield* Effect.all([ask(real), ask(simulated)], { concurrency: 2 })
        assert.isAtLeast(theirs.answers.size, 120)
        assert.deepStrictEqual(differences(theirs.answers, ours.answers), listed)
        for (const document of documents) {
          const [known = [], shown = []] = [theirs.documents.get(document), ours.documents.get(document)]
          assert.isAtLeast(shown.length, 25)
          assert.deepStrictEqual(
            { daemon: without(known, shown), simulated: without(shown, known) },
            listedDocuments[document]
          )
        }
      }),
    120_000
  )
})
