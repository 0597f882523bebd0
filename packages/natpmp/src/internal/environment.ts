/**
 * What all mappings of a process share, over both protocols of port 5351: the ways to gateways, what they announce, which
 * internal ports are taken, and what was warned of.
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as DoubleNat from "@effect-nat/core/DoubleNat"
import * as Gateway from "@effect-nat/core/Gateway"
import * as Ledger from "@effect-nat/core/Ledger"
import type * as NatError from "@effect-nat/core/NatError"
import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as NatPmpCodec from "../NatPmpCodec.ts"
import * as PcpCodec from "../PcpCodec.ts"
import * as Announcements from "./announcements.ts"
import * as Gateways from "./gateways.ts"
import * as IgnoredDatagrams from "./ignoredDatagrams.ts"
import * as LeaseSlots from "./leaseSlots.ts"
import * as Recovery from "./recovery.ts"
import * as Ways from "./ways.ts"

/** The IPv4 gateways to use, as they are now. */
export interface Candidates {
  readonly gateways: ReadonlyArray<NetAddress.Ipv4Address>
  readonly selected: string | undefined
}

export interface Environment {
  readonly ways: Ways.Ways
  readonly recovery: Recovery.Recovery
  readonly slots: LeaseSlots.LeaseSlots
  readonly ledger: Ledger.Service
  readonly network: NetworkWatch.Service
  readonly candidates: Effect.Effect<Candidates>
  readonly routes: Effect.Effect<ReadonlyArray<DefaultRoute.Route>>
  /** This host's own address towards another host. */
  readonly localAddress: (remote: NetAddress.IpAddress) => Effect.Effect<NetAddress.IpAddress, NatError.NatError>
  /** Whether an address is this host's, whichever it would use. */
  readonly isOwn: (address: NetAddress.IpAddress) => Effect.Effect<boolean>
  /** Whether it is the one that this host uses towards another host, or any of its own where there is no way to that. */
  readonly isOwnTowards: (remote: NetAddress.IpAddress, address: NetAddress.IpAddress) => Effect.Effect<boolean>
  /** Once for each gateway and address: behind another NAT a mapping works, and yet nobody outside reaches it. */
  readonly warnOfNat: (gateway: NetAddress.IpAddress, external: NetAddress.IpAddress) => Effect.Effect<void>
}

const otherVersion = IgnoredDatagrams.malformed("another version")

/** What a gateway has announced over NAT-PMP (RFC 6886 §3.2.1). */
const hearNatPmp = Effect.fnUntraced(function* (recovery: Recovery.Recovery, way: Ways.Way, payload: Uint8Array) {
  const { natPmp } = way
  if (natPmp === undefined) return otherVersion
  const decoded = NatPmpCodec.decodeResponse(payload)
  if (Result.isFailure(decoded)) return IgnoredDatagrams.malformed(decoded.failure.message)
  const response = decoded.success
  if (response._tag !== "ExternalAddressResponse") return IgnoredDatagrams.mismatch("no announcement")
  return yield* Effect.tap(natPmp.hear(response), recovery.began(way.gateway, response.epoch))
})

/** What a gateway has announced over PCP (RFC 6887 §14.1), or says of a mapping (§14.2). */
const hearPcp = Effect.fnUntraced(function* (recovery: Recovery.Recovery, way: Ways.Way, payload: Uint8Array) {
  const { gateway, pcp } = way
  const decoded = PcpCodec.decodeResponse(payload)
  if (Result.isFailure(decoded)) return IgnoredDatagrams.malformed(decoded.failure.message)
  const response = decoded.success
  if (response._tag === "AnnounceResponse") {
    yield* recovery.began(gateway, response.epoch)
    return yield* Effect.tap(pcp.hear(response), recovery.announced(way, response.epoch))
  }
  if (response._tag !== "MapResponse") return IgnoredDatagrams.mismatch("no announcement")
  // Its epoch counts only where the nonce shows that it comes from who knows the mapping.
  return (yield* recovery.updated(gateway, response)) === "unknown"
    ? IgnoredDatagrams.mismatch("not about a mapping of this program")
    : yield* pcp.hear(response)
})

/**
 * What comes to the port that a mapping was asked for from, after its answer: one more response to the same request
 * (RFC 6887 §8.3). One that says the same is an answer that came twice.
 */
const hearUnasked = Effect.fnUntraced(function* (
  recovery: Recovery.Recovery,
  { gateway, pcp }: Ways.Way,
  payload: Uint8Array
) {
  const decoded = PcpCodec.decodeResponse(payload)
  if (Result.isFailure(decoded) || decoded.success._tag !== "MapResponse") return false
  if ((yield* recovery.updated(gateway, decoded.success)) !== "changed") return false
  yield* pcp.hear(decoded.success)
  return true
})

/** Whether this may be how the gateway of a held pinhole, which is named by its global address, speaks on its link. */
const mayBe = ({ place, way: { peer } }: Recovery.Held, from: NetAddress.InetAddress): boolean =>
  NetAddress.isInetAddressV6(peer) &&
  NetAddress.isInetAddressV6(from) &&
  !NetAddress.isLinkLocal(peer.address) &&
  NetAddress.isLinkLocal(from.address) &&
  from.port === PcpCodec.serverPort &&
  (place === 0 || place === from.scopeId)

/**
 * An IPv6 gateway announces itself from its link-local address, also where the default route has another one. Whose that
 * is cannot be told, so nothing is believed: the gateway is asked.
 */
const hearNeighbour = Effect.fnUntraced(function* (
  recovery: Recovery.Recovery,
  payload: Uint8Array,
  from: NetAddress.InetAddress
) {
  const ways = new Set(
    recovery
      .held()
      .filter((held) => mayBe(held, from))
      .map(({ way }) => way)
  )
  const decoded = PcpCodec.decodeResponse(payload)
  if (ways.size === 0 || Result.isFailure(decoded) || decoded.success._tag !== "AnnounceResponse") {
    return yield* IgnoredDatagrams.count(from, IgnoredDatagrams.foreign)
  }
  yield* Effect.forEach(ways, recovery.suspected, { discard: true })
})

const makeHear =
  (recovery: () => Recovery.Recovery) =>
  (payload: Uint8Array, from: NetAddress.InetAddress): Effect.Effect<void> =>
    Effect.gen(function* () {
      const ways = new Set(
        recovery()
          .held()
          .map(({ way }) => way)
          .filter(({ peer }) => Equal.equals(peer, from))
      )
      if (ways.size === 0) return yield* hearNeighbour(recovery(), payload, from)
      for (const way of ways) {
        const why =
          payload[0] === NatPmpCodec.version
            ? yield* hearNatPmp(recovery(), way, payload)
            : yield* hearPcp(recovery(), way, payload)
        if (why !== undefined) yield* IgnoredDatagrams.count(from, why)
      }
    })

/** `Gateway.Selected`, the ledger and the watch over the network are read here, once. */
export const make: Effect.Effect<Environment, never, Udp.Udp | DefaultRoute.DefaultRoute | Scope.Scope> = Effect.gen(
  function* () {
    const udp = yield* Udp.Udp
    const { routes } = yield* DefaultRoute.DefaultRoute
    const selected = yield* Gateway.Selected
    const announcements = yield* Announcements.make(makeHear(() => recovery))
    const recovery: Recovery.Recovery = yield* Recovery.make(announcements)
    const warned = new Set<string>()
    const environment: Environment = {
      ways: yield* Ways.make(recovery.noticesOf, (way, payload) => hearUnasked(recovery, way, payload)),
      recovery,
      slots: LeaseSlots.make(),
      ledger: yield* Ledger.Ledger,
      network: yield* NetworkWatch.NetworkWatch,
      candidates: Effect.map(routes, (known) => ({ gateways: Gateways.usable(known, selected), selected })),
      routes,
      localAddress: (remote) => Gateways.localAddressTowards(remote).pipe(Effect.provideService(Udp.Udp, udp)),
      isOwn: (address) => Effect.provideService(Udp.isOwn(address), Udp.Udp, udp),
      isOwnTowards: (remote, address) => Effect.provideService(Udp.isOwnTowards(remote, address), Udp.Udp, udp),
      warnOfNat: (gateway, external) =>
        Effect.suspend(() => {
          const [name, address] = [NetAddress.formatIp(gateway), NetAddress.formatIp(external)]
          const key = `${name} ${address}`
          if (!DoubleNat.isBehind(external) || warned.has(key)) return Effect.void
          warned.add(key)
          return Effect.logWarning(DoubleNat.describe(name, external))
        })
    }
    return environment
  }
)

const mostNamed = 5

const describe = (mappings: ReadonlyArray<string>): string => {
  const others = mappings.length > mostNamed ? `, and ${mappings.length - mostNamed} more` : ""
  return `${mappings.slice(0, mostNamed).join(", ")}${others}`
}

const ends = (one: Pick<PortMapping.PortMapping, "internalAddress" | "internalPort" | "protocol">): string =>
  `${NetAddress.formatInet(PortMapping.internal(one))} ${one.protocol}`

/**
 * For whoever asks for a list, which these protocols do not have: what this process holds over one of them, and what
 * else the ledger has noted.
 */
export const describeHeld = Effect.fnUntraced(function* ({ ledger, recovery }: Environment, method: string) {
  const held = recovery
    .held()
    .map(({ mapping }) => mapping)
    .filter((mapping) => mapping.method === method)
  const noted = (yield* ledger.entries(method)).filter((entry) => !held.some((one) => ends(one) === ends(entry)))
  const holds = held.map(
    (mapping) => `${PortMapping.format(mapping)} to ${NetAddress.formatInet(PortMapping.internal(mapping))}`
  )
  const own = `this process holds ${describe(holds)}`
  const elsewhere = noted.map((entry) => `${NetAddress.formatInet(PortMapping.internal(entry))}/${entry.protocol}`)
  const others = `programs of this host hold, or have left, those of ${describe(elsewhere)}`
  if (held.length === 0) return noted.length === 0 ? "of this host's programs none is known to hold one" : others
  return noted.length === 0 ? own : `${own}; other ${others}`
})
