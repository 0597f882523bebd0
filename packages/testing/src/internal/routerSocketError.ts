/**
 * Why a socket of a simulated router could not be opened.
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import type * as Udp from "@effect-nat/core/Udp"
import * as Data from "effect/Data"
import * as NetAddress from "effect/net/NetAddress"
import type * as DatagramSocket from "effect/socket/DatagramSocket"

export type Kind = DatagramSocket.DatagramSocketOpenError["kind"]

/** The system's own word, as ENETDOWN. */
const wordOf = (cause: unknown): string => {
  if (!(cause instanceof Error)) return ""
  return ` (${"code" in cause ? String(cause.code) : cause.message})`
}

export class RouterSocketOpenError extends Data.TaggedError("RouterSocketOpenError")<{
  readonly kind: Kind
  readonly protocol: PortMapping.Protocol
  readonly address: NetAddress.IpAddress | undefined
  readonly port: number
  readonly cause: unknown
}> {
  override get message(): string {
    const why = this.kind === "Unknown" ? `Unknown${wordOf(this.cause)}` : this.kind
    const where = this.address === undefined ? "any address" : NetAddress.formatIp(this.address)
    return `${why}: ${this.protocol.toUpperCase()} port ${this.port} at ${where}`
  }
}

export class RouterSocketError extends Data.TaggedError("RouterSocketError")<{
  readonly reason: RouterSocketOpenError
}> {
  override get message(): string {
    return this.reason.message
  }
}

/** A UDP socket at an address that it was told. */
export const fromDatagramSocket =
  ({ bind }: Udp.OpenOptions) =>
  ({ reason }: DatagramSocket.DatagramSocketError): RouterSocketError =>
    new RouterSocketError({
      reason: new RouterSocketOpenError({
        kind: reason._tag === "DatagramSocketOpenError" ? reason.kind : "Unknown",
        protocol: "udp",
        address: bind?.address,
        port: bind?.port ?? 0,
        cause: "cause" in reason ? reason.cause : reason
      })
    })

const kinds: Readonly<Record<string, Kind>> = {
  EADDRINUSE: "AddressInUse",
  EADDRNOTAVAIL: "AddressNotAvailable",
  EACCES: "PermissionDenied",
  EPERM: "PermissionDenied"
}

/** A listening TCP socket. */
export const fromListening = (
  cause: Error & { readonly code?: string | undefined },
  address: NetAddress.IpAddress,
  port: number
): RouterSocketError => {
  const kind = kinds[cause.code ?? ""] ?? "Unknown"
  return new RouterSocketError({
    reason: new RouterSocketOpenError({ kind, protocol: "tcp", address, port, cause })
  })
}
