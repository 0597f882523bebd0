/**
 * Which IPv4 addresses can the world reach? What a gateway calls its external address need not be one of them.
 *
 * @since 0.1.0
 */
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"

const carrierNat = IpNetwork.fromStringUnsafe("100.64.0.0/10")

/**
 * Whether an address is shared by a provider's customers, behind a NAT of the provider's own: 100.64.0.0/10
 * (RFC 6598).
 *
 * @category guards
 * @since 0.1.0
 */
export const isShared = (address: NetAddress.IpAddress): boolean => IpNetwork.contains(carrierNat, address)

/**
 * Whether hosts elsewhere can connect to an address, as far as the address tells: an IPv4 unicast address that is
 * neither private (RFC 1918), shared, loopback nor link-local.
 *
 * @category guards
 * @since 0.1.0
 */
export const isPublic = (address: NetAddress.IpAddress): boolean =>
  NetAddress.isIpv4Address(address) &&
  NetAddress.isUnicast(address) &&
  !NetAddress.isUnspecified(address) &&
  !NetAddress.isPrivate(address) &&
  !NetAddress.isLoopback(address) &&
  !NetAddress.isLinkLocal(address) &&
  !isShared(address)

/**
 * What stands between a gateway and the world when its external address is not public.
 *
 * @category formatting
 * @since 0.1.0
 */
export const whatIsBeyond = (address: NetAddress.IpAddress): string =>
  isShared(address)
    ? "the provider shares one address among many customers (carrier-grade NAT)"
    : "there is another router between it and the world (double NAT)"
