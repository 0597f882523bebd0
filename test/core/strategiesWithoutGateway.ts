/**
 * A host on one network, for the strategies that talk to no gateway: whoever sends with it, dies.
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as Udp from "@effect-nat/core/Udp"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import * as DatagramSocket from "effect/socket/DatagramSocket"

const ip = NetAddress.ipFromStringUnsafe

/** The addresses that sockets were opened towards, or `everybody`. */
export interface Opened {
  readonly towards: Array<string>
}

const refuse = Effect.fail(
  new DatagramSocket.DatagramSocketError({
    reason: new DatagramSocket.DatagramSocketOpenError({ kind: "AddressNotAvailable", cause: undefined })
  })
)

const isIpv4 = (address: NetAddress.IpAddress) => NetAddress.isIpv4Address(address)

export const host = (
  options: {
    readonly opened?: Opened
    readonly gateways?: ReadonlyArray<string>
    readonly isOffline?: boolean
    readonly interfaces?: ReadonlyArray<string>
  } = {}
): Layer.Layer<Udp.Udp | DefaultRoute.DefaultRoute | NetworkInterfaces.NetworkInterfaces> =>
  Layer.mergeAll(
    Layer.succeed(Udp.Udp, {
      open: ({ connect }) => {
        options.opened?.towards.push(connect === undefined ? "everybody" : NetAddress.formatIp(connect.address))
        if (connect === undefined) return Effect.die("a socket for more than one peer")
        if (options.isOffline === true) return refuse
        return Effect.succeed({
          address: NetAddress.inetAddressUnsafe(
            isIpv4(connect.address) ? ip("192.168.77.2") : ip("2001:db8::2"),
            40_000
          ),
          receive: Effect.die("received"),
          send: () => Effect.die("sent"),
          joinMulticast: () => Effect.die("joined")
        })
      }
    }),
    Layer.succeed(DefaultRoute.DefaultRoute, {
      routes: Effect.succeed(
        (options.gateways ?? ["192.168.77.1", "2001:db8::1"]).map((gateway, metric) => ({
          gateway: ip(gateway),
          interface: "eth0",
          metric
        }))
      )
    }),
    Layer.succeed(NetworkInterfaces.NetworkInterfaces, {
      list: Effect.succeed([
        { name: "lo", isLoopback: true, addresses: [IpInterface.fromStringUnsafe("127.0.0.1/8")] },
        {
          name: "eth0",
          isLoopback: false,
          addresses: (options.interfaces ?? ["fe80::2/64", "192.168.77.3/24", "2001:db8::3/64"]).map((address) =>
            IpInterface.fromStringUnsafe(address)
          )
        }
      ])
    })
  )
