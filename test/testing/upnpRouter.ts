/**
 * A router that is asked over UPnP without any network, for the tests of its answers.
 */
import type * as Quirk from "@effect-nat/testing/Quirk"
import { RouterModel } from "@effect-nat/testing/RouterModel"
import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import * as Soap from "@effect-nat/upnp/Soap"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"

export const client = NetAddress.ipFromStringUnsafe("192.168.77.2")
export const wanIp = "urn:schemas-upnp-org:service:WANIPConnection:1"
export const wanPpp = "urn:schemas-upnp-org:service:WANPPPConnection:1"

export const routerWith = (...quirks: ReadonlyArray<Quirk.Quirk>) => new RouterModel({ quirks })

export const text = (bytes: Uint8Array) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes)
export const bytes = (value: string) => new TextEncoder().encode(value)

export const request = (
  model: RouterModel,
  options: Partial<UpnpResponder.Request> & {
    readonly port?: number
    readonly now?: number
    readonly from?: NetAddress.IpAddress
  }
) => {
  const place = UpnpResponder.placeOf(model)
  const { from = client, now = 0, port = place.httpPort, ...rest } = options
  return UpnpResponder.answerRequest(
    model,
    now,
    place,
    { method: "GET", path: "/rootDesc.xml", headers: [], body: new Uint8Array(), ...rest },
    { client: from, port }
  )
}

export interface CallOptions {
  readonly serviceType?: string
  readonly path?: string
  readonly header?: string
  readonly port?: number
  readonly now?: number
  readonly from?: NetAddress.IpAddress
}

/** The error code of a refusal, or the values of the results. */
export const call = (model: RouterModel, action: string, list: Soap.Arguments = [], options: CallOptions = {}) => {
  const { header = "SOAPAction", path = "/ctl/IPConn", serviceType = wanIp, ...rest } = options
  const called = { serviceType, action, arguments: list }
  const answer = request(model, {
    ...rest,
    method: "POST",
    path,
    headers: [[header, Soap.soapAction(called)]],
    body: bytes(Soap.encodeCall(called))
  })
  if (answer === undefined) return "silence"
  const decoded = Soap.decodeAnswer(answer.body, action)
  if (Result.isSuccess(decoded)) return decoded.success.map(([, value]) => value)
  return decoded.failure._tag === "UpnpFault" ? decoded.failure.code : `HTTP ${answer.status}`
}
