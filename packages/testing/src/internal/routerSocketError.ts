/**
 * Why a socket of a simulated router could not be opened.
 */
import type * as Udp from "@effect-nat/core/Udp"
import * as Data from "effect/Data"
import * as NetAddress from "effect/net/NetAddress"
import type * as DatagramSocket from "effect/socket/DatagramSocket"

export class RouterSocketError extends Data.TaggedError("RouterSocketError")<{ readonly detail: string }> {
  override get message(): string {
    return this.detail
  }
}

/** The kind, and the system's own word where there is no kind for it, as ENETDOWN. */
const whyOf = (reason: DatagramSocket.DatagramSocketError["reason"]): string => {
  const kind = "kind" in reason ? reason.kind : reason._tag
  if (kind !== "Unknown" || !("cause" in reason) || !(reason.cause instanceof Error)) return kind
  return `${kind} (${"code" in reason.cause ? String(reason.cause.code) : reason.cause.message})`
}

/** A UDP socket at an address that it was told. */
export const fromDatagramSocket =
  ({ bind }: Udp.OpenOptions) =>
  ({ reason }: DatagramSocket.DatagramSocketError): RouterSocketError => {
    const address = bind?.address === undefined ? "any address" : NetAddress.formatIp(bind.address)
    return new RouterSocketError({ detail: `${whyOf(reason)}: UDP port ${bind?.port ?? 0} at ${address}` })
  }
