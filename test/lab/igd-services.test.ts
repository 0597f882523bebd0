/**
 * Every reading and mapping action of the services of a real router.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import * as LabProcess from "./LabProcess.ts"
import { labSuite } from "./LabSuite.ts"

const agent = fileURLToPath(new URL("./igd-agent.ts", import.meta.url))

const entry = {
  remoteHost: "",
  externalPort: 12001,
  protocol: "TCP",
  internalPort: 12000,
  internalClient: "192.168.77.2",
  enabled: true,
  description: "by hand",
  leaseDuration: 600
}

/** What the daemon leaves out, as the documents allow. */
const invalidAction = { fault: 401 }

const connection = {
  statusInfo: { connectionStatus: "Connected", lastConnectionError: "ERROR_NONE" },
  connectionTypeInfo: { connectionType: "IP_Routed", possibleConnectionTypes: ["IP_Routed"] },
  natRsipStatus: { rsipAvailable: false, natEnabled: true },
  autoDisconnectTime: invalidAction,
  idleDisconnectTime: invalidAction,
  warnDisconnectDelay: invalidAction,
  externalIpAddress: "11.22.33.1",
  add: "nothing",
  specific: entry,
  generic: entry,
  endOfList: { fault: 713 },
  addAny: 12501,
  addOfAnother: "nothing",
  addAnyElsewhere: true,
  list: [12000, 12000, 12500, 12600],
  stream: 4,
  delete: "nothing",
  specificAfter: { fault: 714 },
  deleteRange: "nothing",
  deleteRangeAgain: { fault: 730 },
  listOfNone: []
}

const line = {
  commonLinkProperties: { wanAccessType: "Cable", physicalLinkStatus: "Up" },
  enabledForInternet: invalidAction,
  accessProvider: invalidAction,
  maximumActiveConnections: invalidAction,
  activeConnection: invalidAction
}

const counters = ["bytesSent", "bytesReceived", "packetsSent", "packetsReceived"]

for (const version of [1, 2] as const) {
  labSuite(`the services of a real router, IGD version ${version}`, () => {
    it.live(
      "answer every action that reads or maps",
      () =>
        Effect.gen(function* () {
          // Without secure mode a host may map for another one, which takes a port from us.
          const daemon = { natpmp: false, secureMode: false, forceIgdDescV1: version === 1 }
          const lab = yield* Lab.make({ ipv6: true, daemon })
          // Something for the counters to count.
          yield* lab.tcpEcho("wan", 13000)
          assert.strictEqual(yield* lab.tcpProbe("lan", lab.addresses.wan, 13000), "reachable")

          // A line is up for whole seconds: just after its start there are none of them.
          yield* LabProcess.pause("1 second")
          const text = yield* lab.exec("lan", process.execPath, [agent, "actions", yield* lab.location])
          // A lease counts down: on a busy machine some seconds are gone when it is read.
          const isLease = (key: string, value: unknown) => key === "leaseDuration" && Number(value) > 590
          const answer = JSON.parse(text, (key, value) => (isLease(key, value) ? entry.leaseDuration : value))
          const { commonLinkProperties, ...others } = answer.line
          const { upstreamMaxBitRate, downstreamMaxBitRate, ...linkProperties } = commonLinkProperties
          const { uptime, ...statusInfo } = answer.connection.statusInfo
          assert.deepStrictEqual({ ...answer.connection, statusInfo }, connection)
          assert.deepInclude({ ...others, commonLinkProperties: linkProperties }, line)
          const numbers = [upstreamMaxBitRate, downstreamMaxBitRate, uptime, ...counters.map((name) => others[name])]
          for (const number of numbers) assert.isAbove(number, 0)
          assert.strictEqual(answer.version, version)
          assert.strictEqual(answer.defaultConnection, `urn:schemas-upnp-org:service:WANIPConnection:${version}`)
          // The firewall of IPv6 came with version 2.
          const firewall = version === 1 ? undefined : { isEnabled: true, isInboundPinholeAllowed: true }
          assert.deepStrictEqual(answer.firewall, firewall)
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      60_000
    )
  })
}
