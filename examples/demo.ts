/**
 * The whole story of a mapped port in a few seconds, on any machine: a simulated router on loopback, the real UPnP
 * strategy, and a connection that really comes through.
 */
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as UpnpDiscovery from "@effect-nat/upnp/UpnpDiscovery"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as References from "effect/References"
import * as Stream from "effect/Stream"
import * as Net from "node:net"
import { styleText } from "node:util"

const isTerminal = process.stdout.isTTY
const paint = (style: "bold" | "cyan" | "dim" | "green" | "red", text: string): string =>
  isTerminal ? styleText(style, text) : text

const pause = Effect.sleep("250 millis")
const say = (who: string, what: string) => Effect.andThen(Console.log(`${paint("cyan", who.padEnd(8))} ${what}`), pause)
const note = (what: string) => Console.log(paint("dim", `         ${what}`))

/** Says "hello" from outside: what comes back, or `undefined` where nobody is there. */
const connect = (host: string, port: number) =>
  Effect.acquireUseRelease(
    Effect.sync(() => Net.connect({ host, port })),
    (socket) =>
      Effect.callback<string | undefined>((resume) => {
        socket.on("connect", () => socket.write("hello"))
        socket.on("data", (data) => resume(Effect.succeed(data.toString())))
        socket.on("error", () => resume(Effect.undefined))
      }),
    (socket) => Effect.sync(() => socket.destroy())
  )

const knock = Effect.fnUntraced(function* (host: string, port: number) {
  const answer = yield* connect(host, port)
  const outcome = answer === undefined ? `is ${paint("red", "refused")}` : `hears ${paint("green", `"${answer}"`)}`
  yield* say("a peer", `says hello to ${host}:${port} and ${outcome}`)
})

const show = (address: NetAddress.IpAddress | undefined): string =>
  address === undefined ? "nowhere" : NetAddress.formatIp(address)

const printTable = Effect.gen(function* () {
  const router = yield* NodeSimulatedRouter.NodeSimulatedRouter
  const rows = yield* router.table
  const lines = rows.map(
    (row) => `${row.protocol} ${row.externalPort} → ${show(row.internalAddress)}:${row.internalPort}`
  )
  yield* say("router", `my table: ${lines.length === 0 ? paint("bold", "empty") : lines.join(", ")}`)
})

/** Where a peer outside finds the router. */
const outside = Effect.map(
  NodeSimulatedRouter.NodeSimulatedRouter.use((router) => router.outside),
  show
)

/** A server that sends back what it hears, on loopback only: from outside it is reached through the router. */
const startEcho = Effect.acquireRelease(
  Effect.callback<Net.Server>((resume) => {
    const server = Net.createServer((socket) => socket.on("error", () => {}).pipe(socket))
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
).pipe(
  Effect.map((server) => {
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  })
)

const story = Effect.gen(function* () {
  const router = yield* NodeSimulatedRouter.NodeSimulatedRouter
  const mapper = yield* PortMapper.PortMapper
  yield* note("everything below happens on loopback: real sockets, a simulated router")
  const internalPort = yield* startEcho
  // Another one than inside, so that it shows which is which.
  const externalPort = internalPort === 65_535 ? 41_001 : internalPort + 1
  yield* say("server", `listens on 127.0.0.1:${internalPort}, behind a NAT`)
  yield* knock(yield* outside, externalPort)

  const found = yield* Stream.runHead(UpnpDiscovery.gateways)
  if (found._tag === "Some") {
    yield* say("discover", `${found.value.name} at ${show(found.value.address)} speaks UPnP`)
  }

  yield* Effect.scoped(
    Effect.gen(function* () {
      // A lease this short is renewed every second, so that the demonstration need not wait.
      const mapping = yield* mapper.map({ protocol: "tcp", internalPort, externalPort, lifetime: "2 seconds" })
      yield* say("map", `reachable at ${paint("green", PortMapping.format(yield* mapping.current))}`)
      yield* printTable
      yield* knock(yield* outside, externalPort)

      yield* router.changeExternalAddress("127.0.0.3")
      yield* say("router", `my line got another address: ${show(router.model.externalAddress)}`)
      yield* note("the next renewals will notice")
      const current = yield* mapping.current
      const changed = yield* mapping.changes.pipe(
        Stream.filter((one) => PortMapping.format(one) !== PortMapping.format(current)),
        Stream.runHead,
        Effect.timeout("8 seconds")
      )
      if (changed._tag === "Some") {
        yield* say("changes", `now reachable at ${paint("green", PortMapping.format(changed.value))}`)
      }
      yield* knock(yield* outside, externalPort)
      yield* say("release", "the scope closes")
    })
  )
  yield* printTable
  yield* knock(yield* outside, externalPort)
})

const host = Upnp.layer.pipe(Layer.provideMerge(NodeSimulatedRouter.layerHost))

story.pipe(
  Effect.scoped,
  Effect.provide(host.pipe(Layer.provideMerge(NodeSimulatedRouter.layer({ name: "Loopback Router" })))),
  // The story is told in the lines above; what the strategies think of a router on loopback is no part of it.
  Effect.provideService(References.MinimumLogLevel, "None"),
  NodeRuntime.runMain
)
