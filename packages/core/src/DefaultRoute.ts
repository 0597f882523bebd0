/**
 * The seam to the routing table: which gateways would the kernel send packets for the world to?
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"

/**
 * One default route.
 *
 * @category models
 * @since 0.1.0
 */
export interface Route {
  readonly gateway: NetAddress.IpAddress
  /** The interface's name; on Windows its index or alias. */
  readonly interface: string
  /** Lower is preferred. */
  readonly metric: number
  /**
   * The interface's number, without which a link-local IPv6 gateway has no address; `undefined` where it is not known.
   */
  readonly scopeId?: number | undefined
}

/**
 * Reads the default routes.
 *
 * @category services
 * @since 0.1.0
 */
export class DefaultRoute extends Context.Service<
  DefaultRoute,
  {
    /** The default routes as they are now, the preferred first; empty where there is none or it cannot be read. */
    readonly routes: Effect.Effect<ReadonlyArray<Route>>
  }
>()("@effect-nat/core/DefaultRoute") {}
