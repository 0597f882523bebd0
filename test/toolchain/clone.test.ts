/**
 * The repository as a newcomer gets it, and the packages as their users get them: cloned, installed, packed.
 *
 * The clone has what git knows, with the changes of this work tree: a file that was never added is missing there, as
 * it would be for everybody else.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { readManifest, root, run, succeed, temporaryFolder, userEnvironment, workspace, write } from "./support.ts"

const folder = temporaryFolder()
const clone = Path.join(folder.path, "clone")
const tarballs = Path.join(folder.path, "tarballs")
const env = userEnvironment()
const quiet = ["--loglevel=error", "--prefer-offline", "--no-audit", "--no-fund"]

/** npx gives what stands before `--` to npm itself: `npx --no effect-nat --version` asks for npm's own version. */
const npx = (...args: ReadonlyArray<string>) => run("npx", ["--no", "--", ...args], { cwd: clone, env })

/** One entry of what `npm pack --json` prints. */
interface Packed {
  readonly name: string
  readonly version: string
  readonly filename: string
  readonly files: ReadonlyArray<{ readonly path: string; readonly mode: number }>
}

let packed: ReadonlyArray<Packed> = []
let changed = ""

const gitState = async () =>
  (await succeed("git", ["status", "--porcelain"], { cwd: clone })) + (await succeed("git", ["diff"], { cwd: clone }))

beforeAll(async () => {
  await succeed("git", ["clone", "--quiet", "--depth", "1", `file://${root}`, clone])
  const changes = await succeed("git", ["diff", "--binary", "HEAD"])
  if (changes !== "") await succeed("git", ["apply", "--whitespace=nowarn", "-"], { cwd: clone, input: changes })
  changed = await gitState()
  await succeed("npm", ["ci", ...quiet], { cwd: clone, env })
  Fs.mkdirSync(tarballs)
  const pack = ["pack", "--workspaces", "--json", "--pack-destination", tarballs]
  packed = JSON.parse(await succeed("npm", pack, { cwd: clone, env })) as ReadonlyArray<Packed>
}, 240_000)
afterAll(folder.remove)

describe("a fresh clone after npm ci", () => {
  it("has a command that runs", async () => {
    const finished = await npx("effect-nat", "--version")
    assert.strictEqual(finished.stdout, "effect-nat v0.1.0\n", finished.output)
    assert.strictEqual(finished.status, 0)
  })

  it("has a command that is built", async () => {
    const finished = await npx("effect-nat", "--help")
    assert.strictEqual(finished.status, 0, finished.output)
    assert.include(finished.stdout, "map")
  })

  it("runs its scripts with the Node that package.json pins", async () => {
    assert.strictEqual((await npx("node", "--version")).stdout, `${process.version}\n`)
  })

  it("is as clean as it was", async () => {
    assert.strictEqual(await gitState(), changed)
  })
})

/** A package, and all of this repository that it depends on. */
const withDependencies = (name: string): ReadonlyArray<string> => {
  const manifest = workspace.find((one) => one.manifest.name === name)?.manifest
  const own = Object.keys(manifest?.dependencies ?? {}).filter((other) =>
    workspace.some((one) => one.manifest.name === other)
  )
  return [...new Set([name, ...own.flatMap(withDependencies)])]
}

const modulesOf = (directory: string): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(clone, "packages", directory, "src"))
    .filter((name) => /^[A-Z]\w*\.ts$/.test(name))
    .map((name) => name.slice(0, -".ts".length))

for (const { directory, manifest } of workspace) {
  describe(`${manifest.name}, packed`, () => {
    const paths = () => packed.find((one) => one.name === manifest.name)?.files.map((file) => file.path) ?? []

    it("has what it needs, and nothing else", () => {
      const outside = paths().filter((path) => !/^(dist|src)\//.test(path))
      const bin = directory === "nat" ? ["bin/effect-nat.js"] : []
      assert.sameMembers(outside, ["LICENSE", "README.md", "package.json", ...bin])
      assert.deepStrictEqual(
        paths().filter((path) => /tsbuildinfo|\.test\.|\.tgz$/.test(path)),
        []
      )
      // Each source with its code, declarations, and the maps of both.
      const sources = paths().filter((path) => path.startsWith("src/"))
      assert.isNotEmpty(sources)
      // The bundle of the command line is made of them all.
      const bundled = new Set(paths().filter((path) => path.startsWith("dist/bin/")))
      assert.strictEqual(bundled.has("dist/bin/main.js"), directory === "nat")
      assert.sameMembers(
        paths().filter((path) => path.startsWith("dist/") && !bundled.has(path)),
        sources.flatMap((source) =>
          [".js", ".js.map", ".d.ts", ".d.ts.map"].map((ending) =>
            source.replace(/^src\//, "dist/").replace(/\.ts$/, ending)
          )
        )
      )
    })

    it("installs into an empty project, type-checks there and loads", { timeout: 120_000 }, async () => {
      const project = Path.join(folder.path, `uses-${directory}`)
      const modules = [manifest.name, ...modulesOf(directory).map((name) => `${manifest.name}/${name}`)]
      write(project, {
        "package.json": JSON.stringify({ name: "empty", private: true, type: "module" }),
        "tsconfig.json": JSON.stringify({
          extends: Path.join(root, "tsconfig.base.json"),
          compilerOptions: {
            // Our declarations and Effect's are checked too. Effect's own name the web's globals.
            skipLibCheck: false,
            lib: ["ES2024", "DOM"],
            noEmit: true,
            incremental: false
          },
          files: ["program.ts"]
        }),
        "program.ts": [
          ...modules.map((name, i) => `import * as M${i} from "${name}"`),
          `export const all: ReadonlyArray<object> = [${modules.map((_, i) => `M${i}`).join(", ")}]`,
          ""
        ].join("\n"),
        "load.js": `for (const name of ${JSON.stringify(modules)}) await import(name)\n`
      })
      const files = withDependencies(manifest.name).map((name) => {
        const filename = packed.find((one) => one.name === name)?.filename
        assert.isDefined(filename)
        return Path.join(tarballs, filename)
      })
      const pinned = readManifest(root).devDependencies ?? {}
      const peers = Object.keys(manifest.peerDependencies ?? {}).map((name) => `${name}@${pinned[name]}`)
      await succeed("npm", ["install", ...quiet, ...files, ...peers], { cwd: project, env })
      const tsc = Path.join(root, "node_modules", "typescript", "bin", "tsc")
      await succeed(process.execPath, [tsc, "-p", project, "--pretty", "false"], { cwd: project })
      await succeed(process.execPath, ["load.js"], { cwd: project })
      if (directory === "nat") {
        const bin = Path.join(project, "node_modules", ".bin", "effect-nat")
        assert.strictEqual(await succeed(process.execPath, [bin, "--version"], { cwd: project }), "effect-nat v0.1.0\n")
        assert.include(await succeed(process.execPath, [bin, "--help"], { cwd: project }), "map")
      }
      Fs.rmSync(project, { recursive: true, force: true })
    })

    it("would be published", async () => {
      const { status, stdout, output } = await run(
        "npm",
        ["publish", "--dry-run", "--json", "--workspace", manifest.name],
        { cwd: clone, env }
      )
      assert.strictEqual(status, 0, output)
      // What npm prints differs between its versions: with the package's name as key, or without.
      const answer = JSON.parse(stdout) as Packed & Readonly<Record<string, Packed>>
      const published = answer[manifest.name] ?? answer
      assert.strictEqual(published.name, manifest.name)
      assert.strictEqual(published.version, "0.1.0")
      assert.sameMembers(
        published.files.map((file) => file.path),
        paths()
      )
      // npm says so when it has to correct a manifest.
      assert.notInclude(output, "auto-corrected")
    })
  })
}
