import * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import * as Fallback from "effect-nat/Fallback"

const address = NetAddress.ipFromStringUnsafe("11.22.33.1")
const fail = (reason: NatError.NatErrorReason) => Effect.fail(NatError.fromReason(reason))
const noGateway = fail(new NatError.NoGateway({ detail: "" }))
const unsupported = fail(new NatError.Unsupported({ operation: "", detail: "" }))
const refused = fail(new NatError.NotAuthorized({ detail: "" }))
const conflict = fail(new NatError.Conflict({ externalPort: 80, detail: "" }))

/** A mapper that says the same to everything, and how often it was asked. */
const saying = (answer: Effect.Effect<never, NatError.NatError> | "yes") => {
  const mapper = { asked: 0 }
  const say = <A>(value: A): Effect.Effect<A, NatError.NatError> =>
    Effect.suspend(() => {
      mapper.asked += 1
      return answer === "yes" ? Effect.succeed(value) : answer
    })
  const service: PortMapper.PortMapper["Service"] = {
    map: () => say({ current: Effect.never, changes: Stream.empty, renew: Effect.void, release: Effect.void }),
    externalAddress: say(address),
    list: Stream.fromEffectDrain(say(undefined)),
    remove: () => say(undefined)
  }
  return { mapper, service }
}

const request = { protocol: "tcp", internalPort: 80 } as const

describe("Fallback.inOrder", () => {
  it.effect.each([
    ["the first that works", [noGateway, "yes", "yes"], "works", [1, 1, 0]],
    ["the first one's error where none does", [noGateway, refused], "NoGateway", [1, 1]],
    ["the error of the first that could", [unsupported, refused], "NotAuthorized", [1, 1]],
    ["that it cannot be done, where no other gateway is there", [unsupported, noGateway], "Unsupported", [1, 1]],
    ["that a port is taken, which is so for all", [conflict, "yes"], "Conflict", [1, 0]]
  ] as const)("has %s", ([, answers, expected, asked]) =>
    Effect.gen(function* () {
      const [first, ...others] = answers.map(saying)
      if (first === undefined) return assert.fail("there is a first one")
      const mapper = Fallback.inOrder([first.service, ...others.map(({ service }) => service)])
      const told = yield* Effect.scoped(mapper.map(request)).pipe(
        Effect.match({ onFailure: ({ reason }) => reason._tag, onSuccess: () => "works" })
      )
      assert.strictEqual(told, expected)
      assert.deepStrictEqual(
        [first, ...others].map(({ mapper: { asked: times } }) => times),
        [...asked]
      )
    })
  )

  it.effect("asks the others for a list only where one has none to give", () =>
    Effect.gen(function* () {
      const [without, next] = [saying(unsupported), saying("yes")]
      yield* Stream.runDrain(Fallback.inOrder([without.service, next.service]).list)
      assert.deepStrictEqual([without.mapper.asked, next.mapper.asked], [1, 1])
    })
  )

  it.effect("says that a list is not to be had, and not that there is no gateway of another kind", () =>
    Effect.gen(function* () {
      for (const [other, expected] of [
        [noGateway, "Unsupported"],
        [refused, "NotAuthorized"]
      ] as const) {
        const { list } = Fallback.inOrder([saying(unsupported).service, saying(other).service])
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(list))).reason._tag, expected)
      }
    })
  )
})
