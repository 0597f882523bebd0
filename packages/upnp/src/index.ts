// Written by "npm run generate" from the modules' headers. Do not edit.

/**
 * The description of a UPnP device: what it is called, and where its services are controlled.
 *
 * @since 0.1.0
 */
export * as DeviceDescription from "./DeviceDescription.ts"

/**
 * The events of a service of a router: what it says by itself when its address or its table changes, instead of being
 * asked again and again (UPnP Device Architecture 1.1 §4).
 *
 * @since 0.1.0
 */
export * as EventSubscription from "./EventSubscription.ts"

/**
 * The messages of the General Event Notification Architecture, between text and values, both ways (UPnP Device
 * Architecture 1.1 §4).
 *
 * @since 0.1.0
 */
export * as Gena from "./Gena.ts"

/**
 * An `http` URL whose host is pinned to an address.
 *
 * @since 0.1.0
 */
export * as HttpUrl from "./HttpUrl.ts"

/**
 * The actions of a Layer3Forwarding service: which connection of the gateway its hosts use.
 *
 * @since 0.1.0
 */
export * as Layer3Forwarding from "./Layer3Forwarding.ts"

/**
 * A port mapping as a router lists it: eight fields in the canonical order { remote host, external port, protocol,
 * internal port, internal client, enabled, description, lease duration }.
 *
 * @since 0.1.0
 */
export * as PortMappingEntry from "./PortMappingEntry.ts"

/**
 * The SOAP messages of UPnP control, between text and values, both ways.
 *
 * @since 0.1.0
 */
export * as Soap from "./Soap.ts"

/**
 * Calls the actions of routers, one at a time on each.
 *
 * @since 0.1.0
 */
export * as SoapClient from "./SoapClient.ts"

/**
 * The messages of the Simple Service Discovery Protocol, between bytes and values, both ways.
 *
 * @since 0.1.0
 */
export * as Ssdp from "./Ssdp.ts"

/**
 * The listener for gateways: who is there now, who comes, who goes.
 *
 * @since 0.1.0
 */
export * as SsdpListener from "./SsdpListener.ts"

/**
 * The search for UPnP gateways: who is there, and where are they described?
 *
 * @since 0.1.0
 */
export * as SsdpSearch from "./SsdpSearch.ts"

/**
 * The UPnP strategy: maps ports on an Internet Gateway Device.
 *
 * @since 0.1.0
 */
export * as Upnp from "./Upnp.ts"

/**
 * Discovers gateways that speak UPnP: one search at a time.
 *
 * @since 0.1.0
 */
export * as UpnpDiscovery from "./UpnpDiscovery.ts"

/**
 * The error codes of UPnP control and of the Internet Gateway Device, and what a caller can do about each.
 *
 * @since 0.1.0
 */
export * as UpnpErrorCode from "./UpnpErrorCode.ts"

/**
 * A gateway that speaks UPnP: described, and, once the service to use is known, ready to map ports.
 *
 * @since 0.1.0
 */
export * as UpnpGateway from "./UpnpGateway.ts"

/**
 * The actions of a WANCommonInterfaceConfig service: the physical line that the connections share, and its traffic.
 *
 * @since 0.1.0
 */
export * as WanCommonInterfaceConfig from "./WanCommonInterfaceConfig.ts"

/**
 * The actions of a WANIPConnection service, which a WANPPPConnection service has as well; `WanPppConnection` adds those
 * that only the latter has.
 *
 * @since 0.1.0
 */
export * as WanIpConnection from "./WanIpConnection.ts"

/**
 * The actions of a WANIPv6FirewallControl service: pinholes, which let packets from the internet through the router's
 * IPv6 firewall to one host.
 *
 * @since 0.1.0
 */
export * as WanIpv6FirewallControl from "./WanIpv6FirewallControl.ts"

/**
 * The actions of a WANPPPConnection service: those of `WanIpConnection`, and what there is to know about the
 * point-to-point link.
 *
 * @since 0.1.0
 */
export * as WanPppConnection from "./WanPppConnection.ts"
