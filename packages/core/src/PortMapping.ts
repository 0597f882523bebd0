/**
 * A port mapping: what the gateway does with packets to one of its external ports.
 *
 * The fields are those of the Internet Gateway Device protocol in its canonical order (remote host, external port,
 * protocol, internal port, internal client, enabled, description, lease), which every other protocol's mapping is a
 * part of, plus what the mapping's owner knows: the external address, the gateway, the method and the status.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"

/**
 * The transport protocol of a mapping.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Protocol = Schema.Literals(["tcp", "udp"])

/**
 * The transport protocol of a mapping.
 *
 * @category models
 * @since 0.1.0
 */
export type Protocol = typeof Protocol.Type

/**
 * A port that a service can use: 1 to 65535.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Port = Schema.Int.check(
  Schema.isBetween({ minimum: 1, maximum: 65535 }, { expected: "a port from 1 to 65535" })
)

/**
 * Whether the mapping is in force: `"mapped"`; `"unconfirmed"` while the gateway does not confirm it, as one that is
 * away, and its lease has not run out, so that it may still be in force; or `"lost"` when it no longer is. One that is
 * not confirmed is asked for again and again until its scope closes.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Status = Schema.Literals(["mapped", "unconfirmed", "lost"])

/**
 * Whether the mapping is in force.
 *
 * @category models
 * @since 0.1.0
 */
export type Status = typeof Status.Type

/**
 * A port mapping as a value. What is not known, or does not apply, is `undefined`.
 *
 * @category models
 * @since 0.1.0
 */
export class PortMapping extends Schema.Class<PortMapping>("@effect-nat/core/PortMapping")({
  /** The only remote host whose packets are forwarded; `undefined` is the wildcard, which is the usual value. */
  remoteHost: Schema.UndefinedOr(Schema.IpAddressFromString),
  /** The gateway's address on the outside, which the world connects to. */
  externalAddress: Schema.UndefinedOr(Schema.IpAddressFromString),
  /** The port on the outside; `undefined` where nothing is mapped (the LAN strategy). */
  externalPort: Schema.UndefinedOr(Schema.Port),
  protocol: Protocol,
  internalPort: Schema.Port,
  /** The host on the inside that gets the packets (IGD's internal client). */
  internalAddress: Schema.IpAddressFromString,
  enabled: Schema.Boolean,
  description: Schema.String,
  /** The lifetime that the gateway granted, or what is left of it; `Duration.infinity` is a permanent mapping. */
  lifetime: Schema.UndefinedOr(Schema.Duration),
  /** The gateway that holds the mapping; `undefined` for a strategy without one. */
  gateway: Schema.UndefinedOr(Schema.IpAddressFromString),
  /** The strategy's name: `"upnp"`, `"natpmp"`, `"pcp"`, `"manual"`, `"lan"`; `"mock"` in tests. */
  method: Schema.String,
  status: Status,
  /**
   * Whether the gateway stands behind another NAT, as far as it is known (see `DoubleNat`): the mapping is there, and the
   * world may not get to it. Defaults to `false`.
   */
  doubleNat: Schema.Boolean.pipe(Schema.withConstructorDefault(Effect.succeed(false)))
}) {}

/**
 * The address and port on the inside.
 *
 * @category accessors
 * @since 0.1.0
 */
export const internal = (self: Pick<PortMapping, "internalAddress" | "internalPort">): NetAddress.InetAddress =>
  NetAddress.inetAddressUnsafe(self.internalAddress, self.internalPort)

/**
 * The address and port on the outside, when both are known.
 *
 * @category accessors
 * @since 0.1.0
 */
export const external = (self: PortMapping): NetAddress.InetAddress | undefined =>
  self.externalAddress === undefined || self.externalPort === undefined
    ? undefined
    : NetAddress.inetAddressUnsafe(self.externalAddress, self.externalPort)

/**
 * The lifetime in whole seconds as the protocols count it: 0 for a permanent mapping, `undefined` where no lease
 * exists.
 *
 * @category accessors
 * @since 0.1.0
 */
export const lifetimeSeconds = (self: PortMapping): number | undefined => {
  if (self.lifetime === undefined) return undefined
  return Duration.isFinite(self.lifetime) ? Math.floor(Duration.toSeconds(self.lifetime)) : 0
}

/**
 * What a person wants to read: where the service can be reached, for example `11.22.33.1:12001/tcp`. A mapping whose
 * external address is not known says so; a mapping of the LAN strategy shows its internal address.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: PortMapping): string => {
  const outside = external(self)
  if (outside !== undefined) return `${NetAddress.formatInet(outside)}/${self.protocol}`
  if (self.externalPort !== undefined) return `port ${self.externalPort}/${self.protocol} of an unknown address`
  return `${NetAddress.formatInet(internal(self))}/${self.protocol}`
}

/**
 * Whether a peer would notice the difference: address, port, gateway, status or what stands before the gateway changed.
 * The lifetime of a renewed lease does not count.
 *
 * @category comparisons
 * @since 0.1.0
 */
export const isSameContact = (self: PortMapping, that: PortMapping): boolean =>
  self.status === that.status &&
  self.doubleNat === that.doubleNat &&
  self.externalPort === that.externalPort &&
  Equal.equals(self.externalAddress, that.externalAddress) &&
  Equal.equals(internal(self), internal(that)) &&
  Equal.equals(self.gateway, that.gateway)
