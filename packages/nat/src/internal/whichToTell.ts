/**
 * What two strategies said, in words for the user: the first is the one that should have done it. That it lacks the
 * operation says less than what another gateway said, and that there is no other says nothing.
 */
import type * as NatError from "@effect-nat/core/NatError"

export const whichToTell = (first: NatError.NatError, other: NatError.NatError): NatError.NatError =>
  first.reason._tag === "Unsupported" && other.reason._tag !== "NoGateway" ? other : first
