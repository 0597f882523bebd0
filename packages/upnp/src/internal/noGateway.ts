/**
 * That there is no gateway, and what its owner can do about it.
 */
import type * as Gateway from "@effect-nat/core/Gateway"
import * as NatError from "@effect-nat/core/NatError"
import * as NetAddress from "effect/net/NetAddress"

/** There is none, and why that may be. */
export const because = (detail: string): NatError.NatError => NatError.fromReason(new NatError.NoGateway({ detail }))

/** Nothing that answered is a gateway that maps ports. */
export const silent: NatError.NatError = because(
  'UPnP is often switched off: look for "UPnP" in the router\'s settings, under NAT, firewall or advanced'
)

/** None of those that were seen is the one that is wanted. */
export const noneCalled = (selected: string, seen: ReadonlyArray<Gateway.Gateway>): NatError.NatError => {
  const names = new Set(seen.map(({ address, name }) => `${name} (${NetAddress.formatIp(address)})`))
  return because(
    `none is called "${selected}"; ${names.size === 0 ? "none was seen" : `seen: ${[...names].join(", ")}`}`
  )
}
