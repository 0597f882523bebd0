/**
 * The switch that forbids all automation, on a host that dies when it is asked to send, or to listen to the network.
 */
import * as Automation from "@effect-nat/core/Automation"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import * as Http from "@effect-nat/core/Http"
import * as HttpListener from "@effect-nat/core/HttpListener"
import * as Lan from "@effect-nat/core/Lan"
import * as Manual from "@effect-nat/core/Manual"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as NatPmpDiscovery from "@effect-nat/natpmp/NatPmpDiscovery"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as PcpDiscovery from "@effect-nat/natpmp/PcpDiscovery"
import * as PortControl from "@effect-nat/natpmp/PortControl"
import * as SsdpListener from "@effect-nat/upnp/SsdpListener"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as UpnpDiscovery from "@effect-nat/upnp/UpnpDiscovery"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Automatic from "effect-nat/Automatic"
import * as Fallback from "effect-nat/Fallback"
import * as Without from "../core/strategiesWithoutGateway.ts"

const request = { protocol: "tcp", internalPort: 12000 } as const

const host = (opened: Without.Opened) =>
  Layer.mergeAll(
    Without.host({ opened }),
    Layer.succeed(Http.Http, { request: () => Effect.die("an HTTP request") }),
    Layer.succeed(HttpListener.HttpListener, { listen: () => Effect.die("a listener") }),
    Layer.succeed(Automation.Allowed, false)
  )

type Asking = Effect.Effect<unknown, NatError.NatError, UpnpDiscovery.Network | Scope.Scope>

const made = (layer: Layer.Layer<PortMapper.PortMapper, NatError.NatError, UpnpDiscovery.Network>) =>
  Effect.map(Layer.build(layer), (context) => Context.get(context, PortMapper.PortMapper))

const asked = (layer: Layer.Layer<PortMapper.PortMapper, NatError.NatError, UpnpDiscovery.Network>) =>
  Effect.map(made(layer), (mapper): ReadonlyArray<readonly [string, Asking]> => [
    ["map", mapper.map(request)],
    ["externalAddress", mapper.externalAddress],
    ["list", Stream.runCollect(mapper.list)],
    ["remove", mapper.remove({ protocol: "tcp", externalPort: 12000 })]
  ])

const found = (layer: Layer.Layer<GatewayDiscovery.GatewayDiscovery, never, UpnpDiscovery.Network>): Asking =>
  GatewayDiscovery.GatewayDiscovery.use(({ gateways }) => Stream.runCollect(gateways)).pipe(Effect.provide(layer))

const portControl = Effect.map(PortControl.makeStrategies(), ({ natPmp, pcp }) => [natPmp, pcp])

const probes: ReadonlyArray<readonly [string, Asking]> = [
  ["Upnp.probe", Upnp.probe],
  ["NatPmp.probe", NatPmp.probe],
  ["Pcp.probe", Pcp.probe],
  ["the UPnP strategy's probe", Effect.flatMap(Upnp.makeStrategy, ({ probe }) => probe)],
  ["the NAT-PMP strategy's probe", Effect.flatMap(portControl, ([natPmp]) => natPmp?.probe ?? Effect.void)],
  ["the PCP strategy's probe", Effect.flatMap(portControl, ([, pcp]) => pcp?.probe ?? Effect.void)],
  ["Upnp.mapAll", Upnp.mapAll(request)],
  ["Automatic.mapAll", Automatic.mapAll(request)],
  ["SsdpListener", SsdpListener.SsdpListener.use(({ anyOne }) => anyOne).pipe(Effect.provide(SsdpListener.layer))],
  ["UpnpDiscovery", found(UpnpDiscovery.layer)],
  ["NatPmpDiscovery", found(NatPmpDiscovery.layer)],
  ["PcpDiscovery", found(PcpDiscovery.layer)]
]

const isRefused = (name: string, asking: Asking) =>
  Effect.map(Effect.flip(asking), (error) => {
    assert.strictEqual(error.reason._tag, "AutomationOff", name)
    assert.match(error.message, /^automation is switched off.*forward the port by hand and use the manual strategy/)
  })

describe("where automation is not allowed", () => {
  for (const [name, layer] of [
    ["UPnP", Upnp.layer],
    ["NAT-PMP", NatPmp.layer],
    ["PCP", Pcp.layer]
  ] as const) {
    it.effect(`${name} refuses whatever it is asked, and opens no socket`, () => {
      const opened: Without.Opened = { towards: [] }
      return Effect.gen(function* () {
        for (const [operation, asking] of yield* asked(layer)) yield* isRefused(operation, asking)
        assert.deepStrictEqual(opened.towards, [])
      }).pipe(Effect.provide(host(opened)))
    })
  }

  it.effect("no probe and no search asks anybody", () => {
    const opened: Without.Opened = { towards: [] }
    return Effect.gen(function* () {
      for (const [name, asking] of probes) yield* isRefused(name, asking)
      assert.deepStrictEqual(opened.towards, [])
    }).pipe(Effect.provide(host(opened)))
  })

  it.effect("a listener that is started hears and asks nobody", () => {
    const opened: Without.Opened = { towards: [] }
    return Effect.gen(function* () {
      const listener = yield* SsdpListener.make
      yield* listener.start
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(opened.towards, [])
    }).pipe(Effect.provide(host(opened)))
  })

  it.effect("automatic refuses in the same words, each time", () =>
    Effect.gen(function* () {
      const operations = yield* asked(Automatic.layer)
      for (const [operation, asking] of [...operations, ...operations]) yield* isRefused(operation, asking)
    }).pipe(Effect.provide(host({ towards: [] })))
  )

  it.effect("the LAN and the manual strategy map as ever, also where they are what a program falls back on", () =>
    Effect.gen(function* () {
      const lan = yield* made(Lan.layer)
      const manual = yield* made(Manual.layer({ externalAddress: "11.22.33.1" }))
      const upnp = yield* made(Upnp.layer)
      const told: Array<string> = []
      const tell = ({ reason }: NatError.NatError) => Effect.sync(() => told.push(reason._tag)).pipe(Effect.asVoid)
      const mappers = [lan, manual, Fallback.whenNoGateway(upnp, lan, tell), Fallback.inOrder([upnp, manual])]
      const mapped = yield* Effect.forEach(mappers, (mapper) =>
        Effect.flatMap(mapper.map(request), ({ current }) => current)
      )
      assert.deepStrictEqual(
        mapped.map(({ method }) => method),
        ["lan", "manual", "lan", "manual"]
      )
      assert.deepStrictEqual(told, ["AutomationOff"])
    }).pipe(Effect.provide(host({ towards: [] })))
  )
})
