/**
 * One lease on an Internet Gateway Device, as the lease engine wants it.
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

const nothingThere: Effect.Effect<PortMappingEntry.PortMappingEntry | undefined> = Effect.undefined

/** The entry with a key; `undefined` where there is none or the router does not tell. */
const entryAt = (session: UpnpGateway.Usable, key: PortMappingEntry.Key) =>
  session.connection.getSpecificPortMappingEntry(key).pipe(
    Effect.catchTag("UpnpFault", () => nothingThere),
    // An entry without the fields it should have says nothing about who holds the port.
    Effect.catchReason("NatError", "MalformedAnswer", () => nothingThere)
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

/** Mapped already to where it is wanted: our own mapping of an earlier run, which is renewed rather than joined. */
const isSameService = (held: PortMappingEntry.PortMappingEntry, wanted: PortMappingEntry.PortMappingEntry): boolean => {
  if (held.internalPort !== wanted.internalPort) return false
  if (held.internalClient === wanted.internalClient) return true
  // Some routers list their clients by name; then only the description can tell.
  return !isAddress(held.internalClient) && hasDescription(held, wanted.description)
}

const hasDescription = (held: PortMappingEntry.PortMappingEntry, description: string): boolean =>
  held.description === WireText.oneLine(description, Math.max(description.length, 1))

/** Not every router refuses to give one host's port to another, so that is looked at first. */
const checkNotTaken = Effect.fnUntraced(function* (
  session: CurrentGateway.Session,
  entry: PortMappingEntry.PortMappingEntry
) {
  const held = yield* entryAt(session, entry)
  if (held === undefined) return
  if (isSameService(held, entry)) return
  return yield* conflict(entry.externalPort, `it is mapped to ${held.internalClient}:${held.internalPort}`)
})

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
type Attempted = Ref.Ref<Handle | undefined>

const requestOn = Effect.fnUntraced(function* (
  session: CurrentGateway.Session,
  request: MappingRequest.Resolved,
  attempted: Attempted
): Effect.fn.Return<Handle, NatError.NatError> {
  let externalPort = request.externalPort
  for (let others = 0; ; others++) {
    const wanted = yield* makeEntry(session, request, externalPort)
    const added = yield* checkNotTaken(session, wanted).pipe(
      Effect.andThen(Ref.set(attempted, { session, entry: wanted })),
      Effect.andThen(add(session, wanted)),
      Effect.result
    )
    if (Result.isSuccess(added)) return { session, entry: added.success }
    const next = others < maximumOtherPorts ? yield* otherPort(added.failure, request, externalPort) : undefined
    if (next === undefined)
      return yield* ActionFailure.toNatError(added.failure, { action: "AddPortMapping", externalPort })
    externalPort = next
  }
})

const isOurs = (held: PortMappingEntry.PortMappingEntry, ours: PortMappingEntry.PortMappingEntry): boolean =>
  isSameService(held, ours) && hasDescription(held, ours.description)

/** The protocol of one mapping. Each has its own, which knows what that mapping's requests attempted. */
export const make = Effect.fnUntraced(function* (current: CurrentGateway.CurrentGateway) {
  const attempted: Attempted = yield* Ref.make<Handle | undefined>(undefined)

  const leaseOf = Effect.fnUntraced(function* (handle: Handle) {
    const externalAddress = yield* handle.session.externalAddressNow
    const lease: Lease = { handle, mapping: toMapping(handle, externalAddress) }
    return lease
  })

  const addOn = (session: CurrentGateway.Session, resolved: MappingRequest.Resolved) =>
    Effect.flatMap(requestOn(session, resolved, attempted), leaseOf)

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
      yield* Effect.ignore(clearEntry(session, lease.handle.entry))
      return yield* addOn(session, resolved)
    }
    yield* Ref.set(attempted, { session, entry: wanted })
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

  const release = ({ handle: { entry, session } }: Lease) =>
    Effect.catchReason(clearEntry(session, entry), "NatError", "Unreachable", (_, error) =>
      // It may have restarted at another place; another router's mapping of this port is not ours to delete.
      current.use((now) => (UpnpGateway.isSameDevice(now, session) ? clearEntry(now, entry) : Effect.fail(error)))
    )

  const abandon = Effect.fnUntraced(function* () {
    const attempt = yield* Ref.get(attempted)
    if (attempt === undefined) return
    const held = yield* entryAt(attempt.session, attempt.entry)
    if (held !== undefined && isOurs(held, attempt.entry)) yield* clearEntry(attempt.session, attempt.entry)
  })

  const protocol: LeaseEngine.LeaseProtocol<Handle> = { request, renew, release, abandon }
  return protocol
})
