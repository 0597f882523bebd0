// Written by "npm run generate" from the modules' headers. Do not edit.

/**
 * The router's side of NAT-PMP (RFC 6886): a pure function from a request and a `RouterModel` to the answer.
 *
 * @since 0.1.0
 */
export * as NatPmpResponder from "./NatPmpResponder.ts"

/**
 * A router on sockets of this machine: it speaks UPnP, NAT-PMP and PCP to real clients on loopback, and really
 * forwards.
 *
 * @since 0.1.0
 */
export * as NodeSimulatedRouter from "./NodeSimulatedRouter.ts"

/**
 * The router's side of the Port Control Protocol (RFC 6887): a pure function from a request and a `RouterModel` to the
 * answer.
 *
 * @since 0.1.0
 */
export * as PcpResponder from "./PcpResponder.ts"

/**
 * Which peers a mapping lets in: PCP's FILTER (RFC 6887 §13.3), as a router keeps it.
 *
 * @since 0.1.0
 */
export * as PeerFilter from "./PeerFilter.ts"

/**
 * The connections of hosts behind a simulated router that PCP's PEER keeps open (RFC 6887 §12): each leads the packets
 * of one peer to the port that talks to it.
 *
 * @since 0.1.0
 */
export * as PeerTable from "./PeerTable.ts"

/**
 * The pinholes in the IPv6 firewall of a simulated router: which packets from the world it lets through to which host
 * (WANIPv6FirewallControl:1, and MAP and PEER of PCP for IPv6 hosts).
 *
 * @since 0.1.0
 */
export * as PinholeTable from "./PinholeTable.ts"

/**
 * What real routers do differently, by name: each quirk is one way in which some router in the wild departs from its
 * protocol or from what clients expect.
 *
 * @since 0.1.0
 */
export * as Quirk from "./Quirk.ts"

/**
 * The one model of a router behind every simulated router: its mapping table, the expiry of leases, its epoch and
 * external address, reboots, refusals and silence.
 *
 * @since 0.1.0
 */
export * as RouterModel from "./RouterModel.ts"

/**
 * What answers at an address of a simulated network: the protocols of a router, or whatever else stands there.
 *
 * @since 0.1.0
 */
export * as SimulatedDevice from "./SimulatedDevice.ts"

/**
 * A network in virtual time: hosts, links that delay, lose, repeat and reorder, and routers, with everything that
 * happens following from one seed.
 *
 * @since 0.1.0
 */
export * as SimulatedNetwork from "./SimulatedNetwork.ts"

/**
 * A router for tests, without a router and without sockets: it stands where a protocol stands, below the lease engine,
 * so renewal, healing and release are the real code, and `TestClock` drives its leases.
 *
 * @since 0.1.0
 */
export * as SimulatedRouter from "./SimulatedRouter.ts"

/**
 * Who has subscribed to the events of a simulated router (UPnP Device Architecture 1.1 §4.1), and what they have been
 * told.
 *
 * @since 0.1.0
 */
export * as SubscriptionTable from "./SubscriptionTable.ts"

/**
 * The router's side of UPnP, over a `RouterModel`: answers to searches, announcements, the device's description, the
 * calls that map ports and open pinholes, and events.
 *
 * @since 0.1.0
 */
export * as UpnpResponder from "./UpnpResponder.ts"
