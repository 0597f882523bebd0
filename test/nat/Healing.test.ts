/**
 * What becomes of a mapping when this host's network changes, with every strategy, in virtual time.
 */
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import * as Automatic from "effect-nat/Automatic"

const ip = NetAddress.ipFromStringUnsafe

type Strategy = Layer.Layer<PortMapper.PortMapper, never, SimulatedNetwork.Seams>

type Protocol = "natpmp" | "pcp" | "upnp"

const strategies: ReadonlyArray<readonly [string, Strategy, ReadonlyArray<Protocol>]> = [
  ["natpmp", NatPmp.layer, ["natpmp"]],
  ["pcp", Pcp.layer, ["pcp"]],
  ["upnp", Upnp.layer, ["upnp"]],
  ["automatic", Automatic.layer, ["natpmp", "pcp", "upnp"]]
]

const pcpVersion = 2

/** A host that has a port mapped for two hours, on the first of two routers in its network. */
const start = (strategy: Strategy, speaks: ReadonlyArray<Protocol>, secondSpeaks = speaks) => {
  const network = SimulatedNetwork.make({ seed: 7 })
  const lan = network.addLan({ network: "192.168.77.0/24" })
  const pcp = { isSpoken: true }
  const deafToPcp = (device: SimulatedDevice.Device): SimulatedDevice.Device => ({
    ...device,
    onDatagram: (datagram) =>
      pcp.isSpoken || datagram.payload[0] !== pcpVersion ? device.onDatagram?.(datagram) : undefined
  })
  const addRouter = (address: string, externalAddress: string, spoken: ReadonlyArray<Protocol>) => {
    const model = new RouterModel.RouterModel({
      address: ip(address),
      name: `Router ${address}`,
      externalAddress: ip(externalAddress)
    })
    return network.addRouter({ lan, model, devices: SimulatedDevice.fromModel(model, spoken).map(deafToPcp) })
  }
  const first = addRouter("192.168.77.1", "11.22.33.1", speaks)
  const second = addRouter("192.168.77.254", "11.22.33.254", secondSpeaks)
  const attachments = [{ lan, address: "192.168.77.2" }]
  const host = network.addHost({ attachments, gateways: [first] })
  const told: Array<string> = []
  const tell = (mapping: PortMapping.PortMapping) =>
    Effect.sync(() => told.push(`${mapping.status} ${mapping.internalAddress} ${mapping.externalAddress}`))
  const program = PortMapper.PortMapper.use((mapper) =>
    mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12001, lifetime: "2 hours" })
  ).pipe(
    Effect.flatMap((mapping) => Stream.runForEach(mapping.changes, tell)),
    Effect.scoped,
    Effect.provide(strategy)
  )
  host.start().fork(program)
  network.runUntil(600_000)
  const atFirst = ["mapped 192.168.77.2 11.22.33.1"]
  assert.deepStrictEqual(told, atFirst)
  /** What is told within so many seconds. */
  const toldWithin = (seconds: number) => {
    const before = told.length
    network.runUntil(network.now + seconds * 1000)
    return told.slice(before)
  }
  const mapped = ({ model }: SimulatedNetwork.Router) =>
    model.entries(network.now).map((one) => `${one.externalPort} to ${one.internalAddress}`)
  return { lan, first, second, host, attachments, toldWithin, mapped, pcp }
}

describe.each(strategies)("a mapping over %s", (_, strategy, speaks) => {
  it("follows this host to another address", () => {
    const { first, host, lan, mapped, toldWithin } = start(strategy, speaks)
    host.move({ attachments: [{ lan, address: "192.168.77.9" }], gateways: [first] })
    assert.deepStrictEqual(toldWithin(20).at(-1), "mapped 192.168.77.9 11.22.33.1")
    assert.isTrue(mapped(first).some((row) => row.endsWith("to 192.168.77.9")))
  })

  it("goes to the new default gateway although the old one answers still", () => {
    const { attachments, host, mapped, second, toldWithin } = start(strategy, speaks)
    host.move({ attachments, gateways: [second] })
    assert.deepStrictEqual(toldWithin(20), ["mapped 192.168.77.2 11.22.33.254"])
    assert.deepStrictEqual(mapped(second), ["12001 to 192.168.77.2"])
  })

  it("is lost without a network, and back at the same port within seconds when there is one again", () => {
    const { attachments, first, host, mapped, toldWithin } = start(strategy, speaks)
    host.move({ attachments: [], gateways: [] })
    assert.deepStrictEqual(toldWithin(20), ["lost 192.168.77.2 11.22.33.1"])
    assert.deepStrictEqual(toldWithin(3600), [])
    host.move({ attachments, gateways: [first] })
    assert.deepStrictEqual(toldWithin(20), ["mapped 192.168.77.2 11.22.33.1"])
    assert.deepStrictEqual(mapped(first), ["12001 to 192.168.77.2"])
  })
})

describe("a mapping over automatic", () => {
  it.each([
    ["pcp", "upnp"],
    ["upnp", "pcp"],
    ["upnp", "natpmp"],
    ["natpmp", "upnp"]
  ] as const)("goes from a gateway that speaks %s to one that speaks %s only", (one, other) => {
    const { attachments, first, host, mapped, second, toldWithin } = start(Automatic.layer, [one], [other])
    first.model.goSilent()
    host.move({ attachments, gateways: [second] })
    const told = toldWithin(60)
    assert.deepStrictEqual(told.slice(-2), ["lost 192.168.77.2 11.22.33.1", "mapped 192.168.77.2 11.22.33.254"])
    assert.deepStrictEqual(mapped(second), ["12001 to 192.168.77.2"])
  })

  it("goes on over another protocol where the gateway no longer speaks its own", () => {
    const { first, mapped, pcp, toldWithin } = start(Automatic.layer, ["pcp", "upnp"])
    pcp.isSpoken = false
    const told = toldWithin(2.5 * 3600)
    assert.deepStrictEqual(told, [
      "unconfirmed 192.168.77.2 11.22.33.1",
      "lost 192.168.77.2 11.22.33.1",
      "mapped 192.168.77.2 11.22.33.1"
    ])
    assert.deepStrictEqual(mapped(first), ["12001 to 192.168.77.2"])
    pcp.isSpoken = true
    assert.deepStrictEqual(toldWithin(3 * 3600), [])
  })
})
