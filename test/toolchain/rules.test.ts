/**
 * Each rule that guards the architecture must be able to fail: here it does, on sources that break it.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { root, run, temporaryFolder, write } from "./support.ts"

const folder = temporaryFolder()
afterAll(folder.remove)

const oxlint = (...args: ReadonlyArray<string>) =>
  run(
    process.execPath,
    [
      Path.join(root, "node_modules", "oxlint", "bin", "oxlint"),
      "--tsconfig",
      "scripts/oxlint.tsconfig.json",
      "--format",
      "unix",
      ...args
    ],
    { cwd: folder.path }
  )

beforeAll(() => {
  for (const name of [".oxlintrc.json", "scripts/oxlint.tsconfig.json"]) {
    write(folder.path, { [name]: Fs.readFileSync(Path.join(root, name), "utf8") })
  }
})

/** Which of these imports the rules complain of, in a file at this path. */
const complaints = async (path: string, specifiers: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  const imports = specifiers.map((specifier, i) => `import * as M${i} from "${specifier}"\n`)
  const use = `export const all = [${specifiers.map((_, i) => `M${i}`).join(", ")}]\n`
  write(folder.path, { [path]: imports.join("") + use })
  const { stdout } = await oxlint(path)
  const lines = [...stdout.matchAll(/^[^:\n]+:(\d+):.*\/(?:eslint\(no-restricted-imports|import\(no-nodejs-modules)/gm)]
  return specifiers.filter((_, i) => lines.some((line) => Number(line[1]) === i + 1))
}

describe("imports", () => {
  const allowed = ["effect/Effect", "effect/net/NetAddress", "@effect/platform-node/NodeSocket", "./Sibling.ts"]
  const barrels = ["effect", "effect/net", "@effect/platform-node", "@effect-nat/core"]
  const node = ["node:fs", "dgram"]
  const nat = ["effect-nat", "effect-nat/Automatic"]

  it("core imports no other package", async () => {
    const wrong = [
      ...barrels,
      ...node,
      ...nat,
      "@effect-nat/upnp/Upnp",
      "@effect-nat/core/Udp",
      "../../upnp/src/Upnp.ts"
    ]
    assert.deepStrictEqual(await complaints("packages/core/src/A.ts", [...allowed, ...wrong]), wrong)
  })

  for (const name of ["upnp", "natpmp", "dispatcher", "a-package-of-later"]) {
    it(`${name} imports core only`, async () => {
      const others = ["@effect-nat/other/Module", "@effect-nat/upnp/Upnp", "../../core/src/Udp.ts"]
      const wrong = [...barrels, ...node, ...nat, ...others]
      const right = [...allowed, "@effect-nat/core/Udp"]
      assert.deepStrictEqual(await complaints(`packages/${name}/src/A.ts`, [...right, ...wrong]), wrong)
    })
  }

  it("nat imports every package, but no barrel", async () => {
    const wrong = [...barrels, ...node, ...nat]
    const right = [...allowed, "@effect-nat/core/Udp", "@effect-nat/upnp/Upnp", "@effect-nat/dispatcher/Dispatcher"]
    assert.deepStrictEqual(await complaints("packages/nat/src/A.ts", [...right, ...wrong]), wrong)
  })

  it("types follow the arrows too", async () => {
    write(folder.path, {
      "packages/core/src/T.ts": `import type * as Upnp from "@effect-nat/upnp/Upnp"\nexport type T = Upnp.T\n`
    })
    assert.include((await oxlint("packages/core/src/T.ts")).stdout, "no-restricted-imports")
  })

  for (const path of [
    "packages/core/src/NodeA.ts",
    "packages/dispatcher/src/internal/a.ts",
    "packages/nat/src/cli/a.ts"
  ]) {
    it(`${path} may use Node, and still no barrel`, async () => {
      assert.deepStrictEqual(await complaints(path, [...node, "effect"]), ["effect"])
    })
  }
})

describe("import cycles", () => {
  it("between two files", async () => {
    write(folder.path, {
      "packages/core/src/C1.ts": `import * as C2 from "./C2.ts"\nexport const one = () => C2.two()\n`,
      "packages/core/src/C2.ts": `import * as C1 from "./C1.ts"\nexport const two = () => C1.one()\n`
    })
    assert.include((await oxlint("packages")).stdout, "packages/core/src/C1.ts:1:21: Dependency cycle")
  })

  it("between two packages", async () => {
    write(folder.path, {
      "packages/core/src/C3.ts": `import * as C4 from "@effect-nat/upnp/C4"\nexport const three = () => C4.four()\n`,
      "packages/upnp/src/C4.ts": `import * as C3 from "@effect-nat/core/C3"\nexport const four = () => C3.three()\n`
    })
    const { stdout } = await oxlint("packages")
    assert.include(stdout, "packages/core/src/C3.ts:1:21: Dependency cycle")
    assert.include(stdout, "packages/upnp/src/C4.ts:1:21: Dependency cycle")
  })
})

describe("doc comments", () => {
  const check = async (text: string) => {
    write(folder.path, { "docs/src/A.ts": text })
    const { status, stderr } = await run(
      process.execPath,
      [Path.join(root, "scripts", "check-docs.js"), Path.join(folder.path, "docs")],
      { cwd: Path.join(folder.path, "docs", "src") }
    )
    assert.strictEqual(status, stderr === "" ? 0 : 1)
    return stderr.trim().split("\n").filter(Boolean)
  }
  const header = "/**\n * A module.\n *\n * @since 0.1.0\n */\n"
  const doc = "/**\n * An export.\n *\n * @category models\n * @since 0.1.0\n */\n"

  it("complete ones pass", async () => {
    const overloads =
      "export function f(a: 1): 1\nexport function f(a: 2): 2\nexport function f(a: number) { return a }\n"
    assert.deepStrictEqual(
      await check(`${header}import * as B from "./B.ts"\n\n${doc}export const a = B.b\n\n${doc}${overloads}`),
      []
    )
  })

  it("missing ones fail", async () => {
    assert.deepStrictEqual(await check("export const a = 1\n\nexport type A = 1\n"), [
      "A.ts:1: a: no doc comment",
      "A.ts:3: A: no doc comment",
      "A.ts:1: module header: no doc comment"
    ])
  })

  it("a module's header is not its first export's comment", async () => {
    assert.deepStrictEqual(await check(`${doc}export const a = 1\n`), ["A.ts:1: module header: no doc comment"])
  })

  it("incomplete ones fail", async () => {
    assert.deepStrictEqual(
      await check(
        `${header}\n/** An export. */\nexport interface A {}\n\n/**\n * @category Utils\n * @since now\n */\nexport class B {}\n`
      ),
      [
        "A.ts:8: A: needs one @since x.y.z",
        "A.ts:8: A: needs one @category, in lower case",
        "A.ts:14: B: the doc comment says nothing",
        "A.ts:14: B: needs one @since x.y.z",
        "A.ts:14: B: needs one @category, in lower case"
      ]
    )
  })

  it("names that are exported in a list need one each", async () => {
    assert.deepStrictEqual(await check(`${header}\nconst a = 1\nexport { a, a as b }\nexport * from "./B.ts"\n`), [
      "A.ts:8: a: no doc comment",
      "A.ts:8: b: no doc comment",
      "A.ts:9: export *: no doc comment"
    ])
  })
})

describe("generated indexes", () => {
  const generate = (...args: ReadonlyArray<string>) =>
    run(process.execPath, [Path.join(root, "scripts", "generate-index.js"), ...args], {
      cwd: Path.join(folder.path, "indexed")
    })

  it("are written from the headers, and stale ones fail", async () => {
    write(folder.path, {
      "indexed/packages/one/package.json": "{}",
      "indexed/packages/one/src/Beta.ts":
        '/**\n * The second\n * letter. Not the first.\n *\n * @since 0.2.0\n */\nimport "./Alpha.ts"\n',
      "indexed/packages/one/src/Alpha.ts":
        "/**\n * The first letter: `a`.\n *\n * @since 0.1.0\n */\nconst a = 1\nexport { a }\n",
      "indexed/packages/one/src/cli/Main.ts": "export {}\n",
      "indexed/packages/one/src/internal/gamma.ts": "export {}\n"
    })
    assert.strictEqual((await generate("--check", ".")).status, 1)
    assert.strictEqual((await generate(".")).status, 0)
    const index = Path.join(folder.path, "indexed", "packages", "one", "src", "index.ts")
    assert.strictEqual(
      Fs.readFileSync(index, "utf8"),
      [
        `// Written by "npm run generate" from the modules' headers. Do not edit.\n`,
        `/**\n * The first letter: \`a\`.\n *\n * @since 0.1.0\n */\nexport * as Alpha from "./Alpha.ts"\n`,
        `/**\n * The second letter.\n *\n * @since 0.2.0\n */\nexport * as Beta from "./Beta.ts"\n`
      ].join("\n")
    )
    assert.strictEqual((await generate("--check", ".")).status, 0)
    Fs.rmSync(Path.join(folder.path, "indexed", "packages", "one", "src", "Beta.ts"))
    assert.strictEqual((await generate("--check", ".")).status, 1)
  })
})

describe("examples", () => {
  const check = async (text: string) => {
    write(folder.path, { "example.md": text })
    return run(process.execPath, [
      Path.join(root, "scripts", "check-examples.js"),
      Path.join(folder.path, "example.md")
    ])
  }

  it("must compile, and errors name their lines", async () => {
    const fine = await check(
      '# A\n\n```ts\nimport * as Effect from "effect/Effect"\nexport const a = Effect.void\n```\n'
    )
    assert.deepStrictEqual(fine, { ...fine, status: 0, stdout: "examples: 1 checked\n" })
    const wrong = await check("# A\n\n```sh\nls\n```\n\n- in a list:\n\n  ```ts\n  const a: string = 1\n  ```\n")
    assert.strictEqual(wrong.status, 1, wrong.output)
    assert.include(wrong.stderr, "example.md(10,")
  })
})

describe("Effect's diagnostics", () => {
  it("find an effect that nobody runs, and time that is not the Clock's", async (context) => {
    const binary = Path.join(root, "node_modules", "@effect", `tsgo-${process.platform}-${process.arch}`)
    if (!Fs.existsSync(binary) && !process.env["CI"]) context.skip("@effect/tsgo has no binary for this machine")
    Fs.symlinkSync(Path.join(root, "node_modules"), Path.join(folder.path, "node_modules"))
    write(folder.path, {
      "package.json": `{ "type": "module" }`,
      "diagnosed.json": JSON.stringify({
        extends: Path.join(root, "tsconfig.base.json"),
        compilerOptions: { noEmit: true, types: ["node"] },
        files: ["diagnosed.ts"]
      }),
      "diagnosed.ts": `import * as Effect from "effect/Effect"\nEffect.void\nexport const now = () => Date.now()\n`
    })
    const { status, stderr } = await run(process.execPath, [
      Path.join(root, "scripts", "check-effect.js"),
      Path.join(folder.path, "diagnosed.json")
    ])
    assert.strictEqual(status, 1)
    assert.include(stderr, "diagnosed.ts(2,1): error effect(floatingEffect)")
    assert.include(stderr, "diagnosed.ts(3,26): error effect(globalDate)")
  })
})
