import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Upnp from "@effect-nat/upnp/Upnp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Network from "./network.ts"
import * as Router from "./router.ts"

/** What a request comes to on a router that refuses every new mapping with a code. */
const refused = Effect.fnUntraced(function* (code: number) {
  const router = Router.makeRouter({
    before: (call) => (call.action === "AddPortMapping" ? Effect.fail(Router.fault(code)) : Effect.void)
  })
  const error = yield* PortMapper.PortMapper.use((mapper) => mapper.map({ protocol: "tcp", internalPort: 12000 })).pipe(
    Effect.flip,
    Effect.scoped,
    Effect.provide(Upnp.layer.pipe(Layer.provide(Network.makeNetwork({ devices: [router] }).layer)))
  )
  assert(error instanceof NatError.NatError)
  const adds = router.calls.filter((call) => call.startsWith("AddPortMapping"))
  return { adds, message: error.message, reason: error.reason._tag }
})

describe("a router that refuses every mapping", () => {
  it.effect.each([
    [501, "OutOfResources"],
    [606, "NotAuthorized"],
    [718, "Conflict"],
    [725, "OnlyPermanentLeases"],
    [726, "Unsupported"],
    [728, "OutOfResources"],
    [729, "Conflict"],
    [732, "Unsupported"]
  ] as const)("with error %i", ([code, reason]) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* refused(code)).reason, reason)
    })
  )

  it.effect("because mappings are switched off says where to look", () =>
    Effect.gen(function* () {
      const { adds, message } = yield* refused(606)
      assert.include(message, "look for port mapping (UPnP")
      assert.lengthOf(adds, 1)
    })
  )

  it.effect("for one port is not asked for all of them, and what it would take is said", () =>
    Effect.gen(function* () {
      const { adds, message, reason } = yield* refused(727)
      assert.strictEqual(reason, "Unsupported")
      assert.include(message, "error 727")
      assert.include(message, "DMZ or exposed host")
      assert.lengthOf(adds, 1)
    })
  )
})
