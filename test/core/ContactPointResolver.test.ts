import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"

const ip = NetAddress.ipFromStringUnsafe
const inet = NetAddress.inetAddressFromStringUnsafe

const networkInterface = (name: string, ...addresses: ReadonlyArray<string>): NetworkInterfaces.NetworkInterface => ({
  name,
  isLoopback: name === "lo",
  addresses: addresses.map((address) => IpInterface.fromStringUnsafe(address))
})

/** A laptop on a cable and on a wireless network, with a Tailscale-like overlay and a company's WireGuard. */
const interfaces = [
  networkInterface("lo", "127.0.0.1/8", "::1/128"),
  networkInterface("eth0", "192.168.77.2/24", "fd77::2/64", "2001:db8:77::2/64", "fe80::2/64"),
  networkInterface("wlan0", "172.16.5.9/16"),
  networkInterface("overlay0", "100.101.102.103/32", "fd7a:115c:a1e0::7/128")
]

const gateways = [ip("192.168.77.1"), ip("fe80::1")]

const contactPoint = new ContactPoint.ContactPoint({
  version: 1,
  name: "island",
  internal: [
    "127.0.0.1:12000",
    "192.168.77.2:12000",
    "[fd77::2]:12000",
    "[2001:db8:77::2]:12000",
    "172.16.5.9:12000",
    "100.101.102.103:12000",
    "[fd7a:115c:a1e0::7]:12000"
  ].map(inet),
  external: [
    new ContactPoint.ExternalAddress({ address: inet("11.22.33.1:12001"), verification: "reported" }),
    new ContactPoint.ExternalAddress({ address: inet("[2001:db8:77::2]:12000"), verification: "reported" })
  ]
})

const internal = contactPoint.internal.map(NetAddress.formatInet)
/** Without loopback. */
const forOthers = internal.slice(1)
const external = ["11.22.33.1:12001", "[2001:db8:77::2]:12000"]

const ask = (
  source: string | undefined,
  receivedOn?: string,
  of: ContactPoint.ContactPoint = contactPoint
): ReadonlyArray<string> => {
  const answer = ContactPointResolver.addressesFor(
    of,
    {
      source: source === undefined ? undefined : ip(source),
      receivedOn: receivedOn === undefined ? undefined : ip(receivedOn)
    },
    { interfaces, gateways }
  )
  return answer._tag === "Reachable" ? answer.addresses.map(NetAddress.formatInet) : []
}

const first = (...addresses: ReadonlyArray<string>) => [
  ...addresses,
  ...forOthers.filter((address) => !addresses.includes(address))
]

describe("ContactPointResolver", () => {
  describe("addressesFor", () => {
    it.each([
      "127.0.0.1",
      "127.9.9.9",
      "::1",
      "::ffff:127.0.0.1",
      "192.168.77.2",
      "::ffff:192.168.77.2",
      "172.16.5.9",
      "fe80::2",
      "100.101.102.103"
    ])("this host (%s) gets the internal addresses, loopback too", (source) => {
      assert.deepStrictEqual(ask(source), internal)
    })

    it.each([
      ["192.168.77.9", "192.168.77.2", "192.168.77.2:12000"],
      ["::ffff:192.168.77.9", "::ffff:192.168.77.2", "192.168.77.2:12000"],
      ["172.16.200.1", "172.16.5.9", "172.16.5.9:12000"],
      ["fd77::99", "fd77::2", "[fd77::2]:12000"],
      ["2001:db8:77::99", "2001:db8:77::2", "[2001:db8:77::2]:12000"],
      // Over the router between the two networks: the address that took the request is the one that works.
      ["192.168.77.9", "172.16.5.9", "172.16.5.9:12000"]
    ])("a host in an attached subnet (%s) gets the address that took its request, %s", (source, receivedOn, answer) => {
      assert.deepStrictEqual(ask(source, receivedOn), [answer])
    })

    it("where the receiving address is not known, those of the host's own subnet come first, and none is external", () => {
      assert.deepStrictEqual(ask("172.16.200.1"), first("172.16.5.9:12000"))
      assert.deepStrictEqual(ask("fd77::99"), first("[fd77::2]:12000"))
    })

    it("the subnet goes by its netmask", () => {
      assert.deepStrictEqual(ask("172.16.0.1", "172.16.5.9"), ["172.16.5.9:12000"])
      assert.deepStrictEqual(ask("172.17.0.1", "172.16.5.9"), [...first("172.16.5.9:12000"), ...external])
      assert.deepStrictEqual(ask("192.168.78.2"), [...forOthers, ...external])
    })

    it.each(["11.22.33.1", "::ffff:11.22.33.1"])("a hairpin (%s) gets internal, then external", (source) => {
      assert.deepStrictEqual(ask(source, "192.168.77.2"), [...forOthers, ...external])
    })

    it.each(["192.168.77.1", "::ffff:192.168.77.1", "fe80::1"])(
      "the gateway (%s) may hide an outsider: external, then internal",
      (source) => {
        assert.deepStrictEqual(ask(source, "192.168.77.2"), [...external, ...forOthers])
      }
    )

    it.each(["10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.7.7", "fd00:1:2::3", "::ffff:10.1.2.3"])(
      "another private range (%s) gets internal, then external",
      (source) => {
        assert.deepStrictEqual(ask(source), [...forOthers, ...external])
      }
    )

    it("a host of an overlay that this host is on gets the overlay's address first", () => {
      assert.deepStrictEqual(ask("100.64.0.9"), [...first("100.101.102.103:12000"), ...external])
      assert.deepStrictEqual(ask("100.127.255.255"), [...first("100.101.102.103:12000"), ...external])
      assert.deepStrictEqual(ask("fd7a:115c:a1e0::99"), [...first("[fd7a:115c:a1e0::7]:12000"), ...external])
      assert.deepStrictEqual(ask("fd7a:115c:a1e1::99"), [...forOthers, ...external])
    })

    it("an overlay without a range of its own shows in the address that took the request", () => {
      assert.deepStrictEqual(ask("10.8.0.6", "172.16.5.9"), [...first("172.16.5.9:12000"), ...external])
    })

    it.each(["8.8.8.8", "11.22.33.2", "100.128.0.1", "172.32.0.1", "2001:db8:78::1", "::ffff:8.8.8.8"])(
      "anybody else (%s) gets the external addresses only",
      (source) => {
        assert.deepStrictEqual(ask(source, "192.168.77.2"), external)
      }
    )

    it("a forwarded connection that does not say for whom counts as anybody else, even on loopback", () => {
      assert.deepStrictEqual(ask(undefined), external)
      assert.deepStrictEqual(ask(undefined, "127.0.0.1"), external)
    })

    it("where there is no external address, the world is told so", () => {
      const lan = new ContactPoint.ContactPoint({ ...contactPoint, external: [] })
      for (const source of [ip("8.8.8.8"), undefined]) {
        assert.deepStrictEqual(ContactPointResolver.addressesFor(lan, { source }, { interfaces, gateways }), {
          _tag: "NotReachable",
          detail: "no address is known that can be reached from there"
        })
      }
      assert.deepStrictEqual(ask("192.168.77.9", "192.168.77.2", lan), ["192.168.77.2:12000"])
      assert.deepStrictEqual(ask("192.168.77.1", undefined, lan), forOthers)
    })

    const Octet = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))
    it.prop(
      "loopback goes to no other host, wherever it is and whatever the contact point says",
      [Schema.Tuple([Octet, Octet, Octet, Octet])],
      ([octets]) => {
        const source = NetAddress.ipv4FromBytesUnsafe(Uint8Array.from(octets))
        if (NetAddress.isLoopback(source) || ask(NetAddress.formatIp(source))[0] === internal[0]) return
        const careless = new ContactPoint.ContactPoint({
          ...contactPoint,
          internal: ["127.0.0.1:12000", "[::1]:12000", "192.168.77.2:12000"].map(inet),
          external: [
            new ContactPoint.ExternalAddress({ address: inet("127.0.0.1:12001"), verification: "configured" }),
            new ContactPoint.ExternalAddress({ address: inet("[::1]:12001"), verification: "configured" })
          ]
        })
        for (const receivedOn of [undefined, "127.0.0.1", "192.168.77.2"]) {
          const addresses = ask(NetAddress.formatIp(source), receivedOn, careless)
          assert.isEmpty(addresses.filter((address) => /^(?:127\.|\[::1\])/.test(address)))
        }
      }
    )
  })

  describe("the service", () => {
    const layer = (own: ReadonlyArray<NetworkInterfaces.NetworkInterface>) =>
      ContactPointResolver.layer.pipe(
        Layer.provide([
          Layer.succeed(NetworkInterfaces.NetworkInterfaces, { list: Effect.succeed(own) }),
          Layer.succeed(DefaultRoute.DefaultRoute, {
            routes: Effect.succeed([{ gateway: ip("192.168.77.1"), interface: "eth0", metric: 0 }])
          })
        ])
      )

    const mapping = (differences: Partial<PortMapping.PortMapping> = {}) =>
      new PortMapping.PortMapping({
        remoteHost: undefined,
        externalAddress: ip("11.22.33.1"),
        externalPort: 12001,
        protocol: "tcp",
        internalPort: 12000,
        internalAddress: ip("192.168.77.2"),
        enabled: true,
        description: "",
        lifetime: Duration.hours(2),
        gateway: ip("192.168.77.1"),
        method: "upnp",
        status: "mapped",
        ...differences
      })

    const made = (
      options: { readonly address?: string; readonly mappings?: ReadonlyArray<PortMapping.PortMapping> },
      own: ReadonlyArray<NetworkInterfaces.NetworkInterface> = interfaces
    ) =>
      ContactPointResolver.ContactPointResolver.use((resolver) =>
        resolver.contactPoint({
          name: "island",
          port: 12000,
          address: options.address === undefined ? undefined : ip(options.address),
          mappings: options.mappings ?? []
        })
      ).pipe(Effect.provide(layer(own)))

    it.effect("by default a service listens at all addresses that others could use", () =>
      Effect.gen(function* () {
        const all =
          "192.168.77.2:12000, [fd77::2]:12000, [2001:db8:77::2]:12000, 172.16.5.9:12000, " +
          "100.101.102.103:12000, [fd7a:115c:a1e0::7]:12000"
        assert.strictEqual(ContactPoint.format(yield* made({})), `internal ${all}; external unknown`)
        assert.strictEqual(ContactPoint.format(yield* made({ address: "::" })), `internal ${all}; external unknown`)
      })
    )

    it.effect("the mapped address comes first, also while its interface is not in the list yet", () =>
      Effect.gen(function* () {
        const mappings = [mapping({ internalAddress: ip("172.16.5.9") })]
        const some = yield* made({ mappings, address: "0.0.0.0" })
        assert.deepStrictEqual(some.internal.map(NetAddress.formatInet), [
          "172.16.5.9:12000",
          "192.168.77.2:12000",
          "100.101.102.103:12000"
        ])
        const none = yield* made({ mappings }, [])
        assert.deepStrictEqual(none.internal.map(NetAddress.formatInet), ["172.16.5.9:12000"])
      })
    )

    it.effect("a host with more addresses than a contact point holds names the first ones", () =>
      Effect.gen(function* () {
        const own = Array.from({ length: 40 }, (_, index) => networkInterface(`br${index}`, `172.${index}.0.1/16`))
        const { internal } = yield* made({ mappings: [mapping()] }, own)
        assert.lengthOf(internal, ContactPoint.mostInternal)
        assert.strictEqual(internal.map(NetAddress.formatInet)[0], "192.168.77.2:12000")
      })
    )

    it.effect("a service at 0.0.0.0 has no IPv6, one at an address has that one", () =>
      Effect.gen(function* () {
        assert.strictEqual(
          ContactPoint.format(yield* made({ address: "0.0.0.0" })),
          "internal 192.168.77.2:12000, 172.16.5.9:12000, 100.101.102.103:12000; external unknown"
        )
        assert.strictEqual(
          ContactPoint.format(yield* made({ address: "172.16.5.9" })),
          "internal 172.16.5.9:12000; external unknown"
        )
      })
    )

    it.effect("a host without a network has itself", () =>
      Effect.gen(function* () {
        assert.strictEqual(
          ContactPoint.format(yield* made({}, interfaces.slice(0, 1))),
          "internal 127.0.0.1:12000; external unknown"
        )
      })
    )

    it.effect("live mappings give external addresses, each once; lost ones and unknown ones do not", () =>
      Effect.gen(function* () {
        const point = yield* made({
          address: "192.168.77.2",
          mappings: [
            mapping(),
            mapping({ protocol: "udp" }),
            mapping({ externalPort: 12002, status: "lost" }),
            mapping({ externalPort: 12003, externalAddress: undefined }),
            mapping({ externalPort: undefined }),
            mapping({ externalAddress: ip("11.22.33.2"), method: "manual" })
          ]
        })
        assert.deepStrictEqual(
          point.external.map((one) => `${NetAddress.formatInet(one.address)} ${one.verification}`),
          ["11.22.33.1:12001 reported", "11.22.33.2:12001 configured"]
        )
      })
    )

    it.effect("answers from the interfaces and routes as they are at the question", () =>
      Effect.gen(function* () {
        let own = interfaces.slice(0, 1)
        const changing = ContactPointResolver.layer.pipe(
          Layer.provide([
            Layer.succeed(NetworkInterfaces.NetworkInterfaces, { list: Effect.sync(() => own) }),
            Layer.succeed(DefaultRoute.DefaultRoute, { routes: Effect.succeed([]) })
          ])
        )
        yield* ContactPointResolver.ContactPointResolver.use((resolver) =>
          Effect.gen(function* () {
            const question = resolver.addressesFor(contactPoint, { source: ip("192.168.77.2") })
            const before = yield* question
            assert.isTrue(before._tag === "Reachable" && before.addresses.length > internal.length)
            own = interfaces
            const after = yield* question
            assert.isTrue(after._tag === "Reachable" && after.addresses.length === internal.length)
          })
        ).pipe(Effect.provide(changing))
      })
    )
  })
})
