import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Manual from "@effect-nat/core/Manual"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import { host } from "./strategiesWithoutGateway.ts"

const environment = (options?: Manual.Options) =>
  Layer.mergeAll(Manual.layer(options), ContactPointResolver.layer).pipe(Layer.provide(host()))

/** A mapping, and the contact point that it makes. */
const mapped = Effect.gen(function* () {
  const mapper = yield* PortMapper.PortMapper
  const resolver = yield* ContactPointResolver.ContactPointResolver
  const { current } = yield* mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12002 })
  const mapping = yield* current
  const point = yield* resolver.contactPoint({
    name: "island",
    port: 12000,
    address: mapping.internalAddress,
    mappings: [mapping]
  })
  return { mapping, point }
})

describe("Manual", () => {
  it.effect("a mapping is what a person says it is, and nothing is sent for it", () =>
    Effect.gen(function* () {
      const { mapping, point } = yield* mapped.pipe(
        Effect.provide(environment({ externalAddress: "11.22.33.1", externalPort: 12001 }))
      )
      assert.strictEqual(PortMapping.format(mapping), "11.22.33.1:12001/tcp")
      assert.strictEqual(NetAddress.formatInet(PortMapping.internal(mapping)), "192.168.77.2:12000")
      assert.strictEqual(mapping.method, "manual")
      assert.isUndefined(mapping.gateway)
      assert.isUndefined(PortMapping.lifetimeSeconds(mapping))
      assert.strictEqual(ContactPoint.format(point), "internal 192.168.77.2:12000; external 11.22.33.1:12001")
      assert.strictEqual(point.external[0]?.verification, "configured")
    })
  )

  it.effect("each request's own external port counts where none is configured", () =>
    Effect.gen(function* () {
      const { mapping } = yield* mapped.pipe(Effect.provide(environment({ externalAddress: "2001:db8::9" })))
      assert.strictEqual(PortMapping.format(mapping), "[2001:db8::9]:12002/tcp")
    })
  )

  it.effect.each([undefined, {}, { externalAddress: "" }, { externalAddress: undefined }])(
    "an address that is not known is said to be unknown: %j",
    (options) =>
      Effect.gen(function* () {
        const { mapping, point } = yield* mapped.pipe(Effect.provide(environment(options)))
        assert.isUndefined(mapping.externalAddress)
        assert.strictEqual(mapping.externalPort, 12002)
        assert.strictEqual(PortMapping.format(mapping), "port 12002/tcp of an unknown address")
        assert.isEmpty(point.external)
        assert.strictEqual(ContactPoint.format(point), "internal 192.168.77.2:12000; external unknown")
        const error = yield* PortMapper.PortMapper.use((mapper) => mapper.externalAddress).pipe(
          Effect.provide(environment(options)),
          Effect.flip
        )
        assert.strictEqual(error._tag === "NatError" ? error.reason._tag : error, "NoExternalAddress")
      })
  )

  it.effect("the external address is the configured one", () =>
    Effect.gen(function* () {
      const address = yield* PortMapper.PortMapper.use((mapper) => mapper.externalAddress)
      assert.strictEqual(NetAddress.formatIp(address), "11.22.33.1")
    }).pipe(Effect.provide(environment({ externalAddress: "11.22.33.1" })))
  )

  it.effect.each(["router.example.org", "11.22.33", "11.22.33.1:12001", " ", "[::1]", "0.0.0.0", "::", "239.1.1.1"])(
    'the external address "%s" is refused',
    (externalAddress) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.provide(mapped, environment({ externalAddress })))
        assert.strictEqual(error.reason._tag, "InvalidRequest")
        assert.strictEqual(
          error.message,
          `the external address "${externalAddress}" is not the address of a host: write one like 11.22.33.1, or leave it empty where it is not known`
        )
      })
  )

  it.effect.each([0, 70000, 1.5, Number.NaN])("the external port %d is refused", (externalPort) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.provide(mapped, environment({ externalPort })))
      assert.strictEqual(error.message, `the external port must be a whole number from 1 to 65535, not ${externalPort}`)
    })
  )

  it.effect("what only a gateway can do fails, and says why", () =>
    Effect.gen(function* () {
      const mapper = yield* PortMapper.PortMapper
      const list = yield* Effect.flip(Stream.runCollect(mapper.list))
      assert.strictEqual(list.message, "not supported: list mappings with the manual strategy (it talks to no gateway)")
      const remove = yield* Effect.flip(mapper.remove({ protocol: "tcp", externalPort: 12001 }))
      assert.strictEqual(
        remove.message,
        "not supported: delete a mapping with the manual strategy (it talks to no gateway)"
      )
    }).pipe(Effect.provide(environment()))
  )
})
