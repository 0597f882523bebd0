import * as Soap from "@effect-nat/upnp/Soap"
import * as UpnpErrorCode from "@effect-nat/upnp/UpnpErrorCode"
import { assert, describe, it } from "@effect/vitest"

const asked = { action: "AddPortMapping", externalPort: 12001 }

const read = (code: number, description: string, context: UpnpErrorCode.Asked) =>
  UpnpErrorCode.toNatError(new Soap.UpnpFault({ code, description }), context)

/** Every code of the documents, the action it answers, what it is called, and what it means to a caller. */
const expected = [
  [401, "AddPortMapping", "Invalid Action", "Unsupported"],
  [402, "AddPortMapping", "Invalid Args", "Unsupported"],
  [403, "AddPortMapping", "Out of Sync", "Unsupported"],
  [404, "AddPortMapping", "Invalid Var", "Unsupported"],
  [501, "AddPortMapping", "Action Failed", "OutOfResources"],
  [600, "AddPortMapping", "Argument Value Invalid", "Unsupported"],
  [601, "AddPortMapping", "Argument Value Out of Range", "Unsupported"],
  [602, "AddAnyPortMapping", "Optional Action Not Implemented", "Unsupported"],
  [603, "AddPortMapping", "Out of Memory", "OutOfResources"],
  [604, "AddPortMapping", "Human Intervention Required", "NotAuthorized"],
  [605, "AddPortMapping", "String Argument Too Long", "Unsupported"],
  [606, "AddPortMapping", "Action not authorized", "NotAuthorized"],
  [607, "AddPortMapping", "Signature failure", "NotAuthorized"],
  [608, "AddPortMapping", "Signature missing", "NotAuthorized"],
  [609, "AddPortMapping", "Not encrypted", "NotAuthorized"],
  [610, "AddPortMapping", "Invalid sequence", "NotAuthorized"],
  [611, "AddPortMapping", "Invalid control URL", "NotAuthorized"],
  [612, "AddPortMapping", "No such session", "NotAuthorized"],
  [701, "AddPortMapping", "ValueAlreadySpecified", "Unsupported"],
  [702, "AddPortMapping", "ValueSpecifiedIsInvalid", "Unsupported"],
  [703, "AddPortMapping", "InactiveConnectionStateRequired", "Unsupported"],
  [704, "AddPortMapping", "ConnectionSetupFailed", "OutOfResources"],
  [705, "AddPortMapping", "ConnectionSetupInProgress", "OutOfResources"],
  [706, "AddPortMapping", "ConnectionNotConfigured", "OutOfResources"],
  [707, "AddPortMapping", "DisconnectInProgress", "OutOfResources"],
  [708, "AddPortMapping", "InvalidLayer2Address", "OutOfResources"],
  [709, "AddPortMapping", "InternetAccessDisabled", "NotAuthorized"],
  [710, "AddPortMapping", "InvalidConnectionType", "Unsupported"],
  [711, "AddPortMapping", "ConnectionAlreadyTerminated", "OutOfResources"],
  [701, "AddPinhole", "PinholeSpaceExhausted", "OutOfResources"],
  [702, "AddPinhole", "FirewallDisabled", "Unsupported"],
  [703, "AddPinhole", "InboundPinholeNotAllowed", "NotAuthorized"],
  [704, "UpdatePinhole", "NoSuchEntry", "NoSuchMapping"],
  [705, "GetOutboundPinholeTimeout", "ProtocolNotSupported", "Unsupported"],
  [706, "AddPinhole", "InternalPortWildcardingNotAllowed", "Unsupported"],
  [707, "AddPinhole", "ProtocolWildcardingNotAllowed", "Unsupported"],
  [708, "AddPinhole", "WildCardNotPermittedInSrcIP", "Unsupported"],
  [709, "CheckPinholeWorking", "NoPacketSent", "Unsupported"],
  [712, "GetGenericPortMappingEntry", "NullValueAtSpecifiedArrayIndex", "NoSuchMapping"],
  [713, "GetGenericPortMappingEntry", "SpecifiedArrayIndexInvalid", "NoSuchMapping"],
  [714, "DeletePortMapping", "NoSuchEntryInArray", "NoSuchMapping"],
  [715, "AddPortMapping", "WildCardNotPermittedInSrcIP", "Unsupported"],
  [716, "AddPortMapping", "WildCardNotPermittedInExtPort", "Unsupported"],
  [718, "AddPortMapping", "ConflictInMappingEntry", "Conflict"],
  [719, "AddPortMapping", "ActionDisallowedWhenAutoConfigEnabled", "NotAuthorized"],
  [720, "GetDefaultConnectionService", "InvalidDeviceUUID", "Unsupported"],
  [721, "GetDefaultConnectionService", "InvalidServiceID", "Unsupported"],
  [723, "GetDefaultConnectionService", "InvalidConnServiceSelection", "Unsupported"],
  [724, "AddPortMapping", "SamePortValuesRequired", "Unsupported"],
  [725, "AddPortMapping", "OnlyPermanentLeasesSupported", "OnlyPermanentLeases"],
  [726, "AddPortMapping", "RemoteHostOnlySupportsWildcard", "Unsupported"],
  [727, "AddPortMapping", "ExternalPortOnlySupportsWildcard", "Unsupported"],
  [728, "AddAnyPortMapping", "NoPortMapsAvailable", "OutOfResources"],
  [729, "AddPortMapping", "ConflictWithOtherMechanisms", "Conflict"],
  [730, "GetListOfPortMappings", "PortMappingNotFound", "NoSuchMapping"],
  [731, "AddPortMapping", "ReadOnly", "NotAuthorized"],
  [732, "AddPortMapping", "WildCardNotPermittedInIntPort", "Unsupported"],
  [733, "DeletePortMappingRange", "InconsistentParameters", "InvalidRequest"]
] as const

describe("error codes [IP1 2.4.16-e, IP2 2.5.16-a, 2.5.17-c, FW1 2.6.3-b]", () => {
  it.each(expected)("%i of %s is %s: %s", (code, action, name, tag) => {
    assert.strictEqual(UpnpErrorCode.nameOf(code, action), name)
    const { message, reason } = read(code, "own words", { action, externalPort: 12001 })
    assert.strictEqual(reason._tag, tag)
    assert.include(message, `${action} was refused with error ${code} ${name}: own words`)
  })

  it("are all looked at here", () => {
    assert.deepStrictEqual(
      UpnpErrorCode.codes.map(({ code, name }) => [code, name]),
      expected.map(([code, , name]) => [code, name])
    )
  })

  it.each([
    [0, ""],
    [499, ""],
    [599, ""],
    [613, "(a common error): "],
    [699, "(a common error): "],
    [717, "(an error of this action): "],
    [799, "(an error of this action): "],
    [800, "(an error of the vendor's own): "],
    [899, "(an error of the vendor's own): "],
    [900, ""],
    [4_294_967_295, ""]
  ])("%i has no name of its own, and is said to be of its range: %j [UDA 3.2.5-b]", (code, range) => {
    assert.isUndefined(UpnpErrorCode.nameOf(code))
    const { message, reason } = read(code, "own words", asked)
    assert.strictEqual(reason._tag, "Unsupported")
    assert.include(message, `error ${code} ${range}own words`)
  })

  it("say the name once where the device repeats it", () => {
    assert.include(read(718, "ConflictInMappingEntry", asked).message, "error 718 ConflictInMappingEntry)")
  })

  it.each([501, 704, 705, 706, 707, 711])("%i to the question for the address is that there is none", (code) => {
    assert.strictEqual(read(code, "", { action: "GetExternalIPAddress" }).reason._tag, "NoExternalAddress")
  })

  it("a conflict carries the port, where there is one to speak of", () => {
    const { reason } = read(718, "", asked)
    assert.strictEqual(reason._tag === "Conflict" && reason.externalPort, 12001)
  })

  it.each([501, 704, 718, 729])("%i is about room for a mapping only where one was to be added", (code) => {
    const tagOf = (action: string) => read(code, "", { action }).reason._tag
    assert.strictEqual(tagOf("AddPortMapping"), "OutOfResources")
    assert.strictEqual(tagOf("AddAnyPortMapping"), "OutOfResources")
    assert.strictEqual(tagOf("DeletePortMapping"), "NotAuthorized")
    assert.strictEqual(tagOf("GetStatusInfo"), "Unsupported")
  })

  it("402 to a mapping is about its values", () => {
    assert.include(read(402, "", asked).message, "not supported: a mapping with these values (")
  })

  it.each([600, 601, 605, 733])("%i is about the values, and not about the action", (code) => {
    const { message, reason } = read(code, "", { action: "DeletePortMapping", externalPort: 12001 })
    assert.strictEqual(reason._tag, "InvalidRequest")
    assert.include(message, `DeletePortMapping was refused with error ${code}`)
    // Checked before it was sent: another strategy may take it, so it is no invalid request.
    const added = read(code, "", asked)
    assert.strictEqual(added.reason._tag, "Unsupported")
    assert.include(added.message, "not supported: a mapping with these values (AddPortMapping was refused")
  })

  it("724 names what the router cannot do", () => {
    assert.include(read(724, "", asked).message, "not supported: an external port other than the internal port (")
  })

  it.each<readonly [string, (fault: Soap.UpnpFault) => boolean, ReadonlyArray<number>]>([
    ["no such mapping", UpnpErrorCode.isNoSuchEntry, [713, 714, 730]],
    ["no such pinhole", UpnpErrorCode.isNoSuchPinhole, [704]],
    ["a wish for a permanent lease", UpnpErrorCode.mayWantPermanentLease, [402, 725]]
  ])("%s is told apart [IP1 2.4.15-a, IP2 2.5.19-a, 2.5.21-a, FW1 2.6.4-a, 2.6.5-a]", (_, is, those) => {
    const all = [...new Set(UpnpErrorCode.codes.map(({ code }) => code))]
    assert.deepStrictEqual(
      all.filter((code) => is(new Soap.UpnpFault({ code, description: "" }))),
      [...those]
    )
  })
})
