/**
 * What a campaign's command is told on its command line.
 *
 * A wrong argument is one line that says what is wrong and a line of usage, and exit status 2: status 1 is for what a
 * campaign finds.
 */
import * as Result from "effect/Result"
import { parseArgs } from "node:util"

/** An option, which always has a value. */
export interface Option<A> {
  /** What stands for the value in the usage. */
  readonly placeholder: string
  readonly about: string
  /** The value where the option is not given. */
  readonly fallback: A
  /** Whether it goes with no other option. */
  readonly isAlone: boolean
  /** The value, or what is wrong with it, to be said after the option's name. */
  readonly read: (text: string) => Result.Result<A, string>
}

export type Options = Readonly<Record<string, Option<unknown>>>

/** The values of all options, given or not. */
export type Values<O extends Options> = {
  readonly [Name in keyof O]: O[Name] extends Option<infer A> ? A : never
}

export interface Command<O extends Options> {
  /** Its name in package.json. */
  readonly script: string
  readonly options: O
  /** What is wrong with values that are right one by one. */
  readonly problem?: (values: Values<O>) => string | undefined
}

/** Whatever was typed stays on one line. */
const quoted = (text: string): string => JSON.stringify(text)

/** A whole number that is not negative. */
export const whole = <Fallback extends number | undefined>(options: {
  readonly about: string
  readonly fallback: Fallback
  readonly least?: number
  readonly isAlone?: boolean
}): Option<number | Fallback> => {
  const { about, fallback, isAlone = false, least = 0 } = options
  const read = (text: string): Result.Result<number, string> => {
    const number = Number(text)
    if (!/^\d+$/.test(text)) return Result.fail(`takes a whole number, not ${quoted(text)}`)
    if (number < least) return Result.fail(`takes a number from ${least} on, not ${quoted(text)}`)
    if (!Number.isSafeInteger(number)) return Result.fail(`takes numbers up to ${Number.MAX_SAFE_INTEGER}, not ${text}`)
    return Result.succeed(number)
  }
  return { placeholder: "N", about, fallback, isAlone, read }
}

/** One of these names, or `undefined` where none is given. */
export const oneOf = (names: ReadonlyArray<string>, about: string): Option<string | undefined> => {
  const known = names.map(quoted).join(", ")
  return {
    placeholder: "NAME",
    about: `${about}: ${known}`,
    fallback: undefined,
    isAlone: false,
    read: (text) =>
      names.includes(text) ? Result.succeed(text) : Result.fail(`takes no ${quoted(text)}: there are ${known}`)
  }
}

/** What is wrong with numbers in a row, `count` of them, if the last of them is too great to count to. */
export const tooFar = (from: number, count: number, names: string): string | undefined =>
  Number.isSafeInteger(from + count) ? undefined : `${names} together go beyond ${Number.MAX_SAFE_INTEGER}`

const shape = ([name, { placeholder }]: readonly [string, Option<unknown>]): string => `--${name} ${placeholder}`

/** The line that says how a command is called. */
export const usage = <O extends Options>({ options, script }: Command<O>): string =>
  [`usage: npm run ${script} --`, ...Object.entries(options).map((entry) => `[${shape(entry)}]`)].join(" ")

const lineLength = 120

/** Long lists go on below where they began. */
const wrap = (text: string, column: number): string => {
  const lines: Array<string> = []
  for (const piece of text.split(/(?<=,) /)) {
    const last = lines.at(-1)
    const joined = `${last} ${piece}`
    if (last !== undefined && column + joined.length <= lineLength) lines[lines.length - 1] = joined
    else lines.push(piece)
  }
  return lines.join(`\n${" ".repeat(column)}`)
}

/** The usage, and a line for each option, or several where it has many values. */
export const help = <O extends Options>(command: Command<O>): string => {
  const lines = Object.entries(command.options).map(([name, option]) => {
    const { about, fallback } = option
    return [shape([name, option]), fallback === undefined ? about : `${about} (${fallback} if not given)`] as const
  })
  const all = [...lines, ["--help", "prints this"] as const]
  const column = Math.max(...all.map(([shape]) => shape.length)) + 4
  return [usage(command), "", ...all.map(([shape, about]) => `  ${shape}`.padEnd(column) + wrap(about, column))].join(
    "\n"
  )
}

const tokensOf = (options: Options, args: ReadonlyArray<string>) => {
  const withValue = Object.keys(options).map((name) => [name, { type: "string" as const }] as const)
  return parseArgs({
    args: [...args],
    options: { ...Object.fromEntries(withValue), help: { type: "boolean", short: "h" } },
    // Otherwise it throws, in the middle of its own advice.
    strict: false,
    allowPositionals: true,
    tokens: true
  }).tokens
}

type Token = ReturnType<typeof tokensOf>[number]

const isHelp = (token: Token): boolean => token.kind === "option" && token.name === "help" && token.value === undefined

/** What was given, by the options' names. */
const givenIn = (
  options: Options,
  tokens: ReadonlyArray<Token>
): Result.Result<ReadonlyMap<string, string>, string> => {
  const given = new Map<string, string>()
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue
    if (token.kind === "positional") return Result.fail(`${quoted(token.value)} belongs to no option`)
    const { inlineValue, name, rawName, value } = token
    if (name === "help") return Result.fail("--help takes no value")
    if (!Object.hasOwn(options, name)) return Result.fail(`there is no option ${quoted(rawName)}`)
    if (given.has(name)) return Result.fail(`--${name} is given twice`)
    // The next option is no value; what looks like a negative number is one, and a wrong one.
    if (value === undefined || (inlineValue !== true && value.startsWith("--"))) {
      return Result.fail(`--${name} lacks its value`)
    }
    given.set(name, value)
  }
  return Result.succeed(given)
}

/** What is wrong with options that are right one by one. */
const clash = (options: Options, given: ReadonlyMap<string, string>): string | undefined => {
  const alone = [...given.keys()].find((name) => options[name]?.isAlone)
  if (alone === undefined || given.size === 1) return undefined
  const others = [...given.keys()].filter((name) => name !== alone).map((name) => `--${name}`)
  return `--${alone} does not go together with ${others.join(" and ")}`
}

const valuesOf = <O extends Options>(
  options: O,
  given: ReadonlyMap<string, string>
): Result.Result<Values<O>, string> => {
  const values: Record<string, unknown> = {}
  for (const [name, { fallback, read }] of Object.entries(options)) {
    const text = given.get(name)
    const value = text === undefined ? Result.succeed(fallback) : read(text)
    if (Result.isFailure(value)) return Result.fail(`--${name} ${value.failure}`)
    values[name] = value.success
  }
  return Result.succeed(values as Values<O>)
}

/** The values, or what is wrong; `"help"` where help is asked for, whatever else is there. */
export const parse = <O extends Options>(
  { options, problem }: Command<O>,
  args: ReadonlyArray<string>
): Result.Result<Values<O> | "help", string> => {
  const tokens = tokensOf(options, args)
  if (tokens.some(isHelp)) return Result.succeed("help")
  return Result.gen(function* () {
    const given = yield* givenIn(options, tokens)
    const clashing = clash(options, given)
    if (clashing !== undefined) return yield* Result.fail(clashing)
    const values = yield* valuesOf(options, given)
    const wrong = problem?.(values)
    return wrong === undefined ? values : yield* Result.fail(wrong)
  })
}

/** The values that this process is told; it ends here where they are wrong, or where help is asked for. */
export const read = <O extends Options>(command: Command<O>): Values<O> => {
  const parsed = parse(command, process.argv.slice(2))
  if (Result.isFailure(parsed)) {
    console.error(`${command.script}: ${parsed.failure}\n${usage(command)}`)
    return process.exit(2)
  }
  if (parsed.success !== "help") return parsed.success
  console.log(help(command))
  return process.exit(0)
}
