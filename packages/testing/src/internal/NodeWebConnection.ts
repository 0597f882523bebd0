/**
 * One connection to the web server of a simulated router.
 */
import * as Effect from "effect/Effect"
import type * as Net from "node:net"
import type * as RouterModel from "../RouterModel.ts"
import * as UpnpResponder from "../UpnpResponder.ts"

/** An answer, and what becomes of the connection after it. */
export interface Answered {
  readonly bytes: Uint8Array
  readonly isKept: boolean
}

/** How requests are answered; `undefined` is no answer, while the connection stays open. */
export interface Server {
  readonly model: RouterModel.RouterModel
  readonly answer: (request: UpnpResponder.Request | "Malformed") => Effect.Effect<Answered | undefined>
  /** Told when an answer has gone out. */
  readonly answered: Effect.Effect<void>
  readonly run: (effect: Effect.Effect<void>) => unknown
}

/** A peer that says nothing, or waits for the answer of a silent router, is not waited for without end. */
const patience = 60_000

/** Serves one request after the other, for as long as the connection is kept. */
export const serve = (socket: Net.Socket, server: Server): void => {
  let arrived: Uint8Array = new Uint8Array()
  let isBusy = false
  let isKept = false
  let isEnded = false
  const { bootId } = server.model

  const reply = (answered: Answered | undefined): Effect.Effect<void> => {
    if (answered === undefined) return Effect.void
    isBusy = false
    isKept = answered.isKept && (!isEnded || UpnpResponder.decodeFirst(arrived) !== "Incomplete")
    if (isKept) socket.write(answered.bytes)
    else socket.end(answered.bytes)
    if (isKept) next()
    return server.answered
  }

  const next = (): void => {
    if (isBusy) return
    const first = UpnpResponder.decodeFirst(arrived)
    if (first === "Incomplete") return
    isBusy = true
    arrived = first === "Malformed" ? new Uint8Array() : first.rest
    server.run(Effect.flatMap(server.answer(first === "Malformed" ? first : first.request), reply))
  }

  socket.setTimeout(patience, () => socket.destroy())
  socket.on("end", () => {
    isEnded = true
    if (!isBusy) socket.destroy()
  })
  socket.on("data", (chunk: Uint8Array) => {
    if (socket.writableEnded) return
    // It went away while nobody asked, as in a restart, and the next request was under way already.
    const isGone = server.model.has("ClosesKeptConnection") || server.model.bootId !== bootId
    if (isKept && isGone) return void socket.destroy()
    arrived = new Uint8Array(Buffer.concat([arrived, chunk]))
    next()
  })
}
