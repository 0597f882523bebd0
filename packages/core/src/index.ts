// Written by "npm run generate" from the modules' headers. Do not edit.

/**
 * Tells others that a service is there, as long as a scope is open: on the local network, or wherever an announcer
 * reaches.
 *
 * @since 0.1.0
 */
export * as Announcer from "./Announcer.ts"

/**
 * One switch for all automation: where it is off, no strategy asks a gateway for anything, and no packet leaves the
 * host.
 *
 * @since 0.1.0
 */
export * as Automation from "./Automation.ts"

/**
 * The 128-bit secret that opens something: a session, or the control of a dispatcher.
 *
 * @since 0.1.0
 */
export * as Capability from "./Capability.ts"

/**
 * The CRC-32 that every frame carries (the one of IEEE 802.3 and of zlib: polynomial `edb88320`, reflected).
 *
 * @since 0.1.0
 */
export * as Checksum from "./Checksum.ts"

/**
 * A contact point: where a service can be reached, from inside and from outside, and what there is.
 *
 * @since 0.1.0
 */
export * as ContactPoint from "./ContactPoint.ts"

/**
 * A contact point as bytes: what is in its URI, and in the packets that announce it.
 *
 * @since 0.1.0
 */
export * as ContactPointCodec from "./ContactPointCodec.ts"

/**
 * Turns a listening port and its live mappings into a contact point, and answers what to tell *this* requester.
 *
 * @since 0.1.0
 */
export * as ContactPointResolver from "./ContactPointResolver.ts"

/**
 * A contact point in one word, to be pasted or put into a QR code: `effect-nat:` and its bytes in base64url.
 *
 * @since 0.1.0
 */
export * as ContactPointUri from "./ContactPointUri.ts"

/**
 * The seam to the routing table: which gateways would the kernel send packets for the world to?
 *
 * @since 0.1.0
 */
export * as DefaultRoute from "./DefaultRoute.ts"

/**
 * A gateway that stands behind another NAT: another router at home, or the provider's own (carrier-grade NAT, RFC
 * 6598).
 *
 * @since 0.1.0
 */
export * as DoubleNat from "./DoubleNat.ts"

/**
 * A gateway that this host can see, and what it speaks.
 *
 * @since 0.1.0
 */
export * as Gateway from "./Gateway.ts"

/**
 * Which gateways can this host see, and what do they speak?
 *
 * @since 0.1.0
 */
export * as GatewayDiscovery from "./GatewayDiscovery.ts"

/**
 * The seam to HTTP, as home routers speak it.
 *
 * @since 0.1.0
 */
export * as Http from "./Http.ts"

/**
 * The seam to incoming HTTP requests from the local network, as routers send their events.
 *
 * @since 0.1.0
 */
export * as HttpListener from "./HttpListener.ts"

/**
 * Which IPv4 addresses can the world reach?
 *
 * @since 0.1.0
 */
export * as Ipv4Scope from "./Ipv4Scope.ts"

/**
 * Which IPv6 addresses the world can reach.
 *
 * @since 0.1.0
 */
export * as Ipv6Scope from "./Ipv6Scope.ts"

/**
 * The LAN strategy: nothing is mapped and nothing is sent; a service is reachable on this host's own network.
 *
 * @since 0.1.0
 */
export * as Lan from "./Lan.ts"

/**
 * The one engine that keeps mappings alive, for every protocol.
 *
 * @since 0.1.0
 */
export * as LeaseEngine from "./LeaseEngine.ts"

/**
 * The ledger: what this host has mapped on which gateway, written down before each request leaves, so that the next
 * start can take away what a killed process has left behind.
 *
 * @since 0.1.0
 */
export * as Ledger from "./Ledger.ts"

/**
 * The manual strategy: a person has forwarded the port on the router, and says which; no gateway is asked.
 *
 * @since 0.1.0
 */
export * as Manual from "./Manual.ts"

/**
 * What a program asks a strategy for: one internal port, and how it should look from outside.
 *
 * @since 0.1.0
 */
export * as MappingRequest from "./MappingRequest.ts"

/**
 * The clock for whatever has to last: nobody can set it.
 *
 * @since 0.1.0
 */
export * as Monotonic from "./Monotonic.ts"

/**
 * The one error of every strategy, with a `reason` that a caller can act on.
 *
 * @since 0.1.0
 */
export * as NatError from "./NatError.ts"

/**
 * The seam to this host's own addresses.
 *
 * @since 0.1.0
 */
export * as NetworkInterfaces from "./NetworkInterfaces.ts"

/**
 * What happens to this host's network: it has other addresses or other default routes, or it has slept.
 *
 * @since 0.1.0
 */
export * as NetworkWatch from "./NetworkWatch.ts"

/**
 * Default routes as the operating system knows them: Linux from `/proc/net`, macOS from `route`, Windows from
 * PowerShell.
 *
 * @since 0.1.0
 */
export * as NodeDefaultRoute from "./NodeDefaultRoute.ts"

/**
 * Everything that strategies need of a host, from Node: UDP, HTTP both ways, interfaces, default routes, the ledger,
 * and the watch over its network.
 *
 * @since 0.1.0
 */
export * as NodeHost from "./NodeHost.ts"

/**
 * HTTP to home routers, on Node's own client.
 *
 * @since 0.1.0
 */
export * as NodeHttp from "./NodeHttp.ts"

/**
 * A small HTTP server of Node for what routers send.
 *
 * @since 0.1.0
 */
export * as NodeHttpListener from "./NodeHttpListener.ts"

/**
 * The ledger as files: one for each process, in the user's state directory, readable by the user only.
 *
 * @since 0.1.0
 */
export * as NodeLedger from "./NodeLedger.ts"

/**
 * Network interfaces as Node sees them.
 *
 * @since 0.1.0
 */
export * as NodeNetworkInterfaces from "./NodeNetworkInterfaces.ts"

/**
 * UDP sockets of Node.
 *
 * @since 0.1.0
 */
export * as NodeUdp from "./NodeUdp.ts"

/**
 * The contract that every strategy implements: map a port, and know what is mapped.
 *
 * @since 0.1.0
 */
export * as PortMapper from "./PortMapper.ts"

/**
 * A port mapping: what the gateway does with packets to one of its external ports.
 *
 * @since 0.1.0
 */
export * as PortMapping from "./PortMapping.ts"

/**
 * How often a gateway is believed that it has restarted: anybody in the network can say so in its name, with one
 * datagram, and every mapping is looked at because of it.
 *
 * @since 0.1.0
 */
export * as RestartLimit from "./RestartLimit.ts"

/**
 * The 128-bit id that names one session on a dispatcher.
 *
 * @since 0.1.0
 */
export * as SessionId from "./SessionId.ts"

/**
 * How often a gateway is waited for that has fallen silent: many mappings end together, and the end of a program must
 * not wait for such a gateway once for each of them.
 *
 * @since 0.1.0
 */
export * as SilenceLimit from "./SilenceLimit.ts"

/**
 * A strategy that can be chosen among others: besides mapping it can find out, without changing anything, whether a
 * gateway answers its protocol.
 *
 * @since 0.1.0
 */
export * as Strategy from "./Strategy.ts"

/**
 * One mapping that is held by one strategy after the other: whoever has it sees the changes and not the exchange.
 *
 * @since 0.1.0
 */
export * as SwitchedMapping from "./SwitchedMapping.ts"

/**
 * The seam to UDP: protocol code opens its sockets through this service and nothing else.
 *
 * @since 0.1.0
 */
export * as Udp from "./Udp.ts"
