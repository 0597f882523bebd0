/**
 * UDP sockets of Node.
 *
 * @since 0.1.0
 */
import * as NodeDatagramSocket from "@effect/platform-node/NodeDatagramSocket"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Udp from "./Udp.ts"

/** Enough for a whole search; more than that in one turn is a flood, and the rest is dropped. */
const receiveCapacity = 512

const notMulticast = (group: NetAddress.IpAddress) =>
  new DatagramSocket.DatagramSocketError({
    reason: new DatagramSocket.DatagramSocketOpenError({
      kind: "AddressNotAvailable",
      cause: new Error(`${NetAddress.formatIp(group)} is not a multicast group`)
    })
  })

const open = Effect.fnUntraced(function* (options: Udp.OpenOptions) {
  // On a connected socket an ICMP report arrives as an error that belongs to no call; here it ends `receive`.
  const reported = yield* Deferred.make<never, DatagramSocket.DatagramSocketError>()
  const socket = yield* NodeDatagramSocket.make({
    bind: options.bind,
    reuseAddress: options.reuseAddress ?? false,
    broadcast: options.broadcast ?? false,
    receiveBuffer: { capacity: receiveCapacity },
    multicast: options.multicast,
    onError: (error) => {
      Deferred.doneUnsafe(reported, Effect.fail(error))
    },
    ...(options.connect === undefined ? {} : { connect: options.connect })
  })
  const reader = yield* socket.reader
  const writer = yield* socket.writer
  return {
    address: reader.address,
    receive: Effect.raceFirst(reader.pull, Deferred.await(reported)),
    send: (payload, to) => writer.write({ payload, ...(to === undefined ? {} : { address: to }) }),
    joinMulticast: (group, onInterface) => {
      if (!NetAddress.isMulticast(group)) return Effect.fail(notMulticast(group))
      if (NetAddress.isIpv4Address(group)) {
        return reader.joinMulticast({ group, ...(typeof onInterface === "object" ? { interface: onInterface } : {}) })
      }
      return reader.joinMulticast({ group, ...(typeof onInterface === "number" ? { interface: onInterface } : {}) })
    }
  } satisfies Udp.UdpSocket
})

/**
 * The real network.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Udp.Udp> = Layer.succeed(Udp.Udp, { open })
