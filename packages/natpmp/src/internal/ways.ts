/**
 * The ways to gateways: to each of them one socket for both protocols, and the one client of each protocol, which holds
 * what must not be doubled: the turn of requests, the epoch, and what the gateway has refused.
 */
import type * as NatError from "@effect-nat/core/NatError"
import type * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as NatPmpClient from "../NatPmpClient.ts"
import * as PcpClient from "../PcpClient.ts"
import * as PcpCodec from "../PcpCodec.ts"
import * as GatewayChannel from "./gatewayChannel.ts"
import type * as Notices from "./notices.ts"
import * as Releases from "./releases.ts"

/** Whether a gateway has answered when it was last asked in a protocol: it then gets more time for the next answer. */
export interface Heard {
  natPmp: boolean
  pcp: boolean
}

/** The way to one gateway. */
export interface Way {
  /** The gateway's address and port. */
  readonly peer: NetAddress.InetAddress
  /** The same as a name. */
  readonly gateway: string
  /** This host's own address that the gateway would be asked from now. */
  readonly ownAddress: Effect.Effect<NetAddress.IpAddress, NatError.NatError>
  /** Until the scope closes, what the gateway says later is heard at the port that it was asked from. */
  readonly keepOpen: Effect.Effect<void, NatError.NatError, Scope.Scope>
  readonly pcp: PcpClient.PcpClient
  /** `undefined` where the gateway is asked over IPv6, of which NAT-PMP knows nothing. */
  readonly natPmp: NatPmpClient.NatPmpClient | undefined
  readonly heard: Heard
  /** The turns of deletions over PCP. */
  readonly releases: Releases.Releases
}

/** A way over IPv4. */
export interface Ipv4Way extends Way {
  readonly natPmp: NatPmpClient.NatPmpClient
  readonly natPmpReleases: Releases.Releases
}

export const isIpv4 = (way: Way): way is Ipv4Way => way.natPmp !== undefined

export interface Ways {
  /** The way to a gateway over IPv4. */
  readonly ipv4: (gateway: NetAddress.Ipv4Address) => Effect.Effect<Ipv4Way>
  /** The way to a gateway from one own address of several. */
  readonly from: (peer: NetAddress.InetAddress, own: NetAddress.IpAddress) => Effect.Effect<Way>
}

export const peerOf = (gateway: NetAddress.Ipv4Address): NetAddress.InetAddress =>
  NetAddress.inetAddressUnsafe(gateway, PcpCodec.serverPort)

/** A lost packet of one deletion must not hold up all others, and each has little time on a slow gateway. */
const pcpReleases = 2

/** Ways are made when they are first needed, and live as long as the scope. */
export const make = Effect.fnUntraced(function* (
  noticesOf: (gateway: string) => Notices.Notices,
  hearUnasked: (way: Way, payload: Uint8Array) => Effect.Effect<boolean> = () => Effect.succeed(false)
): Effect.fn.Return<Ways, never, Udp.Udp | Scope.Scope> {
  const context = yield* Effect.context<Udp.Udp | Scope.Scope>()
  const turn = yield* Semaphore.make(1)
  const ipv4Ways = new Map<string, Ipv4Way>()
  const otherWays = new Map<string, Way>()

  const once = <A>(known: Map<string, A>, key: string, open: Effect.Effect<A, never, Udp.Udp | Scope.Scope>) =>
    Effect.suspend(() => {
      const way = known.get(key)
      return way === undefined
        ? Effect.tap(open, (opened) => Effect.sync(() => known.set(key, opened)))
        : Effect.succeed(way)
    }).pipe(Effect.provideContext(context), turn.withPermit)

  const overIpv4 = Effect.fnUntraced(function* (address: NetAddress.Ipv4Address, own?: NetAddress.IpAddress) {
    const peer = peerOf(address)
    const gateway = NetAddress.formatInet(peer)
    const notices = noticesOf(gateway)
    const channel = yield* GatewayChannel.make(peer, own, (payload) => hearUnasked(way, payload))
    const pcp = PcpClient.makeOn(channel, notices)
    const natPmp = yield* NatPmpClient.makeOn(address, channel, {
      ...notices,
      // A restarted gateway may speak more than before.
      restarted: (count, granted) => Effect.andThen(pcp.forget, notices.restarted(count, granted))
    })
    const { keepOpen, localAddress: ownAddress } = channel
    const heard = { natPmp: false, pcp: false }
    const releases = yield* Releases.make(pcpReleases)
    const natPmpReleases = yield* Releases.make(1)
    const way: Ipv4Way = { peer, gateway, ownAddress, keepOpen, pcp, natPmp, heard, releases, natPmpReleases }
    return way
  })

  const overIpv6 = Effect.fnUntraced(function* (peer: NetAddress.InetAddress, own: NetAddress.IpAddress) {
    const gateway = NetAddress.formatInet(peer)
    const channel = yield* GatewayChannel.make(peer, own, (payload) => hearUnasked(way, payload))
    const pcp = PcpClient.makeOn(channel, noticesOf(gateway))
    const { keepOpen, localAddress: ownAddress } = channel
    const heard = { natPmp: false, pcp: false }
    const releases = yield* Releases.make(pcpReleases)
    const way: Way = { peer, gateway, ownAddress, keepOpen, pcp, natPmp: undefined, heard, releases }
    return way
  })

  return {
    ipv4: (gateway) => once(ipv4Ways, NetAddress.formatIp(gateway), overIpv4(gateway)),
    from: (peer, own) => {
      const { address } = peer
      const open = NetAddress.isIpv4Address(address) ? overIpv4(address, own) : overIpv6(peer, own)
      return once<Way>(otherWays, `${NetAddress.formatInet(peer)} from ${NetAddress.formatIp(own)}`, open)
    }
  }
})
