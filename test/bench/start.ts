/**
 * What a start costs: the wall time and the peak memory of whole processes, beside those of an empty program.
 *
 * All programs take turns in each round, so that a busy moment of the machine falls on all of them alike; what is
 * printed are medians, and ratios to the empty program's median of the same run. Memory is measured in rounds of its
 * own, with a hook that reads it as the process ends, so that the hook costs the times nothing.
 *
 * `npm run bench:start [-- rounds]`; node:child_process only.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const here = fileURLToPath(new URL(".", import.meta.url))
const bin = fileURLToPath(new URL("../../packages/nat/bin/effect-nat.js", import.meta.url))
const rounds = Math.max(15, Number(process.argv[2] ?? 25) || 25)
const memoryRounds = 15

interface Program {
  readonly name: string
  readonly args: ReadonlyArray<string>
  /** What counts as done: the end of the process, or its first line on standard output. */
  readonly until: "end" | "first line"
}

const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-nat-bench-"))
const empty = Path.join(folder, "empty.js")
Fs.writeFileSync(empty, "")
const peakMemoryFile = Path.join(folder, "peak-memory")

const map = ["map", "12000", "--strategy", "manual", "--external-address", "11.22.33.1", "--json"]
const programs: ReadonlyArray<Program> = [
  { name: "an empty program", args: [empty], until: "end" },
  { name: "effect-nat --version", args: [bin, "--version"], until: "end" },
  { name: `effect-nat ${map.slice(0, 4).join(" ")} …, to its first line`, args: [bin, ...map], until: "first line" }
]

interface Measured {
  readonly milliseconds: number
  readonly kilobytes: number
}

/** The most memory that a living process has held so far. */
const peakOf = (pid: number): number | undefined => {
  try {
    const found = /^VmHWM:\s*(\d+) kB/m.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
    return found === undefined ? undefined : Number(found)
  } catch {
    return undefined
  }
}

const measure = (program: Program, withMemory: boolean): Promise<Measured> =>
  new Promise((resolve, reject) => {
    const hook = withMemory ? ["--require", Path.join(here, "peak-memory.cjs")] : []
    let firstLine: Measured | undefined
    const output = { stdout: "", stderr: "" }
    const start = performance.now()
    const child = ChildProcess.spawn(process.execPath, [...hook, ...program.args], {
      env: { ...process.env, PEAK_MEMORY_FILE: peakMemoryFile },
      stdio: ["ignore", "pipe", "pipe"]
    })
    const limit = setTimeout(() => child.kill("SIGKILL"), 30_000)
    child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text))
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output.stdout += text
      if (program.until === "end" || firstLine !== undefined || !output.stdout.includes("\n")) return
      firstLine = { milliseconds: performance.now() - start, kilobytes: peakOf(child.pid ?? 0) ?? 0 }
      child.kill("SIGINT")
    })
    child.on("error", reject)
    child.on("close", (status, signal) => {
      const milliseconds = performance.now() - start
      clearTimeout(limit)
      const isFine = program.until === "end" ? status === 0 : firstLine !== undefined && status === 130
      if (!isFine) {
        reject(new Error(`${program.name}: ended with ${status ?? signal}\n${output.stdout}${output.stderr}`))
        return
      }
      const atEnd = withMemory ? Number(Fs.readFileSync(peakMemoryFile, "utf8")) : 0
      // Where no living process shows its peak, the peak at its end must do.
      resolve({
        milliseconds: firstLine?.milliseconds ?? milliseconds,
        kilobytes: firstLine?.kilobytes || atEnd
      })
    })
  })

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN

const results = programs.map((program) => ({ program, times: Array<number>(), memory: Array<number>() }))
/** Programs that do not run are left out, and said so. */
const failures = new Map<string, string>()

for (let round = -1; round < rounds + memoryRounds; round++) {
  for (const { program, times, memory } of results) {
    if (failures.has(program.name)) continue
    try {
      const measured = await measure(program, round >= rounds)
      // The first round warms the file cache.
      if (round >= rounds) memory.push(measured.kilobytes / 1024)
      else if (round >= 0) times.push(measured.milliseconds)
    } catch (error) {
      failures.set(program.name, String(error))
    }
  }
}
Fs.rmSync(folder, { recursive: true, force: true })

const row = (cells: ReadonlyArray<string>) =>
  cells.map((cell, i) => (i === 0 ? cell.padEnd(60) : cell.padStart(9))).join("")

console.log(`Node ${process.version}, ${process.platform} ${process.arch}, ${Os.availableParallelism()} cores`)
console.log(`medians of ${rounds} rounds for time, ${memoryRounds} for peak memory; ratios to the empty program\n`)
console.log(row(["", "ms", "ratio", "MB", "ratio"]))
const base = results[0]
for (const { program, times, memory } of results) {
  if (failures.has(program.name)) continue
  const [time, peak] = [median(times), median(memory)]
  const [timeRatio, peakRatio] = [time / median(base?.times ?? []), peak / median(base?.memory ?? [])]
  console.log(row([program.name, time.toFixed(1), timeRatio.toFixed(2), peak.toFixed(1), peakRatio.toFixed(2)]))
}
for (const message of failures.values()) console.error(`\n${message}`)
if (failures.size > 0) process.exitCode = 1
