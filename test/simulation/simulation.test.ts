import { assert, it } from "@effect/vitest"
import * as Campaign from "./campaign.ts"
import * as Mutants from "./mutants.ts"
import * as Plan from "./plan.ts"
import * as Print from "./print.ts"
import * as World from "./world.ts"
import { fileURLToPath } from "node:url"

it("200 worlds hold every invariant", { timeout: 300_000 }, () => {
  for (let seed = 1; seed <= 200; seed++) {
    const report = Campaign.runSeed(seed)
    const unexpected = report.violations.filter(({ expected }) => expected === undefined)
    assert.deepStrictEqual(unexpected, [], `repeat it with its trace: npm run simulate -- --seed ${seed}`)
  }
})

// Worlds that showed what was wrong in the first mapping's code, each with what it was.
it.each([
  [5, "UPnP renewed for the host's old address"],
  [34, "UPnP renewed for the host's old address"],
  [88, "UPnP renewed for the host's old address"],
  [1127, "UPnP renewed for an address of another network"],
  [20_232, "a renewal refused for good was said to be mapped"],
  [1842, "a mapping for an old own address was said to be mapped while the router refused the new one"],
  [9773, "a mapping for an old own address was said to be mapped while the router refused the new one"],
  [5644, "NAT-PMP gave up asking a slow gateway for its new address with each renewal"],
  [674, "UPnP looked for what an interrupted request left before that request had arrived"],
  [1102, "UPnP looked for what an interrupted request left before that request had arrived"],
  [2690, "NAT-PMP undid an interrupted request before that request had arrived"],
  [6595, "NAT-PMP undid an interrupted request before that request had arrived"],
  [1472, "events went on being sent to an address that this host no longer had, and the router was hardly ever asked"],
  [2806, "a permanent mapping of an earlier run kept it unnoticed that the router forgets limited leases"],
  [6749, "a lost answer kept it unnoticed for ever that the router forgets limited leases"],
  [3179, "NAT-PMP's renewal reached the router after the release that interrupted it"],
  [939, "the automatic strategy's quicker second request was granted while the ledger swept the same away"],
  [609, "UPnP released what somebody else had mapped by then"],
  [1177, "PCP's attempt was carried on in NAT-PMP, and its undoing deleted what the NAT-PMP strategy had mapped"],
  [5578, "PCP's attempt was carried on in NAT-PMP, and its undoing deleted what the NAT-PMP strategy had mapped"],
  [1957, "UPnP kept a line for good that was chosen while the better one did not answer"],
  [2031, "PCP repeated the renewal whose answer had shown the restart"]
])("seed %i, once: %s", (seed) => {
  assert.deepStrictEqual(Campaign.runSeed(seed).violations, [])
})

it("the same seed gives the same trace, and another seed another one", () => {
  const run = (seed: number) => World.run(Plan.draw(seed), { keepsTrace: true })
  assert.deepStrictEqual(run(11).trace, run(11).trace)
  assert.strictEqual(run(11).fingerprint, World.run(Plan.draw(11), { keepsTrace: false }).fingerprint)
  assert.notStrictEqual(run(11).fingerprint, run(12).fingerprint)
})

it.each([
  ["crash", "at 1.5 s: crash"],
  ["silence", "at 1.5 s: silence for 20 s"],
  ["unmap", "at 1.5 s: unmap of mapping 2"]
] as const)("the event %s is printed with what it goes by", (what, line) => {
  assert.strictEqual(Print.event({ at: 1500, what, lasts: 20_000, mapping: 2 }), line)
})

it("every mutant finds the place that it changes", () => {
  for (const { edits } of Mutants.list) {
    for (const { file } of edits) {
      const path = fileURLToPath(new URL(`../../packages/${file}`, import.meta.url))
      Mutants.apply(
        path,
        edits.filter((edit) => edit.file === file)
      )
    }
  }
})
