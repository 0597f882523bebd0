/**
 * The soak of a mapping, for a minute and a half.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as MappingSoak from "../soak/mappingSoak.ts"
import { labSuite } from "./LabSuite.ts"

labSuite("a router that has a bad time", () => {
  it.live(
    "is left with nothing, is not flooded, and lets packets through again after each trouble",
    () =>
      Effect.gen(function* () {
        const report = yield* MappingSoak.run({
          seconds: 75,
          seed: 1,
          strategy: "auto",
          pause: [8, 12],
          onProgress: () => Effect.void
        })
        const text = MappingSoak.format(report)
        for (const [holds, verdict] of MappingSoak.verdicts(report)) assert.isTrue(holds, `${verdict}\n${text}`)
        const happened = report.troubles.map(({ trouble }) => trouble)
        assert.includeMembers(happened, ["restart", "another address"], text)
        assert.isAtLeast(report.reached, (report.probes * 2) / 3, text)
      }),
    180_000
  )
})
