/**
 * A dispatcher with one session: it prints where that is joined, and again when this changes. Which strategy maps the
 * port is one line. Ctrl-C ends it, and takes the mapping away.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as NodeHost from "@effect-nat/core/NodeHost"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"

const strategy = Upnp.layer // or Pcp.layer, NatPmp.layer, Automatic.layer, Manual.layer({ externalPort: 12001 }), Lan.layer

const follow = Effect.gen(function* () {
  const dispatcher = yield* Dispatcher.Dispatcher
  yield* dispatcher.register({ role: "scene" })
  yield* Stream.runForEach(dispatcher.changes, (contactPoint) =>
    Console.log(`${ContactPoint.format(contactPoint)}\n${ContactPointUri.format(contactPoint)}`)
  )
})

export const program = <E, R>(strategy: Layer.Layer<PortMapper.PortMapper, E, R>, options?: Dispatcher.Options) =>
  follow.pipe(
    Effect.provide(
      NodeDispatcher.layer({ name: "island", viewpoint: "plaza", ...options }).pipe(
        Layer.provide([strategy, ContactPointResolver.layer])
      )
    )
  )

if (import.meta.main) program(strategy).pipe(Effect.provide(NodeHost.layer), NodeRuntime.runMain)
