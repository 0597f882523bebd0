/**
 * The error codes of UPnP control and of the Internet Gateway Device, and what a caller can do about each.
 *
 * @since 0.1.0
 */
import * as NatError from "@effect-nat/core/NatError"
import type * as Soap from "./Soap.ts"

/**
 * What was asked when the device refused.
 *
 * @category models
 * @since 0.1.0
 */
export interface Asked {
  readonly action: string
  /** The external port in question, where the action is about one. */
  readonly externalPort?: number | undefined
}

type Reason = (detail: string, asked: Asked) => NatError.NatErrorReason

const unsupported: Reason = (detail, asked) => new NatError.Unsupported({ operation: asked.action, detail })
const notAuthorized: Reason = (detail) => new NatError.NotAuthorized({ detail })
const noSuchMapping: Reason = (detail) => new NatError.NoSuchMapping({ detail })
const outOfResources: Reason = (detail) => new NatError.OutOfResources({ detail })
const permanentOnly: Reason = (detail) => new NatError.OnlyPermanentLeases({ detail })
const conflict: Reason = (detail, asked) =>
  asked.externalPort === undefined
    ? unsupported(detail, asked)
    : new NatError.Conflict({ externalPort: asked.externalPort, detail })
/** "Action failed" says nothing; what it mostly means depends on the action. */
const failed: Reason = (detail, asked) =>
  asked.action === "GetExternalIPAddress" ? new NatError.NoExternalAddress({ detail }) : outOfResources(detail, asked)

const invalidAction = 401
const invalidArgs = 402
const actionFailed = 501
const actionNotAuthorized = 606

/**
 * The index is past the end of the list (713).
 *
 * @category constants
 * @since 0.1.0
 */
export const specifiedArrayIndexInvalid = 713

/**
 * There is no such mapping (714).
 *
 * @category constants
 * @since 0.1.0
 */
export const noSuchEntryInArray = 714

/**
 * The external port must be the internal port (724).
 *
 * @category constants
 * @since 0.1.0
 */
export const samePortValuesRequired = 724

/** WANIPConnection:2 §2.5.21 has it in place of 714 for some actions. */
const portMappingNotFound = 730

/** From the UPnP Device Architecture 1.1 §3.2.2, WANIPConnection:1 §2.4 and WANIPConnection:2 §2.5. */
const table: Readonly<Record<number, readonly [name: string, reason: Reason]>> = {
  [invalidAction]: ["Invalid Action", unsupported],
  [invalidArgs]: ["Invalid Args", unsupported],
  404: ["Invalid Var", unsupported],
  [actionFailed]: ["Action Failed", failed],
  600: ["Argument Value Invalid", unsupported],
  601: ["Argument Value Out of Range", unsupported],
  602: ["Optional Action Not Implemented", unsupported],
  603: ["Out of Memory", outOfResources],
  604: ["Human Intervention Required", notAuthorized],
  605: ["String Argument Too Long", unsupported],
  [actionNotAuthorized]: ["Action not authorized", notAuthorized],
  607: ["Signature failure", notAuthorized],
  608: ["Signature missing", notAuthorized],
  609: ["Not encrypted", notAuthorized],
  610: ["Invalid sequence", notAuthorized],
  611: ["Invalid control URL", notAuthorized],
  612: ["No such session", notAuthorized],
  [specifiedArrayIndexInvalid]: ["SpecifiedArrayIndexInvalid", noSuchMapping],
  [noSuchEntryInArray]: ["NoSuchEntryInArray", noSuchMapping],
  715: ["WildCardNotPermittedInSrcIP", unsupported],
  716: ["WildCardNotPermittedInExtPort", unsupported],
  718: ["ConflictInMappingEntry", conflict],
  [samePortValuesRequired]: ["SamePortValuesRequired", unsupported],
  725: ["OnlyPermanentLeasesSupported", permanentOnly],
  726: ["RemoteHostOnlySupportsWildcard", unsupported],
  727: ["ExternalPortOnlySupportsWildcard", unsupported],
  728: ["NoPortMapsAvailable", outOfResources],
  729: ["ConflictWithOtherMechanisms", conflict],
  [portMappingNotFound]: ["PortMappingNotFound", noSuchMapping],
  732: ["WildCardNotPermittedInIntPort", unsupported],
  733: ["InconsistentParameters", unsupported]
}

/**
 * The name that the documents give to a code; `undefined` for a code of the vendor's own.
 *
 * @category accessors
 * @since 0.1.0
 */
export const nameOf = (code: number): string | undefined => table[code]?.[0]

const detailOf = (fault: Soap.UpnpFault, asked: Asked): string => {
  const name = nameOf(fault.code)
  // Most routers repeat the name; a text of their own is worth showing beside it.
  const said = [name, fault.description === name ? "" : fault.description].filter((text) => text !== "").join(": ")
  return `${asked.action} was refused with error ${fault.code}${said === "" ? "" : ` ${said}`}`
}

/**
 * What a refusal means to a caller. Codes that no document names become `Unsupported`, with what the device said.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toNatError = (fault: Soap.UpnpFault, asked: Asked): NatError.NatError => {
  const reason = table[fault.code]?.[1] ?? unsupported
  return NatError.fromReason(reason(detailOf(fault, asked), asked))
}

/**
 * Whether a refusal means that there is no such mapping, now or any more.
 *
 * @category guards
 * @since 0.1.0
 */
export const isNoSuchEntry = (fault: Soap.UpnpFault): boolean =>
  fault.code === noSuchEntryInArray || fault.code === specifiedArrayIndexInvalid || fault.code === portMappingNotFound

/**
 * Whether a refusal of a limited lease may mean that only permanent ones are taken: 725, or 402, which some routers
 * send in its place.
 *
 * @category guards
 * @since 0.1.0
 */
export const mayWantPermanentLease = (fault: Soap.UpnpFault): boolean =>
  fault.code === 725 || fault.code === invalidArgs
