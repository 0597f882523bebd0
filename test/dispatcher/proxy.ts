/** A TCP proxy between client and dispatcher whose connections can be cut, and that can be told to take no more. */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Net from "node:net"
import { loopback } from "./support.ts"

export const makeProxy = Effect.fnUntraced(function* (initial: NetAddress.InetAddress) {
  let target = initial
  let mode: "pass" | "refuse" = "pass"
  let accepted = 0
  const open = new Set<Net.Socket>()
  const keep = (socket: Net.Socket) => {
    open.add(socket)
    socket.on("error", () => {})
    socket.on("close", () => open.delete(socket))
  }
  const pass = (inside: Net.Socket) => {
    accepted++
    if (mode === "refuse") {
      inside.destroy()
      return
    }
    const outside = Net.connect({ host: NetAddress.formatHost(target), port: target.port, noDelay: true })
    keep(inside)
    keep(outside)
    inside.pipe(outside)
    outside.pipe(inside)
    inside.on("close", () => outside.destroy())
    outside.on("close", () => inside.destroy())
  }
  const cut = Effect.sync(() => {
    for (const socket of open) {
      socket.destroy()
    }
  })
  const server = yield* Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer({ noDelay: true }, pass)
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.andThen(
        cut,
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
        })
      )
  )
  const bound = server.address()
  if (bound === null || typeof bound === "string") throw new Error("no port")
  return {
    address: NetAddress.inetAddressUnsafe(loopback, bound.port),
    /** Breaks every connection there is. */
    cut,
    setMode: (next: typeof mode) =>
      Effect.sync(() => {
        mode = next
      }),
    setTarget: (next: NetAddress.InetAddress) =>
      Effect.sync(() => {
        target = next
      }),
    /** How many connections there were, those that were refused included. */
    accepted: Effect.sync(() => accepted)
  }
})
