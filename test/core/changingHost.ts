/**
 * A host whose network and clock a test changes, in virtual time.
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"

export interface ChangingHost {
  addresses: ReadonlyArray<string>
  gateways: ReadonlyArray<string>
  /** How far the wall clock is from where it should be, in milliseconds. */
  clockIsOff: number
  /** How long it takes to read the routes, in milliseconds. */
  routesTake: number
  /** How often its addresses and its routes were read. */
  readonly looks: { addresses: number; routes: number }
  readonly layer: Layer.Layer<DefaultRoute.DefaultRoute | NetworkInterfaces.NetworkInterfaces>
}

export const make = (): ChangingHost => {
  const list = Effect.sync(() => {
    host.looks.addresses += 1
    const addresses = host.addresses.map((text) => IpInterface.fromStringUnsafe(text))
    return [
      { name: "lo", isLoopback: true, addresses: [IpInterface.fromStringUnsafe("127.0.0.1/8")] },
      { name: "eth0", isLoopback: false, addresses }
    ]
  })
  const routes = Effect.suspend(() => {
    host.looks.routes += 1
    const known = host.gateways.map((gateway, metric) => ({
      gateway: NetAddress.ipFromStringUnsafe(gateway),
      interface: "eth0",
      metric
    }))
    return Effect.delay(Effect.succeed(known), host.routesTake)
  })
  // Timers go by the monotonic clock.
  const clock = Layer.effect(
    Clock.Clock,
    Clock.clockWith((clock) =>
      Effect.succeed(
        Object.create(clock, {
          currentTimeMillis: { value: Effect.map(clock.currentTimeMillis, (now) => now + host.clockIsOff) }
        })
      )
    )
  )
  const host: ChangingHost = {
    addresses: ["192.168.77.2/24"],
    gateways: ["192.168.77.1"],
    clockIsOff: 0,
    routesTake: 0,
    looks: { addresses: 0, routes: 0 },
    layer: Layer.mergeAll(
      Layer.succeed(NetworkInterfaces.NetworkInterfaces, { list }),
      Layer.succeed(DefaultRoute.DefaultRoute, { routes }),
      clock
    )
  }
  return host
}
