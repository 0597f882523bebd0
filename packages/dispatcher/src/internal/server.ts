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
const mostSnapshots = 16

const partBytes = 65_536

/** The router asks another member after some seconds. */
const patience = Duration.seconds(5)
const lookInterval = Duration.millis(10)

/** What the program has dealt with may be behind what this member has heard. */
const atLeast = (state: Effect.Effect<Session.State>, sequence: number) =>
  state.pipe(
    Effect.filterOrFail((made) => made.sequence >= sequence),
    Effect.retry({ schedule: Schedule.spaced(lookInterval) }),
    Effect.timeoutOption(patience)
  )

export const make: Effect.Effect<Server, never, Scope.Scope> = Effect.gen(function* () {
  const fork = yield* FiberSet.makeRuntime<never>()
  const snapshots = new Map<string, Session.State>()
  let offered: Effect.Effect<Session.State> | undefined

  const keep = (key: string, made: Session.State) => {
    snapshots.set(key, made)
    const [oldest] = snapshots.keys()
    if (snapshots.size > mostSnapshots && oldest !== undefined) snapshots.delete(oldest)
  }

  const makeSnapshot = Effect.fnUntraced(function* (key: string, { offset, sequence }: Serve) {
    if (offset > 0 || offered === undefined) return snapshots.get(key)
    const made = yield* atLeast(offered, sequence)
    if (made._tag === "None") return undefined
    keep(key, made.value)
    return made.value
  })

  const answer = Effect.fnUntraced(function* (link: Link.Link, frame: Serve) {
    const key = Hex.encode(frame.replyFacet)
    const made = yield* makeSnapshot(key, frame)
    // Without an answer the router asks another member.
    if (made === undefined) return
    const { data, sequence } = made
    const { offset } = frame
    const most = Math.min(partBytes, link.welcome.maxDataBytes - Wire.snapshotHeaderLength)
    const part = { sequence, size: data.length, offset, data: data.subarray(offset, offset + most) }
    if (offset + part.data.length >= data.length) snapshots.delete(key)
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
