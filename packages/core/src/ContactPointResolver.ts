/**
 * Turns a listening port and its live mappings into a contact point, and answers what to tell *this* requester.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as ContactPoint from "./ContactPoint.ts"
import * as DefaultRoute from "./DefaultRoute.ts"
import * as NetworkInterfaces from "./NetworkInterfaces.ts"
import * as PortMapping from "./PortMapping.ts"

/**
 * Where a request came from, as far as it is known.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requester {
  /**
   * The peer's observed address. `undefined` for a connection that something forwarded without saying for whom: that
   * peer may be anywhere.
   */
  readonly source: NetAddress.IpAddress | undefined
  /** This host's address that received the request. */
  readonly receivedOn?: NetAddress.IpAddress | undefined
}

/**
 * The addresses for one requester, in the order to try them; or that nothing known here can be reached from there.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer =
  | { readonly _tag: "Reachable"; readonly addresses: ReadonlyArray<NetAddress.InetAddress> }
  | { readonly _tag: "NotReachable"; readonly detail: string }

/**
 * What this host knows of itself when it answers.
 *
 * @category models
 * @since 0.1.0
 */
export interface Surroundings {
  readonly interfaces: ReadonlyArray<NetworkInterfaces.NetworkInterface>
  readonly gateways: ReadonlyArray<NetAddress.IpAddress>
}

/**
 * Makes contact points and answers requesters.
 *
 * @category services
 * @since 0.1.0
 */
export class ContactPointResolver extends Context.Service<
  ContactPointResolver,
  {
    /**
     * The contact point of a service that listens on `port` at `address`, by default at all addresses of this host.
     */
    readonly contactPoint: (options: {
      readonly name: string
      readonly port: number
      readonly address?: NetAddress.IpAddress | undefined
      readonly mappings: ReadonlyArray<PortMapping.PortMapping>
    }) => Effect.Effect<ContactPoint.ContactPoint>
    /** What to tell this requester. */
    readonly addressesFor: (contactPoint: ContactPoint.ContactPoint, requester: Requester) => Effect.Effect<Answer>
  }
>()("@effect-nat/core/ContactPointResolver") {}
