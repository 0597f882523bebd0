import * as PortMapper from "@effect-nat/core/PortMapper"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as NatPmpClient from "@effect-nat/natpmp/NatPmpClient"
import * as Codec from "@effect-nat/natpmp/NatPmpCodec"
import * as NatPmpResponder from "@effect-nat/testing/NatPmpResponder"
import * as PcpResponder from "@effect-nat/testing/PcpResponder"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "../natpmp/network.ts"

const bytes = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/[0-9a-f]{2}/g) ?? [], (two) => parseInt(two, 16))

const hex = (packet: Uint8Array | undefined): string | undefined =>
  packet === undefined
    ? undefined
    : Array.from(packet, (byte) => byte.toString(16).padStart(2, "0"))
        .join(" ")
        .replaceAll(/((?:\S\S ){3}\S\S) /g, "$1 | ")

const client = NetAddress.ipFromStringUnsafe("192.168.77.2")
const other = NetAddress.ipFromStringUnsafe("192.168.77.3")

const hour = 3_600_000

const ask = (
  model: RouterModel.RouterModel,
  request: string,
  { at = hour, from = client }: { readonly at?: number; readonly from?: NetAddress.IpAddress } = {}
) => hex(NatPmpResponder.respond(model, at, bytes(request), from))

const table = (model: RouterModel.RouterModel, now = hour) =>
  model
    .entries(now)
    .map(
      (entry) =>
        `${entry.protocol} ${entry.externalPort} ${NetAddress.formatIp(entry.internalAddress)}:${entry.internalPort}`
    )

/** A network whose gateway is the model. */
const worldOf = Effect.fnUntraced(function* (model: RouterModel.RouterModel) {
  return yield* Net.make(
    Effect.fnUntraced(function* ({ payload, socket }) {
      const answer = PcpResponder.respondToBoth(model, yield* Clock.currentTimeMillis, payload, Net.own)
      if (answer !== undefined) socket.reply(answer)
    })
  )
})

describe("NatPmpResponder, byte for byte", () => {
  it("says the external address, and that it has none", () => {
    const model = new RouterModel.RouterModel()
    assert.strictEqual(ask(model, "00 00"), "00 80 00 00 | 00 00 0e 10 | 0b 16 21 01")
    model.changeExternalAddress(undefined)
    assert.strictEqual(ask(model, "00 00"), "00 80 00 03 | 00 00 0e 10 | 00 00 00 00")
    assert.strictEqual(
      ask(model, "00 02 0000 | 2ee0 2ee1 | 00001c20"),
      "00 82 00 03 | 00 00 0e 10 | 2e e0 00 00 | 00 00 00 00"
    )
  })

  it("maps the wanted port, or another where it is taken, and renews in place", () => {
    const model = new RouterModel.RouterModel()
    const request = "00 02 0000 | 2ee0 2ee1 | 00001c20"
    assert.strictEqual(ask(model, request), "00 82 00 00 | 00 00 0e 10 | 2e e0 2e e1 | 00 00 1c 20")
    assert.strictEqual(ask(model, request, { from: other }), "00 82 00 00 | 00 00 0e 10 | 2e e0 c0 00 | 00 00 1c 20")
    // The external port of a renewal is the one that it had, whatever is asked for now (RFC 6886 §3.3).
    assert.strictEqual(
      ask(model, "00 02 0000 | 2ee0 0050 | 00001c20", { at: 2 * hour }),
      "00 82 00 00 | 00 00 1c 20 | 2e e0 2e e1 | 00 00 1c 20"
    )
    assert.deepStrictEqual(table(model), ["tcp 12001 192.168.77.2:12000", "tcp 49152 192.168.77.3:12000"])
    assert.deepStrictEqual(table(model, 3 * hour), ["tcp 12001 192.168.77.2:12000"])
    assert.deepStrictEqual(table(model, 4 * hour), [])
  })

  it("grants no more than the longest lease", () => {
    const model = new RouterModel.RouterModel({ maxLifetimeSeconds: 60 })
    assert.strictEqual(
      ask(model, "00 01 0000 | 2ee0 0000 | ffffffff"),
      "00 81 00 00 | 00 00 0e 10 | 2e e0 c0 00 | 00 00 00 3c"
    )
  })

  it("deletes one mapping, and says the same where there is none", () => {
    const model = new RouterModel.RouterModel()
    ask(model, "00 02 0000 | 2ee0 2ee1 | 00001c20")
    ask(model, "00 01 0000 | 2ee0 2ee1 | 00001c20")
    const deleted = "00 82 00 00 | 00 00 0e 10 | 2e e0 00 00 | 00 00 00 00"
    // The external port of a deletion is ignored (RFC 6886 §3.4).
    assert.strictEqual(ask(model, "00 02 0000 | 2ee0 ffff | 00000000"), deleted)
    assert.strictEqual(ask(model, "00 02 0000 | 2ee0 0000 | 00000000"), deleted)
    assert.deepStrictEqual(table(model), ["udp 12001 192.168.77.2:12000"])
  })

  it("deletes all mappings of one host and protocol, but not what was set up for good", () => {
    const model = new RouterModel.RouterModel()
    ask(model, "00 02 0000 | 2ee0 2ee1 | 00001c20")
    ask(model, "00 02 0000 | 2ee1 2ee2 | 00001c20")
    ask(model, "00 01 0000 | 2ee0 2ee1 | 00001c20")
    ask(model, "00 02 0000 | 2ee0 2ee3 | 00001c20", { from: other })
    model.map(hour, {
      via: "upnp",
      client,
      protocol: "tcp",
      externalPort: 80,
      mayChoosePort: false,
      internalAddress: client,
      internalPort: 80,
      lifetimeSeconds: 0
    })
    assert.strictEqual(
      ask(model, "00 02 0000 | 0000 0000 | 00000000"),
      "00 82 00 00 | 00 00 0e 10 | 00 00 00 00 | 00 00 00 00"
    )
    assert.deepStrictEqual(table(model), [
      "udp 12001 192.168.77.2:12000",
      "tcp 12003 192.168.77.3:12000",
      "tcp 80 192.168.77.2:80"
    ])
    assert.strictEqual(
      ask(model, "00 02 0000 | 0050 0000 | 00000000"),
      "00 82 00 02 | 00 00 0e 10 | 00 50 00 00 | 00 00 00 00"
    )
  })

  it.each([
    ["another version", "02 01 0000 | 00001c20", "00 81 00 01 | 00 00 0e 10"],
    ["an opcode that it does not know", "00 03 beef | 2ee0 2ee1 | 00001c20", "00 83 00 05 | 2e e0 2e e1 | 00 00 1c 20"],
    ["an opcode that it does not know, cut off", "00 7f", "00 ff 00 05"],
    [
      "a mapping of all ports",
      "00 02 0000 | 0000 0050 | 00001c20",
      "00 82 00 02 | 00 00 0e 10 | 00 00 00 00 | 00 00 00 00"
    ],
    ["less than a request", "00 02 0000 | 2ee0", undefined],
    ["a single byte", "00", undefined],
    ["an answer", "00 80 0000 | 00000e10 | 0b162101", undefined]
  ])("answers to %s", (_name, request, answer) => {
    assert.strictEqual(ask(new RouterModel.RouterModel(), request), answer)
  })

  it.each([
    ["NotAuthorized", 2],
    ["NetworkFailure", 3],
    ["OutOfResources", 4],
    ["ActionFailed", 4]
  ] as const)("refuses with the code for %s", (kind, code) => {
    const model = new RouterModel.RouterModel()
    model.refuseNext(kind)
    assert.strictEqual(
      ask(model, "00 02 0000 | 2ee0 2ee1 | 00001c20"),
      `00 82 00 0${code} | 00 00 0e 10 | 2e e0 00 00 | 00 00 00 00`
    )
  })

  it("answers neither over IPv6 nor while it is silent, and counts what it was asked", () => {
    const model = new RouterModel.RouterModel()
    assert.isUndefined(ask(model, "00 00", { from: NetAddress.ipFromStringUnsafe("fe80::2") }))
    model.goSilent(2 * hour)
    assert.isUndefined(ask(model, "00 02 0000 | 2ee0 2ee1 | 00001c20"))
    assert.isUndefined(ask(model, "00 03"))
    assert.deepStrictEqual(table(model), [])
    assert.isDefined(ask(model, "00 00", { at: 2 * hour }))
    assert.deepStrictEqual(
      model.asked.map(({ action, isMutating, via }) => [via, action, isMutating]),
      [
        ["natpmp", "map", true],
        ["natpmp", "UnsupportedOpcode", false],
        ["natpmp", "external address", false]
      ]
    )
  })

  it("announces its address and its epoch", () => {
    const model = new RouterModel.RouterModel()
    assert.strictEqual(hex(NatPmpResponder.announcement(model, hour)), "00 80 00 00 | 00 00 0e 10 | 0b 16 21 01")
    model.reboot(hour)
    model.changeExternalAddress(undefined)
    assert.strictEqual(hex(NatPmpResponder.announcement(model, hour)), "00 80 00 00 | 00 00 00 00 | 00 00 00 00")
  })
})

describe("NatPmpResponder, asked by the client and the strategy", () => {
  it.effect("serves the client", () =>
    Effect.gen(function* () {
      const model = new RouterModel.RouterModel()
      const network = yield* worldOf(model)
      const asked = yield* NatPmpClient.make(Net.gateway).pipe(Effect.provide(network.layer))
      const { address } = yield* asked.externalAddress()
      assert.strictEqual(NetAddress.formatIp(address), "11.22.33.1")
      const granted = yield* asked.map({
        protocol: "udp",
        internalPort: 12000,
        externalPort: 12001,
        lifetime: "2 hours"
      })
      assert.strictEqual(granted.externalPort, 12001)
      assert.strictEqual(Duration.toSeconds(granted.lifetime), 7200)
      assert.deepStrictEqual(table(model, 0), ["udp 12001 192.168.77.2:12000"])
      yield* asked.delete({ protocol: "udp", internalPort: 12000 })
      assert.deepStrictEqual(table(model, 0), [])
      yield* TestClock.adjust("1 hour")
      yield* asked.externalAddress()
      const now = yield* Clock.currentTimeMillis
      model.reboot(now)
      yield* asked.externalAddress()
      assert.strictEqual((yield* asked.tableState).restarts, 1)
    })
  )

  it.effect("gives the client every refusal that it knows", () =>
    Effect.gen(function* () {
      const model = new RouterModel.RouterModel()
      const network = yield* worldOf(model)
      const asked = yield* NatPmpClient.make(Net.gateway).pipe(Effect.provide(network.layer))
      const map = asked.map({ protocol: "tcp", internalPort: 12000, externalPort: 0, lifetime: "2 hours" })
      model.refuseNext("NotAuthorized", "NetworkFailure", "OutOfResources")
      const reasons: Array<string> = []
      for (let times = 0; times < 3; times++) reasons.push((yield* Effect.flip(map)).reason._tag)
      assert.deepStrictEqual(reasons, ["NotAuthorized", "NoExternalAddress", "OutOfResources"])
      yield* map
    })
  )

  it.effect(
    "serves the strategy: one mapping, renewed at half its lifetime, and deleted with its scope [RFC 6886 3.3-k]",
    () =>
      Effect.gen(function* () {
        const model = new RouterModel.RouterModel()
        const network = yield* worldOf(model)
        const scope = yield* Scope.fork(yield* Effect.scope)
        yield* Effect.gen(function* () {
          const mapper = yield* PortMapper.PortMapper
          yield* mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12001, lifetime: "2 hours" })
          for (let step = 0; step < 18; step++) yield* TestClock.adjust("10 minutes")
          assert.deepStrictEqual(table(model, yield* Clock.currentTimeMillis), ["tcp 12001 192.168.77.2:12000"])
          yield* Scope.close(scope, yield* Effect.exit(Effect.void))
          yield* Net.settle
          assert.deepStrictEqual(table(model, yield* Clock.currentTimeMillis), [])
        }).pipe(Effect.provide(NatPmp.layer), Effect.provide(network.layer), Scope.provide(scope))
        const actions = model.asked.map(({ action }) => action)
        assert.strictEqual(actions.filter((action) => action === "delete").length, 1)
        assert.isAtLeast(actions.filter((action) => action === "map").length, 2)
      })
  )

  it("is what the codec's other side expects, for every answer above", () => {
    // A guard against a responder that answers what no client reads: each answer to a request decodes.
    const model = new RouterModel.RouterModel()
    for (const request of ["00 00", "00 02 0000 | 2ee0 2ee1 | 00001c20", "02 01 0000", "00 05 0000 | 00000000"]) {
      const answer = NatPmpResponder.respond(model, 0, bytes(request), client)
      assert.isTrue(answer !== undefined && Codec.decodeResponse(answer)._tag === "Success", request)
    }
  })
})
