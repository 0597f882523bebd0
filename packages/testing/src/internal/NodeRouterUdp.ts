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

/** Runs until the scope closes; a datagram that cannot be answered is one that got lost. */
export const serve = (
  socket: Udp.UdpSocket,
  answer: (datagram: DatagramSocket.Datagram) => Effect.Effect<void, DatagramSocket.DatagramSocketError>
) =>
  socket.receive.pipe(
    Effect.flatMap((datagrams) => Effect.forEach(datagrams, (one) => Effect.ignore(answer(one)), { discard: true })),
    Effect.forever,
    Effect.ignore,
    Effect.forkScoped
  )

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
