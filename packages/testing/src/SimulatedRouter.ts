/**
 * A router for tests, without a router and without sockets: it stands where a protocol stands, below the lease engine,
 * so renewal, healing and release are the real code, and `TestClock` drives its leases.
 *
 * The layer gives a program its `PortMapper` and the test a handle on the router: to read its table, and to make
 * things happen to it. Answers take no time; a silent router's do not come, and its requests end with `TimedOut` after
 * `requestTimeout`: a mapping's after twice that, since what it may have done is undone first.
 *
 * **Example** (A program follows a change of the external address)
 *
 * ```ts
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as PortMapping from "@effect-nat/core/PortMapping"
 * import * as SimulatedRouter from "@effect-nat/testing/SimulatedRouter"
 * import { assert, it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { TestClock } from "effect/testing"
 *
 * it.effect("follows a new address", () =>
 *   Effect.gen(function* () {
 *     const router = yield* SimulatedRouter.SimulatedRouter
 *     const mapper = yield* PortMapper.PortMapper
 *     const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 12000, lifetime: "1 hour" })
 *     yield* router.changeExternalAddress("11.22.33.2")
 *     yield* TestClock.adjust("30 minutes")
 *     assert.strictEqual(PortMapping.format(yield* mapping.current), "11.22.33.2:12000/tcp")
 *   }).pipe(Effect.provide(SimulatedRouter.layer()))
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Gateway from "@effect-nat/core/Gateway"
import * as GatewayDiscovery from "@effect-nat/core/GatewayDiscovery"
import * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import type * as Strategy from "@effect-nat/core/Strategy"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as OptionChecks from "./internal/optionChecks.ts"
import * as RouterModel from "./RouterModel.ts"

/**
 * The method of mappings that a simulated router made.
 *
 * @category constants
 * @since 0.1.0
 */
export const method = "mock"

/**
 * How long a request to a silent router waits for its answer when nobody says otherwise: 2 seconds. One for a mapping
 * fails after twice as long, since the deletion that undoes it waits as well.
 *
 * @category defaults
 * @since 0.1.0
 */
export const requestTimeout: Duration.Duration = Duration.seconds(2)

/**
 * The host that asks the router.
 *
 * @category models
 * @since 0.1.0
 */
export interface HostOptions {
  /** The host's own IPv4 address, which mappings lead to by default; not the router's. Defaults to 192.168.77.2. */
  readonly localAddress?: string | undefined
  /**
   * How long a request to a silent router waits: zero or more, and finite. Defaults to 2 seconds. A `map` waits twice: for
   * its answer, and for that to the deletion that undoes it.
   */
  readonly requestTimeout?: Duration.Input | undefined
}

/**
 * How a router is made: as its model is, with addresses as text and times as durations. A quirk that cannot show where
 * the router is simulated is refused.
 *
 * @category models
 * @since 0.1.0
 */
export interface RouterOptions extends Pick<RouterModel.Options, "capacity" | "name" | "quirks"> {
  /** The router's IPv4 address on the inside. Defaults to 192.168.77.1. */
  readonly address?: string | undefined
  /** `undefined` is 11.22.33.1, or what a quirk has it be; `null` is a line without an address. */
  readonly externalAddress?: string | null | undefined
  /**
   * The longest lease granted, at least one second; `"Infinity"` is no limit. Defaults to one week. A permanent mapping
   * has no lease and is not cut: the quirk `RefusesPermanentLeases` has such requests refused.
   */
  readonly maxLifetime?: Duration.Input | undefined
}

/**
 * A router, and the host that asks it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends RouterOptions, HostOptions {}

/**
 * A test's handle on the router. Reading counts as no request, and nothing here takes time.
 *
 * @category services
 * @since 0.1.0
 */
export class SimulatedRouter extends Context.Service<
  SimulatedRouter,
  {
    /** The router itself, for whoever drives it without Effect. */
    readonly model: RouterModel.RouterModel
    /** The mapping table, everybody's, the oldest row first, renewed or not; leases that have run out are gone. */
    readonly table: Effect.Effect<ReadonlyArray<RouterModel.Entry>>
    /**
     * The requests that arrived so far, answered or not, the oldest first, of very many the last
     * `RouterModel.maximumAsked`: here `"probe"`, `"map"`, `"renew"`,
     * `"delete"`, `"list"` and `"externalAddress"`. On a wire the actions have the names of its protocol, which
     * `RouterModel.Asked` lists: a test that is to run in several strengths goes by `isMutating`.
     */
    readonly asked: Effect.Effect<ReadonlyArray<RouterModel.Asked>>
    /**
     * Where a packet from the world to an external port goes: the internal address and port, or `undefined` where
     * nothing is mapped. The sender's address defaults to 8.8.8.8; fails with `InvalidRequest` where it is none.
     */
    readonly forward: (
      protocol: PortMapping.Protocol,
      externalPort: number,
      from?: string
    ) => Effect.Effect<NetAddress.InetAddress | undefined, NatError.NatError>
    /**
     * Restarts the router: its mappings are gone unless it keeps them, by a quirk or told so. Over NAT-PMP and PCP clients
     * tell a restart by the time since the one before: one that follows it within two seconds shows to nobody (RFC 6887
     * §8.5).
     */
    readonly reboot: (options?: { readonly keepsTable?: boolean | undefined }) => Effect.Effect<void>
    /** Gives the line another address, or none by `null` or `undefined`; fails with `InvalidRequest` where the text is no address. */
    readonly changeExternalAddress: (address: string | null | undefined) => Effect.Effect<void, NatError.NatError>
    /**
     * Refuses the next mapping requests, renewals among them, one for each kind given. What a client asks for in place
     * of what was refused is the next request. Fails with `InvalidRequest` for a kind that does not exist.
     */
    readonly refuseNext: (...kinds: ReadonlyArray<RouterModel.RefusalKind>) => Effect.Effect<void, NatError.NatError>
    /**
     * Hears the next request of any kind and does what it asks, and the answer is lost on its way. On a wire that is one
     * to a call, to a request for the description, which clients repeat, or to a NAT-PMP or PCP request, but none to a
     * search.
     */
    readonly loseNextAnswer: Effect.Effect<void>
    /** Hears and answers nothing for some time, by default until `wake`. Fails with `InvalidRequest` where that is no time. */
    readonly goSilent: (duration?: Duration.Input) => Effect.Effect<void, NatError.NatError>
    /** Answers again. */
    readonly wake: Effect.Effect<void>
  }
>()("@effect-nat/testing/SimulatedRouter") {}

const finite: OptionChecks.Takes = {
  text: 'a finite time, for example "2 seconds"',
  isGood: (time) => Duration.isFinite(time) && !Duration.isNegative(time)
}
const anyTime: OptionChecks.Takes = {
  text: 'a time, for example "1 hour", or "Infinity" to wait for wake',
  isGood: (time) => !Duration.isNegative(time)
}

/**
 * A handle on a router that exists, for tests where several hosts, or several runs of one program, share it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromModel = (model: RouterModel.RouterModel): SimulatedRouter["Service"] => {
  const now = Clock.currentTimeMillis
  return {
    model,
    table: Effect.map(now, (at) => [...model.entries(at)]),
    asked: Effect.sync(() => [...model.asked]),
    forward: Effect.fn("SimulatedRouter.forward")(function* (protocol, externalPort, from = "8.8.8.8") {
      return model.forward(yield* now, protocol, externalPort, yield* OptionChecks.parse("the sender's address", from))
    }),
    reboot: (options) => Effect.map(now, (at) => model.reboot(at, options)),
    changeExternalAddress: Effect.fn("SimulatedRouter.changeExternalAddress")(function* (text) {
      const address = yield* OptionChecks.parseOptional("the external address", text)
      model.changeExternalAddress(address ?? undefined)
    }),
    refuseNext: (...kinds) =>
      Effect.andThen(
        OptionChecks.checkKinds(kinds),
        Effect.sync(() => model.refuseNext(...kinds))
      ),
    loseNextAnswer: Effect.sync(() => model.loseNextAnswer()),
    goSilent: Effect.fn("SimulatedRouter.goSilent")(function* (duration = Duration.infinity) {
      const time = yield* OptionChecks.checkTime("the time of goSilent", duration, anyTime)
      model.goSilent((yield* now) + Duration.toMillis(time))
    }),
    wake: Effect.sync(() => model.wake())
  }
}

/**
 * Makes a router that has run for an hour. Fails with `InvalidRequest` where an option is not what it has to be, and for
 * a quirk that cannot show here.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("SimulatedRouter.make")(
  (options: RouterOptions = {}): Effect.Effect<SimulatedRouter["Service"], NatError.NatError> =>
    Effect.map(OptionChecks.toModel("mock", options), fromModel)
)

const timedOut = (action: string) =>
  NatError.fromReason(new NatError.TimedOut({ detail: `the simulated router did not answer "${action}"` }))

const unsupported: (detail: string) => NatError.NatErrorReason = (detail) =>
  new NatError.Unsupported({ operation: "this mapping on the simulated router", detail })
const outOfResources = (detail: string) => new NatError.OutOfResources({ detail })

/** As the real strategies understand the same refusals. */
const reasons: Readonly<
  Record<RouterModel.RefusalKind, (detail: string, externalPort: number) => NatError.NatErrorReason>
> = {
  Conflict: (detail, externalPort) => new NatError.Conflict({ externalPort, detail }),
  NotAuthorized: (detail) => new NatError.NotAuthorized({ detail }),
  OutOfResources: outOfResources,
  OnlyPermanentLeases: (detail) => new NatError.OnlyPermanentLeases({ detail }),
  SamePortRequired: unsupported,
  RemoteHostWildcardOnly: unsupported,
  ExternalPortWildcardOnly: unsupported,
  ExternalPortWildcardForbidden: unsupported,
  InternalPortWildcardForbidden: unsupported,
  NoSuchEntry: (detail) => new NatError.NoSuchMapping({ detail }),
  InvalidLifetime: unsupported,
  NetworkFailure: (detail) => new NatError.NoExternalAddress({ detail }),
  ActionFailed: outOfResources
}

const toNatError = ({ igdCode, kind }: RouterModel.Refusal, externalPort: number): NatError.NatError =>
  NatError.fromReason(
    reasons[kind](`the simulated router refused with ${kind}, which UPnP calls ${igdCode}`, externalPort)
  )

/** Whoever asks, and how. */
interface Environment {
  readonly model: RouterModel.RouterModel
  readonly localAddress: NetAddress.IpAddress
  readonly timeout: Duration.Duration
  readonly selected: string | undefined
  readonly ledger: Ledger.Service
  readonly network: NetworkWatch.Service
  /** What the router turned out to take: other mappings and renewals need not try. */
  readonly leases: Ref.Ref<"Any" | "OnlyPermanent" | "AtMostOneWeek">
  /** The names of the rows that this host's mappings are. */
  readonly held: Set<string>
}

const rowName = ({ externalPort, protocol }: RouterModel.Entry): string => `${externalPort}/${protocol}`

type Lease = LeaseEngine.Lease<RouterModel.Entry>

/** One request and its answer. */
const ask = Effect.fnUntraced(function* <A>(
  { localAddress, model, timeout }: Environment,
  request: { readonly action: string; readonly isMutating: boolean },
  answer: (now: number) => A
) {
  const now = yield* Clock.currentTimeMillis
  const { action, isMutating } = request
  const asked = { at: now, via: "mock", client: localAddress, action, isMutating } as const
  const answered = model.serve(asked, () => ({ value: answer(now) }))
  if (answered !== undefined) return answered.value
  yield* Effect.sleep(timeout)
  return yield* timedOut(action)
})

const checkSelected = Effect.fnUntraced(function* ({ model, selected }: Environment) {
  if (Gateway.isSelected(model, selected)) return
  return yield* NatError.fromReason(
    new NatError.NoGateway({ detail: `none is called "${selected}"; seen: ${model.name}` })
  )
})

const usableAddress = (model: RouterModel.RouterModel): NetAddress.IpAddress | undefined =>
  model.externalAddress === undefined || NetAddress.isUnspecified(model.externalAddress)
    ? undefined
    : model.externalAddress

const toMapping = (entry: RouterModel.Entry, now: number, model: RouterModel.RouterModel): PortMapping.PortMapping =>
  new PortMapping.PortMapping({
    remoteHost: entry.remoteHost,
    externalAddress: usableAddress(model),
    externalPort: entry.externalPort,
    protocol: entry.protocol,
    internalPort: entry.internalPort,
    internalAddress: entry.internalAddress,
    enabled: entry.enabled,
    description: entry.description,
    lifetime: entry.expiresAt === undefined ? Duration.infinity : Duration.millis(entry.expiresAt - now),
    gateway: model.address,
    method,
    status: "mapped"
  })

/** The longest lease that every router takes, where a longer one, or one without an end, was wanted. */
const atMostOneWeek = (lifetimeSeconds: number): number =>
  lifetimeSeconds === 0 ? RouterModel.oneWeek : Math.min(lifetimeSeconds, RouterModel.oneWeek)

/** 0 is a permanent lease. */
const lifetimeSecondsOf = Effect.fnUntraced(function* ({ leases }: Environment, lifetime: Duration.Duration) {
  const takes = yield* Ref.get(leases)
  const seconds = Duration.isFinite(lifetime) ? Math.max(1, Math.ceil(Duration.toSeconds(lifetime))) : 0
  if (takes === "OnlyPermanent") return 0
  return takes === "AtMostOneWeek" ? atMostOneWeek(seconds) : seconds
})

/** Another external port is tried this often, as over UPnP. */
const maximumOtherPorts = 4

/** The next one that is in nobody's row: our own rows would be led elsewhere. */
const portAfter = (
  { externalPort, protocol }: RouterModel.MapRequest,
  entries: ReadonlyArray<RouterModel.Entry>
): number | undefined => {
  const { firstDynamicPort, lastPort } = RouterModel
  const taken = new Set(entries.flatMap((entry) => (entry.protocol === protocol ? [entry.externalPort] : [])))
  const isHigh = externalPort >= firstDynamicPort && externalPort < lastPort
  for (let port = isHigh ? externalPort + 1 : firstDynamicPort; port <= lastPort; port++) {
    if (!taken.has(port)) return port
  }
  return undefined
}

/** Where an earlier run left the same mapping without an end, that one: another beside it would never go away. */
const likeEarlierRun = (
  wanted: RouterModel.MapRequest,
  entries: ReadonlyArray<RouterModel.Entry>,
  held: ReadonlySet<string>
): RouterModel.MapRequest => {
  if (wanted.lifetimeSeconds !== 0 || !wanted.mayChoosePort) return wanted
  const earlier = entries.find(
    (entry) =>
      entry.expiresAt === undefined &&
      entry.via === wanted.via &&
      entry.protocol === wanted.protocol &&
      entry.internalPort === wanted.internalPort &&
      entry.description === wanted.description &&
      Equal.equals(entry.internalAddress, wanted.internalAddress) &&
      !held.has(rowName(entry))
  )
  return earlier === undefined ? wanted : { ...wanted, externalPort: earlier.externalPort }
}

/** What a refusal suggests to ask for, as the real strategies do; nothing where nothing would be better. */
const suggestion = (
  kind: RouterModel.RefusalKind,
  asked: RouterModel.MapRequest,
  entries: ReadonlyArray<RouterModel.Entry>
): { readonly externalPort?: number | undefined; readonly lifetimeSeconds?: number } => {
  if (kind === "OnlyPermanentLeases") return { lifetimeSeconds: 0 }
  if (kind === "InvalidLifetime") return { lifetimeSeconds: atMostOneWeek(asked.lifetimeSeconds) }
  if (!asked.mayChoosePort) return {}
  if (kind === "SamePortRequired") return { externalPort: asked.internalPort }
  return kind === "Conflict" ? { externalPort: portAfter(asked, entries) } : {}
}

/** What may be asked for instead. `asked` has the last request first; nothing is asked for twice. */
const insteadOf = (
  refusal: RouterModel.Refusal,
  asked: readonly [RouterModel.MapRequest, ...ReadonlyArray<RouterModel.MapRequest>],
  entries: ReadonlyArray<RouterModel.Entry>
): RouterModel.MapRequest | undefined => {
  const [last] = asked
  const { externalPort = last.externalPort, lifetimeSeconds = last.lifetimeSeconds } = suggestion(
    refusal.kind,
    last,
    entries
  )
  const isAsked = asked.some((one) => one.externalPort === externalPort && one.lifetimeSeconds === lifetimeSeconds)
  const ports = new Set([...asked.map((one) => one.externalPort), externalPort])
  return isAsked || ports.size > 1 + maximumOtherPorts ? undefined : { ...last, externalPort, lifetimeSeconds }
}

const isSameRow = (self: RouterModel.Entry, that: RouterModel.Entry): boolean =>
  self.via === that.via &&
  self.protocol === that.protocol &&
  self.externalPort === that.externalPort &&
  self.internalPort === that.internalPort &&
  Equal.equals(self.internalAddress, that.internalAddress)

/** Whether a limited lease was granted and is not there. */
const isForgotten = (granted: RouterModel.Entry, entries: ReadonlyArray<RouterModel.Entry>): boolean =>
  granted.expiresAt !== undefined && !entries.some((entry) => isSameRow(entry, granted))

/** Whether there was anything to delete, whatever the router says of it. */
const remove = (environment: Environment, which: (entry: RouterModel.Entry) => boolean) =>
  ask(environment, { action: "delete", isMutating: true }, (now) => {
    const wasThere = environment.model.entries(now).some(which)
    environment.model.unmap(now, which)
    return wasThere
  })

const checkFamily = Effect.fnUntraced(function* (
  { localAddress }: Environment,
  { family, internalAddress = localAddress }: MappingRequest.Resolved
) {
  if (family === "ipv6") {
    return yield* NatError.fromReason(
      new NatError.Unsupported({
        operation: "map an IPv6 port on the simulated router",
        detail: "ask for the family ipv4"
      })
    )
  }
  if (NetAddress.isIpv4Address(internalAddress)) return internalAddress
  return yield* NatError.fromReason(
    new NatError.InvalidRequest({
      detail: `a mapping needs an IPv4 internal address, not ${NetAddress.formatIp(internalAddress)}`
    })
  )
})

/** What is written down of a mapping, so that it is recognised on the router. */
const toLedger = (
  entry: Pick<RouterModel.MapRequest, "description" | "externalPort" | "internalAddress" | "internalPort" | "protocol">,
  model: RouterModel.RouterModel
): Ledger.Entry =>
  new Ledger.Entry({
    method,
    gateway: NetAddress.formatIp(model.address),
    key: `${entry.protocol} ${entry.externalPort}`,
    protocol: entry.protocol,
    internalAddress: entry.internalAddress,
    internalPort: entry.internalPort,
    externalPort: entry.externalPort,
    description: entry.description ?? "",
    nonce: undefined
  })

/** The protocol of one mapping. Each has its own, which knows what that mapping's request did. */
const makeProtocol = (environment: Environment, page: Ledger.Page): LeaseEngine.LeaseProtocol<RouterModel.Entry> => {
  const { held, leases, localAddress, model } = environment
  /** What a request did whose answer may not have come. */
  let attempted: RouterModel.Entry | undefined

  const map = Effect.fnUntraced(function* (
    action: "map" | "renew",
    request: RouterModel.MapRequest,
    before: ReadonlyArray<RouterModel.MapRequest> = []
  ): Effect.fn.Return<Lease, NatError.NatError> {
    yield* page.note(toLedger(request, model))
    const [granted, now] = yield* ask(environment, { action, isMutating: true }, (at) => {
      const result = model.map(at, action === "map" ? likeEarlierRun(request, model.entries(at), held) : request)
      if (Result.isSuccess(result)) attempted = result.success
      return [result, at] as const
    })
    if (Result.isSuccess(granted)) {
      if (!isForgotten(granted.success, model.entries(now))) {
        held.add(rowName(granted.success))
        return { handle: granted.success, mapping: toMapping(granted.success, now, model) }
      }
      // As over UPnP, where what was granted is looked at afterwards.
      yield* Ref.set(leases, "OnlyPermanent")
      return yield* map(action, { ...request, lifetimeSeconds: 0 }, [request, ...before])
    }
    // A port that is lost while it is held is for the engine to know: it says so, and asks anew.
    const isLost = action === "renew" && granted.failure.kind === "Conflict"
    const asked = [request, ...before] as const
    const instead = isLost ? undefined : insteadOf(granted.failure, asked, model.entries(now))
    if (instead === undefined) return yield* toNatError(granted.failure, request.externalPort)
    const lease = yield* map(action, instead, asked)
    if (granted.failure.kind === "OnlyPermanentLeases") yield* Ref.set(leases, "OnlyPermanent")
    if (granted.failure.kind === "InvalidLifetime") yield* Ref.set(leases, "AtMostOneWeek")
    return lease
  })

  const grant = Effect.fnUntraced(function* (action: "map" | "renew", resolved: MappingRequest.Resolved) {
    yield* checkSelected(environment)
    return yield* map(action, {
      via: "mock",
      client: localAddress,
      protocol: resolved.protocol,
      externalPort: resolved.externalPort,
      mayChoosePort: !resolved.strictExternalPort,
      internalAddress: yield* checkFamily(environment, resolved),
      internalPort: resolved.internalPort,
      lifetimeSeconds: yield* lifetimeSecondsOf(environment, resolved.lifetime),
      description: resolved.description
    })
  })

  return {
    page,
    network: environment.network,
    discard: (noted) => Effect.asVoid(remove(environment, (entry) => Equal.equals(toLedger(entry, model), noted))),
    request: (resolved) => grant("map", resolved),
    renew: (_lease, resolved) => grant("renew", resolved),
    release: ({ handle }) => {
      held.delete(rowName(handle))
      return Effect.asVoid(remove(environment, (entry) => isSameRow(entry, handle)))
    },
    abandon: () => {
      const left = attempted
      return Effect.asVoid(remove(environment, (entry) => left !== undefined && isSameRow(entry, left)))
    }
  }
}

const askExternalAddress = Effect.fnUntraced(function* (environment: Environment) {
  yield* checkSelected(environment)
  const { model } = environment
  const address = yield* ask(environment, { action: "externalAddress", isMutating: false }, () => usableAddress(model))
  if (address !== undefined) return address
  return yield* NatError.fromReason(
    new NatError.NoExternalAddress({ detail: `${model.name} reports none: its own line may be down` })
  )
})

const listAll = Effect.fnUntraced(function* (environment: Environment) {
  yield* checkSelected(environment)
  const { model } = environment
  return yield* ask(environment, { action: "list", isMutating: false }, (now) =>
    model.entries(now).map((entry) => toMapping(entry, now, model))
  )
})

const removeByKey = Effect.fnUntraced(function* (environment: Environment, key: PortMapper.MappingKey) {
  yield* checkSelected(environment)
  const wasThere = yield* remove(
    environment,
    (entry) =>
      entry.protocol === key.protocol &&
      entry.externalPort === key.externalPort &&
      Equal.equals(entry.remoteHost, key.remoteHost)
  )
  if (wasThere) return
  const detail = `the simulated router has none for ${key.protocol} port ${key.externalPort}`
  return yield* NatError.fromReason(new NatError.NoSuchMapping({ detail }))
})

const probe = Effect.fnUntraced(function* (environment: Environment) {
  yield* checkSelected(environment)
  const { localAddress, model } = environment
  return yield* ask(
    environment,
    { action: "probe", isMutating: false },
    () =>
      new Gateway.Gateway({
        name: model.name,
        address: model.address,
        method,
        localAddress,
        id: undefined,
        model: undefined
      })
  ).pipe(
    Effect.catchReason("NatError", "TimedOut", ({ detail }) =>
      Effect.fail(NatError.fromReason(new NatError.NoGateway({ detail })))
    )
  )
})

const makeEnvironment = Effect.fnUntraced(function* (options: HostOptions) {
  const { model } = yield* SimulatedRouter
  const environment: Environment = {
    model,
    localAddress: yield* OptionChecks.parseHost(options.localAddress ?? "192.168.77.2", model),
    timeout: yield* OptionChecks.checkTime("requestTimeout", options.requestTimeout ?? requestTimeout, finite),
    selected: yield* Gateway.Selected,
    ledger: yield* Ledger.Ledger,
    network: yield* NetworkWatch.NetworkWatch,
    leases: yield* Ref.make<"Any" | "OnlyPermanent" | "AtMostOneWeek">("Any"),
    held: new Set()
  }
  return environment
})

const strategyOf = (environment: Environment): Strategy.Strategy => ({
  method,
  probe: probe(environment).pipe(Effect.withSpan("SimulatedRouter.probe")),
  mapper: {
    map: Effect.fn("SimulatedRouter.map")((request: MappingRequest.MappingRequest) =>
      Effect.flatMap(environment.ledger.open, (page) => LeaseEngine.map(makeProtocol(environment, page), request))
    ),
    externalAddress: askExternalAddress(environment).pipe(Effect.withSpan("SimulatedRouter.externalAddress")),
    list: Stream.unwrap(Effect.map(listAll(environment), Stream.fromIterable)),
    remove: Effect.fn("SimulatedRouter.remove")((key: PortMapper.MappingKey) => removeByKey(environment, key))
  }
})

/**
 * The strategy of a host behind the router, with its probe, for whoever chooses among strategies. `Gateway.Selected`
 * is read here, once. Fails with `InvalidRequest` where an option is not what it has to be.
 *
 * A request to a silent router fails with `TimedOut`, its probe with `NoGateway`. A refusal fails with the reason
 * that it has in the real strategies, after what they try by themselves: a permanent lease where only those are
 * taken, a week where a longer lifetime is refused and, unless the external port is strict, the internal port where both
 * must be the same, and up to four others where the wanted one is taken. A `Conflict` at a renewal is not tried
 * again: the mapping is lost, and asked for anew.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeStrategy = (
  options: HostOptions = {}
): Effect.Effect<Strategy.Strategy, NatError.NatError, SimulatedRouter> =>
  Effect.map(makeEnvironment(options), strategyOf)

/**
 * A host behind a router that exists: its `PortMapper`, and its `GatewayDiscovery`, which finds the router unless that
 * is silent. Fails with `InvalidRequest` where an option is not what it has to be.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerHost = (
  options: HostOptions = {}
): Layer.Layer<PortMapper.PortMapper | GatewayDiscovery.GatewayDiscovery, NatError.NatError, SimulatedRouter> =>
  Layer.effectContext(
    Effect.map(makeStrategy(options), ({ mapper, probe: look }) =>
      Context.make(PortMapper.PortMapper, mapper).pipe(
        Context.add(GatewayDiscovery.GatewayDiscovery, {
          gateways: Stream.fromEffect(look).pipe(
            Stream.catchIf(
              (error) => error.reason._tag === "NoGateway",
              () => Stream.empty
            )
          )
        })
      )
    )
  )

/**
 * A router with one host behind it: the program's `PortMapper` and `GatewayDiscovery`, and the test's handle on the
 * router. Fails with `InvalidRequest` where an option is not what it has to be.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<SimulatedRouter | PortMapper.PortMapper | GatewayDiscovery.GatewayDiscovery, NatError.NatError> =>
  layerHost(options).pipe(Layer.provideMerge(Layer.effect(SimulatedRouter, make(options))))
