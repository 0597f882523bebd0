/**
 * A program on a lan host that uses the PCP strategy the way programs do. The lab's tests start it in the host's
 * namespace, read its lines, and write one line when it shall go on.
 *
 * `pcp-agent.ts close|fail|interrupt|burst <protocol> <internal port> <external port> [lease seconds] [family] [strict]`
 * maps a port, prints the mapping, waits for the line, and ends that way; `burst` interrupts requests under way.
 * `pcp-agent.ts probe|external|gateways` asks once. */
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as PcpDiscovery from "@effect-nat/natpmp/PcpDiscovery"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"

class Wrecked extends Data.TaggedError("Wrecked") {}

const [command = "", protocol = "tcp", internalPort = "0", externalPort = "0", lease, family, strict] =
  process.argv.slice(2)

const print = (value: unknown) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(value)}\n`))

const oneLine = Effect.callback<void>((resume) => {
  process.stdin.once("data", () => {
    // An open pipe would keep the process alive.
    process.stdin.destroy()
    resume(Effect.void)
  })
})

const request = {
  protocol: protocol === "udp" ? ("udp" as const) : ("tcp" as const),
  internalPort: Number(internalPort),
  externalPort: Number(externalPort),
  lifetime: { seconds: Number(lease ?? 7200) },
  family: family === "ipv6" ? ("ipv6" as const) : ("ipv4" as const),
  strictExternalPort: strict !== undefined
}

const held = Effect.gen(function* () {
  const mapper = yield* PortMapper.PortMapper
  const mapping = yield* Effect.flatMap(mapper.map(request), (one) => one.current)
  yield* print({
    text: PortMapping.format(mapping),
    internal: NetAddress.formatInet(PortMapping.internal(mapping)),
    gateway: mapping.gateway && NetAddress.formatIp(mapping.gateway),
    lifetime: PortMapping.lifetimeSeconds(mapping),
    method: mapping.method
  })
})

const close = Effect.scoped(Effect.andThen(held, oneLine))

const fail = Effect.scoped(Effect.andThen(held, Effect.andThen(oneLine, Effect.fail(new Wrecked()))))

const interrupt = Effect.gen(function* () {
  const mapped = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkChild(
    Effect.scoped(held.pipe(Effect.andThen(Deferred.succeed(mapped, undefined)), Effect.andThen(Effect.never)))
  )
  yield* Deferred.await(mapped)
  yield* oneLine
  yield* Fiber.interrupt(fiber)
  yield* print({ interrupted: Exit.hasInterrupts(yield* Fiber.await(fiber)) })
})

/** Interrupts requests at every moment of the first tens of milliseconds, on one strategy that knows its gateway. */
const burst = Effect.gen(function* () {
  const mapper = yield* PortMapper.PortMapper
  yield* Effect.scoped(mapper.map(request))
  for (let millis = 0; millis < 40; millis++) {
    const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(mapper.map(request), Effect.never)))
    yield* Effect.sleep(millis)
    yield* Fiber.interrupt(fiber)
  }
  yield* print("done")
})

const commands: Readonly<
  Record<string, Effect.Effect<unknown, unknown, PortMapper.PortMapper | GatewayDiscovery.GatewayDiscovery>>
> = {
  close,
  fail,
  interrupt,
  burst,
  probe: Pcp.probe.pipe(
    Effect.flatMap(({ method, name }) => print(`${name} ${method}`)),
    Effect.provide(NodeHost.layer)
  ),
  external: PortMapper.PortMapper.use((mapper) => mapper.externalAddress).pipe(
    Effect.flatMap((address) => print(NetAddress.formatIp(address)))
  ),
  gateways: GatewayDiscovery.GatewayDiscovery.use((discovery) => Stream.runCollect(discovery.gateways)).pipe(
    Effect.flatMap((gateways) =>
      print(gateways.map(({ address, localAddress, method }) => [address, localAddress, method].map(String)))
    )
  )
}

const run = commands[command] ?? Effect.die(new Error(`no such command: ${command}`))

run.pipe(
  Effect.provide(Layer.merge(Pcp.layer, PcpDiscovery.layer).pipe(Layer.provide(NodeHost.layer))),
  NodeRuntime.runMain
)
