/**
 * The ledger: what this host has mapped on which gateway, written down before each request leaves, so that the next
 * start can take away what a killed process has left behind.
 *
 * Each mapping has a page of its own. Its protocol notes there what it is about to ask for; the lease engine strikes it
 * out when the gateway has confirmed the release, and leaves it where it has not. What is left, by this process or by
 * one that is gone, is swept away after the next mapping on the same gateway: nothing else can know that the gateway
 * is there and what it says. Where the same thing is mapped again, it is renewed and nothing is swept. A gateway that
 * never answers cannot be swept: what is left there is kept until it has ended by itself.
 *
 * A ledger never fails: what cannot be written or read is logged as a warning, once, and mapping goes on without it.
 *
 * **When to use**
 *
 * `NodeHost.layer` brings one that is a file for each process. Without one, nothing is written down: a lease that has
 * an end ends by itself.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Struct from "effect/Struct"
import * as KeptLeftovers from "./internal/keptLeftovers.ts"
import type * as NatError from "./NatError.ts"
import * as PortMapping from "./PortMapping.ts"

/**
 * One mapping as it is written down: all that is needed to recognise it on its gateway and to delete it there.
 *
 * @category schemas
 * @since 0.1.0
 */
export class Entry extends Schema.Class<Entry>("@effect-nat/core/Ledger/Entry")({
  /** The protocol that speaks to the gateway: `"upnp"`, `"natpmp"`, `"pcp"`. */
  method: Schema.String,
  /** Which gateway it is, as its protocol tells one from another. */
  gateway: Schema.String,
  /** What tells one mapping from another on that gateway, by its protocol: an external port, or an internal end. */
  key: Schema.String,
  protocol: PortMapping.Protocol,
  internalAddress: Schema.IpAddressFromString,
  internalPort: Schema.Port,
  /** The port that is asked for; the gateway may have granted another one. */
  externalPort: Schema.Port,
  description: Schema.String,
  /** PCP's nonce in hexadecimal digits, without which the gateway deletes nothing. */
  nonce: Schema.optional(Schema.String),
  /** For how many seconds it is asked for, where the gateway is sure to forget it after that. */
  lifetime: Schema.optional(Schema.Finite),
  /** When it became known that nobody holds it any more, in milliseconds since 1970. */
  leftAt: Schema.optional(Schema.Finite)
}) {}

/**
 * Why something could not be written or read, in words.
 *
 * @category errors
 * @since 0.1.0
 */
export class StorageError extends Schema.TaggedError<StorageError>("@effect-nat/core/Ledger/StorageError")(
  "StorageError",
  { message: Schema.String }
) {}

/**
 * Where a ledger is kept, for one process of several.
 *
 * @category models
 * @since 0.1.0
 */
export interface Storage {
  /** Keeps these for this process, in place of all that was kept for it or taken over by it. */
  readonly write: (entries: ReadonlyArray<Entry>) => Effect.Effect<void, StorageError>
  /** Makes this process's own what processes that are gone have left and is wanted. One process gets it, not two. */
  readonly takeOver: (wanted: (entry: Entry) => boolean) => Effect.Effect<ReadonlyArray<Entry>, StorageError>
  /** What processes that may be alive have written, and what those that are gone have left; not this one's. */
  readonly others: Effect.Effect<
    { readonly alive: ReadonlyArray<Entry>; readonly gone: ReadonlyArray<Entry> },
    StorageError
  >
}

/**
 * One mapping's page.
 *
 * @category models
 * @since 0.1.0
 */
export interface Page {
  /**
   * What an earlier run has left for just this, which is this mapping's from now on, or what another process that lives
   * has noted for just this, which both have from now on. To be asked before a request whose protocol can go on with it.
   */
  readonly earlier: (like: Pick<Entry, "gateway" | "key" | "method">) => Effect.Effect<Entry | undefined>
  /**
   * Writes down what is about to be asked for; it replaces what was noted for the same gateway, but for what leads to
   * another address that this host had: that is left. Where the same is being swept away just then it waits for the end
   * of that.
   */
  readonly note: (entry: Entry) => Effect.Effect<void>
  /** What was noted last has been refused: nothing came of it. What an earlier run has left is left still. */
  readonly withdraw: Effect.Effect<void>
  /** The mapping is deleted where it was last noted: nothing is left there. What it had on other gateways is left. */
  readonly strike: Effect.Effect<void>
  /** Nobody knows whether the mapping is deleted. */
  readonly leave: Effect.Effect<void>
  /**
   * The mapping is about to be deleted. Whether it is another process's as well, which goes on with it: then it is not to
   * be deleted. Of several that end at one time one is told that it is nobody else's.
   */
  readonly giveUp: Effect.Effect<boolean>
  /**
   * Deletes what is left on the gateway where this mapping was last noted, one after the other, and nothing that is
   * somebody's: not what this process or another that lives has noted, by whichever protocol. What the gateway has no
   * answer for stays left.
   */
  readonly sweep: (discard: (entry: Entry) => Effect.Effect<void, NatError.NatError>) => Effect.Effect<void>
}

/**
 * The ledger of a process.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /** A new page, with nothing on it. */
  readonly open: Effect.Effect<Page>
  /** What is noted or left of a protocol, by whichever process of this host. */
  readonly entries: (method: string) => Effect.Effect<ReadonlyArray<Entry>>
}

/**
 * The page of a ledger in which nothing is ever written down.
 *
 * @category constructors
 * @since 0.1.0
 */
export const blank: Page = {
  earlier: () => Effect.succeed(undefined),
  note: () => Effect.void,
  withdraw: Effect.void,
  strike: Effect.void,
  leave: Effect.void,
  giveUp: Effect.succeed(false),
  sweep: () => Effect.void
}

/**
 * The ledger in use; by default none, in which nothing is ever written down.
 *
 * @category references
 * @since 0.1.0
 */
export const Ledger: Context.Reference<Service> = Context.Reference<Service>("@effect-nat/core/Ledger", {
  defaultValue: () => ({ open: Effect.succeed(blank), entries: () => Effect.succeed([]) })
})

type Place = Pick<Entry, "gateway" | "method">

const isAt =
  ({ gateway, method }: Place) =>
  (entry: Entry): boolean =>
    entry.method === method && entry.gateway === gateway

const isSame = (self: Entry, that: Pick<Entry, "gateway" | "key" | "method">): boolean =>
  isAt(that)(self) && self.key === that.key

/**
 * Whether both are about the same thing on the gateway, by whichever protocol. PCP and NAT-PMP speak to one table: what
 * was noted over NAT-PMP is deleted by its port alone, even where it is held over PCP by now.
 */
const concernsSame = (self: Entry, that: Entry): boolean => self.gateway === that.gateway && self.key === that.key

/** Whether whoever noted it goes on with just that mapping. */
const isHeldAs =
  (entry: Entry) =>
  (other: Entry): boolean =>
    other.leftAt === undefined &&
    concernsSame(other, entry) &&
    other.internalPort === entry.internalPort &&
    Equal.equals(other.internalAddress, entry.internalAddress)

/** What a gateway that has no answer, or is not there, says nothing about. */
const isUndecided = ({ reason }: NatError.NatError): boolean =>
  reason._tag === "TimedOut" || reason._tag === "Unreachable" || reason._tag === "NoGateway"

const asLeft = (entry: Entry, now: number): Entry =>
  entry.leftAt === undefined ? new Entry({ ...entry, leftAt: now }) : entry

/** As its protocol noted it, which may compare it with what it knows. */
const asNoted = (entry: Entry): Entry => new Entry(Struct.omit(entry, ["leftAt"]))

const placeOf = ({ gateway, method }: Place): string => `${method} ${gateway}`

/**
 * A ledger over where it is kept.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (storage: Storage): Effect.Effect<Service> =>
  Effect.gen(function* () {
    const turn = yield* Semaphore.make(1)
    const sweeping = yield* Semaphore.make(1)
    const pages = new Set<Map<string, Entry>>()
    let left: Array<Entry> = []
    let discarding: { readonly entry: Entry; readonly isOver: Deferred.Deferred<void> } | undefined
    let hasWarned = false
    /** Whether all that is noted and left stands where others read it. */
    let isWritten = true

    const attempt = <A>(effect: Effect.Effect<A, StorageError>, otherwise: A) =>
      Effect.catch(effect, ({ message }) => {
        const warning = `mappings cannot be written down, so that one may be left when this process is killed: ${message}`
        const warn = hasWarned ? Effect.logDebug(message) : Effect.logWarning(warning)
        hasWarned = true
        return Effect.as(warn, otherwise)
      })
    const others = attempt(storage.others, { alive: [], gone: [] })
    const alive = Effect.map(others, (all) => all.alive)
    const noted = () => [...pages].flatMap((page) => Array.from(page.values()))
    const leave = (entries: ReadonlyArray<Entry>, now: number) => {
      const others = left.filter((known) => !entries.some((one) => isSame(one, known)))
      left = [...others, ...entries.map((one) => asLeft(one, now))].filter((one) => !KeptLeftovers.isOver(one, now))
    }

    // What is taken from a process that is gone must not get lost on its way here.
    const inTurn = (effect: Effect.Effect<void>) => Effect.uninterruptible(turn.withPermit(effect))
    const write = inTurn(
      Effect.suspend(() =>
        Effect.map(attempt(Effect.as(storage.write([...noted(), ...left]), true), false), (is) => {
          isWritten = is
        })
      )
    )
    const takeOver = (place: Place) =>
      inTurn(
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          Effect.map(attempt(storage.takeOver(isAt(place)), []), (taken) => leave(taken, now))
        )
      )

    const discardOne = Effect.fnUntraced(function* (
      entry: Entry,
      discard: (entry: Entry) => Effect.Effect<void, NatError.NatError>
    ) {
      const error = yield* Effect.match(discard(asNoted(entry)), {
        onFailure: (failure) => failure,
        onSuccess: () => undefined
      })
      if (error === undefined) return true
      yield* Effect.logDebug(
        `what an earlier run left at ${entry.gateway}, ${entry.key}, is not deleted: ${error.message}`
      )
      return !isUndecided(error)
    })

    /**
     * What somebody is about to ask for must not be deleted after it was granted: there is no step between the look at
     * what is noted and the moment from which whoever notes it waits.
     */
    const discardAlone = (
      entry: Entry,
      living: ReadonlyArray<Entry>,
      discard: (entry: Entry) => Effect.Effect<void, NatError.NatError>
    ) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          if ([...noted(), ...living].some((one) => concernsSame(one, entry))) return undefined
          discarding = { entry, isOver: Deferred.makeUnsafe<void>() }
          return discarding
        }),
        (begun) => (begun === undefined ? Effect.succeed(true) : discardOne(entry, discard)),
        (begun) => {
          if (begun === undefined) return Effect.void
          discarding = undefined
          return Deferred.succeed(begun.isOver, undefined)
        }
      )

    const whenNotDiscarded = (entry: Entry, act: () => Effect.Effect<void>): Effect.Effect<void> =>
      Effect.suspend(() =>
        discarding !== undefined && concernsSame(discarding.entry, entry)
          ? Effect.andThen(Deferred.await(discarding.isOver), whenNotDiscarded(entry, act))
          : act()
      )

    const sweepAt = Effect.fnUntraced(function* (
      place: Place,
      discard: (entry: Entry) => Effect.Effect<void, NatError.NatError>
    ) {
      yield* takeOver(place)
      if (!left.some(isAt(place))) return
      const living = yield* alive
      for (const entry of left.filter(isAt(place))) {
        if (yield* discardAlone(entry, living, discard)) left = left.filter((one) => one !== entry)
      }
      yield* write
    })

    const isHeldByOthers = (entry: Entry) => Effect.map(alive, (living) => living.some(isHeldAs(entry)))

    const open = Effect.sync((): Page => {
      const page = new Map<string, Entry>()
      let last: Entry | undefined
      let inherited: Entry | undefined
      const end = (isLeft: (entry: Entry) => boolean, kept?: Entry) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          if (!pages.delete(page)) return Effect.void
          leave([...page.values()].filter(isLeft), now)
          if (kept !== undefined) leave([kept], now)
          page.clear()
          inherited = undefined
          return write
        })
      /** What is noted elsewhere stays left: nobody there has confirmed anything. */
      const isElsewhere = (entry: Entry) => entry !== last
      return {
        earlier: Effect.fnUntraced(function* (like) {
          yield* takeOver(like)
          const found = left.find((entry) => isSame(entry, like))
          if (found === undefined) return (yield* alive).find((entry) => isSame(entry, like))
          left = left.filter((entry) => !isSame(entry, like))
          yield* Effect.sync(() => pages.add(page.set(placeOf(found), found)))
          last = found
          inherited = found
          return found
        }),
        note: (entry) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            whenNotDiscarded(entry, () => {
              const before = page.get(placeOf(entry))
              const isNoted = pages.has(page) && last === before && before !== undefined && Equal.equals(before, entry)
              if (isNoted) return Effect.void
              const isOfOtherAddress =
                before !== undefined && !Equal.equals(before.internalAddress, entry.internalAddress)
              if (isOfOtherAddress) leave([before], now)
              // Other processes must not take it for held where it was held before.
              const previous = last
              if (previous !== undefined && previous !== before && page.has(placeOf(previous))) {
                page.set(placeOf(previous), asLeft(previous, now))
              }
              pages.add(page.set(placeOf(entry), entry))
              last = entry
              return write
            })
          ),
        giveUp: Effect.gen(function* () {
          if (last === undefined || !pages.has(page) || !(yield* isHeldByOthers(last))) return false
          // The other one may be about to end, too: that nobody goes on with it must be written before it is read.
          const ending = asLeft(last, yield* Clock.currentTimeMillis)
          page.set(placeOf(ending), ending)
          last = ending
          yield* write
          // Where it is not, the other one would leave it to this one as well.
          return isWritten && (yield* isHeldByOthers(ending))
        }),
        withdraw: Effect.suspend(() => end(isElsewhere, inherited)),
        strike: end(isElsewhere),
        leave: end(() => true),
        sweep: (discard) =>
          Effect.suspend(() => (last === undefined ? Effect.void : sweeping.withPermit(sweepAt(last, discard))))
      }
    })

    const entries = (method: string) =>
      Effect.map(others, (all) =>
        [...noted(), ...left, ...all.alive, ...all.gone].filter((entry) => entry.method === method)
      )

    return { open, entries }
  })
