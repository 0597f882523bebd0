/**
 * The contract that every strategy implements: map a port, and know what is mapped.
 *
 * A strategy is a `Layer` of `PortMapper`. Programs ask for the service and never learn which strategy serves them.
 *
 * **Example** (Keep a port mapped while the program runs)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as PortMapping from "@effect-nat/core/PortMapping"
 *
 * const program = Effect.gen(function* () {
 *   const mapper = yield* PortMapper.PortMapper
 *   const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12001 })
 *   yield* mapping.changes.pipe(
 *     Stream.runForEach((changed) => Effect.log(`reachable at ${PortMapping.format(changed)}`))
 *   )
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as MappingRequest from "./MappingRequest.ts"
import type * as NatError from "./NatError.ts"
import type * as PortMapping from "./PortMapping.ts"

/**
 * A mapping that is kept alive until its scope closes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mapping {
  /** The mapping as it is now; after the release, as it was last. */
  readonly current: Effect.Effect<PortMapping.PortMapping>
  /**
   * The mapping as it is now, then again whenever a peer would notice a change: another address or port, not
   * confirmed, lost, there again. The stream ends when the mapping is released; who asks after that may see nothing.
   */
  readonly changes: Stream.Stream<PortMapping.PortMapping>
  /**
   * Has the mapping renewed in place at once, however much of its lease is left, for whoever has a reason to believe that
   * the gateway has lost it. It does not wait for that: `changes` tells what came of it.
   */
  readonly renew: Effect.Effect<void>
  /**
   * Deletes the mapping on the gateway now and stops its renewal, and says whether that is confirmed. The scope does
   * the same when it closes; whatever comes first, it is done once.
   */
  readonly release: Effect.Effect<void, NatError.NatError>
}

/**
 * What names a mapping on a gateway.
 *
 * @category models
 * @since 0.1.0
 */
export interface MappingKey {
  readonly protocol: PortMapping.Protocol
  readonly externalPort: number
  /** Defaults to the wildcard. */
  readonly remoteHost?: NetAddress.IpAddress | undefined
}

/**
 * Maps ports by one strategy.
 *
 * @category services
 * @since 0.1.0
 */
export class PortMapper extends Context.Service<
  PortMapper,
  {
    /**
     * Maps a port and keeps it mapped: renewed while the scope is open, deleted on the gateway when it closes, on
     * success, failure and interruption alike.
     */
    readonly map: (request: MappingRequest.MappingRequest) => Effect.Effect<Mapping, NatError.NatError, Scope.Scope>
    /** The address that the world sees. */
    readonly externalAddress: Effect.Effect<NetAddress.IpAddress, NatError.NatError>
    /** The gateway's mappings, everybody's; fails with `Unsupported` where the protocol cannot list. */
    readonly list: Stream.Stream<PortMapping.PortMapping, NatError.NatError>
    /** Deletes one mapping on the gateway, whoever made it; fails with `NoSuchMapping` where there is none. */
    readonly remove: (key: MappingKey) => Effect.Effect<void, NatError.NatError>
  }
>()("@effect-nat/core/PortMapper") {}
