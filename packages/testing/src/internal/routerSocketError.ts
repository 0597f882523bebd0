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

/** A UDP socket at an address that it was told. */
export const fromDatagramSocket =
  ({ bind }: Udp.OpenOptions) =>
  ({ reason }: DatagramSocket.DatagramSocketError): RouterSocketError => {
    const address = bind?.address === undefined ? "any address" : NetAddress.formatIp(bind.address)
    const why = "kind" in reason ? reason.kind : reason._tag
    return new RouterSocketError({ detail: `${why}: UDP port ${bind?.port ?? 0} at ${address}` })
  }
