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

/** So many answers in a row that bring nothing new: the router does not look at the index, or makes no sense at all. */
const patience = 3

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

interface Place {
  readonly index: number
  /** So many answers in a row have brought nothing. */
  readonly wasted: number
}

type Page = readonly [entries: ReadonlyArray<Entry>, next: Option.Option<Place>]

const firstPlace: Place = { index: 0, wasted: 0 }
const end: Page = [[], Option.none()]

const after = ({ index }: Place, wasted: number): Option.Option<Place> =>
  index + 1 < maximumEntries && wasted < patience ? Option.some({ index: index + 1, wasted }) : Option.none()

const page = (source: Source, seen: Set<string>, place: Place): Effect.Effect<Page, WanIpConnection.ActionError> =>
  source.byIndex(place.index).pipe(
    // A list that changes meanwhile shows an entry twice; a router that repeats itself shows nothing else.
    Effect.map((entry): Page =>
      isNew(seen, entry) ? [[entry], after(place, 0)] : [[], after(place, place.wasted + 1)]
    ),
    Effect.catch((error) => {
      if (isEndOfList(error, place.index)) return Effect.succeed(end)
      const next = after(place, place.wasted + 1)
      if (error._tag === "UpnpFault" || error.reason._tag !== "MalformedAnswer" || Option.isNone(next)) {
        return Effect.fail(error)
      }
      // One entry with a range of ports, or with both protocols, must not hide the others.
      return Effect.as(Effect.logDebug(`entry ${place.index} is left out: ${error.message}`), [[], next] as const)
    })
  )

/** A page of this many entries stays well below the largest answer that is read. */
const pageSize = 64

const withoutNotFound = (error: WanIpConnection.ActionError) =>
  error._tag === "UpnpFault" && UpnpErrorCode.isNoSuchEntry(error) ? Effect.succeed([]) : Effect.fail(error)

const firstPort = 1
const lastPort = 65_535

interface Span {
  readonly startPort: number
  readonly endPort: number
  readonly protocol: "TCP" | "UDP"
}

/** The order within a page is not defined, so a full page says nothing about the rest: each half is asked for again. */
const halves = ({ endPort, protocol, startPort }: Span): ReadonlyArray<Span> => {
  const middle = Math.floor((startPort + endPort) / 2)
  return [
    { startPort, endPort: middle, protocol },
    { startPort: middle + 1, endPort, protocol }
  ]
}

const wholeRange = (protocol: "TCP" | "UDP"): Span => ({ startPort: firstPort, endPort: lastPort, protocol })

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

const ranged = (byRange: NonNullable<Source["byRange"]>, seen: Set<string>) =>
  Stream.paginate(everything, ({ asked, spans: [span, ...others] }) => {
    if (span === undefined) return Effect.succeed([[], Option.none()] as const)
    return byRange({ ...span, manage: true, numberOfPorts: pageSize }).pipe(
      Effect.catch(withoutNotFound),
      Effect.map((found) => {
        const spans = [...restOf(span, found), ...others]
        const isEnd = spans.length === 0 || asked + 1 >= maximumPages
        return [
          found.filter((entry) => isNew(seen, entry)),
          isEnd ? Option.none() : Option.some({ asked: asked + 1, spans })
        ] as const
      })
    )
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
