/**
 * One lease on an Internet Gateway Device, as the lease engine wants it.
 *
 * A router lets anybody overwrite and delete what others of the same host have mapped, and some let every host. So
 * nothing is overwritten or deleted before the router has shown what is there, and only an entry with our internal
 * client, our internal port and our description is ours. Some routers cut descriptions short or put their own in their
 * place: what a router shows just after our own request is ours as well. A router that cannot tell is believed to hold
 * what we last put there.
 */
import type * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as PortMappingEntry from "../PortMappingEntry.ts"
import * as UpnpErrorCode from "../UpnpErrorCode.ts"
import * as UpnpGateway from "../UpnpGateway.ts"
import type * as WanIpConnection from "../WanIpConnection.ts"
import * as ActionFailure from "./actionFailure.ts"
import type * as CurrentGateway from "./currentGateway.ts"
import * as WireText from "./wireText.ts"

/** What is needed to renew and to release: the router and the entry on it. */
export interface Handle {
  readonly session: CurrentGateway.Session
  readonly entry: PortMappingEntry.PortMappingEntry
}

type Lease = LeaseEngine.Lease<Handle>

/** WANIPConnection:2 takes at most a week, and takes 0 as just that. */
const longestLeaseOfVersion2 = 604_800

/** So long a request may still be on its way to the router after this host has given it up. */
const overtaking = Duration.seconds(1)

/** Another external port is tried this often where the wanted one is taken. */
const maximumOtherPorts = 4
const firstHighPort = 49_152
const lastHighPort = 65_535

/** Deletes an entry; fails with `NoSuchMapping` where it is not there. */
const deleteEntry = (session: UpnpGateway.Usable, key: PortMappingEntry.Key): Effect.Effect<void, NatError.NatError> =>
  session.connection
    .deletePortMapping(key)
    .pipe(
      Effect.catchTag("UpnpFault", (fault) =>
        UpnpErrorCode.toNatError(fault, { action: "DeletePortMapping", externalPort: key.externalPort })
      )
    )

/**
 * Deletes an entry that the router shows. Many routers confirm the deletion of what was never there, so they are asked
 * first; one that cannot tell is believed.
 */
export const removeEntry = (session: UpnpGateway.Usable, key: PortMappingEntry.Key) =>
  session.connection.getSpecificPortMappingEntry(key).pipe(
    Effect.catchTag("UpnpFault", (fault) =>
      UpnpErrorCode.isNoSuchEntry(fault)
        ? UpnpErrorCode.toNatError(fault, { action: "GetSpecificPortMappingEntry", externalPort: key.externalPort })
        : Effect.void
    ),
    Effect.catchReason("NatError", "MalformedAnswer", () => Effect.void),
    Effect.andThen(deleteEntry(session, key))
  )

/** Sees to it that an entry is not there. */
const clearEntry = (session: UpnpGateway.Usable, key: PortMappingEntry.Key) =>
  Effect.catchReason(deleteEntry(session, key), "NatError", "NoSuchMapping", () => Effect.void)

/** What a router says about a key. */
type Seen =
  | { readonly _tag: "Entry"; readonly entry: PortMappingEntry.PortMappingEntry }
  | { readonly _tag: "Nothing" }
  | { readonly _tag: "Untold"; readonly error: NatError.NatError }

const nothingSeen: Seen = { _tag: "Nothing" }

const untold = (error: NatError.NatError): Seen => ({ _tag: "Untold", error })

/** Asks for the entry with a key. A refusal other than "no such entry" is no answer to that. */
const look = (session: UpnpGateway.Usable, key: PortMappingEntry.Key) =>
  session.connection.getSpecificPortMappingEntry(key).pipe(
    Effect.map((entry): Seen => ({ _tag: "Entry", entry })),
    Effect.catchTag("UpnpFault", (fault) =>
      Effect.succeed(
        UpnpErrorCode.isNoSuchEntry(fault)
          ? nothingSeen
          : untold(
              UpnpErrorCode.toNatError(fault, {
                action: "GetSpecificPortMappingEntry",
                externalPort: key.externalPort
              })
            )
      )
    ),
    // An entry without the fields it should have says nothing about who holds the port.
    Effect.catchReason("NatError", "MalformedAnswer", (_, error) => Effect.succeed(untold(error)))
  )

const leaseSeconds = Effect.fnUntraced(function* (session: CurrentGateway.Session, lifetime: Duration.Duration) {
  if (yield* Ref.get(session.takesOnlyPermanentLeases)) return 0
  const longest = session.connection.wanService.version >= 2 ? longestLeaseOfVersion2 : undefined
  if (!Duration.isFinite(lifetime)) return longest ?? 0
  const seconds = Math.max(1, Math.ceil(Duration.toSeconds(lifetime)))
  return longest === undefined ? seconds : Math.min(seconds, longest)
})

const internalAddressOf = Effect.fnUntraced(function* (
  session: CurrentGateway.Session,
  request: MappingRequest.Resolved
) {
  const address = request.internalAddress ?? (yield* session.ownAddress)
  if (NetAddress.isIpv4Address(address)) return address
  return yield* NatError.fromReason(
    new NatError.InvalidRequest({
      detail: `a UPnP mapping needs an IPv4 internal address, not ${NetAddress.formatIp(address)}`
    })
  )
})

const makeEntry = Effect.fnUntraced(function* (
  session: CurrentGateway.Session,
  request: MappingRequest.Resolved,
  externalPort: number
) {
  const entry: PortMappingEntry.PortMappingEntry = {
    remoteHost: "",
    externalPort,
    protocol: PortMappingEntry.wireProtocol(request.protocol),
    internalPort: request.internalPort,
    internalClient: NetAddress.formatIp(yield* internalAddressOf(session, request)),
    enabled: true,
    description: request.description,
    leaseDuration: yield* leaseSeconds(session, request.lifetime)
  }
  return entry
})

const conflict = (externalPort: number, detail: string) =>
  NatError.fromReason(new NatError.Conflict({ externalPort, detail }))

const isAddress = (text: string): boolean => Result.isSuccess(NetAddress.ipFromString(text))

const oneLine = (description: string): string => WireText.oneLine(description, Math.max(description.length, 1))

/** What a router shows of our own entry, learnt just after it was added. */
interface Shown {
  /** The description that the router shows in place of ours; `undefined` where that is not known. */
  readonly description: string | undefined
  /** It showed nothing, so that "no such entry" from it says nothing. */
  readonly isHidden: boolean
}

const notShown: Shown = { description: undefined, isHidden: false }

const isForSameHost = (
  held: PortMappingEntry.PortMappingEntry,
  ours: PortMappingEntry.PortMappingEntry,
  // Some routers list their clients by name, which is none of ours and none of another's.
  mayHaveName: boolean
): boolean =>
  held.internalPort === ours.internalPort &&
  (held.internalClient === ours.internalClient || (mayHaveName && !isAddress(held.internalClient)))

/**
 * Our own entry, of this run or an earlier one, which is renewed rather than joined. Another program's entry for the
 * same service is not: that program deletes it when it likes, and we would delete it under that program.
 */
const isOurs = (
  held: PortMappingEntry.PortMappingEntry,
  ours: PortMappingEntry.PortMappingEntry,
  shown: Shown
): boolean =>
  isForSameHost(held, ours, true) &&
  (held.description === oneLine(ours.description) || held.description === shown.description)

const heldBy = (held: PortMappingEntry.PortMappingEntry): string => {
  const description = held.description === "" ? "" : ` as "${held.description}"`
  return `it is mapped to ${held.internalClient}:${held.internalPort}${description}`
}

/** Adds an entry, or renews it in place; the entry that the router took is the result. */
const add = Effect.fnUntraced(function* (
  session: CurrentGateway.Session,
  entry: PortMappingEntry.PortMappingEntry
): Effect.fn.Return<PortMappingEntry.PortMappingEntry, WanIpConnection.ActionError> {
  const added = yield* Effect.result(session.connection.addPortMapping(entry))
  if (Result.isSuccess(added)) return entry
  const error = added.failure
  if (error._tag !== "UpnpFault" || entry.leaseDuration === 0 || !UpnpErrorCode.mayWantPermanentLease(error)) {
    return yield* error
  }
  const permanent = { ...entry, leaseDuration: 0 }
  yield* session.connection.addPortMapping(permanent)
  yield* Ref.set(session.takesOnlyPermanentLeases, true)
  return permanent
})

const toMapping = (
  { entry, session }: Handle,
  externalAddress: NetAddress.IpAddress | undefined
): PortMapping.PortMapping =>
  new PortMapping.PortMapping({
    remoteHost: undefined,
    externalAddress,
    externalPort: entry.externalPort,
    protocol: entry.protocol === "TCP" ? "tcp" : "udp",
    internalPort: entry.internalPort,
    internalAddress: NetAddress.ipFromStringUnsafe(entry.internalClient),
    enabled: true,
    description: entry.description,
    lifetime: entry.leaseDuration === 0 ? Duration.infinity : Duration.seconds(entry.leaseDuration),
    gateway: session.gateway.address,
    method: "upnp",
    status: "mapped"
  })

/** The port to try after one that was refused; `undefined` where no other would be better. */
const otherPort = Effect.fnUntraced(function* (
  error: WanIpConnection.ActionError,
  request: MappingRequest.Resolved,
  refused: number
) {
  if (request.strictExternalPort) return undefined
  const asked = { action: "AddPortMapping", externalPort: refused }
  if (ActionFailure.toNatError(error, asked).reason._tag === "Conflict")
    return yield* Random.nextIntBetween(firstHighPort, lastHighPort)
  const wantsSamePort = error._tag === "UpnpFault" && error.code === UpnpErrorCode.samePortValuesRequired
  return wantsSamePort && refused !== request.internalPort ? request.internalPort : undefined
})

/** What a mapping's request last put on the wire: that is what may be left behind. */
interface Attempt extends Handle {
  /** Whether nothing of another's was there just before: then our client and internal port alone make it ours. */
  readonly wasFree: boolean
}

/** The protocol of one mapping. Each has its own, which knows what that mapping's requests attempted. */
export const make = Effect.fnUntraced(function* (current: CurrentGateway.CurrentGateway) {
  const attempted = yield* Ref.make<Attempt | undefined>(undefined)
  const shown = yield* Ref.make(notShown)

  const lookAt = Effect.fnUntraced(function* (session: UpnpGateway.Usable, key: PortMappingEntry.Key) {
    const seen = yield* look(session, key)
    if (seen._tag !== "Nothing" || !(yield* Ref.get(shown)).isHidden) return seen
    return untold(
      NatError.fromReason(new NatError.NoSuchMapping({ detail: "the router did not show our own mapping either" }))
    )
  })

  /** Not every router refuses to give away a port that is taken, so that is looked at before an entry is added. */
  const lookFor = Effect.fnUntraced(function* (
    session: CurrentGateway.Session,
    wanted: PortMappingEntry.PortMappingEntry
  ) {
    const seen = yield* lookAt(session, wanted)
    if (seen._tag !== "Entry" || isOurs(seen.entry, wanted, yield* Ref.get(shown))) return seen
    return yield* conflict(wanted.externalPort, heldBy(seen.entry))
  })

  /** The port may have been taken by another meanwhile; that entry stays, and ours counts as deleted. */
  const clearOurs = Effect.fnUntraced(function* (session: UpnpGateway.Usable, ours: PortMappingEntry.PortMappingEntry) {
    const seen = yield* lookAt(session, ours)
    if (seen._tag === "Nothing") return
    if (seen._tag === "Entry" && !isOurs(seen.entry, ours, yield* Ref.get(shown))) {
      return yield* Effect.logDebug(`external port ${ours.externalPort} is not deleted: ${heldBy(seen.entry)}`)
    }
    yield* clearEntry(session, ours)
  })

  /** Asked once: what the router shows now is what it will show when the mapping is to be renewed or deleted. */
  const learn = Effect.fnUntraced(function* ({ entry, session }: Handle, before: Seen) {
    const known = yield* Ref.get(shown)
    if (known.description !== undefined || known.isHidden) return
    const seen = before._tag === "Entry" ? before : yield* look(session, entry)
    if (seen._tag === "Nothing") yield* Ref.set(shown, { description: undefined, isHidden: true })
    if (seen._tag === "Entry" && isForSameHost(seen.entry, entry, true)) {
      yield* Ref.set(shown, { description: seen.entry.description, isHidden: false })
    }
  })

  const requestOn = Effect.fnUntraced(function* (
    session: CurrentGateway.Session,
    request: MappingRequest.Resolved
  ): Effect.fn.Return<Handle, NatError.NatError> {
    // What was seen before an earlier attempt may not be so any more.
    yield* Ref.update(attempted, (earlier) => earlier && { ...earlier, wasFree: false })
    let externalPort = request.externalPort
    for (let others = 0; ; others++) {
      const wanted = yield* makeEntry(session, request, externalPort)
      const added = yield* lookFor(session, wanted).pipe(
        Effect.tap((seen) => Ref.set(attempted, { session, entry: wanted, wasFree: seen._tag === "Nothing" })),
        Effect.flatMap((seen) =>
          Effect.tap(
            Effect.map(add(session, wanted), (entry): Handle => ({ session, entry })),
            // It is mapped: nothing that goes wrong here is a reason to fail.
            (handle) => Effect.ignore(learn(handle, seen))
          )
        ),
        Effect.result
      )
      if (Result.isSuccess(added)) return added.success
      const next = others < maximumOtherPorts ? yield* otherPort(added.failure, request, externalPort) : undefined
      if (next === undefined)
        return yield* ActionFailure.toNatError(added.failure, { action: "AddPortMapping", externalPort })
      externalPort = next
    }
  })

  const leaseOf = Effect.fnUntraced(function* (handle: Handle) {
    const externalAddress = yield* handle.session.externalAddressNow
    const lease: Lease = { handle, mapping: toMapping(handle, externalAddress) }
    return lease
  })

  const addOn = (session: CurrentGateway.Session, resolved: MappingRequest.Resolved) =>
    Effect.flatMap(requestOn(session, resolved), leaseOf)

  const request = (resolved: MappingRequest.Resolved) => current.use((session) => addOn(session, resolved))

  const renewOn = Effect.fnUntraced(function* (
    session: CurrentGateway.Session,
    lease: Lease,
    resolved: MappingRequest.Resolved
  ) {
    const { externalPort } = lease.handle.entry
    const wanted = yield* makeEntry(session, resolved, externalPort)
    if (wanted.internalClient !== lease.handle.entry.internalClient) {
      // This host has moved: packets to its old address help nobody. Some routers delete only their asker's mappings;
      // then the old one keeps its port until it runs out, and the new one gets another.
      yield* Effect.ignore(clearOurs(session, lease.handle.entry))
      return yield* addOn(session, resolved)
    }
    // What an earlier attempt left at this port is this lease, which its release deletes.
    yield* Ref.update(attempted, (earlier) => (earlier?.entry.externalPort === externalPort ? undefined : earlier))
    const seen = yield* lookFor(session, wanted).pipe(
      Effect.mapError((error) => ActionFailure.toNatError(error, { action: "AddPortMapping", externalPort }))
    )
    yield* Ref.set(attempted, { session, entry: wanted, wasFree: seen._tag !== "Entry" })
    const entry = yield* Effect.mapError(add(session, wanted), (error) =>
      ActionFailure.toNatError(error, { action: "AddPortMapping", externalPort })
    )
    return yield* leaseOf({ session, entry })
  })

  const renew = (lease: Lease, resolved: MappingRequest.Resolved) =>
    current.use((session) =>
      UpnpGateway.isSameDevice(session, lease.handle.session)
        ? renewOn(session, lease, resolved)
        : addOn(session, resolved)
    )

  /** What was asked for another host leads there, whatever this host's own address is. */
  const isStale = ({ handle }: Lease, { internalAddress }: MappingRequest.Resolved) =>
    internalAddress === undefined
      ? Effect.map(handle.session.ownAddress, (own) => NetAddress.formatIp(own) !== handle.entry.internalClient)
      : Effect.succeed(false)

  const release = ({ handle: { entry, session } }: Lease) =>
    Effect.catchReason(clearOurs(session, entry), "NatError", "Unreachable", (_, error) =>
      // It may have restarted at another place; another router's mapping of this port is not ours to delete.
      current.use((now) => (UpnpGateway.isSameDevice(now, session) ? clearOurs(now, entry) : Effect.fail(error)))
    )

  /** The request went out on another connection: a look that finds nothing may have overtaken it. */
  const lookAgain = Effect.fnUntraced(function* (
    session: UpnpGateway.Usable,
    entry: PortMappingEntry.PortMappingEntry
  ) {
    const seen = yield* lookAt(session, entry)
    if (seen._tag !== "Nothing") return seen
    yield* Effect.sleep(overtaking)
    return yield* lookAt(session, entry)
  })

  const abandon = Effect.fnUntraced(function* () {
    const attempt = yield* Ref.get(attempted)
    if (attempt === undefined) return
    const { entry, session, wasFree } = attempt
    const seen = yield* lookAgain(session, entry)
    if (seen._tag === "Nothing") return
    if (seen._tag === "Untold" && !wasFree) return yield* seen.error
    const isLeft =
      seen._tag === "Untold" ||
      isOurs(seen.entry, entry, yield* Ref.get(shown)) ||
      (wasFree && isForSameHost(seen.entry, entry, false))
    if (isLeft) yield* clearEntry(session, entry)
  })

  const protocol: LeaseEngine.LeaseProtocol<Handle> = { request, renew, isStale, release, abandon }
  return protocol
})
