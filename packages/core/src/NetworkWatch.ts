/**
 * What becomes of this host's network: another own address, another default gateway, a clock that has jumped.
 *
 * A laptop is carried to another network, a cable is plugged in, a provider's router hands out another address, a machine
 * sleeps for the night. Nothing tells a program: it has to look. Whoever holds a mapping remembers what it saw when it
 * asked for it, and renews as soon as that is different.
 *
 * The clocks are a part of it: Linux's monotonic clock stands still while the machine sleeps, and the wall clock jumps
 * when it is set. Either way what was known about times is no longer true.
 *
 * **When to use**
 *
 * `NodeHost.layer` brings one. Without one nothing is looked at, and a change is found out by the next renewal.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import * as Semaphore from "effect/Semaphore"
import * as DefaultRoute from "./DefaultRoute.ts"
import * as NetworkInterfaces from "./NetworkInterfaces.ts"

/**
 * What was seen at one look.
 *
 * @category models
 * @since 0.1.0
 */
export interface Sight {
  /** The default routes and the addresses of the interfaces that they use, as one text to be compared. */
  readonly network: string
  /** How far the wall clock is ahead of the monotonic one, in milliseconds. */
  readonly clockLead: number
}

/**
 * Looks at this host's network.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /** What it looks like now, or did a moment ago. */
  readonly look: Effect.Effect<Sight>
  /** Completes when it looks different. */
  readonly whenOther: (sight: Sight) => Effect.Effect<void>
}

/** What is always the same. */
const unseen: Sight = { network: "", clockLead: 0 }

/**
 * The watch in use; by default none, which never sees anything.
 *
 * @category references
 * @since 0.1.0
 */
export const NetworkWatch: Context.Reference<Service> = Context.Reference<Service>("@effect-nat/core/NetworkWatch", {
  defaultValue: () => ({ look: Effect.succeed(unseen), whenOther: () => Effect.never })
})

/** Milliseconds: clocks that are steered drift by less in hours, and no lease is so short. */
const smallestJump = 2000

/**
 * By how much the clocks have gone apart between two looks, in milliseconds: positive where the machine has slept or the
 * wall clock was set forwards, negative where it was set back, 0 where it is too little to matter.
 *
 * @category accessors
 * @since 0.1.0
 */
export const jumpBetween = (before: Sight, after: Sight): number => {
  const jump = after.clockLead - before.clockLead
  return Math.abs(jump) < smallestJump ? 0 : jump
}

/**
 * Whether something is different.
 *
 * @category comparisons
 * @since 0.1.0
 */
export const isOther = (before: Sight, after: Sight): boolean =>
  before.network !== after.network || jumpBetween(before, after) !== 0

/**
 * What two looks have in common: the routes in their order, and the addresses of the interfaces that they leave by.
 * Others, as those of containers, come and go and matter to no mapping.
 *
 * @category constructors
 * @since 0.1.0
 */
export const describe = (
  routes: ReadonlyArray<DefaultRoute.Route>,
  interfaces: ReadonlyArray<NetworkInterfaces.NetworkInterface>
): string => {
  const used = interfaces.filter(({ name }) => routes.some((route) => route.interface === name))
  // On Windows a route may not have the interface's name.
  const shown = used.length === 0 ? interfaces.filter(({ isLoopback }) => !isLoopback) : used
  return [
    ...routes.map((route) => `${NetAddress.formatIp(route.gateway)} ${route.interface}`),
    ...shown.map(({ addresses, name }) => `${name} ${addresses.map(IpInterface.format).join()}`)
  ].join("; ")
}

/**
 * How often a network is looked at where that costs next to nothing: every 5 seconds.
 *
 * @category defaults
 * @since 0.1.0
 */
export const period: Duration.Duration = Duration.seconds(5)

/**
 * How a watch is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How often it is looked at, by as many as there are together. Defaults to `period`. */
  readonly every?: Duration.Duration | undefined
}

/**
 * A watch that looks every few seconds as long as somebody waits.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* ({ every = period }: Options = {}): Effect.fn.Return<
  Service,
  never,
  DefaultRoute.DefaultRoute | NetworkInterfaces.NetworkInterfaces
> {
  const { routes } = yield* DefaultRoute.DefaultRoute
  const { list } = yield* NetworkInterfaces.NetworkInterfaces
  const turn = yield* Semaphore.make(1)
  let last: (Sight & { readonly seenAt: bigint }) | undefined

  const lookNow = Effect.gen(function* () {
    const network = describe(yield* routes, yield* list)
    const seenAt = yield* Clock.monotonicTimeNanos
    const clockLead = (yield* Clock.currentTimeMillis) - Number(seenAt / 1_000_000n)
    last = { network, clockLead, seenAt }
    return last
  })

  // Many mappings that look at the same moment need one look.
  const freshness = BigInt(Math.round(Duration.toMillis(every) / 2)) * 1_000_000n
  const look = Effect.gen(function* () {
    const known = last
    const isFresh = known !== undefined && (yield* Clock.monotonicTimeNanos) - known.seenAt < freshness
    return isFresh ? known : yield* lookNow
  }).pipe(turn.withPermit)

  const whenOther = (sight: Sight): Effect.Effect<void> =>
    Effect.gen(function* () {
      while (true) {
        yield* Effect.sleep(every)
        if (isOther(sight, yield* look)) return
      }
    })

  return { look, whenOther }
})

/**
 * Provides a watch over the host's interfaces and routes.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<never, never, DefaultRoute.DefaultRoute | NetworkInterfaces.NetworkInterfaces> =>
  Layer.effect(NetworkWatch, make(options))
