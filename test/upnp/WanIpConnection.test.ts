import * as NatError from "@effect-nat/core/NatError"
import type * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as Soap from "@effect-nat/upnp/Soap"
import * as WanIpConnection from "@effect-nat/upnp/WanIpConnection"
import * as WanPppConnection from "@effect-nat/upnp/WanPppConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Answering from "./answering.ts"
import * as Router from "./router.ts"

const wanService = (version: number): DeviceDescription.WanService => ({
  kind: "ip",
  version,
  service: Answering.service(`urn:schemas-upnp-org:service:WANIPConnection:${version}`)
})

const entry = PortMappingEntry.make({
  description: "chess",
  externalPort: 12001,
  internalClient: "192.168.1.2",
  internalPort: 12000
})

const entryAt = (externalPort: number): PortMappingEntry.PortMappingEntry => ({ ...entry, externalPort })

const malformed = Effect.fail(NatError.fromReason(new NatError.MalformedAnswer({ detail: "no" })))

const isFault =
  (code: number) =>
  (error: WanIpConnection.ActionError): boolean =>
    error._tag === "UpnpFault" && error.code === code

const reasonOf = (error: WanIpConnection.ActionError): string =>
  error._tag === "UpnpFault" ? `fault ${error.code}` : error.reason._tag

describe("actions on mappings", () => {
  const range = { startPort: 12000, endPort: 12010, protocol: "UDP", manage: true } as const

  it.effect("have their arguments in order [UDA 3.2.1-e, IP1 2.2.15-a, 2.4.17-a, IP2 2.3.17-a, 2.5.19-a]", () =>
    Effect.gen(function* () {
      const { calls, client } = Answering.always([["NewReservedPort", "12002"]])
      const connection = WanIpConnection.make(client, wanService(2))
      yield* connection.addPortMapping(entry)
      assert.strictEqual(yield* connection.addAnyPortMapping({ ...entry, leaseDuration: 60 }), 12002)
      yield* connection.deletePortMapping(entry)
      yield* connection.deletePortMapping({ remoteHost: "8.8.8.8", externalPort: 12001, protocol: "UDP" })
      yield* connection.deletePortMappingRange(range)
      assert.deepStrictEqual(yield* connection.getListOfPortMappings({ ...range, manage: false, numberOfPorts: 5 }), [])
      const short =
        "NewRemoteHost=, NewExternalPort=12001, NewProtocol=TCP, NewInternalPort=12000, NewInternalClient=192.168.1.2, NewEnabled=1, NewPortMappingDescription=chess, NewLeaseDuration"
      assert.deepStrictEqual(calls, [
        `AddPortMapping(${short}=0)`,
        `AddAnyPortMapping(${short}=60)`,
        "DeletePortMapping(NewRemoteHost=, NewExternalPort=12001, NewProtocol=TCP)",
        "DeletePortMapping(NewRemoteHost=8.8.8.8, NewExternalPort=12001, NewProtocol=UDP)",
        "DeletePortMappingRange(NewStartPort=12000, NewEndPort=12010, NewProtocol=UDP, NewManage=1)",
        "GetListOfPortMappings(NewStartPort=12000, NewEndPort=12010, NewProtocol=UDP, NewManage=0, NewNumberOfPorts=5)"
      ])
    })
  )

  it.effect.each(["", "0", "65536", "many"])("a reserved port of %j is malformed", (port) =>
    Effect.gen(function* () {
      const connection = WanIpConnection.make(Answering.always([["NewReservedPort", port]]).client, wanService(2))
      assert.strictEqual(reasonOf(yield* Effect.flip(connection.addAnyPortMapping(entry))), "MalformedAnswer")
    })
  )

  it.effect("lists of mappings come back as they were written [IP2 2.3.28-a]", () =>
    Effect.gen(function* () {
      const entries = [entry, { ...entryAt(80), protocol: "UDP" as const, description: `"R&D" <1>`, enabled: false }]
      const { client } = Answering.always([["NewPortListing", PortMappingEntry.encodeList(entries)]])
      const connection = WanIpConnection.make(client, wanService(2))
      assert.deepStrictEqual(yield* connection.getListOfPortMappings({ ...range, numberOfPorts: 0 }), entries)
    })
  )

  it.effect("a list that is none is malformed", () =>
    Effect.gen(function* () {
      const { client } = Answering.always([["NewPortListing", "<html/>"]])
      const connection = WanIpConnection.make(client, wanService(2))
      const error = yield* Effect.flip(connection.getListOfPortMappings({ ...range, numberOfPorts: 0 }))
      assert.strictEqual(reasonOf(error), "MalformedAnswer")
    })
  )
})

describe("actions on the line", () => {
  it.effect("give what the router says [IP1 2.4.2-a, 2.4.13-a]", () =>
    Effect.gen(function* () {
      const { calls, client } = Answering.always([
        ["NewConnectionType", "IP_Routed"],
        ["NewPossibleConnectionTypes", " IP_Routed, IP_Bridged,,"],
        ["NewRSIPAvailable", "0"],
        ["NewNATEnabled", "True"],
        ["NewAutoDisconnectTime", "3600"],
        ["NewIdleDisconnectTime", "0"],
        ["NewWarnDisconnectDelay", "soon"],
        ["NewConnectionStatus", "Connected"],
        ["NewUptime", "77"]
      ])
      const connection = WanIpConnection.make(client, wanService(1))
      assert.deepStrictEqual(yield* connection.getConnectionTypeInfo, {
        connectionType: "IP_Routed",
        possibleConnectionTypes: ["IP_Routed", "IP_Bridged"]
      })
      assert.deepStrictEqual(yield* connection.getNatRsipStatus, { rsipAvailable: false, natEnabled: true })
      assert.strictEqual(yield* connection.getAutoDisconnectTime, 3600)
      assert.strictEqual(yield* connection.getIdleDisconnectTime, 0)
      assert.isUndefined(yield* connection.getWarnDisconnectDelay)
      assert.deepStrictEqual(yield* connection.getStatusInfo, {
        connectionStatus: "Connected",
        lastConnectionError: "",
        uptime: 77
      })
      assert.deepStrictEqual(calls, [
        "GetConnectionTypeInfo()",
        "GetNATRSIPStatus()",
        "GetAutoDisconnectTime()",
        "GetIdleDisconnectTime()",
        "GetWarnDisconnectDelay()",
        "GetStatusInfo()"
      ])
    })
  )

  it.effect("know more of a point-to-point link [PPP1 2.4.11-a]", () =>
    Effect.gen(function* () {
      const { calls, client } = Answering.always([
        ["NewUpstreamMaxBitRate", "1000000"],
        ["NewDownstreamMaxBitRate", ""],
        ["NewPPPEncryptionProtocol", "MPPE"],
        ["NewPPPCompressionProtocol", "STAC LZS"],
        ["NewPPPAuthenticationProtocol", "CHAP"],
        ["NewUserName", "someone@provider.example"],
        ["NewExternalIPAddress", "11.22.33.1"]
      ])
      const connection = WanPppConnection.make(client, {
        kind: "ppp",
        version: 1,
        service: Answering.service(Router.wanPpp1)
      })
      assert.deepStrictEqual(yield* connection.getLinkLayerMaxBitRates, { upstream: 1_000_000, downstream: undefined })
      assert.strictEqual(yield* connection.getPppEncryptionProtocol, "MPPE")
      assert.strictEqual(yield* connection.getPppCompressionProtocol, "STAC LZS")
      assert.strictEqual(yield* connection.getPppAuthenticationProtocol, "CHAP")
      assert.strictEqual(yield* connection.getUserName, "someone@provider.example")
      assert.isDefined(yield* connection.getExternalIpAddress)
      assert.deepStrictEqual(calls, [
        "GetLinkLayerMaxBitRates()",
        "GetPPPEncryptionProtocol()",
        "GetPPPCompressionProtocol()",
        "GetPPPAuthenticationProtocol()",
        "GetUserName()",
        "GetExternalIPAddress()"
      ])
    })
  )
})

interface Listing {
  /** What is at each index. */
  readonly at: (index: number) => Answering.Answer
  /** The ports that a version 2 router lists by range. */
  readonly inRange?: ReadonlyArray<number>
  readonly version?: number
}

const listing = ({ at, inRange, version }: Listing) => {
  const router = Answering.answering((action, list) => {
    const number = (name: string) => Number(Soap.argument(list, name))
    if (action === "GetGenericPortMappingEntry") return at(number("NewPortMappingIndex"))
    if (inRange === undefined) return Router.fault(401)
    const found = inRange.filter((port) => port >= number("NewStartPort") && port <= number("NewEndPort"))
    if (found.length === 0 || Soap.argument(list, "NewProtocol") === "UDP") return Router.fault(730)
    const cut = found.toReversed().slice(0, number("NewNumberOfPorts"))
    return Effect.succeed([["NewPortListing", PortMappingEntry.encodeList(cut.map(entryAt))]] as const)
  })
  const connection = WanIpConnection.make(router.client, wanService(version ?? 1))
  return { calls: router.calls, list: Stream.runCollect(connection.portMappings) }
}

const held = (ports: ReadonlyArray<number>, end: Answering.Answer) => (index: number) =>
  ports[index] === undefined ? end : Effect.succeed(PortMappingEntry.toArguments(entryAt(ports[index])))

const portsOf = (entries: ReadonlyArray<PortMappingEntry.PortMappingEntry>) => entries.map((one) => one.externalPort)

describe("the list of mappings", () => {
  it.effect.each([713, 714, 402, 730])("ends with error %i [IP1 2.4.14-a]", (code) =>
    Effect.gen(function* () {
      const { calls, list } = listing({ at: held([1, 2, 3], Router.fault(code)) })
      assert.deepStrictEqual(portsOf(yield* list), [1, 2, 3])
      assert.lengthOf(calls, 4)
    })
  )

  it.effect("may be empty", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* listing({ at: held([], Router.fault(713)) }).list, [])
    })
  )

  it.effect.each([402, 401, 606])("that is refused from the start (error %i) is no empty list", (code) =>
    Effect.gen(function* () {
      assert.isTrue(isFault(code)(yield* Effect.flip(listing({ at: held([], Router.fault(code)) }).list)))
    })
  )

  it.effect("that breaks off fails", () =>
    Effect.gen(function* () {
      const broken = listing({ at: held([1, 2], Router.fault(501)), inRange: [1, 2, 3], version: 2 })
      assert.isTrue(isFault(501)(yield* Effect.flip(broken.list)))
    })
  )

  it.effect("of a router that repeats one entry for ever ends", () =>
    Effect.gen(function* () {
      let left = 3600
      const { calls, list } = listing({
        at: () => Effect.succeed(PortMappingEntry.toArguments({ ...entry, leaseDuration: left-- }))
      })
      assert.deepStrictEqual(portsOf(yield* list), [12001])
      assert.isBelow(calls.length, 10)
    })
  )

  it.effect("of a router that never ends ends all the same", () =>
    Effect.gen(function* () {
      const at = (index: number) =>
        Effect.succeed(PortMappingEntry.toArguments({ ...entry, description: String(index) }))
      assert.lengthOf(yield* listing({ at }).list, 10_000)
    })
  )

  it.effect("of a router that shows something new now and then ends as well", () =>
    Effect.gen(function* () {
      const at = (index: number) =>
        Effect.succeed(PortMappingEntry.toArguments({ ...entry, description: String(Math.floor(index / 2)) }))
      const { calls, list } = listing({ at })
      assert.lengthOf(yield* list, 5000)
      assert.lengthOf(calls, 10_000)
    })
  )

  it.effect("shows an entry once that moves while it is read, and what comes after it [IP1 2.4.14-b]", () =>
    Effect.gen(function* () {
      const { list } = listing({ at: held([1, 2, 2, 3], Router.fault(713)) })
      assert.deepStrictEqual(portsOf(yield* list), [1, 2, 3])
    })
  )

  it.effect("leaves out an entry that makes no sense", () =>
    Effect.gen(function* () {
      const entries = held([1, 2, 3, 4], Router.fault(713))
      const { list } = listing({
        at: (index) =>
          index === 1 ? Effect.succeed([["NewExternalPort", "6881-6889"]]) : index === 2 ? malformed : entries(index)
      })
      assert.deepStrictEqual(portsOf(yield* list), [1, 4])
    })
  )

  it.effect.each([
    ["that makes no sense", malformed],
    ["of other hosts", Router.fault(606)]
  ] as const)("goes on behind a row of entries %s", ([, refused]) =>
    Effect.gen(function* () {
      const entries = held(
        Array.from({ length: 31 }, (_, index) => index + 1),
        Router.fault(713)
      )
      const at = (index: number) => (index > 0 && index < 30 ? refused : entries(index))
      assert.deepStrictEqual(portsOf(yield* listing({ at }).list), [1, 31])
    })
  )

  it.effect.each([
    ["MalformedAnswer", malformed],
    ["fault 606", Router.fault(606)]
  ] as const)("that is nothing but refusals (%s) fails, and ends where there was something", ([reason, refused]) =>
    Effect.gen(function* () {
      const nothing = listing({ at: held([], refused) })
      assert.strictEqual(reasonOf(yield* Effect.flip(nothing.list)), reason)
      assert.lengthOf(nothing.calls, 32)
      const something = listing({ at: held([1], refused) })
      assert.deepStrictEqual(portsOf(yield* something.list), [1])
      assert.lengthOf(something.calls, 33)
    })
  )

  it.effect("shows this host's entries where those of others need leave", () =>
    Effect.gen(function* () {
      const at = (index: number) =>
        [1, 3].includes(index) ? Router.fault(606) : held([1, 0, 3, 0, 5], Router.fault(713))(index)
      assert.deepStrictEqual(portsOf(yield* listing({ at, version: 2 }).list), [1, 3, 5])
    })
  )

  it.effect.each([
    ["ports below 1024", (list: Soap.Arguments) => Number(Soap.argument(list, "NewStartPort")) >= 1024, "1024 1"],
    ["other hosts' mappings", (list: Soap.Arguments) => Soap.argument(list, "NewManage") === "0", "1024 0"]
  ] as const)("is read by ranges without %s where those need leave", ([, isOpen, asked]) =>
    Effect.gen(function* () {
      const router = Answering.answering((action, list) => {
        if (action !== "GetListOfPortMappings" || !isOpen(list)) return Router.fault(606)
        if (Soap.argument(list, "NewProtocol") === "UDP") return Router.fault(730)
        assert.strictEqual(`${Soap.argument(list, "NewStartPort")} ${Soap.argument(list, "NewManage")}`, asked)
        return Effect.succeed([["NewPortListing", PortMappingEntry.encodeList([entry])]])
      })
      const connection = WanIpConnection.make(router.client, wanService(2))
      assert.deepStrictEqual(portsOf(yield* Stream.runCollect(connection.portMappings)), [12001])
    })
  )

  it.effect("is read by ranges where a version 2 router refuses to list by index [IP2 2.5.21-a]", () =>
    Effect.gen(function* () {
      const ports = Array.from({ length: 400 }, (_, index) => 32_600 + index)
      const { list } = listing({ at: () => Router.fault(501), inRange: [...ports, 65_535], version: 2 })
      assert.deepStrictEqual(
        portsOf(yield* list).toSorted((a, b) => a - b),
        [...ports, 65_535]
      )
    })
  )

  const endless = (entriesOf: (list: Soap.Arguments) => ReadonlyArray<PortMappingEntry.PortMappingEntry>) => {
    const router = Answering.answering((action, list) =>
      action === "GetListOfPortMappings"
        ? Effect.succeed([["NewPortListing", PortMappingEntry.encodeList(entriesOf(list))]])
        : Router.fault(401)
    )
    const connection = WanIpConnection.make(router.client, wanService(2))
    return { calls: router.calls, list: Stream.runCollect(connection.portMappings) }
  }

  it.effect("of a router that does not look at the range ends", () =>
    Effect.gen(function* () {
      const { calls, list } = endless(() => Array.from({ length: 64 }, (_, index) => entryAt(index * 1000 + 1)))
      assert.lengthOf(yield* list, 64)
      assert.isBelow(calls.length, 10)
    })
  )

  it.effect("of a router that fills every page ends", () =>
    Effect.gen(function* () {
      const { calls, list } = endless((list) =>
        Array.from({ length: 64 }, () => entryAt(Number(Soap.argument(list, "NewStartPort"))))
      )
      yield* list
      assert.isAtMost(calls.length, 1001)
    })
  )

  it.effect("of a router that invents entries for every range ends at ten thousand", () =>
    Effect.gen(function* () {
      let invented = 0
      const { list } = endless((list) =>
        Array.from({ length: 100 }, () => ({
          ...entryAt(Number(Soap.argument(list, "NewStartPort"))),
          description: String(invented++)
        }))
      )
      assert.lengthOf(yield* list, 10_000)
    })
  )

  it.effect("is not read by ranges where listing by index works, nor on version 1", () =>
    Effect.gen(function* () {
      const works = listing({ at: held([1], Router.fault(713)), inRange: [2], version: 2 })
      assert.deepStrictEqual(portsOf(yield* works.list), [1])
      const old = listing({ at: () => Router.fault(501), inRange: [2], version: 1 })
      assert.isTrue(isFault(501)(yield* Effect.flip(old.list)))
    })
  )

  it.effect("fails with the first refusal where both ways are refused", () =>
    Effect.gen(function* () {
      assert.isTrue(isFault(606)(yield* Effect.flip(listing({ at: () => Router.fault(606), version: 2 }).list)))
    })
  )
})
