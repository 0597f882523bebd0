import * as Gateway from "@effect-nat/core/Gateway"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"

const ip = NetAddress.ipFromStringUnsafe

describe("Gateway", () => {
  const gateway = new Gateway.Gateway({
    name: "FRITZ!Box 7590",
    address: ip("fe80::1"),
    method: "upnp",
    localAddress: ip("fe80::2"),
    id: "uuid:75802409-BCCB-40e7-8e6c-3810D5123456",
    model: undefined
  })

  it("is selected by address in any notation, by name and by id in any case", () => {
    for (const selected of [
      undefined,
      "fe80::1",
      "FE80:0::1",
      "FRITZ!Box 7590",
      "fritz!box 7590",
      "UUID:75802409-bccb-40e7-8e6c-3810d5123456"
    ]) {
      assert.isTrue(Gateway.isSelected(gateway, selected), selected)
    }
  })

  it("is not selected by anything else", () => {
    for (const selected of ["", "fe80::2", "192.168.77.1", "FRITZ!Box", "undefined"]) {
      assert.isFalse(Gateway.isSelected(gateway, selected), selected)
      assert.isFalse(Gateway.isSelected({ name: "x", address: ip("10.0.0.1") }, selected), selected)
    }
  })

  it.effect("none is selected unless somebody selects one", () =>
    Effect.gen(function* () {
      assert.isUndefined(yield* Gateway.Selected)
      assert.strictEqual(yield* Effect.provideService(Gateway.Selected, Gateway.Selected, "router"), "router")
    })
  )
})
