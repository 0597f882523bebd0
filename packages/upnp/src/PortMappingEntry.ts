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
import * as Xml from "./internal/xml.ts"
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
 * What `make` needs to know. The defaults are those of the short form: any remote host, TCP, enabled, without an end.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** What people see in the router's list. */
  readonly description: string
  readonly externalPort: number
  readonly internalClient: string
  readonly internalPort: number
  /** The wildcard, an empty string, by default. */
  readonly remoteHost?: string | undefined
  /** `"TCP"` by default. */
  readonly protocol?: "TCP" | "UDP" | undefined
  /** `true` by default. */
  readonly enabled?: boolean | undefined
  /** In seconds; 0, a mapping without an end, by default. */
  readonly leaseDuration?: number | undefined
}

/**
 * An entry from what has to be said, with defaults for the rest.
 *
 * **Example** (The short form of adding a mapping)
 *
 * ```ts
 * import * as PortMappingEntry from "@effect-nat/upnp/PortMappingEntry"
 * import type * as WanIpConnection from "@effect-nat/upnp/WanIpConnection"
 *
 * const add = (connection: WanIpConnection.WanIpConnection) =>
 *   connection.addPortMapping(
 *     PortMappingEntry.make({
 *       description: "chess",
 *       externalPort: 12001,
 *       internalClient: "192.168.1.2",
 *       internalPort: 12000
 *     })
 *   )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): PortMappingEntry => ({
  remoteHost: options.remoteHost ?? "",
  externalPort: options.externalPort,
  protocol: options.protocol ?? "TCP",
  internalPort: options.internalPort,
  internalClient: options.internalClient,
  enabled: options.enabled ?? true,
  description: options.description,
  leaseDuration: options.leaseDuration ?? 0
})

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
    enabled: WireText.parseBoolean(Soap.argument(list, "NewEnabled")) ?? true,
    description: line(Soap.argument(list, "NewPortMappingDescription") ?? Soap.argument(list, "NewDescription")),
    // Some routers leave out what is left of the lease; without a number it counts as permanent.
    leaseDuration:
      WireText.parseUint32(Soap.argument(list, "NewLeaseDuration") ?? Soap.argument(list, "NewLeaseTime")) ?? 0
  })
}

const listElement = "PortMappingList"
const entryElement = "PortMappingEntry"

/** An entry's elements as they are called in a list: two of them differ from the arguments of the actions. */
const listNames: Readonly<Record<string, string>> = {
  NewPortMappingDescription: "NewDescription",
  NewLeaseDuration: "NewLeaseTime"
}

/**
 * Writes entries as the document that GetListOfPortMappings answers with (WANIPConnection:2 §2.3.28).
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeList = (entries: ReadonlyArray<PortMappingEntry>): string => {
  const element = (name: string, content: string) => `<p:${name}>${content}</p:${name}>`
  const items = entries.map((entry) =>
    element(
      entryElement,
      toArguments(entry)
        .map(([name, value]) => element(listNames[name] ?? name, Xml.escape(value)))
        .join("")
    )
  )
  return `<?xml version="1.0"?><p:${listElement} xmlns:p="urn:schemas-upnp-org:gw:WANIPConnection">${items.join("")}</p:${listElement}>`
}

/**
 * Reads the document that GetListOfPortMappings answers with; fails with what is wrong. An empty text is an empty
 * list, and an entry that makes no sense is left out. Names are matched without their prefixes, ignoring case.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeList = (text: string): Result.Result<ReadonlyArray<PortMappingEntry>, string> => {
  if (text.trim() === "") return Result.succeed([])
  return Result.flatMap(Xml.parse(encoder.encode(text), Soap.maximumBytes), (root) => {
    if (root.name.toLowerCase() !== listElement.toLowerCase()) {
      return Result.fail(`the list of port mappings is not a ${listElement}`)
    }
    return Result.succeed(
      Xml.childrenNamed(root, entryElement).flatMap((entry) =>
        Result.match(fromArguments(entry.children.map((child) => [child.name, child.text] as const)), {
          onSuccess: (read) => [read],
          onFailure: () => []
        })
      )
    )
  })
}

const encoder = new TextEncoder()

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
