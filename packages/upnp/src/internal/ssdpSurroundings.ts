/**
 * Where this host is, and which senders of SSDP messages may therefore be heard.
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as Effect from "effect/Effect"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"

export interface Surroundings {
  readonly interfaces: ReadonlyArray<NetworkInterfaces.NetworkInterface>
  /** The default gateways, each once, the preferred first. */
  readonly gateways: ReadonlyArray<NetAddress.Ipv4Address>
}

export const read = Effect.gen(function* () {
  const interfaces = yield* (yield* NetworkInterfaces.NetworkInterfaces).list
  const routes = yield* (yield* DefaultRoute.DefaultRoute).routes
  const gateways = new Map(
    routes
      .map((route) => route.gateway)
      .filter(NetAddress.isIpv4Address)
      .map((gateway) => [NetAddress.formatIp(gateway), gateway])
  )
  const surroundings: Surroundings = { interfaces, gateways: [...gateways.values()] }
  return surroundings
})

/** The IPv4 addresses of these interfaces, with their networks. */
export const ownAddresses = (
  interfaces: ReadonlyArray<NetworkInterfaces.NetworkInterface>
): ReadonlyArray<IpInterface.Ipv4Interface> =>
  interfaces.flatMap((one) => one.addresses).filter(IpInterface.isIpv4Interface)

/** The same text for the same networks and gateways. */
export const format = ({ gateways, interfaces }: Surroundings): string =>
  [...ownAddresses(interfaces).map(IpInterface.format), "via", ...gateways.map(NetAddress.formatIp)].join(" ")

export interface Sender {
  readonly from: NetAddress.Ipv4Address
  readonly isDefaultGateway: boolean
}

/** Who sent something, where such a sender is heard: a default gateway, or a host of an attached network. */
export const sender = (
  address: NetAddress.IpAddress,
  interfaces: ReadonlyArray<NetworkInterfaces.NetworkInterface>,
  gateways: ReadonlyArray<NetAddress.IpAddress>
): Result.Result<Sender, string> => {
  const from = NetAddress.toCanonical(address)
  if (!NetAddress.isIpv4Address(from)) return Result.fail("the sender is no IPv4 address")
  const text = NetAddress.formatIp(from)
  const isDefaultGateway = gateways.some((gateway) => NetAddress.formatIp(gateway) === text)
  if (!isDefaultGateway && !NetworkInterfaces.isAttached(interfaces, from)) {
    return Result.fail(`${text} is not in an attached network`)
  }
  return Result.succeed({ from, isDefaultGateway })
}
