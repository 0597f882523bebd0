/**
 * How the answers of a router with a quirk leave the port of NAT-PMP and PCP: in a network, and on loopback sockets,
 * where a plain socket asks.
 */
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as Udp from "@effect-nat/core/Udp"
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import type * as Quirk from "@effect-nat/testing/Quirk"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import { bytes, hex, map } from "./pcpRouter.ts"

const ip = NetAddress.ipFromStringUnsafe
const own = ip("192.168.77.2")
const router = NetAddress.inetAddressUnsafe(ip("192.168.77.1"), PcpCodec.serverPort)

/** What comes back within two seconds, with the sender's port and the time that it took. */
const ask = Effect.fnUntraced(function* (payload: Uint8Array, to: NetAddress.InetAddress) {
  const socket = yield* Udp.Udp.use((udp) => udp.open({}))
  const before = yield* Clock.currentTimeMillis
  const replies: Array<{ readonly hex: string; readonly port: number; readonly after: number }> = []
  yield* socket.send(payload, to)
  const receive = Effect.gen(function* () {
    const datagrams = yield* socket.receive
    const after = (yield* Clock.currentTimeMillis) - before
    replies.push(...datagrams.map(({ address, payload }) => ({ hex: hex(payload), port: address.port, after })))
  })
  yield* Effect.timeoutOption(Effect.forever(receive), "2 seconds")
  return replies
}, Effect.scoped)

const announce = PcpCodec.encodeRequest({ _tag: "AnnounceRequest", clientAddress: own, options: [] })
const externalAddress = bytes("0000")

const inNetwork = (quirks: ReadonlyArray<Quirk.Quirk>, payload: Uint8Array) => {
  const network = SimulatedNetwork.make({ seed: 1 })
  const lan = network.addLan({ network: "192.168.77.0/24", link: { delay: [0, 0] } })
  const model = new RouterModel.RouterModel({ quirks })
  const gateway = network.addRouter({ lan, model, devices: SimulatedDevice.fromModel(model, ["natpmp", "pcp"]) })
  const host = network.addHost({ attachments: [{ lan, address: own }], gateways: [gateway] })
  return network.run(host.start(), ask(payload, router))
}

const natPmpAnswer = "00800000000000000b162101"
const pcpAnswer = `0280${"00".repeat(22)}`

describe("an answer", () => {
  it.effect("comes once, at once, whole and from the port that was asked", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* inNetwork([], announce), [{ hex: pcpAnswer, port: 5351, after: 0 }])
      assert.deepStrictEqual(yield* inNetwork([], externalAddress), [{ hex: natPmpAnswer, port: 5351, after: 0 }])
    })
  )

  it("is that of either protocol where a device speaks both", () => {
    const device = SimulatedDevice.pcpAndNatPmp(new RouterModel.RouterModel())
    const from = NetAddress.inetAddressUnsafe(own, 5350)
    const answersTo = (payload: Uint8Array) =>
      device.onDatagram?.({ now: 0, payload, from, to: router })?.map((answer) => hex(answer.payload))
    assert.deepStrictEqual([announce, externalAddress].map(answersTo), [[pcpAnswer], [natPmpAnswer]])
  })

  it.effect.each([
    [
      "RepliesTwice",
      (whole: string) => [
        { hex: whole, port: 5351, after: 0 },
        { hex: whole, port: 5351, after: 0 }
      ]
    ],
    ["RepliesLate", (whole: string) => [{ hex: whole, port: 5351, after: 1200 }]],
    ["RepliesFromOtherPort", (whole: string) => [{ hex: whole, port: 5352, after: 0 }]],
    ["RepliesCutShort", (whole: string) => [{ hex: whole.slice(0, -8), port: 5351, after: 0 }]],
    ["RepliesPadded", (whole: string) => [{ hex: `${whole}00000000`, port: 5351, after: 0 }]]
  ] as const)("%s", ([quirk, expected]) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* inNetwork([quirk], announce), expected(pcpAnswer))
      assert.deepStrictEqual(yield* inNetwork([quirk], externalAddress), expected(natPmpAnswer))
    })
  )

  const hexes = (replies: ReadonlyArray<{ readonly hex: string }>) => replies.map((one) => one.hex)

  it.effect("does not come to what is ignored, though the other protocol is spoken", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* inNetwork(["IgnoresPcp"], announce), [])
      assert.deepStrictEqual(hexes(yield* inNetwork(["IgnoresPcp"], externalAddress)), [natPmpAnswer])
      assert.deepStrictEqual(hexes(yield* inNetwork(["IgnoresNatPmp"], announce)), [pcpAnswer])
      assert.deepStrictEqual(yield* inNetwork(["IgnoresNatPmp"], externalAddress), [])
    })
  )

  const unreadable = "000000000000ffffc0a84d02"
  const mapRequest = PcpCodec.encodeRequest({ ...map, options: [{ _tag: "PreferFailure" }] })
  const mapFields = hex(mapRequest).slice(48)

  it.effect.each([
    ["AnswersPcpWithVersion1", announce, `01800001000007080000000000000000${unreadable.slice(8)}`],
    ["RefusesOwnVersion", announce, `02800001000007080000000000000000${unreadable.slice(8)}`],
    ["SeesAnotherAddress", announce, `0280000c0000070800000000${"00".repeat(12)}`],
    ["AnnounceUnsupported", announce, `028000040000070800000000${"00".repeat(12)}`],
    ["PreferFailureUnsupported", mapRequest, `028100050000070800000000${"00".repeat(12)}${mapFields}`]
  ] as const)("%s, byte for byte", ([quirk, request, expected]) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(hexes(yield* inNetwork([quirk], request)), [expected])
    })
  )
})

describe.concurrent("on loopback an answer", () => {
  /** How long each answer is that a plain socket hears, and whether it comes from the port that was asked. */
  const onLoopback = (quirks: ReadonlyArray<Quirk.Quirk>) =>
    Effect.gen(function* () {
      const { ports } = yield* NodeSimulatedRouter.NodeSimulatedRouter
      const to = NetAddress.inetAddressUnsafe(ip("127.0.0.1"), ports.natpmp)
      const replies = yield* ask(externalAddress, to)
      // A late one cannot be early; one that is not may be late where the machine is.
      if (quirks.includes("RepliesLate")) for (const { after } of replies) assert.isAtLeast(after, 1_150)
      return replies.map((one) => [one.hex.length / 2, one.port === ports.natpmp] as const)
    }).pipe(
      Effect.provide(
        NodeUdp.layer.pipe(
          Layer.merge(
            NodeSimulatedRouter.layer({ quirks, protocols: ["natpmp", "pcp"], externalAddress: "11.22.33.1" })
          )
        )
      )
    )

  it.live.each([
    [[], [[12, true]]],
    [
      ["RepliesTwice"],
      [
        [12, true],
        [12, true]
      ]
    ],
    [["RepliesLate"], [[12, true]]],
    [["RepliesFromOtherPort"], [[12, false]]],
    [["RepliesCutShort"], [[8, true]]],
    [["RepliesPadded"], [[16, true]]],
    [["IgnoresNatPmp"], []]
  ] as const)("with %j is that", ([quirks, expected]) =>
    Effect.gen(function* () {
      assert.deepStrictEqual<unknown>(yield* onLoopback(quirks), expected)
    })
  )
})

describe("what a router grants", () => {
  const granted = (quirks: ReadonlyArray<Quirk.Quirk>, differences: Partial<RouterModel.MapRequest> = {}) => {
    const model = new RouterModel.RouterModel({ quirks })
    const mapped = model.map(0, {
      via: "natpmp",
      client: own,
      protocol: "tcp",
      externalPort: 12001,
      mayChoosePort: true,
      internalAddress: own,
      internalPort: 12000,
      lifetimeSeconds: 600,
      ...differences
    })
    return mapped._tag === "Success" ? [mapped.success.externalPort, mapped.success.expiresAt] : mapped.failure.kind
  }

  it("is another port, though only one will do, but over UPnP", () => {
    assert.deepStrictEqual(granted([]), [12001, 600_000])
    assert.deepStrictEqual(granted(["GrantsOtherPorts"]), [49_152, 600_000])
    assert.deepStrictEqual(granted(["GrantsOtherPorts"], { mayChoosePort: false }), [49_152, 600_000])
    assert.deepStrictEqual(granted(["GrantsOtherPorts"], { via: "upnp" }), [12001, 600_000])
  })

  it("is a lease of two minutes at least, or at most, but over UPnP, where nobody would be told", () => {
    assert.deepStrictEqual(granted(["LeasesAtLeastTwoMinutes"], { lifetimeSeconds: 30 }), [12001, 120_000])
    assert.deepStrictEqual(granted(["LeasesAtLeastTwoMinutes"]), [12001, 600_000])
    assert.deepStrictEqual(granted(["LeasesAtMostTwoMinutes"]), [12001, 120_000])
    assert.deepStrictEqual(granted(["LeasesAtMostTwoMinutes"], { lifetimeSeconds: 30 }), [12001, 30_000])
    assert.deepStrictEqual(granted(["LeasesAtMostTwoMinutes"], { via: "upnp" }), [12001, 600_000])
  })

  it("is counted by an epoch that stands still, or goes back every ten minutes", () => {
    const epochs = (quirks: ReadonlyArray<Quirk.Quirk>) => {
      const model = new RouterModel.RouterModel({ quirks })
      return [5_000, 599_000, 600_000, 605_000].flatMap((at) => [model.epochSeconds(at), model.pcpEpochSeconds(at)])
    }
    assert.deepStrictEqual(epochs([]), [5, 5, 599, 599, 600, 600, 605, 605])
    assert.deepStrictEqual(epochs(["EpochStandsStill"]), [0, 0, 0, 0, 0, 0, 0, 0])
    assert.deepStrictEqual(epochs(["EpochJumpsBack"]), [5, 5, 599, 599, 0, 0, 5, 5])
  })
})
