/**
 * The events of a service of a router: what it says by itself when its address or its table changes, instead of being
 * asked again and again (UPnP Device Architecture 1.1 §4).
 *
 * @since 0.1.0
 */
import type * as Http from "@effect-nat/core/Http"
import type * as HttpListener from "@effect-nat/core/HttpListener"
import * as NatError from "@effect-nat/core/NatError"
import type * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as DeviceDescription from "./DeviceDescription.ts"
import type * as Soap from "./Soap.ts"

/**
 * What is subscribed to.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly service: DeviceDescription.Service
  /** The router: events of others do not count. */
  readonly gateway: NetAddress.IpAddress
}

/**
 * A subscription, kept up until its scope closes.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventSubscription {
  /**
   * The values of all variables as far as they are known, again after each event. The latest comes at once where there
   * is one. Whoever reads slowly misses steps, never the latest values.
   */
  readonly events: Stream.Stream<Soap.Arguments>
  /**
   * Whether events arrive now: a firewall of this host may keep them out, and a router may grant and never send. Waits
   * until it is known, at most `initialEventTimeout` after the router has granted the subscription. `false` while a
   * subscription that was lost has not been replaced. Whoever polls asks each time.
   */
  readonly isWorking: Effect.Effect<boolean>
  /** Subscribes afresh, for whoever knows that the router has restarted. Does not wait for it. */
  readonly resubscribe: Effect.Effect<void>
}

/**
 * Subscribes, and unsubscribes when the scope closes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const subscribe: (
  options: Options
) => Effect.Effect<
  EventSubscription,
  NatError.NatError,
  Http.Http | HttpListener.HttpListener | Udp.Udp | Scope.Scope
> = Effect.fn("EventSubscription.subscribe")(function* (_options: Options) {
  return yield* NatError.fromReason(
    new NatError.Unsupported({ operation: "receive events over UPnP", detail: "not written yet" })
  )
})
