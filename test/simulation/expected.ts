/**
 * What is known to go wrong, by name: a world that comes to just this is not counted as violated. An entry that no
 * world comes to any more is a failure of its own in a long run: then it is time to take it out.
 */
import type * as Plan from "./plan.ts"
import type * as Judge from "./judge.ts"

export interface Expected {
  readonly name: string
  readonly why: string
  readonly matches: (plan: Plan.Plan, invariant: Judge.Invariant) => boolean
}

/** Nothing, now. What a profile says is not handled yet, say, stands here with the invariants that show it. */
export const list: ReadonlyArray<Expected> = []

export const nameOf = (plan: Plan.Plan, invariant: Judge.Invariant): string | undefined =>
  list.find((one) => one.matches(plan, invariant))?.name
