/** How a member makes snapshots for others: it is asked part by part, and remembers the snapshot until it is through. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Session from "../Session.ts"
import type * as SessionError from "../SessionError.ts"
import * as Wire from "../Wire.ts"
import type * as Link from "./link.ts"
import * as SnapshotPart from "./snapshotPart.ts"

export interface Server {
  /** From now until the scope closes snapshots are made so. */
  readonly offer: (state: Effect.Effect<Session.State>) => Effect.Effect<void, never, Scope.Scope>
  /** Tells the router on a connection whether snapshots are made. */
  readonly volunteer: (link: Link.Link) => Effect.Effect<void, SessionError.SessionError>
  readonly isOffering: () => boolean
  /** Answers in its own time. */
  readonly answer: (link: Link.Link, frame: Serve) => Effect.Effect<void>
}

type Serve = Wire.Frame & { readonly _tag: "Serve" }

/** So many others may be at it at once. */
const mostSnapshots = 1024

/** What all their snapshots may take, in bytes; one is kept in any case. */
const mostBytes = 268_435_456

/** The router asks another member after some seconds. */
const patience = Duration.seconds(5)
const lookInterval = Duration.millis(10)

/**
 * What the program has dealt with may be behind what this member has heard. Where it is ahead of that it is what the
 * session had come to before it began anew.
 */
const atLeast = (state: Effect.Effect<Session.State>, sequence: number, heard: () => number) =>
  state.pipe(
    Effect.filterOrFail((made) => made.sequence >= sequence && made.sequence <= heard()),
    Effect.retry({ schedule: Schedule.spaced(lookInterval) }),
    Effect.timeoutOption(patience)
  )

/** For a member that knows the number of the last message that it has heard. */
export const make = Effect.fnUntraced(function* (heard: () => number): Effect.fn.Return<Server, never, Scope.Scope> {
  const fork = yield* FiberSet.makeRuntime<never>()
  /** Those that others are at, by the facet for the answers, the one that was asked for last at the end. */
  const snapshots = new Map<string, Session.State>()
  /** The connection that they are asked for on: with it they are over. */
  let current: Link.Link | undefined
  let offered: Effect.Effect<Session.State> | undefined

  const begin = (link: Link.Link) => {
    if (link === current) return
    current = link
    snapshots.clear()
  }

  const bytesKept = () => Array.from(new Set(snapshots.values())).reduce((sum, { data }) => sum + data.length, 0)

  /** Nobody tells when a joiner has gone: then its snapshot is the one that was not asked for for longest. */
  const keep = (key: string, made: Session.State) => {
    snapshots.delete(key)
    snapshots.set(key, made)
    for (const oldest of snapshots.keys()) {
      if (oldest === key || (snapshots.size <= mostSnapshots && bytesKept() <= mostBytes)) return
      snapshots.delete(oldest)
    }
  }

  /** Joiners that come together get one snapshot, while it includes what they need. */
  const findShared = (sequence: number) => Array.from(snapshots.values()).find((made) => made.sequence >= sequence)

  const makeSnapshot = Effect.fnUntraced(function* (link: Link.Link, key: string, { offset, sequence }: Serve) {
    if (offset > 0 || offered === undefined) return snapshots.get(key)
    const shared = findShared(sequence)
    if (shared !== undefined) return shared
    const made = yield* atLeast(offered, sequence, heard)
    return made._tag === "Some" && link === current ? made.value : undefined
  })

  const answer = Effect.fnUntraced(function* (link: Link.Link, frame: Serve) {
    begin(link)
    const key = Hex.encode(frame.replyFacet)
    const made = yield* makeSnapshot(link, key, frame)
    // Without an answer the router asks another member.
    if (made === undefined) return
    const { data, sequence } = made
    const { offset } = frame
    const most = SnapshotPart.wholeBytes(link.welcome.maxDataBytes)
    const part = { sequence, size: data.length, offset, data: data.subarray(offset, offset + most) }
    if (offset + part.data.length >= data.length) snapshots.delete(key)
    else keep(key, made)
    yield* Effect.ignore(link.reply(frame.replyFacet, Wire.encodeSnapshotPart(part)))
  })

  return {
    offer: (state) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          offered = state
        }),
        () =>
          Effect.sync(() => {
            if (offered === state) offered = undefined
          })
      ),
    volunteer: (link) => Effect.suspend(() => link.request("beServer", Uint8Array.of(offered === undefined ? 0 : 1))),
    isOffering: () => offered !== undefined,
    answer: (link, frame) => Effect.sync(() => void fork(answer(link, frame)))
  }
})
