/**
 * What happens to this host's network: it has other addresses or other default routes, or it has slept.
 *
 * Nobody tells a program so. While anybody listens, the host is looked at every 5 seconds, once for all listeners:
 *
 * - its addresses, but for loopback and link-local ones, and its default routes in their order;
 * - its two clocks. Where the wall clock has gone on by 2 seconds more than the monotonic one, the host has slept, or
 *   somebody has set the clock; where it has gone on by so much less, somebody has set it back.
 *
 * Routes that take long to read, as on Windows, are read more rarely, for a hundredth of the time at most, and whenever
 * the addresses have changed.
 *
 * **When to use**
 *
 * `NodeHost.layer` brings one. The lease engine listens for every mapping whose strategy was built with it, and renews
 * the mapping when it is told something. Without one, only time tells.
 *
 * **Gotchas**
 *
 * Where the monotonic clock goes on while the host sleeps, as on Windows, a sleep alone is not noticed; timers that
 * came due meanwhile fire after it.
 *
 * **Example** (Say so when this host is somewhere else)
 *
 * ```ts
 * import * as NetworkWatch from "@effect-nat/core/NetworkWatch"
 * import * as NodeHost from "@effect-nat/core/NodeHost"
 * import * as Effect from "effect/Effect"
 *
 * export const program = Effect.gen(function* () {
 *   const { listen } = yield* NetworkWatch.NetworkWatch
 *   const whenChanged = yield* listen
 *   yield* Effect.forever(Effect.andThen(whenChanged, Effect.log("the network has changed")))
 * }).pipe(Effect.scoped, Effect.provide(NodeHost.layer))
 * ```
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as RcRef from "effect/RcRef"
import type * as Scope from "effect/Scope"
import * as DefaultRoute from "./DefaultRoute.ts"
import * as Monotonic from "./Monotonic.ts"
import * as NetworkInterfaces from "./NetworkInterfaces.ts"

/**
 * Tells what happens to this host's network.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /**
   * Listens until the scope closes. The effect completes when something has changed since it completed last, or since
   * the listening began; several changes may be told as one.
   */
  readonly listen: Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
  /**
   * How many changes were noticed so far, by whoever listened: what was found out before the last one may be so no
   * more. It is counted before any listener is told.
   */
  readonly count: Effect.Effect<number>
}

/**
 * The watch in use; by default one that never tells anything.
 *
 * @category references
 * @since 0.1.0
 */
export const NetworkWatch: Context.Reference<Service> = Context.Reference<Service>("@effect-nat/core/NetworkWatch", {
  defaultValue: () => still
})

/**
 * The watch over a network in which nothing ever happens.
 *
 * @category constructors
 * @since 0.1.0
 */
export const still: Service = { listen: Effect.succeed(Effect.never), count: Effect.succeed(0) }

/**
 * How long after one look at the host the next one comes: 5 seconds.
 *
 * @category defaults
 * @since 0.1.0
 */
export const interval: Duration.Duration = Duration.seconds(5)

/**
 * How a watch is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Completes when it is time for the next look. Defaults to a sleep of `interval`. */
  readonly pause?: Effect.Effect<void> | undefined
}

/** In milliseconds. Clocks are adjusted by less all the time. */
const tolerance = 2000

/** Reading the routes takes one part in so many of the time, at most. */
const largestShare = 100

interface Clocks {
  readonly wall: number
  readonly monotonic: number
}

const readClocks: Effect.Effect<Clocks> = Effect.all({ wall: Clock.currentTimeMillis, monotonic: Monotonic.millis })

const hasJumped = (before: Clocks, now: Clocks): boolean =>
  Math.abs(now.wall - before.wall - (now.monotonic - before.monotonic)) > tolerance

const addressesOf = Effect.map(NetworkInterfaces.lanAddresses, (addresses) =>
  addresses.map(NetAddress.formatIp).toSorted().join(", ")
)

const routesOf = Effect.map(
  DefaultRoute.DefaultRoute.use(({ routes }) => routes),
  (routes) => routes.map((route) => `${NetAddress.formatIp(route.gateway)} on ${route.interface}`).join(", ")
)

/** What a host's network was when it was looked at. */
interface Seen {
  readonly addresses: string
  readonly routes: string
  /** When the routes may be read again, in milliseconds of the monotonic clock. */
  readonly nextAt: number
}

const look = Effect.fnUntraced(function* (before: Seen | undefined) {
  const addresses = yield* addressesOf
  const beganAt = yield* Monotonic.millis
  if (before !== undefined && before.addresses === addresses && beganAt < before.nextAt) return before
  const routes = yield* routesOf
  const endedAt = yield* Monotonic.millis
  const seen: Seen = { addresses, routes, nextAt: endedAt + largestShare * (endedAt - beganAt) }
  return seen
})

const news = (before: Seen, now: Seen): string | undefined => {
  if (before.addresses !== now.addresses) return `this host has the addresses ${now.addresses || "none"}`
  return before.routes === now.routes ? undefined : `this host has the default gateways ${now.routes || "none"}`
}

/**
 * A watch over this host, which ends with the scope. It looks at nothing while nobody listens; what has changed
 * meanwhile is told when somebody does again.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* ({ pause = Effect.sleep(interval) }: Options = {}): Effect.fn.Return<
  Service,
  never,
  NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute | Scope.Scope
> {
  const listeners = new Set<Queue.Queue<void>>()
  let count = 0
  let seen: Seen | undefined

  const tell = Effect.fnUntraced(function* (what: string) {
    yield* Effect.logDebug(`the network has changed: ${what}`)
    count += 1
    listeners.forEach((told) => Queue.offerUnsafe(told, undefined))
  })

  const watching = Effect.gen(function* () {
    let clocks = yield* readClocks
    while (true) {
      const [before, now] = [clocks, yield* readClocks]
      clocks = now
      const known = seen
      seen = yield* look(known)
      const moved = known === undefined ? undefined : news(known, seen)
      if (moved !== undefined) yield* tell(moved)
      else if (hasJumped(before, now)) yield* tell("this host has slept, or its clock was set")
      yield* pause
    }
  })
  const watch = yield* RcRef.make({ acquire: Effect.forkScoped(watching) })

  const listen = Effect.gen(function* () {
    const told = yield* Queue.sliding<void>(1)
    yield* Effect.acquireRelease(
      Effect.sync(() => listeners.add(told)),
      () => Effect.sync(() => listeners.delete(told))
    )
    yield* RcRef.get(watch)
    return Queue.take(told)
  })

  return { listen, count: Effect.sync(() => count) }
})

/**
 * The watch over the host whose interfaces and routes are provided.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, never, NetworkInterfaces.NetworkInterfaces | DefaultRoute.DefaultRoute> =
  Layer.effect(NetworkWatch, make())
