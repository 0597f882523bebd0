/**
 * Text off the wire, made safe to keep and to print.
 */
import * as Result from "effect/Result"

/** Control characters, which can drive a terminal; tabs and line ends are left to `oneLine`. */
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const controlCharacters = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g

/** Replaces control characters other than tab and line ends. */
export const withoutControls = (text: string): string => text.replace(controlCharacters, "\ufffd")

const whitespace = /[\s\u2028\u2029]+/g

/** One line of at most `length` characters: what a message or a list can show. */
export const oneLine = (text: string, length: number): string => {
  const line = withoutControls(text).replace(whitespace, " ").trim()
  return line.length > length ? `${line.slice(0, length - 1)}…` : line
}

const utf8 = new TextDecoder("utf-8", { fatal: true })
const latin1 = new TextDecoder("latin1")

const utf16 = (bytes: Uint8Array): "utf-16le" | "utf-16be" | undefined => {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le"
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be"
  return undefined
}

/**
 * Decodes text by looking at it: routers' charset headers are wrong too often to be believed. UTF-8 unless a byte
 * order mark says otherwise; bytes that are no UTF-8 are taken as Latin-1.
 */
export const decode = (bytes: Uint8Array): string => {
  const wide = utf16(bytes)
  if (wide !== undefined) return new TextDecoder(wide).decode(bytes)
  return Result.getOrElse(
    Result.try(() => utf8.decode(bytes)),
    () => latin1.decode(bytes)
  )
}

const digits = /^\d{1,10}$/

/** A whole number of at most 32 bits as the protocols write it, or `undefined`. */
export const parseUint32 = (text: string | undefined): number | undefined => {
  const trimmed = text?.trim() ?? ""
  if (!digits.test(trimmed)) return undefined
  const value = Number(trimmed)
  return value <= 0xffffffff ? value : undefined
}

const wholeNumber = /^(-?)0*(\d{1,15})$/

/**
 * A counter, which the documents limit to 32 bits. A negative number is one of 32 bits that the router printed as
 * signed; up to 15 digits are taken from those that count further.
 */
export const parseCounter = (text: string | undefined): number | undefined => {
  const match = wholeNumber.exec(text?.trim().slice(0, 40) ?? "")
  const value = Number(match?.[2])
  if (match === null || match[1] === "") return match === null ? undefined : value
  return value <= 0x80000000 ? (0x100000000 - value) % 0x100000000 : undefined
}

const yes = /^(?:1|true|yes)$/i
const no = /^(?:0|false|no)$/i

/** A truth value in any of the three ways to write it (UPnP Device Architecture 1.1 §2.5), or `undefined`. */
export const parseBoolean = (text: string | undefined): boolean | undefined => {
  const trimmed = text?.trim() ?? ""
  if (yes.test(trimmed)) return true
  return no.test(trimmed) ? false : undefined
}
