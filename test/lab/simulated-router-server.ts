/**
 * A simulated router as the gateway of a lab: on the real ports, between the lan and the wan.
 *
 * `simulated-router-server.ts <address> <external address>` prints `ready`, and its mapping table as a line of JSON
 * for each line that it reads.
 */
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"

const [address = "", externalAddress = ""] = process.argv.slice(2)

const print = (text: string) => void process.stdout.write(`${text}\n`)

Effect.gen(function* () {
  const { hearsMulticast, model } = yield* NodeSimulatedRouter.make({
    address,
    externalAddress,
    ports: { ssdp: 1900, natpmp: 5351, announcements: 5350 }
  })
  process.stdin.on("data", () =>
    print(
      JSON.stringify(
        model
          .entries(Date.now())
          .map(({ externalPort, internalAddress, internalPort, protocol }) => [
            protocol,
            externalPort,
            NetAddress.formatIp(internalAddress),
            internalPort
          ])
      )
    )
  )
  print(hearsMulticast ? "ready" : "ready, and deaf to multicast")
  return yield* Effect.never
}).pipe(Effect.scoped, Effect.provide(NodeUdp.layer), NodeRuntime.runMain)
