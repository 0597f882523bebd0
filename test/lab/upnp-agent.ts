/**
 * A program on a lan host that uses the UPnP strategy the way programs do. The lab's tests start it in the host's
 * namespace, read its lines, and write one line when it shall go on.
 *
 * `upnp-agent.ts close|fail|interrupt|burst <protocol> <internal port> <external port> <description> <lease seconds>
 * [strict] [ipv6]` maps a port, prints the mapping, waits for the line, and ends that way; `burst` interrupts requests
 * under way.
 * `upnp-agent.ts list|external|gateways|remove …` asks once.
 */
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as UpnpDiscovery from "@effect-nat/upnp/UpnpDiscovery"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"

class Wrecked extends Data.TaggedError("Wrecked") {}

const [command = "", ...words] = process.argv.slice(2)
const [protocol = "tcp", internalPort = "0", externalPort = "0", description = "effect-nat", lease, ...flags] = words

const print = (value: unknown) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(value)}\n`))

const oneLine = Effect.callback<void>((resume) => {
  process.stdin.once("data", () => {
    // An open pipe would keep the process alive.
    process.stdin.destroy()
    resume(Effect.void)
  })
})

const shown = (mapping: PortMapping.PortMapping) => ({
  text: PortMapping.format(mapping),
  lifetime: PortMapping.lifetimeSeconds(mapping),
  method: mapping.method,
  fields: PortMappingEntry.toFields(PortMappingEntry.fromPortMapping(mapping))
})

const request = {
  protocol: protocol === "udp" ? ("udp" as const) : ("tcp" as const),
  internalPort: Number(internalPort),
  externalPort: Number(externalPort),
  description,
  ...(lease === undefined ? {} : { lifetime: { seconds: Number(lease) } }),
  strictExternalPort: flags.includes("strict"),
  family: flags.includes("ipv6") ? ("ipv6" as const) : ("ipv4" as const)
}

const held = Effect.gen(function* () {
  const mapper = yield* PortMapper.PortMapper
  const mapping = yield* mapper.map(request)
  yield* print(shown(yield* mapping.current))
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

/**
 * Interrupts requests ever later on their way, until some have come through, on one strategy that knows its gateway;
 * each for a port of its own, so that none cleans up after another.
 */
const burst = Effect.gen(function* () {
  const mapper = yield* PortMapper.PortMapper
  yield* mapper.externalAddress
  const mapped = yield* Ref.make(0)
  for (let step = 0; step < 120 && (yield* Ref.get(mapped)) < 10; step++) {
    const hold = mapper
      .map({ ...request, externalPort: request.externalPort + step })
      .pipe(Effect.tap(Ref.update(mapped, (count) => count + 1)), Effect.andThen(Effect.never))
    const fiber = yield* Effect.forkChild(Effect.scoped(hold))
    yield* Effect.sleep(step)
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
  list: PortMapper.PortMapper.use((mapper) => Stream.runCollect(mapper.list)).pipe(
    Effect.flatMap((list) => print(list.map(shown)))
  ),
  external: PortMapper.PortMapper.use((mapper) => mapper.externalAddress).pipe(
    Effect.flatMap((address) => print(NetAddress.formatIp(address)))
  ),
  remove: PortMapper.PortMapper.use((mapper) =>
    mapper.remove({ protocol: request.protocol, externalPort: request.externalPort })
  ),
  gateways: GatewayDiscovery.GatewayDiscovery.use((discovery) => Stream.runCollect(discovery.gateways)).pipe(
    Effect.flatMap((gateways) =>
      print(gateways.map(({ address, localAddress, method }) => [address, localAddress, method].map(String)))
    )
  )
}

const run = commands[command] ?? Effect.die(new Error(`no such command: ${command}`))

run.pipe(
  Effect.provide(Layer.merge(Upnp.layer, UpnpDiscovery.layer).pipe(Layer.provide(NodeHost.layer))),
  NodeRuntime.runMain
)
