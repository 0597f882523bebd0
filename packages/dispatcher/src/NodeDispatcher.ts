/**
 * The session dispatcher on Node's own sockets.
 *
 * @since 0.1.0
 */
import type * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import type * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as Layer from "effect/Layer"
import type * as DefaultConfig from "./DefaultConfig.ts"
import * as Dispatcher from "./Dispatcher.ts"
import type * as DispatcherError from "./DispatcherError.ts"
import * as NodeTcpListener from "./NodeTcpListener.ts"

/**
 * `Dispatcher.layer` on Node's sockets.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Dispatcher.Options
): Layer.Layer<
  Dispatcher.Dispatcher,
  DispatcherError.DispatcherError | NatError.NatError,
  PortMapper.PortMapper | ContactPointResolver.ContactPointResolver
> => Layer.provide(Dispatcher.layer(options), NodeTcpListener.layer)

/**
 * `Dispatcher.layerConfig` on Node's sockets: with the strategy among the options or, without one, by what
 * `DefaultConfig` holds. What it needs beside its strategy is `ContactPointResolver.layer` and, for both, what
 * `NodeHost.layer` has of this host.
 *
 * **Example** (The page's configurations)
 *
 * ```ts
 * import * as Lan from "@effect-nat/core/Lan"
 * import * as Manual from "@effect-nat/core/Manual"
 * import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
 *
 * export const lanOnly = NodeDispatcher.layerConfig({ strategy: Lan.layer })
 * export const manual = NodeDispatcher.layerConfig({ port: 12000, strategy: Manual.layer({ externalPort: 12001 }) })
 * export const byDefault = NodeDispatcher.layerConfig({})
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <E = never, R = never>(
  options: Dispatcher.Options & { readonly strategy?: Layer.Layer<PortMapper.PortMapper, E, R> | undefined }
): Layer.Layer<
  Dispatcher.Dispatcher,
  DispatcherError.DispatcherError | NatError.NatError | E,
  ContactPointResolver.ContactPointResolver | DefaultConfig.Host | R
> => Layer.provide(Dispatcher.layerConfig(options), NodeTcpListener.layer)
