import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import { readFileSync } from "node:fs"
import * as Campaign from "./campaign.ts"
import * as Decoder from "./decoder.ts"
import { decoders } from "./decoders.ts"
import { quadratic } from "./quadratic.ts"
import * as Work from "./work.ts"

const inputs = Number(process.env["FUZZ_INPUTS"] ?? 2000)
const seed = Number(process.env["FUZZ_SEED"] ?? 1)

describe(`decoders that meet the network, seed ${seed}`, () => {
  it.each(decoders.map((decoder) => [decoder.name, decoder] as const))("%s", { timeout: 180_000 }, (_name, decoder) => {
    const outcome = Campaign.run(decoder, { seed, from: 0, inputs })
    assert.deepStrictEqual(
      outcome.violations.map((violation) => [violation.what, Campaign.repeatCommand(violation), violation.input]),
      []
    )
    // An input that is always refused before it is looked at tests nothing.
    assert.isAtLeast(outcome.accepted, inputs / 10)
    assert.isAtLeast(outcome.refused, inputs / 20)
  })

  it("are all in docs/simulation.md", () => {
    const docs = readFileSync(new URL("../../docs/simulation.md", import.meta.url), "utf8")
    const table = docs.slice(docs.indexOf("| decoders"), docs.indexOf("**The inputs.**"))
    for (const { name } of decoders) assert.include(table, `\`${name}\``)
  })

  it("take time that grows no faster than the input", { timeout: 300_000 }, () => {
    assert.deepStrictEqual(
      decoders.flatMap((decoder) => Work.slowOnes(decoder, 7)),
      []
    )
    // A loop within a loop is noticed.
    assert.strictEqual(Work.slowOnes({ ...quadratic, longestRead: 8192 }).length, 1)
  })
})

/** A decoder that can do nothing wrong, and then one thing. */
const broken = (change: Partial<Decoder.Decoder>): Decoder.Decoder => ({
  name: "broken",
  maximumBytes: 1000,
  longestRead: 1000,
  tokens: [Uint8Array.of(1)],
  frames: [],
  message: (random) => Uint8Array.of(random.between(0, 255)),
  decode: () => true,
  check: () => true,
  checkIdentity: () => undefined,
  ...change
})

describe("what the campaign found", () => {
  it("an ampersand in CDATA stays an ampersand", () => {
    const name = "<![CDATA[Tom & Jerry &amp; &lt;]]> &amp; a & b"
    const device = DeviceDescription.parse(
      new TextEncoder().encode(`<root><device><friendlyName>${name}</friendlyName></device></root>`),
      {
        address: NetAddress.inetAddressUnsafe(NetAddress.ipFromStringUnsafe("192.168.1.1"), 80),
        path: "/"
      }
    )
    assert.strictEqual(Result.getOrThrow(device).friendlyName, "Tom & Jerry &amp; &lt; & a & b")
  })
})

describe("the campaign", () => {
  const options = { seed, from: 0, inputs: 200 }

  it("is content with a decoder that does nothing wrong", () => {
    assert.strictEqual(Campaign.run(broken({}), options).violated, 0)
  })

  it.each([
    ["throws", { decode: fail }],
    ["does not give back what was encoded", { checkIdentity: fail }],
    ["does what it may not do", { check: fail }]
  ])("notices a decoder that %s", (_what, change) => {
    const { violated, violations } = Campaign.run(broken(change), options)
    assert.isAbove(violated, 0)
    assert.include(violations[0]?.what, "on purpose")
  })

  it("notices a decoder that takes too much", () => {
    const greedy = Decoder.make<number>({
      name: "greedy",
      maximumBytes: 4,
      tokens: [Uint8Array.of(1)],
      read: (bytes) => bytes.length,
      write: (length) => new Uint8Array(length),
      value: () => 3,
      comesBack: "at once"
    })
    assert.include(Campaign.run(greedy, options).violations[0]?.what, "accepted")
  })

  it("makes the same inputs from the same seed, and any of them alone", () => {
    const inputsOf = (change: Partial<Campaign.Options>) => {
      const seen: Array<string> = []
      const decode = (bytes: Uint8Array) => seen.push(Buffer.from(bytes).toString("hex")) > 0
      Campaign.run(broken({ decode }), { ...options, ...change })
      return seen
    }
    const all = inputsOf({})
    assert.deepStrictEqual(inputsOf({}), all)
    assert.deepStrictEqual(inputsOf({ from: 101, inputs: 1 }), all.slice(101, 102))
    assert.notDeepEqual(inputsOf({ seed: seed + 1 }), all)
  })

  it("says how to repeat an input", () => {
    const [violation] = Campaign.run(broken({ check: fail }), options).violations
    assert(violation !== undefined)
    assert.strictEqual(
      Campaign.repeatCommand(violation),
      `npm run fuzz -- --decoder "broken" --seed ${seed} --from 0 --inputs 1`
    )
  })
})

function fail(): never {
  throw new Error("on purpose")
}
