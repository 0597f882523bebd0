/**
 * The NAT-PMP strategy over an environment that other strategies may share.
 */
import * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import type * as Strategy from "@effect-nat/core/Strategy"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Environment from "./environment.ts"
import * as Gateways from "./gateways.ts"
import type * as LeaseSlots from "./leaseSlots.ts"
import * as NatPmpLease from "./natPmpLease.ts"

const unsupported = (operation: string, detail: string) =>
  NatError.fromReason(new NatError.Unsupported({ operation, detail }))

const cannotList = (environment: Environment.Environment) =>
  Effect.flatMap(Environment.describeHeld(environment, NatPmpLease.method), (held) =>
    unsupported(
      "list mappings over NAT-PMP",
      `the protocol cannot list: look in the router's settings, or use UPnP; ${held}`
    )
  )

const cannotRemove = unsupported(
  "delete a mapping by its external port over NAT-PMP",
  "the protocol deletes by internal port, and only for the host that asks: end the program that holds the mapping, let its lease run out, or use UPnP"
)

/** A mapping of this environment, whose protocol object lives as long as the scope. */
export const mapWith = Effect.fnUntraced(function* <Handle>(
  { slots }: Environment.Environment,
  request: MappingRequest.MappingRequest,
  end: LeaseSlots.End,
  protocol: LeaseEngine.LeaseProtocol<Handle>
): Effect.fn.Return<PortMapper.Mapping, NatError.NatError, Scope.Scope> {
  const { giveBack, keep } = yield* slots.take(end)
  const mapping = yield* LeaseEngine.map(protocol, request).pipe(
    Effect.tap(keep),
    Effect.onError(() => giveBack)
  )
  return { ...mapping, release: Effect.ensuring(mapping.release, giveBack) }
})

export const makeMapper = (
  environment: Environment.Environment,
  timeout: Duration.Duration
): PortMapper.PortMapper["Service"] => {
  const map = Effect.fn("NatPmp.map")(function* (request: MappingRequest.MappingRequest) {
    const protocol = NatPmpLease.make(environment, yield* NatPmpLease.makeOwn(environment), timeout)
    const { family, internalPort, protocol: transport } = request
    return yield* mapWith(environment, request, { family, internalPort, protocol: transport }, protocol)
  })

  const externalAddress = Effect.gen(function* () {
    const { gateways, selected } = yield* environment.candidates
    const found = yield* Gateways.first(gateways, selected, (gateway) =>
      Effect.flatMap(environment.ways.ipv4(gateway), (way) => NatPmpLease.ask(way, timeout))
    )
    yield* environment.warnOfNat(found.way.natPmp.gateway, found.externalAddress)
    return found.externalAddress
  }).pipe(Effect.withSpan("NatPmp.externalAddress"))

  return {
    map,
    externalAddress,
    list: Stream.unwrap(cannotList(environment)),
    remove: () => Effect.fail(cannotRemove)
  }
}

export const makeProbe = (environment: Environment.Environment) =>
  Effect.gen(function* () {
    const { externalAddress, way } = yield* NatPmpLease.choose(environment, (one) =>
      NatPmpLease.knock(one, { timeout: NatPmpLease.probeTimeout })
    )
    const { gateway } = way.natPmp
    const localAddress = yield* environment.localAddress(gateway)
    return { gateway: Gateways.describe(NatPmpLease.method, gateway, localAddress), externalAddress }
  }).pipe(Effect.withSpan("NatPmp.probe"))

export const make = (environment: Environment.Environment, timeout: Duration.Duration): Strategy.Strategy => ({
  method: NatPmpLease.method,
  mapper: makeMapper(environment, timeout),
  probe: Effect.map(makeProbe(environment), ({ gateway }) => gateway)
})
