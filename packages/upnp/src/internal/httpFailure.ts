/**
 * Failed HTTP exchanges as reasons that a caller can act on.
 */
import type * as Http from "@effect-nat/core/Http"
import * as NatError from "@effect-nat/core/NatError"
import * as Duration from "effect/Duration"

/** What a failed exchange means; `what` says which one it was. */
export const toNatError = (error: Http.HttpError, what: string): NatError.NatError => {
  const detail = `${what}: ${error.message}`
  switch (error.kind) {
    case "Refused":
    case "Unreachable":
      return NatError.fromReason(new NatError.Unreachable({ detail }))
    case "TooLarge":
    case "Malformed":
    case "Closed":
      return NatError.fromReason(new NatError.MalformedAnswer({ detail }))
  }
}

/** No answer in time. */
export const timedOut = (what: string, after: Duration.Duration): NatError.NatError =>
  NatError.fromReason(new NatError.TimedOut({ detail: `${what}: no answer within ${Duration.format(after)}` }))
