/** A way to a port that can be cut, as a network is. */
import * as Effect from "effect/Effect"
import * as Net from "node:net"

export interface Relay {
  readonly port: number
  /** Breaks all connections, and lets nobody through until it is mended. */
  readonly cut: Effect.Effect<void>
  readonly mend: Effect.Effect<void>
}

/** Passes connections to a port of loopback on to another one, until its scope closes. */
export const make = Effect.fnUntraced(function* (target: number) {
  const sockets = new Set<Net.Socket>()
  let isCut = false
  const cut = Effect.sync(() => {
    isCut = true
    for (const socket of sockets) socket.destroy()
  })
  const join = (from: Net.Socket, to: Net.Socket) => {
    sockets.add(from)
    from.on("error", () => {})
    from.on("close", () => {
      sockets.delete(from)
      to.destroy()
    })
    from.pipe(to)
  }
  const server = yield* Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer((socket) => {
        if (isCut) return void socket.destroy()
        const other = Net.connect({ host: "127.0.0.1", port: target })
        join(socket, other)
        join(other, socket)
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.andThen(
        cut,
        Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
      )
  )
  const address = server.address()
  const relay: Relay = {
    port: typeof address === "object" && address !== null ? address.port : 0,
    cut,
    mend: Effect.sync(() => {
      isCut = false
    })
  }
  return relay
})
