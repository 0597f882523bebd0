/**
 * The router's side of PCP where it is no mapping table: pinholes for IPv6 hosts, connections that are kept, and what
 * clients are told unasked.
 */
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as PcpResponder from "@effect-nat/testing/PcpResponder"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as PcpRouter from "./pcpRouter.ts"

const { ask, bytes, client, codeOf, external, hex, hour, map, noAddress, nonceField, otherNonce, table, zeros } =
  PcpRouter

const ip = NetAddress.ipFromStringUnsafe
const inet = (address: string, port: number) => NetAddress.inetAddressUnsafe(ip(address), port)

const guest = ip("2001:db8:77::2")
const guestField = "20010db8007700000000000000000002"
const noIpv6 = "00000000000000000000000000000000"

const answerTo = (model: RouterModel.RouterModel, request: string, from: NetAddress.IpAddress, at = hour) =>
  PcpRouter.answerTo(model, request, { from, at })

describe("a pinhole, byte for byte", () => {
  const wanted = `02 01 0000 | 00001c20 | ${guestField} | ${nonceField} | 11 000000 | 2ee0 2ee1 | ${noIpv6}`
  const granted = `02 81 0000 | 00001c20 | 00000e10 | ${zeros} | ${nonceField} | 11 000000 | 2ee0 2ee0 | ${guestField}`
  const packet = {
    protocol: 17,
    from: inet("2001:db8:1::7", 443),
    to: NetAddress.inetAddressUnsafe(guest, 12_000)
  }

  it("is opened at the host's own address and port, and closed", () => {
    const model = new RouterModel.RouterModel()
    assert.isFalse(model.pinholes.admit(hour, packet))
    assert.strictEqual(answerTo(model, wanted, guest), hex(bytes(granted)))
    assert.isTrue(model.pinholes.admit(hour, packet))
    assert.isFalse(model.pinholes.admit(hour, { ...packet, protocol: 6 }))
    assert.isFalse(model.pinholes.admit(hour + 7_200_000, packet))
    assert.strictEqual(answerTo(model, wanted, guest), hex(bytes(granted)))
    const deletion = `02 01 0000 | 00000000 | ${guestField} | ${nonceField} | 11 000000 | 2ee0 0000 | ${noIpv6}`
    const deleted = `02 81 0000 | 00000000 | 00000e10 | ${zeros} | ${nonceField} | 11 000000 | 2ee0 2ee0 | ${guestField}`
    assert.strictEqual(answerTo(model, deletion, guest), hex(bytes(deleted)))
    assert.isFalse(model.pinholes.admit(hour, packet))
    assert.strictEqual(answerTo(model, deletion, guest), hex(bytes(deleted)))
  })

  it("lets in whom its filter is for", () => {
    const model = new RouterModel.RouterModel()
    // 2001:db8:1::/48, any port.
    const filter = "03 00 0014 | 00 30 0000 | 20010db8000100000000000000000000"
    assert.strictEqual(answerTo(model, `${wanted} | ${filter}`, guest), hex(bytes(`${granted} | ${filter}`)))
    assert.isTrue(model.pinholes.admit(hour, packet))
    assert.isFalse(model.pinholes.admit(hour, { ...packet, from: inet("2001:db8:2::7", 443) }))
  })
})

describe("a pinhole", () => {
  const pinhole: Codec.MapRequest = { ...map, clientAddress: guest, externalPort: 12000, externalAddress: ip("::") }
  const asGuest = { from: guest }
  const open = (model: RouterModel.RouterModel) => model.pinholes.entries(hour).map((one) => one.internalPort)

  it("is renewed and closed by its nonce alone", () => {
    const model = new RouterModel.RouterModel()
    ask(model, pinhole, asGuest)
    const renewed = ask(model, pinhole, { ...asGuest, at: 2 * hour })
    assert.strictEqual(renewed._tag === "MapResponse" ? renewed.lifetime : 0, 7200)
    assert.deepStrictEqual(
      model.pinholes.entries(2 * hour).map(({ expiresAt }) => expiresAt),
      [4 * hour]
    )
    assert.strictEqual(codeOf(ask(model, { ...pinhole, nonce: otherNonce }, asGuest)), 2)
    assert.strictEqual(codeOf(ask(model, { ...pinhole, nonce: otherNonce, lifetime: 0 }, asGuest)), 2)
    assert.deepStrictEqual(open(model), [12000])
    assert.strictEqual(codeOf(ask(model, { ...pinhole, lifetime: 0 }, asGuest)), 0)
    assert.deepStrictEqual(open(model), [])
  })

  it("of another protocol's making is left alone", () => {
    const model = new RouterModel.RouterModel()
    const flow = { internalClient: guest, internalPort: 12000, remoteHost: undefined, remotePort: 0, protocol: 6 }
    model.pinholes.add(hour, { ...flow, client: guest, leaseSeconds: 3600 })
    assert.strictEqual(codeOf(ask(model, pinhole, asGuest)), 2)
    assert.strictEqual(codeOf(ask(model, { ...pinhole, lifetime: 0 }, asGuest)), 2)
    // One for a single peer is another one.
    const other = new RouterModel.RouterModel()
    other.pinholes.add(hour, { ...flow, remoteHost: ip("2001:db8:1::7"), client: guest, leaseSeconds: 3600 })
    assert.strictEqual(codeOf(ask(other, pinhole, asGuest)), 0)
    assert.deepStrictEqual(open(other), [12000, 12000])
  })

  it("closes for all ports of a protocol by one nonce", () => {
    const model = new RouterModel.RouterModel()
    ask(model, pinhole, asGuest)
    ask(model, { ...pinhole, internalPort: 12001 }, asGuest)
    ask(model, { ...pinhole, internalPort: 12002, nonce: otherNonce }, asGuest)
    ask(model, { ...pinhole, internalPort: 12003, protocol: 17 }, asGuest)
    assert.strictEqual(codeOf(ask(model, { ...pinhole, internalPort: 0, lifetime: 0 }, asGuest)), 0)
    assert.deepStrictEqual(open(model), [12002, 12003])
  })

  it("with PREFER_FAILURE is at the host's own port and address or nowhere", () => {
    const model = new RouterModel.RouterModel()
    const strict: Codec.MapRequest = { ...pinhole, options: [{ _tag: "PreferFailure" }] }
    assert.strictEqual(codeOf(ask(model, { ...strict, externalPort: 12001 }, asGuest)), 11)
    assert.strictEqual(codeOf(ask(model, { ...strict, externalAddress: ip("2001:db8::9") }, asGuest)), 11)
    assert.deepStrictEqual(open(model), [])
    assert.strictEqual(codeOf(ask(model, strict, asGuest)), 0)
    assert.strictEqual(codeOf(ask(model, { ...strict, externalAddress: guest }, asGuest)), 0)
  })

  it("for another host needs leave, from whatever family", () => {
    const model = new RouterModel.RouterModel()
    const third: Codec.MapRequest = { ...map, options: [{ _tag: "ThirdParty", internalAddress: guest }] }
    assert.strictEqual(codeOf(ask(model, third)), 5)
    assert.strictEqual(codeOf(ask(model, third, { thirdParty: true })), 0)
    assert.deepStrictEqual(open(model), [12000])
    assert.deepStrictEqual(table(model), [])
  })

  it("is granted on a line without an IPv4 address, and for no longer than the longest lease", () => {
    const model = new RouterModel.RouterModel({ externalAddress: null, maxLifetimeSeconds: 60 })
    const opened = ask(model, pinhole, asGuest)
    assert.strictEqual(opened._tag === "MapResponse" ? opened.lifetime : 0, 60)
    assert.strictEqual(codeOf(ask(model, map)), 7)
  })

  it.each([
    { what: "nobody may", spoil: { isInboundPinholeAllowed: false }, code: 2 },
    { what: "there is no firewall", spoil: { isEnabled: false }, code: 2 }
  ])("is refused where $what", ({ code, spoil }) => {
    const model = new RouterModel.RouterModel()
    Object.assign(model.pinholes, spoil)
    assert.strictEqual(codeOf(ask(model, pinhole, asGuest)), code)
    assert.deepStrictEqual(open(model), [])
  })

  it("is refused where the router is told to, and where it never maps", () => {
    const told = new RouterModel.RouterModel()
    told.refuseNext("OutOfResources")
    assert.strictEqual(codeOf(ask(told, pinhole, asGuest)), 8)
    assert.deepStrictEqual(open(told), [])
    assert.strictEqual(codeOf(ask(told, pinhole, asGuest)), 0)
    const never = new RouterModel.RouterModel({ quirks: ["ActionNotAuthorized"] })
    assert.strictEqual(codeOf(ask(never, pinhole, asGuest)), 2)
  })

  it("is refused where there is no room, and to what is no address of the world where that is asked for", () => {
    const full = new RouterModel.RouterModel({ capacity: 1 })
    ask(full, pinhole, asGuest)
    assert.strictEqual(codeOf(ask(full, { ...pinhole, internalPort: 1 }, asGuest)), 8)
    const choosy = new RouterModel.RouterModel({ quirks: ["PinholeNeedsGlobalAddress"] })
    const local = ip("fd00:77::2")
    assert.strictEqual(codeOf(ask(choosy, { ...pinhole, clientAddress: local }, { from: local })), 2)
    assert.strictEqual(codeOf(ask(choosy, pinhole, asGuest)), 0)
  })
})

const peerField = "0000000000000000 0000ffff c6336407"

describe("a connection that is kept, byte for byte", () => {
  const wanted = `02 02 0000 | 00000258 | ${PcpRouter.clientField} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${noAddress} | 01bb 0000 | ${peerField}`
  const granted = `02 82 0000 | 00000258 | 00000e10 | ${zeros} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${external} | 01bb 0000 | ${peerField}`

  it("leads its peer's packets, and nobody else's, to the host", () => {
    const model = new RouterModel.RouterModel()
    assert.strictEqual(answerTo(model, wanted, client), hex(bytes(granted)))
    const to = (address: string, port: number, at = hour) => model.forward(at, "tcp", 12001, ip(address), port)
    assert.deepStrictEqual(to("198.51.100.7", 443), NetAddress.inetAddressUnsafe(client, 12000))
    assert.isUndefined(to("198.51.100.7", 444))
    assert.isUndefined(to("198.51.100.8", 443))
    assert.isUndefined(to("198.51.100.7", 443, hour + 600_000))
    assert.deepStrictEqual(table(model), [])
  })

  it("has its usual lifetime again after a lifetime of 0", () => {
    const model = new RouterModel.RouterModel()
    answerTo(model, wanted, client)
    const end = wanted.replace("00000258", "00000000").replace("2ee0 2ee1", "2ee0 0000")
    assert.strictEqual(answerTo(model, end, client), hex(bytes(granted.replace("00000258", "00000000"))))
    assert.isUndefined(model.forward(hour, "tcp", 12001, ip("198.51.100.7"), 443))
  })
})

describe("a connection that is kept", () => {
  const peer: Codec.PeerRequest = {
    ...map,
    _tag: "PeerRequest",
    remotePeerPort: 443,
    remotePeerAddress: ip("198.51.100.7")
  }
  const portOf = (answer: Codec.Response) => (answer._tag === "PeerResponse" ? answer.externalPort : codeOf(answer))
  const mapped = (answer: Codec.Response) => (answer._tag === "MapResponse" ? answer.externalPort : codeOf(answer))

  it("has the port of whatever else the host has at its internal port, to every peer", () => {
    const model = new RouterModel.RouterModel()
    ask(model, map)
    assert.strictEqual(portOf(ask(model, { ...peer, externalPort: 80 })), 12001)
    const fresh = new RouterModel.RouterModel()
    assert.strictEqual(portOf(ask(fresh, peer)), 12001)
    assert.strictEqual(portOf(ask(fresh, { ...peer, remotePeerPort: 444, externalPort: 80 })), 12001)
    assert.strictEqual(mapped(ask(fresh, { ...map, externalPort: 80 })), 12001)
    assert.strictEqual(mapped(ask(fresh, { ...map, externalPort: 80, options: [{ _tag: "PreferFailure" }] })), 11)
  })

  it("takes no port that is another's, and gives none of its own", () => {
    const model = new RouterModel.RouterModel()
    const other = ip("192.168.77.3")
    ask(model, { ...map, clientAddress: other }, { from: other })
    assert.strictEqual(portOf(ask(model, peer)), 49_152)
    assert.strictEqual(portOf(ask(model, { ...peer, internalPort: 12002, externalPort: 0 })), 49_153)
    const later = ask(model, { ...map, clientAddress: other, internalPort: 1, externalPort: 49_152 }, { from: other })
    assert.strictEqual(mapped(later), 49_154)
  })

  it("is extended and ended by its nonce alone", () => {
    const model = new RouterModel.RouterModel()
    ask(model, peer)
    assert.strictEqual(portOf(ask(model, peer, { at: 2 * hour })), 12001)
    assert.strictEqual(portOf(ask(model, { ...peer, nonce: otherNonce })), 2)
    assert.strictEqual(portOf(ask(model, { ...peer, nonce: otherNonce, lifetime: 0 })), 2)
    assert.deepStrictEqual(
      model.peers.entries(2 * hour).map(({ expiresAt }) => expiresAt),
      [4 * hour]
    )
  })

  it("is a pinhole for one peer where nothing is translated", () => {
    const model = new RouterModel.RouterModel()
    const through: Codec.PeerRequest = {
      ...peer,
      clientAddress: guest,
      externalAddress: ip("::"),
      remotePeerAddress: ip("2001:db8:1::7")
    }
    const opened = ask(model, through, { from: guest })
    assert.strictEqual(portOf(opened), 12000)
    const packet = { protocol: 6, from: inet("2001:db8:1::7", 443), to: NetAddress.inetAddressUnsafe(guest, 12_000) }
    assert.isTrue(model.pinholes.admit(hour, packet))
    assert.isFalse(model.pinholes.admit(hour, { ...packet, from: inet("2001:db8:1::7", 444) }))
    assert.strictEqual(portOf(ask(model, { ...through, nonce: otherNonce }, { from: guest })), 2)
    ask(model, { ...through, lifetime: 0 }, { from: guest })
    assert.isFalse(model.pinholes.admit(hour, packet))
  })

  it.each([
    ["from no port", { internalPort: 0 }, 3],
    ["to no port", { remotePeerPort: 0 }, 3],
    ["to nobody", { remotePeerAddress: ip("0.0.0.0") }, 3],
    ["to a peer of the other family", { remotePeerAddress: ip("2001:db8:1::7") }, 3],
    ["of every protocol", { protocol: 0 }, 3],
    ["of SCTP", { protocol: 132 }, 9],
    ["from another address", { clientAddress: ip("192.168.77.3") }, 12],
    ["with PREFER_FAILURE", { options: [{ _tag: "PreferFailure" }] }, 5],
    ["for another host", { options: [{ _tag: "ThirdParty", internalAddress: ip("192.168.77.3") }] }, 5]
  ] as const)("is refused %s", (_what, change, code) => {
    const model = new RouterModel.RouterModel()
    assert.strictEqual(portOf(ask(model, { ...peer, ...change })), code)
    assert.deepStrictEqual(model.peers.entries(hour), [])
  })

  it("is refused where there is no room, no address, and where the router never maps", () => {
    const full = new RouterModel.RouterModel({ capacity: 1 })
    ask(full, peer)
    assert.strictEqual(portOf(ask(full, { ...peer, remotePeerPort: 1 })), 8)
    assert.strictEqual(mapped(ask(full, { ...map, internalPort: 1 })), 8)
    assert.strictEqual(portOf(ask(new RouterModel.RouterModel({ externalAddress: null }), peer)), 7)
    assert.strictEqual(portOf(ask(new RouterModel.RouterModel({ quirks: ["NoPortMapsAvailable"] }), peer)), 8)
  })

  it("is gone after a restart", () => {
    const model = new RouterModel.RouterModel()
    ask(model, peer)
    model.reboot(hour)
    assert.deepStrictEqual(model.peers.entries(hour), [])
    assert.strictEqual(portOf(ask(model, { ...peer, nonce: otherNonce })), 12001)
  })
})

describe("what clients are told unasked", () => {
  const update = (model: RouterModel.RouterModel, at = hour) => {
    const [entry] = model.entries(at)
    const said = entry === undefined ? undefined : PcpResponder.mappingUpdate(model, at, entry)
    return said === undefined ? undefined : hex(said)
  }

  it("the mapping with its new address, byte for byte", () => {
    const model = new RouterModel.RouterModel()
    ask(model, map)
    model.changeExternalAddress(ip("11.22.33.9"))
    const moved = "0000000000000000 0000ffff 0b162109"
    const expected = `02 81 0000 | 00001c16 | 00000000 | ${zeros} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${moved}`
    assert.strictEqual(update(model, hour + 10_000), hex(bytes(expected)))
  })

  it("of another host's mapping whose it is, and nothing where there is nothing to say", () => {
    const model = new RouterModel.RouterModel()
    const other = ip("192.168.77.3")
    const third: Codec.MapRequest = { ...map, options: [{ _tag: "ThirdParty", internalAddress: other }] }
    ask(model, third, { thirdParty: true })
    const said = Result.getOrThrow(Codec.decodeResponse(bytes(update(model) ?? "")))
    assert.deepStrictEqual(said._tag === "MapResponse" ? said.options : [], third.options)
    assert.deepStrictEqual(
      model.entries(hour).map((entry) => entry.client),
      [client]
    )
    const [entry] = model.entries(hour)
    model.changeExternalAddress(undefined)
    assert.isUndefined(update(model))
    model.changeExternalAddress(ip("11.22.33.9"))
    model.unmap(hour, () => true)
    assert(entry !== undefined)
    assert.isUndefined(PcpResponder.mappingUpdate(model, hour, entry))
  })

  it("to whom: each client once, and after a restart those that there were before", () => {
    const model = new RouterModel.RouterModel()
    const other = ip("192.168.77.3")
    ask(model, map)
    ask(model, { ...map, internalPort: 12002 })
    ask(model, { ...map, clientAddress: other }, { from: other })
    ask(model, { ...map, clientAddress: guest, externalAddress: ip("::") }, { from: guest })
    const names = (clients: ReadonlyArray<NetAddress.IpAddress>) => clients.map(NetAddress.formatIp)
    const all = ["192.168.77.2", "192.168.77.3", "2001:db8:77::2"]
    assert.deepStrictEqual(names(model.pcpClients(hour)), all)
    assert.deepStrictEqual(names(model.pcpClientsBefore), [])
    model.reboot(hour)
    assert.deepStrictEqual(names(model.pcpClients(hour)), [])
    assert.deepStrictEqual(names(model.pcpClientsBefore), all)
  })
})
