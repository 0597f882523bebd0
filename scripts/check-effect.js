/**
 * Effect's own diagnostics for every TypeScript project: errors and warnings fail, messages are shown by editors only.
 * Their severities are in tsconfig.base.json. Takes tsconfig files as arguments; without any it checks the workspace's.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import * as Path from "node:path"
import { packageDirectories, root } from "./lib/workspace.js"

const require = createRequire(import.meta.url)
const tsgo = require.resolve("@effect/tsgo/package.json")

const hasBinary = () => {
  try {
    createRequire(tsgo).resolve(`@effect/tsgo-${process.platform}-${process.arch}/package.json`)
    return true
  } catch {
    return false
  }
}

/** A project's run also checks the sources of the projects that it references. */
const seen = new Set()

/** @param {string} project */
const check = (project) => {
  const result = ChildProcess.spawnSync(
    process.execPath,
    [
      Path.join(Path.dirname(tsgo), "dist", "effect-tsgo.cjs"),
      "diagnostics",
      "--project",
      Path.resolve(root, project),
      "--format",
      "text",
      "--severity",
      "error,warning",
      "--strict"
    ],
    { cwd: root, encoding: "utf8" }
  )
  const lines = `${result.stdout}${result.stderr}`.trim().split("\n")
  if (result.status === 0) {
    console.log(`${project}: ${lines.at(-1)}`)
  } else {
    for (const line of lines.filter((line) => !seen.has(line))) {
      seen.add(line)
      console.error(line.replace(root, ""))
    }
    console.error(`${project}: Effect's diagnostics fail`)
    process.exitCode = 1
  }
}

const workspace = [
  ...packageDirectories().map((directory) => Path.join("packages", directory, "tsconfig.json")),
  Path.join("test", "tsconfig.json")
].filter((project) => Fs.existsSync(Path.join(root, project)))
const projects = process.argv.length > 2 ? process.argv.slice(2) : workspace

if (hasBinary()) {
  for (const project of projects) check(project)
} else {
  console.error(`not checked: @effect/tsgo has no binary for ${process.platform}-${process.arch} in node_modules`)
  if (process.env.CI !== undefined && process.env.CI !== "") process.exitCode = 1
}
