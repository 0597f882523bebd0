/**
 * How a client and a router show each other that they know a capability, without telling it: HMAC-SHA-256 over fresh
 * random numbers of both, so that what was overheard opens nothing, and a host that does not know the capability cannot
 * pass for the router.
 *
 * @since 0.1.0
 */
import * as Capability from "@effect-nat/core/Capability"
import { hmac } from "@noble/hashes/hmac.js"
import { sha256 } from "@noble/hashes/sha2.js"
import * as Bytes from "effect/Bytes"

/**
 * The length of a capability's name, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const nameLength = 8

/**
 * The length of a proof, and of the random number of each side that goes into it, in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const proofLength = 16

const utf8 = new TextEncoder()
const nameOf = utf8.encode("effect-nat capability name")

/**
 * What a capability is called where it must not be told: the first 8 bytes of an HMAC of a fixed text.
 *
 * @category encoding
 * @since 0.1.0
 */
export const name = (self: Capability.Capability): Uint8Array =>
  hmac(sha256, Capability.toBytes(self), nameOf).slice(0, nameLength)

/**
 * What a proof is made of, beside the capability: who makes it, the 16 bytes of the session's id, and the random numbers
 * of client and router.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  readonly side: "client" | "router"
  readonly sessionId: Uint8Array
  readonly clientNonce: Uint8Array
  readonly routerNonce: Uint8Array
}

/**
 * Shows that one side knows the capability, without telling it: the first 16 bytes of the HMAC-SHA-256, keyed with the
 * capability, of the name of the side in ASCII, the session's id, the client's and the router's random number.
 *
 * @category encoding
 * @since 0.1.0
 */
export const prove = (self: Capability.Capability, { clientNonce, routerNonce, sessionId, side }: Claim): Uint8Array =>
  hmac(sha256, Capability.toBytes(self), Bytes.concat([utf8.encode(side), sessionId, clientNonce, routerNonce])).slice(
    0,
    proofLength
  )
