/**
 * UDP sockets of a simulated router.
 */
import * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import type * as DatagramSocket from "effect/socket/DatagramSocket"
import { fromDatagramSocket } from "./routerSocketError.ts"

/** Fails with the address and the port in words. */
export const open = (options: Udp.OpenOptions) =>
  Udp.Udp.use((udp) => Effect.mapError(udp.open(options), fromDatagramSocket(options)))

/** What cannot be received now may not be in a moment either. */
const pause = "1 second"

/**
 * Runs until the scope closes; a datagram that cannot be answered is one that got lost. Whatever goes wrong with one, the
 * others are served.
 */
export const serve = (
  socket: Udp.UdpSocket,
  answer: (datagram: DatagramSocket.Datagram) => Effect.Effect<void, DatagramSocket.DatagramSocketError>
) => {
  const where = NetAddress.formatInet(socket.address)
  const answerOne = (one: DatagramSocket.Datagram) =>
    Effect.suspend(() => answer(one)).pipe(
      Effect.ignore,
      Effect.catchCause((cause) => Effect.logWarning(`a datagram to the simulated router at ${where} got lost`, cause))
    )
  return socket.receive.pipe(
    Effect.flatMap(Effect.forEach(answerOne, { discard: true })),
    Effect.catchCause((cause) =>
      Effect.andThen(
        Effect.logWarning(`the simulated router could not receive at ${where}`, cause),
        Effect.sleep(pause)
      )
    ),
    Effect.forever,
    Effect.forkScoped
  )
}

/** The discard service, which sends nothing, least of all from here. */
const nobody = 9

/**
 * A port that is refused until the scope closes: a socket that has a peer hears nobody else, so the kernel says
 * "unreachable" to whoever asks, and no other program gets the port meanwhile.
 */
export const reserve = Effect.fnUntraced(function* (
  address: NetAddress.IpAddress,
  port: number,
  options: Pick<Udp.OpenOptions, "reuseAddress"> = {}
) {
  const connect = NetAddress.inetAddressUnsafe(address, nobody)
  const socket = yield* open({ ...options, bind: { address, port }, connect })
  return socket.address.port
})
