/**
 * The soak of the message router, for half a minute.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as RouterSoak from "../soak/routerSoak.ts"

it.live(
  "a dispatcher whose clients come, go, stall and send garbage loses nothing of those that behave, and does not grow",
  () =>
    Effect.gen(function* () {
      const report = yield* RouterSoak.run({
        seconds: 25,
        clients: 200,
        sessions: 3,
        seed: 1,
        onProgress: () => Effect.void
      })
      const text = RouterSoak.format(report)
      for (const [holds, verdict] of RouterSoak.verdicts(report)) assert.isTrue(holds, `${verdict}\n${text}`)
      for (const kind of RouterSoak.kinds) assert.isAtLeast(report.came[kind], 5, text)
    }),
  120_000
)
