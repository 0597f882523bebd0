/**
 * A program on a lan host that uses one strategy the way programs do. The lab's tests start it in the host's namespace,
 * read its lines, and write one line when it shall go on.
 *
 * `strategy-agent.ts <natpmp|pcp|upnp> <command> [<protocol> <internal port> <external port>] [--lease seconds]
 * [--family ipv4|ipv6] [--description text] [--strict]`, where `close`, `fail` and `interrupt` map a port, print the
 * mapping, wait for the line, and end that way; `burst` interrupts requests under way; `remove` removes what stands for
 * the external port, whoever mapped it; `probe`, `external`, `gateways` and `list` ask once.
 */
import type * as Gateway from "@effect-nat/core/Gateway"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import * as NodeHost from "@effect-nat/core/NodeHost"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as NatPmpDiscovery from "@effect-nat/natpmp/NatPmpDiscovery"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as PcpDiscovery from "@effect-nat/natpmp/PcpDiscovery"
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
import { parseArgs } from "node:util"

class Wrecked extends Data.TaggedError("Wrecked") {}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    lease: { type: "string" },
    family: { type: "string" },
    description: { type: "string" },
    strict: { type: "boolean" }
  }
})

const [name = "", command = "", protocol = "tcp", internalPort = "0", externalPort = "0"] = positionals

const print = (value: unknown) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(value)}\n`))

const oneLine = Effect.callback<void>((resume) => {
  process.stdin.once("data", () => {
    // An open pipe would keep the process alive.
    process.stdin.destroy()
    resume(Effect.void)
  })
})

/** How many requests `burst` sends at most, how many have to come through, and how far apart their ports are. */
interface Burst {
  readonly requests: number
  readonly enough: number
  readonly portStep: number
}

/** Datagrams take milliseconds: all of them ask for one port, which the next wants while the last one gives it up. */
const overUdp: Burst = { requests: 40, enough: Infinity, portStep: 0 }

/**
 * Connections take longer: requests go on until some have come through, each for a port of its own, so that none
 * cleans up after another.
 */
const overHttp: Burst = { requests: 120, enough: 10, portStep: 1 }

interface StrategyUnderTest {
  readonly layer: Layer.Layer<PortMapper.PortMapper | GatewayDiscovery.GatewayDiscovery, never, NodeHost.Host>
  /** The gateway that answers, and the external address where the protocol's answer has it. */
  readonly probe: Effect.Effect<Probed, unknown, NodeHost.Host>
  readonly burst: Burst
}

interface Probed {
  readonly gateway: Gateway.Gateway
  readonly externalAddress?: NetAddress.IpAddress | undefined
}

const strategies: Readonly<Record<string, StrategyUnderTest>> = {
  natpmp: { layer: Layer.merge(NatPmp.layer, NatPmpDiscovery.layer), probe: NatPmp.probe, burst: overUdp },
  pcp: {
    layer: Layer.merge(Pcp.layer, PcpDiscovery.layer),
    probe: Effect.map(Pcp.probe, (gateway) => ({ gateway })),
    burst: overUdp
  },
  upnp: { layer: Layer.merge(Upnp.layer, UpnpDiscovery.layer), probe: Upnp.probe, burst: overHttp }
}

const request = {
  protocol: protocol === "udp" ? ("udp" as const) : ("tcp" as const),
  internalPort: Number(internalPort),
  externalPort: Number(externalPort),
  lifetime: values.lease === undefined ? undefined : { seconds: Number(values.lease) },
  family: values.family === "ipv6" ? ("ipv6" as const) : ("ipv4" as const),
  description: values.description,
  strictExternalPort: values.strict
}

const shown = (mapping: PortMapping.PortMapping) => ({
  text: PortMapping.format(mapping),
  internal: NetAddress.formatInet(PortMapping.internal(mapping)),
  gateway: mapping.gateway && NetAddress.formatIp(mapping.gateway),
  lifetime: PortMapping.lifetimeSeconds(mapping),
  method: mapping.method,
  fields: PortMappingEntry.toFields(PortMappingEntry.fromPortMapping(mapping))
})

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

/** Interrupts requests ever later on their way, by a millisecond each, on one strategy that knows its gateway. */
const burst = Effect.fnUntraced(function* ({ enough, portStep, requests }: Burst) {
  const mapper = yield* PortMapper.PortMapper
  yield* Effect.scoped(mapper.map(request))
  const mapped = yield* Ref.make(0)
  for (let millis = 0; millis < requests && (yield* Ref.get(mapped)) < enough; millis++) {
    const hold = mapper
      .map({ ...request, externalPort: request.externalPort + millis * portStep })
      .pipe(Effect.tap(Ref.update(mapped, (count) => count + 1)), Effect.andThen(Effect.never))
    const fiber = yield* Effect.forkChild(Effect.scoped(hold))
    yield* Effect.sleep(millis)
    yield* Fiber.interrupt(fiber)
  }
  yield* print("done")
})

type Command = Effect.Effect<
  unknown,
  unknown,
  PortMapper.PortMapper | GatewayDiscovery.GatewayDiscovery | NodeHost.Host
>

const commandsOf = (strategy: StrategyUnderTest): Readonly<Record<string, Command>> => ({
  close,
  fail,
  interrupt,
  burst: burst(strategy.burst),
  probe: Effect.flatMap(strategy.probe, ({ externalAddress, gateway: { address, method, name } }) =>
    print({
      name,
      address: NetAddress.formatIp(address),
      method,
      externalAddress: externalAddress && NetAddress.formatIp(externalAddress)
    })
  ),
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
})

const strategy = strategies[name]

const run = strategy && commandsOf(strategy)[command]

if (strategy === undefined || run === undefined) throw new Error(`no such strategy or command: ${name} ${command}`)

run.pipe(Effect.provide(strategy.layer), Effect.provide(NodeHost.layer), NodeRuntime.runMain)
