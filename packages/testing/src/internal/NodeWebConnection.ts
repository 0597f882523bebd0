/**
 * One connection to the web server of a simulated router.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Net from "node:net"
import type * as RouterModel from "../RouterModel.ts"
import type * as UpnpResponder from "../UpnpResponder.ts"
import * as HttpFraming from "./httpFraming.ts"

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
  readonly run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
}

/** For a whole request, however it drips, and for its answer: a silent router is not waited for without end either. */
const patience = "1 minute"

/** More connections at once are closed as they come: a client needs one. */
export const maximumConnections = 64

/** Serves one request after the other, for as long as the connection is kept. */
export const serve = (socket: Net.Socket, server: Server): void => {
  const arrived = new HttpFraming.RequestReader()
  let isBusy = false
  let isKept = false
  let isEnded = false
  const { bootId } = server.model
  const giveUp = Effect.delay(
    Effect.sync(() => void socket.destroy()),
    patience
  )
  let deadline = server.run(giveUp)
  const startAnew = () => {
    deadline.interruptUnsafe()
    // Whoever has hung up before the answer is waited for no more.
    if (!socket.destroyed) deadline = server.run(giveUp)
  }

  const reply = (answered: Answered | undefined): Effect.Effect<void> => {
    if (answered === undefined) return Effect.void
    const request = answered.isKept ? arrived.take() : "Incomplete"
    isBusy = false
    isKept = answered.isKept && (!isEnded || request !== "Incomplete")
    if (isKept) socket.write(answered.bytes)
    else socket.end(answered.bytes)
    startAnew()
    if (isKept) meet(request)
    return server.answered
  }

  const meet = (request: ReturnType<HttpFraming.RequestReader["take"]>): void => {
    if (request === "Incomplete") return
    isBusy = true
    startAnew()
    server.run(Effect.flatMap(server.answer(request), reply))
  }

  socket.once("close", () => deadline.interruptUnsafe())
  socket.on("end", () => {
    isEnded = true
    if (!isBusy) socket.destroy()
  })
  socket.on("data", (chunk: Uint8Array) => {
    if (socket.writableEnded) return
    // It went away while nobody asked, as in a restart, and the next request was under way already.
    const isGone = server.model.has("ClosesKeptConnection") || server.model.bootId !== bootId
    if (isKept && isGone) return void socket.destroy()
    arrived.push(chunk)
    if (arrived.isOverfull) return void socket.destroy()
    if (!isBusy) meet(arrived.take())
  })
}
