/**
 * A gateway for tests in virtual time that speaks what it is told to, from the simulated router's model.
 */
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import * as PcpResponder from "@effect-nat/testing/PcpResponder"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Net from "./network.ts"

export interface PcpRouter {
  readonly model: RouterModel.RouterModel
  readonly peer: Net.Peer
  /** What was asked, for example `map 6 12000 12001 7200`, `announce`, or `v0 0` for other versions and their opcodes. */
  readonly asked: Array<string>
  /** All PCP requests as they came. */
  readonly requests: Array<PcpCodec.Request>
  /** The address that requests seem to come from; by default what they say. */
  client: NetAddress.IpAddress
  /** Whether nothing goes out, though requests are served. */
  isMute: (payload: Uint8Array) => boolean
  /** Changes an answer on its way; what is `undefined` is not sent. */
  alter: (answer: Uint8Array, request: Uint8Array) => Uint8Array | undefined
  /** What is announced to the hosts of its network. */
  readonly announce: Effect.Effect<Uint8Array>
}

const describe = (payload: Uint8Array): string => {
  if (payload[0] !== PcpCodec.version) return `v${payload[0]} ${payload[1]}`
  const request = Result.getOrThrow(PcpCodec.decodeRequest(payload))
  if (request._tag !== "MapRequest") return request._tag === "AnnounceRequest" ? "announce" : "peer"
  const options = request.options.map((option) => ` ${option._tag}`).join("")
  return `map ${request.protocol} ${request.internalPort} ${request.externalPort} ${request.lifetime}${options}`
}

export const make = (
  options: {
    readonly respond?: PcpResponder.Responder
    readonly model?: ConstructorParameters<typeof RouterModel.RouterModel>[0]
  } = {}
): PcpRouter => {
  const respond = options.respond ?? PcpResponder.respondToBoth
  const model = new RouterModel.RouterModel({ address: Net.gateway, startedAt: -1_000_000, ...options.model })
  const router: PcpRouter = {
    model,
    asked: [],
    requests: [],
    client: Net.own,
    isMute: () => false,
    alter: (answer) => answer,
    peer: Effect.fnUntraced(function* ({ payload, socket }) {
      router.asked.push(describe(payload))
      const request = PcpCodec.decodeRequest(payload)
      if (Result.isSuccess(request)) router.requests.push(request.success)
      const answer = respond(model, yield* Clock.currentTimeMillis, payload, router.client)
      if (answer === undefined || router.isMute(payload)) return
      const altered = router.alter(answer, payload)
      if (altered !== undefined) socket.reply(altered)
    }),
    announce: Effect.map(Clock.currentTimeMillis, (now) => PcpResponder.announcement(model, now))
  }
  return router
}
