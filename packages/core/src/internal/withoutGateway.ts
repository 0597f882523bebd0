/**
 * What the LAN and the manual strategy share: mappings that no gateway is asked for.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import type * as Stream from "effect/Stream"
import * as DefaultRoute from "../DefaultRoute.ts"
import * as LeaseEngine from "../LeaseEngine.ts"
import type * as MappingRequest from "../MappingRequest.ts"
import * as NatError from "../NatError.ts"
import * as NetworkInterfaces from "../NetworkInterfaces.ts"
import * as NetworkWatch from "../NetworkWatch.ts"
import type * as PortMapper from "../PortMapper.ts"
import * as PortMapping from "../PortMapping.ts"
import * as Udp from "../Udp.ts"

/** This host's address in the network of its default gateway, or else its first one there is; nothing is sent. */
const ownAddress = Effect.fnUntraced(function* (family: MappingRequest.Family) {
  const isWanted = family === "ipv6" ? NetAddress.isIpv6Address : NetAddress.isIpv4Address
  const { routes } = yield* DefaultRoute.DefaultRoute
  const route = (yield* routes).find((one) => isWanted(one.gateway) && !NetAddress.isLinkLocal(one.gateway))
  if (route !== undefined) {
    const towards = yield* Effect.option(Udp.localAddressTowards(route.gateway))
    if (towards._tag === "Some") return towards.value
  }
  const own = (yield* NetworkInterfaces.lanAddresses).find(isWanted)
  return own ?? (family === "ipv6" ? NetAddress.ipv6Loopback : NetAddress.ipv4Loopback)
})

/** What the strategy says of the outside. */
export interface Outside {
  readonly method: string
  readonly externalAddress: NetAddress.IpAddress | undefined
  readonly externalPort: (request: MappingRequest.Resolved) => number | undefined
}

/**
 * A lease protocol without a gateway: nothing to delete, and leases that never end. Only another own address, which the
 * watch over the network tells of, makes another mapping.
 */
export const makeProtocol = Effect.fnUntraced(function* (outside: Outside) {
  const context = yield* Effect.context<Udp.Udp | DefaultRoute.DefaultRoute | NetworkInterfaces.NetworkInterfaces>()
  const request = Effect.fnUntraced(function* (resolved: MappingRequest.Resolved) {
    const internalAddress = resolved.internalAddress ?? (yield* ownAddress(resolved.family))
    const mapping = new PortMapping.PortMapping({
      remoteHost: undefined,
      externalAddress: outside.externalAddress,
      externalPort: outside.externalPort(resolved),
      protocol: resolved.protocol,
      internalPort: resolved.internalPort,
      internalAddress,
      enabled: true,
      description: resolved.description,
      lifetime: undefined,
      gateway: undefined,
      method: outside.method,
      status: "mapped"
    })
    return { mapping, handle: undefined }
  }, Effect.provideContext(context))
  return {
    request,
    renew: (_lease, resolved) => request(resolved),
    network: yield* NetworkWatch.NetworkWatch,
    release: () => Effect.void,
    abandon: () => Effect.void
  } satisfies LeaseEngine.LeaseProtocol<undefined>
})

/** The error for what only a gateway could do. */
export const unsupported = (operation: string, detail: string) =>
  NatError.fromReason(new NatError.Unsupported({ operation, detail }))

/** The strategy's mapper; `list` and `remove` have no gateway to ask. */
export const makeMapper = Effect.fnUntraced(function* (
  outside: Outside,
  options: {
    readonly externalAddress: Effect.Effect<NetAddress.IpAddress, NatError.NatError>
    readonly list: Stream.Stream<PortMapping.PortMapping, NatError.NatError>
  }
) {
  const protocol = yield* makeProtocol(outside)
  return {
    map: (request: MappingRequest.MappingRequest) => LeaseEngine.map(protocol, request),
    externalAddress: options.externalAddress,
    list: options.list,
    remove: (_key: PortMapper.MappingKey) =>
      unsupported(`delete a mapping with the ${outside.method} strategy`, "it talks to no gateway")
  }
})
