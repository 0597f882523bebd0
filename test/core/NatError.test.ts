import * as NatError from "@effect-nat/core/NatError"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"

const hostile = "line 1\r\nline 2\u0000\u001b[31m\u009b\u2028\u0085end"

const reasons = (detail: string): ReadonlyArray<NatError.NatErrorReason> => [
  new NatError.NoGateway({ detail }),
  new NatError.Unsupported({ operation: detail === "" ? "list" : detail, detail }),
  new NatError.NotAuthorized({ detail }),
  new NatError.Conflict({ externalPort: 12001, detail }),
  new NatError.OutOfResources({ detail }),
  new NatError.NoSuchMapping({ detail }),
  new NatError.OnlyPermanentLeases({ detail }),
  new NatError.TimedOut({ detail }),
  new NatError.MalformedAnswer({ detail }),
  new NatError.Unreachable({ detail }),
  new NatError.NoExternalAddress({ detail }),
  new NatError.InvalidRequest({ detail: detail === "" ? "wrong" : detail }),
  new NatError.AutomationOff({ detail })
]

// oxlint-disable-next-line no-control-regex -- control characters are what must not be there
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/

describe("NatError", () => {
  it("covers every reason", () => {
    const tags = new Set(reasons("").map((reason) => reason._tag))
    assert.strictEqual(tags.size, NatError.NatErrorReason.members.length)
  })

  it.each(reasons(hostile))("the message of $_tag is one line, whatever the router said", (reason) => {
    const { message } = NatError.fromReason(reason)
    assert.notMatch(message, control)
    assert.include(message, "line 1 line 2 [31m end")
  })

  it.each(reasons(""))("the message of $_tag stands without details", (reason) => {
    const { message } = NatError.fromReason(reason)
    assert.isNotEmpty(message)
    assert.notInclude(message, "()")
    assert.notMatch(message, control)
  })

  it("a router cannot fill the screen", () => {
    for (const reason of reasons("x".repeat(100_000))) assert.isBelow(reason.message.length, 1000)
  })

  it("a conflict names the port", () => {
    assert.strictEqual(
      new NatError.Conflict({ externalPort: 80, detail: "718 ConflictInMappingEntry" }).message,
      "external port 80 is taken on the gateway: ask for another one (718 ConflictInMappingEntry)"
    )
  })

  it.effect("single reasons are recovered from, others pass", () =>
    Effect.gen(function* () {
      const recovering = (reason: NatError.NatErrorReason) =>
        Effect.fail(NatError.fromReason(reason)).pipe(
          Effect.catchReason("NatError", "Conflict", (conflict) => Effect.succeed(conflict.externalPort)),
          Effect.exit
        )
      assert.deepStrictEqual(
        yield* recovering(new NatError.Conflict({ externalPort: 12001, detail: "" })),
        Exit.succeed(12001)
      )
      assert.isTrue(Exit.isFailure(yield* recovering(new NatError.TimedOut({ detail: "" }))))
    })
  )

  it.effect("an error crosses a wire as JSON and comes back", () =>
    Effect.gen(function* () {
      const codec = Schema.toCodecJson(NatError.NatError)
      for (const reason of reasons("it said so")) {
        const json = yield* Schema.encodeEffect(codec)(NatError.fromReason(reason))
        const back = yield* Schema.decodeUnknownEffect(codec)(JSON.parse(JSON.stringify(json)))
        assert.strictEqual(back.reason._tag, reason._tag)
        assert.strictEqual(back.message, reason.message)
      }
    })
  )
})
