/**
 * The seam to this host's own addresses.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as IpInterface from "effect/net/IpInterface"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"

/**
 * One network interface with its addresses and their networks.
 *
 * @category models
 * @since 0.1.0
 */
export interface NetworkInterface {
  readonly name: string
  readonly isLoopback: boolean
  readonly addresses: ReadonlyArray<IpInterface.IpInterface>
}

/**
 * Reads the interfaces that are up.
 *
 * @category services
 * @since 0.1.0
 */
export class NetworkInterfaces extends Context.Service<
  NetworkInterfaces,
  {
    /** The interfaces as they are now. */
    readonly list: Effect.Effect<ReadonlyArray<NetworkInterface>>
  }
>()("@effect-nat/core/NetworkInterfaces") {}

/**
 * The addresses that another host on the same network could use: neither loopback nor link-local.
 *
 * @category accessors
 * @since 0.1.0
 */
export const lanAddresses: Effect.Effect<
  ReadonlyArray<NetAddress.IpAddress>,
  never,
  NetworkInterfaces
> = NetworkInterfaces.use((interfaces) => interfaces.list).pipe(
  Effect.map((interfaces) =>
    interfaces
      .filter((one) => !one.isLoopback)
      .flatMap((one) => one.addresses.map((address) => address.address))
      .filter((address) => !NetAddress.isLoopback(address) && !NetAddress.isLinkLocal(address))
  )
)

/**
 * Whether an address lies in a network that this host is attached to.
 *
 * @category guards
 * @since 0.1.0
 */
export const isAttached = (interfaces: ReadonlyArray<NetworkInterface>, address: NetAddress.IpAddress): boolean =>
  interfaces.some((one) => one.addresses.some((own) => IpNetwork.contains(IpNetwork.fromInterface(own), address)))
