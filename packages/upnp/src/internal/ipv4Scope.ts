/**
 * Which IPv4 addresses can the world reach?
 */
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"

/** Shared by a provider's customers behind a NAT of its own (RFC 6598). */
const carrierNat = IpNetwork.fromStringUnsafe("100.64.0.0/10")

/** Whether a gateway's external address is one that hosts elsewhere can connect to, as far as the address tells. */
export const isPublic = (address: NetAddress.IpAddress): boolean =>
  NetAddress.isIpv4Address(address) &&
  NetAddress.isUnicast(address) &&
  !NetAddress.isUnspecified(address) &&
  !NetAddress.isPrivate(address) &&
  !NetAddress.isLoopback(address) &&
  !NetAddress.isLinkLocal(address) &&
  !IpNetwork.contains(carrierNat, address)

/** What stands between a gateway without a public address and the world. */
export const whatIsBeyond = (address: NetAddress.IpAddress): string =>
  IpNetwork.contains(carrierNat, address)
    ? "the provider shares one address among many customers (carrier-grade NAT)"
    : "there is another router between it and the world (double NAT)"
