/**
 * `npm run soak:router [-- --minutes N --clients N --sessions N --seed N]`: ten minutes of a dispatcher with 2,000 clients
 * that come, go, stall and send garbage. Prints memory over time and what the clients did, and ends with status 1 where
 * one of those that behave has missed something, or memory grows.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Arguments from "../toolchain/arguments.ts"
import * as RouterSoak from "./routerSoak.ts"

const { clients, minutes, seed, sessions } = Arguments.read({
  script: "soak:router",
  options: {
    minutes: Arguments.whole({ about: "runs for so many minutes", fallback: 10, least: 1 }),
    clients: Arguments.whole({ about: "so many clients at once", fallback: 2000, least: 1 }),
    sessions: Arguments.whole({ about: "in so many sessions", fallback: 20, least: 1 }),
    seed: Arguments.whole({ about: "what the clients' ways are drawn from", fallback: 1 })
  }
})

const program = Effect.gen(function* () {
  const report = yield* RouterSoak.run({
    seconds: 60 * minutes,
    clients,
    sessions,
    seed,
    onProgress: (line) => Console.log(line)
  })
  yield* Console.log(RouterSoak.format(report))
  const verdicts = RouterSoak.verdicts(report)
  for (const [holds, text] of verdicts) yield* Console.log(`${holds ? "holds" : "FAILS"}: ${text}`)
  if (!verdicts.every(([holds]) => holds)) process.exitCode = 1
})

NodeRuntime.runMain(
  program.pipe(
    Effect.catchTag("SoakFailed", ({ message }) =>
      Effect.sync(() => {
        console.error(message)
        process.exitCode = 1
      })
    )
  )
)
