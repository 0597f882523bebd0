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

const strategies: ReadonlyArray<readonly [string, Strategy, ReadonlyArray<"natpmp" | "pcp" | "upnp">]> = [
  ["natpmp", NatPmp.layer, ["natpmp"]],
  ["pcp", Pcp.layer, ["pcp"]],
  ["upnp", Upnp.layer, ["upnp"]],
  ["automatic", Automatic.layer, ["natpmp", "pcp", "upnp"]]
]

/** A host that has a port mapped for two hours, on the first of two routers in its network. */
const start = (strategy: Strategy, speaks: ReadonlyArray<"natpmp" | "pcp" | "upnp">) => {
  const network = SimulatedNetwork.make({ seed: 7 })
  const lan = network.addLan({ network: "192.168.77.0/24" })
  const addRouter = (address: string, externalAddress: string) => {
    const model = new RouterModel.RouterModel({
      address: ip(address),
      name: `Router ${address}`,
      externalAddress: ip(externalAddress)
    })
    return network.addRouter({ lan, model, devices: SimulatedDevice.fromModel(model, speaks) })
  }
  const first = addRouter("192.168.77.1", "11.22.33.1")
  const second = addRouter("192.168.77.254", "11.22.33.254")
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
  return { lan, first, second, host, attachments, toldWithin, mapped }
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
