/** By which strategy a dispatcher maps its port: the one that it is given, else the one that `DefaultConfig` holds. */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Lan from "@effect-nat/core/Lan"
import * as Manual from "@effect-nat/core/Manual"
import * as DefaultConfig from "@effect-nat/dispatcher/DefaultConfig"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as TcpListener from "@effect-nat/dispatcher/TcpListener"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import { host } from "../core/strategiesWithoutGateway.ts"
import { makeSimulatedListener } from "./support.ts"

const surroundings = Layer.mergeAll(
  ContactPointResolver.layer,
  Layer.effect(
    TcpListener.TcpListener,
    Effect.map(makeSimulatedListener, ({ listener }) => listener)
  )
).pipe(Layer.provideMerge(host()))

const manual = Manual.layer({ externalAddress: "11.22.33.1", externalPort: 12001 })

const holding = (strategy: typeof manual) => Layer.succeed(DefaultConfig.DefaultConfig, strategy)

const mapped = Effect.gen(function* () {
  const dispatcher = yield* Dispatcher.Dispatcher
  const { method } = yield* dispatcher.mapping.current
  return `${method}: ${ContactPoint.format(yield* dispatcher.contactPoint).split("; ")[1]}`
})

describe("the strategy of a dispatcher", () => {
  it.effect("is the LAN's where nobody names one", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* mapped, "lan: external unknown")
    }).pipe(Effect.provide(Dispatcher.layerConfig({})), Effect.provide(surroundings))
  )

  it.effect("is what the default config holds where it is given none", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* mapped, "manual: external 11.22.33.1:12001")
    }).pipe(
      Effect.provide(Dispatcher.layerConfig({}).pipe(Layer.provide(holding(manual)))),
      Effect.provide(surroundings)
    )
  )

  it.effect("is also that where the option is there and undefined, as the page's nil", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* mapped, "manual: external 11.22.33.1:12001")
    }).pipe(
      Effect.provide(Dispatcher.layerConfig({ strategy: undefined }).pipe(Layer.provide(holding(manual)))),
      Effect.provide(surroundings)
    )
  )

  it.effect("is the one that it is given, whatever the default config holds", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* mapped, "lan: external unknown")
    }).pipe(
      Effect.provide(Dispatcher.layerConfig({ strategy: Lan.layer }).pipe(Layer.provide(holding(manual)))),
      Effect.provide(surroundings)
    )
  )

  it.effect("is each one's own, where two dispatchers of a program have two default configs", () =>
    Effect.gen(function* () {
      const byDefault = (strategy: typeof manual) =>
        Layer.effectDiscard(Effect.flatMap(mapped, (one) => Ref.update(seen, (all) => [...all, one]))).pipe(
          Layer.provide(Dispatcher.layerConfig({})),
          Layer.provide(holding(strategy))
        )
      const seen = yield* Ref.make<ReadonlyArray<string>>([])
      yield* Layer.build(Layer.mergeAll(byDefault(Lan.layer), byDefault(manual)))
      const expected = ["lan: external unknown", "manual: external 11.22.33.1:12001"]
      assert.deepStrictEqual((yield* Ref.get(seen)).toSorted(), expected)
    }).pipe(Effect.provide(surroundings))
  )

  it.effect("that makes no sense is the failure of the dispatcher", () =>
    Effect.gen(function* () {
      const dispatcher = Dispatcher.layerConfig({}).pipe(
        Layer.provide(holding(Manual.layer({ externalAddress: "nowhere" })))
      )
      const error = yield* Effect.flip(Effect.scoped(Layer.build(dispatcher)))
      assert.strictEqual(error.reason._tag, "InvalidRequest")
    }).pipe(Effect.provide(surroundings))
  )
})
