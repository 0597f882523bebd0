import * as Lan from "@effect-nat/core/Lan"
import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as ChangingHost from "./changingHost.ts"
import { host } from "./strategiesWithoutGateway.ts"

const current = (
  request: Parameters<PortMapper.PortMapper["Service"]["map"]>[0],
  options?: Parameters<typeof host>[0]
) =>
  PortMapper.PortMapper.use((mapper) => mapper.map(request)).pipe(
    Effect.flatMap((mapping) => mapping.current),
    Effect.provide(Lan.layer.pipe(Layer.provide(host(options))))
  )

const internal = (mapping: PortMapping.PortMapping) => NetAddress.formatInet(PortMapping.internal(mapping))

describe("Lan", () => {
  it.effect("a mapping is the service's own address, and nothing is sent for it", () =>
    Effect.gen(function* () {
      const mapping = yield* current({ protocol: "tcp", internalPort: 12000, externalPort: 12001 })
      assert.strictEqual(internal(mapping), "192.168.77.2:12000")
      assert.isUndefined(mapping.externalAddress)
      assert.isUndefined(mapping.externalPort)
      assert.isUndefined(mapping.gateway)
      assert.isUndefined(PortMapping.lifetimeSeconds(mapping))
      assert.strictEqual(mapping.method, "lan")
      assert.strictEqual(PortMapping.format(mapping), "192.168.77.2:12000/tcp")
    })
  )

  it.effect("the own address is the one towards the gateway, of the family asked for", () =>
    Effect.gen(function* () {
      const opened = { towards: new Array<string>() }
      const request = { protocol: "udp", internalPort: 1 } as const
      assert.strictEqual(internal(yield* current({ ...request, family: "ipv6" }, { opened })), "[2001:db8::2]:1")
      assert.strictEqual(internal(yield* current({ ...request, family: "both" }, { opened })), "192.168.77.2:1")
      assert.deepStrictEqual(opened.towards, ["2001:db8::1", "192.168.77.1"])
      assert.strictEqual(
        internal(
          yield* current({ ...request, internalAddress: NetAddress.ipFromStringUnsafe("10.0.0.9") }, { opened })
        ),
        "10.0.0.9:1"
      )
      assert.lengthOf(opened.towards, 2)
    })
  )

  it.effect("without a route it is an interface's address, without a network loopback", () =>
    Effect.gen(function* () {
      const request = { protocol: "tcp", internalPort: 1 } as const
      const ipv6 = { ...request, family: "ipv6" } as const
      assert.strictEqual(internal(yield* current(request, { gateways: [] })), "192.168.77.3:1")
      assert.strictEqual(internal(yield* current(ipv6, { gateways: ["fe80::1"] })), "[2001:db8::3]:1")
      assert.strictEqual(internal(yield* current(request, { isOffline: true })), "192.168.77.3:1")
      assert.strictEqual(internal(yield* current(request, { gateways: [], interfaces: [] })), "127.0.0.1:1")
      assert.strictEqual(internal(yield* current(ipv6, { gateways: [], interfaces: [] })), "[::1]:1")
    })
  )

  it.effect("a mapping follows this host to another address", () => {
    const changing = ChangingHost.make()
    const surroundings = Layer.provideMerge(
      NetworkWatch.layer,
      Layer.merge(host({ isOffline: true, gateways: [] }), changing.layer)
    )
    return Effect.gen(function* () {
      const seen: Array<string> = []
      const mapping = yield* PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12000 }))
      yield* Effect.forkScoped(Stream.runForEach(mapping.changes, (one) => Effect.sync(() => seen.push(internal(one)))))
      yield* TestClock.adjust("1 hour")
      changing.addresses = ["192.168.77.9/24"]
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(seen, ["192.168.77.2:12000", "192.168.77.9:12000"])
    }).pipe(Effect.provide(Lan.layer.pipe(Layer.provide(surroundings))))
  })

  it.effect("a mapping on a host that stays as it is never changes, and ends with its scope", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      yield* Effect.gen(function* () {
        const mapper = yield* PortMapper.PortMapper
        const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 12000 })
        yield* Effect.forkChild(
          Stream.runForEach(mapping.changes, (change) => Effect.sync(() => seen.push(change.status)))
        )
        yield* TestClock.adjust("100 days")
      }).pipe(Effect.scoped, Effect.provide(Lan.layer.pipe(Layer.provide(host()))))
      assert.deepStrictEqual(seen, ["mapped"])
    })
  )

  it.effect("what only a gateway can do fails, and says why", () =>
    Effect.gen(function* () {
      const mapper = yield* PortMapper.PortMapper
      const messages = [
        yield* Effect.flip(mapper.externalAddress),
        yield* Effect.flip(Stream.runCollect(mapper.list)),
        yield* Effect.flip(mapper.remove({ protocol: "tcp", externalPort: 12001 })),
        yield* Effect.flip(Effect.scoped(mapper.map({ protocol: "tcp", internalPort: 0 })))
      ].map((error) => `${error.reason._tag}: ${error.message}`)
      assert.deepStrictEqual(messages, [
        "NoExternalAddress: the external address is not known (the LAN strategy asks no gateway)",
        "Unsupported: not supported: list mappings with the lan strategy (it talks to no gateway)",
        "Unsupported: not supported: delete a mapping with the lan strategy (it talks to no gateway)",
        "InvalidRequest: the internal port must be a whole number from 1 to 65535, not 0"
      ])
    }).pipe(Effect.provide(Lan.layer.pipe(Layer.provide(host()))))
  )
})
