import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Automatic from "effect-nat/Automatic"

const ip = NetAddress.ipFromStringUnsafe

const outcome = ({ gateway, result }: Automatic.OnGateway) =>
  Effect.gen(function* () {
    const name = NetAddress.formatIp(gateway)
    if (result._tag === "Failure") return `${name}: ${result.failure.reason._tag}`
    const mapping = yield* result.success.current
    return `${name}: ${mapping.method} ${PortMapping.format(mapping)}`
  })

describe("Automatic.mapAll", () => {
  it.effect("maps on every gateway by the best that each speaks, says why not on the others, and releases all", () =>
    Effect.gen(function* () {
      const network = SimulatedNetwork.make({ seed: 7 })
      const lan = network.addLan({ network: "192.168.77.0/24" })
      const addRouter = (address: string, externalAddress: string, speaks: ReadonlyArray<"pcp" | "upnp">) => {
        const model = new RouterModel.RouterModel({ address: ip(address), externalAddress: ip(externalAddress) })
        return network.addRouter({ lan, model, devices: SimulatedDevice.fromModel(model, speaks) })
      }
      const first = addRouter("192.168.77.1", "11.22.33.1", ["pcp", "upnp"])
      const second = addRouter("192.168.77.254", "11.22.33.254", ["upnp"])
      const mute = addRouter("192.168.77.253", "11.22.33.253", [])
      const host = network.addHost({
        attachments: [{ lan, address: "192.168.77.2" }],
        gateways: [first, mute]
      })
      const rows = () => [first, second, mute].map(({ model }) => model.entries(network.now).length)
      const process = host.start()
      let said: ReadonlyArray<string> | NatError.NatError = []
      const fiber = process.fork(
        Effect.gen(function* () {
          const all = yield* Automatic.mapAll({ protocol: "tcp", internalPort: 12000, externalPort: 12001 })
          said = yield* Effect.forEach(all, outcome)
          return yield* Effect.never
        }).pipe(Effect.scoped)
      )
      network.runUntil(60_000)
      assert.deepStrictEqual(said, [
        "192.168.77.1: pcp 11.22.33.1:12001/tcp",
        "192.168.77.253: NoGateway",
        "192.168.77.254: upnp 11.22.33.254:12001/tcp"
      ])
      assert.deepStrictEqual(rows(), [1, 1, 0])
      fiber.interruptUnsafe()
      network.runUntil(90_000)
      assert.deepStrictEqual(rows(), [0, 0, 0])
    })
  )

  it.effect("fails where there is no gateway at all", () =>
    Effect.gen(function* () {
      const network = SimulatedNetwork.make({ seed: 7 })
      const lan = network.addLan({ network: "192.168.77.0/24" })
      const host = network.addHost({ attachments: [{ lan, address: "192.168.77.2" }], gateways: [] })
      const asked = Effect.scoped(Automatic.mapAll({ protocol: "tcp", internalPort: 12000 }))
      const error = yield* Effect.flip(network.run(host.start(), asked))
      assert.strictEqual(error.reason._tag, "NoGateway")
    })
  )
})
