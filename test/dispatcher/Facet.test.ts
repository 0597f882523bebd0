import * as Facet from "@effect-nat/dispatcher/Facet"
import { assert, it } from "@effect/vitest"

// Where each of them stands in a welcome is for ever.
it("are seven, in the documented order", () => {
  assert.deepStrictEqual(Facet.all, ["join", "send", "sync", "heartbeat", "beServer", "leave", "timeStamp"])
  assert.strictEqual(Facet.byteLength, 16)
})

it("let whoever watches do everything but change something for others", () => {
  assert.deepStrictEqual(
    Facet.all.filter((facet) => !Facet.watching.includes(facet)),
    ["send", "beServer"]
  )
})
