/**
 * A contact point: where a service can be reached, from inside and from outside.
 *
 * It always holds every address that is known. Which of them help depends on where the peer stands, so no function
 * here returns one bare address: `ContactPointResolver` answers per requester.
 *
 * @since 0.1.0
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"

/**
 * An external address and how far it can be trusted: `"reported"` by a gateway, or `"configured"` by a person.
 *
 * @category models
 * @since 0.1.0
 */
export class ExternalAddress extends Schema.Class<ExternalAddress>("@effect-nat/core/ExternalAddress")({
  address: Schema.InetAddressFromString,
  source: Schema.Literals(["reported", "configured"])
}) {}

/**
 * A contact point. Its JSON form holds addresses as strings, IPv6 in brackets.
 *
 * @category models
 * @since 0.1.0
 */
export class ContactPoint extends Schema.Class<ContactPoint>("@effect-nat/core/ContactPoint")({
  version: Schema.Literal(1),
  name: Schema.String,
  /** Where hosts on the same network connect to. */
  internal: Schema.Array(Schema.InetAddressFromString),
  /** Where everyone else connects to; empty where no external address is known. */
  external: Schema.Array(ExternalAddress)
}) {}

/**
 * What a person wants to read, in one line; a contact point without an external address says so.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: ContactPoint): string => {
  const inside = self.internal.map(NetAddress.formatInet).join(", ")
  const outside = self.external.map((one) => NetAddress.formatInet(one.address)).join(", ")
  return `internal ${inside === "" ? "none" : inside}; external ${outside === "" ? "unknown" : outside}`
}
