/**
 * What a router that speaks NAT-PMP or PCP says unasked when it has started, has started again, or has another external
 * address (RFC 6886 §3.2.1, RFC 6887 §14): all hosts hear it ten times, and those that have something from PCP are told
 * apart, three times.
 */
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import type * as NetAddress from "effect/net/NetAddress"
import * as NatPmpResponder from "../NatPmpResponder.ts"
import * as PcpResponder from "../PcpResponder.ts"
import type * as RouterModel from "../RouterModel.ts"

/** Why it speaks up. */
export type Occasion = "start" | "restart" | "newAddress"

/** A datagram that is sent unasked, to the port of clients. */
export interface Announcement {
  /** A group, or one host. */
  readonly to: NetAddress.IpAddress
  /** How long after the occasion, in milliseconds. */
  readonly after: number
  /** As things are when it is sent; `undefined` where there is nothing to say any more. */
  readonly payload: (now: number) => Uint8Array | undefined
}

/** So often, with pauses that double from a quarter of a second (RFC 6886 §3.2.1, RFC 6887 §14.1, §14.2). */
const times = (count: number): ReadonlyArray<number> =>
  Array.from({ length: count }, (_, round) => 250 * (2 ** round - 1))

const toAll = times(10)
const toOne = times(3)

type Said = Pick<Announcement, "payload" | "to">

const repeat = (at: ReadonlyArray<number>, said: ReadonlyArray<Said>): ReadonlyArray<Announcement> =>
  at.flatMap((after) => said.map((one) => ({ ...one, after })))

const toGroups = (model: RouterModel.RouterModel, protocols: ReadonlyArray<string>): ReadonlyArray<Said> => {
  const pcp = (now: number) => PcpResponder.announcement(model, now)
  return [
    ...(protocols.includes("natpmp")
      ? [{ to: PcpCodec.group, payload: (now: number) => NatPmpResponder.announcement(model, now) }]
      : []),
    ...(protocols.includes("pcp")
      ? [
          { to: PcpCodec.group, payload: pcp },
          { to: PcpCodec.groupIpv6, payload: pcp }
        ]
      : [])
  ]
}

/** Each mapping has a new external end, or its host is told that all of them may be lost. */
const toClients = (model: RouterModel.RouterModel, occasion: Occasion, now: number): ReadonlyArray<Said> => {
  if (occasion === "start") return []
  if (occasion === "restart") {
    return model.pcpClientsBefore.map((to) => ({ to, payload: (at) => PcpResponder.announcement(model, at) }))
  }
  return model
    .entries(now)
    .filter(({ nonce }) => nonce !== undefined)
    .map((entry) => ({ to: entry.client, payload: (at) => PcpResponder.mappingUpdate(model, at, entry) }))
}

/** What there is to say over these protocols. */
export const of = (
  model: RouterModel.RouterModel,
  protocols: ReadonlyArray<string>,
  occasion: Occasion,
  now: number
): ReadonlyArray<Announcement> => {
  if (model.has("EpochStartsOver")) return []
  const groups = model.has("AnnouncesOnlyToClients") ? [] : repeat(toAll, toGroups(model, protocols))
  const isForAllOnly = model.has("AnnouncesOnlyToGroup") || !protocols.includes("pcp")
  return [...groups, ...(isForAllOnly ? [] : repeat(toOne, toClients(model, occasion, now)))]
}
