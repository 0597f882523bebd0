/**
 * Lines at the foot of a terminal that are written anew in place, while what else is printed goes on above them.
 *
 * They are written through the console, and nothing is set that would have to be set back: a program that is killed
 * leaves its last lines, and that is all.
 */
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import * as Stdio from "effect/Stdio"
import * as Terminal from "effect/Terminal"
import * as LiveView from "./LiveView.ts"

/** The foot of a terminal. */
export interface LiveTerminal {
  /** Prints above the lines; whoever has it as their console prints so. */
  readonly console: Console.Console
  /** Writes the lines in the place of those before them. They must fit: in width, and with a row to spare. */
  readonly draw: (lines: ReadonlyArray<string>) => Effect.Effect<void>
  /** Takes the lines away for good. */
  readonly erase: Effect.Effect<void>
}

/** Of a terminal that does not know its size. */
const usualColumns = 80
const usualRows = 24

const cursorUp = (rows: number): string => (rows === 0 ? "" : `\u001b[${rows}A`)

const eraseBelow = "\u001b[0J"

/** Where a terminal was made narrower its lines were broken, and take more rows. */
const rowsOf = (lines: ReadonlyArray<string>, columns: number): number =>
  lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(LiveView.width(line) / columns)), 0)

/**
 * Takes the foot of the terminal that a console prints to. `columns` says how wide it is now; whether standard error goes
 * there too decides about what is said there.
 */
export const make = (underlying: Console.Console, columns: () => number, isErrorShown: boolean): LiveTerminal => {
  let shown: ReadonlyArray<string> = []
  const takeAway = (): string =>
    shown.length === 0 ? "" : `\r${cursorUp(rowsOf(shown, columns() || usualColumns))}${eraseBelow}`
  const above =
    (print: (...args: ReadonlyArray<unknown>) => void) =>
    (...args: ReadonlyArray<unknown>): void => {
      if (shown.length === 0) return print(...args)
      print(takeAway() + args.map(String).join(" "))
      underlying.log(shown.join("\n"))
    }
  const print = (name: "debug" | "info" | "log") => above((...args) => underlying[name](...args))
  const complain = (name: "error" | "trace" | "warn") =>
    isErrorShown ? above((...args) => underlying[name](...args)) : underlying[name].bind(underlying)
  const replace = (lines: ReadonlyArray<string>) => {
    const erasure = takeAway()
    shown = lines
    if (lines.length > 0) underlying.log(erasure + lines.join("\n"))
    // A console ends what it prints with a new line: one up, one down.
    else if (erasure !== "") underlying.log(erasure + cursorUp(1))
  }
  return {
    console: {
      ...underlying,
      debug: print("debug"),
      info: print("info"),
      log: print("log"),
      error: complain("error"),
      trace: complain("trace"),
      warn: complain("warn")
    },
    draw: (lines) => Effect.sync(() => replace(lines)),
    erase: Effect.sync(() => replace([]))
  }
}

/** How much room there is now. */
export const size = Effect.gen(function* () {
  const terminal = yield* Terminal.Terminal
  const [columns, rows] = [yield* terminal.columns, yield* terminal.rows]
  // What fills the last column or row makes it scroll.
  return { columns: (columns || usualColumns) - 1, rows: (rows || usualRows) - 1 }
})

/** Shows what a dispatcher is doing, once a second, for ever; the lines are taken away when it is interrupted. */
export const show = Effect.fnUntraced(function* (terminal: LiveTerminal, status: Effect.Effect<LiveView.Status>) {
  const last = yield* Ref.make<LiveView.Status | undefined>(undefined)
  const drawOnce = Effect.gen(function* () {
    const [room, now] = [yield* size, yield* status]
    const before = yield* Ref.getAndSet(last, now)
    yield* terminal.draw(LiveView.lines(before, now, room))
  })
  yield* drawOnce.pipe(Effect.repeat(Schedule.spaced("1 second")), Effect.ensuring(terminal.erase))
})

/** The foot of this program's terminal; none where nobody would see it. */
export const take = Effect.gen(function* () {
  const { canAnimate } = yield* TerminalCapabilities.TerminalCapabilities
  if (!canAnimate) return undefined
  const stdio = yield* Stdio.Stdio
  const terminal = yield* Terminal.Terminal
  const context = yield* Effect.context<never>()
  const columns = () => Effect.runSyncWith(context)(terminal.columns)
  return make(yield* Console.Console, columns, yield* stdio.stderrIsTerminal)
})
