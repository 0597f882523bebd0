/**
 * How the answers of a router leave the port that NAT-PMP and PCP share.
 */
import type * as RouterModel from "../RouterModel.ts"

/** A datagram that goes back. */
export interface Reply {
  readonly payload: Uint8Array
  readonly fromOtherPort: boolean
  /** How long the router takes, in milliseconds. */
  readonly after: number
}

/** Longer than a client that is in a hurry waits before it asks again. */
const late = 1_200

/** So many bytes are missing, or too many. */
const excess = 4

const changed = (model: RouterModel.RouterModel, payload: Uint8Array): Uint8Array => {
  if (model.has("RepliesCutShort")) return payload.subarray(0, Math.max(0, payload.length - excess))
  if (!model.has("RepliesPadded")) return payload
  const longer = new Uint8Array(payload.length + excess)
  longer.set(payload)
  return longer
}

/** What goes back where this is the answer: one datagram, unless the router has a quirk or says nothing. */
export const repliesOf = (model: RouterModel.RouterModel, answer: Uint8Array | undefined): ReadonlyArray<Reply> => {
  if (answer === undefined) return []
  const reply: Reply = {
    payload: changed(model, answer),
    fromOtherPort: model.has("RepliesFromOtherPort"),
    after: model.has("RepliesLate") ? late : 0
  }
  return model.has("RepliesTwice") ? [reply, reply] : [reply]
}
