/** The programs of the benchmark, each in a process of its own that ends with the scope. */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Readline from "node:readline"
import { fileURLToPath } from "node:url"
import type * as Drivers from "./drivers/all.ts"
import type * as Task from "./task.ts"

export class BenchmarkFailed extends Data.TaggedError("BenchmarkFailed")<{ readonly message: string }> {}

const program = (name: string) => fileURLToPath(new URL(name, import.meta.url))

/** How long a server may take to start, and clients to join. */
const patience = Duration.minutes(1)

/** With as many open files as the system allows. */
const withFiles = (command: string, args: ReadonlyArray<string>) =>
  ["sh", ["-c", 'ulimit -n "$(ulimit -Hn)" && exec "$@"', "sh", command, ...args]] as const

const start = (command: string, args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = ChildProcess.spawn(...withFiles(command, args))
      const errors: Array<string> = []
      child.stderr.on("data", (chunk: Buffer) => {
        // What a server logs is not kept for good.
        if (errors.length < 100) errors.push(chunk.toString())
      })
      const exited = new Promise<number | null>((resolve) => {
        child.once("exit", resolve)
        child.once("error", () => resolve(null))
      })
      return { child, exited, errors }
    }),
    ({ child, exited }) =>
      Effect.andThen(
        Effect.sync(() => child.kill("SIGKILL")),
        Effect.promise(() => exited)
      )
  )

type Started = Effect.Success<ReturnType<typeof start>>

const failed = (name: string, detail: string) => new BenchmarkFailed({ message: `${name}: ${detail}` })

/** The first line of which something can be read. */
const firstLine = <A>(name: string, { child, errors, exited }: Started, read: (line: string) => A | undefined) =>
  Effect.callback<A, BenchmarkFailed>((resume) => {
    const onLine = (line: string) => {
      const value = read(line)
      if (value !== undefined) resume(Effect.succeed(value))
    }
    Readline.createInterface(child.stdout).on("line", onLine)
    Readline.createInterface(child.stderr).on("line", onLine)
    void exited.then(() => resume(Effect.fail(failed(name, `ended at once\n${errors.join("")}`))))
  }).pipe(
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () => Effect.fail(failed(name, "did not start in time"))
    })
  )

/** A server that runs. */
export interface Server {
  readonly name: string
  readonly protocol: Drivers.Protocol
  readonly pid: number
  readonly port: number
  /** What it calls session number so-and-so. */
  readonly session: (index: number) => string
}

export interface Kind {
  readonly name: string
  readonly protocol: Drivers.Protocol
  readonly command: (sessions: number) => readonly [command: string, args: ReadonlyArray<string>]
}

const node = (file: string, ...args: ReadonlyArray<string>) =>
  [process.execPath, ["--expose-gc", program(file), ...args]] as const

const effectNat = (sessions: number) => node("servers/effect-nat.mjs", String(sessions))

export const overTcp: Kind = { name: "this router, TCP", protocol: "tcp", command: effectNat }
export const overWebSocket: Kind = { name: "this router, WebSocket", protocol: "webSocket", command: effectNat }
export const nats: Kind = {
  name: "nats-server",
  protocol: "nats",
  command: () => ["nats-server", ["-a", "127.0.0.1", "-p", "-1"]]
}
export const rooms: Kind = { name: "rooms on ws", protocol: "rooms", command: () => node("servers/rooms.mjs") }
export const bare: Kind = { name: "bare node:net", protocol: "bare", command: () => node("servers/bare.mjs") }

interface Ready {
  readonly port: number
  readonly sessions?: ReadonlyArray<string>
}

const readReady = (line: string): Ready | undefined => {
  if (line.startsWith("{")) return JSON.parse(line) as Ready
  const port = /Listening for client connections on 127\.0\.0\.1:(\d+)/.exec(line)?.[1]
  return port === undefined ? undefined : { port: Number(port) }
}

/** Starts a server; it ends with the scope. */
export const serve = Effect.fnUntraced(function* ({ command, name, protocol }: Kind, sessions: number) {
  const started = yield* start(...command(sessions))
  const ready = yield* firstLine(name, started, readReady)
  const session = (index: number) => ready.sessions?.[index] ?? `s${index}`
  const server: Server = { name, protocol, pid: started.child.pid ?? NaN, port: ready.port, session }
  return server
})

/** Puts load on a server, and checks what comes. */
export const load = Effect.fnUntraced(function* (name: string, task: Task.Task) {
  const { child, errors, exited } = yield* start(process.execPath, [program("load.ts"), JSON.stringify(task)])
  const output: Array<string> = []
  child.stdout.on("data", (chunk: Buffer) => output.push(chunk.toString()))
  const code = yield* Effect.promise(() => exited).pipe(
    Effect.timeoutOrElse({
      duration: Duration.sum(patience, Duration.seconds(task.warmUp + task.seconds)),
      orElse: () => Effect.fail(failed(name, "the load did not end in time"))
    })
  )
  if (code !== 0) return yield* failed(name, errors.join("").trim())
  return JSON.parse(output.join("")) as Task.Outcome
}, Effect.scoped)

/** Joins clients that do nothing until the scope closes. */
export const idle = Effect.fnUntraced(function* (name: string, task: Task.IdleTask) {
  const started = yield* start(process.execPath, [program("idle.ts"), JSON.stringify(task)])
  yield* firstLine(name, started, (line) => (line === "joined" ? true : undefined))
})

/** What of a process is in memory, in bytes. */
export const residentBytes = (pid: number) =>
  Effect.sync(() => {
    const found = /^VmRSS:\s*(\d+) kB/m.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
    return Number(found) * 1024
  })

/**
 * Has a server of Node give back what is not in use, as it does when memory is short: until then it keeps pages for new
 * objects, tens of megabytes once many have joined, however many connections there are.
 */
export const giveBack = (pid: number) =>
  Effect.andThen(
    Effect.sync(() => process.kill(pid, "SIGUSR2")),
    Effect.sleep("1 second")
  )
