/**
 * Which peers a mapping lets in: PCP's FILTER (RFC 6887 §13.3), as a router keeps it. A mapping without any filter is
 * for everybody.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import * as IpNetwork from "effect/net/IpNetwork"
import type * as NetAddress from "effect/net/NetAddress"

/**
 * The peers of one network, and one of their ports.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerFilter {
  readonly network: IpNetwork.IpNetwork
  /** 0 is any. */
  readonly port: number
}

/**
 * Whether a packet may come in: there is no filter, or one of them is for its sender. A sender whose port is not known
 * (`undefined`) comes in only where the port makes no difference.
 *
 * @category comparisons
 * @since 0.1.0
 */
export const admits = (
  filters: ReadonlyArray<PeerFilter>,
  from: { readonly address: NetAddress.IpAddress; readonly port: number | undefined }
): boolean =>
  filters.length === 0 ||
  filters.some(({ network, port }) => (port === 0 || port === from.port) && IpNetwork.contains(network, from.address))

/**
 * Whether two filters let the same packets in.
 *
 * @category comparisons
 * @since 0.1.0
 */
export const isSame = (self: PeerFilter, that: PeerFilter): boolean =>
  self.port === that.port && Equal.equals(self.network, that.network)
