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
import type * as HttpListener from "@effect-nat/core/HttpListener"
import * as NatError from "@effect-nat/core/NatError"
import type * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as Strategy from "@effect-nat/core/Strategy"
import type * as Udp from "@effect-nat/core/Udp"
import * as PortControl from "@effect-nat/natpmp/PortControl"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"

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

/** A gateway that answered and cannot help says more than those that were silent. */
const whyNone = (failures: ReadonlyArray<readonly [Strategy.Strategy, NatError.NatError]>): NatError.NatError => {
  const answered = failures.find(([, { reason }]) => reason._tag !== "NoGateway" && reason._tag !== "Unreachable")
  if (answered !== undefined) return answered[1]
  const detail = failures.map(([{ method }, error]) => `${method}: ${NatError.brief(error)}`).join("; ")
  return NatError.fromReason(new NatError.NoGateway({ detail }))
}

/** What another strategy may do better; an invalid request stays invalid and a taken port stays taken. */
const worthAnotherTry = (error: NatError.NatError): boolean =>
  error.reason._tag !== "InvalidRequest" && error.reason._tag !== "Conflict"

/** The strategy to use, and the others in the order to fall back on. */
const choose = Effect.fnUntraced(function* (strategies: ReadonlyArray<Strategy.Strategy>) {
  const onFinding = yield* OnFinding
  const probes = yield* Effect.forEach(strategies, (strategy) =>
    Effect.exit(strategy.probe).pipe(
      Effect.tap((outcome) => onFinding({ method: strategy.method, outcome })),
      Effect.flatten,
      Effect.as(strategy),
      Effect.mapError((error) => [strategy, error] as const),
      Effect.forkScoped
    )
  )
  const answers = probes.map(Fiber.join)
  const first = yield* Effect.raceAll(answers).pipe(
    Effect.catch(() => Effect.flatMap(Effect.partition(answers, identity), ([, failures]) => whyNone(failures)))
  )
  const preferred = answers.slice(0, strategies.indexOf(first))
  if (preferred.length === 0) return first
  const better = yield* Effect.raceAll(preferred).pipe(
    Effect.timeoutOption(preferenceGrace),
    Effect.orElseSucceed(Option.none<Strategy.Strategy>)
  )
  return Option.getOrElse(better, () => first)
}, Effect.scoped)

/**
 * Chooses among strategies, the preferred first. The choice is kept for later requests until it fails; a request that
 * the chosen strategy cannot serve goes to the others, one after the other. Where all fail, the error is the chosen
 * strategy's own; where none answered, `NoGateway` with what each of them said, or what a gateway said that cannot help.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  strategies: ReadonlyArray<Strategy.Strategy>
): Effect.fn.Return<PortMapper.PortMapper["Service"]> {
  const onFinding = yield* OnFinding
  const chosen = yield* Ref.make(Option.none<Strategy.Strategy>())
  const oneChoice = yield* Semaphore.make(1)

  const current = Ref.get(chosen).pipe(
    Effect.flatMap(
      Option.match({
        onSome: Effect.succeed,
        onNone: () => Effect.tap(choose(strategies), (strategy) => Ref.set(chosen, Option.some(strategy)))
      })
    ),
    oneChoice.withPermits(1),
    Effect.provideService(OnFinding, onFinding)
  )
  const othersThan = (strategy: Strategy.Strategy) => strategies.filter((other) => other !== strategy)
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
            // A probe says soon that nobody speaks a protocol; a request would go on asking.
            Effect.andThen(
              Effect.firstSuccessOf(othersThan(best).map((other) => Effect.andThen(other.probe, run(other.mapper))))
            ),
            // That a protocol lacks an operation says less than what another said to it.
            Effect.mapError((other) => (error.reason._tag === "Unsupported" ? other : error))
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

/** The preferred first: what PCP maps takes one exchange, and nobody else can change it. */
const makeStrategies = Effect.gen(function* () {
  const { natPmp, pcp } = yield* PortControl.makeStrategies()
  return [pcp, natPmp, yield* Upnp.makeStrategy]
})

/**
 * The strategy over what exists so far: PCP, then NAT-PMP, then UPnP.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  PortMapper.PortMapper,
  never,
  Udp.Udp | Http.Http | HttpListener.HttpListener | NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute
> = Layer.effect(PortMapper.PortMapper, Effect.flatMap(makeStrategies, make))
