import * as Udp from "@effect-nat/core/Udp"
import * as NodeUdp from "@effect-nat/core/NodeUdp"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as NatPmpEpoch from "@effect-nat/natpmp/NatPmpEpoch"
import * as PcpEpoch from "@effect-nat/natpmp/PcpEpoch"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import * as Quirk from "@effect-nat/testing/Quirk"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import * as UpnpDiscovery from "@effect-nat/upnp/UpnpDiscovery"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Net from "node:net"

const { NodeSimulatedRouter: Router } = NodeSimulatedRouter

const strategies = { upnp: Upnp.layer, natpmp: NatPmp.layer } as const

/** A host with a strategy behind a router of its own. */
const behind = (
  method: keyof typeof strategies,
  options: NodeSimulatedRouter.Options = {}
): Layer.Layer<
  PortMapper.PortMapper | NodeSimulatedRouter.NodeSimulatedRouter,
  Layer.Error<ReturnType<typeof NodeSimulatedRouter.layer>>
> =>
  strategies[method].pipe(
    Layer.provide(NodeSimulatedRouter.layerHost),
    Layer.provideMerge(NodeSimulatedRouter.layer(options)),
    // That the outside is no public address is no news here.
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
  )

const tcpEcho = Effect.acquireRelease(
  Effect.callback<Net.Server>((resume) => {
    const server = Net.createServer((socket) => {
      socket.on("error", () => {})
      socket.pipe(socket)
    })
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
).pipe(
  Effect.map((server) => {
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  })
)

const udpEcho = Effect.gen(function* () {
  const udp = yield* Udp.Udp
  const socket = yield* udp.open({ bind: { address: NetAddress.ipFromStringUnsafe("127.0.0.1") } })
  yield* Effect.forkScoped(
    socket.receive.pipe(
      Effect.flatMap((all) => Effect.forEach(all, ({ address, payload }) => socket.send(payload, address))),
      Effect.forever,
      Effect.ignore
    )
  )
  return socket.address.port
}).pipe(Effect.provide(NodeUdp.layer))

/** What comes back for what is sent: the echo, or how the connection fails. */
const tcpProbe = (host: string, port: number) =>
  Effect.callback<string>((resume) => {
    const socket = Net.connect({ host, port })
    socket.on("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? error.message)))
    socket.on("data", (data) => {
      socket.end()
      resume(Effect.succeed(data.toString()))
    })
    socket.write("hello")
    return Effect.sync(() => void socket.destroy())
  }).pipe(Effect.timeoutOrElse({ duration: "2 seconds", orElse: () => Effect.succeed("nothing") }))

const udpProbe = (host: string, port: number) =>
  Effect.gen(function* () {
    const udp = yield* Udp.Udp
    const to = NetAddress.inetAddressUnsafe(NetAddress.ipFromStringUnsafe(host), port)
    const socket = yield* udp.open({ connect: to })
    yield* socket.send(new TextEncoder().encode("hello"))
    const [{ payload }] = yield* socket.receive
    return new TextDecoder().decode(payload)
  }).pipe(
    Effect.scoped,
    Effect.catch((error) => Effect.succeed("kind" in error.reason ? error.reason.kind : error.reason._tag)),
    Effect.timeoutOrElse({ duration: "2 seconds", orElse: () => Effect.succeed("nothing") }),
    Effect.provide(NodeUdp.layer)
  )

const externalHost = Effect.map(Router, ({ model }) =>
  model.externalAddress === undefined ? "" : NetAddress.formatIp(model.externalAddress)
)

/** Below the ports that the system gives out, and others in every process: several runs may be under way. */
const base = 20_000 + (process.pid % 100) * 100

const request = (internalPort: number) => ({ protocol: "tcp", internalPort, externalPort: base + 1 }) as const

describe("a router on loopback sockets", () => {
  it.live.each(["upnp", "natpmp"] as const)("is found, maps and forwards TCP, and forgets (%s)", (method) =>
    Effect.gen(function* () {
      const router = yield* Router
      const mapper = yield* PortMapper.PortMapper
      const host = yield* externalHost
      const internalPort = yield* tcpEcho
      assert.strictEqual(yield* tcpProbe(host, base + 1), "ECONNREFUSED")
      yield* Effect.scoped(
        Effect.gen(function* () {
          const mapping = yield* mapper.map(request(internalPort))
          assert.strictEqual(PortMapping.format(yield* mapping.current), `${host}:${base + 1}/tcp`)
          assert.lengthOf(yield* router.table, 1)
          assert.deepStrictEqual(yield* router.openPorts, [`tcp ${host}:${base + 1}`])
          assert.strictEqual(yield* tcpProbe(host, base + 1), "hello")
        })
      )
      assert.deepStrictEqual(yield* router.table, [])
      assert.strictEqual(yield* tcpProbe(host, base + 1), "ECONNREFUSED")
    }).pipe(Effect.provide(behind(method)))
  )

  it.live.each(["upnp", "natpmp"] as const)("forwards UDP, and back (%s)", (method) =>
    Effect.gen(function* () {
      const mapper = yield* PortMapper.PortMapper
      const host = yield* externalHost
      const internalPort = yield* udpEcho
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* mapper.map({ ...request(internalPort), protocol: "udp", externalPort: base + 2 })
          assert.strictEqual(yield* udpProbe(host, base + 2), "hello")
          assert.strictEqual(yield* udpProbe(host, base + 2), "hello")
        })
      )
      assert.strictEqual(yield* udpProbe(host, base + 2), "ConnectionRefused")
    }).pipe(Effect.provide(behind(method)))
  )

  it.live("moves to another address, which a renewal hears of", () =>
    Effect.gen(function* () {
      const router = yield* Router
      const mapper = yield* PortMapper.PortMapper
      const internalPort = yield* tcpEcho
      const before = yield* externalHost
      const mapping = yield* mapper.map({ ...request(internalPort), externalPort: base + 3, lifetime: "2 seconds" })
      const seen = yield* Effect.forkChild(Stream.runCollect(Stream.take(mapping.changes, 2)))
      yield* router.changeExternalAddress("127.0.0.3")
      const texts = (yield* Fiber.join(seen)).map(PortMapping.format)
      assert.deepStrictEqual(texts, [`${before}:${base + 3}/tcp`, `127.0.0.3:${base + 3}/tcp`])
      assert.strictEqual(yield* tcpProbe("127.0.0.3", base + 3), "hello")
      assert.strictEqual(yield* tcpProbe(before, base + 3), "ECONNREFUSED")
    }).pipe(Effect.scoped, Effect.provide(behind("upnp")))
  )

  it.live("closes the external port when the lease runs out", () =>
    Effect.gen(function* () {
      const { model, openPorts } = yield* Router
      const { now } = Date
      model.map(now(), {
        via: "upnp",
        client: model.address,
        protocol: "tcp",
        externalPort: base + 4,
        mayChoosePort: false,
        internalAddress: model.address,
        internalPort: yield* tcpEcho,
        lifetimeSeconds: 1
      })
      assert.lengthOf(yield* openPorts, 1)
      yield* Effect.sleep("1 second")
      // On a busy machine the port may be closing just then.
      const probe = tcpProbe(yield* externalHost, base + 4)
      const isClosed = (answer: string) => answer === "ECONNREFUSED"
      yield* probe.pipe(
        Effect.repeat({ until: isClosed, schedule: Schedule.spaced("50 millis") }),
        Effect.timeout("5 seconds")
      )
    }).pipe(Effect.provide(NodeSimulatedRouter.layer()))
  )

  it.live("cuts what it forwards when it restarts, and is elsewhere afterwards", () =>
    Effect.gen(function* () {
      const router = yield* Router
      const mapper = yield* PortMapper.PortMapper
      yield* mapper.map({ ...request(yield* tcpEcho), externalPort: base + 5, lifetime: "2 seconds" })
      const before = yield* router.location
      yield* router.reboot()
      assert.notStrictEqual(yield* router.location, before)
      assert.deepStrictEqual(yield* router.openPorts, [])
      assert.strictEqual(yield* tcpProbe("127.0.0.1", Number(new URL(before).port)), "ECONNREFUSED")
      yield* Effect.sleep("1800 millis")
      assert.lengthOf(yield* router.table, 1)
      assert.strictEqual(yield* tcpProbe(yield* externalHost, base + 5), "hello")
    }).pipe(Effect.scoped, Effect.provide(behind("upnp", { quirks: ["RestartMovesControl"] })))
  )

  it.live.each(["success", "failure", "interruption"] as const)("gives every port back on %s", (end) =>
    Effect.gen(function* () {
      const ports = { ssdp: base + 10, http: base + 11, natpmp: base + 12 }
      const use = Effect.gen(function* () {
        const { model, openPorts } = yield* NodeSimulatedRouter.make({ ports })
        for (const protocol of ["tcp", "udp"] as const) {
          model.map(Date.now(), {
            via: "natpmp",
            client: model.address,
            protocol,
            externalPort: base + 13,
            mayChoosePort: true,
            internalAddress: model.address,
            internalPort: 9,
            lifetimeSeconds: 60
          })
        }
        assert.lengthOf(yield* openPorts, 2)
        // A request that is never answered holds its connection open.
        model.goSilent()
        const socket = Net.connect({ host: "127.0.0.1", port: ports.http })
        socket.on("error", () => {})
        socket.write("GET /rootDesc.xml HTTP/1.1\r\n\r\n")
        yield* Effect.sleep("50 millis")
        if (end === "failure") return yield* Effect.fail("failed")
        if (end === "interruption") return yield* Effect.interrupt
      })
      yield* Effect.exit(Effect.scoped(use))
      yield* Effect.exit(Effect.scoped(use))
      const again = yield* Effect.result(Effect.scoped(NodeSimulatedRouter.make({ ports })))
      assert.isTrue(Result.isSuccess(again))
    }).pipe(Effect.provide(NodeUdp.layer))
  )

  it.live("says which port is taken", () =>
    Effect.gen(function* () {
      const first = yield* NodeSimulatedRouter.make()
      const error = yield* Effect.flip(NodeSimulatedRouter.make({ ports: { ssdp: first.ports.ssdp } }))
      assert.strictEqual(error.message, `AddressInUse: UDP port ${first.ports.ssdp} at 127.0.0.1`)
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live("announces itself, and a restart with another boot id", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.make()
      const udp = yield* Udp.Udp
      const bind = { address: Ssdp.group, port: router.ports.ssdp }
      const socket = yield* udp.open({ bind, reuseAddress: true })
      yield* socket.joinMulticast(Ssdp.group, NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(127, 0, 0, 1)))
      const next = Effect.map(socket.receive, ([{ payload }]) => Result.getOrUndefined(Ssdp.decode(payload)))
      yield* router.reboot()
      const heard = yield* next
      assert.isTrue(heard?._tag === "Notify" && heard.kind === "alive" && heard.bootId === 2)
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live("restarts as one that was there before: both epochs show it at once", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.make()
      const told = Effect.map(Clock.currentTimeMillis, (now) => {
        const receivedAt = BigInt(now) * 1_000_000n
        return {
          natpmp: { seconds: router.model.epochSeconds(now), receivedAt },
          pcp: { seconds: router.model.pcpEpochSeconds(now), receivedAt }
        }
      })
      const before = yield* told
      yield* router.reboot()
      const after = yield* told
      assert.isTrue(NatPmpEpoch.hasRestarted(before.natpmp, after.natpmp))
      assert.isTrue(PcpEpoch.hasRestarted(before.pcp, after.pcp))
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live("announces nothing while it is silent, not even its end", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const router = yield* Scope.provide(NodeSimulatedRouter.make(), scope)
      const udp = yield* Udp.Udp
      const socket = yield* udp.open({ bind: { address: Ssdp.group, port: router.ports.ssdp }, reuseAddress: true })
      yield* socket.joinMulticast(Ssdp.group, NetAddress.ipv4Loopback)
      yield* router.goSilent()
      yield* router.reboot()
      const heard = Effect.timeoutOption(socket.receive, "100 millis")
      assert.strictEqual((yield* heard)._tag, "None")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* heard)._tag, "None")
    }).pipe(Effect.scoped, Effect.provide(NodeUdp.layer))
  )

  it.live("is discovered once, with its name", () =>
    Effect.gen(function* () {
      const { gateways } = yield* GatewayDiscovery.GatewayDiscovery
      const found = yield* Stream.runCollect(gateways)
      assert.deepStrictEqual(
        found.map(({ name }) => name),
        ["A & B <Router>"]
      )
    }).pipe(
      Effect.provide(UpnpDiscovery.layer.pipe(Layer.provide(NodeSimulatedRouter.layerHost))),
      Effect.provide(NodeSimulatedRouter.layer({ name: "A & B <Router>" }))
    )
  )
})

const quirks = Quirk.runningIn("loopback").filter(
  ({ item, where }) => ["ssdp", "description", "http", "soap"].includes(where) || item === 11 || item === 14
)

/** What a plain request comes to, and whether the port is then really open. */
const outcomeOf = Effect.gen(function* () {
  const router = yield* Router
  const mapper = yield* PortMapper.PortMapper
  const internalPort = yield* tcpEcho
  const mapped = yield* Effect.result(mapper.map({ ...request(internalPort), externalPort: base + 20 }))
  if (Result.isFailure(mapped)) return mapped.failure.reason._tag
  const current = yield* mapped.success.current
  assert.strictEqual(PortMapping.format(current), `${yield* externalHost}:${base + 20}/tcp`)
  const [open = ""] = yield* router.openPorts
  const { hostname, port } = new URL(open.replace("tcp ", "http://"))
  assert.strictEqual(yield* tcpProbe(hostname, Number(port)), "hello")
  yield* mapped.success.release
  assert.deepStrictEqual(yield* router.table, [])
  return "Mapped"
}).pipe(Effect.scoped)

/** Public to clients, although the router's outside is on loopback like everything else. */
const publicLine = (name: Quirk.Quirk) => (name === "PrivateServiceFirst" ? { externalAddress: "11.22.33.1" } : {})

describe("the quirks of the wire", () => {
  for (const profile of quirks.filter(Quirk.isHandled)) {
    it.live(`${profile.name}: ${profile.what}`, () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* outcomeOf, profile.outcome)
      }).pipe(
        Effect.provide(behind("upnp", { quirks: [profile.name], protocols: ["upnp"], ...publicLine(profile.name) }))
      )
    )
  }

  // What no client handles yet: it is time for another `handled` when one of these fails.
  for (const profile of quirks.filter((one) => !Quirk.isHandled(one) && one.item !== 9)) {
    it.live(`${profile.name} is not handled: ${profile.handled}`, () =>
      Effect.gen(function* () {
        assert.notStrictEqual(yield* outcomeOf, profile.outcome)
      }).pipe(Effect.provide(behind("upnp", { quirks: [profile.name], protocols: ["upnp"] })))
    )
  }
})
