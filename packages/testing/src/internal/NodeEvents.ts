/**
 * How a simulated router on sockets tells its subscribers what has changed (UPnP Device Architecture 1.1 §4.3).
 */
import * as Http from "@effect-nat/core/Http"
import * as NodeHttp from "@effect-nat/core/NodeHttp"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as RouterModel from "../RouterModel.ts"
import * as UpnpResponder from "../UpnpResponder.ts"

/** A subscriber that does not take an event in this time has missed it, and keeps nobody else waiting any longer. */
const patience = "2 seconds"

/** Nobody answers an event with much. */
const maxBytes = 4096

const isTaken = ({ status }: Http.HttpResponse): boolean => status >= 200 && status < 300

const deliver = Effect.fnUntraced(function* ({ body, callbacks, headers, sid }: UpnpResponder.Notification) {
  const http = yield* Http.Http
  for (const { address, path } of callbacks) {
    const request = { method: "NOTIFY", address, path, headers, body, maxBytes }
    const response = yield* Effect.result(Effect.timeout(http.request(request), patience))
    if (response._tag === "Success" && isTaken(response.success)) return
  }
  yield* Effect.logDebug(`the subscriber ${sid} did not take an event`)
})

/**
 * Sends what is due, whenever it is told to look, until the scope closes. The events of one subscription go out one
 * after the other.
 */
export const make = Effect.fnUntraced(function* (model: RouterModel.RouterModel) {
  const http = yield* Layer.build(NodeHttp.layer)
  const changed = yield* Queue.sliding<void>(1)
  const sendDue = Effect.gen(function* () {
    yield* Queue.take(changed)
    const due = UpnpResponder.dueEvents(model, yield* Clock.currentTimeMillis)
    yield* Effect.forEach(due, deliver, { concurrency: "unbounded", discard: true })
  })
  yield* Effect.forkScoped(Effect.provide(Effect.forever(sendDue), http))
  return Effect.asVoid(Queue.offer(changed, undefined))
})
