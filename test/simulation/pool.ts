/**
 * Two processes that run worlds: a world is one thread's work.
 */
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import type * as Campaign from "./campaign.ts"

const script = (name: string) => fileURLToPath(new URL(name, import.meta.url))

const workers = 2
/** Small enough that both end at about the same time. */
const defaultBatch = 20

export interface Options {
  readonly seeds: number
  readonly from: number
  readonly environment: Readonly<Record<string, string>>
  /** `false` ends the run, when the seeds that were given out are done: so the first seed is always the same one. */
  readonly onReport: (report: Campaign.Report) => boolean
  readonly batch?: number
}

const isReport = (message: unknown): message is Campaign.Report =>
  typeof message === "object" && message !== null && "cells" in message

/** Runs so many seeds; each report comes as soon as it is there, in no order. Fails when a process breaks. */
export const run = async (options: Options): Promise<void> => {
  const { batch = defaultBatch, environment, from, onReport, seeds } = options
  let next = from
  const last = from + seeds
  let isStopped = false
  const takeBatch = () => {
    const taken = Array.from({ length: Math.max(0, Math.min(batch, last - next)) }, (_, index) => next + index)
    next += taken.length
    return isStopped ? [] : taken
  }
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const child = ChildProcess.fork(script("worker.ts"), [], {
        execArgv: ["--import", script("sources.ts")],
        env: { ...process.env, ...environment }
      })
      let isDone = false
      const feed = () => {
        const taken = takeBatch()
        isDone = taken.length === 0
        child.send(taken)
      }
      child.on("message", (message) => {
        if (!isReport(message)) return feed()
        if (!onReport(message)) isStopped = true
      })
      child.on("error", reject)
      child.on("exit", (code) =>
        isDone && code === 0 ? resolve() : reject(new Error(`a process that runs worlds ended with ${code}`))
      )
    })
  await Promise.all(Array.from({ length: Math.min(workers, seeds) }, one))
}
