/**
 * A failed action as an error of the strategy.
 */
import * as NatError from "@effect-nat/core/NatError"
import type * as Soap from "../Soap.ts"
import * as UpnpErrorCode from "../UpnpErrorCode.ts"
import type * as WanIpConnection from "../WanIpConnection.ts"

const externalPortOnlySupportsWildcard = 727

/** What such a router takes is a mapping of all ports that are mapped to nobody else: nobody asked for that. */
const onlyAllPorts = (fault: Soap.UpnpFault, asked: UpnpErrorCode.Asked): NatError.NatError =>
  NatError.fromReason(
    new NatError.Unsupported({
      operation: "map a single port",
      detail: `${NatError.brief(UpnpErrorCode.toNatError(fault, asked))}: this router maps only all of its ports to one host at once, which would open every port of that host to the world; where that is wanted, its settings call it DMZ or exposed host`
    })
  )

export const toNatError = (error: WanIpConnection.ActionError, asked: UpnpErrorCode.Asked): NatError.NatError => {
  if (error._tag !== "UpnpFault") return error
  return error.code === externalPortOnlySupportsWildcard
    ? onlyAllPorts(error, asked)
    : UpnpErrorCode.toNatError(error, asked)
}
