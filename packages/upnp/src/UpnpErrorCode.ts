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
const cannot =
  (operation: string): Reason =>
  (detail) =>
    new NatError.Unsupported({ operation, detail })
const notAuthorized: Reason = (detail) => new NatError.NotAuthorized({ detail })
const noSuchMapping: Reason = (detail) => new NatError.NoSuchMapping({ detail })
const outOfResources: Reason = (detail) => new NatError.OutOfResources({ detail })
const permanentOnly: Reason = (detail) => new NatError.OnlyPermanentLeases({ detail })

const isAdding = ({ action }: Asked): boolean => action.startsWith("Add")

/**
 * "Action failed" says nothing; what it mostly means depends on the action. A line that is down means the same: there
 * is no address now, and no mapping can be made. What else was to be changed is refused; what else was asked cannot be
 * told.
 */
const failed: Reason = (detail, asked) => {
  if (asked.action === "GetExternalIPAddress") return new NatError.NoExternalAddress({ detail })
  if (isAdding(asked)) return outOfResources(detail, asked)
  return asked.action.startsWith("Get") ? unsupported(detail, asked) : notAuthorized(detail, asked)
}
const conflict: Reason = (detail, asked) =>
  asked.externalPort === undefined
    ? failed(detail, asked)
    : new NatError.Conflict({ externalPort: asked.externalPort, detail })

/**
 * What is to be mapped has been checked before it was sent: a router that does not take it has limits of its own, and
 * another way to map the same may be without them. Other requests are as wrong for every router.
 */
const invalid: Reason = (detail, asked) =>
  isAdding(asked) ? cannot("a mapping with these values")(detail, asked) : new NatError.InvalidRequest({ detail })

/** Sent for most that a router does not like, and for actions that it does not have all of. */
const invalidArguments: Reason = (detail, asked) =>
  isAdding(asked) ? invalid(detail, asked) : unsupported(detail, asked)

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

/** WANIPConnection:2 §2.5.19 and §2.5.21 have it in place of 714. */
const portMappingNotFound = 730

/** WANIPv6FirewallControl:1 §2.6.4: there is no such pinhole. */
const noSuchPinhole = 704

/**
 * Whose code it is: that of the device architecture or of several services, or that of the services that connect. The
 * IPv6 firewall has meanings of its own for numbers that the latter use as well.
 *
 * @category models
 * @since 0.1.0
 */
export type Origin = "common" | "connection" | "firewall"

/**
 * One code of the documents.
 *
 * @category models
 * @since 0.1.0
 */
export interface ErrorCode {
  readonly code: number
  /** The name that the documents give to it. */
  readonly name: string
  readonly origin: Origin
  /** What it means to a caller; `detail` is what the device said. */
  readonly reason: (detail: string, asked: Asked) => NatError.NatErrorReason
}

const of =
  (origin: Origin) =>
  (code: number, name: string, reason: Reason): ErrorCode => ({ code, name, origin, reason })
const common = of("common")
const connection = of("connection")
const firewall = of("firewall")

/**
 * Every code of the documents: UPnP Device Architecture 1.1 §3.2.5 (and 1.0, for 403 and 404), WANIPConnection:1 §2.4
 * and :2 §2.5, WANPPPConnection:1 §2.4, WANCommonInterfaceConfig:1 §2.4, Layer3Forwarding:1 §2.4,
 * WANIPv6FirewallControl:1 §2.6; 701, 702, 712 and 719 from services for configuration, whose numbers some routers use
 * everywhere.
 *
 * @category constants
 * @since 0.1.0
 */
export const codes: ReadonlyArray<ErrorCode> = [
  common(invalidAction, "Invalid Action", unsupported),
  common(invalidArgs, "Invalid Args", invalidArguments),
  common(403, "Out of Sync", unsupported),
  common(404, "Invalid Var", unsupported),
  common(actionFailed, "Action Failed", failed),
  common(600, "Argument Value Invalid", invalid),
  common(601, "Argument Value Out of Range", invalid),
  common(602, "Optional Action Not Implemented", unsupported),
  common(603, "Out of Memory", outOfResources),
  common(604, "Human Intervention Required", notAuthorized),
  common(605, "String Argument Too Long", invalid),
  common(actionNotAuthorized, "Action not authorized", notAuthorized),
  common(607, "Signature failure", notAuthorized),
  common(608, "Signature missing", notAuthorized),
  common(609, "Not encrypted", notAuthorized),
  common(610, "Invalid sequence", notAuthorized),
  common(611, "Invalid control URL", notAuthorized),
  common(612, "No such session", notAuthorized),
  connection(701, "ValueAlreadySpecified", unsupported),
  connection(702, "ValueSpecifiedIsInvalid", unsupported),
  connection(703, "InactiveConnectionStateRequired", unsupported),
  connection(704, "ConnectionSetupFailed", failed),
  connection(705, "ConnectionSetupInProgress", failed),
  connection(706, "ConnectionNotConfigured", failed),
  connection(707, "DisconnectInProgress", failed),
  connection(708, "InvalidLayer2Address", failed),
  connection(709, "InternetAccessDisabled", notAuthorized),
  connection(710, "InvalidConnectionType", unsupported),
  connection(711, "ConnectionAlreadyTerminated", failed),
  firewall(701, "PinholeSpaceExhausted", outOfResources),
  firewall(702, "FirewallDisabled", unsupported),
  firewall(703, "InboundPinholeNotAllowed", notAuthorized),
  firewall(noSuchPinhole, "NoSuchEntry", noSuchMapping),
  firewall(705, "ProtocolNotSupported", unsupported),
  firewall(706, "InternalPortWildcardingNotAllowed", unsupported),
  firewall(707, "ProtocolWildcardingNotAllowed", unsupported),
  firewall(708, "WildCardNotPermittedInSrcIP", unsupported),
  firewall(709, "NoPacketSent", cannot("to tell whether a pinhole works before a packet was sent through it")),
  common(712, "NullValueAtSpecifiedArrayIndex", noSuchMapping),
  common(specifiedArrayIndexInvalid, "SpecifiedArrayIndexInvalid", noSuchMapping),
  common(noSuchEntryInArray, "NoSuchEntryInArray", noSuchMapping),
  common(715, "WildCardNotPermittedInSrcIP", unsupported),
  common(716, "WildCardNotPermittedInExtPort", unsupported),
  common(718, "ConflictInMappingEntry", conflict),
  common(719, "ActionDisallowedWhenAutoConfigEnabled", notAuthorized),
  common(720, "InvalidDeviceUUID", unsupported),
  common(721, "InvalidServiceID", unsupported),
  common(723, "InvalidConnServiceSelection", unsupported),
  common(samePortValuesRequired, "SamePortValuesRequired", cannot("an external port other than the internal port")),
  common(725, "OnlyPermanentLeasesSupported", permanentOnly),
  common(726, "RemoteHostOnlySupportsWildcard", unsupported),
  common(727, "ExternalPortOnlySupportsWildcard", unsupported),
  common(728, "NoPortMapsAvailable", outOfResources),
  common(729, "ConflictWithOtherMechanisms", conflict),
  common(portMappingNotFound, "PortMappingNotFound", noSuchMapping),
  common(731, "ReadOnly", notAuthorized),
  common(732, "WildCardNotPermittedInIntPort", unsupported),
  common(733, "InconsistentParameters", invalid)
]

const isFirewallAction = /Pinhole|FirewallStatus$/i

const find = (code: number, action: string): ErrorCode | undefined => {
  const origin = isFirewallAction.test(action) ? "firewall" : "connection"
  return codes.find((one) => one.code === code && (one.origin === "common" || one.origin === origin))
}

/**
 * The name that the documents give to a code in the answer to an action, any of a connection service by default;
 * `undefined` for a code of the vendor's own.
 *
 * @category accessors
 * @since 0.1.0
 */
export const nameOf = (code: number, action = ""): string | undefined => find(code, action)?.name

/** What the ranges of codes are for (UPnP Device Architecture 1.1 §3.2.5). */
const rangeOf = (code: number): string => {
  if (code >= 600 && code <= 699) return "(a common error)"
  if (code >= 700 && code <= 799) return "(an error of this action)"
  return code >= 800 && code <= 899 ? "(an error of the vendor's own)" : ""
}

const detailOf = (fault: Soap.UpnpFault, asked: Asked): string => {
  const name = nameOf(fault.code, asked.action) ?? rangeOf(fault.code)
  // Most routers repeat the name; a text of their own is worth showing beside it.
  const said = [name, fault.description === name ? "" : fault.description].filter((text) => text !== "").join(": ")
  return `${asked.action} was refused with error ${fault.code}${said === "" ? "" : ` ${said}`}`
}

/**
 * What a refusal means to a caller. Codes that no document names become `Unsupported`, with what
 * their range is for and what the device said.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toNatError = (fault: Soap.UpnpFault, asked: Asked): NatError.NatError => {
  const reason = find(fault.code, asked.action)?.reason ?? unsupported
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
 * Whether a refusal by an IPv6 firewall means that there is no such pinhole, now or any more.
 *
 * @category guards
 * @since 0.1.0
 */
export const isNoSuchPinhole = (fault: Soap.UpnpFault): boolean => fault.code === noSuchPinhole

/**
 * Whether a refusal of a limited lease may mean that only permanent ones are taken: 725, or 402, which some routers
 * send in its place.
 *
 * @category guards
 * @since 0.1.0
 */
export const mayWantPermanentLease = (fault: Soap.UpnpFault): boolean =>
  fault.code === 725 || fault.code === invalidArgs
