/**
 * Turns a listening port and its live mappings into a contact point, and answers what to tell *this* requester.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as ContactPoint from "./ContactPoint.ts"
import * as DefaultRoute from "./DefaultRoute.ts"
import * as Ipv4Scope from "./Ipv4Scope.ts"
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

const isOwn = (surroundings: Surroundings, address: NetAddress.IpAddress): boolean =>
  NetAddress.isLoopback(address) ||
  surroundings.interfaces.some((one) => one.addresses.some((own) => Equal.equals(own.address, address)))

const isExternal = (contactPoint: ContactPoint.ContactPoint, address: NetAddress.IpAddress): boolean =>
  contactPoint.external.some((one) => Equal.equals(one.address.address, address))

const isPrivate = (address: NetAddress.IpAddress): boolean =>
  NetAddress.isIpv4Address(address)
    ? NetAddress.isPrivate(address) || NetAddress.isLinkLocal(address) || Ipv4Scope.isShared(address)
    : NetAddress.isUniqueLocal(address) || NetAddress.isLinkLocal(address)

const reachable = (addresses: ReadonlyArray<NetAddress.InetAddress>): Answer =>
  addresses.length === 0
    ? { _tag: "NotReachable", detail: "no address is known that can be reached from there" }
    : { _tag: "Reachable", addresses }

/** Those that pass the test before the others, each in their order. */
const firstThose = (
  addresses: ReadonlyArray<NetAddress.InetAddress>,
  isFirst: (address: NetAddress.IpAddress) => boolean
): ReadonlyArray<NetAddress.InetAddress> => [
  ...addresses.filter((one) => isFirst(one.address)),
  ...addresses.filter((one) => !isFirst(one.address))
]

/** Whether one of this host's own addresses and another address share the own address's network. */
const isNeighbour = (surroundings: Surroundings, own: NetAddress.IpAddress, other: NetAddress.IpAddress): boolean =>
  surroundings.interfaces.some((one) =>
    one.addresses.some(
      (known) => Equal.equals(known.address, own) && IpNetwork.contains(IpNetwork.fromInterface(known), other)
    )
  )

/** An overlay network gives each host one address without a netmask: what is left to go by is the range. */
const isSameOverlay = (own: NetAddress.IpAddress, other: NetAddress.IpAddress): boolean =>
  NetAddress.isIpv6Address(other)
    ? NetAddress.isUniqueLocal(other) && IpNetwork.contains(IpNetwork.fromAddressUnsafe(other, 48), own)
    : Ipv4Scope.isShared(own) && Ipv4Scope.isShared(other)

/**
 * Which addresses for whom, from the requester's observed source: this host and its networks get internal addresses,
 * the gateway may be an outsider in disguise, the world gets external ones. Loopback addresses never go to another
 * host.
 *
 * @category combinators
 * @since 0.1.0
 */
export const addressesFor = (
  contactPoint: ContactPoint.ContactPoint,
  requester: Requester,
  surroundings: Surroundings
): Answer => {
  const isForOthers = (one: NetAddress.InetAddress) => !NetAddress.isLoopback(one.address)
  const external = contactPoint.external.map((one) => one.address).filter(isForOthers)
  const internal = contactPoint.internal.filter(isForOthers)
  if (requester.source === undefined) return reachable(external)
  const source = NetAddress.toCanonical(requester.source)
  const receivedOn = requester.receivedOn === undefined ? undefined : NetAddress.toCanonical(requester.receivedOn)
  if (isOwn(surroundings, source)) return reachable(contactPoint.internal)
  if (isExternal(contactPoint, source)) return reachable([...internal, ...external])
  if (surroundings.gateways.some((gateway) => Equal.equals(gateway, source))) {
    return reachable([...external, ...internal])
  }
  if (NetworkInterfaces.isAttached(surroundings.interfaces, source)) {
    // The address that took the request: the requester has just shown that it works.
    const received = internal.filter((one) => Equal.equals(one.address, receivedOn))
    return reachable(
      received.length > 0 ? received : firstThose(internal, (own) => isNeighbour(surroundings, own, source))
    )
  }
  if (isPrivate(source)) {
    const near = firstThose(internal, (own) => Equal.equals(own, receivedOn) || isSameOverlay(own, source))
    return reachable([...near, ...external])
  }
  return reachable(external)
}

const externalOf = (mapping: PortMapping.PortMapping): ReadonlyArray<ContactPoint.ExternalAddress> => {
  const address = PortMapping.external(mapping)
  if (address === undefined || mapping.status === "lost") return []
  return [new ContactPoint.ExternalAddress({ address, verification: verificationOf(mapping) })]
}

const verificationOf = (mapping: PortMapping.PortMapping): ContactPoint.Verification => {
  if (mapping.doubleNat) return "doubtful"
  return mapping.method === "manual" ? "configured" : "reported"
}

const make = Effect.gen(function* () {
  const interfaces = yield* NetworkInterfaces.NetworkInterfaces
  const defaultRoute = yield* DefaultRoute.DefaultRoute
  const lanAddresses = Effect.provideService(
    NetworkInterfaces.lanAddresses,
    NetworkInterfaces.NetworkInterfaces,
    interfaces
  )
  const internalAddresses = Effect.fnUntraced(function* (
    address: NetAddress.IpAddress | undefined,
    mappings: ReadonlyArray<PortMapping.PortMapping>
  ) {
    if (address !== undefined && !NetAddress.isUnspecified(address)) return [address]
    // A service that listens at 0.0.0.0 has no IPv6; one that listens at :: has both.
    const isIpv4Only = address !== undefined && NetAddress.isIpv4Address(address)
    // What is mapped is this host's address on the network of the gateway. It comes first, and it may be missing from
    // the list: an interface that has just come up is not in there for a second or two.
    const mapped = mappings.map((mapping) => mapping.internalAddress).filter((one) => !NetAddress.isLoopback(one))
    const own = Arr.dedupe([...mapped, ...(yield* lanAddresses)]).filter(
      (one) => !isIpv4Only || NetAddress.isIpv4Address(one)
    )
    return own.length > 0 ? own : [NetAddress.ipv4Loopback]
  })

  return ContactPointResolver.of({
    contactPoint: Effect.fn("ContactPointResolver.contactPoint")(function* ({ address, mappings, name, port }) {
      const internal = yield* internalAddresses(address, mappings)
      return new ContactPoint.ContactPoint({
        version: 1,
        name,
        internal: internal.slice(0, ContactPoint.mostInternal).map((own) => NetAddress.inetAddressUnsafe(own, port)),
        // A mapping for TCP and one for UDP may well have one address.
        external: Arr.dedupe(mappings.flatMap(externalOf)).slice(0, ContactPoint.mostExternal)
      })
    }),
    addressesFor: Effect.fn("ContactPointResolver.addressesFor")(function* (contactPoint, requester) {
      const routes = yield* defaultRoute.routes
      const surroundings = { interfaces: yield* interfaces.list, gateways: routes.map((route) => route.gateway) }
      return addressesFor(contactPoint, requester, surroundings)
    })
  })
})

/**
 * Resolves from this host's interfaces and default routes as they are at each question.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  ContactPointResolver,
  never,
  NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute
> = Layer.effect(ContactPointResolver, make)
