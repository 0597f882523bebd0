import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Arguments from "./arguments.ts"
import { root, run } from "./support.ts"

const most = String(Number.MAX_SAFE_INTEGER)

const command = {
  script: "example",
  options: {
    count: Arguments.whole({ about: "how many", fallback: 10, least: 1 }),
    from: Arguments.whole({ about: "the first", fallback: 0 }),
    alone: Arguments.whole({ about: "this one", fallback: undefined, isAlone: true }),
    fruit: Arguments.oneOf(["apple", "sour cherry"], "of this kind")
  },
  problem: ({ count, from }: { readonly count: number; readonly from: number }) =>
    Arguments.tooFar(from, count, "--from and --count")
}

const parse = (...args: ReadonlyArray<string>) => Arguments.parse(command, args)

describe("the arguments of a command", () => {
  const given = { count: 10, from: 0, alone: undefined, fruit: undefined }

  it.each([
    [[], given],
    [["--count", "1"], { ...given, count: 1 }],
    [["--count=3", "--from=0"], { ...given, count: 3 }],
    [["--from", "7", "--count", "007"], { ...given, from: 7, count: 7 }],
    [["--alone", "0"], { ...given, alone: 0 }],
    [["--fruit", "sour cherry", "--"], { ...given, fruit: "sour cherry" }],
    [["--from", String(Number.MAX_SAFE_INTEGER - 10)], { ...given, from: Number.MAX_SAFE_INTEGER - 10 }]
  ])("%j are read", (args, values) => {
    assert.deepStrictEqual(parse(...args), Result.succeed(values))
  })

  it.each([
    [["--seed", "1"], 'there is no option "--seed"'],
    [["--coun"], 'there is no option "--coun"'],
    [["-c", "1"], 'there is no option "-c"'],
    [["--no-count"], 'there is no option "--no-count"'],
    [["--constructor", "1"], 'there is no option "--constructor"'],
    [["--a\nb"], 'there is no option "--a\\nb"'],
    [["5"], '"5" belongs to no option'],
    [["--count", "5", "6"], '"6" belongs to no option'],
    [["--", "--count"], '"--count" belongs to no option'],
    [["--count"], "--count lacks its value"],
    [["--count", "--from", "3"], "--count lacks its value"],
    [["--count", "1", "--count", "2"], "--count is given twice"],
    [["--help=yes"], "--help takes no value"],
    ...["x", "", " ", "-5", "1.5", "1e3", "0x10", "NaN", "Infinity", "1 2", "1\n2"].map(
      (text) => [[`--count=${text}`], `--count takes a whole number, not ${JSON.stringify(text)}`] as const
    ),
    [["--count", "-5"], '--count takes a whole number, not "-5"'],
    [["--count", "0"], '--count takes a number from 1 on, not "0"'],
    [["--from", "9007199254740992"], `--from takes numbers up to ${most}, not 9007199254740992`],
    [["--from", most], `--from and --count together go beyond ${most}`],
    [["--count", most, "--from", "1"], `--from and --count together go beyond ${most}`],
    [["--alone", "1", "--from", "3"], "--alone does not go together with --from"],
    [["--count", "2", "--alone", "1", "--from", "3"], "--alone does not go together with --count and --from"],
    [["--fruit", "pear"], '--fruit takes no "pear": there are "apple", "sour cherry"'],
    [["--fruit", ""], '--fruit takes no "": there are "apple", "sour cherry"']
  ] satisfies ReadonlyArray<readonly [ReadonlyArray<string>, string]>)("%j are wrong", (args, problem) => {
    assert.deepStrictEqual(parse(...args), Result.fail(problem))
  })

  it("may ask for help, whatever else is there", () => {
    assert.deepStrictEqual(parse("--help"), Result.succeed("help"))
    assert.deepStrictEqual(parse("-h"), Result.succeed("help"))
    assert.deepStrictEqual(parse("--count", "x", "--help"), Result.succeed("help"))
  })

  it("are told in a line each", () => {
    assert.strictEqual(
      Arguments.help(command),
      `usage: npm run example -- [--count N] [--from N] [--alone N] [--fruit NAME]

  --count N     how many (10 if not given)
  --from N      the first (0 if not given)
  --alone N     this one
  --fruit NAME  of this kind: "apple", "sour cherry"
  --help        prints this`
    )
  })
})

const { scripts } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8")) as {
  readonly scripts: Readonly<Record<string, string>>
}

/** As `npm run` starts it, without npm and without building. */
const start = (script: string, args: ReadonlyArray<string>) => {
  const [program, ...before] = (scripts[script] ?? "").split(" && ").at(-1)?.split(" ") ?? []
  assert.strictEqual(program, "node")
  return run(process.execPath, [...before, ...args])
}

const usages = {
  simulate: "usage: npm run simulate -- [--seeds N] [--from N] [--seed N]",
  "simulate:mutants": "usage: npm run simulate:mutants -- [--seeds N] [--only NAME]",
  fuzz: "usage: npm run fuzz -- [--inputs N] [--from N] [--seed N] [--decoder NAME]"
} as const

describe("the campaigns' commands", () => {
  it.concurrent.each([
    ["simulate", ["--sedes", "5"], 'there is no option "--sedes"'],
    ["simulate", ["--seeds", "0"], '--seeds takes a number from 1 on, not "0"'],
    ["simulate", ["--seed", "1", "--from", "2"], "--seed does not go together with --from"],
    ["simulate", ["--from", most], `--from and --seeds together go beyond ${most}`],
    ["simulate:mutants", ["--seeds", "x"], '--seeds takes a whole number, not "x"'],
    ["simulate:mutants", ["--seeds", "0"], '--seeds takes a number from 1 on, not "0"'],
    ["simulate:mutants", ["--only", "nonsense"], '--only takes no "nonsense": there are "milliseconds-as-seconds", '],
    ["fuzz", ["--inputs"], "--inputs lacks its value"],
    ["fuzz", ["--inputs", "0"], '--inputs takes a number from 1 on, not "0"'],
    ["fuzz", ["--from", most], `--from and --inputs together go beyond ${most}`],
    ["fuzz", ["--decoder", "soap"], '--decoder takes no "soap": there are "ssdp", "location", ']
  ] as const)("npm run %s -- %j: says what is wrong, and no more", async (script, args, problem) => {
    const { output, status, stderr, stdout } = await start(script, args)
    assert.strictEqual(status, 2, output)
    assert.strictEqual(stdout, "")
    const [first, ...others] = stderr.split("\n")
    assert.strictEqual(first?.slice(0, script.length + 2 + problem.length), `${script}: ${problem}`)
    assert.deepStrictEqual(others, [usages[script], ""])
    assert.notMatch(stderr, /^\s+at /m)
  })

  it.concurrent.each([
    ["simulate", ["--seeds N .*2000", "--from N .*1 if", "--seed N "]],
    ["simulate:mutants", ["--seeds N .*1000", "--only NAME [^]*no-pause-after-failure"]],
    ["fuzz", ["--inputs N .*100000", "--from N .*0 if", "--seed N .*1 if", "--decoder NAME [^]*soap answer"]]
  ] as const)("npm run %s -- --help: prints its options", async (script, lines) => {
    const { output, status, stderr, stdout } = await start(script, ["--help"])
    assert.strictEqual(status, 0, output)
    assert.strictEqual(stderr, "")
    assert.strictEqual(stdout.split("\n")[0], usages[script])
    for (const line of [...lines, "--help "]) assert.match(stdout, new RegExp(`^  ${line}`, "m"))
    for (const line of stdout.split("\n")) assert.isAtMost(line.length, 120)
  })

  it.concurrent.each([
    ["simulate", ["--seed", "3"], /^seed 3: /],
    ["simulate", ["--seeds", "1", "--from", "3"], /^seeds 1, violated /m],
    [
      "fuzz",
      ["--decoder", "soap call", "--from", "7", "--inputs", "2", "--seed", "3"],
      /^seed 3, inputs 7 to 8 of each decoder\nsoap call +inputs 2, .*\ndecoders 1, violated 0/
    ]
  ] as const)("npm run %s -- %j: does so", async (script, args, printed) => {
    const { output, stdout } = await start(script, args)
    assert.match(stdout, printed, output)
  })
})
