/**
 * The session dispatcher on Node's own sockets.
 *
 * @since 0.1.0
 */
import type * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import type * as NatError from "@effect-nat/core/NatError"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as Layer from "effect/Layer"
import * as Dispatcher from "./Dispatcher.ts"
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
  Dispatcher.DispatcherError | NatError.NatError,
  PortMapper.PortMapper | ContactPointResolver.ContactPointResolver
> => Layer.provide(Dispatcher.layer(options), NodeTcpListener.layer)
