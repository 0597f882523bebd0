/** What descriptions of decoders are made of. */
import * as Result from "effect/Result"
import { concat } from "../../packages/testing/src/internal/bytes.ts"
import * as Inputs from "./inputs.ts"

/** The value, or `undefined` where the error is one of the decoder's own. */
export const valueOf = <A, E>(result: Result.Result<A, E>, isOwn: (error: E) => boolean): A | undefined => {
  if (Result.isSuccess(result)) return result.success
  if (isOwn(result.failure)) return undefined
  throw new Error(`an error of another type: ${String(result.failure)}`)
}

export type Tokens = Inputs.Source["tokens"]

export const texts = (first: string, ...others: ReadonlyArray<string>): Tokens => [
  Inputs.fromText(first),
  ...others.map(Inputs.fromText)
]

export const hex = (first: string, ...others: ReadonlyArray<string>): Tokens => [
  fromHex(first),
  ...others.map((text) => fromHex(text))
]

const fromHex = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/[0-9a-f]{2}/g) ?? [], (two) => Number.parseInt(two, 16))

export const frame = (before: string, after: string) => (repeated: Uint8Array) =>
  concat([Inputs.fromText(before), repeated, Inputs.fromText(after)])

/** A header, and in it the length of what follows where it has a place for that. */
export const hexFrame = (before: string, lengthAt?: number) => (repeated: Uint8Array) => {
  const bytes = concat([fromHex(before), repeated])
  if (lengthAt !== undefined) new DataView(bytes.buffer).setUint16(lengthAt, Math.min(repeated.length, 0xffff))
  return bytes
}
