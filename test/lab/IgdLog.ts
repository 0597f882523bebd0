/**
 * What the router's daemon says it was asked over UPnP.
 */
import * as Effect from "effect/Effect"
import type * as Lab from "./Lab.ts"

/**
 * The names of the actions that were called since the daemon started, in their order, whoever called them.
 *
 * @category accessors
 */
export const actions = Effect.fnUntraced(function* (lab: Lab.LabService) {
  const log = yield* Effect.flatMap(lab.daemon, (daemon) => daemon.stderr)
  return Array.from(log.matchAll(/SOAPAction: "?\S+#(\w+)/g), ([, action = ""]) => action)
})
