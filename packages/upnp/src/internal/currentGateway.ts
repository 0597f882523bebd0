/**
 * The gateway in use: found once, shared by everybody, given up when it is no longer where it was.
 */
import * as DoubleNat from "@effect-nat/core/DoubleNat"
import * as Gateway from "@effect-nat/core/Gateway"
import * as Ledger from "@effect-nat/core/Ledger"
import * as Monotonic from "@effect-nat/core/Monotonic"
import type * as NatError from "@effect-nat/core/NatError"
import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import * as RestartLimit from "@effect-nat/core/RestartLimit"
import * as SilenceLimit from "@effect-nat/core/SilenceLimit"
import * as Udp from "@effect-nat/core/Udp"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as SynchronizedRef from "effect/SynchronizedRef"
import type * as PortMappingEntry from "../PortMappingEntry.ts"
import * as SoapClient from "../SoapClient.ts"
import type * as UpnpDiscovery from "../UpnpDiscovery.ts"
import type * as UpnpGateway from "../UpnpGateway.ts"
import * as ActionFailure from "./actionFailure.ts"
import * as GatewayWatch from "./gatewayWatch.ts"
import * as UpnpProbe from "./upnpProbe.ts"

/** What has been learnt about a device: it outlasts a restart. */
export interface Habits {
  /** It refuses limited leases, or forgets them at once. */
  takesOnlyPermanentLeases: boolean
  /** It shows no mapping to whoever asks for one, not even our own. */
  hidesMappings: boolean
}

/** A gateway in use, and what has been learnt about it. */
export interface Session extends UpnpGateway.Usable {
  readonly habits: Habits
  /** The address that the gateway reports, asked for where it is not known from just now. */
  readonly askExternalAddress: Effect.Effect<NetAddress.IpAddress | undefined, NatError.NatError>
  /** The same where it must spoil nothing: what cannot be asked for now is what was known last. */
  readonly externalAddressNow: Effect.Effect<NetAddress.IpAddress | undefined>
  /** Asks for the address that the gateway reports, however well it is known. */
  readonly askAgain: Effect.Effect<NetAddress.IpAddress | undefined, NatError.NatError>
  /** Takes note of an address that the gateway has reported without being asked. */
  readonly report: (address: NetAddress.IpAddress | undefined) => Effect.Effect<void>
  /** For the deletions of released mappings, so that a router that is gone is not waited for once for each. */
  readonly unlessSilent: SilenceLimit.SilenceLimit
  /** This host's own address towards the gateway as it is now: it may have changed since the gateway was found. */
  readonly ownAddress: Effect.Effect<NetAddress.IpAddress>
  /** Whether packets from the gateway to this address arrive here; without a way to the gateway, whether this host has it. */
  readonly isOwn: (address: NetAddress.IpAddress) => Effect.Effect<boolean>
}

/** What one mapping tells about itself, and how it is told that something has changed. */
export interface Registration {
  /** It is about to be renewed: what woke it until now is done with. */
  readonly begin: Effect.Effect<void>
  /** It holds an entry, in place of the one before: from now on it is not used for another mapping. */
  readonly hold: (held: {
    readonly session: Session
    readonly entry: PortMappingEntry.PortMappingEntry
  }) => Effect.Effect<void>
  /**
   * Its holder has been told this external address, and is to hear of another one. Those that have been told another
   * one are woken, and the gateway is watched while any mapping is held.
   */
  readonly follow: (session: Session, told: NetAddress.IpAddress | undefined) => Effect.Effect<void>
  /** The gateway is watched while any mapping is held, but its external IPv4 address does not matter to this one. */
  readonly followRestarts: (session: Session) => Effect.Effect<void>
  /** It holds a pinhole for this flow, in place of what it held before. */
  readonly holdFlow: (session: Session, flow: string) => Effect.Effect<void>
  /** It holds nothing any more. */
  readonly letGo: Effect.Effect<void>
  /** Says to this mapping that it is to be renewed at once. */
  readonly wake: Effect.Effect<void>
  /** Completes when that has been said since it was asked last. */
  readonly whenWoken: Effect.Effect<void>
}

export interface CurrentGateway {
  /** Whoever calls the same router shares it. */
  readonly client: SoapClient.SoapClient
  readonly ledger: Ledger.Service
  readonly network: NetworkWatch.Service
  /** For one mapping, until the scope closes. */
  readonly register: Effect.Effect<Registration, never, Scope.Scope>
  /** Whether a mapping of this program holds an entry. */
  readonly isHeld: (session: Session, key: PortMappingEntry.Key) => boolean
  /** Whether a mapping of this program holds a pinhole for this flow. */
  readonly isFlowHeld: (session: Session, flow: string) => boolean
  /** The gateway does not have what a mapping holds there: what was said of a restart is true. */
  readonly hasForgotten: (session: Session) => Effect.Effect<void>
  /**
   * Does something with the gateway, which is searched for if need be, and anew when this host has another default
   * gateway than it had then. Where it turns out to be gone, it is searched for once more and the effect runs again; an
   * effect that may have reached it does not.
   */
  readonly use: <A>(f: (session: Session) => Effect.Effect<A, NatError.NatError>) => Effect.Effect<A, NatError.NatError>
}

interface Sought {
  readonly result: Result.Result<Session, NatError.NatError>
  /** In milliseconds of the monotonic clock. */
  readonly at: number
  readonly surroundings: Surroundings
}

/** What was so just before the search. */
interface Surroundings {
  /** The address of the first default gateway. */
  readonly preferred: string | undefined
  /** How many changes of the network had been noticed. */
  readonly changes: number
}

/** So long "there is none" is believed: many requests at once must not search one after the other. */
const disbelief = Duration.seconds(5)

/** So long a reported address is current: several mappings at once need not each ask for it. */
const freshness = Duration.seconds(5)

/** So long a line is used that was chosen while a better one may have been silent, before both are asked again. */
const doubt = Duration.minutes(1)

/** One lost answer to a deletion is no dead router. */
const patience = 2

interface Reported {
  readonly address: NetAddress.IpAddress | undefined
  /** In milliseconds of the monotonic clock; `undefined` before it has been asked for. */
  readonly at: number | undefined
}

const sameAddress = (self: NetAddress.IpAddress | undefined, that: NetAddress.IpAddress | undefined): boolean =>
  self === undefined || that === undefined ? self === that : NetAddress.formatIp(self) === NetAddress.formatIp(that)

const openSession = Effect.fnUntraced(function* (found: UpnpGateway.Usable, habits: Habits) {
  const udp = yield* Udp.Udp
  const reported = yield* Ref.make<Reported>({ address: undefined, at: undefined })
  const report = Effect.fnUntraced(function* (address: NetAddress.IpAddress | undefined) {
    const at = yield* Monotonic.millis
    const before = yield* Ref.getAndSet(reported, { address, at })
    if (before.at === undefined || !sameAddress(before.address, address)) yield* warnOfNat(found, address)
  })
  if (found.hasAnswered) yield* report(found.externalAddress)
  const ask = found.connection.getExternalIpAddress.pipe(
    Effect.mapError((error) => ActionFailure.toNatError(error, { action: "GetExternalIPAddress" })),
    Effect.tap(report)
  )
  const askOrKnow = Effect.gen(function* () {
    const { address, at } = yield* Ref.get(reported)
    const isFresh = at !== undefined && (yield* Monotonic.millis) - at < Duration.toMillis(freshness)
    return isFresh && address !== undefined ? address : yield* ask
  })
  // Whoever comes while it is asked for waits for that answer.
  const askExternalAddress = (yield* Semaphore.make(1)).withPermit(askOrKnow)
  const externalAddressNow = Effect.catch(askExternalAddress, (error) =>
    Effect.logDebug(`the external address is not known now: ${error.message}`).pipe(
      Effect.andThen(Ref.get(reported)),
      Effect.map((known) => known.address)
    )
  )
  const session: Session = {
    ...found,
    habits,
    askExternalAddress,
    externalAddressNow,
    askAgain: ask,
    report,
    unlessSilent: yield* SilenceLimit.make(patience),
    ownAddress: Udp.localAddressTowards(found.gateway.address).pipe(
      Effect.provideService(Udp.Udp, udp),
      Effect.orElseSucceed(() => found.gateway.localAddress)
    ),
    isOwn: (address) => Effect.provideService(Udp.isOwnTowards(found.gateway.address, address), Udp.Udp, udp)
  }
  return session
})

const warnOfNat = ({ gateway }: UpnpGateway.Usable, externalAddress: NetAddress.IpAddress | undefined) => {
  if (externalAddress === undefined) {
    return Effect.logWarning(`${gateway.name} reports no external address: its own line may be down`)
  }
  if (!DoubleNat.isBehind(externalAddress)) return Effect.void
  return Effect.logWarning(DoubleNat.describe(gateway.name, externalAddress))
}

/** Whether a failure means that the gateway may have moved. */
const mayHaveMoved = (error: NatError.NatError): boolean =>
  error.reason._tag === "Unreachable" || error.reason._tag === "TimedOut" || error.reason._tag === "MalformedAnswer"

interface Mapping {
  /** What it holds. */
  entry: string | undefined
  /** The external address that its holder knows; `undefined` where it does not want to. */
  told: { readonly address: NetAddress.IpAddress | undefined } | undefined
  readonly wake: Effect.Effect<void>
}

const entryOf = ({ gateway }: Session, { externalPort, protocol }: PortMappingEntry.Key): string =>
  `${deviceOf(gateway)} ${externalPort}/${protocol}`

const flowOf = ({ gateway }: Session, flow: string): string => `${deviceOf(gateway)} pinhole ${flow}`

const noHabits = (): Habits => ({ takesOnlyPermanentLeases: false, hidesMappings: false })

/** What tells one device from another. */
export const deviceOf = ({ address, id }: Gateway.Gateway): string => id ?? NetAddress.formatIp(address)

/** Where to begin. */
export interface Start {
  readonly client: SoapClient.SoapClient
  /** The name, id or address of the one to use. */
  readonly selected: string | undefined
  /** The gateway to use first, which need not be searched for. */
  readonly found?: UpnpGateway.Usable | undefined
}

export const makeFrom = Effect.fnUntraced(function* ({
  client,
  found,
  selected
}: Start): Effect.fn.Return<CurrentGateway, never, UpnpDiscovery.Network | Scope.Scope> {
  const context = yield* Effect.context<UpnpDiscovery.Network>()
  const state = yield* SynchronizedRef.make<Sought | undefined>(undefined)
  const habits = new Map<string, Habits>()
  /** Those that have failed since they last did what they should. */
  const suspects = new Set<string>()

  const habitsOf = (gateway: Gateway.Gateway): Habits => {
    const known = habits.get(deviceOf(gateway)) ?? noHabits()
    habits.set(deviceOf(gateway), known)
    return known
  }

  const network = yield* NetworkWatch.NetworkWatch
  const preferredNow = Effect.provideContext(UpnpProbe.preferredGateway, context)
  const surroundingsNow = Effect.all({ preferred: preferredNow, changes: network.count })

  const seek = Effect.gen(function* () {
    const surroundings = yield* surroundingsNow
    const result = yield* UpnpProbe.probe({
      client,
      selected,
      isSuspect: (gateway) => suspects.has(deviceOf(gateway))
    }).pipe(
      Effect.flatMap((usable) => openSession(usable, habitsOf(usable.gateway))),
      Effect.result
    )
    const sought: Sought = { result, surroundings, at: yield* Monotonic.millis }
    return sought
  }).pipe(Effect.provideContext(context))

  if (found !== undefined) {
    const first = yield* openSession(found, habitsOf(found.gateway))
    const surroundings = yield* surroundingsNow
    yield* SynchronizedRef.set(state, { result: Result.succeed(first), surroundings, at: yield* Monotonic.millis })
  }

  /** What was found still is what would be looked for, or else nothing. The gateway of an earlier network may answer. */
  const stillSought = Effect.fnUntraced(function* (sought: Sought) {
    const changes = yield* network.count
    const { result, surroundings } = sought
    const isNews = changes !== surroundings.changes
    if (Result.isFailure(result)) {
      const isFresh = (yield* Monotonic.millis) - sought.at < Duration.toMillis(disbelief)
      return isFresh && !isNews ? sought : undefined
    }
    if (!isNews || selected !== undefined) return sought
    const preferred = yield* preferredNow
    const checked: Sought = { ...sought, surroundings: { preferred, changes } }
    return preferred === surroundings.preferred ? checked : undefined
  })

  /** Whoever answers no better than before is no reason to give up what works. */
  const lookAgain = Effect.fnUntraced(function* (known: Sought) {
    const isDoubtful = Result.isSuccess(known.result) && known.result.success.isDoubtful
    const age = (yield* Monotonic.millis) - known.at
    if (!isDoubtful || age < Duration.toMillis(doubt)) return known
    const sought = yield* seek
    return Result.isSuccess(sought.result) && !sought.result.success.isDoubtful ? sought : { ...known, at: sought.at }
  })

  const session = SynchronizedRef.modifyEffect(
    state,
    Effect.fnUntraced(function* (known) {
      const still = known && (yield* stillSought(known))
      const sought = yield* still === undefined ? seek : lookAgain(still)
      return [sought.result, sought] as const
    })
  ).pipe(Effect.flatMap(Effect.fromResult))

  const giveUp = (gone: Session) => {
    suspects.add(deviceOf(gone.gateway))
    return SynchronizedRef.update(state, (sought) =>
      sought !== undefined && Result.isSuccess(sought.result) && sought.result.success === gone ? undefined : sought
    )
  }

  const attempt = <A>(f: (session: Session) => Effect.Effect<A, NatError.NatError>) =>
    Effect.flatMap(session, (one) =>
      f(one).pipe(
        Effect.tap(() => Effect.sync(() => suspects.delete(deviceOf(one.gateway)))),
        Effect.tapError((error) => (mayHaveMoved(error) ? giveUp(one) : Effect.void))
      )
    )

  const mappings = new Set<Mapping>()
  const scope = yield* Effect.scope
  let watch: { readonly session: Session; readonly fiber: Fiber.Fiber<unknown, unknown> } | undefined

  const wakeThose = (which: (mapping: Mapping) => boolean) =>
    Effect.suspend(() => Effect.forEach([...mappings].filter(which), (mapping) => mapping.wake, { discard: true }))

  const isHolding = (mapping: Mapping): boolean => mapping.entry !== undefined

  const spread = (address: NetAddress.IpAddress | undefined) =>
    wakeThose(
      (mapping) => isHolding(mapping) && mapping.told !== undefined && !sameAddress(mapping.told.address, address)
    )

  /** Nobody but the end of the scope waits for the end of a subscription. */
  const unwatch = () => {
    watch?.fiber.interruptUnsafe()
    watch = undefined
  }

  const restartLimit = yield* RestartLimit.make
  const subscriptionOf = (device: string): string => `${device} subscription`

  const restarted = (one: Session) =>
    Effect.andThen(
      Effect.suspend(() => giveUp(one)),
      wakeThose(isHolding)
    )

  const watched = (one: Session): GatewayWatch.Watched => ({
    found: one,
    ask: Effect.tap(one.askAgain, spread),
    hasAddress: (address) => Effect.andThen(one.report(address), spread(address)),
    mayHaveForgotten: wakeThose(isHolding),
    // Some routers forget each subscription soon, and nothing else.
    hasForgottenSubscription: restartLimit.act(subscriptionOf(deviceOf(one.gateway)), wakeThose(isHolding)),
    hasRestarted: restarted(one),
    saysItRestarted: restartLimit.act(deviceOf(one.gateway), restarted(one))
  })

  /** A renewal that began before its session was given up ends after others have found the gateway anew. */
  const latest = (one: Session): Session => {
    const sought = SynchronizedRef.getUnsafe(state)
    return sought !== undefined && Result.isSuccess(sought.result) ? sought.result.success : (watch?.session ?? one)
  }

  const watchOnly = Effect.fnUntraced(function* (used: Session) {
    const one = latest(used)
    if (watch?.session === one) return
    unwatch()
    const fiber = yield* Effect.forkIn(Effect.provideContext(GatewayWatch.watch(watched(one)), context), scope)
    watch = { session: one, fiber }
  }, Effect.uninterruptible)

  const register = Effect.gen(function* () {
    const woken = yield* Queue.sliding<void>(1)
    const mapping: Mapping = {
      entry: undefined,
      told: undefined,
      wake: Effect.asVoid(Queue.offer(woken, undefined))
    }
    const letGo = Effect.sync(() => {
      mapping.entry = undefined
      if (![...mappings].some(isHolding)) unwatch()
    })
    yield* Effect.acquireRelease(
      Effect.sync(() => mappings.add(mapping)),
      () =>
        Effect.suspend(() => {
          mappings.delete(mapping)
          return letGo
        })
    )
    const registration: Registration = {
      begin: Effect.asVoid(Queue.clear(woken)),
      hold: ({ entry, session: one }) =>
        Effect.sync(() => {
          mapping.entry = entryOf(one, entry)
        }),
      follow: (one, told) =>
        Effect.suspend(() => {
          mapping.told = { address: told }
          return Effect.andThen(spread(told), watchOnly(one))
        }),
      followRestarts: watchOnly,
      holdFlow: (one, flow) =>
        Effect.sync(() => {
          mapping.entry = flowOf(one, flow)
        }),
      letGo,
      wake: mapping.wake,
      whenWoken: Queue.take(woken)
    }
    return registration
  })

  return {
    client,
    ledger: yield* Ledger.Ledger,
    network,
    register,
    hasForgotten: ({ gateway }) => {
      const device = deviceOf(gateway)
      return Effect.andThen(restartLimit.confirm(device), restartLimit.confirm(subscriptionOf(device)))
    },
    isFlowHeld: (one, flow) => [...mappings].some(({ entry }) => entry === flowOf(one, flow)),
    isHeld: (one, key) => [...mappings].some(({ entry }) => entry === entryOf(one, key)),
    use: (f) => Effect.catchReason(attempt(f), "NatError", "Unreachable", () => attempt(f))
  }
})

export const make: Effect.Effect<CurrentGateway, never, UpnpDiscovery.Network | Scope.Scope> = Effect.gen(function* () {
  return yield* makeFrom({ client: yield* SoapClient.make, selected: yield* Gateway.Selected })
})
