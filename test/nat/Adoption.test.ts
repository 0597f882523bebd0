/**
 * A late answer of PCP is adopted while another strategy is asked for the same mapping, on a router with one table for
 * all: whatever crosses whatever, what is adopted is there afterwards.
 */
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Automatic from "effect-nat/Automatic"

const ip = NetAddress.ipFromStringUnsafe

const request = { protocol: "tcp", internalPort: 12000, lifetime: "2 hours" } as const

/** What a router on such a link has mapped a minute later. */
const mappedOver = (delay: number, seed: number, speaks: ReadonlyArray<"natpmp" | "pcp" | "upnp">) => {
  const network = SimulatedNetwork.make({ seed })
  const link = { ...SimulatedNetwork.perfectLink, delay: [5, delay] as const }
  const lan = network.addLan({ network: "192.168.77.0/24", link })
  const model = new RouterModel.RouterModel({ address: ip("192.168.77.1"), externalAddress: ip("11.22.33.1") })
  const router = network.addRouter({ lan, model, devices: SimulatedDevice.fromModel(model, speaks) })
  const host = network.addHost({ attachments: [{ lan, address: "192.168.77.2" }], gateways: [router] })
  const program = PortMapper.PortMapper.use((mapper) => mapper.map(request)).pipe(
    Effect.andThen(Effect.never),
    Effect.scoped,
    Effect.provide(Automatic.layer)
  )
  host.start().fork(program)
  network.runUntil(60_000)
  return model.entries(network.now).map((one) => one.internalPort)
}

it.each([[["pcp", "upnp"]], [["pcp", "natpmp"]], [["pcp", "natpmp", "upnp"]]] as const)(
  "a slow link to a router that speaks %j",
  (speaks) => {
    for (let delay = 60; delay < 240; delay += 5) {
      for (const seed of [1, 2]) {
        assert.deepStrictEqual(mappedOver(delay, seed, speaks), [12000], `${delay} ms at most, seed ${seed}`)
      }
    }
  }
)
