/**
 * A simulated router that is asked over PCP, by bytes or by values.
 */
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as PcpResponder from "@effect-nat/testing/PcpResponder"
import type * as RouterModel from "@effect-nat/testing/RouterModel"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"

export const bytes = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/[0-9a-f]{2}/g) ?? [], (two) => parseInt(two, 16))

export const hex = (packet: Uint8Array): string =>
  Array.from(packet, (byte) => byte.toString(16).padStart(2, "0")).join("")

const ip = NetAddress.ipFromStringUnsafe
export const client = ip("192.168.77.2")
export const hour = 3_600_000

export const clientField = "0000000000000000 0000ffff c0a84d02"
export const noAddress = "0000000000000000 0000ffff 00000000"
export const external = "0000000000000000 0000ffff 0b162101"
export const zeros = "000000000000000000000000"
export const nonceField = "0102030405060708 090a0b0c"
export const nonce = Codec.nonceFromBytes(bytes(nonceField))
export const otherNonce = Codec.nonceFromBytes(bytes("ff"))

interface Asked {
  readonly at?: number
  readonly from?: NetAddress.IpAddress
}

/** The answer to a request of these bytes, an hour after the router's start unless told otherwise. */
export const answerTo = (
  model: RouterModel.RouterModel,
  request: string,
  { at = hour, from = client }: Asked = {}
): string | undefined => {
  const answer = PcpResponder.respond(model, at, bytes(request), from)
  return answer === undefined ? undefined : hex(answer)
}

/** A request for a mapping. */
export const map: Codec.MapRequest = {
  _tag: "MapRequest",
  clientAddress: client,
  lifetime: 7200,
  nonce,
  protocol: 6,
  internalPort: 12000,
  externalPort: 12001,
  externalAddress: ip("0.0.0.0"),
  options: []
}

export const ask = (
  model: RouterModel.RouterModel,
  request: Codec.Request,
  options?: PcpResponder.Options & Asked
): Codec.Response => {
  const source = options?.from ?? client
  const answer = PcpResponder.respond(model, options?.at ?? hour, Codec.encodeRequest(request), source, options)
  return Result.getOrThrow(Codec.decodeResponse(answer ?? bytes("")))
}

export const codeOf = (response: Codec.Response): number =>
  response._tag === "ErrorResponse" ? response.resultCode : 0

export const table = (model: RouterModel.RouterModel, now = hour): ReadonlyArray<string> =>
  model
    .entries(now)
    .map(
      (entry) =>
        `${entry.protocol} ${entry.externalPort} ${NetAddress.formatIp(entry.internalAddress)}:${entry.internalPort}`
    )
