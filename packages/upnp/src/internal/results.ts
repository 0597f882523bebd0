/**
 * The results of an action as values. A router that leaves one out, or says what makes no sense, has not said it:
 * `undefined`, or `MalformedAnswer` where a caller cannot go on without it.
 */
import * as NatError from "@effect-nat/core/NatError"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Soap from "../Soap.ts"
import * as WireText from "./wireText.ts"

const maximumTextLength = 256

/** One line; empty where there is none. */
export const text = (list: Soap.Arguments, name: string): string =>
  WireText.oneLine(Soap.argument(list, name) ?? "", maximumTextLength)

export const uint = (list: Soap.Arguments, name: string): number | undefined =>
  WireText.parseUint32(Soap.argument(list, name))

/** A counter: some routers print theirs as a signed number, and some count further than 32 bits. */
export const counter = (list: Soap.Arguments, name: string): number | undefined =>
  WireText.parseCounter(Soap.argument(list, name))

export const flag = (list: Soap.Arguments, name: string): boolean | undefined =>
  WireText.parseBoolean(Soap.argument(list, name))

/** An address; some routers say 0.0.0.0, or something else that is none, where they have none. */
export const address = (list: Soap.Arguments, name: string): NetAddress.IpAddress | undefined => {
  const found = Result.getOrUndefined(NetAddress.ipFromString(Soap.argument(list, name)?.trim() ?? ""))
  return found === undefined || NetAddress.isUnspecified(found) ? undefined : found
}

export const malformed = (detail: string): NatError.NatError =>
  NatError.fromReason(new NatError.MalformedAnswer({ detail }))

/** A value that a caller cannot do without. */
export const required = <A>(value: A | undefined, action: string, name: string): Effect.Effect<A, NatError.NatError> =>
  value === undefined
    ? Effect.fail(malformed(`the answer to ${action} has no ${name} that makes sense`))
    : Effect.succeed(value)
