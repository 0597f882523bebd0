// Written by "npm run generate" from the modules' headers. Do not edit.

/**
 * What real routers do differently, by name: each quirk is one way in which some router in the wild departs from its
 * protocol or from what clients expect.
 *
 * @since 0.1.0
 */
export * as Quirk from "./Quirk.ts"

/**
 * The one model of a router behind every simulated router: its mapping table, the expiry of leases, its epoch and
 * external address, reboots, refusals and silence.
 *
 * @since 0.1.0
 */
export * as RouterModel from "./RouterModel.ts"
