/**
 * `npm run soak:mapping [-- --minutes N --seed N --strategy auto|upnp|natpmp|pcp]`: an hour of a mapping on a router that
 * restarts, loses its address, drops packets and answers slowly, in the lab (as root on Linux, with the packages in
 * `scripts/lab-packages.txt`). Prints what happens, the availability of the port as the wan host sees it, requests and
 * memory over time, and ends with status 1 where something is left on the router or grows.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import * as Lab from "../lab/Lab.ts"
import * as MappingSoak from "./mappingSoak.ts"

const strategies = ["auto", "upnp", "natpmp", "pcp"] as const

const fail = (message: string): never => {
  console.error(message)
  process.exit(2)
}

const wholeNumber = (name: string, text: string, least: number): number =>
  /^\d{1,9}$/.test(text) && Number(text) >= least
    ? Number(text)
    : fail(`--${name} is a whole number of at least ${least}, not ${JSON.stringify(text)}`)

const read = () => {
  try {
    return parseArgs({
      options: {
        minutes: { type: "string", default: "60" },
        seed: { type: "string", default: "1" },
        strategy: { type: "string", default: "auto" }
      }
    }).values
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

const { minutes, seed, strategy } = read()
const chosen =
  strategies.find((one) => one === strategy) ?? fail(`--strategy is one of ${strategies.join(", ")}, not ${strategy}`)

const program = Effect.gen(function* () {
  const missing = yield* Lab.missing
  if (missing.length > 0) return fail(`the lab cannot start here, it lacks: ${missing.join(", ")}`)
  const report = yield* MappingSoak.run({
    seconds: 60 * wholeNumber("minutes", minutes, 1),
    seed: wholeNumber("seed", seed, 0),
    strategy: chosen,
    pause: [15, 45],
    onProgress: (line) => Console.log(line)
  })
  yield* Console.log(MappingSoak.format(report))
  const verdicts = MappingSoak.verdicts(report)
  for (const [holds, text] of verdicts) yield* Console.log(`${holds ? "holds" : "FAILS"}: ${text}`)
  if (!verdicts.every(([holds]) => holds)) process.exitCode = 1
})

NodeRuntime.runMain(
  program.pipe(Effect.catchTag(["SoakFailed", "LabError"], (error) => Effect.sync(() => fail(error.message))))
)
