/**
 * The requirements of the documents that the packages follow, and where the tests show them.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import * as Conformance from "../../test/conformance/Conformance.ts"
import { parse } from "./sources.js"
import { filesBelow, root } from "./workspace.js"

/** @typedef {import("../../test/conformance/Conformance.ts").Page} Page */
/** @typedef {import("../../test/conformance/Conformance.ts").TaggedTest} TaggedTest */

/** The files in test/conformance that have requirements: `upnp.ts` makes docs/conformance-upnp.md. */
const requirementFile = /^[a-z][a-z0-9-]*\.ts$/

/**
 * @param {string} [base]
 * @returns {Promise<ReadonlyArray<{ readonly path: string, readonly page: Page }>>}
 */
export const readPages = (base = root) => {
  const folder = Path.join(base, "test", "conformance")
  const names = Fs.readdirSync(folder).filter((name) => requirementFile.test(name))
  return Promise.all(
    names.toSorted().map(async (name) => {
      const { page } = await import(pathToFileURL(Path.join(folder, name)).href)
      return { path: Path.join("docs", `conformance-${name.slice(0, -".ts".length)}.md`), page }
    })
  )
}

/**
 * A title as the sources have it: what is only known when the test runs is an ellipsis.
 *
 * @param {import("./sources.js").Node | undefined} node
 * @returns {string | undefined}
 */
const titleOf = (node) => {
  if (node?.type === "Literal" && typeof node["value"] === "string") return node["value"]
  if (node?.type !== "TemplateLiteral") return undefined
  return node["quasis"].map((/** @type {any} */ quasi) => quasi.value.cooked).join("…")
}

const testFunctions = new Set(["describe", "it", "layer", "test"])

/**
 * The function that a chain of calls and members begins with: `it` of `it.effect.each([…])`.
 *
 * @param {import("./sources.js").Node | undefined} callee
 * @returns {string | undefined}
 */
const rootOf = (callee) =>
  callee === undefined || callee.type === "Identifier" ? callee?.["name"] : rootOf(callee["object"] ?? callee["callee"])

/**
 * The titles in a syntax tree: the texts that `it`, `describe` and their like are called with first, each behind those
 * that it stands in.
 *
 * @param {unknown} node
 * @param {ReadonlyArray<string>} [outer]
 * @returns {Array<ReadonlyArray<string>>}
 */
const titlesIn = (node, outer = []) => {
  if (Array.isArray(node)) return node.flatMap((one) => titlesIn(one, outer))
  if (typeof node !== "object" || node === null) return []
  const one = /** @type {import("./sources.js").Node} */ (node)
  const isTest = one.type === "CallExpression" && testFunctions.has(rootOf(one["callee"]) ?? "")
  const title = isTest ? titleOf(one["arguments"][0]) : undefined
  if (title === undefined) return Object.values(node).flatMap((inner) => titlesIn(inner, outer))
  const titles = [...outer, title]
  return [titles, ...Object.values(node).flatMap((inner) => titlesIn(inner, titles))]
}

/**
 * The tests below test/ whose titles have tags, in the order of the sources.
 *
 * @param {string} [base]
 * @returns {ReadonlyArray<TaggedTest>}
 */
export const readTests = (base = root) =>
  filesBelow(Path.join(base, "test"), ".test.ts").flatMap((file) => {
    const path = Path.join(base, "test", file)
    return titlesIn(parse(path, Fs.readFileSync(path, "utf8")).body).flatMap((titles) => {
      const ids = Conformance.idsOf(titles.at(-1) ?? "")
      if (ids.length === 0) return []
      const title = titles.map(Conformance.withoutIds).join(" › ")
      return [{ file: file.split(Path.sep).join("/"), title, titles, ids }]
    })
  })
