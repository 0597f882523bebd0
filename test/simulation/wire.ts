/**
 * What a client's packets say, read without the client's own codecs: the judge must not share their mistakes.
 */
import type * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as NetAddress from "effect/net/NetAddress"

export interface SaidOfMapping {
  readonly kind: "map" | "delete"
  readonly protocol: string
  /** The internal port or, in a deletion over UPnP, the external one. */
  readonly port: number
  readonly lease: number
  /** PCP's. */
  readonly nonce?: string
}

export type Said = SaidOfMapping | { readonly kind: "search" | "description" | "call" | "question" | "other" }

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

export const pcpVersion = 2
const pcpMap = 1

export const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")

/** The nonce in a PCP request to map. */
export const nonceOf = (payload: Uint8Array): string | undefined =>
  payload[1] === pcpMap && payload.length >= 60 ? hex(payload.subarray(24, 36)) : undefined

const ofPcp = (payload: Uint8Array, view: DataView): Said => {
  const nonce = nonceOf(payload)
  if (nonce === undefined) return { kind: "question" }
  const lease = view.getUint32(4)
  return {
    kind: lease === 0 ? "delete" : "map",
    protocol: view.getUint8(36) === 17 ? "udp" : "tcp",
    port: view.getUint16(40),
    lease,
    nonce
  }
}

/** A PCP request but for its lifetime and its nonce: what a refusal is a refusal of. */
export const wishOf = (payload: Uint8Array): string =>
  `${hex(payload.subarray(0, 4))} ${hex(payload.subarray(8, 24))} ${hex(payload.subarray(36))}`

/** What a PCP server answers: its version, its result, and how long an error lasts, in seconds. */
export const resultOf = (
  answer: Uint8Array
): { readonly version: number; readonly code: number; readonly lasts: number } => {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.byteLength)
  const isWhole = answer.length >= 8
  return { version: answer[0] ?? 0, code: answer[3] ?? 0, lasts: isWhole ? view.getUint32(4) : 0 }
}

/** What a datagram to this port says. */
export const readDatagram = (payload: Uint8Array, port: number): Said => {
  if (port === 1900) return { kind: "search" }
  if (port !== 5351) return { kind: "other" }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  if (payload[0] === pcpVersion) return ofPcp(payload, view)
  if (payload.length < 12) return { kind: "question" }
  const lease = view.getUint32(8)
  const protocol = view.getUint8(1) === 1 ? "udp" : "tcp"
  return { kind: lease === 0 ? "delete" : "map", protocol, port: view.getUint16(4), lease }
}

export const read = ({ payload, request, to }: SimulatedNetwork.Sent): Said => {
  if (payload !== undefined) return readDatagram(payload, to.port)
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
