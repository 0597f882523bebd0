/**
 * What the scripts can read from sources: statements, doc comments, their tags.
 */
import { parseSync } from "rolldown/utils"

/**
 * @typedef {{ readonly start: number, readonly end: number, readonly text: string }} DocComment
 * @typedef {{ readonly type: string, readonly start: number, readonly end: number, readonly [key: string]: any }} Node
 */

/**
 * Parses one file, and finds its doc comments with their stars taken off.
 *
 * @param {string} path
 * @param {string} text
 * @returns {{ readonly body: ReadonlyArray<Node>, readonly docs: ReadonlyArray<DocComment> }}
 */
export const parse = (path, text) => {
  const result = parseSync(path, text)
  const error = result.errors[0]
  if (error !== undefined) throw new Error(`${path}: ${error.message}`)
  return {
    body: /** @type {ReadonlyArray<Node>} */ (/** @type {unknown} */ (result.program.body)),
    docs: result.comments
      .filter((comment) => comment.type === "Block" && comment.value.startsWith("*"))
      .map((comment) => ({ start: comment.start, end: comment.end, text: unstarred(comment.value.slice(1)) }))
  }
}

/** @param {string} value */
const unstarred = (value) =>
  value
    .split("\n")
    .map((line) => line.replace(/^[ \t]*\* ?/, "").trimEnd())
    .join("\n")

/**
 * The doc comment that stands right before an offset.
 *
 * @param {string} text
 * @param {ReadonlyArray<DocComment>} docs
 * @param {number} offset
 */
export const docBefore = (text, docs, offset) =>
  docs.find((doc) => doc.end <= offset && text.slice(doc.end, offset).trim() === "")

/**
 * A file's header: the doc comment that opens it and belongs to no statement.
 *
 * @param {string} path
 * @param {string} text
 * @returns {DocComment | undefined}
 */
export const header = (path, text) => {
  const { body, docs } = parse(path, text)
  const first = docs[0]
  if (first === undefined || text.slice(0, first.start).trim() !== "") return undefined
  const statement = body[0]
  const belongsToStatement =
    statement !== undefined && statement.type.startsWith("Export") && docBefore(text, docs, statement.start) === first
  return belongsToStatement ? undefined : first
}

/**
 * What a doc comment says before its tags.
 *
 * @param {string} doc
 */
export const description = (doc) => (doc.split(/^@/m)[0] ?? "").trim()

/**
 * A doc comment's tags, as `[name, value]`. A line inside a code fence is no tag.
 *
 * @param {string} doc
 * @returns {Array<readonly [string, string]>}
 */
export const tags = (doc) =>
  doc
    .replaceAll(/^```[\s\S]*?^```/gm, "")
    .split("\n")
    .flatMap((line) => {
      const found = /^@(\w+)\s*(.*)$/.exec(line)
      return found === null ? [] : [/** @type {const} */ ([found[1] ?? "", (found[2] ?? "").trim()])]
    })

/**
 * The first sentence of a doc comment, on one line.
 *
 * @param {string} doc
 */
export const firstSentence = (doc) => {
  const paragraph = (description(doc).split(/\n\s*\n/)[0] ?? "").replaceAll(/\s+/g, " ")
  return /^.*?[.!?](?=\s|$)/.exec(paragraph)?.[0] ?? paragraph
}

/**
 * The line of an offset, counted from 1.
 *
 * @param {string} text
 * @param {number} offset
 */
export const lineOf = (text, offset) => text.slice(0, offset).split("\n").length
