/**
 * NAT-PMP holds one mapping per protocol and internal port of a host: a second request for it would change the first
 * one's mapping, and its release would delete it. So the second one is refused while the first one is held.
 */
import * as NatError from "@effect-nat/core/NatError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as NatPmpClient from "../NatPmpClient.ts"

/** The slots of one strategy. */
export interface LeaseSlots {
  /** Takes a slot until the scope closes or it is given back before. Fails with `Unsupported`. */
  readonly take: (end: NatPmpClient.InternalEnd) => Effect.Effect<Slot, NatError.NatError, Scope.Scope>
}

/** A slot that is taken. */
export interface Slot {
  readonly giveBack: Effect.Effect<void>
}

/** The name of an internal end. */
export const keyOf = (end: NatPmpClient.InternalEnd): string => `${end.internalPort}/${end.protocol}`

const taken = (key: string) =>
  NatError.fromReason(
    new NatError.Unsupported({
      operation: `map internal port ${key} a second time over NAT-PMP`,
      detail: "NAT-PMP has one mapping per internal port: use the one that is held, or release it first"
    })
  )

/** No slot is taken at first. */
export const make = (): LeaseSlots => {
  const holders = new Map<string, symbol>()
  const take = Effect.fnUntraced(function* (end: NatPmpClient.InternalEnd) {
    const key = keyOf(end)
    const holder = Symbol(key)
    // Given back twice, by hand and by the scope, it may already be somebody else's the second time.
    const giveBack = Effect.sync(() => {
      if (holders.get(key) === holder) holders.delete(key)
    })
    yield* Effect.acquireRelease(
      // In one step: a fiber may yield between any two.
      Effect.suspend(() => {
        if (holders.has(key)) return Effect.fail(taken(key))
        holders.set(key, holder)
        return Effect.void
      }),
      () => giveBack
    )
    return { giveBack }
  })
  return { take }
}
