/**
 * Processes of the lab: started in a process group of their own, heard line by line, and killed with the whole group
 * when their scope closes.
 *
 * Written on `node:child_process` because the tests need the signal that ended a process, and a signal that may not
 * end it (`SIGHUP`, `SIGSTOP`). All limits run on the real clock, also under a `TestClock`.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn as spawnChild } from "node:child_process"
import { LabError } from "./LabError.ts"

/**
 * How a process ended: with a code, or by a signal.
 *
 * @category models
 */
export interface LabExit {
  readonly exitCode: number | undefined
  readonly signal: NodeJS.Signals | undefined
}

/**
 * The outcome of a command that was run to its end.
 *
 * @category models
 */
export interface RunResult extends LabExit {
  readonly stdout: string
  readonly stderr: string
}

/**
 * Options of a command that is run to its end.
 *
 * @category models
 */
export interface RunOptions {
  /** Added to the environment of the tests; `undefined` removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
  /** The command fails with `LabError` and is killed when it takes longer. Default: 15 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** What the command reads. Default: nothing, an end of file at once. */
  readonly stdin?: string | undefined
  readonly cwd?: string | undefined
}

/**
 * Options of a process that keeps running.
 *
 * @category models
 */
export interface SpawnOptions {
  /** Added to the environment of the tests; `undefined` removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
  readonly cwd?: string | undefined
  /** The signal the group gets when the scope closes. Default: `SIGTERM`. */
  readonly killSignal?: NodeJS.Signals | undefined
  /** How long the group may take before it gets `SIGKILL`. Default: 2 seconds. */
  readonly killAfter?: Duration.Input | undefined
}

/**
 * Which line to wait for: a text it contains, an expression it matches, or a predicate.
 *
 * @category models
 */
export type LineMatch = string | RegExp | ((line: string) => boolean)

/**
 * A running process.
 *
 * @category models
 */
export interface LabProcess {
  /** The process id of the command itself: a namespace adds no process around it. */
  readonly pid: number
  /** Everything printed so far. */
  readonly stdout: Effect.Effect<string>
  /** Everything complained about so far. */
  readonly stderr: Effect.Effect<string>
  /**
   * Waits for a line of output that matches and returns it. Lines printed before the call count as well; `occurrence`
   * (default 1) asks for the n-th match. Fails at once when the process ends without it, and after `timeout` (default
   * 10 seconds), with the output in the error.
   */
  readonly awaitLine: (
    match: LineMatch,
    options?: {
      readonly from?: "stdout" | "stderr" | undefined
      readonly occurrence?: number | undefined
      readonly timeout?: Duration.Input | undefined
    }
  ) => Effect.Effect<string, LabError>
  /** Sends a signal to the process itself, not to its group. Does nothing when it has ended. */
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Waits for the end and for the last output. Unbounded: see `awaitExit`. */
  readonly exit: Effect.Effect<LabExit>
  /** Waits for the end, at most `timeout` (default 10 seconds). */
  readonly awaitExit: (timeout?: Duration.Input) => Effect.Effect<LabExit, LabError>
  /** Writes to the standard input, which stays open until `endInput`. */
  readonly write: (text: string) => Effect.Effect<void>
  readonly endInput: Effect.Effect<void>
}

const realClock = Clock.Clock.defaultValue()

/**
 * Sleeps on the real clock, whatever clock the test has.
 *
 * @internal
 */
export const pause = (duration: Duration.Input): Effect.Effect<void> =>
  Effect.provideService(Effect.sleep(duration), Clock.Clock, realClock)

/**
 * Limits an effect on the real clock.
 *
 * @internal
 */
export const bounded = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  duration: Duration.Input,
  onTimeout: () => LabError
): Effect.Effect<A, E | LabError, R> =>
  Effect.raceFirst(
    self,
    Effect.andThen(
      pause(duration),
      Effect.suspend(() => Effect.fail(onTimeout()))
    )
  )

/** A mutable record of one child process: what it printed, how it ended, and who waits for news. */
class Child {
  readonly process: ChildProcess
  readonly pid: number
  readonly exited = Deferred.makeUnsafe<LabExit>()
  readonly closed = Deferred.makeUnsafe<LabExit>()
  readonly listeners = new Set<() => void>()
  stdout = ""
  stderr = ""
  ended = false

  constructor(process: ChildProcess, pid: number) {
    this.process = process
    this.pid = pid
    process.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text
      this.notify()
    })
    process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text
      this.notify()
    })
    // A process that ends before it has read its input is no error of the lab's.
    process.stdin?.on("error", () => {})
    process.on("exit", (code, signal) => {
      const exit: LabExit = { exitCode: code ?? undefined, signal: signal ?? undefined }
      Deferred.doneUnsafe(this.exited, Effect.succeed(exit))
      // A grandchild may hold the pipes open for ever; the last output of the process itself is there well before.
      const timer = setTimeout(() => this.close(exit), 250)
      process.on("close", () => {
        clearTimeout(timer)
        this.close(exit)
      })
    })
  }

  close(exit: LabExit): void {
    this.ended = true
    Deferred.doneUnsafe(this.closed, Effect.succeed(exit))
    this.notify()
  }

  notify(): void {
    for (const listener of this.listeners) listener()
  }

  get output(): string {
    const parts = [this.stdout.trimEnd(), this.stderr.trimEnd()].filter((part) => part !== "")
    return parts.length === 0 ? "(no output)" : parts.join("\n")
  }
}

const environment = (changes: Readonly<Record<string, string | undefined>> | undefined): NodeJS.ProcessEnv => {
  const env: NodeJS.ProcessEnv = { ...process.env }
  for (const [name, value] of Object.entries(changes ?? {})) {
    if (value === undefined) delete env[name]
    else env[name] = value
  }
  return env
}

const signalGroup = (pid: number, signal: NodeJS.Signals | 0): boolean => {
  try {
    process.kill(-pid, signal)
    return true
  } catch {
    return false
  }
}

const start = (command: string, args: ReadonlyArray<string>, options: SpawnOptions): Effect.Effect<Child, LabError> =>
  Effect.callback<Child, LabError>((resume) => {
    const child = spawnChild(command, [...args], {
      cwd: options.cwd,
      detached: true,
      env: environment(options.env),
      stdio: ["pipe", "pipe", "pipe"]
    })
    child.on("error", (cause) => {
      if (child.pid === undefined) {
        resume(Effect.fail(new LabError({ step: `start ${command}`, detail: cause.message, cause })))
      }
    })
    if (child.pid !== undefined) resume(Effect.succeed(new Child(child, child.pid)))
  })

const terminate = Effect.fn("LabProcess.terminate")(function* (child: Child, options: SpawnOptions) {
  if (!Deferred.isDoneUnsafe(child.exited)) {
    signalGroup(child.pid, options.killSignal ?? "SIGTERM")
    yield* Effect.raceFirst(Deferred.await(child.exited), pause(options.killAfter ?? "2 seconds"))
  }
  signalGroup(child.pid, "SIGKILL")
  yield* Deferred.await(child.exited)
  // Until the group is gone, or only zombies nobody reaps are left of it.
  for (let waited = 0; waited < 40 && signalGroup(child.pid, 0); waited++) yield* pause(5)
})

const acquire = (
  command: string,
  args: ReadonlyArray<string>,
  options: SpawnOptions
): Effect.Effect<Child, LabError, Scope.Scope> =>
  Effect.acquireRelease(start(command, args, options), (child) => terminate(child, options))

const matcher = (match: LineMatch): ((line: string) => boolean) =>
  typeof match === "function"
    ? match
    : typeof match === "string"
      ? (line) => line.includes(match)
      : (line) => line.search(match) !== -1

const describe = (match: LineMatch): string => (typeof match === "function" ? "the line asked for" : String(match))

/**
 * Starts a process that is killed, with its whole group, when the scope closes.
 *
 * @category constructors
 */
export const spawn = Effect.fn("LabProcess.spawn")(function* (
  command: string,
  args: ReadonlyArray<string>,
  options: SpawnOptions = {}
): Effect.fn.Return<LabProcess, LabError, Scope.Scope> {
  const child = yield* acquire(command, args, options)
  const step = [command, ...args].join(" ")

  const awaitLine: LabProcess["awaitLine"] = (match, options = {}) => {
    const matches = matcher(match)
    const from = options.from ?? "stdout"
    const occurrence = options.occurrence ?? 1
    const waiting = Effect.callback<string, LabError>((resume) => {
      const look = () => {
        const lines = child[from].split("\n")
        // What follows the last line end is a line only once nothing more can come.
        const complete = child.ended ? lines : lines.slice(0, -1)
        const found = complete.filter(matches)[occurrence - 1]
        if (found !== undefined) {
          child.listeners.delete(look)
          resume(Effect.succeed(found))
        } else if (child.ended) {
          child.listeners.delete(look)
          resume(Effect.fail(new LabError({ step, detail: `ended without ${describe(match)}:\n${child.output}` })))
        }
      }
      child.listeners.add(look)
      look()
      return Effect.sync(() => child.listeners.delete(look))
    })
    return bounded(
      waiting,
      options.timeout ?? "10 seconds",
      () => new LabError({ step, detail: `did not print ${describe(match)} in time:\n${child.output}` })
    )
  }

  return {
    pid: child.pid,
    stdout: Effect.sync(() => child.stdout),
    stderr: Effect.sync(() => child.stderr),
    awaitLine,
    signal: (signal) =>
      Effect.sync(() => {
        if (!Deferred.isDoneUnsafe(child.exited)) child.process.kill(signal)
      }),
    exit: Deferred.await(child.closed),
    awaitExit: (timeout = "10 seconds") =>
      bounded(
        Deferred.await(child.closed),
        timeout,
        () => new LabError({ step, detail: `did not end in time:\n${child.output}` })
      ),
    write: (text) => Effect.sync(() => void child.process.stdin?.write(text)),
    endInput: Effect.sync(() => void child.process.stdin?.end())
  }
})

/**
 * Runs a command to its end, whatever its exit code is.
 *
 * @category constructors
 */
export const run = Effect.fn("LabProcess.run")(function* (
  command: string,
  args: ReadonlyArray<string>,
  options: RunOptions = {}
): Effect.fn.Return<RunResult, LabError> {
  const step = [command, ...args].join(" ")
  const timeout = Duration.fromInputUnsafe(options.timeout ?? "15 seconds")
  return yield* Effect.scoped(
    Effect.gen(function* () {
      const child = yield* acquire(command, args, { env: options.env, cwd: options.cwd, killAfter: "500 millis" })
      child.process.stdin?.end(options.stdin ?? "")
      const exit = yield* bounded(
        Deferred.await(child.closed),
        timeout,
        () => new LabError({ step, detail: `took longer than ${Duration.format(timeout)}:\n${child.output}` })
      )
      const refused = /^exec of ".*" failed: .*/m.exec(child.stderr)
      if (refused !== null) return yield* new LabError({ step, detail: refused[0] })
      return { ...exit, stdout: child.stdout, stderr: child.stderr }
    })
  )
})

/**
 * Runs a command that must exit with code 0, and returns what it printed.
 *
 * @category constructors
 */
export const exec = Effect.fn("LabProcess.exec")(function* (
  command: string,
  args: ReadonlyArray<string>,
  options: RunOptions = {}
): Effect.fn.Return<string, LabError> {
  const result = yield* run(command, args, options)
  if (result.exitCode === 0) return result.stdout
  return yield* new LabError({
    step: [command, ...args].join(" "),
    detail: `ended with ${result.signal ?? result.exitCode}: ${result.stderr.trim()}\n${result.stdout.trim()}`.trim()
  })
})
