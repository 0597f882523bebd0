/**
 * Which IPv6 addresses the world can reach.
 *
 * @since 0.1.0
 */
import * as NetAddress from "effect/net/NetAddress"

/**
 * Whether an address is global unicast as the internet routes it now: one of `2000::/3`.
 *
 * @category guards
 * @since 0.1.0
 */
export const isGlobal = (address: NetAddress.IpAddress): address is NetAddress.Ipv6Address =>
  NetAddress.isIpv6Address(address) && (NetAddress.ipv6ToSegments(address)[0] & 0xe000) === 0x2000

/**
 * An address of the world, any one: `Udp.localAddressTowards` tells which own address the kernel would use towards it,
 * and nothing is sent there.
 *
 * @category constants
 * @since 0.1.0
 */
export const world: NetAddress.Ipv6Address = NetAddress.ipv6FromBytesUnsafe(
  Uint8Array.of(0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
)
