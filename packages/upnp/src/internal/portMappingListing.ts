/**
 * The list of a router's mappings, one call at a time, whatever the router's habits; it always ends.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as PortMappingEntry from "../PortMappingEntry.ts"
import * as UpnpErrorCode from "../UpnpErrorCode.ts"
import type * as WanIpConnection from "../WanIpConnection.ts"

type Entry = PortMappingEntry.PortMappingEntry

/** Where entries come from. */
export interface Source {
  readonly byIndex: (index: number) => Effect.Effect<Entry, WanIpConnection.ActionError>
  /** The first entries of a range of ports; `undefined` where the service is too old for that. */
  readonly byRange:
    | ((request: WanIpConnection.ListRequest) => Effect.Effect<ReadonlyArray<Entry>, WanIpConnection.ActionError>)
    | undefined
}

/** Routers hold some dozens; a list without end is an attack or a mistake. */
const maximumEntries = 10_000

/** So many entries that were there before, without a new one between: the router does not look at the index. */
const maximumRepeated = 3

/** So many places that cannot be read, without a new entry between: what comes after them is not waited for. */
const maximumUnread = 32

/** What stays the same while a lease runs. */
const identity = (entry: Entry): string => JSON.stringify(PortMappingEntry.toFields({ ...entry, leaseDuration: 0 }))

/** Notes the entry; whether it was not there before. */
const isNew = (seen: Set<string>, entry: Entry): boolean => {
  const before = seen.size
  return seen.add(identity(entry)).size > before
}

/** 402 in place of 713 is how some routers end their list; before the first entry it is a refusal. */
const isEndOfList = (error: WanIpConnection.ActionError, index: number): boolean =>
  error._tag === "UpnpFault" && (UpnpErrorCode.isNoSuchEntry(error) || (index > 0 && error.code === 402))

/** A router with control of access refuses to show what other hosts have. */
const actionNotAuthorized = 606

/** Whether the error says something about one place only: what comes after it may well be read. */
const isOfOnePlace = (error: WanIpConnection.ActionError): boolean =>
  error._tag === "UpnpFault" ? error.code === actionNotAuthorized : error.reason._tag === "MalformedAnswer"

interface Place {
  readonly index: number
  /** Since the last new entry. */
  readonly repeated: number
  readonly unread: number
}

type Page = readonly [entries: ReadonlyArray<Entry>, next: Option.Option<Place>]

const firstPlace: Place = { index: 0, repeated: 0, unread: 0 }
const end: Page = [[], Option.none()]

const after = ({ index }: Place, repeated: number, unread: number): Option.Option<Place> =>
  index + 1 < maximumEntries && repeated < maximumRepeated && unread < maximumUnread
    ? Option.some({ index: index + 1, repeated, unread })
    : Option.none()

const page = (source: Source, seen: Set<string>, place: Place): Effect.Effect<Page, WanIpConnection.ActionError> =>
  source.byIndex(place.index).pipe(
    // A list that changes meanwhile shows an entry twice; a router that repeats itself shows nothing else.
    Effect.map((entry): Page =>
      isNew(seen, entry) ? [[entry], after(place, 0, 0)] : [[], after(place, place.repeated + 1, place.unread)]
    ),
    Effect.catch((error) => {
      if (isEndOfList(error, place.index)) return Effect.succeed(end)
      const next = after(place, place.repeated, place.unread + 1)
      if (!isOfOnePlace(error) || (Option.isNone(next) && seen.size === 0)) return Effect.fail(error)
      // One entry with a range of ports, or one of another host, must not hide the others.
      return Effect.as(Effect.logDebug(`entry ${place.index} is left out: ${error.message}`), [[], next] as const)
    })
  )

/** A page of this many entries stays well below the largest answer that is read. */
const pageSize = 64

const withoutNotFound = (error: WanIpConnection.ActionError) =>
  error._tag === "UpnpFault" && UpnpErrorCode.isNoSuchEntry(error) ? Effect.succeed([]) : Effect.fail(error)

const firstPort = 1
const lastPort = 65_535

type Span = WanIpConnection.PortRange

/** The order within a page is not defined, so a full page says nothing about the rest: each half is asked for again. */
const halves = (span: Span): ReadonlyArray<Span> => {
  const middle = Math.floor((span.startPort + span.endPort) / 2)
  return [
    { ...span, endPort: middle },
    { ...span, startPort: middle + 1 }
  ]
}

const wholeRange = (protocol: Span["protocol"]): Span => ({
  startPort: firstPort,
  endPort: lastPort,
  protocol,
  manage: true
})

/** WANIPConnection:2 §2.5.21: the ports below may need the router's leave, as other hosts' mappings do. */
const firstOpenPort = 1024

/** What to ask for where a span needs leave: the ports that need none, then this host's own mappings alone. */
const withoutLeave = (span: Span): Span | undefined => {
  if (span.startPort < firstOpenPort && span.endPort >= firstOpenPort) return { ...span, startPort: firstOpenPort }
  return span.manage ? { ...span, manage: false } : undefined
}

/** Enough for all entries that are listed, however they lie; a router that fills every page would never end. */
const maximumPages = 1000

interface Pages {
  readonly asked: number
  /** What is still to be asked for. */
  readonly spans: ReadonlyArray<Span>
}

const everything: Pages = { asked: 0, spans: [wholeRange("TCP"), wholeRange("UDP")] }

/** The spans to ask for instead of one: none where it was answered in full, or the router does not look at it. */
const restOf = (span: Span, found: ReadonlyArray<Entry>): ReadonlyArray<Span> => {
  const isFull = found.length >= pageSize && span.startPort < span.endPort
  const isWithin = found.every(({ externalPort }) => externalPort >= span.startPort && externalPort <= span.endPort)
  return isFull && isWithin ? halves(span) : []
}

type Ranges = NonNullable<Source["byRange"]>

interface Found {
  /** What was asked for in the end. */
  readonly span: Span
  readonly found: ReadonlyArray<Entry>
}

const within = (byRange: Ranges, span: Span): Effect.Effect<Found, WanIpConnection.ActionError> =>
  byRange({ ...span, numberOfPorts: pageSize }).pipe(
    Effect.catch(withoutNotFound),
    Effect.map((found): Found => ({ span, found })),
    Effect.catch((error) => {
      const less = withoutLeave(span)
      const needsLeave = error._tag === "UpnpFault" && error.code === actionNotAuthorized
      return needsLeave && less !== undefined ? within(byRange, less) : Effect.fail(error)
    })
  )

const ranged = (byRange: Ranges, seen: Set<string>) =>
  Stream.paginate(everything, ({ asked, spans: [first, ...others] }) => {
    if (first === undefined) return Effect.succeed([[], Option.none()] as const)
    return Effect.map(within(byRange, first), ({ found, span }) => {
      const spans = [...restOf(span, found), ...others]
      const isEnd = spans.length === 0 || asked + 1 >= maximumPages
      return [
        found.filter((entry) => isNew(seen, entry)),
        isEnd ? Option.none() : Option.some({ asked: asked + 1, spans })
      ] as const
    })
  }).pipe(Stream.take(maximumEntries))

/**
 * All entries, by index. Where the first call is refused, and the service is new enough, by ranges of ports instead;
 * where that fails as well, the refusal is what the list fails with.
 */
export const entries = (source: Source): Stream.Stream<Entry, WanIpConnection.ActionError> =>
  Stream.suspend(() => {
    const seen = new Set<string>()
    const { byRange } = source
    const indexed = Stream.paginate(firstPlace, (place) => page(source, seen, place))
    if (byRange === undefined) return indexed
    return indexed.pipe(
      Stream.catch((error) =>
        error._tag === "UpnpFault" && seen.size === 0
          ? Stream.catch(ranged(byRange, seen), () => Stream.fail(error))
          : Stream.fail(error)
      )
    )
  })
