/**
 * Holds one mapping and prints what happens to it, until its scope closes.
 */
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as Output from "./Output.ts"
import * as Waiting from "./Waiting.ts"

const unconfirmedMessage = "the gateway does not confirm it, so that it may not be in force; asking again until it does"
const lostMessage = "the gateway no longer renews it; asking again until it does"

const notDeleted = (error: NatError.NatError): string => `it may be left on the gateway: ${NatError.brief(error)}`

/** Releases the mapping, or waits for its release, and prints the outcome. */
const printRelease = Effect.fnUntraced(function* (asJson: boolean, mapping: PortMapper.Mapping) {
  const last = yield* mapping.current
  yield* mapping.release.pipe(
    Waiting.forDeletion(last),
    Effect.matchEffect({
      onSuccess: () => Output.mappingEvent(asJson, "released", last),
      // What the error advises is for whoever wants a mapping.
      onFailure: (error) => Output.mappingFailure(asJson, last, error.reason._tag, notDeleted(error))
    })
  )
})

/**
 * Prints the release of the mapping that it is told of, once everything acquired later in this scope is closed.
 */
export const printReleaseAtEnd = Effect.fnUntraced(function* (asJson: boolean) {
  const held = yield* Ref.make<ReadonlyArray<PortMapper.Mapping>>([])
  yield* Effect.addFinalizer(() =>
    Effect.flatMap(
      Ref.get(held),
      Effect.forEach((mapping) => printRelease(asJson, mapping), { discard: true })
    )
  )
  return (mapping: PortMapper.Mapping) => Ref.set(held, [mapping])
})

const printChange = (asJson: boolean, changed: PortMapping.PortMapping) => {
  switch (changed.status) {
    case "mapped":
      return Output.mappingEvent(asJson, "changed", changed)
    case "unconfirmed":
      return Output.mappingFailure(asJson, changed, "Unconfirmed", unconfirmedMessage)
    case "lost":
      return Output.mappingFailure(asJson, changed, "Lost", lostMessage)
  }
}

/** Prints each change after what has been printed already; ends when the mapping is released. */
export const watch = Effect.fnUntraced(function* (
  asJson: boolean,
  mapping: PortMapper.Mapping,
  printed: PortMapping.PortMapping
) {
  const last = yield* Ref.make(printed)
  yield* Stream.runForEach(mapping.changes, (changed) =>
    Effect.flatMap(Ref.getAndSet(last, changed), (before) =>
      PortMapping.isSameContact(before, changed) ? Effect.void : printChange(asJson, changed)
    )
  )
})

/** What is granted is not always what was asked for, and whoever has told peers a port must hear of it. */
export const warnOfOtherPort = (wanted: number, mapping: PortMapping.PortMapping) =>
  mapping.externalPort === undefined || mapping.externalPort === wanted
    ? Effect.void
    : Effect.logWarning(
        `the external port ${wanted} is not free on the gateway: it granted ${mapping.externalPort} in its place`
      )

/** Maps, prints `mapped`, and prints `released` (or that it could not be) when the scope closes. */
export const acquire = Effect.fnUntraced(function* (asJson: boolean, request: MappingRequest.MappingRequest) {
  const mapper = yield* PortMapper.PortMapper
  return yield* Effect.uninterruptibleMask((restore) =>
    restore(mapper.map(request)).pipe(
      Waiting.forAnswer,
      Effect.tapError((error) => Output.requestFailure(asJson, request, error)),
      Effect.tap((mapping) => Effect.addFinalizer(() => printRelease(asJson, mapping))),
      Effect.flatMap((mapping) => Effect.map(mapping.current, (printed) => ({ mapping, printed }))),
      Effect.tap(({ printed }) => Output.mappingEvent(asJson, "mapped", printed)),
      Effect.tap(({ printed }) => warnOfOtherPort(request.externalPort ?? request.internalPort, printed))
    )
  )
})
