import * as Announcer from "@effect-nat/core/Announcer"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Udp from "@effect-nat/core/Udp"
import * as Beacon from "@effect-nat/dispatcher/Beacon"
import * as BeaconCodec from "@effect-nat/dispatcher/BeaconCodec"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Stream from "effect/Stream"
import * as ContactPoints from "../core/contactPoints.ts"
import { hex } from "./support.ts"

const inet = NetAddress.inetAddressFromStringUnsafe
const second = 1000

const sessionOf = (index: number) =>
  new ContactPoint.Session({ id: SessionId.SessionId.make(index.toString(16).padStart(32, "0")), capabilities: [] })

const instanceOf = (index: number) => ContactPoint.InstanceId.make(index.toString(16).padStart(32, "0"))

const island = (address: string, known: ContactPoint.Known = {}) =>
  ContactPoint.make({ name: "island", internal: [inet(address)], sessions: [sessionOf(1)], ...known })

interface Sent {
  readonly at: number
  readonly from: string
  readonly to: string
  readonly packet: BeaconCodec.Packet
  readonly bytes: Uint8Array
}

/** What a watch tells: when, what, and the sighting. */
interface Told {
  readonly at: number
  readonly tag: Beacon.Change["_tag"]
  readonly sighting: Beacon.Sighting
}

const world = () => {
  const sent: Array<Sent> = []
  const network = SimulatedNetwork.make({
    seed: 1,
    onSent: ({ at, from, payload = new Uint8Array(), to }) =>
      sent.push({
        at,
        from: NetAddress.formatIp(from.address),
        to: NetAddress.formatInet(to),
        packet: Result.getOrThrow(BeaconCodec.decode(payload)),
        bytes: payload
      })
  })
  const lan = network.addLan({ network: "192.168.77.0/24" })
  const addHost = (address: string) => network.addHost({ attachments: [{ lan, address }], gateways: [] })
  const here = addHost("192.168.77.2")
  const there = addHost("192.168.77.3")

  /** Announces until the scope that it gives is closed, in a process of its own. */
  const announce = (
    host: SimulatedNetwork.Host,
    contactPoints: Stream.Stream<ContactPoint.ContactPoint>,
    options?: Beacon.Options
  ) => {
    const process = host.start()
    const fiber = process.fork(
      Announcer.Announcer.use((announcer) => announcer.announce(contactPoints)).pipe(
        Effect.andThen(Effect.never),
        Effect.scoped,
        Effect.provide(Beacon.layer(options))
      )
    )
    return { process, end: () => void process.fork(Fiber.interrupt(fiber)) }
  }

  /** Watches in a process of its own. */
  const watch = (host: SimulatedNetwork.Host, options?: Beacon.Options) => {
    const told: Array<Told> = []
    const program = Effect.gen(function* () {
      const { changes } = yield* Beacon.Beacon.use((beacon) => beacon.watch())
      yield* Stream.runForEach(changes, ({ _tag: tag, sighting }) =>
        Effect.sync(() => told.push({ at: network.now, tag, sighting }))
      )
    }).pipe(Effect.scoped, Effect.provide(Beacon.layer(options)))
    const fiber = host.start().fork(program)
    return { told, fiber, summary: () => told.map(({ at, sighting, tag }) => [at, tag, sighting.contactPoint.name]) }
  }

  const inject = (host: SimulatedNetwork.Host, from: string, packet: BeaconCodec.Packet | Uint8Array) =>
    network.inject({
      host,
      from: inet(`${from}:40000`),
      to: inet("192.168.77.255:43215"),
      payload: packet instanceof Uint8Array ? packet : BeaconCodec.encode(packet)
    })

  const pass = (time: number) => network.runUntil(network.now + time)

  return { network, lan, addHost, here, there, sent, announce, watch, inject, pass }
}

/** Contact points at their times, in milliseconds from the beginning. */
const timed = (...all: ReadonlyArray<readonly [at: number, contactPoint: ContactPoint.ContactPoint]>) =>
  Stream.fromIterable(all).pipe(
    Stream.mapEffect(([at, contactPoint]) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.as(Effect.sleep(at - now), contactPoint))
    )
  )

const crqt = (session: number, name = "old", port = 12000): BeaconCodec.Packet => ({
  _tag: "Crqt",
  port,
  session: sessionOf(session).id,
  name
})

const extended = (index: number, known: ContactPoint.Known = {}, port = 12000): BeaconCodec.Packet => ({
  _tag: "Extended",
  port,
  instance: instanceOf(index),
  contactPoint: ContactPoint.make({ name: `island ${index}`, ...known, instance: instanceOf(index) })
})

describe("what is announced", () => {
  it("goes out at once and every 5 seconds: the whole contact point, and the old packet for each session", () => {
    const { announce, pass, sent, there } = world()
    announce(there, Stream.make(island("192.168.77.3:12000", { sessions: [sessionOf(1), sessionOf(2)] })))
    pass(11 * second)
    assert.deepStrictEqual(
      sent.map(({ at, from, packet, to }) => [at, from, to, packet._tag]),
      [0, 5, 10].flatMap((at) =>
        ["Extended", "Crqt", "Crqt"].map((tag) => [at * second, "192.168.77.3", "192.168.77.255:43215", tag])
      )
    )
    assert.strictEqual(hex(sent[1]?.bytes ?? assert.fail()), hex(BeaconCodec.encode(crqt(1, "island"))))
    assert.strictEqual(hex(sent[2]?.bytes ?? assert.fail()), hex(BeaconCodec.encode(crqt(2, "island"))))
  })

  it("has no secrets, unless that is wanted, and never what opens the control", () => {
    const { announce, network, pass, sent, there } = world()
    announce(there, Stream.make(ContactPoints.full))
    pass(second)
    sent.length = 0
    announce(there, Stream.make(ContactPoints.full), { withCapabilities: true })
    network.runUntil(2 * second)
    const [packet] = sent.map((one) => one.packet)
    assert(packet?._tag === "Extended")
    const open = packet.contactPoint
    assert.deepStrictEqual(open.sessions, ContactPoints.full.sessions)
    assert.isUndefined(open.control)
    network.runUntil(5 * second)
    const locked = sent.flatMap((one) => (one.packet._tag === "Extended" ? [one.packet.contactPoint] : [])).at(-1)
    assert.deepStrictEqual(
      locked?.sessions.map(({ capabilities }) => capabilities),
      [[], []]
    )
    assert.isUndefined(locked?.control)
  })

  it("is told again at once when it changes, and not when it does not; however fast, four times a second", () => {
    const { announce, pass, sent, there } = world()
    const named = (name: string) => island("192.168.77.3:12000", { name })
    const names = () => sent.flatMap(({ at, packet }) => (packet._tag === "Crqt" ? [[at, packet.name]] : []))
    const few = [
      [1000, named("first")],
      [2500, named("second")],
      [2600, named("third")],
      [4000, named("third")]
    ] as const
    const many = Array.from({ length: 1000 }, (_, index) => [5000 + index, named(`${index}`)] as const)
    announce(there, timed(...few, ...many))
    pass(4999)
    assert.deepStrictEqual(names(), [
      [1000, "first"],
      [2500, "second"],
      [2750, "third"]
    ])
    sent.length = 0
    pass(1250)
    assert.isAtMost(names().length, 5)
    assert.strictEqual(names().at(-1)?.[1], "999")
  })

  it("goes on after the end of the stream, and keeps one instance id", () => {
    const { announce, pass, sent, there } = world()
    announce(there, Stream.make(island("192.168.77.3:12000"), island("192.168.77.3:12000", { name: "later" })))
    pass(60 * second)
    const instances = sent.flatMap(({ packet }) => (packet._tag === "Extended" ? [packet.instance] : []))
    assert.isAtLeast(instances.length, 12)
    assert.strictEqual(new Set(instances).size, 1)
  })

  it("is told in the old format for 16 sessions at most", () => {
    const { announce, pass, sent, there } = world()
    const sessions = Array.from({ length: 20 }, (_, index) => sessionOf(index))
    announce(there, Stream.make(island("192.168.77.3:12000", { sessions })))
    pass(second)
    assert.deepStrictEqual(
      sent.flatMap(({ packet }) => (packet._tag === "Crqt" ? [packet.session] : [])),
      sessions.slice(0, 16).map(({ id }) => id)
    )
  })

  it("is of the instance that it says, and says goodbye to the one before", () => {
    const { announce, here, pass, there, watch } = world()
    const { told } = watch(here)
    const of = (index: number) => island("192.168.77.3:12000", { instance: instanceOf(index) })
    announce(there, timed([1000, of(1)], [3000, of(2)]))
    pass(30 * second)
    assert.deepStrictEqual(
      told.map(({ at, sighting, tag }) => [at, tag, sighting.contactPoint.instance]),
      [
        [1001, "Found", instanceOf(1)],
        [3001, "Lost", instanceOf(1)],
        [3001, "Found", instanceOf(2)]
      ]
    )
  })

  it("promises three intervals, or less where less is promised", () => {
    const lifetimeOf = (options: Beacon.Options, lifetime?: number) => {
      const { announce, pass, sent, there } = world()
      announce(there, Stream.make(island("192.168.77.3:12000", { lifetime })), options)
      pass(second)
      const packet = sent[0]?.packet
      return packet?._tag === "Extended" ? packet.contactPoint.lifetime : undefined
    }
    assert.strictEqual(lifetimeOf({}), 15)
    assert.strictEqual(lifetimeOf({}, 3600), 15)
    assert.strictEqual(lifetimeOf({}, 4), 4)
    assert.strictEqual(lifetimeOf({ interval: "1500 millis" }), 5)
  })

  it("of another host has no port at the sender, and no old packets", () => {
    const { announce, here, pass, sent, there, watch } = world()
    const { told } = watch(here)
    announce(there, Stream.make(island("192.168.77.9:12000")))
    pass(second)
    assert.deepStrictEqual(
      sent.map(({ packet }) => (packet._tag === "Extended" ? packet.port : packet._tag)),
      [0]
    )
    assert.deepStrictEqual(told[0]?.sighting.contactPoint.internal, [inet("192.168.77.9:12000")])
  })

  it("leaves out what leads nobody anywhere", () => {
    const { announce, pass, sent, there } = world()
    const internal = ["127.0.0.1:1", "0.0.0.0:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "224.0.0.1:1", "192.168.77.3:0"]
    announce(there, Stream.make(island("192.168.77.3:1", { internal: [...internal, "192.168.77.3:1"].map(inet) })))
    pass(second)
    const packet = sent[0]?.packet
    assert.deepStrictEqual(packet?._tag === "Extended" ? packet.contactPoint.internal : [], [inet("192.168.77.3:1")])
  })

  it("goes to each network once, but for those without a broadcast address, and follows this host", () => {
    const { addHost, announce, lan, network, pass, sent } = world()
    const other = network.addLan({ network: "10.0.0.0/8" })
    const host = addHost("192.168.77.4")
    host.move({
      attachments: [
        { lan, address: "192.168.77.4" },
        { lan: network.addLan({ network: "10.1.0.0/31" }), address: "10.1.0.0" },
        { lan: network.addLan({ network: "10.1.0.9/32" }), address: "10.1.0.9" },
        { lan: network.addLan({ network: "172.16.0.0/30" }), address: "172.16.0.1" }
      ],
      gateways: []
    })
    announce(host, Stream.make(island("192.168.77.4:12000")))
    pass(second)
    const receivers = () => new Set(sent.map(({ to }) => to))
    assert.deepStrictEqual(receivers(), new Set(["192.168.77.255:43215", "172.16.0.3:43215"]))
    host.move({ attachments: [{ lan: other, address: "10.2.3.4" }], gateways: [] })
    sent.length = 0
    pass(5 * second)
    assert.deepStrictEqual(receivers(), new Set(["10.255.255.255:43215"]))
  })

  it("goes once to a network that an interface has two addresses of, and never to loopback", () => {
    const { pass, sent, there } = world()
    const addresses = ["192.168.77.3/24", "192.168.77.9/24"].map((text) => IpInterface.fromStringUnsafe(text))
    const list = Effect.succeed([
      { name: "lo", isLoopback: true, addresses: [IpInterface.fromStringUnsafe("127.0.0.1/8")] },
      { name: "eth0", isLoopback: false, addresses }
    ])
    const bound: Array<string> = []
    there.start().fork(
      Effect.gen(function* () {
        const udp = yield* Udp.Udp
        const open: typeof udp.open = (options) => {
          bound.push(NetAddress.formatIp(options.bind?.address ?? assert.fail()))
          return udp.open(options)
        }
        const beacon = yield* Effect.provideService(Beacon.make(), Udp.Udp, { open })
        yield* beacon.announce(Stream.make(island("192.168.77.3:12000")))
        return yield* Effect.never
      }).pipe(Effect.scoped, Effect.provideService(NetworkInterfaces.NetworkInterfaces, { list }))
    )
    pass(second)
    assert.deepStrictEqual(sent.map(({ from, to }) => `${from} ${to}`).slice(0, 1), [
      "192.168.77.3 192.168.77.255:43215"
    ])
    assert.strictEqual(sent.length, 2)
    assert.deepStrictEqual(bound, ["192.168.77.3"])
  })

  it("goes to the other networks where one cannot be sent to, or hangs", () => {
    const { lan, network, pass, sent } = world()
    const networks = ["10.1.0.0/16", "10.2.0.0/16"].map((text) => network.addLan({ network: text }))
    const host = network.addHost({
      attachments: [
        ...networks.map((one, index) => ({ lan: one, address: `10.${index + 1}.0.1` })),
        { lan, address: "192.168.77.8" }
      ],
      gateways: []
    })
    const broken = Effect.map(Udp.Udp, (udp) =>
      Udp.Udp.of({
        open: (options) => {
          const own = options.bind?.address === undefined ? "" : NetAddress.formatIp(options.bind.address)
          if (own === "10.1.0.1")
            return Effect.fail(
              new DatagramSocket.DatagramSocketError({ reason: new DatagramSocket.DatagramSocketClosedError() })
            )
          return own === "10.2.0.1" ? Effect.never : udp.open(options)
        }
      })
    )
    const process = host.start()
    const fiber = process.fork(
      Effect.gen(function* () {
        const beacon = yield* Effect.provideService(Beacon.make(), Udp.Udp, yield* broken)
        yield* beacon.announce(Stream.make(island("192.168.77.8:12000")))
        return yield* Effect.never
      }).pipe(Effect.scoped)
    )
    pass(20 * second)
    assert.deepStrictEqual(new Set(sent.map(({ to }) => to)), new Set(["192.168.77.255:43215"]))
    // Who hangs is not waited for longer than a second.
    assert.strictEqual(sent.length, 8)
    process.fork(Fiber.interrupt(fiber))
    pass(999)
    assert.strictEqual(sent.at(-1)?.packet._tag, "Goodbye")
    assert.isUndefined(fiber.pollUnsafe())
    pass(2)
    assert.isDefined(fiber.pollUnsafe())
  })
})

describe("what is heard", () => {
  it("is found as soon as it is announced, changes at once, and is gone at once when it says so", () => {
    const { announce, here, network, pass, there, watch } = world()
    const { summary, told } = watch(here)
    pass(1)
    const moved = island("192.168.77.3:12000", { name: "moved" })
    const { end } = announce(there, timed([1000, island("192.168.77.3:12000")], [8000, moved]))
    network.after(30 * second - 1, end)
    pass(60 * second)
    assert.deepStrictEqual(summary(), [
      [1001, "Found", "island"],
      [8001, "Changed", "moved"],
      [30_001, "Lost", "moved"]
    ])
    assert.strictEqual(new Set(told.map(({ sighting }) => sighting.id)).size, 1)
    const { contactPoint, firstSeen, format, lastSeen, source } = told.at(-1)?.sighting ?? assert.fail()
    assert.deepStrictEqual(
      [format, firstSeen, lastSeen, NetAddress.formatIp(source)],
      ["extended", 1001, 28_001, "192.168.77.3"]
    )
    assert.deepStrictEqual(contactPoint.internal, [inet("192.168.77.3:12000")])
    assert.deepStrictEqual(contactPoint.sessions, [sessionOf(1)])
  })

  it("is gone 15 seconds after a process that was killed was heard last", () => {
    const { announce, here, network, pass, there, watch } = world()
    const { summary } = watch(here)
    const { process } = announce(there, Stream.make(island("192.168.77.3:12000")))
    network.after(12 * second, process.kill)
    pass(60 * second)
    assert.deepStrictEqual(summary(), [
      [1, "Found", "island"],
      [25_001, "Lost", "island"]
    ])
  })

  it("is gone sooner where it promises less, and never later than three intervals of the listener", () => {
    const { here, inject, pass, watch } = world()
    const { summary } = watch(here)
    pass(1)
    inject(here, "192.168.77.3", extended(1, { lifetime: 4 }))
    inject(here, "192.168.77.3", extended(2, { lifetime: 3600 }))
    inject(here, "192.168.77.4", crqt(1))
    pass(60 * second)
    assert.deepStrictEqual(summary().slice(3), [
      [4001, "Lost", "island 1"],
      [15_001, "Lost", "island 2"],
      [15_001, "Lost", "old"]
    ])
  })

  it("is kept apart: hosts with one port, and programs of one host", () => {
    const { addHost, announce, here, pass, there, watch } = world()
    const { told } = watch(here)
    announce(there, Stream.make(island("192.168.77.3:12000")))
    announce(there, Stream.make(island("192.168.77.3:12001", { sessions: [sessionOf(2)] })))
    announce(addHost("192.168.77.4"), Stream.make(island("192.168.77.4:12000")))
    announce(here, Stream.make(island("192.168.77.2:12000")))
    pass(60 * second)
    assert.deepStrictEqual(
      told.map(({ sighting, tag }) => [tag, sighting.contactPoint.internal.map(NetAddress.formatInet).join()]),
      ["192.168.77.3:12000", "192.168.77.3:12001", "192.168.77.4:12000", "192.168.77.2:12000"].map((at) => [
        "Found",
        at
      ])
    )
  })

  it("is not what the same beacon announces, unless that is wanted", () => {
    const { here, pass, there, watch } = world()
    const other = watch(there)
    const names: Array<string> = []
    const heardBy = (withOwn: boolean) =>
      Effect.gen(function* () {
        const beacon = yield* Beacon.Beacon
        const { sightings } = yield* beacon.watch({ withOwn })
        yield* beacon.announce(Stream.make(island("192.168.77.2:12000")))
        yield* Effect.sleep("12 seconds")
        names.push(...(yield* sightings).map(({ contactPoint }) => `${withOwn} ${contactPoint.name}`))
      }).pipe(Effect.scoped, Effect.provide(Beacon.layer()))
    here.start().fork(Effect.andThen(heardBy(false), heardBy(true)))
    pass(60 * second)
    assert.deepStrictEqual(names, ["true island"])
    assert.deepStrictEqual(
      other.told.map(({ at, tag }) => [at, tag]),
      [
        [1, "Found"],
        [12_001, "Lost"],
        [12_001, "Found"],
        [24_001, "Lost"]
      ]
    )
  })

  it("in the old format is what the packet and its source say", () => {
    const { here, inject, pass, watch } = world()
    const { told } = watch(here)
    pass(1)
    inject(here, "192.168.77.3", crqt(1, ""))
    inject(here, "192.168.77.3", crqt(1, "", 12_001))
    inject(here, "192.168.77.3", crqt(2, "x".repeat(1000)))
    inject(here, "192.168.77.4", crqt(1, "\u001b[2J"))
    pass(second)
    assert.deepStrictEqual(
      told.map(({ sighting }) => [sighting.format, sighting.contactPoint.name]),
      ["", "", "x".repeat(255), "\u001b[2J"].map((name) => ["crqt", name])
    )
    assert.deepStrictEqual(
      told[3]?.sighting.contactPoint,
      ContactPoint.make({ name: "\u001b[2J", internal: [inet("192.168.77.4:12000")], sessions: [sessionOf(1)] })
    )
  })

  it("in both formats is one, whichever comes first", () => {
    const { here, inject, network, pass, watch } = world()
    const { told } = watch(here)
    pass(1)
    const whole = extended(7, { sessions: [sessionOf(1), sessionOf(2)] })
    inject(here, "192.168.77.3", crqt(1))
    inject(here, "192.168.77.3", crqt(2))
    inject(here, "192.168.77.3", crqt(3))
    network.after(second, () => inject(here, "192.168.77.3", whole))
    for (const at of [2, 3])
      network.after(at * second, () => [1, 2].forEach((one) => inject(here, "192.168.77.3", crqt(one))))
    pass(5 * second)
    assert.deepStrictEqual(
      told.map(({ at, sighting, tag }) => [at, tag, sighting.id, sighting.format]),
      [
        [1, "Found", 1, "crqt"],
        [1, "Found", 2, "crqt"],
        [1, "Found", 3, "crqt"],
        [1001, "Lost", 2, "crqt"],
        [1001, "Changed", 1, "extended"]
      ]
    )
    assert.strictEqual(told[4]?.sighting.firstSeen, 1)
  })

  it("has the source as its first address where that is missing", () => {
    const { here, inject, pass, watch } = world()
    const { told } = watch(here)
    pass(1)
    const internal = ["10.0.0.1:1", "[::1]:12000", "127.0.0.1:22"].map(inet)
    inject(here, "192.168.77.3", extended(1, { internal }))
    inject(here, "192.168.77.3", extended(2, { internal: ["10.0.0.1:1", "192.168.77.3:12000"].map(inet) }))
    inject(
      here,
      "192.168.77.3",
      extended(3, { internal: Array.from({ length: 32 }, (_, at) => inet(`10.0.0.1:${at + 1}`)) })
    )
    pass(second)
    const at = told.map(({ sighting }) => sighting.contactPoint.internal.map(NetAddress.formatInet))
    assert.deepStrictEqual(at[0], ["192.168.77.3:12000", "10.0.0.1:1"])
    assert.deepStrictEqual(at[1], ["10.0.0.1:1", "192.168.77.3:12000"])
    assert.strictEqual(at[2]?.length, 32)
    assert.strictEqual(at[2]?.[0], "192.168.77.3:12000")
  })

  it("on two networks at once is one, and lasts as long as it is heard on one of them", () => {
    const { announce, here, lan, network, pass, watch } = world()
    const other = network.addLan({ network: "10.0.0.0/24" })
    here.move({
      attachments: [
        { lan, address: "192.168.77.2" },
        { lan: other, address: "10.0.0.2" }
      ],
      gateways: []
    })
    const host = network.addHost({
      attachments: [
        { lan, address: "192.168.77.9" },
        { lan: other, address: "10.0.0.9" }
      ],
      gateways: []
    })
    const { told } = watch(here)
    const internal = ["192.168.77.9:12000", "10.0.0.9:12000"].map(inet)
    const { end } = announce(host, Stream.make(island("10.0.0.9:12000", { internal })))
    pass(20 * second)
    host.move({ attachments: [{ lan: other, address: "10.0.0.9" }], gateways: [] })
    pass(30 * second)
    end()
    pass(second)
    assert.deepStrictEqual(
      told.map(({ sighting, tag }) => [tag, NetAddress.formatIp(sighting.source)]),
      [
        ["Found", "192.168.77.9"],
        ["Changed", "10.0.0.9"],
        ["Lost", "10.0.0.9"]
      ]
    )
  })

  it("on two networks at once is gone as a whole", () => {
    const { announce, here, lan, network, pass, watch } = world()
    const other = network.addLan({ network: "10.0.0.0/24", link: { delay: [9, 9] } })
    const attach = (last: number) => ({
      attachments: [
        { lan, address: `192.168.77.${last}` },
        { lan: other, address: `10.0.0.${last}` }
      ],
      gateways: []
    })
    here.move(attach(2))
    const { summary } = watch(here)
    const { end } = announce(network.addHost(attach(9)), Stream.make(island("192.168.77.9:12000")))
    network.after(10 * second, end)
    pass(60 * second)
    assert.deepStrictEqual(summary(), [
      [1, "Found", "island"],
      [10_001, "Lost", "island"]
    ])
  })
})

describe("what others forge", () => {
  it("cannot take an instance over or away from another source", () => {
    const { announce, here, inject, network, pass, sent, there, watch } = world()
    const { summary } = watch(here)
    announce(there, Stream.make(island("192.168.77.3:12000")))
    pass(second)
    const packet = sent[0]?.packet
    assert(packet?._tag === "Extended")
    const { instance } = packet
    const forge = () => {
      for (const last of [4, 5, 6, 7, 8, 9]) {
        const contactPoint = ContactPoint.make({ name: "forged", instance })
        inject(here, `192.168.77.${last}`, { _tag: "Extended", port: 1, instance, contactPoint })
        inject(here, `192.168.77.${last}`, { _tag: "Goodbye", instance })
      }
    }
    for (let at = 1; at < 30; at++) network.after(at * second, forge)
    pass(40 * second)
    assert.deepStrictEqual(summary(), [[1, "Found", "island"]])
  })

  it("speaks for an instance through four sources at most", () => {
    const { here, inject, network, pass, watch } = world()
    const { told } = watch(here)
    const from = (last: number) => inject(here, `192.168.77.${last}`, extended(1, { name: `${last}` }))
    network.after(second, () => [11, 12, 13, 14].forEach(from))
    for (let at = 2; at < 18; at++) network.after(at * second + 500, () => from(15))
    pass(40 * second)
    assert.deepStrictEqual(
      told.map(({ at, sighting, tag }) => [at, tag, sighting.contactPoint.name]),
      [
        [1000, "Found", "11"],
        [16_000, "Lost", "11"],
        [16_500, "Found", "15"],
        [32_500, "Lost", "15"]
      ]
    )
  })

  it("makes room from what was heard longest ago", () => {
    const { here, inject, network, pass, watch } = world()
    const { told } = watch(here)
    const hear = (index: number) => inject(here, `192.168.77.${10 + (index % 9)}`, extended(index))
    pass(1)
    for (let index = 0; index < 256; index++) hear(index)
    network.after(second, () => hear(0))
    network.after(2 * second, () => hear(300))
    pass(3 * second)
    assert.strictEqual(told.length, 258)
    assert.deepStrictEqual(
      told.slice(256).map(({ sighting, tag }) => [tag, sighting.contactPoint.name]),
      [
        ["Lost", "island 1"],
        ["Found", "island 300"]
      ]
    )
  })

  it("is not heard from outside of this host's networks, or over IPv6", () => {
    const { here, inject, network, pass, watch } = world()
    const { told } = watch(here)
    pass(1)
    inject(here, "192.168.78.3", extended(1))
    inject(here, "11.22.33.44", crqt(1))
    network.inject({
      host: here,
      from: inet("[fe80::1]:1"),
      to: inet("192.168.77.255:43215"),
      payload: BeaconCodec.encode(crqt(1))
    })
    network.inject({
      host: here,
      from: inet("[::ffff:192.168.77.3]:1"),
      to: inet("192.168.77.255:43215"),
      payload: BeaconCodec.encode(crqt(2))
    })
    pass(second)
    assert.deepStrictEqual(
      told.map(({ sighting }) => NetAddress.formatInet(sighting.contactPoint.internal[0] ?? assert.fail())),
      ["192.168.77.3:12000"]
    )
  })

  it("has no more than its place, and the others are found again", () => {
    const { announce, here, inject, pass, there, watch } = world()
    const { fiber, told } = watch(here)
    announce(there, Stream.make(island("192.168.77.3:12000")))
    pass(second)
    // One source alone pushes nobody out.
    for (let index = 0; index < 1000; index++)
      inject(here, "192.168.77.4", index % 2 === 0 ? extended(index) : crqt(index))
    pass(second)
    assert.strictEqual(told.length, 33)
    assert.isTrue(told.every(({ tag }) => tag === "Found"))
    for (let index = 0; index < 2000; index++) inject(here, `192.168.77.${10 + (index % 100)}`, extended(index + 1000))
    pass(second)
    const there_ = new Map<number, string>()
    const count = () => {
      there_.clear()
      for (const { sighting, tag } of told) {
        if (tag === "Lost") there_.delete(sighting.id)
        else there_.set(sighting.id, sighting.contactPoint.name)
      }
      return there_.size
    }
    assert.strictEqual(count(), 256)
    pass(5 * second)
    count()
    assert.include([...there_.values()], "island")
    pass(60 * second)
    assert.strictEqual(count(), 1)
    assert.isUndefined(fiber.pollUnsafe())
  })

  it("is garbage, and no more than that", () => {
    const { announce, here, inject, pass, there, watch } = world()
    const { fiber, summary } = watch(here)
    announce(there, Stream.make(island("192.168.77.3:12000")))
    pass(second)
    const whole = [BeaconCodec.encode(extended(1)), BeaconCodec.encode({ ...crqt(1), port: 0 } as BeaconCodec.Packet)]
    for (const bytes of [...whole, new Uint8Array(), new Uint8Array(1400), new Uint8Array(65_000)]) {
      for (let at = 0; at < Math.min(bytes.length, 60); at++) inject(here, "192.168.77.4", bytes.slice(0, at))
    }
    for (let at = 8; at < (whole[0]?.length ?? 0); at++)
      inject(here, "192.168.77.4", whole[0]?.with(at, 255) ?? assert.fail())
    inject(here, "192.168.77.4", whole[1] ?? assert.fail())
    pass(20 * second)
    assert.isUndefined(fiber.pollUnsafe())
    assert.deepStrictEqual(summary(), [[1, "Found", "island"]])
  })
})

describe("a watch", () => {
  it("shares the port with those that share it, and says so where one does not", () => {
    const { here, pass, there, watch } = world()
    const open = (reuseAddress: boolean) =>
      Udp.Udp.use((udp) => udp.open({ bind: { port: 43_215 }, reuseAddress })).pipe(
        Effect.andThen(Effect.never),
        Effect.scoped
      )
    here.start().fork(open(true))
    there.start().fork(open(false))
    const [sharing, alone] = [watch(here), watch(there)]
    pass(second)
    assert.isUndefined(sharing.fiber.pollUnsafe())
    const exit = alone.fiber.pollUnsafe()
    assert(exit !== undefined && Exit.isFailure(exit))
    const reason = exit.cause.reasons[0]
    assert(reason?._tag === "Fail" && reason.error instanceof Beacon.BeaconError)
    assert.deepStrictEqual(reason.error.reason, new Beacon.PortInUse({ port: 43_215 }))
    assert.match(reason.error.message, /UDP port 43215 is in use on this host/)
  })

  it("hears another port where it is told to", () => {
    const { announce, here, pass, there, watch } = world()
    const [usual, other] = [watch(here), watch(here, { port: 43_216 })]
    announce(there, Stream.make(island("192.168.77.3:12000")), { port: 43_216 })
    pass(second)
    assert.strictEqual(usual.told.length, 0)
    assert.strictEqual(other.told.length, 1)
  })

  it("follows this host to another network", () => {
    const { announce, here, network, pass, watch } = world()
    const other = network.addLan({ network: "10.0.0.0/24" })
    const { summary } = watch(here)
    const far = network.addHost({ attachments: [{ lan: other, address: "10.0.0.3" }], gateways: [] })
    announce(far, Stream.make(island("10.0.0.3:12000")))
    network.after(7 * second, () => here.move({ attachments: [{ lan: other, address: "10.0.0.2" }], gateways: [] }))
    pass(60 * second)
    assert.deepStrictEqual(summary(), [[10_001, "Found", "island"]])
  })

  it("tells whoever comes later what is there, and ends with its scope without a loss", () => {
    const { announce, here, pass, there } = world()
    announce(there, Stream.make(island("192.168.77.3:12000")))
    const seen: Array<string> = []
    here.start().fork(
      Effect.gen(function* () {
        const beacon = yield* Beacon.make()
        const scope = yield* Scope.make()
        const { changes, sightings } = yield* Scope.provide(beacon.watch(), scope)
        yield* Effect.sleep("6 seconds")
        const told = Stream.runForEach(changes, ({ _tag }) => Effect.sync(() => seen.push(_tag)))
        const fiber = yield* Effect.forkChild(told)
        yield* Effect.sleep("7 seconds")
        seen.push(...(yield* sightings).map(({ lastSeen }) => `${lastSeen}`))
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.join(fiber)
        yield* told
        seen.push("ended")
      })
    )
    pass(60 * second)
    assert.deepStrictEqual(seen, ["Found", "10001", "ended"])
  })

  it("opens its socket again where it is lost", () => {
    const { announce, here, network, pass, there } = world()
    announce(there, Stream.make(island("192.168.77.3:12000")))
    const opened: Array<number> = []
    const closed: Array<number> = []
    const seen: Array<string> = []
    const noteClose = Effect.addFinalizer(() => Effect.sync(() => closed.push(network.now)))
    const frail = Effect.map(Udp.Udp, (udp) =>
      Udp.Udp.of({
        open: (options) =>
          Effect.map(Effect.tap(udp.open(options), noteClose), (socket) => {
            opened.push(network.now)
            const lost = new DatagramSocket.DatagramSocketError({
              reason: new DatagramSocket.DatagramSocketClosedError()
            })
            return opened.length > 2 ? socket : { ...socket, receive: Effect.delay(Effect.fail(lost), "10 millis") }
          })
      })
    )
    here.start().fork(
      Effect.gen(function* () {
        const beacon = yield* Effect.provideService(Beacon.make(), Udp.Udp, yield* frail)
        const { changes } = yield* beacon.watch()
        yield* Stream.runForEach(changes, ({ _tag }) => Effect.sync(() => seen.push(_tag)))
      }).pipe(Effect.scoped)
    )
    pass(20 * second)
    assert.deepStrictEqual(opened, [0, 10, 1020])
    assert.deepStrictEqual(closed, [10, 20])
    assert.deepStrictEqual(seen, ["Found"])
  })

  it("leaves no socket behind", () => {
    const { here, pass } = world()
    const once = Effect.gen(function* () {
      const beacon = yield* Beacon.make()
      yield* beacon.watch()
      yield* beacon.announce(Stream.make(island("192.168.77.2:12000")))
      yield* Effect.sleep("1 second")
    }).pipe(Effect.scoped)
    const alone = Effect.scoped(Udp.Udp.use((udp) => udp.open({ bind: { port: 43_215 } })))
    const exits: Array<boolean> = []
    const fiber = here.start().fork(Effect.andThen(once, once))
    here.start().fork(
      Effect.gen(function* () {
        yield* Effect.sleep("500 millis")
        exits.push(Exit.isSuccess(yield* Effect.exit(alone)))
        yield* Effect.sleep("1 second")
        exits.push(Exit.isSuccess(yield* Effect.exit(alone)))
        yield* Fiber.interrupt(fiber)
        exits.push(Exit.isSuccess(yield* Effect.exit(alone)))
      })
    )
    pass(10 * second)
    assert.deepStrictEqual(exits, [false, false, true])
  })
})
