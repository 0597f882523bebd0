/**
 * Pinholes in the IPv6 firewall of a simulated router, opened by the real client over IPv6.
 */
import * as Http from "@effect-nat/core/Http"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import type * as Quirk from "@effect-nat/testing/Quirk"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import type * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import * as SoapClient from "@effect-nat/upnp/SoapClient"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as WanIpv6FirewallControl from "@effect-nat/upnp/WanIpv6FirewallControl"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"

const ip = NetAddress.ipFromStringUnsafe

/** A host with both families behind a gateway of the second version that is reached over both. */
const build = (prefix: string, ...quirks: ReadonlyArray<Quirk.Quirk>) => {
  const network = SimulatedNetwork.make({ seed: 1 })
  const lan = network.addLan({ network: "192.168.77.0/24" })
  const lan6 = network.addLan({ network: `${prefix}/64` })
  const model = new RouterModel.RouterModel({ quirks, igdVersion: 2 })
  const device = SimulatedDevice.upnp(model)
  const router = network.addRouter({ lan, model, devices: [device] })
  network.addAppliance({ lan: lan6, address: `${prefix}1`, devices: [{ onRequest: device.onRequest }] })
  const host = network.addHost({
    attachments: [
      { lan, address: "192.168.77.2" },
      { lan: lan6, address: `${prefix}2` }
    ],
    gateways: [router, ip(`${prefix}1`)]
  })
  return { network, model, host }
}

/** Opens a pinhole through the router at one of its addresses: its id, or the error code. */
const open = (model: RouterModel.RouterModel, router: string, internalClient: string) =>
  Effect.gen(function* () {
    const { pathname, port } = new URL(UpnpResponder.locationOf(model, UpnpResponder.placeOf(model)))
    const location: HttpUrl.HttpUrl = {
      address: NetAddress.inetAddressUnsafe(ip(router), Number(port)),
      path: pathname
    }
    const http = yield* Http.Http
    const maxBytes = DeviceDescription.maximumBytes
    const { body } = yield* http.request({ method: "GET", ...location, maxBytes })
    const device = yield* Effect.fromResult(DeviceDescription.parse(body, location))
    const [found] = DeviceDescription.servicesOf(device, DeviceDescription.serviceTypes.wanIpv6FirewallControl)
    if (found === undefined) return "no firewall"
    const firewall = WanIpv6FirewallControl.make(yield* SoapClient.make, found.service)
    const flow = { remoteHost: "", remotePort: 0, internalClient, internalPort: 12_000, protocol: "TCP" } as const
    return yield* firewall.addPinhole({ ...flow, leaseSeconds: 600 }).pipe(
      Effect.map((id) => `pinhole ${id}`),
      Effect.catchTag("UpnpFault", ({ code }) => Effect.succeed(`error ${code}`))
    )
  }).pipe(Effect.scoped)

const packet = {
  protocol: 6,
  from: NetAddress.inetAddressUnsafe(ip("2001:db8:1::1"), 40_000),
  to: NetAddress.inetAddressUnsafe(ip("2001:db8:77::2"), 12_000)
}

describe("a pinhole", () => {
  it.effect.each([
    ["2001:db8:77::", "192.168.77.1", [], "pinhole 0"],
    ["2001:db8:77::", "192.168.77.1", ["PinholeNeedsGlobalAddress"], "error 606"],
    ["2001:db8:77::", "2001:db8:77::1", ["PinholeNeedsGlobalAddress"], "pinhole 0"],
    ["fd00:77::", "fd00:77::1", ["PinholeNeedsGlobalAddress"], "error 606"]
  ] as const)("to %s2, asked for at %s, with %j: %s", ([prefix, router, quirks, expected]) =>
    Effect.gen(function* () {
      const { host, model, network } = build(prefix, ...quirks)
      assert.strictEqual(yield* network.run(host.start(), open(model, router, `${prefix}2`)), expected)
      assert.strictEqual(model.pinholes.admit(network.now, packet), expected === "pinhole 0")
    })
  )

  it.effect("is what the strategy opens for IPv6, by the router's global address, and closes", () =>
    Effect.gen(function* () {
      const { host, model, network } = build("2001:db8:77::", "PinholeNeedsGlobalAddress")
      const program = Effect.gen(function* () {
        const mapper = yield* PortMapper.PortMapper
        const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 12_000, family: "ipv6", lifetime: "1 hour" })
        const isOpen = () => model.pinholes.admit(network.now, packet)
        const atOnce = isOpen()
        yield* Effect.sleep("25 hours")
        const aDayLater = isOpen()
        yield* mapping.release
        return [atOnce, aDayLater, isOpen()]
      }).pipe(Effect.scoped, Effect.provide(Upnp.layer))
      assert.deepStrictEqual(yield* network.run(host.start(), program), [true, true, false])
    })
  )
})

describe("a pinhole over PCP", () => {
  /** A host of both families behind a router that speaks PCP in either. */
  const buildPcp = (...quirks: ReadonlyArray<Quirk.Quirk>) => {
    const network = SimulatedNetwork.make({ seed: 1 })
    const lan = network.addLan({ network: "192.168.77.0/24" })
    const lan6 = network.addLan({ network: "2001:db8:77::/64" })
    const model = new RouterModel.RouterModel({ quirks })
    const router = network.addRouter({ lan, model, devices: [SimulatedDevice.pcp(model)] })
    const face = network.addRouter({
      lan: lan6,
      model,
      devices: [SimulatedDevice.pcp(model)],
      address: "2001:db8:77::1"
    })
    const host = network.addHost({
      attachments: [
        { lan, address: "192.168.77.2" },
        { lan: lan6, address: "2001:db8:77::2" }
      ],
      gateways: [router, face]
    })
    return { network, model, host }
  }

  it.effect("is opened, renewed for a day and closed, and lets packets in meanwhile", () =>
    Effect.gen(function* () {
      const { host, model, network } = buildPcp()
      const isOpen = () => model.pinholes.admit(network.now, packet)
      const program = Effect.gen(function* () {
        const mapper = yield* PortMapper.PortMapper
        const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 12_000, family: "ipv6", lifetime: "1 hour" })
        const { externalAddress, externalPort, method } = yield* mapping.current
        assert.deepStrictEqual(
          [method, String(externalAddress), externalPort],
          ["pcp", String(ip("2001:db8:77::2")), 12_000]
        )
        const atOnce = isOpen()
        yield* Effect.sleep("25 hours")
        const aDayLater = isOpen()
        yield* mapping.release
        return [atOnce, aDayLater, isOpen()]
      }).pipe(Effect.scoped, Effect.provide(Pcp.layer))
      assert.deepStrictEqual(yield* network.run(host.start(), program), [true, true, false])
    })
  )

  it.effect.each(["AnnouncesOnlyToGroup", "AnnouncesOnlyToClients"] as const)(
    "that a restart has closed is opened again when the router says so (%s)",
    (quirk) =>
      Effect.gen(function* () {
        const { host, model, network } = buildPcp(quirk)
        const program = Effect.gen(function* () {
          const mapper = yield* PortMapper.PortMapper
          yield* mapper.map({ protocol: "tcp", internalPort: 12_000, family: "ipv6", lifetime: "2 hours" })
          yield* Effect.sleep("10 minutes")
          model.reboot(network.now)
          const closed = model.pinholes.admit(network.now, packet)
          yield* Effect.sleep("10 seconds")
          return [closed, model.pinholes.admit(network.now, packet)]
        }).pipe(Effect.scoped, Effect.provide(Pcp.layer))
        assert.deepStrictEqual(yield* network.run(host.start(), program), [false, true])
      })
  )
})

describe("a router that fails when both families search at once", () => {
  it.effect("is searched for over one of them, and maps", () =>
    Effect.gen(function* () {
      const { host, model, network } = build("2001:db8:77::", "FailsWhenFamiliesSearchAtOnce")
      const map = PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12_000 }))
      const program = Effect.andThen(map, Effect.sleep("1 hour")).pipe(Effect.scoped, Effect.provide(Upnp.layer))
      yield* network.run(host.start(), program)
      assert.isFalse(
        model.asked.some(({ action, client }) => action === "M-SEARCH" && NetAddress.isIpv6Address(client))
      )
      assert.isTrue(model.asked.some(({ action }) => action === "AddAnyPortMapping" || action === "AddPortMapping"))
    })
  )
})
