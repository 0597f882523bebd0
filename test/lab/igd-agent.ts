/**
 * A program on a lan host that calls a router's services directly, without discovery and without the strategy. The
 * lab's tests start it in the host's namespace, with the address of the router's description.
 *
 * `igd-agent.ts actions <description>` calls every reading and mapping action once and prints what came of each;
 * `igd-agent.ts pinhole <description> <internal address> <port> <protocol>` opens a pinhole, prints its id, waits for a
 * line, prints what is known of it, deletes it, prints that, waits for a line, and ends;
 * `igd-agent.ts events <description>` prints the events of the connection's service until it gets a line.
 */
import * as Http from "@effect-nat/core/Http"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as EventSubscription from "@effect-nat/upnp/EventSubscription"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as Layer3Forwarding from "@effect-nat/upnp/Layer3Forwarding"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as SoapClient from "@effect-nat/upnp/SoapClient"
import * as WanCommonInterfaceConfig from "@effect-nat/upnp/WanCommonInterfaceConfig"
import * as WanIpConnection from "@effect-nat/upnp/WanIpConnection"
import * as WanIpv6FirewallControl from "@effect-nat/upnp/WanIpv6FirewallControl"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"

const [command = "", description = "", ...words] = process.argv.slice(2)
const [internalAddress = "192.168.77.2", port = "12000", protocol = "tcp"] = words

const print = (value: unknown) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(value)}\n`))

const oneLine = Effect.callback<void>((resume) => {
  process.stdin
    .once("data", () => {
      process.stdin.pause()
      resume(Effect.void)
    })
    .resume()
})

// An open pipe would keep the process alive.
const endInput = Effect.sync(() => void process.stdin.destroy())

/** What came of a call: its result, or the code that the router refused it with. */
const outcome = <A>(call: Effect.Effect<A, WanIpConnection.ActionError>) =>
  call.pipe(
    Effect.map((value): unknown => (value === undefined ? "nothing" : value)),
    Effect.catchTag("UpnpFault", (fault) => Effect.succeed<unknown>({ fault: fault.code }))
  )

const host = NetAddress.ipFromStringUnsafe(new URL(description).hostname.replace(/^\[(.*)\]$/, "$1"))

const fetched = Effect.gen(function* () {
  const location = yield* Effect.fromResult(HttpUrl.fromString(description, host))
  const http = yield* Http.Http
  const response = yield* http.request({
    method: "GET",
    address: location.address,
    path: location.path,
    maxBytes: DeviceDescription.maximumBytes
  })
  const device = yield* Effect.fromResult(DeviceDescription.parse(response.body, location))
  return { device, client: yield* SoapClient.make }
})

const service = Effect.fnUntraced(function* (device: DeviceDescription.Device, type: string) {
  return yield* Effect.fromNullishOr(DeviceDescription.servicesOf(device, type)[0])
})

const { layer3Forwarding, wanCommonInterfaceConfig, wanIpConnection, wanIpv6FirewallControl } =
  DeviceDescription.serviceTypes

const firewallOf = Effect.gen(function* () {
  const { client, device } = yield* fetched
  const found = yield* service(device, wanIpv6FirewallControl)
  return WanIpv6FirewallControl.make(client, found.service)
})

const connectionActions = (connection: WanIpConnection.WanIpConnection) => {
  const entry = PortMappingEntry.make({
    description: "by hand",
    externalPort: 12_001,
    internalClient: internalAddress,
    internalPort: 12_000,
    leaseDuration: 600
  })
  const range = { startPort: 12_000, endPort: 12_999, protocol: "TCP", manage: false } as const
  const inRange = connection.getListOfPortMappings({ ...range, numberOfPorts: 0 })
  return {
    statusInfo: connection.getStatusInfo,
    connectionTypeInfo: connection.getConnectionTypeInfo,
    natRsipStatus: connection.getNatRsipStatus,
    autoDisconnectTime: connection.getAutoDisconnectTime,
    idleDisconnectTime: connection.getIdleDisconnectTime,
    warnDisconnectDelay: connection.getWarnDisconnectDelay,
    externalIpAddress: Effect.map(connection.getExternalIpAddress, String),
    add: connection.addPortMapping(entry),
    specific: connection.getSpecificPortMappingEntry(entry),
    generic: connection.getGenericPortMappingEntry(0),
    endOfList: connection.getGenericPortMappingEntry(1),
    addAny: connection
      .addAnyPortMapping({ ...entry, internalPort: 12_500, externalPort: 12_501 })
      .pipe(Effect.map((granted): unknown => granted)),
    addOfAnother: connection.addPortMapping({ ...entry, externalPort: 12_601, internalClient: "192.168.77.3" }),
    addAnyElsewhere: connection
      .addAnyPortMapping({ ...entry, internalPort: 12_600, externalPort: 12_601 })
      .pipe(Effect.map((granted): unknown => granted !== 12_601)),
    list: Effect.map(inRange, (entries) => entries.map((one) => one.internalPort).toSorted((a, b) => a - b)),
    stream: Effect.map(Stream.runCollect(connection.portMappings), (entries) => entries.length),
    delete: connection.deletePortMapping(entry),
    specificAfter: connection.getSpecificPortMappingEntry(entry),
    deleteRange: connection.deletePortMappingRange({ ...range, startPort: 1, endPort: 65_535 }),
    deleteRangeAgain: connection.deletePortMappingRange(range),
    listOfNone: inRange
  }
}

const lineActions = (line: WanCommonInterfaceConfig.WanCommonInterfaceConfig) => ({
  commonLinkProperties: line.getCommonLinkProperties,
  enabledForInternet: line.getEnabledForInternet,
  accessProvider: line.getWanAccessProvider,
  maximumActiveConnections: line.getMaximumActiveConnections,
  bytesSent: line.getTotalBytesSent,
  bytesReceived: line.getTotalBytesReceived,
  packetsSent: line.getTotalPacketsSent,
  packetsReceived: line.getTotalPacketsReceived,
  activeConnection: line.getActiveConnection(0)
})

const each = (calls: Readonly<Record<string, Effect.Effect<unknown, WanIpConnection.ActionError>>>) =>
  Effect.forEach(Object.entries(calls), ([name, call]) => Effect.map(outcome(call), (value) => [name, value])).pipe(
    Effect.map((entries) => Object.fromEntries(entries))
  )

const actions = Effect.gen(function* () {
  const { client, device } = yield* fetched
  const wanService = yield* Effect.fromNullishOr(DeviceDescription.wanServices(device)[0])
  const line = yield* service(device, wanCommonInterfaceConfig)
  const forwarding = yield* service(device, layer3Forwarding)
  const [firewall] = DeviceDescription.servicesOf(device, wanIpv6FirewallControl)
  const asked = Layer3Forwarding.make(client, forwarding.service).getDefaultConnectionService
  const defaultConnection = Effect.map(
    asked,
    (named) => named && Layer3Forwarding.findService(device, named)?.service.serviceType
  )
  yield* print({
    version: wanService.version,
    connection: yield* each(connectionActions(WanIpConnection.make(client, wanService))),
    line: yield* each(lineActions(WanCommonInterfaceConfig.make(client, line.service))),
    defaultConnection: yield* outcome(defaultConnection),
    firewall: firewall && (yield* outcome(WanIpv6FirewallControl.make(client, firewall.service).getFirewallStatus))
  })
})

const pinhole = Effect.gen(function* () {
  const firewall = yield* firewallOf
  const flow = {
    remoteHost: "",
    remotePort: 0,
    internalClient: internalAddress,
    internalPort: Number(port),
    protocol: protocol === "udp" ? "UDP" : "TCP"
  } as const
  const status = yield* outcome(firewall.getFirewallStatus)
  const id = yield* firewall
    .addPinhole({ ...flow, leaseSeconds: 600 })
    .pipe(Effect.catchTag("UpnpFault", (fault) => Effect.andThen(print({ fault: fault.code }), Effect.fail(fault))))
  yield* print({ status, id, again: yield* outcome(firewall.addPinhole({ ...flow, leaseSeconds: 700 })) })
  yield* oneLine
  yield* print({
    updated: yield* outcome(firewall.updatePinhole({ uniqueId: id, leaseSeconds: 900 })),
    packets: yield* outcome(firewall.getPinholePackets(id)),
    isWorking: yield* outcome(firewall.checkPinholeWorking(id)),
    outboundTimeout: yield* outcome(firewall.getOutboundPinholeTimeout(flow))
  })
  yield* oneLine
  yield* print({
    deleted: yield* outcome(firewall.deletePinhole(id)),
    deletedAgain: yield* outcome(firewall.deletePinhole(id)),
    updatedAfter: yield* outcome(firewall.updatePinhole({ uniqueId: id, leaseSeconds: 900 }))
  })
})

const events = Effect.gen(function* () {
  const { device } = yield* fetched
  const found = yield* service(device, wanIpConnection)
  const subscription = yield* EventSubscription.subscribe({ service: found.service, gateway: host })
  yield* subscription.events.pipe(
    Stream.runForEach((variables) => print(Object.fromEntries(variables))),
    Effect.forkScoped
  )
  yield* print({ isWorking: yield* subscription.isWorking })
  yield* oneLine
}).pipe(Effect.scoped)

const run: Effect.Effect<void, unknown, NodeHost.Host> =
  command === "actions"
    ? actions
    : command === "pinhole"
      ? pinhole
      : command === "events"
        ? events
        : Effect.die(new Error(`no such command: ${command}`))

run.pipe(Effect.provide(NodeHost.layer), Effect.ensuring(endInput), NodeRuntime.runMain)
