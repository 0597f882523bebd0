/**
 * Writes packages/<name>/src/index.ts from the package's modules and the first sentences of their headers.
 * With `--check` it writes nothing and fails when an index is not what it would write. Another argument is the
 * workspace's folder, if it is not this one.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { firstSentence, header, tags } from "./lib/sources.js"
import { packageDirectories, publicModules, root } from "./lib/workspace.js"

const isCheck = process.argv.includes("--check")
const base = Path.resolve(process.argv.slice(2).find((argument) => argument !== "--check") ?? root)

/** The longest line of a comment. */
const width = 120

/** @param {string} text */
const wrapped = (text) => {
  /** @type {Array<string>} */
  const lines = []
  let line = " *"
  for (const word of text.split(" ")) {
    if (line.length + 1 + word.length > width && line !== " *") {
      lines.push(line)
      line = " *"
    }
    line += ` ${word}`
  }
  return [...lines, line].join("\n")
}

/** @param {string} directory */
const indexOf = (directory) => {
  const source = Path.join(base, "packages", directory, "src")
  const modules = publicModules(directory, base).map((name) => {
    const path = Path.join(source, `${name}.ts`)
    const doc = header(path, Fs.readFileSync(path, "utf8"))?.text
    const since = tags(doc ?? "").find(([tag]) => tag === "since")?.[1]
    const comment = [
      ...(doc === undefined ? [] : [wrapped(firstSentence(doc))]),
      ...(since === undefined ? [] : [" *", ` * @since ${since}`])
    ]
    return `${comment.length === 0 ? "" : `/**\n${comment.join("\n")}\n */\n`}export * as ${name} from "./${name}.ts"\n`
  })
  return [
    `// Written by "npm run generate" from the modules' headers. Do not edit.\n`,
    ...(modules.length === 0 ? ["export {}\n"] : modules)
  ].join("\n")
}

const stale = packageDirectories(base).filter((directory) => {
  const path = Path.join(base, "packages", directory, "src", "index.ts")
  const text = indexOf(directory)
  if (Fs.existsSync(path) && Fs.readFileSync(path, "utf8") === text) return false
  if (!isCheck) {
    Fs.mkdirSync(Path.dirname(path), { recursive: true })
    Fs.writeFileSync(path, text)
    console.log(`packages/${directory}/src/index.ts written`)
  }
  return true
})

if (isCheck && stale.length > 0) {
  for (const directory of stale) console.error(`packages/${directory}/src/index.ts is stale: run npm run generate`)
  process.exitCode = 1
}
