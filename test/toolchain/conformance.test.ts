/**
 * The conformance table must be able to fail: each way in which it does, on requirements and tests of its own.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Conformance from "../conformance/Conformance.ts"
import { root, run, temporaryFolder, write } from "./support.ts"

describe("tags", () => {
  it.each([
    ["wraps around [DOC 4.3.2-d]", ["DOC 4.3.2-d"]],
    ["several [DOC 4.1.1-ab, 4.2-c, RFC 6887 8.5-a]", ["DOC 4.1.1-a", "DOC 4.1.1-b", "DOC 4.2-c", "RFC 6887 8.5-a"]],
    ["twice [DOC 1-a] and [DOC 1-ab]", ["DOC 1-a", "DOC 1-b"]],
    ["a list [1, 2]", []],
    ["no document [4.1-a]", []],
    ["no letter [DOC 4.1]", []],
    ["half of it [DOC 4.1-a, and more]", []]
  ])("of %j", (title, ids) => {
    assert.deepStrictEqual(Conformance.idsOf(title), ids)
    assert.strictEqual(Conformance.withoutIds(title) === title, ids.length === 0)
  })
})

const folder = temporaryFolder()
afterAll(folder.remove)

const must = (more: object = {}) => ({ level: "MUST", text: "Something is done.", ...more })

const requirements = { "1.1-a": must(), "1.2-a": must(), "2-a": must({ doesNotApply: "nobody does it" }) }

const sections = { "1.1": "first", "1.2": "second", "2": "last" }

interface Sample {
  readonly requirements?: object
  readonly sections?: object
  /** The file of the tests. */
  readonly tests?: string
}

const shown = `it("one [DOC 1.1-a]", () => {})\ndescribe("two [DOC 1.2-a]", () => { it("inside", () => {}) })\n`

const lay = (sample: Sample = {}) =>
  write(folder.path, {
    "test/conformance/sample.ts": `export const page = ${JSON.stringify({
      title: "A sample",
      intro: "Words.",
      documents: [{ key: "DOC", title: "The document", scope: "All of it.", sections, requirements, ...sample }]
    })}\n`,
    "test/a.test.ts": sample.tests ?? shown,
    "test/b.test.ts": `it("is not tagged", () => {})\n`
  })

const page = Path.join(folder.path, "docs", "conformance-sample.md")

const script = (...args: ReadonlyArray<string>) =>
  run(process.execPath, [Path.join(root, "scripts", "conformance.js"), ...args, folder.path])

describe("the script", () => {
  it("writes the page, and finds it as it wrote it", async () => {
    lay()
    assert.strictEqual((await script()).status, 0)
    const text = Fs.readFileSync(page, "utf8")
    assert.include(text, "| DOC 1.1-a | first | MUST | Something is done. | [a.test.ts](../test/a.test.ts): one |")
    assert.include(text, "| DOC 2-a | last | MUST | Something is done. | does not apply: nobody does it |")
    assert.include(text, "All of it.\n\nIn tags: `DOC`. 3 requirements, 1 of which does not apply.")
    assert.strictEqual((await script("--check")).status, 0)
  })

  it.each<readonly [string, Sample, string]>([
    ["a title has changed", { tests: shown.replace("one ", "other ") }, "docs/conformance-sample.md is stale"],
    ["a row has no test", { tests: shown.replace("[DOC 1.1-a]", "") }, "DOC 1.1-a is shown by no test"],
    ["a tag is in a comment only", { tests: `// it("one [DOC 1.1-a]")\n` }, "DOC 1.1-a is shown by no test"],
    ["a tag is in another text", { tests: `show("one [DOC 1.1-a]")\n` }, "DOC 1.1-a is shown by no test"],
    [
      "a section has no row",
      { sections: { ...sections, "3": "more" } },
      "DOC 3 has requirements for clients and no row"
    ],
    ["a row has no section", { sections: { "1.1": "first", "2": "last" } }, "DOC 1.2-a is of no listed section"],
    [
      "a row has no letter",
      { requirements: { ...requirements, "1.1": must() } },
      "DOC 1.1 is no section with a letter"
    ],
    [
      "a test names a row that does not exist",
      { tests: `${shown}it("three [DOC 1.1-b]", () => {})\n` },
      `a.test.ts: "three" shows DOC 1.1-b, which is no requirement`
    ],
    [
      "a test shows what does not apply",
      { tests: `${shown}it("three [DOC 2-a]", () => {})\n` },
      "DOC 2-a does not apply, and a test shows it"
    ]
  ])("fails where %s", async (_, sample, complaint) => {
    lay()
    await script()
    lay(sample)
    const { output, status, stderr } = await script("--check")
    assert.strictEqual(status, 1, output)
    assert.include(stderr, complaint)
  })
})

describe("a run of the tests", () => {
  beforeAll(() => {
    write(folder.path, {
      "vitest.config.js": `export default ${JSON.stringify({
        test: {
          globals: true,
          include: ["test/**/*.test.ts"],
          reporters: ["default", Path.join(root, "scripts", "conformance-reporter.js")]
        }
      })}\n`
    })
  })

  const vitest = (...args: ReadonlyArray<string>) =>
    run(process.execPath, [Path.join(root, "node_modules", "vitest", "vitest.mjs"), "run", ...args], {
      cwd: folder.path,
      env: { ...process.env, CI: "" }
    })

  it("passes where every requirement is shown", async () => {
    lay()
    const { output, status } = await vitest()
    assert.strictEqual(status, 0, output)
  })

  it("passes where titles are only known when the tests run", async () => {
    lay({
      tests: `${shown}for (const one of ["(1)", "2"]) it(\`three \${one} [DOC 1.1-a]\`, () => {})
it.each([["a", { b: "c" }]])("four %s of %j, 100 %% [DOC 1.1-a]", () => {})
it.each([{ name: "(x)" }])("five $name? [DOC 1.1-a]", () => {})
describe.each(["a", "b"])("six %s", () => { it("a [1] (b) [DOC 1.1-a]", () => {}) })\n`
    })
    const { output, status } = await vitest()
    assert.strictEqual(status, 0, output)
  })

  const neverRan = "DOC 1.1-a: a test did not run (a.test.ts: three"

  it.each([
    ["no test shows a requirement", shown.replace("[DOC 1.1-a]", ""), "DOC 1.1-a: no test ran"],
    ["a test that shows one is skipped", shown.replace("it(", "it.skip("), "DOC 1.1-a: a test did not run"],
    ["all of a describe are", shown.replace("describe(", "describe.skip("), "DOC 1.2-a: a test did not run"],
    ["one of several is", `${shown}it.skip("three [DOC 1.1-a]", () => {})\n`, "DOC 1.1-a: a test did not run"],
    ["one of several fails", `${shown}it("three [DOC 1.1-a]", () => { throw 1 })\n`, "DOC 1.1-a: a test failed"],
    ["one of several is never declared", `${shown}if (false) it("three [DOC 1.1-a]", () => {})\n`, neverRan],
    ["one of several has no case", `${shown}it.each([])("three %s [DOC 1.1-a]", () => {})\n`, neverRan],
    [
      "the one test is to fail",
      shown.replace("it(", "it.fails(").replace("{}", "{ throw 1 }"),
      "DOC 1.1-a: a test failed"
    ],
    [
      "one of several is to fail",
      `${shown}it.fails("three [DOC 1.1-a]", () => { throw 1 })\n`,
      "DOC 1.1-a: a test failed (a.test.ts: three)"
    ],
    [
      "all of a describe are to fail",
      `${shown}describe("three [DOC 1.1-a]", () => { it.fails("inside", () => { throw 1 }) })\n`,
      "DOC 1.1-a: a test failed (a.test.ts: three)"
    ]
  ])("fails where %s", async (_, tests, complaint) => {
    lay({ tests })
    const { output, status, stderr } = await vitest()
    assert.strictEqual(status, 1, output)
    assert.include(stderr, complaint)
  })

  it("fails where a file is left out for good", async () => {
    lay()
    const { output, status, stderr } = await vitest("--exclude", "test/a.test.ts")
    assert.strictEqual(status, 1, output)
    assert.include(stderr, "DOC 1.1-a: a test did not run (a.test.ts: one)")
  })

  it("says nothing where it is a run of a part", async () => {
    lay({ tests: shown.replace("it(", "it.skip(") })
    for (const args of [["test/a.test.ts"], ["test/b.test.ts"], ["-t", "inside"]]) {
      const { output, status } = await vitest(...args)
      assert.strictEqual(status, 0, output)
    }
  })
})
