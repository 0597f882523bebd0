/**
 * The automatic strategy: asks every protocol at once who answers, then maps by the one that did.
 *
 * Probes change nothing on a router, so they run side by side; a mapping is requested by one strategy at a time. The
 * strategies stand in order of preference: a preferred one that is about to answer is waited for, briefly.
 *
 * **Example** (Map a port, whatever the router speaks)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import * as NodeHost from "@effect-nat/core/NodeHost"
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as Automatic from "effect-nat/Automatic"
 *
 * export const program = PortMapper.PortMapper.use((mapper) => mapper.externalAddress).pipe(
 *   Effect.provide(Automatic.layer.pipe(Layer.provide(NodeHost.layer)))
 * )
 * ```
 *
 * @since 0.1.0
 */
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import type * as Gateway from "@effect-nat/core/Gateway"
import type * as Http from "@effect-nat/core/Http"
import * as NatError from "@effect-nat/core/NatError"
import type * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as Udp from "@effect-nat/core/Udp"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"

/**
 * One strategy to choose from.
 *
 * @category models
 * @since 0.1.0
 */
export interface Candidate {
  /** The strategy's name, as in `PortMapping.method`. */
  readonly method: string
  /** Finds out, without changing anything, whether a gateway answers this strategy's protocol; bounds its own time. */
  readonly probe: Effect.Effect<Gateway.Gateway, NatError.NatError>
  readonly mapper: PortMapper.PortMapper["Service"]
}

/**
 * What one probe found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Finding {
  readonly method: string
  readonly outcome: Exit.Exit<Gateway.Gateway, NatError.NatError>
}

/**
 * Hears what each probe found, as soon as it did. By default nobody listens.
 *
 * @category references
 * @since 0.1.0
 */
export const OnFinding: Context.Reference<(finding: Finding) => Effect.Effect<void>> = Context.Reference<
  (finding: Finding) => Effect.Effect<void>
>("effect-nat/Automatic/OnFinding", { defaultValue: () => () => Effect.void })

/**
 * How long an answer waits for a preferred strategy that has not answered yet.
 *
 * @category defaults
 * @since 0.1.0
 */
export const preferenceGrace: Duration.Duration = Duration.millis(150)

const said = (candidate: Candidate, error: NatError.NatError) => `${candidate.method}: ${NatError.brief(error)}`

/** What another strategy may do better; an invalid request stays invalid and a taken port stays taken. */
const worthAnotherTry = (error: NatError.NatError): boolean =>
  error.reason._tag !== "InvalidRequest" && error.reason._tag !== "Conflict"

/** The candidate to use, and the others in the order to fall back on. */
const choose = Effect.fnUntraced(function* (candidates: ReadonlyArray<Candidate>) {
  const onFinding = yield* OnFinding
  const probes = yield* Effect.forEach(candidates, (candidate) =>
    Effect.exit(candidate.probe).pipe(
      Effect.tap((outcome) => onFinding({ method: candidate.method, outcome })),
      Effect.flatten,
      Effect.as(candidate),
      Effect.mapError((error) => said(candidate, error)),
      Effect.forkScoped
    )
  )
  const allSaid = Effect.forEach(probes, (probe) =>
    Effect.match(Fiber.join(probe), { onFailure: (text) => text, onSuccess: () => "" })
  )
  const first = yield* Effect.raceAll(probes.map(Fiber.join)).pipe(
    Effect.catch(() =>
      Effect.flatMap(allSaid, (texts) => NatError.fromReason(new NatError.NoGateway({ detail: texts.join("; ") })))
    )
  )
  const preferred = probes.slice(0, candidates.indexOf(first))
  if (preferred.length === 0) return first
  const better = yield* Effect.raceAll(preferred.map(Fiber.join)).pipe(
    Effect.timeoutOption(preferenceGrace),
    Effect.orElseSucceed(Option.none<Candidate>)
  )
  return Option.getOrElse(better, () => first)
}, Effect.scoped)

/**
 * Chooses among candidates, the preferred first. The choice is kept for later requests until it fails; a request that
 * the chosen strategy cannot serve goes to the others, one after the other. Where all fail, the error is the chosen
 * strategy's own, or `NoGateway` with what each of them said where none answered.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  candidates: ReadonlyArray<Candidate>
): Effect.fn.Return<PortMapper.PortMapper["Service"]> {
  const onFinding = yield* OnFinding
  const chosen = yield* Ref.make(Option.none<Candidate>())
  const oneChoice = yield* Semaphore.make(1)

  const current = Ref.get(chosen).pipe(
    Effect.flatMap(
      Option.match({
        onSome: Effect.succeed,
        onNone: () => Effect.tap(choose(candidates), (candidate) => Ref.set(chosen, Option.some(candidate)))
      })
    ),
    oneChoice.withPermits(1),
    Effect.provideService(OnFinding, onFinding)
  )
  const othersThan = (candidate: Candidate) => candidates.filter((other) => other !== candidate)
  /** A strategy that cannot do one thing may well be the best for another; one that failed is chosen anew. */
  const reconsider = (error: NatError.NatError) =>
    error.reason._tag === "Unsupported" ? Effect.void : Ref.set(chosen, Option.none())

  /** Runs on the chosen strategy, then, while it fails in a way that another may not, on the others. */
  const onBest = <A, R>(run: (mapper: PortMapper.PortMapper["Service"]) => Effect.Effect<A, NatError.NatError, R>) =>
    Effect.gen(function* () {
      const best = yield* current
      return yield* run(best.mapper).pipe(
        Effect.catchIf(worthAnotherTry, (error) =>
          reconsider(error).pipe(
            Effect.andThen(Effect.firstSuccessOf(othersThan(best).map((other) => run(other.mapper)))),
            Effect.mapError(() => error)
          )
        )
      )
    })

  /** The first of all strategies that supports an operation; which one maps does not matter for it. */
  const firstSupporting = Stream.unwrap(
    Effect.map(current, (best) =>
      othersThan(best).reduce(
        (stream, other) =>
          Stream.catchIf(
            stream,
            (error) => error.reason._tag === "Unsupported",
            () => other.mapper.list
          ),
        best.mapper.list
      )
    )
  )

  return {
    map: (request) => onBest((mapper) => mapper.map(request)),
    externalAddress: onBest((mapper) => mapper.externalAddress),
    list: firstSupporting,
    remove: (key) => onBest((mapper) => mapper.remove(key))
  }
})

/**
 * The strategy over what exists so far: NAT-PMP, then UPnP.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  PortMapper.PortMapper,
  never,
  Udp.Udp | Http.Http | NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute
> = Layer.effect(
  PortMapper.PortMapper,
  Effect.gen(function* () {
    const host = yield* Effect.context<
      Udp.Udp | Http.Http | NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute
    >()
    const natPmp = yield* Layer.build(NatPmp.layer)
    const upnp = yield* Layer.build(Upnp.layer)
    return yield* make([
      {
        method: "natpmp",
        probe: Effect.map(NatPmp.probe, (answer) => answer.gateway).pipe(Effect.provideContext(host)),
        mapper: Context.get(natPmp, PortMapper.PortMapper)
      },
      {
        method: "upnp",
        probe: Effect.map(Upnp.probe, (answer) => answer.gateway).pipe(Effect.provideContext(host)),
        mapper: Context.get(upnp, PortMapper.PortMapper)
      }
    ])
  })
)
