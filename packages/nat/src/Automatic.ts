/**
 * The automatic strategy: asks every protocol at once who answers, then maps by the one that did.
 *
 * Probes change nothing on a router, so they run side by side; a mapping is requested by one strategy at a time, since
 * the protocols share a router's table and undoing one request could take away what another has made. The strategies
 * stand in order of preference: a preferred one that is about to answer is waited for, briefly. What has mapped in a
 * network is used there from then on, without a probe, until it fails. A mapping whose protocol is gone goes on over
 * another one: `mapping.current` says over which.
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
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Gateway from "@effect-nat/core/Gateway"
import * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as Monotonic from "@effect-nat/core/Monotonic"
import * as NatError from "@effect-nat/core/NatError"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Strategy from "@effect-nat/core/Strategy"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as PortControl from "@effect-nat/natpmp/PortControl"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as UpnpDiscovery from "@effect-nat/upnp/UpnpDiscovery"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import type * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Fallback from "./Fallback.ts"
import * as FollowedMapping from "./internal/followedMapping.ts"
import { whichToTell } from "./internal/whichToTell.ts"

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
 * How long the strategy that answered first waits for a preferred one that has not answered yet, from when they were
 * asked: 150 milliseconds.
 *
 * @category defaults
 * @since 0.1.0
 */
export const preferenceGrace: Duration.Duration = Duration.millis(150)

/**
 * How long a strategy may map nothing before the others are asked whether they are there: 4 seconds, from the request or
 * from what it has mapped since. Where one of them answers, the request is undone and made by that one, and again by the
 * first where that fails.
 *
 * @category defaults
 * @since 0.1.0
 */
export const patience: Duration.Duration = Duration.seconds(4)

/** What each of them said, once where several said the same. */
const whatWasSaid = (causes: ReadonlyArray<{ readonly method: string; readonly detail: string }>): string => {
  const methods = Arr.groupBy(causes, ({ detail }) => detail)
  return Object.entries(methods)
    .map(([detail, those]) => `${those.map(({ method }) => method).join(" and ")}: ${detail}`)
    .join("; ")
}

/** A gateway that answered and cannot help says more than those that were silent. */
const whyNone = (failures: ReadonlyArray<readonly [Strategy.Strategy, NatError.NatError]>): NatError.NatError => {
  const answered = failures.find(([, { reason }]) => reason._tag !== "NoGateway" && reason._tag !== "Unreachable")
  if (answered !== undefined) return answered[1]
  const causes = failures.map(([{ method }, error]) => ({ method, detail: NatError.brief(error) }))
  return NatError.fromReason(new NatError.NoGateway({ detail: whatWasSaid(causes), causes }))
}

type Failed = Cause.Cause<NatError.NatError>

/** A defect is a bug of one strategy, of which the others know nothing. */
const isWorthAnotherTry = (failed: Failed): boolean =>
  !Cause.hasInterrupts(failed) &&
  Option.match(Cause.findErrorOption(failed), { onNone: () => true, onSome: Fallback.isWorthAnotherTry })

const tellAfter = (first: Failed, other: NatError.NatError): Failed =>
  Option.match(Cause.findErrorOption(first), {
    onNone: () => first,
    onSome: (error) => Cause.fail(whichToTell(error, other))
  })

const isUnsupported = (failed: Failed): boolean =>
  Option.exists(Cause.findErrorOption(failed), ({ reason }) => reason._tag === "Unsupported")

type Strategies = ReadonlyArray<Strategy.Strategy>

type Probe = (strategy: Strategy.Strategy) => Strategy.Strategy["probe"]

/**
 * Who is there: the preferred of those that answer within the grace, else the first that answers. All are asked in one
 * tick, the preferred first.
 */
const choose = Effect.fnUntraced(function* (strategies: Strategies, probe: Probe, probing: Scope.Scope) {
  const onFinding = yield* OnFinding
  const askedAt = yield* Clock.currentTimeMillis
  const probes = yield* Effect.forEach(strategies, (strategy) =>
    Effect.exit(probe(strategy)).pipe(
      Effect.tap((outcome) => onFinding({ method: strategy.method, outcome })),
      Effect.flatten,
      Effect.tapError((error) => Effect.logDebug(`no gateway over ${strategy.method}: ${NatError.brief(error)}`)),
      Effect.tapDefect((defect) => Effect.logError(`the search over ${strategy.method} broke`, defect)),
      Effect.map((gateway): FollowedMapping.Answer => ({ strategy, gateway })),
      Effect.mapError((error) => [strategy, error] as const),
      Effect.forkIn(probing)
    )
  )
  const answers = probes.map(Fiber.join)
  const first = yield* Effect.raceAll(answers).pipe(
    Effect.catch(() => Effect.flatMap(Effect.partition(answers, identity), ([, failures]) => whyNone(failures)))
  )
  const preferred = answers.slice(0, strategies.indexOf(first.strategy))
  const grace = Duration.toMillis(preferenceGrace) - ((yield* Clock.currentTimeMillis) - askedAt)
  if (preferred.length === 0 || grace <= 0) return first
  const better = yield* Effect.raceAll(preferred).pipe(
    Effect.timeoutOption(grace),
    Effect.catchCause(() => Effect.succeedNone)
  )
  return Option.getOrElse(better, () => first)
})

/** So that the request is on its way, and at the router, before the searches that keep both sides busy. */
const headStart = Duration.millis(5)

/** Waits for as long as the first one has a head start, but not for one that has failed. */
const behind = (first: Effect.Effect<unknown, unknown>, start: Duration.Duration) =>
  Effect.raceFirst(Effect.sleep(start), Effect.exit(Effect.andThen(first, Effect.never)))

/** A request that is under way while others are probed. */
interface Attempt {
  /** Whether its gateway is there, as far as it is known soon. */
  readonly probe: Strategy.Strategy["probe"]
  /** The mapping, whenever it is there; it never fails. */
  readonly adopted: Effect.Effect<FollowedMapping.Mapped>
  /** Fails when it has failed in a way in which all others would. */
  readonly decided: Effect.Effect<never, NatError.NatError>
  readonly result: Effect.Effect<FollowedMapping.Mapped, NatError.NatError>
  /** Undoes it, whatever has come of it: nothing is left. */
  readonly giveUp: Effect.Effect<void>
}

const silent = NatError.fromReason(new NatError.NoGateway({ detail: "no answer" }))

const gatewayOf = (method: string, { gateway, internalAddress }: PortMapping.PortMapping) =>
  gateway === undefined
    ? Effect.fail(silent)
    : Effect.succeed(
        new Gateway.Gateway({
          name: NetAddress.formatIp(gateway),
          address: gateway,
          method,
          localAddress: internalAddress,
          id: undefined,
          model: undefined
        })
      )

/**
 * In a scope of its own: what is granted to a request that is given up just then is released. What the strategy asks the
 * router beside it ends at the same time, so that the release does not wait for that.
 */
const mapWhole = Effect.fnUntraced(function* (strategy: Strategy.Strategy, request: MappingRequest.MappingRequest) {
  const own = yield* Scope.fork(yield* Effect.scope, "parallel")
  const mapping = yield* strategy.mapper.map(request).pipe(
    Scope.provide(own),
    Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
  )
  return { mapping, strategy } satisfies FollowedMapping.Mapped
})

/** Asks for a mapping that ends with the caller's scope, in a fiber that outlives the caller. */
const attempt = Effect.fnUntraced(function* (
  strategy: Strategy.Strategy,
  request: MappingRequest.MappingRequest,
  outlive: Scope.Scope
): Effect.fn.Return<Attempt, never, Scope.Scope> {
  const own = yield* Scope.fork(yield* Effect.scope)
  const asked = mapWhole(strategy, request).pipe(Scope.provide(own), Effect.provideService(Strategy.IsAttempt, true))
  const fiber = yield* Effect.forkIn(asked, outlive, { startImmediately: true })
  const result = Fiber.join(fiber)
  return {
    result,
    probe: result.pipe(
      Effect.flatMap(({ mapping }) => mapping.current),
      Effect.flatMap((mapping) => gatewayOf(strategy.method, mapping)),
      Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.fail(silent) })
    ),
    adopted: Effect.catchCause(result, () => Effect.never),
    decided: Effect.catchCauseIf(result, isWorthAnotherTry, () => Effect.never).pipe(Effect.andThen(Effect.never)),
    giveUp: Effect.andThen(Fiber.interrupt(fiber), Scope.close(own, Exit.void))
  }
})

/**
 * One after the other. Who has waited while another one found nobody there has waited for that: a hundred of them would
 * search a hundred times.
 */
const makeChoosing = Effect.map(Semaphore.make(1), (turn) => {
  let failure: { readonly where: string; readonly error: NatError.NatError; readonly at: number } | undefined
  const noteFailure = (where: string, error: NatError.NatError) =>
    Effect.map(Monotonic.millis, (at) => {
      if (error.reason._tag === "NoGateway") failure = { where, error, at }
    })
  return (where: string) =>
    <A, R>(chosen: Effect.Effect<A, NatError.NatError, R>) =>
      Effect.flatMap(Monotonic.millis, (askedAt) =>
        turn.withPermit(
          Effect.suspend(() => {
            if (failure?.where === where && failure.at > askedAt) return Effect.fail(failure.error)
            return Effect.tapError(chosen, (error) => noteFailure(where, error))
          })
        )
      )
})

type Look = Effect.Effect<FollowedMapping.Answer, NatError.NatError>

/** One look for all that want to know at about the same time, in one network: many mappings may be lost at once. */
const makeLook = (network: Effect.Effect<string>, look: Look) => {
  const turn = Semaphore.makeUnsafe(1)
  let last:
    | {
        readonly where: string
        readonly exit: Exit.Exit<FollowedMapping.Answer, NatError.NatError>
        readonly at: number
      }
    | undefined
  const lookNow = Effect.fnUntraced(function* (where: string) {
    const exit = yield* Effect.exit(look)
    last = { where, exit, at: yield* Monotonic.millis }
    return yield* exit
  })
  return (maxAge: Duration.Duration): Look =>
    turn.withPermit(
      Effect.flatMap(Effect.all([network, Monotonic.millis]), ([where, now]) =>
        last?.where === where && now - last.at <= Duration.toMillis(maxAge) ? last.exit : lookNow(where)
      )
    )
}

/** What is known of the networks that this host has been in: a strategy that answered there. */
interface Known {
  readonly strategy: Strategy.Strategy
  /** When it has last mapped there, in milliseconds of the monotonic clock. */
  readonly mappedAt: number
}

const hasNotMapped = Number.NEGATIVE_INFINITY

/** A laptop sees few networks in the life of a program. */
const mostNetworks = 16

const makeMemory = () => {
  const networks = new Map<string, Known>()
  return {
    recall: (network: string) => networks.get(network),
    keep: (network: string, known: Known) => {
      networks.delete(network)
      networks.set(network, known)
      const [oldest] = networks.keys()
      if (networks.size > mostNetworks && oldest !== undefined) networks.delete(oldest)
    },
    forget: (network: string) => networks.delete(network)
  }
}

/**
 * How the automatic strategy is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** What names the network that this host is in now; what works is remembered for each. By default there is one. */
  readonly network?: Effect.Effect<string> | undefined
}

/**
 * Chooses among strategies, the preferred first. The choice is kept for later requests in the same network until it
 * fails; a request that the chosen strategy cannot serve goes to the others, to one after the other. One that maps
 * nothing for `patience` gives way to another that answers.
 *
 * Where all fail, the error is the chosen strategy's own; where none answered, `NoGateway`, or what a gateway said that
 * cannot help. What each of them said is in the message and the `causes` of `NoGateway`, and in the log at debug level.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  strategies: Strategies,
  options: Options = {}
): Effect.fn.Return<PortMapper.PortMapper["Service"], never, Scope.Scope> {
  const scope = yield* Effect.scope
  const onFinding = yield* OnFinding
  const { network = Effect.succeed("") } = options
  const memory = makeMemory()
  const choosing = yield* makeChoosing

  const whoAnswers = (among: Strategies, probe: Probe = (strategy) => strategy.probe) =>
    Effect.flatMap(Scope.fork(scope), (probing) =>
      choose(among, probe, probing).pipe(
        // Whoever has lost is stopped, and nobody waits for that.
        Effect.onExit((exit) => Effect.forkIn(Scope.close(probing, exit), scope)),
        Effect.provideService(OnFinding, onFinding)
      )
    )

  /** This one, if it answers: others are asked only when it had time for that. */
  const askOwnFirst = Effect.fnUntraced(function* (own: Strategy.Strategy) {
    const asked = yield* Effect.cached(own.probe)
    const others = strategies.filter((other) => other !== own)
    return yield* whoAnswers([own, ...others], (strategy) =>
      strategy === own ? asked : Effect.andThen(behind(asked, patience), strategy.probe)
    )
  })

  const seek = (among: Strategies, probe?: Probe) => Effect.map(whoAnswers(among, probe), ({ strategy }) => strategy)

  const current = (where: string) =>
    Effect.suspend(() => {
      const known = memory.recall(where)
      if (known !== undefined) return Effect.succeed(known.strategy)
      return Effect.tap(seek(strategies), (strategy) =>
        Effect.sync(() => memory.keep(where, { strategy, mappedAt: hasNotMapped }))
      )
    }).pipe(choosing(where))

  const noteSuccess = (where: string, strategy: Strategy.Strategy) =>
    Effect.map(Monotonic.millis, (mappedAt) => memory.keep(where, { strategy, mappedAt }))

  /** A strategy that cannot do one thing may well be the best for another; one that failed is chosen anew. */
  const noteFailure = (where: string, { method }: Strategy.Strategy, failed: Failed) =>
    Effect.suspend(() => {
      if (isUnsupported(failed) || !isWorthAnotherTry(failed)) return Effect.void
      if (memory.recall(where)?.strategy.method === method) memory.forget(where)
      return Cause.hasDies(failed) ? Effect.logError(`${method} broke`, failed) : Effect.void
    })

  /** A router that has many mappings to make takes its time for each of them: then it is not silent. */
  const whenSilent = Effect.fnUntraced(function* (where: string, strategy: Strategy.Strategy) {
    let since = yield* Monotonic.millis
    while (true) {
      yield* Effect.sleep(Duration.toMillis(patience) + since - (yield* Monotonic.millis))
      const known = memory.recall(where)
      if (known?.strategy !== strategy || known.mappedAt <= since) return
      since = known.mappedAt
    }
  })

  /** Another strategy that answers when this one is silent. */
  const rivalOf = (where: string, strategy: Strategy.Strategy, others: Strategies) =>
    whenSilent(where, strategy).pipe(
      Effect.andThen(seek(others)),
      // Whoever says that it cannot help is no better than one that is slow.
      Effect.catch(() => Effect.never)
    )

  type RunOn<A, R> = (strategy: Strategy.Strategy) => Effect.Effect<A, NatError.NatError, R>
  type Rival = (strategy: Strategy.Strategy, others: Strategies) => Effect.Effect<Strategy.Strategy>

  /** Runs on the best of these, then, while it fails in a way that another may not, on the others. */
  const runAmong = <A, R>(
    among: Strategies,
    best: Strategy.Strategy,
    run: RunOn<A, R>,
    rival: Rival
  ): Effect.Effect<A, NatError.NatError, R> => {
    const others = among.filter((other) => other !== best)
    if (others.length === 0) return run(best)
    const onOthers = (next: Strategy.Strategy) => runAmong(others, next, run, rival)
    const asked = Effect.map(run(best), (done) => Effect.succeed(done))
    // What was asked is undone by then; where the others cannot do it either, it may have been slow.
    const givenUp = Effect.map(rival(best, others), (next) => Effect.catch(onOthers(next), () => run(best)))
    return Effect.raceFirst(asked, givenUp).pipe(
      Effect.catchCauseIf(isWorthAnotherTry, (failed) =>
        Effect.succeed(
          // A probe says soon that nobody speaks a protocol; a request would go on asking.
          Effect.flatMap(seek(others), onOthers).pipe(
            Effect.catch((other) => Effect.failCause(tellAfter(failed, other)))
          )
        )
      ),
      Effect.flatten
    )
  }

  const onBest = <A, R>(run: (mapper: PortMapper.PortMapper["Service"]) => Effect.Effect<A, NatError.NatError, R>) =>
    Effect.gen(function* () {
      const where = yield* network
      const best = yield* current(where)
      const runOn = (strategy: Strategy.Strategy) =>
        Effect.tapCause(run(strategy.mapper), (failed) => noteFailure(where, strategy, failed))
      return yield* runAmong(strategies, best, runOn, () => Effect.never)
    })

  /**
   * The other strategy is asked while the attempt is still under way: whichever is there first stays. Undoing what the
   * one has asked might have taken away what the other has made, which is renewed. A port that is taken may be so by what
   * the attempt has just mapped.
   */
  const mapBeside = (begun: Attempt, other: Strategy.Strategy, request: MappingRequest.MappingRequest) =>
    Effect.raceFirst(
      Effect.catchReason(mapWhole(other, request), "NatError", "Conflict", (_, error) =>
        Effect.andThen(behind(begun.result, patience), Effect.fail(error))
      ),
      begun.adopted
    ).pipe(
      Effect.onError(() => begun.giveUp),
      Effect.tap(({ mapping, strategy }) =>
        strategy === other ? Effect.forkIn(Effect.andThen(begun.giveUp, mapping.renew), scope) : mapping.renew
      )
    )

  /** In a network of which nothing is known the first request is the probe of the strategy that can do that. */
  const begin = Effect.fnUntraced(function* (
    where: string,
    first: Strategy.Strategy,
    request: MappingRequest.MappingRequest
  ) {
    const begun = yield* attempt(first, request, scope)
    const others = seek(strategies, (strategy) =>
      strategy === first ? begun.probe : Effect.andThen(behind(begun.result, headStart), strategy.probe)
    )
    const best = yield* Effect.raceFirst(others, begun.decided).pipe(
      // The caller's error does not wait for it.
      Effect.tapCause(() => Effect.forkIn(begun.giveUp, scope)),
      Effect.onInterrupt(() => begun.giveUp)
    )
    memory.keep(where, { strategy: best, mappedAt: hasNotMapped })
    return { best, ask: best === first ? begun.result : mapBeside(begun, best, request) }
  })

  /** Whom to ask first, and how where that is something special. */
  const beginning = (where: string, request: MappingRequest.MappingRequest) =>
    Effect.suspend(() => {
      const first = strategies.find(({ mapsAsProbe }) => mapsAsProbe === true)
      if (first === undefined || strategies.length === 1 || memory.recall(where) !== undefined) return Effect.undefined
      return begin(where, first, request)
    }).pipe(choosing(where))

  const mapNow = Effect.fnUntraced(function* (where: string, request: MappingRequest.MappingRequest) {
    const begun = yield* beginning(where, request)
    const best = begun?.best ?? (yield* current(where))
    const runOn = (strategy: Strategy.Strategy) =>
      (strategy === begun?.best ? begun.ask : mapWhole(strategy, request)).pipe(
        Effect.tap((mapped) => noteSuccess(where, mapped.strategy)),
        Effect.tapCause((failed) => noteFailure(where, strategy, failed))
      )
    return yield* runAmong(strategies, best, runOn, (strategy, others) =>
      strategy === begun?.best ? Effect.never : rivalOf(where, strategy, others)
    )
  })

  const looks = new Map<Strategy.Strategy, ReturnType<typeof makeLook>>()
  const lookOf = (strategy: Strategy.Strategy) => {
    const look = looks.get(strategy) ?? makeLook(network, askOwnFirst(strategy))
    looks.set(strategy, look)
    return look
  }

  const map = Effect.fn("Automatic.map")((request: MappingRequest.MappingRequest) =>
    FollowedMapping.make({
      whoAnswers: (strategy, maxAge) => lookOf(strategy)(maxAge),
      map: (lost) =>
        Effect.flatMap(network, (where) => {
          if (lost === undefined) return mapNow(where, request)
          // Unless another mapping that was lost has found another strategy already.
          if (memory.recall(where)?.strategy === lost.strategy) memory.forget(where)
          return mapNow(where, { ...request, externalPort: lost.last.externalPort ?? request.externalPort })
        })
    })
  )

  /** Of the first strategy that can list; which one maps does not matter for it. */
  const list = Stream.unwrap(
    Effect.map(Effect.flatMap(network, current), (best) => {
      const others = strategies.filter((other) => other !== best)
      return Fallback.inOrder([best.mapper, ...others.map(({ mapper }) => mapper)]).list
    })
  )

  return {
    map,
    externalAddress: onBest((mapper) => mapper.externalAddress),
    list,
    remove: (key) => onBest((mapper) => mapper.remove(key))
  }
})

/** The preferred first: what PCP maps takes one exchange, and nobody else can change it. */
const makeStrategies: Effect.Effect<Strategies, never, UpnpDiscovery.Network | Scope.Scope> = Effect.gen(function* () {
  const { natPmp, pcp } = yield* PortControl.makeStrategies()
  return [pcp, natPmp, yield* Upnp.makeStrategy]
})

/** Without a socket: every mapping asks. */
const ownTowards = (interfaces: ReadonlyArray<NetworkInterfaces.NetworkInterface>, gateway: NetAddress.IpAddress) =>
  interfaces
    .flatMap(({ addresses }) => addresses)
    .filter((own) => IpNetwork.contains(IpNetwork.fromInterface(own), gateway))
    .map((own) => NetAddress.formatIp(own.address))

/** The default gateway's address and this host's own in its network, or that there is none. */
const makeNetwork = Effect.gen(function* () {
  const { list } = yield* NetworkInterfaces.NetworkInterfaces
  const { routes } = yield* DefaultRoute.DefaultRoute
  return Effect.gen(function* () {
    const gateway = (yield* routes).map((route) => route.gateway).find(NetAddress.isIpv4Address)
    if (gateway === undefined) return "no gateway"
    return [NetAddress.formatIp(gateway), ...ownTowards(yield* list, gateway)].join(" ")
  })
})

/**
 * The strategy over what exists so far: PCP, then NAT-PMP, then UPnP. What works is remembered for each network: a
 * default gateway and this host's own address in its network.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<PortMapper.PortMapper, never, UpnpDiscovery.Network> = Layer.effect(
  PortMapper.PortMapper,
  Effect.flatMap(Effect.all([makeStrategies, makeNetwork]), ([strategies, network]) => make(strategies, { network }))
)

/**
 * What came of one gateway of several.
 *
 * @category models
 * @since 0.1.0
 */
export interface OnGateway {
  readonly gateway: NetAddress.IpAddress
  readonly result: Result.Result<PortMapper.Mapping, NatError.NatError>
}

/** The default gateways first, then whoever calls itself one over UPnP. */
const everyGateway = Effect.gen(function* () {
  const { routes } = yield* DefaultRoute.DefaultRoute
  const defaults = (yield* routes).map((route) => route.gateway).filter(NetAddress.isIpv4Address)
  const found = yield* Stream.runCollect(UpnpDiscovery.gateways)
  return Arr.dedupe([...defaults, ...found.map((gateway) => gateway.address)])
})

/** What the strategies open when they are first asked is closed after the mapping that needs it for its release. */
const makeScopes = Effect.gen(function* () {
  const scopes = { strategies: yield* Scope.make(), mapping: yield* Scope.make() }
  const close = (exit: Exit.Exit<unknown, unknown>) =>
    Effect.andThen(Scope.close(scopes.mapping, exit), Scope.close(scopes.strategies, exit))
  yield* Effect.addFinalizer(close)
  return { ...scopes, close }
})

const mapOn = Effect.fnUntraced(function* (gateway: NetAddress.IpAddress, request: MappingRequest.MappingRequest) {
  const { close, mapping, strategies } = yield* makeScopes
  const result = yield* Effect.flatMap(makeStrategies, (all) => make(all)).pipe(
    Effect.provideService(Gateway.Selected, NetAddress.formatIp(gateway)),
    Scope.provide(strategies),
    Effect.flatMap((mapper) => Scope.provide(mapper.map(request), mapping)),
    Effect.onExit((exit) => (Exit.isFailure(exit) ? close(exit) : Effect.void)),
    Effect.result
  )
  const outcome: OnGateway = { gateway, result }
  return outcome
})

/**
 * Maps a port on every gateway of this host's network at once, by the best protocol of each: a mapping, or why there is
 * none, for each, the default gateway first. `Upnp.mapAll` does so over UPnP alone.
 *
 * **Details**
 *
 * The gateways are the default routes' and those that answer a search over UPnP, which takes 3 seconds. None delays
 * another one's mapping. Each mapping is renewed by itself, and all are released at once when the scope closes. Fails
 * with `NoGateway` where there is no gateway at all, `Unreachable` where no socket can be opened, and with
 * `InvalidRequest` before anything is sent.
 *
 * @category constructors
 * @since 0.1.0
 */
export const mapAll = Effect.fn("Automatic.mapAll")(function* (
  request: MappingRequest.MappingRequest
): Effect.fn.Return<ReadonlyArray<OnGateway>, NatError.NatError, UpnpDiscovery.Network | Scope.Scope> {
  yield* MappingRequest.resolve(request)
  const gateways = yield* everyGateway
  if (gateways.length === 0) return yield* whyNone([])
  const all = yield* Scope.fork(yield* Effect.scope, "parallel")
  const each = Effect.forEach(gateways, (gateway) => mapOn(gateway, request), { concurrency: "unbounded" })
  return yield* Scope.provide(each, all)
})
