/**
 * The result codes of NAT-PMP (RFC 6886 §3.5), and what each means to a caller: the one table of this protocol.
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
  /** As RFC 6886 §3.5 calls it. */
  readonly name: string
  readonly reason: (detail: string) => NatError.NatErrorReason
}

/**
 * The result codes other than 0, which is success.
 *
 * @category constants
 * @since 0.1.0
 */
export const resultCodes: Readonly<Record<number, ResultCode>> = {
  1: {
    name: "unsupported version",
    reason: (detail) => new NatError.Unsupported({ operation: "NAT-PMP on this gateway", detail })
  },
  2: {
    name: "not authorized or refused",
    reason: (detail) => new NatError.NotAuthorized({ detail })
  },
  3: {
    name: "network failure",
    reason: (detail) => new NatError.NoExternalAddress({ detail: `${detail}: ${DoubleNat.noAddress}` })
  },
  4: {
    name: "out of resources",
    reason: (detail) => new NatError.OutOfResources({ detail })
  },
  5: {
    name: "unsupported opcode",
    reason: (detail) => new NatError.Unsupported({ operation: "this NAT-PMP request on this gateway", detail })
  }
}

/**
 * The error for an answer's result code. A version other than 0 is the gateway's own: it speaks PCP only. A code that
 * RFC 6886 does not know is a `MalformedAnswer`.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toNatError = (resultCode: number, version: number): NatError.NatError => {
  const known = resultCodes[resultCode]
  if (known === undefined) {
    return NatError.fromReason(new NatError.MalformedAnswer({ detail: `unknown NAT-PMP result code ${resultCode}` }))
  }
  const speaks = version === 0 ? "" : `: the gateway speaks version ${version} of the protocol, which is PCP`
  return NatError.fromReason(known.reason(`NAT-PMP result code ${resultCode}, ${known.name}${speaks}`))
}
