/**
 * The ledger as files: one for each process, in the user's state directory, readable by the user only.
 *
 * Each process writes its own file and no other, whole and by renaming it into its place, so that no two processes ever
 * write the same one and a file is never half written. Its name says whose it is: the process's id and when it started,
 * since ids are used again, and on which machine, since a directory may be shared by several. Whoever takes over what a
 * process has left that is gone renames the file first: of two that try, one succeeds.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { execFile } from "node:child_process"
import { createHash, randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as KeptLeftovers from "./internal/keptLeftovers.ts"
import * as ProcessTable from "./internal/processTable.ts"
import * as Ledger from "./Ledger.ts"

/** A mapping takes some 300 bytes. What is larger is none of ours. */
const maximumBytes = 4 * 1024 * 1024

const version = 1
const File = Schema.fromJsonString(
  Schema.Struct({ version: Schema.Literal(version), entries: Schema.Array(Ledger.Entry) })
)
const decode = Schema.decodeUnknownOption(File)
const encode = Schema.encodeSync(File)

const stateDirectory = (): string => {
  const home = Os.homedir()
  const { LOCALAPPDATA, XDG_STATE_HOME } = process.env
  if (process.platform === "win32") return LOCALAPPDATA ?? Path.join(home, "AppData", "Local")
  if (process.platform === "darwin") return Path.join(home, "Library", "Application Support")
  return XDG_STATE_HOME !== undefined && Path.isAbsolute(XDG_STATE_HOME)
    ? XDG_STATE_HOME
    : Path.join(home, ".local", "state")
}

/**
 * Where ledgers are: `$XDG_STATE_HOME/effect-nat/ledger` (by default in `~/.local/state`), on macOS in
 * `~/Library/Application Support`, on Windows in `%LOCALAPPDATA%`.
 *
 * @category defaults
 * @since 0.1.0
 */
export const directory = (): string => Path.join(stateDirectory(), "effect-nat", "ledger")

// ---------------------------------------------------------------------------
// Whose a file is
// ---------------------------------------------------------------------------

const readText = (path: string): string | undefined => {
  try {
    return Fs.readFileSync(path, "utf8")
  } catch {
    return undefined
  }
}

/** Whether there is a process with this id, as far as this user may know. */
const exists = (id: number): boolean => {
  try {
    process.kill(id, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"
  }
}

const startOnMac = (id: number) =>
  Effect.callback<number | undefined>((resume, signal) => {
    execFile("/bin/ps", ["-o", "lstart=", "-p", String(id)], { signal, timeout: 5000, encoding: "utf8" }, (_, stdout) =>
      resume(Effect.succeed(ProcessTable.parseStart(stdout)))
    )
  })

const pidNamespace = (): string => {
  try {
    return Fs.readlinkSync("/proc/self/ns/pid")
  } catch {
    return ""
  }
}

/** The id itself is not to be shown to others (machine-id(5)). */
const machine = (): string => {
  const id = readText("/etc/machine-id")?.trim() ?? ""
  return /^[0-9a-f]{32}$/.test(id) ? createHash("sha256").update(`effect-nat ${id}`).digest("hex").slice(0, 8) : ""
}

const linuxSurroundings = (): ProcessTable.Surroundings => ({
  machine: machine(),
  bootId: readText("/proc/sys/kernel/random/boot_id")?.trim() ?? "",
  namespace: pidNamespace()
})

const makeOwner = Effect.map(Clock.currentTimeMillis, (now): ProcessTable.Owner => {
  const { pid: id, platform } = process
  const started =
    platform === "linux" ? ProcessTable.linuxStart(readText("/proc/self/stat"), linuxSurroundings()) : undefined
  return { id, started: started ?? String(Math.round(now / 1000 - process.uptime())) }
})

/** Whoever cannot be told from a living process is taken to live. */
const isGone = ({ id, started }: ProcessTable.Owner): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    if (process.platform === "linux") {
      const now = { stat: readText(`/proc/${id}/stat`), exists: exists(id) }
      return Effect.succeed(ProcessTable.isGoneOnLinux(started, now, linuxSurroundings()))
    }
    if (!exists(id)) return Effect.succeed(true)
    if (process.platform !== "darwin") return Effect.succeed(false)
    return Effect.map(startOnMac(id), (start) => ProcessTable.isOtherStart(started, start))
  })

// ---------------------------------------------------------------------------
// Files
// ---------------------------------------------------------------------------

const storageError = (error: unknown): Ledger.StorageError =>
  new Ledger.StorageError({ message: error instanceof Error ? error.message : String(error) })

/**
 * Files are small and written at once: to have it done elsewhere would cost a program that has just started some 30 ms
 * for the threads.
 */
const attempt = <A>(run: () => A): Effect.Effect<A, Ledger.StorageError> =>
  Effect.try({ try: run, catch: storageError })

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT"

const removeIfThere = (path: string) => Fs.rmSync(path, { force: true })

type Times = Pick<Fs.Stats, "atime" | "mtime">

/** Whole or not at all: whoever reads it sees what was there before, or all of it. */
const replace = (path: string, text: string, times?: Times) => {
  const temporary = `${path}.tmp`
  try {
    Fs.writeFileSync(temporary, text, { mode: 0o600 })
    if (times !== undefined) Fs.utimesSync(temporary, times.atime, times.mtime)
    Fs.renameSync(temporary, path)
  } catch (error) {
    removeIfThere(temporary)
    throw error
  }
}

/** Node's own recursion has no end where no directories can be made, as below `/proc`. */
const makeDirectory = (path: string): void => {
  try {
    Fs.mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    if (Fs.existsSync(path)) return
    const parent = Path.dirname(path)
    if (!isMissing(error) || Fs.existsSync(parent)) throw error
    makeDirectory(parent)
    makeDirectory(path)
  }
}

const replaceIn = (parent: string, path: string, text: string, times?: Times) => {
  try {
    replace(path, text, times)
  } catch (error) {
    if (!isMissing(error)) throw error
    makeDirectory(parent)
    replace(path, text, times)
  }
}

const names = (parent: string): ReadonlyArray<string> => {
  try {
    return Fs.readdirSync(parent)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

/** `"Withheld"`: another process has just taken it, or it is another user's, or no file. */
const read = (path: string): ReadonlyArray<Ledger.Entry> | "Withheld" | "Unreadable" => {
  try {
    if (Fs.statSync(path).size > maximumBytes) return "Unreadable"
    return Option.match(decode(Fs.readFileSync(path, "utf8")), {
      onNone: () => "Unreadable" as const,
      onSome: ({ entries }) => entries
    })
  } catch {
    return "Withheld"
  }
}

const removeIfOld = (path: string, now: number) => {
  const writtenAt = Fs.statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? now
  if (now - writtenAt > KeptLeftovers.longestMillis) removeIfThere(path)
}

const unreadable = (path: string) =>
  Effect.logWarning(`${path} is not readable as a ledger and is deleted: what it said of mappings is lost`)

/** The ledger of this process in a directory. */
const storage = (parent: string, owner: ProcessTable.Owner): Ledger.Storage => {
  const newFile = (whose: ProcessTable.Owner) =>
    Path.join(parent, ProcessTable.fileName(whose, randomBytes(6).toString("hex")))
  const own = newFile(owner)
  /** Renamed, and not yet written to our own file. */
  let taken: Array<string> = []

  const write = (entries: ReadonlyArray<Ledger.Entry>) =>
    attempt(() => {
      if (entries.length === 0) removeIfThere(own)
      else replaceIn(parent, own, encode({ version, entries }))
      taken.forEach(removeIfThere)
      taken = []
    })

  /** Every other ledger's file, one of this process too, and whether its process is gone. */
  const files = Effect.gen(function* () {
    const found = (yield* attempt(() => names(parent))).flatMap((name) => {
      const path = Path.join(parent, name)
      const whose = ProcessTable.ownerOf(name)
      return whose === undefined || path === own || taken.includes(path) ? [] : [{ path, whose }]
    })
    return yield* Effect.forEach(found, (file) => Effect.map(isGone(file.whose), (gone) => ({ ...file, isGone: gone })))
  })

  const readOrDelete = Effect.fnUntraced(function* (path: string) {
    const content = read(path)
    if (content === "Withheld") return []
    if (content !== "Unreadable") return content
    yield* unreadable(path)
    yield* attempt(() => removeIfThere(path))
    return []
  })

  /** What is not wanted is as old as it was: else it would never be old. */
  const writeRest = (path: string, entries: ReadonlyArray<Ledger.Entry>, before: string) =>
    replaceIn(parent, path, encode({ version, entries }), Fs.statSync(before))

  const takeFile = Effect.fnUntraced(function* (
    { path, whose }: { readonly path: string; readonly whose: ProcessTable.Owner },
    wanted: (entry: Ledger.Entry) => boolean
  ) {
    const now = yield* Clock.currentTimeMillis
    if (path.endsWith(".tmp")) {
      yield* attempt(() => removeIfThere(path))
      return []
    }
    const entries = yield* readOrDelete(path)
    if (!entries.some(wanted)) {
      yield* attempt(() => removeIfOld(path, now))
      return []
    }
    return yield* attempt(() => {
      const mine = newFile(owner)
      try {
        Fs.renameSync(path, mine)
      } catch (error) {
        if (isMissing(error)) return []
        throw error
      }
      try {
        const others = entries.filter((entry) => !wanted(entry))
        if (others.length > 0) writeRest(newFile(whose), others, mine)
      } catch (error) {
        Fs.renameSync(mine, path)
        throw error
      }
      taken.push(mine)
      return entries.filter(wanted)
    })
  })

  const leaveFile = (path: string, { message }: Ledger.StorageError) =>
    Effect.as(Effect.logDebug(`${path} is not taken over: ${message}`), [])

  return {
    write,
    takeOver: Effect.fnUntraced(function* (wanted) {
      const gone = (yield* files).filter((file) => file.isGone)
      // What has been taken must come back from here, whatever becomes of the next one.
      const take = (file: (typeof gone)[number]) =>
        Effect.catch(takeFile(file, wanted), (error) => leaveFile(file.path, error))
      return (yield* Effect.forEach(gone, take)).flat()
    }),
    others: Effect.gen(function* () {
      const [alive, gone]: [Array<Ledger.Entry>, Array<Ledger.Entry>] = [[], []]
      for (const { isGone: is, path } of yield* files) {
        if (path.endsWith(".tmp")) continue
        const entries = read(path)
        if (typeof entries !== "string") (is ? gone : alive).push(...entries)
      }
      return { alive, gone }
    })
  }
}

/**
 * A ledger in a directory, which is made when there is something to write.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerIn = (parent: string): Layer.Layer<never> =>
  Layer.effect(
    Ledger.Ledger,
    Effect.flatMap(makeOwner, (owner) => Ledger.make(storage(parent, owner)))
  )

/**
 * The ledger in the user's state directory.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.unwrap(Effect.sync(() => layerIn(directory())))
