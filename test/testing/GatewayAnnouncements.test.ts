/**
 * What hosts hear unasked from a router that speaks PCP, in a network: everybody by a group of either family, and the
 * clients of mappings apart.
 */
import * as Udp from "@effect-nat/core/Udp"
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import type * as Quirk from "@effect-nat/testing/Quirk"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"

const ip = NetAddress.ipFromStringUnsafe

interface Heard {
  readonly at: number
  readonly from: string
  readonly what: string
}

const read = (payload: Uint8Array): string => {
  if (payload[0] === 0) return "NAT-PMP"
  const message = Result.getOrThrow(PcpCodec.decodeResponse(payload))
  return message._tag === "MapResponse"
    ? `${message.internalPort} at ${NetAddress.formatIp(message.externalAddress)}`
    : `${message._tag} ${"epoch" in message ? message.epoch : ""}`
}

/** What comes to port 5350 of a host, with the time since the last look. */
const listen = (host: SimulatedNetwork.Host, group?: NetAddress.IpAddress) => {
  const heard: Array<Heard> = []
  const address = group !== undefined && NetAddress.isIpv6Address(group) ? NetAddress.ipv6Unspecified : undefined
  host.start().fork(
    Effect.gen(function* () {
      const socket = yield* Udp.Udp.use((udp) => udp.open({ bind: { port: PcpCodec.clientPort, address } }))
      if (group !== undefined) yield* socket.joinMulticast(group)
      while (true) {
        for (const { address, payload } of yield* socket.receive) {
          const at = yield* Clock.currentTimeMillis
          heard.push({ at, from: NetAddress.formatInet(address), what: read(payload) })
        }
      }
    }).pipe(Effect.scoped)
  )
  let lookedAt = 0
  return (now: number) => {
    const since = lookedAt
    lookedAt = now
    return heard.splice(0).map(({ at, from, what }) => [at - since, from, what] as const)
  }
}

const build = (quirks: ReadonlyArray<Quirk.Quirk> = [], speaks: ReadonlyArray<Quirk.Protocol> = ["pcp"]) => {
  const network = SimulatedNetwork.make({ seed: 1 })
  const lan = network.addLan({ network: "192.168.77.0/24", link: { delay: [0, 0] } })
  const lan6 = network.addLan({ network: "2001:db8:77::/64", link: { delay: [0, 0] } })
  const model = new RouterModel.RouterModel({ quirks })
  const devices = SimulatedDevice.fromModel(model, speaks)
  const router = network.addRouter({ lan, model, devices })
  network.addRouter({ lan: lan6, model, devices: SimulatedDevice.fromModel(model, ["pcp"]), address: "2001:db8:77::1" })
  const addHost = (number: number) =>
    network.addHost({
      attachments: [
        { lan, address: `192.168.77.${number}` },
        { lan: lan6, address: `2001:db8:77::${number}` }
      ],
      gateways: [router, ip("2001:db8:77::1")]
    })
  return { network, model, addHost }
}

const map = (model: RouterModel.RouterModel, client: string, internalPort: number) =>
  model.map(0, {
    via: "pcp",
    client: ip(client),
    protocol: "tcp",
    externalPort: internalPort,
    mayChoosePort: true,
    internalAddress: ip(client),
    internalPort,
    lifetimeSeconds: 36_000,
    nonce: "0102030405060708090a0b0c"
  })

const announcedAt = Array.from({ length: 10 }, (_, round) => 250 * (2 ** round - 1))
const from4 = "192.168.77.1:5351"

describe("a router that speaks PCP", () => {
  it.each([
    ["224.0.0.1", from4],
    ["ff02::1", "[2001:db8:77::1]:5351"]
  ])("tells %s ten times that it has restarted or has another address, each time with its epoch", (group, from) => {
    const { addHost, model, network } = build()
    const look = listen(addHost(2), ip(group))
    network.runUntil(3_600_000)
    look(network.now)
    for (const happen of [() => model.reboot(network.now), () => model.changeExternalAddress(ip("11.22.33.9"))]) {
      happen()
      network.runUntil(network.now + 3_600_000)
      assert.deepStrictEqual(
        look(network.now),
        announcedAt.map((at) => [at, from, `AnnounceResponse ${Math.floor(at / 1000)}`] as const)
      )
    }
  })

  it("tells each mapping's host three times that it has another address", () => {
    const { addHost, model, network } = build()
    const [here, there, nobody] = [listen(addHost(2)), listen(addHost(3)), listen(addHost(4))]
    map(model, "192.168.77.2", 8080)
    map(model, "192.168.77.2", 8081)
    map(model, "192.168.77.3", 9090)
    network.runUntil(1_000_000)
    assert.deepStrictEqual(
      [here, there, nobody].map((look) => look(network.now)),
      [[], [], []]
    )
    model.changeExternalAddress(ip("11.22.33.9"))
    network.runUntil(2_000_000)
    const told = (port: number) => (at: number) => [at, from4, `${port} at 11.22.33.9`] as const
    assert.deepStrictEqual(
      here(network.now),
      [0, 250, 750].flatMap((at) => [told(8080)(at), told(8081)(at)])
    )
    assert.deepStrictEqual(there(network.now), [0, 250, 750].map(told(9090)))
    assert.deepStrictEqual(nobody(network.now), [])
  })

  it("tells a mapping that is gone meanwhile no more, and one that moves again only where it is", () => {
    const { addHost, model, network } = build()
    const look = listen(addHost(2))
    map(model, "192.168.77.2", 8080)
    network.runUntil(1000)
    look(network.now)
    model.changeExternalAddress(ip("11.22.33.9"))
    network.runUntil(1100)
    model.changeExternalAddress(ip("11.22.33.10"))
    network.runUntil(1400)
    model.unmap(network.now, () => true)
    network.runUntil(10_000)
    assert.deepStrictEqual(
      look(network.now).map(([at, , what]) => [at, what]),
      [
        [0, "8080 at 11.22.33.9"],
        [100, "8080 at 11.22.33.10"],
        [350, "8080 at 11.22.33.10"]
      ]
    )
  })

  it("tells the hosts that it served before that it has restarted, in either family", () => {
    const { addHost, model, network } = build()
    const host = addHost(2)
    const [here, there] = [listen(host), listen(addHost(3))]
    map(model, "192.168.77.2", 8080)
    network.runUntil(1000)
    here(network.now)
    model.reboot(network.now)
    network.runUntil(10_000)
    assert.deepStrictEqual(
      here(network.now),
      [0, 250, 750].map((at) => [at, from4, "AnnounceResponse 0"] as const)
    )
    assert.deepStrictEqual(there(network.now), [])
  })

  it("is silent while it is, and says how things are when it wakes up", () => {
    const { addHost, model, network } = build()
    const look = listen(addHost(2))
    map(model, "192.168.77.2", 8080)
    network.runUntil(1000)
    look(network.now)
    model.goSilent(1500)
    model.changeExternalAddress(ip("11.22.33.9"))
    network.runUntil(10_000)
    assert.deepStrictEqual(
      look(network.now).map(([at, , what]) => [at, what]),
      [[750, "8080 at 11.22.33.9"]]
    )
  })

  const kinds = (quirks: ReadonlyArray<Quirk.Quirk>, speaks?: ReadonlyArray<Quirk.Protocol>) => {
    const { addHost, model, network } = build(quirks, speaks)
    const look = listen(addHost(2), PcpCodec.group)
    map(model, "192.168.77.2", 8080)
    network.runUntil(1_000_000)
    look(network.now)
    const whats = () => {
      network.runUntil(network.now + 1_000_000)
      const all = look(network.now).map(([, , what]) => what.split(" ")[0] ?? "")
      return Object.entries(Object.groupBy(all, (what) => what)).map(([what, some]) => `${what} × ${some?.length}`)
    }
    model.changeExternalAddress(ip("11.22.33.9"))
    const elsewhere = whats()
    model.reboot(network.now)
    return [elsewhere.toSorted(), whats().toSorted()]
  }

  it.each([
    [[], ["8080 × 3", "AnnounceResponse × 10"], ["AnnounceResponse × 13"]],
    [["AnnouncesOnlyToGroup"], ["AnnounceResponse × 10"], ["AnnounceResponse × 10"]],
    [["AnnouncesOnlyToClients"], ["8080 × 3"], ["AnnounceResponse × 3"]],
    [["EpochStartsOver"], [], []]
  ] as const)("with %j says what that leaves", (quirks, elsewhere, restarted) => {
    assert.deepStrictEqual<ReadonlyArray<ReadonlyArray<string>>>(kinds(quirks), [elsewhere, restarted])
  })

  it("speaks up over both protocols where it speaks both, and over one where it speaks one", () => {
    const both = ["8080 × 3", "AnnounceResponse × 10", "NAT-PMP × 10"]
    assert.deepStrictEqual(kinds([], ["natpmp", "pcp"]), [both, ["AnnounceResponse × 13", "NAT-PMP × 10"]])
    assert.deepStrictEqual(kinds([], ["natpmp"]), [["NAT-PMP × 10"], ["NAT-PMP × 10"]])
    assert.deepStrictEqual(kinds(["AnnouncesOnlyToClients"], ["natpmp"]), [[], []])
  })
})
