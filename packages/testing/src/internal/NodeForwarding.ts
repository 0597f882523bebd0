/**
 * What makes a simulated router a router: whoever comes to an external port is passed on to the host inside.
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Udp from "@effect-nat/core/Udp"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type * as DatagramSocket from "effect/socket/DatagramSocket"
import * as NodeRouterUdp from "./NodeRouterUdp.ts"
import * as NodeTcp from "./NodeTcp.ts"
import type { RouterSocketError } from "./routerSocketError.ts"

/** Where packets of a sender go; `undefined` where they are not wanted. Asked anew for each connection or datagram. */
export type Target = (from: NetAddress.InetAddress) => NetAddress.InetAddress | undefined

/** An external port. */
export interface Outside {
  readonly protocol: PortMapping.Protocol
  readonly address: NetAddress.IpAddress
  readonly port: number
}

const forwardTcp = ({ address, port }: Outside, target: Target) =>
  NodeTcp.listen(address, port, (socket, from) => {
    const to = target(NetAddress.inetAddressUnsafe(from, socket.remotePort ?? 0))
    if (to === undefined) return NodeTcp.refuse(socket)
    NodeTcp.join(socket, to)
  })

/** A flow that is not used so long is forgotten. */
const idle = 30_000
/** More flows than that through one port are a flood. */
const maximumFlows = 256

/** What one sender says and hears through one port. */
interface Flow {
  /** Towards the host inside, whose answers find their way back by it. */
  readonly socket: Udp.UdpSocket
  /** In milliseconds; either way counts. */
  usedAt: number
}

const forwardUdp = Effect.fnUntraced(function* ({ address, port }: Outside, target: Target) {
  const udp = yield* Udp.Udp
  const outer = yield* NodeRouterUdp.open({ bind: { address, port } })
  const scope = yield* Effect.scope
  const flows = new Map<string, Flow>()

  /** Until the flow is idle, or the host inside refuses it. */
  const passAnswers = Effect.fnUntraced(function* (flow: Flow, from: NetAddress.InetAddress) {
    while (true) {
      const left = flow.usedAt + idle - (yield* Clock.currentTimeMillis)
      if (left <= 0) return
      const answers = yield* Effect.timeoutOption(flow.socket.receive, left)
      if (Option.isNone(answers)) continue
      flow.usedAt = yield* Clock.currentTimeMillis
      yield* Effect.forEach(answers.value, ({ payload }) => Effect.ignore(outer.send(payload, from)), { discard: true })
    }
  })

  const openFlow = Effect.fnUntraced(function* (
    name: string,
    from: NetAddress.InetAddress,
    to: NetAddress.InetAddress
  ) {
    const flowScope = yield* Scope.fork(scope)
    const close = Scope.close(flowScope, Exit.void)
    const socket = yield* Effect.onError(Scope.provide(udp.open({ connect: to }), flowScope), () => close)
    const flow: Flow = { socket, usedAt: yield* Clock.currentTimeMillis }
    flows.set(name, flow)
    yield* Scope.addFinalizer(
      flowScope,
      Effect.sync(() => flows.delete(name))
    )
    yield* Effect.forkIn(Effect.ensuring(Effect.ignore(passAnswers(flow, from)), close), scope)
    return flow
  })

  const pass = Effect.fnUntraced(function* ({ address: from, payload }: DatagramSocket.Datagram) {
    const to = target(from)
    if (to === undefined) return
    const name = `${NetAddress.formatInet(from)} ${NetAddress.formatInet(to)}`
    const known = flows.get(name)
    if (known === undefined && flows.size >= maximumFlows) return
    const flow = known ?? (yield* openFlow(name, from, to))
    flow.usedAt = yield* Clock.currentTimeMillis
    yield* flow.socket.send(payload)
  })

  yield* NodeRouterUdp.serve(outer, pass)
})

/** Forwards until the scope closes, which also ends the connections that came by the port. */
export const forward = (
  outside: Outside,
  target: Target
): Effect.Effect<void, RouterSocketError, Udp.Udp | Scope.Scope> =>
  outside.protocol === "tcp" ? Effect.asVoid(forwardTcp(outside, target)) : forwardUdp(outside, target)
