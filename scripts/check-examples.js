/**
 * Type-checks the TypeScript examples: the ```ts fences of doc comments and of the Markdown files.
 *
 * Each example becomes a file of its own, so it must be complete, imports included. It sits in its file at the line
 * where it stands in its source, so an error names the line to mend. The packages are seen as their users see them,
 * through their built declarations: build first. Takes Markdown files as arguments; without any it checks the sources
 * and Markdown files of the workspace.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { lineOf, parse } from "./lib/sources.js"
import { filesBelow, packageDirectories, root } from "./lib/workspace.js"

const given = process.argv.slice(2)
const target = Path.join(root, "node_modules", ".cache", given.length === 0 ? "examples" : "examples-given")
const fence = /^[ \t]*```(?:ts|typescript)\b[^\n]*\n([\s\S]*?)^[ \t]*```/gm

/** @type {Map<string, string>} */
const origins = new Map()

/**
 * @param {string} origin
 * @param {number} line
 * @param {string} code
 */
const add = (origin, line, code) => {
  const name = `${origin.replaceAll(/[^A-Za-z0-9]+/g, "-")}-${line}.ts`
  Fs.writeFileSync(Path.join(target, name), `${"\n".repeat(line - 1)}${code}`)
  origins.set(name, origin)
}

/**
 * @param {string} origin
 * @param {string} text
 * @param {number} firstLine
 */
const addFences = (origin, text, firstLine) => {
  for (const found of text.matchAll(fence)) {
    add(origin, firstLine + lineOf(text, found.index), found[1] ?? "")
  }
}

Fs.rmSync(target, { recursive: true, force: true })
Fs.mkdirSync(target, { recursive: true })

for (const directory of given.length === 0 ? packageDirectories() : []) {
  const source = Path.join("packages", directory, "src")
  for (const name of filesBelow(Path.join(root, source), ".ts")) {
    const origin = Path.join(source, name)
    const text = Fs.readFileSync(Path.join(root, origin), "utf8")
    if (!text.includes("```ts")) continue
    for (const doc of parse(origin, text).docs) addFences(origin, doc.text, lineOf(text, doc.start))
  }
}
const workspaceMarkdown = () => [
  ...Fs.readdirSync(root).filter((name) => name.endsWith(".md")),
  ...filesBelow(Path.join(root, "docs"), ".md").map((name) => Path.join("docs", name)),
  ...filesBelow(Path.join(root, "examples"), ".md").map((name) => Path.join("examples", name)),
  ...packageDirectories().map((directory) => Path.join("packages", directory, "README.md"))
]
for (const origin of given.length === 0 ? workspaceMarkdown() : given) {
  const path = Path.resolve(root, origin)
  if (Fs.existsSync(path)) addFences(origin, Fs.readFileSync(path, "utf8"), 1)
}

Fs.writeFileSync(Path.join(target, "package.json"), `${JSON.stringify({ type: "module" })}\n`)
Fs.writeFileSync(
  Path.join(target, "tsconfig.json"),
  `${JSON.stringify({
    extends: "../../../tsconfig.base.json",
    compilerOptions: {
      noEmit: true,
      incremental: false,
      types: ["node"],
      // An example ends where its point is made.
      noUnusedLocals: false
    },
    files: [...origins.keys()]
  })}\n`
)

if (origins.size > 0) {
  const tsc = Path.join(root, "node_modules", "typescript", "bin", "tsc")
  const result = ChildProcess.spawnSync(process.execPath, [tsc, "-p", target, "--pretty", "false"], {
    cwd: target,
    encoding: "utf8"
  })
  for (const line of `${result.stdout}${result.stderr}`.trim().split("\n").filter(Boolean)) {
    console.error(line.replace(/^([^(\s]+\.ts)(?=\()/, (name) => origins.get(name) ?? name))
  }
  if (result.status !== 0) process.exitCode = 1
}
console.log(`examples: ${origins.size} checked`)
