// Written by "npm run generate" from the modules' headers. Do not edit.

/**
 * The LAN beacon: services of a local network find each other without anybody between them.
 *
 * @since 0.1.0
 */
export * as Beacon from "./Beacon.ts"

/**
 * The beacon's packets, between bytes and values, both ways.
 *
 * @since 0.1.0
 */
export * as BeaconCodec from "./BeaconCodec.ts"

/**
 * How a client and a router show each other that they know a capability, without telling it: HMAC-SHA-256 over fresh
 * random numbers of both, so that what was overheard opens nothing, and a host that does not know the capability cannot
 * pass for the router.
 *
 * @since 0.1.0
 */
export * as CapabilityProof from "./CapabilityProof.ts"

/**
 * A certificate for TLS, with its private key and what others know it by.
 *
 * @since 0.1.0
 */
export * as Certificate from "./Certificate.ts"

/**
 * Everything that can go wrong with a certificate.
 *
 * @since 0.1.0
 */
export * as CertificateError from "./CertificateError.ts"

/**
 * Why a dispatcher refuses or closes a connection, in words and as one byte on the wire.
 *
 * @since 0.1.0
 */
export * as CloseReason from "./CloseReason.ts"

/**
 * The seam to connections that a client makes: `NodeConnector.layer` makes them over TCP, `WebConnector.layer` by
 * WebSocket, as in a browser.
 *
 * @since 0.1.0
 */
export * as Connector from "./Connector.ts"

/**
 * The strategy of a dispatcher that is given none: the page's `DefaultConfig`, a class variable of `CobaltDispatcher`
 * there.
 *
 * @since 0.1.0
 */
export * as DefaultConfig from "./DefaultConfig.ts"

/**
 * The session dispatcher: one TCP port for all sessions of a host.
 *
 * @since 0.1.0
 */
export * as Dispatcher from "./Dispatcher.ts"

/**
 * What goes wrong with a dispatcher itself.
 *
 * @since 0.1.0
 */
export * as DispatcherError from "./DispatcherError.ts"

/**
 * What a dispatcher's connections do, as Effect metrics: whoever exports metrics, as `PrometheusMetrics` or OTLP,
 * exports these.
 *
 * @since 0.1.0
 */
export * as DispatcherMetrics from "./DispatcherMetrics.ts"

/**
 * What a member of a session may do, one thing each: the seven facets that a message router hands out, as Open Cobalt's
 * did.
 *
 * @since 0.1.0
 */
export * as Facet from "./Facet.ts"

/**
 * What it takes to join a session, beside an address: which session, and the capability that opens it.
 *
 * @since 0.1.0
 */
export * as Invitation from "./Invitation.ts"

/**
 * Certificates on Node: given in PEM, or self-signed.
 *
 * @since 0.1.0
 */
export * as NodeCertificate from "./NodeCertificate.ts"

/**
 * Connections to dispatchers over TCP, and over TLS with a certificate that is known beforehand.
 *
 * @since 0.1.0
 */
export * as NodeConnector from "./NodeConnector.ts"

/**
 * The session dispatcher on Node's own sockets.
 *
 * @since 0.1.0
 */
export * as NodeDispatcher from "./NodeDispatcher.ts"

/**
 * Listening TCP sockets of Node, with WebSockets and TLS on the same port.
 *
 * @since 0.1.0
 */
export * as NodeTcpListener from "./NodeTcpListener.ts"

/**
 * The header by which a forwarder tells whose connection it passes on: version 2 of the PROXY protocol, the binary one
 * (haproxy's `proxy-protocol.txt`, section 2.2).
 *
 * @since 0.1.0
 */
export * as ProxyProtocol from "./ProxyProtocol.ts"

/**
 * The control protocol of a dispatcher, spoken over `effect/rpc` on the dispatcher's own port: the page's "network
 * protocol between the island/harness/contact point and the dispatcher".
 *
 * @since 0.1.0
 */
export * as RemoteControl from "./RemoteControl.ts"

/**
 * A dispatcher on another host, controlled over its own port: register sessions there, look them up and watch them, ask
 * for its contact point as it is good for oneself, have it announce an island, and change its strategy.
 *
 * @since 0.1.0
 */
export * as RemoteDispatcher from "./RemoteDispatcher.ts"

/**
 * The client's side of a session: joins it at whatever address of its contact point answers, hears what its members
 * send and sends to them, and comes back by itself when the connection breaks.
 *
 * @since 0.1.0
 */
export * as Session from "./Session.ts"

/**
 * Everything that can go wrong with a session.
 *
 * @since 0.1.0
 */
export * as SessionError from "./SessionError.ts"

/**
 * What a member of a session hears.
 *
 * @since 0.1.0
 */
export * as SessionEvent from "./SessionEvent.ts"

/**
 * The seam to listening TCP sockets, in plain callbacks: what passes here is the dispatcher's hot path.
 *
 * @since 0.1.0
 */
export * as TcpListener from "./TcpListener.ts"

/**
 * Connections to dispatchers by WebSocket, in a browser and wherever else there is one.
 *
 * @since 0.1.0
 */
export * as WebConnector from "./WebConnector.ts"

/**
 * The dispatcher's wire, version 1: a pure codec between bytes and values, both directions.
 *
 * @since 0.1.0
 */
export * as Wire from "./Wire.ts"
