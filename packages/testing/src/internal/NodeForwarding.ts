/**
 * What makes a simulated router a router: whoever comes to an external port is passed on to the host inside.
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import type * as DatagramSocket from "effect/socket/DatagramSocket"
import * as NodeRouterUdp from "./NodeRouterUdp.ts"
import * as NodeTcp from "./NodeTcp.ts"
import type { RouterSocketError } from "./routerSocketError.ts"

/** Where packets of a sender go; `undefined` where they are not wanted. Asked anew for each connection or datagram. */
export type Target = (from: NetAddress.IpAddress) => NetAddress.InetAddress | undefined

/** An external port. */
export interface Outside {
  readonly protocol: PortMapping.Protocol
  readonly address: NetAddress.IpAddress
  readonly port: number
}

const forwardTcp = ({ address, port }: Outside, target: Target) =>
  NodeTcp.listen(address, port, (socket, from) => {
    const to = target(from)
    if (to === undefined) return NodeTcp.refuse(socket)
    NodeTcp.join(socket, to)
  })

/** A flow that is not used so long is forgotten. */
const idle = "30 seconds"
/** More flows than that through one port are a flood. */
const maximumFlows = 256

const forwardUdp = Effect.fnUntraced(function* ({ address, port }: Outside, target: Target) {
  const udp = yield* Udp.Udp
  const outer = yield* NodeRouterUdp.open({ bind: { address, port } })
  const scope = yield* Effect.scope
  const flows = new Map<string, Udp.UdpSocket>()

  /** A socket towards the host inside for one sender, through which the host's answers find their way back. */
  const openFlow = Effect.fnUntraced(function* (
    name: string,
    from: NetAddress.InetAddress,
    to: NetAddress.InetAddress
  ) {
    const flowScope = yield* Scope.fork(scope)
    const inner = yield* Scope.provide(udp.open({ connect: to }), flowScope)
    flows.set(name, inner)
    yield* Scope.addFinalizer(
      flowScope,
      Effect.sync(() => flows.delete(name))
    )
    const answers = inner.receive.pipe(
      Effect.timeout(idle),
      Effect.flatMap((datagrams) =>
        Effect.forEach(datagrams, ({ payload }) => outer.send(payload, from), { discard: true })
      ),
      Effect.forever,
      Effect.ignore
    )
    yield* Effect.forkIn(Effect.andThen(answers, Scope.close(flowScope, Exit.void)), scope)
    return inner
  })

  const pass = Effect.fnUntraced(function* ({ address: from, payload }: DatagramSocket.Datagram) {
    const to = target(from.address)
    if (to === undefined) return
    const name = `${NetAddress.formatInet(from)} ${NetAddress.formatInet(to)}`
    const known = flows.get(name)
    if (known === undefined && flows.size >= maximumFlows) return
    const inner = known ?? (yield* openFlow(name, from, to))
    yield* inner.send(payload)
  })

  const passAll = outer.receive.pipe(
    Effect.flatMap((datagrams) =>
      Effect.forEach(datagrams, (datagram) => Effect.ignore(pass(datagram)), { discard: true })
    ),
    Effect.forever
  )
  yield* Effect.forkScoped(Effect.ignore(passAll))
})

/** Forwards until the scope closes, which also ends the connections that came by the port. */
export const forward = (
  outside: Outside,
  target: Target
): Effect.Effect<void, RouterSocketError, Udp.Udp | Scope.Scope> =>
  outside.protocol === "tcp" ? Effect.asVoid(forwardTcp(outside, target)) : forwardUdp(outside, target)
