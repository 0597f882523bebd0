/**
 * What a gateway that speaks NAT-PMP or PCP tells every host of its network unasked (RFC 6886 §3.2.1, RFC 6887 §14.1).
 */
import type * as Udp from "@effect-nat/core/Udp"
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as NetAddress from "effect/net/NetAddress"
import * as Schedule from "effect/Schedule"
import * as NatPmpResponder from "../NatPmpResponder.ts"
import * as PcpResponder from "../PcpResponder.ts"
import type * as RouterModel from "../RouterModel.ts"

/** Ten in all: datagrams to a group are not acknowledged. */
const repetition = { schedule: Schedule.exponential("250 millis"), times: 9 }

const payloads = (
  model: RouterModel.RouterModel,
  protocols: ReadonlyArray<string>,
  now: number
): ReadonlyArray<Uint8Array> => [
  ...(protocols.includes("natpmp") ? [NatPmpResponder.announcement(model, now)] : []),
  ...(protocols.includes("pcp") ? [PcpResponder.announcement(model, now)] : [])
]

/**
 * Starts a round of announcements, from the socket that requests come to, and ends the one before. Each says how
 * things are when it is sent; the round ends with the scope.
 */
export const make = Effect.fnUntraced(function* (
  model: RouterModel.RouterModel,
  protocols: ReadonlyArray<string>,
  socket: Udp.UdpSocket,
  port: number
) {
  const round = yield* FiberHandle.make()
  const to = NetAddress.inetAddressUnsafe(PcpCodec.group, port)
  const announce = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    if (model.isSilent(now)) return
    // Not every machine has multicast on loopback: whoever cannot be told asks.
    yield* Effect.forEach(payloads(model, protocols, now), (one) => Effect.ignore(socket.send(one, to)), {
      discard: true
    })
  })
  return Effect.asVoid(FiberHandle.run(round, Effect.repeat(announce, repetition)))
})
