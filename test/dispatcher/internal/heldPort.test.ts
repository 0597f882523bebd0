/** The mapping of a dispatcher's port while strategies come and go. */
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as HeldPort from "../../../packages/dispatcher/src/internal/heldPort.ts"
import { mappingOf, settle, simulated } from "../support.ts"

const refusal = NatError.fromReason(new NatError.NoGateway({ detail: "" }))

interface Behaviour {
  readonly takes?: Duration.Input
  /** What comes of each request, in turn; those after the last are granted. */
  readonly outcomes?: ReadonlyArray<Effect.Effect<void, NatError.NatError>>
}

/** Strategies that write down, in one list, what they are asked. */
const makeStrategies = () => {
  const log: Array<string> = []
  const note = (line: string) => Effect.sync(() => void log.push(line))
  const mapperOf = (name: string, { outcomes = [], takes = 0 }: Behaviour = {}): PortMapper.PortMapper["Service"] => {
    let asked = 0
    return PortMapper.PortMapper.of({
      map: Effect.fnUntraced(function* (request) {
        yield* note(`${name} asked`)
        yield* Effect.sleep(takes)
        yield* outcomes[asked++] ?? Effect.void
        const mapping: PortMapping.PortMapping = mappingOf({ ...request, description: name }, request.internalPort)
        yield* Effect.acquireRelease(note(`${name} maps`), () => note(`${name} released`))
        return {
          current: Effect.succeed(mapping),
          changes: Stream.concat(Stream.succeed(mapping), Stream.never),
          renew: note(`${name} renews`),
          release: Effect.void
        }
      }),
      externalAddress: Effect.fail(refusal),
      list: Stream.empty,
      remove: () => Effect.void
    })
  }
  const layerOf = (name: string, behaviour?: Behaviour) =>
    Layer.effect(
      PortMapper.PortMapper,
      Effect.as(
        Effect.acquireRelease(note(`${name} begins`), () => note(`${name} ends`)),
        mapperOf(name, behaviour)
      )
    )
  return { log, mapperOf, layerOf }
}

/** Long enough for streams, which pass a value on from fiber to fiber. */
const settleAll = Effect.repeat(settle, { times: 5 })

const request = { protocol: "tcp", internalPort: 12000 } as const

const holderOf = (held: HeldPort.HeldPort) => Effect.map(held.mapping.current, ({ description }) => description)

describe("a change of strategy", () => {
  it.effect("releases the mapping by the one before, then maps by the next", () =>
    Effect.gen(function* () {
      const { layerOf, log, mapperOf } = makeStrategies()
      const held = yield* HeldPort.make(mapperOf("first"), request)
      yield* held.change(layerOf("second"))
      yield* held.change(layerOf("third"))
      assert.deepStrictEqual(log, [
        "first asked",
        "first maps",
        "second begins",
        "first released",
        "second asked",
        "second maps",
        "third begins",
        "second released",
        "third asked",
        "third maps",
        "second ends"
      ])
      yield* held.mapping.renew
      assert.deepStrictEqual([log.at(-1), yield* holderOf(held)], ["third renews", "third"])
    })
  )

  it.effect("may be to the same strategy again", () =>
    Effect.gen(function* () {
      const { layerOf, log, mapperOf } = makeStrategies()
      const held = yield* HeldPort.make(mapperOf("first"), request)
      const second = layerOf("second")
      yield* held.change(second)
      yield* held.change(second)
      assert.strictEqual(yield* holderOf(held), "second")
      const count = (line: string) => log.filter((one) => one === line).length
      assert.strictEqual(count("second maps") - count("second released"), 1)
      assert.strictEqual(count("second begins") - count("second ends"), 1)
    })
  )

  it.effect("is seen by those that follow the mapping", () =>
    Effect.gen(function* () {
      const { layerOf, mapperOf } = makeStrategies()
      const held = yield* HeldPort.make(mapperOf("first"), request)
      const seen: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(held.mapping.changes, ({ description }) => Effect.sync(() => void seen.push(description)))
      )
      yield* settleAll
      yield* held.change(layerOf("second"))
      yield* settleAll
      assert.deepStrictEqual(seen, ["first", "second"])
    })
  )

  const failures: ReadonlyArray<readonly [string, Effect.Effect<void, NatError.NatError>]> = [
    ["a refusal", Effect.fail(refusal)],
    ["a defect", Effect.die("a bug of the strategy")]
  ]
  it.effect.each(failures)("that ends with %s has the one before map again", ([, outcome]) =>
    Effect.gen(function* () {
      const { layerOf, log, mapperOf } = makeStrategies()
      const held = yield* HeldPort.make(mapperOf("first"), request)
      const exit = yield* Effect.exit(held.change(layerOf("second", { outcomes: [outcome] })))
      assert.deepStrictEqual(exit, yield* Effect.exit(outcome))
      assert.deepStrictEqual(log.slice(2), [
        "second begins",
        "first released",
        "second asked",
        "first asked",
        "first maps",
        "second ends"
      ])
      assert.strictEqual(yield* holderOf(held), "first")
      yield* held.change(layerOf("third"))
      assert.strictEqual(yield* holderOf(held), "third")
    })
  )

  it.effect("that fails where the one before does, too, says that the mapping is lost", () =>
    Effect.gen(function* () {
      const { layerOf, mapperOf } = makeStrategies()
      const first = mapperOf("first", { outcomes: [Effect.void, Effect.fail(refusal)] })
      const held = yield* HeldPort.make(first, request)
      const seen: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(held.mapping.changes, ({ status }) => Effect.sync(() => void seen.push(status)))
      )
      yield* settleAll
      yield* Effect.flip(held.change(layerOf("second", { outcomes: [Effect.fail(refusal)] })))
      yield* settleAll
      assert.deepStrictEqual(seen, ["mapped", "lost"])
      assert.strictEqual((yield* held.mapping.current).status, "lost")
      yield* held.change(layerOf("third"))
      assert.strictEqual(yield* holderOf(held), "third")
    })
  )

  it.effect("that fails has a strategy map again that was changed to before", () =>
    Effect.gen(function* () {
      const { layerOf, log, mapperOf } = makeStrategies()
      const held = yield* HeldPort.make(mapperOf("first"), request)
      yield* held.change(layerOf("second"))
      yield* Effect.flip(held.change(layerOf("third", { outcomes: [Effect.fail(refusal)] })))
      assert.strictEqual(yield* holderOf(held), "second")
      // It is in use, so it goes on.
      assert.notInclude(log, "second ends")
    })
  )

  it.effect("to a strategy that cannot begin leaves the mapping alone", () =>
    Effect.gen(function* () {
      const { log, mapperOf } = makeStrategies()
      const held = yield* HeldPort.make(mapperOf("first"), request)
      yield* Effect.flip(held.change(Layer.effect(PortMapper.PortMapper, Effect.fail(refusal))))
      assert.deepStrictEqual(log, ["first asked", "first maps"])
      assert.strictEqual(yield* holderOf(held), "first")
    })
  )

  it.effect("waits for another one that is under way", () =>
    Effect.gen(function* () {
      const { layerOf, log, mapperOf } = makeStrategies()
      const held = yield* HeldPort.make(mapperOf("first"), request)
      const one = yield* Effect.forkChild(held.change(layerOf("second", { takes: "1 second" })))
      const other = yield* Effect.forkChild(held.change(layerOf("third")))
      yield* TestClock.adjust("1 second")
      yield* Effect.andThen(Fiber.join(one), Fiber.join(other))
      assert.isBelow(log.indexOf("second maps"), log.indexOf("third begins"))
      assert.deepStrictEqual(
        log.filter((line) => line.endsWith("maps")),
        ["first maps", "second maps", "third maps"]
      )
    })
  )

  it.effect("that is interrupted leaves one mapping, and none when all is over", () =>
    Effect.gen(function* () {
      const { layerOf, log, mapperOf } = makeStrategies()
      const scope = yield* Scope.make()
      const held = yield* HeldPort.make(mapperOf("first"), request).pipe(Scope.provide(scope))
      const changing = yield* Effect.forkChild(held.change(layerOf("second", { takes: "1 second" })))
      yield* settle
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(changing))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(interrupting)
      const mapped = () =>
        ["first", "second"].filter(
          (name) =>
            log.filter((line) => line === `${name} maps`).length !==
            log.filter((line) => line === `${name} released`).length
        )
      assert.deepStrictEqual(mapped(), [yield* holderOf(held)])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(mapped(), [])
      assert.include(log, "second ends")
    })
  )

  it.effect("leaves nothing behind where the dispatcher ends meanwhile", () =>
    Effect.gen(function* () {
      const { layerOf, log, mapperOf } = makeStrategies()
      const scope = yield* Scope.make()
      const held = yield* HeldPort.make(mapperOf("first"), request).pipe(Scope.provide(scope))
      const changing = yield* Effect.forkChild(held.change(layerOf("second", { takes: "1 second" })))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("1 second")
      yield* Fiber.await(changing)
      assert.deepStrictEqual(log.toSorted(), [
        "first asked",
        "first maps",
        "first released",
        "second asked",
        "second begins",
        "second ends",
        "second maps",
        "second released"
      ])
    })
  )

  it.effect("concerns no session: members hear each other, and the contact point has the new address", () =>
    Effect.gen(function* () {
      const { dispatcher, endTurn, join, members } = yield* simulated()
      const { layerOf } = makeStrategies()
      const [ann, bob] = [yield* join, yield* join]
      yield* dispatcher.changeStrategy(layerOf("second"))
      ann.say("still here")
      endTurn()
      yield* settle
      assert.deepStrictEqual([ann.heard(), bob.heard()], [["still here"], ["still here"]])
      assert.strictEqual(yield* members, 2)
      assert.strictEqual((yield* dispatcher.status).mapping.description, "second")
    })
  )
})
