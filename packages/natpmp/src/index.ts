// Written by "npm run generate" from the modules' headers. Do not edit.

/**
 * The NAT-PMP strategy (RFC 6886): maps ports of this host on its IPv4 default gateway.
 *
 * @since 0.1.0
 */
export * as NatPmp from "./NatPmp.ts"

/**
 * A NAT-PMP client for one gateway (RFC 6886): external address, map, delete one, delete all.
 *
 * @since 0.1.0
 */
export * as NatPmpClient from "./NatPmpClient.ts"

/**
 * The packets of NAT-PMP (RFC 6886 §3), both directions: pure functions between bytes and values.
 *
 * @since 0.1.0
 */
export * as NatPmpCodec from "./NatPmpCodec.ts"

/**
 * Discovers the gateways that speak NAT-PMP (RFC 6886): the IPv4 default gateways that answer an external address
 * request, which changes nothing on them.
 *
 * @since 0.1.0
 */
export * as NatPmpDiscovery from "./NatPmpDiscovery.ts"

/**
 * The epoch of a NAT-PMP gateway, and the test that tells a restarted gateway (RFC 6886 §3.6).
 *
 * @since 0.1.0
 */
export * as NatPmpEpoch from "./NatPmpEpoch.ts"

/**
 * The result codes of NAT-PMP (RFC 6886 §3.5), and what each means to a caller: the one table of this protocol.
 *
 * @since 0.1.0
 */
export * as NatPmpResultCode from "./NatPmpResultCode.ts"

/**
 * The PCP strategy (RFC 6887): maps ports of this host on its IPv4 default gateway, and opens pinholes in the firewall
 * of its IPv6 one.
 *
 * @since 0.1.0
 */
export * as Pcp from "./Pcp.ts"

/**
 * A PCP client for one server (RFC 6887): ANNOUNCE, MAP, delete, PEER, with the options THIRD_PARTY, PREFER_FAILURE and
 * FILTER.
 *
 * @since 0.1.0
 */
export * as PcpClient from "./PcpClient.ts"

/**
 * The packets of the Port Control Protocol (RFC 6887), both directions: pure functions between bytes and values.
 *
 * @since 0.1.0
 */
export * as PcpCodec from "./PcpCodec.ts"

/**
 * Discovers the gateways that speak PCP (RFC 6887): the default gateways that answer an ANNOUNCE, which changes nothing
 * on them.
 *
 * @since 0.1.0
 */
export * as PcpDiscovery from "./PcpDiscovery.ts"

/**
 * The epoch of a PCP server, and the test that tells one that has lost its mappings (RFC 6887 §8.5).
 *
 * @since 0.1.0
 */
export * as PcpEpoch from "./PcpEpoch.ts"

/**
 * The result codes of the Port Control Protocol (RFC 6887 §7.4), and what each means to a caller: the one table of this
 * protocol.
 *
 * @since 0.1.0
 */
export * as PcpResultCode from "./PcpResultCode.ts"

/**
 * Both strategies of UDP port 5351, PCP and NAT-PMP, over one socket for each gateway, one ear for its announcements,
 * and one record of which internal ports are taken.
 *
 * @since 0.1.0
 */
export * as PortControl from "./PortControl.ts"
