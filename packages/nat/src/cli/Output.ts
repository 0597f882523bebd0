/**
 * What the program prints: lines for people, or one JSON object a line, on standard output.
 */
import * as DoubleNat from "@effect-nat/core/DoubleNat"
import type * as Gateway from "@effect-nat/core/Gateway"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"

/** What happened to a mapping. */
type MappingEvent = PortMapping.Status | "changed" | "released" | "failed"

const inet = (address: NetAddress.InetAddress | undefined): string | null =>
  address === undefined ? null : NetAddress.formatInet(address)

const ip = (address: NetAddress.IpAddress | undefined): string | null =>
  address === undefined ? null : NetAddress.formatIp(address)

/** The fields of one event, in the order in which they are documented. */
export const mappingFields = (event: MappingEvent, mapping: PortMapping.PortMapping) => ({
  event,
  protocol: mapping.protocol,
  internal: inet(PortMapping.internal(mapping)),
  external: inet(PortMapping.external(mapping)),
  method: mapping.method,
  gateway: ip(mapping.gateway),
  lifetimeSeconds: PortMapping.lifetimeSeconds(mapping) ?? null,
  doubleNat: mapping.doubleNat
})

/** How long a lease lasts, as a person says it. */
const lifetimeText = (mapping: PortMapping.PortMapping): string => {
  if (mapping.lifetime === undefined) return "no lease"
  return Duration.isFinite(mapping.lifetime) ? `lease ${Duration.format(mapping.lifetime)}` : "permanent"
}

/** Where the world finds what is mapped. */
export const outside = (mapping: PortMapping.PortMapping): string => {
  if (mapping.externalPort === undefined) return "not mapped: reachable on this network only"
  const external = PortMapping.external(mapping)
  if (external !== undefined) return `${NetAddress.formatInet(external)}`
  return `port ${mapping.externalPort} (the external address is not known)`
}

/** By whom it is mapped. */
export const via = (mapping: PortMapping.PortMapping): string =>
  mapping.gateway === undefined ? mapping.method : `${mapping.method} via ${NetAddress.formatIp(mapping.gateway)}`

const inDoubt = ({ doubleNat, externalAddress }: PortMapping.PortMapping): string =>
  doubleNat && externalAddress !== undefined
    ? `, but the world cannot reach ${NetAddress.formatIp(externalAddress)}, as ${DoubleNat.format(externalAddress)}`
    : ""

/** What happened to a mapping, in a line for people. */
export const mappingText = (event: MappingEvent, mapping: PortMapping.PortMapping): string => {
  const inside = `${NetAddress.formatInet(PortMapping.internal(mapping))}/${mapping.protocol}`
  if (event === "released") return `released ${inside} -> ${outside(mapping)}`
  return `${event} ${inside} -> ${outside(mapping)} (${via(mapping)}, ${lifetimeText(mapping)})${inDoubt(mapping)}`
}

/** Prints an object as one line. */
export const json = (value: unknown) => Console.log(JSON.stringify(value))

/** Prints what happened to a mapping. */
export const mappingEvent = (
  asJson: boolean,
  event: "mapped" | "changed" | "released",
  mapping: PortMapping.PortMapping
) => (asJson ? json(mappingFields(event, mapping)) : Console.log(mappingText(event, mapping)))

/** Prints that a mapping is not, or not surely, what it should be. */
export const mappingFailure = (asJson: boolean, mapping: PortMapping.PortMapping, error: string, message: string) =>
  asJson
    ? json({ ...mappingFields("failed", mapping), error, message })
    : Console.log(`${mappingText("failed", mapping)}: ${message}`)

/** Prints that there is no mapping at all. For people the program's one line on standard error says it. */
export const requestFailure = (
  asJson: boolean,
  request: MappingRequest.MappingRequest,
  { message, reason }: NatError.NatError
) =>
  asJson
    ? json({
        event: "failed",
        protocol: request.protocol,
        internal: null,
        external: null,
        method: null,
        gateway: null,
        lifetimeSeconds: null,
        doubleNat: null,
        internalPort: request.internalPort,
        externalPort: request.externalPort ?? request.internalPort,
        error: reason._tag,
        message
      })
    : Effect.void

/** A mapping as the page lists it, in its canonical order. */
export const listedMapping = (mapping: PortMapping.PortMapping) => ({
  remoteHost: ip(mapping.remoteHost) ?? "",
  externalPort: mapping.externalPort ?? null,
  protocol: mapping.protocol,
  internalPort: mapping.internalPort,
  internalClient: NetAddress.formatIp(mapping.internalAddress),
  enabled: mapping.enabled,
  description: mapping.description,
  leaseSeconds: PortMapping.lifetimeSeconds(mapping) ?? null
})

/** A gateway as one flat object. */
export const gateway = (one: Gateway.Gateway) => ({
  name: one.name,
  address: NetAddress.formatIp(one.address),
  method: one.method,
  localAddress: NetAddress.formatIp(one.localAddress),
  model: one.model ?? null,
  id: one.id ?? null
})

/** What a router calls itself goes to a terminal: its control characters must not. */
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
export const printable = (text: string): string => text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, "?")

/** Rows under headings, in columns. */
export const table = (headings: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const cells = [headings, ...rows].map((row) => row.map(printable))
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? "").length)))
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd()
    )
    .join("\n")
}
