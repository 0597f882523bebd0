import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as NodeNetworkInterfaces from "@effect-nat/core/NodeNetworkInterfaces"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import { networkInterfaces } from "node:os"

const ip = NetAddress.ipFromStringUnsafe

describe("NodeNetworkInterfaces", () => {
  it.live("shows every address that the system shows, with its network", () =>
    Effect.gen(function* () {
      const list = yield* NetworkInterfaces.NetworkInterfaces.use((interfaces) => interfaces.list)
      const shown = list.flatMap((one) => one.addresses.map((address) => `${one.name} ${IpInterface.format(address)}`))
      const known = Object.entries(networkInterfaces()).flatMap(([name, infos = []]) =>
        infos.map((info) => `${name} ${info.cidr}`)
      )
      assert.deepStrictEqual(shown, known)
      const loopback = list.filter((one) => one.isLoopback)
      assert.lengthOf(loopback, 1)
      assert.isTrue(NetworkInterfaces.isAttached(loopback, NetAddress.ipv4Loopback))
    }).pipe(Effect.provide(NodeNetworkInterfaces.layer))
  )
})

describe("NetworkInterfaces", () => {
  const networkInterface = (name: string, ...addresses: ReadonlyArray<string>) => ({
    name,
    isLoopback: name === "lo",
    addresses: addresses.map((address) => IpInterface.fromStringUnsafe(address))
  })
  const list = [
    networkInterface("lo", "127.0.0.1/8", "::1/128", "10.9.9.9/32"),
    networkInterface("eth0", "192.168.77.2/24", "169.254.3.4/16", "fe80::2/64", "2001:db8::2/64"),
    networkInterface("odd0", "127.0.0.9/8")
  ]

  it.effect("LAN addresses are those that another host could use", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* NetworkInterfaces.lanAddresses).map(NetAddress.formatIp), [
        "192.168.77.2",
        "2001:db8::2"
      ])
    }).pipe(Effect.provide(Layer.succeed(NetworkInterfaces.NetworkInterfaces, { list: Effect.succeed(list) })))
  )

  it("attached is what lies in the network of an interface", () => {
    for (const address of ["192.168.77.255", "127.0.0.2", "fe80::77", "2001:db8::ffff"]) {
      assert.isTrue(NetworkInterfaces.isAttached(list, ip(address)), address)
    }
    for (const address of ["192.168.78.1", "2001:db8:0:1::1", "::ffff:192.168.77.3", "10.9.9.8"]) {
      assert.isFalse(NetworkInterfaces.isAttached(list, ip(address)), address)
    }
  })
})
