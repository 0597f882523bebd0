/** A thread that counts the work of decoders, and reports it. */
import { parentPort, workerData } from "node:worker_threads"
import * as Work from "./work.ts"

/** How the work of one decoder grows. */
export interface Report {
  readonly decoder: string
  readonly kinds: number
  readonly worst: { readonly of: string; readonly ratio: number; readonly isLittle: boolean }
  readonly excesses: ReadonlyArray<string>
}

const counter = await Work.startCounter()
const { decoders } = await import("./decoders.ts")
const names: ReadonlyArray<string> = workerData

const reports: Array<Report> = []
for (const decoder of decoders.filter(({ name }) => names.includes(name))) {
  const growths = await Work.growthOf(counter, decoder, { every: 1, longest: 16_384 })
  const ratios = growths.map((growth) => ({
    of: growth.of,
    ratio: Work.ratioOf(growth),
    isLittle: Work.isLittle(growth)
  }))
  reports.push({
    decoder: decoder.name,
    kinds: growths.length,
    worst: ratios.reduce((worst, one) => (one.ratio > worst.ratio ? one : worst), { of: "", ratio: 0, isLittle: true }),
    excesses: growths.flatMap((growth) => Work.excess(growth) ?? [])
  })
}
await counter.stop()
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, and no window's
parentPort?.postMessage(reports)
