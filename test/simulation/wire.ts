/**
 * What a client's packets say, read without the client's own codecs: the judge must not share their mistakes.
 */
import type * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as NetAddress from "effect/net/NetAddress"

export type Said =
  | { readonly kind: "map" | "delete"; readonly protocol: string; readonly port: number; readonly lease: number }
  | { readonly kind: "search" | "description" | "call" | "question" | "other" }

const field = (body: string, name: string): string => new RegExp(`<${name}>([^<]*)<`).exec(body)?.[1] ?? ""

const ofCall = (body: string): Said => {
  const protocol = field(body, "NewProtocol").toLowerCase()
  const lease = Number(field(body, "NewLeaseDuration"))
  // The port is the internal one for a mapping and, since nothing else is said, the external one for a deletion.
  if (body.includes(":AddPortMapping ") || body.includes(":AddAnyPortMapping ")) {
    return { kind: "map", protocol, port: Number(field(body, "NewInternalPort")), lease }
  }
  if (body.includes(":DeletePortMapping ")) {
    return { kind: "delete", protocol, port: Number(field(body, "NewExternalPort")), lease: 0 }
  }
  return { kind: "call" }
}

const ofDatagram = (payload: Uint8Array, port: number): Said => {
  if (port === 1900) return { kind: "search" }
  if (port !== 5351) return { kind: "other" }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  if (payload.length < 12) return { kind: "question" }
  const lease = view.getUint32(8)
  const protocol = view.getUint8(1) === 1 ? "udp" : "tcp"
  return { kind: lease === 0 ? "delete" : "map", protocol, port: view.getUint16(4), lease }
}

export const read = ({ payload, request, to }: SimulatedNetwork.Sent): Said => {
  if (payload !== undefined) return ofDatagram(payload, to.port)
  if (request?.method === "GET") return { kind: "description" }
  return ofCall(request?.body ?? "")
}

/** The port that a router has chosen in its answer to a call for any port, with the call's protocol. */
export const chosenPort = (call: string | undefined, answer: Uint8Array): string | undefined => {
  if (call?.includes(":AddAnyPortMapping ") !== true) return undefined
  const port = field(new TextDecoder().decode(answer), "NewReservedPort")
  return port === "" ? undefined : `${port}/${field(call, "NewProtocol").toLowerCase()}`
}

export const isTo = (sent: SimulatedNetwork.Sent, address: string): boolean =>
  NetAddress.formatIp(sent.to.address) === address
