import { assert, describe, it } from "@effect/vitest"
import * as Path from "node:path"
import { readManifest, root, run, temporaryFolder, write, workspace } from "./support.ts"
import * as Fs from "node:fs"

describe("the Node that runs", () => {
  it("is the one that package.json pins, whatever the machine has", () => {
    assert.match(process.version, /^v24\./)
    assert.strictEqual(process.version, `v${readManifest(root).devDependencies?.["node"]}`)
  })
})

describe("bin/effect-nat.js", () => {
  const bin = Path.join(root, "packages", "nat", "bin", "effect-nat.js")

  it("is executable", () => {
    assert.strictEqual(Fs.statSync(bin).mode & 0o111, 0o111)
  })

  it("prints the version as effect/cli prints it", async () => {
    const version = await run(process.execPath, [bin, "--version"])
    assert.deepStrictEqual(version, { ...version, status: 0, stdout: "effect-nat v0.1.0\n", stderr: "" })
    // The same question, asked so that the bin does not answer it by itself.
    const asked = await run(process.execPath, [bin, "--version", "--log-level", "none"])
    assert.deepStrictEqual(asked, { ...asked, status: 0, stdout: version.stdout, stderr: "" })
  })

  it("says in one line that nothing is built", async () => {
    const folder = temporaryFolder()
    try {
      write(folder.path, {
        "package.json": JSON.stringify({ version: "9.9.9", type: "module", engines: { node: ">=20.0.0" } })
      })
      Fs.mkdirSync(Path.join(folder.path, "bin"))
      Fs.copyFileSync(bin, Path.join(folder.path, "bin", "effect-nat.js"))
      const finished = await run(process.execPath, [Path.join(folder.path, "bin", "effect-nat.js"), "list"])
      assert.deepStrictEqual(finished, {
        ...finished,
        status: 1,
        stdout: "",
        stderr: "effect-nat: not built yet: run npm run build\n"
      })
    } finally {
      folder.remove()
    }
  })

  it("says in one line that Node is too old", async () => {
    const folder = temporaryFolder()
    try {
      write(folder.path, {
        "package.json": JSON.stringify({ version: "9.9.9", type: "module", engines: { node: ">=24.999.0" } })
      })
      Fs.mkdirSync(Path.join(folder.path, "bin"))
      Fs.copyFileSync(bin, Path.join(folder.path, "bin", "effect-nat.js"))
      const finished = await run(process.execPath, [Path.join(folder.path, "bin", "effect-nat.js"), "--version"])
      assert.deepStrictEqual(finished, {
        ...finished,
        status: 1,
        stdout: "",
        stderr: `effect-nat: needs Node >=24.999.0, this is ${process.version}\n`
      })
    } finally {
      folder.remove()
    }
  })
})

describe("the packages", () => {
  const license = Fs.readFileSync(Path.join(root, "LICENSE"), "utf8")

  for (const { directory, manifest } of workspace) {
    it(`${manifest.name}: says what every package here says`, () => {
      assert.strictEqual(manifest.version, readManifest(root).version)
      assert.strictEqual(manifest.version, "0.1.0")
      assert.strictEqual(manifest.license, "MIT")
      assert.strictEqual(manifest.type, "module")
      assert.strictEqual(manifest.sideEffects, false)
      assert.property(manifest.peerDependencies, "effect")
      assert.notProperty(manifest.dependencies ?? {}, "effect")
      assert.strictEqual(manifest.exports["./internal/*"], null)
      assert.strictEqual(Fs.readFileSync(Path.join(root, "packages", directory, "LICENSE"), "utf8"), license)
      assert.isTrue(Fs.existsSync(Path.join(root, "packages", directory, "README.md")))
      const reach = { nat: ["core", "dispatcher", "natpmp", "upnp"], testing: ["core", "natpmp", "upnp"] }
      const allowed: ReadonlyArray<string> = Object.hasOwn(reach, directory)
        ? reach[directory as keyof typeof reach]
        : ["core"]
      const arrows = workspace.filter((one) => allowed.includes(one.directory))
      for (const name of Object.keys(manifest.dependencies ?? {})) {
        if (!workspace.some((one) => one.manifest.name === name)) continue
        assert.notStrictEqual(directory, "core", "core depends on no other package")
        assert.include(
          arrows.map((one) => one.manifest.name),
          name
        )
      }
      // An exact version: the packages are released together.
      for (const { manifest: other } of workspace) {
        assert.include([undefined, other.version], manifest.dependencies?.[other.name])
      }
    })
  }

  it("every package is built, and seen by the linter's import rules", () => {
    const build = Fs.readFileSync(Path.join(root, "tsconfig.build.json"), "utf8")
    const paths = Fs.readFileSync(Path.join(root, "scripts", "oxlint.tsconfig.json"), "utf8")
    for (const { directory, manifest } of workspace) {
      assert.include(build, `"packages/${directory}"`)
      assert.include(paths, `"${manifest.name}/*": ["../packages/${directory}/src/*.ts"]`)
    }
  })
})
