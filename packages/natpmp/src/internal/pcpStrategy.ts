/**
 * The PCP strategy over an environment that other strategies may share.
 */
import * as Ipv6Scope from "@effect-nat/core/Ipv6Scope"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import type * as Strategy from "@effect-nat/core/Strategy"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import type * as PcpCodec from "../PcpCodec.ts"
import * as Environment from "./environment.ts"
import * as Gateways from "./gateways.ts"
import * as NatPmpLease from "./natPmpLease.ts"
import * as NatPmpStrategy from "./natPmpStrategy.ts"
import * as PcpGateways from "./pcpGateways.ts"
import * as PcpLease from "./pcpLease.ts"

/** How the strategy asks, and whence its nonces come. */
export interface Settings extends PcpLease.Settings {
  readonly makeNonce: Effect.Effect<PcpCodec.Nonce>
}

const unsupported = (operation: string, detail: string) =>
  NatError.fromReason(new NatError.Unsupported({ operation, detail }))

const cannotList = (environment: Environment.Environment) =>
  Effect.flatMap(Environment.describeHeld(environment, PcpLease.method), (held) =>
    unsupported(
      "list mappings over PCP",
      `the protocol cannot list: look in the router's settings, or use UPnP; ${held}`
    )
  )

const cannotRemove = unsupported(
  "delete a mapping by its external port over PCP",
  "only who made a mapping can delete it: end the program that holds it, let its lease run out, or use UPnP"
)

const cannotTell = unsupported(
  "ask for the external address over PCP",
  "the protocol tells it with a mapping only, and the gateway does not speak NAT-PMP: map a port, or use UPnP"
)

/** A held mapping's address, which is renewed when the gateway has another one. */
const heldAddress = (
  { recovery }: Environment.Environment,
  gateways: ReadonlyArray<NetAddress.Ipv4Address>
): NetAddress.IpAddress | undefined =>
  recovery
    .held()
    .filter(({ way }) => gateways.some((gateway) => Equal.equals(gateway, way.peer.address)))
    .map(({ mapping }) => mapping.externalAddress)
    .find((address) => address !== undefined)

/** Whether one of these gateways speaks PCP, and so is there although it does not speak NAT-PMP. */
const isThere = ({ ways }: Environment.Environment, gateways: ReadonlyArray<NetAddress.Ipv4Address>) =>
  Effect.map(
    Effect.forEach(gateways, (gateway) => ways.ipv4(gateway)),
    (all) => all.some(({ heard }) => heard.pcp)
  )

const makeExternalAddress = (environment: Environment.Environment, timeout: Duration.Duration) =>
  Effect.gen(function* () {
    const { gateways, selected } = yield* environment.candidates
    const held = heldAddress(environment, gateways)
    if (held !== undefined) return held
    const { externalAddress, way } = yield* Gateways.first(gateways, selected, (gateway) =>
      Effect.flatMap(environment.ways.ipv4(gateway), (one) => NatPmpLease.ask(one, timeout))
    ).pipe(
      Effect.catchReason("NatError", "Unsupported", () => Effect.fail(cannotTell)),
      Effect.catchReason("NatError", "NoGateway", (reason) =>
        Effect.flatMap(isThere(environment, gateways), (is) =>
          Effect.fail(is ? cannotTell : NatError.fromReason(reason))
        )
      )
    )
    yield* environment.warnOfNat(way.natPmp.gateway, externalAddress)
    return externalAddress
  }).pipe(Effect.withSpan("Pcp.externalAddress"))

/** This host's own address towards the gateway is the one that is meant where none is named. */
const endOf = Effect.fnUntraced(function* (
  { candidates, localAddress }: Environment.Environment,
  request: MappingRequest.MappingRequest
) {
  const { family, internalAddress } = request
  if (internalAddress === undefined) return request
  const { gateways } = yield* candidates
  const remote = family === "ipv6" ? Ipv6Scope.world : gateways[0]
  if (remote === undefined) return request
  const own = yield* Effect.orElseSucceed(localAddress(remote), () => undefined)
  return Equal.equals(own, internalAddress) ? { ...request, internalAddress: undefined } : request
})

const makeMapper = (environment: Environment.Environment, settings: Settings): PortMapper.PortMapper["Service"] => {
  const map = Effect.fn("Pcp.map")(function* (request: MappingRequest.MappingRequest) {
    yield* PcpLease.checkHost(request)
    const own = yield* NatPmpLease.makeOwn(environment)
    const protocol = PcpLease.make(environment, own, settings.makeNonce, settings)
    return yield* NatPmpStrategy.mapWith(environment, request, yield* endOf(environment, request), protocol)
  })
  return {
    map,
    externalAddress: makeExternalAddress(environment, NatPmpLease.requestTimeout),
    list: Stream.unwrap(cannotList(environment)),
    remove: () => Effect.fail(cannotRemove)
  }
}

/** The IPv4 gateways, or the IPv6 one where this host has none of them. */
export const makeProbe = (environment: Environment.Environment) =>
  Effect.gen(function* () {
    const { gateways, selected } = yield* environment.candidates
    const { ways } = environment
    const hasIpv4 = gateways.length > 0
    const ipv6 = hasIpv4 ? undefined : yield* Effect.option(PcpGateways.ipv6(environment))
    if (ipv6?._tag === "Some") {
      const { own, peer } = ipv6.value
      yield* Effect.flatMap(ways.from(peer, own), PcpGateways.announce)
      return Gateways.describe(PcpLease.method, peer.address, own)
    }
    const { peer } = yield* Gateways.first(gateways, selected, (gateway) =>
      Effect.flatMap(ways.ipv4(gateway), PcpGateways.announce)
    )
    return Gateways.describe(PcpLease.method, peer.address, yield* environment.localAddress(peer.address))
  }).pipe(Effect.withSpan("Pcp.probe"))

export const make = (environment: Environment.Environment, settings: Settings): Strategy.Strategy => ({
  method: PcpLease.method,
  mapper: makeMapper(environment, settings),
  probe: makeProbe(environment),
  // The nonce keeps it apart from whatever else is mapped.
  mapsAsProbe: true
})
