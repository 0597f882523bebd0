/**
 * Gateways hold one mapping per protocol and internal port of a host: over NAT-PMP a second request for it would change
 * the first one's mapping, and its release would delete it; over PCP it would be refused, as it has another nonce. So
 * the second one is refused here while the first one is held, whichever of the protocols holds it.
 */
import * as Strategy from "@effect-nat/core/Strategy"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as NetAddress from "effect/net/NetAddress"
import type * as NatPmpClient from "../NatPmpClient.ts"

/** The port of one host that a mapping leads to. */
export interface End extends NatPmpClient.InternalEnd {
  /** `"ipv6"` is another one than all others. */
  readonly family?: MappingRequest.Family | undefined
  /** `undefined` is this host. */
  readonly internalAddress?: NetAddress.IpAddress | undefined
}

/** The slots of all strategies of one process that share a way to the gateway. */
export interface LeaseSlots {
  /** Takes a slot until the scope closes or it is given back before. Fails with `Unsupported`. */
  readonly take: (end: End) => Effect.Effect<Slot, NatError.NatError, Scope.Scope>
}

/** A slot that is taken. */
export interface Slot {
  readonly giveBack: Effect.Effect<void>
  /** The attempt that has taken it is a mapping now. */
  readonly keep: Effect.Effect<void>
}

interface Holder {
  isAttempt: boolean
}

const nameOf = ({ internalPort, protocol }: End): string => `${internalPort}/${protocol}`

const keyOf = (end: End): string => {
  const host = end.internalAddress === undefined ? "" : NetAddress.formatIp(end.internalAddress)
  return `${end.family === "ipv6" ? "ipv6" : "ipv4"} ${host} ${nameOf(end)}`
}

const taken = (end: End) =>
  NatError.fromReason(
    new NatError.Unsupported({
      operation: `map internal port ${nameOf(end)} a second time over NAT-PMP or PCP`,
      detail: "they have one mapping per internal port: use the one that is held, or release it first"
    })
  )

/** No slot is taken at first. */
export const make = (): LeaseSlots => {
  /** Several only where an attempt is among them: the gateway has one mapping for all of them. */
  const slots = new Map<string, Set<Holder>>()
  const take = Effect.fnUntraced(function* (end: End) {
    const key = keyOf(end)
    const holder: Holder = { isAttempt: yield* Strategy.IsAttempt }
    // Given back twice, by hand and by the scope, it may already be somebody else's the second time.
    const giveBack = Effect.sync(() => {
      const holders = slots.get(key)
      if (holders?.delete(holder) === true && holders.size === 0) slots.delete(key)
    })
    yield* Effect.acquireRelease(
      // In one step: a fiber may yield between any two.
      Effect.suspend(() => {
        const holders = slots.get(key) ?? new Set()
        // Whoever makes attempts clears up after itself.
        if ([...holders].some(({ isAttempt }) => !isAttempt)) return Effect.fail(taken(end))
        slots.set(key, holders.add(holder))
        return Effect.void
      }),
      () => giveBack
    )
    const keep = Effect.sync(() => {
      holder.isAttempt = false
    })
    return { giveBack, keep }
  })
  return { take }
}
