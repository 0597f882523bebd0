/**
 * Tells others that a service is there, as long as a scope is open: on the local network, or wherever an announcer
 * reaches.
 *
 * **When to use**
 *
 * A service that wants to be found hands over its contact points, as they change, and closes the scope when it ends.
 * How it is told is the layer's matter: `Beacon.layer` of `@effect-nat/dispatcher` broadcasts to the networks of this
 * host.
 *
 * **Gotchas**
 *
 * Whoever hears it may be anybody. An announcer leaves the secrets out unless it is told to announce them, and never
 * announces what opens the control of a dispatcher.
 *
 * **Example** (A service is announced, and follows its address)
 *
 * ```ts
 * import * as Announcer from "@effect-nat/core/Announcer"
 * import type * as ContactPoint from "@effect-nat/core/ContactPoint"
 * import * as Effect from "effect/Effect"
 * import type * as Stream from "effect/Stream"
 *
 * export const serve = (contactPoints: Stream.Stream<ContactPoint.ContactPoint>) =>
 *   Effect.gen(function* () {
 *     const announcer = yield* Announcer.Announcer
 *     yield* announcer.announce(contactPoints)
 *     return yield* Effect.never
 *   }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as ContactPoint from "./ContactPoint.ts"

/**
 * Another program of this host has the port that is needed, and does not share it.
 *
 * @category errors
 * @since 0.1.0
 */
export class PortInUse extends Schema.TaggedError<PortInUse>("@effect-nat/core/AnnouncerPortInUse")("PortInUse", {
  port: Schema.Int
}) {
  override get message(): string {
    return `cannot announce: port ${this.port} is in use on this host by a program that does not share it`
  }
}

/**
 * Nothing can be announced by this announcer, here and now.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unavailable extends Schema.TaggedError<Unavailable>("@effect-nat/core/AnnouncerUnavailable")(
  "Unavailable",
  { detail: Schema.String }
) {
  override get message(): string {
    return `cannot announce: ${this.detail}`
  }
}

/**
 * Why an announcer could not begin.
 *
 * @category errors
 * @since 0.1.0
 */
export class AnnouncerError extends Schema.TaggedError<AnnouncerError>("@effect-nat/core/AnnouncerError")(
  "AnnouncerError",
  { reason: Schema.Union([PortInUse, Unavailable]) }
) {
  override get message(): string {
    return this.reason.message
  }
}

/**
 * Announces contact points.
 *
 * @category services
 * @since 0.1.0
 */
export class Announcer extends Context.Service<
  Announcer,
  {
    /**
     * Announces the last contact point of a stream until the scope closes, also after the end of the stream; while it has
     * given none, nothing. A new one is announced at once. When the scope closes, those who have heard of it are told that
     * it is gone, as far as they can be.
     *
     * Returns when it has begun, or fails where it cannot. What goes wrong after that is logged at debug level and tried
     * again.
     */
    readonly announce: (
      contactPoints: Stream.Stream<ContactPoint.ContactPoint>
    ) => Effect.Effect<void, AnnouncerError, Scope.Scope>
  }
>()("@effect-nat/core/Announcer") {}
