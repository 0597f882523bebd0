/**
 * A failed action as an error of the strategy.
 */
import type * as NatError from "@effect-nat/core/NatError"
import * as UpnpErrorCode from "../UpnpErrorCode.ts"
import type * as WanIpConnection from "../WanIpConnection.ts"

export const toNatError = (error: WanIpConnection.ActionError, asked: UpnpErrorCode.Asked): NatError.NatError =>
  error._tag === "UpnpFault" ? UpnpErrorCode.toNatError(error, asked) : error
