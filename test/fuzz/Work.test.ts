import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import type { Decoder } from "./decoder.ts"
import * as Work from "./work.ts"

/** Before the decoders are loaded: what is loaded earlier is not counted. */
let counter: Work.Counter
let decoders: ReadonlyArray<Decoder>

beforeAll(async () => {
  counter = await Work.startCounter("/test/fuzz/quadratic")
  decoders = (await import("./decoders.ts")).decoders
})

afterAll(() => counter.stop())

describe("the work of a decoder grows no faster than its input", () => {
  // All kinds of input are for the whole campaign.
  it("for every decoder, with some kinds of input", async () => {
    const excesses: Array<string> = []
    for (const decoder of decoders) {
      const growths = await Work.growthOf(counter, decoder, { every: 11, longest: 8192 })
      excesses.push(...growths.flatMap((growth) => Work.excess(growth) ?? []))
      assert.isAbove(Math.max(...growths.map(({ longer }) => longer)), 0, `${decoder.name} is not counted`)
    }
    assert.deepStrictEqual(excesses, [])
  })

  it("and little work is never too much", () => {
    const growth = { decoder: "any", of: "anything", once: 10, longer: 200, bytes: 200 }
    assert.isTrue(Work.isLittle(growth))
    assert.isUndefined(Work.excess(growth))
    assert.isFalse(Work.isLittle({ ...growth, bytes: 199 }))
    assert.isString(Work.excess({ ...growth, bytes: 199 }))
  })

  it("and a loop within a loop is noticed", async () => {
    const { quadratic } = await import("./quadratic.ts")
    const [growth] = await Work.growthOf(counter, quadratic, { every: 1, longest: 4096 })
    assert(growth !== undefined)
    assert.isAbove(Work.ratioOf(growth), 40)
    assert.include(Work.excess(growth), "steps grow to")
  })
})
