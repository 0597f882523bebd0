import type * as Member from "../member.ts"
import * as Bare from "./bare.ts"
import type * as Driver from "./driver.ts"
import * as EffectNat from "./effectNat.ts"
import * as Nats from "./nats.ts"
import * as Rooms from "./rooms.ts"

export type Protocol = "tcp" | "webSocket" | "nats" | "rooms" | "bare"

export const makers: { readonly [P in Protocol]: (member: Member.Member) => Driver.Driver } = {
  tcp: EffectNat.overTcp,
  webSocket: EffectNat.overWebSocket,
  nats: Nats.make,
  rooms: Rooms.make,
  bare: Bare.make
}
