/**
 * Who has subscribed to the events of a simulated router (UPnP Device Architecture 1.1 §4.1), and what they have been
 * told.
 *
 * It knows no protocol and no clock, like the rest of the model: `UpnpResponder` decides what is due.
 *
 * @since 0.1.0
 */
import type * as Soap from "@effect-nat/upnp/Soap"

/**
 * A subscription to the events of one service.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscription {
  /** As the router writes it: `uuid:` and a unique name. */
  readonly sid: string
  /** The service, by the last part of its URLs. */
  readonly service: string
  /** URLs, tried in this order. */
  readonly callbacks: ReadonlyArray<string>
  /** In milliseconds. */
  readonly expiresAt: number
  /** The number of the next event; the first one is 0. */
  readonly nextSequence: number
  /** The values that the subscriber was told last; none before the first event. */
  readonly told: Soap.Arguments
}

/**
 * How many subscriptions a router takes.
 *
 * @category constants
 * @since 0.1.0
 */
export const capacity = 32

/**
 * The subscriptions of one router.
 *
 * @category models
 * @since 0.1.0
 */
export class SubscriptionTable {
  #subscriptions: ReadonlyArray<Subscription> = []
  #made = 0

  /** The subscriptions that are in force, the oldest first. */
  entries(now: number): ReadonlyArray<Subscription> {
    this.#subscriptions = this.#subscriptions.filter(({ expiresAt }) => expiresAt > now)
    return this.#subscriptions
  }

  /** Takes a subscription; `undefined` where there is no room. Its name begins as told: those of two starts differ. */
  add(
    now: number,
    name: string,
    taken: Pick<Subscription, "callbacks" | "expiresAt" | "service">
  ): Subscription | undefined {
    if (this.entries(now).length >= capacity) return undefined
    this.#made += 1
    const sid = `${name}${this.#made.toString(16).padStart(12, "0")}`
    const subscription: Subscription = { ...taken, sid, nextSequence: 0, told: [] }
    this.#subscriptions = [...this.#subscriptions, subscription]
    return subscription
  }

  /** Changes a subscription; `undefined` where there is none of that name. */
  update(now: number, sid: string, change: Partial<Omit<Subscription, "sid">>): Subscription | undefined {
    const known = this.entries(now).find((one) => one.sid === sid)
    if (known === undefined) return undefined
    const changed = { ...known, ...change }
    this.#subscriptions = this.#subscriptions.map((one) => (one === known ? changed : one))
    return changed
  }

  /** Ends a subscription; whether there was one. */
  remove(now: number, sid: string): boolean {
    const before = this.entries(now)
    this.#subscriptions = before.filter((one) => one.sid !== sid)
    return this.#subscriptions.length < before.length
  }

  /** Ends them all. */
  clear(): void {
    this.#subscriptions = []
  }
}
