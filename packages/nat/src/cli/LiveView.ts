/**
 * What `serve` is doing, as lines for a terminal: from what is known at a moment to text of bounded width and height.
 */
import * as DoubleNat from "@effect-nat/core/DoubleNat"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Duration from "effect/Duration"
import * as Output from "./Output.ts"

/** What has been counted of a session, or of all of them, since it began. */
export interface Totals {
  readonly messages: number
  readonly bytesIn: number
  readonly bytesOut: number
}

/** A session at a moment. */
export interface SessionStatus {
  readonly id: string
  /** What it is for; `""` where nobody has said. */
  readonly role: string
  readonly members: number
  /** What is counted of this session alone; `undefined` where nobody does. */
  readonly totals?: Totals | undefined
}

/** A mapping at a moment; times in milliseconds of one clock. */
export interface MappingStatus {
  readonly mapping: PortMapping.PortMapping
  /** Since when it is what it is: mapped there, or lost. */
  readonly since: number
  /** When its lease ends unless it is renewed; `undefined` without an end. */
  readonly leaseEnd: number | undefined
}

/**
 * What is known of a mapping after another look at it. A renewal gives a mapping of its own, even where it is equal to the
 * one before: then its lease has begun anew.
 */
export const follow = (
  before: MappingStatus | undefined,
  mapping: PortMapping.PortMapping,
  now: number
): MappingStatus => {
  if (before?.mapping === mapping) return before
  const { lifetime, status } = mapping
  const isLeased = status === "mapped" && lifetime !== undefined && Duration.isFinite(lifetime)
  const earlierEnd = status === "unconfirmed" ? before?.leaseEnd : undefined
  const isSame = before !== undefined && PortMapping.isSameContact(before.mapping, mapping)
  return {
    mapping,
    since: isSame ? before.since : now,
    leaseEnd: isLeased ? now + Duration.toMillis(lifetime) : earlierEnd
  }
}

/** What a dispatcher is doing at a moment. */
export interface Status {
  /** In milliseconds of the clock of the mapping's times. */
  readonly now: number
  /** As people read it. */
  readonly contactPoint: string
  readonly mapping: MappingStatus
  /** Connections in whatever state, those of members included. */
  readonly connections: number
  readonly totals: Totals
  readonly sessions: ReadonlyArray<SessionStatus>
}

/** How much room there is, in characters. */
export interface Size {
  readonly columns: number
  readonly rows: number
}

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" })

/** No terminal shows one of these in more than one column; what comes after them may take two. */
const lastNarrow = 0x10ff

const widthOf = (grapheme: string): number =>
  grapheme === ellipsis || (grapheme.length === 1 && grapheme.charCodeAt(0) <= lastNarrow) ? 1 : 2

/** The most columns that a text takes. */
export const width = (text: string): number => {
  let columns = 0
  for (const { segment } of graphemes.segment(text)) columns += widthOf(segment)
  return columns
}

const ellipsis = "…"

/** A text in at most so many columns: what was cut off is seen. */
export const fit = (text: string, columns: number): string => {
  const shown = Output.printable(text)
  if (width(shown) <= columns) return shown
  let [kept, left] = ["", columns - 1]
  for (const { segment } of graphemes.segment(shown)) {
    left -= widthOf(segment)
    if (left < 0) break
    kept += segment
  }
  return columns < 1 ? "" : kept + ellipsis
}

const pad = (text: string, columns: number): string => text + " ".repeat(Math.max(0, columns - width(text)))

const padStart = (text: string, columns: number): string => " ".repeat(Math.max(0, columns - width(text))) + text

const two = (value: number): string => String(value).padStart(2, "0")

/** Hours, minutes and seconds. */
export const formatTime = (milliseconds: number): string => {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  const minutes = Math.floor(seconds / 60)
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`
}

const prefixes = ["", "k", "M", "G", "T"]

/** Two or three digits, and a prefix for a thousand, a million, … */
export const formatAmount = (value: number, unit = ""): string => {
  let [rest, prefix] = [value, 0]
  while (rest >= 999.5 && prefix < prefixes.length - 1) {
    rest /= 1000
    prefix++
  }
  const digits = rest >= 99.95 || (prefix === 0 && Number.isInteger(rest)) ? 0 : 1
  return `${rest.toFixed(digits)} ${prefixes[prefix]}${unit}`.trimEnd()
}

interface Rates {
  readonly messages: string
  readonly bytesIn: string
  readonly bytesOut: string
}

/** So many a second between two readings; none where there was no earlier one, or it was of an earlier life. */
const ratesOf = (before: Totals | undefined, now: Totals | undefined, milliseconds: number): Rates => {
  const rate = (name: keyof Totals, unit: string): string => {
    const grown = before === undefined || now === undefined ? Number.NaN : now[name] - before[name]
    return grown >= 0 && milliseconds > 0 ? formatAmount((grown * 1000) / milliseconds, unit) : "-"
  }
  return { messages: rate("messages", ""), bytesIn: rate("bytesIn", "B"), bytesOut: rate("bytesOut", "B") }
}

const leaseText = ({ leaseEnd, mapping }: MappingStatus, now: number): string => {
  if (leaseEnd !== undefined) return `lease left ${formatTime(leaseEnd - now)}`
  return mapping.lifetime !== undefined && !Duration.isFinite(mapping.lifetime) ? "permanent" : "no lease"
}

const mappingLines = (status: MappingStatus, now: number): ReadonlyArray<string> => {
  const { mapping, since } = status
  const ago = formatTime(now - since)
  const held = `${Output.outside(mapping)} by ${Output.via(mapping)}`
  const words = {
    mapped: `${held}, for ${ago}, ${leaseText(status, now)}`,
    unconfirmed: `${held}, NOT CONFIRMED for ${ago}, ${leaseText(status, now)}; asking again`,
    lost: `LOST ${ago} ago: the gateway no longer renews it; asking again until it does`
  }[mapping.status]
  const { doubleNat, externalAddress } = mapping
  if (!doubleNat || externalAddress === undefined) return [words]
  return [words, `in doubt: ${DoubleNat.format(externalAddress)}`]
}

const plural = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

const trafficLine = (before: Status | undefined, status: Status): string => {
  const members = status.sessions.reduce((sum, one) => sum + one.members, 0)
  const rates = ratesOf(before?.totals, status.totals, status.now - (before?.now ?? status.now))
  return [
    `${plural(members, "member")} in ${plural(status.sessions.length, "session")}`,
    plural(status.connections, "connection"),
    `${rates.messages} messages/s`,
    `${rates.bytesIn}/s in`,
    `${rates.bytesOut}/s out`
  ].join(", ")
}

const headings = ["role", "session", "members", "messages", "messages/s", "in/s", "out/s"]

/** The columns whose text begins at the left. */
const words = 2

/** Roles are cut: what they are said with is no more than a column's. */
const widestRole = 24

const sessionRows = (before: Status | undefined, status: Status, most: number): ReadonlyArray<string> => {
  const earlier = new Map(before?.sessions.map((one) => [one.id, one.totals]))
  const rows = status.sessions.slice(0, most).map(({ id, members, role, totals }) => {
    const rates = ratesOf(earlier.get(id), totals, status.now - (before?.now ?? status.now))
    const name = role === "" ? "-" : fit(role, widestRole)
    const messages = totals === undefined ? "-" : formatAmount(totals.messages)
    return [name, id, String(members), messages, rates.messages, rates.bytesIn, rates.bytesOut]
  })
  const cells = [headings, ...rows]
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => width(row[column] ?? ""))))
  return cells.map((row) =>
    row
      .map((cell, column) => (column < words ? pad : padStart)(cell, widths[column] ?? 0))
      .join("  ")
      .trimEnd()
  )
}

const labelWidth = "contact point  ".length

/** Broken between words; a word that is longer than a line is left for `fit`. */
const wrap = (text: string, columns: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (const word of Output.printable(text).split(" ")) {
    const last = lines.at(-1)
    if (last === undefined || width(last) + 1 + width(word) > columns) lines.push(word)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines
}

const labelled = (label: string, texts: ReadonlyArray<string>, columns: number): ReadonlyArray<string> =>
  texts
    .flatMap((text) => wrap(text, columns - labelWidth))
    .map((line, index) => pad(index === 0 ? label : "", labelWidth) + line)

/** Lines of at most so many columns and rows, with a word on those for which there is no room. */
export const fitting = (all: ReadonlyArray<string>, { columns, rows }: Size): ReadonlyArray<string> => {
  const most = Math.max(2, rows)
  const shown = all.length <= most ? all : [...all.slice(0, most - 1), `… and ${all.length - most + 1} more`]
  return shown.map((line) => fit(line, columns))
}

/**
 * At most `rows` lines of at most `columns` columns. Rates are what has grown since the status before, of which there is
 * none at first; sessions for which there is no room are counted.
 */
export const lines = (before: Status | undefined, status: Status, { columns, rows }: Size): ReadonlyArray<string> => {
  const head = [
    ...labelled("contact point", [status.contactPoint], columns),
    ...labelled("mapping", mappingLines(status.mapping, status.now), columns),
    ...labelled("traffic", [trafficLine(before, status)], columns)
  ]
  const { length } = status.sessions
  const room = rows - head.length - 1
  const shown = length <= room ? length : Math.max(0, room - 1)
  const table = length > 0 && room > 0 ? sessionRows(before, status, shown) : []
  const rest = shown < length && room > 0 ? [`… and ${plural(length - shown, "more session")}`] : []
  return [...head, ...table, ...rest].slice(0, Math.max(0, rows)).map((line) => fit(line, columns))
}
