/**
 * What real routers do differently, by name: each quirk is one way in which some router in the wild departs from its
 * protocol or from what clients expect.
 *
 * @since 0.1.0
 */

/**
 * The name of a quirk.
 *
 * @category models
 * @since 0.1.0
 */
export type Quirk = "OnlyPermanentLeases" | "RefusesPermanentLeases"
