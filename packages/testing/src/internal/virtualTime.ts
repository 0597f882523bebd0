/**
 * Time that passes only when nothing is left to do, and then jumps to the next thing that is due.
 *
 * Fibers run on its scheduler and sleep on its clock, both on the caller's stack: hours take milliseconds, and the
 * order of everything is the same in every run.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"

interface Due {
  readonly at: number
  /** Among those due at one time, the first to be set is the first to run. */
  readonly order: number
  run: (() => void) | undefined
  /** Whether somebody may wait for it. */
  readonly isAwaited: boolean
}

const isBefore = (self: Due, that: Due): boolean =>
  self.at < that.at || (self.at === that.at && self.order < that.order)

/** More steps than this without any time passing is a program that never waits. */
const maximumSteps = 2_000_000

/** What one program lives by. */
export interface Program {
  readonly clock: Clock.Clock
  readonly scheduler: Scheduler.Scheduler
}

/** The time and the events of one world. */
export class VirtualTime {
  /** In milliseconds. */
  now: number
  /** A binary heap. */
  readonly #due: Array<Due> = []
  #tasks: Array<() => void> = []
  #idleTasks: Array<() => void> = []
  #order = 0
  /** How many are due that somebody may wait for. */
  #awaited = 0

  constructor(startsAt: number) {
    this.now = startsAt
  }

  /** Clock and scheduler of one program. Once it no longer runs, nothing of it does: no finalizer, no timer. */
  program(isRunning: () => boolean): Program {
    const millis = () => this.now
    const nanos = () => BigInt(Math.round(this.now * 1000)) * 1000n
    const clock: Clock.Clock = {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: nanos,
      monotonicTimeNanos: Effect.sync(nanos),
      sleep: (duration) => this.#sleep(duration, isRunning)
    }
    const schedule = (task: () => void, priority: number) => {
      const tasks = priority > 0 ? this.#idleTasks : this.#tasks
      tasks.push(() => {
        if (isRunning()) task()
      })
    }
    const scheduler: Scheduler.Scheduler = {
      executionMode: "async",
      shouldYield: (fiber) => fiber.currentOpCount >= fiber.cache.maxOpsBeforeYield,
      makeDispatcher: () => ({ scheduleTask: schedule, flush: () => this.settle() })
    }
    return { clock, scheduler }
  }

  /** Does something after some milliseconds; the result calls it off. */
  after(delay: number, run: () => void): () => void {
    return this.#set(delay, run, true)
  }

  /** Does something that goes on for ever by itself: nobody waits for that, and where nothing else is due, nothing is. */
  afterInBackground(delay: number, run: () => void): () => void {
    return this.#set(delay, run, false)
  }

  /** Runs what can run now. */
  settle(): void {
    for (let steps = 0; ; steps++) {
      if (steps > maximumSteps) throw new Error("something runs for ever without waiting")
      const tasks = this.#tasks.length > 0 ? this.#tasks : this.#idleTasks
      if (tasks.length === 0) return
      if (tasks === this.#tasks) this.#tasks = []
      else this.#idleTasks = []
      for (const task of tasks) {
        task()
        steps++
      }
    }
  }

  /** Lets time pass to the next event; `false` where there is none, or none before the limit. */
  step(limit: number = Number.POSITIVE_INFINITY): boolean {
    this.settle()
    while (true) {
      const next = this.#due[0]
      if (next === undefined || next.at > limit) return false
      // Without a limit, time passes for whoever waits for something.
      if (this.#awaited === 0 && limit === Number.POSITIVE_INFINITY) return false
      this.#pop()
      const { run } = next
      if (run === undefined) continue
      this.#callOff(next)
      this.now = next.at
      run()
      this.settle()
      return true
    }
  }

  /** Lets time pass until then. */
  runUntil(time: number): void {
    while (this.step(time));
    this.now = Math.max(this.now, time)
  }

  #set(delay: number, run: () => void, isAwaited: boolean): () => void {
    const due: Due = { at: this.now + Math.max(0, delay), order: this.#order++, run, isAwaited }
    this.#push(due)
    if (isAwaited) this.#awaited += 1
    return () => this.#callOff(due)
  }

  #callOff(due: Due): void {
    if (due.run !== undefined && due.isAwaited) this.#awaited -= 1
    due.run = undefined
  }

  #sleep(duration: Duration.Duration, isRunning: () => boolean): Effect.Effect<void> {
    if (!Duration.isFinite(duration)) return Effect.never
    const millis = Duration.toMillis(duration)
    return Effect.callback<void>((resume) => {
      const cancel = this.after(millis, () => {
        if (isRunning()) resume(Effect.void)
      })
      return Effect.sync(cancel)
    })
  }

  #push(due: Due): void {
    const heap = this.#due
    let index = heap.push(due) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      const above = heap[parent]
      if (above === undefined || !isBefore(due, above)) break
      heap[index] = above
      index = parent
    }
    heap[index] = due
  }

  #pop(): void {
    const heap = this.#due
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let index = 0
    while (true) {
      const left = 2 * index + 1
      const right = left + 1
      const leftDue = heap[left]
      const rightDue = heap[right]
      if (leftDue === undefined) break
      const [child, smaller] =
        rightDue !== undefined && isBefore(rightDue, leftDue) ? [right, rightDue] : [left, leftDue]
      if (!isBefore(smaller, last)) break
      heap[index] = smaller
      index = child
    }
    heap[index] = last
  }
}
