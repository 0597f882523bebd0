/**
 * XML from devices that cannot be trusted: bounded before it is parsed, no DOCTYPE, no entities of its own, shallow.
 *
 * Names are local names: prefixes are dropped, since routers choose them as they like.
 */
import { XMLParser, XMLValidator } from "fast-xml-parser"
import * as Result from "effect/Result"
import * as WireText from "./wireText.ts"

/** An element. Its text is its own text and CDATA, trimmed, without that of its children. */
export interface XmlElement {
  readonly name: string
  readonly text: string
  readonly children: ReadonlyArray<XmlElement>
}

/** A description nests to about ten; anything much deeper is meant to hurt. */
const maximumDepth = 32

/**
 * The library refuses or changes names that an object of JavaScript has, such as `constructor`. With this before them
 * none is one, and no name of a well-formed document begins so.
 */
const namePrefix = "-"

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: true,
  ignoreDeclaration: true,
  ignorePiTags: true,
  removeNSPrefix: true,
  parseTagValue: false,
  processEntities: false,
  trimValues: false,
  cdataPropName: "#cdata",
  // An element that closes itself comes twice.
  transformTagName: (name) => (name.startsWith(namePrefix) ? name : `${namePrefix}${name}`),
  maxNestedTags: maximumDepth
})

const predefined: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" }
const references = /&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(amp|lt|gt|quot|apos));/gi
const bareAmpersands = /&(?!(?:#\d{1,7}|#x[0-9a-f]{1,6}|amp|lt|gt|quot|apos);)/gi
const docType = /<!DOCTYPE/i

const fromCodePoint = (code: number): string =>
  code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? "\ufffd" : String.fromCodePoint(code)

const decodeReferences = (text: string): string =>
  text.replace(references, (_, decimal?: string, hexadecimal?: string, name?: string) => {
    if (decimal !== undefined) return fromCodePoint(Number.parseInt(decimal, 10))
    if (hexadecimal !== undefined) return fromCodePoint(Number.parseInt(hexadecimal, 16))
    return predefined[name?.toLowerCase() ?? ""] ?? "\ufffd"
  })

/** What routers put before their documents: white space, byte order marks and zero bytes. */
const isPadding = (code: number): boolean => code <= 0x20 || code === 0xfeff || code === 0xa0

/**
 * The document without what is around it. Behind it, some routers leave zero bytes and then what was in their buffer
 * before, others a part of the framing: nothing after a zero byte or after the last tag belongs to a document.
 */
const withoutSurroundings = (text: string): string => {
  let start = 0
  while (start < text.length && isPadding(text.charCodeAt(start))) start++
  const zero = text.indexOf("\0", start)
  const end = zero === -1 ? text.length : zero
  return text.slice(start, text.lastIndexOf(">", end) + 1)
}

const isRecord = (u: unknown): u is Readonly<Record<string, unknown>> => typeof u === "object" && u !== null

const rawText = (nodes: ReadonlyArray<unknown>): string =>
  nodes.map((node) => (isRecord(node) && typeof node["#text"] === "string" ? node["#text"] : "")).join("")

const textOfNode = (node: Readonly<Record<string, unknown>>): string => {
  if (typeof node["#text"] === "string") return decodeReferences(node["#text"])
  return Array.isArray(node["#cdata"]) ? rawText(node["#cdata"]) : ""
}

const fromNodes = (name: string, nodes: ReadonlyArray<unknown>): XmlElement => {
  const children: Array<XmlElement> = []
  let text = ""
  for (const node of nodes) {
    if (!isRecord(node)) continue
    text += textOfNode(node)
    for (const [key, value] of Object.entries(node)) {
      if (!key.startsWith("#") && Array.isArray(value)) {
        children.push(fromNodes(key.slice(namePrefix.length), value))
      }
    }
  }
  return { name, text: WireText.withoutControls(text).trim(), children }
}

const rootOf = (parsed: unknown): Result.Result<XmlElement, string> => {
  const [root, ...others] = Array.isArray(parsed) ? fromNodes("", parsed).children : []
  if (root !== undefined && others.length === 0) return Result.succeed(root)
  return Result.fail("the XML has not just one root element")
}

/**
 * URLs with a bare ampersand are common, and every reference but the five predefined would be an entity of the
 * document's own. Only the check sees them escaped: in CDATA they would stay so.
 */
const wellFormed = (text: string): Result.Result<string, string> => {
  const valid = XMLValidator.validate(text.replace(bareAmpersands, "&amp;"), { allowBooleanAttributes: true })
  return valid === true
    ? Result.succeed(text)
    : Result.fail(`the XML is not well-formed: ${WireText.oneLine(valid.err.msg, 100)}`)
}

const thrown = (error: unknown): string =>
  `the XML cannot be read: ${WireText.oneLine(error instanceof Error ? error.message : String(error), 100)}`

const parseText = (text: string): unknown => parser.parse(text)

/** The library throws for what it finds dangerous, such as too many levels. */
const read = (text: string): Result.Result<unknown, string> =>
  Result.flatMap(Result.try({ try: () => Result.map(wellFormed(text), parseText), catch: thrown }), (result) => result)

/** Parses a document of at most `maximumBytes`; fails with what is wrong. Never throws. */
export const parse = (body: Uint8Array, maximumBytes: number): Result.Result<XmlElement, string> => {
  if (body.length > maximumBytes) return Result.fail(`the XML has more than ${maximumBytes} bytes`)
  const text = withoutSurroundings(WireText.decode(body))
  if (docType.test(text)) return Result.fail("the XML has a DOCTYPE")
  return Result.flatMap(read(text), rootOf)
}

const same = (name: string) => {
  const wanted = name.toLowerCase()
  return (element: XmlElement) => element.name.toLowerCase() === wanted
}

/** The first child with a local name, ignoring case. */
export const child = (self: XmlElement, name: string): XmlElement | undefined => self.children.find(same(name))

/** All children with a local name, ignoring case. */
export const childrenNamed = (self: XmlElement | undefined, name: string): ReadonlyArray<XmlElement> =>
  self === undefined ? [] : self.children.filter(same(name))

/** The first element with a local name at any depth, itself included, ignoring case. */
export const find = (self: XmlElement, name: string): XmlElement | undefined => {
  if (same(name)(self)) return self
  for (const one of self.children) {
    const found = find(one, name)
    if (found !== undefined) return found
  }
  return undefined
}

/** The text of the first child with a local name, or an empty string. */
export const childText = (self: XmlElement, name: string): string => child(self, name)?.text ?? ""

const escapes: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&apos;"
}

/** Text as it may stand in an element: escaped, without characters that XML does not allow. */
export const escape = (text: string): string =>
  WireText.withoutControls(text).replace(/[&<>"']/g, (character) => escapes[character] ?? "")

/** An element as text again, without prefixes and attributes. */
export const format = (self: XmlElement): string =>
  `<${self.name}>${escape(self.text)}${self.children.map(format).join("")}</${self.name}>`
