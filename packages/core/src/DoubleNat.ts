/**
 * A gateway that stands behind another NAT: another router at home, or the provider's own (carrier-grade NAT,
 * RFC 6598). It may well grant mappings, and yet nobody outside gets through the other one.
 *
 * It shows by the gateway's external address: a private or shared one, or one that is not what the world sees. Some such
 * gateways have no address to tell, and refuse every mapping.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Ipv4Scope from "./Ipv4Scope.ts"
import * as NatError from "./NatError.ts"

/**
 * Another source for the address that the world sees of this host, as a server on the internet would tell it. By default
 * there is none. A mapping waits for it 5 seconds at most, and goes on without it where it fails.
 *
 * @category references
 * @since 0.1.0
 */
export const SeenAddress: Context.Reference<Effect.Effect<NetAddress.IpAddress | undefined>> = Context.Reference<
  Effect.Effect<NetAddress.IpAddress | undefined>
>("@effect-nat/core/DoubleNat/SeenAddress", { defaultValue: () => Effect.undefined })

/**
 * Whether a gateway with this external address stands behind another NAT, as far as it is known: its IPv4 address is none
 * that the world can reach, or not the one that the world sees. IPv6 has no NAT, and what is not known is no sign.
 *
 * @category guards
 * @since 0.1.0
 */
export const isBehind = (external: NetAddress.IpAddress | undefined, seen?: NetAddress.IpAddress): boolean => {
  if (external === undefined || !NetAddress.isIpv4Address(external)) return false
  if (!Ipv4Scope.isPublic(external)) return true
  return seen !== undefined && NetAddress.isIpv4Address(seen) && !Equal.equals(external, seen)
}

const onOuterRouter = "map the port on the outer router too, or switch one of the two to bridge mode"
const atProvider = "ask the provider for a public address, use IPv6, or go round it by a relay"

/**
 * What stands between the world and an external address that is behind another NAT, and what could be done, in words.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (external: NetAddress.IpAddress): string => {
  if (Ipv4Scope.isPublic(external)) {
    return `there is another NAT between it and the world (double NAT): ${onOuterRouter}; where that NAT is the provider's, ${atProvider}`
  }
  const advice = Ipv4Scope.isShared(external) ? atProvider : onOuterRouter
  return `${Ipv4Scope.whatIsBeyond(external)}: ${advice}`
}

/**
 * The same of a gateway that reports such an address.
 *
 * @category formatting
 * @since 0.1.0
 */
export const describe = (gateway: string, external: NetAddress.IpAddress, seen?: NetAddress.IpAddress): string => {
  const reports = `${gateway} reports the external address ${NetAddress.formatIp(external)}`
  const but = Ipv4Scope.isPublic(external)
    ? `and the world sees ${seen === undefined ? "another one" : NetAddress.formatIp(seen)}`
    : "which the world cannot reach"
  return `${reports}, ${but}: ${format(external)}`
}

/**
 * What a gateway means that maps nothing since it has no address for the world, in words.
 *
 * @category formatting
 * @since 0.1.0
 */
export const noAddress = `the gateway has no address for the world: its own line is down, or it stands behind another NAT (double NAT): ${onOuterRouter}`

/** After a refusal the user waits for an explanation no longer than this. */
const longestQuestion = Duration.seconds(2)

/**
 * Finds out whether a refusal for want of resources comes from a gateway behind another NAT, which says so by the address
 * that it has, or does not have. Fails with `NoExternalAddress` and what could be done then, else with the refusal.
 *
 * @category combinators
 * @since 0.1.0
 */
export const explainRefusal = Effect.fnUntraced(function* (
  refusal: NatError.NatError,
  gateway: string,
  askAddress: Effect.Effect<NetAddress.IpAddress | undefined, NatError.NatError>
): Effect.fn.Return<never, NatError.NatError> {
  const answer = yield* Effect.result(Effect.timeoutOption(askAddress, longestQuestion))
  const because = (words: string) =>
    NatError.fromReason(new NatError.NoExternalAddress({ detail: `${NatError.brief(refusal)}: ${words}` }))
  if (answer._tag === "Failure") {
    return yield* answer.failure.reason._tag === "NoExternalAddress" ? because(noAddress) : refusal
  }
  if (answer.success._tag === "None") return yield* refusal
  const address = answer.success.value
  if (address === undefined || NetAddress.isUnspecified(address)) return yield* because(noAddress)
  // A simulated router, whose world is this host, has its own reasons.
  const isBecause = isBehind(address) && !NetAddress.isLoopback(address)
  return yield* isBecause ? because(describe(gateway, address)) : refusal
})
