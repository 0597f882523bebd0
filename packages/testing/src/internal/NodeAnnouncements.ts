/**
 * What a gateway that speaks NAT-PMP or PCP tells the hosts of its network unasked, on sockets.
 */
import type * as Udp from "@effect-nat/core/Udp"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as NetAddress from "effect/net/NetAddress"
import type * as RouterModel from "../RouterModel.ts"
import * as GatewayAnnouncements from "./gatewayAnnouncements.ts"

/** Those of the router's own family, the earliest first, at one time together. */
const roundsOf = (announcements: ReadonlyArray<GatewayAnnouncements.Announcement>, own: NetAddress.IpAddress) => {
  const sendable = announcements.filter(({ to }) => NetAddress.familyOf(to) === NetAddress.familyOf(own))
  const rounds = Object.entries(Arr.groupBy(sendable, ({ after }) => String(after)))
  return rounds.map(([after, round]) => [Number(after), round] as const).toSorted(([self], [that]) => self - that)
}

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
  const handle = yield* FiberHandle.make()

  const say = Effect.fnUntraced(function* ({ payload, to }: GatewayAnnouncements.Announcement) {
    const now = yield* Clock.currentTimeMillis
    const said = model.isSilent(now) ? undefined : payload(now)
    // Not every machine has multicast on loopback: whoever cannot be told asks.
    if (said !== undefined) yield* Effect.ignore(socket.send(said, NetAddress.inetAddressUnsafe(to, port)))
  })

  const announce = Effect.fnUntraced(function* (occasion: GatewayAnnouncements.Occasion) {
    const announcements = GatewayAnnouncements.of(model, protocols, occasion, yield* Clock.currentTimeMillis)
    let waited = 0
    for (const [after, round] of roundsOf(announcements, socket.address.address)) {
      if (after > waited) yield* Effect.sleep(after - waited)
      waited = after
      yield* Effect.forEach(round, say, { discard: true })
    }
  })

  return (occasion: GatewayAnnouncements.Occasion) => Effect.asVoid(FiberHandle.run(handle, announce(occasion)))
})
