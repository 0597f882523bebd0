import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as SsdpListener from "@effect-nat/upnp/SsdpListener"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"

const toGroup = NetAddress.inetAddressUnsafe(Ssdp.group, Ssdp.port)

const second = 1000

interface Heard {
  readonly at: number
  readonly tag: SsdpListener.Change["_tag"]
  readonly from: string
  readonly isRestarted: boolean
}

const world = (
  seed: number,
  options: {
    readonly link?: Partial<SimulatedNetwork.Link>
    readonly quirks?: ReadonlyArray<"RestartMovesControl">
  } = {}
) => {
  const sent: Array<number> = []
  const network = SimulatedNetwork.make({
    seed,
    onSent: ({ at, payload }) => {
      if (payload !== undefined) sent.push(at)
    }
  })
  const routers = ["192.168.77", "10.1.2"].map((prefix, index) => {
    const lan = network.addLan({ network: `${prefix}.0/24`, link: options.link })
    const model = new RouterModel.RouterModel({
      address: NetAddress.ipFromStringUnsafe(`${prefix}.1`),
      quirks: [...(options.quirks ?? []), ...(index === 1 ? (["LocationWithHostName"] as const) : [])]
    })
    const router = network.addRouter({ lan, model, devices: [SimulatedDevice.upnp(model)] })
    const announce = (payloads: ReadonlyArray<Uint8Array>) =>
      payloads.forEach((payload) => network.announce(router, payload, Ssdp.port, toGroup))
    return {
      lan,
      model,
      router,
      alive: () => announce(UpnpResponder.alive(model, UpnpResponder.placeOf(model))),
      byebye: () => announce(UpnpResponder.byebye(model))
    }
  })
  const [first, other] = routers
  if (first === undefined || other === undefined) throw new Error("no routers")
  const host = network.addHost({
    attachments: [
      { lan: first.lan, address: "192.168.77.2" },
      { lan: other.lan, address: "10.1.2.3" }
    ],
    gateways: [first.router]
  })
  const heard: Array<Heard> = []
  const listen = Effect.gen(function* () {
    const listener = yield* SsdpListener.make
    yield* listener.start
    yield* Stream.runForEach(listener.changes, (change) =>
      Effect.sync(() =>
        heard.push({
          at: network.now,
          tag: change._tag,
          from: NetAddress.formatIp(change.gateway.gateway.address),
          isRestarted: change._tag === "Updated" && change.isRestarted
        })
      )
    )
  }).pipe(Effect.scoped)
  /** The most datagrams that the host sent within a second. */
  const busiest = () => Math.max(...sent.map((start) => sent.filter((at) => at >= start && at < start + second).length))
  return { network, first, other, host, heard, listen, busiest, sent }
}

describe("in a simulated network", () => {
  it("two networks: finds both gateways in less than a hundred datagrams a second, and hears one go and come back", () => {
    const { busiest, first, heard, host, listen, network, other } = world(3)
    const process = host.start()
    process.fork(listen)
    network.runUntil(network.now + 10 * second)
    assert.deepStrictEqual(heard.map(({ from, tag }) => `${tag} ${from}`).toSorted(), [
      "Found 10.1.2.1",
      "Found 192.168.77.1"
    ])
    assert.isAtMost(busiest(), 75)
    other.byebye()
    network.runUntil(network.now + second)
    assert.deepStrictEqual(
      heard.slice(2).map(({ from, tag }) => `${tag} ${from}`),
      ["Gone 10.1.2.1"]
    )
    other.alive()
    first.model.bootId += 1
    first.alive()
    network.runUntil(network.now + second)
    assert.deepStrictEqual(
      heard
        .slice(3)
        .map(({ from, isRestarted, tag }) => `${tag} ${from} ${isRestarted}`)
        .toSorted(),
      ["Found 10.1.2.1 false", "Updated 192.168.77.1 true"]
    )
  })

  it.each([1, 2, 3])("six lossy hours without a single announcement: both gateways stay (seed %s)", (seed) => {
    const { heard, host, listen, network, sent } = world(seed, {
      link: { loss: 0.1, duplication: 0.1, reordering: 0.2, overtaking: 200, delay: [1, 50] }
    })
    host.start().fork(listen)
    network.runUntil(network.now + 6 * 3600 * second)
    assert.deepStrictEqual(heard.map(({ from, tag }) => `${tag} ${from}`).toSorted(), [
      "Found 10.1.2.1",
      "Found 192.168.77.1"
    ])
    // Six datagrams for each gateway before two minutes are over, and seldom a whole search.
    assert.isAtMost(sent.length, 2 * 6 * 200 + 1000)
  })

  it("a router that was switched off is gone when its max-age is over, and found when it is back", () => {
    const { first, heard, host, listen, network, other } = world(5, { quirks: ["RestartMovesControl"] })
    network.remove(other.router)
    host.start().fork(listen)
    network.runUntil(network.now + 10 * second)
    network.remove(first.router)
    network.runUntil(network.now + 35 * 60 * second)
    assert.deepStrictEqual(
      heard.map(({ tag }) => tag),
      ["Found", "Gone"]
    )
    first.model.bootId += 1
    network.addRouter({ lan: first.lan, model: first.model, devices: [SimulatedDevice.upnp(first.model)] })
    network.runUntil(network.now + 20 * 60 * second)
    assert.deepStrictEqual(
      heard.map(({ tag }) => tag),
      ["Found", "Gone", "Found"]
    )
  })

  it("a port 1900 of another program's own is no hindrance", () => {
    const { heard, host, listen, network } = world(7)
    host.takenPorts.add(Ssdp.port)
    host.start().fork(listen)
    network.runUntil(network.now + 600 * second)
    assert.strictEqual(heard.filter(({ tag }) => tag === "Found").length, 2)
    assert.strictEqual(heard.length, 2)
  })

  it("gives the same trace for the same seed", () => {
    const fingerprint = () => {
      const { host, listen, network, other } = world(11, { link: { loss: 0.3 } })
      host.start().fork(listen)
      network.after(20 * second, other.byebye)
      network.runUntil(network.now + 3600 * second)
      return network.fingerprint
    }
    assert.strictEqual(fingerprint(), fingerprint())
  })
})
