/**
 * One lease on an Internet Gateway Device, as the lease engine wants it.
 *
 * A router lets anybody overwrite and delete what others of the same host have mapped, and some let every host. So
 * nothing is renewed or deleted before the router has shown what is there, and only an entry with our internal client,
 * our internal port and our description is ours. The same holds before an entry is added whose external port is not its
 * internal port, and before any that is asked for once a mapping was held. The very first request, where both ports are
 * the same, saves that exchange: another host's entry is kept by the router's own refusal, but one of this host that
 * leads to another internal port is replaced where the router allows it.
 *
 * Some routers cut descriptions short or put their own in their place: what a router shows just after our own request
 * is ours as well. A router that cannot tell is believed to hold what we last put there.
 *
 * What the router shows of our own entry is learnt after the mapping has been handed out: nobody waits for it.
 */
import * as DoubleNat from "@effect-nat/core/DoubleNat"
import type * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as PortMappingEntry from "../PortMappingEntry.ts"
import type * as Soap from "../Soap.ts"
import * as UpnpErrorCode from "../UpnpErrorCode.ts"
import * as UpnpGateway from "../UpnpGateway.ts"
import type * as WanIpConnection from "../WanIpConnection.ts"
import * as ActionFailure from "./actionFailure.ts"
import * as CurrentGateway from "./currentGateway.ts"
import * as WireText from "./wireText.ts"

/** What is needed to renew and to release: the router and the entry on it. */
export interface Handle {
  readonly session: CurrentGateway.Session
  readonly entry: PortMappingEntry.PortMappingEntry
}

type Lease = LeaseEngine.Lease<Handle>

/** The protocol's name in mappings. */
const method = "upnp"

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

const leaseSeconds = (session: CurrentGateway.Session, lifetime: Duration.Duration): number => {
  if (session.habits.takesOnlyPermanentLeases) return 0
  const longest = session.connection.wanService.version >= 2 ? longestLeaseOfVersion2 : undefined
  if (!Duration.isFinite(lifetime)) return longest ?? 0
  const seconds = Math.max(1, Math.ceil(Duration.toSeconds(lifetime)))
  return longest === undefined ? seconds : Math.min(seconds, longest)
}

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
    leaseDuration: leaseSeconds(session, request.lifetime)
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
  /** Whether it has been asked. */
  readonly isLearnt: boolean
}

const notShown: Shown = { description: undefined, isHidden: false, isLearnt: false }

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

const argumentValueOutOfRange = 601
const invalidArgs = 402

/** The lease to ask for in place of one that was refused; `undefined` where the refusal is about something else. */
const otherLease = (fault: Soap.UpnpFault, refused: number): number | undefined => {
  if (refused !== 0 && UpnpErrorCode.mayWantPermanentLease(fault)) return 0
  const isExtreme = refused === 0 || refused > longestLeaseOfVersion2
  const mayWantShorter = fault.code === argumentValueOutOfRange || fault.code === invalidArgs
  return isExtreme && mayWantShorter ? longestLeaseOfVersion2 : undefined
}

const withLease = (entry: PortMappingEntry.PortMappingEntry, leaseDuration: number) => ({ ...entry, leaseDuration })

interface Adding {
  readonly session: CurrentGateway.Session
  readonly entry: PortMappingEntry.PortMappingEntry
  /** The refusal of this entry, where it has been asked for already. */
  readonly refused?: Soap.UpnpFault | undefined
  /** The entry to ask for in place of a permanent one; see `earlierEntry`. */
  readonly instead: (
    permanent: PortMappingEntry.PortMappingEntry
  ) => Effect.Effect<PortMappingEntry.PortMappingEntry, NatError.NatError>
}

/** Adds an entry, or renews it in place, with the lease that the router takes; what it took is the result. */
const add = Effect.fnUntraced(function* ({
  entry,
  instead,
  refused,
  session
}: Adding): Effect.fn.Return<PortMappingEntry.PortMappingEntry, WanIpConnection.ActionError> {
  const tried = new Set([entry.leaseDuration])
  let wanted = entry
  let fault = refused
  while (true) {
    if (fault !== undefined) {
      const leaseDuration = otherLease(fault, wanted.leaseDuration)
      if (leaseDuration === undefined || tried.has(leaseDuration)) return yield* fault
      tried.add(leaseDuration)
      wanted = withLease(wanted, leaseDuration)
    }
    if (wanted.leaseDuration === 0) wanted = yield* instead(wanted)
    const added = yield* Effect.result(session.connection.addPortMapping(wanted))
    if (Result.isSuccess(added)) break
    if (added.failure._tag !== "UpnpFault") return yield* added.failure
    fault = added.failure
  }
  if (wanted.leaseDuration === 0 && entry.leaseDuration !== 0) session.habits.takesOnlyPermanentLeases = true
  return wanted
})

const asItIs = (entry: PortMappingEntry.PortMappingEntry) => Effect.succeed(entry)

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
    method,
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

/** For an explanation only: it is no news to those that hold mappings. */
const askAddress = ({ connection }: CurrentGateway.Session) =>
  Effect.mapError(connection.getExternalIpAddress, (error) =>
    ActionFailure.toNatError(error, { action: "GetExternalIPAddress" })
  )

/** What a mapping's request last put on the wire: that is what may be left behind. */
interface Attempt extends Handle {
  /** Whether the router said that nothing was there just before: what is there now without being shown is ours. */
  readonly wasFree: boolean
  /** Whether our client and internal port alone make what is there ours, whatever it is called. */
  readonly isOursByHost: boolean
}

/** So many entries of a router's list are read to find our own, and so long: each may be a call. */
const maximumListed = 512
const longestListing = Duration.seconds(10)

/** Not another port of this host, on which another program may have a mapping: UPnP knows no programs. */
const isOverlooked = (request: MappingRequest.Resolved, externalPort: number): boolean =>
  externalPort === request.internalPort && request.internalAddress === undefined

/** One with another host's name in place of an address is nothing that could be recognised. */
const ledgerEntry = ({ entry, session }: Handle, shown: Shown): Option.Option<Ledger.Entry> =>
  Option.map(
    Result.getSuccess(NetAddress.ipFromString(entry.internalClient)),
    (internalAddress) =>
      new Ledger.Entry({
        method,
        gateway: CurrentGateway.deviceOf(session.gateway),
        key: `${entry.protocol} ${entry.externalPort}`,
        protocol: entry.protocol === "TCP" ? "tcp" : "udp",
        internalAddress,
        internalPort: entry.internalPort,
        externalPort: entry.externalPort,
        // What the router shows is what it will be recognised by.
        description: shown.description ?? oneLine(entry.description),
        nonce: undefined
      })
  )

const isStillThere = (held: PortMappingEntry.PortMappingEntry, noted: Ledger.Entry): boolean =>
  held.internalPort === noted.internalPort &&
  held.internalClient === NetAddress.formatIp(noted.internalAddress) &&
  held.description === noted.description

const elsewhere = (noted: Ledger.Entry) =>
  NatError.fromReason(new NatError.NoGateway({ detail: `${noted.gateway} is not the gateway in use` }))

const notOurAddress = ({ gateway, internalAddress }: Ledger.Entry) =>
  NatError.fromReason(
    new NatError.Unreachable({
      detail: `only ${NetAddress.formatIp(internalAddress)} can delete its mappings on ${gateway}`
    })
  )

/** The protocol of one mapping, in whose scope it learns. Each has its own, which knows what the mapping attempted. */
export const make = Effect.fnUntraced(function* (current: CurrentGateway.CurrentGateway) {
  const scope = yield* Effect.scope
  const attempted = yield* Ref.make<Attempt | undefined>(undefined)
  const shown = yield* Ref.make(notShown)
  const learning = yield* Ref.make<Fiber.Fiber<void> | undefined>(undefined)
  const hasHeld = yield* Ref.make(false)
  const releasing = yield* Deferred.make<void>()
  const registration = yield* current.register
  const page = yield* current.ledger.open

  const note = (handle: Handle) =>
    Effect.flatMap(Ref.get(shown), (known) =>
      Option.match(ledgerEntry(handle, known), { onNone: () => Effect.void, onSome: page.note })
    )

  /** What is about to be asked for. */
  const attempt = (next: Attempt) => Effect.andThen(Ref.set(attempted, next), note(next))

  /** What is there once a mapping was held may be there in its place: it was lost to another program, say. */
  const mayOverlook = (request: MappingRequest.Resolved, externalPort: number) =>
    Effect.map(Ref.get(hasHeld), (held) => !held && isOverlooked(request, externalPort))

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

  // ---------------------------------------------------------------------------
  // What the router shows of our own entry
  // ---------------------------------------------------------------------------

  const learnFrom = (seen: Seen, entry: PortMappingEntry.PortMappingEntry) =>
    seen._tag === "Entry" && isForSameHost(seen.entry, entry, true)
      ? Ref.set(shown, { description: seen.entry.description, isHidden: false, isLearnt: true })
      : Ref.update(shown, (known) => ({ ...known, isHidden: seen._tag === "Nothing", isLearnt: true }))

  /** What the router shows just after it was added is what it will show when it is to be renewed or deleted. */
  const learn = Effect.fnUntraced(function* ({ entry, session }: Handle) {
    const seen = yield* look(session, entry)
    yield* learnFrom(seen, entry)
    yield* note({ entry, session })
    return seen
  })

  /** With the router's turn held, so that no other call comes between. */
  const inTurn = <A, E, R>({ connection }: UpnpGateway.Usable, effect: Effect.Effect<A, E, R>) =>
    current.client.exclusively(connection.wanService.service, effect)

  // Given up on its way it would still arrive, and after the deletion that it was given up for.
  const addWhole = (session: CurrentGateway.Session, entry: PortMappingEntry.PortMappingEntry) =>
    inTurn(session, Effect.uninterruptible(session.connection.addPortMapping(entry)))

  const seenAfter = Effect.fnUntraced(function* (
    { session }: Handle,
    entry: PortMappingEntry.PortMappingEntry
  ): Effect.fn.Return<Seen, WanIpConnection.ActionError> {
    yield* addWhole(session, entry)
    return yield* learn({ session, entry })
  })

  /**
   * A router that does not show what it has just confirmed hides everything, or forgets limited leases at once. What it
   * does with one that has no end tells. Asked once of each router: one that hides is left alone. A call that is not
   * answered tells nothing, and may have left the entry without an end.
   */
  const findOutWhyHidden = Effect.fnUntraced(function* (handle: Handle) {
    const { entry, session } = handle
    const { habits } = session
    if (entry.leaseDuration === 0 || habits.hidesMappings || habits.takesOnlyPermanentLeases) return
    // A restart in between, or another's deletion, is not the lease's fault.
    if ((yield* seenAfter(handle, entry))._tag !== "Nothing") return
    const permanent = yield* Effect.result(seenAfter(handle, { ...entry, leaseDuration: 0 }))
    if (Result.isSuccess(permanent) && permanent.success._tag === "Entry") {
      habits.takesOnlyPermanentLeases = true
      yield* Effect.logDebug(`${session.gateway.name} forgets limited leases: permanent ones are used from now on`)
      return yield* registration.wake
    }
    const isRefused = Result.isFailure(permanent) && permanent.failure._tag === "UpnpFault"
    const isNotThere = Result.isSuccess(permanent) && permanent.success._tag === "Nothing"
    if (isRefused || isNotThere) habits.hidesMappings = true
    if (!isRefused) yield* addWhole(session, entry)
  })

  const study = (handle: Handle) =>
    Effect.gen(function* () {
      if ((yield* learn(handle))._tag === "Nothing") yield* findOutWhyHidden(handle)
    }).pipe(
      // It is mapped: nothing that goes wrong here is a reason to say anything.
      Effect.catch((error) => Effect.logDebug(`the router does not show how it keeps a mapping: ${error.message}`))
    )

  const studyLater = Effect.fnUntraced(function* (handle: Handle) {
    if ((yield* Ref.get(shown)).isLearnt) return
    yield* Ref.set(learning, yield* Effect.forkIn(study(handle), scope))
  })

  /** Nothing is renewed or deleted before it is known how the router shows it; that is asked now or never. */
  const endStudy = Effect.fnUntraced(function* (handle: Handle) {
    const fiber = yield* Ref.getAndSet(learning, undefined)
    if (fiber === undefined) return
    yield* Fiber.interrupt(fiber)
    if (!(yield* Ref.get(shown)).isLearnt) yield* Effect.ignore(learn(handle))
  })

  // ---------------------------------------------------------------------------
  // Asking for a mapping
  // ---------------------------------------------------------------------------

  /** Our own entries on the router, as far as it lists them, that no mapping of this program holds. */
  const leftOvers = (session: CurrentGateway.Session, like: PortMappingEntry.PortMappingEntry) =>
    Effect.gen(function* () {
      const known = yield* Ref.get(shown)
      return yield* session.connection.portMappings.pipe(
        Stream.take(maximumListed),
        Stream.interruptWhen(Effect.sleep(longestListing)),
        Stream.filter(
          (held) =>
            held.protocol === like.protocol &&
            isOurs(held, like, known) &&
            isForSameHost(held, like, false) &&
            !current.isHeld(session, held)
        ),
        Stream.runCollect
      )
    }).pipe(Effect.orElseSucceed((): Array<PortMappingEntry.PortMappingEntry> => []))

  /** Entries without an end pile up: one that an earlier run left at another port is used again. */
  const earlierEntry =
    (session: CurrentGateway.Session, request: MappingRequest.Resolved) =>
    (permanent: PortMappingEntry.PortMappingEntry) =>
      Effect.gen(function* () {
        // A port that peers may know already is not changed for another.
        if (request.strictExternalPort || (yield* Ref.get(hasHeld))) return permanent
        const ours = yield* leftOvers(session, permanent)
        if (ours.length === 0 || ours.some((one) => one.externalPort === permanent.externalPort)) return permanent
        const externalPort = ours[0]?.externalPort ?? permanent.externalPort
        yield* Effect.logDebug(`external port ${externalPort} is ours from an earlier run: it is used again`)
        const entry = { ...permanent, externalPort }
        yield* attempt({ session, entry, wasFree: false, isOursByHost: false })
        return entry
      })

  const addAfter = Effect.fnUntraced(function* (
    seen: Seen,
    session: CurrentGateway.Session,
    request: MappingRequest.Resolved,
    wanted: PortMappingEntry.PortMappingEntry,
    refused?: Soap.UpnpFault
  ): Effect.fn.Return<Handle, WanIpConnection.ActionError> {
    const isFree = seen._tag === "Nothing"
    yield* attempt({ session, entry: wanted, wasFree: isFree, isOursByHost: isFree })
    const instead = seen._tag === "Entry" ? asItIs : earlierEntry(session, request)
    const entry = yield* add({ session, entry: wanted, refused, instead })
    if (seen._tag === "Entry") {
      yield* learnFrom(seen, entry)
      yield* note({ entry, session })
      // One without an end, as an earlier run may have left it, says nothing about limited leases: that is studied.
      const isOther = seen.entry.leaseDuration === 0 && entry.leaseDuration !== 0
      if (isOther) yield* Ref.update(shown, (known) => ({ ...known, isLearnt: false }))
    }
    return { session, entry }
  })

  const addSeen = (
    session: CurrentGateway.Session,
    request: MappingRequest.Resolved,
    wanted: PortMappingEntry.PortMappingEntry,
    refused?: Soap.UpnpFault
  ): Effect.Effect<Handle, WanIpConnection.ActionError> =>
    Effect.flatMap(lookFor(session, wanted), (seen) => addAfter(seen, session, request, wanted, refused))

  /**
   * One call, without a look: what another host has is refused, and what this host has there is a mapping of an
   * earlier run, as nobody else can serve this internal port. The slow way is taken after any refusal.
   */
  const addUnseen = Effect.fnUntraced(function* (
    session: CurrentGateway.Session,
    request: MappingRequest.Resolved,
    wanted: PortMappingEntry.PortMappingEntry
  ): Effect.fn.Return<Handle, WanIpConnection.ActionError> {
    yield* attempt({ session, entry: wanted, wasFree: false, isOursByHost: true })
    const added = yield* Effect.result(session.connection.addPortMapping(wanted))
    if (Result.isSuccess(added)) return { session, entry: wanted }
    if (added.failure._tag !== "UpnpFault") return yield* added.failure
    return yield* addSeen(session, request, wanted, added.failure)
  })

  const addKnown = Effect.fnUntraced(function* (
    session: CurrentGateway.Session,
    request: MappingRequest.Resolved,
    wanted: PortMappingEntry.PortMappingEntry
  ) {
    return wanted.leaseDuration !== 0 && (yield* mayOverlook(request, wanted.externalPort))
      ? yield* addUnseen(session, request, wanted)
      : yield* addSeen(session, request, wanted)
  })

  const requestOn = Effect.fnUntraced(function* (
    session: CurrentGateway.Session,
    request: MappingRequest.Resolved
  ): Effect.fn.Return<Handle, NatError.NatError> {
    // What was seen before an earlier attempt may not be so any more.
    yield* Ref.update(attempted, (earlier) => earlier && { ...earlier, wasFree: false, isOursByHost: false })
    let externalPort = request.externalPort
    for (let others = 0; ; others++) {
      const wanted = yield* makeEntry(session, request, externalPort)
      const added = yield* Effect.result((others === 0 ? addKnown : addSeen)(session, request, wanted))
      if (Result.isSuccess(added)) return added.success
      const next = others < maximumOtherPorts ? yield* otherPort(added.failure, request, externalPort) : undefined
      if (next === undefined)
        return yield* ActionFailure.toNatError(added.failure, { action: "AddPortMapping", externalPort })
      externalPort = next
    }
  })

  const leaseOf = Effect.fnUntraced(function* (handle: Handle) {
    yield* registration.hold(handle)
    yield* Ref.set(hasHeld, true)
    const externalAddress = yield* handle.session.externalAddressNow
    yield* registration.follow(handle.session, externalAddress)
    const lease: Lease = { handle, mapping: toMapping(handle, externalAddress) }
    return lease
  })

  /** What a router showed says nothing about another one. */
  const forgetOthers = Effect.fnUntraced(function* (session: CurrentGateway.Session) {
    const earlier = yield* Ref.get(attempted)
    if (earlier !== undefined && !UpnpGateway.isSameDevice(earlier.session, session)) yield* Ref.set(shown, notShown)
  })

  const addOn = Effect.fnUntraced(function* (
    session: CurrentGateway.Session,
    resolved: MappingRequest.Resolved
  ): Effect.fn.Return<Lease, NatError.NatError> {
    yield* forgetOthers(session)
    const granted = yield* requestOn(session, resolved).pipe(
      Effect.catchReason("NatError", "OutOfResources", (_, error) =>
        DoubleNat.explainRefusal(error, session.gateway.name, askAddress(session))
      )
    )
    const lease = yield* leaseOf(granted)
    yield* studyLater(lease.handle)
    return lease
  })

  const request = (resolved: MappingRequest.Resolved) =>
    Effect.andThen(
      registration.begin,
      current.use((session) => addOn(session, resolved))
    )

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
      yield* Effect.ignore(Effect.andThen(clearOurs(session, lease.handle.entry), page.strike))
      return yield* addOn(session, resolved)
    }
    // What an earlier attempt left at this port is this lease, which its release deletes.
    yield* Ref.update(attempted, (earlier) => (earlier?.entry.externalPort === externalPort ? undefined : earlier))
    const seen = yield* lookFor(session, wanted).pipe(
      Effect.mapError((error) => ActionFailure.toNatError(error, { action: "AddPortMapping", externalPort }))
    )
    const isFree = seen._tag !== "Entry"
    if (seen._tag === "Nothing") yield* current.hasForgotten(session)
    yield* attempt({ session, entry: wanted, wasFree: isFree, isOursByHost: isFree })
    const entry = yield* Effect.mapError(add({ session, entry: wanted, instead: asItIs }), (error) =>
      ActionFailure.toNatError(error, { action: "AddPortMapping", externalPort })
    )
    const renewed = yield* leaseOf({ session, entry })
    // Gone before its time: the router has restarted, or forgets limited leases, which shows if it is gone again.
    const isGone = seen._tag === "Nothing" || (yield* Ref.get(shown)).isHidden
    if (isGone && !session.habits.hidesMappings) yield* Ref.update(shown, (known) => ({ ...known, isLearnt: false }))
    yield* studyLater(renewed.handle)
    return renewed
  })

  const renew = (lease: Lease, resolved: MappingRequest.Resolved) =>
    Effect.andThen(
      Effect.andThen(registration.begin, endStudy(lease.handle)),
      current.use((session) =>
        UpnpGateway.isSameDevice(session, lease.handle.session)
          ? renewOn(session, lease, resolved)
          : addOn(session, resolved)
      )
    )

  /** What was asked for another host leads there, whatever this host's own address is. */
  const isStale = ({ handle, mapping }: Lease, { internalAddress }: MappingRequest.Resolved) =>
    internalAddress === undefined
      ? Effect.map(handle.session.isOwn(mapping.internalAddress), (is) => !is)
      : Effect.succeed(false)

  /** Many are deleted at once where a program ends: each is looked at and deleted before the next is looked at. */
  const clearInTurn = (handle: Handle) =>
    inTurn(
      handle.session,
      Deferred.succeed(releasing, undefined).pipe(
        Effect.andThen(
          handle.session.unlessSilent(Effect.andThen(endStudy(handle), clearOurs(handle.session, handle.entry)))
        )
      )
    )

  const releaseNow = ({ handle }: Lease) =>
    Effect.catchReason(clearInTurn(handle), "NatError", "Unreachable", (_, error) =>
      // It may have restarted at another place; another router's mapping of this port is not ours to delete.
      current.use((now) =>
        UpnpGateway.isSameDevice(now, handle.session) ? clearOurs(now, handle.entry) : Effect.fail(error)
      )
    )

  const release = (lease: Lease) => Effect.ensuring(releaseNow(lease), registration.letGo)

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
    yield* registration.letGo
    const attempt = yield* Ref.get(attempted)
    if (attempt === undefined) return
    const { entry, isOursByHost, session, wasFree } = attempt
    const seen = yield* lookAgain(session, entry)
    const isHere =
      seen._tag === "Entry" &&
      (isOurs(seen.entry, entry, yield* Ref.get(shown)) || (isOursByHost && isForSameHost(seen.entry, entry, false)))
    if (isHere || (seen._tag === "Untold" && wasFree)) return yield* clearEntry(session, entry)
    if (seen._tag === "Untold") return yield* seen.error
  })

  /** Some routers delete what leads to an address for that address only: it waits until this host has it again. */
  const clearNoted = (session: CurrentGateway.Session, key: PortMappingEntry.Key, noted: Ledger.Entry) =>
    Effect.catchReason(clearEntry(session, key), "NatError", "NotAuthorized", (_, error) =>
      Effect.flatMap(session.isOwn(noted.internalAddress), (isOwn) => (isOwn ? error : notOurAddress(noted)))
    )

  /** Only what the router shows to be just that: a port may be another's by now, and whoever asks may be this host. */
  const discard = (noted: Ledger.Entry) =>
    current.use((session) =>
      Effect.gen(function* () {
        if (CurrentGateway.deviceOf(session.gateway) !== noted.gateway) return yield* elsewhere(noted)
        const { externalPort } = noted
        const key = { remoteHost: "", externalPort, protocol: PortMappingEntry.wireProtocol(noted.protocol) }
        const clear = Effect.flatMap(lookAt(session, key), (seen) =>
          seen._tag === "Entry" && isStillThere(seen.entry, noted) ? clearNoted(session, key, noted) : Effect.void
        )
        yield* inTurn(session, clear)
      })
    )

  const protocol: LeaseEngine.LeaseProtocol<Handle> = {
    page,
    discard,
    request,
    renew,
    isStale,
    whenChanged: () => registration.whenWoken,
    network: current.network,
    whenReleasing: Deferred.await(releasing),
    release,
    letGo: registration.letGo,
    abandon
  }
  return protocol
})
