/**
 * A real router that stands behind another NAT: it refuses every mapping, and tells no address.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Lab from "./Lab.ts"
import { bin, daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const map = ["map", "12000:12001", "--json", "--lease", "1h", "--strategy"]

for (const strategy of ["upnp", "natpmp", "pcp", "auto"] as const) {
  labSuite(`a router behind another NAT (--strategy ${strategy})`, () => {
    it.live(
      "that refuses: the failure says why, and what can be done",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({
            wanPrefix: "10.9.8",
            daemon: { ...daemons[strategy], externalAddress: false }
          })
          const refused = yield* lab.run("lan", process.execPath, [bin, ...map, strategy], { timeout: "20 seconds" })
          assert.strictEqual(refused.exitCode, 1)
          assert.match(refused.stderr, /^effect-nat: .*double NAT\): map the port on the outer router too.*\n$/m)
          assert.deepStrictEqual(yield* lab.mappings, [])
        }),
      60_000
    )
  })
}
