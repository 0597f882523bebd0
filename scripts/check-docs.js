/**
 * Checks that every public module and every public export says what it is: a description, `@since`, and for exports
 * one `@category`. Takes folders of packages as arguments; without any it checks all packages of the workspace.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { description, docBefore, header, lineOf, parse, tags } from "./lib/sources.js"
import { filesBelow, packageDirectories, root } from "./lib/workspace.js"

/** @typedef {import("./lib/sources.js").Node} Node */

/** @type {Array<string>} */
const problems = []

/**
 * What is missing in one doc comment.
 *
 * @param {string | undefined} doc
 * @param {boolean} isExport
 * @returns {Array<string>}
 */
const missing = (doc, isExport) => {
  if (doc === undefined) return ["no doc comment"]
  const found = tags(doc)
  const since = found.filter(([tag]) => tag === "since")
  const category = found.filter(([tag]) => tag === "category")
  return [
    ...(description(doc) === "" ? ["the doc comment says nothing"] : []),
    ...(since.length === 1 && /^\d+\.\d+\.\d+$/.test(since[0]?.[1] ?? "") ? [] : ["needs one @since x.y.z"]),
    ...(!isExport || (category.length === 1 && /^[a-z][a-z -]+$/.test(category[0]?.[1] ?? ""))
      ? []
      : ["needs one @category, in lower case"]),
    ...(category.some(([, value]) => value.startsWith("util")) ? [`"utils" is no category: say what it is for`] : [])
  ]
}

/**
 * The names that a declaration makes.
 *
 * @param {Node} declaration
 * @returns {Array<string>}
 */
const namesOf = (declaration) =>
  declaration.type === "VariableDeclaration"
    ? declaration["declarations"].map((/** @type {Node} */ one) => one["id"].name ?? "a pattern")
    : [declaration["id"]?.name ?? declaration["id"]?.value ?? "default"]

/**
 * @param {string} path
 * @param {string} text
 */
const checkFile = (path, text) => {
  const shown = Path.relative(process.cwd(), path)
  const { body, docs } = parse(path, text)

  /**
   * @param {string} name
   * @param {number} offset
   * @param {boolean} isExport
   */
  const check = (name, offset, isExport) => {
    const doc = docBefore(text, docs, offset)
    for (const what of missing(doc?.text, isExport)) {
      problems.push(`${shown}:${lineOf(text, offset)}: ${name}: ${what}`)
    }
  }

  /** Overloads share the first one's comment. */
  let documented = ""

  /** @param {ReadonlyArray<Node>} statements */
  const walk = (statements) => {
    for (const statement of statements) {
      if (statement.type === "ExportNamedDeclaration" && statement["declaration"]) {
        /** @type {Node} */
        const declaration = statement["declaration"]
        const names = namesOf(declaration)
        const isFunction = declaration.type === "TSDeclareFunction" || declaration.type === "FunctionDeclaration"
        if (!isFunction || documented !== names[0]) check(names.join(", "), statement.start, true)
        documented = isFunction ? (names[0] ?? "") : ""
        if (declaration.type === "TSModuleDeclaration") walk(declaration["body"]?.body ?? [])
      } else if (statement.type === "ExportNamedDeclaration") {
        for (const specifier of statement["specifiers"]) {
          check(specifier.exported.name ?? specifier.exported.value, specifier.start, true)
        }
      } else if (statement.type === "ExportAllDeclaration" || statement.type === "ExportDefaultDeclaration") {
        check(statement.type === "ExportAllDeclaration" ? "export *" : "default", statement.start, true)
      }
    }
  }
  walk(body)

  const top = header(path, text)
  for (const what of missing(top?.text, false)) problems.push(`${shown}:1: module header: ${what}`)
}

const folders =
  process.argv.length > 2
    ? process.argv.slice(2)
    : packageDirectories().map((directory) => Path.join(root, "packages", directory))
let files = 0
for (const folder of folders) {
  const source = Path.join(folder, "src")
  for (const name of filesBelow(source, ".ts")) {
    const parts = name.split(Path.sep)
    // index.ts is generated; internal modules and the command line export to their own package only.
    if (name === "index.ts" || parts.includes("internal") || parts[0] === "cli") continue
    const path = Path.join(source, name)
    checkFile(path, Fs.readFileSync(path, "utf8"))
    files++
  }
}

for (const problem of problems) console.error(problem)
console.log(`doc comments: ${files} modules, ${problems.length} problems`)
if (problems.length > 0) process.exitCode = 1
