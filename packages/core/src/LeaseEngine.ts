/**
 * The one engine that keeps mappings alive, for every protocol.
 *
 * A protocol says how one lease is requested, renewed and released. The engine does the rest, once: renewal at half
 * the lifetime (of permanent leases every hour) and when the protocol or this host's network says that something has
 * changed, retries with growing pauses, asking again after a loss, the stream of changes, and the release when the scope
 * closes. No protocol renews by itself.
 *
 * A lease is over when its time has passed by the monotonic clock, which nobody can set. That clock may stand still while
 * the host sleeps: where the wall clock says that it is over, it is renewed all the same, and lost when that fails.
 *
 * A request whose outcome is not known (it was interrupted, or no answer came in time) may have taken effect on the
 * gateway; the engine then has it undone with `abandon`: at once where no lease is held, else after the release.
 *
 * What a protocol notes in the ledger is struck out once it is known to be deleted, and what earlier runs have left on
 * the gateway is deleted after the first request that it grants.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as DoubleNat from "./DoubleNat.ts"
import * as Monotonic from "./Monotonic.ts"
import * as Ledger from "./Ledger.ts"
import * as MappingRequest from "./MappingRequest.ts"
import * as NatError from "./NatError.ts"
import * as NetworkWatch from "./NetworkWatch.ts"
import type * as PortMapper from "./PortMapper.ts"
import * as PortMapping from "./PortMapping.ts"

/**
 * One lease as its protocol granted it: what is mapped, and whatever the protocol needs to renew and release it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease<out Handle> {
  readonly mapping: PortMapping.PortMapping
  readonly handle: Handle
}

/**
 * How one protocol deals with one lease. Each operation bounds its own time.
 *
 * @category models
 * @since 0.1.0
 */
export interface LeaseProtocol<Handle> {
  /** Asks a gateway for a new lease. */
  readonly request: (request: MappingRequest.Resolved) => Effect.Effect<Lease<Handle>, NatError.NatError>
  /** Extends a lease in place, never by deleting it first. */
  readonly renew: (
    lease: Lease<Handle>,
    request: MappingRequest.Resolved
  ) => Effect.Effect<Lease<Handle>, NatError.NatError>
  /**
   * Whether packets to the mapping cannot arrive any more, however long its lease still is: this host has another
   * address now. It is asked after a renewal that failed, and asks no gateway. Without it no lease is.
   */
  readonly isStale?: ((lease: Lease<Handle>, request: MappingRequest.Resolved) => Effect.Effect<boolean>) | undefined
  /**
   * Completes when something says that a renewal is due at once: the gateway has restarted, or has another external
   * address. It is waited for between renewals and interrupted by each; it may complete too often, since renewals keep
   * a distance of 5 seconds. Without it only time decides.
   */
  readonly whenChanged?: ((lease: Lease<Handle>) => Effect.Effect<void>) | undefined
  /**
   * What tells that this host's network has changed, as `NetworkWatch.NetworkWatch` is where the protocol is made: then
   * a renewal is due at once as well, also of what is mapped without a lease. Without it nothing is told.
   */
  readonly network?: NetworkWatch.Service | undefined
  /** Deletes a lease. A lease that the gateway no longer has counts as deleted. */
  readonly release: (lease: Lease<Handle>) => Effect.Effect<void, NatError.NatError>
  /** Holds it no longer, without a word to the gateway: another process goes on with it. Without it nothing is done then. */
  readonly letGo?: Effect.Effect<void> | undefined
  /**
   * Completes when the gateway has time for the release that has begun: many mappings may be released at once, on a
   * gateway that takes one call at a time. The time for the release counts from then; without it from the beginning.
   */
  readonly whenReleasing?: Effect.Effect<void> | undefined
  /** Deletes what a request of unknown outcome may have left on the gateway, and nothing else. */
  readonly abandon: (request: MappingRequest.Resolved) => Effect.Effect<void, NatError.NatError>
  /**
   * Where the protocol notes what it is about to ask for, before the request leaves. The engine strikes it out when
   * nothing is left on the gateway, and has what earlier runs left there swept away. Without it nothing is noted.
   */
  readonly page?: Ledger.Page | undefined
  /** Deletes what an earlier run has left, if that is still what is there. Without it nothing is swept away. */
  readonly discard?: ((entry: Ledger.Entry) => Effect.Effect<void, NatError.NatError>) | undefined
}

/**
 * How long the deletion of a mapping may take before its scope closes without it, from when the gateway has time for
 * it.
 *
 * @category defaults
 * @since 0.1.0
 */
export const releaseTimeout: Duration.Duration = Duration.seconds(5)

/**
 * How often a permanent lease is renewed: every hour. It needs that to be found again where the router has lost it.
 *
 * @category defaults
 * @since 0.1.0
 */
export const permanentRenewal: Duration.Duration = Duration.hours(1)

/** A gateway that changes all the time must not be asked all the time. */
const shortestDistance = Duration.seconds(5)

/** A renewal that hangs even when it is interrupted must not use up the time for the release. */
const interruptionTimeout = Duration.seconds(1)

/** A gateway that grants next to nothing, or fails, must not be asked without end. */
const shortestPause = Duration.seconds(1)
const longestPause = Duration.minutes(5)

/**
 * Whether a failed request may have taken effect on the gateway all the same: no answer is no refusal, and an
 * interrupted request may be on its way.
 */
const outcomeUnknown = (cause: Cause.Cause<NatError.NatError>): boolean =>
  cause.reasons.some((reason) => {
    if (!Cause.isFailReason(reason)) return true
    return reason.error.reason._tag === "TimedOut" || reason.error.reason._tag === "MalformedAnswer"
  })

/** Half the lifetime, up to a tenth less, so that many mappings do not come due in one moment. */
const renewalPause = Effect.fnUntraced(function* (lifetime: Duration.Duration) {
  const share = yield* Random.nextBetween(0.45, 0.5)
  if (!Duration.isFinite(lifetime)) return Duration.times(permanentRenewal, 2 * share)
  return Duration.max(Duration.millis(Math.round(Duration.toMillis(lifetime) * share)), shortestPause)
})

const growingPause = (failures: number): Duration.Duration =>
  Duration.min(Duration.times(shortestPause, 2 ** Math.min(failures - 1, 16)), longestPause)

/** Milliseconds. Timers may fire a little early: a lease with less left than this is over. */
const earliness = 20

interface Held<Handle> {
  readonly lease: Lease<Handle>
  /** In milliseconds of the monotonic clock: it is over then, whatever else happens. */
  readonly endsAt: number
  /** In milliseconds of the wall clock: it may be over then, unless somebody has set that clock. */
  readonly mayEndAt: number
}

const timeLeft = ({ endsAt }: Held<unknown>) =>
  Effect.map(Monotonic.millis, (now) => Duration.millis(endsAt - now <= earliness ? 0 : endsAt - now))

const mayBeOver = (held: Held<unknown>) =>
  Effect.map(
    Effect.all([timeLeft(held), Clock.currentTimeMillis]),
    ([left, now]) => Duration.isZero(left) || held.mayEndAt - now <= earliness
  )

/** Waits until only time is a reason to renew, after so many failures in a row. */
const untilDue = Effect.fnUntraced(function* (held: Held<unknown>, failures: number) {
  const { lifetime } = held.lease.mapping
  // Nothing is leased, so that nothing runs out.
  if (lifetime === undefined) return yield* Effect.never
  if (failures === 0) return yield* Effect.sleep(yield* renewalPause(lifetime))
  const left = yield* timeLeft(held)
  // Not past the end of the lease: that is when the mapping is lost and asked for anew.
  yield* Effect.sleep(Duration.isZero(left) ? growingPause(failures) : Duration.min(growingPause(failures), left))
})

/** In a fiber of its own: what does not even end when it is interrupted is not waited for either. */
const bounded = <A>(
  effect: Effect.Effect<A, NatError.NatError>,
  what: string,
  whenBegun: Effect.Effect<void> = Effect.void
) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDetach(effect), (fiber) =>
      restore(
        Effect.raceFirst(
          Fiber.join(fiber),
          whenBegun.pipe(
            Effect.andThen(Effect.sleep(releaseTimeout)),
            Effect.andThen(Effect.fail(NatError.fromReason(new NatError.TimedOut({ detail: what }))))
          )
        )
      ).pipe(Effect.onExit(() => Effect.sync(() => fiber.interruptUnsafe())))
    )
  )

/** Whoever tells it is not ours, and a lease that is granted and not held yet must neither wait nor get lost for it. */
const seenAddress = Effect.flatMap(DoubleNat.SeenAddress, (ask) =>
  ask === Effect.undefined
    ? Effect.undefined
    : bounded(ask, "asking what the world sees").pipe(Effect.catchCause(() => Effect.undefined))
)

/** Whether it leads to the world is the same question for every protocol. */
const flagged = Effect.fnUntraced(function* <Handle>(lease: Lease<Handle>) {
  const seen = yield* seenAddress
  const doubleNat = DoubleNat.isBehind(lease.mapping.externalAddress, seen)
  return doubleNat === lease.mapping.doubleNat
    ? lease
    : { ...lease, mapping: new PortMapping.PortMapping({ ...lease.mapping, doubleNat }) }
})

const hold = Effect.fnUntraced(function* <Handle>(granted: Lease<Handle>) {
  const lifetime = Duration.toMillis(granted.mapping.lifetime ?? Duration.infinity)
  const [monotonic, wall] = yield* Effect.all([Monotonic.millis, Clock.currentTimeMillis])
  const lease = yield* flagged(granted)
  const held: Held<Handle> = { lease, endsAt: monotonic + lifetime, mayEndAt: wall + lifetime }
  return held
})

const pageOf = <Handle>({ page = Ledger.blank }: LeaseProtocol<Handle>): Ledger.Page => page

const letGoOf = <Handle>({ letGo = Effect.void }: LeaseProtocol<Handle>): Effect.Effect<void> => letGo

/** Deletes what only this process has: what another one goes on with is let go. */
const unlessAnothers = <Handle>(protocol: LeaseProtocol<Handle>, deletion: Effect.Effect<void, NatError.NatError>) =>
  Effect.flatMap(pageOf(protocol).giveUp, (isAnothers) =>
    isAnothers
      ? Effect.andThen(Effect.logDebug("another process has the mapping as well: it is not deleted"), letGoOf(protocol))
      : deletion
  )

/** Whether nothing is left of it. */
const abandon = <Handle>(protocol: LeaseProtocol<Handle>, resolved: MappingRequest.Resolved) =>
  bounded(
    unlessAnothers(
      protocol,
      Effect.suspend(() => protocol.abandon(resolved))
    ),
    "undoing an unanswered request"
  ).pipe(
    Effect.as(true),
    Effect.catch((error) => {
      const warning = `an unanswered request may have left a mapping on the gateway: ${error.message}`
      // Where nobody is there most probably nothing is left: that is no news, and no proof either.
      const tell = error.reason._tag === "NoGateway" ? Effect.logDebug : Effect.logWarning
      return Effect.as(tell(warning), false)
    }),
    // What is left stands in the ledger, whatever the protocol does.
    Effect.catchDefect((defect) => Effect.as(Effect.logError("undoing an unanswered request broke", defect), false))
  )

/** A first request has failed: what is known of what it left on the gateway is what the ledger has to say. */
const undoFirst = <Handle>(
  protocol: LeaseProtocol<Handle>,
  resolved: MappingRequest.Resolved,
  cause: Cause.Cause<NatError.NatError>
) => {
  const page = pageOf(protocol)
  if (!outcomeUnknown(cause)) return page.withdraw
  return Effect.flatMap(abandon(protocol, resolved), (isUndone) => (isUndone ? page.strike : page.leave))
}

/** Nobody waits for it, and it is at nobody's expense: each gateway gets one question at a time. */
const sweep = <Handle>(protocol: LeaseProtocol<Handle>): Effect.Effect<void> => {
  const { discard } = protocol
  if (discard === undefined) return Effect.void
  return pageOf(protocol).sweep((entry) => bounded(discard(entry), "deleting what an earlier run has left"))
}

/** What a release that is interrupted comes from: it cannot be interrupted from outside. */
const outlived = "what deletes it was closed first: close the mapping's scope before the layer of its strategy"

/** What a protocol with a bug does not tell, which is no reason to give the mapping up. */
const orIfBroken = <A>(tell: () => Effect.Effect<A>, instead: Effect.Effect<A>) =>
  Effect.suspend(tell).pipe(
    Effect.catchCause((cause) => Effect.andThen(Effect.logError("what watches over a mapping broke", cause), instead))
  )

const neverStale = () => Effect.succeed(false)
const neverChanged = () => Effect.never

/** The external port once granted is asked for again, so that peers that know it find the service there. */
const sameContact = (resolved: MappingRequest.Resolved, held: Held<unknown>): MappingRequest.Resolved => ({
  ...resolved,
  externalPort: held.lease.mapping.externalPort ?? resolved.externalPort
})

/**
 * Requests a lease and keeps it alive until the scope closes, which releases it.
 *
 * The first request's failure is the caller's. After that a failing gateway does not end the mapping: renewal is
 * tried again with growing pauses (1 second to 5 minutes), and from the second failure on the mapping's status is
 * `"unconfirmed"`. When the lease has run out unrenewed, the gateway says that
 * its port is another's now (`Conflict`), or this host has another address and no new lease for it, the mapping's
 * status becomes `"lost"`, and a new lease with the same external port is asked for until there is one.
 *
 * The release takes at most `releaseTimeout` from when the gateway has time for it, whatever the protocol does; a
 * release that is not confirmed is logged as a warning when the scope closes, and so is one for which it is too late,
 * since the protocol was closed before the scope.
 *
 * @category constructors
 * @since 0.1.0
 */
export const map = Effect.fn("LeaseEngine.map")(function* <Handle>(
  protocol: LeaseProtocol<Handle>,
  mappingRequest: MappingRequest.MappingRequest
): Effect.fn.Return<PortMapper.Mapping, NatError.NatError, Scope.Scope> {
  const scope = yield* Effect.scope
  const resolved = yield* MappingRequest.resolve(mappingRequest)
  const { isStale: tellStale = neverStale, whenChanged: tellChanged = neverChanged } = protocol
  const whenChanged = (lease: Lease<Handle>) => orIfBroken(() => tellChanged(lease), Effect.never)
  const isStale = (lease: Lease<Handle>) => orIfBroken(() => tellStale(lease, resolved), Effect.succeed(false))
  const network = protocol.network ?? NetworkWatch.still

  return yield* Effect.uninterruptibleMask(
    Effect.fnUntraced(function* (restore) {
      // Only the protocol's own request can be interrupted, and whatever watches its outcome stands outside of that:
      // there is no step between the answer and the moment the lease is held at which the lease could get lost.
      const first = yield* restore(Effect.suspend(() => protocol.request(resolved))).pipe(
        Effect.onError((cause) => undoFirst(protocol, resolved, cause)),
        Effect.flatMap(hold)
      )
      const held = yield* Ref.make(first)
      /** What the release deletes: it may come while the address that the world sees is asked for. */
      const granted = yield* Ref.make(first.lease)
      const state = yield* SubscriptionRef.make(first.lease.mapping)
      const releasing = yield* Deferred.make<void>()
      const released = yield* Deferred.make<void, NatError.NatError>()
      const woken = yield* Queue.sliding<void>(1)
      /** The last renewal whose outcome is not known: the release undoes what it may have done. */
      const unanswered = yield* Ref.make(Option.none<MappingRequest.Resolved>())

      const publish = (mapping: PortMapping.PortMapping) =>
        SubscriptionRef.updateSome(state, (known) =>
          PortMapping.isSameContact(known, mapping) ? Option.none() : Option.some(mapping)
        )
      const publishAs = (status: PortMapping.Status, { lease }: Held<Handle>) =>
        publish(new PortMapping.PortMapping({ ...lease.mapping, status }))
      const keep = (lease: Lease<Handle>) =>
        Effect.andThen(Ref.set(granted, lease), hold(lease)).pipe(
          Effect.tap((next) => Ref.set(held, next)),
          Effect.tap(Ref.set(unanswered, Option.none())),
          Effect.flatMap((next) => publish(next.lease.mapping))
        )
      const renewOnce = Effect.uninterruptibleMask(
        Effect.fnUntraced(function* (restoreRenewal) {
          const now = yield* Ref.get(held)
          const left = yield* timeLeft(now)
          const again = sameContact(resolved, now)
          if (Duration.isZero(left)) yield* publishAs("lost", now)
          const asked = Duration.isZero(left)
            ? Effect.suspend(() => protocol.request(again))
            : // Not past the end of the lease: then it is lost, and asked for anew.
              Effect.timeoutOrElse(
                Effect.suspend(() => protocol.renew(now.lease, again)),
                {
                  duration: left,
                  orElse: () =>
                    Effect.fail(NatError.fromReason(new NatError.TimedOut({ detail: "and the lease has run out" })))
                }
              )
          const lease = yield* restoreRenewal(asked).pipe(
            Effect.onError((cause) => {
              if (!outcomeUnknown(cause)) return Effect.void
              // While a lease is held, undoing could take it away; and a release that interrupts has no time to lose.
              const mayUndo = Duration.isZero(left) && !Cause.hasInterrupts(cause)
              // The release undoes it as well, and whatever is mapped after that must be left alone.
              const untilReleased = Effect.raceFirst(
                Effect.interruptible(abandon(protocol, again)),
                Deferred.await(releasing)
              )
              const undo = mayUndo ? Effect.asVoid(untilReleased) : Effect.void
              return Effect.andThen(Ref.set(unanswered, Option.some(again)), undo)
            })
          )
          yield* keep(lease)
        })
      )
      const noteFailure = Effect.fnUntraced(function* (cause: Cause.Cause<NatError.NatError>, failures: number) {
        const now = yield* Ref.get(held)
        const what = `renewal of ${PortMapping.format(now.lease.mapping)} failed`
        const error = Cause.findErrorOption(cause)
        yield* Option.isSome(error)
          ? Effect.logDebug(`${what}: ${error.value.message}`)
          : // A defect is a bug of the protocol, and no reason to give the mapping up.
            Effect.logError(what, cause)
        // The port is another's now, or this host has moved: whatever the lease says, packets no longer come here.
        const isTaken = Option.isSome(error) && error.value.reason._tag === "Conflict"
        const isOver = isTaken || (yield* isStale(now.lease)) || (yield* mayBeOver(now))
        if (!isOver) {
          // One lost answer is nothing to tell.
          if (failures > 1) yield* publishAs("unconfirmed", now)
          return
        }
        yield* Ref.set(held, { ...now, endsAt: Number.NEGATIVE_INFINITY })
        yield* publishAs("lost", now)
      })
      const renewals = Effect.gen(function* () {
        let failures = 0
        let renewedAt = yield* Monotonic.millis
        const hasMoved = yield* network.listen
        /** What failed in another network, or before this host slept, says nothing about what comes now. */
        const whenMoved = Effect.map(hasMoved, () => {
          failures = 0
        })
        const untilChanged = (lease: Lease<Handle>) =>
          Effect.gen(function* () {
            yield* Effect.raceAllFirst([whenMoved, whenChanged(lease), Queue.take(woken)])
            const since = (yield* Monotonic.millis) - renewedAt
            yield* Effect.sleep(Math.max(0, Duration.toMillis(shortestDistance) - since))
          })
        while (true) {
          const now = yield* Ref.get(held)
          yield* Effect.raceFirst(untilDue(now, failures), untilChanged(now.lease))
          renewedAt = yield* Monotonic.millis
          failures = yield* renewOnce.pipe(
            Effect.as(0),
            Effect.catchCause((cause) => Effect.as(noteFailure(cause, failures + 1), failures + 1))
          )
        }
      }).pipe(Effect.scoped)

      // The release ends it, and that has a time limit: the scope itself must not wait for this fiber.
      const renewing = yield* Effect.forkDetach(renewals)
      const releaseNow = Effect.gen(function* () {
        yield* Deferred.succeed(releasing, undefined)
        yield* Effect.timeoutOption(Fiber.interrupt(renewing), interruptionTimeout)
        const lease = yield* Ref.get(granted)
        const deletion = Effect.suspend(() => protocol.release(lease))
        const outcome = yield* Effect.exit(unlessAnothers(protocol, deletion))
        const left = yield* Ref.get(unanswered)
        const isUndone = Option.isNone(left) || (yield* abandon(protocol, left.value))
        if (!isUndone) yield* pageOf(protocol).leave
        return yield* outcome
      })
      const noteOutcome = (exit: Exit.Exit<void, NatError.NatError>) =>
        Exit.isSuccess(exit) ? pageOf(protocol).strike : pageOf(protocol).leave
      // Whoever comes first releases, whoever comes second waits for the same outcome.
      const started = yield* Ref.make(false)
      const release = Effect.uninterruptible(
        Ref.getAndSet(started, true).pipe(
          Effect.flatMap((was) =>
            was
              ? Deferred.await(released)
              : Effect.exit(
                  bounded(releaseNow, `deleting ${PortMapping.format(first.lease.mapping)}`, protocol.whenReleasing)
                ).pipe(
                  Effect.tap(noteOutcome),
                  Effect.tap((exit) => Deferred.done(released, exit)),
                  Effect.flatten
                )
          )
        )
      )
      yield* Scope.addFinalizer(
        scope,
        release.pipe(
          Effect.tapCause((cause) => {
            const why = Option.match(Cause.findErrorOption(cause), {
              onNone: () => (Cause.hasInterruptsOnly(cause) ? outlived : "the release broke"),
              onSome: (error) => error.message
            })
            return Effect.logWarning(
              `the mapping ${PortMapping.format(first.lease.mapping)} may be left on the gateway: ${why}`
            )
          }),
          // Nobody interrupted the program: it must not look as if somebody had.
          Effect.catchCauseIf(Cause.hasInterruptsOnly, () => Effect.void),
          Effect.ignore
        )
      )
      yield* Effect.forkIn(sweep(protocol), scope)

      return {
        current: Effect.map(Effect.all([Ref.get(held), SubscriptionRef.get(state)]), ([{ lease }, { status }]) =>
          status === lease.mapping.status ? lease.mapping : new PortMapping.PortMapping({ ...lease.mapping, status })
        ),
        changes: SubscriptionRef.changes(state).pipe(Stream.interruptWhen(Effect.exit(Deferred.await(released)))),
        renew: Effect.asVoid(Queue.offer(woken, undefined)),
        release
      }
    })
  )
})
