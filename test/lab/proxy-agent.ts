/**
 * A listener on loopback for a forwarder that sends headers of the PROXY protocol: prints where each connection comes
 * from, and what it says, inside of TLS too.
 */
import * as NodeCertificate from "@effect-nat/dispatcher/NodeCertificate"
import * as NodeTcpListener from "@effect-nat/dispatcher/NodeTcpListener"
import * as TcpListener from "@effect-nat/dispatcher/TcpListener"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, FiberSet } from "effect"
import { NetAddress } from "effect/net"

const [port = ""] = process.argv.slice(2)

const listening = Effect.gen(function* () {
  const listener = yield* TcpListener.TcpListener
  const say = yield* FiberSet.makeRuntime()
  yield* listener.listen({
    port: Number(port),
    address: NetAddress.ipv4Loopback,
    proxyProtocol: true,
    tls: yield* NodeCertificate.selfSigned(),
    maxMessageBytes: 65_536,
    onAcceptError: () => {},
    onConnection: (connection) => {
      const { remoteAddress } = connection
      const from = remoteAddress === undefined ? "somewhere" : NetAddress.formatIp(remoteAddress.address)
      say(Console.log(`connection from ${from}`))
      return {
        onData: (chunk) => {
          say(Console.log(`${from} says ${new TextDecoder().decode(chunk).trim()}`))
          connection.end()
        },
        onEnd: () => connection.end(),
        onClose: () => {}
      }
    }
  })
  yield* Console.log("listening")
  return yield* Effect.never
}).pipe(Effect.scoped, Effect.provide(NodeTcpListener.layer))

NodeRuntime.runMain(listening)
