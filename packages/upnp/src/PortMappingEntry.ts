/**
 * A port mapping as a router lists it: eight fields in the canonical order { remote host, external port, protocol,
 * internal port, internal client, enabled, description, lease duration }.
 *
 * `PortMapping` of core is the same for every protocol; an entry is what is said to the router, word for word.
 *
 * @since 0.1.0
 */
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Duration from "effect/Duration"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as WireText from "./internal/wireText.ts"
import * as Soap from "./Soap.ts"

/**
 * One entry of a router's list (WANIPConnection:1 §2.2.12 to §2.2.20).
 *
 * @category models
 * @since 0.1.0
 */
export interface PortMappingEntry {
  /** The only remote host whose packets are forwarded; an empty string is the wildcard and the usual value. */
  readonly remoteHost: string
  /** 0 is the wildcard: all ports that are mapped to nobody else. */
  readonly externalPort: number
  readonly protocol: "TCP" | "UDP"
  readonly internalPort: number
  /** The address of the host on the inside; some routers list its name. */
  readonly internalClient: string
  readonly enabled: boolean
  readonly description: string
  /** In seconds; 0 is a mapping without an end. */
  readonly leaseDuration: number
}

/**
 * What names an entry on a router: its first three fields.
 *
 * @category models
 * @since 0.1.0
 */
export type Key = Pick<PortMappingEntry, "remoteHost" | "externalPort" | "protocol">

/**
 * The eight fields in their canonical order.
 *
 * @category models
 * @since 0.1.0
 */
export type Fields = readonly [
  remoteHost: string,
  externalPort: number,
  protocol: "TCP" | "UDP",
  internalPort: number,
  internalClient: string,
  enabled: boolean,
  description: string,
  leaseDuration: number
]

/**
 * The eight fields in their canonical order.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toFields = (self: PortMappingEntry): Fields => [
  self.remoteHost,
  self.externalPort,
  self.protocol,
  self.internalPort,
  self.internalClient,
  self.enabled,
  self.description,
  self.leaseDuration
]

/**
 * An entry from its eight fields.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromFields = (fields: Fields): PortMappingEntry => {
  const [remoteHost, externalPort, protocol, internalPort, internalClient, enabled, description, leaseDuration] = fields
  return { remoteHost, externalPort, protocol, internalPort, internalClient, enabled, description, leaseDuration }
}

/**
 * The protocol as routers insist on it: in upper case.
 *
 * @category conversions
 * @since 0.1.0
 */
export const wireProtocol = (protocol: PortMapping.Protocol): "TCP" | "UDP" => (protocol === "tcp" ? "TCP" : "UDP")

/**
 * The arguments that name an entry, in the order of the document.
 *
 * @category conversions
 * @since 0.1.0
 */
export const keyArguments = (self: Key): Soap.Arguments => [
  ["NewRemoteHost", self.remoteHost],
  ["NewExternalPort", String(self.externalPort)],
  ["NewProtocol", self.protocol]
]

/**
 * All eight fields as arguments, in the order of the document (AddPortMapping, WANIPConnection:1 §2.4.16).
 *
 * @category conversions
 * @since 0.1.0
 */
export const toArguments = (self: PortMappingEntry): Soap.Arguments => [
  ...keyArguments(self),
  ["NewInternalPort", String(self.internalPort)],
  ["NewInternalClient", self.internalClient],
  ["NewEnabled", self.enabled ? "1" : "0"],
  ["NewPortMappingDescription", self.description],
  ["NewLeaseDuration", String(self.leaseDuration)]
]

const parsePort = (text: string | undefined): number | undefined => {
  const port = WireText.parseUint32(text)
  return port !== undefined && port <= 65535 ? port : undefined
}

const parseProtocol = (text: string | undefined): "TCP" | "UDP" | undefined => {
  const upper = text?.toUpperCase()
  return upper === "TCP" || upper === "UDP" ? upper : undefined
}

const isFalse = /^(?:0|false|no)$/i

const maximumTextLength = 256

const line = (text: string | undefined): string => WireText.oneLine(text ?? "", maximumTextLength)

/**
 * An entry from a router's answer; fails with what is wrong. What `key` holds need not be in the answer
 * (GetSpecificPortMappingEntry, WANIPConnection:1 §2.4.15, leaves it out).
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromArguments = (list: Soap.Arguments, key?: Key): Result.Result<PortMappingEntry, string> => {
  const externalPort = key?.externalPort ?? parsePort(Soap.argument(list, "NewExternalPort"))
  const protocol = key?.protocol ?? parseProtocol(Soap.argument(list, "NewProtocol"))
  const internalPort = parsePort(Soap.argument(list, "NewInternalPort"))
  if (externalPort === undefined) return Result.fail("the entry has no external port")
  if (protocol === undefined) return Result.fail("the entry has no protocol")
  if (internalPort === undefined) return Result.fail("the entry has no internal port")
  return Result.succeed({
    remoteHost: key?.remoteHost ?? line(Soap.argument(list, "NewRemoteHost")),
    externalPort,
    protocol,
    internalPort,
    internalClient: line(Soap.argument(list, "NewInternalClient")),
    enabled: !isFalse.test(Soap.argument(list, "NewEnabled") ?? "1"),
    description: line(Soap.argument(list, "NewPortMappingDescription")),
    // Some routers leave out what is left of the lease; without a number it counts as permanent.
    leaseDuration: WireText.parseUint32(Soap.argument(list, "NewLeaseDuration")) ?? 0
  })
}

/**
 * What an entry does not say about itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface Holder {
  /** The router that holds it. */
  readonly gateway: NetAddress.IpAddress
  readonly externalAddress: NetAddress.IpAddress | undefined
}

const isWildcard = (host: string): boolean => host === "" || host === "*" || host === "0.0.0.0"

/**
 * The entry as a mapping; fails with what is wrong where it has no internal address or port to speak of, as with
 * routers that list their clients by name.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toPortMapping = (
  self: PortMappingEntry,
  holder: Holder
): Result.Result<PortMapping.PortMapping, string> => {
  const internalAddress = Result.getOrUndefined(NetAddress.ipFromString(self.internalClient))
  const remoteHost = isWildcard(self.remoteHost)
    ? undefined
    : Result.getOrUndefined(NetAddress.ipFromString(self.remoteHost))
  if (internalAddress === undefined) return Result.fail(`the internal client "${self.internalClient}" is no address`)
  if (remoteHost === undefined && !isWildcard(self.remoteHost)) {
    return Result.fail(`the remote host "${self.remoteHost}" is no address`)
  }
  if (self.internalPort === 0) return Result.fail("the internal port is 0")
  return Result.succeed(
    new PortMapping.PortMapping({
      remoteHost,
      externalAddress: holder.externalAddress,
      externalPort: self.externalPort === 0 ? undefined : self.externalPort,
      protocol: self.protocol === "TCP" ? "tcp" : "udp",
      internalPort: self.internalPort,
      internalAddress,
      enabled: self.enabled,
      description: self.description,
      lifetime: self.leaseDuration === 0 ? Duration.infinity : Duration.seconds(self.leaseDuration),
      gateway: holder.gateway,
      method: "upnp",
      status: "mapped"
    })
  )
}

/**
 * A mapping as an entry of a router's list. No external port is the wildcard 0, no lifetime is a permanent one.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromPortMapping = (mapping: PortMapping.PortMapping): PortMappingEntry => ({
  remoteHost: mapping.remoteHost === undefined ? "" : NetAddress.formatIp(mapping.remoteHost),
  externalPort: mapping.externalPort ?? 0,
  protocol: wireProtocol(mapping.protocol),
  internalPort: mapping.internalPort,
  internalClient: NetAddress.formatIp(mapping.internalAddress),
  enabled: mapping.enabled,
  description: mapping.description,
  leaseDuration: PortMapping.lifetimeSeconds(mapping) ?? 0
})
