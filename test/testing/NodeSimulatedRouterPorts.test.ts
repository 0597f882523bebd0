/**
 * The ports of a router on loopback sockets: what it is told, what it does not speak, and how its line looks.
 */
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Udp from "@effect-nat/core/Udp"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Net from "node:net"

const { NodeSimulatedRouter: Router } = NodeSimulatedRouter

const inside = NetAddress.ipFromStringUnsafe("127.0.0.1")

/** A host behind a router that speaks only this. */
const hostBehind = (protocols: NodeSimulatedRouter.Options["protocols"]) =>
  NodeSimulatedRouter.layerHost.pipe(Layer.provideMerge(NodeSimulatedRouter.layer({ protocols })))

/** What the host hears when it asks a port of the router. */
const knock = (port: number) =>
  Effect.gen(function* () {
    const udp = yield* Udp.Udp
    const socket = yield* udp.open({ connect: NetAddress.inetAddressUnsafe(inside, port) })
    yield* socket.send(new Uint8Array(2))
    yield* socket.receive
    return "an answer"
  }).pipe(
    Effect.scoped,
    Effect.catch(({ reason }) => Effect.succeed("kind" in reason ? reason.kind : reason._tag)),
    Effect.timeoutOrElse({ duration: "1 second", orElse: () => Effect.succeed("nothing") })
  )

const connect = (port: number) =>
  Effect.callback<string>((resume) => {
    const socket = Net.connect({ host: "127.0.0.1", port })
    socket.on("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? error.message)))
    socket.on("connect", () => resume(Effect.succeed("connected")))
    return Effect.sync(() => void socket.destroy())
  })

/** Whether another program could have the port now. */
const isFree = (port: number) =>
  Udp.Udp.use((udp) => udp.open({ bind: { address: inside, port } })).pipe(
    Effect.scoped,
    Effect.match({ onSuccess: () => true, onFailure: () => false })
  )

/** Below the ports that the system gives out, and others in every process: several runs may be under way. */
const base = 20_000 + (process.pid % 100) * 100 + 60

describe("what a router does not speak", () => {
  it.live("a probe for NAT-PMP hears at once that it is refused", () =>
    Effect.gen(function* () {
      const [took, error] = yield* Effect.timed(Effect.flip(NatPmp.probe))
      assert.strictEqual(error.reason._tag, "NoGateway")
      assert.include(error.message, "127.0.0.1 refuses UDP port 5351")
      assert.isBelow(Duration.toMillis(took), Duration.toMillis(NatPmp.probeTimeout) / 2)
    }).pipe(Effect.provide(hostBehind(["upnp"])))
  )

  it.live("searches are not answered, and there is no web server", () =>
    Effect.gen(function* () {
      const router = yield* Router
      assert.strictEqual(yield* knock(Ssdp.port), "ConnectionRefused")
      assert.isFalse(router.hearsMulticast)
      assert.deepStrictEqual([router.ports.http, yield* connect(router.ports.http)], [0, "ECONNREFUSED"])
      const udp = yield* Udp.Udp
      const socket = yield* udp.open({ bind: { address: inside }, multicast: { interface: NetAddress.ipv4Loopback } })
      // Going out as on any network, and nobody there.
      yield* socket.send(new Uint8Array(2), NetAddress.inetAddressUnsafe(Ssdp.group, Ssdp.port))
      assert.isTrue((yield* Effect.timeoutOption(socket.receive, "200 millis"))._tag === "None")
    }).pipe(Effect.scoped, Effect.provide(hostBehind(["natpmp"])))
  )

  it.live("a router that speaks nothing refuses everything, and is a router still", () =>
    Effect.gen(function* () {
      const router = yield* Router
      assert.deepStrictEqual([yield* knock(Ssdp.port), yield* knock(5351)], ["ConnectionRefused", "ConnectionRefused"])
      yield* router.reboot()
      yield* router.changeExternalAddress("127.0.0.3")
      assert.deepStrictEqual(yield* router.openPorts, [])
    }).pipe(Effect.provide(hostBehind([])))
  )

  it.live("refused ports are the router's own, and free again after it", () =>
    Effect.gen(function* () {
      const ports = { ssdp: base, natpmp: base + 1 }
      const use = Effect.gen(function* () {
        const router = yield* NodeSimulatedRouter.make({ ports, protocols: [] })
        assert.deepInclude(router.ports, ports)
        const all = [router.ports.ssdp, router.ports.natpmp, router.ports.announcements]
        assert.deepStrictEqual(yield* Effect.forEach(all, isFree), [false, false, false])
        return all
      })
      const all = yield* Effect.scoped(use)
      assert.deepStrictEqual(yield* Effect.forEach(all, isFree), [true, true, true])
    }).pipe(Effect.provide(NodeUdp.layer))
  )
})

describe("the ports of a router", () => {
  const names = ["ssdp", "http", "natpmp", "announcements"] as const

  it.live.each(names)("%s has to be a port", (name) =>
    Effect.gen(function* () {
      for (const wrong of [99_999, 65_536, -1, 0.5, NaN, Infinity]) {
        const error = yield* Effect.flip(NodeSimulatedRouter.make({ ports: { [name]: wrong } }))
        assert.isTrue(error._tag === "NatError" && error.reason._tag === "InvalidRequest")
        const advice = "give a whole number from 1 to 65535, or leave it out, or 0, for a free port"
        assert.strictEqual(error.message, `ports.${name} is ${wrong}: ${advice}`)
      }
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live.each([
    [
      { natpmp: base, announcements: base },
      `ports.natpmp and ports.announcements are both ${base}: each needs a port of its own`
    ],
    [{ ssdp: base, natpmp: base }, `ports.ssdp and ports.natpmp are both ${base}: each needs a port of its own`],
    [null as unknown as undefined, "ports is null: leave it out for free ports"]
  ] as const)("cannot be %j", ([ports, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(NodeSimulatedRouter.make({ ports }))
      assert.deepStrictEqual([error._tag, error.message], ["NatError", message])
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live.each([
    [{ quirks: ["DockerBridge"] }, "the quirk DockerBridge cannot show on loopback: it runs in a SimulatedNetwork"],
    [{ quirks: [5] as never }, "there is no quirk 5: Quirk.names has them all"],
    [{ protocols: ["upnp", "nat-pmp" as "natpmp"] }, 'there is no protocol "nat-pmp", but upnp, natpmp, pcp'],
    [{ address: "::1" }, "the router's address must be the IPv4 address of one machine, not ::1"],
    [{ igdVersion: 3 as 2 }, "igdVersion must be 1 or 2, not 3"]
  ] as const)("are not opened for %j", ([options, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(NodeSimulatedRouter.make(options))
      assert.deepStrictEqual([error._tag, error.message], ["NatError", message])
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live("says which one is taken", () =>
    Effect.gen(function* () {
      const { ports } = yield* NodeSimulatedRouter.make()
      const messageOf = (options: NodeSimulatedRouter.Options) =>
        Effect.map(Effect.flip(NodeSimulatedRouter.make(options)), ({ _tag, message }) => [_tag, message])
      const inUse = (port: string) => ["RouterSocketError", `AddressInUse: ${port} at 127.0.0.1`]
      const { http, natpmp, ssdp } = ports
      for (const [wanted, protocol, port] of [
        [{ http }, "tcp", http],
        [{ ssdp }, "udp", ssdp]
      ] as const) {
        const reason = yield* NodeSimulatedRouter.make({ ports: wanted }).pipe(
          Effect.catchReason("RouterSocketError", "RouterSocketOpenError", Effect.succeed)
        )
        assert.deepInclude(reason, { kind: "AddressInUse", protocol, address: inside, port })
      }
      assert.deepStrictEqual(yield* messageOf({ ports: { http } }), inUse(`TCP port ${http}`))
      assert.deepStrictEqual(yield* messageOf({ ports: { ssdp } }), inUse(`UDP port ${ssdp}`))
      assert.deepStrictEqual(yield* messageOf({ ports: { natpmp } }), inUse(`UDP port ${natpmp}`))
      // Also for what is to be refused.
      assert.deepStrictEqual(yield* messageOf({ ports: { natpmp }, protocols: [] }), inUse(`UDP port ${natpmp}`))
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.effect("says the system's word where that has no kind", () =>
    Effect.gen(function* () {
      const cause = Object.assign(new Error("bind ENETDOWN 127.0.0.1"), { code: "ENETDOWN" })
      const down = new DatagramSocket.DatagramSocketError({
        reason: new DatagramSocket.DatagramSocketOpenError({ kind: "Unknown", cause })
      })
      const error = yield* Effect.flip(
        Effect.provideService(NodeSimulatedRouter.make(), Udp.Udp, { open: () => Effect.fail(down) })
      )
      assert.strictEqual(error.message, "Unknown (ENETDOWN): UDP port 0 at 127.0.0.1")
    }).pipe(Effect.scoped)
  )

  it.live("tells where the web server is, also when a restart has moved it", () =>
    Effect.gen(function* () {
      const { location, ports, reboot } = yield* NodeSimulatedRouter.make({
        ports: { http: base + 2 },
        quirks: ["RestartMovesControl"]
      })
      assert.strictEqual(ports.http, base + 2)
      assert.strictEqual(yield* connect(ports.http), "connected")
      yield* reboot()
      assert.notStrictEqual(ports.http, base + 2)
      assert.strictEqual(new URL(yield* location).port, `${ports.http}`)
      assert.strictEqual(yield* connect(ports.http), "connected")
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )
})

describe("an external port that another program of this machine has", () => {
  const outer = NetAddress.ipFromStringUnsafe("127.0.0.2")

  /** Maps the port while it is held by somebody else; what was granted, and what was asked for that. */
  const mapTaken = Effect.fnUntraced(function* (
    protocol: PortMapping.Protocol,
    externalPort: number,
    isStrict: boolean
  ) {
    const bind = { address: outer, port: externalPort }
    yield* Effect.provide(
      Udp.Udp.use((udp) => udp.open({ bind })),
      NodeUdp.layer
    )
    yield* Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        const server = Net.createServer().listen(externalPort, "127.0.0.2", () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    )
    const mapper = yield* PortMapper.PortMapper
    const mapping = yield* mapper.map({ protocol, internalPort: 9, externalPort, strictExternalPort: isStrict })
    const { externalPort: granted } = yield* mapping.current
    const router = yield* Router
    assert.deepStrictEqual(yield* router.openPorts, [`${protocol} 127.0.0.2:${granted}`])
    assert.deepStrictEqual(
      (yield* router.table).map((entry) => entry.externalPort),
      [granted]
    )
    return { granted, changes: (yield* router.asked).filter((one) => one.isMutating).map((one) => one.action) }
  })

  const behind = { upnp: Upnp.layer, natpmp: NatPmp.layer } as const

  it.live.each([
    ["upnp", "tcp", ["AddPortMapping", "AddPortMapping"]],
    ["natpmp", "udp", ["map"]]
  ] as const)("is not granted, and another one is (%s, %s)", ([method, protocol, asked]) =>
    Effect.gen(function* () {
      const { changes, granted } = yield* mapTaken(protocol, base + 10, false)
      assert.notStrictEqual(granted, base + 10)
      assert.deepStrictEqual(changes, [...asked])
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(behind[method], hostBehind(["upnp", "natpmp"]))))
  )

  it.live.each(["upnp", "natpmp"] as const)("is a conflict where it has to be this one (%s)", (method) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(mapTaken("tcp", base + 11, true))
      assert.strictEqual(error._tag === "NatError" ? error.reason._tag : error._tag, "Conflict")
      assert.deepStrictEqual(yield* Router.use((router) => router.table), [])
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(behind[method], hostBehind(["upnp", "natpmp"]))))
  )
})

describe("the line of a router", () => {
  /** Maps a port; what was warned of, and where the port is open. */
  const mapBehind = Effect.fnUntraced(function* (
    strategy: typeof Upnp.layer | typeof NatPmp.layer,
    options: NodeSimulatedRouter.Options
  ) {
    const warnings: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn") warnings.push(String(message))
    })
    const host = strategy.pipe(
      Layer.provide(NodeSimulatedRouter.layerHost),
      Layer.provideMerge(NodeSimulatedRouter.layer(options)),
      Layer.provideMerge(Logger.layer([logger]))
    )
    const [address, open] = yield* Effect.gen(function* () {
      const router = yield* Router
      const mapper = yield* PortMapper.PortMapper
      const mapping = yield* mapper.map({ protocol: "udp", internalPort: 9, externalPort: base + 3 })
      return [PortMapping.format(yield* mapping.current), yield* router.openPorts] as const
    }).pipe(Effect.scoped, Effect.provide(host))
    return { warnings, address, open }
  })

  const strategies = { upnp: Upnp.layer, natpmp: NatPmp.layer } as const

  it.live.each(["upnp", "natpmp"] as const)("is on loopback, which clients warn of (%s)", (method) =>
    Effect.gen(function* () {
      const { warnings } = yield* mapBehind(strategies[method], {})
      assert.include(warnings.join(), "double NAT")
    })
  )

  it.live.each(["upnp", "natpmp"] as const)(
    "is public where it is told to be, and listens on loopback (%s)",
    (method) =>
      Effect.gen(function* () {
        const { address, open, warnings } = yield* mapBehind(strategies[method], { externalAddress: "11.22.33.1" })
        assert.strictEqual(address, `11.22.33.1:${base + 3}/udp`)
        assert.deepStrictEqual(open, [`udp 127.0.0.2:${base + 3}`])
        assert.deepStrictEqual(warnings, [])
      })
  )
})
