/**
 * The strategy of a dispatcher that is given none: the page's `DefaultConfig`, a class variable of `CobaltDispatcher`
 * there.
 *
 * **Example** (Every dispatcher of a program has a port that was forwarded by hand, unless it is told otherwise)
 *
 * ```ts
 * import * as Manual from "@effect-nat/core/Manual"
 * import * as DefaultConfig from "@effect-nat/dispatcher/DefaultConfig"
 * import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
 * import * as Layer from "effect/Layer"
 *
 * export const dispatcher = NodeDispatcher.layerConfig({ port: 12000 }).pipe(
 *   Layer.provide(Layer.succeed(DefaultConfig.DefaultConfig, Manual.layer({ externalPort: 12001 })))
 * )
 * ```
 *
 * @since 0.1.0
 */
import type * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Lan from "@effect-nat/core/Lan"
import type * as NatError from "@effect-nat/core/NatError"
import type * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import type * as Udp from "@effect-nat/core/Udp"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/**
 * What the strategies of core need of the host.
 *
 * @category models
 * @since 0.1.0
 */
export type Host = Udp.Udp | DefaultRoute.DefaultRoute | NetworkInterfaces.NetworkInterfaces

/**
 * The layer that `Dispatcher.layerConfig` maps by where it is given no strategy. Defaults to `Lan.layer`, as on the page.
 * A strategy that needs more of the host than those of core is provided with it beforehand.
 *
 * @category references
 * @since 0.1.0
 */
export const DefaultConfig = Context.Reference<Layer.Layer<PortMapper.PortMapper, NatError.NatError, Host>>(
  "@effect-nat/dispatcher/DefaultConfig",
  { defaultValue: () => Lan.layer }
)

/**
 * The strategy that `DefaultConfig` holds where this is built: two dispatchers of a program may have two.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<PortMapper.PortMapper, NatError.NatError, Host> = Layer.fromBuild((memoMap, scope) =>
  // Not memoized itself, since what it is depends on the context; the strategy is.
  Effect.flatMap(DefaultConfig, (strategy) => Layer.buildWithMemoMap(strategy, memoMap, scope))
)
