/**
 * A gateway that this host can see, and what it speaks.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Equal from "effect/Equal"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * A gateway as discovery reports it. One device that speaks two protocols is reported once for each.
 *
 * @category models
 * @since 0.1.0
 */
export class Gateway extends Schema.Class<Gateway>("@effect-nat/core/Gateway")({
  /** What the device calls itself, or its address where it has no name. */
  name: Schema.String,
  /** The gateway's address on this host's network. */
  address: Schema.IpAddress,
  /** The protocol that it answered: `"upnp"`, `"natpmp"`, `"pcp"`. */
  method: Schema.String,
  /** This host's own address towards the gateway. */
  localAddress: Schema.IpAddress,
  /** What tells this device from others of its kind and from itself at another address, where it says so. */
  id: Schema.UndefinedOr(Schema.String),
  /** Model and manufacturer, where known. */
  model: Schema.UndefinedOr(Schema.String)
}) {}

/**
 * Which gateway to use where several are visible: a name or an address; `undefined` lets the strategy choose.
 *
 * @category references
 * @since 0.1.0
 */
export const Selected: Context.Reference<string | undefined> = Context.Reference<string | undefined>(
  "@effect-nat/core/Gateway/Selected",
  { defaultValue: () => undefined }
)

/**
 * Whether a gateway is the one selected, by its address in any notation or, ignoring case, by its name or id.
 *
 * @category guards
 * @since 0.1.0
 */
export const isSelected = (
  self: { readonly name: string; readonly address: NetAddress.IpAddress; readonly id?: string | undefined },
  selected: string | undefined
): boolean =>
  selected === undefined ||
  Equal.equals(Result.getOrUndefined(NetAddress.ipFromString(selected)), self.address) ||
  selected.toLowerCase() === self.name.toLowerCase() ||
  selected.toLowerCase() === self.id?.toLowerCase()
