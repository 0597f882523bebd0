/**
 * What is written down of mappings over both protocols of port 5351. On one gateway an internal end has one mapping, so
 * that is what tells one from another; a host at another address has other ones.
 */
import * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import type * as Environment from "./environment.ts"
import * as Lifetimes from "./lifetimes.ts"
import * as Ways from "./ways.ts"

/** Whose mapping it is, and on which gateway. */
export interface Place {
  readonly method: string
  readonly way: Ways.Way
  readonly internalAddress: NetAddress.IpAddress
}

export const identify = ({ internalAddress, method, way }: Place, request: MappingRequest.Resolved) => ({
  method,
  gateway: way.gateway,
  key: `${request.protocol} ${NetAddress.formatInet(NetAddress.inetAddressUnsafe(internalAddress, request.internalPort))}`
})

export const make = (place: Place, request: MappingRequest.Resolved, nonce?: string): Ledger.Entry =>
  new Ledger.Entry({
    ...identify(place, request),
    protocol: request.protocol,
    internalAddress: place.internalAddress,
    internalPort: request.internalPort,
    externalPort: request.externalPort,
    description: request.description,
    nonce,
    lifetime: Duration.toSeconds(Lifetimes.asked(request))
  })

const notOurAddress = (entry: Ledger.Entry) =>
  NatError.fromReason(
    new NatError.Unreachable({
      detail: `only ${NetAddress.formatIp(entry.internalAddress)} can delete its mappings on ${entry.gateway}`
    })
  )

/** Whether this host can speak for the address that an entry leads to. */
export const checkAddress = (own: NetAddress.IpAddress, entry: Ledger.Entry): Effect.Effect<void, NatError.NatError> =>
  Equal.equals(own, entry.internalAddress) ? Effect.void : Effect.fail(notOurAddress(entry))

export const notHere = (entry: Ledger.Entry) =>
  NatError.fromReason(new NatError.NoGateway({ detail: `${entry.gateway} is not a gateway of this host now` }))

/** Deletes what was granted and is not wanted; what another process has as well it has still. */
export const undo = (page: Ledger.Page, deletion: Effect.Effect<void, NatError.NatError>): Effect.Effect<void> =>
  Effect.flatMap(page.giveUp, (isAnothers) => (isAnothers ? Effect.void : deletion)).pipe(
    Effect.catch((error) => Effect.logWarning(`a port that was not wanted may stay mapped: ${error.message}`))
  )

/** The IPv4 gateway of an entry, where this host still has it. */
export const gatewayOf = Effect.fnUntraced(function* (
  { candidates }: Environment.Environment,
  entry: Ledger.Entry
): Effect.fn.Return<NetAddress.Ipv4Address, NatError.NatError> {
  const { gateways } = yield* candidates
  const gateway = gateways.find((one) => NetAddress.formatInet(Ways.peerOf(one)) === entry.gateway)
  return gateway ?? (yield* notHere(entry))
})
