/**
 * Which gateway PCP is spoken to: the IPv4 one, which need not be looked for where there is only one, and the IPv6 one.
 */
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Ipv6Scope from "@effect-nat/core/Ipv6Scope"
import * as NatError from "@effect-nat/core/NatError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as PcpCodec from "../PcpCodec.ts"
import type * as Announcements from "./announcements.ts"
import type * as Environment from "./environment.ts"
import * as Gateways from "./gateways.ts"
import type * as Ways from "./ways.ts"

/** How long it takes to find out whether a gateway speaks PCP: time for one retransmission. */
export const probeTimeout: Duration.Duration = Duration.seconds(4)

export const noteHeard = ({ heard }: Ways.Way, is: boolean): Effect.Effect<void> =>
  Effect.sync(() => {
    heard.pcp = is
  })

/** The version that a gateway has said it speaks, where that is not PCP's. */
export const otherVersion = ({ pcp }: Ways.Way): Effect.Effect<number | undefined> =>
  Effect.map(pcp.tableState, ({ version }) => (version === PcpCodec.version ? undefined : version))

/**
 * Asks a gateway whether it is there, which changes nothing on it. Whatever it says in PCP's own words will do; one that
 * speaks another version is `Unsupported`.
 */
export const announce = (way: Ways.Way): Effect.Effect<Ways.Way, NatError.NatError> =>
  way.pcp.announce({ timeout: probeTimeout }).pipe(
    Effect.asVoid,
    Effect.catch((error) =>
      Effect.flatMap(otherVersion(way), (version) =>
        Gateways.isSilence(error) || version !== undefined ? Effect.fail(error) : Effect.void
      )
    ),
    Effect.tap(() => noteHeard(way, true)),
    Effect.as(way)
  )

/** One that speaks another version is a gateway as well: what it speaks may be NAT-PMP. */
const announceAnything = (way: Ways.Way) =>
  Effect.catch(announce(way), (error) => (Gateways.isSilence(error) ? Effect.fail(error) : Effect.succeed(way)))

/**
 * The IPv4 gateway to map on. Where there are several, the first that has answered, or does so now: a mapping must not be
 * asked for on more than one.
 */
export const choose = Effect.fnUntraced(function* ({
  candidates,
  ways
}: Environment.Environment): Effect.fn.Return<NetAddress.Ipv4Address, NatError.NatError> {
  const { gateways, selected } = yield* candidates
  const [only, ...others] = gateways
  if (only !== undefined && others.length === 0) return only
  for (const gateway of gateways) {
    const { heard } = yield* ways.ipv4(gateway)
    if (heard.pcp) return gateway
  }
  return yield* Gateways.first(gateways, selected, (gateway) =>
    Effect.as(Effect.flatMap(ways.ipv4(gateway), announceAnything), gateway)
  )
})

const cannotReach = (detail: string) =>
  NatError.fromReason(new NatError.Unsupported({ operation: "map an IPv6 port over PCP", detail }))

/** The gateway that IPv6 packets go through, and this host's address that the world sees. */
export interface Ipv6Gateway {
  readonly peer: NetAddress.InetAddress
  readonly own: NetAddress.Ipv6Address
  /** The number of the interface, 0 where it is not known. */
  readonly place: Announcements.Place
}

const ipv6In = (selected: string | undefined): NetAddress.Ipv6Address | undefined =>
  selected === undefined ? undefined : Result.getOrUndefined(NetAddress.ipv6FromString(selected))

/** A selected IPv4 address says nothing of the way that IPv6 packets take. */
const ipv6Route = (
  routes: ReadonlyArray<DefaultRoute.Route>,
  selected: string | undefined
): Pick<DefaultRoute.Route, "gateway" | "scopeId"> | undefined => {
  const wanted = ipv6In(selected)
  if (wanted === undefined) return routes.find(({ gateway }) => NetAddress.isIpv6Address(gateway))
  return routes.find(({ gateway }) => Equal.equals(gateway, wanted)) ?? { gateway: wanted }
}

export const ipv6 = Effect.fnUntraced(function* ({
  candidates,
  localAddress,
  routes
}: Environment.Environment): Effect.fn.Return<Ipv6Gateway, NatError.NatError> {
  const { selected } = yield* candidates
  const { gateway, scopeId = 0 } = ipv6Route(yield* routes, selected) ?? {}
  if (gateway === undefined || !NetAddress.isIpv6Address(gateway)) {
    return yield* cannotReach("this host has no default route for IPv6")
  }
  const own = yield* Effect.catch(localAddress(Ipv6Scope.world), () => Effect.succeed(undefined))
  if (own === undefined || !Ipv6Scope.isGlobal(own)) {
    return yield* cannotReach("this host has no global IPv6 address, so the world cannot reach it over IPv6")
  }
  const isLinkLocal = NetAddress.isLinkLocal(gateway)
  if (isLinkLocal && scopeId === 0) {
    return yield* cannotReach(`it is not known on which interface ${NetAddress.formatIp(gateway)} is`)
  }
  const address = NetAddress.inetAddressV6(gateway, PcpCodec.serverPort, { scopeId: isLinkLocal ? scopeId : 0 })
  return { peer: Result.getOrThrow(address), own, place: scopeId }
})
