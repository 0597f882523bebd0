/**
 * What is known to go wrong, by name: a world that comes to just this is not counted as violated. An entry that no
 * world comes to any more is a failure of its own in a long run: then it is time to take it out.
 */
import * as Quirk from "@effect-nat/testing/Quirk"
import type * as Plan from "./plan.ts"
import type * as World from "./world.ts"

export interface Expected {
  readonly name: string
  readonly why: string
  readonly matches: (plan: Plan.Plan, invariant: World.Invariant) => boolean
}

const quirk = (name: Quirk.Quirk, invariants: ReadonlyArray<World.Invariant>): Expected => ({
  name: `quirk ${name}`,
  why: Quirk.profileOf(name).handled,
  matches: (plan, invariant) => plan.quirk === name && invariants.includes(invariant)
})

const count = (plan: Plan.Plan, what: Plan.Event["what"]): number =>
  plan.events.filter((event) => event.what === what).length

export const list: ReadonlyArray<Expected> = [
  quirk("ExpiresLeasesAtOnce", ["live-or-lost"]),
  quirk("NeverForgets", ["nothing-left"]),
  quirk("UrlBaseOnDeadPort", ["maps-when-healthy", "recovers"]),
  {
    name: "a strict port that the host's old address holds",
    why: "a renewal that is refused for good is not told before the lease has run out",
    matches: (plan, invariant) =>
      invariant === "live-or-lost" &&
      plan.wanted.some((wanted) => wanted.strictExternalPort) &&
      count(plan, "addressRenewal") + count(plan, "networkChange") > 0
  },
  {
    name: "UPnP release of a port that somebody else has by now",
    why: "a mapping is deleted by its external port, without a look at whose it is",
    matches: (plan, invariant) =>
      invariant === "others-untouched" &&
      plan.protocol !== "natpmp" &&
      count(plan, "routerReplaced") + count(plan, "networkChange") > 0
  }
]

export const nameOf = (plan: Plan.Plan, invariant: World.Invariant): string | undefined =>
  list.find((one) => one.matches(plan, invariant))?.name
