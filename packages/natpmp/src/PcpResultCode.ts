/**
 * The result codes of the Port Control Protocol (RFC 6887 §7.4), and what each means to a caller: the one table of
 * this protocol.
 *
 * **Example** (Tell a caller why a gateway refused)
 *
 * ```ts
 * import * as PcpResultCode from "@effect-nat/natpmp/PcpResultCode"
 *
 * const error = PcpResultCode.toNatError({ resultCode: 8, version: 2, externalPort: 12001 })
 * console.log(error.reason._tag) // "OutOfResources"
 * ```
 *
 * @since 0.1.0
 */
import * as DoubleNat from "@effect-nat/core/DoubleNat"
import * as NatError from "@effect-nat/core/NatError"

/**
 * What a result code is called, and what it means.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResultCode {
  /** As RFC 6887 §7.4 calls it. */
  readonly name: string
  /**
   * How long a server says that the same request will fail: 30 seconds for what passes by itself, 30 minutes for what
   * somebody has to change (RFC 6887 §7.4).
   */
  readonly lasts: "short" | "long"
  /** `externalPort` is the one that was suggested. */
  readonly reason: (detail: string, externalPort: number) => NatError.NatErrorReason
}

const unsupported = (operation: string) => (detail: string) => new NatError.Unsupported({ operation, detail })
const notAuthorized = (detail: string) => new NatError.NotAuthorized({ detail })
const outOfResources = (detail: string) => new NatError.OutOfResources({ detail })
const unsupportedRequest = unsupported("this PCP request on this gateway")

/**
 * The number of each result code, for those who answer.
 *
 * @category constants
 * @since 0.1.0
 */
export const Code = {
  success: 0,
  unsupportedVersion: 1,
  notAuthorized: 2,
  malformedRequest: 3,
  unsupportedOpcode: 4,
  unsupportedOption: 5,
  malformedOption: 6,
  networkFailure: 7,
  noResources: 8,
  unsupportedProtocol: 9,
  userExceededQuota: 10,
  cannotProvideExternal: 11,
  addressMismatch: 12,
  excessiveRemotePeers: 13
} as const

/**
 * The result codes other than 0, which is success.
 *
 * @category constants
 * @since 0.1.0
 */
export const resultCodes: Readonly<Record<number, ResultCode>> = {
  1: { name: "UNSUPP_VERSION", lasts: "long", reason: unsupported("PCP on this gateway") },
  2: { name: "NOT_AUTHORIZED", lasts: "long", reason: notAuthorized },
  3: { name: "MALFORMED_REQUEST", lasts: "long", reason: unsupportedRequest },
  4: { name: "UNSUPP_OPCODE", lasts: "long", reason: unsupportedRequest },
  5: { name: "UNSUPP_OPTION", lasts: "long", reason: unsupportedRequest },
  6: { name: "MALFORMED_OPTION", lasts: "long", reason: unsupportedRequest },
  7: {
    name: "NETWORK_FAILURE",
    lasts: "short",
    reason: (detail) => new NatError.NoExternalAddress({ detail: `${detail}: ${DoubleNat.noAddress}` })
  },
  8: { name: "NO_RESOURCES", lasts: "short", reason: outOfResources },
  9: { name: "UNSUPP_PROTOCOL", lasts: "long", reason: unsupportedRequest },
  10: { name: "USER_EX_QUOTA", lasts: "short", reason: outOfResources },
  11: {
    name: "CANNOT_PROVIDE_EXTERNAL",
    // It depends on why; a port that another host has may be free soon.
    lasts: "short",
    reason: (detail, externalPort) =>
      externalPort === 0 ? outOfResources(detail) : new NatError.Conflict({ externalPort, detail })
  },
  12: {
    name: "ADDRESS_MISMATCH",
    lasts: "long",
    // The gateway saw another source address: nothing that this host could ask for would lead packets to it.
    reason: unsupported("PCP through another NAT between this host and the gateway")
  },
  13: { name: "EXCESSIVE_REMOTE_PEERS", lasts: "long", reason: outOfResources }
}

/**
 * How long a server says that the same request will fail, in seconds: 30 for what passes by itself, 1800 for the rest
 * (RFC 6887 §7.4).
 *
 * @category accessors
 * @since 0.1.0
 */
export const lifetimeSeconds = (resultCode: number): number => (resultCodes[resultCode]?.lasts === "short" ? 30 : 1800)

/**
 * A refusal, and what was wanted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Refused {
  readonly resultCode: number
  /** The version in the answer; 0 is NAT-PMP's. */
  readonly version: number
  /** The external port that was suggested; 0 for none. */
  readonly externalPort: number
}

const speaks = (version: number): string => {
  if (version === 2) return ""
  return version === 0
    ? ": the gateway speaks version 0 of the protocol, which is NAT-PMP"
    : `: the gateway speaks version ${version} of the protocol`
}

/**
 * The error for an answer's result code. A code that RFC 6887 does not know is a `MalformedAnswer`.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toNatError = ({ externalPort, resultCode, version }: Refused): NatError.NatError => {
  const known = resultCodes[resultCode]
  if (known === undefined) {
    return NatError.fromReason(new NatError.MalformedAnswer({ detail: `unknown PCP result code ${resultCode}` }))
  }
  const detail = `PCP result code ${resultCode}, ${known.name}${speaks(version)}`
  return NatError.fromReason(known.reason(detail, externalPort))
}
