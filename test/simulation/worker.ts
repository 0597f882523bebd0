/**
 * Runs the worlds it is told to: a list of seeds comes in, a report for each goes out, an empty list ends it.
 */
import * as Campaign from "./campaign.ts"
import type * as Judge from "./judge.ts"

const unhandled: Array<string> = []
process.on("unhandledRejection", (reason) => unhandled.push(String(reason)))
process.on("uncaughtException", (error) => unhandled.push(error.stack ?? error.message))

/** A rejection that nobody handles is told when the turn is over. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

const runSeed = async (seed: number): Promise<Campaign.Report> => {
  const report = Campaign.runSeed(seed)
  await turn()
  const violations = unhandled.splice(0).map((detail): Judge.Violation & { readonly expected: undefined } => ({
    invariant: "no-defect",
    at: 0,
    detail: `unhandled: ${detail}`,
    expected: undefined
  }))
  return { ...report, violations: [...report.violations, ...violations] }
}

const isSeeds = (message: unknown): message is ReadonlyArray<number> => Array.isArray(message)

process.on("message", async (message) => {
  if (!isSeeds(message)) return
  if (message.length === 0) return process.disconnect()
  for (const seed of message) process.send?.(await runSeed(seed))
  process.send?.("more")
})
process.send?.("more")
