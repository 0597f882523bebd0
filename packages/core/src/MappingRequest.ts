/**
 * What a program asks a strategy for: one internal port, and how it should look from outside.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as NatError from "./NatError.ts"
import type * as PortMapping from "./PortMapping.ts"

/**
 * The address family that a mapping is for: a mapping through a NAT (`"ipv4"`), a pinhole through a firewall
 * (`"ipv6"`), or both.
 *
 * @category models
 * @since 0.1.0
 */
export type Family = "ipv4" | "ipv6" | "both"

/**
 * A request as a program writes it.
 *
 * @category models
 * @since 0.1.0
 */
export interface MappingRequest {
  readonly protocol: PortMapping.Protocol
  /** The port that the service listens on, 1 to 65535. */
  readonly internalPort: number
  /** The port wanted on the outside, 1 to 65535. Defaults to the internal port. The gateway may grant another one. */
  readonly externalPort?: number | undefined
  /** Fail with `Conflict` rather than take another external port. Defaults to `false`. */
  readonly strictExternalPort?: boolean | undefined
  /** The host that gets the packets. Defaults to the address that this host would use towards the gateway. */
  readonly internalAddress?: NetAddress.IpAddress | undefined
  /** Defaults to `"ipv4"`. */
  readonly family?: Family | undefined
  /** How long the gateway keeps the mapping without a renewal. Defaults to 2 hours; zero or infinity is permanent. */
  readonly lifetime?: Duration.Input | undefined
  /** How the mapping is called in the router's list, at most 64 characters. Defaults to `"effect-nat"`. */
  readonly description?: string | undefined
}

/**
 * A request with every default filled in and every value checked. A permanent lifetime is `Duration.infinity`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolved {
  readonly protocol: PortMapping.Protocol
  readonly internalPort: number
  readonly externalPort: number
  readonly strictExternalPort: boolean
  readonly internalAddress: NetAddress.IpAddress | undefined
  readonly family: Family
  readonly lifetime: Duration.Duration
  readonly description: string
}

/**
 * The lifetime of a mapping whose request names none: 2 hours, as RFC 6886 §3.3 recommends.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultLifetime: Duration.Duration = Duration.hours(2)

/**
 * The description of a mapping whose request names none.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultDescription = "effect-nat"

const maximumDescriptionLength = 64
/** The protocols count lifetimes in 32 bits; beyond that a lease might as well be permanent. */
const maximumLifetime = Duration.seconds(0xffffffff)
/** Control characters and line ends, and what XML cannot hold: some protocols send the description in XML. */
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const controlCharacter = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffe\uffff]/

const invalid = (detail: string) => NatError.fromReason(new NatError.InvalidRequest({ detail }))

const checkPort = Effect.fnUntraced(function* (name: string, port: number) {
  if (Number.isInteger(port) && port >= 1 && port <= 65535) return port
  return yield* invalid(`${name} must be a whole number from 1 to 65535, not ${port}`)
})

const checkLength = Effect.fnUntraced(function* (lifetime: Duration.Duration) {
  if (Duration.isNegative(lifetime)) return yield* invalid("the lifetime must not be negative")
  if (Duration.isZero(lifetime) || !Duration.isFinite(lifetime)) return Duration.infinity
  if (Duration.isLessThan(lifetime, Duration.seconds(1))) {
    return yield* invalid(
      `the lifetime must be at least one second, or 0 for permanent, not ${Duration.format(lifetime)}`
    )
  }
  return Duration.min(lifetime, maximumLifetime)
})

/** `Duration` reads a number that is none as zero, which here means a mapping without an end. */
const hasNaN = (input: Duration.Input): boolean =>
  typeof input === "object" && !Duration.isDuration(input)
    ? Object.values(input).some((part) => Number.isNaN(part))
    : Number.isNaN(input)

const checkLifetime = Effect.fnUntraced(function* (input: Duration.Input) {
  const lifetime = Duration.fromInput(input)
  if (Option.isNone(lifetime) || hasNaN(input)) {
    const written = typeof input === "object" ? "" : ` "${input}"`
    return yield* invalid(`the lifetime${written} is not a duration: write for example "2 hours"`)
  }
  return yield* checkLength(lifetime.value)
})

const checkDescription = Effect.fnUntraced(function* (description: string) {
  if (description.length > maximumDescriptionLength) {
    return yield* invalid(`the description must have at most ${maximumDescriptionLength} characters`)
  }
  if (controlCharacter.test(description) || !description.isWellFormed()) {
    return yield* invalid("the description must not contain control characters")
  }
  return description
})

const checkInternalAddress = Effect.fnUntraced(function* (address: NetAddress.IpAddress | undefined) {
  if (address === undefined || (!NetAddress.isUnspecified(address) && !NetAddress.isMulticast(address))) return address
  return yield* invalid(
    `the internal address must be the address of one host, not ${NetAddress.formatIp(address)}: leave it out for this host`
  )
})

/**
 * Fills in the defaults and checks every value; fails with `InvalidRequest`, before anything is sent.
 *
 * @category combinators
 * @since 0.1.0
 */
export const resolve = Effect.fnUntraced(function* (
  request: MappingRequest
): Effect.fn.Return<Resolved, NatError.NatError> {
  const internalPort = yield* checkPort("the internal port", request.internalPort)
  const externalPort = yield* checkPort("the external port", request.externalPort ?? internalPort)
  return {
    protocol: request.protocol,
    internalPort,
    externalPort,
    strictExternalPort: request.strictExternalPort ?? false,
    internalAddress: yield* checkInternalAddress(request.internalAddress),
    family: request.family ?? "ipv4",
    lifetime: yield* checkLifetime(request.lifetime ?? defaultLifetime),
    description: yield* checkDescription(request.description ?? defaultDescription)
  }
})
