/**
 * The one engine that keeps mappings alive, for every protocol.
 *
 * A protocol says how one lease is requested, renewed and released. The engine does the rest, once: renewal at half
 * the lifetime, retries with growing pauses, asking again after a loss, the stream of changes, and the release when
 * the scope closes. No protocol renews by itself.
 *
 * A request whose outcome is not known (it was interrupted, or no answer came in time) may have taken effect on the
 * gateway; the engine then has it undone with `abandon`.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as MappingRequest from "./MappingRequest.ts"
import * as NatError from "./NatError.ts"
import type * as PortMapper from "./PortMapper.ts"
import * as PortMapping from "./PortMapping.ts"

/**
 * One lease as its protocol granted it: what is mapped, and whatever the protocol needs to renew and release it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease<out Handle> {
  readonly mapping: PortMapping.PortMapping
  readonly handle: Handle
}

/**
 * How one protocol deals with one lease. Each operation bounds its own time.
 *
 * @category models
 * @since 0.1.0
 */
export interface LeaseProtocol<Handle> {
  /** Asks a gateway for a new lease. */
  readonly request: (request: MappingRequest.Resolved) => Effect.Effect<Lease<Handle>, NatError.NatError>
  /** Extends a lease in place, never by deleting it first. */
  readonly renew: (
    lease: Lease<Handle>,
    request: MappingRequest.Resolved
  ) => Effect.Effect<Lease<Handle>, NatError.NatError>
  /** Deletes a lease. A lease that the gateway no longer has counts as deleted. */
  readonly release: (lease: Lease<Handle>) => Effect.Effect<void, NatError.NatError>
  /** Deletes what a request of unknown outcome may have left on the gateway, and nothing else. */
  readonly abandon: (request: MappingRequest.Resolved) => Effect.Effect<void, NatError.NatError>
}

/**
 * How long the deletion of a mapping may take before its scope closes without it.
 *
 * @category defaults
 * @since 0.1.0
 */
export const releaseTimeout: Duration.Duration = Duration.seconds(5)

const shortestPause = Duration.seconds(1)
const longestPause = Duration.minutes(5)
/** A gateway that grants next to nothing must not be asked without end. */
const shortestRenewal = Duration.seconds(1)

/**
 * Requests a lease and keeps it alive until the scope closes, which releases it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const map = <Handle>(
  protocol: LeaseProtocol<Handle>,
  request: MappingRequest.MappingRequest
): Effect.Effect<PortMapper.Mapping, NatError.NatError, Scope.Scope> => Effect.die(new Error("not built yet"))
