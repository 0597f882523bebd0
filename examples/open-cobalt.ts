/**
 * What the page on NAT traversal in Open Cobalt does in its workspaces, step by step: docs/open-cobalt.md.
 */
import * as Lan from "@effect-nat/core/Lan"
import * as Manual from "@effect-nat/core/Manual"
import type * as NatError from "@effect-nat/core/NatError"
import type * as NodeHost from "@effect-nat/core/NodeHost"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import type * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
import * as SoapClient from "@effect-nat/upnp/SoapClient"
import * as SsdpListener from "@effect-nat/upnp/SsdpListener"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as WanIpConnection from "@effect-nat/upnp/WanIpConnection"
import { Effect, type Layer, Stream } from "effect"
import { NetAddress } from "effect/net"

// TLanOnlyRouterConfig new
export const lanOnly = Lan.layer

// TManualRouterConfig new internalPort: 12000; externalPort: 12001; externalIp: ''. The internal port is the dispatcher's.
export const manual = Manual.layer({ externalPort: 12001, externalAddress: "" })

// TUpnpRouterConfig new
export const upnp = Upnp.layer

// CobaltDispatcher newWithConfig: aConfig. Without one, DefaultConfig has it.
export const newWithConfig = (
  config?: Layer.Layer<PortMapper.PortMapper, NatError.NatError, NodeHost.Host>,
  options?: Dispatcher.Options
) => NodeDispatcher.layerConfig({ port: 12000, ...options, strategy: config })

export const workspace = Effect.gen(function* () {
  // SsdpListener startListener
  const listener = yield* SsdpListener.SsdpListener
  yield* listener.start

  // SsdpListener wanIpConnectionServices anyOne
  const { gateway, wanServices } = yield* listener.anyOne
  const client = yield* SoapClient.make
  const [connection] = wanServices.map((service) => WanIpConnection.make(client, service))
  if (connection === undefined) return undefined

  // getExternalIPAddress
  const address = yield* connection.getExternalIpAddress

  // addPortMapping:externalPort:internalHost:internalPort:
  const mine = PortMappingEntry.make({
    description: "Open Cobalt",
    externalPort: 12001,
    internalClient: NetAddress.formatIp(gateway.localAddress),
    internalPort: 12000
  })
  yield* connection.addPortMapping(mine)

  // getPortMappings, each in the page's canonical order
  const mappings = (yield* Stream.runCollect(connection.portMappings)).map(PortMappingEntry.toFields)

  // deletePortMapping:
  yield* connection.deletePortMapping(mine)
  return { address, mappings }
})
