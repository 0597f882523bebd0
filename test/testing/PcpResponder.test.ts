import * as NatPmpClient from "@effect-nat/natpmp/NatPmpClient"
import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as PcpResponder from "@effect-nat/testing/PcpResponder"
import type * as Quirk from "@effect-nat/testing/Quirk"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Net from "../natpmp/network.ts"
import * as PcpRouter from "./pcpRouter.ts"

const {
  answerTo,
  ask,
  bytes,
  client,
  clientField,
  codeOf,
  external,
  hex,
  hour,
  map,
  nonce,
  nonceField,
  otherNonce,
  table,
  zeros
} = PcpRouter
const ip = NetAddress.ipFromStringUnsafe
const other = ip("192.168.77.3")
const noAddress = PcpRouter.noAddress

const granted = `02 81 0000 | 00001c20 | 00000e10 | ${zeros} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${external}`
const wanted = `02 01 0000 | 00001c20 | ${clientField} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${noAddress}`

describe("PcpResponder, byte for byte", () => {
  it("answers an ANNOUNCE with its epoch", () => {
    assert.strictEqual(
      answerTo(new RouterModel.RouterModel(), `02 00 0000 | 00000000 | ${clientField}`),
      hex(bytes(`02 80 0000 | 00000000 | 00000e10 | ${zeros}`))
    )
  })

  it("maps, and deletes with a lifetime of 0", () => {
    const model = new RouterModel.RouterModel()
    assert.strictEqual(answerTo(model, wanted), hex(bytes(granted)))
    assert.deepStrictEqual(table(model), ["tcp 12001 192.168.77.2:12000"])
    const deletion = `02 01 0000 | 00000000 | ${clientField} | ${nonceField} | 06 000000 | 2ee0 0000 | ${noAddress}`
    const deleted = hex(
      bytes(`02 81 0000 | 00000000 | 00000e10 | ${zeros} | ${nonceField} | 06 000000 | 2ee0 0000 | ${noAddress}`)
    )
    assert.strictEqual(answerTo(model, deletion), deleted)
    assert.strictEqual(answerTo(model, deletion), deleted)
    assert.deepStrictEqual(table(model), [])
  })

  it("sends back the options that it processed", () => {
    const model = new RouterModel.RouterModel()
    assert.strictEqual(
      answerTo(model, `${wanted} | 80 00 0001 aa000000 | 02 00 0000`),
      hex(bytes(`${granted} | 02 00 0000`))
    )
  })

  it.each([
    ["NAT-PMP's external address request", "00 00", `02 80 0001 | 00000708 | 00000e10 | ${zeros}`],
    [
      "a later version",
      `03 01 0000 | 00001c20 | ${clientField}`,
      "02 81 0001 | 00000708 | 00000e10 | 00000000 0000ffff c0a84d02"
    ],
    [
      "an opcode that it does not know",
      `02 03 0000 | 00000000 | ${clientField}`,
      "02 83 0004 | 00000708 | 00000e10 | 00000000 0000ffff c0a84d02"
    ],
    [
      "a MAP without its fields",
      `02 01 0000 | 00001c20 | ${clientField}`,
      "02 81 0003 | 00000708 | 00000e10 | 00000000 0000ffff c0a84d02"
    ],
    [
      "an odd length",
      `02 00 0000 | 00000000 | ${clientField} 01`,
      "02 80 0003 | 00000708 | 00000e10 | 00000000 0000ffff c0a84d02 | 01000000"
    ],
    [
      "an option that is longer than the packet",
      `02 00 0000 | 00000000 | ${clientField} | 80 00 0004`,
      "02 80 0006 | 00000708 | 00000e10 | 00000000 0000ffff c0a84d02 | 80 00 0004"
    ],
    [
      "an option that must be known",
      `02 00 0000 | 00000000 | ${clientField} | 7f 00 0000`,
      `02 80 0005 | 00000708 | 00000e10 | ${zeros} | 7f 00 0000`
    ],
    [
      "an option that may be skipped",
      `02 00 0000 | 00000000 | ${clientField} | 80 00 0000`,
      `02 80 0000 | 00000000 | 00000e10 | ${zeros}`
    ],
    [
      "another address than the packet came from",
      "02 00 0000 | 00000000 | 0000000000000000 0000ffff c0a84d03",
      `02 80 000c | 00000708 | 00000e10 | ${zeros}`
    ]
  ])("answers to %s", (_name, request, answer) => {
    assert.strictEqual(answerTo(new RouterModel.RouterModel(), request), hex(bytes(answer)))
  })

  it("says nothing to answers, to single bytes and while it is silent, and counts what it was asked", () => {
    const model = new RouterModel.RouterModel()
    assert.isUndefined(answerTo(model, granted))
    assert.isUndefined(answerTo(model, "02"))
    model.goSilent(2 * hour)
    assert.isUndefined(answerTo(model, wanted))
    assert.isUndefined(answerTo(model, "03 00"))
    assert.deepStrictEqual(table(model), [])
    assert.strictEqual(answerTo(model, wanted, { at: 2 * hour })?.slice(0, 8), "02810000")
    assert.deepStrictEqual(
      model.asked.map(({ action, isMutating, via }) => [via, action, isMutating]),
      [
        ["pcp", "NotARequest", false],
        ["pcp", "TooShort", false],
        ["pcp", "map", true],
        ["pcp", "UnsupportedVersion", false],
        ["pcp", "map", true]
      ]
    )
  })

  it("announces its epoch", () => {
    const model = new RouterModel.RouterModel()
    assert.strictEqual(
      hex(PcpResponder.announcement(model, hour)),
      hex(bytes(`02 80 0000 | 00000000 | 00000e10 | ${zeros}`))
    )
  })
})

describe("PcpResponder", () => {
  it("renews with the nonce, and refuses to extend or delete without it", () => {
    const model = new RouterModel.RouterModel()
    ask(model, map)
    const renewed = ask(model, { ...map, externalPort: 80 }, { at: 2 * hour })
    assert(renewed._tag === "MapResponse")
    assert.deepStrictEqual([renewed.externalPort, renewed.lifetime], [12001, 7200])
    assert.strictEqual(codeOf(ask(model, { ...map, nonce: otherNonce })), 2)
    assert.strictEqual(codeOf(ask(model, { ...map, nonce: otherNonce, lifetime: 0 })), 2)
    assert.deepStrictEqual(table(model), ["tcp 12001 192.168.77.2:12000"])
  })

  it("with a quirk looks at no nonce, and has it be that of whoever asked last", () => {
    const model = new RouterModel.RouterModel({ quirks: ["IgnoresNonces"] })
    ask(model, map)
    assert.strictEqual(codeOf(ask(model, { ...map, nonce: otherNonce })), 0)
    assert.deepStrictEqual(
      model.entries(hour).map((entry) => entry.nonce),
      [otherNonce]
    )
    assert.strictEqual(codeOf(ask(model, { ...map, lifetime: 0 })), 0)
    assert.deepStrictEqual(table(model), [])
  })

  it("with a quirk has no resources to delete what is not there", () => {
    const model = new RouterModel.RouterModel({ quirks: ["DeletionSaysNoResources"] })
    ask(model, map)
    assert.strictEqual(codeOf(ask(model, { ...map, lifetime: 0 })), 0)
    assert.strictEqual(codeOf(ask(model, { ...map, lifetime: 0 })), 8)
  })

  it("takes over nothing that was mapped over another protocol", () => {
    const model = new RouterModel.RouterModel()
    model.map(hour, {
      via: "upnp",
      client,
      protocol: "tcp",
      externalPort: 80,
      mayChoosePort: false,
      internalAddress: client,
      internalPort: 12000,
      lifetimeSeconds: 3600
    })
    assert.strictEqual(codeOf(ask(model, map)), 2)
    assert.strictEqual(codeOf(ask(model, { ...map, lifetime: 0 })), 2)
    assert.deepStrictEqual(table(model), ["tcp 80 192.168.77.2:12000"])
  })

  const foreign = (via: RouterModel.Via, externalPort: number) =>
    ({
      via,
      client,
      protocol: "tcp",
      externalPort,
      mayChoosePort: false,
      internalAddress: client,
      internalPort: 12000,
      lifetimeSeconds: 36_000
    }) as const

  it("lets the owner of a mapping delete it though its internal port has another one", () => {
    const model = new RouterModel.RouterModel()
    ask(model, map)
    model.map(hour, foreign("upnp", 9000))
    assert.strictEqual(codeOf(ask(model, { ...map, nonce: otherNonce, lifetime: 0 })), 2)
    assert.strictEqual(codeOf(ask(model, { ...map, lifetime: 0 })), 0)
    assert.deepStrictEqual(table(model), ["tcp 9000 192.168.77.2:12000"])
  })

  it("renews a mapping though its internal port has another one that is older", () => {
    const model = new RouterModel.RouterModel()
    // Led to the same internal port later, where it stands first.
    model.map(hour, { ...foreign("upnp", 9000), internalPort: 1 })
    ask(model, map)
    model.map(hour, foreign("upnp", 9000))
    const renewed = ask(model, { ...map, externalPort: 9000 }, { at: 2 * hour })
    assert.strictEqual(renewed._tag === "MapResponse" ? renewed.externalPort : 0, 12001)
    assert.deepStrictEqual(table(model), ["tcp 9000 192.168.77.2:12000", "tcp 12001 192.168.77.2:12000"])
    assert.deepStrictEqual(
      model.entries(2 * hour).map((entry) => entry.via),
      ["upnp", "pcp"]
    )
  })

  it("deletes all mappings of a protocol that have the nonce", () => {
    const model = new RouterModel.RouterModel()
    ask(model, map)
    ask(model, { ...map, internalPort: 12001 })
    ask(model, { ...map, internalPort: 12002, nonce: otherNonce })
    ask(model, { ...map, protocol: 17 })
    assert.strictEqual(codeOf(ask(model, { ...map, internalPort: 0, lifetime: 0 })), 0)
    assert.deepStrictEqual(table(model), ["tcp 49153 192.168.77.2:12002", "udp 12001 192.168.77.2:12000"])
  })

  it("gives another port, or with PREFER_FAILURE none", () => {
    const model = new RouterModel.RouterModel()
    ask(model, { ...map, clientAddress: other }, { from: other })
    const strict: Codec.MapRequest = { ...map, options: [{ _tag: "PreferFailure" }] }
    assert.strictEqual(codeOf(ask(model, strict)), 11)
    const elsewhere = ask(model, map)
    assert.strictEqual(elsewhere._tag === "MapResponse" ? elsewhere.externalPort : 0, 49152)
    // The mapping exists, at another port than insisted on now.
    assert.strictEqual(codeOf(ask(model, { ...strict, externalPort: 12002 })), 11)
    assert.strictEqual(codeOf(ask(model, { ...strict, externalPort: 49152 })), 0)
    assert.strictEqual(codeOf(ask(model, { ...strict, externalPort: 49152, externalAddress: ip("11.22.33.1") })), 0)
    assert.strictEqual(codeOf(ask(model, { ...strict, externalPort: 49152, externalAddress: ip("11.22.33.2") })), 11)
    assert.strictEqual(codeOf(ask(model, { ...strict, externalPort: 0 })), 6)
    assert.strictEqual(
      codeOf(ask(model, { ...map, options: [{ _tag: "PreferFailure" }, { _tag: "PreferFailure" }] })),
      6
    )
  })

  const filter = (address: string, prefixLength: number, remotePeerPort = 0): Codec.PcpOption => ({
    _tag: "Filter",
    prefixLength,
    remotePeerPort,
    remotePeerAddress: ip(address)
  })
  const reaches = (model: RouterModel.RouterModel, from: string, port?: number) =>
    model.forward(hour, "tcp", 12001, ip(from), port) !== undefined

  it("filters by one remote host, keeps that over renewals, and removes it on request", () => {
    const model = new RouterModel.RouterModel()
    const hosts = () => [reaches(model, "198.51.100.7"), reaches(model, "198.51.100.8")]
    ask(model, { ...map, options: [filter("198.51.100.7", 128)] })
    assert.deepStrictEqual(hosts(), [true, false])
    ask(model, map)
    assert.deepStrictEqual(hosts(), [true, false])
    ask(model, { ...map, options: [filter("0.0.0.0", 0)] })
    assert.deepStrictEqual(hosts(), [true, true])
    assert.strictEqual(table(model).length, 1)
  })

  it("filters by network and port, adds filters one after the other, and forgets those before one of no length", () => {
    const model = new RouterModel.RouterModel()
    const all = () => [
      reaches(model, "198.51.100.7", 443),
      reaches(model, "198.51.100.7", 80),
      reaches(model, "198.51.100.7"),
      reaches(model, "203.0.113.9", 80),
      reaches(model, "192.0.2.1", 443)
    ]
    ask(model, { ...map, options: [filter("198.51.100.0", 96 + 24, 443)] })
    assert.deepStrictEqual(all(), [true, false, false, false, false])
    ask(model, { ...map, options: [filter("203.0.113.9", 128), filter("203.0.113.9", 128)] })
    assert.deepStrictEqual(all(), [true, false, false, true, false])
    ask(model, { ...map, options: [filter("0.0.0.0", 0), filter("192.0.2.0", 96 + 8)] })
    assert.deepStrictEqual(all(), [false, false, false, false, true])
    // A whole family of addresses.
    ask(model, { ...map, options: [filter("0.0.0.0", 96, 443)] })
    assert.deepStrictEqual(all(), [true, false, false, false, true])
  })

  it("takes eight filters, and changes nothing where there would be more", () => {
    const model = new RouterModel.RouterModel()
    const some = (count: number) => Array.from({ length: count }, (_, index) => filter(`198.51.100.${index}`, 128))
    assert.strictEqual(codeOf(ask(model, { ...map, options: some(9) })), 13)
    assert.deepStrictEqual(table(model), [])
    assert.strictEqual(codeOf(ask(model, { ...map, options: some(8) })), 0)
    assert.strictEqual(codeOf(ask(model, { ...map, options: [filter("192.0.2.1", 128)] })), 13)
    assert.isFalse(reaches(model, "192.0.2.1"))
    assert.strictEqual(codeOf(ask(model, { ...map, options: [filter("0.0.0.0", 0), ...some(8)] })), 0)
  })

  it("maps for another host where that is allowed", () => {
    const model = new RouterModel.RouterModel()
    const third: Codec.MapRequest = { ...map, options: [{ _tag: "ThirdParty", internalAddress: other }] }
    assert.strictEqual(codeOf(ask(model, third)), 5)
    assert.strictEqual(codeOf(ask(model, third, { thirdParty: true })), 0)
    assert.deepStrictEqual(table(model), ["tcp 12001 192.168.77.3:12000"])
    const self: Codec.MapRequest = { ...map, options: [{ _tag: "ThirdParty", internalAddress: client }] }
    assert.strictEqual(codeOf(ask(model, self, { thirdParty: true })), 3)
    const twice = { ...third, options: [...third.options, ...third.options] }
    assert.strictEqual(codeOf(ask(model, twice, { thirdParty: true })), 6)
    // What is switched off is an option like one that nobody has heard of.
    assert.strictEqual(codeOf(ask(model, twice)), 5)
    assert.strictEqual(codeOf(ask(model, { ...third, lifetime: 0 }, { thirdParty: true })), 0)
    assert.deepStrictEqual(table(model), [])
  })

  it.each([
    ["every protocol", { protocol: 0, internalPort: 0 }, 9],
    ["a port of every protocol", { protocol: 0 }, 3],
    ["SCTP", { protocol: 132 }, 9],
    ["every port", { internalPort: 0 }, 2]
  ])("refuses to map %s", (_name, change, code) => {
    assert.strictEqual(codeOf(ask(new RouterModel.RouterModel(), { ...map, ...change })), code)
  })

  it.each([
    ["NotAuthorized", 2, 1800],
    ["NetworkFailure", 7, 30],
    ["OutOfResources", 8, 30],
    ["Conflict", 11, 30]
  ] as const)("refuses with code and lifetime for %s, and names the mapping", (kind, code, lifetime) => {
    const model = new RouterModel.RouterModel()
    model.refuseNext(kind)
    const refused = ask(model, map)
    assert(refused._tag === "ErrorResponse")
    assert.deepStrictEqual([refused.resultCode, refused.lifetime], [code, lifetime])
    assert.deepStrictEqual(Codec.mappingOf(refused), { nonce, protocol: 6, internalPort: 12000 })
  })

  it("grants no more than the longest lease, and starts its epoch over when it restarts", () => {
    const model = new RouterModel.RouterModel({ maxLifetimeSeconds: 60 })
    const short = ask(model, map)
    assert.strictEqual(short._tag === "MapResponse" ? short.lifetime : 0, 60)
    model.reboot(hour)
    const announced = ask(model, { _tag: "AnnounceRequest", clientAddress: client, options: [] }, { at: hour + 5000 })
    assert.strictEqual(announced._tag === "AnnounceResponse" ? announced.epoch : 0, 5)
    assert.deepStrictEqual(table(model), [])
  })

  it("starts its epoch over with another external address, which is none of NAT-PMP's business", () => {
    const model = new RouterModel.RouterModel()
    const epochAt = (at: number) => {
      const answer = ask(model, { _tag: "AnnounceRequest", clientAddress: client, options: [] }, { at })
      return answer._tag === "AnnounceResponse" ? answer.epoch : -1
    }
    assert.strictEqual(epochAt(hour), 3600)
    model.changeExternalAddress(ip("11.22.33.2"))
    assert.deepStrictEqual([epochAt(hour), epochAt(hour + 7000)], [0, 7])
    model.changeExternalAddress(ip("11.22.33.2"))
    assert.strictEqual(epochAt(hour + 8000), 8)
    assert.strictEqual(model.epochSeconds(hour + 8000), 3608)
    // A restart is seen in both.
    model.reboot(2 * hour)
    assert.deepStrictEqual([epochAt(2 * hour + 3000), model.epochSeconds(2 * hour + 3000)], [3, 3])
  })

  it.effect("tells a NAT-PMP client that the gateway speaks only PCP, and serves it where it speaks both", () =>
    Effect.gen(function* () {
      const model = new RouterModel.RouterModel()
      let respond = PcpResponder.respond
      const network = yield* Net.make(
        Effect.fnUntraced(function* ({ payload, socket }) {
          const answer = respond(model, yield* Clock.currentTimeMillis, payload, Net.own)
          if (answer !== undefined) socket.reply(answer)
        })
      )
      const asked = yield* NatPmpClient.make(Net.gateway).pipe(Effect.provide(network.layer))
      const refused = yield* Effect.flip(asked.externalAddress())
      assert.strictEqual(refused.reason._tag, "Unsupported")
      assert.include(refused.message, "version 2")
      respond = PcpResponder.respondToBoth
      assert.strictEqual(NetAddress.formatIp((yield* asked.externalAddress()).address), "11.22.33.1")
      assert.strictEqual(PcpResponder.respondToBoth(model, 0, Codec.encodeRequest(map), client)?.[3], 0)
    })
  )
})

describe("responderFor", () => {
  const natPmpRequest = bytes("0000")
  const pcpRequest = Codec.encodeRequest({ _tag: "AnnounceRequest", clientAddress: client, options: [] })

  /** The version and the result code of each answer. */
  const answersOf = (protocols: ReadonlyArray<RouterModel.Via>) => {
    const respond = PcpResponder.responderFor(protocols)
    if (respond === undefined) return "nobody listens"
    return [natPmpRequest, pcpRequest].map((request) => {
      const answer = respond(new RouterModel.RouterModel(), 0, request, client)
      return answer === undefined ? "silence" : `${answer[0]}/${answer[3]}`
    })
  }

  it("answers by what is spoken, and refuses the other's version", () => {
    assert.deepStrictEqual(answersOf(["natpmp", "pcp", "upnp"]), ["0/0", "2/0"])
    assert.deepStrictEqual(answersOf(["pcp"]), ["2/1", "2/0"])
    assert.deepStrictEqual(answersOf(["upnp", "natpmp"]), ["0/0", "0/1"])
    assert.strictEqual(answersOf(["upnp"]), "nobody listens")
    assert.strictEqual(answersOf([]), "nobody listens")
  })
})

describe("SimulatedDevice.fromModel", () => {
  const ssdpSearch = [
    "M-SEARCH * HTTP/1.1",
    "HOST: 239.255.255.250:1900",
    'MAN: "ssdp:discover"',
    "MX: 1",
    "ST: upnp:rootdevice",
    "",
    ""
  ].join("\r\n")

  /** What a router says on its ports: how many answers, or that nobody listens. */
  const said = (protocols?: ReadonlyArray<Quirk.Protocol>) => {
    const model = new RouterModel.RouterModel()
    const devices = SimulatedDevice.fromModel(model, protocols)
    const ask = (port: number, payload: Uint8Array) => {
      const from = NetAddress.inetAddressUnsafe(client, 40_000)
      const to = NetAddress.inetAddressUnsafe(model.address, port)
      const answers = devices.flatMap((device) => device.onDatagram?.({ now: 0, payload, from, to }) ?? [])
      return answers.map((answer) => answer.payload[0])
    }
    return {
      natpmp: ask(5351, bytes("0000")),
      pcp: ask(5351, Codec.encodeRequest({ _tag: "AnnounceRequest", clientAddress: client, options: [] })),
      upnp: ask(1900, new TextEncoder().encode(ssdpSearch)).length
    }
  }

  it("speaks what it is told to, by default everything", () => {
    assert.deepStrictEqual(said(), { natpmp: [0], pcp: [2], upnp: 1 })
    assert.deepStrictEqual(said(["upnp"]), { natpmp: [], pcp: [], upnp: 1 })
    assert.deepStrictEqual(said(["pcp"]), { natpmp: [2], pcp: [2], upnp: 0 })
    assert.deepStrictEqual(SimulatedDevice.fromModel(new RouterModel.RouterModel(), []), [])
  })

  it("has its description at the port that it is told", () => {
    const model = new RouterModel.RouterModel()
    const [device] = SimulatedDevice.fromModel(model, ["upnp"], { httpPort: 49_000 })
    const statusAt = (port: number) => {
      const answer = device?.onRequest?.({ now: 0, client, port, method: "GET", path: "/rootDesc.xml", headers: [] })
      return typeof answer === "object" ? answer.status : answer
    }
    assert.strictEqual(statusAt(49_000), 200)
    assert.strictEqual(statusAt(5000), undefined)
    const said = device?.announcements?.("start", 0).map(({ payload }) => new TextDecoder().decode(payload(0))) ?? []
    assert.isNotEmpty(said)
    assert.isTrue(said.every((one) => one.includes("LOCATION: http://192.168.77.1:49000/rootDesc.xml")))
    const from = NetAddress.inetAddressUnsafe(client, 40_000)
    const to = NetAddress.inetAddressUnsafe(model.address, 1900)
    const [found] = device?.onDatagram?.({ now: 0, payload: new TextEncoder().encode(ssdpSearch), from, to }) ?? []
    assert.include(new TextDecoder().decode(found?.payload), "LOCATION: http://192.168.77.1:49000/rootDesc.xml")
  })
})
